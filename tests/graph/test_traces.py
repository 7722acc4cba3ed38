"""Looking at a module leaves its Python as it was: caches, counters, features kept for later."""

from __future__ import annotations

import pickle
import random
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import nn

import hornbeam as keras
from hornbeam import layers

LOOKS: dict[str, Callable[[Any], Any]] = {
    "summary": lambda m: keras.summary(m, (None, 5, 8), print_fn=lambda _: None),
    "columns": lambda m: keras.summary(m, (None, 5, 8), show="flops", print_fn=lambda _: None),
    "cost": lambda m: keras.cost(m, (None, 5, 8)),
    "explore": lambda m: keras.explore(m, inputs=(None, 5, 8)),
    "tap": lambda m: keras.tap(m, "a", inputs=(None, 5, 8)),
    "profile": lambda m: keras.profile(m, torch.ones(2, 5, 8), repeats=1, warmup=0),
}
looks = pytest.mark.parametrize("look", list(LOOKS))


class Rope(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.cache = nn.Linear(8, 8), None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.cache is None:
            self.cache = torch.arange(x.shape[1]).float()[:, None]
        return self.a(x) * self.cache.cos()


class Memory(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.mem = nn.Linear(8, 8), {}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.a(x) + self.mem.setdefault("k", torch.zeros_like(x[:1]))


@dataclass
class Keys:
    seen: Any = None
    count: int = 0


class Busy(nn.Module):
    """Does to itself whatever Python can."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.n, self.sizes, self.names, self.last = nn.Linear(8, 8), 0, [0], {"x"}, deque([1], maxlen=1)
        self.nested: dict[str, Any] = {"per layer": [[1.0], []]}
        self.order, self.keys, self.held = OrderedDict(b=1, a=2), Keys(), torch.ones(3)
        self.register_buffer("count", torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.n += 1
        self.sizes.append(len(x))
        self.names.add(f"y{self.n}")
        self.last.append(self.n)
        self.nested["per layer"][1].append(x)
        self.order.move_to_end(next(iter(self.order)))
        self.keys.seen, self.keys.count = x, self.keys.count + 1
        self.held.add_(1)
        self.made = nn.Linear(8, 8)
        self.weight = nn.Parameter(x.new_zeros(8))
        self.register_buffer("more", x.mean() + random.random())
        self.features = self.made(self.a(x))
        return self.features * self.weight


class Previous(keras.Model):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.prev, self.all = layers.Dense(8), None, []

    def call(self, x: Any) -> Any:
        self.prev = self.a(x)
        self.all.append(self.prev)
        return self.prev * 2


@looks
def test_what_is_cached_is_not_that_of_the_look(look: str) -> None:
    rope, memory = Rope(), Memory()
    LOOKS[look](rope)
    LOOKS[look](memory)
    assert (rope.cache, memory.mem) == (None, {})
    assert type(rope(torch.ones(2, 7, 8))) is torch.Tensor  # of another length
    assert memory(torch.ones(2, 7, 8)).shape == (2, 7, 8)


@looks
def test_a_module_that_changes_itself_is_as_before(look: str) -> None:
    net = Busy()
    net(torch.ones(2, 5, 8))
    before, kept = dict(vars(net)), net.features
    random.seed(1)
    numbers = random.getstate()
    LOOKS[look](net)
    assert vars(net).keys() == before.keys()
    assert net.features is kept
    assert (net.n, net.sizes, net.names, list(net.last)) == (1, [0, 2], {"x", "y1"}, [1])
    assert [len(part) for part in net.nested["per layer"]] == [1, 1]
    assert list(net.order) == ["a", "b"]
    assert net.keys.seen.shape == (2, 5, 8)
    assert net.keys.count == 1
    assert torch.equal(net.held, torch.full((3,), 2.0))
    assert list(net._parameters) == ["weight"]
    assert list(net._buffers) == ["count", "more"]
    assert list(net._modules) == ["a", "made"]
    assert random.getstate() == numbers
    net.features = None
    assert pickle.loads(pickle.dumps(net)).n == 1


@looks
def test_a_layer_is_built_by_the_look_and_else_as_before(look: str) -> None:
    model = Previous()
    if look in ("tap", "profile"):
        model(torch.ones(2, 5, 8))
        model.prev = None
        model.all.clear()
    LOOKS[look](model)
    assert model.built
    assert model.a.built
    assert model.prev is None
    assert model.all == []
    kept = model(torch.ones(2, 5, 8))
    LOOKS[look](model)
    assert torch.equal(model.prev * 2, kept)
    assert len(model.all) == 1


def test_a_lazy_module_is_built_by_the_look() -> None:
    net = nn.LazyLinear(4)
    keras.summary(net, (None, 3), print_fn=lambda _: None)
    assert type(net) is nn.Linear
    assert net.in_features == 3


def test_a_run_that_fails_leaves_no_trace() -> None:
    class Net(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.seen = x
            raise RuntimeError("on purpose")

    net = Net()
    with pytest.raises(RuntimeError, match="on purpose"):
        keras.summary(net, (None, 3))
    assert not hasattr(net, "seen")
