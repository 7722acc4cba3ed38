"""Metrics: what is watched while training. State stays on the device; nothing is read until a result is asked for."""

from __future__ import annotations

from typing import Any

from hornbeam.core.registry import custom_object_scope, serialize_keras_object
from hornbeam.losses.crossentropy import binary_crossentropy as binary_crossentropy
from hornbeam.losses.crossentropy import binary_focal_crossentropy as binary_focal_crossentropy
from hornbeam.losses.crossentropy import categorical_crossentropy as categorical_crossentropy
from hornbeam.losses.crossentropy import categorical_focal_crossentropy as categorical_focal_crossentropy
from hornbeam.losses.crossentropy import kl_divergence as kl_divergence
from hornbeam.losses.crossentropy import poisson as poisson
from hornbeam.losses.crossentropy import sparse_categorical_crossentropy as sparse_categorical_crossentropy
from hornbeam.losses.margin import categorical_hinge as categorical_hinge
from hornbeam.losses.margin import hinge as hinge
from hornbeam.losses.margin import squared_hinge as squared_hinge
from hornbeam.losses.regression import huber as huber
from hornbeam.losses.regression import log_cosh as log_cosh
from hornbeam.losses.regression import mean_absolute_error as mean_absolute_error
from hornbeam.losses.regression import mean_absolute_percentage_error as mean_absolute_percentage_error
from hornbeam.losses.regression import mean_squared_error as mean_squared_error
from hornbeam.losses.regression import mean_squared_logarithmic_error as mean_squared_logarithmic_error
from hornbeam.metrics.accuracy import Accuracy as Accuracy
from hornbeam.metrics.accuracy import BinaryAccuracy as BinaryAccuracy
from hornbeam.metrics.accuracy import CategoricalAccuracy as CategoricalAccuracy
from hornbeam.metrics.accuracy import SparseCategoricalAccuracy as SparseCategoricalAccuracy
from hornbeam.metrics.accuracy import SparseTopKCategoricalAccuracy as SparseTopKCategoricalAccuracy
from hornbeam.metrics.accuracy import TopKCategoricalAccuracy as TopKCategoricalAccuracy
from hornbeam.metrics.accuracy import binary_accuracy as binary_accuracy
from hornbeam.metrics.accuracy import categorical_accuracy as categorical_accuracy
from hornbeam.metrics.accuracy import sparse_categorical_accuracy as sparse_categorical_accuracy
from hornbeam.metrics.accuracy import sparse_top_k_categorical_accuracy as sparse_top_k_categorical_accuracy
from hornbeam.metrics.accuracy import top_k_categorical_accuracy as top_k_categorical_accuracy
from hornbeam.metrics.confusion import FalseNegatives as FalseNegatives
from hornbeam.metrics.confusion import FalsePositives as FalsePositives
from hornbeam.metrics.confusion import Precision as Precision
from hornbeam.metrics.confusion import Recall as Recall
from hornbeam.metrics.confusion import TrueNegatives as TrueNegatives
from hornbeam.metrics.confusion import TruePositives as TruePositives
from hornbeam.metrics.correlation import ConcordanceCorrelation as ConcordanceCorrelation
from hornbeam.metrics.correlation import PearsonCorrelation as PearsonCorrelation
from hornbeam.metrics.correlation import concordance_correlation as concordance_correlation
from hornbeam.metrics.correlation import pearson_correlation as pearson_correlation
from hornbeam.metrics.curves import AUC as AUC
from hornbeam.metrics.curves import PrecisionAtRecall as PrecisionAtRecall
from hornbeam.metrics.curves import RecallAtPrecision as RecallAtPrecision
from hornbeam.metrics.curves import SensitivityAtSpecificity as SensitivityAtSpecificity
from hornbeam.metrics.curves import SpecificityAtSensitivity as SpecificityAtSensitivity
from hornbeam.metrics.iou import BinaryIoU as BinaryIoU
from hornbeam.metrics.iou import IoU as IoU
from hornbeam.metrics.iou import MeanIoU as MeanIoU
from hornbeam.metrics.iou import OneHotIoU as OneHotIoU
from hornbeam.metrics.iou import OneHotMeanIoU as OneHotMeanIoU
from hornbeam.metrics.margin import CategoricalHinge as CategoricalHinge
from hornbeam.metrics.margin import Hinge as Hinge
from hornbeam.metrics.margin import SquaredHinge as SquaredHinge
from hornbeam.metrics.metric import METRICS as METRICS
from hornbeam.metrics.metric import Metric as Metric
from hornbeam.metrics.probabilistic import BinaryCrossentropy as BinaryCrossentropy
from hornbeam.metrics.probabilistic import CategoricalCrossentropy as CategoricalCrossentropy
from hornbeam.metrics.probabilistic import KLDivergence as KLDivergence
from hornbeam.metrics.probabilistic import Poisson as Poisson
from hornbeam.metrics.probabilistic import SparseCategoricalCrossentropy as SparseCategoricalCrossentropy
from hornbeam.metrics.reduction import FUNCTIONS as FUNCTIONS
from hornbeam.metrics.reduction import Mean as Mean
from hornbeam.metrics.reduction import MeanMetricWrapper as MeanMetricWrapper
from hornbeam.metrics.reduction import RootMeanSquaredError as RootMeanSquaredError
from hornbeam.metrics.reduction import Sum as Sum
from hornbeam.metrics.regression import CosineSimilarity as CosineSimilarity
from hornbeam.metrics.regression import LogCoshError as LogCoshError
from hornbeam.metrics.regression import MeanAbsoluteError as MeanAbsoluteError
from hornbeam.metrics.regression import MeanAbsolutePercentageError as MeanAbsolutePercentageError
from hornbeam.metrics.regression import MeanSquaredError as MeanSquaredError
from hornbeam.metrics.regression import MeanSquaredLogarithmicError as MeanSquaredLogarithmicError
from hornbeam.metrics.scores import F1Score as F1Score
from hornbeam.metrics.scores import FBetaScore as FBetaScore
from hornbeam.metrics.scores import R2Score as R2Score


def get(identifier: Any) -> Any:
    """Returns a metric for a name ("mse", "AUC"), a config, a class or a callable; None stays None.

    >>> type(get("mae")).__name__
    'MeanAbsoluteError'
    """
    return METRICS.get(identifier)


def serialize(metric: Any) -> Any:
    """Returns the config of a metric or metric function."""
    return serialize_keras_object(metric)


def deserialize(config: Any, custom_objects: dict[str, Any] | None = None) -> Any:
    """Makes the metric that a config or a name describes.

    Args:
        config: a config or a name.
        custom_objects: classes and functions by name.
    """
    with custom_object_scope(custom_objects or {}):
        if isinstance(config, dict) and config.get("class_name") == "function" and config.get("config") in FUNCTIONS:
            return FUNCTIONS[config["config"]]
        return METRICS.get(config)
