"""Normalisations, cross-entropies and attention."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F

from hornbeam.core import settings
from hornbeam.core.errors import unknown_arguments
from hornbeam.ops.convert import axes, floating, op, tensor


@op
def batch_normalization(
    x: Any, mean: Any, variance: Any, axis: int, offset: Any = None, scale: Any = None, epsilon: float = 1e-3
) -> torch.Tensor:
    """Returns `(x - mean) / sqrt(variance + epsilon) * scale + offset`, with one mean for each place of an axis."""
    x = floating(x)
    shape = [-1 if a == axis % x.ndim else 1 for a in range(x.ndim)]
    mean, variance = floating(mean).reshape(shape), floating(variance).reshape(shape)
    factor = torch.rsqrt(variance + epsilon)
    if scale is not None:
        factor = factor * floating(scale).reshape(shape)
    shift = -mean * factor
    if offset is not None:
        shift = shift + floating(offset).reshape(shape)
    return (x * factor + shift).to(x.dtype)


@op
def layer_normalization(
    x: Any, gamma: Any = None, beta: Any = None, axis: Any = -1, epsilon: float | None = None, **kwargs: Any
) -> torch.Tensor:
    """Returns x with mean 0 and variance 1 over axes, times gamma, plus beta (Ba et al., 2016).

    >>> layer_normalization([[1.0, 3.0]], epsilon=0.0).tolist()
    [[-1.0, 1.0]]
    """
    if kwargs:
        raise unknown_arguments("layer_normalization", kwargs, ("x", "gamma", "beta", "axis", "epsilon"))
    x = floating(x)
    epsilon = settings.epsilon() if epsilon is None else epsilon
    dims = axes(axis, x.ndim)
    wide = x.float() if x.dtype is torch.float16 else x
    variance, mean = torch.var_mean(wide, dims, correction=0, keepdim=True)
    y = (wide - mean) * torch.rsqrt(variance + epsilon)
    y = y if gamma is None else y * _along(gamma, x, dims)
    y = y if beta is None else y + _along(beta, x, dims)
    return y.to(x.dtype)


def _along(weight: Any, x: torch.Tensor, dims: tuple[int, ...]) -> torch.Tensor:
    """Returns a weight with one axis for each of `dims`, shaped so that it broadcasts against x."""
    weight = floating(weight)
    return weight.reshape([x.shape[a] if a in dims else 1 for a in range(x.ndim)]) if weight.ndim == len(dims) else weight


@op
def rms_normalization(x: Any, scale: Any = None, axis: Any = -1, epsilon: float | None = None) -> torch.Tensor:
    """Returns x divided by the root of its mean square over axes, times scale (Zhang and Sennrich, 2019)."""
    x = floating(x)
    epsilon = settings.epsilon() if epsilon is None else epsilon
    dims = axes(axis, x.ndim)
    wide = x.float() if x.dtype is torch.float16 else x
    y = wide * torch.rsqrt(wide.square().mean(dims, keepdim=True) + epsilon)
    return (y if scale is None else y * _along(scale, x, dims)).to(x.dtype)


@op
def normalize(x: Any, axis: Any = -1, order: float = 2, epsilon: float | None = None) -> torch.Tensor:
    """Returns x divided by its norm of some order over axes.

    >>> normalize([3.0, 4.0]).tolist()
    [0.6000000238418579, 0.800000011920929]
    """
    x = floating(x)
    epsilon = settings.epsilon() if epsilon is None else epsilon
    if order == 2:
        return x * torch.rsqrt(x.square().sum(axes(axis, x.ndim), keepdim=True).clamp_min(epsilon**2))
    return x / torch.linalg.vector_norm(x, order, axes(axis, x.ndim), True).clamp_min(epsilon)


@op
def binary_crossentropy(target: Any, output: Any, from_logits: bool = False) -> torch.Tensor:
    """Returns `-target log(output) - (1 - target) log(1 - output)`, elementwise.

    >>> binary_crossentropy([1.0], [0.0], from_logits=True).round(decimals=3).item()
    0.6930000185966492
    """
    target, output = floating(target), floating(output)
    _same_shape("binary_crossentropy", target, output)
    if from_logits:
        return F.binary_cross_entropy_with_logits(output, target.to(output.dtype), reduction="none")
    return F.binary_cross_entropy(_clipped(output), target.to(output.dtype), reduction="none")


def _clipped(output: torch.Tensor) -> torch.Tensor:
    return output.clamp(settings.epsilon(), 1 - settings.epsilon())


def _same_shape(name: str, target: torch.Tensor, output: torch.Tensor) -> None:
    if target.shape != output.shape:
        raise ValueError(f"{name}: both must have one shape. Received: {tuple(target.shape)} and {tuple(output.shape)}")


@op
def categorical_crossentropy(target: Any, output: Any, from_logits: bool = False, axis: int = -1) -> torch.Tensor:
    """Returns `-sum(target log(output))` over the class axis; probabilities are divided by their sum and clipped first.

    >>> categorical_crossentropy([[0.0, 1.0]], [[0.0, 0.0]], from_logits=True).round(decimals=3).tolist()
    [0.6930000185966492]
    """
    target, output = floating(target), floating(output)
    _same_shape("categorical_crossentropy", target, output)
    if from_logits:
        logs = torch.log_softmax(output, axis)
    else:
        logs = _clipped(output / output.sum(axis, keepdim=True)).log()
    return -(target * logs).sum(axis)


@op
def sparse_categorical_crossentropy(target: Any, output: Any, from_logits: bool = False, axis: int = -1) -> torch.Tensor:
    """Returns `-log(output[target])`, for class numbers as targets.

    Args:
        target: class numbers, of the output's shape without the class axis (or with 1 there).
        output: logits or probabilities.
    """
    target, output = tensor(target).long(), floating(output).movedim(axis, -1)
    target = target.squeeze(-1) if target.ndim == output.ndim and target.shape[-1] == 1 else target
    if target.shape != output.shape[:-1]:
        raise ValueError(
            f"sparse_categorical_crossentropy: class numbers of shape {tuple(output.shape[:-1])} are expected for outputs of "
            f"shape {tuple(output.shape)}. Received: {tuple(target.shape)}"
        )
    logs = torch.log_softmax(output, -1) if from_logits else _clipped(output / output.sum(-1, keepdim=True)).log()
    classes = torch.arange(output.shape[-1], device=output.device)
    return -torch.where(target.unsqueeze(-1) == classes, logs, 0).sum(-1)


@op
def ctc_loss(target: Any, output: Any, target_length: Any, output_length: Any, mask_index: int = 0) -> torch.Tensor:
    """Returns the connectionist temporal classification loss of each sample (Graves et al., 2006).

    Args:
        target: class numbers, shape (batch, labels).
        output: logits, shape (batch, steps, classes).
        target_length, output_length: how many labels and steps count, shape (batch,).
        mask_index: the blank's class number.
    """
    logs = torch.log_softmax(floating(output), -1).transpose(0, 1)
    lengths = tensor(output_length).long(), tensor(target_length).long()
    return F.ctc_loss(logs, tensor(target).long(), *lengths, blank=mask_index, reduction="none")


@op
def psnr(x1: Any, x2: Any, max_val: float) -> torch.Tensor:
    """Returns the peak signal-to-noise ratio of two tensors, in decibels."""
    x1, x2 = floating(x1), floating(x2)
    _same_shape("psnr", x1, x2)
    return 20 * math.log10(max_val) - 10 * torch.log10((x1 - x2).square().mean())


@op
def dot_product_attention(
    query: Any,
    key: Any,
    value: Any,
    bias: Any = None,
    mask: Any = None,
    scale: float | None = None,
    is_causal: bool = False,
    flash_attention: bool | None = None,
    attn_logits_soft_cap: float | None = None,
) -> torch.Tensor:
    """Returns `softmax(scale * query key^T + bias) value` (Vaswani et al., 2017).

    Args:
        query: shape (batch, steps, heads, size).
        key, value: shape (batch, keys, heads, size); their number of heads may divide the query's.
        bias: added to the scores, broadcasts to (batch, heads, steps, keys).
        mask: booleans, True where attention is allowed, of the same shape.
        scale: factor of the scores; `1 / sqrt(size)` unless given.
        is_causal: whether a step sees only keys up to its own place.
        flash_attention: kept for Keras's signature: torch chooses the kernel.
        attn_logits_soft_cap: scores are bounded smoothly to this absolute value, if given.

    Returns:
        shape (batch, steps, heads, size).
    """
    query, key, value = floating(query), floating(key), floating(value)
    if query.ndim != 4:
        raise ValueError(f"`query` of shape (batch, steps, heads, size) is expected. Received: {tuple(query.shape)}")
    q, k, v = (t.transpose(1, 2) for t in (query, key, value))
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    repeats = q.shape[1] // k.shape[1]
    if repeats > 1:
        k, v = k.repeat_interleave(repeats, 1), v.repeat_interleave(repeats, 1)
    allowed = None if mask is None else tensor(mask, "bool")
    if is_causal and (allowed is not None or bias is not None or attn_logits_soft_cap is not None):
        causal = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool, device=q.device).tril()
        allowed = causal if allowed is None else allowed & causal
        is_causal = False
    if attn_logits_soft_cap is None:
        added = allowed
        if bias is not None:
            added = floating(bias).to(q.dtype)
            added = added if allowed is None else torch.where(allowed, added, float("-inf"))
        return F.scaled_dot_product_attention(q, k, v, added, is_causal=is_causal, scale=scale).transpose(1, 2)
    scores = attn_logits_soft_cap * torch.tanh(q @ k.transpose(-1, -2) * scale / attn_logits_soft_cap)
    scores = scores if bias is None else scores + floating(bias).to(q.dtype)
    scores = scores if allowed is None else torch.where(allowed, scores, torch.finfo(scores.dtype).min)
    return (torch.softmax(scores, -1) @ v).transpose(1, 2)
