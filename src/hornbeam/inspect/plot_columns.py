"""Tall drawings in columns, like a newspaper: cut where few lines cross; lines that cross go on through the gutter."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

from hornbeam.inspect.plot_placed import Part, Piece, Placed, Point, Rect

TALL = 2200.0  # px up to which a drawing stays in one column; as much more for each six further lines that a cut crosses
SLENDER = 2.2  # height over width up to which it does
GUTTER = 74.0


def in_columns(placed: Placed, target: float) -> Placed:
    """Returns a drawing cut into columns, so that width over height comes near a target; a short one as it is."""
    rects = [*placed.boxes.values(), *(p.rect for p in placed.parts)]
    xs = [v for x, _, w, _ in rects for v in (x, x + w)] + [x for line in placed.lines.values() for x, _ in line]
    top, bottom = min(r[1] for r in placed.boxes.values()), max(r[1] + r[3] for r in placed.boxes.values())
    tall, wide = bottom - top, max(xs) - min(xs)
    if tall < TALL or tall < SLENDER * wide:
        return placed
    height = max(1100.0, (tall * (wide + GUTTER) / target) ** 0.5)
    cuts = _cuts(placed, top, bottom, height)
    spans = [(min(y for _, y in line), max(y for _, y in line)) for line in placed.lines.values()]
    crossed = max((sum(a < cut < b for a, b in spans) for cut in cuts), default=0)
    if not cuts or tall < TALL * max(1, crossed / 6):
        return placed
    return _Sheet(placed, [top, *cuts, bottom], rects).placed()


def _cuts(placed: Placed, top: float, bottom: float, height: float) -> list[float]:
    """Chooses where to cut: near equal heights, between boxes, across few lines and preferably between groups."""
    free = _free(placed, top)
    spans = [(min(y for _, y in line), max(y for _, y in line)) for line in placed.lines.values()]
    around = {p.group.parent for p in placed.parts}
    count = max(2, round((bottom - top) / height))
    cuts: list[float] = []

    def cost(cut: float, wanted: float) -> float:
        crossing = sum(a < cut < b for a, b in spans)
        heights = [(p.rect[1], p.rect[1] + p.rect[3], p.group not in around) for p in placed.parts]
        near = sum(a - 3 < cut < a + 34 or b - 20 < cut < b + 3 for a, b, _ in heights)
        split = sum(0.1 + 0.2 * innermost for a, b, innermost in heights if a < cut < b)
        return abs(cut - wanted) / height + 0.1 * crossing + split + 0.5 * near

    for k in range(1, count):
        wanted = top + (bottom - top) * k / count
        options = [c for c in free if abs(c - wanted) < 0.45 * height and (not cuts or c > cuts[-1] + 100)]
        if options:
            cuts.append(min(options, key=lambda c: cost(c, wanted)))
    return cuts


def _free(placed: Placed, top: float) -> list[float]:
    """The heights at which no box is in the way, one for each gap."""
    free, reached = [], top
    blocked = sorted((y - 7, y + h + 14) for _, y, _, h in placed.boxes.values())
    for a, b in blocked:
        if a - reached >= 4:
            free.append((reached + a) / 2)
        reached = max(reached, b)
    above = [p.rect[1] - 7 for p in placed.parts if p.rect[1] > top + 7]
    return free + [y for y in above if not any(a < y < b for a, b in blocked)]


class _Sheet:
    """A drawing with its cuts, and where each column goes."""

    def __init__(self, placed: Placed, bounds: list[float], rects: list[Rect]) -> None:
        self.source, self.bounds, self.cuts = placed, bounds, bounds[1:-1]
        self.shifts: list[Point] = []
        self.right: list[float] = []
        x = 0.0
        for k in range(len(bounds) - 1):
            left, right = self.extent(k, rects)
            self.shifts.append((x - left, bounds[0] - bounds[k] + (26 if k else 0)))
            self.right.append(x + right - left)
            x = self.right[-1] + GUTTER

    def column(self, y: float) -> int:
        return bisect_right(self.cuts, y)

    def extent(self, k: int, rects: list[Rect]) -> Point:
        """The left and right end of what stands in a column."""
        a = self.bounds[k] if k else -1e9
        b = self.bounds[k + 1] if k < len(self.cuts) else 1e9
        xs = [v for x, y, w, h in rects if y < b and y + h > a for v in (x, x + w)]
        for line in self.source.lines.values():
            xs += [x for x, y in line if a <= y <= b]
            for (x0, y0), (x1, y1) in pairwise(line):
                xs += [x0 + (x1 - x0) * (c - y0) / (y1 - y0) for c in (a, b) if min(y0, y1) < c < max(y0, y1)]
        return min(xs), max(xs)

    def placed(self) -> Placed:
        boxes = {}
        for box, (x, y, w, h) in self.source.boxes.items():
            dx, dy = self.shifts[self.column(y + h / 2)]
            boxes[box] = (x + dx, y + dy, w, h)
        return replace(self.source, boxes=boxes, parts=[q for p in self.source.parts for q in self.parts(p)], lines=self.lines())

    def parts(self, part: Part) -> Iterator[Part]:
        """The parts of a group, one per column that it reaches into."""
        x, y, w, h = part.rect
        first, last = self.column(y), self.column(y + h)
        for k in range(first, last + 1):
            dx, dy = self.shifts[k]
            y0, y1 = (y if k == first else self.bounds[k]), (y + h if k == last else self.bounds[k + 1])
            yield Part(part.group, (x + dx, y0 + dy, w, y1 - y0), k == first, k == last)

    def lines(self) -> dict[Piece, list[Point]]:
        """The lines, led through the gutter where they cross a cut: the rightmost takes the inner lane, so that none cross."""
        crossing: dict[int, list[tuple[float, Piece, int]]] = defaultdict(list)
        for key, line in self.source.lines.items():
            for i, ((x0, y0), (x1, y1)) in enumerate(pairwise(line)):
                for k, cut in enumerate(self.cuts):
                    if min(y0, y1) < cut <= max(y0, y1):
                        crossing[k].append((x0 + (x1 - x0) * (cut - y0) / (y1 - y0), key, i))
        lanes = {}
        for k, found in crossing.items():
            for n, (x, key, i) in enumerate(sorted(found, key=lambda c: -c[0])):
                lanes[k, key, i] = self.lane(k, x, n, len(found))
        return {key: self.line(key, line, lanes) for key, line in self.source.lines.items()}

    def lane(self, k: int, x: float, n: int, count: int) -> list[Point]:
        """The way from the foot of column k, as lane n of several, to the head of the next."""
        step = min(9.0, (GUTTER - 26) / count)
        (dx, dy), (ex, ey) = self.shifts[k], self.shifts[k + 1]
        cut = self.cuts[k]
        across, under, over = self.right[k] + 14 + step * n, cut + dy + 20 + step * n, self.bounds[0] - 4 - step * (count - 1 - n)
        return [(x + dx, cut + dy), (x + dx, under), (across, under), (across, over), (x + ex, over), (x + ex, cut + ey)]

    def line(self, key: Piece, line: list[Point], lanes: dict[tuple[int, Piece, int], list[Point]]) -> list[Point]:
        def shifted(x: float, y: float) -> Point:
            dx, dy = self.shifts[self.column(y)]
            return x + dx, y + dy

        out = [shifted(*line[0])]
        for i, ((_, before), (x, y)) in enumerate(pairwise(line)):
            through = [lanes[k, key, i] for k in range(len(self.cuts)) if (k, key, i) in lanes]
            for lane in through if before <= y else (way[::-1] for way in reversed(through)):
                out += lane
            out.append(shifted(x, y))
        return out
