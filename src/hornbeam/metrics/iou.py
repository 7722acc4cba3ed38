"""Intersection over union: how well the regions of each class overlap."""

from __future__ import annotations

from typing import Any

import torch

from hornbeam.losses.arguments import align, as_tensor
from hornbeam.metrics.metric import METRICS, SumOverBatches, ratio


class _Overlap(SumOverBatches):
    """A matrix that counts which class was predicted for which."""

    total_confusion_matrix: Any
    num_classes: int
    ignore_class: int | None = None
    sparse_y_true = True
    sparse_y_pred = True
    axis = -1
    _default_dtype = "int32"

    def _start(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self._add_state((num_classes, num_classes), "total_confusion_matrix")

    @property
    def total_cm(self) -> Any:
        """The confusion matrix, a row for each true class."""
        return self.total_confusion_matrix

    def _classes(self, y_true: Any, y_pred: Any) -> tuple[torch.Tensor, torch.Tensor]:
        y_true, y_pred = as_tensor(y_true), as_tensor(y_pred)
        if not self.sparse_y_true:
            y_true = y_true.argmax(self.axis)
        if not self.sparse_y_pred:
            y_pred = y_pred.argmax(self.axis)
        return y_true, y_pred

    def tally(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> tuple[Any, ...]:
        """Returns the confusion matrix of a batch; classes outside the range are left out."""
        y_true, y_pred = self._classes(y_true, y_pred)
        y_true, y_pred = y_true.to(y_pred.device).long(), y_pred.long()
        if y_true.numel() != y_pred.numel():
            raise ValueError(
                f"{self.name!r} got targets of shape {tuple(y_true.shape)} and predictions of shape {tuple(y_pred.shape)}, "
                f"as class numbers. Set `sparse_y_true` and `sparse_y_pred` to say whether class numbers or scores are given."
            )
        size = self.num_classes
        amounts = torch.ones(y_true.shape, dtype=self._wide, device=y_pred.device)
        if sample_weight is not None:
            weight = torch.as_tensor(sample_weight, device=y_pred.device).to(self._wide)
            amounts = amounts * align(weight, amounts, self.name, "sample_weight")
        y_true, y_pred, amounts = y_true.reshape(-1), y_pred.reshape(-1), amounts.reshape(-1)
        valid = (y_true >= 0) & (y_true < size) & (y_pred >= 0) & (y_pred < size)
        if self.ignore_class is not None:
            valid = valid & (y_true != self.ignore_class)
        key = torch.where(valid, y_true * size + y_pred, 0)
        matrix = torch.zeros(size * size, dtype=self._wide, device=y_pred.device).index_add_(
            0, key, torch.where(valid, amounts, 0)
        )
        return (matrix.reshape(size, size),)

    def _mean_over(self, classes: Any) -> torch.Tensor:
        matrix = self.total_confusion_matrix
        both = matrix.diagonal()
        union = matrix.sum(0) + matrix.sum(1) - both
        scores, seen = ratio(both, union), union > 0
        if classes is not None:
            scores, seen = scores[list(classes)], seen[list(classes)]
        return self._finish(ratio(scores.sum(), seen.sum()))


class IoU(_Overlap):
    """The mean intersection over union of some classes.

    Args:
        num_classes: how many classes there are.
        target_class_ids: the classes to average over; those that never occur are left out.
        name: a name.
        dtype: kept for the config; results are `config.floatx()` unless a float type is given.
        ignore_class: a class number that marks places to leave out.
        sparse_y_true: whether targets are class numbers; else the largest entry along `axis` is taken.
        sparse_y_pred: whether predictions are class numbers.
        axis: the class axis.

    >>> round(float(IoU(num_classes=2, target_class_ids=[0])([0, 0, 1, 1], [0, 1, 0, 1])), 4)
    0.3333
    """

    def __init__(
        self,
        num_classes: int,
        target_class_ids: Any,
        name: str | None = None,
        dtype: Any = None,
        ignore_class: int | None = None,
        sparse_y_true: bool = True,
        sparse_y_pred: bool = True,
        axis: int = -1,
    ) -> None:
        super().__init__(name=name, dtype=dtype)
        wrong = [c for c in target_class_ids if not 0 <= c < num_classes]
        if wrong:
            raise ValueError(
                f"{type(self).__name__} got target_class_ids={target_class_ids!r}; classes go from 0 to {num_classes - 1}."
            )
        self.target_class_ids = list(target_class_ids)
        self.ignore_class, self.sparse_y_true, self.sparse_y_pred, self.axis = ignore_class, sparse_y_true, sparse_y_pred, axis
        self._start(num_classes)

    def result(self) -> torch.Tensor:
        """Returns the mean over the target classes."""
        return self._mean_over(self.target_class_ids)


class BinaryIoU(IoU):
    """The mean intersection over union of class 0, class 1 or both, for predictions compared with a threshold.

    Args:
        target_class_ids: the classes to average over.
        threshold: from it on a prediction counts as 1.
        name: a name.
        dtype: kept for the config.

    >>> round(float(BinaryIoU(threshold=0.3)([0, 1, 0, 1], [0.1, 0.2, 0.4, 0.7])), 4)
    0.3333
    """

    def __init__(
        self, target_class_ids: Any = (0, 1), threshold: float = 0.5, name: str | None = None, dtype: Any = None
    ) -> None:
        super().__init__(2, target_class_ids, name=name, dtype=dtype)
        self.threshold = threshold

    def _classes(self, y_true: Any, y_pred: Any) -> tuple[torch.Tensor, torch.Tensor]:
        return as_tensor(y_true), as_tensor(y_pred) >= self.threshold


class MeanIoU(IoU):
    """The mean intersection over union of all classes that occur.

    Args:
        num_classes: how many classes there are.
        name: a name.
        dtype: kept for the config.
        ignore_class: a class number that marks places to leave out.
        sparse_y_true: whether targets are class numbers; else the largest entry along `axis` is taken.
        sparse_y_pred: whether predictions are class numbers.
        axis: the class axis.

    >>> round(float(MeanIoU(num_classes=2)([0, 0, 1, 1], [0, 1, 0, 1])), 4)
    0.3333
    """

    def __init__(
        self,
        num_classes: int,
        name: str | None = None,
        dtype: Any = None,
        ignore_class: int | None = None,
        sparse_y_true: bool = True,
        sparse_y_pred: bool = True,
        axis: int = -1,
    ) -> None:
        super().__init__(num_classes, range(num_classes), name, dtype, ignore_class, sparse_y_true, sparse_y_pred, axis)


class OneHotIoU(IoU):
    """The mean intersection over union of some classes, for one-hot targets.

    Args:
        num_classes: how many classes there are.
        target_class_ids: the classes to average over.
        name: a name.
        dtype: kept for the config.
        ignore_class: a class number that marks places to leave out.
        sparse_y_pred: whether predictions are class numbers; else scores.
        axis: the class axis.

    >>> float(OneHotIoU(num_classes=2, target_class_ids=[1])([[0, 1], [1, 0]], [[0.2, 0.8], [0.6, 0.4]]))
    1.0
    """

    def __init__(
        self,
        num_classes: int,
        target_class_ids: Any,
        name: str | None = None,
        dtype: Any = None,
        ignore_class: int | None = None,
        sparse_y_pred: bool = False,
        axis: int = -1,
    ) -> None:
        super().__init__(num_classes, target_class_ids, name, dtype, ignore_class, False, sparse_y_pred, axis)


class OneHotMeanIoU(MeanIoU):
    """The mean intersection over union of all classes that occur, for one-hot targets.

    Args:
        num_classes: how many classes there are.
        name: a name.
        dtype: kept for the config.
        ignore_class: a class number that marks places to leave out.
        sparse_y_pred: whether predictions are class numbers; else scores.
        axis: the class axis.

    >>> float(OneHotMeanIoU(num_classes=2)([[0, 1], [1, 0]], [[0.2, 0.8], [0.6, 0.4]]))
    1.0
    """

    def __init__(
        self,
        num_classes: int,
        name: str | None = None,
        dtype: Any = None,
        ignore_class: int | None = None,
        sparse_y_pred: bool = False,
        axis: int = -1,
    ) -> None:
        super().__init__(num_classes, name, dtype, ignore_class, False, sparse_y_pred, axis)


for _class in (IoU, BinaryIoU, MeanIoU, OneHotIoU, OneHotMeanIoU):
    METRICS.add(_class)
