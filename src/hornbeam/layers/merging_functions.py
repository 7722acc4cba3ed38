"""The merging layers as functions of a list of tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch  # noqa: F401  (used by the doctests)

from hornbeam.core.registry import public
from hornbeam.layers.merging import Add, Average, Concatenate, Dot, Maximum, Minimum, Multiply, Subtract


@public("keras.layers.add")
def add(inputs: Sequence[Any], **kwargs: Any) -> Any:
    """Returns the sum of a list of tensors; see `Add`.

    >>> add([torch.ones(1, 2), torch.ones(1, 2)]).tolist()
    [[2.0, 2.0]]
    """
    return Add(**kwargs)(inputs)


@public("keras.layers.subtract")
def subtract(inputs: Sequence[Any], **kwargs: Any) -> Any:
    """Returns the difference of two tensors; see `Subtract`.

    >>> subtract([torch.ones(1, 2), torch.ones(1, 2)]).tolist()
    [[0.0, 0.0]]
    """
    return Subtract(**kwargs)(inputs)


@public("keras.layers.multiply")
def multiply(inputs: Sequence[Any], **kwargs: Any) -> Any:
    """Returns the product of a list of tensors; see `Multiply`.

    >>> multiply([torch.ones(1, 2), torch.zeros(1, 2)]).tolist()
    [[0.0, 0.0]]
    """
    return Multiply(**kwargs)(inputs)


@public("keras.layers.average")
def average(inputs: Sequence[Any], **kwargs: Any) -> Any:
    """Returns the mean of a list of tensors; see `Average`.

    >>> average([torch.ones(1, 2), torch.zeros(1, 2)]).tolist()
    [[0.5, 0.5]]
    """
    return Average(**kwargs)(inputs)


@public("keras.layers.maximum")
def maximum(inputs: Sequence[Any], **kwargs: Any) -> Any:
    """Returns the elementwise maximum of a list of tensors; see `Maximum`.

    >>> maximum([torch.ones(1, 2), torch.zeros(1, 2)]).tolist()
    [[1.0, 1.0]]
    """
    return Maximum(**kwargs)(inputs)


@public("keras.layers.minimum")
def minimum(inputs: Sequence[Any], **kwargs: Any) -> Any:
    """Returns the elementwise minimum of a list of tensors; see `Minimum`.

    >>> minimum([torch.ones(1, 2), torch.zeros(1, 2)]).tolist()
    [[0.0, 0.0]]
    """
    return Minimum(**kwargs)(inputs)


@public("keras.layers.concatenate")
def concatenate(inputs: Sequence[Any], axis: int = -1, **kwargs: Any) -> Any:
    """Returns a list of tensors side by side along an axis; see `Concatenate`.

    >>> concatenate([torch.ones(1, 2), torch.zeros(1, 2)]).tolist()
    [[1.0, 1.0, 0.0, 0.0]]
    """
    return Concatenate(axis=axis, **kwargs)(inputs)


@public("keras.layers.dot")
def dot(inputs: Sequence[Any], axes: Any = -1, **kwargs: Any) -> Any:
    """Returns the dot products of two tensors, sample by sample; see `Dot`.

    >>> dot([torch.ones(1, 2), torch.ones(1, 2)]).tolist()
    [[2.0]]
    """
    return Dot(axes=axes, **kwargs)(inputs)
