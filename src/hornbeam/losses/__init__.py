"""Losses: what training makes small. One value per sample from the functions, one number from the classes."""

from __future__ import annotations

from typing import Any

from hornbeam.core.registry import custom_object_scope, serialize_keras_object
from hornbeam.losses.contrastive import Circle as Circle
from hornbeam.losses.contrastive import circle as circle
from hornbeam.losses.crossentropy import binary_crossentropy as binary_crossentropy
from hornbeam.losses.crossentropy import binary_focal_crossentropy as binary_focal_crossentropy
from hornbeam.losses.crossentropy import categorical_crossentropy as categorical_crossentropy
from hornbeam.losses.crossentropy import categorical_focal_crossentropy as categorical_focal_crossentropy
from hornbeam.losses.crossentropy import categorical_generalized_cross_entropy as categorical_generalized_cross_entropy
from hornbeam.losses.crossentropy import kl_divergence as kl_divergence
from hornbeam.losses.crossentropy import poisson as poisson
from hornbeam.losses.crossentropy import sparse_categorical_crossentropy as sparse_categorical_crossentropy
from hornbeam.losses.loss import LOSSES as LOSSES
from hornbeam.losses.loss import Loss as Loss
from hornbeam.losses.loss import LossFunctionWrapper as LossFunctionWrapper
from hornbeam.losses.margin import CategoricalHinge as CategoricalHinge
from hornbeam.losses.margin import Hinge as Hinge
from hornbeam.losses.margin import SquaredHinge as SquaredHinge
from hornbeam.losses.margin import categorical_hinge as categorical_hinge
from hornbeam.losses.margin import hinge as hinge
from hornbeam.losses.margin import squared_hinge as squared_hinge
from hornbeam.losses.overlap import Dice as Dice
from hornbeam.losses.overlap import Tversky as Tversky
from hornbeam.losses.overlap import dice as dice
from hornbeam.losses.overlap import tversky as tversky
from hornbeam.losses.probabilistic import BinaryCrossentropy as BinaryCrossentropy
from hornbeam.losses.probabilistic import BinaryFocalCrossentropy as BinaryFocalCrossentropy
from hornbeam.losses.probabilistic import CategoricalCrossentropy as CategoricalCrossentropy
from hornbeam.losses.probabilistic import CategoricalFocalCrossentropy as CategoricalFocalCrossentropy
from hornbeam.losses.probabilistic import CategoricalGeneralizedCrossEntropy as CategoricalGeneralizedCrossEntropy
from hornbeam.losses.probabilistic import KLDivergence as KLDivergence
from hornbeam.losses.probabilistic import Poisson as Poisson
from hornbeam.losses.probabilistic import SparseCategoricalCrossentropy as SparseCategoricalCrossentropy
from hornbeam.losses.regression import CosineSimilarity as CosineSimilarity
from hornbeam.losses.regression import Huber as Huber
from hornbeam.losses.regression import LogCosh as LogCosh
from hornbeam.losses.regression import MeanAbsoluteError as MeanAbsoluteError
from hornbeam.losses.regression import MeanAbsolutePercentageError as MeanAbsolutePercentageError
from hornbeam.losses.regression import MeanSquaredError as MeanSquaredError
from hornbeam.losses.regression import MeanSquaredLogarithmicError as MeanSquaredLogarithmicError
from hornbeam.losses.regression import cosine_similarity as cosine_similarity
from hornbeam.losses.regression import huber as huber
from hornbeam.losses.regression import log_cosh as log_cosh
from hornbeam.losses.regression import mean_absolute_error as mean_absolute_error
from hornbeam.losses.regression import mean_absolute_percentage_error as mean_absolute_percentage_error
from hornbeam.losses.regression import mean_squared_error as mean_squared_error
from hornbeam.losses.regression import mean_squared_logarithmic_error as mean_squared_logarithmic_error
from hornbeam.losses.sequence import CTC as CTC
from hornbeam.losses.sequence import ctc as ctc


def get(identifier: Any) -> Any:
    """Returns a loss for a name ("mse", "MeanSquaredError"), a config, a class or a callable; None stays None.

    Names in snake case give functions, names of classes give losses.

    >>> get("mse").__name__, type(get("Huber")).__name__
    ('mean_squared_error', 'Huber')
    """
    return LOSSES.get(identifier)


def serialize(loss: Any) -> Any:
    """Returns the config of a loss or loss function."""
    return serialize_keras_object(loss)


def deserialize(name: Any, custom_objects: dict[str, Any] | None = None) -> Any:
    """Makes the loss that a config or a name describes.

    Args:
        name: a config or a name.
        custom_objects: classes and functions by name.
    """
    with custom_object_scope(custom_objects or {}):
        return LOSSES.get(name)
