"""The graph between some symbolic inputs and outputs: a flat, sorted list of nodes that copies and pickles without recursion."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch

from hornbeam.graph import tree
from hornbeam.graph.context import context, setting
from hornbeam.graph.node import Held, Node, Out, Ref
from hornbeam.graph.symbolic import Symbol, record_function, symbols_in


class Graph:
    """A sorted list of nodes from inputs to outputs.

    Attributes:
        nodes: inputs first, then calls; each node comes after those it takes values from.
        inputs: the input values, flat.
        outputs: the output values, flat.
        input_nest, output_nest: the nests in which a caller hands inputs over and gets outputs back; leaves are Refs.
    """

    def __init__(self, nodes: list[Node], input_nest: Any, output_nest: Any) -> None:
        self.nodes, self.input_nest, self.output_nest = nodes, input_nest, output_nest
        self.inputs: list[Ref] = [r for r in tree.leaves(input_nest) if type(r) is Ref]
        self.outputs: list[Ref] = [r for r in tree.leaves(output_nest) if type(r) is Ref]

    @classmethod
    def trace(cls, inputs: Any, outputs: Any) -> Graph:
        """Returns the graph between symbolic inputs and outputs. An input may be any value, also the result of a call.

        Raises:
            ValueError: an output depends on an input that was not given; the message names it and the call that wants it.
            TypeError: something that is no symbolic tensor was given.
        """
        for what, nest in (("inputs", inputs), ("outputs", outputs)):
            _check_symbols(what, nest)
        given = lambda v: v.made_as if isinstance(v, Symbol) else v  # noqa: E731
        made = lambda v: v.ref if isinstance(v, Symbol) else v  # noqa: E731
        input_refs = [v.made_as for v in tree.leaves(inputs) if isinstance(v, Symbol)]
        output_refs = [v.ref for v in tree.leaves(outputs) if isinstance(v, Symbol)]
        if len(set(input_refs)) < len(input_refs):
            twice = next(r for r in input_refs if input_refs.count(r) > 1)
            raise ValueError(f"A model's inputs must be different tensors, but {twice.node.name!r} was given more than once.")
        ordered = _sort(output_refs, input_refs)
        moved: dict[Ref, Ref] = {}
        nodes: list[Node] = []
        for ref in input_refs:
            nodes.append(_input_node(ref))
            moved[ref] = Ref(nodes[-1], 0)
        for node in ordered:
            copy = node.with_refs(moved.get)
            for i in range(len(node.outputs)):
                moved.setdefault(Ref(node, i), Ref(copy, i))
            nodes.append(copy)
        relink = lambda v: moved[v] if type(v) is Ref else v  # noqa: E731
        return cls(
            nodes,
            tree.map_leaves(relink, tree.map_leaves(given, inputs)),
            tree.map_leaves(relink, tree.map_leaves(made, outputs)),
        )

    def calls(self) -> Iterator[Node]:
        """Yields the nodes that are calls."""
        return (n for n in self.nodes if n.kind != "input")

    def written(self) -> list[Node]:
        """Returns the calls without the mask arithmetic that is recorded anew when they are made again."""
        needed = set(self.outputs)
        found: list[Node] = []
        for node in reversed(self.nodes):
            if node.kind != "input" and (not node.implicit or any(Ref(node, i) in needed for i in range(len(node.outputs)))):
                found.append(node)
                needed.update(node.visible_refs())
        return found[::-1]

    def replay(self, values: list[Any], child: Callable[[Any], Any] = lambda target: target,
               held: Callable[[str], Any] = str, masks: bool = False, call: Callable[..., Any] | None = None) -> Any:  # fmt: skip
        """Runs the calls again on other values, real or symbolic, and returns the outputs in their nest.

        Args:
            values: one per input.
            child: gives the module for a node's target.
            held: gives the tensor that a model holds under a path.
            masks: leave recorded masks out, since symbolic values that carry masks record them anew.
            call: `(node, target, args, kwargs) -> result`, in place of `make_call`.
        """
        call = call or make_call
        known: dict[Ref, Any] = dict(zip(self.inputs, values, strict=True))
        take = lambda v: known[v] if type(v) is Ref else held(v.path) if type(v) is Held else v  # noqa: E731
        for node in self.written() if masks else list(self.calls()):
            kwargs = {k: v for k, v in node.kwargs.items() if not (masks and k in node.passed)}
            target = child(node.target) if node.kind == "module" else node.target
            with setting(implicit=context.implicit or node.implicit):
                args, kwargs = tree.map_leaves(take, node.args), tree.map_leaves(take, kwargs)
                result = call(node, target, args, kwargs)
            known.update({Ref(node, i): v for i, v in outputs_of(node, result)})
        return tree.map_leaves(take, self.output_nest)

    def flat(self) -> tuple[Any, ...]:
        """Returns the graph as plain data in which a Ref is a pair of numbers."""
        place = {id(n): i for i, n in enumerate(self.nodes)}
        pair = lambda r: _Pair(place[id(r.node)], r.index)  # noqa: E731
        swap = lambda v: pair(v) if type(v) is Ref else v  # noqa: E731
        rows = [
            (n.kind, _portable(n.target), n.name, tree.map_leaves(swap, n.args), tree.map_leaves(swap, n.kwargs))
            + (n.source, n.implicit, n.passed, n.outputs, n.structure)
            for n in self.nodes
        ]
        return rows, tree.map_leaves(swap, self.input_nest), tree.map_leaves(swap, self.output_nest)

    @classmethod
    def from_flat(cls, rows: Any, input_nest: Any, output_nest: Any) -> Graph:
        """Returns the graph that `flat` described."""
        nodes: list[Node] = []
        swap = lambda v: Ref(nodes[v.node], v.index) if type(v) is _Pair else v  # noqa: E731
        for kind, target, name, args, kwargs, source, implicit, passed, outputs, structure in rows:
            target = target.find() if type(target) is _Named else target
            node = Node(kind, target, name, tree.map_leaves(swap, args), tree.map_leaves(swap, kwargs), source, implicit, passed)
            node.outputs, node.structure = list(outputs), structure
            nodes.append(node)
        return cls(nodes, tree.map_leaves(swap, input_nest), tree.map_leaves(swap, output_nest))

    def __reduce__(self) -> Any:
        return Graph.from_flat, self.flat()

    def __deepcopy__(self, memo: dict[int, Any]) -> Graph:
        made = Graph.from_flat(*self.flat())
        memo[id(self)] = made
        return made


class _Pair:
    """A Ref in a flat graph: number of the node, number of the output."""

    __slots__ = ("index", "node")

    def __init__(self, node: int, index: int) -> None:
        self.node, self.index = node, index


class _Named:
    """A torch function that pickle cannot name by itself: an attribute of tensors, or one of a family behind one name."""

    __slots__ = ("home", "name")

    def __init__(self, home: str, name: str) -> None:
        self.home, self.name = home, name

    def find(self) -> Any:
        if self.home == "attribute":
            return getattr(torch.Tensor, self.name).__get__
        return getattr(torch.nn.functional if self.home == "functional" else torch, self.name)


def _portable(target: Any) -> Any:
    name = getattr(target, "__name__", "")
    if name == "__get__" and hasattr(target, "__self__"):
        return _Named("attribute", target.__self__.__name__)
    if "<locals>" in getattr(target, "__qualname__", ""):
        for home, place in (("functional", torch.nn.functional), ("torch", torch)):
            if getattr(place, name, None) is target:
                return _Named(home, name)
    return target


def make_call(node: Node, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Makes a node's call again, on real or symbolic values."""
    if node.kind == "function" and symbols_in((args, kwargs)):
        return record_function(target, args, kwargs, node.name, carry=not node.implicit)
    return target(*args, **kwargs)


def outputs_of(node: Node, result: Any) -> Iterator[tuple[int, Any]]:
    """Yields (output number, value) for the values in what a node's call returned."""
    found: list[Any] = []
    tree.map_leaves(found.append, node.structure)
    if len(found) == 1 and type(node.structure) is Out:
        yield node.structure.index, result
        return
    values: list[Any] = []
    tree.map_leaves(values.append, result)
    for place, value in zip(found, values, strict=False):
        if type(place) is Out:
            yield place.index, value


def _check_symbols(what: str, nest: Any) -> None:
    found = tree.leaves(nest)
    if not found:
        raise ValueError(f"A model needs at least one tensor in `{what}`. Received: {nest!r}")
    for value in found:
        if not isinstance(value, Symbol):
            shown = f"of shape {tuple(value.shape)}" if hasattr(value, "shape") else repr(value)[:80]
            raise TypeError(
                f"`{what}` of a model must be symbolic tensors, made by Input and by calling layers on it. "
                f"Received: {type(value).__name__} {shown}."
            )


def _input_node(ref: Ref) -> Node:
    made = Node("input", ref.node.target if ref.node.kind == "input" else None, ref.node.name, source=ref.node.source)
    made.outputs, made.structure = [ref.spec], Out(0)
    return made


def _sort(outputs: list[Ref], inputs: list[Ref]) -> list[Node]:
    """Returns the calls between inputs and outputs, those farthest from the outputs first, as Keras orders layers.

    Mask arithmetic, which Keras has no calls for, adds nothing to a distance.
    """
    cut = set(inputs)
    order = _reachable(outputs, cut)
    depth = {id(n): 0 for n in order}
    for node in reversed(order):
        seen = set() if node.implicit else set(node.visible_refs())
        for ref in node.refs():
            if ref not in cut and id(ref.node) in depth:
                depth[id(ref.node)] = max(depth[id(ref.node)], depth[id(node)] + (ref in seen))
    place = {id(n): i for i, n in enumerate(order)}
    return sorted(order, key=lambda n: (-depth[id(n)], place[id(n)]))


def _reachable(outputs: list[Ref], cut: set[Ref]) -> list[Node]:
    """Returns the calls that lead from the cut to the outputs. A mask that comes from before the cut is not handed on.

    Raises:
        ValueError: an output needs an input that is not in the cut.
    """
    missing: dict[int, tuple[Ref, Node | None]] = {}
    order: list[Node] = []

    def lost(ref: Ref, by: Node | None) -> tuple[Ref, Node | None] | None:
        if ref in cut:
            return None
        return (ref, by) if ref.node.kind == "input" else missing.get(id(ref.node))

    for node in _post_order(outputs, cut):
        why = next(filter(None, (lost(r, node) for r in node.visible_refs())), None)
        if why is not None and not node.implicit:
            raise _missing(*why, cut)
        if why is not None:
            missing[id(node)] = why
            continue
        order.append(node)
    for ref in outputs:
        why = lost(ref, None)
        if why is not None:
            raise _missing(*why, cut)
    return order


def calls_behind(values: list[Ref]) -> list[Node]:
    """Returns the calls that some values come from, each after those it needs."""
    return _post_order(values, set())


def _post_order(outputs: list[Ref], cut: set[Ref]) -> list[Node]:
    """Walks back from the outputs without recursion; every node comes after those it needs."""
    order: list[Node] = []
    done: set[int] = set()
    stack: list[tuple[Ref, bool]] = [(ref, False) for ref in reversed(outputs)]
    while stack:
        ref, finished = stack.pop()
        node = ref.node
        if finished:
            order.append(node)
        elif ref not in cut and id(node) not in done and node.kind != "input":
            done.add(id(node))
            stack.append((ref, True))
            stack.extend((needed, False) for needed in reversed(node.refs()))
    return order


def _missing(ref: Ref, wanted_by: Node | None, cut: set[Ref]) -> ValueError:
    given = ", ".join(sorted(repr(r.node.name) for r in cut))
    where = f" at {wanted_by.where()}" if wanted_by is not None and wanted_by.where() else ""
    by = (
        f"{'layer' if wanted_by.kind == 'module' else 'function'} {wanted_by.name!r} needs it{where}"
        if wanted_by
        else "it is itself an output"
    )
    return ValueError(
        f"The graph is disconnected: input {ref.node.name!r} of shape {ref.spec.shape} is not among the model's inputs "
        f"({given}), but {by}. Add it to `inputs`."
    )
