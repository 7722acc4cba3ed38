"""Configs of models: equal to Keras's where made of common layers, read from Keras's, and whole for torch functions."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import keras as oracle
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import hornbeam as keras
from hornbeam import layers
from model_samples import MODELS, OPERATORS, SLICES, given, same


def masked(k: Any) -> Any:
    x = k.Input((5,), dtype="int32", name="ids")
    h = k.layers.Embedding(10, 4, mask_zero=True, name="embed")(x)
    return k.Model(x, k.layers.LSTM(3, name="lstm")(k.layers.Dense(4, name="dense")(h)), name="masked")


def called_twice(k: Any) -> Any:
    x = k.Input((4,), name="x")
    dense = k.layers.Dense(4, name="shared")
    return k.Model(x, [dense(dense(x)), k.layers.Activation("relu", name="act")(x)], name="twice")


def of_dicts(k: Any) -> Any:
    inputs = {"a": k.Input((2,), name="a"), "b": k.Input((2,), name="b")}
    h = k.layers.Add(name="add")([inputs["a"], inputs["b"]])
    return k.Model(inputs, {"one": k.layers.Dense(1, name="one")(h), "two": k.layers.Dense(2, name="two")(h)}, name="dicts")


def with_arguments(k: Any) -> Any:
    x = k.Input((4, 6), name="x")
    y = k.layers.MultiHeadAttention(2, 3, name="mha")(x, x, use_causal_mask=True)
    return k.Model(x, k.layers.LayerNormalization(name="norm")(y), name="arguments")


def nested(k: Any) -> Any:
    x = k.Input((3,), name="inner_x")
    inner = k.Model(x, k.layers.Dense(2, name="inner_dense")(x), name="inner")
    y = k.Input((3,), name="y")
    return k.Model(y, k.layers.Dense(1, name="head")(inner(y)), name="outer")


EQUAL = [*MODELS, called_twice, of_dicts, nested]
ALL = [*EQUAL, masked, with_arguments]


@pytest.mark.oracle
@pytest.mark.parametrize("build", EQUAL, ids=lambda f: f.__name__)
def test_equal_to_keras(build: Callable[[Any], Any]) -> None:
    same(build(keras).get_config(), build(oracle).get_config())


@pytest.mark.oracle
@pytest.mark.parametrize("build", ALL, ids=lambda f: f.__name__)
def test_read_from_keras_and_read_by_keras(build: Callable[[Any], Any]) -> None:
    theirs = build(oracle)
    config = json.loads(json.dumps(theirs.get_config()))
    ours = (
        build(keras) if build is masked else keras.Model.from_config(config)
    )  # Keras writes a mask's arithmetic as its own operations
    if build in EQUAL:
        same(ours.get_config(), config)
    ours.set_weights(theirs.get_weights())
    again = oracle.Model.from_config(json.loads(json.dumps(ours.get_config())))
    again.set_weights(ours.get_weights())
    values = [torch.tensor(v) for v in given(ours)]
    if build is masked:
        values = [torch.tensor([[1, 2, 0, 0, 0], [3, 4, 5, 0, 0], [0, 0, 1, 2, 3]])]
    value = dict(zip(("a", "b"), values, strict=True)) if build is of_dicts else values[0] if len(values) == 1 else values
    expected = theirs(value)
    torch.testing.assert_close(ours(value), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(again(value), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.oracle
def test_a_sequential_is_read_both_ways() -> None:
    def build(k: Any) -> Any:
        return k.Sequential([k.Input((6, 4), name="x"), k.layers.LSTM(3, name="l"), k.layers.Dense(2, name="d")], name="s")

    ours = keras.Sequential.from_config(json.loads(json.dumps(build(oracle).get_config())))
    same(ours.get_config(), build(oracle).get_config())
    assert oracle.Sequential.from_config(build(keras).get_config()).count_params() == ours.count_params()


# -- torch functions


def round_trip(model: keras.Model) -> keras.Model:
    return keras.Model.from_config(json.loads(json.dumps(model.get_config())))


FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "relu": torch.relu, "gelu": lambda x: F.gelu(x, approximate="tanh"), "softmax": lambda x: F.softmax(x, dim=-1),
    "mean": lambda x: x.mean((0, 1)), "cat": lambda x: torch.cat([x, x * 2], dim=1), "top k": lambda x: torch.topk(x, 2).values,
    "split": lambda x: x.split([1, 4], 1)[1], "einsum": lambda x: torch.einsum("bij,bkj->bik", x, x),
    "to": lambda x: x.to(torch.float64),
    "view": lambda x: x.view(x.size(0), -1), "set item": lambda x: _set(x), "constant": lambda x: x + torch.arange(3.0),
    "where": lambda x: torch.where(x > 0, x, torch.tensor(0.5)), "norm": lambda x: torch.linalg.norm(x, dim=-1),
    "fft": lambda x: torch.fft.rfft(x).abs(), "attribute": lambda x: x.mT, "infinity": lambda x: x.masked_fill(x > 0, -math.inf),
    "clamp": lambda x: (x * 1).clamp_(0, 1), "numpy": lambda x: abs(x) ** 0.5, "log_softmax": lambda x: F.log_softmax(x, -1),
}  # fmt: skip


def _set(x: Any) -> Any:
    y = x * 1
    y[:, 0] = 7.0
    return y


@pytest.mark.parametrize("name", FUNCTIONS)
def test_torch_functions(name: str) -> None:
    x = keras.Input((5, 3))
    model = keras.Model(x, FUNCTIONS[name](x))
    twin = round_trip(model)
    value = torch.randn(2, 5, 3)
    torch.testing.assert_close(twin(value), model(value), equal_nan=True)
    assert twin.get_config() == model.get_config()
    assert [n.name for n in twin._graph.nodes] == [n.name for n in model._graph.nodes]


@pytest.mark.parametrize("name", OPERATORS)
def test_operators(name: str) -> None:
    x = keras.Input((6,))
    model = keras.Model(x, OPERATORS[name](x))
    value = torch.randn(2, 6)
    torch.testing.assert_close(round_trip(model)(value), model(value), equal_nan=True)


@pytest.mark.parametrize("name", SLICES)
def test_slices(name: str) -> None:
    x = keras.Input((5, 3))
    model = keras.Model(x, SLICES[name](x))
    value = torch.randn(2, 5, 3)
    torch.testing.assert_close(round_trip(model)(value), model(value))


def test_only_torchs_own_functions_are_named() -> None:
    x = keras.Input((2,))
    config = keras.Model(x, torch.relu(x)).get_config()
    for name in (
        "os.system",
        "torch.load",
        "torch.hub.load",
        "builtins.eval",
        "torch.nn.functional.__builtins__",
        "torch._C.abs",
        "torch.save",
    ):
        bad = json.loads(json.dumps(config).replace("torch.relu", name))
        with pytest.raises(ValueError, match="is not among the torch functions that a config may name"):
            keras.Model.from_config(bad)


def test_plain_modules_have_no_config_and_say_so() -> None:
    x = keras.Input((2,))
    with pytest.raises(ValueError, match=r"holds the plain torch module 'linear' \(Linear\), which has no config"):
        keras.Model(x, nn.Linear(2, 2)(x)).get_config()


def test_a_config_that_cannot_be_linked() -> None:
    x = keras.Input((2,), name="x")
    config = keras.Model(x, layers.Dense(2, name="d")(x)).get_config()
    text = json.dumps(config).replace('"keras_history": ["x", 0, 0]', '"keras_history": ["nobody", 0, 0]')
    with pytest.raises(ValueError, match="calls of d need values that nothing in it makes"):
        keras.Model.from_config(json.loads(text))
