"""A graph's calls as lines of source."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from hornbeam.export.code import Code, Line, Var, code
from hornbeam.export.functions import arguments, call, index
from hornbeam.export.naming import identifier, literal
from hornbeam.export.objects import Objects
from hornbeam.export.tracing import Size
from hornbeam.graph import in_place, tree
from hornbeam.graph.graph import Graph
from hornbeam.graph.node import Held, Node, Out, Ref
from hornbeam.ops import create

_ROOM = 60
_AUGMENTED = frozenset(f"__i{n}__" for n in "add sub mul truediv floordiv mod pow and or xor".split())


def in_reading_order(graph: Graph, nodes: list[Node], masks: bool = False) -> list[Node]:
    """Returns calls so that each branch is written in one piece, before the call that joins it with others."""
    wanted = {id(n) for n in nodes}
    order: list[Node] = []
    done: set[int] = set()
    stack: list[tuple[Node, bool]] = [(r.node, False) for r in reversed(graph.outputs)]
    while stack:
        node, finished = stack.pop()
        if finished:
            order.append(node)
        elif id(node) in wanted and id(node) not in done:
            done.add(id(node))
            stack.append((node, True))
            stack.extend((r.node, False) for r in reversed(node.refs() if masks else node.visible_refs()))
    return order


class Body:
    """Makes the lines for one graph.

    Args:
        objects: writes constants and functions.
        callee: gives the expression of the module or operation that a node calls.
        held: gives the expression of a tensor that the model holds.
        named: gives the name that a node's result would best have, or None.
        masks: whether keyword arguments that no user wrote are written.
    """

    def __init__(
        self, objects: Objects, callee: Callable[[Node], Code], held: Callable[[str], Code],
        named: Callable[[Node], str | None] = lambda node: None, masks: bool = False,
    ) -> None:  # fmt: skip
        self.objects, self.callee, self.held, self.named, self.masks = objects, callee, held, named, masks
        self.lines: list[Line] = []
        self.values: dict[Ref, Code] = {}
        self.uses: dict[Ref, int] = {}

    def count(self, nodes: list[Node], results: list[Ref]) -> None:
        """Counts how often each value is taken, so that one taken once may stand inside the call that takes it."""
        for ref in (*results, *(r for n in nodes for r in (n.refs() if self.masks else n.visible_refs()))):
            self.uses[ref] = self.uses.get(ref, 0) + 1

    def take(self, value: Any) -> Code:
        """Returns the expression of an argument."""
        if type(value) is Ref:
            return self.values.get(value, (Var(value),))
        if type(value) is Held:
            return self.held(value.path)
        if type(value) is Size:
            return self._size(value)
        if isinstance(value, (list, tuple)) and (type(value).__name__ != "Size" and literal(value) is None):
            inner = code(*[part for i, v in enumerate(value) for part in ((", ", self.take(v)) if i else (self.take(v),))])
            return code("[", inner, "]") if isinstance(value, list) else code("(", inner, ",)" if len(value) == 1 else ")")
        if isinstance(value, dict) and literal(value) is None:
            pairs = [code(literal(k) or "", ": ", self.take(v)) for k, v in value.items()]
            return code("{", *[part for i, p in enumerate(pairs) for part in ((", ", p) if i else (p,))], "}")
        if isinstance(value, slice):
            return code("slice(", *(part for v in (value.start, ", ", value.stop, ", ", value.step)
                                    for part in ((v,) if v == ", " else self.take(v))), ")")  # fmt: skip
        return self.objects.value(tuple(value) if isinstance(value, torch.Size) else value)

    size = ".size({})"

    def _size(self, size: Size) -> Code:
        made = code(*self.take(size.ref), self.size.format(size.axis))
        if size.by is not None:
            made = code(made, " * ", *self.take(size.by[0]), self.size.format(size.by[1]))
        if size.times != 1:
            made = code(f"{size.times} * ", made)
        if size.inner:
            made = code("(", made, f" + {size.inner})")
        if size.over != 1:
            made = code(made, f" // {size.over}")
        return code(made, f" {'+' if size.plus > 0 else '-'} {abs(size.plus)}") if size.plus else made

    def add(self, node: Node) -> None:
        """Writes a call."""
        kwargs = node.kwargs if self.masks else {k: v for k, v in node.kwargs.items() if k not in node.passed}
        self.write(node, node.args, kwargs)

    def write(self, node: Node, args: Any, kwargs: dict[str, Any]) -> None:
        """Writes a call with other arguments than the node's own."""
        self._take_in(node, (args, kwargs))
        name = getattr(node.target, "__name__", "")
        if node.kind == "function" and node.target in (in_place.set_item, in_place.in_copy):
            self._changed_copy(node)
        elif node.kind == "function" and name == "__setitem__":
            left = code(self.take(args[0]), "[", index(args[1], self.take), "]")
            self.lines.append(Line([], self.take(args[2]), target=left, pinned=True))
        elif node.kind == "function":
            function = node.target if kwargs else self.spelled(node.target, args)
            right = call(function, args, kwargs, self.take, self._function)
            self.objects.need(*{w for w in ("torch", "F", "keras") if any(type(p) is str and f"{w}." in p for p in right)})
            self._bind(node, right)
            self.lines[-1].pinned = changes_its_tensor(name)
        else:
            args, kwargs = self.placed(node, args, kwargs)
            self._bind(node, code(self.callee(node), "(", arguments(args, kwargs, self.take), ")"))

    def spelled(self, function: Any, args: tuple[Any, ...]) -> Any:
        """The function as which a call without keyword arguments is written; to be overridden."""
        return function

    def resolve(self, ref: Ref) -> Ref:
        """The value that a value stands for."""
        return ref

    def placed(self, node: Node, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """The arguments of a call; to be overridden where some are better written otherwise."""
        return args, kwargs

    def _take_in(self, node: Node, given: Any) -> None:
        """Takes the lines just before a call into it, where they are short expressions that nothing else needs."""
        refs = [self.resolve(v) for v in tree.leaves(given) if type(v) is Ref]
        room = _ROOM
        for ref in reversed(refs):
            if not self.lines or self.uses.get(ref) != 1 or self.lines[-1].outs != [Var(ref)] or self.lines[-1].pinned:
                return
            kind, right = self.lines[-1].inline, self.lines[-1].right
            size = sum(len(p) if type(p) is str else 8 for p in right)
            if not kind or size > room or (kind == "prefix" and node.kind != "function"):
                return
            room -= size
            self.values[ref] = right
            self.lines.pop()

    def _function(self, function: Any) -> str:
        if function is create.convert_to_tensor:
            return "torch.as_tensor"
        return self.objects.function(function)

    def _changed_copy(self, node: Node) -> None:
        out, source = Var(Ref(node, 0)), node.args[0]
        own = type(source) is Ref and self.uses.get(source) == 1  # nobody else looks at the tensor that is changed
        made = getattr(source.node.target, "__name__", "") if own else ""
        if made in ("set_item", "in_copy") and source.node.kind == "function":
            out = self.take(source)[0]
            self.values[Ref(node, 0)] = (out,)
        else:
            copied = self.take(source)
            if made == "clone" and self.lines and self.lines[-1].outs == list(copied):
                self.lines[-1].outs = [out]  # made just before, to be changed
                return self._change(node, out)
            self.lines.append(Line([out], copied if made == "clone" else code(copied, ".clone()")))
        self._change(node, out)

    def _change(self, node: Node, out: Var) -> None:
        if node.target is in_place.set_item:
            _, place, value = node.args
            left = code(out, "[", index(place, self.take), "]")
            self.lines.append(Line([], self.take(value), target=left, pinned=True))
        else:
            inner = arguments(node.args[2:], node.kwargs, self.take)
            self.lines.append(Line([], code(out, f".{node.args[1]}(", inner, ")"), pinned=True))

    def _bind(self, node: Node, right: Code) -> None:
        structure = node.structure
        wanted = self.named(node)
        about = (self.about(node),) if node.kind != "function" else ()
        if type(structure) is Out:
            outs: list[Var | None] = [Var(Ref(node, structure.index))]
        elif isinstance(structure, (tuple, list)) and structure and all(type(v) is Out for v in structure):
            outs = [Var(Ref(node, v.index)) for v in structure]
        else:
            whole = Var(("all of", Ref(node, 0)))
            outs = [whole]
            for ref, path in _paths(node, structure):
                self.values[ref] = code(whole, path)
        names = {} if wanted is None or len(outs) != 1 else {outs[0]: identifier(wanted)}
        self.lines.append(Line(outs, right, names, about))  # type: ignore[arg-type]
        if node.kind == "function":
            prefix = type(right[0]) is str and right[0].startswith(("torch.", "F.", "keras."))
            self.lines[-1].inline = "prefix" if prefix else "plain"

    def about(self, node: Node) -> str:
        """The class that a node calls."""
        return type(node.target).__name__


def changes_its_tensor(name: str) -> bool:
    """Whether a torch function of that name works in place."""
    return (name.endswith("_") and not name.endswith("__")) or name in _AUGMENTED


def _paths(node: Node, structure: Any, path: str = "") -> list[tuple[Ref, str]]:
    """The outputs in a nest, and how each is reached."""
    if type(structure) is Out:
        return [(Ref(node, structure.index), path)]
    if isinstance(structure, dict):
        items: Any = structure.items()
    elif isinstance(structure, (tuple, list)):
        items = enumerate(structure)
    else:
        return []
    return [found for key, inner in items for found in _paths(node, inner, f"{path}[{literal(key)}]")]


def nest_code(nest: Any, take: Callable[[Any], Code]) -> Code:
    """Returns the expression of a nest of values."""
    if isinstance(nest, dict):
        pairs = [code(literal(k) or "", ": ", nest_code(v, take)) for k, v in nest.items()]
        return code("{", *[part for i, p in enumerate(pairs) for part in ((", ", p) if i else (p,))], "}")
    if isinstance(nest, (tuple, list)):
        inner = code(*[part for i, v in enumerate(nest) for part in ((", ", nest_code(v, take)) if i else (nest_code(v, take),))])
        return code("[", inner, "]") if isinstance(nest, list) else code("(", inner, ",)" if len(nest) == 1 else ")")
    return take(nest)


def refs_in(nest: Any) -> list[Ref]:
    """Returns the Refs in a nest."""
    return [v for v in tree.leaves(nest) if type(v) is Ref]
