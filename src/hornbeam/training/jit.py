"""The compiled step: forward, loss, backward, optimizer and metrics as one function of torch.compile."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterable, Iterator
from types import FunctionType
from typing import Any

import torch

from hornbeam.graph import tree
from hornbeam.graph.infer import looking
from hornbeam.graph.symbolic import unwatch_modules
from hornbeam.metrics.metric import Metric
from hornbeam.optimizers import TorchOptimizer
from hornbeam.training import step
from hornbeam.training.data import unpack_x_y_sample_weight
from hornbeam.training.tracker import LossTracker

UNROLLED = 4


class CompiledStep:
    """A training step, the default one or the user's own, compiled for batches of one form; others run eagerly.

    Where compiling fails, one warning says why, and every step runs eagerly from then on.

    Args:
        model: a compiled model with a plan.
        eager: the step.
    """

    def __init__(self, model: Any, eager: Callable[[Any], Any]) -> None:
        import torch._dynamo.config as config

        config.trace_autograd_ops = True
        on_cpu = next(iter(model.trainable_weights)).device.type == "cpu"
        options: dict[str, Any] = {"fallback_random": True, "size_asserts": False, "alignment_asserts": False}
        options |= {"cpp_wrapper": True} if on_cpu else {"triton.cudagraphs": True}
        self.model, self.eager, self.failed, self.form = model, eager, False, None
        self.key = key_of(model)

        def one(batch: Any) -> Any:
            logs = eager(batch)
            model._clear_losses()  # added losses hold on to the graph that the backward pass has used up
            return logs

        def several(batches: list[Any]) -> Any:
            return [one(batch) for batch in batches][-1]

        self._one, self._several = (
            torch.compile(apart(function), fullgraph=True, dynamic=False, options=options) for function in (one, several)
        )
        if not on_cpu:
            fix_addresses(model)

    def __call__(self, batch: Any) -> Any:
        """Makes one step."""
        return self._run(self._one, batch) if self._fits(batch) else self.eager(batch)

    def several(self, batches: list[Any]) -> Any:
        """Makes a step with each of several batches, a few in one compiled call."""
        logs, foreign = None, isinstance(self.model.optimizer, (torch.optim.Optimizer, TorchOptimizer))
        while batches:
            some, batches = batches[:UNROLLED], batches[UNROLLED:]
            if len(some) == UNROLLED and not foreign and all(map(self._fits, some)):
                logs = self._run(self._several, some)
            else:
                for batch in some:
                    logs = self(batch)
        return logs

    def _fits(self, batch: Any) -> bool:
        return not self.failed and form_of(batch) == self.form

    def _run(self, function: Callable[[Any], Any], data: Any) -> Any:
        try:
            logs = function(data)
        except Exception as error:
            self.failed = True  # and what is wrong with the step itself is raised by the next line
            logs = self.several(data) if function is self._several else self.eager(data)
            warnings.warn(f"Model {self.model.name!r} trains without torch.compile: {reason_of(error)}", stacklevel=4)
            return logs
        self.model._plan.take_left()
        return logs


_numbers = itertools.count()


def apart(function: Any) -> Any:
    """Returns a function with code of its own: torch.compile counts what it compiled by code, and gives up after eight models."""
    code = function.__code__.replace(co_name=f"{function.__name__}_{next(_numbers)}")
    return FunctionType(code, function.__globals__, function.__name__, function.__defaults__, function.__closure__)


def training_stepper(model: Any, head: Any, wanted: bool) -> Any:
    """Returns what makes a training step: compiled where that is wanted and possible, else eager.

    Args:
        model: a compiled model with a plan.
        head: a full batch; batches of its form are compiled.
        wanted: whether to compile.
    """
    eager = step.stepper(model, "train_step", step.training_step)
    if not wanted or model.run_eagerly or any(map(_is_hooked, model.trainable_weights)):
        return eager
    unwatch_modules()
    kept = model.__dict__.get("_compiled_step")
    if kept is None or kept.model is not model or kept.key != key_of(model):
        make_state(model, head)
        kept = model.__dict__["_compiled_step"] = CompiledStep(model, eager)
    kept.form = form_of(head)
    return kept


def _is_hooked(weight: torch.Tensor) -> bool:
    return bool(weight._backward_hooks or getattr(weight, "_post_accumulate_grad_hooks", None))


def several(run: Any) -> Callable[[list[Any]], Any]:
    """Returns what makes a step with each of several batches."""
    if isinstance(run, CompiledStep):
        return run.several

    def one_by_one(batches: list[Any]) -> Any:
        logs = None
        for batch in batches:
            logs = run(batch)
        return logs

    return one_by_one


def make_state(model: Any, head: Any) -> None:
    """Makes what a step would otherwise make at its first run: metrics matched with outputs, sums on their device."""
    x, y, _ = unpack_x_y_sample_weight(head)
    losses, metrics = model._compile_loss, model._compile_metrics
    device = next(iter(model.trainable_weights)).device
    waiting = (losses is not None and losses._parts is None) or (metrics is not None and not metrics.complete)
    if y is not None and waiting:
        with looking():
            y_pred = model(x, training=True)
        if losses is not None and losses._parts is None:
            losses.build(y, y_pred)
        if metrics is not None and not metrics.complete:
            metrics.make_state(y, y_pred)
    for metric in parts_of(model.metrics):
        if isinstance(metric, LossTracker):
            metric._fold()
            metric.sums(device)
        elif metric._device != device:
            metric._move(device)


def parts_of(metrics: Iterable[Any]) -> Iterator[Metric]:
    """Yields the metrics in a list, with those that they hold."""
    for metric in metrics:
        yield from (metric,) if isinstance(metric, Metric) else ()
        yield from parts_of(metric._metrics if isinstance(metric, Metric) else metric.metrics)


def fix_addresses(model: Any) -> None:
    """Tells CUDA graphs that the optimizer's and the metrics' state stays where it is."""
    tensors = [t for m in parts_of(model.metrics) for t in (*m._variables, getattr(m, "_sums", None))]
    optimizer = model.optimizer
    tensors += [] if isinstance(optimizer, torch.optim.Optimizer) else optimizer._tensors()
    for tensor in tensors:
        if isinstance(tensor, torch.Tensor):
            torch._dynamo.mark_static_address(tensor)


def form_of(batch: Any) -> list[Any]:
    """Returns shapes and dtypes of a batch."""
    return [None if t is None else (t.shape, t.dtype) for t in tree.leaves(batch)]


def key_of(model: Any) -> Any:
    """Returns what a compiled step was made for."""
    parts = (model.optimizer, model._compile_loss, model._compile_metrics, model._loss_tracker, *model._plan.weights)
    return tuple(map(id, parts))


def reason_of(error: Exception) -> str:
    """Returns in one line why compiling failed, with the line of the user's source where it is known."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    lines = lines[1:] if len(lines) > 1 and lines[0].endswith("raised:") else lines  # a back end's error is on the next line
    frames = getattr(error, "real_stack", None) or []
    own = [f for f in frames if "hornbeam" not in f.filename and "torch" not in f.filename] or list(frames)
    where = f" ({own[-1].filename}:{own[-1].lineno}: {own[-1].line})" if own else ""
    return f"{type(error).__name__}: {lines[0] if lines else 'no reason given'}{where}"
