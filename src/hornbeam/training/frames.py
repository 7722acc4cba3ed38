"""Tables of pandas, polars and Arrow, columns of Hugging Face, and sparse matrices of scipy, as arrays.

None of these libraries is imported: a value of theirs shows that they are there.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from hornbeam.core.errors import did_you_mean

_LIBRARIES = ("pandas", "polars", "pyarrow", "scipy", "datasets")
_HUB = ("Dataset", "IterableDataset", "DatasetDict", "IterableDatasetDict")
_NUMBERS = "Turn it into numbers first"


def library_of(value: Any) -> str | None:
    """Returns the library ("pandas", "polars", …) that a table, a column or a matrix is of, else None."""
    for cls in type(value).__mro__:
        root = cls.__module__.partition(".")[0]
        if root in _LIBRARIES:
            return root
    return None


def is_table(value: Any) -> bool:
    """Returns whether a value is a table or a column that `as_array` takes."""
    library = library_of(value)
    return library is not None and (library != "datasets" or is_hub_column(value))


def is_hub_column(value: Any) -> bool:
    """Returns whether a value is a column of a dataset of Hugging Face's `datasets`."""
    column = getattr(sys.modules.get("datasets.arrow_dataset"), "Column", None)
    return column is not None and isinstance(value, column)


def is_hub(value: Any) -> bool:
    """Returns whether a value is a dataset of Hugging Face's `datasets`; a user's own module may have that name too."""
    module = sys.modules.get("datasets")
    return hasattr(module, "load_dataset") and isinstance(value, tuple(getattr(module, n) for n in _HUB if hasattr(module, n)))


def as_array(value: Any, name: str) -> np.ndarray:
    """Returns a table as an array of shape (rows, columns), a column as (rows, 1), a sparse matrix made dense: as Keras does.

    Raises:
        ValueError: a column holds no numbers, or has missing values; it is named.
    """
    if library_of(value) == "scipy":
        return value.toarray()
    if is_hub_column(value):
        return np.asarray(value[:])
    if not _has_columns(value):
        column = _column(value, name)
        return column[:, None] if column.ndim == 1 else column
    columns = [_column(value[c], f"{name}[{c!r}]") for c in column_names(value)]
    if len(columns) == 1 and columns[0].ndim > 1:
        return columns[0]
    for column, title in zip(columns, column_names(value), strict=True):
        if column.ndim > 1:
            raise ValueError(
                f"Column {title!r} of `{name}` holds arrays of shape {column.shape[1:]}, which do not go into one array with "
                f"the other columns. Pass the columns as a dictionary of inputs."
            )
    return np.stack(columns, axis=1) if columns else np.zeros((len(value), 0), "float32")


def without(x: Any, y: str) -> tuple[Any, Any]:
    """Returns a table without a column, and that column."""
    check_column(y, column_names(x))
    column = x[y]
    if library_of(x) == "pandas":
        return x.drop(columns=y), column
    return (x.drop(y) if library_of(x) == "polars" else x.drop_columns([y])), column


def check_column(y: str, names: list[Any]) -> None:
    """Raises where a table has no such column of targets."""
    if y not in names:
        raise ValueError(f"`y`={y!r} is no column of `x`.{did_you_mean(y, names)} Its columns: {', '.join(map(repr, names))}.")


def _has_columns(value: Any) -> bool:
    return hasattr(value, "columns") and not callable(value.columns)


def column_names(table: Any) -> list[Any]:
    """Returns the names of a table's columns, in order."""
    names = getattr(table, "column_names", None)
    if names is None:
        names = table.schema.names if library_of(table) == "pyarrow" else table.columns
    return list(names)


def _column(column: Any, name: str) -> np.ndarray:
    return {"pandas": _of_pandas, "polars": _of_polars, "pyarrow": _of_arrow}[str(library_of(column))](column, name)


def _of_pandas(column: Any, name: str) -> np.ndarray:
    dtype = column.dtype
    if isinstance(dtype, np.dtype):
        if dtype.kind in "mM":
            raise _not_numbers(name, f"dates ({dtype})")
        return column.to_numpy()
    types = sys.modules["pandas"].api.types
    if isinstance(dtype, sys.modules["pandas"].CategoricalDtype):
        raise _not_numbers(name, "categories", ", for example by `.cat.codes` or pandas.get_dummies")
    if not types.is_numeric_dtype(dtype) and not types.is_bool_dtype(dtype):
        raise _not_numbers(name, f"no numbers ({dtype})")
    missing = column.isna().to_numpy()
    if missing.any() and not hasattr(dtype, "subtype"):
        raise _missing(name, int(missing.argmax()), int(missing.sum()), "fillna")
    wanted = getattr(dtype, "numpy_dtype", None) or getattr(dtype, "subtype", None)
    return column.to_numpy(dtype=wanted)


def _of_polars(column: Any, name: str) -> np.ndarray:
    dtype, polars = column.dtype, sys.modules["polars"]
    inner = dtype
    while isinstance(inner, polars.Array):
        inner = inner.inner
    if isinstance(inner, (polars.Categorical, polars.Enum)):
        raise _not_numbers(name, "categories", ", for example by `.to_physical()`")
    if not inner.is_numeric() and not isinstance(inner, polars.Boolean):
        raise _not_numbers(name, f"no plain numbers ({dtype})")
    if column.null_count():
        raise _missing(name, column.is_null().arg_max(), column.null_count(), "fill_null")
    return column.cast(polars.Float64).to_numpy() if isinstance(dtype, polars.Decimal) else column.to_numpy()


def _of_arrow(column: Any, name: str) -> np.ndarray:
    types = sys.modules["pyarrow"].types
    shape: list[int] = []
    if column.null_count:
        raise _missing(name, column.is_null().to_pylist().index(True), column.null_count, "fill_null")
    whole = column.combine_chunks() if hasattr(column, "combine_chunks") else column
    while types.is_fixed_size_list(whole.type):
        shape.append(whole.type.list_size)
        whole = whole.flatten()
    if types.is_dictionary(whole.type):
        raise _not_numbers(name, "categories", ", for example by `.dictionary_encode()` and its `indices`")
    if types.is_decimal(whole.type):
        whole = whole.cast("float64")
    if not (types.is_integer(whole.type) or types.is_floating(whole.type) or types.is_boolean(whole.type)):
        raise _not_numbers(name, f"no plain numbers ({column.type})")
    if whole.null_count:
        raise _missing(name, whole.is_null().to_pylist().index(True) // int(np.prod(shape)), whole.null_count, "fill_null")
    return whole.to_numpy(zero_copy_only=False).reshape(len(column), *shape)


def _not_numbers(name: str, what: str, way: str = "") -> ValueError:
    return ValueError(f"`{name}` holds {what}. {_NUMBERS}{way}.")


def _missing(name: str, row: int, count: int, method: str) -> ValueError:
    return ValueError(
        f"`{name}` has {count} missing value{'s' * (count > 1)}, the first in row {row}. Fill by `{method}`, or drop."
    )
