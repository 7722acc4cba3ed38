"""Several optimizers in one model, each for its own variables."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, MutableMapping, Sequence
from typing import Any

import torch
from torch import Tensor

from hornbeam.core import registry
from hornbeam.core.errors import describe
from hornbeam.optimizers.base import Optimizer
from hornbeam.optimizers.loss_scale import LossScaleOptimizer
from hornbeam.optimizers.state import path_of


class OptimizerMap(MutableMapping):  # type: ignore[type-arg]
    """Which optimizer a variable gets: that of the regular expression that matches its whole path, else the default.

    Args:
        default_optimizer: the optimizer of all other variables.
        optimizer_map: dict of regular expressions and optimizers.

    >>> from hornbeam.optimizers import SGD, Adam
    >>> optimizers = OptimizerMap(SGD(), {"encoder/.*": Adam()})
    >>> type(optimizers["encoder/dense/kernel"]).__name__, type(optimizers["decoder/kernel"]).__name__
    ('Adam', 'SGD')
    """

    def __init__(self, default_optimizer: Optimizer, optimizer_map: dict[str, Optimizer] | None = None) -> None:
        if not isinstance(default_optimizer, Optimizer):
            raise TypeError(f"default_optimizer of OptimizerMap must be an optimizer. Received: {describe(default_optimizer)}")
        _check_member(default_optimizer)
        self._default_optimizer, self._map = default_optimizer, {}  # type: ignore[var-annotated]
        for pattern, optimizer in (optimizer_map or {}).items():
            self[pattern] = optimizer

    @property
    def default_optimizer(self) -> Optimizer:
        """The optimizer of variables that no pattern matches."""
        return self._default_optimizer

    def __getitem__(self, path: str) -> Optimizer:
        if path in self._map:
            return self._map[path]
        matching = [pattern for pattern in self._map if re.fullmatch(pattern, path)]
        if len(matching) > 1:
            raise ValueError(f"{path!r} is matched by several patterns of the OptimizerMap: {', '.join(map(repr, matching))}.")
        return self._map[matching[0]] if matching else self._default_optimizer

    def __setitem__(self, pattern: str, optimizer: Optimizer) -> None:
        if pattern in self._map:
            raise ValueError(f"The OptimizerMap has {pattern!r} already, with {self._map[pattern]!r}. Delete that first.")
        if not isinstance(optimizer, Optimizer):
            raise ValueError(f"The OptimizerMap holds optimizers. Received: {describe(optimizer)}")
        _check_member(optimizer)
        self._map[pattern] = optimizer

    def __delitem__(self, pattern: str) -> None:
        del self._map[pattern]

    def __len__(self) -> int:
        return len(self._map)

    def __iter__(self) -> Iterator[str]:
        return iter(self._map)

    def __call__(self, variable: Tensor) -> Optimizer:
        return self[path_of(variable, 0)]

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor arguments as a JSON-able dictionary."""
        return {
            "default_optimizer": registry.serialize_keras_object(self._default_optimizer),
            "optimizer_map": registry.serialize_keras_object(self._map),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None) -> OptimizerMap:
        """Makes a map from what `get_config` returned."""
        return cls(**{name: registry.deserialize_keras_object(value, custom_objects) for name, value in config.items()})


class MultiOptimizer(Optimizer):
    """Gives each variable to the optimizer that a map or a function chooses for it.

    Args:
        optimizer_map: an `OptimizerMap`, a callable that returns an optimizer for a variable, or one optimizer for all.
        loss_scale_factor: what `scale_loss` multiplies the loss by; gradients are divided by it.
        name: a name.

    >>> from hornbeam.optimizers import SGD, Adam
    >>> slow, fast = SGD(0.25), SGD(0.5)
    >>> optimizer = MultiOptimizer(lambda variable: slow if variable.dim() < 2 else fast)
    >>> w, b = torch.nn.Parameter(torch.ones(1, 1)), torch.nn.Parameter(torch.ones(1))
    >>> optimizer.apply([torch.ones(1, 1), torch.ones(1)], [w, b])
    >>> w.item(), b.item()
    (0.5, 0.75)
    """

    def __init__(
        self,
        optimizer_map: OptimizerMap | Callable[[Tensor], Optimizer] | Optimizer,
        loss_scale_factor: float | None = None,
        name: str | None = None,
    ) -> None:
        if isinstance(optimizer_map, Optimizer):
            optimizer_map = OptimizerMap(optimizer_map)
        if not callable(optimizer_map):
            raise TypeError(f"MultiOptimizer takes an OptimizerMap or a callable. Received: {describe(optimizer_map)}")
        self.optimizer_map = optimizer_map
        super().__init__(0.0, loss_scale_factor=loss_scale_factor, name=name)
        listed = [*optimizer_map.values(), optimizer_map.default_optimizer] if isinstance(optimizer_map, OptimizerMap) else []
        self.optimizers: list[Optimizer] = list({id(o): o for o in listed if o is not None}.values())
        self._shares: list[tuple[Optimizer, list[int]]] = []

    @property
    def learning_rate(self) -> Any:
        """Each optimizer has its own; there is no common one."""
        raise AttributeError("A MultiOptimizer has no learning rate: read those of its `optimizers`.")

    @learning_rate.setter
    def learning_rate(self, value: Any) -> None:
        if "optimizers" in self.__dict__:
            raise AttributeError("A MultiOptimizer has no learning rate: set those of its `optimizers`.")
        self._rate.set(value)

    def build(self, variables: Iterable[Any]) -> None:
        """Asks for each variable's optimizer and builds all of them."""
        if self.built:
            return
        variables = list(variables)
        shares: dict[int, list[int]] = {}
        for i, variable in enumerate(variables):
            chosen = self.optimizer_map(variable)
            if not isinstance(chosen, Optimizer):
                name = path_of(variable, i)
                raise ValueError(f"optimizer_map of {self.name} returned no optimizer for {name!r} but {describe(chosen)}.")
            _check_member(chosen)
            if all(chosen is not o for o in self.optimizers):
                self.optimizers.append(chosen)
            shares.setdefault(id(chosen), []).append(i)
        self._shares = [(o, shares[id(o)]) for o in self.optimizers if id(o) in shares]
        for optimizer, indices in self._shares:
            optimizer.build([variables[i] for i in indices])
        super().build(variables)

    def _entries(self) -> list[tuple[str, str, Any]]:
        inner = [(p, f"{i}/{key}", thing) for i, o in enumerate(self.optimizers) for p, key, thing in o._entries()]
        return super()._entries() + inner

    def apply(self, grads: Sequence[Tensor | None], trainable_variables: Sequence[Tensor] | None = None) -> None:
        """Makes one step of each optimizer."""
        if not self.built:
            self._build_for(trainable_variables)
        indices = range(len(self._variables)) if trainable_variables is None else [self._index_of(v) for v in trainable_variables]
        if len(grads) != len(indices):
            raise ValueError(f"{self.name} got {len(grads)} gradients for {len(indices)} variables; they must come one to one.")
        given = dict(zip(indices, grads, strict=True))
        if all(g is None for g in grads):
            raise ValueError(f"{self.name} got no gradient for any variable.")
        with torch.no_grad():
            if self.loss_scale_factor is not None:
                given = {i: None if g is None else g / self.loss_scale_factor for i, g in given.items()}
            for optimizer, share in self._shares:
                own = [i for i in share if given.get(i) is not None]
                if own:
                    optimizer.apply([given[i] for i in own], [self._variables[i] for i in own])
            if torch.compiler.is_compiling():
                self._steps.write(self._steps.scalar() + 1)
            else:
                self._steps.set(self._steps.get() + 1)

    def finalize_variable_values(self, var_list: Sequence[Tensor]) -> None:
        """Lets each optimizer do what it does at the end of training."""
        wanted = {id(v) for v in var_list}
        for optimizer, share in self._shares:
            optimizer.finalize_variable_values([self._variables[i] for i in share if id(self._variables[i]) in wanted])

    def exclude_from_weight_decay(self, var_list: Iterable[Tensor] | None = None, var_names: Iterable[str] | None = None) -> None:
        """Keeps variables out of the weight decay of all optimizers of the map."""
        known, mapping = self.optimizers, self.optimizer_map
        if not known and isinstance(mapping, OptimizerMap):
            known = [*mapping.values(), mapping.default_optimizer]
        var_list, var_names = list(var_list or ()), list(var_names or ())
        for optimizer in known:
            optimizer.exclude_from_weight_decay(var_list, var_names)


def _check_member(optimizer: Optimizer) -> None:
    """Raises where an optimizer would never see the loss that it has to scale, or would choose once more."""
    if isinstance(optimizer, (LossScaleOptimizer, MultiOptimizer)):
        raise ValueError(
            f"A MultiOptimizer cannot hold a {type(optimizer).__name__}. "
            f"Give it plain optimizers, and wrap the whole in a LossScaleOptimizer where the loss is to be scaled."
        )
