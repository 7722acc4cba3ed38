"""Sequential: lists, add and pop, with and without an Input, indexing, changes after it was built."""

from __future__ import annotations

import copy
import pickle

import keras as oracle
import numpy as np
import pytest
import torch
from torch import nn

import hornbeam as keras
from hornbeam import layers
from model_samples import same


def test_without_an_input_it_is_built_at_the_first_call() -> None:
    model = keras.Sequential([layers.Dense(4), layers.Dense(2)])
    assert not model.built
    assert model.weights == []
    assert model(torch.ones(1, 3)).shape == (1, 2)
    assert model.built
    assert [tuple(w.shape) for w in model.weights] == [(3, 4), (4,), (4, 2), (2,)]
    assert model.input_shape == (None, 3)
    assert model.output_shape == (None, 2)
    assert model(torch.ones(5, 3)).shape == (5, 2)


WITH_SHAPES = {
    "Input": lambda: keras.Sequential([keras.Input((3,)), layers.Dense(4), layers.Dense(2)]),
    "InputLayer": lambda: keras.Sequential([layers.InputLayer((3,)), layers.Dense(4), layers.Dense(2)]),
    "input_shape": lambda: keras.Sequential([layers.Dense(4, input_shape=(3,)), layers.Dense(2)]),
    "input_dim": lambda: keras.Sequential([layers.Dense(4, input_dim=3), layers.Dense(2)]),
    "batch_input_shape": lambda: keras.Sequential([layers.Dense(4, batch_input_shape=(None, 3)), layers.Dense(2)]),
    "build": lambda: _built(keras.Sequential([layers.Dense(4), layers.Dense(2)])),
    "add": lambda: _added(keras.Input((3,)), layers.Dense(4), layers.Dense(2)),
}


def _built(model: keras.Sequential) -> keras.Sequential:
    model.build((None, 3))
    return model


def _added(*parts: object) -> keras.Sequential:
    model = keras.Sequential()
    for part in parts:
        model.add(part)
    return model


@pytest.mark.parametrize("name", WITH_SHAPES)
def test_with_a_shape_it_is_built_at_once(name: str) -> None:
    model = WITH_SHAPES[name]()
    assert model.built
    assert model.count_params() == 26
    assert model.output_shape == (None, 2)
    assert len(model.layers) == 2
    assert list(model.state_dict()) == ["dense.kernel", "dense.bias", "dense_1.kernel", "dense_1.bias"]
    assert model(torch.ones(1, 3)).shape == (1, 2)


def test_add_after_it_was_called() -> None:
    model = keras.Sequential([layers.Dense(4)])
    x = torch.randn(2, 3)
    before = model(x)
    model.add(layers.Dense(2))
    torch.testing.assert_close(model(x), model.layers[1](before))
    model.add(nn.Softmax(-1))
    assert model(x).sum(-1).allclose(torch.ones(2))
    assert model.output_shape == (None, 2)
    assert len(model) == 3


def test_pop() -> None:
    model = keras.Sequential([keras.Input((3,)), layers.Dense(4), layers.Dense(2)])
    x = torch.randn(2, 3)
    hidden = model.layers[0](x)
    last = model.layers[1]
    assert model.pop() is last
    torch.testing.assert_close(model(x), hidden)
    assert len(model.weights) == 2
    assert model.output_shape == (None, 4)
    model.add(layers.Dense(5))
    assert model(x).shape == (2, 5)
    model.pop()
    model.pop()
    with pytest.raises(ValueError, match="has no layers to pop"):
        model.pop()
    with pytest.raises(ValueError, match="has no layers: add some"):
        model(x)


def test_a_summary_after_a_change_is_up_to_date() -> None:
    model = keras.Sequential([keras.Input((3,)), layers.Dense(4, name="a"), layers.Dense(2, name="b")])
    model.pop()
    model.add(layers.Dense(7, name="c"))
    lines: list[str] = []
    model.summary(print_fn=lines.append)
    assert "b (Dense)" not in lines[0]
    assert "c (Dense)" in lines[0]
    assert "(None, 7)" in lines[0]


def test_as_a_sequence() -> None:
    model = keras.Sequential([keras.Input((3,)), layers.Dense(4, name="a"), layers.Dense(5, name="b"), layers.Dense(2, name="c")])
    a, b, c = model.layers
    assert len(model) == 3
    assert list(model) == [a, b, c]
    assert model[0] is a
    assert model[-1] is c
    assert model["b"] is b
    assert model.get_layer("b") is b
    assert model.get_layer(index=2) is c
    assert bool(keras.Sequential())
    part = model[1:]
    x = torch.randn(2, 4)
    torch.testing.assert_close(part(x), c(b(x)))
    assert part[0] is b


def test_errors_say_what_to_do() -> None:
    with pytest.raises(TypeError, match=r"Sequential takes a list of layers. Received: Dense. Write Sequential\(\[layer\]\)"):
        keras.Sequential(layers.Dense(2))
    with pytest.raises(TypeError, match=r"Make an instance: Dense\(...\)"):
        keras.Sequential([layers.Dense])
    with pytest.raises(TypeError, match=r"Wrap a function: Lambda\(relu\)"):
        keras.Sequential([torch.relu])
    with pytest.raises(TypeError, match="Pass the layer itself, without calling it"):
        keras.Sequential([layers.Dense(2)(keras.Input((3,)))])
    with pytest.raises(ValueError, match="has a layer named 'same' already"):
        keras.Sequential([layers.Dense(2, name="same"), layers.Dense(2, name="same")])
    with pytest.raises(ValueError, match="an Input can only stand first"):
        keras.Sequential([layers.Dense(2), keras.Input((3,))])
    with pytest.raises(ValueError, match="has no layers: add some"):
        keras.Sequential()(torch.ones(1))
    with pytest.raises(ValueError, match=r"has no layer 'hiden'. Did you mean 'hidden'"):
        keras.Sequential([layers.Dense(2, name="hidden")]).get_layer("hiden")


def test_a_misfit_shows_when_the_layer_is_added_and_leaves_the_model_whole() -> None:
    model = keras.Sequential([keras.Input((3,)), layers.Dense(4)])
    with pytest.raises(ValueError, match="expects an input of rank 4"):
        model.add(layers.Conv2D(2, 3))
    assert len(model) == 1
    assert model(torch.ones(1, 3)).shape == (1, 4)


def test_a_wrong_input_is_refused() -> None:
    model = keras.Sequential([keras.Input((3,)), layers.Dense(4, name="first")])
    with pytest.raises(ValueError, match=r"Layer 'first' .Dense. expects size 3 on axis -1"):
        model(torch.ones(1, 5))


def test_integer_inputs_and_embeddings() -> None:
    model = keras.Sequential([layers.Embedding(10, 4, input_length=5), layers.LSTM(3), layers.Dense(2)])
    assert model(torch.ones(2, 5, dtype=torch.int64)).shape == (2, 2)
    again = keras.Sequential([keras.Input((5,)), layers.Embedding(10, 4), layers.Flatten()])
    assert again(torch.ones(2, 5, dtype=torch.int64)).shape == (2, 20)


def test_plain_torch_modules() -> None:
    model = keras.Sequential([nn.Linear(3, 4), nn.ReLU(), layers.Dense(2), nn.LazyLinear(5)])
    assert model(torch.ones(1, 3)).shape == (1, 5)
    assert [type(m).__name__ for m in model.layers][:3] == ["Linear", "ReLU", "Dense"]
    plain = nn.Sequential(keras.Sequential([layers.Dense(2)]), nn.Linear(2, 1))
    assert plain(torch.ones(1, 3)).shape == (1, 1)


def test_nested() -> None:
    inner = keras.Sequential([layers.Dense(4), layers.Dense(3)], name="inner")
    model = keras.Sequential([keras.Input((5,)), inner, layers.Dense(2)])
    assert inner.built
    assert model.layers[0] is inner
    assert next(iter(model.state_dict())) == "inner.dense.kernel"
    assert model(torch.ones(1, 5)).shape == (1, 2)
    unbuilt = keras.Sequential([keras.Sequential([layers.Dense(4)]), keras.Sequential([layers.Dense(2)])])
    assert unbuilt(torch.ones(1, 3)).shape == (1, 2)


def test_a_first_nested_model_gives_the_shape() -> None:
    inner = keras.Sequential([keras.Input((5,)), layers.Dense(4)])
    model = keras.Sequential([inner, layers.Dense(2)])
    assert model.built
    assert model.input_shape == (None, 5)


def test_copies_go_on_growing() -> None:
    for built in (True, False):
        model = keras.Sequential([*([keras.Input((3,))] if built else []), layers.Dense(4)])
        for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            twin.add(layers.Dense(2, name="last"))
            assert twin(torch.ones(1, 3)).shape == (1, 2)
            assert len(model.layers) == 1
            twin.pop()
            assert twin(torch.ones(1, 3)).shape == (1, 4)


def test_replacing_a_layer_by_its_key() -> None:
    model = keras.Sequential([keras.Input((3,)), layers.Dense(4, name="body"), layers.Dense(2, name="head")])
    model.head = layers.Dense(7, name="new")
    assert model(torch.ones(1, 3)).shape == (1, 7)
    assert [m.name for m in model.layers] == ["body", "new"]


def test_numpy_inputs() -> None:
    assert keras.Sequential([layers.Dense(2)])(np.ones((1, 3))).shape == (1, 2)


@pytest.mark.oracle
def test_output_shapes_names_and_configs_as_in_keras() -> None:
    def build(k: object) -> object:
        L = k.layers  # type: ignore[attr-defined]
        return k.Sequential(  # type: ignore[attr-defined]
            [
                k.Input((28, 28, 1), name="image"),  # type: ignore[attr-defined]
                L.Conv2D(8, 3, activation="relu", name="conv"),
                L.MaxPooling2D(name="pool"),
                L.BatchNormalization(name="norm"),
                L.Flatten(name="flat"),
                L.Dropout(0.5, name="drop"),
                L.Dense(10, activation="softmax", kernel_regularizer="l2", name="head"),
            ],
            name="net",
        )

    ours, theirs = build(keras), build(oracle)
    assert [m.name for m in ours.layers] == [m.name for m in theirs.layers]
    assert ours.input_shape == theirs.input_shape
    assert ours.output_shape == theirs.output_shape
    assert [tuple(m.output.shape) for m in ours.layers] == [tuple(m.output.shape) for m in theirs.layers]
    same(ours.get_config(), theirs.get_config())
    assert ours.count_params() == theirs.count_params()
    assert [w.path for w in ours.weights] == [w.path for w in theirs.weights]
