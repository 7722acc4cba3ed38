"""The functional style: `x = layers.Dense(8)(x)`, and `keras.Model(inputs, outputs)` at the end."""

from __future__ import annotations

import inspect
from functools import partial
from typing import Any

from torch import nn

from hornbeam.core.init_args import is_builtin
from hornbeam.core.layer import Layer
from hornbeam.core.registry import snake_case
from hornbeam.export.body import Body, in_reading_order, nest_code, refs_in
from hornbeam.export.code import Code, Line, Var, code, joined, without_dead
from hornbeam.export.file import File
from hornbeam.export.folding import Function, folded
from hornbeam.export.functions import as_operator
from hornbeam.export.layout import wrapped
from hornbeam.export.naming import Names, class_name, identifier
from hornbeam.export.own import CannotWrite
from hornbeam.export.parts import View, as_sequence, input_code, model_arguments, name_of, title
from hornbeam.export.recorded import adds_losses, view_of
from hornbeam.export.scope import name_values, text, written
from hornbeam.export.source_torch import Writer, shared_parameters
from hornbeam.export.tracing import ByMode, Trace
from hornbeam.graph.node import Node, Ref


class KerasBody(Body):
    """Lines that call layers.

    Args:
        view: the model.
        further: as Body's.
    """

    def __init__(self, view: View, *further: Any) -> None:
        super().__init__(*further)
        self.view = view

    def take(self, value: Any) -> Code:
        """Returns the expression of an argument; one that depends on the mode asks `training`."""
        if type(value) is not ByMode:
            return super().take(value)
        self.asks_mode = True
        if (value.training, value.inference) == (True, False):
            return ("training",)
        return code("(", self.take(value.training), " if training else ", self.take(value.inference), ")")

    asks_mode = False

    def about(self, node: Node) -> str:
        """The class of the layer that a node calls."""
        return type(self.view.child(node.target) if node.kind == "module" else node.target).__name__

    def spelled(self, function: Any, args: tuple[Any, ...]) -> Any:
        """The function as which a call is written; a trace has lost which were operators."""
        return as_operator(function, args) if isinstance(self.view.graph, Trace) else function

    def placed(self, node: Node, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """The arguments of a call: values by place where the layer's `call` has them there."""
        layer = self.view.child(node.target) if node.kind == "module" else None
        if not isinstance(layer, Layer):
            return args, kwargs
        names = list(inspect.signature(layer.call).parameters)[len(args) :]
        args, kwargs = list(args), dict(kwargs)
        for name in names:
            if name not in kwargs or type(kwargs[name]) is not Ref or name.endswith("mask"):
                break
            args.append(kwargs.pop(name))
        return tuple(args), kwargs


def constructed(file: File, layer: Any, node: Node) -> Code:
    """Returns the expression that makes a layer; the class of one whose arguments have no source is written anew."""
    if not isinstance(layer, Layer):
        try:
            return file.objects.module(layer)
        except CannotWrite:
            return Writer(file).construct(layer, [node], inside=True)
    kept = file.objects.own.state()
    try:
        return file.objects.constructor(layer)
    except CannotWrite as error:
        if is_builtin(type(layer)):
            raise
        file.objects.own.put_back(kept)
        return _recorded(file, layer, node, error)


def _recorded(file: File, layer: Layer, node: Node, reason: CannotWrite) -> Code:
    """The constructor call of a class that does what a layer was seen to do, where its own arguments have no source."""
    from hornbeam.export.source_subclassing import Class

    if layer.supports_masking or node.passed or layer.activity_regularizer is not None:
        raise reason
    try:
        view = view_of(layer, None, layers=True, modes=True)
    except ValueError:
        raise reason from None
    if getattr(view.graph, "reads", None) or view.frozen or adds_losses(layer):
        raise CannotWrite(f"{reason}; and a recording would lose that it looks at values, adds losses or differs in training")
    name = file.names.take(class_name(type(layer).__name__, "Part"))
    file.definitions.append(Class(file, view).text(name))
    file.note("A layer whose arguments have no source is written from a recording of what it does:")
    file.note(f"- {identifier(layer.name)} ({class_name(type(layer).__name__)})")
    return code(f"{name}(", joined(file.objects.common(layer)), ")")


def truth_name(node: Node) -> str | None:
    """What the result of a function is called where it is true or false for each element."""
    return "mask" if node.outputs and node.outputs[0].dtype == "bool" else None


class Functional:
    """Writes one graph as lines: inputs, calls, the model.

    Args:
        file: the file it goes into.
        view: the model.
    """

    def __init__(self, file: File, view: View) -> None:
        self.file, self.view = file, view
        self.counts: dict[str, int] = {}
        self.nodes = view.nodes() if isinstance(view.graph, Trace) else in_reading_order(view.graph, view.nodes())
        self._check_ties()
        self._name_by_attribute()
        for node in self.nodes:
            if node.kind == "module":
                self.counts[node.target] = self.counts.get(node.target, 0) + 1
        self.shared: dict[str, Var] = {}
        self.body = KerasBody(view, file.objects, self._callee, self._held, self._named)
        self.body.count(self.nodes, view.graph.outputs)

    def _check_ties(self) -> None:
        ties = shared_parameters(self.view.module)
        if ties:
            raise ValueError(
                f'to_source(style="functional") cannot write {title(self.view.module)}: it shares one parameter between '
                f'{ties[0][0]!r} and {ties[0][1]!r}. Use style="subclassing".'
            )

    def _name_by_attribute(self) -> None:
        """Gives the layers of a model without a graph of its own the names of its attributes, which are its weights' keys."""
        for node in self.nodes if not self.view.own else ():
            layer = self.view.child(node.target) if node.kind == "module" else None
            if isinstance(layer, Layer) and type(node.target) is str and not layer._named and layer.state_dict():
                self.file.objects.named[id(layer)] = identifier(node.target)

    def _callee(self, node: Node) -> Code:
        if node.kind == "operation":
            return self.file.objects.constructor(node.target)
        if self.counts[node.target] == 1:
            return self.layer(self.view.child(node.target), node)
        if node.target not in self.shared:
            layer = self.view.child(node.target)
            var = self.shared[node.target] = Var(("layer", node.target))
            wanted = layer.name if getattr(layer, "_named", False) else snake_case(type(layer).__name__)
            self.fixed[var] = self.file.names.take(identifier(wanted))
            self.body.lines.append(Line([var], self.layer(layer, node), {}, (type(layer).__name__,)))
        return (self.shared[node.target],)

    def layer(self, layer: Any, node: Node) -> Code:
        """The expression that makes a layer: a constructor, or the function that makes a nested model."""
        if getattr(layer, "graph", None) is not None:
            masked = "mask" in node.kwargs or id(self.view.module) in self.file.masked
            return self.file.model_function(layer, masked)
        return constructed(self.file, layer, node)

    def _held(self, path: str) -> Code:
        var = self.shared.get(path)
        if var is None:
            var = self.shared[path] = Var(("layer", path))
            tensor = self.view.held(path)
            kind = "parameter" if isinstance(tensor, nn.Parameter) else "constant"
            value = self.file.objects.value(tensor)
            if kind == "constant" and len(str(value[0])) <= 40:
                self.shared.pop(path)
                return value
            self.fixed[var] = self.file.names.take(kind)
            self.body.lines.append(Line([var], value))
        return (var,)

    def _named(self, node: Node) -> str | None:
        if node.kind != "module":
            return truth_name(node)
        layer = self.view.child(node.target)
        return layer.name if getattr(layer, "_named", False) and self.counts[node.target] == 1 else None

    fixed: dict[Var, str]

    def lines(self, names: Names, indent: int) -> tuple[list[str], str]:
        """Returns the source lines of inputs and calls, and the expression of the model."""
        self.fixed = {}
        graph = self.view.graph
        inputs = [Line([Var(r)], input_code(self.file.objects, self.view.source(r), r.spec)) for r in graph.inputs]
        for i, ref in enumerate(graph.inputs):
            wanted = name_of(self.view.source(ref))
            fallback = "inputs" if len(graph.inputs) == 1 else f"input_{i + 1}"
            self.fixed[Var(ref)] = names.take(identifier(wanted) if wanted else fallback)
        if names is self.file.names:
            self.file.values.update(self.fixed.values())
        for node in self.nodes:
            self.view.refuse(node, partial(self.body.add, node))
        results = [p for ref in refs_in(graph.output_nest) for p in self.body.take(ref) if type(p) is Var]
        lines = folded(without_dead(self.body.lines, results), results, self.file.names, self.file.functions)
        self._name_results(lines, results, names)
        named: dict[Var, str] = {}
        everything = [*inputs, *lines]
        end = [Var(r) for r in graph.inputs] + results
        name_values(everything, named, end, self.file.busy(), self.fixed)
        ins, outs = (text(nest_code(n, self.body.take), named) for n in (graph.input_nest, graph.output_nest))
        arguments = ", ".join([ins, outs, *model_arguments(self.view.module, self.file.name_in(self.view.module))])
        self.file.objects.need("keras")
        return written(everything, named, indent), f"keras.Model({arguments})"

    def _name_results(self, lines: list[Line], results: list[Var], names: Names) -> None:
        if len(set(results)) == 1 and results[0] not in self.fixed:
            self.fixed[results[0]] = names.take("outputs")
            return
        nest = self.view.graph.output_nest
        if isinstance(nest, dict):
            for key, ref in nest.items():
                if type(ref) is Ref and Var(ref) in results and Var(ref) not in self.fixed:
                    self.fixed[Var(ref)] = names.take(identifier(key))
        for line in lines:
            for v in line.outs:
                if v in results and v not in self.fixed and v in line.wanted:
                    self.fixed[v] = names.take(line.wanted[v])


def function_text(file: File, function: Function) -> str:
    """Returns a helper function made of repeated lines."""
    names: dict[Var, str] = {}
    for v, name in zip(function.inputs, ("x", "y", "z"), strict=False):
        names[v] = name
    head = ", ".join([*(names[v] for v in function.inputs), *function.parameters])
    busy = file.busy() | set(function.parameters)
    last = function.lines[-1]
    name_values(function.lines, names, [function.result], busy)
    made = [f"def {function.name}({head}):"]
    if last.carried is None:
        made.extend(written(function.lines[:-1], names, 1))
        made.append(wrapped(f"    return {text(last.right, names)}"))
    else:
        made.extend(written(function.lines, names, 1))
        made.append(f"    return {names[function.result]}")
    return "\n".join(made)


def write(file: File, view: View) -> None:
    """Writes a model in functional style as the file's main part."""
    lines, model = Functional(file, view).lines(file.names, 0)
    file.main = [*lines, wrapped(f"model = {model}")]


def write_function(file: File, model: Any, name: str) -> str:
    """Returns a function that makes a nested model."""
    view = View(model, model.graph)
    if as_sequence(view, id(model) in file.masked) is not None:
        from hornbeam.export.source_sequential import model_lines

        return "\n".join([f"def {name}({file.name_in(model)}):", *model_lines(file, view, 1)])
    lines, made = Functional(file, view).lines(Names(file.names.taken - file.values), 1)
    return "\n".join([f"def {name}({file.name_in(model)}):", *lines, wrapped(f"    return {made}")])
