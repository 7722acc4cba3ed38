"""Functions that move, join, split and repeat without changing values."""

from __future__ import annotations

import builtins
from typing import Any

import torch
import torch.nn.functional as F

from hornbeam.ops.convert import axes, op, tensor


def _joined(xs: Any) -> list[torch.Tensor]:
    parts = [tensor(x) for x in xs]
    kind = parts[0].dtype
    for part in parts[1:]:
        kind = torch.promote_types(kind, part.dtype)
    return [part.to(kind) for part in parts]


@op
def reshape(x: Any, newshape: Any) -> torch.Tensor:
    """Returns the elements in another shape; one size may be -1 (or None).

    >>> reshape([1, 2, 3, 4], (2, -1)).tolist()
    [[1, 2], [3, 4]]
    """
    sizes = (newshape,) if isinstance(newshape, int) else newshape
    return torch.reshape(tensor(x), tuple(-1 if s is None else s for s in sizes))


@op
def ravel(x: Any) -> torch.Tensor:
    """Returns the elements in one axis."""
    return tensor(x).flatten()


@op
def transpose(x: Any, axes: Any = None) -> torch.Tensor:
    """Returns the tensor with its axes in another order, reversed unless an order is given.

    >>> transpose([[1, 2]]).tolist()
    [[1], [2]]
    """
    x = tensor(x)
    return x.permute(tuple(builtins.reversed(range(x.ndim))) if axes is None else tuple(axes))


@op
def swapaxes(x: Any, axis1: int, axis2: int) -> torch.Tensor:
    """Returns the tensor with two axes exchanged."""
    return tensor(x).transpose(axis1, axis2)


@op
def moveaxis(x: Any, source: Any, destination: Any) -> torch.Tensor:
    """Returns the tensor with axes moved to other places; the others keep their order."""
    return torch.movedim(tensor(x), source, destination)


@op
def expand_dims(x: Any, axis: Any) -> torch.Tensor:
    """Returns the tensor with axes of size 1 at the given places of the result.

    >>> expand_dims([1, 2], 0).shape
    torch.Size([1, 2])
    """
    x = tensor(x)
    given = (axis,) if isinstance(axis, int) else tuple(axis)
    for a in sorted(axes(given, x.ndim + len(given))):
        x = x.unsqueeze(a)
    return x


@op
def squeeze(x: Any, axis: Any = None) -> torch.Tensor:
    """Returns the tensor without axes of size 1: all of them, or those given.

    >>> squeeze([[1, 2]]).tolist()
    [1, 2]
    """
    x = tensor(x)
    if axis is None:
        return x.squeeze()
    picked = axes(axis, x.ndim)
    if builtins.any(x.shape[a] != 1 for a in picked):
        raise ValueError(f"squeeze: only an axis of size 1 can be left out. Received: axis={axis}, shape {tuple(x.shape)}")
    return x.squeeze(picked)


@op
def concatenate(xs: Any, axis: int | None = 0) -> torch.Tensor:
    """Returns tensors joined along an axis; None joins them flat.

    >>> concatenate([[1, 2], [3]]).tolist()
    [1, 2, 3]
    """
    parts = _joined(xs)
    return torch.cat([p.flatten() for p in parts] if axis is None else parts, 0 if axis is None else axis)


@op
def append(x1: Any, x2: Any, axis: int | None = None) -> torch.Tensor:
    """Returns x1 with x2 joined to its end along an axis; flat for None."""
    return concatenate([x1, x2], axis)


@op
def stack(x: Any, axis: int = 0) -> torch.Tensor:
    """Returns tensors joined along a new axis.

    >>> stack([[1, 2], [3, 4]], axis=1).tolist()
    [[1, 3], [2, 4]]
    """
    return torch.stack(_joined(x), axis)


@op
def vstack(xs: Any) -> torch.Tensor:
    """Returns tensors joined as rows."""
    return torch.vstack(_joined(xs))


@op
def hstack(xs: Any) -> torch.Tensor:
    """Returns tensors joined as columns."""
    return torch.hstack(_joined(xs))


@op
def dstack(xs: Any) -> torch.Tensor:
    """Returns tensors joined along the third axis."""
    return torch.dstack(_joined(xs))


@op
def split(x: Any, indices_or_sections: Any, axis: int = 0) -> list[torch.Tensor]:
    """Returns parts of a tensor: so many equal ones, or those between the given places.

    >>> [p.tolist() for p in split([1, 2, 3, 4], [1, 3])]
    [[1], [2, 3], [4]]
    """
    x = tensor(x)
    if isinstance(indices_or_sections, int):
        count, size = indices_or_sections, x.shape[axis]
        if size % count:
            raise ValueError(f"split: an axis of size {size} cannot be cut into {count} equal parts. `array_split` can do it.")
        return [x.narrow(axis, i * (size // count), size // count) for i in range(count)]
    return list(torch.tensor_split(x, _ints(indices_or_sections), axis))


def _ints(values: Any) -> list[int]:
    return [int(v) for v in (values.tolist() if hasattr(values, "tolist") else values)]


@op
def array_split(x: Any, indices_or_sections: Any, axis: int = 0) -> list[torch.Tensor]:
    """Returns parts of a tensor like `split`; the first ones are larger by one where the size cannot be divided."""
    sections = indices_or_sections
    return list(torch.tensor_split(tensor(x), sections if isinstance(sections, int) else _ints(sections), axis))


@op
def vsplit(x: Any, indices_or_sections: Any) -> list[torch.Tensor]:
    """Returns parts along the first axis."""
    return split(x, indices_or_sections, 0)


@op
def hsplit(x: Any, indices_or_sections: Any) -> list[torch.Tensor]:
    """Returns parts along the second axis (the first, of a vector)."""
    x = tensor(x)
    return split(x, indices_or_sections, 0 if x.ndim == 1 else 1)


@op
def dsplit(x: Any, indices_or_sections: Any) -> list[torch.Tensor]:
    """Returns parts along the third axis."""
    return split(x, indices_or_sections, 2)


@op
def unstack(x: Any, num: int | None = None, axis: int = 0) -> list[torch.Tensor]:
    """Returns the slices along an axis, without that axis.

    >>> [p.tolist() for p in unstack([[1, 2], [3, 4]])]
    [[1, 2], [3, 4]]
    """
    return list(tensor(x).unbind(axis))


@op
def tile(x: Any, repeats: Any) -> torch.Tensor:
    """Returns copies of a tensor side by side, so many along each axis.

    >>> tile([1, 2], 2).tolist()
    [1, 2, 1, 2]
    """
    return torch.tile(tensor(x), (repeats,) if isinstance(repeats, int) else tuple(repeats))


@op
def repeat(x: Any, repeats: Any, axis: int | None = None) -> torch.Tensor:
    """Returns each element (of the flat tensor) or slice along an axis repeated.

    Args:
        repeats: how often; a number, or one for each element.

    >>> repeat([1, 2], 2).tolist()
    [1, 1, 2, 2]
    """
    count = repeats if isinstance(repeats, int) else tensor(repeats)
    return torch.repeat_interleave(tensor(x), count, dim=axis)


@op
def broadcast_to(x: Any, shape: Any) -> torch.Tensor:
    """Returns the tensor repeated along axes of size 1 to a shape."""
    return torch.broadcast_to(tensor(x), tuple(shape))


@op
def flip(x: Any, axis: Any = None) -> torch.Tensor:
    """Returns the tensor with its elements in reverse order along axes (all of them for None).

    >>> flip([1, 2]).tolist()
    [2, 1]
    """
    x = tensor(x)
    return torch.flip(x, axes(axis, x.ndim))


@op
def fliplr(x: Any) -> torch.Tensor:
    """Returns the tensor reversed along its second axis."""
    return torch.fliplr(tensor(x))


@op
def flipud(x: Any) -> torch.Tensor:
    """Returns the tensor reversed along its first axis."""
    return torch.flipud(tensor(x))


@op
def rot90(array: Any, k: int = 1, axes: Any = (0, 1)) -> torch.Tensor:
    """Returns the tensor turned k times by 90 degrees in the plane of two axes."""
    return torch.rot90(tensor(array), k, tuple(axes))


@op
def roll(x: Any, shift: Any, axis: Any = None) -> torch.Tensor:
    """Returns the tensor with its elements moved along axes; those that leave at one end come in at the other.

    >>> roll([1, 2, 3], 1).tolist()
    [3, 1, 2]
    """
    return torch.roll(tensor(x), shift, axis)


_SOURCES = {
    "reflect": lambda i, n: n - 1 - torch.abs(torch.remainder(i, builtins.max(2 * (n - 1), 1)) - (n - 1)),
    "symmetric": lambda i, n: torch.minimum(torch.remainder(i, 2 * n), 2 * n - 1 - torch.remainder(i, 2 * n)),
    "edge": lambda i, n: i.clamp(0, n - 1),
    "wrap": lambda i, n: torch.remainder(i, n),
    "circular": lambda i, n: torch.remainder(i, n),
}


@op
def pad(x: Any, pad_width: Any, mode: str = "constant", constant_values: Any = None) -> torch.Tensor:
    """Returns the tensor with elements added at its edges.

    Args:
        x: tensor.
        pad_width: a number; (before, after); or one such pair for each axis.
        mode: "constant", "reflect", "symmetric", "edge" or "wrap".
        constant_values: what "constant" adds; 0 unless given.

    >>> pad([1, 2, 3], (1, 1), "reflect").tolist()
    [2, 1, 2, 3, 2]
    """
    x = tensor(x)
    pairs = _pairs(pad_width, x.ndim)
    if mode == "constant":
        return F.pad(x, [v for p in builtins.reversed(pairs) for v in p], value=0 if constant_values is None else constant_values)
    if constant_values is not None:
        raise ValueError(f"pad: `constant_values` goes with mode='constant'. Received: mode={mode!r}")
    if mode not in _SOURCES:
        raise ValueError(f"pad: mode must be 'constant', {', '.join(map(repr, _SOURCES))}. Received: mode={mode!r}")
    for axis, (before, after) in enumerate(pairs):
        if before or after:
            count = x.shape[axis]
            places = torch.arange(-before, count + after, device=x.device)
            x = x.index_select(axis, _SOURCES[mode](places, count))
    return x


def _pairs(pad_width: Any, ndim: int) -> list[tuple[int, int]]:
    if isinstance(pad_width, int):
        return [(pad_width, pad_width)] * ndim
    widths = pad_width.tolist() if hasattr(pad_width, "tolist") else list(pad_width)
    if isinstance(widths[0], int):
        return [(widths[0], widths[-1])] * ndim
    pairs = [(p[0], p[-1]) for p in widths]
    pairs = pairs * ndim if len(pairs) == 1 else pairs
    if len(pairs) != ndim:
        raise ValueError(f"pad: one (before, after) for each of {ndim} axes is expected. Received: pad_width={pad_width}")
    return pairs


@op
def rearrange(tensor: Any, pattern: str, **axes_lengths: int) -> torch.Tensor:
    """Returns a tensor with its axes reordered, joined and split as a pattern like "b h w c -> b (h w) c" says.

    Args:
        tensor: the tensor.
        pattern: names of the axes before and after; names in brackets are one axis.
        axes_lengths: sizes of axes that the shape does not tell.

    >>> rearrange([[1, 2], [3, 4]], "a b -> (b a)").tolist()
    [1, 3, 2, 4]
    """
    from hornbeam.ops.convert import tensor as as_tensor

    x = as_tensor(tensor)
    before, after = (_groups(side) for side in pattern.split("->"))
    if len(before) != x.ndim:
        raise ValueError(f"rearrange: {pattern!r} names {len(before)} axes. Received: shape {tuple(x.shape)}")
    sizes = dict(axes_lengths)
    for group, size in zip(before, x.shape, strict=True):
        known = 1
        for name in group:
            known *= sizes.get(name, 1)
        for name in group:
            if name not in sizes:
                sizes[name] = size // builtins.max(known, 1)
                break
    order = [name for group in before for name in group]
    wanted = [name for group in after for name in group]
    if sorted(order) != sorted(wanted):
        raise ValueError(f"rearrange: both sides of {pattern!r} must name the same axes.")
    x = x.reshape([sizes[n] for n in order]).permute([order.index(n) for n in wanted])
    lengths = []
    for group in after:
        length = 1
        for name in group:
            length *= sizes[name]
        lengths.append(length)
    return x.reshape(lengths)


def _groups(side: str) -> list[list[str]]:
    groups: list[list[str]] = []
    inside = False
    for word in side.replace("(", " ( ").replace(")", " ) ").split():
        if word == "(":
            inside = True
            groups.append([])
        elif word == ")":
            inside = False
        elif inside:
            groups[-1].append(word)
        elif word == "1":
            groups.append([])
        else:
            groups.append([word])
    return groups
