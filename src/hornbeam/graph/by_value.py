"""Functions whose output sizes depend on values, so that no shape inference can know them: those axes vary."""

from __future__ import annotations

from typing import Any

from hornbeam.graph import tree
from hornbeam.graph.node import UNKNOWN_SIZES, Node, Ref, Spec

_FIRST_AXIS = frozenset(
    "nonzero argwhere masked_select unique unique_consecutive unique_dim bincount histc_by_value _unique _unique2".split()
)


_PIECES = {"split": 2, "chunk": 2, "unbind": 1, "unsafe_split": 2, "unsafe_chunk": 2, "split_with_sizes": 2}


def check_pieces(function: Any, args: Any, kwargs: dict[str, Any]) -> None:
    """Raises where a call would return as many tensors as a varying axis says."""
    name = getattr(function, "__name__", "")
    if name not in _PIECES or not args or not hasattr(args[0], "shape"):
        return
    place = _PIECES[name]
    axis = kwargs.get("dim", kwargs.get("axis", args[place] if len(args) > place else 0))
    if isinstance(axis, int) and args[0].shape and args[0].shape[axis] is None:
        raise TypeError(
            f"`{name}` along axis {axis} of a symbolic tensor of shape {args[0].shape}: that axis varies, so the number of "
            f"results is not known. Work on the whole tensor, or split along an axis of known size."
        )


def free_axes(node: Node, result: Any) -> None:
    """Marks as varying the axes of a node's outputs whose sizes depend on values."""
    name = getattr(node.target, "__name__", "")
    if name in _FIRST_AXIS:
        _free(node, 0)
    elif name == "one_hot" and (len(node.args) < 2 or node.args[1] == -1) and node.kwargs.get("num_classes", -1) == -1:
        _free(node, -1)
    elif name == "__getitem__":
        place = _mask_place(node.args[1])
        if place is not None:
            _free(node, place)
    elif name == "repeat_interleave" and any(type(v) is Ref for v in tree.leaves((node.args[1:], node.kwargs))):
        axis = node.kwargs.get("dim", node.args[2] if len(node.args) > 2 else None)
        if node.kwargs.get("output_size") is None:
            _free(node, 0 if axis is None else axis)


def _mask_place(index: Any) -> int | None:
    """The output axis that a boolean mask in an index makes, or None where there is no mask."""
    parts = index if isinstance(index, tuple) else (index,)
    masks = [i for i, p in enumerate(parts) if _dtype(p) == "bool"]
    if not masks:
        return None
    return masks[0] if all(isinstance(p, slice) for p in parts[: masks[0]]) else 0


def _dtype(value: Any) -> str:
    if type(value) is Ref:
        return value.spec.dtype
    return str(getattr(value, "dtype", "")).removeprefix("torch.")


def _free(node: Node, axis: int) -> None:
    for i, spec in enumerate(node.outputs):
        if spec.is_number or not spec.shape:
            continue
        at = axis % len(spec.shape)
        shape = tuple(None if j == at else d for j, d in enumerate(spec.shape))
        sizes = (0, 0) if at == 0 else UNKNOWN_SIZES
        samples = tuple(
            tuple(size if j == at else d for j, d in enumerate(spec.samples[min(k, len(spec.samples) - 1)]))
            for k, size in enumerate(sizes)
        )
        node.outputs[i] = Spec(shape, spec.dtype, samples)
