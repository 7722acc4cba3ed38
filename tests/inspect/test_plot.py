from __future__ import annotations

import itertools
import struct
import sys
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import keras as theirs
import pytest
import torch
import torch.nn.functional as F

import hornbeam as keras
from hornbeam import layers
from hornbeam.inspect import plot_layout, plot_pieces, plot_write
from hornbeam.inspect.plot import Picture
from hornbeam.inspect.plot_diagram import Box, family_of, family_of_function
from hornbeam.inspect.plot_placed import Point
from hornbeam.inspect.plot_scene import Rectangle, _Scene, bounds
from hornbeam.utils import model_to_dot, plot_model
from signatures import parameters

SVG = "{http://www.w3.org/2000/svg}"


def branches() -> keras.Model:
    x = inputs = keras.Input((28, 28, 1), name="image")
    x = torch.relu(layers.Conv2D(8, 3, padding="same", name="first")(x))
    a, b = layers.Conv2D(8, 3, padding="same", name="a")(x), layers.Conv2D(8, 5, padding="same", name="b")(x)
    x = layers.Flatten()(layers.Concatenate(name="join")([a, b]))
    return keras.Model(inputs, layers.Dense(10, activation="softmax", name="digit")(x), name="branches")


def siamese() -> keras.Model:
    i = keras.Input((8,))
    tower = keras.Model(i, layers.Dense(4, name="embed")(torch.tanh(i)), name="tower")
    left, right = keras.Input((8,), name="left"), keras.Input((8,), name="right")
    return keras.Model([left, right], tower(left) - tower(right), name="siamese")


def block(name: str, width: int = 8) -> keras.Model:
    i = keras.Input((width,))
    return keras.Model(i, layers.Add()([i, layers.Dense(width)(layers.LayerNormalization()(i))]), name=name)


def stacked(count: int) -> keras.Model:
    x = inputs = keras.Input((8,))
    for k in range(count):
        x = block(f"block{k}")(x)
    return keras.Model(inputs, layers.Dense(2)(x), name="stacked")


def chain(count: int) -> keras.Model:
    x = inputs = keras.Input((4,))
    for _ in range(count):
        x = layers.Dense(4)(x)
    return keras.Model(inputs, x)


def residual(count: int, skip: bool = False) -> keras.Model:
    x = inputs = keras.Input((4,))
    for _ in range(count):
        x = layers.Add()([x, layers.ReLU()(layers.BatchNormalization()(layers.Dense(4)(x)))])
    return keras.Model(inputs, layers.Add()([inputs, x]) if skip else x)


def dense_blocks() -> keras.Model:
    x = keras.Input((8, 8, 4))
    inputs = x
    for count in (6, 12):
        for _ in range(count):
            y = layers.Conv2D(4, 1)(layers.ReLU()(layers.BatchNormalization()(x)))
            y = layers.Conv2D(2, 3, padding="same")(layers.ReLU()(layers.BatchNormalization()(y)))
            x = layers.Concatenate()([x, y])
        x = layers.AveragePooling2D(2)(layers.Conv2D(4, 1)(x))
    return keras.Model(inputs, x)


def unet() -> keras.Model:
    x = inputs = keras.Input((32, 32, 3))
    skips = []
    for c in (4, 8, 16):
        skips.append(torch.relu(layers.Conv2D(c, 3, padding="same")(x)))
        x = layers.MaxPooling2D()(skips[-1])
    for c in (16, 8, 4):
        x = layers.Concatenate()([skips.pop(), layers.Conv2DTranspose(c, 2, strides=2)(x)])
    return keras.Model(inputs, layers.Conv2D(1, 1)(x))


class Net(keras.Model):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = layers.Conv2D(4, 3), torch.nn.BatchNorm2d(4)
        self.body = keras.Sequential([layers.Dense(8), layers.Dropout(0.5)], name="body")

    def call(self, x: torch.Tensor) -> torch.Tensor:
        return F.gelu(self.body(self.norm(self.conv(x).permute(0, 3, 1, 2)).flatten(1)))


def built() -> Net:
    net = Net()
    net.build((None, 8, 8, 1))
    return net


def drawn(model: torch.nn.Module, **options: object) -> Picture:
    return plot_model(model, to_file=None, **options)


def elements(picture: Picture, kind: str) -> list[ElementTree.Element]:
    return [g for g in ElementTree.fromstring(picture.svg).iter(f"{SVG}g") if g.get("class") == kind]


def texts(element: ElementTree.Element) -> list[str]:
    return [t.text or "" for t in element.iter(f"{SVG}text")]


def words(picture: Picture) -> list[str]:
    return texts(ElementTree.fromstring(picture.svg))


# -- what is drawn


def test_a_box_per_call_and_an_edge_per_connection():
    picture = drawn(branches(), show_layer_names=True)
    assert [texts(g)[0] for g in elements(picture, "box")] == ["image", "first", "relu", "a", "b", "join", "flatten", "digit"]
    titles = [g.find(f"{SVG}title").text for g in elements(picture, "edge")]
    assert sorted(titles) == sorted([
        "image → first", "first → relu", "relu → a", "relu → b", "a → join", "b → join", "join → flatten", "flatten → digit",
    ])  # fmt: skip


def test_classes_head_the_boxes_unless_names_are_asked_for():
    heads = [texts(g)[0] for g in elements(drawn(branches()), "box")]
    assert heads == ["Input", "Conv2D", "relu", "Conv2D", "Conv2D", "Concatenate", "Flatten", "Dense"]


def test_shapes_stand_where_they_change():
    boxes = {texts(g)[0]: texts(g)[1:] for g in elements(drawn(branches(), show_layer_names=True), "box")}
    assert boxes["first"] == ["Conv2D · 80 weights", "28 × 28 × 8"]
    assert boxes["relu"] == []
    assert boxes["join"][-1] == "28 × 28 × 16"
    assert boxes["digit"][-1] == "10"


def test_everything_that_can_be_shown():
    model = branches()
    model.get_layer("first").trainable = False
    everything = ("show_shapes", "show_dtype", "show_layer_names", "show_layer_activations", "show_trainable")
    picture = drawn(model, **dict.fromkeys(everything, True))
    boxes = {texts(g)[0]: texts(g)[1:] for g in elements(picture, "box")}
    assert boxes["first"] == ["Conv2D · 80 weights", "linear · frozen", "(None, 28, 28, 8) float32"]
    assert boxes["digit"][1] == "softmax · trainable"
    assert boxes["relu"] == ["(None, 28, 28, 8) float32"]


def test_calls_of_one_layer_carry_one_number_and_are_linked():
    picture = drawn(siamese(), expand_nested=True, show_layer_names=True)
    embeds = [texts(g) for g in elements(picture, "box") if texts(g)[0] == "embed"]
    assert [t[-1] for t in embeds] == ["1", "1"]
    assert len(elements(picture, "link")) == 1
    assert [g.find(f"{SVG}title").text for g in elements(picture, "group")] == ["tower · call 1", "tower · call 2"]
    closed = drawn(siamese(), show_layer_names=True)
    assert [texts(g)[0] for g in elements(closed, "box")] == ["left", "right", "tower", "tower", "sub"]


def test_a_layer_in_a_loop_is_numbered_at_each_call():
    x = inputs = keras.Input((4,))
    cell = layers.Dense(4)
    for _ in range(3):
        x = cell(x)
    assert [texts(g)[-1] for g in elements(drawn(keras.Model(inputs, x)), "box")] == ["4", "1", "1", "1"]


def test_nested_edges_lead_to_the_layers_inside():
    picture = drawn(siamese(), expand_nested=True, show_layer_names=True)
    titles = [g.find(f"{SVG}title").text for g in elements(picture, "edge")]
    assert sorted(titles) == sorted(["left → tanh", "tanh → embed", "right → tanh", "tanh → embed", "embed → sub", "embed → sub"])


def test_subclassed_models_are_drawn_from_their_recording():
    boxes = [texts(g)[0] for g in elements(drawn(built(), show_layer_names=True, expand_nested=True), "box")]
    assert [b.rstrip("_0123456789") for b in boxes] == "input conv2d permute norm flatten dense dropout gelu".split()


def test_any_module_is_drawn_from_the_inputs_given():
    plain = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(144, 2))
    for inputs in ((None, 1, 8, 8), torch.zeros(2, 1, 8, 8), keras.Input((1, 8, 8))):
        boxes = [texts(g) for g in elements(drawn(plain, inputs=inputs), "box")]
        assert [b[0] for b in boxes] == ["Input", "Conv2d", "ReLU", "Flatten", "Linear"]
        assert boxes[3][-1] == "144"
    assert len(elements(drawn(Net(), inputs=(None, 8, 8, 1)), "box")) == 7
    unbuilt = keras.Sequential([layers.Dense(3), layers.Dense(2)])
    assert [texts(g)[0] for g in elements(drawn(unbuilt, inputs=(None, 4)), "box")] == ["Input", "Dense", "Dense"]
    assert model_to_dot(plain, inputs=(None, 1, 8, 8)).count(" -> ") == 4
    two = torch.nn.Bilinear(3, 4, 2)
    assert len(drawn(two, inputs=[(None, 3), (None, 4)]).diagram.edges) == 2


def test_a_sequential_shows_its_input():
    picture = drawn(keras.Sequential([keras.Input((4,)), layers.Dense(2)]))
    assert [texts(g)[0] for g in elements(picture, "box")] == ["Input", "Dense"]
    assert len(elements(picture, "edge")) == 1


def test_several_outputs_lead_to_their_own_targets():
    inputs = keras.Input((3, 4))
    y, h, c = layers.LSTM(5, return_sequences=True, return_state=True, name="lstm")(inputs)
    outputs = [layers.Dense(2, name="each")(y), layers.Add(name="both")([h, c])]
    picture = drawn(keras.Model(inputs, outputs), show_layer_names=True)
    assert {texts(g)[0]: texts(g)[-1] for g in elements(picture, "box")}["lstm"] == "3 × 5, 5"
    titles = [g.find(f"{SVG}title").text for g in elements(picture, "edge")]
    assert sorted(titles)[-2:] == ["lstm → both", "lstm → each"]


def test_every_output_of_a_call_is_told_with_its_shape():
    inputs = keras.Input((6, 8))
    outputs = [*layers.LSTM(4, return_sequences=True, return_state=True)(inputs), *torch.chunk(inputs, 4, dim=-1)]
    boxes = {texts(g)[0]: texts(g)[-1] for g in elements(drawn(keras.Model(inputs, outputs), show_shapes=True), "box")}
    assert boxes["LSTM"] == "(None, 6, 4), (None, 4) ×2"
    assert boxes["chunk"] == "(None, 6, 2) ×4"
    assert "(None, 6, 2) ×4" in model_to_dot(keras.Model(inputs, outputs), show_shapes=True)


def test_outputs_have_a_double_outline():
    inputs = keras.Input((4,))
    x = layers.Dense(3, name="features")(inputs)
    model = keras.Model(inputs, {"x": x, "y": block("last", 3)(layers.Dense(3, name="between")(x))})
    picture = drawn(model, expand_nested=True, show_layer_names=True)
    rings = [g for g in elements(picture, "box") if [r for r in g.iter(f"{SVG}rect") if r.get("fill") is None]]
    assert [texts(g)[0].rstrip("_0123456789") for g in rings] == ["features", "add"]
    assert model_to_dot(model, expand_nested=True).count("peripheries=2") == 2
    assert [b.kind for b in drawn(stacked(40), expand_nested=True).diagram.boxes if b.output] == ["Dense"]
    assert [b.kind for b in drawn(built()).diagram.boxes if b.output] == ["gelu"]


def test_layer_range():
    picture = drawn(branches(), show_layer_names=True, layer_range=("a", "join"))
    assert [texts(g)[0] for g in elements(picture, "box")] == ["a", "b", "join"]
    assert len(elements(picture, "edge")) == 2


def test_equal_blocks_are_drawn_once_where_there_are_many():
    unfolded = drawn(stacked(5), expand_nested=True)
    assert len(elements(unfolded, "group")) == 5
    folded = drawn(stacked(40), expand_nested=True)
    assert len(elements(folded, "group")) == 1
    assert "×40" in words(folded)
    assert "block0 … block39" in " ".join(words(folded))
    assert len(folded.diagram.boxes) == 5
    assert len(drawn(stacked(40), expand_nested=True, fold=False).diagram.boxes) == 122


def many(count: int, length: int = 1) -> keras.Model:
    inputs = keras.Input((4,))
    ends = []
    for _ in range(count):
        x = inputs
        for width in (3, 2, 5)[:length]:
            x = layers.Dense(width)(x)
        ends.append(x)
    return keras.Model(inputs, layers.Concatenate()(ends))


@pytest.mark.parametrize("length", [1, 3])
def test_many_equal_branches_are_drawn_once(length: int):
    picture = drawn(many(300, length))
    assert len(picture.diagram.boxes) == length + 2
    assert len(picture.diagram.edges) == length + 1
    assert words(picture).count("×300") == length
    assert "15 weights each" in words(picture)
    assert bounds(picture.marks)[2] < 300
    assert model_to_dot(many(300, length)).count("×300") == length
    assert len(drawn(many(12, length)).diagram.boxes) == 12 * length + 2
    assert len(drawn(many(12, length), fold=True).diagram.boxes) == length + 2
    assert len(drawn(many(13, length), fold=False).diagram.boxes) == 13 * length + 2


def test_branches_that_differ_are_not_folded():
    inputs = keras.Input((4,))
    ends = [layers.Dense(2, activation="relu" if k % 2 else "tanh")(inputs) for k in range(40)]
    ends[5] = layers.Dense(3)(inputs)
    aside = layers.Dense(7)(ends[8])
    picture = drawn(keras.Model(inputs, [layers.Concatenate()(ends), aside]), show_layer_names=True)
    assert sorted(box.count for box in picture.diagram.boxes if box.count > 1) == [19, 19]
    assert len([box for box in picture.diagram.boxes if box.count == 1]) == 5


def test_parallel_blocks_are_not_folded():
    assert len(drawn(siamese(), expand_nested=True, fold=True).diagram.boxes) == 7


def test_blocks_of_other_sizes_are_not_folded():
    x = inputs = keras.Input((8,))
    x = layers.Dense(4)(block("b", 8)(block("a", 8)(x)))
    for name in "cde":
        x = block(name, 4)(x)
    folded = drawn(keras.Model(inputs, x), expand_nested=True, fold=True)
    assert [t for t in words(folded) if t[0] in "abcde×" and len(t) < 8] == ["a … b", "×2", "c … e", "×3"]


def test_a_skip_over_folded_blocks_keeps_them_apart():
    x = inputs = keras.Input((8,))
    x = block("b")(block("a")(x))
    y = block("d")(layers.Add()([x, inputs]))
    folded = drawn(keras.Model(inputs, y), expand_nested=True, fold=True)
    assert [t for t in words(folded) if t.startswith("×")] == ["×2"]
    assert len(elements(folded, "group")) == 2


@pytest.mark.parametrize(("module", "family"), [
    (torch.nn.Conv2d(1, 1, 1), "convolution"),
    (torch.nn.Linear(1, 1), "dense"),
    (torch.nn.GELU(), "activation"),
    (torch.nn.AdaptiveAvgPool2d(1), "pooling"),
    (torch.nn.MultiheadAttention(4, 2), "attention"),
    (torch.nn.GRU(1, 1), "recurrent"),
    (layers.LayerNormalization(), "normalization"),
    (layers.Conv2DTranspose(1, 1), "convolution"),
    (layers.Embedding(2, 2), "embedding"),
    (layers.Concatenate(), "merge"),
    (layers.Reshape((1,)), "reshape"),
    (layers.Dropout(0.1), "regularization"),
    (Net(), "function"),
])  # fmt: skip
def test_families(module: torch.nn.Module, family: str):
    assert family_of(module) == family


def test_a_class_made_from_another_has_its_family():
    assert family_of(type("Mine", (layers.Dense,), {})(2)) == "dense"


@pytest.mark.parametrize(("name", "family"), [
    ("relu6", "activation"), ("gelu", "activation"), ("add", "merge"), ("matmul", "dense"), ("layer_norm", "normalization"),
    ("scaled_dot_product_attention", "attention"), ("max_pool2d", "pooling"), ("getitem", "reshape"), ("rfft", "function"),
])  # fmt: skip
def test_families_of_functions(name: str, family: str):
    assert family_of_function(name) == family


# -- where it is drawn


def overlap(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a[0] < b[0] + b[2] and b[0] < a[0] + a[2] and a[1] < b[1] + b[3] and b[1] < a[1] + a[3]


def crosses(line: list[tuple[float, float]], rect: tuple[float, ...]) -> bool:
    """Whether a line passes through a rectangle; ends on its border are no passing."""
    x, y, w, h = rect
    around = lambda a, b: (min(a[0], b[0]), min(a[1], b[1]), abs(a[0] - b[0]) + 0.1, abs(a[1] - b[1]) + 0.1)  # noqa: E731
    near = [(a, b) for a, b in pairwise(line) if overlap(around(a, b), rect)]
    parts = [(a, b, t / 20) for a, b in near for t in range(21)]
    steps = [(ax + (bx - ax) * t, ay + (by - ay) * t) for (ax, ay), (bx, by), t in parts]
    return any(x + 1 < px < x + w - 1 and y + 1 < py < y + h - 1 for px, py in steps)


def meet(a: Point, b: Point, c: Point, d: Point) -> bool:
    """Whether two pieces of line cross."""
    side = lambda p, q, r: (q[0] - p[0]) * (r[1] - p[1]) - (q[1] - p[1]) * (r[0] - p[0])  # noqa: E731
    return side(a, b, c) * side(a, b, d) < -1e-6 and side(c, d, a) * side(c, d, b) < -1e-6


MODELS = {
    "branches": (branches, {}),
    "siamese": (siamese, {"expand_nested": True}),
    "stacked": (lambda: stacked(6), {"expand_nested": True}),
    "columns": (lambda: stacked(30), {"expand_nested": True, "fold": False}),
    "folded": (lambda: stacked(30), {"expand_nested": True}),
    "chain": (lambda: chain(90), {}),
    "unet": (unet, {}),
    "dense blocks": (dense_blocks, {}),
    "residual": (lambda: residual(70), {}),
    "one piece": (lambda: residual(80, skip=True), {}),
    "pieces": (lambda: stacked(90), {"expand_nested": True, "fold": False}),
    "subclassed": (built, {"expand_nested": True}),
}


@pytest.mark.parametrize("rankdir", ["TB", "BT", "LR", "RL"])
@pytest.mark.parametrize("name", MODELS)
def test_nothing_overlaps(name: str, rankdir: str):
    make, options = MODELS[name]
    picture = drawn(make(), show_layer_names=True, show_shapes=True, rankdir=rankdir, **options)
    placed = _Scene(picture.diagram, picture.show).placed
    boxes = list(placed.boxes.items())
    assert not [(a.name, b.name) for i, (a, r) in enumerate(boxes) for b, s in boxes[:i] if overlap(r, s)]
    for part in placed.parts:
        inside = [b for b, _ in boxes if b.group and part.group in b.group.chain()]
        assert not [b.name for b, r in boxes if b not in inside and overlap(r, part.rect)]
    x, y, w, h = bounds(picture.marks, 0)
    assert all(x <= bx and y <= by and bx + bw <= x + w and by + bh <= y + h for bx, by, bw, bh in placed.boxes.values())
    for (source, target), line in placed.lines.items():
        assert not [b.name for b, r in boxes if b is not source and b is not target and crosses(line, r)], (source, target)


@pytest.mark.parametrize("name", ["siamese", "stacked", "folded", "residual", "columns"])
def test_no_line_passes_a_caption(name: str):
    make, options = MODELS[name]
    picture = drawn(make(), **options)
    scene = _Scene(picture.diagram, picture.show)
    _, captions = scene.group_marks()
    patches = [m for m in captions if isinstance(m, Rectangle)]
    assert len(patches) >= len(picture.diagram.groups())
    for (x, y, w, h, *_), line in itertools.product(patches, scene.placed.lines.values()):
        assert not crosses(line, (x, y, w, h)), line


def test_two_lines_of_a_box_do_not_cross_at_it():
    for name, (make, options) in MODELS.items():
        picture = drawn(make(), **options)
        lines = _Scene(picture.diagram, picture.show).placed.lines
        for (s, one), (t, other) in itertools.combinations(lines, 2):
            if s is t and isinstance(s, Box):
                a, b = lines[s, one], lines[t, other]
                assert not any(meet(p, q, v, w) for p, q in pairwise(a[:4]) for v, w in pairwise(b[:4])), (name, s.name)


@pytest.mark.parametrize("rankdir", ["LR", "RL"])
def test_lines_end_at_the_sides_of_boxes(rankdir: str):
    picture = drawn(unet(), rankdir=rankdir)
    placed = _Scene(picture.diagram, picture.show).placed
    for (source, target), line in placed.lines.items():
        for box, (x, y) in ((source, line[0]), (target, line[-1])):
            left, top, w, h = placed.boxes[box]
            assert min(abs(x - left), abs(x - left - w)) < 1
            assert top + 5 < y < top + h - 5


@pytest.mark.parametrize(("rankdir", "axis", "sign"), [("TB", 1, 1), ("BT", 1, -1), ("LR", 0, 1), ("RL", 0, -1)])
def test_directions(rankdir: str, axis: int, sign: int):
    picture = drawn(chain(4), rankdir=rankdir)
    boxes = _Scene(picture.diagram, picture.show).placed.boxes
    places = [boxes[box][axis] for box in picture.diagram.boxes]
    assert places == sorted(places, reverse=sign < 0)


def test_a_long_chain_becomes_columns_of_a_sane_width():
    marks = drawn(chain(300)).marks
    _, _, w, h = bounds(marks)
    assert 0.7 < w / h < 2.5


@pytest.mark.parametrize("rankdir", ["TB", "LR"])
def test_a_long_diagram_is_laid_out_in_pieces_that_meet(rankdir: str, monkeypatch: pytest.MonkeyPatch):
    sizes: list[int] = []
    plain = plot_layout._placed
    monkeypatch.setattr(plot_layout, "_placed", lambda part, *more: sizes.append(len(part.boxes)) or plain(part, *more))
    picture = drawn(residual(250), rankdir=rankdir)
    assert len(picture.svg) > 100_000
    assert max(sizes) < 70
    scene = _Scene(picture.diagram, picture.show)
    assert list(scene.placed.boxes) == picture.diagram.boxes
    assert set(scene.placed.pieces) == set(picture.diagram.edges)
    for (source, target), line in scene.placed.lines.items():
        for box, (x, y) in ((source, line[0]), (target, line[-1])):
            left, top, w, h = scene.placed.boxes[box]
            assert left - 1 <= x <= left + w + 1
            assert top - 1 <= y <= top + h + 12


def test_outputs_on_the_way_do_not_stop_the_pieces(monkeypatch: pytest.MonkeyPatch):
    x = inputs = keras.Input((4,))
    outputs = []
    for k in range(300):
        x = layers.Dense(4)(x)
        if k % 50 == 20:
            outputs.append(layers.Dense(1)(x))
    picture = drawn(keras.Model(inputs, [*outputs, x]))
    assert len(plot_pieces.sections_of(picture.diagram, plot_layout.ranks_of(picture.diagram))) >= 4


# -- names are data


HOSTILE = ["<script>alert(1)<'&\"", "]]><!--", "a\nb\x00\x1b[31m", "naïve 層 😀 \u202e", "$x^2$ %s {0}", 'q"]; n0 -> n0 [label="']


@pytest.mark.parametrize("name", HOSTILE)
def test_names_are_escaped(name: str, tmp_path: Path):
    model = torch.nn.Sequential()
    model.add_module("0", type("</script><script>", (torch.nn.Linear,), {})(4, 4))
    inputs = keras.Input((4,), name="x")
    x = layers.Dense(3, name=name)(model[0](inputs))
    picture = drawn(keras.Model(inputs, x, name="m"), show_layer_names=True)
    root = ElementTree.fromstring(picture.svg)
    assert {e.tag.removeprefix(SVG) for e in root.iter()} <= {"svg", "g", "title", "rect", "path", "text"}
    shown = "".join(c if c.isprintable() else "?" for c in name)
    assert shown in words(picture)
    assert "<script" not in picture.svg
    assert "<script" not in picture.to_bytes("html").decode()
    for kind in ("png", "pdf"):
        picture.save(tmp_path / f"model.{kind}")


def test_names_in_other_alphabets_ask_for_a_font_without_serifs():
    inputs = keras.Input((4,), name="вход")
    picture = drawn(keras.Model(inputs, layers.Dense(3, name="latin")(inputs)), show_layer_names=True)
    fonts = {t.text: t.get("font-family") for t in ElementTree.fromstring(picture.svg).iter(f"{SVG}text")}
    assert fonts["вход"].startswith("'Segoe UI'")
    assert fonts["вход"].endswith("sans-serif")
    assert fonts["latin"] is None


def test_dot_names_stay_in_their_quotes():
    inputs = keras.Input((4,))
    text = model_to_dot(keras.Model(inputs, layers.Dense(3, name=HOSTILE[-1])(inputs)))
    assert '\\"]; n0 -> n0 [label=\\"' in text
    assert text.count("n0 -> n1;") == 1


def test_long_names_are_cut():
    inputs = keras.Input((4,))
    picture = drawn(keras.Model(inputs, layers.Dense(3, name="n" * 500)(inputs)), show_layer_names=True)
    assert bounds(picture.marks)[2] < 300
    assert any(t.endswith("n…") for t in words(picture))


# -- what is written


@pytest.mark.parametrize(("ending", "start"), [
    ("png", b"\x89PNG"), ("svg", b"<svg"), ("pdf", b"%PDF"), ("html", b"<!doctype html>"), ("dot", b"digraph"),
    ("PNG", b"\x89PNG"),
])  # fmt: skip
def test_formats(ending: str, start: bytes, tmp_path: Path):
    path = tmp_path / f"model.{ending}"
    assert isinstance(plot_model(branches(), to_file=path), Picture)
    assert path.read_bytes().startswith(start)


def test_the_default_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    plot_model(branches())
    assert (tmp_path / "model.png").read_bytes().startswith(b"\x89PNG")


def test_dpi_scales_the_png():
    def width(dpi: float) -> int:
        return struct.unpack(">L", drawn(branches(), dpi=dpi).to_bytes("png")[16:20])[0]

    assert width(192) == pytest.approx(2 * width(96), abs=2)


def test_a_png_stays_within_its_pixels(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(plot_write, "LARGEST_PNG", 1e6)
    w, h = struct.unpack(">LL", drawn(chain(60), dpi=5000).to_bytes("png")[16:24])
    assert 0.95e6 < w * h < 1.05e6


def test_pictures_are_the_same_every_time():
    model = branches()
    assert drawn(model).svg == drawn(model).svg


def test_a_notebook_shows_it():
    picture = drawn(branches())
    assert picture._repr_svg_() == picture.svg
    assert repr(picture) == "<Picture of 'branches': 8 boxes, 8 edges>"


def test_dot():
    text = model_to_dot(siamese(), show_shapes=True, expand_nested=True)
    assert text.to_string().startswith('digraph "siamese" {')
    assert text.count("subgraph cluster_") == 2
    assert text.count(" -> ") == 6
    assert model_to_dot(siamese(), subgraph=True).startswith("subgraph")


def test_drawing_makes_no_weights():
    x = keras.Input((1_000_000,))
    model = keras.Model(x, layers.Dense(1_000_000)(x))
    assert "1 T weights" in words(drawn(model))
    assert all(p.untyped_storage().nbytes() <= 8 for p in dict.values(model.layers[-1].__dict__["_parameters"]))


# -- mistakes


@pytest.mark.parametrize(("module", "package"), [("graphlay", "graphlay"), ("resvg_py", "resvg-py")])
def test_a_missing_library_is_named_with_its_command(module: str, package: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=rf"pip install {package} .*hornbeam\[plot\]"):
        plot_model(branches(), to_file=tmp_path / "model.png")


def test_mistakes(tmp_path: Path):
    with pytest.raises(ValueError, match=r"writes .png, .svg, .pdf, .html, .dot. Received: to_file='model.gif'"):
        plot_model(branches(), to_file="model.gif")
    with pytest.raises(ValueError, match=r"`rankdir` is one of TB, BT, LR, RL. Received: 'lr'"):
        drawn(branches(), rankdir="lr")
    with pytest.raises(ValueError, match="`splines` is one of ortho"):
        drawn(branches(), splines="orto")
    with pytest.raises(TypeError, match=r"no argument 'layer_rang'. Did you mean 'layer_range'\?"):
        drawn(branches(), layer_rang=("a", "b"))
    with pytest.raises(ValueError, match="plot_model: no layer's name matches 'nope'"):
        drawn(branches(), layer_range=("nope", "a"))
    with pytest.raises(ValueError, match=r"'net\w*' has no shapes yet. Say .* plot_model\(model, inputs=\(None, 8\)\)"):
        drawn(Net())
    with pytest.raises(ValueError, match=r"'Linear' has no shapes yet. Say .* model_to_dot\(model, inputs=\(None, 8\)\)"):
        model_to_dot(torch.nn.Linear(8, 2))


@pytest.mark.parametrize("thing", ["model.png", 3, keras.Input((4,)), Net], ids=["text", "number", "tensor", "class"])
def test_what_is_no_module_is_refused(thing: object):
    with pytest.raises(TypeError, match=r"plot_model draws a model or any torch.nn.Module, or the error of a call.*Received"):
        drawn(thing)


def test_an_error_without_a_graph_is_refused():
    plain = torch.nn.Sequential(torch.nn.Linear(8, 4), torch.nn.Linear(5, 2))
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied") as caught:
        drawn(plain, inputs=(None, 8))
    with pytest.raises(ValueError, match="RuntimeError does not come from such a call; the `forward` of a plain module"):
        drawn(caught.value)


@pytest.mark.oracle
@pytest.mark.parametrize("name", ["plot_model", "model_to_dot"])
def test_signatures(name: str):
    ours = [p for p in parameters(getattr(keras.utils, name)) if p != ("inputs", None)]
    assert ours == parameters(getattr(theirs.utils, name))


def test_vis_utils():
    from hornbeam.utils import vis_utils

    assert vis_utils.plot_model is keras.utils.plot_model
    assert "plot_model" in dir(keras.utils)
