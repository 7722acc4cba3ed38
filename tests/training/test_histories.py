"""Training histories against Keras: equal initial weights, no shuffling, three epochs."""

from __future__ import annotations

import os

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
import numpy as np
import pytest
import torch

from hornbeam import losses, metrics, optimizers
from hornbeam.layers.dense import Dense
from hornbeam.layers.input import Input
from hornbeam.models.functional import Functional
from hornbeam.models.model import Model
from hornbeam.models.sequential import Sequential

pytestmark = pytest.mark.oracle

torch.set_num_threads(1)
RNG = np.random.default_rng(0)
X = RNG.normal(size=(100, 6)).astype("float32")
NUMBERS = RNG.normal(size=(100, 1)).astype("float32")
CLASSES = RNG.integers(0, 4, 100)
ONE_HOT = np.eye(4, dtype="float32")[CLASSES]
BITS = RNG.integers(0, 2, (100, 1)).astype("float32")
WEIGHTS = RNG.uniform(0.1, 2.0, 100).astype("float32")


class Ours:
    """The names that the model makers below use, taken from Hornbeam; `keras` itself has them too."""

    losses, metrics, optimizers = losses, metrics, optimizers

    class layers:
        Dense = Dense

    Input, Sequential, Model = Input, Sequential, Model


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
    "steps": (chain, NUMBERS, lambda k: {"optimizer": "sgd", "loss": "mse"}, {"batch_size": 10, "steps_per_epoch": 4}),
}


def run(k, case):
    make, y, compile_args, fit_args = CASES[case]
    model = make(k)
    if case == "subclassed":
        model.build((None, 6)) if k is Ours else model(X[:1])
    values = np.random.default_rng(3)
    model.set_weights([values.normal(size=w.shape).astype("float32") * 0.3 for w in model.get_weights()])
    model.compile(**compile_args(k))
    history = model.fit(X, y, **{"batch_size": 16, "epochs": 3, "shuffle": False, "verbose": 0, **fit_args}).history
    return model, history


@pytest.mark.filterwarnings("ignore:.*no gradient:UserWarning")
@pytest.mark.parametrize("case", CASES)
def test_histories_are_those_of_keras(case):
    y = CASES[case][1]
    ours, history = run(Ours, case)
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
    assert isinstance(two_heads(Ours, False), Functional)
