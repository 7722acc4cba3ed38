"""The loops' kin for one batch: a training step, an evaluation, a prediction. Model takes them as its methods."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import numpy as np
import torch

from hornbeam.core.weights import to_numpy
from hornbeam.graph import tree
from hornbeam.training import data, preflight, step
from hornbeam.training.arrays import as_nest, as_tensor
from hornbeam.training.compile import named_in_order
from hornbeam.training.jit import training_stepper
from hornbeam.training.prepare import device_of, prepare
from hornbeam.training.randomness import stream_of
from hornbeam.training.results import read_results


def predict_on_batch(self: Any, x: Any) -> Any:
    """Returns the model's outputs for one batch, as NumPy arrays in the outputs' nest."""
    inputs = as_tensor(x) if isinstance(x, (np.ndarray, torch.Tensor)) else as_nest(x, "x")
    device = device_of(self)
    if device is not None and device.type != "cpu":
        inputs = tree.map_leaves(lambda t: t.to(device), inputs)
    with torch.no_grad():
        y = (
            self(inputs, training=False)
            if step.is_default(self, "predict_step")
            else self.predict_step(data.pack_x_y_sample_weight(inputs))
        )
    if type(y) is torch.Tensor and y.dtype is torch.float32 and y.device.type == "cpu" and not y.requires_grad:
        result = y.numpy()
        return result.copy() if _shares(y, inputs) else result
    return tree.map_leaves(lambda t: to_numpy(t).copy() if _shares(t, inputs) else to_numpy(t), y)


def train_on_batch(
    self: Any, x: Any, y: Any = None, sample_weight: Any = None, class_weight: Any = None, return_dict: bool = False
) -> Any:
    """Makes one training step and returns the batch's loss and metrics.

    Args:
        x, y, sample_weight: one batch.
        class_weight: weight by class number.
        return_dict: whether the results come by name.
    """
    preflight.check_compiled(self, "train_on_batch")
    source = data.Arrays(x, y, sample_weight, class_weight=class_weight)
    source.batch_size = source.rows
    prepare(self, source, None, single=True)
    self.reset_metrics()
    self.__dict__["_plan"] = step.Plan(self)
    with stream_of(self):
        batch = next(next(data.epochs(source, None, None, nullcontext)))
        logs = training_stepper(self, batch, self.jit_compile is True)(batch)
    logs = read_results(self, logs)
    return logs if return_dict else named_in_order(self, logs)


def test_on_batch(
    self: Any, x: Any, y: Any = None, sample_weight: Any = None, return_dict: bool = False  # noqa: PT028 - Keras's name, no test
) -> Any:  # fmt: skip
    """Evaluates one batch and returns its loss and metrics; arguments as in `train_on_batch`."""
    preflight.check_compiled(self, "test_on_batch")
    source = data.Arrays(x, y, sample_weight)
    source.batch_size = source.rows
    prepare(self, source, None, training=False, single=True)
    self.reset_metrics()
    with torch.no_grad():
        logs = step.stepper(self, "test_step", step.testing_step)(next(next(data.epochs(source, None, None, nullcontext))))
    logs = read_results(self, logs)
    return logs if return_dict else named_in_order(self, logs)


def _shares(output: torch.Tensor, inputs: Any) -> bool:
    place = output.untyped_storage().data_ptr()
    return any(isinstance(t, torch.Tensor) and t.untyped_storage().data_ptr() == place for t in tree.leaves(inputs))
