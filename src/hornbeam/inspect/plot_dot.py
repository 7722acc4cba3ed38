"""A model in the DOT language."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from hornbeam.inspect.plot_diagram import Box, Diagram, Group
from hornbeam.inspect.plot_scene import Show, colours_of
from hornbeam.inspect.plot_text import clean, counted, shape_text


class Dot(str):
    """A graph in the DOT language, with the methods of a `pydot.Dot` that need no Graphviz."""

    def to_string(self) -> str:
        """Returns the text."""
        return str(self)

    def write(self, path: str | os.PathLike[str]) -> bool:
        """Writes the text to a file."""
        Path(path).write_text(self, encoding="utf-8")
        return True

    write_raw = write_dot = write


def dot(diagram: Diagram, show: Show, dpi: float = 200, splines: str = "ortho", subgraph: bool = False) -> Dot:
    """Returns a diagram in the DOT language."""
    head = f"subgraph {_quoted('cluster_' + diagram.title)} {{" if subgraph else f"digraph {_quoted(diagram.title)} {{"
    lines = [head]
    if not subgraph:
        lines.append(f'  graph [concentrate=true, dpi={dpi:g}, rankdir={show.direction}, splines="{splines}"];')
        lines.append('  node [shape=box, style="rounded,filled", fontname="Inter, Helvetica, Arial, sans-serif", fontsize=12];')
    lines += _level(diagram, None, {g: i for i, g in enumerate(diagram.groups())}, show, "  ")
    lines += [f"  n{source.place} -> n{target.place};" for source, target in diagram.edges]
    return Dot("\n".join([*lines, "}\n"]))


def _level(diagram: Diagram, parent: Group | None, numbers: dict[Group, int], show: Show, margin: str) -> Iterator[str]:
    """The boxes and clusters directly inside a group."""
    for box in diagram.boxes:
        if box.group is parent:
            fill, stroke, _ = colours_of(box)
            double = ", peripheries=2" if box.output else ""
            yield f'{margin}n{box.place} [label={_quoted(_label(box, show))}, fillcolor="{fill}", color="{stroke}"{double}];'
    for group in (g for g in numbers if g.parent is parent):
        yield f"{margin}subgraph cluster_{numbers[group]} {{"
        yield f"{margin}  label={_quoted(group.name + (f' … {group.last} ×{group.count}' if group.count > 1 else ''))};"
        yield from _level(diagram, group, numbers, show, margin + "  ")
        yield f"{margin}}}"


def _label(box: Box, show: Show) -> str:
    name = f"{box.name} … {box.last}" if box.count > 1 else box.name
    lines = [(f"{name} ({box.kind})" if show.names else box.kind) + (f" ×{box.count}" if box.count > 1 else "")]
    if show.activations and box.activation:
        lines.append(f"activation: {box.activation}")
    if show.shapes:
        lines.append("output: " + counted([shape_text(s, True) for s in box.shapes]))
    if show.dtype:
        lines.append("dtype: " + ", ".join(dict.fromkeys(box.dtypes)))
    if show.trainable and box.trainable is not None:
        lines.append("trainable" if box.trainable else "frozen")
    return "\n".join(map(clean, lines))


def _quoted(text: str) -> str:
    return '"' + "\n".join(map(clean, text.split("\n"))).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
