"""One recorded call: of a module, of a function, of an operation; and what came out of it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import Any

import torch

from hornbeam.graph import tree

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_TORCH = os.path.dirname(os.path.abspath(torch.__file__)) + os.sep


class Spec:
    """Shape and dtype of a value that does not exist yet.

    Args:
        shape: sizes, None where an axis varies.
        dtype: dtype name; "int" or "float" for a number that is not known yet, such as a size.
        samples: one or two concrete shapes (or numbers) that the value would have for stand-in inputs: the batch empty, other
            unknown axes of two different sizes. They carry the arithmetic of sizes from call to call.
        batches: the concrete shapes (or numbers) for batches of 2 and 3, where they are not those of the samples with the empty
            axes filled (`cat([token, x], 0)`: 1, 3, 4); else None.
    """

    __slots__ = ("batches", "dtype", "samples", "shape")

    def __init__(
        self,
        shape: tuple[int | None, ...],
        dtype: str,
        samples: tuple[Any, ...] | None = None,
        batches: tuple[Any, ...] | None = None,
    ) -> None:
        self.shape, self.dtype, self.batches = shape, dtype, batches
        self.samples = samples if samples is not None else stand_in_shapes(shape)

    @property
    def is_number(self) -> bool:
        """Whether the value is a Python number, not a tensor."""
        return self.dtype in ("int", "float")

    @property
    def varies(self) -> bool:
        """Whether the value depends on the size of the batch."""
        return (
            self.is_number
            or self.batches is not None
            or any(d is None and s == 0 for d, s in zip(self.shape, self.samples[0], strict=True))
        )

    def concrete(self, sample: int = 0, batch: int | None = None) -> Any:
        """Returns the shape (or number) for a sample, or for a batch of 2 or 3."""
        value = self.samples[min(sample, len(self.samples) - 1)]
        if batch is None:
            return value
        if self.batches is not None:
            return self.batches[batch - 2]
        return value if self.is_number else filled(self.shape, value, batch)

    def __repr__(self) -> str:
        return f"Spec({self.shape}, {self.dtype!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Spec) and (self.shape, self.dtype) == (other.shape, other.dtype)

    def __hash__(self) -> int:
        return hash((self.shape, self.dtype))


UNKNOWN_SIZES = (64, 96)


def filled(shape: tuple[int | None, ...], sample: tuple[int, ...], batch: int) -> tuple[int, ...]:
    """Returns a concrete shape whose empty varying axes have the size of a batch."""
    return tuple(batch if d is None and size == 0 else size for d, size in zip(shape, sample, strict=True))


def stand_in_shapes(shape: tuple[int | None, ...]) -> tuple[tuple[int, ...], ...]:
    """Returns the concrete shapes that stand for a shape: an unknown first axis is empty, others take two sizes."""
    if None not in shape[1:]:
        return (tuple(0 if d is None else d for d in shape),)
    head = tuple(0 if d is None else d for d in shape[:1])
    return tuple(head + tuple(size if d is None else d for d in shape[1:]) for size in UNKNOWN_SIZES)


class Ref:
    """Names one output of one node."""

    __slots__ = ("index", "node")

    def __init__(self, node: Any, index: int) -> None:
        self.node, self.index = node, index

    @property
    def spec(self) -> Spec:
        return self.node.outputs[self.index]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ref) and self.node is other.node and self.index == other.index

    def __hash__(self) -> int:
        return hash((id(self.node), self.index))

    def __repr__(self) -> str:
        return f"{self.node.name}[{self.index}]"


class Held:
    """Names a real tensor that a call takes, by the attribute path under which the model holds it."""

    __slots__ = ("path",)

    def __init__(self, path: str) -> None:
        self.path = path

    def __repr__(self) -> str:
        return f"self.{self.path}"


class Node:
    """One call in a graph.

    Attributes:
        kind: "input", "module", "function" or "operation".
        target: the module, function or operation called; in a model's own graph, the key of a child module.
        name: what summaries call it.
        args, kwargs: what it was called with; symbolic values stand as `Ref`s, at any depth.
        outputs: one Spec for each symbolic value that came out.
        structure: the nest that the call returned, with positions in `outputs` as `Out` leaves.
        source: (file, line) of the user's call, or None.
        implicit: True where no user wrote the call (mask arithmetic).
        passed: names of keyword arguments that no user wrote (masks handed on).
    """

    __slots__ = (
        "__weakref__", "args", "implicit", "kind", "kwargs", "name", "outputs", "passed", "source", "structure", "target",
    )  # fmt: skip

    def __init__(
        self,
        kind: str,
        target: Any,
        name: str,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
        source: tuple[str, int] | None = None,
        implicit: bool = False,
        passed: tuple[str, ...] = (),
    ) -> None:
        self.kind, self.target, self.name = kind, target, name
        self.args, self.kwargs = args, kwargs or {}
        self.outputs: list[Spec] = []
        self.structure: Any = None
        self.source, self.implicit, self.passed = source, implicit, passed

    def refs(self) -> list[Ref]:
        """Returns the values this call takes, in order of appearance."""
        return [v for v in tree.leaves((self.args, self.kwargs)) if type(v) is Ref]

    def visible_refs(self) -> list[Ref]:
        """Returns the values a user handed to this call, without masks that were passed on."""
        kwargs = {k: v for k, v in self.kwargs.items() if k not in self.passed}
        return [v for v in tree.leaves((self.args, kwargs)) if type(v) is Ref]

    def with_refs(self, change: Any, **values: Any) -> Node:
        """Returns a copy whose Refs went through `change`."""
        swap = lambda v: change(v) if type(v) is Ref else v  # noqa: E731
        made = Node(self.kind, self.target, self.name, tree.map_leaves(swap, self.args), tree.map_leaves(swap, self.kwargs),
                    self.source, self.implicit, self.passed)  # fmt: skip
        made.outputs, made.structure = list(self.outputs), self.structure
        for k, v in values.items():
            setattr(made, k, v)
        return made

    def where(self) -> str:
        """Returns "file:line" of the user's call, or an empty string."""
        return f"{self.source[0]}:{self.source[1]}" if self.source else ""

    def __repr__(self) -> str:
        return f"<Node {self.name} ({self.kind}) -> {[o.shape for o in self.outputs]}>"


class Out:
    """Marks the place of output `index` in a node's structure."""

    __slots__ = ("index",)

    def __init__(self, index: int) -> None:
        self.index = index


_TYPED = ("<ipython", "<stdin", "<python-input", "<doctest")  # code that somebody typed


def is_users(filename: str) -> bool:
    """Whether a file holds neither Hornbeam's code nor torch's, nor generated code."""
    return not filename.startswith((_PACKAGE, _TORCH, "<")) or filename.startswith(_TYPED)


def user_frames() -> Iterator[Any]:
    """Yields the frames of the running thread that belong to neither Hornbeam nor torch, innermost first."""
    frame = sys._getframe(1)
    while frame is not None:
        if is_users(frame.f_code.co_filename):
            yield frame
        frame = frame.f_back  # type: ignore[assignment]


def user_source() -> tuple[str, int] | None:
    """Returns file and line of the innermost frame that is the user's."""
    for frame in user_frames():
        return frame.f_code.co_filename, frame.f_lineno
    frame = sys._getframe(1)
    while frame.f_back is not None:
        frame = frame.f_back
    return frame.f_code.co_filename, frame.f_lineno
