"""What PyTorch users have: torch's loss modules and functions, and torchmetrics' metrics, called as Keras calls its own."""

from __future__ import annotations

import copy
import functools
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from hornbeam.core.errors import describe
from hornbeam.core.registry import snake_case
from hornbeam.losses.loss import reduce_weighted
from hornbeam.metrics.metric import Metric

_BY_CLASS = (nn.CrossEntropyLoss, nn.NLLLoss, nn.MultiMarginLoss)
_ELEMENTWISE = (
    nn.MSELoss, nn.L1Loss, nn.SmoothL1Loss, nn.HuberLoss, nn.BCELoss, nn.BCEWithLogitsLoss, nn.KLDivLoss, nn.PoissonNLLLoss,
    nn.SoftMarginLoss, nn.MultiLabelSoftMarginLoss,
)  # fmt: skip
_FUNCTIONS_BY_CLASS = (F.cross_entropy, F.nll_loss, F.multi_margin_loss)


def is_loss(thing: Any) -> bool:
    """Returns whether something is a torch loss: a module, or a function of torch.nn.functional, as such or in a partial."""
    function = thing.func if isinstance(thing, functools.partial) else thing
    name = getattr(function, "__name__", None)
    return isinstance(thing, nn.Module) or (isinstance(name, str) and getattr(F, name, None) is function)


class TorchLoss:
    """A torch loss `f(y_pred, y_true)`, called as Keras calls a loss. Its own reduction holds; with sample weights and masks the
    values of the single samples are weighted first.

    Classes may lie on the last axis, as Keras has them, or on axis 1, as torch has them. Targets get the dtype that is needed.

    Args:
        loss: a module such as `torch.nn.CrossEntropyLoss()`, or a function of `torch.nn.functional`.

    >>> loss = TorchLoss(nn.MSELoss())
    >>> loss(torch.tensor([1, 2]), torch.tensor([[1.0], [4.0]]), torch.tensor([1.0, 0.5]))
    tensor(1.)
    """

    def __init__(self, loss: Any) -> None:
        self.loss = loss
        function = loss.func if isinstance(loss, functools.partial) else loss
        self.name = type(loss).__name__ if isinstance(loss, nn.Module) else function.__name__
        self._by_class = isinstance(loss, _BY_CLASS) or function in _FUNCTIONS_BY_CLASS
        self._elementwise = isinstance(loss, _ELEMENTWISE) or (not isinstance(loss, nn.Module) and not self._by_class)
        self.reduction = getattr(loss, "reduction", None) if isinstance(loss, nn.Module) else "mean"
        self._each: Any = None
        if isinstance(loss, nn.Module) and self.reduction is not None:
            self._each = copy.copy(loss)  # shares weights and buffers
            self._each.reduction = "none"
        elif not isinstance(loss, nn.Module):
            self._each = functools.partial(loss, reduction="none")
            self.reduction = (loss.keywords if isinstance(loss, functools.partial) else {}).get("reduction", "mean")

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> torch.Tensor:
        mask = getattr(y_pred, "_keras_mask", None)
        if self._by_class:
            y_true, y_pred = classes_second(y_true, y_pred)
        elif self._elementwise:
            y_true = self._like(y_true, y_pred)
        if sample_weight is None and mask is None:
            values = self.loss(y_pred, y_true)
            return values if values.ndim == 0 else values.mean()
        values = self._values(y_pred, y_true)
        if self.reduction in ("sum", "batchmean"):
            total = reduce_weighted(values, sample_weight, mask, "sum", self.name)
            return total if self.reduction == "sum" else total / len(values)
        mean = reduce_weighted(values, sample_weight, mask, "sum_over_batch_size", self.name)
        return mean * (values.numel() / self._class_weights(y_true)) if self._counts_classes(y_true) else mean

    def _values(self, y_pred: torch.Tensor, y_true: torch.Tensor) -> torch.Tensor:
        values = (self._each or self.loss)(y_pred, y_true)
        if values.ndim == 0:
            raise ValueError(
                f"{self.name} returns one number for a whole batch, so it cannot take sample weights or masks: it needs an "
                f"attribute `reduction` that can be 'none', or to return one value per sample."
            )
        return values

    def _like(self, y_true: torch.Tensor, y_pred: torch.Tensor) -> torch.Tensor:
        if y_true.shape != y_pred.shape:
            if y_true.shape != y_pred.shape[:-1] or y_pred.shape[-1] != 1:
                raise ValueError(
                    f"{self.name} needs targets and outputs of one shape. Received: targets of shape {tuple(y_true.shape)} and "
                    f"outputs of shape {tuple(y_pred.shape)}."
                )
            y_true = y_true.unsqueeze(-1)
        return y_true if y_true.dtype is y_pred.dtype or not y_pred.is_floating_point() else y_true.to(y_pred.dtype)

    def _counts_classes(self, y_true: torch.Tensor) -> bool:
        """Whether torch's mean is over weights of classes and not over samples."""
        return self._by_class and isinstance(self.loss, (nn.CrossEntropyLoss, nn.NLLLoss)) and not y_true.is_floating_point()

    def _class_weights(self, y_true: torch.Tensor) -> torch.Tensor:
        ignored = y_true == self.loss.ignore_index
        weight = self.loss.weight
        each = torch.ones_like(y_true, dtype=torch.float32) if weight is None else weight[y_true.masked_fill(ignored, 0)]
        return each.masked_fill(ignored, 0).sum()

    def __repr__(self) -> str:
        return f"<TorchLoss {self.name}>"


def classes_second(y_true: torch.Tensor, y_pred: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns class numbers as int64 without an axis of size 1, and outputs with the classes on axis 1, as torch wants them."""
    if y_pred.ndim == y_true.ndim and y_true.shape[-1] == 1 and y_pred.shape[-1] > 1:
        y_true = y_true.squeeze(-1)
    if y_true.ndim == y_pred.ndim - 1:
        second = y_true.shape == (*y_pred.shape[:1], *y_pred.shape[2:])
        if y_pred.ndim > 2 and not second and y_true.shape == y_pred.shape[:-1]:
            y_pred = y_pred.movedim(-1, 1)
        return y_true.long(), y_pred
    return y_true if y_true.dtype is y_pred.dtype else y_true.to(y_pred.dtype), y_pred


def is_metric(thing: Any) -> bool:
    """Returns whether something is a metric as torchmetrics has them, or a class of such."""
    cls = thing if isinstance(thing, type) else type(thing)
    return issubclass(cls, nn.Module) and all(callable(getattr(cls, name, None)) for name in ("update", "compute", "reset"))


class TorchMetric(Metric):
    """A metric of torchmetrics, or a collection of such: `update(y_pred, y_true)`, `compute()`, `reset()`.

    It takes no sample weights. A metric that returns a dictionary has one result for each of its keys.

    Args:
        metric: the metric, or its class.
        name: a name; the class's name in snake case unless given.
    """

    def __init__(self, metric: Any, name: str | None = None) -> None:
        self.metric = metric() if isinstance(metric, type) else metric
        super().__init__(name=name or snake_case(type(self.metric).__name__))
        kinds = [type(m).__name__ for m in self.metric.modules()]
        self._classifies = any(k.startswith(("Binary", "Multiclass", "Multilabel")) for k in kinds)

    def update_state(self, y_true: torch.Tensor, y_pred: torch.Tensor, sample_weight: Any = None) -> None:
        """Takes a batch into the state."""
        if sample_weight is not None:
            raise ValueError(f"Metric {self.name!r} is of torchmetrics, which takes no sample weights: list it in `metrics`.")
        if y_pred.shape[-1:] == (1,) and y_true.shape == y_pred.shape[:-1]:
            y_pred = y_pred.squeeze(-1)
        if self._classifies and y_true.shape != y_pred.shape:
            y_true, y_pred = classes_second(y_true, y_pred)
        elif self._classifies:
            y_true = y_true.long()
        self.metric.update(y_pred, y_true)

    def result(self) -> Any:
        """Returns the value so far: a tensor, or a dictionary of such."""
        return self.metric.compute()

    def reset_state(self) -> None:
        """Sets all state back."""
        self.metric.reset()

    def _move(self, device: torch.device) -> None:
        self.metric.to(device)
        self._device = device

    def state_dict(self) -> dict[str, Any]:
        """Returns a copy of the state."""
        return {"metric": copy.deepcopy(self.metric)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Puts back what `state_dict` returned."""
        for mine, kept in zip(self.metric.modules(), copy.deepcopy(state["metric"]).modules(), strict=True):
            for name in (*getattr(kept, "_defaults", ()), "_update_count"):  # what torchmetrics resets, and not its methods
                if hasattr(kept, name):
                    setattr(mine, name, getattr(kept, name))
            if hasattr(mine, "_computed"):
                mine._computed = None

    def get_config(self) -> dict[str, Any]:
        """Raises: a config holds no objects of other libraries."""
        raise TypeError(f"Metric {self.name!r} wraps {describe(self.metric)}, which has no config.")
