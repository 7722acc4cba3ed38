"""One generated file: what it imports, the functions and classes it defines, and its main part."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hornbeam.export.code import Code, Hole, code
from hornbeam.export.folding import Function
from hornbeam.export.layout import wrapped
from hornbeam.export.naming import Names, class_name, identifier, quoted
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
_NAME = "\0"  # where the name of a definition goes
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
        self.values: set[str] = set()  # names of the main part's inputs, which a function may use for its own
        self._nested: dict[int, tuple[str, Any]] = {}
        self._bodies: dict[str, str] = {}  # text of a function or class without its name -> name
        self._copied: dict[int, bool] = {}
        self._write_nested = write_nested

    def note(self, line: str) -> None:
        """Adds a line to the file's docstring, once."""
        if line not in self.header:
            self.header.append(line)

    def look_for_copies(self, module: Any) -> None:
        """Finds nested models that seem alike, which one function with their name as a parameter may make."""
        alike: dict[Any, list[Any]] = {}
        for child in module.modules():
            graph = getattr(child, "graph", None)
            if child is not module and graph is not None and getattr(child, "_named", False):
                shape = tuple((n.kind, str(getattr(n.target, "__name__", "")), len(n.args)) for n in graph.calls())
                alike.setdefault(shape, []).append(child)
        self._copied = {id(m): True for found in alike.values() if len(found) > 1 for m in found}

    def has_copies(self, model: Any) -> bool:
        """Whether the function for a nested model takes its name."""
        return id(model) in self._copied

    def name_in(self, model: Any) -> str:
        """What a model's function calls the model's name: its parameter `name`; nothing where it takes none."""
        return "name" if self.has_copies(model) else ""

    def model_function(self, model: Any, masked: bool = False) -> Code:
        """Returns the call of the function that makes a nested model, which a mask may reach."""
        self.masked.update([id(model)] if masked else [])
        own = model.name if getattr(model, "_named", False) else "part"
        name = self._definition(model, lambda: f"make_{identifier(self._stem(model, own), 'part')}")
        return code(f"{name}(", *([Hole(quoted(model.name), "name")] if self.has_copies(model) else []), ")")

    def model_class(self, model: Any) -> str:
        """Returns the name of the class that is a nested model."""
        own = model.name if getattr(model, "_named", False) else "Part"
        return self._definition(model, lambda: class_name(self._stem(model, own), "Part"))

    def _stem(self, model: Any, name: str) -> str:
        """The name of a nested model, without its number where it has copies."""
        return name.rstrip("0123456789_-/ ") or name if self.has_copies(model) else name

    def _definition(self, model: Any, wanted: Callable[[], str]) -> str:
        if id(model) not in self._nested:
            body = self._write_nested(self, model, _NAME)
            if body not in self._bodies:
                self._bodies[body] = self.names.take(wanted())
                self.definitions.append(body.replace(_NAME, self._bodies[body]))
            self._nested[id(model)] = (self._bodies[body], model)
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
