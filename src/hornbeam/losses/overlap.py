"""Losses for segmentation: how well the predicted and the true region overlap."""

from __future__ import annotations

from typing import Any

import torch

from hornbeam.core import settings
from hornbeam.losses.arguments import pair
from hornbeam.losses.loss import LOSSES, FunctionLoss


def _sums(y_true: torch.Tensor, y_pred: torch.Tensor, axis: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    if axis is None:
        axis = tuple(range(y_pred.ndim))
    axis = tuple(axis) if isinstance(axis, list) else axis
    return (y_true * y_pred).sum(axis), y_true.sum(axis), y_pred.sum(axis)


def _ratio(numerator: torch.Tensor, denominator: torch.Tensor) -> torch.Tensor:
    return 1 - numerator / torch.where(denominator == 0, 1, denominator)


def dice(y_true: Any, y_pred: Any, axis: Any = None) -> torch.Tensor:
    """Returns 1 minus twice the overlap over the sum of both regions.

    Args:
        y_true: 0 or 1, tensor of any shape.
        y_pred: predictions of the same shape.
        axis: axes to sum over; all of them unless given.

    >>> round(float(dice([[1.0, 0.0]], [[1.0, 0.0]])), 4)
    0.0
    """
    y_true, y_pred = pair("dice", y_true, y_pred)
    both, true, pred = _sums(y_true, y_pred, axis)
    return _ratio(2 * both, true + pred + settings.epsilon())


def tversky(y_true: Any, y_pred: Any, alpha: float = 0.5, beta: float = 0.5, axis: Any = None) -> torch.Tensor:
    """Returns 1 minus the Tversky index `overlap / (overlap + alpha missed + beta wrong)` (Salehi et al., 2017).

    Args:
        y_true: 0 or 1, tensor of any shape.
        y_pred: predictions of the same shape.
        alpha: the weight of what is true and not predicted (as Keras computes it).
        beta: the weight of what is predicted and not true.
        axis: axes to sum over; all of them unless given.

    >>> round(float(tversky([[1.0, 0.0]], [[1.0, 0.0]])), 4)
    0.0
    """
    y_true, y_pred = pair("tversky", y_true, y_pred)
    both, true, pred = _sums(y_true, y_pred, axis)
    return _ratio(both, both + alpha * (true - both) + beta * (pred - both) + settings.epsilon())


class Dice(FunctionLoss):
    """The Dice loss of two regions.

    Args:
        reduction: see `Loss`.
        name: a name.
        axis: axes to sum over; all of them unless given.
        dtype: see `Loss`.

    >>> round(float(Dice()([[1.0, 0.0]], [[1.0, 0.0]])), 4)
    0.0
    """

    fn = staticmethod(dice)
    _options = ("axis",)

    def __init__(
        self, reduction: str | None = "sum_over_batch_size", name: str = "dice", axis: Any = None, dtype: Any = None
    ) -> None:
        super().__init__(name, reduction, dtype)
        self.axis = axis


class Tversky(FunctionLoss):
    """The Tversky loss of two regions.

    Args:
        alpha: the weight of what is true and not predicted (as Keras computes it).
        beta: the weight of what is predicted and not true.
        reduction: see `Loss`.
        name: a name.
        axis: axes to sum over; all of them unless given.
        dtype: see `Loss`.

    >>> round(float(Tversky()([[1.0, 0.0]], [[1.0, 0.0]])), 4)
    0.0
    """

    fn = staticmethod(tversky)
    _options = ("alpha", "beta", "axis")

    def __init__(
        self,
        alpha: float = 0.5,
        beta: float = 0.5,
        reduction: str | None = "sum_over_batch_size",
        name: str = "tversky",
        axis: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(name, reduction, dtype)
        self.alpha, self.beta, self.axis = alpha, beta, axis


for _thing in (dice, tversky, Dice, Tversky):
    LOSSES.add(_thing)
