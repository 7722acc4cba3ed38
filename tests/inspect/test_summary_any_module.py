"""Summaries of plain torch modules, with further columns, and what they point out."""

from __future__ import annotations

import time
from typing import Any

import pytest
import torch
from torch import nn

import hornbeam as keras
from architectures import GPT, ResNet, UNet
from hornbeam import layers
from hornbeam.inspect import columns
from hornbeam.inspect.given import graph_for
from hornbeam.inspect.hints import absurd_share
from hornbeam.inspect.table import rows_of, weights_of


def text(module: Any, inputs: Any = None, **kwargs: Any) -> str:
    lines: list[str] = []
    keras.summary(module, inputs, print_fn=lines.append, **kwargs)
    return "\n".join(lines)


def cells(table: str) -> list[list[str]]:
    """The cells of the rows that begin with a name."""
    found = [[c.strip() for c in line.strip("│┃ ").split("│")] for line in table.splitlines() if line.startswith("│")]
    return [[" ".join(c.split()) for c in row] for row in found if row[0].endswith(")")]


# -- true shapes on every row of well-known architectures


@pytest.mark.parametrize(
    ("net", "inputs", "example"),
    [
        (lambda: ResNet((2, 1), 10, 8), (None, 3, 32, 32), lambda: torch.rand(5, 3, 32, 32)),
        (GPT, torch.zeros(1, 32, dtype=torch.int64), lambda: torch.randint(0, 1000, (5, 32))),
        (UNet, (None, 3, 32, 32), lambda: torch.rand(5, 3, 32, 32)),
    ],
)
def test_true_shapes_through_all_levels(net: Any, inputs: Any, example: Any) -> None:
    module = net()
    rows, _ = rows_of(module, True, graph_for(module, inputs))
    seen: dict[int, list[Any]] = {}
    hooks = [
        m.register_forward_hook(lambda m, _, y: seen.setdefault(id(m), []).append(tuple(y.shape))) for m in module.modules()
    ]
    with torch.no_grad():
        module.eval()(example())
    for hook in hooks:
        hook.remove()
    called = [r for r in rows if r.module is not None]
    assert {id(m) for m in module.modules() if id(m) in seen and m is not module} == {id(r.module) for r in called}
    for row in called:
        batched = [d if d is not None else 5 for d in row.shape]
        assert tuple(batched) == seen[id(row.module)][0], row.name
    assert all(r.shape is not None for r in rows)


@pytest.mark.parametrize("make", [ResNet, GPT, UNet])
def test_parameter_totals_are_those_of_the_parameters(make: Any) -> None:
    module = make()
    inputs = torch.zeros(1, 32, dtype=torch.int64) if make is GPT else (None, 3, 64, 64)
    assert f"Total params: {sum(p.numel() for p in module.parameters()):,} (" in text(module, inputs)


def test_tied_weights_are_marked() -> None:
    shown = text(GPT(depth=1), torch.zeros(1, 32, dtype=torch.int64))
    rows = {r[0]: r for r in cells(shown)}
    assert rows["head (Linear)"][2] == "64,000 *"
    assert rows["wte (Embedding)"][2] == "64,000"
    assert " * 'head' shares weights with 'wte': the totals count them once." in shown


def test_a_nested_model_and_its_layers_are_no_tie() -> None:
    inner = keras.Sequential([keras.Input((3,)), layers.Dense(3, name="a")], name="inner")
    x = keras.Input((3,))
    assert "shares weights" not in text(keras.Model(x, inner(inner(x))), expand_nested=True)


def test_a_layer_beside_the_model_that_holds_it_is_a_tie() -> None:
    a = layers.Dense(3, name="a")
    inner = keras.Sequential([keras.Input((3,)), a], name="inner")
    x = keras.Input((3,))
    assert "* 'a' shares weights with 'inner'" in text(keras.Model(x, a(inner(x))))


def test_modules_that_are_not_called() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.unused = nn.Linear(3, 2), nn.Linear(4, 5)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.used(x)

    rows = {r[0]: r[1:3] for r in cells(text(Net(), (None, 3)))}
    assert rows == {"used (Linear)": ["(None, 2)", "8"], "unused (Linear)": ["not called", "25"]}


def test_shared_modules_have_one_row() -> None:
    block = nn.Linear(3, 3)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block = block

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.block(torch.relu(self.block(x)))

    shown = cells(text(Net(), (None, 3), show="macs"))
    assert [(r[0], r[3]) for r in shown] == [("block (Linear)", "18"), ("relu (torch)", "-")]


# -- the rows hold all weights, each once


class Bare(nn.Module):
    """Weights of its own, before and beside layers."""

    def __init__(self, inner: nn.Module | None = None) -> None:
        super().__init__()
        self.w, self.fc, self.scale = nn.Parameter(torch.rand(9, 9)), inner or nn.Linear(9, 9), nn.Parameter(torch.ones(9))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(x @ self.w.t()) * self.scale


class Parts(nn.Module):
    """Parts of parts that are called directly, and some that are not called at all."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Linear(9, 9) for _ in range(3))
        self.encoder = Bare()
        self.extra = nn.ParameterDict({"a": nn.Parameter(torch.zeros(5))})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.encoder.fc(self.blocks[1](x)) + self.extra["a"].sum()


class TiedBare(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(9, 9), nn.Linear(9, 9)
        self.second.weight = self.first.weight
        self.w = self.first.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(x)) @ self.w


class Counting(keras.Model):
    """A Hornbeam model with a weight of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = layers.Dense(3)
        self.bias = self.add_weight(shape=(3,), name="bias")
        self.seen = self.add_weight(shape=(2,), name="seen", trainable=False)

    def call(self, x: torch.Tensor) -> torch.Tensor:
        return self.dense(x) + self.bias


ZOO: dict[str, tuple[Any, Any]] = {
    "linear": (lambda: nn.Linear(9, 2), (None, 9)),
    "lstm": (lambda: nn.LSTM(9, 4, 2), (5, None, 9)),
    "gru cell": (lambda: nn.GRUCell(9, 4), (None, 9)),
    "attention": (lambda: nn.MultiheadAttention(8, 2), [(5, None, 8)] * 3),
    "encoder": (lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2), (None, 5, 8)),
    "transformer": (lambda: nn.Transformer(8, 2, 1, 1, 16, batch_first=True), [(None, 5, 8)] * 2),
    "relu": (nn.ReLU, (None, 9)),
    "prelu": (nn.PReLU, (None, 9)),
    "bilinear": (lambda: nn.Bilinear(3, 4, 2), [(None, 3), (None, 4)]),
    "bare": (Bare, (None, 9)),
    "nested bare": (lambda: Bare(Bare()), (None, 9)),
    "parts": (Parts, (None, 9)),
    "tied": (TiedBare, (None, 9)),
    "weight norm": (lambda: nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(9, 9))), (None, 9)),
    "one with weight norm": (lambda: nn.utils.parametrizations.weight_norm(nn.Linear(9, 9)), (None, 9)),
    "resnet": (lambda: ResNet((1,), 10, 8), (None, 3, 32, 32)),
    "gpt": (lambda: GPT(depth=1), (None, 32)),
    "unet": (UNet, (None, 3, 32, 32)),
    "dense": (lambda: layers.Dense(4), (None, 9)),
    "bidirectional": (lambda: layers.Bidirectional(layers.GRU(3)), (None, 5, 9)),
    "counting": (Counting, (None, 9)),
    "empty": (lambda: nn.Sequential(), (None, 9)),
}  # fmt: skip


@pytest.mark.parametrize("name", ZOO)
@pytest.mark.parametrize("expand", [False, True])
def test_rows_hold_all_weights_each_once(name: str, expand: bool) -> None:
    make, inputs = ZOO[name]
    module = make()
    rows, _ = rows_of(module, expand, graph_for(module, inputs))
    whole = {id(w): w for w in weights_of(module)}
    for depth in {0, max((r.depth for r in rows), default=0)}:
        held: list[torch.Tensor] = []
        for row, after in zip(rows, [*rows, None][1:], strict=True):
            opened = after is not None and after.depth > row.depth
            if row.depth == depth or (row.depth < depth and not opened):
                held += [row.weight] if row.weight is not None else weights_of(row.module) if row.module is not None else []
        assert {id(w) for w in held} == set(whole)
        assert len(held) == len(whole) or name in ("tied", "gpt")
    if name not in ("tied", "gpt"):
        assert sum(r.params for r in rows if r.depth == 0) == sum(w.numel() for w in whole.values())


@pytest.mark.parametrize("name", [name for name in ZOO if name not in ("tied", "gpt", "empty", "relu")])
def test_the_tables_of_costs_hold_all_weights(name: str) -> None:
    make, inputs = ZOO[name]
    module = make()
    cost = keras.cost(module, inputs)
    _, listed = columns._listing(cost)
    rows, _ = rows_of(module, graph=graph_for(module, inputs))
    told = [columns.figures_of(cost, row) for row in rows]
    calls = [c for c in told if c.params]
    assert listed
    assert all(c.weight_bytes for c in calls)
    rest = columns.beside_calls(cost)
    one = columns.is_unit(module)
    listed_bytes = cost.weight_bytes if one else rest.weight_bytes + sum(c.weight_bytes for c in cost.calls_made if c.depth == 0)
    assert listed_bytes == cost.weight_bytes == sum(w.numel() * w.element_size() for w in weights_of(module))
    assert any(cells[0].startswith("other weights") for cells in listed) == (rest.params > 0 and not one)


# -- further columns


def test_columns_of_costs() -> None:
    net = nn.Sequential(nn.Linear(100, 50), nn.ReLU(), nn.Linear(50, 10))
    shown = text(net, (None, 100), show=("macs", "memory"), batch_size=8)
    assert [r[0].split()[0] for r in cells(shown)] == ["0", "1", "2"]
    assert cells(shown)[0][2:] == ["5,050", "40.0 k", "40.0 k", "-", "39.5 KB"]
    assert cells(shown)[1][2:] == ["0", "-", "-", "1.56 KB", "1.56 KB"]
    assert cells(shown)[2][2:] == ["510", "4.00 k", "8.00 k", "-", "3.98 KB"]
    assert " Cost of a training step: batch of 8" in shown
    assert " Multiply-adds: 44.0 k forward, 48.0 k backward (FLOPs: two for each)" in shown
    assert "(weights 21.7 KB, gradients 21.7 KB, activations 1.56 KB, batch 3.12 KB)" in shown
    flops = cells(text(net, (None, 100), show="flops"))
    assert flops[0][3:] == ["10.0 k", "10.0 k"]


def test_every_column_has_a_header_and_the_table_its_width() -> None:
    net = nn.Sequential(nn.Linear(4, 4))
    shown = text(net, (None, 4), show=("macs", "flops", "memory", "outputs", "weights", "gradients", "optimizer", "time"))
    lines = [line for line in shown.splitlines() if line.startswith(("┏", "┃", "│", "└"))]
    assert len({len(line) for line in lines}) == 1
    for header in ("MACs back", "FLOPs back", "Activations", "Memory", "Outputs", "Weights", "Gradients", "Forward", "Backward"):
        assert header in shown


def test_the_columns_of_a_model() -> None:
    model = keras.Sequential([keras.Input((8,)), layers.Dense(4)])
    model.compile("adam", "mse")
    lines: list[str] = []
    model.summary(print_fn=lines.append, show="optimizer", batch_size=2)
    assert cells(lines[0])[0][2:] == ["36", "288 B"]  # two slots for each weight
    with pytest.raises(ValueError, match=r"`show` holds names of columns: macs, .* Received: 'mac'. Did you mean"):
        model.summary(show="mac")


def test_without_show_a_summary_says_what_keras_says() -> None:
    shown = text(keras.Sequential([keras.Input((8,)), layers.Dense(4)]))
    assert "Cost" not in shown
    assert shown.splitlines()[-1].startswith(" Non-trainable params")


def test_a_module_without_inputs_says_what_to_give() -> None:
    assert "no shapes yet" in text(nn.Sequential(nn.Linear(2, 2)))
    with pytest.raises(ValueError, match="Give `inputs`"):
        text(nn.Sequential(nn.Linear(2, 2)), show="macs")


# -- a layer that holds an absurd share


def image_and_text() -> Any:
    image = keras.Sequential([keras.Input((299, 299, 3)), layers.Conv2D(128, 3), layers.MaxPooling2D(), layers.Flatten()])
    picture, words = keras.Input((299, 299, 3)), keras.Input((200,), dtype="int32")
    joined = layers.concatenate([image(picture), layers.LSTM(128)(layers.Embedding(5000, 512)(words))])
    return keras.Model([picture, words], layers.Dense(512, activation="softmax", name="answer")(joined))


def test_the_image_and_text_model() -> None:
    lines = [line for line in text(image_and_text()).splitlines() if "holds" in line]
    assert lines == [
        " 'answer' holds 99.8 % of the 1,438,458,368 weights (5.35 GB): GlobalAveragePooling2D instead of 'flatten' leaves it "
        "128 of 2,803,712 inputs."
    ]


def test_a_plain_module_with_an_absurd_share() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.fc = nn.Conv2d(3, 32, 3, padding=1), nn.Linear(32 * 128 * 128, 128, device="meta")

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc(torch.flatten(self.conv(x), 1))

    shown = text(Net().to("meta"), (None, 3, 128, 128))
    assert "'fc' holds 99.9 % of the 67,109,888 weights (256.00 MB): " in shown
    assert "nn.AdaptiveAvgPool2d(1) before a flatten instead of 'flatten' leaves it 32 of 524,288 inputs." in shown


@pytest.mark.parametrize(
    "model",
    [
        # a small model whose dense layer holds nearly all
        lambda: keras.Sequential([keras.Input((28, 28, 1)), layers.Conv2D(32, 3), layers.Flatten(), layers.Dense(128)]),
        # large tables are what they are
        lambda: keras.Sequential([keras.Input((8,)), layers.Embedding(10_000_000, 64), layers.LSTM(8), layers.Dense(1)]),
        # one layer alone
        lambda: keras.Sequential([keras.Input((100_000,)), layers.Dense(10_000)]),
        # wide, without a flatten, below a gigabyte
        lambda: keras.Sequential([keras.Input((50_000,)), layers.Dense(2_000), layers.Dense(10)]),
        # VGG-16's first dense layer holds three quarters
        lambda: keras.Sequential([keras.Input((7, 7, 512)), *(layers.Conv2D(512, 3, padding="same") for _ in range(6)),
                                  layers.Flatten(), *(layers.Dense(4096) for _ in range(2))]),
    ],
)  # fmt: skip
def test_no_nagging(model: Any) -> None:
    made = model()
    assert absurd_share(made, made.graph) is None


# -- speed


def test_a_thousand_layers_are_summed_up_in_half_a_second() -> None:
    x = y = keras.Input((4,))
    for _ in range(500):
        y = torch.relu(layers.Dense(4)(y))
    model = keras.Model(x, y)
    times = []
    for _ in range(4):
        begun = time.process_time()
        text(model)
        times.append(time.process_time() - begun)
    assert min(times) < 0.5
