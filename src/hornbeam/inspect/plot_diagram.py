"""What a picture shows: a box for each call, an edge for each value passed between calls, a group for each opened model."""

from __future__ import annotations

import itertools
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from hornbeam.graph import tree
from hornbeam.graph.graph import Graph
from hornbeam.graph.node import Node, Out, Ref
from hornbeam.inspect.table import Row, in_range, inner_graph, rows_of, shown_refs

Shape = tuple[int | None, ...]


@dataclass(eq=False)
class Group:
    """An opened model.

    Attributes:
        name: its name, with the number of the call where there are several.
        parent: the group around it.
        count: how many equal groups it stands for.
        last: the name of the last of them.
        module, node: the opened model, and its call.
    """

    name: str
    parent: Group | None = None
    count: int = 1
    last: str = ""
    module: nn.Module | None = None
    node: Node | None = None

    def chain(self) -> list[Group]:
        """Returns the group and those around it, the outermost first."""
        return [*(self.parent.chain() if self.parent else []), self]


@dataclass(eq=False)
class Box:
    """One call.

    Attributes:
        place: its number in running order.
        name, kind: what it is called, and its class.
        family: what sort of layer it is, which gives the colour.
        params: number of numbers in the layer's weights.
        shapes, dtypes: of each output.
        trainable: whether the weights learn; None where there are none.
        activation: name of the layer's activation, or None.
        module: the layer, or None for a function or an input.
        group: the opened model that it is in.
        node: the call.
        failed: the shapes on which the call raised an error, or an empty string.
        output: whether the model gives out what the call gives.
        count: how many equal calls beside each other it stands for.
        last: the name of the last of them.
    """

    place: int
    name: str
    kind: str
    family: str
    params: int
    shapes: list[Shape]
    dtypes: list[str]
    trainable: bool | None = None
    activation: str | None = None
    module: nn.Module | None = None
    group: Group | None = None
    node: Node | None = None
    failed: str = ""
    output: bool = False
    count: int = 1
    last: str = ""


@dataclass
class Diagram:
    """The boxes of a model in running order, and the edges between them.

    Attributes:
        title: the model's name.
        boxes: a box per call and per input.
        edges: pairs of boxes, each once.
    """

    title: str
    boxes: list[Box] = field(default_factory=list)
    edges: list[tuple[Box, Box]] = field(default_factory=list)

    def groups(self) -> dict[Group, list[Box]]:
        """Returns the boxes in each group, those of inner groups too; outer groups come first."""
        inside: dict[Group, list[Box]] = defaultdict(list)
        for box in self.boxes:
            for group in box.group.chain() if box.group else ():
                inside[group].append(box)
        return dict(inside)


def diagram_of(
    model: nn.Module, expand_nested: bool = False, layer_range: Any = None, graph: Graph | None = None, caller: str = "plot_model"
) -> Diagram:
    """Returns what a picture of a model shows.

    Args:
        model: any module.
        expand_nested: whether nested models are opened.
        layer_range: first and last layer to show, by name or regular expression.
        graph: the graph to draw, where the caller has it.
        caller: the name of the function that is to stand in an error.

    Raises:
        ValueError: the shapes of the model are not known yet.
    """
    rows, graph = rows_of(model, graph=graph)
    name = str(getattr(model, "name", None) or type(model).__name__)
    if graph is None:
        raise ValueError(
            f"{caller}: {name!r} has no shapes yet. Say what it is called with, such as {caller}(model, inputs=(None, 8)): "
            f"a shape with the batch as None, an example tensor, or for several inputs a list of such."
        )
    walk = _Walk(Diagram(name), expand_nested)
    shown = in_range(rows, layer_range, caller)
    made = walk.level(rows, graph, None, {id(n) for r in shown for n in r.nodes} if layer_range else None)
    for ref in tree.leaves(graph.outputs):
        if isinstance(ref, Ref) and ref in made:
            made[ref].output = True
    return walk.diagram


class _Walk:
    """Draws the rows of a model and, where models are opened, of those inside."""

    def __init__(self, diagram: Diagram, expand: bool) -> None:
        self.diagram, self.expand = diagram, expand
        self.edges: dict[tuple[Box, Box], None] = {}

    def level(
        self, rows: list[Row], graph: Graph, group: Group | None, shown: set[int] | None, given: Any = ()
    ) -> dict[Ref, Box]:
        """Draws one model; `given` are the boxes that its inputs come from. Returns the box that makes each value."""
        row_of = {id(node): row for row in rows for node in row.nodes}
        made: dict[Ref, Box] = {ref: box for ref, box in zip(graph.inputs, given, strict=False) if box is not None}
        for node in graph.nodes:
            row = row_of.get(id(node))
            if node.implicit or (node.kind == "input" and group is not None) or (shown is not None and id(node) not in shown):
                continue
            opened = self.open(row, node, group, made) if row is not None and self.expand else None
            if opened is None:
                box = self.box(row, node, group)
                self.edges.update({(made[r], box): None for r in shown_refs(node) if r in made})
                opened = dict.fromkeys((Ref(node, i) for i in range(len(node.outputs))), box)
            made.update(opened)
        self.diagram.edges = list(self.edges)
        return made

    def open(self, row: Row, node: Node, group: Group | None, made: dict[Ref, Box]) -> dict[Ref, Box] | None:
        """Draws the inside of a nested model's call. Returns the box behind each output; None where there is nothing inside."""
        inner = inner_graph(row, node)
        if inner is None or row.module is None:
            return None
        rows, _ = rows_of(row.module, graph=inner)
        if not any(r.nodes for r in rows):
            return None
        call = next(i for i, n in enumerate(row.nodes, 1) if n is node)
        name = f"{row.name} · call {call}" if len(row.nodes) > 1 else row.name
        given = [made.get(v) for v in tree.leaves((node.args, node.kwargs)) if type(v) is Ref]
        inside = self.level(rows, inner, Group(name, group, module=row.module, node=node), None, given)
        places = [v for v in tree.leaves(node.structure) if type(v) is Out]
        return {Ref(node, p.index): inside[r] for p, r in zip(places, inner.outputs, strict=False) if r in inside}

    def box(self, row: Row | None, node: Node, group: Group | None) -> Box:
        shapes, dtypes = [o.shape for o in node.outputs], [o.dtype for o in node.outputs]
        place = len(self.diagram.boxes)
        if row is None or node.kind == "input":
            made = Box(place, node.name, "Input", "input", 0, shapes, dtypes, group=group)
        elif row.module is None:
            kind = _function_name(node, row)
            made = Box(place, row.name, kind, family_of_function(kind), 0, shapes, dtypes, group=group)
        else:
            made = Box(place, row.name, row.kind, family_of(row.module), row.params, shapes, dtypes, group=group)
            made.trainable, made.activation, made.module = row.trainable, _activation(row.module), row.module
        made.node = node
        self.diagram.boxes.append(made)
        return made


def _function_name(node: Node, row: Row) -> str:
    if node.kind == "operation":
        return row.kind
    name = getattr(node.target, "__name__", "") or row.name
    return re.sub(r"_\d+$", "", row.name) if name == "__get__" else name.strip("_")


def _activation(module: nn.Module) -> str | None:
    function = getattr(module, "activation", None)
    name = getattr(function, "__name__", None) or (type(function).__name__ if function is not None else None)
    return None if name is None else str(name)


# -- families

_LAYERS = {
    "input": r"InputLayer",
    "attention": r".*Attention.*",
    "recurrent": r".*(LSTM|GRU|RNN|Bidirectional).*",
    "embedding": r".*Embedding.*",
    "normalization": r".*Norm(alization)?([123]d)?",
    "pooling": r".*Pool(ing)?.*",
    "convolution": r".*Conv.*",
    "regularization": r".*(Dropout|Noise|DropPath|ActivityRegularization).*",
    "reshape": r"(Unf|F)latten|Reshape|Permute|RepeatVector|Identity|Masking|.*(Padding|Cropping|Up[sS]ampl|Shuffle|Pad[123]d).*",
    "merge": r"Add|Subtract|Multiply|Average|Maximum|Minimum|Concatenate|Dot",
    "activation": r".*(ReLU|ELU|SiLU|Activation|Softmax|Softmin|Sigmoid|Tanh|Softplus|Softsign|Mish|Hardswish)",
    "dense": r".*(Dense|Linear)",
}
_FUNCTIONS = {
    "attention": r".*attention.*",
    "recurrent": r"lstm.*|gru.*|rnn_.*",
    "embedding": r"embedding.*",
    "normalization": r".*_norm",
    "pooling": r".*_pool.*",
    "convolution": r"conv(_transpose)?[123]d",
    "regularization": r".*dropout.*",
    "reshape": r"(un)?(flatten|squeeze)|reshape|view|permute|transpose|(swap|move)ax[ei]s|expand|pad|getitem|chunk|split|m?[tT]",
    "merge": r"(i|r)?(add|sub|mul|div|truediv)|subtract|multiply|cat|concat|concatenate|stack|maximum|minimum|where",
    "activation": r"(log_)?softmax|sigmoid|tanh|mish|hard.*|.*elu6?_?|silu|logsigmoid|softplus|softsign|swish",
    "dense": r"r?matmul|mm|bmm|linear|einsum|dot|baddbmm|addmm",
}


def family_of(module: nn.Module) -> str:
    """Returns what sort of layer a module is: by its class's name or that of the nearest class it is made from.

    >>> family_of(nn.Conv2d(1, 1, 1)), family_of(nn.Module())
    ('convolution', 'function')
    """
    for base in type(module).__mro__:
        for family, pattern in _LAYERS.items():
            if re.fullmatch(pattern, base.__name__):
                return family
    return "function"


def family_of_function(name: str) -> str:
    """Returns what sort of layer a function stands for.

    >>> family_of_function("relu"), family_of_function("fft")
    ('activation', 'function')
    """
    return next((family for family, pattern in _FUNCTIONS.items() if re.fullmatch(pattern, name)), "function")


# -- folding

def fold(diagram: Diagram) -> Diagram:
    """Returns the diagram with runs of equal neighbouring groups drawn once, the first standing for all.

    Groups are equal where types, shapes, weights and wiring are; each must take its values from the one before, or from where
    the first takes them.
    """
    inside, sources = diagram.groups(), defaultdict(list)
    for source, target in diagram.edges:
        sources[target].append(source)
    gone: dict[Box, Box] = {}
    for run in _runs(inside, sources):
        for other in run[1:]:
            gone.update(zip(inside[other], inside[run[0]], strict=True))
            for box in inside[other]:
                gone[box].output |= box.output
        run[0].count, run[0].last = len(run), run[-1].name

    def home(box: Box) -> Box:
        while box in gone:
            box = gone[box]
        return box

    boxes = [b for b in diagram.boxes if b not in gone]
    moved = [(home(s), t) for s, t in diagram.edges if t not in gone]
    return Diagram(diagram.title, boxes, list(dict.fromkeys((s, t) for s, t in moved if s.place < t.place)))


def _runs(inside: dict[Group, list[Box]], sources: dict[Box, list[Box]]) -> Iterator[list[Group]]:
    by_parent: dict[Group | None, list[Group]] = defaultdict(list)
    for group in inside:
        by_parent[group.parent].append(group)
    for siblings in by_parent.values():
        run: list[Group] = []
        for group in siblings:
            if run and _continues(run, group, inside, sources):
                run.append(group)
                continue
            if len(run) > 1:
                yield run
            run = [group]
        if len(run) > 1:
            yield run


def _continues(run: list[Group], group: Group, inside: dict[Group, list[Box]], sources: dict[Box, list[Box]]) -> bool:
    first, before, here = inside[run[0]], inside[run[-1]], inside[group]
    if len(first) != len(here) or here[0].place != before[-1].place + 1:
        return False
    place = {box: i for i, box in enumerate(here)}
    start, previous = {box: i for i, box in enumerate(first)}, set(before)
    for a, b in zip(first, here, strict=True):
        if (a.kind, a.family, a.shapes, a.params) != (b.kind, b.family, b.shapes, b.params) or len(sources[a]) != len(sources[b]):
            return False
        if _depth(a) != _depth(b):
            return False
        for s, t in zip(sources[a], sources[b], strict=True):
            if start.get(s) != place.get(t) or (t not in place and t not in previous and s is not t):
                return False
    return any(t in previous for t in itertools.chain.from_iterable(sources[b] for b in here))


def _depth(box: Box) -> int:
    return len(box.group.chain()) if box.group else 0
