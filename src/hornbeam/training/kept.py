"""What a trial run must leave as it was: everything that training changes, taken once the model is built and put back after."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from hornbeam.core.random import seed_generators
from hornbeam.training.callbacks.callback import Callback
from hornbeam.training.randomness import stream_of
from hornbeam.training.state import metrics_of, named_tensors
from hornbeam.training.streams import UserStreams

_ATTRIBUTES = ("history", "stop_training", "run_eagerly", "on_nonfinite", "debug_nan", "steps_per_execution", "_resumed", "_plan")


class Keeper(Callback):
    """Takes the state of a model at the beginning of the first `fit` that it is given to, when the model is built.

    Put back are weights, buffers and gradients, the optimizer with its slots and counters, metrics, random streams (the loop's,
    the user's, those of layers) and the place of training among them.

    Args:
        model: the model; its attributes are taken at once.
    """

    def __init__(self, model: Any) -> None:
        self.set_model(model)
        self.attributes = {k: model.__dict__[k] for k in _ATTRIBUTES if k in model.__dict__}
        self.taken = False

    def set_params(self, params: dict[str, Any]) -> None:
        """Needs none."""

    def on_train_begin(self, logs: Any = None) -> None:
        if not self.taken:
            self._take()

    def _take(self) -> None:
        model, self.taken = self.model, True
        self.tensors = [(t, t.detach().clone()) for _, t in named_tensors(model)]
        self.grads = [(p, p.grad) for p in model.parameters()]
        self.learning = [(p, p.requires_grad) for p in model.parameters()]
        self.seeds = [(s._stream, s._stream.get_state()) for s in seed_generators(model).values()]
        self.metrics = [(m, m.state_dict()) for m in metrics_of(model)]
        self.stream = stream_of(model).state_dict()
        self.user = UserStreams()
        self.optimizer = _optimizer_state(model)

    def put_back(self) -> None:
        """Makes the model what it was."""
        model = self.model
        for name in _ATTRIBUTES:
            model.__dict__.pop(name, None)
        model.__dict__.update(self.attributes)
        if not self.taken:
            return
        with torch.no_grad():
            for tensor, value in self.tensors:
                tensor.copy_(value)
        for weight, grad in self.grads:
            weight.grad = grad
        for weight, learns in self.learning:
            weight.requires_grad_(learns)
        for generator, state in self.seeds:
            generator.set_state(state)
        known = {id(metric) for metric, _ in self.metrics}
        for metric in metrics_of(model):
            if id(metric) not in known:
                metric.reset_state()
        for metric, kept in self.metrics:
            metric.load_state_dict(kept)
        stream_of(model).load_state_dict(self.stream)
        self.user.put_back()
        self.optimizer()


def _optimizer_state(model: Any) -> Any:
    """Returns the function that puts an optimizer back: by its state, or where it had none yet, all that it was."""
    optimizer = model.optimizer
    schedules = [(o, o._schedule) for o in leaves_of(optimizer) if hasattr(o, "_schedule")]
    whole = None
    if getattr(optimizer, "built", True):
        state = copy.deepcopy(optimizer.state_dict())
    else:
        shared = {id(t): t for _, t in named_tensors(model)}
        whole = [(o, copy.deepcopy(vars(o), {**shared, id(o): o})) for o in _all_of(optimizer)]

    def put_back() -> None:
        if whole is not None:
            for one, kept in whole:
                vars(one).clear()
                vars(one).update(kept)
            return
        for one, schedule in schedules:
            one._schedule = schedule
        optimizer.load_state_dict(state)

    return put_back


def _all_of(optimizer: Any) -> list[Any]:
    inner = list(getattr(optimizer, "optimizers", ()))
    if hasattr(optimizer, "inner_optimizer"):
        inner.append(optimizer.inner_optimizer)
    return [*(o for one in inner for o in _all_of(one)), optimizer]


def leaves_of(optimizer: Any) -> list[Any]:
    """Returns the optimizers that make steps: those inside of wrappers, or the one given."""
    return [o for o in _all_of(optimizer) if not hasattr(o, "inner_optimizer") and not getattr(o, "optimizers", None)]


@contextmanager
def kept(model: Any) -> Iterator[Keeper]:
    """Runs trials with the model and puts everything back, also after an error. Trials run eagerly and without warnings."""
    keeper = Keeper(model)
    try:
        model.__dict__.pop("_resumed", None)
        model.__dict__.update(run_eagerly=True, steps_per_execution=1, on_nonfinite="ignore", debug_nan=False)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield keeper
    finally:
        keeper.put_back()
