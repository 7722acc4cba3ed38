"""Half types in training: loss scaling, ids, zero denominators, float8."""

from __future__ import annotations

import os

os.environ.setdefault("KERAS_BACKEND", "torch")

import warnings

import keras
import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import hornbeam
from hornbeam import layers, losses, metrics, optimizers

torch.set_num_threads(1)
RNG = np.random.default_rng(0)
X = RNG.normal(size=(64, 6)).astype("float32")
Y = RNG.normal(size=(64, 1)).astype("float32")
LARGE = X.copy()
LARGE[24:32] *= 3e4  # the fourth batch of eight overflows float16


def trained(k, x, optimizer, policy="mixed_float16", **compile_args):
    k.mixed_precision.set_dtype_policy(policy)
    try:
        model = k.Sequential([k.Input((6,)), k.layers.Dense(8, activation="relu"), k.layers.Dense(1)])
    finally:
        k.mixed_precision.set_dtype_policy("float32")
    values = np.random.default_rng(2)
    model.set_weights([values.normal(size=w.shape) * 0.3 for w in model.get_weights()])
    model.compile(optimizer(k), "mse", **compile_args)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        history = model.fit(x, Y, batch_size=8, epochs=2, shuffle=False, verbose=0).history
    return model, history


OPTIMIZERS = {
    "sgd": lambda k: k.optimizers.SGD(k.optimizers.schedules.ExponentialDecay(0.01, 1, 0.9)),
    "adam": lambda k: k.optimizers.Adam(0.01, global_clipnorm=1.0),
    "growing": lambda k: k.optimizers.LossScaleOptimizer(k.optimizers.SGD(0.01), dynamic_growth_steps=4),
}


@pytest.mark.oracle
@pytest.mark.parametrize("x", [X, LARGE], ids=["all finite", "one overflows"])
@pytest.mark.parametrize("branchless", [False, True])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_loss_scaling_is_that_of_keras(name, branchless, x, monkeypatch):
    if branchless:  # what steps on other devices do
        monkeypatch.setattr(optimizers.LossScaleOptimizer, "branchless", True)
    ours, history = trained(hornbeam, x, OPTIMIZERS[name])
    theirs, expected = trained(keras, x, OPTIMIZERS[name])
    assert type(ours.optimizer).__name__ == type(theirs.optimizer).__name__ == "LossScaleOptimizer"
    assert ours.optimizer.dynamic_scale == float(theirs.optimizer.dynamic_scale.value)
    assert int(ours.optimizer.iterations) == int(theirs.optimizer.inner_optimizer.iterations)
    np.testing.assert_allclose(history["loss"], expected["loss"], rtol=2e-3)
    for a, b in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-4)


def test_overflowing_gradients_skip_steps_without_a_word():
    scaled = lambda k: optimizers.LossScaleOptimizer(optimizers.SGD(0.01), initial_scale=2.0**20)  # noqa: E731
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model, history = trained(hornbeam, X, scaled)
    skipped = 16 - int(model.optimizer.iterations)
    assert 1 <= skipped < 10
    assert model.optimizer.dynamic_scale == 2.0 ** (20 - skipped)
    assert np.isfinite(history["loss"]).all()


def test_loss_scaling_may_be_left_out():
    model, _ = trained(hornbeam, X, OPTIMIZERS["sgd"], auto_scale_loss=False)
    assert isinstance(model.optimizer, optimizers.SGD)
    model, _ = trained(hornbeam, X, OPTIMIZERS["sgd"], policy="mixed_bfloat16")
    assert isinstance(model.optimizer, optimizers.SGD)


def test_an_optimizer_of_torch_is_scaled_too():
    model, history = trained(hornbeam, X, lambda k: lambda weights: torch.optim.SGD(weights, lr=0.01))
    _, expected = trained(hornbeam, X, lambda k: k.optimizers.SGD(0.01))
    assert history["loss"] == pytest.approx(expected["loss"], rel=1e-3)
    assert int(model.optimizer.iterations) == 16


class Reads(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


def test_branchless_steps_read_nothing():
    w = torch.nn.Parameter(torch.ones(3))
    scaled = optimizers.LossScaleOptimizer(optimizers.Adam(0.1, use_ema=True, gradient_accumulation_steps=2))
    scaled.branchless = True
    scaled.build([w])
    with Reads() as reads:
        for value in (1.0, float("inf"), 2.0, 3.0):
            scaled.apply([torch.full((3,), value)], [w])
    assert reads.count == 0
    assert int(scaled.iterations) == 1
    assert scaled.dynamic_scale == 2.0**14


@pytest.mark.parametrize(("scale", "made"), [(2.0**10, 12), (2.0**60, 0)])
def test_steps_of_fit_under_loss_scaling_read_nothing(scale, made):
    model = hornbeam.Sequential([hornbeam.Input((6,)), layers.Dense(1, dtype="mixed_float16")])
    model.compile(optimizers.LossScaleOptimizer(optimizers.SGD(0.01), scale), "mse")
    counts = []
    for steps in (2, 10):
        with Reads() as reads:
            model.fit(X, Y, batch_size=4, steps_per_epoch=steps, verbose=0)
        counts.append(reads.count)
    assert counts[0] == counts[1]
    assert int(model.optimizer.iterations) == made
    assert model.optimizer.dynamic_scale == scale / 2.0 ** (12 - made)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16", "bfloat16"])
def test_ids_are_never_rounded(policy):
    model = hornbeam.Sequential(
        [layers.Input((1,), dtype="int32"), layers.Identity(dtype=policy), layers.Embedding(4000, 2, dtype=policy)]
    )
    table = np.stack([np.arange(4000) // 64, np.arange(4000) % 64], 1)
    model.set_weights([table])
    ids = np.array([[1001], [2999], [3999]], "int32")
    assert np.array_equal(model.predict(ids)[:, 0], table[ids[:, 0]])


@pytest.mark.parametrize(("dtype", "largest"), [(torch.bfloat16, 256), (torch.float16, 2048)])
def test_ids_in_a_type_that_rounds_them_are_an_error(dtype, largest):
    ids = torch.tensor([[float(largest)]], dtype=dtype)
    assert layers.Embedding(largest + 1, 2)(ids).shape == (1, 1, 2)
    with pytest.raises(TypeError, match=f"has {largest + 2} rows, and its input comes as .*float16, .* only up to {largest}"):
        layers.Embedding(largest + 2, 2)(ids)


# -- zero denominators


def gradient_of(loss, *args):
    y_pred = args[1].clone().requires_grad_()
    value = loss(args[0], y_pred, *args[2:])
    value = value if value.ndim == 0 else value.sum()
    (gradient,) = torch.autograd.grad(value, y_pred)
    return value.detach(), gradient


@pytest.mark.parametrize("reduction", ["sum_over_batch_size", "mean_with_sample_weight", "sum"])
@pytest.mark.parametrize("name", ["mse", "binary_crossentropy", "kl_divergence", "cosine_similarity", "huber"])
def test_weights_of_zero_give_zero(name, reduction):
    cls = {"mse": "MeanSquaredError", "binary_crossentropy": "BinaryCrossentropy", "kl_divergence": "KLDivergence",
           "cosine_similarity": "CosineSimilarity", "huber": "Huber"}[name]  # fmt: skip
    made = getattr(losses, cls)(reduction=reduction)
    value, gradient = gradient_of(made, torch.rand(4, 3), torch.rand(4, 3), torch.zeros(4))
    assert float(value) == 0
    assert torch.equal(gradient, torch.zeros(4, 3))


def test_rows_without_a_place_that_counts_give_finite_gradients():
    y_pred = torch.rand(2, 3, 4)
    y_pred._keras_mask = torch.zeros(2, 3, dtype=torch.bool)
    loss = losses.MeanSquaredError()
    assert float(loss(torch.rand(2, 3, 4), y_pred)) == 0
    x = torch.randn(2, 3, 4, requires_grad=True)
    mask = torch.tensor([[False] * 3, [True] * 3])
    for layer, kwargs in (
        (layers.Softmax(), {"mask": mask[:, :, None].expand(2, 3, 4)}),
        (layers.GlobalAveragePooling1D(), {"mask": mask}),
        (layers.LSTM(2), {"mask": mask}),
    ):
        (gradient,) = torch.autograd.grad(layer(x, **kwargs).sum(), x)
        assert gradient.isfinite().all(), layer
    attention = layers.MultiHeadAttention(2, 2)
    y = attention(x, x, attention_mask=mask[:, None, :].expand(2, 3, 3))
    (gradient,) = torch.autograd.grad(y.sum(), x)
    assert y.isfinite().all()
    assert gradient.isfinite().all()


@pytest.mark.parametrize("make", [metrics.Precision, metrics.Recall, metrics.AUC, metrics.F1Score, metrics.MeanSquaredError])
def test_metrics_of_a_class_that_never_comes_are_zero_or_keras_value(make):
    ours, theirs = make(), getattr(keras.metrics, make.__name__)()
    for metric in (ours, theirs):
        metric.update_state(np.zeros((4, 1), "float32"), np.zeros((4, 1), "float32"))
    np.testing.assert_allclose(np.asarray(ours.result()), np.asarray(theirs.result()), atol=1e-6)


def test_weights_of_zero_in_fit_change_nothing():
    model = hornbeam.Sequential([layers.Input((6,)), layers.Dense(1)])
    model.compile("sgd", "mse", weighted_metrics=["mae"])
    before = model.get_weights()
    history = model.fit(X, Y, sample_weight=np.zeros(64), verbose=0).history
    assert history == {"loss": [0.0], "mae": [0.0]}
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))


@pytest.mark.parametrize("policy", ["float8", "float8_from_mixed_bfloat16", "int8_from_float32"])
def test_policies_that_are_not_there_say_so(policy):
    with pytest.raises(ValueError, match=rf"The policy '{policy}' needs quantized layers, which are not there yet\."):
        layers.Dense(3, dtype=policy)
