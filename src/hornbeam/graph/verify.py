"""The rules that every graph keeps, as a table; checked after each build and edit."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from hornbeam.graph.graph import Graph
from hornbeam.graph.node import Node

_KINDS = ("input", "module", "function", "operation")


def _inputs_come_first(graph: Graph) -> Iterator[Node]:
    count = len(graph.inputs)
    for i, node in enumerate(graph.nodes):
        if (node.kind == "input") != (i < count):
            yield node


def _kinds_are_known(graph: Graph) -> Iterator[Node]:
    return (n for n in graph.nodes if n.kind not in _KINDS)


def _values_exist_before_they_are_taken(graph: Graph) -> Iterator[Node]:
    made: set[int] = set()
    for node in graph.nodes:
        if any(id(ref.node) not in made for ref in node.refs()):
            yield node
        made.add(id(node))


def _outputs_are_numbered(graph: Graph) -> Iterator[Node]:
    for node in graph.nodes:
        if any(not 0 <= ref.index < len(ref.node.outputs) for ref in node.refs()):
            yield node


def _inputs_have_one_output(graph: Graph) -> Iterator[Node]:
    return (ref.node for ref in graph.inputs if len(ref.node.outputs) != 1 or ref.index != 0)


def _results_belong_to_the_graph(graph: Graph) -> Iterator[Node]:
    own = {id(n) for n in graph.nodes}
    return (ref.node for ref in graph.outputs if id(ref.node) not in own)


def _modules_are_named_by_key(graph: Graph) -> Iterator[Node]:
    return (n for n in graph.nodes if n.kind in ("module", "input") and not isinstance(n.target, str))


def _function_names_are_unique(graph: Graph) -> Iterator[Node]:
    seen: set[str] = set()
    for node in graph.nodes:
        if node.kind == "function":
            if node.name in seen:
                yield node
            seen.add(node.name)


RULES: dict[str, Callable[[Graph], Iterator[Node]]] = {
    "inputs come first": _inputs_come_first,
    "a node is an input, or the call of a module, a function or an operation": _kinds_are_known,
    "a value is made before it is taken": _values_exist_before_they_are_taken,
    "a reference names an output that its node has": _outputs_are_numbered,
    "an input has one output": _inputs_have_one_output,
    "the graph's outputs are made in it": _results_belong_to_the_graph,
    "a model's graph names its modules by key": _modules_are_named_by_key,
    "function calls have names of their own": _function_names_are_unique,
}


def verify(graph: Graph) -> None:
    """Raises an AssertionError that names the rule and the node where a model's graph breaks one.

    >>> from hornbeam.graph.symbolic import SymbolicTensor
    >>> x = SymbolicTensor((None, 2), name="x")
    >>> graph = Graph.trace(x, x + 1)
    >>> graph.nodes[0].target = "x"
    >>> verify(graph)
    """
    for rule, broken in RULES.items():
        for node in broken(graph):
            raise AssertionError(f"A graph rule is broken at {node!r}: {rule}.")
