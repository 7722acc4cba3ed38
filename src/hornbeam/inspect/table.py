"""One walk over a model's graph, as rows: what summaries and pictures show."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from hornbeam.core.card import named_weights
from hornbeam.core.layer import Layer, layer_name
from hornbeam.graph import tree
from hornbeam.graph.graph import Graph
from hornbeam.graph.node import Node, Out, Ref
from hornbeam.graph.record import Recording, record
from hornbeam.layers.input import InputLayer


@dataclass
class Row:
    """One layer or function of a model.

    Attributes:
        name: what it is called in the model.
        kind: its class, or for a function where it is at home.
        shape: nest of output shapes, or None where it is not known.
        params: number of numbers in its weights.
        connected: "name[call][output]" of each value it takes.
        trainable: whether its weights learn; None where it has none.
        depth: how deep inside nested models.
        module: the layer, or None for a function.
        nodes: its calls.
        owner: the module in whose graph it stands.
    """

    name: str
    kind: str
    shape: Any
    params: int
    connected: list[str] = field(default_factory=list)
    trainable: bool | None = None
    depth: int = 0
    module: nn.Module | None = None
    nodes: list[Node] = field(default_factory=list)
    owner: nn.Module | None = None


def graph_of(module: nn.Module, specs: Any = None, named: dict[str, Any] | None = None) -> Graph | None:
    """Returns the graph of a module: its own, or a recording of its call on the inputs it was built for; None where unbuilt."""
    own = getattr(module, "graph", None)
    if isinstance(own, Graph):
        return own
    specs = specs if specs is not None else getattr(module, "_build_specs", None)
    return None if specs is None else record(module, *specs, **(named or {}))


def rows_of(model: nn.Module, expand_nested: bool = False, graph: Graph | None = None) -> tuple[list[Row], Graph | None]:
    """Returns the rows of a model and the graph that they were read from.

    Args:
        model: any module.
        expand_nested: whether nested models are opened.
        graph: the graph to read, where the caller has it.
    """
    graph = graph if graph is not None else graph_of(model)
    rows = _unbuilt_rows(model) if graph is None else _walk(model, graph, expand_nested, 0)
    return rows, graph


def _unbuilt_rows(model: nn.Module) -> list[Row]:
    layers = model.layers if hasattr(model, "layers") else list(model.children())
    return [_row_of_module(model, layer, None, 0) for layer in layers]


def _walk(model: nn.Module, graph: Graph, expand: bool, depth: int) -> list[Row]:
    rows: dict[Any, Row] = {}
    labels: dict[int, str] = {}
    for node in graph.nodes:
        if node.kind == "input" and (getattr(model, "_hides_inputs", False) or isinstance(graph, Recording)):
            labels[id(node)] = f"{node.name}[0]"
            continue
        if node.implicit:
            continue
        key, module = _module_of(model, node)
        row = rows.get(key)
        if row is None:
            rows[key] = row = _row_of_node(model, node, module, depth)
            row.owner = model
        labels[id(node)] = f"{row.name}[{len(row.nodes)}]"
        row.nodes.append(node)
        row.connected.extend(f"{labels[id(r.node)]}[{r.index}]" for r in shown_refs(node) if id(r.node) in labels)
    listed = list(rows.values())
    if isinstance(graph, Recording):
        called = {id(m) for r in listed if r.module is not None for m in r.module.modules()}
        listed += [
            _row_of_module(model, m, None, depth)
            for m in _children(model)
            if id(m) not in called and not _has_called_part(m, called)
        ]
    return [r for row in listed for r in (row, *_inner(row, expand, depth))]


def _children(model: nn.Module) -> list[nn.Module]:
    layers: Any = getattr(model, "layers", None) if isinstance(model, Layer) else None
    return list(model.children() if layers is None else layers)


def _has_called_part(module: nn.Module, called: set[int]) -> bool:
    return any(id(m) in called for m in module.modules())


def shown_refs(node: Node) -> list[Ref]:
    """Returns the values a call takes, with hidden mask arithmetic left out."""
    return [r for r in node.visible_refs() if not r.node.implicit]


def _inner(row: Row, expand: bool, depth: int) -> list[Row]:
    """Rows of what is inside a nested model."""
    inner = inner_graph(row, row.nodes[0]) if expand and row.nodes else None
    return _walk(row.module, inner, True, depth + 1) if inner is not None and row.module is not None else []


def inner_graph(row: Row, call: Node) -> Graph | None:
    """Returns the graph of what one call of a nested model does; None for a layer that is shown closed.

    Args:
        row: the nested model's row.
        call: one of the row's calls.
    """
    module = row.module
    if module is None or isinstance(module, InputLayer) or not list(module.children()):
        return None
    if isinstance(module, Layer) and not hasattr(module, "layers") and type(module).__module__.startswith("hornbeam."):
        return None
    taken = lambda v: v.spec if type(v) is Ref else v  # noqa: E731
    named = {k: v for k, v in call.kwargs.items() if k not in call.passed}
    return graph_of(module, tree.map_leaves(taken, call.args), tree.map_leaves(taken, named))


def _module_of(model: nn.Module, node: Node) -> tuple[Any, nn.Module | None]:
    if node.kind == "module" or (node.kind == "input" and node.target is not None):
        if isinstance(node.target, str):
            module = model.get_submodule(node.target)
            return id(module), module
        return id(node.target), node.target
    return id(node), None


def _row_of_node(model: nn.Module, node: Node, module: nn.Module | None, depth: int) -> Row:
    shape = tree.map_leaves(lambda v: _Shape(node.outputs[v.index].shape) if type(v) is Out else None, node.structure)
    if module is not None:
        row = _row_of_module(model, module, shape, depth)
        return row
    kind = (
        "InputLayer" if node.kind == "input" else type(node.target).__name__ if node.kind == "operation" else home_of(node.target)
    )
    return Row(node.name, kind, shape, 0, depth=depth)


class _Shape(tuple):  # type: ignore[type-arg]
    """A shape as a leaf of a nest."""


def _row_of_module(model: nn.Module, module: nn.Module, shape: Any, depth: int) -> Row:
    weights = weights_of(module)
    learns = [w for w in weights if w.requires_grad]
    trainable = None if not weights else bool(learns)
    return Row(
        layer_name(model, module), type(module).__name__, shape, sum(w.numel() for w in weights), [], trainable, depth, module
    )


def weights_of(module: nn.Module) -> list[torch.Tensor]:
    """Returns a module's weights, each once, without making any value; buffers of foreign modules are not weights."""
    return list(named_weights(module).values())


def home_of(function: Any) -> str:
    """Returns where a torch function is at home: "torch", "torch.nn.functional", "torch.Tensor", "torch.linalg", …"""
    name = getattr(function, "__name__", "")
    for home in ("torch", "torch.nn.functional", "torch.linalg", "torch.fft", "torch.special", "torch.Tensor"):
        place: Any = torch
        for part in home.split(".")[1:]:
            place = getattr(place, part)
        if (
            getattr(place, name, None) is function
            or getattr(place, name.removeprefix(home.split(".")[-1] + "_"), None) is function
        ):
            return home
    if name == "__get__" or name in ("set_item", "in_copy"):
        return "torch.Tensor"
    return getattr(function, "__module__", None) or "function"


def in_range(rows: list[Row], layer_range: Any, caller: str) -> list[Row]:
    """Returns the rows from the first to the last layer that a pair of names or regular expressions names.

    Raises:
        ValueError: it is no pair, or no layer has such a name.
    """
    if not layer_range:
        return rows
    if len(layer_range) != 2 or not all(isinstance(p, str) for p in layer_range):
        raise ValueError(f"{caller}: `layer_range` is a pair of layer names or regular expressions. Received: {layer_range!r}")
    places = [[i for i, r in enumerate(rows) if re.match(p, r.name)] for p in layer_range]
    if not all(places):
        missing = next(p for p, found in zip(layer_range, places, strict=True) if not found)
        raise ValueError(f"{caller}: no layer's name matches {missing!r}. Layers: {', '.join(r.name for r in rows)}")
    first, last = min(places[0][0], places[1][0]), max(places[0][-1], places[1][-1])
    return rows[first : last + 1]


def is_linear(rows: list[Row]) -> bool:
    """Returns whether rows are a plain chain, so that connections say nothing new."""
    top = [r for r in rows if r.depth == 0]
    for before, row in itertools.pairwise(top):
        if row.nodes and (len(row.connected) != 1 or not row.connected[0].startswith(before.name + "[")):
            return False
    return not any(len(r.nodes) > 1 for r in top)
