"""What a model shows of itself in a notebook and in a terminal: a small table and, folded away, its diagram."""

from __future__ import annotations

import re
from html import escape
from typing import Any

from torch import nn

from hornbeam.core.card import clean, safe
from hornbeam.inspect.hints import absurd_share
from hornbeam.inspect.plot import Picture
from hornbeam.inspect.plot_diagram import diagram_of, family_of, family_of_function, fold
from hornbeam.inspect.plot_scene import COLOURS, Show
from hornbeam.inspect.table import Row, graph_of, rows_of, weights_of
from hornbeam.inspect.units import short_memory

FIRST, LAST = 32, 8  # rows that are shown of a long model
DRAWN = 120  # boxes up to which the diagram is there, too
COLUMNS = {"layer": "left", "type": "left", "output": "left", "weights": "right"}
DOT = "display:inline-block;width:9px;height:9px;border-radius:3px;margin-right:7px"
CELL = "padding:2px 14px 2px 0;border:0;text-align:"


def title_of(model: nn.Module) -> tuple[str, str]:
    """Returns a model's name, and its class and weights in words."""
    weights = weights_of(model)
    learn = sum(w.numel() for w in weights if w.requires_grad)
    size = short_memory(sum(w.numel() * w.element_size() for w in weights))
    count = sum(w.numel() for w in weights)
    told = [type(model).__name__, f"{count:,} weights ({size})" if count else "no weights yet"]
    told += [f"{count - learn:,} of them not trainable"] if count > learn else []
    return clean(getattr(model, "name", type(model).__name__)), " · ".join(told)


def cells_of(row: Row) -> tuple[str, str, str, str]:
    """Returns what a row tells: name, class, output shape, number of weights."""
    shapes = dict.fromkeys(text for nest in (row.shape, *row.further) for text in _shapes(nest))
    return clean(row.name), clean(row.kind), clean(", ".join(shapes)), f"{row.params:,}" if row.params else ""


def _shapes(nest: Any) -> list[str]:
    if nest is None:
        return []
    if isinstance(nest, tuple) and all(d is None or isinstance(d, int) for d in nest):
        return [str(tuple(nest))]
    return [text for part in (nest.values() if isinstance(nest, dict) else nest) for text in _shapes(part)]


def _shown(model: nn.Module) -> tuple[list[Row], list[Row], int]:
    """The first rows, the last ones, and how many are left out between them."""
    rows, _ = rows_of(model)
    left_out = len(rows) - FIRST - LAST
    return (rows[:FIRST], rows[-LAST:], left_out) if left_out > 1 else (rows, [], 0)


@safe
def html(model: nn.Module) -> str:
    """Returns a model as a table for a notebook, with its diagram folded away where it can be drawn."""
    name, told = title_of(model)
    first, last, left_out = _shown(model)
    lines = [*map(_line, first)]
    lines += [f'<tr><td colspan="4" style="{CELL}left;opacity:.65">… {left_out:,} more …</td></tr>'] if left_out else []
    head = "".join(f'<th style="{CELL}{side}">{text}</th>' for text, side in COLUMNS.items())
    body = "".join([*lines, *map(_line, last)])
    return (
        f'<div style="font-size:13px"><b>{escape(name)}</b> <span style="opacity:.65">{escape(told)}</span>'
        f'<table style="border:0;margin:4px 0;font-size:13px"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
        f"{_hint(model)}{_drawing(model)}</div>"
    )


def _hint(model: nn.Module) -> str:
    told = absurd_share(model, graph_of(model))
    return "" if told is None else f'<div style="margin:4px 0"><i>{escape(clean(told))}</i></div>'


def _line(row: Row) -> str:
    family = family_of(row.module) if row.module is not None else family_of_function(re.sub(r"_\d+$", "", row.name))
    colour = COLOURS["input" if row.kind == "InputLayer" else family][1]
    dot = f'<span style="{DOT};background:{colour}"></span>'
    name, *more = map(escape, cells_of(row))
    cells = zip([dot + name, *more], COLUMNS.values(), strict=True)
    return "<tr>" + "".join(f'<td style="{CELL}{side}">{text}</td>' for text, side in cells) + "</tr>"


def _drawing(model: nn.Module) -> str:
    try:
        diagram = fold(diagram_of(model))
        if len(diagram.boxes) > DRAWN or len(diagram.edges) > 2 * len(diagram.boxes):
            return ""
        svg = Picture(diagram, Show()).svg
    except Exception:  # no shapes yet, or no package that lays out
        return ""
    return f'<details><summary style="cursor:pointer">diagram</summary>{svg}</details>'


def rich_table(model: nn.Module) -> Any:
    """Returns a model as a table for a terminal that rich writes to."""
    from rich.console import Group  # heavy, and needed only here
    from rich.table import Table
    from rich.text import Text

    try:
        name, told = title_of(model)
        first, last, left_out = _shown(model)
        table = Table(box=None, pad_edge=False, header_style="dim")
        for header, side in COLUMNS.items():
            table.add_column(header, justify=side)  # type: ignore[arg-type]
        for row in first:
            table.add_row(*map(Text, cells_of(row)))
        if left_out:
            table.add_row(Text(f"… {left_out:,} more …", style="dim"))
        for row in last:
            table.add_row(*map(Text, cells_of(row)))
        hint = absurd_share(model, graph_of(model))
    except Exception as error:
        return Text(f"<{type(model).__name__}: {clean(error)}>")
    return Group(Text.assemble((name, "bold"), "  ", (told, "dim")), table, *([Text(clean(hint), "italic")] if hint else []))
