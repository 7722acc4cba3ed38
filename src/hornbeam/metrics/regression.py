"""Means of distances between numbers."""

from __future__ import annotations

from typing import Any

import torch

from hornbeam.losses import regression as losses
from hornbeam.metrics.metric import METRICS
from hornbeam.metrics.reduction import FunctionMetric


def _cosine(y_true: Any, y_pred: Any, axis: int = -1) -> torch.Tensor:
    return -losses.cosine_similarity(y_true, y_pred, axis)


class MeanSquaredError(FunctionMetric):
    """The mean of the squared differences.

    Args:
        name: a name.
        dtype: the dtype of the result.

    >>> float(MeanSquaredError()([[0.0], [1.0]], [[2.0], [1.0]]))
    2.0
    """

    fn = staticmethod(losses.mean_squared_error)

    def __init__(self, name: str | None = "mean_squared_error", dtype: Any = None) -> None:
        super().__init__(name=name, dtype=dtype)


class MeanAbsoluteError(FunctionMetric):
    """The mean of the absolute differences.

    Args:
        name: a name.
        dtype: the dtype of the result.

    >>> float(MeanAbsoluteError()([[0.0], [1.0]], [[2.0], [1.0]]))
    1.0
    """

    fn = staticmethod(losses.mean_absolute_error)

    def __init__(self, name: str | None = "mean_absolute_error", dtype: Any = None) -> None:
        super().__init__(name=name, dtype=dtype)


class MeanAbsolutePercentageError(FunctionMetric):
    """The mean of the absolute differences in percent of the targets.

    Args:
        name: a name.
        dtype: the dtype of the result.

    >>> float(MeanAbsolutePercentageError()([[2.0]], [[1.0]]))
    50.0
    """

    fn = staticmethod(losses.mean_absolute_percentage_error)

    def __init__(self, name: str | None = "mean_absolute_percentage_error", dtype: Any = None) -> None:
        super().__init__(name=name, dtype=dtype)


class MeanSquaredLogarithmicError(FunctionMetric):
    """The mean of the squared differences of the logarithms.

    Args:
        name: a name.
        dtype: the dtype of the result.

    >>> float(MeanSquaredLogarithmicError()([[2.0]], [[2.0]]))
    0.0
    """

    fn = staticmethod(losses.mean_squared_logarithmic_error)

    def __init__(self, name: str | None = "mean_squared_logarithmic_error", dtype: Any = None) -> None:
        super().__init__(name=name, dtype=dtype)


class LogCoshError(FunctionMetric):
    """The mean of the logarithm of the hyperbolic cosine of the error.

    Args:
        name: a name.
        dtype: the dtype of the result.

    >>> float(LogCoshError()([[0.0]], [[0.0]]))
    0.0
    """

    fn = staticmethod(losses.log_cosh)

    def __init__(self, name: str | None = "logcosh", dtype: Any = None) -> None:
        super().__init__(name=name, dtype=dtype)


class CosineSimilarity(FunctionMetric):
    """The mean of the cosine of the angle between targets and predictions: 1 where they point the same way.

    Args:
        name: a name.
        dtype: the dtype of the result.
        axis: the axis of the vectors.

    >>> float(CosineSimilarity()([[1.0, 0.0]], [[3.0, 0.0]]))
    1.0
    """

    fn = staticmethod(_cosine)
    _options = ("axis",)
    _only_if_changed = ("axis",)

    def __init__(self, name: str | None = "cosine_similarity", dtype: Any = None, axis: int = -1) -> None:
        super().__init__(name=name, dtype=dtype)
        self.axis = axis


for _class, _aliases in {
    MeanSquaredError: ("mse", "MSE"),
    MeanAbsoluteError: ("mae", "MAE"),
    MeanAbsolutePercentageError: ("mape", "MAPE"),
    MeanSquaredLogarithmicError: ("msle", "MSLE"),
    LogCoshError: (),
    CosineSimilarity: (),
}.items():
    METRICS.add(_class, *_aliases)
