"""A model's variables as a nest by their paths, as Keras hands them out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from hornbeam.core.errors import did_you_mean
from hornbeam.core.weights import to_numpy
from hornbeam.training.outputs import CompileMetrics
from hornbeam.training.tracker import LossTracker

_PARTS = ("trainable_variables", "non_trainable_variables", "optimizer_variables", "metrics_variables")


def get_state_tree(self: Any, value_format: str = "backend_tensor") -> dict[str, dict[str, Any]]:
    """Returns all variables by the names along their paths.

    Args:
        value_format: "backend_tensor" for the live tensors, "numpy_array" for copies.

    Returns:
        "trainable_variables", "non_trainable_variables", "optimizer_variables", "metrics_variables", each a nest of dictionaries.

    >>> from hornbeam.layers import Dense, Input
    >>> from hornbeam.models.sequential import Sequential
    >>> tree = Sequential([Input((3,)), Dense(2, name="dense")], name="net").get_state_tree()
    >>> list(tree["trainable_variables"]["net"]["dense"])
    ['kernel', 'bias']
    """
    if value_format not in ("backend_tensor", "numpy_array"):
        close = did_you_mean(value_format, ("backend_tensor", "numpy_array"))
        raise ValueError(f"`value_format` must be 'backend_tensor' or 'numpy_array'.{close} Received: {value_format!r}")
    found: dict[str, dict[str, Any]] = {}
    for part in _PARTS:
        found[part] = {}
        for path, value in _entries(self, part):
            place = found[part]
            *parents, name = path.split("/")
            for parent in parents:
                place = place.setdefault(parent, {})
            place[name] = to_numpy(value) if value_format == "numpy_array" else value
    return found


def set_state_tree(self: Any, state_tree: dict[str, dict[str, Any]]) -> None:
    """Sets variables to the values of a nest as `get_state_tree` returns it; parts of it may be left out.

    Args:
        state_tree: the nest.

    Raises:
        ValueError: there is no variable at a path, or its shape is another. No variable is changed then.
    """
    unknown = [k for k in state_tree if k not in _PARTS]
    if unknown:
        raise ValueError(
            f"A state tree has no part {unknown[0]!r}.{did_you_mean(unknown[0], _PARTS)} Parts: {', '.join(_PARTS)}."
        )
    writes = []
    for part, nest in state_tree.items():
        there = dict(_entries(self, part))
        for path, value in _flat(nest, ""):
            if path not in there:
                raise ValueError(f"The model has no variable at {path!r} in {part}.{did_you_mean(path, there)}")
            value = torch.as_tensor(value)
            if value.shape != there[path].shape:
                raise ValueError(f"Variable {path!r} has shape {tuple(there[path].shape)}. Received: shape {tuple(value.shape)}.")
            writes.append((part, path, there[path], value))
    optimizer = {path: value for part, path, _, value in writes if part == "optimizer_variables"}
    if optimizer:
        self.optimizer.set_weights([optimizer.get(v.path, v.detach()) for v in self.optimizer.variables])
    with torch.no_grad():
        for part, path, variable, value in writes:
            if part != "optimizer_variables" and not (part == "metrics_variables" and _write_tracker(self, path, value)):
                variable.copy_(value)


def _flat(nest: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(nest, dict):
        for key, value in nest.items():
            yield from _flat(value, f"{path}/{key}" if path else str(key))
    else:
        yield path, nest


def _entries(model: Any, part: str) -> Iterator[tuple[str, torch.Tensor]]:
    if part == "optimizer_variables":
        for variable in getattr(model.optimizer, "variables", ()):
            yield variable.path, variable
    elif part == "metrics_variables":
        for metric in _metrics(model):
            if isinstance(metric, LossTracker):
                sums = metric._folded()
                total, count = (torch.zeros(()), torch.zeros(())) if sums is None else (sums[0], sums[1])
                yield from ((f"{metric.name}/total", total), (f"{metric.name}/count", count))
            else:
                yield from ((f"{metric.name}/{variable.name}", variable) for variable in metric.variables)
    else:
        for i, variable in enumerate(getattr(model, part)):
            yield getattr(variable, "path", f"variable_{i}"), variable


def _metrics(model: Any) -> list[Any]:
    return [m for metric in model.metrics for m in (metric.metrics if isinstance(metric, CompileMetrics) else [metric])]


def _write_tracker(model: Any, path: str, value: torch.Tensor) -> bool:
    owner, _, name = path.rpartition("/")
    for metric in _metrics(model):
        if isinstance(metric, LossTracker) and metric.name == owner:
            metric._fold()
            metric.sums(value.device if metric._sums is None else metric._sums.device)[int(name == "count")] = value
            return True
    return False
