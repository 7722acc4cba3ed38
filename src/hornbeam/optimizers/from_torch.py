"""Optimizers of `torch.optim`, and any other of their kind, as Hornbeam's optimizers are used."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from hornbeam.core.errors import describe
from hornbeam.optimizers.base import Optimizer
from hornbeam.optimizers.mirrored import Rate
from hornbeam.optimizers.part import Part, Scalar

Factory = Callable[[list[Tensor]], torch.optim.Optimizer]


class TorchOptimizer(Optimizer):
    """A torch optimizer, used as one of Hornbeam's; `compile` makes it of what it is given.

    What surrounds an update works as with any other optimizer: clipping, accumulation of gradients, averages of the weights.

    Args:
        optimizer: a `torch.optim.Optimizer`; or a class of such, or any function that makes one of a list of weights, which is
            called when the weights are known.
        clipnorm, clipvalue, global_clipnorm, use_ema, ema_momentum, ema_overwrite_frequency, loss_scale_factor,
            gradient_accumulation_steps, name: see `Optimizer`.

    >>> w = torch.nn.Parameter(torch.ones(2))
    >>> optimizer = TorchOptimizer(lambda weights: torch.optim.SGD(weights, lr=0.25), clipvalue=1.0)
    >>> optimizer.apply([torch.tensor([1.0, 8.0])], [w])
    >>> w.tolist()
    [0.75, 0.75]
    """

    def __init__(
        self, optimizer: torch.optim.Optimizer | Factory,
        clipnorm: float | None = None, clipvalue: float | None = None, global_clipnorm: float | None = None,
        use_ema: bool = False, ema_momentum: float = 0.99, ema_overwrite_frequency: int | None = None,
        loss_scale_factor: float | None = None, gradient_accumulation_steps: int | None = None, name: str | None = None,
    ) -> None:  # fmt: skip
        if not is_torch(optimizer):
            raise TypeError(
                "TorchOptimizer takes an optimizer of torch, a class of such, or a function that makes one of a list of weights. "
                f"Received: {describe(optimizer)}"
            )
        self.optimizer: Any = None
        self.make = optimizer
        super().__init__(
            0.0, None, clipnorm, clipvalue, global_clipnorm, use_ema, ema_momentum, ema_overwrite_frequency, loss_scale_factor,
            gradient_accumulation_steps, name,
        )  # fmt: skip
        if isinstance(optimizer, torch.optim.Optimizer):
            self._take(optimizer)

    def _take(self, optimizer: Any) -> None:
        if not isinstance(optimizer, torch.optim.Optimizer):
            raise TypeError(f"The function that is to make a torch optimizer returned {describe(optimizer)}.")
        if isinstance(optimizer, torch.optim.LBFGS):
            raise ValueError("torch.optim.LBFGS computes the loss several times a step: use it in a `train_step` of your own.")
        self.optimizer = optimizer

    def build(self, variables: Iterable[Any]) -> None:
        """Makes the optimizer for these variables, where it was given as a class or a function."""
        if self.built:
            return
        variables = list(variables)
        if self.optimizer is None:
            self._take(self.make(variables))  # type: ignore[operator]
        known = {id(p) for group in self.param_groups for p in group["params"]}
        if variables and not any(id(v) in known for v in variables):
            raise none_held(self.optimizer, len(variables))
        super().build(variables)

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The groups of parameters of the torch optimizer."""
        return [] if self.optimizer is None else self.optimizer.param_groups

    @property
    def learning_rate(self) -> Rate:
        """The learning rate of the first group; setting it sets that of all groups."""
        return Rate(self._host_rate(0), self._set_rate)

    @learning_rate.setter
    def learning_rate(self, value: Any) -> None:
        self._set_rate(value)

    def _set_rate(self, value: Any) -> None:
        for group in self.param_groups:
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(float(value))
            else:
                group["lr"] = float(value)

    def _host_rate(self, done: int) -> float:
        return float(self.param_groups[0]["lr"]) if self.optimizer is not None else 0.0

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Does what torch's own does, for a `train_step` in torch's spelling."""
        self.optimizer.zero_grad(set_to_none)

    def step(self, closure: Any = None) -> Any:
        """Makes a step of torch's own, with the gradients that the parameters hold."""
        return self.optimizer.step(closure)

    def update(self, part: Part, grads: list[Tensor], rate: Scalar, step: int | Tensor) -> None:
        for group in self.optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = None
        for variable, gradient in zip(part.variables, grads, strict=True):
            variable.grad = gradient
        self.optimizer.step()

    def state_dict(self) -> dict[str, Any]:
        """Returns the state: our variables by name, and under "torch" what the torch optimizer's `state_dict` returns."""
        return {**super().state_dict(), "torch": None if self.optimizer is None else self.optimizer.state_dict()}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Puts back what `state_dict` returned."""
        if not self.built:
            self._pending = dict(state_dict)
            return
        own = dict(state_dict)
        inner = own.pop("torch", None)
        super().load_state_dict(own)
        if inner is not None:
            self.optimizer.load_state_dict(copy.deepcopy(inner))

    def get_config(self) -> dict[str, Any]:
        """Raises: torch's optimizers have no configs."""
        made = self.make if self.optimizer is None else self.optimizer
        raise TypeError(f"An optimizer of torch has no config to be written: {describe(made)}")

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "make": self.optimizer or self.make}  # a function may be one that cannot be pickled

    def __repr__(self) -> str:
        title = type(self.optimizer).__name__ if self.optimizer is not None else getattr(self.make, "__name__", "of a function")
        return f"<TorchOptimizer {title}, iterations={int(self.iterations)}>"


def none_held(optimizer: torch.optim.Optimizer, count: int) -> ValueError:
    """Returns the error for a torch optimizer that was made for the weights of another model."""
    title = type(optimizer).__name__
    return ValueError(
        f"{title} holds none of the model's {count} weights that learn: it was made for another model. Make it of "
        f"`model.parameters()`, or give a function: optimizer=lambda weights: torch.optim.{title}(weights)"
    )


def is_torch(thing: Any) -> bool:
    """Returns whether something is a torch optimizer, a class of such, or a function that may make one."""
    if isinstance(thing, type):
        return issubclass(thing, torch.optim.Optimizer)
    return isinstance(thing, torch.optim.Optimizer) or (callable(thing) and not isinstance(thing, Optimizer))
