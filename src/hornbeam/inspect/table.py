"""One walk over a model's graph, as rows: what summaries and pictures show."""

from __future__ import annotations

import itertools
import math
import re
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from hornbeam.core import dtype as dtypes
from hornbeam.core.card import named_weights, own_weights
from hornbeam.core.layer import Layer, layer_name
from hornbeam.graph import tree
from hornbeam.graph.graph import Graph
from hornbeam.graph.node import Node, Out, Ref, Spec, filled
from hornbeam.graph.record import Recording, record
from hornbeam.layers.input import InputLayer

_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
_SAMPLES, _MOST = 32, 1 << 20  # samples of a run on random values, and numbers in its inputs


@dataclass
class Row:
    """One layer or function of a model, or a weight that the model holds itself.

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
        further: nests of output shapes of calls on other sizes.
        weight: the weight that the row is about, where that is no layer's.
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
    further: list[Any] = field(default_factory=list)
    weight: torch.Tensor | None = None


def graph_of(module: nn.Module, specs: Any = None, named: dict[str, Any] | None = None) -> Graph | None:
    """Returns the graph of a module: its own, or a recording of its call on the inputs it was built for; None where unbuilt."""
    own = getattr(module, "graph", None)
    if isinstance(own, Graph):
        return own
    specs = specs if specs is not None else getattr(module, "_build_specs", None)
    return None if specs is None else recorded(module, specs, named or {})


def recorded(module: nn.Module, args: Any, kwargs: dict[str, Any]) -> Recording:
    """Returns a recording of a module's call; where its Python looks at values, one of a run on a few random samples.

    Args:
        module: any module.
        args, kwargs: its arguments, with a Spec in place of a tensor where no data is at hand.
    """
    made = record(module, *args, **kwargs)
    if not made.reads:
        return made
    try:  # an empty batch takes only the ways that need no sample
        return record(module, example=tree.map_leaves(_sample, tuple(args)), **tree.map_leaves(_sample, kwargs))
    except Exception:  # random values are not for every module
        return made


def _sample(value: Any) -> Any:
    """Random values in place of a Spec; always the same."""
    if not isinstance(value, Spec) or value.is_number:
        return value.concrete() if isinstance(value, Spec) else value
    rest = math.prod(d or 1 for d in value.concrete()[1:])
    shape = filled(value.shape, value.concrete(), min(_SAMPLES, max(2, _MOST // rest)))
    dtype, generator = dtypes.to_torch(value.dtype), torch.Generator().manual_seed(0)
    if dtype.is_floating_point or dtype.is_complex:
        return torch.randn(shape, generator=generator).to(dtype)
    return torch.randint(0, 2, shape, generator=generator).to(dtype)


def rows_of(model: nn.Module, expand_nested: bool = False, graph: Graph | None = None) -> tuple[list[Row], Graph | None]:
    """Returns the rows of a model and the graph that they were read from.

    Args:
        model: any module.
        expand_nested: whether nested models are opened.
        graph: the graph to read, where the caller has it.
    """
    graph = graph if graph is not None else graph_of(model)
    graph = None if graph is None else as_unit(model, graph)
    rows = _unbuilt_rows(model) if graph is None else _walk(model, graph, expand_nested, 0)
    return rows, graph


def _unbuilt_rows(model: nn.Module) -> list[Row]:
    layers = [model] if is_unit(model) else model.layers if hasattr(model, "layers") else list(model.children())
    rows = [_row_of_module(model, layer, None, 0) for layer in layers]
    return [*rows, *_left_over(model, rows, 0)]


def is_unit(module: nn.Module) -> bool:
    """Returns whether a module is one layer to whoever looks: a built-in one whose inside is its own affair."""
    if isinstance(module, Layer) and hasattr(module, "layers"):
        return False
    place = type(module).__module__
    if place.startswith("hornbeam.") or not place.startswith("torch.nn."):
        return isinstance(module, Layer) and (place.startswith("hornbeam.") or not module._modules)
    return bool(own_weights(module)) or not (module._modules or isinstance(module, _CONTAINERS))


def as_unit(module: nn.Module, graph: Graph) -> Graph:
    """Returns the graph of a layer's own call, in place of one of what goes on inside it."""
    if not isinstance(graph, Recording) or not is_unit(module):
        return graph
    inputs = [node for node in graph.nodes if node.kind == "input"]
    given = {r.node for r in graph.inputs}
    name = getattr(module, "name", None)
    call = Node("module", module, name if isinstance(name, str) else type(module).__name__, tuple(graph.input_nest),
                {node.name: Ref(node, 0) for node in inputs if node not in given})  # fmt: skip
    places = iter(range(len(graph.outputs)))
    call.structure = tree.map_leaves(lambda v: Out(next(places)) if type(v) is Ref else v, graph.output_nest)
    call.outputs = [r.spec for r in graph.outputs]
    closed = Recording([*inputs, call], graph.input_nest,
                       tree.map_leaves(lambda v: Ref(call, v.index) if type(v) is Out else v, call.structure))  # fmt: skip
    closed.reads = graph.reads
    return closed


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
        else:
            shape = _shapes_of(node)
            row.further += [] if shape in (row.shape, *row.further) else [shape]
        labels[id(node)] = f"{row.name}[{len(row.nodes)}]"
        row.nodes.append(node)
        row.connected.extend(f"{labels[id(r.node)]}[{r.index}]" for r in shown_refs(node) if id(r.node) in labels)
    listed = list(rows.values())
    if isinstance(graph, Recording):
        called = _parts(listed)
        listed += [
            _row_of_module(model, m, None, depth)
            for m in _children(model)
            if id(m) not in called and not _has_called_part(m, called)
        ]
    listed = [*_left_over(model, listed, depth), *listed]
    listed.sort(key=lambda row: row.weight is None and (2 if row.shape is None else 1))  # a model's own weights stand first
    return [r for row in listed for r in (row, *_inner(row, expand, depth))]


def _parts(rows: list[Row]) -> set[int]:
    return {id(m) for r in rows if r.module is not None for m in r.module.modules()}


def _left_over(model: nn.Module, rows: list[Row], depth: int) -> list[Row]:
    """Rows of what holds the weights that no row has: weights of the model itself, and parts that are not called."""
    seen = {id(w) for r in rows if r.module is not None for w in weights_of(r.module)}
    if all(id(w) in seen for w in weights_of(model)):
        return []
    shown, found = _parts(rows), []

    def visit(module: nn.Module, path: str) -> None:
        for key, weight in own_weights(module).items():
            if id(weight) not in seen:
                seen.add(id(weight))
                found.append(_row_of_weight(path + key, weight, depth))
        for key, part in module.named_children():
            if id(part) in shown or all(id(w) in seen for w in weights_of(part)):
                continue
            if _has_called_part(part, shown):
                visit(part, f"{path}{key}.")
            else:
                found.append(_row_of_module(model, part, None, depth))
                seen.update(id(w) for w in weights_of(part))

    visit(model, "")
    return found


def _row_of_weight(name: str, weight: torch.Tensor, depth: int) -> Row:
    shape = _Shape(weight.shape)
    return Row(name, type(weight).__name__, shape, weight.numel(), [], weight.requires_grad, depth, weight=weight)


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
    if module is None or isinstance(module, InputLayer) or not list(module.children()) or is_unit(module):
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
    shape = _shapes_of(node)
    if module is not None:
        row = _row_of_module(model, module, shape, depth)
        return row
    kind = (
        "InputLayer" if node.kind == "input" else type(node.target).__name__ if node.kind == "operation" else home_of(node.target)
    )
    return Row(node.name, kind, shape, 0, depth=depth)


def _shapes_of(node: Node) -> Any:
    return tree.map_leaves(lambda v: _Shape(node.outputs[v.index].shape) if type(v) is Out else None, node.structure)


class _Shape(tuple):  # type: ignore[type-arg]
    """A shape as a leaf of a nest."""


def _row_of_module(model: nn.Module, module: nn.Module, shape: Any, depth: int) -> Row:
    weights = weights_of(module)
    learns = [w for w in weights if w.requires_grad]
    trainable = None if not weights else bool(learns)
    name = layer_name(model, module) or type(module).__name__  # a layer that is shown alone has no name in a model
    return Row(
        name, type(module).__name__, shape, sum(w.numel() for w in weights), [], trainable, depth, module
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
    top = [r for r in rows if r.depth == 0 and r.weight is None]
    for before, row in itertools.pairwise(top):
        if row.nodes and (len(row.connected) != 1 or not row.connected[0].startswith(before.name + "[")):
            return False
    return not any(len(r.nodes) > 1 for r in top)
