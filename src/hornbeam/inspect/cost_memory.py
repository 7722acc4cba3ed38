"""Which memory is in use while a module runs on fake tensors, and what autograd keeps of it."""

from __future__ import annotations

import weakref
from typing import Any

import torch


class Memory:
    """Follows the storages that come and go, by their sizes.

    Attributes:
        now: bytes in use.
        peak: the most that were in use at once.
    """

    def __init__(self) -> None:
        self.now = self.peak = 0
        self._live: dict[int, tuple[int, Any]] = {}
        self._kept: set[int] = set()

    def add(self, tensor: torch.Tensor, counted: bool = True, size: int | None = None) -> bool:
        """Notes a tensor's storage until it is freed; returns whether it was new.

        Args:
            tensor: any tensor.
            counted: whether it counts; weights and inputs, which are there all the time, do not.
            size: bytes that it takes, where its storage does not tell.
        """
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._live:
            return False
        if size is None:
            size = storage.nbytes() if counted else 0
        self._live[key] = (size, weakref.ref(storage, lambda _: self._free(key)))
        self.now += size
        self.peak = max(self.peak, self.now)
        return True

    def visit(self, size: int) -> None:
        """Notes that a kernel takes memory of its own while it runs."""
        self.peak = max(self.peak, self.now + size)

    def keep(self, tensor: torch.Tensor) -> int:
        """Notes that autograd keeps a tensor; returns the bytes that are kept now and were not before."""
        self.add(tensor)
        key = tensor.untyped_storage()._cdata
        if key in self._kept:
            return 0
        self._kept.add(key)
        return self._live[key][0]

    def _free(self, key: int) -> None:
        size, _ = self._live.pop(key)
        self._kept.discard(key)
        self.now -= size


def workspace(name: str, args: Any) -> int | None:
    """Returns the bytes of what a kernel hands to its backward pass in a tensor that has no size on fake tensors, if it does.

    oneDNN's LSTM lays out gates and cell states of all steps, and room for gradients that only the backward pass touches: until
    then the system gives it no pages.
    """
    if name != "mkldnn_rnn_layer" or not args[15]:
        return None
    steps, units = _steps(args[0]), args[2].shape[1]
    return steps * (_row(4 * units) + units) * args[0].element_size()


def scratch(name: str, args: Any) -> int:
    """Returns the bytes that a kernel takes for itself while it runs: oneDNN's LSTM, for gates, states and reordered weights."""
    if name not in ("mkldnn_rnn_layer", "mkldnn_rnn_layer_backward"):
        return 0
    x, kernel, recurrent = args[:3]
    units, size = recurrent.shape[1], x.element_size()
    steps, states = _steps(x), (x.shape[0] + 1) * x.shape[1]
    weights = 4 * units * (_row(kernel.shape[1]) + _row(units)) * size
    gates = steps * _row(4 * units) * size
    if name == "mkldnn_rnn_layer":
        return weights + (gates if args[15] else steps * units * size)
    gradients = (3 * states * _row(max(x.shape[2], units)) + steps * units) * size
    given = args[10]
    in_order = 0 if given is None or given.is_contiguous() else given.numel() * size
    return gates + 2 * weights + gradients + in_order


def _steps(x: torch.Tensor) -> int:
    return x.shape[0] * x.shape[1]


def _row(size: int) -> int:
    """How many numbers lie between the rows of a matrix in oneDNN: a multiple of 16, but none of 256."""
    rounded = -(-size // 16) * 16
    return rounded + 16 if rounded % 256 == 0 else rounded
