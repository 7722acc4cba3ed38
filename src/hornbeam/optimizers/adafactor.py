"""Adafactor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from hornbeam.optimizers.base import LearningRate, Optimizer
from hornbeam.optimizers.part import Part, Scalar


class Adafactor(Optimizer):
    """Adam's second moments, kept as row and column means only: [Shazeer and Stern, 2018](https://arxiv.org/abs/1804.04235).

    Args:
        learning_rate: number, schedule, or callable.
        beta_2_decay: exponent of the step in the decay of the second moments.
        epsilon_1: added to squared gradients.
        epsilon_2: the least size of a variable that steps are scaled to.
        clip_threshold: the root mean square that an update is cut down to.
        relative_step: whether the rate is at most 1 / sqrt(step).
        weight_decay, clipnorm, clipvalue, global_clipnorm, use_ema, ema_momentum, ema_overwrite_frequency,
            loss_scale_factor, gradient_accumulation_steps, name: see `Optimizer`.

    >>> w = torch.nn.Parameter(torch.ones(2, 3))
    >>> Adafactor(0.5).apply([torch.ones(2, 3)], [w])
    >>> w[0].tolist()
    [0.5, 0.5, 0.5]
    """

    def __init__(
        self, learning_rate: LearningRate = 0.001, beta_2_decay: float = -0.8, epsilon_1: float = 1e-30,
        epsilon_2: float = 0.001, clip_threshold: float = 1.0, relative_step: bool = True, weight_decay: float | None = None,
        clipnorm: float | None = None, clipvalue: float | None = None, global_clipnorm: float | None = None,
        use_ema: bool = False,
        ema_momentum: float = 0.99, ema_overwrite_frequency: int | None = None, loss_scale_factor: float | None = None,
        gradient_accumulation_steps: int | None = None, name: str | None = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(
            learning_rate, weight_decay, clipnorm, clipvalue, global_clipnorm, use_ema, ema_momentum, ema_overwrite_frequency,
            loss_scale_factor, gradient_accumulation_steps, name, **kwargs,
        )  # fmt: skip
        self.beta_2_decay, self.epsilon_1, self.epsilon_2 = beta_2_decay, epsilon_1, epsilon_2
        self.clip_threshold, self.relative_step = clip_threshold, relative_step

    def slots(self) -> Sequence[tuple[str, ...]]:
        return [("r", "c", "velocity")]

    def slot_start(self, slot: str, variable: Tensor) -> Tensor | None:
        if slot not in ("r", "c"):
            return super().slot_start(slot, variable)
        if variable.dim() < 2:
            return variable.new_zeros(())
        rows = variable.shape[:-1] if slot == "r" else (*variable.shape[:-2], variable.shape[-1])
        return variable.new_zeros(rows)

    def update(self, part: Part, grads: list[Tensor], rate: Scalar, step: int | Tensor) -> None:
        root = step.rsqrt() if isinstance(step, Tensor) else step**-0.5
        if self.relative_step:
            rate = torch.minimum(torch.as_tensor(rate).to(root), root) if isinstance(root, Tensor) else min(rate, root)
        keep = 1 - step**self.beta_2_decay
        for i, (variable, gradient) in enumerate(zip(part.variables, grads, strict=True)):
            scale = rate * _root_mean_square(variable).clamp(min=self.epsilon_2)
            squares = gradient.square() + self.epsilon_1
            velocity = part["velocity"][i]
            if variable.dim() >= 2:
                rows, columns = part["r"][i], part["c"][i]
                rows.copy_(keep * rows + (1 - keep) * squares.mean(-1))
                columns.copy_(keep * columns + (1 - keep) * squares.mean(-2))
                velocity.copy_((rows / rows.mean(-1, keepdim=True)).unsqueeze(-1) * columns.unsqueeze(-2))
            else:
                velocity.copy_(keep * velocity + (1 - keep) * squares)
            update = gradient * velocity.rsqrt()
            variable.sub_((scale * update / (_root_mean_square(update) / self.clip_threshold).clamp(min=1.0)).to(variable.dtype))


def _root_mean_square(x: Tensor) -> Tensor:
    return x.square().mean().sqrt()
