"""The loops: fit, evaluate and predict, over data or over one batch. They are plain functions that Model takes as its methods."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from functools import partial
from numbers import Integral
from typing import Any

import numpy as np
import torch

from hornbeam.core.settings import limited_steps, max_epochs
from hornbeam.core.weights import to_numpy
from hornbeam.graph import tree
from hornbeam.training import data, functions, preflight, step
from hornbeam.training.arguments import check_frequency, refuse, strict
from hornbeam.training.callbacks import CallbackList, History, ProgbarLogger
from hornbeam.training.compile import named_in_order
from hornbeam.training.jit import several, training_stepper
from hornbeam.training.jit_choice import wants_compiling
from hornbeam.training.memory import KeptMemory
from hornbeam.training.nonfinite import Watch
from hornbeam.training.on_batch import predict_on_batch
from hornbeam.training.prepare import divide, place, prepare
from hornbeam.training.progress import Progress, clock
from hornbeam.training.randomness import LoopStream, stream_of
from hornbeam.training.results import LazyLogs, read_results
from hornbeam.training.state import Run, resume


@strict
def fit(
    self: Any, x: Any = None, y: Any = None, batch_size: int | None = None, epochs: int = 1, verbose: Any = "auto",
    callbacks: Any = None, validation_split: float = 0.0, validation_data: Any = None, shuffle: Any = True,
    class_weight: Any = None, sample_weight: Any = None, initial_epoch: int = 0, steps_per_epoch: int | None = None,
    validation_steps: int | None = None,
    validation_batch_size: int | None = None, validation_freq: Any = 1, **others: Any,
) -> History:  # fmt: skip
    """Trains the model on data, for a number of epochs.

    Args:
        x: arrays, tensors, nests of them; or a DataLoader, Dataset, generator or other iterable of batches.
        y, sample_weight: targets and weights of the samples, where x lies in memory.
        batch_size: rows of a batch; 32 unless given.
        epochs: the epoch to stop before, counted from 0; begin at `initial_epoch`.
        verbose: 0 shows nothing, 1 a bar, 2 a line an epoch; "auto" a bar in a terminal and lines elsewhere.
        callbacks: callbacks.
        validation_split: the part of the samples, at the end, that is kept for validation.
        validation_data: (x, y), (x, y, sample_weight), or an iterable of batches.
        shuffle: whether rows come in a new order every epoch; "batch" keeps the rows of a batch together.
        class_weight: weight by class number.
        steps_per_epoch: batches of an epoch; all there are unless given.
        validation_steps, validation_batch_size: the same for validation.
        validation_freq: validate every so many epochs, or at the end of the epochs listed.

    Returns:
        a History, whose `history` holds the results of each epoch by name.
    """
    refuse(fit, others)
    preflight.check_compiled(self, "fit")
    preflight.check_counts(
        batch_size=batch_size, epochs=epochs or None, steps_per_epoch=steps_per_epoch, validation_steps=validation_steps
    )
    check_frequency(validation_freq)
    x, y, sample_weight, held_out = divide(
        x, y, sample_weight, validation_split, validation_data, validation_batch_size or batch_size
    )
    source = data.make_source(x, y, sample_weight, batch_size, class_weight, shuffle)
    preflight.check_steps(source, steps_per_epoch)
    epochs, steps_per_epoch = min(epochs, max_epochs() or epochs), limited_steps(steps_per_epoch, source.steps)
    prepare(self, source, held_out)
    steps = steps_per_epoch or source.steps
    hooks = CallbackList(
        callbacks, add_history=True, add_progbar=verbose != 0, model=self, verbose=verbose, epochs=epochs, steps=steps,
        batch_size=getattr(source, "batch_size", None), shuffle=bool(shuffle),
    )  # fmt: skip
    display, each, stream = _display(hooks), hooks.each["train"], stream_of(self)
    run = self.__dict__["_run"] = Run(initial_epoch, source, hooks, stream, source.head())
    logs: Any = None
    self.stop_training = False
    try:
        with source, held_out or nullcontext(), KeptMemory(), Watch(self) as watch:
            hooks.on_train_begin()
            if not resume(self, run):
                run.compiled = wants_compiling(self, run.head, steps and steps * (epochs - initial_epoch), verbose)
            passes = data.epochs(source, data.orders(stream, source, shuffle), steps_per_epoch, stream.pause, run.step)
            for epoch, batches in zip(range(run.epoch, epochs), passes, strict=False):
                run.epoch = epoch
                if run.begun:
                    display.begin(epoch, epochs, steps)
                else:
                    self.reset_metrics()
                    run.begun = True
                    hooks.on_epoch_begin(epoch)
                logs = _train(self, run, batches, display, each, watch)
                done = run.step
                if done:
                    logs = read_results(self, logs)
                    if held_out is not None and _is_due(validation_freq, epoch):
                        run.validating = True
                        found = _evaluate(self, held_out, limited_steps(validation_steps, held_out.steps), hooks, Progress())
                        run.validating = False
                        logs = dict(sorted({**logs, **{f"val_{k}": v for k, v in found.items()}}.items()))
                    display.end(done, logs)
                run.epoch, run.step, run.begun = epoch + 1, 0, False
                if done:
                    hooks.on_epoch_end(epoch, logs)
                if self.stop_training:
                    break
                if not done or (source.once and done < (steps_per_epoch or 0)):
                    warnings.warn(f"The data ended after {done} batches of epoch {epoch + 1}; training stops.", stacklevel=2)
                    break
            if self._plan is not None and hasattr(self.optimizer, "finalize_variable_values"):
                self.optimizer.finalize_variable_values(self._plan.weights)
            hooks.on_train_end(logs)
    finally:
        display.close()
        self.__dict__.pop("_run", None)
        for weight in self._plan.weights if self._plan is not None else ():
            weight.grad = None
    return hooks.find(History)


def _train(self: Any, run: Run, batches: Any, display: Progress, each: list[Any], watch: Watch) -> Any:
    """The steps of one epoch; returns what the last one returned."""
    self.__dict__["_plan"] = step.Plan(self)
    at_once, stream, done, logs = self.steps_per_execution, run.stream, run.step, None
    advance = watch.begin(run.epoch, training_stepper(self, run.head, run.compiled), done)
    if at_once > 1:
        batches, advance = grouped(batches, at_once), several(advance)
    with stream:
        for batch in batches:
            if each:
                run.ahead = 1 if at_once == 1 else len(batch)
                _call(each, "on_train_batch_begin", stream, done, {})
                run.ahead = 0
            logs = advance(batch)
            if watch.active:
                watch.saw(batch)
            done += 1 if at_once == 1 else len(batch)
            run.step = done
            if each:
                _call(each, "on_train_batch_end", stream, done - 1, LazyLogs(partial(read_results, self, logs)))
                if self.stop_training:
                    break
            if clock() >= display.due:
                display.show(done, partial(read_results, self, logs))
    watch.look()
    return logs


@strict
def evaluate(
    self: Any, x: Any = None, y: Any = None, batch_size: int | None = None, verbose: Any = "auto", sample_weight: Any = None,
    steps: int | None = None, callbacks: Any = None, return_dict: bool = False, **others: Any,
) -> Any:  # fmt: skip
    """Returns the loss and the metrics on data: a number, a list in the order of the metrics, or a dictionary.

    Args:
        x, y, sample_weight: data, as for `fit`.
        batch_size: rows of a batch; 32 unless given.
        verbose: as for `fit`.
        steps: batches to take; all there are unless given.
        callbacks: callbacks.
        return_dict: whether the results come by name.
    """
    refuse(evaluate, others)
    preflight.check_compiled(self, "evaluate")
    preflight.check_counts(batch_size=batch_size, steps=steps)
    source = data.make_source(x, y, sample_weight, batch_size)
    preflight.check_steps(source, steps, "steps")
    steps = limited_steps(steps, source.steps)
    prepare(self, source, None, training=False)
    hooks = CallbackList(callbacks, add_progbar=verbose != 0, model=self, verbose=verbose, epochs=1, steps=steps or source.steps)
    with source:
        logs = _evaluate(self, source, steps, hooks, _display(hooks))
    return logs if return_dict else named_in_order(self, logs)


def _evaluate(self: Any, source: Any, steps: int | None, hooks: CallbackList, display: Progress) -> dict[str, Any]:
    """One pass of evaluation; the metrics begin anew."""
    self.reset_metrics()
    self.stop_evaluating = False
    hooks.on_test_begin()
    display.begin(0, 0, steps or source.steps)
    run, each = step.stepper(self, "test_step", step.testing_step), hooks.each["test"]
    logs, done = None, 0
    with torch.no_grad():
        for batch in next(data.epochs(source, None, steps, nullcontext)):
            for hook in each:
                hook.on_test_batch_begin(done, {})
            logs = run(batch)
            done += 1
            for hook in each:
                hook.on_test_batch_end(done - 1, LazyLogs(partial(read_results, self, logs)))
            if clock() >= display.due:
                display.show(done, partial(read_results, self, logs))
            if self.stop_evaluating:
                break
    logs = read_results(self, logs)
    display.end(done, logs)
    hooks.on_test_end(logs)
    return logs


@strict
def predict(
    self: Any, x: Any, batch_size: int | None = None, verbose: Any = "auto", steps: int | None = None, callbacks: Any = None,
    **others: Any,
) -> Any:  # fmt: skip
    """Returns the model's outputs for data, as NumPy arrays in the outputs' nest.

    Args:
        x: data, as for `fit`.
        batch_size: rows of a batch; 32 unless given.
        verbose: as for `fit`; "auto" shows nothing in the first 0.1 seconds.
        steps: batches to take; all there are unless given.
        callbacks: callbacks.
    """
    refuse(predict, others)
    small = isinstance(x, (np.ndarray, torch.Tensor)) and x.ndim and 0 < len(x) <= (batch_size or 32)
    as_made = type(self).make_predict_function is functions.make_predict_function
    if small and as_made and steps is None and callbacks is None and (verbose == "auto" or not verbose):
        return predict_on_batch(self, x)
    preflight.check_counts(batch_size=batch_size, steps=steps)
    source = data.make_source(x, None, None, batch_size)
    preflight.check_steps(source, steps, "steps")
    steps = limited_steps(steps, source.steps)
    place(self, source)
    hooks = CallbackList(
        callbacks, add_progbar=verbose not in (0, False), model=self, verbose=verbose, epochs=1, steps=steps or source.steps
    )
    display, each = _display(hooks), hooks.each["predict"]
    run = functions.own_function(self, "predict") or self.predict_step
    found: list[Any] = []
    self.stop_predicting = False
    hooks.on_predict_begin()
    if verbose != "auto":
        display.begin(0, 0, steps or source.steps)
    begun = clock()
    with source, torch.no_grad():
        for batch in next(data.epochs(source, None, steps, nullcontext)):
            for hook in each:
                hook.on_predict_batch_begin(len(found), {})
            outputs = tree.map_leaves(to_numpy, run(batch))
            found.append(outputs)
            for hook in each:
                hook.on_predict_batch_end(len(found) - 1, {"outputs": outputs})
            if verbose == "auto" and clock() - begun > 0.1 and display.due == float("inf"):
                display.begin(0, 0, steps or source.steps)
                verbose = 1
            if clock() >= display.due:
                display.show(len(found), dict)
            if self.stop_predicting:
                break
    if verbose != "auto":
        display.end(len(found), {})
    hooks.on_predict_end()
    flat = [np.concatenate(parts) for parts in zip(*map(tree.leaves, found), strict=True)]
    return tree.pack(found[0], flat)


# -- around the loops


def grouped(batches: Iterable[Any], count: int) -> Iterator[list[Any]]:
    """Yields batches in lists of `count`, the last one shorter where they end.

    >>> list(grouped("abcde", 2))
    [['a', 'b'], ['c', 'd'], ['e']]
    """
    batches = iter(batches)
    while group := list(itertools.islice(batches, count)):
        yield group


def _call(hooks: list[Any], name: str, stream: LoopStream, *args: Any) -> None:
    with stream.pause():
        for hook in hooks:
            getattr(hook, name)(*args)


def _display(hooks: CallbackList) -> Progress:
    logger = hooks.find(ProgbarLogger)
    return logger.display if logger is not None and logger.display is not None else Progress()


def _is_due(every: Any, epoch: int) -> bool:
    return (epoch + 1) % every == 0 if isinstance(every, Integral) else (epoch + 1) in every
