"""One layer of ours beside Keras's: same weights, same input; outputs, gradients, masks, shapes and configs are compared."""

from __future__ import annotations

import os
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
import numpy as np
import torch

from hornbeam import layers
from hornbeam.graph import tree


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def pair(name: str, kwargs: dict[str, Any] | None = None) -> tuple[Any, Any]:
    """Returns our layer and Keras's, made with the same arguments."""
    return getattr(layers, name)(**(kwargs or {})), getattr(keras.layers, name)(**(kwargs or {}))


def tensors(nest: Any) -> Any:
    """Returns fresh tensors of the arrays in a nest, that take gradients where they are floats."""
    make = lambda v: torch.tensor(v, requires_grad=v.dtype.kind == "f") if isinstance(v, np.ndarray) else v  # noqa: E731
    return tree.map_leaves(make, nest)


def copy_weights(ours: Any, theirs: Any) -> None:
    """Gives our layer Keras's weights."""
    with torch.no_grad():
        for mine, other in zip(ours.weights, theirs.weights, strict=True):
            assert tuple(mine.shape) == tuple(other.shape), (mine.path, tuple(mine.shape), tuple(other.shape))
            mine.copy_(other.value)


def settings(config: dict[str, Any]) -> dict[str, Any]:
    """Returns a config without the automatic name."""
    return {k: v for k, v in config.items() if k != "name"}


def close(mine: Any, other: Any, tolerance: float = 1e-5) -> None:
    for a, b in zip(tree.leaves(mine), tree.leaves(other), strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


def gradients(inputs: Any, weights: Any) -> list[torch.Tensor]:
    return [v.grad for v in (*tree.leaves(inputs), *weights) if isinstance(v, torch.Tensor) and v.grad is not None]


def same(name: str, kwargs: dict[str, Any] | None, inputs: Any, tolerance: float = 1e-5, **call: Any) -> None:
    """Checks outputs and gradients of a call against Keras, and the config."""
    ours, theirs = pair(name, kwargs)
    assert settings(ours.get_config()) == settings(theirs.get_config())
    x, y = tensors(inputs), tensors(inputs)
    theirs(y, **call)
    ours(x, **call)
    copy_weights(ours, theirs)
    mine, other = ours(x, **call), theirs(y, **call)
    close(mine, other, tolerance)
    leaves = [v for v in tree.leaves(mine) if v.is_floating_point()]
    if leaves and leaves[0].requires_grad:
        weights = [normal(*v.shape, seed=i) for i, v in enumerate(leaves)]
        for outputs in (leaves, [v for v in tree.leaves(other) if v.is_floating_point()]):
            sum((v * torch.tensor(w)).sum() for v, w in zip(outputs, weights, strict=True)).backward()
        close(
            gradients(x, ours.trainable_weights),
            gradients(y, [w.value for w in theirs.trainable_weights]),
            tolerance,
        )


def same_shape(name: str, kwargs: dict[str, Any] | None, shapes: Any) -> None:
    """Checks the shape of a symbolic call against Keras; `shapes` is one batch shape or a list of them."""
    ours, theirs = pair(name, kwargs)
    many = isinstance(shapes, list)
    mine = ours([layers.Input(batch_shape=s) for s in shapes] if many else layers.Input(batch_shape=shapes))
    other = theirs([keras.Input(batch_shape=s) for s in shapes] if many else keras.Input(batch_shape=shapes))
    assert mine.shape == tuple(other.shape)
    assert pair(name, kwargs)[0].compute_output_shape(shapes) == tuple(other.shape)
