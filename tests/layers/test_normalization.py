"""Normalization against Keras, moving moments included; masks, tiny batches, frozen layers, mixed precision."""

import copy
import socket

import numpy as np
import pytest
import torch

from hornbeam import layers
from hornbeam.layers.spectral_normalization import SpectralNormalization
from layer_oracle import agree, close, contract, keras, numbers

TWO, THREE, FOUR, FIVE = numbers(6, 4), numbers(4, 5, 6), 2 * numbers(3, 4, 5, 6) + 1, numbers(2, 3, 2, 3, 4)
BATCH = [
    ({}, TWO),
    ({"momentum": 0.8, "epsilon": 0.1, "gamma_regularizer": "l2"}, THREE),
    ({"axis": 1}, THREE),
    ({"axis": 1, "center": False}, TWO),
    ({"momentum": 0.9, "scale": False}, FOUR),
    ({"axis": 1, "momentum": 0.9}, FOUR),
    ({"axis": 2, "scale": False, "center": False}, FOUR),
    ({"axis": -3}, FOUR),
    ({"momentum": 0.5}, FIVE),
    ({"renorm": True, "momentum": 0.9, "renorm_momentum": 0.7}, FOUR),
    ({"renorm": True, "renorm_clipping": {"rmax": 1.2, "rmin": 0.8, "dmax": 0.3}}, THREE),
]
OTHERS = [
    ("LayerNormalization", {}, THREE),
    ("LayerNormalization", {"axis": [1, 2], "epsilon": 0.1, "scale": False}, THREE),
    ("LayerNormalization", {"axis": (-2, -1), "center": False}, FOUR),
    ("LayerNormalization", {"center": False, "scale": False}, TWO),
    ("GroupNormalization", {"groups": 3}, FOUR),
    ("GroupNormalization", {"groups": 2, "axis": 1, "scale": False}, FOUR),
    ("GroupNormalization", {"groups": -1}, THREE),
    ("GroupNormalization", {"groups": 2, "center": False, "scale": False}, TWO),
    ("RMSNormalization", {}, THREE),
    ("RMSNormalization", {"axis": (1, 2), "epsilon": 0.1}, THREE),
    ("UnitNormalization", {}, THREE),
    ("UnitNormalization", {"axis": [1, 2]}, THREE),
]


@pytest.mark.oracle
@pytest.mark.parametrize(("kwargs", "x"), BATCH)
def test_batch_normalization_agrees_with_keras(kwargs, x):
    agree("BatchNormalization", kwargs, x, training=True)


@pytest.mark.oracle
@pytest.mark.parametrize(("kwargs", "x"), [({"momentum": 0.9}, THREE), ({"renorm": True}, THREE)])
def test_masked_moments_agree_with_keras(kwargs, x):
    agree("BatchNormalization", kwargs, x, training=True, mask=np.arange(20).reshape(4, 5) % 3 > 0)


@pytest.mark.oracle
@pytest.mark.parametrize(("name", "kwargs", "x"), OTHERS)
def test_others_agree_with_keras(name, kwargs, x):
    agree(name, kwargs, x)


@pytest.mark.oracle
@pytest.mark.filterwarnings("ignore:You passed `rms_scaling")
def test_rms_scaling_agrees_with_keras():
    agree("LayerNormalization", {"rms_scaling": True, "epsilon": 0.1}, THREE)


@pytest.mark.parametrize(("axis", "shape"), [(1, (5,)), ((0, 2), (4, 6)), ((2, 1), (5, 6))])
def test_any_axes(axis, shape):
    """Axes that are not the last ones, which Keras's torch backend refuses, by the formula."""
    x, axes = torch.tensor(THREE), axis if isinstance(axis, tuple) else (axis,)
    layer = layers.LayerNormalization(axis=axis)
    expected = (x - x.mean(axes, keepdim=True)) / (x.var(axes, correction=0, keepdim=True) + 1e-3).sqrt()
    close(layer(x), expected)
    assert tuple(layer.gamma.shape) == shape
    with torch.no_grad():
        layer.gamma.copy_(torch.tensor(numbers(*shape)))
    close(layer(x), expected * layer.gamma.view([s if i in axes else 1 for i, s in enumerate(x.shape)]))
    rms = layers.RMSNormalization(axis=axis)
    close(rms(x), x / (x.square().mean(axes, keepdim=True) + 1e-6).sqrt())


@pytest.mark.parametrize(
    "name", ["BatchNormalization", "LayerNormalization", "GroupNormalization", "RMSNormalization", "UnitNormalization"]
)
def test_contract(name):
    layer = getattr(layers, name)(**({"groups": 3} if name.startswith("Group") else {}))
    layer(torch.tensor(FOUR), training=True)
    contract(layer, FOUR)
    half = type(layer).from_config({**layer.get_config(), "dtype": "mixed_bfloat16"})
    assert half(torch.tensor(FOUR), training=True).dtype is torch.bfloat16


@pytest.mark.parametrize("kwargs", [{}, {"renorm": True}])
def test_a_training_step_compiles_and_counts_once(kwargs):
    layer, x = layers.BatchNormalization(**kwargs), torch.tensor(FOUR)
    layer.build(x.shape)
    twin = copy.deepcopy(layer)
    torch._dynamo.reset()
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    for _ in range(2):
        close(compiled(x, training=True), twin(x, training=True))
    for a, b in zip(layer.weights, twin.weights, strict=True):
        close(a, b)


def test_two_calls_before_one_backward():
    layer, x = layers.BatchNormalization(), torch.tensor(FOUR, requires_grad=True)
    (layer(x, training=True).square().sum() + layer(2 * x, training=True).sum()).backward()
    assert torch.isfinite(x.grad).all()


def test_a_look_moves_nothing():
    layer = layers.BatchNormalization()
    layer(layers.Input((4,)), training=True)
    layer.compute_output_shape((None, 4))
    assert layer.moving_mean.tolist() == [0] * 4
    assert layer.moving_variance.tolist() == [1] * 4


def test_tiny_batches():
    layer = layers.BatchNormalization(momentum=0.5)
    assert layer(torch.empty(0, 3), training=True).shape == (0, 3)
    assert layer.moving_variance.tolist() == [1, 1, 1]
    assert layer(torch.tensor([[1.0, 2.0, 3.0]]), training=True).tolist() == [[0, 0, 0]]
    assert layer.moving_mean.tolist() == [0.5, 1, 1.5]
    assert layer.moving_variance.tolist() == [0.5, 0.5, 0.5]
    layer(torch.ones(2, 5, 3)[:, 0], training=True, mask=torch.zeros(2, dtype=torch.bool))
    assert layer.moving_variance.tolist() == [0.5, 0.5, 0.5]


def test_a_frozen_layer_infers():
    layer, x = layers.BatchNormalization(), torch.tensor(TWO)
    layer(x, training=True)
    layer.trainable = False
    before = layer.moving_mean.clone()
    assert torch.equal(layer(x, training=True), layer(x, training=False))
    assert torch.equal(layer.moving_mean, before)


def test_stateless_call_returns_the_moving_moments():
    layer, x = layers.BatchNormalization(momentum=0.5), torch.tensor(TWO)
    layer.build(x.shape)
    _, state = layer.stateless_call(layer.trainable_variables, layer.non_trainable_variables, x, training=True)
    close(state[0], 0.5 * TWO.mean(0))
    close(state[1], 0.5 + 0.5 * TWO.var(0))
    assert layer.moving_mean.tolist() == [0] * 4


MISTAKES = [
    (lambda: layers.BatchNormalization(axis=(1, 2)), "`axis` is the one axis of the channels"),
    (lambda: layers.BatchNormalization(axis=3)(torch.ones(2, 3)), "axis 3 is beyond an input of rank 2"),
    (lambda: layers.BatchNormalization(renorm=True, renorm_clipping={"rmaxx": 1}), "Did you mean 'rmax'"),
    (lambda: layers.BatchNormalization()(layers.Input((None,))), "needs a known size on axis -1"),
    (lambda: layers.LayerNormalization(axis="last"), "takes an integer or a list of them"),
    (lambda: layers.GroupNormalization(4)(torch.ones(2, 6)), "must be a multiple of `groups`"),
    (lambda: layers.GroupNormalization(0), "`groups` is a positive integer"),
    (lambda: SpectralNormalization(layers.ReLU()).build((None, 3)), "needs a layer with a `kernel` or `embeddings`"),
    (lambda: SpectralNormalization(layers.Dense(2), 0), "`power_iterations` must be a positive integer"),
]


@pytest.mark.parametrize(("mistake", "message"), MISTAKES)
def test_mistakes_are_explained(mistake, message):
    with pytest.raises((ValueError, TypeError), match=message):
        mistake()


@pytest.mark.oracle
@pytest.mark.parametrize(
    ("inner", "kwargs", "x"), [("Dense", {"units": 3}, TWO), ("Conv2D", {"filters": 3, "kernel_size": 2}, FOUR)]
)
def test_spectral_normalization_agrees_with_keras(inner, kwargs, x):
    pair = [
        wrapper(getattr(space, inner)(**kwargs, name="inner"), power_iterations=2, name="it")
        for wrapper, space in ((SpectralNormalization, layers), (keras.layers.SpectralNormalization, keras.layers))
    ]
    ours, theirs = pair
    ours(torch.tensor(x)), theirs(x)
    names = [{w.path: tuple(w.shape) for w in layer.weights} for layer in pair]
    assert names[0] == names[1]
    values = {w.path: numbers(*w.shape, seed=i) for i, w in enumerate(theirs.weights)}
    for layer in pair:
        layer.set_weights([values[w.path] for w in layer.weights])
    assert ours.get_config() == theirs.get_config()
    close(ours(torch.tensor(x)), theirs(x))
    for _ in range(2):
        close(ours(torch.tensor(x), training=True), theirs(x, training=True))
    after = {w.path: w for w in theirs.weights}
    for w in ours.weights:
        close(w, after[w.path].value)
    assert ours.compute_output_shape((None, *x.shape[1:])) == tuple(theirs.compute_output_shape((None, *x.shape[1:])))


def one_of_two(rank, port, results):
    torch.distributed.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    part, weight = slice(0, 2) if rank == 0 else slice(2, 6), torch.tensor(numbers(6, 4, seed=3))
    x, whole = torch.tensor(TWO[part], requires_grad=True), torch.tensor(TWO, requires_grad=True)
    together, alone = layers.BatchNormalization(synchronized=True), layers.BatchNormalization()
    y, z = together(x, training=True), alone(whole, training=True)
    (y * weight[part]).sum().backward()
    (z * weight).sum().backward()
    pairs = ((y, z[part]), (x.grad, whole.grad[part]), (together.moving_variance, alone.moving_variance))
    results.put([(a - b).abs().max().item() for a, b in pairs])
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_synchronized_moments_are_those_of_all_processes():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    spawn = torch.multiprocessing.get_context("spawn")
    results = spawn.Queue()
    workers = [spawn.Process(target=one_of_two, args=(rank, port, results)) for rank in range(2)]
    for worker in workers:
        worker.start()
    differences = [results.get(timeout=100) for _ in workers]
    for worker in workers:
        worker.join()
    assert max(max(d) for d in differences) < 1e-5
