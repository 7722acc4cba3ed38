"""The open points of the loop: own steps, losses, metrics, optimizers and data of every kind; callbacks; predict."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
from torch import nn

from hornbeam import config, losses, metrics, optimizers
from hornbeam.core import settings
from hornbeam.core.random import set_random_seed
from hornbeam.layers.dense import Dense
from hornbeam.layers.input import Input
from hornbeam.models.model import Model
from hornbeam.models.sequential import Sequential
from hornbeam.training import callbacks, memory, step
from hornbeam.training.randomness import LoopStream

RNG = np.random.default_rng(0)
X = RNG.normal(size=(70, 3)).astype("float32")
Y = (X @ [[1.0], [-2.0], [0.5]]).astype("float32")
CLASSES = (X.sum(1) > 0).astype("int64")


def linear(**kwargs):
    set_random_seed(1)
    model = Sequential([Input((3,)), Dense(1)])
    model.compile(**{"optimizer": "sgd", "loss": "mse", **kwargs})
    return model


class KerasSpelling(Model):
    """A training step as Keras's guide for torch writes it."""

    def train_step(self, data):
        x, y = data
        self.zero_grad()
        y_pred = self(x, training=True)
        loss = self.compute_loss(x=x, y=y, y_pred=y_pred)
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


def functional(cls):
    set_random_seed(1)
    x = Input((3,))
    return cls(x, Dense(1)(Dense(4, activation="tanh")(x)))


def test_a_step_in_keras_spelling_gives_the_bits_of_the_default_step():
    results = []
    for cls in (Model, KerasSpelling):
        model = functional(cls)
        model.compile("adam", "mse", metrics=["mae"])
        history = model.fit(X, Y, batch_size=10, epochs=3, verbose=0).history
        results.append((history, model.get_weights()))
    assert sorted(results[0][0]) == ["loss", "mae"]
    assert results[0][0] == results[1][0]
    assert all(np.array_equal(a, b) for a, b in zip(results[0][1], results[1][1], strict=True))


def test_super_train_step_returns_results():
    seen = []

    class Net(Model):
        def train_step(self, data):
            logs = super().train_step(data)
            seen.append(float(logs["loss"]))
            return {**logs, "twice": 2 * logs["loss"]}

        def test_step(self, data):
            return {"own": torch.tensor(7.0)}

    model = functional(Net)
    model.compile("sgd", "mse")
    history = model.fit(X, Y, batch_size=35, epochs=2, verbose=0, validation_data=(X, Y)).history
    assert sorted(history) == ["loss", "twice", "val_own"]
    assert history["twice"][1] == pytest.approx(2 * history["loss"][1])
    assert history["loss"] == [seen[1], seen[3]]
    assert history["val_own"] == [7.0, 7.0]
    assert model.evaluate(X, Y, verbose=0) == 7.0


def test_own_metrics_of_a_model_begin_anew_every_epoch():
    class Net(Model):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.tracker = metrics.Mean(name="size")

        def train_step(self, data):
            self.tracker.update_state(data[0].abs().mean())
            return {"size": self.tracker.result()}

        @property
        def metrics(self):
            return [self.tracker]

    model = functional(Net)
    model.compile("sgd", "mse")
    first, second = model.fit(X, Y, batch_size=70, epochs=2, verbose=0).history["size"]
    assert first == pytest.approx(np.abs(X).mean())
    assert second == pytest.approx(first)


def test_own_compute_loss_and_compute_metrics():
    class Net(Model):
        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None):
            return (y - y_pred).abs().mean()

        def compute_metrics(self, x, y, y_pred, sample_weight):
            results = super().compute_metrics(x, y, y_pred, sample_weight)
            results["largest"] = y_pred.max()
            return results

    model = functional(Net)
    model.compile("sgd", metrics=["mae"])
    history = model.fit(X, Y, batch_size=70, verbose=0, validation_data=(X, Y)).history
    assert sorted(history) == ["largest", "loss", "mae", "val_largest", "val_loss", "val_mae"]
    assert history["loss"][0] == pytest.approx(history["mae"][0])


def test_a_loss_added_late_counts_from_then_on():
    class Late(Dense):
        active = False

        def call(self, x, training=None):
            if self.active:
                self.add_loss(torch.tensor(100.0))
            return super().call(x)

    layer = Late(1)
    model = Sequential([Input((3,)), layer])
    model.compile("sgd", "mse")

    def switch(epoch, logs):
        layer.active = epoch == 1

    history = model.fit(X, Y, epochs=3, verbose=0, callbacks=[callbacks.LambdaCallback(on_epoch_begin=switch)]).history["loss"]
    assert [v > 50 for v in history] == [False, True, False]


def test_frozen_weights_stay_and_come_back_when_thawed():
    model = Sequential([Input((3,)), Dense(4, name="base"), Dense(1)])
    model.layers[0].trainable = False
    model.compile("adam", "mse")
    base, head = model.layers[0].kernel.detach().clone(), model.layers[1].kernel.detach().clone()
    model.fit(X, Y, verbose=0)
    assert torch.equal(base, model.layers[0].kernel)
    assert not torch.equal(head, model.layers[1].kernel)
    model.layers[0].trainable = True
    model.compile("adam", "mse")
    model.fit(X, Y, verbose=0)
    assert not torch.equal(base, model.layers[0].kernel)


@pytest.mark.parametrize(
    "make",
    [
        lambda ps: torch.optim.SGD(ps, lr=0.01),
        lambda ps: torch.optim.AdamW(ps, lr=0.01),
    ],
)
def test_torch_optimizers_and_losses_train_as_in_a_hand_written_loop(make):
    model = linear()
    twin = copy.deepcopy(model)
    model.compile(make(model.parameters()), nn.MSELoss())
    model.fit(X, Y, batch_size=10, epochs=2, shuffle=False, verbose=0)
    optimizer = make(twin.parameters())
    for _ in range(2):
        for x, y in zip(torch.from_numpy(X).split(10), torch.from_numpy(Y).split(10), strict=True):
            optimizer.zero_grad()
            nn.functional.mse_loss(twin(x), y).backward()
            optimizer.step()
    for a, b in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def loader(**kwargs):
    return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.from_numpy(X), torch.from_numpy(Y)), 10, **kwargs)


class Indexed:
    """Batches by number, as a PyDataset gives them."""

    ended = 0

    def __len__(self):
        return 7

    def __getitem__(self, i):
        return X[10 * i : 10 * i + 10], Y[10 * i : 10 * i + 10]

    def on_epoch_end(self):
        self.ended += 1


def generator(epochs):
    for _ in range(epochs):
        yield from (Indexed()[i] for i in range(7))


class Frame:
    """Has `__array__` and a shape, as data frames do."""

    def __init__(self, values):
        self.values, self.shape = values, values.shape

    def __array__(self, dtype=None, copy=None):
        return self.values


SOURCES = {
    "tensors": lambda: {"x": torch.from_numpy(X), "y": torch.from_numpy(Y), "batch_size": 10},
    "float64": lambda: {"x": X.astype("float64"), "y": Y.astype("float64"), "batch_size": 10},
    "Fortran order": lambda: {"x": np.asfortranarray(X), "y": Y, "batch_size": 10},
    "negative strides": lambda: {"x": X[::-1].copy()[::-1], "y": Y, "batch_size": 10},
    "big-endian": lambda: {"x": X.astype(">f4"), "y": Y.astype(">f8"), "batch_size": 10},
    "lists": lambda: {"x": Frame(X), "y": Y[:, 0].tolist(), "batch_size": 10},
    "frames": lambda: {"x": Frame(X), "y": Frame(Y), "batch_size": 10},
    "DataLoader": lambda: {"x": loader()},
    "Dataset": lambda: {"x": loader().dataset, "batch_size": 10},
    "list of batches": lambda: {"x": type("Batches", (), {"__iter__": lambda self: generator(1)})()},
    "indexed": lambda: {"x": Indexed()},
    "generator": lambda: {"x": generator(2), "steps_per_epoch": 7},
    "dictionary": lambda: {"x": {"only": X}, "y": Y, "batch_size": 10},
}


@pytest.mark.parametrize("source", SOURCES)
def test_every_source_gives_the_same_training(source):
    def run(**fit):
        set_random_seed(1)
        x = Input((3,), name="only")
        model = Model(x, Dense(1)(x))
        model.compile("sgd", "mse", metrics=["mae"])
        return model.fit(epochs=2, shuffle=False, verbose=0, **fit).history

    expected, got = run(x=X, y=Y, batch_size=10), run(**SOURCES[source]())
    assert {k: pytest.approx(v, rel=1e-6) for k, v in expected.items()} == got


def test_read_only_arrays_are_taken_and_inputs_never_written():
    x, y = X.copy(), Y.copy()
    x.flags.writeable = False
    before = y.copy()
    linear().fit(x, y, verbose=0)
    assert np.array_equal(before, y)


def test_indexed_sources_are_told_that_an_epoch_ended():
    source = Indexed()
    linear().fit(source, epochs=3, verbose=0)
    assert source.ended == 3


def test_a_generator_that_ends_early_ends_training_with_a_warning():
    model = linear()
    with pytest.warns(UserWarning, match="The data ended after 0 batches of epoch 3; training stops"):
        history = model.fit(generator(2), epochs=5, steps_per_epoch=7, verbose=0).history
    assert len(history["loss"]) == 2


def test_an_error_in_a_generator_keeps_what_was_and_says_where():
    def batches():
        yield from generator(1)
        yield X[:10], Y[:10]
        raise KeyError("mine")

    model = linear()
    with pytest.raises(KeyError, match="mine") as error:
        model.fit(batches(), epochs=2, steps_per_epoch=7, verbose=0)
    assert "While batch 8 of pass 1 over the data was read." in error.value.__notes__
    assert len(model.history.history["loss"]) == 1


def test_validation_from_a_loader_and_its_frequency():
    history = linear().fit(X, Y, epochs=4, verbose=0, validation_data=loader(), validation_freq=2).history
    assert len(history["loss"]) == 4
    assert len(history["val_loss"]) == 2
    every = linear().fit(X, Y, epochs=2, verbose=0, validation_data=(X, Y), validation_freq=np.int64(1)).history
    assert len(every["val_loss"]) == 2
    listed = linear().fit(X, Y, epochs=4, verbose=0, validation_data=(X, Y), validation_freq=[1, 4]).history
    assert len(listed["val_loss"]) == 2


def test_predict_keeps_nests_and_modes():
    x = Input((3,))
    model = Model(x, {"a": Dense(1)(x), "b": [Dense(2)(x), x]})
    model.train()
    small, large = model.predict(X[:2]), model.predict(X, batch_size=16, verbose=0)
    assert model.training
    assert sorted(large) == ["a", "b"]
    assert large["b"][0].shape == (70, 2)
    np.testing.assert_allclose(small["a"], large["a"][:2], rtol=1e-6)
    large["b"][1][:] = 0
    small["b"][1][:] = 0
    assert X.any()


def test_predict_runs_foreign_modules_in_inference_mode():
    drop = nn.Dropout(0.9)
    model = Sequential([Input((3,)), drop])
    assert np.array_equal(model.predict(X[:4]), X[:4])
    drop.train()
    assert np.array_equal(model.predict(X), X)
    assert drop.training


def test_own_predict_step():
    class Net(Model):
        def predict_step(self, data):
            return super().predict_step(data) * 0 + 3

    assert (functional(Net).predict(X[:2]) == 3).all()
    assert (functional(Net).predict(X, verbose=0) == 3).all()


def test_early_stopping_restores_the_best_weights():
    model, kept = linear(optimizer=optimizers.SGD(3.0)), []
    stop = callbacks.EarlyStopping("loss", patience=2, restore_best_weights=True)
    record = callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: kept.append(model.get_weights()))
    history = model.fit(X, Y, epochs=50, verbose=0, callbacks=[record, stop]).history["loss"]
    assert len(history) < 50
    best = int(np.argmin(history))
    assert all(np.array_equal(a, b) for a, b in zip(kept[best], model.get_weights(), strict=True))
    assert model.stop_training


def test_a_plateau_lowers_the_learning_rate():
    model = linear(optimizer=optimizers.SGD(1e-9))
    history = model.fit(
        X, Y, epochs=5, verbose=0, callbacks=[callbacks.ReduceLROnPlateau("loss", patience=2, factor=0.5)]
    ).history
    assert history["learning_rate"] == pytest.approx([1e-9, 1e-9, 1e-9, 5e-10, 5e-10])


def test_schedules_files_and_hooks(tmp_path):
    model, calls = linear(), []
    names = [n for n in dir(callbacks.Callback) if n.startswith("on_")]
    spy = callbacks.LambdaCallback(
        **{n: lambda *args, n=n: calls.append(n) for n in names if "batch_begin" not in n and "on_batch" not in n}
    )
    rate = callbacks.LearningRateScheduler(lambda epoch, lr: 0.5 * lr)
    file = tmp_path / "log.csv"
    history = model.fit(
        X, Y, batch_size=35, epochs=2, verbose=0, validation_data=(X, Y), callbacks=[spy, rate, callbacks.CSVLogger(file)]
    )
    assert history.history["learning_rate"] == pytest.approx([0.005, 0.0025])
    lines = file.read_text().splitlines()
    assert lines[0] == "epoch,learning_rate,loss,val_loss"
    assert len(lines) == 3
    epoch = [
        "on_epoch_begin",
        "on_train_batch_end",
        "on_train_batch_end",
        "on_test_begin",
        *["on_test_batch_end"] * 2,
        "on_test_end",
        "on_epoch_end",
    ]
    assert calls == ["on_train_begin", *epoch, *epoch, "on_train_end"]


@pytest.mark.filterwarnings("ignore:.*holds nan in row 40")
def test_a_nan_stops_training(capsys):
    labels = Y.copy()
    labels[40] = np.nan
    history = linear().fit(X, labels, batch_size=10, shuffle=False, epochs=3, verbose=0, callbacks=[callbacks.TerminateOnNaN()])
    assert len(history.epoch) == 1
    assert "Batch 4: Invalid loss, terminating training" in capsys.readouterr().out
    with pytest.raises(RuntimeError, match="The loss is nan at batch 4"):
        linear().fit(X, labels, batch_size=10, shuffle=False, verbose=0, callbacks=[callbacks.TerminateOnNaN(raise_error=True)])


def test_batch_logs_are_the_mean_so_far():
    seen = []
    model = linear()
    model.fit(
        X,
        Y,
        batch_size=10,
        verbose=0,
        callbacks=[callbacks.LambdaCallback(on_train_batch_end=lambda b, logs: seen.append(dict(logs)))],
    )
    assert len(seen) == 7
    assert model.history.history["loss"][0] == seen[-1]["loss"]


def test_long_runs_of_one_weigh_rows_right():
    model = linear(optimizer=optimizers.SGD(0.0))
    rows = np.concatenate([X] * 30)[:2001]
    whole = model.fit(rows, np.zeros((2001, 1)), batch_size=2001, verbose=0).history["loss"][0]
    assert model.fit(rows, np.zeros((2001, 1)), batch_size=7, verbose=0).history["loss"][0] == pytest.approx(whole, rel=1e-6)


@pytest.mark.parametrize("optimizer", [None, torch.optim.Adam])
def test_a_trained_model_copies_and_pickles(optimizer):
    model = linear(metrics=["mae"]) if optimizer is None else Sequential([Input((3,)), Dense(1)])
    if optimizer is not None:
        model.compile(optimizer(model.parameters()), "mse")
    model.fit(X, Y, verbose=0)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert np.array_equal(twin.predict(X[:3]), model.predict(X[:3]))
        twin.fit(X, Y, verbose=0)
        assert not np.array_equal(twin.predict(X[:3]), model.predict(X[:3]))


def test_compile_config_round_trip():
    model = linear(optimizer=optimizers.Adam(0.02), loss=losses.Huber(), metrics=["mae"])
    twin = linear()
    twin.compile_from_config(model.get_compile_config())
    assert float(twin.optimizer.learning_rate) == pytest.approx(0.02)
    assert isinstance(twin.loss, losses.Huber)
    assert Sequential([Dense(1)]).get_compile_config() is None


def test_a_model_built_by_fit_alone():
    class Net(Model):
        def __init__(self):
            super().__init__()
            self.blocks = [Dense(4, activation="relu"), Dense(1)]

        def call(self, inputs):
            x = inputs["a"] + inputs["b"]
            for block in self.blocks:
                x = block(x)
            return x

    model = Net()
    model.compile("adam", "mse")
    history = model.fit({"a": X, "b": X}, Y, epochs=20, verbose=0).history["loss"]
    assert history[-1] < history[0]


def test_freed_memory_is_kept_only_while_fit_runs():
    seen = []
    model = linear()
    model.fit(
        X, Y, verbose=0, callbacks=[callbacks.LambdaCallback(on_epoch_end=lambda e, logs: seen.append(memory.KeptMemory.depth))]
    )
    assert seen in ([1], [0])
    assert memory.KeptMemory.depth == 0
    memory.keep_freed_memory(False)
    try:
        model.fit(
            X,
            Y,
            verbose=0,
            callbacks=[callbacks.LambdaCallback(on_epoch_end=lambda e, logs: seen.append(memory.KeptMemory.depth))],
        )
    finally:
        memory.keep_freed_memory(True)
    assert seen[-1] == 0


def test_orders_are_a_function_of_seed_and_pass():
    set_random_seed(4)
    first, again = LoopStream(), LoopStream()
    assert torch.equal(first.order(50), again.order(50))
    assert not torch.equal(first.order(50), LoopStream().order(50))
    chunks = first.order_of_chunks(10, 45)
    assert sorted(chunks.tolist()) == list(range(45))
    assert all(len({i // 10 for i in c.tolist()}) == 1 for c in chunks.split(10))
    assert chunks[-5:].tolist() == [40, 41, 42, 43, 44]


@pytest.mark.parametrize("dtype", ["int64", "uint8", "bool", "float16"])
@pytest.mark.parametrize("built", [True, False])
def test_numbers_of_other_dtypes_train(dtype, built):
    model = Sequential([Input((3,)), Dense(1)] if built else [Dense(1)])
    model.compile("sgd", "mse")
    assert np.isfinite(model.fit((X > 0).astype(dtype), Y, verbose=0).history["loss"][0])


def test_the_engine_called_by_itself_gives_the_bits_of_backward(monkeypatch):
    def run():
        model = linear(optimizer="adam", metrics=["mae"])
        return model.fit(X, Y, epochs=3, verbose=0).history

    direct = run()
    assert step._engine_answers()
    monkeypatch.setattr(step, "_engine_answers", lambda: False)
    assert run() == direct


@pytest.mark.slow
def test_a_compiled_step_agrees_with_the_eager_one(capsys):
    def run(jit, rows=70):
        set_random_seed(1)
        model = Sequential([Input((3,)), Dense(4, activation="relu"), Dense(1)])
        model.compile("adam", "mse", metrics=["mae"], jit_compile=jit)
        return model, model.fit(X[:rows], Y[:rows], batch_size=20, epochs=3, verbose=0).history

    (eager, expected), (compiled, got) = run(False), run(True)
    assert not compiled._compiled_step.failed
    assert compiled._compiled_step.form[0][0] == (20, 3)
    assert {k: pytest.approx(v, rel=1e-5) for k, v in expected.items()} == got
    for a, b in zip(eager.get_weights(), compiled.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    assert copy.deepcopy(compiled).predict(X[:3]).shape == (3, 1)
    assert capsys.readouterr().out == ""


@pytest.mark.slow
def test_what_cannot_be_compiled_runs_eagerly_and_says_so():
    class Branches(Dense):
        def call(self, x, training=None):
            return super().call(x) if x.sum() > 0 else super().call(-x)

    model = Sequential([Input((3,)), Branches(1)])
    model.compile("sgd", "mse", jit_compile=True)
    with pytest.warns(UserWarning, match=r"trains without torch.compile: Unsupported.*test_loop.py:\d+: return super") as caught:
        assert np.isfinite(model.fit(X, Y, epochs=2, verbose=0).history["loss"][1])
    assert len(caught) == 1


def test_limits_of_epochs_and_steps_hold_for_whole_programs(monkeypatch):
    x, y = np.ones((40, 3), "float32"), np.ones((40, 1), "float32")
    model = Sequential([Input((3,)), Dense(1)])
    model.compile("sgd", "mse")
    counted = []
    hook = Counting(counted)
    monkeypatch.setitem(settings._settings, "max_epochs", "2")  # as the environment gives it
    config.set_max_steps_per_epoch(3)
    try:
        assert (config.max_epochs(), config.max_steps_per_epoch()) == (2, 3)
        kept = model.fit(x, y, batch_size=4, epochs=9, validation_data=(x, y), callbacks=[hook], verbose=0)
        assert len(kept.history["loss"]) == 2
        assert (counted.count("train"), counted.count("test")) == (6, 6)
        model.fit(((x[:4], y[:4]) for _ in range(99)), callbacks=[hook], verbose=0)
        assert counted.count("train") == 9
        assert model.predict(x, batch_size=4, verbose=0, steps=2, callbacks=[hook]).shape == (8, 1)
        assert model.predict(np.concatenate([x, x]), batch_size=4, verbose=0).shape == (12, 1)
        model.evaluate(x, y, batch_size=20, verbose=0)
    finally:
        config.set_max_steps_per_epoch(None)
    assert len(model.fit(x, y, batch_size=4, epochs=1, verbose=0).history["loss"]) == 1
    with pytest.raises(ValueError, match="set_max_epochs takes a whole number"):
        config.set_max_epochs(0)


def test_no_epochs_change_nothing():
    model = Sequential([Input((3,)), Dense(1)])
    model.compile("sgd", "mse")
    before = model.get_weights()
    stopper = callbacks.EarlyStopping(restore_best_weights=True)
    history = model.fit(np.ones((4, 3)), np.ones((4, 1)), epochs=0, validation_split=0.5, callbacks=[stopper], verbose=0)
    assert (history.history, history.epoch) == ({}, [])
    assert all((a == b).all() for a, b in zip(before, model.get_weights(), strict=True))


@pytest.mark.parametrize("name", ["x", "y"])
def test_rows_in_a_list_are_told_as_what_they_are(name):
    model = Sequential([Input((3,)), Dense(2)])
    model.compile("sgd", "mse")
    data = {"x": np.ones((90, 3)), "y": np.ones((90, 2))}
    with pytest.raises(ValueError, match=rf"for one array of rows, pass numpy.array\({name}\)") as found:
        model.fit(**{**data, name: list(data[name])}, verbose=0)
    assert len(str(found.value)) < 400


class Counting(callbacks.Callback):
    """Notes each batch of training and of validation."""

    def __init__(self, counted):
        super().__init__()
        self.counted = counted

    def on_train_batch_end(self, batch, logs=None):
        self.counted.append("train")

    def on_test_batch_end(self, batch, logs=None):
        self.counted.append("test")
