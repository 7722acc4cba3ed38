"""Pictures of runs: what they show, whatever the results are."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser

import numpy as np
import pytest

from hornbeam import utils
from hornbeam.callbacks import History
from hornbeam.inspect.history import plot_history, series_of, spread, summary_html, summary_text
from hornbeam.inspect.history_scene import BAD, HEIGHT, WIDTH, Curve, Scale, epoch_ticks, round_step, value_text
from hornbeam.inspect.plot_scene import Path, Rectangle, Text, bounds
from hornbeam.inspect.plot_text import measure
from hornbeam.layers import Dense, Input
from hornbeam.models import Sequential

NAN, INF = float("nan"), float("inf")
RUNS = {
    "usual": {"loss": [3, 2, 1], "val_loss": [3, 2.5, 2.6], "accuracy": [0.1, 0.5, 0.8], "val_accuracy": [0.1, 0.4, 0.5]},
    "one epoch": {"loss": [0.5], "val_loss": [0.7]},
    "thousand epochs": {"loss": [1 / (i + 1) for i in range(1000)], "mae": [math.sin(i) for i in range(1000)]},
    "twelve metrics": {f"{'val_' * v}m{i}": [i, v, 3] for i in range(12) for v in (0, 1)},
    "holes": {"loss": [NAN, 2, INF, NAN, 1], "val_loss": [NAN] * 5, "mae": [-INF, 1, 1, 1, 1]},
    "nothing but holes": {"loss": [NAN, NAN]},
    "one value": {"loss": [0.25] * 9},
    "zeros": {"loss": [0.0] * 3, "mae": [-1.0, 0.0, 1.0]},
    "tiny": {"loss": [1e-12, 3e-12, 2e-12], "learning_rate": [1e-9, 1e-10, 1e-11]},
    "huge": {"loss": [1e30, 1e29, 3e28], "mae": [-1e8, 1e8, 0]},
    "far apart": {"loss": [1e6, 1e2, 1e-4]},
    "nearly equal": {"loss": [1.0, 1.0 + 1e-12, 1.0 - 1e-12]},
    "integers": {"loss": [np.int64(3), np.float32(2), 1]},
}


def texts(chart):
    return [m.text for m in chart.marks if isinstance(m, Text)]


@pytest.mark.parametrize("run", RUNS)
def test_all_marks_lie_in_their_panels(run):
    chart = plot_history(RUNS[run])
    x, y, width, height = bounds(chart.marks)
    assert all(map(math.isfinite, (x, y, width, height)))
    assert width <= 4 * (WIDTH + 95) + 40
    ElementTree.fromstring(chart.svg)
    numbers = [v for m in chart.marks if isinstance(m, Path) for op in m.ops for v in op[1:]]
    assert all(map(math.isfinite, numbers))
    panels = [m for m in chart.marks if isinstance(m, Rectangle) and m.width > WIDTH and m.height > HEIGHT]
    assert len(panels) == len(chart.panels)
    for mark in chart.marks:
        if isinstance(mark, Path) and mark.ops[0][2] > 40:
            points = [(op[1], op[2]) for op in mark.ops]
            assert any(all(p.x <= px <= p.x + p.width and p.y <= py <= p.y + p.height for px, py in points) for p in panels)


@pytest.mark.parametrize("run", RUNS)
def test_ticks_are_few_and_different(run):
    for panel in plot_history(RUNS[run]).panels:
        values = [v for c in panel.curves for _, v in c.finite]
        if values:
            ticks = Scale(values).ticks()
            assert 1 <= len(ticks) <= 9
            assert len({text for _, text in ticks}) == len(ticks)
            assert all(-1e-9 <= Scale(values).place(v) <= 1 + 1e-9 for v, _ in ticks)


def test_panels_and_their_order():
    run = {"mae": [1, 2], "val_mae": [1, 2], "learning_rate": [1, 1], "b_loss": [1, 1], "loss": [2, 1], "val_loss": [1, 1]}
    chart = plot_history(run)
    assert [p.title for p in chart.panels] == ["loss", "b_loss", "mae", "learning rate"]
    both = ["train", "validation"]
    assert [[c.name for c in p.curves] for p in chart.panels] == [both, ["train"], both, [""]]
    assert {"train", "validation", "best"} <= set(texts(chart))


def test_chosen_results():
    run = {"loss": [1, 2], "mae": [1, 2], "val_mae": [2, 1]}
    assert [p.title for p in plot_history(run, "mae").panels] == ["mae"]
    assert [p.title for p in plot_history(run, ["mae", "loss"]).panels] == ["mae", "loss"]
    with pytest.raises(ValueError, match=r"there is no result 'mea'. Did you mean 'mae'\? Results: loss, mae"):
        plot_history(run, ["mea"])


@pytest.mark.parametrize(
    ("name", "best"), [("loss", (2, 0.5)), ("accuracy", (1, 3.0)), ("gain", None), ("mean_squared_error", (2, 0.5))]
)
def test_the_best_epoch(name, best):
    (panel,) = plot_history({name: [9, 9, 9, 9], f"val_{name}": [3.0, 0.5, NAN, 1.0]}).panels
    assert (panel.best and panel.best[1]) == best
    assert (panel.best and panel.best[0].name) == (best and "validation")


def test_the_best_epoch_is_written():
    chart = plot_history({"loss": [1, 0.25, 0.5]})
    assert "0.25 at 2" in texts(chart)
    assert "3 epochs · lowest loss 0.25 at epoch 2" in texts(chart)


def test_what_is_no_number_is_a_cross():
    chart = plot_history({"loss": [1.0, NAN, INF, 0.5]})
    crosses = [m for m in chart.marks if isinstance(m, Path) and m.stroke == BAD]
    assert len(crosses) == 2 + 1  # and one that says what they mean
    assert "no number" in texts(chart)
    assert "no number" not in texts(plot_history({"loss": [1.0, 0.5]}))


def test_no_line_runs_over_a_hole():
    chart = plot_history({"loss": [3.0, 2.0, NAN, 1.0, 0.5]})
    lines = [m for m in chart.marks if _is_curve(m)]
    assert sorted(len(m.ops) for m in lines) == [2, 2]


def _is_curve(mark):
    return isinstance(mark, Path) and mark.line == 1.9


def test_no_peak_is_lost():
    values = [1.0] * 5000
    values[1234], values[3210] = 11.0, -9.0
    chart = plot_history({"gain": values})
    (line,) = [m for m in chart.marks if isinstance(m, Path) and len(m.ops) > 50]
    heights = [op[2] for op in line.ops]
    usual = sorted(heights)[len(heights) // 2]
    assert len(line.ops) < 4 * (WIDTH + 2)
    assert usual - min(heights) == pytest.approx(max(heights) - usual, abs=0.01)
    assert usual - min(heights) > HEIGHT / 3


@pytest.mark.parametrize(("given", "log"), [(None, True), (False, False), (True, True)])
def test_logarithmic_axes(given, log):
    marks = plot_history({"loss": [1000.0, 10.0, 0.1]}, log=given).marks
    (line,) = [m for m in marks if _is_curve(m)]
    (_, _, high), (_, _, middle), (_, _, low) = line.ops
    assert (abs((high + low) / 2 - middle) < 1) is log


def test_an_accuracy_is_never_logarithmic_by_itself():
    (line,) = [m for m in plot_history({"accuracy": [0.001, 0.5, 0.999]}).marks if _is_curve(m)]
    assert abs((line.ops[0][2] + line.ops[2][2]) / 2 - line.ops[1][2]) < 1


def test_validation_of_every_other_epoch():
    model = Sequential([Input((2,)), Dense(1)], name="net")
    model.compile("sgd", "mse")
    x, y = np.ones((8, 2), "float32"), np.ones((8, 1), "float32")
    history = model.fit(x, y, epochs=5, verbose=0, validation_data=(x, y), validation_freq=2)
    assert [e for e, _ in series_of(history)["val_loss"]] == [2, 4]
    assert [e for e, _ in series_of(history.history)["val_loss"]] == [4, 5]  # the plain lists do not tell
    assert "Training of net" in texts(history.plot())
    assert [e for e, _ in series_of(History_of(history.state_dict()))["val_loss"]] == [2, 4]


def History_of(state):
    made = History()
    made.load_state_dict(state)
    return made


def test_a_run_that_began_later():
    model = Sequential([Input((2,)), Dense(1)])
    model.compile("sgd", "mse")
    history = model.fit(np.ones((8, 2)), np.ones((8, 1)), initial_epoch=3, epochs=5, verbose=0)
    assert [e for e, _ in series_of(history)["loss"]] == [4, 5]


@pytest.mark.parametrize(("count", "longest", "epochs"), [(3, 3, [0, 1, 2]), (2, 4, [1, 3]), (2, 5, [3, 4]), (1, 3, [2])])
def test_where_plain_lists_lie(count, longest, epochs):
    assert spread(count, longest) == epochs


def test_data_frames_and_other_mappings():
    class Frame:
        columns = {"epoch": [0, 1], "loss": np.array([2.0, 1.0]), "text": ["a", "b"]}
        keys = columns.keys
        __getitem__ = lambda self, k: self.columns[k]  # noqa: E731
        __iter__ = lambda self: iter(self.columns)  # noqa: E731

    assert series_of(Frame()) == {"loss": [(1, 2.0), (2, 1.0)]}


@pytest.mark.parametrize("history", [[1, 2], 3, "loss", None])
def test_what_is_no_history(history):
    with pytest.raises(TypeError, match=r"takes a History or a mapping from names to values. Received: "):
        plot_history(history)


@pytest.mark.parametrize("history", [{}, History(), {"text": ["a"]}])
def test_an_empty_history(history):
    with pytest.raises(ValueError, match="holds no results yet; `fit` fills it"):
        plot_history(history)
    assert summary_text(history).startswith("0 epochs")
    assert "0 epochs" in summary_html(history)


@pytest.mark.parametrize(("ending", "start"), [("png", b"\x89PNG"), ("svg", b"<svg"), ("pdf", b"%PDF"), ("html", b"<!doctype")])
def test_files(tmp_path, ending, start):
    pytest.importorskip("resvg_py")
    pytest.importorskip("matplotlib")
    utils.plot_history(RUNS["usual"], to_file=tmp_path / f"run.{ending}", title="Mine")
    assert (tmp_path / f"run.{ending}").read_bytes().startswith(start)


def test_a_file_of_another_kind(tmp_path):
    with pytest.raises(ValueError, match=r"plot_history writes .png, .svg, .pdf, .html. Received: to_file='.*run.gif'"):
        plot_history(RUNS["usual"], to_file=tmp_path / "run.gif")


class Tags(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags = set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        assert not any(name.startswith("on") for name, _ in attrs)


@pytest.mark.parametrize("name", ["</script><script>x</script>", "]]>", "a&b", "\x1b[31m", "\u202e", "x" * 100_000, "a\nb"])
def test_names_are_only_names(name):
    run = {name: [1.0, 2.0], f"val_{name}": [1.0, 3.0]}
    chart = plot_history(run, title=name)
    root = ElementTree.fromstring(chart.svg)
    assert {e.tag.rpartition("}")[2] for e in root.iter()} <= {"svg", "title", "rect", "text", "path", "g"}
    assert "script" not in Tags(summary_html(run)).tags
    assert "\x1b" not in chart.svg + summary_html(run) + summary_text(run)
    assert not re.search("[\n\u202e]", summary_text(run))


def test_a_history_as_text_and_html():
    history = History()
    for epoch, (loss, accuracy) in enumerate([(2.0, 0.5), (0.5, 0.75), (1.0, 0.7)]):
        history.on_epoch_end(epoch, {"loss": loss, "accuracy": accuracy, "learning_rate": 0.001})
    assert repr(history) == "<History of 3 epochs: loss 1 (best 0.5 at 2), accuracy 0.7 (best 0.75 at 2), learning_rate 0.001>"
    page = history._repr_html_()
    assert Tags(page).tags >= {"svg", "table", "details"}
    assert "0.75" in page


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.5, "0.5"), (1234.5, "1,234"), (1e-5, "1.00e-05"), (NAN, "NaN"), (INF, "∞"), (-INF, "-∞"), (-0.25, "-0.25")],
)
def test_values_as_text(value, text):
    assert value_text(value) == text


@pytest.mark.parametrize("last", [1, 2, 9, 10, 37, 100, 999, 1000, 123456])
def test_epochs_below_a_panel(last):
    ticks = epoch_ticks(1, last)
    assert ticks[0] == 1
    assert ticks == sorted(set(ticks))
    assert len(ticks) <= 9
    assert ticks[-1] <= last


@pytest.mark.parametrize(("about", "step"), [(0.1, 0.1), (0.11, 0.2), (3, 5), (6, 10), (1e-9, 1e-9)])
def test_round_steps(about, step):
    assert round_step(about) == pytest.approx(step)


def test_curves_know_their_numbers():
    assert Curve("train", "#000", [(1, NAN), (2, 1.0), (3, INF)]).finite == [(2, 1.0)]


@pytest.mark.parametrize("values", [[8e5, 5e5, 3e5], [-8e5, 1.0, 3e5], [1e-9, 4e-9, 9e-9], [-1.5e9, 2e9, 3e9]])
def test_labels_keep_away_from_the_card_and_the_ring(values: list[float]):
    marks = plot_history({"loss": values}).marks
    card = max((m for m in marks if isinstance(m, Rectangle)), key=lambda m: m.width * m.height)
    ring = next(m for m in marks if isinstance(m, Rectangle) and m.width == 9)
    field = min(op[1] for m in marks if isinstance(m, Path) for op in m.ops)
    labels = [m for m in marks if isinstance(m, Text) and m.anchor == "start" and m.size == 9.5]
    assert len(labels) > 1
    for label in labels:
        assert label.x >= card.x + 5
        assert label.x + measure(label.text, label.size) <= min(field, ring.x) - 3
