"""Projections of weights after each update, as `keras.constraints` has them."""

from __future__ import annotations

from typing import Any

import torch

from hornbeam.core import settings
from hornbeam.core.init_args import Configurable
from hornbeam.core.registry import Registry, custom_object_scope, public, serialize_keras_object


@public("keras.Constraint")
class Constraint(Configurable):
    """A function from a weight to the weight that is allowed in its place. Subclasses write `__call__(w)`.

    >>> class Bounded(Constraint):
    ...     def __call__(self, w):
    ...         return w.clamp(-1, 1)
    >>> Bounded()(torch.tensor([2.0])).tolist()
    [1.0]
    """

    def __call__(self, w: torch.Tensor) -> torch.Tensor:
        """Returns the projected weight."""
        raise NotImplementedError(f"{type(self).__name__} must write `__call__(self, w)`.")


def _norm(w: torch.Tensor, axis: Any) -> torch.Tensor:
    """Returns the L2 norm over axes (all of them for None), kept as axes of size 1."""
    dims = tuple(axis) if isinstance(axis, (list, tuple)) else axis
    return w.square().sum(dim=dims, keepdim=True).sqrt()


class MaxNorm(Constraint):
    """Scales weights down where their norm over an axis exceeds `max_value` (Srivastava et al., 2014).

    Args:
        max_value: the largest norm.
        axis: axis, or list of axes, of the norm: 0 for Dense kernels, [0, 1, 2] for Conv2D kernels.

    >>> MaxNorm(1.0)(torch.tensor([[3.0], [4.0]])).round(decimals=4).tolist()
    [[0.6000000238418579], [0.800000011920929]]
    """

    def __init__(self, max_value: float = 2, axis: Any = 0) -> None:
        self.max_value, self.axis = max_value, axis

    def __call__(self, w: torch.Tensor) -> torch.Tensor:
        norm = _norm(w, self.axis)
        return w * (norm.clamp(0, self.max_value) / (settings.epsilon() + norm))


class NonNeg(Constraint):
    """Replaces negative weights by 0.

    >>> NonNeg()(torch.tensor([-1.0, 2.0])).tolist()
    [0.0, 2.0]
    """

    def __call__(self, w: torch.Tensor) -> torch.Tensor:
        return w.clamp(min=0)


class UnitNorm(Constraint):
    """Scales weights to norm 1 over an axis.

    Args:
        axis: axis, or list of axes, of the norm.

    >>> UnitNorm()(torch.tensor([[2.0], [0.0]])).round(decimals=4).tolist()
    [[1.0], [0.0]]
    """

    def __init__(self, axis: Any = 0) -> None:
        self.axis = axis

    def __call__(self, w: torch.Tensor) -> torch.Tensor:
        return w / (settings.epsilon() + _norm(w, self.axis))


class MinMaxNorm(Constraint):
    """Moves the norm over an axis into `[min_value, max_value]`.

    Args:
        min_value, max_value: ends of the range.
        rate: which part of the way is gone at each update; 1 goes all of it.
        axis: axis, or list of axes, of the norm.

    >>> MinMaxNorm(0.0, 1.0)(torch.tensor([[3.0], [4.0]])).round(decimals=4).tolist()
    [[0.6000000238418579], [0.800000011920929]]
    """

    def __init__(self, min_value: float = 0.0, max_value: float = 1.0, rate: float = 1.0, axis: Any = 0) -> None:
        self.min_value, self.max_value, self.rate, self.axis = min_value, max_value, rate, axis

    def __call__(self, w: torch.Tensor) -> torch.Tensor:
        norm = _norm(w, self.axis)
        wanted = self.rate * norm.clamp(self.min_value, self.max_value) + (1 - self.rate) * norm
        return w * (wanted / (settings.epsilon() + norm))


CONSTRAINTS = Registry("constraint", "keras.constraints", Constraint)
for _class in (MaxNorm, NonNeg, UnitNorm, MinMaxNorm):
    CONSTRAINTS.add(_class)
    public(f"keras.constraints.{_class.__name__}")(_class)

max_norm, non_neg, unit_norm, min_max_norm = MaxNorm, NonNeg, UnitNorm, MinMaxNorm


def get(identifier: Any) -> Any:
    """Returns the constraint for a name ("max_norm", "NonNeg"), a config, a class or a callable; None stays None.

    >>> get("max_norm").get_config()
    {'max_value': 2, 'axis': 0}
    """
    return CONSTRAINTS.get(identifier)


def serialize(constraint: Any) -> Any:
    """Returns the config of a constraint.

    >>> serialize(UnitNorm())["config"]
    {'axis': 0}
    """
    return serialize_keras_object(constraint)


def deserialize(config: Any, custom_objects: dict[str, Any] | None = None) -> Any:
    """Makes the constraint that a config or a name describes.

    Args:
        config: a config or a name.
        custom_objects: classes and functions by name.
    """
    with custom_object_scope(custom_objects or {}):
        return get(config)
