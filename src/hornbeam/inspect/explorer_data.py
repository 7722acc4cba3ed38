"""What the explorer's page is given: boxes, groups and edges as plain data, each level cut to a readable length."""

from __future__ import annotations

import itertools
import json
import linecache
import os
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import nn

from hornbeam.core.card import clean, config_of, named_weights
from hornbeam.core.layer import Layer
from hornbeam.graph import tree
from hornbeam.graph.node import Node, Ref
from hornbeam.inspect.plot_diagram import Box, Diagram, Group
from hornbeam.inspect.plot_scene import COLOURS
from hornbeam.inspect.plot_text import shape_text
from hornbeam.inspect.table import weights_of

MOST = 60  # children of a group; the page lays out one group at a time
WEIGHTS = 40  # of one layer that are listed

Unit = Box | Group


class Figure(NamedTuple):
    """A cost: its unit, the whole model's, and each box's by its id."""

    unit: str
    total: int
    of: dict[int, int]


def page_data(diagram: Diagram, model: nn.Module, costs: dict[str, Figure], note: str = "") -> dict[str, Any]:
    """Returns a diagram as what JSON can hold; every text is cleaned, and what occurs often stands once, in `table`.

    Args:
        diagram: the model with its nested models opened.
        model: the model, for its totals.
        costs: what boxes cost besides weights, by name.
        note: how that was counted.
    """
    return {**_Page(diagram, model, costs).data(), "note": note}


class _Page:
    def __init__(self, diagram: Diagram, model: nn.Module, costs: dict[str, Figure]) -> None:
        self.diagram, self.model, self.costs = diagram, model, costs
        self.table: dict[str, int] = {}
        self.families = list(COLOURS)
        self.groups: list[list[Any]] = []
        self.sizes: dict[int, dict[int, int]] = {}
        self.home: dict[Unit, int] = {}
        self.about: dict[tuple[int, int], list[int]] = {}

    def data(self) -> dict[str, Any]:
        levels = self.levels()
        for group, units in levels.items():
            self.put(_runs(units, self.boundaries(units)), -1 if group is None else self.home[group])
        shared, new = self.shared()
        place = {box: n for n, box in enumerate(self.diagram.boxes)}
        return {
            "title": clean(self.diagram.title),
            "kind": clean(type(self.model).__name__),
            "metrics": [["weights", ""], *([name, figure.unit] for name, figure in self.costs.items())],
            "totals": [sum(w.numel() for w in weights_of(self.model)), *(figure.total for figure in self.costs.values())],
            "families": [[name, *colours] for name, colours in COLOURS.items()],
            "groups": self.groups,
            "nodes": [[*self.leaf(box, shared.get(box, -1)), new[box]] for box in self.diagram.boxes],
            "edges": [place[box] for edge in self.diagram.edges for box in edge],
            "table": [json.loads(text) for text in self.table],
        }

    def shared(self) -> tuple[dict[Box, int], dict[Box, int]]:
        """Which calls have weights in common, by a number for all of them; and how many numbers no call before has, of each."""
        first: dict[int, Box] = {}
        after: dict[Box, Box] = {}
        new: dict[Box, int] = {}
        for box in self.diagram.boxes:
            held = self.held([box])
            new[box] = sum(size for key, size in held.items() if key not in first)
            for key in held:
                after.setdefault(box, first.setdefault(key, box))
        while any(after[b] is not b for b in after.values()):
            after = {box: after[b] for box, b in after.items()}
        counts = Counter(after.values())
        numbers = {b: n for n, b in enumerate(b for b, count in counts.items() if count > 1)}
        return {box: numbers[b] for box, b in after.items() if b in numbers}, new

    def held(self, units: list[Any]) -> dict[int, int]:
        """The sizes of the weights of some units, each weight once."""
        found: dict[int, int] = {}
        for unit in _flat(units):
            if unit.module is None:
                found[id(unit)] = unit.params if isinstance(unit, Box) else 0
                continue
            if id(unit.module) not in self.sizes:
                self.sizes[id(unit.module)] = {id(w): w.numel() for w in weights_of(unit.module)}
            found.update(self.sizes[id(unit.module)])
        return {key: size for key, size in found.items() if size}

    def levels(self) -> dict[Group | None, list[Unit]]:
        """The children of the model and of each group, in running order; outer groups come first."""
        levels: dict[Group | None, dict[Unit, None]] = {None: {}}
        for box in self.diagram.boxes:
            around: Group | None = None
            for unit in (*(box.group.chain() if box.group else ()), box):
                levels.setdefault(around, {})[unit] = None
                around = unit if isinstance(unit, Group) else None
        return {group: list(units) for group, units in levels.items()}

    def put(self, units: list[Any], parent: int) -> None:
        """Gives each unit its parent; a list of units becomes a group of its own."""
        names = Counter(_run_name(unit) for unit in units if isinstance(unit, list))
        for unit in units:
            if isinstance(unit, Box):
                self.home[unit] = parent
                continue
            if isinstance(unit, list):
                name, kind, details = _run_name(unit), "", [-1, -1, -1]
                name = name if names[name] == 1 else _ends(unit)
            else:
                name, kind, details = unit.name, type(unit.module).__name__, self.details(unit.module, unit.node)
                self.home[unit] = len(self.groups)
            self.groups.append([clean(name), parent, clean(kind), sum(self.held([unit]).values()), *details])
            if isinstance(unit, list):
                self.put(unit, len(self.groups) - 1)

    def leaf(self, box: Box, shared: int) -> list[Any]:
        shapes = [f"{shape_text(s, True)} {d}" for s, d in zip(box.shapes, box.dtypes, strict=True)]
        chip = clean(", ".join(dict.fromkeys(shape_text(s, False) for s in box.shapes)))
        costs = [box.params, *(figure.of.get(id(box), 0) for figure in self.costs.values())]
        family = self.families.index(box.family)
        texts = (self.note(clean(box.kind)), family, self.home[box], self.note(chip), self.note(shapes))
        return [clean(box.name), *texts, shared, costs, *self.details(box.module, box.node)]

    def details(self, module: nn.Module | None, node: Node | None) -> list[int]:
        """Where in the table config, weights and source line of a call stand; -1 where there are none."""
        key = (id(module), -1) if module is not None else (-1, id(node))
        if key not in self.about:
            self.about[key] = [self.note(_config(module, node)), self.note(_weights(module)) if module is not None else -1]
        return [*self.about[key], self.note(_source(node))]

    def note(self, value: Any) -> int:
        return -1 if not value else self.table.setdefault(json.dumps(value), len(self.table))

    def boundaries(self, units: list[Unit]) -> list[tuple[int, int]]:
        """What a cut before each child of a level costs: the values that pass, and how much the names at both sides share."""
        if len(units) <= MOST:
            return []
        index = {unit: n for n, unit in enumerate(units)}
        around = {box: (box, *(box.group.chain() if box.group else ())) for box in self.diagram.boxes}
        at = {box: next((index[unit] for unit in chain if unit in index), None) for box, chain in around.items()}
        last: dict[Box, int] = {}
        for source, target in self.diagram.edges:
            end = at[target]
            if at[source] is not None and end is not None:
                last[source] = max(last.get(source, 0), end)
        change = [0] * (len(units) + 1)
        for source, end in last.items():
            start = at[source]
            if start is not None and end > start:
                change[start + 1] += 1
                change[end + 1] -= 1
        alike = [0, *(len(_shared_start([a.name, b.name])) for a, b in itertools.pairwise(units))]
        return list(zip(itertools.accumulate(change), alike, strict=False))


def _runs(units: list[Any], boundaries: list[tuple[int, int]]) -> list[Any]:
    """Returns the children of a level; a long level as runs of neighbours, cut where that costs least.

    Runs of a running order never depend on one another in a circle.
    """
    if len(units) <= MOST:
        return units
    size = max(12, min(MOST // 2, round(len(units) ** 0.5)))
    cuts, ideal = [0], size
    while len(units) - cuts[-1] > 1.5 * size:
        near = range(cuts[-1] + size * 3 // 5, cuts[-1] + size * 7 // 5 + 1)
        ideal = cuts[-1] + size
        cuts.append(min(near, key=lambda i: (*boundaries[i], abs(i - ideal))))
    runs = [units[a:b] for a, b in zip(cuts, [*cuts[1:], len(units)], strict=True)]
    return _runs(runs, [boundaries[i] for i in cuts])


def _run_name(units: list[Any]) -> str:
    """The beginning that all names of a run share, up to a sign that separates words; else the first name and the last.

    Where runs side by side have one beginning, each is called by its first name and its last.
    """
    shared = re.match(r"(.*[^\W_])[\W_]", _shared_start([unit.name for unit in _flat(units)]))
    return shared[1] if shared else _ends(units)


def _ends(units: list[Any]) -> str:
    names = [unit.name for unit in _flat(units)]
    return f"{names[0]} … {names[-1]}"


def _shared_start(names: list[str]) -> str:
    first, last = min(names), max(names)
    return first[: next((n for n, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))]


def _flat(units: list[Any]) -> Iterator[Unit]:
    for unit in units:
        if isinstance(unit, list):
            yield from _flat(unit)
        else:
            yield unit


def _config(module: nn.Module | None, node: Node | None) -> list[Any]:
    """What differs from the defaults and what does not, as two lists of pairs; for a function, what it was called with."""
    if isinstance(module, Layer):
        told, rest = config_of(module) if not hasattr(module, "layers") else ({}, {})
        return [list(told.items()), list(rest.items())] if told or rest else []
    if module is not None:
        try:
            text = clean(module.extra_repr())
        except Exception:  # a user's own, of a module that is half made
            text = ""
        return [[["", text]], []] if text else []
    if node is None or node.kind == "input":
        return []
    shown = [(str(i + 1), v) for i, v in enumerate(node.args)]
    shown += [(k, v) for k, v in node.kwargs.items() if k not in node.passed]
    told = {clean(k): clean(_plain(v)) for k, v in shown if type(v) is not Ref}
    return [list(told.items()), []] if told else []


def _plain(value: Any) -> str:
    """A call's argument as text; a value that another call made stands as that call's name."""

    def word(leaf: Any) -> Any:
        if type(leaf) is Ref:
            return _Word(f"<{leaf.node.name}>")
        return _Word(f"<tensor {tuple(leaf.shape)}>") if isinstance(leaf, torch.Tensor) else leaf

    return repr(tree.map_leaves(word, value))


class _Word(str):
    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def _weights(module: nn.Module) -> list[Any]:
    """Name, shape, dtype, and whether it learns, of the weights of a layer, the first of them where there are many."""
    weights = named_weights(module)
    rows = [
        [clean(n), shape_text(tuple(w.shape), True), str(w.dtype).removeprefix("torch."), int(w.requires_grad)]
        for n, w in list(weights.items())[:WEIGHTS]
    ]
    return [*rows, [f"and {len(weights) - WEIGHTS} more", "", "", 1]] if len(weights) > WEIGHTS else rows


def _source(node: Node | None) -> list[str]:
    """Place and text of the line that made a call. Only the end of a path outside the working directory is told."""
    if node is None or node.source is None:
        return []
    file, line = node.source
    inside = file.startswith(os.getcwd() + os.sep)
    short = os.path.relpath(file) if inside else os.sep.join(file.split(os.sep)[-2:])
    return [clean(f"{short}:{line}"), clean(linecache.getline(file, line).strip())]
