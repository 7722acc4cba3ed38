"""The training loop of an ejected file: from equal weights on equal data it finds the losses that `fit` found."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

import hornbeam as keras
from export.running import is_formatted, run
from hornbeam import layers, optimizers

GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(50, 6, generator=GENERATOR)
Y = torch.randint(0, 3, (50,), generator=GENERATOR)
ONE_HOT = F.one_hot(Y, 3).float()


def mlp(**kwargs):
    return keras.Sequential([
        keras.Input((6,)), layers.Dense(8, activation="relu", **kwargs), layers.BatchNormalization(),
        layers.Dense(3, activation="softmax"),
    ])  # fmt: skip


def two_outputs():
    a, b = keras.Input((4,), name="a"), keras.Input((3,), name="b")
    both = layers.concatenate([a, b])
    return keras.Model([a, b], [layers.Dense(1, name="size")(both), layers.Dense(3, name="kind")(both)])


SPARSE = "sparse_categorical_crossentropy"
LOGITS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
RUNS = {
    "sgd": (mlp(), {"optimizer": optimizers.SGD(0.1, momentum=0.9, nesterov=True), "loss": SPARSE,
                    "metrics": ["accuracy"]}, Y, {}),
    "adam": (mlp(kernel_regularizer="l2"), {"optimizer": optimizers.Adam(0.01, global_clipnorm=0.5), "loss": SPARSE}, Y,
             {"validation_data": (X[:7], Y[:7])}),
    "adamw": (mlp(), {"optimizer": optimizers.AdamW(optimizers.schedules.ExponentialDecay(0.01, 5, 0.7), clipnorm=0.3),
                      "loss": "mse", "metrics": ["mae"]}, ONE_HOT, {}),
    "rmsprop": (mlp(), {"optimizer": optimizers.RMSprop(optimizers.schedules.CosineDecay(0.01, 12), momentum=0.5, centered=True),
                        "loss": keras.losses.CategoricalCrossentropy(label_smoothing=0.1)}, ONE_HOT, {}),
    "adagrad": (mlp(), {"optimizer": optimizers.Adagrad(0.05, clipvalue=0.1), "loss": SPARSE}, Y,
                {"class_weight": {0: 1.0, 1: 2.0, 2: 0.5}}),
    "torch": (mlp(), {"optimizer": lambda weights: torch.optim.AdamW(weights, lr=0.02), "loss": SPARSE}, Y, {}),
    "two outputs": (two_outputs(), {"optimizer": "adam", "loss": ["mse", LOGITS], "loss_weights": [1.0, 0.3]}, [X[:, :1], Y], {}),
}  # fmt: skip


@pytest.mark.parametrize("name", RUNS)
def test_equal_losses(name):
    model, compiled, y, fitted = RUNS[name]
    x = [X[:, :4], X[:, :3]] if name == "two outputs" else X
    model.compile(**compiled)
    start = {k: v.detach().clone() for k, v in model.state_dict().items()}
    theirs = model.fit(x, y, epochs=3, batch_size=16, shuffle=False, verbose=0, **fitted).history
    source = model.to_source(training=True)
    assert not is_formatted(source)
    made = run(source)
    weights = torch.tensor([fitted["class_weight"][int(i)] for i in y]) if "class_weight" in fitted else None
    ours = made["train"](
        made["load"](start), x, y, batch_size=16, shuffle=False, weights_of_samples=weights,
        validation=fitted.get("validation_data"),
    )  # fmt: skip
    assert len(ours) == 3
    for key, values in theirs.items():
        assert [epoch[key] for epoch in ours] == pytest.approx(values, abs=1e-5), key


def test_what_is_left_out_is_said():
    model = mlp(kernel_constraint="non_neg")
    model.compile(optimizers.Adam(use_ema=True), "categorical_crossentropy", metrics=[keras.metrics.AUC(name="area")])
    model.fit(X, ONE_HOT, epochs=1, verbose=0)
    source = model.to_source(training=True)
    assert "# Left out: the moving average of the weights (use_ema)." in source
    assert "# Left out: the metric area, which is no plain mean over samples." in source
    assert "# Left out: constraints on weights." in source


def test_a_model_that_was_not_compiled_has_no_loop():
    with pytest.raises(ValueError, match="needs a model compiled with a loss"):
        mlp().to_source(training=True)


def test_an_optimizer_without_a_plain_class_is_named():
    model = mlp()
    model.compile(optimizers.Lion(), SPARSE)
    with pytest.raises(ValueError, match="the optimizer Lion has no class in plain PyTorch yet"):
        model.to_source(training=True)


def test_the_loop_is_for_plain_torch():
    with pytest.raises(ValueError, match="for plain PyTorch only"):
        mlp().to_source(style="functional", training=True)


def loop_of(model, x, y, **compiled):
    """Trains a model by `fit` and by its ejected loop from equal weights; returns both histories and the source."""
    model.compile(optimizers.SGD(0.1), **compiled)
    start = {k: v.detach().clone() for k, v in model.state_dict().items()}
    theirs = model.fit(x, y, epochs=2, batch_size=16, shuffle=False, verbose=0).history
    source = model.to_source(training=True)
    assert not is_formatted(source)
    made = run(source)
    return theirs, made["train"](made["load"](start), x, y, batch_size=16, shuffle=False), source


def assert_equal_histories(theirs, ours):
    for key, values in theirs.items():
        assert [epoch[key] for epoch in ours] == pytest.approx(values, rel=1e-5, abs=1e-5), key


def one(units, **kwargs):
    return keras.Sequential([keras.Input((6,)), layers.Dense(units, **kwargs)])


TARGETS = {
    "numbers without a last axis": (one(1), X[:, 0], {"loss": "mse", "metrics": ["mae"]}),
    "whole numbers": (one(1, activation="sigmoid"), (X[:, 0] > 0).long(), {"loss": "bce", "metrics": ["accuracy"]}),
    "classes in a column": (one(3, activation="softmax"), Y[:, None], {
        "loss": SPARSE, "metrics": ["accuracy", keras.metrics.SparseTopKCategoricalAccuracy(k=2)]}),
    "one-hot": (one(3, activation="softmax"), ONE_HOT, {
        "loss": "categorical_crossentropy", "metrics": [keras.metrics.TopKCategoricalAccuracy(k=2)]}),
    "a torch module": (one(1), X[:, 0], {"loss": torch.nn.MSELoss()}),
    "torch's classes": (one(3), Y, {"loss": torch.nn.CrossEntropyLoss(label_smoothing=0.1)}),
    "a torch function": (one(3), Y[:, None], {"loss": F.cross_entropy}),
    "one's own": (one(3), Y, {"loss": lambda y, p: F.cross_entropy(p, y.long(), reduction="none")}),
}  # fmt: skip


@pytest.mark.parametrize("name", TARGETS)
def test_targets_of_any_shape(name):
    model, y, compiled = TARGETS[name]
    theirs, ours, _ = loop_of(model, X, y, **compiled)
    assert_equal_histories(theirs, ours)


def test_targets_of_a_wrong_shape_are_an_error():
    model = one(3)
    model.compile("sgd", "mse")
    made = run(model.to_source(training=True))
    with pytest.raises(ValueError, match=r"targets \(32,\) for outputs \(32, 3\)"):
        made["train"](made["load"](model.state_dict()), X, X[:, 0])


def test_data_by_name():
    a, b = keras.Input((6,), name="a"), keras.Input((6,), name="b")
    both = layers.Add()([a, b])
    model = keras.Model({"b": b, "a": a}, {"p": layers.Dense(1)(both), "q": layers.Dense(2)(both)})
    data = {"a": X, "b": 2 * X}
    theirs, ours, source = loop_of(model, data, {"p": X[:, 0], "q": X[:, :2]}, loss={"p": "mse", "q": "mae"})
    assert_equal_histories(theirs, ours)
    made = run(source)["load"](model.state_dict())
    torch.testing.assert_close(made(data), model(data))


def test_metrics_before_the_first_step():
    model = one(3)
    model.compile("sgd", "mse", metrics=["mae"])
    assert 'found["mae"] = mae_of(' in model.to_source(training=True)
    assert model._compile_metrics._parts is None


class Penalized(layers.Layer):
    def call(self, x):
        self.add_loss((x**2).mean())
        return x


def test_losses_and_masks_that_are_left_out_are_said():
    model = keras.Sequential([keras.Input((6,)), layers.Dense(2), Penalized(name="penalized")])
    model.compile("sgd", "mse")
    assert "# Left out: what penalized adds to the loss when it is called (add_loss)." in model.to_source(training=True)
    model = keras.Sequential([
        keras.Input((6,), dtype="int32"), layers.Embedding(9, 4, mask_zero=True), layers.LSTM(3, return_sequences=True),
    ])  # fmt: skip
    model.compile("sgd", "mse")
    source = model.to_source(training=True)
    assert "# Left out: masks: places that the model's mask leaves out of the loss" in source
    assert "# Not known here: class_weight" in source


def test_a_loss_that_leaves_places_out_is_refused():
    model = one(3)
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=1))
    with pytest.raises(ValueError, match=r"'sparse_categorical_crossentropy.*' leaves places out of the mean"):
        model.to_source(training=True)


def test_a_plain_module_is_told_where_its_loop_is():
    with pytest.raises(ValueError, match=r"is not kept: train it as `hornbeam\.models\.TorchModel"):
        keras.to_source(torch.nn.Linear(3, 2), (None, 3), training=True)
