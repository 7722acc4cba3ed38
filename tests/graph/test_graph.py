"""Graphs: sorted, cut, checked, copied; nested models are nodes, shared layers appear once per call."""

from __future__ import annotations

import copy
import pickle
import time
from typing import Any

import pytest
import torch
from torch import nn

import hornbeam as keras
from hornbeam import layers
from hornbeam.graph import tree
from hornbeam.graph.graph import Graph
from hornbeam.graph.node import Ref


def names(graph: Graph) -> list[str]:
    return [n.name for n in graph.nodes]


# -- errors


def test_a_missing_input_is_named_with_who_needs_it() -> None:
    a, b = keras.Input((3,), name="pixels"), keras.Input((4,), name="words")
    wanted = layers.Concatenate(name="joined")([a, b])
    line = wanted.node.source[1]
    with pytest.raises(ValueError, match="graph is disconnected") as caught:
        keras.Model(a, layers.Dense(2)(wanted))
    text = str(caught.value)
    assert "input 'words' of shape (None, 4) is not among the model's inputs ('pixels')" in text
    assert f"layer 'joined' needs it at {__file__}:{line}" in text
    assert "Add it to `inputs`" in text


def test_a_missing_input_wanted_by_a_function() -> None:
    a, b = keras.Input((3,)), keras.Input((3,), name="other")
    with pytest.raises(ValueError, match=r"input 'other'.*function 'add' needs it at .*test_graph\.py:\d+"):
        keras.Model(a, a + b)


def test_an_output_that_is_an_input_of_nobody() -> None:
    a, b = keras.Input((3,)), keras.Input((3,), name="other")
    with pytest.raises(ValueError, match=r"input 'other'.*it is itself an output"):
        keras.Model(a, [a * 2, b])


def test_duplicate_inputs() -> None:
    x = keras.Input((3,), name="pixels")
    with pytest.raises(ValueError, match="must be different tensors, but 'pixels' was given more than once"):
        keras.Model([x, x], x * 2)


def test_what_is_no_symbolic_tensor() -> None:
    x = keras.Input((3,))
    with pytest.raises(TypeError, match=r"`outputs` of a model must be symbolic tensors.*Received: Tensor of shape \(2, 3\)"):
        keras.Model(x, torch.ones(2, 3))
    with pytest.raises(TypeError, match=r"`inputs` of a model must be symbolic tensors.*Received: InputLayer"):
        keras.Model(layers.InputLayer((3,)), x)
    with pytest.raises(ValueError, match="at least one tensor in `outputs`"):
        keras.Model(x, [])


# -- cutting


def test_up_to_an_intermediate_value() -> None:
    x = keras.Input((3,))
    first, second = layers.Dense(4, name="first"), layers.Dense(2, name="second")
    hidden = torch.relu(first(x))
    whole, part = keras.Model(x, second(hidden)), keras.Model(x, hidden)
    assert part.get_layer("first") is first
    assert [m.name for m in part.layers][1:] == ["first"]
    value = torch.randn(2, 3)
    torch.testing.assert_close(part(value), torch.relu(first(value)))
    torch.testing.assert_close(second(part(value)), whole(value))
    assert part.weights[0] is whole.weights[0]


def test_from_an_intermediate_value() -> None:
    x = keras.Input((3,))
    hidden = layers.Dense(4, name="first")(x)
    output = layers.Dense(2, name="second")(torch.relu(hidden))
    whole, head = keras.Model(x, output), keras.Model(hidden, output)
    assert [w.path for w in head.weights] == ["second/kernel", "second/bias"]
    assert head.input_shape == (None, 4)
    value = torch.randn(5, 3)
    torch.testing.assert_close(head(keras.Model(x, hidden)(value)), whole(value))


def test_from_layer_outputs_as_keras_users_write_it() -> None:
    model = keras.Sequential([keras.Input((3,)), layers.Dense(4, name="a"), layers.Dense(5, name="b"), layers.Dense(2)])
    taps = keras.Model(model.inputs, [model.get_layer("a").output, model.get_layer("b").output])
    assert [v.shape for v in taps(torch.ones(2, 3))] == [(2, 4), (2, 5)]
    tail = keras.Model(model.get_layer("a").output, model.output)
    torch.testing.assert_close(tail(taps(torch.ones(2, 3))[0]), model(torch.ones(2, 3)))


def test_an_input_that_is_not_used() -> None:
    a, b = keras.Input((3,)), keras.Input((3,))
    model = keras.Model([a, b], a * 2)
    assert model([torch.ones(1, 3), torch.zeros(1, 3)]).tolist() == [[2.0] * 3]


def test_an_input_as_output_and_an_output_twice() -> None:
    x = keras.Input((3,))
    y = x + 1
    found = keras.Model(x, {"in": x, "out": [y, y]})(torch.zeros(1, 3))
    assert found["in"].tolist() == [[0.0] * 3]
    assert found["out"][0] is found["out"][1]


def test_cut_in_the_middle_of_several_outputs() -> None:
    x = keras.Input((6,))
    values, places = torch.topk(x, 2)
    model = keras.Model(values, values * 2)
    assert model(torch.ones(1, 2)).tolist() == [[2.0, 2.0]]
    with pytest.raises(ValueError, match="graph is disconnected"):
        keras.Model(values, places + 1)


# -- order


def branches() -> keras.Model:
    x = keras.Input((4,), name="x")
    left = layers.Dense(3, name="left")(x)
    right = layers.Dense(3, name="right")(layers.Dense(5, name="middle")(x))
    return keras.Model(x, layers.Add(name="sum")([right, left]))


def test_order_is_deterministic_and_as_keras_has_it() -> None:
    expected = ["x", "middle", "right", "left", "sum"]
    for _ in range(3):
        assert [m.name for m in branches().layers] == expected
        assert list(branches().state_dict()) == [f"{n}.{w}" for n in ("middle", "right", "left") for w in ("kernel", "bias")]


def test_every_node_comes_after_those_it_needs() -> None:
    model = branches()
    place = {id(n): i for i, n in enumerate(model._graph.nodes)}
    for node in model._graph.nodes:
        assert all(place[id(r.node)] < place[id(node)] for r in node.refs())


# -- shared and nested


def test_a_shared_layer_appears_once_per_call() -> None:
    dense = layers.Dense(4)
    x = keras.Input((4,))
    model = keras.Model(x, dense(torch.relu(dense(x))))
    calls = [n for n in model._graph.calls() if n.kind == "module"]
    assert [n.target for n in calls] == ["dense", "dense"]
    assert len(model.layers) == 2
    assert model.count_params() == 20
    with pytest.raises(AttributeError, match="was called 2 times"):
        dense.output


def test_a_nested_model_is_one_node() -> None:
    x = keras.Input((3,))
    inner = keras.Model(x, layers.Dense(4)(torch.relu(x)), name="inner")
    y = keras.Input((3,))
    outer = keras.Model(y, inner(y * 2) + inner(y))
    assert names(outer._graph)[1:] in (["mul", "inner", "inner", "add"], ["inner", "mul", "inner", "add"])
    value = torch.randn(2, 3)
    torch.testing.assert_close(outer(value), inner(value * 2) + inner(value))


def test_making_a_model_leaves_the_first_one_as_it_was() -> None:
    x = keras.Input((3,))
    hidden = layers.Dense(4, name="a")(x)
    first = keras.Model(x, layers.Dense(2, name="b")(hidden))
    code, keys = first.code, list(first.state_dict())
    keras.Model(hidden, hidden * 2)
    keras.Model(x, hidden)
    assert (first.code, list(first.state_dict())) == (code, keys)
    assert first(torch.ones(1, 3)).shape == (1, 2)


# -- thousands of nodes


@pytest.fixture(scope="module")
def chain() -> keras.Model:
    x = y = keras.Input((2,))
    shared = layers.Dense(2, name="shared")
    for i in range(3000):
        y = shared(y) if i == 1500 else y + 1
    return keras.Model(x, y)


def test_thousands_of_nodes(chain: keras.Model) -> None:
    assert len(chain._graph.nodes) == 3001
    value = torch.ones(1, 2)
    expected = chain(value)
    for twin in (copy.deepcopy(chain), pickle.loads(pickle.dumps(chain))):
        torch.testing.assert_close(twin(value), expected)
        assert twin.shared is not chain.shared
        assert len(twin._graph.nodes) == 3001
        assert twin.output.shape == (None, 2)
    torch.testing.assert_close(keras.Model(chain.input, chain.output)(value), expected)
    torch.testing.assert_close(keras.models.clone_model(chain).set_weights(chain.get_weights()) or expected, expected)


def test_thousands_of_nodes_in_a_summary_and_a_config(chain: keras.Model) -> None:
    lines: list[str] = []
    chain.summary(print_fn=lines.append)
    assert "add_2998" in lines[0]
    twin = keras.Model.from_config(chain.get_config())
    twin.set_weights(chain.get_weights())
    torch.testing.assert_close(twin(torch.ones(1, 2)), chain(torch.ones(1, 2)))


def test_deep_symbols_die_without_recursion() -> None:
    y = keras.Input((2,))
    for _ in range(20_000):
        y = y * 1
    assert y.shape == (None, 2)
    del y


def test_many_parents() -> None:
    x = keras.Input((2,))
    parts = [x * i for i in range(500)]
    model = keras.Model(x, torch.stack(parts, 1).sum(1))
    assert model(torch.ones(1, 2))[0, 0] == sum(range(500))


def test_a_diamond_of_diamonds_is_walked_once() -> None:
    x = keras.Input((2,))
    y = x
    for _ in range(60):  # 2**60 ways lead back to the input
        y = y + y * 0.5
    start = time.perf_counter()
    model = keras.Model(x, y)
    assert len(model._graph.nodes) == 121
    assert time.perf_counter() - start < 5


# -- data


def test_flat_and_back() -> None:
    graph = branches()._graph
    twin = Graph.from_flat(*graph.flat())
    assert names(twin) == names(graph)
    assert [o.shape for n in twin.nodes for o in n.outputs] == [o.shape for n in graph.nodes for o in n.outputs]
    assert all(isinstance(v, Ref) and v.node in twin.nodes for v in tree.leaves(twin.output_nest))
    assert set(map(id, twin.nodes)).isdisjoint(map(id, graph.nodes))


def test_specs_keep_what_they_know_through_copies() -> None:
    x = keras.Input((4,))
    model = keras.Model(x, torch.cat([torch.ones(1, 4), x], 0))
    twin = pickle.loads(pickle.dumps(model))
    y = twin.output
    assert torch.relu(y).shape == (None, 4)
    assert torch.relu(copy.deepcopy(model)(keras.Input((4,)))).shape == (None, 4)


def test_a_graph_holds_any_values_in_its_nests() -> None:
    class Picky(nn.Module):
        def forward(self, x: Any, *, options: dict[str, Any]) -> Any:
            return x * options["scale"] + options["shift"][0], None, "done"

    x = keras.Input((2,))
    y, nothing, word = Picky()(x, options={"scale": 3, "shift": (x, slice(1, 2))})
    assert (nothing, word) == (None, "done")
    assert keras.Model(x, y)(torch.ones(1, 2)).tolist() == [[4.0, 4.0]]


def test_function_is_a_graph_to_call() -> None:
    a, b = keras.Input((2,)), keras.Input((2,))
    function = keras.Function([a, b], {"sum": a + b, "product": [a * b]})
    found = function([torch.full((1, 2), 3.0), torch.full((1, 2), 4.0)])
    assert found["sum"].tolist() == [[7.0, 7.0]]
    assert found["product"][0].tolist() == [[12.0, 12.0]]
    assert function([keras.Input((2,)), keras.Input((2,))])["sum"].shape == (None, 2)
    with pytest.raises(ValueError, match=r"takes 2 input\(s\). Received: 1"):
        function([torch.ones(1, 2)])
