"""One generated file: what it imports, the functions and classes it defines, and its main part."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hornbeam.export.folding import Function
from hornbeam.export.layout import wrapped
from hornbeam.export.naming import Names, class_name, identifier
from hornbeam.export.objects import Objects

_IMPORTS = {
    "base64": "import base64", "math": "import math", "zlib": "import zlib",
    "torch": "import torch", "F": "import torch.nn.functional as F", "nn": "from torch import nn",
    "numpy": "import numpy as np",
    "keras": "import hornbeam as keras", "layers": "from hornbeam import layers",
}  # fmt: skip
_SAME = {
    "import torch.nn as nn": "nn", "import hornbeam.layers as layers": "layers",
}  # fmt: skip
_STANDARD = ("base64", "math", "zlib")


class File:
    """Collects the parts of a file.

    Args:
        header: the docstring's lines.
        write_nested: writes a function (or class) that makes a nested model, from (file, model, name).
    """

    def __init__(self, header: list[str], write_nested: Callable[[File, Any, str], str]) -> None:
        self.header = header
        self.names = Names()
        self.objects = Objects(self.names)
        self.functions: list[Function] = []
        self.definitions: list[str] = []
        self.main: list[str] = []
        self.function_text: Callable[[File, Function], str] = lambda file, function: ""
        self.masked: set[int] = set()  # nested models that a mask reaches
        self._nested: dict[int, tuple[str, Any]] = {}
        self._write_nested = write_nested

    def model_function(self, model: Any, masked: bool = False) -> str:
        """Returns the call of the function that makes a nested model, which a mask may reach."""
        self.masked.update([id(model)] if masked else [])
        if id(model) not in self._nested:
            name = self.names.take(f"make_{identifier(model.name if getattr(model, '_named', False) else 'part', 'part')}")
            self._nested[id(model)] = (name, model)
            self.definitions.append(self._write_nested(self, model, name))
        return f"{self._nested[id(model)][0]}()"

    def model_class(self, model: Any) -> str:
        """Returns the name of the class that is a nested model."""
        if id(model) not in self._nested:
            name = self.names.take(class_name(model.name if getattr(model, "_named", False) else "Part", "Part"))
            self._nested[id(model)] = (name, model)
            self.definitions.append(self._write_nested(self, model, name))
        return self._nested[id(model)][0]

    def busy(self) -> set[str]:
        """The names that values may not have."""
        return self.names.taken - {"x", "y", "z"}

    def text(self) -> str:
        """Returns the file."""
        functions = [self.function_text(self, f) for f in self.functions]
        copies = list(dict.fromkeys(self.objects.own.copies))
        parts = [*copies, *functions, *self.definitions]
        blocks = [*self._head(), *("\n\n" + p for p in parts)]
        body = "\n".join(self.main)
        if parts and body:
            body = "\n\n" + body
        elif body:
            body = "\n" + body
        return "\n".join([*blocks, body]).rstrip() + "\n"

    def _head(self) -> list[str]:
        made = ['"""' + self.header[0]]
        if len(self.header) > 1:
            made += ["", *self.header[1:], '"""']
        else:
            made[0] += '"""'
        own = [i for i in self.objects.own.imports if i not in _SAME and i not in _IMPORTS.values()]
        self.objects.need(*(_SAME[i] for i in self.objects.own.imports if i in _SAME))
        self.objects.need(*(k for k, i in _IMPORTS.items() if i in self.objects.own.imports))
        known = [k for k in _IMPORTS if k in self.objects.imports]
        groups = [
            [_IMPORTS[k] for k in known if k in _STANDARD],
            [_IMPORTS[k] for k in known if k not in _STANDARD],
            own,
        ]
        for group in groups:
            if group:
                made += ["", *_sorted(dict.fromkeys(group))]
        return made


def _sorted(lines: Any) -> list[str]:
    """Import lines in order, those from one module as one."""
    plain = sorted(line for line in lines if not line.startswith("from "))
    found: dict[str, list[str]] = {}
    for line in lines:
        if line.startswith("from "):
            module, _, names = line.removeprefix("from ").partition(" import ")
            found.setdefault(module, []).append(names)
    return [*plain, *(wrapped(f"from {m} import {', '.join(sorted(found[m]))}") for m in sorted(found))]
