"""Layers that give values another shape or order."""

from __future__ import annotations

import math
from typing import Any

import torch

from hornbeam.core.calls import kept_dtype
from hornbeam.core.errors import bad_argument
from hornbeam.core.input_spec import InputSpec
from hornbeam.core.layer import Layer
from hornbeam.core.registry import public
from hornbeam.core.settings import standardize_data_format


def positive(layer: Layer, name: str, value: Any) -> int:
    """Returns a layer's argument, checked to be a positive integer."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise bad_argument(layer, name, "a positive integer", value, TypeError)
    if value <= 0:
        raise bad_argument(layer, name, "a positive integer", value)
    return value


@public("keras.layers.Flatten")
class Flatten(Layer):
    """All axes but the batch in one; `(batch,)` becomes `(batch, 1)`.

    Args:
        data_format: "channels_last" or "channels_first"; with the latter, channels are moved last before.

    >>> Flatten()(torch.ones(2, 3, 4)).shape
    torch.Size([2, 12])
    """

    def __init__(self, data_format: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.data_format = standardize_data_format(data_format)
        self.input_spec = InputSpec(min_ndim=1)

    def call(self, inputs: torch.Tensor) -> torch.Tensor:
        """Returns the inputs with shape `(batch, features)`."""
        if inputs.dim() == 1:
            return inputs.unsqueeze(1)
        if self.data_format == "channels_first" and inputs.dim() > 2:
            inputs = inputs.movedim(1, -1)
        return inputs.flatten(1)


@public("keras.layers.Reshape")
class Reshape(Layer):
    """Another shape for each sample.

    Args:
        target_shape: tuple of sizes without the batch axis; one of them may be -1, for what is left.

    >>> Reshape((2, -1))(torch.ones(5, 6)).shape
    torch.Size([5, 2, 3])
    """

    def __init__(self, target_shape: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not isinstance(target_shape, (tuple, list)):
            raise bad_argument(self, "target_shape", "a tuple of sizes without the batch, such as (3,)", target_shape, TypeError)
        if not all(isinstance(d, int) and d >= -1 for d in target_shape) or list(target_shape).count(-1) > 1:
            raise bad_argument(self, "target_shape", "a tuple of sizes, with -1 for at most one unknown size", target_shape)
        self.target_shape = tuple(target_shape)

    def build(self, input_shape: Any) -> None:
        """Checks that the sizes fit."""
        self.compute_output_shape(input_shape)

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        """Returns the target shape behind the batch axis, with the size for -1 where it is known."""
        sizes, target = tuple(input_shape)[1:], self.target_shape
        total = None if None in sizes else math.prod(sizes)
        known = math.prod(d for d in target if d != -1)
        if total is not None and (total != known if -1 not in target else known == 0 or total % known):
            raise ValueError(
                f"Reshape layer {self.name!r} cannot give samples of shape {sizes} ({total} values) the shape {target} "
                f"({'a multiple of ' if -1 in target else ''}{known} values). Received: input shape {tuple(input_shape)}."
            )
        rest = None if total is None or not known else total // known
        return (input_shape[0], *(rest if d == -1 else d for d in target))

    def call(self, inputs: torch.Tensor) -> torch.Tensor:
        """Returns the inputs in the new shape."""
        return inputs.reshape(inputs.shape[0], *self.target_shape)

    def _output_dtype(self, inputs: Any) -> str:
        return kept_dtype(self, inputs)


@public("keras.layers.Permute")
class Permute(Layer):
    """The axes behind the batch in another order.

    Args:
        dims: the order, counting from 1: `(2, 1)` swaps the two axes behind the batch.

    >>> Permute((2, 1))(torch.ones(5, 2, 3)).shape
    torch.Size([5, 3, 2])
    """

    def __init__(self, dims: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not isinstance(dims, (tuple, list)):
            raise bad_argument(self, "dims", "a tuple of axes, counting from 1", dims, TypeError)
        if sorted(dims) != list(range(1, len(dims) + 1)):
            raise bad_argument(self, "dims", f"a tuple that holds each of 1 to {len(dims)} once (axis 0, the batch, stays)", dims)
        self.dims = tuple(dims)
        self.input_spec = InputSpec(ndim=len(dims) + 1)

    def call(self, inputs: torch.Tensor) -> torch.Tensor:
        """Returns the inputs with permuted axes."""
        return inputs.permute(0, *self.dims)


@public("keras.layers.RepeatVector")
class RepeatVector(Layer):
    """Each sample's vector `n` times: `(batch, features)` becomes `(batch, n, features)`.

    Args:
        n: how often.

    >>> RepeatVector(3)(torch.ones(5, 2)).shape
    torch.Size([5, 3, 2])
    """

    def __init__(self, n: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.n = positive(self, "n", n)
        self.input_spec = InputSpec(ndim=2)

    def call(self, inputs: torch.Tensor) -> torch.Tensor:
        """Returns the repeated vectors."""
        return inputs.unsqueeze(1).repeat(1, self.n, 1)
