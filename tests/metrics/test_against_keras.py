"""Every metric against Keras, over several updates: plain, weighted, masked; configs and names."""

import os

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
import numpy as np
import pytest
import torch

from hornbeam import metrics

pytestmark = pytest.mark.oracle
RNG = np.random.default_rng(11)


def uniform(*shape):
    return RNG.uniform(0.02, 0.98, shape).astype("float32")


def normal(*shape):
    return RNG.normal(size=shape).astype("float32")


def bits(*shape):
    return (RNG.random(shape) > 0.5).astype("float32")


def one_hot(*shape):
    return np.eye(shape[-1], dtype="float32")[RNG.integers(0, shape[-1], shape[:-1])]


def ids(high, *shape):
    return RNG.integers(0, high, shape)


def rounded(*shape):
    return RNG.integers(0, 11, shape).astype("float32") / 10


def two(make_true, make_pred):
    return [(make_true(), make_pred()) for _ in range(2)]


LOGITS = {"from_logits": True}
CASES = [
    ("MeanSquaredError", {}, two(lambda: normal(6, 4), lambda: normal(6, 4))),
    ("MeanSquaredError", {}, two(lambda: normal(6), lambda: normal(6, 1))),
    ("RootMeanSquaredError", {}, two(lambda: normal(6, 4), lambda: normal(6, 4))),
    ("MeanAbsoluteError", {}, two(lambda: normal(6, 4), lambda: normal(6, 4))),
    ("MeanAbsolutePercentageError", {}, two(lambda: normal(6, 4), lambda: normal(6, 4))),
    ("MeanSquaredLogarithmicError", {}, two(lambda: normal(6, 4), lambda: normal(6, 4))),
    ("CosineSimilarity", {}, two(lambda: normal(6, 4), lambda: normal(6, 4))),
    ("LogCoshError", {}, two(lambda: normal(6, 4), lambda: normal(6, 4))),
    ("KLDivergence", {}, two(lambda: uniform(6, 4), lambda: uniform(6, 4))),
    ("Poisson", {}, two(lambda: uniform(6, 4), lambda: uniform(6, 4))),
    ("Hinge", {}, two(lambda: bits(6, 4), lambda: normal(6, 4))),
    ("SquaredHinge", {}, two(lambda: bits(6, 4), lambda: normal(6, 4))),
    ("CategoricalHinge", {}, two(lambda: one_hot(6, 4), lambda: normal(6, 4))),
    ("BinaryCrossentropy", {"label_smoothing": 0.1}, two(lambda: bits(6, 4), lambda: uniform(6, 4))),
    ("CategoricalCrossentropy", LOGITS, two(lambda: one_hot(6, 4), lambda: normal(6, 4))),
    ("SparseCategoricalCrossentropy", LOGITS, two(lambda: ids(4, 6), lambda: normal(6, 4))),
    ("SparseCategoricalCrossentropy", {"ignore_class": 0}, two(lambda: ids(4, 6), lambda: uniform(6, 4))),
    ("PearsonCorrelation", {}, two(lambda: normal(6, 4), lambda: normal(6, 4))),
    ("ConcordanceCorrelation", {}, two(lambda: normal(6, 4), lambda: normal(6, 4))),
    ("Accuracy", {}, two(lambda: ids(3, 6), lambda: ids(3, 6, 1))),
    ("BinaryAccuracy", {}, two(lambda: bits(6, 3), lambda: uniform(6, 3))),
    ("BinaryAccuracy", {"threshold": 0.4}, two(lambda: bits(6), lambda: rounded(6, 1))),
    ("CategoricalAccuracy", {}, two(lambda: one_hot(6, 4), lambda: normal(6, 4))),
    ("SparseCategoricalAccuracy", {}, two(lambda: ids(4, 6), lambda: normal(6, 4))),
    ("SparseCategoricalAccuracy", {}, two(lambda: ids(4, 6, 1).astype("float32"), lambda: normal(6, 4))),
    ("SparseCategoricalAccuracy", {}, two(lambda: ids(4, 6, 2), lambda: normal(6, 2, 4))),
    ("TopKCategoricalAccuracy", {"k": 2}, two(lambda: one_hot(6, 4), lambda: rounded(6, 4))),
    ("SparseTopKCategoricalAccuracy", {"k": 2}, two(lambda: ids(4, 6), lambda: rounded(6, 4))),
    ("SparseTopKCategoricalAccuracy", {"k": 1, "from_sorted_ids": True}, two(lambda: ids(4, 6), lambda: ids(4, 6, 3))),
    *[
        (name, options, two(lambda: bits(6, 3), lambda: rounded(6, 3)))
        for name in ("TruePositives", "FalsePositives", "TrueNegatives", "FalseNegatives", "Precision", "Recall")
        for options in ({}, {"thresholds": 0.3}, {"thresholds": [0.6, 0.2, 0.2, 1.0, 0.0]})
    ],
    ("Precision", {"top_k": 2}, two(lambda: bits(6, 4), lambda: uniform(6, 4))),
    ("Recall", {"top_k": 2, "thresholds": 0.5}, two(lambda: bits(6, 4), lambda: uniform(6, 4))),
    ("Precision", {"class_id": 1}, two(lambda: bits(6, 4), lambda: uniform(6, 4))),
    ("Recall", {"class_id": 1, "top_k": 2}, two(lambda: bits(6, 4), lambda: uniform(6, 4))),
    *[
        ("AUC", {"curve": curve, "summation_method": method}, two(lambda: bits(40), lambda: uniform(40)))
        for curve in ("ROC", "PR", "PRGAIN")
        for method in ("interpolation", "minoring", "majoring")
    ],
    ("AUC", {"num_thresholds": 201}, two(lambda: bits(60), lambda: RNG.integers(0, 101, 60).astype("float32") / 100)),
    ("AUC", {"num_thresholds": 3}, two(lambda: bits(40), lambda: rounded(40))),
    ("AUC", {"thresholds": [0.5, 0.2]}, two(lambda: bits(40), lambda: uniform(40))),
    ("AUC", LOGITS, two(lambda: bits(40), lambda: normal(40))),
    ("AUC", {"multi_label": True, "curve": "PR"}, two(lambda: bits(20, 3), lambda: uniform(20, 3))),
    ("AUC", {"multi_label": True, "num_labels": 3, "label_weights": [1, 2, 3]}, two(lambda: bits(20, 3), lambda: uniform(20, 3))),
    ("AUC", {"label_weights": [1.0, 2.0, 3.0]}, two(lambda: bits(20, 3), lambda: uniform(20, 3))),
    *[
        (name, {argument: value, **more}, two(lambda: bits(30), lambda: uniform(30)))
        for name, argument in (
            ("SensitivityAtSpecificity", "specificity"), ("SpecificityAtSensitivity", "sensitivity"),
            ("PrecisionAtRecall", "recall"), ("RecallAtPrecision", "precision"),
        )
        for value, more in ((0.5, {}), (0.8, {"num_thresholds": 7}), (0.6, {"num_thresholds": 1}), (1.0, {}))
    ],
    ("PrecisionAtRecall", {"recall": 0.5, "class_id": 1}, two(lambda: bits(30, 3), lambda: rounded(30, 3))),
    ("IoU", {"num_classes": 4, "target_class_ids": [0, 2]}, two(lambda: ids(4, 9), lambda: ids(4, 9))),
    ("IoU", {"num_classes": 5, "target_class_ids": [0, 4]}, two(lambda: ids(4, 9), lambda: ids(4, 9))),
    ("IoU", {"num_classes": 3, "target_class_ids": [0], "sparse_y_pred": False}, two(lambda: ids(3, 8), lambda: uniform(8, 3))),
    ("MeanIoU", {"num_classes": 4}, two(lambda: ids(4, 3, 5), lambda: ids(4, 3, 5))),
    ("MeanIoU", {"num_classes": 4, "ignore_class": 1}, two(lambda: ids(4, 9), lambda: ids(4, 9))),
    ("MeanIoU", {"num_classes": 4, "ignore_class": -1}, two(lambda: ids(5, 9) - 1, lambda: ids(4, 9))),
    ("BinaryIoU", {"threshold": 0.3, "target_class_ids": [1]}, two(lambda: bits(3, 5), lambda: rounded(3, 5))),
    ("OneHotIoU", {"num_classes": 3, "target_class_ids": [0, 2]}, two(lambda: one_hot(9, 3), lambda: uniform(9, 3))),
    ("OneHotMeanIoU", {"num_classes": 3}, two(lambda: one_hot(9, 3), lambda: uniform(9, 3))),
    *[
        ("FBetaScore", {"average": average, "beta": 2.0, "threshold": threshold}, two(lambda: bits(9, 3), lambda: uniform(9, 3)))
        for average in (None, "micro", "macro", "weighted")
        for threshold in (None, 0.4)
    ],
    ("F1Score", {}, two(lambda: one_hot(9, 3), lambda: rounded(9, 3))),
    *[
        ("R2Score", {"class_aggregation": how, "num_regressors": regressors}, two(lambda: normal(5, 3), lambda: normal(5, 3)))
        for how in (None, "uniform_average", "variance_weighted_average")
        for regressors in (0, 2)
    ],
]  # fmt: skip
IDS = [f"{name}-{i}" for i, (name, *_) in enumerate(CASES)]
OVERLAPS = ("IoU", "MeanIoU", "BinaryIoU", "OneHotIoU", "OneHotMeanIoU")


def numpy(x):
    return x.detach().numpy() if isinstance(x, torch.Tensor) else np.asarray(x)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("name", "options", "batches"), CASES, ids=IDS)
def test_values_over_two_batches(name, options, batches, weighted):
    options = {**options, "dtype": "float32"} if name in OVERLAPS else options  # Keras cuts weights to integers otherwise
    ours, theirs = getattr(metrics, name)(**options), getattr(keras.metrics, name)(**options)
    for y_true, y_pred in batches:
        weight = uniform(len(y_true)) if weighted else None
        if weighted and name in OVERLAPS and y_true.ndim > 1 and "OneHot" not in name:
            weight = uniform(*y_true.shape)
        if weighted and name == "RootMeanSquaredError":
            weight = uniform(*y_true.shape)
        ours.update_state(y_true, torch.tensor(y_pred), sample_weight=weight)
        theirs.update_state(y_true, torch.tensor(y_pred), sample_weight=weight)
        np.testing.assert_allclose(numpy(ours.result()), numpy(theirs.result()), rtol=2e-5, atol=2e-6)
    assert ours.result().dtype is torch.float32
    assert tuple(ours.result().shape) == tuple(theirs.result().shape)
    assert [(v.name, tuple(v.shape)) for v in ours.variables] == [(v.name, tuple(v.shape)) for v in theirs.variables]
    ours.reset_state()
    assert all((v == 0).all() for v in ours.variables)


@pytest.mark.parametrize(
    ("name", "shapes"),
    [
        ("Mean", [(4,), (4, 1), (4, 3), ()]),
        ("Sum", [(4, 1), (4, 3), ()]),
        ("MeanSquaredError", [(4,), (4, 1), ()]),
        ("BinaryAccuracy", [(4,), (4, 1), (4, 3), ()]),
    ],
)
def test_shapes_of_weights(name, shapes):
    values = (uniform(4, 3),) if name in ("Mean", "Sum") else (bits(4, 3), uniform(4, 3))
    for shape in shapes:
        ours, theirs = getattr(metrics, name)(), getattr(keras.metrics, name)()
        weight = uniform(*shape) if shape else 1.5
        for _ in range(2):
            expected = theirs(*values, sample_weight=weight)
            np.testing.assert_allclose(numpy(ours(*values, sample_weight=weight)), numpy(expected), rtol=1e-5)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kept", ["some", "none"])
def test_masks(kept, weighted):
    y_true, y_pred = normal(4, 3, 2), normal(4, 3, 2)
    mask = RNG.random((4, 3)) > 0.4 if kept == "some" else np.zeros((4, 3), bool)
    results = []
    for module in (metrics, keras.metrics):
        pred = torch.tensor(y_pred)
        pred._keras_mask = torch.tensor(mask)
        results.append(
            numpy(module.MeanSquaredError()(y_true, pred, sample_weight=np.arange(12.0).reshape(4, 3) if weighted else None))
        )
    np.testing.assert_allclose(*results, rtol=1e-5)


@pytest.mark.parametrize("name", sorted({c[0] for c in CASES} | {"Mean", "Sum"}))
def test_configs_and_names(name):
    options = next((c[1] for c in CASES if c[0] == name), {})
    keras.utils.clear_session()
    from hornbeam.core.registry import reset_names

    reset_names()
    ours, theirs = getattr(metrics, name)(**options), getattr(keras.metrics, name)(**options)
    assert ours.get_config() == theirs.get_config()
    assert metrics.serialize(ours) == keras.metrics.serialize(theirs)
    assert (ours.name, ours.dtype) == (theirs.name, theirs.dtype)
    assert [v.path for v in ours.variables] == [v.path for v in theirs.variables]
    again = metrics.deserialize(metrics.serialize(ours))
    assert type(again) is type(ours)
    assert again.get_config() == ours.get_config()
    assert type(metrics.get(keras.metrics.serialize(theirs))) is type(ours)
    assert ours.get_config() == type(ours).from_config(ours.get_config()).get_config()


def test_every_public_name_and_alias():
    assert [n for n in dir(keras.metrics) if not n.startswith("_") and not hasattr(metrics, n)] == []
    for alias in (
        "mse",
        "MSE",
        "mae",
        "MAE",
        "mape",
        "MAPE",
        "msle",
        "MSLE",
        "bce",
        "BCE",
        "accuracy",
        "auc",
        "f1_score",
        "mean",
    ):
        assert type(metrics.get(alias)).__name__ == type(keras.metrics.get(alias)).__name__
    assert metrics.serialize(metrics.binary_accuracy) == keras.metrics.serialize(keras.metrics.binary_accuracy)
    assert metrics.deserialize(metrics.serialize(metrics.binary_accuracy)) is metrics.binary_accuracy


FUNCTIONS = [
    ("binary_accuracy", bits(6, 3), rounded(6, 3)), ("categorical_accuracy", one_hot(6, 4), uniform(6, 4)),
    ("sparse_categorical_accuracy", ids(4, 6, 1), uniform(6, 4)), ("top_k_categorical_accuracy", one_hot(6, 8), uniform(6, 8)),
    ("sparse_top_k_categorical_accuracy", ids(8, 6, 1), uniform(6, 8)), ("pearson_correlation", normal(6, 4), normal(6, 4)),
    ("concordance_correlation", normal(6, 4), normal(6, 4)), ("mean_squared_error", normal(6, 4), normal(6, 4)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "y_true", "y_pred"), FUNCTIONS, ids=[f[0] for f in FUNCTIONS])
def test_functions(name, y_true, y_pred):
    expected = numpy(getattr(keras.metrics, name)(y_true, y_pred))
    for convert in (lambda x: x, torch.tensor):
        found = getattr(metrics, name)(convert(y_true), convert(y_pred))
        np.testing.assert_allclose(numpy(found), expected, rtol=1e-5, atol=1e-6)
        assert found.shape == expected.shape
        assert found.dtype is torch.float32


def test_wrapper_config_is_that_of_keras():
    ours = metrics.MeanMetricWrapper(metrics.huber, name="h", delta=2.0)
    theirs = keras.metrics.MeanMetricWrapper(keras.metrics.huber, name="h", delta=2.0)
    assert ours.get_config() == theirs.get_config()
    again = metrics.MeanMetricWrapper.from_config(ours.get_config())
    assert float(again([[0.0]], [[3.0]])) == float(theirs(np.zeros((1, 1)), 3 * np.ones((1, 1)))) == 4.0
