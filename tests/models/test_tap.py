"""tap: intermediate outputs of any module, through nesting and sharing, equal to what the eager module computes there."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import hornbeam
from hornbeam.layers import LSTM, Add, BatchNormalization, Concatenate, Conv2D, Dense, Dropout, Embedding, Flatten, Input, ReLU
from hornbeam.models import Model, Sequential
from hornbeam.models.tapped import Tapped, tap

torch.set_num_threads(1)


def backbone(name="backbone"):
    x = Input((8, 8, 3), name="pixels")
    h = Conv2D(4, 3, padding="same", name="block1")(x)
    h = BatchNormalization(name="norm")(h)
    return Model(x, torch.relu(Conv2D(4, 3, padding="same", name="block2")(h)) + 1, name=name)


def classifier():
    x = Input((8, 8, 3), name="image")
    features = Flatten(name="flat")(backbone()(x))
    shared = Dense(5, name="shared")
    head = shared(torch.tanh(shared(Dense(5, name="head")(features))))
    return Model(x, head)


IMAGES = torch.randn(2, 8, 8, 3, generator=torch.Generator().manual_seed(0))


def seen(module, part, *inputs):
    """What a submodule returned at each of its calls."""
    found = []
    handle = part.register_forward_hook(lambda m, a, y: found.append(y))
    module(*inputs)
    handle.remove()
    return found


def test_a_layer_inside_a_nested_model_is_reached_by_its_path():
    model = classifier()
    inner = model.get_layer("backbone")
    reached = model.tap("backbone/block1")
    assert reached.output_shape == (None, 8, 8, 4)
    assert torch.equal(reached(IMAGES), seen(model, inner.get_layer("block1"), IMAGES)[0])
    assert reached.get_layer("backbone").get_layer("block1") is inner.get_layer("block1")
    assert set(reached.state_dict()) <= set(model.state_dict())


def test_what_comes_after_a_tap_is_left_out():
    model = classifier()
    reached = model.tap("backbone/block1")
    assert [n.name for n in reached.get_layer("backbone").graph.nodes] == ["pixels", "block1"]
    both = model.tap(["backbone/block1", "head"])
    assert "block2" in [n.name for n in both.get_layer("backbone").graph.nodes]
    assert [n.name for n in both.graph.nodes] == ["image", "backbone", "flat", "head"]


def test_functions_have_names_too():
    model = classifier()
    reached = model.tap(["backbone/relu", "tanh"])
    relu, tanh = reached(IMAGES)
    assert torch.equal(model.tap("backbone")(IMAGES), relu + 1)
    assert torch.equal(tanh, torch.tanh(model.tap("shared:0")(IMAGES)))


@pytest.mark.parametrize("asked", ["shared:1", "shared:-1"])
def test_a_call_of_a_shared_layer_has_a_number(asked):
    model = classifier()
    first, second = seen(model, model.get_layer("shared"), IMAGES)
    assert torch.equal(model.tap(asked)(IMAGES), second)
    assert torch.equal(model.tap("shared", index=0)(IMAGES), first)


def test_a_shared_layer_without_a_number_is_ambiguous():
    with pytest.raises(ValueError, match=r"calls 'shared' 2 times. Say which call: 'shared:0', 'shared:1'"):
        classifier().tap("shared")
    with pytest.raises(ValueError, match=r"'shared' is called 2 time\(s\), the first of them is 'shared:0'"):
        classifier().tap("shared:2")


def test_a_nested_model_that_is_called_twice():
    inner = backbone("tower")
    a, b = Input((8, 8, 3), name="a"), Input((8, 8, 3), name="b")
    model = Model([a, b], inner(a) - inner(b))
    other = IMAGES + 1
    left, right = model.tap(["tower:0/block1", "tower:1/block1"])([IMAGES, other])
    assert torch.equal(left, inner.tap("block1")(IMAGES))
    assert torch.equal(right, inner.tap("block1")(other))


def test_other_places_in_the_calls_of_one_nested_model():
    inner = backbone("tower")
    a, b = Input((8, 8, 3), name="a"), Input((8, 8, 3), name="b")
    model = Model([a, b], inner(a) - inner(b))
    other = IMAGES + 1
    left, right, whole = model.tap(["tower:0/block1", "tower:1/block2", "tower:1"])([IMAGES, other])
    assert torch.equal(left, inner.tap("block1")(IMAGES))
    assert torch.equal(right, inner.tap("block2")(other))
    assert torch.equal(whole, inner(other))
    first, last = model.tap(["tower:0/block1", "sub"])([IMAGES, other])
    assert torch.equal(first, left)
    assert torch.equal(last, model([IMAGES, other]))


def test_the_nest_of_names_is_the_nest_of_outputs():
    model = classifier()
    found = model.tap({"low": "backbone/block1", "high": ["head", "backbone"]})(IMAGES)
    assert found["low"].shape == (2, 8, 8, 4)
    assert [v.shape for v in found["high"]] == [(2, 5), (2, 8, 8, 4)]


def test_the_original_stays_as_it_was():
    model = classifier().train()
    model.get_layer("head").eval()
    before = {n: m.training for n, m in model.named_modules()}
    output = model.get_layer("head").output
    model.tap(["backbone/block1", "head"])
    assert {n: m.training for n, m in model.named_modules()} == before
    assert model.get_layer("head").output.ref == output.ref
    model.eval()
    assert torch.equal(Model(model.inputs, model.get_layer("head").output)(IMAGES), model.tap("head")(IMAGES))


def test_an_untouched_model_runs_one_pass_for_several_outputs():
    calls = []

    class Counted(Dense):
        def call(self, inputs):
            calls.append(inputs.shape)
            return super().call(inputs)

    x = Input((3,))
    inner_in = Input((3,))
    inner = Model(inner_in, Dense(2, name="out")(Counted(4, name="counted")(inner_in)), name="inner")
    model = Model(x, Dense(2, name="last")(inner(x)))
    reached = model.tap(["inner/counted", "inner", "last"])
    calls.clear()
    reached(torch.ones(5, 3))
    assert calls == [(5, 3)]


def test_several_inputs_stay_the_inputs():
    a, b = Input((3,), name="a"), Input((4,), name="b")
    model = Model({"a": a, "b": b}, Concatenate(name="both")([Dense(2, name="left")(a), b]))
    assert model.tap("left")({"a": torch.ones(2, 3), "b": torch.ones(2, 4)}).shape == (2, 2)


def test_several_outputs_of_one_layer_come_in_its_nest():
    x = Input((6, 3))
    out, h, c = LSTM(4, return_state=True, name="lstm")(x)
    model = Model(x, Dense(2)(out + h + c))
    assert [tuple(v.shape) for v in model.tap("lstm")(torch.ones(2, 6, 3))] == [(2, 4)] * 3


def test_masks_reach_the_tapped_layer():
    ids = torch.tensor([[1, 2, 0, 0], [3, 0, 0, 0]])
    x = Input((4,), dtype="int64")
    model = Model(x, Dense(2)(LSTM(3, name="lstm")(Embedding(5, 4, mask_zero=True, name="emb")(x))))
    expected = seen(model, model.get_layer("lstm"), ids)[0]
    torch.testing.assert_close(model.tap("lstm")(ids), expected)


def test_a_sequential_and_one_that_has_no_shapes_yet():
    model = Sequential([Dense(4, name="a"), Dense(2, name="b")])
    with pytest.raises(ValueError, match="knows no shapes yet: call it, build it"):
        model.tap("a")
    model.build((None, 3))
    assert model.tap("a").output_shape == (None, 4)


def test_copies_and_pickles_can_be_tapped():
    for model in (copy.deepcopy(classifier()), pickle.loads(pickle.dumps(classifier()))):
        inner = model.get_layer("backbone")
        assert torch.equal(model.tap("backbone/block1")(IMAGES), seen(model, inner.get_layer("block1"), IMAGES)[0])


def test_a_tapped_model_trains_the_original():
    model = classifier()
    reached = model.tap("backbone/block1")
    reached(IMAGES).sum().backward()
    assert model.get_layer("backbone").get_layer("block1").kernel.grad is not None


def test_names_that_are_not_there():
    model = classifier()
    with pytest.raises(ValueError, match=r"has no call 'heda'. Did you mean 'head'"):
        model.tap("heda")
    with pytest.raises(ValueError, match=r"'backbone' has no call 'blok1'. Did you mean 'block1'"):
        model.tap("backbone/blok1")
    with pytest.raises(ValueError, match="'tanh' in 'tanh/x' is a function; there is nothing inside it"):
        model.tap("tanh/x")
    with pytest.raises(TypeError, match=r"named by a path such as 'backbone/block3'. Received: 3"):
        model.tap(3)
    with pytest.raises(ValueError, match="takes the name of a call, or a list or dict of names"):
        model.tap([])
    with pytest.raises(TypeError, match=r"tap takes a torch.nn.Module. Received: 'model'"):
        tap("model", "a")


# -- modules that run their own Python


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(3, 4), nn.ReLU())
        self.cell = nn.Linear(4, 4)
        self.unused = nn.Linear(4, 4)
        self.runs = 0

    def forward(self, x, steps=1):
        self.runs += 1
        x = self.encoder(x)
        for _ in range(steps):
            x = self.cell(x)
        return x


def hooks(module):
    return sum(len(m._forward_hooks) for m in module.modules())


def test_a_plain_module_runs_once_and_keeps_no_hooks():
    net = Net()
    x = torch.randn(2, 3)
    reached = hornbeam.tap(net, {"first": "encoder/0", "cell": "cell"})
    found = reached(x)
    assert net.runs == 1
    assert hooks(net) == 0
    assert torch.equal(found["first"], net.encoder[0](x))
    assert torch.equal(found["cell"], net(x))
    assert all(p.grad is None for p in net.parameters())


def test_the_order_is_that_of_the_names():
    x = torch.randn(2, 3)
    shapes = [tuple(v.shape) for v in tap(Net(), ["cell", "encoder.1", "encoder/0"])(x)]
    assert shapes == [(2, 4), (2, 4), (2, 4)]
    net = Net()
    later, earlier = tap(net, ["cell", "encoder"])(x)
    assert torch.equal(earlier, net.encoder(x))
    assert torch.equal(later, net.cell(earlier))


def test_calls_in_a_loop_have_numbers():
    net = Net()
    x = torch.randn(2, 3)
    last, first = tap(net, ["cell:-1", "cell:0"])(x, steps=3)
    assert torch.equal(last, net(x, steps=3))
    assert torch.equal(first, net(x))
    with pytest.raises(ValueError, match=r"'cell' was called 3 times in this run. Say which call: 'cell:0'"):
        tap(net, "cell")(x, steps=3)
    with pytest.raises(ValueError, match="'cell:5' asks for a call that this run did not make: there were 3"):
        tap(net, "cell:5")(x, steps=3)


def test_hooks_go_when_the_run_fails():
    net = Net()
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        tap(net, "cell")(torch.randn(2, 7))
    with pytest.raises(ValueError, match="'unused' was not called in this run"):
        tap(net, "unused")(torch.randn(2, 3))
    assert hooks(net) == 0


def test_inputs_check_the_names_at_once():
    with pytest.raises(ValueError, match="'unused' was not called in this run"):
        hornbeam.tap(Net(), "unused", inputs=(None, 3))
    net = Net()
    reached = hornbeam.tap(net, "cell", inputs=(None, 3))
    assert reached(torch.ones(1, 3)).shape == (1, 4)


def test_modes_are_left_alone():
    net = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5), nn.Sequential(nn.BatchNorm1d(3)))
    net[2].eval()
    tap(net, "2/0")
    assert [m.training for m in net.modules()] == [True, True, True, False, False]


def test_a_subclassed_model():
    class Own(Model):
        def __init__(self):
            super().__init__()
            self.stem = Dense(4, name="first_layer")
            self.head = Dense(2)

        def call(self, x):
            return self.head(torch.relu(self.stem(x)))

    model = Own()
    x = torch.randn(3, 5)
    expected = model(x)
    for name in ("stem", "first_layer"):
        reached = model.tap([name, "head"])(x)
        assert torch.equal(reached[0], model.stem(x))
        assert torch.equal(reached[1], expected)
    assert isinstance(model.tap("stem"), Tapped)
    with pytest.raises(ValueError, match=r"Own has no module 'stm' in it. It has: 'first_layer'"):
        model.tap("stm")


def test_a_plain_module_inside_a_functional_model():
    net = Net()
    x = Input((3,))
    model = Model(x, Dense(2, name="last")(net(x)))
    data = torch.randn(2, 3)
    inner, last = model.tap(["net/encoder/0", "last"])(data)
    assert torch.equal(inner, net.encoder[0](data))
    assert torch.equal(last, model(data))


def made(kind, name):
    if kind == "nest":
        inner = Input((4,))
        return Model(inner, torch.relu(Dense(4, name="deep")(inner)), name=name)
    kinds = {"dense": lambda: Dense(4, name=name), "relu": lambda: ReLU(name=name), "drop": lambda: Dropout(0.5, name=name)}
    return torch.tanh if kind == "tanh" else Add(name=name) if kind == "add" else kinds[kind]()


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from(["dense", "relu", "tanh", "add", "nest", "drop"]), min_size=1, max_size=6), st.integers(0, 5))
def test_a_tap_gives_what_the_eager_layers_give(kinds, place):
    x = Input((4,))
    h, source = x, torch.linspace(-1, 1, 8).reshape(2, 4)
    steps = [(f"layer{i}", kind, made(kind, f"layer{i}")) for i, kind in enumerate(kinds)]
    for _, kind, layer in steps:
        h = layer([h, x]) if kind == "add" else layer(h)
    model = Model(x, Dense(2, name="end")(h))
    value, values, tanhs = source, [], 0
    for name, kind, layer in steps:
        value = layer([value, source]) if kind == "add" else layer(value)
        if kind == "tanh":
            name = f"tanh_{tanhs}" if tanhs else "tanh"
            tanhs += 1
        values.append((name, value))
        if kind == "nest":
            values.append((f"{name}/relu", value))
    name, expected = values[place % len(values)]
    torch.testing.assert_close(model.tap(name)(source), expected, rtol=0, atol=0)


def test_a_later_call_of_a_shared_nested_model_is_reached():
    inner = Sequential([Input((8,)), Dense(8, name="a")], name="inner")
    x = Input((8,))
    model = Model(x, inner(inner(x)))
    values = torch.randn(2, 8)
    first, second = inner(values), model(values)
    assert torch.equal(model.tap("inner:0/a")(values), first)
    assert torch.equal(model.tap("inner:1/a")(values), second)
    assert torch.equal(model.tap("inner/a", index=0)(values), first)
    assert torch.equal(model.tap("inner/a", index=1)(values), second)
    with pytest.raises(ValueError, match=r"calls 'inner' 2 times. Say which call: 'inner:0/a', 'inner:1/a'"):
        model.tap("inner/a")
