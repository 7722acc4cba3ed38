"""Adagrad and Adadelta."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from hornbeam.optimizers.base import LearningRate, Optimizer
from hornbeam.optimizers.part import Part, Scalar, blend_squares, descend, descend_ratio, roots


class Adagrad(Optimizer):
    """Divides the gradient by the root of the sum of all its squares so far.

    Formula: [Duchi et al., 2011](http://www.jmlr.org/papers/volume12/duchi11a/duchi11a.pdf).

    Args:
        learning_rate: number, schedule, or callable.
        initial_accumulator_value: what the sums start from.
        epsilon: added to the sums.
        weight_decay, clipnorm, clipvalue, global_clipnorm, use_ema, ema_momentum, ema_overwrite_frequency,
            loss_scale_factor, gradient_accumulation_steps, name: see `Optimizer`.

    >>> w = torch.nn.Parameter(torch.ones(1))
    >>> Adagrad(0.5, initial_accumulator_value=0.0).apply([torch.tensor([3.0])], [w])
    >>> w.tolist()
    [0.5]
    """

    def __init__(
        self, learning_rate: LearningRate = 0.001, initial_accumulator_value: float = 0.1, epsilon: float = 1e-07,
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
        self.initial_accumulator_value, self.epsilon = initial_accumulator_value, epsilon

    def slots(self) -> Sequence[tuple[str, ...]]:
        return [("accumulator",)]

    def slot_start(self, slot: str, variable: Tensor) -> Tensor | None:
        if slot == "accumulator":
            return torch.full_like(variable, self.initial_accumulator_value)
        return super().slot_start(slot, variable)

    def update(self, part: Part, grads: list[Tensor], rate: Scalar, step: int | Tensor) -> None:
        sums = part["accumulator"]
        torch._foreach_addcmul_(sums, grads, grads)
        descend_ratio(part.variables, grads, roots(sums, inside=self.epsilon), rate)


class Adadelta(Optimizer):
    """Scales the gradient by the ratio of two running roots: of past updates and of past gradients.

    Formula: [Zeiler, 2012](https://arxiv.org/abs/1212.5701). With `learning_rate=1.0` it is the paper's.

    Args:
        learning_rate: number, schedule, or callable.
        rho: how much of the running means stays at each step.
        epsilon: added to the running means.
        weight_decay, clipnorm, clipvalue, global_clipnorm, use_ema, ema_momentum, ema_overwrite_frequency,
            loss_scale_factor, gradient_accumulation_steps, name: see `Optimizer`.

    >>> w = torch.nn.Parameter(torch.ones(1))
    >>> Adadelta(1.0, rho=0.75).apply([torch.tensor([3.0])], [w])
    >>> bool(0.999 < w < 1.0)
    True
    """

    def __init__(
        self, learning_rate: LearningRate = 0.001, rho: float = 0.95, epsilon: float = 1e-07, weight_decay: float | None = None,
        clipnorm: float | None = None, clipvalue: float | None = None, global_clipnorm: float | None = None,
        use_ema: bool = False,
        ema_momentum: float = 0.99, ema_overwrite_frequency: int | None = None, loss_scale_factor: float | None = None,
        gradient_accumulation_steps: int | None = None, name: str | None = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(
            learning_rate, weight_decay, clipnorm, clipvalue, global_clipnorm, use_ema, ema_momentum, ema_overwrite_frequency,
            loss_scale_factor, gradient_accumulation_steps, name, **kwargs,
        )  # fmt: skip
        self.rho, self.epsilon = rho, epsilon

    def slots(self) -> Sequence[tuple[str, ...]]:
        return [("accumulated_grad", "accumulated_delta_var")]

    def update(self, part: Part, grads: list[Tensor], rate: Scalar, step: int | Tensor) -> None:
        squares, deltas = part["accumulated_grad"], part["accumulated_delta_var"]
        blend_squares(squares, grads, self.rho)
        updates = torch._foreach_mul(grads, roots(deltas, inside=self.epsilon))
        torch._foreach_div_(updates, roots(squares, inside=self.epsilon))
        blend_squares(deltas, updates, self.rho)
        descend(part.variables, updates, rate)
