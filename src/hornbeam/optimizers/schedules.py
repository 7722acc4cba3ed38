"""Learning rate schedules: the rate as a function of the step, on numbers (eager steps) and on tensors (compiled ones) alike."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from hornbeam.core import registry
from hornbeam.core.errors import describe
from hornbeam.core.init_args import Configurable, is_builtin

Step = int | float | Tensor


def _floor(x: Any) -> Any:
    return torch.floor(x) if isinstance(x, Tensor) else float(math.floor(x))


def _ceil(x: Any) -> Any:
    return torch.ceil(x) if isinstance(x, Tensor) else float(math.ceil(x))


def _cos(x: Any) -> Any:
    return torch.cos(x) if isinstance(x, Tensor) else math.cos(x)


def _log(x: Any) -> Any:
    return torch.log(x) if isinstance(x, Tensor) else math.log(x)


def _least(x: Any, limit: float) -> Any:
    return torch.clamp(x, max=limit) if isinstance(x, Tensor) else min(x, limit)


def _where(condition: Any, yes: Any, no: Any) -> Any:
    return torch.where(condition, yes, no) if isinstance(condition, Tensor) else (yes if condition else no)


def _real(step: Step) -> Any:
    """Returns the step as a float, or as a tensor of the widest float type its device has."""
    if isinstance(step, Tensor):
        return step.to(torch.float32 if step.device.type == "mps" else torch.float64)
    return float(step)


class LearningRateSchedule(Configurable):
    """A learning rate that depends on the step. Subclasses write `__call__(step)`.

    A subclass of your own gets the step as an integer tensor of shape ().

    >>> class Halving(LearningRateSchedule):
    ...     def __call__(self, step):
    ...         return 0.5**step
    >>> from hornbeam.optimizers import SGD
    >>> sgd = SGD(Halving())
    >>> sgd.iterations = 3
    >>> sgd.learning_rate
    0.125
    """

    def __call__(self, step: Step) -> Any:
        """Returns the learning rate at a step: a number for a number, a tensor for a tensor."""
        raise NotImplementedError(f"{type(self).__name__} has no `__call__` method.")

    def at(self, step: int) -> float:
        """Returns the learning rate at a step as a float."""
        return float(self(step if is_builtin(type(self)) else torch.tensor(step)))


class ExponentialDecay(LearningRateSchedule):
    """rate = initial_learning_rate × decay_rate^(step / decay_steps).

    Args:
        initial_learning_rate: the rate at step 0.
        decay_steps: after so many steps the rate has fallen by one factor of `decay_rate`.
        decay_rate: the factor.
        staircase: whether the exponent is rounded down to whole numbers.
        name: a name.

    >>> ExponentialDecay(0.1, decay_steps=10, decay_rate=0.5)(20)
    0.025
    """

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: int,
        decay_rate: float,
        staircase: bool = False,
        name: str = "ExponentialDecay",
    ) -> None:
        self.initial_learning_rate, self.decay_steps, self.decay_rate = initial_learning_rate, decay_steps, decay_rate
        self.staircase, self.name = staircase, name
        _check_positive(self, "decay_steps")

    def __call__(self, step: Step) -> Any:
        power = _real(step) / self.decay_steps
        return self.initial_learning_rate * self.decay_rate ** (_floor(power) if self.staircase else power)


class InverseTimeDecay(LearningRateSchedule):
    """rate = initial_learning_rate / (1 + decay_rate × step / decay_steps).

    Args:
        initial_learning_rate: the rate at step 0.
        decay_steps: how often the decay is applied.
        decay_rate: how strong it is.
        staircase: whether step / decay_steps is rounded down to whole numbers.
        name: a name.

    >>> InverseTimeDecay(0.1, decay_steps=10, decay_rate=1.0)(10)
    0.05
    """

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: int,
        decay_rate: float,
        staircase: bool = False,
        name: str = "InverseTimeDecay",
    ) -> None:
        self.initial_learning_rate, self.decay_steps, self.decay_rate = initial_learning_rate, decay_steps, decay_rate
        self.staircase, self.name = staircase, name
        _check_positive(self, "decay_steps")

    def __call__(self, step: Step) -> Any:
        time = _real(step) / self.decay_steps
        return self.initial_learning_rate / (1 + self.decay_rate * (_floor(time) if self.staircase else time))


class PiecewiseConstantDecay(LearningRateSchedule):
    """Constant rates between boundaries: values[0] up to and including boundaries[0], then values[1], ….

    Args:
        boundaries: steps, increasing.
        values: rates, one more than boundaries.
        name: a name.

    >>> rate = PiecewiseConstantDecay([100, 200], [0.1, 0.01, 0.001])
    >>> rate(100), rate(101), rate(1000)
    (0.1, 0.01, 0.001)
    """

    def __init__(self, boundaries: Sequence[float], values: Sequence[float], name: str = "PiecewiseConstant") -> None:
        if len(boundaries) != len(values) - 1:
            raise ValueError(
                "PiecewiseConstantDecay needs one more value than boundaries. "
                f"Received: {len(boundaries)} boundaries {list(boundaries)} and {len(values)} values {list(values)}"
            )
        self.boundaries, self.values, self.name = boundaries, values, name

    def __call__(self, step: Step) -> Any:
        rate: Any = self.values[-1]
        if isinstance(step, Tensor):
            rate = torch.full_like(_real(step), rate)
        for boundary, value in zip(reversed(self.boundaries), reversed(self.values[:-1]), strict=True):
            rate = _where(step <= boundary, value, rate)
        return rate


class PolynomialDecay(LearningRateSchedule):
    """rate = (initial - end) × (1 - step / decay_steps)^power + end, the step cut at `decay_steps`.

    Args:
        initial_learning_rate: the rate at step 0.
        decay_steps: the step at which `end_learning_rate` is reached.
        end_learning_rate: the lowest rate.
        power: exponent; 1 decays linearly.
        cycle: whether the decay starts again, stretched, each time it is over, instead of staying at the end.
        name: a name.

    >>> PolynomialDecay(0.1, decay_steps=10, end_learning_rate=0.0)(5)
    0.05
    """

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: int,
        end_learning_rate: float = 0.0001,
        power: float = 1.0,
        cycle: bool = False,
        name: str = "PolynomialDecay",
    ) -> None:
        self.initial_learning_rate, self.decay_steps = initial_learning_rate, decay_steps
        self.end_learning_rate = end_learning_rate
        self.power, self.cycle, self.name = power, cycle, name
        _check_positive(self, "decay_steps")

    def __call__(self, step: Step) -> Any:
        now, steps = _real(step), float(self.decay_steps)
        if self.cycle:
            steps = steps * _where(now == 0, 1.0, _ceil(now / steps))
        else:
            now = _least(now, steps)
        return (self.initial_learning_rate - self.end_learning_rate) * (1 - now / steps) ** self.power + self.end_learning_rate


class CosineDecay(LearningRateSchedule):
    """Half a cosine from the initial rate down to alpha of it, after a linear warmup if one is wanted.

    The formula is that of [Loshchilov and Hutter, 2016](https://arxiv.org/abs/1608.03983), without restarts.

    Args:
        initial_learning_rate: the rate at step 0.
        decay_steps: length of the decay.
        alpha: what is left at the end, as a fraction of the rate at the start of the decay.
        name: a name.
        warmup_target: the rate that the warmup climbs to, where the decay then starts; None: no warmup.
        warmup_steps: length of the warmup.

    >>> rate = CosineDecay(0.0, decay_steps=100, warmup_target=0.1, warmup_steps=10)
    >>> rate(5), rate(10), round(rate(60), 4), round(rate(110), 4)
    (0.05, 0.1, 0.05, 0.0)
    """

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: int,
        alpha: float = 0.0,
        name: str = "CosineDecay",
        warmup_target: float | None = None,
        warmup_steps: int = 0,
    ) -> None:
        self.initial_learning_rate, self.decay_steps, self.alpha, self.name = initial_learning_rate, decay_steps, alpha, name
        self.warmup_target, self.warmup_steps = warmup_target, warmup_steps
        _check_positive(self, "decay_steps")

    def __call__(self, step: Step) -> Any:
        now = _real(step)
        if self.warmup_target is None:
            return self._decay(now, self.initial_learning_rate)
        climb = self.warmup_target - self.initial_learning_rate
        warm = self.initial_learning_rate + climb * now / max(self.warmup_steps, 1)
        return _where(now < self.warmup_steps, warm, self._decay(now - self.warmup_steps, self.warmup_target))

    def _decay(self, now: Any, start: float) -> Any:
        cosine = 0.5 * (1 + _cos(math.pi * _least(now, float(self.decay_steps)) / self.decay_steps))
        return start * ((1 - self.alpha) * cosine + self.alpha)


class CosineDecayRestarts(LearningRateSchedule):
    """Cosine decays one after the other, each `t_mul` times as long and starting at `m_mul` times the rate of the one before.

    The formula is that of [Loshchilov and Hutter, 2016](https://arxiv.org/abs/1608.03983).

    Args:
        initial_learning_rate: the rate at step 0.
        first_decay_steps: length of the first decay.
        t_mul: how much longer each decay is.
        m_mul: how much of the starting rate stays at each restart.
        alpha: the lowest rate, as a fraction of `initial_learning_rate`.
        name: a name.

    >>> rate = CosineDecayRestarts(0.1, first_decay_steps=10)
    >>> rate(0), round(rate(5), 4), rate(10), round(rate(20), 4), rate(30)
    (0.1, 0.05, 0.1, 0.05, 0.1)
    """

    def __init__(
        self,
        initial_learning_rate: float,
        first_decay_steps: int,
        t_mul: float = 2.0,
        m_mul: float = 1.0,
        alpha: float = 0.0,
        name: str = "SGDRDecay",
    ) -> None:
        self.initial_learning_rate, self.first_decay_steps = initial_learning_rate, first_decay_steps
        self.t_mul, self.m_mul, self.alpha, self.name = t_mul, m_mul, alpha, name
        _check_positive(self, "first_decay_steps")

    def __call__(self, step: Step) -> Any:
        done = _real(step) / self.first_decay_steps
        if self.t_mul == 1.0:
            restarts = _floor(done)
            fraction = done - restarts
        else:
            # the small addition keeps a restart that falls on a whole step from being rounded away
            restarts = _floor(_log(1 - done * (1 - self.t_mul)) / math.log(self.t_mul) + 1e-9)
            before = (1 - self.t_mul**restarts) / (1 - self.t_mul)
            fraction = (done - before) / self.t_mul**restarts
        cosine = 0.5 * self.m_mul**restarts * (1 + _cos(math.pi * fraction))
        return self.initial_learning_rate * ((1 - self.alpha) * cosine + self.alpha)


def _check_positive(schedule: Any, name: str) -> None:
    value = getattr(schedule, name)
    if isinstance(value, (int, float)) and value > 0:
        return
    raise ValueError(f"{name} of {type(schedule).__name__} must be a number above 0. Received: {describe(value)}")


_registry = registry.Registry("learning rate schedule", "keras.optimizers.schedules", LearningRateSchedule)
for _schedule in (
    LearningRateSchedule,
    ExponentialDecay,
    InverseTimeDecay,
    PiecewiseConstantDecay,
    PolynomialDecay,
    CosineDecay,
    CosineDecayRestarts,
):
    registry.public(f"keras.optimizers.schedules.{_schedule.__name__}")(_registry.add(_schedule))


def serialize(learning_rate_schedule: LearningRateSchedule) -> dict[str, Any]:
    """Returns a schedule's config.

    >>> serialize(ExponentialDecay(0.1, 10, 0.5))["class_name"]
    'ExponentialDecay'
    """
    return registry.serialize_keras_object(learning_rate_schedule)


def deserialize(config: dict[str, Any], custom_objects: dict[str, Any] | None = None) -> LearningRateSchedule:
    """Makes a schedule from its config.

    >>> deserialize(serialize(ExponentialDecay(0.1, 10, 0.5)))(10)
    0.05
    """
    return registry.deserialize_keras_object(config, custom_objects)
