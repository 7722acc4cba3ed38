"""What a person sees while a loop runs: a bar in a terminal, one plain line an epoch elsewhere. Metrics are read for it only."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

from hornbeam.core import settings

INTERVAL = 0.1
clock = time.perf_counter


def number_text(value: Any) -> str:
    """Returns a result as Keras prints it: four decimals, or scientific where it is small.

    >>> number_text(0.123456), number_text(1.5e-5)
    ('0.1235', '1.5000e-05')
    """
    if not isinstance(value, float):
        return str(value)
    return f"{value:.4f}" if value == 0 or abs(value) > 1e-3 or value != value else f"{value:.4e}"


def logs_text(logs: dict[str, Any]) -> str:
    """Returns results as "loss: 0.1234 - val_loss: 0.2345"."""
    return " - ".join(f"{k}: {number_text(v)}" for k, v in logs.items())


def time_text(seconds: float) -> str:
    """Returns a duration with the unit that suits it.

    >>> time_text(0.0021), time_text(3.2)
    ('2ms', '3s')
    """
    return f"{seconds:.0f}s" if seconds >= 1 else f"{seconds * 1e3:.0f}ms" if seconds >= 1e-3 else f"{seconds * 1e6:.0f}us"


class Progress:
    """Shows nothing: what verbose=0 asks for, and the base of what shows something.

    Attributes:
        due: the clock's time from which on the loop should call `show` again.
    """

    due = float("inf")

    def begin(self, epoch: int, epochs: int, steps: int | None) -> None:
        """An epoch, or an evaluation, begins."""

    def show(self, done: int, read: Callable[[], dict[str, Any]]) -> None:
        """Some steps are done; `read` gives the results so far."""

    def end(self, done: int, logs: dict[str, Any]) -> None:
        """The epoch has ended with these results."""

    def close(self) -> None:
        """Nothing more will come."""


class Lines(Progress):
    """One plain line when an epoch has ended."""

    def begin(self, epoch: int, epochs: int, steps: int | None) -> None:
        self.title, self.begun = f"Epoch {epoch + 1}/{epochs} - " if epochs else "", clock()

    def end(self, done: int, logs: dict[str, Any]) -> None:
        spent = clock() - self.begun
        parts = [
            f"{self.title}{done}/{done}",
            f"{spent:.0f}s",
            f"{time_text(spent / max(done, 1))}/step",
            *([logs_text(logs)] if logs else []),
        ]
        print(" - ".join(parts), flush=True)


class Bar(Progress):
    """A bar in the terminal, drawn at most ten times a second."""

    def begin(self, epoch: int, epochs: int, steps: int | None) -> None:
        from rich.console import Console
        from rich.live import Live

        self.steps, self.begun = steps, clock()
        console = Console(file=sys.stdout)
        if epochs:
            console.print(f"[bold]Epoch {epoch + 1}/{epochs}[/bold]", highlight=False)
        self.live: Any = Live(console=console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False)
        self.live.start()
        self.due = self.begun + INTERVAL

    def _line(self, done: int, logs: dict[str, Any]) -> Any:
        from rich.progress_bar import ProgressBar
        from rich.table import Table

        spent = clock() - self.begun
        left = f" - {time_text(spent / done * (self.steps - done))} left" if self.steps and 0 < done < self.steps else ""
        row = Table.grid(padding=(0, 1))
        row.add_row(
            f"{done}/{self.steps or '?'}",
            ProgressBar(total=self.steps, completed=done, width=20, pulse=self.steps is None),
            f"{time_text(spent)}{left} - {time_text(spent / max(done, 1))}/step" + (f" - {logs_text(logs)}" if logs else ""),
        )
        return row

    def show(self, done: int, read: Callable[[], dict[str, Any]]) -> None:
        self.live.update(self._line(done, read()), refresh=True)
        self.due = clock() + INTERVAL

    def end(self, done: int, logs: dict[str, Any]) -> None:
        self.steps = done
        self.live.update(self._line(done, logs), refresh=True)
        self.close()

    def close(self) -> None:
        live, self.live, self.due = getattr(self, "live", None), None, float("inf")
        if live is not None:
            live.stop()


def in_terminal() -> bool:
    """Returns whether what is printed goes to a terminal."""
    return bool(getattr(sys.stdout, "isatty", bool)())


def make_progress(verbose: Any) -> Progress:
    """Returns the display for `verbose`: 0 none, 1 a bar (plain lines where there is no terminal), 2 lines, "auto" as 1.

    >>> type(make_progress(0)).__name__
    'Progress'
    """
    if verbose not in (0, 1, 2, "auto", True, False):
        raise ValueError(f"`verbose` must be 0, 1, 2 or 'auto'. Received: {verbose!r}")
    if not verbose or (verbose == "auto" and not settings.is_interactive_logging_enabled()):
        return Progress()
    return Lines() if verbose == 2 or not in_terminal() else Bar()
