"""Attention layers and EinsumDense against Keras: outputs, scores, gradients, masks, configs."""

import copy
import pickle

import numpy as np
import pytest
import torch

from hornbeam import Input, Model, layers
from hornbeam.graph import tree
from layer_oracle import close, contract, keras, numbers

Q, V, K = numbers(2, 4, 6), numbers(2, 5, 7, seed=1), numbers(2, 5, 3, seed=2)
SCORES = {"return_attention_scores": True}
QUERY_MASK = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1]]).bool()
VALUE_MASK = torch.tensor([[1, 1, 1, 0, 0], [0, 0, 0, 0, 1]]).bool()
NOTHING = torch.tensor([[1, 1, 1, 0, 0], [0, 0, 0, 0, 0]]).bool()
GIVEN = torch.tensor(numbers(2, 4, 5, seed=3) > -0.5)
CALLS = [
    {},
    {"use_causal_mask": True},
    {"value_mask": VALUE_MASK},
    {"query_mask": QUERY_MASK, "value_mask": NOTHING},
    {"attention_mask": GIVEN},
    {"key_mask": VALUE_MASK, "use_causal_mask": True},
]


def both(name, kwargs, inputs):
    """Returns our layer and Keras's, with the same random weights."""
    ours, theirs = getattr(layers, name)(**kwargs, name="it"), getattr(keras.layers, name)(**kwargs, name="it")
    ours(*tree.map_leaves(torch.tensor, inputs))
    theirs(*inputs)
    assert [(w.path, tuple(w.shape)) for w in ours.weights] == [(w.path, tuple(w.shape)) for w in theirs.weights]
    values = [numbers(*w.shape, seed=i) for i, w in enumerate(ours.weights)]
    ours.set_weights(values)
    theirs.set_weights(values)
    assert ours.get_config() == theirs.get_config()
    assert type(ours).from_config(ours.get_config()).get_config() == ours.get_config()
    return ours, theirs


def same(ours, theirs, inputs, query_mask=None, **call):
    results = []
    for layer in (ours, theirs):
        given = tree.map_leaves(lambda v: torch.tensor(v, requires_grad=True), inputs)
        if query_mask is not None:
            tree.leaves(given)[0]._keras_mask = query_mask  # Keras's MultiHeadAttention overlooks one that is passed
        flat = tree.leaves(layer(*given, **call))
        weights = [getattr(w, "value", w) for w in layer.trainable_weights]
        wanted = [*tree.leaves(given), *weights]
        results.append((flat, torch.autograd.grad(sum(v.square().sum() for v in flat), wanted, allow_unused=True)))
    (mine, my_gradients), (kerass, their_gradients) = results
    for a, b in zip(mine, kerass, strict=True):
        close(a, b)
    for a, b in zip(my_gradients, their_gradients, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            close(a, b, 1e-3)


@pytest.mark.oracle
@pytest.mark.parametrize(
    "kwargs",
    [
        {},
        {"value_dim": 5, "use_bias": False},
        {"output_shape": (2, 4)},
        {"output_shape": 9, "use_gate": True},
        {"sliding_window": 2},
        {"kernel_initializer": "he_normal", "kernel_regularizer": "l2", "activity_regularizer": "l2"},
    ],
)
def test_multi_head_attention(kwargs):
    ours, theirs = both("MultiHeadAttention", {"num_heads": 2, "key_dim": 3, **kwargs}, (Q, V))
    assert ours.get_build_config() == theirs.get_build_config()
    for call in CALLS:
        same(ours, theirs, (Q, V), **call)
        same(ours, theirs, (Q, V), **call, **SCORES)
    assert ours.compute_output_shape((None, None, 6), (None, None, 7)) == theirs.compute_output_shape(
        (None, None, 6), (None, None, 7)
    )
    ours(torch.tensor(Q), torch.tensor(V))
    theirs(Q, V)
    assert len(ours.losses) == len(theirs.losses)


@pytest.mark.oracle
def test_keys_and_heads_in_masks():
    ours, theirs = both("MultiHeadAttention", {"num_heads": 2, "key_dim": 3}, (Q, V, K))
    same(ours, theirs, (Q, V, K))
    same(ours, theirs, (Q, V, K), attention_mask=torch.tensor(numbers(2, 2, 4, 5) > 0))


@pytest.mark.oracle
@pytest.mark.parametrize(
    ("axes", "value", "mask"), [((2,), (2, 3, 5, 6), (4, 5)), (1, (2, 7, 4, 6), (3, 7)), (None, (2, 3, 5, 6), (2, 3, 4, 3, 5))]
)
def test_attention_axes(axes, value, mask):
    inputs = numbers(2, 3, 4, 6), numbers(*value)
    ours, theirs = both("MultiHeadAttention", {"num_heads": 2, "key_dim": 3, "attention_axes": axes}, inputs)
    same(ours, theirs, inputs)
    same(ours, theirs, inputs, **SCORES)
    same(ours, theirs, inputs, attention_mask=torch.tensor(numbers(*mask) > -1))


@pytest.mark.oracle
@pytest.mark.parametrize(
    "kwargs", [{}, {"use_gate": True, "sliding_window": 2}, {"use_bias": False}, {"activity_regularizer": "l2"}]
)
def test_group_query_attention(kwargs):
    ours, theirs = both("GroupQueryAttention", {"head_dim": 3, "num_query_heads": 4, "num_key_value_heads": 2, **kwargs}, (Q, V))
    assert ours.get_build_config() == theirs.get_build_config()
    for call in CALLS:
        same(ours, theirs, (Q, V), **call)
        same(ours, theirs, (Q, V), **call, **SCORES)
    assert len(ours.losses) == len(theirs.losses)


@pytest.mark.oracle
@pytest.mark.parametrize(
    ("name", "kwargs"),
    [
        ("Attention", {}),
        ("Attention", {"use_scale": True}),
        ("Attention", {"score_mode": "concat"}),
        ("Attention", {"score_mode": "concat", "use_scale": True}),
        ("AdditiveAttention", {}),
        ("AdditiveAttention", {"use_scale": False}),
    ],
)
@pytest.mark.parametrize("count", [2, 3])
def test_attention_without_projections(name, kwargs, count):
    inputs = [Q, numbers(2, 5, 6, seed=4), numbers(2, 5, 6, seed=5)][:count]
    ours, theirs = both(name, kwargs, (inputs,))
    for call in (
        {},
        {"use_causal_mask": True},
        {"mask": [QUERY_MASK, VALUE_MASK]},
        {"mask": [None, NOTHING], "use_causal_mask": True},
    ):
        same(ours, theirs, (inputs,), **call)
        same(ours, theirs, (inputs,), **call, **SCORES)
    shapes = [(None, *x.shape[1:]) for x in inputs]
    assert ours.compute_output_shape(shapes) == theirs.compute_output_shape(shapes)
    assert ours.compute_mask(inputs, [QUERY_MASK, VALUE_MASK]) is QUERY_MASK
    assert ours.compute_mask(inputs, None) is None


def test_masks_arrive_by_themselves():
    tokens, words = Input((None,), dtype="int64"), layers.Embedding(9, 6, mask_zero=True)
    x = words(tokens)
    heads = layers.MultiHeadAttention(2, 3)
    plain = layers.Attention()
    model = Model(tokens, [heads(x, x), plain([x, x])])
    short, long = torch.tensor([[4, 5, 0]]), torch.tensor([[4, 5, 0, 0, 0]])
    for a, b in zip(model(short), model(long), strict=True):
        torch.testing.assert_close(a[:, :2], b[:, :2])


@pytest.mark.parametrize(
    "make",
    [
        lambda: layers.MultiHeadAttention(2, 3, use_gate=True),
        lambda: layers.GroupQueryAttention(3, 4, 2),
        lambda: layers.Attention(),
    ],
)
@pytest.mark.parametrize("call", [{}, {"use_causal_mask": True}, SCORES], ids=str)
def test_torch_habits(make, call):
    layer = make()
    first, second = torch.tensor(Q), torch.tensor(numbers(2, 5, 6))
    args = ([first, second],) if isinstance(layer, layers.Attention) else (first, second)
    y = layer(*args, **call)
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        torch.testing.assert_close(other(*args, **call), y)
    torch._dynamo.reset()
    torch.testing.assert_close(torch.compile(layer, fullgraph=True, backend="eager")(*args, **call), y)
    batch = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    shapes = [[batch, batch]] if len(args) == 1 else [batch, batch]
    names = layer._signature.names[: len(args)]
    dynamic = {**dict(zip(names, shapes, strict=True)), **dict.fromkeys(call)}
    exported = torch.export.export(layer, args, call, dynamic_shapes=dynamic).module()
    more = torch.tensor(numbers(3, 7, 6)), torch.tensor(numbers(3, 8, 6))
    args = (list(more),) if len(args) == 1 else more
    torch.testing.assert_close(exported(*args, **call), layer(*args, **call))
    doubles = tree.map_leaves(torch.Tensor.double, args)
    assert tree.leaves(copy.deepcopy(layer).double()(*doubles, **call))[0].dtype is torch.float64
    half = type(layer).from_config({**layer.get_config(), "dtype": "mixed_bfloat16"})
    assert tree.leaves(half(*args, **call))[0].dtype is torch.bfloat16


def test_symbolic_shapes():
    a, b = Input((None, 6)), Input((None, 6))
    y, scores = layers.MultiHeadAttention(2, 3)(a, b, return_attention_scores=True)
    assert (y.shape, scores.shape) == ((None, None, 6), (None, 2, None, None))
    y, scores = layers.Attention()([a, b], return_attention_scores=True)
    assert (y.shape, scores.shape) == ((None, None, 6), (None, None, None))


@pytest.mark.parametrize("seed", [None, 3])
def test_dropout(seed):
    for layer, args in (
        (layers.MultiHeadAttention(2, 3, dropout=0.5, seed=seed), (torch.tensor(Q), torch.tensor(V))),
        (layers.Attention(dropout=0.5, seed=seed), ([torch.tensor(Q), torch.tensor(Q)],)),
    ):
        calm = layer(*args)
        torch.testing.assert_close(layer(*args), calm)
        assert not torch.equal(layer(*args, training=True), calm)
        again = type(layer).from_config(layer.get_config())
        again(*args)
        again.set_weights(layer.get_weights())
        fresh = type(layer).from_config(layer.get_config())
        fresh(*args)
        fresh.set_weights(layer.get_weights())
        assert torch.equal(again(*args, training=True), fresh(*args, training=True)) == (seed is not None)


EQUATIONS = [
    ("ab,bc->ac", 64, None, (2, 12)),
    ("abc,cd->abd", (None, 5), "d", (2, 3, 12)),
    ("...x,xy->...y", 5, "y", (2, 3, 12)),
    ("abc,cde->abde", (None, 8, 4), "de", (2, 3, 12)),
    ("abc,cde->abde", (None, 8, 4), "e", (2, 3, 12)),
    ("abcd,cde->abe", (None, 7), "e", (2, 4, 2, 3)),
    ("ab...,bc->ac...", 3, "c", (2, 4, 5, 6)),
    ("...ab,bc->...ac", (None, 3), "c", (2, 2, 4, 5)),
    ("abc,bd->adc", (9, None), "d", (2, 4, 5)),
    ("abc,bcd->abd", (4, 7), "bd", (2, 4, 5)),
]


@pytest.mark.oracle
@pytest.mark.parametrize(("equation", "output_shape", "bias_axes", "shape"), EQUATIONS)
def test_einsum_dense(equation, output_shape, bias_axes, shape):
    x = numbers(*shape)
    kwargs = {"equation": equation, "output_shape": output_shape, "bias_axes": bias_axes, "activation": "tanh"}
    ours, theirs = both("EinsumDense", kwargs, (x,))
    same(ours, theirs, (x,))
    y = ours(torch.tensor(x))
    assert ours.compute_output_shape(shape) == tuple(y.shape)
    assert ours(Input(shape[1:])).shape == (None, *y.shape[1:])


def test_einsum_dense_contract():
    layer = layers.EinsumDense("abc,cde->abde", (None, 2, 3), bias_axes="de")
    layer(torch.tensor(Q))
    contract(layer, Q)


@pytest.mark.oracle
def test_initial_scale_follows_the_equation():
    for equation, output_shape, shape in (
        ("abc,cde->abde", (None, 40, 30), (2, 4, 50)),
        ("abcd,cde->abe", (None, 50), (2, 4, 40, 30)),
    ):
        scales = []
        for library in (layers, keras.layers):
            layer = library.EinsumDense(equation, output_shape, kernel_initializer="he_normal")
            layer.build(shape)
            scales.append(np.std(layer.get_weights()[0]))
        assert scales[0] == pytest.approx(scales[1], rel=0.02)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: layers.Attention()(torch.ones(2, 3, 4)), r"is called on a list.*Received: one tensor"),
        (lambda: layers.Attention()([torch.ones(2, 3, 4)]), r"Received: 1 input"),
        (lambda: layers.Attention()([torch.ones(2, 3, 4)] * 2, mask=torch.ones(2, 3)), "takes its masks as a list"),
        (lambda: layers.Attention(score_mode="sum"), "'dot' or 'concat'"),
        (lambda: layers.MultiHeadAttention(0, 3), "`num_heads` must be a positive integer"),
        (lambda: layers.MultiHeadAttention(2, 3, dropout=3), "`dropout` must be a number from 0 to 1"),
        (lambda: layers.MultiHeadAttention(2, 3, sliding_window=0), "`sliding_window` must be a positive integer or None"),
        (lambda: layers.GroupQueryAttention(3, 5, 2), "a multiple of num_key_value_heads=2"),
        (lambda: layers.EinsumDense("ab->c", 3), "`equation` has the form"),
        (lambda: layers.EinsumDense("ab,cd->bd", 3), "axis 'c' of the kernel is neither"),
        (lambda: layers.EinsumDense("ab,bc->ac", (3, 4)), "needs a size .or None. for each of 'c'"),
        (lambda: layers.EinsumDense("ab,bc->ac", 3, bias_axes="z"), "'z' of `bias_axes`"),
        (lambda: layers.EinsumDense("abc,cd->abd", (9, 3))(torch.ones(2, 4, 5)), "axis 'b' has size 4 before and 9"),
        (lambda: layers.EinsumDense("abc,cd->abd", (None, 3))(torch.ones(2, 3)), "needs inputs of rank 3"),
    ],
)
def test_mistakes(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("make", [lambda: layers.MultiHeadAttention(2, 4), lambda: layers.GroupQueryAttention(4, 2, 1)])
def test_keys_and_values_of_other_lengths_are_refused(make):
    with pytest.raises(ValueError, match=r"key for each value. Received: value of shape \(2, 6, 8\), key of shape \(2, 7, 8\)"):
        make()(torch.ones(2, 5, 8), torch.ones(2, 6, 8), torch.ones(2, 7, 8))
    with pytest.raises(ValueError, match=r"value of shape \(None, 6, 8\), key of shape \(None, 7, 8\)"):
        make()(Input((5, 8)), Input((6, 8)), Input((7, 8)))
    assert make()(Input((5, 8)), Input((None, 8)), Input((None, 8))).shape == (None, 5, 8)
