"""The table of a summary: rows, shapes, counts, connections, and what its arguments change."""

from __future__ import annotations

import re
from typing import Any

import keras as oracle
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import hornbeam as keras
from hornbeam import layers
from hornbeam.inspect.summary import as_text, memory_text, print_summary, shape_text
from hornbeam.inspect.table import is_linear, rows_of, weights_of


def text(model: Any, **kwargs: Any) -> str:
    lines: list[str] = []
    model.summary(print_fn=lines.append, **kwargs)
    return "\n".join(lines)


def cells(table: str) -> list[list[str]]:
    """The cells of the rows that begin with a name."""
    found = [[c.strip() for c in line.strip("│┃ ").split("│")] for line in table.splitlines() if line.startswith("│")]
    return [row for row in found if row[0]]


def plain(row: list[str]) -> list[str]:
    return [" ".join(c.split()) for c in row]


# -- the text's models


def block(k: Any, x: Any, filters: int, relu: Any) -> Any:
    x = k.layers.Conv2D(filters, 3, padding="same")(x)
    return relu(k.layers.BatchNormalization()(x))


def final_model(k: Any, relu: Any) -> Any:
    inputs = k.Input((28, 28, 1))
    x = block(k, inputs, 32, relu)
    x = k.layers.MaxPooling2D(3)(x)
    for filters in (32, 64):
        x = k.layers.Concatenate()([block(k, x, filters, relu), block(k, x, filters, relu)])
    x = block(k, x, 128, relu)
    x = k.layers.GlobalAveragePooling2D()(x)
    x = k.layers.Dense(256, activation="relu")(x)
    return k.Model(inputs, k.layers.Dense(10)(k.layers.Dropout(0.5)(x)), name="final_model")


def test_the_inception_model() -> None:
    model = final_model(keras, torch.relu)
    shown = text(model)
    assert 'Model: "final_model"' in shown
    assert "Total params: 277,258 (1.06 MB)" in shown
    assert "Trainable params: 276,554 (1.05 MB)" in shown
    assert "Non-trainable params: 704 (2.75 KB)" in shown
    assert shown.count("(torch)") == 6
    assert model.count_params() == 277_258


@pytest.mark.oracle
def test_the_inception_models_rows_as_in_keras() -> None:
    model = final_model(keras, lambda x: layers.ReLU()(x))
    theirs = final_model(oracle, lambda x: oracle.layers.ReLU()(x))
    rows, _ = rows_of(model)
    assert [(r.kind, tuple(r.shape), r.params) for r in rows] == [
        (type(m).__name__, tuple(m.output.shape), m.count_params()) for m in theirs.layers
    ]
    shown: list[str] = []
    theirs.summary(print_fn=lambda line, **_: shown.append(line))
    for total in ("277,258 (1.06 MB)", "276,554 (1.05 MB)", "704 (2.75 KB)"):
        assert total in "".join(shown)
        assert total in text(model)


def test_the_image_and_text_model_takes_no_memory() -> None:
    image = keras.Sequential(
        [layers.Conv2D(128, 3, activation="relu", input_shape=(299, 299, 3)), layers.MaxPooling2D(), layers.Flatten()]
    )
    picture, words = keras.Input((299, 299, 3)), keras.Input((200,), dtype="int32", name="context")
    encoded = layers.LSTM(128)(layers.Embedding(5000, 512)(words))
    joined = layers.concatenate([image(picture), encoded])
    model = keras.Model([picture, words], layers.Dense(512, activation="softmax")(joined))
    shown = text(model)
    assert "Total params: 1,438,458,368 (5.36 GB)" in shown
    rows, _ = rows_of(model)
    assert {r.kind: tuple(r.shape) for r in rows}["Concatenate"] == (None, 2_803_840)
    assert {r.kind: r.params for r in rows}["Dense"] == 2_803_840 * 512 + 512
    assert all(w._lazy for w in weights_of(model))


def test_a_chain_of_1500_calls() -> None:
    x = y = keras.Input((4,))
    for _ in range(1500):
        y = torch.relu(y)
    rows, _ = rows_of(keras.Model(x, y))
    assert len(rows) == 1501
    assert rows[-1].name == "relu_1499"


# -- rows


def test_rows_of_a_sequential() -> None:
    model = keras.Sequential([keras.Input((3,)), layers.Dense(4, name="a"), nn.ReLU(), layers.Dense(2, name="b")], name="net")
    rows = [plain(r) for r in cells(text(model))]
    assert rows == [["a (Dense)", "(None, 4)", "16"], ["re_lu (ReLU)", "(None, 4)", "0"], ["b (Dense)", "(None, 2)", "10"]]


def test_rows_of_functions_say_where_they_are_at_home() -> None:
    x = keras.Input((4, 4))
    y = F.softmax(torch.linalg.norm(torch.fft.rfft(F.gelu(x) @ x.mT), dim=-1), dim=-1)
    y = torch.special.expit(y)[:, None] * 2
    rows, _ = rows_of(keras.Model(x, y.clamp(0, 1)))
    kinds = {r.name: r.kind for r in rows[1:]}
    assert kinds["gelu"] == "torch.nn.functional"
    assert kinds["matmul"] == "torch.Tensor"
    assert kinds["mT"] == "torch.Tensor"
    assert {k for n, k in kinds.items() if "rfft" in n} == {"torch.fft"}
    assert {k for n, k in kinds.items() if "norm" in n} == {"torch.linalg"}
    assert kinds["clamp"] == "torch.Tensor"


def test_connections() -> None:
    a, b = keras.Input((3,), name="left"), keras.Input((3,), name="right")
    shared = layers.Dense(2, name="shared")
    model = keras.Model([a, b], layers.Add(name="sum")([shared(a), shared(b)]))
    rows, _ = rows_of(model)
    assert {r.name: r.connected for r in rows} == {
        "left": [], "right": [], "shared": ["left[0][0]", "right[0][0]"], "sum": ["shared[0][0]", "shared[1][0]"],
    }  # fmt: skip
    shown = text(model)
    assert "Connected to" in shown
    assert "shared[1][0]" in shown
    assert not is_linear(rows)
    assert "Connected to" not in text(keras.Sequential([keras.Input((3,)), layers.Dense(2)]))


def test_several_outputs_and_nests() -> None:
    x = keras.Input((5, 3))
    outputs, hidden, cell = layers.LSTM(4, return_sequences=True, return_state=True, name="lstm")(x)
    model = keras.Model(x, [outputs, hidden, cell])
    assert "[(None, 5, 4), (None, 4), (None, 4)]" in " ".join(text(model, line_length=160).split())


def test_a_shared_weight_is_counted_once() -> None:
    dense = layers.Dense(3)
    model = keras.Sequential([keras.Input((3,)), keras.Sequential([dense], name="one"), keras.Sequential([dense], name="two")])
    assert "Total params: 12 (48.00 B)" in text(model)


def test_totals_know_the_dtypes() -> None:
    assert "Total params: 8 (16.00 B)" in text(keras.Sequential([keras.Input((3,)), layers.Dense(2, dtype="float16")]))
    assert "Total params: 8 (64.00 B)" in text(keras.Sequential([keras.Input((3,)), layers.Dense(2, dtype="float64")]))


def test_memory_text() -> None:
    assert [memory_text(v) for v in (0, 1023, 1024, 2816, 5 * 1024**3, 3 * 1024**4, 5000 * 1024**4)] == [
        "0.00 B", "1023.00 B", "1.00 KB", "2.75 KB", "5.00 GB", "3.00 TB", "5000.00 TB",
    ]  # fmt: skip


def test_foreign_modules_count_their_parameters() -> None:
    x = keras.Input((6,))
    norm = nn.BatchNorm1d(6)
    model = keras.Model(x, norm(nn.Linear(6, 6)(x)))
    assert "Total params: 54 " in text(model)
    assert model.count_params() == 54


def test_optimizer_params() -> None:
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
    model.compile("adam", "mse")
    model.train_on_batch(torch.ones(4, 3), torch.ones(4, 2))
    shown = text(model)
    assert "Optimizer params: 18 " in shown
    assert "Total params: 26 " in shown
    assert "Trainable params: 8 " in shown


# -- arguments


def nested() -> keras.Model:
    inner = keras.Sequential([keras.Input((4,)), layers.Dense(4, name="i1"), layers.Dense(4, name="i2")], name="inner")
    middle_in = keras.Input((4,))
    middle = keras.Model(middle_in, torch.tanh(inner(middle_in)), name="middle")
    x = keras.Input((4,), name="x")
    return keras.Model(x, layers.Dense(2, name="head")(middle(x)), name="outer")


def test_expand_nested() -> None:
    model = nested()
    assert [r[0] for r in cells(text(model))] == ["x (InputLayer)", "middle (Functional)", "head (Dense)"]
    rows, _ = rows_of(model, expand_nested=True)
    assert [(r.name, r.depth, r.params) for r in rows if r.kind != "InputLayer"] == [
        ("middle", 0, 40), ("inner", 1, 40), ("i1", 2, 20), ("i2", 2, 20), ("tanh", 1, 0), ("head", 0, 10),
    ]  # fmt: skip
    shown = text(model, expand_nested=True)
    assert "└ inner (Sequential)" in shown
    assert "      └ i1 (Dense)" in shown
    assert "Total params: 50 " in shown


def test_expand_nested_subclassed_and_plain_modules() -> None:
    class Net(keras.Model):
        def __init__(self) -> None:
            super().__init__(name="net")
            self.body = nn.Sequential(nn.Linear(4, 3), nn.ReLU())
            self.head = layers.Dense(2, name="head")

        def call(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.body(x))

    x = keras.Input((4,))
    rows, _ = rows_of(keras.Model(x, Net()(x)), expand_nested=True)
    assert [(r.name, r.depth, tuple(r.shape)) for r in rows[1:]] == [
        ("net", 0, (None, 2)), ("body", 1, (None, 3)), ("0", 2, (None, 3)), ("1", 2, (None, 3)), ("head", 1, (None, 2)),
    ]  # fmt: skip


def test_show_trainable() -> None:
    model = keras.Sequential(
        [keras.Input((3,)), layers.Dense(4, name="a"), layers.Dropout(0.5, name="d"), layers.Dense(2, name="b", trainable=False)]
    )
    rows = {r[0]: r[-1] for r in cells(text(model, show_trainable=True))}
    assert rows == {"a (Dense)": "Y", "d (Dropout)": "-", "b (Dense)": "N"}
    assert "Trainable params: 16 " in text(model)
    assert "Non-trainable params: 10 " in text(model)
    model.layers[0].trainable = False
    assert {r[0]: r[-1] for r in cells(text(model, show_trainable=True))}["a (Dense)"] == "N"


@pytest.mark.parametrize("width", [60, 88, 120, 200])
def test_line_length(width: int) -> None:
    lines = text(nested(), line_length=width).splitlines()
    assert max(map(len, lines)) == width
    assert {len(line) for line in lines if line.startswith(("│", "┏", "├"))} == {width}


def test_positions() -> None:
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2, name="a")])
    wide, narrow = text(model, positions=[0.8, 0.9, 1.0]), text(model, positions=[0.3, 0.6, 1.0])
    first = lambda t: t.splitlines()[1].index("┳")  # noqa: E731
    assert first(wide) > 60 > 30 > first(narrow)
    with pytest.raises(ValueError, match=r"`positions` needs 3 values, one per column. Received: \[0.5\]"):
        text(model, positions=[0.5])


def test_print_fn_and_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2, name="a")], name="net")
    got: list[str] = []
    assert model.summary(print_fn=got.append) is None
    assert all(isinstance(t, str) for t in got)
    assert "\x1b" not in got[0]
    assert capsys.readouterr().out == ""
    model.summary()
    out = capsys.readouterr().out
    assert "a (Dense)" in re.sub(r"\x1b\[[0-9;]*m", "", out)


def test_layer_range() -> None:
    model = keras.Sequential([keras.Input((3,)), *[layers.Dense(3, name=f"layer_{i}") for i in range(12)]])
    shown = lambda r: [c[0].split(" ")[0] for c in cells(text(model, layer_range=r))]  # noqa: E731
    assert shown(("layer_3", "layer_5")) == ["layer_3", "layer_4", "layer_5"]
    assert shown(("layer_5", "layer_3")) == ["layer_3", "layer_4", "layer_5"]
    assert shown((r"layer_1$", r"layer_2$")) == ["layer_1", "layer_2"]
    assert len(shown(None)) == 12
    with pytest.raises(ValueError, match="no layer's name matches 'head'"):
        text(model, layer_range=("head", "layer_2"))
    with pytest.raises(ValueError, match="`layer_range` is a pair"):
        text(model, layer_range=("layer_2",))


def test_control_characters_and_long_names_are_cut() -> None:
    name = "evil\x1b[31m\r\nname" + "x" * 5000
    x = keras.Input((3,), name="in\x07put")
    model = keras.Model(x, layers.Dense(2, name=name)(x), name="mo\x1bdel")
    shown = text(model)
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", shown)
    assert "evil?[31m??name" in shown.replace("│\n│", "").replace(" ", "") or "evil?[31m??name" in shown
    assert "…" in shown
    assert len(shown) < 20_000


def test_markup_in_names_is_text() -> None:
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2, name="[bold]x[-bold]")], name="[red]m")
    assert "[bold]x[-bold] (Dense)" in text(model)
    assert '"[red]m"' in text(model)


# -- subclassed models and plain modules


class Net(keras.Model):
    def __init__(self) -> None:
        super().__init__(name="net")
        self.conv = layers.Conv2D(4, 3, activation="relu", name="conv")
        self.flat = layers.Flatten(name="flat")
        self.heads = {"a": layers.Dense(2, name="a"), "b": layers.Dense(3, name="b")}
        self.unused = layers.Dense(7, name="unused")

    def call(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        h = torch.tanh(self.flat(self.conv(x)))
        return {k: head(h) for k, head in self.heads.items()}


def test_true_shapes_of_a_subclassed_model() -> None:
    net = Net()
    shown = text(net, input_shape=(None, 8, 8, 1))
    rows = {r[0]: r[1:3] for r in map(plain, cells(shown))}
    assert rows["conv (Conv2D)"] == ["(None, 6, 6, 4)", "40"]
    assert rows["flat (Flatten)"] == ["(None, 144)", "0"]
    assert rows["tanh (torch)"] == ["(None, 144)", "0"]
    assert rows["a (Dense)"] == ["(None, 2)", "290"]
    assert rows["unused (Dense)"] == ["not built", "0 (unbuilt)"]
    assert "?" not in shown
    assert "multiple" not in shown
    assert net.conv.__dict__["_parameters"].__class__.__name__ == "LazyDict", "no weight was made for it"


def test_a_built_model_says_the_same() -> None:
    first, second, third = Net(), Net(), Net()
    first.build((None, 8, 8, 1))
    second(torch.ones(2, 8, 8, 1))
    assert text(first) == text(second) == text(third, input_shape=(None, 8, 8, 1))


def test_unbuilt_models_say_what_to_do() -> None:
    for model in (Net(), keras.Sequential([layers.Dense(2, name="d")])):
        shown = text(model)
        assert "0 (unbuilt)" in shown
        assert "not built" in shown
        assert "call build((None, ...))" in " ".join(shown.split())


def test_a_plain_torch_module() -> None:
    from hornbeam.graph.node import Spec
    from hornbeam.graph.record import record

    module = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    rows, _ = rows_of(module, graph=record(module, Spec((None, 3), "float32")))
    assert [(r.name, r.kind, tuple(r.shape), r.params) for r in rows] == [
        ("0", "Linear", (None, 4), 16), ("1", "ReLU", (None, 4), 0), ("2", "Linear", (None, 2), 10),
    ]  # fmt: skip
    lines: list[str] = []
    print_summary(module, print_fn=lines.append)
    assert "Total params: 26 " in lines[0]


def test_looking_changes_nothing() -> None:
    model = nested()
    x = torch.randn(2, 4)
    before, state = model(x), torch.get_rng_state()
    keys = list(model.state_dict())
    text(model, expand_nested=True, show_trainable=True)
    torch.testing.assert_close(model(x), before)
    assert list(model.state_dict()) == keys
    assert torch.equal(torch.get_rng_state(), state)


def test_shape_text() -> None:
    from hornbeam.inspect.table import _Shape

    assert shape_text(_Shape((None, 3))) == "(None, 3)"
    assert shape_text(_Shape((None,))) == "(None,)"
    assert shape_text(_Shape(())) == "()"
    assert shape_text({"a": _Shape((1,)), "b": [_Shape((2, 3))]}) == "{a: (1,), b: [(2, 3)]}"
    assert shape_text(None) == "not built"
    assert as_text([], 80) == ""
