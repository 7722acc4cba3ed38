"""Recurrent layers against Keras: outputs, states, gradients, masks, configs; and that kernel and loop agree."""

import copy

import numpy as np
import pytest
import torch

from hornbeam import Input, Model, layers
from hornbeam.graph import tree
from hornbeam.layers import recurrent_sequence
from layer_oracle import agree, close, contract, keras, numbers, pair

X = numbers(4, 6, 3)
MASKS = {
    "none": None,
    "right": np.arange(6) < np.array([[6], [3], [1], [0]]),
    "any": np.array([[0, 1, 0, 1, 1, 0], [1, 1, 1, 1, 1, 1], [0, 0, 0, 0, 0, 1], [0, 0, 0, 0, 0, 0]], bool),
}
KINDS = [
    ("SimpleRNN", {}),
    ("SimpleRNN", {"activation": "relu", "use_bias": False}),
    ("SimpleRNN", {"activation": "softsign"}),
    ("LSTM", {}),
    ("LSTM", {"use_bias": False}),
    ("LSTM", {"unit_forget_bias": False, "activation": "relu"}),
    ("GRU", {}),
    ("GRU", {"use_bias": False}),
    ("GRU", {"reset_after": False}),
    ("GRU", {"recurrent_activation": "hard_sigmoid"}),
]
OPTIONS = [
    {},
    {"return_sequences": True, "return_state": True, "zero_output_for_mask": True},
    {"return_sequences": True, "return_state": True, "go_backwards": True},
    {"zero_output_for_mask": True, "return_state": True},
]


def run(layer, x, **call):
    """Returns outputs and states as a flat list, and the gradients of their squares: of inputs and weights."""
    x = torch.tensor(x, requires_grad=True)
    flat = tree.leaves(layer(x, **call))
    weights = [getattr(w, "value", w) for w in layer.trainable_weights]
    return flat, torch.autograd.grad(sum(v.square().sum() for v in flat), [x, *weights])


def same(ours, theirs, x=X, **call):
    (mine, my_gradients), (kerass, their_gradients) = run(ours, x, **call), run(theirs, x, **call)
    for a, b in zip(mine, kerass, strict=True):
        close(a, b)
    for a, b in zip(my_gradients, their_gradients, strict=True):
        close(a, b, 2e-4)


@pytest.mark.oracle
@pytest.mark.parametrize(("name", "kwargs"), KINDS)
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("options", OPTIONS)
def test_agrees_with_keras(name, kwargs, options, mask):
    ours, theirs = pair(name, {"units": 5, **kwargs, **options}, X)
    mask = None if MASKS[mask] is None else torch.tensor(MASKS[mask])
    count = 2 if name == "LSTM" else 1
    same(ours, theirs, mask=mask)
    same(ours, theirs, mask=mask, initial_state=[torch.tensor(numbers(4, 5, seed=i)) for i in range(count)])


@pytest.mark.oracle
@pytest.mark.parametrize(("name", "kwargs"), KINDS)
@pytest.mark.parametrize("options", OPTIONS)
def test_configs_and_shapes(name, kwargs, options):
    kwargs = {"units": 5, **kwargs, **options, "dropout": 0.2, "kernel_regularizer": "l2", "recurrent_constraint": "max_norm"}
    ours, theirs = pair(name, kwargs, X)
    assert ours.get_config() == theirs.get_config()
    assert type(ours).from_config(ours.get_config()).get_config() == ours.get_config()
    assert ours.get_build_config() == theirs.get_build_config()
    if name != "SimpleRNN" or not options.get("return_state"):
        assert ours.compute_output_shape((None, None, 3)) == theirs.compute_output_shape((None, None, 3))
    symbols = tree.leaves(ours(Input((None, 3))))
    values = tree.leaves(ours(torch.tensor(X)))
    assert [s.shape[1:] for s in symbols] == [
        tuple(None if i == 1 and v.dim() == 3 else n for i, n in enumerate(v.shape))[1:] for v in values
    ]


@pytest.mark.parametrize(("name", "kwargs"), KINDS)
@pytest.mark.parametrize("mask", MASKS)
def test_kernel_and_loop_agree(name, kwargs, mask, monkeypatch):
    layer = getattr(layers, name)(5, return_sequences=True, return_state=True, **kwargs)
    mask = None if MASKS[mask] is None else torch.tensor(MASKS[mask])
    layer(torch.tensor(X))
    one = run(layer, X, mask=mask)
    monkeypatch.setattr(recurrent_sequence, "_kernel_for", lambda cell: None)
    for a, b in zip(tree.leaves(one), tree.leaves(run(layer, X, mask=mask)), strict=True):
        close(a, b)


def test_standard_layers_use_the_kernel(monkeypatch):
    used = []
    for name in ("lstm", "gru", "rnn_tanh", "rnn_relu"):
        plain = getattr(torch, name)
        monkeypatch.setattr(torch, name, lambda *args, plain=plain, name=name: (used.append(name), plain(*args))[1])
    x, mask = torch.tensor(X), torch.tensor(MASKS["any"])
    for layer in (
        layers.LSTM(2),
        layers.GRU(2, go_backwards=True),
        layers.SimpleRNN(2, dropout=0.5),
        layers.SimpleRNN(2, activation="relu"),
    ):
        layer(x, training=True)
        layer(x, mask=mask)
    layers.RNN([layers.LSTMCell(2), layers.GRUCell(2)])(x)
    assert used == ["lstm", "lstm", "gru", "gru", "rnn_tanh", "rnn_tanh", "rnn_relu", "rnn_relu", "lstm", "gru"]
    used.clear()
    for layer in (
        layers.LSTM(2, use_cudnn=False),
        layers.GRU(2, reset_after=False),
        layers.LSTM(2, recurrent_activation="hard_sigmoid"),
    ):
        layer(x)
    layers.LSTM(2, recurrent_dropout=0.5)(x, training=True)
    assert used == []


@pytest.mark.parametrize(("name", "kwargs"), KINDS)
def test_contract(name, kwargs):
    layer = getattr(layers, name)(5, **kwargs)
    layer(torch.tensor(X))
    contract(layer, X)


@pytest.mark.parametrize("name", ["LSTM", "GRU"])
def test_masked_calls_compile_and_export(name):
    layer = getattr(layers, name)(5, return_sequences=True, return_state=True)
    x, mask = torch.tensor(X), torch.tensor(MASKS["any"])
    y = layer(x, mask=mask)
    torch._dynamo.reset()
    torch.testing.assert_close(torch.compile(layer, fullgraph=True, backend="eager")(x, mask=mask), y)
    free = {0: torch.export.Dim("batch")}
    exported = torch.export.export(layer, (x,), {"mask": mask}, dynamic_shapes={"sequences": free, "mask": free}).module()
    x, mask = torch.cat([x, x]), torch.cat([mask, mask])
    torch.testing.assert_close(exported(x, mask=mask), layer(x, mask=mask))


@pytest.mark.oracle
@pytest.mark.parametrize("name", ["SimpleRNNCell", "LSTMCell", "GRUCell"])
def test_cells(name):
    ours, theirs = getattr(layers, name)(5, name="it"), getattr(keras.layers, name)(5, name="it")
    assert ours.get_config() == theirs.get_config()
    states = [torch.tensor(numbers(4, 5, seed=i)) for i in range(2 if name == "LSTMCell" else 1)]
    x = torch.tensor(X[:, 0])
    ours(x, states)
    theirs(x, states)
    theirs.set_weights([numbers(*w.shape) for w in theirs.weights])
    ours.set_weights(theirs.get_weights())
    for a, b in zip(tree.leaves(ours(x, states)), tree.leaves(theirs(x, states)), strict=True):
        close(a, b)
    assert ours.state_size == theirs.state_size
    assert [tuple(s.shape) for s in ours.get_initial_state(3)] == [(3, 5)] * len(states)
    if len(states) == 1:
        output, state = ours(x, states[0])
        assert torch.equal(output, state)


@pytest.mark.oracle
@pytest.mark.parametrize("mask", MASKS)
def test_stacked_cells(mask):
    def make(library):
        cells = [library.LSTMCell(4), library.GRUCell(3, activation="relu"), library.SimpleRNNCell(2)]
        return library.RNN(cells, return_sequences=True, return_state=True, name="it")

    ours, theirs = make(layers), make(keras.layers)
    ours(torch.tensor(X))
    theirs(torch.tensor(X))
    ours.set_weights(theirs.get_weights())
    same(ours, theirs, mask=None if MASKS[mask] is None else torch.tensor(MASKS[mask]))
    assert ours.compute_output_shape((None, None, 3)) == theirs.compute_output_shape((None, None, 3))
    again = layers.RNN.from_config(ours.get_config())
    assert [type(c).__name__ for c in again.cell.cells] == ["LSTMCell", "GRUCell", "SimpleRNNCell"]
    assert again.get_config() == ours.get_config()


class Minimal(layers.Layer):
    """A cell as Keras's guide writes one."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = self.state_size = units

    def build(self, input_shape):
        self.kernel = self.add_weight((input_shape[-1], self.units), "uniform", name="kernel")
        self.recurrent = self.add_weight((self.units, self.units), "uniform", name="recurrent")

    def call(self, inputs, states):
        output = inputs @ self.kernel + states[0] @ self.recurrent
        return output, [output]


def test_a_cell_of_ones_own():
    layer = layers.RNN([Minimal(4), Minimal(5)], return_state=True)
    x = torch.tensor(X)
    y, first, second = layer(x)
    h, g = torch.zeros(4, 4), torch.zeros(4, 5)
    for t in range(6):
        h = x[:, t] @ layer.weights[0] + h @ layer.weights[1]
        g = h @ layer.weights[2] + g @ layer.weights[3]
    torch.testing.assert_close((y, first, second), (g, h, g))
    y, first, _ = layer(x, mask=torch.tensor(MASKS["any"]))
    assert not y[3].any()
    assert not first[3].any()


def test_a_changed_cell_is_the_one_that_runs():
    class Louder(layers.LSTMCell):
        def step(self, projected, states, scale):
            output, states = super().step(projected, states, scale)
            return 2 * output, states

    x = torch.tensor(X)
    layer = layers.LSTM(5)
    y = layer(x)
    seen = []
    handle = layer.cell.register_forward_hook(lambda *_: seen.append(1))
    torch.testing.assert_close(layer(x), y)
    assert len(seen) == 6
    handle.remove()
    louder = Louder(5)
    louder.build((None, 3))
    louder.set_weights(layer.get_weights())
    layer.cell = louder
    torch.testing.assert_close(layer(x), 2 * y)


def test_dropout_is_the_same_at_each_step():
    x = torch.ones(3, 5, 4)
    layer = layers.SimpleRNN(4, activation="linear", use_bias=False, dropout=0.5, return_sequences=True)
    layer.build((None, None, 4))
    layer.set_weights([np.eye(4, dtype="float32"), np.zeros((4, 4), "float32")])
    y = layer(x, training=True)
    assert set(y.unique().tolist()) == {0.0, 2.0}
    assert torch.equal(y, y[:, :1].expand_as(y))
    assert torch.equal(layer(x), x)
    recurrent = layers.SimpleRNN(4, activation="linear", use_bias=False, recurrent_dropout=0.5, return_sequences=True)
    recurrent.build((None, None, 4))
    recurrent.set_weights([np.eye(4, dtype="float32")] * 2)
    assert set(recurrent(x, training=True)[:, -1].unique().tolist()) == {1.0, 31.0}


def test_seeded_dropout_repeats():
    def twice():
        layer = layers.LSTM(
            4, dropout=0.5, recurrent_dropout=0.5, seed=3, kernel_initializer="ones", recurrent_initializer="ones"
        )
        return layer(torch.tensor(X), training=True), layer(torch.tensor(X), training=True)

    (a, b), (c, d) = twice(), twice()
    assert torch.equal(a, c)
    assert torch.equal(b, d)
    assert not torch.equal(a, b)


def test_stateful_layers_train():
    x, layer = Input((5, 4), batch_size=2), layers.LSTM(3, stateful=True)
    model = Model(x, layer(x))
    given = torch.ones(2, 5, 4)
    for _ in range(2):
        before = [s.clone() for s in layer.states]
        model(given, training=True).sum().backward()
        assert not torch.equal(before[0], layer.states[0])
        assert all(w.grad is not None for w in model.trainable_weights)


@pytest.mark.oracle
def test_stateful():
    ours, theirs = pair("LSTM", {"units": 5, "stateful": True}, X)
    assert len(ours.weights) == 3
    ours.reset_state()
    theirs.reset_state()
    for _ in range(3):
        close(ours(torch.tensor(X)), theirs(X))
    for a, b in zip(ours.states, theirs.states, strict=True):
        close(a, b.value)
    assert list(ours.state_dict()) == ["cell.kernel", "cell.recurrent_kernel", "cell.bias"]
    assert torch.equal(copy.deepcopy(ours).states[0], ours.states[0])
    first = ours.states[0].clone()
    ours.compute_output_shape((4, 6, 3))
    assert torch.equal(ours.states[0], first)
    ours.reset_states()
    assert not ours.states[0].any()
    with pytest.raises(ValueError, match=r"batches of 4\. Received: a batch of 2"):
        ours(torch.tensor(X[:2]))
    with pytest.raises(ValueError, match="batch_size="):
        layers.LSTM(3, stateful=True)(Input((6, 3)))


def test_in_models():
    tokens = torch.tensor([[1, 2, 0, 0], [3, 0, 0, 0]])
    inputs = Input((None,), dtype="int64")
    x = layers.Embedding(5, 3, mask_zero=True)(inputs)
    x = layers.LSTM(4, return_sequences=True)(x)
    model = Model(inputs, layers.GRU(2)(x))
    longer = torch.tensor([[1, 2, 0, 0, 0, 0], [3, 0, 0, 0, 0, 0]])
    torch.testing.assert_close(model(tokens), model(longer))
    encoded, h, c = layers.LSTM(4, return_state=True)(source := Input((None, 3)))
    decoded = layers.LSTM(4, return_sequences=True)(target := Input((None, 3)), initial_state=[h, c])
    assert encoded.shape == (None, 4)
    translate = Model([source, target], decoded)
    assert translate([torch.tensor(X), torch.tensor(X[:, :2])]).shape == (4, 2, 4)


def test_second_derivatives_without_the_kernel():
    x = torch.tensor(X, requires_grad=True)
    (slope,) = torch.autograd.grad(layers.LSTM(2, use_cudnn=False)(x).sum(), x, create_graph=True)
    (bend,) = torch.autograd.grad(slope.square().sum(), x)
    assert bend.abs().max() > 0


@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "float16", "float64"])
@pytest.mark.parametrize("name", ["SimpleRNN", "LSTM", "GRU"])
def test_dtypes(name, dtype):
    layer = getattr(layers, name)(5, dtype=dtype, return_state=True)
    for mask in (None, torch.tensor(MASKS["any"])):
        y = layer(torch.tensor(X), mask=mask)
        sum(v.float().sum() for v in y).backward()
        assert str(y[0].dtype) == f"torch.{layer.compute_dtype}"
        assert all(w.grad.isfinite().all() and w.grad.dtype is w.dtype for w in layer.weights)


def test_packed_weights_are_the_same_numbers(monkeypatch):
    weights = [torch.randn(3, 8).t(), torch.randn(2, 8).t(), torch.randn(8), torch.randn(8)]
    monkeypatch.setattr(torch.Tensor, "is_cuda", True)
    packed = recurrent_sequence._packed(torch.ones(1), *weights)
    assert all(torch.equal(a, b) and a.is_contiguous() for a, b in zip(packed, weights, strict=True))
    assert len({p.untyped_storage().data_ptr() for p in packed}) == 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: layers.LSTM(3)(torch.ones(2, 3)), r"expects an input of rank 3.*shape \(2, 3\).*\(batch, time, features\)"),
        (lambda: layers.LSTM(0), r"`units` must be a positive integer. Received: units=0"),
        (lambda: layers.RNN(3), "a cell has a method `call"),
        (lambda: layers.GRU(3)(torch.ones(2, 4, 3), initial_state=[torch.ones(2, 3)] * 2), r"has 1 state\(s\). Received: 2"),
        (lambda: layers.GRU(3)(torch.ones(2, 4, 3), mask=torch.ones(2, 4, 1)), r"takes a mask of shape \(batch, time\)"),
        (lambda: layers.GRU(3)(torch.ones(2, 0, 3)), "at least one time step"),
    ],
)
def test_mistakes(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.oracle
def test_agrees_as_every_layer_does():
    agree("LSTM", {"units": 5, "kernel_regularizer": "l2"}, X)
    agree("GRU", {"units": 5, "return_sequences": True}, X)


def test_initial_states_that_do_not_fit_are_refused():
    x = Input((5, 3))
    with pytest.raises(ValueError, match=r"\(LSTM\) has 2 state\(s\). Received: 1 initial state"):
        layers.LSTM(4)(x, initial_state=[Input((4,))])
    with pytest.raises(ValueError, match=r"initial states of shape \(batch, 4\), \(batch, 4\). Received: shape \(None, 3\)"):
        layers.LSTM(4)(x, initial_state=[Input((3,)), Input((4,))])
    with pytest.raises(ValueError, match=r"initial states of shape \(batch, 4\). Received: shape \(2, 1\)"):
        layers.GRU(4)(torch.ones(2, 5, 3), initial_state=torch.ones(2, 1))
    assert layers.LSTM(4)(x, initial_state=[Input((4,)), Input((4,))]).shape == (None, 4)
