"""Small callbacks: functions as callbacks, learning-rate schedules, CSV files, a stop at NaN."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from hornbeam.core.registry import public
from hornbeam.training.callbacks.callback import Callback
from hornbeam.training.callbacks.monitor import learning_rate, parts_of, set_learning_rate


@public("keras.callbacks.LambdaCallback")
class LambdaCallback(Callback):
    """Calls functions at the moments whose names they are given.

    Args:
        on_epoch_begin, on_epoch_end: `f(epoch, logs)`.
        on_train_begin, on_train_end: `f(logs)`.
        on_train_batch_begin, on_train_batch_end: `f(batch, logs)`.
        **kwargs: functions for further methods of Callback.

    >>> LambdaCallback(on_epoch_end=lambda epoch, logs: print(epoch)).on_epoch_end(3, {})
    3
    """

    state_names = ()

    def __init__(
        self, on_epoch_begin: Callable[..., Any] | None = None, on_epoch_end: Callable[..., Any] | None = None,
        on_train_begin: Callable[..., Any] | None = None, on_train_end: Callable[..., Any] | None = None,
        on_train_batch_begin: Callable[..., Any] | None = None, on_train_batch_end: Callable[..., Any] | None = None,
        **kwargs: Any,
    ) -> None:  # fmt: skip
        given = {
            "on_epoch_begin": on_epoch_begin, "on_epoch_end": on_epoch_end,
            "on_train_begin": on_train_begin, "on_train_end": on_train_end,
            "on_train_batch_begin": on_train_batch_begin, "on_train_batch_end": on_train_batch_end, **kwargs,
        }  # fmt: skip
        self.__dict__.update({k: v for k, v in given.items() if v is not None})


@public("keras.callbacks.LearningRateScheduler")
class LearningRateScheduler(Callback):
    """Sets the learning rate at the beginning of every epoch.

    Args:
        schedule: `f(epoch, learning_rate)` or `f(epoch)`, which returns the new learning rate.
        verbose: 1 prints a line each time.

    >>> LearningRateScheduler(lambda epoch, rate: rate * 0.9).verbose
    0
    """

    state_names = ()

    def __init__(self, schedule: Callable[..., float], verbose: int = 0) -> None:
        self.schedule, self.verbose = schedule, verbose

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        for optimizer in parts_of(self.model.optimizer):
            new = self._next(epoch, learning_rate(optimizer))
            set_learning_rate(optimizer, new)
            if self.verbose > 0:
                print(f"\nEpoch {epoch + 1}: LearningRateScheduler setting learning rate to {new}.", flush=True)

    def _next(self, epoch: int, old: float) -> float:
        try:
            new = self.schedule(epoch, old)
        except TypeError:
            new = self.schedule(epoch)
        try:
            return float(new)
        except (TypeError, ValueError):
            raise ValueError(
                f"LearningRateScheduler: `schedule` must return a number. Received: {new!r} ({type(new).__name__})"
            ) from None

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if logs is not None:
            logs["learning_rate"] = learning_rate(self.model.optimizer)


@public("keras.callbacks.CSVLogger")
class CSVLogger(Callback):
    """Writes the results of every epoch as a line of a CSV file.

    Args:
        filename: the file.
        separator: what stands between values.
        append: whether an existing file is gone on with.

    >>> CSVLogger("log.csv", separator=";").sep
    ';'
    """

    state_names = ("keys",)

    def __init__(self, filename: Any, separator: str = ",", append: bool = False) -> None:
        self.filename, self.sep, self.append = Path(filename), separator, append
        self.keys: list[str] | None = None
        self._file: Any = None

    def on_train_begin(self, logs: Any = None) -> None:
        going_on = self.append and self.filename.exists() and self.filename.stat().st_size > 0
        if going_on:
            with self.filename.open(newline="") as file:
                self.keys = next(csv.reader(file, delimiter=self.sep))[1:]
        self._file = self.filename.open("a" if self.append else "w", newline="")

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        logs = logs or {}
        writer = csv.writer(self._file, delimiter=self.sep)
        if self.keys is None:
            self.keys = sorted(logs)
            if not any(k.startswith("val_") for k in self.keys):  # validation may begin in a later epoch
                self.keys += [f"val_{k}" for k in self.keys]
            writer.writerow(["epoch", *self.keys])
        writer.writerow([epoch, *(_cell(logs.get(k, "NA")) for k in self.keys)])
        self._file.flush()

    def on_train_end(self, logs: Any = None) -> None:
        self._file.close()
        self._file, self.keys = None, None


def _cell(value: Any) -> Any:
    """Several values stand in one cell, in quotes."""
    several = isinstance(value, Iterable) and not isinstance(value, str) and getattr(value, "ndim", None) != 0
    return f'"[{", ".join(map(str, value))}]"' if several else value


@public("keras.callbacks.TerminateOnNaN")
class TerminateOnNaN(Callback):
    """Stops training when the loss is no number.

    On a CPU every batch is looked at, as in Keras. On other devices a look would make every step wait, so every 64th batch
    and the end of the epoch are looked at: the running mean of the loss keeps a NaN, so none is missed.

    Args:
        raise_error: whether an error is raised instead of a stop.

    >>> TerminateOnNaN().raise_error
    False
    """

    state_names = ()

    def __init__(self, raise_error: bool = False) -> None:
        self.raise_error, self._every, self._looked = raise_error, 1, 0

    def on_train_begin(self, logs: Any = None) -> None:
        weight = next(iter(self.model.weights), None)
        self._every = 1 if weight is None or weight.device.type == "cpu" else 64

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if batch + 1 - self._looked >= self._every:
            self._looked = batch + 1
            self._look(batch, logs)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._looked = 0
        if not self.model.stop_training:
            self._look(None, logs)

    def _look(self, batch: int | None, logs: Any) -> None:
        loss = (logs or {}).get("loss")
        if loss is None or math.isfinite(loss):
            return
        place = "this epoch" if batch is None else f"batch {batch}" if self._every == 1 else f"batch {batch} or before"
        if self.raise_error:
            raise RuntimeError(f"The loss is {loss} at {place}.")
        print(f"{place[0].upper()}{place[1:]}: Invalid loss, terminating training", flush=True)
        self.model.stop_training = True
