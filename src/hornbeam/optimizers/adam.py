"""Adam and its kin: AdamW, Adamax, Nadam."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from hornbeam.optimizers.base import LearningRate, Optimizer
from hornbeam.optimizers.mirrored import Mirrored
from hornbeam.optimizers.part import Part, Scalar, blend, blend_squares, descend, descend_ratio, roots, scale, shifted


def adam_update(
    part: Part,
    grads: list[Tensor],
    rate: Scalar,
    step: int | Tensor,
    beta_1: float,
    beta_2: float,
    epsilon: float,
    amsgrad: bool = False,
) -> None:
    """One step of Adam on slots "momentum", "velocity" and with `amsgrad` "velocity_hat".

    Bias correction goes into the learning rate, as Keras has it: epsilon is the paper's "epsilon hat". torch's fused kernel
    does the same when its step is so large that its own correction is 1.
    """
    variables, moments, squares = part.variables, part["momentum"], part["velocity"]
    largest = part["velocity_hat"] if amsgrad else []
    corrected = rate * (1 - beta_2**step) ** 0.5 / (1 - beta_1**step)
    if not isinstance(corrected, Tensor) and part.can("adam"):
        torch._fused_adam_(
            variables, grads, moments, squares, largest, part.steps, lr=corrected, beta1=beta_1, beta2=beta_2, weight_decay=0.0,
            eps=epsilon, amsgrad=amsgrad, maximize=False, found_inf=part.found_inf,
        )  # fmt: skip
        return
    blend(moments, grads, beta_1)
    blend_squares(squares, grads, beta_2)
    if amsgrad:
        torch._foreach_maximum_(largest, squares)
        squares = largest
    descend_ratio(variables, moments, roots(squares, outside=epsilon), corrected)


class Adam(Optimizer):
    """Adam: steps along a running mean of the gradient, scaled by a running mean of its square.

    Formula: [Kingma and Ba, 2014](https://arxiv.org/abs/1412.6980), the efficient form just before its section 2.1.

    Args:
        learning_rate: number, schedule, or callable.
        beta_1: how much of the mean gradient stays at each step.
        beta_2: how much of the mean square stays at each step.
        epsilon: added to the root of the mean square.
        amsgrad: whether the largest mean square so far is used ([Reddi et al., 2018](https://openreview.net/forum?id=ryQu7f-RZ)).
        weight_decay, clipnorm, clipvalue, global_clipnorm, use_ema, ema_momentum, ema_overwrite_frequency,
            loss_scale_factor, gradient_accumulation_steps, name: see `Optimizer`.

    >>> w = torch.nn.Parameter(torch.ones(2))
    >>> Adam(0.5).apply([torch.tensor([1.0, -20.0])], [w])
    >>> w
    Parameter containing:
    tensor([0.5000, 1.5000], requires_grad=True)
    """

    def __init__(
        self, learning_rate: LearningRate = 0.001, beta_1: float = 0.9, beta_2: float = 0.999, epsilon: float = 1e-07,
        amsgrad: bool = False, weight_decay: float | None = None, clipnorm: float | None = None, clipvalue: float | None = None,
        global_clipnorm: float | None = None, use_ema: bool = False, ema_momentum: float = 0.99,
        ema_overwrite_frequency: int | None = None, loss_scale_factor: float | None = None,
        gradient_accumulation_steps: int | None = None, name: str | None = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(
            learning_rate, weight_decay, clipnorm, clipvalue, global_clipnorm, use_ema, ema_momentum, ema_overwrite_frequency,
            loss_scale_factor, gradient_accumulation_steps, name, **kwargs,
        )  # fmt: skip
        self.beta_1, self.beta_2, self.epsilon, self.amsgrad = beta_1, beta_2, epsilon, amsgrad

    def slots(self) -> Sequence[tuple[str, ...]]:
        return [("momentum", "velocity")] + [("velocity_hat",)] * self.amsgrad

    def update(self, part: Part, grads: list[Tensor], rate: Scalar, step: int | Tensor) -> None:
        adam_update(part, grads, rate, step, self.beta_1, self.beta_2, self.epsilon, self.amsgrad)


class AdamW(Adam):
    """Adam with decoupled weight decay: [Loshchilov and Hutter, 2019](https://arxiv.org/abs/1711.05101).

    Args:
        learning_rate: number, schedule, or callable.
        weight_decay: each variable shrinks by `weight_decay * learning_rate` of itself before each step.
        beta_1, beta_2, epsilon, amsgrad: see `Adam`.
        clipnorm, clipvalue, global_clipnorm, use_ema, ema_momentum, ema_overwrite_frequency,
            loss_scale_factor, gradient_accumulation_steps, name: see `Optimizer`.

    >>> w = torch.nn.Parameter(torch.ones(1))
    >>> AdamW(0.5, weight_decay=0.5).apply([torch.zeros(1)], [w])
    >>> w.tolist()
    [0.75]
    """

    def __init__(
        self, learning_rate: LearningRate = 0.001, weight_decay: float = 0.004, beta_1: float = 0.9, beta_2: float = 0.999,
        epsilon: float = 1e-07, amsgrad: bool = False, clipnorm: float | None = None, clipvalue: float | None = None,
        global_clipnorm: float | None = None, use_ema: bool = False, ema_momentum: float = 0.99,
        ema_overwrite_frequency: int | None = None, loss_scale_factor: float | None = None,
        gradient_accumulation_steps: int | None = None, name: str | None = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        if not isinstance(weight_decay, (int, float)):
            raise ValueError(f"weight_decay of {type(self).__name__} must be a number. Received: {weight_decay!r}")
        super().__init__(
            learning_rate, beta_1, beta_2, epsilon, amsgrad, weight_decay, clipnorm, clipvalue, global_clipnorm, use_ema,
            ema_momentum, ema_overwrite_frequency, loss_scale_factor, gradient_accumulation_steps, name, **kwargs,
        )  # fmt: skip


class Adamax(Optimizer):
    """Adam with the largest gradient so far in place of the mean square.

    Formula: [Kingma and Ba, 2014](https://arxiv.org/abs/1412.6980), section 7.1.

    Args:
        learning_rate: number, schedule, or callable.
        beta_1: how much of the mean gradient stays at each step.
        beta_2: how much of the largest gradient stays at each step.
        epsilon: added to the largest gradient.
        weight_decay, clipnorm, clipvalue, global_clipnorm, use_ema, ema_momentum, ema_overwrite_frequency,
            loss_scale_factor, gradient_accumulation_steps, name: see `Optimizer`.

    >>> w = torch.nn.Parameter(torch.ones(2))
    >>> Adamax(0.5).apply([torch.tensor([1.0, -20.0])], [w])
    >>> w
    Parameter containing:
    tensor([0.5000, 1.5000], requires_grad=True)
    """

    def __init__(
        self, learning_rate: LearningRate = 0.001, beta_1: float = 0.9, beta_2: float = 0.999, epsilon: float = 1e-07,
        weight_decay: float | None = None, clipnorm: float | None = None, clipvalue: float | None = None,
        global_clipnorm: float | None = None, use_ema: bool = False, ema_momentum: float = 0.99,
        ema_overwrite_frequency: int | None = None, loss_scale_factor: float | None = None,
        gradient_accumulation_steps: int | None = None, name: str | None = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(
            learning_rate, weight_decay, clipnorm, clipvalue, global_clipnorm, use_ema, ema_momentum, ema_overwrite_frequency,
            loss_scale_factor, gradient_accumulation_steps, name, **kwargs,
        )  # fmt: skip
        self.beta_1, self.beta_2, self.epsilon = beta_1, beta_2, epsilon

    def slots(self) -> Sequence[tuple[str, ...]]:
        return [("momentum", "norm")]

    def update(self, part: Part, grads: list[Tensor], rate: Scalar, step: int | Tensor) -> None:
        moments, norms = part["momentum"], part["norm"]
        blend(moments, grads, self.beta_1)
        scale(norms, self.beta_2)
        torch._foreach_maximum_(norms, torch._foreach_abs(grads))
        descend_ratio(part.variables, moments, shifted(norms, self.epsilon), rate / (1 - self.beta_1**step))


class Nadam(Optimizer):
    """Adam with Nesterov momentum: [Dozat, 2015](http://cs229.stanford.edu/proj2015/054_report.pdf).

    Args:
        learning_rate: number, schedule, or callable.
        beta_1: how much of the mean gradient stays at each step.
        beta_2: how much of the mean square stays at each step.
        epsilon: added to the root of the mean square.
        weight_decay, clipnorm, clipvalue, global_clipnorm, use_ema, ema_momentum, ema_overwrite_frequency,
            loss_scale_factor, gradient_accumulation_steps, name: see `Optimizer`.

    >>> w = torch.nn.Parameter(torch.ones(2))
    >>> Nadam(0.5).apply([torch.tensor([1.0, -20.0])], [w])
    >>> bool(w[0] < 0.6), bool(w[1] > 1.4)
    (True, True)
    """

    def __init__(
        self, learning_rate: LearningRate = 0.001, beta_1: float = 0.9, beta_2: float = 0.999, epsilon: float = 1e-07,
        weight_decay: float | None = None, clipnorm: float | None = None, clipvalue: float | None = None,
        global_clipnorm: float | None = None, use_ema: bool = False, ema_momentum: float = 0.99,
        ema_overwrite_frequency: int | None = None, loss_scale_factor: float | None = None,
        gradient_accumulation_steps: int | None = None, name: str | None = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(
            learning_rate, weight_decay, clipnorm, clipvalue, global_clipnorm, use_ema, ema_momentum, ema_overwrite_frequency,
            loss_scale_factor, gradient_accumulation_steps, name, **kwargs,
        )  # fmt: skip
        self.beta_1, self.beta_2, self.epsilon = beta_1, beta_2, epsilon
        self._product = Mirrored(1.0, torch.float32)
        self._numbers.append(("variable", self._product))

    def slots(self) -> Sequence[tuple[str, ...]]:
        return [("momentum", "velocity")]

    def before_update(self, step: int | Tensor) -> None:
        """Takes this step's decay rate into the product of all."""
        now = self.beta_1 * (1 - 0.5 * 0.96**step)
        if isinstance(now, Tensor):
            self._product.write(self._product.scalar() * now)
        else:
            self._product.set(self._product.get() * now)

    def update(self, part: Part, grads: list[Tensor], rate: Scalar, step: int | Tensor) -> None:
        moments, squares = part["momentum"], part["velocity"]
        now, later = self.beta_1 * (1 - 0.5 * 0.96**step), self.beta_1 * (1 - 0.5 * 0.96 ** (step + 1))
        product = self._product.scalar() if isinstance(step, Tensor) else self._product.get()
        blend(moments, grads, self.beta_1)
        blend_squares(squares, grads, self.beta_2)
        updates = list(torch._foreach_mul(moments, later / (1 - product * later)))
        descend(updates, grads, (now - 1) / (1 - product))
        means = torch._foreach_div(squares, 1 - self.beta_2**step)
        descend_ratio(part.variables, updates, roots(means, outside=self.epsilon), rate)
