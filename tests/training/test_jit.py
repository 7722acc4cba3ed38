"""Compiled steps: the same training as eager steps, whatever is in the step; and the verdict of "auto"."""

import numpy as np
import pytest
import torch

import hornbeam as keras
from hornbeam import layers
from hornbeam.training import jit_choice
from hornbeam.training.jit import apart
from hornbeam.utils import set_random_seed

X = np.random.RandomState(0).randn(50, 6).astype("float32")
Y = np.random.RandomState(1).randint(3, size=50)
R = np.random.RandomState(2).randn(50, 1).astype("float32")
WEIGHTS = np.linspace(0, 1, 50).astype("float32")


def cross_entropy():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def rich(**options):
    """Penalties, added losses, state, random numbers, two outputs, weighted metrics, an optimizer with everything around it."""
    x = keras.Input((6,))
    h = layers.Dense(8, activation="relu", kernel_regularizer="l2", activity_regularizer="l1")(x)
    h = layers.Dropout(0.3)(layers.BatchNormalization()(h))
    model = keras.Model(x, {"a": layers.Dense(3)(h), "b": layers.Dense(1)(h)})
    optimizer = keras.optimizers.AdamW(
        keras.optimizers.schedules.CosineDecay(0.01, 30), use_ema=True, gradient_accumulation_steps=2, global_clipnorm=1.0
    )
    model.compile(
        optimizer, {"a": cross_entropy(), "b": "mse"}, loss_weights={"a": 1.0, "b": 0.5},
        metrics={"a": ["accuracy"], "b": ["mae"]}, weighted_metrics={"b": ["mse"]}, **options,
    )  # fmt: skip
    return model, {"a": Y, "b": R}, {"sample_weight": {"a": WEIGHTS, "b": WEIGHTS}}


class Own(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense, self.doubled = layers.Dense(3), keras.metrics.Mean(name="doubled")

    def call(self, x):
        return self.dense(x)

    @property
    def metrics(self):
        return [*super().metrics, self.doubled]

    def train_step(self, data):
        x, y = data
        y_pred = self(x, training=True)
        loss = self.compute_loss(x, y, y_pred)
        weights = self.trainable_weights
        self.optimizer.apply(torch.autograd.grad(loss, weights), weights)
        self.doubled.update_state(loss.detach() * 2)
        return self.compute_metrics(x, y, y_pred)


def own(**options):
    model = Own()
    model.compile("adam", cross_entropy(), metrics=["accuracy"], **options)
    return model, Y, {}


def foreign(**options):
    model = keras.Sequential([keras.Input((6,)), layers.Dense(3)])
    model.compile(torch.optim.Adam(model.parameters(), lr=0.01), cross_entropy(), metrics=["accuracy"], **options)
    return model, Y, {}


def half(**options):
    parts = [layers.Dense(8, activation="relu", dtype="mixed_bfloat16"), layers.Lambda(lambda x: x * 2), layers.Dense(3)]
    model = keras.Sequential([keras.Input((6,)), *parts])
    model.compile("sgd", "mse", metrics=[keras.metrics.R2Score(), keras.metrics.F1Score("micro")], **options)
    return model, np.eye(3, dtype="float32")[Y], {}


def plain(**options):
    module = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
    module[0].register_forward_hook(lambda *args: None)
    model = keras.models.TorchModel(module)
    model.compile("adam", torch.nn.CrossEntropyLoss(), **options)
    keras.Input((3,)) * 2  # whatever was recorded before
    return model, Y, {}


def trained(make, **options):
    set_random_seed(0)
    model, y, more = make(**options)
    return model, model.fit(X, y, batch_size=8, epochs=3, verbose=0, **more).history


@pytest.mark.slow
@pytest.mark.parametrize("make", [rich, own, foreign, half, plain])
def test_a_compiled_step_is_the_eager_step(make):
    (eager, expected), (compiled, got) = trained(make), trained(make, jit_compile=True)
    step = compiled._compiled_step
    assert not step.failed
    assert step.form[0] == ((8, 6), torch.float32)
    assert got.keys() == expected.keys()
    for key, values in expected.items():
        np.testing.assert_allclose(got[key], values, rtol=2e-3 if make is half else 1e-5, err_msg=key)
    for a, b in zip(eager.get_weights(), compiled.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-3 if make is half else 1e-6)


@pytest.mark.slow
def test_several_compiled_steps_at_once_are_the_same_steps():
    eager, expected = trained(own)
    compiled, got = trained(own, jit_compile=True, steps_per_execution=6)
    assert not compiled._compiled_step.failed
    for key, values in expected.items():
        np.testing.assert_allclose(got[key], values, rtol=1e-5, err_msg=key)
    for a, b in zip(eager.get_weights(), compiled.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_callbacks_are_called_once_for_steps_made_together():
    set_random_seed(0)
    model, y, _ = own(steps_per_execution=3)
    begun, ended = [], []
    hook = keras.callbacks.LambdaCallback(
        on_train_batch_begin=lambda batch, logs: begun.append(batch), on_train_batch_end=lambda batch, logs: ended.append(batch)
    )
    together = model.fit(X, y, batch_size=8, epochs=1, verbose=0, shuffle=False, callbacks=[hook]).history
    assert (begun, ended) == ([0, 3, 6], [2, 5, 6])
    set_random_seed(0)
    alone, y, _ = own()
    assert alone.fit(X, y, batch_size=8, epochs=1, verbose=0, shuffle=False).history == together


def mlp(width=16):
    model = keras.Sequential([keras.Input((32,)), layers.Dense(width, activation="relu"), layers.Dense(4)])
    model.compile("adam", cross_entropy())
    return model


def test_auto_compiles_where_the_steps_pay_it_back():
    batch = (torch.zeros(128, 32), torch.zeros(128, dtype=torch.int64))
    assert not jit_choice.worth_compiling(mlp(), batch, 10_000)
    assert not jit_choice.worth_compiling(mlp(), batch, None)
    assert jit_choice.worth_compiling(mlp(), batch, 10_000_000)
    assert not jit_choice.worth_compiling(mlp(width=8192), batch, 10_000_000)  # its time is arithmetic
    images = keras.Sequential([keras.Input((8, 8, 1)), layers.Conv2D(2, 3), layers.Flatten(), layers.Dense(4)])
    images.compile("adam", cross_entropy())
    assert not jit_choice.worth_compiling(images, (torch.zeros(8, 8, 8, 1), None), 10_000_000)


def test_the_verdict_is_said_once_and_changes_nothing(capsys):
    model, (x, y) = mlp(), (torch.zeros(128, 32), torch.zeros(128, dtype=torch.int64))
    before = torch.get_rng_state()
    assert jit_choice.wants_compiling(model, (x, y), 10_000_000, verbose=1)
    assert torch.equal(before, torch.get_rng_state())
    assert capsys.readouterr().out == "Compiling the training step: 10,000,000 steps pay it back (jit_compile='auto').\n"
    assert jit_choice.wants_compiling(model, (x, y), 10_000_000, verbose=0)
    assert not jit_choice.wants_compiling(model, (x, y), 100, verbose=1)
    assert capsys.readouterr().out == ""
    model.compile("adam", "mse", jit_compile=True, run_eagerly=True)
    assert not jit_choice.wants_compiling(model, (x, y), 10_000_000, verbose=1)
    model.compile("adam", "mse", jit_compile=True, debug_nan=True)
    assert not jit_choice.wants_compiling(model, (x, y), 10_000_000, verbose=1)


@pytest.mark.parametrize("hook", ["register_hook", "register_post_accumulate_grad_hook"])
def test_hooks_on_weights_keep_steps_eager(hook):
    model, y, _ = foreign(jit_compile=True)
    seen = []
    getattr(model.trainable_weights[0], hook)(lambda grad: seen.append(grad.shape))
    model.fit(X, y, batch_size=25, verbose=0)
    assert len(seen) == 2
    assert "_compiled_step" not in model.__dict__


def test_each_compiled_function_has_code_of_its_own():
    def function(x):
        return x + 1

    one, two = apart(function), apart(function)
    assert (one(1), two(2)) == (2, 3)
    assert one.__code__ != two.__code__


@pytest.mark.slow
def test_a_scalar_metric_is_kept_by_compiled_code():
    """torch.compile drops what is written in place to a float64 tensor of shape (), unless it is a Parameter, as states are."""
    mean = keras.metrics.Mean()
    mean.update_state(torch.tensor(0.0))
    update = torch.compile(lambda x: mean.update_state(x), fullgraph=True, dynamic=False)
    for value in (1.0, 2.0, 3.0):
        update(torch.tensor(value))
    assert float(mean.result()) == 1.5


def test_a_failing_step_raises_its_own_error():
    class Broken(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(3)

        def call(self, x, training=False):
            if training:
                raise KeyError("mine")
            return self.dense(x)

    model = Broken()
    model.compile("adam", cross_entropy(), jit_compile=True)
    with pytest.raises(KeyError, match="mine"):
        model.fit(X, Y, verbose=0)
