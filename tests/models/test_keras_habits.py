"""What Keras code does without thinking: inputs of nearly the right shape, popped layers, clones, NumPy masks."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import hornbeam as keras
from hornbeam import layers


@pytest.mark.parametrize(
    ("shape", "given", "layer", "expected"),
    [
        ((1,), (10,), layers.Dense(2), (10, 2)),
        ((1,), (10,), layers.Embedding(5, 3), (10, 1, 3)),
        ((8, 8, 1), (4, 8, 8), layers.Conv2D(2, 3), (4, 6, 6, 2)),
        ((8, 8), (4, 8, 8, 1), layers.Flatten(), (4, 64)),
        ((3,), (2, 3, 1), layers.Dense(2), (2, 2)),
    ],
)
def test_an_axis_of_size_1_at_the_end_is_added_or_dropped(shape, given, layer, expected):
    model = keras.Sequential([keras.Input(shape), layer])
    assert tuple(model(np.zeros(given, "float32")).shape) == expected
    assert model.predict(np.zeros(given, "float32"), verbose=0).shape == expected


def test_the_axis_is_added_for_each_input_of_several_and_when_compiled():
    a, b = keras.Input((1,)), keras.Input((2,))
    model = keras.Model([a, b], layers.Concatenate()([a, b]))
    given = [torch.arange(4.0), torch.ones(4, 2)]
    assert model(given)[:, 0].tolist() == [0, 1, 2, 3]
    single = keras.Sequential([keras.Input((1,)), layers.Dense(1)])
    compiled = torch.compile(single, backend="eager", fullgraph=True)
    assert torch.equal(compiled(given[0]), single(given[0]))


def test_none_for_an_input_that_is_not_optional():
    a, b = keras.Input((2,), name="a"), keras.Input((2,), name="b")
    model = keras.Model([a, b], layers.Add()([a, b]))
    with pytest.raises(ValueError, match="None for its input 'b', which is not optional"):
        model([np.ones((1, 2)), None])


def test_a_popped_layer_leaves_an_output_to_go_on_from():
    model = keras.Sequential([keras.Input((3,)), layers.Dense(4), layers.Dense(2)])
    model.pop()
    assert model.built
    assert model.output_shape == (None, 4)
    longer = keras.Model(model.inputs, layers.Dense(5)(model.output))
    assert longer(torch.ones(1, 3)).shape == (1, 5)
    model.pop()
    model.add(layers.Dense(7))
    assert model.output_shape == (None, 7)


def test_a_chain_knows_its_shapes_as_layers_are_added():
    model = keras.Sequential()
    assert not model.built
    assert not hasattr(model, "inputs")
    model.add(layers.Dense(4, input_shape=(2,)))
    assert model.built
    assert model.input_shape == (None, 2)
    assert model.output_shape == (None, 4)
    with pytest.raises(ValueError, match=r"made for inputs of shape \(None, 2\). Received: \(None, 3\)"):
        model.build((None, 3))
    model.build((5, 2))


def test_a_chain_without_an_input_passes_nests_through():
    model = keras.Sequential([layers.Lambda(lambda x: x["a"] + x["b"])])
    assert model({"a": np.ones((3, 2)), "b": np.ones((3, 2))}).tolist() == [[2, 2]] * 3


@pytest.mark.parametrize("chain", [True, False])
def test_a_clone_is_compiled_as_its_original(chain):
    x = keras.Input((3,))
    model = keras.Sequential([x, layers.Dense(1)]) if chain else keras.Model(x, layers.Dense(1)(x))
    assert not keras.models.clone_model(model).compiled
    model.compile(keras.optimizers.Adam(0.5), "mse", metrics=["mae"])
    clone = keras.models.clone_model(model)
    assert clone.compiled
    assert clone.optimizer is not model.optimizer
    assert clone.optimizer.get_config()["learning_rate"] == 0.5
    assert len(clone.evaluate(np.ones((2, 3)), np.ones((2, 1)), verbose=0)) == 2


def test_a_clone_with_a_loss_no_config_can_name():
    model = keras.Sequential([keras.Input((3,)), layers.Dense(1)])
    model.compile("sgd", lambda y, p: (y - p).square().mean())
    assert not keras.models.clone_model(model).compiled


def test_inputs_for_a_clone_in_another_nest():
    a, b = keras.Input((2,)), keras.Input((2,))
    model = keras.Model({"a": a, "b": b}, layers.Add()([a, b]))
    with pytest.raises(ValueError, match="`input_tensors` must be the nest that the model takes"):
        keras.models.clone_model(model, input_tensors=(a, b))


def test_a_tuple_of_outputs_stays_one_in_configs():
    x = keras.Input((3,))
    model = keras.Model(x, (layers.Dense(1)(x), layers.Dense(2)(x)))
    assert type(keras.Model.from_config(model.get_config())(torch.ones(1, 3))) is tuple


@pytest.mark.parametrize("make", [lambda: layers.Dense(2, "relu"), lambda: layers.EinsumDense("ab,bc->ac", 2, "relu")])
def test_an_activation_taken_away(make):
    layer = make()
    layer(torch.ones(1, 3))
    layer.activation = None
    layer.kernel.assign(-torch.ones(3, 2))
    assert layer(torch.ones(1, 3)).tolist() == [[-3, -3]]


def test_masks_as_numpy_arrays_in_every_call():
    pool = layers.GlobalAveragePooling1D()
    x, mask = torch.tensor([[[2.0], [9.0]]]), np.array([[True, False]])
    assert [pool(x, mask=mask).item() for _ in range(2)] == [2, 2]


def test_batch_normalization_over_an_axis_that_the_mask_has():
    x = torch.tensor([[[1.0, 5.0], [7.0, 9.0]], [[3.0, 3.0], [0.0, 0.0]]])
    layer = layers.BatchNormalization(axis=1, momentum=0.0)
    layer(x, mask=torch.tensor([[True, True], [True, False]]), training=True)
    assert layer.moving_mean.tolist() == [3, 8]
    assert layer.moving_variance.tolist() == [2, 1]


def test_renorm_clipping_that_contradicts_itself():
    with pytest.raises(ValueError, match="rmin <= rmax"):
        layers.BatchNormalization(renorm=True, renorm_clipping={"rmax": 0.0, "rmin": 1.0})
    with pytest.raises(ValueError, match="dmax of at least 0"):
        layers.BatchNormalization(renorm=True, renorm_clipping={"dmax": -1.0})


def test_attention_returns_the_weights_that_it_used():
    layer = layers.Attention(dropout=0.5)
    x = torch.ones(1, 8, 1)
    y, weights = layer([x, x], return_attention_scores=True, training=True)
    assert torch.allclose(y, weights @ x)
    assert set(weights.unique().tolist()) == {0, 0.25}


@pytest.mark.parametrize("kind", [layers.LSTM, layers.GRU, layers.SimpleRNN])
def test_recurrent_layers_take_integers(kind):
    layer, x = kind(2), np.array([[[1, 2], [3, 4]]])
    assert torch.equal(layer(x), layer(x.astype("float32")))


def test_losses_of_an_earlier_call_are_gone():
    class Counted(layers.Layer):
        def call(self, x):
            self.add_loss(x.sum())
            return x

    layer = Counted()
    layer(torch.ones(3, 1))
    model = keras.Sequential([keras.Sequential([layer])])
    model(torch.ones(2, 1))
    assert [loss.item() for loss in model.losses] == [2]


def test_an_input_for_a_symbolic_tensor_must_agree_with_it():
    x = keras.Input((3,), batch_size=2)
    assert layers.InputLayer(shape=(3,), batch_size=2, dtype="float32", input_tensor=x).batch_shape == (2, 3)
    for given in ({"shape": (4,)}, {"batch_size": 5}, {"batch_shape": (2, 4)}, {"dtype": "float16"}):
        with pytest.raises(ValueError, match="`input_tensor` has"):
            layers.InputLayer(input_tensor=x, **given)
    with pytest.raises(ValueError, match="`batch_shape` alone"):
        layers.InputLayer(batch_size=2, batch_shape=(2, 3))
    assert layers.InputLayer(input_shape=(2, 3)).batch_shape == (None, 2, 3)


def test_trainable_is_a_bool():
    with pytest.raises(ValueError, match="`trainable` is True or False"):
        layers.Dense(2, trainable="yes")
