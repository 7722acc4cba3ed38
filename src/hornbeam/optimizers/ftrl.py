"""Ftrl."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from hornbeam.optimizers.base import LearningRate, Optimizer
from hornbeam.optimizers.part import Part, Scalar


class Ftrl(Optimizer):
    """Follow the regularized leader, for sparse linear models: [McMahan et al., 2013](https://research.google.com/pubs/archive/41159.pdf).

    Args:
        learning_rate: number, schedule, or callable.
        learning_rate_power: how the rate falls with the squared gradients summed so far; 0 keeps it fixed, positive is refused.
        initial_accumulator_value: what the sums of squares start from.
        l1_regularization_strength: L1 penalty, which sets small weights to exactly 0.
        l2_regularization_strength: L2 penalty.
        l2_shrinkage_regularization_strength: an L2 penalty that acts through the gradient only.
        beta: the paper's beta.
        weight_decay, clipnorm, clipvalue, global_clipnorm, use_ema, ema_momentum, ema_overwrite_frequency,
            loss_scale_factor, gradient_accumulation_steps, name: see `Optimizer`.

    >>> w = torch.nn.Parameter(torch.ones(2))
    >>> Ftrl(0.5, l1_regularization_strength=4.0).apply([torch.tensor([0.5, -20.0])], [w])
    >>> bool(w[0] == 0), bool(w[1] > 0)
    (True, True)
    """

    def __init__(
        self, learning_rate: LearningRate = 0.001, learning_rate_power: float = -0.5, initial_accumulator_value: float = 0.1,
        l1_regularization_strength: float = 0.0, l2_regularization_strength: float = 0.0,
        l2_shrinkage_regularization_strength: float = 0.0, beta: float = 0.0, weight_decay: float | None = None,
        clipnorm: float | None = None, clipvalue: float | None = None, global_clipnorm: float | None = None,
        use_ema: bool = False,
        ema_momentum: float = 0.99, ema_overwrite_frequency: int | None = None, loss_scale_factor: float | None = None,
        gradient_accumulation_steps: int | None = None, name: str | None = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(
            learning_rate, weight_decay, clipnorm, clipvalue, global_clipnorm, use_ema, ema_momentum, ema_overwrite_frequency,
            loss_scale_factor, gradient_accumulation_steps, name, **kwargs,
        )  # fmt: skip
        if learning_rate_power > 0:
            raise ValueError(f"learning_rate_power of Ftrl must be at most 0. Received: {learning_rate_power}")
        self.learning_rate_power, self.initial_accumulator_value, self.beta = learning_rate_power, initial_accumulator_value, beta
        self.l1_regularization_strength, self.l2_regularization_strength = l1_regularization_strength, l2_regularization_strength
        self.l2_shrinkage_regularization_strength = l2_shrinkage_regularization_strength
        strengths = ("l1_regularization_strength", "l2_regularization_strength", "l2_shrinkage_regularization_strength")
        for argument in ("initial_accumulator_value", *strengths):
            if getattr(self, argument) < 0:
                raise ValueError(f"{argument} of Ftrl must be at least 0. Received: {getattr(self, argument)}")

    def slots(self) -> Sequence[tuple[str, ...]]:
        return [("accumulator", "linear")]

    def slot_start(self, slot: str, variable: Tensor) -> Tensor | None:
        if slot == "accumulator":
            return torch.full_like(variable, self.initial_accumulator_value)
        return super().slot_start(slot, variable)

    def update(self, part: Part, grads: list[Tensor], rate: Scalar, step: int | Tensor) -> None:
        variables, sums, linear = part.variables, part["accumulator"], part["linear"]
        l2 = self.l2_regularization_strength + (self.beta / (2 * rate) if self.beta else 0.0)
        shrunk = torch._foreach_add(grads, variables, alpha=2 * self.l2_shrinkage_regularization_strength)
        power = -self.learning_rate_power
        old = torch._foreach_pow(sums, power)
        torch._foreach_addcmul_(sums, grads, grads)
        new = torch._foreach_pow(sums, power)
        sigma = torch._foreach_div(torch._foreach_sub(new, old), rate)
        torch._foreach_add_(linear, shrunk)
        torch._foreach_addcmul_(linear, sigma, variables, value=-1.0)
        slopes = torch._foreach_div(new, rate)
        torch._foreach_add_(slopes, 2 * l2)
        limit = self.l1_regularization_strength
        targets = [z.clamp(-limit, limit) - z for z in linear]
        for variable, value in zip(variables, torch._foreach_div(targets, slopes), strict=True):
            variable.copy_(value)
