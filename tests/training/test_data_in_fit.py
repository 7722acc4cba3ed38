"""Data through `fit`: who makes the items does not matter, and a fit that failed leaves everything as it was."""

import gc
import multiprocessing
import os
import random
import threading

import numpy as np
import pytest
import torch

import hornbeam as keras

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
