"""What newcomers get wrong when they build, call and run models: what the error says.

Each row names the mistake, the type of the error, and pieces that its first line and its notes must hold: the layer with its
path, both shapes, what made the offending input, the line of the user's source, and what to do.
"""

from __future__ import annotations

import pickle
import traceback

import numpy as np
import pytest
import torch
from torch import nn

import hornbeam
from hornbeam.layers import (
    GRU,
    LSTM,
    Add,
    BatchNormalization,
    Bidirectional,
    Concatenate,
    Conv1D,
    Conv2D,
    Dense,
    Dot,
    Embedding,
    Flatten,
    GlobalAveragePooling2D,
    Input,
    Layer,
    MaxPooling2D,
    MultiHeadAttention,
    Reshape,
    TimeDistributed,
)
from hornbeam.models import Model, Sequential
from hornbeam.utils import plot_model

torch.set_num_threads(1)
HERE = __file__
MISTAKES = []


def mistake(error, *lead, notes=(), rest=()):
    """Notes a mistake: the type of its error, what the first line, the whole message and the notes must say."""
    return lambda function: MISTAKES.append((function, error, lead, rest, notes)) or function


class Subclassed(Model):
    def __init__(self):
        super().__init__(name="net")
        self.encoder = Sequential([Dense(4, name="wide"), Dense(5, name="narrow")], name="encoder")
        self.head = nn.Linear(6, 2)

    def call(self, x):
        return self.head(self.encoder(x))


def image_model():
    x = Input((8, 8, 3), name="image")
    return Model(x, Dense(2, name="out")(Flatten(name="flat")(Conv2D(4, 3, name="conv")(x))), name="net")


def two_inputs():
    a, b = Input((3,), name="left"), Input((4,), name="right")
    return Model([a, b], Dense(2, name="out")(Concatenate(name="both")([a, b])), name="net")


def trained(model):
    model.compile("sgd", "mse")
    return model


# -- while a model is built


@mistake(ValueError, "Layer 'out' (Dense) expects size 4 on axis -1", "shape (None, 3)", "built for inputs of shape (None, 4)",
         notes=("Layer 'out' was called at {line}", "made by 'few' at {line}"))  # fmt: skip
def a_layer_is_called_on_other_units():
    out = Dense(2, name="out")
    x = Input((8,))
    out(Dense(4, name="many")(x))
    out(Dense(3, name="few")(x))


@mistake(ValueError, "Layer 'out' (Dense) expects size 144", "(None, 6, 6, 4)", "Is a Flatten or a pooling layer missing",
         notes=("made by 'conv' at {line}",))  # fmt: skip
def flatten_is_missing():
    out = Dense(2, name="out")
    h = Conv2D(4, 3, name="conv")(Input((8, 8, 3)))
    out(Flatten()(h))
    out(h)


@mistake(RuntimeError, "Layer 'Linear' (Linear) cannot take shape (None, 6, 6, 4)", "Is a Flatten missing", "6 x 6 x 4 = 144",
         notes=("made by 'conv' at {line}",))  # fmt: skip
def flatten_is_missing_before_a_torch_layer():
    nn.Linear(144, 2)(Conv2D(4, 3, name="conv")(Input((8, 8, 3))))


@mistake(RuntimeError, "Layer 'Linear' (Linear) cannot take shape (None, 5)", "(Nonex5 and 4x2)", "make the units before it 4",
         notes=("Layer 'Linear' was called at {line}", "made by 'hidden' at {line}"))  # fmt: skip
def a_torch_layer_has_other_features():
    nn.Linear(4, 2)(Dense(5, name="hidden")(Input((3,))))


@mistake(ValueError, "Layer 'both' (Concatenate)", "(None, 3, 4) and (None, 5, 6)", notes=("made by 'a' at {line}",))
def shapes_to_be_joined_differ():
    Concatenate(name="both")([Input((3, 4), name="a"), Input((5, 6), name="b")])


@mistake(ValueError, "Layer 'sum' (Add)", "(None, 3) and (None, 4)", notes=("made by 'short' at {line}",))
def shapes_to_be_added_differ():
    x = Input((8,))
    Add(name="sum")([Dense(3, name="short")(x), Dense(4, name="long")(x)])


@mistake(RuntimeError, "Function 'add' cannot take shapes (None, 3) and (None, 5)", "Axis -1 differs, 3 and 5",
         notes=("Function 'add' was called at {line}", "made by 'hidden' at {line}"))  # fmt: skip
def shapes_to_be_added_by_plus_differ():
    _ = Input((3,)) + Dense(5, name="hidden")(Input((4,)))


@mistake(RuntimeError, "Function 'matmul' cannot take shapes (None, 3) and (4, 2)", "last axis of the first (3)",
         notes=("Function 'matmul' was called at {line}",))  # fmt: skip
def a_product_with_a_tensor_of_another_size():
    _ = Input((3,)) @ torch.ones(4, 2)


@mistake(RuntimeError, "Function 'cat' cannot take shapes (None, 3, 4) and (None, 5, 4)", "Sizes of tensors must match",
         notes=("made by 'a' at {line}",))  # fmt: skip
def torch_cat_along_the_wrong_axis():
    torch.cat([Input((3, 4), name="a"), Input((5, 4), name="b")], -1)


@mistake(ValueError, "Layer 'conv' (Conv2D) expects an input of rank 4", "shape (None, 4)", notes=("made by 'flat' at {line}",))
def a_convolution_after_a_flatten():
    Conv2D(4, 3, name="conv")(Flatten(name="flat")(Input((2, 2, 1))))


@mistake(ValueError, "Layer 'conv' (Conv2D) expects an input of rank 4", "(None, 28, 28)", "channel axis missing", "x[..., None]")
def grey_images_without_channels():
    Conv2D(4, 3, name="conv")(Input((28, 28)))


@mistake(ValueError, "Conv2D layer 'conv': its window of (5, 5) does not fit", "(None, 4, 4, 1)", notes=("called at {line}",))
def a_window_larger_than_the_image():
    Conv2D(4, 5, name="conv")(Input((4, 4, 1)))


@mistake(ValueError, "Layer 'conv' (Conv2D) expects size 3 on axis 3", "(None, 3, 32, 32)", "Channels seem to be on axis 1",
         "data_format='channels_first'", "x.permute(0, 2, 3, 1)")  # fmt: skip
def channels_first_into_channels_last():
    conv = Conv2D(4, 3, name="conv")
    conv(Input((32, 32, 3)))
    conv(Input((3, 32, 32)))


@mistake(ValueError, "Conv2D layer 'conv'", "(5, 5) does not fit", "(None, 3, 32, 32)", "data_format='channels_first'")
def channels_first_and_a_large_window():
    Conv2D(4, 5, name="conv")(Input((3, 32, 32)))


@mistake(RuntimeError, "Layer 'Conv2d' (Conv2d) cannot take shape (None, 32, 32, 3)", "channels first: x.permute(0, 3, 1, 2)",
         "Hornbeam's Conv2D")  # fmt: skip
def channels_last_into_a_torch_convolution():
    nn.Conv2d(3, 8, 3)(Input((32, 32, 3)))


@mistake(ValueError, "Layer 'lstm' (LSTM) expects an input of rank 3", "(None, 4)", "return_sequences=True",
         notes=("made by 'hidden' at {line}",))  # fmt: skip
def an_lstm_on_vectors():
    LSTM(4, name="lstm")(Dense(4, name="hidden")(Input((16,))))


@mistake(ValueError, "Layer 'second' (LSTM) expects an input of rank 3", "(None, 4)", "return_sequences=True",
         notes=("made by 'first' at {line}",))  # fmt: skip
def stacked_lstms_without_sequences():
    LSTM(4, name="second")(LSTM(4, name="first")(Input((5, 3))))


@mistake(ValueError, "Layer 'gru' (GRU) expects size 3 on axis -1", "(None, 5, 6)", "(None, 5, 3)")
def a_recurrent_layer_on_other_features():
    gru = GRU(4, name="gru")
    gru(Input((5, 3)))
    gru(Input((5, 6)))


@mistake(ValueError, "Layer 'norm' (BatchNormalization) expects size 3", "(None, 6)")
def a_normalization_on_other_features():
    norm = BatchNormalization(name="norm")
    norm(Input((3,)))
    norm(Input((6,)))


@mistake(ValueError, "Layer 'pool' (MaxPooling2D) expects an input of rank 4", "(None, 5, 3)")
def a_pooling_layer_on_sequences():
    MaxPooling2D(name="pool")(Input((5, 3)))


@mistake(ValueError, "Reshape layer 'fold'", "(4 values)", "(5 values)", notes=("made by 'hidden' at {line}",))
def a_reshape_to_another_size():
    Reshape((5,), name="fold")(Dense(4, name="hidden")(Input((3,))))


@mistake(ValueError, "Layer 'dot' (Dot)", "(None, 3) and (None, 4)")
def a_dot_of_other_sizes():
    Dot(1, name="dot")([Input((3,)), Input((4,))])


@mistake(TypeError, "Layer 'attention' (MultiHeadAttention) was called without `value`", "query, value, key")
def attention_without_a_value():
    MultiHeadAttention(2, 4, name="attention")(Input((5, 8)))


@mistake(ValueError, "Dense layer 'out' needs a known last axis", "(None, None)", notes=("made by 'words' at {line}",))
def a_dense_layer_on_an_unknown_axis():
    Dense(3, name="out")(Input((None,), name="words"))


@mistake(ValueError, "Layer 'out' (Dense) expects one tensor", "a dict with keys 'a', 'b'", "x['a']")
def a_dict_in_place_of_a_tensor():
    Dense(2, name="out")({"a": Input((3,)), "b": Input((3,))})


@mistake(ValueError, "Layer 'out' (Dense) expects 1 input(s), but it was given 2", "Concatenate()")
def a_list_in_place_of_a_tensor():
    Dense(2, name="out")([Input((3,)), Input((3,))])


@mistake(ValueError, "The graph is disconnected: input 'b'", "layer 'sum' needs it at {line}", "Add it to `inputs`")
def an_input_is_forgotten():
    a, b = Input((3,), name="a"), Input((3,), name="b")
    Model(a, Add(name="sum")([a, b]))


@mistake(TypeError, "`outputs` of a model must be symbolic tensors", "Tensor")
def an_output_that_is_no_symbol():
    Model(Input((3,)), torch.ones(3))


@mistake(TypeError, "a choice", "torch.where")
def an_if_on_a_symbol():
    x = Input((3,))
    if x.sum() > 0:
        pass


@mistake(TypeError, "Sequential 'net' takes layers", "Make an instance: Dense(...)")
def a_class_in_place_of_a_layer():
    Sequential([Dense], name="net")


@mistake(RuntimeError, "Layer 'Sequential/2' (Linear) cannot take shape (None, 4)", "It takes 5 features and was given 4",
         notes=("called at {line}",))  # fmt: skip
def torch_layers_in_a_sequential_do_not_match():
    Sequential([Input((3,)), nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(5, 2))])


@mistake(RuntimeError, "Layer 'head' (Linear) cannot take shape (None, 5)", "make the units before it 6",
         notes=("In layer 'net' (Subclassed)", "Layer 'net' was called at {line}"))  # fmt: skip
def a_subclassed_model_does_not_fit_when_it_is_built_in():
    Subclassed()(Input((3,)))


@mistake(RuntimeError, "Layer 'fold' (Fold) cannot take shape (None, 4)", "shape '[None, 7]' is invalid for input of size 4*None",
         notes=("made by 'hidden' at {line}",))  # fmt: skip
def an_own_layer_folds_to_another_size():
    class Fold(Layer):
        def call(self, x):
            return x.reshape(x.shape[0], 7)

    Sequential([Input((3,)), Dense(4, name="hidden"), Fold(name="fold")])


# -- when a model or layer is called


@mistake(ValueError, "Model 'net' expects shape (None, 8, 8, 3)", "given shape (8, 8, 3)", "batch axis missing", "x[None]",
         rest=("Layer 'conv' (Conv2D) expects an input of rank 4",), notes=("made by 'image' at {line}",))  # fmt: skip
def an_image_without_a_batch():
    image_model()(torch.ones(8, 8, 3))


@mistake(ValueError, "expects shape (None, 4)", "given shape (4,)", "x[None]")
def a_vector_without_a_batch():
    Sequential([Input((4,)), Dense(2, name="out")])(torch.ones(4))


@mistake(ValueError, "Model 'net' expects shape (None, 8, 8, 3)", "given shape (2, 3, 8, 8)", "Channels seem to be on axis 1",
         "x.permute(0, 2, 3, 1)")  # fmt: skip
def torch_images_into_a_keras_model():
    image_model()(torch.ones(2, 3, 8, 8))


@mistake(ValueError, "Model 'net' expects shape (None, 4) for its input 'right'", "given shape (1, 5)",
         rest=("Layer 'out' (Dense) expects size 7",))  # fmt: skip
def one_of_two_inputs_has_another_size():
    two_inputs()([torch.ones(1, 3), torch.ones(1, 5)])


@mistake(ValueError, "inputs of model 'net' hold different numbers of samples: 'left' 2, 'right' 1",
         rest=("Layer 'both' (Concatenate) cannot take shapes (2, 3) and (1, 4)",))  # fmt: skip
def inputs_of_different_lengths():
    two_inputs()([torch.ones(2, 3), torch.ones(1, 4)])


@mistake(ValueError, "Model 'net' takes 2 input(s) ('left', 'right')", "Received: 1")
def too_few_inputs():
    two_inputs()([torch.ones(1, 3)])


@mistake(ValueError, "Model 'net' takes 2 input(s)", "Received: 3")
def too_many_inputs():
    two_inputs()([torch.ones(1, 3)] * 3)


@mistake(ValueError, "Model 'net' is missing input 'right'", "'left', 'rigth'")
def a_key_is_misspelt():
    two_inputs()({"left": torch.ones(1, 3), "rigth": torch.ones(1, 4)})


@mistake(TypeError, "Layer 'out' (Dense)", "dtype <U1", "Turn text into integers first")
def text_into_a_dense_layer():
    Dense(2, name="out")(np.array([["a"]]))


@mistake(TypeError, "takes tensors or arrays", "'hello' (str)")
def a_string_into_a_model():
    Sequential([Input((1,)), Dense(2)])("hello")


@mistake(TypeError, "Layer 'out' (Dense) is called on a tensor or an array", "None")
def none_into_a_layer():
    Dense(2, name="out")(None)


@mistake(IndexError, "Embedding layer 'words' has input_dim=10", "from 11 to 11",
         notes=("Layer 'words' was called at {line} when the model was made",))  # fmt: skip
def ids_that_are_too_large():
    Sequential([Input((4,), dtype="int64"), Embedding(10, 4, name="words")])(torch.full((2, 4), 11))


@mistake(RuntimeError, "Layer 'embedding' (Embedding) cannot take shape (2, 4)", "integer ids: x.long()",
         notes=("called at {line} when the model was made",))  # fmt: skip
def float_ids_into_a_torch_embedding():
    x = Input((4,), dtype="int64")
    Model(x, nn.Embedding(10, 3)(x))(torch.rand(2, 4))


@mistake(RuntimeError, "Layer 'head/conv' (Conv2d) cannot take shape (1, 3, 8, 8)", "do not go together", "x.float()")
def integer_images_into_a_torch_convolution():
    class Head(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 2, 3)

        def forward(self, x):
            return self.conv(x)

    class Net(Model):
        def __init__(self):
            super().__init__()
            self.head = Head()

        def call(self, x):
            return self.head(x)

    Net()(torch.zeros(1, 3, 8, 8, dtype=torch.uint8))


@mistake(RuntimeError, "Layer 'head' (Linear) cannot take shape (2, 5)", "(2x5 and 6x2)", "make the units before it 6",
         notes=("In layer 'net' (Subclassed), called on Tensor of shape (2, 3)",
                "failed is that of layer 'head' (Linear)"))  # fmt: skip
def a_subclassed_model_does_not_fit_together():
    Subclassed()(torch.ones(2, 3))


@mistake(ValueError, "Layer 'wide' (Dense) expects size 3 on axis -1", "(2, 7)")
def a_subclassed_model_on_other_features():
    class Plain(Model):
        def __init__(self):
            super().__init__()
            self.wide = Dense(4, name="wide")

        def call(self, x):
            return self.wide(x)

    model = Plain()
    model(torch.ones(2, 3))
    model(torch.ones(2, 7))


@mistake(RuntimeError, "Function 'add' cannot take shapes (1, 3, 4) and (1, 5, 4)", "Axis -2 differs, 3 and 5",
         notes=("Function 'add' was called at {line} when the model was made",
                "shape (1, 3, 4), where (None, None, 4) was foreseen"))  # fmt: skip
def two_sequences_of_different_lengths():
    a, b = Input((None, 4)), Input((None, 4))
    Model([a, b], a + b)([torch.ones(1, 3, 4), torch.ones(1, 5, 4)])


@mistake(RuntimeError, "Function 'inner/add' cannot take shapes (2, 5, 4) and (1, 3, 4)",
         notes=("Function 'add' was called at {line}", "In layer 'inner' (Functional)",
                "Layer 'inner' was called at {line}"))  # fmt: skip
def a_function_inside_a_nested_model():
    h, x = Input((None, 4)), Input((None, 4))
    Model(x, Model(h, torch.relu(h) + torch.ones(1, 3, 4), name="inner")(x))(torch.ones(2, 5, 4))


@mistake(ValueError, "Layer 'out' (Dense) expects 1 input(s), but it was given 2", "call the layer on each")
def a_list_into_a_built_layer():
    layer = Dense(2, name="out")
    layer(torch.ones(1, 3))
    layer([torch.ones(1, 3), torch.ones(1, 3)])


@mistake(TypeError, "layer 'out'", "'trainnig'", "Did you mean 'training'")
def a_misspelt_argument():
    Dense(2, name="out")(torch.ones(1, 3), trainnig=True)


@mistake(ValueError, "TimeDistributed layer 'each' needs an input of rank 3 or more", "(None, 3)")
def time_distributed_on_vectors():
    TimeDistributed(Dense(2), name="each")(Input((3,)))


@mistake(ValueError, "expects an input of rank 3", "(None, 3)")
def bidirectional_on_vectors():
    Bidirectional(LSTM(3), name="both_ways")(Input((3,)))


@mistake(ValueError, "Layer 'conv' (Conv1D) expects an input of rank 3", "(None, 8, 8, 3)", "Conv2D")
def a_convolution_of_another_rank():
    Conv1D(4, 3, name="conv")(Input((8, 8, 3)))


@mistake(ValueError, "Layer 'pool' (GlobalAveragePooling2D) expects an input of rank 4", "(None, 8)")
def a_global_pooling_after_a_dense_layer():
    GlobalAveragePooling2D(name="pool")(Dense(8)(Input((3,))))


# -- in fit, evaluate and predict


@mistake(ValueError, "Model 'net' expects shape (None, 3)", "given shape (8, 5)", rest=("Layer 'hidden' (Dense) expects size 3",),
         notes=("Layer 'hidden' was called at {line} when the model was made",))  # fmt: skip
def fit_on_other_features():
    model = trained(Sequential([Input((3,)), Dense(4, name="hidden"), Dense(1)], name="net"))
    model.fit(np.ones((8, 5), "float32"), np.ones((8, 1), "float32"), verbose=0)


@mistake(ValueError, "Model 'net' expects shape (None, 8, 8, 3)", "batch axis missing")
def fit_on_one_image():
    trained(image_model()).fit(np.ones((8, 8, 3), "float32"), np.ones((8, 2), "float32"), verbose=0)


@mistake(RuntimeError, "Layer 'head' (Linear) cannot take shape (8, 5)", "make the units before it 6",
         notes=("In layer 'net' (Subclassed)",))  # fmt: skip
def fit_of_a_subclassed_model():
    trained(Subclassed()).fit(np.ones((8, 5), "float32"), np.ones((8, 2), "float32"), verbose=0)


@mistake(ValueError, "Model 'net' expects shape (None, 8, 8, 3)", "Channels seem to be on axis 1")
def predict_on_torch_images():
    image_model().predict(np.ones((2, 3, 8, 8), "float32"), verbose=0)


@mistake(ValueError, "Model 'net' expects shape (None, 4) for its input 'right'", "(4, 6)")
def evaluate_with_one_wrong_input():
    data = [np.ones((4, 3), "float32"), np.ones((4, 6), "float32")]
    trained(two_inputs()).evaluate(data, np.ones((4, 2), "float32"), verbose=0)


# -- what each must do


def caught_from(function):
    with pytest.raises(Exception) as caught:  # the table says which
        function()
    return caught.value


def lines_of(function):
    first = function.__code__.co_firstlineno
    return {n for _, _, n in function.__code__.co_lines() if n is not None and n >= first}


def told(text, function, known):
    """Whether a text stands in another one; "{line}" stands for any line of the function, or of the model it makes."""
    if "{line}" not in text:
        return text in known
    helpers = (function, image_model, two_inputs)
    return any(text.replace("{line}", f"{HERE}:{n}") in known for f in helpers for n in lines_of(f))


def test_there_are_many():
    assert len(MISTAKES) >= 40
    assert len({function.__name__ for function, *_ in MISTAKES}) == len(MISTAKES)


@pytest.mark.parametrize(("function", "error", "lead", "rest", "notes"), MISTAKES, ids=[m[0].__name__ for m in MISTAKES])
def test_the_error_says_what_was_wrong(function, error, lead, rest, notes):
    raised = caught_from(function)
    assert isinstance(raised, error)
    first = str(raised).split("\n", 1)[0]
    for piece in lead:
        assert told(piece, function, first), (piece, first)
    for piece in rest:
        assert piece in str(raised)
    known = "\n".join(getattr(raised, "__notes__", ()))
    for piece in notes:
        assert told(piece, function, known), (piece, known)


@pytest.mark.parametrize("function", [m[0] for m in MISTAKES], ids=[m[0].__name__ for m in MISTAKES])
def test_the_traceback_shows_the_users_lines_only(function):
    frames = traceback.extract_tb(caught_from(function).__traceback__)
    inside = [f for f in frames if "hornbeam/src" in f.filename or "/src/hornbeam/" in f.filename or "/torch/" in f.filename]
    assert inside == []
    assert frames[-1].filename == HERE


def test_the_filter_can_be_switched_off():
    def frames():
        return traceback.extract_tb(caught_from(fit_on_other_features).__traceback__)

    filtered = frames()
    hornbeam.config.disable_traceback_filtering()
    try:
        assert not hornbeam.config.is_traceback_filtering_enabled()
        whole = frames()
    finally:
        hornbeam.config.enable_traceback_filtering()
    assert any(f.name == "fit" and "training" in f.filename for f in whole)
    assert len(whole) > len(filtered) + 4
    assert len(frames()) == len(filtered)


def test_the_lines_of_own_layers_stay():
    class Mine(Layer):
        def call(self, x):
            return x @ torch.ones(9, 2)

    raised = caught_from(lambda: Sequential([Mine(name="mine")])(torch.ones(2, 3)))
    assert [f.name for f in traceback.extract_tb(raised.__traceback__)][-1] == "call"


def test_words_that_a_user_raised_stay_as_they_are():
    class Mine(Layer):
        def call(self, x):
            raise RuntimeError("my own words")

    raised = caught_from(lambda: Sequential([Mine(name="mine")])(torch.ones(2, 3)))
    assert str(raised) == "my own words"
    assert "In layer 'mine' (Mine), called on shape (None, 3)." in raised.__notes__


def test_an_input_that_does_not_fit_is_both_errors():
    x = Input((5,))
    model = Model(x, x @ torch.ones(5, 2))
    with pytest.raises(ValueError, match=r"expects shape \(None, 5\) for its input, but was given shape \(2, 4\)"):
        model(torch.ones(2, 4))
    with pytest.raises(RuntimeError, match="mat1 and mat2 shapes cannot be multiplied"):
        model(torch.ones(2, 4))


def test_a_compiled_model_says_it_too():
    model = torch.compile(Sequential([Input((3,)), Dense(4, name="hidden")]), backend="eager")
    with pytest.raises(ValueError, match=r"Layer 'hidden' \(Dense\) expects size 3 on axis -1, but its input has shape \(2, 5\)"):
        model(torch.ones(2, 5))


def test_an_unknown_axis_takes_the_size_that_a_function_needs():
    assert (Input((None, 4)) + torch.zeros(1, 10, 4)).shape == (None, 10, 4)
    assert torch.cat([Input((None, 4)), Input((7, 4))], -1).shape == (None, 7, 8)
    x = Input((None, None))
    y = x + torch.zeros(1, 10)
    assert y.shape == (None, None, 10)
    assert Model(x, y)(torch.ones(2, 3, 10)).shape == (2, 3, 10)


# -- pictures of failures


def test_a_half_built_graph_is_drawn_with_the_call_that_failed():
    raised = caught_from(shapes_to_be_added_differ)
    picture = plot_model(raised, to_file=None, show_layer_names=True)
    failed = [b for b in picture.diagram.boxes if b.failed]
    assert [b.name for b in failed] == ["sum"]
    assert {b.name for b in picture.diagram.boxes} >= {"short", "long", "sum"}
    assert "failed on (None, 3), (None, 4)" in picture.svg
    assert "#dc2626" in picture.svg


def test_a_model_that_failed_when_it_ran_is_drawn_whole():
    picture = plot_model(caught_from(an_image_without_a_batch), to_file=None)
    assert [b.name for b in picture.diagram.boxes] == ["image", "conv", "flat", "out"]
    assert [bool(b.failed) for b in picture.diagram.boxes] == [False, True, False, False]
    assert "failed on (8, 8, 3)" in picture.svg


def test_the_last_error_shown_is_drawn(monkeypatch):
    monkeypatch.setattr("sys.last_value", caught_from(flatten_is_missing), raising=False)
    assert [b.name for b in plot_model(None, to_file=None).diagram.boxes if b.failed] == ["out"]


def test_an_error_without_a_graph_is_not_drawn():
    with pytest.raises(ValueError, match="KeyError does not come from such a call"):
        plot_model(KeyError("a"), to_file=None)


def test_errors_of_deep_graphs_can_be_pickled():
    h = Input((3,))
    for _ in range(1500):
        h = h + 1
    raised = caught_from(lambda: h @ torch.ones(9, 2))
    again = pickle.loads(pickle.dumps(raised))
    assert str(again) == str(raised)
    x = Input((3,))
    raised = caught_from(lambda: Model(x, Dense(2)(x))(torch.ones(2, 9)))
    assert str(pickle.loads(pickle.dumps(raised))) == str(raised)
