"""Long diagrams in pieces, each laid out alone and put below the last: what a layout takes grows faster than the diagram."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

from hornbeam.inspect.plot_diagram import Box, Diagram
from hornbeam.inspect.plot_placed import Placed

WHOLE = 240  # boxes up to which a diagram is laid out whole
LEAST = 60  # boxes in a piece


@dataclass
class Section:
    """A piece of a diagram: all that it takes from those before is the value of one box, which has a stand-in here."""

    diagram: Diagram
    source: Box | None = None
    stand_in: Box | None = None


def sections_of(diagram: Diagram, rank: dict[Box, int]) -> list[Section]:
    """Returns a diagram in pieces; in one where it is short, or where several values pass everywhere."""
    order = _order(diagram)
    cuts = dict(_cuts(diagram, order, rank)) if len(order) > WHOLE else {}
    sections: list[Section] = []
    number, here = {}, Section(Diagram(diagram.title))
    for box in order:
        number[box] = len(sections)
        here.diagram.boxes.append(box)
        if box in cuts:
            sections.append(here)
            stand_in = replace(cuts[box], group=None)
            here = Section(Diagram(diagram.title, [stand_in]), cuts[box], stand_in)
    sections.append(here)
    for source, target in diagram.edges:
        section = sections[number[target]]
        section.diagram.edges.append((section.stand_in if source is section.source else source, target))  # type: ignore[arg-type]
    return sections


def _order(diagram: Diagram) -> list[Box]:
    """The boxes in running order, but those that nothing is taken from right behind what they take."""
    ends = set(diagram.boxes) - {source for source, _ in diagram.edges}
    latest: dict[Box, int] = defaultdict(int)
    for source, target in diagram.edges:
        latest[target] = max(latest[target], source.place)
    return sorted(diagram.boxes, key=lambda b: latest[b] + 0.5 if b in ends and b.group is None else b.place)


def _cuts(diagram: Diagram, order: list[Box], rank: dict[Box, int]) -> Iterator[tuple[Box, Box]]:
    """The boxes after which to cut, each with the only one whose value is still taken: it stands lowest of all before it."""
    number = {box: i for i, box in enumerate(order)}
    last: dict[Box, int] = defaultdict(int)
    for source, target in diagram.edges:
        last[source] = max(last[source], number[target])
    taken: list[Box] = []
    count, lowest = 0, 0
    for box, after in pairwise(order):
        taken = [b for b in (*taken, box) if last[b] > number[box]]
        count, lowest = count + 1, max(lowest, rank[box])
        inside = box.group is not None and after.group is not None and box.group.chain()[0] is after.group.chain()[0]
        if count >= LEAST and len(taken) == 1 and not inside and rank[taken[0]] == lowest:
            yield box, taken[0]
            count = 0


def joined(sections: list[Section], placed: list[Placed], room: dict[Box, float], down: bool) -> Placed:
    """Returns the drawings of pieces as one: each with its stand-in at the place of the box, below all that was there."""
    whole = placed[0]
    end = _end(whole, room, down)
    for section, part in zip(sections[1:], placed[1:], strict=True):
        assert section.source is not None
        assert section.stand_in is not None
        x, y, w, h = part.boxes.pop(section.stand_in)
        left, top, wide, high = whole.boxes[section.source]
        dx, dy = (left - x, end - y - h - room[section.source]) if down else (end - x - w, top - y)
        part = part.shifted(dx, dy)
        end = _end(part, room, down)
        known = {section.stand_in: section.source}
        for (s, t), line in part.lines.items():
            if s is section.stand_in:
                line[0] = (line[0][0], top + high) if down else (left + wide, line[0][1])
            whole.lines[known.get(s, s), t] = line
        for (s, t), pieces in part.pieces.items():
            whole.pieces[known.get(s, s), t] = [(known.get(a, a), b) for a, b in pieces]
        whole.boxes.update(part.boxes)
        whole.parts += part.parts
        whole.taps += part.taps
    return whole


def _end(placed: Placed, room: dict[Box, float], down: bool) -> float:
    if down:
        boxes = [y + h + room[b] for b, (_, y, _, h) in placed.boxes.items()]
        return max([*boxes, *(p.rect[1] + p.rect[3] for p in placed.parts)])
    return max(r[0] + r[2] for r in (*placed.boxes.values(), *(p.rect for p in placed.parts)))
