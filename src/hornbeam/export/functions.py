"""Calls of torch functions as people spell them: `torch.relu(x)`, `x @ w`, `x[:, :4]`, `x.mean(1)`."""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F

from hornbeam import ops
from hornbeam.export.code import Code, Var, code, joined
from hornbeam.losses.arguments import NEVER_A_LABEL

_BINARY = {
    "add": "+", "sub": "-", "mul": "*", "truediv": "/", "floordiv": "//", "mod": "%", "pow": "**", "matmul": "@", "and": "&",
    "or": "|", "xor": "^", "eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">=", "lshift": "<<", "rshift": ">>",
}  # fmt: skip
_BINARY["div"] = "/"  # as torch names what is right of a tensor
_UNARY = {"neg": "-", "pos": "+", "invert": "~"}
_IN_PLACE = {
    "__iadd__": "add_", "__isub__": "sub_", "__imul__": "mul_", "__itruediv__": "div_", "__ifloordiv__": "floor_divide_",
    "__imod__": "remainder_", "__ipow__": "pow_", "__iand__": "bitwise_and_", "__ior__": "bitwise_or_",
    "__ixor__": "bitwise_xor_", "__idiv__": "div_",
}  # fmt: skip
_NAMED_OTHERWISE = {torch.Tensor.__pow__: torch.Tensor.pow, torch.Tensor.__ipow__: torch.Tensor.pow_}
_LEVELS = {"**": 8, "*": 6, "/": 6, "//": 6, "%": 6, "@": 6, "+": 5, "-": 5, "<<": 4, ">>": 4, "&": 3, "^": 2, "|": 1}
Take = Callable[[Any], Code]


@cache
def _spellings() -> dict[int, str]:
    """The public name of each function that a recording may hold, by identity."""
    found: dict[int, str] = {}
    homes = ((torch, "torch"), (F, "F"), (torch.linalg, "torch.linalg"), (torch.fft, "torch.fft"),
             (torch.special, "torch.special"), (ops, "keras.ops"), (ops.image, "keras.ops.image"))  # fmt: skip
    for home, prefix in homes:
        for name in dir(home):
            thing = getattr(home, name)
            if name[0] != "_" and callable(thing) and not isinstance(thing, type):
                found.setdefault(id(thing), f"{prefix}.{name}")
    for name in dir(F):
        if name[0] == "_" and hasattr(F, name.lstrip("_")):
            found.setdefault(id(getattr(F, name)), f"F.{name.lstrip('_')}")
    for name in dir(torch._C._nn):
        if hasattr(F, name):
            found.setdefault(id(getattr(torch._C._nn, name)), f"F.{name}")
    return found


def spelling(function: Any) -> str | None:
    """Returns the name under which a torch function is known ("torch.relu", "F.gelu"), or None.

    >>> spelling(torch.relu), spelling(F.gelu), spelling(torch.fft.rfft)
    ('torch.relu', 'F.gelu', 'torch.fft.rfft')
    """
    return _spellings().get(id(function))


def operator_of(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[str, tuple[Any, ...]] | None:
    """Returns the sign of a call that has one, and its operands in the order of writing."""
    function = _NAMED_OTHERWISE.get(function, function)
    name = getattr(function, "__name__", "")
    if kwargs or not (getattr(torch.Tensor, name, None) is function or getattr(operator, name, None) is function):
        return None
    plain = name.strip("_")
    if name.endswith("_") and not name.startswith("__"):  # it changes its tensor
        return None
    if function is torch.Tensor.__neg__ and len(args) == 1:
        return "-", args
    if len(args) == 2 and (name != plain or function is torch.Tensor.pow or getattr(operator, name, None) is function):
        if plain in _BINARY:
            return _BINARY[plain], args
        if plain[0] == "r" and plain[1:] in _BINARY:
            return _BINARY[plain[1:]], args[::-1]
    if len(args) == 1 and name != plain and plain in _UNARY:
        return _UNARY[plain], args
    return None


_AS_OPERATOR = {
    "add": "add", "sub": "sub", "subtract": "sub", "mul": "mul", "multiply": "mul", "div": "truediv", "true_divide": "truediv",
    "neg": "neg", "negative": "neg", "matmul": "matmul", "eq": "eq", "ne": "ne", "lt": "lt", "le": "le", "gt": "gt", "ge": "ge",
}  # fmt: skip


def as_operator(function: Any, args: tuple[Any, ...]) -> Any:
    """Returns the operator of tensors that does what a function of one or two tensors does, else the function itself.

    >>> as_operator(torch.add, (1, 2)) is torch.Tensor.__add__
    True
    """
    sign = _AS_OPERATOR.get(getattr(function, "__name__", "")) if len(args) in (1, 2) else None
    return getattr(torch.Tensor, f"__{sign}__") if sign and (len(args) == 1) == (sign == "neg") else function


def level(text: Code) -> int:
    """How tightly an expression binds: 9 for a name or a call, less for operators at the outermost level."""
    lowest, depth = 9, 0
    for piece in text:
        if type(piece) is not str:
            continue
        words = piece.split(" ") if '"' not in piece else [piece]
        for word in words:
            if depth == 0 and word in _LEVELS:
                lowest = min(lowest, _LEVELS[word])
            elif depth == 0 and word in ("==", "!=", "<", "<=", ">", ">="):
                lowest = 0
            depth += sum(word.count(b) for b in "([{") - sum(word.count(b) for b in ")]}")
    first = text[0] if text and type(text[0]) is str else ""
    if lowest == 9 and first[:1] in "-+~" and first:
        return 7
    return 8 if lowest == 9 and "**" in text else lowest


def _operand(text: Code, least: int) -> Code:
    return text if level(text) >= least else code("(", text, ")")


def call(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], take: Take, other: Callable[[Any], str]) -> Code:
    """Returns the expression of a call.

    Args:
        function, args, kwargs: the call.
        take: gives the expression of an argument.
        other: gives the name of a function that is not torch's.
    """
    function = _NAMED_OTHERWISE.get(function, function)
    name = getattr(function, "__name__", "")
    sign = operator_of(function, args, kwargs)
    if sign is not None:
        return _with_sign(sign[0], [take(a) for a in sign[1]])
    if name == "__get__" and hasattr(function, "__self__"):
        return code(_operand(take(args[0]), 9), f".{function.__self__.__name__}")
    if name == "__getitem__" or (function is operator.getitem):
        return code(_operand(take(args[0]), 9), "[", index(args[1], take), "]")
    if name == "__abs__":
        return code("abs(", take(args[0]), ")")
    public = spelling(function)
    args, kwargs = tidied(name.lstrip("_"), *without_defaults(function, args, kwargs))
    if public is None and getattr(torch.Tensor, name, None) is function:
        name = _IN_PLACE.get(name, name)
        return code(_operand(take(args[0]), 9), f".{name}(", arguments(args[1:], kwargs, take), ")")
    return code(public or other(function), "(", arguments(args, kwargs, take), ")")


def _with_sign(sign: str, operands: list[Code]) -> Code:
    if len(operands) == 1:
        return code(sign, _operand(operands[0], 7))
    least = _LEVELS.get(sign, 0)
    left, right = _operand(operands[0], least + (sign == "**") + (least == 0)), _operand(operands[1], least + 1)
    if sign == "**" and _is_simple(left) and _is_simple(right):
        return code(left, "**", right)
    return code(left, f" {sign} ", right)


def _is_simple(text: Code) -> bool:
    return all(type(p) is Var or (type(p) is str and p.replace(".", "").replace("_", "").lstrip("-").isalnum()) for p in text)


def index(value: Any, take: Take) -> Code:
    """Returns what stands in the brackets of `x[...]`."""
    if isinstance(value, tuple):
        if not value:
            return ("()",)
        inner = joined(_one_index(v, take) for v in value)
        return code(inner, ",") if len(value) == 1 else inner
    return _one_index(value, take)


def _one_index(value: Any, take: Take) -> Code:
    if not isinstance(value, slice):
        return take(value)
    start, stop = (() if v is None else take(v) for v in (value.start, value.stop))
    return code(start, ":", stop, *(() if value.step is None else (":", take(value.step))))


def arguments(args: tuple[Any, ...], kwargs: dict[str, Any], take: Take) -> Code:
    """Returns what stands between the brackets of a call."""
    return joined([*map(take, args), *(code(f"{k}=", take(v)) for k, v in kwargs.items())])


_USUAL = {
    "approximate": "none", "keepdim": False, "dilation": 1, "ceil_mode": False, "return_indices": False, "padding": 0,
    "inplace": False, "count_include_pad": True, "divisor_override": None, "attn_mask": None, "dropout_p": 0.0,
    "is_causal": False, "scale": None, "enable_gqa": False, "out": None, "ignore_index": NEVER_A_LABEL,
}  # fmt: skip
_SPLAT = frozenset(("permute", "view", "reshape", "expand", "repeat", "tile"))
_NAMED = {"scaled_dot_product_attention": (3, ("attn_mask", "dropout_p", "is_causal"))}


def tidied(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Leaves out what a call of one of torch's own functions need not say.

    >>> tidied("max_pool2d", ("x", (3, 3)), {"stride": (3, 3), "padding": 0})
    (('x', 3), {})
    """
    if name in _NAMED:
        count, names = _NAMED[name]
        args, kwargs = args[:count], {**dict(zip(names, args[count:], strict=False)), **kwargs}
    kwargs = {k: v for k, v in kwargs.items() if not (k in _USUAL and _is_default(v, _USUAL[k]))}
    if "pool" in name:
        args = (args[0], *map(_one_for_all, args[1:]))
        kwargs = {k: _one_for_all(v) for k, v in kwargs.items()}
        if len(args) > 1 and kwargs.get("stride", ...) == args[1]:
            kwargs.pop("stride")
    if name in _SPLAT and len(args) == 2 and isinstance(args[1], (tuple, list)) and not kwargs:
        args = (args[0], *args[1])
    return args, kwargs


def _one_for_all(value: Any) -> Any:
    same = isinstance(value, (tuple, list)) and len(value) > 0 and all(type(v) is int and v == value[0] for v in value)
    return value[0] if same else value


@cache
def _defaults(function: Any) -> dict[str, Any]:
    try:
        return {k: p.default for k, p in inspect.signature(function).parameters.items() if p.default is not p.empty}
    except (TypeError, ValueError):
        return {}


def without_defaults(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Leaves out keyword arguments, and last positional ones, that have their defaults."""
    known = _defaults(function) if kwargs or len(args) > 1 else {}
    if not known:
        return args, kwargs
    kwargs = {k: v for k, v in kwargs.items() if not _is_default(v, known.get(k, ...))}
    names = list(inspect.signature(function).parameters)
    while len(args) > 1 and len(args) <= len(names) and _is_default(args[-1], known.get(names[len(args) - 1], ...)):
        args = args[:-1]
    return args, kwargs


def _is_default(value: Any, default: Any) -> bool:
    return type(value) is type(default) and isinstance(value, (int, float, str, bool, type(None))) and value == default
