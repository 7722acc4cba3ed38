"""`fit` against the loop an expert writes: same data, batch 128, fused Adam, one thread.

`python benchmarks/training.py [mlp|inception|lstm|cnn|transformer]`
"""

from __future__ import annotations

import sys

import torch
import torch.nn.functional as F
from torch import nn

import hornbeam as keras
from build import inception
from handwritten import TorchCnn, TorchInception, TorchLstm, TorchTransformer
from hornbeam import layers
from timing import show

ROWS, BATCH = {"mlp": 12800, "inception": 768, "lstm": 768, "cnn": 2560, "transformer": 1280}, 128
HAND = "hand-written loop (torch.optim.Adam(fused=True))"
BARS = {"mlp": 0.8, "inception": 1.0, "lstm": 0.65, "cnn": 1.03, "transformer": 1.03}


def ours(name):
    if name == "mlp":
        return keras.Sequential(
            [layers.Dense(16, activation="relu", input_shape=(32,)), layers.Dense(8, activation="relu"), layers.Dense(4)]
        )
    if name == "inception":
        return inception()
    if name == "cnn":
        return keras.Sequential(
            [
                keras.Input((28, 28, 1)), layers.Conv2D(16, 3, activation="relu"), layers.MaxPooling2D(),
                layers.Conv2D(32, 3, activation="relu"), layers.MaxPooling2D(), layers.Flatten(), layers.Dense(10),
            ]
        )  # fmt: skip
    if name == "transformer":
        words = keras.Input((32,), dtype="int64")
        x = layers.Embedding(1000, 64)(words)
        for _ in range(2):
            h = layers.LayerNormalization()(x)
            x = x + layers.MultiHeadAttention(4, 16)(h, h)
            x = x + layers.Dense(64)(layers.Dense(128, activation="gelu")(layers.LayerNormalization()(x)))
        return keras.Model(words, layers.Dense(10)(layers.GlobalAveragePooling1D()(x)))
    words = keras.Input((200,), dtype="int64")
    return keras.Model(words, layers.Dense(10)(layers.LSTM(128)(layers.Embedding(5000, 128)(words))))


def theirs(name):
    if name == "mlp":
        return nn.Sequential(nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 4))
    return {"inception": TorchInception, "lstm": TorchLstm, "cnn": TorchCnn, "transformer": TorchTransformer}[name]()


def data(name):
    rows = ROWS[name]
    if name == "mlp":
        return torch.randn(rows, 32), torch.randint(4, (rows,))
    if name in ("inception", "cnn"):
        return torch.rand(rows, 28, 28, 1), torch.randint(10, (rows,))
    if name == "transformer":
        return torch.randint(1000, (rows, 32)), torch.randint(10, (rows,))
    return torch.randint(5000, (rows, 200)), torch.randint(10, (rows,))


def expert_loop(net, x, y):
    optimizer = torch.optim.Adam(net.parameters(), fused=True)
    net.train()

    def epoch():
        total = torch.zeros((), dtype=torch.float64)
        for rows in torch.randperm(len(x)).split(BATCH):
            optimizer.zero_grad(set_to_none=True)
            loss = F.cross_entropy(net(x[rows]), y[rows])
            loss.backward()
            optimizer.step()
            total += loss.detach() * len(rows)
        return total / len(x)

    return epoch


def fitting(name, x, y, **options):
    model = ours(name)
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), **options)
    return lambda: model.fit(x, y, batch_size=BATCH, epochs=1, verbose=0)


if __name__ == "__main__":
    torch.set_num_threads(1)
    for name in sys.argv[1:] or list(ROWS):
        x, y = data(name)
        steps = -(-len(x) // BATCH)
        contestants = {HAND: expert_loop(theirs(name), x, y), "fit": fitting(name, x, y)}
        if name == "mlp":
            contestants["fit, jit_compile=True"] = fitting(name, x, y, jit_compile=True)
            contestants["fit, jit_compile=True, steps_per_execution=20"] = fitting(
                name, x, y, jit_compile=True, steps_per_execution=20
            )
        found = show(f"{name}: one epoch of {steps} steps, batch {BATCH}; bar {BARS[name]}", contestants, rounds=9, seconds=0.5)
        for who, (seconds, _) in found.items():
            print(f"  {who:58s} {len(x) / seconds:12,.0f} samples/s")
