"""A graph as a Python function, written by torch.fx; it runs with the model itself as `self`."""

from __future__ import annotations

import keyword
import linecache
import operator
import types
import weakref
from functools import cached_property
from typing import Any

import torch
from torch import fx

from hornbeam.graph import tree
from hornbeam.graph.graph import Graph
from hornbeam.graph.node import Held, Node, Out, Ref, Spec

_OPERATORS = {
    f"__{n}__": getattr(operator, n if hasattr(operator, n) else n + "_")
    for n in (
        "add sub mul truediv floordiv mod pow matmul neg pos abs and or xor invert eq ne lt le gt ge getitem lshift rshift"
    ).split()
}
_REFLECTED = {f"__r{n}__": f"__{n}__" for n in "add sub mul truediv floordiv mod pow matmul and or xor".split()}


class Lowered:
    """What lowering makes.

    Args:
        source: what fx wrote.
        names: the globals it needs.
        title: shown in tracebacks.
        made: the graph's nodes by the name of the variable that holds their result.
        variables: the variable that holds each value.
        guard: for a graph of one input: the condition under which `forward` hands over to the module's `call`.
    """

    def __init__(
        self, source: str, names: dict[str, Any], title: str, made: dict[str, Node], guard: str | None, variables: dict[Ref, str]
    ) -> None:  # fmt: skip
        self.code = source.strip() + "\n"
        self._source, self._names, self._made, self._variables = source, names, made, variables
        self._label = "".join(c if c.isalnum() or c in "_-. " else "_" for c in title)[:60]
        self.lines: dict[tuple[Any, int], Node] = {}
        self.forward = None if guard is None else self._function(source.replace("):\n", guard, 1), "forward")
        if guard is None:
            _ = self.run

    @cached_property
    def run(self) -> Any:
        """The function, called as `run(model, *flat_inputs)`."""
        return self._function(self._source, "run")

    def _function(self, source: str, kind: str) -> Any:
        names = dict(self._names)
        filename = f"<hornbeam {self._label} {kind} {id(self):x}>"
        exec(compile(source, filename, "exec"), names)
        text = source.splitlines(keepends=True)
        linecache.cache[filename] = (len(source), None, text, filename)
        function = names["forward"]
        weakref.finalize(function, linecache.cache.pop, filename, None)
        for number, line in enumerate(text, 1):
            variable = line.strip().split(" ", 1)[0].rstrip(":")
            if variable in self._made and "=" in line:
                self.lines[function.__code__, number] = self._made[variable]
        return function


_LITERALS = frozenset(
    (int, float, complex, str, bool, type(None), type(Ellipsis))
    + (torch.dtype, torch.device, torch.layout, torch.memory_format, torch.Size)
)


class _Written:
    """Stands for a constant in the code fx writes: a global with a name of our own making, never what the object calls itself."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name


def lower(graph: Graph, title: str = "model") -> Lowered:
    """Returns the graph as a Python function.

    Args:
        graph: a graph whose module nodes name children by key.
        title: shown in tracebacks.
    """
    out = fx.Graph()
    known: dict[Ref, fx.Node] = {}
    made: dict[str, Node] = {}
    constants: dict[str, Any] = {}

    def take(value: Any) -> Any:
        if type(value) is Ref:
            return known[value]
        if type(value) is Held:
            return _held(out, value.path)
        if type(value) in _LITERALS:
            return value
        constants[f"constant_{len(constants)}_"] = value
        return _Written(f"constant_{len(constants) - 1}_")

    for i, ref in enumerate(graph.inputs):
        known[ref] = out.placeholder(f"input_{i + 1}" if len(graph.inputs) > 1 else "x")
    for node in graph.calls():
        args, kwargs = tree.map_leaves(take, node.args), tree.map_leaves(take, node.kwargs)
        _check_keywords(node)
        result = _emit(out, node, args, kwargs)
        made[result.name] = node
        _bind_outputs(out, node, result, known)
    out.output(tree.map_leaves(lambda v: known[v] if type(v) is Ref else v, graph.output_nest))
    single = type(graph.input_nest) is Ref
    spec = graph.inputs[0].spec if single else None
    return _compiled(out, made, constants, title, spec, {ref: node.name for ref, node in known.items()})


def _emit(out: fx.Graph, node: Node, args: Any, kwargs: Any) -> fx.Node:
    if node.kind == "module" and not _is_plain(node.target):
        child = out.create_node("call_module", "get_submodule", (node.target,), {})
        return out.create_node("call_method", "__call__", (child, *args), kwargs, name=_identifier(node))
    if node.kind == "module":
        return out.create_node("call_module", node.target, args, kwargs, name=_identifier(node))
    if node.kind == "operation":
        return out.create_node("call_function", _named(node), args, kwargs, name=_identifier(node))
    function, name = node.target, getattr(node.target, "__name__", "")
    if isinstance(function, types.MethodWrapperType) and hasattr(function, "__self__") and name == "__get__":
        described: Any = function.__self__
        return out.create_node("call_function", getattr, (args[0], described.__name__), {}, name=described.__name__)
    if name in _OPERATORS and getattr(torch.Tensor, name, None) is function and not kwargs:
        return out.create_node("call_function", _OPERATORS[name], args, {}, name=_identifier(node))
    if name in _REFLECTED and getattr(torch.Tensor, name, None) is function and len(args) == 2:
        return out.create_node("call_function", _OPERATORS[_REFLECTED[name]], (args[1], args[0]), {}, name=_identifier(node))
    if getattr(torch.Tensor, name, None) is function and isinstance(args[0], fx.Node):
        return out.create_node("call_method", name, args, kwargs, name=_identifier(node))
    return out.create_node("call_function", function, args, kwargs, name=_identifier(node))


def _named(node: Node) -> Any:
    """An operation as a function with a name, which fx writes as one of the code's globals."""
    operation = node.target

    def function(*args: Any, **kwargs: Any) -> Any:
        return operation(*args, **kwargs)

    function.__module__, function.__name__ = "operation", _identifier(node)
    return function


def _held(out: fx.Graph, path: str) -> fx.Node:
    """The tensor under a path of attributes."""
    owner, _, key = path.rpartition(".")
    if _is_plain(path) or not owner:
        return out.create_node("get_attr", path)
    return out.create_node("call_function", getattr, (out.create_node("call_module", "get_submodule", (owner,), {}), key), {})


def _is_plain(path: str) -> bool:
    """Whether fx may write a path as it is: Python names without keywords, in ASCII, since Python spells other letters anew."""
    return all(part.isascii() and part.isidentifier() and not keyword.iskeyword(part) for part in path.split("."))


def _identifier(node: Node) -> str:
    """A Python name for a node's result, of our own making: letters, digits and underscores of the node's name."""
    base = node.target if node.kind == "module" else node.name
    kept = "".join(c if c.isascii() and (c.isalnum() or c == "_") else "_" for c in str(base)).strip("_")[:40] or "value"
    return f"v_{kept}" if kept[0].isdigit() or keyword.iskeyword(kept) or kept in ("self", "torch") else kept


def _check_keywords(node: Node) -> None:
    for key in node.kwargs:
        if not (isinstance(key, str) and key.isidentifier() and key.isascii()) or keyword.iskeyword(key):
            raise ValueError(f"The call of {node.name!r} has a keyword argument {key!r}, which is no Python name.")


def _bind_outputs(out: fx.Graph, node: Node, result: fx.Node, known: dict[Ref, fx.Node]) -> None:
    """Gives every output of a node its value: the result itself, or an item of it at any depth."""

    def walk(place: Any, value: fx.Node) -> None:
        if type(place) is Out:
            known[Ref(node, place.index)] = value
        elif isinstance(place, dict):
            for key, inner in place.items():
                if any(type(v) is Out for v in tree.leaves(inner)):
                    walk(inner, out.call_function(operator.getitem, (value, key)))
        elif isinstance(place, (tuple, list)):
            for i, inner in enumerate(place):
                if any(type(v) is Out for v in tree.leaves(inner)):
                    walk(inner, out.call_function(operator.getitem, (value, i)))

    walk(node.structure, result)


_GUARD = """, mask=None):
    if mask is not None or not isinstance(x, torch.Tensor) or x.dim() != {}{}: return self.call(x, mask=mask)
"""


def _compiled(
    out: fx.Graph, made: dict[str, Node], constants: dict[str, Any], title: str, single: Spec | None, variables: dict[Ref, str]
) -> Lowered:  # fmt: skip
    written = out.python_code("self")
    guard = None
    if single is not None:
        floats = single.dtype.startswith(("float", "bfloat"))
        guard = _GUARD.format(len(single.shape), " or not x.is_floating_point()" if floats else "")
    return Lowered(written.src, {**written.globals, **constants, "torch": torch}, title, made, guard, variables)


def failing_call(lowered: Lowered, error: BaseException) -> tuple[Node, dict[Ref, Any]] | None:
    """Returns the node whose line raised an error in a lowered function, and the values that it took."""
    trace = error.__traceback__
    while trace is not None:
        node = lowered.lines.get((trace.tb_frame.f_code, trace.tb_lineno))
        if node is not None:
            found = trace.tb_frame.f_locals
            return node, {r: found.get(lowered._variables.get(r, "")) for r in node.visible_refs()}
        trace = trace.tb_next
    return None
