"""What happens around a layer's `call` apart from the ordinary case of one tensor on a built layer."""

from __future__ import annotations

import functools
import inspect
import itertools
from functools import cache
from typing import Any

import numpy as np
import torch
from torch.fx import Proxy

from hornbeam.core import dtype as dtypes
from hornbeam.core.errors import describe
from hornbeam.core.input_spec import check_inputs
from hornbeam.core.operation import output_specs
from hornbeam.graph import errors, symbolic, tree
from hornbeam.graph.context import context, setting
from hornbeam.graph.hints import hint
from hornbeam.graph.infer import infer, looking
from hornbeam.graph.node import Node, Out, Spec, user_source


class Signature:
    """What a `call` method takes.

    Attributes:
        names: names of its positional arguments.
        first: the first of them.
        training: whether it takes `training`.
        masks: names of mask arguments, by the argument whose mask they take.
        open: whether it takes any positional arguments (`*args`).
    """

    def __init__(self, call: Any) -> None:
        parameters = list(inspect.signature(call).parameters.values())[1:]
        positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        self.names = [p.name for p in parameters if p.kind in positional]
        named = {p.name for p in parameters}
        self.open = any(p.kind is p.VAR_POSITIONAL for p in parameters)
        self.any_keyword = any(p.kind is p.VAR_KEYWORD for p in parameters)
        self.keywords = named
        self.required = [p.name for p in parameters[1:] if p.kind in positional and p.default is p.empty]
        self.training = "training" in named and not getattr(call, "_runs_graph", False)  # a graph's layers read the context
        self.default_training = next((p.default for p in parameters if p.name == "training"), None)
        self.first = self.names[0] if self.names else None
        self.masks = {n: f"{n}_mask" for n in self.names if f"{n}_mask" in named}
        if self.first and "mask" in named and self.first not in self.masks:
            self.masks[self.first] = "mask"
        self.first_mask = self.masks.get(self.first) if self.first else None


@cache
def signature_of(call: Any) -> Signature:
    """Returns the Signature of a class's `call` function."""
    return Signature(call)


@cache
def argument_names(function: Any) -> tuple[str, ...]:
    """Returns the names of a method's arguments, without `self`."""
    return tuple(inspect.signature(function).parameters)[1:]


class Recorded:
    """What `prepare` answers when the call was recorded."""

    __slots__ = ("result",)

    def __init__(self, result: Any) -> None:
        self.result = result


def prepare(layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Converts arguments, builds the layer, gives it values; records the call where an argument is symbolic.

    Returns:
        (args, kwargs) for the call, or a Recorded.
    """
    for value in tree.leaves((args, kwargs)):
        if isinstance(value, Proxy):  # torch.fx.symbolic_trace: a layer is one call there, as torch's own modules are
            tracer: Any = value.tracer
            return Recorded(tracer.create_proxy("call_module", tracer.path_of_module(layer), args, kwargs))
    signature: Signature = layer._signature
    if len(args) > 1 and not signature.open and len(args) <= len(signature.names):
        kwargs = {**dict(zip(signature.names[1:], args[1:], strict=False)), **kwargs}
        args = args[:1]
    elif not args and signature.first in kwargs:
        kwargs = dict(kwargs)
        args = (kwargs.pop(signature.first),)
    if args and not signature.names and not signature.open:
        raise TypeError(
            f"Layer {layer.name!r} ({type(layer).__name__}) has a `call` that takes no input. Write `def call(self, x)`."
        )
    if len(args) > 1 and not signature.open:
        raise TypeError(
            f"Layer {layer.name!r} ({type(layer).__name__}) takes {len(signature.names)} argument(s). Received: {len(args)}."
        )
    if not args and signature.first and not signature.any_keyword:
        raise TypeError(f"Layer {layer.name!r} ({type(layer).__name__}) was called without its input `{signature.first}`.")
    if args and args[0] is None and context.nothing is not None and context.nothing[0] is context.root:
        raise TypeError(
            f"Layer {layer.name!r} ({type(layer).__name__}) was given None, which layer {context.nothing[1]} returned. "
            f"Is a `return` missing in its `call`?"
        )
    _check_keywords(layer, signature, kwargs)
    missing = [n for n in signature.required if n not in kwargs and n != "training" and n not in signature.masks.values()]
    if missing and args:
        takes = ", ".join(n for n in signature.names if n not in ("training", *signature.masks.values()))
        raise TypeError(f"Layer {layer.name!r} ({type(layer).__name__}) was called without `{missing[0]}`. It takes: {takes}.")
    if symbolic.symbols_in((args, kwargs)):
        return Recorded(_record(layer, args, kwargs))
    convert = lambda v: _convert(layer, v)  # noqa: E731
    args = tuple(tree.map_leaves(convert, a) for a in args)
    kwargs = {k: v if k == "training" or v is None else tree.map_leaves(convert, v) for k, v in kwargs.items()}
    if not layer.built:
        build_from_inputs(layer, args, kwargs)
    if not context.scratch:
        ready(layer)
    if layer.input_spec is not None and args:
        check_inputs(layer.input_spec, args[0], layer)
    for name, mask in signature.masks.items():
        value = args[0] if name == signature.first and args else kwargs.get(name)
        if kwargs.get(mask) is None and value is not None:
            found = masks_of(value)
            if found is not None:
                kwargs[mask] = found
    return args, kwargs


def fits(layer: Any, nest: Any) -> bool:
    """Whether an input is a flat list, tuple or dict of tensors that the layer takes as they are: no mask, no other dtype."""
    values = nest.values() if type(nest) is dict else nest if type(nest) in (list, tuple) else (None,)
    compute = layer._compute
    for v in values:
        if not isinstance(v, torch.Tensor) or getattr(v, "_keras_mask", None) is not None:
            return False
        if v.dtype is not compute and layer.autocast and v.is_floating_point():
            return False
    return True


def make_ready(layer: Any) -> bool:
    """Gives every built layer of a tree its values; returns whether the layer itself is built.

    While a compiler traces, this and `build_for` run as ordinary Python, outside the trace.
    """
    for module in layer.modules():
        if hasattr(module, "_inbound_nodes") and module.built and not module._ready:
            ready(module)
    return bool(layer.built)


make_ready._dynamo_marked_constant = True  # type: ignore[attr-defined]


def build_for(layer: Any, *args: Any, **kwargs: Any) -> bool:
    """Builds a tree of layers for the arguments of a first call, and gives it values."""
    if not layer.built:
        with looking():
            layer(*args, **kwargs)
    return make_ready(layer)


build_for._dynamo_marked_constant = True  # type: ignore[attr-defined]


def ready(layer: Any) -> None:
    """Makes the values of a built layer's own weights and marks it as ready for the short path."""
    for slot in ("_parameters", "_buffers"):
        held = layer.__dict__[slot]
        if hasattr(held, "fill") and len(held):
            held.fill()
    layer.__dict__["_ready"] = layer.built


def _check_keywords(layer: Any, signature: Signature, kwargs: dict[str, Any]) -> None:
    if signature.any_keyword:
        return
    known = signature.keywords | {"training", "mask"} | set(layer._call_context_args)
    unknown = [k for k in kwargs if k not in known]
    if unknown:
        from hornbeam.core.errors import unknown_arguments

        raise unknown_arguments(f"The call of layer {layer.name!r} ({type(layer).__name__})", unknown, sorted(known))


def _convert(layer: Any, value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        if (
            layer.autocast
            and value.is_floating_point()
            and value.dtype is not layer._compute
            and not isinstance(value, torch.nn.Parameter)
        ):
            return keep_mask(value.to(layer._compute), value)
        return value
    if isinstance(value, (np.ndarray, np.generic)) or (hasattr(value, "__array__") and not isinstance(value, (str, bytes))):
        array = np.asarray(value)
        if array.dtype.kind not in "fiubc":
            raise TypeError(
                f"Layer {layer.name!r} ({type(layer).__name__}) was given a NumPy array of dtype {array.dtype}, which is no "
                f"number. Turn text into integers first, for example with a TextVectorization or StringLookup layer."
            )
        shareable = array.flags.writeable and array.dtype.isnative and _strides_ok(array)
        tensor = torch.from_numpy(array if shareable else np.array(array, dtype=array.dtype.newbyteorder("=")))
        return tensor.to(layer._compute) if layer.autocast and tensor.is_floating_point() else tensor
    return value


def _strides_ok(array: np.ndarray) -> bool:
    return all(s >= 0 for s in array.strides)


def keep_mask(value: Any, source: Any) -> Any:
    """Hands the mask of `source` to `value`, where there is one."""
    mask = getattr(source, "_keras_mask", None)
    if mask is not None:
        value._keras_mask = mask
    return value


def masks_of(nest: Any) -> Any:
    """Returns the masks of a nest of tensors in the same nest, or None where no tensor has one."""
    if isinstance(nest, (torch.Tensor, symbolic.Symbol)):
        return getattr(nest, "_keras_mask", None)
    if all(getattr(v, "_keras_mask", None) is None for v in tree.leaves(nest)):
        return None
    return tree.map_leaves(lambda v: getattr(v, "_keras_mask", None), nest)


# -- building


def shape_of(value: Any) -> Any:
    """Returns the shape of a tensor, or a nest of shapes."""
    if hasattr(value, "shape"):
        return tuple(value.shape)
    return tree.map_leaves(lambda v: tuple(v.shape) if hasattr(v, "shape") else None, value)


def build_from_inputs(layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Builds a layer for the shapes of its arguments."""
    if layer._builds_itself and args:
        layer._build_for(args[0])
        return
    if layer.input_spec is not None and args:
        check_inputs(layer.input_spec, args[0], layer)
    signature = layer._signature
    given = {signature.first: args[0]} if args and signature.first else {}
    if signature.open:
        given = {f"input_{i}": a for i, a in enumerate(args)}
    given.update(
        {k: v for k, v in kwargs.items() if k in signature.names and k not in signature.masks.values() and k != "training"}
    )
    named = [kwargs.get(n) for n in signature.names[1:]]
    further = itertools.takewhile(lambda v: v is not None and _has_tensor(v), named)
    layer.__dict__["_build_specs"] = tuple(tree.map_leaves(_open_spec, a) for a in (*args, *further))
    shapes = {k: shape_of(v) for k, v in given.items() if v is not None and _has_tensor(v)}
    if getattr(type(layer).build, "_by_running", False):
        layer._mark_built(tuple(shapes.values())[:1])
        return
    if not shapes and args and not isinstance(args[0], (list, tuple, dict)):
        raise TypeError(
            f"Layer {layer.name!r} ({type(layer).__name__}) is called on a tensor or an array. Received: {describe(args[0])}"
        )
    wanted = argument_names(type(layer).build)
    by_name = {f"{k}_shape": v for k, v in shapes.items()}
    if len(wanted) > 1 or (wanted and wanted[0] in by_name):
        known = {w: by_name[w] for w in wanted if w in by_name}
        if known:
            layer.build(**known)
            return
    layer.build(*tuple(shapes.values())[:1])


def _open_spec(value: Any) -> Any:
    """The Spec of an argument, with the batch axis free."""
    if isinstance(value, symbolic.Symbol):
        return value.spec
    if not isinstance(value, torch.Tensor):
        return value
    return Spec((None, *value.shape[1:]) if value.dim() else (), dtypes.standardize_dtype(value.dtype))


def _has_tensor(value: Any) -> bool:
    return any(hasattr(v, "shape") for v in tree.leaves(value))


# -- recording


def _record(layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    signature: Signature = layer._signature
    node = Node("module", layer, layer.name, source=user_source(), implicit=context.implicit)
    kwargs = {k: v for k, v in kwargs.items() if not (k in ("training", "mask") and v is None)}
    passed: list[str] = []
    for name, mask in signature.masks.items():
        value = args[0] if name == signature.first and args else kwargs.get(name)
        if kwargs.get(mask) is None and value is not None:
            found = masks_of(value)
            if found is not None:
                kwargs[mask] = found
                passed.append(mask)
    node.args, node.kwargs, node.passed = symbolic.to_refs(args), symbolic.to_refs(kwargs), tuple(passed)
    try:
        if layer.input_spec is not None and args:
            check_inputs(layer.input_spec, args[0], layer)
        with setting(names=context.names):
            if not layer.built:
                build_from_inputs(layer, args, kwargs)
            node.outputs, node.structure = _outputs(layer, node, args, kwargs)
    except Exception as error:
        errors.explain(error, node)
        raise
    result = symbolic.emit(node)
    layer.__dict__["_inbound_nodes"].append(node)
    with setting(implicit=True):
        set_masks(layer, args[0] if args else None, result, kwargs)
    return result


def _outputs(layer: Any, node: Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if layer._own_output_spec:
        return output_specs(layer.compute_output_spec(*args, **kwargs))
    if layer._own_output_shape and args:
        return _from_output_shape(layer, args, kwargs)
    return infer(lambda *a, **k: symbolic.look_at(layer, a, k), node.args, node.kwargs)


def _from_output_shape(layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Specs by the layer's own `compute_output_shape`, asked for the shape with Nones and for each stand-in shape."""
    wanted = argument_names(type(layer).compute_output_shape)
    given = {layer._signature.first: args[0], **{k: v for k, v in kwargs.items() if k in layer._signature.names}}
    symbols = symbolic.symbols_in((args, kwargs))
    runs = max(len(s.spec.samples) for s in symbols)
    odd = any(s.spec.batches is not None for s in symbols)

    def ask(shape: Any) -> Any:
        shapes = {
            f"{k}_shape": tree.map_leaves(lambda v: shape(v) if hasattr(v, "shape") else None, v)
            for k, v in given.items()
            if v is not None and _has_tensor(v)
        }
        if len(wanted) > 1 and any(w in shapes for w in wanted[1:]):
            return layer.compute_output_shape(**{w: shapes[w] for w in wanted if w in shapes})
        return layer.compute_output_shape(next(iter(shapes.values())))

    def sample(i: int) -> Any:
        return ask(lambda v: _open_batch(v.spec, i) if isinstance(v, symbolic.Symbol) else tuple(v.shape))

    def batch(size: int) -> Any:
        return ask(lambda v: v.spec.concrete(batch=size) if isinstance(v, symbolic.Symbol) else tuple(v.shape))

    general = ask(lambda v: tuple(v.shape))
    try:
        samples = [sample(i) for i in range(runs)] if runs > 1 or odd else []
        batches = [batch(2), batch(3)] if odd else []
    except ValueError:  # sizes taken for unknown axes do not fit together; those of the data may
        samples = batches = []
    specs: list[Spec] = []

    def walk(shape: Any, concrete: list[Any]) -> Any:
        if _is_shape(shape):
            known, given = tuple(shape), concrete[: len(samples)]
            sizes = tuple(tuple(0 if d is None else d for d in c) for c in given) if given else None
            specs.append(Spec(known, layer._output_dtype(args[0]), sizes, tuple(map(tuple, concrete[len(samples) :])) or None))
            return Out(len(specs) - 1)
        if isinstance(shape, dict):
            return {k: walk(v, [c[k] for c in concrete]) for k, v in shape.items()}
        return type(shape)(walk(v, [c[i] for c in concrete]) for i, v in enumerate(shape))

    return specs, walk(general, [*samples, *batches]) if specs is not None else None


def _open_batch(spec: Spec, i: int) -> tuple[Any, ...]:
    sizes = spec.samples[min(i, len(spec.samples) - 1)]
    return tuple(
        None if d is None and j == 0 and size == 0 else size for j, (d, size) in enumerate(zip(spec.shape, sizes, strict=True))
    )


def _is_shape(value: Any) -> bool:
    return isinstance(value, (tuple, list, torch.Size)) and all(d is None or isinstance(d, int) for d in value)


# -- after the call


def finish(layer: Any, first: Any, result: Any, kwargs: dict[str, Any]) -> None:
    """Adds the activity penalty, per sample, and hands masks on."""
    if layer.activity_regularizer is not None and not context.scratch:
        for value in tree.leaves(result):
            if isinstance(value, torch.Tensor):
                penalty = layer.activity_regularizer(value)
                layer.add_loss(penalty / max(value.shape[0], 1) if value.dim() else penalty)
    set_masks(layer, first, result, kwargs)


def check_nothing(layer: Any) -> None:
    """Raises where the outermost layer returned None, and not for the sake of a loss or a metric."""
    title = f"{layer.name!r} ({type(layer).__name__})"
    context.nothing = (context.root, title)
    if context.depth == 0 and not any(getattr(m, "_losses", ()) or getattr(m, "_metrics", ()) for m in layer.modules()):
        error = TypeError(f"Layer {title} returned None. Is a `return` missing in its `call`?")
        errors.trim(error)
        raise error


def set_masks(layer: Any, first: Any, result: Any, kwargs: dict[str, Any]) -> None:
    """Sets `_keras_mask` on what a layer returned, where it makes a mask or lets one through."""
    name = layer._signature.first_mask
    given = kwargs.get(name) if name else None
    if given is None:
        given = masks_of(first)
    if given is None and not layer._makes_mask:
        return
    if not (layer.supports_masking or layer._makes_mask or layer._carries_masks):
        return
    produced = layer.compute_mask(first, given)
    flat = tree.leaves(result)
    if len(flat) == 1:
        produced = [produced]
    elif isinstance(produced, (list, tuple)):
        produced = tree.leaves(produced)
    else:
        produced = [produced] * len(flat)
    for value, mask in zip(flat, produced, strict=False):
        if (
            mask is not None
            and isinstance(value, (torch.Tensor, symbolic.SymbolicTensor))
            and getattr(value, "_keras_mask", None) is None
        ):
            value._keras_mask = mask


def note(layer: Any, error: Exception, args: Any) -> Exception:
    """Adds to an error in which layer it arose and on what; the innermost module, with its path in the outermost one, leads.

    Returns:
        the error, or the one to be raised in its place.
    """
    if torch.compiler.is_compiling():
        return error
    error = layer._explain(error, args)
    root = layer if context.root is None or context.depth == 1 else context.root
    part, given = errors.innermost(error, layer)
    if part is layer or hasattr(part, "_inbound_nodes"):
        part, given = layer, args
    known = errors.title("module", errors.path_of(root, part) if part is not root else layer.name, part)
    errors.lead(error, known, errors.shapes_of(given), hint(part, [errors.shape_of(v) for v in tree.leaves(given)], str(error)))
    shown = ", ".join(f"shape {errors.shape_of(v)}" if context.scratch and hasattr(v, "shape") else describe(v) for v in
                      tree.leaves(args)[:4])  # fmt: skip
    error.add_note(f"In layer {layer.name!r} ({type(layer).__name__}), called on {shown}.")
    if part is not layer and not hasattr(part, "_inbound_nodes"):
        _note_path(error, known)
    if context.depth == 1:
        errors.trim(error)
    return error


def _note_path(error: Exception, known: str) -> None:
    if "_placed" not in error.__dict__:
        error.__dict__["_placed"] = True
        error.add_note(f"The call that failed is that of {known[0].lower()}{known[1:]}.")


def set_foreign(layer: Any, training: bool) -> list[Any]:
    """Puts the foreign modules right below a layer into a mode; returns what `restore` needs."""
    changed: list[Any] = []
    for child in layer._modules.values():
        if child is not None and not hasattr(child, "_inbound_nodes"):
            for module in child.modules():
                if module.training is not training and not hasattr(module, "_inbound_nodes"):
                    changed.append(module)
                    module.training = training
    return changed


def kept_dtype(layer: Any, inputs: Any) -> str:
    """Returns the output dtype of a layer that moves or adds up its inputs' values, integers as integers."""
    kinds = [dtypes.to_torch(v.dtype) for v in tree.leaves(inputs) if hasattr(v, "dtype")]
    kinds = [layer._compute if k.is_floating_point and layer.autocast else k for k in kinds]
    return dtypes.standardize_dtype(functools.reduce(torch.promote_types, kinds))


def in_compute_dtype(layer: Any, nest: Any) -> Any:
    """Returns a nest of tensors, those of a floating type in the layer's compute dtype."""
    compute = layer._compute

    def cast(value: Any) -> Any:
        differs = isinstance(value, torch.Tensor) and value.dtype is not compute and value.is_floating_point()
        return keep_mask(value.to(compute), value) if differs else value

    return tree.map_leaves(cast, nest)
