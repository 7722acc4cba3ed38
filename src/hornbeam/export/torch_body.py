"""The lines of a plain PyTorch `forward`."""

from __future__ import annotations

import keyword
from collections.abc import Callable
from typing import Any

from torch import nn

from hornbeam.core.init_args import is_builtin
from hornbeam.core.layer import Layer
from hornbeam.core.tracking import CONTAINERS
from hornbeam.core.weights import raw
from hornbeam.export.body import Body
from hornbeam.export.code import Code, code
from hornbeam.export.functions import as_operator
from hornbeam.export.naming import quoted
from hornbeam.export.objects import Objects
from hornbeam.export.own import CannotWrite
from hornbeam.export.parts import View, name_of
from hornbeam.export.templates import Template, template_for
from hornbeam.export.tracing import ByMode, Trace, trace
from hornbeam.graph import tree
from hornbeam.graph.graph import Graph
from hornbeam.graph.node import Node, Out, Ref
from hornbeam.graph.symbolic import SymbolicTensor, symbols_in


def flat_leaves(nest: Any) -> list[Any]:
    found: list[Any] = []
    tree.map_leaves(found.append, nest)
    return found


_TAKEN = frozenset(dir(nn.Module())) | {"forward"}


def _is_attribute(key: str) -> bool:
    """Whether a key may be written as an attribute; in a class, Python spells names with two underscores before them anew."""
    plain = key.isidentifier() and key.isascii() and not keyword.iskeyword(key) and not key.startswith("__")
    return plain and key not in _TAKEN


def is_container(module: Any) -> bool:
    """Whether a module only holds others, in a list or a dictionary: it cannot be called."""
    return isinstance(module, CONTAINERS) and type(module).forward is nn.Module.forward


def access(owner: str, module: nn.Module, path: str) -> str:
    """Returns the expression of a submodule or tensor under a path of keys; the owner itself is a class with a `forward`."""
    spelled, current = owner, module
    for key in path.split("."):
        is_list = type(current) is nn.Sequential or (isinstance(current, nn.ModuleList) and is_container(current))
        if current is not module and is_list and key.isdecimal():
            spelled += f"[{int(key)}]"
        elif current is not module and is_container(current):
            spelled += f"[{quoted(key)}]"
        elif _is_attribute(key):
            spelled += f".{key}"
        else:
            spelled = f"getattr({spelled}, {quoted(key)})"
        current = current._modules.get(key) if isinstance(current, nn.Module) else None  # type: ignore[assignment]
    return spelled


class TorchBody(Body):
    """Lines of a `forward`: modules by their attributes, layers without weights as the torch functions they call.

    Args:
        objects: writes constants and functions.
        view: the module.
        calls: the nodes that call each child.
        note: is shown every call that was traced to be written in place.
    """

    def __init__(
        self, objects: Objects, view: View, calls: dict[str, list[Node]], note: Callable[[Trace], Trace] = lambda traced: traced
    ) -> None:  # fmt: skip
        super().__init__(objects, self._callee, self._held, self._wanted, masks=True)
        self.view, self.calls, self.note = view, calls, note
        self.inlined: dict[str, bool] = {}
        self.held_paths: set[str] = set()
        self.same: dict[Ref, Ref] = {}

    def _wanted(self, node: Node) -> str | None:
        return name_of(self.view.child(node.target)) if node.kind == "module" else None

    def _held(self, path: str) -> Code:
        self.held_paths.add(path)
        return (access("self", self.view.module, path),)

    def spelled(self, function: Any, args: tuple[Any, ...]) -> Any:
        """The function as which a call is written: an operator where there is one."""
        return as_operator(function, args)

    def _callee(self, node: Node) -> Code:
        if self._mode_of(node) is not None:
            return ("in_mode",)
        if self.half is not None and _is_full(self.view.child(node.target)):
            return ("precisely",)
        return (access("self", self.view.module, node.target),)

    half: str | None = None
    in_training: bool | None = None
    plain: Callable[[str], None]

    def _mode_of(self, node: Node) -> bool | None:
        """The mode in which a call is whatever the model's mode; None where it follows the model."""
        given = node.kwargs.get("training") if node.kind == "module" and "training" not in node.passed else None
        return given if type(given) is bool and given != self.in_training else None

    def placed(self, node: Node, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """The arguments of a call: that of a layer of full precision in a model of mixed precision goes around autocast."""
        mode = self._mode_of(node)
        if mode is not None:
            if self.half is not None and _is_full(self.view.child(node.target)):
                raise CannotWrite(f"it is called with training={mode} whatever the mode, and in full precision among mixed ones")
            self.plain("in_mode")
            return (_Plain(str(mode)), _Plain(access("self", self.view.module, node.target)), *args), kwargs
        if node.kind != "module" or self.half is None or not _is_full(child := self.view.child(node.target)):
            return args, kwargs
        self.plain("precisely")
        self.objects.need("torch")
        kind = child.compute_dtype if isinstance(child, Layer) else "float32"
        return (_Plain(f"torch.{kind}"), _Plain(access("self", self.view.module, node.target)), *args), kwargs

    def take(self, value: Any) -> Code:
        """Returns the expression of an argument."""
        if type(value) is Ref:
            return super().take(self.resolve(value))
        if type(value) is _Plain:
            return (value.text,)
        if type(value) is _Cast:
            return code(super().take(self.resolve(value.ref)), f".to(torch.{value.dtype})")
        if type(value) is ByMode:
            if (value.training, value.inference) == (True, False):
                return ("self.training",)
            if (value.training, value.inference) == (False, True):
                return ("not self.training",)
            return code(super().take(value.training), " if self.training else ", super().take(value.inference))
        return super().take(value)

    size = ".shape[{}]"

    def resolve(self, ref: Ref) -> Ref:
        """The value that a spliced graph's value stands for."""
        while ref in self.same:
            ref = self.same[ref]
        return ref

    def add(self, node: Node) -> None:
        """Writes a call; one of a layer without weights as what it calls."""
        if node.kind == "operation":
            self._splice_call(node, node.target, node.kwargs)
            return
        if node.kind != "module":
            if _changes_nothing(node):
                self.same[Ref(node, 0)] = node.args[0]
                self.uses[self.resolve(node.args[0])] += self.uses.get(Ref(node, 0), 0) - 1
                return
            super().add(node)
            return
        child = self.view.child(node.target)
        kwargs = {k: v for k, v in node.kwargs.items() if k != "training" and v is not None}
        forced = self._mode_of(node) is not None
        if not forced and _can_be_inlined(child) and not (self.half is not None and _is_full(child)):
            try:
                self._splice_call(node, child, kwargs)
                self.inlined[node.target] = True
                return
            except _NotInline:
                pass
        template = template_for(child)
        args = self._cast(child, node.args)
        if template is not None and template.activation is not None:
            raw = Node("module", node.target, node.name)
            raw.outputs, raw.structure = node.outputs, node.structure
            self.uses[Ref(raw, 0)] = 1
            self.write(raw, args, _for_template(template, kwargs))
            self.lines[-1].inline = "plain"
            self._activate(raw, node, template.activation)
        elif template is not None:
            self.write(node, args, _for_template(template, kwargs))
        elif type(child).__module__.startswith("torch.nn."):
            self.write(node, args, kwargs)
        elif getattr(child, "graph", None) is not None:
            given = [v for v in tree.leaves(node.args) if v is not None]
            self.write(node, (*given, *(v for v in tree.leaves(kwargs.get("mask")) if v is not None)), {})
        else:
            tensors = tuple(v for v in tree.leaves(args) if type(v) in (Ref, _Cast))
            self.write(node, tensors, {k: v for k, v in kwargs.items() if type(v) is Ref})

    def _cast(self, child: Any, args: Any) -> Any:
        """The arguments of a layer as it takes them: floats in the type in which it computes."""
        if not isinstance(child, Layer) or not child.autocast or getattr(child, "graph", None) is not None:
            return args
        kind = child.compute_dtype
        by_autocast = () if self.half is None else ("float32", "float16", "bfloat16")
        wrong = lambda v: (  # noqa: E731
            type(v) is Ref and "float" in v.spec.dtype and v.spec.dtype != kind and v.spec.dtype not in by_autocast
        )
        return tree.map_leaves(lambda v: _Cast(v, kind) if wrong(v) else v, args)

    def _activate(self, raw: Node, node: Node, activation: Any) -> None:
        x = SymbolicTensor(raw.outputs[0].shape, raw.outputs[0].dtype)
        graph = Graph.trace(x, symbols_in(activation(x))[0])
        self._splice(graph, [Ref(raw, 0)], {Ref(node, 0): graph.outputs[0]})

    def _splice_call(self, node: Node, target: Any, kwargs: dict[str, Any]) -> None:
        """Writes what a call computes in place of the call."""
        given = (node.args, kwargs)
        refs = [v for v in tree.leaves(given) if type(v) is Ref]
        specs = tree.map_leaves(lambda v: v.spec if type(v) is Ref else v, given)
        module = target if isinstance(target, nn.Module) else _Calls(target)
        graph = self.note(trace(module, specs[0], specs[1], modes=isinstance(target, nn.Module)))
        if graph.in_training is not None or any(n.kind == "module" for n in graph.calls()):
            raise _NotInline
        found = flat_leaves(graph.output_nest)
        places = [Ref(node, v.index) for v in flat_leaves(node.structure) if type(v) is Out]
        if len(graph.inputs) != len(refs) or len(found) != len(places) or any(type(v) is not Ref for v in found):
            raise _NotInline
        self._splice(graph, refs, dict(zip(places, found, strict=True)))

    def _splice(self, graph: Graph, refs: list[Ref], outputs: dict[Ref, Ref]) -> None:
        """Writes a graph's calls in place.

        Args:
            graph: the graph.
            refs: the values for its inputs.
            outputs: which of its values stands for which value from now on.
        """
        nodes = list(graph.calls())
        self.count(nodes, [])
        for mine, given in zip(graph.inputs, map(self.resolve, refs), strict=True):
            self.uses[given] = self.uses.get(given, 0) - 1 + self.uses.pop(mine, 0)
            self.same[mine] = given
        for place, made in outputs.items():
            made = self.resolve(made)
            self.uses[made] = self.uses.get(made, 0) + self.uses.get(place, 0)
        for node in nodes:
            self.add(node)
        self.same.update(outputs)


def _changes_nothing(node: Node) -> bool:
    """Whether a call only gives a tensor the shape that it has."""
    name = getattr(node.target, "__name__", "")
    if name not in ("flatten", "unflatten", "contiguous") or type(node.args[0]) is not Ref or not node.outputs:
        return False
    one, two = node.args[0].spec.shape, node.outputs[0].shape
    return name == "contiguous" or (len(one) == len(two) and one == two)


def _for_template(template: Template, kwargs: dict[str, Any]) -> dict[str, Any]:
    """The keyword arguments that a template's class takes."""
    takes = template.name in ("BatchNormalization", "RNN", "Bidirectional", "TimeDistributed")
    return {k: v for k, v in kwargs.items() if takes and k in ("mask", "initial_state")}


class _Cast:
    """A value in another type."""

    def __init__(self, ref: Ref, dtype: str) -> None:
        self.ref, self.dtype = ref, dtype


class _Plain:
    """An argument that is spelled already."""

    def __init__(self, text: str) -> None:
        self.text = text


def _is_full(child: Any) -> bool:
    """Whether nothing in a layer computes in mixed precision."""
    mixed = any(isinstance(m, Layer) and m.dtype_policy.name.startswith("mixed_") for m in child.modules())
    return not mixed and getattr(child, "graph", None) is None


class _NotInline(Exception):
    """A layer's call is no mere sequence of torch functions."""


class _Calls(nn.Module):
    """A module that calls an operation."""

    def __init__(self, operation: Any) -> None:
        super().__init__()
        self.__dict__["_operation"] = operation

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.__dict__["_operation"](*args, **kwargs)


def _can_be_inlined(child: Any) -> bool:
    """Whether a built-in layer has no weights, no layers inside, and nothing to do with training."""
    return (
        isinstance(child, Layer)
        and is_builtin(type(child))
        and getattr(child, "graph", None) is None
        and not child._modules
        and not any(True for slot in ("_parameters", "_buffers") for v in raw(child, slot).values() if v is not None)
        and template_for(child) is None
    )
