"""Pooling against Keras; masks, integers and uneven padding."""

import numpy as np
import pytest
import torch

from hornbeam import layers
from layer_oracle import agree, close, contract, numbers

ONE, TWO, THREE = numbers(2, 7, 3), numbers(2, 7, 6, 3), numbers(2, 5, 4, 6, 3)
FIRST = {"data_format": "channels_first"}
INPUTS = {"1D": ONE, "2D": TWO, "3D": THREE}
WINDOWS = [
    {"pool_size": 2},
    {"pool_size": 3, "strides": 1, "padding": "same"},
    {"pool_size": 2, "strides": 1, "padding": "same"},
    {"pool_size": 3, "strides": 2, "padding": "same"},
    {"pool_size": 2, "strides": 3, "padding": "same", **FIRST},
    {"pool_size": 3, "strides": 2, **FIRST},
]
CASES = [(f"{kind}Pooling{rank}", kwargs, x) for kind in ("Max", "Average") for rank, x in INPUTS.items() for kwargs in WINDOWS]
CASES += [
    (f"Global{kind}Pooling{rank}", kwargs, x)
    for kind in ("Max", "Average")
    for rank, x in INPUTS.items()
    for kwargs in ({}, {"keepdims": True, **FIRST})
]
CASES += [
    (f"Adaptive{kind}Pooling{rank}", kwargs, x)
    for kind in ("Max", "Average")
    for rank, x in INPUTS.items()
    for kwargs in ({"output_size": 3}, {"output_size": 2, **FIRST})
]
CASES += [("MaxPooling2D", {"pool_size": (2, 3), "strides": (2, 1), "padding": "same"}, TWO)]
# Where padding is uneven, Keras's torch backend averages repeated border values in; by its documentation, padding does not count.
UNLIKE = [
    ("AveragePooling2D", {"pool_size": 3, "strides": 2, "padding": "same"}, TWO),
    ("AveragePooling2D", {"pool_size": (2, 3), "strides": (1, 2), "padding": "same"}, TWO),
    ("AveragePooling3D", {"pool_size": 3, "strides": 2, "padding": "same"}, THREE),
]
CASES = [c for c in CASES if c[:2] not in [u[:2] for u in UNLIKE]]


def turned(kwargs, x):
    return np.moveaxis(x, -1, 1).copy() if "data_format" in kwargs else x


@pytest.mark.oracle
@pytest.mark.parametrize(("name", "kwargs", "x"), CASES)
def test_agrees_with_keras(name, kwargs, x):
    agree(name, kwargs, turned(kwargs, x))


@pytest.mark.oracle
@pytest.mark.parametrize("kwargs", [{}, {"keepdims": True}, FIRST])
def test_mean_of_what_a_mask_shows(kwargs):
    mask = np.array([[True, False, True, True, False, False, True], [True] + [False] * 6])
    agree("GlobalAveragePooling1D", kwargs, turned(kwargs, ONE), mask=mask)
    hidden = layers.GlobalAveragePooling1D()(torch.tensor(ONE), mask=torch.zeros(2, 7, dtype=torch.bool))
    assert torch.equal(hidden, torch.zeros(2, 3))


@pytest.mark.parametrize(
    "name",
    [
        "MaxPooling1D",
        "AveragePooling2D",
        "MaxPooling3D",
        "GlobalMaxPooling2D",
        "GlobalAveragePooling1D",
        "AdaptiveAveragePooling2D",
        "AdaptiveMaxPooling1D",
    ],
)
def test_contract(name):
    kwargs = {"output_size": 2} if "Adaptive" in name else {} if "Global" in name else {"pool_size": 2, "padding": "same"}
    contract(getattr(layers, name)(**kwargs), INPUTS[name[-2:]])


@pytest.mark.parametrize("size", range(3, 9))
@pytest.mark.parametrize("window", [1, 2, 3, 4])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_same_padding_by_the_definition(size, window, stride):
    """Window i covers what lies in the input of `i * stride - before` and the next `window` points; only that counts."""
    x = numbers(size)
    count = -(-size // stride)
    before = max((count - 1) * stride + window - size, 0) // 2
    parts = [x[max(i * stride - before, 0) : i * stride - before + window] for i in range(count)]
    given = torch.tensor(x).view(1, size, 1)
    close(layers.MaxPooling1D(window, stride, "same")(given).flatten(), np.array([p.max() for p in parts]))
    close(layers.AveragePooling1D(window, stride, "same")(given).flatten(), np.array([p.mean() for p in parts]))


@pytest.mark.parametrize(("name", "kwargs", "x"), UNLIKE)
def test_padding_does_not_count(name, kwargs, x):
    """The mean is the sum over the window by the number of points of it that lie inside."""
    pool = getattr(layers, name)(**kwargs)
    inside = torch.zeros(*(s + 4 for s in x.shape[1:-1]))
    inside[tuple(slice(2, -2) for _ in x.shape[1:-1])] = 1
    wide = torch.nn.functional.pad(torch.tensor(x), (0, 0, *(2, 2) * pool.rank)).movedim(-1, 1)
    pads = [
        max((-(-s // t) - 1) * t + w - s, 0) // 2 for s, w, t in zip(x.shape[1:-1], pool.pool_size, pool.strides, strict=True)
    ]
    y = pool(torch.tensor(x))
    for index in np.ndindex(*y.shape[1:-1]):
        window = tuple(
            slice(2 - p + i * t, 2 - p + i * t + w) for i, p, t, w in zip(index, pads, pool.strides, pool.pool_size, strict=True)
        )
        sums = wide[(slice(None), slice(None), *window)].flatten(2).sum(2)
        close(y[(slice(None), *index)], sums / inside[window].sum())


def test_integers():
    x = torch.arange(16).view(1, 4, 4, 1)
    assert layers.MaxPooling2D(2)(x).dtype is torch.int64
    assert layers.MaxPooling2D(2, 1, "same")(x).flatten()[-1] == 15
    assert layers.MaxPooling2D(2)(layers.Input((4, 4, 1), dtype="int64")).dtype == "int64"
    for layer in (layers.AveragePooling2D(2), layers.GlobalAveragePooling2D(), layers.AdaptiveAveragePooling2D(1)):
        assert layer(x).dtype is torch.float32


MISTAKES = [
    (lambda: layers.MaxPooling2D()(torch.ones(2, 8, 8)), "expects an input of rank 4.*Is the channel axis missing"),
    (lambda: layers.GlobalAveragePooling1D()(torch.ones(2, 8, 8, 3)), "GlobalAveragePooling2D takes inputs of rank 4"),
    (
        lambda: layers.MaxPooling2D(7)(layers.Input((5, 5, 3))),
        "window of \\(7, 7\\) does not fit into an input of shape \\(None, 5, 5, 3\\)",
    ),
    (lambda: layers.MaxPooling2D((2, 2, 2)), "`pool_size` takes one positive integer, or a tuple of 2"),
    (lambda: layers.AveragePooling1D(2, padding="valit"), "Did you mean 'valid'"),
    (lambda: layers.AdaptiveMaxPooling2D(0), "`output_size` takes one positive integer"),
]


@pytest.mark.parametrize(("mistake", "message"), MISTAKES)
def test_mistakes_are_explained(mistake, message):
    with pytest.raises(ValueError, match=message):
        mistake()
