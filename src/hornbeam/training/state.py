"""The whole state of a training run as one object, taken and put back between any two steps.

A run that goes on from a state makes bit for bit the steps that the undisturbed run makes.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from hornbeam.core.random import seed_generators
from hornbeam.graph import tree
from hornbeam.optimizers import Optimizer
from hornbeam.training.jit import make_state
from hornbeam.training.outputs import CompileMetrics
from hornbeam.training.streams import UserStreams


@dataclass
class Run:
    """Where a call of `fit` stands; the model holds it while it trains.

    Attributes:
        epoch: the epoch's number, from 0.
        step: the steps done in this epoch.
        begun: whether callbacks were told that this epoch begins.
        ahead: batches that were taken from the data and not yet trained on.
        validating: whether validation runs.
        compiled: whether steps are compiled: the verdict of `jit_compile="auto"`.
        source, hooks, stream: the run's data, callbacks and random stream.
        head: the first batch.
    """

    epoch: int
    source: Any
    hooks: Any
    stream: Any
    head: Any
    compiled: bool = False
    step: int = 0
    begun: bool = False
    ahead: int = 0
    validating: bool = False


@dataclass
class TrainingState:
    """What a run knows between two steps; `get_training_state` takes it, `set_training_state` puts it back.

    It can be pickled and copied; nothing in it is shared with the model.

    Attributes:
        epoch, step: the epoch's number and the steps done in it, from 0.
        weights: tensors of the model by name, those that do not learn too.
        rest: optimizer, metrics, callbacks, random streams, place in the data, modes of the layers.
    """

    epoch: int
    step: int
    weights: dict[str, torch.Tensor]
    rest: dict[str, Any] = field(repr=False)

    def __repr__(self) -> str:
        return f"<TrainingState: epoch {self.epoch + 1}, {self.step} steps done, {len(self.weights)} tensors>"


def get_training_state(self: Any) -> TrainingState:
    """Returns the state of the run, to be called between two steps of `fit`: from a callback.

    >>> import hornbeam as keras
    >>> model = keras.Sequential([keras.layers.Dense(1)])
    >>> model.compile("adam", "mse")
    >>> states = []
    >>> take = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: states.append(model.get_training_state()))
    >>> _ = model.fit(torch.ones(8, 2), torch.ones(8, 1), batch_size=4, verbose=0, callbacks=[take])
    >>> states
    [<TrainingState: epoch 1, 1 steps done, 2 tensors>, <TrainingState: epoch 1, 2 steps done, 2 tensors>]
    """
    run = self.__dict__.get("_run")
    if run is None:
        raise ValueError(
            f"Model {self.name!r} is not training: take its state between two steps of `fit`, in a callback's "
            f"`on_train_batch_end` or `on_epoch_end`."
        )
    if run.validating:
        raise ValueError("Validation is not between two training steps: take the state in `on_train_batch_end`.")
    make_state(self, run.head)
    if hasattr(self.optimizer, "build"):
        self.optimizer.build(self.trainable_weights)
    place = run.source.position()
    if run.ahead:
        if place.get("loader") is not None:
            raise ValueError("A loader with a state of its own is a batch ahead here: take the state in `on_train_batch_end`.")
        place["batch"] -= run.ahead
    return TrainingState(
        run.epoch,
        run.step,
        {name: tensor.detach().clone() for name, tensor in named_tensors(self)},
        {
            "modes": {name: (m.training, getattr(m, "trainable", None)) for name, m in self.named_modules()},
            "learning": {name: p.requires_grad for name, p in self.named_parameters()},
            "seeds": {name: seeds._stream.get_state() for name, seeds in seed_generators(self).items()},
            "begun": run.begun,
            "optimizers": {name: copy.deepcopy(o.state_dict()) for name, o in _optimizers(self).items()},
            "metrics": [(metric.state_dict(), _plain(metric)) for metric in metrics_of(self)],
            "callbacks": run.hooks.state_dict(),
            "data": place,
            "stream": run.stream.state_dict(),
            "user": UserStreams(),
            "compiled": run.compiled,
        },
    )


def set_training_state(self: Any, state: TrainingState) -> None:
    """Lets the next call of `fit` go on from a state; it must be given the same data and arguments as the run of the state.

    Args:
        state: what `get_training_state` returned, here or in a model that was made and compiled in the same way.
    """
    if not isinstance(state, TrainingState):
        raise TypeError(f"set_training_state takes what `get_training_state` returned. Received: {type(state).__name__}")
    self.__dict__["_resumed"] = state


def resume(model: Any, run: Run) -> bool:
    """Puts back the state that waits for this run, if one does; returns whether one did."""
    state = model.__dict__.pop("_resumed", None)
    if state is None:
        return False
    make_state(model, run.head)
    _check(model, state)
    rest = state.rest
    with torch.no_grad():
        for name, tensor in named_tensors(model):
            tensor.copy_(state.weights[name])
    for name, module in model.named_modules():
        module.training, trainable = rest["modes"].get(name, (module.training, None))
        if trainable is not None and module.trainable is not trainable:
            module.trainable = trainable
    for name, weight in model.named_parameters():
        weight.requires_grad_(rest["learning"][name])
    for name, seeds in seed_generators(model).items():
        seeds._stream.set_state(rest["seeds"][name])
    if hasattr(model.optimizer, "build"):
        model.optimizer.build(model.trainable_weights)
    for name, optimizer in _optimizers(model).items():
        optimizer.load_state_dict(copy.deepcopy(rest["optimizers"][name]))
    for metric, (kept, plain) in zip(metrics_of(model), rest["metrics"], strict=True):
        metric.load_state_dict(kept)
        vars(metric).update(copy.deepcopy(plain))
    run.hooks.load_state_dict(rest["callbacks"])
    run.stream.load_state_dict(rest["stream"])
    run.epoch, run.step, run.begun, run.compiled = state.epoch, state.step, rest["begun"], rest["compiled"]
    rest["user"].put_back()
    run.source.seek(rest["data"])
    return True


def named_tensors(model: nn.Module) -> list[tuple[str, torch.Tensor]]:
    return [*model.named_parameters(), *model.named_buffers()]


def metrics_of(model: Any) -> list[Any]:
    return [m for metric in model.metrics for m in (metric.metrics if isinstance(metric, CompileMetrics) else [metric])]


def _optimizers(model: Any) -> dict[str, Any]:
    """The model's optimizer, and those that it or its layers hold as attributes, or in lists and dicts there, by name."""
    found: dict[str, Any] = {"": model.optimizer}
    for name, module in model.named_modules():
        for key, value in vars(module).items():
            for i, part in enumerate(tree.leaves(value) if isinstance(value, (list, tuple, dict)) else (value,)):
                if isinstance(part, (Optimizer, torch.optim.Optimizer)) and all(part is not o for o in found.values()):
                    found[f"{name}.{key}.{i}"] = part
    return found


def _plain(metric: Any) -> dict[str, Any]:
    """A copy of what a metric of the user's own keeps besides variables: numbers, texts, and nests of them and of tensors."""
    return {k: copy.deepcopy(v) for k, v in vars(metric).items() if not k.startswith("_") and _is_plain(v)}


def _is_plain(value: Any) -> bool:
    if isinstance(value, (list, tuple, set, dict)):
        return all(map(_is_plain, value.values() if isinstance(value, dict) else value))
    return value is None or isinstance(value, (bool, int, float, str, np.ndarray)) or type(value) is torch.Tensor


def _check(model: Any, state: TrainingState) -> None:
    here = {name: tuple(t.shape) for name, t in named_tensors(model)}
    there = {name: tuple(t.shape) for name, t in state.weights.items()}
    if here != there:
        name = next(n for n in {**here, **there} if here.get(n) != there.get(n))
        raise ValueError(
            f"The training state is of another model: {name!r} has shape {there.get(name)} in the state and {here.get(name)} in "
            f"model {model.name!r}."
        )
    missing = _optimizers(model).keys() ^ state.rest["optimizers"].keys()
    if missing:
        raise ValueError(f"The training state and model {model.name!r} do not have the same optimizers: {sorted(missing)}.")
    count = len(metrics_of(model))
    if count != len(state.rest["metrics"]):
        raise ValueError(
            f"The training state has {len(state.rest['metrics'])} metrics, model {model.name!r} has {count}: compile it in the "
            f"same way."
        )
