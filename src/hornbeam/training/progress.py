"""What a person sees while a loop runs: a bar in a terminal or a notebook, one plain line an epoch elsewhere.

Metrics are read for it only, at most ten times a second.
"""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Callable
from html import escape
from typing import Any

from hornbeam.core import settings

INTERVAL = 0.1  # seconds between two looks at the metrics
LONGEST = 60  # characters of a result's name
SHOWN = 8  # epochs that a notebook shows
clock = time.perf_counter


def number_text(value: Any) -> str:
    """Returns a result as Keras prints it: four decimals, or scientific where it is small.

    >>> number_text(0.123456), number_text(1.5e-5)
    ('0.1235', '1.5000e-05')
    """
    if not isinstance(value, float):
        return plain(value)
    return f"{value:.4f}" if value == 0 or abs(value) > 1e-3 or value != value else f"{value:.4e}"


def plain(name: Any) -> str:
    """Returns a name that may stand on a line of a terminal: short, and without characters that a terminal obeys.

    >>> plain("loss" + chr(27) + "[31m")
    'loss?[31m'
    """
    text = str(name)
    text = text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
    return "".join(c if c.isprintable() else "?" for c in text)


def logs_text(logs: dict[str, Any]) -> str:
    """Returns results as "loss: 0.1234 - val_loss: 0.2345"."""
    return " - ".join(f"{plain(k)}: {number_text(v)}" for k, v in logs.items())


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


class _Timed(Progress):
    """What displays share: when it began, how many steps there are, and what stands beside the bar."""

    title = ""
    steps: int | None = None

    def begin(self, epoch: int, epochs: int, steps: int | None) -> None:
        self.title = f"Epoch {epoch + 1}/{epochs}" if epochs else ""
        self.steps, self.begun = steps, clock()

    def told(self, done: int, logs: dict[str, Any]) -> str:
        """Returns times and results in one line."""
        spent = clock() - self.begun
        left = f" - {time_text(spent / done * (self.steps - done))} left" if self.steps and 0 < done < self.steps else ""
        results = f" - {logs_text(logs)}" if logs else ""
        return f"{time_text(spent)}{left} - {time_text(spent / max(done, 1))}/step{results}"

    def show(self, done: int, read: Callable[[], dict[str, Any]]) -> None:
        self.draw(done, read())
        self.due = clock() + INTERVAL

    def draw(self, done: int, logs: dict[str, Any]) -> None:
        """Draws the present state."""


class Lines(_Timed):
    """One plain line when an epoch has ended."""

    def end(self, done: int, logs: dict[str, Any]) -> None:
        self.steps = done
        print(" - ".join([*([self.title] if self.title else []), f"{done}/{done}", self.told(done, logs)]), flush=True)


class Bar(_Timed):
    """A bar in the terminal."""

    live: Any = None

    def begin(self, epoch: int, epochs: int, steps: int | None) -> None:
        from rich.console import Console
        from rich.live import Live

        super().begin(epoch, epochs, steps)
        console = Console(file=sys.stdout)
        if self.title:
            console.print(self.title, style="bold", highlight=False, markup=False)
        self.live = Live(console=console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False)
        self.live.start()
        console.show_cursor(True)  # it must be there after an interrupt too
        self.due = self.begun + INTERVAL

    def draw(self, done: int, logs: dict[str, Any]) -> None:
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        row = Table.grid(padding=(0, 1))
        bar = ProgressBar(total=self.steps, completed=done, width=20, pulse=self.steps is None)
        row.add_row(Text(f"{done}/{self.steps or '?'}"), bar, Text(self.told(done, logs)))
        self.live.update(row, refresh=True)

    def end(self, done: int, logs: dict[str, Any]) -> None:
        self.steps = done
        self.draw(done, logs)
        self.close()

    def close(self) -> None:
        live, self.live, self.due = self.live, None, float("inf")
        if live is not None:
            live.stop()


class Notebook(_Timed):
    """A bar in a notebook's output cell: one display for the whole run, a line for each of its last epochs."""

    def __init__(self) -> None:
        self.handle: Any = None
        self.lines: list[str] = []
        self.past = 0
        self.text = ""

    def begin(self, epoch: int, epochs: int, steps: int | None) -> None:
        super().begin(epoch, epochs, steps)
        self.due = self.begun + INTERVAL

    def _repr_html_(self) -> str:
        hidden = self.past - len(self.lines)
        note = f'<div style="opacity: 0.6">… {hidden} epoch{"s" * (hidden > 1)} before</div>' if hidden > 0 else ""
        style = "font: 12px/1.7 system-ui, sans-serif; font-variant-numeric: tabular-nums"
        return f'<div style="{style}">{note}{"".join(self.lines)}{self.text}</div>'

    def __repr__(self) -> str:
        return f"{self.title} {self.steps or ''}".strip() or "Progress"

    def line(self, done: int, logs: dict[str, Any]) -> str:
        """Returns one line as HTML."""
        share = min(done / self.steps, 1) if self.steps else 0
        colour = "#4aa371" if done == self.steps else "#3b82c4"
        fill = f'<span style="display: block; width: {share:.1%}; height: 100%; background: {colour}"></span>'
        box = "display: inline-block; width: 160px; height: 8px; margin: 0 10px; border-radius: 4px; overflow: hidden"
        title = f"<b>{escape(self.title)}</b> " if self.title else ""
        label = f'<span style="display: inline-block; min-width: 14em">{title}{done}/{self.steps or "?"}</span>'
        bar = f'<span style="{box}; background: rgba(128, 128, 128, 0.25)">{fill}</span>'
        return f"<div>{label}{bar}{escape(self.told(done, logs))}</div>"

    def draw(self, done: int, logs: dict[str, Any]) -> None:
        self.text = self.line(done, logs)
        if self.handle is None:
            self.handle = importlib.import_module("IPython.display").display(self, display_id=True)
        else:
            self.handle.update(self)

    def end(self, done: int, logs: dict[str, Any]) -> None:
        self.steps, self.due = done, float("inf")
        self.draw(done, logs)
        self.lines, self.past, self.text = [*self.lines, self.text][1 - SHOWN :], self.past + 1, ""


def in_terminal() -> bool:
    """Returns whether what is printed goes to a terminal."""
    return bool(getattr(sys.stdout, "isatty", bool)())


def in_notebook() -> bool:
    """Returns whether the code runs in a notebook's kernel; IPython is not imported to find out."""
    get_ipython = getattr(sys.modules.get("IPython"), "get_ipython", None)
    return getattr(get_ipython and get_ipython(), "kernel", None) is not None


def make_progress(verbose: Any) -> Progress:
    """Returns the display for `verbose`: 0 none; 1 a bar, or plain lines where nobody sees one; 2 lines; "auto" as 1.

    >>> type(make_progress(0)).__name__
    'Progress'
    """
    if verbose not in (0, 1, 2, "auto", True, False):
        raise ValueError(f"`verbose` must be 0, 1, 2 or 'auto'. Received: {verbose!r}")
    if not verbose or (verbose == "auto" and not settings.is_interactive_logging_enabled()):
        return Progress()
    if verbose == 2:
        return Lines()
    return Notebook() if in_notebook() else Bar() if in_terminal() else Lines()
