"""Training opened up: own steps, losses and metrics, several optimizers, accumulated gradients, the examples that show it."""

from __future__ import annotations

import copy
import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

import hornbeam as keras
from hornbeam import layers, losses, metrics, optimizers

torch.set_num_threads(1)
RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 3)).astype("float32")
Y = RNG.normal(size=(40, 1)).astype("float32")
W = RNG.uniform(0.1, 2, 40).astype("float32")
EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


class Net(keras.Model):
    def __init__(self):
        super().__init__()
        self.first, self.last = layers.Dense(5, activation="tanh"), layers.Dense(1)
        self.build((None, 3))

    def call(self, x):
        return self.last(self.first(x))


class TorchSpelling(Net):
    def train_step(self, data):
        x, y = data
        self.zero_grad()
        y_pred = self(x, training=True)
        loss = self.compute_loss(y=y, y_pred=y_pred)
        loss.backward()
        trainable_weights = list(self.trainable_weights)
        gradients = [v.value.grad for v in trainable_weights]
        with torch.no_grad():
            self.optimizer.apply(gradients, trainable_weights)
        for metric in self.metrics:
            if metric.name == "loss":
                metric.update_state(loss)
            else:
                metric.update_state(y, y_pred)
        return {m.name: m.result() for m in self.metrics}


class ByPairs(Net):
    def train_step(self, data):
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        loss = self.compute_loss(x, y, self(x, training=True), sample_weight)
        weights = self.trainable_variables
        self.optimizer.apply_gradients(zip(torch.autograd.grad(loss, weights), weights, strict=True))
        self._loss_tracker.update_state(loss)
        return {"loss": self._loss_tracker.result()}


class TorchOptimizerSpelling(Net):
    def train_step(self, data):
        x, y = data
        self.optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(self(x, training=True), y)
        loss.backward()
        self.optimizer.step()
        return {"loss": loss}


@pytest.mark.parametrize("form", [TorchSpelling, ByPairs])
def test_a_step_as_the_guides_spell_it_makes_the_bits_of_the_default(form):
    plain = Net()
    own = form()
    own.set_weights(plain.get_weights())
    for model in (plain, own):
        model.compile("adam", "mse", metrics=["mae"] if form is TorchSpelling else None)
    histories = [m.fit(X, Y, batch_size=20, epochs=2, shuffle=False, verbose=0).history for m in (plain, own)]
    assert [w.tolist() for w in plain.get_weights()] == [w.tolist() for w in own.get_weights()]
    assert list(histories[0]) == list(histories[1])
    for key, values in histories[0].items():
        assert histories[1][key] == pytest.approx(values, rel=1e-6)


@pytest.mark.parametrize("make", [lambda m: torch.optim.Adam(m.parameters()), lambda m: torch.optim.Adam])
def test_a_step_in_torchs_spelling(make):
    own = TorchOptimizerSpelling()
    plain = Net()
    plain.set_weights(own.get_weights())
    own.compile(make(own), "mse")
    if hasattr(own.optimizer, "build"):
        own.optimizer.build(own.trainable_weights)
    plain.compile(torch.optim.Adam(plain.parameters()), "mse")
    for model in (own, plain):
        model.fit(X, Y, batch_size=16, shuffle=False, verbose=0)
    assert [w.tolist() for w in plain.get_weights()] == [w.tolist() for w in own.get_weights()]


def test_compute_loss_and_compute_metrics_may_be_the_users_own():
    class Own(Net):
        def __init__(self):
            super().__init__()
            self.size = metrics.Mean(name="size")

        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            return 3 * super().compute_loss(x, y, y_pred, sample_weight, training) + (0.5 if training else 0.0)

        def compute_metrics(self, x, y, y_pred, sample_weight=None):
            self.size.update_state(y_pred.abs())
            found = super().compute_metrics(x, y, y_pred, sample_weight)
            return {**found, "twice": 2 * found["size"]}

    model = Own()
    model.compile(optimizers.SGD(0.0), "mse", metrics=["mse"])
    history = model.fit(X, Y, validation_data=(X, Y), verbose=0).history
    assert list(history) == ["loss", "mse", "size", "twice", *(f"val_{n}" for n in ("loss", "mse", "size", "twice"))]
    assert history["loss"][0] == pytest.approx(3 * history["mse"][0] + 0.5, rel=1e-5)
    assert history["val_loss"][0] == pytest.approx(3 * history["mse"][0], rel=1e-5)
    assert history["twice"][0] == pytest.approx(2 * history["size"][0])
    assert history["size"][0] == pytest.approx(np.abs(model.predict(X)).mean(), rel=1e-5)


def test_own_metrics_property_and_test_step():
    class Own(Net):
        def __init__(self):
            super().__init__()
            self.seen = metrics.Mean(name="seen")

        @property
        def metrics(self):
            return [self.seen]

        def train_step(self, data):
            self.seen.update_state(data[0].mean())
            return {"seen": self.seen.result(), "constant": 2}

        def test_step(self, data):
            self.seen.update_state(data[0].max())
            return {"seen": self.seen.result()}

        def predict_step(self, data):
            return {"doubled": 2 * self(data, training=False)}

    model = Own()
    model.compile("sgd")
    history = model.fit(X, Y, batch_size=20, epochs=2, validation_data=(X, Y), verbose=0).history
    assert list(history) == ["constant", "seen", "val_seen"]
    assert history["seen"] == pytest.approx([X.mean()] * 2, rel=1e-5)
    assert history["val_seen"][0] == pytest.approx(np.mean([X[:20].max(), X[20:].max()]))
    assert model.evaluate(X, Y, batch_size=20, verbose=0, return_dict=True) == {"seen": history["val_seen"][0]}
    assert list(model.predict(X, verbose=0)) == ["doubled"]


def test_losses_that_layers_add_are_trained_on_and_reported():
    class Adding(layers.Layer):
        def call(self, x):
            self.add_loss(0.25 * x.square().mean())
            return x

    model = keras.Sequential([keras.Input((3,)), Adding(), layers.Dense(1, kernel_regularizer="l2")])
    model.compile(optimizers.SGD(0.0), "mse", metrics=["mse"])
    history = model.fit(X, Y, verbose=0, batch_size=40).history
    kernel = model.get_weights()[0]
    expected = history["mse"][0] + 0.25 * np.square(X).mean() + 0.01 * np.square(kernel).sum()
    assert history["loss"][0] == pytest.approx(expected, rel=1e-5)


# -- accumulated gradients


def masked():
    return keras.Sequential([keras.Input((None, 3)), layers.Masking(), layers.GRU(4, return_sequences=True), layers.Dense(1)])


def accumulated(model, x, y, whole, parts, loss="mse", **fit_args):
    """The weights after epochs whose updates take a batch of `whole` rows, and after those with each batch in several parts."""
    twin = copy.deepcopy(model)
    model.compile(optimizers.SGD(0.5), loss)
    model.fit(x, y, batch_size=whole, epochs=3, shuffle=False, verbose=0, **fit_args)
    twin.compile(optimizers.SGD(0.5, gradient_accumulation_steps=parts), loss)
    twin.fit(x, y, batch_size=-(-whole // parts) if parts > 2 else 8, epochs=3, shuffle=False, verbose=0, **fit_args)
    assert int(twin.optimizer.iterations) == int(model.optimizer.iterations)
    return model.get_weights(), twin.get_weights()


def close(pair):
    for a, b in zip(*pair, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize("weights", [{}, {"sample_weight": W[:10]}])
@pytest.mark.parametrize("reduction", ["sum_over_batch_size", "mean_with_sample_weight"])
def test_a_ragged_tail_counts_by_its_rows(weights, reduction):
    close(accumulated(Net(), X[:10], Y[:10], 10, 2, losses.MeanSquaredError(reduction=reduction), **weights))


@pytest.mark.parametrize("weights", [{}, {"sample_weight": W[:10]}])
def test_masked_places_do_not_count(weights):
    x = RNG.normal(size=(10, 6, 3)).astype("float32")
    for row, length in enumerate([6, 1, 2, 3, 6, 5, 1, 1, 6, 6]):
        x[row, length:] = 0
    close(accumulated(masked(), x, RNG.normal(size=(10, 6, 1)).astype("float32"), 10, 2, **weights))


def test_equal_parts_are_the_mean():
    close(accumulated(Net(), X, Y, 40, 4))


def test_losses_of_several_outputs_are_accumulated():
    x = keras.Input((3,))
    model = keras.Model(x, [layers.Dense(1)(x), layers.Dense(2)(x)])
    close(accumulated(model, X[:10], [Y[:10], X[:10, :2]], 10, 2))


def test_validation_between_two_parts_leaves_them_alone():
    class Look(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            self.model.evaluate(X[:3], Y[:3], verbose=0)

    close(accumulated(Net(), X[:10], Y[:10], 10, 2, callbacks=[Look()]))


def test_a_state_between_two_parts_knows_what_was_accumulated():
    w = torch.nn.Parameter(torch.zeros(1))
    first, second = (optimizers.SGD(1.0, gradient_accumulation_steps=2) for _ in range(2))
    first.batch_weight = 8
    first.apply([torch.ones(1)], [w])
    second.build([w])
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    second.batch_weight = 2
    second.apply([torch.zeros(1)], [w])
    assert w.item() == pytest.approx(-0.8)


# -- examples


@pytest.mark.parametrize(("title", "keys"), [("vae", ["distance", "loss", "reconstruction"]), ("gan", None)])
def test_examples_train(title, keys, capsys):
    spec = importlib.util.spec_from_file_location(title, EXAMPLES / f"{title}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    history = module.main(epochs=4)
    assert list(history) == (keys or ["discriminator_loss", "generator_loss"])
    assert all(np.isfinite(v).all() for v in history.values())
    if title == "vae":
        assert history["reconstruction"][-1] < 0.9 * history["reconstruction"][0]
    assert capsys.readouterr().out.count("\n") > 8


class Returning(Net):
    """Trains by hand, and returns what it is told to."""

    returned = None

    def train_step(self, data):
        loss = torch.nn.functional.mse_loss(self(data[0], training=True), data[1])
        self.zero_grad()
        loss.backward()
        self.optimizer.apply([w.grad for w in self.trainable_weights], self.trainable_weights)
        return self.returned(self, loss) if callable(self.returned) else self.returned

    test_step = train_step


def returning(returned, metrics=None):
    model = Returning()
    model.returned = returned
    model.compile("sgd", "mse", metrics=metrics)
    return model


@pytest.mark.parametrize("value", [3.0, np.float32(3), torch.tensor(3.0)])
@pytest.mark.parametrize("compiled", [None, ["mae"]])
def test_history_shows_what_a_step_returned(value, compiled):
    names = ["loss", "mae"] if compiled else ["loss"]
    for keys in (names, ["loss"], ["loss", "more"]):
        model = returning(dict.fromkeys(keys, value), compiled)
        seen = []
        look = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs, seen=seen: seen.append(dict(logs)))
        history = model.fit(X, Y, epochs=2, callbacks=[look], verbose=0).history
        assert history == {k: [3.0, 3.0] for k in sorted(keys)}
        assert seen == [dict.fromkeys(sorted(keys), 3.0)] * len(seen)
        assert model.train_on_batch(X, Y, return_dict=True) == dict.fromkeys(keys, 3.0)


def test_a_metric_that_the_step_fed_shows_the_whole_epoch():
    def feed(model, loss):
        model._loss_tracker.update_state(loss.detach())
        losses_.append(loss.item())
        return {"loss": loss}

    losses_ = []
    history = returning(feed).fit(X, Y, batch_size=20, verbose=0).history
    assert history["loss"] == [pytest.approx(np.mean(losses_), rel=1e-6)]


@pytest.mark.parametrize(
    ("returned", "shown"),
    [
        (None, "Is its `return` missing\\? Received: None"),
        (lambda model, loss: loss.detach(), "Received: Tensor"),
        (5.0, "Received: 5.0"),
    ],
)
def test_a_step_that_returns_no_dictionary_is_an_error(returned, shown):
    with pytest.raises(TypeError, match=f"`train_step` must return a dictionary of results by name.*{shown}"):
        returning(returned).fit(X, Y, verbose=0)


class Making(Net):
    """Makes its own functions over an iterator."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def make_train_function(self, force=False):
        def function(iterator):
            self.calls.append("train")
            for batch in iterator:
                logs = self.train_step(batch)
            return logs

        self.train_function = function

    def make_predict_function(self, force=False):
        return lambda iterator: -self.predict_step(next(iterator))


def test_functions_over_an_iterator_are_called_and_overridden():
    own, plain = Making(), Net()
    own.set_weights(plain.get_weights())
    for model in (own, plain):
        model.compile("sgd", "mse", metrics=["mae"])
    histories = [m.fit(X, Y, batch_size=20, shuffle=False, verbose=0).history for m in (own, plain)]
    assert histories[0] == histories[1]
    assert own.calls == ["train"] * 2
    for rows in (10, 40):
        np.testing.assert_allclose(own.predict(X[:rows], batch_size=20), -plain.predict(X[:rows], batch_size=20), rtol=1e-6)
    batches = iter([(torch.from_numpy(X), torch.from_numpy(Y))] * 2)
    plain.make_train_function()
    assert set(plain.train_function(batches)) == {"loss", "mae"}
    assert set(plain.make_test_function()(batches)) == {"loss", "mae"}
    assert plain.make_predict_function()(iter([(torch.from_numpy(X),)])).shape == (40, 1)
