"""The callback that lets evaluation see averaged weights."""

from __future__ import annotations

from typing import Any

import torch

from hornbeam.core.registry import public
from hornbeam.training.callbacks.callback import Callback


@public("keras.callbacks.SwapEMAWeights")
class SwapEMAWeights(Callback):
    """Puts the optimizer's averaged weights (EMA) into the model where it is looked at, and the trained ones back to go on.

    The optimizer must have been made with `use_ema=True`.

    Args:
        swap_on_epoch: whether the averages are in the model from the end of each epoch to the beginning of the next, as callbacks
            that save the model need it; else only during evaluation and prediction.

    >>> SwapEMAWeights().swap_on_epoch
    False
    """

    state_names = ("_trained",)

    def __init__(self, swap_on_epoch: bool = False) -> None:
        self.swap_on_epoch = swap_on_epoch
        self._trained: list[torch.Tensor] | None = None  # the trained weights while averages are in the model

    def set_model(self, model: Any) -> None:
        super().set_model(model)
        optimizer = getattr(model, "optimizer", None)
        if not _averages(optimizer):
            raise ValueError(
                "SwapEMAWeights needs an optimizer that keeps averages: make it with `use_ema=True`, for example "
                f"Adam(use_ema=True). Received: {type(optimizer).__name__}"
            )

    def _swap_in(self) -> None:
        weights = self.model.trainable_variables
        if self._trained is None and self.model.optimizer.built:
            self._trained = [w.detach().clone() for w in weights]
            self.model.optimizer.finalize_variable_values(weights)

    def _swap_out(self) -> None:
        if self._trained is not None:
            with torch.no_grad():
                for weight, trained in zip(self.model.trainable_variables, self._trained, strict=True):
                    weight.copy_(trained)
            self._trained = None

    def on_train_begin(self, logs: Any = None) -> None:
        self._trained = None

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        if self.swap_on_epoch:
            self._swap_out()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if self.swap_on_epoch:
            self._swap_in()

    def on_train_end(self, logs: Any = None) -> None:
        self._trained = None  # `fit` has put the averages into the model for good

    def on_test_begin(self, logs: Any = None) -> None:
        self._swap_in()

    def on_test_end(self, logs: Any = None) -> None:
        self._swap_out()

    def on_predict_begin(self, logs: Any = None) -> None:
        self._swap_in()

    def on_predict_end(self, logs: Any = None) -> None:
        self._swap_out()


def _averages(optimizer: Any) -> bool:
    inner = [*getattr(optimizer, "optimizers", ()), getattr(optimizer, "inner_optimizer", None)]
    return bool(getattr(optimizer, "use_ema", False)) or any(_averages(o) for o in inner if o is not None)
