"""What is likely meant where torch modules and functions are given what they cannot take."""

from __future__ import annotations

import math
from typing import Any

from torch import nn

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_ELEMENTWISE = frozenset("add sub mul div truediv pow maximum minimum where radd rsub rmul rtruediv".split())

Shape = tuple[Any, ...]


def hint(target: Any, shapes: list[Shape | None], message: str = "") -> str:
    """Returns a sentence that begins with a space, or an empty string.

    Args:
        target: the module or function that was called.
        shapes: shapes of its arguments.
        message: torch's own message.

    >>> hint(nn.Linear(64, 2), [(None, 8, 8, 1)])
    ' Is a Flatten missing before it? 8 x 8 x 1 = 64.'
    """
    known = [s for s in shapes if s is not None]
    if isinstance(target, nn.Embedding) and "indices" in message:
        return " It takes integer ids: x.long(), or an Input of dtype 'int64'."
    if any(words in message for words in ("dtype", "scalar type", "should be the same", "not implemented for")):
        return " The dtypes do not go together: convert one, for example x.float() or x.long()."
    if not known:
        return ""
    if isinstance(target, nn.Linear):
        return _for_linear(target, known[0])
    if isinstance(target, _CONVOLUTIONS):
        return _for_convolution(target, known[0])
    name = getattr(target, "__name__", "").strip("_")
    if name in _ELEMENTWISE and len(known) > 1:
        return _for_elementwise(known)
    if name in ("matmul", "mm", "bmm", "linear") and len(known) > 1 and len(known[1]) > 1:
        axis = -1 if name == "linear" else -2
        return f" The last axis of the first ({known[0][-1]}) must be axis {axis} of the second ({known[1][axis]})."
    return ""


def _for_linear(layer: nn.Linear, shape: Shape) -> str:
    wanted, rest = layer.in_features, shape[1:]
    if len(shape) == 1:
        return " Is the batch axis missing? Add it by x[None]."
    if len(rest) > 1 and None not in rest and math.prod(rest) == wanted:
        return f" Is a Flatten missing before it? {' x '.join(map(str, rest))} = {wanted}."
    if len(rest) > 1 and rest[-1] != wanted:
        return f" It takes {wanted} on the last axis, which is {rest[-1]}: is a Flatten or a pooling layer missing before it?"
    got = shape[-1]
    return f" It takes {wanted} features and was given {got}: make the units before it {wanted}, or in_features={got}."


def _for_convolution(layer: Any, shape: Shape) -> str:
    rank, channels = len(layer.kernel_size), layer.in_channels
    if len(shape) == rank + 2 and shape[-1] == channels and shape[1] != channels:
        order = (0, rank + 1, *range(1, rank + 1))
        return f" Torch's convolutions take channels first: x.permute{order}; or use Hornbeam's Conv{rank}D."
    if len(shape) == rank + 1 and shape[0] == channels:
        return " Is the batch axis missing? Add it by x[None]."
    if len(shape) == rank + 2:
        return f" It takes {channels} channels on axis 1, which is {shape[1]}."
    return f" It takes (batch, channels, {', '.join(('depth', 'height', 'width')[-rank:])})."


def _for_elementwise(shapes: list[Shape]) -> str:
    a, b = shapes[0][::-1], shapes[1][::-1]
    for i, (p, q) in enumerate(zip(a, b, strict=False), 1):
        if None not in (p, q) and p != q and 1 not in (p, q):
            return f" Axis -{i} differs, {p} and {q}: give what makes them the same size there."
    return ""
