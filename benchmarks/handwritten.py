"""The text's models, and two more, as an expert writes them in plain torch: channels-last. Imported by the others."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class Block(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.01)

    def forward(self, x):
        return torch.relu(self.norm(self.conv(x)))


class TorchInception(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.d = Block(1, 32), Block(128, 128)
        self.b = nn.ModuleList([Block(32, 32), Block(32, 32)])
        self.c = nn.ModuleList([Block(64, 64), Block(64, 64)])
        self.f, self.drop, self.o = nn.Linear(128, 256), nn.Dropout(0.5), nn.Linear(256, 10)
        self.to(memory_format=torch.channels_last)

    def forward(self, x):
        x = F.max_pool2d(self.a(x.permute(0, 3, 1, 2)), 3)
        for pair in (self.b, self.c):
            x = torch.cat([block(x) for block in pair], 1)
        return self.o(self.drop(torch.relu(self.f(self.d(x).mean((2, 3))))))


class TorchLstm(nn.Module):
    def __init__(self):
        super().__init__()
        self.e, self.l, self.o = nn.Embedding(5000, 128), nn.LSTM(128, 128, batch_first=True), nn.Linear(128, 10)

    def forward(self, x):
        return self.o(self.l(self.e(x))[1][0][0])


class TorchCnn(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.o = nn.Conv2d(1, 16, 3), nn.Conv2d(16, 32, 3), nn.Linear(800, 10)
        self.to(memory_format=torch.channels_last)

    def forward(self, x):
        x = F.max_pool2d(torch.relu(self.a(x.permute(0, 3, 1, 2))), 2)
        x = F.max_pool2d(torch.relu(self.b(x)), 2)
        return self.o(x.permute(0, 2, 3, 1).flatten(1))


class TorchEncoderBlock(nn.Module):
    def __init__(self, width, heads, hidden):
        super().__init__()
        self.heads = heads
        self.n, self.qkv, self.p = nn.LayerNorm(width), nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.m, self.a, self.b = nn.LayerNorm(width), nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x):
        batch, length, width = x.shape
        q, k, v = self.qkv(self.n(x)).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        x = x + self.p(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, length, width))
        return x + self.b(F.gelu(self.a(self.m(x))))


class TorchTransformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.e, self.o = nn.Embedding(1000, 64), nn.Linear(64, 10)
        self.blocks = nn.Sequential(*[TorchEncoderBlock(64, 4, 128) for _ in range(2)])

    def forward(self, x):
        return self.o(self.blocks(self.e(x)).mean(1))
