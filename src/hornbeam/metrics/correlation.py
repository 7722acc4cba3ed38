"""Means of correlations between targets and predictions."""

from __future__ import annotations

from typing import Any

import torch

from hornbeam.losses.arguments import pair
from hornbeam.metrics.metric import METRICS, ratio
from hornbeam.metrics.reduction import FUNCTIONS, FunctionMetric


def _moments(name: str, y_true: Any, y_pred: Any, axis: Any) -> tuple[torch.Tensor, ...]:
    y_true, y_pred = pair(name, y_true, y_pred)
    mean_true, mean_pred = y_true.mean(axis, keepdim=True), y_pred.mean(axis, keepdim=True)
    centred_true, centred_pred = y_true - mean_true, y_pred - mean_pred
    covariance = (centred_true * centred_pred).mean(axis)
    shift = (mean_true - mean_pred).square().squeeze(axis)
    return covariance, centred_true.square().mean(axis), centred_pred.square().mean(axis), shift


def pearson_correlation(y_true: Any, y_pred: Any, axis: int = -1) -> torch.Tensor:
    """Returns the Pearson correlation along an axis, from -1 to 1; 0 where one of the two is constant.

    Args:
        y_true: targets, shape (batch, …, d).
        y_pred: predictions of the same shape.
        axis: the axis of the vectors.

    >>> round(pearson_correlation([[0.0, 1.0, 2.0]], [[1.0, 3.0, 5.0]]).item(), 4)
    1.0
    """
    covariance, var_true, var_pred, _ = _moments("pearson_correlation", y_true, y_pred, axis)
    return ratio(covariance, var_true.sqrt() * var_pred.sqrt())


def concordance_correlation(y_true: Any, y_pred: Any, axis: int = -1) -> torch.Tensor:
    """Returns the concordance correlation along an axis: how close the points lie to the line y = x (Lin, 1989).

    Args:
        y_true: targets, shape (batch, …, d).
        y_pred: predictions of the same shape.
        axis: the axis of the vectors.

    >>> round(concordance_correlation([[0.0, 1.0, 2.0]], [[0.0, 1.0, 2.0]]).item(), 4)
    1.0
    """
    covariance, var_true, var_pred, shift = _moments("concordance_correlation", y_true, y_pred, axis)
    return ratio(2 * covariance, var_true + var_pred + shift)


class PearsonCorrelation(FunctionMetric):
    """The mean Pearson correlation of targets and predictions.

    Args:
        name: a name.
        dtype: the dtype of the result.
        axis: the axis of the vectors.

    >>> round(float(PearsonCorrelation()([[0.0, 1.0, 2.0]], [[1.0, 3.0, 5.0]])), 4)
    1.0
    """

    fn = staticmethod(pearson_correlation)
    _options = ("axis",)

    def __init__(self, name: str | None = "pearson_correlation", dtype: Any = None, axis: int = -1) -> None:
        super().__init__(name=name, dtype=dtype)
        self.axis = axis


class ConcordanceCorrelation(FunctionMetric):
    """The mean concordance correlation of targets and predictions (Lin, 1989).

    Args:
        name: a name.
        dtype: the dtype of the result.
        axis: the axis of the vectors.

    >>> round(float(ConcordanceCorrelation()([[0.0, 1.0, 2.0]], [[0.0, 1.0, 2.0]])), 4)
    1.0
    """

    fn = staticmethod(concordance_correlation)
    _options = ("axis",)

    def __init__(self, name: str | None = "concordance_correlation", dtype: Any = None, axis: int = -1) -> None:
        super().__init__(name=name, dtype=dtype)
        self.axis = axis


for _class in (PearsonCorrelation, ConcordanceCorrelation):
    METRICS.add(_class)
for _function in (pearson_correlation, concordance_correlation):
    FUNCTIONS[_function.__name__] = _function
