"""Pooling of whole axes, and pooling whose windows follow from the size that is wanted."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from hornbeam.core.input_spec import InputSpec
from hornbeam.core.registry import public
from hornbeam.layers.spatial import SpatialLayer, kernel_view, layer_view, two_axes

_ADAPTIVE_MAX = {2: F.adaptive_max_pool2d, 3: F.adaptive_max_pool3d}
_ADAPTIVE_AVERAGE = {2: F.adaptive_avg_pool2d, 3: F.adaptive_avg_pool3d}


class BaseGlobalPooling(SpatialLayer):
    """Takes one number from all points of a channel; `GlobalAveragePooling2D` says what the arguments are."""

    def __init__(self, data_format: str | None = None, keepdims: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.data_format, self.keepdims = self._data_format(data_format), keepdims
        self.input_spec = InputSpec(ndim=self.rank + 2)

    @property
    def _axes(self) -> tuple[int, ...]:
        return tuple(range(1, self.rank + 1)) if self._channels_last else tuple(range(2, self.rank + 2))


class BaseGlobalMaxPooling(BaseGlobalPooling):
    """Takes the largest number of each channel."""

    def call(self, inputs: torch.Tensor) -> torch.Tensor:
        """Returns the largest number of each channel."""
        return inputs.amax(self._axes, keepdim=self.keepdims)


class BaseGlobalAveragePooling(BaseGlobalPooling):
    """Takes the mean of each channel."""

    def call(self, inputs: torch.Tensor) -> torch.Tensor:
        """Returns the mean of each channel."""
        x = inputs if inputs.is_floating_point() else inputs.to(self._compute)
        return x.mean(self._axes, keepdim=self.keepdims)


@public("keras.layers.GlobalMaxPooling1D")
class GlobalMaxPooling1D(BaseGlobalMaxPooling):
    """The largest number of each channel along one axis, such as time.

    Args: as `GlobalAveragePooling2D` has them.

    Input shape: `(batch, steps, channels)`. Output shape: `(batch, channels)`.

    >>> GlobalMaxPooling1D()(torch.arange(6.0).view(1, 3, 2)).tolist()
    [[4.0, 5.0]]
    """

    rank = 1


@public("keras.layers.GlobalMaxPooling2D")
class GlobalMaxPooling2D(BaseGlobalMaxPooling):
    """The largest number of each channel over two axes.

    Args: as `GlobalAveragePooling2D` has them.

    Input shape: `(batch, height, width, channels)`. Output shape: `(batch, channels)`.

    >>> GlobalMaxPooling2D()(torch.ones(2, 7, 7, 3)).shape
    torch.Size([2, 3])
    """

    rank = 2


@public("keras.layers.GlobalMaxPooling3D")
class GlobalMaxPooling3D(BaseGlobalMaxPooling):
    """The largest number of each channel over three axes.

    Args: as `GlobalAveragePooling2D` has them.

    Input shape: `(batch, depth, height, width, channels)`. Output shape: `(batch, channels)`.

    >>> GlobalMaxPooling3D(keepdims=True)(torch.ones(2, 4, 4, 4, 3)).shape
    torch.Size([2, 1, 1, 1, 3])
    """

    rank = 3


@public("keras.layers.GlobalAveragePooling1D")
class GlobalAveragePooling1D(BaseGlobalAveragePooling):
    """The mean of each channel along one axis, such as time; steps that a mask hides do not count.

    Args: as `GlobalAveragePooling2D` has them.

    Input shape: `(batch, steps, channels)`. Output shape: `(batch, channels)`. The mask has shape `(batch, steps)`.

    >>> GlobalAveragePooling1D()(torch.arange(6.0).view(1, 3, 2), mask=torch.tensor([[True, True, False]])).tolist()
    [[1.0, 2.0]]
    """

    rank = 1
    supports_masking = True

    def call(self, inputs: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """Returns the mean of each channel; zero where a mask hides every step."""
        if mask is None:
            return super().call(inputs)
        seen = mask.to(self._compute).unsqueeze(2 if self._channels_last else 1)
        total = (inputs * seen).sum(self._axes, keepdim=self.keepdims)
        return total / seen.sum(self._axes, keepdim=self.keepdims).clamp(min=1)

    def compute_mask(self, inputs: Any, previous_mask: Any) -> None:
        """Returns None: there are no steps any more."""
        return


@public("keras.layers.GlobalAveragePooling2D")
class GlobalAveragePooling2D(BaseGlobalAveragePooling):
    """The mean of each channel over two axes.

    Args:
        data_format: "channels_last" or "channels_first"; `config.image_data_format()` unless given.
        keepdims: whether the pooled axes stay, with size 1.

    Input shape: `(batch, height, width, channels)`. Output shape: `(batch, channels)`.

    >>> GlobalAveragePooling2D()(torch.ones(2, 7, 7, 3)).shape
    torch.Size([2, 3])
    """

    rank = 2


@public("keras.layers.GlobalAveragePooling3D")
class GlobalAveragePooling3D(BaseGlobalAveragePooling):
    """The mean of each channel over three axes.

    Args: as `GlobalAveragePooling2D` has them.

    Input shape: `(batch, depth, height, width, channels)`. Output shape: `(batch, channels)`.

    >>> GlobalAveragePooling3D()(torch.ones(2, 4, 4, 4, 3)).shape
    torch.Size([2, 3])
    """

    rank = 3


class BaseAdaptivePooling(SpatialLayer):
    """Pools by a wanted number of windows; `AdaptiveAveragePooling2D` says what the arguments are."""

    _kernels: dict[int, Any] = {}

    def __init__(self, output_size: Any, data_format: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.output_size, self.data_format = self._per_axis("output_size", output_size), self._data_format(data_format)
        self.input_spec = InputSpec(ndim=self.rank + 2)

    def call(self, inputs: torch.Tensor) -> torch.Tensor:
        """Returns the pooled input."""
        x = inputs if inputs.is_floating_point() else inputs.to(self._compute)
        size = two_axes(self.output_size)
        return layer_view(self._kernels[len(size)](kernel_view(x, self._channels_last), size), self.rank, self._channels_last)

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        """Returns the shape with the wanted sizes."""
        return self._shape(input_shape[0], self.output_size, input_shape[self._channel_axis])


@public("keras.layers.AdaptiveAveragePooling1D")
class AdaptiveAveragePooling1D(BaseAdaptivePooling):
    """The means of a wanted number of windows along one axis.

    Args: as `AdaptiveAveragePooling2D` has them.

    Input shape: `(batch, steps, channels)`. Output shape: `(batch, output_size, channels)`.

    >>> AdaptiveAveragePooling1D(2)(torch.arange(4.0).view(1, 4, 1)).flatten().tolist()
    [0.5, 2.5]
    """

    rank = 1
    _kernels = _ADAPTIVE_AVERAGE


@public("keras.layers.AdaptiveAveragePooling2D")
class AdaptiveAveragePooling2D(BaseAdaptivePooling):
    """The means of a wanted number of windows over two axes.

    Args:
        output_size: number of windows, one integer or one for each axis.
        data_format: "channels_last" or "channels_first"; `config.image_data_format()` unless given.

    Input shape: `(batch, height, width, channels)`. Output shape: `(batch, *output_size, channels)`.

    >>> AdaptiveAveragePooling2D(2)(torch.ones(2, 7, 5, 3)).shape
    torch.Size([2, 2, 2, 3])
    """

    rank = 2
    _kernels = _ADAPTIVE_AVERAGE


@public("keras.layers.AdaptiveAveragePooling3D")
class AdaptiveAveragePooling3D(BaseAdaptivePooling):
    """The means of a wanted number of windows over three axes.

    Args: as `AdaptiveAveragePooling2D` has them.

    Input shape: `(batch, depth, height, width, channels)`. Output shape: `(batch, *output_size, channels)`.

    >>> AdaptiveAveragePooling3D(2)(torch.ones(2, 4, 4, 4, 3)).shape
    torch.Size([2, 2, 2, 2, 3])
    """

    rank = 3
    _kernels = _ADAPTIVE_AVERAGE


@public("keras.layers.AdaptiveMaxPooling1D")
class AdaptiveMaxPooling1D(BaseAdaptivePooling):
    """The largest numbers of a wanted number of windows along one axis.

    Args: as `AdaptiveAveragePooling2D` has them.

    Input shape: `(batch, steps, channels)`. Output shape: `(batch, output_size, channels)`.

    >>> AdaptiveMaxPooling1D(2)(torch.arange(4.0).view(1, 4, 1)).flatten().tolist()
    [1.0, 3.0]
    """

    rank = 1
    _kernels = _ADAPTIVE_MAX


@public("keras.layers.AdaptiveMaxPooling2D")
class AdaptiveMaxPooling2D(BaseAdaptivePooling):
    """The largest numbers of a wanted number of windows over two axes.

    Args: as `AdaptiveAveragePooling2D` has them.

    Input shape: `(batch, height, width, channels)`. Output shape: `(batch, *output_size, channels)`.

    >>> AdaptiveMaxPooling2D((1, 3))(torch.ones(2, 7, 7, 3)).shape
    torch.Size([2, 1, 3, 3])
    """

    rank = 2
    _kernels = _ADAPTIVE_MAX


@public("keras.layers.AdaptiveMaxPooling3D")
class AdaptiveMaxPooling3D(BaseAdaptivePooling):
    """The largest numbers of a wanted number of windows over three axes.

    Args: as `AdaptiveAveragePooling2D` has them.

    Input shape: `(batch, depth, height, width, channels)`. Output shape: `(batch, *output_size, channels)`.

    >>> AdaptiveMaxPooling3D(2)(torch.ones(2, 4, 4, 4, 3)).shape
    torch.Size([2, 2, 2, 2, 3])
    """

    rank = 3
    _kernels = _ADAPTIVE_MAX
