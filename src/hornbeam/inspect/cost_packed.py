"""What torch's quantized modules hold: weights packed in objects that are no tensors. And kernels of which nothing is known."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import torch
from torch import nn

from hornbeam.graph import tree

_NAMESPACES = frozenset(("aten", "prim", "prims", "rngprims", "profiler", "debugprims", "inductor"))


def packed_objects(module: nn.Module) -> Iterator[Any]:
    """Yields the objects in which the parts of a module hold packed weights."""
    for part in module.modules():
        yield from (value for value in vars(part).values() if isinstance(value, torch.ScriptObject))


def unpacked(held: Any) -> list[torch.Tensor] | None:
    """Returns the weights in a packed object; None where it does not tell."""
    for method in ("unpack", "__getstate__"):
        with suppress(Exception):
            found: list[torch.Tensor] = []
            for leaf in tree.leaves(getattr(held, method)()):
                found += [leaf] if isinstance(leaf, torch.Tensor) else unpacked(leaf) or [] if _is_packed(leaf) else []
            return found
    return None


def sizes(weights: list[torch.Tensor]) -> tuple[int, int]:
    """Returns how many numbers and how many bytes some weights hold; memory that they share counts once."""
    weights = list({w.data_ptr(): w for w in weights}.values())
    return sum(w.numel() for w in weights), sum(w.numel() * w.element_size() for w in weights)


def is_known(kernel: str, multiply_adds: int) -> bool:
    """Whether what a kernel computes can be told: torch's own, or one that has a rule.

    >>> is_known("aten::add", 0), is_known("mine::attention", 0)
    (True, False)
    """
    space, _, name = kernel.partition("::")
    return multiply_adds > 0 or (space in _NAMESPACES and not name.startswith("quantized_"))


def _is_packed(value: Any) -> bool:
    return isinstance(value, torch.ScriptObject)
