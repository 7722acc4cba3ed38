"""Costs against counts by hand: multiply-adds and what autograd keeps, layer by layer, and whole architectures."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

import hornbeam as keras
from hornbeam import layers
from hornbeam.inspect.cost import Cost, cost_of
from hornbeam.inspect.table import rows_of, weights_of

B, S, D = 2, 7, 8  # batch, steps, features
FLOAT = 4


def chain(shape: tuple[int, ...], *more: Any, dtype: str | None = None) -> Any:
    """A model of some layers whose inputs take gradients too, so that each layer's backward pass is whole."""
    x = keras.Input(shape, dtype=dtype)
    y = x if dtype else Learned()(x)
    for layer in more:
        y = layer(y)
    return keras.Model(x, y)


class Learned(layers.Layer):
    """Adds a weight, so that what follows has a gradient to hand on; computes and keeps nothing else."""

    def build(self, input_shape: Any) -> None:
        self.offset = self.add_weight((), "zeros", name="offset")

    def call(self, inputs: Any) -> Any:
        return inputs + self.offset


def of(layer: Any, shape: tuple[int, ...]) -> Any:
    """The cost of one layer in a chain, at batch B."""
    return cost_of(chain(shape, layer), batch_size=B).of(layer)


# -- multiply-adds of one layer: forward by hand; backward the same again for the inputs and for the weights


def conv(positions: int, taken: int, given: int, kernel: int, groups: int = 1) -> int:
    return B * positions * given * (taken // groups) * kernel


CONTRACTIONS = [
    (lambda: layers.Dense(5), (D,), B * D * 5),
    (lambda: layers.Dense(5), (S, D), B * S * D * 5),
    (lambda: layers.EinsumDense("abc,cde->abde", (None, 3, 5), bias_axes="e"), (S, D), B * S * D * 15),
    (lambda: layers.Conv1D(6, 3), (10, 4), conv(8, 4, 6, 3)),
    (lambda: layers.Conv1D(6, 3, padding="same"), (10, 4), conv(10, 4, 6, 3)),
    (lambda: layers.Conv2D(6, 3), (10, 9, 4), conv(8 * 7, 4, 6, 9)),
    (lambda: layers.Conv2D(6, (3, 2), strides=2), (10, 9, 4), conv(4 * 4, 4, 6, 6)),
    (lambda: layers.Conv2D(6, 3, groups=2), (10, 9, 4), conv(8 * 7, 4, 6, 9, 2)),
    (lambda: layers.Conv2D(6, 3, dilation_rate=2), (10, 9, 4), conv(6 * 5, 4, 6, 9)),
    (lambda: layers.Conv3D(6, 2), (5, 6, 7, 3), conv(4 * 5 * 6, 3, 6, 8)),
    (lambda: layers.DepthwiseConv2D(3, depth_multiplier=2), (10, 9, 4), conv(8 * 7, 4, 8, 9, 4)),
    (lambda: layers.DepthwiseConv1D(3), (10, 4), conv(8, 4, 4, 3, 4)),
    (lambda: layers.SeparableConv2D(6, 3), (10, 9, 4), conv(8 * 7, 4, 4, 9, 4) + conv(8 * 7, 4, 6, 1)),
    # a transposed convolution lays its kernel at each place of what it takes
    (lambda: layers.Conv1DTranspose(6, 3, strides=2), (10, 4), conv(10, 6, 4, 3)),
    (lambda: layers.Conv2DTranspose(6, 3, strides=2, padding="same"), (5, 6, 4), conv(30, 6, 4, 9)),
    (lambda: layers.Conv3DTranspose(6, 2), (3, 4, 5, 4), conv(60, 6, 4, 8)),
]


@pytest.mark.parametrize(("make", "shape", "forward"), CONTRACTIONS)
def test_products_and_convolutions(make: Any, shape: tuple[int, ...], forward: int) -> None:
    cost = of(make(), shape)
    assert (cost.macs_forward, cost.macs_backward) == (forward, 2 * forward)
    assert (cost.flops_forward, cost.flops_backward, cost.flops) == (2 * forward, 4 * forward, 6 * forward)


@pytest.mark.parametrize(
    ("make", "shape", "kept"),
    [
        # each keeps numbers of so many bytes; what it takes is kept by nobody else in these chains
        (lambda: layers.MaxPooling2D(2), (6, 6, 4), B * 36 * 4 * FLOAT + B * 9 * 4 * 8),  # input, and places as int64
        (lambda: layers.AveragePooling2D(2), (6, 6, 4), B * 36 * 4 * FLOAT),
        (lambda: layers.GlobalAveragePooling2D(), (6, 6, 4), 0),
        (lambda: layers.Flatten(), (6, 6, 4), 0),
        (lambda: layers.ReLU(), (S, D), B * S * D * FLOAT),  # its output
        (lambda: layers.Activation("tanh"), (S, D), B * S * D * FLOAT),
        (lambda: layers.Activation("gelu"), (S, D), B * S * D * FLOAT),  # its input
        (lambda: layers.Dropout(0.5), (S, D), None),
        (lambda: layers.LayerNormalization(), (S, D), B * S * D * FLOAT + 2 * B * S * FLOAT),  # input, mean, deviation
        (lambda: layers.BatchNormalization(), (6, 6, 4), B * 36 * 4 * FLOAT + 4 * 4 * FLOAT),  # and running mean, variance
        (lambda: layers.Reshape((D, S)), (S, D), 0),
    ],
)
def test_layers_without_products(make: Any, shape: tuple[int, ...], kept: int | None) -> None:
    cost = of(make(), shape)
    assert (cost.macs_forward, cost.macs_backward) == (0, 0)
    if kept is not None:
        assert cost.activation_bytes == kept


def test_what_is_kept_counts_once_and_outputs_in_place_not_twice() -> None:
    first, act, second = nn.Linear(D, D), nn.ReLU(inplace=True), nn.Linear(D, D)
    cost = cost_of(nn.Sequential(first, act, second), (None, D), batch_size=B)
    assert cost.of(first).activation_bytes == 0  # the batch is the caller's
    assert cost.of(act).activation_bytes == B * D * FLOAT
    assert cost.of(second).activation_bytes == 0  # it keeps what the activation keeps already
    assert cost.activation_bytes == B * D * FLOAT
    assert cost.input_bytes == B * D * FLOAT


def test_embedding() -> None:
    layer = layers.Embedding(20, D)
    cost = cost_of(chain((S,), layer, dtype="int32"), batch_size=B)
    assert cost.macs == 0
    assert cost.weight_bytes == cost.gradient_bytes == 20 * D * FLOAT
    assert cost.of(layer).output_bytes == B * S * D * FLOAT


# -- recurrent layers: G gates, each with a kernel (D x U) and a recurrent kernel (U x U), at each step


U = 5


def recurrent(gates: int, taken: int = D) -> int:
    return B * S * gates * (taken * U + U * U)


@pytest.mark.parametrize(("make", "gates"), [(layers.LSTM, 4), (layers.GRU, 3), (layers.SimpleRNN, 1)])
@pytest.mark.parametrize("options", [{}, {"return_sequences": True}, {"activation": "sigmoid"}])
def test_recurrent_layers(make: Any, gates: int, options: dict[str, Any]) -> None:
    assert of(make(U, **options), (S, D)).macs_forward == recurrent(gates)


@pytest.mark.parametrize(("make", "gates"), [(layers.LSTM, 4), (layers.GRU, 3), (layers.SimpleRNN, 1)])
def test_recurrent_layers_both_ways(make: Any, gates: int) -> None:
    assert of(layers.Bidirectional(make(U)), (S, D)).macs_forward == 2 * recurrent(gates)


def test_the_fused_lstm_kernel_is_one_call_forward_and_back() -> None:
    cost = of(layers.LSTM(U), (S, D))
    assert cost.macs_backward == 2 * recurrent(4)
    cell = of(layers.RNN(layers.LSTMCell(U)), (S, D))
    assert cell.macs_forward == recurrent(4)


@pytest.mark.parametrize(("make", "gates"), [(nn.LSTM, 4), (nn.GRU, 3), (nn.RNN, 1)])
def test_torchs_recurrent_modules(make: Any, gates: int) -> None:
    forward = cost_of(make(D, U, num_layers=2, bidirectional=True, batch_first=True), (None, S, D), batch_size=B).macs_forward
    assert forward == 2 * recurrent(gates) + 2 * recurrent(gates, 2 * U)


def test_what_the_fused_lstm_keeps_and_takes() -> None:
    short, long = (cost_of(nn.LSTM(D, 64, batch_first=True), (None, steps, D), batch_size=B) for steps in (100, 200))
    # each step: the input in another order, rows of 256 gates, which oneDNN lays 272 numbers apart, cell states and outputs
    assert long.activation_bytes - short.activation_bytes == 100 * B * (D + 272 + 64 + 64) * FLOAT
    # at the peak of the backward pass further gates, three states as wide as the widest, cells; the output and its gradient
    assert long.peak_bytes - short.peak_bytes >= 100 * B * (2 * 272 + 2 * 64 + 3 * 64 + 2 * 64) * FLOAT
    looked, trained = (cost_of(nn.LSTM(D, 64), (None, B, D), batch_size=200, training=t).peak_bytes for t in (False, True))
    assert trained > 4 * looked


@pytest.mark.parametrize(("make", "gates"), [(nn.LSTMCell, 4), (nn.GRUCell, 3), (nn.RNNCell, 1)])
def test_torchs_cells(make: Any, gates: int) -> None:
    assert cost_of(make(D, U), (None, D), batch_size=B).macs_forward == B * gates * (D * U + U * U)


def test_a_two_layer_lstm_by_hand() -> None:
    """1,500 units, 35 steps, batch 20, as in Zaremba et al. 2014 ("large"): each layer has 4 gates of 1,500 x (1,500 + 1,500)."""
    by_hand = 2 * 20 * 35 * 4 * 1500 * (1500 + 1500)
    assert by_hand == 25_200_000_000
    plain = cost_of(nn.LSTM(1500, 1500, num_layers=2, batch_first=True), (None, 35, 1500), batch_size=20)
    model = keras.Sequential([keras.Input((35, 1500)), *(layers.LSTM(1500, return_sequences=True) for _ in range(2))])
    ours = model.cost(batch_size=20)
    assert plain.macs_forward == ours.macs_forward == by_hand
    assert plain.macs_backward == ours.macs_backward == 2 * by_hand
    assert all(w._lazy for w in weights_of(model))  # 36 million weights, none of them made


# -- quantized modules: one byte for a weight, four for a bias


@pytest.mark.skipif(len(torch.backends.quantized.supported_engines) < 2, reason="this torch has no quantized kernels")
@pytest.mark.filterwarnings("ignore")
def test_quantized_modules() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear, self.lstm, self.gru = nn.Linear(D, 4), nn.LSTM(4, U, 2), nn.GRU(U, U, bidirectional=True)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.gru(self.lstm(torch.relu(self.linear(x)))[0])[0]

    net = torch.ao.quantization.quantize_dynamic(Net(), {nn.Linear, nn.LSTM, nn.GRU})
    cost = cost_of(net, (None, S, D), batch_size=B)
    assert cost.of(net.linear).macs_forward == B * S * D * 4
    assert cost.of(net.lstm).macs_forward == B * S * 4 * (4 * U + U * U + 2 * U * U)
    assert cost.of(net.gru).macs_forward == B * S * 3 * 2 * (U * U + U * U)
    assert (cost.of(net.linear).params, cost.of(net.linear).weight_bytes) == (D * 4 + 4, D * 4 + 4 * FLOAT)
    lstm, gru = 4 * U * (4 + U) + 4 * U * 2 * U, 2 * 3 * U * 2 * U
    assert cost.of(net.lstm).weight_bytes == lstm + 2 * 2 * 4 * U * FLOAT
    assert cost.of(net.gru).weight_bytes == gru + 2 * 2 * 3 * U * FLOAT
    assert cost.peak_bytes > cost.weight_bytes == sum(c.weight_bytes for c in cost.calls_made if c.depth == 0)
    assert cost.notes == []


def test_kernels_that_are_not_known_are_said() -> None:
    @torch.library.custom_op("hornbeam_test::attend", mutates_args=())
    def attend(x: torch.Tensor) -> torch.Tensor:
        return x * 2

    attend.register_fake(torch.empty_like)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Attend()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.inner(x) + 1

    class Attend(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return attend(x)

    assert cost_of(Net(), (None, D)).notes == [
        "The multiply-adds of kernels that are not known are not counted: hornbeam_test::attend in 'inner'."
    ]


# -- attention: projections of D to H heads of E and back; scores and weighted sums of S x S x E for each head


H, E = 2, 3


def projections() -> int:
    return B * S * 4 * D * H * E


def scores() -> int:
    return 2 * B * H * S * S * E


def test_multi_head_attention() -> None:
    layer = layers.MultiHeadAttention(H, E)
    x = keras.Input((S, D))
    y = Learned()(x)
    cost = cost_of(keras.Model(x, layer(y, y)), batch_size=B).of(layer)
    assert cost.macs_forward == projections() + scores()
    # the fused kernel computes scores once more, then the gradients of values, weights, queries and keys
    assert cost.macs_backward == 2 * projections() + scores() * 5 // 2


def test_torchs_multi_head_attention() -> None:
    net = nn.MultiheadAttention(D, H, batch_first=True)
    by_hand = B * S * 4 * D * D + 2 * B * S * S * D
    assert cost_of(net, [(None, S, D)] * 3, batch_size=B).macs_forward == by_hand


@pytest.mark.parametrize("training", [True, False])
def test_torchs_encoder_layer(training: bool) -> None:
    net = nn.TransformerEncoderLayer(D, H, 16, batch_first=True)
    by_hand = B * S * 4 * D * D + 2 * B * S * S * D + 2 * B * S * D * 16
    cost = cost_of(net, (None, S, D), batch_size=B, training=training)
    assert cost.macs_forward == by_hand
    assert (cost.macs_backward > 0) is training


@pytest.mark.parametrize(
    ("function", "forward"),
    [
        (lambda x: x @ x.mT, B * S * S * D),
        (lambda x: torch.einsum("bij,bkj->bik", x, x), B * S * S * D),
        (lambda x: F.scaled_dot_product_attention(x, x, x), 2 * B * S * S * D),
        (lambda x: torch.bmm(x, x.mT), B * S * S * D),
        (lambda x: torch.baddbmm(torch.zeros(S, S), x, x.mT), B * S * S * D),
        (lambda x: torch.cdist(x, x, p=1.0), B * S * S * D),
        (lambda x: torch.mv(x[0], x[0, 0]), S * D),
        (lambda x: keras.ops.matmul(x, keras.ops.transpose(x, (0, 2, 1))), B * S * S * D),
        (lambda x: F.conv1d(x, torch.ones(3, S, 2)), B * (D - 1) * 3 * S * 2),
        (lambda x: F.softmax(x * 2 + 1, -1).sum(), 0),
    ],
)
def test_raw_functions(function: Any, forward: int) -> None:
    class Net(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return function(x)

    assert cost_of(Net(), (None, S, D), batch_size=B).macs_forward == forward


def test_raw_functions_in_a_functional_model_are_calls_of_their_own() -> None:
    x = keras.Input((S, D))
    y = layers.Dense(D, name="first")(x)
    z = torch.einsum("bij,bkj->bik", y, y)
    cost = cost_of(keras.Model(x, torch.relu(z) @ y), batch_size=B)
    assert [(c.name, c.macs_forward) for c in cost.calls_made] == [
        ("first", B * S * D * D), ("einsum", B * S * S * D), ("relu", 0), ("matmul", B * S * S * D),
    ]  # fmt: skip
    assert cost.macs_backward == B * S * D * D + 4 * B * S * S * D  # the inputs take no gradient
    assert sum(c.macs_backward for c in cost.calls_made) == cost.macs_backward


def test_bilinear() -> None:
    assert cost_of(nn.Bilinear(3, 4, 5), [(None, 3), (None, 4)], batch_size=B).macs_forward == B * 3 * 4 * 5


# -- whose work it is


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(D, D), nn.ReLU())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x) @ torch.ones(D, D)


class Twice(nn.Module):
    """One block called twice, a layer with its weights, one that nobody calls."""

    def __init__(self) -> None:
        super().__init__()
        self.block, self.tied, self.unused = Block(), nn.Linear(D, D, bias=False), nn.Linear(D, D)
        self.tied.weight = self.block.inner[0].weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.tied(self.block(self.block(x) * 2))


def test_calls_of_shared_and_tied_modules() -> None:
    net = Twice()
    cost = cost_of(net, (None, D), batch_size=B)
    one = B * D * D
    assert [(c.path, c.depth, c.macs_forward) for c in cost.calls_made] == [
        ("block", 0, 2 * one), ("block.inner", 1, one), ("block.inner.0", 2, one), ("block.inner.1", 2, 0),
        ("block.matmul", 1, one), ("mul", 0, 0), ("block", 0, 2 * one), ("block.inner", 1, one), ("block.inner.0", 2, one),
        ("block.inner.1", 2, 0), ("block.matmul", 1, one), ("tied", 0, one),
    ]  # fmt: skip
    assert cost.of(net.block).macs_forward == 4 * one
    assert cost.of(net.block).calls == 2
    assert cost.of(net.unused).macs == cost.of(net.unused).calls == 0
    assert cost.calls_made[6].shared == "block"
    assert cost.calls_made[-1].shared
    assert cost.params == sum(p.numel() for p in net.parameters())
    assert cost.weight_bytes == cost.params * FLOAT
    assert cost.gradient_bytes == (D * D + D) * FLOAT
    # backward: of the input nothing; each later product twice, the constant matrix once
    assert cost.macs_backward == one + one + 2 * one + one + 2 * one


def test_rows_and_nodes_find_their_costs_through_nesting() -> None:
    inner = keras.Sequential([layers.Dense(D, name="a"), layers.Dense(D, name="b")], name="inner")
    x = keras.Input((D,))
    model = keras.Model(x, torch.tanh(inner(inner(x))))
    cost = model.cost(batch_size=B)
    rows, graph = rows_of(model, expand_nested=True)
    found = {row.name: cost.of(row).macs_forward for row in rows}
    one = B * D * D
    assert {n: found[n] for n in ("inner", "a", "b", "tanh")} == {"inner": 4 * one, "a": 2 * one, "b": 2 * one, "tanh": 0}
    calls = [n for n in graph.nodes if n.name == "inner"]
    assert [cost.of(n).macs_forward for n in calls] == [2 * one, 2 * one]
    assert [cost.of(n).macs_backward for n in calls] == [3 * one, 4 * one]
    a = next(n for n in inner.graph.nodes if n.name == "a")
    assert cost.of(a).macs_forward == 2 * one
    assert cost.of(a, inner, 0).macs_forward == one


def test_nodes_of_a_recording() -> None:
    net = Twice()
    rows, graph = rows_of(net, True, keras.inspect.given.graph_for(net, (None, D)))
    cost = cost_of(net, (None, D), batch_size=B)
    calls = [n for n in graph.nodes if n.name == "block"]
    assert [cost.of(n, number=i).macs_backward for i, n in enumerate(calls)] == [2 * B * D * D, 3 * B * D * D]
    assert {r.name: cost.of(r).macs_forward for r in rows}["matmul"] == 2 * B * D * D


def test_frozen_weights_take_no_gradient_and_no_slots() -> None:
    net = nn.Sequential(nn.Linear(D, D), nn.Linear(D, D))
    net[0].requires_grad_(False)
    cost = cost_of(net, (None, D), batch_size=B, optimizer="adam")
    assert cost.macs_backward == B * D * D
    assert cost.gradient_bytes == (D * D + D) * FLOAT
    assert cost.optimizer_bytes == 2 * cost.gradient_bytes
    assert cost.of(net[0]).optimizer_bytes == cost.of(net[0]).macs_backward == 0


def test_recomputed_activations() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.inner = nn.Linear(D, D), nn.Sequential(nn.Linear(D, D), nn.Tanh(), nn.Linear(D, D))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return checkpoint(self.inner, self.first(x), use_reentrant=False)

    one = B * D * D
    cost = cost_of(Net(), (None, D), batch_size=B)
    assert cost.macs_forward == 3 * one
    assert cost.macs_backward == one + 4 * one + one  # and the first product inside once more; the last one nobody needs
    assert cost.activation_bytes == B * D * FLOAT  # what the recomputation starts from


def test_an_own_backward() -> None:
    class Square(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
            ctx.save_for_backward(x)
            return x @ x.mT

        @staticmethod
        def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
            return (grad + grad.mT) @ ctx.saved_tensors[0]

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(D, D)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return Square.apply(self.first(x))

    cost = cost_of(Net(), (None, D), batch_size=B)
    assert (cost.macs_forward, cost.macs_backward) == (B * D * D + B * B * D, B * B * D + B * D * D)


def test_mixed_precision_halves_what_is_kept() -> None:
    def model(policy: str) -> Any:
        return keras.Sequential([keras.Input((D,)), *(layers.Dense(D, activation="relu", dtype=policy) for _ in range(2))])

    full, mixed = (model(p).cost(batch_size=64) for p in ("float32", "mixed_bfloat16"))
    assert mixed.macs_forward == full.macs_forward
    assert full.activation_bytes == 2 * 64 * D * 4
    assert mixed.activation_bytes < full.activation_bytes
    assert mixed.weight_bytes == full.weight_bytes


# -- what the cost of an optimizer is


@pytest.mark.parametrize(
    ("optimizer", "slots"),
    [
        (None, 0), ("sgd", 0), (keras.optimizers.SGD(momentum=0.9), 1), ("adam", 2), (keras.optimizers.Adam(amsgrad=True), 3),
        (keras.optimizers.Adam(use_ema=True), 3), (keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam()), 2), ("lion", 1),
        (lambda ps: torch.optim.SGD(ps, lr=0.1, momentum=0.9), 1),
    ],
)  # fmt: skip
def test_slots(optimizer: Any, slots: int) -> None:
    net = nn.Linear(30, 40)
    cost = cost_of(net, (None, 30), optimizer=optimizer)
    assert cost.of(net).optimizer_bytes == slots * cost.weight_bytes
    assert slots * cost.weight_bytes <= cost.optimizer_bytes <= slots * cost.weight_bytes + 64


def test_the_compiled_optimizers_slots() -> None:
    model = chain((D,), layers.Dense(D))
    model.compile("adam", "mse")
    assert model.cost().optimizer_bytes == 2 * model.cost().weight_bytes
    net = nn.Linear(D, D)
    made = torch.optim.Adam(net.parameters())
    assert cost_of(net, (None, D), optimizer=made).of(net).optimizer_bytes == 2 * (D * D + D) * FLOAT + 2 * FLOAT  # and steps
    assert not made.state


def test_the_step_of_an_optimizer_is_within_the_peak() -> None:
    net = nn.Linear(1000, 1000)
    plain, clipped = (cost_of(net, (None, 1000), optimizer=keras.optimizers.Adam(clipnorm=c)) for c in (None, 1.0))
    assert clipped.peak_bytes >= plain.peak_bytes + 1000 * 1000 * FLOAT  # clipped gradients are new tensors


# -- the loss


ROWS, CLASSES = 64, 1000
WHOLE = ROWS * CLASSES * FLOAT


@pytest.mark.parametrize(
    ("loss", "wholes"),
    [
        ("mse", 3),  # outputs, targets, the gradient
        ("sparse_categorical_crossentropy", 3),  # clipped outputs in place of targets
        (keras.losses.SparseCategoricalCrossentropy(from_logits=True), 4),  # outputs, log-softmax, both gradients
        (nn.CrossEntropyLoss(), 4),
        ("categorical_crossentropy", 7),
        (lambda y, z: F.cross_entropy(z.mT, y.long()), 4),  # takes numbers of classes, though its name does not say so
    ],
)
def test_the_compiled_loss_is_in_the_peak(loss: Any, wholes: int) -> None:
    model = keras.Sequential([keras.Input((3, 4)), layers.Dense(CLASSES)])
    model.compile("sgd", loss, jit_compile=False)
    before = dict(vars(model._compile_loss))
    cost = model.cost(batch_size=ROWS)
    assert cost.notes == []
    assert cost.peak_bytes == pytest.approx(wholes * 3 * WHOLE, rel=0.05)
    assert vars(model._compile_loss) == before


def test_each_output_has_its_own_loss() -> None:
    x = keras.Input((4,))
    model = keras.Model(x, {"a": layers.Dense(CLASSES)(x), "b": layers.Dense(CLASSES)(x), "c": layers.Dense(CLASSES)(x)})
    sparse = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    peaks = []
    for losses in ({"a": sparse}, {"a": sparse, "b": "mse"}):
        model.compile("sgd", losses)
        peaks.append(model.cost(batch_size=ROWS).peak_bytes)
        assert model.cost().notes == []
    assert 2 * WHOLE <= peaks[1] - peaks[0] <= 4 * WHOLE


def test_a_loss_that_runs_on_no_made_up_targets() -> None:
    model = keras.Sequential([keras.Input((4,)), layers.Dense(CLASSES)])
    plain = model.cost(batch_size=ROWS)
    model.compile("sgd", lambda y, z: z.sum() if y.sum() > 0 else z.mean())
    cost = model.cost(batch_size=ROWS, optimizer="sgd")
    assert cost.peak_bytes - plain.peak_bytes < 64
    assert "does not run on made-up targets" in cost.notes[0]


# -- looking changes nothing


def test_a_plain_module_is_as_before() -> None:
    net = nn.Sequential(nn.Linear(D, D), nn.BatchNorm1d(D), nn.Dropout(0.5))
    net[1].eval()
    held = nn.LSTM(D, U)
    weights = list(held._flat_weights)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    state = torch.get_rng_state()
    assert cost_of(net, (None, D)).batch_size == 2  # on one sample, batch normalization cannot train
    cost_of(held, (None, D))
    assert [m.training for m in net] == [True, False, True]
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())
    assert all(p.grad is None for p in net.parameters())
    assert torch.equal(torch.get_rng_state(), state)
    assert all(a is b for a, b in zip(held._flat_weights, weights, strict=True))


def test_weights_are_not_made() -> None:
    model = keras.Sequential([keras.Input((100_000,)), layers.Dense(50_000), layers.BatchNormalization()])
    cost = model.cost(optimizer="adam")
    assert cost.params == 100_000 * 50_000 + 50_000 * 5
    assert cost.peak_bytes > 4 * 5_000_000_000 * FLOAT
    assert all(w._lazy for w in weights_of(model))


def test_a_failing_run_puts_all_back() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(D, D)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("on purpose")

    net = Net()
    weight = net.first.weight
    with pytest.raises(RuntimeError, match="on purpose"):
        cost_of(net, (None, D))
    assert net.first.weight is weight
    assert not torch.is_inference_mode_enabled()
    assert torch.ones(1).sum().item() == 1.0


def test_a_model_that_looks_at_values_is_run_on_some() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(D, D)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.first(x)
            return y * 2 if y.sum() > 1e9 else y @ y.mT

    cost = cost_of(Net(), (None, D), batch_size=B, optimizer="adam")
    assert cost.macs_forward == B * D * D + B * B * D
    assert "looks at values" in cost.notes[0]
    assert cost.gradient_bytes == (D * D + D) * FLOAT
    assert cost.optimizer_bytes == 2 * cost.gradient_bytes


# -- arguments


def test_inputs_as_people_give_them() -> None:
    by_hand = 1 * S * D * 5
    for given in ((None, S, D), keras.Input((S, D)), torch.ones(4, S, D), np.ones((4, S, D), np.float32)):
        assert cost_of(nn.Linear(D, 5), given).macs_forward == by_hand
    assert cost_of(layers.Dense(5), (None, S, D)).macs_forward == by_hand
    assert keras.cost(keras.Sequential([layers.Dense(5)]), (None, S, D)).macs_forward == by_hand
    assert cost_of(nn.LazyLinear(5), (None, S, D)).macs_forward == by_hand


def test_axes_that_vary_are_said() -> None:
    cost = cost_of(nn.Linear(D, 5), (None, None, D), batch_size=B)
    assert cost.macs_forward == B * 64 * D * 5
    assert "were taken as 64" in cost.notes[0]


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="has not been called yet"):
        cost_of(nn.Linear(2, 2))
    with pytest.raises(ValueError, match="`batch_size` is a positive integer"):
        cost_of(nn.Linear(2, 2), (None, 2), batch_size=0)
    with pytest.raises(ValueError, match="`optimizer` is a name"):
        cost_of(nn.Linear(2, 2), (None, 2), optimizer=3)
    with pytest.raises(ValueError, match="memory is a number of bytes or text"):
        cost_of(nn.Linear(2, 2), (None, 2)).largest_batch("much")


# -- how many samples fit


@pytest.mark.parametrize("memory", ["1 MB", "10 MB", 3_000_000])
def test_the_largest_batch_is_the_last_that_fits(memory: Any) -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 14 * 14, 10))
    cost = cost_of(net, (None, 3, 16, 16), optimizer="adam")
    batch = cost.largest_batch(memory)
    limit = memory if isinstance(memory, int) else int(memory.split()[0]) * 2**20
    fits, does_not = (cost_of(net, (None, 3, 16, 16), batch_size=b, optimizer="adam").peak_bytes for b in (batch, batch + 1))
    assert batch > 0
    assert fits <= limit < does_not


def test_where_not_one_sample_fits() -> None:
    assert cost_of(nn.Linear(1000, 1000), (None, 1000)).largest_batch("1 MB") == 0


def test_the_largest_batch_of_a_model_that_looks_at_values_is_extrapolated() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(256, 256)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            sizes.append(len(x))
            y = self.first(x)
            return y.relu() if y.sum() > 1e9 else y.tanh()

    class Plain(Net):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.first(x).tanh()

    sizes: list[int] = []
    cost = cost_of(Net(), (None, 256))
    found = cost.largest_batch("100 MB")
    assert found == pytest.approx(cost_of(Plain(), (None, 256)).largest_batch("100 MB"), rel=0.05)
    assert max(sizes) < found / 16
    assert "extrapolated from batches of" in cost.notes[-1]
    cost.largest_batch("100 MB")
    assert sum("extrapolated" in note for note in cost.notes) == 1
    assert cost.largest_batch("1 KB") == 0
    sizes.clear()
    assert 1 <= cost.largest_batch(cost.peak_bytes + 5 * 1024) <= 4
    assert max(sizes) <= 4


# -- how it shows


def test_text_html_and_repr() -> None:
    cost = cost_of(Twice(), (None, D), batch_size=B)
    lines = str(cost).splitlines()
    assert lines[0] == "Twice (Twice)"
    assert lines[1].split() == ["Call", "MACs", "MACs", "back", "Activations", "Weights"]
    assert lines[3].split() == ["block", "(Block)", "256", "256", "320", "B", "288", "B"]  # the ones are kept too
    assert "    0 (Linear)" in str(cost)
    assert any(line.startswith("Multiply-adds: 640 forward, 896 backward") for line in lines)
    assert cost._repr_html_().count("<tr>") == 2 + len(cost.calls_made)  # and the weights that no call has
    assert lines[-4].split()[:2] == ["other", "weights"]
    assert repr(cost).startswith("<Cost of 'Twice', batch of 2: 640 multiply-adds forward, 896 backward,")
    assert isinstance(cost, Cost)
