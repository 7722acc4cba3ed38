"""Further columns of a summary: what calls cost, and how long they take."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape

from hornbeam.core.card import clean
from hornbeam.core.errors import did_you_mean
from hornbeam.inspect.cost import CallCost, Cost
from hornbeam.inspect.table import Row, is_unit
from hornbeam.inspect.units import count_text, short_memory, time_text

Column = tuple[str, str, Callable[[float], str]]  # header, attribute of a CallCost, how it is written

COLUMNS: dict[str, list[Column]] = {
    "macs": [("MACs", "macs_forward", count_text), ("MACs back", "macs_backward", count_text)],
    "flops": [("FLOPs", "flops_forward", count_text), ("FLOPs back", "flops_backward", count_text)],
    "memory": [("Activations", "activation_bytes", short_memory), ("Memory", "memory_bytes", short_memory)],
    "activations": [("Activations", "activation_bytes", short_memory)],
    "outputs": [("Outputs", "output_bytes", short_memory)],
    "weights": [("Weights", "weight_bytes", short_memory)],
    "gradients": [("Gradients", "gradient_bytes", short_memory)],
    "optimizer": [("Optimizer", "optimizer_bytes", short_memory)],
    "time": [("Forward", "forward_seconds", time_text), ("Backward", "backward_seconds", time_text)],
}

_HELD = ("params", "weight_bytes", "gradient_bytes", "optimizer_bytes")


def columns_of(show: str | Sequence[str] | None) -> list[Column]:
    """Returns the columns that a summary's `show` asks for, each once.

    Raises:
        ValueError: a name is none of the columns'.

    >>> [header for header, _, _ in columns_of(("macs", "memory"))]
    ['MACs', 'MACs back', 'Activations', 'Memory']
    """
    names = [show] if isinstance(show, str) else list(show or ())
    for name in names:
        if name not in COLUMNS:
            hint = did_you_mean(name, list(COLUMNS))
            raise ValueError(f"summary: `show` holds names of columns: {', '.join(COLUMNS)}. Received: {name!r}.{hint}")
    return list({column[0]: column for name in names for column in COLUMNS[name]}.values())


def texts(call: CallCost, columns: list[Column]) -> list[str]:
    """Returns the cells of a call; what there is none of is a dash."""
    return [write(value) if (value := getattr(call, attribute)) else "-" for _, attribute, write in columns]


def figures_of(cost: Cost, row: Row) -> CallCost:
    """Returns what a row of a model's summary costs: the calls of its layer; a weight of the model itself is only held."""
    if row.module is not None and row.module is cost._model:
        return cost
    if row.weight is None:
        return cost.of(row)
    size, rest = row.weight.numel() * row.weight.element_size(), beside_calls(cost)
    learns = row.weight.requires_grad and rest.gradient_bytes > 0
    slots = round(rest.optimizer_bytes * size / rest.gradient_bytes) if learns else 0
    return CallCost(row.name, row.kind, params=row.params, weight_bytes=size, gradient_bytes=size * learns, optimizer_bytes=slots)


def beside_calls(cost: Cost) -> CallCost:
    """Returns what the weights need that belong to no call: a model's own, and those of parts that are not called."""
    outer = [call for call in cost.calls_made if call.depth == 0]
    rest = {name: getattr(cost, name) - sum(getattr(call, name) for call in outer) for name in _HELD}
    return CallCost("other weights", "no call", **rest)


def totals(cost: Cost) -> list[tuple[str, str]]:
    """Returns label and text of each line that tells what a model costs in all."""
    step = "training step" if cost.training else "prediction"
    lines = [(f"Cost of a {step}", f"batch of {cost.batch_size}")]
    back = f" forward, {count_text(cost.macs_backward)} backward" if cost.training else ""
    lines.append(("Multiply-adds", f"{count_text(cost.macs_forward)}{back} (FLOPs: two for each)"))
    parts = [("weights", cost.weight_bytes), ("gradients", cost.gradient_bytes), ("optimizer", cost.optimizer_bytes),
             ("activations", cost.activation_bytes), ("batch", cost.input_bytes)]  # fmt: skip
    held = ", ".join(f"{name} {short_memory(size)}" for name, size in parts if size)
    lines.append(("Peak memory", f"{short_memory(cost.peak_bytes)} ({held})"))
    if cost.forward_seconds:
        back = f" forward, {time_text(cost.backward_seconds)} backward" if cost.backward_seconds else ""
        lines.append(("Time", f"{time_text(cost.forward_seconds)}{back}"))
    return lines


def as_text(cost: Cost) -> str:
    """Returns a cost as a table of its calls, and the totals."""
    headers, rows = _listing(cost)
    widths = [max(map(len, column)) for column in zip(headers, *rows, strict=True)]
    lines = []
    for cells in (headers, *rows):
        padded = [c.rjust(w) if i else c.ljust(w) for i, (c, w) in enumerate(zip(cells, widths, strict=True))]
        lines.append("  ".join(padded).rstrip())
    lines.insert(1, "─" * (sum(widths) + 2 * len(widths) - 2))
    lines += [f"{label}: {text}" for label, text in totals(cost)]
    return "\n".join([f"{cost.name} ({cost.kind})", *lines, *cost.notes])


def as_html(cost: Cost) -> str:
    """Returns a cost as an HTML table of its calls, and the totals."""
    headers, rows = _listing(cost)
    cell = lambda text, tag, i: f'<{tag} style="text-align:{"right" if i else "left"};white-space:pre">{escape(text)}</{tag}>'  # noqa: E731
    lines = ["<tr>" + "".join(cell(c, "th", i) for i, c in enumerate(headers)) + "</tr>"]
    lines += ["<tr>" + "".join(cell(c, "td", i) for i, c in enumerate(cells)) + "</tr>" for cells in rows]
    below = [f"<b>{escape(label)}:</b> {escape(text)}" for label, text in totals(cost)] + [escape(note) for note in cost.notes]
    title = f"<caption><b>{escape(cost.name)}</b> ({escape(cost.kind)})</caption>"
    below_it = f'<p style="margin:4px 0">{"<br>".join(below)}</p>'
    return f'<div style="font-size:13px"><table style="font-size:13px">{title}{"".join(lines)}</table>{below_it}</div>'


def _listing(cost: Cost) -> tuple[list[str], list[list[str]]]:
    """Headers, and the cells of each call; inner calls are indented."""
    names = ["macs", "activations", "weights", *(["time"] if cost.forward_seconds else [])]
    columns = columns_of(names)
    if not cost.training:
        columns = [c for c in columns if c[1] not in ("macs_backward", "activation_bytes", "backward_seconds")]
    name = lambda call: "  " * call.depth + f"{clean(call.name)} ({call.kind})"  # noqa: E731
    calls: list[CallCost] = [cost] if cost._model is not None and is_unit(cost._model) else list(cost.calls_made)
    rest = beside_calls(cost)
    calls += [rest] if rest.params and cost not in calls else []
    return ["Call", *(header for header, _, _ in columns)], [[name(c), *texts(c, columns)] for c in calls]
