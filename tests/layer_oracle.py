"""One comparison for all layers: ours beside Keras's on its torch backend, with the same weights and inputs."""

import os

os.environ.setdefault("KERAS_BACKEND", "torch")

import copy
import io
import pickle

import keras
import numpy as np
import torch

from hornbeam import layers
from hornbeam.layers import Input


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def pair(name, kwargs, x, **call):
    """Returns our layer and Keras's, built for the input, with the same random weights."""
    ours, theirs = getattr(layers, name)(**kwargs, name="it"), getattr(keras.layers, name)(**kwargs, name="it")
    ours(torch.tensor(x), **{k: torch.tensor(v) for k, v in call.items()})
    theirs(x, **call)
    assert [(w.path, tuple(w.shape), w.trainable) for w in ours.weights] == [
        (w.path, tuple(w.shape), w.trainable) for w in theirs.weights
    ]
    values = [
        np.abs(numbers(*w.shape, seed=i)) + 0.1 if w.name.endswith(("variance", "stddev")) else numbers(*w.shape, seed=i)
        for i, w in enumerate(ours.weights)
    ]
    ours.set_weights(values)
    theirs.set_weights(values)
    return ours, theirs


def close(ours, theirs, tolerance=2e-5):
    ours, theirs = (v.detach().numpy() if isinstance(v, torch.Tensor) else np.asarray(v) for v in (ours, theirs))
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance)


def gradients(layer, x, **call):
    """Returns the output, and the gradients of a weighted sum of it: of the input and the trainable weights."""
    x = torch.tensor(x, requires_grad=np.asarray(x).dtype.kind == "f")
    y = layer(x, **call)
    weights = [getattr(w, "value", w) for w in layer.trainable_weights]
    wanted = [*([x] if x.requires_grad else []), *weights]
    return y, torch.autograd.grad((y * torch.tensor(numbers(*y.shape, seed=9))).sum(), wanted, allow_unused=True)


def agree(name, kwargs, x, training=False, **call):
    """Compares config, weights, outputs, gradients and, with `training`, the state after three training calls."""
    ours, theirs = pair(name, kwargs, x, **call)
    assert ours.get_config() == theirs.get_config()
    assert type(ours).from_config(ours.get_config()).get_config() == ours.get_config()
    tensors = {k: torch.tensor(v) for k, v in call.items()}
    for mode in (False, True) if training else (False,):
        mine, kerass = gradients(ours, x, training=mode, **tensors), gradients(theirs, x, training=mode, **tensors)
        close(mine[0], kerass[0])
        for a, b in zip(mine[1], kerass[1], strict=True):
            close(a, b, 2e-4)
    for i in range(3 if training else 0):
        batch = x + i
        ours(torch.tensor(batch), training=True, **tensors)
        theirs(batch, training=True, **call)
    for a, b in zip(ours.weights, theirs.weights, strict=True):
        close(a, b.value)
    shapes_agree(ours, theirs, x)
    return ours


def shapes_agree(ours, theirs, x):
    """Compares output shapes: of Keras, of the symbolic call and of the eager call, with axes known and unknown."""
    real = tuple(ours(torch.tensor(x)).shape)
    open_shapes = [(None, *x.shape[1:])]
    if hasattr(ours, "rank"):
        open_shapes.append(ours._shape(None, (None,) * ours.rank, x.shape[ours._channel_axis]))
    for shape in open_shapes:
        symbolic = ours(Input(batch_shape=shape, dtype=str(x.dtype))).shape
        assert tuple(ours.compute_output_shape(shape)) == tuple(theirs.compute_output_shape(shape)) == symbolic
        assert all(s is None or s == r for s, r in zip(symbolic, real, strict=True))
    assert tuple(ours.compute_output_shape(x.shape)) == real


def contract(layer, x):
    """What holds for every layer: copies, pickles, state_dicts, other dtypes, compilation and export."""
    x = torch.tensor(x)
    y = layer(x)
    file = io.BytesIO()
    torch.save(layer.state_dict(), file)
    file.seek(0)
    fresh = type(layer).from_config(layer.get_config())
    fresh(x)
    fresh.load_state_dict(torch.load(file))
    assigned = type(layer).from_config(layer.get_config())
    assigned(x)
    assigned.load_state_dict({k: v.contiguous() for k, v in layer.state_dict().items()}, assign=True)
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)), fresh, assigned):
        assert torch.equal(other(x), y)
        assert [w.stride() for w in other.weights] == [w.stride() for w in layer.weights]
    if x.is_floating_point():
        assert copy.deepcopy(layer).double()(x).dtype is torch.float64
    half = type(layer).from_config({**layer.get_config(), "dtype": "mixed_bfloat16"})
    assert half(x).dtype is torch.bfloat16
    assert all(w.dtype is torch.float32 for w in half.weights)
    half.set_weights(layer.get_weights())
    torch.testing.assert_close(half(x).float(), y, rtol=0.1, atol=0.2)
    torch._dynamo.reset()
    torch.testing.assert_close(torch.compile(layer, fullgraph=True, backend="aot_eager")(x), y)
    exported = torch.export.export(layer, (x,), dynamic_shapes=({0: torch.export.Dim("batch")},)).module()
    more = torch.cat([x, x])
    torch.testing.assert_close(exported(more), layer(more))
