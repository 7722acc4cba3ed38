"""The graph of a module that has none of its own: by calling it on symbolic tensors, else by tracing it."""

from __future__ import annotations

from typing import Any

from torch import nn

from hornbeam.core.layer import Layer
from hornbeam.core.weights import raw
from hornbeam.export.own import CannotWrite
from hornbeam.export.parts import View, title
from hornbeam.export.tracing import trace
from hornbeam.graph import tree
from hornbeam.graph.graph import Graph
from hornbeam.graph.node import Held, Spec
from hornbeam.graph.symbolic import SymbolicTensor
from hornbeam.inspect.given import arguments_of, graph_for


def view_of(module: nn.Module, inputs: Any, layers: bool) -> View:
    """Returns a module with its graph.

    Args:
        module: any module.
        inputs: what it is called with, where it does not know.
        layers: whether the calls of layers are meant, which hand masks on by themselves, rather than all that is computed.

    Raises:
        ValueError: the module is not known to be called with anything; or its Python cannot be followed.
    """
    if isinstance(getattr(module, "graph", None), Graph) and inputs is None:
        return View(module, module.graph)  # type: ignore[arg-type]
    if inputs is not None:
        args, kwargs = arguments_of(module, inputs, "to_source")
    else:
        found = getattr(module, "_build_specs", None)
        if found is None:
            return View(module, graph_for(module, None, "to_source"))
        args, kwargs = found, {}
    if isinstance(getattr(module, "graph", None), Graph):
        return View(module, module.graph)  # type: ignore[arg-type]
    graph = _symbolic(module, args, kwargs) if layers else None
    if graph is not None:
        return View(module, graph)
    try:
        traced = trace(module, args, kwargs, modes=not layers)
        if layers:
            positional, keywords = traced.input_nest
            traced.input_nest = keywords if keywords else positional[0] if len(positional) == 1 else list(positional)
        return View(module, traced)
    except CannotWrite as error:
        raise ValueError(f"to_source cannot write {title(module)}: {error}.") from None


def _symbolic(module: nn.Module, args: Any, kwargs: dict[str, Any]) -> Graph | None:
    """The graph of a module's `call` on symbolic tensors; None where its Python asks for values or sizes."""
    if not isinstance(module, Layer):
        return None
    inputs: list[SymbolicTensor] = []

    def symbol(value: Any) -> Any:
        if not isinstance(value, Spec):
            return value
        inputs.append(SymbolicTensor(value.shape, value.dtype))
        return inputs[-1]

    given, named = tree.map_leaves(symbol, args), tree.map_leaves(symbol, kwargs)
    known = [(m, len(m._inbound_nodes)) for m in module.modules() if isinstance(m, Layer)]
    try:
        outputs = module.call(*given, **named)
        graph = Graph.trace(inputs if len(inputs) > 1 else inputs[0], outputs)
    except Exception:  # its Python wants what a symbol does not have
        return None
    finally:
        for layer, count in known:
            del layer._inbound_nodes[count:]
    graph.input_nest = tree.pack(given[0], list(graph.inputs)) if len(args) == 1 and not kwargs else graph.input_nest
    return _by_path(module, graph)


def _by_path(module: nn.Module, graph: Graph) -> Graph:
    """Names modules and tensors by their paths in the module."""
    modules = {id(m): path for path, m in module.named_modules()}
    tensors = {
        id(value): f"{path}.{key}" if path else key
        for path, m in module.named_modules()
        for slot in ("_parameters", "_buffers")
        for key, value in raw(m, slot).items()
        if value is not None
    }
    hold = lambda v: Held(tensors[id(v)]) if id(v) in tensors else v  # noqa: E731
    for node in graph.calls():
        if node.kind == "module":
            node.target = modules.get(id(node.target), node.target)
        node.args, node.kwargs = tree.map_leaves(hold, node.args), tree.map_leaves(hold, node.kwargs)
    return graph
