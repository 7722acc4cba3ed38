"""Lists and dicts that were assigned to a layer's attribute: the layers in them become children of the layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn


class Holder(nn.Module):
    """Stands in the module tree for a list, tuple or dict of layers."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Raises: a container is not called."""
        raise TypeError("A list or dict of layers is a container; call the layers in it.")


def identifier(name: str) -> str:
    """Returns a name as a key that torch accepts for a child: letters, digits and underscores, never empty.

    >>> identifier("stage.0"), identifier("class")
    ('stage_0', 'class')
    """
    kept = "".join(c if c.isalnum() or c == "_" else "_" for c in name)
    return kept or "_"


def _entries(container: Any) -> list[tuple[str, Any]]:
    items = container.items() if isinstance(container, dict) else enumerate(container)
    return [(identifier(str(k)), v) for k, v in items]


def holds_modules(value: Any) -> bool:
    """Returns whether a list, tuple or dict has a module somewhere inside."""
    values = value.values() if isinstance(value, dict) else value
    return any(isinstance(v, nn.Module) or (isinstance(v, (list, tuple, dict)) and holds_modules(v)) for v in values)


def hold(container: Any) -> Holder | None:
    """Returns a Holder with the container's modules, or None where it has none."""
    holder = Holder()
    for key, value in _entries(container):
        child = value if isinstance(value, nn.Module) else hold(value) if isinstance(value, (list, tuple, dict)) else None
        if child is not None:
            while key in holder._modules or hasattr(holder, key):
                key += "_"
            holder.add_module(key, child)
    return holder if holder._modules else None


def track(value: Any, changed: Callable[[], None]) -> Any:
    """Returns a list or dict that reports its changes; tuples are walked, everything else is returned as it is."""
    if type(value) is list:
        made = TrackedList(track(v, changed) for v in value)
        made._changed = changed
        return made
    if type(value) is dict:
        kept = TrackedDict({k: track(v, changed) for k, v in value.items()})
        kept._changed = changed
        return kept
    return value


def _reporting(base: type, name: str) -> Callable[..., Any]:
    plain = getattr(base, name)

    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        result = plain(self, *args, **kwargs)
        self._changed()
        return result

    method.__name__ = name
    return method


class TrackedList(list):  # type: ignore[type-arg]
    """A list on a layer; a layer put into it later is a child from then on."""

    _changed: Callable[[], None] = staticmethod(lambda: None)

    def __reduce__(self) -> Any:
        return list, (list(self),)


class TrackedDict(dict):  # type: ignore[type-arg]
    """A dict on a layer; a layer put into it later is a child from then on."""

    _changed: Callable[[], None] = staticmethod(lambda: None)

    def __reduce__(self) -> Any:
        return dict, (dict(self),)


for _name in "append extend insert pop remove clear sort reverse __setitem__ __delitem__ __iadd__".split():
    setattr(TrackedList, _name, _reporting(list, _name))
for _name in "pop popitem clear update setdefault __setitem__ __delitem__".split():
    setattr(TrackedDict, _name, _reporting(dict, _name))
