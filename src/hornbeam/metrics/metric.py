"""The base of all metrics: state on the device of the data, read by nobody until a result is asked for."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from hornbeam.core import dtype as dtypes
from hornbeam.core import registry
from hornbeam.core.clean import clean_context
from hornbeam.core.init_args import Configurable
from hornbeam.core.registry import Registry, auto_name, snake_case
from hornbeam.core.weights import Variable, settle
from hornbeam.graph import tree
from hornbeam.graph.context import context
from hornbeam.losses.loss import constructor_defaults


def zeros(shape: Any, dtype: Any = None) -> torch.Tensor:
    """Returns a tensor of zeros: how metrics begin."""
    return torch.zeros(tuple(shape), dtype=dtypes.to_torch(dtype))


def ratio(a: Any, b: Any) -> torch.Tensor:
    """Returns `a / b`, and 0 where `b` is 0."""
    return torch.where(b == 0, 0, a / torch.where(b == 0, 1, b))


def device_of(values: Any) -> torch.device | None:
    """Returns the device of the first tensor that is not on the host, else of the first tensor."""
    found = None
    for value in values:
        if isinstance(value, torch.Tensor):
            if value.device.type != "cpu":
                return value.device
            found = value.device
    return found


def _prepared(update: Callable[..., Any]) -> Callable[..., Any]:
    """Lets an `update_state` find the state on the device of its arguments, and record no gradients."""

    @functools.wraps(update)
    def update_state(self: Any, *args: Any, **kwargs: Any) -> Any:
        device = device_of(args) or device_of(kwargs.values())
        if context.scratch or (device is not None and device.type == "meta"):
            return None
        if device is not None and device != self._device:
            self._move(device)
        with torch.no_grad():
            return update(self, *args, **kwargs)

    return update_state


class Metric(Configurable):
    """The base class of metrics. Subclasses write `update_state` and `result`; state is made with `add_variable`.

    State moves to the device of the data at the first update, and no update waits for the device. Scalars are kept in float64,
    so that long runs lose nothing.

    Args:
        dtype: the dtype of results, or a policy; `config.floatx()` unless given.
        name: a name; the class's name in snake case, numbered, unless given.

    >>> class Largest(Metric):
    ...     def __init__(self, name="largest", **kwargs):
    ...         super().__init__(name=name, **kwargs)
    ...         self.top = self.add_variable(shape=(), initializer="zeros", name="top")
    ...     def update_state(self, y_true, y_pred, sample_weight=None):
    ...         self.top.assign(torch.maximum(self.top, y_pred.max()))
    ...     def result(self):
    ...         return self.top
    >>> float(Largest()(None, torch.tensor([1.0, 3.0])))
    3.0
    """

    _base_config = ("name", "dtype")
    _only_if_changed: tuple[str, ...] = ()
    _variables: list[Variable]
    _metrics: list[Metric]
    _device: torch.device | None = None
    _policy: Any = None
    _default_dtype: str | None = None
    name: str = "metric"

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        self = super().__new__(cls, *args, **kwargs)
        self.__dict__.update(_variables=[], _metrics=[])
        return self

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "update_state" in vars(cls):
            cls.update_state = _prepared(cls.update_state)  # type: ignore[method-assign]

    def __init__(self, dtype: Any = None, name: str | None = None) -> None:
        self.name = name or auto_name(snake_case(type(self).__name__))
        dtype = dtype if dtype is not None else self._default_dtype
        self._policy = dtypes.DTypePolicy(None) if dtype is None else dtypes.get_policy(dtype)

    # -- state

    @property
    def dtype(self) -> str:
        """The dtype of results."""
        return self._policy.compute_dtype if self._policy is not None else dtypes.standardize_dtype(None)

    @property
    def variables(self) -> list[Variable]:
        """The state, that of metrics held as attributes, or in lists and dicts there, included."""
        return [*self._variables, *(v for m in self._metrics for v in m.variables)]

    def add_variable(
        self, shape: Any, initializer: Any = None, dtype: Any = None, aggregation: str = "sum", name: str | None = None
    ) -> Variable:
        """Makes a piece of state.

        Args:
            shape: tuple of integers.
            initializer: "zeros", "ones", another initializer, or a value; zeros unless given.
            dtype: a dtype; float64 for scalars and the metric's for the rest, unless given.
            aggregation: how processes put their states together; "sum" unless given.
            name: a name.

        Returns:
            a Variable with `assign`, `assign_add` and `assign_sub`.
        """
        shape = tuple(shape)
        if dtype is None:
            floating = dtypes.is_float(self.dtype)
            dtype = "float64" if shape == () and floating else self.dtype
        if initializer is None or initializer == "zeros":
            initializer = zeros
        elif initializer == "ones":
            initializer = torch.ones
        elif isinstance(initializer, (str, dict)):
            initializer = registry.of_kind("initializer").get(initializer)
        if initializer is torch.ones:
            initializer = torch.ones(shape, dtype=dtypes.to_torch(dtype))
        elif not callable(initializer):
            initializer = torch.as_tensor(initializer, dtype=dtypes.to_torch(dtype)).broadcast_to(shape).clone()
        with clean_context():
            variable = Variable(initializer, shape, dtype, trainable=False, name=name)
        variable._spec.path = f"{self.name}/{variable.name}"  # type: ignore[union-attr]
        variable.aggregation = aggregation  # type: ignore[attr-defined]
        self._variables.append(variable)
        if self._device is not None:
            self._move(self._device)
        return variable

    def add_weight(self, shape: Any = (), initializer: Any = None, dtype: Any = None, name: str | None = None) -> Variable:
        """Makes a piece of state; see `add_variable`."""
        return self.add_variable(shape=shape, initializer=initializer, dtype=dtype, name=name)

    def __setattr__(self, name: str, value: Any) -> None:
        for part in tree.leaves(value) if isinstance(value, (list, tuple, dict)) else (value,):
            if isinstance(part, Metric) and all(part is not m for m in self._metrics):
                self._metrics.append(part)
            elif type(part) is Variable and all(part is not v for v in self._variables):
                self._variables.append(part)
        object.__setattr__(self, name, value)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        for variable in self._variables:
            settle(variable, getattr(variable, "_spec", None))

    def _move(self, device: torch.device) -> None:
        with clean_context():
            for variable in self._variables:
                single = device.type == "mps" and variable.dtype is torch.float64
                variable.data = variable.data.to(device=device, dtype=torch.float32 if single else variable.dtype)
        self._device = device

    def reset_state(self) -> None:
        """Sets all state to zero."""
        with torch.no_grad():
            for variable in self.variables:
                variable.zero_()

    def state_dict(self) -> dict[str, Any]:
        """Returns a copy of the state.

        >>> from hornbeam.metrics import Mean
        >>> list(Mean().state_dict())
        ['variables']
        """
        return {"variables": [v.detach().clone() for v in self.variables]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Puts back what `state_dict` returned."""
        variables = self.variables
        if len(variables) != len(state["variables"]):
            raise ValueError(f"Metric {self.name!r} has {len(variables)} variables, the state has {len(state['variables'])}.")
        with torch.no_grad():
            for variable, value in zip(variables, state["variables"], strict=True):
                variable.copy_(value)

    # -- what subclasses write

    def update_state(self, *args: Any, **kwargs: Any) -> None:
        """Takes a batch into the state; to be overridden."""
        raise NotImplementedError(f"{type(self).__name__} has no `update_state` method.")

    def result(self) -> Any:
        """Returns the value, a tensor or a dictionary of tensors; to be overridden."""
        raise NotImplementedError(f"{type(self).__name__} has no `result` method.")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Takes a batch into the state and returns the value so far."""
        self.update_state(*args, **kwargs)
        return self.result()

    def _finish(self, value: torch.Tensor) -> torch.Tensor:
        return value.to(dtypes.to_torch(self.dtype if dtypes.is_float(self.dtype) else None))

    # -- pure functions

    def stateless_update_state(self, metric_variables: Sequence[Any], *args: Any, **kwargs: Any) -> list[torch.Tensor]:
        """Returns what the state would be after an update, from the given state; the metric's own stays as it is."""
        with self._holding(metric_variables):
            self.update_state(*args, **kwargs)
            return [v.data for v in self.variables]

    def stateless_result(self, metric_variables: Sequence[Any]) -> Any:
        """Returns the value for a given state."""
        with self._holding(metric_variables):
            return self.result()

    def stateless_reset_state(self) -> list[torch.Tensor]:
        """Returns the state at the beginning."""
        return [torch.zeros_like(v.data) for v in self.variables]

    @contextmanager
    def _holding(self, values: Sequence[Any]) -> Any:
        variables = self.variables
        if len(values) != len(variables):
            raise ValueError(f"Metric {self.name!r} has {len(variables)} variables. Received: {len(values)} values.")
        before = [v.data for v in variables]
        try:
            for variable, value in zip(variables, values, strict=True):
                variable.data = torch.as_tensor(value, dtype=variable.dtype, device=variable.device).detach().clone()
            yield
        finally:
            for variable, value in zip(variables, before, strict=True):
                variable.data = value.to(variable.device)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        cls: Any = type(self)
        config, defaults = super().get_config(), constructor_defaults(cls)
        for name in self._only_if_changed:
            if name in config and config[name] == defaults.get(name):
                del config[name]
        return config

    def __repr__(self) -> str:
        return f"<{type(self).__name__} name={self.name}>"


class SumOverBatches(Metric):
    """A metric whose state is a sum over batches: subclasses write `tally`, what one batch adds to each variable."""

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Takes a batch into the state.

        Args:
            y_true: targets.
            y_pred: predictions.
            sample_weight: weights, or None.
        """
        self._add(self.tally(y_true, y_pred, sample_weight))

    def tally(self, *args: Any) -> tuple[Any, ...]:
        """Returns what one batch adds, a tensor or a number for each variable, in order. A pure function of its arguments."""
        raise NotImplementedError(f"{type(self).__name__} has no `tally` method.")

    _summed: tuple[str, ...] = ()

    def _add(self, amounts: tuple[Any, ...]) -> None:
        for name, amount in zip(self._summed, amounts, strict=True):
            getattr(self, name).add_(amount)

    def _add_state(self, shape: tuple[int, ...], *names: str) -> None:
        self._summed = (*self._summed, *names)
        for name in names:
            setattr(self, name, self.add_variable(shape, zeros, dtype="float64", name=name))

    @property
    def _wide(self) -> torch.dtype:
        return self._variables[0].dtype if self._variables else torch.float64


METRICS = Registry("metric", "keras.metrics", Metric)
METRICS.add(Metric)
