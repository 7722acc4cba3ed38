"""What `compile` was given finds its outputs: names by shape, nests, partial targets; and what callbacks reach in the loop."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import torch

from hornbeam import losses, metrics, ops
from hornbeam.layers.dense import Dense
from hornbeam.layers.input import Input
from hornbeam.models.model import Model
from hornbeam.models.sequential import Sequential
from hornbeam.optimizers import SGD, MultiOptimizer, OptimizerMap
from hornbeam.training import callbacks

X = np.random.default_rng(0).normal(size=(12, 3)).astype("float32")
ONES = np.ones((12, 1), "float32")


class Nested(Model):
    """Returns the input's sum in three places of a nest."""

    def __init__(self):
        super().__init__()
        self.dense = Dense(1, kernel_initializer="ones")

    def call(self, x):
        y = self.dense(x)
        return {"a": [y, 2 * y], "b": 3 * y}


def three_outputs():
    x = Input((3,))
    y = Dense(1, kernel_initializer="ones")(x)
    return Model(x, [y, 2 * y, 3 * y])


def counter():
    """An endless stream of batches, and how many were taken."""
    taken = []

    def batches():
        while True:
            taken.append(1)
            yield X, ONES

    return batches(), taken


@pytest.mark.parametrize(
    ("units", "targets", "kind"),
    [
        (1, ONES, losses.BinaryCrossentropy),
        (4, np.arange(12) % 4, losses.SparseCategoricalCrossentropy),
        (4, np.eye(4, dtype="float32")[np.arange(12) % 4], losses.CategoricalCrossentropy),
    ],
)
@pytest.mark.parametrize("name", ["crossentropy", "ce"])
def test_crossentropy_is_the_kind_that_shapes_need(units, targets, kind, name):
    activation = "sigmoid" if units == 1 else "softmax"
    model = Sequential([Input((3,)), Dense(units, activation=activation)])
    model.compile("sgd", name)
    assert model.evaluate(X, targets, verbose=0) == pytest.approx(float(kind()(targets, model.predict(X, verbose=0))), rel=1e-5)


@pytest.mark.parametrize("given", [["mse", None, None], [None, "mse", None], [None, "mse", "mse"]])
def test_targets_of_outputs_without_a_loss_may_be_left_out(given):
    model = three_outputs()
    model.compile("sgd", given)
    wanted = [ONES * (i + 1) for i, loss in enumerate(given) if loss]
    expected = sum(float(np.mean((y - p) ** 2)) for y, p, loss in zip(
        [ONES, ONES * 2, ONES * 3], model.predict(X, verbose=0), given, strict=True) if loss)  # fmt: skip
    found = model.evaluate(X, wanted[0] if len(wanted) == 1 else wanted, verbose=0, return_dict=True)["loss"]
    assert found == pytest.approx(expected, rel=1e-5)


def test_a_loss_nest_may_name_a_part_of_nested_outputs():
    model = Nested()
    model.compile("sgd", {"a": [None, "mae"]}, metrics={"b": ["mse"]})
    y = {"a": [ONES, ONES], "b": ONES}
    total = X.sum(1, keepdims=True)
    found = model.evaluate(X, y, verbose=0, return_dict=True)
    assert found["loss"] == pytest.approx(np.abs(2 * total - 1).mean(), rel=1e-5)
    assert found["b_mse"] == pytest.approx(((3 * total - 1) ** 2).mean(), rel=1e-5)


@pytest.mark.parametrize("loss", [{"a": ["mse", "mse"], "c": "mse"}, {"b": {"x": "mse"}}, {"a": ["mse", "mse", "mse"]}])
def test_a_loss_nest_that_leaves_the_outputs_is_an_error(loss):
    model = Nested()
    model.compile("sgd", loss)
    with pytest.raises(ValueError, match=r"`loss` has (the key|3 entries, but the model has 2)"):
        model.evaluate(X, {"a": [ONES, ONES], "b": ONES}, verbose=0)


def test_a_metric_function_may_return_a_number():
    model = Sequential([Input((3,)), Dense(1)])
    model.compile("sgd", "mse", metrics=[lambda y_true, y_pred: 2.5])
    assert model.evaluate(X, ONES, verbose=0)[1] == 2.5


def test_metrics_are_listed_compiled_ones_first():
    x = Input((3,))
    model = Model(x, [Dense(1, name="p")(x), Dense(1, name="q")(x)])
    model.own = metrics.Mean(name="own")
    model.compile("sgd", "mse", metrics=[["mae"], None])
    model.fit(X, [ONES, ONES], verbose=0)
    assert model.metrics_names == ["loss", "compile_metrics", "p_loss", "q_loss", "own"]


@pytest.mark.parametrize(("method", "hook", "flag"), [("evaluate", "test", "evaluating"), ("predict", "predict", "predicting")])
def test_a_callback_stops_evaluation_and_prediction(method, hook, flag):
    model = Sequential([Input((3,)), Dense(1)])
    model.compile("sgd", "mse")

    class Stop(callbacks.Callback):
        def stop(self, batch, logs=None):
            if batch == 2:
                setattr(self.model, f"stop_{flag}", True)

    setattr(Stop, f"on_{hook}_batch_end", Stop.stop)
    for _ in range(2):  # the flag of one run does not end the next one
        stream, taken = counter()
        getattr(model, method)(stream, callbacks=[Stop()], verbose=0)
        assert len(taken) in (3, 4)


def test_indexed_data_without_a_length():
    class Endless:
        def __getitem__(self, index):
            return X, ONES

    model = Sequential([Input((3,)), Dense(1)])
    model.compile("sgd", "mse")
    assert len(model.fit(Endless(), steps_per_epoch=3, epochs=2, verbose=0).history["loss"]) == 2


def test_csv_has_columns_for_validation_that_begins_late(tmp_path):
    model = Sequential([Input((3,)), Dense(1)])
    model.compile("sgd", "mse")
    file = tmp_path / "log.csv"
    history = model.fit(
        X, ONES, validation_data=(X, ONES), validation_freq=2, epochs=3, verbose=0, callbacks=[callbacks.CSVLogger(file)]
    ).history
    rows = list(csv.DictReader(file.read_text().splitlines()))
    assert [r["val_loss"] for r in rows] == ["NA", str(history["val_loss"][0]), "NA"]


def test_learning_rate_callbacks_reach_every_part_of_a_multi_optimizer():
    first, rest = SGD(0.5), SGD(0.25)
    model = Sequential([Input((3,)), Dense(2, name="first"), Dense(1)])
    model.compile(MultiOptimizer(OptimizerMap(rest, {"first/.*": first})), "mse")
    halve = callbacks.LearningRateScheduler(lambda epoch, rate: rate / 2)
    flat = callbacks.ReduceLROnPlateau(monitor="loss", factor=0.1, patience=1, min_delta=1e9, min_lr=0.02)
    model.fit(X, ONES, verbose=0, epochs=1, callbacks=[halve])
    assert [float(first.learning_rate), float(rest.learning_rate)] == [0.25, 0.125]
    model.fit(X, ONES, verbose=0, epochs=2, callbacks=[flat])
    assert [float(first.learning_rate), float(rest.learning_rate)] == pytest.approx([0.025, 0.02])


def test_arrays_of_weights_stay_as_they_were_when_training_goes_on():
    model = Sequential([Input((3,)), Dense(1)])
    model.compile("sgd", "mse")
    kernel = model.layers[0].kernel
    taken = [model.get_weights()[0], kernel.numpy(), ops.convert_to_numpy(kernel), np.asarray(kernel)]
    before = torch.clone(kernel.detach()).numpy()
    model.fit(X, ONES, verbose=0)
    assert not np.array_equal(kernel.numpy(), before)
    assert all(np.array_equal(t, before) for t in taken)
    model.set_weights([before, np.zeros(1)])
    assert np.array_equal(kernel.numpy(), before)


@pytest.mark.parametrize("wrap", [lambda y: [y], lambda y: (y,), lambda y: {"out": y}])
@pytest.mark.parametrize("lists", ["metrics", "weighted_metrics"])
def test_targets_of_one_output_may_come_in_a_nest(wrap, lists):
    x = Input((3,))
    model = Model(x, Dense(1, name="out")(x))
    model.compile(SGD(0.0), "mse", **{lists: ["mae"]})
    y = np.zeros((12, 1), "float32")
    expected = [float(np.square(model.predict(X)).mean()), float(np.abs(model.predict(X)).mean())]
    history = model.fit(X, wrap(y), validation_data=(X, wrap(y)), verbose=0).history
    assert [history[k][0] for k in ("loss", "mae")] == pytest.approx(expected, rel=1e-5)
    assert [history[k][0] for k in ("val_loss", "val_mae")] == pytest.approx(expected, rel=1e-5)
    assert model.evaluate(X, wrap(y), verbose=0) == pytest.approx(expected, rel=1e-5)
    assert model.train_on_batch([X], wrap(y)) == pytest.approx(expected, rel=1e-5)
