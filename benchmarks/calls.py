"""What a call costs over bare torch. `python benchmarks/calls.py`"""

from __future__ import annotations

import sys

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import hornbeam as keras
from hornbeam import layers
from timing import show


class BareDense(nn.Module):
    def __init__(self, inputs, units):
        super().__init__()
        self.kernel, self.bias = nn.Parameter(torch.randn(inputs, units)), nn.Parameter(torch.zeros(units))

    def forward(self, x):
        return F.linear(x, self.kernel.t(), self.bias)


def python_calls(function):
    """Returns the number of Python functions entered by a call."""
    count = [0]

    def profile(frame, event, argument):
        count[0] += event == "call"

    function()
    sys.setprofile(profile)
    function()
    sys.setprofile(None)
    return count[0] - 1


if __name__ == "__main__":
    torch.set_num_threads(1)
    x = torch.randn(64, 8)
    dense, bare = layers.Dense(16), BareDense(8, 16)
    dense(x)
    model = keras.Sequential([layers.Dense(16, activation="relu", input_shape=(8,)), layers.Dense(4)])
    plain = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
    with torch.no_grad():
        found = show("one Dense on (64, 8)", {"F.linear in a bare nn.Module": lambda: bare(x), "layers.Dense": lambda: dense(x)})
        print(f"  over the bare module: {(found['layers.Dense'][0] - found['F.linear in a bare nn.Module'][0]) * 1e6:.1f} µs")
        show("two Dense on (64, 8)", {"nn.Sequential": lambda: plain(x), "keras.Sequential": lambda: model(x)})
    print(f"  Python calls: nn.Sequential {python_calls(lambda: plain(x))}, keras.Sequential {python_calls(lambda: model(x))}")
    one = np.random.rand(1, 8).astype("float32")
    tensor = torch.from_numpy(one)

    def call():
        with torch.no_grad():
            return model(tensor)

    found = show("predict of one sample", {"no_grad call": call, "predict": lambda: model.predict(one, verbose=0)})
    print(f"  over the call: {(found['predict'][0] - found['no_grad call'][0]) * 1e6:.1f} µs")
