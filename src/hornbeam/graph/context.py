"""What the current thread is doing: the state of the call that is running, read and written by graph and layers."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Context(threading.local):
    """One per thread.

    Attributes:
        training: the mode of the enclosing call, or None outside any call.
        depth: how many layer calls are open.
        scratch: True while a call is only looked at: weights stay unmade, assignments and losses are dropped.
        casts: weights already cast in the outermost call, by (id of layer, key).
        names: names of the layers being built, outermost first, for weight paths.
        implicit: True while nodes are recorded that no user wrote (mask arithmetic).
        stateless: the active StatelessScope, or None.
        recorder: the active recorder, or None.
        python: the Python state of modules, to be put back after a call that is recorded, or None.
        root: the outermost layer that is being called, or was last.
        nothing: the outermost layer in which a layer returned None last, and that one's title; or None.
        outer_rng: state of torch's generator as it was before a call was looked at, or None.
    """

    training: bool | None = None
    depth: int = 0
    scratch: bool = False
    casts: dict[Any, Any] | None = None
    names: tuple[str, ...] = ()
    implicit: bool = False
    stateless: Any = None
    recorder: Any = None
    python: Any = None
    nothing: Any = None
    outer_rng: Any = None
    root: Any = None

    def __init__(self) -> None:
        for name in Context.__annotations__:  # torch.compile guards on what an instance holds: all of it, from the start
            setattr(self, name, getattr(Context, name))


context = Context()


@contextmanager
def setting(**values: Any) -> Iterator[None]:
    """Sets attributes of the context while the block runs."""
    before = {k: getattr(context, k) for k in values}
    for k, v in values.items():
        setattr(context, k, v)
    try:
        yield
    finally:
        for k, v in before.items():
            setattr(context, k, v)
