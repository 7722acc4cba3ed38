"""Models without a graph of their own: subclassed ones, and plain torch modules."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import hornbeam as keras
from export.running import assert_same, is_formatted, run, shake
from hornbeam import layers


class Net(keras.Model):
    def __init__(self, width=8, **kwargs):
        super().__init__(**kwargs)
        self.first = layers.Dense(width, activation="relu")
        self.drop = layers.Dropout(0.3)
        self.blocks = [layers.Dense(width) for _ in range(3)]
        self.out = layers.Dense(2, name="logits")

    def call(self, x, training=None):
        x = self.drop(self.first(x), training=training)
        for block in self.blocks:
            x = x + torch.relu(block(x))
        return self.out(x.view(x.size(0), -1))


class Looks(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(2)

    def call(self, x):
        y = self.dense(x)
        return y * 2 if float(y.detach().sum()) > 1e9 else y


class Scale(layers.Layer):
    def build(self, shape):
        self.scale = self.add_weight((shape[-1],), "ones", name="scale")

    def call(self, x, training=None):
        if training:
            x = x * 2
        return x * self.scale + torch.arange(x.shape[1]).to(x.dtype)


class Block(nn.Module):
    def __init__(self, channels, project=False):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.down = nn.Sequential(nn.Conv2d(channels, channels, 1), nn.BatchNorm2d(channels)) if project else None

    def forward(self, x):
        shortcut = x if self.down is None else self.down(x)
        out = self.relu(self.norm(self.conv(x)))
        out += shortcut
        return F.relu(out)


class ResNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3)
        self.layer1 = nn.Sequential(Block(4), Block(4, True))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(4, 5)
        self.heads = nn.ModuleDict({"a": nn.Linear(5, 2)})
        self.shift = nn.Parameter(torch.zeros(1, 4, 1, 1))
        self.register_buffer("temperature", torch.tensor(2.0))

    def forward(self, x):
        x = self.layer1(self.stem(x) + self.shift)
        x = F.dropout(self.fc(torch.flatten(self.pool(x), 1)) / self.temperature, 0.5, self.training)
        return {"logits": self.heads["a"](x), "features": x}


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(10, 4)
        self.rnn = nn.GRU(4, 4, batch_first=True)
        self.encoder = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)
        self.out = nn.Linear(4, 10, bias=False)
        self.out.weight = self.embed.weight

    def forward(self, ids):
        x, _ = self.rnn(self.embed(ids) * 2.0)
        batch, time, features = x.shape
        later = torch.triu(torch.ones(time, time, dtype=torch.bool), 1)
        x = self.encoder(x, src_mask=later)
        return self.out(x.reshape(batch * time, features)).view(batch, time, -1)


MODULES = {
    "subclassed": (Net, torch.randn(3, 6), None),
    "resnet": (ResNet, torch.randn(2, 3, 9, 9), (None, 3, None, None)),
    "tied": (Tied, torch.randint(0, 9, (2, 5)), keras.Input((None,), dtype="int64")),
}


@pytest.mark.parametrize("name", MODULES)
def test_eject(name):
    make, x, inputs = MODULES[name]
    module = make()
    module(x)
    for weight in module.parameters():
        nn.init.uniform_(weight, 0.1, 0.5)
    module.eval()
    source = keras.to_source(module, inputs)
    assert not is_formatted(source)
    made = run(source)["load"](module.state_dict())
    assert list(made.state_dict()) == list(module.state_dict())
    assert_same(made(x), module(x))
    more = torch.cat([x, x, x[:1]])
    assert_same(made(more), module(more))
    torch.manual_seed(0)
    ours = made.train()(x)
    torch.manual_seed(0)
    theirs = module(x, training=True) if isinstance(module, keras.Model) else module.train()(x)
    assert_same(ours, theirs)
    assert_same(dict(made.state_dict()), {k: v.detach() for k, v in module.state_dict().items()})


def test_a_tied_weight_stays_one():
    module = Tied()
    made = run(keras.to_source(module, keras.Input((5,), dtype="int64")))["load"](module.state_dict())
    assert made.out.weight is made.embed.weight


@pytest.mark.parametrize("style", ["functional", "subclassing"])
def test_a_subclassed_model_in_other_styles(style):
    model, x = Net(name="net"), torch.randn(3, 6)
    model(x), shake(model)
    source = model.to_source(style=style)
    made = run(source)["model"]
    made.set_weights(model.get_weights())
    assert_same(made(x), model(x))
    assert not is_formatted(source)
    if style == "functional":
        assert (
            """for i in range(3):
    y = layers.Dense(8, name=f"blocks_{i}")(x)
    x = x + torch.relu(y)"""
            in source
        )


def test_what_a_recording_froze_is_said():
    model = Looks()
    model(torch.ones(1, 3))
    source = model.to_source()
    assert "A recording froze what the original does where it looks at values of tensors:\n- test_recorded" in source


def test_a_layer_of_ones_own_has_both_modes():
    inputs = keras.Input((4,))
    model = keras.Model(inputs, layers.Dense(2)(Scale(name="own scale")(inputs)))
    source = model.to_source()
    made, x = run(source)["load"](model.state_dict()), torch.randn(3, 4)
    assert_same(made(x), model(x))
    assert_same(made.train()(x), model(x, training=True))
    assert "if self.training:" in source


def test_ones_own_layer_is_imported_in_the_styles_of_keras():
    inputs = keras.Input((4,))
    model = keras.Model(inputs, Scale()(inputs))
    source = model.to_source(style="functional")
    assert "import Scale" in source or "class Scale(layers.Layer):" in source
    x = torch.randn(2, 4)
    assert_same(run(source)["model"](x), model(x))


def test_a_shared_parameter_is_no_matter_for_the_functional_style():
    with pytest.raises(ValueError, match=r"shares one parameter between 'out\.weight' and 'embed\.weight'"):
        keras.to_source(Tied(), keras.Input((5,), dtype="int64"), style="functional")


def test_a_module_that_was_never_called_needs_inputs():
    with pytest.raises(ValueError, match="Give `inputs`"):
        keras.to_source(ResNet())
