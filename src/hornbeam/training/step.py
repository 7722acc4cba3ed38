"""One step of training, evaluation and prediction: the methods that a model may override, and the default step of the loops."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cache
from typing import Any

import torch

from hornbeam.core.layer import Layer
from hornbeam.graph import tree
from hornbeam.optimizers import TorchOptimizer
from hornbeam.training.data import unpack_x_y_sample_weight
from hornbeam.training.functions import own_function
from hornbeam.training.mistakes import no_gradient, results_of
from hornbeam.training.results import own_results


class Plan:
    """What a run of steps needs from a model, gathered once instead of at every step.

    Attributes:
        weights: the trainable weights, in the optimizer's order.
        layers: the layers that may add losses.
        metrics: the metrics.
        penalties: whether a weight has a regularizer.
        apply: what makes a step of the optimizer.
        scale: what multiplies the loss before the backward pass, or None.
    """

    def __init__(self, model: Any) -> None:
        self.weights = model.trainable_weights
        self.layers = [m for m in model.modules() if isinstance(m, Layer)]
        self.penalties = bool(model._penalties())
        optimizer = model.optimizer
        self.apply: Callable[..., Any]
        if isinstance(optimizer, torch.optim.Optimizer):
            self.apply = self._foreign_step
            self.scale = None
        else:
            if self.weights:
                optimizer.build(self.weights)
            self.apply = self._foreign_step if isinstance(optimizer, TorchOptimizer) else optimizer.apply
            scales = getattr(optimizer, "loss_scale_factor", None) is not None or hasattr(optimizer, "inner_optimizer")
            self.scale = optimizer.scale_loss if scales else None
        self.metrics = model.metrics
        own = type(model)
        self.own_metrics = own.compute_metrics is not compute_metrics or "compute_metrics" in model.__dict__
        self.loss_mode = "training" in inspect.signature(model.compute_loss).parameters
        self.optimizer = optimizer
        self.left: list[Any] | None = None

    def _foreign_step(self, grads: list[Any], weights: list[Any]) -> None:
        """A step of a torch.optim optimizer; in compiled code gradients are left, for `take_left` to use outside."""
        if torch.compiler.is_compiling():
            self.left = grads
        elif isinstance(self.optimizer, TorchOptimizer):
            self.optimizer.apply(grads, weights)
        else:
            self.optimizer.step()

    def take_left(self) -> None:
        """Makes the step of a torch.optim optimizer with the gradients that a compiled step left."""
        if self.left is not None:
            left, self.left = self.left, None
            for weight, grad in zip(self.weights, left, strict=True):
                weight.grad = grad
            self._foreign_step(left, self.weights)

    def has_losses(self) -> bool:
        """Returns whether there are penalties, or losses that layers added in the last call."""
        return self.penalties or any([layer._losses for layer in self.layers])  # noqa: C419 - a list is half a generator's price


def training_step(self: Any, data: Any) -> Any:
    """The default step of `fit`: computes no results unless `compute_metrics` is the user's own."""
    x, y, sample_weight = unpack_x_y_sample_weight(data)
    plan = self._plan
    weights, compiling = plan.weights, torch.compiler.is_compiling()
    if not compiling:
        for weight in weights:
            weight.grad = None
    y_pred = self(x, training=True)
    if plan.loss_mode:
        loss = self.compute_loss(x, y, y_pred, sample_weight, True)
    else:
        loss = self.compute_loss(x, y, y_pred, sample_weight)
    scaled = loss if plan.scale is None else plan.scale(loss)
    if compiling:
        grads = list(torch.autograd.grad(scaled, weights, allow_unused=True))
    else:
        if not isinstance(scaled, torch.Tensor) or not scaled.requires_grad or (scaled.ndim and scaled.numel() != 1):
            raise no_gradient(self, loss)
        backward(scaled)
        grads = [weight.grad for weight in weights]
    plan.apply(grads, weights)
    return count(self, x, y, y_pred, sample_weight, loss)


_ones: dict[Any, torch.Tensor] = {}


def backward(loss: torch.Tensor) -> None:
    """Does what `loss.backward()` does, by the engine itself where that works: torch's wrappers cost a tenth of a small step."""
    if loss.ndim or not loss.requires_grad or not _engine_answers():
        loss.backward()
        return
    key = (loss.dtype, loss.device)
    one = _ones.get(key)
    if one is None:
        one = _ones[key] = torch.ones((), dtype=loss.dtype, device=loss.device)
    _run_engine(loss, one)


def _run_engine(loss: torch.Tensor, one: torch.Tensor) -> None:
    engine: Any = torch.autograd.Variable._execution_engine
    engine.run_backward((loss,), (one,), False, False, (), allow_unreachable=True, accumulate_grad=True)


@cache
def _engine_answers() -> bool:
    """Whether torch's engine, which is private, takes the call above."""
    try:
        leaf = torch.ones((), requires_grad=True)
        _run_engine(leaf * 2, torch.ones(()))
        return leaf.grad is not None and float(leaf.grad) == 2.0
    except Exception:
        return False


def count(self: Any, x: Any, y: Any, y_pred: Any, sample_weight: Any, loss: torch.Tensor) -> Any:
    """Takes the loss and the metrics of a batch into account; returns results where they are the user's own."""
    self._loss_tracker.add(loss.detach(), len(x) if isinstance(x, torch.Tensor) else _rows(x))
    if self._plan.own_metrics:
        with torch.no_grad():
            return self.compute_metrics(x, y, y_pred, sample_weight)
    if self._compile_metrics is not None:
        self._compile_metrics.update_state(y, y_pred, sample_weight)
    return None


def _rows(nest: Any) -> int:
    return next((len(t) for t in tree.leaves(nest) if isinstance(t, torch.Tensor) and t.ndim), 1)


def testing_step(self: Any, data: Any) -> Any:
    """The default step of `evaluate`."""
    x, y, sample_weight = unpack_x_y_sample_weight(data)
    y_pred = self(x, training=False)
    if self._plan.loss_mode:
        loss = self.compute_loss(x, y, y_pred, sample_weight, False)
    else:
        loss = self.compute_loss(x, y, y_pred, sample_weight)
    return count(self, x, y, y_pred, sample_weight, loss)


def train_step(self: Any, data: Any) -> dict[str, Any]:
    """Trains on one batch and returns the metrics by name; to be overridden.

    Args:
        data: x, (x, y) or (x, y, sample_weight), tensors or nests of them.
    """
    plan_for(self)
    return own_results(self, training_step(self, data))


def test_step(self: Any, data: Any) -> dict[str, Any]:
    """Evaluates one batch and returns the metrics by name; to be overridden."""
    plan_for(self)
    return own_results(self, testing_step(self, data))


def predict_step(self: Any, data: Any) -> Any:
    """Returns the model's outputs for one batch; to be overridden."""
    return self(unpack_x_y_sample_weight(data)[0], training=False)


def plan_for(model: Any) -> Plan:
    """Returns the model's plan; a new one where there is none."""
    if model._plan is None:
        model.__dict__["_plan"] = Plan(model)
    return model._plan


def compute_loss(
    self: Any, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
) -> torch.Tensor:
    """Returns the loss of a batch: the compiled losses, penalties and what layers added; to be overridden.

    Args:
        x, y, y_pred, sample_weight: inputs, targets, outputs and weights of the batch.
        training: whether it is a training step.
    """
    compiled = self._compile_loss
    loss = None if compiled is None else compiled(y, y_pred, sample_weight)
    plan = self._plan
    if plan is None or plan.has_losses():
        for more in self.losses:
            loss = more if loss is None else loss + more
    if loss is None:
        raise ValueError(f"Model {self.name!r} has no loss: pass `loss` to compile(), or add one with `add_loss` in a layer.")
    return loss


def compute_metrics(self: Any, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> dict[str, Any]:
    """Takes a batch into the compiled metrics and returns all results by name; to be overridden."""
    if self._compile_metrics is not None:
        self._compile_metrics.update_state(y, y_pred, sample_weight)
    return self.get_metrics_result()


def is_default(model: Any, name: str) -> bool:
    """Returns whether a step method is the one defined here."""
    return name not in model.__dict__ and getattr(type(model), name) is globals()[name]


def stepper(model: Any, name: str, default: Callable[..., Any]) -> Callable[[Any], Any]:
    """Returns what makes a step: the user's own method where he wrote one, else the default without results."""
    made = own_function(model, name.removesuffix("_step"))
    if made is not None:
        return made
    if is_default(model, name):
        return default.__get__(model)
    own = getattr(model, name)
    return lambda data: results_of(name, own(data))
