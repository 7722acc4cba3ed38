from __future__ import annotations

import re
from collections import Counter
from html.parser import HTMLParser
from typing import Any

import pytest
import rich.console
import torch
from torch import nn

import hornbeam as keras
from hornbeam import layers
from hornbeam.core.card import config_of, value_text
from hornbeam.inspect.table import weights_of


class Tags(HTMLParser):
    """Counts the elements of a text, and keeps what is between them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.counts[tag] += 1

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def small(name: str = "digits") -> keras.Model:
    x = inputs = keras.Input((4,), name="in")
    return keras.Model(inputs, layers.Dense(2, name=name)(torch.relu(layers.Dense(3, name="hidden")(x))), name="small")


def printed(thing: Any, width: int = 100) -> str:
    console = rich.console.Console(width=width, record=True, file=open("/dev/null", "w"), force_terminal=True)  # noqa: SIM115
    console.print(thing)
    console.file.close()
    return console.export_text()


def test_a_model_is_a_table_with_its_diagram_folded_away() -> None:
    tags = Tags(small()._repr_html_())
    assert tags.counts["tr"] == 5
    assert tags.counts["details"] == tags.counts["svg"] == 1
    for text in ("small", "Functional · 23 weights (92 B)", "hidden", "Dense", "(None, 3)", "15", "relu", "8"):
        assert text in tags.texts


def test_a_long_model_is_cut_in_the_middle() -> None:
    model = keras.Sequential([keras.Input((4,)), *(layers.Dense(4) for _ in range(200))])
    tags = Tags(model._repr_html_())
    assert tags.counts["tr"] == 42
    assert "… 160 more …" in tags.texts
    assert "dense_199" in tags.texts


def test_terminals_get_the_same_rows() -> None:
    text = printed(small())
    assert text.splitlines()[0].rstrip() == "small  Functional · 23 weights (92 B)"
    assert [line.split()[0] for line in text.splitlines()[2:]] == ["in", "hidden", "relu", "digits"]


def test_weights_that_do_not_learn_are_told() -> None:
    model = small()
    model.layers[1].trainable = False
    assert "15 of them not trainable" in model._repr_html_()


def test_a_layer_tells_what_is_not_usual_about_it() -> None:
    layer = layers.Conv2D(8, 3, activation="relu", kernel_regularizer="l2", kernel_initializer="he_normal", name="c")
    told = "filters=8, kernel_size=(3, 3), activation='relu', kernel_initializer=HeNormal(), kernel_regularizer=L2(l2=0.01)"
    assert told in Tags(layer._repr_html_()).texts
    assert "not built yet" in layer._repr_html_()
    layer(torch.zeros(1, 5, 5, 2))
    assert "152: kernel (3, 3, 2, 8), bias (8,)" in layer._repr_html_()
    assert "kernel (3, 3, 2, 8)" in printed(layer, 200)


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (layers.Dense(4), ["units"]),
        (layers.Dense(4, use_bias=False), ["units", "use_bias"]),
        (layers.Dense(4, kernel_initializer=keras.initializers.GlorotUniform(seed=1)), ["units", "kernel_initializer"]),
        (layers.Dense(4, dtype="float64"), ["units", "dtype"]),
        (layers.Conv1D(4, 3, strides=2), ["filters", "kernel_size", "strides"]),
        (layers.LSTM(4), ["units"]),
        (layers.LSTM(4, return_sequences=True), ["units", "return_sequences"]),
        (layers.LSTM(4, recurrent_initializer="zeros"), ["units", "recurrent_initializer"]),
        (layers.BatchNormalization(), []),
        (layers.BatchNormalization(momentum=0.9), ["momentum"]),
        (layers.Dropout(0.5), ["rate"]),
        (layers.Flatten(), []),
        (layers.Activation("tanh"), ["activation"]),
        (layers.Dense(4, trainable=False), ["units", "trainable"]),
    ],
)  # fmt: skip
def test_what_is_not_usual(layer: Any, expected: list[str]) -> None:
    told, rest = config_of(layer)
    assert list(told) == expected
    assert {*told, *rest} == set(layer.get_config()) - {"name"}


def test_every_layer_made_with_what_it_needs_tells_only_that() -> None:
    for layer in (layers.GRU(3), layers.MaxPooling2D(), layers.Embedding(5, 3), layers.LayerNormalization(),
                  layers.Conv3D(2, 1), layers.SeparableConv2D(2, 3), layers.Bidirectional(layers.GRU(3))):  # fmt: skip
        assert len(config_of(layer)[0]) <= 2, config_of(layer)[0]


def test_values_are_written_as_people_write_them() -> None:
    made = {"class_name": "Wrap", "config": {"inner": {"class_name": "L1", "config": {"l1": 0.5}}, "seed": None}}
    assert value_text(made) == "Wrap(inner=L1(l1=0.5))"
    assert value_text({"a": [1, "b"]}) == "{'a': [1, 'b']}"


def test_unbuilt_and_odd_models_show_themselves() -> None:
    class Sub(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(3, 3)

        def call(self, x: torch.Tensor) -> torch.Tensor:
            return self.inner(x)

    for model in (keras.Sequential(), keras.Sequential([layers.Dense(3)]), Sub()):
        assert Tags(model._repr_html_()).counts["table"] == 1
        assert printed(model)


def test_nothing_is_raised() -> None:
    class Broken(layers.Layer):
        def get_config(self) -> Any:
            raise RuntimeError("no config")

        @property
        def name(self) -> str:
            raise RuntimeError("<no name>")

    layer = Broken.__new__(Broken)
    assert "Broken" in layer._repr_html_()
    assert "<no name>" not in layer._repr_html_()
    assert "Broken" in printed(layer)


def test_names_are_only_text() -> None:
    model = small()
    for name in ("</td><script>x</script>", "a\x1b[31m\u202e", "x" * 100_000, "[bold]b[/bold]"):
        model.layers[1].__dict__["name"] = name
        shown = model._repr_html_()
        assert Tags(shown).counts == Tags(small()._repr_html_()).counts
        assert "\x1b" not in shown
        assert "\u202e" not in shown
        assert len(shown) < 20_000
        assert "[31m\u202e" not in printed(model)
        assert Tags(model.layers[1]._repr_html_()).counts["script"] == 0
    assert "[bold]b[/bold]" in printed(model)


def test_looking_makes_no_weights_and_changes_nothing() -> None:
    model = small()
    before, mode = torch.get_rng_state(), model.training
    model._repr_html_(), printed(model), model.layers[1]._repr_html_(), printed(model.layers[1])
    assert all(w._lazy for w in weights_of(model))
    assert torch.equal(before, torch.get_rng_state())
    assert model.training is mode


def test_an_absurd_share_is_told_in_the_notebook_too() -> None:
    model = keras.Sequential([keras.Input((299, 299, 3)), layers.Conv2D(64, 3), layers.Flatten(), layers.Dense(64, name="wide")])
    assert any(text.startswith("'wide' holds 99.9 % of the ") for text in Tags(model._repr_html_()).texts)
    assert "'wide' holds" in printed(model, 300)
    assert "holds" not in small()._repr_html_()


def test_each_size_of_a_shared_layer_is_told() -> None:
    dense = layers.Dense(2, name="shared")
    x, y = keras.Input((3, 4)), keras.Input((5, 4))
    model = keras.Model([x, y], [dense(x), dense(y), dense(x)])
    assert "(None, 3, 2), (None, 5, 2)" in Tags(model._repr_html_()).texts
    shown: list[str] = []
    model.summary(print_fn=shown.append)
    assert "│ (None, 3, 2)," in shown[0]
    assert "│ (None, 5, 2) " in shown[0]


def test_tables_of_a_notebook_have_one_size_of_type() -> None:
    cost = keras.cost(small())
    sizes = [re.findall(r"font-size:(\d+)px", made._repr_html_().split("<svg")[0]) for made in (cost, small(), small().layers[1])]
    assert {size for found in sizes for size in found} == {"13"}
    assert cost._repr_html_().startswith('<div style="font-size:13px"')
