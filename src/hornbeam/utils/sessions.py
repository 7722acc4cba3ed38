"""Names and symbolic tensors, asked about or started anew."""

from __future__ import annotations

from typing import Any

from hornbeam.core.registry import reset_names
from hornbeam.graph.symbolic import SymbolicTensor


def clear_session(free_memory: bool = True) -> None:
    """Starts the numbering of automatic names anew; there is no other global state."""
    reset_names()


def is_keras_tensor(x: Any) -> bool:
    """Returns whether something is a symbolic tensor.

    >>> is_keras_tensor(SymbolicTensor((None, 2)))
    True
    """
    return isinstance(x, SymbolicTensor)


def get_source_inputs(tensor: SymbolicTensor) -> list[SymbolicTensor]:
    """Returns the inputs that a symbolic tensor was computed from."""
    seen: set[int] = set()
    found: list[SymbolicTensor] = []
    stack = [tensor.ref]
    while stack:
        ref = stack.pop()
        if id(ref.node) in seen:
            continue
        seen.add(id(ref.node))
        if ref.node.kind == "input":
            found.append(SymbolicTensor(ref=ref))
        stack.extend(reversed(ref.node.refs()))
    return found
