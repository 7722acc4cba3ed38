"""Hinge losses: how far predictions stay within the margin of their class."""

from __future__ import annotations

from typing import Any

import torch

from hornbeam.losses.arguments import pair
from hornbeam.losses.loss import LOSSES, FunctionLoss


def _margin(name: str, y_true: Any, y_pred: Any) -> torch.Tensor:
    y_true, y_pred = pair(name, y_true, y_pred)
    is_binary = ((y_true == 0) | (y_true == 1)).all()
    signs = torch.where(is_binary, 2 * y_true - 1, y_true)
    return (1 - signs * y_pred).relu()


def hinge(y_true: Any, y_pred: Any) -> torch.Tensor:
    """Returns the mean of `max(1 - y_true y_pred, 0)` over the last axis.

    Args:
        y_true: -1 or 1, shape (batch, …, d); if all are 0 or 1, 0 counts as -1.
        y_pred: predictions of the same shape.

    >>> hinge([[-1.0, 1.0]], [[0.5, 0.5]]).tolist()
    [1.0]
    """
    values = _margin("hinge", y_true, y_pred)
    return values.mean(-1) if values.ndim else values


def squared_hinge(y_true: Any, y_pred: Any) -> torch.Tensor:
    """Returns the mean of `max(1 - y_true y_pred, 0)**2` over the last axis.

    Args:
        y_true: -1 or 1, shape (batch, …, d); if all are 0 or 1, 0 counts as -1.
        y_pred: predictions of the same shape.

    >>> squared_hinge([[-1.0, 1.0]], [[0.5, 0.5]]).tolist()
    [1.25]
    """
    values = _margin("squared_hinge", y_true, y_pred).square()
    return values.mean(-1) if values.ndim else values


def categorical_hinge(y_true: Any, y_pred: Any) -> torch.Tensor:
    """Returns `max(1 + best wrong score - score of the target, 0)`.

    Args:
        y_true: one-hot targets, shape (batch, …, classes).
        y_pred: scores of the same shape.

    >>> categorical_hinge([[0.0, 1.0]], [[0.25, 0.75]]).tolist()
    [0.5]
    """
    y_true, y_pred = pair("categorical_hinge", y_true, y_pred)
    return (((1 - y_true) * y_pred).amax(-1) - (y_true * y_pred).sum(-1) + 1).relu()


class Hinge(FunctionLoss):
    """The hinge loss of support vector machines.

    Args:
        reduction: see `Loss`.
        name: a name.
        dtype: see `Loss`.

    >>> float(Hinge()([[-1.0], [1.0]], [[0.5], [0.5]]))
    1.0
    """

    fn = staticmethod(hinge)

    def __init__(self, reduction: str | None = "sum_over_batch_size", name: str = "hinge", dtype: Any = None) -> None:
        super().__init__(name, reduction, dtype)


class SquaredHinge(FunctionLoss):
    """The square of the hinge loss.

    Args:
        reduction: see `Loss`.
        name: a name.
        dtype: see `Loss`.

    >>> float(SquaredHinge()([[-1.0], [1.0]], [[0.5], [0.5]]))
    1.25
    """

    fn = staticmethod(squared_hinge)

    def __init__(self, reduction: str | None = "sum_over_batch_size", name: str = "squared_hinge", dtype: Any = None) -> None:
        super().__init__(name, reduction, dtype)


class CategoricalHinge(FunctionLoss):
    """The hinge loss of one-hot targets.

    Args:
        reduction: see `Loss`.
        name: a name.
        dtype: see `Loss`.

    >>> float(CategoricalHinge()([[0.0, 1.0]], [[0.25, 0.75]]))
    0.5
    """

    fn = staticmethod(categorical_hinge)

    def __init__(self, reduction: str | None = "sum_over_batch_size", name: str = "categorical_hinge", dtype: Any = None) -> None:
        super().__init__(name, reduction, dtype)


for _thing in (hinge, squared_hinge, categorical_hinge, Hinge, SquaredHinge, CategoricalHinge):
    LOSSES.add(_thing)
