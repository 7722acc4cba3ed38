"""Reductions that leave out values which are not a number."""

from __future__ import annotations

from typing import Any

import torch

from hornbeam.ops import reduce
from hornbeam.ops.convert import floating, op, tensor


def _filled(x: Any, value: float) -> torch.Tensor:
    x = tensor(x)
    return torch.where(torch.isnan(x), value, x) if x.is_floating_point() else x


@op
def nansum(x: Any, axis: Any = None, keepdims: bool = False) -> torch.Tensor:
    """Returns the sum of the numbers over axes.

    >>> nansum([1.0, float("nan")]).item()
    1.0
    """
    return reduce.sum(_filled(x, 0.0), axis, keepdims)


@op
def nanprod(x: Any, axis: Any = None, keepdims: bool = False) -> torch.Tensor:
    """Returns the product of the numbers over axes."""
    return reduce.prod(_filled(x, 1.0), axis, keepdims)


@op
def nancumsum(x: Any, axis: int | None = None, dtype: Any = None) -> torch.Tensor:
    """Returns running sums along an axis; what is not a number counts as 0."""
    return reduce.cumsum(_filled(x, 0.0), axis, dtype)


@op
def nancumprod(x: Any, axis: int | None = None, dtype: Any = None) -> torch.Tensor:
    """Returns running products along an axis; what is not a number counts as 1."""
    return reduce.cumprod(_filled(x, 1.0), axis, dtype)


@op
def nanmean(x: Any, axis: Any = None, keepdims: bool = False) -> torch.Tensor:
    """Returns the mean of the numbers over axes.

    >>> nanmean([1.0, float("nan"), 3.0]).item()
    2.0
    """
    return torch.nanmean(*reduce.reduced(floating(x), axis, keepdims))


@op
def nanvar(x: Any, axis: Any = None, keepdims: bool = False) -> torch.Tensor:
    """Returns the variance of the numbers over axes."""
    x, dims, keepdims = reduce.reduced(floating(x), axis, keepdims)
    return torch.nanmean((x - torch.nanmean(x, dims, True)).square(), dims, keepdims)


@op
def nanstd(x: Any, axis: Any = None, keepdims: bool = False) -> torch.Tensor:
    """Returns the standard deviation of the numbers over axes."""
    return nanvar(x, axis, keepdims).sqrt()


def _extreme(x: Any, axis: Any, keepdims: bool, function: Any, limit: float) -> torch.Tensor:
    x = tensor(x)
    if not x.is_floating_point():
        return function(x, axis, keepdims)
    lost = reduce.all(torch.isnan(x), axis, keepdims)
    return torch.where(lost, float("nan"), function(_filled(x, limit), axis, keepdims))


@op
def nanmax(x: Any, axis: Any = None, keepdims: bool = False) -> torch.Tensor:
    """Returns the largest number over axes."""
    return _extreme(x, axis, keepdims, reduce.max, float("-inf"))


@op
def nanmin(x: Any, axis: Any = None, keepdims: bool = False) -> torch.Tensor:
    """Returns the smallest number over axes."""
    return _extreme(x, axis, keepdims, reduce.min, float("inf"))


def _position(x: Any, axis: Any, keepdims: bool, function: Any, limit: float) -> torch.Tensor:
    x = tensor(x)
    if not x.is_floating_point():
        return function(x, axis, keepdims)
    lost = reduce.all(torch.isnan(x), axis, keepdims)
    return torch.where(lost, -1, function(_filled(x, limit), axis, keepdims))


@op
def nanargmax(x: Any, axis: int | None = None, keepdims: bool = False) -> torch.Tensor:
    """Returns where the largest number along an axis is, as int32; -1 where there is none."""
    return _position(x, axis, keepdims, reduce.argmax, float("-inf"))


@op
def nanargmin(x: Any, axis: int | None = None, keepdims: bool = False) -> torch.Tensor:
    """Returns where the smallest number along an axis is, as int32; -1 where there is none."""
    return _position(x, axis, keepdims, reduce.argmin, float("inf"))


@op
def nanquantile(x: Any, q: Any, axis: Any = None, method: str = "linear", keepdims: bool = False) -> torch.Tensor:
    """Returns the value below which a part q of the numbers over axes lies."""
    return reduce._quantile(torch.nanquantile, x, q, axis, method, keepdims)


@op
def nanpercentile(x: Any, q: Any, axis: Any = None, method: str = "linear", keepdims: bool = False) -> torch.Tensor:
    """Returns `nanquantile(x, q / 100, …)`."""
    return nanquantile(x, floating(q) / 100, axis, method, keepdims)


@op
def nanmedian(x: Any, axis: Any = None, keepdims: bool = False) -> torch.Tensor:
    """Returns the median of the numbers over axes."""
    return nanquantile(x, 0.5, axis, keepdims=keepdims)
