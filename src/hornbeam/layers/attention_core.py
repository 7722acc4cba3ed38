"""The computation of attention over any axes, and masks of positions."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F

from hornbeam.layers.dropping import dropped
from hornbeam.layers.regularization import RandomLayer


def position_mask(queries: Any, keys: Any, causal: bool, window: int | None, device: Any = None) -> torch.Tensor:
    """Returns a boolean `(queries, keys)`: whether a query sees a key by their positions.

    Args:
        queries, keys: how many there are.
        causal: whether a query sees no later key.
        window: how far away, less one, a key may be; None for any distance.

    >>> position_mask(2, 3, True, None).tolist()
    [[True, False, False], [True, True, False]]
    """
    distance = torch.arange(queries, device=device).unsqueeze(1) - torch.arange(keys, device=device)
    seen = distance >= 0 if causal else torch.ones_like(distance, dtype=torch.bool)
    return seen if window is None else seen & (distance.abs() < window)


def attend(
    layer: RandomLayer, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None, causal: bool,
    axes: tuple[int, ...], training: bool, with_scores: bool,
) -> tuple[torch.Tensor, torch.Tensor | None]:  # fmt: skip
    """Scaled dot product attention of `q` on `k` and `v`, each `(batch, ..., heads, size)`.

    Args:
        layer: whose `dropout` and seed are meant.
        mask: boolean, `(batch, ..., T, S)` with the axes of attention twice at its end; or None.
        causal: whether a query sees no later key, where `mask` is None.
        axes: axes along which there is attention.
        training: whether dropout drops.
        with_scores: whether the attention weights are wanted, `(batch, ..., heads, T, S)`.

    Returns:
        the output, shaped as `q` with the size of `v`, and the weights or None. Where everything is masked the weights are zero;
        torch's kernel, which does the work where no weights are wanted, takes the mean of `v` there, as Keras does.
    """
    order = _heads_first(q.dim(), axes)
    q, k, v = q.permute(order), k.permute(order), v.permute(order)
    count = len(axes)
    query_sizes, key_sizes = q.shape[-1 - count : -1], k.shape[-1 - count : -1]
    if mask is not None:
        mask = _with_heads(mask, q.dim() + count - 1, query_sizes, key_sizes)
    q, k, v = (t.flatten(-1 - count, -2) for t in (q, k, v))
    rate = layer.dropout if training else 0.0
    scores = None
    if not with_scores and (not rate or layer.seed is None):
        bias = None if mask is None else torch.zeros_like(mask, dtype=q.dtype).masked_fill(~mask, torch.finfo(q.dtype).min)
        y = F.scaled_dot_product_attention(q, k, v, bias, rate, causal)
    else:
        if causal:
            mask = position_mask(q.shape[-2], k.shape[-2], True, None, q.device)
        scores = masked_softmax(q / math.sqrt(q.shape[-1]) @ k.transpose(-1, -2), mask)
        y = (dropped(layer, scores, rate) if rate else scores) @ v
        scores = scores.unflatten(-1, key_sizes).unflatten(-1 - count, query_sizes)
    y = y.unflatten(-2, query_sizes)
    back = [order.index(i) for i in range(len(order))]
    return y.permute(back), scores


def masked_softmax(scores: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """Softmax over the last axis of what the mask leaves; zeros where it leaves nothing."""
    if mask is None:
        return scores.softmax(-1)
    return scores.masked_fill(~mask, torch.finfo(scores.dtype).min).softmax(-1) * mask


def _heads_first(rank: int, axes: tuple[int, ...]) -> list[int]:
    """The order of axes that puts those without attention first, then heads, those with attention, and features."""
    axes = tuple(a % (rank - 1) if a < 0 else a for a in axes)
    return [*(a for a in range(rank - 2) if a not in axes), rank - 2, *axes, rank - 1]


def _with_heads(mask: torch.Tensor, rank: int, query_sizes: Any, key_sizes: Any) -> torch.Tensor:
    """Gives a mask the axes it lacks, before those of attention, and makes one axis each of queries and keys."""
    count = len(query_sizes)
    while mask.dim() < rank:
        mask = mask.unsqueeze(max(-2 * count - 1, -mask.dim() - 1))
    if count == 1:
        return mask
    mask = mask.expand(*mask.shape[: -2 * count], *query_sizes, *key_sizes)
    return mask.flatten(-count).flatten(-1 - count, -2)
