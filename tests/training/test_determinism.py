"""A seed gives the same bits in every process; batches and threads agree closely."""

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

import hornbeam as keras
from hornbeam import layers
from hornbeam.utils import set_random_seed

RANDOM = np.random.RandomState(0)
ROWS = RANDOM.randn(48, 6).astype("float32")
IMAGES = RANDOM.rand(48, 8, 8, 1).astype("float32")
WORDS = RANDOM.randint(0, 20, (48, 7))
LABELS = RANDOM.randint(0, 3, 48)


def chain():
    return keras.Sequential([keras.Input((6,)), layers.Dense(8, activation="relu"), layers.Dropout(0.3), layers.Dense(3)]), ROWS


def branches():
    x = keras.Input((6,))
    a, b = layers.Dense(8, activation="tanh")(x), layers.GaussianDropout(0.2)(layers.Dense(8)(x))
    return keras.Model(x, layers.Dense(3)(torch.relu(a) * b)), ROWS


def convolution():
    parts = [layers.Conv2D(4, 3), layers.BatchNormalization(), layers.ReLU(), layers.SpatialDropout2D(0.2), layers.Flatten()]
    return keras.Sequential([keras.Input((8, 8, 1)), *parts, layers.Dense(3)]), IMAGES


def recurrent():
    words = keras.Input((7,), dtype="int64")
    x = layers.Bidirectional(layers.LSTM(5, dropout=0.2))(layers.Embedding(20, 4, mask_zero=True)(words))
    return keras.Model(words, layers.Dense(3)(x)), WORDS


def attention():
    words = keras.Input((7,), dtype="int64")
    x = layers.Embedding(20, 8)(words)
    x = layers.LayerNormalization()(x + layers.MultiHeadAttention(2, 4, dropout=0.1)(x, x))
    return keras.Model(words, layers.Dense(3)(layers.GlobalAveragePooling1D()(x))), WORDS


def subclassed():
    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.hidden, self.noise, self.out = layers.Dense(8), layers.GaussianNoise(0.1, seed=3), layers.Dense(3)

        def call(self, x, training=None):
            x = torch.relu(self.hidden(x))
            return self.out(self.noise(x) if training else x)

    return Net(), ROWS


def with_torch_parts():
    return keras.Sequential([keras.Input((6,)), nn.Linear(6, 8), nn.Dropout(0.3), nn.ReLU(), layers.Dense(3)]), ROWS


def nested():
    inner = keras.Sequential([layers.Dense(8, activation="relu"), layers.AlphaDropout(0.2)])
    x = keras.Input((6,))
    return keras.Model(x, layers.Dense(3)(inner(x) + inner(x * 2))), ROWS


KINDS = [chain, branches, convolution, recurrent, attention, subclassed, with_torch_parts, nested]


def trained(kind, **options):
    set_random_seed(11)
    model, x = kind()
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"], **options)
    history = model.fit(x, LABELS, batch_size=8, epochs=2, verbose=0, validation_split=0.2).history
    return model, x, history


def digest(kind):
    model, _, history = trained(kind)
    found = hashlib.sha256(repr(sorted(history.items())).encode())
    for value in model.get_weights():
        found.update(np.ascontiguousarray(value).tobytes())
    return found.hexdigest()


@pytest.mark.parametrize("kind", KINDS)
def test_a_seed_gives_the_same_bits_twice(kind):
    assert digest(kind) == digest(kind)


@pytest.mark.slow
def test_a_seed_gives_the_same_bits_in_another_process():
    path = os.pathsep.join(p for p in sys.path if p)
    found = [
        subprocess.run(
            [sys.executable, "-W", "ignore", __file__], capture_output=True, text=True, check=True,
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": path, "OMP_NUM_THREADS": str(torch.get_num_threads())},
        ).stdout.split()
        for seed in ("1", "4321")
    ]  # fmt: skip
    assert len(found[0]) == len(KINDS)
    assert found[0] == found[1] == [digest(kind) for kind in KINDS]


@pytest.mark.parametrize("kind", KINDS)
def test_a_prediction_does_not_depend_on_its_batch(kind):
    model, x, _ = trained(kind)
    whole = model.predict(x, batch_size=48, verbose=0)
    single = np.concatenate([model.predict(x[i : i + 1], verbose=0) for i in range(len(x))])
    np.testing.assert_allclose(single, whole, rtol=1e-5, atol=1e-6)
    assert np.array_equal(single.argmax(-1), whole.argmax(-1))


def test_the_number_of_threads_changes_little():
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = trained(chain)[2]["loss"]
        torch.set_num_threads(2)
        two = trained(chain)[2]["loss"]
    finally:
        torch.set_num_threads(before)
    np.testing.assert_allclose(one, two, rtol=1e-6)


if __name__ == "__main__":
    for each in KINDS:
        print(digest(each))
