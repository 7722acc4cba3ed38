"""Areas under curves, and rates at the threshold where another rate is reached."""

from __future__ import annotations

from typing import Any

import torch

from hornbeam.core.errors import did_you_mean
from hornbeam.metrics.confusion import Confusion, checked_thresholds, count, together
from hornbeam.metrics.metric import METRICS, SumOverBatches, ratio

_NAMES = ("true_positives", "false_positives", "true_negatives", "false_negatives")
_EDGE = 1e-7


def _evenly_below(y_pred: torch.Tensor, thresholds: int) -> torch.Tensor:
    """Returns how many of the thresholds `-epsilon, 1/(n-1), …, 1 + epsilon` lie below each prediction."""
    place = (y_pred.nan_to_num(0.0, 1.0, 0.0).clamp(0, 1) * (thresholds - 1)).ceil()
    return place.clamp(1, thresholds - 1).long()


class _Curve(SumOverBatches):
    """Counts at evenly spaced or given thresholds."""

    true_positives: Any
    false_positives: Any
    true_negatives: Any
    false_negatives: Any
    _listed: list[float]
    _evenly = False
    class_id: int | None = None

    def _confusion(self) -> Confusion:
        return Confusion(self.true_positives, self.false_positives, self.true_negatives, self.false_negatives)

    def _counts(self, y_true: torch.Tensor, y_pred: torch.Tensor, weight: Any, labels: bool = False) -> tuple[Any, ...]:
        size = len(self._listed)
        if self._evenly:
            below = _evenly_below(y_pred, size)
        else:
            below = torch.bucketize(y_pred.contiguous(), torch.tensor(self._listed, dtype=y_pred.dtype, device=y_pred.device))
        return tuple(count(y_true, y_pred, weight, below, size, self._wide, labels))


def _choice(argument: str, value: Any, known: tuple[str, ...]) -> str:
    if value not in known:
        raise ValueError(
            f"AUC got {argument}={value!r}.{did_you_mean(value, known)} Expected one of {', '.join(map(repr, known))}."
        )
    return value


class AUC(_Curve):
    """The area under the receiver operating characteristic ("ROC"), the precision-recall ("PR") or its gain ("PRGAIN") curve.

    Args:
        num_thresholds: how many evenly spaced thresholds the curve is drawn from.
        curve: "ROC", "PR" or "PRGAIN".
        summation_method: "interpolation" (trapezoids; for "PR" after Davis and Goadrich, 2006), "minoring" or "majoring".
        name: a name.
        dtype: the dtype of the result.
        thresholds: numbers from 0 to 1 to use instead of evenly spaced ones; 0 and 1 are added.
        multi_label: whether each column has a curve of its own; the areas are averaged.
        num_labels: the number of columns; found at the first update unless given.
        label_weights: a weight for each column.
        from_logits: whether the predictions are logits.

    >>> float(AUC(num_thresholds=3)([0, 0, 1, 1], [0, 0.5, 0.3, 0.9]))
    0.75
    """

    def __init__(
        self,
        num_thresholds: int = 200,
        curve: str = "ROC",
        summation_method: str = "interpolation",
        name: str | None = None,
        dtype: Any = None,
        thresholds: Any = None,
        multi_label: bool = False,
        num_labels: int | None = None,
        label_weights: Any = None,
        from_logits: bool = False,
    ) -> None:
        super().__init__(name=name, dtype=dtype)
        self.curve = _choice("curve", curve, ("ROC", "PR", "PRGAIN"))
        self.summation_method = _choice("summation_method", summation_method, ("interpolation", "majoring", "minoring"))
        if num_labels is not None and not multi_label:
            raise ValueError("AUC takes `num_labels` only with `multi_label=True`.")
        self._evenly = thresholds is None
        if thresholds is None:
            if num_thresholds <= 1:
                raise ValueError(f"AUC needs `num_thresholds` above 1. Received: num_thresholds={num_thresholds!r}")
            inner = [(i + 1) / (num_thresholds - 1) for i in range(num_thresholds - 2)]
        else:
            inner = sorted(float(t) for t in checked_thresholds("AUC", thresholds, 0.5))
        self._listed = [-_EDGE, *inner, 1 + _EDGE]
        self.num_thresholds = len(self._listed)
        self.multi_label, self.num_labels, self.from_logits = multi_label, num_labels, from_logits
        self.label_weights = None if label_weights is None else [float(w) for w in label_weights]
        if not multi_label or num_labels:
            self._build(num_labels)

    @property
    def thresholds(self) -> list[float]:
        """The thresholds, ascending, with one below 0 and one above 1."""
        return list(self._listed)

    def _build(self, labels: int | None) -> None:
        self._add_state((len(self._listed), labels) if self.multi_label else (len(self._listed),), *_NAMES)  # type: ignore[arg-type]

    def tally(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> tuple[Any, ...]:
        """Returns the counts of a batch at all thresholds."""
        y_true, y_pred, weight = together(
            self.name, y_true, y_pred, sample_weight, self.dtype, torch.float64 if not self._variables else self._wide
        )
        if self.from_logits:
            y_pred = y_pred.sigmoid()
        if self.multi_label and not self._variables:
            self._build(y_pred.shape[-1])
        if self.label_weights is not None and not self.multi_label:
            columns = torch.tensor(self.label_weights, dtype=self._wide, device=y_pred.device)
            weight = columns.broadcast_to(y_pred.shape) if weight is None else weight * columns
        return self._counts(y_true, y_pred, weight, self.multi_label)

    def interpolate_pr_auc(self) -> torch.Tensor:
        """Returns the area under the precision-recall curve, interpolated between thresholds (Davis and Goadrich, 2006)."""
        tp, fp, _, fn = self._confusion()
        predicted = tp + fp
        tp_step, step = tp[:-1] - tp[1:], predicted[:-1] - predicted[1:]
        slope = ratio(tp_step, step.clamp(min=0))
        intercept = tp[1:] - slope * predicted[1:]
        growth = torch.where((predicted[:-1] > 0) & (predicted[1:] > 0), ratio(predicted[:-1], predicted[1:].clamp(min=0)), 1)
        areas = ratio(slope * (tp_step + intercept * growth.log()), (tp[1:] + fn[1:]).clamp(min=0))
        return self._over_labels(areas.sum(0))

    def _over_labels(self, areas: torch.Tensor) -> torch.Tensor:
        if not self.multi_label:
            return areas
        if self.label_weights is None:
            return areas.mean()
        weights = torch.tensor(self.label_weights, dtype=areas.dtype, device=areas.device)
        return ratio((areas * weights).sum(), weights.sum())

    def result(self) -> torch.Tensor:
        """Returns the area; 0 before any value."""
        if not self._variables:
            return self._finish(torch.zeros(()))
        if self.curve == "PR" and self.summation_method == "interpolation":
            return self._finish(self.interpolate_pr_auc())
        tp, fp, tn, fn = self._confusion()
        if self.curve == "ROC":
            x, y = ratio(fp, fp + tn), ratio(tp, tp + fn)
        elif self.curve == "PR":
            x, y = ratio(tp, tp + fn), ratio(tp, tp + fp)
        else:
            odds = ratio(tp + fn, fp + tn)
            x = torch.where(tp > 0, 1 - odds * ratio(fn, tp), 0).clamp(min=0)
            y = 1 - odds * ratio(fp, tp)
        if self.summation_method == "interpolation":
            heights = (y[:-1] + y[1:]) / 2
        else:
            heights = torch.minimum(y[:-1], y[1:]) if self.summation_method == "minoring" else torch.maximum(y[:-1], y[1:])
        return self._finish(self._over_labels(((x[:-1] - x[1:]) * heights).sum(0)))

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments, `thresholds` only where they were given."""
        config = super().get_config()
        del config["thresholds"]
        return config if self._evenly else {**config, "thresholds": self._listed[1:-1]}


class _RateAtRate(_Curve):
    """The largest of one rate over the thresholds at which another is at least a given value."""

    _value_name: str

    def _start(self, value: float, num_thresholds: int, class_id: int | None) -> None:
        if not 0 <= value <= 1:
            raise ValueError(
                f"{type(self).__name__} needs a `{self._value_name}` from 0 to 1. Received: {self._value_name}={value!r}"
            )
        if num_thresholds <= 0:
            raise ValueError(f"{type(self).__name__} needs `num_thresholds` above 0. Received: num_thresholds={num_thresholds!r}")
        self.num_thresholds, self.class_id, self._value = num_thresholds, class_id, value
        self._listed = [i / (num_thresholds - 1) for i in range(num_thresholds)] if num_thresholds > 1 else [0.5]
        self._add_state((num_thresholds,), *_NAMES)

    @property
    def thresholds(self) -> list[float]:
        """The thresholds, ascending."""
        return list(self._listed)

    def tally(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> tuple[Any, ...]:
        """Returns the counts of a batch at all thresholds."""
        y_true, y_pred, weight = together(self.name, y_true, y_pred, sample_weight, self.dtype, self._wide)
        if self.class_id is not None:
            y_true, y_pred = y_true[..., self.class_id], y_pred[..., self.class_id]
            weight = None if weight is None else weight[..., self.class_id]
        return self._counts(y_true, y_pred, weight)

    def _rates(self) -> tuple[torch.Tensor, torch.Tensor]:
        raise NotImplementedError

    def result(self) -> torch.Tensor:
        """Returns the best rate; 0 where the other rate is never reached."""
        wanted, given = self._rates()
        return self._finish(torch.where(given.float() >= getattr(self, self._value_name), wanted, 0).amax())

    def _sensitivity(self) -> torch.Tensor:
        return ratio(self.true_positives, self.true_positives + self.false_negatives)

    def _specificity(self) -> torch.Tensor:
        return ratio(self.true_negatives, self.true_negatives + self.false_positives)

    def _precision(self) -> torch.Tensor:
        return ratio(self.true_positives, self.true_positives + self.false_positives)


class SensitivityAtSpecificity(_RateAtRate):
    """The best sensitivity (recall) among thresholds with at least a given specificity.

    Args:
        specificity: from 0 to 1.
        num_thresholds: how many evenly spaced thresholds are tried.
        class_id: if given, only this class counts.
        name: a name.
        dtype: the dtype of the result.

    >>> float(SensitivityAtSpecificity(0.5)([0, 0, 0, 1, 1], [0, 0.3, 0.8, 0.3, 0.8]))
    0.5
    """

    _value_name = "specificity"

    def __init__(
        self,
        specificity: float,
        num_thresholds: int = 200,
        class_id: int | None = None,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(name=name, dtype=dtype)
        self.specificity = specificity
        self._start(specificity, num_thresholds, class_id)

    def _rates(self) -> tuple[torch.Tensor, torch.Tensor]:
        return self._sensitivity(), self._specificity()


class SpecificityAtSensitivity(_RateAtRate):
    """The best specificity among thresholds with at least a given sensitivity (recall).

    Args:
        sensitivity: from 0 to 1.
        num_thresholds: how many evenly spaced thresholds are tried.
        class_id: if given, only this class counts.
        name: a name.
        dtype: the dtype of the result.

    >>> round(float(SpecificityAtSensitivity(0.5)([0, 0, 0, 1, 1], [0, 0.3, 0.8, 0.3, 0.8])), 4)
    0.6667
    """

    _value_name = "sensitivity"

    def __init__(
        self,
        sensitivity: float,
        num_thresholds: int = 200,
        class_id: int | None = None,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(name=name, dtype=dtype)
        self.sensitivity = sensitivity
        self._start(sensitivity, num_thresholds, class_id)

    def _rates(self) -> tuple[torch.Tensor, torch.Tensor]:
        return self._specificity(), self._sensitivity()


class PrecisionAtRecall(_RateAtRate):
    """The best precision among thresholds with at least a given recall.

    Args:
        recall: from 0 to 1.
        num_thresholds: how many evenly spaced thresholds are tried.
        class_id: if given, only this class counts.
        name: a name.
        dtype: the dtype of the result.

    >>> float(PrecisionAtRecall(0.5)([0, 0, 0, 1, 1], [0, 0.3, 0.8, 0.3, 0.8]))
    0.5
    """

    _value_name = "recall"

    def __init__(
        self, recall: float, num_thresholds: int = 200, class_id: int | None = None, name: str | None = None, dtype: Any = None
    ) -> None:
        super().__init__(name=name, dtype=dtype)
        self.recall = recall
        self._start(recall, num_thresholds, class_id)

    def _rates(self) -> tuple[torch.Tensor, torch.Tensor]:
        return self._precision(), self._sensitivity()


class RecallAtPrecision(_RateAtRate):
    """The best recall among thresholds with at least a given precision.

    Args:
        precision: from 0 to 1.
        num_thresholds: how many evenly spaced thresholds are tried.
        class_id: if given, only this class counts.
        name: a name.
        dtype: the dtype of the result.

    >>> float(RecallAtPrecision(0.8)([0, 0, 1, 1], [0, 0.5, 0.3, 0.9]))
    0.5
    """

    _value_name = "precision"

    def __init__(
        self, precision: float, num_thresholds: int = 200, class_id: int | None = None, name: str | None = None, dtype: Any = None
    ) -> None:
        super().__init__(name=name, dtype=dtype)
        self.precision = precision
        self._start(precision, num_thresholds, class_id)

    def _rates(self) -> tuple[torch.Tensor, torch.Tensor]:
        return self._sensitivity(), self._precision()


for _class in (AUC, SensitivityAtSpecificity, SpecificityAtSensitivity, PrecisionAtRecall, RecallAtPrecision):
    METRICS.add(_class)
