"""The subclassing style: layers in `__init__`, calls in `call`."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import nn

from hornbeam.core.layer import Layer
from hornbeam.core.tracking import CONTAINERS
from hornbeam.export.body import in_reading_order, nest_code
from hornbeam.export.code import Code, Hole, Line, Var, code, joined, without_dead
from hornbeam.export.file import File
from hornbeam.export.folding import listed, looped
from hornbeam.export.layout import wrapped
from hornbeam.export.naming import Names, class_name, identifier, literal, quoted
from hornbeam.export.parts import View, input_code, model_arguments, name_of, title
from hornbeam.export.scope import loop_head, name_values, text, written
from hornbeam.export.source_functional import KerasBody, constructed, truth_name
from hornbeam.export.source_torch import _masked_graph, ties
from hornbeam.export.torch_body import access
from hornbeam.graph import tree
from hornbeam.graph.graph import Graph
from hornbeam.graph.node import Node, Ref

_SPLIT = "\0"  # between an attribute, what makes it, and the attribute before it


def _attribute_lines(lines: list[Line], indent: int) -> list[str]:
    made: list[str] = []
    space = "    " * indent
    for line in lines:
        if line.carried is not None:
            made.append(loop_head(line, {}, space))
            made += _attribute_lines(line.body, indent + 1)
            continue
        place, shown, _ = text(tuple("" if type(p) is Var else p for p in line.right), {}).split(_SPLIT)
        key = place.removeprefix("getattr(self, ").removesuffix(")")
        if key.startswith("f"):
            made.append(wrapped(f"{space}setattr(self, {key}, {shown})"))
        else:
            made.append(wrapped(f"{space}{place} = {shown}" if key == place else f"{space}self.add_module({key}, {shown})"))
    return made


class Class:
    """Writes one model as a class.

    Args:
        file: the file it goes into.
        view: the model.
    """

    def __init__(self, file: File, view: View) -> None:
        self.file, self.view = file, view
        self.constants: dict[str, Code] = {}
        explicit = _without_masks(view)[1]
        nodes = list(view.graph.calls()) if explicit else view.nodes()
        self.nodes = in_reading_order(view.graph, nodes, masks=explicit) if _is_ordered(view) else nodes
        self.body = KerasBody(view, file.objects, self._callee, self._held, self._named)
        self.body.masks = explicit
        self.body.count(self.nodes, view.graph.outputs)

    def _callee(self, node: Node) -> Code:
        if node.kind == "operation":
            return self.file.objects.constructor(node.target)
        return (Hole(access("self", self.view.module, node.target), "key"),)

    def _held(self, path: str) -> Code:
        return (access("self", self.view.module, path),)

    def _named(self, node: Node) -> str | None:
        return name_of(self.view.child(node.target)) if node.kind == "module" else truth_name(node)

    def text(self, name: str) -> str:
        """Returns the class."""
        forward = self._call()
        made = self._attributes()
        self.file.objects.need("keras")
        return "\n".join([
            f"class {name}(keras.Model):", "    def __init__(self, **kwargs):", "        super().__init__(**kwargs)", *made, "",
            *forward,
        ])  # fmt: skip

    # -- __init__

    def _attributes(self) -> list[str]:
        made: list[str] = []
        module = self.view.module
        called = {n.target for n in self.nodes if n.kind == "module"}
        for key, value in module._parameters.items():
            if value is not None:
                self.file.note("Weights that a class itself makes begin as zeros, unregularized: load the original's.")
                made.append(f"self.{key} = {text(self.file.objects.value(value), {})}")
        for key, value in module._buffers.items():
            if value is not None:
                shown = text(self.file.objects.value(value), {})
                persistent = "" if key not in module._non_persistent_buffers_set else ", persistent=False"
                made.append(f"self.register_buffer({quoted(key)}, {shown}{persistent})")
        return [*(wrapped(f"        {line}") for line in made), *self._layers(called), *ties(module)]

    def _layers(self, called: set[Any]) -> list[str]:
        """The statements that make the layers, in loops where they repeat."""
        module = self.view.module
        chain: Any = Var("start")
        lines = []
        for key, child in module._modules.items():
            if child is None or type(child).__name__ == "InputLayer":
                continue
            if not any(t == key or str(t).startswith(key + ".") for t in called) and not child.state_dict():
                continue
            place, before, chain = access("self", module, key), chain, Var(key)
            right = code(Hole(place, "key"), _SPLIT, self._made(key, child), _SPLIT, before)
            lines.append(Line([chain], right, about=(type(child).__name__,)))
        return _attribute_lines(looped(lines, [chain]), 2)

    def _made(self, path: str, child: Any) -> Code:
        if isinstance(child, CONTAINERS):
            inner = [(k, self._made(f"{path}.{k}", c)) for k, c in child._modules.items()]
            if isinstance(child, nn.ModuleDict):
                return code("{", joined(code(f"{literal(k)}: ", c) for k, c in inner), "}")
            return listed([c for _, c in inner]) or code("[", joined(c for _, c in inner), "]")
        node = next((n for n in self.nodes if n.target == path), None) or Node("module", path, getattr(child, "name", path))
        return self.view.refuse(node, partial(self._constructor, child, node))

    def _constructor(self, child: Any, node: Node) -> Code:
        if getattr(child, "graph", None) is not None:
            own = name_of(child)
            arguments = [*model_arguments(child, named=False)] + ([code("name=", Hole(quoted(own), "name"))] if own else [])
            return code(self.file.model_class(child), "(", joined(arguments), ")")
        return constructed(self.file, child, node)

    # -- call

    def _call(self) -> list[str]:
        graph = self.view.graph
        names, named = Names({"training"}), {}
        first: list[str] = []
        nest = graph.input_nest
        for i, ref in enumerate(graph.inputs):
            source = self.view.source(ref)
            wanted = name_of(source) if source is not None else None
            fallback = "inputs" if len(graph.inputs) == 1 else f"input_{i + 1}"
            named[Var(ref)] = names.take(identifier(wanted) if wanted else fallback)
        argument = named[Var(graph.inputs[0])] if type(nest) is Ref else "inputs"
        if isinstance(nest, dict):
            first = [f"        {named[Var(r)]} = inputs[{literal(k)}]" for k, r in nest.items() if type(r) is Ref]
        elif isinstance(nest, (list, tuple)):
            first = [f"        {', '.join(named[Var(r)] for r in tree.leaves(nest))} = inputs"]
        for node in self.nodes:
            self.view.refuse(node, partial(self.body.add, node))
        result = nest_code(graph.output_nest, self.body.take)
        results = [p for p in result if type(p) is Var]
        lines = without_dead(self.body.lines, results)
        lines = looped(lines, results)
        last = lines[-1] if lines else None
        if last and len(result) == 1 and last.outs == [result[0]] and not last.target and last.carried is None:
            result = lines.pop().right
            results = [p for p in result if type(p) is Var]
        name_values(lines, named, results, {"self", "inputs", "training"} if type(nest) is not Ref else {"self", "training"})
        body = [one for line in written(lines, named, 2) for one in line.split("\n")]
        further = ", training=None" if self.body.asks_mode else ""
        return [f"    def call(self, {argument}{further}):", *first, *body, wrapped(f"        return {text(result, named)}")]


def _is_traced(view: View) -> bool:
    return type(view.graph).__name__ == "Trace"


def _is_ordered(view: View) -> bool:
    return not _is_traced(view)


def _without_masks(view: View) -> tuple[set[int], bool]:
    """The calls whose results carry no mask when they run eagerly; whether a call needs one that is lost.

    Functions hand no mask on when they run eagerly, and so do layers behind them.

    Raises:
        ValueError: one is lost inside a nested model, whose class has no place for it.
    """
    lost: set[int] = set()
    nested: dict[int, Node] = {}
    found = False
    for node in view.graph.calls():
        before = [r.node for r in node.visible_refs() if id(r.node) in lost]
        if node.passed and before:
            inner = next((nested[id(n)] for n in before if id(n) in nested), None)
            if inner is not None:
                _refuse_mask(view, inner)
            found = True
        child = view.child(node.target) if node.kind == "module" else None
        mask = node.kwargs.get("mask")
        if mask is not None and isinstance(getattr(child, "graph", None), Graph):
            graph = _masked_graph(child, mask)
            inside, needed = _without_masks(View(child, graph))
            if needed:
                _refuse_mask(view, node)
            if any(id(r.node) in inside for r in graph.outputs):
                lost.add(id(node))
                nested[id(node)] = node
        elif before or not isinstance(child, Layer):
            lost.add(id(node))
            nested.update((id(node), nested[id(n)]) for n in before if id(n) in nested)
    return lost, found


def _refuse_mask(view: View, node: Node) -> None:
    raise ValueError(
        f'to_source(style="subclassing") cannot write {title(view.module)}: a mask goes through functions inside its nested '
        f'model {node.name!r}, and a class hands none on through them. Use style="functional".'
    )


def write(file: File, view: View) -> None:
    """Writes a model in subclassing style as the file's main part."""
    module = view.module
    wanted = module.name if getattr(module, "_named", False) else type(module).__name__
    wanted = class_name(wanted) if class_name(wanted) not in ("Functional", "Sequential", "Model") else "MyModel"
    name = file.names.take(wanted)
    file.definitions.append(Class(file, view).text(name))
    file.main = [wrapped(f"model = {name}({', '.join(model_arguments(module))})"), _built(file, view)]


def _built(file: File, view: View) -> str:
    """The line that builds the model: by shape where it takes one tensor of floats, else by a symbolic call."""
    graph = view.graph
    spec = graph.inputs[0].spec
    if len(graph.inputs) == 1 and spec.dtype == "float32" and type(graph.input_nest) is Ref:
        return wrapped(f"model.build({literal(spec.shape)})")
    shown = nest_code(
        graph.input_nest, lambda r: input_code(file.objects, view.source(r), r.spec) if type(r) is Ref else ("None",)
    )
    return wrapped(f"model({text(shown, {})})")


def write_class(file: File, model: Any, name: str) -> str:
    """Returns the class of a nested model."""
    return Class(file, View(model, model.graph)).text(name)
