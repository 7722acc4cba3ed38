"""`from_config` of the model classes: which class comes out, and where custom objects are found."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import hornbeam as keras
from hornbeam import layers
from hornbeam.models.functional import Functional


class Scaled(layers.Dense):
    def call(self, inputs: torch.Tensor) -> torch.Tensor:
        return 2 * super().call(inputs)


def functional(layer: layers.Layer) -> keras.Model:
    x = keras.Input((3,))
    return keras.Model(x, layer(x), name="net")


def test_a_functional_config_makes_a_functional_model() -> None:
    class Net(keras.Model):
        def double(self, x: torch.Tensor) -> torch.Tensor:
            return 2 * self(x)

    config = functional(layers.Dense(2)).get_config()
    for cls in (keras.Model, Functional, Net):
        made = cls.from_config(config)
        assert isinstance(made, Functional)
        assert isinstance(made, cls)
        assert made.name == "net"
        assert made(torch.ones(1, 3)).shape == (1, 2)
    assert made.double(torch.ones(1, 3)).shape == (1, 2)


def test_a_subclass_with_its_own_constructor_keeps_it() -> None:
    class Net(keras.Model):
        def __init__(self, units: int = 4, **kwargs: object) -> None:
            super().__init__(**kwargs)
            self.units = units

    assert Net.from_config(Net(7).get_config()).units == 7


def test_custom_objects_are_found_at_every_entrance() -> None:
    custom = {"Scaled": Scaled}
    chain = keras.Sequential([keras.Input((3,)), Scaled(2)])
    graph = functional(Scaled(2))
    wrapper = layers.TimeDistributed(Scaled(2))
    entrances = [
        lambda c: keras.Sequential.from_config(chain.get_config(), custom_objects=c),
        lambda c: keras.Model.from_config(graph.get_config(), custom_objects=c),
        lambda c: layers.TimeDistributed.from_config(wrapper.get_config(), custom_objects=c),
        lambda c: layers.deserialize(layers.serialize(Scaled(2)), custom_objects=c),
        lambda c: keras.models.model_from_json(chain.to_json(), custom_objects=c),
        lambda c: keras.models.model_from_json(graph.to_json(), custom_objects=c),
    ]
    for entrance in entrances:
        made = entrance(custom)
        assert any(isinstance(m, Scaled) for m in made.modules())
        with pytest.raises(ValueError, match="custom_objects"):
            entrance(None)


def test_custom_objects_in_a_map_of_optimizers() -> None:
    class Slow(keras.optimizers.SGD):
        pass

    config = keras.optimizers.OptimizerMap(default_optimizer=Slow(0.5)).get_config()
    made = keras.optimizers.OptimizerMap.from_config(config, custom_objects={"Slow": Slow})
    assert isinstance(made.default_optimizer, Slow)


class Handing(keras.Model):
    """Hands its arguments on, and has one of its own."""

    def __init__(self, *args: Any, extra: int = 1, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.extra = extra

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "extra": self.extra}


class Named(keras.Model):
    def __init__(self, inputs: Any, outputs: Any, name: str | None = None) -> None:
        super().__init__(inputs, outputs, name=name)


class Wide(keras.Model):
    def __init__(self, width: int = 3) -> None:
        x = keras.Input((3,))
        super().__init__(x, layers.Dense(width)(x))
        self.width = width


class Wider(Wide):
    """Has its constructor from its parent."""


@pytest.mark.parametrize("kind", [Handing, Named])
def test_a_subclass_that_takes_a_graph_comes_back_from_its_config(kind: Any) -> None:
    x = keras.Input((3,))
    model = kind(x, layers.Dense(2)(x), name="mine")
    if kind is Handing:
        model.extra = 4
    model.trainable = False
    again = kind.from_config(model.get_config())
    assert type(again) is kind
    assert (again.name, again.trainable, again.output_shape) == ("mine", False, (None, 2))
    assert getattr(again, "extra", None) == getattr(model, "extra", None)
    assert type(keras.models.clone_model(model)) is kind


@pytest.mark.parametrize("kind", [Wide, Wider])
def test_a_subclass_that_makes_its_graph_comes_back_by_its_arguments(kind: Any) -> None:
    again = kind.from_config(kind(5).get_config())
    assert type(again) is kind
    assert again.output_shape == (None, 5)
    assert type(keras.models.clone_model(again)) is Functional
