"""Plain PyTorch files: no Hornbeam in them, the same keys, the same outputs in both modes."""

from __future__ import annotations

import pytest
import torch

import hornbeam as keras
from export.running import assert_same, is_formatted, run, shake
from export.zoo import ZOO, data_for
from hornbeam import layers, tree
from layers.test_contract import ROWS


def call(module, data):
    """Calls an ejected module: with one argument for each input."""
    if isinstance(data, dict):
        return module(**data)
    return module(*data) if isinstance(data, (list, tuple)) else module(data)


def check(model, data, formatted=True):
    """Ejects a model and compares both modes, and what training leaves in the buffers."""
    model(data), shake(model)
    source = model.to_source()
    assert "hornbeam" not in source.split('"""', 2)[2]
    assert not (formatted and is_formatted(source))
    made = run(source)["load"](model.state_dict())
    assert not made.training
    assert list(made.state_dict()) == list(model.state_dict())
    assert_same(call(made, data), model(data))
    torch.manual_seed(0)
    ours = call(made.train(), data)
    torch.manual_seed(0)
    theirs = model(data, training=True)
    assert_same(ours, theirs)
    assert_same(list(made.state_dict().values()), [v.detach() for v in model.state_dict().values()])
    return made.eval()


@pytest.mark.parametrize("build", ZOO, ids=lambda build: build.__name__)
def test_models(build):
    model = build()
    check(model, data_for(model))


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_every_layer(row):
    symbols = row.symbols(free=bool(row.free))
    model = keras.Model([s for a in symbols for s in tree.flatten(a)], row.make()(*symbols))
    made = check(model, [v for a in row.inputs() for v in tree.flatten(a)], formatted=False)
    other = [v for a in row.inputs(5) for v in tree.flatten(a)]
    assert_same(call(made, other), model(other))


def test_the_text_in_plain_torch():
    model = keras.Sequential([keras.Input((8,)), layers.Dense(16, activation="relu", name="layer1"), layers.Dense(4)])
    assert (
        model.to_source().split("\n\n\n", 2)[2]
        == '''class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer1 = Dense(8, 16)
        self.dense = Dense(16, 4)

    def forward(self, x):
        x = torch.relu(self.layer1(x))
        return self.dense(x)


def load(source):
    """Returns the model with the weights of a state_dict, or of a file that holds one, in inference mode."""
    model = Model()
    state = source if isinstance(source, dict) else torch.load(source, weights_only=True)
    model.load_state_dict(state)
    return model.eval()
'''
    )


def test_load_reads_a_file(tmp_path):
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    x = torch.randn(4, 3)
    assert_same(run(model.to_source())["load"](tmp_path / "weights.pt")(x), model(x))


REFUSED = {
    "stateful=True": lambda: layers.LSTM(2, stateful=True),
    "renorm=True": lambda: layers.BatchNormalization(renorm=True),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_a_layer_that_cannot_be_written_is_named(reason):
    inputs = keras.Input(batch_shape=(2, 3, 4))
    layer = REFUSED[reason]()
    with pytest.raises(ValueError, match=f"cannot write layer '{layer.name}' of model '.*': {reason}"):
        keras.Model(inputs, layer(inputs)).to_source()


def test_mixed_precision_is_autocast():
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, activation="relu", dtype="mixed_bfloat16")(inputs)
    x = layers.GlobalAveragePooling2D(dtype="mixed_bfloat16")(layers.BatchNormalization(dtype="mixed_bfloat16")(x))
    model = keras.Model(inputs, [layers.Dense(3, activation="softmax")(x), x])
    x = torch.randn(2, 8, 8, 3)
    model(x), shake(model)
    source = model.to_source()
    assert "with torch.autocast(x.device.type, torch.bfloat16):" in source
    assert "Mixed precision is left to autocast" in source
    made = run(source)["load"](model.state_dict())
    assert [y.dtype for y in made(x)] == [torch.float32, torch.bfloat16]
    assert_same(made(x), model(x), rtol=0.02, atol=0.02)
    assert made.conv2d.kernel.dtype is torch.float32


def test_layers_of_other_types_take_and_return_them():
    inputs = keras.Input((4,))
    hidden = layers.Dense(3, dtype="float64")(inputs)
    model = keras.Model(inputs, layers.Dense(2)(hidden))
    x = torch.randn(2, 4)
    made = run(model.to_source())["load"](model.state_dict())
    assert made.dense.kernel.dtype is torch.float64
    assert_same(made(x), model(x))


def test_what_an_ejected_model_does_otherwise_is_said():
    inputs = keras.Input((4,))
    x = layers.Dropout(0.5, seed=1)(layers.Dense(2, kernel_regularizer="l2")(inputs))
    source = keras.Model(inputs, x).to_source()
    assert "Penalties and constraints on weights" in source
    assert "Random layers draw from torch's default generator" in source
