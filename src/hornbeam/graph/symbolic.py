"""Symbolic tensors: torch functions, methods, operators and modules called on them become nodes of a graph."""

from __future__ import annotations

import builtins
import sys
import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from hornbeam.graph import by_value, in_place, masks, tree
from hornbeam.graph.context import context, setting
from hornbeam.graph.errors import boundary, explain, trim
from hornbeam.graph.infer import infer
from hornbeam.graph.node import Node, Out, Ref, Spec, user_source


def _no_value(symbol: SymbolicTensor, what: str) -> TypeError:
    return TypeError(
        f"{what} needs a value, and the symbolic tensor {symbol.name!r} of shape {symbol.shape} has none yet: it stands for what "
        f"a model will compute. Use torch functions on it, such as torch.where for a choice, or put the code into a "
        f"Layer's `call`."
    )


class Symbol:
    """A value of a graph that is being built: one output of one node."""

    __slots__ = ("__weakref__", "_base", "_keras_mask", "_name", "_ref", "made_as")

    def __init__(self, ref: Ref, name: str | None = None) -> None:
        self._ref = self.made_as = ref  # the two differ once an in-place call has changed what the symbol stands for
        self._name, self._keras_mask, self._base = name, None, None
        watch_modules()

    @property
    def ref(self) -> Ref:
        """What the symbol stands for now; a view follows in-place changes of the tensor behind it."""
        if self._base is not None:
            in_place.follow(record_function, self)
        return self._ref

    @property
    def spec(self) -> Spec:
        return self.ref.spec

    @property
    def node(self) -> Node:
        """The call that this value comes from."""
        return self.ref.node

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        try:
            return record_function(func, args, kwargs or {})
        except Exception as error:
            trim(error)
            raise

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        function = _UFUNCS.get(ufunc.__name__) or getattr(torch, ufunc.__name__, None)
        if method != "__call__" or function is None or kwargs:
            return NotImplemented
        return record_function(function, tuple(_from_numpy(v) for v in inputs), {})

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or not hasattr(torch.Tensor, name):
            raise AttributeError(f"A symbolic tensor has no attribute {name!r}.")
        found = getattr(torch.Tensor, name)
        if callable(found):
            return boundary(lambda *args, **kwargs: record_function(found, (self, *args), kwargs))
        return record_function(found.__get__, (self,), {}, name=name)

    @boundary
    def __bool__(self) -> bool:
        raise _no_value(self, "bool(x), an `if` or a `while`")  # type: ignore[arg-type]

    @boundary
    def __float__(self) -> float:
        raise _no_value(self, "float(x)")  # type: ignore[arg-type]

    @boundary
    def __int__(self) -> int:
        raise _no_value(self, "int(x)")  # type: ignore[arg-type]

    __complex__ = __int__

    @boundary
    def __index__(self) -> int:
        raise _no_value(self, "Using x as an index or a size")  # type: ignore[arg-type]

    def __hash__(self) -> int:
        return id(self)

    def __deepcopy__(self, memo: Any) -> Any:
        return self

    def __copy__(self) -> Any:
        return self


def _operator(name: str) -> Callable[..., Any]:
    function = getattr(torch.Tensor, name)

    def method(self: Symbol, *args: Any) -> Any:
        try:
            return record_function(function, (self, *args), {})
        except Exception as error:
            trim(error)
            raise

    method.__name__ = name
    return method


_OPERATORS = (
    "add radd sub rsub mul rmul truediv rtruediv floordiv rfloordiv mod rmod pow rpow matmul rmatmul neg pos abs and rand or ror "
    "xor rxor invert eq ne lt le gt ge lshift rshift rlshift rrshift getitem "
    "iadd isub imul itruediv ifloordiv imod ipow rdiv iand ior ixor"
).split()
for _name in _OPERATORS:
    if hasattr(torch.Tensor, f"__{_name}__"):
        setattr(Symbol, f"__{_name}__", _operator(f"__{_name}__"))


class SymbolicTensor(Symbol):
    """A tensor that a model will compute: shape and dtype are known, values are not. Public as `KerasTensor`.

    Every torch function, tensor method, operator and slice works on it, as does any `torch.nn.Module`.

    Args:
        shape: tuple of sizes, None where an axis varies.
        dtype: dtype name.
        name: a name; one is made up where None is given.

    >>> x = SymbolicTensor((None, 3))
    >>> torch.relu(x)[:, :2].shape
    (None, 2)
    """

    __slots__ = ()

    def __init__(
        self, shape: Any = (), dtype: str = "float32", sparse: bool = False, ragged: bool = False, record_history: bool = True,
        name: str | None = None, ref: Ref | None = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        if ref is None:
            node = Node("input", None, name or "keras_tensor", source=user_source())
            node.outputs, node.structure = [Spec(tuple(shape), str(dtype).removeprefix("torch."))], Out(0)
            ref = Ref(node, 0)
        super().__init__(ref, name)

    @property
    def shape(self) -> tuple[int | None, ...]:
        """The sizes, None where an axis varies."""
        return self.ref.spec.shape

    @property
    def dtype(self) -> str:
        """The dtype's name."""
        return self.ref.spec.dtype

    @property
    def name(self) -> str:
        """The tensor's name."""
        return self._name or self.ref.node.name

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    sparse = ragged = False
    requires_grad = False
    is_sparse = is_quantized = is_nested = False

    @property
    def device(self) -> torch.device:
        """The default device; a symbolic tensor lies nowhere."""
        return torch.get_default_device()

    @property
    def _keras_history(self) -> tuple[Any, int, int]:
        return self.ref.node.target, 0, self.ref.index

    def dim(self) -> int:
        """Returns the number of axes."""
        return len(self.shape)

    def is_floating_point(self) -> bool:
        """Returns whether the dtype is a floating point type."""
        return "float" in self.dtype

    def is_complex(self) -> bool:
        """Returns whether the dtype is a complex type."""
        return self.dtype.startswith("complex")

    def size(self, dim: int | None = None) -> Any:
        """Returns the size of an axis, a symbolic integer where it varies; without argument, all sizes."""
        if dim is None:
            return tuple(self.size(i) for i in range(len(self.shape)))
        known = self.shape[dim]
        return known if known is not None else record_function(torch.Tensor.size, (self, dim), {})

    @boundary
    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("A symbolic tensor without axes has no len().")
        if self.shape[0] is None:
            raise TypeError(
                f"len() of the symbolic tensor {self.name!r} of shape {self.shape}: its first axis varies, so it has no value "
                f"yet. x.size(0) gives a symbolic size that torch functions take."
            )
        return self.shape[0]

    @boundary
    def __iter__(self) -> Any:
        if not self.shape or self.shape[0] is None:
            raise TypeError(
                f"Cannot iterate over the symbolic tensor {self.name!r} of shape {self.shape}: its first axis varies. "
                f"Iterate over an axis of known size (x.unbind(1)), or use a torch function on the whole tensor."
            )
        return builtins.iter([self.__getitem__(i) for i in range(self.shape[0])])

    def __setitem__(self, index: Any, value: Any) -> None:
        record_function(torch.Tensor.__setitem__, (self, index, value), {})

    @boundary
    def __contains__(self, value: Any) -> bool:
        raise _no_value(self, "`in`")

    @boundary
    def numpy(self) -> Any:
        """Raises: a symbolic tensor has no value."""
        raise _no_value(self, "x.numpy()")

    item = tolist = __array__ = numpy

    def __repr__(self) -> str:
        return f"<KerasTensor shape={self.shape}, dtype={self.dtype}, sparse=False, ragged=False, name={self.name}>"


class SymbolicSize(Symbol):
    """A size that is not known yet, such as `x.size(0)`: arithmetic and torch functions that take sizes accept it."""

    __slots__ = ()

    @property
    def name(self) -> str:
        return self._name or self.ref.node.name

    shape: Any = ()

    @property
    def dtype(self) -> str:
        return self.ref.spec.dtype

    def __repr__(self) -> str:
        return f"<symbolic size {self.name}>"

    @boundary
    def __bool__(self) -> bool:
        raise TypeError("The size of an axis that varies has no value yet, so it cannot be compared or tested in Python.")

    @boundary
    def __index__(self) -> int:
        raise TypeError(
            "The size of an axis that varies has no value yet. It works in arithmetic, view, reshape, torch.zeros((n, 3)) and "
            "torch.arange(n), with the sizes as one tuple; for `expand(n, -1)` write `torch.broadcast_to(t, (n, ...))`; for "
            "slices use -1-free forms."
        )

    __int__ = __float__ = __index__


def _size_operator(name: str) -> Callable[..., Any]:
    import operator

    plain = getattr(operator, name.removeprefix("r") if name.startswith("r") and name != "rshift" else name)

    def method(self: SymbolicSize, other: Any = None) -> Any:
        if other is None:
            return record_function(plain, (self,), {})
        pair = (other, self) if name.startswith("r") and name != "rshift" else (self, other)
        return record_function(plain, pair, {})

    return method


for _name in "add radd sub rsub mul rmul truediv rtruediv floordiv rfloordiv mod rmod pow neg".split():
    setattr(SymbolicSize, f"__{_name}__", _size_operator(_name))

_UFUNCS: dict[str, Any] = {
    "absolute": torch.abs, "add": torch.add, "subtract": torch.sub, "multiply": torch.mul, "divide": torch.div,
    "true_divide": torch.div, "power": torch.pow, "negative": torch.neg, "rint": torch.round, "equal": torch.eq,
    "invert": torch.bitwise_not, "arcsin": torch.asin, "arccos": torch.acos, "arctan": torch.atan, "arctan2": torch.atan2,
    "arcsinh": torch.asinh, "arccosh": torch.acosh, "arctanh": torch.atanh,
}  # fmt: skip


def _from_numpy(value: Any) -> Any:
    return torch.as_tensor(value) if type(value).__module__ == "numpy" else value


def symbols_in(nest: Any) -> list[Symbol]:
    """Returns the symbolic values in a nest, in order."""
    return [v for v in tree.leaves(nest) if isinstance(v, Symbol)]


def to_refs(nest: Any) -> Any:
    """Returns the nest with every symbolic value replaced by its Ref."""
    return tree.map_leaves(lambda v: v.ref if isinstance(v, Symbol) else v, nest)


def record_function(
    function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], name: str | None = None, carry: bool | None = None
) -> Any:
    """Records the call of a torch function (or any pure function) on symbolic values and returns what stands for its result.

    Args:
        function, args, kwargs: the call.
        name: a name for it.
        carry: whether masks of the arguments go on to the result; where users write the call, unless given.
    """
    function = torch.Tensor.pow if function is torch.Tensor.__pow__ else function  # the one operator that has no name of its own
    kwargs = {k: v for k, v in kwargs.items() if k != "_stacklevel"}  # only says which line a warning of torch's shows
    rewritten = in_place.rewrite(record_function, function, args, kwargs)
    if rewritten is not None:
        return rewritten
    _check_captured(args, kwargs, function)
    _check_own_backward(function)
    by_value.check_pieces(function, args, kwargs)
    name = name or function.__name__.strip("_")
    node = Node("function", function, name, to_refs(args), to_refs(kwargs), user_source(), context.implicit)
    result = record(node, function)
    by_value.free_axes(node, result)
    in_place.remember_view(result, name, args)
    if masks.is_elementwise(function) and (not context.implicit if carry is None else carry):
        carried = [getattr(v, "_keras_mask", None) for v in symbols_in((args, kwargs))]
        if any(m is not None for m in carried):
            with setting(implicit=True):
                _carry(result, masks.combine(carried))
    return result


def _check_own_backward(function: Any) -> None:
    """Raises inside the `forward` of a `torch.autograd.Function`, whose own backward a recording would lose."""
    frame: Any = None if torch.is_grad_enabled() or context.scratch else sys._getframe(2)
    while frame is not None:
        first = frame.f_locals.get(frame.f_code.co_varnames[0]) if frame.f_code.co_argcount else None
        if isinstance(first, torch.autograd.function.FunctionCtx):
            raise TypeError(
                f"`{function.__name__}` was called on a symbolic tensor inside a torch.autograd.Function: the model would lose "
                f"its own backward. Call the Function in a Layer's `call`, or wrap it: Lambda(MyFunction.apply)."
            )
        frame = frame.f_back


def _carry(result: Any, mask: Any) -> None:
    if isinstance(result, SymbolicTensor) and len(result.shape) >= len(mask.shape):
        result._keras_mask = mask


def record(node: Node, call: Callable[..., Any]) -> Any:
    """Infers what a node's call returns, and returns symbolic values for it."""
    try:
        node.outputs, node.structure = infer(call, node.args, node.kwargs)
    except Exception as error:
        explain(error, node)
        raise
    return emit(node)


def emit(node: Node) -> Any:
    """Returns the nest of symbolic values that a node with known outputs stands for."""
    return tree.map_leaves(lambda v: symbol_for(Ref(node, v.index)) if type(v) is Out else v, node.structure)


def symbol_for(ref: Ref) -> Symbol:
    """Returns a new symbolic value for one output of a node."""
    return SymbolicSize(ref) if ref.spec.is_number else SymbolicTensor(ref=ref)


def _check_captured(args: Any, kwargs: Any, function: Any) -> None:
    for value in tree.leaves((args, kwargs)):
        if isinstance(value, torch.Tensor) and value.grad_fn is not None:
            raise ValueError(
                f"`{function.__name__}` was called on a symbolic tensor and on a tensor that was computed from parameters "
                f"(shape {tuple(value.shape)}, {value.grad_fn.name()}): the model would keep today's value, and it would go "
                f"stale. Compute it inside the model: pass the parameter itself into torch functions on the symbolic tensor, "
                f"use F.linear(x, weight) for x @ weight.T, or write a Layer."
            )


# -- modules called on symbolic tensors

_plain_call = nn.Module.__call__
_watch = threading.Lock()
_watching: list[int] = [0]
_module_recorder: list[Any] = [None]


def watch_modules() -> None:
    """Lets plain `torch.nn.Module`s record when they are called on a symbolic tensor.

    `nn.Module.__call__` is replaced only from the moment a symbolic value is made until a module is next called on real
    tensors by the same thread, so running models pay nothing for it.
    """
    if not _watching[0]:
        _watching[0] = threading.get_ident()
        nn.Module.__call__ = _watched_call  # type: ignore[method-assign]


def unwatch_modules() -> None:
    """Puts torch's own `nn.Module.__call__` back, for what traces it; the next symbolic value brings the watcher again."""
    nn.Module.__call__ = _plain_call  # type: ignore[method-assign]
    _watching[0] = 0


def _watched_call(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
    if _takes_symbols(args) or (kwargs and symbols_in(kwargs)):
        try:
            return record_module(self, args, kwargs)
        except Exception as error:
            trim(error)
            raise
    if not context.scratch and _watching[0] == threading.get_ident():
        nn.Module.__call__ = _plain_call  # type: ignore[method-assign]
        _watching[0] = 0
    return _plain_call(self, *args, **kwargs)


def _takes_symbols(args: tuple[Any, ...]) -> bool:
    for value in args:  # noqa: SIM110
        if isinstance(value, Symbol) or (type(value) in (list, tuple, dict) and symbols_in(value)):
            return True
    return False


def record_module(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Records the call of a plain module on symbolic values."""
    _check_captured(args, kwargs, type(module))
    node = Node("module", module, type(module).__name__, to_refs(args), to_refs(kwargs), user_source(), context.implicit)
    result = record(node, lambda *a, **k: look_at(module, a, k))
    if getattr(module, "inplace", False) and args and isinstance(args[0], Symbol) and isinstance(result, Symbol):
        return in_place.stand_for(args[0], result)
    return result


def look_at(module: nn.Module, args: Any, kwargs: Any) -> Any:
    """Runs a module on stand-ins and leaves its buffers as they were."""
    held = [(m, dict(m._buffers)) for m in module.modules() if m._buffers and not hasattr(m, "built")]
    for m, buffers in held:
        m.__dict__["_buffers"] = {k: None if b is None else b.clone() for k, b in buffers.items()}
    try:
        return module(*args, **kwargs)
    finally:
        for m, buffers in held:
            m.__dict__["_buffers"] = buffers
