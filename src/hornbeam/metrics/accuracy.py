"""How often predictions are right."""

from __future__ import annotations

from typing import Any

import torch

from hornbeam.core import dtype as dtypes
from hornbeam.losses.arguments import as_tensor, guarded, label_error, labels, same_rank, shape_error
from hornbeam.metrics.metric import METRICS
from hornbeam.metrics.reduction import FUNCTIONS, FunctionMetric


def _together(name: str, y_true: Any, y_pred: Any) -> tuple[torch.Tensor, torch.Tensor]:
    y_pred, y_true = as_tensor(y_pred), as_tensor(y_true)
    if y_true.device != y_pred.device:
        y_true = y_true.to(y_pred.device)
    if y_true.shape != y_pred.shape:
        y_true, y_pred = same_rank(y_true, y_pred)
        if y_true.shape != y_pred.shape:
            raise shape_error(name, y_true, y_pred)
    return y_true, y_pred


def _equal(y_true: Any, y_pred: Any) -> torch.Tensor:
    y_true, y_pred = _together("accuracy", y_true, y_pred)
    return y_true == y_pred


def _binary(y_true: Any, y_pred: Any, threshold: float = 0.5) -> torch.Tensor:
    y_true, y_pred = _together("binary_accuracy", y_true, y_pred)
    return (y_pred > threshold) == y_true


def _categorical(y_true: Any, y_pred: Any) -> torch.Tensor:
    y_true, y_pred = _together("categorical_accuracy", y_true, y_pred)
    return y_true.argmax(-1) == y_pred.argmax(-1)


def _sparse(y_true: Any, y_pred: Any) -> torch.Tensor:
    y_true, y_pred = labels("sparse_categorical_accuracy", y_true, y_pred)
    return y_pred.argmax(-1) == y_true


def _top_k(y_true: Any, y_pred: Any, k: int = 5) -> torch.Tensor:
    y_true, y_pred = _together("top_k_categorical_accuracy", y_true, y_pred)
    return _sparse_top_k(y_true.argmax(-1), y_pred, k)


def _sparse_top_k(y_true: Any, y_pred: Any, k: int = 5, from_sorted_ids: bool = False) -> torch.Tensor:
    name = "sparse_top_k_categorical_accuracy"
    y_true, y_pred = labels(name, y_true, y_pred)
    if from_sorted_ids:
        return (y_pred[..., :k] == y_true.unsqueeze(-1)).any(-1)
    index, factor = guarded(y_true, y_pred)
    try:
        target = y_pred.gather(-1, index.unsqueeze(-1))
    except RuntimeError as error:
        if "out of bounds" not in str(error):
            raise
        raise label_error(name, y_true, y_pred.shape[-1]) from None
    target = target if factor is None else target * factor.unsqueeze(-1)
    return ((y_pred > target).sum(-1) < k) & (target == target).squeeze(-1)


def _as_float(matches: torch.Tensor) -> torch.Tensor:
    return matches.to(dtypes.to_torch(None))


def binary_accuracy(y_true: Any, y_pred: Any, threshold: float = 0.5) -> torch.Tensor:
    """Returns 1.0 where a prediction is on the target's side of the threshold, else 0.0.

    Args:
        y_true: 0 or 1, tensor of any shape.
        y_pred: predictions of the same shape.
        threshold: above it a prediction counts as 1.

    >>> binary_accuracy([[1.0, 0.0]], [[0.7, 0.6]]).tolist()
    [[1.0, 0.0]]
    """
    return _as_float(_binary(y_true, y_pred, threshold))


def categorical_accuracy(y_true: Any, y_pred: Any) -> torch.Tensor:
    """Returns 1.0 where the largest prediction is that of the target's class, else 0.0.

    Args:
        y_true: one-hot targets, shape (batch, …, classes).
        y_pred: predictions of the same shape.

    >>> categorical_accuracy([[0.0, 1.0], [1.0, 0.0]], [[0.2, 0.8], [0.2, 0.8]]).tolist()
    [1.0, 0.0]
    """
    return _as_float(_categorical(y_true, y_pred))


def sparse_categorical_accuracy(y_true: Any, y_pred: Any) -> torch.Tensor:
    """Returns 1.0 where the largest prediction is that of the class number, else 0.0.

    Args:
        y_true: class numbers, shape (batch, …) or (batch, …, 1).
        y_pred: predictions, shape (batch, …, classes).

    >>> sparse_categorical_accuracy([1, 0], [[0.2, 0.8], [0.2, 0.8]]).tolist()
    [1.0, 0.0]
    """
    return _as_float(_sparse(y_true, y_pred))


def top_k_categorical_accuracy(y_true: Any, y_pred: Any, k: int = 5) -> torch.Tensor:
    """Returns 1.0 where the target's class is among the k largest predictions, else 0.0.

    Args:
        y_true: one-hot targets, shape (batch, …, classes).
        y_pred: predictions of the same shape.
        k: how many predictions are looked at.

    >>> top_k_categorical_accuracy([[1.0, 0.0, 0.0]], [[0.3, 0.6, 0.1]], k=2).tolist()
    [1.0]
    """
    return _as_float(_top_k(y_true, y_pred, k))


def sparse_top_k_categorical_accuracy(y_true: Any, y_pred: Any, k: int = 5, from_sorted_ids: bool = False) -> torch.Tensor:
    """Returns 1.0 where the class number is among the k largest predictions, else 0.0.

    Args:
        y_true: class numbers, shape (batch, …) or (batch, …, 1).
        y_pred: predictions, shape (batch, …, classes).
        k: how many predictions are looked at.
        from_sorted_ids: whether the predictions are class numbers, best first, instead of scores.

    >>> sparse_top_k_categorical_accuracy([0], [[0.3, 0.6, 0.1]], k=2).tolist()
    [1.0]
    """
    matches = _sparse_top_k(y_true, y_pred, k, from_sorted_ids)
    return _as_float(matches.reshape(as_tensor(y_true).shape))


class Accuracy(FunctionMetric):
    """How often predictions equal targets.

    Args:
        name: a name.
        dtype: the dtype of the result.

    >>> float(Accuracy()([1, 2, 3, 4], [0, 2, 3, 4]))
    0.75
    """

    fn = staticmethod(_equal)

    def __init__(self, name: str | None = "accuracy", dtype: Any = None) -> None:
        super().__init__(name=name, dtype=dtype)

    def _values(self, y_true: Any, y_pred: Any) -> torch.Tensor:
        return _equal(y_true, y_pred)


class BinaryAccuracy(FunctionMetric):
    """How often predictions are on the target's side of a threshold.

    Args:
        name: a name.
        dtype: the dtype of the result.
        threshold: above it a prediction counts as 1.

    >>> float(BinaryAccuracy()([1, 1, 0, 0], [0.98, 0.4, 0.1, 0.6]))
    0.5
    """

    fn = staticmethod(_binary)
    _options = ("threshold",)
    _float_prediction = False

    def __init__(self, name: str | None = "binary_accuracy", dtype: Any = None, threshold: float = 0.5) -> None:
        super().__init__(name=name, dtype=dtype)
        self.threshold = threshold


class CategoricalAccuracy(FunctionMetric):
    """How often the largest prediction is that of the one-hot target.

    Args:
        name: a name.
        dtype: the dtype of the result.

    >>> float(CategoricalAccuracy()([[0, 1], [1, 0]], [[0.2, 0.8], [0.2, 0.8]]))
    0.5
    """

    fn = staticmethod(_categorical)
    _float_prediction = False

    def __init__(self, name: str | None = "categorical_accuracy", dtype: Any = None) -> None:
        super().__init__(name=name, dtype=dtype)


class SparseCategoricalAccuracy(FunctionMetric):
    """How often the largest prediction is that of the class number.

    Args:
        name: a name.
        dtype: the dtype of the result.

    >>> float(SparseCategoricalAccuracy()([1, 0], [[0.2, 0.8], [0.2, 0.8]]))
    0.5
    """

    fn = staticmethod(_sparse)
    _float_prediction = False

    def __init__(self, name: str | None = "sparse_categorical_accuracy", dtype: Any = None) -> None:
        super().__init__(name=name, dtype=dtype)


class TopKCategoricalAccuracy(FunctionMetric):
    """How often the one-hot target is among the k largest predictions.

    Args:
        k: how many predictions are looked at.
        name: a name.
        dtype: the dtype of the result.

    >>> float(TopKCategoricalAccuracy(k=2)([[1, 0, 0]], [[0.3, 0.6, 0.1]]))
    1.0
    """

    fn = staticmethod(_top_k)
    _options = ("k",)
    _float_prediction = False

    def __init__(self, k: int = 5, name: str | None = "top_k_categorical_accuracy", dtype: Any = None) -> None:
        super().__init__(name=name, dtype=dtype)
        self.k = k


class SparseTopKCategoricalAccuracy(FunctionMetric):
    """How often the class number is among the k largest predictions.

    Args:
        k: how many predictions are looked at.
        name: a name.
        dtype: the dtype of the result.
        from_sorted_ids: whether the predictions are class numbers, best first, instead of scores.

    >>> float(SparseTopKCategoricalAccuracy(k=2)([0], [[0.3, 0.6, 0.1]]))
    1.0
    """

    fn = staticmethod(_sparse_top_k)
    _options = ("k", "from_sorted_ids")
    _only_if_changed = ("from_sorted_ids",)
    _float_prediction = False

    def __init__(
        self, k: int = 5, name: str | None = "sparse_top_k_categorical_accuracy", dtype: Any = None, from_sorted_ids: bool = False
    ) -> None:
        super().__init__(name=name, dtype=dtype)
        self.k, self.from_sorted_ids = k, from_sorted_ids

    def _values(self, y_true: Any, y_pred: Any) -> torch.Tensor:
        return _sparse_top_k(y_true, y_pred, self.k, self.from_sorted_ids)


for _class in (
    Accuracy,
    BinaryAccuracy,
    CategoricalAccuracy,
    SparseCategoricalAccuracy,
    TopKCategoricalAccuracy,
    SparseTopKCategoricalAccuracy,
):
    METRICS.add(_class)
for _function in (
    binary_accuracy,
    categorical_accuracy,
    sparse_categorical_accuracy,
    top_k_categorical_accuracy,
    sparse_top_k_categorical_accuracy,
):
    FUNCTIONS[_function.__name__] = _function
