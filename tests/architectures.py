"""Well-known architectures written as plain torch modules, as people write them, and two of them in layers of Hornbeam."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

import hornbeam as keras
from hornbeam import layers


class Bottleneck(nn.Module):
    """ResNet's block (He et al. 2015), with the stride in the 3x3 convolution."""

    def __init__(self, taken: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(taken, width, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = nn.Conv2d(width, 4 * width, 1, bias=False), nn.BatchNorm2d(4 * width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None
        if stride != 1 or taken != 4 * width:
            self.downsample = nn.Sequential(nn.Conv2d(taken, 4 * width, 1, stride, bias=False), nn.BatchNorm2d(4 * width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        kept = x if self.downsample is None else self.downsample(x)
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        return self.relu(self.bn3(self.conv3(y)) + kept)


class ResNet(nn.Module):
    def __init__(self, counts: tuple[int, ...] = (3, 4, 6, 3), classes: int = 1000, width: int = 64) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, width, 7, 2, 3, bias=False), nn.BatchNorm2d(width)
        self.relu, self.maxpool = nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)
        taken = width
        for stage, count in enumerate(counts):
            blocks = []
            for i in range(count):
                blocks.append(Bottleneck(taken, width << stage, 2 if stage and not i else 1))
                taken = 4 * (width << stage)
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
        self.stages = len(counts)
        self.avgpool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(taken, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        for i in range(self.stages):
            x = getattr(self, f"layer{i + 1}")(x)
        return self.fc(torch.flatten(self.avgpool(x), 1))


def resnet_of_layers(counts: tuple[int, ...] = (3, 4, 6, 3)) -> Any:
    def conv(x: Any, filters: int, size: int, stride: int = 1) -> Any:
        return layers.BatchNormalization()(layers.Conv2D(filters, size, stride, padding="same", use_bias=False)(x))

    inputs = keras.Input((224, 224, 3))
    x = layers.MaxPooling2D(3, 2, padding="same")(torch.relu(conv(inputs, 64, 7, 2)))
    for stage, count in enumerate(counts):
        width = 64 << stage
        for i in range(count):
            stride = 2 if stage and not i else 1
            kept = x if i else conv(x, 4 * width, 1, stride)
            y = torch.relu(conv(x, width, 1))
            y = torch.relu(conv(y, width, 3, stride))
            x = torch.relu(conv(y, 4 * width, 1) + kept)
    return keras.Model(inputs, layers.Dense(1000)(layers.GlobalAveragePooling2D()(x)), name="resnet")


class CausalAttention(nn.Module):
    def __init__(self, size: int, heads: int) -> None:
        super().__init__()
        self.heads, self.qkv, self.proj = heads, nn.Linear(size, 3 * size), nn.Linear(size, size)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, steps, size = x.shape
        q, k, v = self.qkv(x).view(batch, steps, 3, self.heads, size // self.heads).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.proj(y.transpose(1, 2).reshape(batch, steps, size))


class GPTBlock(nn.Module):
    def __init__(self, size: int, heads: int) -> None:
        super().__init__()
        self.ln1, self.attn, self.ln2 = nn.LayerNorm(size), CausalAttention(size, heads), nn.LayerNorm(size)
        self.mlp = nn.Sequential(nn.Linear(size, 4 * size), nn.GELU(), nn.Linear(4 * size, size))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attn(self.ln1(x))
        return x + self.mlp(self.ln2(x))


class GPT(nn.Module):
    """GPT-2 (Radford et al. 2019): the table of tokens is the last layer's weight too."""

    def __init__(self, vocabulary: int = 1000, size: int = 64, depth: int = 3, heads: int = 4, steps: int = 32) -> None:
        super().__init__()
        self.wte, self.wpe = nn.Embedding(vocabulary, size), nn.Embedding(steps, size)
        self.blocks = nn.ModuleList(GPTBlock(size, heads) for _ in range(depth))
        self.ln, self.head = nn.LayerNorm(size), nn.Linear(size, vocabulary, bias=False)
        self.head.weight = self.wte.weight

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.wte(tokens) + self.wpe(torch.arange(tokens.shape[1]))
        for block in self.blocks:
            x = block(x)
        return self.head(self.ln(x))


class DoubleConv(nn.Sequential):
    def __init__(self, taken: int, given: int) -> None:
        super().__init__(
            nn.Conv2d(taken, given, 3, padding=1), nn.BatchNorm2d(given), nn.ReLU(inplace=True),
            nn.Conv2d(given, given, 3, padding=1), nn.BatchNorm2d(given), nn.ReLU(inplace=True),
        )  # fmt: skip


class UNet(nn.Module):
    """Ronneberger et al. 2015, with padding."""

    def __init__(self, widths: tuple[int, ...] = (8, 16, 32), classes: int = 2) -> None:
        super().__init__()
        self.down = nn.ModuleList(DoubleConv(a, b) for a, b in zip((3, *widths), widths, strict=False))
        self.pool, self.middle = nn.MaxPool2d(2), DoubleConv(widths[-1], 2 * widths[-1])
        self.up = nn.ModuleList(nn.ConvTranspose2d(2 * w, w, 2, 2) for w in reversed(widths))
        self.merge = nn.ModuleList(DoubleConv(2 * w, w) for w in reversed(widths))
        self.out = nn.Conv2d(widths[0], classes, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        skips = []
        for block in self.down:
            x = block(x)
            skips.append(x)
            x = self.pool(x)
        x = self.middle(x)
        for up, merge, skip in zip(self.up, self.merge, reversed(skips), strict=True):
            x = merge(torch.cat([skip, up(x)], 1))
        return self.out(x)


def encoder(depth: int = 12, size: int = 768, heads: int = 12, inner: int = 3072) -> nn.Module:
    """The encoder of BERT (Devlin et al. 2018) from torch's own layer."""
    layer = nn.TransformerEncoderLayer(size, heads, inner, activation="gelu", batch_first=True)
    return nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)


def encoder_of_layers(steps: int = 512, depth: int = 12, size: int = 768, heads: int = 12, inner: int = 3072) -> Any:
    inputs = x = keras.Input((steps, size))
    for _ in range(depth):
        y = layers.MultiHeadAttention(heads, size // heads, dropout=0.1)(x, x)
        x = layers.LayerNormalization()(x + layers.Dropout(0.1)(y))
        y = layers.Dense(size)(layers.Dense(inner, activation="gelu")(x))
        x = layers.LayerNormalization()(x + layers.Dropout(0.1)(y))
    return keras.Model(inputs, x, name="encoder")
