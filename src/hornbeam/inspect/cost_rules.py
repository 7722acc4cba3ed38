"""How many multiply-adds torch's kernels make: matrix products, convolutions, recurrent kernels, attention.

One multiply-add is one product added to a sum. Other kernels (elementwise, reductions, pooling, normalization, lookups) make none
by this measure. Padding counts as values do, masked scores count as shown ones do, as in torch's own counter and in papers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

Rule = Callable[..., int]


def _product(a: Any, b: Any, *_: Any) -> int:
    return a.numel() * (b.shape[-1] if b.dim() > 1 else 1)


def _added_product(_: Any, a: Any, b: Any, *__: Any) -> int:
    return _product(a, b)


def _linear(x: Any, weight: Any, *_: Any) -> int:
    return x.numel() * weight.shape[0]


def _convolution(x: Any, weight: Any, bias: Any, stride: Any, padding: Any, dilation: Any, transposed: bool,
                 *_: Any, out: Any) -> int:  # fmt: skip
    return _positions(x if transposed else out) * weight.numel()


def _positions(values: Any) -> int:
    """At how many places a kernel is laid: all but the channel axis."""
    return values.numel() // values.shape[1] if values.shape[1] else 0


def _convolution_backward(grad: Any, x: Any, weight: Any, bias_sizes: Any, stride: Any, padding: Any, dilation: Any,
                          transposed: bool, output_padding: Any, groups: int, mask: Any, **_: Any) -> int:  # fmt: skip
    return _positions(x if transposed else grad) * weight.numel() * (mask[0] + mask[1])


def _conv_tbc(x: Any, weight: Any, *_: Any, out: Any) -> int:
    return out.shape[0] * out.shape[1] * weight.numel()


def _conv_tbc_backward(grad: Any, x: Any, weight: Any, *_: Any, **__: Any) -> int:
    return 2 * grad.shape[0] * grad.shape[1] * weight.numel()


def _recurrent(x: Any, kernel: Any, recurrent_kernel: Any, *_: Any) -> int:
    return x.shape[0] * x.shape[1] * (kernel.numel() + recurrent_kernel.numel())


def _cudnn_recurrent(x: Any, weights: Any, *_: Any) -> int:
    steps = x.shape[0] * x.shape[1] if x.dim() == 3 else x.shape[0]
    return steps * sum(w.numel() for w in weights if w.dim() == 2)


def _attention(q: Any, k: Any, v: Any, *_: Any) -> int:
    return _scores(q, k) * (q.shape[-1] + v.shape[-1])


def _attention_backward(grad: Any, q: Any, k: Any, v: Any, *_: Any) -> int:
    """The scores are computed again; then come the gradients of v, of the scores, of q and of k."""
    return _scores(q, k) * (3 * q.shape[-1] + 2 * v.shape[-1])


def _scores(q: Any, k: Any) -> int:
    return math.prod(q.shape[:-1]) * k.shape[-2]


def _trilinear(a: Any, b: Any, c: Any, expand_a: Any, expand_b: Any, expand_c: Any, *_: Any) -> int:
    import torch

    shapes = []
    for value, axes in ((a, expand_a), (b, expand_b), (c, expand_c)):
        shape = list(value.shape)
        for axis in axes:
            shape.insert(axis, 1)
        shapes.append(shape)
    return math.prod(torch.broadcast_shapes(*shapes))


def _distances(a: Any, b: Any, *_: Any) -> int:
    return math.prod(_batch_of(a, b)) * a.shape[-2] * b.shape[-2] * a.shape[-1]


def _batch_of(a: Any, b: Any) -> tuple[int, ...]:
    """The axes before the last two, of the longer of two tensors."""
    return tuple(max(a.shape[:-2], b.shape[:-2], key=math.prod))


def _quantized_linear(x: Any, *_: Any, out: Any, **__: Any) -> int:
    return x.numel() * out.shape[-1]


def _quantized_recurrent(gates: int) -> Rule:
    def rule(x: Any, state: Any, weights: Any, has_biases: bool, layers: int, dropout: float, train: bool, both_ways: bool,
             *_: Any) -> int:  # fmt: skip
        units, ways = (state if hasattr(state, "shape") else state[0]).shape[-1], 1 + both_ways
        taken = x.shape[-1] + (layers - 1) * ways * units
        return x.shape[0] * x.shape[1] * gates * units * ways * (taken + layers * units)

    return rule


def _times(factor: int, rule: Rule, skip: int = 0) -> Rule:
    return lambda *args, **kwargs: factor * rule(*args[skip:], **kwargs)


_ATTENTION = ("flash_attention_for_cpu", "flash_attention", "efficient_attention", "cudnn_attention",
              "fused_attention_overrideable")  # fmt: skip

RULES: dict[str, Rule] = {
    "mm": _product, "bmm": _product, "mv": _product, "dot": _product, "vdot": _product,
    "_int_mm": _product, "_scaled_mm": _product,
    "addmm": _added_product, "baddbmm": _added_product, "addbmm": _added_product, "addmv": _added_product,
    "_addmm_activation": _added_product, "linear": _linear, "mkldnn_linear": _linear,
    "_trilinear": _trilinear, "_cdist_forward": _distances, "_cdist_backward": _times(1, _distances, 1),
    "mkldnn_rnn_layer": _recurrent, "mkldnn_rnn_layer_backward": _times(2, _recurrent),
    "quantized_lstm": _quantized_recurrent(4), "quantized_gru": _quantized_recurrent(3),
    "_cudnn_rnn": _cudnn_recurrent, "_cudnn_rnn_backward": _times(2, _cudnn_recurrent),
    **{f"_scaled_dot_product_{name}": _attention for name in _ATTENTION},
    **{f"_scaled_dot_product_{name}_backward": _attention_backward for name in _ATTENTION},
}  # fmt: skip

RULES_WITH_OUTPUT: dict[str, Rule] = {
    "convolution": _convolution, "convolution_overrideable": _convolution, "_convolution": _convolution,
    "convolution_backward": _convolution_backward, "convolution_backward_overrideable": _convolution_backward,
    "conv_tbc": _conv_tbc, "conv_tbc_backward": _conv_tbc_backward,
    **{f"quantized::linear{kind}": _quantized_linear
       for kind in ("", "_relu", "_dynamic", "_relu_dynamic", "_dynamic_fp16", "_relu_dynamic_fp16")},
}  # fmt: skip


def multiply_adds(name: str, args: Any, kwargs: Any, out: Any) -> int:
    """Returns the multiply-adds of one kernel's call.

    Args:
        name: the kernel's name, with its namespace where that is not torch's "aten".
        args, kwargs: what it was called with, tensors of any kind that have shapes.
        out: what it returned.

    >>> import torch
    >>> a, b = torch.ones(3, 4), torch.ones(4, 5)
    >>> multiply_adds("mm", (a, b), {}, a @ b)
    60
    """
    rule = RULES.get(name)
    if rule is not None:
        return rule(*args)
    rule = RULES_WITH_OUTPUT.get(name)
    return 0 if rule is None else rule(*args, out=out)
