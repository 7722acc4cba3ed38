"""A `Dataset`: batches that are read while they are asked for, anew and in a new order at each pass."""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from hornbeam.core.errors import describe
from hornbeam.core.random import make_default_seed
from hornbeam.graph import tree
from hornbeam.training.arrays import as_tensor, check_lengths
from hornbeam.utils.dataset_ahead import ahead

Pass = tuple[int, ...]  # the number of a pass, then the numbers of passes within it, where a dataset is repeated


class Strings(np.ndarray):
    """A batch of texts: a NumPy array of `str` objects, with `.numpy()` as tensors have it.

    >>> texts = strings(["good", "bad"])
    >>> texts[0], texts.shape, texts.numpy()[1]
    ('good', (2,), 'bad')
    """

    def numpy(self) -> np.ndarray:
        """Returns the plain array."""
        return np.asarray(self)


def strings(texts: Any) -> Strings:
    """Returns texts, in a list or an array, as `Strings`."""
    return np.asarray(texts, dtype=object).view(Strings)


class Dataset:
    """Elements, most often batches of tensors, that are read while they are asked for.

    `fit`, `evaluate`, `predict` and `for` loops take it as it is. Each loop over it is a new pass, in a new order if it is
    shuffled. The order is a function of the seed and the number of the pass, so it does not depend on what else ran.
    The methods return new datasets and have the names, and the meaning, that they have on a `tf.data.Dataset`.
    What a dataset hands out may be kept by a `cache`: do not write into it.

    Args:
        read: function of the number of a pass and of a position that returns an iterator over the elements from there on.
        length: how many elements a pass has; `math.inf` if it never ends, None if nobody knows.
        class_names: what the labels stand for.

    Attributes:
        class_names: names of the classes, by label, or None.
        file_paths: the files behind it, before any shuffling at a pass, or None.
        passes: how many loops over it were begun.

    >>> dataset = Dataset.from_tensor_slices((torch.arange(5), torch.arange(5) * 10))
    >>> for x, y in dataset.batch(2).take(2):
    ...     print(x.tolist(), y.tolist())
    [0, 1] [0, 10]
    [2, 3] [20, 30]
    """

    def __init__(
        self, read: Callable[[Pass, int], Iterator[Any]], length: float | None = None, class_names: list[str] | None = None
    ) -> None:
        self._read, self._length = read, length
        self.class_names = class_names
        self.file_paths: list[str] | None = None
        self.passes = 0
        self._start = 0
        self._given: int | None = None

    @staticmethod
    def from_tensor_slices(tensors: Any) -> Dataset:
        """Returns the dataset of the rows of arrays.

        Args:
            tensors: a tensor, array, list of numbers or of texts, or a nest of them with equally many rows. Arrays of 64-bit
                floats become the default float type, as in `fit`.
        """
        rows, row = rows_of(tensors)
        return Dataset(lambda number, start: map(row, range(start, rows)), rows)

    def __iter__(self) -> Iterator[Any]:
        number, start = self.passes, self._start
        self.passes, self._start, self._given = number + 1, 0, start
        return self._pass(number, start)

    def _pass(self, number: int, start: int) -> Iterator[Any]:
        try:
            for given, element in enumerate(self._read((number,), start), start + 1):
                if self.passes == number + 1:
                    self._given = given
                yield element
        finally:
            if self.passes == number + 1:
                self._given = None

    def __len__(self) -> int:
        if self._length is None or math.isinf(self._length):
            known = "is not known before it was read" if self._length is None else "is infinite"
            raise TypeError(f"The length of this dataset {known}. Give `steps_per_epoch` where a number of batches is needed.")
        return int(self._length)

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        length = "unknown" if self._length is None else "endless" if math.isinf(self._length) else str(self._length)
        names = f", class_names={self.class_names}" if self.class_names else ""
        return f"<Dataset, length: {length}{names}>"

    def state_dict(self) -> dict[str, int]:
        """Returns where the latest loop stands: the number of its pass and how many elements it gave; else the next pass."""
        if self._given is None:
            return {"pass": self.passes, "position": self._start}
        return {"pass": self.passes - 1, "position": self._given}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Makes the next loop go on where `state_dict` was asked, with the same elements."""
        self.passes, self._start, self._given = state["pass"], state["position"], None

    def cardinality(self) -> torch.Tensor:
        """Returns the number of elements as a scalar tensor: -1 for infinitely many, -2 if nobody knows."""
        length = -2 if self._length is None else -1 if math.isinf(self._length) else int(self._length)
        return torch.tensor(length)

    def as_numpy_iterator(self) -> Iterator[Any]:
        """Returns an iterator over the elements with NumPy arrays in place of tensors."""
        for element in self:
            yield tree.map_leaves(lambda v: v.numpy() if isinstance(v, (torch.Tensor, Strings)) else v, element)

    def map(self, map_func: Callable[..., Any], num_parallel_calls: int | None = None) -> Dataset:
        """Returns the dataset of `map_func(element)`, or `map_func(*element)` where an element is a tuple.

        Args:
            map_func: any function of tensors.
            num_parallel_calls: how many threads call it. None and -1 (`AUTOTUNE`) leave it in the thread that reads, where
                random functions, such as augmenting layers, draw the same numbers at every run.
        """
        threads = -1 if num_parallel_calls is None else operator.index(num_parallel_calls)

        def call(element: Any) -> Any:
            return map_func(*element) if type(element) is tuple else map_func(element)

        def read(number: Pass, start: int) -> Iterator[Any]:
            elements = self._read(number, start)
            return ahead(call, elements, threads, 2 * threads) if threads > 1 else map(call, elements)

        return self._derived(read, self._length)

    def filter(self, predicate: Callable[..., Any]) -> Dataset:
        """Returns the dataset of those elements for which `predicate` holds."""

        def holds(element: Any) -> bool:
            return bool(predicate(*element) if type(element) is tuple else predicate(element))

        return self._derived(lambda number, start: _from(start, filter(holds, self._read(number, 0))), None)

    def batch(self, batch_size: int, drop_remainder: bool = False) -> Dataset:
        """Returns the dataset of batches: elements stacked along a new first axis, texts as `Strings`.

        Args:
            batch_size: how many elements make a batch.
            drop_remainder: whether the last batch is left out where it is smaller.
        """
        return self._batch(batch_size, drop_remainder, stack)

    def _batch(self, batch_size: int, drop_remainder: bool, join: Callable[[list[Any]], Any]) -> Dataset:
        size = _count(batch_size, "batch_size", least=1)

        def read(number: Pass, start: int) -> Iterator[Any]:
            elements = self._read(number, start * size)
            while len(rows := list(itertools.islice(elements, size))) > (size - 1 if drop_remainder else 0):
                yield join(rows)

        length = self._length
        if length is not None and not math.isinf(length):
            length = int(length) // size if drop_remainder else -(-int(length) // size)
        return self._derived(read, length)

    def unbatch(self) -> Dataset:
        """Returns the dataset of the rows of the elements."""

        def rows(batch: Any) -> Iterator[Any]:
            columns = [v.unbind() if isinstance(v, torch.Tensor) else v for v in tree.leaves(batch)]
            return (tree.pack(batch, list(row)) for row in zip(*columns, strict=True))

        return self._derived(lambda number, start: _from(start, itertools.chain.from_iterable(map(rows, self._read(number, 0)))))

    def shuffle(self, buffer_size: int, seed: int | None = None, reshuffle_each_iteration: bool = True) -> Dataset:
        """Returns the dataset in another order: each element is drawn from the next `buffer_size`.

        Args:
            buffer_size: how many elements are held at once. Nothing smaller than the dataset mixes it fully.
            seed: integer for the same orders at every run; drawn from torch's default generator unless given.
            reshuffle_each_iteration: whether each pass has its own order.
        """
        size = _count(buffer_size, "buffer_size", least=1)
        seed = make_default_seed() if seed is None else _count(seed, "seed")

        def read(number: Pass, start: int) -> Iterator[Any]:
            draws = np.random.default_rng((seed, *(number if reshuffle_each_iteration else ())))
            return _from(start, _drawn(self._read(number, 0), size, draws))

        return self._derived(read, self._length)

    def take(self, count: int) -> Dataset:
        """Returns the dataset of the first `count` elements; -1 takes all."""
        count = _count(count, "count", least=-1)
        if count == -1:
            return self._derived(self._read, self._length)
        length = None if self._length is None else min(self._length, count)
        return self._derived(lambda number, start: itertools.islice(self._read(number, start), max(0, count - start)), length)

    def skip(self, count: int) -> Dataset:
        """Returns the dataset without its first `count` elements; -1 skips all. Files that are skipped are not read."""
        count = _count(count, "count", least=-1)
        if count == -1:
            return self.take(0)
        length = None if self._length is None else max(self._length - count, 0)
        return self._derived(lambda number, start: self._read(number, start + count), length)

    def repeat(self, count: int | None = None) -> Dataset:
        """Returns the dataset over and over: `count` times, or without end."""
        count = -1 if count is None else _count(count, "count", least=-1)
        numbers = range(count) if count >= 0 else itertools.count()

        def passes(number: Pass) -> Iterator[Any]:
            for inner in numbers:
                elements = self._read((*number, inner), 0)
                first = next(elements, stop)
                if first is stop:
                    return
                yield first
                yield from elements

        stop = object()
        times = math.inf if count < 0 else count
        length = None if self._length is None else 0 if 0 in (times, self._length) else self._length * times
        return self._derived(lambda number, start: _from(start, passes(number)), length)

    def cache(self) -> Dataset:
        """Returns the dataset whose elements are kept in memory from the first complete pass on."""
        kept: list[Any] = []
        complete = False

        def fill(number: Pass) -> Iterator[Any]:
            nonlocal kept, complete
            seen = []
            for element in self._read(number, 0):
                seen.append(element)
                yield element
            kept, complete = seen, True

        def read(number: Pass, start: int) -> Iterator[Any]:
            return itertools.islice(kept, start, None) if complete else _from(start, fill(number))

        return self._derived(read, self._length)

    def prefetch(self, buffer_size: int | None = None) -> Dataset:
        """Returns the same elements: files are always read ahead, by threads, and user code stays in the thread that reads."""
        return self._derived(self._read, self._length)

    def concatenate(self, dataset: Dataset) -> Dataset:
        """Returns the elements of this dataset, then those of another."""

        def read(number: Pass, start: int) -> Iterator[Any]:
            if self._length is None:
                return _from(start, itertools.chain(self._read(number, 0), dataset._read(number, 0)))
            if start >= self._length:
                return dataset._read(number, start - int(self._length))
            return itertools.chain(self._read(number, start), dataset._read(number, 0))

        lengths = (self._length, dataset._length)
        return self._derived(read, None if None in lengths else sum(lengths))  # type: ignore[arg-type]

    def _derived(self, read: Callable[[Pass, int], Iterator[Any]], length: float | None = None) -> Dataset:
        return Dataset(read, length, self.class_names)


def stack(elements: list[Any]) -> Any:
    """Returns elements of the same form as one batch.

    >>> stack([(torch.zeros(2), 1), (torch.ones(2), 0)])
    (tensor([[0., 0.],
            [1., 1.]]), tensor([1, 0]))
    """
    columns = zip(*map(tree.leaves, elements), strict=True)
    return tree.pack(elements[0], [_stacked(list(column)) for column in columns])


def _stacked(values: list[Any]) -> Any:
    first = values[0]
    if isinstance(first, (str, bytes)):
        return strings(values)
    if first is None:
        return None
    tensors = [v if isinstance(v, torch.Tensor) else as_tensor(v, "element") for v in values]
    shapes = [tuple(t.shape) for t in tensors]
    if len(set(shapes)) > 1:
        other = next(i for i, shape in enumerate(shapes) if shape != shapes[0])
        raise ValueError(
            f"batch: elements of different shapes cannot be stacked: {shapes[0]} at 0, {shapes[other]} at {other} of the batch. "
            f"Bring them to one shape first, for example with `map`."
        )
    return torch.stack(tensors)


def permutation(rows: int, seed: int, number: Pass) -> np.ndarray:
    """Returns the order of rows at a pass, a function of the seed and the pass's number."""
    return np.random.default_rng((seed, *number)).permutation(rows)


def _drawn(elements: Iterator[Any], size: int, draws: np.random.Generator) -> Iterator[Any]:
    buffer = list(itertools.islice(elements, size))
    for element in elements:
        i = int(draws.integers(size))
        drawn, buffer[i] = buffer[i], element
        yield drawn
    yield from (buffer[i] for i in draws.permutation(len(buffer)))


def _from(start: int, elements: Iterator[Any]) -> Iterator[Any]:
    return itertools.islice(elements, start, None) if start else elements


def _count(value: Any, name: str, least: int = 0) -> int:
    try:
        count = operator.index(value)
    except TypeError:
        raise TypeError(f"`{name}` must be an integer. Received: {name}={describe(value)}") from None
    if count < least:
        raise ValueError(f"`{name}` must be an integer not below {least}. Received: {name}={value!r}")
    return count


def _lists_as_arrays(nest: Any) -> Any:
    """Returns a nest in which lists of numbers or texts are arrays."""
    if isinstance(nest, (list, tuple)) and nest and all(isinstance(v, (str, bytes, int, float)) for v in nest):
        return strings(nest) if isinstance(nest[0], (str, bytes)) else np.asarray(nest)
    if isinstance(nest, dict):
        return {k: _lists_as_arrays(v) for k, v in nest.items()}
    if isinstance(nest, tuple):
        return tuple(_lists_as_arrays(v) for v in nest)
    return np.asarray(nest) if isinstance(nest, list) else nest


def _column(value: Any) -> Any:
    if isinstance(value, np.ndarray) and value.dtype.kind in "OUS" and value.size and isinstance(value.flat[0], (str, bytes)):
        return strings(value)
    return as_tensor(value, "tensors")


def rows_of(tensors: Any) -> tuple[int, Callable[[int], Any]]:
    """Returns how many rows a nest of arrays has, and the function that returns one by its number."""
    nest = tree.map_leaves(_column, _lists_as_arrays(tensors))
    rows, flat = check_lengths({"tensors": nest}), tree.leaves(nest)
    return rows, lambda i: tree.pack(nest, [column[i] for column in flat])
