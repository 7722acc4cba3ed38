"""Numbers that the host and compiled code both read and write: the step counter and the learning rate."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from hornbeam.core.clean import clean_context


class Mirrored:
    """One number in a tensor of shape (1,) that compiled steps use, and on the host, where reading it costs nothing.

    On a CPU both are the same memory. Elsewhere the host writes through, and reads back only after a compiled step has
    written on the device (which sets `ahead`).

    Args:
        value: the number.
        dtype: torch dtype of the tensor.

    >>> n = Mirrored(3, torch.int64)
    >>> n.set(n.get() + 1)
    >>> n.tensor
    tensor([4])
    """

    def __init__(self, value: float, dtype: torch.dtype) -> None:
        with clean_context():
            self.tensor = torch.full((1,), value, dtype=dtype, device="cpu")
        self.ahead = False
        self._open()

    def _open(self) -> None:
        self.shared = self.tensor.device.type == "cpu"
        with clean_context():
            self._host: Any = memoryview((self.tensor if self.shared else self.tensor.cpu()).numpy())  # type: ignore[arg-type]
        self.ahead = False

    def get(self) -> Any:
        """Returns the number as an int or a float, as its dtype holds it."""
        if self.ahead:
            self._open()
        return self._host[0]

    def set(self, value: float) -> None:
        """Writes the number on the host and on the device."""
        self._host[0] = value
        if not self.shared:
            self.tensor.fill_(value)
            self.ahead = False

    def scalar(self) -> torch.Tensor:
        """Returns the number as a tensor of shape (), for compiled code."""
        return self.tensor.reshape(())

    def write(self, value: torch.Tensor) -> None:
        """Writes a tensor of shape (), in compiled code."""
        self.tensor.copy_(value.reshape(1))
        if not self.shared:
            self.ahead = True

    def to(self, device: torch.device) -> None:
        """Moves the number to a device."""
        if self.tensor.device != device:
            self.tensor = self.tensor.to(device)
            self._open()

    def __getstate__(self) -> dict[str, Any]:
        return {"tensor": self.tensor}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.tensor = state["tensor"]
        self._open()


class _Answers:
    """What a number of an optimizer answers besides being a number: `assign`, `numpy`, `value`, as a Keras variable does."""

    _write: Callable[[Any], None]

    def assign(self, value: Any) -> None:
        """Sets the optimizer's number."""
        self._write(value)

    def numpy(self) -> Any:
        """Returns the number as a NumPy scalar."""
        return np.float32(self) if isinstance(self, float) else np.int64(self)  # type: ignore[arg-type]

    @property
    def value(self) -> Any:
        """The number."""
        return self

    def __reduce__(self) -> Any:
        plain = float if isinstance(self, float) else int
        return plain, (plain(self),)  # type: ignore[arg-type, call-overload]


class Rate(_Answers, float):
    """A learning rate as read from an optimizer; it equals the number that was set, of which it is the float32."""

    def __new__(cls, value: float, write: Callable[[Any], None]) -> Rate:
        made = float.__new__(cls, value)
        made._write = write
        return made

    def __eq__(self, other: object) -> bool:
        return float(self) == other or (isinstance(other, (int, float)) and float(self) == float(np.float32(other)))

    __hash__ = float.__hash__


class Count(_Answers, int):
    """A number of steps as read from an optimizer."""

    def __new__(cls, value: int, write: Callable[[Any], None]) -> Count:
        made = int.__new__(cls, value)
        made._write = write
        return made
