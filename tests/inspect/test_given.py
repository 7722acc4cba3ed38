"""What people give as `inputs` to what looks at a module."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import hornbeam as keras
from hornbeam import layers
from hornbeam.inspect.given import arguments_of, graph_for
from hornbeam.inspect.table import rows_of


class Repeat(nn.Module):
    """A module with arguments that are no tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor, steps: int = 1, flip: bool = False, scale: Any = 1.0, mode: str | None = None,
                dtype: torch.dtype | None = None) -> torch.Tensor:  # fmt: skip
        for _ in range(steps):
            x = self.fc(x)
        x = x.flip(-1) if flip else x
        x = torch.tanh(x) if mode == "tanh" else x
        return (x if dtype is None else x.to(dtype)) * scale


def names(module: nn.Module, inputs: Any) -> list[str]:
    rows, _ = rows_of(module, graph=graph_for(module, inputs))
    return [row.name for row in rows for _ in row.nodes]


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        ([(None, 4), 3, True], ["fc", "fc", "fc", "flip", "mul"]),
        ({"x": (None, 4), "steps": 2, "scale": 2.0}, ["fc", "fc", "mul"]),
        ({"x": (None, 4), "mode": "tanh", "dtype": None}, ["fc", "tanh", "mul"]),
        ({"x": torch.rand(8, 4), "dtype": torch.float64}, ["fc", "to", "mul"]),
        ([(None, 4)], ["fc", "mul"]),
    ],
)
def test_arguments_that_are_no_tensors_are_handed_on(inputs: Any, expected: list[str]) -> None:
    assert names(Repeat(), inputs) == expected
    assert keras.cost(Repeat(), inputs).macs_forward == 16 * expected.count("fc")


@pytest.mark.parametrize("scale", [torch.rand(1), torch.rand(()), torch.rand(4), torch.rand(1, 4)])
@pytest.mark.parametrize("batch", [1, 8])
def test_only_data_with_the_first_inputs_samples_has_a_batch(scale: torch.Tensor, batch: int) -> None:
    graph = graph_for(Repeat(), [torch.rand(batch, 4), 1, False, scale])
    x, other = (node.outputs[0].shape for node in graph.nodes if node.kind == "input")
    assert x == (None, 4)
    assert other == ((None, 4) if tuple(scale.shape) == (batch, 4) else tuple(scale.shape))
    assert graph.outputs[0].spec.shape == (None, 4)


def test_data_beside_a_shape_with_a_known_batch() -> None:
    args, _ = arguments_of(Repeat(), [(8, 4), 1, False, torch.rand(8, 4)])
    assert args[0].shape == (8, 4)
    assert args[3].shape == (None, 4)


def test_what_is_no_input_at_all_is_refused() -> None:
    with pytest.raises(ValueError, match=r"explore: `inputs` are shapes such as .* Received: 5"):
        graph_for(Repeat(), 5, "explore")


# -- dtypes of shapes


class Words(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table, self.place, self.fc = nn.Embedding(50, 8), nn.Parameter(torch.zeros(16, 8)), nn.Linear(3, 8)

    def forward(self, ids: torch.Tensor, more: torch.Tensor | None = None) -> torch.Tensor:
        y = self.table(ids) + self.place[: ids.shape[1]]
        return y.mean(1) if more is None else y.mean(1) + self.fc(more)


class OneHot(nn.Module):
    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return nn.functional.one_hot(ids, 7).float()


def test_shapes_of_ids_are_of_integers() -> None:
    for module, inputs in ((Words(), (None, 16)), (OneHot(), (None, 3)), (nn.Embedding(5, 2), (None,))):
        graph = graph_for(module, inputs)
        assert graph.inputs[0].spec.dtype == "int64"
        assert graph.inputs[0].spec == arguments_of(module, inputs)[0][0]
        keras.cost(module, inputs)


def test_only_the_input_that_is_looked_up_is_of_integers() -> None:
    graph = graph_for(Words(), [(None, 16), (None, 3)])
    assert [r.spec.dtype for r in graph.inputs] == ["int64", "float32"]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_shapes_take_the_dtype_of_the_weights(dtype: torch.dtype) -> None:
    graph = graph_for(nn.Sequential(nn.Linear(4, 2)).to(dtype), (None, 4))
    assert [r.spec.dtype for r in (*graph.inputs, *graph.outputs)] == [str(dtype).removeprefix("torch.")] * 2


def test_hornbeam_layers_have_their_own_dtype() -> None:
    assert graph_for(layers.Dense(2), (None, 4)).inputs[0].spec.dtype == "float32"


# -- errors


def test_a_size_that_does_not_fit_names_the_layer_and_both_shapes() -> None:
    module = nn.Sequential(nn.Linear(4, 5), nn.Sequential(nn.ReLU(), nn.Linear(6, 2)))
    with pytest.raises(RuntimeError, match=r"Layer '1/1' \(Linear\) cannot take shape \(None, 5\): .*It takes 6 features"):
        keras.summary(module, (None, 4))


def test_ids_that_cannot_be_guessed_are_asked_for() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(5, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.table(torch.relu(x) / 2)

    with pytest.raises(RuntimeError, match=r"Layer 'table' \(Embedding\).*hornbeam\.Input\(\(16,\), dtype='int64'\) in place"):
        keras.summary(Net(), (None, 16))


# -- Python that looks at values


class Experts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gate, self.experts = nn.Linear(4, 3), nn.ModuleList(nn.Linear(4, 4) for _ in range(3))
        with torch.no_grad():
            self.gate.weight.copy_(torch.eye(4)[:3])
            self.gate.bias.zero_()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        chosen, y = self.gate(x).argmax(-1), torch.zeros_like(x)
        for number, expert in enumerate(self.experts):
            mine = chosen == number
            if mine.any():
                y = y + expert(x) * mine[:, None]
        return y


class Around(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = Experts()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(torch.relu(x))


def test_without_data_random_values_choose_the_way() -> None:
    module, shown = Experts(), []  # type: ignore[var-annotated]
    state = torch.get_rng_state()
    keras.summary(module, (None, 4), print_fn=shown.append)
    assert torch.equal(state, torch.get_rng_state())
    assert "not called" not in shown[0]
    assert "experts.2 (Linear)" in shown[0]
    assert "The model's Python looks at values" in shown[0]
    rows, _ = rows_of(Around(), True, graph_for(Around(), (None, 4)))
    assert [r.name for r in rows if r.module is not None] == ["inner", "gate", "experts.0", "experts.1", "experts.2"]


def test_data_chooses_the_way() -> None:
    x = torch.eye(4)[[0, 2, 2]]
    rows, graph = rows_of(Experts(), graph=graph_for(Experts(), x))
    called = {r.name: r.shape for r in rows if r.module is not None}
    assert called == {"gate": (None, 3), "experts.0": (None, 4), "experts.2": (None, 4), "experts.1": None}
    assert graph is not None
    assert graph.outputs[0].spec.shape == (None, 4)
