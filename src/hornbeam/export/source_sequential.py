"""The sequential style: a list of layers, or `model.add` in a loop where layers repeat."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F

from hornbeam.export.body import Body
from hornbeam.export.code import Code, Line, Var, code
from hornbeam.export.file import File
from hornbeam.export.folding import folded
from hornbeam.export.layout import wrapped
from hornbeam.export.naming import Names
from hornbeam.export.own import CannotWrite
from hornbeam.export.parts import View, input_code, model_arguments, title, why_no_sequence
from hornbeam.export.scope import loop_head, text
from hornbeam.export.source_functional import constructed
from hornbeam.graph.node import Node, Ref

_AS_ACTIVATION = {
    torch.relu: "relu", F.relu: "relu", torch.sigmoid: "sigmoid", F.sigmoid: "sigmoid", torch.tanh: "tanh", F.tanh: "tanh",
    torch.Tensor.relu: "relu", torch.Tensor.sigmoid: "sigmoid", torch.Tensor.tanh: "tanh", F.silu: "silu", F.elu: "elu",
    F.selu: "selu", F.softplus: "softplus", F.softsign: "softsign", F.mish: "mish", F.relu6: "relu6",
}  # fmt: skip


def write(file: File, view: View) -> None:
    """Writes a model in sequential style as the file's main part.

    Raises:
        ValueError: the model is no chain of layers; the message names the layer that breaks it.
    """
    reason = why_no_sequence(view)
    if reason is not None:
        raise ValueError(f'to_source(style="sequential") cannot hold {title(view.module)}: {reason}. Use style="functional".')
    file.main = model_lines(file, view, 0)


def write_function(file: File, model: Any, name: str) -> str:
    """Returns a function that makes a nested model."""
    view = View(model, model.graph)
    reason = why_no_sequence(view, id(model) in file.masked)
    if reason is not None:
        raise ValueError(
            f'to_source(style="sequential") cannot hold the nested {title(view.module)}: {reason}. Use style="functional".'
        )
    return "\n".join([f"def {name}({file.name_in(model)}):", *model_lines(file, view, 1)])


def model_lines(file: File, view: View, indent: int) -> list[str]:
    """Returns the lines that make a Sequential: assigned to `model`, or returned inside a function."""
    start = input_code(file.objects, view.source(view.graph.inputs[0]), view.graph.inputs[0].spec)
    layers = [view.refuse(node, partial(_layer, file, view, node)) for node in view.nodes()]
    about = [(type(view.child(n.target)).__name__ if n.kind == "module" else "",) for n in view.nodes()]
    arguments = model_arguments(view.module, file.name_in(view.module), chain=True)
    file.objects.need("keras")
    space = "    " * indent
    chain = Var("start")
    lines = []
    before = chain
    for i, layer in enumerate(layers):
        after = Var(i)
        lines.append(Line([after], code("add(", before, ", ", layer, ")"), about=about[i]))
        before = after
    loops = folded(lines, [before], Names(), []) if len(lines) > 3 else lines
    if all(line.carried is None for line in loops) or any("block" in line.about for line in loops):
        items = ", ".join(text(layer, {}) for layer in [start, *layers])
        model = f"keras.Sequential({', '.join([f'[{items}]', *arguments])})"
        return [wrapped(f"{space}{'return' if indent else 'model ='} {model}")]
    made = [wrapped(f"{space}model = keras.Sequential({', '.join(arguments)})"), wrapped(f"{space}model.add({text(start, {})})")]
    made += _added(loops, indent)
    return [*made, f"{space}return model"] if indent else made


def _added(lines: list[Line], indent: int) -> list[str]:
    made: list[str] = []
    space = "    " * indent
    for line in lines:
        if line.carried is not None:
            made.append(loop_head(line, {}, space))
            made += _added(line.body, indent + 1)
        else:
            inner = text(tuple(p for p in line.right if type(p) is not Var), {}).removeprefix("add(, ").removesuffix(")")
            made.append(wrapped(f"{space}model.add({inner})"))
    return made


def _layer(file: File, view: View, node: Node) -> Code:
    """The expression of a chain's next layer; a function becomes an Activation or a Lambda."""
    if node.kind == "module":
        child: Any = view.child(node.target)
        if getattr(child, "graph", None) is not None:
            return file.model_function(child, "mask" in node.kwargs or id(view.module) in file.masked)
        return constructed(file, child, node)
    file.objects.need("layers")
    if node.kind == "function" and len(node.args) == 1 and not node.kwargs:
        known = next((n for f, n in _AS_ACTIVATION.items() if f is node.target), None)
        if known is not None:
            return (f'layers.Activation("{known}")',)
        name = file.objects.function(node.target) if getattr(node.target, "__name__", "") != "__get__" else ""
        if name.startswith(("torch.", "F.")):
            return (f"layers.Lambda({name})",)
    body = Body(file.objects, lambda n: file.objects.constructor(n.target), lambda path: ())
    body.add(node)
    value = Var(node.args[0]) if node.args and type(node.args[0]) is Ref else None
    names = {Var(r): "x" for r in node.visible_refs()}
    if len(body.lines) != 1 or (value is None and not names):
        raise CannotWrite("a Sequential holds no statement that changes a tensor in place")
    return (f"layers.Lambda(lambda x: {text(body.lines[0].right, names)})",)
