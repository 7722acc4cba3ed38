"""Resident memory over ten thousand calls of `train_on_batch`, `predict` and `fit`. `python benchmarks/soak.py [CALLS]`"""

from __future__ import annotations

import gc
import os
import sys

import numpy as np
import torch

import hornbeam as keras
from hornbeam import layers


def resident():
    """Returns the process's resident memory in MB."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def model():
    hidden = [layers.Dense(64, activation="relu"), layers.BatchNormalization(), layers.Dropout(0.2)]
    made = keras.Sequential([keras.Input((32,)), *hidden, layers.Dense(4)])
    made.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    return made


def soak(title, call, calls):
    """Prints the memory after a tenth of the calls and after all of them."""
    for _ in range(calls // 10):
        call()
    gc.collect()
    before = resident()
    for _ in range(calls - calls // 10):
        call()
    gc.collect()
    more = resident() - before
    print(f"  {title:24s} {before:8.1f} MB after {calls // 10:,} calls, {more:+6.1f} MB after {calls:,}", flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    calls = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    x, y, one = np.random.rand(64, 32).astype("float32"), np.random.randint(0, 4, 64), model()
    soak("train_on_batch", lambda: one.train_on_batch(x, y), calls)
    soak("predict", lambda: one.predict(x, verbose=0), calls)
    soak("predict_on_batch", lambda: one.predict_on_batch(x), calls)
    soak("fit", lambda: one.fit(x, y, verbose=0), calls)
    soak("evaluate", lambda: one.evaluate(x, y, verbose=0), calls)
    soak("a new model, fit", lambda: model().fit(x, y, verbose=0), calls // 20)
