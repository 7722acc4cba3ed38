from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import hornbeam as keras
from architectures import GPT
from hornbeam import layers
from hornbeam.inspect import explorer as explorer_module
from hornbeam.inspect.explorer import PAGE, Explorer, html_of
from hornbeam.inspect.explorer_data import MOST, page_data
from hornbeam.inspect.plot_diagram import Box, Diagram, Group
from hornbeam.inspect.table import weights_of

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
HOSTILE = ["</script><script>window.bad=1</script>", "]]><img src=x onerror=window.bad=1>", "&lt;b&amp;", "a\x1b[31m",
           "\u202edcba", "\u2028", "__proto__", "constructor",
           "${window.bad=1}", "'\"><svg onload=window.bad=1>", "\ud800", "x" * 1_000_000]  # fmt: skip


def block(name: str, filters: int = 4) -> keras.Model:
    x = inputs = keras.Input((8, 8, 4))
    x = layers.Conv2D(filters, 3, padding="same", activation="relu", name="convolve")(x)
    return keras.Model(inputs, layers.Add(name="join")([inputs, layers.BatchNormalization(name="norm")(x)]), name=name)


def nested() -> keras.Model:
    """Blocks in blocks, more than are opened at first, and a layer that is called twice."""
    x = inputs = keras.Input((8, 8, 4), name="image")
    for stage in range(3):
        i = y = keras.Input((8, 8, 4))
        for number in range(4):
            y = block(f"block{number}")(y)
        x = keras.Model(i, y, name=f"stage{stage}")(x)
    twice = layers.Dense(4, name="twice")
    return keras.Model(inputs, layers.Dense(2, name="logits")(layers.Flatten()(twice(torch.tanh(twice(x))))), name="nested")


def data_of(page: Explorer) -> dict[str, Any]:
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page.html, re.S)[1])


def wide(count: int) -> Explorer:
    """A page of many calls in groups, without the time that a model of them takes to build."""
    diagram = Diagram("wide")
    for n in range(count // 25):
        group = Group(f"group{n}", module=nn.Identity())
        for k in range(25):
            kind, family = (("Dense", "dense"), ("LayerNormalization", "normalization"), ("relu", "activation"))[k % 3]
            shape = [(None, 16 + k % 3)]
            box = Box(len(diagram.boxes), f"call{k}", kind, family, 100 * (k % 3 == 0), shape, ["float32"], group=group)
            diagram.boxes.append(box)
    boxes = diagram.boxes
    diagram.edges = [*pairwise(boxes), *((boxes[n], boxes[n + 4]) for n in range(count - 4) if n % 25 < 20)]
    return Explorer(diagram, html_of(page_data(diagram, nn.Linear(2, 2), {})))


# -- what the page holds


def test_everything_a_layer_has_to_tell_is_in_the_page() -> None:
    page = nested().explore()
    data = data_of(page)
    note = lambda i: data["table"][i]  # noqa: E731
    assert data["metrics"] == [["weights", ""], ["FLOPs", ""], ["memory", "B"]]
    assert data["totals"][0] == nested().count_params()
    assert [(g[0], g[1]) for g in data["groups"]][1:5] == [("stage1", -1), ("stage2", -1), ("block0", 0), ("block1", 0)]
    name, kind, family, group, chip, shapes, shared, cost, config, weights, where, new = data["nodes"][1]
    assert (name, note(kind), data["families"][family][0]) == ("convolve", "Conv2D", "convolution")
    assert data["groups"][group][0] == "block0"
    assert (note(chip), note(shapes), shared) == ("8 × 8 × 4", ["(None, 8, 8, 4) float32"], -1)
    assert cost[:2] == [4 * 3 * 3 * 4 + 4, 2 * 8 * 8 * 4 * 3 * 3 * 4]
    assert new == cost[0]
    assert note(config)[0] == [["filters", "4"], ["kernel_size", "(3, 3)"], ["padding", "'same'"], ["activation", "'relu'"]]
    assert ["strides", "(1, 1)"] in note(config)[1]
    assert note(weights) == [["kernel", "(3, 3, 4, 4)", "float32", 1], ["bias", "(4,)", "float32", 1]]
    file, line = note(where)[0].rsplit(":", 1)
    assert Path(file).name == "test_explorer.py"
    assert note(where)[1] == Path(__file__).read_text(encoding="utf-8").splitlines()[int(line) - 1].strip()


def test_calls_of_one_layer_are_linked() -> None:
    nodes = data_of(nested().explore(cost=False))["nodes"]
    assert [(n[0], n[6]) for n in nodes if n[6] >= 0] == [("twice", 0), ("twice", 0)]


def test_costs_of_the_boxes_add_up_to_the_models() -> None:
    model = nested()
    data = data_of(model.explore(batch_size=4))
    found = keras.cost(model, batch_size=4) if hasattr(keras, "cost") else None
    sums = [sum(n[7][m] for n in data["nodes"]) for m in (1, 2)]
    assert sums == data["totals"][1:]
    if found is not None:
        assert data["totals"][1] == found.flops_forward
    assert "4 samples" in data["note"]


def test_a_module_that_cannot_be_costed_is_shown_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise RuntimeError("no kernel")

    monkeypatch.setattr("hornbeam.inspect.cost.cost_of", fails)
    data = data_of(nested().explore())
    assert data["metrics"] == [["weights", ""]]
    assert data["note"] == "Its cost could not be told: no kernel"


def test_any_module_is_explored_from_a_spec() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Sequential(nn.Flatten(), nn.LazyLinear(2)))
    before = {k: type(v) for k, v in module.named_parameters()}
    data = data_of(keras.explore(nn.Sequential(nn.Linear(3, 4), nn.Sequential(nn.ReLU(), nn.Linear(4, 2))), inputs=(None, 3)))
    assert [n[0] for n in data["nodes"]] == ["input_1", "0", "0", "1"]
    assert [g[0] for g in data["groups"]] == ["1"]
    assert before == {k: type(v) for k, v in module.named_parameters()}


def test_function_calls_tell_their_arguments() -> None:
    x = keras.Input((4, 6))
    data = data_of(keras.Model(x, torch.softmax(x.permute(0, 2, 1), dim=-1)).explore(cost=False))
    told = {n[0]: data["table"][n[8]][0] for n in data["nodes"] if n[8] >= 0 and data["table"][n[1]] != "Input"}
    assert told["softmax"] == [["dim", "-1"]]
    assert [v for _, v in told["permute"]] == ["0", "2", "1"]


def test_looking_changes_nothing() -> None:
    model = nested()
    torch.manual_seed(3)
    before, mode = torch.get_rng_state(), model.training
    first = model.explore(cost=False).html
    assert first == model.explore(cost=False).html
    assert torch.equal(before, torch.get_rng_state())
    assert model.training is mode
    assert all(w._lazy for w in weights_of(model))


def test_layers_with_one_weight_are_linked_and_it_counts_once() -> None:
    data = data_of(keras.explore(GPT(depth=1), inputs=(None, 32), cost=False))
    linked = {n[0]: (n[6], n[7][0], n[11]) for n in data["nodes"] if n[6] >= 0}
    assert linked == {"wte": (0, 64_000, 64_000), "head": (0, 64_000, 0)}
    assert sum(n[11] for n in data["nodes"]) == data["totals"][0]


def test_calls_of_one_layer_count_once_in_runs() -> None:
    x, dense = keras.Input((4,)), layers.Dense(4, name="again")
    y = x
    for n in range(80):
        y = dense(y) if n % 2 else layers.ReLU(name=f"relu_{n}")(y)
    data = data_of(keras.Model(x, y).explore(cost=False))
    assert {g[3] for g in data["groups"]} == {20}
    assert sum(n[11] for n in data["nodes"]) == data["totals"][0] == 20


def test_runs_of_equal_layers_have_names_of_their_own() -> None:
    data = data_of(keras.Sequential([keras.Input((4,)), *(layers.Dense(4, name=f"dense_{n}") for n in range(300))]).explore())
    names = [g[0] for g in data["groups"]]
    assert len(set(names)) == len(names) > 8
    assert re.fullmatch(r"dense_\d+ … dense_\d+", names[1])


def test_long_levels_are_cut_into_runs_where_few_values_pass() -> None:
    x = inputs = keras.Input((4,))
    for n in range(40):
        y = layers.Dense(4, name=f"block{n}_a")(x)
        x = layers.Add(name=f"block{n}_join")([x, layers.Dense(4, name=f"block{n}_b")(y)])
    data = data_of(keras.Model(inputs, x).explore(cost=False))
    parents = Counter([g[1] for g in data["groups"]] + [n[3] for n in data["nodes"]])
    assert max(parents.values()) <= MOST
    ends = [[n[0] for n in data["nodes"] if n[3] == g] for g in range(len(data["groups"]))]
    assert all(names[-1].endswith("_join") for names in ends if names)
    assert [n[0] for n in data["nodes"]][1:4] == ["block0_a", "block0_b", "block0_join"]


# -- safety and files


class _Tags(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.counts[tag] += 1


def hostile() -> Explorer:
    x = inputs = keras.Input((4,), name="in")
    for name in HOSTILE:
        dense = layers.Dense(4, name="plain")
        dense.__dict__["name"] = name
        x = dense(x)
    model = keras.Model(inputs, x)
    model.__dict__["name"] = HOSTILE[0]
    return model.explore(cost=False)


def test_hostile_names_add_no_element_and_no_control_character() -> None:
    page = hostile()
    plain = keras.Sequential([keras.Input((4,)), layers.Dense(4)]).explore(cost=False)
    assert _Tags(page.html).counts == _Tags(plain.html).counts
    assert "\x1b" not in page.html
    assert "\u202e" not in page.html
    assert len(page.html) < len(plain.html) + 20_000
    page.html.encode()


def test_only_the_pages_own_script_may_run() -> None:
    html = nested().explore(cost=False).html
    script, policy = re.search(r"\n<script>(.*)</script></body>", html, re.S)[1], re.search(r'Policy" content="(.*?)"', html)[1]
    style = re.search(r"<style>(.*?)</style>", html, re.S)[1]
    hashes = ["sha256-" + base64.b64encode(hashlib.sha256(t.encode()).digest()).decode() for t in (script, style)]
    assert policy == f"default-src 'none'; script-src '{hashes[0]}'; style-src '{hashes[1]}'"
    assert "</script" not in script
    assert "\r" not in script
    assert "Chris Pettitt" in script
    assert "innerHTML" not in (PAGE / "explorer.js").read_text(encoding="utf-8")


def test_vendored_files_are_those_that_were_checked() -> None:
    known = json.loads((PAGE / "vendored.json").read_text(encoding="utf-8"))
    assert known["licence"] == "MIT"
    for name, facts in known["files"].items():
        assert hashlib.sha256((PAGE / name).read_bytes()).hexdigest() == facts["sha256"]


def test_a_page_is_written_wholly_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "model.html"
    page = nested().explore(target, cost=False)
    assert target.read_text(encoding="utf-8") == page.html

    def fails(*_: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(explorer_module.os, "replace", fails)
    target.write_text("before")
    with pytest.raises(OSError, match="disk full"):
        page.save(target)
    assert target.read_text() == "before"
    assert os.listdir(tmp_path) == ["model.html"]


def test_mistakes_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"ends with \.html\. Received: to_file='model\.png'"):
        nested().explore("model.png")
    with pytest.raises(ValueError, match=r"explore: Sequential has not been called yet.*Give `inputs`"):
        keras.explore(nn.Sequential(nn.Linear(2, 2)), tmp_path / "a.html")
    assert not list(tmp_path.iterdir())


def test_a_notebook_shows_the_page_in_a_frame_of_its_own() -> None:
    page = nested().explore(cost=False)
    shown = page._repr_html_()
    assert re.match(r'<iframe srcdoc="&lt;!doctype html&gt;', shown)
    assert 'sandbox="allow-scripts"' in shown
    assert _Tags(shown).counts == {"iframe": 1}
    assert repr(page).startswith("<Explorer of 'nested': 42 calls, ")


# -- in a browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("The explorer's page needs a browser to be tested: install Chromium (Debian: apt-get install chromium).")
    playwright = pytest.importorskip("playwright.sync_api", reason="The explorer's page is driven by pip's playwright.")
    with playwright.sync_playwright() as driver:
        try:
            made = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        except playwright.Error as error:
            pytest.skip(f"Chromium at {CHROMIUM} does not start: {str(error)[:200]}")
        yield made
        made.close()


CORNER = "(b => [b.x + 50, b.y + 10])(document.getElementById('picture').getBoundingClientRect())"


class Tab:
    """An opened page; every error on it and every address that it asks for is noted."""

    def __init__(self, browser: Any, path: Path, mark: str = "", width: int = 1400, **options: Any) -> None:
        self.page = browser.new_page(viewport={"width": width, "height": 850}, **options)
        self.errors: list[str] = []
        self.asked: list[str] = []
        self.page.on("pageerror", lambda e: self.errors.append(str(e)))
        self.page.on("console", lambda m: self.errors.append(m.text) if m.type == "error" else None)
        self.page.on("request", lambda r: self.asked.append(r.url))
        self.page.goto(path.as_uri() + mark)

    def __call__(self, code: str) -> Any:
        return self.page.evaluate(code)

    def click(self, path: str) -> None:
        x, y = self(f"explorer.screen(explorer.find({json.dumps(path)}))")
        self.page.mouse.click(x, y)

    def text(self, selector: str) -> str:
        return self.page.inner_text(selector)


@pytest.fixture
def open_page(browser: Any, tmp_path: Path) -> Iterator[Any]:
    tabs: list[Tab] = []

    def opened(page: Explorer, mark: str = "", **options: Any) -> Tab:
        page.save(tmp_path / "page.html")
        tabs.append(Tab(browser, tmp_path / "page.html", mark, **options))
        return tabs[-1]

    yield opened
    for tab in tabs:
        assert tab.errors == []
        assert all(address.startswith("file:") and "page.html" in address for address in tab.asked)
        tab.page.close()


def test_it_opens_and_shows_the_model_at_first_sight(open_page: Any) -> None:
    tab = open_page(nested().explore())
    assert tab("explorer.stats.ready") > 0
    assert tab("explorer.boxes.length") > 12
    assert "42 calls · " in tab.text("#totals")
    assert "FLOPs" in tab.text("#totals")
    assert "nested" in tab.text("#details h2")
    colours = """(() => {
        const c = document.getElementById('picture'), d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
        return new Set(Array.from({length: d.length / 4}, (_, i) => d[4 * i] << 16 | d[4 * i + 1] << 8 | d[4 * i + 2])).size;
    })()"""
    assert tab(colours) > 50


def test_clicks_open_and_close_groups(open_page: Any) -> None:
    tab = open_page(nested().explore(cost=False))
    assert tab("explorer.find('stage2/block3').open") is False
    tab("explorer.every(false)")
    tab("explorer.draw()")
    boxes = tab("explorer.boxes.length")
    tab.click("stage1")
    assert tab("explorer.find('stage1').open") is True
    assert tab("explorer.boxes.length") == boxes + 4
    assert tab.text("#details h2") == "stage1"
    tab.page.wait_for_timeout(400)
    tab("explorer.draw()")
    tab.click("stage1")
    assert tab("explorer.find('stage1').open") is False
    tab.page.click("#open")
    assert tab("explorer.boxes.every(b => !b.kids || b.open)") is True
    tab.page.click("#close")
    assert tab("explorer.boxes.length") == boxes


def test_a_double_click_opens_once(open_page: Any) -> None:
    tab = open_page(nested().explore(cost=False))
    tab("explorer.every(false)")
    x, y = tab("(explorer.draw(), explorer.screen(explorer.find('stage1')))")
    tab.page.mouse.dblclick(x, y)
    assert tab("explorer.find('stage1').open") is True
    assert tab("explorer.selected.name") == "stage1"


def test_a_click_on_a_layer_shows_what_it_is(open_page: Any) -> None:
    tab = open_page(nested().explore())
    tab("explorer.every(true)")
    look = "i => { explorer.view = {k: 1, x: i.x - 300, y: i.y - 300}; explorer.draw(); }"
    tab(f"({look})(explorer.find('stage0/block0/convolve'))")
    tab.click("stage0/block0/convolve")
    told = tab.text("#details")
    assert tab.text("#details h2") == "convolve"
    parts = ["stage0/block0/convolve", "Conv2D", "(None, 8, 8, 4) float32", "148", "18,432", "test_explorer.py:", "'same'"]
    for part in [*parts, "filters", "kernel", "(3, 3, 4, 4)"]:
        assert part in told
    assert "x = layers.Conv2D(filters, 3" in tab.text("#details pre")
    tab.page.click("#details .link >> text=stage0/block0/norm")
    assert tab.text("#details h2") == "norm"


def test_search_finds_and_shows(open_page: Any) -> None:
    tab = open_page(nested().explore(cost=False))
    tab.page.keyboard.press("/")
    tab.page.keyboard.type("block3 convolve")
    assert tab.text("#results p") == "3 found"
    tab.page.keyboard.press("Enter")
    tab.page.keyboard.press("Enter")
    assert tab.text("#details h2") == "convolve"
    assert "stage1/block3/convolve" in tab.text("#details")
    assert tab("explorer.find('stage1/block3').open") is True
    x, y = tab("explorer.screen(explorer.selected)")
    assert 250 < x < 1090
    assert 45 < y < 850
    tab.page.keyboard.press("Escape")
    assert tab.page.is_hidden("#results")


def test_keys_walk_through_the_outline(open_page: Any) -> None:
    tab = open_page(nested().explore(cost=False))
    tab.page.click("#close")
    tab.page.focus("#outline")
    for key in ("ArrowDown", "ArrowDown", "Enter", "ArrowRight"):
        tab.page.keyboard.press(key)
    assert tab("explorer.selected.name") == "block0"
    assert tab("document.getElementById('outline').getAttribute('aria-activedescendant')") == tab("'t' + explorer.selected.id")
    assert tab.text("[role=treeitem][aria-selected=true]") == "▸block0"
    tab.page.keyboard.press("ArrowLeft")
    assert tab("explorer.selected.name") == "stage0"
    tab.page.keyboard.press("ArrowLeft")
    assert tab("explorer.find('stage0').open") is False
    zoom = tab("explorer.view.k")
    tab.page.keyboard.press("+")
    assert tab("explorer.view.k") == pytest.approx(1.25 * zoom)


def test_dragging_moves_and_the_wheel_zooms(open_page: Any) -> None:
    tab = open_page(nested().explore(cost=False))
    before = tab("({...explorer.view})")
    tab.page.mouse.move(300, 400)
    tab.page.mouse.down()
    tab.page.mouse.move(350, 460, steps=3)
    tab.page.mouse.up()
    after = tab("({...explorer.view})")
    assert (before["x"] - after["x"]) * after["k"] == pytest.approx(50)
    assert (before["y"] - after["y"]) * after["k"] == pytest.approx(60)
    tab.page.keyboard.down("Control")
    tab.page.mouse.wheel(0, -100)
    tab.page.keyboard.up("Control")
    tab.page.wait_for_timeout(50)
    assert tab("explorer.view.k") > after["k"]


def test_addresses_lead_to_a_layer(open_page: Any) -> None:
    tab = open_page(nested().explore(cost=False), "#stage2%2Fblock3%2Fnorm")
    assert tab.text("#details h2") == "norm"
    tab("explorer.select(explorer.find('stage0/block0'))")
    assert tab("decodeURIComponent(location.hash)") == "#stage0/block0"


def test_the_frame_in_a_notebook_works(browser: Any, tmp_path: Path) -> None:
    shown = nested().explore(cost=False)._repr_html_()
    (tmp_path / "notebook.html").write_text(f"<!doctype html><body>{shown}", encoding="utf-8")
    tab = Tab(browser, tmp_path / "notebook.html")
    frame = tab.page.frames[1]
    frame.evaluate("explorer.every(false); explorer.draw()")
    x, y = frame.evaluate("explorer.screen(explorer.find('stage1'))")
    left, top = tab("(b => [b.x, b.y])(document.querySelector('iframe').getBoundingClientRect())")
    tab.page.mouse.click(left + x, top + y)
    assert frame.evaluate("explorer.find('stage1').open") is True
    assert frame.inner_text("#details h2") == "stage1"
    assert tab.errors == []
    tab.page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_tell_families_or_costs_in_light_and_dark(open_page: Any, scheme: str) -> None:
    tab = open_page(nested().explore(), color_scheme=scheme)
    assert tab("document.documentElement.dataset.theme") == scheme
    assert "convolution" in tab.text("#legend")
    corner = "[...document.getElementById('picture').getContext('2d').getImageData(3, 3, 1, 1).data].slice(0, 3)"
    assert (sum(tab(corner)) > 600) == (scheme == "light")
    x, y = tab("explorer.screen(explorer.find('image'))")
    x, y = (round(v - by) for v, by in zip((x, y), tab(CORNER), strict=True))
    pixel = f"[...document.getElementById('picture').getContext('2d').getImageData({x}, {y}, 1, 1).data].join()"
    by_family = tab(pixel)
    tab.page.select_option("#colour", label="FLOPs")
    tab("explorer.draw()")
    assert "the most of a box" in tab.text("#legend")
    assert tab(pixel) != by_family
    tab.page.click("#theme")
    assert tab("document.documentElement.dataset.theme") != scheme


def test_hostile_names_run_nothing(open_page: Any) -> None:
    tab = open_page(hostile())
    tab("explorer.every(true)")
    for i in range(len(HOSTILE)):
        tab(f"explorer.select(explorer.boxes.filter(b => !b.kids)[{i + 1}]); explorer.draw()")
    tab.page.keyboard.press("/")
    tab.page.keyboard.type("<script>")
    assert tab.text("#results p") == "1 found"
    assert tab("typeof window.bad") == "undefined"
    assert tab("document.querySelectorAll('img, svg, iframe').length") == 0


def test_boxes_neither_overlap_nor_leave_their_group(open_page: Any) -> None:
    tab = open_page(nested().explore(cost=False))
    tab("explorer.every(true)")
    boxes = tab("explorer.boxes.map(b => [b.x, b.y, b.x + b.w, b.y + b.h, b.id, b.parent ? b.parent.id : -1])")
    place = {b[4]: b for b in boxes}
    for x0, y0, x1, y1, me, parent in boxes:
        if parent >= 0:
            X0, Y0, X1, Y1, *_ = place[parent]
            assert X0 <= x0 <= x1 <= X1
            assert Y0 <= y0 <= y1 <= Y1
        for a0, b0, a1, b1, other, its in boxes:
            assert other == me or its != parent or x1 <= a0 or a1 <= x0 or y1 <= b0 or b1 <= y0


def branches(count: int) -> Explorer:
    x = keras.Input((8,))
    ways = [layers.ReLU(name=f"relu_{n}")(layers.Dense(4, name=f"dense_{n}")(x)) for n in range(count)]
    return keras.Model(x, layers.Dense(2, name="end")(layers.Concatenate(name="join")(ways))).explore(cost=False)


@pytest.mark.parametrize("count", [24, 300])
def test_many_branches_stand_in_several_rows(open_page: Any, count: int) -> None:
    tab = open_page(branches(count))
    tab("explorer.every(true)")
    wide_, high = tab("[explorer.root.w, explorer.root.h]")
    assert 0.4 < wide_ / high < 4
    leaves = tab("explorer.boxes.filter(b => !b.kids).map(b => [b.name, b.x, b.y, b.x + b.w, b.y + b.h])")
    assert len(leaves) == 2 * count + 3
    for n, (_, x0, y0, x1, y1) in enumerate(leaves):
        assert all(x1 <= a0 or a1 <= x0 or y1 <= b0 or b1 <= y0 for _, a0, b0, a1, b1 in leaves[n + 1 :])
    if count == 24:
        place = {name: ((x0 + x1) / 2, y0) for name, x0, y0, x1, _ in leaves}
        assert len({round(place[f"dense_{n}"][1]) for n in range(count)}) > 2
        for n in range(count):
            assert place[f"dense_{n}"][0] == pytest.approx(place[f"relu_{n}"][0], abs=1)
            assert place["join"][1] > place[f"relu_{n}"][1] > place[f"dense_{n}"][1]


def test_a_few_branches_stand_side_by_side(open_page: Any) -> None:
    tab = open_page(branches(8))
    assert len(set(tab("explorer.boxes.filter(b => b.name.startsWith('dense')).map(b => Math.round(b.y))"))) == 1


def test_chains_stand_straight_and_rows_of_groups_do_not_drift(open_page: Any) -> None:
    tab = open_page(nested().explore(cost=False))
    tab("explorer.every(true)")
    middles = tab("explorer.boxes.filter(b => b.parent && !b.kids).map(b => [b.parent.id, b.x + b.w / 2])")
    for group in {g for g, _ in middles}:
        assert len({round(x) for g, x in middles if g == group}) == 1
    assert tab("explorer.boxes[0].w") < 400


def test_shares_are_percents_and_tied_weights_count_once(open_page: Any) -> None:
    tab = open_page(keras.explore(GPT(depth=1), inputs=(None, 32)))
    told = lambda name: (tab(f"explorer.select(explorer.find('{name}'))"), tab.text("#details dl"))[1]  # noqa: E731
    whole = sum(p.numel() for p in GPT(depth=1).parameters())
    assert f"64,000 {100 * 64_000 / whole:.1f} %" in told("wte")
    assert "64,000 counted at wte" in told("head")
    assert "wte" in tab.text("#details")
    tab("explorer.select(null)")
    assert "wte" in tab.text("#details")
    assert "head" not in tab.text("#details")
    one = open_page(keras.Sequential([keras.Input((4,)), layers.Dense(4, name="all")]).explore())
    one("explorer.select(explorer.find('all'))")
    assert "20 100 %" in one.text("#details dl")


def test_panels_of_a_narrow_window_open_and_close(open_page: Any) -> None:
    tab = open_page(nested().explore(cost=False), width=600)
    visible = tab.page.is_visible
    assert not visible("nav")
    assert not visible("aside")
    tab.page.click("#menu")
    assert visible("#search")
    assert visible("#outline")
    tab.page.keyboard.press("/")
    tab.page.keyboard.type("block3 norm")
    tab.page.click("#results .link >> nth=0")
    assert visible("aside")
    assert not visible("nav")
    assert tab.text("#details h2") == "norm"
    tab.page.click("#about")
    assert not visible("aside")
    tab.page.click("#open")
    assert tab("explorer.boxes.every(b => !b.kids || b.open)") is True
    for button in ("menu", "about", "open", "close", "theme"):
        box = tab.page.locator(f"#{button}").bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 600
    assert tab("document.documentElement.scrollWidth") <= 600


def test_zero_fits_all_of_it_above_the_legend(open_page: Any) -> None:
    for page in (nested().explore(cost=False), wide(5000)):
        tab = open_page(page)
        tab("explorer.every(true)")
        tab.page.keyboard.press("0")
        left, top, right, bottom = tab(
            "(v => [-v.x * v.k, -v.y * v.k, (explorer.root.w - v.x) * v.k, (explorer.root.h - v.y) * v.k])(explorer.view)"
        )
        wide_, high, legend = tab("(c => [c.clientWidth, c.clientHeight, legend.offsetTop])(document.getElementById('picture'))")
        assert 0 <= left < right <= wide_
        assert 0 <= top < bottom <= legend < high


def test_five_thousand_calls_are_usable(open_page: Any) -> None:
    tab = open_page(wide(5000))
    assert tab("explorer.stats.ready") < 5000
    assert tab("explorer.boxes.length") < 200
    timed = "(act => { const start = performance.now(); act(); return performance.now() - start; })"
    assert tab(timed + "(() => { explorer.every(true); explorer.draw(); })") < 10_000
    assert tab("explorer.boxes.length") > 5200
    frame = "explorer.view = {k: .4, x: explorer.view.x, y: 3000 * n}; explorer.draw();"
    assert tab(timed + f"(() => {{ for (let n = 0; n < 10; n++) {{ {frame} }} }})") < 1000
    tab.page.keyboard.press("/")
    tab.page.keyboard.type("group199 call24")
    tab.page.keyboard.press("Enter")
    assert tab("explorer.selected.name") == "call24"
    tab("explorer.draw()")
    tab.click("group199/call24")
    assert "group199/call24" in tab.text("#details")
