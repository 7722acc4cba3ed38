"""The loop's own random stream, and the order of rows, so that watching a run does not change it."""

from __future__ import annotations

from typing import Any

import torch

from hornbeam.core import random


class LoopStream:
    """torch's default generators as the training steps of one model see them; used as a context, it swaps them in.

    A stream begins from torch's seed (`torch.manual_seed`, `set_random_seed`), whatever has been drawn since.
    An epoch's order of rows is a function of that seed and of the number of passes over data before it.

    >>> stream = LoopStream()
    >>> before = torch.get_rng_state()
    >>> with stream:
    ...     _ = torch.rand(3)
    >>> torch.equal(before, torch.get_rng_state())
    True
    """

    def __init__(self) -> None:
        self.key = _seed_key()
        self.seed = self.key[0] & (2**63 - 1)
        self.passes = 0
        self._cpu = torch.Generator().manual_seed(self.seed).get_state()
        self._cuda: dict[int, torch.Tensor] = {}

    def __enter__(self) -> LoopStream:
        self._swap()
        return self

    def __exit__(self, *args: Any) -> None:
        self._swap()

    def _swap(self) -> None:
        mine, self._cpu = self._cpu, torch.get_rng_state()
        torch.set_rng_state(mine)
        if torch.cuda.is_initialized():
            self._swap_cuda()

    def _swap_cuda(self) -> None:
        device = torch.cuda.current_device()
        mine = self._cuda.get(device)
        self._cuda[device] = torch.cuda.get_rng_state(device)
        if mine is None:
            torch.cuda.manual_seed(self.seed)
        else:
            torch.cuda.set_rng_state(mine, device)

    def pause(self) -> LoopStream:
        """Returns the context in which the user's stream is back: swapping is its own inverse."""
        return self

    def state_dict(self) -> dict[str, Any]:
        """Returns a copy of the state, while the stream is paused."""
        return {"seed": self.seed, "passes": self.passes, "cpu": self._cpu.clone(), "cuda": dict(self._cuda)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Puts back what `state_dict` returned, while the stream is paused; torch's present seed no longer counts."""
        self.key = _seed_key()
        self.seed, self.passes = state["seed"], state["passes"]
        self._cpu, self._cuda = state["cpu"].clone(), dict(state["cuda"])

    def order(self, rows: int) -> torch.Tensor:
        """Returns the next pass's order of rows."""
        mixed = (self.seed * 6364136223846793005 + self.passes * 1442695040888963407 + 1) % 2**63
        self.passes += 1
        return torch.randperm(rows, generator=torch.Generator().manual_seed(mixed))

    def order_of_chunks(self, size: int, rows: int) -> torch.Tensor:
        """Returns an order that keeps the rows of each batch together; a part of a batch stays last, where it shifts no other."""
        chunks = torch.arange(rows).split(size)
        return torch.cat([*(chunks[i] for i in self.order(rows // size).tolist()), *chunks[rows // size :]])


def _seed_key() -> tuple[int, int]:
    return (torch.initial_seed(), random.times_seeded)


def stream_of(model: Any) -> LoopStream:
    """Returns a model's stream; a new one where torch was seeded since the last began."""
    stream = model.__dict__.get("_stream")
    if stream is None or stream.key != _seed_key():
        stream = model.__dict__["_stream"] = LoopStream()
    return stream
