"""The mean of a loss over rows: values are kept as the step gave them and folded now and then, so that no step waits or adds."""

from __future__ import annotations

from typing import Any

import torch

from hornbeam.metrics.metric import Metric

_FOLD = 64


class LossTracker(Metric):
    """A mean over rows of values that are already means over a batch.

    Values are folded into a float64 sum every 64 steps, and where the number of rows changes: by count, so that no bit of the sum
    depends on when somebody looked. A look reads a side copy.

    >>> tracker = LossTracker("loss")
    >>> tracker.add(torch.tensor(1.0), 3)
    >>> tracker.add(torch.tensor(5.0), 1)
    >>> float(tracker.result())
    2.0
    """

    _sum: Any
    _count: Any
    _rows: Any
    _waiting: list[torch.Tensor]

    def __init__(self, name: str = "loss") -> None:
        super().__init__(name=name)
        self.reset_state()

    def add(self, value: torch.Tensor, rows: float) -> None:
        """Takes one batch's mean (without a gradient) and its number of rows."""
        waiting = self._waiting
        if rows != self._rows or len(waiting) == _FOLD:
            self._fold()
            waiting, self._rows = self._waiting, rows
        waiting.append(value)

    def update_state(self, values: Any, sample_weight: Any = None) -> None:
        """Takes a value, or several, with a weight or a number of rows."""
        values = torch.as_tensor(values).detach()
        if values.ndim == 0 and (sample_weight is None or isinstance(sample_weight, (int, float))):
            self.add(values.clone(), 1 if sample_weight is None else sample_weight)
            return
        weights = (
            torch.ones_like(values)
            if sample_weight is None
            else torch.as_tensor(sample_weight).to(values).broadcast_to(values.shape)
        )
        self._fold()
        self._sum = self._sum_with((values * weights).to(torch.float64).sum())
        self._count = self._count + weights.to(torch.float64).sum()

    def _sum_with(self, more: torch.Tensor) -> torch.Tensor:
        return more if self._sum is None else self._sum.to(more.device) + more

    def _folded(self) -> tuple[Any, Any]:
        """The sum and the count with what waits."""
        if not self._waiting:
            return self._sum, self._count
        values = torch.stack(self._waiting)
        wide = torch.float32 if values.device.type == "mps" else torch.float64
        return self._sum_with(values.to(wide).sum() * self._rows), self._count + len(self._waiting) * self._rows

    def _fold(self) -> None:
        self._sum, self._count = self._folded()
        self._waiting = []

    def result(self) -> torch.Tensor:
        """Returns the mean; 0 before any value."""
        with torch.no_grad():
            total, count = self._folded()
            if total is None:
                return torch.zeros(())
            return (total / count).to(torch.float32)

    def reset_state(self) -> None:
        """Begins anew."""
        self._sum, self._count, self._rows, self._waiting = None, 0, 0, []
