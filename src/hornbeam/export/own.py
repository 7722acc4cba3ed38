"""The user's own functions and classes in generated source: imported where they can be, else their source is copied."""

from __future__ import annotations

import ast
import builtins
import dis
import inspect
import sys
import textwrap
import types
from typing import Any

from hornbeam.export.naming import Names, literal


class CannotWrite(ValueError):
    """Something in the model that has no source."""


class Own:
    """Collects imports and copies for one file.

    Args:
        names: the file's names.
    """

    def __init__(self, names: Names) -> None:
        self.names = names
        self.imports: dict[str, None] = {}
        self.copies: list[str] = []
        self._known: dict[int, str] = {}
        self._alive: list[Any] = []

    def name_of(self, thing: Any) -> str:
        """Returns an expression for a function or class.

        Raises:
            CannotWrite: it can neither be imported nor copied.
        """
        if id(thing) not in self._known:
            self._alive.append(thing)
            self._known[id(thing)] = self._imported(thing) or self._copied(thing)
        return self._known[id(thing)]

    def state(self) -> Any:
        """What was collected so far, for `put_back`."""
        return dict(self.imports), list(self.copies), dict(self._known), set(self.names.taken)

    def put_back(self, state: Any) -> None:
        """Forgets what was collected since `state`."""
        self.imports, self.copies, self._known, self.names.taken = state

    def _imported(self, thing: Any) -> str | None:
        module, path = getattr(thing, "__module__", None), getattr(thing, "__qualname__", "")
        if module in (None, "__main__", "builtins") or "<" in path or not _importable(module):
            return None
        found: Any = sys.modules[module]
        for part in path.split("."):
            found = getattr(found, part, None)
        if found is not thing:
            return None
        top, _, rest = path.partition(".")
        name = self.names.take(top)
        self.imports[f"from {module} import {top}" + (f" as {name}" if name != top else "")] = None
        return f"{name}.{rest}" if rest else name

    # -- copies

    def _copied(self, thing: Any) -> str:
        if isinstance(thing, types.LambdaType) and thing.__name__ == "<lambda>":
            text = lambda_source(thing)
            self._bind_globals(thing, text)
            return f"({text})"
        if not isinstance(thing, (type, types.FunctionType)):
            raise CannotWrite(f"{thing!r} ({type(thing).__name__}) has no source that could be written")
        try:
            text = textwrap.dedent(inspect.getsource(thing)).strip()
        except (OSError, TypeError):
            raise CannotWrite(
                f"the source of {thing.__qualname__!r} is not to be found; put it into a module that can be imported"
            ) from None
        self._bind_globals(thing, text)
        self.names.taken.add(thing.__name__)
        self.copies.append(text)
        return thing.__name__

    def _bind_globals(self, thing: Any, text: str) -> None:
        """Makes the names known that a copied source takes from where it stood."""
        scope = dict(sys.modules[thing.__module__].__dict__) if thing.__module__ in sys.modules else {}
        for function in _functions_in(thing):
            scope.update(inspect.getclosurevars(function).nonlocals)
        tree = ast.parse(text)
        bound = {thing.__name__} | {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
        bound |= {a.arg for a in ast.walk(tree) if isinstance(a, ast.arg)}
        for name in dict.fromkeys(n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and n.id not in bound):
            if name in scope:
                self._bind(name, scope[name], thing)
            elif not hasattr(builtins, name) and name != "__class__":
                raise CannotWrite(f"{thing.__qualname__!r} uses {name!r}, which is not to be found outside it")

    def _bind(self, name: str, value: Any, owner: Any) -> None:
        if isinstance(value, types.ModuleType):
            self.imports[f"import {value.__name__}" + (f" as {name}" if name != value.__name__ else "")] = None
        elif isinstance(value, (type, types.FunctionType, types.BuiltinFunctionType)):
            home = getattr(value, "__module__", None)
            if home and _importable(home) and getattr(sys.modules[home], name, None) is value:
                self.imports[f"from {home} import {name}"] = None
            elif self.name_of(value) != name:
                self.copies.append(f"{name} = {self.name_of(value)}")
        elif literal(value) is not None:
            self.copies.append(f"{name} = {literal(value)}")
        else:
            raise CannotWrite(f"{owner.__qualname__!r} uses {name!r}, a {type(value).__name__} that has no source")


def _importable(module: str) -> bool:
    found = sys.modules.get(module)
    return found is not None and module != "__main__" and getattr(found, "__spec__", None) is not None


def _functions_in(thing: Any) -> list[Any]:
    if isinstance(thing, types.FunctionType):
        return [thing]
    return [f for f in vars(thing).values() if isinstance(f, types.FunctionType)]


def lambda_source(function: Any) -> str:
    """Returns the source of a lambda.

    Raises:
        CannotWrite: it is not to be found, or could be one of several.
    """
    try:
        text = " ".join(line.strip() for line in inspect.getsource(function).splitlines())
    except (OSError, TypeError):
        raise CannotWrite("the source of a lambda is not to be found; make it a function in a module") from None
    starts = [i for i in range(len(text)) if text.startswith("lambda", i)]
    found = {piece for start in starts if (piece := _lambda_at(text, start, function)) is not None}
    if len(found) != 1:
        raise CannotWrite("the source of a lambda cannot be told from the line that holds it; make it a function")
    return found.pop()


def _lambda_at(text: str, start: int, function: Any) -> str | None:
    for end in range(len(text), start + 7, -1):
        try:
            tree = ast.parse(f"({text[start:end]}\n)", mode="eval")
        except SyntaxError:
            continue
        if isinstance(tree.body, ast.Lambda):
            made = eval(compile(tree, "<lambda>", "eval"), {})  # the user's own lambda, made but not called
            return ast.unparse(tree.body) if _same_code(made.__code__, function.__code__) else None
    return None


def _same_code(one: Any, two: Any) -> bool:
    def steps(code: Any) -> list[Any]:
        names = {"LOAD_DEREF": "LOAD_GLOBAL", "LOAD_NAME": "LOAD_GLOBAL"}
        return [
            (names.get(i.opname, i.opname), i.argval if not inspect.iscode(i.argval) else "")
            for i in dis.get_instructions(code)
            if i.opname not in ("COPY_FREE_VARS", "RESUME", "CACHE", "PUSH_NULL")
        ]

    return steps(one) == steps(two)
