"""Means of hinge losses."""

from __future__ import annotations

from typing import Any

from hornbeam.losses import margin as losses
from hornbeam.metrics.metric import METRICS
from hornbeam.metrics.reduction import FunctionMetric


class Hinge(FunctionMetric):
    """The mean hinge loss.

    Args:
        name: a name.
        dtype: the dtype of the result.

    >>> float(Hinge()([[-1.0], [1.0]], [[0.5], [0.5]]))
    1.0
    """

    fn = staticmethod(losses.hinge)

    def __init__(self, name: str | None = "hinge", dtype: Any = None) -> None:
        super().__init__(name=name, dtype=dtype)


class SquaredHinge(FunctionMetric):
    """The mean squared hinge loss.

    Args:
        name: a name.
        dtype: the dtype of the result.

    >>> float(SquaredHinge()([[-1.0], [1.0]], [[0.5], [0.5]]))
    1.25
    """

    fn = staticmethod(losses.squared_hinge)

    def __init__(self, name: str | None = "squared_hinge", dtype: Any = None) -> None:
        super().__init__(name=name, dtype=dtype)


class CategoricalHinge(FunctionMetric):
    """The mean hinge loss of one-hot targets.

    Args:
        name: a name.
        dtype: the dtype of the result.

    >>> float(CategoricalHinge()([[0.0, 1.0]], [[0.25, 0.75]]))
    0.5
    """

    fn = staticmethod(losses.categorical_hinge)

    def __init__(self, name: str | None = "categorical_hinge", dtype: Any = None) -> None:
        super().__init__(name=name, dtype=dtype)


for _class in (Hinge, SquaredHinge, CategoricalHinge):
    METRICS.add(_class)
