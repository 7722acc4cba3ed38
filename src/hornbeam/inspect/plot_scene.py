"""A placed diagram as a list of marks: rounded rectangles, paths and texts, which every writer can draw."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from hornbeam.inspect.plot_captions import captioned, short_run
from hornbeam.inspect.plot_columns import in_columns
from hornbeam.inspect.plot_diagram import Box, Diagram, Group
from hornbeam.inspect.plot_layout import place
from hornbeam.inspect.plot_placed import Part, Piece, Placed, Point, Rect
from hornbeam.inspect.plot_text import clean, counted, elide, measure, number, shape_text


class Rectangle(NamedTuple):
    """A rounded rectangle; None is no fill or no stroke."""

    x: float
    y: float
    width: float
    height: float
    radius: float
    fill: str | None
    stroke: str | None = None
    line: float = 0


class Path(NamedTuple):
    """A path of operations ("M", x, y), ("L", x, y), ("Q", x, y, x, y), ("Z",)."""

    ops: list[tuple]  # type: ignore[type-arg]
    fill: str | None = None
    stroke: str | None = None
    line: float = 0
    dash: tuple[float, float] | None = None


class Text(NamedTuple):
    """A text; `anchor` says what is at x: its "start" or its "middle"."""

    x: float
    y: float
    text: str
    size: float
    bold: bool
    colour: str
    anchor: str = "middle"


class Label(NamedTuple):
    """The marks up to the next label or `Label("", "")` draw one thing of a kind: "box", "group", "edge", "link"."""

    kind: str
    title: str


Mark = Rectangle | Path | Text | Label

# fill, stroke, text
COLOURS = {
    "input": ("#f1f5f9", "#64748b", "#475569"),
    "convolution": ("#e0efff", "#3b82c4", "#1d5a96"),
    "dense": ("#ede9fe", "#7c6ad6", "#5443b3"),
    "embedding": ("#fce7f3", "#cf5f9c", "#9d2f6c"),
    "recurrent": ("#ffe4e6", "#d9646e", "#a8323d"),
    "attention": ("#fde8d7", "#d9803c", "#9a4f14"),
    "normalization": ("#e3f5ea", "#4aa371", "#23704a"),
    "activation": ("#fef6d6", "#c9a227", "#84680a"),
    "pooling": ("#d9f3f5", "#3b9aa6", "#186570"),
    "merge": ("#e8ecf3", "#5b6b85", "#3a475e"),
    "reshape": ("#f3f0ea", "#9a8c76", "#6a5d48"),
    "regularization": ("#f4f4f5", "#a1a1aa", "#63636b"),
    "function": ("#f5f5f4", "#8b8a85", "#57564f"),
}
FAILED = ("#fee2e2", "#dc2626", "#991b1b")
INK, QUIET, LINE, SHARED, BORDER = "#1e293b", "#5b6779", "#8a99ad", "#b21fc4", "#c3cddb"
SHADES = ("#f8fafc", "#f1f5f9", "#e9eff6", "#e2e9f2")  # of groups, by depth
HEIGHTS = (0.0, 28.0, 42.0, 56.0)  # of boxes, by lines of text
WIDEST = 190.0  # px that a line of text may take


def colours_of(box: Box) -> tuple[str, str, str]:
    """Returns the colours of a box: fill, stroke, text."""
    return FAILED if box.failed else COLOURS[box.family]


@dataclass(frozen=True)
class Show:
    """What a picture tells of each call, and which way it runs."""

    shapes: bool = False
    dtype: bool = False
    names: bool = True
    activations: bool = False
    trainable: bool = False
    direction: str = "TB"


def scene(diagram: Diagram, show: Show) -> list[Mark]:
    """Returns the marks of a picture."""
    return _Scene(diagram, show).marks()


class _Scene:
    def __init__(self, diagram: Diagram, show: Show) -> None:
        self.diagram, self.show = diagram, show
        self.texts = {box: self.lines_of(box) for box in diagram.boxes}
        self.chips = self.chips_of()
        self.badges = self.badges_of()
        self.captions = {g: self.caption(g) for g in diagram.groups()}
        self.placed = self.place()

    # -- what is said

    def lines_of(self, box: Box) -> list[tuple[str, float, bool, str]]:
        """The lines of text in a box: text, size, bold, colour."""
        show, name, kind = self.show, clean(box.name), clean(box.kind)
        weights = [f"{number(box.params)} weights" + " each" * (box.count > 1)] if box.params else []
        if show.names:
            told = re.sub(r"_?\d*$", "", name).replace("_", "").lower() == kind.replace("_", "").lower()
            details = [] if told and not weights else [kind, *weights]
        else:
            details = weights
        more = [box.activation] if show.activations and box.activation else []
        more += ["trainable" if box.trainable else "frozen"] if show.trainable and box.trainable is not None else []
        ink = colours_of(box)[2]
        head = name + (f" … {clean(box.last)}" if box.count > 1 else "")
        lines = [(elide(head if show.names else kind, 12, True, WIDEST), 12.0, True, INK)]
        below = [" · ".join(map(clean, line)) for line in (details, more) if line]
        return lines + [(elide(text, 10, False, WIDEST), 10.0, False, ink) for text in below]

    def chips_of(self) -> dict[Box, str]:
        """The shape of what each box gives: everywhere if shapes are asked for, else where it differs from what the box takes."""
        arriving, leaving = defaultdict(set), set()
        for source, target in self.diagram.edges:
            arriving[target].update(source.shapes)
            leaving.add(source)
        chips = {}
        for box in self.diagram.boxes:
            whole = self.show.shapes
            if box.failed:
                chips[box] = elide(f"failed on {box.failed}", 9, False, WIDEST)
                continue
            if whole or self.show.dtype or not set(box.shapes) <= arriving[box]:
                shown = list(zip(box.shapes, box.dtypes, strict=True))
                texts = [shape_text(s, whole) + (f" {d}" if self.show.dtype else "") for s, d in shown]
                text = counted(texts) if whole else ", ".join(dict.fromkeys(texts))
                chips[box] = elide(text, 9, False, WIDEST * (2 if len(texts) > 1 else 1))
        return chips

    def badges_of(self) -> dict[Box, int]:
        """The number of the layer, for each call of a layer with weights that is called more than once."""
        calls = Counter(id(b.module) for b in self.diagram.boxes if b.module is not None and b.params)
        numbers = {key: i for i, key in enumerate((k for k, count in calls.items() if count > 1), 1)}
        return {b: numbers[id(b.module)] for b in self.diagram.boxes if id(b.module) in numbers}

    def caption(self, group: Group) -> str:
        return clean(group.name) + (f" … {clean(group.last)}" if group.count > 1 else "")

    def title(self, box: Box) -> str:
        """What is told of a box where the pointer rests on it."""
        shapes = ", ".join(f"{shape_text(s, True)} {d}" for s, d in zip(box.shapes, box.dtypes, strict=True))
        return f"{clean(box.name)} ({clean(box.kind)}): {shapes}" + (f", {box.params:,} weights" if box.params else "") + (
            f", and {box.count - 1:,} like it" if box.count > 1 else ""
        ) + (", an output" if box.output else "")  # fmt: skip

    # -- where it goes

    def place(self) -> Placed:
        width = max(110.0, max(measure(t, s, b) for lines in self.texts.values() for t, s, b, _ in lines) + 26)
        width = max(width, max((measure(t, 9) for t in self.chips.values()), default=0.0) + 24)
        size = {box: (width, HEIGHTS[len(lines)]) for box, lines in self.texts.items()}
        room = {box: 11.0 if box in self.chips else 0.0 for box in self.diagram.boxes}
        captions = {g: min(measure(t, 10.5, True), WIDEST) + (46 if g.count > 1 else 24) for g, t in self.captions.items()}
        down = self.show.direction in ("TB", "BT")
        placed = place(self.diagram, size, room, captions, down)
        placed = in_columns(placed, 1.45) if down else in_columns(placed.transposed(), 1 / 1.6).transposed()
        return placed.flipped(1) if self.show.direction == "BT" else placed.flipped(0) if self.show.direction == "RL" else placed

    # -- how it looks

    def marks(self) -> list[Mark]:
        outlines, captions = self.group_marks()
        boxes = [m for box in self.diagram.boxes for m in self.box_marks(box)]
        return [*outlines, *self.line_marks(), *self.link_marks(), *self.head_marks(), *captions, *boxes]

    def group_marks(self) -> tuple[list[Mark], list[Mark]]:
        outlines: list[Mark] = []
        captions: list[Mark] = []
        parts = self.placed.parts
        for part in sorted(parts, key=lambda p: len(p.group.chain())):
            fill = SHADES[min(len(SHADES), len(part.group.chain())) - 1]
            outlines += [Label("group", self.captions[part.group]), *self.outline(part, fill), Label("", "")]
            if part.first or not any(self.covers(part, other) for other in parts):
                captions += self.caption_marks(part, fill)
        return outlines, captions

    def covers(self, part: Part, other: Part) -> bool:
        """Whether another part goes on at the same place deeper inside, so that its caption names this group too."""
        inner = part.group in other.group.chain()[:-1]
        return inner and not other.first and abs(other.rect[1] - part.rect[1]) < 40 and abs(other.rect[0] - part.rect[0]) < 400

    def outline(self, part: Part, fill: str) -> Iterator[Mark]:
        x, y, w, h = part.rect
        if part.first and part.last:
            for k in (9.0, 4.5) if part.group.count > 1 else ():
                yield Rectangle(x + k, y + k, w, h, 9, fill, BORDER, 1)
            yield Rectangle(x, y, w, h, 9, fill, BORDER, 1)
            return
        sideways = self.show.direction in ("LR", "RL")  # a group that goes on in the next column is open there
        if sideways:
            x, y, w, h = y, x, h, w
        first, last = (part.last, part.first) if self.show.direction in ("BT", "RL") else (part.first, part.last)
        top, bottom = y - (0 if first else 14), y + h + (0 if last else 10)
        back = (top, x, bottom - top, w) if sideways else (x, top, w, bottom - top)
        yield Rectangle(*back, 9 if first or last else 0, fill)
        ops = _open_outline(x, top, w, bottom, first, last)
        if sideways:
            ops = [(op[0], *(v for i in range(1, len(op), 2) for v in (op[i + 1], op[i]))) for op in ops]
        yield Path(ops, None, BORDER, 1)

    def caption_marks(self, part: Part, fill: str) -> Iterator[Mark]:
        group, base = part.group, part.rect[1] + (16 if part.first else 2)
        pill = f"×{group.count}" if group.count > 1 and part.first else ""
        texts = [self.captions[group]] if part.first else [" / ".join(clean(g.name) for g in group.chain()) + " (continued)"]
        texts.append(short_run(clean(group.name), clean(group.last)) if pill else texts[0])
        high = part.first and self.show.direction in ("TB", "BT")
        rows, x, base, corner, free = captioned(texts, pill, part.rect, base, self.placed.lines.values(), high)
        for i, text in enumerate(rows):
            if free:
                yield Rectangle(x - 5, base - 11 + 12.5 * i, measure(text, 10.5, True) + 10, 15, 5, fill)
            yield Text(x, base + 12.5 * i, text, 10.5, True, QUIET, "start")
        if corner is not None:
            yield Rectangle(*corner, measure(pill, 10, True) + 10, 15, 7.5, QUIET)
            yield Text(corner[0] + 5, corner[1] + 11.2, pill, 10, True, "#ffffff", "start")

    def line_marks(self) -> Iterator[Mark]:
        drawn: set[Piece] = set()
        for (source, target), pieces in self.placed.pieces.items():
            fresh = [p for p in pieces if p not in drawn]
            drawn.update(fresh)
            yield Label("edge", f"{clean(source.name)} → {clean(target.name)}")
            for piece in fresh:
                yield Path(rounded(self.placed.lines[piece]), None, LINE, 1.3)
            yield Label("", "")

    def head_marks(self) -> Iterator[Mark]:
        for pieces in self.placed.pieces.values():
            (x0, y0), (x1, y1) = self.placed.lines[pieces[-1]][-2:]
            long = ((x1 - x0) ** 2 + (y1 - y0) ** 2) ** 0.5 or 1
            ux, uy = (x1 - x0) / long, (y1 - y0) / long
            bx, by = x1 - 7 * ux, y1 - 7 * uy
            yield Path([("M", x1, y1), ("L", bx - 3.3 * uy, by + 3.3 * ux), ("L", bx + 3.3 * uy, by - 3.3 * ux), ("Z",)], LINE)
        for piece in self.placed.taps:
            x, y = self.placed.lines[piece][0]
            yield Rectangle(x - 2.2, y - 2.2, 4.4, 4.4, 2.2, LINE)

    def link_marks(self) -> Iterator[Mark]:
        """A dotted line between calls of one layer that stand side by side."""
        places: dict[int, list[Rect]] = defaultdict(list)
        for box, badge in self.badges.items():
            places[badge].append(self.placed.boxes[box])
        for badge, rects in places.items():
            rects.sort()
            for (x0, y0, w0, h0), (x1, y1, _, h1) in pairwise(rects):
                if abs(y0 - y1) < 24 and x1 > x0 + w0:
                    yield Label("link", f"the same layer ({badge})")
                    yield Path([("M", x0 + w0, y0 + h0 / 2), ("L", x1, y1 + h1 / 2)], None, SHARED, 1.1, (1.5, 3.5))
                    yield Label("", "")

    def box_marks(self, box: Box) -> Iterator[Mark]:
        x, y, w, h = self.placed.boxes[box]
        fill, stroke, ink = colours_of(box)
        middle = x + w / 2
        yield Label("box", self.title(box))
        for k in (7.0, 3.5) if box.count > 1 else ():
            yield Rectangle(x + k, y + k, w, h, 7, fill, stroke, 0.8)
        yield Rectangle(x, y, w, h, 7, fill, stroke, 2.2 if box.failed else 1.1)
        if box.output:  # a second outline
            yield Rectangle(x + 2.5, y + 2.5, w - 5, h - 5, 5, None, stroke, 0.8)
        lines = self.texts[box]
        base = y + h / 2 - (len(lines) - 1) * 7.1 + 4.2
        for i, (text, size, bold, colour) in enumerate(lines):
            yield Text(middle, base + 14.2 * i - (0.4 if i else 0), text, size, bold, colour)
        if box in self.chips:
            chip, at = self.chips[box], y - 9.5 if self.show.direction == "BT" else y + h - 4.5
            wide = measure(chip, 9) + 12
            yield Rectangle(middle - wide / 2, at, wide, 14, 7, "#ffffff", stroke, 0.8)
            yield Text(middle, at + 10.3, chip, 9, False, ink if box.failed else QUIET)
        if box.count > 1:
            pill = f"×{box.count}"
            wide = measure(pill, 9.5, True) + 10
            yield Rectangle(x - 6, y - 8, wide, 15, 7.5, QUIET)
            yield Text(x - 6 + wide / 2, y + 3, pill, 9.5, True, "#ffffff")
        if box in self.badges:
            badge = str(self.badges[box])
            wide = max(18.0, measure(badge, 9.5, True) + 10)
            yield Rectangle(x + w - 12, y - 8, wide, 16, 8, "#fdf4ff", SHARED, 1)
            yield Text(x + w - 12 + wide / 2, y + 3.6, badge, 9.5, True, SHARED)
        yield Label("", "")


def rounded(points: list[Point], radius: float = 12) -> list[tuple]:  # type: ignore[type-arg]
    """Returns a line through points, its corners rounded."""
    ops: list[tuple] = [("M", *points[0])]  # type: ignore[type-arg]
    for (x0, y0), (x1, y1), (x2, y2) in zip(points, points[1:], points[2:], strict=False):
        before, after = ((x1 - x0) ** 2 + (y1 - y0) ** 2) ** 0.5, ((x2 - x1) ** 2 + (y2 - y1) ** 2) ** 0.5
        if before < 1e-6 or after < 1e-6:
            continue
        r, s = min(radius, before / 2), min(radius, after / 2)
        ops.append(("L", x1 + (x0 - x1) * r / before, y1 + (y0 - y1) * r / before))
        ops.append(("Q", x1, y1, x1 + (x2 - x1) * s / after, y1 + (y2 - y1) * s / after))
    return [*ops, ("L", *points[-1])]


def _open_outline(x: float, top: float, w: float, bottom: float, first: bool, last: bool) -> list[tuple]:  # type: ignore[type-arg]
    """The outline of a part of a group, without the sides at which the group goes on."""
    r, s = (9 if first else 0), (9 if last else 0)
    ops: list[tuple] = [("M", x, bottom - s), ("L", x, top + r)]  # type: ignore[type-arg]
    ops += [("Q", x, top, x + r, top), ("L", x + w - r, top), ("Q", x + w, top, x + w, top + r)] if first else [("M", x + w, top)]
    ops.append(("L", x + w, bottom - s))
    foot = [("Q", x + w, bottom, x + w - s, bottom), ("L", x + s, bottom), ("Q", x, bottom, x, bottom - s)]
    return [*ops, *foot] if last else ops


def bounds(marks: list[Mark], margin: float = 20) -> Rect:
    """Returns x, y, width and height of a picture."""
    xs: list[float] = []
    ys: list[float] = []
    for mark in marks:
        if isinstance(mark, Rectangle):
            xs += [mark.x, mark.x + mark.width]
            ys += [mark.y, mark.y + mark.height]
        elif isinstance(mark, Path):
            for op in mark.ops:
                xs += op[1::2]
                ys += op[2::2]
    return min(xs) - margin, min(ys) - margin, max(xs) - min(xs) + 2 * margin, max(ys) - min(ys) + 2 * margin
