"""Lamb."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from hornbeam.optimizers.base import LearningRate, Optimizer
from hornbeam.optimizers.part import Part, Scalar, blend, blend_squares, roots


class Lamb(Optimizer):
    """Adam's step, scaled for each variable to the variable's own norm: [You et al., 2019](https://arxiv.org/abs/1904.00962).

    Args:
        learning_rate: number, schedule, or callable.
        beta_1: how much of the mean gradient stays at each step.
        beta_2: how much of the mean square stays at each step.
        epsilon: added to the root of the mean square.
        weight_decay, clipnorm, clipvalue, global_clipnorm, use_ema, ema_momentum, ema_overwrite_frequency,
            loss_scale_factor, gradient_accumulation_steps, name: see `Optimizer`.

    >>> w = torch.nn.Parameter(torch.ones(1))
    >>> Lamb(0.5).apply([torch.tensor([3.0])], [w])
    >>> w.tolist()
    [0.5]
    """

    def __init__(
        self, learning_rate: LearningRate = 0.001, beta_1: float = 0.9, beta_2: float = 0.999, epsilon: float = 1e-07,
        weight_decay: float | None = None,
        clipnorm: float | None = None, clipvalue: float | None = None, global_clipnorm: float | None = None,
        use_ema: bool = False,
        ema_momentum: float = 0.99, ema_overwrite_frequency: int | None = None, loss_scale_factor: float | None = None,
        gradient_accumulation_steps: int | None = None, name: str | None = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(
            learning_rate, weight_decay, clipnorm, clipvalue, global_clipnorm, use_ema, ema_momentum, ema_overwrite_frequency,
            loss_scale_factor, gradient_accumulation_steps, name, **kwargs,
        )  # fmt: skip
        self.beta_1, self.beta_2, self.epsilon = beta_1, beta_2, epsilon

    def slots(self) -> Sequence[tuple[str, ...]]:
        return [("momentum", "velocity")]

    def update(self, part: Part, grads: list[Tensor], rate: Scalar, step: int | Tensor) -> None:
        moments, squares, variables = part["momentum"], part["velocity"], part.variables
        blend(moments, grads, self.beta_1)
        blend_squares(squares, grads, self.beta_2)
        means = torch._foreach_div(squares, 1 - self.beta_2**step)
        updates = torch._foreach_div(moments, 1 - self.beta_1**step)
        torch._foreach_div_(updates, roots(means, outside=self.epsilon))
        own, theirs = torch.stack(torch._foreach_norm(variables)), torch.stack(torch._foreach_norm(updates))
        ratios = torch.where((own > 0) & (theirs > 0), own / theirs, 1.0) * rate
        torch._foreach_mul_(updates, list(ratios.to(own.dtype).unbind()))
        torch._foreach_sub_(variables, updates)
