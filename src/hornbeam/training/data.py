"""What `fit` is fed with: whatever the user gave becomes a source of batches, and a run takes its epochs from it."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset

from hornbeam.core.errors import describe
from hornbeam.graph import tree
from hornbeam.training.arrays import as_nest, check_lengths
from hornbeam.training.frames import is_hub, is_table, without
from hornbeam.training.items import Items, Rows, hub_source
from hornbeam.training.packing import pack_x_y_sample_weight as pack_x_y_sample_weight
from hornbeam.training.packing import unpack_x_y_sample_weight as unpack_x_y_sample_weight
from hornbeam.training.sources import Again as Again
from hornbeam.training.sources import Arrays as Arrays
from hornbeam.training.sources import Passes, Source
from hornbeam.training.sources import Stream as Stream
from hornbeam.training.streams import UserStreams as UserStreams


def make_source(
    x: Any,
    y: Any = None,
    sample_weight: Any = None,
    batch_size: int | None = None,
    class_weight: Any = None,
    shuffle: Any = False,
) -> Source:
    """Returns Arrays for what lies in memory, Rows or Items for what is asked by number, a Stream for all else."""
    if x is None:
        raise ValueError("`x` is missing: give arrays, tensors, a DataLoader, or an iterable of batches.")
    if isinstance(x, type):
        raise TypeError(f"`x` is the class {x.__name__}. Make an instance of it: {x.__name__}(...).")
    x, y = named_target(x, y)
    if is_in_memory(x):
        return Arrays(x, y, sample_weight, batch_size, class_weight)
    if is_hub(x) and (y is None or isinstance(y, str)) and sample_weight is None:
        return hub_source(x, y, batch_size or 32, class_weight)
    for name, value in (("y", y), ("sample_weight", sample_weight)):
        if value is not None:
            raise ValueError(f"`{name}` must not be given where x is {describe(x)}: its batches hold the targets, as (x, y).")
    tensors = tensors_of(x)
    if tensors is not None and 1 <= len(tensors) <= 3:
        parts = [*tensors, None, None]
        return Arrays(parts[0], parts[1], parts[2], batch_size, class_weight)
    if isinstance(x, IterableDataset):
        return Stream(DataLoader(x, batch_size or 32), class_weight)
    if isinstance(x, Dataset):
        return Rows(x, batch_size or 32, class_weight)
    if hasattr(x, "__getitem__") and (hasattr(type(x), "num_batches") or not hasattr(x, "__iter__")):
        return Items(x, class_weight)
    if not hasattr(x, "__iter__"):
        raise TypeError(f"`x` must be arrays, tensors, or something that gives batches. Received: {describe(x)}")
    return Stream(x, class_weight)


def is_in_memory(x: Any) -> bool:
    """Returns whether a nest holds arrays, tensors or numbers, as opposed to something that gives batches."""
    if isinstance(x, (str, bytes)):
        return True
    if isinstance(x, (Dataset, DataLoader, Iterator)) or is_hub(x):
        return False
    if isinstance(x, (tuple, list, dict)):
        return True
    return is_table(x) or (hasattr(x, "__array__") and hasattr(x, "shape"))


def named_target(x: Any, y: Any) -> tuple[Any, Any]:
    """Returns a table and its column of targets where `y` is that column's name, else what was given."""
    return without(x, y) if isinstance(y, str) and is_table(x) else (x, y)


def tensors_of(x: Any) -> tuple[torch.Tensor, ...] | None:
    """Returns the tensors of a TensorDataset, of a Subset of one its rows; None for all else."""
    if type(x) is TensorDataset:
        return x.tensors
    if type(x) is Subset:
        whole = tensors_of(x.dataset)
        if whole is not None:
            return tuple(t[torch.as_tensor(x.indices, dtype=torch.int64, device=t.device)] for t in whole)
    return None


def split(x: Any, y: Any, sample_weight: Any, share: float) -> tuple[Any, Any]:
    """Returns the data without its last part, and that part, each as (x, y, sample_weight)."""
    x, y = named_target(x, y)
    nest = (as_nest(x, "x"), as_nest(y, "y"), as_nest(sample_weight, "sample_weight"))
    rows = check_lengths(dict(zip(("x", "y", "sample_weight"), nest, strict=True)))
    kept = int(rows * (1.0 - share))
    if kept in (0, rows):
        raise ValueError(
            f"validation_split={share} of {rows} samples leaves {kept} for training and {rows - kept} for validation. "
            f"Use another split."
        )

    def part(cut: slice) -> Any:
        return tree.map_leaves(lambda t: None if t is None else t[cut], nest)

    return part(slice(None, kept)), part(slice(kept, None))


def epochs(
    source: Source, orders: Passes | None, steps: int | None, pause: Callable[[], Any], done: int = 0
) -> Iterator[Iterator[Any]]:
    """Yields, epoch by epoch, the batches: a pass over the data, or at most `steps`, going on where the last epoch ended.

    Args:
        orders: numbers the passes of a training; None where data is read to evaluate or predict: too little of it is told.
        done: batches of the first epoch that were given before the source's position was taken.
    """
    made = _epochs(source, orders, steps, pause, done)
    return made if orders is not None else (_told(source, batches, steps) for batches in made)


def _told(source: Source, batches: Iterator[Any], steps: int | None) -> Iterator[Any]:
    count = 0
    for batch in batches:
        count += 1
        yield batch
    if not count:
        raise ValueError(f"There is no data: {describe(getattr(source, 'source', source))} gave no batch.")
    if steps is not None and count < steps and not source.short:
        source.short = True
        warnings.warn(f"The data ended after {count} batches, where {steps} were asked for.", stacklevel=3)


def _epochs(
    source: Source, orders: Passes | None, steps: int | None, pause: Callable[[], Any], done: int
) -> Iterator[Iterator[Any]]:
    passes = source.passes(orders, pause)
    if steps is None:
        if done and source.position()["batch"] == 0:  # the first epoch had been given all of its pass
            yield iter(())
        for batches in passes:
            yield source.around(batches, pause)
        return
    current = next(passes)
    while True:
        at = source.position()
        ended = at["number"] is None or (source.steps is not None and at["batch"] >= source.steps)
        if ended and not done and not source.once:
            current = next(passes)
        yield source.around(itertools.islice(current, steps - done), pause)
        done = 0


def orders(stream: Any, source: Source, shuffle: Any) -> Passes:
    """Returns what numbers the passes over a source, and gives each its order of rows."""
    chunk = source.batch_size if shuffle == "batch" and isinstance(source, Arrays) else None
    return Passes(stream, bool(shuffle), chunk)
