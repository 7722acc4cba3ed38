"""RMSprop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from hornbeam.optimizers.base import LearningRate, Optimizer
from hornbeam.optimizers.part import Part, Scalar, Tensors, blend, blend_squares, descend_ratio, roots, scale


class RMSprop(Optimizer):
    """Divides the gradient by the root of a running mean of its square.

    Formula: [Hinton, 2012](https://www.cs.toronto.edu/~tijmen/csc321/slides/lecture_slides_lec6.pdf).

    Args:
        learning_rate: number, schedule, or callable.
        rho: how much of the mean square stays at each step.
        momentum: how much of the last step goes into the next.
        epsilon: added to the mean square.
        centered: whether the square of the mean gradient is taken off, so that the divisor is a variance.
        weight_decay, clipnorm, clipvalue, global_clipnorm, use_ema, ema_momentum, ema_overwrite_frequency,
            loss_scale_factor, gradient_accumulation_steps, name: see `Optimizer`.

    >>> w = torch.nn.Parameter(torch.ones(1))
    >>> RMSprop(0.5, rho=0.75).apply([torch.tensor([3.0])], [w])
    >>> round(w.item(), 4)
    0.0
    """

    def __init__(
        self, learning_rate: LearningRate = 0.001, rho: float = 0.9, momentum: float = 0.0, epsilon: float = 1e-07,
        centered: bool = False, weight_decay: float | None = None,
        clipnorm: float | None = None, clipvalue: float | None = None, global_clipnorm: float | None = None,
        use_ema: bool = False,
        ema_momentum: float = 0.99, ema_overwrite_frequency: int | None = None, loss_scale_factor: float | None = None,
        gradient_accumulation_steps: int | None = None, name: str | None = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(
            learning_rate, weight_decay, clipnorm, clipvalue, global_clipnorm, use_ema, ema_momentum, ema_overwrite_frequency,
            loss_scale_factor, gradient_accumulation_steps, name, **kwargs,
        )  # fmt: skip
        self.rho, self.momentum, self.epsilon, self.centered = rho, momentum, epsilon, centered

    def slots(self) -> Sequence[tuple[str, ...]]:
        return [("velocity",)] + [("momentum",)] * (self.momentum > 0) + [("average_gradient",)] * self.centered

    def update(self, part: Part, grads: list[Tensor], rate: Scalar, step: int | Tensor) -> None:
        squares: Tensors = part["velocity"]
        blend_squares(squares, grads, self.rho)
        if self.centered:
            means = part["average_gradient"]
            blend(means, grads, self.rho)
            squares = torch._foreach_addcmul(squares, means, means, value=-1.0)
        sizes = roots(squares, inside=self.epsilon)
        if not self.momentum > 0:
            descend_ratio(part.variables, grads, sizes, rate)
            return
        moments = part["momentum"]
        scale(moments, self.momentum)
        descend_ratio(moments, grads, sizes, -rate)
        torch._foreach_sub_(part.variables, moments)
