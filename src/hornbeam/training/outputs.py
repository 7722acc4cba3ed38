"""One loss or several, metrics per output: what `compile` was given, matched with what the model returns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn

from hornbeam import losses, metrics
from hornbeam.core.errors import describe, did_you_mean
from hornbeam.graph import tree
from hornbeam.losses.loss import Loss, LossFunctionWrapper
from hornbeam.metrics.metric import Metric
from hornbeam.training.tracker import LossTracker

_BY_SHAPE = {"accuracy": "Accuracy", "acc": "Accuracy", "crossentropy": "Crossentropy", "ce": "Crossentropy"}


class TorchLoss:
    """A torch loss module or a torchmetrics-like callable `loss(y_pred, y_true)`, called as Keras calls a loss."""

    def __init__(self, module: nn.Module) -> None:
        self.module, self.name = module, type(module).__name__

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> torch.Tensor:
        values = self.module(y_pred, y_true)
        if sample_weight is None:
            return values if values.ndim == 0 else values.mean()
        if values.ndim == 0:
            raise ValueError(f"{self.name} reduces by itself, so it cannot take sample weights: make it with reduction='none'.")
        return (values * sample_weight.reshape(sample_weight.shape + (1,) * (values.ndim - sample_weight.ndim))).mean()


def is_by_shape(identifier: Any) -> bool:
    """Returns whether a loss is named "crossentropy" or "ce": targets and predictions decide which one it is."""
    return isinstance(identifier, str) and _BY_SHAPE.get(identifier.lower()) == "Crossentropy"


def get_loss(identifier: Any, y_true: Any = None, y_pred: Any = None) -> Any:
    """Returns a callable `loss(y_true, y_pred, sample_weight)` with a name, for whatever names or is a loss; None stays None."""
    if identifier is None:
        return None
    if is_by_shape(identifier):
        return losses.get(_variety(y_true, y_pred) + "Crossentropy")
    if isinstance(identifier, nn.Module):
        return TorchLoss(identifier)
    found = losses.get(identifier)
    if isinstance(found, Loss):
        return found
    name = identifier if isinstance(identifier, str) else getattr(found, "__name__", type(found).__name__)
    return LossFunctionWrapper(found, name="lambda" if name == "<lambda>" else name)


def get_metric(identifier: Any, y_true: torch.Tensor, y_pred: torch.Tensor) -> Metric:
    """Returns a metric; "accuracy" and "crossentropy" become the kind that targets and predictions of these shapes need."""
    if isinstance(identifier, Metric):
        return identifier
    kind = _BY_SHAPE.get(identifier.lower()) if isinstance(identifier, str) else None
    if kind is not None:
        found = metrics.get(_variety(y_true, y_pred) + kind)
    else:
        found = metrics.get(identifier)
    name = identifier if isinstance(identifier, str) else getattr(found, "__name__", None)
    if not isinstance(found, Metric):
        found = metrics.MeanMetricWrapper(found, name="lambda" if name == "<lambda>" else name)
    elif name is not None:
        found.name = name
    return found


def _variety(y_true: torch.Tensor, y_pred: torch.Tensor) -> str:
    if y_pred.ndim == 0 or y_pred.shape[-1] == 1:
        return "Binary"
    sparse = y_true.ndim < y_pred.ndim or y_true.shape[-1] == 1
    return "SparseCategorical" if sparse else "Categorical"


def output_names(y_pred: Any, known: list[str] | None) -> list[str] | None:
    """Returns a name for each output: the user's keys, the layers' names where the model knows them, else None."""
    if isinstance(y_pred, torch.Tensor):
        return known if known is not None and len(known) == 1 else None
    count = len(tree.leaves(y_pred))
    if isinstance(y_pred, dict):
        names = [n for k in tree.sorted_keys(y_pred) for n in _paths(y_pred[k], str(k))]
    elif known is not None and len(known) == count:
        names = list(known)
    else:
        return None
    return [n if names.index(n) == i else f"{n}_{names[:i].count(n)}" for i, n in enumerate(names)]


def _paths(nest: Any, name: str) -> list[str]:
    if isinstance(nest, dict):
        return [n for k in tree.sorted_keys(nest) for n in _paths(nest[k], f"{name}_{k}")]
    if isinstance(nest, (list, tuple)):
        return [n for i, v in enumerate(nest) for n in _paths(v, f"{name}_{i}")]
    return [name]


def per_output(spec: Any, names: list[str] | None, count: int, what: str, shared: bool = False, leaf: Any = None) -> list[Any]:
    """Returns what a nest holds for each output.

    Args:
        spec: one value, a list in the outputs' order, or a dictionary by output names.
        names: the outputs' names, where they have some.
        count: the number of outputs.
        what: the argument's name, for errors.
        shared: whether one value holds for every output.
        leaf: a function that says whether a list is one output's value.
    """
    if spec is None:
        return [None] * count
    if isinstance(spec, dict):
        if names is None or any(isinstance(v, dict) for v in spec.values()):
            flat = tree.leaves(spec)
            if len(flat) != count:
                raise ValueError(
                    f"`{what}` is a dictionary ({', '.join(map(repr, spec))}), but the model's {count} output(s) have no names."
                )
            return flat
        unknown = [k for k in spec if k not in names]
        if unknown:
            raise ValueError(
                f"`{what}` has the key {unknown[0]!r}, which is no output.{did_you_mean(unknown[0], names)} "
                f"Outputs: {', '.join(map(repr, names))}."
            )
        return [spec.get(n) for n in names]
    if isinstance(spec, (list, tuple)) and not (leaf is not None and leaf(spec)):
        flat = list(spec) if len(spec) == count else tree.leaves(spec)
        if len(flat) != count:
            of = f" ({', '.join(map(repr, names))})" if names else ""
            raise ValueError(f"`{what}` has {len(flat)} entries, but the model has {count} output(s){of}.")
        return flat
    if count > 1 and not shared:
        raise ValueError(
            f"`{what}` must be a list or a dictionary: the model has {count} outputs{f' ({names})' if names else ''}. "
            f"Received: {describe(spec)}"
        )
    return [spec] * count


def along(spec: Any, outputs: Any, what: str) -> Any:
    """Returns a nest that names some of nested outputs as a list in the outputs' order, with None for those that it leaves out.

    Args:
        spec: a nest of the outputs' form; any other value comes back as it is.
        outputs: what the model returns.
        what: the argument's name, for errors.
    """
    nested = isinstance(outputs, dict) and any(isinstance(v, (dict, list, tuple)) for v in outputs.values())
    if not nested or not isinstance(spec, dict):
        return spec
    return list(_along(spec, outputs, what))


def _along(spec: Any, outputs: Any, what: str) -> Iterator[Any]:
    if not isinstance(outputs, (dict, list, tuple)):
        if isinstance(spec, dict):
            raise ValueError(f"`{what}` has the key {next(iter(spec))!r} where the model has one output, without parts.")
        yield spec
        return
    keys = tree.sorted_keys(outputs) if isinstance(outputs, dict) else range(len(outputs))
    parts = spec if isinstance(spec, dict) else dict(enumerate(spec)) if isinstance(spec, (list, tuple)) else {}
    unknown = [k for k in parts if k not in keys]
    if unknown:
        raise ValueError(
            f"`{what}` has the key {unknown[0]!r}, which is no output.{did_you_mean(str(unknown[0]), map(str, keys))} "
            f"Outputs here: {', '.join(map(repr, keys))}."
        )
    for key in keys:
        yield from _along(parts.get(key), outputs[key], what)


class CompileLoss:
    """The losses of all outputs, weighted and added.

    Args:
        loss: name, loss, function, torch loss module; or a list or dictionary of such.
        loss_weights: numbers, likewise.
        names: the outputs' names, where the model knows them.
    """

    name = "compile_loss"

    def __init__(self, loss: Any, loss_weights: Any = None, names: list[str] | None = None) -> None:
        self.loss, self.loss_weights, self.known = loss, loss_weights, names
        self.metrics: list[LossTracker] = []
        self._single: Any = None
        self._parts: Any = None
        self._used: list[int] = []
        if not isinstance(loss, (list, tuple, dict)) and not is_by_shape(loss):
            self.loss = get_loss(loss)
            self._single = self.loss if loss_weights is None else None

    def __call__(self, y: Any, y_pred: Any, sample_weight: Any = None) -> torch.Tensor:
        if self._single is not None and isinstance(y_pred, torch.Tensor) and isinstance(y, torch.Tensor):
            return self._single(y, y_pred, sample_weight)
        if self._parts is None:
            self.build(y, y_pred)
        targets, predictions, weights = self.matched(y, y_pred, sample_weight)
        total = None
        trackers: list[Any] = self.metrics or [None] * len(self._parts)
        for (index, loss, factor), tracker in zip(self._parts, trackers, strict=True):
            value = loss(targets[index], predictions[index], weights[index])
            if tracker is not None and not torch.compiler.is_compiling():
                tracker.add(value.detach(), len(predictions[index]))
            value = value if factor is None else value * factor
            total = value if total is None else total + value
        if total is None:
            raise ValueError("`loss` holds no loss for any output.")
        return total

    def build(self, y: Any, y_pred: Any) -> None:
        """Matches losses with outputs, at the first call."""
        count = len(tree.leaves(y_pred))
        self.names = names = output_names(y_pred, self.known)
        chosen = per_output(along(self.loss, y_pred, "loss"), names, count, "loss", shared=True)
        self._used = [i for i, part in enumerate(chosen) if part is not None]
        found = [get_loss(*each) for each in zip(chosen, *self.matched(y, y_pred, None)[:2], strict=True)]
        factors = per_output(along(self.loss_weights, y_pred, "loss_weights"), names, count, "loss_weights", shared=True)
        self._parts = [(i, loss, factor) for i, (loss, factor) in enumerate(zip(found, factors, strict=True)) if loss is not None]
        if len(self._parts) > 1:
            titles = [names[i] if names else loss.name for i, loss, _ in self._parts]
            self.metrics = [
                LossTracker(f"{t if titles.index(t) == i else f'{t}_{titles[:i].count(t)}'}_loss") for i, t in enumerate(titles)
            ]

    def matched(self, y: Any, y_pred: Any, sample_weight: Any) -> tuple[list[Any], list[Any], list[Any]]:
        """Returns targets, predictions and sample weights as flat lists in the outputs' order."""
        return match(y, y_pred, sample_weight, output_names(y_pred, self.known), self._used)

    def parts(self, y: Any, y_pred: Any) -> list[tuple[str | None, Any, Any, Any]]:
        """Returns (output name, loss, target, prediction) of each output that has a loss."""
        if self._parts is None:
            self.build(y, y_pred)
        targets, predictions, _ = self.matched(y, y_pred, None)
        return [(self.names[i] if self.names else None, loss, targets[i], predictions[i]) for i, loss, _ in self._parts or ()]


def match(
    y: Any, y_pred: Any, sample_weight: Any, names: list[str] | None, used: Sequence[int] = ()
) -> tuple[list[Any], list[Any], list[Any]]:
    """Returns targets, predictions and sample weights as flat lists in the outputs' order.

    Where only the outputs numbered in `used` have a loss, `y` may hold just their targets.
    """
    predictions = tree.leaves(y_pred)
    count = len(predictions)
    if 0 < len(used) < count and not isinstance(y, dict):
        given = tree.leaves(y)
        if len(given) == len(used):
            y = [dict(zip(used, given, strict=True)).get(i) for i in range(count)]
    y = along(y, y_pred, "y")
    targets = per_output(y, names, count, "y") if not isinstance(y, torch.Tensor) or count > 1 else [y]
    weights = (
        [sample_weight] * count
        if isinstance(sample_weight, torch.Tensor)
        else per_output(along(sample_weight, y_pred, "sample_weight"), names, count, "sample_weight")
    )
    return targets, predictions, weights


class CompileMetrics:
    """The metrics of all outputs, with and without sample weights.

    Args:
        metrics, weighted_metrics: lists of metrics; per output, lists or dictionaries of such.
        names: the outputs' names, where the model knows them.
    """

    name = "compile_metrics"

    def __init__(self, metrics: Any = None, weighted_metrics: Any = None, names: list[str] | None = None) -> None:
        self.given, self.weighted, self.known = metrics, weighted_metrics, names
        self._parts: Any = None
        self._plain: list[Any] | None = None

    def update_state(self, y: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Takes a batch into all metrics."""
        if self._parts is None:
            self.build(y, y_pred)
        if self._plain is not None and isinstance(y_pred, torch.Tensor):
            for metric in self._plain:
                metric.update_state(y, y_pred)
            return
        targets, predictions, weights = match(y, y_pred, sample_weight, output_names(y_pred, self.known))
        for index, metric, _, weighted in self._parts:
            metric.update_state(targets[index], predictions[index], weights[index] if weighted else None)

    def build(self, y: Any, y_pred: Any) -> None:
        """Matches metrics with outputs and makes them, at the first batch."""
        names = output_names(y_pred, self.known)
        count = len(tree.leaves(y_pred))
        targets, predictions, _ = match(y, y_pred, None, names)
        self._parts, taken = [], set()
        for given, weighted in ((self.given, False), (self.weighted, True)):
            what = "weighted_metrics" if weighted else "metrics"
            if count == 1 and not isinstance(given, dict):
                nested = isinstance(given, (list, tuple)) and len(given) == 1 and isinstance(given[0], (list, tuple))
                chosen = [given[0] if nested else given]
            else:
                chosen = per_output(along(given, y_pred, what), names, count, what)
            for i, own in enumerate(chosen):
                for one in () if own is None else own if isinstance(own, (list, tuple)) else (own,):
                    metric = get_metric(one, targets[i], predictions[i])
                    prefix = f"{names[i]}_" if names and count > 1 else ""
                    title = f"{prefix}{metric.name}"
                    if title in taken and weighted:
                        title = f"{prefix}weighted_{metric.name}"
                    base, number = title, 1
                    while title in taken:
                        title, number = f"{base}_{number}", number + 1
                    taken.add(title)
                    self._parts.append((i, metric, title, weighted))
        self._plain = [m for _, m, _, _ in self._parts] if count == 1 and not any(w for *_, w in self._parts) else None

    @property
    def metrics(self) -> list[Metric]:
        """The metrics, once they are made."""
        return [m for _, m, _, _ in self._parts or ()]

    @property
    def variables(self) -> list[Any]:
        """The state of all metrics."""
        return [v for m in self.metrics for v in m.variables]

    def result(self) -> dict[str, Any]:
        """Returns the results by name."""
        found: dict[str, Any] = {}
        for _, metric, title, _ in self._parts or ():
            value = metric.result()
            found.update(value if isinstance(value, dict) else {title: value})
        return found

    def reset_state(self) -> None:
        """Sets all metrics back."""
        for metric in self.metrics:
            metric.reset_state()
