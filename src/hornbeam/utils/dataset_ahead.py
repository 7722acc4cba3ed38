"""Work done ahead by threads, handed out in order."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any


def reader_threads() -> int:
    """Returns how many threads read files: one for each core that this process may use, 2 to 16."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(16, max(2, cores))


def ahead(function: Callable[[Any], Any], items: Iterable[Any], threads: int, depth: int) -> Iterator[Any]:
    """Yields `function(item)` for each item, in the order of the items, whatever the number of threads.

    Args:
        function: called in the threads; its exception is raised here, where its result was due.
        items: read in the caller's thread.
        threads: how many work.
        depth: how many results are under way or waiting at most.

    >>> list(ahead(abs, [-1, -2, 3], threads=2, depth=2))
    [1, 2, 3]
    """
    pool = ThreadPoolExecutor(threads, thread_name_prefix="hornbeam-reader")
    waiting: deque[Future[Any]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= depth:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
