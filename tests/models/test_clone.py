"""clone_model: the same structure with new weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import hornbeam as keras
from hornbeam import layers
from hornbeam.models import clone_model


def functional() -> keras.Model:
    x = keras.Input((4,), name="x")
    shared = layers.Dense(4, name="shared")
    h = torch.relu(shared(x)) + shared(x * 2)
    inner = keras.Sequential([keras.Input((4,)), layers.Dense(3, name="i")], name="inner")
    return keras.Model(x, {"out": layers.Dense(2, name="head")(inner(h))}, name="net")


def sequential() -> keras.Model:
    return keras.Sequential(
        [keras.Input((4,)), layers.Dense(3, name="a"), layers.BatchNormalization(name="b"), layers.Dense(2, name="head")]
    )


@pytest.mark.parametrize("build", [functional, sequential], ids=lambda f: f.__name__)
def test_new_layers_and_weights_of_the_same_structure(build: Any) -> None:
    model = build()
    twin = clone_model(model)
    assert type(twin) is type(model)
    assert twin.name == model.name
    assert [m.name for m in twin.layers] == [m.name for m in model.layers]
    assert list(twin.state_dict()) == list(model.state_dict())
    assert not {id(m) for m in twin.modules()} & {id(m) for m in model.modules()}
    assert not torch.equal(twin.get_layer("head").kernel, model.get_layer("head").kernel)
    twin.set_weights(model.get_weights())
    value = torch.randn(3, 4)
    torch.testing.assert_close(twin(value), model(value))
    assert twin.get_config() == model.get_config()


def test_clone_function() -> None:
    def half(layer: Any) -> Any:
        if isinstance(layer, layers.Dense):
            return layers.Dense.from_config({**layer.get_config(), "use_bias": False})
        return type(layer).from_config(layer.get_config())

    assert len(clone_model(sequential(), clone_function=half).weights) == 6
    model = functional()
    assert len(clone_model(model, clone_function=half).weights) == 4, "nested models as they are"
    assert len(clone_model(model, clone_function=half, recursive=True).weights) == 3


def test_call_function() -> None:
    calls: list[str] = []

    def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
        calls.append(layer.name)
        return layer(*args, **kwargs)

    twin = clone_model(functional(), call_function=call)
    assert calls == ["shared", "shared", "inner", "head"]
    assert twin(torch.ones(1, 4))["out"].shape == (1, 2)


def test_on_other_inputs() -> None:
    x = keras.Input((4,), batch_size=6, name="other")
    twin = clone_model(functional(), input_tensors=x)
    assert twin.input_shape == (6, 4)
    assert twin.output_shape == {"out": (6, 2)}


def test_plain_modules_are_copied_and_reset() -> None:
    linear = nn.Linear(4, 2)
    x = keras.Input((4,))
    model = keras.Model(x, linear(x))
    twin = clone_model(model)
    assert twin.linear is not linear
    assert not torch.equal(twin.linear.weight, linear.weight)


def test_captured_parameters_are_copied() -> None:
    weight = nn.Parameter(torch.ones(4, 2))
    x = keras.Input((4,))
    twin = clone_model(keras.Model(x, x @ weight))
    (copied,) = twin.parameters()
    assert copied is not weight
    assert torch.equal(copied, weight)


def test_subclassed_models_by_their_config() -> None:
    class Net(keras.Model):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.width, self.dense = width, layers.Dense(width)

        def call(self, x: torch.Tensor) -> torch.Tensor:
            return self.dense(x)

    twin = clone_model(Net(5))
    assert twin.width == 5
    with pytest.raises(ValueError, match="takes clone_function and input_tensors for Sequential and functional models only"):
        clone_model(Net(5), clone_function=lambda m: m)


def test_a_sequential_without_shapes() -> None:
    twin = clone_model(keras.Sequential([layers.Dense(3), layers.Dense(2)]))
    assert not twin.built
    assert twin(torch.ones(1, 4)).shape == (1, 2)
