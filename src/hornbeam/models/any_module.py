"""Training, evaluation and prediction for any torch module, as it is."""

from __future__ import annotations

from typing import Any

from torch import nn

from hornbeam.core.errors import describe, unknown_arguments
from hornbeam.core.registry import snake_case
from hornbeam.graph.errors import boundary
from hornbeam.models.model import Model
from hornbeam.training import compile as compiling
from hornbeam.training import loop
from hornbeam.training.arguments import names_of


class TorchModel(Model):
    """A model around any `torch.nn.Module`: what `hornbeam.fit` trains it with, to be kept where training is to go on.

    The module's weights are trained in place, and nothing is copied. In training steps the module is in training mode, in
    evaluation and prediction in evaluation mode, and after each call in its own modes again. A list or tuple as input holds the
    module's positional arguments, a dictionary its keyword arguments; shapes are the module's own, such as channels first.
    A loss function `f(y_true, y_pred)` gets integer targets as integers.

    Args:
        module: the module.
        name: a name; the class's name in snake case unless given.

    >>> import torch
    >>> model = TorchModel(nn.Linear(3, 1))
    >>> model.compile("sgd", "mse")
    >>> _ = model.fit(torch.ones(8, 3), torch.ones(8, 1), verbose=0)
    """

    _targets_as_given = True

    _wraps = True  # paths in errors begin in the module

    def __init__(self, module: nn.Module, name: str | None = None, **kwargs: Any) -> None:
        if not isinstance(module, nn.Module):
            raise TypeError(f"TorchModel takes a torch.nn.Module. Received: module={describe(module)}")
        own = next((p.dtype for p in module.parameters() if p.is_floating_point()), None)
        super().__init__(name=name or snake_case(type(module).__name__), **{"dtype": own, **kwargs})
        modes = [(m, m.training) for m in module.modules()]
        self.module = module
        for part, mode in modes:
            part.training = mode

    def call(self, inputs: Any) -> Any:
        """Calls the module on inputs."""
        if isinstance(inputs, dict):
            return self.module(**inputs)
        return self.module(*inputs) if isinstance(inputs, (list, tuple)) else self.module(inputs)


@boundary
def fit(module: nn.Module, x: Any = None, y: Any = None, **arguments: Any) -> Any:
    """Trains any torch module, in place.

    Args:
        module: any module; one of Hornbeam's models that is compiled already needs no arguments for that.
        x, y: data, as for `Model.fit`: arrays, tensors, nests; or a DataLoader or other iterable of batches.
        **arguments: those of `Model.compile` (optimizer, loss, metrics, …) and of `Model.fit` (epochs, batch_size, callbacks, …).

    Returns:
        a History, whose `history` holds the results of each epoch by name.

    >>> import torch
    >>> net = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 1))
    >>> run = fit(net, torch.ones(16, 3), torch.ones(16, 1), optimizer="adam", loss=nn.MSELoss(), epochs=2, verbose=0)
    >>> list(run.history)
    ['loss']
    """
    model, rest = _compiled("fit", module, loop.fit, arguments)
    return model.fit(x, y, **rest)


@boundary
def evaluate(module: nn.Module, x: Any = None, y: Any = None, **arguments: Any) -> Any:
    """Returns the loss and the metrics of any torch module on data: a number, a list, or with `return_dict=True` a dictionary.

    Args:
        module: any module.
        x, y: data, as for `Model.evaluate`.
        **arguments: those of `Model.compile` (loss, metrics, …) and of `Model.evaluate` (batch_size, sample_weight, …).

    >>> import torch
    >>> evaluate(nn.Identity(), torch.ones(4, 1), torch.zeros(4, 1), loss="mse", metrics=["mae"], verbose=0)
    [1.0, 1.0]
    """
    model, rest = _compiled("evaluate", module, loop.evaluate, arguments)
    return model.evaluate(x, y, **rest)


@boundary
def predict(module: nn.Module, x: Any, **arguments: Any) -> Any:
    """Returns the outputs of any torch module for data, as NumPy arrays in the outputs' nest.

    Args:
        module: any module.
        x: data, as for `Model.predict`.
        **arguments: those of `Model.predict` (batch_size, …).

    >>> import torch
    >>> predict(nn.Flatten(), torch.ones(2, 1, 3)).shape
    (2, 3)
    """
    known = names_of(loop.predict)
    unknown = [k for k in arguments if k not in known]
    if unknown:
        raise unknown_arguments("`hornbeam.predict`", unknown, known)
    return (module if isinstance(module, Model) else TorchModel(module)).predict(x, **arguments)


def _compiled(name: str, module: nn.Module, method: Any, arguments: dict[str, Any]) -> tuple[Model, dict[str, Any]]:
    """Returns a compiled model for a module, and the arguments that are not for `compile`."""
    for_compile, for_method = names_of(compiling.compile), names_of(method)
    unknown = [k for k in arguments if k not in for_compile and k not in for_method]
    if unknown:
        raise unknown_arguments(f"`hornbeam.{name}`", unknown, [*for_compile, *(k for k in for_method if k not in ("x", "y"))])
    given = {k: v for k, v in arguments.items() if k in for_compile}
    model = module if isinstance(module, Model) else TorchModel(module)
    if given or not isinstance(module, Model):
        if given.get("loss") is None:
            raise ValueError(
                f"`hornbeam.{name}` needs a loss, for example hornbeam.{name}(module, x, y, loss='mse'), unless the module is a "
                f"model that is compiled already."
            )
        model.compile(**given)
    return model, {k: v for k, v in arguments.items() if k not in given}
