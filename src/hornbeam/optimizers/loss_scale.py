"""Loss scaling for float16: steps whose gradients overflow are skipped, and the scale follows what the gradients bear."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from hornbeam.core.errors import describe
from hornbeam.optimizers.base import Optimizer
from hornbeam.optimizers.mirrored import Mirrored, Rate
from hornbeam.optimizers.part import only_if

_ELSEWHERE = (
    "learning_rate", "weight_decay", "clipnorm", "clipvalue", "global_clipnorm", "use_ema", "ema_momentum",
    "ema_overwrite_frequency", "loss_scale_factor", "gradient_accumulation_steps",
)  # fmt: skip


class LossScaleOptimizer(Optimizer):
    """Wraps an optimizer: the loss is multiplied by a scale, the gradients are divided by it, and the scale adapts.

    A step with a gradient that is not finite is skipped and halves the scale; `dynamic_growth_steps` good steps double it.

    Args:
        inner_optimizer: the optimizer that makes the steps. Clips, weight decay, averages and accumulation are set on it.
        initial_scale: the scale to begin with.
        dynamic_growth_steps: after so many good steps the scale is doubled.
        name: a name.

    >>> from hornbeam.optimizers import SGD
    >>> optimizer = LossScaleOptimizer(SGD(0.5), initial_scale=8.0)
    >>> w = torch.nn.Parameter(torch.ones(1))
    >>> optimizer.scale_loss(torch.tensor(2.0))
    tensor(16.)
    >>> optimizer.apply([torch.tensor([8.0])], [w])
    >>> w.tolist()
    [0.5]
    """

    config_exclude = _ELSEWHERE

    def __init__(
        self,
        inner_optimizer: Optimizer,
        initial_scale: float = 32768.0,
        dynamic_growth_steps: int = 2000,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        if not isinstance(inner_optimizer, Optimizer):
            raise TypeError(f"LossScaleOptimizer wraps an optimizer. Received: inner_optimizer={describe(inner_optimizer)}")
        for argument in _ELSEWHERE:
            if kwargs.pop(argument, None) not in (None, False) and argument != "ema_momentum":  # of no use without `use_ema`
                raise ValueError(f"LossScaleOptimizer takes no {argument}: set it on the inner optimizer.")
        self.inner_optimizer = inner_optimizer
        super().__init__(0.0, name=name, **kwargs)
        self.initial_scale, self.dynamic_growth_steps = initial_scale, dynamic_growth_steps
        self._good, self._scale = Mirrored(0, torch.int64), Mirrored(initial_scale, torch.float32)
        self._is_finite = Mirrored(True, torch.bool)
        self._numbers += [("step_counter", self._good), ("dynamic_scale", self._scale)]

    @property
    def learning_rate(self) -> Rate:
        """The inner optimizer's learning rate."""
        return self.inner_optimizer.learning_rate

    @learning_rate.setter
    def learning_rate(self, value: Any) -> None:
        if "_scale" in self.__dict__:
            self.inner_optimizer.learning_rate = value
        else:
            self._rate.set(value)

    @property
    def iterations(self) -> Any:
        """The inner optimizer's number of updates."""
        return self.inner_optimizer.iterations

    @iterations.setter
    def iterations(self, value: int) -> None:
        self.inner_optimizer.iterations = value

    @property
    def dynamic_scale(self) -> float:
        """The present scale."""
        return self._scale.get()

    def build(self, variables: Iterable[Any]) -> None:
        """Builds the inner optimizer for these variables."""
        if not self.built:
            variables = list(variables)
            self.inner_optimizer.build(variables)
            super().build(variables)

    def _entries(self) -> list[tuple[str, str, Any]]:
        return super()._entries() + [(path, f"inner/{key}", thing) for path, key, thing in self.inner_optimizer._entries()]

    def check_finite(self, grads: Sequence[Tensor | None]) -> Tensor:
        """Returns whether every element of every gradient is finite, as a tensor of shape ()."""
        given = [g for g in grads if g is not None]
        if not given:
            raise ValueError(f"{self.name} got no gradient for any variable.")
        return torch.stack([torch.isfinite(g).all().to(given[0].device) for g in given]).all()

    def apply(self, grads: Sequence[Tensor | None], trainable_variables: Sequence[Tensor] | None = None) -> None:
        """Makes one step with gradients of the scaled loss, or skips it where one of them is not finite."""
        if not self.built:
            self._build_for(trainable_variables)
        inner = self.inner_optimizer
        with torch.no_grad():
            finite = self.check_finite(grads)
            if self._without_host() or (finite.device.type != "cpu" and type(inner).apply is Optimizer.apply):
                if not torch.compiler.is_compiling():
                    inner.branchless = True
                self._branchless_apply(grads, trainable_variables, finite)
                return
            self._is_finite.tensor.copy_(finite)
            if not self._is_finite.get():
                self._good.set(0)
                self._scale.set(self._scale.get() / 2)
                return
            scale = self._scale.get() / (inner.loss_scale_factor or 1)  # by which the inner optimizer divides
            unscaled = [None if g is None else g / scale for g in grads]
            inner.apply(unscaled, trainable_variables)
            done = self._good.get() + 1
            if done == self.dynamic_growth_steps:
                self._scale.set(self._scale.get() * 2)
            self._good.set(done % self.dynamic_growth_steps)

    def _branchless_apply(self, grads: Sequence[Tensor | None], variables: Sequence[Tensor] | None, finite: Tensor) -> None:
        inner, scale = self.inner_optimizer, self._scale.scalar().clone()
        divisor = scale / (inner.loss_scale_factor or 1)
        unscaled = [None if g is None else g / divisor.to(g.device) for g in grads]
        only_if(finite, inner._tensors(), lambda: inner.apply(unscaled, variables))
        done = torch.where(finite, self._good.scalar() + 1, 0)
        grown = done == self.dynamic_growth_steps
        self._scale.write(torch.where(finite, torch.where(grown, scale * 2, scale), scale / 2))
        self._good.write(torch.where(grown, 0, done))

    def scale_loss(self, loss: Tensor) -> Tensor:
        """Returns the loss times the present scale."""
        on_device = torch.compiler.is_compiling() or not self._scale.shared
        return loss * (self._scale.scalar() if on_device else self._scale.get())

    def finalize_variable_values(self, var_list: Sequence[Tensor]) -> None:
        """Lets the inner optimizer do what it does at the end of training."""
        self.inner_optimizer.finalize_variable_values(var_list)

    def exclude_from_weight_decay(self, var_list: Iterable[Tensor] | None = None, var_names: Iterable[str] | None = None) -> None:
        """Keeps variables out of the inner optimizer's weight decay."""
        self.inner_optimizer.exclude_from_weight_decay(var_list, var_names)
