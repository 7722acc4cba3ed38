"""Parts of models, from one call to another."""

from __future__ import annotations

from typing import Any

from hornbeam.graph import tree
from hornbeam.graph.edit import behind, input_symbols, new_input, relinked, side_entry
from hornbeam.graph.errors import boundary
from hornbeam.graph.node import Out, Ref
from hornbeam.graph.symbolic import symbol_for
from hornbeam.layers.input import InputLayer
from hornbeam.models.editing import chain_like, check_graph, known_graph, model_like, one_call, untouched
from hornbeam.models.functional import Functional, GraphModel
from hornbeam.models.sequential import Sequential


@boundary
def between(model: Any, first: str | None, last: str | None) -> Any:
    """Returns the part of a model from one call to another, both of them in it: `model["block2":"block5"]`.

    Args:
        model: a Sequential, which gives a Sequential, or a functional model.
        first, last: paths of layers or functions, inside the same nested model; None for the model's own inputs or outputs.

    Raises:
        ValueError: there is no such call, `last` does not depend on `first`, or a call between them takes a value from elsewhere.

    >>> from hornbeam.layers import Dense, Input
    >>> from hornbeam.models import Sequential
    >>> model = Sequential([Input((3,)), Dense(4, name="a"), Dense(5, name="b"), Dense(2, name="c")])
    >>> between(model, "b", "c").input_shape
    (None, 4)
    """
    check_graph(model, "A slice")
    heads = {p.rpartition("/")[0] for p in (first, last) if p is not None}
    if len(heads) > 1:
        raise ValueError(f"A slice lies inside one model. Received: {first!r} to {last!r}")
    for part in filter(None, next(iter(heads), "").split("/")):
        model = model._child(one_call(model, part).target)
        check_graph(model, "A slice")
    first, last = (p if p is None else p.rpartition("/")[2] for p in (first, last))
    if isinstance(model, Sequential):
        return _between_layers(model, first, last)
    return _between_calls(model, first, last)


def _between_layers(model: Sequential, first: str | None, last: str | None) -> Any:
    layers = model.layers
    start = 0 if first is None else layers.index(model.get_layer(first))
    stop = len(layers) - 1 if last is None else layers.index(model.get_layer(last))
    if stop < start:
        raise ValueError(f"A slice of model {model.name!r}: {last!r} comes before {first!r}.")
    if not model.built:
        return Sequential(layers[start : stop + 1])
    spec = known_graph(model).inputs[0].spec if first is None else one_call(model, first).visible_refs()[0].spec
    with untouched(model):
        return chain_like(model, [InputLayer(batch_shape=spec.shape, dtype=spec.dtype), *layers[start : stop + 1]], None)


def _between_calls(model: GraphModel, first: str | None, last: str | None) -> Functional:
    graph = known_graph(model)
    nest = graph.output_nest
    if last is not None:
        stop = one_call(model, last)
        nest = tree.map_leaves(lambda v: Ref(stop, v.index) if type(v) is Out else v, stop.structure)
    start = None if first is None else one_call(model, first)
    if start is None or start.kind == "input":
        taken = graph.input_nest if start is None else Ref(start, 0)
        own = dict(zip(graph.inputs, input_symbols(graph, model._child), strict=True))
        cut = {r: own[r] for r in _refs(taken)}
    else:
        whole = len(start.args) > 0 and set(_refs(start.args[0])) == set(start.visible_refs())
        taken = start.args[0] if whole else start.visible_refs()
        names = [f"{start.name}_input" + (f"_{i}" if i else "") for i in range(len(_refs(taken)))]
        cut = {r: new_input(r.spec, n, r.node.source) for r, n in zip(_refs(taken), names, strict=True)}
    _check_closed(model, _refs(nest), set(cut), first, last)
    with untouched(model):
        moved = relinked(graph, cut, model._child, model._held)
        inputs = tree.map_leaves(lambda v: cut[v] if type(v) is Ref else v, taken)
        outputs = tree.map_leaves(lambda v: symbol_for(moved[v]) if type(v) is Ref else v, nest)
        return model_like(model, inputs, outputs, {}, None)


def _refs(nest: Any) -> list[Ref]:
    return list(dict.fromkeys(v for v in tree.leaves(nest) if type(v) is Ref))


def _check_closed(model: GraphModel, outputs: list[Ref], cut: set[Ref], first: str | None, last: str | None) -> None:
    found = behind(outputs, cut)
    if not all(r in cut or found[r.node] for r in outputs):
        raise ValueError(f"A slice of model {model.name!r}: {last or 'an output'!r} does not depend on {first!r}.")
    entry = side_entry(outputs, cut)
    if entry is not None:
        ref, node = entry
        raise ValueError(
            f"A slice of model {model.name!r} from {first!r}: {node.name!r} also takes what {ref.node.name!r} gives, of shape "
            f"{ref.spec.shape}, which comes from outside the slice. Begin the slice earlier, or make Model([...], ...) of "
            f"several taps."
        )
