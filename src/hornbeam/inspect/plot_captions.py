"""Where captions of groups stand: beside the lines that pass, so that neither hides the other."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import NamedTuple

from hornbeam.inspect.plot_placed import Point, Rect
from hornbeam.inspect.plot_text import elide, measure

SIZE, PILL = 10.5, 10  # of the texts
LEAST = 56.0  # px that a shortened caption may be


class Caption(NamedTuple):
    """A caption's rows with their left end and base line, and the upper left end of its pill; `free` if no line passes it."""

    rows: list[str]
    x: float
    base: float
    pill: Point | None
    free: bool


def captioned(texts: list[str], pill: str, part: Rect, base: float, lines: Iterable[list[Point]], high: bool) -> Caption:
    """Returns where a group's caption stands.

    Args:
        texts: what it may say, the best first.
        pill: what a pill beside it says, or an empty string.
        part: the outline of the group.
        base: the height of the text's base line.
        lines: the lines of the picture.
        high: whether there is room for two rows.
    """
    x, y, w, _ = part
    near = list(_near(lines, x, y - 12, x + w + 24, base + 32))
    beside = measure(pill, PILL, True) + 18 if pill else 0.0
    row, halves = texts[:1], re.split(r" (?=[…·/] )", texts[0], maxsplit=1)
    gaps = _gaps(near, x + 8, x + w - 6, base - 12, base + 5)
    for a, b in gaps:
        if _width(row) + beside <= b - a:
            return Caption(row, a + 4, base, (a + 4 + _width(row), base - 11.5) if pill else None, True)
    corner = _corner(near, pill, part) if pill else None
    options = [(row, base, gaps)]
    for lower in (0, 6, 12) if high else ():
        options.append((halves, base + lower, _gaps(near, x + 8, x + w - 6, base + lower - 12, base + lower + 17)))
    options.append((texts[-1:], base, gaps))
    for rows, at, free in options:
        for a, b in free:
            if _width(rows) <= b - a:
                return Caption(rows, a + 4, at, corner, True)
    rows, at, free = options[-2]
    a, b = max(free, key=lambda g: g[1] - g[0], default=(0.0, 0.0))
    if b - a >= LEAST:
        return Caption([elide(text, SIZE, True, b - a - 8) for text in rows], a + 4, at, corner, True)
    return Caption([elide(texts[-1], SIZE, True, w - 16)], x + 12, base, corner, False)


def _width(rows: list[str]) -> float:
    return max(measure(text, SIZE, True) for text in rows) + 8


def short_run(first: str, last: str) -> str:
    """Returns the names of a run's ends, without saying twice what they share.

    >>> short_run("stage2_block1", "stage2_block12"), short_run("a", "b")
    ('stage2_block1 … 12', 'a … b')
    """
    stem, number = re.sub(r"\d+$", "", first), re.search(r"\d+$", last)
    return f"{first} … {number[0]}" if stem and number and last == stem + number[0] else f"{first} … {last}"


def _corner(near: list[tuple[Point, Point]], pill: str, part: Rect) -> Point:
    """The upper left end of a pill on the upper border, as far to the right as no line passes."""
    x, y, w, _ = part
    wide = measure(pill, PILL, True) + 10
    free = [b - wide for a, b in _gaps(near, x + 12, x + w + 18, y - 9, y + 9) if b - a >= wide]
    return max(free, default=x + w - 4), y - 7.5


def _near(lines: Iterable[list[Point]], left: float, top: float, right: float, low: float) -> Iterator[tuple[Point, Point]]:
    for line in lines:
        for a, b in pairwise(line):
            if min(a[1], b[1]) < low and max(a[1], b[1]) > top and min(a[0], b[0]) < right and max(a[0], b[0]) > left:
                yield a, b


def _gaps(near: list[tuple[Point, Point]], left: float, right: float, top: float, low: float) -> list[Point]:
    """The stretches between `left` and `right` at which no line passes between two heights."""
    taken = []
    for (x0, y0), (x1, y1) in near:
        if max(y0, y1) > top and min(y0, y1) < low:
            heights = [min(max(y, min(y0, y1)), max(y0, y1)) for y in (top, low)]
            ends = [x0 + (x1 - x0) * (y - y0) / (y1 - y0) for y in heights] if y0 != y1 else [x0, x1]
            taken.append((min(ends) - 4, max(ends) + 4))
    found, reached = [], left
    for a, b in sorted(taken):
        if a > reached:
            found.append((reached, min(a, right)))
        reached = max(reached, b)
    return [(a, b) for a, b in (*found, (reached, right)) if b > a]
