"""A real training run in a process of its own: prints the most memory that it took, and what was predicted, in bytes."""

from __future__ import annotations

import gc
import sys
from typing import Any

import numpy as np
import torch

import hornbeam as keras
from hornbeam import layers


def resident(what: str) -> int:
    """Bytes of memory that the process has ("VmRSS") or had at most ("VmHWM")."""
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(what))


def convolutional() -> tuple[Any, Any, Any]:
    inputs = x = keras.Input((64, 64, 3))
    for filters in (32, 64, 128):
        x = torch.relu(layers.BatchNormalization()(layers.Conv2D(filters, 3, padding="same")(x)))
        x = layers.MaxPooling2D()(x)
    model = keras.Model(inputs, layers.Dense(10)(layers.GlobalAveragePooling2D()(x)))
    return model, np.ones((64, 64, 64, 3), "float32"), np.zeros(64, "int64")


def transformer() -> tuple[Any, Any, Any]:
    inputs = keras.Input((128,), dtype="int32")
    x = layers.Embedding(2000, 192)(inputs)
    for _ in range(3):
        x = x + layers.MultiHeadAttention(4, 48)(layers.LayerNormalization()(x), layers.LayerNormalization()(x))
        x = x + layers.Dense(192)(layers.Dense(768, activation="gelu")(layers.LayerNormalization()(x)))
    model = keras.Model(inputs, layers.Dense(10)(x[:, 0]))
    return model, np.ones((48, 128), "int32"), np.zeros(48, "int64")


def dense() -> tuple[Any, Any, Any]:
    model = keras.Sequential([keras.Input((512,)), *(layers.Dense(1024, activation="relu") for _ in range(4)), layers.Dense(10)])
    return model, np.ones((4096, 512), "float32"), np.zeros(4096, "int64")


def recurrent() -> tuple[Any, Any, Any]:
    inputs = keras.Input((100, 96))
    x = layers.LSTM(128)(layers.LSTM(160, return_sequences=True)(inputs))
    return keras.Model(inputs, layers.Dense(10)(x)), np.ones((96, 100, 96), "float32"), np.zeros(96, "int64")


def language() -> tuple[Any, Any, Any]:
    inputs = keras.Input((128,), dtype="int32")
    model = keras.Model(inputs, layers.Dense(8000)(layers.Embedding(8000, 64)(inputs)))
    return model, np.ones((16, 128), "int32"), np.zeros((16, 128), "int64")


def main(name: str) -> None:
    torch.set_num_threads(1)
    model, x, y = MODELS[name]()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    small = type(model).from_config(model.get_config())  # libraries make themselves ready
    small.compile(keras.optimizers.Adam(), loss, jit_compile=False)
    small.train_on_batch(x[:2], y[:2])
    model.compile(keras.optimizers.Adam(), loss, jit_compile=False)
    predicted = model.cost(batch_size=len(x))
    gc.collect()
    begun = resident("VmRSS")
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    for _ in range(2):
        model.train_on_batch(x, y)
    taken = resident("VmHWM") - begun + x.nbytes + y.nbytes
    print(taken, predicted.peak_bytes)


MODELS = {f.__name__: f for f in (convolutional, transformer, dense, recurrent, language)}

if __name__ == "__main__":
    main(sys.argv[1])
