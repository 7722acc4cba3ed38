"""Layer: building, weights, names, freezing, shapes, configs; beside Keras where it speaks."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import keras as oracle
import pytest
import torch
from torch import nn

import hornbeam as keras
from hornbeam import layers
from hornbeam.core import registry


class Scale(keras.Layer):
    """One weight per feature."""

    def __init__(self, factor: float = 2.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.factor = factor
        self.built_times = 0

    def build(self, input_shape: Any) -> None:
        self.built_times += 1
        self.scale = self.add_weight(shape=(input_shape[-1],), initializer="ones", name="scale")

    def call(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.scale * self.factor


# -- call and forward


def test_call_or_forward_may_be_overridden() -> None:
    class Forward(keras.Layer):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + 1

    class Call(keras.Layer):
        def call(self, x: torch.Tensor) -> torch.Tensor:
            return x + 1

    x = torch.zeros(1, 2)
    for layer in (Forward(), Call()):
        assert layer(x).tolist() == layer.call(x).tolist() == layer.forward(x).tolist() == [[1.0, 1.0]]


@pytest.mark.parametrize("above", ["call", "forward"])
@pytest.mark.parametrize("below", ["call", "forward"])
def test_super_call_and_super_forward(above: str, below: str) -> None:
    base = type("Base", (keras.Layer,), {below: lambda self, x: x + 1})
    derived = type("Derived", (base,), {above: lambda self, x: getattr(super(derived, self), above)(x) * 10})
    assert derived()(torch.zeros(1)).tolist() == [10.0]
    assert derived().forward(torch.zeros(1)).tolist() == [10.0]


def test_both_in_one_class() -> None:
    class Both(keras.Layer):
        def call(self, x: torch.Tensor) -> torch.Tensor:
            return self.forward(x) + 1

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * 0

    assert Both().call(torch.ones(1)).tolist() == [1.0]


def test_without_either() -> None:
    with pytest.raises(NotImplementedError, match=r"'odd' \(Layer\) has no `call` \(or `forward`\) method"):
        keras.Layer(name="odd")(torch.ones(1))


def test_a_call_that_is_replaced_on_an_object() -> None:
    layer = layers.Dense(2)
    layer(torch.ones(1, 3))
    layer.call = lambda x, training=False: x * 0
    assert layer(torch.ones(1, 3)).tolist() == [[0.0] * 3]


# -- building


def test_built_once_at_the_first_call() -> None:
    layer = Scale()
    assert not layer.built
    assert layer.weights == []
    layer(torch.ones(2, 3))
    layer(torch.ones(4, 3))
    assert layer.built
    assert layer.built_times == 1
    assert layer.get_build_config() == {"input_shape": (2, 3)}


def test_build_by_hand_and_from_a_config() -> None:
    layer = Scale()
    layer.build((None, 3))
    assert layer.built
    assert layer.scale.shape == (3,)
    twin = Scale.from_config(layer.get_config())
    twin.build_from_config({"input_shape": [None, 3]})
    assert twin.built
    assert twin.scale.shape == (3,)


def test_build_of_several_arguments_by_name() -> None:
    class Two(keras.Layer):
        def build(self, query_shape: Any, value_shape: Any) -> None:
            self.q = self.add_weight(shape=query_shape[-1:], name="q")
            self.v = self.add_weight(shape=value_shape[-1:], name="v")

        def call(self, query: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
            return (query @ self.q)[:, None] * (value @ self.v)[:, None]

    layer = Two()
    assert layer(torch.ones(2, 3), torch.ones(2, 4)).shape == (2, 1)
    assert (layer.q.shape, layer.v.shape) == ((3,), (4,))
    assert Two()(keras.Input((3,)), value=keras.Input((4,))).shape == (None, 1)


def test_build_for_lists_and_dicts() -> None:
    class Nest(keras.Layer):
        def build(self, input_shape: Any) -> None:
            self.shapes = input_shape

        def call(self, inputs: Any) -> Any:
            return inputs["a"] + inputs["b"][0]

    layer = Nest()
    layer({"a": torch.ones(2, 3), "b": [torch.ones(2, 3)]})
    assert dict(layer.shapes)["a"] == (2, 3)


def test_weights_made_in_init() -> None:
    class Early(keras.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.w = self.add_weight(shape=(3, 2), name="w")

        def call(self, x: torch.Tensor) -> torch.Tensor:
            return x @ self.w

    layer = Early()
    assert [w.path for w in layer.weights] == ["early/w"]
    assert layer(torch.ones(1, 3)).shape == (1, 2)
    assert Early()(keras.Input((3,))).shape == (None, 2)


def test_an_error_in_build_leaves_the_layer_unbuilt() -> None:
    class Fails(keras.Layer):
        def build(self, input_shape: Any) -> None:
            if input_shape[-1] != 3:
                raise ValueError("three, please")
            self.w = self.add_weight(shape=(3,), name="w")

        def call(self, x: torch.Tensor) -> torch.Tensor:
            return x * self.w

    layer = Fails()
    with pytest.raises(ValueError, match="three, please"):
        layer(torch.ones(1, 4))
    assert not layer.built
    assert layer(torch.ones(1, 3)).shape == (1, 3)


# -- weights


def test_add_weight_variants() -> None:
    layer = keras.Layer(name="layer")
    a = layer.add_weight(shape=(2, 3))
    b = layer.add_weight(shape=(4,), initializer="ones", trainable=False, name="b")
    c = layer.add_weight(shape=(), initializer=lambda shape, dtype=None: torch.full(shape, 5.0), name="c")
    d = layer.add_weight(shape=3, initializer=keras.initializers.Constant(2), dtype="float64", name="d")
    e = layer.add_weight(shape=(2,), dtype="int32", name="e")
    f = layer.add_weight(name="f", initializer="zeros")
    assert [w.shape for w in (a, b, c, d, e, f)] == [(2, 3), (4,), (), (3,), (2,), ()]
    assert (a.trainable, b.trainable, e.trainable) == (True, False, False)
    assert b.numpy().tolist() == [1.0] * 4
    assert float(c.value) == 5
    assert d.dtype is torch.float64
    assert (e.dtype, e.numpy().tolist()) == (torch.int32, [0, 0])
    assert isinstance(a, nn.Parameter)
    assert "b" in dict(layer.named_buffers())
    assert [w.path for w in (b, c)] == ["layer/b", "layer/c"]
    assert all(isinstance(w, keras.Variable) for w in layer.weights)


def test_add_weight_errors() -> None:
    layer = keras.Layer(name="layer")
    with pytest.raises(ValueError, match=r"Unknown initializer: 'onse'.*Did you mean 'one' or 'ones'"):
        layer.add_weight(shape=(2,), initializer="onse")
    with pytest.raises(ValueError, match=r"cannot have shape \(-1,\)"):
        layer.add_weight(shape=(-1,), name="w")
    wrong = layer.add_weight(shape=(2,), initializer=lambda shape, dtype=None: torch.zeros(3), name="w")
    with pytest.raises(ValueError, match=r"'layer/w' has shape \(2,\), but its initializer returned \(3,\)"):
        wrong.numpy()


def test_two_weights_of_one_name() -> None:
    layer = keras.Layer()
    layer.a = layer.add_weight(shape=(1,), name="w", initializer="zeros")
    layer.b = layer.add_weight(shape=(1,), name="w", initializer="ones")
    assert list(layer.state_dict()) == ["a", "b"]
    assert [float(w) for w in layer.weights] == [0.0, 1.0]
    assert [w.name for w in layer.weights] == ["w", "w"]


def test_regularizers_and_constraints_of_weights() -> None:
    layer = keras.Layer()
    w = layer.add_weight(shape=(2,), initializer="ones", regularizer="l2", constraint="non_neg", name="w")
    assert float(layer.losses[0].detach()) == pytest.approx(0.02)
    assert isinstance(w.regularizer, keras.regularizers.L2)
    assert isinstance(w.constraint, keras.constraints.NonNeg)
    layer.trainable = False
    assert layer.losses == []


def test_torch_parameters_and_buffers_are_weights_too() -> None:
    class Torchy(keras.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(3))
            self.register_buffer("steps", torch.zeros(()))

        def call(self, x: torch.Tensor) -> torch.Tensor:
            return x * self.weight

    layer = Torchy()
    assert list(layer.state_dict()) == ["weight", "steps"]
    layer(torch.ones(1, 3)).sum().backward()
    assert layer.weight.grad.tolist() == [1.0] * 3
    assert [tuple(w.shape) for w in layer.trainable_weights] == [(3,)]


# -- names and paths


@pytest.fixture
def fresh_names() -> Any:
    before = dict(registry._counters)
    registry.reset_names()
    yield
    registry.reset_names()
    registry._counters.update(before)


@pytest.mark.usefixtures("fresh_names")
def test_names_are_counted_as_in_keras() -> None:
    oracle.utils.clear_session(free_memory=False)
    made = (
        "Dense Dense Conv2D Conv2D LSTM MaxPooling2D BatchNormalization ReLU Dense GRU UpSampling2D GlobalAveragePooling2D "
        "MultiHeadAttention PReLU SimpleRNN Conv2DTranspose Add"
    ).split()
    arguments = {
        "Dense": (1,),
        "Conv2D": (1, 1),
        "LSTM": (1,),
        "GRU": (1,),
        "SimpleRNN": (1,),
        "MultiHeadAttention": (1, 1),
        "Conv2DTranspose": (1, 1),
    }
    ours = [getattr(layers, n)(*arguments.get(n, ())).name for n in made]
    theirs = [getattr(oracle.layers, n)(*arguments.get(n, ())).name for n in made]
    assert ours == theirs
    assert ours[:2] == ["dense", "dense_1"]


@pytest.mark.usefixtures("fresh_names")
def test_paths_as_in_keras() -> None:
    def paths(k: Any) -> list[str]:
        class Inner(k.layers.Layer):
            def __init__(self, **kwargs: Any) -> None:
                super().__init__(**kwargs)
                self.dense = k.layers.Dense(2)

            def build(self, shape: Any) -> None:
                self.dense.build(shape)
                self.w = self.add_weight(shape=(2,), name="w")

            def call(self, x: Any) -> Any:
                return self.dense(x) * self.w

        model = k.Sequential([k.Input((3,)), k.layers.Dense(3, name="first"), Inner(name="inner")], name="outer")
        return [w.path for w in model.weights]

    oracle.utils.clear_session(free_memory=False)
    assert paths(keras) == paths(oracle)


def test_bad_names() -> None:
    with pytest.raises(ValueError, match="cannot hold '/'"):
        layers.Dense(2, name="a/b")
    with pytest.raises(ValueError, match=r"`name` must be a string. Received: name=3"):
        layers.Dense(2, name=3)


def test_unknown_arguments_suggest_a_spelling() -> None:
    with pytest.raises(TypeError, match=r"Scale got an argument it does not know: 'fcator'. Did you mean 'factor'"):
        Scale(fcator=3)
    with pytest.raises(TypeError, match=r"The call of layer 'scaler'.*'maks'. Did you mean 'mask'"):
        Scale(name="scaler")(torch.ones(1, 2), maks=None)
    with pytest.raises(TypeError, match="takes 1 argument"):
        Scale()(torch.ones(1, 2), torch.ones(1, 2))
    with pytest.raises(TypeError, match="was called without its input `x`"):
        Scale()()


# -- trainable


def test_trainable_is_recursive_and_live() -> None:
    inner = keras.Sequential([layers.Dense(2), layers.Dense(2)])
    model = keras.Sequential([keras.Input((2,)), inner, layers.BatchNormalization(), nn.Linear(2, 1)])
    assert len(model.trainable_weights) == 8
    assert len(model.non_trainable_weights) == 2
    inner.trainable = False
    assert len(model.trainable_weights) == 4
    assert not any(p.requires_grad for p in inner.parameters())
    model.trainable = False
    assert model.trainable_weights == []
    assert len(model.non_trainable_weights) == len(model.weights) == 10
    model.trainable = True
    assert len(model.trainable_weights) == 8
    assert len(model.non_trainable_weights) == 2
    inner.layers[0].kernel.trainable = False
    assert len(model.trainable_weights) == 7


def test_frozen_before_it_is_built() -> None:
    layer = layers.Dense(2, trainable=False)
    layer(torch.ones(1, 3))
    assert layer.trainable_weights == []
    assert not layer.kernel.requires_grad
    other = layers.Dense(2)
    other.trainable = False
    other.build((None, 3))
    assert other.trainable_weights == []
    outer = keras.Sequential([layers.Dense(2)])
    outer.trainable = False
    outer(torch.ones(1, 3))
    assert outer.trainable_weights == []


@pytest.mark.oracle
def test_order_of_weights_as_in_keras() -> None:
    def names(k: Any) -> list[list[str]]:
        model = k.Sequential(
            [k.Input((4,)), k.layers.Dense(3, name="a"), k.layers.BatchNormalization(name="b"), k.layers.Dense(2, name="c")],
            name="m",
        )
        model.layers[2].trainable = False
        return [[w.path for w in ws] for ws in (model.weights, model.trainable_weights, model.non_trainable_weights)]

    assert names(keras) == names(oracle)


# -- configs


def test_config_of_a_users_class_for_free() -> None:
    class Mine(keras.Layer):
        def __init__(self, units: int, activation: Any = None, *, scale: float = 1.0, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.width = units
            self.dense = layers.Dense(units, activation=activation)
            self.rescale = scale

        def call(self, x: torch.Tensor) -> torch.Tensor:
            return self.dense(x) * self.rescale

    layer = Mine(3, "relu", scale=2.0, name="mine")
    config = layer.get_config()
    assert {k: config[k] for k in ("units", "activation", "scale", "name", "trainable")} == {
        "units": 3, "activation": "relu", "scale": 2.0, "name": "mine", "trainable": True,
    }  # fmt: skip
    twin = Mine.from_config(config)
    assert (twin.width, twin.rescale, twin.name) == (3, 2.0, "mine")
    assert twin.get_config() == config


def test_configs_of_users_classes_as_in_keras() -> None:
    def config(k: Any) -> dict[str, Any]:
        class Mine(k.layers.Layer):
            def __init__(self, units: int, rate: float = 0.5, **kwargs: Any) -> None:
                super().__init__(**kwargs)
                self.units, self.rate = units, rate

        return Mine(3, name="mine").get_config()

    ours, theirs = config(keras), config(oracle)
    assert {**ours, "dtype": None} == {**theirs, "dtype": None}


def test_configs_read_live_attributes_of_built_in_layers() -> None:
    layer = layers.Dense(3, activation="softmax", name="z")
    layer.units = 7
    layer.activation = keras.activations.linear
    assert (layer.get_config()["units"], layer.get_config()["activation"]) == (7, "linear")


def test_a_get_config_of_ones_own() -> None:
    class Mine(Scale):
        def get_config(self) -> dict[str, Any]:
            return {**super().get_config(), "factor": self.factor}

    layer = Mine(5.0, name="m")
    twin = Mine.from_config(layer.get_config())
    assert (twin.factor, twin.name) == (5.0, "m")


# -- shapes


def test_compute_output_shape_and_spec() -> None:
    layer = Scale()
    assert layer.compute_output_shape((None, 3)) == (None, 3)
    assert not layer._inbound_nodes
    spec = layers.Dense(4, dtype="mixed_bfloat16").compute_output_spec(keras.KerasTensor((2, 3)))
    assert (spec.shape, spec.dtype) == ((2, 4), "bfloat16")


def test_own_compute_output_shape_is_used() -> None:
    class Told(keras.Layer):
        def call(self, x: torch.Tensor) -> torch.Tensor:
            raise AssertionError("not to be run for its shape")

        def compute_output_shape(self, input_shape: Any) -> Any:
            return (*input_shape[:-1], 9)

    assert Told()(keras.Input((4, 3))).shape == (None, 4, 9)
    assert Told()(torch.cat([torch.ones(1, 3), keras.Input((3,))], 0)).shape == (None, 9)


def test_own_compute_output_spec_is_used() -> None:
    class Told(keras.Layer):
        def call(self, x: torch.Tensor) -> torch.Tensor:
            raise AssertionError("not to be run for its shape")

        def compute_output_spec(self, x: Any) -> Any:
            return keras.KerasTensor((*x.shape[:-1], 2), dtype="int64"), x

    y, z = Told()(keras.Input((3,)))
    assert (y.shape, y.dtype, z.shape) == ((None, 2), "int64", (None, 3))


def test_input_spec_is_checked() -> None:
    class Picky(Scale):
        def __init__(self, spec: Any, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.input_spec = spec

    x = torch.ones(2, 3)
    spec = keras.InputSpec
    assert Picky(spec(ndim=2, axes={-1: 3}))(x).shape == (2, 3)
    cases = [
        (spec(ndim=3), "expects an input of rank 3, but its input has shape (2, 3)"),
        (spec(min_ndim=3), "expects an input of rank 3 or more"),
        (spec(max_ndim=1), "expects an input of rank 1 or less"),
        (spec(axes={-1: 4}), "expects size 4 on axis -1"),
        (spec(shape=(None, 4)), "expects an input of shape (None, 4)"),
        ([spec(ndim=2), spec(ndim=2)], "expects 2 input(s), but it was given 1"),
    ]
    for wanted, message in cases:
        for value in (x, keras.Input((3,), batch_size=2)):
            with pytest.raises(ValueError, match="Layer 'picky'") as caught:
                Picky(wanted, name="picky")(value)
            assert message in str(caught.value)


def test_input_and_output_of_a_layer() -> None:
    layer = Scale(name="s")
    with pytest.raises(AttributeError, match="'s' has not been called on a symbolic tensor"):
        layer.output
    x = keras.Input((3,))
    y = layer(x)
    assert layer.output.ref == y.ref
    assert layer.input.ref == x.ref
    layer(x)
    with pytest.raises(AttributeError, match="'s' was called 2 times"):
        layer.input


# -- layers in plain modules


def test_inside_a_plain_module() -> None:
    class Plain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale, self.drop = Scale(), layers.Dropout(0.999)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.drop(self.scale(x))

    plain = Plain()
    assert plain.scale.training, "a torch module begins in training mode, and its children with it"
    plain.eval()
    assert plain(torch.ones(1, 100)).eq(2).all()
    plain.train()
    assert plain(torch.ones(1, 100)).eq(0).any()
    assert list(plain.state_dict()) == ["scale.scale"]


class Times(keras.Operation):
    def __init__(self, by: float = 2.0, name: str | None = None) -> None:
        super().__init__(name)
        self.by = by

    def call(self, x: Any) -> Any:
        return x * self.by


@pytest.mark.parametrize("name", [None, "class", "a b", "x'); boom('", "torch"])
def test_operations_record_and_run(name: str | None) -> None:
    x = keras.Input((3,))
    model = keras.Model(x, Times(5.0)(Times(3.0, name)(x)))
    for twin in (model, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert twin(torch.ones(1, 3)).tolist() == [[15.0] * 3]
    assert Times()(torch.ones(1)).tolist() == [2.0]
    torch._dynamo.reset()
    assert torch.compile(model, fullgraph=True, backend="eager")(torch.ones(1, 3)).tolist() == [[15.0] * 3]
    with keras.saving.custom_object_scope({"Times": Times}):
        again = keras.Model.from_config(model.get_config())
    assert again(torch.ones(1, 3)).tolist() == [[15.0] * 3]


def test_an_operation_with_several_outputs() -> None:
    class Parts(keras.Operation):
        def call(self, x: Any) -> Any:
            return {"low": x.amin(1), "both": (x.amax(1), x)}

    x = keras.Input((3,))
    parts = Parts()(x)
    assert parts["low"].shape == (None,)
    model = keras.Model(x, [parts["low"], parts["both"][0]])
    assert [v.tolist() for v in model(torch.arange(3.0).view(1, 3))] == [[0.0], [2.0]]


def test_a_call_that_builds_its_own_layer_ends() -> None:
    class Eager(keras.layers.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.dense = keras.layers.Dense(2)

        def call(self, x: torch.Tensor) -> torch.Tensor:
            self.build(x.shape)
            return self.dense(x)

    layer = Eager()
    assert layer(torch.ones(1, 3)).shape == (1, 2)
    assert len(layer.weights) == 2
