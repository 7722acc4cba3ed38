"""Initializers against Keras: configs, names, exact values where there are any, distributions where there are none."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from hornbeam import initializers
from hornbeam.core.random import SeedGenerator, set_random_seed
from hornbeam.core.registry import deserialize_keras_object
from signatures import assert_same_signatures

keras = pytest.importorskip("keras")

PUBLIC = sorted(set(initializers.INITIALIZERS.objects))
RANDOM = [n for n in PUBLIC if issubclass(getattr(initializers, n), initializers.RandomInitializer)]
EXACT = [
    ("Zeros", {}, (2, 3)),
    ("Ones", {}, (2, 3)),
    ("Constant", {"value": 2.5}, (2, 3)),
    ("Constant", {"value": [1.0, 2.0]}, (3, 2)),
    ("Identity", {}, (3, 3)),
    ("Identity", {"gain": 2.0}, (3, 4)),
    ("STFT", {}, (8, 1, 5)),
    ("STFT", {"side": "imag", "window": None, "scaling": None}, (4, 1, 3)),
    ("STFT", {"scaling": "spectrum", "periodic": True}, (8, 1, 8)),
    ("STFT", {"window": [1.0, 2.0, 3.0, 4.0]}, (4, 1, 3)),
    ("STFT", {"side": "imag", "window": "hamming"}, (6, 1, 4)),
    ("STFT", {"window": "blackman"}, (6, 1, 4)),
]


@pytest.mark.oracle
def test_names_and_signatures_are_those_of_keras():
    assert_same_signatures(initializers, keras.initializers)


@pytest.mark.oracle
@pytest.mark.parametrize("name", PUBLIC)
def test_configs_as_keras(name):
    ours, theirs = getattr(initializers, name)(), getattr(keras.initializers, name)()
    assert initializers.serialize(ours) == keras.initializers.serialize(theirs)
    assert type(initializers.deserialize(keras.initializers.serialize(theirs))) is type(ours)
    assert type(ours.clone()) is type(ours)


@pytest.mark.oracle
@pytest.mark.parametrize("name", ["zero", "one", "normal", "uniform", "IdentityInitializer", "glorot_uniform", "he_normal"])
def test_aliases_as_keras(name):
    assert type(initializers.get(name)).__name__ == type(keras.initializers.get(name)).__name__


@pytest.mark.oracle
@pytest.mark.parametrize(("name", "kwargs", "shape"), EXACT)
def test_values_as_keras(name, kwargs, shape):
    got, wanted = (getattr(home, name)(**kwargs)(shape) for home in (initializers, keras.initializers))
    torch.testing.assert_close(got, wanted, atol=1e-6, rtol=1e-4)
    assert got.is_contiguous()
    assert getattr(initializers, name)(**kwargs)(shape, dtype="float16").dtype is torch.float16


SHAPES = [(), (4000,), (60, 70), (3, 3, 20, 30), (5, 30, 40)]
SCALED = [
    {"scale": scale, "mode": mode, "distribution": distribution, "input_axes": inputs, "output_axes": outputs}
    for scale, mode in ((1.0, "fan_in"), (2.0, "fan_out"), (0.5, "fan_avg"))
    for distribution in ("truncated_normal", "untruncated_normal", "uniform")
    for inputs, outputs in ((None, None), ([0], [-1]))
]


@pytest.mark.oracle
@pytest.mark.parametrize("kwargs", SCALED)
@pytest.mark.parametrize("shape", SHAPES[1:])
def test_variance_scaling_is_distributed_as_in_keras(kwargs, shape):
    got = initializers.VarianceScaling(**kwargs, seed=1)(shape)
    wanted = keras.initializers.VarianceScaling(**kwargs, seed=1)(shape)
    assert got.std().item() == pytest.approx(wanted.std().item(), rel=0.06)
    assert abs(got.mean().item()) < 4 * wanted.std().item() / math.sqrt(got.numel())
    if kwargs["distribution"] != "untruncated_normal":
        assert got.abs().max().item() == pytest.approx(wanted.abs().max().item(), rel=0.03)


@pytest.mark.parametrize("name", [n for n in RANDOM if n not in ("VarianceScaling", "Orthogonal")])
@pytest.mark.oracle
def test_random_values_are_distributed_as_in_keras(name):
    got, wanted = (getattr(home, name)(seed=2)((80, 90)) for home in (initializers, keras.initializers))
    assert got.std().item() == pytest.approx(wanted.std().item(), rel=0.04)
    assert abs(got.mean().item()) < 4 * wanted.std().item() / math.sqrt(got.numel())


@pytest.mark.oracle
@pytest.mark.parametrize("shape", [*SHAPES, (2, 3, 4, 5, 6)])
@pytest.mark.parametrize("axes", [(None, None), ([0], [-1]), ([0], None)])
def test_fans_as_keras(shape, axes):
    if axes != (None, None) and len(shape) < 2:
        return
    from keras.src.initializers.random_initializers import compute_fans

    assert initializers.compute_fans(shape, *axes) == compute_fans(shape, *axes)


@pytest.mark.parametrize("shape", [(5, 5), (3, 7), (7, 3), (2, 3, 4), (3, 3, 2, 40)])
def test_orthogonal_matrices_are_orthogonal(shape):
    q = initializers.Orthogonal(gain=2.0, seed=1)(shape).reshape(-1, shape[-1])
    q = q.T if q.shape[0] < q.shape[1] else q
    torch.testing.assert_close(q.T @ q, 4 * torch.eye(q.shape[1]), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", RANDOM)
def test_seeds(name):
    cls = getattr(initializers, name)
    once = cls(seed=7)
    assert torch.equal(once((4, 5)), once((4, 5)))
    assert torch.equal(once((4, 5)), cls(seed=7)((4, 5)))
    unseeded = cls()
    assert torch.equal(unseeded((4, 5)), unseeded((4, 5)))
    assert not torch.equal(unseeded((4, 5)), cls()((4, 5)))
    assert unseeded.get_config()["seed"] is None
    stream = cls(seed=SeedGenerator(3))
    first = stream((4, 5))
    assert not torch.equal(first, stream((4, 5)))
    again = cls.from_config(cls(seed=SeedGenerator(3)).get_config())
    assert torch.equal(first, again((4, 5)))


def test_the_process_seed_fixes_unseeded_values_and_drawing_leaves_the_stream_alone():
    made = []
    for _ in range(2):
        set_random_seed(5)
        initializer = initializers.get("glorot_uniform")
        state = torch.get_rng_state()
        made.append(initializer((3, 4)))
        assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(*made)


@pytest.mark.parametrize("name", RANDOM)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_dtypes(name, dtype):
    values = getattr(initializers, name)(seed=1)((6, 7), dtype=dtype)
    assert values.dtype is getattr(torch, dtype)
    assert torch.isfinite(values).all()
    assert len(values.unique()) > 20


def test_values_are_made_on_the_host_whatever_the_default_device():
    with torch.device("meta"):
        assert initializers.HeNormal(seed=1)((2, 2)).device.type == "cpu"
        assert initializers.Zeros()((2,)).device.type == "cpu"


def test_get():
    assert initializers.get(None) is None
    assert isinstance(initializers.get(initializers.Zeros), initializers.Zeros)
    made = initializers.get(np.array([1.0, 2.0]))
    assert made((2,)).tolist() == [1.0, 2.0]
    assert deserialize_keras_object(initializers.serialize(made))((2,)).tolist() == [1.0, 2.0]
    own = lambda shape, dtype=None: torch.ones(shape)  # noqa: E731
    assert initializers.get(own) is own
    assert initializers.deserialize("mine", {"mine": own}) is own


class Scaled(initializers.Initializer):
    def __init__(self, base, factor=2.0):
        self.base, self.factor = base, factor

    def __call__(self, shape, dtype=None, **kwargs):
        return torch.full(shape, self.base * self.factor)


def test_own_initializers_have_configs():
    assert Scaled(3.0).get_config() == {"base": 3.0, "factor": 2.0}
    assert Scaled.from_config(Scaled(3.0, factor=1.0).get_config())((1,)).tolist() == [3.0]
    assert Scaled(3.0).clone()((1,)).tolist() == [6.0]


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: initializers.get("glorot_unifrom"), r"Unknown initializer: 'glorot_unifrom'\. Did you mean 'glorot_uniform'"),
        (lambda: initializers.get(3), r"An initializer is a name.*3 \(int\)"),
        (lambda: initializers.VarianceScaling(mode="fan_inn"), r"`mode` must be one of.*Did you mean 'fan_in'"),
        (lambda: initializers.VarianceScaling(distribution="unifrom"), r"`distribution`.*Did you mean 'uniform'"),
        (lambda: initializers.VarianceScaling(scale=0), r"`scale` must be positive\. Received: scale=0"),
        (lambda: initializers.RandomNormal(seed=1.5), r"RandomNormal: `seed` must be an integer.*1\.5"),
        (lambda: initializers.RandomNormal(seed=1)((2,), dtype="int32"), r"floating point values\. Received: dtype='int32'"),
        (lambda: initializers.Identity()((3,)), r"2 axes is expected\. Received: shape=\(3,\)"),
        (lambda: initializers.Orthogonal()((3,)), r"at least 2 axes\. Received: shape=\(3,\)"),
        (lambda: initializers.Constant([1.0, 2.0])((3,)), r"shape \(2,\) does not broadcast to \(3,\)"),
        (lambda: initializers.STFT(window="han"), r"unknown window 'han'\. Did you mean 'hann'"),
        (lambda: initializers.STFT(side="left"), r"`side` must be 'real' or 'imag'"),
        (lambda: initializers.STFT()((4, 6)), r"\(frame_length, channels, bins\)\. Received: shape=\(4, 6\)"),
    ],
)
def test_mistakes_are_explained(call, text):
    with pytest.raises(ValueError, match=text):
        call()
