"""The loss of a step that is costed: the compiled one on made-up targets, else a squared error."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import torch

from hornbeam.graph import tree

Scalar = Callable[[Any], "torch.Tensor | None"]
_log = logging.getLogger("torch._subclasses.fake_tensor")
_SPARSE = ("sparse", "cross_entropy", "crossentropyloss", "nll")


class NoLoss(Exception):
    """A loss does not take the targets that were made up for it."""


def squares(outputs: Any) -> torch.Tensor | None:
    """A loss like most: it keeps one tensor of the outputs' size, and its gradient has one."""
    parts = [(y - torch.empty_like(y)).square().mean() for y in tree.leaves(outputs)
             if isinstance(y, torch.Tensor) and y.is_floating_point()]  # fmt: skip
    return sum(parts[1:], parts[0]) if parts else None


def losses_for(module: Any) -> Iterator[Scalar]:
    """Yields what may stand for the loss of a module's step, the best first; only the last one cannot raise NoLoss."""
    compiled = getattr(module, "_compile_loss", None)
    if compiled is not None:
        yield _compiled(compiled, True)
        yield _compiled(compiled, False)
    yield squares


def _compiled(given: Any, by_name: bool) -> Scalar:
    """The compiled losses on targets as their names tell, or on those of the other kind."""
    targets: list[torch.Tensor] = []  # a step holds them to its end

    def loss(outputs: Any) -> torch.Tensor:
        _log.disabled = True  # it tells of each kernel that does not take its arguments
        try:
            parts = type(given)(given.loss, given.loss_weights, given.known).parts(outputs, outputs)
            total: Any = None
            for _, one, _, prediction in parts:
                targets.append(_target(prediction, _is_sparse(one) is by_name))
                value = one(targets[-1], prediction, None).mean()
                total = value if total is None else total + value
            return total
        except Exception as error:
            raise NoLoss from error
        finally:
            _log.disabled = False

    return loss


def _target(prediction: torch.Tensor, sparse: bool) -> torch.Tensor:
    shape = prediction.shape[:-1] if sparse and prediction.ndim > 1 else prediction.shape
    return torch.zeros(shape, dtype=torch.int64 if sparse else prediction.dtype, device=prediction.device)


def _is_sparse(loss: Any) -> bool:
    """Whether a loss takes numbers of classes: by the names of it and of what it calls."""
    inner = getattr(loss, "fn", loss)
    inner = getattr(inner, "loss", inner)
    inner = getattr(inner, "func", inner)
    names = [type(loss).__name__, type(inner).__name__, getattr(inner, "__name__", "")]
    return any(part in name.lower() for name in names for part in _SPARSE)
