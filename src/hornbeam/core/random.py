"""Seeds: one for everything, one for each initializer, and generators that hand out seeds."""

from __future__ import annotations

import random as python_random
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch

from hornbeam.core.clean import clean_context, is_clean
from hornbeam.core.registry import public
from hornbeam.graph.context import context

times_seeded = 0  # so that a training loop notices that it was seeded anew, also with the same seed


def set_random_seed(seed: int) -> None:
    """Seeds Python's, NumPy's and torch's generators, and so every default seed that is drawn afterwards.

    Args:
        seed: an integer from 0 to 2**32 - 1.

    >>> set_random_seed(7)
    """
    if not isinstance(seed, int):
        raise ValueError(f"set_random_seed takes an integer. Received: {seed!r}")
    global times_seeded
    times_seeded += 1
    python_random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def make_default_seed() -> int:
    """Draws a seed from torch's default generator, so that `torch.manual_seed` fixes initial weights too."""
    with nullcontext() if is_clean() else clean_context():
        if context.outer_rng is None:
            return int(torch.randint(1, 2**31 - 1, (), device="cpu"))
        looked = torch.get_rng_state()
        torch.set_rng_state(context.outer_rng)
        seed = int(torch.randint(1, 2**31 - 1, (), device="cpu"))
        context.outer_rng = torch.get_rng_state()
        torch.set_rng_state(looked)
        return seed


@public("keras.random.SeedGenerator")
class SeedGenerator:
    """Hands out a new seed at each `next()`; layers that were given a seed draw from one.

    Args:
        seed: integer, or None to draw one from torch's default generator.

    >>> SeedGenerator(3).next() == SeedGenerator(3).next()
    True
    """

    def __init__(self, seed: int | None = None, name: str | None = None, **kwargs: Any) -> None:
        if seed is not None and not isinstance(seed, int):
            raise ValueError(f"SeedGenerator takes an integer seed. Received: {seed!r}")
        self.name = name or "seed_generator"
        self._initial_seed = seed
        self._stream = torch.Generator().manual_seed(make_default_seed() if seed is None else seed)

    def next(self, ordered: bool = True) -> int:
        """Returns the next seed."""
        return int(torch.randint(0, 2**31 - 1, (), generator=self._stream))

    def generator(self, device: torch.device | str = "cpu") -> torch.Generator:
        """Returns a fresh torch generator seeded with the next seed."""
        return torch.Generator(device=device).manual_seed(self.next())

    def get_config(self) -> dict[str, Any]:
        return {"seed": self._initial_seed, "name": self.name}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> SeedGenerator:
        return cls(**config)


def seed_generators(module: torch.nn.Module) -> dict[str, SeedGenerator]:
    """Returns the seed generators that a module's layers hold as attributes, by path.

    >>> layer = torch.nn.Identity()
    >>> layer.seeds = SeedGenerator(1)
    >>> list(seed_generators(torch.nn.Sequential(layer)))
    ['0.seeds']
    """
    return {
        f"{path}.{key}": value
        for path, part in module.named_modules()
        for key, value in vars(part).items()
        if isinstance(value, SeedGenerator)
    }


def draw_seed(seed: int | SeedGenerator | None) -> int | None:
    """Returns the integer to use for one draw; None stands for torch's default generator."""
    if seed is None or isinstance(seed, int):
        return seed
    if isinstance(seed, SeedGenerator):
        return seed.next()
    raise ValueError(f"seed must be an integer, a SeedGenerator or None. Received: {seed!r}")
