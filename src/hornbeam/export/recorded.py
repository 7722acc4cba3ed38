"""The graph of a module that has none of its own: by calling it on symbolic tensors, else by tracing it."""

from __future__ import annotations

import itertools
import types
from typing import Any

import torch
from torch import nn

from hornbeam.core.init_args import is_builtin
from hornbeam.core.layer import Layer
from hornbeam.core.weights import raw
from hornbeam.export.own import CannotWrite
from hornbeam.export.parts import View, title
from hornbeam.export.tracing import ByMode, _alike, _all_sizes, _merged, _named, trace
from hornbeam.graph import tree
from hornbeam.graph.context import setting
from hornbeam.graph.graph import Graph
from hornbeam.graph.node import Held, Node, Ref, Spec
from hornbeam.graph.symbolic import SymbolicTensor
from hornbeam.inspect.given import arguments_of, graph_for


def view_of(module: nn.Module, inputs: Any, layers: bool, modes: bool = False) -> View:
    """Returns a module with its graph.

    Args:
        module: any module.
        inputs: what it is called with, where it does not know.
        layers: whether the calls of layers are meant, which hand masks on by themselves, rather than all that is computed.
        modes: whether arguments that depend on the mode can be written; else they are those of inference, and the view's `frozen`
            tells where.

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
    graph = _symbolic(module, args, kwargs, False) if layers else None
    if graph is not None:
        frozen = _join_modes(graph, _symbolic(module, args, kwargs, True))
        return _frozen_view(module, graph, frozen, modes)
    try:
        if not layers:
            return View(module, trace(module, args, kwargs))
        traced = trace(module, args, kwargs, modes=False)
        positional, keywords = traced.input_nest
        traced.input_nest = keywords if keywords else positional[0] if len(positional) == 1 else list(positional)
    except CannotWrite as error:
        raise ValueError(f"to_source cannot write {title(module)}: {error}.") from None
    return _frozen_view(module, traced, _join_modes(traced, _in_training(module, args, kwargs)), modes)


def adds_losses(module: nn.Module) -> bool:
    """Whether a module's own methods add losses, which no recording holds."""
    classes = [c for c in type(module).__mro__ if not is_builtin(c)]
    methods = [f for c in classes for f in vars(c).values() if isinstance(f, types.FunctionType)]
    return any("add_loss" in f.__code__.co_names for f in methods)


def _in_training(module: nn.Module, args: Any, kwargs: dict[str, Any]) -> Graph | None:
    try:
        return _all_sizes(module, args, kwargs, True)
    except Exception:  # it takes no small batch in training, or changes its weights
        return None


def _frozen_view(module: nn.Module, graph: Graph, frozen: list[Node | None], modes: bool) -> View:
    """The view of a graph whose arguments that depend on the mode are those of inference, where `modes` is off."""
    view = View(module, graph)
    view.frozen = frozen
    for node in graph.calls() if not modes else ():
        by_mode = [v for v in tree.leaves((node.args, node.kwargs)) if type(v) is ByMode]
        if by_mode:
            view.frozen = [*view.frozen, node]
            node.args = tree.map_leaves(_inference, node.args)
            node.kwargs = tree.map_leaves(_inference, node.kwargs)
    return view


def _inference(value: Any) -> Any:
    return value.inference if type(value) is ByMode else value


def _join_modes(inference: Graph, training: Graph | None) -> list[Node | None]:
    """Writes into the graph of inference what training does otherwise; returns the first call that is another one.

    A layer that is called with the mode itself is called without it: it knows the mode by itself.
    """
    if training is None:
        return [None]
    if not _alike(inference, training):  # type: ignore[arg-type]
        pairs = itertools.zip_longest(inference.calls(), training.calls())
        return [next((b or a for a, b in pairs if a is None or b is None or _named(a) != _named(b)), None)]
    place = {id(n): inference.nodes[i] for i, n in enumerate(training.nodes)}
    frozen: list[Node | None] = []
    for node, other in zip(inference.nodes, training.nodes, strict=True):
        swap = lambda v: Ref(place[id(v.node)], v.index) if type(v) is Ref else v  # noqa: E731
        node.args = _merged(node.args, tree.map_leaves(swap, other.args))
        kwargs = _merged(node.kwargs, tree.map_leaves(swap, other.kwargs))
        mine, theirs = ([v for v in tree.leaves((n.args, n.kwargs)) if isinstance(v, torch.Tensor)] for n in (node, other))
        if not all(map(_equal, mine, theirs)):
            frozen.append(node)
        own = node.kind == "module" and type(kwargs.get("training")) is ByMode and kwargs["training"].training is True
        node.kwargs = {k: v for k, v in kwargs.items() if not (own and k == "training")}
    return frozen


def _equal(one: torch.Tensor, two: torch.Tensor) -> bool:
    return one is two or (one.shape == two.shape and one.dtype == two.dtype and torch.equal(one, two))


def _symbolic(module: nn.Module, args: Any, kwargs: dict[str, Any], training: bool) -> Graph | None:
    """The graph of a module's `call` on symbolic tensors in a mode; None where its Python asks for values or sizes."""
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
    if module._signature.training:
        named.setdefault("training", training)
    before = {m: m.training for m in module.modules()}
    try:
        for m in before:
            m.__dict__["training"] = training
        with setting(training=training):
            outputs = module.call(*given, **named)
        graph = Graph.trace(inputs if len(inputs) > 1 else inputs[0], outputs)
    except Exception:  # its Python wants what a symbol does not have
        return None
    finally:
        for m, mode in before.items():
            m.__dict__["training"] = mode
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
