"""Training histories against Keras: equal initial weights, no shuffling, three epochs."""

from __future__ import annotations

import os

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
import numpy as np
import pytest
import torch

import hornbeam
from hornbeam.models import Functional

pytestmark = pytest.mark.oracle

torch.set_num_threads(1)
RNG = np.random.default_rng(0)
X = RNG.normal(size=(100, 6)).astype("float32")
NUMBERS = RNG.normal(size=(100, 1)).astype("float32")
CLASSES = RNG.integers(0, 4, 100)
ONE_HOT = np.eye(4, dtype="float32")[CLASSES]
BITS = RNG.integers(0, 2, (100, 1)).astype("float32")
WEIGHTS = RNG.uniform(0.1, 2.0, 100).astype("float32")


def chain(k, units=1, activation=None, **kwargs):
    return k.Sequential(
        [k.Input((6,)), k.layers.Dense(8, activation="tanh", **kwargs), k.layers.Dense(units, activation=activation)]
    )


def two_heads(k, as_dict):
    x = k.Input((6,))
    h = k.layers.Dense(8, activation="relu", name="trunk")(x)
    a, b = k.layers.Dense(1, name="a")(h), k.layers.Dense(4, activation="softmax", name="b")(h)
    return k.Model(x, {"p": a, "q": b} if as_dict else [a, b])


def subclassed(k):
    class Net(k.Model):
        def __init__(self):
            super().__init__()
            self.inner, self.outer = k.layers.Dense(8, activation="relu"), k.layers.Dense(4)

        def call(self, x):
            return self.outer(self.inner(x))

    return Net()


def added_loss(k):
    class Sparse(k.layers.Dense):
        def call(self, x, training=None):
            y = super().call(x)
            self.add_loss(0.01 * (y * y).mean())
            return y

    return k.Sequential([k.Input((6,)), Sparse(8), k.layers.Dense(1)])


def nest(k):
    x = k.Input((6,))
    h = k.layers.Dense(8, activation="relu")(x)
    return k.Model(
        x, {"m": {"u": k.layers.Dense(1)(h), "v": k.layers.Dense(4, activation="softmax")(h)}, "n": k.layers.Dense(1)(h)}
    )


def normalized(k):
    return k.Sequential([k.Input((6,)), k.layers.Dense(8), k.layers.BatchNormalization(), k.layers.ReLU(), k.layers.Dense(1)])


def masked(k):
    steps = [k.Input((6,)), k.layers.Reshape((3, 2)), k.layers.Dense(2, activation="relu", use_bias=False), k.layers.Masking()]
    return k.Sequential([*steps, k.layers.LSTM(4, return_sequences=True), k.layers.Dense(1)])


def by_two(k):
    """Two outputs whose weights and validation come per output."""
    return two_heads(k, True)


SERIES = RNG.normal(size=(100, 3, 1)).astype("float32")
TWO = {"p": NUMBERS, "q": CLASSES}
PER_OUTPUT = {"p": WEIGHTS, "q": 2 - WEIGHTS / 2}
LOSS_OF_TWO = {"p": "mse", "q": "sparse_categorical_crossentropy"}
LOGITS = {"from_logits": True}
CASES = {
    "mse sgd": (chain, NUMBERS, lambda k: {"optimizer": "sgd", "loss": "mse", "metrics": ["mae", "mse"]}, {}),
    "mse momentum": (
        chain,
        NUMBERS,
        lambda k: {"optimizer": k.optimizers.SGD(0.05, momentum=0.9, nesterov=True), "loss": k.losses.MeanSquaredError()},
        {},
    ),
    "mae adam": (chain, NUMBERS, lambda k: {"optimizer": k.optimizers.Adam(0.01), "loss": "mae", "metrics": ["mse"]}, {}),
    "huber rmsprop": (
        chain,
        NUMBERS,
        lambda k: {"optimizer": "rmsprop", "loss": k.losses.Huber(), "metrics": [k.metrics.RootMeanSquaredError()]},
        {},
    ),
    "sparse adam": (
        lambda k: chain(k, 4),
        CLASSES,
        lambda k: {"optimizer": "adam", "loss": k.losses.SparseCategoricalCrossentropy(**LOGITS), "metrics": ["accuracy"]},
        {},
    ),
    "sparse softmax": (
        lambda k: chain(k, 4, "softmax"),
        CLASSES,
        lambda k: {"optimizer": "adam", "loss": "sparse_categorical_crossentropy", "metrics": ["acc"]},
        {},
    ),
    "one-hot": (
        lambda k: chain(k, 4, "softmax"),
        ONE_HOT,
        lambda k: {"optimizer": "sgd", "loss": "categorical_crossentropy", "metrics": ["accuracy"]},
        {},
    ),
    "binary": (
        lambda k: chain(k, 1, "sigmoid"),
        BITS,
        lambda k: {"optimizer": "adam", "loss": "binary_crossentropy", "metrics": ["accuracy"]},
        {},
    ),
    "sample weights": (
        chain,
        NUMBERS,
        lambda k: {"optimizer": "adam", "loss": "mse", "metrics": ["mae"], "weighted_metrics": ["mae", "mse"]},
        {"sample_weight": WEIGHTS},
    ),
    "class weights": (
        lambda k: chain(k, 4),
        CLASSES,
        lambda k: {
            "optimizer": "sgd",
            "loss": k.losses.SparseCategoricalCrossentropy(**LOGITS),
            "weighted_metrics": ["accuracy"],
        },
        {"class_weight": {0: 0.5, 1: 2.0, 2: 1.0, 3: 3.0}},
    ),
    "split": (chain, NUMBERS, lambda k: {"optimizer": "adam", "loss": "mse", "metrics": ["mae"]}, {"validation_split": 0.3}),
    "held out with weights": (
        chain,
        NUMBERS,
        lambda k: {"optimizer": "adam", "loss": "mse", "weighted_metrics": ["mae"]},
        {"validation_data": (X[:33], NUMBERS[:33], WEIGHTS[:33])},
    ),
    "list of outputs": (
        lambda k: two_heads(k, False),
        [NUMBERS, CLASSES],
        lambda k: {"optimizer": "adam", "loss": ["mse", "sparse_categorical_crossentropy"], "metrics": [["mae"], ["acc"]]},
        {"validation_split": 0.2},
    ),
    "outputs by layer name": (
        lambda k: two_heads(k, False),
        [NUMBERS, CLASSES],
        lambda k: {
            "optimizer": "sgd",
            "loss": {"a": "mse", "b": "sparse_categorical_crossentropy"},
            "metrics": {"b": "accuracy"},
            "loss_weights": {"a": 0.5, "b": 2.0},
        },
        {},
    ),
    "dictionary of outputs": (
        lambda k: two_heads(k, True),
        {"p": NUMBERS, "q": CLASSES},
        lambda k: {
            "optimizer": "adam",
            "loss": {"p": "mse", "q": "sparse_categorical_crossentropy"},
            "loss_weights": {"p": 0.3, "q": 1.0},
            "metrics": {"p": ["mae", "mse"], "q": "accuracy"},
            "weighted_metrics": {"p": "mae"},
        },
        {},
    ),
    "one loss of two": (
        lambda k: two_heads(k, True),
        {"p": NUMBERS, "q": CLASSES},
        lambda k: {"optimizer": "sgd", "loss": {"p": "mse"}},
        {},
    ),
    "regularized": (
        lambda k: chain(k, kernel_regularizer="l2", bias_regularizer="l1"),
        NUMBERS,
        lambda k: {"optimizer": "sgd", "loss": "mse"},
        {"validation_split": 0.2},
    ),
    "constrained": (lambda k: chain(k, kernel_constraint="max_norm"), NUMBERS, lambda k: {"optimizer": "sgd", "loss": "mse"}, {}),
    "added loss": (added_loss, NUMBERS, lambda k: {"optimizer": "sgd", "loss": "mse"}, {"validation_split": 0.2}),
    "activity": (lambda k: chain(k, activity_regularizer="l2"), NUMBERS, lambda k: {"optimizer": "adam", "loss": "mse"}, {}),
    "subclassed": (
        subclassed,
        CLASSES,
        lambda k: {
            "optimizer": k.optimizers.AdamW(0.01),
            "loss": k.losses.SparseCategoricalCrossentropy(**LOGITS),
            "metrics": ["accuracy"],
        },
        {},
    ),
    "function": (
        chain,
        NUMBERS,
        lambda k: {"optimizer": "sgd", "loss": lambda t, p: (t - p) ** 2, "metrics": [k.losses.mean_absolute_error]},
        {},
    ),
    "sum": (
        chain,
        NUMBERS,
        lambda k: {"optimizer": k.optimizers.SGD(1e-3), "loss": k.losses.MeanSquaredError(reduction="sum")},
        {},
    ),
    "ragged batch": (chain, NUMBERS, lambda k: {"optimizer": "sgd", "loss": "mse"}, {"batch_size": 33}),
    "nested outputs": (
        nest,
        {"m": {"u": NUMBERS, "v": CLASSES}, "n": NUMBERS},
        lambda k: {
            "optimizer": "adam",
            "loss": {"m": {"u": "mse", "v": "sparse_categorical_crossentropy"}, "n": "mae"},
            "loss_weights": {"m": {"u": 0.5, "v": 2.0}, "n": 1.0},
        },
        {"validation_split": 0.2},
    ),
    "weights per output": (
        by_two,
        TWO,
        lambda k: {"optimizer": "adam", "loss": LOSS_OF_TWO, "weighted_metrics": {"p": ["mae"], "q": ["accuracy"]}},
        {"sample_weight": PER_OUTPUT},
    ),
    "weights per output, held out": (
        by_two,
        TWO,
        lambda k: {"optimizer": "sgd", "loss": LOSS_OF_TWO, "metrics": {"q": "acc"}, "loss_weights": {"p": 2.0, "q": 0.1}},
        {"sample_weight": PER_OUTPUT, "validation_data": (X, TWO, PER_OUTPUT)},
    ),
    "class weights, held out": (
        lambda k: chain(k, 4, "softmax"),
        ONE_HOT,
        lambda k: {"optimizer": "adam", "loss": "categorical_crossentropy", "weighted_metrics": ["acc"]},
        {"class_weight": {0: 0.5, 1: 2.0, 2: 1.0, 3: 3.0}, "validation_split": 0.25},
    ),
    "validation now and then": (
        chain,
        NUMBERS,
        lambda k: {"optimizer": "sgd", "loss": "mse"},
        {"validation_data": (X, NUMBERS), "validation_freq": 2, "validation_steps": 3, "validation_batch_size": 7},
    ),
    "normalized": (normalized, NUMBERS, lambda k: {"optimizer": "adam", "loss": "mse"}, {"validation_split": 0.3}),
    "masked": (
        masked,
        SERIES,
        lambda k: {"optimizer": "adam", "loss": "mse", "metrics": ["mae"]},
        {"sample_weight": np.stack([WEIGHTS] * 3, 1)},
    ),
    "clipped, scheduled": (
        chain,
        NUMBERS,
        lambda k: {
            "optimizer": k.optimizers.Adam(k.optimizers.schedules.CosineDecay(0.05, 15), global_clipnorm=0.1),
            "loss": "mse",
        },
        {},
    ),
    "averaged": (
        chain,
        NUMBERS,
        lambda k: {"optimizer": k.optimizers.SGD(0.05, use_ema=True, ema_momentum=0.7, ema_overwrite_frequency=4), "loss": "mse"},
        {"validation_split": 0.2},
    ),
    "accumulated": (
        chain,
        NUMBERS,
        lambda k: {"optimizer": k.optimizers.Adam(0.01, gradient_accumulation_steps=5), "loss": "mse"},
        {"batch_size": 20},
    ),
    "ftrl hinge": (chain, 2 * BITS - 1, lambda k: {"optimizer": k.optimizers.Ftrl(0.05), "loss": "hinge"}, {}),
    "lion poisson": (
        lambda k: chain(k, 1, "softplus"),
        np.abs(NUMBERS),
        lambda k: {"optimizer": k.optimizers.Lion(1e-3), "loss": "poisson", "metrics": ["poisson"]},
        {"sample_weight": WEIGHTS},
    ),
    "adagrad divergence": (
        lambda k: chain(k, 4, "softmax"),
        ONE_HOT,
        lambda k: {"optimizer": k.optimizers.Adagrad(0.05), "loss": "kl_divergence", "metrics": ["categorical_accuracy"]},
        {},
    ),
    "nadam similarity": (
        lambda k: chain(k, 4),
        ONE_HOT,
        lambda k: {"optimizer": k.optimizers.Nadam(0.01), "loss": k.losses.CosineSimilarity(), "metrics": ["cosine_similarity"]},
        {},
    ),
    "adamw focal": (
        lambda k: chain(k, 1, "sigmoid"),
        BITS,
        lambda k: {
            "optimizer": k.optimizers.AdamW(0.01, weight_decay=0.1),
            "loss": k.losses.BinaryFocalCrossentropy(),
            "metrics": [k.metrics.AUC(name="auc"), k.metrics.Precision(name="p"), k.metrics.Recall(name="r")],
        },
        {"class_weight": {0: 0.3, 1: 2.0}},
    ),
    "mean by weights": (
        chain,
        NUMBERS,
        lambda k: {
            "optimizer": k.optimizers.Adadelta(1.0),
            "loss": k.losses.LogCosh(reduction="mean_with_sample_weight"),
            "weighted_metrics": [k.metrics.MeanAbsolutePercentageError()],
        },
        {"sample_weight": WEIGHTS, "validation_split": 0.1},
    ),
    "steps": (chain, NUMBERS, lambda k: {"optimizer": "sgd", "loss": "mse"}, {"batch_size": 10, "steps_per_epoch": 4}),
}


def run(k, case):
    make, y, compile_args, fit_args = CASES[case]
    model = make(k)
    if case == "subclassed":
        model.build((None, 6)) if k is hornbeam else model(X[:1])
    values = np.random.default_rng(3)
    model.set_weights([values.normal(size=w.shape).astype("float32") * 0.3 for w in model.get_weights()])
    model.compile(**compile_args(k))
    history = model.fit(X, y, **{"batch_size": 16, "epochs": 3, "shuffle": False, "verbose": 0, **fit_args}).history
    return model, history


@pytest.mark.filterwarnings("ignore:.*no gradient:UserWarning")
@pytest.mark.parametrize("case", CASES)
def test_histories_are_those_of_keras(case):
    y = CASES[case][1]
    ours, history = run(hornbeam, case)
    theirs, expected = run(keras, case)
    assert list(history) == list(expected)
    for key, values in expected.items():
        np.testing.assert_allclose(history[key], values, rtol=1e-5, atol=1e-5, err_msg=key)
    for a, b in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    got, wanted = ours.evaluate(X, y, verbose=0), theirs.evaluate(X, y, verbose=0)
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-5)
    assert ours.metrics_names == theirs.metrics_names
    by_name = ours.evaluate(X, y, verbose=0, return_dict=True)
    assert list(by_name) == list(theirs.evaluate(X, y, verbose=0, return_dict=True))
    np.testing.assert_allclose(ours.test_on_batch(X, y), theirs.test_on_batch(X, y), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(ours.train_on_batch(X, y), theirs.train_on_batch(X, y), rtol=1e-5, atol=1e-5)
    for a, b in zip(
        torch.utils._pytree.tree_leaves(ours.predict(X)),
        torch.utils._pytree.tree_leaves(theirs.predict(X, verbose=0)),
        strict=True,
    ):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_functional_is_what_model_makes():
    assert isinstance(two_heads(hornbeam, False), Functional)
