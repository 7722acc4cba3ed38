"""What depends on the mode, and masks: written as the original has them, or named in the header, or refused."""

from __future__ import annotations

import re

import pytest
import torch
import torch.nn.functional as F

import hornbeam as keras
from export.running import assert_same, is_formatted, run, shake
from hornbeam import layers


class Moded(keras.Model):
    def __init__(self, what):
        super().__init__()
        self.drop, self.out, self.what = layers.Dropout(0.5), layers.Dense(2), what

    def call(self, x, training=False):
        return self.what(self, x, training)


def hands_on(self, x, training):
    return self.out(self.drop(x, training=training))


def branches(self, x, training):
    if training:
        x = self.drop(x)
    return self.out(x)


def scales(self, x, training):
    return self.out(F.dropout(x, 0.5, training) * (1.5 if training else 1.0))


def never(self, x, training):
    return self.out(self.drop(x, training=False))


def draws(self, x, training):
    return self.out(x + torch.tensor([float(training)] * 4))


def modes_of(model, x):
    made = []
    for training in (False, True):
        torch.manual_seed(0)
        made.append(model(x, training=training))
    return made


@pytest.mark.parametrize("style", ["functional", "subclassing", "sequential"])
def test_a_layer_called_with_the_mode_is_called_without_it(style):
    model, x = Moded(hands_on), torch.randn(3, 4)
    model(x)
    source = model.to_source(style=style)
    assert "training" not in source
    made = run(source)["model"]
    made.set_weights(model.get_weights())
    assert_same(modes_of(made, x), modes_of(model, x))


@pytest.mark.parametrize(("what", "shown"), [(scales, "training=training"), (never, "training=False")])
def test_a_class_asks_for_the_mode(what, shown):
    model, x = Moded(what), torch.randn(3, 4)
    model(x)
    source = model.to_source(style="subclassing")
    assert shown in source
    assert "In training" not in source
    made = run(source)["model"]
    made.set_weights(model.get_weights())
    assert_same(modes_of(made, x), modes_of(model, x))


@pytest.mark.parametrize("style", ["functional", "subclassing"])
@pytest.mark.parametrize("what", [branches, draws])
def test_what_training_does_otherwise_is_said(what, style):
    model = Moded(what)
    model(torch.randn(3, 4))
    source = model.to_source(style=style)
    place = {branches: r"- dropout\w* \(test_modes_and_masks.py, line \d+\)", draws: r"- add \(test_modes_and_masks.py, line"}
    assert "In training the original does something else than is written here, from these calls on:" in source
    assert re.search(place[what], source)


def behind_a_layer():
    tokens = keras.Input((5,), dtype="int32")
    x = layers.Embedding(9, 4, mask_zero=True)(tokens)
    return keras.Model(tokens, layers.GlobalAveragePooling1D()(layers.LayerNormalization()(x + 1.0)))


def transformer():
    tokens = keras.Input((5,), dtype="int32")
    x = layers.Embedding(9, 4, mask_zero=True)(tokens)
    for _ in range(4):
        x = layers.LayerNormalization()(x + layers.MultiHeadAttention(2, 2)(x, x))
        x = layers.LayerNormalization()(x + layers.Dense(4)(layers.Dense(8, activation="relu")(x)))
    return keras.Model(tokens, layers.Dense(2)(layers.GlobalAveragePooling1D()(x)))


def through_a_nested_function():
    tokens, steps = keras.Input((5,), dtype="int32"), keras.Input((5, 4))
    inner = keras.Model(steps, layers.LayerNormalization()(layers.Dense(4)(steps) * 2), name="inner")
    return keras.Model(tokens, layers.LSTM(3)(inner(layers.Embedding(9, 4, mask_zero=True)(tokens))))


CASES = [(build, style) for build in (behind_a_layer, transformer) for style in ("functional", "subclassing")]


@pytest.mark.parametrize(("build", "style"), [*CASES, (through_a_nested_function, "functional")])
def test_masks_reach_where_they_did(build, style):
    model, x = build(), torch.tensor([[1, 2, 0, 0, 0], [0, 3, 0, 4, 5]])
    model(x), shake(model)
    source = model.to_source(style=style)
    made = run(source)["model"]
    made.set_weights(model.get_weights())
    assert_same(made(x), model(x))
    assert not is_formatted(source)
    assert "skip" not in source


@pytest.mark.parametrize("style", ["subclassing", "sequential"])
def test_a_mask_lost_inside_a_nested_model_is_refused(style):
    with pytest.raises(ValueError, match=r"nested model 'inner'.*mask|mask.*nested model 'inner'"):
        through_a_nested_function().to_source(style=style)


class Table:
    rows = 3


class Holds(layers.Layer):
    def __init__(self, table, loss=False, **kwargs):
        super().__init__(**kwargs)
        self.table, self.dense, self.loss = table, layers.Dense(4), loss

    def call(self, x):
        return self.dense(x) * self.table.rows


class Adds(Holds):
    def call(self, x):
        self.add_loss(x.sum())
        return self.dense(x)


class Sums(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(2)

    def call(self, x):
        self.add_loss(x.sum())
        return self.dense(x)


@pytest.mark.parametrize("style", ["functional", "subclassing", "sequential"])
def test_a_layer_that_holds_a_foreign_object_is_written_from_a_recording(style):
    model, x = keras.Sequential([keras.Input((4,)), Holds(Table(), name="holds"), layers.Dense(2)]), torch.randn(2, 4)
    source = model.to_source(style=style)
    assert "is written from a recording of what it does:\n- holds (Holds)" in source
    made = run(source)["model"]
    made.set_weights(model.get_weights())
    assert list(made.state_dict()) == list(model.state_dict())
    assert_same(made(x), model(x))
    assert not is_formatted(source)


def test_a_layer_that_adds_losses_is_no_matter_for_a_recording():
    model = keras.Sequential([keras.Input((4,)), Adds(Table())])
    with pytest.raises(ValueError, match=r"'adds\w*' of model .*Table\) has no source .*; and a recording would lose"):
        model.to_source(style="functional")


def test_losses_that_are_left_out_are_said():
    model = Sums()
    model(torch.ones(1, 3))
    assert "Losses that the original adds when it is called are left out." in model.to_source(style="functional")


def test_a_lambda_has_no_empty_arguments():
    inputs = keras.Input((4,))
    source = keras.Model(inputs, layers.Lambda(lambda t: t * 2)(inputs)).to_source(style="functional")
    assert "layers.Lambda(lambda t: t * 2)(inputs)" in source
