"""Transposed convolutions over one, two and three axes: the gradient of a convolution, used to enlarge."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from hornbeam.core.registry import public
from hornbeam.layers.convolution import BaseConv
from hornbeam.layers.spatial import kernel_view, layer_view, two_axes

_TRANSPOSED = {2: F.conv_transpose2d, 3: F.conv_transpose3d}


class BaseConvTranspose(BaseConv):
    """A transposed convolution over `rank` axes; `Conv2DTranspose` says what the arguments are."""

    config_exclude = ("groups", *BaseConv.config_exclude)

    def __init__(
        self, filters: int, kernel_size: Any, strides: Any = 1, padding: str = "valid", output_padding: Any = None,
        data_format: str | None = None, dilation_rate: Any = 1, activation: Any = None, use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform", bias_initializer: Any = "zeros", kernel_regularizer: Any = None,
        bias_regularizer: Any = None, activity_regularizer: Any = None, kernel_constraint: Any = None,
        bias_constraint: Any = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(
            filters, kernel_size, strides, padding, data_format, dilation_rate, 1, activation, use_bias, kernel_initializer,
            bias_initializer, kernel_regularizer, bias_regularizer, activity_regularizer, kernel_constraint, bias_constraint,
            **kwargs,
        )  # fmt: skip
        self.output_padding = None if output_padding is None else self._per_axis("output_padding", output_padding, least=0)
        if self.output_padding is not None and any(p >= s for p, s in zip(self.output_padding, self.strides, strict=True)):
            raise ValueError(
                f"{self._title()}: `output_padding` must be below `strides`. "
                f"Received: output_padding={self.output_padding}, strides={self.strides}"
            )

    def _kernel_shape(self, channels: int) -> tuple[int, ...]:
        return (*self.kernel_size, self.filters, channels)

    def _windows(self) -> tuple[int, ...]:
        return tuple((k - 1) * d + 1 for k, d in zip(self.kernel_size, self.dilation_rate, strict=True))

    def _surplus(self) -> list[int]:
        """How much longer than the output the sum of all shifted windows is, for each axis; the same for every size."""
        windows, extra = self._windows(), self.output_padding
        if extra is None:
            kept = [max(w, s) if self.padding == "valid" else s for w, s in zip(windows, self.strides, strict=True)]
            return [w - k for w, k in zip(windows, kept, strict=True)]
        return [(2 * (w // 2) if self.padding == "same" else 0) - e for w, e in zip(windows, extra, strict=True)]

    def call(self, inputs: torch.Tensor) -> torch.Tensor:
        """Returns the input spread by the kernel."""
        last, weight = self._channels_last, self.kernel.permute(self.rank + 1, self.rank, *range(self.rank))
        x = inputs if inputs.is_floating_point() else inputs.to(weight.dtype)
        surplus, strides, dilation = two_axes(tuple(self._surplus()), 0), two_axes(self.strides), two_axes(self.dilation_rate)
        if self.rank == 1:
            weight = weight.unsqueeze(2)
        before = [max(s, 0) // 2 for s in surplus]
        missing = [max(2 * b - s, 0) for b, s in zip(before, surplus, strict=True)]
        within = all(m < max(s, d) for m, s, d in zip(missing, strides, dilation, strict=True))
        added = missing if within else [0] * len(missing)
        y = _TRANSPOSED[len(strides)](kernel_view(x, last), weight, self.bias, strides, before, added, 1, dilation)
        for axis, (b, s) in enumerate(zip(before, surplus, strict=True)):
            if s > 2 * b:
                y = y.narrow(axis + 2, 0, y.shape[axis + 2] - (s - 2 * b))
        return self._activated(layer_view(y, self.rank, last))

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        """Returns the shape with the new spatial sizes and channels; None where the input's size is None."""
        windows = self._windows()
        spatial = zip(self._sizes(input_shape), self.strides, windows, self._surplus(), strict=True)
        sizes = [None if size is None else (size - 1) * stride + window - surplus for size, stride, window, surplus in spatial]
        return self._shape(input_shape[0], self._checked_sizes(sizes, input_shape, windows), self.filters)


@public("keras.layers.Conv1DTranspose")
class Conv1DTranspose(BaseConvTranspose):
    """A transposed convolution over one axis.

    Args: as `Conv2DTranspose` has them.

    Input shape: `(batch, steps, channels)`. Output shape: `(batch, new_steps, filters)`.

    >>> Conv1DTranspose(4, 3, strides=2)(torch.ones(2, 10, 8)).shape
    torch.Size([2, 21, 4])
    """

    rank = 1


@public("keras.layers.Conv2DTranspose")
class Conv2DTranspose(BaseConvTranspose):
    """A transposed convolution over two axes: each input point adds its multiple of the kernel to the output.

    Args:
        filters: number of channels that come out.
        kernel_size: size of the window, one integer or one for each axis.
        strides: steps in the output for one step in the input, one integer or one for each axis.
        padding: "valid" keeps the whole sum of the windows; "same" cuts it to `size * stride`.
        output_padding: points added at the end of each axis, below `strides`; by default the sizes follow from `padding`.
        data_format: "channels_last" or "channels_first"; `config.image_data_format()` unless given.
        dilation_rate: distance between the points of a window, one integer or one for each axis.
        activation: function by name or object; none unless given.
        use_bias: whether a bias is added.
        kernel_initializer, bias_initializer: by name or object.
        kernel_regularizer, bias_regularizer, activity_regularizer: penalties, by name or object.
        kernel_constraint, bias_constraint: projections after each update, by name or object.

    Input shape: `(batch, height, width, channels)`. Output shape: `(batch, new_height, new_width, filters)`.

    >>> Conv2DTranspose(4, 3, strides=2, padding="same")(torch.ones(2, 7, 7, 8)).shape
    torch.Size([2, 14, 14, 4])
    """

    rank = 2


@public("keras.layers.Conv3DTranspose")
class Conv3DTranspose(BaseConvTranspose):
    """A transposed convolution over three axes.

    Args: as `Conv2DTranspose` has them; `data_format` stands before `output_padding` here.

    Input shape: `(batch, depth, height, width, channels)`. Output shape: the same with new sizes and `filters` channels.

    >>> Conv3DTranspose(2, 2, strides=2)(torch.ones(1, 3, 3, 3, 4)).shape
    torch.Size([1, 6, 6, 6, 2])
    """

    rank = 3

    def __init__(
        self, filters: int, kernel_size: Any, strides: Any = 1, padding: str = "valid", data_format: str | None = None,
        output_padding: Any = None, dilation_rate: Any = 1, activation: Any = None, use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform", bias_initializer: Any = "zeros", kernel_regularizer: Any = None,
        bias_regularizer: Any = None, activity_regularizer: Any = None, kernel_constraint: Any = None,
        bias_constraint: Any = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(
            filters, kernel_size, strides, padding, output_padding, data_format, dilation_rate, activation, use_bias,
            kernel_initializer, bias_initializer, kernel_regularizer, bias_regularizer, activity_regularizer, kernel_constraint,
            bias_constraint, **kwargs,
        )  # fmt: skip


Convolution1DTranspose, Convolution2DTranspose, Convolution3DTranspose = Conv1DTranspose, Conv2DTranspose, Conv3DTranspose
