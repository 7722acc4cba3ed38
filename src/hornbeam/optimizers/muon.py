"""Muon."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from hornbeam.optimizers.adam import adam_update
from hornbeam.optimizers.base import LearningRate, Optimizer
from hornbeam.optimizers.part import Part, Scalar, descend, scale
from hornbeam.optimizers.state import path_of


class Muon(Optimizer):
    """Orthogonalized momentum for matrices, AdamW for everything else.

    The momentum of a matrix is brought near an orthogonal matrix by Newton-Schulz iterations
    ([Jordan et al., 2024](https://kellerjordan.github.io/posts/muon/), [Liu et al., 2025](https://arxiv.org/abs/2502.16982)).
    Variables that are not matrices, embeddings, and the layers in `exclude_layers` (name the last Dense there) take Adam's step.

    Args:
        learning_rate: number, schedule, or callable.
        adam_beta_1, adam_beta_2, epsilon: of Adam, see there.
        adam_weight_decay: weight decay of the variables that take Adam's step.
        weight_decay: weight decay of the matrices.
        clipnorm, clipvalue, global_clipnorm, use_ema, ema_momentum, ema_overwrite_frequency,
            loss_scale_factor, gradient_accumulation_steps, name: see `Optimizer`.
        exclude_layers: list of regular expressions; variables whose path one of them matches take Adam's step.
        exclude_embeddings: whether variables of embedding layers take Adam's step.
        muon_a, muon_b, muon_c: coefficients of the iteration.
        adam_lr_ratio: Adam's learning rate as a multiple of `learning_rate`.
        momentum: how much of the momentum stays at each step.
        ns_steps: number of iterations.
        nesterov: whether momentum looks ahead.
        rms_rate: updates of a matrix get about this root mean square, which suits Adam's learning rates; None: they are not
            scaled.

    >>> w = torch.nn.Parameter(torch.eye(2))
    >>> Muon(0.1).apply([torch.eye(2)], [w])
    >>> bool(w[0, 0] < 1), bool(w[0, 1] == 0)
    (True, True)
    """

    def __init__(
        self, learning_rate: LearningRate = 0.001, adam_beta_1: float = 0.9, adam_beta_2: float = 0.999,
        adam_weight_decay: float | None = 0.004, epsilon: float = 1e-07, weight_decay: float | None = 0.004,
        clipnorm: float | None = None, clipvalue: float | None = None, global_clipnorm: float | None = None,
        use_ema: bool = False,
        ema_momentum: float = 0.99, ema_overwrite_frequency: int | None = None, loss_scale_factor: float | None = None,
        gradient_accumulation_steps: int | None = None, name: str | None = None, exclude_layers: list[str] | None = None,
        exclude_embeddings: bool = True, muon_a: float = 3.4445, muon_b: float = -4.775, muon_c: float = 2.0315,
        adam_lr_ratio: float = 1, momentum: float = 0.95, ns_steps: int = 5, nesterov: bool = True, rms_rate: float | None = 0.2,
        **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(
            learning_rate, weight_decay, clipnorm, clipvalue, global_clipnorm, use_ema, ema_momentum, ema_overwrite_frequency,
            loss_scale_factor, gradient_accumulation_steps, name, **kwargs,
        )  # fmt: skip
        self.adam_beta_1, self.adam_beta_2, self.epsilon = adam_beta_1, adam_beta_2, epsilon
        self.adam_weight_decay = adam_weight_decay
        self.exclude_layers, self.exclude_embeddings = exclude_layers or [], exclude_embeddings
        self.muon_a, self.muon_b, self.muon_c, self.adam_lr_ratio = muon_a, muon_b, muon_c, adam_lr_ratio
        self.momentum, self.ns_steps, self.nesterov, self.rms_rate = momentum, ns_steps, nesterov, rms_rate

    def kind_of(self, variable: Tensor) -> str:
        """Returns "adam" or "muon"."""
        path = path_of(variable, self._index_of(variable))
        excluded = any(re.search(pattern, path) for pattern in self.exclude_layers)
        embedding = self.exclude_embeddings and "embedding" in path.lower()
        return "adam" if variable.dim() != 2 or excluded or embedding else "muon"

    def decay_of(self, part: Part) -> float | None:
        return self.adam_weight_decay if part.kind == "adam" else self.weight_decay

    def slots(self) -> Sequence[tuple[str, ...]]:
        return [("momentum", "velocity")]

    def slot_start(self, slot: str, variable: Tensor) -> Tensor | None:
        if slot == "velocity" and self.kind_of(variable) == "muon":
            return None
        return super().slot_start(slot, variable)

    def update(self, part: Part, grads: list[Tensor], rate: Scalar, step: int | Tensor) -> None:
        if part.kind == "adam":
            adam_update(part, grads, rate * self.adam_lr_ratio, step, self.adam_beta_1, self.adam_beta_2, self.epsilon)
            return
        moments = part["momentum"]
        scale(moments, self.momentum)
        torch._foreach_add_(moments, grads)
        directions = torch._foreach_add(grads, moments, alpha=self.momentum) if self.nesterov else moments
        updates = [self._orthogonal(d) for d in directions]
        if self.rms_rate is not None:
            torch._foreach_mul_(updates, [self.rms_rate * max(u.shape) ** 0.5 for u in updates])
        descend(part.variables, updates, rate)

    def _orthogonal(self, matrix: Tensor) -> Tensor:
        """Returns a matrix with the same singular vectors and singular values near 1."""
        tall = matrix.shape[0] > matrix.shape[1]
        x = matrix.mT if tall else matrix
        x = x / (torch.linalg.matrix_norm(x) + 1e-7)
        for _ in range(self.ns_steps):
            gram = x @ x.mT
            x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=self.muon_b, alpha=self.muon_c), x, beta=self.muon_a)
        return x.mT if tall else x
