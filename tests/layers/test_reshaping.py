"""Layers that reshape, crop, pad and enlarge, against Keras: values, gradients, shapes, configs, errors."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hornbeam import layers
from layers.oracle import close, normal, pair, same, same_shape

pytestmark = pytest.mark.oracle
FIRST = {"data_format": "channels_first"}
CASES = [
    ("Flatten", {}, (2, 3, 4)),
    ("Flatten", {}, (2, 3)),
    ("Flatten", {}, (4,)),
    ("Flatten", FIRST, (2, 3, 4, 5)),
    ("Flatten", FIRST, (2, 6)),
    ("Reshape", {"target_shape": (12,)}, (2, 3, 4)),
    ("Reshape", {"target_shape": [3, -1]}, (2, 12)),
    ("Reshape", {"target_shape": (-1, 1, 2)}, (2, 6)),
    ("Reshape", {"target_shape": ()}, (2, 1)),
    ("Permute", {"dims": (2, 1)}, (2, 3, 4)),
    ("Permute", {"dims": [3, 1, 2]}, (2, 3, 4, 5)),
    ("RepeatVector", {"n": 3}, (2, 4)),
    ("Cropping1D", {}, (2, 5, 3)),
    ("Cropping1D", {"cropping": (0, 2)}, (2, 5, 3)),
    ("Cropping2D", {}, (2, 5, 6, 3)),
    ("Cropping2D", {"cropping": 1}, (2, 5, 6, 3)),
    ("Cropping2D", {"cropping": (1, 2)}, (2, 5, 6, 3)),
    ("Cropping2D", {"cropping": ((1, 2), (0, 1)), **FIRST}, (2, 3, 5, 6)),
    ("Cropping2D", {"cropping": ((1, 2), 1)}, (2, 5, 6, 3)),
    ("Cropping3D", {}, (2, 4, 5, 6, 3)),
    ("Cropping3D", {"cropping": ((1, 2), (0, 0), (2, 1)), **FIRST}, (2, 3, 4, 5, 6)),
    ("ZeroPadding1D", {}, (2, 5, 3)),
    ("ZeroPadding1D", {"padding": (0, 2), **FIRST}, (2, 5, 3)),
    ("ZeroPadding2D", {}, (2, 5, 6, 3)),
    ("ZeroPadding2D", {"padding": ((1, 2), (0, 3))}, (2, 5, 6, 3)),
    ("ZeroPadding2D", {"padding": (1, 2), **FIRST}, (2, 3, 5, 6)),
    ("ZeroPadding3D", {"padding": ((1, 2), (0, 3), (1, 1))}, (2, 4, 5, 6, 3)),
    ("ZeroPadding3D", {"padding": 2, **FIRST}, (2, 3, 4, 5, 6)),
    ("UpSampling1D", {"size": 3}, (2, 5, 3)),
    ("UpSampling2D", {}, (2, 4, 5, 3)),
    ("UpSampling2D", {"size": (2, 3), **FIRST}, (2, 3, 4, 5)),
    ("UpSampling2D", {"size": 3, "interpolation": "bilinear"}, (2, 4, 5, 3)),
    ("UpSampling2D", {"size": (2, 3), "interpolation": "bicubic"}, (2, 4, 5, 3)),
    ("UpSampling3D", {"size": (1, 2, 3)}, (2, 3, 4, 5, 2)),
    ("UpSampling3D", {"size": 2, **FIRST}, (2, 2, 3, 4, 5)),
]


@pytest.mark.parametrize(("name", "kwargs", "shape"), CASES, ids=str)
def test_against_keras(name, kwargs, shape):
    same(name, kwargs, normal(*shape), tolerance=1e-4 if kwargs.get("interpolation") == "bicubic" else 1e-5)
    same_shape(name, kwargs, (None, *shape[1:]))
    same_shape(name, kwargs, shape)


@pytest.mark.parametrize(
    ("name", "kwargs", "shape"),
    [case for case in CASES if len(case[2]) > 1 and case[0] != "Reshape" and case[1].get("interpolation") != "bicubic"],
    ids=str,
)
def test_unknown_axes(name, kwargs, shape):
    same_shape(name, kwargs, (None,) * len(shape))


@pytest.mark.parametrize(
    ("target", "shape"),
    [((-1,), (None, 6)), ((3, -1), (None, 6)), ((-1, 2), (None, 6)), ((-1, 4), (None, 6)), ((2, 3), (None, 6))],
)
def test_reshape_of_unknown_axes(target, shape):
    same_shape("Reshape", {"target_shape": target}, (None, *shape))


def test_reshape_of_an_unknown_axis_in_a_model():
    from hornbeam.models import Model

    x = layers.Input((None, 6))
    model = Model(x, layers.Reshape((-1, 4))(x))
    assert model(torch.ones(5, 2, 6)).shape == (5, 3, 4)


@pytest.mark.parametrize(("name", "kwargs", "shape"), [c for c in CASES if c[1].get("interpolation") is None], ids=str)
def test_integers(name, kwargs, shape):
    ours, theirs = pair(name, kwargs)
    values = np.arange(np.prod(shape), dtype="int32").reshape(shape)
    close(ours(torch.tensor(values)), theirs(torch.tensor(values)))
    assert getattr(layers, name)(**kwargs)(layers.Input(shape[1:], dtype="int32")).dtype == "int32"


MISTAKES = [
    (
        lambda: layers.Reshape((5,), name="r")(torch.ones(3, 2, 6)),
        ValueError,
        r"Reshape layer 'r' cannot give samples of shape \(2, 6\) \(12 values\) the shape \(5,\)",
    ),
    (lambda: layers.Reshape((5,), name="r")(layers.Input((2, 6))), ValueError, r"Reshape layer 'r' cannot give"),
    (lambda: layers.Reshape((5, -1), name="r")(layers.Input((2, 6))), ValueError, r"a multiple of 5 values"),
    (lambda: layers.Reshape((-1, -1)), ValueError, "at most one unknown size"),
    (lambda: layers.Reshape((-2, 3)), ValueError, "`target_shape` must be a tuple of sizes"),
    (lambda: layers.Reshape(3), TypeError, r"such as \(3,\)\. Received: target_shape=3"),
    (lambda: layers.Permute((0, 1)), ValueError, "axis 0, the batch, stays"),
    (lambda: layers.Permute((1, 1)), ValueError, "each of 1 to 2 once"),
    (lambda: layers.Permute(1), TypeError, "`dims` must be a tuple"),
    (lambda: layers.Permute((2, 1), name="p")(torch.ones(2, 3)), ValueError, r"'p' \(Permute\) expects an input of rank 3"),
    (lambda: layers.RepeatVector(2.5), TypeError, "`n` must be a positive integer. Received: n=2.5"),
    (lambda: layers.RepeatVector(0), ValueError, "`n` must be a positive integer. Received: n=0"),
    (lambda: layers.Cropping1D((1, 2, 3)), ValueError, "`cropping` must be an integer or a pair of integers"),
    (lambda: layers.Cropping2D(-1), ValueError, "none negative. Received: cropping=-1"),
    (lambda: layers.Cropping2D((1, 2, 3)), ValueError, "an integer or 2 integers or 2 pairs"),
    (lambda: layers.Cropping2D("a"), ValueError, "Received: cropping='a'"),
    (
        lambda: layers.Cropping1D(2, name="c")(torch.ones(1, 4, 2)),
        ValueError,
        r"layer 'c': `cropping` must be smaller in sum than the 4 values on axis 1",
    ),
    (lambda: layers.Cropping1D(2, name="c")(layers.Input((4, 2))), ValueError, r"layer 'c': `cropping` must be smaller"),
    (lambda: layers.ZeroPadding1D(-1), ValueError, "none negative"),
    (lambda: layers.ZeroPadding2D(1.5), ValueError, "`padding` must be"),
    (lambda: layers.UpSampling1D((2,)), TypeError, "`size` must be a positive integer"),
    (lambda: layers.UpSampling2D((2, 3, 4)), ValueError, "`size` must be a positive integer or 2 of them"),
    (
        lambda: layers.UpSampling2D(interpolation="bilnear"),
        ValueError,
        "one of nearest, bilinear, bicubic. Received: interpolation='bilnear'",
    ),
    (lambda: layers.Flatten("abc"), ValueError, "'channels_last' or 'channels_first'"),
    (lambda: layers.Flatten()(torch.tensor(1.0)), ValueError, "rank 1 or more"),
]


@pytest.mark.parametrize(("make", "error", "message"), MISTAKES)
def test_mistakes(make, error, message):
    with pytest.raises(error, match=message):
        make()
