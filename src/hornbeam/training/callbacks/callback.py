"""Callback, the base of all callbacks, and the list that calls them."""

from __future__ import annotations

import copy
import inspect
import io
import pickle
import warnings
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch.optim.lr_scheduler import LRScheduler

from hornbeam.core.registry import public

_BATCH_HOOKS = {
    "train": ("on_train_batch_begin", "on_train_batch_end", "on_batch_begin", "on_batch_end"),
    "test": ("on_test_batch_begin", "on_test_batch_end"),
    "predict": ("on_predict_batch_begin", "on_predict_batch_end"),
}


@public("keras.callbacks.Callback")
class Callback:
    """The base class of callbacks: override the methods for the moments you need.

    What a callback remembers from one moment to the next is its state: `state_dict` takes it and `load_state_dict` puts it back,
    so that a run can stop between two steps and go on. By default it is every attribute that is data; a class says otherwise in
    `state_names`, or by its own two methods.

    Attributes:
        model: the model that is trained.
        params: "verbose", "epochs" and "steps" of the run.
        state_names: names of the attributes that are the state; None takes all that are data.

    >>> class Stop(Callback):
    ...     def on_epoch_end(self, epoch, logs=None):
    ...         self.model.stop_training = logs["loss"] < 0.1
    """

    params: dict[str, Any] | None = None
    state_names: tuple[str, ...] | None = None
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

    def state_dict(self) -> dict[str, Any]:
        """Returns a copy of what the callback remembers, by name.

        Attributes that hold the model, other modules, optimizers, or what cannot be pickled, such as open files, are left out.

        >>> class Count(Callback):
        ...     batches = 0
        ...     def on_train_batch_end(self, batch, logs=None):
        ...         self.batches += 1
        >>> count = Count()
        >>> count.on_train_batch_end(0)
        >>> count.state_dict()
        {'batches': 1}
        """
        return state_of(self)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Puts back what `state_dict` returned. In a new run it must come after `on_train_begin`, where callbacks begin anew."""
        self.__dict__.update(copy.deepcopy(state))

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


class _Data(pickle.Pickler):
    """Pickles what is data, without the numbers of arrays, and refuses what a run is made of."""

    def persistent_id(self, value: Any) -> Any:
        if isinstance(value, (torch.Tensor, np.ndarray)) and not isinstance(value, torch.nn.Parameter):
            return "numbers"
        if isinstance(value, (torch.nn.Module, torch.nn.Parameter, torch.optim.Optimizer, Callback)):
            raise pickle.PicklingError(f"{type(value).__name__} is no state of a callback")
        return None


def is_data(value: Any) -> bool:
    """Returns whether a value can be copied and written as part of a state."""
    try:
        _Data(io.BytesIO()).dump(value)
    except Exception:  # whatever a foreign __reduce__ raises
        return False
    return True


def state_of(callback: Any) -> dict[str, Any]:
    """Returns a copy of what any callback remembers, also one that does not inherit from Callback."""
    names = getattr(callback, "state_names", None)
    if names is not None:
        return {name: copy.deepcopy(getattr(callback, name)) for name in names}
    own = {k: v for k, v in vars(callback).items() if k not in ("_model", "model", "params") and not callable(v) and is_data(v)}
    return {k: copy.deepcopy(v) for k, v in own.items()}


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
                if isinstance(callback, LRScheduler):
                    hint = f" Wrap it: hornbeam.callbacks.TorchScheduler({type(callback).__name__}(...))."
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

    _calling: tuple[str, tuple[Any, ...]] | None = None  # the call that is being made of all callbacks
    _at: int = 0

    def append(self, callback: Any) -> None:
        """Adds a callback at the end."""
        self.callbacks.append(callback)
        for kind, names in _BATCH_HOOKS.items():
            if _overrides(callback, names):
                self.each[kind].append(callback)

    def _named(self) -> dict[str, Any]:
        """The callbacks by class, with a number where there are several of one."""
        seen: Counter[str] = Counter()
        named = {}
        for callback in self.callbacks:
            name = type(callback).__name__
            seen[name] += 1
            named[name if seen[name] == 1 else f"{name}_{seen[name]}"] = callback
        return named

    def state_dict(self) -> dict[str, Any]:
        """Returns the states of all callbacks by class name ("LambdaCallback", "LambdaCallback_2", …).

        Asked for by a callback while all are called, it also tells of the call that those after that one still wait for.
        """
        named = self._named()
        state = {name: c.state_dict() if hasattr(c, "state_dict") else state_of(c) for name, c in named.items()}
        if self._calling is not None:
            state["waiting"] = {"names": list(named)[self._at + 1 :], "call": copy.deepcopy(self._calling)}
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Puts back what `state_dict` returned; callbacks that have no state in it go on as they are."""
        named, waiting = self._named(), state.get("waiting")
        state = {name: kept for name, kept in state.items() if name != "waiting"}
        if missing := state.keys() - named.keys():
            warnings.warn(f"The state tells of callbacks that this run has not: {', '.join(sorted(missing))}.", stacklevel=2)
        for name, callback in named.items():
            if name in state:
                load = getattr(callback, "load_state_dict", None) or vars(callback).update
                load(state[name])
        if waiting:
            moment, args = waiting["call"]
            for name in waiting["names"]:
                getattr(named[name], moment)(*args)

    def find(self, kind: type) -> Any:
        """Returns the first callback of a class, or None."""
        return next((c for c in self.callbacks if isinstance(c, kind)), None)


def _to_all(name: str) -> Callable[..., None]:
    """Makes the method of CallbackList that calls all callbacks; they get a dictionary for `logs` also where there are none."""
    places = 0 if name.startswith("set_") else len(inspect.signature(getattr(Callback, name)).parameters) - 2

    def call(self: CallbackList, *args: Any, logs: Any = None) -> None:
        if not name.startswith("set_") and (len(args) == places or args[places] is None):
            args = (*args[:places], {} if logs is None else logs)
        self._calling = None if name.startswith("set_") else (name, args)
        for at, callback in enumerate(self.callbacks):
            self._at = at
            getattr(callback, name)(*args)
        self._calling = None

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
