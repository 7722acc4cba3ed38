"""Gradient checkpointing gives the same bits as none, whatever the layers keep, draw and add."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
from torch import nn

from hornbeam import layers, metrics
from hornbeam.core.remat import RematScope, remat
from hornbeam.models import Model, Sequential

torch.set_num_threads(1)
X = np.random.default_rng(0).normal(size=(24, 6)).astype("float32")
IDS = np.random.default_rng(1).integers(0, 9, (24, 5))
Y = np.random.default_rng(2).normal(size=(24, 1)).astype("float32")


class Busy(layers.Layer):
    """Keeps, draws and adds all that a layer may."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense, self.norm = layers.Dense(8, activation="gelu"), layers.BatchNormalization()
        self.drop, self.seeded = layers.Dropout(0.3), layers.Dropout(0.3, seed=3)
        self.out = layers.Dense(4)
        self.mean = metrics.Mean(name="size")
        self.plain = nn.Linear(4, 4)
        self.called = 0

    def call(self, x):
        self.called += 1
        h = self.seeded(self.drop(self.norm(self.dense(x))))
        h = self.plain(self.out(h))
        self.add_loss(0.1 * h.square().mean())
        self.mean.update_state(h.abs().mean())
        return h


class Masked(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.embedding, self.lstm = layers.Embedding(9, 4, mask_zero=True), layers.LSTM(4)

    def call(self, ids):
        return self.lstm(self.embedding(ids))


def history(make, scope, x=X, dtype=None):
    torch.manual_seed(0)
    with scope:
        inner = make(dtype=dtype)
    model = Sequential([inner, layers.Dense(1)])
    model.compile("adam", "mse")
    found = model.fit(x, Y, batch_size=10, epochs=2, verbose=0, validation_data=(x, Y)).history
    return model, found, [w.detach().numpy() for w in model.weights]


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize(
    ("make", "x"), [(Busy, X), (Masked, IDS), (lambda dtype: layers.GRU(5, recurrent_dropout=0.2, dtype=dtype), IDS[:, :, None])]
)
def test_training_gives_the_same_bits(make, x, dtype):
    plain, expected, weights = history(make, RematScope(None), x, dtype)
    again, found, others = history(make, RematScope("full"), x, dtype)
    assert found == expected
    assert all(np.array_equal(a, b) for a, b in zip(weights, others, strict=True))
    if make is Busy:
        steps = 2 * 3
        assert again.layers[0].called - plain.layers[0].called >= steps


@pytest.mark.parametrize("mode", ["full", "activations", "larger_than"])
def test_less_is_kept(mode):
    def kept(scope):
        with scope:
            model = Sequential([layers.Input((64,)), *[layers.Dense(256, activation="gelu") for _ in range(4)]])
        x, found = torch.ones(128, 64), {}

        def note(t):
            found[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
            return t

        weights = {w.untyped_storage().data_ptr() for w in model.weights}
        with torch.autograd.graph.saved_tensors_hooks(note, lambda t: t):
            model(x, training=True)
        return sum(size for place, size in found.items() if place not in weights)

    scope = RematScope(mode, output_size_threshold=128 * 256 - 1)
    if mode == "activations":  # products are kept by the scope itself, and so not seen here
        assert kept(scope) < kept(RematScope(None))
    else:
        assert kept(scope) <= 0.7 * kept(RematScope(None))


def counted(scope, name=None, units=4):
    """How often a layer's inside runs in a step forward and back."""
    calls = []

    class Sine(layers.Dense):
        def call(self, x):
            calls.append(1)
            return torch.sin(super().call(x))

    with scope:
        layer = Sine(units, name=name)
    layer(torch.ones(2, 3)).sum().backward()
    layer.build((None, 3))
    calls.clear()
    layer(torch.ones(2, 3, requires_grad=True)).sum().backward()
    return len(calls)


def test_scopes_choose_layers_when_they_are_made():
    assert counted(RematScope()) == 2
    assert counted(RematScope(None)) == 1
    assert counted(RematScope("list_of_layers", layer_names=["this"]), "this") == 2
    assert counted(RematScope("list_of_layers", layer_names=["this"]), "other") == 1
    assert counted(RematScope("larger_than", output_size_threshold=7)) == 2
    assert counted(RematScope("larger_than", output_size_threshold=8)) == 1
    with RematScope("full"):
        assert counted(RematScope(None)) == 1
        assert counted(RematScope("full")) == 2


def test_no_gradient_no_second_pass():
    with RematScope():
        layer = Busy()
    layer(X)
    layer.called = 0
    with torch.no_grad():
        layer(X)
    assert layer.called == 1


def test_functional_models_copies_and_pickles_keep_it():
    with RematScope():
        x = layers.Input((6,))
        model = Model(x, layers.Dense(1)(layers.Dense(8, activation="tanh")(x)))
    twins = [model, copy.deepcopy(model), pickle.loads(pickle.dumps(model))]
    for twin in twins:
        twin.compile("sgd", "mse")
        twin.fit(X, Y, shuffle=False, verbose=0)
        assert twin.layers[1].__dict__["forward"].layer is twin.layers[1]
    for twin in twins[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(model.get_weights(), twin.get_weights(), strict=True))


def test_functions_methods_layers_and_modules():
    calls = []

    def function(x, *, power=2):
        calls.append(1)
        return torch.sin(x) ** power

    wrapped = remat(function)
    assert wrapped.__name__ == "function"
    x = torch.randn(4, requires_grad=True)
    (gradient,) = torch.autograd.grad(wrapped(x, power=3).sum(), x)
    assert torch.equal(gradient, torch.autograd.grad(function(x, power=3).sum(), x)[0])
    assert len(calls) == 3
    for f in (layers.Dropout(0.5, seed=1), nn.Sequential(nn.Linear(4, 4), nn.Tanh())):
        for mode in (True, False):
            f.train(mode)
            twin = copy.deepcopy(f)
            a, b = remat(f)(x), twin(x)
            assert torch.equal(a, b)
            assert torch.equal(torch.autograd.grad(a.sum(), x)[0], torch.autograd.grad(b.sum(), x)[0])


def test_a_layer_may_checkpoint_a_part_of_itself():
    class Part(layers.Layer):
        def __init__(self):
            super().__init__()
            self.drop = layers.Dropout(0.4, seed=5)
            self.again = remat(self.inner)

        def inner(self, x):
            return self.drop(torch.sin(x), training=True)

        def call(self, x):
            return self.again(x)

    x = layers.Input((6,))
    model = Model(x, layers.Dense(1)(Part()(x)))
    model.compile("sgd", "mse")
    assert np.isfinite(model.fit(X, Y, verbose=0).history["loss"][0])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: RematScope("ful"), ValueError, "`mode` must be one of .* Did you mean 'full'"),
        (lambda: remat(3), TypeError, "remat takes a function, a layer or a module"),
    ],
)
def test_mistakes(call, error, message):
    with pytest.raises(error, match=message):
        call()
