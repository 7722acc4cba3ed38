"""Small helpers for arrays of data."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch


def to_categorical(x: Any, num_classes: int | None = None) -> Any:
    """Returns class numbers as one-hot rows.

    Args:
        x: integers of any shape, an array or a tensor; a last axis of size 1 is dropped.
        num_classes: number of classes; the largest number plus one unless given.

    Returns:
        array (or tensor, for a tensor) of shape `x.shape + (num_classes,)`, float32 for tensors, float64 for arrays.

    >>> to_categorical([0, 2], 3).tolist()
    [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
    """
    if isinstance(x, torch.Tensor):
        if x.dim() > 1 and x.shape[-1] == 1:
            x = x.squeeze(-1)
        return torch.nn.functional.one_hot(x.long(), -1 if num_classes is None else num_classes).float()
    x = np.asarray(x, dtype="int64")
    if x.ndim > 1 and x.shape[-1] == 1:
        x = x.reshape(x.shape[:-1])
    count = int(x.max()) + 1 if num_classes is None else num_classes
    if x.size and (x.max() >= count or x.min() < 0):
        raise ValueError(f"to_categorical: class numbers must lie in 0..{count - 1}. Received: {x.min()}..{x.max()}.")
    return np.eye(count)[x]


def normalize(x: Any, axis: int = -1, order: int = 2) -> Any:
    """Returns an array divided by its norm along an axis; zeros stay zeros.

    >>> normalize(np.array([3.0, 4.0])).tolist()
    [[0.6, 0.8]]
    """
    if isinstance(x, torch.Tensor):
        return torch.nn.functional.normalize(x, p=float(order), dim=axis)
    norm = np.atleast_1d(np.linalg.norm(x, order, axis))
    norm[norm == 0] = 1
    return x / np.expand_dims(norm, axis)


def unpack_x_y_sample_weight(data: Any) -> tuple[Any, Any, Any]:
    """Returns (x, y, sample_weight) of a batch, None for what it lacks.

    >>> unpack_x_y_sample_weight((1, 2))
    (1, 2, None)
    """
    data = tuple(data) if isinstance(data, list) else data
    if not isinstance(data, tuple):
        return data, None, None
    if not 1 <= len(data) <= 3:
        raise ValueError(f"A batch is x, (x,), (x, y) or (x, y, sample_weight). Received a tuple of {len(data)} entries.")
    return (*data, None, None)[:3]  # type: ignore[return-value]


def pack_x_y_sample_weight(x: Any, y: Any = None, sample_weight: Any = None) -> Any:
    """Returns a batch of the parts that are there.

    >>> pack_x_y_sample_weight(1, 2)
    (1, 2)
    """
    if y is None:
        return (x,) if isinstance(x, (tuple, list)) else x
    return (x, y) if sample_weight is None else (x, y, sample_weight)
