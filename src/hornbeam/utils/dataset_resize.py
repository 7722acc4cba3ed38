"""Images resized in a reader's own thread, by the kernels of `tf.image.resize`: each output is a weighted sum of a few pixels."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator

import numpy as np


def _triangle(t: np.ndarray) -> np.ndarray:
    return np.maximum(0, 1 - np.abs(t))


def _cubic(b: float, c: float) -> Callable[[np.ndarray], np.ndarray]:
    """The family of Mitchell and Netravali, "Reconstruction filters in computer graphics" (1988)."""

    def kernel(t: np.ndarray) -> np.ndarray:
        t = np.abs(t)
        near = (12 - 9 * b - 6 * c) * t**3 + (-18 + 12 * b + 6 * c) * t**2 + 6 - 2 * b
        far = (-b - 6 * c) * t**3 + (6 * b + 30 * c) * t**2 + (-12 * b - 48 * c) * t + 8 * b + 24 * c
        return np.where(t < 1, near, np.where(t < 2, far, 0)) / 6

    return kernel


def _lanczos(radius: int) -> Callable[[np.ndarray], np.ndarray]:
    return lambda t: np.where(np.abs(t) < radius, np.sinc(t) * np.sinc(t / radius), 0)


def _gaussian(t: np.ndarray) -> np.ndarray:
    return np.where(np.abs(t) <= 1.5, np.exp(-2 * t**2), 0)


_KERNELS: dict[str, tuple[float, Callable[[np.ndarray], np.ndarray]]] = {
    "bilinear": (1, _triangle),
    "bicubic": (2, _cubic(0, 0.5)),
    "lanczos3": (3, _lanczos(3)),
    "lanczos5": (5, _lanczos(5)),
    "gaussian": (1.5, _gaussian),
    "mitchellcubic": (2, _cubic(1 / 3, 1 / 3)),
}
METHODS = ("bilinear", "nearest", "bicubic", "area", "lanczos3", "lanczos5", "gaussian", "mitchellcubic")


@functools.lru_cache(maxsize=1024)
def taps(size: int, wanted: int, method: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns, for one axis, which pixels each output is made of and their weights, both of shape (wanted, number of pixels).

    >>> pixels, weights = taps(4, 2, "bilinear")
    >>> pixels.tolist(), weights.tolist()
    ([[0, 1], [2, 3]], [[0.5, 0.5], [0.5, 0.5]])
    """
    scale = size / wanted
    places = np.arange(wanted)[:, None]
    if method == "nearest":
        pixels = np.floor((places + 0.5).astype(np.float32) * np.float32(scale)).astype(int)
        weights = np.ones_like(pixels, float)
    elif method == "area":
        pixels = np.floor(places * scale).astype(int) + np.arange(int(np.ceil(scale)) + 1)
        weights = np.minimum(pixels + 1, (places + 1) * scale) - np.maximum(pixels, places * scale)
        weights = np.maximum(weights, 0)
    else:
        radius, kernel = _KERNELS[method]
        center = (places + 0.5) * scale - 0.5
        pixels = np.ceil(center - radius).astype(int) + np.arange(int(np.ceil(2 * radius)))
        weights = kernel(pixels - center)
    weights = np.where((pixels >= 0) & (pixels < size), weights, 0)
    weights /= weights.sum(1, keepdims=True)
    used = np.abs(weights).max(0) > 1e-9
    return np.clip(pixels[:, used], 0, size - 1), weights[:, used].astype(np.float32)


def resize(image: np.ndarray, size: tuple[int, int], method: str) -> np.ndarray:
    """Returns an image (height, width, channels) of any number type as float32 in another size.

    >>> resize(np.ones((4, 6, 3), "uint8"), (2, 2), "bilinear").shape
    (2, 2, 3)
    """
    (height, width, channels), (rows, columns) = image.shape, size
    pixels, weights = taps(height, rows, method)
    tall = _weighted((image[at].reshape(rows, -1) for at in pixels.T), weights.T[:, :, None])
    tall = tall.reshape(rows, width, channels)
    pixels, weights = taps(width, columns, method)
    wide = _weighted((tall.take(at, 1).reshape(rows, -1) for at in pixels.T), np.repeat(weights.T, channels, 1))
    return wide.reshape(rows, columns, channels).astype(np.float32, copy=False)


def _weighted(parts: Iterator[np.ndarray], weights: np.ndarray) -> np.ndarray:
    """Returns the sum of float32 products; rows are long, which is what NumPy is fast on."""
    total = next(parts) * weights[0]
    for part, weight in zip(parts, weights[1:], strict=True):
        total += part * weight
    return total


def resize_with_crop(image: np.ndarray, size: tuple[int, int], method: str) -> np.ndarray:
    """Returns an image cut around its middle to the proportions of a size, then resized.

    >>> resize_with_crop(np.arange(12.0).reshape(2, 6, 1), (2, 2), "bilinear")[..., 0].tolist()
    [[2.0, 3.0], [8.0, 9.0]]
    """
    (height, width), (rows, columns) = image.shape[:2], size
    new_height, new_width = min(height, int(width * rows / columns)), min(width, int(height * columns / rows))
    new_height, new_width = max(1, new_height), max(1, new_width)
    top, left = (height - new_height) // 2, (width - new_width) // 2
    return resize(image[top : top + new_height, left : left + new_width], size, method)


def resize_with_pad(image: np.ndarray, size: tuple[int, int], method: str) -> np.ndarray:
    """Returns an image resized to fit into a size, undistorted, in the middle of zeros.

    >>> resize_with_pad(np.ones((1, 2, 1)), (2, 4), "bilinear")[..., 0].tolist()
    [[1.0, 1.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0]]
    >>> resize_with_pad(np.ones((2, 2, 1)), (2, 4), "bilinear")[..., 0].tolist()
    [[0.0, 1.0, 1.0, 0.0], [0.0, 1.0, 1.0, 0.0]]
    """
    ratio = max(image.shape[0] / size[0], image.shape[1] / size[1])
    height, width = image.shape[0] / ratio, image.shape[1] / ratio
    inner = resize(image, (max(1, int(height + 1e-6)), max(1, int(width + 1e-6))), method)
    top, left = int((size[0] - height) / 2), int((size[1] - width) / 2)
    outer = np.zeros((*size, image.shape[2]), np.float32)
    outer[top : top + inner.shape[0], left : left + inner.shape[1]] = inner
    return outer
