"""Text in pictures: how wide it is in the font that ships with the package, and how it is shortened and cleaned."""

from __future__ import annotations

import functools
import itertools
import struct
import unicodedata
from pathlib import Path

from hornbeam.core.card import clean as clean

FONTS = {bold: Path(__file__).parent / "fonts" / f"Inter-{'SemiBold' if bold else 'Regular'}.ttf" for bold in (False, True)}
FAMILIES = "Inter, 'Segoe UI', 'Helvetica Neue', Helvetica, Arial, 'Liberation Sans', sans-serif"
OTHERS = (  # for texts that the package's own font does not cover; the first that is installed is taken
    "'Segoe UI', 'Helvetica Neue', 'Noto Sans', 'DejaVu Sans', 'Liberation Sans', Arial, 'Noto Sans CJK SC', 'Microsoft YaHei', "
    "'PingFang SC', sans-serif"
)


@functools.cache
def advances(bold: bool) -> dict[int, float]:
    """Returns the advance width of each character of the font, in ems: read from its `cmap` (format 4) and `hmtx` tables."""
    data = FONTS[bold].read_bytes()
    tables = {}
    for i in range(struct.unpack_from(">H", data, 4)[0]):
        tag, _, offset, _ = struct.unpack_from(">4sLLL", data, 12 + 16 * i)
        tables[tag.decode()] = offset
    em = struct.unpack_from(">H", data, tables["head"] + 18)[0]
    last = struct.unpack_from(">H", data, tables["hhea"] + 34)[0] - 1
    width = lambda glyph: struct.unpack_from(">H", data, tables["hmtx"] + 4 * min(glyph, last))[0] / em  # noqa: E731
    return {code: width(glyph) for code, glyph in _glyphs(data, tables["cmap"]).items()}


def _glyphs(data: bytes, cmap: int) -> dict[int, int]:
    """The glyph number of each character, from a format 4 subtable."""
    tables = struct.unpack_from(">H", data, cmap + 2)[0]
    starts = [cmap + struct.unpack_from(">HHL", data, cmap + 4 + 8 * i)[2] for i in range(tables)]
    at = next(s for s in starts if struct.unpack_from(">H", data, s)[0] == 4)
    count = struct.unpack_from(">H", data, at + 6)[0] // 2
    columns = (at + 14, at + 16 + 2 * count, at + 16 + 4 * count, at + 16 + 6 * count)
    ends, firsts, deltas, offsets = (struct.unpack_from(f">{count}H", data, column) for column in columns)
    found = {}
    for i, (first, end, delta, offset) in enumerate(zip(firsts, ends, deltas, offsets, strict=True)):
        for code in range(first, min(end, 0xFFFE) + 1):
            place = at + 16 + 6 * count + 2 * i + offset + 2 * (code - first)
            glyph = struct.unpack_from(">H", data, place)[0] if offset else code
            if glyph or not offset:
                found[code] = (glyph + delta) & 0xFFFF
    return found


def covered(text: str) -> bool:
    """Returns whether the font has every character of a text."""
    known = advances(False)
    return all(ord(c) in known for c in text)


@functools.lru_cache(maxsize=8192)
def measure(text: str, size: float, bold: bool = False) -> float:
    """Returns how wide a text is.

    >>> round(measure("Dense", 10), 1)
    30.1
    """
    known = advances(bold)
    return size * sum(known.get(ord(c)) or (1.0 if unicodedata.east_asian_width(c) in "WF" else 0.62) for c in text)


def elide(text: str, size: float, bold: bool, room: float) -> str:
    """Returns a text, cut where it is wider than the room."""
    if measure(text, size, bold) <= room:
        return text
    keep = min(len(text), int(room))
    while keep > 2 and measure(text[:keep] + "…", size, bold) > room:
        keep -= 1
    return text[:keep] + "…"


def number(n: int) -> str:
    """Returns a count in three digits.

    >>> number(9248), number(128), number(999_999)
    ('9.25 k', '128', '1 M')
    """
    units = (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3))
    return next((f"{n / size:.3g} {unit}" for unit, size in units if n >= 0.9995 * size), str(n))


def shape_text(shape: tuple[int | None, ...], whole: bool) -> str:
    """Returns a shape as text: as Python writes it, or short and without the batch.

    >>> shape_text((None, 28, 28, 1), False), shape_text((None, 10), True)
    ('28 × 28 × 1', '(None, 10)')
    """
    if whole:
        return str(tuple(shape))
    return " × ".join("?" if d is None else f"{d:,}" for d in shape[1:]) or "scalar"


def counted(texts: list[str]) -> str:
    """Returns texts in one line, those that follow each other unchanged with their number.

    >>> counted(["(None, 6, 4)", "(None, 4)", "(None, 4)"])
    '(None, 6, 4), (None, 4) ×2'
    """
    runs = [(text, len(list(run))) for text, run in itertools.groupby(texts)]
    return ", ".join(text + (f" ×{count}" if count > 1 else "") for text, count in runs)
