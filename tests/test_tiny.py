"""One test for each headline promise, in seconds: run it before every commit."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import hornbeam as keras
from hornbeam import layers


def sequential() -> keras.Model:
    return keras.Sequential([keras.Input((4,)), layers.Dense(8, activation="relu", name="body"), layers.Dense(3, name="head")])


def functional() -> keras.Model:
    x = keras.Input((4,))
    return keras.Model(x, layers.Dense(3, name="head")(torch.relu(layers.Dense(8, name="body")(x))))


class Subclassed(keras.Model):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = layers.Dense(8, activation="relu"), layers.Dense(3)

    def call(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(x))


def subclassed() -> keras.Model:
    model = Subclassed()
    model.build((None, 4))
    return model


STYLES = [sequential, functional, subclassed]


@pytest.fixture(params=STYLES, ids=lambda f: f.__name__)
def model(request: pytest.FixtureRequest) -> Any:
    torch.manual_seed(0)
    return request.param()


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(5, 4, generator=torch.Generator().manual_seed(1))


def test_three_styles_give_one_answer(x: torch.Tensor) -> None:
    first, *others = (build() for build in STYLES)
    for other in others:
        other.load_state_dict(first.state_dict())
        torch.testing.assert_close(other(x), first(x))


def test_a_model_is_a_torch_module(model: Any, x: torch.Tensor) -> None:
    assert isinstance(model, nn.Module)
    assert list(model.state_dict()) == ["body.kernel", "body.bias", "head.kernel", "head.bias"]
    assert all(isinstance(p, nn.Parameter) for p in model.parameters())
    model(x).sum().backward()
    assert all(p.grad is not None for p in model.parameters())
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        torch.testing.assert_close(twin(x), model(x))
    assert model.double()(x.double()).dtype is torch.float64


def test_any_torch_function_records() -> None:
    a = keras.Input((6, 4))
    y = F.scaled_dot_product_attention(a, a, a)[:, :3].mean((1, 2)) + nn.Linear(4, 1)(a.sum(1)).squeeze(-1)
    model = keras.Model(a, y)
    assert y.shape == (None,)
    assert model(torch.ones(2, 6, 4)).shape == (2,)
    assert "scaled_dot_product_attention(" in model.code


def test_building_costs_nothing() -> None:
    x = keras.Input((1_000_000,))
    model = keras.Model(x, layers.Dense(1_000_000)(x))
    lines: list[str] = []
    model.summary(print_fn=lines.append)
    assert "1,000,001,000,000" in lines[0]


def test_shapes_are_true(model: Any) -> None:
    assert model.compute_output_shape((None, 4)) == (None, 3)
    lines: list[str] = []
    model.summary(print_fn=lines.append)
    assert "(None, 8)" in lines[0]
    assert "Total params: 67 " in lines[0]


def test_errors_say_what_to_do(model: Any) -> None:
    with pytest.raises(ValueError, match=r"Layer '\w+' \(Dense\) expects size 4 on axis -1, but its input has shape \(5, 7\)"):
        model(torch.ones(5, 7))
    with pytest.raises(ValueError, match="Did you mean 'relu'"):
        layers.Dense(3, activation="rellu")


def test_keras_config_and_back(x: torch.Tensor) -> None:
    for build in (sequential, functional):
        model = build()
        twin = type(model).from_config(model.get_config())
        twin.set_weights(model.get_weights())
        torch.testing.assert_close(twin(x), model(x))


def test_it_learns() -> None:
    rng = np.random.default_rng(0)
    data = rng.normal(size=(256, 4)).astype("float32")
    labels = (data.sum(1) > 0).astype("int64")
    keras.utils.set_random_seed(0)
    model = sequential()
    model.compile(keras.optimizers.Adam(0.05), keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    history = model.fit(data, labels, epochs=5, batch_size=32, verbose=0)
    assert history.history["loss"][-1] < history.history["loss"][0] / 2
    assert model.evaluate(data, labels, verbose=0)[1] > 0.9
    assert model.predict(data, verbose=0).shape == (256, 3)


def test_masks_pass_through_operators() -> None:
    ids = keras.Input((3,), dtype="int64")
    embed, lstm = layers.Embedding(5, 4, mask_zero=True), layers.LSTM(2)
    model = keras.Model(ids, lstm(embed(ids) * 2))
    torch.testing.assert_close(model(torch.tensor([[1, 2, 0]])), model(torch.tensor([[1, 2, 0]])[:, :2]))


def test_names_are_data() -> None:
    x = keras.Input((2,), name="print('!')")
    model = keras.Model(x, layers.Dense(1, name="class")(x), name="a\nb")
    assert model(torch.ones(1, 2)).shape == (1, 1)
    assert model.get_layer("class").name == "class"


def test_looking_changes_nothing(model: Any, x: torch.Tensor) -> None:
    before, state = {k: v.clone() for k, v in model.state_dict().items()}, torch.get_rng_state()
    model.summary(print_fn=lambda text: None)
    model(x)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_importing_and_building_loads_no_compiler() -> None:
    code = "import sys, hornbeam as k; k.Sequential([k.Input((2,)), k.layers.Dense(1)]); sys.exit('torch._dynamo' in sys.modules)"
    root = Path(__file__).resolve().parent.parent
    assert subprocess.run([sys.executable, "-c", code], cwd=root / "src", check=False).returncode == 0
