"""The record of a run."""

from __future__ import annotations

from typing import Any

from hornbeam.core.registry import public
from hornbeam.training.callbacks.callback import Callback


@public("keras.callbacks.History")
class History(Callback):
    """Keeps the results of every epoch; `fit` returns one.

    Attributes:
        epoch: the epochs' numbers.
        history: by name, the list of results.

    >>> History().history
    {}
    """

    state_names = ("epoch", "history")

    def __init__(self) -> None:
        self.epoch: list[int] = []
        self.history: dict[str, list[Any]] = {}

    def set_model(self, model: Any) -> None:
        """Becomes the model's `history`."""
        super().set_model(model)
        model.__dict__["history"] = self

    def on_train_begin(self, logs: Any = None) -> None:
        self.epoch = []

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.epoch.append(epoch)
        for key, value in (logs or {}).items():
            self.history.setdefault(key, []).append(value)

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k != "_model"}

    def __repr__(self) -> str:
        return f"<History of {len(self.epoch)} epochs: {', '.join(self.history)}>"
