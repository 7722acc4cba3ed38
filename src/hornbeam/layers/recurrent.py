"""Recurrent layers: RNN around any cell, and SimpleRNN, LSTM and GRU around their own."""

from __future__ import annotations

from typing import Any

import torch

from hornbeam.core.calls import in_compute_dtype
from hornbeam.core.input_spec import InputSpec
from hornbeam.core.layer import Layer
from hornbeam.core.registry import deserialize_keras_object, public
from hornbeam.core.weights import assign
from hornbeam.graph import tree
from hornbeam.graph.context import context
from hornbeam.layers.recurrent_cells import (
    GRUCell,
    LSTMCell,
    RecurrentCell,
    SimpleRNNCell,
    StackedRNNCells,
    check_cell,
    initial_states,
    output_size,
)
from hornbeam.layers.recurrent_sequence import run


@public("keras.layers.RNN")
class RNN(Layer):
    """Runs a cell over the time steps of a sequence.

    Args:
        cell: a cell, or a list of cells to stack: objects with `call(inputs, states)`, which returns output and new states, and
            with `state_size`; optionally `output_size` and `get_initial_state(batch_size)`.
        return_sequences: whether the outputs of all steps come out, or the last only.
        return_state: whether the last states come out too.
        go_backwards: whether the sequence is read (and returned) from its end.
        stateful: whether each batch begins with the states the one before ended with.
        unroll: kept for Keras's signature.
        zero_output_for_mask: whether the output at masked steps is zero rather than that of the step before.

    Input shape: `(batch, time, ...)`. Output shape: `(batch, units)` or `(batch, time, units)`, then the states.

    >>> RNN([LSTMCell(8), GRUCell(4)], return_sequences=True)(torch.ones(2, 5, 3)).shape
    torch.Size([2, 5, 4])
    """

    use_cudnn: Any = "auto"

    def __init__(
        self, cell: Any, return_sequences: bool = False, return_state: bool = False, go_backwards: bool = False,
        stateful: bool = False, unroll: bool = False, zero_output_for_mask: bool = False, **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(**kwargs)
        if isinstance(cell, (list, tuple)):
            cell = StackedRNNCells(cell)
        check_cell(cell, self.name)
        self.cell = cell
        self.return_sequences, self.return_state, self.go_backwards = return_sequences, return_state, go_backwards
        self.stateful, self.unroll, self.zero_output_for_mask = stateful, unroll, zero_output_for_mask
        self.supports_masking = True
        if isinstance(cell, RecurrentCell):
            self.input_spec = InputSpec(ndim=3)

    @property
    def state_size(self) -> list[Any]:
        """The sizes of the states."""
        sizes = self.cell.state_size
        return list(sizes) if isinstance(sizes, (list, tuple)) else [sizes]

    def build(self, sequences_shape: Any, initial_state_shape: Any = None) -> None:
        """Builds the cell for one step, and the states of a stateful layer for the batch."""
        shape = tuple(sequences_shape)
        if len(shape) == 3:
            self.input_spec = InputSpec(ndim=3, axes={-1: shape[-1]})
        if isinstance(self.cell, Layer) and not self.cell.built and not hasattr(type(self.cell).build, "_by_running"):
            self.cell.build((shape[0], *shape[2:]))
        if self.stateful:
            if shape[0] is None:
                rule = "is stateful, so its batch size must be fixed: give `batch_size=` to the Input"
                raise self._wrong(rule, f"input shape {shape}")
            if not context.scratch:
                self._make_states(shape[0])

    # -- states

    @property
    def states(self) -> Any:
        """The states a stateful layer keeps between batches; None before they are made, or for other layers."""
        kept = [b for k, b in self._buffers.items() if k.startswith("_state_")]
        return tree.pack(_nest(self.cell), kept) if kept else None

    def _make_states(self, batch_size: int) -> None:
        for i, state in enumerate(tree.leaves(initial_states(self.cell, batch_size))):
            self.register_buffer(f"_state_{i}", state.clone(), persistent=False)

    def reset_state(self) -> None:
        """Sets the states of a stateful layer to zero."""
        for state in tree.leaves(self.states or []):
            assign(state, torch.zeros_like(state))

    def reset_states(self) -> None:
        """Sets the states of a stateful layer to zero."""
        self.reset_state()

    def get_initial_state(self, batch_size: Any) -> list[Any]:
        """Returns the states a sequence begins with: the cell's own, else zeros."""
        return initial_states(self.cell, batch_size)

    def _first_states(self, x: torch.Tensor, given: Any) -> list[Any]:
        if given is None and self.stateful and not context.scratch:
            given = self.states
            size = x.shape[0] if given is None else tree.leaves(given)[0].shape[0]
            if size != x.shape[0]:
                raise self._wrong(f"is stateful and keeps states for batches of {size}", f"a batch of {x.shape[0]}")
            given = tree.map_leaves(lambda s: s if s is None else s.clone(), given)  # the backward pass needs them unchanged
        flat = tree.leaves(self.get_initial_state(x.shape[0]) if given is None else given)
        nest = _nest(self.cell)
        self._check_states([s.shape for s in flat])
        return tree.pack(nest, [s.to(x.device, x.dtype) if x.is_floating_point() else s for s in flat])

    def _check_states(self, shapes: list[Any]) -> None:
        count, sizes = len(tree.leaves(_nest(self.cell))), self.state_size
        if len(shapes) != count:
            raise self._wrong(f"has {count} state(s)", f"{len(shapes)} initial state(s)")
        plain = all(isinstance(size, int) for size in sizes)
        if plain and any(len(s) < 2 or s[-1] not in (None, size) for s, size in zip(shapes, sizes, strict=True)):
            rule = f"takes initial states of shape {', '.join(f'(batch, {size})' for size in sizes)}"
            raise self._wrong(rule, f"shape {', '.join(str(tuple(s)) for s in shapes)}")

    def _wrong(self, rule: str, received: str) -> ValueError:
        return ValueError(f"Layer {self.name!r} ({type(self).__name__}) {rule}. Received: {received}.")

    # -- calling

    def call(self, sequences: torch.Tensor, initial_state: Any = None, mask: Any = None, training: bool | None = False) -> Any:
        """Returns the last output or all outputs, and the last states where `return_state` is set."""
        if sequences.shape[1] == 0:
            raise self._wrong("needs at least one time step", f"input shape {tuple(sequences.shape)}")
        sequences = sequences if sequences.is_floating_point() else sequences.to(self._compute)
        states = self._first_states(sequences, initial_state)
        if mask is not None:
            mask = self._checked_mask(mask, sequences)
        if self.go_backwards:
            sequences, mask = sequences.flip(1), None if mask is None else mask.flip(1)
        y, states = run(
            self.cell, sequences, states, mask, bool(training), self.use_cudnn is not False, self.zero_output_for_mask
        )
        if self.stateful and self.states is not None:
            for kept, new in zip(tree.leaves(self.states), tree.leaves(states), strict=True):
                assign(kept, new.detach())
        output = in_compute_dtype(self, y if self.return_sequences else y[:, -1])
        return (output, *in_compute_dtype(self, _single(states))) if self.return_state else output

    def _checked_mask(self, mask: Any, x: torch.Tensor) -> torch.Tensor:
        mask = torch.as_tensor(mask, device=x.device)
        if mask.dim() != 2:
            raise self._wrong("takes a mask of shape (batch, time)", f"a mask of shape {tuple(mask.shape)}")
        return mask.bool()

    def compute_mask(self, _: Any, mask: Any) -> Any:
        """Returns the mask for a sequence, None for a last output and for states."""
        mask = tree.leaves(mask)[0] if self.return_sequences else None
        return [mask, *(None for _ in self.state_size)] if self.return_state else mask

    def compute_output_shape(self, sequences_shape: Any, initial_state_shape: Any = None) -> Any:
        """Returns the shape of the output, and those of the states where `return_state` is set."""
        batch, time = tuple(sequences_shape)[:2]
        if initial_state_shape is not None:
            self._check_states(_shapes(initial_state_shape))
        output = (
            (batch, time, *_sizes(output_size(self.cell))) if self.return_sequences else (batch, *_sizes(output_size(self.cell)))
        )
        states = tree.map_leaves(lambda size: (batch, *_sizes(size)), self.state_size)
        return (output, *states) if self.return_state else output

    def _remedy(self, shape: tuple[int | None, ...]) -> str:
        if len(shape) != 2:
            return ""
        return " It reads (batch, time, features): is an Embedding or return_sequences=True missing, or an axis (x[..., None])?"

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None) -> Any:
        """Makes the layer from what `get_config` returned."""
        if "cell" in config:
            config = {**config, "cell": deserialize_keras_object(config["cell"], custom_objects)}
        return cls(**config)


def _sizes(size: Any) -> tuple[Any, ...]:
    return tuple(size) if isinstance(size, (list, tuple, torch.Size)) else (size,)


def _shapes(nest: Any) -> list[Any]:
    """The shapes in a nest of shapes."""
    if nest is None or all(d is None or isinstance(d, int) for d in nest):
        return [] if nest is None else [nest]
    return [s for v in nest for s in _shapes(v)]


def _nest(cell: Any) -> list[Any]:
    """The structure of a cell's states: a list, a list of lists for stacked cells."""
    if isinstance(cell, StackedRNNCells):
        return [_nest(c) for c in cell.cells]
    return [None for _ in cell.state_size] if isinstance(cell.state_size, (list, tuple)) else [None]


def _single(states: list[Any]) -> list[Any]:
    """States for the user: a stacked cell's only state stands for itself."""
    return [s[0] if isinstance(s, list) and len(s) == 1 else s for s in states]


class OwnCell(RNN):
    """A recurrent layer that makes its cell from its own arguments, and answers for them."""

    config_exclude = ("cell", "use_cudnn", *(n for n in Layer.config_exclude if n != "activity_regularizer"))


def _of_cell(name: str) -> property:
    def get(layer: OwnCell) -> Any:
        return getattr(layer.cell, name)

    def put(layer: OwnCell, value: Any) -> None:
        setattr(layer.cell, name, value)

    return property(get, put, doc=f"The cell's `{name}`.")


for _name in (
    "units", "activation", "use_bias", "kernel_initializer", "recurrent_initializer", "bias_initializer", "kernel_regularizer",
    "recurrent_regularizer", "bias_regularizer", "kernel_constraint", "recurrent_constraint", "bias_constraint", "dropout",
    "recurrent_dropout", "seed",
):  # fmt: skip
    setattr(OwnCell, _name, _of_cell(_name))


def _for_cell(kwargs: dict[str, Any]) -> dict[str, Any]:
    """What a layer's cell takes over from it."""
    return {"dtype": kwargs.get("dtype"), "trainable": kwargs.get("trainable", True)}


@public("keras.layers.SimpleRNN")
class SimpleRNN(OwnCell):
    """A fully connected recurrent layer: `h = activation(x @ kernel + bias + h @ recurrent_kernel)`.

    Args:
        units: number of features that come out.
        activation: function by name or object.
        use_bias: whether a bias is added.
        kernel_initializer, recurrent_initializer, bias_initializer: by name or object.
        kernel_regularizer, recurrent_regularizer, bias_regularizer, activity_regularizer: penalties, by name or object.
        kernel_constraint, recurrent_constraint, bias_constraint: projections after each update, by name or object.
        dropout, recurrent_dropout: share of the inputs, and of the recurrent state, that is dropped in training, the same
            values at each step.
        return_sequences: whether the outputs of all steps come out, or the last only.
        return_state: whether the last state comes out too.
        go_backwards: whether the sequence is read (and returned) from its end.
        stateful: whether each batch begins with the state the one before ended with.
        unroll: kept for Keras's signature.
        seed: seed of the dropout; torch's default generator unless given.

    Input shape: `(batch, time, features)`. Output shape: `(batch, units)` or `(batch, time, units)`.

    >>> SimpleRNN(4)(torch.ones(2, 5, 3)).shape
    torch.Size([2, 4])
    """

    config_exclude = ("seed", *OwnCell.config_exclude)

    def __init__(
self, units: int, activation: Any = "tanh", use_bias: bool = True, kernel_initializer: Any = "glorot_uniform",
recurrent_initializer: Any = "orthogonal", bias_initializer: Any = "zeros", kernel_regularizer: Any = None,
recurrent_regularizer: Any = None, bias_regularizer: Any = None, activity_regularizer: Any = None, kernel_constraint: Any = None,
recurrent_constraint: Any = None, bias_constraint: Any = None, dropout: float = 0.0, recurrent_dropout: float = 0.0,
return_sequences: bool = False, return_state: bool = False, go_backwards: bool = False, stateful: bool = False,
unroll: bool = False, seed: int | None = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        cell = SimpleRNNCell(
units, activation, use_bias, kernel_initializer, recurrent_initializer, bias_initializer, kernel_regularizer,
recurrent_regularizer, bias_regularizer, kernel_constraint, recurrent_constraint, bias_constraint, dropout, recurrent_dropout,
seed, name="simple_rnn_cell", **_for_cell(kwargs),
        )  # fmt: skip
        super().__init__(
            cell,
            return_sequences,
            return_state,
            go_backwards,
            stateful,
            unroll,
            activity_regularizer=activity_regularizer,
            **kwargs,
        )


@public("keras.layers.LSTM")
class LSTM(OwnCell):
    """A long short-term memory layer (Hochreiter and Schmidhuber, 1997), by torch's kernel; `LSTMCell` has the formulas.

    Activations other than tanh and sigmoid, and recurrent dropout, are computed step by step in Python.

    Args:
        units: number of features that come out.
        activation, recurrent_activation: functions by name or object.
        use_bias: whether a bias is added.
        kernel_initializer, recurrent_initializer, bias_initializer: by name or object.
        unit_forget_bias: whether the bias of the forget gate begins at one.
        kernel_regularizer, recurrent_regularizer, bias_regularizer, activity_regularizer: penalties, by name or object.
        kernel_constraint, recurrent_constraint, bias_constraint: projections after each update, by name or object.
        dropout, recurrent_dropout: share of the inputs, and of the recurrent state, that is dropped in training, the same
            values at each step.
        seed: seed of the dropout; torch's default generator unless given.
        return_sequences: whether the outputs of all steps come out, or the last only.
        return_state: whether the last states `h` and `c` come out too.
        go_backwards: whether the sequence is read (and returned) from its end.
        stateful: whether each batch begins with the states the one before ended with.
        unroll: kept for Keras's signature.
        use_cudnn: False computes step by step, as second derivatives need it; else torch's kernel, cuDNN's on a GPU.

    Input shape: `(batch, time, features)`. Output shape: `(batch, units)` or `(batch, time, units)`, then the states.

    >>> y, h, c = LSTM(4, return_state=True)(torch.ones(2, 5, 3))
    >>> y.shape, c.shape
    (torch.Size([2, 4]), torch.Size([2, 4]))
    """

    def __init__(
self, units: int, activation: Any = "tanh", recurrent_activation: Any = "sigmoid", use_bias: bool = True,
kernel_initializer: Any = "glorot_uniform", recurrent_initializer: Any = "orthogonal", bias_initializer: Any = "zeros",
unit_forget_bias: bool = True, kernel_regularizer: Any = None, recurrent_regularizer: Any = None, bias_regularizer: Any = None,
activity_regularizer: Any = None, kernel_constraint: Any = None, recurrent_constraint: Any = None, bias_constraint: Any = None,
dropout: float = 0.0, recurrent_dropout: float = 0.0, seed: int | None = None, return_sequences: bool = False,
return_state: bool = False, go_backwards: bool = False, stateful: bool = False, unroll: bool = False, use_cudnn: Any = "auto",
**kwargs: Any,
    ) -> None:  # fmt: skip
        cell = LSTMCell(
units, activation, recurrent_activation, use_bias, kernel_initializer, recurrent_initializer, bias_initializer, unit_forget_bias,
kernel_regularizer, recurrent_regularizer, bias_regularizer, kernel_constraint, recurrent_constraint, bias_constraint, dropout,
recurrent_dropout, seed, name="lstm_cell", **_for_cell(kwargs),
        )  # fmt: skip
        super().__init__(
            cell,
            return_sequences,
            return_state,
            go_backwards,
            stateful,
            unroll,
            activity_regularizer=activity_regularizer,
            **kwargs,
        )
        self.use_cudnn = use_cudnn

    recurrent_activation, unit_forget_bias = _of_cell("recurrent_activation"), _of_cell("unit_forget_bias")


@public("keras.layers.GRU")
class GRU(OwnCell):
    """A layer of gated recurrent units (Cho et al., 2014), by torch's kernel; `GRUCell` has the formulas.

    Activations other than tanh and sigmoid, recurrent dropout and `reset_after=False` are computed step by step in Python.

    Args:
        units: number of features that come out.
        activation, recurrent_activation: functions by name or object.
        use_bias: whether a bias is added.
        kernel_initializer, recurrent_initializer, bias_initializer: by name or object.
        kernel_regularizer, recurrent_regularizer, bias_regularizer, activity_regularizer: penalties, by name or object.
        kernel_constraint, recurrent_constraint, bias_constraint: projections after each update, by name or object.
        dropout, recurrent_dropout: share of the inputs, and of the recurrent state, that is dropped in training, the same
            values at each step.
        seed: seed of the dropout; torch's default generator unless given.
        return_sequences: whether the outputs of all steps come out, or the last only.
        return_state: whether the last state comes out too.
        go_backwards: whether the sequence is read (and returned) from its end.
        stateful: whether each batch begins with the state the one before ended with.
        unroll: kept for Keras's signature.
        reset_after: whether the reset gate works after the matrix product (as cuDNN has it).
        use_cudnn: False computes step by step, as second derivatives need it; else torch's kernel, cuDNN's on a GPU.

    Input shape: `(batch, time, features)`. Output shape: `(batch, units)` or `(batch, time, units)`, then the state.

    >>> GRU(4, return_sequences=True)(torch.ones(2, 5, 3)).shape
    torch.Size([2, 5, 4])
    """

    def __init__(
self, units: int, activation: Any = "tanh", recurrent_activation: Any = "sigmoid", use_bias: bool = True,
kernel_initializer: Any = "glorot_uniform", recurrent_initializer: Any = "orthogonal", bias_initializer: Any = "zeros",
kernel_regularizer: Any = None, recurrent_regularizer: Any = None, bias_regularizer: Any = None, activity_regularizer: Any = None,
kernel_constraint: Any = None, recurrent_constraint: Any = None, bias_constraint: Any = None, dropout: float = 0.0,
recurrent_dropout: float = 0.0, seed: int | None = None, return_sequences: bool = False, return_state: bool = False,
go_backwards: bool = False, stateful: bool = False, unroll: bool = False, reset_after: bool = True, use_cudnn: Any = "auto",
**kwargs: Any,
    ) -> None:  # fmt: skip
        cell = GRUCell(
            units, activation, recurrent_activation, use_bias, kernel_initializer, recurrent_initializer, bias_initializer,
            kernel_regularizer, recurrent_regularizer, bias_regularizer, kernel_constraint, recurrent_constraint, bias_constraint,
            dropout, recurrent_dropout, reset_after, seed, name="gru_cell", **_for_cell(kwargs),
        )  # fmt: skip
        super().__init__(
            cell,
            return_sequences,
            return_state,
            go_backwards,
            stateful,
            unroll,
            activity_regularizer=activity_regularizer,
            **kwargs,
        )
        self.use_cudnn = use_cudnn

    recurrent_activation, reset_after = _of_cell("recurrent_activation"), _of_cell("reset_after")
