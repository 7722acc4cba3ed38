"""Nests of tuples, lists, dicts and slices: map over the leaves, list them. Dicts are walked in sorted key order, as in Keras."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def sorted_keys(nest: dict[Any, Any]) -> list[Any]:
    """Returns the keys in the order in which a nest's leaves are listed."""
    try:
        return sorted(nest)
    except TypeError:
        return list(nest)


def map_leaves(f: Callable[[Any], Any], nest: Any) -> Any:
    """Returns the nest with `f` applied to every leaf; slices and namedtuples are nests too."""
    t = type(nest)
    if t is tuple or t is list:
        return t([map_leaves(f, v) for v in nest])
    if t is dict:
        return {k: map_leaves(f, v) for k, v in nest.items()}
    if t is slice:
        return slice(map_leaves(f, nest.start), map_leaves(f, nest.stop), map_leaves(f, nest.step))
    if isinstance(nest, tuple):
        if hasattr(nest, "_fields"):
            return t(*[map_leaves(f, v) for v in nest])
        if t.__module__ == "torch.return_types":
            return t([map_leaves(f, v) for v in nest])
        return f(nest) if t.__name__ == "Size" else tuple(map_leaves(f, v) for v in nest)
    if isinstance(nest, list):
        return [map_leaves(f, v) for v in nest]
    if isinstance(nest, dict):
        made = {k: map_leaves(f, v) for k, v in nest.items()}
        return t(made) if t.__name__ == "OrderedDict" else made
    return f(nest)


def leaves(nest: Any) -> list[Any]:
    """Returns the leaves of a nest in order, dicts by sorted key."""
    found: list[Any] = []
    _collect(nest, found)
    return found


def _collect(nest: Any, found: list[Any]) -> None:
    if isinstance(nest, (tuple, list)):
        for v in nest:
            _collect(v, found)
    elif isinstance(nest, dict):
        for k in sorted_keys(nest) if type(nest) is dict else nest:
            _collect(nest[k], found)
    elif type(nest) is slice:
        for v in (nest.start, nest.stop, nest.step):
            _collect(v, found)
    else:
        found.append(nest)


def pack(nest: Any, flat: list[Any]) -> Any:
    """Returns a nest of the same structure whose leaves are taken from `flat`, in the order of `leaves`."""
    it = iter(flat)
    return _pack(nest, it)


def _pack(nest: Any, it: Any) -> Any:
    if isinstance(nest, dict):
        keys = sorted_keys(nest) if type(nest) is dict else list(nest)
        made = {k: _pack(nest[k], it) for k in keys}
        return {k: made[k] for k in nest}
    if isinstance(nest, tuple) and hasattr(nest, "_fields"):
        return type(nest)(*[_pack(v, it) for v in nest])
    if isinstance(nest, (tuple, list)):
        return (tuple if isinstance(nest, tuple) else list)(_pack(v, it) for v in nest)
    return next(it)
