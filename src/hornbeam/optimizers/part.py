"""What the kernels work on: lists of variables with their slots, gradients laid out alike, clipping, masked updates."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Sequence
from functools import cache, lru_cache
from typing import Any

import torch
from torch import Tensor

from hornbeam.core.clean import clean_context

Scalar = float | Tensor
Tensors = list[Tensor] | tuple[Tensor, ...]
_contiguous, _stride = Tensor.is_contiguous, Tensor.stride


class Part:
    """Variables of one device and dtype with their slots, as the lists that foreach and fused kernels take.

    Attributes:
        kind: what `Optimizer.kind_of` says of these variables.
        positions: each variable's place in the list of gradients.
        variables: the variables.
        decayed: those of them that weight decay shrinks.
        steps: step tensors for fused Adam, so large that the kernel's own bias correction is 1 (`Adam` puts it into the rate).
        found_inf: a flag for fused kernels, which do nothing where it is 1; or None.
    """

    found_inf: Tensor | None = None

    def __init__(self, kind: Any, positions: list[int], variables: list[Tensor], slots: dict[str, list[Tensor]]) -> None:
        self.kind, self.positions, self.variables, self.slots = kind, positions, variables, slots
        self.decayed: list[Tensor] = []
        self._can: dict[str, bool] = {}
        first = variables[0]
        self.device, self.dtype = first.device, first.dtype
        self.steps = [torch.full((), 1e9, device=self.device)] * len(variables)
        self._note_layout()

    def __getitem__(self, slot: str) -> list[Tensor]:
        return self.slots[slot]

    def can(self, kernel: str) -> bool:
        """Returns whether torch has that fused kernel for the part's device and dtype."""
        works = self._can.get(kernel)
        if works is None:
            # torch shards fused Adam, but not fused SGD
            plain = type(self.variables[0].data) is Tensor or kernel == "adam"
            works = self._can[kernel] = plain and _kernel_works(kernel, self.device.type, self.dtype)
        return works

    def _note_layout(self) -> None:
        self.strides = [v.stride() for v in self.variables]
        self.contiguous = all(v.is_contiguous() for v in self.variables)

    def aligned(self, grads: list[Tensor]) -> list[Tensor]:
        """Returns the gradients in their variables' memory layout: fused kernels walk memory, not indices."""
        if self.contiguous:
            if False not in map(_contiguous, grads):
                return grads
        elif list(map(_stride, grads)) == self.strides:
            return grads
        self._follow_layout()
        grads = [g.to_dense() if g.layout is not torch.strided else g for g in grads]
        pairs = zip(grads, self.variables, strict=True)
        return [g if g.stride() == v.stride() else torch.empty_like(v).copy_(g) for g, v in pairs]

    def _follow_layout(self) -> None:
        """Lays the slots out as the variables are by now (a model may have been moved to channels-last)."""
        self._note_layout()
        for slots in self.slots.values():
            for slot, variable in zip(slots, self.variables, strict=True):
                if slot.shape == variable.shape and slot.stride() != variable.stride():
                    slot.data = torch.empty_like(variable.detach()).copy_(slot)


@cache
def _kernel_works(kernel: str, device: str, dtype: torch.dtype) -> bool:
    """Returns whether a private fused kernel exists and takes this device and dtype, by trying it on one element."""
    one = [torch.ones(1, device=device, dtype=dtype)]
    zeros = [[torch.zeros(1, device=device, dtype=dtype)] for _ in range(3)]
    shared: dict[str, Any] = {"lr": 0.5, "weight_decay": 0.0, "maximize": False}
    try:
        if kernel == "adam":
            steps = [torch.full((), 1e9, device=device)]
            shared |= {"beta1": 0.9, "beta2": 0.9, "eps": 0.1, "amsgrad": False}
            torch._fused_adam_(one, zeros[0], zeros[1], zeros[2], [], steps, **shared)
        else:
            shared |= {"momentum": 0.9, "dampening": 0.0, "nesterov": False, "is_first_step": False}
            torch._fused_sgd_(one, zeros[0], zeros[1], **shared)
    except (AttributeError, RuntimeError, TypeError, NotImplementedError):
        return False
    return True


def descend(variables: Tensors, updates: Tensors, rate: Scalar) -> None:
    """variables -= rate × updates, in place; `rate` is a number, or a tensor of shape () in compiled code."""
    if isinstance(rate, Tensor):
        torch._foreach_sub_(variables, torch._foreach_mul(updates, rate))
    else:
        torch._foreach_add_(variables, updates, alpha=-rate)


def descend_ratio(variables: Tensors, above: Tensors, below: Tensors, rate: Scalar) -> None:
    """variables -= rate × above / below, in place."""
    if isinstance(rate, Tensor):
        descend(variables, torch._foreach_div(above, below), rate)
    else:
        torch._foreach_addcdiv_(variables, above, below, value=-rate)


@lru_cache(maxsize=64)
def _constant(value: float, dtype: torch.dtype) -> Tensor:
    with clean_context():
        return torch.full((), value, dtype=dtype, device="cpu")


def _quick(tensors: Tensors, value: float) -> Tensor | None:
    """Returns a constant as a tensor where a number would cost foreach kernels three times as much: on a CPU, eagerly."""
    return _constant(value, tensors[0].dtype) if tensors[0].is_cpu and not torch.compiler.is_compiling() else None


def scale(tensors: Tensors, factor: float) -> None:
    """tensors *= factor, in place, for a factor that is the same at each step."""
    constant = _quick(tensors, factor)
    torch._foreach_mul_(tensors, factor if constant is None else constant)  # type: ignore[arg-type]


def shift(tensors: Tensors, amount: float) -> None:
    """tensors += amount, in place, for an amount that is the same at each step."""
    constant = _quick(tensors, amount)
    torch._foreach_add_(tensors, amount if constant is None else [constant] * len(tensors))  # type: ignore[arg-type]


def shifted(tensors: Tensors, amount: float) -> list[Tensor]:
    """Returns tensors + amount, for an amount that is the same at each step."""
    constant = _quick(tensors, amount)
    return list(torch._foreach_add(tensors, amount if constant is None else [constant] * len(tensors)))  # type: ignore[arg-type]


def roots(squares: Tensors, inside: float = 0.0, outside: float = 0.0) -> list[Tensor]:
    """Returns sqrt(squares + inside) + outside."""
    if inside:
        made = shifted(squares, inside)
        torch._foreach_sqrt_(made)
    else:
        made = list(torch._foreach_sqrt(squares))
    if outside:
        shift(made, outside)
    return made


def blend(averages: Tensors, values: Tensors, keep: float) -> None:
    """averages = keep × averages + (1 - keep) × values, in place."""
    scale(averages, keep)
    torch._foreach_add_(averages, values, alpha=1 - keep)


def blend_squares(averages: Tensors, values: Tensors, keep: float) -> None:
    """averages = keep × averages + (1 - keep) × values², in place."""
    scale(averages, keep)
    torch._foreach_addcmul_(averages, values, values, value=1 - keep)


def note_nonfinite(grads: Tensors, flag: Tensor) -> None:
    """Sets `flag` (float32, shape ()) to 1 where a gradient holds a number that is not finite; the host waits for nothing."""
    one = _ones.get(flag.device)
    if one is None:
        with clean_context():
            one = _ones[flag.device] = torch.ones((), device=flag.device)
    try:
        torch._amp_foreach_non_finite_check_and_unscale_(grads, flag, one)  # multiplies by 1 while it looks
    except (AttributeError, RuntimeError, TypeError):  # a private function, which takes no sparse and no expanded gradients
        bad = [~_values(g).isfinite().all().to(flag.device) for g in grads]
        torch.maximum(flag, torch.stack(bad).any().to(flag), out=flag)


_ones: dict[torch.device, Tensor] = {}


def _values(gradient: Tensor) -> Tensor:
    return gradient.coalesce().values() if gradient.is_sparse else gradient


def clip_each(grads: Tensors, limit: float) -> list[Tensor]:
    """Returns the gradients, each scaled so that its norm is at most `limit`."""
    norms = torch.stack([n.to(grads[0].device).float() for n in torch._foreach_norm(grads)])
    factors = limit / norms.clamp(min=limit)
    return list(torch._foreach_mul(grads, [f.to(g) for f, g in zip(factors.unbind(), grads, strict=True)]))


def clip_together(grads: Tensors, limit: float) -> list[Tensor]:
    """Returns the gradients, all scaled by one factor so that their joint norm is at most `limit`; a norm that is not
    finite gives NaN."""
    device = grads[0].device
    norm = torch.linalg.vector_norm(torch.stack([n.to(device).float() for n in torch._foreach_norm(grads)]))
    factor = limit / norm.clamp(min=limit) + (norm - norm)
    if len({(g.device, g.dtype) for g in grads}) == 1:
        return list(torch._foreach_mul(grads, factor.to(grads[0].dtype)))
    return [g * factor.to(g) for g in grads]


def clip_values(grads: Tensors, limit: float) -> list[Tensor]:
    """Returns the gradients with each element between -limit and limit."""
    clipped = torch._foreach_clamp_max(grads, limit)
    torch._foreach_clamp_min_(clipped, -limit)
    return list(clipped)


def only_if(condition: Tensor, tensors: Iterable[Tensor], action: Callable[[], None]) -> None:
    """Runs an action that changes tensors in place, and takes the changes back where `condition` (shape ()) is false.

    For compiled code, which has no branches on values.
    """
    tensors = list(tensors)
    before = [t.clone() for t in tensors]
    action()
    for tensor, old in zip(tensors, before, strict=True):
        tensor.copy_(torch.where(condition, tensor, old))


def same_objects(a: Sequence[Any], b: Sequence[Any]) -> bool:
    """Returns whether two sequences hold the same objects in the same order."""
    if a is b:
        return True
    return len(a) == len(b) and all(map(operator.is_, a, b))
