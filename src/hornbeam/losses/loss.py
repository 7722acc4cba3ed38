"""The base of all losses: masks, weights, reduction; and the class that makes a loss of a function."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cache
from typing import Any

import torch

from hornbeam.core import dtype as dtypes
from hornbeam.core.errors import did_you_mean
from hornbeam.core.init_args import Configurable
from hornbeam.core.registry import Registry, auto_name, serialize_keras_object, snake_case
from hornbeam.graph import tree
from hornbeam.losses.arguments import align, as_tensor, returned

REDUCTIONS = ("sum", "sum_over_batch_size", "mean", "mean_with_sample_weight", "none", None)
_MEANS = ("sum_over_batch_size", "mean")
_fused: dict[Any, Callable[..., torch.Tensor | None]] = {}


def fused_mean(function: Any) -> Callable[[Any], Any]:
    """Registers a kernel for the mean of a loss function over all samples; it answers None where it does not apply."""

    def register(kernel: Any) -> Any:
        _fused[function] = kernel
        return kernel

    return register


@cache
def constructor_defaults(cls: Any) -> dict[str, Any]:
    """Returns the default of each constructor argument of a class."""
    return {n: p.default for n, p in inspect.signature(cls.__init__).parameters.items()}


class Loss(Configurable):
    """The base class of losses. Subclasses write `call(y_true, y_pred)`, which returns one value per sample.

    Args:
        name: a name; the class's name in snake case, numbered, unless given.
        reduction: "sum_over_batch_size" or "mean" (the sum of the weighted values over their number), "sum",
            "mean_with_sample_weight" (over the sum of the weights), "none" or None (one value per sample).
        dtype: the dtype to compute in, or a policy; `config.floatx()` unless given.

    >>> class Cubic(Loss):
    ...     def call(self, y_true, y_pred):
    ...         return (y_true - y_pred).abs() ** 3
    >>> float(Cubic()([1.0, 2.0], torch.tensor([1.0, 4.0])))
    4.0
    """

    _base_config = ("name", "reduction")
    _only_if_changed: tuple[str, ...] = ("dtype",)
    _keeps_integers = False

    def __init__(self, name: str | None = None, reduction: str | None = "sum_over_batch_size", dtype: Any = None) -> None:
        if reduction not in REDUCTIONS:
            raise ValueError(
                f"{type(self).__name__} got reduction={reduction!r}.{did_you_mean(reduction, [r for r in REDUCTIONS if r])} "
                f"Expected one of {', '.join(map(repr, REDUCTIONS))}."
            )
        self.name = name or auto_name(snake_case(type(self).__name__))
        self.reduction = reduction
        self._policy = dtypes.get_policy(dtype) if dtype is not None else dtypes.DTypePolicy(None)
        self._dtype_given = dtype is not None
        self._compute = dtypes.to_torch(self._policy.compute_dtype)

    @property
    def dtype(self) -> str:
        """The dtype in which the loss is computed."""
        return self._policy.compute_dtype

    def call(self, y_true: Any, y_pred: Any) -> torch.Tensor:
        """Returns one value per sample; to be overridden."""
        raise NotImplementedError(f"{type(self).__name__} has no `call(y_true, y_pred)` method.")

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> torch.Tensor:
        """Returns the reduced loss.

        Args:
            y_true: targets, tensor or array, or a nest of such.
            y_pred: predictions likewise; a mask on them (`_keras_mask`) leaves the places where it is False out.
            sample_weight: a number, or weights of shape (batch,), (batch, 1) or that of the values.
        """
        mask = getattr(y_pred, "_keras_mask", None)
        y_true, y_pred = self._convert(y_true, self._keeps_integers), self._convert(y_pred, False)
        if sample_weight is None and mask is None and self.reduction in _MEANS:
            fused = self._fused(y_true, y_pred)
            if fused is not None:
                return fused
        return self._reduce(self.call(y_true, y_pred), sample_weight, mask)

    def _fused(self, y_true: Any, y_pred: Any) -> torch.Tensor | None:
        return None

    def _convert(self, value: Any, keep_integers: bool) -> Any:
        if not isinstance(value, torch.Tensor):
            if isinstance(value, (dict, list, tuple)) and any(hasattr(v, "shape") for v in tree.leaves(value)):
                return tree.map_leaves(lambda v: self._convert(v, keep_integers), value)
            value = as_tensor(value)
        if value.dtype is self._compute or (keep_integers and not value.dtype.is_floating_point):
            return value
        return value.to(self._compute)

    def _reduce(self, values: torch.Tensor, sample_weight: Any, mask: torch.Tensor | None) -> torch.Tensor:
        own_mask = getattr(values, "_keras_mask", None)
        if own_mask is not None:
            mask = own_mask if mask is None else mask.bool() & own_mask
        values = returned(f"Loss {self.name!r}", values)
        if values.dtype is not self._compute:
            values = values.to(self._compute)
        return reduce_weighted(values, sample_weight, mask, self.reduction, self.name)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments; those that Keras leaves out only where they are not the default."""
        cls: Any = type(self)
        config, defaults = super().get_config(), constructor_defaults(cls)
        for name in self._only_if_changed:
            if name in config and (config[name] == defaults.get(name) or (name == "dtype" and not self._dtype_given)):
                del config[name]
        return config

    def __repr__(self) -> str:
        return f"<{type(self).__name__} name={self.name}>"


def reduce_weighted(
    values: torch.Tensor, weight: Any, mask: torch.Tensor | None, reduction: str | None, name: str = "loss"
) -> torch.Tensor:
    """Returns per-sample values, weighted and masked, as one number, or as they are with reduction "none".

    Args:
        values: tensor of any shape.
        weight: None, a number, or a tensor that `align` takes.
        mask: boolean tensor that `align` takes; a mean is over the places where it is True.
        reduction: one of `REDUCTIONS`.
        name: the name for errors.
    """
    share: Any = 1
    total = None
    if mask is not None:
        mask = align(torch.as_tensor(mask, device=values.device).to(torch.bool), values, name, "a mask")
        values = torch.where(mask, values, 0)
        kept = mask.sum()
        share = kept.clamp(min=1) / mask.numel()
    if weight is not None:
        weight = align(torch.as_tensor(weight, device=values.device).to(values.dtype), values, name, "sample_weight")
        values = values * weight
        total = (weight if mask is None else weight * mask).sum()
    elif mask is not None:
        total = kept
    if reduction in (None, "none") or values.ndim == 0:
        return values
    if reduction == "sum":
        return values.sum()
    if reduction == "mean_with_sample_weight" and total is not None:
        return values.sum() / torch.where(total == 0, 1, total)
    return values.mean() if mask is None else values.sum() / (share * values.numel()).to(values.dtype)


class LossFunctionWrapper(Loss):
    """A loss made of a function `fn(y_true, y_pred, **kwargs)` that returns one value per sample.

    Args:
        fn: the function.
        reduction: see `Loss`.
        name: a name.
        dtype: see `Loss`.
        **kwargs: further arguments of the function.

    >>> loss = LossFunctionWrapper(lambda y_true, y_pred, power: (y_true - y_pred).abs() ** power, power=2)
    >>> float(loss([1.0, 2.0], [1.0, 4.0]))
    2.0
    """

    def __init__(
        self, fn: Any, reduction: str | None = "sum_over_batch_size", name: str | None = None, dtype: Any = None, **kwargs: Any
    ) -> None:
        super().__init__(name, reduction, dtype)
        self.fn = fn
        self._fn_kwargs = kwargs
        self._kernel = _fused.get(fn)
        self._keeps_integers = getattr(fn, "__module__", "").startswith("hornbeam.losses")

    def call(self, y_true: Any, y_pred: Any) -> torch.Tensor:
        """Returns the function's values."""
        return self.fn(y_true, y_pred, **self._fn_kwargs)

    def _fused(self, y_true: Any, y_pred: Any) -> torch.Tensor | None:
        return None if self._kernel is None else self._kernel(y_true, y_pred, **self._fn_kwargs)

    def get_config(self) -> dict[str, Any]:
        """Returns the function and the arguments."""
        given = {k: serialize_keras_object(v) for k, v in self._fn_kwargs.items()}
        return {"name": self.name, "reduction": self.reduction, "fn": serialize_keras_object(self.fn), **given}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> LossFunctionWrapper:
        """Makes a loss of `get_config`'s answer."""
        return cls(**{**config, "fn": LOSSES.get(config["fn"])})


class FunctionLoss(Loss):
    """The base of the built-in losses: a function, and the names of its arguments that are attributes of the loss."""

    fn: Any = None
    _options: tuple[str, ...] = ()
    _keeps_integers = True

    def call(self, y_true: Any, y_pred: Any) -> torch.Tensor:
        """Returns one value per sample."""
        return type(self).fn(y_true, y_pred, **{name: getattr(self, name) for name in self._options})

    def _fused(self, y_true: Any, y_pred: Any) -> torch.Tensor | None:
        kernel = _fused.get(type(self).fn)
        return None if kernel is None else kernel(y_true, y_pred, **{name: getattr(self, name) for name in self._options})


LOSSES = Registry("loss", "keras.losses", Loss)
LOSSES.add(Loss)
LOSSES.add(LossFunctionWrapper)
