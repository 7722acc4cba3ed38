"""Embedding against Keras; masks, integer inputs of models, integers beyond the table."""

import numpy as np
import pytest
import torch

from hornbeam import Sequential, layers
from layer_oracle import agree, contract

IDS = np.array([[1, 0, 4, 4], [2, 3, 0, 0]])


@pytest.mark.oracle
@pytest.mark.parametrize(
    "kwargs",
    [
        {},
        {"mask_zero": True, "embeddings_initializer": "ones"},
        {"embeddings_regularizer": "l2", "embeddings_constraint": "max_norm"},
    ],
)
@pytest.mark.parametrize("x", [IDS, IDS[0], IDS.astype("int32")[..., None]])
def test_agrees_with_keras(kwargs, x):
    agree("Embedding", {"input_dim": 5, "output_dim": 3, **kwargs}, x)


def test_contract():
    contract(layers.Embedding(5, 3), IDS)


def test_mask():
    layer = layers.Embedding(5, 3, mask_zero=True)
    assert layer(torch.tensor(IDS))._keras_mask.tolist() == (IDS != 0).tolist()
    assert layer(torch.tensor(IDS).float()).shape == (2, 4, 3)
    assert layer(layers.Input((4,), dtype="int32"))._keras_mask.shape == (None, 4)
    assert not hasattr(layers.Embedding(5, 3)(torch.tensor(IDS)), "_keras_mask")
    mean = layers.GlobalAveragePooling1D()(layer(torch.tensor(IDS)))
    torch.testing.assert_close(mean[0], layer.embeddings[[1, 4, 4]].mean(0))


def test_as_the_first_layer():
    model = Sequential([layers.Embedding(input_dim=50, output_dim=4, input_length=20), layers.GlobalAveragePooling1D()])
    model.build((None, 20))
    assert model.inputs[0].dtype == "int32"
    assert model(torch.zeros(2, 20, dtype=torch.int64)).shape == (2, 4)
    assert "input_length" not in model.layers[0].get_config()


def test_given_weights():
    table = np.arange(6.0).reshape(3, 2)
    assert layers.Embedding(3, 2, weights=[table])(torch.tensor([2])).tolist() == [[4, 5]]


def test_large_ids_survive_a_half_precision_policy():
    layer = layers.Embedding(1001, 2, dtype="mixed_bfloat16")
    layer.build()
    assert torch.equal(layer(torch.tensor([999.0])), layer(torch.tensor([999])))
    assert layer(torch.tensor([999])).dtype is torch.bfloat16


def test_integers_beyond_the_table():
    with pytest.raises(
        IndexError, match=r"'words' has input_dim=5 rows, so it takes integers from 0 to 4\. Received: integers from 1 to 7"
    ):
        layers.Embedding(5, 3, name="words")(torch.tensor([1, 7]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((0, 2), "`input_dim` must be a positive integer"), ((5, 2.5), "`output_dim` must be a positive integer")],
)
def test_mistakes_are_explained(arguments, message):
    with pytest.raises(ValueError, match=message):
        layers.Embedding(*arguments)
