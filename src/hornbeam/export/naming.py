"""Identifiers and literals of generated source: every name is of our own making, every foreign text is a quoted literal."""

from __future__ import annotations

import builtins
import keyword
import math
import re
from typing import Any

import torch

RESERVED = frozenset((*keyword.kwlist, *keyword.softkwlist, *dir(builtins), "self", "torch", "nn", "F", "keras", "layers", "np",
                      "hornbeam", "model", "ops", "base64", "load"))  # fmt: skip


def identifier(text: Any, default: str = "value") -> str:
    """Returns a lower-case Python name made of the letters, digits and underscores of a text.

    >>> identifier("Encoder/block 1"), identifier('x"); import os #'), identifier("class"), identifier("3d")
    ('encoder_block_1', 'x_import_os', 'class_', 'value_3d')
    """
    kept = re.sub(r"_+", "_", re.sub(r"[^0-9A-Za-z_]", "_", str(text)[:200])).strip("_").lower()[:40].strip("_")
    if not kept:
        return default
    if kept[0].isdigit():
        kept = f"{default}_{kept}"
    return f"{kept}_" if kept in RESERVED else kept


def class_name(text: Any, default: str = "Model") -> str:
    """Returns a class name made of a text.

    >>> class_name("final_model"), class_name("ResNet-50"), class_name("3 towers")
    ('FinalModel', 'ResNet50', 'Model3Towers')
    """
    words = re.findall(r"[0-9A-Za-z]+", str(text)[:200])
    made = "".join(w[0].upper() + w[1:] for w in words)[:40]
    if not made:
        return default
    if made[0].isdigit():
        made = default + made
    return f"{made}_" if keyword.iskeyword(made) or made in RESERVED else made


class Names:
    """Hands out names, each once.

    >>> names = Names(); names.take("x"), names.take("x")
    ('x', 'x_2')
    """

    def __init__(self, taken: Any = ()) -> None:
        self.taken = set(taken) | RESERVED

    def take(self, wanted: str) -> str:
        """Returns the name, numbered where it is taken."""
        name, count = wanted, 1
        while name in self.taken:
            count += 1
            name = f"{wanted}_{count}"
        self.taken.add(name)
        return name


def quoted(text: str) -> str:
    """Returns a string literal in double quotes, in ASCII, as formatters write it.

    >>> print(quoted('a"b'), quoted("plain"), quoted("new\\nline"))
    'a"b' "plain" "new\\nline"
    """
    plain = ascii(text)
    inner = plain[1:-1]
    if plain[0] == '"':
        return plain
    if '"' in inner:
        return plain if "\\'" not in inner else '"' + inner.replace("\\'", "'").replace('"', '\\"') + '"'
    return '"' + inner.replace("\\'", "'") + '"'


def literal(value: Any) -> str | None:
    """Returns the Python spelling of a plain value, or None where there is none.

    >>> literal((1, None)), literal({"a": [1.5, True]}), literal(torch.int64), literal(float("inf")), literal(slice(2))
    ('(1, None)', '{"a": [1.5, True]}', 'torch.int64', 'float("inf")', 'slice(None, 2)')
    """
    if value is None or value is True or value is False:
        return str(value)
    if type(value) is str:
        return quoted(value)
    if type(value) in (int, complex):
        return repr(value)
    if type(value) is float:
        return repr(value) if math.isfinite(value) else f'float("{value}")'
    if value is Ellipsis:
        return "..."
    if isinstance(value, (torch.dtype, torch.memory_format, torch.layout)):
        return str(value)
    if isinstance(value, torch.device):
        return f"torch.device({quoted(str(value))})"
    if type(value).__module__ == "numpy" and getattr(value, "shape", None) == ():
        return literal(value.item())
    return _literal_nest(value)


def _literal_nest(value: Any) -> str | None:
    if isinstance(value, slice):
        parts = [literal(v) for v in (value.start, value.stop, value.step)]
        parts = parts if value.step is not None else parts[:2]
        return None if None in parts else f"slice({', '.join(map(str, parts))})"
    if isinstance(value, dict):
        items = [(literal(k), literal(v)) for k, v in value.items()]
        return None if any(None in pair for pair in items) else "{" + ", ".join(f"{k}: {v}" for k, v in items) + "}"
    if isinstance(value, (list, tuple)):
        inner = [literal(v) for v in value]
        if None in inner:
            return None
        joined = ", ".join(map(str, inner))
        return f"[{joined}]" if isinstance(value, list) else f"({joined},)" if len(inner) == 1 else f"({joined})"
    if isinstance(value, (set, frozenset)) and value:
        inner = [literal(v) for v in sorted(value, key=repr)]
        return None if None in inner else "{" + ", ".join(map(str, inner)) + "}"
    return None
