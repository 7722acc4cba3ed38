"""Every layer keeps the contract of `layer_contract`: to add a layer, add a row."""

from __future__ import annotations

import inspect

import pytest
import torch

from hornbeam import layers
from layer_contract import CHECKS, Row

pytestmark = pytest.mark.oracle


def halve(x):
    return x / 2


NO_BFLOAT16 = {"check_mixed_precision": "torch has no avg_pool3d of bfloat16 on CPU"}
STEPS, IMAGE, VOLUME = (2, 6, 4), (2, 6, 7, 4), (2, 5, 6, 5, 4)
ROWS = [
    Row("Dense", {"units": 3, "activation": "relu"}, free=(1,)),
    Row("EinsumDense", {"equation": "abc,cd->abd", "output_shape": (None, 3), "bias_axes": "d"}, free=(1,)),
    Row("Embedding", {"input_dim": 5, "output_dim": 3}, (2, 6), free=(1,), integers=5),
    Row("Embedding", {"input_dim": 5, "output_dim": 3, "mask_zero": True}, (2, 6), free=(1,), integers=5),
    *(Row(n, shapes=[STEPS, STEPS], free=(1,)) for n in ("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum")),
    Row("Add", shapes=[(2, 4), STEPS, (2, 1, 4)]),
    Row("Concatenate", shapes=[STEPS, (2, 6, 3)], free=(1,)),
    Row("Concatenate", {"axis": 1}, [STEPS, (2, 5, 4)], free=(1,)),
    Row("Dot", {"axes": 2, "normalize": True}, [STEPS, (2, 3, 4)], free=(1,)),
    Row("Flatten", free=(1, 2)),
    Row("Reshape", {"target_shape": (3, -1)}, free=(1,)),
    Row("Permute", {"dims": (2, 1)}, free=(1, 2)),
    Row("RepeatVector", {"n": 3}, (2, 4), free=(1,)),
    Row("Cropping1D", free=(1,)),
    Row("Cropping2D", {"cropping": (1, 2)}, IMAGE, free=(1, 2)),
    Row("Cropping3D", {}, VOLUME, free=(1, 2, 3), heavy=True),
    Row("ZeroPadding1D", free=(1,)),
    Row("ZeroPadding2D", {}, IMAGE, free=(1, 2)),
    Row("ZeroPadding3D", {}, VOLUME, free=(1, 2, 3), heavy=True),
    Row("UpSampling1D", free=(1,)),
    Row("UpSampling2D", {"interpolation": "bilinear"}, IMAGE, free=(1, 2)),
    Row("UpSampling3D", {}, VOLUME, free=(1, 2, 3), heavy=True),
    Row("Activation", {"activation": "gelu"}, free=(1,)),
    Row("ReLU", {"max_value": 1.0, "negative_slope": 0.1}, free=(1,)),
    Row("LeakyReLU", free=(1,)),
    Row("PReLU", {"shared_axes": [1]}, free=(1,)),
    Row("ELU", free=(1,)),
    Row("Softmax", free=(1,), leave_out={"check_mask": "Keras takes the mask of steps for one of features; see test_activation"}),
    *(Row(n, {"rate": 0.5}, free=(1,), random=True) for n in ("Dropout", "GaussianDropout", "AlphaDropout", "SpatialDropout1D")),
    Row("GaussianNoise", {"stddev": 0.5}, free=(1,), random=True),
    Row("SpatialDropout2D", {"rate": 0.5}, IMAGE, free=(1, 2), random=True),
    Row("SpatialDropout3D", {"rate": 0.5}, VOLUME, free=(1, 2, 3), random=True, heavy=True),
    Row("ActivityRegularization", {"l1": 0.1}, free=(1,)),
    Row("Identity", free=(1,)),
    Row("Masking", free=(1,)),
    Row("Conv1D", {"filters": 3, "kernel_size": 3, "padding": "causal"}, free=(1,)),
    Row("Conv2D", {"filters": 3, "kernel_size": 3, "padding": "same", "strides": 2}, IMAGE, free=(1, 2)),
    Row("Conv3D", {"filters": 3, "kernel_size": 2}, VOLUME, free=(1, 2, 3), heavy=True),
    Row("Conv1DTranspose", {"filters": 3, "kernel_size": 3, "strides": 2}, free=(1,)),
    Row("Conv2DTranspose", {"filters": 3, "kernel_size": 3, "padding": "same", "strides": 2}, IMAGE, free=(1, 2)),
    Row("Conv3DTranspose", {"filters": 3, "kernel_size": 2}, VOLUME, free=(1, 2, 3), heavy=True),
    Row("DepthwiseConv1D", {"kernel_size": 3}, free=(1,)),
    Row("DepthwiseConv2D", {"kernel_size": 3, "depth_multiplier": 2}, IMAGE, free=(1, 2)),
    Row("SeparableConv1D", {"filters": 3, "kernel_size": 3}, free=(1,)),
    Row("SeparableConv2D", {"filters": 3, "kernel_size": 3}, IMAGE, free=(1, 2)),
    *(
        Row(f"{kind}Pooling{rank}D", {"pool_size": 2, "padding": padding}, (STEPS, IMAGE, VOLUME)[rank - 1],
            free=(1, 2, 3)[:rank], heavy=rank == 3, leave_out=NO_BFLOAT16 if (kind, rank) == ("Average", 3) else {})
        for kind, padding in (("Max", "valid"), ("Average", "same"))
        for rank in (1, 2, 3)
    ),
    *(
        Row(f"Global{kind}Pooling{rank}D", {}, (STEPS, IMAGE, VOLUME)[rank - 1], free=(1, 2, 3)[:rank], heavy=rank == 3)
        for kind in ("Max", "Average")
        for rank in (1, 2, 3)
    ),
    *(
        Row(f"Adaptive{kind}Pooling{rank}D", {"output_size": 3}, (STEPS, IMAGE, VOLUME)[rank - 1], heavy=rank == 3)
        for kind in ("Max", "Average")
        for rank in (1, 2, 3)
    ),
    Row("BatchNormalization", free=(1,)),
    Row("BatchNormalization", {}, IMAGE, free=(1, 2), leave_out={"check_mask": "Keras refuses a mask of steps there"}),
    Row("LayerNormalization", free=(1,)),
    Row("GroupNormalization", {"groups": 2}, free=(1,)),
    Row("GroupNormalization", {"groups": 2}, IMAGE, free=(1, 2)),
    Row("RMSNormalization", free=(1,)),
    Row("SpectralNormalization", lambda library: {"layer": library.Dense(3), "power_iterations": 2}, free=(1,)),
    Row("UnitNormalization", free=(1,)),
    *(
        Row(n, {"units": 3, **more}, free=(1,))
        for n in ("SimpleRNN", "LSTM", "GRU")
        for more in ({}, {"return_sequences": True, "return_state": True, "go_backwards": True})
    ),
    Row("LSTM", {"units": 3, "dropout": 0.5, "recurrent_dropout": 0.5}, random=True),
    Row("RNN", lambda library: {"cell": library.StackedRNNCells([library.LSTMCell(3), library.GRUCell(2)])}, free=(1,)),
    Row("Bidirectional", lambda library: {"layer": library.LSTM(3, return_sequences=True)}, free=(1,)),
    Row("Bidirectional", lambda library: {"layer": library.GRU(3), "merge_mode": "sum"}, free=(1,)),
    Row("TimeDistributed", lambda library: {"layer": library.Dense(3)}, free=(1,)),
    Row("TimeDistributed", lambda library: {"layer": library.Conv2D(3, 3)}, (2, 3, 6, 7, 4)),
    Row("Attention", {"use_scale": True, "score_mode": "concat"}, [STEPS, (2, 5, 4)], free=(1,)),
    Row("AdditiveAttention", {}, [STEPS, (2, 5, 4)], free=(1,)),
    Row("MultiHeadAttention", {"num_heads": 2, "key_dim": 3}, [STEPS, (2, 5, 4)], spread=True, free=(1,)),
    Row("GroupQueryAttention", {"head_dim": 3, "num_query_heads": 4, "num_key_value_heads": 2}, [STEPS, (2, 5, 4)], spread=True,
        free=(1,)),
    Row("MultiHeadAttention", {"num_heads": 2, "key_dim": 3, "dropout": 0.5}, [STEPS, STEPS], spread=True, random=True),
]  # fmt: skip

# Tested on their own: what a cell takes is no plain input; a Lambda's config names a function; the others are no layers to call.
OTHERS = {"Layer", "Wrapper", "TorchModuleWrapper", "InputLayer", "Lambda"}
OTHERS |= {"SimpleRNNCell", "LSTMCell", "GRUCell", "StackedRNNCells"}


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("check", CHECKS, ids=lambda c: c.__name__.removeprefix("check_"))
@pytest.mark.parametrize("row", ROWS, ids=str)
def test_contract(row, check):
    if check.__name__ in row.leave_out:
        pytest.skip(row.leave_out[check.__name__])
    check(row)


def test_every_layer_has_a_row():
    known = {c for c in vars(layers).values() if inspect.isclass(c) and issubclass(c, layers.Layer)}
    tested = {getattr(layers, name) for name in (*(row.name for row in ROWS), *OTHERS)}
    assert not known - tested
