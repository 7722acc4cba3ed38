"""Checks of what optimizers are made with."""

from __future__ import annotations

import warnings
from typing import Any

from hornbeam.core.errors import did_you_mean
from hornbeam.core.init_args import signature_names

_SPELLINGS = {"lr": "learning_rate", "eps": "epsilon", "betas": "beta_1", "wd": "weight_decay", "alpha": "rho"}


def check_range(optimizer: Any, name: str, value: float, low: float = 0.0, high: float = 1.0) -> None:
    """Raises where an argument is outside [low, high]."""
    if not isinstance(value, (int, float)) or not low <= value <= high:
        raise ValueError(f"{name} of {type(optimizer).__name__} must be in the range [{low:g}, {high:g}]. Received: {value!r}")


def check_unknown(cls: type, given: dict[str, Any]) -> None:
    """Raises for keyword arguments that an optimizer does not take, naming the ones that come near."""
    if "decay" in given:
        given.pop("decay")
        warnings.warn("`decay` is ignored: pass a schedule as learning_rate instead.", stacklevel=4)
    if not given:
        return
    known = signature_names(cls)
    parts = []
    for name in given:
        meant = _SPELLINGS.get(name)
        hint = f" Did you mean {meant!r}?" if meant in known else did_you_mean(name, known)
        parts.append(f"{name!r}.{hint}")
    raise TypeError(f"{cls.__name__} got an argument it does not know: {' '.join(parts)} It takes: {', '.join(known)}.")
