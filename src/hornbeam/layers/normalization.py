"""Batch normalization: by the moments of the batch in training, by moving moments in inference."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F

from hornbeam import constraints, initializers, regularizers
from hornbeam.core.errors import did_you_mean
from hornbeam.core.input_spec import InputSpec
from hornbeam.core.layer import Layer
from hornbeam.core.registry import public
from hornbeam.graph.context import context

_CLIPPING = ("rmax", "rmin", "dmax")


class ScaledNormalization(Layer):
    """Base of normalizations with a learned scale `gamma` and shift `beta`, which stay in the variable dtype."""

    supports_masking = True

    def __init__(
        self, axis: Any = -1, epsilon: float = 1e-3, center: bool = True, scale: bool = True, beta_initializer: Any = "zeros",
        gamma_initializer: Any = "ones", beta_regularizer: Any = None, gamma_regularizer: Any = None, beta_constraint: Any = None,
        gamma_constraint: Any = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(**kwargs)
        self.axis, self.epsilon, self.center, self.scale = axis, epsilon, center, scale
        self.beta_initializer, self.gamma_initializer = initializers.get(beta_initializer), initializers.get(gamma_initializer)
        self.beta_regularizer, self.gamma_regularizer = regularizers.get(beta_regularizer), regularizers.get(gamma_regularizer)
        self.beta_constraint, self.gamma_constraint = constraints.get(beta_constraint), constraints.get(gamma_constraint)

    def _title(self) -> str:
        return f"{type(self).__name__} layer {self.name!r}"

    def _declared_weights(self) -> tuple[str, ...]:
        return ("gamma",) * self.scale + ("beta",) * self.center

    def _add_scale_and_shift(self, shape: tuple[int, ...]) -> None:
        for name, wanted in (("gamma", self.scale), ("beta", self.center)):
            found = {part: getattr(self, f"{name}_{part}") for part in ("initializer", "regularizer", "constraint")}
            setattr(self, name, self.add_weight(shape, name=name, autocast=False, **found) if wanted else None)

    def _known_size(self, input_shape: Any, axis: int) -> int:
        """The input's size along an axis."""
        rank = len(input_shape)
        if not -rank <= axis < rank:
            raise ValueError(
                f"{self._title()}: axis {axis} is beyond an input of rank {rank}. Received: input shape {tuple(input_shape)}."
            )
        if input_shape[axis] is None:
            raise ValueError(f"{self._title()} needs a known size on axis {axis}. Received: input shape {tuple(input_shape)}.")
        return input_shape[axis]

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        """Returns the input's shape."""
        return tuple(input_shape)


def channel_view(x: torch.Tensor, axis: int) -> torch.Tensor:
    """Returns a view `(batch, channels, ...)` of a tensor whose channels are on `axis`; three axes become four."""
    if x.dim() == 3:
        x, axis = x.unsqueeze(1), axis + (axis > 0 or axis < -2)
    return x.movedim(axis, 1) if x.dim() > 2 or axis not in (1, -1) else x


def from_channel_view(y: torch.Tensor, axis: int, rank: int) -> torch.Tensor:
    """The inverse of `channel_view`."""
    if rank == 3:
        return y.movedim(1, axis + (axis > 0 or axis < -2)).squeeze(1)
    return y.movedim(1, axis) if rank > 2 or axis not in (1, -1) else y


@public("keras.layers.BatchNormalization")
class BatchNormalization(ScaledNormalization):
    """Normalizes each channel: `gamma * (x - mean) / sqrt(variance + epsilon) + beta` (Ioffe and Szegedy, 2015).

    In training, mean and (biased) variance are those of the batch, and `moving = momentum * moving + (1 - momentum) * batch`
    follows them; in inference, and where `trainable` is False, the moving ones are used.

    Args:
        axis: axis of the channels.
        momentum: how much of the moving moments each training step keeps.
        epsilon: added to the variance.
        center, scale: whether there is a shift `beta`, a scale `gamma`.
        beta_initializer, gamma_initializer, moving_mean_initializer, moving_variance_initializer: by name or object.
        beta_regularizer, gamma_regularizer: penalties, by name or object.
        beta_constraint, gamma_constraint: projections after each update, by name or object.
        renorm: whether the batch's moments are corrected towards the moving ones (Ioffe, 2017).
        renorm_clipping: dict of bounds "rmax", "rmin", "dmax" for the corrections.
        renorm_momentum: as `momentum`, for the moments that `renorm` compares with.
        synchronized: whether the moments are taken over all processes of torch.distributed.

    Call arguments: `mask`, of the input's shape without the channels: what it hides does not count.

    >>> layer = BatchNormalization()
    >>> layer(torch.tensor([[1.0], [3.0]]), training=True).flatten().round(decimals=2).tolist()
    [-1.0, 1.0]
    >>> layer.moving_mean.numpy().round(2)
    array([0.02], dtype=float32)
    """

    def __init__(
        self, axis: int = -1, momentum: float = 0.99, epsilon: float = 1e-3, center: bool = True, scale: bool = True,
        beta_initializer: Any = "zeros", gamma_initializer: Any = "ones", moving_mean_initializer: Any = "zeros",
        moving_variance_initializer: Any = "ones", beta_regularizer: Any = None, gamma_regularizer: Any = None,
        beta_constraint: Any = None, gamma_constraint: Any = None, renorm: bool = False, renorm_clipping: Any = None,
        renorm_momentum: float = 0.99, synchronized: bool = False, **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(
            axis, epsilon, center, scale, beta_initializer, gamma_initializer, beta_regularizer, gamma_regularizer,
            beta_constraint, gamma_constraint, **kwargs,
        )  # fmt: skip
        if isinstance(axis, bool) or not isinstance(axis, int):
            raise TypeError(f"{self._title()}: `axis` is the one axis of the channels, an integer. Received: axis={axis!r}")
        self.momentum, self.synchronized, self.renorm, self.renorm_momentum = (
            float(momentum),
            synchronized,
            renorm,
            renorm_momentum,
        )
        self.moving_mean_initializer = initializers.get(moving_mean_initializer)
        self.moving_variance_initializer = initializers.get(moving_variance_initializer)
        self.renorm_clipping = renorm_clipping or ({} if renorm else None)
        _check_clipping(self._title(), renorm_clipping or {})

    def build(self, input_shape: Any) -> None:
        """Makes `gamma`, `beta` and the moving moments, one number for each channel."""
        size = self._known_size(input_shape, self.axis)
        self._add_scale_and_shift((size,))
        mean, variance = self.moving_mean_initializer, self.moving_variance_initializer
        names = {"moving_mean": mean, "moving_variance": variance}
        if self.renorm:
            names.update(moving_stddev=Root(variance), renorm_mean=mean, renorm_stddev=Root(variance))
        for name, initializer in names.items():
            setattr(self, name, self.add_weight((size,), initializer, trainable=False, autocast=False, name=name))
        self.input_spec = InputSpec(ndim=len(input_shape), axes={self.axis: size})

    def call(self, inputs: torch.Tensor, training: bool | None = None, mask: torch.Tensor | None = None) -> torch.Tensor:
        """Returns the normalized input."""
        x = channel_view(inputs if inputs.is_floating_point() else inputs.to(self._compute), self.axis)
        if not training or not self._trainable:
            y = F.batch_norm(x, self.moving_mean, self.moving_variance, self.gamma, self.beta, False, 0.0, self.epsilon)
        elif mask is not None:
            y = self._by_moments(x, channel_view(fitting_mask(mask, inputs), self.axis))
        else:
            y = self._by_batch(x)
        return from_channel_view(y, self.axis, inputs.dim())

    def _by_batch(self, x: torch.Tensor) -> torch.Tensor:
        """Normalizes in one call, which leaves the batch's mean and unbiased variance in two vectors."""
        count = x.numel() // x.shape[1]
        if count < 2 or self.renorm or self.synchronized or context.stateless is not None:
            return self._by_moments(x, None)
        moving = [self.moving_mean, self.moving_variance]
        mean, variance = torch.zeros_like(moving[0]), torch.zeros_like(moving[0])
        y = F.batch_norm(x, mean, variance, self.gamma, self.beta, True, 1.0, self.epsilon)
        if not context.scratch:
            torch._foreach_lerp_(moving, [mean, variance * ((count - 1) / count)], 1 - self.momentum)
        return y

    def _by_moments(self, x: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """Normalizes by moments that torch's kernel does not take: masked, of all processes, of one point, or corrected."""
        wide = x.to(self.moving_mean.dtype)
        mean, variance, count = moments(wide, mask, self.synchronized)
        deviation = (variance + self.epsilon).sqrt()
        rate = (1 - self.momentum) * (count > 0)  # a batch of which nothing is seen moves nothing
        shape = (-1, *(1,) * (x.dim() - 2))
        y = (wide - mean.view(shape)) / deviation.view(shape)
        if self.renorm:
            y = self._renormed(y, mean.detach(), deviation.detach(), count, shape)
            follow(self.moving_stddev, deviation, rate)
            variance = self.moving_stddev.square() - self.epsilon
            follow(self.moving_variance, variance, 1.0 * (count > 0))
        else:
            follow(self.moving_variance, variance, rate)
        follow(self.moving_mean, mean, rate)
        y = y if self.gamma is None else y * self.gamma.view(shape)
        y = y if self.beta is None else y + self.beta.view(shape)
        return y.to(x.dtype)

    def _renormed(
        self, y: torch.Tensor, mean: torch.Tensor, deviation: torch.Tensor, count: torch.Tensor, shape: Any
    ) -> torch.Tensor:
        bound, rate = self.renorm_clipping or {}, (1 - self.renorm_momentum) * (count > 0)
        scale = (
            (deviation / self.renorm_stddev).clamp(bound.get("rmin"), bound.get("rmax"))
            if bound.keys() - {"dmax"}
            else deviation / self.renorm_stddev
        )
        shift = (mean - self.renorm_mean) / self.renorm_stddev
        if "dmax" in bound:
            shift = shift.clamp(-bound["dmax"], bound["dmax"])
        follow(self.renorm_mean, mean, rate)
        follow(self.renorm_stddev, deviation, rate)
        return y * scale.view(shape) + shift.view(shape)


def _check_clipping(title: str, clipping: dict[str, float]) -> None:
    for wrong in set(clipping) - set(_CLIPPING):
        raise ValueError(f"{title}: `renorm_clipping` takes {_CLIPPING}. Received: {wrong!r}.{did_you_mean(wrong, _CLIPPING)}")
    if clipping.get("rmin", 0) > clipping.get("rmax", math.inf) or clipping.get("dmax", 0) < 0:
        raise ValueError(f"{title}: `renorm_clipping` needs rmin <= rmax and dmax of at least 0. Received: {clipping}")


class Root:
    """Initial values that are the square roots of another initializer's."""

    def __init__(self, initializer: Any) -> None:
        self.initializer = initializer

    def __call__(self, shape: Any, dtype: Any = None) -> torch.Tensor:
        return torch.as_tensor(self.initializer(shape, dtype=dtype)).sqrt()


def fitting_mask(mask: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Returns a mask of the tensor's first axes with as many axes as the tensor, of size 1 where the mask says nothing."""
    return mask.view(*mask.shape, *(1,) * (x.dim() - mask.dim()))


def moments(x: torch.Tensor, mask: torch.Tensor | None, synchronized: bool) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Returns mean and biased variance of each channel (axis 1) over what the mask lets through, and the numbers of points."""
    axes, shape = [0, *range(2, x.dim())], (-1, *(1,) * (x.dim() - 2))
    seen = x.new_ones((1,) * x.dim()) if mask is None else mask.to(x.dtype)
    count = seen.expand(x.shape[0], seen.shape[1], *x.shape[2:]).sum(axes)
    total = (x * seen).sum(axes)
    if synchronized:
        count, total = over_processes(count), over_processes(total)
    mean = total / count.clamp(min=1)
    square = ((x - mean.view(shape)).square() * seen).sum(axes)
    return mean, (over_processes(square) if synchronized else square) / count.clamp(min=1), count


class _SumOverProcesses(torch.autograd.Function):
    """The sum over all processes; its gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, value: torch.Tensor) -> torch.Tensor:
        total = value.detach().clone()
        torch.distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        return _SumOverProcesses.forward(ctx, gradient)


def over_processes(value: torch.Tensor) -> torch.Tensor:
    """Returns the sum over all processes of torch.distributed, with gradients; the value itself where there is one process."""
    if not torch.distributed.is_available() or not torch.distributed.is_initialized():
        return value
    return _SumOverProcesses.apply(value)


def follow(moving: Any, value: torch.Tensor, rate: Any) -> None:
    """Moves a moving average by a rate towards a value; not while a model is only looked at."""
    if context.scratch:
        return
    value = value.detach().to(moving.dtype)
    if context.stateless is not None:
        moving.assign(torch.lerp(moving.value, value, rate))
    else:
        moving.lerp_(value, rate if not isinstance(rate, torch.Tensor) else rate.to(moving.dtype))
