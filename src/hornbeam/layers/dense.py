"""Fully connected layers."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from hornbeam import activations, constraints, initializers, regularizers
from hornbeam.core.errors import bad_argument
from hornbeam.core.input_spec import InputSpec
from hornbeam.core.layer import Layer
from hornbeam.core.registry import public
from hornbeam.core.weights import Variable


@public("keras.layers.Dense")
class Dense(Layer):
    """A fully connected layer: `activation(inputs @ kernel + bias)`, on the last axis.

    Args:
        units: number of features that come out.
        activation: function by name or object; none unless given.
        use_bias: whether a bias is added.
        kernel_initializer, bias_initializer: by name or object.
        kernel_regularizer, bias_regularizer, activity_regularizer: penalties, by name or object.
        kernel_constraint, bias_constraint: projections after each update, by name or object.
        quantization_config: kept for Keras's signature.

    Input shape: `(batch, ..., features)`. Output shape: `(batch, ..., units)`.

    >>> Dense(4, activation="relu")(torch.ones(2, 3)).shape
    torch.Size([2, 4])
    """

    config_exclude = ("lora_rank", "lora_alpha", *Layer.config_exclude)

    def __init__(
        self, units: int, activation: Any = None, use_bias: bool = True, kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros", kernel_regularizer: Any = None, bias_regularizer: Any = None,
        activity_regularizer: Any = None, kernel_constraint: Any = None, bias_constraint: Any = None,
        lora_rank: int | None = None, lora_alpha: int | None = None, quantization_config: Any = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        if isinstance(units, bool) or not isinstance(units, int) or units <= 0:
            raise bad_argument(self, "units", "a positive integer", units)
        self.units, self.use_bias, self.quantization_config = units, use_bias, quantization_config
        self.activation = activations.get(activation)
        self.kernel_initializer, self.bias_initializer = initializers.get(kernel_initializer), initializers.get(bias_initializer)
        self.kernel_regularizer, self.bias_regularizer = regularizers.get(kernel_regularizer), regularizers.get(bias_regularizer)
        self.kernel_constraint, self.bias_constraint = constraints.get(kernel_constraint), constraints.get(bias_constraint)
        self.lora_rank, self.lora_alpha = lora_rank, lora_alpha
        self.input_spec = InputSpec(min_ndim=2)
        self.supports_masking = True

    def _declared_weights(self) -> tuple[str, ...]:
        return ("kernel", "bias") if self.use_bias else ("kernel",)

    def build(self, input_shape: Any) -> None:
        """Makes kernel `(features, units)` and bias `(units,)`."""
        features = input_shape[-1]
        if features is None:
            raise ValueError(f"Dense layer {self.name!r} needs a known last axis. Received: input shape {tuple(input_shape)}.")
        self.kernel = self.add_weight(
            (features, self.units), self.kernel_initializer, name="kernel",
            regularizer=self.kernel_regularizer, constraint=self.kernel_constraint,
        )  # fmt: skip
        if self.use_bias:
            self.bias: Variable | None = self.add_weight(
                (self.units,), self.bias_initializer, name="bias",
                regularizer=self.bias_regularizer, constraint=self.bias_constraint,
            )  # fmt: skip
        else:
            self.bias = None
        self.input_spec = InputSpec(min_ndim=2, axes={-1: features})

    def call(self, inputs: torch.Tensor, training: bool | None = None) -> torch.Tensor:
        """Returns `activation(inputs @ kernel + bias)`."""
        bias = self.bias
        if not (inputs.is_floating_point() or inputs.is_complex()):
            inputs = inputs.to(self.kernel.dtype)
        if bias is None:
            y = inputs @ self.kernel
        elif inputs.dim() == 2:
            y = torch.addmm(bias, inputs, self.kernel)
        else:
            y = F.linear(inputs, self.kernel.t(), bias)
        return y if self.activation in (None, activations.linear) else self.activation(y)

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        """Returns the input's shape with `units` on the last axis."""
        return (*tuple(input_shape)[:-1], self.units)

    def _remedy(self, shape: tuple[int | None, ...]) -> str:
        if len(shape) < 2:
            return f" Add a batch axis: shape (1, {shape[0] if shape else '...'}), for example by x[None]."
        if len(shape) > 2 and self.built:
            return " Is a Flatten or a pooling layer missing before it?"
        return ""
