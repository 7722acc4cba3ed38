"""A model written in each of the text's styles: the file runs, takes the same weights and gives the same outputs."""

from __future__ import annotations

import pytest
import torch

import hornbeam as keras
from export.running import assert_same, is_formatted, run, shake
from export.zoo import (
    ZOO,
    data_for,
    deep,
    frozen,
    functions_as_layers,
    inception,
    mask_through_a_function,
    masked_nested,
    resnet,
    siamese,
    three_dense,
    unet,
)  # fmt: skip
from hornbeam import layers


@pytest.mark.parametrize("build", ZOO, ids=lambda build: build.__name__)
def test_functional(build):
    model = build()
    source = model.to_source(style="functional")
    made = run(source)["model"]
    data = data_for(model)
    model(data), shake(model)
    made.set_weights(model.get_weights())
    assert list(made.state_dict()) == list(model.state_dict())
    assert_same(made(data), model(data))
    assert not is_formatted(source)
    assert model.to_source(style="functional") == source
    assert made.to_source(style="functional") == source


@pytest.mark.parametrize("build", ZOO, ids=lambda build: build.__name__)
def test_subclassing(build):
    model = build()
    source = model.to_source(style="subclassing")
    made = run(source)["model"]
    data = data_for(model)
    model(data), shake(model)
    made.set_weights(model.get_weights())
    assert list(made.state_dict()) == list(model.state_dict())
    assert_same(made(data), model(data))
    assert not is_formatted(source)


def test_the_text_in_functional_style():
    assert (
        inception().to_source(style="functional")
        == '''"""A model in the functional style, as hornbeam.to_source writes it."""

import hornbeam as keras
import torch
from hornbeam import layers


def conv_block(x, filters):
    x = layers.Conv2D(filters, 3, padding="same")(x)
    x = layers.BatchNormalization()(x)
    return torch.relu(x)


inputs = keras.Input(shape=(28, 28, 1))
x = conv_block(inputs, 8)
x = layers.MaxPooling2D(3)(x)
for filters in (8, 16):
    y = conv_block(x, filters)
    x = conv_block(x, filters)
    x = layers.Concatenate()([y, x])
x = conv_block(x, 32)
x = layers.GlobalAveragePooling2D()(x)
x = layers.Dense(64, activation="relu")(x)
x = layers.Dropout(0.5)(x)
outputs = layers.Dense(10)(x)
model = keras.Model(inputs, outputs, name="final_model")
'''
    )


def test_the_text_in_sequential_style():
    assert (
        three_dense().to_source(style="sequential")
        == '''"""A model in the sequential style, as hornbeam.to_source writes it."""

import hornbeam as keras
from hornbeam import layers

model = keras.Sequential(
    [
        keras.Input(shape=(8,)),
        layers.Dense(16, activation="relu", name="layer1"),
        layers.Dense(8, activation="relu", name="layer2"),
        layers.Dense(4, name="layer3"),
    ]
)
'''
    )


REFUSED = {
    inception: "branches after 'max_pooling2d.*', whose result 'conv2d.*' and 'conv2d.*' take",
    siamese: r"it has 2 inputs \('left', 'right'\)",
    mask_through_a_function: "a mask reaches 'lstm.*' through the function 'mul'",
    unet: "branches after 'conv2d.*', whose result",
}


@pytest.mark.parametrize("build", REFUSED, ids=lambda build: build.__name__)
def test_a_sequential_cannot_hold_every_model(build):
    with pytest.raises(ValueError, match=REFUSED[build]):
        build().to_source(style="sequential")


@pytest.mark.parametrize(
    "build", [three_dense, deep, frozen, functions_as_layers, masked_nested], ids=lambda build: build.__name__
)
def test_sequential(build):
    model = build()
    source = model.to_source(style="sequential")
    made = run(source)["model"]
    data = data_for(model)
    model(data), shake(model)
    made.set_weights(model.get_weights())
    assert list(made.state_dict()) == list(model.state_dict())
    assert_same(made(data), model(data))
    assert not is_formatted(source)


def test_a_layer_called_twice_is_no_sequence():
    x = inputs = keras.Input((4,))
    dense = layers.Dense(4, name="again")
    with pytest.raises(ValueError, match="layer 'again' is called more than once"):
        keras.Model(inputs, dense(dense(x))).to_source(style="sequential")


def test_an_unknown_style_is_refused():
    with pytest.raises(ValueError, match="Did you mean 'functional'"):
        three_dense().to_source(style="functionel")


def test_a_saved_file_is_the_whole_text(tmp_path):
    source = three_dense().to_source(style="functional")
    path = tmp_path / "model.py"
    path.write_text("old")
    source.save(path)
    assert path.read_text() == source.code == str(source)
    assert [p.name for p in tmp_path.iterdir()] == ["model.py"]


def test_writing_leaves_names_and_generator_as_they_were():
    model = resnet()
    torch.manual_seed(1)
    before = torch.get_rng_state(), layers.Dense(1).name
    torch.manual_seed(1)
    model.to_source(style="functional")
    assert torch.equal(before[0], torch.get_rng_state())
    assert layers.Dense(1).name == f"dense_{int(before[1].rpartition('_')[2]) + 1}"


def test_depth_becomes_loops():
    assert len(resnet().to_source(style="functional").splitlines()) < 75
