"""Random functional models, written in every style that can hold them, give the same outputs."""

from __future__ import annotations

import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import hornbeam as keras
from export.running import assert_same, run, shake
from hornbeam import layers

# Each takes (batch, 6, width) and returns such, so that all chains of them are models; n is a small number.
STEPS = [
    lambda x, n: layers.Dense(4 + n, activation=["relu", "tanh", None, "gelu"][n % 4])(x),
    lambda x, n: layers.Conv1D(3 + n, 1 + n % 3, padding="same")(x),
    lambda x, n: layers.BatchNormalization(momentum=0.9)(x),
    lambda x, n: layers.LayerNormalization()(x),
    lambda x, n: layers.Dropout(0.1 * (n + 1))(x),
    lambda x, n: layers.LSTM(3 + n, return_sequences=True)(x),
    lambda x, n: layers.MultiHeadAttention(num_heads=1 + n % 2, key_dim=3)(x, x),
    lambda x, n: layers.Activation("sigmoid")(x),
    lambda x, n: torch.relu(x) * (n + 1),
    lambda x, n: x + n,
    lambda x, n: layers.Concatenate()([x, x[..., :1]]),
    lambda x, n: layers.Permute((1, 2))(x),
    lambda x, n: layers.Add()([x, layers.Dense(x.shape[-1])(x)]),
    lambda x, n: keras.Sequential([keras.Input(x.shape[1:]), layers.Dense(3 + n), layers.ReLU()])(x),
    lambda x, n: torch.cat([x.flip(1), layers.EinsumDense("abc,cd->abd", output_shape=(None, 2))(x)], -1),
]


@st.composite
def models(draw):
    """A chain of steps, now and then with a branch that joins it again, or a step that is called twice."""
    x = inputs = keras.Input((6, 4), name=draw(st.sampled_from([None, "series"])))
    shared = layers.Dense(5, name="shared")
    used = False
    for step, number, kind in draw(
        st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 3), st.integers(0, 5)), min_size=1, max_size=9)
    ):
        before, x = x, step(x, number)
        if kind == 0:
            x = layers.concatenate([before, x])
        elif kind == 1 and not used:
            used = True
            twice = layers.Dense(4)(x)
            x = shared(twice) - shared(twice * 2)
    outputs = layers.Dense(2, name="head")(layers.Flatten()(x))
    return keras.Model(inputs, {"head": outputs, "mean": x.mean((1, 2))} if draw(st.booleans()) else outputs)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(models())
def test_every_style_makes_an_equal_model(model):
    x = torch.randn(3, 6, 4, generator=torch.Generator().manual_seed(0))
    model(x), shake(model)
    expected = model(x)
    ejected = run(model.to_source())["load"](model.state_dict())
    assert_same(ejected(x), expected, rtol=1e-4, atol=1e-4)
    for style in ("functional", "subclassing", "sequential"):
        try:
            source = model.to_source(style=style)
        except ValueError as error:
            assert style == "sequential"
            assert "cannot hold" in str(error)  # noqa: PT017
            continue
        made = run(source)["model"]
        made.set_weights(model.get_weights())
        assert list(made.state_dict()) == list(model.state_dict())
        assert_same(made(x), expected, rtol=1e-4, atol=1e-4)
