"""Regularizers against Keras: values, gradients, configs."""

from __future__ import annotations

import pytest
import torch

from hornbeam import regularizers
from hornbeam.core.operation import Function
from hornbeam.graph.symbolic import SymbolicTensor
from signatures import assert_same_signatures

keras = pytest.importorskip("keras")

CASES = [
    ("L1", {}),
    ("L1", {"l1": 0.3}),
    ("L2", {}),
    ("L2", {"l2": 0.3}),
    ("L1L2", {}),
    ("L1L2", {"l1": 0.1}),
    ("L1L2", {"l1": 0.1, "l2": 0.2}),
    ("OrthogonalRegularizer", {}),
    ("OrthogonalRegularizer", {"factor": 0.3, "mode": "columns"}),
]


def matrix():
    return torch.randn(3, 5, generator=torch.Generator().manual_seed(1))


@pytest.mark.oracle
@pytest.mark.parametrize(("name", "kwargs"), CASES)
def test_values_gradients_and_configs_as_keras(name, kwargs):
    results = []
    for home in (regularizers, keras.regularizers):
        x = matrix().requires_grad_()
        regularizer = getattr(home, name)(**kwargs)
        y = regularizer(x)
        (gradient,) = torch.autograd.grad(y + 0 * x.sum(), x)
        results.append((y.detach(), gradient, home.serialize(regularizer)))
    (got, gradient, config), (wanted, their_gradient, their_config) = results
    torch.testing.assert_close(got, wanted)
    torch.testing.assert_close(gradient, their_gradient)
    assert config == their_config
    assert regularizers.serialize(regularizers.deserialize(their_config)) == their_config


@pytest.mark.parametrize(("name", "kwargs"), CASES)
def test_symbolic(name, kwargs):
    regularizer, x = getattr(regularizers, name)(**kwargs), SymbolicTensor((3, 5))
    torch.testing.assert_close(Function(x, regularizer(x))(matrix()), regularizer(matrix()))


@pytest.mark.oracle
def test_names_and_signatures_are_those_of_keras():
    assert_same_signatures(regularizers, keras.regularizers, skip=("Regularizer",))


@pytest.mark.parametrize("name", ["l1", "L1", "l2", "L2", "l1_l2", "l1l2", "L1L2", "orthogonal_regularizer"])
def test_names(name):
    assert isinstance(regularizers.get(name), regularizers.Regularizer)


def test_a_row_alone_has_no_penalty():
    assert regularizers.OrthogonalRegularizer()(torch.ones(1, 3)).item() == 0


def test_get():
    assert regularizers.get(None) is None
    assert regularizers.get(torch.sum) is torch.sum
    assert isinstance(regularizers.get(regularizers.L2), regularizers.L2)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: regularizers.get("l3"), r"Unknown regularizer: 'l3'"),
        (lambda: regularizers.get("orthogonl_regularizer"), r"Did you mean 'orthogonal_regularizer'"),
        (lambda: regularizers.get(0.1), r"Could not read 0\.1 \(float\) as regularizer"),
        (lambda: regularizers.L1(-1), r"L1: `l1` must be a finite number of at least 0\. Received: l1=-1"),
        (lambda: regularizers.L2("a"), r"L2: `l2` must be a finite number"),
        (lambda: regularizers.L1L2(l2=float("nan")), r"L1L2: `l2`"),
        (
            lambda: regularizers.OrthogonalRegularizer(mode="row"),
            r"Did you mean 'rows'\? Received: mode='row'",
        ),
        (lambda: regularizers.OrthogonalRegularizer()(torch.ones(3)), r"2 axes are expected\. Received: shape \(3,\)"),
    ],
)
def test_mistakes_are_explained(call, text):
    with pytest.raises(ValueError, match=text):
        call()
