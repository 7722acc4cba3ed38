"""What a person sees while a model is trained, where, and what it costs."""

from __future__ import annotations

import html.parser
import io
import itertools
import re
import sys
import time
import types

import numpy as np
import pytest

from hornbeam.core import settings
from hornbeam.layers import Dense, Input
from hornbeam.models import Sequential
from hornbeam.training import progress

X, Y = np.ones((64, 3), "float32"), np.ones((64, 1), "float32")
HOSTILE = {
    "<script>alert(1)</script>": 1.0,
    "\x1b]0;owned\x07\x1b[31m": 2.0,
    "[red]x[/red]": 3.0,
    "a\nb\rc\u202ed": 4.0,
    "x" * 1_000_000: 5.0,
    'q"\'&</div>]]>': 6.0,
    "text": "\x1b[2J<b>",
}


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def terminal(monkeypatch):
    made = Terminal()
    monkeypatch.setattr(progress, "sys", types.SimpleNamespace(stdout=made, modules=sys.modules))
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    return made


class Handle:
    def __init__(self, thing):
        self.pages = [thing._repr_html_()]

    def update(self, thing):
        self.pages.append(thing._repr_html_())


@pytest.fixture
def notebook(monkeypatch):
    """A kernel, as code sees one: IPython is loaded and its shell has a kernel."""
    handles = []
    ipython, display = types.ModuleType("IPython"), types.ModuleType("IPython.display")
    ipython.get_ipython = lambda: types.SimpleNamespace(kernel=object())

    def show(thing, display_id):
        assert display_id is True
        handles.append(Handle(thing))
        return handles[-1]

    display.display = show
    ipython.display = display
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    return handles


def model_of():
    model = Sequential([Input((3,)), Dense(1)])
    model.compile("sgd", "mse")
    return model


class Elements(html.parser.HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.text = set(), [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.open.append(tag)
        assert {name for name, _ in attrs} <= {"style"}

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def play(display, logs, epochs=2, steps=3):
    for epoch in range(epochs):
        display.begin(epoch, epochs, steps)
        for done in range(1, steps + 1):
            display.show(done, lambda: logs)
        display.end(steps, logs)
    display.close()


def test_who_sees_what(terminal, monkeypatch):
    kind = lambda verbose: type(progress.make_progress(verbose)).__name__  # noqa: E731
    assert [kind(v) for v in (0, False, 1, True, "auto", 2)] == ["Progress", "Progress", "Bar", "Bar", "Bar", "Lines"]
    settings.disable_interactive_logging()
    try:
        assert [kind(v) for v in ("auto", 1)] == ["Progress", "Bar"]
    finally:
        settings.enable_interactive_logging()
    progress.sys.stdout = io.StringIO()
    assert [kind(v) for v in (1, "auto", 2)] == ["Lines"] * 3


def test_a_notebook_is_seen_by_its_kernel(notebook, monkeypatch):
    assert isinstance(progress.make_progress("auto"), progress.Notebook)
    assert isinstance(progress.make_progress(2), progress.Lines)
    sys.modules["IPython"].get_ipython = lambda: types.SimpleNamespace()  # IPython in a terminal
    assert not progress.in_notebook()
    sys.modules["IPython"].get_ipython = lambda: None
    assert not progress.in_notebook()
    monkeypatch.delitem(sys.modules, "IPython")
    assert not progress.in_notebook()
    assert "IPython" not in sys.modules


@pytest.mark.parametrize("verbose", [3, -1, "yes", None])
def test_verbose_of_what(verbose):
    with pytest.raises(ValueError, match=r"`verbose` must be 0, 1, 2 or 'auto'. Received: "):
        progress.make_progress(verbose)


def test_plain_lines(capsys):
    model_of().fit(X, Y, batch_size=16, epochs=2, validation_data=(X, Y))
    lines = capsys.readouterr().out.splitlines()
    pattern = r"Epoch {}/2 - 4/4 - \d+(s|ms|us) - \d+(s|ms|us)/step - loss: [\d.e-]+ - val_loss: [\d.e-]+"
    assert all(re.fullmatch(pattern.format(i + 1), line) for i, line in enumerate(lines))
    assert len(lines) == 2


def test_a_bar_in_a_terminal(terminal):
    model_of().fit(X, Y, batch_size=16, epochs=2)
    text = terminal.getvalue()
    assert "Epoch 1/2" in text
    assert "Epoch 2/2" in text
    assert "4/4" in text
    assert "loss: " in text
    assert "━" in text
    assert text.endswith("\n\x1b[?25h")


def test_a_bar_that_is_interrupted_leaves_the_cursor(terminal):
    display = progress.make_progress(1)
    display.begin(0, 1, 4)
    display.show(1, dict)
    assert terminal.getvalue().rfind("\x1b[?25h") > terminal.getvalue().rfind("\x1b[?25l")


def test_a_bar_in_a_notebook(notebook, capsys):
    model_of().fit(X, Y, batch_size=16, epochs=12, validation_data=(X, Y))
    assert capsys.readouterr().out == ""
    (handle,) = notebook  # one display for the run
    page = Elements(handle.pages[-1])
    assert "… 4 epochs before" in page.text
    assert re.findall(r"Epoch (\d+)/12", page.text) == [str(i) for i in range(5, 13)]
    assert "val_loss: " in page.text
    assert "width: 100.0%" in handle.pages[-1]


def test_evaluate_and_predict_in_a_notebook(notebook):
    model = model_of()
    model.evaluate(X, Y, batch_size=16)
    model.predict(X, batch_size=16, verbose=1)
    assert len(notebook) == 2
    assert all("4/4" in handle.pages[-1] for handle in notebook)
    assert "loss: " in notebook[0].pages[-1]


def test_steps_that_nobody_knows(notebook, terminal):
    for display in (progress.Notebook(), progress.Bar()):
        display.begin(0, 1, None)
        display.show(3, lambda: {"loss": 1.0})
        display.end(5, {"loss": 1.0})
    assert all("3/?" in text and "5/5" in text for text in (str(notebook[0].pages), terminal.getvalue()))


def test_names_are_only_names_in_html(notebook):
    play(progress.Notebook(), HOSTILE)
    for text in notebook[0].pages:
        page = Elements(text)
        assert page.tags <= {"div", "span", "b"}
        assert page.open == []
        assert "\x1b" not in text
        assert len(text) < 5000
    assert "<script>alert(1)</script>: 1.0" in page.text


def test_names_are_only_names_on_a_terminal(terminal):
    play(progress.Bar(), HOSTILE)
    text = terminal.getvalue()
    own = re.sub(r"\x1b\[(\?25[hl]|[\d;]*[mAK]|2K|1A)", "", text)  # what the bar itself sends: cursor, colours, lines
    assert "\x1b" not in own
    assert "\x07" not in own
    assert "\u202e" not in own
    assert "[red]x[/red]: 3.0" in own.replace("\n", "")


def test_names_are_only_names_on_plain_lines(capsys):
    play(progress.Lines(), HOSTILE)
    text = capsys.readouterr().out
    assert "\x1b" not in text
    assert len(text.splitlines()) == 2
    assert len(text) < 2000


@pytest.mark.parametrize("place", ["terminal", "notebook"])
def test_at_most_ten_looks_a_second(place, request, monkeypatch):
    """By a clock of our own: 10,000 steps of a millisecond, which are ten seconds."""
    request.getfixturevalue(place)
    ticks = itertools.count()
    monkeypatch.setattr(progress, "clock", lambda: next(ticks) * 1e-3)
    display, reads = progress.make_progress(1), []
    display.begin(0, 1, 10_000)
    for done in range(10_000):
        if next(ticks) * 1e-3 >= display.due:
            display.show(done, lambda: reads.append(1) or {})
    display.end(10_000, {})
    assert 80 <= len(reads) <= 101


@pytest.mark.parametrize("place", ["terminal", "notebook", "capsys"])
def test_metrics_are_read_only_for_a_look(place, request):
    request.getfixturevalue(place)
    model, reads = model_of(), []
    original = model.get_metrics_result
    model.__dict__["get_metrics_result"] = lambda: reads.append(1) or original()
    begun = time.perf_counter()
    model.fit(X, Y, batch_size=1, epochs=3)
    assert 3 <= len(reads) <= 3 + 10 * (time.perf_counter() - begun)


def test_nothing_is_read_for_nobody(capsys):
    display, reads = progress.make_progress(0), []
    assert display.due == float("inf")
    play(display, {})
    display.show(1, lambda: reads.append(1))
    assert reads == []
    assert capsys.readouterr().out == ""
