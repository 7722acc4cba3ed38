"""Errors of a step that went wrong by what the user's own loss or step gave: each says what to change."""

from __future__ import annotations

from typing import Any

import torch

from hornbeam.core.errors import describe


def no_gradient(model: Any, loss: Any) -> Exception:
    """Returns the error for a loss that cannot be trained on: it has no gradient, or is not one number.

    Args:
        model: the model.
        loss: what `compute_loss` returned.
    """
    whose = f"The loss of model {model.name!r}"
    if not isinstance(loss, torch.Tensor):
        return TypeError(f"{whose} is {describe(loss)}, but must be a tensor: `compute_loss` returns it.")
    if loss.numel() != 1:
        return ValueError(
            f"{whose} has shape {tuple(loss.shape)}, but training needs one number. Does a loss have reduction='none'? "
            f"Use 'sum_over_batch_size' or 'sum', or return the mean from `compute_loss`."
        )
    return ValueError(
        f"{whose} has no gradient: it does not depend on the weights by torch operations. Compute it from `y_pred`, and look for "
        f"detach(), item(), argmax, rounding, .data, NumPy or torch.no_grad() in the loss."
    )


def results_of(name: str, logs: Any) -> dict[str, Any]:
    """Returns what the user's own step returned; raises where that is no dictionary.

    Args:
        name: the step's name.
        logs: what it returned.
    """
    if isinstance(logs, dict):
        return logs
    missing = " Is its `return` missing?" if logs is None else ""
    raise TypeError(
        f"`{name}` must return a dictionary of results by name, such as {{'loss': loss}}.{missing} Received: {describe(logs)}"
    )
