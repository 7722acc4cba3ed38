"""Predicted peaks of memory against real training runs: the resident memory of a process of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

RUN = Path(__file__).with_name("training_run.py")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak of resident memory is read from /proc")
@pytest.mark.parametrize("name", ["convolutional", "transformer", "dense", "recurrent", "language"])
def test_the_predicted_peak_is_that_of_a_real_run(name: str) -> None:
    # the C library is told to give freed memory back at once: what it keeps for later is no part of what a step needs
    source = str(RUN.parents[2] / "src")
    env = {**os.environ, "PYTHONPATH": source, "MALLOC_MMAP_THRESHOLD_": "65536", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, str(RUN), name], env=env, capture_output=True, text=True, timeout=120, check=True)
    taken, predicted = map(int, done.stdout.split())
    assert predicted > 100 * 2**20
    assert predicted == pytest.approx(taken, rel=0.1)
