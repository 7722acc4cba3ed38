"""Shapes are inferred by the calls themselves: an axis is None where it really varies, and nowhere else."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import hornbeam as keras
from hornbeam import layers
from hornbeam.graph import infer as infering
from hornbeam.graph import tree

TOKEN = torch.ones(1, 4)

SHAPES: dict[str, tuple[tuple[Any, ...], Callable[[Any], Any], tuple[Any, ...]]] = {
    "token before the batch": ((4,), lambda x: torch.cat([TOKEN, x], 0), (None, 4)),
    "a function after it": ((4,), lambda x: torch.relu(torch.cat([TOKEN, x], 0)), (None, 4)),
    "two functions after it": ((4,), lambda x: torch.cat([TOKEN, x], 0).mul(2).sum(1), (None,)),
    "a layer after it": ((4,), lambda x: layers.Dense(3)(torch.cat([TOKEN, x], 0)), (None, 3)),
    "a function after the layer": ((4,), lambda x: layers.Dense(3)(torch.cat([TOKEN, x], 0)).relu(), (None, 3)),
    "a plain module after it": ((4,), lambda x: nn.Linear(4, 3)(torch.cat([TOKEN, x], 0)), (None, 3)),
    "joined with the batch again": ((4,), lambda x: torch.cat([torch.cat([TOKEN, x], 0), x], 0), (None, 4)),
    "beside the batch": ((4,), lambda x: torch.einsum("ij,kj->ik", torch.cat([TOKEN, x], 0), x), (None, None)),
    "transposed": ((4,), lambda x: torch.cat([torch.ones(4, 1), x.T], 1), (4, None)),
    "padded batch": ((4,), lambda x: F.pad(x, (0, 0, 1, 0)), (None, 4)),
    "padded rows": ((4,), lambda x: F.pad(x, (1, 2)), (None, 7)),
    "padded batch, then a layer": ((8, 8, 3), lambda x: layers.Conv2D(2, 3)(F.pad(x, (0, 0, 0, 0, 0, 0, 2, 1))), (None, 6, 6, 2)),
    "sum over the batch": ((4,), lambda x: x.sum(0), (4,)),
    "maximum over the batch": ((4,), lambda x: x.amax(0), (4,)),
    "argmax over the batch": ((4,), lambda x: x.argmax(0), (4,)),
    "kept axis": ((4,), lambda x: x.mean(0, keepdim=True), (1, 4)),
    "sum of all": ((4,), lambda x: x.sum(), ()),
    "rows against the mean row": ((4,), lambda x: x - x.mean(0), (None, 4)),
    "a product of sizes": ((4, 3), lambda x: x.view(-1), (None,)),
    "a factor of the batch": ((4, 3), lambda x: x.view(-1, 6), (None, 6)),
    "flattened behind the batch": ((4, 3), lambda x: x.flatten(1), (None, 12)),
    "view with -1": ((4, 3), lambda x: x.view(x.size(0), -1), (None, 12)),
    "view with -1 in the middle": ((4, 3), lambda x: x.reshape(-1, 2, 6), (None, 2, 6)),
    "batch by batch": ((4,), lambda x: x @ x.T, (None, None)),
    "a size and one": ((4,), lambda x: torch.zeros((x.size(0) + 1, 2)), (None, 2)),
    "sizes of the same": ((4,), lambda x: torch.zeros((x.size(1), 2)) + x.sum(), (4, 2)),
    "no rows": ((4,), lambda x: x[:, :0], (None, 0)),
    "conv on unknown sizes": ((None, None, 3), lambda x: layers.Conv2D(5, 3)(x), (None, None, None, 5)),
    "torch's conv on unknown sizes": ((3, None, 8), lambda x: nn.Conv2d(3, 5, 3, stride=2)(x), (None, 5, None, 3)),
    "pooling after it": ((None, None, 3), lambda x: layers.MaxPooling2D()(layers.Conv2D(5, 3)(x)), (None, None, None, 5)),
    "global pooling after it": ((None, None, 3), lambda x: layers.GlobalAveragePooling2D()(x), (None, 3)),
    "unknown time": ((None, 4), lambda x: x * 2, (None, None, 4)),
    "mean over unknown time": ((None, 4), lambda x: x.mean(1), (None, 4)),
    "maximum over the batch, unknown time": ((None, 4), lambda x: x.amax(0), (None, 4)),
    "token before the batch, unknown time": ((None, 4), lambda x: torch.cat([x[:1] * 0, x.amax(0)[None], x], 0), (None, None, 4)),
    "a layer after that": ((None, 4), lambda x: layers.Dense(3)(F.pad(x, (0, 0, 0, 0, 1, 0))).relu(), (None, None, 3)),
    "token before unknown time": ((None, 4), lambda x: F.pad(x, (0, 0, 1, 0)), (None, None, 4)),
    "half of unknown time": ((None, 4), lambda x: x[:, ::2], (None, None, 4)),
    "a fixed part of unknown time": ((None, 4), lambda x: x[:, :3], (None, 3, 4)),
    "the last step": ((None, 4), lambda x: x[:, -1], (None, 4)),
    "time by time": ((None, 4), lambda x: x @ x.mT, (None, None, None)),
    "unknown time at the end": ((4, None), lambda x: x.mT, (None, None, 4)),
    "time folded into the batch": ((None, 4), lambda x: x.reshape(-1, 4), (None, 4)),
    "mask index": ((4,), lambda x: x[x[:, 0] > 0], (None, 4)),
    "nonzero": ((4,), lambda x: torch.nonzero(x), (None, 2)),
    "masked select": ((4,), lambda x: torch.masked_select(x, x > 0), (None,)),
    "unique": ((4,), lambda x: torch.unique(x), (None,)),
    "a layer after a mask index": ((4,), lambda x: layers.Dense(2)(x[x[:, 0] > 0]), (None, 2)),
    "complex": ((8,), lambda x: torch.fft.rfft(x), (None, 5)),
    "bool": ((8,), lambda x: (x > 0).any(1), (None,)),
}  # fmt: skip


@pytest.mark.parametrize("name", SHAPES)
def test_shapes(name: str) -> None:
    shape, function, expected = SHAPES[name]
    x = keras.Input(shape)
    y = function(x)
    assert y.shape == expected
    model = keras.Model(x, y)
    for batch, time in ((1, 8), (2, 8), (5, 10)):
        value = torch.randn(batch, *(time if d is None else d for d in shape))
        got = model(value)
        assert got.dim() == len(expected)
        assert all(e is None or e == d for e, d in zip(expected, got.shape, strict=True)), (expected, got.shape)
        assert f"torch.{y.dtype}" == str(got.dtype)


def test_a_fixed_batch_is_fixed_everywhere() -> None:
    x = keras.Input(batch_shape=(6, 4))
    assert torch.cat([TOKEN, x], 0).shape == (7, 4)
    assert layers.Dense(2)(x).shape == (6, 2)
    assert x.view(-1, 2, 2).shape == (6, 2, 2)


def test_numbers_that_depend_on_the_batch_are_no_constants() -> None:
    x = keras.Input((4,))
    n = x.size(0)
    model = keras.Model(x, [x.sum(0) / (n + 1), x.sum(0) * (1 / n), x.sum(0) * (0.5 * n - 1)])
    value = torch.ones(3, 4)
    assert [float(v[0]) for v in model(value)] == [0.75, 1.0, 1.5]


def test_a_sizes_arithmetic_of_unknown_time() -> None:
    x = keras.Input((None, 4))
    steps = x.size(1)
    y = torch.cat([torch.zeros((x.size(0), steps + 1, 4)), x], 1)
    assert y.shape == (None, None, 4)
    assert keras.Model(x, y)(torch.ones(2, 3, 4)).shape == (2, 7, 4)


def test_shapes_that_do_not_fit_are_found_when_the_model_is_made() -> None:
    x = keras.Input((4,))
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        nn.Linear(5, 2)(x)
    with pytest.raises(RuntimeError, match="must match"):
        x + torch.ones(3)
    with pytest.raises(RuntimeError, match="invalid"):
        x.view(x.size(0), 3)


def test_inference_draws_no_random_number_and_makes_no_gradient() -> None:
    state = torch.get_rng_state()
    x = keras.Input((4,))
    F.dropout(torch.cat([TOKEN, x], 0), 0.5)
    torch.rand_like(x)
    nn.Dropout(0.5)(x)
    assert torch.equal(torch.get_rng_state(), state)
    linear = nn.Linear(4, 2)
    linear(x)
    assert linear.weight.grad is None


def test_large_calls_are_not_computed() -> None:
    """Without a free batch a call as large as this one is looked at on meta tensors."""
    a = keras.KerasTensor((4096, 4096))
    assert (a @ a).shape == (4096, 4096)
    assert infering._SMALL < 4096 * 4096


def test_recording_imports_no_compiler() -> None:
    code = """
    import sys
    import torch
    import torch.nn.functional as F
    import hornbeam as keras
    x = keras.Input((8, 8, 3))
    h = keras.layers.Conv2D(4, 3)(x)
    h = torch.cat([torch.ones(1, 6, 6, 4), torch.relu(h)], 0)
    h = F.scaled_dot_product_attention(h, h, h).mean((1, 2)) - h.amax((1, 2)) + h.sum((0, 1, 2))
    t = keras.Input((None, 4))
    keras.Model([x, t], [h, torch.nn.Linear(4, 2)(t.mean(1)), keras.layers.LSTM(3)(t)]).summary(print_fn=lambda s: None)
    heavy = [m for m in sys.modules if m.startswith(("torch._dynamo", "torch._inductor", "sympy", "pandas"))]
    assert not heavy, heavy[:5]
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, env=_environment())


def _environment() -> dict[str, str]:
    import os
    from pathlib import Path

    return {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2] / "src"), "OMP_NUM_THREADS": "1"}


# -- random chains

OPS: dict[str, Callable[[Any], Any]] = {
    "relu": torch.relu,
    "flatten": lambda x: x.flatten(1) if x.ndim > 2 else x,
    "rows": lambda x: x.reshape(-1, x.shape[-1]),
    "fold": lambda x: x.reshape(x.size(0), 2, -1),
    "unfold": lambda x: x.reshape(-1, 2, 2),
    "swap": lambda x: x.transpose(1, -1),
    "first axis last": lambda x: x.movedim(0, -1).movedim(-1, 0),
    "new axis": lambda x: x.unsqueeze(1) if x.ndim < 4 else x,
    "sum": lambda x: x.sum(-1, keepdim=True),
    "mean": lambda x: x.mean(1) if x.ndim > 2 else x,
    "double": lambda x: torch.cat([x, x], -1),
    "double the batch": lambda x: torch.cat([x, x], 0),
    "one more row": lambda x: torch.cat([torch.zeros((1, *x.shape[1:])), x], 0),
    "padded": lambda x: F.pad(x, (1, 1)),
    "padded batch": lambda x: F.pad(x, (0, 0) * (x.ndim - 1) + (2, 1)),
    "half": lambda x: x[..., ::2],
    "product": lambda x: x.unsqueeze(-1) * x.unsqueeze(-2) if x.ndim < 4 else x,
    "centred": lambda x: x - x.mean(0),
    "repeat": lambda x: x.repeat_interleave(2, 0),
    "zeros": lambda x: torch.zeros((x.size(0) + 1, 4)),
    "count": lambda x: x.sum(-1, keepdim=True) / (x.size(0) + 1),
}  # fmt: skip


def _run(names: list[str], x: Any) -> list[Any]:
    found = [x]
    for name in names:
        found.append(OPS[name](found[-1]))
    return found[1:]


@settings(max_examples=120, deadline=None, derandomize=True)
@given(st.lists(st.sampled_from(sorted(OPS)), min_size=1, max_size=7))
def test_random_chains(names: list[str]) -> None:
    """The symbolic shape agrees with eager ones, and an axis is None exactly where eager sizes differ."""
    eager = []
    for batch in (1, 2, 5):
        try:
            eager.append(_run(names, torch.randn(batch, 4, 2)))
        except (RuntimeError, IndexError):
            return  # the chain does not fit together for this batch
    x = keras.Input((4, 2))
    symbols = _run(names, x)
    model = keras.Model(x, symbols)
    for symbol, *values in zip(symbols, *eager, strict=True):
        sizes = list(zip(*[v.shape for v in values], strict=True))
        assert symbol.shape == tuple(None if len(set(s)) > 1 else s[0] for s in sizes), (names, symbol.shape, sizes)
    value = torch.randn(5, 4, 2, generator=torch.Generator().manual_seed(0))
    for got, wanted in zip(tree.leaves(model(value)), _run(names, value), strict=True):
        torch.testing.assert_close(got, wanted)
