"""Watching a run does not change it (same bits), and no step waits for the device."""

from __future__ import annotations

import copy
import sys
from unittest import mock

import numpy as np
import pytest
import torch
from torch import nn

from hornbeam import losses
from hornbeam.core.random import set_random_seed
from hornbeam.graph.context import context
from hornbeam.layers.dense import Dense
from hornbeam.layers.input import Input
from hornbeam.models.model import Model
from hornbeam.models.sequential import Sequential
from hornbeam.training import callbacks

X = torch.randn(96, 6, generator=torch.Generator().manual_seed(1)).numpy()
Y = np.arange(96) % 4


def noisy(kind="sequential"):
    """A model with a random layer: its curve shows at once when a random number more or less is drawn."""
    if kind == "sequential":
        return Sequential([Dense(16, activation="relu"), nn.Dropout(0.4), Dense(4)])
    if kind == "functional":
        x = Input((6,))
        return Model(x, Dense(4)(torch.dropout(Dense(16, activation="relu")(x), 0.4, True)))

    class Net(Model):
        def __init__(self):
            super().__init__()
            self.inner, self.drop, self.outer = Dense(16, activation="relu"), nn.Dropout(0.4), Dense(4)

        def call(self, x):
            return self.outer(self.drop(self.inner(x)))

    return Net()


def train(kind="sequential", before=None, seed=5, **fit):
    set_random_seed(seed)
    model = noisy(kind)
    model.compile("adam", losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    if before is not None:
        before(model)
    history = model.fit(X, Y, **{"batch_size": 16, "epochs": 3, "verbose": 0, **fit}).history
    return {k: v for k, v in history.items() if not k.startswith("val_")}, [w.detach().numpy().copy() for w in model.weights]


def same_bits(a, b):
    assert a[0] == b[0]
    assert all(np.array_equal(v, w) for v, w in zip(a[1], b[1], strict=True))


@pytest.mark.parametrize("kind", ["sequential", "functional", "subclassed"])
def test_a_seed_gives_the_same_bits_twice(kind):
    first = train(kind)
    same_bits(first, train(kind))
    assert first[0] != train(kind, seed=6)[0]


def draws(*args):
    torch.rand(7), np.random.rand(3)


def predicts(model):
    model.predict(X[:5]), model.predict(X, batch_size=7, verbose=0)


WATCHERS = {
    "validation data": {"validation_data": (X[:40], Y[:40])},
    "validation every other epoch": {"validation_data": (X[:40], Y[:40]), "validation_freq": 2},
    "callbacks that draw": {
        "callbacks": [
            callbacks.LambdaCallback(
                on_epoch_begin=draws, on_epoch_end=draws, on_train_batch_end=draws, on_train_batch_begin=draws
            )
        ]
    },
    "callbacks that predict": {
        "callbacks": [
            callbacks.LambdaCallback(on_train_batch_end=lambda b, logs: logs["loss"] and 0, on_epoch_end=lambda e, logs: draws())
        ]
    },
    "verbose": {"verbose": 2},
    "a predict before": {"before": lambda m: predicts(m)},
    "draws before": {"before": draws},
    "an evaluate before": {"before": lambda m: m.evaluate(X, Y, verbose=0)},
    "a look before": {"before": lambda m: (m.build((None, 6)), m.summary(print_fn=lambda *a, **k: None), repr(m))},
    "a copy before": {"before": lambda m: (m.build((None, 6)), copy.deepcopy(m))},
}


@pytest.mark.parametrize("watcher", WATCHERS)
def test_watching_changes_no_bit(watcher):
    same_bits(train(), train(**WATCHERS[watcher]))


def test_a_generator_that_draws_changes_no_bit():
    def batches(noise):
        for _ in range(3):
            for i in range(0, 96, 16):
                if noise:
                    draws()
                yield X[i : i + 16], Y[i : i + 16]

    def run(noise):
        set_random_seed(5)
        model = noisy()
        model.compile("adam", losses.SparseCategoricalCrossentropy(from_logits=True))
        return model.fit(batches(noise), epochs=3, steps_per_epoch=6, verbose=0).history

    assert run(False) == run(True)


def test_the_users_stream_is_where_it_was():
    model = noisy()
    model.compile("adam", losses.SparseCategoricalCrossentropy(from_logits=True))
    model.build((None, 6))
    before = torch.get_rng_state()
    model.fit(X, Y, verbose=0, validation_split=0.2)
    model.train_on_batch(X, Y)
    model.predict(X)
    assert torch.equal(before, torch.get_rng_state())


def test_it_is_put_back_after_an_error_too():
    model = noisy()
    model.compile("adam", losses.SparseCategoricalCrossentropy(from_logits=True))
    model.build((None, 6))
    before = torch.get_rng_state()

    def fails(batch, logs):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        model.fit(X, Y, verbose=0, callbacks=[callbacks.LambdaCallback(on_train_batch_end=fails)])
    assert torch.equal(before, torch.get_rng_state())
    assert torch.is_grad_enabled()
    assert context.training is None
    assert context.depth == 0


def test_epochs_come_in_different_orders_and_go_on_in_the_next_fit():
    seen = []

    class Net(Model):
        def __init__(self):
            super().__init__()
            self.dense = Dense(1)

        def call(self, x):
            return self.dense(x)

        def train_step(self, data):
            seen.extend(data[0][:, 0].tolist())
            return super().train_step(data)

    rows = np.arange(20, dtype="float32")[:, None]

    def orders(fits):
        set_random_seed(3)
        model = Net()
        model.compile("sgd", "mse")
        seen.clear()
        for epochs in fits:
            model.fit(rows, rows, batch_size=6, epochs=epochs, verbose=0)
        return [seen[i : i + 20] for i in range(0, len(seen), 20)]

    once = orders([4])
    assert all(sorted(order) == rows[:, 0].tolist() for order in once)
    assert len({tuple(o) for o in once}) == 4
    assert orders([1, 3]) == once


READS = ("item", "tolist", "__bool__", "__float__", "__int__", "__index__", "numpy", "cpu", "nonzero")


def test_no_step_waits_for_the_device():
    """Counts everything that would wait for a device, in the steps of an epoch."""
    counts = {}

    def reads(rows):
        model = noisy()
        model.compile("adam", losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
        x, y = torch.from_numpy(X).repeat(20, 1)[:rows], torch.from_numpy(Y).repeat(20)[:rows]
        model.fit(x, y, verbose=0, batch_size=8)
        with mock.patch.multiple(torch.Tensor, **{name: _counted(name, counts) for name in READS}):
            counts.clear()
            model.fit(x, y, verbose=0, batch_size=8)
        return dict(counts)

    assert reads(800) == reads(1600)
    assert sum(counts.values()) < 60


def _counted(name, counts):
    original = getattr(torch.Tensor, name)

    def call(self, *args, **kwargs):
        counts[name] = counts.get(name, 0) + 1
        return original(self, *args, **kwargs)

    return call


def path_from_fit(model_of):
    """Returns the code objects from `fit` down to the call of a Dense layer, both included."""
    frames = []

    class Probe(Dense):
        def call(self, x, training=None):
            frame = sys._getframe()
            frames.clear()
            while frame.f_back is not None and frame.f_code.co_name != "fit":
                frames.append(frame.f_code)
                frame = frame.f_back
            frames.append(frame.f_code)
            return super().call(x)

    model = model_of(Probe(4))
    model.compile("adam", losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(X, Y, verbose=0, epochs=1)
    assert frames[-1].co_name == "fit"
    return frames


def chain_of(layer):
    return Sequential([Input((6,)), layer])


def graph_of(layer):
    x = Input((6,))
    return Model(x, layer(x))



@pytest.mark.parametrize("model_of", [chain_of, graph_of])
def test_few_frames_lie_between_fit_and_the_kernel(model_of):
    frames = path_from_fit(model_of)
    assert len(frames) <= 12, [c.co_qualname for c in frames]


@pytest.mark.parametrize("model_of", [chain_of, graph_of])
def test_few_files_lie_between_fit_and_the_kernel(model_of):
    files = {c.co_filename for c in path_from_fit(model_of) if "hornbeam/" in c.co_filename} | {"dense.py"}
    assert len(files) <= 4, files


def test_a_forward_of_two_layers_takes_few_python_calls():
    model = Sequential([Input((6,)), Dense(8, activation="relu"), Dense(4)])
    x = torch.from_numpy(X)
    model(x)
    calls = []

    def profile(frame, event, arg):
        if event == "call":
            calls.append(frame.f_code.co_qualname)

    sys.setprofile(profile)
    try:
        model(x)
    finally:
        sys.setprofile(None)
    assert 5 < len(calls) <= 40, calls


def test_progress_reads_metrics_only_now_and_then(capsys):
    model = noisy()
    model.compile("adam", losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    model.fit(X, Y, epochs=2, verbose=1, validation_split=0.25)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert lines[1].startswith("Epoch 2/2 - 3/3 - ")
    assert all(k in lines[1] for k in ("accuracy: ", "loss: ", "val_accuracy: ", "val_loss: "))
