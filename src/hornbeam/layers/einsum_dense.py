"""A dense layer over any axes, described by an einsum equation."""

from __future__ import annotations

import math
import re
from typing import Any

import torch
import torch.nn.functional as F

from hornbeam import activations, constraints, initializers, regularizers
from hornbeam.core.input_spec import InputSpec
from hornbeam.core.layer import Layer
from hornbeam.core.registry import public

_EQUATION = re.compile(r"(\.\.\.)?([a-zA-Z]+)(\.\.\.)?,([a-zA-Z]+)->(\.\.\.)?([a-zA-Z]+)(\.\.\.)?")


@public("keras.layers.EinsumDense")
class EinsumDense(Layer):
    """A dense layer whose product is an einsum: `activation(einsum(equation, inputs, kernel) + bias)`.

    Args:
        equation: such as "ab,bc->ac", "...ab,bc->...ac" or "ab...,bc->ac...": axes of inputs, of the kernel, of the output.
        output_shape: sizes of the output's axes without the batch axis and without those of "..."; None for those of the input.
        activation: function by name or object; none unless given.
        bias_axes: letters of the output's axes along which a bias is added; no bias unless given.
        kernel_initializer, bias_initializer: by name or object.
        kernel_regularizer, bias_regularizer: penalties, by name or object.
        kernel_constraint, bias_constraint: projections after each update, by name or object.
        lora_rank, lora_alpha, gptq_unpacked_column_size, quantization_config: kept for Keras's signature.

    >>> EinsumDense("abc,cde->abde", output_shape=(None, 2, 4), bias_axes="de")(torch.ones(8, 5, 3)).shape
    torch.Size([8, 5, 2, 4])
    """

    config_exclude = (
        "lora_rank", "lora_alpha", "gptq_unpacked_column_size", *(n for n in Layer.config_exclude if n != "activity_regularizer"),
    )  # fmt: skip

    def __init__(
self, equation: str, output_shape: Any, activation: Any = None, bias_axes: str | None = None,
kernel_initializer: Any = "glorot_uniform", bias_initializer: Any = "zeros", kernel_regularizer: Any = None,
bias_regularizer: Any = None, kernel_constraint: Any = None, bias_constraint: Any = None, lora_rank: int | None = None,
lora_alpha: float | None = None, gptq_unpacked_column_size: int | None = None, quantization_config: Any = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(**kwargs)
        self.equation, self.bias_axes = equation, bias_axes
        self.output_shape = (output_shape,) if output_shape is None or isinstance(output_shape, int) else tuple(output_shape)
        self.activation = activations.get(activation)
        self.kernel_initializer, self.bias_initializer = initializers.get(kernel_initializer), initializers.get(bias_initializer)
        self.kernel_regularizer, self.bias_regularizer = regularizers.get(kernel_regularizer), regularizers.get(bias_regularizer)
        self.kernel_constraint, self.bias_constraint = constraints.get(kernel_constraint), constraints.get(bias_constraint)
        self.lora_rank, self.lora_alpha, self.quantization_config = lora_rank, lora_alpha, quantization_config
        self.gptq_unpacked_column_size = gptq_unpacked_column_size
        self._read_equation()

    def _read_equation(self) -> None:
        found = _EQUATION.fullmatch(self.equation.replace(" ", ""))
        left, x, right, kernel, out_left, out, out_right = (g or "" for g in found.groups()) if found else ("",) * 7
        if found is None or (left, right) != (out_left, out_right) or (left and right):
            raise self._wrong(
                "`equation` has the form 'ab,bc->ac', '...ab,bc->...ac' or 'ab...,bc->ac...'", f"equation={self.equation!r}"
            )
        self._x, self._kernel_axes, self._out, self._left, self._right = x, kernel, out, bool(left), bool(right)
        lost = [a for a in kernel if a not in x and a not in out]
        if lost:
            raise self._wrong(
                f"axis {lost[0]!r} of the kernel is neither in the inputs nor in the output", f"equation={self.equation!r}"
            )
        unknown = [a for a in self.bias_axes or () if a not in out]
        if unknown:
            raise self._wrong(f"axis {unknown[0]!r} of `bias_axes` is not in the output {out!r}", f"bias_axes={self.bias_axes!r}")
        named = out if self._left else out[1:]
        if len(named) != len(self.output_shape):
            raise self._wrong(f"`output_shape` needs a size (or None) for each of {named!r}", f"output_shape={self.output_shape}")
        self._sizes = dict(zip(named, self.output_shape, strict=True))
        self._summed = self._plainly_summed()

    def _wrong(self, rule: str, received: str) -> ValueError:
        return ValueError(f"EinsumDense layer {self.name!r}: {rule}. Received: {received}")

    def _declared_weights(self) -> tuple[str, ...]:
        return ("kernel",) if self.bias_axes is None else ("kernel", "bias")

    def build(self, input_shape: Any) -> None:
        """Makes the kernel, with the axes that the equation says, and the bias."""
        sizes, elided = self._measure(tuple(input_shape))
        self.kernel = self.add_weight(
            self._fixed(self._kernel_axes, sizes, input_shape), self._with_fans(self.kernel_initializer),
            regularizer=self.kernel_regularizer, constraint=self.kernel_constraint, name="kernel",
        )  # fmt: skip
        if self.bias_axes is None:
            self.bias = None
        else:
            first = min(self._out.index(a) for a in self.bias_axes)
            own = {a: size if a in self.bias_axes else 1 for a, size in sizes.items()}
            shape = self._fixed(self._out[first:], own, input_shape) + (1,) * (len(elided) if self._right else 0)
            self.bias = self.add_weight(
                shape, self.bias_initializer, regularizer=self.bias_regularizer, constraint=self.bias_constraint, name="bias"
            )
        start = -len(self._x) if self._left else 0
        axes = {start + i: sizes[a] for i, a in enumerate(self._x) if a in self._kernel_axes}
        self.input_spec = InputSpec(ndim=len(input_shape), axes=axes)

    def _measure(self, input_shape: tuple[int | None, ...]) -> tuple[dict[str, int | None], tuple[int | None, ...]]:
        """Returns the size of each letter, and the sizes that "..." stands for."""
        named = len(self._x)
        if len(input_shape) < named or (len(input_shape) != named and not (self._left or self._right)):
            raise self._wrong(f"the equation {self.equation!r} needs inputs of rank {named}", f"input shape {input_shape}")
        if self._left:
            letters, elided = input_shape[-named:], input_shape[:-named]
        else:
            letters, elided = input_shape[:named], input_shape[named:]
        sizes = dict(zip(self._x, letters, strict=True))
        for axis, size in self._sizes.items():
            known = sizes.get(axis)
            if known is not None and size is not None and known != size:
                raise self._wrong(f"axis {axis!r} has size {known} before and {size} in the output", f"input shape {input_shape}")
            sizes[axis] = size if known is None else known
        return sizes, elided

    def _fixed(self, letters: str, sizes: dict[str, int | None], input_shape: Any) -> tuple[int, ...]:
        found = [sizes.get(a) for a in letters]
        if None in found:
            raise self._wrong(
                f"axis {letters[found.index(None)]!r} of a weight needs a known size, in the inputs or in `output_shape`",
                f"input shape {tuple(input_shape)}, output_shape={self.output_shape}",
            )
        return tuple(size for size in found if size is not None)

    def _with_fans(self, initializer: Any) -> Any:
        """An initializer that scales by the number of inputs is told which axes of the kernel are summed over."""
        config = initializer.get_config() if hasattr(initializer, "get_config") else {}
        if "input_axes" not in config or config["input_axes"] is not None or config["output_axes"] is not None:
            return initializer
        summed = [i for i, a in enumerate(self._kernel_axes) if a in self._x and a not in self._out]
        made = [i for i, a in enumerate(self._kernel_axes) if a in self._out and a not in self._x]
        return type(initializer).from_config({**config, "input_axes": summed, "output_axes": made})

    def call(self, inputs: torch.Tensor, training: bool | None = None) -> torch.Tensor:
        """Returns `activation(einsum(equation, inputs, kernel) + bias)`."""
        if self._summed:
            y = self._as_linear(inputs, self._summed)
        else:
            y = torch.einsum(self.equation, inputs, self.kernel)
            if self.bias is not None:
                y = y + self.bias
        return y if self.activation in (None, activations.linear) else self.activation(y)

    def _plainly_summed(self) -> int:
        """How many axes a matrix product sums over, last in the inputs and first in the kernel; 0 where none does the work."""
        common = [a for a in self._kernel_axes if a in self._x]
        n = len(common)
        made = self._kernel_axes[n:]
        plain = 0 < n < len(self._kernel_axes) and self._x[-n:] == self._kernel_axes[:n] and self._out == self._x[:-n] + made
        return n if plain and not self._right and self.bias_axes in (None, made) else 0

    def _as_linear(self, inputs: torch.Tensor, summed: int) -> torch.Tensor:
        kernel, bias = self.kernel, self.bias
        made = kernel.shape[summed:]
        matrix = kernel.reshape(math.prod(kernel.shape[:summed]), math.prod(made))
        y = F.linear(inputs.flatten(-summed), matrix.t(), None if bias is None else bias.flatten())
        return y if len(made) == 1 else y.unflatten(-1, made)

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        """Returns the sizes of the output's axes."""
        sizes, elided = self._measure(tuple(input_shape))
        named = tuple(sizes.get(a) for a in self._out)
        return (*elided, *named) if self._left else (*named, *elided)
