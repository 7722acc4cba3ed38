"""Spectral normalization: a wrapper that keeps a layer's kernel at spectral norm 1 in training."""

from __future__ import annotations

from typing import Any

import torch

from hornbeam import initializers
from hornbeam.core.calls import in_compute_dtype
from hornbeam.core.input_spec import InputSpec
from hornbeam.core.layer import Layer
from hornbeam.core.registry import public
from hornbeam.graph.context import context
from hornbeam.layers.wrappers import Wrapper


@public("keras.layers.SpectralNormalization")
class SpectralNormalization(Wrapper):
    """Divides a layer's kernel by its largest singular value at each call in training (Miyato et al., 2018).

    Args:
        layer: the layer inside, with a `kernel` or `embeddings`.
        power_iterations: number of steps by which the singular vector follows the kernel at each call.

    >>> from hornbeam.layers.dense import Dense
    >>> layer = SpectralNormalization(Dense(3), power_iterations=20)
    >>> _ = layer(torch.ones(2, 4), training=True)
    >>> torch.linalg.matrix_norm(layer.layer.kernel, 2).round(decimals=2).item()
    1.0
    """

    def __init__(self, layer: Layer, power_iterations: int = 1, **kwargs: Any) -> None:
        super().__init__(layer, **kwargs)
        if isinstance(power_iterations, bool) or not isinstance(power_iterations, int) or power_iterations <= 0:
            raise ValueError(
                f"SpectralNormalization layer {self.name!r}: `power_iterations` must be a positive integer. "
                f"Received: power_iterations={power_iterations!r}"
            )
        self.power_iterations = power_iterations

    def build(self, input_shape: Any = None) -> None:
        """Builds the layer inside and makes the vector `vector_u`."""
        super().build(input_shape)
        self.input_spec = InputSpec(shape=[None, *tuple(input_shape)[1:]])
        kernel = getattr(self.layer, self._kernel_name())
        self.vector_u = self.add_weight(
            (1, kernel.shape[-1]),
            initializers.TruncatedNormal(stddev=0.02),
            trainable=False,
            autocast=False,
            dtype=kernel.dtype,
            name="vector_u",
        )

    def _kernel_name(self) -> str:
        for name in ("kernel", "embeddings"):
            if isinstance(getattr(self.layer, name, None), torch.Tensor):
                return name
        raise ValueError(
            f"SpectralNormalization layer {self.name!r} needs a layer with a `kernel` or `embeddings`. "
            f"Received: {self.layer.name!r} ({type(self.layer).__name__})."
        )

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Normalizes the kernel, in training, and calls the layer inside."""
        if training and not context.scratch:
            self._normalize(self.layer._parameters[self._kernel_name()])  # type: ignore[arg-type]
        return in_compute_dtype(self, self.layer(inputs, training=training))

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Returns the shape that the layer inside returns."""
        return self.layer.compute_output_shape(input_shape)

    @torch.no_grad()
    def _normalize(self, kernel: torch.Tensor) -> None:
        matrix = kernel.reshape(-1, kernel.shape[-1])
        u: torch.Tensor = self.vector_u
        for _ in range(self.power_iterations):
            v = torch.nn.functional.normalize(u @ matrix.t(), dim=1, eps=1e-6)
            u = torch.nn.functional.normalize(v @ matrix, dim=1, eps=1e-6)
        self.vector_u.assign(u)
        kernel.div_(v @ matrix @ u.t())
