"""The mean of a loss over rows: values are kept as the step gave them and folded now and then, so that no step waits or adds."""

from __future__ import annotations

from typing import Any

import torch

from hornbeam.core.clean import clean_context
from hornbeam.metrics.metric import Metric

_FOLD = 64


class LossTracker(Metric):
    """A mean over rows of values that are already means over a batch.

    Values are folded into a float64 sum every 64 steps, and where the number of rows changes: by count, so that no bit of the sum
    depends on when somebody looked. A look reads a side copy. In compiled code the sum is added to at once.

    >>> tracker = LossTracker("loss")
    >>> tracker.add(torch.tensor(1.0), 3)
    >>> tracker.add(torch.tensor(5.0), 1)
    >>> float(tracker.result())
    2.0
    """

    _sums: Any
    _rows: Any
    _waiting: list[torch.Tensor]

    def __init__(self, name: str = "loss") -> None:
        super().__init__(name=name)
        self._sums = None
        self.reset_state()

    def add(self, value: torch.Tensor, rows: float) -> None:
        """Takes one batch's mean (without a gradient) and its number of rows."""
        if torch.compiler.is_compiling():
            self._sums.copy_(added(self._sums, value[None], rows))
            return
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
        if not torch.compiler.is_compiling():
            self._fold()
        sums = self.sums(values.device)
        total, count = (values * weights).to(sums.dtype).sum(), weights.to(sums.dtype).sum()
        sums.copy_(torch.stack([sums[0] + total, sums[1] + count, sums[2] + (sums[0] + total).isfinite(), sums[3] + 1]))

    def sums(self, device: torch.device) -> torch.Tensor:
        """Returns the state, made at the first need.

        It is float64 of shape (4,): the sum of values times rows, the rows, the steps after which the sum was finite, the steps.
        """
        if self._sums is None or self._sums.device != device:
            with clean_context():
                made = torch.zeros(4, dtype=torch.float32 if device.type == "mps" else torch.float64, device=device)
                self._sums = made if self._sums is None else self._sums.to(made)
        return self._sums

    def _folded(self) -> Any:
        """The sums with what waits."""
        if not self._waiting:
            return self._sums
        values = torch.stack(self._waiting)
        return added(self.sums(values.device), values, self._rows)

    def _fold(self) -> None:
        if self._waiting:
            with torch.no_grad():
                folded = self._folded()
                self._sums.copy_(folded)
            self._waiting = []

    def result(self) -> torch.Tensor:
        """Returns the mean; 0 before any value."""
        with torch.no_grad():
            sums = self._folded()
            if sums is None:
                return torch.zeros(())
            return torch.where(sums[1] == 0, 0.0, sums[0] / sums[1]).to(torch.float32)

    def present(self) -> torch.Tensor | None:
        """Returns the state with what waits, as `sums` says; None before any value."""
        with torch.no_grad():
            return self._folded()

    def state_dict(self) -> dict[str, Any]:
        """Returns a copy of the state; what waits to be folded waits on."""
        sums = None if self._sums is None else self._sums.clone()
        return {"sums": sums, "rows": self._rows, "waiting": [v.clone() for v in self._waiting]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Puts back what `state_dict` returned."""
        self.reset_state()
        if state["sums"] is not None:
            self.sums(state["sums"].device).copy_(state["sums"])
        self._rows, self._waiting = state["rows"], [v.clone() for v in state["waiting"]]

    def reset_state(self) -> None:
        """Begins anew."""
        self._rows, self._waiting = None, []
        if self._sums is not None:
            with torch.no_grad():
                self._sums.zero_()


def added(sums: torch.Tensor, values: torch.Tensor, rows: float) -> torch.Tensor:
    """Returns a tracker's state after further steps, all of so many rows; `values` has shape (steps,)."""
    wide = values.to(sums.dtype)
    finite = (sums[0] + wide.cumsum(0)).isfinite().sum()
    steps = len(values)
    return torch.stack([sums[0] + wide.sum() * rows, sums[1] + rows * steps, sums[2] + finite, sums[3] + steps])
