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

    def add(self, tensor: torch.Tensor, counted: bool = True) -> bool:
        """Notes a tensor's storage until it is freed; returns whether it was new.

        Args:
            tensor: any tensor.
            counted: whether it counts; weights and inputs, which are there all the time, do not.
        """
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._live:
            return False
        size = storage.nbytes() if counted else 0
        self._live[key] = (size, weakref.ref(storage, lambda _: self._free(key)))
        self.now += size
        self.peak = max(self.peak, self.now)
        return True

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
