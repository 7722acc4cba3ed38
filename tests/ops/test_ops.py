"""Every function of `ops`: against Keras, on symbolic tensors, and where Keras's torch backend is wrong, against NumPy."""

from __future__ import annotations

import inspect
import json
import os
import pickle

import numpy as np
import pytest
import torch

import hornbeam
from hornbeam import ops
from hornbeam.core.operation import Function
from hornbeam.graph.symbolic import Symbol, SymbolicTensor
from ops.cases import CASES

os.environ.setdefault("KERAS_BACKEND", "torch")
keras = pytest.importorskip("keras")

IDS = [f"{i}-{name}" for i, (name, _, _) in enumerate(CASES)]
SUBMODULES = {"image", "linalg", "nn", "numpy"}
NOT_YET = {
    "": {"ctc_decode"},
    "nn": {"ctc_decode"},
    "numpy": set(),
    "linalg": set(),
    "image": {
        "affine_transform",
        "elastic_transform",
        "extract_patches_3d",
        "gaussian_blur",
        "map_coordinates",
        "perspective_transform",
        "scale_and_translate",
        "sobel_edges",
        "ssim",
    },
}


def find(home, name):
    for part in name.split("."):
        home = getattr(home, part)
    return home


def convert(nest, leaf):
    if isinstance(nest, np.ndarray):
        return leaf(nest)
    if isinstance(nest, (list, tuple)):
        return type(nest)(convert(v, leaf) for v in nest)
    if isinstance(nest, dict):
        return {k: convert(v, leaf) for k, v in nest.items()}
    return nest


def as_tensors(nest):
    return convert(nest, lambda a: torch.from_numpy(a.copy()))


def flat(result):
    return [v for r in result for v in flat(r)] if isinstance(result, (list, tuple)) else [result]


def assert_equal(got, wanted):
    got, wanted = flat(got), flat(wanted)
    assert len(got) == len(wanted)
    for g, w in zip(got, wanted, strict=True):
        if isinstance(w, torch.Tensor):
            assert g.dtype == w.dtype
        g, w = ops.convert_to_numpy(g), ops.convert_to_numpy(w)
        assert g.shape == w.shape
        np.testing.assert_allclose(g, w, rtol=1e-4, atol=1e-5)


@pytest.mark.oracle
@pytest.mark.parametrize(("name", "args", "kwargs"), CASES, ids=IDS)
def test_as_keras(name, args, kwargs):
    wanted = find(keras.ops, name)(*as_tensors(args), **as_tensors(kwargs))
    assert_equal(find(ops, name)(*as_tensors(args), **as_tensors(kwargs)), wanted)


@pytest.mark.parametrize(("name", "args", "kwargs"), CASES, ids=IDS)
def test_symbolic_as_eager(name, args, kwargs):
    """A call on symbolic tensors has the shape and dtype of the eager result, and the graph computes it."""
    inputs, values = [], []

    def symbol(array):
        inputs.append(SymbolicTensor(array.shape, str(array.dtype)))
        values.append(torch.from_numpy(array.copy()))
        return inputs[-1]

    function = find(ops, name)
    if name in DATA_DEPENDENT:
        pytest.skip("the shape depends on values")
    result = function(*convert(args, symbol), **convert(kwargs, symbol))
    symbols = [r for r in flat(result) if isinstance(r, Symbol)]
    if not symbols:
        assert not inputs or name in ("size", "ndim")
        return
    eager = flat(function(*as_tensors(args), **as_tensors(kwargs)))
    for r, e in zip(symbols, eager, strict=True):
        assert r.shape == tuple(e.shape)
        assert r.dtype == ops.dtype(e)
    assert_equal(Function(inputs, symbols)(values), eager)


DATA_DEPENDENT = {"nonzero", "unique", "bincount", "segment_sum", "segment_max", "segment_min", "segment_prod"}


def test_an_open_batch_stays_open():
    x, image = SymbolicTensor((None, 4)), SymbolicTensor((None, 8, 8, 3))
    shapes = {
        "reshape": ops.reshape(x, (-1, 2, 2)).shape,
        "mean": ops.mean(x, axis=-1).shape,
        "concatenate": ops.concatenate([x, x], -1).shape,
        "matmul": ops.matmul(x, torch.ones(4, 5)).shape,
        "softmax": ops.softmax(x).shape,
        "conv": ops.conv(image, torch.ones(3, 3, 3, 6), 2, "same").shape,
        "max_pool": ops.max_pool(image, 2).shape,
        "average_pool": ops.average_pool(image, 3, 2, "same").shape,
        "one_hot": ops.one_hot(SymbolicTensor((None,), "int32"), 7).shape,
        "top_k": ops.top_k(x, 2)[0].shape,
        "take": ops.take(x, [0, 1, 2], axis=1).shape,
        "split": ops.split(x, 2, axis=1)[1].shape,
        "transpose": ops.transpose(x).shape,
        "layer_normalization": ops.layer_normalization(x).shape,
        "resize": ops.image.resize(image, (4, 5)).shape,
        "size": ops.reshape(x, (ops.shape(x)[0] * 2, 2)).shape,
        "sum": ops.sum(x).shape,
    }
    assert shapes == {
        "reshape": (None, 2, 2), "mean": (None,), "concatenate": (None, 8), "matmul": (None, 5), "softmax": (None, 4),
        "conv": (None, 4, 4, 6), "max_pool": (None, 4, 4, 3), "average_pool": (None, 4, 4, 3), "one_hot": (None, 7),
        "top_k": (None, 2), "take": (None, 3), "split": (None, 2), "transpose": (4, None), "layer_normalization": (None, 4),
        "resize": (None, 4, 5, 3), "size": (None, 2), "sum": (),
    }  # fmt: skip


def test_a_model_of_ops_has_a_config_and_can_be_exported():
    x = hornbeam.Input((4, 4, 3))
    y = ops.mean(ops.image.resize(x, (2, 2)), axis=(1, 2))
    model = hornbeam.Model(x, ops.concatenate([ops.layer_normalization(y), ops.sin(y)], axis=-1))
    images = torch.rand(3, 4, 4, 3)
    again = type(model).from_config(json.loads(json.dumps(model.get_config())))
    torch.testing.assert_close(again(images), model(images))
    torch.testing.assert_close(pickle.loads(pickle.dumps(model))(images), model(images))
    exported = torch.export.export(model, (images,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    torch.testing.assert_close(exported.module()(images[:2]), model(images[:2]))


def test_a_call_is_one_node():
    x = SymbolicTensor((None, 4))
    assert ops.layer_normalization(x).node.target is ops.layer_normalization
    assert ops.mean(ops.add(x, 1), axis=1).node.name == "mean"


@pytest.mark.oracle
@pytest.mark.parametrize("space", NOT_YET)
def test_names_and_signatures_are_those_of_keras(space):
    theirs, ours = (find(home, space) if space else home for home in (keras.ops, ops))
    names = {n for n in dir(theirs) if not n.startswith("_") and callable(getattr(theirs, n))}
    missing = {n for n in names if not hasattr(ours, n)}
    assert missing == NOT_YET[space]
    for name in names - missing - SUBMODULES:
        wanted, got = (inspect.signature(getattr(home, name)) for home in (theirs, ours))
        assert [(p.name, p.default, p.kind) for p in got.parameters.values()] == [
            (p.name, p.default, p.kind) for p in wanted.parameters.values()
        ], name


# -- where Keras's torch backend departs from NumPy, or has no answer


A = np.random.default_rng(1).normal(size=(3, 4)).astype("float32")


@pytest.mark.parametrize(
    ("got", "wanted"),
    [
        (lambda: ops.pad(A, 1), lambda: np.pad(A, 1)),
        (lambda: ops.pad(A, ((1, 2), (2, 0)), "symmetric"), lambda: np.pad(A, ((1, 2), (2, 0)), "symmetric")),
        (lambda: ops.pad(A, ((1, 2), (2, 0)), "edge"), lambda: np.pad(A, ((1, 2), (2, 0)), "edge")),
        (lambda: ops.pad(A, ((1, 2), (2, 0)), "wrap"), lambda: np.pad(A, ((1, 2), (2, 0)), "wrap")),
        (lambda: ops.take_along_axis(A, [0, 5, -1]), lambda: np.take_along_axis(A, np.array([0, 5, -1]), None)),
        (lambda: ops.cross(A[:, :3], A[::-1, 1:]), lambda: np.cross(A[:, :3], A[::-1, 1:])),
        (lambda: ops.cross(A[:3, :].T, A[::-1].T), lambda: np.cross(A[:3, :].T, A[::-1].T)),
        (lambda: ops.correlate(A[0, :3], A[1], "same"), lambda: np.correlate(A[0, :3], A[1], "same")),
        (lambda: ops.average(A, weights=abs(A)), lambda: np.average(A, weights=abs(A))),
        (lambda: ops.average(A, 1, weights=abs(A[0])), lambda: np.average(A, 1, weights=abs(A[0]))),
        (lambda: ops.linspace(A[0], A[1], 3, axis=-1), lambda: np.linspace(A[0], A[1], 3, axis=-1)),
        (lambda: ops.vdot(A, A), lambda: np.vdot(A, A)),
        (lambda: ops.histogram(A, 4)[0], lambda: np.histogram(A, 4)[0]),
        (lambda: ops.nonzero(A > 0), lambda: np.nonzero(A > 0)),
        (lambda: ops.repeat(A, [1, 2, 0], axis=0), lambda: np.repeat(A, [1, 2, 0], axis=0)),
        (lambda: ops.unstack(A, axis=1), lambda: list(A.T)),
        (lambda: ops.one_hot([0, 9], 3), lambda: [[1, 0, 0], [0, 0, 0]]),
        (lambda: ops.imag(A), lambda: np.imag(A)),
        (lambda: ops.unique([3, 1, 3], return_index=True), lambda: np.unique([3, 1, 3], return_index=True)),
        (lambda: ops.unique([3, 1, 3], size=3, fill_value=9), lambda: [1, 3, 9]),
        (lambda: ops.argpartition(A, 2), lambda: np.argsort(A)),
    ],
)
def test_as_numpy(got, wanted):
    got, wanted = got(), wanted()
    if not isinstance(got, (list, tuple)):
        got, wanted = [got], [wanted]
    for g, w in zip(got, wanted, strict=True):
        np.testing.assert_allclose(ops.convert_to_numpy(g), w, rtol=1e-5, atol=1e-6)


def test_sparsemax_is_the_nearest_point_of_the_simplex():
    x = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0), requires_grad=True)
    p = ops.sparsemax(x, axis=1)
    torch.testing.assert_close(p.sum(1), torch.ones(2, 3))
    assert (p >= 0).all()
    excess = torch.where(p > 0, x - p, float("nan"))
    level = excess.nanmean(1, keepdim=True)
    torch.testing.assert_close(torch.nan_to_num(excess - level), torch.zeros_like(x))
    assert (x[p == 0] <= level.expand_as(x)[p == 0] + 1e-6).all()
    assert torch.autograd.gradcheck(lambda v: ops.sparsemax(v, 1), x.detach().double().requires_grad_())


def test_same_average_pool_counts_only_what_is_there():
    x = torch.arange(1.0, 9.0).reshape(1, 8, 1)
    assert ops.average_pool(x, 3, 2, "same").flatten().tolist() == [2.0, 4.0, 6.0, 7.5]


def test_decompositions_multiply_back():
    torch.testing.assert_close(torch.matmul(*ops.qr(A)), torch.from_numpy(A))
    u, s, v = ops.svd(A, full_matrices=False)
    torch.testing.assert_close(u * s @ v, torch.from_numpy(A))
    square = torch.from_numpy(A @ A.T)
    values, vectors = ops.eigh(square)
    torch.testing.assert_close(vectors * values @ vectors.T, square)
    values, vectors = ops.eig(square)
    torch.testing.assert_close((vectors * values @ torch.linalg.inv(vectors)).real, square, atol=1e-4, rtol=1e-4)


# -- dtypes of arguments


# Keras's torch backend narrows these to int32 or float32; here the tensor's dtype stays.
KEPT = {("cumsum", "int64"), ("cumsum", "float64"), ("var", "float64"), ("floor", "float64")}


@pytest.mark.oracle
@pytest.mark.parametrize(
    "name",
    ["mean", "sqrt", "exp", "sum", "cumsum", "square", "add", "divide", "softplus", "argmax", "max", "var", "log1p", "floor"],
)
@pytest.mark.parametrize(
    "dtype", ["bool", "uint8", "int8", "int16", "int32", "int64", "float16", "bfloat16", "float32", "float64"]
)
def test_dtypes_as_keras(name, dtype):
    args = [torch.ones(3, dtype=getattr(torch, dtype))] * (2 if name in ("add", "divide") else 1)
    try:
        wanted = getattr(keras.ops, name)(*args)
    except (RuntimeError, NotImplementedError):
        pytest.skip("Keras's torch backend cannot do it")
    assert getattr(ops, name)(*args).dtype == (args[0].dtype if (name, dtype) in KEPT else wanted.dtype)


@pytest.mark.oracle
@pytest.mark.parametrize(
    "value",
    [1, 1.5, True, [1, 2], [1.0, 2], [True], [], np.arange(3), np.arange(3.0), np.float64(2), np.arange(3, dtype="uint32")],
)
def test_convert_to_tensor_as_keras(value):
    assert_equal(ops.convert_to_tensor(value), keras.ops.convert_to_tensor(value))


def test_mixed_arguments():
    assert ops.add(torch.ones(2, dtype=torch.bfloat16), 1.5).dtype is torch.bfloat16
    assert ops.add(2, torch.ones((), dtype=torch.float16)).dtype is torch.float16
    assert ops.maximum([1.0, 2.0], 1.5).tolist() == [1.5, 2.0]
    assert ops.multiply(np.ones(2, "float32"), [2.0, 3.0]).tolist() == [2.0, 3.0]
    assert ops.stack([torch.ones(2), 2 * np.ones(2, "float32")]).tolist() == [[1, 1], [2, 2]]
    assert ops.convert_to_tensor([torch.tensor(1.0), 2.0]).tolist() == [1.0, 2.0]
    assert ops.convert_to_tensor(np.arange(3)[::-1]).tolist() == [2, 1, 0]


# -- control


def test_cond_takes_one_branch_or_computes_both():
    ran = []
    assert ops.cond(True, lambda: 1, lambda: ran.append(1)) == 1
    assert not ran
    x = SymbolicTensor((None, 2))
    y = ops.cond(ops.sum(x) > 0, lambda: x * 2, lambda: x - 1)
    f = Function(x, y)
    assert f(torch.ones(1, 2)).tolist() == [[2, 2]]
    assert f(-torch.ones(1, 2)).tolist() == [[-2, -2]]


def test_switch_and_loops():
    branches = [lambda v: v, lambda v: v * 2, lambda v: v * 3]
    assert [ops.switch(i, branches, torch.tensor(2)).item() for i in (-1, 0, 1, 2, 5)] == [2, 2, 4, 6, 6]
    x = SymbolicTensor((), "int32")
    f = Function(x, ops.switch(x, branches, torch.tensor(2)))
    assert [f(torch.tensor(i, dtype=torch.int32)).item() for i in (0, 1, 2)] == [2, 4, 6]
    assert ops.while_loop(lambda i, s: i < 4, lambda i, s: (i + 1, s + i), (0, 0)) == (4, 6)
    assert ops.while_loop(lambda i: True, lambda i: i + 1, 0, maximum_iterations=3) == 3
    assert ops.fori_loop(1, 4, lambda i, v: v * i, 1) == 6


def test_scans_and_maps():
    x = torch.arange(6.0).reshape(3, 2)
    carry, ys = ops.scan(lambda c, v: (c + v, c), torch.zeros(2), x)
    assert carry.tolist() == [6, 9]
    assert ys.tolist() == [[0, 0], [0, 1], [2, 4]]
    assert ops.scan(lambda c, v: (c + v, c + v), torch.zeros(2), x, reverse=True)[1].tolist() == [[6, 9], [6, 8], [4, 5]]
    assert ops.scan(lambda c, _: (c + 1, c), torch.tensor(0), length=3)[1].tolist() == [0, 1, 2]
    for reverse in (False, True):
        wanted = x.flip(0).cumsum(0).flip(0) if reverse else x.cumsum(0)
        assert ops.associative_scan(torch.add, x, reverse).tolist() == wanted.tolist()
    for mapped in (ops.map, ops.vectorized_map):
        assert mapped(lambda v: v.sum(), x).tolist() == [1, 5, 9]
        assert mapped(lambda p: p[0] * p[1], (x, x)).tolist() == (x * x).tolist()
    assert ops.map(lambda v: v * 2, SymbolicTensor((3, 2))).shape == (3, 2)
    dot = ops.vectorize(torch.dot, signature="(n),(n)->()")
    assert dot(x, x[0]).tolist() == (x @ x[0]).tolist()
    assert ops.vectorize(lambda a, k: a * k, excluded={1})(x, 3).tolist() == (x * 3).tolist()


def test_gradients_pass_through_scatters():
    x = torch.arange(4.0, requires_grad=True)
    ops.slice_update(x, [1], [5.0, 6.0]).sum().backward()
    assert x.grad.tolist() == [1, 0, 0, 1]
    x.grad = None
    (ops.scatter_update(x, [[0]], [9.0]) * torch.arange(4.0)).sum().backward()
    assert x.grad.tolist() == [0, 1, 2, 3]
    assert ops.slice(x, torch.tensor([1]), [2]).tolist() == [1, 2]
    assert ops.slice_update(x, torch.tensor([1]), [7.0, 8.0]).tolist() == [0, 7, 8, 3]


def test_compiles_whole():
    def f(x, pred):
        y = ops.relu(ops.matmul(x, ops.transpose(x)))
        y = ops.concatenate([y, ops.softmax(y), ops.pad(y, ((0, 0), (0, 1)), mode="reflect")], 1)
        y = ops.layer_normalization(y) + ops.mean(y, axis=1, keepdims=True) * ops.one_hot([0, 1, 2], y.shape[1])
        y = ops.cond(pred, lambda: y * 2, lambda: y + 1)
        values, places = ops.top_k(ops.clip(ops.log1p(ops.abs(y)), 0, 3), 3)
        return ops.where(values > 1, values, ops.cast(places, "float32")), ops.slice_update(y, [0, 1], ops.zeros((2, 2)))

    x, pred = torch.from_numpy(A), torch.tensor(True)
    for got, wanted in zip(torch.compile(f, backend="eager", fullgraph=True)(x, pred), f(x, pred), strict=True):
        torch.testing.assert_close(got, wanted)


# -- mistakes


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: ops.split(torch.ones(5), 2), r"size 5 cannot be cut into 2 equal parts"),
        (lambda: ops.squeeze(torch.ones(2, 3), 0), r"only an axis of size 1.*axis=0, shape \(2, 3\)"),
        (lambda: ops.sum(torch.ones(2), axis=3), r"axis 3 does not exist in a tensor with 1 axes"),
        (lambda: ops.pad(torch.ones(2), 1, mode="mirror"), r"mode must be 'constant'.*'mirror'"),
        (lambda: ops.pad(torch.ones(2, 2), ((1, 1), (1, 1), (1, 1))), r"for each of 2 axes"),
        (lambda: ops.where(torch.ones(2) > 0, 1.0), r"both `x1` and `x2`"),
        (lambda: ops.convert_to_tensor("text"), r"made of numbers.*'text'"),
        (lambda: ops.conv(torch.ones(1, 4, 3), torch.ones(2, 2, 5)), r"3 input channels cannot be put into groups of 2"),
        (lambda: ops.conv(torch.ones(1, 4, 2), torch.ones(2, 2, 5), padding="samme"), r"'valid' or 'same'.*'samme'"),
        (lambda: ops.max_pool(torch.ones(1, 4, 4, 2), (2, 2, 2)), r"`pool_size` must be an integer or 2 of them"),
        (lambda: ops.image.resize(torch.ones(4, 4, 1), (2, 2), "bilinar"), r"Did you mean 'bilinear'"),
        (lambda: ops.image.pad_images(torch.ones(4, 4, 1), 1), r"Two of `top_padding`, `bottom_padding`"),
        (lambda: ops.rearrange(torch.ones(2, 2), "a b c -> c"), r"names 3 axes"),
        (lambda: ops.rearrange(torch.ones(2, 2), "a b -> a c"), r"must name the same axes"),
        (lambda: ops.sparse_categorical_crossentropy([1, 2], torch.ones(3, 4)), r"class numbers of shape \(3,\)"),
        (lambda: ops.binary_crossentropy(torch.ones(2), torch.ones(3)), r"must have one shape.*\(2,\) and \(3,\)"),
        (lambda: ops.qr(torch.ones(2, 2), "ful"), r"'reduced' or 'complete'"),
        (lambda: ops.scatter_update(torch.ones(2), [[0]], [1.0], "mean"), r"reduction must be None.*'mean'"),
    ],
)
def test_mistakes_are_explained(call, text):
    with pytest.raises(ValueError, match=text):
        call()
