"""Cross-entropies: of two classes, of many, of class numbers, with the focal and the generalized variants."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional as F

from hornbeam.core import settings
from hornbeam.losses.arguments import NEVER_A_LABEL, guarded, label_error, labels, pair
from hornbeam.losses.loss import fused_mean


def _smooth(y_true: torch.Tensor, label_smoothing: float, classes: float) -> torch.Tensor:
    return y_true * (1.0 - label_smoothing) + label_smoothing / classes if label_smoothing else y_true


def _logits(y_pred: torch.Tensor, from_logits: bool) -> torch.Tensor:
    return y_pred if from_logits else torch.logit(y_pred, eps=settings.epsilon())


def _probabilities(y_pred: torch.Tensor, axis: int, from_logits: bool) -> torch.Tensor:
    if from_logits:
        return y_pred.softmax(axis)
    return y_pred / y_pred.sum(axis, keepdim=True)


def _is_last(axis: int, ndim: int) -> bool:
    return axis in (-1, ndim - 1)


def binary_crossentropy(
    y_true: Any, y_pred: Any, from_logits: bool = False, label_smoothing: float = 0.0, axis: int = -1
) -> torch.Tensor:
    """Returns the mean over an axis of `-y_true log(y_pred) - (1 - y_true) log(1 - y_pred)`.

    Args:
        y_true: 0 or 1, or a probability, shape (batch, …, d).
        y_pred: predictions of the same shape.
        from_logits: whether the predictions are logits; else they are probabilities, clipped by `config.epsilon()`.
        label_smoothing: how far targets are moved towards 0.5, from 0 to 1.
        axis: the axis of the mean.

    >>> round(binary_crossentropy([[1.0, 0.0]], [[0.5, 0.5]]).item(), 4)
    0.6931
    """
    y_true, y_pred = pair("binary_crossentropy", y_true, y_pred)
    y_true = _smooth(y_true, label_smoothing, 2)
    values = F.binary_cross_entropy_with_logits(_logits(y_pred, from_logits), y_true, reduction="none")
    return values.mean(axis) if values.ndim else values


@fused_mean(binary_crossentropy)
def _binary_crossentropy(
    y_true: Any, y_pred: Any, from_logits: bool = False, label_smoothing: float = 0.0, axis: int = -1
) -> torch.Tensor:
    y_true, y_pred = pair("binary_crossentropy", y_true, y_pred)
    return F.binary_cross_entropy_with_logits(_logits(y_pred, from_logits), _smooth(y_true, label_smoothing, 2))


def categorical_crossentropy(
    y_true: Any, y_pred: Any, from_logits: bool = False, label_smoothing: float = 0.0, axis: int = -1
) -> torch.Tensor:
    """Returns `-sum(y_true log(y_pred))` over the class axis.

    Args:
        y_true: one-hot targets or probabilities, shape (batch, …, classes).
        y_pred: predictions of the same shape.
        from_logits: whether the predictions are logits; else they are divided by their sum and clipped by `config.epsilon()`.
        label_smoothing: which part of a target is spread evenly over all classes, from 0 to 1.
        axis: the class axis.

    >>> round(categorical_crossentropy([[0.0, 1.0]], [[0.5, 0.5]]).item(), 4)
    0.6931
    """
    y_true, y_pred = pair("categorical_crossentropy", y_true, y_pred)
    y_true = _smooth(y_true, label_smoothing, y_true.shape[axis])
    if from_logits:
        return -(y_true * y_pred.log_softmax(axis)).sum(axis)
    eps = settings.epsilon()
    return -(y_true * _probabilities(y_pred, axis, False).clamp(eps, 1 - eps).log()).sum(axis)


@fused_mean(categorical_crossentropy)
def _categorical_crossentropy(
    y_true: Any, y_pred: Any, from_logits: bool = False, label_smoothing: float = 0.0, axis: int = -1
) -> torch.Tensor | None:
    if not from_logits or y_pred.ndim < 2 or not _is_last(axis, y_pred.ndim):
        return None
    y_true, y_pred = pair("categorical_crossentropy", y_true, y_pred)
    if y_pred.ndim > 2:
        y_true, y_pred = y_true.flatten(0, -2), y_pred.flatten(0, -2)
    return F.cross_entropy(y_pred, y_true, label_smoothing=label_smoothing)


def sparse_categorical_crossentropy(
    y_true: Any, y_pred: Any, from_logits: bool = False, ignore_class: int | None = None, axis: int = -1
) -> torch.Tensor:
    """Returns `-log(y_pred[y_true])`: the cross-entropy for targets that are class numbers.

    Args:
        y_true: class numbers, shape (batch, …) or (batch, …, 1).
        y_pred: predictions, shape (batch, …, classes).
        from_logits: whether the predictions are logits; else they are divided by their sum and clipped by `config.epsilon()`.
        ignore_class: a class number that marks places to leave out; their value is 0 and a mean does not count them.
        axis: the class axis.

    >>> round(sparse_categorical_crossentropy([1], [[0.5, 0.5]]).item(), 4)
    0.6931
    """
    y_true, y_pred = labels("sparse_categorical_crossentropy", y_true, y_pred, axis)
    kept = None if ignore_class is None else y_true != ignore_class
    index, factor = guarded(y_true if kept is None else torch.where(kept, y_true, 0), y_pred)
    try:
        if from_logits:
            flat = F.cross_entropy(
                y_pred.reshape(-1, y_pred.shape[-1]), index.reshape(-1), reduction="none", ignore_index=NEVER_A_LABEL
            )
            values = flat.reshape(index.shape)
        else:
            eps = settings.epsilon()
            picked = y_pred.gather(-1, index.unsqueeze(-1)).squeeze(-1)
            values = -(picked / y_pred.sum(-1)).clamp(eps, 1 - eps).log()
    except (IndexError, RuntimeError) as error:
        if "out of bounds" not in str(error):
            raise
        raise label_error("sparse_categorical_crossentropy", y_true, y_pred.shape[-1], ignore_class) from None
    if factor is not None:
        values = values * factor
    if kept is not None:
        values = torch.where(kept, values, 0)
        values._keras_mask = kept  # type: ignore[attr-defined]
    return values


@fused_mean(sparse_categorical_crossentropy)
def _sparse_categorical_crossentropy(
    y_true: Any, y_pred: Any, from_logits: bool = False, ignore_class: int | None = None, axis: int = -1
) -> torch.Tensor | None:
    if not from_logits or ignore_class is not None or y_pred.ndim < 2 or not _is_last(axis, y_pred.ndim):
        return None
    y_true, y_pred = labels("sparse_categorical_crossentropy", y_true, y_pred)
    if y_pred.ndim > 2:
        y_true, y_pred = y_true.flatten(), y_pred.flatten(0, -2)
    index, factor = guarded(y_true, y_pred)
    try:
        value = F.cross_entropy(y_pred, index, ignore_index=NEVER_A_LABEL)
        return value if factor is None else value * factor.mean()
    except IndexError:
        raise label_error("sparse_categorical_crossentropy", y_true, y_pred.shape[-1]) from None


def binary_focal_crossentropy(
    y_true: Any,
    y_pred: Any,
    apply_class_balancing: bool = False,
    alpha: float = 0.25,
    gamma: float = 2.0,
    from_logits: bool = False,
    label_smoothing: float = 0.0,
    axis: int = -1,
) -> torch.Tensor:
    """Returns the binary cross-entropy times `(1 - p)**gamma`, where p is the probability given to the target (Lin et al., 2017).

    Args:
        y_true: 0 or 1, shape (batch, …, d).
        y_pred: predictions of the same shape.
        apply_class_balancing: whether class 1 is weighted by `alpha` and class 0 by `1 - alpha`.
        alpha: the weight of class 1.
        gamma: how much less easy samples count.
        from_logits: whether the predictions are logits.
        label_smoothing: how far targets are moved towards 0.5.
        axis: the axis of the mean.

    >>> round(binary_focal_crossentropy([[1.0, 0.0]], [[0.5, 0.5]]).item(), 4)
    0.1733
    """
    y_true, y_pred = pair("binary_focal_crossentropy", y_true, y_pred)
    y_true = _smooth(y_true, label_smoothing, 2)
    p = y_pred.sigmoid() if from_logits else y_pred
    p_target = y_true * p + (1 - y_true) * (1 - p)
    values = (1 - p_target) ** gamma * F.binary_cross_entropy_with_logits(_logits(y_pred, from_logits), y_true, reduction="none")
    if apply_class_balancing:
        values = values * (y_true * alpha + (1 - y_true) * (1 - alpha))
    return values.mean(axis) if values.ndim else values


def categorical_focal_crossentropy(
    y_true: Any,
    y_pred: Any,
    alpha: Any = 0.25,
    gamma: float = 2.0,
    from_logits: bool = False,
    label_smoothing: float = 0.0,
    axis: int = -1,
) -> torch.Tensor:
    """Returns `-sum(alpha (1 - y_pred)**gamma y_true log(y_pred))` over the class axis (Lin et al., 2017).

    Args:
        y_true: one-hot targets, shape (batch, …, classes).
        y_pred: predictions of the same shape.
        alpha: one weight, or one for each class.
        gamma: how much less easy samples count.
        from_logits: whether the predictions are logits.
        label_smoothing: which part of a target is spread evenly over all classes.
        axis: the class axis.

    >>> round(categorical_focal_crossentropy([[0.0, 1.0]], [[0.5, 0.5]]).item(), 4)
    0.0433
    """
    y_true, y_pred = pair("categorical_focal_crossentropy", y_true, y_pred)
    y_true = _smooth(y_true, label_smoothing, y_true.shape[axis])
    eps = settings.epsilon()
    p = _probabilities(y_pred, axis, from_logits).clamp(eps, 1 - eps)
    if not isinstance(alpha, (int, float)):
        alpha = torch.as_tensor(alpha, dtype=p.dtype, device=p.device)
    return -(alpha * (1 - p) ** gamma * y_true * p.log()).sum(axis)


def categorical_generalized_cross_entropy(y_true: Any, y_pred: Any, q: float) -> torch.Tensor:
    """Returns `(1 - p**q) / q`, where p is the probability given to the target: robust to wrong labels (Zhang and Sabuncu, 2018).

    Args:
        y_true: class numbers, shape (batch, …) or (batch, …, 1).
        y_pred: probabilities, shape (batch, …, classes).
        q: between 0 (cross-entropy) and 1 (mean absolute error).

    >>> categorical_generalized_cross_entropy([1], [[0.75, 0.25]], q=0.5).tolist()
    [1.0]
    """
    name = "categorical_generalized_cross_entropy"
    y_true, y_pred = labels(name, y_true, y_pred)
    index, factor = guarded(y_true, y_pred)
    try:
        picked = y_pred.gather(-1, index.unsqueeze(-1)).squeeze(-1)
    except RuntimeError as error:
        if "out of bounds" not in str(error):
            raise
        raise label_error(name, y_true, y_pred.shape[-1]) from None
    values = (1 - picked**q) / q
    return values if factor is None else values * factor


def kl_divergence(y_true: Any, y_pred: Any) -> torch.Tensor:
    """Returns `sum(y_true log(y_true / y_pred))` over the last axis; both are clipped to lie between `config.epsilon()` and 1.

    Args:
        y_true: probabilities, shape (batch, …, d).
        y_pred: probabilities of the same shape.

    >>> kl_divergence([[0.5, 0.5]], [[0.5, 0.5]]).tolist()
    [0.0]
    """
    y_true, y_pred = pair("kl_divergence", y_true, y_pred)
    eps = settings.epsilon()
    y_true, y_pred = y_true.clamp(eps, 1), y_pred.clamp(eps, 1)
    return (y_true * (y_true / y_pred).log()).sum(-1)


def poisson(y_true: Any, y_pred: Any) -> torch.Tensor:
    """Returns the mean of `y_pred - y_true log(y_pred)` over the last axis: the Poisson likelihood of counts.

    Args:
        y_true: counts, shape (batch, …, d).
        y_pred: expected counts of the same shape.

    >>> round(poisson([[1.0, 2.0]], [[1.0, 1.0]]).item(), 4)
    1.0
    """
    y_true, y_pred = pair("poisson", y_true, y_pred)
    values = y_pred - y_true * (y_pred + settings.epsilon()).log()
    return values.mean(-1) if values.ndim else values
