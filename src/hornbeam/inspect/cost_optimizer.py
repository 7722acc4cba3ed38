"""What an optimizer keeps for each weight, and the memory that its step takes: it is made anew for stand-ins without memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch

from hornbeam import optimizers
from hornbeam.core.errors import describe
from hornbeam.graph import tree
from hornbeam.optimizers import Optimizer

# What fake tensors raise where Python asks for a value.
UNKNOWABLE = (
    torch._subclasses.fake_tensor.DataDependentOutputException, torch._subclasses.fake_tensor.DynamicOutputShapeException,
)  # fmt: skip


class Update:
    """An optimizer for stand-ins.

    Args:
        optimizer: a name, an optimizer of Hornbeam, one of torch, or a function from a list of parameters to one; None: none.
        weights: stand-ins of the weights by the id of the weight, with gradients where they learn.

    Attributes:
        step: makes a step; None where there is no optimizer.
        slots: bytes kept for each weight.
        total: bytes kept in all.
        note: what could not be told.
    """

    def __init__(self, optimizer: Any, weights: dict[int, torch.Tensor]) -> None:
        self.keys = {id(w): key for key, w in weights.items()}
        self.learning = [w for w in weights.values() if w.requires_grad]
        self.weights = weights
        self.slots: dict[int, int] = {}
        self.tensors: list[torch.Tensor] = []
        self.step: Callable[[], Any] | None = None
        self.note = ""
        if optimizer is not None and self.learning:
            self._make(optimizer)
        self.total = sum(t.numel() * t.element_size() for t in self.tensors)

    def _make(self, optimizer: Any) -> None:
        if isinstance(optimizer, (str, dict)):
            optimizer = optimizers.get(optimizer)
        if isinstance(optimizer, Optimizer):
            self._of_hornbeam(type(optimizer).from_config(optimizer.get_config()))
        elif isinstance(optimizer, torch.optim.Optimizer):
            self._of_torch(type(optimizer)(self._groups(optimizer), **optimizer.defaults))
        elif isinstance(optimizer, type) and issubclass(optimizer, Optimizer):
            self._of_hornbeam(optimizers.get(optimizer))
        elif callable(optimizer) and isinstance(made := optimizer(self.learning), torch.optim.Optimizer):
            self._of_torch(made)
        else:
            raise ValueError(
                'cost: `optimizer` is a name such as "adam", an optimizer of Hornbeam or torch, or a function that makes one of '
                f"a list of parameters. Received: {describe(optimizer)}"
            )

    def _of_hornbeam(self, optimizer: Any) -> None:
        optimizer.build(self.learning)
        for part in _family(optimizer):
            for slot in part._slots.values():
                for variable, tensor in zip(part._variables, slot, strict=True):
                    self._add(variable, tensor)
            named = {id(t) for t in self.tensors}
            self.tensors += [t for _, t in part._state if id(t) not in named]
        self.step = lambda: optimizer.apply([w.grad for w in self.learning], self.learning)

    def _of_torch(self, optimizer: torch.optim.Optimizer) -> None:
        try:
            optimizer.step()  # the first makes the state
        except UNKNOWABLE:
            self.note = f"What {type(optimizer).__name__} keeps is not counted: its step looks at values."
            return
        for variable, state in optimizer.state.items():
            for tensor in tree.leaves(state):
                if isinstance(tensor, torch.Tensor):
                    self._add(variable, tensor)
        self.step = optimizer.step

    def _add(self, variable: torch.Tensor, tensor: torch.Tensor | None) -> None:
        if tensor is not None:
            key = self.keys[id(variable)]
            self.slots[key] = self.slots.get(key, 0) + tensor.numel() * tensor.element_size()
            self.tensors.append(tensor)

    def _groups(self, optimizer: torch.optim.Optimizer) -> list[dict[str, Any]]:
        own = lambda group: [self.weights[id(p)] for p in group["params"] if id(p) in self.weights]  # noqa: E731
        return [{**group, "params": own(group)} for group in optimizer.param_groups if own(group)]


def _family(optimizer: Optimizer) -> Iterator[Any]:
    """An optimizer and those inside it."""
    yield optimizer
    for inner in {id(v): v for v in tree.leaves(list(vars(optimizer).values())) if isinstance(v, Optimizer)}.values():
        yield from _family(inner)
