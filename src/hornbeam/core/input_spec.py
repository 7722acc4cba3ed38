"""What a layer expects of its inputs, checked at each call."""

from __future__ import annotations

from typing import Any

import torch

from hornbeam.core.init_args import Configurable
from hornbeam.core.registry import public

_tracing = torch._C._get_tracing_state  # sizes are tensors while torch.jit.trace runs: a check would be traced too


@public("keras.InputSpec")
class InputSpec(Configurable):
    """Rank, sizes and dtype that one input of a layer must have.

    Args:
        dtype: dtype name, or None for any.
        shape: full shape, None where an axis is free.
        ndim, max_ndim, min_ndim: the rank, or its bounds.
        axes: dict from axis to the size it must have.
        allow_last_axis_squeeze: whether a last axis of size 1 may be missing or surplus.
        name: key of the input where inputs come as a dict.
        optional: whether the input may be None.

    >>> InputSpec(min_ndim=2, axes={-1: 8}).axes
    {-1: 8}
    """

    def __init__(
        self,
        dtype: str | None = None,
        shape: Any = None,
        ndim: int | None = None,
        max_ndim: int | None = None,
        min_ndim: int | None = None,
        axes: dict[int, int | None] | None = None,
        allow_last_axis_squeeze: bool = False,
        name: str | None = None,
        optional: bool = False,
    ) -> None:
        self.dtype, self.shape, self.name, self.optional = dtype, None if shape is None else tuple(shape), name, optional
        self.ndim = len(self.shape) if self.shape is not None else ndim
        self.max_ndim, self.min_ndim, self.axes = max_ndim, min_ndim, axes or {}
        self.allow_last_axis_squeeze = allow_last_axis_squeeze

    def check(self, x: Any, layer: Any) -> None:
        """Raises a ValueError where the input `x` of `layer` does not fit."""
        if _tracing() is not None:
            return
        shape = x.shape
        rank = len(shape)
        if self.ndim is not None and rank != self.ndim and not self.allow_last_axis_squeeze:
            raise misfit(layer, f"an input of rank {self.ndim}", x)
        if self.min_ndim is not None and rank < self.min_ndim:
            raise misfit(layer, f"an input of rank {self.min_ndim} or more", x)
        if self.max_ndim is not None and rank > self.max_ndim:
            raise misfit(layer, f"an input of rank {self.max_ndim} or less", x)
        for axis, size in self.axes.items():
            if size is not None and shape[axis] is not None and shape[axis] != size:
                raise misfit(layer, f"size {size} on axis {axis}", x)
        if self.shape is not None:
            for wanted, size in zip(self.shape, shape, strict=False):
                if wanted is not None and size is not None and wanted != size:
                    raise misfit(layer, f"an input of shape {self.shape}", x)


def misfit(layer: Any, expected: str, x: Any) -> ValueError:
    """Returns the error for an input that does not fit a layer, with the likely remedy."""
    shape = tuple(x.shape)
    built = f" (it was built for inputs of shape {layer._build_shapes})" if layer._build_shapes else ""
    return ValueError(
        f"Layer {layer.name!r} ({type(layer).__name__}) expects {expected}, but its input has shape {shape}{built}."
        f"{layer._remedy(shape)}"
    )


def _not_one(layer: Any, inputs: Any) -> ValueError:
    if isinstance(inputs, dict):
        named = ", ".join(map(repr, inputs))
        hint = f"with keys {named}. Pass one of them, such as x[{next(iter(inputs), 'key')!r}], or join them by Concatenate()."
        return ValueError(f"Layer {layer.name!r} ({type(layer).__name__}) expects one tensor, but it was given a dict {hint}")
    return ValueError(
        f"Layer {layer.name!r} ({type(layer).__name__}) expects 1 input(s), but it was given {len(inputs)} in a "
        f"{type(inputs).__name__}. Join them first by Concatenate() or Add(), or call the layer on each."
    )


def check_inputs(spec: Any, inputs: Any, layer: Any) -> None:
    """Checks a layer's inputs against its `input_spec`, one spec or a nest of them."""
    if _tracing() is not None:
        return
    if isinstance(spec, InputSpec):
        if isinstance(inputs, (list, tuple, dict)) and (len(inputs) != 1 or isinstance(inputs, dict)):
            raise _not_one(layer, inputs)
        specs, given = [spec], [inputs] if not isinstance(inputs, (list, tuple)) else list(inputs)
    elif isinstance(spec, dict):
        specs, given = list(spec.values()), [inputs[k] for k in spec] if isinstance(inputs, dict) else [inputs]
    else:
        specs = list(spec)
        given = (
            list(inputs) if isinstance(inputs, (list, tuple)) else list(inputs.values()) if isinstance(inputs, dict) else [inputs]
        )
    if len(specs) != len(given):
        raise ValueError(
            f"Layer {layer.name!r} ({type(layer).__name__}) expects {len(specs)} input(s), but it was given {len(given)}."
        )
    for one, x in zip(specs, given, strict=True):
        if one is not None and hasattr(x, "shape"):
            one.check(x, layer)
