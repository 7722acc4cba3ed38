"""What is said when a model that is a graph fails: which call, on what, from where; and whether the inputs were at fault."""

from __future__ import annotations

from typing import Any

import torch

from hornbeam.graph import errors, tree
from hornbeam.graph.context import context
from hornbeam.graph.hints import hint
from hornbeam.graph.node import Node, Ref


class InputMisfit(ValueError, RuntimeError):
    """An input does not fit a model: a ValueError, as Keras has it, in place of the RuntimeError that torch raised inside."""


def note_call(model: Any, error: Exception, node: Node, values: dict[Ref, Any]) -> None:
    """Adds to an error which call of a model failed, where the user wrote it, and where its inputs come from."""
    target = model._child(node.target) if node.kind == "module" else node.target
    held = lambda v: values.get(v) if type(v) is Ref else model._held(v.path) if hasattr(v, "path") else v  # noqa: E731
    given = [v for v in map(held, tree.leaves((node.args, node.kwargs))) if isinstance(v, torch.Tensor)]
    error.__dict__["failure"] = errors.Failure(node, model, [tuple(v.shape) for v in given])
    if node.kind != "module" or not hasattr(target, "_inbound_nodes"):
        root = context.root if context.root is not None and context.depth > 1 else model
        name = ("" if root is model else errors.path_of(root, model) + "/") + node.name
        if node.kind == "module":
            target, deeper = errors.innermost(error, target)
            name, given = errors.path_of(root, target), given if deeper is None else deeper
        shapes = [errors.shape_of(v) for v in tree.leaves(given)]
        errors.lead(error, errors.title(node.kind, name, target), errors.shapes_of(given), hint(target, shapes, str(error)))
    if not node.source:
        return
    kind = "Layer" if node.kind == "module" else "Function"
    lines = [f"{kind} {node.name!r} was called at {node.where()} when the model was made."]
    for ref, value in values.items():
        now = f"shape {tuple(value.shape)}, where {ref.spec.shape} was foreseen" if hasattr(value, "shape") else f"{value!r}"
        lines.append(f"  {now}{errors.made_by(ref)}")
    error.add_note("\n".join(lines))


def given_wrongly(model: Any, error: Exception, args: Any) -> Exception:
    """Returns the error that names the input which does not fit a model, where that is why a call inside it failed.

    Where the error is a RuntimeError of torch's, an InputMisfit takes its place, with its words and notes.
    """
    if model._graph is None or type(error) not in (RuntimeError, ValueError, InputMisfit) or context.scratch or not args:
        return error
    flat = tree.leaves(args[0])
    if len(flat) != len(model._graph.inputs) or not all(isinstance(v, torch.Tensor) for v in flat):
        return error
    sentence = _misfit(model, flat) or _uneven(model, flat)
    if not sentence:
        return error
    if errors.origin(error) == "user":
        error.add_note(sentence)
        return error
    own = getattr(error, "_own_words", None) or str(error).strip()
    made: Any = InputMisfit() if type(error) is RuntimeError else error
    made.args, made._own_words, made._led = (f"{sentence}\n{own}",), own, True
    if made is not error:
        made.__notes__ = list(getattr(error, "__notes__", ()))
        made.__traceback__ = error.__traceback__
        made.__dict__.update(error.__dict__)
    return made


def _misfit(model: Any, flat: list[torch.Tensor]) -> str:
    for value, ref in zip(flat, model._graph.inputs, strict=True):
        wanted, shape = ref.spec.shape, tuple(value.shape)
        if _fits(shape, wanted) or _fits((*shape, 1), wanted) or (shape[-1:] == (1,) and _fits(shape[:-1], wanted)):
            continue
        several = f"its input {ref.node.name!r}" if len(flat) > 1 else "its input"
        return f"Model {model.name!r} expects shape {wanted} for {several}, but was given shape {shape}.{_remedy(shape, wanted)}"
    return ""


def _fits(shape: tuple[int, ...], wanted: tuple[int | None, ...]) -> bool:
    return len(shape) == len(wanted) and all(w in (None, s) for s, w in zip(shape, wanted, strict=True))


def _remedy(shape: tuple[int, ...], wanted: tuple[int | None, ...]) -> str:
    if _fits(shape, wanted[1:]):
        return " Is the batch axis missing? Add it by x[None]."
    if len(shape) == len(wanted) and len(shape) > 2 and _fits((shape[0], *shape[2:], shape[1]), wanted):
        order = (0, *range(2, len(shape)), 1)
        return f" Channels seem to be on axis 1, as torch has them: x.permute{order}."
    if len(shape) == len(wanted) and len(shape) > 2 and _fits((shape[0], shape[-1], *shape[1:-1]), wanted):
        order = (0, len(shape) - 1, *range(1, len(shape) - 1))
        return f" Channels seem to be on the last axis: x.permute{order}."
    return ""


def _uneven(model: Any, flat: list[torch.Tensor]) -> str:
    given = zip(model._graph.inputs, flat, strict=True)
    counts = {r.node.name: v.shape[0] for r, v in given if v.dim() and r.spec.shape[0] is None}
    if len(set(counts.values())) < 2:
        return ""
    shown = ", ".join(f"{name!r} {count}" for name, count in counts.items())
    return f"The inputs of model {model.name!r} hold different numbers of samples: {shown}."
