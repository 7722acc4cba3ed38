"""Images as tensors, as `keras.ops.image` has them: `(batch, height, width, channels)` or `(batch, channels, height, width)`."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from hornbeam.core.errors import did_you_mean
from hornbeam.core.settings import standardize_data_format
from hornbeam.ops.convert import floating, named, op, tensor
from hornbeam.ops.convolution import per_axis, same_padding

_MODES = ("nearest", "bilinear", "bicubic")


def _channels_first(images: Any, data_format: str | None) -> tuple[torch.Tensor, bool, bool]:
    """Returns images as `(batch, channels, height, width)`, whether they were channels-last, and whether there was one only."""
    x, last = named(tensor(images), "images", (3, 4)), standardize_data_format(data_format) == "channels_last"
    single = x.ndim == 3
    x = x.unsqueeze(0) if single else x
    return (x.movedim(-1, 1) if last else x), last, single


def _back(x: torch.Tensor, last: bool, single: bool) -> torch.Tensor:
    x = x.movedim(1, -1) if last else x
    return x.squeeze(0) if single else x


@op
def resize(
    images: Any,
    size: Any,
    interpolation: str = "bilinear",
    antialias: bool = False,
    crop_to_aspect_ratio: bool = False,
    pad_to_aspect_ratio: bool = False,
    fill_mode: str = "constant",
    fill_value: float = 0.0,
    data_format: str | None = None,
) -> torch.Tensor:
    """Returns images in another size.

    Args:
        images: one image or a batch.
        size: (height, width).
        interpolation: "bilinear", "nearest" or "bicubic".
        antialias: whether a smaller image averages over the pixels that it stands for.
        crop_to_aspect_ratio: whether images are cut, around the middle, to the shape of the target instead of being distorted.
        pad_to_aspect_ratio: whether they are extended to it, with `fill_value`.

    >>> resize(torch.ones(4, 4, 3), (2, 2)).shape
    torch.Size([2, 2, 3])
    """
    if interpolation not in _MODES:
        hint = did_you_mean(interpolation, _MODES)
        raise ValueError(f"resize: interpolation must be one of {', '.join(_MODES)}.{hint} Received: {interpolation!r}")
    if crop_to_aspect_ratio and pad_to_aspect_ratio:
        raise ValueError("resize: `crop_to_aspect_ratio` and `pad_to_aspect_ratio` exclude each other. Received both.")
    if fill_mode != "constant":
        raise ValueError(f"resize: fill_mode must be 'constant'. Received: {fill_mode!r}")
    x, last, single = _channels_first(images, data_format)
    kind = x.dtype
    x = floating(x)
    x = _fitted(x, size, crop_to_aspect_ratio, pad_to_aspect_ratio, fill_value)
    if interpolation == "nearest":
        y = F.interpolate(x, tuple(size), mode="nearest-exact")
    else:
        y = F.interpolate(x, tuple(size), mode=interpolation, align_corners=False, antialias=antialias)
    if not kind.is_floating_point:
        info = torch.iinfo(kind)
        y = y.round().clamp(info.min, info.max).to(kind)
    return _back(y, last, single)


def _fitted(x: torch.Tensor, size: Any, crop: bool, extend: bool, fill: float) -> torch.Tensor:
    """Cuts or extends images to the shape of the target size."""
    (height, width), (rows, columns) = x.shape[2:], size
    if crop:
        new_height, new_width = min(height, int(width * rows / columns)), min(width, int(height * columns / rows))
        top, left = (height - new_height) // 2, (width - new_width) // 2
        return x[:, :, top : top + new_height, left : left + new_width]
    if extend:
        new_height, new_width = max(height, int(width * rows / columns)), max(width, int(height * columns / rows))
        top, left = (new_height - height) // 2, (new_width - width) // 2
        return F.pad(x, (left, new_width - width - left, top, new_height - height - top), value=fill)
    return x


@op
def rgb_to_grayscale(images: Any, data_format: str | None = None) -> torch.Tensor:
    """Returns images with one channel: `0.2989 red + 0.587 green + 0.114 blue`.

    >>> rgb_to_grayscale(torch.zeros(2, 2, 3)).shape
    torch.Size([2, 2, 1])
    """
    x = named(tensor(images), "images", (3, 4))
    axis = -1 if standardize_data_format(data_format) == "channels_last" else -3
    shares = torch.tensor([0.2989, 0.5870, 0.1140], device=x.device)
    wide = floating(x)
    gray = (wide.movedim(axis, -1) @ shares.to(wide.dtype)).unsqueeze(axis)
    return gray.to(x.dtype)


@op
def rgb_to_hsv(images: Any, data_format: str | None = None) -> torch.Tensor:
    """Returns images of red, green and blue in [0, 1] as hue, saturation and value."""
    x = floating(images)
    axis = -1 if standardize_data_format(data_format) == "channels_last" else -3
    r, g, b = x.unbind(axis)
    value, low = x.amax(axis), x.amin(axis)
    spread = value - low
    safe = torch.where(spread == 0, 1.0, spread)
    hue = torch.where(value == r, (g - b) / safe, torch.where(value == g, 2 + (b - r) / safe, 4 + (r - g) / safe))
    hue = torch.where(spread == 0, 0.0, torch.remainder(hue / 6, 1.0))
    saturation = torch.where(value > 0, spread / torch.where(value > 0, value, 1.0), 0.0)
    return torch.stack([hue, saturation, value], axis)


@op
def hsv_to_rgb(images: Any, data_format: str | None = None) -> torch.Tensor:
    """Returns images of hue, saturation and value in [0, 1] as red, green and blue."""
    x = floating(images)
    axis = -1 if standardize_data_format(data_format) == "channels_last" else -3
    hue, saturation, value = x.unbind(axis)
    parts = []
    for offset in (5, 3, 1):
        k = torch.remainder(offset + hue * 6, 6)
        parts.append(value - value * saturation * torch.minimum(k, 4 - k).clamp(0, 1))
    return torch.stack(parts, axis)


def _edges(before: int | None, after: int | None, old: int, new: int | None, sign: int, arguments: str) -> tuple[int, int]:
    """Returns what is added (sign 1) or cut off (sign -1) before and after, from any two of before, after and the new size."""
    names = arguments.split()
    if sum(v is None for v in (before, after, new)) != 1:
        raise ValueError(f"Two of `{names[0]}`, `{names[1]}` and `{names[2]}` are expected. Received: {before}, {after}, {new}")
    change = 0 if new is None else sign * (new - old)
    before = change - after if before is None else before  # type: ignore[operator]
    after = change - before if after is None else after
    if before < 0 or after < 0:
        raise ValueError(f"`{names[0]}` and `{names[1]}` come to {before} and {after}, which must not be negative.")
    return before, after


@op
def pad_images(
    images: Any,
    top_padding: int | None = None,
    left_padding: int | None = None,
    bottom_padding: int | None = None,
    right_padding: int | None = None,
    target_height: int | None = None,
    target_width: int | None = None,
    data_format: str | None = None,
) -> torch.Tensor:
    """Returns images with zeros added at their edges; of each side pair and target size, two are given.

    >>> pad_images(torch.ones(2, 2, 1), 1, 0, target_height=4, target_width=2).shape
    torch.Size([4, 2, 1])
    """
    x, last, single = _channels_first(images, data_format)
    height, width = x.shape[2:]
    top, bottom = _edges(top_padding, bottom_padding, height, target_height, 1, "top_padding bottom_padding target_height")
    left, right = _edges(left_padding, right_padding, width, target_width, 1, "left_padding right_padding target_width")
    return _back(F.pad(x, (left, right, top, bottom)), last, single)


@op
def crop_images(
    images: Any,
    top_cropping: int | None = None,
    left_cropping: int | None = None,
    bottom_cropping: int | None = None,
    right_cropping: int | None = None,
    target_height: int | None = None,
    target_width: int | None = None,
    data_format: str | None = None,
) -> torch.Tensor:
    """Returns images with their edges cut off; of each side pair and target size, two are given.

    >>> crop_images(torch.ones(4, 4, 1), 1, 1, 1, 1).shape
    torch.Size([2, 2, 1])
    """
    x, last, single = _channels_first(images, data_format)
    height, width = x.shape[2:]
    top, bottom = _edges(top_cropping, bottom_cropping, height, target_height, -1, "top_cropping bottom_cropping target_height")
    left, right = _edges(left_cropping, right_cropping, width, target_width, -1, "left_cropping right_cropping target_width")
    return _back(x[:, :, top : height - bottom, left : width - right], last, single)


@op
def extract_patches(
    images: Any,
    size: Any,
    strides: Any = None,
    dilation_rate: Any = 1,
    padding: str = "valid",
    data_format: str | None = None,
) -> torch.Tensor:
    """Returns the windows of images, each flattened into channels (rows, columns, then channels).

    Args:
        images: one image or a batch.
        size: (height, width) of a window.
        strides: steps between windows; `size` unless given.

    >>> extract_patches(torch.ones(1, 4, 4, 3), 2).shape
    torch.Size([1, 2, 2, 12])
    """
    x, last, single = _channels_first(images, data_format)
    window = per_axis(size, 2, "size")
    steps, spread = window if strides is None else per_axis(strides, 2, "strides"), per_axis(dilation_rate, 2, "dilation_rate")
    if padding == "same":
        (top, bottom), (left, right) = same_padding(x.shape[2:], window, steps, spread)
        x = F.pad(x, (left, right, top, bottom))
    counts = [(n - (k - 1) * d - 1) // s + 1 for n, k, d, s in zip(x.shape[2:], window, spread, steps, strict=True)]
    rows = torch.arange(counts[0])[:, None] * steps[0] + torch.arange(window[0]) * spread[0]
    columns = torch.arange(counts[1])[:, None] * steps[1] + torch.arange(window[1]) * spread[1]
    patches = x[:, :, rows[:, None, :, None], columns[None, :, None, :]]
    made = patches.permute(0, 4, 5, 1, 2, 3).reshape(x.shape[0], -1, *counts)
    return _back(made, last, single)
