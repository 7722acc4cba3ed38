"""Arguments that the loops do not take: errors that name what they take, without a frame around the functions."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Container, Iterable
from numbers import Integral
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


def check_frequency(every: Any) -> None:
    """Raises where `validation_freq` is neither a positive integer nor a list of epochs."""
    listed = isinstance(every, Container) and not isinstance(every, (str, bytes))
    if not listed and not (isinstance(every, Integral) and not isinstance(every, bool) and int(every) > 0):
        raise ValueError(
            f"`validation_freq` must be a positive integer, or the list of the epochs (from 1) that end with a validation. "
            f"Received: validation_freq={every!r}"
        )
