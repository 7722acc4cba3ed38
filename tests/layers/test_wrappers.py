"""Wrapper, TimeDistributed and Bidirectional against Keras."""

import copy
import pickle

import pytest
import torch

from hornbeam import Input, layers
from hornbeam.graph import tree
from layer_oracle import close, keras, numbers

X = numbers(4, 6, 3)
MASK = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 0, 0, 0, 0], [0, 1, 0, 1, 1, 0], [0, 0, 0, 0, 0, 0]]).bool()
MERGES = ["concat", "sum", "mul", "ave", None]
OPTIONS = [{}, {"return_sequences": True}, {"return_state": True}, {"return_sequences": True, "return_state": True}]


def both(make, x=X):
    """Returns our layer and Keras's, with the same weights."""
    ours, theirs = make(layers), make(keras.layers)
    ours(torch.tensor(x))
    theirs(torch.tensor(x))
    assert [(w.path, tuple(w.shape)) for w in ours.weights] == [(w.path, tuple(w.shape)) for w in theirs.weights]
    ours.set_weights(theirs.get_weights())
    return ours, theirs


def same(ours, theirs, x=X, **call):
    results = []
    for layer in (ours, theirs):
        inputs = torch.tensor(x, requires_grad=True)
        flat = tree.leaves(layer(inputs, **call))
        weights = [getattr(w, "value", w) for w in layer.trainable_weights]
        results.append((flat, torch.autograd.grad(sum(v.square().sum() for v in flat), [inputs, *weights])))
    for part in (0, 1):
        for a, b in zip(results[0][part], results[1][part], strict=True):
            close(a, b, 1e-4)


@pytest.mark.oracle
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("merge", MERGES)
def test_bidirectional(merge, options):
    ours, theirs = both(lambda k: k.Bidirectional(k.LSTM(2, name="inner", **options), merge_mode=merge, name="it"))
    assert ours.get_config() == theirs.get_config()
    unbuilt = layers.Bidirectional(layers.LSTM(2, **options), merge_mode=merge)
    assert layers.Bidirectional.from_config(unbuilt.get_config()).get_config() == unbuilt.get_config()
    same(ours, theirs)
    same(ours, theirs, mask=MASK)
    same(ours, theirs, initial_state=[torch.tensor(numbers(4, 2, seed=i)) for i in range(4)])
    shape = ours.compute_output_shape((None, None, 3))
    assert shape == theirs.compute_output_shape((None, None, 3))
    symbols = ours(Input((None, 3)))
    assert [s.shape for s in tree.leaves(symbols)] == (list(shape) if isinstance(symbols, tuple) else [shape])


@pytest.mark.oracle
def test_a_backward_layer_of_ones_own():
    def make(k):
        backward = k.GRU(2, return_sequences=True, go_backwards=True, activation="relu", name="back")
        return k.Bidirectional(k.GRU(2, return_sequences=True, name="ahead"), backward_layer=backward, name="it")

    ours, theirs = both(make)
    assert ours.get_config() == theirs.get_config()
    assert (ours.forward_layer.name, ours.backward_layer.name) == ("forward_ahead", "back")
    same(ours, theirs, mask=MASK)


def test_masks_go_on():
    layer = layers.Bidirectional(layers.GRU(2, return_sequences=True))
    x = torch.tensor(X)
    x._keras_mask = MASK
    y = layer(x)
    assert torch.equal(y._keras_mask, MASK)
    assert not y[~MASK].any()
    assert getattr(layers.Bidirectional(layers.GRU(2))(x), "_keras_mask", None) is None


def test_bidirectional_stateful_and_weights():
    layer = layers.Bidirectional(layers.GRU(2, stateful=True))
    x = torch.tensor(X)
    first, second = layer(x), layer(x)
    assert not torch.equal(first, second)
    layer.reset_state()
    torch.testing.assert_close(layer(x), first)
    assert layer.stateful
    assert len(layer.states) == 2
    again = layers.Bidirectional(layers.GRU(2), weights=layer.get_weights())
    torch.testing.assert_close(again(x), first)


@pytest.mark.parametrize(
    "make", [lambda: layers.Bidirectional(layers.LSTM(2, return_sequences=True)), lambda: layers.TimeDistributed(layers.Dense(2))]
)
def test_torch_habits(make):
    layer, x = make(), torch.tensor(X)
    y = layer(x)
    fresh = make()
    fresh(x)
    fresh.load_state_dict(layer.state_dict())
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)), fresh):
        assert torch.equal(other(x), y)
    assert copy.deepcopy(layer).double()(x.double()).dtype is torch.float64
    torch._dynamo.reset()
    torch.testing.assert_close(torch.compile(layer, fullgraph=True, backend="aot_eager")(x), y)
    exported = torch.export.export(layer, (x,), dynamic_shapes=({0: torch.export.Dim("batch")},)).module()
    torch.testing.assert_close(exported(torch.cat([x, x])), torch.cat([y, y]))


@pytest.mark.oracle
@pytest.mark.parametrize(
    ("make", "x"),
    [
        (lambda k: k.TimeDistributed(k.Dense(2, activation="relu", name="inner"), name="it"), X),
        (lambda k: k.TimeDistributed(k.Conv2D(2, 3, padding="same", name="inner"), name="it"), numbers(2, 3, 5, 4, 3)),
        (lambda k: k.TimeDistributed(k.LSTM(2, return_sequences=True, name="inner"), name="it"), numbers(2, 3, 5, 4)),
        (lambda k: k.TimeDistributed(k.TimeDistributed(k.Dense(2, name="inner"), name="outer"), name="it"), numbers(2, 3, 5, 4)),
    ],
)
def test_time_distributed(make, x):
    ours, theirs = both(make, x)
    same(ours, theirs, x)
    assert ours.compute_output_shape((None, *x.shape[1:])) == theirs.compute_output_shape((None, *x.shape[1:]))
    assert ours(Input((None, *x.shape[2:]))).shape[1] is None
    again = layers.TimeDistributed.from_config(ours.get_config())
    assert again.get_config() == ours.get_config()


def test_time_distributed_masks():
    layer = layers.TimeDistributed(layers.Dense(2))
    x = torch.tensor(X)
    x._keras_mask = MASK
    assert torch.equal(layer(x)._keras_mask, MASK)
    inner = layers.TimeDistributed(layers.GRU(2))
    x, mask = torch.tensor(numbers(2, 3, 5, 4)), torch.rand(2, 3, 5) > 0.4
    expected = torch.stack([inner.layer(x[:, t], mask=mask[:, t]) for t in range(3)], 1) if inner(x) is not None else None
    torch.testing.assert_close(inner(x, mask=mask), expected)


def test_wrapper_runs_the_layer_inside():
    class Twice(layers.Wrapper):
        def call(self, x):
            return self.layer(self.layer(x))

    layer = Twice(layers.Dense(3, name="inner"))
    x = torch.tensor(X)
    torch.testing.assert_close(layer(x), layer.layer(layer.layer(x)))
    assert list(layer.state_dict()) == ["layer.kernel", "layer.bias"]
    config = layers.TimeDistributed(layers.Dense(3, name="inner"), name="it").get_config()
    assert config == keras.layers.TimeDistributed(keras.layers.Dense(3, name="inner"), name="it").get_config()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: layers.Bidirectional(layers.LSTM(3), merge_mode="cat"), "Did you mean 'concat'"),
        (lambda: layers.Bidirectional(layers.LSTM(3), backward_layer=layers.LSTM(3)), "must differ in `go_backwards`"),
        (
            lambda: layers.Bidirectional(layers.LSTM(3), backward_layer=layers.LSTM(3, go_backwards=True, return_state=True)),
            "must agree on `return_state`",
        ),
        (lambda: layers.Bidirectional(layers.Dense(3)), "wraps recurrent layers. Received: Dense"),
        (lambda: layers.TimeDistributed(3), "takes a Layer to wrap. Received: 3"),
        (lambda: layers.TimeDistributed(layers.Dense(3))(torch.ones(2, 3)), "rank 3 or more"),
    ],
)
def test_mistakes(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def recurrent(library, **policy):
    return library.LSTM(3, return_sequences=True, return_state=True, **policy)


POLICIES = {
    "outer-time": lambda library, p: library.TimeDistributed(library.Dense(3), dtype=p),
    "inner-time": lambda library, p: library.TimeDistributed(library.Dense(3, dtype=p)),
    "outer-both": lambda library, p: library.Bidirectional(library.GRU(3), dtype=p),
    "inner-both": lambda library, p: library.Bidirectional(library.GRU(3, dtype=p)),
    "inner-states": lambda library, p: library.Bidirectional(recurrent(library, dtype=p)),
    "outer-cell": lambda library, p: library.RNN(library.LSTMCell(3), return_state=True, dtype=p),
    "inner-cell": lambda library, p: library.RNN(library.LSTMCell(3, dtype=p), return_state=True),
    "one-of-two": lambda library, p: library.RNN([library.LSTMCell(3, dtype=p), library.GRUCell(2)]),
    "outer-two": lambda library, p: library.RNN([library.SimpleRNNCell(3), library.GRUCell(2)], dtype=p),
    "spectral": lambda library, p: library.TimeDistributed(library.SpectralNormalization(library.Dense(3)), dtype=p),
}


@pytest.mark.oracle
@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("make", [f for k, f in POLICIES.items() if k != "inner-states"])  # there Keras's symbols say another
def test_policies_inside_and_outside_differ(make, policy):
    ours, theirs = make(layers, policy), make(keras.layers, policy)
    x = torch.tensor(X)
    found = [v.dtype for v in tree.leaves(ours(x))]
    assert found == [v.dtype for v in tree.leaves(theirs(x))]
    symbolic = tree.leaves(make(layers, policy)(Input((6, 3))))
    assert [v.dtype for v in symbolic] == [str(d).removeprefix("torch.") for d in found]
    assert {w.dtype for w in ours.weights} == {torch.float32}


@pytest.mark.parametrize("make", POLICIES.values(), ids=POLICIES)
@pytest.mark.parametrize("policy", ["float64", "bfloat16"])
def test_outputs_have_the_dtype_that_symbols_promise(make, policy):
    promised = [v.dtype for v in tree.leaves(make(layers, policy)(Input((6, 3))))]
    assert [str(v.dtype).removeprefix("torch.") for v in tree.leaves(make(layers, policy)(torch.tensor(X)))] == promised
