"""Means of cross-entropies and of other distances between probabilities."""

from __future__ import annotations

from typing import Any

from hornbeam.losses import crossentropy as losses
from hornbeam.metrics.metric import METRICS
from hornbeam.metrics.reduction import FunctionMetric


class BinaryCrossentropy(FunctionMetric):
    """The mean cross-entropy of yes-or-no targets.

    Args:
        name: a name.
        dtype: the dtype of the result.
        from_logits: whether the predictions are logits; else they are probabilities.
        label_smoothing: how far targets are moved towards an even guess, from 0 to 1.

    >>> round(float(BinaryCrossentropy()([[1.0], [0.0]], [[0.5], [0.5]])), 4)
    0.6931
    """

    fn = staticmethod(losses.binary_crossentropy)
    _options = ("from_logits", "label_smoothing")

    def __init__(
        self,
        name: str | None = "binary_crossentropy",
        dtype: Any = None,
        from_logits: bool = False,
        label_smoothing: float = 0,
    ) -> None:
        super().__init__(name=name, dtype=dtype)
        self.from_logits, self.label_smoothing = from_logits, label_smoothing


class CategoricalCrossentropy(FunctionMetric):
    """The mean cross-entropy of one-hot targets.

    Args:
        name: a name.
        dtype: the dtype of the result.
        from_logits: whether the predictions are logits; else they are probabilities.
        label_smoothing: how far targets are moved towards an even guess, from 0 to 1.
        axis: the class axis.

    >>> round(float(CategoricalCrossentropy()([[0.0, 1.0]], [[0.5, 0.5]])), 4)
    0.6931
    """

    fn = staticmethod(losses.categorical_crossentropy)
    _options = ("from_logits", "label_smoothing", "axis")

    def __init__(
        self,
        name: str | None = "categorical_crossentropy",
        dtype: Any = None,
        from_logits: bool = False,
        label_smoothing: float = 0,
        axis: int = -1,
    ) -> None:
        super().__init__(name=name, dtype=dtype)
        self.from_logits, self.label_smoothing, self.axis = from_logits, label_smoothing, axis


class SparseCategoricalCrossentropy(FunctionMetric):
    """The mean cross-entropy of class numbers.

    Args:
        name: a name.
        dtype: the dtype of the result.
        from_logits: whether the predictions are logits; else they are probabilities.
        ignore_class: a class number that marks places to leave out.
        axis: the class axis.

    >>> round(float(SparseCategoricalCrossentropy()([1], [[0.5, 0.5]])), 4)
    0.6931
    """

    fn = staticmethod(losses.sparse_categorical_crossentropy)
    _options = ("from_logits", "ignore_class", "axis")

    def __init__(
        self,
        name: str | None = "sparse_categorical_crossentropy",
        dtype: Any = None,
        from_logits: bool = False,
        ignore_class: int | None = None,
        axis: int = -1,
    ) -> None:
        super().__init__(name=name, dtype=dtype)
        self.from_logits, self.ignore_class, self.axis = from_logits, ignore_class, axis


class KLDivergence(FunctionMetric):
    """The mean Kullback-Leibler divergence of predicted from true probabilities.

    Args:
        name: a name.
        dtype: the dtype of the result.

    >>> float(KLDivergence()([[0.5, 0.5]], [[0.5, 0.5]]))
    0.0
    """

    fn = staticmethod(losses.kl_divergence)

    def __init__(self, name: str | None = "kl_divergence", dtype: Any = None) -> None:
        super().__init__(name=name, dtype=dtype)


class Poisson(FunctionMetric):
    """The mean Poisson likelihood of counts.

    Args:
        name: a name.
        dtype: the dtype of the result.

    >>> round(float(Poisson()([[2.0]], [[1.0]])), 4)
    1.0
    """

    fn = staticmethod(losses.poisson)

    def __init__(self, name: str | None = "poisson", dtype: Any = None) -> None:
        super().__init__(name=name, dtype=dtype)


for _class, _aliases in {
    BinaryCrossentropy: ("bce", "BCE"),
    CategoricalCrossentropy: (),
    SparseCategoricalCrossentropy: (),
    KLDivergence: (),
    Poisson: (),
}.items():
    METRICS.add(_class, *_aliases)
