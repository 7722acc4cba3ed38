"""Numbers as people read them: bytes in powers of 1024 (as Keras's summaries do), counts in powers of 1000."""

from __future__ import annotations

import re

_BYTES = ("B", "KB", "MB", "GB", "TB")
_COUNTS = ("", " k", " M", " G", " T", " P")


def memory_text(size: float) -> str:
    """Returns a number of bytes as Keras shows it.

    >>> memory_text(1109032)
    '1.06 MB'
    """
    for unit in _BYTES:
        if size < 1024 or unit == _BYTES[-1]:
            return f"{size:.2f} {unit}"
        size /= 1024
    raise AssertionError


def short_memory(size: float) -> str:
    """Returns a number of bytes with three digits.

    >>> short_memory(1109032), short_memory(12), short_memory(0)
    ('1.06 MB', '12 B', '0 B')
    """
    value, unit = _scaled(size, 1024, len(_BYTES))
    return f"{value} {_BYTES[unit]}"


def count_text(count: float) -> str:
    """Returns a count with three digits and k, M, G or T for a thousand, a million and so on.

    >>> count_text(4089184256), count_text(950), count_text(0)
    ('4.09 G', '950', '0')
    """
    value, unit = _scaled(count, 1000, len(_COUNTS))
    return f"{value}{_COUNTS[unit]}"


def time_text(seconds: float) -> str:
    """Returns a duration with three digits.

    >>> time_text(0.01234), time_text(2.5), time_text(0.0000042)
    ('12.3 ms', '2.50 s', '4.20 µs')
    """
    for limit, factor, unit in ((0.9995e-3, 1e6, "µs"), (0.9995, 1e3, "ms")):
        if seconds < limit:
            return f"{_digits(seconds * factor, True)} {unit}"
    return f"{_digits(seconds, True)} s"


def _scaled(value: float, base: int, units: int) -> tuple[str, int]:
    """A value in the largest of some units that leaves it at least 1, and the number of that unit."""
    unit = 0
    while value >= base - 0.5 and unit < units - 1:
        value, unit = value / base, unit + 1
    return _digits(value, unit > 0), unit


def _digits(value: float, fraction: bool) -> str:
    if not fraction or value >= 99.95:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 9.995 else f"{value:.2f}"


def bytes_of(memory: int | float | str) -> int:
    """Returns how many bytes are meant by a number or by text such as "8 GB" or "512 MiB"; units are powers of 1024.

    >>> bytes_of("8 GB") == 8 * 1024**3
    True
    """
    if isinstance(memory, (int, float)) and not isinstance(memory, bool):
        return int(memory)
    found = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*([KMGT]?)i?B?\s*", memory, re.IGNORECASE) if isinstance(memory, str) else None
    if found is None:
        raise ValueError(f'memory is a number of bytes or text such as "8 GB" or "512 MB". Received: {memory!r}')
    return int(float(found[1]) * 1024 ** " KMGT".index(found[2].upper() or " "))
