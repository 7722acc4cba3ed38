"""A diagram with places: boxes, outlines of groups, lines."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from hornbeam.inspect.plot_diagram import Box, Group

Point = tuple[float, float]
Rect = tuple[float, float, float, float]
Piece = tuple[Any, Any]


@dataclass
class Part:
    """A part of a group's outline: `first` and `last` say whether the group begins and ends in it."""

    group: Group
    rect: Rect
    first: bool = True
    last: bool = True


@dataclass
class Placed:
    """A diagram with places.

    Attributes:
        boxes: x, y, width and height of each box.
        parts: the outlines of groups.
        lines: the points of each piece of line.
        pieces: the pieces that each edge runs along; edges from one box may share the first ones.
        taps: the pieces that begin on a shared line.
    """

    boxes: dict[Box, Rect]
    parts: list[Part]
    lines: dict[Piece, list[Point]]
    pieces: dict[tuple[Box, Box], list[Piece]]
    taps: list[Piece]

    def moved(self, point: Callable[[float, float], Point], rect: Callable[[Rect], Rect]) -> Placed:
        """Returns the same with every place changed."""
        return replace(
            self,
            boxes={b: rect(r) for b, r in self.boxes.items()},
            parts=[replace(p, rect=rect(p.rect)) for p in self.parts],
            lines={k: [point(*q) for q in line] for k, line in self.lines.items()},
        )

    def shifted(self, dx: float, dy: float) -> Placed:
        """Returns the same at another place."""
        return self.moved(lambda x, y: (x + dx, y + dy), lambda r: (r[0] + dx, r[1] + dy, r[2], r[3]))

    def transposed(self) -> Placed:
        """Returns the same with x and y exchanged."""
        return self.moved(lambda x, y: (y, x), lambda r: (r[1], r[0], r[3], r[2]))

    def flipped(self, axis: int) -> Placed:
        """Returns the same with x (0) or y (1) counted backwards."""
        if axis == 0:
            return self.moved(lambda x, y: (-x, y), lambda r: (-r[0] - r[2], r[1], r[2], r[3]))
        return self.moved(lambda x, y: (x, -y), lambda r: (r[0], -r[1] - r[3], r[2], r[3]))
