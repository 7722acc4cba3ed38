"""Reading and writing by position: take, where, slices, scatters, segments, counting and searching."""

from __future__ import annotations

import builtins
from typing import Any

import torch

from hornbeam.core import dtype as dtypes
from hornbeam.core.errors import unknown_arguments
from hornbeam.ops.convert import axes, floating, op, pair, tensor

_slice = builtins.slice


def _wrapped(indices: Any, size: int) -> torch.Tensor:
    """Returns positions as int64, negative ones counted from the end."""
    indices = tensor(indices).long()
    return torch.where(indices < 0, indices + size, indices)


@op
def take(x: Any, indices: Any, axis: int | None = None) -> torch.Tensor:
    """Returns the slices at given positions of an axis (elements of the flat tensor for None).

    >>> take([10, 20, 30], [2, 0]).tolist()
    [30, 10]
    """
    x = tensor(x)
    x, axis = (x.flatten(), 0) if axis is None else (x, axis % x.ndim)
    places = _wrapped(indices, x.shape[axis]).to(x.device)
    return x[(_slice(None),) * axis + (places,)]


@op
def take_along_axis(x: Any, indices: Any, axis: int | None = None) -> torch.Tensor:
    """Returns, for each place, the element along an axis whose position `indices` holds there.

    >>> take_along_axis([[10, 20], [30, 40]], [[1], [0]], 1).tolist()
    [[20], [30]]
    """
    x = tensor(x)
    size = x.numel() if axis is None else x.shape[axis]
    return torch.take_along_dim(x, _wrapped(indices, size).to(x.device), dim=axis)


@op
def get_item(x: Any, key: Any) -> torch.Tensor:
    """Returns `x[key]`.

    >>> get_item([1, 2, 3], 1).item()
    2
    """
    return tensor(x)[key]


@op
def where(condition: Any, x1: Any = None, x2: Any = None) -> Any:
    """Returns x1 where the condition holds, else x2; with the condition alone, the positions where it holds.

    >>> where([True, False], [1, 2], [3, 4]).tolist()
    [1, 4]
    """
    condition = tensor(condition, "bool")
    if x1 is None and x2 is None:
        return nonzero(condition)
    if x1 is None or x2 is None:
        raise ValueError("where takes both `x1` and `x2`, or neither. Received one of them.")
    return torch.where(condition, *pair(x1, x2))


@op
def nonzero(x: Any) -> tuple[torch.Tensor, ...]:
    """Returns the positions of elements that are not 0: one int32 tensor for each axis.

    >>> [p.tolist() for p in nonzero([0, 5, 7])]
    [[1, 2]]
    """
    return tuple(p.to(torch.int32) for p in torch.nonzero(tensor(x), as_tuple=True))


@op
def select(condlist: Any, choicelist: Any, default: Any = 0) -> torch.Tensor:
    """Returns, for each place, the choice of the first condition that holds there, else the default."""
    result = tensor(default)
    for condition, choice in builtins.reversed(list(zip(condlist, choicelist, strict=True))):
        result = torch.where(tensor(condition, "bool"), *pair(choice, result))
    return result


@op
def isin(x1: Any, x2: Any, assume_unique: bool = False, invert: bool = False) -> torch.Tensor:
    """Returns whether each element of x1 is among those of x2.

    >>> isin([1, 2], [2, 3]).tolist()
    [False, True]
    """
    x1, x2 = pair(x1, x2)
    kind = torch.promote_types(x1.dtype, x2.dtype)
    return torch.isin(x1.to(kind), x2.to(kind), assume_unique=assume_unique, invert=invert)


def _window(starts: Any, sizes: Any, x: torch.Tensor) -> tuple[Any, ...]:
    """Returns an index for the block of some sizes that begins at `starts`; those may be tensors."""
    places = list(starts.unbind()) if isinstance(starts, torch.Tensor) else list(starts)
    if builtins.all(isinstance(s, int) for s in places):
        return tuple(_slice(s, None if n == -1 else s + n) for s, n in zip(places, sizes, strict=True))
    grids = []
    for axis, (start, count) in enumerate(zip(places, sizes, strict=True)):
        line = start + torch.arange(count, device=x.device)
        grids.append(line.reshape([-1 if a == axis else 1 for a in range(len(sizes))]))
    return tuple(grids)


@op
def slice(inputs: Any, start_indices: Any, shape: Any) -> torch.Tensor:
    """Returns the block of a shape that begins at given positions.

    Args:
        inputs: tensor.
        start_indices: a position for each axis, numbers or an integer tensor.
        shape: a size for each axis; -1 goes to the end, where positions are numbers.

    >>> slice([1, 2, 3, 4], [1], [2]).tolist()
    [2, 3]
    """
    inputs = tensor(inputs)
    return inputs[_window(start_indices, tuple(shape), inputs)]


@op
def slice_update(inputs: Any, start_indices: Any, updates: Any) -> torch.Tensor:
    """Returns the tensor with the block that begins at given positions replaced.

    >>> slice_update([1, 2, 3], [1], [9]).tolist()
    [1, 9, 3]
    """
    inputs = tensor(inputs)
    updates = tensor(updates).to(inputs)
    made = inputs.clone()
    made[_window(start_indices, tuple(updates.shape), inputs)] = updates
    return made


@op
def scatter(indices: Any, values: Any, shape: Any) -> torch.Tensor:
    """Returns zeros of a shape with values added at given positions.

    Args:
        indices: integers of shape (…, n): positions on the first n axes.
        values: what is added there.
        shape: shape of the result.

    >>> scatter([[0], [2]], [1.0, 2.0], (3,)).tolist()
    [1.0, 0.0, 2.0]
    """
    values = tensor(values)
    zeros = torch.zeros(tuple(shape), dtype=values.dtype, device=values.device)
    return zeros.index_put(tuple(tensor(indices).long().unbind(-1)), values, accumulate=True)


_REDUCTIONS = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}


@op
def scatter_update(inputs: Any, indices: Any, updates: Any, reduction: str | None = None) -> torch.Tensor:
    """Returns the tensor with values written at given positions.

    Args:
        inputs: tensor.
        indices: integers of shape (…, n): positions on the first n axes.
        updates: what is written there.
        reduction: None to replace, or "add", "mul", "max" or "min" to combine with what is there.

    >>> scatter_update([1, 2, 3], [[1]], [9]).tolist()
    [1, 9, 3]
    """
    inputs = tensor(inputs)
    updates, indices = tensor(updates).to(inputs), tensor(indices).long()
    if reduction is None or reduction == "add":
        return inputs.index_put(tuple(indices.unbind(-1)), updates, accumulate=reduction == "add")
    if reduction not in _REDUCTIONS:
        known = ", ".join(map(repr, _REDUCTIONS))
        raise ValueError(f"scatter_update: reduction must be None, {known}. Received: reduction={reduction!r}")
    depth = indices.shape[-1]
    flat = torch.zeros(indices.shape[:-1], dtype=torch.long, device=indices.device)
    for axis, place in enumerate(indices.unbind(-1)):
        flat = flat * inputs.shape[axis] + torch.where(place < 0, place + inputs.shape[axis], place)
    rows = inputs.reshape(-1, *inputs.shape[depth:])
    places = flat.reshape(-1, *[1] * (rows.ndim - 1)).expand(-1, *rows.shape[1:])
    written = updates.expand(*indices.shape[:-1], *inputs.shape[depth:]).reshape(places.shape)
    return rows.scatter_reduce(0, places, written, _REDUCTIONS[reduction]).reshape(inputs.shape)


def _segments(data: Any, segment_ids: Any, num_segments: int | None, reduce: str, start: Any) -> torch.Tensor:
    data, ids = tensor(data), tensor(segment_ids).long()
    count = int(ids.max()) + 1 if num_segments is None else num_segments
    ids = torch.where((ids < 0) | (ids >= count), count, ids)
    places = ids.reshape(-1, *[1] * (data.ndim - 1)).expand(data.shape)
    made = torch.full((count + 1, *data.shape[1:]), start, dtype=data.dtype, device=data.device)
    return made.scatter_reduce(0, places, data, reduce)[:count]


def _limit(data: Any, largest: bool) -> Any:
    kind = tensor(data).dtype
    if kind.is_floating_point:
        return float("inf") if largest else float("-inf")
    info = torch.iinfo(kind)
    return info.max if largest else info.min


@op
def segment_sum(data: Any, segment_ids: Any, num_segments: int | None = None, sorted: bool = False) -> torch.Tensor:
    """Returns the sums of the rows that have the same segment number; rows with numbers out of range are left out.

    >>> segment_sum([1, 2, 3], [0, 0, 1], 2).tolist()
    [3, 3]
    """
    return _segments(data, segment_ids, num_segments, "sum", 0)


@op
def segment_prod(data: Any, segment_ids: Any, num_segments: int | None = None, sorted: bool = False) -> torch.Tensor:
    """Returns the products of the rows that have the same segment number, 1 for an empty segment."""
    return _segments(data, segment_ids, num_segments, "prod", 1)


@op
def segment_max(data: Any, segment_ids: Any, num_segments: int | None = None, sorted: bool = False) -> torch.Tensor:
    """Returns the largest values of the rows that have the same segment number, the lowest number for an empty segment."""
    return _segments(data, segment_ids, num_segments, "amax", _limit(data, False))


@op
def segment_min(data: Any, segment_ids: Any, num_segments: int | None = None, sorted: bool = False) -> torch.Tensor:
    """Returns the smallest values of the rows that have the same segment number, the highest number for an empty segment."""
    return _segments(data, segment_ids, num_segments, "amin", _limit(data, True))


@op
def searchsorted(sorted_sequence: Any, values: Any, side: str = "left") -> torch.Tensor:
    """Returns where values would have to be put into a sorted sequence to keep it sorted, as int32."""
    sequence, values = pair(sorted_sequence, values)
    return torch.searchsorted(sequence, values, side=side, out_int32=True)


@op
def digitize(x: Any, bins: Any) -> torch.Tensor:
    """Returns the number of the bin that each value falls into, as int32.

    >>> digitize([0.5, 1.5, 9.0], [1.0, 2.0]).tolist()
    [0, 1, 2]
    """
    x, bins = tensor(x), tensor(bins)
    kind = torch.promote_types(x.dtype, bins.dtype)
    return torch.bucketize(x.to(kind), bins.to(kind).to(x.device), right=True, out_int32=True)


@op
def bincount(x: Any, weights: Any = None, minlength: int = 0, sparse: bool = False) -> torch.Tensor:
    """Returns how often each number from 0 up occurs along the last axis, or the sum of the weights of its occurrences.

    >>> bincount([1, 1, 3]).tolist()
    [0, 2, 0, 1]
    """
    x = tensor(x).long()
    if x.numel():
        minlength = builtins.max(minlength or 0, int(x.max()) + 1)
    counted = torch.ones_like(x, dtype=torch.int32) if weights is None else tensor(weights)
    made = torch.zeros(*x.shape[:-1], minlength or 0, dtype=counted.dtype, device=x.device)
    return made.scatter_add(-1, x, counted)


@op
def histogram(x: Any, bins: int = 10, range: Any = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns how many values fall into each of some equal bins, and the bins' edges, both as floating point.

    >>> [t.tolist() for t in histogram([1.0, 2.0, 2.5], 2, (1.0, 3.0))]
    [[1.0, 2.0], [1.0, 2.0, 3.0]]
    """
    x = floating(x).flatten()
    low, high = (x.min(), x.max()) if range is None else (tensor(range[0]).to(x), tensor(range[1]).to(x))
    low, high = torch.where(low == high, low - 0.5, low), torch.where(low == high, high + 0.5, high)
    edges = low + (high - low) * torch.arange(bins + 1, dtype=x.dtype, device=x.device) / bins
    edges = torch.where(torch.arange(bins + 1, device=x.device) == bins, high, edges)
    inside = (x >= low) & (x <= high)
    place = torch.bucketize(x, edges, right=True).clamp(1, bins) - 1
    return torch.zeros(bins, dtype=x.dtype, device=x.device).index_add(0, place, inside.to(x.dtype)), edges


@op
def unravel_index(indices: Any, shape: Any) -> tuple[torch.Tensor, ...]:
    """Returns positions in the flat tensor as positions on each axis of a shape."""
    indices = tensor(indices)
    return tuple(p.to(indices.dtype) for p in torch.unravel_index(indices.long(), tuple(shape)))


@op
def unique(
    x: Any,
    sorted: bool = True,
    return_index: bool = False,
    return_inverse: bool = False,
    return_counts: bool = False,
    axis: int | None = None,
    size: int | None = None,
    fill_value: Any = None,
) -> Any:
    """Returns the different values (slices along an axis), sorted.

    Args:
        return_index, return_inverse, return_counts: whether first positions, the position of each element's value, and numbers
            of occurrences are returned too, in this order.
        size: number of values to return: the rest is cut off or filled up with `fill_value` (the smallest value unless given).

    >>> unique([3, 1, 3]).tolist()
    [1, 3]
    """
    x = tensor(x)
    values, inverse, counts = torch.unique(x, sorted=True, return_inverse=True, return_counts=True, dim=axis)
    flat = inverse.flatten()
    first = torch.full((counts.shape[0],), flat.shape[0], dtype=torch.long, device=x.device)
    first = first.scatter_reduce(0, flat, torch.arange(flat.shape[0], device=x.device), "amin")
    place = 0 if axis is None else axes(axis, x.ndim)[0]
    if size is not None:
        values = _sized(values, size, place, fill_value)
        first, counts = _sized(first, size, 0, None), _sized(counts, size, 0, 0)
    asked = ((return_index, first), (return_inverse, inverse), (return_counts, counts))
    extra = tuple(v for wanted, v in asked if wanted)
    return (values, *extra) if extra else values


def _sized(values: torch.Tensor, size: int, axis: int, fill: Any) -> torch.Tensor:
    count = values.shape[axis]
    if count >= size:
        return values.narrow(axis, 0, size)
    shape = [size - count if a == axis else s for a, s in enumerate(values.shape)]
    filler = values.narrow(axis, 0, 1) if fill is None else tensor(fill).to(values)
    return torch.cat([values, filler.expand(shape)], axis)


@op
def one_hot(x: Any, num_classes: int, axis: int = -1, dtype: Any = None, sparse: bool = False) -> torch.Tensor:
    """Returns rows with a one at the place of each class number; rows of zeros for numbers out of range.

    >>> one_hot([0, 2], 3).tolist()
    [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
    """
    x = tensor(x)
    rows = x.unsqueeze(-1) == torch.arange(num_classes, device=x.device)
    return rows.movedim(-1, axis).to(dtypes.to_torch(dtype))


@op
def multi_hot(
    inputs: Any, num_classes: int | None = None, axis: int = -1, dtype: Any = None, sparse: bool = False, **kwargs: Any
) -> torch.Tensor:
    """Returns, for each row of class numbers (axis 1, or the only axis), one row with ones at all their places.

    >>> multi_hot([[0, 2]], 3).tolist()
    [[1.0, 0.0, 1.0]]
    """
    num_classes = kwargs.pop("num_tokens", num_classes)
    if kwargs:
        raise unknown_arguments("multi_hot", kwargs, ("inputs", "num_classes", "axis", "dtype", "sparse"))
    if num_classes is None:
        raise ValueError("multi_hot needs `num_classes`. Received: num_classes=None")
    inputs = tensor(inputs)
    rows = inputs.unsqueeze(-1) == torch.arange(num_classes, device=inputs.device)
    found = rows.any(min(1, inputs.ndim - 1)) if inputs.ndim else rows
    return found.movedim(-1, axis).to(dtypes.to_torch(dtype))
