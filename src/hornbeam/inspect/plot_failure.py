"""The graph behind an error: what had been built when a call failed, or the model that failed, with the call to be marked."""

from __future__ import annotations

import sys
from typing import Any

from torch import nn

from hornbeam.graph.errors import Failure
from hornbeam.graph.graph import Graph, calls_behind
from hornbeam.graph.node import Node
from hornbeam.inspect.plot_diagram import Diagram, diagram_of
from hornbeam.inspect.plot_text import shape_text


def failure_diagram(error: BaseException | None, expand_nested: bool = False, layer_range: Any = None) -> Diagram:
    """Returns the diagram of the graph in which a call failed; its box is marked.

    Args:
        error: the error; None for the one that Python has shown last (`sys.last_value`).
        expand_nested, layer_range: as for `diagram_of`.

    Raises:
        ValueError: no call of a graph is behind the error.
    """
    error = error if error is not None else getattr(sys, "last_value", None)
    found = error
    while found is not None and getattr(getattr(found, "failure", None), "node", None) is None:
        found = found.__cause__ or found.__context__
    if found is None:
        what = "There was no error yet." if error is None else (
            f"{type(error).__name__} does not come from such a call; the `forward` of a plain module leaves no graph behind."
        )  # fmt: skip
        raise ValueError(f"plot_model draws models, and errors of calls on symbolic tensors or in functional models. {what}")
    failure: Failure = found.failure  # type: ignore[attr-defined]
    model, node = failure.model, failure.node
    assert node is not None
    diagram = diagram_of(model if model is not None else _Unfinished(), expand_nested, layer_range, graph=_graph(model, node))
    text = ", ".join(shape_text(s, True) for s in failure.shapes) or "what it was given"
    for box in diagram.boxes:
        box.failed = text if box.node is node else ""
    return diagram


class _Unfinished(nn.Module):
    """Stands for the model that was being built."""

    name = "unfinished model"


def _graph(model: Any, node: Node) -> Graph:
    if model is not None:
        return model.graph
    order = calls_behind(node.refs())
    inputs = list(dict.fromkeys(r for n in (*order, node) for r in n.refs() if r.node.kind == "input"))
    return Graph([*(r.node for r in inputs), *order, node], inputs, [])
