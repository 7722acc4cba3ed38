"""The schedulers of `torch.optim.lr_scheduler` in a training loop."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from hornbeam.core.errors import describe, did_you_mean
from hornbeam.training.callbacks.callback import Callback


class TorchScheduler(Callback):
    """Makes the steps of a learning rate scheduler of torch, for a model that was compiled with an optimizer of torch.

    Args:
        scheduler: the scheduler, made of the optimizer that `compile` was given; or a function that makes one of the optimizer.
        every: "epoch" for a step at the end of each epoch, "batch" for one after each training step.
        monitor: for torch's ReduceLROnPlateau: the result that it looks at.

    >>> import hornbeam as keras
    >>> model = keras.Sequential([keras.layers.Dense(1)])
    >>> model.compile(lambda weights: torch.optim.SGD(weights, lr=0.5), "mse")
    >>> halve = TorchScheduler(lambda optimizer: torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5))
    >>> model.fit(torch.ones(8, 2), torch.ones(8, 1), epochs=2, verbose=0, callbacks=[halve]).history["learning_rate"]
    [0.25, 0.125]
    """

    def __init__(
        self, scheduler: LRScheduler | Callable[[Any], LRScheduler], every: str = "epoch", monitor: str = "val_loss"
    ) -> None:
        if not isinstance(scheduler, LRScheduler) and not callable(scheduler):
            raise TypeError(f"TorchScheduler takes a scheduler of torch, or a function. Received: {describe(scheduler)}")
        if every not in ("epoch", "batch"):
            close = did_you_mean(every, ("epoch", "batch"))
            raise ValueError(f"TorchScheduler: `every` must be 'epoch' or 'batch'.{close} Received: every={every!r}")
        if every == "batch" and isinstance(scheduler, ReduceLROnPlateau):
            raise ValueError("TorchScheduler: torch's ReduceLROnPlateau looks at the results of epochs: use every='epoch'.")
        self.scheduler: Any = scheduler if isinstance(scheduler, LRScheduler) else None
        self.make: Any = scheduler
        self.every, self.monitor = every, monitor
        if every == "batch":
            self.on_train_batch_end = self._step  # type: ignore[method-assign]

    def on_train_begin(self, logs: Any = None) -> None:
        given = self.model.optimizer
        if hasattr(given, "build"):
            given.build(self.model.trainable_weights)
        optimizer = given if isinstance(given, torch.optim.Optimizer) else getattr(given, "optimizer", None)
        if optimizer is None:
            raise ValueError(
                "TorchScheduler needs a model that was compiled with an optimizer of torch.optim. Hornbeam's own take a schedule "
                f"as their `learning_rate`. The model's optimizer: {given!r}"
            )
        if self.scheduler is None or (self.scheduler is not self.make and self.scheduler.optimizer is not optimizer):
            self.scheduler = self.make(optimizer)
        if self.scheduler.optimizer is not optimizer:
            raise ValueError("TorchScheduler: the scheduler was made for another optimizer than the model's.")

    def _step(self, batch: int, logs: Any = None) -> None:
        self.scheduler.step()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if isinstance(self.scheduler, ReduceLROnPlateau):
            if self.monitor not in (logs or {}):
                raise ValueError(
                    f"TorchScheduler: there is no result {self.monitor!r} to monitor.{did_you_mean(self.monitor, logs or {})} "
                    f"There are: {', '.join(logs or {})}."
                )
            self.scheduler.step(logs[self.monitor])
        elif self.every == "epoch":
            self.scheduler.step()
        if logs is not None:
            logs["learning_rate"] = float(self.scheduler.optimizer.param_groups[0]["lr"])

    def state_dict(self) -> dict[str, Any]:
        """Returns a copy of the scheduler's state."""
        return {"scheduler": None if self.scheduler is None else copy.deepcopy(self.scheduler.state_dict())}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Puts back what `state_dict` returned."""
        if state["scheduler"] is not None:
            self.scheduler.load_state_dict(copy.deepcopy(state["scheduler"]))
