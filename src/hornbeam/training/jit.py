"""The compiled step: forward, loss, backward and optimizer as one function of torch.compile; metrics stay outside."""

from __future__ import annotations

from typing import Any

import torch

from hornbeam.graph import tree
from hornbeam.training import step
from hornbeam.training.data import unpack_x_y_sample_weight


class CompiledStep:
    """The default training step, compiled for the shapes of the first full batch; other shapes run eagerly.

    Where compiling fails, one line says why, and every step runs eagerly.
    """

    def __init__(self, model: Any) -> None:
        import torch._dynamo.config as config

        config.trace_autograd_ops = True
        self.model, self.failed = model, False
        self.signature: Any = None
        self.plan_key = plan_key(model)
        on_cpu = next(iter(model.trainable_weights)).device.type == "cpu"
        options: dict[str, Any] = {
            "fallback_random": True,
            "size_asserts": False,
            "alignment_asserts": False,
            **({"cpp_wrapper": True} if on_cpu else {}),
        }
        plan = model._plan

        def run(x: Any, y: Any, sample_weight: Any) -> Any:
            y_pred = model(x, training=True)
            args = (x, y, y_pred, sample_weight)
            loss = model.compute_loss(*args, True) if plan.loss_mode else model.compute_loss(*args)
            scaled = loss if plan.scale is None else plan.scale(loss)
            plan.apply(list(torch.autograd.grad(scaled, plan.weights, allow_unused=True)), plan.weights)
            return loss.detach(), tree.map_leaves(lambda t: t.detach(), y_pred)

        self.run = torch.compile(run, fullgraph=True, dynamic=False, options=options)

    def __call__(self, data: Any) -> Any:
        x, y, sample_weight = unpack_x_y_sample_weight(data)
        signature = [None if t is None else (t.shape, t.dtype) for t in tree.leaves((x, y, sample_weight))]
        if self.signature is None:
            self.signature = signature
        if self.failed or signature != self.signature:
            return step.training_step(self.model, data)
        try:
            loss, y_pred = self.run(x, y, sample_weight)
        except Exception as error:
            self.failed = True
            print(f"Not compiled, running eagerly: {type(error).__name__}: {str(error).strip().splitlines()[0]}", flush=True)
            return step.training_step(self.model, data)
        return step.count(self.model, x, y, y_pred, sample_weight, loss)


def training_stepper(model: Any) -> Any:
    """Returns what makes a training step: eager, or compiled where `jit_compile=True` asks for it."""
    eager = step.stepper(model, "train_step", step.training_step)
    if model.jit_compile is not True or model.run_eagerly or not step.is_default(model, "train_step"):
        return eager
    if isinstance(model.optimizer, torch.optim.Optimizer) or any(w._backward_hooks for w in model.trainable_weights):
        return eager
    kept = model.__dict__.get("_compiled_step")
    if kept is None or kept.model is not model or kept.plan_key != plan_key(model):
        kept = model.__dict__["_compiled_step"] = CompiledStep(model)
    return kept


def plan_key(model: Any) -> Any:
    """Returns what a compiled step was made for."""
    return (id(model.optimizer), id(model._compile_loss), tuple(id(w) for w in model._plan.weights))
