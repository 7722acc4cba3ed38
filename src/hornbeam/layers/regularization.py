"""Layers that are there for training: dropout, noise, a penalty on activity."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F

from hornbeam import regularizers
from hornbeam.core.errors import bad_argument
from hornbeam.core.input_spec import InputSpec
from hornbeam.core.layer import Layer
from hornbeam.core.random import SeedGenerator
from hornbeam.core.registry import public
from hornbeam.core.settings import standardize_data_format
from hornbeam.graph.context import context


class RandomLayer(Layer):
    """Base of layers that draw random numbers in training.

    They draw from torch's default generator, or from one of their own where a seed is given. Code under `torch.compile` or
    `torch.export` cannot hold a generator of its own: there, a seeded layer draws from the default generator too.

    Args:
        seed: integer, or None.
        kwargs: arguments of `Layer`.
    """

    def __init__(self, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int)):
            raise bad_argument(self, "seed", "an integer", seed)
        self.seed = seed
        self.seed_generator = None if seed is None else SeedGenerator(seed)
        self.supports_masking = True

    def _fraction(self, name: str, value: Any, below_one: bool = False) -> float:
        if not isinstance(value, (int, float)) or not 0 <= value <= 1 or (below_one and value == 1):
            raise bad_argument(self, name, "a number from 0 to below 1" if below_one else "a number from 0 to 1", value)
        return value

    def _generator(self, like: torch.Tensor) -> torch.Generator | None:
        """The generator for one draw; None stands for torch's default one."""
        if self.seed_generator is None or torch.compiler.is_compiling() or context.scratch:
            return None
        return self.seed_generator.generator(like.device)

    def _normal(self, like: torch.Tensor) -> torch.Tensor:
        generator = self._generator(like)
        return torch.randn_like(like) if generator is None else torch.empty_like(like).normal_(generator=generator)

    def _kept(self, like: torch.Tensor, rate: float, shape: Any) -> torch.Tensor:
        """A tensor of `shape` with 1 where a value is kept and 0 where it is dropped."""
        return like.new_empty(shape).bernoulli_(1 - rate, generator=self._generator(like))

    def _checked_noise_shape(self, shape: Any) -> Any:
        if shape is not None and not isinstance(shape, (tuple, list)):
            raise bad_argument(self, "noise_shape", "a tuple", shape)
        if not all(n is None or (isinstance(n, int) and n > 0) for n in shape or ()):
            raise bad_argument(self, "noise_shape", "a tuple of positive sizes, with None for a size of the input", shape)
        return shape

    def _drawn_shape(self, shape: Any, inputs: torch.Tensor) -> Any:
        """The sizes of `noise_shape`, with the input's in place of None."""
        if shape is None:
            return inputs.shape
        if len(shape) != inputs.dim():
            raise bad_argument(self, "noise_shape", f"as long as the input's shape {tuple(inputs.shape)}", shape)
        return [size if n is None else n for n, size in zip(shape, inputs.shape, strict=True)]


@public("keras.layers.Dropout")
class Dropout(RandomLayer):
    """In training, values are set to 0 at random and the others divided by `1 - rate`; else nothing changes.

    Args:
        rate: share of values that is dropped.
        noise_shape: shape of what is drawn, None for an axis of the input's size: with `(None, 1, None)`, all time steps
            of a sample lose the same features.
        seed: integer, to draw from a generator of its own.

    Formula from Srivastava et al. 2014, "Dropout: a simple way to prevent neural networks from overfitting".

    >>> Dropout(0.5)(torch.ones(1, 3)).tolist()
    [[1.0, 1.0, 1.0]]
    """

    def __init__(self, rate: float, noise_shape: Any = None, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(seed, **kwargs)
        self.rate = self._fraction("rate", rate)
        self.noise_shape = self._checked_noise_shape(noise_shape)

    def call(self, inputs: torch.Tensor, training: bool | None = None) -> torch.Tensor:
        """Returns the inputs, in training with values dropped."""
        if not training or self.rate == 0:
            return inputs
        noise_shape = self._noise_shape()
        if noise_shape is None and self.seed is None:
            return F.dropout(inputs, self.rate, True)
        kept = self._kept(inputs, self.rate, self._drawn_shape(noise_shape, inputs))
        return inputs * kept.div_(1 - self.rate or 1.0)

    def _noise_shape(self) -> Any:
        return self.noise_shape


class SpatialDropout(Dropout):
    """Base of the layers that drop whole channels.

    Args:
        rate: share of channels that is dropped.
        seed: integer, to draw from a generator of its own.
        name: a name.
        dtype: dtype or policy.
    """

    rank: int
    data_format = "channels_last"
    config_exclude = ("noise_shape", *Layer.config_exclude)

    def __init__(self, rate: float, seed: int | None = None, name: str | None = None, dtype: Any = None) -> None:
        super().__init__(rate, seed=seed, name=name, dtype=dtype)
        self.input_spec = InputSpec(ndim=self.rank + 2)

    def _noise_shape(self) -> Any:
        ones = (1,) * self.rank
        return (None, *ones, None) if self.data_format == "channels_last" else (None, None, *ones)

    def _config_value(self, name: str) -> Any:
        return self.dtype_policy.name if name == "dtype" else super()._config_value(name)


@public("keras.layers.SpatialDropout1D")
class SpatialDropout1D(SpatialDropout):
    """Dropout of whole features of a sequence.

    Args:
        rate: share of features that is dropped.
        seed: integer, to draw from a generator of its own.
        name: a name.
        dtype: dtype or policy.

    Formula from Tompson et al. 2015, "Efficient object localization using convolutional networks".

    >>> SpatialDropout1D(0.5)(torch.ones(2, 5, 3)).shape
    torch.Size([2, 5, 3])
    """

    rank = 1

    def __init__(self, rate: float, seed: int | None = None, name: str | None = None, dtype: Any = None) -> None:
        super().__init__(rate, seed, name, dtype)


class _SpatialDropoutND(SpatialDropout):
    def __init__(
        self, rate: float, data_format: str | None = None, seed: int | None = None, name: str | None = None, dtype: Any = None
    ) -> None:  # fmt: skip
        super().__init__(rate, seed, name, dtype)
        self.data_format = standardize_data_format(data_format)


@public("keras.layers.SpatialDropout2D")
class SpatialDropout2D(_SpatialDropoutND):
    """Dropout of whole channels of an image.

    Args:
        rate: share of channels that is dropped.
        data_format: "channels_last" or "channels_first".
        seed: integer, to draw from a generator of its own.
        name: a name.
        dtype: dtype or policy.

    >>> SpatialDropout2D(0.5)(torch.ones(2, 5, 5, 3)).shape
    torch.Size([2, 5, 5, 3])
    """

    rank = 2


@public("keras.layers.SpatialDropout3D")
class SpatialDropout3D(_SpatialDropoutND):
    """Dropout of whole channels of a volume.

    Args:
        rate: share of channels that is dropped.
        data_format: "channels_last" or "channels_first".
        seed: integer, to draw from a generator of its own.
        name: a name.
        dtype: dtype or policy.

    >>> SpatialDropout3D(0.5)(torch.ones(2, 4, 5, 6, 3)).shape
    torch.Size([2, 4, 5, 6, 3])
    """

    rank = 3


@public("keras.layers.GaussianNoise")
class GaussianNoise(RandomLayer):
    """In training, normal noise is added; else nothing changes.

    Args:
        stddev: standard deviation of the noise, from 0 to 1.
        seed: integer, to draw from a generator of its own.

    >>> GaussianNoise(0.1)(torch.ones(1, 2)).tolist()
    [[1.0, 1.0]]
    """

    def __init__(self, stddev: float, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(seed, **kwargs)
        self.stddev = self._fraction("stddev", stddev)

    def call(self, inputs: torch.Tensor, training: bool | None = None) -> torch.Tensor:
        """Returns the inputs, in training with noise."""
        return inputs + self.stddev * self._normal(inputs) if training and self.stddev > 0 else inputs


@public("keras.layers.GaussianDropout")
class GaussianDropout(RandomLayer):
    """In training, values are multiplied by normal noise of mean 1 and variance `rate / (1 - rate)`; else nothing changes.

    Args:
        rate: the share that Dropout of the same variance would drop, below 1.
        seed: integer, to draw from a generator of its own.

    Formula from Srivastava et al. 2014, "Dropout: a simple way to prevent neural networks from overfitting", section 10.

    >>> GaussianDropout(0.5)(torch.ones(1, 2)).tolist()
    [[1.0, 1.0]]
    """

    def __init__(self, rate: float, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(seed, **kwargs)
        self.rate = self._fraction("rate", rate, below_one=True)

    def call(self, inputs: torch.Tensor, training: bool | None = None) -> torch.Tensor:
        """Returns the inputs, in training with noise."""
        if not training or self.rate == 0:
            return inputs
        return inputs * (1 + math.sqrt(self.rate / (1 - self.rate)) * self._normal(inputs))


_SELU_FLOOR = -1.7580993408473766  # the limit of selu towards minus infinity


@public("keras.layers.AlphaDropout")
class AlphaDropout(RandomLayer):
    """Dropout that keeps mean and variance of values that come out of a selu; only in training.

    Args:
        rate: share of values that is set to selu's lower limit, below 1.
        noise_shape: shape of what is drawn, None for an axis of the input's size.
        seed: integer, to draw from a generator of its own.

    Formula from Klambauer et al. 2017, "Self-normalizing neural networks".

    >>> AlphaDropout(0.5)(torch.ones(1, 2)).tolist()
    [[1.0, 1.0]]
    """

    def __init__(self, rate: float, noise_shape: Any = None, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(seed, **kwargs)
        self.rate = self._fraction("rate", rate, below_one=True)
        self.noise_shape = self._checked_noise_shape(noise_shape)

    def call(self, inputs: torch.Tensor, training: bool | None = None) -> torch.Tensor:
        """Returns the inputs, in training with values dropped."""
        if not training or self.rate == 0:
            return inputs
        kept = self._kept(inputs, self.rate, self._drawn_shape(self.noise_shape, inputs))
        scale = ((1 - self.rate) * (1 + self.rate * _SELU_FLOOR**2)) ** -0.5
        return scale * (inputs * kept + _SELU_FLOOR * (1 - kept)) - scale * _SELU_FLOOR * self.rate


@public("keras.layers.ActivityRegularization")
class ActivityRegularization(Layer):
    """Passes its input on and adds a penalty on it, per sample, to the model's loss.

    Args:
        l1: weight of the sum of absolute values.
        l2: weight of the sum of squares.

    >>> layer = ActivityRegularization(l2=0.5)
    >>> _ = layer(torch.full((1, 2), 2.0))
    >>> layer.losses[0].item()
    4.0
    """

    def __init__(self, l1: float = 0.0, l2: float = 0.0, **kwargs: Any) -> None:
        super().__init__(activity_regularizer=regularizers.L1L2(l1, l2), **kwargs)
        self.l1, self.l2 = l1, l2
        self.supports_masking = True

    def call(self, inputs: torch.Tensor) -> torch.Tensor:
        """Returns the inputs."""
        return inputs

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        config = super().get_config()
        config.pop("activity_regularizer")
        return config
