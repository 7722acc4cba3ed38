"""In which order lines leave a box and come in, so that two do not cross right at it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable

from hornbeam.inspect.plot_diagram import Box
from hornbeam.inspect.plot_placed import Piece, Point

LEG = 22.0  # px from a box within which a line may change sides: the gap between layers is wider


def uncrossed(lines: dict[Piece, list[Point]], down: bool) -> dict[Piece, list[Point]]:
    """Returns lines whose ends at each box are in the order of where they go to and come from.

    Args:
        lines: the points of each line, by the things that it joins.
        down: whether layers run from top to bottom, else from left to right.
    """
    turned = {key: line if down else [(y, x) for x, y in line] for key, line in lines.items()}
    for end in (0, 1):
        ends: dict[Hashable, list[Piece]] = defaultdict(list)
        for key in turned:
            if isinstance(key[end], Box):
                ends[key[end]].append(key)
        for keys in ends.values():
            if len(keys) > 1:
                step = -1 if end else 1
                sorted_lines = _sorted([turned[k][::step] for k in keys])
                turned.update({k: line[::step] for k, line in zip(keys, sorted_lines, strict=True)})
    return turned if down else {key: [(y, x) for x, y in line] for key, line in turned.items()}


def _sorted(lines: list[list[Point]]) -> list[list[Point]]:
    """Lines that begin at one box, with their beginnings exchanged where they would cross."""
    bends = [next((i for i, (x, _) in enumerate(line) if abs(x - line[0][0]) > 0.5), len(line) - 1) for line in lines]
    reach = min(abs(line[i][1] - line[0][1]) for line, i in zip(lines, bends, strict=True))
    goals = [_at(line, i, reach) for line, i in zip(lines, bends, strict=True)]
    order = sorted(range(len(lines)), key=lambda k: (round(goals[k], 1), lines[k][0][0]))
    starts = sorted(line[0][0] for line in lines)
    return [_from(line, starts[order.index(k)], bends[k]) for k, line in enumerate(lines)]


def _at(line: list[Point], bend: int, reach: float) -> float:
    """Where a line is at a distance from its beginning; it goes straight up to the point before its first bend."""
    (x0, y0), (x1, y1) = line[bend - 1], line[bend]
    before, whole = abs(y0 - line[0][1]), abs(y1 - line[0][1])
    return x0 + (x1 - x0) * min(1.0, max(0.0, reach - before) / (whole - before)) if whole > before else x1


def _from(line: list[Point], x: float, bend: int) -> list[Point]:
    """A line that begins at another place."""
    (x0, y0), (_, y1) = line[0], line[bend]
    if abs(x - x0) < 0.5:
        return line
    if abs(line[bend][0] - x0) > 0.5 and abs(line[bend - 1][1] - y0) <= LEG:
        return [(x, y) for _, y in line[:bend]] + line[bend:]
    foot = y0 + max(-LEG, min(LEG, y1 - y0))
    return [(x, y0), (x0, foot), *(p for p in line[1:] if abs(p[1] - y0) >= abs(foot - y0))]
