"""Convolutions over one, two and three axes: full, depthwise and separable."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from hornbeam import activations, constraints, initializers, regularizers
from hornbeam.core.input_spec import InputSpec
from hornbeam.core.registry import public
from hornbeam.layers.spatial import KernelLayer, kernel_view, layer_view, output_size, pad_axes, same_padding, two_axes

_CONVOLUTIONS = {2: F.conv2d, 3: F.conv3d}
_NONE = {1: (0,), 2: (0, 0), 3: (0, 0, 0)}


def convolve(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, strides: tuple[int, ...], padding: str,
    dilation: tuple[int, ...], groups: int, channels_last: bool,
) -> torch.Tensor:  # fmt: skip
    """Convolves a layer's tensor with a weight in torch's order `(out, in / groups, *spatial)`; the result lies as the input.

    Symmetric padding is left to the kernel; only uneven padding is made beforehand.
    """
    rank, around = len(strides), _NONE[len(strides)]
    if padding != "valid":
        x, around = _padded(x, tuple(weight.shape[2:]), strides, padding, dilation, channels_last)
    if not x.is_floating_point():
        x = x.to(weight.dtype)
    if rank == 1:
        weight, strides, around, dilation = weight.unsqueeze(2), two_axes(strides), two_axes(around, 0), two_axes(dilation)
    y = _CONVOLUTIONS[len(strides)](kernel_view(x, channels_last), weight, bias, strides, around, dilation, groups)
    return layer_view(y, rank, channels_last)


def _padded(
    x: torch.Tensor, size: tuple[int, ...], strides: tuple[int, ...], padding: str, dilation: tuple[int, ...], channels_last: bool
) -> tuple[torch.Tensor, tuple[Any, ...]]:
    """Returns the input, padded where padding is uneven, and what is left to the kernel on both sides."""
    rank = len(strides)
    added = [(k - 1) * d for k, d in zip(size, dilation, strict=True)]
    if padding == "same" and max(strides) == 1 and not any(a % 2 for a in added):
        return x, tuple([a // 2 for a in added])
    windows = [a + 1 for a in added]
    sizes = x.shape[1:-1] if channels_last else x.shape[2:]
    pads = [(added[0], 0)] if padding == "causal" else same_padding(sizes, windows, strides)
    if all(before == after for before, after in pads):
        return x, tuple(before for before, _ in pads)
    return pad_axes(x, pads, channels_last), _NONE[rank]


class BaseConv(KernelLayer):
    """A convolution over `rank` axes; `Conv2D` says what the arguments are."""

    config_exclude: tuple[str, ...] = ("autocast",)
    _paddings: tuple[str, ...] = ("valid", "same")
    _dilated_strides = False

    def __init__(
        self, filters: int | None, kernel_size: Any, strides: Any = 1, padding: str = "valid", data_format: str | None = None,
        dilation_rate: Any = 1, groups: int = 1, activation: Any = None, use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform", bias_initializer: Any = "zeros", kernel_regularizer: Any = None,
        bias_regularizer: Any = None, activity_regularizer: Any = None, kernel_constraint: Any = None,
        bias_constraint: Any = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        self.filters, self.groups, self.use_bias = self._count("filters", filters), self._count("groups", groups), use_bias
        self.kernel_size, self.strides = self._per_axis("kernel_size", kernel_size), self._per_axis("strides", strides)
        self.dilation_rate, self.padding = self._per_axis("dilation_rate", dilation_rate), self._padding(padding, *self._paddings)
        self.data_format, self.activation = self._data_format(data_format), activations.get(activation)
        self.kernel_initializer, self.bias_initializer = initializers.get(kernel_initializer), initializers.get(bias_initializer)
        self.kernel_regularizer, self.bias_regularizer = regularizers.get(kernel_regularizer), regularizers.get(bias_regularizer)
        self.kernel_constraint, self.bias_constraint = constraints.get(kernel_constraint), constraints.get(bias_constraint)
        self.input_spec = InputSpec(ndim=self.rank + 2)
        if filters is not None and filters % groups:
            raise ValueError(
                f"{self._title()}: `filters` must be a multiple of `groups`. Received: filters={filters}, groups={groups}"
            )
        if max(self.strides) > 1 and max(self.dilation_rate) > 1 and not self._dilated_strides:
            raise ValueError(
                f"{self._title()}: either `strides` or `dilation_rate` can be above 1. "
                f"Received: strides={self.strides}, dilation_rate={self.dilation_rate}"
            )

    def _count(self, name: str, value: Any) -> Any:
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value <= 0):
            raise ValueError(f"{self._title()}: `{name}` must be a positive integer. Received: {name}={value!r}")
        return value

    def _declared_weights(self) -> tuple[str, ...]:
        return (*self._storage_orders(), "bias") if self.use_bias else tuple(self._storage_orders())

    def _storage_orders(self) -> dict[str, tuple[int, ...]]:
        axes = tuple(range(self.rank))
        return {"kernel": (self.rank + 1, *axes, self.rank) if self._channels_last else (self.rank + 1, self.rank, *axes)}

    def build(self, input_shape: Any) -> None:
        """Makes kernel and bias for the channels of the input."""
        channels = self._channels(input_shape)
        self.kernel = self._add_kernel("kernel", self._kernel_shape(channels), "kernel")
        self._add_bias()

    def _channels(self, input_shape: Any) -> int:
        """The input's number of channels, which from now on is fixed."""
        channels = input_shape[self._channel_axis]
        if channels is None:
            raise ValueError(
                f"{self._title()} needs a known number of channels (axis {self._channel_axis}). "
                f"Received: input shape {tuple(input_shape)}."
            )
        if channels % self.groups:
            raise ValueError(
                f"{self._title()}: the number of channels must be a multiple of `groups`. "
                f"Received: {channels} channels, groups={self.groups}, input shape {tuple(input_shape)}."
            )
        self.input_spec = InputSpec(ndim=self.rank + 2, axes={self._channel_axis: channels})
        return channels

    def _kernel_shape(self, channels: int) -> tuple[int, ...]:
        return (*self.kernel_size, channels // self.groups, self.filters)

    def _add_kernel(self, name: str, shape: tuple[int, ...], arguments: str) -> Any:
        found = {part: getattr(self, f"{arguments}_{part}") for part in ("initializer", "regularizer", "constraint")}
        return self.add_weight(shape, name=name, storage=self._order(self._storage_orders()[name]), **found)

    def _add_bias(self, size: int | None = None) -> None:
        self.bias = None if not self.use_bias else self.add_weight(
            (size or self.filters,), self.bias_initializer, regularizer=self.bias_regularizer, constraint=self.bias_constraint,
            name="bias",
        )  # fmt: skip

    def call(self, inputs: torch.Tensor) -> torch.Tensor:
        """Returns the convolved input."""
        weight = self.kernel.permute(self.rank + 1, self.rank, *range(self.rank))
        return self._activated(self._convolve(inputs, weight, self.bias, self.groups))

    def _convolve(self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, groups: int) -> torch.Tensor:
        return convolve(x, weight, bias, self.strides, self.padding, self.dilation_rate, groups, self._channels_last)

    def _activated(self, y: torch.Tensor) -> torch.Tensor:
        return y if self.activation in (None, activations.linear) else self.activation(y)

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        """Returns the shape with the new spatial sizes and channels; None where the input's size is None."""
        windows = tuple((k - 1) * d + 1 for k, d in zip(self.kernel_size, self.dilation_rate, strict=True))
        spatial = zip(self._sizes(input_shape), windows, self.strides, strict=True)
        sizes = [output_size(size, window, stride, self.padding) for size, window, stride in spatial]
        return self._shape(input_shape[0], self._checked_sizes(sizes, input_shape, windows), self._filters(input_shape))

    def _filters(self, input_shape: Any) -> Any:
        return self.filters


@public("keras.layers.Conv1D")
class Conv1D(BaseConv):
    """A convolution over one axis, such as time.

    Args: as `Conv2D` has them; `padding` may also be "causal": zeros before only, so that no output sees a later input.

    Input shape: `(batch, steps, channels)`. Output shape: `(batch, new_steps, filters)`.

    >>> Conv1D(4, 3, padding="causal")(torch.ones(2, 10, 8)).shape
    torch.Size([2, 10, 4])
    """

    rank = 1
    _paddings = ("valid", "same", "causal")


@public("keras.layers.Conv2D")
class Conv2D(BaseConv):
    """A convolution over two axes: `activation(conv(inputs, kernel) + bias)`.

    Args:
        filters: number of channels that come out.
        kernel_size: size of the window, one integer or one for each axis.
        strides: steps between windows, one integer or one for each axis.
        padding: "valid" for none, or "same" for zeros around, so that there are `ceil(size / stride)` windows.
        data_format: "channels_last" or "channels_first"; `config.image_data_format()` unless given.
        dilation_rate: distance between the points of a window, one integer or one for each axis.
        groups: number of groups of channels that are convolved each by itself.
        activation: function by name or object; none unless given.
        use_bias: whether a bias is added.
        kernel_initializer, bias_initializer: by name or object.
        kernel_regularizer, bias_regularizer, activity_regularizer: penalties, by name or object.
        kernel_constraint, bias_constraint: projections after each update, by name or object.

    Input shape: `(batch, height, width, channels)`. Output shape: `(batch, new_height, new_width, filters)`.

    >>> Conv2D(4, 3, activation="relu")(torch.ones(2, 28, 28, 1)).shape
    torch.Size([2, 26, 26, 4])
    """

    rank = 2


@public("keras.layers.Conv3D")
class Conv3D(BaseConv):
    """A convolution over three axes, such as those of a volume or a video.

    Args: as `Conv2D` has them.

    Input shape: `(batch, depth, height, width, channels)`. Output shape: the same with new sizes and `filters` channels.

    >>> Conv3D(4, 3, padding="same")(torch.ones(2, 5, 5, 5, 1)).shape
    torch.Size([2, 5, 5, 5, 4])
    """

    rank = 3


class BaseDepthwiseConv(BaseConv):
    """A convolution of each channel by itself, with `depth_multiplier` kernels for each."""

    config_exclude = (
        "filters",
        "groups",
        "kernel_initializer",
        "kernel_regularizer",
        "kernel_constraint",
        *BaseConv.config_exclude,
    )
    _dilated_strides = True
    depthwise_initializer = property(lambda self: self.kernel_initializer)
    depthwise_regularizer = property(lambda self: self.kernel_regularizer)
    depthwise_constraint = property(lambda self: self.kernel_constraint)

    def __init__(
        self, kernel_size: Any, strides: Any = 1, padding: str = "valid", depth_multiplier: int = 1,
        data_format: str | None = None, dilation_rate: Any = 1, activation: Any = None, use_bias: bool = True,
        depthwise_initializer: Any = "glorot_uniform", bias_initializer: Any = "zeros",
        depthwise_regularizer: Any = None, bias_regularizer: Any = None,
        activity_regularizer: Any = None, depthwise_constraint: Any = None, bias_constraint: Any = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(
            None, kernel_size, strides, padding, data_format, dilation_rate, 1, activation, use_bias, depthwise_initializer,
            bias_initializer, depthwise_regularizer, bias_regularizer, activity_regularizer, depthwise_constraint,
            bias_constraint, **kwargs,
        )  # fmt: skip
        self.depth_multiplier = self._count("depth_multiplier", depth_multiplier)

    def _storage_orders(self) -> dict[str, tuple[int, ...]]:
        return {"kernel": (self.rank, self.rank + 1, *range(self.rank))}

    def build(self, input_shape: Any) -> None:
        """Makes kernel `(*kernel_size, channels, depth_multiplier)` and bias `(channels * depth_multiplier,)`."""
        channels = self._channels(input_shape)
        self.kernel = self._add_kernel("kernel", (*self.kernel_size, channels, self.depth_multiplier), "kernel")
        self._add_bias(channels * self.depth_multiplier)

    def call(self, inputs: torch.Tensor) -> torch.Tensor:
        """Returns the input with each channel convolved."""
        return self._activated(self._depthwise(inputs, self.kernel, self.bias))

    def _depthwise(self, x: torch.Tensor, kernel: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        weight = kernel.permute(self.rank, self.rank + 1, *range(self.rank)).flatten(0, 1).unsqueeze(1)
        return self._convolve(x, weight, bias, kernel.shape[self.rank])

    def _filters(self, input_shape: Any) -> Any:
        channels = input_shape[self._channel_axis]
        return None if channels is None else channels * self.depth_multiplier


@public("keras.layers.DepthwiseConv1D")
class DepthwiseConv1D(BaseDepthwiseConv):
    """A depthwise convolution over one axis.

    Args: as `DepthwiseConv2D` has them.

    Input shape: `(batch, steps, channels)`. Output shape: `(batch, new_steps, channels * depth_multiplier)`.

    >>> DepthwiseConv1D(3, depth_multiplier=2)(torch.ones(2, 10, 8)).shape
    torch.Size([2, 8, 16])
    """

    rank = 1


@public("keras.layers.DepthwiseConv2D")
class DepthwiseConv2D(BaseDepthwiseConv):
    """A depthwise convolution over two axes: each channel is convolved by itself, and none are mixed.

    Args:
        kernel_size, strides, padding, data_format, dilation_rate, activation, use_bias: as `Conv2D` has them.
        depth_multiplier: number of kernels, and of channels that come out, for each channel.
        depthwise_initializer, depthwise_regularizer, depthwise_constraint: for the kernel, by name or object.
        bias_initializer, bias_regularizer, bias_constraint, activity_regularizer: by name or object.

    Input shape: `(batch, height, width, channels)`. Output shape: `(batch, new_height, new_width, channels * depth_multiplier)`.

    >>> DepthwiseConv2D(3, padding="same")(torch.ones(2, 8, 8, 4)).shape
    torch.Size([2, 8, 8, 4])
    """

    rank = 2


class BaseSeparableConv(BaseDepthwiseConv):
    """A depthwise convolution, then a convolution by a window of one point that mixes the channels."""

    config_exclude = tuple(n for n in BaseDepthwiseConv.config_exclude if n != "filters")
    _dilated_strides = False

    def __init__(
        self, filters: int, kernel_size: Any, strides: Any = 1, padding: str = "valid", data_format: str | None = None,
        dilation_rate: Any = 1, depth_multiplier: int = 1, activation: Any = None, use_bias: bool = True,
        depthwise_initializer: Any = "glorot_uniform", pointwise_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros", depthwise_regularizer: Any = None, pointwise_regularizer: Any = None,
        bias_regularizer: Any = None, activity_regularizer: Any = None,
        depthwise_constraint: Any = None, pointwise_constraint: Any = None,
        bias_constraint: Any = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(
            kernel_size, strides, padding, depth_multiplier, data_format, dilation_rate, activation, use_bias,
            depthwise_initializer, bias_initializer, depthwise_regularizer, bias_regularizer, activity_regularizer,
            depthwise_constraint, bias_constraint, **kwargs,
        )  # fmt: skip
        self.filters, self.pointwise_initializer = self._count("filters", filters), initializers.get(pointwise_initializer)
        self.pointwise_regularizer, self.pointwise_constraint = (
            regularizers.get(pointwise_regularizer),
            constraints.get(pointwise_constraint),
        )

    def _storage_orders(self) -> dict[str, tuple[int, ...]]:
        return {
            "depthwise_kernel": super()._storage_orders()["kernel"],
            "pointwise_kernel": BaseConv._storage_orders(self)["kernel"],
        }

    def build(self, input_shape: Any) -> None:
        """Makes `depthwise_kernel`, `pointwise_kernel` and bias."""
        channels = self._channels(input_shape)
        self.depthwise_kernel = self._add_kernel(
            "depthwise_kernel", (*self.kernel_size, channels, self.depth_multiplier), "depthwise"
        )
        mixed = (*(1,) * self.rank, channels * self.depth_multiplier, self.filters)
        self.pointwise_kernel = self._add_kernel("pointwise_kernel", mixed, "pointwise")
        self._add_bias()

    def call(self, inputs: torch.Tensor) -> torch.Tensor:
        """Returns the input with each channel convolved, and the channels mixed."""
        ones = (1,) * self.rank
        weight = self.pointwise_kernel.permute(self.rank + 1, self.rank, *range(self.rank))
        y = self._depthwise(inputs, self.depthwise_kernel, None)
        return self._activated(convolve(y, weight, self.bias, ones, "valid", ones, 1, self._channels_last))

    def _filters(self, input_shape: Any) -> Any:
        return self.filters


@public("keras.layers.SeparableConv1D")
class SeparableConv1D(BaseSeparableConv):
    """A separable convolution over one axis.

    Args: as `SeparableConv2D` has them.

    Input shape: `(batch, steps, channels)`. Output shape: `(batch, new_steps, filters)`.

    >>> SeparableConv1D(4, 3)(torch.ones(2, 10, 8)).shape
    torch.Size([2, 8, 4])
    """

    rank = 1


@public("keras.layers.SeparableConv2D")
class SeparableConv2D(BaseSeparableConv):
    """A separable convolution over two axes: each channel by itself, then the channels mixed at each point.

    Args:
        filters, kernel_size, strides, padding, data_format, dilation_rate, activation, use_bias: as `Conv2D` has them.
        depth_multiplier: number of depthwise kernels for each channel.
        depthwise_initializer, depthwise_regularizer, depthwise_constraint: for the first kernel, by name or object.
        pointwise_initializer, pointwise_regularizer, pointwise_constraint: for the second kernel, by name or object.
        bias_initializer, bias_regularizer, bias_constraint, activity_regularizer: by name or object.

    Input shape: `(batch, height, width, channels)`. Output shape: `(batch, new_height, new_width, filters)`.

    >>> SeparableConv2D(4, 3, padding="same")(torch.ones(2, 8, 8, 3)).shape
    torch.Size([2, 8, 8, 4])
    """

    rank = 2


Convolution1D, Convolution2D, Convolution3D = Conv1D, Conv2D, Conv3D
SeparableConvolution1D, SeparableConvolution2D = SeparableConv1D, SeparableConv2D
