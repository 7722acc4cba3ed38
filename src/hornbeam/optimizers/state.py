"""What an optimizer keeps between steps: slots for each variable, variables of its own, and their names, saved and loaded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from hornbeam.core.weights import Variable, WeightSpec, of_spec, to_numpy
from hornbeam.optimizers.mirrored import Mirrored

_WEIGHED = "accumulated_weight"  # what Keras has no variable for


def path_of(variable: Tensor, index: int) -> str:
    """Returns a variable's path, its name, or for a plain Parameter its place in the list."""
    return getattr(variable, "path", None) or getattr(variable, "name", None) or f"variable_{index}"


def names_of(variables: Sequence[Tensor]) -> list[str]:
    """Returns a name for each variable, as Keras writes it into the names of slots; no two are equal."""
    names: list[str] = []
    for i, variable in enumerate(variables):
        name = path_of(variable, i).replace("/", "_")
        names.append(name if name not in names else f"{name}_{i}")
    return names


def _tensor(thing: Tensor | Mirrored) -> Tensor:
    return thing.scalar() if isinstance(thing, Mirrored) else thing


class Stateful:
    """The part of an optimizer that keeps tensors: what there is, how it is named, saved and loaded."""

    name: str
    built: bool
    _steps: Mirrored
    _rate: Mirrored
    _weighed: Mirrored
    gradient_accumulation_steps: int | None
    _schedule: Callable[..., Any] | None
    _variables: list[Tensor]
    _names: list[str]

    def __init__(self) -> None:
        self._state: list[tuple[str, Tensor]] = []
        self._numbers: list[tuple[str, Mirrored]] = []
        self._slots: dict[str, list[Tensor | None]] = {}
        self._pending: dict[str, Any] | None = None

    def slots(self) -> Sequence[tuple[str, ...]]:
        """Returns the names of the tensors kept for each variable; names in one tuple lie side by side in `variables`."""
        return []

    def slot_start(self, slot: str, variable: Tensor) -> Tensor | None:
        """Returns a slot's first value: zeros like the variable, unless a subclass says otherwise; None: no such slot."""
        return torch.zeros_like(variable)

    def _add_slots(self, names: tuple[str, ...]) -> None:
        self._slots.update({slot: [] for slot in names})
        for name, variable in zip(self._names, self._variables, strict=True):
            for slot in names:
                skipped = getattr(variable, "overwrite_with_gradient", False) and slot not in ("average", "gradient_accumulator")
                made = None if skipped else self.slot_start(slot, variable)
                self._slots[slot].append(made)
                if made is not None:
                    self._state.append((f"{name}_{slot}", made))

    def add_variable(
        self,
        shape: Sequence[int],
        initializer: Any = "zeros",
        dtype: Any = None,
        aggregation: str = "none",
        layout: Any = None,
        name: str | None = None,
    ) -> Variable:
        """Adds a variable of the optimizer's own and returns it."""
        made = Variable(initializer, shape=tuple(shape), dtype=dtype, trainable=False, name=name)
        self._state.append((made.name, made))
        return made

    def add_variable_from_reference(
        self, reference_variable: Tensor, name: str | None = None, initializer: Any = "zeros"
    ) -> Variable:
        """Adds a variable of the optimizer's own with the shape, dtype and device of another, and returns it."""
        if initializer == "zeros":
            value = torch.zeros_like(reference_variable.detach())
        else:
            made = Variable(initializer, shape=tuple(reference_variable.shape), dtype=reference_variable.dtype)
            value = torch.empty_like(reference_variable.detach()).copy_(made.detach())
        full = f"{names_of([reference_variable])[0]}_{name}"
        spec = WeightSpec(name=full, path=f"{self.name}/{full}", shape=tuple(value.shape), dtype=value.dtype)
        handle = of_spec(spec, False, value)
        self._state.append((full, handle))
        return handle

    def add_optimizer_variables(
        self, trainable_variables: Iterable[Tensor], name: str | Sequence[str], initializer: Any = "zeros"
    ) -> Any:
        """Adds one variable for each of the given ones; for several names, one list for each name is returned."""
        names, starts = ([name], [initializer]) if isinstance(name, str) else (list(name), initializer)
        starts = [starts] * len(names) if isinstance(starts, str) else list(starts)
        lists: list[list[Variable]] = [[] for _ in names]
        for variable in trainable_variables:
            for made, n, start in zip(lists, names, starts, strict=True):
                made.append(self.add_variable_from_reference(variable, n, start))
        return lists[0] if isinstance(name, str) else tuple(lists)

    def _entries(self) -> list[tuple[str, str, Tensor | Mirrored]]:
        """Returns (path, key in `state_dict`, tensor or number) of each variable, in Keras's order."""
        own: list[tuple[str, Any]] = [("iteration", self._steps)]
        if self._schedule is None:
            own.append(("learning_rate", self._rate))
        return [(f"{self.name}/{name}", name, thing) for name, thing in [*own, *self._state, *self._numbers]]

    def _tensors(self) -> list[Tensor]:
        """Returns every tensor that a step may change: variables, slots and numbers."""
        weighed = [self._weighed.tensor] if self.gradient_accumulation_steps else []
        return self._variables + weighed + [t.tensor if isinstance(t, Mirrored) else t for _, _, t in self._entries()]

    def _keyed(self) -> dict[str, Tensor | Mirrored]:
        keyed: dict[str, Tensor | Mirrored] = {}
        for _, key, thing in self._entries():
            keyed[key if key not in keyed else f"{key}_{len(keyed)}"] = thing
        return keyed

    @property
    def variables(self) -> list[Any]:
        """The optimizer's own variables: step counter, learning rate (where it is a number), then slots, in Keras's order."""
        handles = []
        for path, _, thing in self._entries():
            tensor = _tensor(thing)
            spec = WeightSpec(name=path.rpartition("/")[2], path=path, shape=tuple(tensor.shape), dtype=tensor.dtype)
            handles.append(tensor if type(tensor) is Variable else of_spec(spec, False, tensor))
        return handles

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Sets the optimizer's variables to the given values, in the order of `variables`."""
        things = self._keyed()
        if len(weights) != len(things):
            raise ValueError(f"{self.name} has {len(things)} variables. Received: {len(weights)} values.")
        values = [torch.as_tensor(w) for w in weights]
        for (key, thing), value in zip(things.items(), values, strict=True):
            shape = tuple(_tensor(thing).shape)
            if shape != tuple(value.shape):
                raise ValueError(f"{self.name}: variable {key!r} has shape {shape}. Received: shape {tuple(value.shape)}.")
        with torch.no_grad():
            for thing, value in zip(things.values(), values, strict=True):
                if isinstance(thing, Mirrored):
                    thing.set(value.item())
                else:
                    thing.copy_(value)

    def save_own_variables(self, store: Any) -> None:
        """Writes the variables as arrays into a mapping, under "0", "1", … as Keras does."""
        for i, thing in enumerate(self._keyed().values()):
            store[str(i)] = to_numpy(_tensor(thing))

    def load_own_variables(self, store: Mapping[str, Any]) -> None:
        """Reads what `save_own_variables` wrote."""
        self.set_weights([store[str(i)][()] for i in range(len(store.keys()))])

    def state_dict(self) -> dict[str, Tensor]:
        """Returns the variables by name; the tensors are the live ones, as in torch.

        >>> from hornbeam.optimizers import SGD
        >>> sgd = SGD(0.5, momentum=0.9)
        >>> sgd.build([torch.nn.Parameter(torch.zeros(2))])
        >>> list(sgd.state_dict())
        ['iteration', 'learning_rate', 'variable_0_momentum']
        """
        weighed = {_WEIGHED: self._weighed.tensor} if self.gradient_accumulation_steps else {}
        return {key: _tensor(thing).detach() for key, thing in self._keyed().items()} | weighed

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Sets the variables to saved values, by name, or in order where variables are named otherwise now.

        An optimizer that is not built yet keeps the values until it is.
        """
        if not self.built:
            self._pending = dict(state_dict)
            return
        self._pending = None
        if _WEIGHED in state_dict:
            self._weighed.set(float(state_dict[_WEIGHED]))
            state_dict = {k: v for k, v in state_dict.items() if k != _WEIGHED}
        keys = list(self._keyed())
        if len(keys) != len(state_dict):
            missing, extra = [k for k in keys if k not in state_dict], [k for k in state_dict if k not in keys]
            raise ValueError(f"The state does not fit {self.name}. Missing: {missing}. Not known: {extra}.")
        by_name = all(k in state_dict for k in keys)
        self.set_weights([state_dict[k] for k in keys] if by_name else list(state_dict.values()))

    def assign(self, variable: Tensor, value: Any) -> None:
        """Writes a value into a variable."""
        variable.copy_(torch.as_tensor(value))

    def assign_add(self, variable: Tensor, value: Any) -> None:
        """Adds a value to a variable."""
        variable.add_(value)

    def assign_sub(self, variable: Tensor, value: Any) -> None:
        """Subtracts a value from a variable."""
        variable.sub_(value)
