"""Nests of values, as `keras.tree` has them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hornbeam.graph.tree import leaves, pack


def flatten(structure: Any) -> list[Any]:
    """Returns the leaves of a nest, dicts by sorted key.

    >>> flatten({"b": 1, "a": [2, 3]})
    [2, 3, 1]
    """
    return leaves(structure)


def is_nested(structure: Any) -> bool:
    """Returns whether something is a list, tuple or dict."""
    return isinstance(structure, (list, tuple, dict))


def map_structure(func: Callable[..., Any], *structures: Any) -> Any:
    """Returns the nest with `func` applied to corresponding leaves of one or more nests of the same structure.

    >>> map_structure(lambda a, b: a + b, [1, 2], [3, 4])
    [4, 6]
    """
    assert_same_structure_all(structures)
    return pack(structures[0], [func(*values) for values in zip(*map(leaves, structures), strict=True)])


def pack_sequence_as(structure: Any, flat_sequence: list[Any]) -> Any:
    """Returns a nest of the given structure with the leaves of a flat list."""
    count = len(leaves(structure))
    if count != len(flat_sequence):
        raise ValueError(f"pack_sequence_as: the structure has {count} leaves, the list {len(flat_sequence)}.")
    return pack(structure, list(flat_sequence))


def assert_same_structure(a: Any, b: Any, check_types: bool = True) -> None:
    """Raises a ValueError unless two nests have the same structure."""
    if is_nested(a) != is_nested(b):
        raise ValueError(f"The nests differ: {a!r} and {b!r}.")
    if not is_nested(a):
        return
    if isinstance(a, dict) != isinstance(b, dict) or len(a) != len(b) or (check_types and type(a) is not type(b)):
        raise ValueError(f"The nests differ: {a!r} and {b!r}.")
    if isinstance(a, dict):
        if set(a) != set(b):
            raise ValueError(f"The nests differ: keys {sorted(a)} and {sorted(b)}.")
        pairs = [(a[k], b[k]) for k in a]
    else:
        pairs = list(zip(a, b, strict=True))
    for left, right in pairs:
        assert_same_structure(left, right, check_types)


def assert_same_structure_all(structures: tuple[Any, ...]) -> None:
    """Raises a ValueError unless all nests have the same structure."""
    for other in structures[1:]:
        assert_same_structure(structures[0], other, check_types=False)


def traverse(func: Callable[[Any], Any], structure: Any, top_down: bool = True) -> Any:
    """Applies `func` to every nest and leaf; where it returns something, that takes the place."""
    if top_down:
        found = func(structure)
        if found is not None:
            return found
    if isinstance(structure, dict):
        structure = {k: traverse(func, v, top_down) for k, v in structure.items()}
    elif isinstance(structure, (list, tuple)):
        structure = type(structure)(traverse(func, v, top_down) for v in structure)
    if not top_down:
        found = func(structure)
        if found is not None:
            return found
    return structure
