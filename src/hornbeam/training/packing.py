"""One batch: how inputs, targets and weights are packed in it, the form that all of a stream share, its way to a device."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from hornbeam.core.errors import describe
from hornbeam.graph import tree
from hornbeam.training.arrays import as_nest, named_leaves


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


def as_batch(batch: Any) -> Any:
    """Returns what a user's source gave as tensors: x, (x, y) or (x, y, sample_weight)."""
    return as_nest(tuple(batch) if type(batch) is list and len(batch) in (2, 3) else batch, "batch")


def weighted(batch: Any, class_weight: Any) -> Any:
    """Returns a batch with the weights of its classes, where there are such."""
    if class_weight is None:
        return batch
    x, y, weight = unpack_x_y_sample_weight(batch)
    return (x, y, class_weights(y, class_weight, weight))


class Form:
    """The names, dtypes and shapes of a stream's first batch, that the others are held against.

    Attributes:
        wants_rows: whether a batch without rows is an error, as it is where there is a loss: it has no mean over no rows.

    Axes after the first may change in size, as padded sequences do: `changed` then says where the last batch differs.
    """

    def __init__(self) -> None:
        self.first: dict[str, Any] | None = None
        self.changed: str | None = None
        self.wants_rows = False

    def check(self, batch: Any, number: int) -> Any:
        """Returns the batch; raises where it has other keys, dtypes or ranks than the first one."""
        if self.wants_rows:
            for name, tensor in named_parts(batch):
                if tensor is not None and tensor.ndim and not len(tensor):
                    shape = tuple(tensor.shape)
                    raise ValueError(f"Batch {number} has no rows: {name} has shape {shape}. Leave out empty batches.")
        form = {name: None if t is None else (t.dtype, t.shape[1:]) for name, t in named_parts(batch)}
        self.changed = None
        if self.first is None:
            self.first = form
        if form == self.first:
            return batch
        for name in [*self.first, *(n for n in form if n not in self.first)]:
            was, now = self.first.get(name, "missing"), form.get(name, "missing")
            if was == now:
                continue
            text = f"Batch {number} has another form than the first one: {name} was {_shown(was)}, is {_shown(now)}."
            if not (type(was) is type(now) is tuple and was[0] == now[0] and len(was[1]) == len(now[1])):
                raise ValueError(f"{text} All batches of a run must be alike.")
            self.changed = self.changed or text
        return batch

    def explained(self, error: Exception) -> Exception:
        """Returns the error to raise for one that a step raised on the last batch."""
        if self.changed is None:
            return error
        return ValueError(f"{self.changed} The model cannot take that: {type(error).__name__}: {error}")


def _shown(form: Any) -> str:
    if not isinstance(form, tuple):
        return str(form)
    return f"{str(form[0]).removeprefix('torch.')} of shape ({', '.join(map(str, ('rows', *form[1])))})"


def named_parts(batch: Any) -> Iterator[tuple[str, Any]]:
    """Yields the leaves of a batch with the names that errors give them: x, y['b'], sample_weight."""
    for name, part in zip(("x", "y", "sample_weight"), unpack_x_y_sample_weight(batch), strict=True):
        if part is not None or name == "x":
            yield from named_leaves(part, name)


def moved(batches: Iterator[Any], device: torch.device) -> Iterator[Any]:
    """Yields batches on a device; to CUDA they go by pinned memory on a stream of their own, beside what the device computes."""
    if device.type != "cuda":
        for batch in batches:
            yield tree.map_leaves(lambda t: None if t is None else t.to(device, non_blocking=True), batch)
        return
    side = torch.cuda.Stream(device)

    def move(tensor: torch.Tensor | None) -> torch.Tensor | None:
        if tensor is None or tensor.device == device:
            return tensor
        with torch.cuda.stream(side):
            there = (tensor if tensor.is_cuda else tensor.pin_memory()).to(device, non_blocking=True)
        there.record_stream(torch.cuda.current_stream(device))
        return there

    for batch in batches:
        if any(t is not None and t.is_cuda for t in tree.leaves(batch)):
            side.wait_stream(torch.cuda.current_stream(device))
        there = tree.map_leaves(move, batch)
        torch.cuda.current_stream(device).wait_stream(side)
        yield there
