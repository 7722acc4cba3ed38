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
