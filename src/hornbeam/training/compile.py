"""`Model.compile` and what a compiled model answers: its metrics, their results, its configuration."""

from __future__ import annotations

import warnings
from typing import Any

import torch

from hornbeam import optimizers
from hornbeam.core import registry
from hornbeam.core.errors import describe, did_you_mean
from hornbeam.core.layer import Layer
from hornbeam.training.arguments import refuse, strict
from hornbeam.training.nonfinite import CHOICES
from hornbeam.training.outputs import CompileLoss, CompileMetrics
from hornbeam.training.tracker import LossTracker


@strict
def compile(
    self: Any, optimizer: Any = "rmsprop", loss: Any = None, loss_weights: Any = None, metrics: Any = None,
    weighted_metrics: Any = None, run_eagerly: bool = False, steps_per_execution: int = 1, jit_compile: bool | str = "auto",
    auto_scale_loss: bool = True, *, on_nonfinite: str = "warn", debug_nan: bool = False, **others: Any,
) -> None:  # fmt: skip
    """Says how the model is trained.

    Args:
        optimizer: name, optimizer, or an optimizer of torch, as an object, a class, or a function that makes one of the model's
            weights: `lambda weights: torch.optim.SGD(weights, lr=0.1)`.
        loss: name, loss, function `f(y_true, y_pred)`, torch loss module or function of `torch.nn.functional`; for several
            outputs a list, a dictionary by their names, or a nest of their form, in which None stands for no loss.
        loss_weights: factors of the losses, likewise.
        metrics: list of metrics by name, object, function or of torchmetrics; for several outputs likewise, with a list for each;
            "accuracy" and "crossentropy" become the kind that the shapes need.
        weighted_metrics: metrics that take sample weights, likewise.
        run_eagerly: never compile a step.
        steps_per_execution: steps that are made together, between two looks at callbacks; compiled steps get faster.
        jit_compile: True compiles the whole training step with torch.compile; "auto" does so where a count of kernels and planned
            steps says before the first step that it pays back; False never.
        auto_scale_loss: whether the loss is scaled under the policy mixed_float16.
        on_nonfinite: what follows from NaN or infinity in training: "warn", "raise" or "ignore".
        debug_nan: whether every step is checked, so that an error names the layer at which NaN or infinity begins; slow.

    >>> from hornbeam import layers
    >>> from hornbeam.models.sequential import Sequential
    >>> model = Sequential([layers.Dense(1)])
    >>> model.compile("sgd", "mse", metrics=["mae"])
    >>> sorted(model.fit(torch.ones(8, 2), torch.ones(8, 1), verbose=0).history)
    ['loss', 'mae']
    """
    refuse(compile, others)
    if not isinstance(steps_per_execution, int) or steps_per_execution < 1:
        raise ValueError(f"`steps_per_execution` must be a positive integer. Received: {steps_per_execution!r}")
    if jit_compile not in (True, False, "auto", None):
        raise ValueError(f"`jit_compile` must be True, False or 'auto'. Received: {jit_compile!r}")
    if on_nonfinite not in CHOICES:
        close = did_you_mean(on_nonfinite, CHOICES)
        raise ValueError(f"`on_nonfinite` must be one of {', '.join(map(repr, CHOICES))}.{close} Received: {on_nonfinite!r}")
    for name, value in (("metrics", metrics), ("weighted_metrics", weighted_metrics)):
        if value is not None and not isinstance(value, (list, tuple, dict)):
            raise ValueError(f"`{name}` must be a list or a dictionary, such as {name}=[{value!r}]. Received: {describe(value)}")
    scales = auto_scale_loss and self.dtype_policy.name == "mixed_float16" and not hasattr(optimizer, "inner_optimizer")
    chosen: Any = optimizer if isinstance(optimizer, torch.optim.Optimizer) and not scales else optimizers.get(optimizer)
    if scales and chosen is not None:
        chosen = optimizers.LossScaleOptimizer(chosen)
    names = getattr(type(self), "output_names", None) and known_output_names(self)
    self.__dict__.update(
        optimizer=chosen,
        loss=loss,
        compiled=True,
        stop_training=False,
        run_eagerly=run_eagerly,
        steps_per_execution=steps_per_execution,
        jit_compile=jit_compile,
        on_nonfinite=on_nonfinite,
        debug_nan=debug_nan,
        _compile_loss=None if loss is None else CompileLoss(
            loss, loss_weights, names, accumulating(chosen), getattr(self, "_targets_as_given", False)
        ),
        _compile_metrics=CompileMetrics(metrics, weighted_metrics, names)
        if metrics is not None or weighted_metrics is not None
        else None,
        _loss_tracker=LossTracker("loss"),
        _plan=None,
        _seen_forms=set(),
        _compile_config={
            "optimizer": optimizer, "loss": loss, "loss_weights": loss_weights,
            "metrics": metrics, "weighted_metrics": weighted_metrics,
            "run_eagerly": run_eagerly, "steps_per_execution": steps_per_execution, "jit_compile": jit_compile,
        },
    )  # fmt: skip


def accumulating(optimizer: Any) -> Any:
    """Returns the optimizer, or the one inside, if it accumulates gradients over several batches; else None."""
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    return optimizer if getattr(optimizer, "gradient_accumulation_steps", None) else None


def known_output_names(model: Any) -> list[str] | None:
    """Returns the outputs' names where the model is a graph, else None."""
    return model.output_names if getattr(model, "_graph", None) is not None else None


def metrics(self: Any) -> list[Any]:
    """The metrics of the model: its loss, those it was compiled with, the losses of its outputs, those of its layers."""
    found = [self._loss_tracker] if self._loss_tracker is not None else []
    if self._compile_metrics is not None:
        found.append(self._compile_metrics)
    if self._compile_loss is not None:
        found.extend(self._compile_loss.metrics)
    found.extend(Layer.metrics.fget(self))  # type: ignore[attr-defined]
    return found


def metrics_names(self: Any) -> list[str]:
    """The names of the metrics."""
    return [m.name for m in self.metrics]


def reset_metrics(self: Any) -> None:
    """Sets all metrics back."""
    for metric in self.metrics:
        metric.reset_state()


def get_metrics_result(self: Any) -> dict[str, Any]:
    """Returns the metrics' present values by name, as tensors."""
    found: dict[str, Any] = {}
    for metric in self._plan.metrics if torch.compiler.is_compiling() else self.metrics:
        value = metric.result()
        found.update(value if isinstance(value, dict) else {metric.name: value})
    return found


def get_compile_config(self: Any) -> dict[str, Any] | None:
    """Returns what `compile` was given, in JSON's terms; None where it was not called, and with a warning where that has none."""
    if not self.compiled:
        return None
    config = {**self._compile_config, "optimizer": self.optimizer}
    try:
        return {k: registry.serialize_keras_object(v) for k, v in config.items()}
    except (TypeError, ValueError, NotImplementedError) as error:
        warnings.warn(
            f"What model {self.name!r} was compiled with cannot be written into a config, so it will have to be compiled anew: "
            f"{str(error).splitlines()[0]}",
            stacklevel=2,
        )
        return None


def compile_from_config(self: Any, config: dict[str, Any]) -> None:
    """Compiles the model from what `get_compile_config` returned."""
    read = {k: registry.deserialize_keras_object(v) for k, v in config.items()}
    self.compile(**read)
    if self.built and hasattr(self.optimizer, "build"):
        self.optimizer.build(self.trainable_variables)


def named_in_order(model: Any, logs: dict[str, Any]) -> Any:
    """Returns results as `evaluate` lists them: the loss, metrics, what has a name of its own; one alone as it is."""
    names: list[str] = []
    for metric in model.metrics:
        names.extend([m.name for m in metric.metrics] if isinstance(metric, CompileMetrics) else [metric.name])
    values = [logs[n] for n in names if n in logs]
    values.extend(logs[k] for k in sorted(logs) if k not in names)
    return values[0] if len(values) == 1 else values
