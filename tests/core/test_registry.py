"""Names and configs to objects and back."""

from __future__ import annotations

import json
from typing import Any

import keras as oracle
import numpy as np
import pytest
import torch

import hornbeam as keras
from hornbeam import layers
from hornbeam.core import registry
from hornbeam.core.registry import Registry, custom_object_scope, deserialize_keras_object, serialize_keras_object, snake_case


@pytest.fixture
def own() -> Any:
    made = Registry("fruit", "hornbeam.test")
    yield made
    registry._registries.remove(made)


@pytest.fixture(autouse=True)
def _clean_custom_objects() -> Any:
    objects, names = dict(registry._custom), dict(registry._custom_names)
    yield
    for table, before in ((registry._custom, objects), (registry._custom_names, names)):
        table.clear()
        table.update(before)


def apple(x: float) -> float:
    return x + 1


def test_spellings(own: Registry) -> None:
    class BigPear:
        def __call__(self, x: float) -> float:
            return x

    own.add(apple, "malus")
    own.add(BigPear)
    assert own.get("apple") is own.get("malus") is apple
    assert isinstance(own.get("BigPear"), BigPear)
    assert isinstance(own.get("big_pear"), BigPear)
    assert isinstance(own.get(BigPear), BigPear)
    assert own.get(None) is None
    assert own.get(abs) is abs
    with pytest.raises(ValueError, match=r"Unknown fruit: 'aple'. Did you mean 'apple'"):
        own.get("aple")
    with pytest.raises(ValueError, match=r"Could not read 3 \(int\) as fruit: a name or a callable is expected"):
        own.get(3)


NAMES = [n for n in dir(oracle.layers) if n[0].isupper() and isinstance(getattr(oracle.layers, n), type)]


@pytest.mark.oracle
def test_snake_case_as_in_keras() -> None:
    from keras.src.utils.naming import to_snake_case

    assert len(NAMES) > 100
    for name in (*NAMES, "A", "ABC", "MyHTTPLayer2", "x", "Conv2DTranspose_2", "Ünï"):
        assert snake_case(name) == to_snake_case(name), name


VALUES = [1, 1.5, "text", None, True, [1, [2]], (1, "a"), {"a": (1, 2), "b": [None]}, [(1,), {"x": ()}]]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_plain_values_as_in_keras(value: Any) -> None:
    ours = serialize_keras_object(value)
    assert ours == oracle.saving.serialize_keras_object(value)
    assert deserialize_keras_object(ours) == value


def test_arrays() -> None:
    for value in (np.arange(3), torch.arange(3)):
        again = deserialize_keras_object(json.loads(json.dumps(serialize_keras_object(value))))
        assert again.tolist() == [0, 1, 2]
        assert str(again.dtype) == "int64"


OBJECTS: dict[str, Any] = {
    "Dense": lambda k: k.layers.Dense(2, activation="relu", kernel_regularizer="l2", name="d"),
    "built Dense": lambda k: _built(k.layers.Dense(2, name="d")),
    "Glorot": lambda k: k.initializers.GlorotUniform(seed=3),
    "L1L2": lambda k: k.regularizers.L1L2(0.1, 0.2),
    "MaxNorm": lambda k: k.constraints.MaxNorm(3),
    "policy": lambda k: k.DTypePolicy("mixed_bfloat16"),
    "loss": lambda k: k.losses.MeanSquaredError(name="mse"),
}  # fmt: skip


def _built(layer: Any) -> Any:
    layer.build((None, 3))
    return layer


@pytest.mark.oracle
@pytest.mark.parametrize("name", OBJECTS)
def test_objects_as_in_keras(name: str) -> None:
    ours, theirs = serialize_keras_object(OBJECTS[name](keras)), oracle.saving.serialize_keras_object(OBJECTS[name](oracle))
    assert ours == theirs
    read = deserialize_keras_object(json.loads(json.dumps(theirs)))
    assert type(read).__module__.startswith("hornbeam.")
    assert serialize_keras_object(read) == theirs
    assert oracle.saving.deserialize_keras_object(json.loads(json.dumps(ours))).get_config() == OBJECTS[name](oracle).get_config()


class Doubler(keras.Layer):
    def call(self, x: Any) -> Any:
        return 2 * x


def test_custom_objects() -> None:
    config = serialize_keras_object(Doubler(name="d"))
    assert (config["class_name"], config["registered_name"]) == ("Doubler", "Doubler")
    with pytest.raises(ValueError, match=r"Could not find 'Doubler'.*custom_objects=\{'Doubler': Doubler\}"):
        deserialize_keras_object(config)
    assert type(deserialize_keras_object(config, custom_objects={"Doubler": Doubler})) is Doubler
    with custom_object_scope({"Doubler": Doubler}):
        assert type(deserialize_keras_object(config)) is Doubler
    with pytest.raises(ValueError, match="Could not find"):
        deserialize_keras_object(config)


def test_registered_objects() -> None:
    @keras.saving.register_keras_serializable("fruit")
    class Tripler(keras.Layer):
        def call(self, x: Any) -> Any:
            return 3 * x

    @keras.saving.register_keras_serializable("fruit", name="other")
    def halve(x: Any) -> Any:
        return x / 2

    config = serialize_keras_object(Tripler(name="t"))
    assert config["registered_name"] == "fruit>Tripler"
    assert type(deserialize_keras_object(config)) is Tripler
    layer = layers.Dense(2, activation=halve)
    again = layers.Dense.from_config(json.loads(json.dumps(layer.get_config())))
    assert again.activation is halve
    assert keras.activations.get("fruit>other") is halve


def test_reading_a_config_imports_and_runs_nothing() -> None:
    for config in (
        {"class_name": "system", "module": "os", "config": {}},
        {"class_name": "Popen", "module": "subprocess", "config": {"args": "true"}, "registered_name": "Popen"},
        {"class_name": "function", "config": "eval", "module": "builtins", "registered_name": "function"},
        {"class_name": "__lambda__", "config": {"value": "gASVAAAA"}},
    ):
        with pytest.raises((ValueError, KeyError, TypeError)):
            deserialize_keras_object(config)


def test_threads_do_not_see_each_others_scopes() -> None:
    import threading

    seen: list[Any] = []
    with custom_object_scope({"only_here": abs}):
        thread = threading.Thread(target=lambda: seen.append(registry.find_custom("only_here")))
        thread.start()
        thread.join()
        assert registry.find_custom("only_here") is abs
    assert seen == [None]


def test_scopes_nest() -> None:
    with custom_object_scope({"a": 1, "b": 1}):
        with custom_object_scope({"a": 2}):
            assert (registry.find_custom("a"), registry.find_custom("b")) == (2, 1)
        assert registry.find_custom("a") == 1
    assert registry.find_custom("a") is None
