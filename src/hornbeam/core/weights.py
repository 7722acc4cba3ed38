"""Weights: described when they are added, made when somebody needs a value, and always torch parameters or buffers.

A weight is a `Variable`, a torch Parameter from its first moment: its shape, dtype and identity are fixed when it is added, but
its memory is one element until values are asked for. The dictionaries `_parameters` and `_buffers` of a layer are `LazyDict`s
until then: whoever reads a value through them gets real ones, made outside every torch mode, and the dictionary becomes plain.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.parameter import UninitializedParameter, is_lazy

from hornbeam.core import dtype as dtypes
from hornbeam.core import registry
from hornbeam.core.clean import clean_context, is_clean
from hornbeam.core.errors import did_you_mean
from hornbeam.graph import tree
from hornbeam.graph.context import context


class WeightSpec:
    """What belongs to (layer, key), whatever tensor stands there at the moment.

    Args:
        storage: the order of axes in memory, where it is not the logical one (a kernel that torch wants channels-last).
    """

    __slots__ = (
        "aggregation", "autocast", "constraint", "device", "dtype", "initializer", "key", "name", "overwrite_with_gradient",
        "path", "regularizer", "seed", "shape", "storage", "synchronization",
    )  # fmt: skip

    key: str
    name: str
    path: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device | None
    storage: tuple[int, ...] | None
    seed: int | None
    autocast: bool
    initializer: Any
    regularizer: Any
    constraint: Any

    def __init__(self, **values: Any) -> None:
        for slot in self.__slots__:
            setattr(self, slot, values.get(slot))

    def __getstate__(self) -> dict[str, Any]:
        return {slot: getattr(self, slot) for slot in self.__slots__}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for slot, value in state.items():
            setattr(self, slot, value)

    def make(self) -> torch.Tensor:
        """Returns the initial value, the same whenever it is asked for."""
        with clean_context():
            value = self._initial()
            if tuple(value.shape) != tuple(self.shape):
                raise ValueError(
                    f"Weight {self.path!r} has shape {tuple(self.shape)}, but its initializer returned {tuple(value.shape)}."
                )
            return in_storage_order(value.to(self.dtype).to(self.device or "cpu"), self.storage)

    def _initial(self) -> torch.Tensor:
        initializer, name = self.initializer, dtypes.standardize_dtype(self.dtype)
        if not callable(initializer):
            return torch.as_tensor(initializer).clone()
        if self.seed is None:
            return torch.as_tensor(initializer(tuple(self.shape), dtype=name))
        state = torch.get_rng_state()
        torch.default_generator.manual_seed(self.seed)
        try:
            return torch.as_tensor(initializer(tuple(self.shape), dtype=name))
        finally:
            torch.set_rng_state(state)


def in_storage_order(value: torch.Tensor, order: tuple[int, ...] | None) -> torch.Tensor:
    """Returns the tensor with the same logical axes, lying in memory in the given order of axes."""
    if order is None:
        return value.contiguous()
    inverse = [order.index(i) for i in range(len(order))]
    return value.permute(order).contiguous().permute(inverse)


_NOTHING = nullcontext()
_MAKES_PARAMETER = nn.Parameter.__new__.__code__


class _VariableMeta(type(nn.Parameter)):  # type: ignore[misc]
    def __instancecheck__(cls, instance: Any) -> bool:
        return type.__instancecheck__(cls, instance) or getattr(instance, "_spec", None) is not None


def _option(name: str, choices: tuple[Any, ...], default: Any) -> property:
    """A setting of a weight, kept in its spec."""

    def get(weight: Variable) -> Any:
        found = getattr(weight._spec, name, None)
        return default if found is None else found

    def put(weight: Variable, value: Any) -> None:
        if value not in (None, *choices):
            close = did_you_mean(value, [c for c in choices if isinstance(c, str)])
            raise ValueError(f"Variable {weight.name!r}: {name} must be one of {choices}.{close} Received: {name}={value!r}")
        setattr(weight._spec, name, choices[0] if value is None else value)

    return property(get, put, doc=f"Keras's `{name}` of the variable: one of {choices}.")


class Variable(nn.Parameter, metaclass=_VariableMeta):
    """A weight: a torch Parameter that also answers as a Keras variable.

    Args:
        initializer: the value (tensor, array, number), or a callable `f(shape, dtype)`, or an initializer's name.
        shape: tuple of integers; needed with a callable.
        dtype: dtype of the weight; `config.floatx()` for floats unless given.
        trainable: whether gradients are taken.
        name: a name.

    >>> w = Variable([1.0, 2.0], name="scale")
    >>> _ = w.assign([3.0, 4.0])
    >>> w.numpy().tolist(), w.name
    ([3.0, 4.0], 'scale')
    """

    _spec: WeightSpec | None = None
    _lazy: bool = False

    def __new__(
        cls,
        initializer: Any = None,
        shape: Any = None,
        dtype: Any = None,
        trainable: bool = True,
        autocast: bool = True,
        aggregation: str = "none",
        synchronization: str = "auto",
        name: str | None = None,
        **kwargs: Any,
    ) -> Variable:
        if isinstance(initializer, str):
            initializer = registry.of_kind("initializer").get(initializer)
        if callable(initializer):
            if shape is None:
                raise ValueError(f"Variable {name!r} has a callable initializer, so it needs a shape. Received: shape=None")
            spec = WeightSpec(shape=tuple(shape), dtype=dtypes.to_torch(dtype), initializer=initializer)
        else:
            value = torch.as_tensor(initializer)
            kept = dtype if dtype is not None else (None if value.dtype is torch.float64 else value.dtype)
            spec = WeightSpec(shape=tuple(value.shape), dtype=dtypes.to_torch(kept), initializer=value.detach())
        spec.name, spec.path, spec.autocast = name or "variable", name or "variable", autocast
        made = of_spec(spec, trainable and spec.dtype.is_floating_point, spec.make())
        made.aggregation, made.synchronization = aggregation, synchronization
        return made

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    # -- what a Keras variable answers

    @property
    def name(self) -> str:  # type: ignore[override]
        """The weight's own name, such as "kernel"."""
        return self._spec.name if self._spec is not None else "variable"

    @property
    def path(self) -> str:
        """The names of the layers around it and its own, such as "sequential/dense/kernel"."""
        return self._spec.path if self._spec is not None else "variable"

    @property
    def value(self) -> torch.Tensor:
        """The tensor itself, or what a StatelessScope says it is."""
        if context.stateless is not None:
            return context.stateless.get_current_value(self)
        self.materialize()
        return self

    @property
    def trainable(self) -> bool:
        """Whether gradients are taken."""
        return self.requires_grad

    @trainable.setter
    def trainable(self, value: bool) -> None:
        self.requires_grad_(bool(value))

    @property
    def initializer(self) -> Any:
        """What makes the initial value."""
        return self._spec.initializer if self._spec is not None else None

    @property
    def regularizer(self) -> Any:
        """The penalty on this weight, or None. It may be set, also by name."""
        return self._spec.regularizer if self._spec is not None else None

    @regularizer.setter
    def regularizer(self, value: Any) -> None:
        self._of_spec("regularizer", value)

    @property
    def constraint(self) -> Any:
        """The projection that follows each update of this weight, or None. It may be set, also by name."""
        return self._spec.constraint if self._spec is not None else None

    @constraint.setter
    def constraint(self, value: Any) -> None:
        self._of_spec("constraint", value)

    def _of_spec(self, kind: str, value: Any) -> None:
        found = None if value is None else registry.of_kind(kind).get(value)
        if found is not None and not callable(found):
            raise ValueError(f"Variable {self.name!r}: {kind} must be a name or a callable. Received: {kind}={value!r}")
        if self._spec is None:
            raise ValueError(f"Variable {self.name!r} takes no {kind}: it was neither made as a Variable nor by a layer.")
        setattr(self._spec, kind, found)

    aggregation = _option("aggregation", ("none", "mean", "sum", "only_first_replica"), "none")
    synchronization = _option("synchronization", ("none", "on_read", "on_write", "auto"), "auto")
    overwrite_with_gradient = _option("overwrite_with_gradient", (False, True), False)

    def assign(self, value: Any) -> torch.Tensor:
        """Writes a value into the weight, in place.

        Args:
            value: tensor, array, number or Variable of the weight's shape.

        Returns:
            the weight. While a model is only looked at, nothing is written.
        """
        return assign(self, value)

    def assign_add(self, value: Any) -> torch.Tensor:
        """Adds a value to the weight, in place."""
        return assign(self, value, +1)

    def assign_sub(self, value: Any) -> torch.Tensor:
        """Subtracts a value from the weight, in place."""
        return assign(self, value, -1)

    def numpy(self, *, force: bool = False) -> np.ndarray:
        """Returns a copy of the value as a NumPy array on the host (bfloat16 as float32)."""
        return to_numpy(self.value)

    def __float__(self) -> float:
        return float(self.value.detach())

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:  # type: ignore[override]
        return np.asarray(self.numpy(), dtype=dtype)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        """NumPy's functions take weights as arrays; `np.min(weight)` would call the tensor's own `min` with NumPy's arguments."""
        array = lambda v: v.numpy() if isinstance(v, Variable) else v  # noqa: E731
        return function(*tree.map_leaves(array, args), **tree.map_leaves(array, kwargs))

    def detach(self) -> torch.Tensor:
        """Returns the value without its gradient, a plain tensor; `nn.Parameter(weight)` gets what it asks for, its own type."""
        plain = super().detach()
        if not torch.compiler.is_compiling() and sys._getframe(1).f_code is _MAKES_PARAMETER:
            return of_spec(self._spec, False, plain)
        return plain

    # -- laziness

    def materialize(self) -> Variable:
        """Gives the weight its memory and initial values, if it has none yet."""
        if self._lazy and not context.scratch:
            self.data = self._spec.make()  # type: ignore[union-attr]
            self._lazy = False
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Variable:
        if id(self) in memo:
            return memo[id(self)]
        spec: Any = copy.copy(self._spec)
        if self._lazy:
            made = placeholder(spec, self.requires_grad)
        else:
            made = of_spec(spec, self.requires_grad, self.data.clone(memory_format=torch.preserve_format))
        memo[id(self)] = made
        return made

    def __repr__(self, *, tensor_contents: Any = None) -> str:  # type: ignore[override]
        dtype = str(self.dtype).removeprefix("torch.")
        head = f"<Variable path={self.path}, shape={tuple(self.shape)}, dtype={dtype}"
        if self._lazy:
            return head + ", no values yet>"
        return f"{head}, value={to_numpy(self)}>"


def of_spec(spec: WeightSpec | None, trainable: bool, value: torch.Tensor) -> Variable:
    """Returns a Variable that holds `value`."""
    made = nn.Parameter.__new__(Variable, value, trainable)
    made._spec = spec
    return made


def placeholder(spec: WeightSpec, trainable: bool) -> Variable:
    """Returns a Variable of the spec's shape and dtype that takes one element of memory."""
    with _NOTHING if is_clean() else clean_context():
        made = of_spec(spec, trainable, torch.empty((), dtype=spec.dtype).expand(spec.shape))
    made._lazy = True
    return made


def to_numpy(value: torch.Tensor) -> np.ndarray:
    """Returns a copy of a tensor as an array on the host, which training leaves alone; types that NumPy lacks come as float32."""
    narrow = value.dtype in (torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2)
    value = value.detach().to("cpu", torch.float32 if narrow else value.dtype, copy=True)
    return torch.Tensor.numpy(value.as_subclass(torch.Tensor))


def assign(weight: torch.Tensor, value: Any, sign: int = 0) -> torch.Tensor:
    """Writes (sign 0), adds (+1) or subtracts (-1) a value in place, without a gradient."""
    if context.scratch:
        return weight
    if getattr(weight, "_lazy", False):
        weight.materialize()  # type: ignore[attr-defined]
    with torch.no_grad():
        if not isinstance(value, torch.Tensor):
            value = torch.as_tensor(value, dtype=weight.dtype, device=weight.device)
        if sign and context.stateless is None:
            weight.add_(value, alpha=sign) if weight.dtype is not torch.bool else weight.copy_(value)
            return weight
        if sign:
            value = context.stateless.get_current_value(weight) + sign * value
        if value.shape != weight.shape:
            name = getattr(getattr(weight, "_spec", None), "path", "variable")
            raise ValueError(
                f"Weight {name!r} has shape {tuple(weight.shape)} and cannot take a value of shape {tuple(value.shape)}."
            )
        if context.stateless is not None:
            context.stateless.add_update((weight, value.to(weight.dtype)))
        else:
            weight.copy_(value)
    return weight


def dress(weight: torch.Tensor, spec: WeightSpec | None) -> torch.Tensor:
    """Lets any other tensor that stands in a weight's place (a shard, a functional_call's tensor) answer as a Variable."""
    if spec is not None and getattr(weight, "_spec", None) is None:
        weight._spec = spec  # type: ignore[attr-defined]
        weight.path, weight.value, weight.trainable = spec.path, weight, weight.requires_grad  # type: ignore[attr-defined]
        weight.regularizer, weight.constraint, weight.initializer = spec.regularizer, spec.constraint, spec.initializer  # type: ignore[attr-defined]
        weight.assign = lambda value: assign(weight, value)  # type: ignore[attr-defined]
        weight.assign_add = lambda value: assign(weight, value, +1)  # type: ignore[attr-defined]
        weight.assign_sub = lambda value: assign(weight, value, -1)  # type: ignore[attr-defined]
    return weight


def settle(weight: Any, spec: WeightSpec | None, trainable: bool | None = None) -> Any:
    """Makes a tensor that has come to stay in a weight's place (after a load, a move, an unpickling) a Variable for good."""
    if type(weight) is Variable:
        if weight._spec is None:
            weight._spec = spec
        return weight
    if spec is None or type(weight) not in (torch.Tensor, nn.Parameter) or weight.grad_fn is not None:
        return weight
    if type(weight) is nn.Parameter:
        weight.__class__ = Variable
        weight._spec = spec  # type: ignore[attr-defined]
        return weight
    return of_spec(spec, weight.requires_grad if trainable is None else trainable, weight.detach())


class LazyDict(dict):  # type: ignore[type-arg]
    """The `_parameters` or `_buffers` of a layer whose values nobody has asked for yet."""

    __slots__ = ("owner", "slot")

    def __init__(self, owner: Any, slot: str) -> None:
        super().__init__()
        self.owner, self.slot = owner, slot

    def fill(self) -> dict[str, Any]:
        """Gives every weight its values and puts a plain dictionary in this one's place."""
        if context.scratch:
            return dict(dict.items(self))
        if not self.owner.built:
            return self._unbuilt()
        if not torch.compiler.is_compiling() and torch.get_default_device().type == "meta":
            return {k: _on_meta(v) for k, v in dict.items(self)}
        for weight in dict.values(self):
            if type(weight) is Variable and weight._lazy:
                weight.materialize()
                for move in self.owner.__dict__.get("_moves", ()):
                    weight.data = move(weight.data)
        plain = dict(dict.items(self))
        if self.owner.__dict__.get(self.slot) is self:
            self.owner.__dict__[self.slot] = plain
        return plain

    def _unbuilt(self) -> dict[str, Any]:
        if self.slot == "_parameters":
            for key in self.owner._declared_weights():
                if key not in self:
                    dict.__setitem__(self, key, _Unbuilt(requires_grad=self.owner.trainable))
        return {k: v.materialize() if type(v) is Variable else v for k, v in dict.items(self)}

    def __getitem__(self, key: str) -> Any:
        return self.fill()[key]

    def get(self, key: str, default: Any = None) -> Any:
        return self.fill().get(key, default) if key in self else default

    def items(self) -> Any:
        return self.fill().items()

    def values(self) -> Any:
        return self.fill().values()

    def pop(self, key: str, *default: Any) -> Any:
        self.fill()
        return dict.pop(self.owner.__dict__[self.slot], key, *default)

    def copy(self) -> dict[str, Any]:
        return dict(self.fill())

    def __deepcopy__(self, memo: dict[int, Any]) -> LazyDict:
        made = LazyDict(copy.deepcopy(self.owner, memo), self.slot)
        memo[id(self)] = made
        for key, value in dict.items(self):
            dict.__setitem__(made, key, copy.deepcopy(value, memo))
        return made

    def __reduce__(self) -> Any:
        entries = [
            (k, v._spec if getattr(v, "_lazy", False) else v, getattr(v, "requires_grad", False)) for k, v in dict.items(self)
        ]
        return _rebuild, (self.owner, self.slot, entries)


class _Unbuilt(UninitializedParameter):
    """Stands for a weight whose shape is not known yet; an optimizer may hold it: it is filled in place at build."""

    cls_to_become = Variable


def _rebuild(owner: nn.Module, slot: str, entries: list[Any]) -> LazyDict:
    made = LazyDict(owner, slot)
    for key, value, trainable in entries:
        dict.__setitem__(made, key, placeholder(value, trainable) if isinstance(value, WeightSpec) else value)
    return made


def _on_meta(weight: Any) -> Any:
    if type(weight) is not Variable or not weight._lazy:
        return weight
    return of_spec(weight._spec, weight.requires_grad, torch.empty(weight.shape, dtype=weight.dtype, device="meta"))


def raw(layer: nn.Module, slot: str) -> dict[str, Any]:
    """Returns the entries of `_parameters` or `_buffers` without making any value."""
    return dict(dict.items(layer.__dict__[slot]))


def become(unbuilt: Any, variable: Variable, moves: list[Callable[[torch.Tensor], torch.Tensor]]) -> Variable:
    """Turns an unbuilt parameter that somebody may hold into the weight, in place."""
    trainable = variable.requires_grad
    value = variable.materialize().data
    for move in () if variable._lazy else moves:
        value = move(value)
    unbuilt.__class__ = Variable
    unbuilt.data = value
    unbuilt._spec, unbuilt._lazy = variable._spec, variable._lazy  # built while only looked at: it has no values yet
    unbuilt.requires_grad_(trainable)
    return unbuilt


__all__ = ["LazyDict", "Variable", "WeightSpec", "is_lazy"]
