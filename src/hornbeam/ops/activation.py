"""Activation functions under Keras's names. Plain torch functions: called on a symbolic tensor they record by themselves."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from hornbeam.ops.convert import floating, op, tensor


def relu(x: Any) -> torch.Tensor:
    """Returns `max(x, 0)`.

    >>> relu([-1.0, 2.0]).tolist()
    [0.0, 2.0]
    """
    return torch.relu(tensor(x))


def relu6(x: Any) -> torch.Tensor:
    """Returns `min(max(x, 0), 6)`.

    >>> relu6([-1.0, 8.0]).tolist()
    [0.0, 6.0]
    """
    return F.relu6(tensor(x))


def leaky_relu(x: Any, negative_slope: float = 0.2) -> torch.Tensor:
    """Returns x where it is positive, else `negative_slope * x`.

    >>> leaky_relu([-1.0, 2.0], 0.5).tolist()
    [-0.5, 2.0]
    """
    return F.leaky_relu(floating(x), negative_slope)


def elu(x: Any, alpha: float = 1.0) -> torch.Tensor:
    """Returns x where it is positive, else `alpha * (exp(x) - 1)` (Clevert et al., 2016).

    >>> elu([0.0, 2.0]).tolist()
    [0.0, 2.0]
    """
    return F.elu(floating(x), alpha)


def celu(x: Any, alpha: float = 1.0) -> torch.Tensor:
    """Returns `max(x, 0) + min(0, alpha * (exp(x / alpha) - 1))` (Barron, 2017).

    >>> celu([0.0, 2.0]).tolist()
    [0.0, 2.0]
    """
    return F.celu(floating(x), alpha)


def selu(x: Any) -> torch.Tensor:
    """Returns `scale * elu(x, alpha)` with the constants that keep mean 0 and variance 1 (Klambauer et al., 2017).

    >>> selu([0.0]).tolist()
    [0.0]
    """
    return F.selu(floating(x))


def gelu(x: Any, approximate: bool = True) -> torch.Tensor:
    """Returns `x * P(X <= x)` for a standard normal X (Hendrycks and Gimpel, 2016).

    Args:
        x: tensor of any shape.
        approximate: whether the normal distribution is approximated by tanh.

    >>> gelu([0.0]).tolist()
    [0.0]
    """
    return F.gelu(floating(x), approximate="tanh" if approximate else "none")


def silu(x: Any) -> torch.Tensor:
    """Returns `x * sigmoid(x)` (Ramachandran et al., 2017).

    >>> silu([0.0]).tolist()
    [0.0]
    """
    return F.silu(floating(x))


def sigmoid(x: Any) -> torch.Tensor:
    """Returns `1 / (1 + exp(-x))`.

    >>> sigmoid([0.0]).tolist()
    [0.5]
    """
    return torch.sigmoid(floating(x))


def tanh(x: Any) -> torch.Tensor:
    """Returns the hyperbolic tangent.

    >>> tanh([0.0]).tolist()
    [0.0]
    """
    return torch.tanh(floating(x))


def softplus(x: Any) -> torch.Tensor:
    """Returns `log(exp(x) + 1)`.

    >>> softplus([100.0]).tolist()
    [100.0]
    """
    return F.softplus(floating(x))


def softsign(x: Any) -> torch.Tensor:
    """Returns `x / (abs(x) + 1)`.

    >>> softsign([1.0]).tolist()
    [0.5]
    """
    return F.softsign(floating(x))


def mish(x: Any) -> torch.Tensor:
    """Returns `x * tanh(softplus(x))` (Misra, 2019).

    >>> mish([0.0]).tolist()
    [0.0]
    """
    return F.mish(floating(x))


def hard_sigmoid(x: Any) -> torch.Tensor:
    """Returns `relu6(x + 3) / 6`.

    >>> hard_sigmoid([-4.0, 0.0, 4.0]).tolist()
    [0.0, 0.5, 1.0]
    """
    return F.hardsigmoid(floating(x))


def hard_silu(x: Any) -> torch.Tensor:
    """Returns `x * hard_sigmoid(x)`.

    >>> hard_silu([0.0, 4.0]).tolist()
    [0.0, 4.0]
    """
    return F.hardswish(floating(x))


def hard_tanh(x: Any) -> torch.Tensor:
    """Returns x clipped to lie between -1 and 1.

    >>> hard_tanh([-4.0, 0.5]).tolist()
    [-1.0, 0.5]
    """
    return F.hardtanh(tensor(x))


def hard_shrink(x: Any, threshold: float = 0.5) -> torch.Tensor:
    """Returns x where `abs(x) > threshold`, else 0.

    >>> hard_shrink([-1.0, 0.2]).tolist()
    [-1.0, 0.0]
    """
    return F.hardshrink(floating(x), threshold)


def soft_shrink(x: Any, threshold: float = 0.5) -> torch.Tensor:
    """Returns x moved towards 0 by `threshold`.

    >>> soft_shrink([-1.0, 0.2]).tolist()
    [-0.5, 0.0]
    """
    return F.softshrink(floating(x), threshold)


def tanh_shrink(x: Any) -> torch.Tensor:
    """Returns `x - tanh(x)`.

    >>> tanh_shrink([0.0]).tolist()
    [0.0]
    """
    return F.tanhshrink(floating(x))


def threshold(x: Any, threshold: float, default_value: float) -> torch.Tensor:
    """Returns x where `x > threshold`, else `default_value`.

    >>> threshold([0.5, 2.0], 1.0, 0.0).tolist()
    [0.0, 2.0]
    """
    return F.threshold(tensor(x), threshold, default_value)


def log_sigmoid(x: Any) -> torch.Tensor:
    """Returns `log(1 / (1 + exp(-x)))`.

    >>> log_sigmoid([-100.0]).tolist()
    [-100.0]
    """
    return F.logsigmoid(floating(x))


def softmax(x: Any, axis: Any = -1) -> torch.Tensor:
    """Returns `exp(x) / sum(exp(x))` over an axis, over several, or with None over all of the tensor.

    >>> softmax([0.0, 0.0]).tolist()
    [0.5, 0.5]
    """
    return torch.softmax(floating(x), axis) if isinstance(axis, int) else _over_axes(torch.softmax, floating(x), axis)


def log_softmax(x: Any, axis: Any = -1) -> torch.Tensor:
    """Returns `log(softmax(x))`, computed stably.

    >>> log_softmax([100.0, -100.0]).tolist()
    [0.0, -200.0]
    """
    return torch.log_softmax(floating(x), axis) if isinstance(axis, int) else _over_axes(torch.log_softmax, floating(x), axis)


@op
def _over_axes(function: Any, x: torch.Tensor, axis: Any) -> torch.Tensor:
    picked = tuple(range(x.ndim)) if axis is None else tuple(a % x.ndim for a in axis)
    last = tuple(range(-len(picked), 0))
    moved = x.movedim(picked, last)
    return function(moved.flatten(-len(picked)), -1).reshape(moved.shape).movedim(last, picked)


def glu(x: Any, axis: int = -1) -> torch.Tensor:
    """Returns `a * sigmoid(b)` for the halves a and b of x along an axis (Dauphin et al., 2017).

    >>> glu([2.0, 0.0]).tolist()
    [1.0]
    """
    return F.glu(floating(x), axis)


def squareplus(x: Any, b: float = 4) -> torch.Tensor:
    """Returns `(x + sqrt(x**2 + b)) / 2` (Barron, 2021).

    >>> squareplus([0.0]).tolist()
    [1.0]
    """
    x = floating(x)
    return (x + torch.sqrt(x * x + b)) / 2


def sparse_plus(x: Any) -> torch.Tensor:
    """Returns 0 for x <= -1, x for x >= 1, and `(x + 1)**2 / 4` between.

    >>> sparse_plus([-2.0, 0.0, 2.0]).tolist()
    [0.0, 0.25, 2.0]
    """
    x = floating(x)
    return torch.where(x <= -1, torch.zeros_like(x), torch.where(x < 1, (x + 1) ** 2 / 4, x))


def sparse_sigmoid(x: Any) -> torch.Tensor:
    """Returns 0 for x <= -1, 1 for x >= 1, and `(x + 1) / 2` between.

    >>> sparse_sigmoid([-2.0, 0.0, 2.0]).tolist()
    [0.0, 0.5, 1.0]
    """
    x = floating(x)
    return torch.where(x <= -1, torch.zeros_like(x), torch.where(x >= 1, torch.ones_like(x), (x + 1) / 2))


@op
def sparsemax(x: Any, axis: int = -1) -> torch.Tensor:
    """Returns the point of the probability simplex nearest to x along an axis (Martins and Astudillo, 2016).

    >>> sparsemax([0.0, 2.0]).tolist()
    [0.0, 1.0]
    """
    x = floating(x).movedim(axis, -1)
    ordered = x.sort(-1, descending=True).values
    count = torch.arange(1, x.shape[-1] + 1, device=x.device, dtype=x.dtype)
    sums = ordered.cumsum(-1)
    support = (1 + count * ordered > sums).sum(-1, keepdim=True)
    excess = (sums.gather(-1, support - 1) - 1) / support
    return (x - excess).clamp_min(0).movedim(-1, axis)


swish, hard_swish = silu, hard_silu
