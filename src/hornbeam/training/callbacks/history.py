"""The record of a run."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from hornbeam.core.registry import public
from hornbeam.training.callbacks.callback import Callback

if TYPE_CHECKING:
    from hornbeam.inspect.history import Chart


def _pictures() -> Any:
    """What draws histories, loaded when one is looked at."""
    return importlib.import_module("hornbeam.inspect.history")



@public("keras.callbacks.History")
class History(Callback):
    """Keeps the results of every epoch; `fit` returns one. In a notebook it shows its curves.

    Attributes:
        epoch: the epochs' numbers.
        history: by name, the list of results.
        epochs_of: by name, the epochs that the results are of; validation may come every other epoch only.

    >>> history = History()
    >>> history.on_epoch_end(0, {"loss": 0.5})
    >>> history
    <History of 1 epoch: loss 0.5>
    """

    state_names = ("epoch", "history", "epochs_of")

    def __init__(self) -> None:
        self.epoch: list[int] = []
        self.history: dict[str, list[Any]] = {}
        self.epochs_of: dict[str, list[int]] = {}

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
            self.epochs_of.setdefault(key, []).append(epoch)

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k != "_model"}

    def plot(self, metrics: Any = None, to_file: Any = None, **options: Any) -> Chart:
        """Draws the results over the epochs; arguments as for `hornbeam.utils.plot_history`.

        >>> history = History()
        >>> history.on_epoch_end(0, {"loss": 0.5, "val_loss": 0.7})
        >>> history.plot()
        <Chart of loss>
        """
        return _pictures().plot_history(self, metrics, to_file, **options)

    def __repr__(self) -> str:
        return f"<History of {_pictures().summary_text(self)}>"

    def _repr_html_(self) -> str:
        return _pictures().summary_html(self)
