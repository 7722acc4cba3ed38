"""Plain PyTorch files of modules that people wrote: containers as roots, values looked at, buffers changed, modes."""

from __future__ import annotations

from collections import OrderedDict
from functools import partial

import pytest
import torch
from torch import nn

import hornbeam as keras
from export.running import assert_same, is_formatted, run
from hornbeam import layers


def check(module, x, inputs=None):
    """Ejects a module and compares both modes, and what training leaves in the buffers."""
    if inputs is None and not isinstance(module, keras.Layer):
        inputs = (None, *x.shape[1:])
    source = keras.to_source(module, inputs)
    assert not is_formatted(source)
    made = run(source)["load"](module.state_dict())
    assert list(made.state_dict()) == list(module.state_dict())
    own = isinstance(module, keras.Layer)
    assert_same(made(x), module(x) if own else module.eval()(x))
    torch.manual_seed(0)
    ours = made.train()(x)
    torch.manual_seed(0)
    assert_same(ours, module(x, training=True) if own else module.train()(x))
    assert_same(list(made.state_dict().values()), [v.detach() for v in module.state_dict().values()])
    return source


def around(layer, width=4):
    """A model with a layer behind a Dense."""
    return keras.Sequential([keras.Input((width,)), layers.Dense(width, name="before"), layer])


class Chain(nn.Sequential):
    def forward(self, x):
        return super().forward(x) + 1


class ByKeys(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleDict({"a": nn.ModuleDict({"x y": nn.Linear(4, 3)}), "b": Chain(nn.Linear(3, 2), nn.Dropout(0.2))})
        self.tail = Chain(nn.Linear(2, 2))

    def forward(self, x):
        return self.tail[0](self.layers["b"](self.layers["a"]["x y"](x)))


class CalledList(nn.ModuleList):
    def forward(self, x):
        for layer in self:
            x = layer(x)
        return x


CONTAINERS = {
    "sequential": lambda: nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.BatchNorm1d(3)),
    "named": lambda: nn.Sequential(OrderedDict(fc=nn.Linear(4, 3), out=nn.Sequential(OrderedDict(a=nn.Linear(3, 2))))),
    "keys": ByKeys,
    "a list that is called": lambda: CalledList([nn.Linear(4, 4), nn.Linear(4, 4)]),
    "inside": lambda: nn.Sequential(Chain(nn.Linear(4, 4)), CalledList([nn.Linear(4, 4)]), nn.Sequential()),
}


@pytest.mark.parametrize("name", CONTAINERS)
def test_containers(name):
    check(CONTAINERS[name](), torch.randn(3, 4))


class Powers(layers.Layer):
    def call(self, x):
        y = x * 1
        y **= 2
        return x**2 + 2**x - 1 / (y + 2)


def test_powers():
    source = check(around(Powers()), torch.randn(3, 4))
    assert "x**2" in source
    assert "return x**2" in around(layers.Lambda(lambda x: x**2)).to_source()


class ByMaximum(layers.Layer):
    def call(self, x):
        return x * float(x.max())


class BySign(layers.Layer):
    def call(self, x):
        return x if x.mean() > 0 else -x


class ThroughNumpy(layers.Layer):
    def call(self, x):
        return x + torch.from_numpy(x.detach().numpy() * 2)


@pytest.mark.parametrize("layer", [ByMaximum, BySign, ThroughNumpy])
def test_what_depends_on_values_is_refused(layer):
    with pytest.raises(ValueError, match=r"layer '.*' of model .*looks at values at test_eject_modules\.py, line \d+, and does"):
        around(layer()).to_source()


class Guarded(layers.Layer):
    def call(self, x):
        if torch.isnan(x).any():
            raise ValueError("no number")
        return x * 2


def test_a_guard_inside_a_layer_is_said_to_be_frozen():
    source = around(Guarded()).to_source()
    assert "A recording froze what the original does where it looks at values of tensors:\n- test_eject_modules" in source


def mixed(*parts):
    policy = {"dtype": "mixed_bfloat16"}
    return keras.Sequential([keras.Input((4,)), *(part(**({} if part.keywords.get("dtype") else policy)) for part in parts)])


MIXED = {
    "batch normalization": lambda: mixed(
        partial(layers.Reshape, (2, 2, 1)), partial(layers.Conv2D, 3, 2), partial(layers.BatchNormalization)),
    "a head in float32": lambda: mixed(partial(layers.Dense, 64), partial(layers.Dense, 3, dtype="float32")),
    "a layer in float64": lambda: mixed(
        partial(layers.Dense, 4), partial(layers.Dense, 3, dtype="float64"), partial(layers.Dense, 2)),
}  # fmt: skip


@pytest.mark.parametrize("name", MIXED)
def test_mixed_precision(name):
    model, x = MIXED[name](), torch.randn(6, 4)
    made = run(model.to_source())["load"](model.state_dict())
    for training in (False, True):
        ours, theirs = made.train(training)(x), model(x, training=training)
        assert ours.dtype is theirs.dtype
        assert_same(ours, theirs, rtol=0.02, atol=0.01)
    for mine, weight in zip(made.state_dict().values(), model.state_dict().values(), strict=True):
        assert_same(mine, weight.detach(), rtol=0.02, atol=0.01)


def test_a_head_in_float32_is_exact():
    model, x = MIXED["a head in float32"](), torch.randn(6, 4)
    made = run(model.to_source())["load"](model.state_dict())
    hidden = made.dense(x)
    assert_same(made.dense_1(hidden.float()), model.layers[-1](hidden.float()))
    assert "precisely(torch.float32, self.dense_1, x)" in model.to_source()


class Branch(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense, self.drop = layers.Dense(4), layers.Dropout(0.5)

    def call(self, x, training=None):
        if training:
            x = self.drop(x, training=True)
        return self.dense(x)


class Frozen(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.norm, self.drop = layers.BatchNormalization(), layers.Dropout(0.5)

    def call(self, x):
        return self.drop(self.norm(x, training=False), training=True)


def test_a_branch_of_training():
    assert "if self.training:\n            x = self.drop(x)" in check(around(Branch()), torch.randn(3, 4))


def test_a_mode_that_is_fixed():
    model = around(Frozen())
    source = model.to_source()
    assert "in_mode(False, self.norm, x)" in source
    assert "in_mode(True, self.drop, x)" in source
    made, x = run(source)["load"](model.state_dict()), torch.randn(3, 4)
    for training in (False, True):
        torch.manual_seed(0)
        ours = made.train(training)(x)
        torch.manual_seed(0)
        assert_same(ours, model(x, training=training))
    assert made.frozen.norm.moving_mean.abs().max() == 0


def test_a_functional_model_of_which_a_part_stays_in_inference():
    inner = keras.Sequential([keras.Input((4,)), layers.Dense(4), layers.BatchNormalization(), layers.Dropout(0.5)], name="inner")
    inputs = keras.Input((4,))
    check(keras.Model(inputs, layers.Dense(2)(inner(inputs, training=False))), torch.randn(3, 4))


def test_sizes_of_several_axes():
    check(nn.Sequential(nn.Unflatten(1, (2, 2)), nn.AdaptiveAvgPool2d((1, 1)), nn.Flatten()), torch.randn(2, 4, 3))
    check(
        nn.Sequential(nn.Conv2d(3, 4, 3, padding=(1, 1)), nn.AdaptiveAvgPool2d((2, 1)), nn.Flatten(), nn.Unflatten(1, (2, 4))),
        torch.randn(2, 3, 6, 6),
    )


class Counts(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("seen", torch.zeros(()))
        self.register_buffer("mean", torch.ones(4))
        self.inner = nn.Linear(4, 4)

    def forward(self, x):
        if self.training:
            self.seen += 1
            self.mean = self.mean * 0.9 + x.detach().mean(0) * 0.1
        return self.inner(x) + self.seen * self.mean


class ChangesInPlace(Counts):
    def forward(self, x):
        if self.training:
            self.seen.add_(1)
            self.mean.copy_(self.mean * 0.9 + x.detach().mean(0) * 0.1)
            self.mean[0] = 3.0
        return self.inner(x) + self.seen * self.mean


class Grows(Counts):
    def forward(self, x):
        self.mean = torch.cat([self.mean, self.mean])
        return self.inner(x)


@pytest.mark.parametrize("make", [Counts, ChangesInPlace])
def test_changes_of_buffers(make):
    check(make(), torch.randn(3, 4))
    check(nn.Sequential(make(), nn.ReLU()), torch.randn(3, 4))


def test_a_buffer_of_another_size_is_refused():
    with pytest.raises(ValueError, match="Grows: it makes its buffer 'mean' another one when it is called"):
        keras.to_source(Grows(), (None, 4))


@pytest.mark.parametrize("initializer", ["ones", "glorot_uniform", "he_normal", "random_normal", "truncated_normal"])
def test_first_values_are_drawn_as_the_original_draws_them(initializer):
    layer = layers.Conv2DTranspose(64, 5, kernel_initializer=initializer)
    inputs = keras.Input((4, 4, 32))
    model = keras.Model(inputs, layer(inputs))
    made = run(model.to_source())["Model"]()
    ours, theirs = made.get_parameter(next(k for k in made.state_dict() if "kernel" in k)).detach(), layer.kernel.detach()
    assert float(ours.std()) == pytest.approx(float(theirs.std()), rel=0.03)
    assert float(ours.abs().max()) == pytest.approx(float(theirs.abs().max()), rel=0.2)
