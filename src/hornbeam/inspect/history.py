"""Pictures of what a run's results did: `plot_history`, and the picture that it returns."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from html import escape
from typing import Any

import numpy as np

from hornbeam.core.errors import describe, did_you_mean
from hornbeam.inspect.history_scene import RATE, TRAIN, VALIDATION, Curve, Panel, scene, value_text
from hornbeam.inspect.plot_scene import Mark
from hornbeam.inspect.plot_text import clean
from hornbeam.inspect.plot_write import Drawing
from hornbeam.metrics.direction import grows


class Chart(Drawing):
    """Drawn curves. In a notebook they show themselves.

    Args:
        panels: what is shown.
        title, subtitle: what stands above.
        dpi: the resolution of the PNG; 96 draws one pixel for one of the SVG's.
    """

    maker = "plot_history"

    def __init__(self, panels: list[Panel], title: str, subtitle: str, dpi: float = 200) -> None:
        self.panels, self.title, self.subtitle, self.dpi = panels, clean(title), subtitle, dpi

    @cached_property
    def marks(self) -> list[Mark]:
        return scene(self.panels, self.title, self.subtitle)

    def __repr__(self) -> str:
        return f"<Chart of {', '.join(p.title for p in self.panels)}>"


def plot_history(
    history: Any, metrics: Sequence[str] | str | None = None, to_file: str | os.PathLike[str] | None = None,
    title: str | None = None, log: bool | None = None, dpi: float = 200,
) -> Chart:  # fmt: skip
    """Draws the results of a run over its epochs: the loss, a panel for each metric, and the learning rate where it was logged.

    Training and validation share a panel; the best epoch is ringed where the metric's name tells which way is better. Epochs
    whose result is no number are crosses on the axis.

    Args:
        history: what `fit` returned, its `history`, or any mapping from names to values for each epoch, such as a data frame.
        metrics: names of the results to show, without "val_"; all there are unless given.
        to_file: where to write it, as .png, .svg, .pdf or .html; None writes nothing.
        title: what stands above.
        log: whether values stand on a logarithmic axis; unless given, where they are positive and span two powers of ten.
        dpi: resolution of the PNG.

    Returns:
        The picture; notebooks show it. It has `svg`, `save(path)` and `to_bytes(kind)`.

    >>> plot_history({"loss": [1.0, 0.5], "val_loss": [1.2, 0.8], "accuracy": [0.1, 0.7]})
    <Chart of loss, accuracy>
    """
    series = series_of(history)
    known = list(dict.fromkeys(name.removeprefix("val_") for name in series))
    chosen = [metrics] if isinstance(metrics, str) else known if metrics is None else list(metrics)
    for name in chosen:
        if name not in known:
            hint = did_you_mean(name, known)
            raise ValueError(f"plot_history: there is no result {name!r}.{hint} Results: {', '.join(known) or 'none'}.")
    if metrics is None:
        chosen.sort(key=lambda name: (name == "learning_rate", name != "loss", not name.endswith("loss")))
    if not chosen:
        raise ValueError("plot_history: the history holds no results yet; `fit` fills it.")
    panels = [_panel(name, series, log) for name in chosen]
    model = getattr(history, "model", None)
    called = getattr(model, "name", None)
    chart = Chart(panels, title or (f"Training of {called}" if called else "Training"), told(series), dpi)
    if to_file is not None:
        chart.save(to_file)
    return chart


def curve_chart(
    name: str, points: list[tuple[float, float]], marked: tuple[float, float] | None, title: str, subtitle: str, dpi: float
) -> Chart:
    """Returns a picture of one result over learning rates, with one point ringed."""
    return Chart([Panel(name, [Curve("", TRAIN, points)], over_rates=True, marked=marked)], title, subtitle, dpi)


def series_of(history: Any) -> dict[str, list[tuple[float, float]]]:
    """Returns (epoch, value) for each result that is a number, by name; epochs count from 1.

    Results that were not there in every epoch, as those of `validation_freq`, stand at the epochs where they were.
    """
    values = getattr(history, "history", history)
    if not (isinstance(values, Mapping) or hasattr(values, "keys")):
        raise TypeError(f"plot_history takes a History or a mapping from names to values. Received: {describe(history)}")
    places = getattr(history, "epochs_of", {})
    longest = max((len(values[k]) for k in values), default=0)
    found = {}
    for name in map(str, values):
        given = list(values[name])
        if name == "epoch" or not given or not all(isinstance(v, (int, float, np.number)) for v in given):
            continue
        epochs = places.get(name) or spread(len(given), longest)
        found[name] = [(e + 1, float(v)) for e, v in zip(epochs, given, strict=True)]
    return found


def spread(count: int, longest: int) -> list[int]:
    """Returns the epochs of `count` results of a run of `longest` epochs: every so many, the last one in each.

    >>> spread(2, 4), spread(3, 4)
    ([1, 3], [1, 2, 3])
    """
    every = longest // count
    return [every * (i + 1) - 1 for i in range(count)] if every * count == longest else list(range(longest - count, longest))


def _panel(name: str, series: Mapping[str, list[tuple[float, float]]], log: bool | None) -> Panel:
    if name == "learning_rate":
        return Panel("learning rate", [Curve("", RATE, series[name])], None, log)
    pairs = (("train", TRAIN, name), ("validation", VALIDATION, f"val_{name}"))
    return Panel(name, [Curve(kind, colour, series[key]) for kind, colour, key in pairs if key in series], grows(name), log)


def best_of(series: Mapping[str, list[tuple[float, float]]]) -> tuple[str, float, float] | None:
    """Returns the result that tells how good a run was, with its best epoch and value: the validation loss, or the loss."""
    for name in ("val_loss", "loss"):
        finite = [(e, v) for e, v in series.get(name, ()) if math.isfinite(v)]
        if finite:
            return name, *min(finite, key=lambda p: p[1])
    return None


def told(series: Mapping[str, list[tuple[float, float]]]) -> str:
    """Returns a run's length and its best epoch in one line."""
    count = max((e for points in series.values() for e, _ in points), default=0)
    found = best_of(series)
    best = f" · lowest {found[0]} {value_text(found[2])} at epoch {found[1]:,}" if found else ""
    return f"{count:,} epoch{'s' * (count != 1)}{best}"


def _last_and_best(points: list[tuple[float, float]], up: bool | None) -> tuple[float, tuple[float, float] | None]:
    """The last value, and the best point where the name says which way is better."""
    finite = [p for p in points if math.isfinite(p[1])]
    best = (max if up else min)(finite, key=lambda p: p[1]) if finite and up is not None else None
    return points[-1][1], best


def summary_html(history: Any) -> str:
    """Returns a run as HTML: the curves, and a small table of last and best values below them."""
    series = series_of(history)
    if not series:
        return f"<div><b>History</b>: {escape(told(series))}</div>"
    cell = 'style="text-align: right; padding: 1px 10px"'
    rows = []
    for name, points in series.items():
        last, best = _last_and_best(points, grows(name))
        texts = [value_text(last), *((value_text(best[1]), f"{best[0]:,}") if best else ("", ""))]
        cells = "".join(f"<td {cell}>{text}</td>" for text in texts)
        rows.append(f'<tr><td style="text-align: left">{escape(clean(name))}</td>{cells}</tr>')
    head = "".join(f"<th {cell}>{text}</th>" for text in ("last", "best", "at epoch"))
    table = f"<table><tr><th></th>{head}</tr>{''.join(rows)}</table>"
    return f"<div>{plot_history(history).svg}<details><summary>values</summary>{table}</details></div>"


def summary_text(history: Any) -> str:
    """Returns a run in one line: its length, and for each result the last value and the best one.

    >>> summary_text({"loss": [1.0, 0.25, 0.5]})
    '3 epochs: loss 0.5 (best 0.25 at 2)'
    """
    series = series_of(history)
    count = max((e for points in series.values() for e, _ in points), default=0)
    parts = []
    for name, points in series.items():
        last, best = _last_and_best(points, grows(name))
        more = f" (best {value_text(best[1])} at {best[0]:,})" if best and best[0] != points[-1][0] else ""
        parts.append(f"{clean(name)} {value_text(last)}{more}")
    return f"{count:,} epoch{'s' * (count != 1)}{': ' if parts else ''}{', '.join(parts)}"
