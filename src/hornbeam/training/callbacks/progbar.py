"""The callback that shows progress."""

from __future__ import annotations

from typing import Any

from hornbeam.core.registry import public
from hornbeam.training import progress
from hornbeam.training.callbacks.callback import Callback


@public("keras.callbacks.ProgbarLogger")
class ProgbarLogger(Callback):
    """Shows progress and results, as `verbose` of `fit` says. `fit` adds one by itself.

    The loop asks it for a picture at most ten times a second; it has no hook on every batch.

    >>> ProgbarLogger().display is None
    True
    """

    state_names = ()

    def __init__(self) -> None:
        self.display: progress.Progress | None = None
        self.epochs, self.steps = 1, None

    def set_params(self, params: dict[str, Any]) -> None:
        super().set_params(params)
        self.display = progress.make_progress(params.get("verbose", 1))
        self.epochs, self.steps = params.get("epochs", 1) or 1, params.get("steps")

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        if self.display is not None:
            self.display.begin(epoch, self.epochs, self.steps)

    def on_train_end(self, logs: Any = None) -> None:
        if self.display is not None:
            self.display.close()
