"""What stands at both ends of every op: how arguments become tensors, and how a call on symbolic tensors is recorded."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import torch

from hornbeam.core import dtype as dtypes
from hornbeam.core.errors import describe
from hornbeam.core.weights import Variable
from hornbeam.graph import tree
from hornbeam.graph.symbolic import Symbol, record_function, symbols_in

F = TypeVar("F", bound=Callable[..., Any])
TENSORS = (torch.Tensor, Symbol)


def op(function: F) -> F:
    """Lets a function on tensors be one node of the graph when an argument is symbolic."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        for value in args:
            if isinstance(value, Symbol) or (type(value) in (list, tuple, dict) and symbols_in(value)):
                return record_function(call, args, kwargs)
        if kwargs and symbols_in(kwargs):
            return record_function(call, args, kwargs)
        return function(*args, **kwargs)

    call.records = True  # type: ignore[attr-defined]
    return call  # type: ignore[return-value]


def tensor(x: Any, dtype: Any = None) -> torch.Tensor:
    """Returns a value as a tensor: Python numbers become int32, bool or `config.floatx()`; arrays and tensors keep their dtype.

    Args:
        x: tensor, array, number, or nest of such.
        dtype: the dtype that is wanted, or None.
    """
    if isinstance(x, TENSORS):
        return x if dtype is None else x.to(dtypes.to_torch(dtype))  # type: ignore[union-attr, return-value]
    if isinstance(x, (bool, int, float, complex)) and not isinstance(x, np.generic):
        return torch.tensor(x, dtype=_python_dtype([x]) if dtype is None else dtypes.to_torch(dtype))
    if isinstance(x, (list, tuple)):
        flat = tree.leaves(x)
        if all(type(v) in (bool, int, float, complex) for v in flat):
            return torch.tensor(x, dtype=_python_dtype(flat) if dtype is None else dtypes.to_torch(dtype))
        if any(isinstance(v, torch.Tensor) for v in flat):
            made = torch.stack([tensor(v) for v in x])
            return made if dtype is None else made.to(dtypes.to_torch(dtype))
    made = torch.as_tensor(_plain(x))
    if dtype is None and made.dtype is torch.float64 and not isinstance(x, np.ndarray):
        dtype = dtypes.to_torch(None)
    return made if dtype is None else made.to(dtypes.to_torch(dtype))


def _python_dtype(flat: list[Any]) -> torch.dtype:
    """The dtype for Python numbers: bool, int32 (int64 where that is too small), or `config.floatx()`."""
    if flat and all(isinstance(v, bool) for v in flat):
        return torch.bool
    if flat and all(isinstance(v, int) for v in flat):
        return torch.int32 if all(-(2**31) <= v < 2**31 for v in flat) else torch.int64
    return torch.complex64 if any(isinstance(v, complex) for v in flat) else dtypes.to_torch(None)


def _plain(x: Any) -> np.ndarray:
    """Returns a value as an array that torch can share: of numbers, writeable, no negative strides."""
    array = np.asarray(x)
    if array.dtype.kind not in "biufc":
        raise ValueError(f"A tensor is made of numbers. Received: {describe(x)}")
    if array.dtype == np.uint32:
        return array.astype(np.int64)
    return array.copy() if not array.flags.writeable or min(array.strides, default=0) < 0 else array


def floating(x: Any) -> torch.Tensor:
    """Returns a value as a tensor of a floating point or complex dtype; integers and booleans become `config.floatx()`."""
    if not isinstance(x, TENSORS):
        x = tensor(x)
    return x if x.is_floating_point() or x.is_complex() else x.to(dtypes.to_torch(None))  # type: ignore[union-attr]


def pair(x1: Any, x2: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns two operands as tensors; a Python number takes the other's dtype where that can hold it."""
    if isinstance(x1, torch.Tensor):
        return x1, x2 if isinstance(x2, torch.Tensor) else _beside(x2, x1)
    if isinstance(x2, torch.Tensor):
        return _beside(x1, x2), x2
    if isinstance(x1, (bool, int, float)) and not isinstance(x2, (bool, int, float)):
        x2 = tensor(x2)
        return _beside(x1, x2), x2
    x1 = tensor(x1)
    return x1, _beside(x2, x1)


def _beside(x: Any, other: torch.Tensor) -> torch.Tensor:
    if isinstance(x, bool):
        return torch.tensor(x, device=other.device)
    if isinstance(x, (int, float)):
        weak = other.dtype.is_floating_point or other.dtype.is_complex or (isinstance(x, int) and other.dtype is not torch.bool)
        kind = other.dtype if weak else torch.int32 if isinstance(x, int) else dtypes.to_torch(None)
        return torch.tensor(x, dtype=kind, device=other.device)
    return tensor(x).to(other.device)


def axes(axis: Any, ndim: int) -> tuple[int, ...]:
    """Returns the axes that an `axis` argument means, as numbers from 0; None means all of them."""
    if axis is None:
        return tuple(range(ndim))
    given = (axis,) if isinstance(axis, int) else tuple(axis)
    for a in given:
        if not -ndim <= a < ndim:
            raise ValueError(f"axis {a} does not exist in a tensor with {ndim} axes. Received: axis={axis}")
    return tuple(a % ndim for a in given)


def named(x: torch.Tensor, argument: str, ndims: tuple[int, ...]) -> torch.Tensor:
    """Returns the tensor, or raises where its number of axes is not among those expected."""
    if x.ndim not in ndims:
        raise ValueError(f"`{argument}` must have {' or '.join(map(str, ndims))} axes. Received: shape {tuple(x.shape)}")
    return x


@op
def convert_to_tensor(x: Any, dtype: Any = None, sparse: bool | None = None, ragged: bool | None = None) -> torch.Tensor:
    """Returns a value as a tensor; Python numbers become int32, bool or `config.floatx()`, arrays keep their dtype.

    Args:
        x: tensor, array, number, or nest of such.
        dtype: the dtype that is wanted, or None.

    >>> convert_to_tensor([1.0, 2.0]).dtype
    torch.float32
    """
    if sparse or ragged:
        raise ValueError("convert_to_tensor makes dense tensors only. Received: sparse=True or ragged=True.")
    return tensor(x, dtype)


def convert_to_numpy(x: Any) -> np.ndarray:
    """Returns a tensor, or anything that can become one, as an array on the host (bfloat16 as float32).

    >>> convert_to_numpy(torch.ones(2)).tolist()
    [1.0, 1.0]
    """
    if isinstance(x, (Symbol, Variable)):
        return x.numpy()
    x = x if isinstance(x, torch.Tensor) else tensor(x)
    x = x.detach().resolve_conj().cpu().as_subclass(torch.Tensor)
    return (x.float() if x.dtype is torch.bfloat16 else x).numpy()


def is_tensor(x: Any) -> bool:
    """Returns whether something is a tensor, real or symbolic.

    >>> is_tensor(torch.ones(1)), is_tensor(1.0)
    (True, False)
    """
    return isinstance(x, TENSORS)


@op
def cast(x: Any, dtype: Any) -> torch.Tensor:
    """Returns the tensor in another dtype.

    >>> cast([1.7, -1.7], "int32").tolist()
    [1, -1]
    """
    return tensor(x, dtype)


@op
def saturate_cast(x: Any, dtype: Any) -> torch.Tensor:
    """Returns the tensor in another dtype, with values outside its range replaced by the nearest end of it.

    >>> saturate_cast([300.0, -5.0], "uint8").tolist()
    [255, 0]
    """
    x, kind = tensor(x), dtypes.to_torch(dtype)
    if kind is torch.bool:
        return x.clamp(0, 1).to(kind)
    source = None if x.dtype is torch.bool else torch.finfo(x.dtype) if x.is_floating_point() else torch.iinfo(x.dtype)
    if source is None or kind.is_complex:
        return x.to(kind)
    target = torch.finfo(kind) if kind.is_floating_point else torch.iinfo(kind)
    low, high = max(source.min, target.min), min(source.max, target.max)
    if x.is_floating_point() and not kind.is_floating_point:
        return torch.where(x >= high, high, torch.where(x <= low, low, x).clamp(low, math.nextafter(high, 0)).to(kind))
    return x.clamp(low, high).to(kind)


def shape(x: Any) -> tuple[Any, ...]:
    """Returns the sizes of a tensor; for a symbolic tensor, sizes that are not known yet are symbolic integers.

    >>> shape(torch.ones(2, 3))
    (2, 3)
    """
    return x.size() if isinstance(x, Symbol) else tuple(tensor(x).shape)  # type: ignore[attr-defined]


def dtype(x: Any) -> str:
    """Returns the name of a tensor's dtype.

    >>> dtype(torch.ones(1))
    'float32'
    """
    return dtypes.standardize_dtype(x.dtype if isinstance(x, TENSORS) else tensor(x).dtype)


def ndim(x: Any) -> int:
    """Returns the number of axes.

    >>> ndim([[1, 2]])
    2
    """
    return x.ndim if isinstance(x, TENSORS) else tensor(x).ndim  # type: ignore[attr-defined]


@op
def size(x: Any) -> int:
    """Returns the number of elements.

    >>> size([[1, 2, 3]])
    3
    """
    return math.prod(tensor(x).shape)


@op
def stop_gradient(variable: Any) -> torch.Tensor:
    """Returns the value as a constant for gradients.

    >>> stop_gradient(torch.ones(1, requires_grad=True)).requires_grad
    False
    """
    return tensor(variable).detach()


@op
def view(x: Any, dtype: Any = None) -> torch.Tensor:
    """Returns the same bytes read as another dtype.

    >>> view(torch.ones(1), "int32").tolist()
    [1065353216]
    """
    return tensor(x).view(dtypes.to_torch(dtype))


@op
def copy(x: Any) -> torch.Tensor:
    """Returns a copy of a tensor."""
    return tensor(x).clone()
