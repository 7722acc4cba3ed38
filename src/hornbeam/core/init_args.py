"""`get_config` and `from_config` for free: argument names are read from signatures once, values from the live object."""

from __future__ import annotations

import inspect
from functools import cache
from typing import Any

from hornbeam.core import registry


@cache
def signature_defaults(cls: type) -> dict[str, Any]:
    """Returns a class's constructor arguments with their defaults, following `**kwargs` up to the base classes."""
    names: dict[str, Any] = {}
    for base in cls.__mro__:
        init = base.__dict__.get("__init__")
        if init is None:
            continue
        open_ended = False
        for p in list(inspect.signature(init).parameters.values())[1:]:
            if p.kind is p.VAR_KEYWORD:
                open_ended = True
            elif p.kind is not p.VAR_POSITIONAL:
                names.setdefault(p.name, p.default)
        if not open_ended:
            break
    return names


def signature_names(cls: type) -> tuple[str, ...]:
    """Returns the names of a class's constructor arguments, following `**kwargs` up to the base classes."""
    return tuple(signature_defaults(cls))


def is_builtin(cls: type) -> bool:
    """Returns whether a class is part of Hornbeam itself."""
    return cls.__module__.partition(".")[0] == "hornbeam"


class Configurable:
    """Gives a class `get_config` and `from_config`.

    Built-in classes keep each constructor argument in the attribute of that name, so the config always says what the
    object is now. A user's own class that overrides `__init__` but not `get_config` answers with the arguments it got.

    Class attributes:
        config_exclude: argument names that are left out of the config.
    """

    config_exclude: tuple[str, ...] = ()
    _base_config: tuple[str, ...] = ()
    _init_args: tuple[tuple[Any, ...], dict[str, Any]] = ((), {})

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        self = super().__new__(cls)
        if not is_builtin(cls):
            self.__dict__["_init_args"] = (args, kwargs)
        return self

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor arguments as a JSON-able dictionary; `from_config` makes an equal object of it."""
        cls = type(self)
        owner = next(c for c in cls.__mro__ if is_builtin(c))
        config = {n: self._config_value(n) for n in signature_names(owner) if n not in self.config_exclude}
        if "__init__" in _between(cls, owner) and "get_config" not in _between(cls, owner):
            base = {n: v for n, v in config.items() if n in self._base_config}
            return {**base, **{n: _encode(v) for n, v in self._received().items() if n not in base}}
        return config

    def _received(self) -> dict[str, Any]:
        args, kwargs = self._init_args
        bound = inspect.signature(type(self).__init__).bind(self, *args, **kwargs)
        bound.apply_defaults()
        received = dict(list(bound.arguments.items())[1:])
        for p in bound.signature.parameters.values():
            if p.kind is p.VAR_KEYWORD:
                received.update(received.pop(p.name, {}))
            elif p.kind is p.VAR_POSITIONAL and not received[p.name]:
                del received[p.name]
        return received

    def _config_value(self, name: str) -> Any:
        return _encode(getattr(self, name, None))

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        """Makes an object from what `get_config` returned; a name and the like are left out where the constructor takes none."""
        known = signature_names(cls)  # type: ignore[arg-type]
        return cls(**{n: v for n, v in config.items() if n in known or n not in cls._base_config})


def _between(cls: type, owner: type) -> set[str]:
    """Returns the names that user classes above the built-in `owner` define themselves."""
    names: set[str] = set()
    for c in cls.__mro__:
        if c is owner:
            break
        names.update(vars(c))
    return names


def _encode(value: Any) -> Any:
    if isinstance(value, (str, int, float, bool, type(None))):
        return value
    if isinstance(value, (list, tuple)):
        return type(value)(_encode(v) for v in value) if type(value) in (list, tuple) else [_encode(v) for v in value]
    if isinstance(value, dict):
        return {k: _encode(v) for k, v in value.items()}
    if inspect.isfunction(value) or inspect.isbuiltin(value):
        for known in registry._registries:
            if known.objects.get(value.__name__) is value:
                return value.__name__
    return registry.serialize_keras_object(value)
