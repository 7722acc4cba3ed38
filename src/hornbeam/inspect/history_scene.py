"""Curves of a run as a list of marks: a panel for each result, training and validation together, the best epoch ringed."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby, pairwise
from typing import NamedTuple

from hornbeam.inspect.plot_scene import INK, QUIET, Label, Mark, Path, Rectangle, Text
from hornbeam.inspect.plot_text import clean, elide, measure

TRAIN, VALIDATION, RATE, BAD = "#3b82c4", "#d9803c", "#7c6ad6", "#c2410c"
GRID, AXIS = "#e8edf4", "#c3cddb"
WIDTH, HEIGHT = 300.0, 168.0  # of the field in which curves lie
LEFT, TOP, RIGHT, LOW = 64.0, 40.0, 14.0, 34.0  # room around it
GAP = 14.0
DOTTED = 40  # points up to which each one is a dot


class Curve(NamedTuple):
    """One result over the epochs.

    Attributes:
        name: "train" or "validation", or "" where there is but one.
        colour: its colour.
        points: (epoch, value), epochs counted from 1; values may be no numbers.
    """

    name: str
    colour: str
    points: list[tuple[float, float]]

    @property
    def finite(self) -> list[tuple[float, float]]:
        """The points that can be drawn."""
        return [p for p in self.points if math.isfinite(p[1])]


@dataclass
class Panel:
    """One result's curves.

    Attributes:
        title: the result's name.
        curves: training and validation.
        grows: whether more is better; None where nobody knows.
        log: whether the values stand on a logarithmic axis; None decides by the values.
        over_rates: whether points are (learning rate, value) on a logarithmic axis, instead of (epoch, value).
        marked: the point that is ringed, where it is not the best one.
    """

    title: str
    curves: list[Curve]
    grows: bool | None = None
    log: bool | None = None
    over_rates: bool = False
    marked: tuple[float, float] | None = None

    @property
    def best(self) -> tuple[Curve, tuple[float, float]] | None:
        """The point that is ringed: the best one of validation, or of training where there is none."""
        if self.over_rates:
            return (self.curves[0], self.marked) if self.marked else None
        judge = next((c for c in reversed(self.curves) if c.finite), None)
        if judge is None or self.grows is None or len(judge.points) < 2:
            return None
        return judge, (max if self.grows else min)(judge.finite, key=lambda p: p[1])


def value_text(value: float) -> str:
    """Returns a value in four digits.

    >>> value_text(0.123456), value_text(12345.678), value_text(0.00001234), value_text(float("nan"))
    ('0.1235', '12,346', '1.23e-05', 'NaN')
    """
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "∞" if value > 0 else "-∞"
    if value and abs(value) < 1e-3:
        return f"{value:.2e}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def scene(panels: list[Panel], title: str, subtitle: str) -> list[Mark]:
    """Returns the marks of a picture."""
    columns = _columns(len(panels))
    width, height = LEFT + WIDTH + RIGHT, TOP + HEIGHT + LOW
    whole = columns * (width + GAP) - GAP
    marks: list[Mark] = [
        Rectangle(0, -12, whole, 1, 0, "#ffffff"),  # room for the title
        Text(0, 2, elide(clean(title), 16, True, whole), 16, True, INK, "start"),
        Text(0, 23, clean(subtitle), 11, False, QUIET, "start"),
        *_legend(panels, whole),
    ]
    for i, panel in enumerate(panels):
        x, y = (i % columns) * (width + GAP), 44 + (i // columns) * (height + GAP)
        marks += [Label("panel", clean(panel.title)[:200]), *_panel(panel, x, y, width, height), Label("", "")]
    return marks


def _columns(count: int) -> int:
    return count if count <= 3 else 2 if count == 4 else 3 if count <= 9 else 4


def _legend(panels: list[Panel], right: float) -> list[Mark]:
    """What the colours mean, on the right of the title."""
    used = {c.name: c.colour for p in panels for c in p.curves if c.name}
    entries: list[tuple[str, Callable[[float], list[Mark]]]] = []
    if any(len(c.finite) < len(c.points) for p in panels for c in p.curves):
        entries.append(("no number", lambda x: _cross(x - 9, 2)))
    if any(p.best for p in panels if not p.over_rates):
        entries.append(("best", lambda x: _ring(x - 11, 2, QUIET)))
    entries += [(name, partial(_dash, used[name])) for name in ("validation", "train") if name in used]
    marks: list[Mark] = []
    x = right
    for name, sign in entries:
        x -= measure(name, 11)
        marks += [Text(x, 6, name, 11, False, INK, "start"), *sign(x)]
        x -= 36
    return marks


def _dash(colour: str, x: float) -> list[Mark]:
    return [Path([("M", x - 20, 2), ("L", x - 5, 2)], None, colour, 2.4)]


def _ring(x: float, y: float, colour: str) -> list[Mark]:
    return [Rectangle(x - 4.5, y - 4.5, 9, 9, 4.5, "#ffffff", colour, 2)]


def _panel(panel: Panel, x: float, y: float, width: float, height: float) -> list[Mark]:
    marks: list[Mark] = [Rectangle(x, y, width, height, 8, "#ffffff", "#dde4ee", 1)]
    marks += _heading(panel, x, y, width)
    left, top = x + LEFT, y + TOP
    values = [v for c in panel.curves for _, v in c.finite]
    epochs = [e for c in panel.curves for e, _ in c.points]
    if not values:
        words = "not one number" if epochs else "no values"
        return [*marks, Text(left + WIDTH / 2, top + HEIGHT / 2, words, 11, False, BAD if epochs else QUIET)]
    scale = Scale(values, False if panel.log is None and panel.grows else panel.log)
    at: Callable[[float], float] = math.log10 if panel.over_rates else float
    first, last = at(min(epochs)), at(max(epochs))
    across = lambda e: left + WIDTH * ((at(e) - first) / (last - first) if last > first else 0.5)  # noqa: E731
    down = lambda v: top + HEIGHT * (1 - scale.place(v))  # noqa: E731
    ticks = _rate_ticks(first, last) if panel.over_rates else [(e, f"{e:,}") for e in epoch_ticks(int(first), int(last))]
    marks += _axes(scale.ticks(), ticks, across, down, left, top)
    for curve in panel.curves:
        marks += _curve(panel, curve, across, down, top + HEIGHT)
    return marks + _best(panel, across, down, left, top)


def _heading(panel: Panel, x: float, y: float, width: float) -> list[Mark]:
    """The result's name, and at the right the last values."""
    marks: list[Mark] = []
    right = x + width - RIGHT
    for curve in reversed(panel.curves):
        if curve.points:
            last = curve.points[-1][1]
            text, colour = value_text(last), curve.colour if math.isfinite(last) else BAD
            right -= measure(text, 11, True)
            marks.append(Text(right, y + 23, text, 11, True, colour, "start"))
            right -= 16
    name = elide(clean(panel.title), 13, True, max(right - x - 14, 20))
    return [Text(x + 14, y + 23, name, 13, True, INK, "start"), *marks]


def _axes(
    values: Sequence[tuple[float, str]], ticks: Sequence[tuple[float, str]], across: Callable[[float], float],
    down: Callable[[float], float], left: float, top: float,
) -> list[Mark]:  # fmt: skip
    marks: list[Mark] = []
    for value, text in values:
        y = down(value)
        marks.append(Path([("M", left, y), ("L", left + WIDTH, y)], None, GRID, 1))
        marks.append(Text(left - 11 - measure(text, 9.5), y + 3.4, text, 9.5, False, QUIET, "start"))
    marks.append(Path([("M", left, top + HEIGHT), ("L", left + WIDTH, top + HEIGHT)], None, AXIS, 1))
    for place, text in ticks:
        x = across(place)
        marks.append(Path([("M", x, top + HEIGHT), ("L", x, top + HEIGHT + 4)], None, AXIS, 1))
        marks.append(Text(x, top + HEIGHT + 16, text, 9.5, False, QUIET))
    return marks


def _curve(
    panel: Panel, curve: Curve, across: Callable[[float], float], down: Callable[[float], float], low: float
) -> list[Mark]:  # fmt: skip
    """A line through the numbers, with a gap and a cross on the axis where there is none."""
    marks: list[Mark] = []
    dotted = len(curve.points) <= DOTTED and not panel.over_rates
    for finite, run in groupby(curve.points, key=lambda p: math.isfinite(p[1])):
        points = list(run)
        if not finite:
            marks += [m for x in _apart([across(e) for e, _ in points]) for m in _cross(x, low - 7)]
            continue
        places = thinned([(across(e), down(v)) for e, v in points])
        line = 1.9 if len(places) < 150 else 1.3
        if len(places) > 1:
            marks.append(Path([("M", *places[0]), *(("L", *p) for p in places[1:])], None, curve.colour, line))
        if dotted or len(places) == 1:
            size = 3.4 if len(curve.points) == 1 else 2.3
            marks += [Rectangle(x - size, y - size, 2 * size, 2 * size, size, curve.colour) for x, y in places]
    return marks


def _apart(xs: list[float]) -> list[float]:
    """Places for crosses, no two of them closer than a cross is wide."""
    kept: list[float] = []
    for x in xs:
        if not kept or x - kept[-1] >= 9:
            kept.append(x)
    return kept


def _cross(x: float, y: float) -> list[Mark]:
    ops = [("M", x - 3, y - 3), ("L", x + 3, y + 3), ("M", x - 3, y + 3), ("L", x + 3, y - 3)]
    return [Path(ops, None, BAD, 1.6)]


def thinned(places: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Returns a line with at most four points for each pixel across, first, last and extremes, so that no peak is lost.

    >>> len(thinned([(i / 1000, float(i % 7)) for i in range(5000)])) <= 24
    True
    """
    if len(places) < 4 * WIDTH:
        return places
    kept: list[tuple[float, float]] = []
    for _, run in groupby(places, key=lambda p: round(p[0])):
        points = list(run)
        chosen = {0, len(points) - 1, *(f(range(len(points)), key=lambda i: points[i][1]) for f in (min, max))}
        kept += [points[i] for i in sorted(chosen)]
    return kept


def _best(
    panel: Panel, across: Callable[[float], float], down: Callable[[float], float], left: float, top: float
) -> list[Mark]:  # fmt: skip
    """The best point: a ring on the curve, a thin line down to its epoch, and the value beside it."""
    if panel.best is None:
        return []
    curve, (epoch, value) = panel.best
    x, y = across(epoch), down(value)
    text = value_text(epoch) if panel.over_rates else f"{value_text(value)} at {epoch:,}"
    width = measure(text, 9.5, True) + 16
    lines = [[(across(e), down(v)) for e, v in c.finite] for c in panel.curves]
    chip = _free_place((x, y), width, lines, left, top)
    return [
        Path([("M", x, y), ("L", x, top + HEIGHT)], None, curve.colour, 1, (1, 4)),
        *_ring(x, y, curve.colour),
        Rectangle(*chip, width, 16, 8, "#ffffff", AXIS, 0.8),
        Text(chip[0] + width / 2, chip[1] + 11.4, text, 9.5, True, curve.colour),
    ]


def _free_place(
    point: tuple[float, float], width: float, lines: list[list[tuple[float, float]]], left: float, top: float
) -> tuple[float, float]:  # fmt: skip
    """The place near a point where a chip hides least of the lines."""
    dense = [p for line in lines for p in _filled(line)]

    def hidden(place: tuple[float, float]) -> int:
        x, y = place
        return sum(x - 4 < px < x + width + 4 and y - 4 < py < y + 20 for px, py in dense)

    x, y = point
    sides = [(x - width / 2, y + dy) for dy in (10, -26, 24, -40, 40, -56, 58, -74)]
    sides += [(x + dx, y + dy) for dy in (-8, 14, -30, 40, -60) for dx in (-width - 12, 12)]
    right, low = left + WIDTH - width - 2, top + HEIGHT - 18
    places = ((min(max(px, left + 2), right), min(max(py, top - 12), low)) for px, py in sides)
    return min(places, key=lambda p: (hidden(p), abs(p[1] - y)))


def _filled(line: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points of a line, with others between those that are far apart."""
    found = line[:1]
    for (x0, y0), (x1, y1) in pairwise(line):
        count = int(max(abs(x1 - x0), abs(y1 - y0)) // 4) + 1
        found += [(x0 + (x1 - x0) * i / count, y0 + (y1 - y0) * i / count) for i in range(1, count + 1)]
    return found


class Scale:
    """The axis of values: linear, or logarithmic where positive values span more than two powers of ten.

    Args:
        values: numbers.
        log: True or False decides; None asks the values.

    >>> round(Scale([1.0, 10.0]).place(5.5), 9)
    0.5
    """

    def __init__(self, values: Sequence[float], log: bool | None = None) -> None:
        low, high = min(values), max(values)
        self.log = low > 0 and (high / low >= 100 if log is None else log)
        low, high = self._number(low), self._number(high)
        self.only = min(values) if high - low <= 1e-9 * max(abs(low), abs(high)) else None
        room = (0 if self.only is not None else (high - low) * 0.06) or abs(high) * 0.1 or 0.5
        self.low, self.high = low - room, high + room

    def _number(self, value: float) -> float:
        return math.log10(value) if self.log else value

    def place(self, value: float) -> float:
        """Returns where a value lies, from 0 at the bottom to 1 at the top."""
        return (self._number(value) - self.low) / (self.high - self.low)

    def ticks(self) -> list[tuple[float, str]]:
        """Returns round values on the axis, and their texts."""
        if self.only is not None:
            return [(self.only, value_text(self.only))]
        if not self.log:
            step = round_step((self.high - self.low) / 6)
            numbers = [i * step for i in range(math.ceil(self.low / step), math.floor(self.high / step) + 1)]
            decimals = max(0, -math.floor(math.log10(step) + 1e-9))
            largest = max(map(abs, numbers), default=0.0)
            if decimals > 5 or largest >= 1e6:
                return [(n, f"{n:.1e}" if n else "0") for n in numbers]
            return [(n, f"{n:,.{decimals}f}") for n in numbers]
        powers = range(math.floor(self.low), math.ceil(self.high) + 1)
        every = max(1, math.ceil(len(powers) / 6))
        factors = (1, 2, 5) if self.high - self.low < 1.7 else (1,)
        found = [f * 10.0**p for p in powers if p % every == 0 for f in factors]
        return [(v, f"{v:g}" if 1e-3 <= v < 1e5 else f"{v:.0e}") for v in found if self.low <= math.log10(v) <= self.high]


def round_step(about: float) -> float:
    """Returns 1, 2 or 5 times a power of ten, at least as large as a number.

    >>> round_step(0.03), round_step(7)
    (0.05, 10.0)
    """
    power = 10.0 ** math.floor(math.log10(about))
    return next((f * power for f in (1, 2, 5) if f * power >= about * (1 - 1e-9)), 10 * power)


def _rate_ticks(first: float, last: float) -> list[tuple[float, str]]:
    """Powers of ten, given the logarithms of the ends."""
    powers = range(math.ceil(first - 1e-9), math.floor(last + 1e-9) + 1)
    every = max(1, math.ceil(len(powers) / 8))
    return [(10.0**p, f"{10.0**p:g}" if -4 < p < 4 else f"1e{p}") for p in powers if p % every == 0]


def epoch_ticks(first: int, last: int) -> list[int]:
    """Returns the epochs that are written below a panel.

    >>> epoch_ticks(1, 3), epoch_ticks(1, 100)
    ([1, 2, 3], [1, 20, 40, 60, 80, 100])
    """
    if last - first < 8:
        return list(range(first, last + 1))
    step = int(round_step((last - first) / 6))
    inner = [e for e in range(step * (first // step + 1), last + 1, step) if e - first >= step / 2]
    return [first, *inner]
