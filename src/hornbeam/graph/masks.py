"""Which functions let a mask through: those that treat every element alike and keep the shape."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

_ELEMENTWISE = set(
    """abs absolute acos acosh add addcdiv addcmul asin asinh atan atan2 atanh bitwise_and bitwise_or bitwise_xor ceil
    celu clamp clamp_max clamp_min clip contiguous clone copysign cos cosh deg2rad detach digamma div divide dropout elu
    eq erf erfc erfinv exp exp2 expm1 feature_dropout float_power floor floor_divide fmax fmin fmod frac ge gelu greater
    greater_equal gt hardshrink hardsigmoid hardswish hardtanh heaviside hypot isfinite isinf isnan isneginf isposinf le
    leaky_relu lerp less less_equal lgamma log log10 log1p log2 logaddexp logical_and logical_not logical_or logical_xor
    logit logsigmoid lt masked_fill maximum minimum mish mul multiply nan_to_num ne neg negative not_equal pow positive
    rad2deg real reciprocal relu relu6 remainder round rrelu rsqrt rsub selu sgn sigmoid sign silu sin sinc sinh softplus
    softshrink softsign sqrt square sub subtract tan tanh tanhshrink threshold to true_divide trunc type type_as where
    xlogy float double half bfloat16 int long bool layer_norm rms_norm softmax log_softmax normalize alpha_dropout angle
    log_sigmoid polar arccos arccosh arcsin arcsinh arctan arctan2 arctanh bitwise_left_shift bitwise_not
    bitwise_right_shift cbrt conj conj_physical divide_no_nan equal fabs fix gcd i0 igamma igammac imag isclose isreal lcm
    ldexp left_shift logaddexp2 mod nextafter polygamma power right_shift signbit sparsemax cast convert_to_tensor copy
    saturate_cast stop_gradient layer_normalization rms_normalization fill_in_place
    __lshift__ __rshift__ __rlshift__ __rrshift__ __add__ __radd__ __sub__ __rsub__ __mul__ __rmul__ __truediv__
    __rtruediv__ __floordiv__ __rfloordiv__ __mod__ __rmod__ __pow__ __rpow__ __neg__ __pos__ __abs__ __and__ __rand__
    __or__ __ror__ __xor__ __rxor__ __invert__ __eq__ __ne__ __lt__ __le__ __gt__ __ge__ __div__ __rdiv__""".split()
)


def is_elementwise(function: Any) -> bool:
    """Returns whether a function treats every element alike, so that a mask of its input holds for its output."""
    return getattr(function, "__name__", "") in _ELEMENTWISE


def combine(masks: Iterable[Any]) -> Any:
    """Returns the mask of a result whose inputs have these masks: a position counts where it counts in all of them."""
    result = None
    for mask in masks:
        if mask is None or mask is result:
            continue
        result = mask if result is None else result & mask
    return result
