"""Constant tensors as expressions: by the function that makes them where there is one, else by their values."""

from __future__ import annotations

import base64
import zlib
from typing import Any

import numpy as np
import torch

from hornbeam.export.naming import literal

_SHORT = 24
_COLUMNS = 76


def tensor(value: torch.Tensor, need: Any) -> str:
    """Returns an expression for a tensor's values.

    Args:
        value: any dense tensor.
        need: called with the bytes of a large tensor, spelled over several lines; returns the name that stands for them.

    >>> tensor(torch.arange(6), print), tensor(torch.ones(2, 3), print)
    ('torch.arange(6)', 'torch.ones(2, 3)')
    """
    value = value.detach().cpu()
    if value.numel() == 0:
        return _filled("zeros", value)
    first = value.flatten()[0]
    if bool((value == first).all()) and value.dim():
        number = first.item()
        if number in (0, 1) and value.dtype is not torch.bool:
            return _filled("ones" if number else "zeros", value)
        return f"torch.full({literal(tuple(value.shape))}, {literal(number)}{_dtype(value, type(number))})"
    pattern = _pattern(value)
    if pattern is not None:
        return pattern
    pattern = _pattern(value.flatten()) if value.dim() > 1 else None
    if pattern is not None:
        return f"{pattern}.reshape({', '.join(map(str, value.shape))})"
    if value.numel() <= _SHORT:
        flat = [shortest(v, value.dtype) for v in value.flatten().tolist()]
        shape = "" if value.dim() < 2 else f".reshape({', '.join(map(str, value.shape))})"
        return f"torch.tensor({literal(flat if value.dim() else flat[0])}{_dtype(value, type(first.item()))}){shape}"
    packed = base64.b64encode(zlib.compress(value.contiguous().view(torch.uint8).numpy().tobytes(), 9)).decode()
    rows = [packed[i : i + _COLUMNS] for i in range(0, len(packed), _COLUMNS)]
    name = need("(\n" + "".join(f'    "{row}"\n' for row in rows) + ")")
    raw = f"torch.frombuffer(bytearray(zlib.decompress(base64.b64decode({name}))), dtype={value.dtype})"
    return f"{raw}.reshape({', '.join(map(str, value.shape))})"


def shortest(number: Any, dtype: torch.dtype) -> Any:
    """A float32 number with no more digits than it needs."""
    return float(str(np.float32(number))) if dtype is torch.float32 and np.isfinite(number) else number


def _filled(name: str, value: torch.Tensor) -> str:
    sizes = ", ".join(map(str, value.shape)) or "()"
    return f"torch.{name}({sizes}{_dtype(value, float)})"


def _dtype(value: torch.Tensor, natural: type) -> str:
    usual = {float: torch.float32, int: torch.int64, bool: torch.bool, complex: torch.complex64}[natural]
    return "" if value.dtype is usual else f", dtype={value.dtype}"


def _pattern(value: torch.Tensor) -> str | None:
    count = value.numel()
    if value.dim() == 1 and count > 2 and value.dtype is not torch.bool and not value.is_complex():
        start, step = value[0].item(), (value[1] - value[0]).item()
        if float(start).is_integer() and float(step).is_integer() and step > 0:
            end = start + step * count
            made = torch.arange(start, end, step, dtype=value.dtype)
            if torch.equal(made, value):
                parts = [repr(end)] if (start, step) == (0, 1) else [repr(start), repr(end)]
                return f"torch.arange({', '.join(parts if step == 1 else [*parts, repr(step)])}{_dtype(value, type(start))})"
    if value.dim() == 2 and value.shape[0] == value.shape[1]:
        for name in ("tril", "triu"):
            ones = getattr(torch, name)(torch.ones(value.shape, dtype=value.dtype))
            if torch.equal(ones, value):
                return f"torch.{name}({_filled('ones', ones)})"
        if torch.equal(torch.eye(len(value), dtype=value.dtype), value):
            return f"torch.eye({len(value)}{_dtype(value, float)})"
    return None
