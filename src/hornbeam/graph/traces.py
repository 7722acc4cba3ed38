"""What a run leaves in the Python of modules, put back when the run was only to be looked at.

Attributes, and what stands in the lists, dicts, sets and tensors that they hold: caches, counters, features kept for later.
"""

from __future__ import annotations

import contextlib
import random
import sys
import types
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

_MANY = 10_000  # a list or dict of so many values is taken to hold no further lists
_TENSORS = ("_parameters", "_buffers", "_modules")
_NOT_OPENED = (nn.Module, type, types.FunctionType, types.MethodType, types.BuiltinFunctionType, types.ModuleType)


class State:
    """The Python state of modules, as it was.

    >>> net, state = nn.Identity(), State()
    >>> net.seen = []
    >>> state.hold(net)
    >>> net.seen.append(1)
    >>> net.cache = torch.ones(2)
    >>> state.put_back()
    >>> net.seen, hasattr(net, "cache")
    ([], False)
    """

    def __init__(self) -> None:
        self._known: dict[int, Any] = {}  # what is held, which keeps ids from being used again
        self._restores: list[Callable[[], None]] = []
        python, numpys = random.getstate(), np.random.get_state()
        self._restores.append(lambda: (random.setstate(python), np.random.set_state(numpys))[0])

    def hold(self, module: nn.Module) -> None:
        """Notes a module's attributes and what they hold; the first time counts."""
        if id(module) in self._known:
            return
        self._known[id(module)] = module
        attributes = module.__dict__
        self._hold_dict(attributes)
        for key, value in list(attributes.items()):
            if key in _TENSORS:
                self._hold_dict(value)
            else:
                self._hold_value(value)

    def put_back(self) -> None:
        """Makes everything what it was."""
        for restore in self._restores:
            restore()

    def _hold_value(self, value: Any) -> None:
        kind = type(value)
        if kind in _PLAIN or isinstance(value, _NOT_OPENED) or id(value) in self._known:
            return
        self._known[id(value)] = value
        inner: Any = ()
        if isinstance(value, torch.Tensor):
            self._hold_tensor(value)
        elif isinstance(value, dict):
            self._hold_dict(value)
            inner = dict.values(value)
        elif isinstance(value, (list, set, deque)):
            inner = list(value)
            self._restores.append(lambda: _refill(value, inner))
        elif isinstance(value, tuple):
            inner = value
        elif _is_users(kind) and isinstance(getattr(value, "__dict__", None), dict):
            self._hold_dict(value.__dict__)
            inner = value.__dict__.values()
        if len(inner) <= _MANY:
            for part in list(inner):
                self._hold_value(part)

    def _hold_dict(self, held: dict[Any, Any]) -> None:
        base: Any = OrderedDict if isinstance(held, OrderedDict) else dict
        before = dict(base.items(held))

        def restore() -> None:
            if base is dict and dict.keys(held) == before.keys():
                for key, value in before.items():
                    if dict.__getitem__(held, key) is not value:
                        dict.__setitem__(held, key, value)
            elif len(held) != len(before) or _differ([*base.keys(held), *base.values(held)], [*before, *before.values()]):
                base.clear(held)
                for key, value in before.items():
                    base.__setitem__(held, key, value)

        self._restores.append(restore)

    def _hold_tensor(self, value: torch.Tensor) -> None:
        if type(value) is not torch.Tensor or value.device.type == "meta" or value.is_inference():
            return
        version, before = value._version, value.detach().clone()

        def restore() -> None:
            if value._version != version:
                with torch.no_grad(), contextlib.suppress(RuntimeError):  # its size was changed
                    value.copy_(before)

        self._restores.append(restore)


_PLAIN = frozenset((int, float, bool, str, bytes, complex, type(None), torch.Size, torch.dtype, torch.device))


def _is_users(kind: type) -> bool:
    """Whether a class is neither Python's nor torch's nor Hornbeam's."""
    package = kind.__module__.partition(".")[0]
    return package not in ("torch", "numpy", "hornbeam") and (package == "__main__" or package not in sys.stdlib_module_names)


def _differ(now: list[Any], before: list[Any]) -> bool:
    return len(now) != len(before) or any(a is not b for a, b in zip(now, before, strict=True))


def _refill(held: Any, before: list[Any]) -> None:
    if not _differ(list(held), before):
        return
    if isinstance(held, list):
        list.__setitem__(held, slice(None), before)
    else:
        held.clear()
        (held.update if isinstance(held, set) else held.extend)(before)
