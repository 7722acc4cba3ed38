"""Running a layer as a pure function: reads and writes of variables go to a table instead of the variables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.func import functional_call

from hornbeam.graph.context import context


class StatelessScope:
    """While it is open, `assign` writes into the scope and `value` reads from it.

    Args:
        state_mapping: pairs (variable, value to read instead).
        collect_losses: kept for Keras's signature.
        initialize_variables: kept for Keras's signature.

    >>> from hornbeam.core.weights import Variable
    >>> v = Variable(1.0)
    >>> with StatelessScope() as scope:
    ...     _ = v.assign(2.0)
    >>> float(v), float(scope.get_current_value(v).detach())
    (1.0, 2.0)
    """

    def __init__(
        self,
        state_mapping: Sequence[tuple[Any, Any]] | None = None,
        collect_losses: bool = False,
        initialize_variables: bool = True,
    ) -> None:
        self.losses: list[Any] = []
        self.collect_losses = collect_losses
        self.state_mapping: dict[int, Any] = {}
        for variable, value in state_mapping or ():
            value = torch.as_tensor(value, dtype=variable.dtype)
            if value.shape != variable.shape:
                raise ValueError(
                    f"StatelessScope: {variable.path!r} has shape {tuple(variable.shape)}. Received: {tuple(value.shape)}."
                )
            self.state_mapping[id(variable)] = value

    def __enter__(self) -> StatelessScope:
        self._outer, context.stateless = context.stateless, self
        return self

    def __exit__(self, *args: Any) -> None:
        context.stateless = self._outer

    def add_update(self, update: tuple[Any, Any]) -> None:
        """Notes a (variable, value) pair."""
        self.state_mapping[id(update[0])] = update[1]

    def get_current_value(self, variable: Any) -> Any:
        """Returns what the variable reads as in this scope."""
        if id(variable) in self.state_mapping:
            return self.state_mapping[id(variable)]
        return variable.materialize() if hasattr(variable, "materialize") else variable


def stateless_call(
    layer: Any, trainable: Sequence[Any], non_trainable: Sequence[Any], args: Any, kwargs: Any, return_losses: bool
) -> Any:
    """Calls a layer with given values for its variables and leaves its own as they are.

    Returns:
        (outputs, new values of the non-trainable variables), with the losses as a third where asked for.
    """
    names = {id(v): n for n, v in [*layer.named_parameters(remove_duplicate=False), *layer.named_buffers(remove_duplicate=False)]}
    values: dict[str, Any] = {}
    for variables, given in ((layer.trainable_variables, trainable), (layer.non_trainable_variables, non_trainable)):
        if len(variables) != len(given):
            raise ValueError(
                f"stateless_call of {layer.name!r} needs {len(variables)} values, one per variable. Received: {len(given)}."
            )
        for variable, value in zip(variables, given, strict=True):
            value = torch.as_tensor(value)
            values[names[id(variable)]] = value if variables is layer.trainable_variables else value.clone()
    frozen = [names[id(v)] for v in layer.non_trainable_variables]
    values.update({n: values[n].clone() for n in frozen})
    outputs = functional_call(layer, values, args, kwargs)
    result = (outputs, [values[n] for n in frozen])
    return (*result, layer.losses) if return_losses else result
