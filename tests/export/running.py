"""Running generated source, and comparing what it makes with the model it was made of."""

from __future__ import annotations

import linecache
import subprocess
import sys
from typing import Any

import numpy as np
import torch

from hornbeam import tree


def run(source: str) -> dict[str, Any]:
    """Executes a generated file and returns what it defines."""
    names: dict[str, Any] = {"__name__": "generated"}
    linecache.cache["generated.py"] = (len(source), None, source.splitlines(keepends=True), "generated.py")
    exec(compile(source, "generated.py", "exec"), names)
    return names


def assert_same(one: Any, two: Any, **tolerance: Any) -> None:
    """Compares nests of tensors."""
    first, second = tree.flatten(one), tree.flatten(two)
    assert len(first) == len(second)
    for a, b in zip(first, second, strict=True):
        torch.testing.assert_close(a, b, check_stride=False, **tolerance)


def shake(model: Any) -> None:
    """Gives a model's weights values of their own, so that swapped weights show."""
    rng = np.random.default_rng(0)
    model.set_weights([
        rng.uniform(0.1, 0.5, w.shape).astype(w.dtype) if w.dtype.kind == "f" else w for w in model.get_weights()
    ])  # fmt: skip


def is_formatted(source: str) -> str:
    """Returns what ruff would change in generated source: its formatting, and names that are missing or not used."""
    ruff = [sys.executable, "-m", "ruff"]
    found = ""
    for command in (["format", "--diff", "--line-length", "100"], ["check", "--isolated", "--select", "F,E7,E9"]):
        done = subprocess.run([*ruff, *command, "-"], input=source, text=True, capture_output=True, check=False, timeout=60)
        found += done.stdout if done.returncode else ""
    return found
