"""What can be done with a symbolic tensor, and that the model made from it agrees with the same code on real tensors."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import hornbeam as keras
from hornbeam import layers
from hornbeam.graph import symbolic, tree
from hornbeam.graph.graph import Graph
from hornbeam.graph.symbolic import SymbolicTensor
from model_samples import OPERATORS, SLICES


def real(shape: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def agrees(function: Callable[..., Any], *shapes: tuple[int, ...]) -> keras.Model:
    """Checks value, dtype and inferred shape of a function's model, on two batch sizes, and that inputs stay as they are."""
    inputs = [keras.Input(s) for s in shapes]
    outputs = function(*inputs)
    model = keras.Model(inputs, outputs)
    for batch in (1, 3):
        values = [real((batch, *s), seed=i) for i, s in enumerate(shapes)]
        expected = tree.leaves(function(*[v.clone() for v in values]))
        untouched = [v.clone() for v in values]
        got = tree.leaves(model(values))
        assert len(got) == len(expected)
        for mine, wanted, symbol in zip(got, expected, tree.leaves(outputs), strict=True):
            torch.testing.assert_close(mine, wanted, rtol=1e-5, atol=1e-6, equal_nan=True)
            assert len(symbol.shape) == wanted.dim()
            assert all(s is None or s == d for s, d in zip(symbol.shape, wanted.shape, strict=True))
            assert f"torch.{symbol.dtype}" == str(wanted.dtype)
        for value, before in zip(values, untouched, strict=True):
            torch.testing.assert_close(value, before)
    return model


@pytest.mark.parametrize("function", OPERATORS.values(), ids=OPERATORS)
def test_operators(function: Callable[[Any], Any]) -> None:
    agrees(function, (6,))


@pytest.mark.parametrize("function", SLICES.values(), ids=SLICES)
def test_slices(function: Callable[[Any], Any]) -> None:
    agrees(function, (5, 3))


FUNCTIONS: dict[str, Callable[[Any, Any], Any]] = {
    "cat": lambda a, b: torch.cat([a, b], -1),
    "stack": lambda a, b: torch.stack((a, b), dim=1),
    "where": lambda a, b: torch.where(a > 0, a, b),
    "einsum": lambda a, b: torch.einsum("bij,bkj->bik", a, b),
    "attention": lambda a, b: F.scaled_dot_product_attention(a, b, b),
    "mixed": lambda a, b: torch.cat([a, torch.ones(4, 6).expand_as(b)], 1),
    "out of a tuple": lambda a, b: torch.broadcast_tensors(a, b)[1],
    "dict": lambda a, b: {"sum": a + b, "rest": [a, (b * 2,)]},
    "fft": lambda a, b: torch.fft.rfft(a) * torch.fft.rfft(b),
    "norm": lambda a, b: torch.linalg.norm(a - b, dim=-1),
    "gradient free": lambda a, b: a.detach() + b,
    "attributes": lambda a, b: a.mT @ b,
    "type": lambda a, b: a.double() + b.to(torch.float64),
}


@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)
def test_functions_of_two(function: Callable[[Any, Any], Any]) -> None:
    agrees(function, (4, 6), (4, 6))


def test_several_outputs() -> None:
    def pick(x: Any) -> Any:
        values, places = torch.topk(x, 2)
        low, high = x.aminmax(dim=-1)
        first, *rest = x.split(2, dim=1)
        return values, places, low, high, first, rest, torch.sort(x).values, x.max(1).indices

    agrees(pick, (6,))


def test_iteration_and_unpacking_of_a_known_axis() -> None:
    agrees(lambda x: sum(x.unbind(1)), (3, 2))
    fixed = SymbolicTensor((3, 2))
    assert len(fixed) == 3
    assert [r.shape for r in fixed] == [(2,)] * 3


# -- in place


def change_rows(x: Any) -> Any:
    y = x * 2
    y[:, 0] = 5
    y[:, 1] += 1
    return y


def change_a_view(x: Any) -> Any:
    y = x.clone()
    part = y[:, 1:3]
    part.mul_(10)
    part[:, 0] = -1
    return y, part


def change_a_view_of_a_view(x: Any) -> Any:
    y = x * 1
    y[:, 1:][:, 0].zero_()
    return y


def clamp(x: Any) -> Any:
    y = x + 1
    z = y * 3
    y.clamp_(0, 1)
    return y, z, y * 2


def augmented(x: Any) -> Any:
    y = x * 1
    other = y
    y += 2
    y *= 3
    return y, other


def in_place_flag(x: Any) -> Any:
    y = x - 0.5
    F.relu(y, inplace=True)
    return y


def masked(x: Any) -> Any:
    y = x.clone()
    y[y < 0] = 0
    y.masked_fill_(y > 1, 1.0)
    return y.add_(1).neg_()


IN_PLACE = [change_rows, change_a_view, change_a_view_of_a_view, clamp, augmented, in_place_flag, masked]


@pytest.mark.parametrize("function", IN_PLACE, ids=lambda f: f.__name__)
def test_in_place_calls_are_not_lost(function: Callable[[Any], Any]) -> None:
    agrees(function, (4,))


def test_a_changed_input_is_still_an_input() -> None:
    x = keras.Input((4,))
    x[:, 0] = 0
    model = keras.Model(x, x + 1)
    value = torch.ones(2, 4)
    assert model(value)[0].tolist() == [1, 2, 2, 2]
    assert value.eq(1).all()


def test_in_place_on_a_reshaped_view_is_refused() -> None:
    x = keras.Input((4,)) * 1
    with pytest.raises(TypeError, match="on a view of the symbolic tensor 'mul'"):
        x.view(-1, 2, 2).mul_(2)


def test_writing_a_symbol_into_a_real_tensor_is_refused() -> None:
    with pytest.raises(TypeError, match=r"would write a symbolic value into a real tensor of shape \(2, 3\)"):
        torch.zeros(2, 3).add_(SymbolicTensor((2, 3)))


def test_in_place_may_not_change_the_shape() -> None:
    x = keras.Input((1,)) * 1
    with pytest.raises(ValueError, match="would change the shape"):
        x += keras.Input((3,))


# -- what needs a value


def test_no_value_errors() -> None:
    x = keras.Input((3,), name="pixels")
    for what in (bool, float, int, np.asarray, lambda v: v.numpy(), lambda v: v.item(), lambda v: v.tolist(), lambda v: 1 in v):
        with pytest.raises(TypeError, match=r"needs a value, and the symbolic tensor 'pixels' of shape \(None, 3\) has none yet"):
            what(x)
    with pytest.raises(TypeError, match="if"):
        _ = 1 if x.sum() > 0 else 2
    with pytest.raises(TypeError, match="Using x as an index"):
        _ = [1, 2, 3][x.sum().int()]


def test_length_and_iteration_errors() -> None:
    x = keras.Input((3,), name="pixels")
    with pytest.raises(TypeError, match="its first axis varies, so it has no value yet"):
        len(x)
    with pytest.raises(TypeError, match=r"Cannot iterate over the symbolic tensor 'pixels'.*unbind\(1\)"):
        list(x)
    with pytest.raises(TypeError, match="along axis 0 of a symbolic tensor"):
        x.unbind()
    with pytest.raises(TypeError, match="without axes"):
        len(SymbolicTensor(()))


def test_unknown_attribute() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'relus'"):
        _ = keras.Input((3,)).relus


def test_errors_name_shapes_and_lines() -> None:
    a, b = keras.Input((3,)), keras.Input((4,))
    double = a * 2
    with pytest.raises(RuntimeError) as caught:
        double @ b
    note = "\n".join(caught.value.__notes__)
    assert "Function 'matmul' was called at" in note
    assert f"{__file__}:" in note
    assert "shape (None, 3), dtype float32, made by 'mul'" in note


# -- NumPy


UFUNCS: dict[str, Callable[[Any], Any]] = {
    "abs": np.abs, "exp": np.exp, "sqrt": lambda x: np.sqrt(np.abs(x)), "arctan": np.arctan, "negative": np.negative,
    "add": lambda x: np.add(x, np.float32(2)), "left array": lambda x: np.arange(4, dtype="float32") * x,
    "right array": lambda x: x + np.ones((1, 4), "float32"), "maximum": lambda x: np.maximum(x, np.zeros(4, "float32")),
    "power": lambda x: np.power(np.abs(x), 2), "isnan": np.isnan, "rint": np.rint,
}  # fmt: skip


@pytest.mark.parametrize("name", UFUNCS)
def test_numpy_ufuncs(name: str) -> None:
    x = keras.Input((4,))
    y = UFUNCS[name](x)
    value = real((3, 4))
    expected = UFUNCS[name](value.numpy())
    got = keras.Model(x, y)(value)
    assert y.shape == (None, 4)
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-6)


def test_numpy_functions_that_are_no_ufuncs_are_refused() -> None:
    with pytest.raises(TypeError):
        np.concatenate([keras.Input((4,)), keras.Input((4,))])


# -- sizes


SIZES: dict[str, Callable[[Any], Any]] = {
    "view": lambda x: x.view(x.size(0), -1),
    "view by arithmetic": lambda x: x.reshape(x.size(0) * x.size(1), x.size(2)),
    "zeros": lambda x: torch.cat([torch.zeros((x.size(0), 1, 3)), x], 1),
    "arange": lambda x: torch.arange(x.size(0)),
    "mean by hand": lambda x: x.sum(0) / x.size(0),
    "reflected": lambda x: x.sum(0) * (1 / (2 + x.size(0))),
    "halves": lambda x: x.repeat(2, 1, 1).view(x.size(0) * 4 // 2, 2, 3),
    "all sizes": lambda x: x.reshape([*x.size()][-3], 6),
}


@pytest.mark.parametrize("function", SIZES.values(), ids=SIZES)
def test_arithmetic_of_sizes(function: Callable[[Any], Any]) -> None:
    agrees(function, (2, 3))


def test_sizes() -> None:
    x = keras.Input((2, 3))
    assert x.size(1) == 2
    assert x.dim() == x.ndim == 3
    assert x.shape == (None, 2, 3)
    with pytest.raises(TypeError, match=r"torch\.zeros\(\(n, 3\)\)"):
        torch.zeros(1, 3)[: x.size(0)]
    with pytest.raises(TypeError, match="cannot be compared or tested"):
        bool(x.size(0))


def test_sizes_of_unknown_time_axes() -> None:
    x = keras.Input((None, 4))
    positions = torch.arange(x.size(1))
    y = x + positions[:, None]
    assert y.shape == (None, None, 4)
    model = keras.Model(x, y)
    for length in (1, 5):
        value = real((2, length, 4))
        torch.testing.assert_close(model(value), value + torch.arange(length)[:, None])


# -- plain torch modules


class Counted(nn.Module):
    """A plain module with a parameter, a buffer that counts, and a mode."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((4,), 2.0))
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: torch.Tensor, *, shift: torch.Tensor | float = 0.0) -> torch.Tensor:
        if self.training:
            self.calls += 1
        return x * self.scale + shift


def test_a_plain_module_belongs_to_the_model() -> None:
    module = Counted()
    x = keras.Input((4,))
    model = keras.Model(x, module(x, shift=x))
    assert module.calls == 0, "recording is no call"
    assert [n for n, _ in model.named_parameters()] == ["counted.scale"]
    assert "counted.calls" in model.state_dict()
    assert model.counted is module
    assert model(torch.ones(1, 4)).tolist() == [[3.0] * 4]
    assert not module.training, "a child takes its parent's mode"
    assert module.calls == 0
    model(torch.ones(1, 4), training=True)
    assert module.calls == 1
    assert not module.training
    model.train()
    model(torch.ones(1, 4))
    assert module.calls == 2
    model(torch.ones(1, 4)).sum().backward()
    assert module.scale.grad is not None


MODULES: dict[str, Any] = {
    "linear": lambda: (nn.Linear(6, 3), (6,), (None, 3)),
    "sequence": lambda: (nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 2)), (6,), (None, 2)),
    "conv": lambda: (nn.Conv2d(3, 5, 3), (3, 8, 8), (None, 5, 6, 6)),
    "norm": lambda: (nn.BatchNorm1d(6), (6,), (None, 6)),
    "encoder": lambda: (nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), (5, 8), (None, 5, 8)),
}


@pytest.mark.parametrize("name", MODULES)
def test_plain_modules(name: str) -> None:
    module, shape, expected = MODULES[name]()
    before = {k: v.clone() for k, v in module.state_dict().items()}
    x = keras.Input(shape)
    y = module(x)
    assert y.shape == expected
    for k, v in module.state_dict().items():
        torch.testing.assert_close(v, before[k])
    model = keras.Model(x, y)
    value = real((3, *shape))
    torch.testing.assert_close(model(value), module.eval()(value))
    assert model.count_params() == sum(p.numel() for p in module.parameters())


def test_a_module_with_several_outputs() -> None:
    x = keras.Input((5, 3))
    outputs, (hidden, cell) = nn.LSTM(3, 4, batch_first=True)(x)
    assert (outputs.shape, hidden.shape, cell.shape) == ((None, 5, 4), (1, None, 4), (1, None, 4))
    assert [v.shape for v in keras.Model(x, [outputs, hidden, cell])(real((2, 5, 3)))] == [(2, 5, 4), (1, 2, 4), (1, 2, 4)]


def test_a_shared_plain_module_is_one_child() -> None:
    linear = nn.Linear(3, 3)
    x = keras.Input((3,))
    model = keras.Model(x, linear(linear(x)))
    assert model.count_params() == 12
    assert len(list(model.children())) == 2


def test_module_calls_are_watched_only_while_a_model_is_made() -> None:
    linear = nn.Linear(3, 3)
    x = keras.Input((3,))
    linear(x)
    assert nn.Module.__call__ is symbolic._watched_call
    linear(torch.ones(1, 3))
    assert nn.Module.__call__ is symbolic._plain_call
    assert linear(x * 1).shape == (None, 3)
    linear(torch.ones(1, 3))
    assert nn.Module.__call__ is symbolic._plain_call


def test_a_call_in_another_thread_does_not_end_the_watching() -> None:
    linear = nn.Linear(3, 3)
    x = keras.Input((3,))
    thread = threading.Thread(target=linear, args=(torch.ones(1, 3),))
    thread.start()
    thread.join()
    assert linear(x).shape == (None, 3)


def test_models_may_be_made_in_two_threads_at_once() -> None:
    found: list[Any] = []

    def make() -> None:
        x = keras.Input((3,))
        linear = nn.Linear(3, 4)
        for _ in range(20):
            linear(torch.ones(1, 3))
            x = keras.Input((3,)) * 1
            found.append(linear(x).shape)

    threads = [threading.Thread(target=make) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [(None, 4)] * 40


# -- captured tensors


def test_captured_parameters_become_the_models() -> None:
    weight, constant = nn.Parameter(real((3, 2))), torch.tensor([1.0, 2.0])
    x = keras.Input((3,))
    model = keras.Model(x, x @ weight + constant)
    assert [id(p) for p in model.parameters()] == [id(weight)]
    assert "constant_0" not in model.state_dict()
    assert [b.tolist() for b in model.buffers()] == [[1.0, 2.0]]
    value = real((2, 3), seed=1)
    torch.testing.assert_close(model(value), value @ weight + constant)
    with torch.no_grad():
        weight.mul_(2)
    torch.testing.assert_close(model(value), value @ weight + constant)
    model(value).sum().backward()
    assert weight.grad is not None
    model.double()
    assert model(value.double()).dtype is torch.float64


def test_a_weight_of_a_layer_in_the_model_is_held_once() -> None:
    dense = layers.Dense(3, use_bias=False)
    x = keras.Input((4,))
    model = keras.Model(x, F.linear(dense(x), dense.kernel))
    assert list(model.state_dict()) == ["dense.kernel"]
    value = real((2, 4))
    torch.testing.assert_close(model(value), value @ dense.kernel @ dense.kernel.T)


def test_tensors_computed_from_parameters_are_refused() -> None:
    weight = nn.Parameter(torch.ones(2, 3))
    with pytest.raises(ValueError, match=r"was computed from parameters.*would go stale.*F\.linear"):
        keras.Input((3,)) @ weight.T
    with pytest.raises(ValueError, match="go stale"):
        nn.Identity()(keras.Input((3,)), weight * 2)


# -- names, dtypes, repr


def test_shape_dtype_name_and_repr() -> None:
    x = keras.Input((3,), dtype="int32", name="ids")
    assert (x.shape, x.dtype, x.name) == ((None, 3), "int32", "ids")
    assert repr(x) == "<KerasTensor shape=(None, 3), dtype=int32, sparse=False, ragged=False, name=ids>"
    assert isinstance(x, keras.KerasTensor)
    assert (x + 0.5).dtype == "float32"
    assert not x.is_floating_point()
    assert keras.KerasTensor((2, None), "float16").dtype == "float16"


def test_each_node_remembers_the_users_line() -> None:
    x = keras.Input((3,))
    y = torch.relu(x)
    assert y.node.source is not None
    assert y.node.source[0] == __file__
    line = y.node.source[1]
    with open(__file__, encoding="utf-8") as file:
        assert "torch.relu(x)" in file.readlines()[line - 1]


def test_views_show_later_changes_of_the_tensor_behind_them() -> None:
    def body(x: Any) -> Any:
        h = x * 2
        first = h[:, 0]
        part = h[:, 1:]
        inner = part[:, 0]
        h.mul_(3)
        part += 1
        return first + inner + h.sum(1)

    x = SymbolicTensor((None, 4))
    real = torch.arange(8.0).reshape(2, 4)
    torch.testing.assert_close(Graph.trace(x, body(x)).replay([real]), body(real))


def test_other_views_refuse_to_go_stale() -> None:
    x = SymbolicTensor((None, 4))
    h = x * 2
    turned = h.t()
    h.add_(1)
    with pytest.raises(TypeError, match="is used after that tensor was changed in place"):
        turned + 1
