"""What PyTorch users bring to `compile`: optimizers, schedulers, losses, metrics of torchmetrics."""

from __future__ import annotations

import copy
import functools
import pickle
import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.optim import lr_scheduler

import hornbeam as keras
from hornbeam import layers, optimizers
from hornbeam.callbacks import TorchScheduler
from hornbeam.training.torch_objects import TorchLoss

torch.set_num_threads(1)
RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 3)).astype("float32")
Y = RNG.normal(size=(40, 1)).astype("float32")
CLASSES = RNG.integers(0, 4, 40)
W = RNG.uniform(0.1, 2, 40).astype("float32")


def chain(units=1, activation=None):
    return keras.Sequential([keras.Input((3,)), layers.Dense(5, activation="tanh"), layers.Dense(units, activation=activation)])


def by_hand(module, make, loss, epochs=2, batch=10, schedule=None, y=Y):
    """The loop that a PyTorch user writes."""
    optimizer = make(list(module.parameters()))
    scheduler = schedule and schedule(optimizer)
    for _ in range(epochs):
        for a, b in zip(torch.from_numpy(X).split(batch), torch.from_numpy(y).split(batch), strict=True):
            optimizer.zero_grad()
            loss(module(a), b).backward()
            optimizer.step()
        if scheduler:
            scheduler.step()
    return optimizer


def same_weights(a, b, **tolerance):
    for p, q in zip(a.parameters(), b.parameters(), strict=True):
        torch.testing.assert_close(p, q, **({"rtol": 0, "atol": 0} | tolerance))


MAKERS = {
    "class": torch.optim.AdamW,
    "function": lambda weights: torch.optim.SGD(weights, lr=0.05, momentum=0.9),
    "partial": functools.partial(torch.optim.RMSprop, lr=0.01),
    "groups": lambda weights: torch.optim.SGD([{"params": weights[:2], "lr": 0.1}, {"params": weights[2:]}], lr=0.01),
}


@pytest.mark.parametrize("given", ["instance", "as it is", "TorchOptimizer"])
@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_every_optimizer_trains_as_in_a_hand_written_loop(make, given):
    model = chain()
    twin = copy.deepcopy(model)
    forms = {
        "instance": lambda: make(list(model.parameters())),
        "as it is": lambda: make,
        "TorchOptimizer": lambda: optimizers.TorchOptimizer(make),
    }
    model.compile(forms[given](), nn.MSELoss())
    model.fit(X, Y, batch_size=10, epochs=2, shuffle=False, verbose=0)
    by_hand(twin, make, F.mse_loss)
    same_weights(model, twin)


def test_an_instance_stays_the_users_own():
    model = chain()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model.compile(optimizer, "mse")
    assert model.optimizer is optimizer


def test_a_function_is_called_when_the_weights_are_known():
    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(1)

        def call(self, x):
            return self.dense(x)

    model = Net()
    model.compile(torch.optim.Adam, "mse")
    assert model.optimizer.optimizer is None
    model.fit(X, Y, verbose=0)
    assert isinstance(model.optimizer.optimizer, torch.optim.Adam)
    assert int(model.optimizer.iterations) == 2
    assert model.optimizer.learning_rate == 0.001
    model.optimizer.learning_rate = 0.5
    assert [g["lr"] for g in model.optimizer.param_groups] == [0.5]


@pytest.mark.parametrize("limits", [{"global_clipnorm": 0.1}, {"clipvalue": 0.01}])
def test_clipping_and_accumulation_surround_it(limits):
    model = chain()
    twin = copy.deepcopy(model)
    model.compile(optimizers.TorchOptimizer(MAKERS["function"], gradient_accumulation_steps=2, **limits), "mse")
    model.fit(X, Y, batch_size=5, epochs=2, shuffle=False, verbose=0)
    optimizer = MAKERS["function"](list(twin.parameters()))
    clip = nn.utils.clip_grad_norm_ if "global_clipnorm" in limits else nn.utils.clip_grad_value_
    for _ in range(2):
        for a, b in zip(torch.from_numpy(X).split(10), torch.from_numpy(Y).split(10), strict=True):
            optimizer.zero_grad()
            F.mse_loss(twin(a), b).backward()
            clip(twin.parameters(), *limits.values())
            optimizer.step()
    same_weights(model, twin, rtol=1e-4, atol=1e-6)


def test_state_goes_into_a_copy_and_a_fresh_optimizer():
    model = chain()
    model.compile(MAKERS["class"], "mse")
    model.fit(X, Y, verbose=0)
    twin = pickle.loads(pickle.dumps(model))
    third = chain()
    third.compile(MAKERS["class"], "mse")
    third.set_weights(model.get_weights())
    third.optimizer.load_state_dict(copy.deepcopy(model.optimizer.state_dict()))
    for m in (model, twin, third):
        m.fit(X, Y, verbose=0, shuffle=False)
    same_weights(model, twin)
    same_weights(model, third)
    assert int(third.optimizer.iterations) == 4


@pytest.mark.parametrize(
    ("optimizer", "error", "message"),
    [
        (lambda weights: None, TypeError, "is to make a torch optimizer returned None"),
        (lambda weights: torch.optim.SGD([nn.Parameter(torch.ones(1))]), ValueError, "holds none of the model's 4 weights"),
        (torch.optim.LBFGS, ValueError, "LBFGS computes the loss several times a step"),
    ],
)
def test_an_optimizer_that_cannot_train_is_an_error(optimizer, error, message):
    model = chain()
    model.compile(optimizer, "mse")
    with pytest.raises(error, match=message):
        model.fit(X, Y, verbose=0)


@pytest.mark.parametrize("wrap", [lambda optimizer: optimizer, optimizers.TorchOptimizer])
def test_an_optimizer_of_another_models_weights_is_an_error(wrap):
    model, other = chain(), chain()
    model.compile(wrap(torch.optim.SGD(other.parameters(), 0.1)), "mse")
    for train in (lambda: model.fit(X, Y, verbose=0), lambda: model.train_on_batch(X, Y)):
        with pytest.raises(ValueError, match="SGD holds none of the model's 4 weights that learn"):
            train()


def test_an_instance_of_lbfgs_is_an_error():
    model = chain()
    model.compile(torch.optim.LBFGS(model.parameters()), "mse")
    with pytest.raises(ValueError, match="LBFGS computes the loss several times a step"):
        model.fit(X, Y, verbose=0)


def test_an_optimizer_older_than_a_layer_gets_one_warning():
    model = chain()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    model.add(layers.Dense(1, name="late"))
    model.compile(optimizer, "mse")
    with pytest.warns(UserWarning, match="SGD holds 4 of the 6 weights that learn.*'late/kernel', 'late/bias'") as caught:
        model.fit(X, Y, epochs=2, verbose=0)
    assert len(caught) == 1
    model.layers[-1].trainable = False
    model.compile(optimizer, "mse")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.fit(X, Y, verbose=0)


def test_torch_optimizer_takes_only_optimizers():
    with pytest.raises(TypeError, match="TorchOptimizer takes an optimizer of torch"):
        optimizers.TorchOptimizer("adam")
    with pytest.raises(TypeError, match="has no config to be written"):
        optimizers.TorchOptimizer(torch.optim.Adam).get_config()


@pytest.mark.parametrize("make", [lambda model: torch.optim.SGD(model.parameters()), lambda model: torch.optim.SGD])
def test_a_model_compiled_with_it_has_no_compile_config(make):
    model = chain()
    model.compile(make(model), "mse")
    with pytest.warns(UserWarning, match="cannot be written into a config, so it will have to be compiled anew"):
        assert model.get_compile_config() is None


# -- schedulers


@pytest.mark.parametrize("as_function", [True, False])
@pytest.mark.parametrize("every", ["epoch", "batch"])
def test_a_scheduler_steps_once_an_epoch_or_a_batch(every, as_function):
    model, rates = chain(), []
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    make = functools.partial(lr_scheduler.StepLR, step_size=2, gamma=0.5)
    model.compile(optimizer, "mse")
    look = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: rates.append(optimizer.param_groups[0]["lr"]))
    scheduler = TorchScheduler(make if as_function else make(optimizer), every)
    history = model.fit(X, Y, batch_size=10, epochs=3, verbose=0, callbacks=[scheduler, look]).history
    if every == "epoch":
        assert rates == [1.0] * 8 + [0.5] * 4
        assert history["learning_rate"] == [1.0, 0.5, 0.5]
    else:
        assert rates == [0.5 ** (n // 2) for n in range(1, 13)]


def test_scheduled_training_is_that_of_a_hand_written_loop():
    model = chain()
    twin = copy.deepcopy(model)
    schedule = functools.partial(lr_scheduler.ExponentialLR, gamma=0.5)
    model.compile(MAKERS["function"], "mse")
    model.fit(X, Y, batch_size=10, epochs=3, shuffle=False, verbose=0, callbacks=[TorchScheduler(schedule)])
    by_hand(twin, MAKERS["function"], F.mse_loss, 3, schedule=schedule)
    same_weights(model, twin, rtol=1e-6, atol=1e-7)


def test_reduce_on_plateau_gets_the_monitored_result():
    model = chain()
    model.compile(torch.optim.SGD(model.parameters(), lr=1e-9), "mse")
    flat = functools.partial(lr_scheduler.ReduceLROnPlateau, patience=0, factor=0.1, threshold=0.9, eps=0)
    history = model.fit(X, Y, epochs=3, verbose=0, validation_split=0.5, callbacks=[TorchScheduler(flat)]).history
    assert history["learning_rate"] == pytest.approx([1e-9, 1e-10, 1e-11])


def test_a_schedulers_state_is_taken_and_put_back():
    model = chain()
    model.compile(lambda weights: torch.optim.SGD(weights, lr=1.0), "mse")
    first = TorchScheduler(lambda optimizer: lr_scheduler.StepLR(optimizer, 2, 0.5))
    model.fit(X, Y, epochs=3, verbose=0, callbacks=[first])
    second = TorchScheduler(lambda optimizer: lr_scheduler.StepLR(optimizer, 2, 0.5))
    second.set_model(model)
    second.on_train_begin()
    second.load_state_dict(first.state_dict())
    assert second.scheduler.last_epoch == 3


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda model: TorchScheduler("step"), TypeError, "takes a scheduler of torch, or a function"),
        (lambda model: TorchScheduler(print, "epochs"), ValueError, "must be 'epoch' or 'batch'. Did you mean 'epoch'"),
        (
            lambda model: TorchScheduler(lr_scheduler.ReduceLROnPlateau(model.optimizer), "batch"),
            ValueError,
            "looks at the results of epochs",
        ),
        (lambda model: TorchScheduler(lr_scheduler.ReduceLROnPlateau, monitor="val_los"), ValueError, "no result 'val_los'"),
        (
            lambda model: TorchScheduler(lr_scheduler.StepLR(torch.optim.SGD([nn.Parameter(torch.ones(1))]), 1)),
            ValueError,
            "made for another optimizer than the model's",
        ),
    ],
)
def test_a_scheduler_that_does_not_fit_is_an_error(make, error, message):
    model = chain()
    model.compile(torch.optim.SGD(model.parameters(), lr=0.1), "mse")
    with pytest.raises(error, match=message):
        model.fit(X, Y, verbose=0, callbacks=[make(model)])


def test_a_scheduler_needs_an_optimizer_of_torch():
    model = chain()
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match=r"needs a model that was compiled with an optimizer of torch\.optim"):
        model.fit(X, Y, verbose=0, callbacks=[TorchScheduler(functools.partial(lr_scheduler.StepLR, step_size=1))])


# -- losses


@pytest.mark.parametrize("labels", [CLASSES, CLASSES.astype("int32"), CLASSES[:, None], CLASSES.astype("float32")])
def test_cross_entropy_takes_labels_as_keras_users_have_them(labels):
    model = chain(4)
    model.compile("sgd", nn.CrossEntropyLoss(), metrics=["accuracy"])
    twin = copy.deepcopy(model)
    twin.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    ours, theirs = (m.fit(X, labels, epochs=2, shuffle=False, verbose=0).history for m in (model, twin))
    for key in theirs:
        assert ours[key] == pytest.approx(theirs[key], rel=1e-5)


def test_classes_may_lie_on_the_last_axis_or_on_axis_1():
    logits, labels = torch.randn(5, 3, 3, 4), torch.randint(0, 4, (5, 3, 3))
    expected = F.cross_entropy(logits.movedim(-1, 1), labels)
    loss = TorchLoss(nn.CrossEntropyLoss())
    assert torch.equal(loss(labels, logits), expected)
    assert torch.equal(loss(labels, logits.movedim(-1, 1)), expected)
    one_hot = F.one_hot(labels[:, 0, 0], 4)
    torch.testing.assert_close(loss(one_hot, logits[:, 0, 0]), F.cross_entropy(logits[:, 0, 0], labels[:, 0, 0]))


LOSSES = {
    "mse": (nn.MSELoss(), 1),
    "mse none": (nn.MSELoss(reduction="none"), 1),
    "l1 sum": (nn.L1Loss(reduction="sum"), 1),
    "huber": (nn.HuberLoss(), 1),
    "bce": (nn.BCEWithLogitsLoss(), 1),
    "cross entropy": (nn.CrossEntropyLoss(label_smoothing=0.1), 4),
    "class weights": (nn.CrossEntropyLoss(torch.tensor([1.0, 2.0, 0.5, 3.0])), 4),
    "ignored": (nn.CrossEntropyLoss(ignore_index=2), 4),
    "nll": (nn.NLLLoss(), 4),
    "function": (F.cross_entropy, 4),
    "partial": (functools.partial(F.cross_entropy, ignore_index=1), 4),
    "mse function": (F.mse_loss, 1),
}


@pytest.mark.parametrize("name", LOSSES)
def test_the_loss_is_the_modules_own_and_weights_of_one_change_nothing(name):
    loss, units = LOSSES[name]
    y_pred = torch.randn(40, units)
    y = torch.from_numpy(CLASSES) if units == 4 else torch.rand(40, 1)
    expected = loss(y_pred, y)
    expected = expected.mean() if expected.ndim else expected
    ours = TorchLoss(loss)
    torch.testing.assert_close(ours(y, y_pred), expected)
    if name != "partial":
        torch.testing.assert_close(ours(y, y_pred, torch.ones(40)), expected)
    y_pred = y_pred.requires_grad_()
    weights = torch.zeros(40)
    weights[7] = 1
    (gradient,) = torch.autograd.grad(ours(y, y_pred, weights), y_pred)
    assert set(gradient.abs().sum(1).nonzero().flatten().tolist()) <= {7}
    assert gradient.isfinite().all()


def test_samples_are_weighted_as_by_a_loss_of_ours():
    models = [chain() for _ in range(2)]
    models[1].set_weights(models[0].get_weights())
    for model, loss in zip(models, (nn.MSELoss(), "mse"), strict=True):
        model.compile("sgd", loss, weighted_metrics=["mae"])
        model.history = model.fit(X, Y, sample_weight=W, epochs=3, shuffle=False, verbose=0)
    assert models[0].history.history["loss"] == pytest.approx(models[1].history.history["loss"], rel=1e-5)
    same_weights(*models, rtol=1e-5, atol=1e-6)


def test_masks_leave_values_out():
    mask = torch.tensor([[True, False], [True, True]])
    y_pred = torch.randn(2, 2, 3)
    y_pred._keras_mask = mask
    y = torch.zeros(2, 2, 3)
    torch.testing.assert_close(TorchLoss(nn.MSELoss())(y, y_pred), (y_pred**2)[mask].mean())


def test_integer_targets_and_missing_axes_fit_elementwise_losses():
    y_pred = torch.randn(4, 1)
    y = torch.tensor([0, 1, 1, 0])
    torch.testing.assert_close(
        TorchLoss(nn.BCEWithLogitsLoss())(y, y_pred), F.binary_cross_entropy_with_logits(y_pred[:, 0], y.float())
    )
    with pytest.raises(ValueError, match="needs targets and outputs of one shape"):
        TorchLoss(nn.MSELoss())(torch.ones(4, 1), torch.ones(4, 3))


def test_a_module_that_returns_a_number_takes_no_weights():
    class Own(nn.Module):
        def forward(self, y_pred, y_true):
            return (y_pred - y_true).abs().mean()

    model = chain()
    model.compile("sgd", Own())
    model.fit(X, Y, verbose=0)
    with pytest.raises(ValueError, match="Own returns one number for a whole batch, so it cannot take sample weights"):
        model.fit(X, Y, sample_weight=W, verbose=0)


def test_losses_of_several_outputs_may_come_from_both_worlds():
    x = keras.Input((3,))
    model = keras.Model(x, {"a": layers.Dense(1)(x), "b": layers.Dense(4)(x)})
    model.compile("sgd", {"a": "mse", "b": nn.CrossEntropyLoss()})
    result = model.evaluate(X, {"a": Y, "b": CLASSES}, verbose=0, return_dict=True)
    predicted = model.predict(X, verbose=0)
    assert result["b_loss"] == pytest.approx(
        float(F.cross_entropy(torch.tensor(predicted["b"]), torch.tensor(CLASSES))), rel=1e-5
    )


# -- metrics


@pytest.fixture
def torchmetrics():
    return pytest.importorskip("torchmetrics")


def test_torchmetrics_are_in_the_history_and_begin_anew_each_epoch(torchmetrics):
    model = chain(4, "softmax")
    collection = torchmetrics.MetricCollection(
        {"top": torchmetrics.Accuracy(task="multiclass", num_classes=4, average="micro"),
         "f1": torchmetrics.F1Score(task="multiclass", num_classes=4, average="macro")}
    )  # fmt: skip
    accuracy = torchmetrics.Accuracy(task="multiclass", num_classes=4, average="micro")
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy", accuracy, collection])
    history = model.fit(X, CLASSES[:, None], epochs=3, verbose=0, validation_data=(X, CLASSES)).history
    names = ["accuracy", "f1", "loss", "multiclass_accuracy", "top"]
    assert list(history) == [*names, *(f"val_{n}" for n in names)]
    assert history["multiclass_accuracy"] == pytest.approx(history["accuracy"], rel=1e-6)
    assert history["val_top"] == pytest.approx(history["val_accuracy"], rel=1e-6)
    twin = pickle.loads(pickle.dumps(model))
    assert twin.evaluate(X, CLASSES, verbose=0) == model.evaluate(X, CLASSES, verbose=0)


def test_torchmetrics_of_numbers_and_of_two_classes(torchmetrics):
    model = chain(1, "sigmoid")
    model.compile("sgd", "bce", metrics=[torchmetrics.MeanSquaredError, torchmetrics.Accuracy(task="binary"), "accuracy", "mse"])
    labels = (Y > 0).astype("float32")
    for y in (labels, labels[:, 0]):
        result = model.evaluate(X, y, verbose=0, return_dict=True)
        assert result["mean_squared_error"] == pytest.approx(result["mse"], rel=1e-5)
        assert result["binary_accuracy"] == pytest.approx(result["accuracy"])


def test_torchmetrics_take_no_sample_weights(torchmetrics):
    model = chain()
    model.compile("sgd", "mse", weighted_metrics=[torchmetrics.MeanSquaredError()])
    with pytest.raises(ValueError, match="torchmetrics, which takes no sample weights"):
        model.evaluate(X, Y, sample_weight=W, verbose=0)


def test_a_torchmetrics_state_is_taken_and_put_back(torchmetrics):
    from hornbeam.training.torch_objects import TorchMetric

    metric = TorchMetric(torchmetrics.MeanSquaredError())
    metric.update_state(torch.ones(3), torch.zeros(3))
    state = metric.state_dict()
    metric.update_state(torch.zeros(3), torch.zeros(3))
    assert float(metric.result()) == 0.5
    metric.load_state_dict(state)
    assert float(metric.result()) == 1.0
    with pytest.raises(TypeError, match="has no config"):
        metric.get_config()


def test_a_loss_class_of_torch_is_made():
    model = chain()
    model.compile("sgd", nn.MSELoss, metrics=["mse"])
    history = model.fit(X, Y, batch_size=40, verbose=0).history
    assert history["loss"] == pytest.approx(history["mse"], rel=1e-6)


@pytest.mark.parametrize("compiled", [{"jit_compile": False}, {"loss_weights": 1.0}])
def test_a_loss_function_for_a_plain_module_gets_integer_labels(compiled):
    module = nn.Linear(3, 4)
    twin = copy.deepcopy(module)
    arguments = {"optimizer": "sgd", "shuffle": False, "verbose": 0, **compiled}
    own = keras.fit(module, X, CLASSES, loss=lambda y, output: F.cross_entropy(output, y), **arguments)
    given = keras.fit(twin, X, CLASSES, loss=nn.CrossEntropyLoss(), **arguments)
    assert own.history["loss"] == pytest.approx(given.history["loss"], rel=1e-5)
    same_weights(module, twin)
