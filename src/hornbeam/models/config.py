"""Models as configs in Keras's form, and models' inputs and outputs from configs."""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import cache
from typing import Any

import torch

from hornbeam import ops
from hornbeam.core import registry
from hornbeam.core.layer import Layer
from hornbeam.core.operation import Operation
from hornbeam.graph import in_place, tree
from hornbeam.graph.node import Held, Node, Ref
from hornbeam.graph.symbolic import record_function, symbols_in
from hornbeam.layers.input import InputLayer

_OWN = {"hornbeam.set_item": in_place.set_item, "hornbeam.in_copy": in_place.in_copy, "operator.getitem": operator.getitem}


_ATTRIBUTES = ("T", "mT", "H", "mH", "real", "imag")


@cache
def torch_functions() -> dict[str, Any]:
    """Returns the torch functions that a config may name, by their qualified names: those that torch lets others override."""
    found: dict[str, Any] = dict(_OWN)
    for home, prefix in ((torch, "torch"), (torch.nn.functional, "torch.nn.functional"), (torch.Tensor, "torch.Tensor"),
                         (torch.linalg, "torch.linalg"), (torch.fft, "torch.fft"), (torch.special, "torch.special")):  # fmt: skip
        recorded = {id(f) for f in torch.overrides.get_overridable_functions().get(home, ())}
        found.update({f"{prefix}.{n}": getattr(home, n) for n in dir(home) if id(getattr(home, n, None)) in recorded})
    found.update({f"torch.Tensor.{n}": getattr(torch.Tensor, n).__get__ for n in _ATTRIBUTES})
    found.update({f"operator.{n}": getattr(operator, n) for n in "add sub mul truediv floordiv mod pow neg".split()})
    for home, prefix in ((ops, "hornbeam.ops"), (ops.image, "hornbeam.ops.image")):
        found.update({f"{prefix}.{n}": f for n, f in vars(home).items() if n[0] != "_" and getattr(f, "records", False)})
    return found


@cache
def _names() -> dict[int, str]:
    return {id(f): n for n, f in torch_functions().items()}


def _name_of_function(function: Any) -> str | None:
    """The name under which a config may hold a function, or None."""
    if getattr(function, "__name__", "") == "__get__":  # of an attribute: a new object each time
        name = getattr(function.__self__, "__name__", "")
        return f"torch.Tensor.{name}" if name in _ATTRIBUTES else None
    return _names().get(id(function))


@registry.public("hornbeam.TorchFunction")
class TorchFunction(Operation):
    """The call of a torch function, for configs. Only torch's own pure functions can be named.

    Args:
        function: qualified name, such as "torch.relu".
        name: a name.

    >>> TorchFunction("torch.relu")(torch.tensor([-1.0, 2.0])).tolist()
    [0.0, 2.0]
    """

    def __init__(self, function: str, name: str | None = None) -> None:
        super().__init__(name or function.rpartition(".")[2].strip("_"))
        if function not in torch_functions():
            raise ValueError(f"{function!r} is not among the torch functions that a config may name.")
        self.function = function

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        target = torch_functions()[self.function]
        return record_function(target, args, kwargs, self.name) if symbols_in((args, kwargs)) else target(*args, **kwargs)

    call = __call__


# -- writing


def graph_config(model: Any) -> dict[str, Any]:
    """Returns a functional model's config in Keras's form."""
    graph = model._graph
    keys = {n.target: _name_of(model, n) for n in graph.nodes if n.kind in ("module", "input")}
    counts: dict[str, int] = {}
    places: dict[int, tuple[str, int]] = {}
    for node in graph.nodes:
        name = keys[node.target] if node.kind in ("module", "input") else node.name
        places[id(node)] = (name, counts.get(name, 0))
        counts[name] = counts.get(name, 0) + 1

    def history(ref: Ref) -> list[Any]:
        return [*places[id(ref.node)], ref.index]

    entries: dict[str, dict[str, Any]] = {}
    for node in (*(n for n in graph.nodes if n.kind == "input"), *graph.written()):
        name = places[id(node)][0]
        if name not in entries:
            entries[name] = {**_described(model, node, name), "name": name, "inbound_nodes": []}
        if node.kind != "input":
            write = lambda v: _write(model, v, history)  # noqa: E731
            kwargs = {k: _nest(write, v) for k, v in _kwargs(model, node).items()}
            entries[name]["inbound_nodes"].append({"args": [_nest(write, a) for a in node.args], "kwargs": kwargs})
    return {
        "name": model.name, "trainable": model.trainable, "layers": list(entries.values()),
        "input_layers": _listed(tree.map_leaves(lambda r: _Place(history(r)), graph.input_nest)),
        "output_layers": _listed(tree.map_leaves(lambda r: _Place(history(r)), graph.output_nest)),
    }  # fmt: skip


def _kwargs(model: Any, node: Node) -> dict[str, Any]:
    """The keyword arguments of a call: without masks that were handed on, for which Keras writes `mask: None`."""
    kwargs = {k: v for k, v in node.kwargs.items() if k not in node.passed}
    child = model._child(node.target) if node.kind == "module" else None
    single = len(node.args) == 1 and type(node.args[0]) is Ref and not any(type(v) is Ref for v in tree.leaves(kwargs))
    if single and isinstance(child, Layer) and child._signature.first_mask == "mask":
        kwargs.setdefault("mask", None)
    return kwargs


class _Place(list):  # type: ignore[type-arg]
    pass


def _listed(nest: Any) -> Any:
    if type(nest) is _Place:
        return list(nest)
    if isinstance(nest, dict):
        return {k: _listed(v) for k, v in nest.items()}
    listed = [_listed(v) for v in nest]
    return tuple(listed) if type(nest) is tuple else listed


def _name_of(model: Any, node: Node) -> str:
    child = model._child(node.target)
    return child.name if isinstance(child, Layer) else node.target


def _described(model: Any, node: Node, name: str) -> dict[str, Any]:
    if node.kind == "function":
        function = _name_of_function(node.target)
        if function is None:
            raise ValueError(
                f"Model {model.name!r} calls {node.target!r} in {name!r}, which has no name a config could hold. "
                f"Put it into a Layer."
            )
        return registry.serialize_keras_object(TorchFunction(function, name))
    if node.kind == "operation":
        return registry.serialize_keras_object(node.target)
    child = model._child(node.target)
    if not isinstance(child, Layer):
        raise ValueError(
            f"Model {model.name!r} holds the plain torch module {name!r} ({type(child).__name__}), which has no config. "
            f"Wrap it in a Layer."
        )
    return registry.serialize_keras_object(child)


def _nest(write: Callable[[Any], Any], value: Any) -> Any:
    if isinstance(value, (list, tuple)) and type(value).__name__ != "Size":
        inner = [_nest(write, v) for v in value]
        return inner if isinstance(value, list) else {"class_name": "__tuple__", "config": {"value": inner}}
    if isinstance(value, dict):
        return {k: _nest(write, v) for k, v in value.items()}
    if isinstance(value, slice):
        return {"class_name": "__slice__", "config": [_nest(write, v) for v in (value.start, value.stop, value.step)]}
    return write(value)


def _write(model: Any, value: Any, history: Callable[[Ref], list[Any]]) -> Any:
    if type(value) is Ref:
        spec = value.spec
        return {
            "class_name": "__keras_tensor__",
            "config": {"shape": list(spec.shape), "dtype": spec.dtype, "keras_history": history(value)},
        }
    if type(value) is Held:
        return registry.serialize_keras_object(model._held(value.path).detach().cpu())
    if value is Ellipsis:
        return {"class_name": "__ellipsis__", "config": {}}
    if isinstance(value, torch.dtype):
        return {"class_name": "__dtype__", "config": str(value).removeprefix("torch.")}
    if isinstance(value, torch.Size):
        return list(value)
    return registry.serialize_keras_object(value)


# -- reading


def graph_from_config(config: dict[str, Any]) -> tuple[Any, Any]:
    """Returns symbolic inputs and outputs for a functional config."""
    layers: dict[str, Any] = {
        entry["name"]: registry.deserialize_keras_object({k: v for k, v in entry.items() if k not in ("name", "inbound_nodes")})
        for entry in config["layers"]
    }
    results: dict[tuple[str, int], list[Any]] = {}
    waiting: list[tuple[str, int, dict[str, Any]]] = []
    for entry in config["layers"]:
        if isinstance(layers[entry["name"]], InputLayer):
            results[entry["name"], 0] = [layers[entry["name"]].output]
        waiting.extend((entry["name"], i, call) for i, call in enumerate(entry["inbound_nodes"]))

    def find(place: list[Any]) -> Any:
        return results[place[0], place[1]][place[2]]

    while waiting:
        left: list[tuple[str, int, dict[str, Any]]] = []
        for name, index, call in waiting:
            if not all((h[0], h[1]) in results for h in _histories(call)):
                left.append((name, index, call))
                continue
            args, kwargs = _read(call.get("args", []), find), _read(call.get("kwargs", {}), find)
            results[name, index] = symbols_in(layers[name](*args, **kwargs))
        if len(left) == len(waiting):
            raise ValueError(
                f"The config's calls of {', '.join(sorted({n for n, _, _ in left}))} need values that nothing in it makes."
            )
        waiting = left
    return _places(config["input_layers"], find), _places(config["output_layers"], find)


def _histories(value: Any) -> list[Any]:
    if isinstance(value, dict):
        if value.get("class_name") == "__keras_tensor__":
            return [value["config"]["keras_history"]]
        return [h for v in value.values() for h in _histories(v)]
    return [h for v in value for h in _histories(v)] if isinstance(value, list) else []


def _read(value: Any, find: Callable[[list[Any]], Any]) -> Any:
    if isinstance(value, list):
        return [_read(v, find) for v in value]
    if not isinstance(value, dict):
        return value
    kind = value.get("class_name")
    inner: Any = value.get("config")
    if kind == "__keras_tensor__":
        return find(inner["keras_history"])
    if kind == "__tuple__":
        return tuple(_read(v, find) for v in inner["value"])
    if kind == "__slice__":
        return slice(*[_read(v, find) for v in inner])
    if kind == "__ellipsis__":
        return Ellipsis
    if kind == "__dtype__":
        return getattr(torch, inner)
    if kind == "__numpy__":
        return torch.as_tensor(registry.deserialize_keras_object(value))
    return registry.deserialize_keras_object(value) if kind else {k: _read(v, find) for k, v in value.items()}


def _places(nest: Any, find: Callable[[list[Any]], Any]) -> Any:
    if isinstance(nest, dict):
        return {k: _places(v, find) for k, v in nest.items()}
    if len(nest) == 3 and isinstance(nest[0], str) and isinstance(nest[1], int):
        return find(nest)
    places = [_places(v, find) for v in nest]
    return tuple(places) if isinstance(nest, tuple) else places
