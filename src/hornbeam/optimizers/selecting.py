"""Which variables an optimizer is for: building its state, and sorting gradients into parts that kernels take whole."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy

from hornbeam.core.clean import clean_context
from hornbeam.core.errors import describe
from hornbeam.core.init_args import is_builtin
from hornbeam.optimizers.part import Part, same_objects
from hornbeam.optimizers.state import Stateful, names_of, path_of


class Selecting(Stateful):
    """The part of an optimizer that knows its variables."""

    use_ema: bool
    gradient_accumulation_steps: int | None

    def __init__(self) -> None:
        super().__init__()
        self.built = False
        self._variables: list[Tensor] = []
        self._index: dict[int, int] = {}
        self._everything: list[Part] | None = None
        self._selections: dict[tuple[int, ...], list[Part]] = {}
        self._undecayed: tuple[list[Tensor], list[str]] = ([], [])
        self._constrained = self._overwrites = False
        self._warned = False

    def build(self, variables: Iterable[Any]) -> None:
        """Makes the optimizer's state for these variables.

        Args:
            variables: trainable variables: torch Parameters, in the order in which gradients will come.
        """
        if self.built:
            self._note_options()
            return
        self._variables = list(variables)
        for i, variable in enumerate(self._variables):
            if not isinstance(variable, Tensor):
                raise TypeError(f"{self.name}.build takes a list of variables. Item {i} is {describe(variable)}.")
            if hasattr(variable, "materialize") and not is_lazy(variable):
                variable.materialize()
            if is_lazy(variable):
                raise ValueError(f"{self.name}.build: variable {i} has no shape yet. Build the model first, or call it once.")
        self._names = names_of(self._variables)
        self._index = {id(v): i for i, v in enumerate(self._variables)}
        if self._variables:
            self._move_numbers(self._variables[0].device)
        own = [("average",)] * self.use_ema + [("gradient_accumulator",)] * bool(self.gradient_accumulation_steps)
        with clean_context():
            for names in [*own, *self.slots()]:
                self._add_slots(names)
        self.built = True
        self._forget_parts()
        if self._pending is not None:
            if is_builtin(type(self)):
                self.load_state_dict(self._pending)
            else:
                self._everything = None  # a subclass may add variables of its own after this; `_select` loads them

    def exclude_from_weight_decay(self, var_list: Iterable[Tensor] | None = None, var_names: Iterable[str] | None = None) -> None:
        """Keeps variables out of weight decay.

        Args:
            var_list: the variables.
            var_names: parts of names, such as ["bias"]: variables whose path holds one of them stay out.
        """
        variables, names = self._undecayed
        variables.extend(var_list or ())
        names.extend(var_names or ())
        self._forget_parts()

    def decays(self, index: int) -> bool:
        """Returns whether weight decay applies to the variable at that place."""
        (variables, names), variable = self._undecayed, self._variables[index]
        return not any(v is variable for v in variables) and not any(n in path_of(variable, index) for n in names)

    def kind_of(self, variable: Tensor) -> Any:
        """Returns which kind of variable this is to `update`; variables of one kind come in one part."""
        return None

    def _build_for(self, variables: Sequence[Tensor] | None) -> None:
        if variables is None:
            raise ValueError(f"{self.name} is not built: call `build(trainable_variables)`, or pass the variables to `apply`.")
        if torch.compiler.is_compiling():
            raise RuntimeError(f"{self.name} is not built: call `build(trainable_variables)` before the compiled step.")
        self.build(variables)

    def _index_of(self, variable: Tensor) -> int:
        if id(variable) in self._index:
            return self._index[id(variable)]
        raise ValueError(
            f"{self.name} was not built for the variable {path_of(variable, 0)!r} of shape {tuple(variable.shape)}. "
            "Make a new optimizer for a new set of variables."
        )

    _get_variable_index = _index_of

    def _select(self, grads: list[Tensor | None], variables: Sequence[Tensor] | None) -> tuple[list[Part], list[Tensor]]:
        """Returns the parts and gradients of a step, without variables that have no gradient."""
        if self._pending is not None:
            self.load_state_dict(self._pending)
        if variables is None or same_objects(variables, self._variables):
            indices = list(range(len(self._variables)))
        else:
            indices = [self._index_of(v) for v in variables]
        if len(grads) != len(indices):
            raise ValueError(f"{self.name} got {len(grads)} gradients for {len(indices)} variables; they must come one to one.")
        kept = [i for i, g in zip(indices, grads, strict=True) if g is not None]
        if len(kept) < len(indices):
            self._warn_without_gradient([i for i in indices if i not in kept])
        if not kept:
            names = ", ".join(path_of(self._variables[i], i) for i in indices[:5])
            raise ValueError(f"{self.name} got no gradient for any variable. The variables: {names}.")
        given = [(self._variables[i], g) for i, g in zip(indices, grads, strict=True) if g is not None]
        return self._parts(kept), [g if isinstance(g, Tensor) else torch.as_tensor(g).to(v) for v, g in given]

    def _warn_without_gradient(self, indices: list[int]) -> None:
        if not self._warned and not torch.compiler.is_compiling():
            self._warned = True
            names = ", ".join(path_of(self._variables[i], i) for i in indices)
            warnings.warn(f"{self.name} got no gradient for these variables and leaves them as they are: {names}.", stacklevel=4)

    def _parts(self, indices: list[int]) -> list[Part]:
        key = tuple(indices)
        if key in self._selections:
            return self._selections[key]
        kinds: dict[Any, list[int]] = {}
        for position, i in enumerate(indices):
            variable = self._variables[i]
            kinds.setdefault((variable.device, variable.dtype, self.kind_of(variable)), []).append(position)
        parts = []
        for (_, _, kind), positions in kinds.items():
            own = [indices[p] for p in positions]
            slots = {slot: [tensors[i] for i in own] for slot, tensors in self._slots.items() if tensors[own[0]] is not None}
            part = Part(kind, positions, [self._variables[i] for i in own], slots)  # type: ignore[arg-type]
            part.decayed = [self._variables[i] for i in own if self.decays(i)]
            parts.append(part)
        self._note_options()
        self._selections[key] = parts
        if len(indices) == len(self._variables):
            self._everything = parts
        return parts

    def _note_options(self) -> None:
        """Looks at what variables ask for, which may be set at any time: `fit` asks at the beginning of each epoch."""
        self._constrained = any(getattr(v, "constraint", None) is not None for v in self._variables)
        self._overwrites = any(getattr(v, "overwrite_with_gradient", False) for v in self._variables)

    def _forget_parts(self) -> None:
        self._selections, self._everything = {}, None
        if self.built and self._variables:
            self._parts(list(range(len(self._variables))))

    def _follow_device(self) -> None:
        """Moves the state to where the variables have gone since it was made."""
        for slots in self._slots.values():
            for slot, variable in zip(slots, self._variables, strict=True):
                if slot is not None:
                    slot.data = slot.to(variable.device)
        self._move_numbers(self._variables[0].device)
        self._forget_parts()

    def _move_numbers(self, device: torch.device) -> None:
        for number in [self._steps, self._rate, self._weighed, *(m for _, m in self._numbers)]:
            number.to(device)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_selections": {}, "_everything": None, "_index": None}

    def __setstate__(self, values: dict[str, Any]) -> None:
        self.__dict__.update(values)
        self._index = {id(v): i for i, v in enumerate(self._variables)}
        self._forget_parts()
