"""Layers in lists, tuples and dicts on a layer, and attributes that come, change and go."""

from __future__ import annotations

import copy
import pickle
from collections import OrderedDict, namedtuple
from typing import Any

import pytest
import torch
from torch import nn

import hornbeam as keras
from hornbeam import layers

# -- containers


def dense(n: int = 2) -> Any:
    return layers.Dense(n)


Pair = namedtuple("Pair", "left right")

CONTAINERS: dict[str, Any] = {
    "list": lambda: [dense(), dense()],
    "tuple": lambda: (dense(), dense()),
    "dict": lambda: {"a": dense(), "b": dense()},
    "ordered dict": lambda: OrderedDict(a=dense(), b=dense()),
    "nested": lambda: [[dense()], {"x": (dense(),)}],
    "mixed": lambda: [dense(), "text", 3, dense(), None],
    "mixed dict": lambda: {"a": dense(), "b": 1, "c": [dense()]},
    "odd keys": lambda: {"x.y": dense(), "training": dense()},
    "integer keys": lambda: {1: dense(), 2: dense()},
    "clashing keys": lambda: {"a.b": dense(), "a_b": dense()},
    "named tuple": lambda: Pair(dense(), dense()),
    "torch modules": lambda: [nn.Linear(3, 2), dense()],
    "ModuleList": lambda: nn.ModuleList([dense(), dense()]),
}


@pytest.mark.parametrize("name", CONTAINERS)
def test_layers_in_containers_are_tracked(name: str) -> None:
    class Holder(keras.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.parts = CONTAINERS[name]()

    holder = Holder()
    found = [m for m in holder.modules() if isinstance(m, (layers.Dense, nn.Linear))]
    assert len(found) == 2
    for layer in found:
        layer(torch.ones(1, 3))
    assert len(holder.weights) == 4
    assert len(holder.state_dict()) == 4
    assert all(k.startswith("parts") and k.count("..") == 0 for k in holder.state_dict())
    twin = copy.deepcopy(holder)
    twin.load_state_dict(holder.state_dict())
    assert not {id(p) for p in twin.parameters()} & {id(p) for p in holder.parameters()}
    assert type(twin.parts) is type(holder.parts)
    del holder.parts
    assert list(holder.parameters()) == []


class Grows(keras.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.empty, self.full, self.mixed = [], [dense()], [dense(), 1]
        self.table: dict[str, Any] = {}


def test_changes_of_a_list_are_followed() -> None:
    layer = Grows()
    count = lambda: sum(isinstance(m, layers.Dense) for m in layer.modules())  # noqa: E731
    assert count() == 2
    layer.empty.append(dense())
    layer.full.append(dense())
    layer.mixed.append(dense())
    layer.table["x"] = dense()
    assert count() == 6
    layer.empty += [dense()]
    layer.full.extend([dense()])
    layer.full.insert(0, dense())
    layer.table.update(y=dense())
    assert count() == 10
    layer.full.pop()
    layer.mixed.clear()
    del layer.table["x"]
    assert count() == 6
    layer.empty = None
    assert count() == 4
    assert isinstance(layer.full[0], layers.Dense)
    assert len(layer.full) == 3


@pytest.mark.parametrize("how", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["deepcopy", "pickle"])
def test_changes_are_followed_in_copies(how: Any) -> None:
    layer = Grows()
    layer.mixed.append(dense())
    twin = how(layer)
    for holder, count in ((layer, 3), (twin, 7)):
        if holder is twin:
            twin.empty.append(dense())
            twin.mixed.append(dense())
            twin.table["x"] = dense()
            twin.full.append(dense())
        assert sum(isinstance(m, layers.Dense) for m in holder.modules()) == count


def test_what_can_be_done_with_a_list_of_layers() -> None:
    class Holder(keras.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.parts = [dense(), dense()]

    parts = Holder().parts
    first, second = parts
    assert parts.index(second) == 1
    assert first in parts
    assert list(reversed(list(parts))) == [second, first]
    assert list(parts + [first]) == [first, second, first]
    assert parts.copy() == [first, second]
    parts.remove(first)
    assert list(parts) == [second]


def test_lists_without_layers_stay_lists() -> None:
    layer = keras.Layer()
    layer.sizes = [1, 2]
    layer.names = {"a": 1}
    layer.shape_ = (1, 2)
    assert layer.sizes == [1, 2]
    assert isinstance(layer.sizes, list)
    assert isinstance(layer.names, dict)
    layer.sizes.append(3)
    assert layer.sizes == [1, 2, 3]
    assert type(layer.shape_) is tuple


def test_replacing_and_removing_a_layer() -> None:
    layer = keras.Layer()
    layer.part = dense()
    layer.part = other = dense()
    assert list(layer.children()) == [other]
    layer.part = None
    assert list(layer.children()) == []
    layer.part = dense()
    del layer.part
    assert not hasattr(layer, "part")


def test_attributes_before_super_init() -> None:
    class Early(keras.Layer):
        def __init__(self) -> None:
            self.units = 3
            self.dense = dense()
            self.parts = [dense()]
            super().__init__()

    layer = Early()
    assert layer.units == 3
    assert len(list(layer.modules())) == 4
    assert not hasattr(Early.__new__(Early), "nothing")


def test_an_attribute_error_inside_a_property_says_why() -> None:
    class Odd(keras.Layer):
        @property
        def size(self) -> int:
            return self.unknown_thing

    with pytest.raises(AttributeError, match="unknown_thing"):
        Odd().size
