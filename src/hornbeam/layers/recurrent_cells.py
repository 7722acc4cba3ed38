"""What a recurrent layer does at one time step: SimpleRNNCell, LSTMCell, GRUCell, and cells stacked on each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F

from hornbeam import activations, constraints, initializers, regularizers
from hornbeam.core.errors import bad_argument
from hornbeam.core.layer import Layer
from hornbeam.core.registry import deserialize_keras_object, public, serialize_keras_object
from hornbeam.layers.dropping import dropped
from hornbeam.layers.regularization import RandomLayer

States = list[Any]


class RecurrentCell(RandomLayer):
    """What the three cells share: their weights, dropout, and the way from inputs and states to outputs and states.

    A step is `project` (all that depends on the inputs alone, so that a layer does it for all steps at once) and `step`.
    """

    gates = 1

    def __init__(
        self, units: int, activation: Any, use_bias: bool, kernel_initializer: Any, recurrent_initializer: Any,
        bias_initializer: Any, kernel_regularizer: Any, recurrent_regularizer: Any, bias_regularizer: Any, kernel_constraint: Any,
        recurrent_constraint: Any, bias_constraint: Any, dropout: float, recurrent_dropout: float, seed: int | None,
        **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(seed, **kwargs)
        if isinstance(units, bool) or not isinstance(units, int) or units <= 0:
            raise bad_argument(self, "units", "a positive integer", units)
        self.units, self.use_bias = units, use_bias
        self.activation = activations.get(activation)
        self.kernel_initializer, self.recurrent_initializer = (
            initializers.get(kernel_initializer),
            initializers.get(recurrent_initializer),
        )
        self.bias_initializer = initializers.get(bias_initializer)
        self.kernel_regularizer, self.recurrent_regularizer = (
            regularizers.get(kernel_regularizer),
            regularizers.get(recurrent_regularizer),
        )
        self.bias_regularizer = regularizers.get(bias_regularizer)
        self.kernel_constraint, self.recurrent_constraint = (
            constraints.get(kernel_constraint),
            constraints.get(recurrent_constraint),
        )
        self.bias_constraint = constraints.get(bias_constraint)
        self.dropout, self.recurrent_dropout = min(1.0, max(0.0, dropout)), min(1.0, max(0.0, recurrent_dropout))
        self.supports_masking = False
        self.state_size: Any = units
        self.output_size = units

    def _declared_weights(self) -> tuple[str, ...]:
        return ("kernel", "recurrent_kernel", "bias") if self.use_bias else ("kernel", "recurrent_kernel")

    def build(self, input_shape: Any) -> None:
        """Makes kernel `(features, gates * units)`, recurrent kernel `(units, gates * units)` and bias."""
        features, width = input_shape[-1], self.gates * self.units
        if features is None:
            raise ValueError(
                f"{type(self).__name__} {self.name!r} needs a known last axis. Received: input shape {tuple(input_shape)}."
            )
        for name, shape, kind in (
            ("kernel", (features, width), "kernel"),
            ("recurrent_kernel", (self.units, width), "recurrent"),
            ("bias", self._bias_shape(width), "bias"),
        ):
            if name == "bias" and not self.use_bias:
                self.bias = None
                continue
            regularizer, constraint = getattr(self, f"{kind}_regularizer"), getattr(self, f"{kind}_constraint")
            weight = self.add_weight(shape, self._initializer(kind), regularizer=regularizer, constraint=constraint, name=name)
            setattr(self, name, weight)

    def _bias_shape(self, width: int) -> tuple[int, ...]:
        return (width,)

    def _initializer(self, kind: str) -> Any:
        return getattr(self, f"{kind}_initializer")

    def call(self, inputs: torch.Tensor, states: Any, training: bool | None = False) -> tuple[torch.Tensor, Any]:
        """Returns the output of one step and the new states, in the nest in which the states came."""
        many = isinstance(states, (list, tuple))
        given = list(states) if many else [states]
        if training and self.dropout:
            inputs = dropped(self, inputs, self.dropout)
        output, new = self.step(self.project(inputs), given, self.recurrent_mask(given[0]) if training else None)
        return output, new if many else new[0]

    def project(self, inputs: torch.Tensor) -> torch.Tensor:
        """Returns what the inputs of one step, or of all steps, add to the gates: `inputs @ kernel + bias`."""
        return F.linear(inputs, self.kernel.t(), self.bias)

    def step(self, projected: torch.Tensor, states: States, scale: torch.Tensor | None) -> tuple[torch.Tensor, States]:
        """Returns output and new states of one step; `scale` multiplies the state that goes into the recurrent kernel."""
        raise NotImplementedError(f"{type(self).__name__} has no `step`.")

    def recurrent_mask(self, state: torch.Tensor) -> torch.Tensor | None:
        """Draws the factors for dropout of the recurrent state; None where there is no such dropout."""
        return dropped(self, torch.ones_like(state), self.recurrent_dropout) if self.recurrent_dropout else None

    def get_initial_state(self, batch_size: Any = None) -> States:
        """Returns zeros of shape `(batch_size, units)`, one for each state."""
        sizes = self.state_size if isinstance(self.state_size, (list, tuple)) else [self.state_size]
        device = self.kernel.device if self.built else None
        return [torch.zeros((batch_size, size), dtype=self._compute, device=device) for size in sizes]


@public("keras.layers.SimpleRNNCell")
class SimpleRNNCell(RecurrentCell):
    """One step of a fully connected recurrent layer: `h = activation(x @ kernel + bias + h @ recurrent_kernel)`.

    Args:
        units: number of features that come out.
        activation: function by name or object.
        use_bias: whether a bias is added.
        kernel_initializer, recurrent_initializer, bias_initializer: by name or object.
        kernel_regularizer, recurrent_regularizer, bias_regularizer: penalties, by name or object.
        kernel_constraint, recurrent_constraint, bias_constraint: projections after each update, by name or object.
        dropout, recurrent_dropout: share of the inputs, and of the recurrent state, that is dropped in training.
        seed: seed of the dropout; torch's default generator unless given.

    Input shape: `(batch, features)` and the state `(batch, units)`. Output shape: `(batch, units)` and the new state.

    >>> y, h = SimpleRNNCell(4)(torch.ones(2, 3), torch.zeros(2, 4))
    >>> y.shape, h.shape
    (torch.Size([2, 4]), torch.Size([2, 4]))
    """

    def __init__(
self, units: int, activation: Any = "tanh", use_bias: bool = True, kernel_initializer: Any = "glorot_uniform",
recurrent_initializer: Any = "orthogonal", bias_initializer: Any = "zeros", kernel_regularizer: Any = None,
recurrent_regularizer: Any = None, bias_regularizer: Any = None, kernel_constraint: Any = None, recurrent_constraint: Any = None,
bias_constraint: Any = None, dropout: float = 0.0, recurrent_dropout: float = 0.0, seed: int | None = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(
            units, activation, use_bias, kernel_initializer, recurrent_initializer, bias_initializer, kernel_regularizer,
            recurrent_regularizer, bias_regularizer, kernel_constraint, recurrent_constraint, bias_constraint, dropout,
            recurrent_dropout, seed, **kwargs,
        )  # fmt: skip

    def call(self, sequence: torch.Tensor, states: Any, training: bool | None = False) -> tuple[torch.Tensor, Any]:
        """Returns the output of one step and the new state."""
        return super().call(sequence, states, training)

    def step(self, projected: torch.Tensor, states: States, scale: torch.Tensor | None) -> tuple[torch.Tensor, States]:
        """Returns output and new state of one step."""
        h = states[0] if scale is None else states[0] * scale
        h = self.activation(projected + h @ self.recurrent_kernel)
        return h, [h]


@public("keras.layers.LSTMCell")
class LSTMCell(RecurrentCell):
    """One step of a long short-term memory layer (Hochreiter and Schmidhuber, 1997).

    `i, f, g, o = x @ kernel + h @ recurrent_kernel + bias`, then `c = σ(f) c + σ(i) tanh(g)` and `h = σ(o) tanh(c)`.

    Args:
        units: number of features that come out.
        activation: function for `g` and the output, by name or object.
        recurrent_activation: function for the gates, by name or object.
        use_bias: whether a bias is added.
        kernel_initializer, recurrent_initializer, bias_initializer: by name or object.
        unit_forget_bias: whether the bias of the forget gate begins at one.
        kernel_regularizer, recurrent_regularizer, bias_regularizer: penalties, by name or object.
        kernel_constraint, recurrent_constraint, bias_constraint: projections after each update, by name or object.
        dropout, recurrent_dropout: share of the inputs, and of the recurrent state, that is dropped in training.
        seed: seed of the dropout; torch's default generator unless given.

    Input shape: `(batch, features)` and states `[h, c]` of `(batch, units)`. Output shape: `(batch, units)` and new states.

    >>> y, (h, c) = LSTMCell(4)(torch.ones(2, 3), [torch.zeros(2, 4), torch.zeros(2, 4)])
    >>> y.shape, c.shape
    (torch.Size([2, 4]), torch.Size([2, 4]))
    """

    gates = 4

    def __init__(
self, units: int, activation: Any = "tanh", recurrent_activation: Any = "sigmoid", use_bias: bool = True,
kernel_initializer: Any = "glorot_uniform", recurrent_initializer: Any = "orthogonal", bias_initializer: Any = "zeros",
unit_forget_bias: bool = True, kernel_regularizer: Any = None, recurrent_regularizer: Any = None, bias_regularizer: Any = None,
kernel_constraint: Any = None, recurrent_constraint: Any = None, bias_constraint: Any = None, dropout: float = 0.0,
recurrent_dropout: float = 0.0, seed: int | None = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(
            units, activation, use_bias, kernel_initializer, recurrent_initializer, bias_initializer, kernel_regularizer,
            recurrent_regularizer, bias_regularizer, kernel_constraint, recurrent_constraint, bias_constraint, dropout,
            recurrent_dropout, seed, **kwargs,
        )  # fmt: skip
        self.recurrent_activation, self.unit_forget_bias = activations.get(recurrent_activation), unit_forget_bias
        self.state_size = [units, units]

    def _initializer(self, kind: str) -> Any:
        forget = kind == "bias" and self.unit_forget_bias
        return ForgetBias(self.bias_initializer, self.units) if forget else super()._initializer(kind)

    def step(self, projected: torch.Tensor, states: States, scale: torch.Tensor | None) -> tuple[torch.Tensor, States]:
        """Returns output and new states of one step."""
        h, c = states
        h = h if scale is None else h * scale
        i, f, g, o = (projected + h @ self.recurrent_kernel).chunk(4, -1)
        gate = self.recurrent_activation
        c = gate(f) * c + gate(i) * self.activation(g)
        h = gate(o) * self.activation(c)
        return h, [h, c]


class ForgetBias:
    """Initializer of an LSTM's bias: ones for the forget gate, what another initializer says for the others."""

    def __init__(self, other: Any, units: int) -> None:
        self.other, self.units = other, units

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> torch.Tensor:
        i, g_o = self.other((self.units,), dtype=dtype), self.other((2 * self.units,), dtype=dtype)
        return torch.cat([i, torch.ones_like(i), g_o])


@public("keras.layers.GRUCell")
class GRUCell(RecurrentCell):
    """One step of a gated recurrent unit (Cho et al., 2014): `h = z h + (1 - z) tanh(...)`.

    The candidate is `tanh(x_h + r (h @ recurrent_h + bias))` with `reset_after`, else `tanh(x_h + (r h) @ recurrent_h)`.

    Args:
        units: number of features that come out.
        activation: function for the candidate, by name or object.
        recurrent_activation: function for the gates `z` and `r`, by name or object.
        use_bias: whether a bias is added.
        kernel_initializer, recurrent_initializer, bias_initializer: by name or object.
        kernel_regularizer, recurrent_regularizer, bias_regularizer: penalties, by name or object.
        kernel_constraint, recurrent_constraint, bias_constraint: projections after each update, by name or object.
        dropout, recurrent_dropout: share of the inputs, and of the recurrent state, that is dropped in training.
        reset_after: whether the reset gate works after the matrix product (as cuDNN has it).
        seed: seed of the dropout; torch's default generator unless given.

    Input shape: `(batch, features)` and the state `(batch, units)`. Output shape: `(batch, units)` and the new state.

    >>> y, h = GRUCell(4)(torch.ones(2, 3), torch.zeros(2, 4))
    >>> y.shape
    torch.Size([2, 4])
    """

    gates = 3

    def __init__(
self, units: int, activation: Any = "tanh", recurrent_activation: Any = "sigmoid", use_bias: bool = True,
kernel_initializer: Any = "glorot_uniform", recurrent_initializer: Any = "orthogonal", bias_initializer: Any = "zeros",
kernel_regularizer: Any = None, recurrent_regularizer: Any = None, bias_regularizer: Any = None, kernel_constraint: Any = None,
recurrent_constraint: Any = None, bias_constraint: Any = None, dropout: float = 0.0, recurrent_dropout: float = 0.0,
reset_after: bool = True, seed: int | None = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(
            units, activation, use_bias, kernel_initializer, recurrent_initializer, bias_initializer, kernel_regularizer,
            recurrent_regularizer, bias_regularizer, kernel_constraint, recurrent_constraint, bias_constraint, dropout,
            recurrent_dropout, seed, **kwargs,
        )  # fmt: skip
        self.recurrent_activation, self.reset_after = activations.get(recurrent_activation), reset_after

    def _bias_shape(self, width: int) -> tuple[int, ...]:
        return (2, width) if self.reset_after else (width,)

    def project(self, inputs: torch.Tensor) -> torch.Tensor:
        """Returns `inputs @ kernel` and the bias of the inputs."""
        bias = self.bias
        return F.linear(inputs, self.kernel.t(), bias[0] if bias is not None and self.reset_after else bias)

    def step(self, projected: torch.Tensor, states: States, scale: torch.Tensor | None) -> tuple[torch.Tensor, States]:
        """Returns output and new state of one step."""
        h, kernel, units = states[0], self.recurrent_kernel, self.units
        seen = h if scale is None else h * scale
        if self.reset_after:
            bias = None if self.bias is None else self.bias[1]
            hidden, candidate = F.linear(seen, kernel.t(), bias).split([2 * units, units], -1)
        else:
            hidden = seen @ kernel[:, : 2 * units]
        z, r = self.recurrent_activation(projected[..., : 2 * units] + hidden).chunk(2, -1)
        candidate = r * candidate if self.reset_after else (r * seen) @ kernel[:, 2 * units :]
        g = self.activation(projected[..., 2 * units :] + candidate)
        h = z * h + (1 - z) * g
        return h, [h]


@public("keras.layers.StackedRNNCells")
class StackedRNNCells(Layer):
    """Cells on top of each other, as one cell.

    Args:
        cells: list of cells, the first nearest to the inputs.

    >>> from hornbeam.layers.recurrent import RNN
    >>> RNN(StackedRNNCells([LSTMCell(8), GRUCell(4)]))(torch.ones(2, 5, 3)).shape
    torch.Size([2, 4])
    """

    def __init__(self, cells: Sequence[Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for cell in cells:
            check_cell(cell, self.name)
        self.cells = list(cells)

    @property
    def state_size(self) -> list[Any]:
        """The sizes of the states, one entry for each cell."""
        return [list(c.state_size) if isinstance(c.state_size, (list, tuple)) else c.state_size for c in self.cells]

    @property
    def output_size(self) -> int:
        """The number of features that come out of the last cell."""
        return output_size(self.cells[-1])

    def build(self, input_shape: Any) -> None:
        """Builds each cell for what the one below it returns."""
        for cell in self.cells:
            if isinstance(cell, Layer) and not cell.built:
                cell.build(input_shape)
            input_shape = (input_shape[0], output_size(cell))

    def call(
        self, inputs: torch.Tensor, states: Sequence[Any], training: bool | None = False, **kwargs: Any
    ) -> tuple[torch.Tensor, list[Any]]:
        """Returns the last cell's output and the new states, one entry for each cell."""
        new = []
        for cell, state in zip(self.cells, states, strict=True):
            inputs, changed = one_step(cell, inputs, state, training, **kwargs)
            new.append(changed)
        return inputs, new

    def get_initial_state(self, batch_size: Any = None) -> list[Any]:
        """Returns the initial states, one entry for each cell."""
        return [initial_states(cell, batch_size) for cell in self.cells]

    def _config_value(self, name: str) -> Any:
        return [serialize_keras_object(c) for c in self.cells] if name == "cells" else super()._config_value(name)

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None) -> Any:
        """Makes the cells from what `get_config` returned."""
        config = dict(config)
        return cls([deserialize_keras_object(c, custom_objects) for c in config.pop("cells")], **config)


# -- what any object must have to be a cell


def check_cell(cell: Any, owner: str) -> None:
    """Raises a ValueError where an object cannot be the cell of the layer named `owner`."""
    missing = [name for name in ("call", "state_size") if not hasattr(cell, name)]
    if missing:
        raise ValueError(
            f"Layer {owner!r}: a cell has a method `call(inputs, states)` and an attribute `state_size`. "
            f"Received: {cell!r}, without {' and '.join(map(repr, missing))}."
        )


def output_size(cell: Any) -> Any:
    """Returns the number of features that come out of a cell: its `output_size`, else the size of its first state."""
    size = getattr(cell, "output_size", None)
    if size is not None:
        return size
    return cell.state_size[0] if isinstance(cell.state_size, (list, tuple)) else cell.state_size


def initial_states(cell: Any, batch_size: Any) -> list[Any]:
    """Returns the states a cell begins with, as a list: its own `get_initial_state`, else zeros."""
    if hasattr(cell, "get_initial_state"):
        states = cell.get_initial_state(batch_size=batch_size)
        return list(states) if isinstance(states, (list, tuple)) else [states]
    sizes = cell.state_size if isinstance(cell.state_size, (list, tuple)) else [cell.state_size]
    return [torch.zeros((batch_size, *(size if isinstance(size, (list, tuple)) else (size,)))) for size in sizes]


def one_step(
    cell: Any, inputs: torch.Tensor, states: list[Any], training: bool | None, **kwargs: Any
) -> tuple[torch.Tensor, list[Any]]:
    """Calls any cell, and returns its new states as a list."""
    if isinstance(cell, Layer):
        kwargs["training"] = training
    output, new = cell(inputs, states, **kwargs) if callable(cell) else cell.call(inputs, states, **kwargs)
    return output, list(new) if isinstance(new, (list, tuple)) else [new]
