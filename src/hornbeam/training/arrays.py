"""Arrays, frames and lists to tensors, without a copy where that is possible, and by name where it is not."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from hornbeam.core import dtype as dtypes
from hornbeam.core.errors import describe
from hornbeam.graph import tree
from hornbeam.training.frames import as_array, is_table

_NUMBERS = (int, float, bool, str)
_WIDER = {"uint16": np.int32, "uint32": np.int64, "uint64": np.int64}


def as_tensor(value: Any, name: str = "x", borrowed: list[Any] | None = None) -> torch.Tensor:
    """Returns an array as a tensor; it shares memory where torch can read the array as it lies.

    Args:
        value: NumPy array, tensor, table or column of pandas, polars or Arrow, number, list of numbers, or anything with
            `__array__`.
        name: the argument's name, for errors.
        borrowed: takes the tensors that share memory which must not be written to; where it is None, such memory is copied.

    Raises:
        ValueError: it holds no numbers, or a number that the dtype cannot hold.
    """
    if isinstance(value, torch.Tensor):
        return _plain(value)
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        raise ValueError(
            f"`{name}` is a masked array with {np.ma.count_masked(value)} masked values, which a model cannot tell from others. "
            f"Fill them by `.filled(value)`, or drop such rows."
        )
    array = value if type(value) is np.ndarray else np.asarray(as_array(value, name) if is_table(value) else value)
    if array.dtype.kind == "f":
        return _float_tensor(array, name, borrowed)
    if array.dtype.kind not in "iubc":
        return _from_objects(array, name)
    wider = _WIDER.get(array.dtype.name)
    if wider is not None:
        if array.dtype.itemsize == 8 and array.size and array.max() > np.iinfo(np.int64).max:
            raise ValueError(
                f"`{name}` holds {array.max()} at index {_where(array == array.max())}, which is too large for int64."
            )
        array = array.astype(wider)
    return _shared(array, borrowed)


def _plain(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor as data: dense, and without the graph of what made it."""
    tensor = tensor.detach() if tensor.requires_grad else tensor
    return tensor if tensor.layout is torch.strided else tensor.to_dense()


def _float_tensor(array: np.ndarray, name: str, borrowed: list[Any] | None) -> torch.Tensor:
    wanted = dtypes.to_torch(None)
    tensor = _shared(array if array.dtype.itemsize <= 8 else array.astype(np.float64), borrowed)
    if tensor.dtype is wanted:
        return tensor
    cast = tensor.to(wanted)
    if tensor.element_size() > cast.element_size() and cast.numel():
        lost = cast.isinf() & ~tensor.isinf()
        if lost.any():
            index = _where(lost.numpy())
            raise ValueError(
                f"`{name}` holds {array[index]} at index {index}, which {wanted} cannot hold. Scale it, or use a wider dtype."
            )
    return cast


def _from_objects(array: np.ndarray, name: str) -> torch.Tensor:
    if array.dtype.kind == "O":
        try:
            return as_tensor(array.astype(np.float64), name)
        except (TypeError, ValueError):
            pass
        if array.ndim == 1 and array.size and hasattr(array[0], "__len__") and not isinstance(array[0], (str, bytes)):
            raise ValueError(
                f"`{name}` holds rows of different lengths ({len(array[0])}, …). "
                f"Pad them to one length, for example with `pad_sequences`."
            )
    kind = "text" if array.dtype.kind in "US" or (array.size and isinstance(array.flat[0], (str, bytes))) else "no numbers"
    way = " Turn it into integers first, for example with a TextVectorization or StringLookup layer." if kind == "text" else ""
    example = f" (for example {array.ravel()[:1].tolist()[0]!r})" if array.size else ""
    raise ValueError(f"`{name}` holds {kind}{example}: an array of dtype {array.dtype} and shape {array.shape}.{way}")


def _shared(array: np.ndarray, borrowed: list[Any] | None) -> torch.Tensor:
    """The array's memory as a tensor, or a copy that torch can read fast: native bytes, rows one after another, writable."""
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    if not array.flags.c_contiguous:
        array = np.ascontiguousarray(array)
    if array.flags.writeable:
        return torch.from_numpy(array)
    if borrowed is None:
        return torch.from_numpy(array.copy())
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable", UserWarning)
        borrowed.append(torch.from_numpy(array))
    return borrowed[-1]


def _where(found: np.ndarray) -> tuple[int, ...]:
    return tuple(int(i) for i in np.argwhere(found)[0])


def as_nest(nest: Any, name: str, borrowed: list[Any] | None = None) -> Any:
    """Returns a nest of arrays as a nest of tensors; a list of numbers is one array, as a list of such lists is; None stays None.

    See as_tensor.
    """
    if nest is None:
        return None
    if isinstance(nest, torch.Tensor):
        return _plain(nest)
    if isinstance(nest, (list, tuple)) and nest and (all(isinstance(v, _NUMBERS) for v in nest) or _is_written_out(nest)):
        return as_tensor(_written_out(nest), name)
    if isinstance(nest, dict):
        return {k: as_nest(v, f"{name}[{k!r}]", borrowed) for k, v in nest.items()}
    if isinstance(nest, (list, tuple)):
        made = [as_nest(v, f"{name}[{i}]", borrowed) for i, v in enumerate(nest)]
        return type(nest)(*made) if hasattr(nest, "_fields") else type(nest)(made)
    return as_tensor(nest, name, borrowed)


def _is_written_out(nest: Any) -> bool:
    """Whether a list holds lists that end in numbers: the rows of one array."""
    if type(nest) is not list or not nest or not all(type(v) is list for v in nest):
        return False
    return (bool(nest[0]) and all(isinstance(v, _NUMBERS) for v in nest[0])) or _is_written_out(nest[0])


def _written_out(rows: Any) -> np.ndarray:
    try:
        return np.asarray(rows)
    except ValueError:  # rows of different lengths
        array = np.empty(len(rows), dtype=object)
        array[:] = rows
        return array


def named_leaves(nest: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Yields the leaves of a nest with the names that errors give them: x, x[0], x['ids']."""
    if isinstance(nest, dict):
        for k in tree.sorted_keys(nest):
            yield from named_leaves(nest[k], f"{name}[{k!r}]")
    elif isinstance(nest, (list, tuple)):
        for i, v in enumerate(nest):
            yield from named_leaves(v, f"{name}[{i}]")
    else:
        yield name, nest


def check_lengths(nests: dict[str, Any]) -> int:
    """Returns the number of rows that all arrays have.

    Raises:
        ValueError: they differ, an array has no rows or no axis, or there is none.
    """
    leaves = [(n, t) for name, nest in nests.items() for n, t in named_leaves(nest, name) if t is not None]
    for name, tensor in leaves:
        if tensor.ndim == 0:
            raise ValueError(f"`{name}` needs a batch axis. Received: {describe(tensor)}")
    lengths = {name: len(tensor) for name, tensor in leaves}
    if not lengths:
        raise ValueError("There is no data: `x` holds no array.")
    most = max(set(lengths.values()), key=list(lengths.values()).count)
    if len(set(lengths.values())) > 1:
        most = max(lengths.values())
        short = _some([f"`{n}`" for n, length in lengths.items() if length < most])
        shown = _some([f"{n}: {length}" for n, length in lengths.items()])
        rows = [
            n
            for n, nest in nests.items()
            if isinstance(nest, list) and len(nest) > 1 and all(v.ndim == 1 for v in tree.leaves(nest))
        ]
        way = f" A list counts as several arrays: for one array of rows, pass numpy.array({rows[0]})." if rows else ""
        raise ValueError(f"All arrays must have the same number of rows; {short} is too short. Rows: {shown}.{way}")
    if most == 0:
        raise ValueError(f"There is no data: {', '.join(f'`{n}`' for n in lengths)} has no rows.")
    return most


def _some(texts: list[str]) -> str:
    return ", ".join(texts[:6] + ["…"] * (len(texts) > 6))
