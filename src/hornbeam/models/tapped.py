"""Reaching into modules: what layers, functions and modules inside them give."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from hornbeam.core.errors import describe, did_you_mean
from hornbeam.graph import tree
from hornbeam.graph.edit import find, new_input, split_index
from hornbeam.graph.errors import boundary
from hornbeam.graph.graph import calls_behind
from hornbeam.graph.node import Node, Out, Ref
from hornbeam.graph.record import record
from hornbeam.graph.symbolic import symbols_in
from hornbeam.inspect.given import arguments_of
from hornbeam.models.editing import Again, again, known_graph, model_like, one_call, runs_graph, untouched
from hornbeam.models.functional import GraphModel


@boundary
def tap(module: nn.Module, names: Any, index: int | None = None, inputs: Any = None) -> Any:
    """Returns intermediate outputs of a module, as a module that shares its layers and weights.

    Args:
        module: a Sequential or functional model, which gives a functional model; or any other module, which gives a module that
            runs the original once and collects what modules in it return (see `Tapped`).
        names: path of a layer or function, such as "backbone/block3", or a list, tuple or dict of such. "conv:1" is the second
            call of a shared layer, "conv:-1" the last.
        index: the number of the call, in place of ":1": of the innermost part of the path that is called several times.
        inputs: for a module that runs its own Python: what it is called with (a shape with None for the batch, an example
            tensor, or a list of such), to check at once that the named modules are called.

    Returns:
        The model; it takes what the module takes, and gives the outputs in the nest of `names`.

    Raises:
        ValueError: there is no such call, or there are several of the name.

    >>> from hornbeam.layers import Dense, Input
    >>> from hornbeam.models import Sequential
    >>> model = Sequential([Input((3,)), Dense(4, name="hidden"), Dense(2)])
    >>> tap(model, "hidden").output_shape
    (None, 4)
    """
    paths = tree.map_leaves(lambda n: _path(module, n, index), names)
    flat = tree.leaves(paths)
    if not flat:
        raise ValueError(f"tap takes the name of a call, or a list or dict of names. Received: {names!r}")
    if not runs_graph(module):
        if not isinstance(module, nn.Module):
            raise TypeError(f"tap takes a torch.nn.Module. Received: {describe(module)}")
        made = Tapped(module, paths)
        if inputs is not None:
            made.check(inputs)
        return made
    model: Any = module
    with untouched(model):
        sources, _, found, keys = _reach(model, flat, False)
        return model_like(model, sources, tree.pack(paths, found), keys, None)


def _path(module: Any, name: Any, index: int | None) -> str:
    """A path with the number of a call at the innermost part of it that is called several times; else at its end."""
    if not isinstance(name, str) or not name:
        raise TypeError(f"A call is named by a path such as 'backbone/block3'. Received: {describe(name)}")
    if index is None:
        return name
    parts, numbered = name.split("/"), -1
    for i, part in enumerate(parts):
        calls = find(known_graph(module), part) if runs_graph(module) else []
        if len(calls) > 1 and split_index(part)[1] is None:
            numbered = i
        if not calls or calls[0].kind != "module":
            break
        module = module._child(calls[0].target)
    parts[numbered] += f":{index}"
    return "/".join(parts)


def _reach(model: GraphModel, paths: list[str], whole: bool) -> tuple[Any, Any, list[Any], dict[int, str]]:
    """Records a model anew so that the values at some paths come out of the nested models around them.

    Args:
        model: the model.
        paths: paths in it.
        whole: whether its own outputs are needed, too.

    Returns:
        inputs, outputs, the values at the paths, and keys for the nested models that were opened.
    """
    wanted = []
    deeper: dict[str, list[str]] = {}  # by nested model: all its calls go through one that gives all that is wanted of any
    for path in paths:
        first, _, rest = path.partition("/")
        node = one_call(model, first, f"/{rest}" if rest else "")
        wanted.append((node, rest))
        if rest:
            _check_opens(model, node, path)
            deeper.setdefault(node.target, [])
        if rest and rest not in deeper[node.target]:
            deeper[node.target].append(rest)
    needed = {n.target for n in _needed(model, wanted, whole) if n.kind == "module"}
    opened = {target: _opened(model._child(target), rests, target in needed) for target, rests in deeper.items()}
    inner: dict[tuple[int, str], Any] = {}

    def through(made: Again, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        node = made.node
        result, values = opened[node.target](*args, **kwargs)
        inner.update({(id(node), rest): value for rest, value in zip(deeper[node.target], values, strict=True)})
        if symbols_in(result):
            return result
        dead = lambda v: new_input(node.outputs[v.index], node.name) if type(v) is Out else v  # noqa: E731
        return tree.map_leaves(dead, node.structure)  # nothing needs it: what comes after is left out of the model

    calls = [n for n in known_graph(model).calls() if n.kind == "module" and n.target in deeper]
    sources, outputs, given = again(model, dict.fromkeys(map(id, calls), through), "tap")
    keys = {id(module): target for target, module in opened.items()}
    return sources, outputs, [inner[id(node), rest] if rest else given[id(node)] for node, rest in wanted], keys


def _needed(model: GraphModel, wanted: list[tuple[Node, str]], whole: bool) -> list[Node]:
    """The calls whose own results the wanted values come from."""
    values = [r for node, rest in wanted if rest for r in node.refs()]
    values += [Ref(node, i) for node, rest in wanted if not rest for i in range(len(node.outputs))]
    return calls_behind([*values, *(known_graph(model).outputs if whole else ())])


def _check_opens(model: GraphModel, node: Node, path: str) -> None:
    if node.kind != "module":
        raise ValueError(f"Model {model.name!r}: {node.name!r} in {path!r} is a {node.kind}; there is nothing inside it.")


def _opened(module: Any, paths: list[str], whole: bool) -> Any:
    """A nested module that gives its own result, if that is needed, and the values at paths inside it."""
    if not runs_graph(module):
        return Tapped(module, paths, keep_result=True)
    sources, outputs, found, keys = _reach(module, paths, whole)
    return model_like(module, sources, (outputs if whole else (), found), keys, module.name)


class Tapped(nn.Module):
    """Runs a module once and returns what some of the modules in it gave.

    Args:
        module: any module; it is shared, not copied.
        names: path of a module in it, such as "encoder/layer1" or "encoder.layer1", or a nest of such; "cell:0" is the first of
            several calls in a run, "cell:-1" the last.
        keep_result: whether the module's own result is returned too: `(result, values)`.

    Raises:
        ValueError: there is no such module; in a call, that it did not run, or ran more than once.

    >>> import torch
    >>> net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    >>> Tapped(net, ["0", "1"])(torch.ones(5, 3))[1].shape
    torch.Size([5, 4])
    """

    def __init__(self, module: nn.Module, names: Any, keep_result: bool = False) -> None:
        super().__init__()
        modes = [(m, m.training) for m in module.modules()]
        self.training = module.training
        self.module, self.names, self.keep_result = module, names, keep_result
        for part, mode in modes:
            part.training = mode
        for name in tree.leaves(names):
            _find(module, name)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Runs the module, and returns the values in the nest of `names`."""
        found: dict[str, list[Any]] = {name: [] for name in tree.leaves(self.names)}
        with _hooked(self.module, found):
            result = self.module(*args, **kwargs)
        values = tree.map_leaves(lambda name: _chosen(name, found[name]), self.names)
        return (result, values) if self.keep_result else values

    def check(self, inputs: Any) -> None:
        """Raises where a run on inputs like those given does not call what is to be tapped."""
        args, kwargs = arguments_of(self.module, inputs, "tap")
        record(self, *args, **kwargs)


@contextmanager
def _hooked(module: nn.Module, found: dict[str, list[Any]]) -> Iterator[None]:
    """Collects the results of named modules of calls by this thread."""
    thread = threading.get_ident()

    def collect(values: list[Any]) -> Callable[..., None]:
        def hook(_: nn.Module, args: Any, result: Any) -> None:
            if threading.get_ident() == thread:
                values.append(result)

        return hook

    handles = []
    try:
        for name, values in found.items():
            handles.append(_find(module, name)[0].register_forward_hook(collect(values)))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _find(module: nn.Module, name: str) -> tuple[nn.Module, int | None]:
    for base, index in ((name, None), split_index(name)):
        found = _by_path(module, base.replace("/", "."))
        if found is not None:
            return found, index
    paths = {_shown(module, path): m for path, m in module.named_modules() if path}
    shown = ", ".join(map(repr, list(paths)[:30])) + (", …" if len(paths) > 30 else "")
    raise ValueError(f"{type(module).__name__} has no module {name!r} in it.{did_you_mean(name, paths)} It has: {shown}.")


def _by_path(module: nn.Module, path: str) -> nn.Module | None:
    """A module by the path of its attributes, or by the names of the layers on the way."""
    modules = dict(module.named_modules())
    if path and path in modules:
        return modules[path]
    return next((m for p, m in modules.items() if p and _shown(module, p).replace("/", ".") == path), None)


def _shown(module: nn.Module, path: str) -> str:
    """The path of a module, layers by their names."""
    names = []
    for key in path.split("."):
        module = module._modules[key]  # type: ignore[assignment]
        names.append(getattr(module, "name", None) or key)
    return "/".join(map(str, names))


def _chosen(name: str, values: list[Any]) -> Any:
    index = split_index(name)[1]
    if not values:
        raise ValueError(f"tap: {name!r} was not called in this run, or only by its `forward`, so it has no output.")
    if index is None and len(values) > 1:
        spellings = ", ".join(repr(f"{name}:{i}") for i in range(min(len(values), 4)))
        raise ValueError(f"tap: {name!r} was called {len(values)} times in this run. Say which call: {spellings}, ….")
    if index is not None and not -len(values) <= index < len(values):
        raise ValueError(f"tap: {name!r} asks for a call that this run did not make: there were {len(values)}.")
    return values[index or 0]
