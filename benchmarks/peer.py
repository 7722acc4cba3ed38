"""One contestant of `peers.py`, in a process of its own: trains one epoch for each line it reads and prints the seconds.

`python benchmarks/peer.py MODEL CONTESTANT`
"""

from __future__ import annotations

import importlib
import os
import sys
import time

import numpy as np

ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "1",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
}
BATCH = 128
STEPS = {"mlp": 200, "inception": 6, "lstm": 3, "transformer": 8}


def data(name):
    rows, random = STEPS[name] * BATCH, np.random.RandomState(0)
    labels = random.randint(0, 4, rows)
    if name == "mlp":
        return random.randn(rows, 32).astype("float32"), labels
    if name == "inception":
        return random.rand(rows, 28, 28, 1).astype("float32"), labels
    length, words = (200, 5000) if name == "lstm" else (32, 1000)
    return random.randint(0, words, (rows, length)).astype("int64"), labels


def model_of(keras, name):
    """The model in Keras's words, for Keras and for Hornbeam."""
    layers = keras.layers
    if name == "mlp":
        return keras.Sequential(
            [keras.Input((32,)), layers.Dense(16, activation="relu"), layers.Dense(8, activation="relu"), layers.Dense(4)]
        )
    if name == "lstm":
        words = keras.Input((200,), dtype="int64")
        return keras.Model(words, layers.Dense(10)(layers.LSTM(128)(layers.Embedding(5000, 128)(words))))
    if name == "transformer":
        words = keras.Input((32,), dtype="int64")
        x = layers.Embedding(1000, 64)(words)
        for _ in range(2):
            h = layers.LayerNormalization()(x)
            x = layers.Add()([x, layers.MultiHeadAttention(4, 16)(h, h)])
            h = layers.Dense(128, activation="gelu")(layers.LayerNormalization()(x))
            x = layers.Add()([x, layers.Dense(64)(h)])
        return keras.Model(words, layers.Dense(10)(layers.GlobalAveragePooling1D()(x)))

    def block(x, filters):
        x = layers.Conv2D(filters, 3, padding="same")(x)
        return layers.Activation("relu")(layers.BatchNormalization()(x))

    inputs = keras.Input((28, 28, 1))
    x = layers.MaxPooling2D(3)(block(inputs, 32))
    for filters in (32, 64):
        x = layers.Concatenate()([block(x, filters), block(x, filters)])
    x = layers.GlobalAveragePooling2D()(block(x, 128))
    x = layers.Dropout(0.5)(layers.Dense(256, activation="relu")(x))
    return keras.Model(inputs, layers.Dense(10)(x))


def keras_epoch(package, name, options):
    keras = importlib.import_module(package)
    model, (x, y) = model_of(keras, name), data(name)
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), **options)
    return lambda: model.fit(x, y, batch_size=BATCH, epochs=1, verbose=0)


def torch_epoch(name):
    torch, training = importlib.import_module("torch"), importlib.import_module("training")
    x, y = map(torch.from_numpy, data(name))
    return training.expert_loop(training.theirs(name), x, y)


def epoch_of(name, contestant):
    if contestant == "hand-written torch":
        return torch_epoch(name)
    if contestant.startswith("keras"):
        os.environ["KERAS_BACKEND"] = contestant.split()[-1]
        return keras_epoch("keras", name, {})
    together = int(contestant.split("x")[-1]) if "x" in contestant.split()[-1] else 1
    return keras_epoch("hornbeam", name, {"jit_compile": "compiled" in contestant, "steps_per_execution": together})


if __name__ == "__main__":
    name, contestant = sys.argv[1:]
    os.environ |= ONE_THREAD
    epoch = epoch_of(name, contestant)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
    epoch()
    for _ in sys.stdin:
        begun = time.perf_counter()
        epoch()
        print(time.perf_counter() - begun, flush=True)
