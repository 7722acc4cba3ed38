"""Convolutions against Keras, and what only our own promise: layouts, padding left to the kernel, hints."""

import copy

import pytest
import torch

from hornbeam import layers
from layer_oracle import agree, contract, numbers

ONE, TWO, THREE = numbers(2, 7, 4), numbers(2, 7, 6, 4), numbers(2, 5, 4, 5, 4)
FIRST = {"data_format": "channels_first"}
CASES = [
    ("Conv1D", {"filters": 3, "kernel_size": 3}, ONE),
    ("Conv1D", {"filters": 3, "kernel_size": 3, "padding": "causal", "dilation_rate": 2}, ONE),
    ("Conv1D", {"filters": 3, "kernel_size": 2, "padding": "causal", "strides": 2}, ONE),
    ("Conv1D", {"filters": 6, "kernel_size": 2, "padding": "same", "groups": 2, **FIRST}, numbers(2, 4, 7)),
    ("Conv2D", {"filters": 3, "kernel_size": (3, 2), "activation": "relu", "kernel_regularizer": "l2"}, TWO),
    ("Conv2D", {"filters": 3, "kernel_size": 3, "strides": 2, "padding": "same"}, TWO),
    ("Conv2D", {"filters": 3, "kernel_size": 4, "padding": "SAME", "use_bias": False}, TWO),
    ("Conv2D", {"filters": 4, "kernel_size": 3, "dilation_rate": (2, 1), "groups": 2, "padding": "same"}, TWO),
    ("Conv2D", {"filters": 3, "kernel_size": 2, "strides": (3, 1), "padding": "same", **FIRST}, numbers(2, 4, 7, 6)),
    ("Conv2D", {"filters": 3, "kernel_size": 1, "strides": 3, "padding": "same", "activity_regularizer": "l2"}, TWO),
    ("Conv3D", {"filters": 3, "kernel_size": 2, "strides": 2, "padding": "same"}, THREE),
    ("Conv3D", {"filters": 3, "kernel_size": (1, 2, 3), **FIRST}, numbers(2, 4, 5, 4, 5)),
    ("DepthwiseConv1D", {"kernel_size": 3, "strides": 2, "padding": "same"}, ONE),
    ("DepthwiseConv2D", {"kernel_size": 3, "depth_multiplier": 2, "activation": "tanh"}, TWO),
    ("DepthwiseConv2D", {"kernel_size": 2, "padding": "same", "depth_multiplier": 3, **FIRST}, numbers(2, 4, 7, 6)),
    ("SeparableConv1D", {"filters": 3, "kernel_size": 3, "depth_multiplier": 2}, ONE),
    ("SeparableConv2D", {"filters": 3, "kernel_size": 3, "strides": 2, "padding": "same", "pointwise_regularizer": "l1"}, TWO),
    ("SeparableConv2D", {"filters": 3, "kernel_size": 3, "use_bias": False, **FIRST}, numbers(2, 4, 7, 6)),
    ("Conv1DTranspose", {"filters": 3, "kernel_size": 3, "strides": 2, "padding": "same"}, ONE),
    ("Conv1DTranspose", {"filters": 3, "kernel_size": 5, "strides": 2, "padding": "same"}, ONE),
    ("Conv1DTranspose", {"filters": 3, "kernel_size": 3, "dilation_rate": 2, "padding": "same"}, ONE),
    ("Conv1DTranspose", {"filters": 3, "kernel_size": 2, "strides": 4, **FIRST}, numbers(2, 4, 7)),
    ("Conv2DTranspose", {"filters": 3, "kernel_size": (3, 4), "strides": 2, "activation": "relu"}, TWO),
    ("Conv2DTranspose", {"filters": 3, "kernel_size": 3, "strides": 2, "padding": "same", "output_padding": 1}, TWO),
    (
        "Conv2DTranspose",
        {"filters": 3, "kernel_size": 3, "strides": 2, "padding": "same", "output_padding": 0, **FIRST},
        numbers(2, 4, 5, 6),
    ),
    ("Conv2DTranspose", {"filters": 3, "kernel_size": 3, "strides": 2, "output_padding": 1, "use_bias": False}, TWO),
    ("Conv3DTranspose", {"filters": 2, "kernel_size": 2, "strides": (2, 1, 3)}, numbers(2, 3, 4, 3, 4)),
]


@pytest.mark.oracle
@pytest.mark.parametrize(("name", "kwargs", "x"), CASES)
def test_agrees_with_keras(name, kwargs, x):
    agree(name, kwargs, x)


@pytest.mark.parametrize(
    ("name", "kwargs", "x"), [next(c for c in CASES if c[0] == n) for n in dict.fromkeys(c[0] for c in CASES)]
)
def test_contract(name, kwargs, x):
    layer = getattr(layers, name)(**kwargs)
    layer(torch.tensor(x))
    contract(layer, x)


@pytest.mark.parametrize("size", range(4, 10))
@pytest.mark.parametrize(("kernel", "stride"), [(3, 2), (2, 2), (5, 3), (1, 2), (2, 1)])
def test_transposed_is_the_gradient_of_a_convolution(size, kernel, stride):
    """In each padding, the transposed convolution of g is the gradient of <conv(x), g>, where sizes allow it."""
    for padding in ("same", "valid"):
        transposed = layers.Conv1DTranspose(3, kernel, strides=stride, padding=padding, use_bias=False)
        g = torch.tensor(numbers(2, size, 4))
        y = transposed(g)
        conv = layers.Conv1D(4, kernel, strides=stride, padding=padding, use_bias=False)
        x = torch.zeros(2, y.shape[1], 3, requires_grad=True)
        assert conv(x).shape == g.shape
        with torch.no_grad():
            conv.kernel.copy_(transposed.kernel)
        (gradient,) = torch.autograd.grad((conv(x) * g).sum(), x)
        torch.testing.assert_close(y, gradient)


def test_channels_last_flows_without_copies():
    x = torch.randn(4, 28, 28, 1)
    conv = layers.Conv2D(8, 3, padding="same")
    for layer in (
        conv,
        layers.BatchNormalization(),
        torch.relu,
        layers.MaxPooling2D(3),
        layers.AveragePooling2D(2, 2, "same"),
        layers.Conv2D(4, 3),
    ):
        x = layer(x)
        assert x.is_contiguous()
    assert conv.kernel.permute(3, 2, 0, 1).is_contiguous(memory_format=torch.channels_last)
    assert layers.Conv1D(4, 3)(torch.randn(2, 9, 3)).is_contiguous()
    assert layers.DepthwiseConv2D(3, padding="same")(torch.randn(2, 9, 9, 3)).is_contiguous()


def test_memory_format_switches_the_storage():
    layer, x = layers.Conv2D(4, 3), torch.randn(2, 8, 8, 3)
    y = layer(x)
    fast = layer.kernel.stride()
    layer.to(memory_format=torch.contiguous_format)
    assert layer.kernel.is_contiguous()
    assert copy.deepcopy(layer).kernel.is_contiguous()
    torch.testing.assert_close(layer(x), y)
    assert torch.nn.utils.parameters_to_vector(layer.parameters()).shape == (112,)
    layer.to(torch.bfloat16)
    assert layer.kernel.is_contiguous()
    layer.to(memory_format=torch.channels_last)
    assert layer.kernel.stride() == fast
    for unbuilt, wanted in ((torch.contiguous_format, (36, 12, 4, 1)), (torch.channels_last, fast)):
        later = layers.Conv2D(4, 3).to(memory_format=unbuilt)
        later(x)
        assert later.kernel.stride() == wanted


def test_integer_images_are_taken():
    assert layers.Conv2D(2, 3)(torch.ones(1, 5, 5, 3, dtype=torch.uint8)).dtype is torch.float32


def test_rank_defaults():
    assert layers.Conv2D(1, 1).strides == (1, 1)
    assert layers.Conv2D.__init__.__defaults__[0] == (1, 1)
    assert layers.Conv1D.__init__.__defaults__[0] == 1

    class Named(layers.Conv2D):
        def __init__(self, width, **kwargs):
            super().__init__(width, 3, **kwargs)

    assert Named(2)(torch.ones(1, 5, 5, 1)).shape == (1, 3, 3, 2)


X = torch.zeros(2, 8, 8, 3)
BUILT = layers.Conv2D(4, 3, name="built")
BUILT(X)
MISTAKES = [
    (
        lambda: BUILT(torch.zeros(2, 3, 8, 8)),
        "expects size 3 on axis 3.*data_format='channels_first', or permute the input: x.permute\\(0, 2, 3, 1\\)",
    ),
    (lambda: BUILT(X[0]), "expects an input of rank 4.*Add a batch axis: x\\[None\\]"),
    (lambda: BUILT(X[..., 0]), "expects an input of rank 4.*x\\[\\.\\.\\., None\\]"),
    (lambda: layers.Conv1D(4, 3)(X), "expects an input of rank 3.*Conv2D takes inputs of rank 4"),
    (
        lambda: layers.Conv2D(4, 9)(layers.Input((5, 5, 3))),
        "window of \\(9, 9\\) does not fit into an input of shape \\(None, 5, 5, 3\\)",
    ),
    (lambda: layers.Conv2D(4, 3)(layers.Input((5, 5, None))), "known number of channels \\(axis 3\\)"),
    (lambda: layers.Conv2D(4, 3, padding="sam"), "Did you mean 'same'"),
    (lambda: layers.DepthwiseConv1D(3, padding="causal"), "Only Conv1D knows it"),
    (lambda: layers.Conv2D(4, 3, data_format="channel_last"), "Did you mean 'channels_last'"),
    (lambda: layers.Conv2D(4, (3, 3, 3)), "`kernel_size` takes one positive integer, or a tuple of 2"),
    (lambda: layers.Conv2D(0, 3), "`filters` must be a positive integer"),
    (lambda: layers.Conv2D(3, 3, groups=2), "`filters` must be a multiple of `groups`"),
    (lambda: layers.Conv2D(4, 3, groups=2)(X), "number of channels must be a multiple of `groups`"),
    (lambda: layers.Conv2D(4, 3, 2, dilation_rate=2), "either `strides` or `dilation_rate`"),
    (lambda: layers.Conv2DTranspose(4, 3, 2, output_padding=2), "`output_padding` must be below `strides`"),
]


@pytest.mark.parametrize(("mistake", "message"), MISTAKES)
def test_mistakes_are_explained(mistake, message):
    with pytest.raises(ValueError, match=message):
        mistake()
