"""get_state_tree and set_state_tree, against Keras."""

from __future__ import annotations

import os

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
import numpy as np
import pytest
import torch

import hornbeam


def model(k):
    inner = k.Sequential([k.Input((3,)), k.layers.Dense(2, name="d"), k.layers.BatchNormalization(name="bn")], name="seq")
    x = k.Input((3,))
    made = k.Model(x, inner(k.layers.Dense(3, name="e")(x)), name="outer")
    made.compile(k.optimizers.Adam(name="adam"), "mse", metrics=[k.metrics.MeanAbsoluteError(name="mae")])
    made.fit(np.ones((4, 3)), np.ones((4, 2)), verbose=0)
    return made


def shapes(nest):
    return {k: shapes(v) if isinstance(v, dict) else np.shape(v) for k, v in nest.items()}


@pytest.mark.oracle
@pytest.mark.parametrize("value_format", ["backend_tensor", "numpy_array"])
def test_the_tree_is_that_of_keras(value_format):
    ours, theirs = model(hornbeam).get_state_tree(value_format), model(keras).get_state_tree(value_format)
    assert shapes(ours) == shapes(theirs)
    assert ours["metrics_variables"]["loss"]["count"] == theirs["metrics_variables"]["loss"]["count"]
    kind = np.ndarray if value_format == "numpy_array" else torch.Tensor
    assert isinstance(ours["trainable_variables"]["e"]["kernel"], kind)


def test_a_tree_put_into_another_model_makes_it_the_same():
    first, second = model(hornbeam), model(hornbeam)
    tree = first.get_state_tree("numpy_array")
    second.set_state_tree(tree)
    for a, b in zip(first.variables, second.variables, strict=True):
        assert torch.equal(a, b)
    assert second.get_metrics_result() == first.get_metrics_result()
    for m in (first, second):
        m.fit(np.ones((4, 3)), np.ones((4, 2)), verbose=0)
    assert all(np.array_equal(a, b) for a, b in zip(first.get_weights(), second.get_weights(), strict=True))


def test_a_part_is_enough():
    made = model(hornbeam)
    before = made.get_weights()
    made.set_state_tree(
        {"trainable_variables": {"e": {"bias": [1.0, 2.0, 3.0]}}, "optimizer_variables": {"adam": {"iteration": 7}}}
    )
    assert made.get_layer("e").bias.tolist() == [1, 2, 3]
    assert int(made.optimizer.iterations) == 7
    assert np.array_equal(made.get_weights()[0], before[0])


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"trainable": {}}, "no part 'trainable'. Did you mean 'trainable_variables'"),
        (
            {"trainable_variables": {"e": {"kernal": 1}}},
            "no variable at 'e/kernal' in trainable_variables. Did you mean 'e/kernel'",
        ),
        ({"trainable_variables": {"e": {"bias": [1.0]}}}, r"Variable 'e/bias' has shape \(3,\). Received: shape \(1,\)"),
    ],
)
def test_what_does_not_fit_is_an_error_and_changes_nothing(tree, message):
    made = model(hornbeam)
    before = made.get_weights()
    tree = {"non_trainable_variables": {"seq": {"bn": {"moving_mean": [9.0, 9.0]}}}, **tree}
    with pytest.raises(ValueError, match=message):
        made.set_state_tree(tree)
    assert all(np.array_equal(a, b) for a, b in zip(before, made.get_weights(), strict=True))


def test_the_format_is_one_of_two():
    with pytest.raises(ValueError, match=r"must be 'backend_tensor' or 'numpy_array'\. Did you mean 'numpy_array'"):
        model(hornbeam).get_state_tree("numpy_arrays")
