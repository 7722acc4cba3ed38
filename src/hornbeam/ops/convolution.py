"""Convolutions and poolings of any rank. Keras's layouts outside, torch's kernels inside."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from hornbeam.core.settings import standardize_data_format
from hornbeam.ops.convert import floating, op, tensor


def per_axis(value: Any, rank: int, argument: str) -> tuple[int, ...]:
    """Returns one number for each spatial axis."""
    given = (value,) * rank if isinstance(value, int) else tuple(value)
    if len(given) != rank:
        raise ValueError(f"`{argument}` must be an integer or {rank} of them. Received: {argument}={value}")
    return given


def same_padding(sizes: Any, window: Any, strides: Any, dilation: Any) -> list[tuple[int, int]]:
    """Returns how much is added before and after each axis so that the output has `ceil(size / stride)` elements."""
    pairs = []
    for n, k, s, d in zip(sizes, window, strides, dilation, strict=True):
        total = (k - 1) * d + 1 - s if n % s == 0 else (k - 1) * d + 1 - n % s
        total = total if total > 0 else 0
        pairs.append((total // 2, total - total // 2))
    return pairs


def _padded(x: torch.Tensor, pairs: list[tuple[int, int]], value: float = 0.0) -> torch.Tensor:
    return F.pad(x, [v for p in reversed(pairs) for v in p], value=value) if any(a or b for a, b in pairs) else x


def _checked(padding: str) -> str:
    padding = str(padding).lower()
    if padding not in ("valid", "same"):
        raise ValueError(f"padding must be 'valid' or 'same'. Received: padding={padding!r}")
    return padding


def _first(x: torch.Tensor, channels_last: bool) -> torch.Tensor:
    return x.movedim(-1, 1) if channels_last else x


def _last(x: torch.Tensor, channels_last: bool) -> torch.Tensor:
    return x.movedim(1, -1) if channels_last else x


def _common(inputs: Any, kernel: Any) -> tuple[torch.Tensor, torch.Tensor]:
    inputs, kernel = floating(inputs), floating(kernel)
    kind = torch.promote_types(inputs.dtype, kernel.dtype)
    return inputs.to(kind), kernel.to(kind)


_CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_TRANSPOSE = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


@op
def conv(
    inputs: Any, kernel: Any, strides: Any = 1, padding: str = "valid", data_format: str | None = None, dilation_rate: Any = 1
) -> torch.Tensor:
    """Returns a convolution over 1, 2 or 3 axes; fewer input channels in the kernel than in the inputs mean groups.

    Args:
        inputs: shape `(batch, *space, channels)`, or `(batch, channels, *space)`.
        kernel: shape `(*window, channels / groups, filters)`.
        strides, dilation_rate: one number, or one for each axis.
        padding: "valid" or "same".
        data_format: "channels_last", "channels_first", or None for `config.image_data_format()`.

    >>> conv(torch.ones(1, 4, 1), torch.ones(2, 1, 1)).flatten().tolist()
    [2.0, 2.0, 2.0]
    """
    inputs, kernel = _common(inputs, kernel)
    rank, last = inputs.ndim - 2, standardize_data_format(data_format) == "channels_last"
    strides, dilation = per_axis(strides, rank, "strides"), per_axis(dilation_rate, rank, "dilation_rate")
    x = _first(inputs, last)
    channels = x.shape[1]
    if channels % kernel.shape[-2]:
        raise ValueError(f"conv: {channels} input channels cannot be put into groups of {kernel.shape[-2]}, as the kernel has.")
    if _checked(padding) == "same":
        x = _padded(x, same_padding(x.shape[2:], kernel.shape[:rank], strides, dilation))
    weight = kernel.permute(rank + 1, rank, *range(rank))
    return _last(_CONV[rank](x, weight, None, strides, 0, dilation, channels // kernel.shape[-2]), last)


@op
def depthwise_conv(
    inputs: Any, kernel: Any, strides: Any = 1, padding: str = "valid", data_format: str | None = None, dilation_rate: Any = 1
) -> torch.Tensor:
    """Returns a convolution of each channel by itself.

    Args:
        kernel: shape `(*window, channels, multiplier)`.
    """
    kernel = tensor(kernel)
    joined = kernel.reshape(*kernel.shape[:-2], 1, kernel.shape[-2] * kernel.shape[-1])
    return conv(inputs, joined, strides, padding, data_format, dilation_rate)


@op
def separable_conv(
    inputs: Any,
    depthwise_kernel: Any,
    pointwise_kernel: Any,
    strides: Any = 1,
    padding: str = "valid",
    data_format: str | None = None,
    dilation_rate: Any = 1,
) -> torch.Tensor:
    """Returns a convolution of each channel by itself, then one with a window of 1 that mixes the channels."""
    x = depthwise_conv(inputs, depthwise_kernel, strides, padding, data_format, dilation_rate)
    return conv(x, pointwise_kernel, 1, "valid", data_format, 1)


@op
def conv_transpose(
    inputs: Any,
    kernel: Any,
    strides: Any = 1,
    padding: str = "valid",
    output_padding: Any = None,
    data_format: str | None = None,
    dilation_rate: Any = 1,
) -> torch.Tensor:
    """Returns the convolution whose gradient with respect to its inputs is `conv`.

    Args:
        inputs: shape `(batch, *space, channels)`, or `(batch, channels, *space)`.
        kernel: shape `(*window, filters, channels)`.
        output_padding: elements added at the end of each axis; chosen to fit unless given.

    >>> conv_transpose(torch.ones(1, 2, 1), torch.ones(2, 1, 1), strides=2).flatten().tolist()
    [1.0, 1.0, 1.0, 1.0]
    """
    inputs, kernel = _common(inputs, kernel)
    rank, last = inputs.ndim - 2, standardize_data_format(data_format) == "channels_last"
    strides, dilation = per_axis(strides, rank, "strides"), per_axis(dilation_rate, rank, "dilation_rate")
    extra = (None,) * rank if output_padding is None else per_axis(output_padding, rank, "output_padding")
    x, padding = _first(inputs, last), _checked(padding)
    full = _TRANSPOSE[rank](x, kernel.permute(rank + 1, rank, *range(rank)), None, strides, 0, 0, 1, dilation)
    changes = []
    for i in range(rank):
        reach = (kernel.shape[i] - 1) * dilation[i] + 1
        if extra[i] is None:
            length = x.shape[2 + i] * strides[i] + (max(reach - strides[i], 0) if padding == "valid" else 0)
        else:
            length = full.shape[2 + i] - (2 * (reach // 2) if padding == "same" else 0) + extra[i]
        before = max(full.shape[2 + i] - length, 0) // 2 if padding == "same" else 0
        changes.append((-before, length - (full.shape[2 + i] - before)))
    return _last(_padded(full, changes), last)


_MAX = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
_MEAN = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


def _pool_arguments(inputs: Any, pool_size: Any, strides: Any, padding: str, data_format: str | None) -> tuple[Any, ...]:
    x = tensor(inputs)
    rank, last = x.ndim - 2, standardize_data_format(data_format) == "channels_last"
    window = per_axis(pool_size, rank, "pool_size")
    steps = window if strides is None else per_axis(strides, rank, "strides")
    x = _first(x, last)
    pairs = same_padding(x.shape[2:], window, steps, (1,) * rank) if _checked(padding) == "same" else [(0, 0)] * rank
    return x, rank, last, window, steps, pairs


@op
def max_pool(
    inputs: Any, pool_size: Any, strides: Any = None, padding: str = "valid", data_format: str | None = None
) -> torch.Tensor:
    """Returns the largest values of windows over 1, 2 or 3 axes.

    >>> max_pool(torch.tensor([1.0, 3.0, 2.0, 0.0]).reshape(1, 4, 1), 2).flatten().tolist()
    [3.0, 2.0]
    """
    x, rank, last, window, steps, pairs = _pool_arguments(inputs, pool_size, strides, padding, data_format)
    if any(a or b for a, b in pairs):
        x = _padded(x, pairs, float("-inf") if x.is_floating_point() else torch.iinfo(x.dtype).min)
    return _last(_MAX[rank](x, window, steps), last)


@op
def average_pool(
    inputs: Any, pool_size: Any, strides: Any = None, padding: str = "valid", data_format: str | None = None
) -> torch.Tensor:
    """Returns the means of windows over 1, 2 or 3 axes; what "same" adds is not counted.

    >>> average_pool(torch.tensor([1.0, 3.0, 2.0, 0.0]).reshape(1, 4, 1), 2).flatten().tolist()
    [2.0, 1.0]
    """
    x, rank, last, window, steps, pairs = _pool_arguments(inputs, pool_size, strides, padding, data_format)
    x = floating(x)
    if all(a == b for a, b in pairs):
        return _last(_MEAN[rank](x, window, steps, [a for a, _ in pairs], count_include_pad=False), last)
    counted = _padded(torch.ones_like(x[:1, :1]), pairs)
    return _last(_MEAN[rank](_padded(x, pairs), window, steps) / _MEAN[rank](counted, window, steps), last)


_ADAPTIVE: dict[str, dict[int, Callable[..., Any]]] = {
    "average": {1: F.adaptive_avg_pool1d, 2: F.adaptive_avg_pool2d, 3: F.adaptive_avg_pool3d},
    "max": {1: F.adaptive_max_pool1d, 2: F.adaptive_max_pool2d, 3: F.adaptive_max_pool3d},
}


def _adaptive(kind: str, inputs: Any, output_size: Any, data_format: str | None) -> torch.Tensor:
    x, last = floating(inputs), standardize_data_format(data_format) == "channels_last"
    rank = x.ndim - 2
    return _last(_ADAPTIVE[kind][rank](_first(x, last), per_axis(output_size, rank, "output_size")), last)


@op
def adaptive_average_pool(inputs: Any, output_size: Any, data_format: str | None = None) -> torch.Tensor:
    """Returns the means of so many windows along each axis that the output has the given size."""
    return _adaptive("average", inputs, output_size, data_format)


@op
def adaptive_max_pool(inputs: Any, output_size: Any, data_format: str | None = None) -> torch.Tensor:
    """Returns the largest values of so many windows along each axis that the output has the given size."""
    return _adaptive("max", inputs, output_size, data_format)


@op
def unfold(x: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1) -> torch.Tensor:
    """Returns the windows of images `(batch, channels, height, width)` as columns."""
    return F.unfold(floating(x), kernel_size, dilation, padding, stride)


@op
def fold(x: Any, output_size: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1) -> torch.Tensor:
    """Returns images in which columns of windows, as `unfold` makes them, are added up."""
    return F.fold(floating(x), output_size, kernel_size, dilation, padding, stride)


@op
def depth_to_space(x: Any, block_size: int, data_format: str = "channels_last") -> torch.Tensor:
    """Returns images in which groups of channels have become blocks of `block_size` by `block_size` pixels."""
    x = tensor(x)
    if standardize_data_format(data_format) == "channels_first":
        n, c, h, w = x.shape
        x = x.reshape(n, block_size, block_size, c // block_size**2, h, w).permute(0, 3, 4, 1, 5, 2)
        return x.reshape(n, c // block_size**2, h * block_size, w * block_size)
    n, h, w, c = x.shape
    x = x.reshape(n, h, w, block_size, block_size, c // block_size**2).permute(0, 1, 3, 2, 4, 5)
    return x.reshape(n, h * block_size, w * block_size, c // block_size**2)


@op
def space_to_depth(x: Any, block_size: int, data_format: str = "channels_last") -> torch.Tensor:
    """Returns images in which blocks of `block_size` by `block_size` pixels have become groups of channels."""
    x = tensor(x)
    if standardize_data_format(data_format) == "channels_first":
        n, c, h, w = x.shape
        x = x.reshape(n, c, h // block_size, block_size, w // block_size, block_size).permute(0, 3, 5, 1, 2, 4)
        return x.reshape(n, c * block_size**2, h // block_size, w // block_size)
    n, h, w, c = x.shape
    x = x.reshape(n, h // block_size, block_size, w // block_size, block_size, c).permute(0, 1, 3, 2, 4, 5)
    return x.reshape(n, h // block_size, w // block_size, c * block_size**2)
