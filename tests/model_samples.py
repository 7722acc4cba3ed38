"""What several test files share: models that either library builds, code on one tensor, and how configs are compared."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

CONSTANT = torch.arange(1.0, 7.0)

OPERATORS: dict[str, Callable[[Any], Any]] = {
    "add": lambda x: x + 2,
    "radd": lambda x: 2 + x,
    "sub": lambda x: x - 2.5,
    "rsub": lambda x: 1 - x,
    "mul": lambda x: x * CONSTANT,
    "rmul": lambda x: CONSTANT * x,
    "div": lambda x: x / 3,
    "rdiv": lambda x: 3 / (x * x + 1),
    "floordiv": lambda x: x // 0.5,
    "rfloordiv": lambda x: 5 // (x * x + 1),
    "mod": lambda x: x % 0.7,
    "rmod": lambda x: 5 % (x * x + 1),
    "pow": lambda x: x**2,
    "rpow": lambda x: 2**x,
    "neg": lambda x: -x,
    "pos": lambda x: +x,
    "abs": lambda x: abs(x),
    "matmul": lambda x: x @ CONSTANT.view(6, 1),
    "rmatmul": lambda x: CONSTANT.view(1, 6) @ x.unsqueeze(-1),
    "and": lambda x: (x > 0) & (x < 1),
    "or": lambda x: (x > 1) | (x < -1),
    "xor": lambda x: (x > 0) ^ (x < 1),
    "invert": lambda x: ~(x > 0),
    "eq": lambda x: x == x,
    "ne": lambda x: x != 0,
    "le": lambda x: x <= 0.5,
    "ge": lambda x: x >= 0.5,
    "shift": lambda x: (x.abs().int() << 2) >> 1,
    "round trip": lambda x: operator.truediv(operator.mul(x, 3), 3),
}


SLICES: dict[str, Callable[[Any], Any]] = {
    "columns": lambda x: x[:, :4],
    "negative": lambda x: x[:, -2:],
    "step": lambda x: x[:, ::2],
    "new axis": lambda x: x[..., None],
    "middle": lambda x: x[:, None, 1:3],
    "one": lambda x: x[:, 2],
    "ellipsis": lambda x: x[..., 0],
    "row": lambda x: x[0],
    "list": lambda x: x[:, [0, 2, 2]],
    "tensor": lambda x: x[:, torch.tensor([1, 0])],
    "mask": lambda x: x[:, torch.tensor([True, False, True, False, True])],
    "reversed": lambda x: x.flip(1),
    "batch": lambda x: x[1:],
}


# -- each builds a model from either library's layers


def mlp(k: Any) -> Any:
    x = k.Input((8,), name="x")
    h = k.layers.Dense(16, activation="relu", name="h1")(x)
    h = k.layers.Dense(16, activation="tanh", name="h2")(h)
    return k.Model(x, k.layers.Dense(3, name="out")(h), name="mlp")


def inception(k: Any) -> Any:
    L = k.layers
    x = k.Input((12, 12, 3), name="image")
    a = L.Conv2D(4, 1, padding="same", activation="relu", name="a1")(x)
    b = L.Conv2D(4, 1, padding="same", activation="relu", name="b1")(x)
    b = L.Conv2D(6, 3, padding="same", name="b2")(b)
    c = L.MaxPooling2D(3, strides=1, padding="same", name="c1")(x)
    h = L.Concatenate(name="cat")([a, b, c])
    h = L.BatchNormalization(name="norm")(h)
    return k.Model(x, L.Dense(2, name="out")(L.GlobalAveragePooling2D(name="gap")(h)), name="inception")


def residual(k: Any) -> Any:
    L = k.layers
    x = k.Input((6,), name="x")
    h = x
    for i in range(3):
        h = L.Add(name=f"add{i}")([h, L.Dense(6, activation="relu", name=f"d{i}")(h)])
    return k.Model(x, h, name="residual")


def shared(k: Any) -> Any:
    L = k.layers
    a, b = k.Input((5,), name="a"), k.Input((5,), name="b")
    tower = k.Sequential(
        [k.Input((5,), name="tower_input"), L.Dense(4, activation="relu", name="t1"), L.Dense(3, name="t2")], name="tower"
    )
    return k.Model([a, b], L.Dot(1, name="dot")([tower(a), tower(b)]), name="siamese")


def several(k: Any) -> Any:
    L = k.layers
    title, body = k.Input((4,), name="title"), k.Input((6,), name="body")
    h = L.Concatenate(name="cat")([L.Dense(3, name="dt")(title), L.Dense(3, name="db")(body)])
    return k.Model([title, body], [L.Dense(1, name="priority")(h), L.Dense(2, name="department")(h)], name="several")


def recurrent(k: Any) -> Any:
    L = k.layers
    x = k.Input((7, 4), name="x")
    h = L.Bidirectional(L.LSTM(3, return_sequences=True, name="lstm"), name="bi")(x)
    return k.Model(x, L.TimeDistributed(L.Dense(2, name="inner"), name="td")(h), name="recurrent")


MODELS = [mlp, inception, residual, shared, several, recurrent]


def given(model: Any, batch: int = 3) -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    return [rng.normal(size=(batch, *x.shape[1:])).astype("float32") for x in model.inputs]


def plain(config: Any, theirs: Any) -> Any:
    """A config in JSON's terms, without what Keras writes for some weightless layers only."""
    if isinstance(config, dict):
        other = theirs if isinstance(theirs, dict) else {}
        extra = {k for k, v in config.items() if (k == "build_config" and k not in other) or (k == "compile_config" and not v)}
        return {k: plain(v, other.get(k)) for k, v in config.items() if k not in extra}
    if isinstance(config, (list, tuple)):
        others = theirs if isinstance(theirs, (list, tuple)) and len(theirs) == len(config) else [None] * len(config)
        return [plain(v, o) for v, o in zip(config, others, strict=True)]
    return config


def same(ours: Any, theirs: Any) -> None:
    assert plain(ours, theirs) == plain(theirs, theirs)
