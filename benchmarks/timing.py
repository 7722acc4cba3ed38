"""Interleaved timing: every contestant runs once in each round, ratios are medians of paired rounds. Imported by the others."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable


def interleaved(
    contestants: dict[str, Callable[[], object]], rounds: int = 15, seconds: float = 0.05
) -> dict[str, tuple[float, float]]:
    """Returns {name: (median seconds per call, median ratio to the first)}."""
    inner: dict[str, int] = {}
    for name, run in contestants.items():
        run()
        start = time.perf_counter()
        run()
        inner[name] = max(1, int(seconds / max(time.perf_counter() - start, 1e-7)))
    taken: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, run in contestants.items():
            start = time.perf_counter()
            for _ in range(inner[name]):
                run()
            taken[name].append((time.perf_counter() - start) / inner[name])
    first = taken[next(iter(taken))]
    return {n: (statistics.median(t), statistics.median(a / b for a, b in zip(t, first, strict=True))) for n, t in taken.items()}


def show(title: str, contestants: dict[str, Callable[[], object]], **options: float) -> dict[str, tuple[float, float]]:
    """Times contestants and prints a table."""
    found = interleaved(contestants, **options)  # type: ignore[arg-type]
    print(f"\n{title}")
    for name, (seconds, ratio) in found.items():
        print(f"  {name:58s} {seconds * 1e6:12.1f} µs   ratio {ratio:6.3f}", flush=True)
    return found
