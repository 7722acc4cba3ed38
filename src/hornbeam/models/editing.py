"""Models with a layer more, less or replaced.

Every function returns a new model that shares the layers, and with them the weights. The original stays as it is: it may be
compiled, be part of other models, or run in another thread.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from hornbeam.core.errors import describe, did_you_mean
from hornbeam.core.layer import Layer
from hornbeam.graph import tree
from hornbeam.graph.edit import call_names, find, input_symbols, keep_source
from hornbeam.graph.errors import boundary
from hornbeam.graph.graph import Graph, make_call
from hornbeam.graph.node import Node
from hornbeam.graph.symbolic import Symbol, symbols_in
from hornbeam.layers.input import InputLayer
from hornbeam.models.functional import Functional, GraphModel
from hornbeam.models.sequential import Sequential

Change = Callable[[Any, tuple[Any, ...], dict[str, Any]], Any]


# -- finding


def runs_graph(module: Any) -> bool:
    """Whether a module is a model that runs from its graph, not from a `call` of its own."""
    return isinstance(module, GraphModel) and getattr(type(module).call, "_runs_graph", False)


def known_graph(model: GraphModel) -> Graph:
    try:
        return model._known_graph()
    except AttributeError as error:
        raise ValueError(str(error)) from None


def _calls(model: GraphModel, name: str) -> list[Node]:
    graph = known_graph(model)
    try:
        found = find(graph, name)
    except IndexError as error:
        raise ValueError(f"Model {model.name!r}: {error}") from None
    if not found:
        names = call_names(graph)
        raise ValueError(
            f"Model {model.name!r} has no call {name!r}.{did_you_mean(name, names)} Calls: {', '.join(map(repr, names))}."
        )
    return found


def one_call(model: GraphModel, name: str, rest: str = "") -> Node:
    """The call of a name; `rest` is what follows it in a path, for the error that says how to write which call is meant."""
    found = _calls(model, name)
    if len(found) > 1:
        spellings = ", ".join(repr(f"{name}:{i}{rest}") for i in range(len(found)))
        raise ValueError(f"Model {model.name!r} calls {name!r} {len(found)} times. Say which call: {spellings}.")
    return found[0]


# -- making


@contextmanager
def untouched(model: GraphModel) -> Iterator[None]:
    """Lets calls be recorded that leave no trace in the model's layers: neither in what `layer.output` is nor in their modes."""
    modules = list(model.modules())
    recorded = [t for t in (*modules, *(n.target for n in known_graph(model).calls())) if hasattr(t, "_inbound_nodes")]
    nodes = [(t, list(t._inbound_nodes)) for t in recorded]
    modes = [(m, m.training) for m in modules]
    try:
        yield
    finally:
        for target, before in nodes:
            target.__dict__["_inbound_nodes"] = before
        for module, mode in modes:
            module.__dict__["training"] = mode


def model_like(model: GraphModel, inputs: Any, outputs: Any, keys: dict[int, str], name: str | None) -> Functional:
    """A model of new inputs and outputs that holds what it shares with another under the same keys."""
    made = Functional(inputs, outputs, name=name, dtype=model.dtype_policy)
    made._rekey({**{id(m): k for k, m in model._modules.items()}, **keys})
    made.__dict__.update(training=model.training, _trainable=model._trainable, _named=model._named and name is not None)
    return made


def again(
    model: GraphModel, changes: dict[int, Change], title: str, anew: dict[int, Any] | None = None
) -> tuple[Any, Any, dict[int, Any]]:
    """Records a model's graph anew, with some of its calls changed.

    Returns:
        inputs, outputs, and what each node gave, by the id of the node.
    """
    graph = known_graph(model)
    given: dict[int, Any] = {}

    def call(node: Node, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        made = Again(model, node, target, title, anew)
        change = changes.get(id(node))
        given[id(node)] = made(*args, **kwargs) if change is None else change(made, args, kwargs)
        return given[id(node)]

    starts, sources = [], []
    for ref, symbol in zip(graph.inputs, input_symbols(graph, model._child), strict=True):
        change = changes.get(id(ref.node))
        value = symbol if change is None else change(Again(model, ref.node, None, title, anew), (symbol,), {})
        given[id(ref.node)] = value
        starts.append(value)
        sources.append(value if value.node.kind == "input" else symbol)
    outputs = graph.replay(starts, model._child, model._held, masks=True, call=call)
    return tree.pack(graph.input_nest, sources), outputs, given


class Again:
    """A call of a model that can be made again, on other values.

    Args:
        anew: by the id of a layer, the one made in its place for another shape; None where no layer is to be made anew.
    """

    def __init__(self, model: GraphModel, node: Node, target: Any, title: str, anew: dict[int, Any] | None = None) -> None:
        self.model, self.node, self.target, self.title, self.anew = model, node, target, title, anew

    def rebuilt(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The call of a new layer of the same config, for shapes that the old one was not built for."""
        assert self.anew is not None
        if id(self.target) not in self.anew:
            self.anew[id(self.target)] = type(self.target).from_config(self.target.get_config())
        return make_call(self.node, self.anew[id(self.target)], args, kwargs)

    def remedy(self) -> str:
        """What to do where a layer was built for another shape."""
        if not self.title.startswith("replace(") or not isinstance(self.target, Layer) or not self.target.weights:
            return ""
        return " Say rebuild=True to have such layers made anew, with new weights; or replace this one first."

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.node.kind == "input":
            return args[0]
        taken = None if self.anew is None else self.anew.get(id(self.target))
        try:
            result = make_call(self.node, taken or self.target, args, kwargs)
        except Exception as error:
            before = [r.spec.shape for r in self.node.visible_refs()]
            now = [s.shape for s in symbols_in((args, {k: v for k, v in kwargs.items() if k not in self.node.passed}))]
            if before == now:
                raise
            if self.anew is not None and isinstance(self.target, Layer) and taken is None and self.target.weights:
                return self._sourced(self.rebuilt(args, kwargs))
            raise ValueError(
                f"{self.title}: {self.node.name!r} of model {self.model.name!r} takes an input of shape {_shapes(before)}, and "
                f"would be given one of shape {_shapes(now)}. {_first_line(error)}{self.remedy()}"
            ) from None
        return self._sourced(result)

    def _sourced(self, result: Any) -> Any:
        keep_source(result, self.node)
        return result


def _shapes(shapes: list[Any]) -> str:
    return ", ".join(map(str, shapes))


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]


# -- changing


@boundary
def insert_after(model: Any, name: str, layer: Any) -> Any:
    """Returns a model in which what `name` gives goes through `layer`, wherever it goes.

    Args:
        model: a Sequential or functional model.
        name: path of a layer, function or input; every call of a shared layer, unless "name:1" says which.
        layer: a layer, torch module or function of one tensor.

    Raises:
        ValueError: there is no such call, or a layer behind it does not fit the new shape; the message has both shapes.

    >>> from hornbeam.layers import Dense, Input, ReLU
    >>> model = Sequential([Input((3,)), Dense(4, name="hidden"), Dense(2)])
    >>> [layer.name for layer in insert_after(model, "hidden", ReLU(name="act")).layers][:2]
    ['hidden', 'act']
    """
    _check_layer("insert_after", layer)

    def change(made: Again, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        result = made(*args, **kwargs)
        if not isinstance(result, Symbol):
            raise ValueError(
                f"insert_after: {made.node.name!r} gives {len(symbols_in(result))} values, so it is not clear which of them goes "
                f"through {_title(layer)}. Insert before the call that takes one of them."
            )
        return layer(result)

    return _edited(model, "insert_after", name, change)


@boundary
def insert_before(model: Any, name: str, layer: Any) -> Any:
    """Returns a model in which what `name` takes goes through `layer` first; other takers of that value do not see it.

    Args:
        model: a Sequential or functional model.
        name: path of a layer or function of one tensor; every call of a shared layer, unless "name:1" says which.
        layer: a layer, torch module or function of one tensor.

    Raises:
        ValueError: there is no such call, it takes several values, or it does not fit the new shape.

    >>> from hornbeam.layers import Dense, Dropout, Input
    >>> model = Sequential([Input((3,)), Dense(4), Dense(2, name="logits")])
    >>> [layer.name for layer in insert_before(model, "logits", Dropout(0.5, name="drop")).layers][1:]
    ['drop', 'logits']
    """
    _check_layer("insert_before", layer)

    def change(made: Again, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return made(layer(_only_value("insert_before", made.node, args)), *args[1:], **kwargs)

    return _edited(model, "insert_before", name, change)


@boundary
def replace(model: Any, name: str, layer: Any, rebuild: bool = False) -> Any:
    """Returns a model in which `layer` stands in the place of `name`, called as that was.

    Args:
        model: a Sequential or functional model.
        name: path of a layer or function, or of an input; every call of a shared layer, unless "name:1" says which.
        layer: a layer, torch module or function that takes and gives as many values; for an input an `Input`.
        rebuild: whether layers behind it that were built for another shape are made anew, with new weights.

    Raises:
        ValueError: there is no such call, or a layer behind it does not fit the new shape; the message has both shapes.

    >>> from hornbeam.layers import Dense, Input
    >>> model = Sequential([Input((3,)), Dense(4), Dense(2, name="logits")])
    >>> replace(model, "logits", Dense(10, name="classes")).output_shape
    (None, 10)
    """
    _check_layer("replace", layer)

    def change(made: Again, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        node = made.node
        if node.kind == "input" or isinstance(layer, Symbol):
            return _as_input(node, layer)
        result = layer(*args, **kwargs)
        count = len(symbols_in(result))
        if count != len(node.outputs):
            raise ValueError(f"replace: {node.name!r} gives {len(node.outputs)} value(s), but {_title(layer)} gives {count}.")
        return result

    return _edited(model, "replace", name, change, {} if rebuild else None)


@boundary
def remove(model: Any, name: str) -> Any:
    """Returns a model without a layer: what it took goes where its result went.

    Args:
        model: a Sequential or functional model.
        name: path of a layer or function of one tensor; every call of a shared layer, unless "name:1" says which.

    Raises:
        ValueError: there is no such call, it takes or gives several values, or a layer behind it does not fit the new shape.

    >>> from hornbeam.layers import Dense, Dropout, Input
    >>> model = Sequential([Input((3,)), Dropout(0.5, name="drop"), Dense(2, name="logits")])
    >>> [layer.name for layer in remove(model, "drop").layers]
    ['logits']
    """

    def change(made: Again, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        x = _only_value("remove", made.node, args)
        if len(made.node.outputs) != 1:
            raise ValueError(f"remove: {made.node.name!r} gives {len(made.node.outputs)} values, and takes one.")
        return x

    return _edited(model, "remove", name, change)


def _edited(model: Any, what: str, path: str, change: Change, anew: dict[int, Any] | None = None) -> Any:
    if not isinstance(path, str):
        raise TypeError(f"{what} takes the name of a call, such as 'backbone/block3'. Received: {describe(path)}")
    check_graph(model, what)
    with untouched(model):
        made = _with_change(model, what, path, f"{what}({path!r})", change, anew)
    _compile_like(model, made)
    return made


def _compile_like(model: Any, made: Any) -> None:
    """Compiles a changed model with what the other one was compiled with, its optimizer anew; warns where that cannot be."""
    if not model.compiled:
        return
    config = model.get_compile_config()  # it warns
    try:
        if config is not None:
            made.compile_from_config(config)
    except Exception as error:
        warnings.warn(f"Model {made.name!r} must be compiled anew: {_first_line(error)}", stacklevel=4)


def _with_change(model: GraphModel, what: str, path: str, title: str, change: Change, anew: dict[int, Any] | None = None) -> Any:
    """A model with the calls at a path changed; nested models on the way are made anew, under their names."""
    first, _, rest = path.partition("/")
    nodes = _calls(model, first)
    keys: dict[int, str] = {}
    if rest:
        target = nodes[0].target
        inner: Any = model._child(target) if nodes[0].kind == "module" else None
        check_graph(inner, f"{what}, {path!r}: what is inside {first!r}", nodes[0].name)
        nested = _with_change(inner, what, rest, title, change, anew)
        if all(n in nodes for n in known_graph(model).calls() if n.target == target):
            keys[id(nested)] = target
        else:
            nested.name = _free_name(inner.name, {m.name for m in model.layers if isinstance(m, Layer)})
        change = lambda made, args, kwargs: nested(*args, **kwargs)  # noqa: E731
    inputs, outputs, _ = again(model, {id(n): change for n in nodes}, title, anew)
    for node in known_graph(model).calls() if anew else ():
        fresh = (anew or {}).get(id(model._child(node.target))) if node.kind == "module" else None
        if fresh is not None:
            keys[id(fresh)] = node.target
    made = model_like(model, inputs, outputs, keys, model.name)
    return _as_chain(model, made) if isinstance(model, Sequential) else made


def _free_name(base: str, taken: set[str]) -> str:
    return next(n for n in (f"{base}_{i}" for i in itertools.count(1)) if n not in taken)


def _as_chain(model: Sequential, made: Functional) -> Any:
    """The Sequential that a changed one still is; a function among its layers makes it a functional model."""
    calls = [n for n in made._graph.calls() if not n.implicit]
    if any(n.kind != "module" for n in calls) or len({n.target for n in calls}) < len(calls) or not calls:
        return made
    own = set(model.modules())
    layers = [made._child(n.target) for n in calls]
    for layer in layers:
        if layer not in own and hasattr(layer, "_inbound_nodes"):
            del layer._inbound_nodes[-1:]  # it is recorded again in the chain
    keys = {id(m): k for k, m in made._modules.items()}
    return chain_like(model, [made._child(made._graph.nodes[0].target), *layers], model.name, keys)


def chain_like(model: Sequential, layers: list[Any], name: str | None, keys: dict[int, str] | None = None) -> Sequential:
    made = Sequential(layers, name=name)
    made.dtype_policy = model.dtype_policy
    made._rekey({**{id(m): k for k, m in model._modules.items()}, **(keys or {})})
    made.__dict__.update(training=model.training, _trainable=model._trainable, _named=model._named and name is not None)
    return made


def _only_value(what: str, node: Node, args: tuple[Any, ...]) -> Symbol:
    refs = node.visible_refs()
    if node.kind == "input":
        raise ValueError(f"{what}: {node.name!r} is an input of the model. `insert_after` and `replace` take one.")
    if not args or not isinstance(args[0], Symbol) or len(refs if what == "insert_before" else set(refs)) != 1:
        made = ", ".join(dict.fromkeys(repr(r.node.name) for r in refs))
        raise ValueError(f"{what}: {node.name!r} takes {len(refs)} values, from {made}, so it is not clear which is meant.")
    return args[0]


def _as_input(node: Node, layer: Any) -> Symbol:
    symbol = layer.output if isinstance(layer, InputLayer) else layer
    if node.kind != "input" or not isinstance(symbol, Symbol) or symbol.node.kind != "input":
        raise ValueError(
            f"replace: an input is replaced by an Input, a call by a layer. {node.name!r} is {_kind(node)}. "
            f"Received: {describe(layer)}"
        )
    return symbol


def _kind(node: Node) -> str:
    return {"input": "an input", "module": "a layer", "function": "a function"}.get(node.kind, "an operation")


def _check_layer(what: str, layer: Any) -> None:
    if isinstance(layer, Symbol) and what == "replace":
        return
    if isinstance(layer, type) or not callable(layer):
        hint = f" Make an instance: {layer.__name__}(...)." if isinstance(layer, type) else ""
        raise TypeError(f"{what} takes a layer, a torch module or a function. Received: {describe(layer)}.{hint}")


def _title(layer: Any) -> str:
    return repr(getattr(layer, "name", None) or getattr(layer, "__name__", None) or type(layer).__name__)


def check_graph(model: Any, what: str, name: str | None = None) -> None:
    if not runs_graph(model):
        kind = type(model).__name__
        named = f"{name!r} ({kind})" if name else kind
        raise TypeError(
            f"{what} needs a Sequential or functional model. {named} runs its own Python, which no graph can change: set its "
            f"attributes instead, or use `tap` to look inside."
        )
