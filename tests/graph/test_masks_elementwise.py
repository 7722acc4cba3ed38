"""Every elementwise function of `hornbeam.ops` and every activation lets a mask through, and nothing that moves elements does."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

import hornbeam as keras
from hornbeam import layers, ops
from hornbeam.ops import activation, elementwise

FUNCTIONS = {n: f for m in (elementwise, activation) for n, f in vars(m).items() if getattr(f, "records", False)}
ACTIVATIONS = {n: f for n, f in vars(keras.activations).items() if inspect.isfunction(f) and hasattr(keras.ops, n)}


def masked() -> Any:
    return layers.Masking()(keras.Input((5, 3)))


def result(function: Any) -> Any:
    """What a function of one or two tensors makes of masked ones; None where it takes something else."""
    for count in (1, 2):
        try:
            return function(*[masked() for _ in range(count)])
        except (TypeError, RuntimeError, ValueError):
            continue
    return None


@pytest.mark.parametrize("function", [*FUNCTIONS.values(), *ACTIVATIONS.values()], ids=[*FUNCTIONS, *ACTIVATIONS])
def test_masks_pass(function: Any) -> None:
    y = result(function)
    if getattr(y, "shape", None) != (None, 5, 3):
        pytest.skip("takes or returns another shape")
    assert y._keras_mask.shape == (None, 5)


def test_the_named_ones_are_among_them() -> None:
    for function in (ops.power, ops.arctan2, ops.mod, ops.equal, ops.logaddexp2, ops.cast):
        y = function(masked(), "float32") if function is ops.cast else function(masked(), masked())
        assert y._keras_mask is not None, function.__name__


@pytest.mark.parametrize(
    "move", [ops.flip, ops.sort, ops.cumsum, ops.transpose, ops.ravel, lambda x: ops.matmul(x, ops.transpose(x, (0, 2, 1)))]
)
def test_masks_end_where_elements_move(move: Any) -> None:
    assert getattr(move(masked()), "_keras_mask", None) is None
