"""A source goes on from a position that is put back: same batches, same order, same random numbers."""

import copy
import pickle
import random
from itertools import islice

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from hornbeam.training import data
from hornbeam.training.randomness import LoopStream
from hornbeam.utils import Dataset

X = torch.arange(22.0)[:, None]


class Batches:
    """Batches of three rows by number, with noise from all three global streams."""

    def __len__(self):
        return 7

    def __getitem__(self, i):
        if i >= 7:
            raise IndexError(i)
        return X[3 * i : 3 * i + 3] + np.random.rand() + random.random() + torch.rand(())


def noisy():
    for i in range(30):
        yield torch.full((2, 1), float(i)) + np.random.rand() + random.random() + torch.rand(())


class Again:
    def __iter__(self):
        return islice(noisy(), 7)


SOURCES = {
    "arrays": lambda: (X, X),
    "items": lambda: (Batches(),),
    "loader": lambda: (DataLoader(TensorDataset(X, X), 3, shuffle=True),),
    "generator": lambda: (noisy(),),
    "iterable": lambda: (Again(),),
    "dataset": lambda: (Dataset.from_tensor_slices((X, X)).shuffle(22, seed=3).batch(3),),
}


def seeded(seed):
    torch.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)


def run(source, stream, count, steps=None, shuffle=True, done=0, first=0):
    """The next `count` batches as lists, each with its epoch and its place there; and the position after them."""
    orders = data.orders(stream, source, shuffle)
    found = []
    with stream:
        epochs = islice(data.epochs(source, orders, steps, stream.pause, done), 10)
        for epoch, batches in enumerate(epochs, first):
            for place, batch in enumerate(batches, done):
                found.append((epoch, place, [t.flatten().tolist() for t in (batch if isinstance(batch, tuple) else (batch,))]))
                torch.rand(())  # what a training step draws
                if len(found) == count:
                    return found, source.position()  # as long as the loader runs
            done = 0
    return found, source.position()


@pytest.mark.parametrize("steps", [None, 4])
@pytest.mark.parametrize("shuffle", [True, False, "batch"])
@pytest.mark.parametrize("kind", SOURCES)
def test_a_source_goes_on_from_a_position(kind, shuffle, steps):
    def make():
        return data.make_source(*SOURCES[kind](), batch_size=3, shuffle=shuffle)

    seeded(1)
    source, stream = make(), LoopStream()
    source.head()
    undisturbed, _ = run(source, stream, 20, steps, shuffle)
    assert len(undisturbed) == 20
    for stop in (1, 4, 7, 8, 13):
        seeded(1)
        source, stream = make(), LoopStream()
        source.head()
        before, position = run(source, stream, stop, steps, shuffle)
        position = pickle.loads(pickle.dumps(position))
        streams, loop = data.UserStreams(), copy.deepcopy(stream)
        seeded(2)
        again = make()
        again.head()
        streams.put_back()
        again.seek(position)
        assert again.position() == position
        epoch, place = before[-1][:2]
        rest, _ = run(again, loop, 20 - stop, steps, shuffle, done=place + 1, first=epoch)
        assert before + rest == undisturbed, stop


def test_a_position_before_the_first_batch_is_the_beginning():
    seeded(3)
    source, stream = data.make_source(DataLoader(TensorDataset(X, X), 3, shuffle=True)), LoopStream()
    source.head()
    position, streams, loop = source.position(), data.UserStreams(), copy.deepcopy(stream)
    expected, _ = run(source, stream, 10)
    streams.put_back()
    again = data.make_source(DataLoader(TensorDataset(X, X), 3, shuffle=True))
    again.seek(position)
    assert run(again, loop, 10)[0] == expected


class Remembering:
    """A loader that gives and takes its own state, and counts what it reads."""

    def __init__(self):
        self.at, self.read = 0, 0

    def __iter__(self):
        while self.at < 6:
            self.at += 1
            self.read += 1
            yield X[self.at : self.at + 1]
        self.at = 0

    def state_dict(self):
        return {"at": self.at}

    def load_state_dict(self, state):
        self.at = state["at"]


@pytest.mark.parametrize("stop", [0, 1, 4, 6, 8])
def test_a_loader_with_a_state_reads_nothing_twice(stop):
    expected, _ = run(data.make_source(Remembering()), LoopStream(), 12)
    source, stream = data.make_source(Remembering()), LoopStream()
    source.head()
    before, position = run(source, stream, stop) if stop else ([], source.position())
    loader = Remembering()
    again = data.make_source(loader)
    again.seek(position)
    rest, _ = run(again, stream, 12 - stop)
    assert [b[2] for b in before + rest] == [b[2] for b in expected]
    assert loader.read == 12 - stop
