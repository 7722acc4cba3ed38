"""Smaller members that Keras's variables, operations and functions have."""

from __future__ import annotations

import copy

import pytest
import torch

import hornbeam as keras
from hornbeam import layers


def test_settings_of_variables() -> None:
    v = keras.Variable([1.0])
    assert (v.aggregation, v.synchronization, v.overwrite_with_gradient) == ("none", "auto", False)
    v = keras.Variable([1.0], aggregation="mean", synchronization="on_read")
    v.overwrite_with_gradient = True
    assert (v.aggregation, v.synchronization, v.overwrite_with_gradient) == ("mean", "on_read", True)
    twin = copy.deepcopy(v)
    twin.aggregation = "sum"
    assert (twin.overwrite_with_gradient, v.aggregation) == (True, "mean")


def test_settings_of_added_weights() -> None:
    layer = layers.Layer()
    w = layer.add_weight((2,), name="w", aggregation="only_first_replica", overwrite_with_gradient=True)
    assert (w.aggregation, w.overwrite_with_gradient) == ("only_first_replica", True)


@pytest.mark.parametrize(
    ("setting", "message"), [("aggregation", "aggregation must be one of"), ("synchronization", "must be one")]
)
def test_unknown_settings(setting: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        keras.Variable([1.0], **{setting: "meen"})


class Pair(keras.Operation):
    def call(self, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x + y, x[:, :1]


def test_operations_know_their_inputs_and_outputs() -> None:
    x, y, pair = keras.Input((3,)), keras.Input((3,)), Pair()
    with pytest.raises(AttributeError, match="has not been called on a symbolic tensor, so `output`"):
        _ = pair.output
    outer = keras.Model([x, y], pair(x, y)[0] * 2)
    assert [t.shape for t in pair.input] == [(None, 3), (None, 3)]
    assert [t.shape for t in pair.output] == [(None, 3), (None, 1)]
    model = keras.Model(pair.input, pair.output[1])
    a, b = torch.ones(2, 3), torch.ones(2, 3)
    assert torch.equal(model([a, b]), torch.ones(2, 1))
    assert torch.equal(copy.deepcopy(outer)([a, b]), outer([a, b]))


def test_functions_list_their_operations_and_shapes() -> None:
    x, y = keras.Input((3,)), keras.Input((5, 3))
    dense, pair = layers.Dense(3), Pair()
    function = keras.Function({"b": y, "a": x}, pair(dense(x), y[:, 0]))
    assert [o for o in function.operations if isinstance(o, keras.Operation)] == [dense, pair]
    assert function.compute_output_shape({"b": (4, 5, 3), "a": (4, 3)}) == ((4, 3), (4, 1))
    assert keras.Function(x, dense(x)).compute_output_shape((None, 3)) == (None, 3)


@pytest.mark.parametrize("kind", ["list", "dict"])
def test_ready_models_of_several_inputs_take_them_as_they_are(kind: str) -> None:
    x, y = keras.Input((3,), name="x"), keras.Input((3,), name="y")
    model = keras.Model([x, y] if kind == "list" else {"x": x, "y": y}, layers.Concatenate()([x, y]))

    def call(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return model([a, b] if kind == "list" else {"x": a, "y": b})

    a, b = torch.ones(2, 3), torch.zeros(2, 3)
    for _ in range(2):
        assert torch.equal(call(a, b), torch.cat([a, b], 1))
        assert call(a.double(), b).dtype is torch.float32
        assert call(a.numpy(), b).dtype is torch.float32
        with pytest.raises(ValueError, match=r"takes 2 input|missing input"):
            model([a] if kind == "list" else {"x": a})


def test_masks_of_listed_inputs_are_seen_when_ready() -> None:
    join = layers.Concatenate()
    a, b = torch.ones(2, 4, 3), torch.ones(2, 4, 3)
    join([a, b])
    assert getattr(join([a, b]), "_keras_mask", None) is None
    a._keras_mask = b._keras_mask = torch.tensor([[True, True, False, False]] * 2)  # type: ignore[attr-defined]
    assert torch.equal(join([a, b])._keras_mask, a._keras_mask)  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["loss", "optimizer", "history", "graph", "cost", "profile", "output"])
@pytest.mark.parametrize("listed", [False, True])
def test_a_child_may_have_the_name_of_a_class_attribute(name: str, listed: bool) -> None:
    class Net(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            setattr(self, name, layers.Dense(2) if not listed or name == "output" else [layers.Dense(2)])

        def call(self, x: torch.Tensor) -> torch.Tensor:
            child = getattr(self, name)
            return child(x) if isinstance(child, layers.Dense) else child[0](x)

    net = Net()
    assert net(torch.ones(1, 3)).shape == (1, 2)
    assert len(list(net.parameters())) == 2
    twin = copy.deepcopy(net)
    assert getattr(twin, name) is dict(twin.named_children())[name] is not getattr(net, name)
    setattr(net, name, None)
    assert getattr(net, name, None) is None
    assert not list(net.parameters())


def test_a_child_cannot_have_the_name_of_a_property() -> None:
    model = keras.Model()
    for name in ("losses", "weights", "layers", "dtype"):
        with pytest.raises(AttributeError, match=f"{name} is a property: give this Dense another"):
            setattr(model, name, layers.Dense(2))
    model.layers = [layers.Dense(2)]  # the habit of torch users: what the property gives is the same
    assert len(model.layers) == 1
