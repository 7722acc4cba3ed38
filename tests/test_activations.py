"""Activations against Keras: values, gradients, dtypes, names, and what else may stand in an activation's place."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hornbeam import activations
from hornbeam.core.operation import Function
from hornbeam.graph.symbolic import SymbolicTensor
from signatures import assert_same_signatures

keras = pytest.importorskip("keras")

CASES = [(name, {}) for name in activations.ACTIVATIONS.objects if name not in ("threshold", "sparsemax", "linear")] + [
    ("relu", {"negative_slope": 0.3}),
    ("relu", {"max_value": 1.0}),
    ("relu", {"threshold": 0.5}),
    ("relu", {"negative_slope": 0.3, "max_value": 1.0, "threshold": 0.5}),
    ("relu", {"negative_slope": 0.3, "max_value": 1.0}),
    ("gelu", {"approximate": True}),
    ("elu", {"alpha": 0.5}),
    ("celu", {"alpha": 0.5}),
    ("leaky_relu", {"negative_slope": 0.4}),
    ("softmax", {"axis": 0}),
    ("softmax", {"axis": (0, 1)}),
    ("log_softmax", {"axis": 1}),
    ("glu", {"axis": 1}),
    ("squareplus", {"b": 2}),
    ("hard_shrink", {"threshold": 1.0}),
    ("soft_shrink", {"threshold": 1.0}),
    ("threshold", {"threshold": 0.5, "default_value": 2.0}),
]
IDS = [f"{name}-{i}" for i, (name, _) in enumerate(CASES)]


def values(shape=(3, 4, 6)):
    return torch.from_numpy(np.random.default_rng(3).uniform(-4, 8, shape).astype("float32"))


@pytest.mark.oracle
@pytest.mark.parametrize(("name", "kwargs"), CASES, ids=IDS)
def test_values_and_gradients_as_keras(name, kwargs):
    results = []
    for home in (activations, keras.activations):
        x = values().requires_grad_()
        y = getattr(home, name)(x, **kwargs)
        y.square().sum().backward()
        results.append((y.detach(), x.grad))
    for got, wanted in zip(*results, strict=True):
        torch.testing.assert_close(got, wanted)


@pytest.mark.parametrize(("name", "kwargs"), CASES, ids=IDS)
def test_symbolic_and_half(name, kwargs):
    function = getattr(activations, name)
    x = SymbolicTensor((3, 4, 6))
    y = function(x, **kwargs)
    torch.testing.assert_close(Function(x, y)(values()), function(values(), **kwargs))
    assert y.shape == tuple(function(values(), **kwargs).shape)
    assert function(values().bfloat16(), **kwargs).dtype is torch.bfloat16


@pytest.mark.parametrize("name", [n for n in activations.ACTIVATIONS.objects if n not in ("threshold", "glu")])
def test_lists_and_integers(name):
    function = getattr(activations, name)
    if name == "linear":
        return
    wanted = function(torch.tensor([-1.0, 2.0]))
    for x in ([-1.0, 2.0], np.array([-1.0, 2.0], "float32"), torch.tensor([-1, 2])):
        torch.testing.assert_close(function(x).float(), wanted)


@pytest.mark.oracle
def test_names_and_signatures_are_those_of_keras():
    assert_same_signatures(activations, keras.activations)


@pytest.mark.oracle
@pytest.mark.parametrize("name", list(activations.ACTIVATIONS.objects))
def test_serialized_as_keras(name):
    function = activations.get(name)
    assert activations.serialize(function) == keras.activations.serialize(keras.activations.get(name)) == name
    assert activations.deserialize(name) is function
    config = {"module": "builtins", "class_name": "function", "config": name, "registered_name": "function"}
    assert activations.get(config) is function


def test_relu_is_one_torch_call():
    calls = []

    class Watch(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            calls.append(func)
            return func(*args, **(kwargs or {}))

    x = values()
    with Watch():
        activations.relu(x)
    assert calls == [torch.relu]


def test_what_else_is_an_activation():
    assert activations.get(None) is activations.linear
    assert activations.get(torch.sigmoid) is torch.sigmoid
    assert activations.get("swish") is activations.silu is activations.swish
    module = torch.nn.Softplus()
    assert activations.get(module) is module
    assert isinstance(activations.get(torch.nn.Tanh), torch.nn.Tanh)
    assert activations.deserialize("twice", {"twice": abs}) is abs


@pytest.mark.parametrize(
    ("identifier", "text"),
    [
        ("rellu", r"Unknown activation: 'rellu'\. Did you mean 'relu'"),
        ("sigmoied", r"Unknown activation: 'sigmoied'\. Did you mean 'sigmoid'"),
        (5, r"Could not read 5 \(int\) as activation: a name or a callable is expected"),
    ],
)
def test_mistakes_are_explained(identifier, text):
    with pytest.raises(ValueError, match=text):
        activations.get(identifier)
