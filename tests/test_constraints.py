"""Constraints against Keras: values, configs."""

from __future__ import annotations

import pytest
import torch

from hornbeam import constraints
from signatures import assert_same_signatures

keras = pytest.importorskip("keras")

CASES = [
    ("MaxNorm", {}),
    ("MaxNorm", {"max_value": 0.5, "axis": 1}),
    ("MaxNorm", {"axis": [0, 1]}),
    ("NonNeg", {}),
    ("UnitNorm", {}),
    ("UnitNorm", {"axis": [0, 2]}),
    ("MinMaxNorm", {}),
    ("MinMaxNorm", {"min_value": 0.5, "max_value": 1.5, "rate": 0.3, "axis": 1}),
]


@pytest.mark.oracle
@pytest.mark.parametrize(("name", "kwargs"), CASES)
def test_values_and_configs_as_keras(name, kwargs):
    w = 2 * torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(1))
    ours, theirs = getattr(constraints, name)(**kwargs), getattr(keras.constraints, name)(**kwargs)
    torch.testing.assert_close(ours(w), theirs(w), atol=1e-6, rtol=1e-5)
    config = keras.constraints.serialize(theirs)
    assert constraints.serialize(ours) == config
    assert constraints.serialize(constraints.deserialize(config)) == config


@pytest.mark.oracle
def test_names_and_signatures_are_those_of_keras():
    assert_same_signatures(constraints, keras.constraints)


@pytest.mark.parametrize("name", ["max_norm", "MaxNorm", "non_neg", "NonNeg", "unit_norm", "min_max_norm"])
def test_names(name):
    assert isinstance(constraints.get(name), constraints.Constraint)


def test_zero_weights_stay_zero():
    for cls in (constraints.MaxNorm, constraints.UnitNorm, constraints.NonNeg):
        assert cls()(torch.zeros(2, 2)).tolist() == [[0, 0], [0, 0]]


def test_get():
    assert constraints.get(None) is None
    assert constraints.get(torch.relu) is torch.relu
    assert isinstance(constraints.get(constraints.NonNeg), constraints.NonNeg)


@pytest.mark.parametrize(
    ("identifier", "text"),
    [("max_nrom", r"Unknown constraint: 'max_nrom'\. Did you mean 'max_norm'"), (5, r"Could not read 5 \(int\) as constraint")],
)
def test_mistakes_are_explained(identifier, text):
    with pytest.raises(ValueError, match=text):
        constraints.get(identifier)
