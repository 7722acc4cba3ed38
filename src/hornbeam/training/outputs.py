"""One loss or several, metrics per output: what `compile` was given, matched with what the model returns."""

from __future__ import annotations

from typing import Any

import torch

from hornbeam import losses, metrics
from hornbeam.graph import tree
from hornbeam.losses.loss import Loss, LossFunctionWrapper, reduce_weighted
from hornbeam.metrics.metric import Metric, SumOverBatches
from hornbeam.training import torch_objects
from hornbeam.training.nests import Spread, match, output_names
from hornbeam.training.tracker import LossTracker

_BY_SHAPE = {"accuracy": "Accuracy", "acc": "Accuracy", "crossentropy": "Crossentropy", "ce": "Crossentropy"}


def is_by_shape(identifier: Any) -> bool:
    """Returns whether a loss is named "crossentropy" or "ce": targets and predictions decide which one it is."""
    return isinstance(identifier, str) and _BY_SHAPE.get(identifier.lower()) == "Crossentropy"


def get_loss(identifier: Any, y_true: Any = None, y_pred: Any = None) -> Any:
    """Returns a callable `loss(y_true, y_pred, sample_weight)` with a name, for whatever names or is a loss; None stays None."""
    if identifier is None or isinstance(identifier, torch_objects.TorchLoss):
        return identifier
    if is_by_shape(identifier):
        return losses.get(_variety(y_true, y_pred) + "Crossentropy")
    if isinstance(identifier, type) and issubclass(identifier, torch.nn.Module):
        identifier = identifier()
    if torch_objects.is_loss(identifier):
        return torch_objects.TorchLoss(identifier)
    found = losses.get(identifier)
    if isinstance(found, Loss):
        return found
    name = identifier if isinstance(identifier, str) else getattr(found, "__name__", type(found).__name__)
    return LossFunctionWrapper(found, name="lambda" if name == "<lambda>" else name)


def get_metric(identifier: Any, y_true: torch.Tensor, y_pred: torch.Tensor) -> Metric:
    """Returns a metric; "accuracy" and "crossentropy" become the kind that targets and predictions of these shapes need."""
    if isinstance(identifier, Metric):
        return identifier
    if torch_objects.is_metric(identifier):
        return torch_objects.TorchMetric(identifier)
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


def _is_config(value: Any) -> bool:
    return "class_name" in value


_losses, _loss_weights = Spread("loss", shared=True, is_value=_is_config), Spread("loss_weights", shared=True)
_metrics = Spread("metrics", lists=True, is_value=_is_config)
_weighted = Spread("weighted_metrics", lists=True, is_value=_is_config)


class CompileLoss:
    """The losses of all outputs, weighted and added.

    Args:
        loss: name, loss, function, torch loss module; or a list or dictionary of such.
        loss_weights: numbers, likewise.
        names: the outputs' names, where the model knows them.
        accumulating: an optimizer that accumulates gradients, which is told how much each batch counts; or None.
        as_given: whether the user's own functions get integer targets as they are, and not as floats as in Keras.
    """

    name = "compile_loss"

    def __init__(
        self, loss: Any, loss_weights: Any = None, names: list[str] | None = None, accumulating: Any = None,
        as_given: bool = False,
    ) -> None:  # fmt: skip
        self.as_given = as_given
        self.loss, self.loss_weights, self.known, self.accumulating = loss, loss_weights, names, accumulating
        self.metrics: list[LossTracker] = []
        self.names: Any = None
        self._single: Any = None
        self._parts: Any = None
        self._used: list[int] = []
        if not isinstance(loss, (list, tuple, dict)) and not is_by_shape(loss):
            self.loss = self._made(loss)
            self._single = self.loss if loss_weights is None else None

    def __call__(self, y: Any, y_pred: Any, sample_weight: Any = None) -> torch.Tensor:
        if self.accumulating is not None:
            self.accumulating.batch_weight = weight_of(self._single, y_pred, sample_weight)
        if self._single is not None and isinstance(y_pred, torch.Tensor) and isinstance(y, torch.Tensor):
            return self._single(y, y_pred, sample_weight)
        if self._parts is None:
            self.build(y, y_pred)
        targets, predictions, weights = match(y, y_pred, sample_weight, self.names, self._used)
        total = None
        trackers: list[Any] = self.metrics or [None] * len(self._parts)
        for (index, loss, factor), tracker in zip(self._parts, trackers, strict=True):
            value = loss(targets[index], predictions[index], weights[index])
            if tracker is not None:
                tracker.add(value.detach().mean() if value.ndim else value.detach(), len(predictions[index]))
            value = value if factor is None else value * factor
            total = value if total is None else total + value
        if total is None:
            raise ValueError("`loss` holds no loss for any output.")
        return total

    def build(self, y: Any, y_pred: Any) -> None:
        """Matches losses with outputs, at the first call."""
        self.names = names = output_names(y_pred, self.known)
        chosen = [(i, one) for i, one in _losses.pairs(self.loss, y_pred, names, self.known is not None) if one is not None]
        self._used = sorted(i for i, _ in chosen)
        targets, predictions, _ = match(y, y_pred, None, names, self._used)
        factors = _loss_weights(self.loss_weights, y_pred, names)
        self._parts = [(i, self._made(one, targets[i], predictions[i]), factors[i]) for i, one in chosen]
        if len(self._parts) > 1:
            titles = [names[i] if names and names[i] else loss.name for i, loss, _ in self._parts]
            self.metrics = [
                LossTracker(f"{t if titles.index(t) == i else f'{t}_{titles[:i].count(t)}'}_loss") for i, t in enumerate(titles)
            ]

    def _made(self, identifier: Any, *shapes: Any) -> Any:
        found = get_loss(identifier, *shapes)
        if self.as_given and isinstance(found, LossFunctionWrapper) and found is not identifier:
            found._keeps_integers = True
        return found

    def parts(self, y: Any, y_pred: Any) -> list[tuple[str | None, Any, Any, Any]]:
        """Returns (output name, loss, target, prediction) of each output that has a loss."""
        if self._parts is None:
            self.build(y, y_pred)
        targets, predictions, _ = match(y, y_pred, None, self.names, self._used)
        return [(self.names[i] if self.names else None, loss, targets[i], predictions[i]) for i, loss, _ in self._parts or ()]


def weight_of(loss: Any, y_pred: Any, sample_weight: Any) -> Any:
    """Returns what a batch's loss was divided by: its rows, or with a mask the places that count; None for a sum."""
    first = tree.leaves(y_pred)[0]
    mask, reduction = getattr(first, "_keras_mask", None), getattr(loss, "reduction", None)
    if reduction in ("sum", "none"):
        return None
    if reduction == "mean_with_sample_weight" and isinstance(sample_weight, torch.Tensor):
        return reduce_weighted(torch.ones_like(sample_weight), sample_weight, mask, "sum")
    return len(first) if mask is None else mask.sum().to(torch.float32)


class CompileMetrics:
    """The metrics of all outputs, with and without sample weights.

    Args:
        metrics, weighted_metrics: lists of metrics; per output, lists or dictionaries of such.
        names: the outputs' names, where the model knows them.
    """

    name = "compile_metrics"

    def __init__(self, metrics: Any = None, weighted_metrics: Any = None, names: list[str] | None = None) -> None:
        self.given, self.weighted, self.known = metrics, weighted_metrics, names
        self.names: Any = None
        self._parts: Any = None
        self._plain: list[Any] | None = None
        self.complete = False

    def update_state(self, y: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Takes a batch into all metrics."""
        if self._parts is None:
            self.build(y, y_pred)
        if self._plain is not None and isinstance(y_pred, torch.Tensor) and isinstance(y, torch.Tensor):
            for metric in self._plain:
                metric.update_state(y, y_pred)
            return
        targets, predictions, weights = match(y, y_pred, sample_weight, self.names)
        for index, metric, _, weighted in self._parts:
            metric.update_state(targets[index], predictions[index], weights[index] if weighted else None)

    def make_state(self, y: Any, y_pred: Any) -> None:
        """Lets metrics make all the state that they would make at their first update."""
        if self._parts is None:
            self.build(y, y_pred)
        targets, predictions, _ = match(y, y_pred, None, self.names)
        with torch.no_grad():
            for index, metric, *_ in self._parts:
                if isinstance(metric, SumOverBatches):
                    metric.tally(targets[index], predictions[index], None)
        self.complete = True

    def build(self, y: Any, y_pred: Any) -> None:
        """Matches metrics with outputs and makes them, at the first batch."""
        self.names = names = output_names(y_pred, self.known)
        targets, predictions, _ = match(y, y_pred, None, names)
        count = len(predictions)
        self._parts, taken = [], set()
        for given, weighted in ((self.given, False), (self.weighted, True)):
            for i, own in enumerate((_weighted if weighted else _metrics)(given, y_pred, names)):
                for one in own if isinstance(own, (list, tuple)) else (own,):
                    if one is None:
                        continue
                    metric = get_metric(one, targets[i], predictions[i])
                    prefix = f"{names[i]}_" if names and names[i] and count > 1 else ""
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
