"""Names are data: whatever a layer is called, generated source holds it as a quoted text at most."""

from __future__ import annotations

import ast

import pytest
import torch

import hornbeam as keras
from export.running import assert_same, is_formatted, run, shake
from hornbeam import layers

NAMES = [
    'x"); import os #', "a\'b", 'quote"quote', "new\nline", "class", "lambda", "def", "print", "torch", "self", "keras", "model",
    "3d", "é", "日本", "a b-c.d", "{x}", "f{0}", "%s", "\\", "\x1b[31m", "\u202e", "# comment", "__import__", "x" * 300, "_",
    "None", "layers", "nn", "F", "forward", "load", '"""', "\r", "\t", "ﬁ", "outputs", "inputs", "x", "y", "skip",
]  # fmt: skip
STYLES = ("functional", "sequential", "subclassing", "torch")


def build(names):
    x = inputs = keras.Input((3,), name=f"in {names[0]}")
    for name in names:
        x = layers.Dense(3, name=name)(x)
    return keras.Model(inputs, x, name=names[0])


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_one_odd_name(name, style):
    check(build([name]), style)


@pytest.mark.parametrize("style", STYLES)
def test_all_odd_names(style):
    check(build(NAMES), style)


def check(model, style):
    x = torch.randn(2, 3)
    model(x), shake(model)
    source = model.to_source(style=style)
    assert source.isascii()
    assert {n.name for n in ast.walk(ast.parse(source)) if isinstance(n, ast.alias)} <= {
        "hornbeam", "layers", "torch", "torch.nn.functional", "nn",
    }  # fmt: skip
    assert not [line for line in source.splitlines() if "#" in line.partition("'")[0].partition('"')[0]]
    made = run(source)
    if style == "torch":
        assert_same(made["load"](model.state_dict())(x), model(x))
        return
    made["model"].set_weights(model.get_weights())
    assert_same(made["model"](x), model(x))
    if style != "subclassing":
        assert [layer.name for layer in made["model"].layers][-1:] == [layer.name for layer in model.layers][-1:]


def test_names_that_count_become_one():
    assert not is_formatted(build(NAMES[:6]).to_source(style="functional"))


def test_output_keys_are_quoted():
    inputs = keras.Input((3,))
    key = 'k"); import os #'
    model = keras.Model(inputs, {key: layers.Dense(2)(inputs), "other": inputs * 2})
    for style in ("functional", "subclassing", "torch"):
        source = model.to_source(style=style)
        assert "import os" not in [line.strip() for line in source.splitlines()]
        run(source)
