"""Schedule-free AdamW."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from hornbeam.optimizers.base import LearningRate, Optimizer
from hornbeam.optimizers.part import Part, Scalar, blend_squares, descend_ratio, roots


class ScheduleFreeAdamW(Optimizer):
    """Adam's scaled steps on one sequence, their running mean as the weights: no schedule is needed.

    Idea: [Defazio et al., 2024](https://arxiv.org/abs/2405.15682). As in Keras the model holds the mean itself, so `beta_1` (the
    paper's interpolation between the two sequences) changes nothing.

    Args:
        learning_rate: number, schedule, or callable.
        beta_1: see above.
        beta_2: how much of the mean square stays at each step.
        epsilon: added to the root of the mean square.
        warmup_steps: so many steps the learning rate climbs in a line.
        weight_decay, clipnorm, clipvalue, global_clipnorm, use_ema, ema_momentum, ema_overwrite_frequency,
            loss_scale_factor, gradient_accumulation_steps, name: see `Optimizer`.

    >>> w = torch.nn.Parameter(torch.ones(1))
    >>> optimizer = ScheduleFreeAdamW(0.25)
    >>> for _ in range(3):
    ...     optimizer.apply([torch.ones(1)], [w])
    >>> round(w.item(), 4)
    0.5
    """

    def __init__(
        self, learning_rate: LearningRate = 0.0025, beta_1: float = 0.9, beta_2: float = 0.999, epsilon: float = 1e-08,
        warmup_steps: int = 0, weight_decay: float | None = None, clipnorm: float | None = None, clipvalue: float | None = None,
        global_clipnorm: float | None = None, use_ema: bool = False, ema_momentum: float = 0.99,
        ema_overwrite_frequency: int | None = None, loss_scale_factor: float | None = None,
        gradient_accumulation_steps: int | None = None, name: str | None = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(
            learning_rate, weight_decay, clipnorm, clipvalue, global_clipnorm, use_ema, ema_momentum, ema_overwrite_frequency,
            loss_scale_factor, gradient_accumulation_steps, name, **kwargs,
        )  # fmt: skip
        self.beta_1, self.beta_2, self.epsilon, self.warmup_steps = beta_1, beta_2, epsilon, warmup_steps

    def slots(self) -> Sequence[tuple[str, ...]]:
        return [("momentum", "velocity")]

    def slot_start(self, slot: str, variable: Tensor) -> Tensor | None:
        return variable.detach().clone() if slot == "momentum" else super().slot_start(slot, variable)

    def update(self, part: Part, grads: list[Tensor], rate: Scalar, step: int | Tensor) -> None:
        stepped, squares = part["momentum"], part["velocity"]
        if self.warmup_steps:
            part_done = step / self.warmup_steps
            rate = rate * (part_done.clamp(max=1.0) if isinstance(part_done, Tensor) else min(part_done, 1.0))
        blend_squares(squares, grads, self.beta_2)
        means = torch._foreach_div(squares, 1 - self.beta_2**step)
        descend_ratio(stepped, grads, roots(means, outside=self.epsilon), rate)
        gaps = torch._foreach_sub(stepped, part.variables)
        torch._foreach_add_(part.variables, torch._foreach_div(gaps, step))
