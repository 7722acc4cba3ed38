"""What people give to say what a module is called with: example data, shapes, symbols, specs. All become Specs."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from hornbeam.core import dtype as dtypes
from hornbeam.core import settings
from hornbeam.core.errors import describe
from hornbeam.core.input_spec import InputSpec
from hornbeam.core.layer import Layer
from hornbeam.graph import tree
from hornbeam.graph.graph import Graph
from hornbeam.graph.node import Spec
from hornbeam.graph.record import record
from hornbeam.graph.symbolic import SymbolicTensor
from hornbeam.inspect.table import graph_of


def graph_for(module: nn.Module, inputs: Any = None, caller: str = "hornbeam") -> Graph:
    """Returns the graph of any module: its own, or a recording of its call on inputs like those given.

    Args:
        module: any module.
        inputs: a shape with None where an axis varies, an example tensor or array, an `Input`, or a nest of such. A list or tuple
            holds the positional arguments of a plain torch module, a dictionary its keyword arguments; a Hornbeam layer takes the
            whole nest as its one input. None, where the module knows its inputs already.
        caller: the name of the function that is to stand in an error.

    Raises:
        ValueError: the module has no graph yet and no inputs were given, or they are none of these.

    >>> [node.name for node in graph_for(nn.Sequential(nn.Linear(3, 2), nn.ReLU()), (None, 3)).nodes][1:]
    ['0', '1']
    """
    if inputs is None:
        graph = graph_of(module)
        if graph is None:
            raise ValueError(
                f"{caller}: {type(module).__name__} has not been called yet, so its shapes are not known. Give `inputs`: "
                f"a shape such as (None, 32), an example tensor, or for several inputs a list of such."
            )
        return graph
    args, kwargs = arguments_of(module, inputs, caller)
    try:
        return record(module, *args, **kwargs)
    except Exception:
        if kwargs or not any(isinstance(leaf, torch.Tensor) for leaf in tree.leaves(inputs)):
            raise
        values = (inputs,) if isinstance(module, Layer) or not isinstance(inputs, (list, tuple)) else tuple(inputs)
        return record(module, *args, example=values)


def arguments_of(module: nn.Module, inputs: Any, caller: str = "hornbeam") -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Returns the arguments of a module's call, positional and by name, with a Spec for each tensor."""
    specs = _specs(inputs, caller)
    if isinstance(module, Layer) or isinstance(specs, Spec):
        return (specs,), {}
    if isinstance(specs, dict):
        return (), specs
    return tuple(specs), {}


def _specs(given: Any, caller: str) -> Any:
    if isinstance(given, (list, tuple)) and not _is_shape(given):
        return type(given)(_specs(part, caller) for part in given)
    if isinstance(given, dict):
        return {key: _specs(part, caller) for key, part in given.items()}
    return spec_of(given, caller)


def _is_shape(given: Any) -> bool:
    return isinstance(given, (list, tuple)) and all(size is None or isinstance(size, int) for size in given)


def spec_of(given: Any, caller: str = "hornbeam") -> Spec:
    """Returns the Spec of one input; the first axis of example data is taken as the batch, which varies.

    >>> spec_of(torch.zeros(8, 3)).shape
    (None, 3)
    """
    if isinstance(given, Spec):
        return given
    if _is_shape(given):
        return Spec(tuple(given), settings.floatx())
    if isinstance(given, (torch.Tensor, np.ndarray)):
        shape = (None, *given.shape[1:]) if given.ndim else ()
        return Spec(tuple(shape), dtypes.standardize_dtype(given.dtype))
    if isinstance(given, SymbolicTensor):
        return given.ref.spec
    if isinstance(given, InputSpec) and given.shape is not None:
        return Spec(tuple(given.shape), given.dtype or settings.floatx())
    raise ValueError(
        f"{caller}: `inputs` are shapes such as (None, 32), example tensors or arrays, or `Input`s, in lists or dictionaries. "
        f"Received: {describe(given)}"
    )
