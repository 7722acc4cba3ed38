"""Embedding: a table of vectors, one for each integer."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from hornbeam import constraints, initializers, regularizers
from hornbeam.core.layer import Layer
from hornbeam.core.registry import public

_EXACT = {torch.bfloat16: 256, torch.float16: 2048}  # up to where these types hold every integer


@public("keras.layers.Embedding")
class Embedding(Layer):
    """Turns integers into vectors: row `i` of a table for the integer `i`.

    Args:
        input_dim: number of rows: the largest integer + 1.
        output_dim: length of a row.
        embeddings_initializer, embeddings_regularizer, embeddings_constraint: for the table, by name or object.
        mask_zero: whether 0 stands for padding, which later layers are told to pass over.
        weights: list of one array `(input_dim, output_dim)`, the table to begin with.
        quantization_config: kept for Keras's signature.
        input_length: kept for older code; the length follows from the input.

    Input shape: `(batch, ...)`, integers. Output shape: `(batch, ..., output_dim)`.

    >>> Embedding(100, 8)(torch.tensor([[1, 2, 3]])).shape
    torch.Size([1, 3, 8])
    """

    config_exclude = ("weights", "lora_rank", "lora_alpha", "input_length", "autocast")
    _takes_ids = "int32"

    def __init__(
        self, input_dim: int, output_dim: int, embeddings_initializer: Any = "uniform", embeddings_regularizer: Any = None,
        embeddings_constraint: Any = None, mask_zero: bool = False, weights: Any = None, lora_rank: int | None = None,
        lora_alpha: int | None = None, quantization_config: Any = None, input_length: int | None = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(**{"autocast": False, **kwargs})
        for name, value in (("input_dim", input_dim), ("output_dim", output_dim)):
            if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
                raise ValueError(
                    f"Embedding layer {self.name!r}: `{name}` must be a positive integer. Received: {name}={value!r}"
                )
        self.input_dim, self.output_dim, self.mask_zero, self.quantization_config = (
            input_dim,
            output_dim,
            mask_zero,
            quantization_config,
        )
        self.embeddings_initializer = initializers.get(embeddings_initializer)
        self.embeddings_regularizer, self.embeddings_constraint = (
            regularizers.get(embeddings_regularizer),
            constraints.get(embeddings_constraint),
        )
        self.supports_masking = mask_zero
        self.__dict__["_makes_mask"] = bool(mask_zero) or type(self).compute_mask is not Embedding.compute_mask
        if weights is not None:
            self.build()
            self.set_weights(weights if isinstance(weights, (list, tuple)) else [weights])

    @property
    def input_dtype(self) -> str:
        """The dtype of what comes in: integers."""
        return self._takes_ids

    def _declared_weights(self) -> tuple[str, ...]:
        return ("embeddings",)

    def build(self, input_shape: Any = None) -> None:
        """Makes the table `(input_dim, output_dim)`."""
        self.embeddings = self.add_weight(
            (self.input_dim, self.output_dim), self.embeddings_initializer, regularizer=self.embeddings_regularizer,
            constraint=self.embeddings_constraint, autocast=False, name="embeddings",
        )  # fmt: skip

    def call(self, inputs: torch.Tensor) -> torch.Tensor:
        """Returns the rows for the integers."""
        exact = _EXACT.get(inputs.dtype)
        if exact is not None and self.input_dim - 1 > exact:
            raise TypeError(
                f"Embedding layer {self.name!r} has {self.input_dim} rows, and its input comes as {str(inputs.dtype)[6:]}, which "
                f"holds integers exactly only up to {exact}. Pass integers, or keep them in float32."
            )
        ids = inputs if inputs.dtype in (torch.int32, torch.int64) else inputs.to(torch.int64)
        try:
            rows = F.embedding(ids, self.embeddings)
        except IndexError:
            raise IndexError(
                f"Embedding layer {self.name!r} has input_dim={self.input_dim} rows, "
                f"so it takes integers from 0 to {self.input_dim - 1}. "
                f"Received: integers from {int(ids.min())} to {int(ids.max())}."
            ) from None
        return rows.to(self._compute)

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """Returns where the input is not 0, with `mask_zero`."""
        return torch.ne(inputs, 0) if self.mask_zero else None

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        """Returns the input's shape with `output_dim` as a further axis."""
        return (*tuple(input_shape), self.output_dim)
