"""`split_dataset`."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from hornbeam.core.errors import describe
from hornbeam.core.random import make_default_seed
from hornbeam.utils.dataset import Dataset, rows_of


def split_dataset(
    dataset: Any,
    left_size: float | None = None,
    right_size: float | None = None,
    shuffle: bool = False,
    seed: int | None = None,
    preferred_backend: str | None = None,
) -> tuple[Dataset, Dataset]:
    """Returns two parts of a dataset, each as a `Dataset`.

    Args:
        dataset: a `Dataset`, a `torch.utils.data.Dataset` or any other sized object with `__getitem__`, an array or tensor,
            or a tuple, list or dict of them with equally many rows. Arrays are split by rows, everything else by elements.
        left_size: how many go to the left part, or a share from 0 to 1; the rest unless given.
        right_size: the same for the right part.
        shuffle: whether they are dealt out in random order; the parts keep that order at every pass.
        seed: integer for the same order at every run.
        preferred_backend: accepted and ignored; the parts are always Hornbeam's.

    >>> left, right = split_dataset(np.arange(10), left_size=0.7)
    >>> [int(v) for v in right], len(left)
    ([7, 8, 9], 7)
    """
    if isinstance(dataset, Dataset) and not shuffle and dataset._length is not None:
        rows, source = len(dataset), dataset
        whole = Dataset(lambda number, start: source._read((0,), start), rows, source.class_names)  # one pass for both parts
        left, right = _sizes(rows, left_size, right_size)
        return whole.take(left), whole.skip(rows - right)
    rows, element = _by_number(dataset)
    left, right = _sizes(rows, left_size, right_size)
    order = list(range(rows))
    if shuffle:
        random.Random(make_default_seed() if seed is None else seed).shuffle(order)
    names = getattr(dataset, "class_names", None)
    return _picked(element, order[:left], names), _picked(element, order[rows - right :], names)


def _picked(element: Callable[[int], Any], numbers: list[int], class_names: list[str] | None) -> Dataset:
    return Dataset(lambda number, start: map(element, numbers[start:]), len(numbers), class_names)


def _by_number(dataset: Any) -> tuple[int, Callable[[int], Any]]:
    """Returns how many elements there are, and the function that returns one by its number."""
    if isinstance(dataset, (list, tuple)) and len(dataset) and not isinstance(dataset[0], (int, float, str, bytes)):
        dataset = tuple(dataset)
    if isinstance(dataset, (tuple, list, dict, np.ndarray, torch.Tensor)):
        return rows_of(dataset)
    if isinstance(dataset, Dataset) and dataset._length is not None:
        len(dataset)
    elif hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__") and not isinstance(dataset, (str, bytes)):
        return len(dataset), dataset.__getitem__
    if isinstance(dataset, (Iterator, str, bytes)) or not hasattr(dataset, "__iter__"):
        raise TypeError(
            "split_dataset takes a Dataset, a torch Dataset, arrays, or anything that can be read more than once. "
            f"Received: {describe(dataset)}"
        )
    kept = list(dataset)
    return len(kept), kept.__getitem__


def _sizes(rows: int, left: Any, right: Any) -> tuple[int, int]:
    """Returns how many elements go left and right."""
    if left is None and right is None:
        raise ValueError("split_dataset: give `left_size` or `right_size`. Received neither.")
    sizes = [_size(rows, left, "left_size"), _size(rows, right, "right_size")]
    sizes = [rows - sizes[1 - i] if size is None else size for i, size in enumerate(sizes)]  # type: ignore[operator]
    if sum(sizes) > rows:  # type: ignore[arg-type]
        raise ValueError(
            f"split_dataset: left_size={left} and right_size={right} ask for {sizes[0]} and {sizes[1]} of {rows} elements."
        )
    if 0 in sizes:
        side = "left" if sizes[0] == 0 else "right"
        raise ValueError(
            f"split_dataset: left_size={left} and right_size={right} leave the {side} part of {rows} elements empty."
        )
    return sizes[0], sizes[1]  # type: ignore[return-value]


def _size(rows: int, size: Any, name: str) -> int | None:
    """Returns a size as a number of elements; shares are rounded."""
    if size is None:
        return None
    if isinstance(size, bool) or not isinstance(size, (int, float, np.integer, np.floating)):
        raise TypeError(f"split_dataset: `{name}` must be an integer, a float or None. Received: {name}={describe(size)}")
    whole = isinstance(size, (int, np.integer))
    if not 0 < size < (rows if whole else 1):
        wanted = f"an integer from 1 to {rows - 1}, or a share between 0 and 1"
        raise ValueError(f"split_dataset: `{name}` must be {wanted}. Received: {name}={size}")
    return int(size) if whole else round(float(size) * rows)
