"""The whole state of a run is taken and put back between two steps: the steps that follow are the same, bit for bit."""

import copy
import pickle

import numpy as np
import pytest
import torch

import hornbeam as keras
from hornbeam import callbacks, layers
from hornbeam.utils import set_random_seed

X = np.random.RandomState(0).randn(50, 6).astype("float32")
Y = np.random.RandomState(1).randint(3, size=50)


def make(seed, **options):
    set_random_seed(seed)
    model = keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(8, activation="relu"),
            layers.BatchNormalization(),
            layers.Dropout(0.3),
            layers.GaussianNoise(0.1, seed=7),
            layers.Dense(3),
        ]
    )
    schedule = keras.optimizers.schedules.CosineDecay(0.01, 40)
    optimizer = options.pop("optimizer", None) or keras.optimizers.AdamW(schedule, gradient_accumulation_steps=2, use_ema=True)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, metrics=["accuracy", keras.metrics.SparseTopKCategoricalAccuracy(2)], **options)
    return model


class Take(keras.callbacks.Callback):
    """Takes the state after so many steps, as a run that goes on elsewhere would; or at the end of so many epochs."""

    def __init__(self, steps=None, epochs=None, stop=False):
        self.steps, self.epochs, self.stop, self.count, self.state = steps, epochs, stop, 0, None

    def state_dict(self):
        return {}

    def on_train_batch_end(self, batch, logs=None):
        self.count += 1
        if self.count == self.steps:
            self._take()

    def on_epoch_end(self, epoch, logs=None):
        if epoch + 1 == self.epochs:
            self._take()

    def _take(self):
        self.state = pickle.loads(pickle.dumps(self.model.get_training_state()))
        self.model.stop_training = self.stop


class Losses(keras.callbacks.Callback):
    def __init__(self):
        self.seen = []

    def on_train_batch_end(self, batch, logs=None):
        self.seen.append((batch, dict(logs)))


def same_bits(a, b):
    for (name, x), (_, y) in zip(a.state_dict().items(), b.state_dict().items(), strict=True):
        assert torch.equal(x, y), name
    ours, theirs = a.optimizer.state_dict(), b.optimizer.state_dict()
    for key, x, y in zip(ours, ours.values(), theirs.values(), strict=True):
        assert torch.equal(x, y), key


def check(fit, take, data=None, **options):
    """A run that stops where `take` says and goes on in a new model must be the undisturbed run."""
    whole, losses = make(3, **copy.deepcopy(options)), Losses()
    history = fit(whole, [losses])
    stopped = make(3, **copy.deepcopy(options))
    fit(stopped, [Losses(), take])
    assert take.state is not None
    np.random.seed(99)
    again, later = make(8, **copy.deepcopy(options)), Losses()
    again.set_training_state(take.state)
    resumed = fit(again, [later, Take()])
    assert later.seen == losses.seen
    assert resumed.history == history.history
    assert resumed.epoch == history.epoch
    same_bits(whole, again)


def in_memory(model, hooks):
    return model.fit(X, Y, batch_size=8, epochs=4, verbose=0, callbacks=hooks, validation_data=(X[:9], Y[:9]))


@pytest.mark.parametrize("steps", [1, 6, 7, 8, 20, 28])
@pytest.mark.parametrize("stop", [False, True])
def test_a_run_goes_on_after_any_step(steps, stop):
    check(in_memory, Take(steps=steps, stop=stop))


@pytest.mark.parametrize("epochs", [1, 3])
def test_a_run_goes_on_after_an_epoch(epochs):
    check(in_memory, Take(epochs=epochs, stop=True))


def test_epochs_need_not_be_passes():
    def fit(model, hooks):
        return model.fit(X, Y, batch_size=8, epochs=5, steps_per_epoch=5, verbose=0, callbacks=hooks)

    check(fit, Take(steps=9))


def test_steps_made_together_are_a_step_for_the_state():
    def fit(model, hooks):
        return model.fit(X, Y, batch_size=8, epochs=4, verbose=0, callbacks=hooks)

    check(fit, Take(steps=3, stop=True), steps_per_execution=3)


def test_a_loader_with_the_users_random_numbers_goes_on():
    class Noisy(torch.utils.data.Dataset):
        def __len__(self):
            return len(X)

        def __getitem__(self, i):
            return X[i] + np.random.rand(6).astype("float32"), Y[i]

    def fit(model, hooks):
        np.random.seed(4)
        torch.manual_seed(5)
        return model.fit(torch.utils.data.DataLoader(Noisy(), 8, shuffle=True), epochs=3, verbose=0, callbacks=hooks)

    check(fit, Take(steps=10, stop=True))


def test_other_optimizers_and_callbacks_go_on():
    def fit(model, hooks):
        more = [
            callbacks.ReduceLROnPlateau("loss", patience=1, min_delta=1.0),
            callbacks.EarlyStopping("loss", patience=9, restore_best_weights=True),
            callbacks.LearningRateScheduler(lambda epoch, rate: rate * 0.9),
        ]
        return model.fit(X, Y, batch_size=8, epochs=4, verbose=0, callbacks=[*more, *hooks])

    check(fit, Take(steps=17, stop=True), optimizer=keras.optimizers.Nadam(0.01))


@pytest.mark.slow
def test_compiled_steps_go_on():
    def fit(model, hooks):
        return model.fit(X, Y, batch_size=8, epochs=2, verbose=0, callbacks=hooks)

    check(fit, Take(steps=9, stop=True), jit_compile=True, optimizer=keras.optimizers.Adam(0.01))


def test_taking_a_state_changes_nothing():
    plain, watched = make(3), make(3)
    in_memory(plain, [])
    in_memory(watched, [callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: watched.get_training_state())])
    same_bits(plain, watched)


def test_a_state_outside_of_a_run_and_of_another_model_is_refused():
    model = make(1)
    with pytest.raises(ValueError, match="is not training: take its state between two steps"):
        model.get_training_state()
    with pytest.raises(TypeError, match="takes what `get_training_state` returned"):
        model.set_training_state({})
    take = Take(steps=2)
    in_memory(model, [take])
    other = keras.Sequential([keras.Input((6,)), layers.Dense(3)])
    other.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    other.set_training_state(take.state)
    before = [w.clone() for w in other.parameters()]
    with pytest.raises(ValueError, match="The training state is of another model"):
        other.fit(X, Y, verbose=0)
    assert all(torch.equal(a, b) for a, b in zip(before, other.parameters(), strict=True))


def plain(seed=5, metrics=(), optimizer="adam", **options):
    set_random_seed(seed)
    model = keras.Sequential([keras.Input((6,)), layers.Dense(8, activation="relu"), layers.Dropout(0.2), layers.Dense(3)])
    model.compile(optimizer, "mse", metrics=[m() for m in metrics], **options)
    return model


TARGETS = np.random.RandomState(2).randn(50, 3).astype("float32")


def goes_on(make, moment, number, fit=None):
    """A run that goes on from a state taken at a moment must be the undisturbed run."""
    fit = fit or (lambda m, hooks: m.fit(X, TARGETS, batch_size=8, epochs=3, verbose=0, callbacks=hooks))
    states = []

    def take(*args):
        states.append(whole.get_training_state())

    whole = make()
    history = fit(whole, [callbacks.LambdaCallback(**{moment: take})])
    again = make()
    again.set_training_state(states[number])
    idle = callbacks.LambdaCallback(**{moment: lambda *args: None})
    assert fit(again, [idle]).history == history.history
    for a, b in zip(whole.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    return whole, again


@pytest.mark.parametrize("moment", ["on_train_batch_begin", "on_epoch_begin", "on_train_batch_end", "on_epoch_end"])
@pytest.mark.parametrize("number", [0, 1, 2, -1])
def test_a_state_is_taken_at_any_moment(moment, number):
    goes_on(plain, moment, number)


class Buffered(keras.metrics.Metric):
    """A metric whose state is plain Python."""

    def __init__(self, name="buffered"):
        super().__init__(name=name)
        self.seen = []

    def update_state(self, y_true, y_pred, sample_weight=None):
        self.seen.append(y_pred.mean())

    def result(self):
        return torch.stack(self.seen).mean() if self.seen else torch.zeros(())

    def reset_state(self):
        self.seen = []


@pytest.mark.parametrize("kind", [keras.metrics.R2Score, keras.metrics.CosineSimilarity, Buffered])
def test_metrics_of_any_kind_go_on(kind):
    goes_on(lambda: plain(metrics=[kind]), "on_train_batch_end", 9)


def test_a_metric_of_torchmetrics_goes_on():
    torchmetrics = pytest.importorskip("torchmetrics")
    goes_on(lambda: plain(metrics=[torchmetrics.MeanAbsoluteError]), "on_train_batch_end", 9)


def test_several_optimizers_go_on():
    class Two(keras.Model):
        def __init__(self):
            super().__init__()
            self.hidden, self.out = layers.Dense(8), layers.Dense(3)
            self.second = keras.optimizers.Adam(0.1)
            self.third = [torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))])]

        def call(self, x):
            return self.out(self.hidden(x))

        def train_step(self, data):
            for optimizer, part in ((self.optimizer, self.hidden), (self.second, self.out)):
                loss = ((self(data[0], training=True) - data[1]) ** 2).mean()
                weights = part.trainable_weights
                optimizer.apply(torch.autograd.grad(loss, weights), weights)
            self.third[0].param_groups[0]["params"][0].grad = torch.ones(1)
            self.third[0].step()
            return {"loss": loss}

    def make():
        set_random_seed(5)
        model = Two()
        model.compile("adam")
        return model

    whole, again = goes_on(make, "on_train_batch_end", 9)
    assert int(whole.second.iterations) == int(again.second.iterations) == 21
    assert again.third[0].state_dict()["state"][0]["step"] == 21


def test_a_state_is_refused_within_validation():
    model = plain()
    take = callbacks.LambdaCallback(on_test_batch_end=lambda batch, logs: model.get_training_state())
    with pytest.raises(ValueError, match="Validation is not between two training steps"):
        model.fit(X, TARGETS, verbose=0, validation_data=(X, TARGETS), callbacks=[take])


def test_nothing_is_left_of_a_run_that_is_over():
    model = plain()
    assert model.fit(X, TARGETS, verbose=0, initial_epoch=3, epochs=3).history == {}
