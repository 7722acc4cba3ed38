"""What a summary points out: a layer that holds an absurd share of the weights, weights that two layers share."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import nn

from hornbeam.graph.graph import Graph
from hornbeam.inspect.table import Row, rows_of, weights_of
from hornbeam.inspect.units import memory_text

# A dense layer after a Flatten is pointed out from here on; any other layer but a table of embeddings, from there on.
_SHARE_FLAT, _BYTES_FLAT = 0.9, 100 * 2**20
_SHARE, _BYTES = 0.98, 2**30
_FLATTENING = ("flatten", "reshape", "view", "ravel")


def size_of(weights: list[torch.Tensor]) -> int:
    """Returns the bytes of some weights."""
    return sum(w.numel() * w.element_size() for w in weights)


def absurd_share(model: nn.Module, graph: Graph | None) -> str | None:
    """Returns a line on the layer that holds nearly all weights of a large model, with what to do; mostly None.

    Args:
        model: any module.
        graph: its graph, where it has one.
    """
    weights = weights_of(model)
    whole = size_of(weights)
    if whole < _BYTES_FLAT:
        return None
    heaviest = max(_leaves(model), key=lambda m: _own_size(m), default=None)
    others = [m for m in _leaves(model) if m is not heaviest and _own_size(m)]
    if heaviest is None or not others or "Embedding" in type(heaviest).__name__:
        return None
    size = _own_size(heaviest)
    if size < _SHARE_FLAT * whole:
        return None
    rows = rows_of(model, expand_nested=True, graph=graph)[0]
    name = next((r.name for r in rows if r.module is heaviest), type(heaviest).__name__)
    flat = _flatten_before(heaviest, rows)
    count = sum(w.numel() for w in weights)
    told = f"{name!r} holds {min(100 * size / whole, 99.9):.1f} % of the {count:,} weights ({memory_text(size)})"
    if flat is not None:
        row, axes = flat
        channels = axes[-1] if _is_channels_last(row.module) else axes[0]
        inputs = f"leaves it {channels:,} of {math.prod(axes):,} inputs"
        return f"{told}: {_pooling(row.module, len(axes))} instead of {row.name!r} {inputs}."
    return f"{told}." if size >= _SHARE * whole and size >= _BYTES else None


def _leaves(model: nn.Module) -> Iterator[nn.Module]:
    return (m for m in model.modules() if any(len(dict.keys(m.__dict__[slot])) for slot in ("_parameters", "_buffers")))


def _own_size(module: nn.Module) -> int:
    return size_of([w for w in dict.values(module.__dict__["_parameters"]) if w is not None])


def _flatten_before(layer: nn.Module, rows: list[Row]) -> tuple[Row, tuple[int, ...]] | None:
    """The row that flattens most of what a layer takes, and the shape of one sample that it flattens."""
    matrices = [w.shape for w in dict.values(layer.__dict__["_parameters"]) if w is not None and w.dim() == 2]
    for row in reversed(rows) if matrices else ():
        flattens = row.kind == "Flatten" or row.name.split("_")[0].lower() in _FLATTENING
        if not flattens or not row.nodes or not row.nodes[0].refs():
            continue
        before, after = row.nodes[0].refs()[0].spec.shape, row.nodes[0].outputs[0].shape
        known = None not in before[1:] and after[-1] is not None
        if known and len(before) > 2 and len(after) == 2 and 2 * after[-1] >= max(map(max, matrices)):  # type: ignore[operator]
            return row, before[1:]  # type: ignore[return-value]
    return None


def _is_channels_last(flatten: nn.Module | None) -> bool:
    return flatten is not None and type(flatten).__module__.startswith("hornbeam.") and (
        getattr(flatten, "data_format", None) != "channels_first"
    )


def _pooling(flatten: nn.Module | None, axes: int) -> str:
    rank = axes - 1
    if flatten is not None and type(flatten).__module__.startswith("hornbeam."):
        return f"GlobalAveragePooling{rank}D" if 1 <= rank <= 3 else "a mean over the inner axes"
    return f"nn.AdaptiveAvgPool{rank}d(1) before a flatten" if 1 <= rank <= 3 else "a mean over the inner axes"


def ties(rows: list[Row]) -> dict[int, str]:
    """Returns, by the place of the row, the name of the earlier row that has some of the same weights.

    A nested model and the layers inside it are no tie.
    """
    owned = [weights_of(r.module) if r.module is not None else [] for r in rows]
    flat = [w for row, weights in zip(rows, owned, strict=True) for w in weights if row.depth == 0]
    if len({id(w) for w in flat}) == len(flat) and all(r.depth == 0 for r in rows):
        return {}
    found: dict[int, str] = {}
    first: dict[int, list[Row]] = {}
    around: list[Row] = []
    for place, (row, weights) in enumerate(zip(rows, owned, strict=True)):
        around = [r for r in around if r.depth < row.depth]
        for weight in weights:
            before = first.setdefault(id(weight), [])
            other = next((r for r in before if not any(r is a for a in around)), None)
            if other is not None:
                found.setdefault(place, other.name)
            before.append(row)
        around.append(row)
    return found
