"""Layers and what they hold as constructor calls, with the arguments that differ from the defaults."""

from __future__ import annotations

import inspect
import re
import types
from typing import Any

import torch
from torch import nn

from hornbeam.core import registry
from hornbeam.core.init_args import Configurable, is_builtin, signature_names
from hornbeam.core.layer import Layer
from hornbeam.core.weights import Variable
from hornbeam.export.code import Code, Hole, code, joined
from hornbeam.export.functions import spelling
from hornbeam.export.modules import module_arguments
from hornbeam.export.naming import Names, literal
from hornbeam.export.own import CannotWrite, Own
from hornbeam.export.tensors import tensor

_BY_AXIS = frozenset(("kernel_size", "strides", "pool_size", "dilation_rate", "size"))
_KEYWORDS_ONLY = frozenset(("Embedding", "MultiHeadAttention", "GroupQueryAttention"))
_KEPT_AS = {("Bidirectional", "layer"): "forward_layer"}
_BUILT_ARGUMENTS = frozenset(  # layers that complete their arguments when they are built
    ("MultiHeadAttention", "LayerNormalization", "GroupNormalization", "UnitNormalization", "RMSNormalization")
)
_FIRST_AS_IS = frozenset(("pool_size", "padding", "cropping", "size", "layer"))


class Objects:
    """Writes objects for one file, and collects what the file must import for them."""

    def __init__(self, names: Names | None = None) -> None:
        self.names = names or Names()
        self.own = Own(self.names)
        self.imports: dict[str, None] = {}
        self.named: dict[int, str] = {}  # names for layers that have none of their own
        self._chosen: dict[Any, list[str]] = {}

    def need(self, *modules: str) -> None:
        """Notes modules that the file must import."""
        self.imports.update(dict.fromkeys(modules))

    # -- values

    def _data(self, spelled: str) -> str:
        self.need("base64", "zlib")
        name = self.names.take("DATA")
        self.own.copies.append(f"{name} = {spelled}")
        return name

    def value(self, value: Any, hint: str = "") -> Code:
        """Returns the expression of a constructor's argument: plain literals as Holes, where `hint` names the argument."""
        text = literal(value)
        if text is not None:
            if "torch." in text:
                self.need("torch")
            return (Hole(text, hint),) if hint and value is not None and not isinstance(value, bool) else (text,)
        if isinstance(value, (Variable, nn.Parameter)):
            self.need("torch")
            return (f"torch.nn.Parameter(torch.zeros({', '.join(map(str, value.shape)) or '()'}))",)
        if isinstance(value, torch.Tensor) or type(value).__module__ == "numpy":
            self.need("torch")
            return (tensor(torch.as_tensor(value), self._data),)
        if isinstance(value, (list, tuple)):
            inner = joined(self.value(v) for v in value)
            return code("[", inner, "]") if isinstance(value, list) else code("(", inner, ",)" if len(value) == 1 else ")")
        if isinstance(value, dict):
            return code("{", joined(code(self.value(k), ": ", self.value(v)) for k, v in value.items()), "}")
        return self._object(value)

    def _object(self, value: Any) -> Code:
        if isinstance(value, Layer) or (isinstance(value, Configurable) and not isinstance(value, nn.Module)):
            return self.constructor(value)
        if isinstance(value, nn.Module):
            return self.module(value)
        if callable(value):
            spelled = self.function(value)
            return (spelled[1:-1] if spelled.startswith("(lambda") else spelled,)
        if hasattr(value, "get_config"):
            return self._from_config(value, value.get_config())
        raise CannotWrite(f"{value!r} ({type(value).__name__}) has no source that could be written")

    def function(self, value: Any) -> str:
        """Returns the expression of a function: the quoted name of one of Hornbeam's, torch's own name, or the user's."""
        for known in registry._registries:
            if known.base is None and known.objects.get(getattr(value, "__name__", "")) is value:
                return literal(value.__name__) or ""
        public = spelling(value)
        if public is not None:
            self.need(public.partition(".")[0])
            return public
        if isinstance(value, (types.FunctionType, type)) and not value.__module__.startswith("hornbeam."):
            return self.own.name_of(value)
        raise CannotWrite(f"{value!r} ({type(value).__name__}) has no source that could be written")

    # -- constructors

    def constructor(self, thing: Any, skip: tuple[str, ...] = ()) -> Code:
        """Returns the constructor call that makes an equal object."""
        cls = type(thing)
        if not is_builtin(cls):
            return self._custom(thing, skip)
        if isinstance(thing, Layer):
            self.need("layers")
            return code(f"layers.{registry.path_of(cls)[1]}(", self._arguments(thing, skip), ")")
        module, name, _ = registry.path_of(cls)
        arguments = self._arguments(thing, ())
        known = next((r for r in registry._registries if r.objects.get(name) is cls), None)
        if not arguments and known is not None:
            return (literal(registry.snake_case(name)) or "",)
        self.need("keras")
        return code(f"{module}.{name}(", arguments, ")")

    def _arguments(self, thing: Any, skip: tuple[str, ...]) -> Code:
        cls = type(thing)
        shown: list[Any] = []
        differing = self._differing(thing)
        required = _required(cls)
        keywords = cls.__name__ in _KEYWORDS_ONLY
        for place, name in enumerate(n for n in signature_names(cls) if n not in skip):
            if name not in differing:
                continue
            hint = name if isinstance(thing, Layer) else ""
            value = self._argument(thing, name, differing[name], hint)
            bare = place == len(shown) and not keywords and (name in required or (place == 0 and name in _FIRST_AS_IS))
            shown.append(value if bare else code(f"{name}=", value))
        return joined([*shown, *self.common(thing, skip)])

    def _differing(self, thing: Any) -> dict[str, Any]:
        """The arguments, and their values, that make an equal object: those required, and those that differ from the defaults."""
        cls, config = type(thing), thing.get_config()
        names = [n for n in signature_names(cls) if n in config and n not in ("name", "dtype", "trainable")]
        live = {n: _shown(n, getattr(thing, _KEPT_AS.get((cls.__name__, n), n), config[n]), config[n]) for n in names}
        build = thing.get_build_config() if isinstance(thing, Layer) and cls.__name__ in _BUILT_ARGUMENTS else None
        key = (cls, repr([config[n] for n in names]), repr(build))
        if key not in self._chosen:
            self._chosen[key] = self._choose(thing, names, config, live, build)
        return {n: live[n] for n in self._chosen[key]}

    def _choose(
        self, thing: Any, names: list[str], config: dict[str, Any], live: dict[str, Any], build: Any
    ) -> list[str]:  # fmt: skip
        cls = type(thing)
        chosen = [n for n in names if n in _required(cls)]
        if any(isinstance(live[n], nn.Module) or callable(live[n]) for n in chosen):
            defaults = {n: p.default for n, p in _parameters(cls).items()}
            differs = lambda n: config[n] != defaults.get(n, ...) and not (config[n] == {} and defaults.get(n, ...) is None)  # noqa: E731
            return [n for n in names if n in chosen or (differs(n) and not self._is_mirror(thing, n))]
        named = {"name": "base"} if isinstance(thing, Layer) else {}
        while True:  # one argument's default may come from another: strides from pool_size
            try:
                other = cls(**{n: live[n] for n in chosen}, **named)
                if build is not None:
                    other.build_from_config(build)
                made = other.get_config()
            except Exception:  # some arguments only go together
                defaults = {n: p.default for n, p in _parameters(cls).items()}
                return [n for n in names if n in chosen or config[n] != defaults.get(n, ...)]
            more = next((n for n in names if n not in chosen and config[n] != made.get(n, ...)), None)
            if more is None:
                return chosen
            chosen = [n for n in names if n in (*chosen, more)]

    def common(self, thing: Any, skip: tuple[str, ...] = ()) -> list[Code]:
        """The arguments that all layers share: trainable, dtype, name."""
        shown: list[Code] = []
        if isinstance(thing, Layer):
            if not thing.trainable and "trainable" not in skip:
                shown.append(("trainable=False",))
            if thing.dtype_policy.name != "float32" and "dtype" not in skip:
                shown.append(code("dtype=", literal(thing.dtype_policy.name)))
            if id(thing) in self.named and "name" not in skip:
                shown.append(code("name=", Hole(literal(self.named[id(thing)]) or "", "name")))
            elif getattr(thing, "_named", False) and "name" not in skip:
                shown.append(code("name=", Hole(literal(thing.name) or "", "name")))
        return shown

    def _argument(self, thing: Any, name: str, value: Any, hint: str) -> Code:
        if type(thing).__name__ != "Bidirectional" or name not in ("layer", "backward_layer"):
            return self.value(value, hint)
        direction = "forward_" if name == "layer" else "backward_"  # which Bidirectional put before the name it was given
        plain = value.name.removeprefix(direction)
        automatic = re.fullmatch(rf"{registry.snake_case(type(value).__name__)}(_\d+)?", plain)
        named = () if automatic else (code("name=", Hole(literal(plain) or "", "name")),)
        inner = self._arguments(value, ("name", "zero_output_for_mask"))
        self.need("layers")
        return code(f"layers.{type(value).__name__}(", joined([*([inner] if inner else []), *named]), ")")

    def _is_mirror(self, thing: Any, name: str) -> bool:
        """Whether an argument is what Bidirectional makes of its other one."""
        if name != "backward_layer":
            return False
        ahead, back = ({k: v for k, v in one.get_config().items() if k not in ("name", "go_backwards", "seed")}
                       for one in (thing.forward_layer, thing.backward_layer))  # fmt: skip
        return ahead == back

    def _custom(self, thing: Any, skip: tuple[str, ...]) -> Code:
        cls = type(thing)
        name = self.own.name_of(cls)
        if isinstance(thing, nn.Module) and not isinstance(thing, Layer):
            return self.module(thing)
        args, kwargs = thing.__dict__.get("_init_args") or getattr(thing, "_init_args", ((), {}))
        known = _parameters(cls)
        kwargs = {k: v for k, v in kwargs.items() if k not in skip and not (k in known and _same(known[k].default, v))}
        shown = [self.value(a) for a in args]
        shown += [code(f"{k}=", self.value(v, k)) for k, v in kwargs.items() if k not in ("name", "dtype", "trainable")]
        common = [c for c in self.common(thing, skip) if type(c[0]) is str and c[0].partition("=")[0] in signature_names(cls)]
        return code(f"{name}(", joined([*shown, *common]), ")")

    def _from_config(self, thing: Any, config: dict[str, Any]) -> Code:
        return code(self.own.name_of(type(thing)), "(", joined(code(f"{k}=", self.value(v)) for k, v in config.items()), ")")

    # -- plain torch modules

    def module(self, module: nn.Module) -> Code:
        """Returns the constructor call of a plain torch module.

        Raises:
            CannotWrite: its constructor's arguments are not known.
        """
        cls = type(module)
        self.need("torch")
        args, kwargs = module_arguments(module)
        name = f"torch.nn.{cls.__name__}" if getattr(nn, cls.__name__, None) is cls else self.own.name_of(cls)
        inner = [self.value(a) for a in args] + [code(f"{k}=", self.value(v)) for k, v in kwargs.items()]
        return code(f"{name}(", joined(inner), ")")


def _shown(name: str, live: Any, config: Any) -> Any:
    if name == "layer" and hasattr(live, "name"):
        return live
    if isinstance(live, nn.ModuleList):
        return list(live)
    if isinstance(live, (nn.Module, Configurable)) or callable(live):
        return live
    if name in _BY_AXIS and isinstance(live, (tuple, list)) and len(set(live)) == 1:
        return live[0]
    if isinstance(live, (list, tuple)) and any(isinstance(v, (nn.Module, Configurable)) or callable(v) for v in live):
        return list(live)
    return live if literal(live) is not None or isinstance(live, torch.Tensor) else config


def _parameters(cls: type) -> dict[str, Any]:
    return dict(list(inspect.signature(cls.__init__).parameters.items())[1:])  # type: ignore[misc]


def _required(cls: type) -> list[str]:
    kinds = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    return [n for n, p in _parameters(cls).items() if p.default is p.empty and p.kind not in kinds]


def _same(default: Any, value: Any) -> bool:
    return type(default) is type(value) and literal(value) is not None and default == value
