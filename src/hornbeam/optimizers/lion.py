"""Lion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from hornbeam.optimizers.arguments import check_range
from hornbeam.optimizers.base import LearningRate, Optimizer
from hornbeam.optimizers.part import Part, Scalar, blend, descend


class Lion(Optimizer):
    """Steps of one size along the sign of a mix of momentum and gradient: [Chen et al., 2023](https://arxiv.org/abs/2302.06675).

    Args:
        learning_rate: number, schedule, or callable; a third to a tenth of Adam's.
        beta_1: how much of the mix is momentum, above 0 up to 1.
        beta_2: how much of the momentum stays at each step.
        weight_decay, clipnorm, clipvalue, global_clipnorm, use_ema, ema_momentum, ema_overwrite_frequency,
            loss_scale_factor, gradient_accumulation_steps, name: see `Optimizer`.

    >>> w = torch.nn.Parameter(torch.ones(2))
    >>> Lion(0.5).apply([torch.tensor([1.0, -20.0])], [w])
    >>> w.tolist()
    [0.5, 1.5]
    """

    def __init__(
        self, learning_rate: LearningRate = 0.001, beta_1: float = 0.9, beta_2: float = 0.99, weight_decay: float | None = None,
        clipnorm: float | None = None, clipvalue: float | None = None, global_clipnorm: float | None = None,
        use_ema: bool = False,
        ema_momentum: float = 0.99, ema_overwrite_frequency: int | None = None, loss_scale_factor: float | None = None,
        gradient_accumulation_steps: int | None = None, name: str | None = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(
            learning_rate, weight_decay, clipnorm, clipvalue, global_clipnorm, use_ema, ema_momentum, ema_overwrite_frequency,
            loss_scale_factor, gradient_accumulation_steps, name, **kwargs,
        )  # fmt: skip
        check_range(self, "beta_1", beta_1)
        if beta_1 == 0:
            raise ValueError("beta_1 of Lion must be above 0; at 0 only the gradient's sign is left. Received: 0")
        self.beta_1, self.beta_2 = beta_1, beta_2

    def slots(self) -> Sequence[tuple[str, ...]]:
        return [("momentum",)]

    def update(self, part: Part, grads: list[Tensor], rate: Scalar, step: int | Tensor) -> None:
        moments = part["momentum"]
        mixes = torch._foreach_mul(moments, self.beta_1)
        torch._foreach_add_(mixes, grads, alpha=1 - self.beta_1)
        torch._foreach_sign_(mixes)
        descend(part.variables, list(mixes), rate)
        blend(moments, grads, self.beta_2)
