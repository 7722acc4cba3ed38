"""Lambda, Masking, Identity against Keras: values, masks, shapes, configs, errors; layers to configs and back."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hornbeam import layers
from hornbeam.core.registry import register_keras_serializable
from layers.oracle import close, keras, normal, same, same_shape, settings

pytestmark = pytest.mark.oracle
STEPS = np.array([[[0.0, 0.0], [0.0, 1.0], [2.0, 1.0]], [[1.0, 1.0], [0.0, 0.0], [0.0, 0.0]]], "float32")


def twice(x):
    return x * 2


def in_training(x, training=None):
    return x * 2 if training else x


def zero_masked(x, mask=None):
    return x if mask is None else x * mask[..., None]


def scaled(x, by, plus=0):
    return x * by + plus


def doubled(x):
    return torch.cat([x, x], -1)


@pytest.mark.parametrize("value", [0.0, 1.0, -1.0])
def test_masking(value):
    same("Masking", {"mask_value": value}, STEPS)
    x = torch.tensor(STEPS)
    close(layers.Masking(value)(x)._keras_mask, keras.layers.Masking(value)(x)._keras_mask)
    same_shape("Masking", {"mask_value": value}, (None, None, 2))


def test_masking_twice_and_of_integers():
    x = torch.tensor(STEPS)
    close(layers.Masking(1.0)(layers.Masking()(x))._keras_mask, keras.layers.Masking(1.0)(keras.layers.Masking()(x))._keras_mask)
    close(layers.Masking(1)(torch.ones(1, 2, 2, dtype=torch.int64)), torch.zeros(1, 2, 2, dtype=torch.int64))


def test_masking_of_infinite_values_gives_zeros():
    y = layers.Masking(float("inf"))(torch.tensor([[[float("inf"), float("inf")], [1.0, 2.0]]]))
    assert y.tolist() == [[[0, 0], [1, 2]]]


def test_masking_in_bfloat16():
    x = torch.tensor([[[0.1, 0.1], [0.0, 1.0]]])
    close(layers.Masking(0.1, dtype="bfloat16")(x), keras.layers.Masking(0.1, dtype="bfloat16")(x))


def test_identity():
    same("Identity", {}, normal(2, 3))
    nest = [torch.ones(2), {"a": torch.ones(1)}]
    out = layers.Identity()(nest)
    assert out[0] is nest[0]
    assert out[1]["a"] is nest[1]["a"]
    assert [s.shape for s in layers.Identity()([layers.Input((2,)), layers.Input((3,))])] == [(None, 2), (None, 3)]


LAMBDAS = [
    (twice, {}),
    (in_training, {}),
    (scaled, {"arguments": {"by": 3}}),
    (scaled, {"arguments": {"by": 3, "plus": 1}}),
    (doubled, {"output_shape": (4,)}),
]


@pytest.mark.parametrize(("function", "kwargs"), LAMBDAS, ids=lambda v: getattr(v, "__name__", str(v)))
@pytest.mark.parametrize("training", [None, True])
def test_lambda(function, kwargs, training):
    kwargs = {"function": function, **kwargs}
    same("Lambda", kwargs, normal(3, 2), training=training)
    ours = layers.Lambda(**kwargs)
    again = layers.Lambda.from_config(ours.get_config(), custom_objects={function.__name__: function})
    assert again.get_config() == ours.get_config()
    assert again.function is function


@pytest.mark.parametrize(
    "kwargs",
    [{}, {"output_shape": (4,)}, {"output_shape": lambda shape: (*shape[:-1], 4)}],
    ids=["inferred", "tuple", "function"],
)
def test_lambda_shapes(kwargs):
    same_shape("Lambda", {"function": doubled, **kwargs}, (None, 2))


def test_lambda_declares_what_cannot_be_inferred():
    def count(x):
        return torch.tensor([[int(x.sum())]])

    with pytest.raises((RuntimeError, TypeError, ValueError)):
        layers.Lambda(lambda x: x @ torch.ones(5, 1))(layers.Input((3,)))
    assert layers.Lambda(count, output_shape=(1,))(layers.Input((3,))).shape == (None, 1)


def test_lambda_of_several_inputs():
    pair = [layers.Input((3,)), layers.Input((3,))]
    assert layers.Lambda(lambda xs: xs[0] + xs[1])(pair).shape == (None, 3)
    assert layers.Lambda(lambda xs: xs[0] + xs[1], output_shape=(3,))(pair).shape == (None, 3)


def test_lambda_masks():
    x = layers.Masking()(torch.tensor(STEPS))
    mask = x._keras_mask
    assert getattr(layers.Lambda(twice)(x), "_keras_mask", None) is None
    close(layers.Lambda(zero_masked)(torch.ones_like(x), mask=mask)[0, 0], torch.zeros(2))
    close(layers.Lambda(twice, mask=lambda x, m: ~m)(x)._keras_mask, ~mask)
    close(layers.Lambda(twice, mask=~mask)(torch.tensor(STEPS))._keras_mask, ~mask)
    assert not layers.Lambda(twice).supports_masking
    assert layers.Lambda(twice, mask=zero_masked).supports_masking


def test_lambda_holds_a_module():
    layer = layers.Lambda(torch.nn.Linear(3, 4))
    assert layer(torch.ones(2, 3)).shape == (2, 4)
    assert len(list(layer.parameters())) == 2


def test_registered_functions_are_named_as_in_keras():
    register_keras_serializable("lambdas")(scaled)
    keras.saving.register_keras_serializable("lambdas")(scaled)
    kwargs = {"arguments": {"by": 3}}
    config = layers.Lambda(scaled, **kwargs).get_config()
    assert settings(config) == settings(keras.layers.Lambda(scaled, **kwargs).get_config())
    assert layers.Lambda.from_config(config).function is scaled


MISTAKES = [
    (lambda: layers.Lambda(3, name="f"), TypeError, "Lambda layer 'f': `function` must be a callable. Received: function=3"),
    (lambda: layers.Lambda(twice, output_shape="a"), TypeError, "`output_shape` must be a tuple or a function"),
    (lambda: layers.Lambda.from_config(layers.Lambda(twice).get_config()), ValueError, "Could not find 'twice'"),
    (
        lambda: layers.Lambda.from_config({"name": "f", "function": {"class_name": "__lambda__", "config": {}}}),
        ValueError,
        "compiled Python code, which is not run",
    ),
]


@pytest.mark.parametrize(("make", "error", "message"), MISTAKES)
def test_mistakes(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_serialize_and_deserialize():
    layer = layers.Dense(3, activation="relu", name="first")
    config = layers.serialize(layer)
    assert config == keras.layers.serialize(keras.layers.Dense(3, activation="relu", name="first"))
    assert layers.deserialize(config).get_config() == layer.get_config()
    with pytest.raises(ValueError, match="Dens"):
        layers.deserialize({**config, "class_name": "Dens"})
    with pytest.raises(ValueError, match="takes the config of a layer"):
        layers.deserialize({"a": 1})
