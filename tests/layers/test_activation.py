"""Activation layers against Keras: values, gradients, masks, configs, errors."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hornbeam import layers
from layers.oracle import close, keras, normal, pair, same, same_shape

pytestmark = pytest.mark.oracle
AROUND_ZERO = np.array([[-2.0, -1.0, -0.5, 0.01, 0.3, 0.49, 0.6, 1.0, 1.9, 8.0]], "float32")
BENDS = torch.tensor([0.0, 0.5, 2.0, 6.0])  # where gradients are a matter of taste
CASES = [
    *(
        ("Activation", {"activation": a})
        for a in ("relu", "softmax", "gelu", "selu", "hard_sigmoid", "linear", None, "leaky_relu", "mish")
    ),
    ("ReLU", {}),
    ("ReLU", {"max_value": 6}),
    ("ReLU", {"max_value": 2.0, "negative_slope": 0.1, "threshold": 0.5}),
    ("ReLU", {"negative_slope": 0.1, "threshold": 0.5}),
    ("ReLU", {"threshold": 0.5}),
    ("ReLU", {"max_value": 2, "negative_slope": 0.1}),
    ("LeakyReLU", {}),
    ("LeakyReLU", {"negative_slope": 0.0}),
    ("ELU", {}),
    ("ELU", {"alpha": 2.0}),
    ("ELU", {"alpha": -1.0}),
    ("PReLU", {"alpha_initializer": "glorot_uniform"}),
    ("Softmax", {}),
    ("Softmax", {"axis": [-1]}),
    ("Softmax", {"axis": 0}),
]


@pytest.mark.parametrize(("name", "kwargs"), CASES, ids=str)
def test_against_keras(name, kwargs):
    same(name, kwargs, AROUND_ZERO)
    same(name, kwargs, normal(5, 10))
    same_shape(name, kwargs, (None, 10))
    if name != "PReLU":
        ours, theirs = pair(name, kwargs)
        close(ours(BENDS), theirs(BENDS))


PRELUS = [
    ({"shared_axes": [1]}, (2, 4, 5)),
    ({"shared_axes": 1}, (2, 4, 5)),
    ({"shared_axes": (1, 2)}, (2, 3, 4, 5)),
    ({"shared_axes": [-1]}, (2, 5)),
]


@pytest.mark.parametrize(("kwargs", "shape"), PRELUS, ids=str)
def test_prelu_shares_its_alphas(kwargs, shape):
    if kwargs["shared_axes"] == [-1]:  # Keras takes -1 for axis -2
        layer = layers.PReLU(**kwargs)
        layer.build(shape)
        assert layer.alpha.shape == (1,)
        return
    same(
        "PReLU",
        {"alpha_initializer": "he_normal", "alpha_regularizer": "l2", "alpha_constraint": "non_neg", **kwargs},
        normal(*shape),
    )


def test_prelu_with_unknown_sizes():
    same_shape("PReLU", {"shared_axes": [1]}, (None, None, 5))
    with pytest.raises(ValueError, match=r"PReLU layer 'p' has an alpha for each place.*shared_axes=\[1\]"):
        layers.PReLU(name="p")(layers.Input((None, 5)))


MASKS = [
    ((2, 3), [[1, 0, 1], [0, 0, 0]], -1),
    ((2, 3), [[1, 0, 1], [1, 1, 1]], (-1,)),
    ((2, 2, 3), [[[1, 0, 1], [1, 1, 1]], [[0, 0, 1], [1, 0, 1]]], (1, 2)),
    ((2, 2, 3), [[[1, 0, 1]], [[0, 0, 1]]], -1),
]


@pytest.mark.parametrize(("shape", "mask", "axis"), MASKS, ids=str)
@pytest.mark.parametrize("dtype", [torch.bool, torch.int64])
def test_softmax_with_a_mask(shape, mask, axis, dtype):
    same("Softmax", {"axis": axis}, normal(*shape), mask=torch.tensor(mask, dtype=dtype))


def test_softmax_of_masked_steps():
    x = layers.Masking()(torch.tensor([[[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]]]))
    y = layers.Softmax()(x)
    close(y, torch.tensor([[[0.0900306, 0.2447285, 0.6652410], [0.0, 0.0, 0.0]]]))
    assert y._keras_mask.tolist() == [[True, False]]


def test_softmax_in_half_precision():
    mask = torch.tensor([[True, False, True], [False, False, False]])
    close(
        layers.Softmax(dtype="float16")(torch.ones(2, 3), mask=mask),
        keras.layers.Softmax(dtype="float16")(torch.ones(2, 3), mask=mask),
    )


def test_activation_takes_a_layer_or_function():
    assert layers.Activation(layers.ReLU())(torch.tensor([-1.0, 1.0])).tolist() == [0, 1]
    assert layers.Activation(torch.tanh)(torch.zeros(1)).tolist() == [0]


@pytest.mark.parametrize("name", ["Activation", "ReLU", "LeakyReLU", "PReLU", "ELU", "Softmax"])
def test_masks_pass(name):
    x = layers.Masking()(torch.tensor([[[1.0, 2.0], [0.0, 0.0]]]))
    layer = getattr(layers, name)(**({"activation": "relu"} if name == "Activation" else {}))
    assert layer(x)._keras_mask.tolist() == [[True, False]]


def test_older_spelling():
    assert layers.LeakyReLU(alpha=0.2).negative_slope == 0.2


MISTAKES = [
    ("Activation", {"activation": "relo"}, "relu"),
    ("ReLU", {"max_value": -1}, "ReLU layer 'act': `max_value` must be a number, 0 or more. Received: max_value=-1"),
    ("ReLU", {"negative_slope": None}, "`negative_slope` must be a number"),
    ("ReLU", {"threshold": -1.0}, "`threshold` must be a number"),
    ("LeakyReLU", {"negative_slope": -1.0}, "LeakyReLU layer 'act': `negative_slope`"),
]


@pytest.mark.parametrize(("name", "kwargs", "message"), MISTAKES, ids=str)
def test_mistakes(name, kwargs, message):
    with pytest.raises(ValueError, match=message):
        getattr(layers, name)(name="act", **kwargs)


def test_prelu_of_another_size():
    layer = layers.PReLU(name="act")
    layer(torch.ones(2, 3))
    with pytest.raises(ValueError, match=r"'act' \(PReLU\) expects size 3 on axis 1"):
        layer(torch.ones(2, 4))
