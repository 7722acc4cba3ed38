"""Calls of a graph by name, the symbols to run it again on, and what stands between two of its calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hornbeam.graph import tree
from hornbeam.graph.graph import Graph
from hornbeam.graph.node import Held, Node, Out, Ref, Spec
from hornbeam.graph.symbolic import Symbol, symbol_for


def call_names(graph: Graph) -> list[str]:
    """Returns the names of the inputs and calls in order, each once."""
    return list(dict.fromkeys(n.name for n in graph.nodes if not n.implicit))


def split_index(name: str) -> tuple[str, int | None]:
    """Returns the name and the number of the call that "name:1" asks for; None where no number is given."""
    base, _, number = name.rpartition(":")
    return (base, int(number)) if base and number.removeprefix("-").isdigit() else (name, None)


def find(graph: Graph, name: str) -> list[Node]:
    """Returns the calls (or the input) of a name, in order.

    Args:
        graph: a model's graph.
        name: what summaries call a layer or function, or the key under which the model holds it. "name:0" is the first of its
            calls, "name:1" the second, "name:-1" the last.

    Raises:
        IndexError: it is called fewer times.

    >>> from hornbeam.graph.symbolic import SymbolicTensor
    >>> x = SymbolicTensor((None, 2), name="x")
    >>> find(Graph.trace(x, (x + 1).relu()), "relu")
    [<Node relu (function) -> [(None, 2)]>]
    """
    found = _named(graph, name)
    base, index = split_index(name)
    if found or index is None:
        return found
    found = _named(graph, base)
    if found and not -len(found) <= index < len(found):
        raise IndexError(f"{base!r} is called {len(found)} time(s), the first of them is {base + ':0'!r}. Received: {name!r}")
    return [found[index]] if found else []


def _named(graph: Graph, name: str) -> list[Node]:
    visible = [n for n in graph.nodes if not n.implicit]
    exact = [n for n in visible if n.name == name]
    return exact or [n for n in visible if isinstance(n.target, str) and n.target == name]


def input_symbols(graph: Graph, child: Callable[[Any], Any]) -> list[Symbol]:
    """Returns new symbols for a model's inputs, with the same input layers behind them."""
    made = []
    for ref in graph.inputs:
        node = Node("input", child(ref.node.target), ref.node.name, source=ref.node.source)
        node.outputs, node.structure = [ref.spec], Out(0)
        made.append(symbol_for(Ref(node, 0)))
    return made


def new_input(spec: Spec, name: str, source: tuple[str, int] | None = None) -> Symbol:
    """Returns the symbol of a new input for values of a Spec."""
    node = Node("input", None, name, source=source)
    node.outputs, node.structure = [spec], Out(0)
    return symbol_for(Ref(node, 0))


def relinked(graph: Graph, start: dict[Ref, Symbol], child: Callable[[Any], Any], held: Callable[[str], Any]) -> dict[Ref, Ref]:
    """Returns a model's values in copies of its calls that name modules and tensors themselves, as recorded calls do.

    Args:
        graph: a model's graph.
        start: symbols in place of some values.
        child: gives the module for a node's target.
        held: gives the tensor that the model holds under a path.
    """
    moved = {ref: symbol.ref for ref, symbol in start.items()}
    take = lambda v: held(v.path) if type(v) is Held else v  # noqa: E731
    for node in graph.nodes:
        copy = node.with_refs(moved.__getitem__)
        copy.args, copy.kwargs = tree.map_leaves(take, copy.args), tree.map_leaves(take, copy.kwargs)
        copy.target = child(node.target) if node.kind in ("module", "input") else node.target
        for i in range(len(node.outputs)):
            moved.setdefault(Ref(node, i), Ref(copy, i))
    return moved


def behind(outputs: list[Ref], cut: set[Ref]) -> dict[Node, bool]:
    """Returns the calls that lead to some outputs, each after those it needs, and whether a value of the cut leads to it."""
    found: dict[Node, bool] = {}
    seen: set[int] = set()
    stack = [(r.node, False) for r in outputs if r not in cut]
    while stack:
        node, done = stack.pop()
        if done:
            found[node] = any(r in cut or found[r.node] for r in node.refs())
        elif id(node) not in seen:
            seen.add(id(node))
            stack.append((node, True))
            stack.extend((r.node, False) for r in node.refs() if r not in cut)
    return found


def side_entry(outputs: list[Ref], cut: set[Ref]) -> tuple[Ref, Node] | None:
    """Returns a value that comes from before a cut and is needed behind it, with the call that takes it; None where none is."""
    after = behind(outputs, cut)
    for node in (n for n, is_behind in after.items() if is_behind and not n.implicit):
        for ref in node.visible_refs():
            if ref not in cut and not after[ref.node]:
                return ref, node
    return None


def keep_source(result: Any, node: Node) -> None:
    """Lets a call that was made again tell the user's line of the first one."""
    for value in tree.leaves(result):
        if isinstance(value, Symbol) and value.node.kind == node.kind:
            value.node.source = node.source
