"""Models of the same structure with new weights."""

from __future__ import annotations

import contextlib
import copy
import json
from collections.abc import Callable
from typing import Any

from torch import nn

from hornbeam.core.layer import Layer
from hornbeam.core.registry import deserialize_keras_object
from hornbeam.graph import tree
from hornbeam.graph.symbolic import symbols_in
from hornbeam.layers.input import InputLayer
from hornbeam.models.functional import Functional, GraphModel, takes_graph
from hornbeam.models.sequential import Sequential


def clone_model(
    model: Any, input_tensors: Any = None, clone_function: Callable[[Any], Any] | None = None,
    call_function: Callable[..., Any] | None = None, recursive: bool = False, **kwargs: Any,
) -> Any:  # fmt: skip
    """Returns a model of the same structure with new weights, compiled as the original is where a config can say how.

    Args:
        model: a Sequential or functional model, or a subclassed one with `get_config`.
        input_tensors: symbolic tensors to build it on, in place of new inputs.
        clone_function: `layer -> layer`, applied to every layer but inputs; `from_config(get_config())` unless given.
        call_function: `(layer, *args, **kwargs) -> output`, in place of calling the clones.
        recursive: whether `clone_function` is applied inside nested models too.

    >>> from hornbeam.layers import Dense
    >>> clone_model(Sequential([Dense(2, input_shape=(3,))])).count_params()
    8
    """
    if not isinstance(model, GraphModel):
        if clone_function is not None or input_tensors is not None:
            raise ValueError(
                f"clone_model takes clone_function and input_tensors for Sequential and functional models only. "
                f"Received: {type(model).__name__}."
            )
        return type(model).from_config(model.get_config())

    def clone(layer: Any) -> Any:
        if recursive and isinstance(layer, GraphModel):
            return clone_model(layer, clone_function=clone_function, call_function=call_function, recursive=True)
        return clone_function(layer) if clone_function is not None else _clone(layer)

    if isinstance(model, Sequential) and input_tensors is None and call_function is None:
        source = [
            InputLayer(batch_shape=m.batch_shape, dtype=m.dtype, name=m.name)
            for m in model._modules.values()
            if isinstance(m, InputLayer)
        ]
        return _compiled_as(model, Sequential([*source[:1], *[clone(layer) for layer in model.layers]], name=model.name))
    graph = model._known_graph()
    made: dict[Any, Any] = {}
    held: dict[str, Any] = {}

    def child(key: str) -> Any:
        if key not in made:
            made[key] = clone(model._child(key))
        layer = made[key]
        return layer if call_function is None else lambda *a, **k: call_function(layer, *a, **k)

    def tensor(path: str) -> Any:
        if path not in held:
            old = model._held(path)
            value = old.detach().clone()
            held[path] = nn.Parameter(value) if isinstance(old, nn.Parameter) and old.requires_grad else value
        return held[path]

    inputs = model.input if input_tensors is None else input_tensors
    if input_tensors is None:
        inputs = tree.map_leaves(
            lambda r: InputLayer(batch_shape=r.spec.shape, dtype=r.spec.dtype, name=r.node.name).output, graph.input_nest
        )
    else:
        _check_same_nest(model, inputs)
    outputs = graph.replay(symbols_in(inputs), child, tensor, masks=True)
    kind = type(model) if isinstance(model, Functional) and takes_graph(type(model)) else Functional
    return _compiled_as(model, kind(inputs=inputs, outputs=outputs, name=model.name))


def _compiled_as(model: Any, made: Any) -> Any:
    if model.compiled:
        with contextlib.suppress(ValueError):  # a loss or metric of the user's own, which no config can name
            made.compile_from_config(model.get_compile_config())
    return made


def _check_same_nest(model: Any, inputs: Any) -> None:
    wanted, given = (tree.map_leaves(lambda _: "*", nest) for nest in (model.input, inputs))
    if wanted != given and [wanted] != given:
        raise ValueError(f"clone_model: `input_tensors` must be the nest that the model takes, {wanted}. Received: {given}")


def _clone(layer: Any) -> Any:
    if isinstance(layer, Layer):
        return type(layer).from_config(layer.get_config())
    made = copy.deepcopy(layer)
    for module in made.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    return made


def model_from_json(json_string: str, custom_objects: dict[str, Any] | None = None) -> Any:
    """Makes a model, with new weights, from what `to_json` returned.

    >>> from hornbeam.layers import Dense
    >>> model_from_json(Sequential([Dense(2, input_shape=(3,))]).to_json()).count_params()
    8
    """
    return deserialize_keras_object(json.loads(json_string), custom_objects)
