"""`image_dataset_from_directory`."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from hornbeam.core.errors import did_you_mean
from hornbeam.core.settings import standardize_data_format
from hornbeam.utils.dataset import stack
from hornbeam.utils.dataset_files import Request, check_format, datasets
from hornbeam.utils.dataset_resize import METHODS, resize, resize_with_crop, resize_with_pad
from hornbeam.utils.images import check_color_mode, open_image, pair, pillow

FORMATS = (".bmp", ".gif", ".jpeg", ".jpg", ".png")


def image_dataset_from_directory(
    directory: Any,
    labels: Any = "inferred",
    label_mode: str | None = "int",
    class_names: list[str] | None = None,
    color_mode: str = "rgb",
    batch_size: int | None = 32,
    image_size: Any = (256, 256),
    shuffle: bool = True,
    seed: int | None = None,
    validation_split: float | None = None,
    subset: str | None = None,
    interpolation: str = "bilinear",
    follow_links: bool = False,
    crop_to_aspect_ratio: bool = False,
    pad_to_aspect_ratio: bool = False,
    data_format: str | None = None,
    format: str = "tf",
    verbose: bool = True,
) -> Any:
    """Returns a `Dataset` of batches of images and labels, from a directory with a subdirectory for each class.

    Files are read, decoded and resized ahead, by threads. Needs Pillow.

    Args:
        directory: where the files are; those that end in .bmp, .gif, .jpeg, .jpg or .png are read.
        labels: "inferred" from the subdirectories' names, a list of integers in the order of the sorted paths, or None.
        label_mode: "int" gives labels of shape (batch,) int32, "categorical" (batch, classes) float32 one-hot,
            "binary" (batch, 1) float32, None no labels.
        class_names: the subdirectories to use, in the order of their labels; all, sorted, unless given.
        color_mode: "grayscale", "rgb" or "rgba": 1, 3 or 4 channels.
        batch_size: images of a batch; None gives single images.
        image_size: (height, width) to which all are resized.
        shuffle: whether each pass has its own order; otherwise that of the sorted paths.
        seed: integer for the same split and orders at every run.
        validation_split: share of the files, from 0 to 1, that is kept for validation.
        subset: "training" or "validation", or "both" for a pair of datasets.
        interpolation: "bilinear", "nearest", "bicubic", "area", "lanczos3", "lanczos5", "gaussian" or "mitchellcubic".
        follow_links: whether links to directories are followed.
        crop_to_aspect_ratio: whether images are cut, around the middle, to the proportions of `image_size`, not distorted.
        pad_to_aspect_ratio: whether they are fitted into it undistorted, with zeros around them.
        data_format: "channels_last" or "channels_first".
        format: "tf" or "grain"; both give the same.
        verbose: whether the numbers of files and classes are printed.

    Returns:
        dataset of (images, labels), or of images alone; images are (batch, height, width, channels), float32 from 0 to 255.
        Its `class_names` and `file_paths` say what it holds.

    >>> import os, tempfile
    >>> from hornbeam.utils.images import save_img
    >>> folder = tempfile.mkdtemp()
    >>> for kind in ("cats", "dogs"):
    ...     os.mkdir(f"{folder}/{kind}")
    ...     save_img(f"{folder}/{kind}/1.png", torch.rand(9, 9, 3))
    >>> dataset = image_dataset_from_directory(folder, image_size=(4, 6))
    Found 2 files belonging to 2 classes.
    >>> for images, labels in dataset:
    ...     print(images.shape, labels.dtype, dataset.class_names)
    torch.Size([2, 4, 6, 3]) torch.int32 ['cats', 'dogs']
    """
    check_format(format)
    check_color_mode(color_mode)
    size = pair((image_size, image_size) if isinstance(image_size, int) else image_size, "image_size")
    if interpolation not in METHODS:
        known, hint = ", ".join(METHODS), did_you_mean(interpolation, METHODS)
        raise ValueError(f"`interpolation` must be one of {known}.{hint} Received: interpolation={interpolation!r}")
    if crop_to_aspect_ratio and pad_to_aspect_ratio:
        raise ValueError("`crop_to_aspect_ratio` and `pad_to_aspect_ratio` exclude each other. Received both.")
    first = standardize_data_format(data_format) == "channels_first"
    fit = resize_with_crop if crop_to_aspect_ratio else resize_with_pad if pad_to_aspect_ratio else resize
    pillow()

    def load(path: str) -> torch.Tensor:
        image = np.asarray(open_image(path, color_mode))
        image = fit(image if image.ndim == 3 else image[..., None], size, interpolation)
        return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)) if first else image)

    request = Request(
        "image_dataset_from_directory", "images", FORMATS, directory, labels, label_mode, class_names,
        batch_size, shuffle, seed, validation_split, subset, follow_links, verbose,
    )  # fmt: skip
    return datasets(request, load, stack)
