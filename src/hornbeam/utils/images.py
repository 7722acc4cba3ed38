"""Pictures, arrays and files turned into each other, through Pillow."""

from __future__ import annotations

import io
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from hornbeam.core.errors import describe, did_you_mean
from hornbeam.core.settings import floatx, standardize_data_format
from hornbeam.ops import image as image_ops
from hornbeam.utils.dataset_packages import needed

if TYPE_CHECKING:
    from PIL.Image import Image

MODES = {"grayscale": "L", "rgb": "RGB", "rgba": "RGBA"}
INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "hamming", "box", "lanczos")


def pillow() -> Any:
    """Returns Pillow's `PIL.Image`, loaded when the first image is."""
    return needed("PIL.Image", "pillow", "Reading and writing images", "image")


def open_image(path: Any, color_mode: str, deep: bool = False) -> Image:
    """Returns a picture in the wanted colours; 16-bit grey stays so if `deep`, else it keeps its upper 8 bits."""
    library = pillow()
    file = path if isinstance(path, io.BytesIO) else io.BytesIO(Path(path).read_bytes())
    try:
        picture = library.open(file)
        picture.load()
    except (OSError, SyntaxError) as error:
        raise ValueError(f"{str(path)!r} cannot be read as an image ({error}). Repair or remove the file.") from error
    if picture.mode.startswith("I"):
        if deep and color_mode == "grayscale":
            return picture
        picture = library.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
    mode = MODES[color_mode]
    return picture if picture.mode == mode else picture.convert(mode)


def check_color_mode(color_mode: str) -> None:
    """Raises unless it is a known one."""
    if color_mode not in MODES:
        hint = did_you_mean(color_mode, MODES)
        raise ValueError(f"`color_mode` must be 'grayscale', 'rgb' or 'rgba'.{hint} Received: color_mode={color_mode!r}")


def load_img(
    path: Any,
    color_mode: str = "rgb",
    target_size: tuple[int, int] | None = None,
    interpolation: str = "nearest",
    keep_aspect_ratio: bool = False,
) -> Image:
    """Returns the picture in a file, as Pillow holds it.

    Args:
        path: a path, or an `io.BytesIO`.
        color_mode: "grayscale", "rgb" or "rgba".
        target_size: (height, width), or None for the picture's own size.
        interpolation: how it is resized: "nearest", "bilinear", "bicubic", "hamming", "box" or "lanczos".
        keep_aspect_ratio: whether it is cut, around the middle, to the proportions of `target_size` instead of being distorted.

    >>> file = io.BytesIO()
    >>> save_img(file, np.zeros((4, 6, 3)), file_format="png")
    >>> load_img(file, target_size=(2, 2)).size
    (2, 2)
    """
    check_color_mode(color_mode)
    if not isinstance(path, (io.BytesIO, str, os.PathLike)):
        raise TypeError(f"load_img: `path` must be a path or an io.BytesIO. Received: {describe(path)}")
    if interpolation not in INTERPOLATIONS:
        hint = did_you_mean(interpolation, INTERPOLATIONS)
        known = ", ".join(INTERPOLATIONS)
        raise ValueError(f"load_img: `interpolation` must be one of {known}.{hint} Received: interpolation={interpolation!r}")
    picture = open_image(path, color_mode, deep=True)
    if target_size is None:
        return picture
    height, width = pair(target_size, "target_size")
    if picture.size == (width, height):
        return picture
    box = None
    if keep_aspect_ratio:
        columns, rows = picture.size
        cut_rows, cut_columns = min(rows, int(columns * height / width)), min(columns, int(rows * width / height))
        top, left = (rows - cut_rows) // 2, (columns - cut_columns) // 2
        box = (left, top, left + cut_columns, top + cut_rows)
    return picture.resize((width, height), getattr(pillow().Resampling, interpolation.upper()), box)


def img_to_array(img: Any, data_format: str | None = None, dtype: Any = None) -> np.ndarray:
    """Returns a picture as an array of shape (height, width, channels), or (channels, height, width) for "channels_first".

    Args:
        img: a Pillow picture, or an array (height, width) or (height, width, channels).
        data_format: "channels_last" or "channels_first".
        dtype: of the array, the default float type unless given.

    >>> img_to_array(np.ones((4, 6))).shape
    (4, 6, 1)
    """
    data_format = standardize_data_format(data_format)
    x = np.array(img, dtype=floatx() if dtype is None else dtype)
    if x.ndim == 2:
        return x[None] if data_format == "channels_first" else x[..., None]
    if x.ndim != 3:
        raise ValueError(f"img_to_array takes a picture, or an array of 2 or 3 axes. Received: {describe(x)}")
    return x.transpose(2, 0, 1) if data_format == "channels_first" else x


def array_to_img(x: Any, data_format: str | None = None, scale: bool = True, dtype: Any = None) -> Image:
    """Returns an array or tensor as a Pillow picture.

    Args:
        x: shape (height, width, channels), with 1, 3 or 4 channels.
        data_format: "channels_last" or "channels_first".
        scale: whether its values are stretched to 0..255.
        dtype: in which it is computed, the default float type unless given.

    >>> array_to_img(torch.rand(4, 6, 3)).size
    (6, 4)
    """
    data_format = standardize_data_format(data_format)
    x = np.asarray(x.detach().cpu() if isinstance(x, torch.Tensor) else x, dtype=floatx() if dtype is None else dtype)
    if x.ndim != 3:
        raise ValueError(f"array_to_img takes one picture, an array of 3 axes. Received: {describe(x)}")
    if data_format == "channels_first":
        x = x.transpose(1, 2, 0)
    if scale:
        x = x - x.min()
        most = x.max()
        x = x / most * 255 if most else x
    channels = x.shape[2]
    if channels == 1:
        wide = x.max() > 255
        return pillow().fromarray(x[:, :, 0].astype("int32" if wide else "uint8"))
    if channels not in (3, 4):
        raise ValueError(f"array_to_img: a picture has 1, 3 or 4 channels. Received {channels}, data_format={data_format!r}.")
    return pillow().fromarray(x.astype("uint8"))


def save_img(
    path: Any, x: Any, data_format: str | None = None, file_format: str | None = None, scale: bool = True, **kwargs: Any
) -> None:
    """Writes an array or tensor to an image file.

    Args:
        path: a path, or a binary file.
        x: shape (height, width, channels), with 1, 3 or 4 channels.
        data_format: "channels_last" or "channels_first".
        file_format: "png", "jpg", …; by the path's extension unless given.
        scale: whether its values are stretched to 0..255.
        kwargs: further arguments of Pillow's `save`.

    >>> save_img(io.BytesIO(), np.zeros((4, 6, 1)), file_format="png")
    """
    picture = array_to_img(x, data_format, scale)
    extension = os.path.splitext(path)[1][1:] if isinstance(path, (str, os.PathLike)) else ""
    kind = "jpeg" if (file_format or extension).lower() in ("jpg", "jpeg") else file_format
    if picture.mode == "RGBA" and kind == "jpeg":
        warnings.warn("save_img: JPEG files hold no transparency; the picture is written as RGB.", stacklevel=2)
        picture = picture.convert("RGB")
    picture.save(path, format=kind, **kwargs)


def smart_resize(
    x: Any, size: tuple[int, int], interpolation: str = "bilinear", data_format: str = "channels_last", **kwargs: Any
) -> Any:
    """Returns images in another size, without distortion: cut around the middle to its proportions, then resized.

    Args:
        x: an image or a batch of images, array or tensor.
        size: (height, width).
        interpolation: "bilinear", "nearest" or "bicubic".
        data_format: "channels_last" or "channels_first".

    Returns:
        an array of the same dtype for an array, a tensor for a tensor.

    >>> smart_resize(np.ones((4, 9, 3)), (2, 2)).shape
    (2, 2, 3)
    """
    kwargs.pop("backend_module", None)
    if kwargs:
        raise TypeError(f"smart_resize got arguments that it does not know: {', '.join(kwargs)}.")
    if np.ndim(x) not in (3, 4):
        raise ValueError(f"smart_resize takes an image of 3 axes or a batch of 4. Received: {describe(x)}")
    given = x if isinstance(x, torch.Tensor) else torch.as_tensor(np.asarray(x))
    y = image_ops.resize(
        given, pair(size, "size"), interpolation, crop_to_aspect_ratio=True, data_format=standardize_data_format(data_format)
    )
    return y if isinstance(x, torch.Tensor) else y.numpy()


def pair(size: Any, name: str) -> tuple[int, int]:
    """Returns a checked (height, width)."""
    if not isinstance(size, (tuple, list)) or len(size) != 2 or not all(isinstance(n, (int, np.integer)) and n > 0 for n in size):
        raise ValueError(f"`{name}` must be two positive integers, (height, width). Received: {name}={size!r}")
    return int(size[0]), int(size[1])
