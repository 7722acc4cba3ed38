"""Dropout, noise and activity penalties: statistics, modes, seeds; configs and deterministic parts against Keras."""

from __future__ import annotations

import copy
import math
import pickle

import pytest
import torch

from hornbeam import layers
from layers.oracle import close, keras, normal, pair, settings

pytestmark = pytest.mark.oracle
CASES = [
    ("Dropout", {"rate": 0.4}, (2, 3)),
    ("Dropout", {"rate": 0.4, "noise_shape": (None, 1), "seed": 3}, (2, 3)),
    ("Dropout", {"rate": 0}, (2, 3)),
    ("SpatialDropout1D", {"rate": 0.4}, (2, 5, 3)),
    ("SpatialDropout2D", {"rate": 0.4, "seed": 1}, (2, 4, 5, 3)),
    ("SpatialDropout3D", {"rate": 0.4, "data_format": "channels_first"}, (2, 3, 4, 5, 6)),
    ("GaussianNoise", {"stddev": 0.4}, (2, 3)),
    ("GaussianDropout", {"rate": 0.4, "seed": 2}, (2, 3)),
    ("AlphaDropout", {"rate": 0.4}, (2, 3)),
    ("AlphaDropout", {"rate": 0.4, "noise_shape": (1, 3)}, (2, 3)),
    ("ActivityRegularization", {"l1": 0.1, "l2": 0.2}, (2, 3)),
]
RANDOM = [case for case in CASES if case[0] != "ActivityRegularization" and case[1].get("rate") != 0]


@pytest.mark.parametrize(("name", "kwargs", "shape"), CASES, ids=str)
def test_inference_returns_the_input_itself(name, kwargs, shape):
    ours, theirs = pair(name, kwargs)
    assert settings(ours.get_config()) == settings(theirs.get_config())
    assert settings(type(ours).from_config(ours.get_config()).get_config()) == settings(ours.get_config())
    x = torch.tensor(normal(*shape))
    assert ours(x) is x
    assert ours(x, training=False) is x
    assert ours(layers.Input(shape[1:])).shape == (None, *shape[1:])


@pytest.mark.parametrize(("name", "kwargs", "shape"), RANDOM, ids=str)
def test_training_changes_the_input(name, kwargs, shape):
    layer = getattr(layers, name)(**kwargs)
    x = torch.tensor(normal(*shape)) + 10
    torch.manual_seed(0)
    assert not any(torch.equal(layer(x, training=True), x) for _ in range(8))
    layer.train()
    assert not all(torch.equal(layer(x), x) for _ in range(8))


@pytest.mark.parametrize(("name", "kwargs", "shape"), RANDOM, ids=str)
def test_a_seed_fixes_the_draws(name, kwargs, shape):
    kwargs = {**kwargs, "seed": 5}
    x = torch.ones(*shape)
    first, second = getattr(layers, name)(**kwargs), getattr(layers, name)(**kwargs)
    torch.manual_seed(0)
    state = torch.get_rng_state()
    draws = [first(x, training=True) for _ in range(6)]
    assert torch.equal(torch.get_rng_state(), state), "a seeded layer left torch's generator alone"
    assert all(torch.equal(a, second(x, training=True)) for a in draws)
    assert any(not torch.equal(a, draws[0]) for a in draws[1:])


@pytest.mark.parametrize(("name", "kwargs", "shape"), RANDOM, ids=str)
def test_without_a_seed_torch_decides(name, kwargs, shape):
    layer = getattr(layers, name)(**{**kwargs, "seed": None})
    x = torch.ones(*shape)
    torch.manual_seed(1)
    first = layer(x, training=True)
    torch.manual_seed(1)
    assert torch.equal(layer(x, training=True), first)


def test_a_seeded_layer_copies_and_pickles_with_its_place_in_the_stream():
    layer = layers.Dropout(0.5, seed=3)
    x = torch.ones(4, 8)
    layer(x, training=True)
    clones = copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))
    expected = layer(x, training=True)
    assert all(torch.equal(c(x, training=True), expected) for c in clones)


def test_a_seeded_layer_compiles():
    layer = layers.Dropout(0.5, seed=3)
    compiled = torch.compile(layer, fullgraph=True, backend="eager")
    y = compiled(torch.ones(100, 100), training=True)
    assert set(y.unique().tolist()) == {0.0, 2.0}


def test_looking_at_a_call_draws_nothing():
    a, b = layers.Dropout(0.5, seed=3), layers.Dropout(0.5, seed=3)
    a(layers.Input((8,)), training=True)
    assert torch.equal(a(torch.ones(1, 8), training=True), b(torch.ones(1, 8), training=True))


@pytest.mark.parametrize("seed", [None, 7])
@pytest.mark.parametrize("rate", [0.25, 0.5])
def test_statistics(rate, seed):
    torch.manual_seed(0)
    x = torch.ones(400, 500)
    kept = layers.Dropout(rate, seed=seed)(x, training=True)
    close(kept.unique(), torch.tensor([0, 1 / (1 - rate)]))
    assert abs((kept == 0).float().mean() - rate) < 0.01
    noisy = layers.GaussianDropout(rate, seed=seed)(x, training=True)
    assert abs(noisy.mean() - 1) < 0.01
    assert abs(noisy.std() - math.sqrt(rate / (1 - rate))) < 0.01
    assert abs(layers.GaussianNoise(rate, seed=seed)(x, training=True).std() - rate) < 0.01
    normal_ = torch.randn(400, 500)
    alpha = layers.AlphaDropout(rate, seed=seed)(normal_, training=True)
    assert abs(alpha.mean()) < 0.02
    assert abs(alpha.std() - 1) < 0.02


def test_alpha_dropout_has_the_values_of_keras():
    x = torch.ones(1000)
    close(layers.AlphaDropout(0.5)(x, training=True).unique(), keras.layers.AlphaDropout(0.5)(x, training=True).unique())


def test_everything_dropped():
    for seed in (None, 3):
        assert not layers.Dropout(1.0, seed=seed)(torch.ones(2, 3), training=True).any()


@pytest.mark.parametrize(("name", "kwargs", "shape", "axes"), [
    ("SpatialDropout1D", {}, (4, 5, 8), (1,)),
    ("SpatialDropout2D", {}, (4, 5, 6, 8), (1, 2)),
    ("SpatialDropout2D", {"data_format": "channels_first"}, (4, 8, 5, 6), (2, 3)),
    ("SpatialDropout3D", {}, (4, 3, 5, 6, 8), (1, 2, 3)),
    ("Dropout", {"noise_shape": (None, 1, None)}, (4, 5, 8), (1,)),
    ("AlphaDropout", {"noise_shape": [None, 1, 8]}, (4, 5, 8), (1,)),
])  # fmt: skip
@pytest.mark.parametrize("seed", [None, 2])
def test_whole_channels_drop_together(name, kwargs, shape, axes, seed):
    torch.manual_seed(0)
    y = getattr(layers, name)(0.5, seed=seed, **kwargs)(torch.ones(*shape), training=True)
    assert (y.amax(axes) == y.amin(axes)).all()
    assert 1 < y.unique().numel() <= 2
    assert 0.2 < (y.amax(axes) == y.max()).float().mean() < 0.8


def test_gradient_flows_through_what_is_kept():
    x = torch.ones(50, 50, requires_grad=True)
    for layer in (layers.Dropout(0.5), layers.SpatialDropout1D(0.5)):
        x.grad = None
        inputs = x if type(layer) is layers.Dropout else x[None]
        y = layer(inputs, training=True)
        y.sum().backward()
        close(x.grad, y.detach().reshape(50, 50))


def test_penalties_are_per_sample():
    ours, theirs = pair("ActivityRegularization", {"l1": 0.1, "l2": 0.2})
    x = torch.tensor(normal(4, 3))
    ours(x), theirs(x)
    close(ours.losses, theirs.losses)
    mine, other = (
        layers.Dense(2, activity_regularizer="l2", kernel_initializer="ones"),
        keras.layers.Dense(2, activity_regularizer="l2", kernel_initializer="ones"),
    )
    mine(x), other(x)
    close(mine.losses, other.losses)


@pytest.mark.parametrize(("name", "kwargs", "shape"), [c for c in CASES if len(c[2]) == 2], ids=str)
def test_masks_pass(name, kwargs, shape):
    x = torch.ones(*shape)
    x._keras_mask = torch.tensor([True, False])
    for training in (False, True):
        assert getattr(layers, name)(**kwargs)(x, training=training)._keras_mask.tolist() == [True, False]


MISTAKES = [
    (
        lambda: layers.Dropout(-0.1, name="d"),
        ValueError,
        "Dropout layer 'd': `rate` must be a number from 0 to 1. Received: rate=-0.1",
    ),
    (lambda: layers.Dropout("a"), ValueError, "Received: rate='a'"),
    (lambda: layers.Dropout(0.5, noise_shape="a"), ValueError, "`noise_shape` must be a tuple"),
    (lambda: layers.Dropout(0.5, noise_shape=(-1, 1)), ValueError, "a tuple of positive sizes"),
    (lambda: layers.Dropout(0.5, seed=1.5), ValueError, "`seed` must be an integer"),
    (
        lambda: layers.Dropout(0.5, noise_shape=(2,))(torch.ones(2, 3), training=True),
        ValueError,
        r"as long as the input's shape \(2, 3\)",
    ),
    (lambda: layers.Dropout(0.5, nois_shape=(2,)), TypeError, "Did you mean 'noise_shape'"),
    (lambda: layers.GaussianNoise(1.5), ValueError, "`stddev` must be a number from 0 to 1"),
    (lambda: layers.AlphaDropout(1.0), ValueError, "from 0 to below 1"),
    (lambda: layers.SpatialDropout1D(0.5, trainable=False), TypeError, "trainable"),
    (
        lambda: layers.SpatialDropout2D(0.5, name="s")(torch.ones(2, 3)),
        ValueError,
        "'s' .SpatialDropout2D. expects an input of rank 4",
    ),
]


@pytest.mark.parametrize(("make", "error", "message"), MISTAKES)
def test_mistakes(make, error, message):
    with pytest.raises(error, match=message):
        make()
