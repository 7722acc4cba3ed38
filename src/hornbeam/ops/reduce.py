"""Reductions, orderings and running sums."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from typing import Any

import torch

from hornbeam.core import dtype as dtypes
from hornbeam.ops.convert import axes, floating, op, tensor


def _widened(x: torch.Tensor) -> torch.dtype:
    """The dtype in which numbers are summed: small integers and booleans in int32."""
    return torch.int32 if x.dtype in (torch.bool, torch.int8, torch.int16, torch.uint8, torch.uint16) else x.dtype


def reduced(x: torch.Tensor, axis: Any, keepdims: bool) -> tuple[torch.Tensor, tuple[int, ...], bool]:
    """Returns a tensor, the axes to reduce, and whether to keep them; for () a new axis of size 1, as torch takes () for all."""
    picked = axes(axis, x.ndim)
    return (x, picked, keepdims) if picked or not x.ndim else (x.unsqueeze(-1), (x.ndim,), False)


def _over(x: torch.Tensor, axis: Any, keepdims: bool, function: Callable[..., Any]) -> torch.Tensor:
    """Applies a reduction over one axis to several: they are joined into a last one first."""
    picked = axes(axis, x.ndim)
    if not picked and x.ndim:
        return x
    kept = [a for a in range(x.ndim) if a not in picked]
    shape = [1 if a in picked else x.shape[a] for a in range(x.ndim)]
    joined = x.permute(*kept, *picked).flatten(len(kept)) if x.ndim else x.reshape(1)
    result = function(joined)
    return result.reshape(shape) if keepdims else result


@op
def sum(x: Any, axis: Any = None, keepdims: bool = False) -> torch.Tensor:
    """Returns the sum over axes (all of them for None); booleans and small integers are summed in int32.

    >>> sum([[1, 2], [3, 4]], axis=0).tolist()
    [4, 6]
    """
    x = tensor(x)
    return torch.sum(*reduced(x, axis, keepdims), dtype=_widened(x))


@op
def mean(x: Any, axis: Any = None, keepdims: bool = False) -> torch.Tensor:
    """Returns the mean over axes (all of them for None).

    >>> mean([1.0, 3.0]).item()
    2.0
    """
    return torch.mean(*reduced(floating(x), axis, keepdims))


@op
def var(x: Any, axis: Any = None, keepdims: bool = False) -> torch.Tensor:
    """Returns the variance over axes (all of them for None): the mean squared distance from the mean.

    >>> var([1.0, 3.0]).item()
    1.0
    """
    x, dims, keepdims = reduced(floating(x), axis, keepdims)
    return torch.var(x, dims, correction=0, keepdim=keepdims)


@op
def std(x: Any, axis: Any = None, keepdims: bool = False) -> torch.Tensor:
    """Returns the standard deviation over axes (all of them for None).

    >>> std([1.0, 3.0]).item()
    1.0
    """
    x, dims, keepdims = reduced(floating(x), axis, keepdims)
    return torch.std(x, dims, correction=0, keepdim=keepdims)


@op
def moments(x: Any, axes: Any, keepdims: bool = False, synchronized: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns mean and variance over axes.

    >>> [m.item() for m in moments([1.0, 3.0], 0)]
    [2.0, 1.0]
    """
    x = floating(x)
    wide = x.float() if x.dtype is torch.float16 else x
    dims = tuple(axes) if isinstance(axes, (list, tuple)) else axes
    variance, mean = torch.var_mean(wide, dims, correction=0, keepdim=keepdims)
    if x.dtype is torch.float16:
        limit = torch.finfo(x.dtype).max
        mean, variance = mean.clamp(-limit, limit), variance.clamp(max=limit)
    return mean.to(x.dtype), variance.to(x.dtype)


@op
def prod(x: Any, axis: Any = None, keepdims: bool = False, dtype: Any = None) -> torch.Tensor:
    """Returns the product over axes (all of them for None).

    >>> prod([2, 3]).item()
    6
    """
    x = tensor(x)
    kind = _widened(x) if dtype is None else dtypes.to_torch(dtype)
    return _over(x.to(kind), axis, keepdims, lambda t: torch.prod(t, -1, dtype=kind))


def _extreme(x: Any, axis: Any, keepdims: bool, initial: Any, reduce: Any, compare: Any) -> torch.Tensor:
    x = tensor(x)
    start = None if initial is None else tensor(initial).to(x)
    picked = axes(axis, x.ndim)
    if start is not None and builtins.any(x.shape[a] == 0 for a in picked):
        kept = [1 if a in picked else s for a, s in enumerate(x.shape) if keepdims or a not in picked]
        return start.expand(kept).clone()
    result = reduce(x, picked, keepdims) if picked else x
    return result if start is None else compare(result, start)


@op
def max(x: Any, axis: Any = None, keepdims: bool = False, initial: Any = None) -> torch.Tensor:
    """Returns the largest value over axes (all of them for None); at least `initial`, if that is given.

    >>> max([1, 3]).item()
    3
    """
    return _extreme(x, axis, keepdims, initial, torch.amax, torch.maximum)


@op
def min(x: Any, axis: Any = None, keepdims: bool = False, initial: Any = None) -> torch.Tensor:
    """Returns the smallest value over axes (all of them for None); at most `initial`, if that is given.

    >>> min([1, 3]).item()
    1
    """
    return _extreme(x, axis, keepdims, initial, torch.amin, torch.minimum)


@op
def amax(x: Any, axis: Any = None, keepdims: bool = False) -> torch.Tensor:
    """Returns the largest value over axes (all of them for None)."""
    return max(x, axis, keepdims)


@op
def amin(x: Any, axis: Any = None, keepdims: bool = False) -> torch.Tensor:
    """Returns the smallest value over axes (all of them for None)."""
    return min(x, axis, keepdims)


@op
def ptp(x: Any, axis: Any = None, keepdims: bool = False) -> torch.Tensor:
    """Returns the largest value minus the smallest over axes (all of them for None)."""
    return max(x, axis, keepdims) - min(x, axis, keepdims)


@op
def all(x: Any, axis: Any = None, keepdims: bool = False) -> torch.Tensor:
    """Returns whether all values over axes (all of them for None) are true.

    >>> all([True, False]).item()
    False
    """
    x = tensor(x, "bool")
    return torch.all(x, axes(axis, x.ndim), keepdims) if x.ndim else x


@op
def any(x: Any, axis: Any = None, keepdims: bool = False) -> torch.Tensor:
    """Returns whether one of the values over axes (all of them for None) is true.

    >>> any([True, False]).item()
    True
    """
    x = tensor(x, "bool")
    return torch.any(x, axes(axis, x.ndim), keepdims) if x.ndim else x


@op
def count_nonzero(x: Any, axis: Any = None) -> torch.Tensor:
    """Returns how many values over axes (all of them for None) are not 0, as int32."""
    return torch.sum(*reduced(tensor(x) != 0, axis, False), dtype=torch.int32)


def _position(function: Callable[..., Any], x: Any, axis: int | None, keepdims: bool) -> torch.Tensor:
    x = tensor(x)
    x = x.to(torch.uint8) if x.dtype is torch.bool else x
    return function(x, axis, keepdims).to(torch.int32)


@op
def argmax(x: Any, axis: int | None = None, keepdims: bool = False) -> torch.Tensor:
    """Returns where the largest value along an axis (in the flat tensor for None) is, as int32.

    >>> argmax([1.0, 3.0, 2.0]).item()
    1
    """
    return _position(torch.argmax, x, axis, keepdims)


@op
def argmin(x: Any, axis: int | None = None, keepdims: bool = False) -> torch.Tensor:
    """Returns where the smallest value along an axis (in the flat tensor for None) is, as int32."""
    return _position(torch.argmin, x, axis, keepdims)


@op
def argsort(x: Any, axis: int | None = -1) -> torch.Tensor:
    """Returns the positions that sort the values along an axis (the flat tensor for None), as int32.

    >>> argsort([3, 1, 2]).tolist()
    [1, 2, 0]
    """
    x = tensor(x)
    x, axis = (x.flatten(), 0) if axis is None else (x, axis)
    return torch.argsort(x, dim=axis, stable=True).to(torch.int32)


@op
def sort(x: Any, axis: int | None = -1) -> torch.Tensor:
    """Returns the values sorted along an axis (the flat tensor for None).

    >>> sort([3, 1, 2]).tolist()
    [1, 2, 3]
    """
    x = tensor(x)
    x, axis = (x.flatten(), 0) if axis is None else (x, axis)
    return torch.sort(x, dim=axis).values


@op
def argpartition(x: Any, kth: int, axis: int = -1) -> torch.Tensor:
    """Returns positions that put the k-th smallest value where sorting would, smaller ones before and larger ones after it."""
    return argsort(x, axis)


@op
def top_k(x: Any, k: int, sorted: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the k largest values of the last axis and their positions (int64).

    >>> [t.tolist() for t in top_k([1, 3, 2], 2)]
    [[3, 2], [1, 2]]
    """
    values, positions = torch.topk(tensor(x), k, sorted=sorted)
    return values, positions


@op
def in_top_k(targets: Any, predictions: Any, k: int) -> torch.Tensor:
    """Returns whether each target class is among the k largest predictions; equal values count as being among them.

    >>> in_top_k([1, 0], [[0.1, 0.9], [0.2, 0.8]], 1).tolist()
    [True, False]
    """
    targets, predictions = tensor(targets).long(), tensor(predictions)
    known = (targets >= 0) & (targets < predictions.shape[-1])
    chosen = predictions.gather(-1, torch.where(known, targets, 0).unsqueeze(-1))
    return known & ((predictions > chosen).sum(-1) < k) & torch.isfinite(chosen.squeeze(-1))


def _running(function: Callable[..., Any], x: Any, axis: int | None, dtype: Any) -> torch.Tensor:
    x = tensor(x)
    kind = (torch.int32 if x.dtype is torch.bool else x.dtype) if dtype is None else dtypes.to_torch(dtype)
    x, axis = (x.flatten(), 0) if axis is None else (x, axis)
    return function(x, axis, dtype=kind)


@op
def cumsum(x: Any, axis: int | None = None, dtype: Any = None) -> torch.Tensor:
    """Returns running sums along an axis (of the flat tensor for None).

    >>> cumsum([1, 2, 3]).tolist()
    [1, 3, 6]
    """
    return _running(torch.cumsum, x, axis, dtype)


@op
def cumprod(x: Any, axis: int | None = None, dtype: Any = None) -> torch.Tensor:
    """Returns running products along an axis (of the flat tensor for None)."""
    return _running(torch.cumprod, x, axis, dtype)


@op
def logsumexp(x: Any, axis: Any = None, keepdims: bool = False) -> torch.Tensor:
    """Returns `log(sum(exp(x)))` over axes (all of them for None), computed stably."""
    return torch.logsumexp(*reduced(floating(x), axis, keepdims))


@op
def average(x: Any, axis: Any = None, weights: Any = None) -> torch.Tensor:
    """Returns the mean over axes, weighted where weights are given.

    Args:
        weights: of the shape of x, or of one axis of it.

    >>> average([1.0, 3.0], weights=[3.0, 1.0]).item()
    1.5
    """
    x = floating(x)
    if weights is None:
        return mean(x, axis)
    weights = floating(weights)
    if weights.ndim == 1 and x.ndim > 1:
        (place,) = axes(axis, x.ndim)
        weights = weights.reshape([-1 if a == place else 1 for a in range(x.ndim)])
    weights = weights.expand(x.shape)
    return sum(x * weights, axis) / sum(weights, axis)


@op
def median(x: Any, axis: Any = None, keepdims: bool = False) -> torch.Tensor:
    """Returns the median over axes (all of them for None); the mean of the middle two where the count is even.

    >>> median([1.0, 2.0, 4.0, 9.0]).item()
    3.0
    """
    return quantile(x, 0.5, axis, keepdims=keepdims)


@op
def quantile(x: Any, q: Any, axis: Any = None, method: str = "linear", keepdims: bool = False) -> torch.Tensor:
    """Returns the value below which a part q of the values over axes (all of them for None) lies.

    Args:
        q: number, or 1-d tensor, between 0 and 1.
        method: "linear", "lower", "higher", "midpoint" or "nearest".

    >>> quantile([1.0, 2.0, 3.0], 0.5).item()
    2.0
    """
    return _quantile(torch.quantile, x, q, axis, method, keepdims)


def _quantile(function: Callable[..., Any], x: Any, q: Any, axis: Any, method: str, keepdims: bool) -> torch.Tensor:
    x = floating(x)
    wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    q = tensor(q, wide.dtype).to(wide.device)
    wide, picked, keepdims = reduced(wide, axis, keepdims)
    kept = [a for a in range(x.ndim) if a not in picked]
    joined = wide.permute(*kept, *picked).flatten(len(kept)) if x.ndim else wide.reshape(1)
    result = function(joined, q, dim=-1, interpolation=method)
    if keepdims:
        result = result.reshape(*q.shape, *[1 if a in picked else s for a, s in enumerate(x.shape)])
    return result.to(x.dtype)


@op
def percentile(x: Any, q: Any, axis: Any = None, method: str = "linear", keepdims: bool = False) -> torch.Tensor:
    """Returns `quantile(x, q / 100, …)`."""
    return quantile(x, floating(q) / 100, axis, method, keepdims)
