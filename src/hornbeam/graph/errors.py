"""What an error tells: a first line that helps, and a traceback of the user's own lines.

All of it happens when an exception passes; a call that succeeds pays nothing.
"""

from __future__ import annotations

import dis
import functools
import types
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from hornbeam.graph import tree
from hornbeam.graph.context import context, setting
from hornbeam.graph.hints import hint
from hornbeam.graph.node import _PACKAGE, _TORCH, Node, Ref, is_users

_RAISE = dis.opmap["RAISE_VARARGS"]
_TORCHS = (RuntimeError, ValueError, IndexError)
_INFERENCE = _PACKAGE + "graph"
_GENERATED = ("<hornbeam", "<eval_with_key", "<frozen", "<__")
_filtering = [True]


class Failure:
    """Which call raised an error. Where the error is pickled or copied, it stays behind: a graph is too deep for that.

    Attributes:
        node: the call.
        model: the model that was running, or None where a graph was being built.
        shapes: the shapes that the call was given.
    """

    def __init__(self, node: Node | None = None, model: Any = None, shapes: list[Any] | None = None) -> None:
        self.node, self.model = node, model
        self.shapes = shapes or [r.spec.shape for r in (node.visible_refs() if node else ()) if not r.spec.is_number]

    def __reduce__(self) -> Any:
        return Failure, ()


def set_filtering(value: bool) -> None:
    """Says whether tracebacks show the user's lines only."""
    _filtering[0] = value


def trim(error: BaseException) -> None:
    """Takes frames of Hornbeam and torch out of an error's traceback, unless that is switched off."""
    if not _filtering[0] or torch.compiler.is_compiling():
        return
    origin(error)
    kept = [t for t in _trace(error) if not _is_internal(t.tb_frame.f_code.co_filename)]
    chain = None
    for t in reversed(kept):
        chain = types.TracebackType(chain, t.tb_frame, t.tb_lasti, t.tb_lineno)
    error.with_traceback(chain)


def boundary(function: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a public function whose errors show the user's lines only."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except Exception as error:
            trim(error)
            raise

    return call


def _is_internal(filename: str) -> bool:
    return not is_users(filename) and not (filename.startswith("<") and not filename.startswith(_GENERATED))


def _trace(error: BaseException) -> Iterator[types.TracebackType]:
    trace = error.__traceback__
    while trace is not None:
        yield trace
        trace = trace.tb_next


def origin(error: BaseException) -> str:
    """Returns who wrote an error's message, "torch", "hornbeam" or "user"; it is kept, since tracebacks are cut later on."""
    known = error.__dict__.get("_origin")
    if known is None:
        known = error.__dict__["_origin"] = _origin(error)
    return str(known)


def _origin(error: BaseException) -> str:
    trace = list(_trace(error))
    if not trace:
        return "user"
    last = trace[-1]
    name, code = last.tb_frame.f_code.co_filename, last.tb_frame.f_code.co_code
    if code[last.tb_lasti] == _RAISE:
        if name.startswith((_TORCH, _INFERENCE)) and type(error) in _TORCHS:
            return "torch"
        return "hornbeam" if name.startswith(_PACKAGE) else "user"
    if type(error) is IndexError:  # of a tensor, or of a list
        return "torch" if "imension" in str(error) or "tensor" in str(error) else "user"
    return "torch" if type(error) in (RuntimeError, NotImplementedError) else "user"


def lead(error: Exception, what: str, shapes: str, hint: str = "") -> None:
    """Puts what failed on which shapes before torch's own message; a message that somebody else wrote stays as it is."""
    if "_led" in error.__dict__ or origin(error) != "torch" or len(error.args) != 1 or not isinstance(error.args[0], str):
        return
    error.__dict__["_led"] = True
    own = error.args[0].strip()
    first, _, rest = own.partition("\n")
    stop = "." if hint and not first.endswith(".") else ""
    error.args = (f"{what} cannot take {shapes}: {first}{stop}{hint}" + (rest and f"\n{rest}"),)


def shapes_of(nest: Any, batch: int = 0) -> str:
    """Returns the shapes in a call's arguments as words: "shape (2, 3)", "shapes (2, 3) and (4,)"."""
    found = [str(s) for s in _shapes(nest, batch) if s is not None]
    if not found:
        return "what it was given"
    return f"shape {found[0]}" if len(found) == 1 else f"shapes {', '.join(found[:-1])} and {found[-1]}"


def _shapes(nest: Any, batch: int = 0) -> list[tuple[Any, ...] | None]:
    return [shape_of(v, batch) for v in tree.leaves(nest)]


def shape_of(value: Any, batch: int = 0) -> tuple[Any, ...] | None:
    """Returns the shape of a tensor or a Ref, or None; a batch that stands for any, the empty one, is None in it."""
    if type(value) is Ref:
        return None if value.spec.is_number else value.spec.shape
    if not hasattr(value, "shape"):
        return None
    shape = tuple(value.shape)
    return (None, *shape[1:]) if context.scratch and shape[:1] == (batch,) else shape


def title(kind: str, name: str, target: Any) -> str:
    """Returns what an error calls a call: "Layer 'a' (Dense)", "Function 'add'"."""
    return f"Layer {name!r} ({type(target).__name__})" if kind == "module" else f"Function {name!r}"


def explain(error: Exception, node: Node) -> Exception:
    """Adds to an error which call failed, on which shapes, from which earlier calls and source lines."""
    target, name, given = node.target, node.name, (node.args, node.kwargs)
    part, taken = innermost(error, target) if node.kind == "module" else (target, None)
    batch = error.__dict__.get("_batch", 0)
    with setting(scratch=True):
        if part is not target and taken is not None:
            target, name, given = part, f"{name}/{path_of(target, part)}", taken
        lead(error, title(node.kind, name, target), shapes_of(given, batch), hint(target, _shapes(given, batch), str(error)))
    error.__dict__["failure"] = Failure(node)  # the outermost stays: it stands in the user's own graph
    kind = "Layer" if node.kind == "module" else "Function"
    lines = [f"{kind} {node.name!r} was called at {node.where() or 'an unknown line'} on:"]
    lines += [f"  shape {r.spec.shape}, dtype {r.spec.dtype}{made_by(r)}" for r in node.visible_refs()]
    error.add_note("\n".join(lines))
    return error


def made_by(ref: Ref) -> str:
    """Returns ", made by 'conv' at file:line" for a value."""
    return f", made by {ref.node.name!r}" + (f" at {ref.node.where()}" if ref.node.where() else "")


def innermost(error: Exception, below: nn.Module) -> tuple[nn.Module, Any]:
    """Returns the innermost module whose call an error came through, and its arguments; `below` itself where there is none."""
    found: tuple[nn.Module, Any] = (below, None)
    for t in _trace(error):
        frame = t.tb_frame
        if frame.f_code.co_name == "_call_impl" and isinstance(frame.f_locals.get("self"), nn.Module):
            found = frame.f_locals["self"], frame.f_locals.get("args")
    return found


def path_of(root: nn.Module, module: nn.Module) -> str:
    """Returns the path of a module in another one, layers by their names; its own name where it is not in there."""
    start: Any = root.module if getattr(root, "_wraps", False) else root
    for path, m in start.named_modules():
        if m is module and path:
            return shown_path(start, path)
    return str(getattr(module, "name", None) or type(module).__name__)


def shown_path(module: nn.Module, path: str) -> str:
    """Returns a path of attributes with layers by their names: "encoder/block1/conv"."""
    names = []
    for key in path.split("."):
        module = module._modules[key]  # type: ignore[assignment]
        names.append(str(getattr(module, "name", None) or key))
    return "/".join(names)
