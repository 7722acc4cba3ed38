"""Around a layer's call: losses, metrics, modes, dtypes, calls without state."""

from __future__ import annotations

from typing import Any

import keras as oracle
import numpy as np
import pytest
import torch
from torch import nn

import hornbeam as keras
from hornbeam import layers


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


# -- losses


class Penal(keras.Layer):
    def __init__(self, value: float = 1.0) -> None:
        super().__init__()
        self.value = value

    def call(self, x: torch.Tensor) -> torch.Tensor:
        self.add_loss(self.value * x.sum())
        return x


def test_add_loss_is_that_of_the_last_call() -> None:
    layer = Penal()
    assert layer.losses == []
    layer(torch.ones(1, 2))
    layer(torch.ones(1, 3))
    assert [float(v) for v in layer.losses] == [3.0]


def test_losses_of_sublayers_are_collected_and_cleared() -> None:
    model = keras.Sequential([Penal(1.0), keras.Sequential([Penal(2.0), Penal(3.0)])])
    for _ in range(2):
        model(torch.ones(1, 2))
        assert [float(v) for v in model.losses] == [2.0, 4.0, 6.0]
    model.layers[0](torch.ones(1, 5))
    assert [float(v) for v in model.layers[0].losses] == [5.0]
    model(torch.ones(1, 1))
    assert [float(v) for v in model.losses] == [1.0, 2.0, 3.0]


def test_a_shared_layers_losses_are_all_kept() -> None:
    shared = Penal()
    x = keras.Input((2,))
    model = keras.Model(x, shared(shared(x) * 2))
    model(torch.ones(1, 2))
    assert [float(v) for v in model.losses] == [2.0, 4.0]


def test_add_loss_of_a_list_and_of_symbols() -> None:
    class Two(keras.Layer):
        def call(self, x: torch.Tensor) -> torch.Tensor:
            self.add_loss([x.sum(), x.mean()])
            return x

    layer = Two()
    layer(torch.ones(1, 2))
    assert [float(v) for v in layer.losses] == [2.0, 1.0]
    with pytest.raises(ValueError, match="not symbolic tensors"):
        layer.add_loss(keras.Input((2,)).sum())


def test_activity_regularizer_is_per_sample_as_in_keras() -> None:
    x = np.random.default_rng(0).normal(size=(4, 3)).astype("float32")
    ours, theirs = layers.Dense(2, activity_regularizer="l2"), oracle.layers.Dense(2, activity_regularizer="l2")
    ours(torch.tensor(x))
    theirs(x)
    ours.set_weights(theirs.get_weights())
    ours(torch.tensor(x))
    theirs(x)
    assert float(ours.losses[0].detach()) == pytest.approx(float(theirs.losses[0].detach()), rel=1e-5)
    assert len(ours.losses) == 1


def test_symbolic_calls_leave_no_losses() -> None:
    layer = Penal()
    layer(keras.Input((2,)))
    assert layer.losses == []


def test_metrics_on_attributes() -> None:
    class Measured(keras.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.mean = keras.metrics.Mean(name="mean")
            self.inner = [keras.metrics.Sum(name="sum")]

        def call(self, x: torch.Tensor) -> torch.Tensor:
            self.mean.update_state(x)
            return x

    layer = Measured()
    layer(torch.full((2, 2), 3.0))
    assert "mean" in [m.name for m in layer.metrics]
    assert float(layer.metrics[0].result()) == 3.0
    outer = keras.Sequential([layer])
    assert "mean" in [m.name for m in keras.Layer.metrics.fget(outer)]


# -- modes


def test_training_is_the_argument_else_the_callers_else_the_modules() -> None:
    seen: list[bool] = []

    class Sees(keras.Layer):
        def call(self, x: torch.Tensor, training: bool | None = None) -> torch.Tensor:
            seen.append(training)
            return x

    class Outer(keras.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Sees()

        def call(self, x: torch.Tensor) -> torch.Tensor:
            return self.inner(x)

    outer = Outer()
    x = torch.ones(1)
    outer(x)
    outer(x, training=True)
    outer.train()
    outer(x)
    outer(x, training=False)
    outer.inner(x, training=False)
    outer.eval()
    outer(x)
    assert seen == [False, True, True, False, False, False]


def test_training_reaches_foreign_modules_during_a_call() -> None:
    class Outer(keras.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.drop = nn.Dropout(1.0)

        def call(self, x: torch.Tensor) -> torch.Tensor:
            return self.drop(x)

    outer = Outer()
    assert not outer.drop.training
    assert outer(torch.ones(2)).tolist() == [1.0, 1.0]
    assert outer(torch.ones(2), training=True).tolist() == [0.0, 0.0]
    assert not outer.drop.training


def test_an_error_in_a_call_leaves_the_context_clean() -> None:
    class Fails(keras.Layer):
        def call(self, x: torch.Tensor, training: bool = False) -> torch.Tensor:
            raise RuntimeError(f"training={training}")

    class Outer(keras.Layer):
        def __init__(self, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.inner = Fails(name="fails")

        def call(self, x: torch.Tensor) -> torch.Tensor:
            return self.inner(x)

    outer = Outer(name="outer")
    with pytest.raises(RuntimeError, match="training=True") as caught:
        outer(torch.ones(2, 3), training=True)
    assert caught.value.__notes__ == [
        "In layer 'fails' (Fails), called on Tensor of shape (2, 3) and dtype float32.",
        "In layer 'outer' (Outer), called on Tensor of shape (2, 3) and dtype float32.",
    ]
    with pytest.raises(RuntimeError, match="training=False"):
        outer(torch.ones(2, 3))


# -- dtypes


@pytest.mark.parametrize("policy", ["float32", "float64", "bfloat16", "float16", "mixed_bfloat16", "mixed_float16"])
def test_dtype_policies(policy: str) -> None:
    layer, theirs = layers.Dense(2, dtype=policy), oracle.layers.Dense(2, dtype=policy)
    y = layer(torch.ones(1, 3))
    theirs(np.ones((1, 3), "float32"))
    assert f"torch.{theirs.compute_dtype}" == str(y.dtype)
    assert f"torch.{theirs.variable_dtype}" == str(layer.kernel.dtype)
    assert (layer.dtype, layer.compute_dtype, layer.variable_dtype) == (theirs.dtype, theirs.compute_dtype, theirs.variable_dtype)
    assert layer.dtype_policy.name == policy
    assert layer.get_config()["dtype"]["config"] == {"name": policy}
    assert layer(keras.Input((3,))).dtype == theirs.compute_dtype
    twin = layers.Dense.from_config(layer.get_config())
    assert twin.dtype_policy == layer.dtype_policy


def test_weights_are_cast_inside_calls_only() -> None:
    seen: list[torch.dtype] = []

    class Sees(keras.Layer):
        def build(self, shape: Any) -> None:
            self.w = self.add_weight(shape=(2,), initializer="ones", name="w")
            self.count = self.add_weight(shape=(), initializer="zeros", trainable=False, name="count")
            self.kept = self.add_weight(shape=(2,), initializer="ones", autocast=False, name="kept")

        def call(self, x: torch.Tensor) -> torch.Tensor:
            seen.extend((x.dtype, self.w.dtype, self.count.dtype, self.kept.dtype))
            self.count.assign_add(1.0)
            return x * self.w

    layer = Sees(dtype="mixed_bfloat16")
    for _ in range(3):
        layer(torch.ones(1, 2))
    assert seen[-4:] == [torch.bfloat16, torch.bfloat16, torch.float32, torch.float32]
    assert layer.w.dtype is torch.float32
    assert float(layer.count) == 3.0
    layer(torch.ones(1, 2)).sum().backward()
    assert layer.w.grad.dtype is torch.float32


def test_inputs_are_cast_and_integers_are_not() -> None:
    layer = layers.Identity(dtype="float64")
    assert layer(torch.ones(1, 2)).dtype is torch.float64
    assert layer(torch.ones(1, 2, dtype=torch.int64)).dtype is torch.int64
    assert layers.Identity(dtype="float64", autocast=False)(torch.ones(1)).dtype is torch.float32
    assert layers.Identity()(np.ones((1, 2))).dtype is torch.float32


def test_unknown_policies() -> None:
    with pytest.raises(ValueError, match=r"'mixed_bfloat' is not a dtype policy.*Did you mean 'mixed_bfloat16'"):
        layers.Dense(2, dtype="mixed_bfloat")


def test_numpy_inputs() -> None:
    layer = Scale()
    assert layer(np.ones((2, 3), "float32")).shape == (2, 3)
    assert layer(np.ones((2, 3))[::-1]).dtype is torch.float32
    with pytest.raises(TypeError, match="NumPy array of dtype <U1, which is no number"):
        layer(np.array([["a"]]))


# -- stateless_call


class Counter(keras.Layer):
    def build(self, shape: Any) -> None:
        self.w = self.add_weight(shape=(2,), initializer="ones", name="w")
        self.count = self.add_weight(shape=(), initializer="zeros", trainable=False, name="count")

    def call(self, x: torch.Tensor) -> torch.Tensor:
        self.count.assign_add(1.0)
        self.add_loss(self.w.sum())
        return x * self.w + self.count


def test_stateless_call() -> None:
    layer = Counter()
    layer.build((None, 2))
    outputs, state = layer.stateless_call([torch.tensor([3.0, 4.0])], [torch.tensor(10.0)], torch.ones(1, 2))
    assert outputs.tolist() == [[14.0, 15.0]]
    assert [float(v) for v in state] == [11.0]
    assert float(layer.count) == 0.0
    assert layer.w.tolist() == [1.0, 1.0]
    given = torch.tensor(10.0)
    _, state, losses = layer.stateless_call([torch.tensor([3.0, 4.0])], [given], torch.ones(1, 2), return_losses=True)
    assert float(given) == 10.0
    assert float(losses[0]) == 7.0
    with pytest.raises(ValueError, match="needs 1 values"):
        layer.stateless_call([], [given], torch.ones(1, 2))


@pytest.mark.oracle
def test_stateless_call_as_in_keras() -> None:
    def run(k: Any, x: Any) -> Any:
        model = k.Sequential([k.Input((3,)), k.layers.Dense(2, kernel_initializer="ones"), k.layers.BatchNormalization()])
        trainable = [torch.full(tuple(v.shape), 0.5) for v in model.trainable_variables]
        frozen = [torch.full(tuple(v.shape), 2.0) for v in model.non_trainable_variables]
        y, state = model.stateless_call(trainable, frozen, x, training=True)
        return y, list(state)

    x = torch.arange(12.0).view(4, 3)
    (y, state), (other, others) = run(keras, x), run(oracle, x)
    torch.testing.assert_close(y, other)
    for a, b in zip(state, others, strict=True):
        torch.testing.assert_close(a, torch.as_tensor(b))


def test_stateless_call_is_differentiable_in_what_it_is_given() -> None:
    layer = Counter()
    layer.build((None, 2))
    w = torch.tensor([3.0, 4.0], requires_grad=True)
    layer.stateless_call([w], [torch.tensor(0.0)], torch.ones(1, 2))[0].sum().backward()
    assert w.grad.tolist() == [1.0, 1.0]
    assert layer.w.grad is None


def test_stateless_scope() -> None:
    v = keras.Variable([1.0, 2.0])
    with keras.StatelessScope([(v, torch.tensor([5.0, 6.0]))]) as scope:
        assert v.value.tolist() == [5.0, 6.0]
        v.assign_add([1.0, 1.0])
        assert scope.get_current_value(v).tolist() == [6.0, 7.0]
    assert v.tolist() == [1.0, 2.0]
    with pytest.raises(ValueError, match=r"has shape \(2,\). Received: \(3,\)"):
        keras.StatelessScope([(v, torch.ones(3))])


class Forgets(keras.Layer):
    def call(self, x):
        x * 2


class Tells(keras.Layer):
    def call(self, x):
        self.add_loss(x.mean())


def around(layer):
    class Net(keras.Model):
        def __init__(self):
            super().__init__(name="net")
            self.head, self.inner = keras.layers.Dense(2, name="head"), layer

        def call(self, x):
            return self.head(x) if self.inner is None else self.head(self.inner(x))

    return Net()


class Silent(keras.Model):
    def __init__(self):
        super().__init__(name="silent")
        self.head = keras.layers.Dense(2)

    def call(self, x):
        self.head(x)


@pytest.mark.parametrize("way", ["call", "symbolic", "fit", "predict", "summary"])
def test_a_forgotten_return_is_told_with_the_name_of_the_layer(way):
    def run(model):
        model.compile("sgd", "mse")
        x, y = torch.ones(4, 3), torch.ones(4, 2)
        return {
            "call": lambda: model(x),
            "symbolic": lambda: model(keras.Input((3,))),
            "fit": lambda: model.fit(x, y, verbose=0),
            "predict": lambda: model.predict(x, verbose=0),
            "summary": lambda: keras.summary(model, (None, 3)),
        }[way]()

    with pytest.raises(TypeError, match=r"Layer 'silent' \(Silent\) returned None. Is a `return` missing in its `call`\?"):
        run(Silent())
    if way != "fit":
        with pytest.raises(TypeError, match=r"'head' \(Dense\) was given None, which layer 'inside' \(Forgets\) returned"):
            run(around(Forgets(name="inside")))


def test_a_layer_that_only_adds_a_loss_may_return_nothing():
    layer = Tells()
    assert layer(torch.ones(2, 3)) is None
    assert len(layer.losses) == 1
