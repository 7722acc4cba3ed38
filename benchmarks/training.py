"""`fit` against the loop an expert writes: same data, batch 128, fused Adam, one thread.

`python benchmarks/training.py [mlp|inception|lstm]`
"""

from __future__ import annotations

import sys

import torch
import torch.nn.functional as F
from torch import nn

import hornbeam as keras
from build import inception
from handwritten import TorchInception, TorchLstm
from hornbeam import layers
from timing import show

ROWS, BATCH = {"mlp": 12800, "inception": 768, "lstm": 768}, 128


def ours(name):
    if name == "mlp":
        return keras.Sequential(
            [layers.Dense(16, activation="relu", input_shape=(32,)), layers.Dense(8, activation="relu"), layers.Dense(4)]
        )
    if name == "inception":
        return inception()
    words = keras.Input((200,), dtype="int64")
    return keras.Model(words, layers.Dense(10)(layers.LSTM(128)(layers.Embedding(5000, 128)(words))))


def theirs(name):
    if name == "mlp":
        return nn.Sequential(nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 4))
    return TorchInception() if name == "inception" else TorchLstm()


def data(name):
    rows = ROWS[name]
    if name == "mlp":
        return torch.randn(rows, 32), torch.randint(4, (rows,))
    if name == "inception":
        return torch.rand(rows, 28, 28, 1), torch.randint(10, (rows,))
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


if __name__ == "__main__":
    torch.set_num_threads(1)
    for name in sys.argv[1:] or list(ROWS):
        x, y = data(name)
        model = ours(name)
        model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        steps = -(-len(x) // BATCH)
        contestants = {
            "hand-written loop (torch.optim.Adam(fused=True))": expert_loop(theirs(name), x, y),
            "fit": lambda model=model, x=x, y=y: model.fit(x, y, batch_size=BATCH, epochs=1, verbose=0),
        }
        found = show(f"{name}: one epoch of {steps} steps, batch {BATCH}", contestants, rounds=9, seconds=0.5)
        for who, (seconds, _) in found.items():
            print(f"  {who:58s} {len(x) / seconds:12,.0f} samples/s")
