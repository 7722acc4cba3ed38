"""What all tests share: one thread, and Keras on torch."""

from __future__ import annotations

import os

os.environ.setdefault("KERAS_BACKEND", "torch")

import pytest
import torch

import hornbeam

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def names_start_anew() -> None:
    """Automatic names are numbered from the start in every test, so that no test depends on those before it."""
    hornbeam.utils.clear_session()
