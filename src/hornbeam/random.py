"""Random tensors, as `keras.random` has them; without a seed they draw from torch's default generator."""

from __future__ import annotations

from typing import Any

import torch

from hornbeam.core.dtype import to_torch
from hornbeam.core.random import SeedGenerator as SeedGenerator
from hornbeam.core.random import draw_seed


def _generator(seed: Any) -> torch.Generator | None:
    number = draw_seed(seed)
    return None if number is None else torch.Generator().manual_seed(number)


def normal(shape: Any, mean: float = 0.0, stddev: float = 1.0, dtype: Any = None, seed: Any = None) -> torch.Tensor:
    """Returns values from a normal distribution.

    >>> normal((2, 3), seed=1).shape
    torch.Size([2, 3])
    """
    return torch.randn(tuple(shape), dtype=to_torch(dtype), generator=_generator(seed)) * stddev + mean


def uniform(shape: Any, minval: float = 0.0, maxval: float = 1.0, dtype: Any = None, seed: Any = None) -> torch.Tensor:
    """Returns values from a uniform distribution on [minval, maxval)."""
    kind = to_torch(dtype)
    if not kind.is_floating_point:
        return randint(shape, int(minval), int(maxval), dtype, seed)
    return torch.rand(tuple(shape), dtype=kind, generator=_generator(seed)) * (maxval - minval) + minval


def randint(shape: Any, minval: int, maxval: int, dtype: Any = "int32", seed: Any = None) -> torch.Tensor:
    """Returns integers from minval to maxval - 1."""
    return torch.randint(minval, maxval, tuple(shape), dtype=to_torch(dtype), generator=_generator(seed))


def truncated_normal(shape: Any, mean: float = 0.0, stddev: float = 1.0, dtype: Any = None, seed: Any = None) -> torch.Tensor:
    """Returns values from a normal distribution cut at two standard deviations."""
    made = torch.empty(tuple(shape), dtype=to_torch(dtype))
    return torch.nn.init.trunc_normal_(made, mean, stddev, mean - 2 * stddev, mean + 2 * stddev, generator=_generator(seed))


def categorical(logits: torch.Tensor, num_samples: int, dtype: Any = "int32", seed: Any = None) -> torch.Tensor:
    """Returns class numbers of shape `(batch, num_samples)`, drawn with the probabilities that logits give."""
    drawn = torch.multinomial(
        torch.softmax(torch.as_tensor(logits), -1), num_samples, replacement=True, generator=_generator(seed)
    )
    return drawn.to(to_torch(dtype))


def shuffle(x: torch.Tensor, axis: int = 0, seed: Any = None) -> torch.Tensor:
    """Returns a tensor with its slices along an axis in random order."""
    x = torch.as_tensor(x)
    return x.index_select(axis, torch.randperm(x.shape[axis], generator=_generator(seed)))


def dropout(inputs: torch.Tensor, rate: float, noise_shape: Any = None, seed: Any = None) -> torch.Tensor:
    """Returns the inputs with a share `rate` of them set to zero and the others scaled by `1 / (1 - rate)`."""
    shape = (
        inputs.shape if noise_shape is None else [s if n is None else n for s, n in zip(inputs.shape, noise_shape, strict=True)]
    )
    keep = torch.rand(shape, generator=_generator(seed)) >= rate
    return torch.where(keep.to(inputs.device), inputs / (1 - rate), 0)


def binomial(shape: Any, counts: Any, probabilities: Any, dtype: Any = None, seed: Any = None) -> torch.Tensor:
    """Returns numbers of successes in `counts` trials."""
    count = torch.as_tensor(counts, dtype=torch.float32).expand(tuple(shape))
    chance = torch.as_tensor(probabilities, dtype=torch.float32).expand(tuple(shape))
    return torch.binomial(count, chance, generator=_generator(seed)).to(to_torch(dtype))


def gamma(shape: Any, alpha: Any, dtype: Any = None, seed: Any = None) -> torch.Tensor:
    """Returns values from a gamma distribution of shape `alpha` and scale 1."""
    concentration = torch.as_tensor(alpha, dtype=torch.float32).expand(tuple(shape)).contiguous()
    return torch._standard_gamma(concentration, generator=_generator(seed)).to(to_torch(dtype))


def beta(shape: Any, alpha: Any, beta: Any, dtype: Any = None, seed: Any = None) -> torch.Tensor:
    """Returns values from a beta distribution, as X / (X + Y) of two gamma ones."""
    seeds = (None, None) if seed is None else (draw_seed(seed), (draw_seed(seed) or 0) + 1)
    x, y = gamma(shape, alpha, dtype, seeds[0]), gamma(shape, beta, dtype, seeds[1])
    return x / (x + y)
