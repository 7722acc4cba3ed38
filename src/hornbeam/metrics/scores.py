"""F-scores, and how much of the variance is explained."""

from __future__ import annotations

from typing import Any

import torch

from hornbeam.core import dtype as dtypes
from hornbeam.losses.arguments import as_float, as_tensor
from hornbeam.metrics.metric import METRICS, SumOverBatches, ratio


class _PerColumn(SumOverBatches):
    """A metric of 2-D inputs with state for each column, made at the first update."""

    _columns: int | None = None

    def _matrices(self, y_true: Any, y_pred: Any) -> tuple[torch.Tensor, torch.Tensor]:
        y_pred = as_float(y_pred).to(dtypes.to_torch(self.dtype))
        y_true = as_tensor(y_true).to(y_pred)
        if y_true.ndim != 2 or y_true.shape != y_pred.shape or y_pred.shape[1] != (self._columns or y_pred.shape[1]):
            expected = f"(batch, {self._columns})" if self._columns else "(batch, outputs)"
            raise ValueError(
                f"{type(self).__name__} {self.name!r} needs targets and predictions of shape {expected}. "
                f"Received: {tuple(y_true.shape)} and {tuple(y_pred.shape)}."
            )
        if self._columns is None:
            self._build(y_pred.shape[1])
            self._columns = y_pred.shape[1]
        return y_true, y_pred

    def _rows(self, weight: Any, like: torch.Tensor) -> torch.Tensor:
        return torch.as_tensor(weight, device=like.device).to(self._wide).reshape(-1, 1)

    def _build(self, columns: int) -> None:
        raise NotImplementedError


class FBetaScore(_PerColumn):
    """The weighted harmonic mean of precision and recall: `(1 + beta²) precision recall / (beta² precision + recall)`.

    Args:
        average: None (one score for each class), "micro", "macro" or "weighted".
        beta: how much more recall counts than precision.
        threshold: above it a prediction counts as 1; the largest of a row unless given.
        name: a name.
        dtype: the dtype of the result.

    >>> FBetaScore(beta=2.0, threshold=0.5)([[1, 1], [1, 0]], [[0.9, 0.2], [0.8, 0.6]]).tolist()
    [1.0, 0.0]
    """

    true_positives: Any
    false_positives: Any
    false_negatives: Any
    intermediate_weights: Any

    def __init__(
        self,
        average: str | None = None,
        beta: float = 1.0,
        threshold: float | None = None,
        name: str | None = "fbeta_score",
        dtype: Any = None,
    ) -> None:
        super().__init__(name=name, dtype=dtype)
        owner = type(self).__name__
        if average not in (None, "micro", "macro", "weighted"):
            raise ValueError(f"{owner} takes average=None, 'micro', 'macro' or 'weighted'. Received: average={average!r}")
        if not isinstance(beta, float) or beta <= 0:
            raise ValueError(f"{owner} needs a float `beta` above 0. Received: beta={beta!r}")
        if threshold is not None and (not isinstance(threshold, float) or not 0 < threshold <= 1):
            raise ValueError(
                f"{owner} needs a float `threshold` above 0 and at most 1, or None. Received: threshold={threshold!r}"
            )
        self.average, self.beta, self.threshold = average, beta, threshold

    def _build(self, columns: int) -> None:
        names = ("true_positives", "false_positives", "false_negatives", "intermediate_weights")
        self._add_state(() if self.average == "micro" else (columns,), *names)

    def tally(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> tuple[Any, ...]:
        """Returns true positives, false positives, false negatives and the number of true samples, by class."""
        y_true, y_pred = self._matrices(y_true, y_pred)
        if self.threshold is None:
            predicted = (y_pred == y_pred.amax(-1, keepdim=True)) & (y_pred.abs() > 1e-9)
        else:
            predicted = y_pred > self.threshold
        true = y_true.to(self._wide)
        predicted = predicted.to(self._wide)
        weight = 1 if sample_weight is None else self._rows(sample_weight, y_pred)
        both = predicted * true * weight
        parts = (both, predicted * weight - both, true * weight - both, true * weight)
        return tuple(p.sum() if self.average == "micro" else p.sum(0) for p in parts)

    def result(self) -> torch.Tensor:
        """Returns the score, one for each class or their average; 0 before any value."""
        if self._columns is None:
            return self._finish(torch.zeros(()))
        square = self.beta**2
        hits = (1 + square) * self.true_positives
        scores = ratio(hits, hits + square * self.false_negatives + self.false_positives)
        if self.average == "macro":
            scores = scores.mean()
        elif self.average == "weighted":
            scores = ratio((scores * self.intermediate_weights).sum(), self.intermediate_weights.sum())
        return self._finish(scores)


class F1Score(FBetaScore):
    """The harmonic mean of precision and recall.

    Args:
        average: None (one score for each class), "micro", "macro" or "weighted".
        threshold: above it a prediction counts as 1; the largest of a row unless given.
        name: a name.
        dtype: the dtype of the result.

    >>> F1Score(threshold=0.5)([[1, 1], [1, 0]], [[0.9, 0.2], [0.8, 0.6]]).tolist()
    [1.0, 0.0]
    """

    def __init__(
        self, average: str | None = None, threshold: float | None = None, name: str | None = "f1_score", dtype: Any = None
    ) -> None:
        super().__init__(average=average, beta=1.0, threshold=threshold, name=name, dtype=dtype)


class R2Score(_PerColumn):
    """The coefficient of determination: 1 minus the squared errors over the variance of the targets.

    Args:
        class_aggregation: "uniform_average", "variance_weighted_average" or None (one score for each column).
        num_regressors: the number of independent regressors for the adjusted score; 0 for the plain one.
        name: a name.
        dtype: the dtype of the result.

    >>> round(float(R2Score()([[1.0], [4.0], [3.0]], [[2.0], [4.0], [4.0]])), 4)
    0.5714
    """

    num_samples: Any
    squared_sum: Any
    sum: Any
    residual: Any
    count: Any

    def __init__(
        self,
        class_aggregation: str | None = "uniform_average",
        num_regressors: int = 0,
        name: str | None = "r2_score",
        dtype: Any = None,
    ) -> None:
        super().__init__(name=name, dtype=dtype)
        if class_aggregation not in (None, "uniform_average", "variance_weighted_average"):
            raise ValueError(
                "R2Score takes class_aggregation=None, 'uniform_average' or 'variance_weighted_average'. "
                f"Received: class_aggregation={class_aggregation!r}"
            )
        if num_regressors < 0:
            raise ValueError(f"R2Score needs `num_regressors` of at least 0. Received: num_regressors={num_regressors!r}")
        self.class_aggregation, self.num_regressors = class_aggregation, num_regressors
        self._add_state((), "num_samples")

    def _build(self, columns: int) -> None:
        self._add_state((columns,), "squared_sum", "sum", "residual", "count")

    def tally(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> tuple[Any, ...]:
        """Returns the number of values, and by column the sums of squares, of targets, of squared errors and of weights."""
        y_true, y_pred = self._matrices(y_true, y_pred)
        y_true, y_pred = y_true.to(self._wide), y_pred.to(self._wide)
        weight = torch.ones_like(y_true[:, :1]) if sample_weight is None else self._rows(sample_weight, y_pred)
        weighted = y_true * weight
        residual = (y_true - y_pred).square() * weight
        return y_true.numel(), (y_true * weighted).sum(0), weighted.sum(0), residual.sum(0), weight.sum(0).expand(y_true.shape[1])

    def result(self) -> torch.Tensor:
        """Returns the score; 0 before any value and for constant targets."""
        if self._columns is None:
            return self._finish(torch.zeros(()))
        total = self.squared_sum - self.sum * ratio(self.sum, self.count)
        scores = torch.where(total == 0, 0, 1 - ratio(self.residual, total))
        if self.class_aggregation == "uniform_average":
            scores = scores.mean()
        elif self.class_aggregation == "variance_weighted_average":
            scores = ratio((scores * total).sum(), total.sum())
        if self.num_regressors:
            free = self.num_samples - self.num_regressors - 1
            scores = torch.where(free > 0, 1 - (1 - scores) * (self.num_samples - 1) / torch.where(free > 0, free, 1), scores)
        return self._finish(scores)


for _class in (FBetaScore, F1Score, R2Score):
    METRICS.add(_class)
