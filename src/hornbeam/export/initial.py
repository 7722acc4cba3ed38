"""The first values of weights, as torch spells them."""

from __future__ import annotations

import math
from typing import Any

import torch

from hornbeam import initializers
from hornbeam.export.tensors import shortest


def initial(value: torch.Tensor, initializer: Any = None) -> str:
    """Returns the expression of a tensor like a weight, with values as its initializer draws them; zeros where none is known.

    >>> initial(torch.zeros(2, 3), initializers.RandomUniform(-0.1, 0.1))
    'torch.empty(2, 3).uniform_(-0.1, 0.1)'
    """
    dtype = "" if value.dtype is torch.float32 else f", dtype={value.dtype}"
    sizes = f"{', '.join(map(str, value.shape)) or '()'}{dtype}"
    kind = type(initializer)
    if kind is initializers.Ones:
        return f"torch.ones({sizes})"
    if kind is initializers.Constant and isinstance(initializer.value, (int, float)):
        return f"torch.full({tuple(value.shape)}, {float(initializer.value)!r}{dtype})"
    if kind is initializers.RandomUniform:
        return f"torch.empty({sizes}).uniform_({initializer.minval!r}, {initializer.maxval!r})"
    if kind is initializers.RandomNormal:
        return f"torch.empty({sizes}).normal_({initializer.mean!r}, {initializer.stddev!r})"
    if kind is initializers.TruncatedNormal:
        return _truncated(sizes, initializer.mean, initializer.stddev)
    if kind.__module__ == initializers.__name__ and isinstance(initializer, initializers.VarianceScaling):
        return _scaled(sizes, tuple(value.shape), initializer)
    return f"torch.zeros({sizes})"


def _truncated(sizes: str, mean: float, deviation: float) -> str:
    ends = mean - 2 * deviation, mean + 2 * deviation
    shown = ", ".join(repr(shortest(v, torch.float32)) for v in (mean, deviation, *ends))
    return f"nn.init.trunc_normal_(torch.empty({sizes}), {shown})"


def _scaled(sizes: str, shape: tuple[int, ...], initializer: Any) -> str:
    fan_in, fan_out = initializers.compute_fans(shape, initializer.input_axes, initializer.output_axes)
    fans = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}
    variance = initializer.scale / max(1.0, fans[initializer.mode])
    if initializer.distribution == "uniform":
        limit = shortest(math.sqrt(3 * variance), torch.float32)
        return f"torch.empty({sizes}).uniform_({-limit!r}, {limit!r})"
    if initializer.distribution == "untruncated_normal":
        return f"torch.empty({sizes}).normal_(0.0, {shortest(math.sqrt(variance), torch.float32)!r})"
    return _truncated(sizes, 0.0, math.sqrt(variance) / 0.87962566103423978)
