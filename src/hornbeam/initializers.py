"""Initial values of weights, as `keras.initializers` has them.

Random initializers own their seed: they never touch torch's default generator after they are made. With an integer seed, or
none, an initializer returns the same values at each call; with a SeedGenerator it returns new ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from hornbeam.core import dtype as dtypes
from hornbeam.core.errors import describe, did_you_mean
from hornbeam.core.init_args import Configurable
from hornbeam.core.random import SeedGenerator, make_default_seed
from hornbeam.core.registry import Registry, custom_object_scope, deserialize_keras_object, public, serialize_keras_object


@public("keras.Initializer")
class Initializer(Configurable):
    """Makes initial values. Subclasses write `__call__(shape, dtype=None, **kwargs)`.

    >>> class Twos(Initializer):
    ...     def __call__(self, shape, dtype=None, **kwargs):
    ...         return torch.full(shape, 2.0)
    >>> Twos()((2,)).tolist()
    [2.0, 2.0]
    """

    def __call__(self, shape: Any, dtype: Any = None, **kwargs: Any) -> torch.Tensor:
        """Returns initial values.

        Args:
            shape: tuple of integers.
            dtype: dtype of the values; `config.floatx()` unless given.
        """
        raise NotImplementedError(f"{type(self).__name__} must write `__call__(self, shape, dtype=None, **kwargs)`.")

    def clone(self) -> Initializer:
        """Returns a new initializer of the same arguments; without a seed among them it draws a seed of its own."""
        return type(self).from_config(self.get_config())


class Zeros(Initializer):
    """Makes zeros.

    >>> Zeros()((2,)).tolist()
    [0.0, 0.0]
    """

    def __call__(self, shape: Any, dtype: Any = None, **kwargs: Any) -> torch.Tensor:
        return torch.zeros(tuple(shape), dtype=dtypes.to_torch(dtype), device="cpu")


class Ones(Initializer):
    """Makes ones.

    >>> Ones()((2,)).tolist()
    [1.0, 1.0]
    """

    def __call__(self, shape: Any, dtype: Any = None, **kwargs: Any) -> torch.Tensor:
        return torch.ones(tuple(shape), dtype=dtypes.to_torch(dtype), device="cpu")


class Constant(Initializer):
    """Makes a tensor of one value, or of an array that is broadcast to the shape.

    Args:
        value: number, or array or tensor of a shape that broadcasts.

    >>> Constant(3.0)((2,)).tolist()
    [3.0, 3.0]
    """

    def __init__(self, value: Any = 0.0) -> None:
        self.value = value

    def __call__(self, shape: Any, dtype: Any = None, **kwargs: Any) -> torch.Tensor:
        value = torch.as_tensor(self.value, dtype=dtypes.to_torch(dtype), device="cpu")
        try:
            return value.broadcast_to(tuple(shape)).clone()
        except RuntimeError:
            raise ValueError(f"Constant of shape {tuple(value.shape)} does not broadcast to {tuple(shape)}.") from None

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Constant:
        """Makes an initializer from `get_config`'s answer."""
        return cls(deserialize_keras_object(config["value"]))


class Identity(Initializer):
    """Makes an identity matrix times `gain`; for shapes of two axes.

    Args:
        gain: factor.

    >>> Identity()((2, 2)).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """

    config_exclude = ("gain",)

    def __init__(self, gain: float = 1.0) -> None:
        self.gain = gain

    def __call__(self, shape: Any, dtype: Any = None, **kwargs: Any) -> torch.Tensor:
        if len(shape) != 2:
            raise ValueError(f"Identity makes matrices: a shape of 2 axes is expected. Received: shape={tuple(shape)}")
        return torch.eye(*shape, dtype=dtypes.to_torch(dtype), device="cpu") * self.gain


class RandomInitializer(Initializer):
    """Draws values from a generator of its own.

    Args:
        seed: integer, or None to draw one now: the same values at each call. A SeedGenerator: new values at each call.
    """

    def __init__(self, seed: Any = None) -> None:
        seed = deserialize_keras_object(seed) if isinstance(seed, dict) else seed
        if seed is not None and not isinstance(seed, (int, SeedGenerator)):
            raise ValueError(f"{type(self).__name__}: `seed` must be an integer, a SeedGenerator or None. Received: {seed!r}")
        self._init_seed = seed
        self.seed = make_default_seed() if seed is None else seed

    def _config_value(self, name: str) -> Any:
        return serialize_keras_object(self._init_seed) if name == "seed" else super()._config_value(name)

    def _draw(self, shape: Any, dtype: Any, fill: Callable[[torch.Tensor, torch.Generator], Any]) -> torch.Tensor:
        """Returns a tensor filled by `fill(tensor, generator)`, drawn in float32 for the half types."""
        kind = dtypes.to_torch(dtype)
        if not kind.is_floating_point:
            raise ValueError(f"{type(self).__name__} makes floating point values. Received: dtype={dtype!r}")
        seed = self.seed.next() if isinstance(self.seed, SeedGenerator) else self.seed
        made = torch.empty(tuple(shape), dtype=kind if kind.itemsize > 2 else torch.float32, device="cpu")
        fill(made, torch.Generator().manual_seed(seed))
        return made.to(kind)

    def _normal(self, shape: Any, dtype: Any, mean: float, stddev: float) -> torch.Tensor:
        return self._draw(shape, dtype, lambda t, g: t.normal_(mean, stddev, generator=g))

    def _uniform(self, shape: Any, dtype: Any, low: float, high: float) -> torch.Tensor:
        return self._draw(shape, dtype, lambda t, g: t.uniform_(low, high, generator=g))

    def _truncated(self, shape: Any, dtype: Any, mean: float, stddev: float) -> torch.Tensor:
        low, high = mean - 2 * stddev, mean + 2 * stddev
        return self._draw(shape, dtype, lambda t, g: torch.nn.init.trunc_normal_(t, mean, stddev, low, high, generator=g))


class RandomNormal(RandomInitializer):
    """Draws from a normal distribution.

    Args:
        mean, stddev: of the distribution.
        seed: integer, None or SeedGenerator.

    >>> RandomNormal(seed=1)((2, 3)).shape
    torch.Size([2, 3])
    """

    def __init__(self, mean: float = 0.0, stddev: float = 0.05, seed: Any = None) -> None:
        super().__init__(seed)
        self.mean, self.stddev = mean, stddev

    def __call__(self, shape: Any, dtype: Any = None, **kwargs: Any) -> torch.Tensor:
        return self._normal(shape, dtype, self.mean, self.stddev)


class TruncatedNormal(RandomInitializer):
    """Draws from a normal distribution that is cut at two standard deviations.

    Args:
        mean, stddev: of the distribution before it is cut.
        seed: integer, None or SeedGenerator.

    >>> bool((TruncatedNormal(seed=1)((100,)).abs() <= 0.1).all())
    True
    """

    def __init__(self, mean: float = 0.0, stddev: float = 0.05, seed: Any = None) -> None:
        super().__init__(seed)
        self.mean, self.stddev = mean, stddev

    def __call__(self, shape: Any, dtype: Any = None, **kwargs: Any) -> torch.Tensor:
        return self._truncated(shape, dtype, self.mean, self.stddev)


class RandomUniform(RandomInitializer):
    """Draws from a uniform distribution on `[minval, maxval)`.

    Args:
        minval, maxval: ends of the range.
        seed: integer, None or SeedGenerator.

    >>> bool((RandomUniform(0.0, 1.0, seed=1)((100,)) >= 0).all())
    True
    """

    def __init__(self, minval: float = -0.05, maxval: float = 0.05, seed: Any = None) -> None:
        super().__init__(seed)
        self.minval, self.maxval = minval, maxval

    def __call__(self, shape: Any, dtype: Any = None, **kwargs: Any) -> torch.Tensor:
        return self._uniform(shape, dtype, self.minval, self.maxval)


def compute_fans(shape: Any, input_axes: Any = None, output_axes: Any = None) -> tuple[int, int]:
    """Returns how many inputs and outputs a weight connects.

    Args:
        shape: `(in, out)` of a matrix, `(*window, in, out)` of a convolution's kernel; one axis counts for both.
        input_axes, output_axes: the axes to multiply instead; both are needed.

    >>> compute_fans((3, 3, 8, 16))
    (72, 144)
    """
    if input_axes and output_axes:
        return math.prod(shape[a] for a in input_axes), math.prod(shape[a] for a in output_axes)
    if len(shape) < 2:
        return (shape[0], shape[0]) if shape else (1, 1)
    window = math.prod(shape[:-2])
    return shape[-2] * window, shape[-1] * window


_TRUNCATED_STDDEV = 0.87962566103423978  # of a standard normal distribution that is cut at 2
_FANS: dict[str, Callable[[int, int], float]] = {
    "fan_in": lambda fan_in, fan_out: fan_in,
    "fan_out": lambda fan_in, fan_out: fan_out,
    "fan_avg": lambda fan_in, fan_out: (fan_in + fan_out) / 2,
}
_DISTRIBUTIONS = ("truncated_normal", "untruncated_normal", "uniform")


class VarianceScaling(RandomInitializer):
    """Draws values of mean 0 and variance `scale / n`, where n is the number of inputs, of outputs, or their mean.

    Args:
        scale: positive factor.
        mode: "fan_in", "fan_out" or "fan_avg".
        distribution: "truncated_normal", "untruncated_normal" or "uniform".
        seed: integer, None or SeedGenerator.
        input_axes, output_axes: axes whose sizes multiply to the numbers of inputs and outputs, where the last two are not meant.

    >>> VarianceScaling(2.0, "fan_out", seed=1)((3, 4)).shape
    torch.Size([3, 4])
    """

    def __init__(
        self, scale: float = 1.0, mode: str = "fan_in", distribution: str = "truncated_normal", seed: Any = None,
        input_axes: Any = None, output_axes: Any = None,
    ) -> None:  # fmt: skip
        super().__init__(seed)
        if not scale > 0:
            raise ValueError(f"VarianceScaling: `scale` must be positive. Received: scale={scale}")
        distribution = str(distribution).lower()
        distribution = "truncated_normal" if distribution == "normal" else distribution
        for argument, value, known in (("mode", mode, tuple(_FANS)), ("distribution", distribution, _DISTRIBUTIONS)):
            if value not in known:
                hint = did_you_mean(value, known)
                raise ValueError(f"VarianceScaling: `{argument}` must be one of {', '.join(known)}.{hint} Received: {value!r}")
        self.scale, self.mode, self.distribution = scale, mode, distribution
        self.input_axes, self.output_axes = input_axes, output_axes

    def __call__(self, shape: Any, dtype: Any = None, **kwargs: Any) -> torch.Tensor:
        count = _FANS[self.mode](*compute_fans(tuple(shape), self.input_axes, self.output_axes))
        variance = self.scale / max(1.0, count)
        if self.distribution == "uniform":
            limit = math.sqrt(3.0 * variance)
            return self._uniform(shape, dtype, -limit, limit)
        if self.distribution == "untruncated_normal":
            return self._normal(shape, dtype, 0.0, math.sqrt(variance))
        return self._truncated(shape, dtype, 0.0, math.sqrt(variance) / _TRUNCATED_STDDEV)


class _Preset(VarianceScaling):
    _preset: tuple[float, str, str]

    def __init__(self, seed: Any = None, input_axes: Any = None, output_axes: Any = None) -> None:
        super().__init__(*self._preset, seed=seed, input_axes=input_axes, output_axes=output_axes)


class GlorotUniform(_Preset):
    """Uniform on `±sqrt(6 / (fan_in + fan_out))` (Glorot and Bengio, 2010).

    >>> GlorotUniform(seed=1)((3, 4)).shape
    torch.Size([3, 4])
    """

    _preset = (1.0, "fan_avg", "uniform")


class GlorotNormal(_Preset):
    """Truncated normal of variance `2 / (fan_in + fan_out)` (Glorot and Bengio, 2010)."""

    _preset = (1.0, "fan_avg", "truncated_normal")


class HeUniform(_Preset):
    """Uniform on `±sqrt(6 / fan_in)` (He et al., 2015)."""

    _preset = (2.0, "fan_in", "uniform")


class HeNormal(_Preset):
    """Truncated normal of variance `2 / fan_in` (He et al., 2015)."""

    _preset = (2.0, "fan_in", "truncated_normal")


class LecunUniform(_Preset):
    """Uniform on `±sqrt(3 / fan_in)` (LeCun et al., 1998)."""

    _preset = (1.0, "fan_in", "uniform")


class LecunNormal(_Preset):
    """Truncated normal of variance `1 / fan_in` (LeCun et al., 1998)."""

    _preset = (1.0, "fan_in", "truncated_normal")


class Orthogonal(RandomInitializer):
    """Makes a random matrix of orthogonal columns, or rows where it has fewer of them; leading axes are folded into the rows.

    Args:
        gain: factor.
        seed: integer, None or SeedGenerator.

    Formula: the Q of a QR decomposition of normal values (Saxe et al., 2014).

    >>> q = Orthogonal(seed=1)((4, 4))
    >>> bool(torch.allclose(q @ q.T, torch.eye(4), atol=1e-5))
    True
    """

    def __init__(self, gain: float = 1.0, seed: Any = None) -> None:
        super().__init__(seed)
        self.gain = gain

    def __call__(self, shape: Any, dtype: Any = None, **kwargs: Any) -> torch.Tensor:
        if len(shape) < 2:
            raise ValueError(f"Orthogonal needs a shape of at least 2 axes. Received: shape={tuple(shape)}")
        rows, columns = math.prod(shape[:-1]), shape[-1]
        kind = dtypes.to_torch(dtype)
        drawn = "float64" if kind is torch.float64 else "float32"
        q, r = torch.linalg.qr(self._normal((max(rows, columns), min(rows, columns)), drawn, 0.0, 1.0))
        q = q * torch.where(r.diagonal() < 0, -self.gain, self.gain)
        return (q.T if rows < columns else q).reshape(tuple(shape)).to(kind)


class STFT(Initializer):
    """Makes kernels of a convolution that is one half of a short-time Fourier transform.

    Args:
        side: "real" or "imag".
        window: name of a window ("hann", "hamming", "blackman", …), its values, or None.
        scaling: "density" or "spectrum" to divide by the window's L2 or L1 norm, or None.
        periodic: whether the window is periodic rather than symmetric.

    The shape is `(frame_length, channels, bins)` for a transform of length `2 * (bins - 1)`.

    >>> STFT("real", None, None)((4, 1, 3))[:, 0, 1].round().abs().tolist()
    [1.0, 0.0, 1.0, 0.0]
    """

    def __init__(self, side: str = "real", window: Any = "hann", scaling: str | None = "density", periodic: bool = False) -> None:
        if side not in ("real", "imag"):
            raise ValueError(f"STFT: `side` must be 'real' or 'imag'. Received: side={side!r}")
        if scaling not in ("density", "spectrum", None):
            raise ValueError(f"STFT: `scaling` must be 'density', 'spectrum' or None. Received: scaling={scaling!r}")
        if isinstance(window, str):
            _window(window, 2, periodic)
        self.side, self.window, self.scaling, self.periodic = side, window, scaling, periodic

    def __call__(self, shape: Any, dtype: Any = None, **kwargs: Any) -> torch.Tensor:
        if len(shape) != 3:
            raise ValueError(f"STFT makes kernels of shape (frame_length, channels, bins). Received: shape={tuple(shape)}")
        length, _, bins = shape
        time, frequency = torch.arange(length, dtype=torch.float64), torch.arange(bins, dtype=torch.float64)
        angle = 2 * math.pi * time[:, None, None] * frequency / max(1, 2 * (bins - 1))
        kernel = torch.cos(angle) if self.side == "real" else -torch.sin(angle)
        if self.window is not None:
            window = _window(self.window, length, self.periodic)
            if self.scaling is not None:
                window = window / (window.square().sum().sqrt() if self.scaling == "density" else window.abs().sum())
            kernel = kernel * window[:, None, None]
        return kernel.broadcast_to(tuple(shape)).to(dtypes.to_torch(dtype)).contiguous()


_WINDOWS = ("bartlett", "blackman", "cosine", "hamming", "hann", "nuttall")


def _window(window: Any, length: int, periodic: bool) -> torch.Tensor:
    if not isinstance(window, str):
        values = torch.as_tensor(window, dtype=torch.float64)
        if values.shape != (length,):
            raise ValueError(f"STFT: `window` holds {tuple(values.shape)} values where the kernel has a frame of {length}.")
        return values
    if window not in _WINDOWS:
        hint = did_you_mean(window, _WINDOWS)
        raise ValueError(f"STFT: unknown window {window!r}.{hint} Known: {', '.join(_WINDOWS)}, or pass its values.")
    return getattr(torch.signal.windows, window)(length, sym=not periodic, dtype=torch.float64)


INITIALIZERS = Registry("initializer", "keras.initializers", Initializer)
for _class, *_aliases in (
    (Zeros, "zero"), (Ones, "one"), (Constant,), (Identity, "IdentityInitializer"), (RandomNormal, "normal"), (TruncatedNormal,),
    (RandomUniform, "uniform"), (VarianceScaling,), (GlorotUniform,), (GlorotNormal,), (HeUniform,), (HeNormal,), (LecunUniform,),
    (LecunNormal,), (Orthogonal, "OrthogonalInitializer"), (STFT, "STFTInitializer"),
):  # fmt: skip
    INITIALIZERS.add(_class, *_aliases)
    public(f"keras.initializers.{_class.__name__}")(_class)

zeros, ones, constant, identity, stft, orthogonal = Zeros, Ones, Constant, Identity, STFT, Orthogonal
random_normal, random_uniform, truncated_normal, variance_scaling = RandomNormal, RandomUniform, TruncatedNormal, VarianceScaling
glorot_uniform, glorot_normal, he_uniform, he_normal = GlorotUniform, GlorotNormal, HeUniform, HeNormal
lecun_uniform, lecun_normal = LecunUniform, LecunNormal
IdentityInitializer, OrthogonalInitializer, STFTInitializer = Identity, Orthogonal, STFT


def get(identifier: Any) -> Any:
    """Returns the initializer for a name, a config, a class, an instance, a callable or an array; None stays None.

    >>> type(get("glorot_uniform")).__name__
    'GlorotUniform'
    """
    if isinstance(identifier, torch.Tensor) or type(identifier).__module__ == "numpy":
        return Constant(identifier)
    if identifier is not None and not isinstance(identifier, (str, dict)) and not callable(identifier):
        raise ValueError(f"An initializer is a name, a config, a callable or an array. Received: {describe(identifier)}")
    return INITIALIZERS.get(identifier)


def serialize(initializer: Any) -> Any:
    """Returns the config of an initializer.

    >>> serialize(Constant(2.0))["config"]
    {'value': 2.0}
    """
    return serialize_keras_object(initializer)


def deserialize(config: Any, custom_objects: dict[str, Any] | None = None) -> Any:
    """Makes the initializer that a config or a name describes.

    Args:
        config: a config or a name.
        custom_objects: classes and functions by name.
    """
    with custom_object_scope(custom_objects or {}):
        return get(config)
