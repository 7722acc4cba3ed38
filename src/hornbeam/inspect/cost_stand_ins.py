"""Weights, buffers and inputs without memory, in the place of a module's own for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from hornbeam.core.weights import dress, in_storage_order, raw
from hornbeam.graph import tree
from hornbeam.graph.node import Spec


def parameters(module: nn.Module) -> Iterator[torch.Tensor]:
    """Yields every parameter and buffer of a module and its parts, without making any value; shared ones more than once."""
    for part in module.modules():
        for slot in ("_parameters", "_buffers"):
            yield from (v for v in raw(part, slot).values() if v is not None)


def sizes_of(spec: Spec, batch: int) -> Any:
    """Returns the concrete shape (or number) of a Spec for a batch; other axes that vary have their stand-in's size."""
    sample = spec.samples[0]
    if spec.is_number:
        return sample
    return tuple((batch if size == 0 else size) if d is None else d for d, size in zip(spec.shape, sample, strict=True))


def fake_of(value: torch.Tensor) -> torch.Tensor:
    """Returns a stand-in of a weight: same shape, strides, dtype and device. To be called where tensors are fake."""
    spec = getattr(value, "_spec", None)
    device = "cpu" if value.device.type == "meta" else value.device
    if getattr(value, "_lazy", False) or value.device.type == "meta":
        made = in_storage_order(torch.empty(value.shape, dtype=value.dtype, device=device), getattr(spec, "storage", None))
    else:
        made = torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device=device)
    return _as(made, value)


def real_of(value: torch.Tensor) -> torch.Tensor:
    """Returns a stand-in of a weight that can be computed with: its own values, or one zero for all that are not made yet.

    A buffer, which the module may write to, gets memory of its own.
    """
    lazy = getattr(value, "_lazy", False) or value.device.type == "meta"
    if not isinstance(value, nn.Parameter) or not value.requires_grad:
        made = torch.zeros(value.shape, dtype=value.dtype) if lazy else value.detach().clone()
    else:
        made = torch.zeros((), dtype=value.dtype).expand(value.shape) if lazy else value.detach()
    return _as(made, value)


def _as(made: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    spec = getattr(value, "_spec", None)
    made.requires_grad_(value.requires_grad)
    return dress(made, spec) if spec is not None else made


@contextmanager
def standing_in(module: nn.Module, made: dict[int, torch.Tensor], training: bool) -> Iterator[None]:
    """Puts stand-ins in the place of all weights and buffers for a block, wherever modules hold them, and sets the mode.

    Args:
        module: any module.
        made: a stand-in for each weight, by the id of the weight.
        training: the mode of all parts.
    """
    before: list[tuple[dict[str, Any], str, Any]] = []
    swap = lambda value: made.get(id(value), value)  # noqa: E731
    try:
        for part in module.modules():
            d = part.__dict__
            for key, value in list(d.items()):
                if key in ("_parameters", "_buffers"):
                    new: Any = {k: swap(v) for k, v in raw(part, key).items()}
                elif key != "_modules" and _holds(value, made):
                    new = tree.map_leaves(swap, value)
                else:
                    continue
                before.append((d, key, value))
                d[key] = new
            before.append((d, "training", d["training"]))
            d["training"] = training
        yield
    finally:
        for d, key, value in reversed(before):
            d[key] = value


def _holds(value: Any, made: dict[int, torch.Tensor]) -> bool:
    """Whether an attribute is a weight, or a nest in which one stands (as in torch's recurrent layers)."""
    if isinstance(value, torch.Tensor):
        return id(value) in made
    return isinstance(value, (list, tuple, dict)) and any(id(leaf) in made for leaf in tree.leaves(value))
