"""Configs for free: names from signatures, values from live attributes or from what the constructor got."""

from __future__ import annotations

from typing import Any

import pytest

import hornbeam as keras
from hornbeam import layers
from hornbeam.core.init_args import Configurable, signature_names


def test_names_follow_open_ended_constructors() -> None:
    class A:
        def __init__(self, a: int, b: int = 2) -> None: ...

    class B(A):
        def __init__(self, c: int, **kwargs: Any) -> None: ...

    class C(B):
        pass

    class D(C):
        def __init__(self, *args: Any, d: int = 4, **kwargs: Any) -> None: ...

    assert signature_names(A) == ("a", "b")
    assert signature_names(B) == signature_names(C) == ("c", "a", "b")
    assert signature_names(D) == ("d", "c", "a", "b")


class Free(keras.Layer):
    def __init__(self, units: int, *sizes: int, mode: str = "x", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.kept = (units, sizes, mode)


def test_a_users_class_answers_with_what_it_got() -> None:
    config = Free(3, mode="y", name="free", dtype="float64").get_config()
    assert {k: config[k] for k in ("units", "mode", "name")} == {"units": 3, "mode": "y", "name": "free"}
    assert Free.from_config(config).kept == (3, (), "y")
    assert Free.from_config(config).dtype == "float64"


def test_defaults_are_written_out() -> None:
    assert Free(3).get_config()["mode"] == "x"


def test_a_users_subclass_without_a_constructor_keeps_the_parents_config() -> None:
    class Mine(layers.Dense):
        pass

    layer = Mine(3, activation="relu", name="m")
    layer.units = 5
    config = layer.get_config()
    assert (config["units"], config["activation"]) == (5, "relu")
    assert config.keys() == layers.Dense(3).get_config().keys()


def test_a_users_subclass_of_a_layer_with_its_own_constructor() -> None:
    class Mine(layers.Dense):
        def __init__(self, width: int, **kwargs: Any) -> None:
            super().__init__(width * 2, **kwargs)

    layer = Mine(3, name="m")
    twin = Mine.from_config(layer.get_config())
    assert (layer.units, twin.units) == (6, 6)
    assert twin.name == "m"


def test_layers_initializers_and_functions_among_the_arguments() -> None:
    class Mine(keras.Layer):
        def __init__(self, inner: Any, initializer: Any, sizes: Any, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.inner, self.initializer, self.sizes = inner, initializer, sizes

    config = Mine(layers.Dense(2, name="i"), keras.initializers.Ones(), (1, [2, (3,)]), name="m").get_config()
    assert config["inner"]["class_name"] == "Dense"
    assert config["initializer"]["class_name"] == "Ones"
    assert config["sizes"] == (1, [2, (3,)])


def test_arguments_are_not_kept_twice_for_built_in_classes() -> None:
    assert "_init_args" not in layers.Dense(2).__dict__
    assert "_init_args" in Free(2).__dict__


def test_what_has_no_config_says_so() -> None:
    class Mine(keras.Layer):
        def __init__(self, thing: Any, **kwargs: Any) -> None:
            super().__init__(**kwargs)

    with pytest.raises(ValueError, match=r"Cannot write .* into a config: give it a `get_config"):
        Mine(object()).get_config()


def test_other_configurable_classes() -> None:
    class Thing(Configurable):
        def __init__(self, a: int, b: int = 2) -> None:
            self.a, self.b = a, b

    assert Thing(1).get_config() == {"a": 1, "b": 2}
    assert Thing.from_config({"a": 5}).a == 5
