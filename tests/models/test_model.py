"""Subclassed models: build, shapes, layers, weights."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import nn

import hornbeam as keras
from hornbeam import layers


class Net(keras.Model):
    def __init__(self, width: int = 4, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.width = width
        self.conv = layers.Conv2D(width, 3, activation="relu")
        self.flat = layers.Flatten()
        self.heads = [layers.Dense(2, name="a"), layers.Dense(3, name="b")]
        self.drop = layers.Dropout(0.5)

    def call(self, x: torch.Tensor, training: bool = False) -> list[torch.Tensor]:
        h = self.drop(self.flat(self.conv(x)), training=training)
        return [head(h) for head in self.heads]


def test_build_gives_true_shapes_and_no_values() -> None:
    net = Net(name="net")
    assert not net.built
    net.build((None, 8, 8, 1))
    assert net.built
    assert net.count_params() == 40 + 2 * 145 + 3 * 145
    assert [tuple(w.shape) for w in net.weights][:2] == [(3, 3, 1, 4), (4,)]
    assert net.weights[0].path == f"net/{net.conv.name}/kernel"
    assert [y.shape for y in net(torch.ones(2, 8, 8, 1))] == [(2, 2), (2, 3)]
    assert net.compute_output_shape((None, 8, 8, 1)) == [(None, 2), (None, 3)]


def test_build_with_several_inputs() -> None:
    class Two(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = layers.Dense(2), layers.Dense(2)

        def call(self, inputs: Any) -> torch.Tensor:
            return self.a(inputs["x"]) + self.b(inputs["y"])

    model = Two()
    model.build({"x": (None, 3), "y": (None, 4)})
    assert [tuple(w.shape) for w in model.weights] == [(3, 2), (2,), (4, 2), (2,)]


def test_layers_and_get_layer() -> None:
    net = Net()
    assert [type(m).__name__ for m in net.layers] == ["Conv2D", "Flatten", "Dense", "Dense", "Dropout"]
    assert net.get_layer("a") is net.heads[0]
    assert net.get_layer(index=0) is net.conv
    with pytest.raises(ValueError, match="has 5 layers; there is none at index 9"):
        net.get_layer(index=9)
    with pytest.raises(ValueError, match="takes a name or an index, not both"):
        net.get_layer("a", 1)
    with pytest.raises(ValueError, match="needs a name or an index"):
        net.get_layer()


def test_state_dict_keys_are_the_attributes() -> None:
    net = Net()
    net.build((None, 8, 8, 1))
    assert list(net.state_dict()) == [f"{n}.{w}" for n in ("conv", "heads.0", "heads.1") for w in ("kernel", "bias")]


def test_pythons_control_flow_lives() -> None:
    class Flow(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.dense = layers.Dense(2)
            self.steps = 1

        def call(self, x: torch.Tensor, training: bool = False) -> torch.Tensor:
            for _ in range(self.steps):
                x = self.dense(x)
            return -x if training else x

    model = Flow()
    x = torch.randn(1, 2)
    once = model(x)
    model.steps = 2
    torch.testing.assert_close(model(x), model.dense(once))
    torch.testing.assert_close(model(x, training=True), -model(x))


def test_in_a_functional_model_it_is_one_node_that_runs_its_python() -> None:
    net = Net()
    x = keras.Input((8, 8, 1))
    a, b = net(x)
    assert (a.shape, b.shape) == ((None, 2), (None, 3))
    model = keras.Model(x, {"a": a, "b": b})
    assert [m.name for m in model.layers][1:] == [net.name]
    value = torch.randn(2, 8, 8, 1)
    torch.testing.assert_close(model(value)["b"], net(value)[1])


def test_forward_in_place_of_call_and_foreign_layers() -> None:
    class Torchy(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.linear, self.lazy, self.norm = nn.Linear(3, 4), nn.LazyLinear(2), nn.BatchNorm1d(2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.norm(self.lazy(torch.relu(self.linear(x))))

    model = Torchy()
    assert model(torch.ones(2, 3)).shape == (2, 2)
    assert not model.norm.training
    model.train()
    assert model.norm.training


def test_call_with_several_arguments() -> None:
    class Several(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.dense = layers.Dense(2)

        def call(self, x: torch.Tensor, shift: torch.Tensor, scale: float = 1.0) -> torch.Tensor:
            return self.dense(x) * scale + shift

    model = Several()
    a = model(torch.ones(1, 3), torch.ones(1, 2), scale=2.0)
    b = model(torch.ones(1, 3), shift=torch.ones(1, 2), scale=2.0)
    torch.testing.assert_close(a, b)
    x, s = keras.Input((3,)), keras.Input((2,))
    whole = keras.Model([x, s], model(x, s, scale=2.0))
    torch.testing.assert_close(whole([torch.ones(1, 3), torch.ones(1, 2)]), a)


@pytest.mark.parametrize("built", [True, False])
def test_copies(built: bool) -> None:
    net = Net()
    if built:
        net.build((None, 8, 8, 1))
    value = torch.randn(1, 8, 8, 1)
    for twin in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert twin.heads[0] is twin.get_layer("a")
        if built:
            torch.testing.assert_close(twin(value), net(value))
        assert [y.shape for y in twin(value)] == [(1, 2), (1, 3)]


def test_config_round_trip() -> None:
    net = Net(width=7, name="n")
    twin = Net.from_config(net.get_config())
    assert (twin.width, twin.name) == (7, "n")


def test_models_share_layers() -> None:
    class Shares(keras.Model):
        def __init__(self, dense: Any) -> None:
            super().__init__()
            self.dense = dense

        def call(self, x: torch.Tensor) -> torch.Tensor:
            return self.dense(x)

    dense = layers.Dense(2)
    a, b = Shares(dense), Shares(dense)
    a(torch.ones(1, 3))
    assert [id(w) for w in a.weights] == [id(w) for w in b.weights]


def test_wrong_rank_at_build_names_the_layer() -> None:
    with pytest.raises(ValueError, match="expects an input of rank 4"):
        Net().build((None, 8))


def test_an_error_while_building_can_be_repaired() -> None:
    net = Net()
    with pytest.raises(ValueError, match="rank 4"):
        net.build((None, 8))
    net.build((None, 8, 8, 1))
    assert net(torch.ones(1, 8, 8, 1))[0].shape == (1, 2)
