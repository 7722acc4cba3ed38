"""Merging layers against Keras: values, gradients, broadcasting, masks, shapes, configs, errors."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hornbeam import layers
from layers.oracle import close, keras, normal, same, same_shape

pytestmark = pytest.mark.oracle
SEVERAL = ("Add", "Multiply", "Average", "Maximum", "Minimum")
ELEMENTWISE = (*SEVERAL, "Subtract")
SHAPES = [
    ((2, 3), (2, 3)),
    ((2, 3, 1), (2, 1, 4)),
    ((2, 4), (2, 3, 4)),
    ((5, 3), (5, 4, 6, 3)),
    ((5,), (5, 4, 3)),
]


@pytest.mark.parametrize("name", ELEMENTWISE)
@pytest.mark.parametrize("shapes", SHAPES, ids=str)
def test_elementwise(name, shapes):
    same(name, {}, [normal(*s, seed=i) for i, s in enumerate(shapes)])


@pytest.mark.parametrize("name", SEVERAL)
@pytest.mark.parametrize("count", [1, 3])
def test_other_numbers_of_inputs(name, count):
    same(name, {}, [normal(2, 3, seed=i) for i in range(count)])


@pytest.mark.parametrize("name", [*ELEMENTWISE, "Concatenate"])
def test_integers(name):
    same(name, {}, [np.array([[1, 2, 3]], "int32"), np.array([[3, 1, 2]], "int32")])
    symbolic = getattr(layers, name)()([layers.Input((3,), dtype="int32"), layers.Input((3,), dtype="int32")])
    assert symbolic.dtype == ("float32" if name == "Average" else "int32")


@pytest.mark.parametrize("axis", [-1, 1, 2, -2, 0])
def test_concatenate(axis):
    shapes = [[2, 3, 4], [2, 3, 4], [2, 3, 4]]
    shapes[1][axis] = 5
    same("Concatenate", {"axis": axis}, [normal(*s, seed=i) for i, s in enumerate(shapes)])


DOTS = [
    ({"axes": 1}, (2, 4), (2, 4)),
    ({"axes": -1}, (2, 4, 3), (2, 5, 3)),
    ({"axes": 1}, (2, 4, 3), (2, 4, 5)),
    ({"axes": (2, 1)}, (2, 4, 3), (2, 3, 5, 6)),
    ({"axes": [1, 2]}, (2, 3), (2, 5, 3)),
    ({"axes": (3, 1), "normalize": True}, (2, 5, 4, 3), (2, 3, 7)),
    ({"axes": -1, "normalize": True}, (2, 4), (2, 4)),
]


@pytest.mark.parametrize(("kwargs", "first", "second"), DOTS, ids=str)
def test_dot(kwargs, first, second):
    same("Dot", kwargs, [normal(*first), normal(*second, seed=1)])
    same_shape("Dot", kwargs, [(None, *first[1:]), (None, *second[1:])])


def test_normalized_dot_of_a_zero_vector():
    """Keras's gradient is nan there."""
    x = torch.zeros(1, 3, requires_grad=True)
    y = layers.Dot(axes=1, normalize=True)([x, torch.tensor(normal(1, 3))])
    y.sum().backward()
    assert y.item() == 0
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_shapes(name):
    same_shape(name, {}, [(None, 3), (None, 3)])
    same_shape(name, {}, [(None, 1, 3), (None, 4, 1)])
    same_shape(name, {}, [(None, 3), (None, 4, 3)])
    same_shape(name, {}, [(None, None, 3), (None, None, 3)])
    same_shape(name, {}, [(4, 3), (4, 3)])


@pytest.mark.parametrize("axis", [-1, 1])
def test_concatenate_shapes(axis):
    same_shape("Concatenate", {"axis": axis}, [(None, 3, 4), (None, 3, 4)])
    same_shape("Concatenate", {"axis": axis}, [(None, None, 4), (None, None, 4)])


def test_an_axis_known_from_one_input_is_known():
    """Keras says None here, although no size but 4 can come out."""
    pair = [layers.Input((None, 3)), layers.Input((4, 3))]
    assert layers.add(pair).shape == (None, 4, 3)
    assert layers.concatenate(pair).shape == (None, 4, 6)
    assert layers.concatenate(pair, axis=1).shape == (None, None, 3)
    assert layers.Flatten()(layers.add(pair)).shape == (None, 12)


STEPS = np.ones((2, 3, 4), "float32")
STEPS[0, 0] = STEPS[1, 2] = 0
OTHER = np.ones((2, 3, 4), "float32")
OTHER[0, 1] = 0


@pytest.mark.parametrize(
    ("name", "kwargs"),
    [*((n, {}) for n in ELEMENTWISE), *(("Concatenate", {"axis": a}) for a in (1, -1, 0)), ("Dot", {"axes": 2})],
)
@pytest.mark.parametrize("masked", [(True, True), (True, False), (False, False)], ids=str)
def test_masks(name, kwargs, masked):
    def run(library):
        inputs = [
            library.Masking()(torch.tensor(x)) if m else torch.tensor(x) for x, m in zip((STEPS, OTHER), masked, strict=True)
        ]
        return getattr(library, name)(**kwargs)(inputs)

    mine, other = run(layers), run(keras.layers)
    close(mine, other)
    close(getattr(mine, "_keras_mask", None), getattr(other, "_keras_mask", None))


@pytest.mark.parametrize("name", SEVERAL)
@pytest.mark.parametrize("masked", [(True, True, True), (True, False, True)], ids=str)
def test_masked_steps_that_are_not_zero(name, masked):
    def run(library):
        inputs = [torch.tensor(normal(2, 4, 3, seed=i)) for i in range(3)]
        for i, x in enumerate(inputs):
            if masked[i]:
                x._keras_mask = torch.tensor(normal(2, 4, seed=i + 5) > 0)
        return getattr(library, name)()(inputs)

    close(run(layers), run(keras.layers))


def test_masks_in_a_model():
    from hornbeam.models import Model

    a, b = layers.Input((3, 4)), layers.Input((3, 4))
    joined = layers.concatenate([layers.Masking()(a), layers.Masking()(b)], axis=1)
    assert joined._keras_mask.shape == (None, 6)
    out = Model([a, b], joined)([torch.tensor(STEPS), torch.tensor(OTHER)])
    assert out._keras_mask.tolist() == [[False, True, True, True, False, True], [True, True, False, True, True, True]]


@pytest.mark.parametrize("name", ["add", "subtract", "multiply", "average", "maximum", "minimum", "concatenate", "dot"])
def test_functional_forms(name):
    inputs = [torch.tensor(normal(2, 3)), torch.tensor(normal(2, 3, seed=1))]
    close(getattr(layers, name)(inputs), getattr(keras.layers, name)(inputs))
    assert getattr(layers, name)([layers.Input((3,)), layers.Input((3,))], name="joined").node.name == "joined"


MISTAKES = [
    ("Add", {}, torch.ones(2, 3), ValueError, r"'merger' \(Add\) takes a list .* Received: one tensor of shape"),
    ("Add", {}, [], ValueError, r"'merger' \(Add\) takes a list of at least 1 tensor\. Received: an empty list"),
    ("Add", {}, {"a": torch.ones(2, 3)}, ValueError, r"'merger' \(Add\) .* a dict with keys \['a'\]"),
    ("Concatenate", {}, torch.ones(2, 3), ValueError, r"'merger' \(Concatenate\) takes a list .* one tensor of shape \(2, 3\)"),
    ("Subtract", {}, [torch.ones(2, 3)] * 3, ValueError, r"exactly 2 tensors\. Received: 3"),
    ("Dot", {"axes": 1}, [torch.ones(2, 3)], ValueError, r"exactly 2 tensors\. Received: 1"),
    ("Add", {}, [torch.ones(2, 3), torch.ones(2, 4)], ValueError, r"broadcast, but axis -1 .*\(2, 3\) and \(2, 4\)"),
    ("Add", {}, [torch.ones(2, 3), torch.ones(3, 3)], ValueError, r"same batch size\. Received: shapes \(2, 3\) and \(3, 3\)"),
    (
        "Concatenate", {"axis": 1}, [torch.ones(2, 3, 4), torch.ones(2, 3, 5)], ValueError,
        r"'merger' \(Concatenate\) joins along axis 1, .* axis 2 does not\. Received: shapes \(2, 3, 4\) and \(2, 3, 5\)",
    ),
    ("Concatenate", {}, [torch.ones(2, 3, 4), torch.ones(2, 3)], ValueError, r"same rank\. .*\(2, 3, 4\) and \(2, 3\)"),
    ("Concatenate", {"axis": 5}, [torch.ones(2, 3), torch.ones(2, 3)], ValueError, r"axis=5, but its inputs have axes -2 to 1"),
    ("Dot", {"axes": 1}, [torch.ones(2, 3), torch.ones(2, 4)], ValueError, r"sums over axes 1 and 1, .*differ \(3 and 4\)"),
    ("Dot", {"axes": 0}, [torch.ones(2, 3), torch.ones(2, 3)], ValueError, r"axis 0, the batch"),
    ("Dot", {"axes": 4}, [torch.ones(2, 3), torch.ones(2, 3)], ValueError, r"axes=4, which its inputs do not all have"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "kwargs", "inputs", "error", "message"), MISTAKES)
def test_mistakes(name, kwargs, inputs, error, message):
    with pytest.raises(error, match=message):
        getattr(layers, name)(name="merger", **kwargs)(inputs)


@pytest.mark.parametrize(
    ("name", "inputs"), [("Add", torch.ones(2, 3)), ("Subtract", [torch.ones(2, 3)] * 3), ("Concatenate", torch.ones(2, 3))]
)
def test_mistakes_after_a_good_call(name, inputs):
    layer = getattr(layers, name)()
    layer([torch.ones(2, 3), torch.ones(2, 3)])
    with pytest.raises(ValueError, match="takes a list of"):
        layer(inputs)


@pytest.mark.parametrize(("axes", "error"), [(1.5, TypeError), ((1, 2, 3), ValueError), (("a", 2), ValueError)])
def test_bad_axes_of_dot(axes, error):
    with pytest.raises(error, match="`axes` must be an integer or a pair of integers"):
        layers.Dot(axes=axes)
