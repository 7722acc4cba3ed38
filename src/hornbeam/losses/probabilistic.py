"""The probabilistic losses as classes."""

from __future__ import annotations

from typing import Any

from hornbeam.losses import crossentropy as functions
from hornbeam.losses.loss import LOSSES, FunctionLoss


class BinaryCrossentropy(FunctionLoss):
    """The cross-entropy of yes-or-no targets.

    Args:
        from_logits: whether the predictions are logits; else they are probabilities.
        label_smoothing: how far targets are moved towards 0.5, from 0 to 1.
        axis: the axis of the mean.
        reduction: see `Loss`.
        name: a name.
        dtype: see `Loss`.

    >>> round(float(BinaryCrossentropy(from_logits=True)([[1.0], [0.0]], [[0.0], [0.0]])), 4)
    0.6931
    """

    fn = staticmethod(functions.binary_crossentropy)
    _options = ("from_logits", "label_smoothing", "axis")

    def __init__(
        self,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
        reduction: str | None = "sum_over_batch_size",
        name: str = "binary_crossentropy",
        dtype: Any = None,
    ) -> None:
        super().__init__(name, reduction, dtype)
        self.from_logits, self.label_smoothing, self.axis = from_logits, label_smoothing, axis


class BinaryFocalCrossentropy(FunctionLoss):
    """The binary cross-entropy with less weight on easy samples (Lin et al., 2017).

    Args:
        apply_class_balancing: whether class 1 is weighted by `alpha` and class 0 by `1 - alpha`.
        alpha: the weight of class 1.
        gamma: how much less easy samples count.
        from_logits: whether the predictions are logits; else they are probabilities.
        label_smoothing: how far targets are moved towards 0.5, from 0 to 1.
        axis: the axis of the mean.
        reduction: see `Loss`.
        name: a name.
        dtype: see `Loss`.

    >>> round(float(BinaryFocalCrossentropy()([[1.0], [0.0]], [[0.5], [0.5]])), 4)
    0.1733
    """

    fn = staticmethod(functions.binary_focal_crossentropy)
    _options = ("apply_class_balancing", "alpha", "gamma", "from_logits", "label_smoothing", "axis")

    def __init__(
        self,
        apply_class_balancing: bool = False,
        alpha: float = 0.25,
        gamma: float = 2.0,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
        reduction: str | None = "sum_over_batch_size",
        name: str = "binary_focal_crossentropy",
        dtype: Any = None,
    ) -> None:
        super().__init__(name, reduction, dtype)
        self.apply_class_balancing, self.alpha, self.gamma = apply_class_balancing, alpha, gamma
        self.from_logits, self.label_smoothing, self.axis = from_logits, label_smoothing, axis


class CategoricalCrossentropy(FunctionLoss):
    """The cross-entropy of one-hot targets.

    Args:
        from_logits: whether the predictions are logits; else they are probabilities.
        label_smoothing: which part of a target is spread evenly over all classes, from 0 to 1.
        axis: the class axis.
        reduction: see `Loss`.
        name: a name.
        dtype: see `Loss`.

    >>> round(float(CategoricalCrossentropy(from_logits=True)([[0.0, 1.0]], [[0.0, 0.0]])), 4)
    0.6931
    """

    fn = staticmethod(functions.categorical_crossentropy)
    _options = ("from_logits", "label_smoothing", "axis")

    def __init__(
        self,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
        reduction: str | None = "sum_over_batch_size",
        name: str = "categorical_crossentropy",
        dtype: Any = None,
    ) -> None:
        super().__init__(name, reduction, dtype)
        self.from_logits, self.label_smoothing, self.axis = from_logits, label_smoothing, axis


class CategoricalFocalCrossentropy(FunctionLoss):
    """The categorical cross-entropy with less weight on easy samples (Lin et al., 2017).

    Args:
        alpha: one weight, or one for each class.
        gamma: how much less easy samples count.
        from_logits: whether the predictions are logits; else they are probabilities.
        label_smoothing: which part of a target is spread evenly over all classes, from 0 to 1.
        axis: the class axis.
        reduction: see `Loss`.
        name: a name.
        dtype: see `Loss`.

    >>> round(float(CategoricalFocalCrossentropy()([[0.0, 1.0]], [[0.5, 0.5]])), 4)
    0.0433
    """

    fn = staticmethod(functions.categorical_focal_crossentropy)
    _options = ("alpha", "gamma", "from_logits", "label_smoothing", "axis")

    def __init__(
        self,
        alpha: Any = 0.25,
        gamma: float = 2.0,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
        reduction: str | None = "sum_over_batch_size",
        name: str = "categorical_focal_crossentropy",
        dtype: Any = None,
    ) -> None:
        super().__init__(name, reduction, dtype)
        self.alpha, self.gamma = alpha, gamma
        self.from_logits, self.label_smoothing, self.axis = from_logits, label_smoothing, axis


class SparseCategoricalCrossentropy(FunctionLoss):
    """The cross-entropy of targets that are class numbers.

    Args:
        from_logits: whether the predictions are logits; else they are probabilities.
        ignore_class: a class number that marks places to leave out.
        reduction: see `Loss`.
        axis: the class axis.
        name: a name.
        dtype: see `Loss`.

    >>> round(float(SparseCategoricalCrossentropy(from_logits=True)([1], [[0.0, 0.0]])), 4)
    0.6931
    """

    fn = staticmethod(functions.sparse_categorical_crossentropy)
    _options = ("from_logits", "ignore_class", "axis")
    _only_if_changed = ("dtype", "axis")

    def __init__(
        self,
        from_logits: bool = False,
        ignore_class: int | None = None,
        reduction: str | None = "sum_over_batch_size",
        axis: int = -1,
        name: str = "sparse_categorical_crossentropy",
        dtype: Any = None,
    ) -> None:
        super().__init__(name, reduction, dtype)
        self.from_logits, self.ignore_class, self.axis = from_logits, ignore_class, axis


class CategoricalGeneralizedCrossEntropy(FunctionLoss):
    """A loss between cross-entropy and mean absolute error, robust to wrong labels (Zhang and Sabuncu, 2018).

    Args:
        q: between 0 (cross-entropy) and 1 (mean absolute error), both excluded.
        reduction: see `Loss`.
        name: a name.
        dtype: see `Loss`.

    >>> float(CategoricalGeneralizedCrossEntropy()([1], [[0.75, 0.25]]))
    1.0
    """

    fn = staticmethod(functions.categorical_generalized_cross_entropy)
    _options = ("q",)

    def __init__(
        self,
        q: float = 0.5,
        reduction: str | None = "sum_over_batch_size",
        name: str = "categorical_generalized_cross_entropy",
        dtype: Any = None,
    ) -> None:
        if not 0 < q < 1:
            raise ValueError(f"CategoricalGeneralizedCrossEntropy needs a `q` between 0 and 1, both excluded. Received: q={q!r}")
        super().__init__(name, reduction, dtype)
        self.q = q


class KLDivergence(FunctionLoss):
    """The Kullback-Leibler divergence of predicted from true probabilities.

    Args:
        reduction: see `Loss`.
        name: a name.
        dtype: see `Loss`.

    >>> float(KLDivergence()([[0.5, 0.5]], [[0.5, 0.5]]))
    0.0
    """

    fn = staticmethod(functions.kl_divergence)

    def __init__(self, reduction: str | None = "sum_over_batch_size", name: str = "kl_divergence", dtype: Any = None) -> None:
        super().__init__(name, reduction, dtype)


class Poisson(FunctionLoss):
    """The Poisson likelihood of counts.

    Args:
        reduction: see `Loss`.
        name: a name.
        dtype: see `Loss`.

    >>> round(float(Poisson()([[2.0]], [[1.0]])), 4)
    1.0
    """

    fn = staticmethod(functions.poisson)

    def __init__(self, reduction: str | None = "sum_over_batch_size", name: str = "poisson", dtype: Any = None) -> None:
        super().__init__(name, reduction, dtype)


for _function, _aliases in {
    functions.binary_crossentropy: ("bce", "BCE"),
    functions.binary_focal_crossentropy: (),
    functions.categorical_crossentropy: (),
    functions.categorical_focal_crossentropy: (),
    functions.sparse_categorical_crossentropy: (),
    functions.categorical_generalized_cross_entropy: (),
    functions.kl_divergence: ("kld", "KLD"),
    functions.poisson: (),
}.items():
    LOSSES.add(_function, *_aliases)
for _class in (
    BinaryCrossentropy,
    BinaryFocalCrossentropy,
    CategoricalCrossentropy,
    CategoricalFocalCrossentropy,
    SparseCategoricalCrossentropy,
    CategoricalGeneralizedCrossEntropy,
    KLDivergence,
    Poisson,
):
    LOSSES.add(_class)
