"""Learning rate schedules against Keras, on numbers and on tensors."""

from __future__ import annotations

import json
from typing import Any

import keras
import numpy as np
import pytest
import torch

from hornbeam import optimizers
from hornbeam.optimizers import schedules

CASES: list[tuple[str, dict[str, Any]]] = [
    ("ExponentialDecay", {"initial_learning_rate": 0.1, "decay_steps": 7, "decay_rate": 0.8}),
    ("ExponentialDecay", {"initial_learning_rate": 0.1, "decay_steps": 7, "decay_rate": 0.8, "staircase": True}),
    ("InverseTimeDecay", {"initial_learning_rate": 0.1, "decay_steps": 7, "decay_rate": 0.8}),
    ("InverseTimeDecay", {"initial_learning_rate": 0.1, "decay_steps": 7, "decay_rate": 0.8, "staircase": True}),
    ("PiecewiseConstantDecay", {"boundaries": [3, 10], "values": [0.1, 0.2, 0.3]}),
    ("PolynomialDecay", {"initial_learning_rate": 0.1, "decay_steps": 9, "power": 2.0}),
    ("PolynomialDecay", {"initial_learning_rate": 0.1, "decay_steps": 9, "cycle": True}),
    ("CosineDecay", {"initial_learning_rate": 0.1, "decay_steps": 20, "alpha": 0.1}),
    ("CosineDecay", {"initial_learning_rate": 0.01, "decay_steps": 20, "warmup_target": 0.1, "warmup_steps": 5}),
    ("CosineDecayRestarts", {"initial_learning_rate": 0.1, "first_decay_steps": 5, "m_mul": 0.9}),
    ("CosineDecayRestarts", {"initial_learning_rate": 0.1, "first_decay_steps": 5, "t_mul": 1.0, "alpha": 0.2}),
]


@pytest.mark.oracle
@pytest.mark.parametrize(("name", "arguments"), CASES)
def test_rates_and_configs_are_those_of_keras(name: str, arguments: dict[str, Any]) -> None:
    theirs, ours = getattr(keras.optimizers.schedules, name)(**arguments), getattr(schedules, name)(**arguments)
    for step in range(40):
        expected = float(theirs(torch.tensor(step)))
        np.testing.assert_allclose(ours(step), expected, rtol=2e-5, atol=1e-7)
        np.testing.assert_allclose(float(ours(torch.tensor(step))), ours(step), rtol=1e-12)
    assert ours.get_config() == theirs.get_config()
    assert schedules.serialize(ours) == keras.optimizers.schedules.serialize(theirs)
    again = schedules.deserialize(json.loads(json.dumps(schedules.serialize(ours))))
    assert again.get_config() == ours.get_config()


def test_restarts_fall_on_their_steps() -> None:
    rate = schedules.CosineDecayRestarts(0.1, first_decay_steps=1)
    assert [rate(2**n - 1) for n in range(1, 30)] == pytest.approx([0.1] * 29)


def test_an_optimizer_follows_its_schedule_and_carries_it_in_its_config() -> None:
    optimizer = optimizers.SGD(schedules.PiecewiseConstantDecay([1], [0.5, 0.25]))
    w = torch.nn.Parameter(torch.zeros(1))
    seen = []
    for _ in range(4):
        before = w.item()
        optimizer.apply([torch.ones(1)], [w])
        seen.append(before - w.item())
    assert seen == [0.5, 0.5, 0.25, 0.25]
    again = optimizers.deserialize(json.loads(json.dumps(optimizers.serialize(optimizer))))
    again.iterations = 2
    assert again.learning_rate == 0.25
    assert [v.name for v in optimizer.variables] == ["iteration"]
    with pytest.raises(TypeError, match="takes its learning rate from PiecewiseConstantDecay"):
        optimizer.learning_rate = 0.1
    optimizer.learning_rate = schedules.ExponentialDecay(0.1, 10, 0.5)
    assert optimizer.learning_rate == pytest.approx(0.1 * 0.5**0.4)


def test_a_schedule_of_ones_own_gets_a_tensor() -> None:
    class Warm(schedules.LearningRateSchedule):
        def __call__(self, step: Any) -> Any:
            return torch.rsqrt(step.to(torch.float32) + 1)

    optimizer = optimizers.Adam(Warm())
    optimizer.iterations = 3
    assert optimizer.learning_rate == 0.5
    assert optimizers.SGD(lambda: 0.25).learning_rate == 0.25


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: schedules.PiecewiseConstantDecay([1, 2], [0.1]), "one more value than boundaries"),
        (lambda: schedules.ExponentialDecay(0.1, 0, 0.5), "decay_steps of ExponentialDecay must be a number above 0"),
        (lambda: schedules.CosineDecay(0.1, -3), "decay_steps of CosineDecay"),
    ],
)
def test_bad_arguments_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
