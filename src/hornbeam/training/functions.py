"""Steps as functions over an iterator of batches, as Keras makes them: to be called, or overridden."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any


def _next_step(model: Any, kind: str, batches: Iterable[Any]) -> Any:
    return getattr(model, f"{kind}_step")(next(iter(batches)))


def make_train_function(self: Any, force: bool = False) -> Any:
    """Returns a function that takes an iterator and trains on its next batch; kept as `train_function`.

    Args:
        force: whether to make it anew.
    """
    return _made(self, "train", force)


def make_test_function(self: Any, force: bool = False) -> Any:
    """Returns a function that takes an iterator and evaluates its next batch; kept as `test_function`."""
    return _made(self, "test", force)


def make_predict_function(self: Any, force: bool = False) -> Any:
    """Returns a function that takes an iterator and predicts its next batch; kept as `predict_function`."""
    return _made(self, "predict", force)


def _made(model: Any, kind: str, force: bool) -> Any:
    name = f"{kind}_function"
    if force or model.__dict__.get(name) is None:
        model.__dict__[name] = partial(_next_step, model, kind)
    return model.__dict__[name]


class OneBatch(list[Any]):
    """A list of one batch that is an iterator too, since functions of users take the batch in either way."""

    def __next__(self) -> Any:
        if not self:
            raise StopIteration
        return self.pop()


def own_function(model: Any, kind: str) -> Callable[[Any], Any] | None:
    """Returns what makes a step by the user's own `make_…_function`; None where there is none.

    Args:
        kind: "train", "test" or "predict".
    """
    make = f"make_{kind}_function"
    if getattr(type(model), make) is globals()[make]:
        return None
    made = getattr(model, make)()
    function = made if callable(made) else getattr(model, f"{kind}_function")
    return lambda data: function(OneBatch([data]))
