"""Callbacks against Keras's: what they decide, write and leave behind."""

from __future__ import annotations

import os

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
import numpy as np
import pytest
import torch

import hornbeam

pytestmark = pytest.mark.oracle

torch.set_num_threads(1)
RNG = np.random.default_rng(3)
X, Y = RNG.normal(size=(40, 3)).astype("float32"), RNG.normal(size=(40, 1)).astype("float32")
BOTH = [(hornbeam, hornbeam.callbacks), (keras, keras.callbacks)]
SEQUENCES = {
    "falls": [5, 4, 3, 2, 1, 0.5, 0.4, 0.3],
    "rises": [1, 2, 3, 4, 5, 6, 7, 8],
    "flat": [1.0] * 8,
    "one bump": [3, 2, 2.5, 1.5, 1.6, 1.7, 1.4, 1.45],
    "noise": RNG.random(12).tolist(),
    "small steps": [1, 0.99995, 0.9999, 0.99985, 0.9998, 0.9, 0.89995, 0.8999],
    "nan later": [1, float("nan"), 0.5, 0.6, 0.7, 0.8],
}
STATE = ("best", "wait", "stopped_epoch", "best_epoch", "cooldown_counter", "min_delta")


def model_of(lib, value=0.0):
    model = lib.Sequential([lib.Input((3,)), lib.layers.Dense(1, name="d")])
    model.compile(lib.optimizers.SGD(0.1), "mse", metrics=["accuracy"])
    model.layers[-1].kernel.assign(np.full((3, 1), value, "float32"))
    return model


def drive(lib, callback, values, monitor="loss"):
    """Plays results to a callback, and returns all that it did; the kernel tells which epoch's weights are there."""
    model = model_of(lib)
    callback.set_model(model)
    callback.set_params({"epochs": len(values)})
    model.stop_training = False
    callback.on_train_begin()
    rates = []
    for epoch, value in enumerate(values):
        callback.on_epoch_begin(epoch)
        model.layers[-1].kernel.assign(np.full((3, 1), epoch, "float32"))
        callback.on_epoch_end(epoch, {monitor: value})
        rates.append(round(float(model.optimizer.learning_rate), 7))
        if model.stop_training:
            break
    callback.on_train_end()
    kept = {k: getattr(callback, k, None) for k in STATE}
    state = {k: v if v is None else round(float(v), 6) for k, v in kept.items()}
    return rates, state, float(np.asarray(model.get_weights()[0])[0, 0]), callback.monitor_op and callback.monitor_op(1, 2)


EARLY = {
    "plain": {},
    "patience": {"patience": 2},
    "delta": {"patience": 1, "min_delta": 0.3},
    "max": {"patience": 2, "mode": "max"},
    "baseline": {"patience": 3, "baseline": 1.0},
    "baseline of max": {"patience": 3, "baseline": 2.5, "mode": "max"},
    "restore": {"patience": 2, "restore_best_weights": True},
    "restore, max": {"patience": 2, "restore_best_weights": True, "mode": "max"},
    "late start": {"patience": 1, "start_from_epoch": 3, "restore_best_weights": True},
    "start after the end": {"start_from_epoch": 30, "restore_best_weights": True},
    "baseline, restore": {"patience": 2, "baseline": 0.1, "restore_best_weights": True},
}


@pytest.mark.parametrize("values", SEQUENCES)
@pytest.mark.parametrize("case", EARLY)
def test_early_stopping(case, values):
    ours, theirs = (drive(lib, api.EarlyStopping("loss", **EARLY[case]), SEQUENCES[values]) for lib, api in BOTH)
    assert ours == theirs


PLATEAU = {
    "plain": {"patience": 1},
    "none": {"patience": 0},
    "factor": {"patience": 2, "factor": 0.5},
    "cooldown": {"patience": 1, "cooldown": 2, "factor": 0.5},
    "cooldown, none": {"patience": 0, "cooldown": 1},
    "floor": {"patience": 1, "min_lr": 0.03},
    "max": {"patience": 1, "mode": "max"},
    "delta": {"patience": 1, "min_delta": 0.4},
}


@pytest.mark.parametrize("values", SEQUENCES)
@pytest.mark.parametrize("case", PLATEAU)
def test_reduce_on_plateau(case, values):
    ours, theirs = (drive(lib, api.ReduceLROnPlateau("loss", **PLATEAU[case]), SEQUENCES[values]) for lib, api in BOTH)
    assert ours == theirs


@pytest.mark.parametrize("name", ["EarlyStopping", "ReduceLROnPlateau"])
def test_used_twice(name):
    def run(lib, api):
        callback = getattr(api, name)("loss", patience=1)
        return [drive(lib, callback, values) for values in ([3, 2, 1, 0.5], [5, 4.5, 4.6, 4.7, 4.8])]

    assert run(*BOTH[0]) == run(*BOTH[1])


METRICS = {
    "accuracy": lambda m: "accuracy",
    "auc": lambda m: m.AUC(name="it"),
    "precision": lambda m: m.Precision(name="it"),
    "f1": lambda m: m.F1Score(name="it"),
    "iou": lambda m: m.BinaryIoU(name="it"),
    "cosine": lambda m: m.CosineSimilarity(name="it"),
    "r2": lambda m: m.R2Score(name="it"),
    "correlation": lambda m: m.PearsonCorrelation(name="it"),
    "sensitivity": lambda m: m.SensitivityAtSpecificity(0.5, name="it"),
    "mae": lambda m: "mae",
    "mean error": lambda m: m.MeanSquaredError(name="it"),
    "crossentropy": lambda m: m.BinaryCrossentropy(name="it"),
    "hinge": lambda m: m.Hinge(name="it"),
    "divergence": lambda m: m.KLDivergence(name="it"),
    "poisson": lambda m: m.Poisson(name="it"),
}


@pytest.mark.parametrize("metric", METRICS)
def test_which_way_is_better(metric):
    def direction(lib, api):
        model = lib.Sequential([lib.Input((3,)), lib.layers.Dense(1, activation="sigmoid")])
        made = METRICS[metric](lib.metrics)
        model.compile("sgd", "mse", metrics=[made])
        model.fit(X, (Y > 0).astype("float32"), verbose=0)
        stop = api.EarlyStopping(f"val_{made if isinstance(made, str) else made.name}")
        stop.set_model(model)
        stop.on_train_begin()
        stop.on_epoch_end(0, {stop.monitor: 1.0})
        return stop.monitor_op(2, 1)

    assert direction(*BOTH[0]) == direction(*BOTH[1])


def fit(lib, callbacks, **more):
    model = model_of(lib)
    weights = np.linspace(-1, 1, 3, dtype="float32")[:, None]
    model.set_weights([weights, np.zeros(1, "float32")])
    arguments = {"batch_size": 8, "epochs": 4, "shuffle": False, "verbose": 0, "validation_data": (X[:16], Y[:16]), **more}
    return model, model.fit(X, Y, callbacks=callbacks, **arguments).history


def close(ours, theirs):
    assert ours.keys() == theirs.keys()
    for key in ours:
        np.testing.assert_allclose(ours[key], theirs[key], rtol=2e-5, atol=1e-6)


SCHEDULES = {"of two": lambda epoch, rate: rate * 0.5, "of one": lambda epoch: [0.3, 0.1, 0.02, 0.01][epoch]}


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_learning_rates(schedule):
    ours, theirs = (fit(lib, [api.LearningRateScheduler(SCHEDULES[schedule])])[1] for lib, api in BOTH)
    assert "learning_rate" in ours
    close(ours, theirs)


def read(path):
    rows = [line.split(",") for line in path.read_text().splitlines()]
    return rows[0], [[round(float(v), 4) if v != "NA" else v for v in row] for row in rows[1:]]


@pytest.mark.parametrize("validation", ["every epoch", "every other", "never"])
def test_csv_files(tmp_path, validation):
    more = {"every epoch": {}, "every other": {"validation_freq": 2}, "never": {"validation_data": None}}[validation]
    for lib, api in BOTH:
        for epochs in (2, 4):  # the second run goes on with the file
            logger = api.CSVLogger(str(tmp_path / lib.__name__), append=epochs == 4)
            fit(lib, [logger], initial_epoch=epochs - 2, epochs=epochs, **more)
    ours, theirs = (read(tmp_path / name) for name in ("hornbeam", "keras"))
    assert ours == theirs


def test_csv_rows_of_lists(tmp_path):
    for lib, api in BOTH:
        logger = api.CSVLogger(str(tmp_path / lib.__name__), separator=";")
        logger.set_model(model_of(lib))
        logger.on_train_begin()
        logger.model.stop_training = False
        logger.on_epoch_end(0, {"a": [1, 2], "b": "x y", "c": np.float32(0.5), "d": np.ones((2, 2))})
        logger.on_epoch_end(1, {"a": [], "b": 'q"', "c": 1, "d": np.array(3)})
        logger.on_train_end()
    ours, theirs = ((tmp_path / name).read_text() for name in ("hornbeam", "keras"))
    assert ours == theirs


@pytest.mark.parametrize("swap_on_epoch", [False, True])
def test_averaged_weights(swap_on_epoch):
    def run(lib, api):
        seen = []
        model = lib.Sequential([lib.Input((3,)), lib.layers.Dense(1)])
        model.set_weights([np.linspace(-1, 1, 3, dtype="float32")[:, None], np.zeros(1, "float32")])
        model.compile(lib.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.8), "mse")
        swap = api.SwapEMAWeights(swap_on_epoch)
        note = lambda *_: seen.append(np.concatenate([np.ravel(w) for w in model.get_weights()]))  # noqa: E731
        spy = api.LambdaCallback(on_epoch_begin=note, on_epoch_end=note, on_test_begin=note, on_test_end=note, on_train_end=note)
        options = {"batch_size": 8, "epochs": 3, "shuffle": False, "verbose": 0, "validation_data": (X[:16], Y[:16])}
        history = model.fit(X, Y, callbacks=[swap, spy], **options).history
        note()
        history["evaluated"] = [model.evaluate(X, Y, verbose=0, callbacks=[swap])]
        note()
        return history, np.stack(seen)

    ours, theirs = run(*BOTH[0]), run(*BOTH[1])
    close(ours[0], theirs[0])
    np.testing.assert_allclose(ours[1], theirs[1], rtol=2e-5, atol=1e-6)


@pytest.mark.filterwarnings("ignore:.*not finite")
@pytest.mark.parametrize("at", [0, 13, 39])
def test_stop_at_nan(at, capsys):
    def run(lib, api):
        y = Y.copy()
        y[at] = np.nan
        model = model_of(lib)
        model.set_weights([np.linspace(-1, 1, 3, dtype="float32")[:, None], np.zeros(1, "float32")])
        seen = []
        spy = api.LambdaCallback(on_train_batch_end=lambda batch, logs: seen.append(batch))
        history = model.fit(X, y, batch_size=8, epochs=3, shuffle=False, verbose=0, callbacks=[api.TerminateOnNaN(), spy])
        return history.epoch, seen, sorted(history.history), capsys.readouterr().out.strip()

    assert run(*BOTH[0]) == run(*BOTH[1])
