"""Models with a layer more, less or replaced: what is kept, what is inferred anew, and what the errors say."""

from __future__ import annotations

import copy
import traceback

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from hornbeam.graph.verify import verify
from hornbeam.layers import (
    LSTM,
    Add,
    BatchNormalization,
    Concatenate,
    Conv2D,
    Dense,
    Dropout,
    Embedding,
    GlobalAveragePooling2D,
    Input,
    ReLU,
)
from hornbeam.models import Model, Sequential
from hornbeam.models.editing import insert_after, remove, replace
from hornbeam.models.slicing import between

torch.set_num_threads(1)
IMAGES = torch.randn(2, 8, 8, 3, generator=torch.Generator().manual_seed(0))


def residual():
    x = Input((8, 8, 3), name="image")
    stem = Conv2D(4, 3, padding="same", name="stem")(x)
    h = Conv2D(4, 3, padding="same", name="conv")(stem)
    h = Add(name="add")([torch.relu(h), stem])
    h = GlobalAveragePooling2D(name="pool")(h)
    return Model(x, Dense(2, name="logits")(h), name="residual")


def nested():
    x = Input((3,), name="x")
    inner_in = Input((3,), name="inner_in")
    inner = Model(inner_in, Dense(4, name="b")(Dense(4, name="a")(inner_in)), name="inner")
    return Model(x, Dense(2, name="out")(inner(x)), name="outer")


def chain():
    return Sequential([Input((3,), name="x"), Dense(4, name="a"), Dense(5, name="b"), Dense(2, name="c")], name="chain")


def names(model):
    return [n.name for n in model.graph.nodes]


def test_insert_after_goes_between_a_value_and_all_that_take_it():
    model = residual()
    made = model.insert_after("stem", ReLU(name="act"))
    assert names(made) == ["image", "stem", "act", "conv", "relu", "add", "pool", "logits"]
    stem = torch.relu(model.tap("stem")(IMAGES))
    middle = torch.relu(model.get_layer("conv")(stem)) + stem
    torch.testing.assert_close(made(IMAGES), model.get_layer("logits")(middle.mean((1, 2))))


def test_insert_before_is_seen_by_that_call_alone():
    model = residual()
    made = model.insert_before("conv", ReLU(name="act"))
    stem = model.tap("stem")(IMAGES)
    middle = torch.relu(model.get_layer("conv")(torch.relu(stem))) + stem
    torch.testing.assert_close(made(IMAGES), model.get_layer("logits")(middle.mean((1, 2))))


def test_weights_names_and_keys_are_kept():
    model = residual()
    made = model.insert_after("conv", BatchNormalization(name="norm"))
    for name in ("stem", "conv", "logits"):
        assert made.get_layer(name) is model.get_layer(name)
    assert made.name == "residual"
    assert set(model.state_dict()) < set(made.state_dict())
    assert list(made._modules) == ["image", "stem", "conv", "norm", "add", "pool", "logits"]


def test_automatic_keys_stay_with_their_layers():
    model = Sequential([Input((3,)), Dense(3), Dense(3), Dense(3)])
    made = model.remove(model.layers[0].name)
    assert list(made.state_dict()) == ["dense_1.kernel", "dense_1.bias", "dense_2.kernel", "dense_2.bias"]
    made.load_state_dict(model.state_dict(), strict=False)


def test_the_original_is_untouched():
    model = residual().train()
    model.get_layer("conv").eval()
    before, expected = names(model), copy.deepcopy(model).eval()(IMAGES)
    state, modes = list(model.state_dict()), [m.training for m in model.modules()]
    output = model.get_layer("pool").output
    model.insert_after("stem", nn.Dropout(0.5))
    model.remove("conv")
    model.replace("logits", Dense(7))
    assert names(model) == before
    assert list(model.state_dict()) == state
    assert [m.training for m in model.modules()] == modes
    torch.testing.assert_close(model.eval()(IMAGES), expected)
    assert torch.equal(Model(model.inputs, output)(IMAGES), model.tap("pool")(IMAGES))


def test_a_foreign_module_keeps_its_mode():
    x = Input((3,))
    norm = nn.BatchNorm1d(3)
    model = Model(x, Dense(2, name="out")(norm(x))).train()
    assert norm.training
    model.insert_before("out", ReLU())
    assert norm.training


def test_replace_infers_shapes_anew():
    made = residual().replace("logits", Dense(7, name="classes"))
    assert made.output_shape == (None, 7)
    assert made(IMAGES).shape == (2, 7)


def test_replace_by_a_function_and_a_torch_module():
    model = residual()
    assert names(model.replace("relu", torch.tanh))[3] == "tanh"
    made = model.replace("logits", nn.Linear(4, 6))
    assert made.output_shape == (None, 6)


def test_an_input_is_replaced_by_one_of_another_shape():
    made = residual().replace("image", Input((16, 12, 3), name="large"))
    assert made.input_shape == (None, 16, 12, 3)
    assert made.get_layer("pool") is not None
    assert made(torch.zeros(1, 16, 12, 3)).shape == (1, 2)
    with pytest.raises(ValueError, match=r"an input is replaced by an Input, a call by a layer. 'image' is an input"):
        residual().replace("image", Dense(2))
    with pytest.raises(ValueError, match="'conv' is a layer"):
        residual().replace("conv", Input((3,)))


def test_insert_after_an_input():
    model = residual()
    made = model.insert_after("image", ReLU(name="act"))
    torch.testing.assert_close(made(IMAGES), model(torch.relu(IMAGES)))
    assert made.input_shape == model.input_shape


def test_remove_a_layer_and_a_function():
    model = residual()
    made = model.remove("relu").remove("conv")
    stem = model.tap("stem")(IMAGES)
    torch.testing.assert_close(made(IMAGES), model.get_layer("logits")((stem + stem).mean((1, 2))))


def test_a_layer_that_does_not_fit_any_more_is_named_with_both_shapes():
    model = residual()
    with pytest.raises(ValueError, match=r"replace\('conv'\): 'add' of model 'residual' takes an input of shape") as caught:
        model.replace("conv", Conv2D(5, 3, padding="same", name="wide"))
    before, after = str(caught.value).split(" and would be given one of shape ")
    assert before.endswith("(None, 8, 8, 4), (None, 8, 8, 4),")
    assert after.startswith("(None, 8, 8, 5), (None, 8, 8, 4).")
    with pytest.raises(ValueError, match=r"insert_after\('add'\): 'logits'.* shape \(None, 4\).*given one of shape \(None, 3\)"):
        model.insert_after("add", Conv2D(3, 1, name="narrow"))


def test_a_foreign_layer_that_does_not_fit_any_more():
    x = Input((3,))
    model = Model(x, nn.Linear(4, 2)(Dense(4, name="hidden")(x)))
    with pytest.raises(ValueError, match=r"'linear' of model .* shape \(None, 4\), and would be given one of shape \(None, 6\)"):
        model.replace("hidden", Dense(6))


def test_inside_a_nested_model():
    model = nested()
    made = model.insert_after("inner/a", ReLU(name="act"))
    x = torch.randn(5, 3)
    inner = model.get_layer("inner")
    expected = model.get_layer("out")(inner.get_layer("b")(torch.relu(inner.get_layer("a")(x))))
    torch.testing.assert_close(made(x), expected)
    assert names(made) == names(model)
    assert names(made.get_layer("inner")) == ["inner_in", "a", "act", "b"]
    assert names(inner) == ["inner_in", "a", "b"]
    assert list(made.state_dict()) == list(model.state_dict())
    with pytest.raises(ValueError, match=r"replace\('inner/b'\): 'out' of model 'outer' takes.*\(None, 4\).*\(None, 9\)"):
        model.replace("inner/b", Dense(9))
    with pytest.raises(ValueError, match=r"replace\('inner/a'\): 'b' of model 'inner' takes"):
        model.replace("inner/a", Dense(9))


def test_one_call_of_a_shared_nested_model():
    inner_in = Input((3,), name="inner_in")
    inner = Model(inner_in, Dense(3, name="a")(inner_in), name="inner")
    x = Input((3,))
    model = Model(x, inner(inner(x)))
    both, second = model.insert_after("inner/a", torch.relu), model.insert_after("inner:1/a", torch.relu)
    data = torch.randn(4, 3)
    a = inner.get_layer("a")
    torch.testing.assert_close(both(data), torch.relu(a(torch.relu(a(data)))))
    torch.testing.assert_close(second(data), torch.relu(a(a(data))))
    assert len({layer.name for layer in second.layers}) == len(second.layers)


def test_shared_layers_all_calls_or_one():
    x = Input((3,))
    shared = Dense(3, name="shared")
    model = Model(x, shared(shared(x)))
    data = torch.randn(4, 3)
    torch.testing.assert_close(model.insert_after("shared", torch.relu)(data), torch.relu(shared(torch.relu(shared(data)))))
    torch.testing.assert_close(model.insert_after("shared:0", torch.relu)(data), shared(torch.relu(shared(data))))
    torch.testing.assert_close(model.remove("shared:1")(data), shared(data))
    other = Dense(3, name="other")
    made = model.replace("shared", other)
    torch.testing.assert_close(made(data), other(other(data)))


def test_several_inputs_and_outputs():
    a, b = Input((3,), name="a"), Input((4,), name="b")
    both = Concatenate(name="both")([Dense(2, name="left")(a), b])
    model = Model({"a": a, "b": b}, {"sum": Dense(1, name="sum")(both), "raw": both})
    made = model.insert_before("sum", ReLU())
    data = {"a": torch.randn(2, 3), "b": torch.randn(2, 4)}
    assert list(made(data)) == ["sum", "raw"]
    torch.testing.assert_close(made(data)["raw"], model(data)["raw"])
    with pytest.raises(ValueError, match="insert_before: 'both' takes 2 values, from 'left', 'b'"):
        model.insert_before("both", ReLU())
    with pytest.raises(ValueError, match="remove: 'both' takes 2 values"):
        model.remove("both")
    with pytest.raises(ValueError, match=r"remove: 'a' is an input of the model. `insert_after` and `replace` take one"):
        model.remove("a")


def test_layers_of_several_outputs():
    x = Input((6, 3))
    out, h, c = LSTM(4, return_state=True, name="lstm")(x)
    model = Model(x, out + h + c)
    with pytest.raises(ValueError, match="insert_after: 'lstm' gives 3 values"):
        model.insert_after("lstm", ReLU())
    with pytest.raises(ValueError, match="remove: 'lstm' gives 3 values, and takes one"):
        model.remove("lstm")
    with pytest.raises(ValueError, match=r"'lstm' gives 3 value.s., but 'other' gives 1"):
        model.replace("lstm", LSTM(4, name="other"))
    made = model.replace("lstm", LSTM(4, return_state=True, name="other"))
    assert made(torch.ones(2, 6, 3)).shape == (2, 4)


def test_masks_go_through_edits():
    ids = torch.tensor([[1, 2, 0, 0], [3, 0, 0, 0]])
    x = Input((4,), dtype="int64")
    model = Model(x, LSTM(3, name="lstm")(Embedding(5, 4, mask_zero=True, name="emb")(x)))
    made = model.insert_after("emb", Dropout(0.5, name="drop"))
    torch.testing.assert_close(made(ids), model(ids))


def test_captured_parameters_stay_the_same():
    weight = nn.Parameter(torch.ones(3))
    x = Input((3,))
    model = Model(x, Dense(2, name="out")(x * weight))
    made = model.insert_before("out", ReLU())
    assert any(p is weight for p in made.parameters())


def test_a_sequential_stays_one():
    model = chain()
    made = model.insert_after("a", Dropout(0.5, name="drop"))
    assert type(made) is Sequential
    assert [m.name for m in made.layers] == ["a", "drop", "b", "c"]
    assert made.name == "chain"
    assert made.layers[0] is model.layers[0]
    assert made.get_layer("drop").output.shape == (None, 4)
    assert [m.name for m in model.remove("c").layers] == ["a", "b"]
    x = torch.randn(2, 3)
    made.add(Dense(1, name="more"))
    assert made(x).shape == (2, 1)
    assert model(x).shape == (2, 2)
    assert type(model.insert_after("a", torch.relu)) is not Sequential


def test_slices_by_names_have_both_ends():
    model = residual()
    made = model["conv":"relu"]
    assert names(made) == ["conv_input", "conv", "relu"]
    stem = model.tap("stem")(IMAGES)
    assert torch.equal(made(stem), model.tap("relu")(IMAGES))
    assert torch.equal(model["conv":"add"](stem), model.tap("add")(IMAGES))
    assert names(model[:"conv"]) == ["image", "stem", "conv"]
    assert torch.equal(model["pool":](model.tap("add")(IMAGES)), model(IMAGES))
    assert torch.equal(model[:](IMAGES), model(IMAGES))
    assert model["image":"stem"].input_shape == (None, 8, 8, 3)
    assert model["conv"] is model.get_layer("conv")


def test_slices_of_a_sequential():
    model = chain()
    made = model["b":"c"]
    assert type(made) is Sequential
    assert made.input_shape == (None, 4)
    assert [m.name for m in model[:"b"].layers] == ["a", "b"]
    assert [m.name for m in model[1:].layers] == ["b", "c"]
    assert [m.name for m in Sequential([Dense(2, name="p"), Dense(3, name="q")])["q":].layers] == ["q"]
    with pytest.raises(ValueError, match="'a' comes before 'c'"):
        model["c":"a"]
    assert model.layers[0].output.shape == (None, 4)


def test_a_slice_of_a_nested_model():
    model = nested()
    made = model["inner/a":"inner/b"]
    x = torch.randn(2, 3)
    assert torch.equal(made(x), model.get_layer("inner")(x))
    with pytest.raises(ValueError, match="A slice lies inside one model"):
        model["inner/a":"out"]


def test_slices_that_are_none():
    model = residual()
    with pytest.raises(ValueError, match=r"'add' also takes what 'stem' gives, of shape \(None, 8, 8, 4\), which comes from"):
        model["relu":"pool"]
    with pytest.raises(ValueError, match="'stem' does not depend on 'pool'"):
        model["pool":"stem"]
    with pytest.raises(TypeError, match=r"is indexed by names: model\['a'\], model\['a':'b'\]. Received: 0"):
        model[0]
    with pytest.raises(TypeError, match="indexed by names"):
        model["a":"b":2]


def test_a_slice_with_several_inputs():
    a, b = Input((3,), name="a"), Input((3,), name="b")
    model = Model([a, b], Dense(2, name="out")(Add(name="add")([Dense(4, name="p")(a), Dense(4, name="q")(b)])))
    made = model["add":]
    assert made.input_names == ["add_input", "add_input_1"]
    assert made([torch.ones(1, 4), torch.ones(1, 4)]).shape == (1, 2)


def test_models_that_no_graph_runs():
    class Own(Model):
        def call(self, x):
            return x

    with pytest.raises(TypeError, match=r"insert_after needs a Sequential or functional model. Own runs its own Python"):
        insert_after(Own(), "a", ReLU())
    net = nn.Sequential(nn.Linear(3, 3))
    x = Input((3,))
    model = Model(x, net(x))
    with pytest.raises(TypeError, match=r"inside 'sequential' needs a .* 'sequential' \(Sequential\) runs its own Python"):
        model.remove("sequential/0")
    with pytest.raises(TypeError, match="needs a Sequential or functional model"):
        between(net, "0", "1")


def test_what_is_no_layer():
    with pytest.raises(TypeError, match=r"insert_after takes a layer.*Make an instance: Dense\(...\)"):
        chain().insert_after("a", Dense)
    with pytest.raises(TypeError, match=r"replace takes a layer, a torch module or a function. Received: 3"):
        replace(chain(), "a", 3)
    with pytest.raises(ValueError, match=r"has no call 'bb'. Did you mean 'b'"):
        chain().remove("bb")
    with pytest.raises(TypeError, match="remove takes the name of a call"):
        remove(chain(), 2)


def test_an_edited_model_is_a_model_like_any_other():
    model = residual().insert_after("stem", ReLU(name="act")).remove("relu")
    verify(model.graph)
    twin = Model.from_config(model.get_config())
    twin.set_weights(model.get_weights())
    torch.testing.assert_close(twin(IMAGES), model(IMAGES))
    torch.testing.assert_close(copy.deepcopy(model)(IMAGES), model(IMAGES))
    model.compile("sgd", "mse")
    model.fit(IMAGES, torch.zeros(2, 2), verbose=0)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from(["dense", "relu", "tanh", "skip"]), min_size=1, max_size=5), st.data())
def test_remove_undoes_insert(kinds, data):
    x = Input((4,), name="x")
    h = x
    for i, kind in enumerate(kinds):
        layer = {"dense": Dense(4, name=f"d{i}"), "relu": ReLU(name=f"d{i}"), "skip": Add(name=f"d{i}"), "tanh": torch.tanh}[kind]
        h = layer([h, x]) if kind == "skip" else layer(h)
    model = Model(x, Dense(2, name="end")(h))
    place = data.draw(st.sampled_from([n for n in names(model) if n != "end"]))
    layer = data.draw(st.sampled_from([ReLU(name="new"), Dense(4, name="new"), Dropout(0.5, name="new")]))
    back = model.insert_after(place, layer).remove("new")
    assert names(back) == names(model)
    assert list(back.state_dict()) == list(model.state_dict())
    assert all(a is b for a, b in zip(back.parameters(), model.parameters(), strict=True))
    assert [[o.shape for o in n.outputs] for n in back.graph.nodes] == [[o.shape for o in n.outputs] for n in model.graph.nodes]
    source = torch.randn(3, 4)
    torch.testing.assert_close(back(source), model(source), rtol=0, atol=0)


def three_layers():
    return Sequential([Input((3,)), Dense(8, name="a"), Dense(5, name="b"), Dense(2, name="c")], name="three")


def test_a_layer_of_another_size_is_put_in_the_middle_by_rebuilding_what_follows():
    model = three_layers()
    with pytest.raises(ValueError, match=r"takes an input of shape \(None, 8\), and would be given .*Say rebuild=True"):
        model.replace("a", Dense(9, name="wide"))
    changed = model.replace("a", Dense(9, name="wide"), rebuild=True)
    assert changed(torch.ones(2, 3)).shape == (2, 2)
    assert list(changed.state_dict()) == ["wide.kernel", "wide.bias", "b.kernel", "b.bias", "c.kernel", "c.bias"]
    assert changed.get_layer("b").kernel.shape == (9, 5)
    assert changed.get_layer("c") is model.get_layer("c")
    assert model.get_layer("b").kernel.shape == (8, 5)


def test_a_shared_layer_is_rebuilt_once():
    x, shared = Input((4,)), Dense(3, name="shared")
    h = Dense(5, name="h")(x)
    model = Model(x, shared(h) + shared(torch.relu(h)))
    changed = model.replace("h", Dense(7, name="h"), rebuild=True)
    assert changed(torch.ones(2, 4)).shape == (2, 3)
    assert [layer.name for layer in changed.layers].count("shared") == 1
    assert changed.get_layer("shared").kernel.shape == (7, 3)


def test_an_edited_model_is_compiled_as_the_other_was():
    model = three_layers()
    model.compile("adam", "mse", metrics=["mae"])
    changed = model.replace("c", Dense(1, name="c"))
    assert changed.compiled
    assert changed.optimizer is not model.optimizer
    assert sorted(changed.fit(torch.ones(4, 3), torch.ones(4, 1), verbose=0).history) == ["loss", "mae"]
    model.compile(lambda weights: torch.optim.SGD(weights, lr=0.1), "mse")
    with pytest.warns(UserWarning, match="compiled anew"):
        assert not model.insert_after("a", Dropout(0.5)).compiled
    assert not three_layers().insert_after("a", Dropout(0.5)).compiled


def test_errors_of_edits_show_the_users_lines_only():
    for edit in (
        lambda m: m.replace("a", Dense(9)),
        lambda m: m.insert_after("a", Dense(9)),
        lambda m: m.remove("a"),
        lambda m: m.tap("nothing"),
        lambda m: m["c":"a"],
    ):
        with pytest.raises(ValueError, match="a") as caught:
            edit(three_layers())
        frames = traceback.extract_tb(caught.value.__traceback__)
        assert {f.filename for f in frames} == {__file__}
        assert caught.value.__cause__ is None
