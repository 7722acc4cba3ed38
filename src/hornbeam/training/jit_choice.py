"""Whether compiling a step pays back within a run: decided by counts before the first step, never by the clock.

Eager and compiled steps differ in their last bits. A switch at a time that the clock chose would make two equal runs differ.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from hornbeam.graph.infer import looking
from hornbeam.training.data import unpack_x_y_sample_weight

# Measured on one CPU thread: what a kernel's call costs besides its arithmetic, what compiling saves of it, what compiling costs.
CALL_COST, CALL_GAIN = 3e-6, 1.5e-6
COMPILE_COST, COMPILE_COST_PER_CALL = 10.0, 0.05
FLOPS, BYTES = 4e10, 8e9  # a second, of one core
_BACKWARD = 2  # the backward pass makes about twice the calls and the arithmetic of the forward pass
_REST = 30  # calls of the loss, the metrics and the optimizer
_MATMULS = ("mm", "addmm", "bmm", "baddbmm")


class Counts(TorchDispatchMode):
    """Counts the kernels that run, their multiply-adds and the bytes they write.

    >>> with Counts() as counts:
    ...     _ = torch.ones(2, 3) @ torch.ones(3, 4)
    >>> counts.calls, counts.flops
    (3, 48)
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls, self.flops, self.written, self.heavy = 0, 0, 0, False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func.__name__.split(".")[0]
        self.calls += 1
        self.heavy |= "convolution" in name or "lstm" in name or "gru" in name or "rnn" in name
        if isinstance(result, torch.Tensor):
            self.written += result.numel() * result.element_size()
            if name in _MATMULS:
                self.flops += 2 * result.numel() * args[-1].shape[-2]
        return result


def wants_compiling(model: Any, head: Any, steps: int | None, verbose: Any) -> bool:
    """Returns whether a run compiles its steps, as `compile(jit_compile=)` says; "auto" is decided here, and a yes is said.

    Args:
        model: a compiled model that has its weights.
        head: the first batch.
        steps: the steps that the run will make; None where it is not known.
        verbose: whether to say it.
    """
    if model.jit_compile != "auto" or model.run_eagerly or model.debug_nan:
        return bool(model.jit_compile) and not (model.run_eagerly or model.debug_nan)
    verdict = worth_compiling(model, head, steps)
    if verdict and verbose:
        print(f"Compiling the training step: {steps:,} steps pay it back (jit_compile='auto').", flush=True)
    return verdict


def worth_compiling(model: Any, head: Any, steps: int | None) -> bool:
    """Returns whether compiling the training step saves more than it costs, within so many steps.

    Steps of convolutional and recurrent models are left eager on a CPU: their time is the kernels' own. Others are compiled where
    calls are a large part of their time and there are enough steps to save twice what compiling costs.

    Args:
        model: a model that has its weights.
        head: the first batch.
        steps: the steps that the run will make; None where it is not known.
    """
    if steps is None or steps * CALL_GAIN <= 2 * COMPILE_COST_PER_CALL:
        return False
    calls, share = counted(model, head)
    gain, cost = steps * calls * CALL_GAIN, COMPILE_COST + COMPILE_COST_PER_CALL * calls
    return share >= 0.4 and gain > 2 * cost


def counted(model: Any, head: Any) -> tuple[int, float]:
    """Returns how many kernels a training step calls, and what part of its time the calling takes, as an estimate."""
    x, _, _ = unpack_x_y_sample_weight(head)
    with looking(), Counts() as counts:
        model(x, training=True)
    if counts.heavy and next(iter(model.trainable_weights)).device.type == "cpu":
        return counts.calls, 0.0
    whole = 1 + _BACKWARD
    calls = counts.calls * whole + _REST
    arithmetic = whole * max(counts.flops / FLOPS, counts.written / BYTES)
    spent = calls * CALL_COST
    return calls, spent / (spent + arithmetic)

