"""Whole architectures against published figures and counts by hand, as plain modules and as models."""

from __future__ import annotations

import time

import pytest
import torch

from architectures import GPT, ResNet, UNet, encoder, encoder_of_layers, resnet_of_layers
from hornbeam.inspect.cost import cost_of
from hornbeam.inspect.table import weights_of


def resnet50_by_hand() -> int:
    """4.09 billion multiply-adds at 224 x 224, as published: convolutions and the last layer.

    A convolution makes (places of its output) x (channels in) x (channels out) x (places of its kernel).
    """
    total = 112**2 * 3 * 64 * 7**2
    taken = 64
    for count, width, size in ((3, 64, 56), (4, 128, 28), (6, 256, 14), (3, 512, 7)):
        before = size if width == 64 else 2 * size  # the first block's stride lies in its second convolution
        total += size**2 * taken * 4 * width  # what the first block adds is projected
        for i in range(count):
            total += (size if i else before) ** 2 * taken * width
            total += size**2 * width * width * 3**2
            total += size**2 * width * 4 * width
            taken = 4 * width
    return total + 2048 * 1000


def test_resnet_50() -> None:
    by_hand = resnet50_by_hand()
    assert by_hand == 4_089_184_256
    cost = cost_of(ResNet(), (None, 3, 224, 224))
    assert cost.macs_forward == by_hand
    assert cost.macs_backward == 2 * by_hand - 112**2 * 3 * 64 * 7**2  # the picture takes no gradient
    assert cost.params == 25_557_032  # as published
    model = resnet_of_layers()
    ours = model.cost()
    assert ours.macs_forward == by_hand
    assert ours.macs_backward == cost.macs_backward
    assert all(w._lazy for w in weights_of(model))


def test_bert_base_at_512_tokens() -> None:
    """Each of 12 layers: four projections of 768 to 768, scores and sums of 512 x 512 x 768, and 768 to 3,072 and back."""
    steps, size, inner = 512, 768, 3072
    by_hand = 12 * (4 * steps * size * size + 2 * steps * steps * size + 2 * steps * size * inner)
    assert by_hand == 48_318_382_080  # 96.6 GFLOPs
    plain, ours = cost_of(encoder(), (None, steps, size)), encoder_of_layers().cost()
    assert plain.macs_forward == ours.macs_forward == by_hand
    assert plain.params == ours.params == 12 * (4 * size * size + 4 * size + 2 * size * inner + size + inner + 4 * size)
    # with dropout inside, attention is four products in torch's plain form; the inputs of the first layer take no gradient
    first = 3 * steps * size * size
    assert ours.macs_backward == 2 * by_hand - first


def test_gpt_counts_tied_weights_once() -> None:
    net = GPT(vocabulary=1000, size=64, depth=3, heads=4, steps=32)
    cost = cost_of(net, torch.zeros(2, 32, dtype=torch.long), batch_size=2)
    each = 4 * 32 * 64 * 64 + 2 * 32 * 32 * 64 + 2 * 32 * 64 * 256
    assert cost.macs_forward == 2 * (3 * each + 32 * 64 * 1000)
    assert cost.params == sum(p.numel() for p in net.parameters())
    assert cost.of(net.head).shared == "wte"
    assert cost.of(net.head).weight_bytes == 0
    assert cost.gradient_bytes == cost.weight_bytes


def test_unet() -> None:
    cost = cost_of(UNet((8, 16, 32)), (None, 3, 32, 32))
    by_hand, taken, size = 0, 3, 32
    for width in (8, 16, 32):
        by_hand += size**2 * 9 * (taken * width + width * width)
        taken, size = width, size // 2
    by_hand += size**2 * 9 * (32 * 64 + 64 * 64)
    for width in (32, 16, 8):
        by_hand += size**2 * 2 * width * width * 4  # a transposed convolution lays its kernel on what it takes
        size *= 2
        by_hand += size**2 * 9 * (2 * width * width + width * width)
    assert cost.macs_forward == by_hand + 32**2 * 8 * 2


def test_the_cost_of_resnet_50_takes_less_than_three_seconds() -> None:
    net = ResNet()
    begun = time.process_time()
    cost_of(net, (None, 3, 224, 224), batch_size=64)
    assert time.process_time() - begun < 3


@pytest.mark.parametrize("batch", [1, 1000])
def test_large_batches_cost_nothing_to_predict(batch: int) -> None:
    assert cost_of(ResNet((1, 1)), (None, 3, 64, 64), batch_size=batch).batch_size == batch
