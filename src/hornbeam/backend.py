"""The few functions of `keras.backend` that Keras 3 still has."""

from __future__ import annotations

from collections import Counter
from functools import reduce
from typing import Any

import torch

from hornbeam.config import epsilon as epsilon
from hornbeam.config import floatx as floatx
from hornbeam.config import image_data_format as image_data_format
from hornbeam.config import set_epsilon as set_epsilon
from hornbeam.config import set_floatx as set_floatx
from hornbeam.config import set_image_data_format as set_image_data_format
from hornbeam.core.dtype import is_float, to_torch
from hornbeam.dtype_policies import DTypePolicy as DTypePolicy
from hornbeam.utils import clear_session as clear_session
from hornbeam.utils import is_keras_tensor as is_keras_tensor
from hornbeam.utils import standardize_dtype as standardize_dtype

_numbers: Counter[str] = Counter()


def backend() -> str:
    """Returns "torch", the one engine there is."""
    return "torch"


def get_uid(prefix: str = "") -> int:
    """Returns 1, 2, 3, … for a prefix, one more at each call.

    >>> get_uid("of this example"), get_uid("of this example")
    (1, 2)
    """
    _numbers[prefix] += 1
    return _numbers[prefix]


def is_float_dtype(dtype: Any) -> bool:
    """Returns whether a dtype is a floating point type.

    >>> is_float_dtype("bfloat16"), is_float_dtype("int32")
    (True, False)
    """
    return is_float(standardize_dtype(dtype))


def is_int_dtype(dtype: Any) -> bool:
    """Returns whether a dtype is an integer type; bool is none."""
    return standardize_dtype(dtype).startswith(("int", "uint"))


def result_type(*dtypes: Any) -> str:
    """Returns the dtype that torch gives a sum of tensors of these dtypes.

    >>> result_type("int32", "float16")
    'float16'
    """
    return standardize_dtype(reduce(torch.promote_types, map(to_torch, dtypes or ("float32",))))
