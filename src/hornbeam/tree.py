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
            return None if found is MAP_TO_NONE else found
    if isinstance(structure, dict):
        structure = {k: traverse(func, v, top_down) for k, v in structure.items()}
    elif isinstance(structure, (list, tuple)):
        structure = type(structure)(traverse(func, v, top_down) for v in structure)
    if not top_down:
        found = func(structure)
        if found is not None:
            return None if found is MAP_TO_NONE else found
    return structure


class MAP_TO_NONE:
    """What a function given to `traverse` returns where None is to take the place."""


def flatten_with_path(structure: Any) -> list[tuple[tuple[Any, ...], Any]]:
    """Returns the leaves of a nest, each with the keys and indices that lead to it.

    >>> flatten_with_path({"b": 1, "a": [2, 3]})
    [(('a', 0), 2), (('a', 1), 3), (('b',), 1)]
    """
    if not is_nested(structure):
        return [((), structure)]
    keys = sorted(structure) if isinstance(structure, dict) else range(len(structure))
    return [((key, *path), leaf) for key in keys for path, leaf in flatten_with_path(structure[key])]


def assert_same_paths(a: Any, b: Any) -> None:
    """Raises a ValueError unless the same keys and indices lead to the leaves of two nests."""
    here, there = ({path for path, _ in flatten_with_path(nest)} for nest in (a, b))
    if here != there:
        raise ValueError(f"The nests differ: only `a` has the paths {sorted(here - there)}, only `b` {sorted(there - here)}.")


def lists_to_tuples(structure: Any) -> Any:
    """Returns the nest with every list as a tuple.

    >>> lists_to_tuples({"a": [1, [2]]})
    {'a': (1, (2,))}
    """
    if isinstance(structure, dict):
        return {key: lists_to_tuples(part) for key, part in structure.items()}
    return tuple(map(lists_to_tuples, structure)) if isinstance(structure, (list, tuple)) else structure


def map_shape_structure(func: Callable[[Any], Any], structure: Any) -> Any:
    """Returns the nest with `func` applied to every shape, a tuple or list of integers and Nones.

    >>> map_shape_structure(lambda shape: (None, *shape), {"a": (2, 3)})
    {'a': (None, 2, 3)}
    """
    if isinstance(structure, (list, tuple)) and all(size is None or isinstance(size, int) for size in structure):
        return func(tuple(structure))
    if isinstance(structure, dict):
        return {key: map_shape_structure(func, part) for key, part in structure.items()}
    if not is_nested(structure):
        raise ValueError(f"map_shape_structure: a nest of shapes holds {structure!r}, which is none.")
    return type(structure)(map_shape_structure(func, part) for part in structure)


def map_structure_up_to(shallow_structure: Any, func: Callable[..., Any], *structures: Any) -> Any:
    """Returns the nest `shallow_structure` with `func` applied to what stands at its leaves in other nests, which may go deeper.

    >>> map_structure_up_to([0, 0], lambda x: x, [[1, 2], 3])
    [[1, 2], 3]
    """
    found = [_at(structures, path) for path, _ in flatten_with_path(shallow_structure)]
    return pack(shallow_structure, [func(*values) for values in found])


def _at(structures: tuple[Any, ...], path: tuple[Any, ...]) -> list[Any]:
    values = list(structures)
    for key in path:
        for i, value in enumerate(values):
            try:
                values[i] = value[key]
            except (KeyError, IndexError, TypeError):
                raise ValueError(f"map_structure_up_to: nest {i} has nothing at {path}.") from None
    return values
