"""Measured times: which calls they belong to, that they add up, and that measuring leaves no trace."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import hornbeam as keras
from hornbeam import layers
from hornbeam.inspect.profile import profile


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.heavy = nn.Sequential(nn.Linear(256, 1024), nn.ReLU(), nn.Linear(1024, 256))
        self.norm, self.drop = nn.BatchNorm1d(256), nn.Dropout(0.5)
        self.light, self.unused = nn.Linear(256, 2), nn.Linear(2, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.light(self.drop(self.norm(torch.relu(self.heavy(x)))) * 2)


def test_times_of_a_plain_module() -> None:
    net = Net()
    times = profile(net, torch.randn(512, 256), repeats=3)
    assert times.batch_size == 512
    heavy, light = times.of(net.heavy), times.of(net.light)
    assert heavy.forward_seconds > 3 * light.forward_seconds > 0
    assert heavy.backward_seconds > 3 * light.backward_seconds > 0
    inner = [times.of(m).forward_seconds for m in net.heavy]
    assert all(inner)
    assert sum(inner) == pytest.approx(heavy.forward_seconds, rel=0.2)
    assert times.of(net.unused).forward_seconds == 0
    top = [c for c in times.calls_made if c.depth == 0]
    assert [c.name for c in top] == ["heavy", "relu", "norm", "drop", "mul", "light"]
    assert all(c.forward_seconds > 0 and c.backward_seconds > 0 for c in top)
    assert 0.3 * times.forward_seconds < sum(c.forward_seconds for c in top) < 3 * times.forward_seconds
    assert 0.3 * times.backward_seconds < sum(c.backward_seconds for c in top) < 3 * times.backward_seconds


def test_times_of_a_functional_model_with_functions() -> None:
    x = keras.Input((64,))
    y = torch.tanh(layers.Dense(512, name="wide")(x))
    model = keras.Model(x, layers.Dense(2, name="small")(y * 2))
    times = model.profile(np.ones((256, 64), np.float32), repeats=3)
    found = {c.name: c for c in times.calls_made}
    assert list(found) == ["wide", "tanh", "mul", "small"]
    assert all(c.forward_seconds > 0 and c.backward_seconds > 0 for c in found.values())


def test_measuring_leaves_no_trace() -> None:
    net = Net()
    net.norm.eval()
    net.light.weight.grad = torch.ones_like(net.light.weight)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    modes = [m.training for m in net.modules()]
    state = torch.get_rng_state()
    profile(net, torch.randn(8, 256, generator=torch.Generator().manual_seed(1)), repeats=1, warmup=0)
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())
    assert [m.training for m in net.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state)
    assert net.heavy[0].weight.grad is None
    assert torch.equal(net.light.weight.grad, torch.ones_like(net.light.weight))
    assert not net.light._forward_hooks


def test_measuring_a_model_leaves_no_trace() -> None:
    seeded = layers.Dropout(0.5, seed=3)
    model = keras.Sequential(
        [keras.Input((8,)), layers.BatchNormalization(), seeded, layers.Dense(2, activity_regularizer="l2")]
    )
    moving = [v.numpy() for v in model.non_trainable_weights]
    stream = seeded.seed_generator._stream.get_state()
    profile(model, np.random.default_rng(0).normal(3, 2, (16, 8)).astype("float32"), repeats=1)
    for ours, theirs in zip(model.non_trainable_weights, moving, strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs)
    assert torch.equal(seeded.seed_generator._stream.get_state(), stream)
    assert model.losses == []
    assert model.training is False


def test_made_up_inputs_and_prediction_only() -> None:
    model = keras.Sequential([keras.Input((5,), dtype="int32"), layers.Embedding(10, 4), layers.LSTM(3)])
    times = keras.profile(model, batch_size=4, training=False, repeats=1, warmup=0)
    assert times.forward_seconds > 0
    assert times.backward_seconds == 0
    assert all(c.backward_seconds == 0 for c in times.calls_made)
    assert "Time: " in str(times)
    assert keras.profile(nn.Linear(3, 2), inputs=(None, 3), repeats=1).forward_seconds > 0


def test_several_inputs() -> None:
    class Two(nn.Module):
        def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
            return a @ b.mT

    times = profile(Two(), [torch.ones(4, 3, requires_grad=True), torch.ones(4, 3)], repeats=1)
    assert [c.name for c in times.calls_made] == ["getattr" if c.name == "getattr" else c.name for c in times.calls_made]
    assert times.macs_forward == 4 * 4 * 3


def test_the_same_table() -> None:
    lines: list[str] = []
    keras.summary(Net(), (None, 256), print_fn=lines.append, show=("macs", "time"), batch_size=16)
    shown = "\n".join(lines)
    assert "Forward" in shown
    assert "Backward" in shown
    row = next(line for line in shown.splitlines() if "heavy (Sequential)" in line)
    assert row.count("s │") >= 2  # µs, ms


@pytest.mark.parametrize(
    ("options", "message"),
    [({"repeats": 0}, "`repeats` is at least 1"), ({"warmup": -1}, "`warmup` at least 0"), ({"x": []}, "holds no tensor")],
)
def test_bad_arguments(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        profile(nn.Linear(2, 2), **{"x": torch.ones(1, 2), **options})
