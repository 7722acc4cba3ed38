"""The table that `summary()` prints."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import rich.box
import rich.console
import rich.table
import rich.text
import torch
from torch import nn

from hornbeam.core.card import clean
from hornbeam.graph.graph import Graph
from hornbeam.graph.record import Recording
from hornbeam.inspect.columns import Column, columns_of, figures_of, texts, totals
from hornbeam.inspect.cost import Cost
from hornbeam.inspect.hints import absurd_share, ties
from hornbeam.inspect.table import Row, _Shape, in_range, is_linear, rows_of, weights_of
from hornbeam.inspect.units import memory_text as memory_text


def print_summary(
    model: nn.Module, line_length: int | None = None, positions: Any = None, print_fn: Callable[[str], Any] | None = None,
    expand_nested: bool = False, show_trainable: bool = False, layer_range: Any = None, show: Any = (),
    cost: Callable[[], Cost] | None = None, graph: Graph | None = None,
) -> None:  # fmt: skip
    """Prints the table of a model's layers.

    Args:
        model: any module; a plain torch module must have been recorded or built.
        line_length: width in characters; 88, or 108 with connections, unless given.
        positions: right ends of the columns, as fractions of the width or in characters.
        print_fn: takes the text; unless given, the table is printed (in a notebook, shown).
        expand_nested: whether nested models are opened.
        show_trainable: whether a column says which layers learn.
        layer_range: first and last layer to show, by name or regular expression.
        show: names of further columns: see `columns.COLUMNS`.
        cost: gives what these columns hold.
        graph: the model's graph, where the caller has it.
    """
    columns = columns_of(show)
    rows, graph = rows_of(model, expand_nested, graph)
    found = cost() if columns and cost is not None else None
    plan = _Plan(not is_linear(rows), show_trainable, columns, found, ties(rows), graph is not None)
    width = line_length or (108 if plan.connections else 88) + 14 * len(columns)
    shown = in_range(rows, layer_range, "summary")
    table = _table(rows, shown, plan, width, positions)
    title = rich.text.Text.assemble(("Model: ", "bold"), (f'"{clean(getattr(model, "name", type(model).__name__))}"', "bold"))
    parts = [title, table, *_totals(model), *_cost_lines(found), *_notes(model, rows, graph, plan)]
    if print_fn is None:
        console = rich.console.Console(width=width, highlight=False)
        for part in parts:
            console.print(part, soft_wrap=isinstance(part, rich.text.Text))
    else:
        print_fn(as_text(parts, width))


def as_text(parts: list[Any], width: int) -> str:
    """Returns rich renderables as plain text."""
    out = io.StringIO()
    console = rich.console.Console(
        file=out, width=width, highlight=False, color_system=None, force_terminal=False, force_jupyter=False
    )
    for part in parts:
        console.print(part, soft_wrap=isinstance(part, rich.text.Text))
    return out.getvalue()


@dataclass
class _Plan:
    """What a table shows besides names, shapes and counts."""

    connections: bool
    trainable: bool
    columns: list[Column]
    cost: Cost | None
    ties: dict[int, str]
    has_graph: bool


def _table(rows: list[Row], shown: list[Row], plan: _Plan, width: int, positions: Any) -> rich.table.Table:
    headers = [
        "Layer (type)",
        "Output Shape",
        "Param #",
        *(header for header, _, _ in plan.columns),
        *(["Connected to"] if plan.connections else []),
        *(["Trainable"] if plan.trainable else []),
    ]
    shares = _shares(len(headers), plan, width, positions)
    table = rich.table.Table(width=width, box=rich.box.HEAVY_HEAD, show_lines=True, expand=False)
    right = {"Param #", *(header for header, _, _ in plan.columns)}
    for header, share in zip(headers, shares, strict=True):
        justify: Any = "right" if header in right else "center" if header == "Trainable" else "left"
        table.add_column(header, justify=justify, width=share, overflow="fold")
    places = {id(row): place for place, row in enumerate(rows)}
    for row in shown:
        table.add_row(*_cells(row, plan, places[id(row)] in plan.ties))
    return table


def _shares(count: int, plan: _Plan, width: int, positions: Any) -> list[int]:
    free, further = width - 3 * count - 1, []
    if positions is not None:
        ends = [p * width if isinstance(p, float) and p <= 1 else p for p in positions][:count]
        if len(ends) != count:
            raise ValueError(f"summary: `positions` needs {count} values, one per column. Received: {positions}")
        parts = [b - a for a, b in zip([0, *ends], ends, strict=False)]
    else:
        further = [min(11, free // count)] * len(plan.columns)
        parts = [*([30, 24, 13] if plan.connections else [38, 28, 18]), *[24] * plan.connections, *[11] * plan.trainable]
    scale = (free - sum(further)) / sum(parts)
    sizes = [max(4, int(p * scale)) for p in parts]
    sizes[0] += free - sum(further) - sum(sizes)
    return [*sizes[:3], *further, *sizes[3:]]


def _cells(row: Row, plan: _Plan, tied: bool) -> list[rich.text.Text]:
    name = rich.text.Text()
    if row.depth:
        name.append("   " * row.depth + "└ ")
    name.append(clean(row.name))
    name.append(" (")
    name.append(clean(row.kind), style="bright_blue")
    name.append(")")
    built = row.shape is not None or row.params > 0 or (plan.has_graph and getattr(row.module, "built", True))
    unknown = "not called" if built and plan.has_graph else "not built"
    count = f"{row.params:,}{' *' if tied else ''}" if built else "0 (unbuilt)"
    shapes = ",\n".join(dict.fromkeys(map(shape_text, (row.shape, *row.further))))
    cells = [name, rich.text.Text(unknown if row.shape is None else shapes), rich.text.Text(count, style="green")]
    if plan.cost is not None:
        cells.extend(rich.text.Text(text, style="cyan") for text in texts(figures_of(plan.cost, row), plan.columns))
    if plan.connections:
        cells.append(rich.text.Text(",\n".join(map(clean, row.connected)) or "-", style="bright_blue" if row.connected else ""))
    if plan.trainable:
        mark = {True: ("Y", "bold green"), False: ("N", "bold red"), None: ("-", "")}[row.trainable]
        cells.append(rich.text.Text(*mark))
    return cells


def shape_text(shape: Any) -> str:
    """Returns a nest of output shapes as text."""
    if shape is None:
        return "not built"
    if isinstance(shape, _Shape):
        return "(" + ", ".join(map(str, shape)) + ("," if len(shape) == 1 else "") + ")"
    if isinstance(shape, dict):
        return "{" + ", ".join(f"{k}: {shape_text(v)}" for k, v in shape.items()) + "}"
    return "[" + ", ".join(shape_text(v) for v in shape if v is not None) + "]"


def _sum(weights: list[torch.Tensor]) -> str:
    return f"{sum(w.numel() for w in weights):,} ({memory_text(sum(w.numel() * w.element_size() for w in weights))})"


def _totals(model: nn.Module) -> list[rich.text.Text]:
    weights = weights_of(model)
    learns = [w for w in weights if w.requires_grad]
    frozen = [w for w in weights if not w.requires_grad]
    lines = [("Total params", weights), ("Trainable params", learns), ("Non-trainable params", frozen)]
    optimizer = getattr(model, "optimizer", None)
    slots = (
        [v for v in getattr(optimizer, "variables", ()) or () if isinstance(v, torch.Tensor)]
        if getattr(optimizer, "built", False)
        else []
    )
    if slots:
        total = [*weights, *slots]
        lines = [("Total params", total), *lines[1:], ("Optimizer params", slots)]
    return [rich.text.Text.assemble((f" {label}: ", "bold"), (_sum(values), "green")) for label, values in lines]


def _cost_lines(cost: Cost | None) -> list[rich.text.Text]:
    lines = [] if cost is None else totals(cost)
    return [rich.text.Text.assemble((f" {label}: ", "bold"), (text, "cyan")) for label, text in lines]


def _notes(model: nn.Module, rows: list[Row], graph: Graph | None, plan: _Plan) -> list[rich.text.Text]:
    notes: list[str] = [] if plan.cost is None else list(plan.cost.notes)
    for place, other in plan.ties.items():
        notes.append(f"* {rows[place].name!r} shares weights with {other!r}: the totals count them once.")
    hint = absurd_share(model, graph)
    if hint is not None:
        notes.append(hint)
    if graph is None:
        notes.append(
            "The model has no shapes yet: call build((None, ...)) or summary(input_shape=(None, ...)), or call it on data."
        )
    if isinstance(graph, Recording) and graph.reads:
        places = ", ".join(f"{file}:{line}" for file, line in graph.reads[:3])
        notes.append(f"The model's Python looks at values (at {places}): other values may take another way than these rows show.")
    return [rich.text.Text(f" {clean(note)}", style="italic") for note in notes]
