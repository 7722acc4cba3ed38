"""Lists and dicts that are assigned to a layer's attribute: the layers in them become children of the layer."""

from __future__ import annotations

import keyword
from collections.abc import Callable
from typing import Any

from torch import nn


class LayerList(nn.ModuleList):
    """A list or tuple of layers on a layer: torch's ModuleList with the rest of a list's methods."""

    def index(self, layer: nn.Module) -> int:
        """Returns the place of a layer."""
        for i, other in enumerate(self):
            if other is layer:
                return i
        raise ValueError(f"{layer!r} is not in the list.")

    def remove(self, layer: nn.Module) -> None:
        """Takes a layer out."""
        del self[self.index(layer)]

    def pop(self, index: int = -1) -> nn.Module:  # type: ignore[override]
        """Takes a layer out and returns it."""
        layer = self[index]
        del self[index]
        return layer

    def clear(self) -> None:
        """Takes all layers out."""
        self._modules.clear()

    def copy(self) -> list[Any]:
        """Returns the layers as a plain list."""
        return list(self)

    def __contains__(self, layer: Any) -> bool:
        return any(other is layer for other in self)


class LayerDict(nn.ModuleDict):
    """A dict of layers on a layer: torch's ModuleDict with `get`."""

    def get(self, key: str, default: Any = None) -> Any:
        """Returns the layer of a key, or the default."""
        return self._modules.get(key, default)

    def update(self, *args: Any, **kwargs: Any) -> None:  # type: ignore[override]
        """Puts in the layers of a dict, of pairs, or of keyword arguments."""
        super().update(dict(*args, **kwargs))

    def setdefault(self, key: str, default: Any = None) -> Any:
        """Returns the layer of a key; where there is none, puts in the default."""
        if key not in self:
            self[key] = default
        return self[key]


class Holder(nn.Module):
    """Stands in the module tree for a list or dict that holds layers among other things."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Raises: a container is not called."""
        raise TypeError("A list or dict of layers is a container; call the layers in it.")


CONTAINERS = (nn.ModuleList, nn.ModuleDict, Holder)


def identifier(name: str) -> str:
    """Returns a name as a key that torch accepts for a child: letters, digits and underscores, never empty and no keyword.

    >>> identifier("stage.0"), identifier("class")
    ('stage_0', 'class_')
    """
    kept = "".join(c if c.isalnum() or c == "_" else "_" for c in name)
    return f"{kept}_" if keyword.iskeyword(kept) else kept or "_"


def holds_modules(value: Any) -> bool:
    """Returns whether a list, tuple or dict has a module somewhere inside."""
    values = value.values() if isinstance(value, dict) else value
    return any(isinstance(v, nn.Module) or (isinstance(v, (list, tuple, dict)) and holds_modules(v)) for v in values)


def as_module(value: Any) -> nn.Module | None:
    """Returns a list, tuple or dict of nothing but layers (or of such lists) as a module, else None."""
    values = list(value.values() if isinstance(value, dict) else value)
    parts: list[Any] = [
        v if isinstance(v, nn.Module) else as_module(v) if isinstance(v, (list, tuple, dict)) and v else None for v in values
    ]
    if any(p is None for p in parts) or not parts or hasattr(value, "_fields"):
        return None
    if not isinstance(value, dict):
        return LayerList(parts)
    if any(
        not isinstance(k, str) or "." in k or not k or hasattr(LayerDict, k) or k == "training" or keyword.iskeyword(k)
        for k in value
    ):
        return None
    return LayerDict(dict(zip(value, parts, strict=True)))


def hold(value: Any) -> Holder:
    """Returns a Holder with the modules of a container, nested as they are there."""
    holder = Holder()
    for k, v in value.items() if isinstance(value, dict) else enumerate(value):
        child = v if isinstance(v, nn.Module) else hold(v) if isinstance(v, (list, tuple, dict)) and holds_modules(v) else None
        if child is not None:
            key = identifier(str(k))
            while key in holder._modules or hasattr(holder, key):
                key += "_"
            holder.add_module(key, child)
    return holder


def track(value: Any, changed: Callable[[Any], None]) -> Any:
    """Returns a plain list or dict as one that reports when layers come in (or, where it holds some, any change)."""
    if type(value) not in (list, dict):
        return value
    made: Any = TrackedList(value) if type(value) is list else TrackedDict(value)
    made._changed, made._holds = changed, holds_modules(value)
    return made


def _reporting(base: type, name: str) -> Callable[..., Any]:
    plain = getattr(base, name)

    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        result = plain(self, *args, **kwargs)
        if self._changed is not None and (self._holds or holds_modules((*args, *kwargs.values()))):
            self._changed(self)
        return result

    method.__name__ = name
    return method


class TrackedList(list):  # type: ignore[type-arg]
    """A list on a layer; a layer put into it later is a child from then on."""

    _changed: Callable[[Any], None] | None = None
    _holds: bool = False

    def __reduce__(self) -> Any:
        return list, (list(self),)


class TrackedDict(dict):  # type: ignore[type-arg]
    """A dict on a layer; a layer put into it later is a child from then on."""

    _changed: Callable[[Any], None] | None = None
    _holds: bool = False

    def __reduce__(self) -> Any:
        return dict, (dict(self),)


for _name in "append extend insert pop remove clear sort reverse __setitem__ __delitem__ __iadd__".split():
    setattr(TrackedList, _name, _reporting(list, _name))
for _name in "pop popitem clear update setdefault __setitem__ __delitem__".split():
    setattr(TrackedDict, _name, _reporting(dict, _name))
