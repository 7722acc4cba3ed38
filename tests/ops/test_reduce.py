"""Reductions over no axes at all, which NumPy answers value by value and torch takes for all axes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hornbeam import ops
from hornbeam.layers.input import Input

X = np.array([[1.0, 2.0, 3.0], [4.0, 0.0, 6.0]], "float32")
SAME = "sum mean prod max min median average nansum nanmean nanprod nanmax nanmedian logsumexp".split()
ZERO = "var std ptp nanvar nanstd".split()


@pytest.mark.parametrize("name", SAME + ZERO)
def test_no_axes_leave_every_value_alone(name):
    expected = X if name in SAME else np.zeros_like(X)
    assert np.array_equal(getattr(ops, name)(X, axis=()), expected)
    assert getattr(ops, name)(Input((3,)), axis=()).shape == (None, 3)
    if name != "average":
        assert np.array_equal(getattr(ops, name)(X, axis=(), keepdims=True), expected)


def test_counting_and_weighing_over_no_axes():
    assert ops.count_nonzero(X, axis=()).tolist() == [[1, 1, 1], [1, 0, 1]]
    assert np.array_equal(ops.average(X, axis=(), weights=X + 1), X)


@pytest.mark.parametrize("name", SAME + ZERO)
def test_a_number_has_no_axes(name):
    assert float(getattr(ops, name)(torch.tensor(2.0))) == (2.0 if name in SAME else 0.0)


def test_a_slice_to_the_end():
    assert ops.slice(X, [0, 1], [1, -1]).tolist() == [[2.0, 3.0]]
    assert ops.slice(Input(batch_shape=(3, 3)), (1, 1), (-1, 2)).shape == (2, 2)


def test_moments_of_float16_stay_finite():
    mean, variance = ops.moments(torch.tensor([-60000.0, 60000.0], dtype=torch.float16), 0)
    assert mean.item() == 0
    assert variance.item() == torch.finfo(torch.float16).max


def test_multi_hot_joins_axis_1():
    numbers = np.array([[[0], [2], [0]], [[1], [1], [3]]])
    assert ops.multi_hot(numbers, 4).tolist() == [[[1, 0, 1, 0]], [[0, 1, 0, 1]]]
    assert ops.multi_hot(numbers[0, :, 0], 4).tolist() == [1, 0, 1, 0]
