"""Pooling over one, two and three axes: windows, whole axes, and windows that fit a wanted size."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F

from hornbeam.core.calls import kept_dtype
from hornbeam.core.input_spec import InputSpec
from hornbeam.core.registry import public
from hornbeam.layers.spatial import SpatialLayer, kernel_view, layer_view, output_size, pad_axes, same_padding, two_axes

_MAX, _AVERAGE = {2: F.max_pool2d, 3: F.max_pool3d}, {2: F.avg_pool2d, 3: F.avg_pool3d}


class BasePooling(SpatialLayer):
    """Takes one number from each window, in each channel; `MaxPooling2D` says what the arguments are."""

    def __init__(
        self, pool_size: Any = 2, strides: Any = None, padding: str = "valid", data_format: str | None = None,
        name: str | None = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(name=name, **kwargs)
        self.pool_size = self._per_axis("pool_size", pool_size)
        self.strides = self.pool_size if strides is None else self._per_axis("strides", strides)
        self.padding, self.data_format = self._padding(padding, "valid", "same"), self._data_format(data_format)
        self.input_spec = InputSpec(ndim=self.rank + 2)

    def call(self, inputs: torch.Tensor) -> torch.Tensor:
        """Returns the pooled input."""
        pads = same_padding(self._sizes(inputs.shape), self.pool_size, self.strides) if self.padding == "same" else []
        return self._pool(inputs, pads)

    def _pool(self, x: torch.Tensor, pads: list[tuple[Any, Any]]) -> torch.Tensor:
        raise NotImplementedError

    def _windows(self, x: torch.Tensor, pads: list[tuple[Any, Any]], pool: Any, **options: Any) -> torch.Tensor:
        """Applies a kernel to all windows; a surplus of padding at the end is left to its `ceil_mode`."""
        last, size, strides = self._channels_last, two_axes(self.pool_size), two_axes(self.strides)
        if pads:
            options["padding"] = two_axes(tuple(before for before, _ in pads), 0)
            options["ceil_mode"] = any(before != after for before, after in pads)
        return layer_view(pool[len(size)](kernel_view(x, last), size, strides, **options), self.rank, last)

    def _uneven(self, pads: list[tuple[Any, Any]]) -> bool:
        """Whether there is padding that torch's kernels cannot be asked for: uneven, with windows at every point."""
        return any(before != after and stride == 1 for (before, after), stride in zip(pads, self.strides, strict=False))

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        """Returns the shape with the number of windows along each axis; None where the input's size is None."""
        spatial = zip(self._sizes(input_shape), self.pool_size, self.strides, strict=True)
        sizes = [output_size(size, window, stride, self.padding) for size, window, stride in spatial]
        return self._shape(
            input_shape[0], self._checked_sizes(sizes, input_shape, self.pool_size), input_shape[self._channel_axis]
        )


class BaseMaxPooling(BasePooling):
    """Takes the largest number of each window."""

    def _pool(self, x: torch.Tensor, pads: list[tuple[Any, Any]]) -> torch.Tensor:
        if self._uneven(pads):
            lowest = -math.inf if x.is_floating_point() else torch.iinfo(x.dtype).min
            x, pads = pad_axes(x, pads, self._channels_last, lowest), []
        return self._windows(x, pads, _MAX)

    def _output_dtype(self, inputs: Any) -> str:
        return kept_dtype(self, inputs)


class BaseAveragePooling(BasePooling):
    """Takes the mean of each window; padding does not count."""

    def __init__(
        self, pool_size: Any, strides: Any = None, padding: str = "valid", data_format: str | None = None,
        name: str | None = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(pool_size, strides, padding, data_format, name, **kwargs)

    def _pool(self, x: torch.Tensor, pads: list[tuple[Any, Any]]) -> torch.Tensor:
        if not x.is_floating_point():
            x = x.to(self._compute)
        if not self._uneven(pads):
            return self._windows(x, pads, _AVERAGE, count_include_pad=False)
        inside = x.new_ones(self._shape(1, self._sizes(x.shape), 1))
        x, inside = (pad_axes(v, pads, self._channels_last) for v in (x, inside))
        return self._windows(x, [], _AVERAGE) / self._windows(inside, [], _AVERAGE)


@public("keras.layers.MaxPooling1D")
class MaxPooling1D(BaseMaxPooling):
    """The largest number of each window along one axis, such as time.

    Args: as `MaxPooling2D` has them.

    Input shape: `(batch, steps, channels)`. Output shape: `(batch, new_steps, channels)`.

    >>> MaxPooling1D()(torch.arange(6.0).view(1, 6, 1)).flatten().tolist()
    [1.0, 3.0, 5.0]
    """

    rank = 1


@public("keras.layers.MaxPooling2D")
class MaxPooling2D(BaseMaxPooling):
    """The largest number of each window over two axes.

    Args:
        pool_size: size of the window, one integer or one for each axis.
        strides: steps between windows, one integer or one for each axis; `pool_size` unless given.
        padding: "valid" for none, or "same", so that there are `ceil(size / stride)` windows.
        data_format: "channels_last" or "channels_first"; `config.image_data_format()` unless given.
        name: a name.

    Input shape: `(batch, height, width, channels)`. Output shape: `(batch, new_height, new_width, channels)`.

    >>> MaxPooling2D(2)(torch.ones(2, 28, 28, 3)).shape
    torch.Size([2, 14, 14, 3])
    """

    rank = 2


@public("keras.layers.MaxPooling3D")
class MaxPooling3D(BaseMaxPooling):
    """The largest number of each window over three axes.

    Args: as `MaxPooling2D` has them.

    Input shape: `(batch, depth, height, width, channels)`. Output shape: the same with new sizes.

    >>> MaxPooling3D()(torch.ones(1, 4, 4, 4, 2)).shape
    torch.Size([1, 2, 2, 2, 2])
    """

    rank = 3


@public("keras.layers.AveragePooling1D")
class AveragePooling1D(BaseAveragePooling):
    """The mean of each window along one axis; padding does not count.

    Args: as `AveragePooling2D` has them.

    Input shape: `(batch, steps, channels)`. Output shape: `(batch, new_steps, channels)`.

    >>> AveragePooling1D(2)(torch.arange(6.0).view(1, 6, 1)).flatten().tolist()
    [0.5, 2.5, 4.5]
    """

    rank = 1


@public("keras.layers.AveragePooling2D")
class AveragePooling2D(BaseAveragePooling):
    """The mean of each window over two axes; padding does not count.

    Args:
        pool_size: size of the window, one integer or one for each axis.
        strides: steps between windows, one integer or one for each axis; `pool_size` unless given.
        padding: "valid" for none, or "same", so that there are `ceil(size / stride)` windows.
        data_format: "channels_last" or "channels_first"; `config.image_data_format()` unless given.
        name: a name.

    Input shape: `(batch, height, width, channels)`. Output shape: `(batch, new_height, new_width, channels)`.

    >>> AveragePooling2D(3, strides=2, padding="same")(torch.ones(2, 7, 7, 3)).shape
    torch.Size([2, 4, 4, 3])
    """

    rank = 2


@public("keras.layers.AveragePooling3D")
class AveragePooling3D(BaseAveragePooling):
    """The mean of each window over three axes; padding does not count.

    Args: as `AveragePooling2D` has them.

    Input shape: `(batch, depth, height, width, channels)`. Output shape: the same with new sizes.

    >>> AveragePooling3D(2)(torch.ones(1, 4, 4, 4, 2)).shape
    torch.Size([1, 2, 2, 2, 2])
    """

    rank = 3
