"""What convolution and pooling share: arguments per axis, sizes, padding, and the layouts that torch's kernels want.

Layers see `(batch, *spatial, channels)`; torch's kernels see the same memory as a permuted view `(batch, channels, *spatial)`,
which is their channels-last layout, so nothing is copied on the way in or out. One spatial axis is handled as two, the first of
size 1, because only kernels for two and three axes know that layout.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F

from hornbeam.core.errors import did_you_mean
from hornbeam.core.layer import Layer
from hornbeam.core.settings import standardize_data_format
from hornbeam.core.weights import in_storage_order

_FIRST = {4: (0, 3, 1, 2), 5: (0, 4, 1, 2, 3)}
_LAST = {4: (0, 2, 3, 1), 5: (0, 2, 3, 4, 1)}


class SpatialLayer(Layer):
    """Base of layers over `rank` spatial axes."""

    rank: int = 0

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Gives a class for one rank its own constructor, whose defaults of 1 and 2 are one number per axis, as in Keras."""
        super().__init_subclass__(**kwargs)
        rank = vars(cls).get("rank")
        if rank is not None and rank > 1:
            cls.__init__ = _per_rank(cls.__init__, rank)  # type: ignore[method-assign]

    def _per_axis(self, name: str, value: Any, least: int = 1) -> tuple[int, ...]:
        """Returns an integer argument once for each spatial axis."""
        sizes = tuple(value) if isinstance(value, (tuple, list)) else (value,) * self.rank
        if len(sizes) != self.rank or any(isinstance(s, bool) or not hasattr(s, "__index__") or s < least for s in sizes):
            kind = "positive integer" if least == 1 else "integer that is not negative"
            raise ValueError(f"{self._title()}: `{name}` takes one {kind}, or a tuple of {self.rank}. Received: {name}={value!r}")
        return tuple(int(s) for s in sizes)

    def _padding(self, value: Any, *known: str) -> str:
        given = value.lower() if isinstance(value, str) else value
        if given not in known:
            hint = did_you_mean(given, known) or (
                " Only Conv1D knows it: pad on the left by ZeroPadding1D((kernel_size - 1, 0))."
                if given == "causal" and self.rank == 1
                else ""
            )
            raise ValueError(f"{self._title()}: `padding` must be one of {known}. Received: padding={value!r}.{hint}")
        return given

    def _data_format(self, value: Any) -> str:
        try:
            return standardize_data_format(value)
        except ValueError as error:
            hint = did_you_mean(value, ("channels_last", "channels_first"))
            raise ValueError(f"{self._title()}: {error}.{hint}") from None

    def _title(self) -> str:
        return f"{type(self).__name__} layer {self.name!r}"

    @property
    def _channels_last(self) -> bool:
        return self.data_format == "channels_last"

    @property
    def _channel_axis(self) -> int:
        return self.rank + 1 if self._channels_last else 1

    def _sizes(self, shape: Sequence[Any]) -> tuple[Any, ...]:
        return tuple(shape[1:-1] if self._channels_last else shape[2:])

    def _shape(self, batch: Any, sizes: Sequence[Any], channels: Any) -> tuple[Any, ...]:
        return (batch, *sizes, channels) if self._channels_last else (batch, channels, *sizes)

    def _checked_sizes(self, sizes: Sequence[Any], shape: Sequence[Any], window: tuple[int, ...]) -> Sequence[Any]:
        if any(s is not None and s <= 0 for s in sizes):
            first = self._channels_last and len(shape) == self.rank + 2 and shape[1] in (1, 3) and shape[-1] not in (1, 3)
            same = " padding='same' lets it reach over the edges." if getattr(self, "padding", None) == "valid" else ""
            raise ValueError(
                f"{self._title()}: its window of {window} does not fit into an input of shape {tuple(shape)}."
                + (" Channels seem to be on axis 1: give the layer data_format='channels_first'." if first else same)
            )
        return sizes

    def _remedy(self, shape: tuple[int | None, ...]) -> str:
        rank, last = self.rank, self._channels_last
        channels = self.input_spec.axes.get(self._channel_axis) if self.input_spec is not None else None
        if len(shape) == rank + 1:
            if channels is not None and shape[self._channel_axis - 1] == channels:
                return " Add a batch axis: x[None]."
            return (
                f" Is the channel axis missing? Add it by {'x[..., None]' if last else 'x[:, None]'}; or a batch axis by x[None]."
            )
        if len(shape) == 2:
            axes = ", ".join(("depth", "height", "width")[-rank:] if rank > 1 else ("steps",))
            return f" It reads (batch, {axes}, channels): put it before the Flatten or Dense layer, or a Reshape before it."
        if len(shape) != rank + 2:
            fitting = (
                f"{type(self).__name__[:-2]}{len(shape) - 2}D"
                if type(self).__name__.endswith("D") and 3 <= len(shape) <= 5
                else ""
            )
            return f" {fitting} takes inputs of rank {len(shape)}." if fitting else ""
        other = 1 if last else rank + 1
        if channels is not None and shape[other] == channels:
            order = (0, *range(2, rank + 2), 1) if last else (0, rank + 1, *range(1, rank + 1))
            wanted = "channels_first" if last else "channels_last"
            return (
                f" Channels seem to be on axis {other}: give the layer data_format={wanted!r}, "
                f"or permute the input: x.permute{order}."
            )
        return ""


class KernelLayer(SpatialLayer):
    """Base of layers whose kernels lie in memory in the order of torch's kernels.

    `.to(memory_format=torch.contiguous_format)` lays them out in their logical order, for tools that refuse views
    (LBFGS, `parameters_to_vector`); `torch.channels_last` brings the fast order back.
    """

    _plain: bool = False

    def _apply(self, fn: Callable[[Any], Any], recurse: bool = True) -> Any:
        wanted = _layout_of(fn)
        if wanted is None:
            return super()._apply(fn, recurse)
        self.__dict__["_plain"] = wanted == "contiguous"
        orders = {len(order): order for order in self._storage_orders().values()}

        def move(value: torch.Tensor) -> torch.Tensor:
            moved = fn(value)
            return moved if value.dim() not in orders else in_storage_order(moved, self._order(orders[value.dim()]))

        return super()._apply(move, recurse)

    def _load_from_state_dict(self, *args: Any) -> None:
        super()._load_from_state_dict(*args)
        for name, order in self._storage_orders().items():
            kernel = dict.get(self._parameters, name)
            if kernel is not None and self.built and not getattr(kernel, "_lazy", False) and type(kernel.data) is torch.Tensor:
                kernel.data = in_storage_order(kernel.data, self._order(order))

    def _order(self, order: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(range(len(order))) if self._plain else order

    def _storage_orders(self) -> dict[str, tuple[int, ...]]:
        """Orders of the kernels' axes in memory, by name."""
        raise NotImplementedError


def _layout_of(fn: Callable[[Any], Any]) -> str | None:
    """Which memory format a function that `Module._apply` was given asks for, or None where it keeps strides."""
    formats = (torch.contiguous_format, torch.channels_last)
    moved = [fn(torch.empty((2, 2, 2, 2), memory_format=f)) for f in formats]
    if moved[0].stride() != moved[1].stride():
        return None
    return "contiguous" if moved[0].is_contiguous() else "channels_last"


def _per_rank(function: Any, rank: int) -> Any:
    repeated = {"strides": 1, "dilation_rate": 1, "pool_size": 2}
    names = function.__code__.co_varnames[
        function.__code__.co_argcount - len(function.__defaults__ or ()) : function.__code__.co_argcount
    ]
    defaults = tuple(
        (value,) * rank if repeated.get(name) == value and value is not None else value
        for name, value in zip(names, function.__defaults__ or (), strict=True)
    )
    made = types.FunctionType(function.__code__, function.__globals__, function.__name__, defaults, function.__closure__)
    made.__qualname__, made.__doc__, made.__annotations__ = function.__qualname__, function.__doc__, function.__annotations__
    return made


# -- sizes


def output_size(size: Any, window: int, stride: int, padding: str) -> Any:
    """Returns how many windows there are along an axis of a size; None for None."""
    if size is None:
        return None
    return -(-size // stride) if padding in ("same", "causal") else (size - window) // stride + 1


def same_padding(sizes: Sequence[Any], windows: Sequence[int], strides: Sequence[int]) -> list[tuple[Any, Any]]:
    """Returns (before, after) for each axis, so that there are ceil(size / stride) windows."""
    pads = []
    for size, window, stride in zip(sizes, windows, strides, strict=True):
        total = window - 1 if stride == 1 else max((-(-size // stride) - 1) * stride + window - size, 0)
        pads.append((total // 2, total - total // 2))
    return pads


def pad_axes(x: torch.Tensor, pads: Sequence[tuple[Any, Any]], channels_last: bool, value: float = 0.0) -> torch.Tensor:
    """Returns the input with its spatial axes padded."""
    flat = [p for pair in reversed(pads) for p in pair]
    return F.pad(x, [0, 0, *flat] if channels_last else flat, value=value)


# -- layouts


def kernel_view(x: torch.Tensor, channels_last: bool) -> torch.Tensor:
    """Returns the view `(batch, channels, *spatial)` of a layer's tensor; one spatial axis becomes two, the first of size 1."""
    if x.dim() == 3:
        x = x.unsqueeze(1 if channels_last else 2)
    return x.permute(_FIRST[x.dim()]) if channels_last else x


def layer_view(y: torch.Tensor, rank: int, channels_last: bool) -> torch.Tensor:
    """Returns a kernel's tensor as a layer's: the inverse of `kernel_view`."""
    if channels_last:
        y = y.permute(_LAST[y.dim()])
    return y.squeeze(1 if channels_last else 2) if rank == 1 else y


def two_axes(values: tuple[Any, ...], first: Any = 1) -> tuple[Any, ...]:
    """Returns per-axis values with one for the extra axis in front, where there is one axis only."""
    return (first, *values) if len(values) == 1 else values
