"""Functions that make tensors from shapes and numbers."""

from __future__ import annotations

import builtins
from typing import Any

import torch

from hornbeam.core import dtype as dtypes
from hornbeam.ops.convert import convert_to_tensor, floating, op, tensor


def _sizes(shape: Any) -> tuple[int, ...]:
    return (shape,) if isinstance(shape, int) else tuple(shape)


def _kind(dtype: Any) -> torch.dtype | None:
    return None if dtype is None else dtypes.to_torch(dtype)


def array(x: Any, dtype: Any = None) -> torch.Tensor:
    """Returns a value as a tensor.

    >>> array([1, 2]).dtype
    torch.int32
    """
    return convert_to_tensor(x, dtype)


@op
def zeros(shape: Any, dtype: Any = None) -> torch.Tensor:
    """Returns a tensor of zeros, `config.floatx()` unless a dtype is given.

    >>> zeros((2,)).tolist()
    [0.0, 0.0]
    """
    return torch.zeros(_sizes(shape), dtype=dtypes.to_torch(dtype))


@op
def ones(shape: Any, dtype: Any = None) -> torch.Tensor:
    """Returns a tensor of ones, `config.floatx()` unless a dtype is given.

    >>> ones((2,)).tolist()
    [1.0, 1.0]
    """
    return torch.ones(_sizes(shape), dtype=dtypes.to_torch(dtype))


@op
def empty(shape: Any, dtype: Any = None) -> torch.Tensor:
    """Returns a tensor whose values are whatever lies in memory."""
    return torch.empty(_sizes(shape), dtype=dtypes.to_torch(dtype))


@op
def full(shape: Any, fill_value: Any, dtype: Any = None) -> torch.Tensor:
    """Returns a tensor filled with a value, `config.floatx()` unless a dtype is given.

    >>> full((2,), 3.0).tolist()
    [3.0, 3.0]
    """
    value = tensor(fill_value, dtypes.to_torch(dtype))
    return value.broadcast_to(_sizes(shape)).clone()


@op
def zeros_like(x: Any, dtype: Any = None) -> torch.Tensor:
    """Returns zeros of the tensor's shape, and dtype unless another is given."""
    return torch.zeros_like(tensor(x), dtype=_kind(dtype))


@op
def ones_like(x: Any, dtype: Any = None) -> torch.Tensor:
    """Returns ones of the tensor's shape, and dtype unless another is given."""
    return torch.ones_like(tensor(x), dtype=_kind(dtype))


@op
def empty_like(x: Any, dtype: Any = None) -> torch.Tensor:
    """Returns a tensor of the tensor's shape whose values are whatever lies in memory."""
    return torch.empty_like(tensor(x), dtype=_kind(dtype))


@op
def full_like(x: Any, fill_value: Any, dtype: Any = None) -> torch.Tensor:
    """Returns a tensor of the tensor's shape filled with a value.

    >>> full_like([1.0, 2.0], 3.0).tolist()
    [3.0, 3.0]
    """
    x = tensor(x)
    return tensor(fill_value, _kind(dtype) or x.dtype).to(x.device).broadcast_to(x.shape).clone()


@op
def arange(start: Any, stop: Any = None, step: Any = None, dtype: Any = None) -> torch.Tensor:
    """Returns numbers from start (0 if only one end is given) up to stop, which is left out; int32 for whole numbers.

    >>> arange(3).tolist(), arange(1, 6, 2).tolist()
    ([0, 1, 2], [1, 3, 5])
    """
    start, stop = (0, start) if stop is None else (start, stop)
    step = 1 if step is None else step
    if dtype is None:
        kinds = {torch.as_tensor(v).dtype for v in (start, stop, step)}
        dtype = None if builtins.any(k.is_floating_point for k in kinds) else "int32"
    return torch.arange(start, stop, step, dtype=dtypes.to_torch(dtype))


@op
def eye(N: int, M: int | None = None, k: int = 0, dtype: Any = None) -> torch.Tensor:
    """Returns a matrix with ones on the k-th diagonal.

    >>> eye(2).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    rows, columns, kind = N, N if M is None else M, dtypes.to_torch(dtype)
    if k == 0:
        return torch.eye(rows, columns, dtype=kind)
    return (torch.arange(columns)[None, :] - torch.arange(rows)[:, None] == k).to(kind)


@op
def identity(n: int, dtype: Any = None) -> torch.Tensor:
    """Returns the identity matrix."""
    return eye(n, dtype=dtype)


@op
def tri(N: int, M: int | None = None, k: int = 0, dtype: Any = None) -> torch.Tensor:
    """Returns a matrix with ones on and below the k-th diagonal.

    >>> tri(2).tolist()
    [[1.0, 0.0], [1.0, 1.0]]
    """
    return torch.tril(torch.ones(N, N if M is None else M, dtype=dtypes.to_torch(dtype)), k)


def _steps(num: int, endpoint: bool) -> torch.Tensor:
    parts = (num - 1) if endpoint else num
    return torch.arange(num, dtype=torch.float64) / builtins.max(parts, 1)


@op
def linspace(
    start: Any, stop: Any, num: int = 50, endpoint: bool = True, retstep: bool = False, dtype: Any = None, axis: int = 0
) -> Any:
    """Returns `num` evenly spaced numbers from start to stop, along a new axis where those are tensors.

    >>> linspace(0.0, 1.0, 3).tolist()
    [0.0, 0.5, 1.0]
    """
    start, stop = floating(start), floating(stop)
    kind = _kind(dtype) or torch.promote_types(start.dtype, stop.dtype)
    start, stop = torch.broadcast_tensors(start.to(torch.float64), stop.to(torch.float64))
    made = start.unsqueeze(-1) + (stop - start).unsqueeze(-1) * _steps(num, endpoint).to(start.device)
    if not (kind.is_floating_point or kind.is_complex):
        made = made.floor()
    made = made.movedim(-1, axis).to(kind)
    step = (stop - start) / builtins.max(num - 1 if endpoint else num, 1)
    return (made, step.to(kind)) if retstep else made


@op
def logspace(
    start: Any, stop: Any, num: int = 50, endpoint: bool = True, base: float = 10, dtype: Any = None, axis: int = 0
) -> torch.Tensor:
    """Returns `num` numbers from `base**start` to `base**stop`, evenly spaced on a logarithmic scale."""
    start, stop = floating(start), floating(stop)
    kind = _kind(dtype) or torch.promote_types(start.dtype, stop.dtype)
    return (base ** linspace(start, stop, num, endpoint, dtype="float64", axis=axis)).to(kind)


@op
def geomspace(start: Any, stop: Any, num: int = 50, endpoint: bool = True, dtype: Any = None, axis: int = 0) -> torch.Tensor:
    """Returns `num` numbers from start to stop, each a fixed multiple of the one before.

    >>> geomspace(1.0, 4.0, 3).tolist()
    [1.0, 2.0, 4.0]
    """
    start, stop = floating(start), floating(stop)
    kind = _kind(dtype) or torch.promote_types(start.dtype, stop.dtype)
    low, ratio = start.to(torch.float64), stop.to(torch.float64) / start.to(torch.float64)
    zero = torch.zeros_like(ratio)
    powers = linspace(zero, ratio.abs().log(), num, endpoint, dtype="float64", axis=axis)
    return (low * torch.exp(powers)).to(kind)


@op
def meshgrid(*x: Any, indexing: str = "xy") -> list[torch.Tensor]:
    """Returns coordinate matrices of coordinate vectors.

    >>> [m.tolist() for m in meshgrid([1, 2], [3, 4])]
    [[[1, 2], [1, 2]], [[3, 3], [4, 4]]]
    """
    if indexing not in ("xy", "ij"):
        raise ValueError(f"meshgrid: indexing must be 'xy' or 'ij'. Received: indexing={indexing!r}")
    lines = [tensor(v).flatten() for v in x]
    places = list(range(len(lines)))
    if indexing == "xy" and len(lines) > 1:
        places[:2] = 1, 0
    shape = [lines[places.index(a)].shape[0] for a in range(len(lines))]
    return [v.reshape([-1 if a == p else 1 for a in range(len(lines))]).expand(shape) for v, p in zip(lines, places, strict=True)]


@op
def vander(x: Any, N: int | None = None, increasing: bool = False) -> torch.Tensor:
    """Returns the matrix of the powers of a vector's elements."""
    x = tensor(x)
    powers = torch.arange(x.shape[0] if N is None else N, device=x.device)
    return x.unsqueeze(-1) ** (powers if increasing else powers.flip(0)).to(x.dtype)
