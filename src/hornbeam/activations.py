"""Activation functions, as `keras.activations` has them. They take tensors, arrays, numbers and symbolic tensors."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from hornbeam.core.registry import Registry, custom_object_scope, serialize_keras_object
from hornbeam.ops.activation import celu as celu
from hornbeam.ops.activation import elu as elu
from hornbeam.ops.activation import glu as glu
from hornbeam.ops.activation import hard_shrink as hard_shrink
from hornbeam.ops.activation import hard_sigmoid as hard_sigmoid
from hornbeam.ops.activation import hard_silu as hard_silu
from hornbeam.ops.activation import hard_swish as hard_swish
from hornbeam.ops.activation import hard_tanh as hard_tanh
from hornbeam.ops.activation import leaky_relu as leaky_relu
from hornbeam.ops.activation import log_sigmoid as log_sigmoid
from hornbeam.ops.activation import log_softmax as log_softmax
from hornbeam.ops.activation import mish as mish
from hornbeam.ops.activation import relu6 as relu6
from hornbeam.ops.activation import selu as selu
from hornbeam.ops.activation import sigmoid as sigmoid
from hornbeam.ops.activation import silu as silu
from hornbeam.ops.activation import soft_shrink as soft_shrink
from hornbeam.ops.activation import softmax as softmax
from hornbeam.ops.activation import softplus as softplus
from hornbeam.ops.activation import softsign as softsign
from hornbeam.ops.activation import sparse_plus as sparse_plus
from hornbeam.ops.activation import sparse_sigmoid as sparse_sigmoid
from hornbeam.ops.activation import sparsemax as sparsemax
from hornbeam.ops.activation import squareplus as squareplus
from hornbeam.ops.activation import swish as swish
from hornbeam.ops.activation import tanh as tanh
from hornbeam.ops.activation import tanh_shrink as tanh_shrink
from hornbeam.ops.activation import threshold as threshold
from hornbeam.ops.convert import floating, tensor


def relu(x: Any, negative_slope: float = 0.0, max_value: float | None = None, threshold: float = 0.0) -> torch.Tensor:
    """Returns `max(x, 0)`, or a variant of it.

    Args:
        x: tensor of any shape.
        negative_slope: the slope below `threshold`.
        max_value: the largest value that comes out, or None.
        threshold: below it the result is `negative_slope * (x - threshold)`.

    >>> relu([-4.0, 3.0, 9.0], negative_slope=0.5, max_value=6.0).tolist()
    [-2.0, 3.0, 6.0]
    """
    if negative_slope == 0.0 and max_value is None and threshold == 0.0 and isinstance(x, torch.Tensor):
        return torch.relu(x)
    x = tensor(x)
    if threshold != 0.0:
        below = negative_slope * (x - threshold) if negative_slope != 0.0 else torch.zeros_like(x)
        x = torch.where(x > threshold, x, below)
    else:
        x = F.leaky_relu(floating(x), negative_slope) if negative_slope != 0.0 else torch.relu(x)
    return x if max_value is None else x.clamp(max=max_value)


def gelu(x: Any, approximate: bool = False) -> torch.Tensor:
    """Returns `x * P(X <= x)` for a standard normal X (Hendrycks and Gimpel, 2016).

    Args:
        x: tensor of any shape.
        approximate: whether the normal distribution is approximated by tanh.

    >>> gelu([0.0]).tolist()
    [0.0]
    """
    return F.gelu(floating(x), approximate="tanh" if approximate else "none")


def exponential(x: Any) -> torch.Tensor:
    """Returns `exp(x)`.

    >>> exponential([0.0]).tolist()
    [1.0]
    """
    return torch.exp(floating(x))


def linear(x: Any) -> Any:
    """Returns x itself.

    >>> linear(3.0)
    3.0
    """
    return x


ACTIVATIONS = Registry("activation", "keras.activations")
for _function in (
    celu, elu, exponential, gelu, glu, hard_shrink, hard_sigmoid, hard_silu, hard_tanh, leaky_relu, linear, log_sigmoid,
    log_softmax, mish, relu, relu6, selu, sigmoid, silu, soft_shrink, softmax, softplus, softsign, sparse_plus, sparse_sigmoid,
    sparsemax, squareplus, tanh, tanh_shrink, threshold,
):  # fmt: skip
    ACTIVATIONS.add(_function)
ACTIVATIONS.add(silu, "swish")
ACTIVATIONS.add(hard_silu, "hard_swish")


def get(identifier: Any) -> Callable[..., Any]:
    """Returns the activation for a name, a config or a callable; None gives `linear`.

    Args:
        identifier: "relu", a config, a function (torch's own too), a layer or any `torch.nn.Module`.

    >>> get("relu") is relu, get(torch.nn.Tanh())
    (True, Tanh())
    """
    if identifier is None:
        return linear
    if inspect.isclass(identifier) and issubclass(identifier, torch.nn.Module):
        identifier = identifier()
    return ACTIVATIONS.get(identifier)


def serialize(activation: Any) -> Any:
    """Returns the name of a built-in activation, the config of anything else.

    >>> serialize(relu)
    'relu'
    """
    name = getattr(activation, "__name__", None)
    if name and ACTIVATIONS.objects.get(name) is activation:
        return name
    return serialize_keras_object(activation)


def deserialize(config: Any, custom_objects: dict[str, Any] | None = None) -> Callable[..., Any]:
    """Returns the activation that a config or a name describes.

    Args:
        config: a config or a name.
        custom_objects: functions by name.

    >>> deserialize("relu") is relu
    True
    """
    with custom_object_scope(custom_objects or {}):
        return get(config)
