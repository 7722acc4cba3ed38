"""Training beside all peers, in one table: Keras on TensorFlow, JAX and torch, a hand-written torch loop, Hornbeam.

Each contestant is a process of its own with one thread; they take turns, one epoch at a time.
`python benchmarks/peers.py [MODEL ...]`
"""

from __future__ import annotations

import importlib.metadata
import statistics
import subprocess
import sys
from pathlib import Path

from peer import BATCH, STEPS

KERAS = ("keras on tensorflow", "keras on jax", "keras on torch")
OTHERS = {
    "mlp": ("hand-written torch", "hornbeam", "hornbeam compiled", "hornbeam compiled x20"),
    "inception": ("hand-written torch", "hornbeam"),
    "lstm": ("hand-written torch", "hornbeam"),
    "transformer": ("hornbeam", "hornbeam compiled"),
}
ROUNDS = 5


class Contestant:
    """A process that trains an epoch when it is asked to."""

    def __init__(self, model, name):
        command = [sys.executable, "-W", "ignore", str(Path(__file__).with_name("peer.py")), model, name]
        self.name, self.seconds = name, []
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def epoch(self):
        """Runs an epoch; returns whether it did."""
        try:
            self.process.stdin.write("go\n")
            self.process.stdin.flush()
            self.seconds.append(float(self.process.stdout.readline()))
        except (BrokenPipeError, ValueError):
            return False
        return True

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def race(model):
    """Lets all contestants train a model by turns and prints the table."""
    rows = STEPS[model] * BATCH
    runners = []
    for name in (*KERAS, *OTHERS[model]):
        runner = Contestant(model, name)
        if runner.epoch():  # one at a time until all are warm
            runners.append(runner)
        else:
            print(f"  {name}: {(runner.process.stderr.read().strip().splitlines() or ['did not start'])[-1]}")
    for _ in range(ROUNDS):
        for runner in runners:
            runner.epoch()
    print(f"\n{model}: one epoch of {STEPS[model]} steps, batch {BATCH}, one thread, median of {ROUNDS} rounds")
    middle = {r.name: statistics.median(r.seconds[1:]) for r in runners}
    best = min((middle[n] for n in KERAS if n in middle), default=float("nan"))
    for name, seconds in middle.items():
        print(f"  {name:32s} {rows / seconds:14,.0f} samples/s   {best / seconds:6.2f} times the best Keras", flush=True)
    for runner in runners:
        runner.close()


if __name__ == "__main__":
    packages = ("torch", "keras", "tensorflow-cpu", "jax", "numpy")
    print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages))
    for model in sys.argv[1:] or STEPS:
        race(model)
