"""Layers around another layer: Wrapper, TimeDistributed, Bidirectional."""

from __future__ import annotations

from typing import Any

import torch

from hornbeam.core.calls import in_compute_dtype
from hornbeam.core.errors import did_you_mean
from hornbeam.core.layer import Layer
from hornbeam.core.registry import deserialize_keras_object, public, serialize_keras_object
from hornbeam.graph import tree


def _checked_layer(layer: Any, owner: str) -> Layer:
    if not isinstance(layer, Layer):
        raise ValueError(f"{owner} takes a Layer to wrap. Received: {layer!r} ({type(layer).__name__}).")
    return layer


@public("keras.layers.Wrapper")
class Wrapper(Layer):
    """Base of layers around another one, which is their attribute `layer`.

    Args:
        layer: the layer inside.

    >>> from hornbeam.layers.dense import Dense
    >>> class Twice(Wrapper):
    ...     def call(self, x):
    ...         return self.layer(self.layer(x))
    >>> Twice(Dense(3))(torch.ones(2, 3)).shape
    torch.Size([2, 3])
    """

    def __init__(self, layer: Layer, **kwargs: Any) -> None:
        _checked_layer(layer, type(self).__name__)
        super().__init__(**kwargs)
        self.layer = layer

    def build(self, input_shape: Any = None) -> None:
        """Builds the layer inside."""
        if not self.layer.built:
            self.layer.build(input_shape)

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None) -> Any:
        """Makes the wrapper and the layer inside from what `get_config` returned."""
        config = {**config, "layer": deserialize_keras_object(config["layer"], custom_objects)}
        return cls(**config)


@public("keras.layers.TimeDistributed")
class TimeDistributed(Wrapper):
    """Applies a layer to every time step of a sequence, all at once: time and batch become one axis for it.

    Args:
        layer: the layer inside.

    Input shape: `(batch, time, ...)`. Output shape: `(batch, time, ...)`.

    >>> from hornbeam.layers.dense import Dense
    >>> TimeDistributed(Dense(4))(torch.ones(2, 5, 3)).shape
    torch.Size([2, 5, 4])
    """

    def __init__(self, layer: Layer, **kwargs: Any) -> None:
        super().__init__(layer, **kwargs)
        self.supports_masking = True

    def build(self, input_shape: Any = None) -> None:
        """Builds the layer inside for one time step."""
        super().build(self._step_shape(input_shape))

    def _step_shape(self, shape: Any) -> tuple[int | None, ...]:
        if len(shape) < 3:
            raise ValueError(
                f"TimeDistributed layer {self.name!r} needs an input of rank 3 or more: (batch, time, ...). "
                f"Received: shape {tuple(shape)}."
            )
        return (shape[0], *tuple(shape)[2:])

    def call(self, inputs: torch.Tensor, training: bool | None = None, mask: torch.Tensor | None = None) -> Any:
        """Returns what the layer inside makes of each time step."""
        batch, time = inputs.shape[:2]
        kwargs = {}
        if mask is not None and self.layer._signature.first_mask is not None:
            kwargs[self.layer._signature.first_mask] = torch.as_tensor(mask).flatten(0, 1)
        y = self.layer(inputs.flatten(0, 1), training=training, **kwargs)
        return in_compute_dtype(self, tree.map_leaves(lambda v: v.reshape(batch, time, *v.shape[1:]), y))

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Returns the inner layer's output shape with the time axis put in."""
        inner = self.layer.compute_output_shape(self._step_shape(input_shape))
        return _with_time(inner, input_shape[1])


def _with_time(shape: Any, time: int | None) -> Any:
    if all(size is None or isinstance(size, int) for size in shape):
        return (shape[0], time, *tuple(shape)[1:])
    return type(shape)(_with_time(one, time) for one in shape)


_MERGES = ("sum", "mul", "ave", "concat", None)
_NEEDED = ("go_backwards", "return_sequences", "return_state", "input_spec")


@public("keras.layers.Bidirectional")
class Bidirectional(Layer):
    """Runs a recurrent layer forward and a second one backward over a sequence, and merges what they return.

    Args:
        layer: an RNN, LSTM, GRU, … ; the two layers are made anew from its config.
        merge_mode: "concat", "sum", "mul", "ave", or None for both outputs side by side.
        weights: initial weights of both layers, those of the forward layer first.
        backward_layer: a layer to use for the backward direction, with `go_backwards` the other way round.

    Input shape: `(batch, time, features)`. Output shape: that of `layer`, with twice the features for "concat"; then the states.

    >>> from hornbeam.layers.recurrent import LSTM
    >>> Bidirectional(LSTM(4, return_sequences=True))(torch.ones(2, 5, 3)).shape
    torch.Size([2, 5, 8])
    """

    config_exclude = ("weights", *Layer.config_exclude)

    def __init__(
        self,
        layer: Layer,
        merge_mode: str | None = "concat",
        weights: Any = None,
        backward_layer: Layer | None = None,
        **kwargs: Any,
    ) -> None:
        _checked_layer(layer, "Bidirectional")
        super().__init__(**kwargs)
        missing = [name for name in _NEEDED if not hasattr(layer, name)]
        if missing:
            raise ValueError(
                f"Bidirectional layer {self.name!r} wraps recurrent layers. "
                f"Received: {type(layer).__name__}, which has no {', '.join(missing)}."
            )
        if merge_mode not in _MERGES:
            raise ValueError(
                f"Bidirectional layer {self.name!r}: `merge_mode` must be one of {_MERGES}."
                f"{did_you_mean(merge_mode, _MERGES[:4])} Received: merge_mode={merge_mode!r}"
            )
        self.merge_mode = merge_mode
        inner = layer.name.removeprefix("forward_")
        self.forward_layer = _renamed(layer, f"forward_{inner}")
        if backward_layer is None:
            self.backward_layer = _renamed(layer, f"backward_{inner}", go_backwards=not layer.go_backwards)
        else:
            self.backward_layer = _checked_layer(backward_layer, "Bidirectional")
            self._check_pair()
        self.return_sequences, self.return_state = layer.return_sequences, layer.return_state
        if self.return_sequences:
            self.forward_layer.zero_output_for_mask = self.backward_layer.zero_output_for_mask = True
        self.input_spec, self.supports_masking = layer.input_spec, True
        self._given_weights = weights

    def _check_pair(self) -> None:
        forward, backward = self.forward_layer, self.backward_layer
        if forward.go_backwards == backward.go_backwards:
            raise ValueError(
                f"Bidirectional layer {self.name!r}: the two layers must differ in `go_backwards`. "
                f"Received: {forward.go_backwards} for both."
            )
        for name in ("stateful", "return_sequences", "return_state"):
            values = getattr(forward, name, None), getattr(backward, name, None)
            if values[0] != values[1]:
                raise ValueError(
                    f"Bidirectional layer {self.name!r}: the two layers must agree on `{name}`. "
                    f"Received: {values[0]} for the forward layer and {values[1]} for the backward layer."
                )

    @property
    def stateful(self) -> bool:
        """Whether the layers keep their states between batches."""
        return self.forward_layer.stateful

    @property
    def states(self) -> list[Any] | None:
        """The states that stateful layers keep, those of the forward layer first."""
        forward, backward = self.forward_layer.states, self.backward_layer.states
        return None if forward is None else [*forward, *backward]

    def reset_state(self) -> None:
        """Sets the states of stateful layers to zero."""
        self.forward_layer.reset_state()
        self.backward_layer.reset_state()

    def reset_states(self) -> None:
        """Sets the states of stateful layers to zero."""
        self.reset_state()

    def build(self, sequences_shape: Any, initial_state_shape: Any = None) -> None:
        """Builds both layers."""
        for layer in (self.forward_layer, self.backward_layer):
            if not layer.built:
                layer.build(sequences_shape)
        if self._given_weights is not None:
            self.set_weights(self._given_weights)

    def call(self, sequences: torch.Tensor, initial_state: Any = None, mask: Any = None, training: bool | None = None) -> Any:
        """Returns the merged outputs, then the states where the layers return them, those of the forward layer first."""
        starts: tuple[dict[str, Any], dict[str, Any]] = ({}, {})
        if initial_state is not None:
            given = tree.leaves(initial_state)
            half = len(given) // 2
            starts = {"initial_state": given[:half]}, {"initial_state": given[half:]}
        y = self.forward_layer(sequences, mask=mask, training=training, **starts[0])
        y_back = self.backward_layer(sequences, mask=mask, training=training, **starts[1])
        states: tuple[Any, ...] = ()
        if self.return_state:
            states, y, y_back = (*y[1:], *y_back[1:]), y[0], y_back[0]
        if self.return_sequences:
            y_back = y_back.flip(1)
        merged, states = in_compute_dtype(self, (self._merge(y, y_back), states))
        if self.merge_mode is None:
            return (*merged, *states)
        return (merged, *states) if states else merged

    def _merge(self, y: torch.Tensor, y_back: torch.Tensor) -> Any:
        match self.merge_mode:
            case "concat":
                return torch.cat([y, y_back], -1)
            case "sum":
                return y + y_back
            case "ave":
                return (y + y_back) / 2
            case "mul":
                return y * y_back
        return y, y_back

    def compute_mask(self, _: Any, mask: Any) -> Any:
        """Returns the mask for sequences, None for last outputs and for states."""
        mask = tree.leaves(mask)[0] if self.return_sequences else None
        outputs = (mask, mask) if self.merge_mode is None else (mask,)
        if self.return_state:
            return [*outputs, *(None for _ in range(2 * len(self.forward_layer.state_size)))]
        return outputs if self.merge_mode is None else mask

    def compute_output_shape(self, sequences_shape: Any, initial_state_shape: Any = None) -> Any:
        """Returns the shape of the merged output, and those of the states where the layers return them."""
        shape = self.forward_layer.compute_output_shape(sequences_shape)
        states: tuple[Any, ...] = ()
        if self.return_state:
            states = (*shape[1:], *self.backward_layer.compute_output_shape(sequences_shape)[1:])
            shape = shape[0]
        if self.merge_mode is None:
            return (shape, shape, *states)
        if self.merge_mode == "concat":
            shape = (*shape[:-1], 2 * shape[-1])
        return (shape, *states) if states else shape

    def _config_value(self, name: str) -> Any:
        return serialize_keras_object(self.forward_layer) if name == "layer" else super()._config_value(name)

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None) -> Any:
        """Makes the layers from what `get_config` returned."""
        names = [k for k in ("layer", "backward_layer") if config.get(k) is not None]
        return cls(**{**config, **{k: deserialize_keras_object(config[k], custom_objects) for k in names}})


def _renamed(layer: Any, name: str, **changes: Any) -> Any:
    """Returns a new layer of the same config but for the changes."""
    return type(layer).from_config({**layer.get_config(), "name": name, **changes})
