"""What comes between a call of a loop and its first step: data is divided, placed and checked, the model built."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from hornbeam.training import data, preflight, step


def divide(x: Any, y: Any, sample_weight: Any, split: float, given: Any, batch_size: int | None) -> tuple[Any, Any, Any, Any]:
    """Returns the training data and the source of validation, or None."""
    preflight.check_split(split)
    if split and given is None:
        if not data.is_in_memory(x):
            raise ValueError("`validation_split` needs arrays or tensors in memory. Pass `validation_data` instead.")
        (x, y, sample_weight), given = data.split(x, y, sample_weight, split)
    if given is None:
        return x, y, sample_weight, None
    seen, *others = preflight.check_validation(given)
    if isinstance(seen, Iterator):  # every validation begins at the beginning, as Keras's does
        seen = data.Again(seen)
    return x, y, sample_weight, data.make_source(seen, others[0], others[1], batch_size)


def prepare(self: Any, source: Any, held_out: Any, training: bool = True, single: bool = False) -> None:
    """Everything that comes before the first step: the model is built, data is placed and checked.

    Args:
        source, held_out: the data, and the data of validation or None.
        training: whether weights are needed that can be trained.
        single: whether the data is one batch of many: what has the form of an earlier one is not checked again.
    """
    for part in (source, held_out):
        if part is not None:
            part.want_rows()
    place(self, source)
    form = tuple(None if t is None else (t.shape[1:], t.dtype) for t in source.flat) if single else None
    if form is None or form not in self._seen_forms:
        outputs = preflight.build(self, source.head(1) if isinstance(source, data.Arrays) else source.head())
        preflight.examine(self, source, held_out, outputs, training)
        if form is not None:
            self._seen_forms.add(form)
    if held_out is not None:
        place(self, held_out)
    if training:
        preflight.check_weights(self)
    else:
        self.__dict__["_plan"] = step.Plan(self)


def place(self: Any, source: Any) -> None:
    """Lets batches be moved to the model's device, where the data lies elsewhere."""
    device = device_of(self)
    tensors = source.flat if isinstance(source, data.Arrays) else ()
    if device is not None and (
        any(t is not None and t.device != device for t in tensors) or (not tensors and device.type != "cpu")
    ):
        source.to(device)


def device_of(module: Any) -> torch.device | None:
    """Returns the device of the first weight, or None."""
    for weight in module._parameters.values():
        if weight is not None:
            return weight.device
    for child in module._modules.values():
        if child is not None:
            found = device_of(child)
            if found is not None:
                return found
    return None
