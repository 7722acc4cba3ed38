"""What `fit` is fed with: arrays in memory, sliced on their own device, and streams of batches of any kind."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import torch

from hornbeam.core.errors import describe
from hornbeam.graph import tree
from hornbeam.training.arrays import as_nest, check_lengths, named_leaves


def pack_x_y_sample_weight(x: Any, y: Any = None, sample_weight: Any = None) -> Any:
    """Returns the data of a step as the tuple that `train_step` is given.

    >>> pack_x_y_sample_weight("x", "y")
    ('x', 'y')
    """
    if sample_weight is not None:
        return (x, y, sample_weight)
    if y is not None:
        return (x, y)
    return (x,) if isinstance(x, (tuple, list)) else x


def unpack_x_y_sample_weight(data: Any) -> tuple[Any, Any, Any]:
    """Returns inputs, targets and sample weights of a step's data, None for those it lacks.

    >>> unpack_x_y_sample_weight(("x", "y"))
    ('x', 'y', None)
    """
    if type(data) is list:
        data = tuple(data)
    if type(data) is not tuple:
        return (data, None, None)
    if len(data) == 2:
        return (data[0], data[1], None)
    if len(data) == 3:
        return data
    if len(data) == 1:
        return (data[0], None, None)
    raise ValueError(f"A batch is x, (x, y) or (x, y, sample_weight). Received: a tuple of {len(data)}.")


class Arrays:
    """Arrays and tensors in memory: converted once, then sliced by rows.

    Args:
        x, y, sample_weight: nests of arrays of equal length.
        batch_size: rows of a batch.
        class_weight: weight of each class, by number.
    """

    def __init__(
        self, x: Any, y: Any = None, sample_weight: Any = None, batch_size: int | None = None, class_weight: Any = None
    ) -> None:
        x, y, sample_weight = as_nest(x, "x"), as_nest(y, "y"), as_nest(sample_weight, "sample_weight")
        self.rows = check_lengths({"x": x, "y": y, "sample_weight": sample_weight})
        if class_weight is not None:
            sample_weight = class_weights(y, class_weight, sample_weight)
        self.nest = pack_x_y_sample_weight(x, y, sample_weight)
        self.flat = tree.leaves(self.nest)
        self.batch_size = batch_size or 32
        self.steps = -(-self.rows // self.batch_size)

    def head(self, rows: int | None = None) -> Any:
        """Returns the first rows (one batch unless given), to be looked at."""
        return tree.pack(self.nest, [None if t is None else t[: rows or self.batch_size] for t in self.flat])

    def to(self, device: torch.device | None) -> None:
        """Moves batches to a device as they are cut."""
        self.device = device

    device: torch.device | None = None

    def passes(self, orders: Callable[[int], torch.Tensor] | None, pause: Any) -> Iterator[Iterator[Any]]:
        """Yields, pass by pass, an iterator over the batches."""
        while True:
            yield self._batches(None if orders is None else orders(self.rows))

    def _batches(self, order: torch.Tensor | None) -> Iterator[Any]:
        size, flat = self.batch_size, self.flat
        if order is None:
            cut: Iterator[Any] = zip(*[itertools.repeat(None) if t is None else t.split(size) for t in flat], strict=False)
        else:
            order = order.to(next(t.device for t in flat if t is not None))
            if all(t is not None and t.device == order.device for t in flat):
                cut = ([t.index_select(0, index) for t in flat] for index in order.split(size))
            else:
                cut = (
                    [None if t is None else t.index_select(0, index.to(t.device)) for t in flat] for index in order.split(size)
                )
        if self.device is not None:
            cut = ([None if t is None else t.to(self.device, non_blocking=True) for t in batch] for batch in cut)
        plain = (
            type(self.nest) is tuple
            and all(a is b for a, b in zip(self.nest, flat, strict=False))
            and len(self.nest) == len(flat)
        )
        if plain:
            return map(tuple, cut)
        return (tree.pack(self.nest, list(batch)) for batch in cut)


class Stream:
    """Anything that gives batches: a DataLoader, a generator, an object with `__getitem__` and `__len__`, any iterable.

    Its code runs with the user's random stream, never with the training loop's.
    """

    def __init__(self, source: Any, class_weight: Any = None) -> None:
        self.source, self.class_weight = source, class_weight
        self.once = isinstance(source, Iterator)
        self.indexed = not self.once and not hasattr(source, "__iter__")
        try:
            self.steps: int | None = len(source)
        except TypeError:
            self.steps = getattr(source, "num_batches", None)
        self._started: Iterator[Any] | None = None
        self._first: Any = None
        self._form: Any = None
        self.device: torch.device | None = None

    rows = None

    def head(self, rows: int | None = None) -> Any:
        """Returns the first batch; it is kept for the first pass."""
        if self._started is None:
            self._started = self._raw(None)
            try:
                self._first = self._converted(next(self._started))
            except StopIteration:
                raise ValueError(f"There is nothing to train on: {describe(self.source)} gave no batch.") from None
        return self._first

    def to(self, device: torch.device | None) -> None:
        """Moves batches to a device as they come."""
        self.device = device

    def passes(self, orders: Callable[[int], torch.Tensor] | None, pause: Any) -> Iterator[Iterator[Any]]:
        """Yields, pass by pass, an iterator over the batches; `pause` is open while the source's own code runs."""
        number = 0
        while True:
            number += 1
            yield self._batches(orders, pause, number)

    def _batches(self, orders: Any, pause: Any, number: int) -> Iterator[Any]:
        count = 0
        with pause():
            if self._started is None:
                self._started = self._raw(orders)
            it, first = self._started, self._first
            self._started = self._started if self.once else None
            self._first = None
        while True:
            with pause():
                try:
                    batch = first if first is not None else self._converted(next(it))
                except StopIteration:
                    break
                except Exception as error:
                    error.add_note(f"While batch {count} of pass {number} over the data was read.")
                    raise
            first = None
            if self.device is not None:
                batch = tree.map_leaves(lambda t: t.to(self.device, non_blocking=True) if t is not None else None, batch)
            count += 1
            yield batch
        if not self.once and hasattr(self.source, "on_epoch_end"):
            with pause():
                self.source.on_epoch_end()

    def _raw(self, orders: Any) -> Iterator[Any]:
        if not self.indexed or self.steps is None:
            return iter(self.source)
        return (self.source[i] for i in (orders(self.steps).tolist() if orders is not None else range(self.steps)))

    def _converted(self, batch: Any) -> Any:
        if type(batch) is list and len(batch) in (2, 3):
            batch = tuple(batch)
        batch = as_nest(batch, "batch")
        form = [(name, None if t is None else (t.dtype, t.ndim)) for name, t in named_leaves(batch, "batch")]
        if self._form is None:
            self._form = form
        elif form != self._form:
            changed = next(pair for pair in itertools.zip_longest(self._form, form) if pair[0] != pair[1])
            raise ValueError(
                f"A batch has another form than the first one: (name, (dtype, rank)) was {changed[0]}, is {changed[1]}."
            )
        if self.class_weight is not None:
            x, y, weight = unpack_x_y_sample_weight(batch)
            batch = (x, y, class_weights(y, self.class_weight, weight))
        return batch


def make_source(
    x: Any,
    y: Any = None,
    sample_weight: Any = None,
    batch_size: int | None = None,
    class_weight: Any = None,
    shuffle: Any = False,
) -> Arrays | Stream:
    """Returns the feeder for what the user gave: an Arrays for what lies in memory, else a Stream."""
    if x is None:
        raise ValueError("`x` is missing: give arrays, tensors, a DataLoader, or an iterable of batches.")
    if is_in_memory(x):
        return Arrays(x, y, sample_weight, batch_size, class_weight)
    for name, value in (("y", y), ("sample_weight", sample_weight)):
        if value is not None:
            raise ValueError(f"`{name}` must not be given where x is {describe(x)}: its batches hold the targets, as (x, y).")
    if isinstance(x, torch.utils.data.Dataset) and not isinstance(x, torch.utils.data.IterableDataset):
        x = torch.utils.data.DataLoader(x, batch_size or 32, shuffle=bool(shuffle))
    elif isinstance(x, torch.utils.data.IterableDataset):
        x = torch.utils.data.DataLoader(x, batch_size or 32)
    return Stream(x, class_weight)


def is_in_memory(x: Any) -> bool:
    """Returns whether a nest holds arrays, tensors or numbers, as opposed to something that gives batches."""
    if isinstance(x, (str, bytes)):
        return True
    if isinstance(x, (torch.utils.data.Dataset, torch.utils.data.DataLoader, Iterator)):
        return False
    if isinstance(x, (tuple, list, dict)):
        return True
    return hasattr(x, "__array__") and hasattr(x, "shape")


def class_weights(y: Any, class_weight: dict[int, float], sample_weight: Any = None) -> torch.Tensor:
    """Returns the weight of each sample by its class; 1 for classes that are not named.

    Args:
        y: class numbers, shape (n,) or (n, 1), or one-hot targets.
        class_weight: weight by class number.
    """
    if sample_weight is not None:
        raise ValueError("`class_weight` and `sample_weight` cannot be given together. Multiply them into one `sample_weight`.")
    if not isinstance(y, torch.Tensor):
        raise ValueError(f"`class_weight` needs a model with a single output. Received: y={describe(y)}")
    if not isinstance(class_weight, dict):
        raise ValueError(f"`class_weight` must be a dictionary from class numbers to weights. Received: {describe(class_weight)}")
    if y.ndim > 1:
        y = y.argmax(-1) if y.shape[-1] > 1 else y.squeeze(-1)
    y = y.round().to(torch.int64)
    weights = torch.ones(y.shape, device=y.device)
    for number, weight in class_weight.items():
        weights.masked_fill_(y == int(number), float(weight))
    return weights


def split(x: Any, y: Any, sample_weight: Any, share: float) -> tuple[Any, Any]:
    """Returns the data without its last part, and that part, each as (x, y, sample_weight)."""
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


def epochs(source: Arrays | Stream, orders: Any, steps: int | None, pause: Any) -> Iterator[Iterator[Any]]:
    """Yields, epoch by epoch, the batches: a pass over the data, or at most `steps`, going on where the last epoch ended."""
    passes = source.passes(orders, pause)
    if steps is None:
        yield from passes
        return
    current, seen = next(passes), 0
    while True:
        if source.steps is not None and seen >= source.steps and not getattr(source, "once", False):
            current, seen = next(passes), 0
        yield itertools.islice(current, steps)
        seen += steps


def orders(stream: Any, source: Arrays | Stream, shuffle: Any) -> Callable[[int], torch.Tensor] | None:
    """Returns what gives each pass its order of rows, or None."""
    if shuffle == "batch" and isinstance(source, Arrays):
        return lambda rows: stream.order_of_chunks(source.batch_size, rows)
    return stream.order if shuffle else None
