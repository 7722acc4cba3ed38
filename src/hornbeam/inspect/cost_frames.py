"""Whose work it is: the calls inside a module's call, told apart as the recorder and the graph tell them apart."""

from __future__ import annotations

import sys
import weakref
from bisect import bisect_right
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from hornbeam.core.layer import Layer
from hornbeam.graph import record as recording
from hornbeam.graph import tree
from hornbeam.graph.node import Node, Ref

_sequence_number = torch._C._autograd._get_sequence_nr  # type: ignore[attr-defined]
_LEAF = 1 << 62  # sequence numbers above it are those of weights' nodes, which no call made


class Work:
    """What one call does itself, without the calls inside it.

    Attributes:
        owner: the module in whose code the call stands.
        module: the module called, or None for a function.
        name: the call's name in its owner's graph.
        path: dotted path of the module called; of a function, that of its owner and its name.
        forward, backward: multiply-adds.
        elements, elements_backward: numbers that all other kernels wrote.
        kept: bytes that autograd keeps for the backward pass and that no earlier call keeps already.
        written: bytes of the outputs of its kernels, views left out.
        inner: the calls inside it.
    """

    __slots__ = (
        "backward", "elements", "elements_backward", "forward", "inner", "kept", "module", "name", "node", "owner", "path",
        "written",
    )  # fmt: skip

    def __init__(self, owner: Any, module: nn.Module | None, name: str, path: str, node: Node | None = None) -> None:
        self.owner, self.module, self.name, self.path, self.node = owner, module, name, path, node
        self.forward = self.backward = self.elements = self.elements_backward = self.kept = self.written = 0
        self.inner: list[Work] = []

    def total(self, what: str) -> int:
        """Returns one of the figures, with that of all calls inside."""
        return getattr(self, what) + sum(w.total(what) for w in self.inner)

    def walk(self) -> Iterator[Work]:
        """Yields this call and all inside it."""
        yield self
        for work in self.inner:
            yield from work.walk()


class _Forgetting:
    """Takes the place of the recorder's list of tensors to keep: they may go, and are then no longer known."""

    def __init__(self, known: dict[int, Any]) -> None:
        self.known = known
        self.watching: dict[int, Any] = {}

    def append(self, value: torch.Tensor) -> None:
        key = id(value)
        self.watching[key] = weakref.ref(value, lambda _: (self.known.pop(key, None), self.watching.pop(key, None)))


class RecordedFrame(recording._Run):
    """An open call of a module whose inner calls are told apart as the recorder tells them apart."""

    def __init__(self, work: Work, paths: dict[int, str]) -> None:
        super().__init__(work.module)  # type: ignore[arg-type]
        self.work, self.all_paths = work, paths
        self.between: Work | None = None
        self.called: Work | None = None
        self.counts: dict[str, int] = {}
        self.alive: Any = _Forgetting(self.known)

    def target(self) -> Work:
        """The call that a kernel belongs to which runs now: that of the function whose node will be bound next."""
        if self.between is None:
            self.between = Work(self.module, None, "", self.work.path)
            self.work.inner.append(self.between)
        return self.between

    def inner_call(self, module: nn.Module) -> Work:
        self.called = Work(self.module, module, "", self.all_paths.get(id(module), ""))
        self.work.inner.append(self.called)
        return self.called

    def bind(self, node: Node, result: Any) -> None:
        """Names the call that has ended; tensors are known only as long as they live."""
        node.args, node.kwargs = (), {}
        for i, value in enumerate(v for v in tree.leaves(result) if isinstance(v, torch.Tensor)):
            self.known[id(value)] = Ref(node, i)
            self.alive.append(value)
        if node.kind == "module" and self.called is not None:
            self.called.name = node.name
        elif node.kind == "function":
            work = self.target()
            count = self.counts.get(node.name, 0)
            self.counts[node.name] = count + 1
            work.name = node.name if not count else f"{node.name}_{count}"
            work.path = f"{self.work.path}.{work.name}".lstrip(".")
        self.between = None


class GraphFrame:
    """An open call of a model that runs from its graph: the line that runs tells the node."""

    def __init__(self, work: Work, paths: dict[int, str]) -> None:
        self.work, self.paths, self.model = work, paths, work.module
        self.by_node: dict[int, Work] = {}

    def node(self) -> Node | None:
        model: Any = self.model
        tables = [model._lowered.lines, *(masked.lines for masked in model._masked.values())]
        frame: Any = sys._getframe(2)
        while frame is not None:
            for lines in tables:
                found = lines.get((frame.f_code, frame.f_lineno))
                if found is not None:
                    return found
            frame = frame.f_back
        return None

    def target(self) -> Work:
        """The call that a kernel belongs to which runs now."""
        node = self.node()
        return self.work if node is None else self.of(node)

    def of(self, node: Node) -> Work:
        """The call that a node stands for."""
        work = self.by_node.get(id(node))
        if work is None:
            model: Any = self.model
            module = model._child(node.target) if node.kind == "module" else None
            path = self.paths.get(id(module)) or f"{self.work.path}.{node.name}".lstrip(".")
            work = self.by_node[id(node)] = Work(model, module, node.name, path, node)
            self.work.inner.append(work)
        return work

    def inner_call(self, module: nn.Module) -> Work:
        node = self.node()
        if node is not None:
            return self.of(node)
        work = Work(self.model, module, type(module).__name__, self.paths.get(id(module), ""))
        self.work.inner.append(work)
        return work

    def function(self, *_: Any) -> None:
        """Functions need no note: their lines tell."""

    def call(self, module: nn.Module, plain: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        return plain(module, *args, **kwargs)


def is_open(module: nn.Module) -> bool:
    """Whether a module's inner calls are told apart; a built-in layer's are not."""
    if not module._modules and not isinstance(getattr(module, "graph", None), recording.Graph):
        return False
    return not (isinstance(module, Layer) and not hasattr(module, "layers") and type(module).__module__.startswith("hornbeam."))


class Calls:
    """Follows the calls of one run of a module, as the context's recorder, and which call made which node of autograd.

    Args:
        module: any module.

    Attributes:
        root: the module's own call.
        open: the calls that are running, outermost first.
        starts, targets: from which sequence number on autograd's nodes belong to which call.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.paths = {id(m): path for path, m in module.named_modules()}
        name = getattr(module, "name", None)
        self.root = Work(None, module, name if isinstance(name, str) else type(module).__name__, "")
        self.open: list[Any] = []
        self.sequence = _sequence_number()
        self.starts: list[int] = [self.sequence]
        self.targets: list[Work] = [self.root]

    def call(self, module: nn.Module, plain: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Stands in for a module's call."""
        outer = self.open[-1] if self.open else None
        if isinstance(outer, Work):  # nothing is told apart inside it
            return plain(module, *args, **kwargs)
        if outer is None:
            return self._enter(module, self.root, plain, args, kwargs)
        work = outer.inner_call(module)
        return outer.call(module, lambda m, *a, **k: self._enter(m, work, plain, a, k), args, kwargs)

    def _enter(self, module: nn.Module, work: Work, plain: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        frame: Any = work
        if is_open(module):
            frame = (GraphFrame if hasattr(module, "_lowered") else RecordedFrame)(work, self.paths)
        self.sequence = _sequence_number()
        self.open.append(frame)
        try:
            if frame is work:
                return self.closed(work, lambda: plain(module, *args, **kwargs))
            return frame.call(module, plain, args, kwargs)
        finally:
            self.open.pop()
            self.mark(work)
            self.sequence = _sequence_number()

    def closed(self, work: Work, call: Callable[[], Any]) -> Any:
        """Makes a call inside which nothing is told apart."""
        return call()

    def function(self, function: Any, args: Any, kwargs: Any, result: Any) -> None:
        """Notes that a torch function was called by Python code."""
        if not self.open:
            return
        work, frame = self.target(), self.open[-1]
        if isinstance(frame, RecordedFrame):
            frame.function(function, args, kwargs, result)
        self.mark(work)
        self.sequence = _sequence_number()

    def target(self) -> Work:
        """The call that what runs now belongs to."""
        if not self.open:
            return self.root
        frame = self.open[-1]
        return frame if isinstance(frame, Work) else frame.target()

    def mark(self, work: Work) -> None:
        """Notes that nodes of autograd made since the last mark are a call's."""
        if _sequence_number() > self.sequence:
            self.starts.append(self.sequence)
            self.targets.append(work)
            self.sequence = _sequence_number()

    def maker_of(self, node: Any) -> Work:
        """Returns the call that made a node of autograd; the module's own where none did."""
        number = -1 if node is None else node._sequence_nr()
        if number < 0 or number >= _LEAF:
            return self.root
        return self.targets[max(bisect_right(self.starts, number) - 1, 0)]
