"""Any `torch.nn.Module` as a graph of its inner calls, by running it once on an empty batch.

The graph is made to be looked at: the module itself goes on running its own Python. The run leaves no trace.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy
from torch.overrides import TorchFunctionMode

from hornbeam.graph import tree
from hornbeam.graph.context import context, setting
from hornbeam.graph.graph import Graph
from hornbeam.graph.infer import _merge, is_doubtful, looking, stand_in
from hornbeam.graph.node import _PACKAGE, _TORCH, Node, Out, Ref, Spec, user_source
from hornbeam.graph.symbolic import look_at
from hornbeam.graph.traces import State

_CORE = os.path.join(_PACKAGE, "core") + os.sep
_GRAPH = os.path.join(_PACKAGE, "graph") + os.sep
_INSPECT = os.path.join(_PACKAGE, "inspect") + os.sep
_READS = ("__bool__", "__int__", "__float__", "__index__", "item", "tolist", "numpy", "nonzero", "equal", "allclose")


class Recording(Graph):
    """A graph made by running a module.

    Attributes:
        reads: source lines at which the module's Python looked at a value, so that another value might take another way.
    """

    reads: list[tuple[str, int]]


def record(module: nn.Module, *specs: Any, example: tuple[Any, ...] | None = None, **kwargs: Any) -> Recording:
    """Returns the graph of the calls that a module makes.

    Args:
        module: any module.
        specs: one Spec (or nest of Specs) per positional argument of its `forward`.
        example: real arguments to run on, where an empty batch will not do.
        kwargs: further arguments; Specs in them too.

    Raises:
        whatever the module raises, where neither an empty nor a small batch runs through.
    """
    device = next((p.device.type for p in _parameters(module) if p.device.type == "meta"), "cpu")
    if example is not None:
        return _merged([_run(module, example, kwargs)], [], given=True)
    found = [s for s in tree.leaves((specs, kwargs)) if isinstance(s, Spec)]
    count = max((len(s.samples) for s in found), default=1)

    def run(i: int, batch: int | None = None) -> _Run:
        put = lambda s: stand_in(s, i, batch, device) if isinstance(s, Spec) else s  # noqa: E731
        return _run(module, tree.map_leaves(put, specs), tree.map_leaves(put, kwargs))

    def batches() -> list[_Run]:
        return [run(0, batch) for batch in (2, 3)]

    try:
        runs = [run(i) for i in range(count)]
    except Exception as error:
        try:
            real = batches()
            return _merged([real[0], *(run(i, 2) for i in range(1, count))], real, False)
        except Exception:
            raise error from None
    varies = any(s.varies for s in found)
    if not varies or not any(is_doubtful(v) for values in runs[0].values for v in values):
        return _merged(runs, [], varies)
    try:
        return _merged(runs, batches(), varies)
    except Exception:  # the module takes no batches of zeros; an empty one it took
        return _merged(runs, [], varies)


def _parameters(module: nn.Module) -> Iterator[Any]:
    for m in module.modules():
        yield from (p for p in dict.values(m.__dict__["_parameters"]) if p is not None)


class _Run:
    """One run: nodes in order, and which tensor came out of which."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.paths = {id(m): path for path, m in module.named_modules()}
        self.nodes: list[Node] = []
        self.values: list[list[torch.Tensor]] = []
        self.known: dict[int, Ref] = {}
        self.alive: list[Any] = []
        self.depth = -1
        self.reads: list[tuple[str, int]] = []
        self.inputs: Any = None
        self.outputs: Any = None

    def ref(self, value: Any) -> Any:
        return self.known.get(id(value), value) if isinstance(value, torch.Tensor) else value

    def bind(self, node: Node, result: Any) -> None:
        """Notes what a call returned."""
        tensors: list[torch.Tensor] = []

        def leaf(value: Any) -> Any:
            if not isinstance(value, torch.Tensor):
                return value
            self.known[id(value)] = Ref(node, len(tensors))
            self.alive.append(value)
            tensors.append(value)
            return Out(len(tensors) - 1)

        node.structure = tree.map_leaves(leaf, result)
        self.nodes.append(node)
        self.values.append(tensors)

    def enter(self, args: Any, kwargs: Any) -> None:
        """Makes the input nodes from the arguments of the recorded module itself."""
        for i, value in enumerate(v for v in tree.leaves((args, kwargs)) if isinstance(v, torch.Tensor)):
            self.bind(Node("input", None, f"input_{i + 1}"), value)
        self.inputs = tree.map_leaves(self.ref, args)

    def call(self, module: nn.Module, plain: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Stands in for a module's call while the run goes on."""
        self.depth += 1
        try:
            if self.depth == 0:
                self.enter(args, kwargs)
            shown = tree.map_leaves(self.ref, args), tree.map_leaves(self.ref, kwargs)
            result = plain(module, *args, **kwargs)
        finally:
            self.depth -= 1
        if self.depth == 0:
            path = self.paths.get(id(module))
            name = getattr(module, "name", None)
            name = name if isinstance(name, str) else path or type(module).__name__
            node = Node("module", module if path is None else path, name, *shown, user_source())
            self.bind(node, result)
        elif self.depth == -1:
            self.outputs = tree.map_leaves(self.ref, result)
        return result

    def function(self, function: Any, args: Any, kwargs: Any, result: Any) -> None:
        """Notes the call of a torch function by the recorded module's own code."""
        name = getattr(function, "__name__", "")
        tensors = [v for v in tree.leaves((args, kwargs)) if isinstance(v, torch.Tensor) and id(v) in self.known]
        if not tensors:
            return
        if name in _READS:
            source = user_source()
            if source is not None and source not in self.reads and _caller() is not None:
                self.reads.append(source)
            return
        if self.depth != 0:
            return
        made = [v for v in tree.leaves(result) if isinstance(v, torch.Tensor)]
        if not made or (name == "__get__" and made[0] is tensors[0]):
            return
        if _caller() == "core":
            for value in made:
                self.known.setdefault(id(value), self.known[id(tensors[0])])
                self.alive.append(value)
            return
        shown = tree.map_leaves(self.ref, args), tree.map_leaves(self.ref, kwargs)
        self.bind(Node("function", function, _plain_name(function, name), *shown, user_source()), result)


def _plain_name(function: Any, name: str) -> str:
    if name == "__get__":
        return getattr(function.__self__, "__name__", name)
    return name.strip("_")


def _caller() -> str | None:
    """Where the innermost frame outside torch and this module lies: "core" for Hornbeam's own work around a call."""
    frame = sys._getframe(2)
    while frame is not None:
        name = frame.f_code.co_filename
        if not name.startswith((_TORCH, _GRAPH, _INSPECT)):
            return "core" if name.startswith(_CORE) else "user"
        frame = frame.f_back  # type: ignore[assignment]
    return None


class _Functions(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if context.recorder is not None:
            context.recorder.function(func, args, kwargs or {}, result)
        return result


_plain_call_impl = nn.Module._call_impl


def _recorded_call_impl(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
    run, state = context.recorder, context.python
    if state is not None and not _is_unbuilt(self):
        state.hold(self)
    return _plain_call_impl(self, *args, **kwargs) if run is None else run.call(self, _plain_call_impl, args, kwargs)


@contextmanager
def _quiet(module: nn.Module) -> Iterator[None]:
    """Puts foreign modules into inference mode for the block; what it does to the Python of modules is undone, building not."""
    state, before = State(), [(m, m.training) for m in module.modules()]
    for m, _ in before:
        if not _is_unbuilt(m):
            state.hold(m)
    for m, _ in before:
        m.__dict__["training"] = False
    nn.Module._call_impl = _recorded_call_impl  # type: ignore[method-assign]
    try:
        with setting(python=state):
            yield
    finally:
        nn.Module._call_impl = _plain_call_impl  # type: ignore[method-assign]
        state.put_back()
        for m, mode in before:
            m.__dict__["training"] = mode


def _is_unbuilt(module: nn.Module) -> bool:
    """Whether a module makes weights in its first call."""
    return not getattr(module, "built", True) or any(is_lazy(p) for p in dict.values(module.__dict__["_parameters"]))


def _run(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Run:
    run = _Run(module)
    with looking(), _quiet(module), setting(recorder=run, training=False, depth=0, root=None), _Functions():
        look_at(module, args, kwargs)
    return run


def _merged(runs: list[_Run], batches: list[_Run], empty: bool = False, given: bool = False) -> Recording:
    """Puts runs side by side: an axis whose sizes differ, or that is the empty batch, varies."""
    first = runs[0]
    same = all(len(r.nodes) == len(first.nodes) for r in (*runs, *batches))

    def found(others: list[_Run], i: int, j: int) -> list[torch.Tensor]:
        return [r.values[i][j] for r in others if same and j < len(r.values[i])]

    for i, node in enumerate(first.nodes):
        for j, value in enumerate(first.values[i]):
            spec = _merge([value, *found(runs[1:], i, j)], found(batches, i, j), empty)
            node.outputs.append(Spec((None, *spec.shape[1:]) if spec.shape else (), spec.dtype) if given else spec)
    made = Recording(first.nodes, first.inputs, first.outputs)
    made.reads = first.reads
    _number(made.nodes)
    return made


def _number(nodes: list[Node]) -> None:
    counts: dict[str, int] = {}
    for node in nodes:
        if node.kind == "function":
            count = counts.get(node.name, 0)
            counts[node.name] = count + 1
            node.name = node.name if count == 0 else f"{node.name}_{count}"
