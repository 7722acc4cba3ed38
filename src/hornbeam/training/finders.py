"""Finders of a learning rate and of a batch size: short trials, after which the model is exactly what it was."""

from __future__ import annotations

import gc
import math
import os
import statistics
import time
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch

from hornbeam.graph import tree
from hornbeam.inspect.cost import cost_of
from hornbeam.inspect.history import Chart, curve_chart
from hornbeam.inspect.units import bytes_of, short_memory
from hornbeam.training import data, preflight
from hornbeam.training.arrays import as_nest
from hornbeam.training.callbacks.callback import Callback
from hornbeam.training.callbacks.monitor import set_learning_rate
from hornbeam.training.kept import kept, leaves_of
from hornbeam.training.prepare import device_of

_SMOOTH = 0.9  # how much of the running loss stays at each step
_TIMED = 5  # steps of each batch size that are timed


@dataclass
class LearningRateCurve:
    """The loss at growing learning rates. In a notebook it shows itself.

    Attributes:
        rates: the learning rates tried, one for each step.
        losses: the loss of each step.
        smoothed: the running mean of the losses.
        suggestion: the rate at which the loss fell fastest; None where it never fell.
    """

    rates: list[float]
    losses: list[float]
    smoothed: list[float] = field(repr=False)
    suggestion: float | None

    def plot(self, to_file: Any = None, dpi: float = 200) -> Chart:
        """Draws the losses over the learning rates, the suggestion ringed.

        Args:
            to_file: where to write the picture, as .png, .svg, .pdf or .html; None writes nothing.
            dpi: resolution of the PNG.
        """
        at = None if self.suggestion is None else (self.suggestion, self.smoothed[self.rates.index(self.suggestion)])
        told = "the loss never fell" if at is None else f"suggestion {self.suggestion:.2e}"
        chart = curve_chart("loss", list(zip(self.rates, self.smoothed, strict=True)), at, "Learning rates", told, dpi)
        if to_file is not None:
            chart.save(to_file)
        return chart

    def _repr_svg_(self) -> str:
        return self.plot().svg

    def __repr__(self) -> str:
        told = "no suggestion: the loss never fell" if self.suggestion is None else f"suggestion {self.suggestion:.2e}"
        return f"<LearningRateCurve of {len(self.rates)} rates: {told}>"


class _Sweep(Callback):
    """Raises the learning rate from step to step, and stops where the loss has clearly grown."""

    def __init__(self, start: float, end: float, steps: int, stop_at: float) -> None:
        self.start, self.growth, self.steps, self.stop_at = start, (end / start) ** (1 / max(steps - 1, 1)), steps, stop_at
        self.rates: list[float] = []
        self.losses: list[float] = []
        self.smoothed: list[float] = []
        self.mean = 0.0

    def on_train_begin(self, logs: Any = None) -> None:
        for optimizer in leaves_of(self.model.optimizer):
            if getattr(optimizer, "_schedule", None) is not None:
                optimizer._schedule = None  # a schedule's place is taken by numbers

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        rate = self.start * self.growth ** len(self.rates)
        for optimizer in leaves_of(self.model.optimizer):
            set_learning_rate(optimizer, rate)
        self.rates.append(rate)
        self.model.reset_metrics()  # so that the results after the step are the batch's own

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        loss = float(logs["loss"])
        self.losses.append(loss)
        self.mean = _SMOOTH * self.mean + (1 - _SMOOTH) * loss
        self.smoothed.append(self.mean / (1 - _SMOOTH ** len(self.losses)))
        grown = not math.isfinite(loss) or self.smoothed[-1] > self.stop_at * abs(min(self.smoothed))
        if len(self.losses) == self.steps or (grown and len(self.losses) > 1):
            self.model.stop_training = True


def find_learning_rate(
    model: Any, x: Any = None, y: Any = None, batch_size: int | None = None, start: float = 1e-6, end: float = 10.0,
    steps: int = 100, stop_at: float = 4.0, **fit: Any,
) -> LearningRateCurve:  # fmt: skip
    """Tries learning rates from small to large, one for each training step, and suggests one; the model stays what it was.

    Weights, buffers, optimizer, metrics, history and random streams are put back: a `fit` afterwards gives the same bits as one
    without the search. Trials run eagerly. A generator given as data is used up by them.

    Args:
        model: a compiled model.
        x, y, batch_size: data, as for `fit`.
        start, end: the smallest and the largest learning rate; they grow by a factor.
        steps: how many are tried.
        stop_at: the search ends where the running loss is this many times the least one.
        **fit: further arguments for `fit`, such as `sample_weight` or `class_weight`.

    Returns:
        a curve with `suggestion`, `rates`, `losses` and `plot()`. Method: L. Smith, "Cyclical Learning Rates for Training Neural
        Networks", 2017; the suggestion is where the loss falls fastest over the logarithm of the rate.

    >>> import hornbeam as keras
    >>> model = keras.Sequential([keras.layers.Dense(1)])
    >>> model.compile("sgd", "mse")
    >>> x = torch.linspace(-1, 1, 64)[:, None]
    >>> curve = find_learning_rate(model, x, 3 * x, batch_size=16, steps=50)
    >>> 1e-3 < curve.suggestion < 1
    True
    """
    preflight.check_compiled(model, "find_learning_rate")
    if not 0 < start < end:
        raise ValueError(f"find_learning_rate: `start` must be above 0 and below `end`. Received: start={start!r}, end={end!r}")
    if not isinstance(steps, int) or steps < 10:
        raise ValueError(f"find_learning_rate: `steps` must be an integer of at least 10. Received: {steps!r}")
    sweep = _Sweep(start, end, steps, stop_at)
    with kept(model) as keeper:
        model.fit(x, y, batch_size, epochs=steps, verbose=0, callbacks=[keeper, sweep], **fit)
    rates = sweep.rates[: len(sweep.losses)]
    return LearningRateCurve(rates, sweep.losses, sweep.smoothed, _steepest(rates, sweep.losses))


def _steepest(rates: list[float], losses: list[float]) -> float | None:
    """The rate at which the loss falls fastest: the steepest line through eleven neighbours, before the least loss."""
    values = [v for v in losses if math.isfinite(v)]
    reach = min(5, len(values) // 4)
    means = [sum(part := values[max(i - reach, 0) : i + reach + 1]) / len(part) for i in range(len(values))]
    lowest = min(range(len(means)), key=means.__getitem__, default=0)
    slopes = {i: _slope(values[i - reach : i + reach + 1]) for i in range(reach, min(lowest + 1, len(values) - reach))}
    best = min(slopes, key=slopes.__getitem__, default=None)
    return rates[best] if best is not None and slopes[best] < 0 else None


def _slope(values: list[float]) -> float:
    middle = (len(values) - 1) / 2
    weight = sum((i - middle) ** 2 for i in range(len(values))) or 1.0
    return sum((i - middle) * v for i, v in enumerate(values)) / weight


@dataclass
class BatchSizes:
    """What batches of growing sizes cost.

    Attributes:
        suggestion: the smallest size that is within a tenth of the fastest, counted in samples per second.
        largest: the largest size that was tried and fits.
        trials: (batch size, samples per second, bytes or None) of each that fits.
        stopped: why no larger size was tried.
    """

    suggestion: int
    largest: int
    trials: list[tuple[int, float, int | None]]
    stopped: str

    def __str__(self) -> str:
        lines = [f"{'batch':>8} {'samples/s':>12} {'memory':>10}"]
        for size, speed, memory in self.trials:
            mark = " <- suggestion" if size == self.suggestion else ""
            lines.append(f"{size:>8} {speed:>12,.0f} {'' if memory is None else short_memory(memory):>10}{mark}")
        return "\n".join([*lines, f"Larger batches were not tried: {self.stopped}."])


class _Timer(Callback):
    """Times each step after the first one; reading the loss waits for the device."""

    def on_train_begin(self, logs: Any = None) -> None:
        self.times: list[float] = []

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        float(logs["loss"])
        self.times.append(time.perf_counter())

    @property
    def seconds(self) -> float:
        """The median of a step's time."""
        return statistics.median(b - a for a, b in pairwise(self.times))


def find_batch_size(
    model: Any, x: Any, y: Any = None, start: int = 8, largest: int | None = None, memory: int | float | str | None = None,
    sample_weight: Any = None, **fit: Any,
) -> BatchSizes:  # fmt: skip
    """Tries batch sizes, doubling from `start`, and suggests the smallest that trains fastest; the model stays what it was.

    The search ends at the number of rows, at `largest`, where the memory of a step (predicted without running it) is above the
    limit, or where the device has no more memory.

    Args:
        model: a compiled model.
        x, y, sample_weight: arrays or tensors, or nests of them.
        start: the first size.
        largest: the last one; the number of rows unless given.
        memory: what a step may take, in bytes or as "8 GB"; unless given, nine tenths of the GPU's free memory, or half of
            the computer's.
        **fit: further arguments for `fit`, such as `class_weight`.

    Returns:
        sizes with `suggestion`, `largest` and `trials`; printing them shows the table.

    >>> import hornbeam as keras
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> model.compile("sgd", "mse")
    >>> found = find_batch_size(model, torch.ones(64, 4), torch.ones(64, 1))
    >>> [size for size, speed, memory in found.trials]
    [8, 16, 32, 64]
    """
    preflight.check_compiled(model, "find_batch_size")
    if not data.is_in_memory(x):
        raise ValueError("find_batch_size needs arrays or tensors in memory; other sources make their batches themselves.")
    x, y, sample_weight = (as_nest(part, name) for part, name in ((x, "x"), (y, "y"), (sample_weight, "sample_weight")))
    rows = len(tree.leaves(x)[0])
    largest = min(largest or rows, rows)
    if not isinstance(start, int) or not 0 < start <= largest:
        raise ValueError(f"find_batch_size: `start` must be an integer from 1 to {largest}. Received: {start!r}")
    limit = bytes_of(memory) if memory is not None else _free_memory(device_of(model))
    trials: list[tuple[int, float, int | None]] = []
    size, stopped = start, ""
    with kept(model) as keeper:
        while not stopped:
            needed = _predicted(model, size)
            if trials and limit is not None and needed is not None and needed > limit:
                stopped = f"{size} take {short_memory(needed)}, the limit is {short_memory(int(limit))}"
                break
            speed = _speed(model, keeper, (x, y, sample_weight), size, rows, fit)
            if speed is None:
                stopped = f"{size} do not fit into the device's memory"
                break
            trials.append((size, speed, _predicted(model, size)))
            if size == largest:
                stopped = f"{size} is the largest size" if largest < rows else f"there are {rows} rows"
            size = min(2 * size, largest)
    if not trials:
        raise MemoryError(f"find_batch_size: not even batches of {start} fit into the device's memory.")
    fastest = max(speed for _, speed, _ in trials)
    return BatchSizes(next(s for s, speed, _ in trials if speed >= 0.9 * fastest), trials[-1][0], trials, stopped)


def _speed(model: Any, keeper: Callback, given: tuple[Any, Any, Any], size: int, rows: int, fit: dict[str, Any]) -> float | None:
    """Samples per second of training with a batch size; None where memory does not suffice."""
    take = torch.arange(size * (1 + _TIMED)) % rows
    cut = lambda t: t if t is None else t[take]  # noqa: E731
    timer = _Timer()
    try:
        x, y, sample_weight = (tree.map_leaves(cut, part) for part in given)
        model.fit(
            x, y, size, epochs=1, verbose=0, callbacks=[keeper, timer], shuffle=False, sample_weight=sample_weight, **fit
        )
    except (RuntimeError, MemoryError) as error:
        if not _says_memory(error):
            raise
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return None
    return size / max(timer.seconds, 1e-9)


def _says_memory(error: Exception) -> bool:
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "not enough memory" in str(error)


def _predicted(model: Any, size: int) -> int | None:
    """The peak memory of a step, where the model can be costed."""
    try:
        return cost_of(model, batch_size=size).peak_bytes
    except Exception:  # not built yet, or Python that asks for values
        return None


def _free_memory(device: torch.device | None) -> float | None:
    if device is not None and device.type == "cuda":
        return 0.9 * torch.cuda.mem_get_info(device)[0]
    try:
        return 0.5 * os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # Windows and others
        return None


lr_find = find_learning_rate  # what fastai and Lightning call it
scale_batch_size = find_batch_size  # what Lightning calls it
