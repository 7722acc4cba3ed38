"""Any module as a graph of its inner calls: true shapes, and no trace left behind."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import hornbeam as keras
from hornbeam import layers
from hornbeam.graph import record as recording
from hornbeam.graph.node import Spec
from hornbeam.graph.record import Recording, record


def calls(graph: Recording) -> list[tuple[str, Any]]:
    """Name and shape of each call, in order."""
    return [(n.name, n.outputs[0].shape if len(n.outputs) == 1 else [o.shape for o in n.outputs]) for n in graph.calls()]


class Block(nn.Module):
    """A residual block of torch's own layers."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width)
        self.conv2, self.norm2 = nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(y)) + x)


class ResNetLike(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.blocks = nn.Sequential(Block(8), Block(8))
        self.head = nn.Linear(8, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.blocks(self.stem(x))
        return self.head(F.adaptive_avg_pool2d(h, 1).flatten(1))


def test_a_resnet_like_module() -> None:
    graph = record(ResNetLike(), Spec((None, 3, 32, 32), "float32"))
    assert calls(graph) == [
        ("stem", (None, 8, 16, 16)),
        ("blocks", (None, 8, 16, 16)),
        ("adaptive_avg_pool2d", (None, 8, 1, 1)),
        ("flatten", (None, 8)),
        ("head", (None, 10)),
    ]
    assert graph.outputs[0].node.name == "head"


def test_inside_a_block() -> None:
    graph = record(Block(8), Spec((None, 8, None, None), "float32"))
    assert [n for n, _ in calls(graph)] == ["conv1", "norm1", "relu", "conv2", "norm2", "add", "relu_1"]
    assert {s for _, s in calls(graph)} == {(None, 8, None, None)}
    add = next(n for n in graph.calls() if n.name == "add")
    assert [r.node.name for r in add.refs()] == ["norm2", "input_1"]


def test_a_transformer_encoder() -> None:
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2, enable_nested_tensor=False)
    graph = record(encoder, Spec((None, 5, 8), "float32"))
    assert [(n, s) for n, s in calls(graph) if n.startswith("layers")] == [("layers.0", (None, 5, 8)), ("layers.1", (None, 5, 8))]
    assert [o.spec.shape for o in graph.outputs] == [(None, 5, 8)]


def test_a_torch_lstm() -> None:
    class Reader(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.lstm, self.head = nn.Embedding(50, 4), nn.LSTM(4, 6, batch_first=True), nn.Linear(6, 2)

        def forward(self, ids: torch.Tensor) -> Any:
            steps, (hidden, _) = self.lstm(self.embed(ids))
            return {"last": self.head(hidden[-1]), "all": self.head(steps)}

    graph = record(Reader(), Spec((None, None), "int64"))
    assert calls(graph)[:3] == [
        ("embed", (None, None, 4)),
        ("lstm", [(None, None, 6), (1, None, 6), (1, None, 6)]),
        ("getitem", (None, 6)),
    ]
    assert {o.spec.shape for o in graph.outputs} == {(None, 2), (None, None, 2)}
    assert set(graph.output_nest) == {"last", "all"}
    assert [n.target for n in graph.calls() if n.kind == "module"] == ["embed", "lstm", "head", "head"]


def test_a_subclassed_model() -> None:
    class Net(keras.Model):
        def __init__(self) -> None:
            super().__init__(name="net")
            self.conv = layers.Conv2D(4, 3, activation="relu", name="conv")
            self.pool = layers.GlobalAveragePooling2D(name="pool")
            self.heads = [layers.Dense(2, name="first"), layers.Dense(3, name="second")]

        def call(self, x: torch.Tensor, training: bool = False) -> list[torch.Tensor]:
            h = self.pool(torch.tanh(self.conv(x)))
            if training:
                h = h * 0
            return [head(h) for head in self.heads]

    net = Net()
    net.build((None, 8, 8, 1))
    graph = record(net, *net._build_specs)
    assert calls(graph) == [
        ("conv", (None, 6, 6, 4)), ("tanh", (None, 6, 6, 4)), ("pool", (None, 4)), ("first", (None, 2)), ("second", (None, 3)),
    ]  # fmt: skip
    assert [n.target for n in graph.calls() if n.kind == "module"] == ["conv", "pool", "heads.0", "heads.1"]


def test_calls_of_a_torch_model_inside_ours_and_ours_inside_torchs() -> None:
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = keras.Sequential([layers.Dense(4), layers.Dense(3)])
            self.last = nn.Linear(3, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.last(self.inner(x) * 2)

    graph = record(Mixed(), Spec((None, 5), "float32"))
    assert [s for _, s in calls(graph)] == [(None, 3), (None, 3), (None, 2)]


def test_shapes_that_only_seem_fixed() -> None:
    class Token(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.token, self.linear = nn.Parameter(torch.zeros(1, 4)), nn.Linear(4, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.linear(torch.cat([self.token, x], 0))

    assert calls(record(Token(), Spec((None, 4), "float32"))) == [("cat", (None, 4)), ("linear", (None, 3))]


def test_a_module_that_an_empty_batch_does_not_suit() -> None:
    class Fussy(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            assert len(x), "no empty batches, please"
            return x.max(0).values - x

    assert calls(record(Fussy(), Spec((None, 4), "float32")))[-1][1] == (None, 4)
    assert calls(record(Fussy(), Spec((None, None, 4), "float32")))[-1][1] == (None, None, 4)
    assert calls(record(Fussy(), Spec((2, 4), "float32")))[-1][1] == (2, 4)


def test_an_example() -> None:
    class Pairs(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            assert len(x) % 4 == 0
            assert len(x)
            return x.view(-1, 4, x.shape[1]).sum(1)

    with pytest.raises(AssertionError):
        record(Pairs(), Spec((None, 3), "float32"))
    graph = record(Pairs(), example=(torch.ones(8, 3),))
    assert [s for _, s in calls(graph)][-1] == (None, 3)


def test_an_error_is_the_modules_own() -> None:
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        record(nn.Sequential(nn.Linear(3, 4), nn.Linear(5, 2)), Spec((None, 3), "float32"))


# -- control flow


class Branches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(3, 2), nn.Linear(3, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.sum() > 0:
            return self.a(x)
        return self.b(x)


def test_values_that_python_looks_at_are_noted() -> None:
    graph = record(Branches(), Spec((None, 3), "float32"))
    assert [n for n, _ in calls(graph)][-1] == "b"
    ((file, line),) = graph.reads
    assert file == __file__
    with open(__file__, encoding="utf-8") as source:
        assert "if x.sum() > 0" in source.readlines()[line - 1]


@pytest.mark.parametrize("read", [float, int, bool, lambda v: v.item(), lambda v: v.tolist(), lambda v: v.numpy()])
def test_each_way_to_look(read: Any) -> None:
    class Looks(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            read(x.sum())
            return x * 2

    assert len(record(Looks(), Spec((None, 3), "float32")).reads) == 1


def test_shapes_and_modes_are_no_values() -> None:
    class Plain(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if x.shape[1] > 2 and not self.training and x.size(0) >= 0 and x.dtype is torch.float32:
                x = x * 2
            return x

    graph = record(Plain(), Spec((None, 3), "float32"))
    assert graph.reads == []
    assert [n for n, _ in calls(graph)] == ["mul"]


def test_a_summary_says_so() -> None:
    class Net(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.branches = Branches()

        def call(self, x: torch.Tensor) -> torch.Tensor:
            return self.branches(x) if x.mean() > 0 else self.branches(x) * 2

    lines: list[str] = []
    net = Net()
    net.summary(input_shape=(None, 3), print_fn=lines.append)
    assert "The model's Python looks at values" in " ".join(lines[0].split())


# -- nothing changes


class Everything(keras.Model):
    """Dropout, batch statistics, a counter, losses, lazy weights, a foreign module with state."""

    def __init__(self) -> None:
        super().__init__()
        self.dense, self.norm, self.drop = layers.Dense(4), layers.BatchNormalization(), layers.Dropout(0.5)
        self.foreign, self.foreign_drop = nn.BatchNorm1d(4), nn.Dropout(0.5)
        self.count = self.add_weight(shape=(), initializer="zeros", trainable=False, name="count")
        self.seen = 0

    def call(self, x: torch.Tensor) -> torch.Tensor:
        self.count.assign_add(1.0)
        h = self.foreign(self.norm(self.dense(x)))
        self.add_loss(h.sum())
        return self.foreign_drop(self.drop(h)) + torch.randn(4)


def test_nothing_is_changed() -> None:
    model = Everything()
    model.build((None, 3))
    model.foreign.train()
    modes = {n: m.training for n, m in model.named_modules()}
    buffers = {n: b.clone() for n, b in model.foreign.named_buffers()}
    grad = torch.is_grad_enabled()
    state = torch.get_rng_state()
    graph = record(model, *model._build_specs)
    assert [type(model.get_submodule(n.target)).__name__ for n in graph.calls() if n.kind == "module"] == [
        "Dense", "BatchNormalization", "BatchNorm1d", "Dropout", "Dropout",
    ]  # fmt: skip
    assert torch.equal(torch.get_rng_state(), state)
    assert {n: m.training for n, m in model.named_modules()} == modes
    assert {n for n, b in model.foreign.named_buffers() if not torch.equal(b, buffers[n])} == set()
    assert model.losses == []
    assert torch.is_grad_enabled() is grad
    assert model.dense.__dict__["_parameters"].__class__.__name__ == "LazyDict", "weights are still without values"
    assert float(model.count) == 0.0
    assert nn.Module._call_impl is recording._plain_call_impl
    assert not model.dense._inbound_nodes


def test_nothing_is_changed_by_a_failing_run() -> None:
    model = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(4, 2)).train()
    state = torch.get_rng_state()
    with pytest.raises(RuntimeError):
        record(model, Spec((None, 3), "float32"))
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training
    assert model[0].training
    assert model[0].num_batches_tracked == 0
    assert nn.Module._call_impl is recording._plain_call_impl


def test_a_recording_of_trained_weights_leaves_them() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    before = copy.deepcopy(model.state_dict())
    record(model, Spec((None, 3), "float32"))
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key])
    assert all(p.grad is None for p in model.parameters())


def test_hooks_of_the_user_run_as_ever() -> None:
    seen: list[str] = []
    model = nn.Sequential(nn.Linear(3, 4))
    model[0].register_forward_hook(lambda *a: seen.append("hook"))
    record(model, Spec((None, 3), "float32"))
    seen.clear()
    model(torch.ones(1, 3))
    assert seen == ["hook"]
