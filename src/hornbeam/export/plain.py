"""Layers in plain PyTorch, with Keras's names, layouts and arithmetic: their source is copied into ejected files.

Weights have the keys and shapes that a model's `state_dict` has. Each class stands for itself: what it uses beyond torch are
other names of this file, which are copied along.
"""

# mypy: ignore-errors

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn


class Dense(nn.Module):
    """A fully connected layer: `x @ kernel + bias`, on the last axis."""

    def __init__(self, features, units, bias=True):
        super().__init__()
        self.kernel = nn.Parameter(nn.init.xavier_uniform_(torch.empty(features, units)))
        self.bias = nn.Parameter(torch.zeros(units)) if bias else None

    def forward(self, x):
        x = x @ self.kernel
        return x if self.bias is None else x + self.bias


class Embedding(nn.Module):
    """A table from which integers look up rows."""

    def __init__(self, count, features):
        super().__init__()
        self.embeddings = nn.Parameter(torch.empty(count, features).uniform_(-0.05, 0.05))

    def forward(self, ids):
        return F.embedding(ids.long(), self.embeddings)


class Conv2D(nn.Module):
    """A convolution. Channels come last, in the kernel too: (*size, in, out)."""

    def __init__(self, kernel, strides, dilation, padding="valid", groups=1, bias=True):
        super().__init__()
        self.kernel = nn.Parameter(torch.empty(kernel))
        self.bias = nn.Parameter(torch.zeros(kernel[-1])) if bias else None
        self.strides, self.dilation, self.padding, self.groups = strides, dilation, padding, groups
        nn.init.xavier_uniform_(self.kernel.data.movedim((-1, -2), (0, 1)))

    def forward(self, x):
        x = x.movedim(-1, 1)
        if self.padding == "same":
            x = pad_same(x, self.kernel.shape, self.strides, self.dilation)
        elif self.padding == "causal":
            x = F.pad(x, ((self.kernel.shape[0] - 1) * self.dilation[0], 0))
        weight = self.kernel.movedim((-1, -2), (0, 1))
        x = F.conv2d(x, weight, self.bias, self.strides, 0, self.dilation, self.groups)
        return x.movedim(1, -1)


def pad_same(x, sizes, strides, dilation):
    """Pads the axes after the second so that every stride finds a window; what is uneven goes to the end."""
    pads = []
    for count, size, stride, step in zip(x.shape[2:], sizes, strides, dilation, strict=False):
        total = max((math.ceil(count / stride) - 1) * stride + (size - 1) * step + 1 - count, 0)
        pads = [total // 2, total - total // 2, *pads]
    return F.pad(x, pads)


class AveragePooling2D(nn.Module):
    """Means of windows, padded so that every stride finds one; what was padded does not count."""

    def __init__(self, size, strides):
        super().__init__()
        self.size, self.strides = size, strides

    def forward(self, x):
        x = self.mean(x.movedim(-1, 1)) / self.mean(torch.ones_like(x[:1, ..., :1]).movedim(-1, 1))
        return x.movedim(1, -1)

    def mean(self, x):
        x = pad_same(x, self.size, self.strides, [1] * len(self.size))
        return F.avg_pool2d(x, self.size, self.strides)


class SpectralNormalization(nn.Module):
    """Divides the kernel of the layer inside by its largest singular value, at each step of training."""

    def __init__(self, layer, channels, power_iterations=1):
        super().__init__()
        self.layer, self.power_iterations = layer, power_iterations
        self.register_buffer("vector_u", nn.init.trunc_normal_(torch.empty(1, channels), std=0.02))

    def forward(self, x):
        if self.training:
            self.normalize(next(self.layer.parameters()))
        return self.layer(x)

    @torch.no_grad()
    def normalize(self, kernel):
        matrix, u = kernel.reshape(-1, kernel.shape[-1]), self.vector_u
        for _ in range(self.power_iterations):
            v = F.normalize(u @ matrix.t(), dim=1, eps=1e-6)
            u = F.normalize(v @ matrix, dim=1, eps=1e-6)
        self.vector_u.copy_(u)
        kernel.div_(v @ matrix @ u.t())


class BatchNormalization(nn.Module):
    """Normalizes each channel: by the batch's moments in training, by the moving ones in inference."""

    def __init__(
        self,
        channels,
        axis=-1,
        momentum=0.99,
        epsilon=0.001,
        center=True,
        scale=True,
        frozen=False,
    ):
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(channels)) if scale else None
        self.beta = nn.Parameter(torch.zeros(channels)) if center else None
        self.register_buffer("moving_mean", torch.zeros(channels))
        self.register_buffer("moving_variance", torch.ones(channels))
        self.axis, self.momentum, self.epsilon, self.frozen = axis, momentum, epsilon, frozen

    def forward(self, x, mask=None):
        x = x.movedim(self.axis, -1)
        mean, variance = self.moving_mean, self.moving_variance
        if self.training and not self.frozen:
            seen = (x.flatten(0, -2) if mask is None else x[mask]).to(mean.dtype)
            mean, variance = seen.mean(0), seen.var(0, unbiased=False)
            if len(seen):
                with torch.no_grad():
                    self.moving_mean.lerp_(mean, 1 - self.momentum)
                    self.moving_variance.lerp_(variance, 1 - self.momentum)
            else:
                mean, variance = torch.zeros_like(mean), torch.zeros_like(variance)
        x = (x - mean) / torch.sqrt(variance + self.epsilon)
        if self.gamma is not None:
            x = x * self.gamma
        if self.beta is not None:
            x = x + self.beta
        return x.movedim(-1, self.axis)


class LayerNormalization(nn.Module):
    """Normalizes each sample over its last axis."""

    def __init__(self, features, epsilon=0.001, center=True, scale=True):
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(features)) if scale else None
        self.beta = nn.Parameter(torch.zeros(features)) if center else None
        self.epsilon = epsilon

    def forward(self, x):
        return F.layer_norm(x, x.shape[-1:], self.gamma, self.beta, self.epsilon)


class TimeDistributed(nn.Module):
    """Applies a module to every time step: time and batch become one axis for it."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x, mask=None):
        steps = self.layer(x.flatten(0, 1))
        return steps.unflatten(0, x.shape[:2])


class Bidirectional(nn.Module):
    """Runs two recurrent modules over a sequence, one from each end, and merges what they return."""

    def __init__(self, forward_layer, backward_layer, merge="concat"):
        super().__init__()
        self.forward_layer, self.backward_layer, self.merge = forward_layer, backward_layer, merge

    def forward(self, x, initial_state=None, mask=None):
        first = second = None
        if initial_state is not None:
            half = len(initial_state) // 2
            first, second = initial_state[:half], initial_state[half:]
        y, *states = self.forward_layer.run(x, first, mask)
        back, *more = self.backward_layer.run(x, second, mask)
        if self.backward_layer.return_sequences:
            back = back.flip(1)
        if self.merge == "concat":
            y = torch.cat([y, back], -1)
        elif self.merge == "mul":
            y = y * back
        elif self.merge is not None:
            y = (y + back) / (2 if self.merge == "ave" else 1)
        merged = [y, back] if self.merge is None else [y]
        returned = [*merged, *states, *more] if self.forward_layer.return_state else merged
        return tuple(returned) if len(returned) > 1 else returned[0]


class RNN(nn.Module):
    """Runs a cell over the steps of a sequence. A masked step leaves the states as they are."""

    def __init__(
        self,
        cell,
        return_sequences=False,
        return_state=False,
        go_backwards=False,
        zero_output_for_mask=False,
    ):
        super().__init__()
        self.cell = cell
        self.return_sequences, self.return_state = return_sequences, return_state
        self.go_backwards, self.zero_output_for_mask = go_backwards, zero_output_for_mask

    def forward(self, x, initial_state=None, mask=None):
        y, *states = self.run(x, initial_state, mask)
        return (y, *states) if self.return_state else y

    def run(self, x, initial_state=None, mask=None):
        if self.go_backwards:
            x, mask = x.flip(1), None if mask is None else mask.flip(1)
        states = self.cell.initial_state(x) if initial_state is None else initial_state
        states = list(states) if isinstance(states, (list, tuple)) else [states]
        scales, outputs = self.cell.scales(x), []
        for step in range(x.shape[1]):
            output, new = self.cell(x[:, step], states, scales)
            if mask is not None:
                shown = outputs and not self.zero_output_for_mask
                before = outputs[-1] if shown else torch.zeros_like(output)
                output = choose(mask[:, step], output, before)
                new = [choose(mask[:, step], *pair) for pair in zip(new, states, strict=True)]
            states = new
            outputs.append(output)
        y = torch.stack(outputs, 1) if self.return_sequences else outputs[-1]
        return (y, *states)


def in_mode(training, module, *inputs, **options):
    """Calls a module in training or in inference mode, whatever its own mode."""
    modes = [(part, part.training) for part in module.modules()]
    module.train(training)
    try:
        return module(*inputs, **options)
    finally:
        for part, mode in modes:
            part.training = mode


def precisely(dtype, module, *inputs, **options):
    """Calls a module outside autocast, with its floats in one type."""

    def cast(x):
        if isinstance(x, (list, tuple)):
            return [cast(part) for part in x]
        floats = isinstance(x, torch.Tensor) and x.is_floating_point()
        return x.to(dtype) if floats else x

    first = inputs[0][0] if isinstance(inputs[0], (list, tuple)) else inputs[0]
    with torch.autocast(first.device.type, enabled=False):
        return module(*map(cast, inputs), **{k: cast(v) for k, v in options.items()})


def choose(keep, new, old):
    """Returns new values for the samples to keep, old ones for the others."""
    return torch.where(keep.reshape(-1, *[1] * (new.dim() - 1)), new, old)


class RNNCell(nn.Module):
    """What cells share: weights, and dropout that drops the same at every step."""

    def __init__(self, kernel, units, bias, activation, dropout=0.0, recurrent_dropout=0.0):
        super().__init__()
        self.kernel = nn.Parameter(nn.init.xavier_uniform_(torch.empty(kernel)))
        self.recurrent_kernel = nn.Parameter(nn.init.orthogonal_(torch.empty(units, kernel[1])))
        self.bias = nn.Parameter(torch.zeros(bias)) if bias else None
        self.activation = activation
        self.dropout, self.recurrent_dropout = dropout, recurrent_dropout

    def initial_state(self, x):
        return [x.new_zeros(len(x), len(self.recurrent_kernel))]

    def scales(self, x):
        inputs = x.new_ones(len(x), len(self.kernel))
        hidden = x.new_ones(len(x), len(self.recurrent_kernel))
        return (
            F.dropout(inputs, self.dropout, self.training),
            F.dropout(hidden, self.recurrent_dropout, self.training),
        )

    def project(self, x, bias):
        return x @ self.kernel if bias is None else x @ self.kernel + bias


class SimpleRNNCell(RNNCell):
    """One step: `h = activation(x @ kernel + bias + h @ recurrent_kernel)`."""

    def forward(self, x, states, scales):
        hidden = (states[0] * scales[1]) @ self.recurrent_kernel
        h = self.activation(self.project(x * scales[0], self.bias) + hidden)
        return h, [h]


class LSTMCell(RNNCell):
    """One step of a long short-term memory; the gates stand in the order input, forget, cell, output."""

    def __init__(self, *arguments, gate=torch.sigmoid, **options):
        super().__init__(*arguments, **options)
        self.gate = gate

    def initial_state(self, x):
        return 2 * super().initial_state(x)

    def forward(self, x, states, scales):
        h, c = states
        hidden = (h * scales[1]) @ self.recurrent_kernel
        i, f, g, o = (self.project(x * scales[0], self.bias) + hidden).chunk(4, -1)
        c = self.gate(f) * c + self.gate(i) * self.activation(g)
        h = self.gate(o) * self.activation(c)
        return h, [h, c]


class GRUCell(RNNCell):
    """One step of a gated recurrent unit; the gates stand in the order update, reset, candidate."""

    def __init__(self, *arguments, gate=torch.sigmoid, reset_after=True, **options):
        super().__init__(*arguments, **options)
        self.gate, self.reset_after = gate, reset_after

    def forward(self, x, states, scales):
        h = states[0]
        units, seen = h.shape[-1], h * scales[1]
        bias, hidden_bias = (self.bias, None)
        if self.reset_after and bias is not None:
            bias, hidden_bias = bias
        projected, kernel = self.project(x * scales[0], bias), self.recurrent_kernel
        hidden = seen @ kernel if hidden_bias is None else seen @ kernel + hidden_bias
        z, r = self.gate(projected + hidden)[:, : 2 * units].chunk(2, -1)
        if self.reset_after:
            candidate = r * hidden[:, 2 * units :]
        else:
            candidate = (r * seen) @ kernel[:, 2 * units :]
        g = self.activation(projected[:, 2 * units :] + candidate)
        h = z * h + (1 - z) * g
        return h, [h]


class StackedRNNCells(nn.Module):
    """Cells one upon the other: each takes what the one below returns."""

    def __init__(self, cells):
        super().__init__()
        self.cells = nn.ModuleList(cells)

    def initial_state(self, x):
        return [state for cell in self.cells for state in cell.initial_state(x)]

    def scales(self, x):
        return [cell.scales(x) for cell in self.cells]

    def forward(self, x, states, scales):
        new, states = [], list(states)
        for cell, scale in zip(self.cells, scales, strict=True):
            own = [states.pop(0) for _ in cell.initial_state(x)]
            x, changed = cell(x, own, scale)
            new += changed
        return x, new
