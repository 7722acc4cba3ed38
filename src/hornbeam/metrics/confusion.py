"""Counts of right and wrong yes-or-no predictions at thresholds, and what is made of them: precision, recall."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from hornbeam.core import dtype as dtypes
from hornbeam.losses.arguments import align, as_float, as_tensor, same_rank, shape_error
from hornbeam.metrics.metric import METRICS, SumOverBatches, ratio


class Confusion(NamedTuple):
    """True and false positives, true and false negatives, each of shape (), (thresholds,) or (thresholds, labels)."""

    tp: torch.Tensor
    fp: torch.Tensor
    tn: torch.Tensor
    fn: torch.Tensor


def together(
    name: str, y_true: Any, y_pred: Any, weight: Any, dtype: Any, wide: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor, Any]:
    """Returns boolean targets, float predictions of the same shape, and weights of that shape or None."""
    y_pred, y_true = as_float(y_pred), as_tensor(y_true)
    if y_pred.dtype in (torch.float16, torch.bfloat16):
        y_pred = y_pred.to(dtypes.to_torch(dtype))
    y_true = y_true.to(device=y_pred.device, dtype=torch.bool)
    if y_true.shape != y_pred.shape:
        y_true, y_pred = same_rank(y_true, y_pred)
        if y_true.shape != y_pred.shape:
            raise shape_error(name, y_true, y_pred)
    if weight is not None:
        weight = align(torch.as_tensor(weight, device=y_pred.device).to(wide), y_pred, name, "sample_weight").broadcast_to(
            y_pred.shape
        )
    return y_true, y_pred, weight


def count(
    y_true: torch.Tensor,
    y_pred: torch.Tensor,
    weight: Any,
    below: torch.Tensor,
    thresholds: int,
    wide: torch.dtype,
    labels: bool = False,
) -> Confusion:
    """Counts at many thresholds in one pass over the predictions.

    Args:
        y_true: boolean targets.
        y_pred: predictions of the same shape.
        weight: weights of the same shape, or None.
        below: how many of the ascending thresholds lie below each prediction.
        thresholds: how many thresholds there are.
        wide: the dtype of the counts.
        labels: whether the last axis is counted apart.
    """
    width = y_pred.shape[-1] if labels else 1
    key = y_true * (thresholds + 1) + below
    if labels:
        key = key * width + torch.arange(width, device=key.device)
    amounts = torch.ones(key.shape, dtype=wide, device=key.device) if weight is None else weight.to(wide)
    histogram = torch.zeros(2 * (thresholds + 1) * width, dtype=wide, device=key.device)
    histogram.index_add_(0, key.reshape(-1), amounts.reshape(-1))
    table = histogram.reshape(2, thresholds + 1, width)
    above = table.flip(1).cumsum(1).flip(1)
    negative, positive = above if labels else above.squeeze(-1)
    return Confusion(positive[1:], negative[1:], negative[:1] - negative[1:], positive[:1] - positive[1:])


def count_one(y_true: torch.Tensor, y_pred: torch.Tensor, weight: Any, threshold: float, wide: torch.dtype) -> Confusion:
    """Counts at one threshold."""
    predicted = y_pred > threshold
    both = y_true & predicted
    if weight is None:
        tp, true, pred, total = both.sum(dtype=wide), y_true.sum(dtype=wide), predicted.sum(dtype=wide), float(y_pred.numel())
    else:
        tp, true, pred, total = (both * weight).sum(), (y_true * weight).sum(), (predicted * weight).sum(), weight.sum()
    return Confusion(tp, pred - tp, total - true - pred + tp, true - tp)


def checked_thresholds(owner: str, thresholds: Any, default: float) -> list[float]:
    """Returns thresholds as a list; raises where one is not a number from 0 to 1."""
    if thresholds is None:
        return [default]
    listed = list(thresholds) if isinstance(thresholds, (list, tuple)) or hasattr(thresholds, "__len__") else [thresholds]
    wrong = [t for t in listed if t is None or not 0 <= t <= 1]
    if wrong or not listed:
        raise ValueError(f"{owner} needs thresholds between 0 and 1. Received: {thresholds!r}")
    return listed


class AtThresholds(SumOverBatches):
    """The base of metrics that compare predictions with given thresholds.

    Class attributes:
        _counts: which of tp, fp, tn, fn are kept.
        _names: the names of the variables that keep them.
    """

    _counts: tuple[str, ...] = ()
    _names: tuple[str, ...] = ()
    top_k: int | None = None
    class_id: int | None = None

    def __init__(self, thresholds: Any = None, name: str | None = None, dtype: Any = None, default: float = 0.5) -> None:
        super().__init__(name=name, dtype=dtype)
        self.init_thresholds = self.thresholds = thresholds
        self._listed = checked_thresholds(type(self).__name__, thresholds, default)
        self._order = sorted(range(len(self._listed)), key=self._listed.__getitem__)
        self._add_state((len(self._listed),), *self._names)

    def tally(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> tuple[Any, ...]:
        """Returns the counts of a batch."""
        y_true, y_pred, weight = together(self.name, y_true, y_pred, sample_weight, self.dtype, self._wide)
        if self.top_k is not None:
            kept = torch.zeros_like(y_true).scatter(-1, y_pred.topk(self.top_k).indices, True)
            y_pred = torch.where(kept, y_pred, -torch.inf)
        if self.class_id is not None:
            if y_pred.ndim < 2:
                raise ValueError(
                    f"Metric {self.name!r} with class_id={self.class_id} needs predictions of shape (batch, classes). "
                    f"Received: y_pred of shape {tuple(y_pred.shape)}"
                )
            y_true, y_pred = y_true[..., self.class_id], y_pred[..., self.class_id]
            weight = None if weight is None else weight[..., self.class_id]
        if len(self._listed) == 1:
            counts = count_one(y_true, y_pred, weight, self._listed[0], self._wide)
            return tuple(getattr(counts, c) for c in self._counts)
        ascending = torch.tensor([self._listed[i] for i in self._order], dtype=y_pred.dtype, device=y_pred.device)
        counts = count(y_true, y_pred, weight, torch.bucketize(y_pred.contiguous(), ascending), len(self._order), self._wide)
        back = sorted(range(len(self._order)), key=self._order.__getitem__)
        return tuple(getattr(counts, c)[back] for c in self._counts)

    def _shaped(self, value: torch.Tensor) -> torch.Tensor:
        return self._finish(value[0] if len(self._listed) == 1 else value)


class _Count(AtThresholds):
    _names = ("accumulator",)
    accumulator: Any

    def __init__(self, thresholds: Any = None, name: str | None = None, dtype: Any = None) -> None:
        super().__init__(thresholds, name, dtype)

    def result(self) -> torch.Tensor:
        """Returns the count, a scalar for one threshold."""
        return self._shaped(self.accumulator)


class TruePositives(_Count):
    """How many predictions above a threshold are right.

    Args:
        thresholds: one or several numbers from 0 to 1; 0.5 unless given.
        name: a name.
        dtype: the dtype of the result.

    >>> float(TruePositives()([0, 1, 1, 1], [1, 0, 1, 1]))
    2.0
    """

    _counts = ("tp",)


class FalsePositives(_Count):
    """How many predictions above a threshold are wrong.

    Args:
        thresholds: one or several numbers from 0 to 1; 0.5 unless given.
        name: a name.
        dtype: the dtype of the result.

    >>> float(FalsePositives()([0, 1, 0, 0], [0, 0, 1, 1]))
    2.0
    """

    _counts = ("fp",)


class TrueNegatives(_Count):
    """How many predictions up to a threshold are right.

    Args:
        thresholds: one or several numbers from 0 to 1; 0.5 unless given.
        name: a name.
        dtype: the dtype of the result.

    >>> float(TrueNegatives()([0, 1, 0, 0], [1, 1, 0, 0]))
    2.0
    """

    _counts = ("tn",)


class FalseNegatives(_Count):
    """How many predictions up to a threshold are wrong.

    Args:
        thresholds: one or several numbers from 0 to 1; 0.5 unless given.
        name: a name.
        dtype: the dtype of the result.

    >>> float(FalseNegatives()([0, 1, 1, 1], [0, 1, 0, 0]))
    2.0
    """

    _counts = ("fn",)


class _Rate(AtThresholds):
    true_positives: Any

    def __init__(
        self,
        thresholds: Any = None,
        top_k: int | None = None,
        class_id: int | None = None,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(thresholds, name, dtype, default=0.5 if top_k is None else -torch.inf)
        self.top_k, self.class_id = top_k, class_id

    def result(self) -> torch.Tensor:
        """Returns the rate, a scalar for one threshold; 0 where nothing was counted."""
        tp, wrong = self._variables[:2]
        return self._shaped(ratio(tp, tp + wrong))


class Precision(_Rate):
    """Which part of the predictions above a threshold is right.

    Args:
        thresholds: one or several numbers from 0 to 1; 0.5 unless given, or none with `top_k`.
        top_k: if given, only the k largest predictions of a row count.
        class_id: if given, only this class counts.
        name: a name.
        dtype: the dtype of the result.

    >>> round(float(Precision()([0, 1, 1, 1], [1, 0, 1, 1])), 4)
    0.6667
    """

    _counts, _names = ("tp", "fp"), ("true_positives", "false_positives")
    false_positives: Any


class Recall(_Rate):
    """Which part of the true samples is predicted above a threshold.

    Args:
        thresholds: one or several numbers from 0 to 1; 0.5 unless given, or none with `top_k`.
        top_k: if given, only the k largest predictions of a row count.
        class_id: if given, only this class counts.
        name: a name.
        dtype: the dtype of the result.

    >>> round(float(Recall()([0, 1, 1, 1], [1, 0, 1, 1])), 4)
    0.6667
    """

    _counts, _names = ("tp", "fn"), ("true_positives", "false_negatives")
    false_negatives: Any


for _class in (TruePositives, FalsePositives, TrueNegatives, FalseNegatives, Precision, Recall):
    METRICS.add(_class)
