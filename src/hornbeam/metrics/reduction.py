"""Means and sums of values over batches, and the class that makes a metric of a function."""

from __future__ import annotations

from typing import Any

import torch

from hornbeam.core import dtype as dtypes
from hornbeam.core.registry import serialize_keras_object
from hornbeam.losses.arguments import align, as_float, as_tensor, pair, returned
from hornbeam.losses.loss import LOSSES
from hornbeam.metrics.metric import METRICS, SumOverBatches, ratio


def as_weight(weight: Any, values: torch.Tensor, name: str, dtype: torch.dtype) -> torch.Tensor:
    """Returns a sample weight on the device of the values, with the rank that lets it be multiplied by them."""
    return align(torch.as_tensor(weight, device=values.device).to(dtype), values, name, "sample_weight")


def weighted_sums(values: torch.Tensor, weight: Any, name: str, wide: torch.dtype) -> tuple[torch.Tensor, torch.Tensor | float]:
    """Returns the sum of weighted values and the sum of the weights. Axes that the weight lacks are averaged first."""
    if weight is None:
        return values.sum(dtype=wide), float(values.numel())
    weight = torch.as_tensor(weight, device=values.device)
    if weight.ndim < values.ndim and weight.shape == values.shape[: weight.ndim]:
        values = values.to(wide).mean(tuple(range(weight.ndim, values.ndim)))
    mask = getattr(values, "_keras_mask", None)
    weight = as_weight(weight, values, name, wide)
    if mask is not None:
        weight = weight * align(mask.to(wide), values, name, "a mask")
    return (values * weight).sum(), weight.broadcast_to(torch.broadcast_shapes(weight.shape, values.shape)).sum()


class Mean(SumOverBatches):
    """The weighted mean of all values seen.

    Args:
        name: a name.
        dtype: the dtype of the result.

    >>> m = Mean()
    >>> m.update_state([1.0, 3.0]); m.update_state([8.0])
    >>> float(m.result())
    4.0
    """

    total: Any
    count: Any

    def __init__(self, name: str | None = "mean", dtype: Any = None) -> None:
        super().__init__(name=name, dtype=dtype)
        self._add_state((), "total", "count")

    def update_state(self, values: Any, sample_weight: Any = None) -> None:  # type: ignore[override]
        """Takes values into the mean.

        Args:
            values: tensor, array or number.
            sample_weight: weights, or None.
        """
        self._add(self.tally(values, sample_weight))

    def tally(self, values: Any, sample_weight: Any = None) -> tuple[Any, ...]:
        """Returns the sum of the values and of the weights."""
        return weighted_sums(as_tensor(values), sample_weight, self.name, self._wide)

    def result(self) -> torch.Tensor:
        """Returns the mean; 0 before any value."""
        return self._finish(ratio(self.total, self.count))


class Sum(SumOverBatches):
    """The weighted sum of all values seen.

    Args:
        name: a name.
        dtype: the dtype of the result.

    >>> m = Sum()
    >>> m.update_state([1.0, 3.0]); m.update_state([8.0])
    >>> float(m.result())
    12.0
    """

    total: Any

    def __init__(self, name: str | None = "sum", dtype: Any = None) -> None:
        super().__init__(name=name, dtype=dtype)
        self._add_state((), "total")

    def update_state(self, values: Any, sample_weight: Any = None) -> None:  # type: ignore[override]
        """Takes values into the sum.

        Args:
            values: tensor, array or number.
            sample_weight: weights, or None.
        """
        self._add(self.tally(values, sample_weight))

    def tally(self, values: Any, sample_weight: Any = None) -> tuple[Any, ...]:
        """Returns the weighted sum of the values."""
        values = as_tensor(values)
        if sample_weight is None:
            return (values.sum(dtype=self._wide),)
        return ((values * as_weight(sample_weight, values, self.name, self._wide)).sum(),)

    def result(self) -> torch.Tensor:
        """Returns the sum."""
        return self._finish(self.total)


class MeanMetricWrapper(Mean):
    """The mean of what a function `fn(y_true, y_pred, **kwargs)` returns for each sample.

    Args:
        fn: the function.
        name: a name; that of the class, numbered, unless given.
        dtype: the dtype of the result.
        **kwargs: further arguments of the function.

    >>> m = MeanMetricWrapper(lambda y_true, y_pred, scale: scale * (y_true - y_pred), name="bias", scale=2.0)
    >>> float(m([3.0], [1.0]))
    4.0
    """

    _fn: Any = None

    def __init__(self, fn: Any, name: str | None = None, dtype: Any = None, **kwargs: Any) -> None:
        super().__init__(name=name, dtype=dtype)
        self._fn, self._fn_kwargs = fn, kwargs
        self._keeps_dtypes = getattr(fn, "__module__", "").startswith("hornbeam.")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:  # type: ignore[override]
        """Takes a batch into the mean.

        Args:
            y_true: targets.
            y_pred: predictions; a mask on them (`_keras_mask`) leaves the places where it is False out.
            sample_weight: weights, or None.
        """
        self._add(self.tally(y_true, y_pred, sample_weight))

    def tally(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> tuple[Any, ...]:  # type: ignore[override]
        """Returns the sum of the function's values and of the weights."""
        mask = getattr(y_pred, "_keras_mask", None)
        values = self._values(y_true, y_pred)
        if mask is not None:
            mask = align(mask.to(values.device, self._wide), values, self.name, "a mask")
            if sample_weight is not None:
                mask = mask * as_weight(sample_weight, values, self.name, self._wide)
            sample_weight = mask
        return weighted_sums(values, sample_weight, self.name, self._wide)

    def _values(self, y_true: Any, y_pred: Any) -> torch.Tensor:
        y_true, y_pred = as_tensor(y_true), as_tensor(y_pred)
        if not self._keeps_dtypes:
            dtype = dtypes.to_torch(self.dtype)
            y_true, y_pred = y_true.to(dtype), y_pred.to(dtype)
        return returned(f"Metric {self.name!r}", self._fn(y_true, y_pred, **self._fn_kwargs))

    def get_config(self) -> dict[str, Any]:
        """Returns the name, the dtype, the function and its arguments."""
        given = {k: serialize_keras_object(v) for k, v in self._fn_kwargs.items()}
        return {"name": self.name, "dtype": self.dtype, "fn": serialize_keras_object(self._fn), **given}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        """Makes a metric of `get_config`'s answer."""
        if "fn" in config:
            config = {**config, "fn": function_named(config["fn"])}
        return cls(**config)


FUNCTIONS: dict[str, Any] = {}


def function_named(identifier: Any) -> Any:
    """Returns a metric or loss function for a name, a config or a function."""
    name = identifier.get("config") if isinstance(identifier, dict) and identifier.get("class_name") == "function" else identifier
    if isinstance(name, str) and name in FUNCTIONS:
        return FUNCTIONS[name]
    return LOSSES.get(identifier)


class FunctionMetric(MeanMetricWrapper):
    """The base of the built-in means: a function, and the names of its arguments that are attributes of the metric."""

    fn: Any = None
    _options: tuple[str, ...] = ()
    _float_prediction = True

    def __init__(self, name: str | None = None, dtype: Any = None) -> None:
        Mean.__init__(self, name=name, dtype=dtype)

    def _values(self, y_true: Any, y_pred: Any) -> torch.Tensor:
        y_pred = as_float(y_pred)
        if self._float_prediction and y_pred.dtype in (torch.float16, torch.bfloat16):
            y_pred = y_pred.to(dtypes.to_torch(self.dtype))
        return type(self).fn(y_true, y_pred, **{name: getattr(self, name) for name in self._options})

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return SumOverBatches.get_config(self)


class RootMeanSquaredError(Mean):
    """The root of the mean of the squared differences.

    Args:
        name: a name.
        dtype: the dtype of the result.

    >>> float(RootMeanSquaredError()([[0.0], [0.0]], [[3.0], [3.0]]))
    3.0
    """

    def __init__(self, name: str | None = "root_mean_squared_error", dtype: Any = None) -> None:
        super().__init__(name=name, dtype=dtype)

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:  # type: ignore[override]
        """Takes a batch into the mean.

        Args:
            y_true: targets.
            y_pred: predictions of the same shape.
            sample_weight: weights, or None.
        """
        self._add(self.tally(y_true, y_pred, sample_weight))

    def tally(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> tuple[Any, ...]:  # type: ignore[override]
        """Returns the sum of the squared differences and of the weights."""
        y_true, y_pred = pair(self.name, y_true, as_float(y_pred).to(dtypes.to_torch(self.dtype)))
        return super().tally(torch.square(y_true - y_pred), sample_weight)

    def result(self) -> torch.Tensor:
        """Returns the root of the mean."""
        return self._finish(ratio(self.total, self.count).sqrt())


for _class in (Mean, Sum, MeanMetricWrapper, RootMeanSquaredError):
    METRICS.add(_class)
