"""What surrounds an update, whatever the optimizer: accumulated gradients, averages of the variables, constraints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from hornbeam.optimizers.mirrored import Mirrored
from hornbeam.optimizers.part import Part, Scalar, blend
from hornbeam.optimizers.selecting import Selecting

_is_compiling = torch.compiler.is_compiling


class Surrounding(Selecting):
    """The part of an optimizer that every one has around its own update.

    Attributes:
        batch_weight: how much the next gradients count among those accumulated; `fit` sets it. None: as much as any.
        branchless: whether eager steps, too, leave all numbers on the device, so that the host waits for none.
    """

    batch_weight: float | Tensor | None
    branchless = False

    def __init__(self) -> None:
        super().__init__()
        self._weighed, self.batch_weight = Mirrored(0.0, torch.float32), None

    def _accumulate(self, parts: list[Part], grads: list[Tensor]) -> None:
        """Adds gradients to those accumulated, times their batch's weight: ragged batches count by their rows."""
        weight, self.batch_weight = self.batch_weight, None
        for part in parts:
            own, sums = [grads[i] for i in part.positions], part["gradient_accumulator"]
            if isinstance(weight, Tensor):
                torch._foreach_add_(sums, torch._foreach_mul(own, weight.to(part.device, part.dtype)))
            else:
                torch._foreach_add_(sums, own, alpha=1 if weight is None else weight)
        if weight is not None and not isinstance(weight, Tensor) and not self._without_host():
            self._weighed.set(self._weighed.get() + weight)
        elif weight is not None:
            self._weighed.write(self._weighed.scalar() + weight)

    def _mean_gradients(self, parts: list[Part], count: int) -> list[Tensor]:
        total: Any = float(self.gradient_accumulation_steps or 1)
        if self._without_host() or self._weighed.ahead:
            weighed = self._weighed.scalar()
            total = torch.where(weighed > 0, weighed, total)
        else:
            total = self._weighed.get() or total
        means: list[Any] = [None] * count
        for part in parts:
            mean = torch._foreach_div(part["gradient_accumulator"], total)
            for position, gradient in zip(part.positions, mean, strict=True):
                means[position] = gradient
        return means

    def _clear_accumulators(self, parts: list[Part]) -> None:
        for part in parts:
            torch._foreach_zero_(part["gradient_accumulator"])
        if self._without_host():
            self._weighed.write(torch.zeros_like(self._weighed.scalar()))
        else:
            self._weighed.set(0.0)

    def _without_host(self) -> bool:
        return self.branchless or _is_compiling()

    def _average(self, parts: list[Part], keep: Scalar) -> None:
        for part in parts:
            averages = part["average"]
            if isinstance(keep, Tensor):
                torch._foreach_mul_(averages, keep)
                torch._foreach_add_(averages, torch._foreach_mul(part.variables, 1 - keep))
            else:
                blend(averages, part.variables, keep)

    def _take_averages(self, parts: list[Part]) -> None:
        for part in parts:
            for variable, average in zip(part.variables, part["average"], strict=True):
                variable.copy_(average)

    def _constrain(self, parts: list[Part]) -> None:
        for part in parts:
            for variable in part.variables:
                constraint = getattr(variable, "constraint", None)
                if constraint is not None:
                    variable.copy_(constraint(variable))

    def _overwrite(
        self, grads: Sequence[Tensor | None], variables: Sequence[Tensor] | None
    ) -> tuple[list[Tensor | None], list[Tensor]]:
        """Gives variables that ask for it their gradient as their value, the largest of those accumulated; returns the others."""
        pairs = list(zip(grads, self._variables if variables is None else variables, strict=True))
        every, done = self.gradient_accumulation_steps, self._steps.scalar()
        for gradient, variable in pairs:
            if not getattr(variable, "overwrite_with_gradient", False) or gradient is None:
                continue
            if every:
                kept: Any = self._slots["gradient_accumulator"][self._index_of(variable)]
                due, largest = (done + 1) % every == 0, torch.maximum(kept, gradient)
                variable.copy_(torch.where(due, largest, variable))
                kept.copy_(torch.where(due, 0, largest))
            else:
                variable.copy_(gradient)
        rest = [(g, v) for g, v in pairs if not getattr(v, "overwrite_with_gradient", False)]
        return [g for g, _ in rest], [v for _, v in rest]
