"""Repeated layers become loops, and copies of a nested model one function or class, with the keys and outputs of the original."""

from __future__ import annotations

import pytest
import torch

import hornbeam as keras
from export.running import assert_same, is_formatted, run, shake
from hornbeam import layers


def blocks(count=12):
    x = inputs = keras.Input((8,))
    for i in range(count):
        x = layers.LayerNormalization()(x + layers.Dropout(0.1)(layers.Dense(8, name=f"d{i}")(x)))
    return keras.Model(inputs, x)


def vgg(named):
    x = inputs = keras.Input((16, 16, 3))
    for b, (filters, count) in enumerate(((2, 2), (3, 2), (4, 3), (5, 3)), 1):
        for i in range(1, count + 1):
            name = f"block{b}_conv{i}" if named else None
            x = layers.Conv2D(filters, 3, padding="same", activation="relu", name=name)(x)
        x = layers.MaxPooling2D(2, name=f"block{b}_pool" if named else None)(x)
    return keras.Model(inputs, layers.Dense(3)(layers.Flatten()(x)))


def vgg_named():
    return vgg(True)


def vgg_unnamed():
    return vgg(False)


def copies(named=True):
    x = inputs = keras.Input((8,))
    for i in range(12):
        inner = keras.Input((8,))
        block = layers.LayerNormalization()(inner + layers.Dense(8)(inner))
        x = keras.Model(inner, block, **({"name": f"block_{i}"} if named else {}))(x)
    return keras.Model(inputs, x)


def unnamed_copies():
    return copies(False)


def copies_of_chains():
    x = inputs = keras.Input((8,))
    for i in range(4):
        mlp = keras.Sequential([keras.Input((8,)), layers.Dense(8, activation="relu"), layers.Dense(8)], name=f"mlp_{i}")
        x = mlp(x) + x
    return keras.Model(inputs, x)


def alike_but_wider():
    x = inputs = keras.Input((8,))
    for i, units in enumerate((8, 8, 4)):
        x = keras.Sequential([keras.Input(x.shape[1:]), layers.Dense(units)], name=f"mlp_{i}")(x)
    return keras.Model(inputs, x)


def numbers_with_gaps():
    x = inputs = keras.Input((8,))
    for i in (1, 2, 4, 5, 6, 7, 9):
        x = layers.Dense(8, name=f"d{i}")(x)
    return keras.Model(inputs, x)


def numbers_as_names():
    x = inputs = keras.Input((8,))
    for i in range(6):
        x = torch.relu(layers.Dense(8, name=f"{i:02d}")(layers.LayerNormalization(name=str(i))(x)))
    return keras.Model(inputs, x)


def many():
    x = inputs = keras.Input((8,))
    for _ in range(300):
        x = layers.Dense(8)(x)
    return keras.Model(inputs, x)


MODELS = (
    blocks, vgg_named, vgg_unnamed, copies, unnamed_copies, copies_of_chains, alike_but_wider, numbers_with_gaps,
    numbers_as_names,
)  # fmt: skip


@pytest.mark.parametrize("style", ["functional", "subclassing"])
@pytest.mark.parametrize("build", MODELS, ids=lambda build: build.__name__)
def test_folded_models_are_the_same(build, style):
    model = build()
    x = torch.randn(2, *model.inputs[0].shape[1:])
    shake(model)
    source = model.to_source(style=style)
    made = run(source)["model"]
    made.set_weights(model.get_weights())
    assert list(made.state_dict()) == list(model.state_dict())
    assert_same(made(x), model(x))
    assert not is_formatted(source)


@pytest.mark.parametrize("count", [9, 10, 12, 101])
def test_the_number_of_digits_changes_nothing(count):
    source = blocks(count).to_source(style="functional")
    assert f"for i in range({count}):\n    outputs = dense_block(outputs, i)" in source
    assert "def dense_block(x, name):" in source
    assert source.count("layers.Dense(") == 1


def test_blocks_end_with_their_pooling():
    for build in (vgg_named, vgg_unnamed):
        source = build().to_source(style="functional")
        assert source.index("Conv2D") < source.index("MaxPooling2D")
        assert "MaxPooling2D" not in source.partition("def conv_block")[2].partition("Conv2D")[0]
        assert "name_2" not in source
        assert "filters_2" not in source


def test_one_definition_serves_all_copies():
    for build in (copies, unnamed_copies):
        assert build().to_source(style="functional").count("def make_") == 1
        assert build().to_source(style="subclassing").count("\nclass ") == 2
    assert 'for i in range(12):\n    outputs = make_block(f"block_{i}")(outputs)' in copies().to_source(style="functional")


def test_a_class_has_loops():
    source = many().to_source(style="subclassing")
    assert len(source.splitlines()) < 25
    assert 'setattr(self, f"dense_{i}", layers.Dense(8))' in source
    assert 'x = getattr(self, f"dense_{i}")(x)' in source
    assert list(run(source)["model"].state_dict()) == list(many().state_dict())


@pytest.mark.parametrize("style", ["sequential", "functional", "subclassing"])
@pytest.mark.parametrize("policy", ["mixed_bfloat16", "float64"])
def test_a_chain_of_another_policy(policy, style):
    keras.config.set_dtype_policy(policy)
    try:
        stack = [keras.Input((4,)), layers.Dense(4), layers.BatchNormalization(), layers.Dense(2, dtype="float32")]
        model = keras.Sequential(stack)
    finally:
        keras.config.set_dtype_policy("float32")
    source = model.to_source(style=style)
    made, x = run(source)["model"], torch.randn(3, 4)
    made.set_weights(model.get_weights())
    assert_same(made(x), model(x))


class Listed(keras.Model):
    def __init__(self, named):
        super().__init__()
        self.hidden = [layers.Dense(3, name=f"h{i}" if named else None) for i in range(1, 6)]
        self.mixed = [layers.Dense(units) for units in (3, 4, 3)]

    def call(self, x):
        for layer in [*self.hidden, *self.mixed]:
            x = torch.relu(layer(x))
        return x


@pytest.mark.parametrize(
    ("named", "shown"),
    [(False, "[layers.Dense(3) for _ in range(5)]"), (True, '[layers.Dense(3, name=f"h{i}") for i in range(1, 6)]')],
)
def test_a_list_of_alike_layers(named, shown):
    model, x = Listed(named), torch.randn(2, 4)
    model(x), shake(model)
    source = model.to_source(style="subclassing")
    assert f"self.hidden = {shown}" in source
    assert "self.mixed = [layers.Dense(3), layers.Dense(4), layers.Dense(3)]" in source
    made = run(source)["model"]
    made.set_weights(model.get_weights())
    assert list(made.state_dict()) == list(model.state_dict())
    assert_same(made(x), model(x))
    assert not is_formatted(source)
