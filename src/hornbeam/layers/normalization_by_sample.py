"""Normalizations within each sample: layer, group, root mean square, unit length."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from hornbeam.core.layer import Layer
from hornbeam.core.registry import public
from hornbeam.layers.normalization import ScaledNormalization, channel_view, from_channel_view


def checked_axes(axis: Any, layer: Layer) -> Any:
    """Returns an axis as it is, or several as a list."""
    if isinstance(axis, (list, tuple)) and axis and all(isinstance(a, int) for a in axis):
        return list(axis)
    if isinstance(axis, int) and not isinstance(axis, bool):
        return axis
    raise TypeError(
        f"{type(layer).__name__} layer {layer.name!r}: `axis` takes an integer or a list of them. Received: axis={axis!r}"
    )


def axes_of(axis: Any, rank: int) -> list[int]:
    """Returns the axes counted from 0, in order."""
    return sorted(a % rank for a in (axis if isinstance(axis, (list, tuple)) else [axis]))


def in_order(axis: Any, rank: int) -> list[int]:
    """Returns the axes as a list in order, each written as it was: what Keras keeps after a build."""
    return sorted(axis if isinstance(axis, (list, tuple)) else [axis], key=lambda a: a % rank)


def in_dtype_of(weight: torch.Tensor | None, x: torch.Tensor) -> torch.Tensor:
    """Returns the tensor in a weight's dtype, in which the moments are taken."""
    return x if weight is None or x.dtype is weight.dtype else x.to(weight.dtype)


def broadcast_shape(x: torch.Tensor, axes: list[int]) -> list[int]:
    """Returns the shape of a weight for these axes that fits the tensor."""
    return [size if i in axes else 1 for i, size in enumerate(x.shape)]


@public("keras.layers.LayerNormalization")
class LayerNormalization(ScaledNormalization):
    """Normalizes each sample: `gamma * (x - mean) / sqrt(variance + epsilon) + beta` over some axes (Ba et al., 2016).

    Args:
        axis: the axis over which moments are taken, or a list of them.
        epsilon: added to the variance.
        center, scale: whether there is a shift `beta`, a scale `gamma`.
        beta_initializer, gamma_initializer: by name or object.
        beta_regularizer, gamma_regularizer: penalties, by name or object.
        beta_constraint, gamma_constraint: projections after each update, by name or object.
        rms_scaling: older form of `RMSNormalization`: no mean is subtracted, no `beta` added.

    >>> LayerNormalization()(torch.tensor([[1.0, 3.0]])).round(decimals=2).tolist()
    [[-1.0, 1.0]]
    """

    def __init__(
        self, axis: Any = -1, epsilon: float = 1e-3, center: bool = True, scale: bool = True, beta_initializer: Any = "zeros",
        gamma_initializer: Any = "ones", beta_regularizer: Any = None, gamma_regularizer: Any = None, beta_constraint: Any = None,
        gamma_constraint: Any = None, rms_scaling: bool = False, **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(
            axis, epsilon, center, scale, beta_initializer, gamma_initializer, beta_regularizer, gamma_regularizer,
            beta_constraint, gamma_constraint, **kwargs,
        )  # fmt: skip
        self.axis, self.rms_scaling = checked_axes(axis, self), rms_scaling

    def build(self, input_shape: Any) -> None:
        """Makes `gamma` and `beta` of the sizes of the normalized axes."""
        self.axis = in_order(self.axis, len(input_shape))
        self._add_scale_and_shift(tuple(self._known_size(input_shape, a) for a in self.axis))

    def _declared_weights(self) -> tuple[str, ...]:
        return ("gamma",) * (self.scale or self.rms_scaling) + ("beta",) * (self.center and not self.rms_scaling)

    def _add_scale_and_shift(self, shape: tuple[int, ...]) -> None:
        scale, center = self.scale, self.center
        if self.rms_scaling:
            self.scale, self.center = True, False
        super()._add_scale_and_shift(shape)
        self.scale, self.center = scale, center

    def call(self, inputs: torch.Tensor) -> torch.Tensor:
        """Returns the normalized input."""
        x = inputs if inputs.is_floating_point() else inputs.to(self._compute)
        gamma, beta, axes = self.gamma, self.beta, axes_of(self.axis, x.dim())
        wide = in_dtype_of(gamma if gamma is not None else beta, x)
        if axes[0] == x.dim() - len(axes) and not self.rms_scaling:
            y = F.layer_norm(wide, x.shape[axes[0] :], gamma, beta, self.epsilon)
            return y if y.dtype is x.dtype else y.to(x.dtype)
        variance, mean = torch.var_mean(wide, axes, correction=0, keepdim=True)
        y = (wide if self.rms_scaling else wide - mean) * torch.rsqrt(variance + self.epsilon)
        shape = broadcast_shape(x, axes)
        y = y if gamma is None else y * gamma.view(shape)
        return (y if beta is None else y + beta.view(shape)).to(x.dtype)


@public("keras.layers.GroupNormalization")
class GroupNormalization(ScaledNormalization):
    """Normalizes each group of channels of each sample (Wu and He, 2018).

    Args:
        groups: number of groups; as many as channels makes it instance normalization, and so does -1; 1 takes all channels.
        axis: axis of the channels.
        epsilon: added to the variance.
        center, scale: whether there is a shift `beta`, a scale `gamma`.
        beta_initializer, gamma_initializer: by name or object.
        beta_regularizer, gamma_regularizer: penalties, by name or object.
        beta_constraint, gamma_constraint: projections after each update, by name or object.

    >>> GroupNormalization(2)(torch.tensor([[1.0, 3.0, 10.0, 30.0]])).round(decimals=2).tolist()
    [[-1.0, 1.0, -1.0, 1.0]]
    """

    def __init__(
        self, groups: int = 32, axis: int = -1, epsilon: float = 1e-3, center: bool = True, scale: bool = True,
        beta_initializer: Any = "zeros", gamma_initializer: Any = "ones", beta_regularizer: Any = None,
        gamma_regularizer: Any = None, beta_constraint: Any = None, gamma_constraint: Any = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(
            axis, epsilon, center, scale, beta_initializer, gamma_initializer, beta_regularizer, gamma_regularizer,
            beta_constraint, gamma_constraint, **kwargs,
        )  # fmt: skip
        if isinstance(groups, bool) or not isinstance(groups, int) or (groups <= 0 and groups != -1):
            raise ValueError(
                f"{self._title()}: `groups` is a positive integer, or -1 for one channel each. Received: groups={groups!r}"
            )
        self.groups = groups

    def build(self, input_shape: Any) -> None:
        """Makes `gamma` and `beta`, one number for each channel."""
        size = self._known_size(input_shape, self.axis)
        if self.groups == -1:
            self.groups = size
        if size % self.groups:
            raise ValueError(
                f"{self._title()}: the number of channels must be a multiple of `groups`. "
                f"Received: {size} channels, groups={self.groups}, input shape {tuple(input_shape)}."
            )
        self._add_scale_and_shift((size,))

    def call(self, inputs: torch.Tensor) -> torch.Tensor:
        """Returns the normalized input."""
        x = inputs if inputs.is_floating_point() else inputs.to(self._compute)
        gamma, beta = self.gamma, self.beta
        view = channel_view(in_dtype_of(gamma if gamma is not None else beta, x), self.axis)
        view = view.contiguous()  # torch 2.13's backward on the CPU crashes on channels-last input that takes no gradient
        y = torch.group_norm(view, self.groups, gamma, beta if gamma is not None else None, self.epsilon)
        if gamma is None and beta is not None:  # torch's kernel has no gradient for a shift alone
            y = y + beta.view(-1, *(1,) * (view.dim() - 2))
        return from_channel_view(y.to(x.dtype), self.axis, x.dim())


@public("keras.layers.RMSNormalization")
class RMSNormalization(Layer):
    """Divides by the root of the mean square: `scale * x / sqrt(mean(x²) + epsilon)` (Zhang and Sennrich, 2019).

    Args:
        axis: the axis over which the mean is taken, or a list of them.
        epsilon: added to the mean square.

    >>> RMSNormalization()(torch.tensor([[3.0, 4.0]])).detach()
    tensor([[0.8485, 1.1314]])
    """

    supports_masking = False

    def __init__(self, axis: Any = -1, epsilon: float = 1e-6, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        checked_axes(axis, self)
        self.axis, self.epsilon = axis, epsilon

    def _declared_weights(self) -> tuple[str, ...]:
        return ("scale",)

    def build(self, input_shape: Any) -> None:
        """Makes `scale` of the sizes of the normalized axes."""
        self.axis = in_order(self.axis, len(input_shape))
        sizes = [input_shape[a] for a in self.axis]
        if None in sizes:
            raise ValueError(
                f"RMSNormalization layer {self.name!r} needs known sizes on axis {self.axis}. "
                f"Received: input shape {tuple(input_shape)}."
            )
        self.scale = self.add_weight(tuple(sizes), "ones", autocast=False, name="scale")

    def call(self, inputs: torch.Tensor) -> torch.Tensor:
        """Returns the normalized input."""
        x = inputs if inputs.is_floating_point() else inputs.to(self._compute)
        scale, axes = self.scale, axes_of(self.axis, x.dim())
        wide = in_dtype_of(scale, x)
        if axes[0] == x.dim() - len(axes):
            y = F.rms_norm(wide, x.shape[axes[0] :], scale, self.epsilon)
        else:
            square = wide.square().mean(axes, keepdim=True)
            y = wide * torch.rsqrt(square + self.epsilon) * scale.view(broadcast_shape(x, axes))
        return y.to(x.dtype)

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        """Returns the input's shape."""
        return tuple(input_shape)


@public("keras.layers.UnitNormalization")
class UnitNormalization(Layer):
    """Scales each sample to length 1: `x / sqrt(sum(x²))`.

    Args:
        axis: the axis over which the sum is taken, or a list of them.

    >>> UnitNormalization()(torch.tensor([[3.0, 4.0]]))
    tensor([[0.6000, 0.8000]])
    """

    supports_masking = True

    def __init__(self, axis: Any = -1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.axis = checked_axes(axis, self)

    def call(self, inputs: torch.Tensor) -> torch.Tensor:
        """Returns the scaled input."""
        x = inputs if inputs.is_floating_point() else inputs.to(self._compute)
        square = x.square().sum(axes_of(self.axis, x.dim()), keepdim=True)
        return x * torch.rsqrt(square.clamp(min=1e-12))

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        """Returns the input's shape."""
        return tuple(input_shape)
