"""Freed memory that stays with the process while `fit` runs: large tensors are made and freed at every step.

glibc gives blocks above 32 MiB back to the system at each free, so that every step takes page faults for them anew. While a loop
runs, its limits are raised; at the end they are put back, and after a long run what is free is given back. Other systems are left
as they are.
"""

from __future__ import annotations

import ctypes
import sys
import time
from functools import cache
from typing import Any

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_LONG = 10.0  # seconds
_enabled = True


def keep_freed_memory(enabled: bool) -> None:
    """Sets whether freed memory is kept while `fit` runs (the default).

    >>> keep_freed_memory(True)
    """
    global _enabled
    _enabled = bool(enabled)


@cache
def _libc() -> Any:
    if not sys.platform.startswith("linux"):
        return None
    try:
        libc = ctypes.CDLL("libc.so.6")
        return libc if all(hasattr(libc, name) for name in ("gnu_get_libc_version", "mallopt", "malloc_trim")) else None
    except OSError:
        return None


class KeptMemory:
    """A context in which freed memory is kept; contexts within each other count as one."""

    depth = 0

    def __enter__(self) -> KeptMemory:
        self.libc = _libc() if _enabled else None
        if self.libc is not None:
            KeptMemory.depth += 1
            if KeptMemory.depth == 1:
                self.libc.mallopt(_MMAP_THRESHOLD, 1 << 30)
                self.libc.mallopt(_TRIM_THRESHOLD, (1 << 31) - 1)
        self.begun = time.monotonic()
        return self

    def __exit__(self, *args: Any) -> None:
        if self.libc is None:
            return
        KeptMemory.depth -= 1
        if KeptMemory.depth == 0:
            self.libc.mallopt(_MMAP_THRESHOLD, 32 << 20)
            self.libc.mallopt(_TRIM_THRESHOLD, 64 << 20)
            if time.monotonic() - self.begun > _LONG:  # short runs often follow each other
                self.libc.malloc_trim(0)
