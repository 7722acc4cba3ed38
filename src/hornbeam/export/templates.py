"""Which layers are written as a class of `plain.py` (or of torch), and with which arguments."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable
from functools import cache
from typing import Any

from torch import nn

from hornbeam import activations
from hornbeam.core.init_args import is_builtin
from hornbeam.core.layer import Layer
from hornbeam.export import plain
from hornbeam.export.own import CannotWrite


class Template:
    """How one layer is written.

    Attributes:
        name: the class.
        arguments: expressions of its arguments; modules among them are written in their turn.
        options: those passed by name, where they differ from the class's defaults.
        activation: what is applied to the result, or None.
    """

    def __init__(self, name: str, *arguments: Any, activation: Any = None, **options: Any) -> None:
        self.name, self.arguments, self.activation = name, arguments, activation
        known = _defaults(name)
        self.options = {k: v for k, v in options.items() if not (k in known and known[k] == v)}
        if activation in (None, activations.linear):
            self.activation = None


@cache
def _defaults(name: str) -> dict[str, Any]:
    if name.startswith("nn."):
        return {}
    found: dict[str, Any] = {}
    for cls in reversed(getattr(plain, _origin(name)).__mro__):
        init = cls.__dict__.get("__init__")
        if init is not None and cls.__module__ == plain.__name__:
            found.update({k: p.default for k, p in inspect.signature(init).parameters.items() if p.default is not p.empty})
    return found


def _origin(name: str) -> str:
    return f"{name[:-2]}2D" if name in ("Conv1D", "Conv3D", "AveragePooling1D", "AveragePooling3D") else name


def template_for(layer: Any) -> Template | None:
    """Returns how a built-in layer is written, or None where its call is to be traced.

    Raises:
        CannotWrite: the layer cannot be written in plain PyTorch.
    """
    if not isinstance(layer, Layer) or not is_builtin(type(layer)):
        return None
    make = _TEMPLATES.get(type(layer).__name__)
    return None if make is None else make(layer)


def _dense(layer: Any) -> Template | None:
    if isinstance(layer.activation, nn.Module):
        return None
    features, units = layer.kernel.shape
    return Template("Dense", features, units, bias=layer.use_bias, activation=layer.activation)


def _embedding(layer: Any) -> Template:
    return Template("Embedding", layer.input_dim, layer.output_dim)


def _convolution(layer: Any) -> Template | None:
    if isinstance(layer.activation, nn.Module) or layer.data_format != "channels_last":
        return None
    return Template(
        type(layer).__name__, tuple(layer.kernel.shape), tuple(layer.strides), tuple(layer.dilation_rate), padding=layer.padding,
        groups=layer.groups, bias=layer.use_bias, activation=layer.activation,
    )  # fmt: skip


def _batch_normalization(layer: Any) -> Template | None:
    if layer.renorm:
        raise CannotWrite("renorm=True follows more moments than the class for plain PyTorch does")
    if layer.synchronized:
        raise CannotWrite("synchronized=True takes moments over several processes")
    return Template(
        "BatchNormalization", layer.moving_mean.shape[0], axis=layer.axis, momentum=layer.momentum, epsilon=layer.epsilon,
        center=layer.center, scale=layer.scale, frozen=not layer.trainable,
    )  # fmt: skip


def _layer_normalization(layer: Any) -> Template | None:
    axes = layer.axis if isinstance(layer.axis, (list, tuple)) else [layer.axis]
    if list(axes) not in ([-1], [len(layer._build_shapes) - 1]) or not (layer.scale or layer.center):
        return None
    features = (layer.gamma if layer.scale else layer.beta).shape[0]
    return Template("LayerNormalization", features, epsilon=layer.epsilon, center=layer.center, scale=layer.scale)


def _dropout(layer: Any) -> Template | None:
    return None if layer.noise_shape is not None or layer.seed is not None else Template("nn.Dropout", layer.rate)


def _average_pooling(layer: Any) -> Template | None:
    if layer.padding != "same" or layer.data_format != "channels_last":
        return None
    return Template(type(layer).__name__, tuple(layer.pool_size), tuple(layer.strides))


def _spectral_normalization(layer: Any) -> Template:
    return Template("SpectralNormalization", layer.layer, layer.vector_u.shape[1], power_iterations=layer.power_iterations)


def _time_distributed(layer: Any) -> Template:
    return Template("TimeDistributed", layer.layer)


def _bidirectional(layer: Any) -> Template:
    return Template("Bidirectional", layer.forward_layer, layer.backward_layer, merge=layer.merge_mode)


def _rnn(layer: Any) -> Template:
    if layer.stateful:
        raise CannotWrite("stateful=True keeps states from batch to batch, which a plain module's forward cannot see")
    stacked = type(layer.cell).__name__ == "StackedRNNCells"
    if stacked and layer.return_state:
        raise CannotWrite("return_state=True of stacked cells returns nests of states")
    return Template(
        "RNN", layer.cell, return_sequences=layer.return_sequences, return_state=layer.return_state,
        go_backwards=layer.go_backwards, zero_output_for_mask=layer.zero_output_for_mask,
    )  # fmt: skip


def _cell(layer: Any) -> Template:
    options: dict[str, Any] = {"dropout": layer.dropout, "recurrent_dropout": layer.recurrent_dropout}
    name = type(layer).__name__
    if name in ("LSTMCell", "GRUCell") and layer.recurrent_activation is not activations.sigmoid:
        options["gate"] = layer.recurrent_activation
    if name == "GRUCell":
        options["reset_after"] = layer.reset_after
    bias = tuple(layer.bias.shape) if layer.use_bias else None
    return Template(name, tuple(layer.kernel.shape), layer.units, bias, layer.activation, **options)


def _stacked(layer: Any) -> Template:
    return Template("StackedRNNCells", list(layer.cells))


_TEMPLATES: dict[str, Callable[[Any], Template | None]] = {
    "Dense": _dense, "Embedding": _embedding, "Conv1D": _convolution, "Conv2D": _convolution, "Conv3D": _convolution,
    "BatchNormalization": _batch_normalization, "LayerNormalization": _layer_normalization, "Dropout": _dropout,
    **{f"AveragePooling{rank}D": _average_pooling for rank in (1, 2, 3)}, "SpectralNormalization": _spectral_normalization,
    "TimeDistributed": _time_distributed, "Bidirectional": _bidirectional, "RNN": _rnn, "LSTM": _rnn, "GRU": _rnn,
    "SimpleRNN": _rnn, "LSTMCell": _cell, "GRUCell": _cell, "SimpleRNNCell": _cell, "StackedRNNCells": _stacked,
}  # fmt: skip


@cache
def class_source(name: str) -> dict[str, str]:
    """Returns the source of a class of `plain.py`, and before it that of everything it uses there, by name.

    >>> list(class_source("LSTMCell"))
    ['RNNCell', 'LSTMCell']
    """
    found: dict[str, str] = {}
    _collect(name, found)
    return found


def _collect(name: str, found: dict[str, str]) -> None:
    text = textwrap.dedent(inspect.getsource(getattr(plain, _origin(name)))).strip()
    if _origin(name) != name:
        rank = name[-2:]
        text = text.replace("2D", rank).replace("conv2d", f"conv{rank.lower()}").replace("pool2d", f"pool{rank.lower()}")
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Name) and node.id not in found and node.id != name:
            other = getattr(plain, node.id, None)
            if getattr(other, "__module__", None) == plain.__name__ and callable(other):
                _collect(node.id, found)
    found[name] = text
