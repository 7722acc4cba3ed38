"""Values for people: tensors become numbers here and nowhere else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch


def own_results(model: Any, logs: Any) -> dict[str, Any]:
    """Returns what a step returned where it returned something, else the metrics' present values."""
    return model.get_metrics_result() if logs is None else logs


def read_results(model: Any, logs: Any) -> dict[str, float]:
    """Returns numbers by name, sorted: the metrics', or what the user's own step returned last.

    Where its names are those of the metrics, the metrics that it fed say more, since they know the whole epoch; one that it never
    fed says nothing.
    """
    values = model.get_metrics_result()
    given = _flat(logs) if isinstance(logs, dict) else None
    if given is not None and given.keys() != values.keys():
        values = given
    elif given:
        values.update({k: given[k] for k in _unfed(model.metrics) if k in given})
    return {k: number(values[k]) for k in sorted(values)}


def _unfed(metrics: Any) -> list[str]:
    """The names of metrics that took nothing since they began: all their state is zero."""
    found: list[str] = []
    for metric in metrics:
        named = [(t, m) for _, m, t, _ in metric._parts or ()] if hasattr(metric, "make_state") else [(metric.name, metric)]
        found.extend(name for name, one in named if not any(bool(v.any()) for v in _state(one)))
    return found


def _state(metric: Any) -> list[Any]:
    if hasattr(metric, "present"):
        present = metric.present()
        return [] if present is None else [present]
    return metric.variables or [torch.ones(())]


def _flat(logs: dict[str, Any]) -> dict[str, Any]:
    """The entries of a dictionary that is a value, as of `compile`'s metrics, stand in its place."""
    parts = [_flat(v) if isinstance(v, dict) else {k: v} for k, v in logs.items()]
    return {k: v for part in parts for k, v in part.items()}


def number(value: Any) -> Any:
    """Returns a scalar tensor as a float; other values as they are, tensors as arrays."""
    if isinstance(value, torch.Tensor):
        value = value.detach()
        return float(value) if value.numel() == 1 else value.cpu().numpy()
    try:
        return float(value)
    except (TypeError, ValueError):
        return value


class LazyLogs(dict):  # type: ignore[type-arg]
    """A dictionary that is filled when somebody looks into it: what callbacks get at the end of a batch."""

    def __init__(self, read: Callable[[], dict[str, Any]]) -> None:
        super().__init__()
        self._read: Callable[[], dict[str, Any]] | None = read

    def _fill(self) -> None:
        if self._read is not None:
            read, self._read = self._read, None
            for key, value in read().items():
                dict.setdefault(self, key, value)

    def __getitem__(self, key: Any) -> Any:
        self._fill()
        return dict.__getitem__(self, key)

    def __contains__(self, key: Any) -> bool:
        self._fill()
        return dict.__contains__(self, key)

    def __iter__(self) -> Iterator[Any]:
        self._fill()
        return dict.__iter__(self)

    def __len__(self) -> int:
        self._fill()
        return dict.__len__(self)

    def __eq__(self, other: object) -> bool:
        self._fill()
        return dict.__eq__(self, other)

    __hash__ = None  # type: ignore[assignment]

    def get(self, key: Any, default: Any = None) -> Any:
        self._fill()
        return dict.get(self, key, default)

    def keys(self) -> Any:
        self._fill()
        return dict.keys(self)

    def values(self) -> Any:
        self._fill()
        return dict.values(self)

    def items(self) -> Any:
        self._fill()
        return dict.items(self)

    def copy(self) -> dict[Any, Any]:
        self._fill()
        return dict(dict.items(self))

    def __repr__(self) -> str:
        self._fill()
        return dict.__repr__(self)
