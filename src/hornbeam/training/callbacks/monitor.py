"""Callbacks that watch one result: whether smaller or larger is better, and whether it has improved."""

from __future__ import annotations

import math
import operator
import warnings
from collections.abc import Callable
from typing import Any

import torch

from hornbeam.core.errors import did_you_mean
from hornbeam.core.registry import public
from hornbeam.metrics.direction import grows
from hornbeam.training.callbacks.callback import Callback


class MonitorCallback(Callback):
    """The base of callbacks that watch a result.

    Which way is better is known from `mode`, or found at the end of the first epoch: from the metric of that name, or from
    the name itself. From then on `monitor_op(value - min_delta, best)` says whether a value is better than the best.

    Args:
        monitor: the result's name, such as "val_loss".
        mode: "min", "max", or "auto": by the metric.
        min_delta: the least change that counts as better.

    Attributes:
        monitor_op: `operator.lt` or `operator.gt`; None until it is known. Where less is better, `min_delta` turns negative.

    >>> watch = MonitorCallback("val_accuracy")
    >>> watch.is_better(0.9, than=0.8)
    True
    """

    def __init__(self, monitor: str = "val_loss", mode: str = "auto", min_delta: float = 0.0) -> None:
        if mode not in ("auto", "min", "max"):
            raise ValueError(
                f"{type(self).__name__}: `mode` must be 'auto', 'min' or 'max'.{did_you_mean(mode, ('auto', 'min', 'max'))} "
                f"Received: {mode!r}"
            )
        self.monitor, self.mode, self.min_delta = monitor, mode, abs(min_delta)
        self.monitor_op: Callable[[float, float], bool] | None = None

    _warned = False

    def _find_direction(self) -> Callable[[float, float], bool]:
        if self.monitor_op is None:
            up = self.mode == "max" or (self.mode == "auto" and self._grows())
            self.monitor_op = operator.gt if up else operator.lt
            self.min_delta = self.min_delta if up else -self.min_delta
        return self.monitor_op

    def _grows(self) -> bool:
        name = self.monitor.removeprefix("val_")
        metric = next((m for m in _metrics(self.model) if m.name == name or name.endswith(f"_{m.name}")), None)
        direction = getattr(metric, "_direction", None)
        if direction in ("up", "down"):
            return direction == "up"
        kind = type(metric).__name__.lower() if metric is not None else ""
        own = getattr(getattr(metric, "_fn", None), "__name__", "")
        found = next((g for g in map(grows, (kind, own, name)) if g is not None), None)
        if found is not None:
            return found
        raise ValueError(
            f"{type(self).__name__} watches {self.monitor!r}, and nothing says whether more of it is better. Pass `mode='max'` "
            "where it should grow, `mode='min'` where it should fall."
        )

    def get_monitor_value(self, logs: Any) -> float | None:
        """Returns the watched result, or None where there is none, the first time with a warning."""
        value = (logs or {}).get(self.monitor)
        if value is None and not self._warned:
            self._warned = True
            known = list(logs or ())
            unvalidated = self.monitor.startswith("val_") and not any(k.startswith("val_") for k in known)
            hint = " Is validation data missing?" if unvalidated else ""
            warnings.warn(
                f"{type(self).__name__} watches {self.monitor!r}, which is not among the results: {', '.join(known)}."
                f"{did_you_mean(self.monitor, known)}{hint}",
                stacklevel=2,
            )
        return value

    def is_better(self, value: float, than: float | None) -> bool:
        """Returns whether a result is better than another by more than `min_delta`; any number is better than None."""
        better = self._find_direction()
        return not math.isnan(value) if than is None else bool(better(value - self.min_delta, than))


def _metrics(model: Any) -> list[Any]:
    """The single metrics of a model, those it was compiled with included."""
    found: list[Any] = []
    for metric in getattr(model, "metrics", ()):
        found += getattr(metric, "metrics", None) or [metric]
    return found


@public("keras.callbacks.EarlyStopping")
class EarlyStopping(MonitorCallback):
    """Stops training when a result has stopped getting better.

    Args:
        monitor: the result's name.
        min_delta: the least change that counts as better.
        patience: so many epochs without a better result are waited for.
        verbose: 1 prints a line when training is stopped.
        mode: "min", "max" or "auto".
        baseline: what the result must be better than.
        restore_best_weights: whether the weights of the best epoch are put back when training ends. A copy of all weights is kept
            on their device.
        start_from_epoch: epochs before this one are not watched.

    >>> EarlyStopping(patience=3).patience
    3
    """

    state_names = ("wait", "stopped_epoch", "best_epoch", "best", "best_weights")

    def __init__(
        self, monitor: str = "val_loss", min_delta: float = 0, patience: int = 0, verbose: int = 0, mode: str = "auto",
        baseline: float | None = None, restore_best_weights: bool = False, start_from_epoch: int = 0,
    ) -> None:  # fmt: skip
        super().__init__(monitor, mode, min_delta)
        self.patience, self.verbose, self.baseline = patience, verbose, baseline
        self.restore_best_weights, self.start_from_epoch = restore_best_weights, start_from_epoch
        self._begin()

    def _begin(self) -> None:
        self.wait = self.stopped_epoch = self.best_epoch = 0
        self.best: float | None = None
        self.best_weights: list[torch.Tensor] | None = None

    def on_train_begin(self, logs: Any = None) -> None:
        self._begin()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        value = self.get_monitor_value(logs)
        if value is None:
            return
        self._find_direction()
        if epoch < self.start_from_epoch:
            return
        if self.restore_best_weights and self.best_weights is None:
            self._keep(epoch)
        self.wait += 1
        if self.is_better(value, self.best):
            self.best, self.best_epoch = value, epoch
            if self.restore_best_weights:
                self._keep(epoch)
            if self.baseline is None or self.is_better(value, self.baseline):
                self.wait = 0
            return
        if self.wait >= self.patience and epoch > 0:
            self.stopped_epoch = epoch
            self.model.stop_training = True

    def _keep(self, epoch: int) -> None:
        self.best_weights = [w.detach().clone() for w in self.model.weights]
        self.best_epoch = epoch

    def on_train_end(self, logs: Any = None) -> None:
        if self.stopped_epoch > 0 and self.verbose > 0:
            print(f"Epoch {self.stopped_epoch + 1}: early stopping", flush=True)
        if self.restore_best_weights and self.best_weights is not None:
            if self.verbose > 0:
                print(f"Restoring model weights from the end of the best epoch: {self.best_epoch + 1}.", flush=True)
            with torch.no_grad():
                for weight, best in zip(self.model.weights, self.best_weights, strict=True):
                    weight.copy_(best)


@public("keras.callbacks.ReduceLROnPlateau")
class ReduceLROnPlateau(MonitorCallback):
    """Lowers the learning rate when a result has stopped getting better.

    Args:
        monitor: the result's name.
        factor: what the learning rate is multiplied by.
        patience: so many epochs without a better result are waited for.
        verbose: 1 prints a line at each change.
        mode: "min", "max" or "auto".
        min_delta: the least change that counts as better.
        cooldown: epochs after a change in which nothing is counted.
        min_lr: the learning rate's lower limit.

    >>> ReduceLROnPlateau(factor=0.5).factor
    0.5
    """

    state_names = ("best", "wait", "cooldown_counter")

    def __init__(
        self, monitor: str = "val_loss", factor: float = 0.1, patience: int = 10, verbose: int = 0, mode: str = "auto",
        min_delta: float = 0.0001, cooldown: int = 0, min_lr: float = 0.0, **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(monitor, mode, min_delta)
        if factor >= 1.0:
            raise ValueError(f"ReduceLROnPlateau: `factor` must be less than 1. Received: factor={factor}")
        self.factor, self.patience, self.verbose, self.cooldown, self.min_lr = factor, patience, verbose, cooldown, min_lr
        self._begin()

    def _begin(self) -> None:
        self.best: float | None = None
        self.wait = self.cooldown_counter = 0

    def in_cooldown(self) -> bool:
        """Returns whether the last change is too recent."""
        return self.cooldown_counter > 0

    def on_train_begin(self, logs: Any = None) -> None:
        self._begin()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if logs is not None:
            logs["learning_rate"] = learning_rate(self.model.optimizer)
        value = self.get_monitor_value(logs)
        if value is None:
            return
        if self.in_cooldown():
            self.cooldown_counter -= 1
            self.wait = 0
        if self.is_better(value, self.best):
            self.best, self.wait = value, 0
        elif not self.in_cooldown():
            self.wait += 1
            if self.wait >= self.patience:
                self._reduce(epoch)

    def _reduce(self, epoch: int) -> None:
        for optimizer in parts_of(self.model.optimizer):
            old = learning_rate(optimizer)
            if old > self.min_lr:
                new = max(old * self.factor, self.min_lr)
                set_learning_rate(optimizer, new)
                if self.verbose > 0:
                    print(f"Epoch {epoch + 1}: ReduceLROnPlateau reducing learning rate to {new}.", flush=True)
                self.cooldown_counter, self.wait = self.cooldown, 0


def parts_of(optimizer: Any) -> list[Any]:
    """Returns the optimizers that have a learning rate: those of a MultiOptimizer, or the one given."""
    return getattr(optimizer, "optimizers", None) or [optimizer]


def learning_rate(optimizer: Any) -> float:
    """Returns the learning rate of an optimizer, ours or torch's; of several, the first one's."""
    optimizer = parts_of(optimizer)[0]
    return float(optimizer.param_groups[0]["lr"] if isinstance(optimizer, torch.optim.Optimizer) else optimizer.learning_rate)


def set_learning_rate(optimizer: Any, value: float) -> None:
    """Sets the learning rate of an optimizer, ours or torch's."""
    if isinstance(optimizer, torch.optim.Optimizer):
        for group in optimizer.param_groups:
            group["lr"] = value
    else:
        optimizer.learning_rate = value
