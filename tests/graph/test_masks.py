"""Masks: as in Keras where Keras keeps them, and kept through operators and elementwise functions, where Keras loses them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import keras as oracle
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import hornbeam as keras
from hornbeam import layers

IDS = torch.tensor([[1, 2, 3, 0, 0], [4, 0, 5, 6, 0], [7, 8, 9, 1, 2], [0, 0, 0, 0, 1]])
MASK = IDS != 0


def series() -> torch.Tensor:
    x = torch.randn(4, 5, 3, generator=torch.Generator().manual_seed(0))
    x[0, 3:] = 0
    x[1, 1] = 0
    return x


# -- against Keras: one function builds the model from either library's layers

TOKENS: dict[str, Callable[[Any, Any], Any]] = {
    "lstm": lambda L, x: L.LSTM(3)(L.Embedding(10, 4, mask_zero=True)(x)),
    "gru sequences": lambda L, x: L.GRU(3, return_sequences=True)(L.Embedding(10, 4, mask_zero=True)(x)),
    "stacked": lambda L, x: L.LSTM(2)(L.SimpleRNN(3, return_sequences=True)(L.Embedding(10, 4, mask_zero=True)(x))),
    "bidirectional": lambda L, x: L.Bidirectional(L.LSTM(3))(L.Embedding(10, 4, mask_zero=True)(x)),
    "bidirectional sequences": lambda L, x: L.GRU(2)(
        L.Bidirectional(L.LSTM(3, return_sequences=True))(L.Embedding(10, 4, mask_zero=True)(x))
    ),
    "through dense": lambda L, x: L.LSTM(3)(L.Dense(5, activation="tanh")(L.Embedding(10, 4, mask_zero=True)(x))),
    "through dropout and activation": lambda L, x: L.LSTM(3)(
        L.Activation("relu")(L.Dropout(0.5)(L.Embedding(10, 4, mask_zero=True)(x)))
    ),
    "time distributed": lambda L, x: L.LSTM(3)(L.TimeDistributed(L.Dense(5))(L.Embedding(10, 4, mask_zero=True)(x))),
    "concatenate": lambda L, x: L.LSTM(3)(
        L.Concatenate()([L.Embedding(10, 4, mask_zero=True)(x), L.Embedding(10, 2, mask_zero=True)(x)])
    ),
    "concatenate time": lambda L, x: L.LSTM(3)(
        L.Concatenate(axis=1)([L.Embedding(10, 4, mask_zero=True)(x), L.Embedding(10, 4, mask_zero=True)(x)])
    ),
    "concatenate with unmasked": lambda L, x: L.LSTM(3)(
        L.Concatenate()([L.Embedding(10, 4, mask_zero=True)(x), L.Embedding(10, 2)(x)])
    ),
    "add": lambda L, x: L.LSTM(3)(L.Add()([L.Embedding(10, 4, mask_zero=True)(x), L.Embedding(10, 4, mask_zero=True)(x)])),
    "global pooling": lambda L, x: L.GlobalAveragePooling1D()(L.Embedding(10, 4, mask_zero=True)(x)),
    "masking after it": lambda L, x: L.LSTM(3)(L.Masking()(L.Embedding(10, 4)(x))),
    "flatten ends it": lambda L, x: L.Dense(2)(L.Flatten()(L.Embedding(10, 4, mask_zero=True)(x))),
}

NUMBERS: dict[str, Callable[[Any, Any], Any]] = {
    "masking": lambda L, x: L.LSTM(3)(L.Masking()(x)),
    "masking a value": lambda L, x: L.LSTM(3)(L.Masking(mask_value=2.0)(x)),
    "masking through layers": lambda L, x: L.GRU(3)(L.LayerNormalization()(L.Dense(4)(L.Masking()(x)))),
    "masking through bidirectional": lambda L, x: L.LSTM(2)(L.Bidirectional(L.LSTM(3, return_sequences=True))(L.Masking()(x))),
    "lambda with a mask": lambda L, x: L.LSTM(3)(L.Lambda(lambda v: v * 2, mask=lambda inputs, mask: mask)(L.Masking()(x))),
}


def both(function: Callable[[Any, Any], Any], value: torch.Tensor) -> None:
    dtype = str(value.dtype).removeprefix("torch.")
    x, y = keras.Input(value.shape[1:], dtype=dtype), oracle.Input(tuple(value.shape[1:]), dtype=dtype)
    ours, theirs = keras.Model(x, function(layers, x)), oracle.Model(y, function(oracle.layers, y))
    rng = np.random.default_rng(0)
    weights = [rng.normal(size=w.shape).astype("float32") for w in theirs.weights]
    ours.set_weights(weights)
    theirs.set_weights(weights)
    got, wanted = ours(value), theirs(value)
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)
    mine, other = getattr(got, "_keras_mask", None), getattr(wanted, "_keras_mask", None)
    assert (mine is None) == (other is None)
    if mine is not None:
        assert torch.equal(mine.bool(), other.bool())
    twin = copy.deepcopy(ours)
    torch.testing.assert_close(twin(value), got)


@pytest.mark.oracle
@pytest.mark.parametrize("name", TOKENS)
def test_tokens_as_in_keras(name: str) -> None:
    both(TOKENS[name], IDS)


@pytest.mark.oracle
@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_as_in_keras(name: str) -> None:
    both(NUMBERS[name], series())


# -- where Keras loses masks

KEPT: dict[str, Callable[[Any], Any]] = {
    "times a number": lambda e: e * 2.0,
    "minus": lambda e: 1 - e,
    "relu": torch.relu,
    "gelu": F.gelu,
    "dropout": lambda e: F.dropout(e, 0.0),
    "layer norm": lambda e: F.layer_norm(e, (4,)),
    "method": lambda e: e.tanh().clamp(-0.5, 0.5),
    "where": lambda e: torch.where(e > 0, e, e * 0.1),
    "plus a vector": lambda e: e + torch.arange(4.0),
    "in place": lambda e: (e * 1).mul_(2.0),
    "augmented": lambda e: _augmented(e),
    "square root of a square": lambda e: (e**2 + 1e-3).sqrt(),
}


def _augmented(e: Any) -> Any:
    e = e * 1
    e += 1
    return e


@pytest.mark.parametrize("name", KEPT)
def test_kept_through_torch_functions(name: str) -> None:
    function = KEPT[name]
    embed, lstm = layers.Embedding(10, 4, mask_zero=True), layers.LSTM(3)
    ids = keras.Input((5,), dtype="int64")
    model = keras.Model(ids, lstm(function(embed(ids))))
    expected = lstm(function(embed(IDS).detach().clone()), mask=MASK)
    torch.testing.assert_close(model(IDS), expected)
    assert not torch.allclose(expected[0], lstm(function(embed(IDS).detach().clone()))[0]), "the mask matters here"


def test_masks_of_two_are_combined() -> None:
    a, b = keras.Input((5,), dtype="int64"), keras.Input((5,), dtype="int64")
    embed, lstm = layers.Embedding(10, 4, mask_zero=True), layers.LSTM(3)
    model = keras.Model([a, b], lstm(embed(a) * embed(b)))
    other = IDS.flip(1)
    product = (embed(IDS) * embed(other)).detach().clone()
    torch.testing.assert_close(model([IDS, other]), lstm(product, mask=MASK & (other != 0)))


def test_functions_that_move_positions_end_a_mask() -> None:
    ids = keras.Input((5,), dtype="int64")
    e = layers.Embedding(10, 4, mask_zero=True)(ids)
    assert (e + 1)._keras_mask is not None
    assert e.flip(1)._keras_mask is None
    assert e.mean(1)._keras_mask is None
    assert e.mT._keras_mask is None
    assert torch.cat([e, e], 1)._keras_mask is None


def test_mask_arithmetic_is_in_no_summary() -> None:
    ids = keras.Input((5,), dtype="int64")
    embed = layers.Embedding(10, 4, mask_zero=True)
    lines: list[str] = []
    keras.Model(ids, layers.LSTM(3)(embed(ids) + embed(ids))).summary(print_fn=lines.append)
    assert "not_equal" not in lines[0]
    assert "ne " not in lines[0]
    assert "and" not in lines[0]


# -- layers that make or change masks


class Shorten(keras.Layer):
    """Takes every second step, and says so of the mask."""

    def call(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, ::2]

    def compute_mask(self, inputs: Any, previous_mask: Any) -> Any:
        return None if previous_mask is None else previous_mask[:, ::2]


class Loses(keras.Layer):
    """Does not support masks."""

    def call(self, x: torch.Tensor) -> torch.Tensor:
        return x * 1


class Sees(keras.Layer):
    """Returns the mask that it was given."""

    supports_masking = True

    def call(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        return torch.zeros(x.shape[:2]) if mask is None else mask.float()


def test_compute_mask_records() -> None:
    ids = keras.Input((5,), dtype="int64")
    model = keras.Model(ids, Sees()(Shorten()(layers.Embedding(10, 4, mask_zero=True)(ids))))
    assert torch.equal(model(IDS), MASK[:, ::2].float())
    eager = Sees()(Shorten()(layers.Embedding(10, 4, mask_zero=True)(IDS)))
    assert torch.equal(eager, MASK[:, ::2].float())


def test_a_layer_that_does_not_support_masks_ends_them() -> None:
    ids = keras.Input((5,), dtype="int64")
    model = keras.Model(ids, Sees()(Loses()(layers.Embedding(10, 4, mask_zero=True)(ids))))
    assert not model(IDS).any()
    assert not Sees()(Loses()(layers.Embedding(10, 4, mask_zero=True)(IDS))).any()


def test_an_explicit_mask_wins() -> None:
    ids, mask = keras.Input((5,), dtype="int64"), keras.Input((5,), dtype="bool")
    e = layers.Embedding(10, 4, mask_zero=True)(ids)
    model = keras.Model([ids, mask], Sees()(e, mask=mask))
    assert torch.equal(model([IDS, ~MASK]), (~MASK).float())


def test_compute_mask_of_layers_as_in_keras() -> None:
    embed = layers.Embedding(10, 4, mask_zero=True)
    assert torch.equal(embed.compute_mask(IDS), MASK)
    assert layers.Embedding(10, 4).compute_mask(IDS) is None
    assert torch.equal(layers.Masking().compute_mask(series(), None), series().ne(0).any(-1))


def test_a_mask_from_before_a_cut_is_not_needed() -> None:
    ids = keras.Input((5,), dtype="int64")
    hidden = layers.Embedding(10, 4, mask_zero=True)(ids)
    lstm = layers.LSTM(3)
    head = keras.Model(hidden, lstm(hidden * 2))
    value = torch.randn(4, 5, 4)
    torch.testing.assert_close(head(value), lstm(value * 2))
    torch.testing.assert_close(head(value, mask=MASK), lstm(value * 2, mask=MASK))
    body = keras.Model(ids, hidden)
    torch.testing.assert_close(head(body(IDS)), keras.Model(ids, lstm(hidden * 2))(IDS))


def test_configs_hold_no_mask_arithmetic() -> None:
    ids = keras.Input((5,), dtype="int64", name="ids")
    e = layers.Embedding(10, 4, mask_zero=True, name="embed")(ids)
    model = keras.Model(ids, layers.LSTM(3, name="lstm")(torch.relu(e)))
    config = model.get_config()
    assert [c["name"] for c in config["layers"]] == ["ids", "embed", "relu", "lstm"]
    assert config["layers"][-1]["inbound_nodes"][0]["kwargs"] == {"mask": None}
    for twin in (keras.Model.from_config(config), keras.models.clone_model(model)):
        twin.set_weights(model.get_weights())
        torch.testing.assert_close(twin(IDS), model(IDS))
        assert twin.get_config() == config


def test_a_mask_that_was_taken_by_hand_is_in_the_config() -> None:
    ids = keras.Input((5,), dtype="int64")
    e = layers.Embedding(10, 4, mask_zero=True)(ids)
    f = layers.Embedding(10, 4, mask_zero=True)(ids)
    model = keras.Model(ids, e + (e + f)._keras_mask.float().unsqueeze(-1))
    twin = keras.Model.from_config(model.get_config())
    twin.set_weights(model.get_weights())
    torch.testing.assert_close(twin(IDS), model(IDS))


# -- eager masks


def test_eager_masks_travel_on_tensors() -> None:
    e = layers.Embedding(10, 4, mask_zero=True)(IDS)
    assert torch.equal(e._keras_mask, MASK)
    h = layers.Dense(3)(e)
    assert torch.equal(h._keras_mask, MASK)


def test_an_eager_mask_is_honoured_by_a_model_built_without() -> None:
    lstm, dense = layers.LSTM(3), layers.Dense(4)
    x = keras.Input((5, 3))
    model = keras.Model(x, lstm(torch.relu(dense(x) * 2)))
    value = series()
    masked = layers.Masking()(value)
    mask = masked._keras_mask
    assert not mask.all()
    expected = lstm(torch.relu(dense(value) * 2), mask=mask)
    torch.testing.assert_close(model(masked), expected)
    torch.testing.assert_close(model(value, mask=mask), expected)
    assert not torch.allclose(model(value)[0], expected[0])


def test_an_eager_mask_on_one_of_two_inputs() -> None:
    a, b = keras.Input((5, 3)), keras.Input((5, 3))
    lstm = layers.LSTM(3)
    model = keras.Model({"a": a, "b": b}, lstm(a + b))
    value = series()
    masked = layers.Masking()(value)
    expected = lstm(value * 2, mask=masked._keras_mask)
    torch.testing.assert_close(model({"a": value, "b": masked}), expected)
    torch.testing.assert_close(model({"a": masked, "b": value}), expected)
    torch.testing.assert_close(model({"a": value, "b": value}), lstm(value * 2))


def test_a_sequential_honours_an_eager_mask() -> None:
    model = keras.Sequential([layers.Dense(4), layers.LSTM(3)])
    value = series()
    masked = layers.Masking()(value)
    expected = model.layers[1](model.layers[0](value), mask=masked._keras_mask) if model(value) is not None else None
    torch.testing.assert_close(model(masked), expected)


def test_the_model_hands_its_mask_on() -> None:
    x = keras.Input((5, 3))
    model = keras.Model(x, layers.Dense(4)(x))
    masked = layers.Masking()(series())
    assert torch.equal(model(masked)._keras_mask, masked._keras_mask)


# -- nested models


def test_a_nested_model_makes_a_mask() -> None:
    ids = keras.Input((5,), dtype="int64")
    inner = keras.Model(ids, layers.Dense(4)(layers.Embedding(10, 4, mask_zero=True)(ids)))
    outer_ids = keras.Input((5,), dtype="int64")
    lstm = layers.LSTM(3)
    outer = keras.Model(outer_ids, lstm(inner(outer_ids) * 2))
    expected = lstm((inner(IDS) * 2).detach().clone(), mask=MASK)
    torch.testing.assert_close(outer(IDS), expected)


def test_a_nested_model_lets_a_mask_through() -> None:
    x = keras.Input((5, 4))
    inner = keras.Model(x, torch.relu(layers.Dense(4)(x)))
    ids = keras.Input((5,), dtype="int64")
    embed, lstm = layers.Embedding(10, 4, mask_zero=True), layers.LSTM(3)
    outer = keras.Model(ids, lstm(inner(embed(ids))))
    expected = lstm(inner(embed(IDS).detach().clone()).detach().clone(), mask=MASK)
    torch.testing.assert_close(outer(IDS), expected)


def test_a_nested_model_whose_mask_comes_from_its_own_layers() -> None:
    inner = keras.Sequential([layers.Dense(4, activation="relu"), layers.Masking()])
    x = keras.Input((5, 3))
    lstm = layers.LSTM(3)
    outer = keras.Model(x, lstm(inner(x) * 2))
    value = series() - 0.5
    hidden = inner.layers[0](value).detach().clone()
    torch.testing.assert_close(outer(value), lstm(hidden * 2, mask=hidden.ne(0).any(-1)))
    assert len(outer.state_dict()) == 5
    assert [m.name for m in outer.layers[1:]] == [inner.name, lstm.name]
    assert outer.count_params() == sum(w.numel() for w in outer.weights)


def test_a_nested_sequential_with_a_masked_layer_inside() -> None:
    inner = keras.Sequential([layers.Masking(), layers.LSTM(3)])
    x = keras.Input((5, 3))
    outer = keras.Model(x, layers.Dense(2)(inner(x)))
    value = series()
    expected = outer.layers[-1](inner.layers[1](value, mask=value.ne(0).any(-1)))
    torch.testing.assert_close(outer(value), expected)


def test_a_subclassed_model_in_between() -> None:
    class Middle(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = layers.LSTM(3)

        def call(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
            return self.lstm(x, mask=mask)

    middle, embed = Middle(), layers.Embedding(10, 4, mask_zero=True)
    ids = keras.Input((5,), dtype="int64")
    outer = keras.Model(ids, middle(embed(ids)))
    torch.testing.assert_close(outer(IDS), middle.lstm(embed(IDS).detach().clone(), mask=MASK))


def test_masked_models_compile_and_export() -> None:
    ids = keras.Input((5,), dtype="int64")
    model = keras.Model(ids, layers.GlobalAveragePooling1D()(layers.Embedding(10, 4, mask_zero=True)(ids) * 2))
    expected = model(IDS)
    torch._dynamo.reset()
    torch.testing.assert_close(torch.compile(model, fullgraph=True, backend="eager")(IDS), expected)
    torch.testing.assert_close(torch.export.export(model, (IDS,)).module()(IDS), expected)


def test_a_plain_module_ends_a_mask() -> None:
    ids = keras.Input((5,), dtype="int64")
    e = layers.Embedding(10, 4, mask_zero=True)(ids)
    assert nn.Linear(4, 4)(e)._keras_mask is None
