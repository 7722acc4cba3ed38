"""A plain torch module as a layer."""

from __future__ import annotations

from typing import Any

from torch import nn

from hornbeam.core.errors import describe
from hornbeam.core.layer import Layer
from hornbeam.core.registry import public
from hornbeam.graph import tree
from hornbeam.graph.symbolic import SymbolicTensor


@public("keras.layers.TorchModuleWrapper")
class TorchModuleWrapper(Layer):
    """Turns any `torch.nn.Module` into a layer. A model takes plain modules as they are, too; the wrapper names one.

    Args:
        module: the module. During a call it is in training or evaluation mode, as the call says; afterwards in its own again.
        name: a name; "torch_module_wrapper", numbered, unless given.
        output_shape: the output's shape, with None for the batch axis, where it cannot be inferred.

    >>> TorchModuleWrapper(nn.Linear(3, 2)).count_params()
    8
    """

    def __init__(self, module: nn.Module, name: str | None = None, output_shape: Any = None, **kwargs: Any) -> None:
        if not isinstance(module, nn.Module):
            raise TypeError(f"TorchModuleWrapper wraps a torch.nn.Module. Received: module={describe(module)}")
        super().__init__(name=name, **kwargs)
        self.__dict__["_own_output_spec"] = output_shape is not None
        modes = [(m, m.training) for m in module.modules()]
        self.module, self.output_shape = module, output_shape
        for part, mode in modes:
            part.training = mode

    def call(self, *args: Any, **kwargs: Any) -> Any:
        """Calls the module."""
        return self.module(*args, **kwargs)

    def compute_output_spec(self, *args: Any, **kwargs: Any) -> Any:
        """Returns symbolic tensors with the output's shapes and dtypes."""
        if self.output_shape is None:
            return super().compute_output_spec(*args, **kwargs)
        first = tree.leaves((args, kwargs))[0]
        return SymbolicTensor(self.output_shape, first.dtype)

    def get_config(self) -> dict[str, Any]:
        """Raises: a config holds no plain torch module."""
        raise NotImplementedError(
            f"Layer {self.name!r} holds a {type(self.module).__name__}, which has no config. Save weights (`state_dict`) instead."
        )
