"""The searches for a learning rate and a batch size: what they find, and that the model is what it was."""

from __future__ import annotations

import copy
import random

import numpy as np
import pytest
import torch
from torch import nn

from hornbeam import optimizers, utils
from hornbeam.callbacks import EarlyStopping
from hornbeam.core.random import set_random_seed
from hornbeam.layers import BatchNormalization, Dense, Dropout, Input
from hornbeam.models import Model, Sequential
from hornbeam.training import finders
from hornbeam.training.finders import find_batch_size, find_learning_rate

RNG = np.random.default_rng(0)
X = RNG.normal(size=(96, 4)).astype("float32")
Y = (X @ np.array([[1.0], [-2.0], [3.0], [0.5]], "float32")).astype("float32")

OPTIMIZERS = {
    "sgd": lambda: optimizers.SGD(0.01, momentum=0.9),
    "adam": lambda: optimizers.Adam(),
    "schedule": lambda: optimizers.Adam(optimizers.schedules.ExponentialDecay(0.01, 5, 0.9)),
    "ema": lambda: optimizers.Adam(use_ema=True, gradient_accumulation_steps=2),
    "scaled": lambda: optimizers.LossScaleOptimizer(optimizers.SGD(0.01, momentum=0.5)),
    "lion": lambda: "lion",
}


def model_of(optimizer="adam", build=True, **compile):
    set_random_seed(5)
    noise = Dropout(0.3, seed=3)
    layers = [Dense(8, "relu", name="a"), BatchNormalization(name="n"), Dropout(0.3), noise, Dense(1, name="b")]
    model = Sequential([Input((4,)), *layers] if build else layers, name="net")
    model.compile(optimizer, "mse", metrics=["mae"], **compile)
    return model


def lr(model):
    curve = find_learning_rate(model, X, Y, batch_size=16, steps=20)
    assert len(curve.rates) > 2


def batch(model):
    assert find_batch_size(model, X, Y, start=16, largest=64).largest == 64


FINDERS = {"rate": lr, "batch": batch}


def everything(model):
    """All that can be compared: tensors and numbers of model, optimizer and metrics."""
    optimizer = model.optimizer
    kept = {name: t.detach().clone() for name, t in [*model.named_parameters(), *model.named_buffers()]}
    if getattr(optimizer, "built", True) and not isinstance(optimizer, torch.optim.Optimizer):
        kept |= {f"optimizer {k}": v.clone() for k, v in optimizer.state_dict().items()}
    return kept


def same(a, b):
    assert a.keys() == b.keys()
    assert all(torch.equal(v, b[k]) for k, v in a.items())


@pytest.mark.parametrize("finder", FINDERS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("build", [True, False])
def test_a_fit_after_a_search_gives_the_same_bits(finder, optimizer, build):
    def run(search):
        model = model_of(OPTIMIZERS[optimizer](), build)
        if search:
            FINDERS[finder](model)
        histories = [model.fit(X, Y, batch_size=16, epochs=2, verbose=0).history]
        before = everything(model)
        if search:
            FINDERS[finder](model)  # in the midst of training
            same(before, everything(model))
        histories.append(model.fit(X, Y, batch_size=16, epochs=2, verbose=0).history)
        return histories, everything(model)

    (a, plain), (b, searched) = run(False), run(True)
    assert a == b
    same(plain, searched)


@pytest.mark.parametrize("finder", FINDERS)
@pytest.mark.parametrize("kind", ["SGD", "Adam"])
def test_optimizers_of_torch(finder, kind):
    def run(search):
        torch.manual_seed(3)
        net = nn.Linear(4, 1)
        model = Sequential([Input((4,)), net])
        extra = {"momentum": 0.9} if kind == "SGD" else {}
        optimizer = getattr(torch.optim, kind)(net.parameters(), lr=0.01, **extra)
        model.compile(optimizer, "mse")
        for _ in range(2):
            if search:
                FINDERS[finder](model)
            assert [group["lr"] for group in optimizer.param_groups] == [0.01]
            history = model.fit(X, Y, batch_size=16, epochs=2, verbose=0).history
        return history, everything(model)

    assert run(False)[0] == run(True)[0]
    same(run(False)[1], run(True)[1])


@pytest.mark.parametrize("finder", FINDERS)
def test_what_else_is_put_back(finder):
    model = model_of()
    history = model.fit(X, Y, batch_size=16, verbose=0)
    model.layers[0].kernel.grad = torch.ones_like(model.layers[0].kernel)
    grad = model.layers[0].kernel.grad
    model.layers[1].trainable = False
    kept = copy.deepcopy(history.history)
    streams = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    results = model.get_metrics_result()
    flags = model.stop_training, model.run_eagerly, model.on_nonfinite
    FINDERS[finder](model)
    assert model.history is history
    assert history.history == kept
    assert model.layers[0].kernel.grad is grad
    assert model.layers[1].trainable is False
    assert torch.equal(torch.get_rng_state(), streams[0])
    assert np.array_equal(np.random.get_state()[1], streams[1])
    assert random.getstate() == streams[2]
    assert results == model.get_metrics_result()
    assert flags == (model.stop_training, model.run_eagerly, model.on_nonfinite)


class Fails(Model):
    def __init__(self, at):
        super().__init__()
        self.dense, self.at, self.calls = Dense(1), at, 0

    def call(self, x, training=False):
        self.calls += bool(training)
        if self.calls > self.at:
            raise KeyError("mine")
        return self.dense(x)


@pytest.mark.parametrize("finder", FINDERS)
def test_it_is_put_back_after_an_error_too(finder):
    model = Fails(1000)
    model.compile("adam", "mse")
    model.fit(X, Y, verbose=0)
    before, model.at = everything(model), model.calls + 3
    with pytest.raises(KeyError, match="mine"):
        FINDERS[finder](model)
    same(before, everything(model))


@pytest.mark.filterwarnings("ignore:Numbers that are not finite")
@pytest.mark.parametrize("optimizer", ["sgd", "adam", "rmsprop"])
def test_the_suggestion_trains_well(optimizer):
    def trained(rate):
        set_random_seed(1)
        model = Sequential([Input((4,)), Dense(8, activation="tanh"), Dense(1)])
        model.compile(optimizers.get({"class_name": optimizer, "config": {"learning_rate": rate}}), "mse")
        return model, model.fit(X, Y, batch_size=16, epochs=10, verbose=0).history["loss"][-1]

    curve = find_learning_rate(trained(1e-3)[0], X, Y, batch_size=16)
    losses = {rate: trained(rate)[1] for rate in (1e-6, 10.0, curve.suggestion)}
    assert min(losses, key=losses.get) == curve.suggestion
    assert losses[curve.suggestion] < np.var(Y) / 3


def test_rates_grow_by_a_factor_and_stop_where_the_loss_has_grown():
    model = Sequential([Input((4,)), Dense(1)])
    model.compile("sgd", "mse")
    curve = find_learning_rate(model, X, Y, batch_size=16, start=1e-4, end=100.0, steps=61)
    steps = np.diff(np.log10(curve.rates))
    np.testing.assert_allclose(steps, 0.1, rtol=1e-6)
    assert curve.rates[0] == pytest.approx(1e-4)
    assert len(curve.rates) == len(curve.losses) == len(curve.smoothed) < 61
    assert not curve.smoothed[-1] < 4 * min(curve.smoothed)
    short = find_learning_rate(model, X, Y, batch_size=16, start=1e-6, end=1e-5, steps=10)
    assert len(short.rates) == 10


def test_a_loss_that_never_falls():
    model = Sequential([Input((4,)), Dense(1, kernel_initializer="zeros")])
    model.compile("sgd", "mse")
    curve = find_learning_rate(model, X, np.zeros_like(Y), steps=20)
    assert curve.suggestion is None
    assert repr(curve) == "<LearningRateCurve of 20 rates: no suggestion: the loss never fell>"
    assert "the loss never fell" in curve.plot().svg


def test_a_curve_shows_itself(tmp_path):
    model = model_of()
    curve = find_learning_rate(model, X, Y, batch_size=16, steps=30)
    assert f"suggestion {curve.suggestion:.2e}" in repr(curve)
    assert "suggestion" in curve._repr_svg_()
    curve.plot(tmp_path / "rates.svg")
    assert (tmp_path / "rates.svg").read_text().startswith("<svg")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"start": 0}, "`start` must be above 0 and below `end`. Received: start=0, end=10.0"),
        ({"start": 1.0, "end": 0.1}, "`start` must be above 0 and below `end`. Received: start=1.0, end=0.1"),
        ({"steps": 3}, "`steps` must be an integer of at least 10. Received: 3"),
    ],
)
def test_rates_of_what(arguments, message):
    with pytest.raises(ValueError, match=message.replace(".", r"\.")):
        find_learning_rate(model_of(), X, Y, **arguments)


def test_a_model_that_is_not_compiled():
    model = Sequential([Dense(1)])
    for finder in (find_learning_rate, find_batch_size):
        with pytest.raises(ValueError, match="compile"):
            finder(model, X, Y)


def test_sizes_double_up_to_the_rows(capsys):
    found = find_batch_size(model_of(), X, Y, start=10)
    assert [size for size, _, _ in found.trials] == [10, 20, 40, 80, 96]
    assert (found.largest, found.stopped) == (96, "there are 96 rows")
    assert found.suggestion in (10, 20, 40, 80, 96)
    memory = [m for _, _, m in found.trials]
    assert memory == sorted(memory)
    text = str(found)
    assert text.count("<- suggestion") == 1
    assert text.endswith("Larger batches were not tried: there are 96 rows.")


def test_the_suggestion_is_the_smallest_that_is_fast(monkeypatch):
    speeds = {8: 100.0, 16: 190.0, 32: 290.0, 64: 300.0, 96: 310.0}
    monkeypatch.setattr(finders, "_speed", lambda model, keeper, given, size, rows, fit: speeds[size])
    assert find_batch_size(model_of(), X, Y).suggestion == 32


def test_a_limit_of_memory():
    model = model_of()
    needed = find_batch_size(model, X, Y, start=16, largest=64).trials
    found = find_batch_size(model, X, Y, start=16, memory=needed[1][2])
    assert found.largest == 32
    assert found.stopped.startswith("64 take ")
    assert "the limit is " in found.stopped
    assert find_batch_size(model, X, Y, start=16, memory="1 GB").largest == 96


ERRORS = [torch.OutOfMemoryError("CUDA out of memory."), RuntimeError("not enough memory: you tried"), MemoryError()]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_a_device_without_more_memory(error):
    class Greedy(Model):
        def __init__(self):
            super().__init__()
            self.dense = Dense(1)

        def call(self, x):
            if len(x) > 30:
                raise error
            return self.dense(x)

    def run(search):
        set_random_seed(2)
        model = Greedy()
        model.compile("adam", "mse")
        if search:
            found = find_batch_size(model, X, Y)
            assert (found.largest, found.stopped) == (16, "32 do not fit into the device's memory")
        return model.fit(X, Y, batch_size=16, verbose=0).history

    assert run(True) == run(False)
    model = Greedy()
    model.compile("adam", "mse")
    with pytest.raises(MemoryError, match="not even batches of 64 fit into the device's memory"):
        find_batch_size(model, X, Y, start=64)


def test_other_errors_come_through():
    model = Fails(0)
    model.compile("sgd", "mse")
    with pytest.raises(KeyError, match="mine"):
        find_batch_size(model, X, Y)


@pytest.mark.parametrize("start", [0, 97, 1.5, None])
def test_sizes_of_what(start):
    with pytest.raises(ValueError, match=r"`start` must be an integer from 1 to 96. Received: "):
        find_batch_size(model_of(), X, Y, start=start)


def test_batches_that_others_make():
    with pytest.raises(ValueError, match="needs arrays or tensors in memory"):
        find_batch_size(model_of(), iter([(X, Y)]))


def test_nests_and_weights():
    a, b = Input((4,), name="a"), Input((4,), name="b")
    model = Model({"a": a, "b": b}, Dense(1)(a + b))
    model.compile("sgd", "mse")
    data = {"a": X, "b": X}
    assert find_batch_size(model, data, Y, start=32, sample_weight=np.ones(96)).largest == 96
    assert find_learning_rate(model, {"a": X, "b": X}, Y, steps=10, sample_weight=np.ones(96)).rates


def test_data_that_comes_in_batches():
    rows = torch.utils.data.TensorDataset(torch.from_numpy(X), torch.from_numpy(Y))
    assert len(find_learning_rate(model_of(), torch.utils.data.DataLoader(rows, batch_size=16), steps=20).rates) > 2
    used = ((X[i : i + 16], Y[i : i + 16]) for i in range(0, 96, 16))
    assert len(find_learning_rate(model_of(), used, steps=20).rates) > 2


def test_names_that_people_guess():
    assert utils.lr_find is utils.find_learning_rate is find_learning_rate
    assert utils.scale_batch_size is utils.find_batch_size is find_batch_size


def test_a_state_that_waits_is_left_waiting():
    model = model_of()
    states = []
    take = EarlyStopping("loss")
    take.on_epoch_end = lambda epoch, logs: states.append(model.get_training_state())
    model.fit(X, Y, batch_size=16, epochs=3, verbose=0, callbacks=[take])
    model.set_training_state(states[0])
    lr(model)
    assert model.__dict__["_resumed"] is states[0]
