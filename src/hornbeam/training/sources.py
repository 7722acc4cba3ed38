"""Where batches come from: arrays in memory and streams. Each knows its position and goes on from one that is put back."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from hornbeam.core.errors import describe
from hornbeam.graph import tree
from hornbeam.training.arrays import as_nest, check_lengths
from hornbeam.training.packing import Form, as_batch, class_weights, moved, pack_x_y_sample_weight, weighted
from hornbeam.training.streams import UserStreams


class Passes:
    """Numbers the passes over data, and gives each its order of rows.

    Args:
        stream: the LoopStream that counts a model's passes; without one, each source counts its own from 0.
        shuffle: whether rows come in a random order.
        chunk: rows that stay together, or None.
    """

    def __init__(self, stream: Any = None, shuffle: bool = False, chunk: int | None = None) -> None:
        self.stream, self.shuffle, self.chunk, self.count = stream, shuffle, chunk, 0

    def next(self) -> int:
        """Returns the number of the pass that begins."""
        owner, name = (self, "count") if self.stream is None else (self.stream, "passes")
        number = getattr(owner, name)
        setattr(owner, name, number + 1)
        return number

    def order(self, rows: int, number: int) -> torch.Tensor | None:
        """Returns the order of rows of a pass, a function of the stream's seed and the pass's number."""
        if not self.shuffle:
            return None
        counted, self.stream.passes = self.stream.passes, number
        try:
            return self.stream.order(rows) if self.chunk is None else self.stream.order_of_chunks(self.chunk, rows)
        finally:
            self.stream.passes = counted


class Source:
    """What all sources share: passes over the data, the position in them, the device that batches go to.

    Attributes:
        steps: batches of a pass, or None where that is unknown or endless.
        rows: samples of a pass, or None.
        once: whether the data can be read only once.
        way_to_targets: what to do where targets are missing, for errors.
        short: whether it was said that there is less data than was asked for.
    """

    steps: int | None = None
    rows: int | None = None
    once = short = False
    device: torch.device | None = None
    way_to_targets = "pass `y`, or batches (x, y)"

    def __init__(self) -> None:
        self._pass, self._batch = 0, 0
        self._number: int | None = None
        self._wanted: dict[str, Any] | None = None

    def head(self, rows: int | None = None) -> Any:
        """Returns the first rows or the first batch, to be looked at; it does not count as read."""
        raise NotImplementedError

    def to(self, device: torch.device | None) -> None:
        """Lets batches be moved to a device as they come."""
        self.device = device

    def want_rows(self) -> None:
        """Makes a batch without rows an error."""

    def position(self) -> dict[str, Any]:
        """Returns what `seek` takes: passes finished, batches given of this one, the number that its order is made from."""
        if self._wanted is not None:
            return dict(self._wanted)
        return {"pass": self._pass, "batch": self._batch, "number": self._number}

    def seek(self, position: dict[str, Any]) -> None:
        """Lets the next `passes` go on after the batches that had been given when `position()` was asked."""
        self._wanted = dict(position)

    def close(self) -> None:
        """Ends the worker processes and threads; the source can be read again."""

    def passes(self, orders: Passes | None, pause: Callable[[], Any]) -> Iterator[Iterator[Any]]:
        """Yields, pass by pass, an iterator over the batches; `pause` is open while the user's own code runs."""
        orders = orders or Passes()
        at, self._wanted = self._wanted or {}, None
        self._pass, self._number, skip = at.get("pass", 0), at.get("number"), at.get("batch", 0)
        while True:
            number = self._number = orders.next() if self._number is None else self._number
            self._batch = skip
            batches = self._batches(orders, number, skip, pause, at)
            yield self._counted(moved(batches, self.device) if self.device is not None else batches)
            if self._number is number:
                self._end_pass()
            skip, at = 0, {}

    def _counted(self, batches: Iterator[Any]) -> Iterator[Any]:
        for batch in batches:
            self._batch += 1
            yield batch
        self._end_pass()

    def around(self, batches: Iterator[Any], pause: Any) -> Iterator[Any]:
        """Yields an epoch's batches; sources call what is to be called at its beginning and end."""
        return batches

    def explained(self, error: Exception) -> Exception:
        """Returns the error to raise for one that a step raised: names the batch where it has another form than the first one."""
        return error

    def __enter__(self) -> Source:
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        self.close()
        found = self.explained(error) if isinstance(error, Exception) else error
        if found is not error:
            raise found from error

    def _end_pass(self) -> None:
        self._pass, self._batch, self._number = self._pass + 1, 0, None

    def _batches(self, orders: Passes, number: int, skip: int, pause: Any, at: dict[str, Any]) -> Iterator[Any]:
        raise NotImplementedError


class Arrays(Source):
    """Arrays and tensors in memory: converted once, then sliced by rows.

    Args:
        x, y, sample_weight: nests of arrays of equal length.
        batch_size: rows of a batch.
        class_weight: weight of each class, by number.
    """

    def __init__(
        self, x: Any, y: Any = None, sample_weight: Any = None, batch_size: int | None = None, class_weight: Any = None
    ) -> None:
        super().__init__()
        borrowed: list[Any] = []
        x, y = as_nest(x, "x", borrowed), as_nest(y, "y", borrowed)
        sample_weight = as_nest(sample_weight, "sample_weight", borrowed)
        rows = check_lengths({"x": x, "y": y, "sample_weight": sample_weight})
        if class_weight is not None:
            sample_weight = class_weights(y, class_weight, sample_weight)
            if y.ndim == 1 and y.is_floating_point() and bool((y != y.round()).any()):
                text = "`class_weight` goes by class numbers, but `y` holds other numbers, which are rounded to the next."
                warnings.warn(f"{text} Pass `sample_weight` to weight the samples of a regression.", stacklevel=4)
        self.nest = pack_x_y_sample_weight(x, y, sample_weight)
        self.flat = tree.leaves(self.nest)
        self.batch_size = int(batch_size or 32)
        self.borrowed = bool(borrowed)
        self.rows, self.steps = rows, -(-rows // self.batch_size)

    rows: int
    steps: int

    def head(self, rows: int | None = None) -> Any:
        """Returns the first rows (one batch unless given), to be looked at."""
        return tree.pack(self.nest, [None if t is None else t[: rows or self.batch_size] for t in self.flat])

    def _batches(self, orders: Passes, number: int, skip: int, pause: Any, at: dict[str, Any]) -> Iterator[Any]:
        cut, nest = self._cut(orders.order(self.rows, number), skip * self.batch_size), self.nest
        if type(nest) is tuple and len(nest) == len(self.flat) and all(a is b for a, b in zip(nest, self.flat, strict=True)):
            return map(tuple, cut)
        return (tree.pack(nest, list(batch)) for batch in cut)

    def _cut(self, order: torch.Tensor | None, start: int) -> Iterator[Any]:
        size, flat = self.batch_size, self.flat
        if start >= self.rows:
            return iter(())
        if order is None:
            cut = zip(*[itertools.repeat(None) if t is None else t[start:].split(size) for t in flat], strict=False)
            return ([None if t is None else t.clone() for t in batch] for batch in cut) if self.borrowed else cut
        order = order[start:].to(next(t.device for t in flat if t is not None))
        if all(t is not None and t.device == order.device for t in flat):
            return self._blocks(order)
        return ([None if t is None else t.index_select(0, index.to(t.device)) for t in flat] for index in order.split(size))

    def _blocks(self, order: torch.Tensor) -> Iterator[Any]:
        """Yields batches, gathered several at once while they are small: each gathering costs a small step's twentieth."""
        size, flat = self.batch_size, self.flat
        bytes_of_batch = size * sum(t[:1].numel() * t.element_size() for t in flat)
        count = min(max(_BLOCK // max(bytes_of_batch, 1), 1), _BATCHES)
        for index in order.split(size * count):
            yield from zip(*[t.index_select(0, index).split(size) for t in flat], strict=True)


_BLOCK, _BATCHES = 256 << 10, 16  # bytes and batches that are gathered at once


class Stream(Source):
    """Anything that gives batches one after another: a DataLoader, a generator, any iterable.

    Its code runs with the user's random stream, never with the training loop's.
    """

    def __init__(self, source: Any, class_weight: Any = None) -> None:
        super().__init__()
        self.source, self.class_weight = source, class_weight
        self.once = isinstance(source, Iterator)
        self.steps = length_of(source)
        self._form = Form()
        self._started: Iterator[Any] | None = None
        self._streams: UserStreams | None = None
        self._head: Any = None
        self._ahead: list[Any] = []
        self._loader: Any = None
        self._generators: list[torch.Tensor] | None = None

    def want_rows(self) -> None:
        self._form.wants_rows = True

    def head(self, rows: int | None = None) -> Any:
        """Returns the first batch; it is read once, and kept for the first pass."""
        if self._head is None:
            self._begin({})
            try:
                self._head = self._converted(next(self._running()), 0)
            except StopIteration:
                raise ValueError(f"There is no data: {describe(self.source)} gave no batch.") from None
            self._ahead.append(self._head)
        return self._head

    def position(self) -> dict[str, Any]:
        """Also holds the user's random streams as they were when the pass began, and the state of a loader.

        That is what its own `state_dict` returns, or the states that its generators had when the pass began.
        """
        found = super().position()
        if self._wanted is None:
            found["streams"] = self._streams if self._number is not None or self._ahead else None
            found["ahead"] = bool(self._ahead)
            if hasattr(self.source, "state_dict"):
                found["loader"] = self._loader if self._ahead else self.source.state_dict()
            elif generators := generators_of(self.source):
                begun = self._number is not None or self._ahead
                found["generators"] = self._generators if begun else [g.get_state() for g in generators]
        return found

    def seek(self, position: dict[str, Any]) -> None:
        super().seek(position)
        if not self.once:
            self._started = None
            self._ahead.clear()

    def explained(self, error: Exception) -> Exception:
        return self._form.explained(error)

    def _running(self) -> Iterator[Any]:
        """The pass that was begun; it is not asked for its truth, since a DataLoader's iterator answers with its length."""
        return iter(()) if self._started is None else self._started

    def _begin(self, at: dict[str, Any]) -> None:
        if at.get("loader") is not None and hasattr(self.source, "load_state_dict"):
            self.source.load_state_dict(at["loader"])
        elif hasattr(self.source, "state_dict"):
            self._loader = self.source.state_dict()
        generators = generators_of(self.source)
        for generator, state in zip(generators, at.get("generators") or (), strict=False):
            generator.set_state(state)
        self._generators = [g.get_state() for g in generators]
        self._streams = UserStreams()
        self._started = iter(self.source)

    def _batches(self, orders: Passes, number: int, skip: int, pause: Any, at: dict[str, Any]) -> Iterator[Any]:
        count = 0
        with pause():
            if skip or at.get("streams") is not None:
                self._go_back(skip, at)
                count = skip
            elif self._started is None:
                self._begin(at)
        it, ahead = self._started, self._ahead
        self._started = it if self.once else None
        assert it is not None
        while True:
            with pause():
                try:
                    batch = ahead.pop() if ahead else self._converted(next(it), count)
                except StopIteration:
                    break
                except Exception as error:
                    error.add_note(f"While batch {count} of pass {self._pass + 1} over the data was read.")
                    raise
            count += 1
            yield batch

    def _go_back(self, skip: int, at: dict[str, Any]) -> None:
        """Starts the pass anew as it was started then, and reads past the batches that had been given."""
        with UserStreams():
            if at.get("streams") is not None:
                at["streams"].put_back()
            if self._started is None:
                self._begin(at)
            self._streams = at.get("streams")
            if at.get("loader") is None and skip:
                for _ in itertools.islice(self._running(), skip - len(self._ahead)):
                    pass
                self._ahead.clear()
            if at.get("ahead") and not self._ahead:
                self._ahead.append(self._converted(next(self._running()), skip))

    def _converted(self, batch: Any, count: int) -> Any:
        return weighted(self._form.check(as_batch(batch), count), self.class_weight)


class Again:
    """What an iterator gives, as often as it is asked: the batches that were taken are kept, and come first each time.

    >>> squares = Again(i * i for i in itertools.count())
    >>> [list(itertools.islice(squares, 3)) for _ in range(2)]
    [[0, 1, 4], [0, 1, 4]]
    """

    def __init__(self, iterator: Iterator[Any]) -> None:
        self.iterator, self.kept = iterator, list[Any]()

    def __iter__(self) -> Iterator[Any]:
        yield from self.kept
        for batch in self.iterator:
            self.kept.append(tree.map_leaves(_copy, batch))
            yield batch


def _copy(value: Any) -> Any:
    """A copy of an array: a generator may fill the same one again."""
    return value.clone() if isinstance(value, torch.Tensor) else value.copy() if isinstance(value, np.ndarray) else value


def generators_of(source: Any) -> list[torch.Generator]:
    """Returns the generators that a DataLoader and its samplers were given."""
    batches = getattr(source, "batch_sampler", None)
    owners = [source, getattr(source, "sampler", None), batches, getattr(batches, "sampler", None)]
    found = [g for g in (getattr(o, "generator", None) for o in owners) if isinstance(g, torch.Generator)]
    return list({id(g): g for g in found}.values())


def length_of(source: Any) -> int | None:
    """Returns how many batches a source says it has, or None."""
    if hasattr(type(source), "num_batches"):
        return source.num_batches
    try:
        count = len(source)
    except (TypeError, NotImplementedError):
        return None
    return count
