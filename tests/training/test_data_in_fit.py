"""Data through `fit`: who makes the items does not matter, and a fit that failed leaves everything as it was."""

import gc
import multiprocessing
import os
import random
import threading

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, RandomSampler, TensorDataset

import hornbeam as keras
from hornbeam.training.pydataset import state_of

X = np.random.default_rng(0).normal(size=(24, 3)).astype("float32")
Y = X.sum(1, keepdims=True)


class Pieces(keras.utils.PyDataset):
    """Batches of four rows with random augmentation; item `bad` raises."""

    bad = None

    def __len__(self):
        return 6

    def __getitem__(self, index):
        if index == self.bad:
            raise KeyError("no such picture")
        rows = slice(4 * index, 4 * index + 4)
        return X[rows] + np.float32(np.random.rand() * random.random()) * torch.rand(4, 3).numpy(), Y[rows]


class Still(Pieces):
    def __getitem__(self, index):
        return X[4 * index : 4 * index + 4], Y[4 * index : 4 * index + 4]


def model():
    keras.utils.set_random_seed(7)
    layers = [keras.layers.Dense(8, "relu"), keras.layers.Dropout(0.5), keras.layers.BatchNormalization(), keras.layers.Dense(1)]
    made = keras.Sequential([keras.Input((3,)), *layers])
    made.compile("adam", "mse")
    return made


def bits(made):
    return [t.detach().clone() for t in made.state_dict().values()]


def same_bits(a, b):
    return all(torch.equal(s, t) for s, t in zip(a, b, strict=True))


WORKERS = [{"workers": 0}, {"workers": 1, "use_multiprocessing": True}, {"workers": 4, "use_multiprocessing": True}]


def test_the_number_of_workers_does_not_matter_to_a_run():
    def run(kind, **kwargs):
        made = model()
        history = made.fit(kind(**kwargs), epochs=3, validation_data=kind(**kwargs), verbose=0).history
        return history, bits(made), made.predict(kind(**kwargs), verbose=0).tolist()

    for kind, workers in ((Pieces, WORKERS), (Still, [*WORKERS, {"workers": 4}])):
        first, *others = [run(kind, **kwargs) for kwargs in workers]
        for other in others:
            assert other[0] == first[0]
            assert other[2] == first[2]
            assert same_bits(other[1], first[1])
    assert multiprocessing.active_children() == []


def test_validation_from_a_dataset_does_not_change_the_training():
    def run(**kwargs):
        made = model()
        return made.fit(Pieces(), epochs=3, verbose=0, **kwargs).history["loss"]

    assert run() == run(validation_data=Pieces()) == run(validation_data=Pieces(workers=2, use_multiprocessing=True))


def left_over():
    files = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    return {
        "children": len(multiprocessing.active_children()),
        "threads": sum(t.name.startswith("item-") for t in threading.enumerate()),
        "files": files,
        "grad": torch.is_grad_enabled(),
        "autocast": torch.is_autocast_enabled(),
        "torch": torch.get_rng_state().sum().item(),
        "numpy": np.random.get_state()[1].sum(),
        "python": random.getstate(),
    }


@pytest.mark.parametrize("workers", [{"workers": 1}, {"workers": 2, "use_multiprocessing": True}])
def test_a_fit_that_failed_leaves_everything_as_it_was(workers):
    made = model()
    made.fit(Pieces(**workers), verbose=0)
    gc.collect()
    before, training = left_over(), [m.training for m in made.modules()]
    for _ in range(2):
        broken = Pieces(**workers)
        broken.bad = 3
        with pytest.raises(KeyError, match="no such picture") as caught:
            made.fit(broken, epochs=2, shuffle=False, verbose=0)
        assert "While batch 3 of pass 1 over the data was made." in caught.value.__notes__
        assert multiprocessing.active_children() == []  # also while the traceback is held
        del caught
    gc.collect()
    assert left_over() == before
    assert [m.training for m in made.modules()] == training

    state, slots = bits(made), [v.numpy().copy() for v in made.optimizer.variables]
    fresh = model()
    with torch.no_grad():
        for tensor, value in zip(fresh.state_dict().values(), state, strict=True):
            tensor.copy_(value)
    fresh.optimizer.build(fresh.trainable_weights)
    for variable, value in zip(fresh.optimizer.variables, slots, strict=True):
        variable.assign(value)
    histories = []
    for each in (made, fresh):
        torch.manual_seed(11)
        histories.append(each.fit(Pieces(**workers), epochs=2, verbose=0).history)
    assert histories[0] == histories[1]
    assert same_bits(bits(made), bits(fresh))


def endless(taken, again=None):
    """Batches of four rows without end; with `again`, always the same arrays, filled anew."""
    while True:
        at = 4 * (len(taken) % 6)
        taken.append(at)
        if again is None:
            yield X[at : at + 4], Y[at : at + 4]
        else:
            again[0][:], again[1][:] = X[at : at + 4], Y[at : at + 4]
            yield again


def still_model(library=keras):
    """A model that learns nothing, so that equal data gives equal losses."""
    made = library.Sequential([library.Input((3,)), library.layers.Dense(1, kernel_initializer="ones")])
    made.compile(library.optimizers.SGD(0.0), "mse")
    return made


@pytest.mark.parametrize("steps", [1, 2])
def test_validation_from_a_generator_begins_at_its_beginning_as_in_keras(steps):
    oracle = pytest.importorskip("keras")
    found = []
    for library in (keras, oracle):
        made = still_model(library)
        options = {"validation_data": endless([]), "validation_steps": steps, "epochs": 3, "verbose": 0}
        found.append(made.fit(X, Y, **options).history["val_loss"])
    assert found[0] == pytest.approx(found[1], rel=1e-5)
    assert found[0][0] == found[0][1] == found[0][2]


@pytest.mark.parametrize("again", [None, (np.zeros((4, 3), "float32"), np.zeros((4, 1), "float32"))])
def test_validation_takes_no_more_of_a_generator_than_it_needs(again):
    taken, made = [], still_model()
    history = made.fit(Still(), epochs=3, validation_data=endless(taken, again), validation_steps=4, verbose=0).history
    assert len(taken) == 4
    assert history["val_loss"] == pytest.approx([made.evaluate(X[:16], Y[:16], batch_size=4, verbose=0)] * 3)


def test_a_finite_generator_validates_every_epoch():
    made = still_model()
    data = ((X[i : i + 4], Y[i : i + 4]) for i in range(0, 24, 4))
    found = made.fit(Still(), epochs=3, validation_data=data, verbose=0).history["val_loss"]
    assert found == pytest.approx([made.evaluate(X, Y, batch_size=4, verbose=0)] * 3)


@pytest.mark.parametrize("data", [lambda: (X, Y), Still, lambda: DataLoader(TensorDataset(*map(torch.tensor, (X, Y))), 4)])
def test_too_little_data_of_validation_is_said_once(data):
    with pytest.warns(UserWarning, match=r"The data ended after \d batches, where 100 were asked for") as said:
        model().fit(Still(), epochs=3, validation_data=data(), validation_steps=100, verbose=0)
    assert len(said) == 1


def with_an_empty_batch(place=2):
    for i in range(4):
        yield (X[:0], Y[:0]) if i == place else (X[4 * i : 4 * i + 4], Y[4 * i : 4 * i + 4])


@pytest.mark.parametrize("place", [0, 2])
def test_an_empty_batch_is_named_where_there_is_a_loss(place):
    made = model()
    before = bits(made)
    for call in (made.fit, made.evaluate):
        with pytest.raises(ValueError, match=rf"Batch {place} has no rows: x has shape \(0, 3\). Leave out empty batches."):
            call(with_an_empty_batch(place), verbose=0)
    assert place or same_bits(before, bits(made))
    assert made.predict(with_an_empty_batch(place), verbose=0).shape == (12, 1)


def test_nothing_to_predict_is_an_error_by_name():
    for nothing in (iter([]), DataLoader([], 2)):
        with pytest.raises(ValueError, match=r"There is no data: .* gave no batch"):
            model().predict(nothing, verbose=0)
    with pytest.raises(ValueError, match=r"There is no data: `x` has no rows"):
        model().predict(X[:0], verbose=0)


class Shuffled(keras.utils.PyDataset):
    """Shuffles its own order: by the global stream when an epoch ends, by its own one when one begins."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.order, self.own, self.pictures = np.arange(24), np.random.default_rng(3), np.zeros(1000)

    def __len__(self):
        return 6

    def __getitem__(self, index):
        rows = self.order[4 * index : 4 * index + 4]
        return X[rows], Y[rows]

    def on_epoch_begin(self):
        self.own.shuffle(self.order)

    def on_epoch_end(self):
        self.mix()

    def mix(self):
        np.random.shuffle(self.order)


class Remembering(Shuffled):
    def state_dict(self):
        return {"order": self.order, "own": self.own}

    def load_state_dict(self, state):
        vars(self).update(state)


def loader(sampler):
    rows, own = TensorDataset(*map(torch.tensor, (X, Y))), torch.Generator().manual_seed(4)
    if sampler:
        return DataLoader(rows, 4, sampler=RandomSampler(rows, generator=own))
    return DataLoader(rows, 4, shuffle=True, generator=own)


@pytest.mark.parametrize(
    "make",
    [
        Shuffled,
        Remembering,
        lambda: Shuffled(workers=2, use_multiprocessing=True),
        lambda: loader(False),
        lambda: loader(True),
    ],
)
@pytest.mark.parametrize("steps", [None, 4])
def test_a_run_goes_on_with_the_same_rows_where_the_data_shuffles_itself(make, steps):
    def run(state=None):
        made, states = model(), []
        if state is not None:
            made.set_training_state(state)
        take = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: states.append(made.get_training_state()))
        end = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: states.append(made.get_training_state()))
        made.fit(make(), epochs=3, steps_per_epoch=steps, verbose=0, callbacks=[take, end])
        return bits(made), states

    whole, states = run()
    last = len(states) // 3 - 2
    for at in (last, last + 3) if isinstance(make(), Shuffled) and make().workers == 2 else (0, 2, last, last + 1, last + 3):
        assert same_bits(run(states[at])[0], whole), at


def test_only_what_the_hooks_name_is_kept_of_a_dataset():
    assert state_of(Shuffled()).keys() == {"order", "own"}
    one = Shuffled()
    one.own = threading.Lock()
    with pytest.warns(UserWarning, match="does not hold `own` of Shuffled"):
        assert state_of(one).keys() == {"order"}
