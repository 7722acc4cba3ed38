"""What a module computes, as a graph of torch functions and of calls of its children, whatever sizes its inputs have.

The module is run on three small batches in which every size that varies differs, in both modes: a number that differs between
the batches is made of a size, one that differs between the modes depends on the mode. A module whose Python looks at values is
run on batches of other values too: what would differ then cannot be written.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from hornbeam.core.weights import Variable, raw
from hornbeam.export.own import CannotWrite
from hornbeam.graph import tree
from hornbeam.graph.context import setting
from hornbeam.graph.graph import Graph
from hornbeam.graph.infer import _TORCH, looking
from hornbeam.graph.node import Held, Node, Ref, Spec, user_source
from hornbeam.graph.record import _READS, _caller, _Functions, _plain_name, _quiet, _Run
from hornbeam.graph.symbolic import look_at

_LOOKS = frozenset((*_READS, "__complex__", "__contains__", "__format__", "__array__", "is_nonzero"))

# Sizes of the batch, then of each further axis that varies, in three runs: odd and even, and no two axes alike in steps or
# ratios. The second choice is for modules that want larger sizes, or such with many divisors.
_SIZES = (
    ((2, 3, 5), (16, 25, 11), (36, 55, 27), (50, 73, 35), (68, 97, 43)),
    ((2, 4, 6), (48, 84, 168), (120, 192, 264), (144, 252, 384), (180, 312, 528)),
)


class Size:
    """A size of an input, in an argument: `(times * x.shape[axis] + inner) // over + plus`; or `by` another, their product."""

    def __init__(
        self, ref: Ref, axis: int, times: int = 1, over: int = 1, inner: int = 0, plus: int = 0,
        by: tuple[Ref, int] | None = None,
    ) -> None:  # fmt: skip
        self.ref, self.axis, self.times, self.over, self.inner, self.plus = ref, axis, times, over, inner, plus
        self.by = by


class ByMode:
    """An argument that is one thing in training and another in inference."""

    def __init__(self, training: Any, inference: Any) -> None:
        self.training, self.inference = training, inference


class Trace(Graph):
    """A graph made by running a module.

    Attributes:
        reads: source lines at which the module's Python looked at a value.
        in_training: the graph in training mode, where its calls are others than those in inference; else None.
    """

    reads: list[tuple[str, int]]
    in_training: Trace | None = None


class _Deep(_Run):
    """A run that notes every torch function that the module's own code calls, also on no known tensor."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__(module)
        self.arguments: dict[str, Any] = {}
        self._hold()

    def _hold(self) -> None:
        """Names the tensors that the module holds by their paths."""
        for prefix, child in self.module.named_modules():
            for slot in ("_parameters", "_buffers"):
                for key, value in raw(child, slot).items():
                    if value is not None:
                        self.known[id(value)] = Held(f"{prefix}.{key}" if prefix else key)  # type: ignore[assignment]

    def enter(self, args: Any, kwargs: Any) -> None:
        self._hold()  # buffers are copies while a module is looked at
        self.before = dict(raw(self.module, "_buffers"))
        for i, value in enumerate(v for v in tree.leaves((args, kwargs)) if isinstance(v, torch.Tensor)):
            self.bind(Node("input", None, f"input_{i + 1}"), value)
        self.inputs = tree.map_leaves(self.ref, args)
        self.arguments = {k: tree.map_leaves(self.ref, v) for k, v in kwargs.items() if _has_tensor(v)}

    def call(self, module: nn.Module, plain: Any, args: Any, kwargs: Any) -> Any:
        """Stands in for a module's call while the run goes on."""
        result = super().call(module, plain, args, kwargs)
        if self.depth == -1:
            self.leave()
        return result

    def leave(self) -> None:
        """Notes which of the module's own buffers are other tensors than before: they are given the new values."""
        before, now = self.before, raw(self.module, "_buffers")
        for key, value in list(now.items()):
            if value is before.get(key):
                continue
            made = self.known.get(id(value)) if value is not None else None
            if type(made) is not Ref or before.get(key) is None or before[key].shape != value.shape:
                raise CannotWrite(f"it makes its buffer {key!r} another one when it is called")
            plain = Node("function", torch.Tensor.detach, "detach", (made,))
            self.bind(plain, value.detach())
            held: Any = Held(key)
            self.bind(Node("function", torch.Tensor.copy_, "copy_", (held, Ref(plain, 0))), torch.empty_like(value))

    def function(self, function: Any, args: Any, kwargs: Any, result: Any) -> None:
        name = getattr(function, "__name__", "")
        known = [v for v in tree.leaves((args, kwargs)) if isinstance(v, torch.Tensor) and id(v) in self.known]
        if name in _LOOKS:
            source = user_source()
            if known and source is not None and source not in self.reads and _caller() is not None:
                self.reads.append(source)
            return
        made = [v for v in tree.leaves(result) if isinstance(v, torch.Tensor)]
        changes = name in ("__setitem__", "__delitem__")
        if self.depth != 0 or not (made or changes) or (name == "__get__" and known and made[0] is known[0]):
            return
        if (name == "__get__" and function.__self__.__name__ in ("data", "grad", "_base")) or _caller() == "core":
            self._alias(made, known)
        else:
            shown = tree.map_leaves(self.ref, args), tree.map_leaves(self.ref, kwargs)
            self.bind(Node("function", function, _plain_name(function, name), *shown, user_source()), result)

    def _alias(self, made: list[torch.Tensor], known: list[torch.Tensor]) -> None:
        for value in made:
            if known:
                self.known.setdefault(id(value), self.known[id(known[0])])
            self.alive.append(value)


def _has_tensor(value: Any) -> bool:
    return any(isinstance(v, torch.Tensor) for v in tree.leaves(value))


def trace(module: nn.Module, args: Any, kwargs: dict[str, Any], modes: bool = True) -> Trace:
    """Returns what a module computes.

    Args:
        module: any module.
        args, kwargs: its arguments, with Specs in place of tensors.
        modes: whether training is looked at too.

    Raises:
        CannotWrite: what it computes depends on sizes in a way that no expression of them gives.
    """
    inference = _all_sizes(module, args, kwargs, False)
    if not modes:
        return inference
    try:
        training = _all_sizes(module, args, kwargs, True)
    except CannotWrite:
        raise
    except Exception:  # it takes no small batch in training
        return inference
    if not _alike(inference, training):
        inference.in_training = training
        return inference
    place = {id(n): i for i, n in enumerate(training.nodes)}
    for node, other in zip(inference.nodes, training.nodes, strict=True):
        swap = lambda v: Ref(inference.nodes[place[id(v.node)]], v.index) if type(v) is Ref else v  # noqa: E731
        node.args = _merged(node.args, tree.map_leaves(swap, other.args))
        node.kwargs = _merged(node.kwargs, tree.map_leaves(swap, other.kwargs))
    return inference


def _alike(one: Trace, two: Trace) -> bool:
    same = list(map(_named, one.nodes)) == list(map(_named, two.nodes))
    return same and _flat_outputs(one) == _flat_outputs(two) and all(
        len(tree.leaves((a.args, a.kwargs))) == len(tree.leaves((b.args, b.kwargs))) and list(a.kwargs) == list(b.kwargs)
        and _refs(a, one) == _refs(b, two)
        for a, b in zip(one.nodes, two.nodes, strict=True)
    )  # fmt: skip


def _refs(node: Node, graph: Trace) -> list[Any]:
    place = {id(n): i for i, n in enumerate(graph.nodes)}
    return [(place[id(v.node)], v.index) if type(v) is Ref else None for v in tree.leaves((node.args, node.kwargs))]


def _flat_outputs(graph: Trace) -> list[Any]:
    place = {id(n): i for i, n in enumerate(graph.nodes)}
    return [(place[id(r.node)], r.index) for r in graph.outputs]


def _merged(inference: Any, training: Any) -> Any:
    flat = iter(tree.leaves(training))

    def merge(value: Any) -> Any:
        other = next(flat)
        if type(value) is not type(other) or not isinstance(value, (bool, int, float, str)) or value == other:
            return value
        return ByMode(other, value)

    def walk(nest: Any) -> Any:
        if isinstance(nest, dict):
            keys = tree.sorted_keys(nest)
            made = {k: walk(nest[k]) for k in keys}
            return {k: made[k] for k in nest}
        return tree.map_leaves(merge, nest) if not isinstance(nest, (list, tuple)) else type(nest)(map(walk, nest))

    return walk(inference) if not _odd(inference) else inference


def _odd(nest: Any) -> bool:
    parts = nest if isinstance(nest, tuple) else ()
    return any(hasattr(v, "_fields") or type(v).__module__ == "torch.return_types" for v in parts)


# -- sizes


def _all_sizes(module: nn.Module, args: Any, kwargs: dict[str, Any], training: bool) -> Trace:
    """The graph of a module's calls, with sizes of inputs in place of the numbers that come from them."""
    specs = [v for v in tree.leaves((args, kwargs)) if isinstance(v, Spec)]
    if not any(d is None for s in specs for d in s.shape):
        return _graph_of(_looked(module, args, kwargs, training, [s[0] for s in _SIZES[0]]))
    try:
        runs = [_looked(module, args, kwargs, training, [s[i] for s in _SIZES[0]]) for i in range(3)]
    except CannotWrite:
        raise
    except Exception:
        runs = [_looked(module, args, kwargs, training, [s[i] for s in _SIZES[1]]) for i in range(3)]
    return _joined(runs)


_CONTENTS = (
    lambda x: torch.linspace(0.1, 0.9, x.numel()).reshape(x.shape).to(x.dtype),
    lambda x: (torch.linspace(-3e4, 7e4, x.numel()).reshape(x.shape)).to(x.dtype),
    torch.ones_like,
)


def _check_values(run: _Deep, again: Any) -> None:
    """Refuses a module whose Python does otherwise for other values.

    Args:
        run: a run on zeros, in which the module looked at values.
        again: makes the same run on a batch filled by a function of the zeros.
    """
    lines = " and ".join(f"{os.path.basename(name)}, line {line}," for name, line in run.reads)
    for content in _CONTENTS:
        try:
            other = again(content)
        except CannotWrite:
            raise
        except Exception:  # no values that it takes: numbers of classes, say
            continue
        if not _same_calls(run, other):
            raise CannotWrite(f"its Python looks at values at {lines} and does otherwise for other values")


def _same_calls(one: _Deep, two: _Deep) -> bool:
    if list(map(_named, one.nodes)) != list(map(_named, two.nodes)):
        return False
    return all(
        _plainly(a, one) == _plainly(b, two) for a, b in zip(one.nodes, two.nodes, strict=True) if a.kind != "input"
    ) and _placed(one.outputs, one) == _placed(two.outputs, two)


def _plainly(node: Node, run: _Deep) -> Any:
    return _placed((node.args, node.kwargs), run)


def _placed(nest: Any, run: _Deep) -> list[Any]:
    """What a nest holds, values as the places of the calls that made them."""
    place = {id(n): i for i, n in enumerate(run.nodes)}

    def shown(value: Any) -> Any:
        if type(value) is Ref:
            return place[id(value.node)], value.index
        return value.tolist() if isinstance(value, torch.Tensor) else repr(value)

    return [shown(v) for v in tree.leaves(nest)]


def _joined(runs: list[_Deep]) -> Trace:
    first, graph = runs[0], _graph_of(runs[0])
    for other in runs[1:]:
        if [_named(n) for n in first.nodes] != [_named(n) for n in other.nodes]:
            raise CannotWrite("its Python makes other calls for inputs of other sizes")
    sizes = [
        (Ref(node, j), axis, found)
        for i, node in enumerate(graph.nodes)
        if node.kind == "input"
        for j in range(len(first.values[i]))
        for axis in range(first.values[i][j].dim())
        if len(set(found := tuple(run.values[i][j].shape[axis] for run in runs))) > 1
    ]
    for i, node in enumerate(graph.nodes):
        if node.kind != "input":
            nests = [(run.nodes[i].args, run.nodes[i].kwargs) for run in runs]
            node.args, node.kwargs = _resolved(nests, sizes)
        for j, spec in enumerate(node.outputs):
            shapes = zip(*(run.values[i][j].shape for run in runs), strict=True)
            node.outputs[j] = Spec(tuple(d[0] if len(set(d)) == 1 else None for d in shapes), spec.dtype)
    return graph


def _named(node: Node) -> Any:
    """What a call calls; an attribute's getter is a new object each time."""
    name = getattr(node.target, "__name__", None)
    return getattr(node.target.__self__, "__name__", name) if name == "__get__" else node.target


def _resolved(nests: Any, sizes: list[Any]) -> Any:
    """The first of alike nests, with sizes of inputs in place of the numbers that differ."""
    one = nests[0]
    if isinstance(one, dict):
        return {k: _resolved([n[k] for n in nests], sizes) for k in one}
    if isinstance(one, (list, tuple)):
        if len({len(n) for n in nests}) > 1:
            raise CannotWrite("its Python makes other calls for inputs of other sizes")
        made = [_resolved(parts, sizes) for parts in zip(*nests, strict=True)]
        return made if isinstance(one, list) else tuple(made)
    if isinstance(one, slice):
        return slice(*(_resolved([getattr(n, k) for n in nests], sizes) for k in ("start", "stop", "step")))
    if type(one) in (int, float) and any(n != one for n in nests):
        return _size(nests, sizes)
    if isinstance(one, (bool, str, type(None))) and any(n != one for n in nests):
        raise CannotWrite("its Python chooses otherwise for inputs of other sizes")
    if isinstance(one, torch.Tensor) and any(n.shape != one.shape for n in nests):
        raise CannotWrite("it makes tensors whose sizes depend on those of its inputs in a way that torch does not show")
    return one


def _size(numbers: list[Any], sizes: list[Any]) -> Size:
    """The size of an input, or a number made of one, that has these values.

    Raises:
        CannotWrite: there is none.
    """
    forms = [(times, over, inner) for over in range(1, 9) for times in range(1, 5) for inner in range(over)]
    forms += [(times, 1, 0) for times in range(5, 4097)]
    for times, over, inner in forms if all(type(n) is int for n in numbers) else ():
        for ref, axis, found in sizes:
            rest = {n - (times * size + inner) // over for n, size in zip(numbers, found, strict=True)}
            if len(rest) == 1:
                return Size(ref, axis, times, over, inner, rest.pop())
    for i, (ref, axis, found) in enumerate(sizes):
        for other, along, more in sizes[i + 1 :]:
            ratios = {n / (a * b) for n, a, b in zip(numbers, found, more, strict=True)}
            if len(ratios) == 1 and (ratio := ratios.pop()) >= 1 and ratio.is_integer():
                return Size(ref, axis, int(ratio), by=(other, along))
    shown = ", ".join(map(str, numbers))
    raise CannotWrite(f"it computes a number ({shown}) from the sizes of its inputs in a way that is not to be seen")


def _looked(module: nn.Module, args: Any, kwargs: dict[str, Any], training: bool, sizes: list[int]) -> _Deep:
    """A run on zeros, and where the module's Python looks at values, a check that others change nothing."""
    run = _once(module, args, kwargs, training, sizes)
    if run.reads:
        _check_values(run, lambda content: _once(module, args, kwargs, training, sizes, content))
    return run


def _once(
    module: nn.Module, args: Any, kwargs: dict[str, Any], training: bool, sizes: list[int], content: Any = lambda x: x,
) -> _Deep:  # fmt: skip
    axes: dict[int, int] = {}

    def size_of(axis: int) -> int:
        place = 0 if axis == 0 else axes.setdefault(axis, len(axes) + 1)
        return sizes[min(place, len(sizes) - 1)]

    def fill(value: Any) -> Any:
        if not isinstance(value, Spec):
            return value
        shape = [size_of(i) if d is None else d for i, d in enumerate(value.shape)]
        return content(torch.zeros(shape, dtype=_TORCH[value.dtype]))

    run = _Deep(module)
    with looking(), _quiet(module), setting(recorder=run, training=training, depth=0, root=None), _Functions(), _no_writing():
        for m in module.modules():
            m.__dict__["training"] = training
        look_at(module, tree.map_leaves(fill, args), {k: tree.map_leaves(fill, v) for k, v in kwargs.items()})
    return run


@contextmanager
def _no_writing() -> Iterator[None]:
    """Refuses what would go unseen: a call that gives weights new values by their own methods."""

    def refuse(weight: Any, value: Any) -> None:
        raise CannotWrite(f"it gives its weight {weight.name!r} new values when it is called")

    before = {name: Variable.__dict__[name] for name in ("assign", "assign_add", "assign_sub")}
    for name in before:
        setattr(Variable, name, refuse)
    try:
        yield
    finally:
        for name, method in before.items():
            setattr(Variable, name, method)


def _graph_of(run: _Deep) -> Trace:
    for i, node in enumerate(run.nodes):
        node.outputs = [Spec(tuple(v.shape), str(v.dtype).removeprefix("torch.")) for v in run.values[i]]
    made = Trace(run.nodes, (run.inputs, run.arguments), run.outputs)
    made.reads = run.reads
    return made
