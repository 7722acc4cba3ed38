"""Functional models beside Keras's: names, shapes, weights, outputs and gradients; nests of inputs and outputs; subclasses."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import keras as oracle
import numpy as np
import pytest
import torch
from torch import nn

import hornbeam as keras
from hornbeam import layers
from hornbeam.graph import tree
from hornbeam.models import Functional
from model_samples import MODELS, given


@pytest.mark.oracle
@pytest.mark.parametrize("build", MODELS, ids=lambda f: f.__name__)
def test_beside_keras(build: Callable[[Any], Any]) -> None:
    ours, theirs = build(keras), build(oracle)
    assert [m.name for m in ours.layers] == [m.name for m in theirs.layers]
    assert [tuple(x.shape) for x in ours.outputs] == [tuple(x.shape) for x in theirs.outputs]
    assert ours.input_shape == theirs.input_shape
    assert ours.output_shape == theirs.output_shape
    assert ours.count_params() == theirs.count_params()
    assert [w.path for w in ours.weights] == [w.path for w in theirs.weights]
    rng = np.random.default_rng(0)
    weights = [rng.uniform(0.1, 1, size=w.shape).astype("float32") - 0.3 * ("variance" not in w.name) for w in theirs.weights]
    ours.set_weights(weights)
    theirs.set_weights(weights)
    values = given(ours)
    mine_in, other_in = ([torch.tensor(v, requires_grad=True) for v in values] for _ in range(2))
    single = len(values) == 1
    mine, other = ours(mine_in[0] if single else mine_in), theirs(other_in[0] if single else other_in)
    for a, b in zip(tree.leaves(mine), tree.leaves(other), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    for outputs in (mine, other):
        sum((v * torch.arange(float(v.numel())).view(v.shape)).sum() for v in tree.leaves(outputs)).backward()
    for a, b in zip(mine_in, other_in, strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-3, atol=1e-4)
    for a, b in zip(ours.trainable_weights, theirs.trainable_weights, strict=True):
        torch.testing.assert_close(a.grad, b.value.grad, rtol=1e-3, atol=1e-3)


# -- nests


def nest_model(inputs: Any, outputs: Callable[[Any], Any]) -> keras.Model:
    return keras.Model(inputs, outputs(inputs))


def test_dicts_of_inputs_and_outputs() -> None:
    a, b = keras.Input((2,), name="first"), keras.Input((2,), name="second")
    model = keras.Model({"b": b, "a": a}, {"difference": a - b, "both": [a, (b,)]})
    x, y = torch.ones(1, 2), torch.zeros(1, 2)
    found = model({"a": x, "b": y})
    assert list(found) == ["difference", "both"]
    assert found["difference"].tolist() == [[1.0, 1.0]]
    assert found["both"][1][0].tolist() == [[0.0, 0.0]]
    assert model({"b": y, "a": x})["difference"].tolist() == [[1.0, 1.0]]
    assert model({"second": y, "first": x})["difference"].tolist() == [[1.0, 1.0]], "by the inputs' names too"
    assert model({"a": x, "b": y, "more": x})["difference"].tolist() == [[1.0, 1.0]]
    with pytest.raises(ValueError, match=r"is missing input 'b'. It takes: 'b', 'a'. Received keys: 'a'"):
        model({"a": x})
    assert model.input_shape == {"b": (None, 2), "a": (None, 2)}


def test_lists_and_tuples_of_inputs() -> None:
    a, b = keras.Input((2,), name="a"), keras.Input((2,), name="b")
    for inputs in ([a, b], (a, b)):
        model = keras.Model(inputs, a - b)
        x, y = torch.ones(1, 2), torch.zeros(1, 2)
        for value in ([x, y], (x, y), {"a": x, "b": y}, [x.numpy(), y.numpy()]):
            assert model(value).tolist() == [[1.0, 1.0]]
        with pytest.raises(ValueError, match=r"takes 2 input\(s\) \('a', 'b'\). Received: 1"):
            model(x)
        with pytest.raises(ValueError, match=r"takes 2 input\(s\).*Received: 3 in a list"):
            model([x, y, x])


def test_one_input_in_a_list() -> None:
    x = keras.Input((2,))
    model = keras.Model([x], [x * 2])
    for value in (torch.ones(1, 2), [torch.ones(1, 2)]):
        found = model(value)
        assert isinstance(found, list)
        assert found[0].tolist() == [[2.0, 2.0]]
    assert keras.Model(x, x * 2)([torch.ones(1, 2)]).tolist() == [[2.0, 2.0]]


def test_deep_nests() -> None:
    inputs = {"image": keras.Input((2,)), "text": [keras.Input((3,)), (keras.Input((1,)),)]}
    model = keras.Model(inputs, {"sum": inputs["image"].sum(1) + inputs["text"][0].sum(1) + inputs["text"][1][0].sum(1)})
    value = {"image": torch.ones(4, 2), "text": [torch.ones(4, 3), (torch.ones(4, 1),)]}
    for twin in (model, copy.deepcopy(model), pickle.loads(pickle.dumps(model)), keras.Model.from_config(model.get_config())):
        assert twin(value)["sum"].tolist() == [6.0] * 4
    symbolic = {"image": keras.Input((2,)), "text": [keras.Input((3,)), (keras.Input((1,)),)]}
    assert keras.Model(symbolic, model(symbolic)["sum"] * 2)(value).tolist() == [12.0] * 4


# -- subclasses


class Mine(keras.Model):
    """Made from inputs and outputs, with attributes before and after."""

    def __init__(self, width: int = 4) -> None:
        self.first = layers.Dense(width, activation="relu")
        self.blocks = [layers.Dense(width), layers.Dense(width)]
        self.width = width
        x = h = keras.Input((3,))
        h = self.first(h)
        for block in self.blocks:
            h = block(h)
        last = layers.Dense(2, name="head")
        super().__init__(x, last(h), name="mine")
        self.last = last
        self.extra = layers.Dense(1)

    def twice(self, x: torch.Tensor) -> torch.Tensor:
        return self(x) * 2


def test_a_subclass_made_from_inputs_and_outputs() -> None:
    model = Mine()
    assert isinstance(model, Functional)
    assert isinstance(model, Mine)
    keys = list(model.state_dict())
    assert keys == [f"{n}.{w}" for n in ("first", "blocks.0", "blocks.1", "last") for w in ("kernel", "bias")]
    x = torch.randn(2, 3)
    expected = model.last(model.blocks[1](model.blocks[0](model.first(x))))
    torch.testing.assert_close(model(x), expected)
    torch.testing.assert_close(model.twice(x), expected * 2)
    assert [type(m).__name__ for m in model.layers] == ["InputLayer", *["Dense"] * 5]
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        torch.testing.assert_close(twin(x), expected)
        assert twin.last is not model.last
        assert twin.last is twin.get_layer("head")
    assert Mine.from_config(model.get_config())(x).shape == (2, 2)
    assert Mine(7).width == 7


def test_a_subclass_may_override_call_and_train_step() -> None:
    class Louder(keras.Model):
        def call(self, x: torch.Tensor, training: bool | None = None) -> torch.Tensor:
            return super().call(x) * 10

    x = keras.Input((2,))
    assert Louder(x, x + 1)(torch.ones(1, 2)).tolist() == [[20.0, 20.0]]
    assert Louder(inputs=x, outputs=x + 1)(torch.ones(1, 2)).tolist() == [[20.0, 20.0]]


def test_a_subclass_that_is_also_used_without_graph() -> None:
    class Either(keras.Model):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.factor = 3.0

        def scaled(self, x: torch.Tensor) -> torch.Tensor:
            return self(x) * self.factor

    x = keras.Input((2,))
    assert Either(x, x + 1).scaled(torch.ones(1, 2)).tolist() == [[6.0, 6.0]]


def test_model_without_arguments_and_with_wrong_ones() -> None:
    with pytest.raises(TypeError, match=r"takes `inputs` and `outputs`.*A list of layers makes a Sequential"):
        keras.Model([layers.Dense(2)])
    x = keras.Input((2,))
    assert type(keras.Model(x, x * 1)) is Functional
    assert type(keras.Model(inputs=x, outputs=x * 1)) is Functional
    assert type(keras.Model()) is keras.Model


# -- models in models


def test_every_kind_in_every_kind() -> None:
    def functional() -> keras.Model:
        x = keras.Input((4,))
        return keras.Model(x, torch.relu(layers.Dense(4)(x)))

    def sequential() -> keras.Model:
        return keras.Sequential([layers.Dense(4), layers.BatchNormalization()])

    class Net(keras.Model):
        def __init__(self, inner: Any = None) -> None:
            super().__init__()
            self.inner, self.dense = inner, layers.Dense(4)

        def call(self, x: torch.Tensor) -> torch.Tensor:
            return self.dense(x if self.inner is None else self.inner(x))

    def in_functional(inner: Any) -> keras.Model:
        x = keras.Input((4,))
        return keras.Model(x, layers.Dense(2)(inner(x)))

    parts: dict[str, Callable[[], Any]] = {
        "functional": functional,
        "sequential": sequential,
        "subclassed": Net,
        "torch": lambda: nn.Linear(4, 4),
    }
    wholes: dict[str, Callable[[Any], Any]] = {
        "functional": in_functional,
        "sequential": lambda inner: keras.Sequential([inner, layers.Dense(2)]),
        "subclassed": Net,
        "torch": lambda inner: nn.Sequential(inner, nn.Linear(4, 2)),
    }
    value = torch.randn(3, 4)
    for part in parts.values():
        for whole in wholes.values():
            inner = part()
            model = whole(inner)
            y = model(value)
            assert y.shape[0] == 3
            y.sum().backward()
            assert all(p.grad is not None for p in inner.parameters())
            ids = {id(p) for p in model.parameters()}
            assert {id(p) for p in inner.parameters()} <= ids
            assert len(list(model.parameters())) == len(
                {id(p) for p in model.state_dict(keep_vars=True).values() if p.requires_grad}
            )
            twin = copy.deepcopy(model)
            twin.load_state_dict(model.state_dict())
            torch.testing.assert_close(twin.eval()(value), model.eval()(value))


def test_a_nested_model_on_other_shapes() -> None:
    x = keras.Input((None, 3))
    inner = keras.Model(x, layers.Dense(2)(x).relu())
    y = keras.Input((5, 3))
    assert inner(y).shape == (None, 5, 2)
    assert inner(keras.Input((None, 3), batch_size=7)).shape == (7, None, 2)


def test_weights_are_shared_between_a_model_and_its_parts() -> None:
    x = keras.Input((4,))
    encoder = keras.Model(x, layers.Dense(2)(x))
    h = keras.Input((2,))
    decoder = keras.Model(h, layers.Dense(4)(h))
    whole = keras.Model(x, decoder(encoder(x)))
    value = torch.randn(3, 4)
    torch.testing.assert_close(whole(value), decoder(encoder(value)))
    with torch.no_grad():
        encoder.weights[0].zero_()
    torch.testing.assert_close(whole(value), decoder(encoder(value)))
    assert [id(w) for w in whole.weights] == [id(w) for w in (*encoder.weights, *decoder.weights)]


# -- state_dict


def test_automatic_names_are_numbered_in_the_model() -> None:
    def build() -> keras.Model:
        x = keras.Input((3,))
        return keras.Model(x, layers.Dense(2)(layers.Dense(4, name="named")(layers.Dense(3)(x))))

    a, b = build(), build()
    assert (
        list(a.state_dict())
        == list(b.state_dict())
        == [f"{n}.{w}" for n in ("dense", "named", "dense_1") for w in ("kernel", "bias")]
    )
    b.load_state_dict(a.state_dict())
    torch.testing.assert_close(a(torch.ones(1, 3)), b(torch.ones(1, 3)))
    assert a.layers[1].name != b.layers[1].name


def test_integer_data_for_a_float_input() -> None:
    x = keras.Input((2,))
    assert keras.Model(x, x / 2)(torch.ones(1, 2, dtype=torch.int64)).dtype is torch.float32


def test_trainable_false_from_the_start() -> None:
    x = keras.Input((2,))
    model = Functional(x, layers.Dense(2)(x), trainable=False)
    assert model.trainable_weights == []


def test_a_layer_set_as_an_attribute_afterwards_gives_its_key() -> None:
    x = keras.Input((2,))
    dense = layers.Dense(3)
    model = keras.Model(x, dense(x))
    model.head = dense
    assert list(model.state_dict()) == ["head.kernel", "head.bias"]
    assert model(torch.ones(1, 2)).shape == (1, 3)


def test_a_list_for_keys_that_are_not_sorted_is_refused() -> None:
    a, b = keras.Input((1,)), keras.Input((1,))
    model = keras.Model({"right": a, "left": b}, a - b)
    one, zero = torch.ones(1, 1), torch.zeros(1, 1)
    assert model({"right": one, "left": zero}).item() == 1
    with pytest.raises(ValueError, match="keys 'right', 'left'"):
        model([one, zero])
    assert keras.Model({"a": a, "b": b}, a - b)([one, zero]).item() == 1
