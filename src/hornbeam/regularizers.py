"""Penalties on weights and outputs, as `keras.regularizers` has them."""

from __future__ import annotations

import math
import struct
from typing import Any

import torch

from hornbeam.core.errors import did_you_mean
from hornbeam.core.init_args import Configurable
from hornbeam.core.registry import Registry, custom_object_scope, public, serialize_keras_object


@public("keras.Regularizer")
class Regularizer(Configurable):
    """A function from a tensor to a scalar that is added to the loss. Subclasses write `__call__(x)`.

    >>> class Mean(Regularizer):
    ...     def __call__(self, x):
    ...         return x.mean()
    >>> Mean()(torch.ones(2)).item()
    1.0
    """

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Returns the penalty of a tensor, a scalar."""
        raise NotImplementedError(f"{type(self).__name__} must write `__call__(self, x)`.")


def _factor(owner: str, name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value < 0:
        raise ValueError(f"{owner}: `{name}` must be a finite number of at least 0. Received: {name}={value!r}")
    return float(value)


def _single(value: float) -> float:
    """Rounds to single precision, in which Keras keeps this factor and writes it into configs."""
    return struct.unpack("f", struct.pack("f", value))[0]


class L1L2(Regularizer):
    """Returns `l1 * sum(abs(x)) + l2 * sum(x**2)`.

    Args:
        l1, l2: factors of at least 0.

    >>> L1L2(l1=1.0, l2=0.5)(torch.tensor([1.0, -2.0])).item()
    5.5
    """

    def __init__(self, l1: float = 0.0, l2: float = 0.0) -> None:
        self.l1 = _factor("L1L2", "l1", 0.0 if l1 is None else l1)
        self.l2 = _factor("L1L2", "l2", 0.0 if l2 is None else l2)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        parts = [self.l1 * x.abs().sum()] if self.l1 else []
        if self.l2:
            parts.append(self.l2 * x.square().sum())
        return sum(parts[1:], parts[0]) if parts else x.new_zeros(())


class L1(Regularizer):
    """Returns `l1 * sum(abs(x))`.

    Args:
        l1: factor of at least 0.

    >>> L1(0.5)(torch.tensor([1.0, -2.0])).item()
    1.5
    """

    def __init__(self, l1: float = 0.01) -> None:
        self.l1 = _single(_factor("L1", "l1", 0.01 if l1 is None else l1))

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return self.l1 * x.abs().sum()


class L2(Regularizer):
    """Returns `l2 * sum(x**2)`.

    Args:
        l2: factor of at least 0.

    >>> L2(0.5)(torch.tensor([1.0, -2.0])).item()
    2.5
    """

    def __init__(self, l2: float = 0.01) -> None:
        self.l2 = _factor("L2", "l2", 0.01 if l2 is None else l2)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return self.l2 * x.square().sum()


class OrthogonalRegularizer(Regularizer):
    """Returns `factor` times the mean absolute cosine between different rows (or columns) of a matrix.

    Args:
        factor: factor of at least 0.
        mode: "rows" or "columns".

    >>> OrthogonalRegularizer(1.0)(torch.eye(3)).item()
    0.0
    """

    def __init__(self, factor: float = 0.01, mode: str = "rows") -> None:
        if mode not in ("rows", "columns"):
            hint = did_you_mean(mode, ("rows", "columns"))
            raise ValueError(f"OrthogonalRegularizer: `mode` must be 'rows' or 'columns'.{hint} Received: mode={mode!r}")
        self.factor, self.mode = _single(_factor("OrthogonalRegularizer", "factor", factor)), mode

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        if x.ndim != 2:
            raise ValueError(f"OrthogonalRegularizer takes matrices: 2 axes are expected. Received: shape {tuple(x.shape)}")
        rows = x if self.mode == "rows" else x.T
        rows = torch.nn.functional.normalize(rows, dim=1)
        cosines = (rows @ rows.T).abs()
        count = rows.shape[0] * (rows.shape[0] - 1)
        return self.factor * 0.5 * (cosines.sum() - cosines.trace()) / max(count / 2, 1)


REGULARIZERS = Registry("regularizer", "keras.regularizers", Regularizer)
for _class in (L1L2, L1, L2, OrthogonalRegularizer):
    REGULARIZERS.add(_class, *(("l1_l2",) if _class is L1L2 else ()))
    public(f"keras.regularizers.{_class.__name__}")(_class)

l1, l2, l1_l2, orthogonal_regularizer = L1, L2, L1L2, OrthogonalRegularizer


def get(identifier: Any) -> Any:
    """Returns the regularizer for a name ("l2", "L1L2"), a config, a class or a callable; None stays None.

    >>> get("l2").get_config()
    {'l2': 0.01}
    """
    return REGULARIZERS.get(identifier)


def serialize(regularizer: Any) -> Any:
    """Returns the config of a regularizer.

    >>> serialize(L2(0.5))["config"]
    {'l2': 0.5}
    """
    return serialize_keras_object(regularizer)


def deserialize(config: Any, custom_objects: dict[str, Any] | None = None) -> Any:
    """Makes the regularizer that a config or a name describes.

    Args:
        config: a config or a name.
        custom_objects: classes and functions by name.
    """
    with custom_object_scope(custom_objects or {}):
        return get(config)
