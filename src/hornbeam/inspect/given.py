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
from hornbeam.graph import errors, tree
from hornbeam.graph.context import setting
from hornbeam.graph.graph import Graph
from hornbeam.graph.hints import hint
from hornbeam.graph.node import Spec
from hornbeam.graph.record import Recording, record
from hornbeam.graph.symbolic import SymbolicTensor
from hornbeam.inspect.table import graph_of, recorded

_ABOUT_INTEGERS = ("indices", "index tensor", "for index", "used as ind", "input_ids")


def graph_for(module: nn.Module, inputs: Any = None, caller: str = "hornbeam") -> Graph:
    """Returns the graph of any module: its own, or a recording of its call on inputs like those given.

    Args:
        module: any module.
        inputs: a shape with None where an axis varies, an example tensor or array, an `Input`, or a nest of such. A list or tuple
            holds the positional arguments of a plain torch module, a dictionary its keyword arguments; a Hornbeam layer takes the
            whole nest as its one input. Whatever else stands in a nest (a number, a string, None) is handed on as it is. None,
            where the module knows its inputs already.
        caller: the name of the function that is to stand in an error.

    Raises:
        ValueError: the module has no graph yet and no inputs were given, or they are none of these.
        whatever the module raises on such inputs; the message names the layer, and what it was given.

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
    try:
        args, kwargs = _written(module, inputs, caller, None)
        try:
            made = record(module, *args, **kwargs)
        except Exception as error:
            whole = _wants_integers(module, inputs, caller, error)
            if whole is None:
                return _on_examples(module, inputs) if _is_data(inputs) else _raise(error)
            args, kwargs, made = whole
        if not made.reads:
            return made
        return _on_examples(module, inputs) if _is_data(inputs) else recorded(module, args, kwargs)
    except Exception as error:
        _explain(error, module, inputs)
        raise


def _raise(error: Exception) -> Any:
    raise error


def arguments_of(module: nn.Module, inputs: Any, caller: str = "hornbeam") -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Returns the arguments of a module's call, positional and by name, with a Spec for each tensor that has a batch.

    Where only a shape is given, the dtype is that of the module's weights, or int64 where the module looks something up by it.
    """
    args, kwargs = _written(module, inputs, caller, None)
    if any(map(_is_shape, _parts(inputs))):
        try:
            record(module, *args, **kwargs)
        except Exception as error:
            whole = _wants_integers(module, inputs, caller, error)
            if whole is not None:
                return whole[0], whole[1]
    return args, kwargs


def _written(module: nn.Module, inputs: Any, caller: str, whole: set[int] | None) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments, in which the shapes with the numbers in `whole` are those of integers."""
    specs = _Reader(module, inputs, caller, whole or set()).read(inputs)
    if isinstance(module, Layer) or isinstance(specs, (Spec, torch.Tensor)):
        return (specs,), {}
    if isinstance(specs, dict):
        return (), specs
    return tuple(specs), {}


class _Reader:
    """Turns a nest of what was given into one of Specs."""

    def __init__(self, module: nn.Module, inputs: Any, caller: str, whole: set[int]) -> None:
        self.caller, self.whole, self.top = caller, whole, inputs
        self.dtype = settings.floatx() if isinstance(module, Layer) else _dtype_of(module)
        self.parts = _parts(inputs)
        first = self.parts[0] if self.parts else None
        data = [part for part in self.parts if _is_tensor(part) and len(part.shape)]
        self.batch = None if not data else data[0].shape[0]
        if _is_shape(first) and first and first[0] is not None:
            self.batch = first[0]
        self.shapes = 0

    def read(self, given: Any) -> Any:
        if _is_shape(given):
            self.shapes += 1
            return Spec(tuple(given), "int64" if self.shapes - 1 in self.whole else self.dtype)
        if isinstance(given, (list, tuple)):
            return type(given)(*map(self.read, given)) if hasattr(given, "_fields") else type(given)(map(self.read, given))
        if isinstance(given, dict):
            return {key: self.read(value) for key, value in given.items()}
        if _is_tensor(given) and not self.is_batched(given):
            return torch.as_tensor(given)
        if given is self.top or _is_tensor(given) or isinstance(given, (Spec, SymbolicTensor, InputSpec)):
            return spec_of(given, self.caller)
        return given

    def is_batched(self, data: Any) -> bool:
        """Whether the first axis of example data is the batch: it has the size of the first input's."""
        if data is self.parts[0]:
            return len(data.shape) > 0
        return len(data.shape) > 0 and data.shape[0] == self.batch and tuple(data.shape) != (1,)


def _parts(given: Any) -> list[Any]:
    """What stands in a nest, shapes as one."""
    if _is_shape(given) or not isinstance(given, (list, tuple, dict)):
        return [given]
    return [part for value in (given.values() if isinstance(given, dict) else given) for part in _parts(value)]


def _is_tensor(given: Any) -> bool:
    return isinstance(given, (torch.Tensor, np.ndarray)) and not isinstance(given, SymbolicTensor)


def _is_shape(given: Any) -> bool:
    sizes = isinstance(given, (list, tuple)) and not hasattr(given, "_fields")
    return sizes and all(size is None or (isinstance(size, int) and not isinstance(size, bool)) for size in given)


def _dtype_of(module: nn.Module) -> str:
    """The dtype of a module's first weight that holds real numbers; the usual one where there is none."""
    weights = (w for m in module.modules() for w in dict.values(m.__dict__["_parameters"]) if w is not None)
    found = next((w.dtype for w in weights if w.dtype.is_floating_point), None)
    return settings.floatx() if found is None else dtypes.standardize_dtype(found)


def _wants_integers(module: nn.Module, inputs: Any, caller: str, error: Exception) -> Any:
    """The arguments with integers in place of shapes, and the recording, where that is why a call failed; else None."""
    count = sum(map(_is_shape, _parts(inputs)))
    if not count or not any(words in str(error) for words in _ABOUT_INTEGERS):
        return None
    for whole in [*({n} for n in range(count)), set(range(count))][: 8 if count > 1 else 1]:
        args, kwargs = _written(module, inputs, caller, whole)
        try:
            return args, kwargs, record(module, *args, **kwargs)
        except Exception:  # these are not the ones
            continue
    return None


def _is_data(inputs: Any) -> bool:
    parts = [p for p in _parts(inputs) if _is_shape(p) or isinstance(p, (SymbolicTensor, Spec, InputSpec)) or _is_tensor(p)]
    return bool(parts) and all(map(_is_tensor, parts))


def _on_examples(module: nn.Module, inputs: Any) -> Recording:
    """A recording of a call on the data that was given."""
    values = tree.map_leaves(lambda v: torch.as_tensor(v) if isinstance(v, np.ndarray) else v, inputs)
    if isinstance(values, dict) and not isinstance(module, Layer):
        return record(module, example=(), **values)
    plain = isinstance(module, Layer) or not isinstance(values, (list, tuple))
    return record(module, example=(values,) if plain else tuple(values))


def _explain(error: Exception, module: nn.Module, inputs: Any) -> None:
    """Puts before torch's message which layer inside a module failed, on which shapes, and what may help."""
    part, taken = errors.innermost(error, module)
    shapes = [errors.shape_of(v) for v in tree.leaves(taken)]
    more = hint(part, shapes, str(error))
    given = next((p for p in _parts(inputs) if _is_shape(p)), None)
    if given is not None and any(words in str(error) for words in (*_ABOUT_INTEGERS, "dtype", "scalar type")):
        more += f" If it takes ids, say so: hornbeam.Input({tuple(given[1:])}, dtype='int64') in place of {tuple(given)}."
    with setting(scratch=True):
        name = errors.path_of(module, part) if part is not module else str(getattr(module, "name", type(module).__name__))
        errors.lead(error, errors.title("module", name, part), errors.shapes_of(taken), more)
    errors.trim(error)


def spec_of(given: Any, caller: str = "hornbeam") -> Spec:
    """Returns the Spec of one input; the first axis of example data is taken as the batch, which varies.

    >>> spec_of(torch.zeros(8, 3)).shape
    (None, 3)
    """
    if isinstance(given, Spec):
        return given
    if _is_shape(given):
        return Spec(tuple(given), settings.floatx())
    if _is_tensor(given):
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
