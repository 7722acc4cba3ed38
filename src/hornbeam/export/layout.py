"""Long lines broken over several, as `ruff format` breaks them."""

from __future__ import annotations

import re
from collections.abc import Iterator

WIDTH = 100
_TOKEN = re.compile(
    r"""("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|[][(){},])"""  # strings whole, so that no bracket in one counts
)


def wrapped(line: str, width: int = WIDTH) -> str:
    """Returns a statement on one line, or broken at its brackets where it is longer than `width`.

    >>> print(wrapped("x = layers.Dense(16, activation='relu')(x)", width=30))
    x = layers.Dense(
        16, activation='relu'
    )(x)
    """
    return "\n".join(_split(line, width))


def _split(line: str, width: int, last: str = "") -> list[str]:
    """The lines for a statement, of which the last one is to end in `last`."""
    if len(line) + len(last) <= width:
        return [line + last]
    indent = line[: len(line) - len(line.lstrip())]
    groups = _groups(line)
    if not groups:
        return [line + last]
    open_, close = next((g for g in groups if g[0] < width), groups[-1])
    head, body, tail = line[: open_ + 1], line[open_ + 1 : close], line[close:]
    inner = indent + "    "
    parts = list(_parts(body))
    trailing = body.rstrip().endswith(",")
    if len(inner + body) <= width and not trailing and (len(parts) == 1 or _may_hug(line, open_)):
        return [head, inner + body, indent + tail + last]
    made: list[str] = [head]
    for part in parts:
        made.extend(_split(inner + part, width, "," if _takes_comma(parts, line, open_) else ""))
    return [*made, indent + tail + last]


def _may_hug(line: str, open_: int) -> bool:
    """Whether what is between these brackets may stand on one line of its own: arguments may, items of a display may not."""
    return line[open_] == "(" and open_ > 0 and (line[open_ - 1].isalnum() or line[open_ - 1] in "_)]")


def _takes_comma(parts: list[str], line: str, open_: int) -> bool:
    return len(parts) > 1 or not _may_hug(line, open_)


def _groups(line: str) -> list[tuple[int, int]]:
    """The bracket pairs that end the statement, the last one first: those of `f(a)(b)` and `f(a).g(b):`."""
    stack: list[int] = []
    pairs: list[tuple[int, int]] = []
    for found in _TOKEN.finditer(line):
        token = found.group()
        if token in "([{":
            stack.append(found.start())
        elif token in ")]}":
            start = stack.pop()
            if not stack:
                pairs.append((start, found.start()))
    if not pairs or line[pairs[-1][1] + 1 :].strip() not in ("", ":"):
        return []
    groups = [pairs[-1]]
    for pair in reversed(pairs[:-1]):
        if not re.fullmatch(r"(\.\w+)?", line[pair[1] + 1 : groups[-1][0]]):
            break
        groups.append(pair)
    return [g for g in groups if g[1] > g[0] + 1]


def _parts(body: str) -> Iterator[str]:
    """The items between commas, at the outermost level."""
    depth, start = 0, 0
    for found in _TOKEN.finditer(body):
        token = found.group()
        if token in "([{":
            depth += 1
        elif token in ")]}":
            depth -= 1
        elif token == "," and depth == 0:
            yield body[start : found.start()].strip()
            start = found.end()
    rest = body[start:].strip()
    if rest:
        yield rest
