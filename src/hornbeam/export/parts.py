"""What the writers of all styles ask about a model: its graph, its layers, its inputs; and whether it is a mere chain."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from hornbeam.core.layer import Layer
from hornbeam.export.code import Code, Hole, code, joined
from hornbeam.export.naming import literal, quoted
from hornbeam.export.objects import Objects
from hornbeam.export.own import CannotWrite
from hornbeam.graph import tree
from hornbeam.graph.graph import Graph
from hornbeam.graph.node import Held, Node, Out, Ref


class View:
    """A module together with the graph of its calls.

    Args:
        module: the module.
        graph: its own graph, or a recording.

    Attributes:
        frozen: calls that are others in training than the graph has them; None where training could not be looked at.
    """

    def __init__(self, module: Any, graph: Graph) -> None:
        self.module, self.graph = module, graph
        self.own = getattr(module, "graph", None) is graph
        self.frozen: list[Node | None] = []

    def nodes(self) -> list[Node]:
        """The calls that somebody wrote."""
        return self.graph.written() if self.own else list(self.graph.calls())

    def child(self, target: Any) -> Any:
        """The module that a node calls."""
        if isinstance(target, nn.Module):
            return target
        return self.module._child(target) if self.own else self.module.get_submodule(target)

    def held(self, path: str) -> torch.Tensor:
        """The tensor under a path."""
        owner, _, key = path.rpartition(".")
        return getattr(self.module.get_submodule(owner), key)

    def source(self, ref: Ref) -> Any:
        """The InputLayer behind an input; a recording has none."""
        return self.child(ref.node.target) if self.own else None

    def refuse(self, node: Node, write: Callable[[], Any]) -> Any:
        """Runs `write`; where the call cannot be written, says which layer it is.

        Raises:
            ValueError: with the layer's name and the reason.
        """
        try:
            return write()
        except CannotWrite as error:
            what = "layer" if node.kind == "module" else "the call of"
            raise ValueError(f"to_source cannot write {what} {node.name!r} of {title(self.module)}: {error}.") from None


def title(module: Any) -> str:
    """How errors and headers call a module."""
    name = getattr(module, "name", None)
    return f"model {name!r}" if isinstance(name, str) else type(module).__name__


def name_of(layer: Any) -> str | None:
    """The name that the user gave to a layer, or None."""
    return layer.name if getattr(layer, "_named", False) else None


def input_code(objects: Objects, source: Any, spec: Any = None) -> Code:
    """Returns the expression that makes an input."""
    objects.need("keras")
    shape = source.batch_shape if source is not None else spec.shape
    dtype = source.dtype if source is not None else spec.dtype
    shown: list[Any] = []
    if not shape:
        shown.append(f"batch_shape={literal(shape)}")
    else:
        shown.append(f"shape={literal(tuple(shape[1:]))}")
        if shape[0] is not None:
            shown.append(f"batch_size={shape[0]}")
    if dtype != "float32":
        shown.append(f"dtype={quoted(dtype)}")
    if source is not None and source.optional:
        shown.append("optional=True")
    if source is not None and source._named:
        shown.append(code("name=", Hole(quoted(source.name), "name")))
    return code("keras.Input(", joined(shown), ")")


def model_arguments(module: Any, name: str = "", named: bool = True, chain: bool = False) -> list[str]:
    """The arguments that all models take, spelled, where they differ from the defaults.

    Args:
        module: the model.
        name: stands for the module's own name.
        named: whether the name is among them.
        chain: whether it is written as a Sequential, which takes no dtype: each layer has its own.
    """
    shown = []
    if isinstance(module, Layer):
        if not module.trainable:
            shown.append("trainable=False")
        if module.dtype_policy.name != "float32" and not chain:
            shown.append(f"dtype={quoted(module.dtype_policy.name)}")
        if module._named and named:
            shown.append(f"name={name or quoted(module.name)}")
    return shown


def as_sequence(view: View, masked: bool = False) -> list[Node] | None:
    """Returns the calls in order where each takes what the one before returned and nothing else; None otherwise."""
    return None if why_no_sequence(view, masked) else list(view.nodes())


def why_no_sequence(view: View, masked: bool = False) -> str | None:
    """Returns why a model, which a mask may reach, is no chain of layers, naming the layer; None where it is one."""
    graph, nodes = view.graph, view.nodes()
    if len(graph.inputs) != 1 or type(graph.input_nest) is not Ref:
        names = ", ".join(repr(r.node.name) for r in graph.inputs)
        return f"it has {len(graph.inputs)} inputs ({names}), and a Sequential takes one tensor"
    if len(graph.outputs) != 1 or type(graph.output_nest) is not Ref:
        names = ", ".join(repr(r.node.name) for r in graph.outputs)
        return f"it has {len(graph.outputs)} outputs ({names}), and a Sequential returns one tensor"
    takers: dict[Ref, list[str]] = {}
    for node in nodes:
        for ref in dict.fromkeys(node.visible_refs()):
            takers.setdefault(ref, []).append(repr(node.name))
    branch = next(((r, t) for r, t in takers.items() if len(t) > 1), None)
    value, seen, function = graph.inputs[0], set(), None
    for node in nodes:
        taken = tree.leaves((node.args, {k: v for k, v in node.kwargs.items() if k not in node.passed}))
        refs = [v for v in taken if type(v) is Ref]
        if node.kind == "function":
            function = node.name
            if masked:
                return f"a mask may reach {function!r}, a function, and a layer made of a function hands none on"
        if node.passed and function is not None:
            return f"a mask reaches {node.name!r} through the function {function!r}, and a layer made of a function hands none on"
        if node.kind == "module" and node.target in seen:
            return f"layer {node.name!r} is called more than once, and a Sequential calls each layer once"
        if branch is not None and branch[0] == value:
            return f"it branches after {value.node.name!r}, whose result {' and '.join(branch[1])} take"
        if len(refs) > 1:
            names = " and ".join(repr(r.node.name) for r in refs)
            return f"{node.name!r} takes {len(refs)} values ({names}), and in a Sequential each layer takes one"
        if not refs or refs[0] != value:
            return f"{node.name!r} does not take what the call before it returned ({value.node.name!r})"
        if any(type(v) is Held for v in taken):
            return f"{node.name!r} uses a tensor that the model holds; only a layer of a Sequential can hold one"
        if node.kind == "module" and len(taken) > 1:
            return f"layer {node.name!r} is called with further arguments, and a Sequential passes none"
        if type(node.structure) is not Out:
            return f"{node.name!r} returns several values, and in a Sequential each layer returns one tensor"
        if node.kind == "module":
            seen.add(node.target)
        value = Ref(node, 0)
    if value != graph.outputs[0]:
        return "its output is not what the last call returns"
    return None
