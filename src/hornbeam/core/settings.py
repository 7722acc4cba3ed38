"""Process-wide settings, as `keras.config` has them: float type, epsilon, image layout, traceback filtering."""

from __future__ import annotations

import os

from hornbeam.graph import errors

_FLOATS = ("bfloat16", "float16", "float32", "float64")
_settings: dict[str, object] = {
    "floatx": "float32",
    "epsilon": 1e-7,
    "image_data_format": "channels_last",
    "traceback_filtering": True,
    "interactive_logging": True,
    "max_epochs": os.environ.get("KERAS_MAX_EPOCHS") or None,
    "max_steps_per_epoch": os.environ.get("KERAS_MAX_STEPS_PER_EPOCH") or None,
}


def floatx() -> str:
    """Returns the default float type as a string.

    >>> floatx()
    'float32'
    """
    return str(_settings["floatx"])


def set_floatx(value: str) -> None:
    """Sets the default float type: 'bfloat16', 'float16', 'float32' or 'float64'."""
    if value not in _FLOATS:
        raise ValueError(f"set_floatx takes one of {', '.join(_FLOATS)}. Received: {value!r}")
    _settings["floatx"] = value


def epsilon() -> float:
    """Returns the fuzz factor used in numeric expressions (1e-7 unless set).

    >>> epsilon()
    1e-07
    """
    return float(_settings["epsilon"])  # type: ignore[arg-type]


def set_epsilon(value: float) -> None:
    """Sets the fuzz factor used in numeric expressions."""
    _settings["epsilon"] = float(value)


def image_data_format() -> str:
    """Returns 'channels_last' or 'channels_first', the default layout of images."""
    return str(_settings["image_data_format"])


def set_image_data_format(data_format: str) -> None:
    """Sets the default layout of images."""
    _settings["image_data_format"] = standardize_data_format(data_format)


def standardize_data_format(data_format: str | None) -> str:
    """Returns a checked data format, the default where None is given."""
    if data_format is None:
        return image_data_format()
    given = str(data_format).lower()
    if given not in ("channels_last", "channels_first"):
        raise ValueError(f"data_format must be 'channels_last' or 'channels_first'. Received: {data_format!r}")
    return given


def enable_traceback_filtering() -> None:
    """Hides the frames of Hornbeam and torch in tracebacks (the default)."""
    errors.set_filtering(True)
    _settings["traceback_filtering"] = True


def disable_traceback_filtering() -> None:
    """Shows every frame in tracebacks."""
    errors.set_filtering(False)
    _settings["traceback_filtering"] = False


def is_traceback_filtering_enabled() -> bool:
    """Returns whether Hornbeam's own frames are hidden in tracebacks."""
    return bool(_settings["traceback_filtering"])


def enable_interactive_logging() -> None:
    """Shows progress on the terminal (the default)."""
    _settings["interactive_logging"] = True


def disable_interactive_logging() -> None:
    """Sends progress to the logging module instead of the terminal."""
    _settings["interactive_logging"] = False


def is_interactive_logging_enabled() -> bool:
    """Returns whether progress is shown on the terminal."""
    return bool(_settings["interactive_logging"])


def max_epochs() -> int | None:
    """Returns the most epochs that any `fit` runs, or None. The environment's KERAS_MAX_EPOCHS sets it at the start."""
    return _limit("max_epochs")


def set_max_epochs(max_epochs: int | None) -> None:
    """Limits the epochs of every `fit`, to try a whole program out in a short time; None lifts the limit."""
    _set_limit("max_epochs", max_epochs)


def max_steps_per_epoch() -> int | None:
    """Returns the most steps of any epoch, evaluation or prediction, or None. KERAS_MAX_STEPS_PER_EPOCH sets it at the start."""
    return _limit("max_steps_per_epoch")


def set_max_steps_per_epoch(max_steps_per_epoch: int | None) -> None:
    """Limits the steps of every epoch, evaluation and prediction; None lifts the limit."""
    _set_limit("max_steps_per_epoch", max_steps_per_epoch)


def limited_steps(steps: int | None, there_are: int | None) -> int | None:
    """Returns the steps to make where `steps` are asked for (None: all there are) and max_steps_per_epoch is set."""
    limit = max_steps_per_epoch()
    return steps if limit is None else min(steps or limit, there_are or limit, limit)


def _limit(name: str) -> int | None:
    value = _settings[name]
    return None if value is None else int(value)  # type: ignore[call-overload, no-any-return]


def _set_limit(name: str, value: int | None) -> None:
    if value is not None and (not isinstance(value, int) or value < 1):
        raise ValueError(f"set_{name} takes a whole number of at least 1, or None. Received: {value!r}")
    _settings[name] = value
