"""Keyword arguments that a function does not take: an error that names the ones it takes, without a frame around the function."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from hornbeam.core.errors import unknown_arguments

F = TypeVar("F", bound=Callable[..., Any])


def strict(function: F) -> F:
    """Lets a function with `**others` show its signature without them; it is to hand them to `refuse`.

    >>> @strict
    ... def shift(x, by=1, **others):
    ...     refuse(shift, others)
    ...     return x + by
    >>> inspect.signature(shift)
    <Signature (x, by=1)>
    """
    signature = inspect.signature(function)
    kept = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
    function.__signature__ = signature.replace(parameters=kept)  # type: ignore[attr-defined]
    return function


def refuse(function: Callable[..., Any], others: Iterable[str]) -> None:
    """Raises a TypeError with the closest spellings, if there are keyword arguments that a function does not take."""
    if others:
        raise unknown_arguments(f"`{function.__name__}`", others, names_of(function))


def names_of(function: Callable[..., Any]) -> list[str]:
    """Returns the names of a function's arguments, without `self`."""
    return [n for n in inspect.signature(function).parameters if n != "self"]
