"""Equal branches beside each other, drawn once with their number."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable
from dataclasses import replace

from hornbeam.inspect.plot_diagram import Box, Diagram

FEW = 12  # equal branches up to which each is drawn


def fold_branches(diagram: Diagram, few: int = FEW) -> Diagram:
    """Returns the diagram with equal branches drawn once, where there are more than a few: the first stands for all.

    A branch is a box, or a chain of boxes. Branches are equal where classes, shapes, weights and groups are, and where they
    take their values from the same boxes and give them to the same ones.
    """
    sources, targets = defaultdict(list), defaultdict(list)
    for source, target in diagram.edges:
        sources[target].append(source)
        targets[source].append(target)
    equal: dict[Hashable, list[list[Box]]] = defaultdict(list)
    for chain in _chains(diagram, sources, targets):
        looks = tuple(
            (b.kind, *b.shapes, *b.dtypes, b.params, b.activation, b.trainable, b.failed, b.output) for b in chain
        )  # fmt: skip
        equal[chain[0].group, looks, tuple(sources[chain[0]]), frozenset(targets[chain[-1]])].append(chain)
    standing: dict[Box, Box | None] = {}
    for chains in equal.values():
        if len(chains) > few:
            for first, last in zip(chains[0], chains[-1], strict=True):
                standing[first] = replace(first, count=len(chains), last=last.name)
            standing.update(dict.fromkeys(box for chain in chains[1:] for box in chain))
    boxes = [kept for b in diagram.boxes if (kept := standing.get(b, b)) is not None]
    moved = [(standing.get(s, s), standing.get(t, t)) for s, t in diagram.edges]
    return Diagram(diagram.title, boxes, list(dict.fromkeys((s, t) for s, t in moved if s is not None and t is not None)))


def _chains(diagram: Diagram, sources: dict[Box, list[Box]], targets: dict[Box, list[Box]]) -> list[list[Box]]:
    """The boxes in chains that nothing leaves or joins on the way, each as long as can be."""
    chains: dict[Box, list[Box]] = {}  # by the last box
    for box in diagram.boxes:
        before = sources[box][0] if len(sources[box]) == 1 else None
        goes_on = before is not None and len(targets[before]) == 1 and before.group is box.group and sources[before]
        chain = chains.pop(before) if before is not None and goes_on else []
        chains[box] = [*chain, box]
    return list(chains.values())
