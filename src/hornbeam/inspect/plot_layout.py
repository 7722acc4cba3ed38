"""Where boxes, groups and lines of a picture go. This is the only place that knows the layout library."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

from hornbeam.inspect.plot_diagram import Box, Diagram, Group
from hornbeam.inspect.plot_libraries import library
from hornbeam.inspect.plot_pieces import joined, sections_of
from hornbeam.inspect.plot_placed import Part, Piece, Placed, Point, Rect
from hornbeam.inspect.plot_ports import uncrossed

MANY = 300  # boxes that are laid out together above which lines bend at right angles: slanted ones would take seconds


def ranks_of(diagram: Diagram) -> Counter[Box]:
    """Returns how many calls lie before each box, on the longest way."""
    rank: Counter[Box] = Counter()
    for source, target in sorted(diagram.edges, key=lambda e: e[1].place):
        rank[target] = max(rank[target], rank[source] + 1)
    return rank


def place(
    diagram: Diagram, size: dict[Box, Point], room: dict[Box, float], captions: dict[Group, float], down: bool
) -> Placed:
    """Returns a layered drawing of a diagram.

    Args:
        diagram: what to draw.
        size: width and height of each box.
        room: height that each box needs below it.
        captions: the width of each group's caption.
        down: whether layers run from top to bottom, else from left to right.
    """
    fresh = itertools.count()
    sections = sections_of(diagram, ranks_of(diagram))
    for section in sections[1:]:
        size[section.stand_in], room[section.stand_in] = size[section.source], room[section.source]  # type: ignore[index]
    placed = [_placed(section.diagram, size, room, captions, down, fresh) for section in sections]
    return joined(sections, placed, room, down)


def _placed(diagram: Diagram, size: Any, room: Any, captions: Any, down: bool, fresh: Iterator[int]) -> Placed:
    rank = ranks_of(diagram)
    taps, links, pieces = _trunks(diagram, rank, fresh)
    heavy = _is_heavy(diagram, rank)
    graph = _graph(diagram, size, room, captions, taps, links, rank)
    dense = len(links) > 1.35 * len(diagram.boxes)
    style = "diagonal" if dense or len(diagram.boxes) <= MANY else "orthogonal"
    found = _run(graph, down, heavy, dense and not heavy, style)
    boxes, groups = {}, {}
    for key, node in zip(found.ids, found.nodes, strict=True):
        x, y = node["center"]["x"] - node["size"]["width"] / 2, node["center"]["y"] - node["size"]["height"] / 2
        if isinstance(key, Group):
            groups[key] = (x, y, node["size"]["width"], node["size"]["height"])
        elif isinstance(key, Box):
            boxes[key] = (x, y, *size[key])
    lines = {}
    for (s, t), edge in zip(links, found.edges, strict=True):
        points = [(p["x"], p["y"]) for p in edge["points"]]
        if down and isinstance(s, Box) and room[s]:  # begin at the box, not under what hangs below it
            points = [(points[0][0], boxes[s][1] + boxes[s][3]), *points]
        if not down:
            points[0], points[-1] = _beside(points[0], boxes.get(s)), _beside(points[-1], boxes.get(t))
        lines[s, t] = points
    lines = uncrossed(lines, down)
    return Placed(boxes, [Part(g, r) for g, r in groups.items()], lines, pieces, [k for k in lines if not isinstance(k[0], Box)])


def _beside(point: Point, box: Rect | None) -> Point:
    """An end of a line, moved to the side of its box: beside what hangs below the box would miss it."""
    return point if box is None else (point[0], min(max(point[1], box[1] + 6), box[1] + box[3] - 6))


def _is_heavy(diagram: Diagram, rank: Counter[Box]) -> bool:
    """Whether full effort would take seconds: a layer of 300 boxes takes 6 s, with low effort 10 ms."""
    widest = max(Counter(rank[b] for b in diagram.boxes).values(), default=0)
    return widest > 120 or sum(rank[t] - rank[s] for s, t in diagram.edges) > 20_000


def _graph(diagram: Diagram, size: Any, room: Any, captions: Any, taps: Any, links: Any, rank: Counter[Box]) -> Any:
    graphlay = library("graphlay")
    graph, index = graphlay.Graph(), {}

    def within(group: Group | None) -> dict[str, int]:
        if group is None:
            return {}
        if group not in index:
            index[group] = graph.node(group, width=captions[group], height=10, **within(group.parent))
        return {"parent": index[group]}

    for box in diagram.boxes:
        graph.node(box, width=size[box][0], height=size[box][1] + room[box], **within(box.group))
    for tap, group in taps:
        graph.node(tap, width=1, height=1, **within(group))
    for s, t in links:
        straight = isinstance(s, Box) and isinstance(t, Box) and rank[t] - rank[s] == 1
        graph.edge(s, t, weight=8.0 if straight else 1.0 if isinstance(t, Box) else 4.0)
    return graph


def _run(graph: Any, down: bool, heavy: bool, crowded: bool, style: str) -> Any:
    """Brandes-Köpf placement centres and keeps chains straight; network simplex stays narrow where lines are dense."""
    graphlay = library("graphlay")
    off = dict.fromkeys(("sifting_rounds", "pullin_rounds", "kick_patience"), 0)
    quick = {"order_seeds": 1, "order_sweeps": 2, "exhaustive_layer_max": 2, **off}
    gaps = {"layer_gap": 28 if down else 36, "node_gap": 24, "dummy_gap": 16, "port_gap": 12, "stub": 8}
    options = {
        "direction": "topbottom" if down else "leftright",
        "effort": {"custom": quick} if heavy else "balanced",
        "spacing": {**gaps, "compound_header": 10, "compound_padding": 14},
        "routing": {"style": style, "centre_ports": "all"},
        "coords": {"branch_style": "free", "placement": "network_simplex" if crowded else "brandes_koepf"},
        "tuning": {"routing": {"port_relax_rounds": 0, "overlap_repair_rounds": 0} if heavy else {}},
    }
    return graphlay.layout(graph, preset="process_map", options=options)


def _trunks(
    diagram: Diagram, rank: Counter[Box], fresh: Iterator[int], least: int = 3
) -> tuple[list[tuple[int, Group | None]], list[Piece], dict[Any, list[Piece]]]:
    """A source with many far targets gets one line with taps instead of a line per target.

    Returns the taps with their groups, the links between boxes and taps, and for each edge the links it runs along.
    """
    targets: dict[Box, list[Box]] = defaultdict(list)
    for source, target in diagram.edges:
        targets[source].append(target)
    taps: list[tuple[int, Group | None]] = []
    links: list[Piece] = []
    pieces: dict[tuple[Box, Box], list[Piece]] = {}
    for source, found in targets.items():
        far = sorted((t for t in found if rank[t] - rank[source] > 1 and t.group is source.group), key=rank.__getitem__)
        far = far if len(far) >= least else []
        for target in found:
            if target not in far:
                links.append((source, target))
                pieces[source, target] = [(source, target)]
        here: Any = source
        shared: list[Piece] = []
        for target in far:
            if target is not far[-1]:
                taps.append((next(fresh), source.group))
                links.append((here, taps[-1][0]))
                shared = [*shared, links[-1]]
                here = taps[-1][0]
            links.append((here, target))
            pieces[source, target] = [*shared, links[-1]]
    return taps, links, pieces
