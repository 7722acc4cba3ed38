"""A dataset of batches in Python code, which worker threads or processes can make; what its hooks change is its state."""

from __future__ import annotations

import copy
import itertools
import warnings
from collections.abc import Iterator
from types import CodeType
from typing import Any


class PyDataset:
    """Base class of datasets that give batch i by `self[i]`. A subclass writes `__getitem__` and `__len__` (or `num_batches`).

    An item's random numbers, drawn from torch's, NumPy's or Python's global streams, depend on the seed, the epoch and the
    item's number only, whatever makes it: nobody, threads or processes. Threads share those streams: where items draw from
    them, they are made one after another unless `use_multiprocessing` is True.

    Args:
        workers: threads or processes that make items; 0 and 1 threads mean none, items are made where they are needed.
        use_multiprocessing: whether workers are processes. They work on copies of the dataset.
        max_queue_size: items made ahead, at least one a worker.

    Attributes:
        timeout: seconds to wait for an item of a worker before it counts as stuck, 300 unless set; None waits for ever.

    >>> import torch
    >>> class Squares(PyDataset):
    ...     def __len__(self):
    ...         return 3
    ...     def __getitem__(self, index):
    ...         x = torch.arange(2.0) + 2 * index
    ...         return x, x * x
    >>> [y.tolist() for x, y in Squares()]
    [[0.0, 1.0], [4.0, 9.0], [16.0, 25.0]]
    """

    workers: int = 1
    use_multiprocessing: bool = False
    max_queue_size: int = 10
    timeout: float | None = 300.0

    def __init__(self, workers: int = 1, use_multiprocessing: bool = False, max_queue_size: int = 10) -> None:
        for name, value in (("workers", workers), ("max_queue_size", max_queue_size)):
            if not isinstance(value, int):
                raise ValueError(f"{type(self).__name__}: `{name}` must be an integer. Received: {name}={value!r}")
        self.workers, self.use_multiprocessing, self.max_queue_size = workers, use_multiprocessing, max_queue_size

    def __getitem__(self, index: int) -> Any:
        """Returns batch `index`: x, (x, y) or (x, y, sample_weight)."""
        raise NotImplementedError(f"{type(self).__name__} must have `__getitem__(self, index)`, which returns a batch.")

    @property
    def num_batches(self) -> int | None:
        """The number of batches of an epoch; None where there is no end."""
        length = getattr(self, "__len__", None)
        if length is None:
            raise NotImplementedError(
                f"{type(self).__name__} must have `__len__(self)`, or a property `num_batches` (None: there is no end)."
            )
        return length()

    def on_epoch_begin(self) -> None:
        """Called when an epoch begins."""

    def on_epoch_end(self) -> None:
        """Called when an epoch has ended."""

    def __iter__(self) -> Iterator[Any]:
        sized = hasattr(self, "__len__") or type(self).num_batches is not PyDataset.num_batches
        count = self.num_batches if sized else None
        return (self[i] for i in (itertools.count() if count is None else range(count)))


def state_of(dataset: Any) -> Any:
    """Returns a copy of what a dataset remembers from epoch to epoch: its `state_dict`, or the attributes that its hooks name.

    >>> class Shuffled(PyDataset):
    ...     def __init__(self):
    ...         self.order, self.pictures = [0, 1, 2], "large"
    ...     def on_epoch_end(self):
    ...         self.turn()
    ...     def turn(self):
    ...         self.order.reverse()
    >>> state_of(Shuffled())
    {'order': [0, 1, 2]}
    """
    if hasattr(dataset, "state_dict") and hasattr(dataset, "load_state_dict"):
        return copy.deepcopy(dataset.state_dict())
    found = {}
    for name in _named_by_hooks(type(dataset)) & getattr(dataset, "__dict__", {}).keys():
        try:
            found[name] = copy.deepcopy(vars(dataset)[name])
        except Exception as error:  # whatever a foreign __deepcopy__ raises
            warnings.warn(
                f"The state of a run does not hold `{name}` of {type(dataset).__name__}, which is used when an epoch begins or "
                f"ends, since it cannot be copied: {error}. Give the dataset `state_dict` and `load_state_dict`.",
                stacklevel=2,
            )
    return found


def load_state(dataset: Any, state: Any) -> None:
    """Puts back what `state_of` returned."""
    if state and hasattr(dataset, "load_state_dict"):
        dataset.load_state_dict(copy.deepcopy(state))
    elif state:
        vars(dataset).update(copy.deepcopy(state))


def _named_by_hooks(cls: type) -> set[str]:
    """The names in the code of `on_epoch_begin` and `on_epoch_end`, and in that of the methods which they call."""
    found: set[str] = set()
    waiting = ["on_epoch_begin", "on_epoch_end"]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            for base in cls.__mro__:
                waiting += _names_in(getattr(vars(base).get(name), "__code__", None))
    return found


def _names_in(code: CodeType | None) -> list[str]:
    if code is None:
        return []
    return [*code.co_names, *(n for c in code.co_consts if isinstance(c, CodeType) for n in _names_in(c))]
