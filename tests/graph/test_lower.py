"""A graph as readable, valid PyTorch; names are data: nothing in them runs, whatever they are."""

from __future__ import annotations

import ast
import builtins
import copy
import pickle
import re
import traceback

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import hornbeam as keras
from hornbeam import layers

ODD = [
    "stage.0", "class", "x y", "naïve", "forward", "weights", "training", "self", "torch", "input", "call", "lambda", "None",
    "_modules", "1", "", "__class__", "_graph", "build", "kernel", "名前", "a'b\"c", "line\nbreak", "back\\slash", "tab\t",
    "{x}", "%s", "#",
    "x = __import__('os')", "'); hornbeam_was_here = True; ('", "\u2028", "🙂",
]  # fmt: skip


def test_code_is_readable() -> None:
    x = keras.Input((8,), name="pixels")
    h = torch.relu(layers.Dense(4, name="hidden")(x))
    y = torch.cat([h, 1 - h[:, :2] * 2], -1)
    model = keras.Model(x, F.softmax(layers.Dense(3)(y), dim=-1))
    lines = [line.split(";")[0].strip() for line in model.code.splitlines()]
    assert lines[0].startswith("def forward(self, ")
    assert any(re.fullmatch(r"hidden = self\.hidden\(\w+\)", line) for line in lines)
    assert lines[-8:] == [
        "relu = torch.relu(hidden)",
        "getitem = relu[(slice(None, None, None), slice(None, 2, None))]",
        "mul = getitem * 2",
        "rsub = 1 - mul",
        "cat = torch.cat([relu, rsub], -1)",
        "dense = self.dense(cat)",
        "softmax = torch.nn.functional.softmax(dense, dim = -1, dtype = None)",
        "return softmax",
    ]


def test_code_is_valid_and_does_the_same() -> None:
    a, b = keras.Input((3,)), keras.Input((4,))
    weight = nn.Parameter(torch.ones(3, 4))
    values, places = torch.topk(a @ weight + b.T.T, 2)
    model = keras.Model({"a": a, "b": b}, {"values": values**2, "rest": (places, b.mT.shape and b.view(b.size(0), 2, 2))})
    ast.parse(model.code)
    space: dict[str, object] = {"torch": torch, "device": torch.device}
    exec(model.code, space)
    inputs = torch.randn(2, 3), torch.randn(2, 4)
    by_hand = space["forward"](model, *inputs)  # type: ignore[operator]
    found = model({"a": inputs[0], "b": inputs[1]})
    torch.testing.assert_close(by_hand, found)
    assert found["rest"][1].shape == (2, 2, 2)


@pytest.mark.parametrize("name", ODD)
def test_odd_layer_names(name: str) -> None:
    x = keras.Input((3,))
    layer = layers.Dense(2, name=name)
    model = keras.Model(x, torch.relu(layer(x)))
    ast.parse(model.code)
    assert layer.name == name
    assert model.get_layer(name) is layer
    value = torch.randn(2, 3)
    torch.testing.assert_close(model(value), torch.relu(layer(value)))
    for twin in (
        copy.deepcopy(model),
        pickle.loads(pickle.dumps(model)),
        keras.models.clone_model(model),
        keras.Model.from_config(model.get_config()),
    ):
        twin.load_state_dict(model.state_dict())
        torch.testing.assert_close(twin(value), model(value))
        assert twin.get_layer(name).name == name
    assert all("." not in k.removesuffix(".kernel").removesuffix(".bias") for k in model.state_dict())
    assert model.get_parameter(next(iter(model.state_dict()))).shape == (3, 2)
    assert not model.training


@pytest.mark.parametrize("name", ODD)
def test_odd_names_in_a_sequential(name: str) -> None:
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2, name=name), layers.Dense(1)])
    assert model.get_layer(name) is model.layers[0]
    assert model(torch.ones(2, 3)).shape == (2, 1)
    ast.parse(model.code)


@pytest.mark.parametrize("name", ODD)
def test_odd_names_of_inputs_and_models(name: str) -> None:
    x = keras.Input((3,), name=name)
    model = keras.Model({name: x}, {name: torch.relu(x)}, name=name)
    found = model({name: torch.ones(1, 3)})
    assert list(found) == [name]
    assert found[name].shape == (1, 3)
    ast.parse(model.code)
    assert model.input_names == [name]
    outer_input = keras.Input((3,))
    outer = keras.Model(outer_input, model({name: outer_input})[name])
    assert outer(torch.ones(1, 3)).shape == (1, 3)
    assert outer.get_layer(name) is model


def test_names_never_run() -> None:
    name = "x): return __import__('builtins').setattr(__import__('builtins'), 'hornbeam_was_here', 1) #"
    x = keras.Input((3,), name=name)
    model = keras.Model(x, layers.Dense(2, name=name + " ")(torch.relu(x)), name=name)
    assert model(torch.ones(1, 3)).shape == (1, 2)
    model.summary(print_fn=lambda text: None)
    assert not hasattr(builtins, "hornbeam_was_here")
    assert "setattr" not in model.code.split("\n")[0]


def test_odd_keys_of_plain_containers() -> None:
    key = 'x") or hornbeam_was_here("'

    class Heads(keras.Model):
        def __init__(self) -> None:
            heads = {key: layers.Dense(2), "class": layers.Dense(2)}
            plain = nn.ModuleDict({key: nn.Linear(3, 2), "class": nn.Linear(3, 2)})
            self.heads, self.plain = heads, plain
            x = keras.Input((3,))
            every = [m(x) for m in (*heads.values(), *plain.values())]
            super().__init__(x, sum(every[1:], every[0]) @ plain["class"].weight)

    model = Heads()
    ast.parse(model.code)
    value = torch.randn(2, 3)
    parts = [model.heads[key], model.heads["class"], model.plain[key], model.plain["class"]]
    torch.testing.assert_close(model(value), sum(p(value) for p in parts) @ model.plain["class"].weight)
    assert len(list(model.parameters())) == 8


@pytest.mark.parametrize("name", ["class", "a b", "naïve", "self", "1"])
def test_odd_names_compile_and_export(name: str) -> None:
    x = keras.Input((3,))
    model = keras.Model(x, layers.Dense(2, name=name)(x))
    value = torch.randn(2, 3)
    expected = model(value)
    torch._dynamo.reset()
    torch.testing.assert_close(torch.compile(model, fullgraph=True, backend="eager")(value), expected)
    torch.testing.assert_close(torch.export.export(model, (value,)).module()(value), expected)


def test_two_names_that_look_alike_in_code() -> None:
    x = keras.Input((3,))
    a, b, c = (layers.Dense(3, name=n) for n in ("a.b", "a b", "a_b"))
    model = keras.Model(x, c(b(a(x))))
    value = torch.randn(2, 3)
    torch.testing.assert_close(model(value), c(b(a(value))))
    assert [model.get_layer(n) for n in ("a.b", "a b", "a_b")] == [a, b, c]
    assert len(model.state_dict()) == 6


def test_two_layers_of_one_name() -> None:
    x = keras.Input((3,))
    with pytest.raises(ValueError, match="'same'"):
        keras.Model(x, layers.Dense(2, name="same")(layers.Dense(2, name="same")(x)))


def test_keywords_that_are_no_names_are_refused() -> None:
    x = keras.Input((3,))

    class Open(nn.Module):
        def forward(self, x: torch.Tensor, **kwargs: torch.Tensor) -> torch.Tensor:
            return x + sum(kwargs.values())

    with pytest.raises(ValueError, match="keyword argument 'a b', which is no Python name"):
        keras.Model(x, Open()(x, **{"a b": x}))


def test_a_run_time_error_names_the_source_line() -> None:
    x = keras.Input((5,))
    y = x @ torch.ones(5, 2)
    line = y.node.source[1]
    model = keras.Model(x, torch.relu(y))
    with pytest.raises(RuntimeError) as caught:
        model(torch.ones(2, 4))
    notes = "\n".join(caught.value.__notes__)
    assert f"Function 'matmul' was called at {__file__}:{line} when the model was made." in notes
    assert f"In layer {model.name!r} (Functional), called on Tensor of shape (2, 4)" in notes


def test_a_run_time_error_in_a_layer_names_layer_and_line() -> None:
    x = keras.Input((4,))
    layer = layers.Lambda(lambda v: v.view(2, 2), name="fold", output_shape=(2, 2))
    y = layer(x)
    model = keras.Model(x, y)
    with pytest.raises(RuntimeError) as caught:
        model(torch.ones(3, 4))
    notes = "\n".join(caught.value.__notes__)
    assert "In layer 'fold' (Lambda)" in notes
    assert f"Layer 'fold' was called at {__file__}:{y.node.source[1]}" in notes


def test_the_traceback_shows_the_generated_line() -> None:
    x = keras.Input((5,))
    model = keras.Model(x, x @ torch.ones(5, 2))
    with pytest.raises(RuntimeError) as caught:
        model(torch.ones(2, 4))
    assert " @ constant_0" not in "".join(traceback.format_exception(caught.value))
    keras.config.disable_traceback_filtering()
    try:
        with pytest.raises(RuntimeError) as caught:
            model(torch.ones(2, 4))
        assert " @ constant_0" in "".join(traceback.format_exception(caught.value))
    finally:
        keras.config.enable_traceback_filtering()


def test_a_model_with_masks_has_a_variant_of_its_code() -> None:
    ids = keras.Input((5,), dtype="int32")
    h = layers.Embedding(10, 4, mask_zero=True, name="embed")(ids)
    model = keras.Model(ids, layers.LSTM(3, name="lstm")(h * 2))
    assert "mask" in model.code
    x = keras.Input((5, 4))
    plain = keras.Model(x, layers.LSTM(3, name="lstm")(x * 2))
    assert "mask" not in plain.code
    value = torch.randn(2, 5, 4)
    mask = torch.tensor([[True] * 5, [True] * 2 + [False] * 3])
    found = plain(value, mask=mask)
    torch.testing.assert_close(found, plain.lstm(value * 2, mask=mask))
    assert not torch.allclose(found[1], plain(value)[1])
    assert "mask" not in plain.code


def test_swapped_children_run() -> None:
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2, name="head")])
    model.head = nn.Linear(3, 2)
    value = torch.randn(2, 3)
    torch.testing.assert_close(model(value), model.head(value))
    assert model.layers == [model.head]


def test_an_output_is_dropped_when_it_is_no_longer_needed() -> None:
    """As torch.fx writes it: memory of intermediate values is freed on the way."""
    x = keras.Input((3,))
    model = keras.Model(x, torch.relu(x * 2))
    assert "mul = None" in model.code
