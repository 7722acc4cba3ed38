"""`timeseries_dataset_from_array`."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from typing import Any

import torch

from hornbeam.core.errors import describe
from hornbeam.core.random import make_default_seed
from hornbeam.training.arrays import as_tensor
from hornbeam.utils.dataset import Dataset, Pass, permutation
from hornbeam.utils.dataset_files import check_format


def timeseries_dataset_from_array(
    data: Any,
    targets: Any,
    sequence_length: int,
    sequence_stride: int = 1,
    sampling_rate: int = 1,
    batch_size: int | None = 128,
    shuffle: bool = False,
    seed: int | None = None,
    start_index: int | None = None,
    end_index: int | None = None,
    format: str = "tf",
) -> Dataset:
    """Returns a `Dataset` of windows that slide over a series.

    The window of number i holds the time steps `start_index + i * sequence_stride + [0, sampling_rate, 2 * sampling_rate, …]`.

    Args:
        data: array or tensor whose first axis is time. Arrays of 64-bit floats become the default float type, as in `fit`.
        targets: array whose row at a window's first time step is that window's target, or None for windows alone.
            To predict what follows a window, give `data[sequence_length * sampling_rate:]`.
        sequence_length: time steps of a window.
        sequence_stride: time steps from one window to the next.
        sampling_rate: time steps from one entry of a window to the next.
        batch_size: windows of a batch; None gives single windows.
        shuffle: whether each pass has its own order.
        seed: integer for the same orders at every run.
        start_index: the first time step used.
        end_index: the time step before which the used part ends.
        format: "tf" or "grain"; both give the same.

    Returns:
        dataset of (windows, targets), or of windows alone; windows are (batch, sequence_length, …).

    >>> for windows, following in timeseries_dataset_from_array(range(6), range(10, 16), 3, batch_size=2):
    ...     print(windows.tolist(), following.tolist())
    [[0, 1, 2], [1, 2, 3]] [10, 11]
    [[2, 3, 4], [3, 4, 5]] [12, 13]
    """
    check_format(format)
    series = as_tensor(list(data) if isinstance(data, range) else data, "data")
    goals = None if targets is None else as_tensor(list(targets) if isinstance(targets, range) else targets, "targets")
    whole = {"sequence_length": sequence_length, "sequence_stride": sequence_stride, "sampling_rate": sampling_rate}
    for name, value in {**whole, "batch_size": 1 if batch_size is None else batch_size}.items():
        if not hasattr(value, "__index__") or operator.index(value) < 1:
            raise ValueError(f"`{name}` must be a positive integer. Received: {name}={value!r}")
    first, last = _bounds(len(series), start_index, end_index)
    reach = (sequence_length - 1) * sampling_rate
    count = last - first - reach
    if goals is not None:
        count = min(count, len(goals) - first)
    if count < 1:
        raise ValueError(
            f"No window fits: it spans {reach + 1} time steps, and there are {last - first} from {first} to {last}"
            + ("." if goals is None else f", with {len(goals)} targets.")
            + " Use a smaller `sequence_length` or `sampling_rate`, or more data."
        )
    starts = torch.arange(first, first + count, sequence_stride)
    offsets = torch.arange(0, reach + 1, sampling_rate)
    if seed is not None and (not hasattr(seed, "__index__") or operator.index(seed) < 0):
        raise ValueError(f"`seed` must be an integer not below 0, or None. Received: seed={seed!r}")
    seed = make_default_seed() if seed is None and shuffle else seed or 0

    def windows(at: torch.Tensor) -> Any:
        """Returns the windows that start at the given time steps, whatever the shape of `at`."""
        found = series[(at.unsqueeze(-1) + offsets).to(series.device)]
        return found if goals is None else (found, goals[at.to(goals.device)])

    def read(number: Pass, start: int) -> Iterator[Any]:
        order = starts[torch.from_numpy(permutation(len(starts), seed, number))] if shuffle else starts
        return map(windows, (order.unbind() if batch_size is None else order.split(batch_size))[start:])

    return Dataset(read, len(starts) if batch_size is None else -(-len(starts) // batch_size))


def _bounds(length: int, start: Any, end: Any) -> tuple[int, int]:
    """Returns the first time step used and the one before which they end."""
    for name, value in (("start_index", start), ("end_index", end)):
        if value is not None and not hasattr(value, "__index__"):
            raise TypeError(f"`{name}` must be an integer. Received: {name}={describe(value)}")
    first, last = 0 if start is None else operator.index(start), length if end is None else operator.index(end)
    if not 0 <= first < length:
        raise ValueError(f"`start_index` must lie from 0 to {length - 1}, within the data. Received: start_index={start}")
    if not first < last <= length:
        raise ValueError(f"`end_index` must lie from {first + 1} to {length}, after `start_index`. Received: end_index={end}")
    return first, last
