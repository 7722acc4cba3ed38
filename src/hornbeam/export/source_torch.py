"""Plain PyTorch: a module class for each model, with the keys of the model's `state_dict`, and a `load`."""

from __future__ import annotations

import inspect
import os
from functools import partial
from typing import Any

from torch import nn

from hornbeam.core.init_args import is_builtin
from hornbeam.core.layer import Layer
from hornbeam.core.weights import raw
from hornbeam.export.body import in_reading_order, nest_code
from hornbeam.export.code import Code, Var, code, joined, without_dead
from hornbeam.export.file import File
from hornbeam.export.initial import initial
from hornbeam.export.layout import wrapped
from hornbeam.export.modules import module_arguments
from hornbeam.export.naming import Names, class_name, identifier, literal, quoted
from hornbeam.export.own import CannotWrite
from hornbeam.export.parts import View, name_of, title
from hornbeam.export.scope import name_values, text, written
from hornbeam.export.templates import Template, class_source, template_for
from hornbeam.export.tensors import tensor
from hornbeam.export.torch_body import TorchBody, access, flat_leaves, is_container
from hornbeam.export.tracing import Trace, trace
from hornbeam.graph import tree
from hornbeam.graph.graph import Graph
from hornbeam.graph.node import Node, Ref, Spec
from hornbeam.graph.symbolic import SymbolicTensor


class Writer:
    """Writes modules as classes of one file.

    Args:
        file: the file.
    """

    def __init__(self, file: File) -> None:
        self.file = file
        self.classes: dict[str, str] = {}  # class text without its name -> name
        self.reads: dict[tuple[str, int], None] = {}
        self.half: str | None = None
        self._named: dict[int, tuple[str, Any]] = {}

    def define(self, wanted: str, body: str) -> str:
        """Adds a class, or finds an equal one, and returns its name. `body` has `{name}` where the name goes."""
        if body not in self.classes:
            self.classes[body] = self.file.names.take(wanted)
            self.file.definitions.append(body.replace("{name}", self.classes[body]))
        return self.classes[body]

    def plain(self, name: str) -> None:
        """Adds a class of `plain.py` and what it uses."""
        for other, source in class_source(name).items():
            if source not in self.classes:
                self.classes[source] = other
                self.file.names.taken.add(other)
                self.file.definitions.append(source)
                self.file.objects.need("torch", "nn")
                self.file.objects.need(*(["F"] if "F." in source else []), *(["math"] if "math." in source else []))

    # -- what makes a child in `__init__`

    def construct(self, module: Any, calls: list[Node], inside: bool = False) -> Code:
        """Returns the expression that makes a module.

        Args:
            module: the module.
            calls: the nodes that call it, from which the shapes of its inputs are known.
            inside: whether another module calls it, so that its activation must be part of it.
        """
        template = template_for(module)
        if template is not None and not (inside and template.activation is not None):
            return self.from_template(template)
        if type(module).__module__.startswith("torch.nn.modules"):
            return self._torch_module(module, calls)
        if getattr(module, "graph", None) is not None:
            masks = next((n.kwargs["mask"] for n in calls if "mask" in n.kwargs), None)
            return code(self.graph_class(module, masks), "()")
        args, kwargs = _arguments_of(module, calls)
        if args is None:
            return code(self.holder_class(module), "()")
        return self.traced_class(module, trace(module, args, kwargs))

    def note(self, traced: Trace) -> Trace:
        """Remembers where a traced module looks at values, for the file's header."""
        for one in (traced, *([traced.in_training] if traced.in_training is not None else [])):
            self.reads.update(dict.fromkeys(one.reads))
        return traced

    def from_template(self, template: Template) -> Code:
        """Returns the constructor call of a template's class."""
        if template.name.startswith("nn."):
            self.file.objects.need("nn")
        else:
            self.plain(template.name)
        shown = [self._argument(a) for a in template.arguments]
        shown += [code(f"{k}=", self._argument(v)) for k, v in template.options.items()]
        return code(f"{template.name}(", joined(shown), ")")

    def _argument(self, value: Any) -> Code:
        if isinstance(value, nn.Module):
            return self.construct(value, [], inside=True)
        if isinstance(value, list) and value and isinstance(value[0], nn.Module):
            return code("[", joined(self.construct(v, [], inside=True) for v in value), "]")
        spelled = literal(value)
        return (spelled,) if spelled is not None else (self.function(value),)

    def function(self, function: Any) -> str:
        """Returns a function of one tensor as an expression: torch's own name, or a lambda of torch functions."""
        body = TorchBody(self.file.objects, View(None, None), {})  # type: ignore[arg-type]
        x = SymbolicTensor((None, 4))
        outputs: Any = function(x)
        if not isinstance(outputs, SymbolicTensor):
            raise CannotWrite(f"{function!r} is no function of one tensor")
        graph = Graph.trace(x, outputs)
        body.count(list(graph.calls()), graph.outputs)
        for node in graph.calls():
            body.add(node)
        if len(body.lines) != 1:
            raise CannotWrite(f"{getattr(function, '__name__', function)!r} is no single expression of torch functions")
        spelled = text(body.lines[0].right, {Var(graph.inputs[0]): "x"})
        head = spelled.removesuffix("(x)")
        return head if spelled == f"{head}(x)" and head.replace(".", "").isidentifier() else f"lambda x: {spelled}"

    def _torch_module(self, module: nn.Module, calls: list[Node]) -> Code:
        self.file.objects.need("nn")
        cls = type(module)
        if cls is nn.Sequential:
            args, kwargs = _arguments_of(module, calls)
            traced = None if args is None else self.note(trace(module, args, kwargs, modes=False))
            made = {
                key: self.construct(child, [n for n in traced.calls() if n.target == key] if traced else [], inside=True)
                for key, child in module._modules.items()
            }
            if list(made) == [str(i) for i in range(len(made))]:
                return code("nn.Sequential(", joined(made.values()), ")")
            self.file.objects.own.imports["from collections import OrderedDict"] = None
            return code("nn.Sequential(OrderedDict([", joined(code(f"({quoted(k)}, ", v, ")") for k, v in made.items()), "]))")
        args, kwargs = module_arguments(module)
        shown = [self.file.objects.value(a) for a in args]
        shown += [code(f"{k}=", self.file.objects.value(v)) for k, v in kwargs.items()]
        return code(f"nn.{cls.__name__}(", joined(shown), ")")

    # -- classes

    def graph_class(self, model: Any, masks: Any = None) -> str:
        """Returns the name of the class for a model that is a graph."""
        if masks is None:
            graph = model.graph
        else:
            graph = _masked_graph(model, masks)
        return self.module_class(View(model, graph), list(graph.calls()), _title(model))

    def traced_class(self, module: nn.Module, traced: Trace) -> Code:
        """Returns the expression that makes a module whose call was traced."""
        self.note(traced)
        return code(self.module_class(View(module, traced), list(traced.calls()), type(module).__name__), "()")

    def holder_class(self, module: nn.Module) -> str:
        """Returns the name of a class that only holds modules and weights."""
        return ModuleClass(self, View(module, Graph([], (), ())), []).define(type(module).__name__, forward=False)

    def module_class(self, view: View, nodes: list[Node], title: str) -> str:
        """Returns the name of the class for a module and the graph of its calls."""
        return ModuleClass(self, view, nodes).define(title)


def _arguments_of(module: Any, calls: list[Node]) -> tuple[Any, dict[str, Any]]:
    """The arguments with which a module is called, Specs in place of tensors; (None, {}) where that is not known.

    Raises:
        CannotWrite: it is called in several ways.
    """
    if not calls:
        shape = module.__dict__.get("_build_shapes") if isinstance(module, Layer) and module.built else None
        if not shape or not all(d is None or isinstance(d, int) for d in shape):
            return None, {}
        return (Spec((None, *shape[1:]), module.compute_dtype),), {}
    found = [_specs(node) for node in calls]
    merged = found[0]
    for other in found[1:]:
        if [_kind(v) for v in flat_leaves(other)] != [_kind(v) for v in flat_leaves(merged)]:
            raise CannotWrite("it is called more than once, each time with other arguments")
        merged = _refilled(merged, [_common(a, b) for a, b in zip(flat_leaves(merged), flat_leaves(other), strict=True)])
    return merged


def _refilled(nest: Any, values: list[Any]) -> Any:
    flat = iter(values)
    return tree.map_leaves(lambda _: next(flat), nest)


def _specs(node: Node) -> Any:
    kwargs = {k: v for k, v in node.kwargs.items() if k != "training" and v is not None}
    return tree.map_leaves(lambda v: v.spec if type(v) is Ref else v, (node.args, kwargs))


def _kind(value: Any) -> Any:
    return (len(value.shape), value.dtype) if isinstance(value, Spec) else repr(value)


def _common(one: Any, two: Any) -> Any:
    if not isinstance(one, Spec) or one.shape == two.shape:
        return one
    return Spec(tuple(a if a == b else None for a, b in zip(one.shape, two.shape, strict=True)), one.dtype)


def _title(model: Any) -> str:
    """What names a module's class: the user's name or class."""
    if getattr(model, "_named", False):
        return model.name
    return "Part" if getattr(model, "graph", None) is not None and is_builtin(type(model)) else type(model).__name__


def _masked_graph(model: Any, masks: Any) -> Graph:
    """A model's graph for inputs that carry masks, which are further inputs of it."""
    inputs, carried = model._fresh_symbols(), []
    for x, mask in zip(inputs, tree.leaves(masks), strict=True):
        if mask is not None:
            x._keras_mask = SymbolicTensor((*x.shape[:1], *mask.spec.shape[1:]), "bool", name="mask")
            carried.append(x._keras_mask)
    graph = Graph.trace([*inputs, *carried], model._replay(inputs))
    model._name_masking(graph)
    model._hold_captured(graph)
    return graph


class ModuleClass:
    """The class for one module.

    Args:
        writer: writes the classes of its children.
        view: the module and the graph of its calls.
        nodes: the calls.
    """

    def __init__(self, writer: Writer, view: View, nodes: list[Node]) -> None:
        self.writer, self.view, self.nodes = writer, view, nodes
        self.ties: list[str] = []
        self.half: str | None = None
        self.root = False
        self.calls: dict[str, list[Node]] = {}
        for node in nodes:
            if node.kind == "module":
                self.calls.setdefault(node.target, []).append(node)
        graph = view.graph.in_training if isinstance(view.graph, Trace) else None
        for node in graph.calls() if graph is not None else ():
            if node.kind == "module":
                self.calls.setdefault(node.target, []).append(node)
        self.body = TorchBody(writer.file.objects, view, self.calls, writer.note)
        self.body.half, self.body.plain = writer.half, writer.plain

    def define(self, wanted: str, forward: bool = True) -> str:
        """Writes the class and returns its name."""
        lines = self._forward() if forward else []
        made = self._children(self.view.module, "self", "") + self._weights(self.view.module) + self.ties
        head = ["class {name}(nn.Module):"]
        self.writer.file.objects.need("nn")
        if made:
            head += ["    def __init__(self):", "        super().__init__()", *made]
        if made and lines:
            head.append("")
        return self.writer.define(class_name(wanted), "\n".join([*head, *(lines or ([] if made else ["    pass"]))]))

    # -- __init__

    def _children(self, module: nn.Module, owner: str, prefix: str) -> list[str]:
        made: list[str] = []
        seen: dict[int, str] = {}
        for key, child in module._modules.items():
            if child is None or type(child).__name__ == "InputLayer":
                continue
            path = f"{prefix}{key}"
            place = access(owner, module, key)
            if id(child) in seen:
                right: Code = (seen[id(child)],)
            elif is_container(child):
                right = self._container(child, path)
            elif not _has_state(child) and (path in self.body.inlined or not self._is_called(path)):
                continue
            else:
                right = code(self._written(child, path), _of_its_dtype(child))
            seen[id(child)] = place
            left = place if place.startswith(f"{owner}.") else None
            line = f"{left} = {text(right, {})}" if left else f"{owner}.add_module({quoted(key)}, {text(right, {})})"
            made.append(wrapped(f"        {line}"))
        return made

    def _is_called(self, path: str) -> bool:
        return any(target == path or target.startswith(path + ".") for target in self.calls)

    def _written(self, child: Any, path: str) -> Code:
        node = self.calls[path][0] if path in self.calls else Node("module", path, path)
        return self.view.refuse(node, lambda: self.writer.construct(child, self.calls.get(path, [])))

    def _container(self, container: Any, path: str) -> Code:
        self.writer.file.objects.need("nn")
        items = []
        for key, child in container._modules.items():
            inner = f"{path}.{key}"
            right = self._container(child, inner) if is_container(child) else self._written(child, inner)
            items.append(right if isinstance(container, nn.ModuleList) else code(f"{quoted(key)}: ", right))
        if isinstance(container, nn.ModuleList):
            return code("nn.ModuleList([", joined(items), "])")
        return code("nn.ModuleDict({", joined(items), "})")

    def _weights(self, module: nn.Module) -> list[str]:
        made: list[str] = []
        for key, value in raw(module, "_parameters").items():
            if value is not None:
                self.writer.file.objects.need("torch")
                spec = getattr(module, "_specs", {}).get(key)
                filled = f"nn.Parameter({initial(value, getattr(spec, 'initializer', None))})"
                name = access("self", module, key)
                line = f"{name} = {filled}" if name.startswith("self.") else f"self.register_parameter({quoted(key)}, {filled})"
                made.append(wrapped(f"        {line}"))
        for key, value in raw(module, "_buffers").items():
            if value is None:
                continue
            self.writer.file.objects.need("torch")
            if key in module._non_persistent_buffers_set:
                if key not in self.body.held_paths:
                    continue
                shown = tensor(value, self.writer.file.objects._data)
                made.append(wrapped(f"        self.register_buffer({quoted(key)}, {shown}, persistent=False)"))
            else:
                made.append(wrapped(f"        self.register_buffer({quoted(key)}, {initial(value)})"))
        return made

    # -- forward

    def _forward(self) -> list[str]:
        graph = self.view.graph
        names = Names()
        named: dict[Var, str] = {}
        wanted = self._parameter_names()
        for i, ref in enumerate(graph.inputs):
            fallback = "x" if len(graph.inputs) == 1 else f"x_{i + 1}"
            named[Var(ref)] = names.take(identifier(wanted.get(ref) or fallback))
        parameters = [named[Var(ref)] for ref in graph.inputs]
        traced = graph.in_training if isinstance(graph, Trace) else None
        keyed = graph.input_nest if self.root and self.view.own and isinstance(graph.input_nest, dict) else {}
        optional = [f"{name}=None" for name in parameters[1:]] if keyed else parameters[1:]
        made = [f"    def forward({', '.join(['self', *parameters[:1], *optional])}):"]
        indent = 2
        if keyed and all(type(v) is Ref for v in keyed.values()):
            first = parameters[0]
            taken = {named[Var(ref)]: f"{first}[{literal(key)}]" for key, ref in keyed.items()}
            made += [f"        if isinstance({first}, dict):",
                     wrapped(f"            {', '.join(taken)} = {', '.join(taken.values())}")]  # fmt: skip
        if self.half is not None:
            made.append(f"        with torch.autocast({parameters[0]}.device.type, torch.{self.half}):")
            indent = 3
        self.body.in_training = None if traced is None else False
        lines = self._lines(graph, dict(named), indent)
        self.body.in_training = True
        if traced is not None:
            other = {Var(r): named[Var(mine)] for r, mine in zip(traced.inputs, graph.inputs, strict=True)}
            made += ["    " * indent + "if self.training:", *self._lines(traced, other, indent + 1)]
        return [*made, *lines]

    def _parameter_names(self) -> dict[Ref, str | None]:
        """The names that the inputs would best have: the user's, or those in the signature of a traced module."""
        graph = self.view.graph
        if self.view.own:
            return {ref: name_of(self.view.source(ref)) for ref in graph.inputs}
        if not isinstance(graph, Trace):
            return {ref: ref.node.name for ref in graph.inputs if ref.node.name == "mask"}
        positional, keywords = graph.input_nest
        found: dict[Ref, str | None] = {v: k for k, v in keywords.items() if type(v) is Ref}
        function = self.view.module.call if isinstance(self.view.module, Layer) else self.view.module.forward
        for value, name in zip(positional, inspect.signature(function).parameters, strict=False):
            if type(value) is Ref and name not in ("inputs", "input", "args"):
                found[value] = name
        return found

    def _lines(self, graph: Graph, named: dict[Var, str], indent: int) -> list[str]:
        """The lines of a `forward`, with its return."""
        body = self.body
        nodes = list(graph.calls())
        body.lines = []
        ordered = nodes if isinstance(graph, Trace) else in_reading_order(graph, nodes, masks=True)
        body.count(ordered, graph.outputs)
        for node in ordered:
            self.view.refuse(node, partial(body.add, node))
        result = nest_code(graph.output_nest, self._returned)
        results = [p for p in result if type(p) is Var]
        lines = without_dead(body.lines, results)
        for line in lines:
            line.outs = [] if line.pinned and not any(line.outs) else line.outs
        if lines and len(result) == 1 and lines[-1].outs == [result[0]] and not lines[-1].target:
            result = lines.pop().right
            results = [p for p in result if type(p) is Var]
        name_values(lines, named, results, {"self"})
        returned = wrapped("    " * indent + f"return {text(result, named)}")
        return [one for line in [*written(lines, named, indent), returned] for one in line.split("\n")]

    def _returned(self, value: Any) -> Code:
        made = self.body.take(value)
        if self.half is not None and type(value) is Ref and "float" in value.spec.dtype:
            return code(made, f".to(torch.{value.spec.dtype})")
        return made


def _of_its_dtype(child: Any) -> str:
    """What follows a layer's constructor where its weights are no float32."""
    if not isinstance(child, Layer) or getattr(child, "graph", None) is not None or child.variable_dtype == "float32":
        return ""
    return f".to(torch.{child.variable_dtype})" if child._parameters else ""


def _half_type(module: nn.Module) -> str | None:
    """The half type in which layers of mixed precision compute, where there are some."""
    found = {m.compute_dtype for m in module.modules() if isinstance(m, Layer) and m.dtype_policy.name.startswith("mixed_")}
    if len(found) > 1:
        raise ValueError(f"to_source cannot write {title(module)}: its layers compute in {' and '.join(sorted(found))}.")
    return next(iter(found), None)


def _has_state(module: nn.Module) -> bool:
    return bool(module.state_dict())


def shared_parameters(module: nn.Module) -> list[tuple[str, str]]:
    """The paths under which a parameter stands a second time, each with its first path; not those of modules used twice."""
    first: dict[int, str] = {}
    made = []
    once = {id(m): path for path, m in module.named_modules()}
    for path, value in module.named_parameters(remove_duplicate=False):
        owner = path.rpartition(".")[0]
        if id(value) in first and once.get(id(module.get_submodule(owner))) == owner:
            made.append((path, first[id(value)]))
        first.setdefault(id(value), path)
    return made


def ties(module: nn.Module) -> list[str]:
    """Statements by which one parameter stands in several places, where a model shares it."""
    return [
        wrapped(f"        {access('self', module, path)} = {access('self', module, first)}")
        for path, first in shared_parameters(module)
    ]


def write(file: File, view: View) -> Writer:
    """Writes a module, and all that it holds, as classes of the file, with a function `load`."""
    writer = Writer(file)
    module = view.module
    writer.half = _half_type(module)
    made = ModuleClass(writer, view, list(view.graph.calls()))
    made.half, made.root = writer.half, True
    made.ties = ties(module)
    wanted = _title(module)
    name = made.define("Model" if wanted == "Part" else wanted)
    file.objects.need("torch")
    file.definitions.append(_LOAD.format(name=name))
    _say_what_froze(file, [read for read in writer.reads if read not in getattr(view.graph, "reads", ())])
    return writer


def _say_what_froze(file: File, reads: list[tuple[str, int]]) -> None:
    """Adds the lines at which layers inside look at values to the header, where the model's own already stand."""
    head = "A recording froze what the original does where it looks at values of tensors:"
    if reads and head not in file.header:
        file.header.append(head)
    shown = [f"- {identifier(os.path.basename(name))}, line {line}" for name, line in reads]
    file.header += [line for line in shown if line not in file.header]


_LOAD = '''def load(source):
    """Returns the model with the weights of a state_dict, or of a file that holds one, in inference mode."""
    model = {name}()
    state = source if isinstance(source, dict) else torch.load(source, weights_only=True)
    model.load_state_dict(state)
    return model.eval()'''
