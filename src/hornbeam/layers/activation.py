"""Activations as layers."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from hornbeam import activations, constraints, initializers, regularizers
from hornbeam.core.errors import bad_argument
from hornbeam.core.input_spec import InputSpec
from hornbeam.core.layer import Layer
from hornbeam.core.registry import public


class _Elementwise(Layer):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True

    def _not_negative(self, **values: Any) -> None:
        for name, value in values.items():
            if not isinstance(value, (int, float)) or value < 0:
                raise bad_argument(self, name, "a number, 0 or more", value)


@public("keras.layers.Activation")
class Activation(_Elementwise):
    """An activation function by name or object.

    Args:
        activation: name, function or layer; None for none.

    >>> Activation("relu")(torch.tensor([-1.0, 2.0])).tolist()
    [0.0, 2.0]
    """

    def __init__(self, activation: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.activation = activations.get(activation)

    def call(self, inputs: torch.Tensor) -> torch.Tensor:
        """Returns `activation(inputs)`."""
        return self.activation(inputs)


@public("keras.layers.ReLU")
class ReLU(_Elementwise):
    """`x` above a threshold, else `negative_slope * (x - threshold)`, and never above `max_value`.

    Args:
        max_value: the largest output; None for no bound.
        negative_slope: slope below the threshold.
        threshold: where the function bends.

    >>> ReLU(max_value=6)(torch.tensor([-1.0, 2.0, 8.0])).tolist()
    [0.0, 2.0, 6.0]
    """

    def __init__(
        self, max_value: float | None = None, negative_slope: float = 0.0, threshold: float = 0.0, **kwargs: Any
    ) -> None:  # fmt: skip
        super().__init__(**kwargs)
        self._not_negative(negative_slope=negative_slope, threshold=threshold, max_value=0 if max_value is None else max_value)
        self.max_value, self.negative_slope, self.threshold = max_value, negative_slope, threshold

    def call(self, inputs: torch.Tensor) -> torch.Tensor:
        """Returns the rectified inputs."""
        return activations.relu(inputs, self.negative_slope, self.max_value, self.threshold)


@public("keras.layers.LeakyReLU")
class LeakyReLU(_Elementwise):
    """`x` where it is positive, else `negative_slope * x`.

    Args:
        negative_slope: slope below 0. `alpha`, its older name, is understood too.

    >>> LeakyReLU(0.5)(torch.tensor([-1.0, 2.0])).tolist()
    [-0.5, 2.0]
    """

    def __init__(self, negative_slope: float = 0.3, **kwargs: Any) -> None:
        negative_slope = kwargs.pop("alpha", negative_slope)
        super().__init__(**kwargs)
        self._not_negative(negative_slope=negative_slope)
        self.negative_slope = negative_slope

    def call(self, inputs: torch.Tensor) -> torch.Tensor:
        """Returns the rectified inputs."""
        return F.leaky_relu(inputs, self.negative_slope)


@public("keras.layers.PReLU")
class PReLU(_Elementwise):
    """`x` where it is positive, else `alpha * x` with an `alpha` that is learned.

    Args:
        alpha_initializer, alpha_regularizer, alpha_constraint: by name or object.
        shared_axes: axes (counting the batch as 0) along which one `alpha` is shared, such as `[1, 2]` for images.

    Formula from He et al. 2015, "Delving deep into rectifiers".

    >>> PReLU(shared_axes=[1, 2])(torch.ones(1, 8, 8, 3)).shape
    torch.Size([1, 8, 8, 3])
    """

    def __init__(
        self, alpha_initializer: Any = "Zeros", alpha_regularizer: Any = None, alpha_constraint: Any = None,
        shared_axes: Any = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(**kwargs)
        self.alpha_initializer = initializers.get(alpha_initializer)
        self.alpha_regularizer, self.alpha_constraint = regularizers.get(alpha_regularizer), constraints.get(alpha_constraint)
        self.shared_axes = None if shared_axes is None else [shared_axes] if isinstance(shared_axes, int) else list(shared_axes)

    def _declared_weights(self) -> tuple[str, ...]:
        return ("alpha",)

    def build(self, input_shape: Any) -> None:
        """Makes alpha, of the shape of a sample with size 1 on shared axes."""
        rank = len(input_shape)
        if not all(-rank < a < rank and a != 0 for a in self.shared_axes or ()):
            raise bad_argument(self, "shared_axes", f"axes behind the batch of shape {tuple(input_shape)}", self.shared_axes)
        shared = {a % rank for a in self.shared_axes or ()}
        sizes = {axis: size for axis, size in enumerate(input_shape) if axis and axis not in shared}
        unknown = [axis for axis, size in sizes.items() if size is None]
        if unknown:
            raise ValueError(
                f"PReLU layer {self.name!r} has an alpha for each place, so it needs known sizes. Share them along unknown axes: "
                f"shared_axes={sorted(shared | set(unknown))}. Received: input shape {tuple(input_shape)}"
            )
        self.alpha = self.add_weight(
            tuple(sizes.get(axis, 1) for axis in range(1, rank)), self.alpha_initializer,
            regularizer=self.alpha_regularizer, constraint=self.alpha_constraint, name="alpha",
        )  # fmt: skip
        self.input_spec = InputSpec(ndim=rank, axes=sizes)

    def call(self, inputs: torch.Tensor) -> torch.Tensor:
        """Returns the rectified inputs."""
        return torch.relu(inputs) - self.alpha * torch.relu(-inputs)


@public("keras.layers.ELU")
class ELU(_Elementwise):
    """`x` where it is positive, else `alpha * (exp(x) - 1)`.

    Args:
        alpha: the scale below 0.

    Formula from Clevert et al. 2016, "Fast and accurate deep network learning by exponential linear units".

    >>> ELU()(torch.tensor([0.0, 2.0])).tolist()
    [0.0, 2.0]
    """

    def __init__(self, alpha: float = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.alpha = alpha

    def call(self, inputs: torch.Tensor) -> torch.Tensor:
        """Returns the activated inputs."""
        return F.elu(inputs, self.alpha)


@public("keras.layers.Softmax")
class Softmax(_Elementwise):
    """`exp(x)` scaled to sum 1 along an axis.

    Args:
        axis: the axis, or a list of axes over which the sum runs.

    Call arguments:
        inputs: scores of any shape.
        mask: booleans that broadcast with the inputs; where False, the output is 0.

    >>> Softmax()(torch.zeros(1, 4)).tolist()
    [[0.25, 0.25, 0.25, 0.25]]
    """

    def __init__(self, axis: Any = -1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.axis = axis

    def call(self, inputs: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """Returns the probabilities."""
        if mask is None:
            return self._softmax(inputs)
        keep = _on_positions(mask, inputs).to(torch.bool)
        return self._softmax(inputs.masked_fill(~keep, torch.finfo(inputs.dtype).min)) * keep

    def _softmax(self, x: torch.Tensor) -> torch.Tensor:
        if isinstance(self.axis, int):
            return torch.softmax(x, self.axis)
        axes = tuple(self.axis)
        return torch.softmax(x, axes[0]) if len(axes) == 1 else torch.exp(x - torch.logsumexp(x, axes, keepdim=True))


def _on_positions(mask: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
    """A mask of the leading axes (of time steps) gets trailing axes, unless it broadcasts from behind."""
    if mask.dim() >= inputs.dim() or mask.shape[-1] in (1, inputs.shape[-1]):
        return mask
    return mask[(..., *(None,) * (inputs.dim() - mask.dim()))]
