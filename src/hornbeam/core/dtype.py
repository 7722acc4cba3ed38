"""Dtype names, torch dtypes, and the policy that says in which dtype a layer keeps its weights and computes."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from hornbeam.core import settings
from hornbeam.core.errors import did_you_mean
from hornbeam.core.registry import public

_TORCH: dict[str, torch.dtype] = {
    name: getattr(torch, name)
    for name in (
        "bool uint8 uint16 uint32 uint64 int8 int16 int32 int64 float16 bfloat16 float32 float64 "
        "complex64 complex128 float8_e4m3fn float8_e5m2"
    ).split()
}
_NAMES = {dtype: name for name, dtype in _TORCH.items()}
_ALIASES = {"float": "float32", "double": "float64", "half": "float16", "int": "int64", "long": "int64"}


def standardize_dtype(dtype: Any) -> str:
    """Returns the name of a dtype given as a string, a torch or NumPy dtype, or a Python type.

    >>> standardize_dtype(torch.int64), standardize_dtype(None)
    ('int64', 'float32')
    """
    if dtype is None:
        return settings.floatx()
    if type(dtype) is str and dtype in _TORCH:
        return dtype
    if isinstance(dtype, torch.dtype):
        if dtype in _NAMES:
            return _NAMES[dtype]
    elif dtype in (int, float, bool):
        return {int: "int64", float: settings.floatx(), bool: "bool"}[dtype]
    elif isinstance(dtype, str):
        name = dtype.removeprefix("torch.")
        name = _ALIASES.get(name, name)
        if name in _TORCH or name == "string":
            return name
    else:
        name = getattr(dtype, "name", "") or _numpy_name(dtype)
        if name in _TORCH:
            return name
    raise ValueError(f"{dtype!r} is not a dtype.{did_you_mean(dtype, _TORCH)} Known: {', '.join(_TORCH)}.")


def _numpy_name(dtype: Any) -> str:
    try:
        return np.dtype(dtype).name
    except TypeError:
        return str(dtype)


def to_torch(dtype: Any) -> torch.dtype:
    """Returns the torch dtype for anything `standardize_dtype` takes.

    >>> to_torch("float16")
    torch.float16
    """
    return _TORCH[standardize_dtype(dtype)]


def is_float(dtype: str) -> bool:
    """Returns whether a dtype name is one of the floating point types."""
    return dtype.startswith(("float", "bfloat"))


@public("keras.DTypePolicy")
class DTypePolicy:
    """In which dtype a layer computes and in which it keeps its weights.

    Args:
        name: a dtype ("float32", "bfloat16", "float16", "float64", …) for both, or "mixed_bfloat16" / "mixed_float16":
            weights in float32, computation in the half type. None: `config.floatx()`.

    >>> policy = DTypePolicy("mixed_bfloat16")
    >>> policy.compute_dtype, policy.variable_dtype
    ('bfloat16', 'float32')
    """

    def __init__(self, name: str | None = None) -> None:
        name = settings.floatx() if name is None else name
        if not isinstance(name, str):
            raise TypeError(f"A DTypePolicy is named by a string such as 'mixed_bfloat16'. Received: {name!r}")
        self._name = name
        if name in ("mixed_bfloat16", "mixed_float16"):
            self._compute_dtype, self._variable_dtype = name.removeprefix("mixed_"), "float32"
        else:
            try:
                self._compute_dtype = self._variable_dtype = standardize_dtype(name)
            except ValueError:
                known = ("float32", "float64", "bfloat16", "float16", "mixed_bfloat16", "mixed_float16")
                if name.startswith(("float8", "int8_from", "int4_from", "gptq", "awq")):
                    raise ValueError(
                        f"The policy {name!r} needs quantized layers, which are not there yet. Known: {', '.join(known)}."
                    ) from None
                raise ValueError(
                    f"{name!r} is not a dtype policy.{did_you_mean(name, known)} Known: {', '.join(known)}, or any dtype."
                ) from None

    @property
    def name(self) -> str:
        """The policy's name."""
        return self._name

    @property
    def compute_dtype(self) -> str:
        """The dtype of inputs and outputs."""
        return self._compute_dtype

    @property
    def variable_dtype(self) -> str:
        """The dtype of weights."""
        return self._variable_dtype

    def get_config(self) -> dict[str, Any]:
        """Returns the policy's arguments."""
        return {"name": self._name}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> DTypePolicy:
        """Makes a policy from `get_config`'s answer."""
        return cls(**config)

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other.get_config() == self.get_config()  # type: ignore[attr-defined]

    def __hash__(self) -> int:
        return hash((type(self), self._name))

    def __repr__(self) -> str:
        return f'<DTypePolicy "{self._name}">'


_global_policy: list[DTypePolicy | None] = [None]


def dtype_policy() -> DTypePolicy:
    """Returns the policy that layers take unless they are given one."""
    return _global_policy[0] or DTypePolicy(settings.floatx())


def set_dtype_policy(policy: str | DTypePolicy | None) -> None:
    """Sets the policy that layers take unless they are given one; None goes back to `config.floatx()`."""
    _global_policy[0] = None if policy is None else get_policy(policy)


def get_policy(identifier: Any) -> DTypePolicy:
    """Returns the policy for a name, a dtype, a config or a policy; None gives the global one."""
    if identifier is None:
        return dtype_policy()
    if isinstance(identifier, DTypePolicy):
        return identifier
    if isinstance(identifier, dict):
        config = identifier.get("config", identifier)
        return DTypePolicy(config["name"])
    if isinstance(identifier, str):
        return DTypePolicy(identifier.removeprefix("torch."))
    return DTypePolicy(standardize_dtype(identifier))
