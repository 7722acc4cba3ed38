"""A torch module whose weights are Hornbeam's: described when added, made when needed, tracked wherever they are put.

What `Layer` has of weights, attributes and dtypes, and how it behaves under what torch does to modules.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from hornbeam.core import dtype as dtypes
from hornbeam.core import registry, tracking
from hornbeam.core.init_args import is_builtin
from hornbeam.core.random import make_default_seed
from hornbeam.core.weights import LazyDict, Variable, WeightSpec, become, dress, is_lazy, placeholder, raw, settle, to_numpy
from hornbeam.graph.context import context


class WeightedModule(nn.Module):
    """A module with weights, tracked containers and a dtype policy; the lower half of `Layer`."""

    built: bool = False
    name: str

    # -- adding weights

    def add_weight(
        self,
        shape: Any = None,
        initializer: Any = None,
        dtype: Any = None,
        trainable: bool = True,
        autocast: bool = True,
        regularizer: Any = None,
        constraint: Any = None,
        aggregation: str = "none",
        overwrite_with_gradient: bool = False,
        name: str | None = None,
        storage: tuple[int, ...] | None = None,
    ) -> Variable:
        """Adds a weight: a parameter, or a buffer where it is not trainable. It takes no memory before it is used.

        Args:
            shape: tuple of integers; () unless given.
            initializer: name, object or callable `f(shape, dtype)`; Glorot uniform for floats, zeros for other dtypes.
            dtype: dtype; the layer's variable dtype unless given.
            trainable: whether gradients are taken.
            autocast: whether it is cast to the compute dtype inside calls.
            regularizer, constraint: by name or object.
            name: its name; also its key in `state_dict` until it is assigned to an attribute.
            storage: order of its axes in memory, where a kernel wants another than the logical one.

        Returns:
            the weight.
        """
        if isinstance(shape, str):
            shape, name = (initializer if initializer is not None else ()), shape
            initializer = None
        spec = self._weight_spec(shape, initializer, dtype, name)
        spec.regularizer = registry.of_kind("regularizer").get(regularizer)
        spec.constraint = registry.of_kind("constraint").get(constraint)
        spec.autocast, spec.storage = autocast, storage
        slot = "_parameters" if trainable and spec.dtype.is_floating_point else "_buffers"
        held = self.__dict__[slot]
        existing = dict.get(held, spec.key)
        if existing is not None and is_lazy(existing):
            weight = become(existing, placeholder(spec, self._trainable), self._moves)
        elif existing is not None and spec.key not in self._specs and tuple(existing.shape) == tuple(spec.shape):
            weight = settle(existing, spec, self._trainable)
            dict.__setitem__(held, spec.key, weight)
        else:
            weight = placeholder(spec, trainable and self._trainable and slot == "_parameters")
            held = self._lazy_slot(slot)
            while spec.key in held or spec.key in self._specs:
                spec.key += "_"
            dict.__setitem__(held, spec.key, weight)
        weight.aggregation, weight.overwrite_with_gradient = aggregation, overwrite_with_gradient
        self._specs[spec.key] = spec
        self.__dict__["_ready"] = False
        return weight

    def _weight_spec(self, shape: Any, initializer: Any, dtype: Any, name: str | None) -> WeightSpec:
        kind = dtypes.to_torch(dtype if dtype is not None else self.variable_dtype)
        if initializer is None:
            initializer = "glorot_uniform" if kind.is_floating_point else "zeros"
        made = registry.of_kind("initializer").get(initializer) if isinstance(initializer, (str, dict, type)) else initializer
        seed = None
        if callable(made) and not is_builtin(type(made)):
            seed = make_default_seed()
        elif hasattr(getattr(made, "seed", None), "next"):
            made = type(made).from_config({**made.get_config(), "seed": made.seed.next()})
        if shape is None or isinstance(shape, int):
            shape = () if shape is None else (shape,)
        shape = tuple(int(d) for d in shape)
        if any(d < 0 for d in shape):
            raise ValueError(f"Weight {name!r} of layer {self.name!r} cannot have shape {shape}.")
        name = name or f"variable_{len(self._specs)}" if len(self._specs) else name or "variable"
        device = torch.get_default_device()
        path = "/".join((*enclosing(self), name))
        return WeightSpec(
            key=tracking.identifier(name), name=name, path=path, shape=shape, dtype=kind, initializer=made, seed=seed,
            device=None if device.type in ("cpu", "meta") else device,
        )  # fmt: skip

    def _lazy_slot(self, slot: str) -> Any:
        held = self.__dict__[slot]
        if type(held) is not LazyDict:
            lazy = LazyDict(self, slot)
            for k, v in held.items():
                dict.__setitem__(lazy, k, v)
            self.__dict__[slot] = held = lazy
        return held

    def _declared_weights(self) -> tuple[str, ...]:
        """Names of the weights that `build` will add: an optimizer made before it can hold them already."""
        return ()

    def reset_parameters(self) -> None:
        """Writes initial values into the weights, on whatever device they are."""
        for slot in ("_parameters", "_buffers"):
            for key, weight in self.__dict__[slot].items():
                spec = self._specs.get(key)
                if spec is not None:
                    with torch.no_grad():
                        weight.copy_(spec.make())

    # -- attributes

    def __getattr__(self, name: str) -> Any:
        d = self.__dict__
        held = d["_parameters"]
        weight = held.get(name) if name in held else None
        if weight is not None:
            if type(weight) is not Variable:
                weight = dress(weight, d["_specs"].get(name))
            if d["_casts"] and context.depth and (torch.compiler.is_compiling() or not is_lazy(weight)):
                return self._cast(name, weight)
            return weight
        if name in d["_buffers"]:
            weight = d["_buffers"][name]
            return weight if weight is None or type(weight) is Variable else dress(weight, d["_specs"].get(name))
        if name in d["_modules"]:
            return d["_modules"][name]
        if name in held:
            return None
        if isinstance(getattr(type(self), name, None), property):
            return getattr(type(self), name).__get__(self)  # raised an AttributeError of its own: let it say why
        if name == "name" and "_named" not in d:
            raise AttributeError(
                f"{type(self).__name__}.__init__ has not called `super().__init__()`. Let it do so before anything else."
            )
        if name == "_initialize_hook" and not d.get("_ready"):
            return True
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def _cast(self, name: str, weight: torch.Tensor) -> torch.Tensor:
        """The weight in the compute dtype, cast once in each outermost call."""
        spec = self._specs.get(name)
        if not weight.is_floating_point() or (spec is not None and not spec.autocast) or weight.dtype is self._compute:
            return weight
        if torch.compiler.is_compiling():
            return weight.to(self._compute)
        if context.casts is None:
            context.casts = {}
        key = (id(self), name)
        cast = context.casts.get(key)
        if cast is None:
            cast = context.casts[key] = weight.to(self._compute)
            cast.assign = getattr(weight, "assign", None)  # type: ignore[attr-defined]
        return cast

    def __setattr__(self, name: str, value: Any) -> None:
        d = self.__dict__
        if type(value) in _PLAIN and not (name in d["_parameters"] or name in d["_buffers"] or name in d["_modules"]):
            object.__setattr__(self, name, value)
            return
        if isinstance(value, torch.Tensor) or (value is None and (name in d["_parameters"] or name in d["_buffers"])):
            for slot in ("_parameters", "_buffers"):
                if name in d[slot]:
                    d.pop(name, None)
                    dict.__setitem__(d[slot], name, value)
                    return
            if isinstance(value, Variable) and self._adopt(name, value):
                return
        elif isinstance(value, (list, tuple, dict)) and name not in _INTERNAL:
            value = self._container(name, value)
        elif hasattr(value, "update_state") and hasattr(value, "reset_state"):
            self._metrics.append(value)
        if isinstance(value, nn.Module):
            _check_free(type(self), name, value)
            d.pop(name, None)
        elif name in d["_modules"]:
            d.pop(name, None)
            if value is not None:
                del d["_modules"][name]
        if name == "call" and callable(value):
            d["forward"] = value
        super().__setattr__(name, value)
        if name in d["_modules"] and not isinstance(getattr(type(self), name, self), (property, nn.Module)):
            d[name] = value  # a class attribute, such as `loss`, would be found before the child

    def _adopt(self, name: str, value: Variable) -> bool:
        """Registers a weight under the attribute's name: one of this layer's own, or a Variable made by itself."""
        key = value._spec.key if value._spec is not None else None
        for slot in ("_parameters", "_buffers"):
            held = self.__dict__[slot]
            if key is not None and dict.get(held, key) is value:
                if key != name and not self.__dict__.get("_assigned", {}).get(key):
                    entries = {name if k == key else k: v for k, v in dict.items(held)}
                    dict.clear(held)
                    dict.update(held, entries)
                    self._specs[name] = self._specs.pop(key)
                    self._specs[name].key = name
                elif key != name:
                    return False
                self.__dict__.setdefault("_assigned", {})[name] = True
                return True
        if type(value) is Variable and not value.requires_grad and self._trainable:
            self.register_buffer(name, value)
            self._specs.setdefault(name, value._spec)
            return True
        if type(value) is Variable:
            self._specs.setdefault(name, value._spec)
        return False

    def _container(self, name: str, value: Any) -> Any:
        """What stands on the attribute for a list, tuple or dict: a module where it holds nothing but layers."""
        made = tracking.as_module(value) if tracking.holds_modules(value) else None
        if made is not None:
            return made
        self._modules.pop(f"{name}_", None)
        if tracking.holds_modules(value):
            self.add_module(f"{name}_", tracking.hold(value))
        return tracking.track(value, functools.partial(self._changed, name))

    def _changed(self, name: str, value: list[Any] | dict[str, Any]) -> None:
        """Takes up the layers that came into, or went from, a list or dict on the attribute."""
        if self.__dict__.get(name) is value:
            setattr(self, name, list(value) if isinstance(value, list) else dict(value))

    def __delattr__(self, name: str) -> None:
        self._modules.pop(f"{name}_", None) if name in self.__dict__ else None
        self._specs.pop(name, None)
        super().__delattr__(name)

    # -- what torch does to modules

    def _apply(self, fn: Callable[[Any], Any], recurse: bool = True) -> Any:
        if not self.built:
            self._moves.append(fn)
        super()._apply(fn if self.built else functools.partial(_move_known, fn), recurse)
        moved = fn(torch.empty(0, dtype=dtypes.to_torch(self.variable_dtype)))
        if moved.is_floating_point() and moved.dtype is not dtypes.to_torch(self.variable_dtype):
            self.dtype_policy = dtypes.standardize_dtype(moved.dtype)
        self._settle()
        return self

    def _settle(self) -> None:
        for slot in ("_parameters", "_buffers"):
            held = self.__dict__[slot]
            if type(held) is dict:
                for key, weight in held.items():
                    if weight is not None and type(weight) is not Variable:
                        held[key] = settle(weight, self._specs.get(key), False if slot == "_buffers" else None)

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        if not self.built:
            metadata = getattr(destination, "_metadata", {}).get(prefix[:-1])
            if metadata is not None:
                metadata["unbuilt"] = True  # read back, it may lack the weights that were not made
            for key, weight in self._parameters.items():
                if weight is not None and not is_lazy(weight):
                    destination[prefix + key] = weight if keep_vars else weight.detach()
            for key, value in self._buffers.items():
                if value is not None and key not in self._non_persistent_buffers_set:
                    destination[prefix + key] = value if keep_vars else value.detach()
            return
        super()._save_to_state_dict(destination, prefix, keep_vars)

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        if not self.built:
            waiting: dict[str, Any] = dict(self._parameters.items())
            for key, weight in waiting.items():
                given = state_dict.get(prefix + key)
                if given is not None and is_lazy(weight):
                    weight.materialize(given.shape, dtype=given.dtype)
        local_metadata, _, missing, *_ = args
        before = len(missing)
        super()._load_from_state_dict(state_dict, prefix, *args)
        if not self.built and local_metadata.get("unbuilt"):
            unmade = {prefix + k for k, weight in self._parameters.items() if weight is not None and is_lazy(weight)}
            missing[before:] = [k for k in missing[before:] if k not in unmade]
        self._settle()

    def __getstate__(self) -> dict[str, Any]:
        state = dict(self.__dict__)
        tracked = [k for k, v in state.items() if isinstance(v, (tracking.TrackedList, tracking.TrackedDict))]
        state.update(_inbound_nodes=[], _loss_owners=[], _losses=[], _tracked=tracked)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        for name in self.__dict__.pop("_tracked", ()):
            self.__dict__[name] = tracking.track(self.__dict__[name], functools.partial(self._changed, name))
        self._settle()

    def extra_repr(self) -> str:
        """Returns what `print(model)` shows in a layer's brackets."""
        return f"name={self.name}, built={self.built}"

    # -- weights

    @property
    def weights(self) -> list[Any]:
        """All weights of the layer and its sublayers; trainable ones of each layer before the others."""
        return unique(_walk(self, lambda m: (*m._parameters.values(), *_named_buffers(m))))

    variables = weights

    @property
    def trainable_weights(self) -> list[Any]:
        """The weights that learn."""
        return [w for w in unique(_walk(self, lambda m: m._parameters.values())) if w.requires_grad]

    @property
    def non_trainable_weights(self) -> list[Any]:
        """The weights that do not learn: frozen ones, moving statistics."""
        learning = {id(w) for w in self.trainable_weights}
        return [w for w in self.weights if id(w) not in learning]

    trainable_variables = trainable_weights
    non_trainable_variables = non_trainable_weights

    @property
    def trainable(self) -> bool:
        """Whether the weights learn. Setting it sets it for every sublayer too."""
        return self._trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        for module in self.modules():
            if isinstance(module, WeightedModule):
                module.__dict__["_trainable"] = bool(value)
            for weight in raw(module, "_parameters").values():
                if weight is not None and (weight.is_floating_point() or is_lazy(weight)):
                    weight.requires_grad_(bool(value))

    def get_weights(self) -> list[Any]:
        """Returns the weights' values as a list of NumPy arrays, in the order of `weights`."""
        return [to_numpy(w) for w in self.weights]

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Sets the weights' values from a list of arrays, in the order of `weights`; all are checked before one is written."""
        own = self.weights
        if len(own) != len(weights):
            way = "" if own or self.built else " It has no weights yet: call it on inputs, or build(input_shape), first."
            raise ValueError(
                f"set_weights of {self.name!r} needs {len(own)} arrays, one per weight. Received: {len(weights)}.{way}"
            )
        given = [torch.as_tensor(v) for v in weights]
        wrong = [
            f"{getattr(w, 'path', i)}: {tuple(w.shape)}, given {tuple(v.shape)}"
            for i, (w, v) in enumerate(zip(own, given, strict=True))
            if w.shape != v.shape
        ]
        if wrong:
            raise ValueError(f"set_weights of {self.name!r}: shapes differ. " + "; ".join(wrong))
        with torch.no_grad():
            for w, v in zip(own, given, strict=True):
                w.copy_(v)

    def add_variable(
        self, shape: Any, initializer: Any, dtype: Any = None, trainable: bool = True, autocast: bool = True,
        regularizer: Any = None, constraint: Any = None, name: str | None = None,
    ) -> Variable:  # fmt: skip
        """Adds a weight; `add_weight` under Keras's other name."""
        return self.add_weight(shape, initializer, dtype, trainable, autocast, regularizer, constraint, name=name)

    def _own_weights(self) -> list[Any]:
        return [w for w in (*self._parameters.values(), *_named_buffers(self)) if w is not None and not is_lazy(w)]

    def save_own_variables(self, store: Any) -> None:
        """Writes the layer's own weights, not its sublayers', into a dict-like store under "0", "1", …"""
        for i, weight in enumerate(self._own_weights()):
            store[str(i)] = to_numpy(weight)

    def load_own_variables(self, store: Any) -> None:
        """Reads the layer's own weights from a dict-like store; all shapes are checked before one is written."""
        own = self._own_weights()
        if len(store) != len(own):
            state = "has not been built" if not self.built else f"has {len(own)} weights of its own"
            raise ValueError(f"Layer {self.name!r} {state}, but the store holds {len(store)}.")
        given = [torch.as_tensor(store[str(i)][...]) for i in range(len(own))]
        for weight, value in zip(own, given, strict=True):
            if weight.shape != value.shape:
                raise ValueError(
                    f"Weight {getattr(weight, 'path', '')!r} has shape {tuple(weight.shape)}; "
                    f"the store holds {tuple(value.shape)}."
                )
        with torch.no_grad():
            for weight, value in zip(own, given, strict=True):
                weight.copy_(value)

    def count_params(self) -> int:
        """Returns the number of numbers in all weights, without making them."""
        seen: dict[int, int] = {}
        for module in self.modules():
            for slot in ("_parameters", "_buffers"):
                for key, weight in raw(module, slot).items():
                    if (
                        weight is not None
                        and not is_lazy(weight)
                        and (slot == "_parameters" or key in getattr(module, "_specs", ()))
                    ):
                        seen[id(weight)] = weight.numel()
        return sum(seen.values())

    @property
    def path(self) -> str:
        """The names of the layers around it and its own, joined by "/"."""
        return self.__dict__.get("_path") or self.name

    # -- dtypes

    @property
    def dtype_policy(self) -> dtypes.DTypePolicy:
        """The policy in force."""
        return self._policy

    @dtype_policy.setter
    def dtype_policy(self, value: Any) -> None:
        d = self.__dict__
        d["_policy"] = dtypes.get_policy(value)
        d["_compute"] = dtypes._TORCH.get(d["_policy"].compute_dtype, torch.float32)
        d["_casts"] = d["_policy"].compute_dtype != d["_policy"].variable_dtype

    @property
    def dtype(self) -> str:
        """The weights' dtype as a string."""
        return self._policy.variable_dtype

    variable_dtype = dtype

    @property
    def compute_dtype(self) -> str:
        """The dtype of inputs and outputs as a string."""
        return self._policy.compute_dtype

    @property
    def input_dtype(self) -> str:
        """The dtype inputs are cast to."""
        return self._policy.compute_dtype


_PLAIN = frozenset((int, float, str, bool, type(None), torch.dtype))
_INTERNAL = frozenset(
    ("_losses", "_metrics", "_inbound_nodes", "_specs", "_moves", "_loss_owners", "_build_shapes", "_init_args")
)


def _move_known(fn: Callable[[Any], Any], value: Any) -> Any:
    """Applies a move to a value; an unbuilt one, of which torch cannot ask the rank, stays until it is built."""
    try:
        return fn(value)
    except ValueError:
        if is_lazy(value):
            return value
        raise


def enclosing(layer: WeightedModule) -> tuple[str, ...]:
    names = context.names
    return names if names and names[-1] == layer.name else (*names, layer.name)


def _walk(layer: nn.Module, get: Callable[[Any], Any]) -> Any:
    for module in layer.modules():
        yield from get(module)


def _named_buffers(module: nn.Module) -> Any:
    specs = getattr(module, "_specs", None)
    return (b for k, b in module._buffers.items() if specs is None or k in specs)


def unique(values: Any) -> list[Any]:
    return list({id(v): v for v in values if v is not None and not (isinstance(v, torch.Tensor) and is_lazy(v))}.values())


def _check_free(cls: type, name: str, value: nn.Module) -> None:
    """Raises where a child's name is a property, which would be found in its place."""
    found = getattr(cls, name, None)
    listed = name == "layers" and isinstance(value, tracking.CONTAINERS)  # the property gives what is in it
    if isinstance(found, property) and found.fset is None and name not in ("input", "output") and not listed:
        raise AttributeError(f"{cls.__name__}.{name} is a property: give this {type(value).__name__} another attribute's name.")
