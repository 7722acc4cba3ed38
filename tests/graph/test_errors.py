"""Whose words an error has: a user's own stay as they are, with notes; torch's get a first line that helps."""

from __future__ import annotations

import traceback

import pytest
import torch
from torch import nn

from hornbeam.graph.errors import origin
from hornbeam.layers import Conv2D, Dense, Flatten, Input, Layer, MaxPooling2D
from hornbeam.models import Model, Sequential
from hornbeam.models.any_module import fit

torch.set_num_threads(1)
HERE = __file__


def missing_attribute(layer, x):
    return x.nope


def none_plus_tensor(layer, x):
    return None + x


def a_name_is_called(layer, x):
    return layer.name(x)


def a_list_is_too_short(layer, x):
    return [x][1]


def an_axis_that_is_not_there(layer, x):
    return x.shape[7]


def too_many_to_unpack(layer, x):
    _, _, third = x.shape
    return third


def wrong_arguments(layer, x):
    return missing_attribute(layer, x, 3)


def no_number(layer, x):
    return x * int("three")


def a_misspelt_activation(layer, x):
    return Dense(2, activation="bogus")(x)


def own_words(layer, x):
    raise RuntimeError("my own words")


def own_cause(layer, x):
    try:
        return {}["key"]
    except KeyError as error:
        raise ValueError("no such table") from error


BUGS = [
    (missing_attribute, AttributeError, "'Tensor' object has no attribute 'nope'"),
    (none_plus_tensor, TypeError, "unsupported operand type(s) for +: 'NoneType'"),
    (a_name_is_called, TypeError, "'str' object is not callable"),
    (a_list_is_too_short, IndexError, "list index out of range"),
    (an_axis_that_is_not_there, IndexError, "tuple index out of range"),
    (too_many_to_unpack, ValueError, "not enough values to unpack (expected 3, got 2)"),
    (wrong_arguments, TypeError, "missing_attribute() takes 2 positional arguments but 3 were given"),
    (no_number, ValueError, "invalid literal for int()"),
    (a_misspelt_activation, ValueError, "Unknown activation: 'bogus'."),
    (own_words, RuntimeError, "my own words"),
    (own_cause, ValueError, "no such table"),
]


def bug(function):
    return type("Bug", (Layer,), {"call": lambda self, x: function(self, x)})(name="bug")


def in_a_subclass(function):
    class Net(Model):
        def __init__(self):
            super().__init__(name="net")
            self.bug = bug(function)

        def call(self, x):
            return self.bug(x)

    return Net()


WAYS = {
    "built": lambda f: bug(f)(Input((3,))),
    "called": lambda f: bug(f)(torch.ones(2, 3)),
    "sequential": lambda f: Sequential([bug(f)])(torch.ones(2, 3)),
    "subclassed": lambda f: in_a_subclass(f)(torch.ones(2, 3)),
    "built in": lambda f: in_a_subclass(f)(Input((3,))),
}


def caught_from(function, *args):
    with pytest.raises(Exception) as caught:  # the caller says which
        function(*args)
    return caught.value


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("function", "kind", "words"), BUGS, ids=[f.__name__ for f, *_ in BUGS])
def test_a_users_own_error_keeps_type_words_and_lines(function, kind, words, way):
    raised = caught_from(WAYS[way], function)
    assert type(raised) is kind
    assert str(raised).startswith(words)
    assert "'bug'" in "\n".join(raised.__notes__)
    assert function.__name__ in [f.name for f in traceback.extract_tb(raised.__traceback__)]


@pytest.mark.parametrize("way", WAYS)
def test_the_cause_that_a_user_gave_stays(way):
    assert isinstance(caught_from(WAYS[way], own_cause).__cause__, KeyError)


def test_an_input_that_does_not_fit_is_a_note_on_a_users_own_error():
    class Picky(Layer):
        def compute_output_shape(self, shape):
            return shape

        def call(self, x):
            if x.shape[-1] != 3:
                raise ValueError("three, please")
            return x

    raised = caught_from(Sequential([Input((3,)), Picky(name="picky")], name="net"), torch.ones(2, 4))
    assert str(raised) == "three, please"
    assert any("Model 'net' expects shape (None, 3)" in note for note in raised.__notes__)


@pytest.mark.parametrize(
    ("make", "whose"),
    [
        (lambda: torch.ones(2) @ torch.ones(3), "torch"),
        (lambda: torch.ones(2)[5], "torch"),
        (lambda: torch.nn.Flatten().nope, "user"),
        (lambda: [][0], "user"),
        (lambda: Dense(-1), "hornbeam"),
    ],
)
def test_whose_words_an_error_has(make, whose):
    raised = caught_from(make)
    assert origin(raised) == whose
    raised.with_traceback(None)
    assert origin(raised) == whose


class Multiplies(Layer):
    def call(self, x):
        return x @ torch.ones(9, 2)


class Picks(Layer):
    def call(self, x):
        return x[0, 9]


class Folds(Layer):
    def call(self, x):
        return x.reshape(x.shape[0], 7)


@pytest.mark.parametrize(
    ("layer", "shape", "words"),
    [
        (Multiplies, (4,), "(Nonex4 and 9x2)"),
        (Picks, (4,), "index 9 is out of bounds for dimension 1 with size 4"),
        (Folds, (4,), "shape '[None, 7]' is invalid for input of size 4*None"),
        (Multiplies, (None, 4), ": "),
    ],
)
def test_an_error_of_a_build_does_not_tell_the_sizes_of_stand_ins(layer, shape, words):
    raised = caught_from(layer(name="own"), Input(shape))
    assert words in str(raised)
    assert str(raised).startswith(f"Layer 'own' ({layer.__name__}) cannot take shape {(None, *shape)}")
    assert f"called on shape {(None, *shape)}." in "\n".join(raised.__notes__)
    assert raised.__context__ is None


class Takes(Layer):
    def call(self):
        return 1


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Model(inputs=Input((3,)), output=Input((3,))), "Did you mean 'outputs'?"),
        (lambda: Dense(Input((3,))), "shape (None, 3) and dtype float32. Make the layer before you call it: Dense(units)(x)"),
        (lambda: Takes()(torch.ones(2, 3)), "has a `call` that takes no input. Write `def call(self, x)`."),
        (lambda: Dense(2).set_weights([torch.ones(3, 2)]), "It has no weights yet: call it on inputs, or build(input_shape)"),
        (lambda: Conv2D(3, 5)(Input((3, 3, 1))), "padding='same' lets it reach over the edges"),
        (lambda: Conv2D(3, 5, padding="same")(Dense(4)(Input((3,)))), "It reads (batch, height, width, channels): put it before"),
        (lambda: MaxPooling2D()(Flatten()(Input((3, 3, 1)))), "It reads (batch, height, width, channels): put it before"),
    ],
)
def test_an_error_says_the_way_out(make, words):
    assert words in str(caught_from(make))


def test_a_plain_module_that_is_fitted_is_named_by_its_own_paths():
    net = nn.Sequential(nn.Sequential(nn.Linear(4, 8), nn.Linear(9, 2)))
    raised = caught_from(lambda: fit(net, torch.ones(4, 4), torch.ones(4, 2), loss="mse", verbose=0))
    assert str(raised).startswith("Layer '0/1' (Linear) cannot take shape (4, 8)")
