"""What all tests share: one thread, and Keras on torch."""

from __future__ import annotations

import os

os.environ.setdefault("KERAS_BACKEND", "torch")

import torch

torch.set_num_threads(1)
