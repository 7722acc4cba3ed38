"""Connectionist temporal classification: sequences of labels without known positions."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional as F

from hornbeam.losses.arguments import as_float, as_tensor
from hornbeam.losses.loss import LOSSES, FunctionLoss


def ctc(y_true: Any, y_pred: Any) -> torch.Tensor:
    """Returns the CTC loss of each sequence (Graves et al., 2006). Class 0 is both the blank and the padding of targets.

    Args:
        y_true: class numbers, shape (batch, target length), padded with 0.
        y_pred: logits, shape (batch, time steps, classes).

    >>> round(ctc([[1]], [[[0.0, 0.0]]]).item(), 4)
    0.6931
    """
    y_pred, y_true = as_float(y_pred), as_tensor(y_true)
    if y_true.ndim != 2 or y_pred.ndim != 3 or y_true.shape[0] != y_pred.shape[0]:
        raise ValueError(
            f"Loss 'ctc' needs targets of shape (batch, target length) and logits of shape (batch, time steps, classes). "
            f"Received: {tuple(y_true.shape)} and {tuple(y_pred.shape)}."
        )
    y_true = y_true.to(device=y_pred.device, dtype=torch.int64)
    lengths = (y_true != 0).sum(-1)
    steps = torch.full_like(lengths, y_pred.shape[1])
    wide = y_pred if y_pred.dtype is torch.float64 else y_pred.float()  # torch's kernel takes no half precision
    values = F.ctc_loss(wide.log_softmax(-1).transpose(0, 1), y_true, steps, lengths, blank=0, reduction="none")
    return values.to(y_pred.dtype)


class CTC(FunctionLoss):
    """The CTC loss of sequences.

    Args:
        reduction: see `Loss`.
        name: a name.
        dtype: see `Loss`.

    >>> round(float(CTC()([[1]], [[[0.0, 0.0]]])), 4)
    0.6931
    """

    fn = staticmethod(ctc)

    def __init__(self, reduction: str | None = "sum_over_batch_size", name: str = "ctc", dtype: Any = None) -> None:
        super().__init__(name, reduction, dtype)


LOSSES.add(ctc)
LOSSES.add(CTC)
