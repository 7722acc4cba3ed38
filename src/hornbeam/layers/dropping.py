"""Dropout inside layers that have a dropout of their own: recurrent cells and attention."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from hornbeam.layers.regularization import RandomLayer


def dropped(layer: RandomLayer, x: torch.Tensor, rate: float) -> torch.Tensor:
    """Returns `x` with a share of its values at zero and the others scaled up, drawn as the layer's seed says.

    >>> dropped(RandomLayer(seed=1), torch.ones(4), 0.0).tolist()
    [1.0, 1.0, 1.0, 1.0]
    """
    if layer.seed is None:
        return F.dropout(x, rate)
    return x * layer._kept(x, rate, x.shape).div_(1 - rate or 1.0)
