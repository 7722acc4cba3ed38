"""What an optimizer keeps for each weight: it is built, and makes a step, for stand-ins without memory."""

from __future__ import annotations

from typing import Any

import torch

from hornbeam import optimizers
from hornbeam.optimizers import Optimizer


def slot_bytes(optimizer: Any, weights: dict[int, torch.Tensor]) -> dict[int, int]:
    """Returns the bytes that an optimizer keeps for each weight.

    Args:
        optimizer: a name, an optimizer of Hornbeam, or one of torch (an instance, or its class); None keeps nothing.
        weights: stand-ins of the weights, by the key under which they are returned.
    """
    learning = {key: w for key, w in weights.items() if w.requires_grad}
    if optimizer is None or not learning:
        return {}
    if isinstance(optimizer, (str, dict)):
        optimizer = optimizers.get(optimizer)
    if not isinstance(optimizer, Optimizer):
        raise ValueError(f"cost: `optimizer` is a name or an optimizer. Received: {optimizer!r}")
    made = type(optimizer).from_config(optimizer.get_config())
    made.build(list(learning.values()))
    sizes = dict.fromkeys(learning, 0)
    for key, place in zip(learning, range(len(learning)), strict=True):
        for slot in made._slots.values():
            if slot[place] is not None:
                sizes[key] += slot[place].numel() * slot[place].element_size()
    return sizes
