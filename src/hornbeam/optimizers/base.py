"""The base of all optimizers: one step on lists of variables, with what every optimizer can do around its own update."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from hornbeam.core import registry
from hornbeam.core.errors import describe
from hornbeam.core.init_args import Configurable
from hornbeam.optimizers.arguments import check_range, check_unknown
from hornbeam.optimizers.mirrored import Count, Mirrored, Rate
from hornbeam.optimizers.part import (
    Part,
    Scalar,
    clip_each,
    clip_together,
    clip_values,
    descend,
    note_nonfinite,
    only_if,
    same_objects,
)
from hornbeam.optimizers.schedules import LearningRateSchedule
from hornbeam.optimizers.surrounding import Surrounding

LearningRate = float | LearningRateSchedule | Callable[[], float]
_is_compiling = torch.compiler.is_compiling


@registry.public("keras.optimizers.Optimizer")
class Optimizer(Surrounding, Configurable):
    """Updates variables by their gradients; the base class of all optimizers, and of your own.

    A subclass says in `slots` what it keeps for each variable and in `update` what a step does with whole lists of variables
    (foreach kernels), or overrides `build` and `update_step`, one variable at a time, as in Keras.

    Args:
        learning_rate: number, `LearningRateSchedule`, or a callable without arguments that returns the number.
        weight_decay: each variable shrinks by `weight_decay * learning_rate` of itself before each step; None: no decay.
        clipnorm: the norm that each gradient is scaled down to. At most one of the three clips may be given.
        clipvalue: the size that each element of a gradient is cut down to.
        global_clipnorm: the joint norm that all gradients are scaled down to.
        use_ema: whether an exponential moving average of the variables is kept.
        ema_momentum: how much of the average stays at each step.
        ema_overwrite_frequency: every so many steps the variables are set to their averages; None: only when
            `finalize_variable_values` is called, as `fit` does at its end.
        loss_scale_factor: what `scale_loss` multiplies the loss by; gradients are divided by it.
        gradient_accumulation_steps: so many calls of `apply` make one update, by the mean of their gradients; None: each one.
        name: a name; the class's name in snake case, numbered, unless given.

    >>> class Sign(Optimizer):
    ...     def update_step(self, gradient, variable, learning_rate):
    ...         self.assign_sub(variable, learning_rate * torch.sign(gradient))
    >>> w = torch.nn.Parameter(torch.ones(2))
    >>> Sign(0.25).apply([torch.tensor([3.0, -3.0])], [w])
    >>> w.tolist()
    [0.75, 1.25]
    """

    found_inf: Tensor | None = None  # a flag that an update sets to 1 if a gradient is not finite; fused kernels then do nothing
    _by_variable = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._by_variable = cls.update_step is not Optimizer.update_step

    def __init__(
        self,
        learning_rate: LearningRate,
        weight_decay: float | None = None,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        use_ema: bool = False,
        ema_momentum: float = 0.99,
        ema_overwrite_frequency: int | None = None,
        loss_scale_factor: float | None = None,
        gradient_accumulation_steps: int | None = None,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        Surrounding.__init__(self)
        check_unknown(type(self), kwargs)
        if sum(c is not None for c in (clipnorm, clipvalue, global_clipnorm)) > 1:
            given = f"clipnorm={clipnorm}, clipvalue={clipvalue}, global_clipnorm={global_clipnorm}"
            raise ValueError(f"{type(self).__name__} takes one of clipnorm, clipvalue and global_clipnorm. Received: {given}")
        if use_ema:
            check_range(self, "ema_momentum", ema_momentum)
            every = ema_overwrite_frequency
            if every is not None and (not isinstance(every, int) or every < 1):
                raise ValueError(f"ema_overwrite_frequency must be an integer of at least 1, or None. Received: {every!r}")
        accumulate = gradient_accumulation_steps
        if accumulate is not None and (not isinstance(accumulate, int) or accumulate < 2):
            raise ValueError(f"gradient_accumulation_steps must be an integer of at least 2, or None. Received: {accumulate!r}")
        self.weight_decay, self.use_ema, self.ema_momentum = weight_decay, use_ema, ema_momentum
        self.clipnorm, self.clipvalue, self.global_clipnorm = clipnorm, clipvalue, global_clipnorm
        self.ema_overwrite_frequency = ema_overwrite_frequency
        self.loss_scale_factor, self.gradient_accumulation_steps = loss_scale_factor, gradient_accumulation_steps
        self.name = name or registry.auto_name(registry.snake_case(type(self).__name__))
        self._steps, self._rate = Mirrored(0, torch.int64), Mirrored(0.0, torch.float32)
        self._schedule: Callable[..., Any] | None = None
        self.learning_rate = learning_rate  # type: ignore[assignment]

    # -- numbers

    @property
    def learning_rate(self) -> Rate:
        """The present learning rate, a float. It may be set to a number, or to a schedule."""
        return Rate(self._host_rate(self._steps.get()), self._set_rate)

    @learning_rate.setter
    def learning_rate(self, value: Any) -> None:
        self._set_rate(value)

    def _set_rate(self, value: Any) -> None:
        if isinstance(value, LearningRateSchedule) or (callable(value) and not isinstance(value, Tensor)):
            self._schedule = value
            return
        if isinstance(value, dict):
            self._set_rate(registry.deserialize_keras_object(value))
            return
        try:
            number = None if isinstance(value, (str, bool)) else float(value)
        except (TypeError, ValueError):
            number = None
        if number is None:
            raise ValueError(
                f"learning_rate of {type(self).__name__} must be a number, a LearningRateSchedule, or a callable without "
                f"arguments that returns the number. Received: {describe(value)}"
            )
        if self._schedule is not None:
            raise TypeError(
                f"{type(self).__name__} takes its learning rate from {type(self._schedule).__name__}, so it cannot be set to a "
                "number. Make the optimizer with a number, or set another schedule."
            )
        self._rate.set(number)

    def _host_rate(self, done: int) -> float:
        schedule = self._schedule
        if schedule is None:
            return self._rate.get()
        if isinstance(schedule, LearningRateSchedule):
            return schedule.at(done)
        return float(schedule())

    def _device_rate(self, done: Tensor) -> Tensor:
        schedule = self._schedule
        if schedule is None:
            return self._rate.scalar()
        value = schedule(done) if isinstance(schedule, LearningRateSchedule) else schedule()
        if isinstance(value, Tensor):
            return value.to(torch.float32)
        return torch.full_like(done, value, dtype=torch.float32)

    @property
    def iterations(self) -> Count:
        """How many updates were made. It may be set."""
        return Count(self._steps.get() // (self.gradient_accumulation_steps or 1), self._set_iterations)

    @iterations.setter
    def iterations(self, value: int) -> None:
        self._set_iterations(value)

    def _set_iterations(self, value: Any) -> None:
        self._steps.set(int(value) * (self.gradient_accumulation_steps or 1))

    # -- a step

    def apply(self, grads: Sequence[Tensor | None], trainable_variables: Sequence[Tensor] | None = None) -> None:
        """Makes one step.

        Args:
            grads: gradients, one for each variable; None where there is none.
            trainable_variables: the variables; those that the optimizer was built for unless given.

        Raises:
            ValueError: when no variable has a gradient, a variable is new, or the numbers differ.
        """
        if not self.built:
            self._build_for(trainable_variables)
        grad_enabled = torch.is_grad_enabled()
        torch.set_grad_enabled(False)  # half the cost of `with torch.no_grad()`
        try:
            if self._overwrites:
                grads, trainable_variables = self._overwrite(grads, trainable_variables)
                if not grads:
                    return
            parts = self._everything
            known = trainable_variables is None or same_objects(trainable_variables, self._variables)
            if parts is None or not known or len(grads) != len(self._variables) or not all(isinstance(g, Tensor) for g in grads):
                parts, grads = self._select(list(grads), trainable_variables)
            if _is_compiling():
                self._branchless_step(parts, grads)  # type: ignore[arg-type]
                return
            if parts[0].variables[0].device != parts[0].device:
                self._follow_device()
                parts, grads = self._select(list(grads), trainable_variables)
            (self._branchless_step if self.branchless else self._eager_step)(parts, grads)  # type: ignore[arg-type]
        finally:
            torch.set_grad_enabled(grad_enabled)

    def apply_gradients(self, grads_and_vars: Iterable[tuple[Tensor | None, Tensor]]) -> None:
        """Makes one step from pairs (gradient, variable)."""
        pairs = list(grads_and_vars)
        self.apply([g for g, _ in pairs], [v for _, v in pairs])

    def _eager_step(self, parts: list[Part], grads: list[Tensor]) -> None:
        done, every = self._steps.get(), self.gradient_accumulation_steps
        if self.loss_scale_factor is not None:
            grads = list(torch._foreach_div(grads, self.loss_scale_factor))
        iteration = done // every if every else done
        if not every:
            self._update(parts, grads, self._host_rate(done), done + 1)
        else:
            self._accumulate(parts, grads)
            if (done + 1) % every == 0:
                self._update(parts, self._mean_gradients(parts, len(grads)), self._host_rate(done), iteration + 1)
                self._clear_accumulators(parts)
        if self.use_ema:
            self._average(parts, 0.0 if iteration == 0 else self.ema_momentum)
            if self.ema_overwrite_frequency and (iteration + 1) % self.ema_overwrite_frequency == 0:
                self._take_averages(parts)
        if self._constrained:
            self._constrain(parts)
        self._steps.set(done + 1)

    def _branchless_step(self, parts: list[Part], grads: list[Tensor]) -> None:
        """The same step where neither counter nor condition may be read: in compiled code, or so as not to wait for a device."""
        done, every = self._steps.scalar().clone(), self.gradient_accumulation_steps
        if self.loss_scale_factor is not None:
            grads = list(torch._foreach_div(grads, self.loss_scale_factor))
        iteration, rate = done // every if every else done, self._device_rate(done)
        step = (iteration + 1).to(torch.float32 if done.device.type == "mps" else torch.float64)
        if not every:
            self._update(parts, grads, rate, step)
        else:
            self._accumulate(parts, grads)
            means = self._mean_gradients(parts, len(grads))

            def update() -> None:
                self._update(parts, means, rate, step)
                self._clear_accumulators(parts)

            only_if((done + 1) % every == 0, self._tensors(), update)
        if self.use_ema:
            self._average(parts, torch.where(iteration == 0, 0.0, self.ema_momentum))
            if self.ema_overwrite_frequency:
                variables = [v for p in parts for v in p.variables]
                due = (iteration + 1) % self.ema_overwrite_frequency == 0
                only_if(due, variables, lambda: self._take_averages(parts))
        if self._constrained:
            self._constrain(parts)
        self._steps.write(done + 1)

    def _update(self, parts: list[Part], grads: list[Tensor], rate: Scalar, step: int | Tensor) -> None:
        if not _is_compiling():
            self._note_nonfinite(parts, grads)
        if self.clipnorm is not None:
            grads = clip_each(grads, self.clipnorm)
        elif self.global_clipnorm is not None:
            grads = clip_together(grads, self.global_clipnorm)
        elif self.clipvalue is not None:
            grads = clip_values(grads, self.clipvalue)
        self.before_update(step)
        for part in parts:
            own = grads if len(parts) == 1 else [grads[i] for i in part.positions]
            shrink = self.decay_of(part)
            if shrink and part.decayed:
                descend(part.decayed, part.decayed, rate * shrink)
            if type(step) is int:
                own = part.aligned(own)
            if self._by_variable:
                self._update_each(part, own, rate)
            else:
                self.update(part, own, rate, step)

    def _note_nonfinite(self, parts: list[Part], grads: list[Tensor]) -> None:
        flag = self.found_inf
        if flag is not None:
            note_nonfinite(grads, flag)
        for part in parts:
            part.found_inf = flag if flag is None or flag.device == part.device else None

    def decay_of(self, part: Part) -> float | None:
        """Returns the weight decay of a part's variables."""
        return self.weight_decay

    def before_update(self, step: int | Tensor) -> None:
        """Is called once in each update, before `update`, which is called for each part."""

    def update(self, part: Part, grads: list[Tensor], rate: Scalar, step: int | Tensor) -> None:
        """Changes a part's variables and slots in place.

        Args:
            part: variables of one device and dtype, with slots: `part.variables`, `part["momentum"]`.
            grads: their gradients.
            rate: learning rate; a float, or in compiled code a float32 tensor of shape ().
            step: number of this update, from 1; an int, or in compiled code a float64 tensor of shape ().
        """
        raise NotImplementedError(f"{type(self).__name__} needs an `update` or an `update_step` method.")

    def update_step(self, gradient: Tensor, variable: Tensor, learning_rate: Any) -> None:
        """Updates one variable; in a subclass, this may be overridden instead of `update`."""
        rate = learning_rate if isinstance(learning_rate, Tensor) and _is_compiling() else float(learning_rate)
        with torch.no_grad():
            self.update(self._parts([self._index_of(variable)])[0], [gradient], rate, int(self.iterations) + 1)

    def _update_each(self, part: Part, grads: list[Tensor], rate: Scalar) -> None:
        rate = rate if isinstance(rate, Tensor) else torch.tensor(rate)
        for gradient, variable in zip(grads, part.variables, strict=True):
            self.update_step(gradient, variable, rate)

    def finalize_variable_values(self, var_list: Sequence[Tensor]) -> None:
        """Sets the variables to their averages, if averages are kept; `fit` calls this at its end."""
        if self.use_ema:
            with torch.no_grad():
                self._take_averages(self._parts([self._index_of(v) for v in var_list]))

    def scale_loss(self, loss: Tensor) -> Tensor:
        """Returns the loss times `loss_scale_factor`."""
        return loss if self.loss_scale_factor is None else loss * self.loss_scale_factor

    def stateless_apply(
        self, optimizer_variables: Sequence[Any], grads: Sequence[Tensor | None], trainable_variables: Sequence[Any]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Makes a step from given values and leaves all variables as they are.

        Args:
            optimizer_variables: values, in the order of `variables`.
            grads: gradients.
            trainable_variables: values of the variables that the optimizer was built for.

        Returns:
            (new values of the trainable variables, new values of the optimizer's variables).
        """
        if not self.built:
            raise ValueError(f"{self.name} must be built before `stateless_apply`: call `build(trainable_variables)`.")
        if len(trainable_variables) != len(self._variables):
            count = len(self._variables)
            raise ValueError(f"stateless_apply of {self.name} needs {count} variables. Received: {len(trainable_variables)}.")

        def now() -> tuple[list[Tensor], list[Tensor]]:
            return [v.detach().clone() for v in self._variables], [v.detach().clone() for v in self.variables]

        def write(trainable: Sequence[Any], own: Sequence[Any]) -> None:
            self.set_weights(own)
            with torch.no_grad():
                for variable, value in zip(self._variables, trainable, strict=True):
                    variable.copy_(torch.as_tensor(value))

        before = now()
        try:
            write([torch.as_tensor(t).detach().clone() for t in trainable_variables], optimizer_variables)
            self.apply(grads)
            return now()
        finally:
            write(*before)

    # -- configs

    def _config_value(self, name: str) -> Any:
        if name == "learning_rate":
            return self._rate.get() if self._schedule is None else registry.serialize_keras_object(self._schedule)
        return super()._config_value(name)

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None) -> Any:
        """Makes an optimizer from what `get_config` returned."""
        config = dict(config)
        for name in ("learning_rate", "inner_optimizer", "optimizer_map"):
            if isinstance(config.get(name), dict):
                config[name] = registry.deserialize_keras_object(config[name], custom_objects)
        return cls(**config)

    def __repr__(self) -> str:
        rate = "" if self._schedule else f"learning_rate={self._rate.get():.4g}, "
        return f"<{type(self).__name__} {rate}iterations={int(self.iterations)}>"
