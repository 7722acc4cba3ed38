"""Names to objects and back: the registries of built-in objects, custom objects, and Keras's config form."""

from __future__ import annotations

import inspect
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from hornbeam.core.errors import did_you_mean


@cache
def snake_case(name: str) -> str:
    """Returns a class name in the spelling that default object names have.

    >>> snake_case("Conv2DTranspose"), snake_case("LSTM"), snake_case("MaxPooling2D")
    ('conv2d_transpose', 'lstm', 'max_pooling2d')
    """
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


class Registry:
    """The spellings of one kind of object ("activation", "loss", …).

    Args:
        kind: the word for such an object in errors.
        module: the public module written into configs, such as "keras.initializers".
        base: the class that instances have, or None where plain functions are meant.
    """

    def __init__(self, kind: str, module: str, base: type | None = None) -> None:
        self.kind, self.module, self.base = kind, module, base
        self.objects: dict[str, Any] = {}
        self._spellings: dict[str, str] = {}
        _registries.append(self)

    def add(self, thing: Any, *aliases: str) -> Any:
        """Registers a class or function under its own name, its snake_case name, and the aliases; returns it."""
        name = thing.__name__
        self.objects[name] = thing
        for spelling in (name, snake_case(name), name.lower(), *aliases):
            self._spellings.setdefault(spelling, name)
        return thing

    def names(self) -> list[str]:
        """Returns every spelling, for error messages."""
        return sorted(self._spellings)

    def _suggested(self) -> list[str]:
        """The spellings that a person would write: no class names in lower case, which are only tolerated."""
        tolerated = {n.lower() for n in self.objects if n.lower() != snake_case(n)}
        return [s for s in self._spellings if s not in tolerated]

    def find(self, name: str) -> Any:
        """Returns the class or function for a spelling, custom objects first; raises with close spellings."""
        custom = find_custom(name)
        if custom is not None:
            return custom
        if name in self._spellings:
            return self.objects[self._spellings[name]]
        raise ValueError(
            f"Unknown {self.kind}: {name!r}.{did_you_mean(name, self._suggested())} "
            f"Pass a known name, a callable, or register yours with `register_keras_serializable`."
        )

    def get(self, identifier: Any) -> Any:
        """Returns the object for a name, a config, a class, an instance or a callable; None stays None.

        A class is instantiated without arguments, unless the registry holds plain functions.
        """
        if identifier is None:
            return None
        if isinstance(identifier, dict):
            thing = deserialize_keras_object(identifier)
        elif isinstance(identifier, str):
            thing = self.find(identifier)
        else:
            thing = identifier
        if inspect.isclass(thing) and (self.base is None or issubclass(thing, self.base)):
            thing = thing()
        if self.base is not None and isinstance(thing, self.base):
            return thing
        if callable(thing):
            return thing
        wanted = (
            f"a name, a config or a callable, or an instance of {self.base.__name__}" if self.base else "a name or a callable"
        )
        raise ValueError(f"Could not read {identifier!r} ({type(identifier).__name__}) as {self.kind}: {wanted} is expected.")


_registries: list[Registry] = []


def of_kind(kind: str) -> Registry:
    """Returns the registry of one kind of object ("initializer", "regularizer", …)."""
    return next(r for r in _registries if r.kind == kind)


_builtin: dict[str, Any] = {}
_custom: dict[str, Any] = {}
_custom_names: dict[Any, str] = {}
_scope = threading.local()


def public(path: str) -> Callable[[Any], Any]:
    """Marks a class or function as the public object of that Keras path ("keras.layers.Dense"), for configs."""

    def mark(thing: Any) -> Any:
        module, _, name = path.rpartition(".")
        thing._public_path = (module, name)
        _builtin[path] = thing
        return thing

    return mark


def register_keras_serializable(package: str = "Custom", name: str | None = None) -> Callable[[Any], Any]:
    """Registers a class or function under "package>name", so that configs that name it can be read.

    >>> @register_keras_serializable("demo")
    ... class Doubler: ...
    >>> get_registered_name(Doubler)
    'demo>Doubler'
    """

    def register(thing: Any) -> Any:
        full = f"{package}>{name or thing.__name__}"
        _custom[full] = thing
        _custom_names[thing] = full
        return thing

    return register


def get_registered_name(thing: Any) -> str:
    """Returns the name a custom object is registered under, else its own name."""
    try:
        return _custom_names.get(thing) or thing.__name__
    except TypeError:
        return thing.__name__


def get_registered_object(
    name: str, custom_objects: dict[str, Any] | None = None, module_objects: dict[str, Any] | None = None
) -> Any:
    """Returns the custom object of that name, or None."""
    for place in (_scoped(), _custom, custom_objects or {}, module_objects or {}):
        if name in place:
            return place[name]
    return None


def get_custom_objects() -> dict[str, Any]:
    """Returns the dictionary of globally registered custom objects; it may be edited."""
    return _custom


def _scoped() -> dict[str, Any]:
    return getattr(_scope, "objects", {})


def find_custom(name: str) -> Any:
    """Returns a custom object by its full or bare name, from the active scope or the global table."""
    scoped = _scoped()
    if name in scoped:
        return scoped[name]
    if name in _custom:
        return _custom[name]
    return _custom.get("Custom>" + name)


@contextmanager
def custom_object_scope(objects: dict[str, Any] | None) -> Iterator[None]:
    """Makes custom objects known by name while the block runs.

    >>> with custom_object_scope({"triple": lambda x: 3 * x}):
    ...     find_custom("triple")(2)
    6
    """
    before = _scoped()
    _scope.objects = {**before, **(objects or {})}
    try:
        yield
    finally:
        _scope.objects = before


def path_of(cls: Any) -> tuple[str | None, str, str | None]:
    """Returns (module, class_name, registered_name) as Keras writes them into a config."""
    marked = cls.__dict__.get("_public_path") if hasattr(cls, "__dict__") else None
    if marked:
        return marked[0], marked[1], marked[1] if marked[0].startswith("keras.src.") else None
    for registry in _registries:
        if registry.objects.get(cls.__name__) is cls:
            return registry.module, cls.__name__, None
    registered = get_registered_name(cls)
    return getattr(cls, "__module__", None), cls.__name__, registered


_PLAIN = (str, int, float, bool, type(None))


def serialize_keras_object(thing: Any) -> Any:
    """Returns the JSON form of an object, as Keras 3 writes it.

    Args:
        thing: a plain value, a list, tuple or dict of such, a function, or an object with `get_config`.

    >>> serialize_keras_object({"sizes": (1, 2), "name": "a"})
    {'sizes': (1, 2), 'name': 'a'}
    """
    if isinstance(thing, _PLAIN):
        return thing
    if isinstance(thing, dict):
        return {k: serialize_keras_object(v) for k, v in thing.items()}
    if isinstance(thing, tuple):
        return tuple(serialize_keras_object(v) for v in thing)
    if isinstance(thing, list):
        return [serialize_keras_object(v) for v in thing]
    if hasattr(thing, "get_config") and not inspect.isclass(thing):
        module, name, registered = path_of(type(thing))
        config = {"module": module, "class_name": name, "config": thing.get_config(), "registered_name": registered}
        if hasattr(thing, "get_build_config"):
            build = thing.get_build_config()
            if build is not None:
                config["build_config"] = build
        if hasattr(thing, "get_compile_config"):
            compiled = thing.get_compile_config()
            if compiled is not None:
                config["compile_config"] = compiled
        return config
    if inspect.isfunction(thing) or inspect.isbuiltin(thing) or callable(thing):
        name = get_registered_name(thing) if hasattr(thing, "__name__") else type(thing).__name__
        return {"module": "builtins", "class_name": "function", "config": name, "registered_name": "function"}
    if hasattr(thing, "tolist"):
        return {"class_name": "__numpy__", "config": {"value": thing.tolist(), "dtype": str(thing.dtype).removeprefix("torch.")}}
    raise ValueError(f"Cannot write {thing!r} ({type(thing).__name__}) into a config: give it a `get_config()` method.")


def deserialize_keras_object(
    config: Any, custom_objects: dict[str, Any] | None = None, safe_mode: bool = True, **kwargs: Any
) -> Any:
    """Makes the object that `serialize_keras_object` described. Never imports anything and runs no code of the config.

    Args:
        config: a config.
        custom_objects: classes and functions by name, for this call.

    >>> deserialize_keras_object({"class_name": "__tuple__", "config": {"value": [1, 2]}})
    (1, 2)
    """
    if custom_objects:
        with custom_object_scope(custom_objects):
            return deserialize_keras_object(config, safe_mode=safe_mode)
    if isinstance(config, _PLAIN):
        return config
    if isinstance(config, (list, tuple)):
        return type(config)(deserialize_keras_object(c, safe_mode=safe_mode) for c in config)
    if not isinstance(config, dict):
        return config
    if "class_name" not in config:
        return {k: deserialize_keras_object(v, safe_mode=safe_mode) for k, v in config.items()}
    name, inner = config["class_name"], config.get("config", {})
    if name == "__tuple__":
        return tuple(deserialize_keras_object(v, safe_mode=safe_mode) for v in inner["value"])
    if name == "__numpy__":
        import numpy as np

        return np.array(inner["value"], dtype=inner["dtype"])
    if name == "function":
        return _find(config, inner)
    cls = _find(config, name)
    if not inspect.isclass(cls):
        return cls
    made = cls.from_config(inner) if hasattr(cls, "from_config") else cls(**inner)
    build = config.get("build_config")
    if build and hasattr(made, "build_from_config") and not getattr(made, "built", False):
        made.build_from_config(build)
    return made


def _find(config: dict[str, Any], name: str) -> Any:
    """Returns the built-in or custom class or function that a config names; nothing is ever imported for it."""
    registered = config.get("registered_name")
    for candidate in (registered, name):
        found = find_custom(candidate) if candidate else None
        if found is not None:
            return found
    module = config.get("module")
    if module and f"{module}.{name}" in _builtin:
        return _builtin[f"{module}.{name}"]
    for registry in _registries:
        if module in (registry.module, "builtins", None) and name in registry._spellings:
            return registry.find(name)
    if module is None or str(module).startswith("keras"):
        for path, thing in _builtin.items():
            if path.rpartition(".")[2] == name:
                return thing
    raise ValueError(
        f"Could not find {name!r} (module {module!r}, registered as {registered!r}). If it is yours, pass "
        f"`custom_objects={{{name!r}: {name}}}` or register it with `register_keras_serializable`."
    )


_counters: dict[str, int] = {}


def auto_name(prefix: str) -> str:
    """Returns `prefix`, `prefix_1`, `prefix_2`, … counting over the whole process as Keras does.

    >>> reset_names(); auto_name("dense"), auto_name("dense")
    ('dense', 'dense_1')
    """
    count = _counters.get(prefix, 0)
    _counters[prefix] = count + 1
    return prefix if count == 0 else f"{prefix}_{count}"


def reset_names() -> None:
    """Starts the counters of automatic names anew."""
    _counters.clear()
