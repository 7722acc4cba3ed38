"""The user's random streams - torch's, NumPy's and Python's global ones - taken, put back, and seeded for one piece of data."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch

_MIX = 0x9E3779B97F4A7C15


class UserStreams:
    """The state of the global generators; as a context, it puts back at the end what was there at the beginning.

    >>> before = UserStreams()
    >>> first = np.random.rand(), random.random(), float(torch.rand(()))
    >>> before.put_back()
    >>> first == (np.random.rand(), random.random(), float(torch.rand(())))
    True
    """

    def __init__(self) -> None:
        self.take()

    def take(self) -> None:
        """Takes the state as it is now."""
        self.torch, self.python = torch.get_rng_state(), random.getstate()
        self.numpy: Any = np.random.get_state()

    def put_back(self) -> None:
        """Sets the generators to the state that was taken."""
        torch.set_rng_state(self.torch)
        np.random.set_state(self.numpy)
        random.setstate(self.python)

    def unchanged(self, torch_too: bool = True) -> bool:
        """Returns whether nothing has been drawn since the state was taken."""
        now: Any = np.random.get_state()
        was = self.numpy
        same = random.getstate() == self.python and now[2:] == was[2:] and np.array_equal(now[1], was[1])
        return same and (not torch_too or torch.equal(torch.get_rng_state(), self.torch))

    def __enter__(self) -> UserStreams:
        self.take()
        return self

    def __exit__(self, *args: Any) -> None:
        self.put_back()


def seed_streams(seed: int) -> None:
    """Seeds the global generators of torch's CPU, of NumPy and of Python."""
    torch.default_generator.manual_seed(seed)
    np.random.seed(seed & 0xFFFFFFFF)
    random.seed(seed)


def seed_of(seed: int, number: int, item: int) -> int:
    """Returns the seed of one item in one pass, well mixed: near numbers give streams that have nothing in common."""
    mixed = seed & (2**64 - 1)
    for part in (number, item):
        mixed = ((mixed ^ part) + _MIX) % 2**64
        mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
        mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) % 2**64
        mixed ^= mixed >> 31
    return mixed >> 1
