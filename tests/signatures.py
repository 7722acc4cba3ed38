"""Names and signatures of a namespace, compared with Keras's."""

from __future__ import annotations

import inspect
from typing import Any


def parameters(thing: Any) -> list[tuple[str, Any]]:
    return [(p.name, p.default) for p in inspect.signature(thing).parameters.values()]


def assert_same_signatures(ours: Any, theirs: Any, skip: tuple[str, ...] = ()) -> None:
    """Compares every public callable of a Keras namespace, by name, with ours."""
    names = [n for n in dir(theirs) if not n.startswith("_") and callable(getattr(theirs, n)) and n not in skip]
    assert not [n for n in names if not hasattr(ours, n)]
    different = {}
    for name in names:
        wanted = getattr(theirs, name)
        if isinstance(wanted, type) and wanted.__init__ is object.__init__:
            continue
        if parameters(getattr(ours, name)) != parameters(wanted):
            different[name] = parameters(getattr(ours, name)), parameters(wanted)
    assert not different
