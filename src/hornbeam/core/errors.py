"""Sentences that errors share: closest spellings, unknown arguments, short descriptions of values."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any


def closest(word: str, known: Iterable[str], count: int = 3) -> list[str]:
    """Returns the spellings in `known` that come nearest to `word`, best first."""
    spellings: dict[str, list[str]] = {}
    for k in known:
        spellings.setdefault(k.lower().replace("_", ""), []).append(k)
    found = difflib.get_close_matches(word.lower().replace("_", ""), spellings, n=count, cutoff=0.6)
    return [max(spellings[f], key=lambda k: difflib.SequenceMatcher(None, word, k).ratio()) for f in found]


def did_you_mean(word: Any, known: Iterable[str]) -> str:
    """Returns " Did you mean 'a' or 'b'?", or an empty string where nothing comes near."""
    if not isinstance(word, str):
        return ""
    found = closest(word, known)
    return f" Did you mean {' or '.join(map(repr, found))}?" if found else ""


def unknown_arguments(owner: str, given: Iterable[str], known: Iterable[str]) -> TypeError:
    """Returns the error for keyword arguments that `owner` does not take."""
    known = list(known)
    parts = [f"{g!r}.{did_you_mean(g, known)}" for g in given]
    return TypeError(f"{owner} got an argument it does not know: {' '.join(parts)} It takes: {', '.join(known)}.")


def bad_argument(layer: Any, name: str, expected: str, value: Any, error: type[Exception] = ValueError) -> Exception:
    """Returns the error for a layer's constructor argument: which layer and argument, what it must be, what came."""
    kind, way = type(layer).__name__, ""
    shown = f"{value!r}" if isinstance(value, (int, float, str, tuple, list)) else f"{value!r} ({type(value).__name__})"
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        shown, way = describe(value), f". Make the layer before you call it: {kind}({name})(x)"
    return error(f"{kind} layer {layer.name!r}: `{name}` must be {expected}. Received: {name}={shown}{way}")


def describe(value: Any) -> str:
    """Returns a short description of a value for an error: its type, and shape and dtype where it has them."""
    shape = getattr(value, "shape", None)
    if shape is not None:
        dtype = str(getattr(value, "dtype", "")).removeprefix("torch.")
        return f"{type(value).__name__} of shape {tuple(shape)}" + (f" and dtype {dtype}" if dtype else "")
    text = repr(value)
    return f"{text if len(text) <= 80 else text[:77] + '...'} ({type(value).__name__})"
