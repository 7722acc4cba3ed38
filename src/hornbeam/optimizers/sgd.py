"""Stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from hornbeam.optimizers.arguments import check_range
from hornbeam.optimizers.base import LearningRate, Optimizer
from hornbeam.optimizers.part import Part, Scalar, descend, scale


class SGD(Optimizer):
    """Gradient descent, with momentum if wanted.

    Without momentum w -= rate × g. With it m = momentum × m - rate × g and w += m, or with `nesterov`
    w += momentum × m - rate × g.

    Args:
        learning_rate: number, schedule, or callable.
        momentum: how much of the last step goes into the next, from 0 to 1.
        nesterov: whether momentum looks ahead.
        weight_decay, clipnorm, clipvalue, global_clipnorm, use_ema, ema_momentum, ema_overwrite_frequency,
            loss_scale_factor, gradient_accumulation_steps, name: see `Optimizer`.

    >>> w = torch.nn.Parameter(torch.ones(2))
    >>> SGD(0.25).apply([torch.ones(2)], [w])
    >>> w.tolist()
    [0.75, 0.75]
    """

    def __init__(
        self, learning_rate: LearningRate = 0.01, momentum: float = 0.0, nesterov: bool = False,
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
        check_range(self, "momentum", momentum)
        self.momentum, self.nesterov = momentum, nesterov

    def slots(self) -> Sequence[tuple[str, ...]]:
        return [("momentum",)] * (self.momentum != 0)

    def update(self, part: Part, grads: list[Tensor], rate: Scalar, step: int | Tensor) -> None:
        if not self.momentum:
            if not isinstance(rate, Tensor) and part.can("sgd"):
                torch._fused_sgd_(
                    part.variables, grads, [], weight_decay=0.0, momentum=0.0, lr=rate, dampening=0.0,
                    nesterov=False, maximize=False, is_first_step=False, found_inf=part.found_inf,
                )  # fmt: skip
            else:
                descend(part.variables, grads, rate)
            return
        moments = part["momentum"]
        if not isinstance(rate, Tensor) and not self.nesterov and part.can("sgd"):
            # dampening 1 + rate makes torch's buffer Keras's momentum: momentum × m + (1 - dampening) × g
            torch._fused_sgd_(
                part.variables, grads, moments, weight_decay=0.0, momentum=self.momentum, lr=-1.0, dampening=1.0 + rate,
                nesterov=False, maximize=False, is_first_step=False, found_inf=part.found_inf,
            )  # fmt: skip
            return
        scale(moments, self.momentum)
        descend(moments, grads, rate)
        if self.nesterov:
            torch._foreach_add_(part.variables, moments, alpha=self.momentum)
            descend(part.variables, grads, rate)
        else:
            torch._foreach_add_(part.variables, moments)
