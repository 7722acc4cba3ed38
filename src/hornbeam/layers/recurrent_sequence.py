"""A cell over all time steps: torch's sequence kernels where they compute the same, else a Python loop.

A masked step leaves the states as they are. So a masked sequence is computed by moving each sample's valid steps to the front,
running the kernel over all steps, and looking up for each position what the last valid step up to it returned.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from hornbeam import activations
from hornbeam.core.calls import in_compute_dtype
from hornbeam.core.layer import Layer
from hornbeam.layers.dropping import dropped
from hornbeam.layers.recurrent_cells import GRUCell, LSTMCell, RecurrentCell, SimpleRNNCell, StackedRNNCells, one_step

Kernel = Callable[[Any, torch.Tensor, list[Any], torch.Tensor | None], tuple[torch.Tensor, list[Any]]]

_SHUT = 1e4  # a sigmoid at ±_SHUT is exactly 1 or 0 in every floating dtype, and its gradient exactly 0


def run(
    cell: Any, x: torch.Tensor, states: list[Any], mask: torch.Tensor | None, training: bool, fused: bool, zero_masked: bool
) -> tuple[torch.Tensor, list[Any]]:
    """Runs a cell over all steps.

    Args:
        cell: the cell.
        x: `(batch, time, ...)`, at least one step.
        states: the states to begin with.
        mask: boolean `(batch, time)`, False where a step is passed over; or None.
        training: whether dropout drops.
        fused: whether torch's kernels may be used.
        zero_masked: whether the output at masked steps is zero rather than that of the step before.

    Returns:
        outputs `(batch, time, ...)` and the last states.
    """
    if type(cell).call is StackedRNNCells.call and not _watched(cell):
        new = []
        for one, state in zip(cell.cells, states, strict=True):
            x, last = run(one, x, state, mask, training, fused, zero_masked)
            new.append(last)
        return x, new
    x, states = in_compute_dtype(cell, (x, states)) if isinstance(cell, Layer) else (x, states)
    if not _is_standard(cell):
        return _steps(lambda x_t, s: one_step(cell, x_t, s, training), x, states, mask, zero_masked)
    if training and cell.dropout:
        x = x * dropped(cell, torch.ones_like(x[:, 0]), cell.dropout).unsqueeze(1)
    kernel = _kernel_for(cell) if fused and not (training and cell.recurrent_dropout) else None
    if kernel is None:
        scale = cell.recurrent_mask(states[0]) if training else None
        return _steps(lambda p_t, s: cell.step(p_t, s, scale), cell.project(x), states, mask, zero_masked)
    if mask is None:
        return kernel(cell, x, states, None)
    return _masked(kernel, cell, x, states, mask, zero_masked)


def _watched(cell: Any) -> bool:
    """Whether somebody's hooks wait for the calls of a cell."""
    return bool(cell._forward_hooks or cell._forward_pre_hooks or cell._backward_hooks or cell._backward_pre_hooks)


def _is_standard(cell: Any) -> bool:
    """Whether a cell's call is the one written here, so that `project` and `step` may be used in its place."""
    call = type(cell).call
    return isinstance(cell, RecurrentCell) and (call is RecurrentCell.call or call is SimpleRNNCell.call) and not _watched(cell)


def _steps(
    step: Callable[[torch.Tensor, list[Any]], tuple[torch.Tensor, list[Any]]],
    x: torch.Tensor,
    states: list[Any],
    mask: torch.Tensor | None,
    zero_masked: bool,
) -> tuple[torch.Tensor, list[Any]]:
    """The loop: any function of one step's input and the states."""
    outputs: list[torch.Tensor] = []
    kept = x.unbind(1) if mask is None else mask.unbind(1)
    for x_t, keep in zip(x.unbind(1), kept, strict=True):
        output, new = step(x_t, states)
        if mask is None:
            states = new
        else:
            before = outputs[-1] if outputs and not zero_masked else torch.zeros_like(output)
            output, states = _choose(keep, output, before), _choose(keep, new, states)
        outputs.append(output)
    return torch.stack(outputs, 1), states


def _choose(keep: torch.Tensor, new: Any, old: Any) -> Any:
    """Returns the new values for the samples whose step counts, the old ones for the others; in a nest of lists."""
    if isinstance(new, (list, tuple)):
        return [_choose(keep, n, o) for n, o in zip(new, old, strict=True)]
    return torch.where(keep.reshape(keep.shape + (1,) * (new.dim() - 1)), new, old)


# -- torch's kernels


def _kernel_for(cell: Any) -> Kernel | None:
    """Returns torch's kernel for a cell, or None where there is none for its activations and options."""
    step = type(cell).step
    if type(cell).project not in (RecurrentCell.project, GRUCell.project):
        return None
    if step is SimpleRNNCell.step:
        return _relu_rnn if cell.activation in _RELU else _tanh_rnn if cell.activation in _TANH else None
    if step is LSTMCell.step and cell.activation in _TANH and cell.recurrent_activation in _SIGMOID:
        return _lstm
    if step is GRUCell.step and cell.reset_after and cell.activation in _TANH and cell.recurrent_activation in _SIGMOID:
        return _gru
    return None


_TANH = (activations.tanh, torch.tanh)
_RELU = (activations.relu, torch.relu, F.relu)
_SIGMOID = (activations.sigmoid, torch.sigmoid, F.sigmoid)


def _options(cell: Any) -> tuple[bool, int, float, bool, bool, bool]:
    """What torch's kernels take last: biases, layers, dropout, train (whether gradients follow), bidirectional, batch_first."""
    return cell.bias is not None, 1, 0.0, torch.is_grad_enabled(), False, True


def _packed(x: torch.Tensor, *weights: torch.Tensor) -> list[torch.Tensor]:
    """The weights as torch's kernels take them; cuDNN wants them in one piece of memory."""
    if not x.is_cuda:
        return list(weights)
    flat = torch.cat([w.reshape(-1) for w in weights]).split([w.numel() for w in weights])
    return [piece.view(w.shape) for piece, w in zip(flat, weights, strict=True)]


def _plain_rnn(function: Any, cell: Any, x: torch.Tensor, states: list[Any]) -> tuple[torch.Tensor, list[Any]]:
    biases = () if cell.bias is None else (cell.bias, torch.zeros_like(cell.bias))
    y, h = function(x, states[0].unsqueeze(0), _packed(x, cell.kernel.t(), cell.recurrent_kernel.t(), *biases), *_options(cell))
    return y, [h.squeeze(0)]


def _tanh_rnn(cell: Any, x: torch.Tensor, states: list[Any], ended: torch.Tensor | None) -> tuple[torch.Tensor, list[Any]]:
    return _plain_rnn(torch.rnn_tanh, cell, x, states)


def _relu_rnn(cell: Any, x: torch.Tensor, states: list[Any], ended: torch.Tensor | None) -> tuple[torch.Tensor, list[Any]]:
    return _plain_rnn(torch.rnn_relu, cell, x, states)


def _lstm(cell: Any, x: torch.Tensor, states: list[Any], ended: torch.Tensor | None) -> tuple[torch.Tensor, list[Any]]:
    """Keras's gates i, f, g, o come in torch's order. From where a sample has `ended`, one more feature shuts the input gate
    and opens the forget gate, so that the last `c` is that of the sample's own last step."""
    kernel, bias = cell.kernel, cell.bias
    if ended is not None:
        x = torch.cat([x.masked_fill(ended.unsqueeze(-1), 0.0), ended.unsqueeze(-1).to(x.dtype)], -1)
        signs = x.new_tensor([-_SHUT, _SHUT, 0.0, 0.0])
        kernel = torch.cat([kernel, signs.repeat_interleave(cell.units).unsqueeze(0).to(kernel.dtype)])
    biases = () if bias is None else (bias, torch.zeros_like(bias))
    start = (states[0].unsqueeze(0), states[1].unsqueeze(0))
    y, h, c = torch.lstm(_tied(x, cell), start, _packed(x, kernel.t(), cell.recurrent_kernel.t(), *biases), *_options(cell))
    return y, [h.squeeze(0), c.squeeze(0)]


def _tied(x: torch.Tensor, cell: Any) -> torch.Tensor:
    """The inputs, as a function of the weights while a training step is compiled for the CPU.

    torch 2.13 cannot compile its LSTM kernel for inputs that need no gradient: it tries to save the missing one.
    """
    compiling = torch.compiler.is_dynamo_compiling() and not torch.compiler.is_exporting()
    if not compiling or x.is_cuda or x.requires_grad or not torch.is_grad_enabled():
        return x
    return x + 0.0 * (cell.kernel[0, 0] + cell.recurrent_kernel[0, 0])


def _gru(cell: Any, x: torch.Tensor, states: list[Any], ended: torch.Tensor | None) -> tuple[torch.Tensor, list[Any]]:
    """Keras's gates z, r, h become torch's r, z, n."""
    biases = () if cell.bias is None else cell.bias.unbind(0)
    weights = [_swapped(w) for w in (cell.kernel.t(), cell.recurrent_kernel.t(), *biases)]
    y, h = torch.gru(x, states[0].unsqueeze(0), _packed(x, *weights), *_options(cell))
    return y, [h.squeeze(0)]


def _swapped(weight: torch.Tensor) -> torch.Tensor:
    z, r, n = weight.chunk(3)
    return torch.cat([r, z, n])


# -- masks


def _masked(
    kernel: Kernel, cell: Any, x: torch.Tensor, states: list[Any], mask: torch.Tensor, zero_masked: bool
) -> tuple[torch.Tensor, list[Any]]:
    """Runs a kernel over each sample's valid steps; see the head of this file."""
    counts = mask.cumsum(1)
    length = counts[:, -1:]
    valid_first = torch.argsort(~mask, dim=1, stable=True)
    ended = torch.arange(mask.shape[1], device=mask.device) >= length
    y, last = kernel(cell, _look_up(x, valid_first), states, ended)
    h = torch.where(length > 0, _look_up(y, (length - 1).clamp(min=0)).squeeze(1), states[0])
    shown = mask if zero_masked else counts > 0
    y = _look_up(y, (counts - 1).clamp(min=0)).masked_fill(~shown.unsqueeze(-1), 0.0)
    return y, [h, *last[1:]]


def _look_up(x: torch.Tensor, steps: torch.Tensor) -> torch.Tensor:
    """Returns `x[b, steps[b, t]]` for `x` of shape `(batch, time, features)`; faster than `gather`, also backward."""
    first = torch.arange(x.shape[0], device=x.device).unsqueeze(1) * x.shape[1]
    return F.embedding(first + steps, x.flatten(0, 1))
