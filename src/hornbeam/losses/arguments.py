"""What losses and metrics do with their arguments: one dtype, device and rank, and a clear word where shapes differ."""

from __future__ import annotations

from typing import Any

import torch

from hornbeam.core import dtype as dtypes
from hornbeam.core.errors import describe

NEVER_A_LABEL = -(2**62)


def as_tensor(value: Any) -> torch.Tensor:
    """Returns a value as a tensor; whatever takes part in torch's function protocol is left as it is."""
    if isinstance(value, torch.Tensor) or hasattr(type(value), "__torch_function__"):
        return value
    return torch.as_tensor(value)


def returned(what: str, value: Any) -> torch.Tensor:
    """Returns what a loss or metric function gave as a tensor; raises where it is none and no number.

    Args:
        what: the function, for the error.
        value: what it returned.
    """
    if isinstance(value, torch.Tensor) or hasattr(type(value), "__torch_function__"):
        return value
    try:
        return torch.as_tensor(value)
    except (RuntimeError, TypeError, ValueError):
        missing = " Is its `return` missing?" if value is None else ""
        raise TypeError(
            f"{what} must return a tensor: one value per sample, or one number.{missing} Received: {describe(value)}"
        ) from None


def as_float(value: Any) -> torch.Tensor:
    """Returns a value as a floating point tensor; integers and booleans become `config.floatx()`."""
    value = as_tensor(value)
    return value if value.dtype.is_floating_point else value.to(dtypes.to_torch(None))


def pair(name: str, y_true: Any, y_pred: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns targets and predictions for an elementwise loss: one dtype, one device, one shape.

    A trailing axis of size 1 that only one of the two has is dropped, or added where the other has rank 1. A scalar target holds
    for every element. Any other difference of shape raises, since broadcasting would compare each target with each prediction.

    Args:
        name: the name of the loss or metric, for the error.
        y_true: targets, tensor or array.
        y_pred: predictions, tensor or array.
    """
    y_pred, y_true = as_float(y_pred), as_tensor(y_true)
    if y_true.dtype is not y_pred.dtype or y_true.device != y_pred.device:
        y_true = y_true.to(device=y_pred.device, dtype=y_pred.dtype)
    if y_true.shape == y_pred.shape:
        return y_true, y_pred
    if y_true.ndim == 0:
        return y_true.expand(y_pred.shape), y_pred
    y_true, y_pred = same_rank(y_true, y_pred)
    if y_true.shape != y_pred.shape:
        raise shape_error(name, y_true, y_pred)
    return y_true, y_pred


def same_rank(a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Drops (or, beside rank 1, adds) a trailing axis of size 1 where that makes two ranks equal."""
    if a.ndim == b.ndim + 1 and a.shape[-1] == 1:
        return (a, b.unsqueeze(-1)) if b.ndim == 1 else (a.squeeze(-1), b)
    if b.ndim == a.ndim + 1 and b.shape[-1] == 1:
        return (a.unsqueeze(-1), b) if a.ndim == 1 else (a, b.squeeze(-1))
    return a, b


def shape_error(name: str, y_true: torch.Tensor, y_pred: torch.Tensor) -> ValueError:
    """Returns the error for a target that does not fit its prediction, with the likely cause."""
    true, pred = tuple(y_true.shape), tuple(y_pred.shape)
    if true in (pred[:-1], (*pred[:-1], 1)):
        cause = (
            f"The target holds one value per sample where the model predicts {pred[-1]}: give the last layer 1 unit, or, if the "
            f"targets are class numbers, use 'sparse_categorical_crossentropy' or one-hot targets (`utils.to_categorical`)."
        )
    elif len(true) == len(pred) and true[:-1] == pred[:-1]:
        cause = f"The last layer should have {true[-1]} units, or the target {pred[-1]} values per sample."
    elif true[:1] != pred[:1]:
        cause = "The numbers of samples differ."
    else:
        cause = "Reshape the target, or change the model so that its output has the target's shape."
    return ValueError(f"{name!r} got targets of shape {true} and predictions of shape {pred}, which must be equal. {cause}")


def labels(name: str, y_true: Any, y_pred: Any, axis: int = -1) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns class numbers as int64 and predictions whose last axis is the class axis.

    Args:
        name: the name of the loss or metric, for the error.
        y_true: class numbers, of the predictions' shape without the class axis, or with 1 in its place or at the end.
        y_pred: predictions.
        axis: the class axis.
    """
    y_pred, y_true = as_float(y_pred), as_tensor(y_true)
    if axis != -1:
        if y_true.ndim == y_pred.ndim and y_true.shape[axis] == 1:
            y_true = y_true.squeeze(axis)
        y_pred = y_pred.movedim(axis, -1)
    if y_true.ndim == y_pred.ndim and y_true.shape[-1] == 1:
        y_true = y_true.squeeze(-1)
    if y_true.shape != y_pred.shape[:-1]:
        cause = (
            "The target looks one-hot: use 'categorical_crossentropy', or pass class numbers."
            if y_true.shape == y_pred.shape
            else f"Class numbers of shape {tuple(y_pred.shape[:-1])} are expected."
        )
        raise ValueError(
            f"{name!r} got targets of shape {tuple(y_true.shape)} and predictions of shape {tuple(y_pred.shape)}. {cause}"
        )
    if y_true.dtype is not torch.int64 or y_true.device != y_pred.device:
        y_true = y_true.to(device=y_pred.device, dtype=torch.int64)
    return y_true, y_pred


def label_error(name: str, y_true: torch.Tensor, classes: int, ignored: int | None = None) -> ValueError:
    """Returns the error for class numbers outside the range of the predictions. Looks at the values."""
    low, high = int(y_true.min()), int(y_true.max())
    wrong = (y_true < 0) | (y_true >= classes)
    place = (wrong if ignored is None else wrong & (y_true != ignored)).nonzero()[:1].tolist()
    row = f" (row {place[0][0]} has {int(y_true[tuple(place[0])])})" if place and place[0] else ""
    hint = (
        f"Pass `ignore_class={low}` if {low} marks what is to be left out."
        if low < 0
        else f"The last layer needs {high + 1} units."
    )
    if low < 0 and low == ignored:
        hint = f"The last layer needs {high + 1} units."
    return ValueError(
        f"{name!r} got class numbers from {low} to {high}{row}, but the predictions have {classes} classes, so 0 to "
        f"{classes - 1} are expected. {hint}"
    )


def guarded(index: torch.Tensor, y_pred: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Returns class numbers that a kernel may take, and the factor that makes the values of those out of range NaN.

    On a CPU kernels check by themselves, so the factor is None. Elsewhere a number out of range would end the program, or read
    foreign memory, long after this call; to look at the numbers would make each step wait.
    """
    if kernels_check(index):
        return index, None
    valid = (index >= 0) & (index < y_pred.shape[-1])
    return torch.where(valid, index, 0), torch.where(valid, 1.0, torch.nan).to(y_pred.dtype)


def kernels_check(index: torch.Tensor) -> bool:
    """Returns whether kernels on an index's device raise where it is out of range."""
    return index.device.type == "cpu"


def align(weight: torch.Tensor, values: torch.Tensor, name: str, argument: str) -> torch.Tensor:
    """Gives a weight or mask the rank of the values that it belongs to; its axes are the first ones of the values.

    Args:
        weight: tensor of shape (), (batch,), (batch, 1), (batch, steps), …
        values: the per-sample values.
        name: the name of the loss or metric, for the error.
        argument: what the weight is called there.
    """
    if weight.ndim == values.ndim + 1 and weight.shape[-1] == 1:
        weight = weight.squeeze(-1)
    if weight.ndim == 0 or weight.shape == values.shape:
        return weight
    if weight.ndim == values.ndim + 1 and values.ndim == 0:
        return weight
    if 0 < weight.ndim < values.ndim and weight.shape == values.shape[: weight.ndim]:
        return weight.reshape(weight.shape + (1,) * (values.ndim - weight.ndim))
    fits = weight.ndim <= values.ndim and all(
        w in (1, v) for w, v in zip(reversed(weight.shape), reversed(values.shape), strict=False)
    )
    if not fits:
        raise ValueError(
            f"{name!r} got {argument} of shape {tuple(weight.shape)} for values of shape {tuple(values.shape)}. "
            f"One weight per sample, of shape {tuple(values.shape[:1])}, or one per value is expected."
        )
    return weight
