"""Layers that make one tensor of several."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F

from hornbeam.core.calls import kept_dtype, shape_of
from hornbeam.core.errors import bad_argument
from hornbeam.core.layer import Layer
from hornbeam.core.registry import public


class Merge(Layer):
    """Base of layers that take a list of tensors and make one of them."""

    _at_least: int = 1
    _at_most: int | None = None

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True

    def build(self, input_shape: Any = None) -> None:
        """Checks that the inputs are a list of tensors that fit together."""
        self.compute_output_shape(input_shape)

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        """Returns the shape of the merged tensor for a list of input shapes."""
        return self._merged_shape(self._checked(input_shape))

    def _merged_shape(self, shapes: list[tuple[int | None, ...]]) -> tuple[int | None, ...]:
        raise NotImplementedError

    def _checked(self, shapes: Any) -> list[tuple[int | None, ...]]:
        title = f"Layer {self.name!r} ({type(self).__name__})"
        wanted = f"a list of {'exactly' if self._at_most else 'at least'} {self._at_least} tensor{'s' * (self._at_least > 1)}"
        if shapes is None or (isinstance(shapes, (list, tuple)) and not shapes):
            raise ValueError(f"{title} takes {wanted}. Received: an empty list.")
        if not isinstance(shapes, (list, tuple)) or not all(isinstance(s, (list, tuple)) for s in shapes):
            got = f"a dict with keys {list(shapes)}" if isinstance(shapes, dict) else f"one tensor of shape {tuple(shapes)}"
            hint = "its values as a list" if isinstance(shapes, dict) else "[a, b]"
            raise ValueError(f"{title} takes {wanted}. Received: {got}. Pass {hint}.")
        if len(shapes) < self._at_least or (self._at_most is not None and len(shapes) > self._at_most):
            raise ValueError(f"{title} takes {wanted}. Received: {len(shapes)}, of shapes {_listed(shapes)}.")
        return [tuple(s) for s in shapes]

    def _parts(self, inputs: Any) -> Sequence[torch.Tensor]:
        if not isinstance(inputs, (list, tuple)) or not self._at_least <= len(inputs) <= (self._at_most or len(inputs)):
            self._checked(shape_of(inputs))
        return inputs

    def _misfit(self, expected: str, shapes: Sequence[Any]) -> ValueError:
        return ValueError(f"Layer {self.name!r} ({type(self).__name__}) {expected}. Received: shapes {_listed(shapes)}.")


def _listed(shapes: Sequence[Any]) -> str:
    return " and ".join(str(tuple(s)) for s in shapes)


class Elementwise(Merge):
    """Base of merging layers that combine elements in the same place; lower ranks get axes of size 1 after the batch."""

    def call(self, inputs: Sequence[torch.Tensor], mask: Any = None) -> torch.Tensor:
        """Returns the combination of all inputs."""
        inputs = self._parts(inputs)
        ranks = {x.dim() for x in inputs}
        if len(ranks) > 1:
            return self._merge([_widened(x, max(ranks)) for x in inputs])
        if not isinstance(mask, (list, tuple)) or all(m is None for m in mask):
            return self._merge(list(inputs))
        return self._merge_masked(list(inputs), [_over_features(x, m) for x, m in zip(inputs, mask, strict=True)])

    def _merge(self, inputs: list[torch.Tensor]) -> torch.Tensor:
        raise NotImplementedError

    def _merge_masked(self, inputs: list[torch.Tensor], masks: list[torch.Tensor]) -> torch.Tensor:
        return self._merge(inputs)

    def _merged_shape(self, shapes: list[tuple[int | None, ...]]) -> tuple[int | None, ...]:
        rank = max(map(len, shapes))
        if min(map(len, shapes)) == 0:
            raise self._misfit("takes tensors with a batch axis", shapes)
        aligned = [(s[0], *(1,) * (rank - len(s)), *s[1:]) for s in shapes]
        if len({s[0] for s in shapes} - {None}) > 1:
            raise self._misfit("takes tensors with the same batch size", shapes)
        merged = tuple(_common(sizes) for sizes in zip(*aligned, strict=True))
        if -1 in merged:
            raise self._misfit(f"takes tensors whose shapes broadcast, but axis {merged.index(-1) - rank} does not", shapes)
        return merged

    def compute_mask(self, inputs: Any, previous_mask: Any) -> Any:
        """Returns a mask that holds where any input's does; None where an input has none."""
        if not isinstance(previous_mask, (list, tuple)) or any(m is None for m in previous_mask):
            return None
        rank = max(len(m.shape) for m in previous_mask)
        return functools.reduce(torch.logical_or, [_widened(m, rank) for m in previous_mask])

    def _output_dtype(self, inputs: Any) -> str:
        return kept_dtype(self, inputs)


def _widened(x: torch.Tensor, rank: int) -> torch.Tensor:
    """Puts axes of size 1 after the batch axis until the tensor has a rank."""
    return x if len(x.shape) == rank else x[(slice(None), *(None,) * (rank - len(x.shape)))]


def _over_features(x: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """A mask with the rank of its tensor; one that holds everywhere where there is none."""
    if mask is None:
        return torch.ones((), dtype=torch.bool, device=x.device)
    return mask[(..., *(None,) * (x.dim() - mask.dim()))]


def _common(sizes: Sequence[int | None]) -> int | None:
    """The size that sizes broadcast to: None where it is unknown, -1 where there is none."""
    proper = {s for s in sizes if s is not None and s != 1}
    if proper:
        return proper.pop() if len(proper) == 1 else -1
    return None if None in sizes else 1


@public("keras.layers.Add")
class Add(Elementwise):
    """The sum of all inputs.

    Input shape: a list of tensors whose shapes broadcast. Output shape: the common shape.

    >>> Add()([torch.ones(2, 3), torch.ones(2, 3)]).sum().item()
    12.0
    """

    def _merge(self, inputs: list[torch.Tensor]) -> torch.Tensor:
        return functools.reduce(torch.add, inputs)


@public("keras.layers.Subtract")
class Subtract(Elementwise):
    """The difference of two inputs: the first less the second.

    Input shape: a list of two tensors whose shapes broadcast. Output shape: the common shape.

    >>> Subtract()([torch.ones(2, 3), torch.ones(2, 3)]).sum().item()
    0.0
    """

    _at_least = _at_most = 2

    def _merge(self, inputs: list[torch.Tensor]) -> torch.Tensor:
        return inputs[0] - inputs[1]


@public("keras.layers.Multiply")
class Multiply(Elementwise):
    """The product of all inputs, element by element. Masked steps of an input are left out.

    Input shape: a list of tensors whose shapes broadcast. Output shape: the common shape.

    >>> Multiply()([torch.full((1, 2), 2.0), torch.full((1, 2), 3.0)]).tolist()
    [[6.0, 6.0]]
    """

    def _merge(self, inputs: list[torch.Tensor]) -> torch.Tensor:
        return functools.reduce(torch.mul, inputs)

    def _merge_masked(self, inputs: list[torch.Tensor], masks: list[torch.Tensor]) -> torch.Tensor:
        product = self._merge([torch.where(m, x, 1) for x, m in zip(inputs, masks, strict=True)])
        return torch.where(functools.reduce(torch.logical_or, masks), product, 0)


@public("keras.layers.Average")
class Average(Elementwise):
    """The mean of all inputs, element by element.

    Input shape: a list of tensors whose shapes broadcast. Output shape: the common shape.

    >>> Average()([torch.zeros(1, 2), torch.ones(1, 2)]).tolist()
    [[0.5, 0.5]]
    """

    def _merge(self, inputs: list[torch.Tensor]) -> torch.Tensor:
        return functools.reduce(torch.add, inputs) / len(inputs)

    def _output_dtype(self, inputs: Any) -> str:
        return self.compute_dtype


class _Extreme(Elementwise):
    _pick: Any

    def _merge(self, inputs: list[torch.Tensor]) -> torch.Tensor:
        return functools.reduce(self._pick, inputs)

    def _merge_masked(self, inputs: list[torch.Tensor], masks: list[torch.Tensor]) -> torch.Tensor:
        result, seen = inputs[0], masks[0]
        for x, mask in zip(inputs[1:], masks[1:], strict=True):
            result = torch.where(mask, torch.where(seen, self._pick(result, x), x), result)
            seen = seen | mask
        return result


@public("keras.layers.Maximum")
class Maximum(_Extreme):
    """The largest of all inputs, element by element. Masked steps of an input are left out.

    Input shape: a list of tensors whose shapes broadcast. Output shape: the common shape.

    >>> Maximum()([torch.zeros(1, 2), torch.ones(1, 2)]).tolist()
    [[1.0, 1.0]]
    """

    _pick = staticmethod(torch.maximum)


@public("keras.layers.Minimum")
class Minimum(_Extreme):
    """The smallest of all inputs, element by element. Masked steps of an input are left out.

    Input shape: a list of tensors whose shapes broadcast. Output shape: the common shape.

    >>> Minimum()([torch.zeros(1, 2), torch.ones(1, 2)]).tolist()
    [[0.0, 0.0]]
    """

    _pick = staticmethod(torch.minimum)


@public("keras.layers.Concatenate")
class Concatenate(Merge):
    """The inputs side by side along one axis.

    Args:
        axis: the axis along which they lie; the last unless given.

    Input shape: a list of tensors whose shapes agree on every other axis.

    >>> Concatenate()([torch.ones(2, 3), torch.ones(2, 4)]).shape
    torch.Size([2, 7])
    """

    def __init__(self, axis: int = -1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.axis = axis

    def call(self, inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        """Returns the concatenation."""
        return torch.cat(tuple(self._parts(inputs)), self.axis)

    def _merged_shape(self, shapes: list[tuple[int | None, ...]]) -> tuple[int | None, ...]:
        rank = len(shapes[0])
        if any(len(s) != rank for s in shapes):
            raise self._misfit(f"joins along axis {self.axis} tensors of the same rank", shapes)
        if not -rank <= self.axis < rank:
            raise self._misfit(f"has axis={self.axis}, but its inputs have axes {-rank} to {rank - 1}", shapes)
        axis = self.axis % rank
        merged: list[int | None] = []
        for i, sizes in enumerate(zip(*shapes, strict=True)):
            known = {s for s in sizes if s is not None}
            if i == axis:
                merged.append(None if None in sizes else sum(s or 0 for s in sizes))
            elif len(known) > 1:
                raise self._misfit(f"joins along axis {self.axis}, so all other axes must agree, but axis {i} does not", shapes)
            else:
                merged.append(known.pop() if known else None)
        return tuple(merged)

    def compute_mask(self, inputs: Any, previous_mask: Any) -> Any:
        """Returns the masks side by side along the axis; along an axis they do not have, a mask that holds where any does."""
        if not isinstance(previous_mask, (list, tuple)) or all(m is None for m in previous_mask):
            return None
        rank = max(len(m.shape) for m in previous_mask if m is not None)
        whole = [_all_true(x, rank) if m is None else m for x, m in zip(inputs, previous_mask, strict=True)]
        axis = self.axis % len(inputs[0].shape)
        return torch.cat(whole, axis) if axis < rank else functools.reduce(torch.logical_or, whole)

    def _output_dtype(self, inputs: Any) -> str:
        return kept_dtype(self, inputs)


def _all_true(x: torch.Tensor, rank: int) -> torch.Tensor:
    """A mask of the first `rank` axes of a tensor that holds everywhere."""
    while len(x.shape) > rank:
        x = x[..., 0]
    return torch.ones_like(x, dtype=torch.bool)


@public("keras.layers.Dot")
class Dot(Merge):
    """The dot products of two inputs along one axis of each, sample by sample.

    Args:
        axes: the axis of both, or a pair of axes.
        normalize: whether the vectors are scaled to length 1 first, so that cosine similarities come out.

    Output shape: `(batch, ...)`, the other axes of the first, then those of the second; `(batch, 1)` where none is left.

    >>> Dot(axes=1)([torch.ones(2, 3), torch.ones(2, 3)]).tolist()
    [[3.0], [3.0]]
    """

    _at_least = _at_most = 2

    def __init__(self, axes: Any, normalize: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not isinstance(axes, (int, list, tuple)):
            raise bad_argument(self, "axes", "an integer or a pair of integers", axes, TypeError)
        if not isinstance(axes, int) and (len(axes) != 2 or not all(isinstance(a, int) for a in axes)):
            raise bad_argument(self, "axes", "an integer or a pair of integers", axes)
        self.axes, self.normalize = axes, normalize

    def _axes(self, shapes: Sequence[Any]) -> tuple[int, int]:
        given = (self.axes, self.axes) if isinstance(self.axes, int) else self.axes
        for axis, shape in zip(given, shapes, strict=True):
            if not -len(shape) <= axis < len(shape):
                raise self._misfit(f"has axes={self.axes}, which its inputs do not all have", shapes)
        first, second = (a % len(s) for a, s in zip(given, shapes, strict=True))
        if first == 0 or second == 0:
            raise self._misfit("works sample by sample, so axis 0, the batch, cannot be summed over", shapes)
        return first, second

    def _merged_shape(self, shapes: list[tuple[int | None, ...]]) -> tuple[int | None, ...]:
        a, b = self._axes(shapes)
        x, y = shapes
        if x[a] is not None and y[b] is not None and x[a] != y[b]:
            raise self._misfit(f"sums over axes {a} and {b}, whose sizes differ ({x[a]} and {y[b]})", shapes)
        if x[0] is not None and y[0] is not None and x[0] != y[0]:
            raise self._misfit("takes tensors with the same batch size", shapes)
        left = (x[0] if x[0] is not None else y[0], *x[1:a], *x[a + 1 :], *y[1:b], *y[b + 1 :])
        return left if len(left) > 1 else (*left, 1)

    def call(self, inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        """Returns the dot products."""
        x, y = self._parts(inputs)
        a, b = self._axes((x.shape, y.shape))
        if self.normalize:
            x, y = F.normalize(x, dim=a, eps=1e-6), F.normalize(y, dim=b, eps=1e-6)
        letters = iter("bcdefghijklmnopqrstuvwxy")
        first = ["a" if i == 0 else "z" if i == a else next(letters) for i in range(x.dim())]
        second = ["a" if i == 0 else "z" if i == b else next(letters) for i in range(y.dim())]
        left = [c for c in first + second[1:] if c != "z"]
        z = torch.einsum(f"{''.join(first)},{''.join(second)}->{''.join(left)}", x, y)
        return z if len(left) > 1 else z.unsqueeze(1)

    def compute_mask(self, inputs: Any, previous_mask: Any) -> None:
        """Returns None: positions of the inputs are none of the output's."""
        return
