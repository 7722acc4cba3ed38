"""Uses that once went wrong in silence, or with an error of torch's own."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import hornbeam as keras
from hornbeam import layers

X = torch.randn(5, 8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("wrap", [lambda m: torch.export.export(m, (X,)), nn.DataParallel, torch.optim.swa_utils.AveragedModel])
def test_torchs_own_wrappers_leave_the_mode_alone(wrap: Callable[[Any], Any]) -> None:
    model = keras.Sequential([keras.Input((8,)), layers.Dense(4), layers.Dropout(0.5)])
    before = model(X)
    wrap(model)
    assert not model.training
    assert torch.equal(model(X), before)


def test_constants_keep_their_own_type_in_generated_code() -> None:
    x = keras.Input((8,))
    y = torch.clamp(x * np.float64(2), np.float32(0.1))[:, np.int64(2) :]
    assert keras.Model(x, y)(X).shape == (5, 6)


def test_what_an_object_calls_itself_is_not_code(tmp_path: Path) -> None:
    class Mode(str):
        def __repr__(self) -> str:
            return f"open({str(tmp_path / 'mark')!r}, 'w')"

    class Layer(layers.Layer):
        def call(self, x: torch.Tensor, mode: str | None = None) -> torch.Tensor:
            return x if mode is None else x + len(mode)

    x = keras.Input((8,))
    model = keras.Model(x, Layer()(x, mode=Mode("ab")))
    torch.testing.assert_close(model(X), X + 2)
    assert not (tmp_path / "mark").exists()
    assert "open" not in model.code


@pytest.mark.parametrize("change", [lambda h: h.T.mul_(3), lambda h: h.chunk(2, 1)[0].mul_(4), lambda h: h.data.mul_(2)])
def test_in_place_calls_on_views_are_refused(change: Callable[[Any], Any]) -> None:
    with pytest.raises(TypeError, match="on a view of the symbolic tensor"):
        change(keras.Input((8,)) * 1)


def test_modules_that_work_in_place_change_what_they_are_given() -> None:
    def body(x: Any) -> Any:
        h = x * 1 - 0.5
        nn.ReLU(inplace=True)(h)
        return h * 1

    x = keras.Input((8,))
    assert torch.equal(keras.Model(x, body(x))(X), body(X.clone()))


def test_a_function_with_a_backward_of_its_own_is_refused() -> None:
    class Straight(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
            return x.sign()

        @staticmethod
        def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
            return grad

    with pytest.raises(TypeError, match="would lose its own backward"):
        Straight.apply(keras.Input((8,)))


def test_a_model_may_be_made_without_gradients() -> None:
    with torch.no_grad():
        x = keras.Input((8,))
        model = keras.Model(x, torch.relu(layers.Dense(2)(x)))
    model(X).sum().backward()
    assert model.layers[1].kernel.grad is not None


def test_attributes_and_families_of_functions_pickle() -> None:
    x = keras.Input((8, 8, 3))
    model = keras.Model(x, F.max_pool2d(x.permute(0, 3, 1, 2), 2).mT)
    image = torch.rand(1, 8, 8, 3)
    assert torch.equal(pickle.loads(pickle.dumps(model))(image), model(image))


def test_models_of_two_arguments_are_summarised(capsys: pytest.CaptureFixture[str]) -> None:
    class Two(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.inner = layers.Dense(3)

        def call(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return self.inner(x) + y

    model = Two()
    model(X, torch.ones(5, 3))
    model.summary()
    a, b = keras.Input((8,)), keras.Input((3,))
    keras.Model([a, b], Two()(a, b)).summary(expand_nested=True)
    assert capsys.readouterr().out.count("(None, 3)") >= 4


def test_values_asked_for_under_a_meta_device_stay_unmade() -> None:
    model = keras.Sequential([keras.Input((8,)), layers.Dense(4)])
    with torch.device("meta"):
        assert all(p.is_meta for p in model.parameters())
    assert model(X).shape == (5, 4)
