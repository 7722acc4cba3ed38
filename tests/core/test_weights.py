"""Weights: the Variable's API, laziness, initial values, weights of layers that are not built yet."""

from __future__ import annotations

import copy
import pickle
import tracemalloc
from typing import Any

import keras as oracle
import numpy as np
import pytest
import torch
from torch import nn

import hornbeam as keras
from hornbeam import layers
from hornbeam.core.weights import LazyDict, in_storage_order

HUGE = 300_000


def is_lazy(layer: Any) -> bool:
    return type(layer.__dict__["_parameters"]) is LazyDict


# -- Variable


def test_a_variable_from_a_value() -> None:
    for value in ([1.0, 2.0], np.array([1.0, 2.0]), torch.tensor([1.0, 2.0])):
        v = keras.Variable(value, name="v")
        assert (v.shape, v.dtype, v.name, v.path, v.trainable) == ((2,), torch.float32, "v", "v", True)
        assert v.numpy().tolist() == v.value.tolist() == [1.0, 2.0]
        assert np.asarray(v).tolist() == [1.0, 2.0]
    assert keras.Variable(3).dtype is torch.int64
    assert not keras.Variable(3).trainable
    assert keras.Variable(1.0, dtype="float16").dtype is torch.float16
    assert not keras.Variable(1.0, trainable=False).requires_grad


def test_a_variable_from_an_initializer() -> None:
    assert keras.Variable("ones", shape=(2,)).tolist() == [1.0, 1.0]
    assert keras.Variable(lambda shape, dtype=None: torch.full(shape, 7.0), shape=(3,)).tolist() == [7.0] * 3
    assert keras.Variable(keras.initializers.Zeros(), shape=(), dtype="float64").dtype is torch.float64
    with pytest.raises(ValueError, match="has a callable initializer, so it needs a shape"):
        keras.Variable("ones", name="v")


def test_a_variable_takes_its_value_as_a_copy() -> None:
    value = torch.ones(2)
    v = keras.Variable(value)
    v.assign([5.0, 5.0])
    assert value.tolist() == [1.0, 1.0]


def test_assign() -> None:
    v = keras.Variable([1.0, 2.0], name="scale")
    v.assign([3.0, 4.0])
    v.assign_add(torch.tensor([1.0, 1.0]))
    v.assign_sub(np.array([0.5, 0.5]))
    assert v.tolist() == [3.5, 4.5]
    assert v.requires_grad
    assert v.grad_fn is None
    v.assign(keras.Variable([9.0, 9.0]))
    assert v.tolist() == [9.0, 9.0]
    with pytest.raises(ValueError, match=r"'scale' has shape \(2,\) and cannot take a value of shape \(3,\)"):
        v.assign([1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match=r"cannot take a value of shape \(\)"):
        v.assign(1.0)
    with pytest.raises((ValueError, RuntimeError)):
        v.assign_add([1.0, 2.0, 3.0])


def test_a_variable_is_a_parameter() -> None:
    v = keras.Variable([1.0, 2.0])
    assert isinstance(v, nn.Parameter)
    (v * 2).sum().backward()
    assert v.grad.tolist() == [2.0, 2.0]
    assert type(v * 2) is torch.Tensor
    assert torch.stack([v, v]).shape == (2, 2)
    v.trainable = False
    assert not v.requires_grad
    module = nn.Module()
    module.weight = v
    assert [n for n, _ in module.named_parameters()] == ["weight"]


def test_a_variable_copies_and_pickles() -> None:
    v = keras.Variable([1.0, 2.0], name="v", trainable=False)
    twin = copy.deepcopy(v)
    assert isinstance(twin, keras.Variable)
    assert (twin.name, twin.tolist(), twin.requires_grad) == ("v", [1.0, 2.0], False)
    twin.assign([5.0, 5.0])
    assert v.tolist() == [1.0, 2.0]
    again = pickle.loads(pickle.dumps(v))
    assert isinstance(again, nn.Parameter), "alone it comes back as a plain Parameter; in a layer it is a Variable again"
    assert again.tolist() == [1.0, 2.0]
    layer = keras.Layer()
    layer.scale = v
    assert isinstance(pickle.loads(pickle.dumps(layer)).scale, keras.Variable)


def test_a_plain_tensor_is_no_variable() -> None:
    assert not isinstance(torch.ones(1), keras.Variable)
    assert not isinstance(nn.Parameter(torch.ones(1)), keras.Variable)


def test_repr() -> None:
    assert "path=v, shape=(2,), dtype=float32" in repr(keras.Variable([1.0, 2.0], name="v"))
    layer = layers.Dense(2, name="d")
    layer.build((None, 3))
    assert "no values yet" in repr(dict.__getitem__(layer.__dict__["_parameters"], "kernel"))


@pytest.mark.oracle
def test_what_a_weight_answers_as_in_keras() -> None:
    ours, theirs = (k.layers.Dense(2, name="d", kernel_regularizer="l2", bias_constraint="non_neg") for k in (keras, oracle))
    for layer in (ours, theirs):
        layer.build((None, 3))
    for mine, other in zip(ours.weights, theirs.weights, strict=True):
        assert (mine.name, mine.path, tuple(mine.shape), mine.trainable) == (
            other.name,
            other.path,
            tuple(other.shape),
            other.trainable,
        )
        assert str(mine.dtype) == f"torch.{other.dtype}"
        assert (mine.regularizer is None) == (other.regularizer is None)
        assert (mine.constraint is None) == (other.constraint is None)
        assert mine.numpy().shape == other.numpy().shape


# -- laziness


def huge() -> keras.Model:
    return keras.Sequential([keras.Input((HUGE,)), layers.Dense(HUGE), layers.LayerNormalization(), layers.Dense(HUGE)])


def test_building_and_looking_makes_no_memory() -> None:
    """720 GB of weights: whoever made one of them would fail."""
    model = huge()
    assert model.count_params() == 2 * HUGE * (HUGE + 1) + 2 * HUGE
    text: list[str] = []
    model.summary(print_fn=text.append)
    assert "90,000,300,000" in text[0]
    assert model.output_shape == (None, HUGE)
    assert keras.Model(model.input, model.layers[0].output).count_params() == HUGE * (HUGE + 1)
    twin = copy.deepcopy(model)
    assert twin.count_params() == model.count_params()
    assert pickle.loads(pickle.dumps(model)).count_params() == model.count_params()
    model.get_config()
    repr(model)
    model.trainable = False
    assert all(map(is_lazy, (model.layers[0], twin.layers[0])))


def test_building_costs_little_python_memory() -> None:
    huge()
    tracemalloc.start()
    huge()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2_000_000


WAYS: dict[str, Any] = {
    "a call": lambda m: m(torch.ones(1, 3)),
    "parameters()": lambda m: list(m.parameters()),
    "state_dict()": lambda m: m.state_dict(),
    "get_weights()": lambda m: m.get_weights(),
    "attribute": lambda m: m.layers[0].kernel,
    "weights": lambda m: [w.numpy() for w in m.weights],
    "to": lambda m: m.to("cpu"),
    "named_parameters": lambda m: dict(m.named_parameters()),
}


def model() -> keras.Model:
    return keras.Sequential(
        [keras.Input((3,)), layers.Dense(4, name="a"), layers.BatchNormalization(name="b"), layers.Dense(2, name="c")]
    )


@pytest.mark.parametrize("name", WAYS)
def test_values_come_when_they_are_asked_for_and_stay(name: str) -> None:
    torch.manual_seed(0)
    first = model()
    WAYS[name](first)
    values = [w.clone() for w in first.weights]
    assert not is_lazy(first.layers[0]) or name == "to"
    assert all(torch.equal(a, b) for a, b in zip(first.weights, values, strict=True))
    torch.manual_seed(0)
    other = model()
    assert all(torch.equal(a, b) for a, b in zip(other.weights, values, strict=True)), "whoever looks first, values are the same"


def test_initial_values_are_the_same_in_any_order() -> None:
    torch.manual_seed(1)
    forward = model()
    values = {k: v.clone() for k, v in forward.state_dict().items()}
    torch.manual_seed(1)
    backward = model()
    torch.rand(5)
    backward.layers[2].kernel, backward.layers[0].kernel
    for key, value in backward.state_dict().items():
        assert torch.equal(value, values[key]), key


def test_making_values_leaves_the_generator_alone() -> None:
    made = model()
    state = torch.get_rng_state()
    list(made.parameters())
    made(torch.ones(1, 3))
    assert torch.equal(torch.get_rng_state(), state)


def test_an_initializer_of_ones_own_is_seeded_when_the_weight_is_added() -> None:
    def build() -> keras.Model:
        torch.manual_seed(3)
        return keras.Sequential(
            [keras.Input((3,)), layers.Dense(2, kernel_initializer=lambda shape, dtype=None: torch.randn(shape))]
        )

    a, b = build(), build()
    torch.rand(3)
    assert torch.equal(a.layers[0].kernel, b.layers[0].kernel)


def test_two_layers_of_one_initializer_differ() -> None:
    a, b = layers.Dense(3), layers.Dense(3)
    for layer in (a, b):
        layer.build((None, 3))
    assert not torch.equal(a.kernel, b.kernel)


def test_copies_before_values_exist_have_the_same_values() -> None:
    first = model()
    twins = [copy.deepcopy(first), pickle.loads(pickle.dumps(first))]
    for twin in twins:
        for a, b in zip(first.weights, twin.weights, strict=True):
            assert torch.equal(a, b)
            assert a is not b


def test_storage_order() -> None:
    value = torch.arange(24.0).view(2, 3, 4)
    stored = in_storage_order(value, (2, 0, 1))
    assert torch.equal(stored, value)
    assert stored.permute(2, 0, 1).is_contiguous()


def test_reset_parameters_writes_the_initial_values() -> None:
    layer = layers.Dense(3)
    layer.build((None, 2))
    before = layer.kernel.clone()
    with torch.no_grad():
        layer.kernel.zero_()
    layer.reset_parameters()
    assert torch.equal(layer.kernel, before)


# -- layers that are not built yet


def test_unbuilt_weights_have_no_shape_yet() -> None:
    layer = layers.Dense(4)
    assert layer.weights == []
    assert layer.count_params() == 0
    assert layer.get_weights() == []
    parameters = list(layer.parameters())
    assert len(parameters) == 2
    layer(torch.ones(1, 3))
    assert [id(p) for p in layer.parameters()] == [id(p) for p in parameters]
    assert parameters[0].shape == (3, 4)
    assert isinstance(parameters[0], keras.Variable)
    assert parameters[0].name == "kernel"


@pytest.mark.parametrize("make", [torch.optim.SGD, torch.optim.Adam], ids=["SGD", "Adam"])
def test_an_optimizer_made_before_the_first_call(make: Any) -> None:
    class Plain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = layers.Dense(4, activation="relu"), layers.Dense(1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.b(self.a(x))

    module = Plain()
    optimizer = make(module.parameters(), lr=0.1)
    x = torch.randn(8, 3)
    module(x)
    before = [p.detach().clone() for p in module.parameters()]
    for _ in range(2):
        optimizer.zero_grad()
        (module(x) - 1).pow(2).mean().backward()
        optimizer.step()
    assert any(not torch.equal(a, b) for a, b in zip(module.parameters(), before, strict=True))
    assert len(before) == 4


def test_load_state_dict_before_build() -> None:
    source = layers.Dense(4)
    source(torch.ones(1, 3))
    target = layers.Dense(4)
    target.load_state_dict(source.state_dict())
    x = torch.randn(2, 3)
    torch.testing.assert_close(target(x), source(x))


def test_what_is_loaded_before_the_build_keeps_identity_regularizers_and_names() -> None:
    source = layers.Dense(4)
    source(torch.ones(1, 3))
    target = layers.Dense(4, kernel_regularizer="l2")
    parameters = list(target.parameters())
    target.load_state_dict(source.state_dict())
    target(torch.ones(1, 3))
    assert [id(p) for p in target.parameters()] == [id(p) for p in parameters]
    assert torch.equal(target.kernel, source.kernel)
    assert [w.path for w in target.weights] == [f"{target.name}/kernel", f"{target.name}/bias"]
    assert len(target.losses) == 1
    assert all(isinstance(w, keras.Variable) for w in target.weights)


def test_load_state_dict_before_build_in_a_plain_module() -> None:
    def plain() -> nn.Module:
        return nn.Sequential(layers.Dense(4), nn.ReLU(), layers.Dense(2))

    source, target = plain(), plain()
    x = torch.randn(2, 3)
    source(x)
    target.load_state_dict(source.state_dict())
    torch.testing.assert_close(target(x), source(x))


def test_an_unbuilt_layer_copies_and_pickles() -> None:
    layer = layers.Dense(4, activation="relu")
    list(layer.parameters())
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert twin(torch.ones(1, 3)).shape == (1, 4)
    assert not layer.built


# -- get_weights, set_weights


def test_set_weights_checks_everything_first() -> None:
    made = model()
    values = made.get_weights()
    with pytest.raises(ValueError, match=r"needs 8 arrays, one per weight. Received: 7"):
        made.set_weights(values[:-1])
    wrong = [np.zeros_like(v) for v in values]
    wrong[-1] = np.zeros(3)
    with pytest.raises(ValueError, match=r"shapes differ. .*c/bias: \(2,\), given \(3,\)"):
        made.set_weights(wrong)
    for a, b in zip(made.get_weights(), values, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.oracle
def test_weights_go_to_keras_and_back() -> None:
    ours = model()
    theirs = oracle.Sequential(
        [oracle.Input((3,)), oracle.layers.Dense(4), oracle.layers.BatchNormalization(), oracle.layers.Dense(2)]
    )
    theirs.set_weights(ours.get_weights())
    x = torch.randn(5, 3)
    torch.testing.assert_close(ours(x), theirs(x))
    for a, b in zip(theirs.get_weights(), ours.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_bfloat16_weights_as_arrays() -> None:
    layer = layers.Dense(2, dtype="bfloat16")
    layer.build((None, 3))
    values = layer.get_weights()
    assert values[0].dtype == np.float32
    layer.set_weights(values)
    assert layer.kernel.dtype is torch.bfloat16


@pytest.mark.parametrize("function", ["min", "max", "mean", "sum", "std", "median", "argmax", "any", "sort", "transpose"])
def test_functions_of_numpy_take_weights(function):
    weight, array = keras.Variable([[1.0, 4.0], [3.0, 2.0]]), np.array([[1.0, 4.0], [3.0, 2.0]], "float32")
    found = getattr(np, function)(weight)
    assert not isinstance(found, torch.Tensor)
    np.testing.assert_array_equal(found, getattr(np, function)(array))
    np.testing.assert_array_equal(np.concatenate([weight, array]), np.concatenate([array, array]))
    np.testing.assert_array_equal(np.mean(weight, axis=0, keepdims=True), array.mean(0, keepdims=True))


def test_a_model_reads_its_own_state_though_a_layer_was_never_called():
    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.head, self.norm = layers.Dense(2), layers.BatchNormalization()

        def call(self, x):
            return self.head(x)

    model = Net()
    model(torch.ones(2, 3))
    state = pickle.loads(pickle.dumps(model.state_dict()))
    assert str(model.load_state_dict(state)) == "<All keys matched successfully>"
    fresh = Net()
    fresh.load_state_dict(state)
    assert torch.equal(fresh(torch.ones(2, 3)), model(torch.ones(2, 3)))
    model.norm(torch.ones(2, 4))
    with pytest.raises(RuntimeError, match=r"norm\.gamma"):
        model.load_state_dict(state)
    with pytest.raises(RuntimeError, match=r"norm\.gamma"):
        Net().load_state_dict({})
