"""Functions that treat every element alike: tables of Keras names over torch functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from hornbeam.core import dtype as dtypes
from hornbeam.ops.convert import floating, op, pair, tensor

Unary = Callable[[Any], torch.Tensor]
Binary = Callable[[Any, Any], torch.Tensor]


def _named(function: Any, name: str, what: str) -> Any:
    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"Returns {what}, elementwise."
    return op(function)


def _unary(name: str, function: Callable[..., Any], what: str) -> Unary:
    """A function of one tensor of any dtype."""

    def call(x: Any) -> torch.Tensor:
        return function(tensor(x))

    return _named(call, name, what)


def _real(name: str, function: Callable[..., Any], what: str) -> Unary:
    """A function of one tensor; integers and booleans become `config.floatx()`."""

    def call(x: Any) -> torch.Tensor:
        return function(floating(x))

    return _named(call, name, what)


def _binary(name: str, function: Callable[..., Any], what: str) -> Binary:
    """A function of two tensors that broadcast."""

    def call(x1: Any, x2: Any) -> torch.Tensor:
        return function(*pair(x1, x2))

    return _named(call, name, what)


def _real_binary(name: str, function: Callable[..., Any], what: str) -> Binary:
    """A function of two tensors that broadcast; integers and booleans become floating point."""

    def call(x1: Any, x2: Any) -> torch.Tensor:
        x1, x2 = pair(x1, x2)
        return function(floating(x1), floating(x2))

    return _named(call, name, what)


def _logical(name: str, function: Callable[..., Any], what: str) -> Binary:
    """A function of two tensors as booleans."""

    def call(x1: Any, x2: Any) -> torch.Tensor:
        return function(tensor(x1, "bool"), tensor(x2, "bool"))

    return _named(call, name, what)


def _bits(name: str, function: Callable[..., Any], what: str) -> Binary:
    """A function of two integer tensors, called x and y."""

    def call(x: Any, y: Any) -> torch.Tensor:
        return function(*pair(x, y))

    return _named(call, name, what)


def _cbrt(x: torch.Tensor) -> torch.Tensor:
    return torch.sign(x) * torch.abs(x) ** (1 / 3)


abs = absolute = _unary("abs", torch.abs, "the absolute value")
negative = _unary("negative", torch.neg, "the value with its sign changed")
positive = _unary("positive", torch.clone, "the value")
square = _unary("square", lambda x: torch.square(x.to(torch.int32) if x.dtype is torch.bool else x), "the square")
sign = _unary("sign", lambda x: torch.sign(x.to(torch.int32) if x.dtype is torch.bool else x), "-1, 0 or 1, by the sign")
signbit = _unary("signbit", torch.signbit, "whether the sign bit is set")
isnan = _unary("isnan", torch.isnan, "whether the value is not a number")
isinf = _unary("isinf", torch.isinf, "whether the value is infinite")
isfinite = _unary("isfinite", torch.isfinite, "whether the value is finite")
isposinf = _unary("isposinf", torch.isposinf, "whether the value is plus infinity")
isneginf = _unary("isneginf", torch.isneginf, "whether the value is minus infinity")
isreal = _unary("isreal", torch.isreal, "whether the imaginary part is 0")
logical_not = _unary("logical_not", torch.logical_not, "whether the value is 0")
bitwise_not = bitwise_invert = _unary("bitwise_not", torch.bitwise_not, "the value with every bit changed")
conj = conjugate = _unary("conj", lambda x: torch.conj(x).resolve_conj(), "the complex conjugate")
real = _unary("real", lambda x: torch.real(x) if x.is_complex() else x, "the real part")
imag = _unary("imag", lambda x: torch.imag(x) if x.is_complex() else torch.zeros_like(x), "the imaginary part")
trunc = _unary("trunc", torch.trunc, "the value without its decimals")

angle = _real("angle", torch.angle, "the angle of a complex number, in radians")
arccos = _real("arccos", torch.acos, "the inverse cosine")
arccosh = _real("arccosh", torch.acosh, "the inverse hyperbolic cosine")
arcsin = _real("arcsin", torch.asin, "the inverse sine")
arcsinh = _real("arcsinh", torch.asinh, "the inverse hyperbolic sine")
arctan = _real("arctan", torch.atan, "the inverse tangent")
arctanh = _real("arctanh", torch.atanh, "the inverse hyperbolic tangent")
cbrt = _real("cbrt", _cbrt, "the cube root")
ceil = _real("ceil", torch.ceil, "the smallest whole number that is not smaller")
cos = _real("cos", torch.cos, "the cosine")
cosh = _real("cosh", torch.cosh, "the hyperbolic cosine")
deg2rad = _real("deg2rad", torch.deg2rad, "degrees as radians")
erf = _real("erf", torch.erf, "the error function")
erfc = _real("erfc", torch.erfc, "one minus the error function")
erfinv = _real("erfinv", torch.erfinv, "the inverse of the error function")
exp = _real("exp", torch.exp, "e to the power of the value")
exp2 = _real("exp2", torch.exp2, "2 to the power of the value")
expm1 = _real("expm1", torch.expm1, "exp(x) - 1")
fabs = _real("fabs", torch.abs, "the absolute value, as floating point")
floor = _real("floor", torch.floor, "the largest whole number that is not larger")
i0 = _real("i0", torch.i0, "the modified Bessel function of order 0")
log = _real("log", torch.log, "the natural logarithm")
log10 = _real("log10", torch.log10, "the logarithm to base 10")
log1p = _real("log1p", torch.log1p, "log(1 + x)")
log2 = _real("log2", torch.log2, "the logarithm to base 2")
rad2deg = _real("rad2deg", torch.rad2deg, "radians as degrees")
reciprocal = _real("reciprocal", torch.reciprocal, "1 / x")
rsqrt = _real("rsqrt", torch.rsqrt, "1 / sqrt(x)")
sin = _real("sin", torch.sin, "the sine")
sinc = _real("sinc", torch.sinc, "sin(pi x) / (pi x), 1 at 0")
sinh = _real("sinh", torch.sinh, "the hyperbolic sine")
sqrt = _real("sqrt", torch.sqrt, "the square root")
tan = _real("tan", torch.tan, "the tangent")

add = _binary("add", torch.add, "x1 + x2")
subtract = _binary("subtract", torch.sub, "x1 - x2")
multiply = _binary("multiply", torch.mul, "x1 * x2")
divide = true_divide = _binary("divide", torch.true_divide, "x1 / x2")
floor_divide = _binary("floor_divide", torch.floor_divide, "the largest whole number not above x1 / x2")
mod = _binary("mod", torch.remainder, "what is left of x1 / x2, with the sign of x2")
fmod = _binary("fmod", torch.fmod, "what is left of x1 / x2, with the sign of x1")
power = _binary("power", torch.pow, "x1 to the power of x2")
maximum = _binary("maximum", torch.maximum, "the larger value")
minimum = _binary("minimum", torch.minimum, "the smaller value")
fmax = _binary("fmax", torch.fmax, "the larger value, leaving out those that are not a number")
fmin = _binary("fmin", torch.fmin, "the smaller value, leaving out those that are not a number")
equal = _binary("equal", torch.eq, "whether x1 == x2")
not_equal = _binary("not_equal", torch.ne, "whether x1 != x2")
greater = _binary("greater", torch.gt, "whether x1 > x2")
greater_equal = _binary("greater_equal", torch.ge, "whether x1 >= x2")
less = _binary("less", torch.lt, "whether x1 < x2")
less_equal = _binary("less_equal", torch.le, "whether x1 <= x2")
gcd = _binary("gcd", torch.gcd, "the greatest common divisor")
lcm = _binary("lcm", torch.lcm, "the least common multiple")
ldexp = _binary("ldexp", torch.ldexp, "x1 * 2**x2")

arctan2 = _real_binary("arctan2", torch.atan2, "the angle of the point (x2, x1)")
hypot = _real_binary("hypot", torch.hypot, "sqrt(x1**2 + x2**2)")
logaddexp = _real_binary("logaddexp", torch.logaddexp, "log(exp(x1) + exp(x2))")
logaddexp2 = _real_binary("logaddexp2", torch.logaddexp2, "log2(2**x1 + 2**x2)")
heaviside = _real_binary("heaviside", lambda a, b: torch.heaviside(a, b.to(a.dtype)), "0 below 0, 1 above it, and x2 at 0")
nextafter = _real_binary("nextafter", torch.nextafter, "the next floating point number from x1 towards x2")

logical_and = _logical("logical_and", torch.logical_and, "whether both are true")
logical_or = _logical("logical_or", torch.logical_or, "whether one is true")
logical_xor = _logical("logical_xor", torch.logical_xor, "whether exactly one is true")

bitwise_and = _bits("bitwise_and", torch.bitwise_and, "the bits that both have")
bitwise_or = _bits("bitwise_or", torch.bitwise_or, "the bits that one has")
bitwise_xor = _bits("bitwise_xor", torch.bitwise_xor, "the bits that exactly one has")
left_shift = bitwise_left_shift = _bits("left_shift", torch.bitwise_left_shift, "the bits of x moved up by y")
right_shift = bitwise_right_shift = _bits("right_shift", torch.bitwise_right_shift, "the bits of x moved down by y")


@op
def divide_no_nan(x1: Any, x2: Any) -> torch.Tensor:
    """Returns `x1 / x2`, and 0 where x2 is 0.

    >>> divide_no_nan([1.0, 1.0], [0.0, 2.0]).tolist()
    [0.0, 0.5]
    """
    x1, x2 = pair(x1, x2)
    x1, x2 = floating(x1), floating(x2)
    zero = x2 == 0
    return torch.where(zero, 0.0, x1 / torch.where(zero, 1.0, x2))


@op
def clip(x: Any, x_min: Any, x_max: Any) -> torch.Tensor:
    """Returns values limited to lie between `x_min` and `x_max`; either may be None.

    >>> clip([-1.0, 0.5, 2.0], 0.0, 1.0).tolist()
    [0.0, 0.5, 1.0]
    """
    x = tensor(x)
    x = x.to(torch.int32) if x.dtype is torch.bool else x
    if isinstance(x_min, (int, float, type(None))) and isinstance(x_max, (int, float, type(None))):
        return torch.clamp(x, x_min, x_max)
    low, high = (None if v is None else tensor(v).to(x.device) for v in (x_min, x_max))
    return torch.clamp(x, low, high)


@op
def round(x: Any, decimals: int = 0) -> torch.Tensor:
    """Returns values rounded to a number of decimals; halves go to the even neighbour.

    >>> round([0.5, 1.5]).tolist()
    [0.0, 2.0]
    """
    x = tensor(x)
    if not x.is_floating_point():
        x = x.to(torch.int32) if x.dtype is torch.bool else x
        scaled = x.to(dtypes.to_torch(None)).round(decimals=decimals).to(x.dtype) if decimals < 0 else x
        return scaled
    return torch.round(x, decimals=decimals)


@op
def nan_to_num(x: Any, nan: float = 0.0, posinf: float | None = None, neginf: float | None = None) -> torch.Tensor:
    """Returns the values with those that are not a number, or infinite, replaced; infinities become the largest numbers.

    >>> nan_to_num([float("nan"), 1.0]).tolist()
    [0.0, 1.0]
    """
    return torch.nan_to_num(tensor(x), nan, posinf, neginf)


@op
def isclose(x1: Any, x2: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> torch.Tensor:
    """Returns whether `abs(x1 - x2) <= atol + rtol * abs(x2)`, elementwise."""
    x1, x2 = pair(x1, x2)
    kind = torch.promote_types(x1.dtype, x2.dtype)
    return torch.isclose(x1.to(kind), x2.to(kind), rtol, atol, equal_nan)


@op
def allclose(x1: Any, x2: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> torch.Tensor:
    """Returns whether all elements are close in the sense of `isclose`, as a scalar tensor."""
    return isclose(x1, x2, rtol, atol, equal_nan).all()


@op
def polar(abs_: Any, angle: Any) -> torch.Tensor:
    """Returns complex numbers of given absolute values and angles."""
    return torch.polar(*pair(abs_, angle))


@op
def view_as_complex(x: Any) -> torch.Tensor:
    """Returns a tensor of shape (…, 2) as complex numbers."""
    return torch.view_as_complex(tensor(x).contiguous())


@op
def view_as_real(x: Any) -> torch.Tensor:
    """Returns complex numbers as a tensor of shape (…, 2)."""
    return torch.view_as_real(tensor(x))


@op
def bartlett(x: Any) -> torch.Tensor:
    """Returns a triangular window of x points."""
    return torch.bartlett_window(int(x), periodic=False)


@op
def blackman(x: Any) -> torch.Tensor:
    """Returns a Blackman window of x points."""
    return torch.blackman_window(int(x), periodic=False)


@op
def hamming(x: Any) -> torch.Tensor:
    """Returns a Hamming window of x points."""
    return torch.hamming_window(int(x), periodic=False)


@op
def hanning(x: Any) -> torch.Tensor:
    """Returns a Hann window of x points."""
    return torch.hann_window(int(x), periodic=False)


@op
def kaiser(x: Any, beta: float) -> torch.Tensor:
    """Returns a Kaiser window of x points."""
    return torch.kaiser_window(int(x), periodic=False, beta=float(beta))
