"""Sources whose batches are asked for by number: PyDataset, any object with `__getitem__`, the rows of a torch Dataset."""

from __future__ import annotations

import itertools
import random
import warnings
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import default_collate

from hornbeam.core.errors import describe
from hornbeam.training.frames import check_column
from hornbeam.training.packing import Form, as_batch, weighted
from hornbeam.training.pydataset import PyDataset, load_state, state_of
from hornbeam.training.sources import Passes, Source, Stream, length_of
from hornbeam.training.streams import UserStreams, seed_of, seed_streams
from hornbeam.training.workers import Processes, Threads, in_order

_HOOKS = ("on_epoch_begin", "on_epoch_end")


class Items(Source):
    """What gives batch i by `source[i]`: a PyDataset, or any object with `__getitem__` and a length.

    An item is made with the global random streams seeded by (torch's seed, pass, item), so that it does not matter who makes it.
    """

    def __init__(self, source: Any, class_weight: Any = None) -> None:
        super().__init__()
        self.source, self.class_weight = source, class_weight
        self.steps = self._count()
        self._form, self._head = Form(), None
        self._pool: Any = None
        self._draws = self._open = self._resumed = self._stale = False
        self._hooked = not all(getattr(type(source), name, None) is getattr(PyDataset, name) for name in _HOOKS)

    def want_rows(self) -> None:
        self._form.wants_rows = True

    def position(self) -> dict[str, Any]:
        """Also holds what the dataset's hooks change in it, and whether it was told that the epoch begins."""
        found = super().position()
        if self._wanted is None:
            found["open"] = self._open
            if state := state_of(self.source):
                found["dataset"] = state
        return found

    def seek(self, position: dict[str, Any]) -> None:
        super().seek(position)
        self._resumed = position.get("open", False)
        load_state(self.source, position.get("dataset"))

    def head(self, rows: int | None = None) -> Any:
        """Returns the first item in the order of numbers, made for looking only."""
        if self._head is None:
            if self.steps == 0:
                raise ValueError(f"There is no data: {describe(self.source)} has no batch.")
            with UserStreams():
                seed, item = next(self._tasks(None, 0, 0, torch.initial_seed()))
                seed_streams(seed)
                before = UserStreams()
                self._head = self._finished(self._raw(item), 0)
                if not before.unchanged():
                    self._note_draws()
        return self._head

    def explained(self, error: Exception) -> Exception:
        return self._form.explained(error)

    def close(self) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.close()

    def around(self, batches: Iterator[Any], pause: Any) -> Iterator[Any]:
        if not self._resumed:
            with pause():
                getattr(self.source, "on_epoch_begin", _nothing)()
        self._open, self._resumed = True, False
        yield from batches
        with pause():
            getattr(self.source, "on_epoch_end", _nothing)()
        self._open, self._stale = False, self._hooked

    def _count(self) -> int | None:
        return length_of(self.source)

    def _tasks(self, orders: Passes | None, number: int, skip: int, seed: int) -> Iterator[tuple[int, Any]]:
        """Yields the seed and the number of each item of a pass."""
        order = None if self.steps is None or orders is None else orders.order(self.steps, number)
        items = order.tolist() if order is not None else itertools.count() if self.steps is None else range(self.steps)
        return ((seed_of(seed, number, item), item) for item in itertools.islice(items, skip, None))

    def _batches(self, orders: Passes, number: int, skip: int, pause: Any, at: dict[str, Any]) -> Iterator[Any]:
        with pause():
            self.steps, seed = self._count(), torch.initial_seed()
            made = self._results(self._tasks(orders, number, skip, seed))
        count, whole, self._stale = skip, False, False
        try:
            while True:
                if self._stale:  # an epoch ended within the pass, and what was made ahead is of the dataset before its hooks
                    self.close()
                    made, self._stale = self._results(self._tasks(orders, number, count, seed)), False
                with pause():
                    try:
                        batch = self._finished(next(made), count)
                    except StopIteration:
                        break
                    except Exception as error:
                        error.add_note(f"While batch {count} of pass {self._pass + 1} over the data was made.")
                        raise
                count += 1
                yield batch
            whole = not self._hooked
        finally:
            if not whole:  # what is under way is not wanted, or hooks may change a dataset of which workers have copies
                self.close()

    def _results(self, tasks: Iterator[tuple[int, Any]]) -> Iterator[Any]:
        source = self.source
        if self._wants_workers():
            self.head()
        if not self._wants_workers():
            yield from itertools.starmap(self._made, tasks)
            return
        before = UserStreams()

        def alone(seed: int, item: int) -> Any:
            if not self._draws:
                np.random.set_state(before.numpy)
                random.setstate(before.python)
                self._note_draws()
                self._pool = None
            return self._made(seed, item)

        if self._pool is None:
            kind = Processes if source.use_multiprocessing else Threads
            self._pool = kind(source, source.workers, getattr(source, "timeout", None))
            self._end = weakref.finalize(self, self._pool.close)
        yield from in_order(self._pool, tasks, max(source.max_queue_size, source.workers), alone)

    def _wants_workers(self) -> bool:
        """Threads share the global random streams: items that draw from them are not for threads."""
        workers = getattr(self.source, "workers", 0)
        if getattr(self.source, "use_multiprocessing", False):
            return workers > 0
        return workers > 1 and not self._draws

    def _note_draws(self) -> None:
        if self._wants_workers() and not self.source.use_multiprocessing:
            warnings.warn(
                f"The items of {type(self.source).__name__} draw random numbers from global streams, which threads share: they "
                f"are made one after another, so that a seed gives the same numbers. Set use_multiprocessing=True to make them "
                f"at once.",
                stacklevel=2,
            )
        self._draws = True

    def _made(self, seed: int, item: Any) -> Any:
        with UserStreams():
            seed_streams(seed)
            return self._raw(item)

    def _raw(self, item: Any) -> Any:
        return self.source[item]

    def _finished(self, batch: Any, count: int) -> Any:
        return weighted(self._form.check(as_batch(batch), count), self.class_weight)


class Rows(Items):
    """The rows of a map-style Dataset, put together to batches.

    Args:
        source: gives row i by `source[i]`; a table gives a dict of columns for a list of rows.
        batch_size: rows of a batch.
        table: whether it is such a table.
        target: the column of targets, or None.
    """

    def __init__(
        self, source: Any, batch_size: int, class_weight: Any = None, table: bool = False, target: str | None = None
    ) -> None:
        self.batch_size, self.table, self.target = batch_size, table, target
        if table:
            names = list(source.column_names)
            self.way_to_targets = f"name their column, for example y={names[-1]!r}. Columns: {', '.join(map(repr, names))}"
        super().__init__(source, class_weight)

    def _count(self) -> int:
        return -(-len(self.source) // self.batch_size)

    def _tasks(self, orders: Passes | None, number: int, skip: int, seed: int) -> Iterator[tuple[int, Any]]:
        rows, size = len(self.source), self.batch_size
        order = None if orders is None else orders.order(rows, number)
        starts = range(skip * size, rows, size)
        parts = (list(range(i, min(i + size, rows))) if order is None else order[i : i + size].tolist() for i in starts)
        return ((seed_of(seed, number, i), part) for i, part in zip(starts, parts, strict=True))

    def _raw(self, item: Any) -> Any:
        if self.table:
            return with_target(self.source[item], self.target)
        several = getattr(self.source, "__getitems__", None)
        return default_collate(several(item) if several is not None else [self.source[i] for i in item])


class HubBatches:
    """A Hugging Face IterableDataset in batches; its state is the dataset's."""

    def __init__(self, dataset: Any, batch_size: int, target: str | None) -> None:
        self.dataset, self.batch_size, self.target = dataset, batch_size, target
        if hasattr(dataset, "load_state_dict"):
            self.state_dict, self.load_state_dict = dataset.state_dict, dataset.load_state_dict

    def __iter__(self) -> Iterator[Any]:
        return (with_target(batch, self.target) for batch in self.dataset.iter(self.batch_size))


def hub_source(dataset: Any, target: str | None, batch_size: int, class_weight: Any) -> Source:
    """Returns the source for a dataset of Hugging Face's `datasets`: its columns by name, read batch by batch."""
    if isinstance(dataset, dict):
        raise ValueError(f"`x` holds several datasets: pass one, for example x[{next(iter(dataset), 'train')!r}].")
    names = dataset.column_names
    if target is not None and names is not None:
        check_column(target, names)
    if not hasattr(dataset, "format"):
        return Stream(HubBatches(dataset.with_format("numpy"), batch_size, target), class_weight)
    if dataset.format["type"] is None:
        dataset = dataset.with_format("numpy", columns=dataset.format["columns"])
    return Rows(dataset, batch_size, class_weight, table=True, target=target)


def with_target(columns: dict[str, Any], target: str | None) -> Any:
    """Returns a batch of columns, or (x, y) where one of them is the target; x alone is no dictionary."""
    if target is None:
        return columns
    x = {name: column for name, column in columns.items() if name != target}
    return (next(iter(x.values())) if len(x) == 1 else x, columns[target])


def _nothing() -> None:
    """What is called where a source has no such hook."""
