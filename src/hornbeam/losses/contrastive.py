"""The circle loss: embeddings of one class together, of different classes apart."""

from __future__ import annotations

from typing import Any

import torch

from hornbeam.losses.arguments import as_float, as_tensor
from hornbeam.losses.loss import LOSSES, FunctionLoss


def _masked_logsumexp(x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    floor = torch.finfo(x.dtype).min / 4
    return torch.logsumexp(torch.where(mask, x, floor), dim=1)


def circle(
    y_true: Any,
    y_pred: Any,
    ref_labels: Any = None,
    ref_embeddings: Any = None,
    remove_diagonal: bool = True,
    gamma: float = 80,
    margin: float = 0.4,
) -> torch.Tensor:
    """Returns the circle loss of each sample against all the others (Sun et al., 2020).

    Samples without a partner or without an opponent have the value 0, and a mean does not count them.

    Args:
        y_true: class numbers, shape (batch,) or (batch, 1).
        y_pred: embeddings of length 1, shape (batch, d).
        ref_labels: class numbers to compare with; those of the batch unless given.
        ref_embeddings: their embeddings.
        remove_diagonal: whether a sample is not compared with the reference at its own place.
        gamma: the scale.
        margin: the relaxation, between 0 and 1.

    >>> circle([0, 1], [[1.0, 0.0], [0.0, 1.0]]).tolist()
    [0.0, 0.0]
    """
    y_pred = as_float(y_pred)
    y_true = as_tensor(y_true).to(y_pred.device).reshape(-1, 1)
    if y_pred.ndim != 2 or y_true.shape[0] != y_pred.shape[0]:
        raise ValueError(
            f"Loss 'circle' needs class numbers of shape (batch,) and embeddings of shape (batch, d). "
            f"Received: {tuple(y_true.shape)} and {tuple(y_pred.shape)}."
        )
    references = y_pred if ref_embeddings is None else as_float(ref_embeddings).to(y_pred)
    ref = y_true if ref_labels is None else as_tensor(ref_labels).to(y_pred.device).reshape(-1, 1)
    similarity = y_pred @ references.t()
    positive = y_true == ref.t()
    negative = ~positive
    if remove_diagonal:
        positive = positive & ~torch.eye(*positive.shape, dtype=torch.bool, device=positive.device)
    distance = (1 - similarity).relu()
    push = (distance + margin).relu() * (distance - margin) * gamma
    pull = (1 + margin - distance).relu() * (1 - margin - distance) * gamma
    values = torch.nn.functional.softplus(_masked_logsumexp(push, positive) + _masked_logsumexp(pull, negative))
    comparable = positive.any(1) & negative.any(1)
    values = torch.where(comparable, values, 0)
    values._keras_mask = comparable  # type: ignore[attr-defined]
    return values


class Circle(FunctionLoss):
    """The circle loss within a batch of embeddings, which should have length 1.

    Args:
        gamma: the scale.
        margin: the relaxation, between 0 and 1.
        remove_diagonal: whether a sample is not compared with itself.
        reduction: see `Loss`.
        name: a name.
        dtype: see `Loss`.

    >>> float(Circle()([0, 1], [[1.0, 0.0], [0.0, 1.0]]))
    0.0
    """

    fn = staticmethod(circle)
    _options = ("remove_diagonal", "gamma", "margin")

    def __init__(
        self,
        gamma: float = 80.0,
        margin: float = 0.4,
        remove_diagonal: bool = True,
        reduction: str | None = "sum_over_batch_size",
        name: str = "circle",
        dtype: Any = None,
    ) -> None:
        super().__init__(name, reduction, dtype)
        self.gamma, self.margin, self.remove_diagonal = gamma, margin, remove_diagonal


LOSSES.add(circle)
LOSSES.add(Circle)
