"""Callback, the base of all callbacks, and the list that calls them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any

from hornbeam.core.registry import public

_BATCH_HOOKS = {
    "train": ("on_train_batch_begin", "on_train_batch_end", "on_batch_begin", "on_batch_end"),
    "test": ("on_test_batch_begin", "on_test_batch_end"),
    "predict": ("on_predict_batch_begin", "on_predict_batch_end"),
}


@public("keras.callbacks.Callback")
class Callback:
    """The base class of callbacks: override the methods for the moments you need.

    Attributes:
        model: the model that is trained.
        params: "verbose", "epochs" and "steps" of the run.

    >>> class Stop(Callback):
    ...     def on_epoch_end(self, epoch, logs=None):
    ...         self.model.stop_training = logs["loss"] < 0.1
    """

    params: dict[str, Any] | None = None
    _model: Any = None

    @property
    def model(self) -> Any:
        """The model that is trained."""
        return self._model

    def set_model(self, model: Any) -> None:
        """Is told the model before anything else."""
        self._model = model

    def set_params(self, params: dict[str, Any]) -> None:
        """Is told the run's "verbose", "epochs" and "steps"."""
        self.params = params

    def on_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Older name of `on_train_batch_begin`."""

    def on_batch_end(self, batch: int, logs: Any = None) -> None:
        """Older name of `on_train_batch_end`."""

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """An epoch begins."""

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """An epoch has ended; `logs` holds its results, those of validation with "val_" before their names."""

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """A training step begins."""
        self.on_batch_begin(batch, logs)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """A training step has ended. `logs` reads the device only when it is looked into."""
        self.on_batch_end(batch, logs)

    def on_test_batch_begin(self, batch: int, logs: Any = None) -> None:
        """A step of evaluation begins, in `evaluate` or in the validation of `fit`."""

    def on_test_batch_end(self, batch: int, logs: Any = None) -> None:
        """A step of evaluation has ended."""

    def on_predict_batch_begin(self, batch: int, logs: Any = None) -> None:
        """A step of prediction begins."""

    def on_predict_batch_end(self, batch: int, logs: Any = None) -> None:
        """A step of prediction has ended; `logs` holds its "outputs"."""

    def on_train_begin(self, logs: Any = None) -> None:
        """Training begins."""

    def on_train_end(self, logs: Any = None) -> None:
        """Training has ended; `logs` holds the last epoch's results."""

    def on_test_begin(self, logs: Any = None) -> None:
        """Evaluation begins."""

    def on_test_end(self, logs: Any = None) -> None:
        """Evaluation has ended."""

    def on_predict_begin(self, logs: Any = None) -> None:
        """Prediction begins."""

    def on_predict_end(self, logs: Any = None) -> None:
        """Prediction has ended."""


def _overrides(callback: Any, names: Iterable[str]) -> bool:
    return any(getattr(type(callback), n, None) is not getattr(Callback, n) or n in vars(callback) for n in names)


@public("keras.callbacks.CallbackList")
class CallbackList(Callback):
    """Several callbacks called as one, in order.

    Args:
        callbacks: callback, list of callbacks, or None.
        add_history: whether a History is added where there is none.
        add_progbar: whether a ProgbarLogger is added where there is none.
        model: the model.
        **params: what `set_params` tells the callbacks.

    >>> CallbackList([Callback()]).callbacks
    [<...Callback object at ...>]
    """

    def __init__(
        self, callbacks: Any = None, add_history: bool = False, add_progbar: bool = False, model: Any = None, **params: Any
    ) -> None:
        from hornbeam.training.callbacks.history import History
        from hornbeam.training.callbacks.progbar import ProgbarLogger

        given = callbacks if isinstance(callbacks, (list, tuple)) else [] if callbacks is None else [callbacks]
        self.callbacks: list[Any] = [c for one in given for c in (one.callbacks if isinstance(one, CallbackList) else [one])]
        for callback in self.callbacks:
            if isinstance(callback, type) or not (isinstance(callback, Callback) or hasattr(callback, "on_epoch_end")):
                hint = f" Make an instance: {callback.__name__}(...)." if isinstance(callback, type) else ""
                raise ValueError(
                    f"`callbacks` takes instances of Callback. Received: {callback!r} ({type(callback).__name__}).{hint}"
                )
        if add_progbar and not any(isinstance(c, ProgbarLogger) for c in self.callbacks):
            self.callbacks.append(ProgbarLogger())
        if add_history and not any(isinstance(c, History) for c in self.callbacks):
            self.callbacks.append(History())
        self.each = {kind: [c for c in self.callbacks if _overrides(c, names)] for kind, names in _BATCH_HOOKS.items()}
        if params:
            self.set_params(params)
        if model is not None:
            self.set_model(model)

    def append(self, callback: Any) -> None:
        """Adds a callback at the end."""
        self.callbacks.append(callback)
        for kind, names in _BATCH_HOOKS.items():
            if _overrides(callback, names):
                self.each[kind].append(callback)

    def find(self, kind: type) -> Any:
        """Returns the first callback of a class, or None."""
        return next((c for c in self.callbacks if isinstance(c, kind)), None)


def _to_all(name: str) -> Callable[..., None]:
    """Makes the method of CallbackList that calls all callbacks; they get a dictionary for `logs` also where there are none."""
    places = 0 if name.startswith("set_") else len(inspect.signature(getattr(Callback, name)).parameters) - 2

    def call(self: CallbackList, *args: Any, logs: Any = None) -> None:
        if not name.startswith("set_") and (len(args) == places or args[places] is None):
            args = (*args[:places], {} if logs is None else logs)
        for callback in self.callbacks:
            getattr(callback, name)(*args)

    call.__name__, call.__doc__ = name, getattr(Callback, name).__doc__
    return call


for _name in [n for n in vars(Callback) if n.startswith(("on_", "set_"))]:
    setattr(CallbackList, _name, _to_all(_name))


def set_model(self: CallbackList, model: Any) -> None:
    """Tells all callbacks the model."""
    self._model = model
    for callback in self.callbacks:
        callback.set_model(model)


CallbackList.set_model = set_model  # type: ignore[method-assign, assignment]
