"""Losses for numbers: distances between targets and predictions."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.nn import functional as F

from hornbeam.core import settings
from hornbeam.losses.arguments import pair
from hornbeam.losses.loss import LOSSES, FunctionLoss, fused_mean


def _last_mean(values: torch.Tensor) -> torch.Tensor:
    return values.mean(-1) if values.ndim else values


def mean_squared_error(y_true: Any, y_pred: Any) -> torch.Tensor:
    """Returns the mean of `(y_true - y_pred)**2` over the last axis.

    Args:
        y_true: targets, shape (batch, …, d).
        y_pred: predictions of the same shape.

    >>> mean_squared_error([[0.0, 1.0]], [[2.0, 1.0]]).tolist()
    [2.0]
    """
    y_true, y_pred = pair("mean_squared_error", y_true, y_pred)
    return _last_mean(torch.square(y_true - y_pred))


def mean_absolute_error(y_true: Any, y_pred: Any) -> torch.Tensor:
    """Returns the mean of `|y_true - y_pred|` over the last axis.

    Args:
        y_true: targets, shape (batch, …, d).
        y_pred: predictions of the same shape.

    >>> mean_absolute_error([[0.0, 1.0]], [[2.0, 1.0]]).tolist()
    [1.0]
    """
    y_true, y_pred = pair("mean_absolute_error", y_true, y_pred)
    return _last_mean((y_true - y_pred).abs())


def mean_absolute_percentage_error(y_true: Any, y_pred: Any) -> torch.Tensor:
    """Returns the mean of `100 |y_true - y_pred| / |y_true|` over the last axis; divisors are at least `config.epsilon()`.

    Args:
        y_true: targets, shape (batch, …, d).
        y_pred: predictions of the same shape.

    >>> mean_absolute_percentage_error([[2.0, 4.0]], [[1.0, 4.0]]).tolist()
    [25.0]
    """
    y_true, y_pred = pair("mean_absolute_percentage_error", y_true, y_pred)
    return 100 * _last_mean(((y_true - y_pred) / y_true.abs().clamp(min=settings.epsilon())).abs())


def mean_squared_logarithmic_error(y_true: Any, y_pred: Any) -> torch.Tensor:
    """Returns the mean of `(log(y_true + 1) - log(y_pred + 1))**2` over the last axis; negative values count as 0.

    Args:
        y_true: targets, shape (batch, …, d).
        y_pred: predictions of the same shape.

    >>> mean_squared_logarithmic_error([[1.0, 3.0]], [[1.0, 3.0]]).tolist()
    [0.0]
    """
    y_true, y_pred = pair("mean_squared_logarithmic_error", y_true, y_pred)
    eps = settings.epsilon()
    return _last_mean(torch.square(y_true.clamp(min=eps).log1p() - y_pred.clamp(min=eps).log1p()))


def huber(y_true: Any, y_pred: Any, delta: float = 1.0) -> torch.Tensor:
    """Returns the mean over the last axis of the error, squared (times one half) up to `delta` and linear beyond (Huber, 1964).

    Args:
        y_true: targets, shape (batch, …, d).
        y_pred: predictions of the same shape.
        delta: where the square turns into a line.

    >>> huber([[0.0, 0.0]], [[1.0, 3.0]]).tolist()
    [1.5]
    """
    y_true, y_pred = pair("huber", y_true, y_pred)
    error = (y_true - y_pred).abs()
    return _last_mean(torch.where(error <= delta, 0.5 * error * error, delta * error - 0.5 * delta * delta))


def log_cosh(y_true: Any, y_pred: Any) -> torch.Tensor:
    """Returns the mean of `log(cosh(y_pred - y_true))` over the last axis.

    Args:
        y_true: targets, shape (batch, …, d).
        y_pred: predictions of the same shape.

    >>> log_cosh([[0.0, 0.0]], [[0.0, 0.0]]).tolist()
    [0.0]
    """
    y_true, y_pred = pair("log_cosh", y_true, y_pred)
    error = y_pred - y_true
    return _last_mean(torch.logaddexp(error, -error) - math.log(2))


def normalized(x: torch.Tensor, axis: Any) -> torch.Tensor:
    """Returns vectors divided by their length, which counts as at least `config.epsilon()`."""
    return F.normalize(x, dim=axis, eps=settings.epsilon())


def cosine_similarity(y_true: Any, y_pred: Any, axis: int = -1) -> torch.Tensor:
    """Returns minus the cosine of the angle between targets and predictions: -1 where they point the same way.

    Args:
        y_true: targets, shape (batch, …, d).
        y_pred: predictions of the same shape.
        axis: the axis of the vectors.

    >>> cosine_similarity([[1.0, 0.0]], [[3.0, 0.0]]).tolist()
    [-1.0]
    """
    y_true, y_pred = pair("cosine_similarity", y_true, y_pred)
    return -(normalized(y_true, axis) * normalized(y_pred, axis)).sum(axis)


@fused_mean(mean_squared_error)
def _mean_squared_error(y_true: Any, y_pred: Any) -> torch.Tensor:
    y_true, y_pred = pair("mean_squared_error", y_true, y_pred)
    return F.mse_loss(y_pred, y_true)


@fused_mean(mean_absolute_error)
def _mean_absolute_error(y_true: Any, y_pred: Any) -> torch.Tensor:
    y_true, y_pred = pair("mean_absolute_error", y_true, y_pred)
    return F.l1_loss(y_pred, y_true)


@fused_mean(huber)
def _huber(y_true: Any, y_pred: Any, delta: float = 1.0) -> torch.Tensor | None:
    if delta <= 0:
        return None
    y_true, y_pred = pair("huber", y_true, y_pred)
    return F.huber_loss(y_pred, y_true, delta=delta)


class MeanSquaredError(FunctionLoss):
    """The mean of the squared differences.

    Args:
        reduction: see `Loss`.
        name: a name.
        dtype: see `Loss`.

    >>> float(MeanSquaredError()([[0.0], [1.0]], [[2.0], [1.0]]))
    2.0
    """

    fn = staticmethod(mean_squared_error)

    def __init__(
        self, reduction: str | None = "sum_over_batch_size", name: str = "mean_squared_error", dtype: Any = None
    ) -> None:
        super().__init__(name, reduction, dtype)


class MeanAbsoluteError(FunctionLoss):
    """The mean of the absolute differences.

    Args:
        reduction: see `Loss`.
        name: a name.
        dtype: see `Loss`.

    >>> float(MeanAbsoluteError()([[0.0], [1.0]], [[2.0], [1.0]]))
    1.0
    """

    fn = staticmethod(mean_absolute_error)

    def __init__(
        self, reduction: str | None = "sum_over_batch_size", name: str = "mean_absolute_error", dtype: Any = None
    ) -> None:
        super().__init__(name, reduction, dtype)


class MeanAbsolutePercentageError(FunctionLoss):
    """The mean of the absolute differences in percent of the targets.

    Args:
        reduction: see `Loss`.
        name: a name.
        dtype: see `Loss`.

    >>> float(MeanAbsolutePercentageError()([[2.0]], [[1.0]]))
    50.0
    """

    fn = staticmethod(mean_absolute_percentage_error)

    def __init__(
        self, reduction: str | None = "sum_over_batch_size", name: str = "mean_absolute_percentage_error", dtype: Any = None
    ) -> None:
        super().__init__(name, reduction, dtype)


class MeanSquaredLogarithmicError(FunctionLoss):
    """The mean of the squared differences of the logarithms.

    Args:
        reduction: see `Loss`.
        name: a name.
        dtype: see `Loss`.

    >>> float(MeanSquaredLogarithmicError()([[2.0]], [[2.0]]))
    0.0
    """

    fn = staticmethod(mean_squared_logarithmic_error)

    def __init__(
        self, reduction: str | None = "sum_over_batch_size", name: str = "mean_squared_logarithmic_error", dtype: Any = None
    ) -> None:
        super().__init__(name, reduction, dtype)


class CosineSimilarity(FunctionLoss):
    """Minus the cosine of the angle between targets and predictions.

    Args:
        axis: the axis of the vectors.
        reduction: see `Loss`.
        name: a name.
        dtype: see `Loss`.

    >>> float(CosineSimilarity()([[1.0, 0.0]], [[0.0, 2.0]])) == 0
    True
    """

    fn = staticmethod(cosine_similarity)
    _options = ("axis",)
    _only_if_changed = ("dtype", "axis")

    def __init__(
        self, axis: int = -1, reduction: str | None = "sum_over_batch_size", name: str = "cosine_similarity", dtype: Any = None
    ) -> None:
        super().__init__(name, reduction, dtype)
        self.axis = axis


class Huber(FunctionLoss):
    """The squared error near 0, the absolute error beyond `delta`.

    Args:
        delta: where the square turns into a line.
        reduction: see `Loss`.
        name: a name.
        dtype: see `Loss`.

    >>> float(Huber()([[0.0, 0.0]], [[1.0, 3.0]]))
    1.5
    """

    fn = staticmethod(huber)
    _options = ("delta",)
    _only_if_changed = ("dtype", "delta")

    def __init__(
        self, delta: float = 1.0, reduction: str | None = "sum_over_batch_size", name: str = "huber_loss", dtype: Any = None
    ) -> None:
        super().__init__(name, reduction, dtype)
        self.delta = delta


class LogCosh(FunctionLoss):
    """The logarithm of the hyperbolic cosine of the error.

    Args:
        reduction: see `Loss`.
        name: a name.
        dtype: see `Loss`.

    >>> float(LogCosh()([[0.0]], [[0.0]]))
    0.0
    """

    fn = staticmethod(log_cosh)

    def __init__(self, reduction: str | None = "sum_over_batch_size", name: str = "log_cosh", dtype: Any = None) -> None:
        super().__init__(name, reduction, dtype)


for _function, _aliases in {
    mean_squared_error: ("mse", "MSE"),
    mean_absolute_error: ("mae", "MAE"),
    mean_absolute_percentage_error: ("mape", "MAPE"),
    mean_squared_logarithmic_error: ("msle", "MSLE"),
    cosine_similarity: (),
    huber: (),
    log_cosh: (),
}.items():
    LOSSES.add(_function, *_aliases)
for _class in (
    MeanSquaredError,
    MeanAbsoluteError,
    MeanAbsolutePercentageError,
    MeanSquaredLogarithmicError,
    CosineSimilarity,
    Huber,
    LogCosh,
):
    LOSSES.add(_class)
