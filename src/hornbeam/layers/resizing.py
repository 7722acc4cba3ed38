"""Layers that change the sizes of spatial axes: crop, pad, enlarge."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from hornbeam.core.errors import bad_argument
from hornbeam.core.input_spec import InputSpec
from hornbeam.core.layer import Layer
from hornbeam.core.registry import public
from hornbeam.core.settings import standardize_data_format
from hornbeam.layers.reshaping import positive


def _pairs(layer: Layer, name: str, value: Any, rank: int) -> Any:
    """Returns a pair (before, after) for each of `rank` axes, or the one pair where the rank is 1."""
    pair = lambda v: (v, v) if isinstance(v, int) else tuple(v) if isinstance(v, (tuple, list)) else ()  # noqa: E731
    if isinstance(value, int):
        pairs = [(value, value)] * rank
    elif isinstance(value, (tuple, list)):
        pairs = [tuple(value)] if rank == 1 else [pair(v) for v in value]
    else:
        pairs = []
    if len(pairs) != rank or not all(len(p) == 2 and all(isinstance(n, int) and n >= 0 for n in p) for p in pairs):
        form = "an integer or a pair of integers" if rank == 1 else f"an integer or {rank} integers or {rank} pairs of integers"
        raise bad_argument(layer, name, f"{form}, none negative", value)
    return pairs[0] if rank == 1 else tuple(pairs)


class Spatial(Layer):
    """Base of layers that change the sizes of 1 to 3 axes and leave batch and channels alone.

    Args:
        data_format: "channels_last" or "channels_first".
        kwargs: arguments of `Layer`.
    """

    rank: int

    def __init__(self, data_format: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.data_format = standardize_data_format(data_format)
        self.input_spec = InputSpec(ndim=self.rank + 2)

    @property
    def _first_axis(self) -> int:
        return 1 if self.data_format == "channels_last" else 2

    def _each(self, value: Any) -> list[Any]:
        return [value] if self.rank == 1 else list(value)


class Cropping(Spatial):
    """Base of the cropping layers.

    Args:
        cropping: values taken off both ends of each axis: an integer, one for each axis, or a pair for each axis.
        data_format: "channels_last" or "channels_first".
    """

    def __init__(self, cropping: Any, data_format: str | None = None, **kwargs: Any) -> None:
        super().__init__(data_format, **kwargs)
        self.cropping = _pairs(self, "cropping", cropping, self.rank)

    def call(self, inputs: torch.Tensor) -> torch.Tensor:
        """Returns the inner part."""
        for axis, (before, after) in enumerate(self._each(self.cropping), self._first_axis):
            size = inputs.shape[axis]
            if size <= before + after:
                wanted = f"smaller in sum than the {size} values on axis {axis} of an input of shape {tuple(inputs.shape)}"
                raise bad_argument(self, "cropping", wanted, self.cropping)
            inputs = inputs.narrow(axis, before, size - before - after)
        return inputs


@public("keras.layers.Cropping1D")
class Cropping1D(Cropping):
    """A sequence without its ends.

    Args:
        cropping: an integer, or a pair (before, after).

    >>> Cropping1D((1, 2))(torch.ones(1, 5, 2)).shape
    torch.Size([1, 2, 2])
    """

    rank = 1
    config_exclude = ("data_format", *Layer.config_exclude)

    def __init__(self, cropping: Any = (1, 1), **kwargs: Any) -> None:
        super().__init__(cropping, "channels_last", **kwargs)


@public("keras.layers.Cropping2D")
class Cropping2D(Cropping):
    """An image without its borders.

    Args:
        cropping: an integer, two (for height, width), or two pairs ((top, bottom), (left, right)).
        data_format: "channels_last" or "channels_first".

    >>> Cropping2D((1, 2))(torch.ones(1, 5, 6, 3)).shape
    torch.Size([1, 3, 2, 3])
    """

    rank = 2

    def __init__(self, cropping: Any = ((0, 0), (0, 0)), data_format: str | None = None, **kwargs: Any) -> None:
        super().__init__(cropping, data_format, **kwargs)


@public("keras.layers.Cropping3D")
class Cropping3D(Cropping):
    """A volume without its borders.

    Args:
        cropping: an integer, three, or three pairs.
        data_format: "channels_last" or "channels_first".

    >>> Cropping3D(1)(torch.ones(1, 5, 6, 7, 3)).shape
    torch.Size([1, 3, 4, 5, 3])
    """

    rank = 3

    def __init__(self, cropping: Any = ((1, 1), (1, 1), (1, 1)), data_format: str | None = None, **kwargs: Any) -> None:
        super().__init__(cropping, data_format, **kwargs)


class ZeroPadding(Spatial):
    """Base of the padding layers.

    Args:
        padding: zeros added at both ends of each axis: an integer, one for each axis, or a pair for each axis.
        data_format: "channels_last" or "channels_first".
    """

    def __init__(self, padding: Any, data_format: str | None = None, **kwargs: Any) -> None:
        super().__init__(data_format, **kwargs)
        self.padding = _pairs(self, "padding", padding, self.rank)

    def call(self, inputs: torch.Tensor) -> torch.Tensor:
        """Returns the inputs with zeros around."""
        sides = [n for pair in reversed(self._each(self.padding)) for n in pair]
        return F.pad(inputs, [0, 0, *sides] if self.data_format == "channels_last" else sides)


@public("keras.layers.ZeroPadding1D")
class ZeroPadding1D(ZeroPadding):
    """A sequence with zeros at its ends.

    Args:
        padding: an integer, or a pair (before, after).
        data_format: "channels_last" or "channels_first".

    >>> ZeroPadding1D((1, 2))(torch.ones(1, 5, 2)).shape
    torch.Size([1, 8, 2])
    """

    rank = 1

    def __init__(self, padding: Any = 1, data_format: str | None = None, **kwargs: Any) -> None:
        super().__init__(padding, data_format, **kwargs)


@public("keras.layers.ZeroPadding2D")
class ZeroPadding2D(ZeroPadding):
    """An image with zeros around.

    Args:
        padding: an integer, two (for height, width), or two pairs ((top, bottom), (left, right)).
        data_format: "channels_last" or "channels_first".

    >>> ZeroPadding2D((1, 2))(torch.ones(1, 5, 6, 3)).shape
    torch.Size([1, 7, 10, 3])
    """

    rank = 2

    def __init__(self, padding: Any = (1, 1), data_format: str | None = None, **kwargs: Any) -> None:
        super().__init__(padding, data_format, **kwargs)


@public("keras.layers.ZeroPadding3D")
class ZeroPadding3D(ZeroPadding):
    """A volume with zeros around.

    Args:
        padding: an integer, three, or three pairs.
        data_format: "channels_last" or "channels_first".

    >>> ZeroPadding3D(1)(torch.ones(1, 5, 6, 7, 3)).shape
    torch.Size([1, 7, 8, 9, 3])
    """

    rank = 3

    def __init__(self, padding: Any = ((1, 1), (1, 1), (1, 1)), data_format: str | None = None, **kwargs: Any) -> None:
        super().__init__(padding, data_format, **kwargs)


_MODES = ("nearest", "bilinear", "bicubic")


class UpSampling(Spatial):
    """Base of the enlarging layers.

    Args:
        size: factor for each axis.
        data_format: "channels_last" or "channels_first".
    """

    interpolation = "nearest"

    def __init__(self, size: Any, data_format: str | None = None, **kwargs: Any) -> None:
        super().__init__(data_format, **kwargs)
        sizes = (size,) * self.rank if isinstance(size, int) else tuple(size) if isinstance(size, (tuple, list)) else ()
        if len(sizes) != self.rank or not all(isinstance(n, int) and n > 0 for n in sizes):
            raise bad_argument(self, "size", f"a positive integer or {self.rank} of them", size)
        self.size: Any = sizes

    def call(self, inputs: torch.Tensor) -> torch.Tensor:
        """Returns the enlarged inputs."""
        sizes = self._each(self.size)
        if not inputs.is_floating_point() and self.interpolation == "nearest":
            for axis, n in enumerate(sizes, self._first_axis):
                inputs = inputs.repeat_interleave(n, axis)
            return inputs
        last = self.data_format == "channels_last"
        x = inputs if inputs.is_floating_point() else inputs.to(torch.float32)
        x = x.movedim(-1, 1) if last else x
        x = F.interpolate(x, scale_factor=[float(n) for n in sizes], mode=self.interpolation)
        return (x.movedim(1, -1) if last else x).to(inputs.dtype)


@public("keras.layers.UpSampling1D")
class UpSampling1D(UpSampling):
    """A sequence with each step repeated.

    Args:
        size: how often.

    >>> UpSampling1D(2)(torch.tensor([[[1.0], [2.0]]])).flatten().tolist()
    [1.0, 1.0, 2.0, 2.0]
    """

    rank = 1
    config_exclude = ("data_format", *Layer.config_exclude)

    def __init__(self, size: int = 2, **kwargs: Any) -> None:
        super().__init__(1, "channels_last", **kwargs)
        self.size = positive(self, "size", size)


@public("keras.layers.UpSampling2D")
class UpSampling2D(UpSampling):
    """An enlarged image.

    Args:
        size: factor, or two (for height, width).
        data_format: "channels_last" or "channels_first".
        interpolation: "nearest" (repetition), "bilinear" or "bicubic".

    >>> UpSampling2D((2, 3))(torch.ones(1, 4, 5, 3)).shape
    torch.Size([1, 8, 15, 3])
    """

    rank = 2

    def __init__(self, size: Any = (2, 2), data_format: str | None = None, interpolation: str = "nearest", **kwargs: Any) -> None:
        super().__init__(size, data_format, **kwargs)
        if interpolation not in _MODES:
            raise bad_argument(self, "interpolation", f"one of {', '.join(_MODES)}", interpolation)
        self.interpolation = interpolation


@public("keras.layers.UpSampling3D")
class UpSampling3D(UpSampling):
    """A volume with each value repeated.

    Args:
        size: factor, or three.
        data_format: "channels_last" or "channels_first".

    >>> UpSampling3D(2)(torch.ones(1, 2, 3, 4, 1)).shape
    torch.Size([1, 4, 6, 8, 1])
    """

    rank = 3

    def __init__(self, size: Any = (2, 2, 2), data_format: str | None = None, **kwargs: Any) -> None:
        super().__init__(size, data_format, **kwargs)
