"""In-place calls on symbolic tensors: recorded out of place, and the symbol then stands for the new value."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

Record = Callable[[Any, tuple[Any, ...], dict[str, Any]], Any]

_AUGMENTED = {f"__i{n}__": f"__{n}__" for n in "add sub mul truediv floordiv mod pow and or xor".split()}
_VIEWS = set("view reshape transpose permute t squeeze unsqueeze flatten narrow select diagonal expand view_as unfold movedim "
             "swapaxes swapdims unbind split chunk T mT H mH data detach real imag".split())  # fmt: skip

_RESHAPING = set("unsqueeze squeeze transpose t swapaxes swapdims as_strided".split())


def set_item(tensor: torch.Tensor, index: Any, value: Any) -> torch.Tensor:
    """Returns a copy of the tensor in which `tensor[index]` is `value`."""
    made = tensor.clone()
    made[index] = value
    return made


def in_copy(tensor: torch.Tensor, method: str, *args: Any, **kwargs: Any) -> torch.Tensor:
    """Returns a copy of the tensor after an in-place method that has no other spelling ran on it."""
    made = tensor.clone()
    getattr(made, method)(*args, **kwargs)
    return made


def rewrite(record: Record, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Records, by `record`, an in-place call out of place; returns None where the call is not in place."""
    name = function.__name__
    if kwargs.get("out") is not None:
        return _with_out(record, function, args, kwargs)
    if name == "__setitem__":
        return _rebind(record, _target(args[0], name), set_item, args, kwargs)
    if name in _AUGMENTED:
        return _rebind(record, _target(args[0], name), getattr(torch.Tensor, _AUGMENTED[name]), args, kwargs)
    if kwargs.get("inplace") is True:
        return _rebind(record, _target(args[0], name), function, args, {**kwargs, "inplace": False})
    if not name.endswith("_") or name.startswith("__") or name in ("requires_grad_", "retain_grad"):
        return None
    target = _target(args[0], name)
    plain = name.removesuffix("_")
    if hasattr(torch.Tensor, plain):
        return _rebind(record, target, getattr(torch.Tensor, plain), args, kwargs)
    for home in (torch, torch.nn.functional):
        if hasattr(home, plain) and not hasattr(torch.Tensor, name):
            return _rebind(record, target, getattr(home, plain), args, kwargs)
    return _rebind(record, target, in_copy, (args[0], name, *args[1:]), kwargs)


def _target(value: Any, name: str) -> Any:
    if isinstance(value, torch.Tensor):
        raise TypeError(
            f"`{name}` would write a symbolic value into a real tensor of shape {tuple(value.shape)}. "
            f"Build the result out of place, with torch.where, torch.cat or torch.index_put."
        )
    if value._base is not None and value._base[1] is None:
        raise TypeError(
            f"`{name}` on a view of the symbolic tensor {value._base[0].name!r}: torch would change the tensor behind the view, "
            f"which a graph cannot follow. Change that tensor itself (x[index] = value), or work on a copy (x.clone())."
        )
    return value


def _rebind(record: Record, target: Any, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    made = record(function, args, kwargs)
    mask = target._keras_mask
    if made.shape != target.shape and function.__name__ not in _RESHAPING:
        raise ValueError(
            f"In-place `{function.__name__}` would change the shape of {target.name!r} from {target.shape} to {made.shape}."
        )
    if made.dtype != target.dtype:
        made = made.to(getattr(torch, target.dtype))
    target._ref, target._keras_mask = made.ref, made._keras_mask if made._keras_mask is not None else mask
    if target._base is not None:
        base, index, _ = target._base
        _rebind(record, base, set_item, (base, index, made), {})
        target._base = (base, index, base.ref)
    return target


def stand_for(target: Any, made: Any) -> Any:
    """Lets a symbol stand for what a module made of it in place (`nn.ReLU(inplace=True)`)."""
    if target._base is not None:
        raise TypeError(
            f"A module works in place on a view of {target._base[0].name!r}, which a graph cannot follow. Use inplace=False."
        )
    target._ref, target._keras_mask = made.ref, made._keras_mask if made._keras_mask is not None else target._keras_mask
    return target


def follow(record: Record, view: Any) -> None:
    """Takes a view anew where the tensor behind it was changed in place since."""
    base, index, seen = view._base
    if base.ref is seen:
        return
    if index is None:
        raise TypeError(
            f"A view of the symbolic tensor {base.name!r} is used after that tensor was changed in place: torch would show the "
            f"change in the view, which a graph cannot follow. Take the view after the change, or change a copy (x.clone())."
        )
    view._base = None
    view._ref = record(torch.Tensor.__getitem__, (base, index), {}).ref
    view._base = (base, index, base.ref)


def _with_out(record: Record, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    out = kwargs["out"]
    made = record(function, args, {k: v for k, v in kwargs.items() if k != "out"})
    targets, values = (out, made) if isinstance(out, (tuple, list)) else ((out,), (made,))
    for target, value in zip(targets, values, strict=True):
        _target(target, function.__name__)._ref = value.ref
    return out


def remember_view(result: Any, name: str, args: tuple[Any, ...]) -> None:
    """Notes that a result, or each of several, shares memory with its source, so that a later in-place call is not lost."""
    if not args or not hasattr(args[0], "ref"):
        return
    index = args[1] if name == "getitem" else None
    if name in _VIEWS or (name == "getitem" and _is_basic(index)):
        for view in result if isinstance(result, (tuple, list)) else (result,):
            if hasattr(view, "_base"):
                view._base = (args[0], index, args[0].ref)


def _is_basic(index: Any) -> bool:
    parts = index if isinstance(index, tuple) else (index,)
    return all(p is None or p is Ellipsis or isinstance(p, (int, slice)) for p in parts)
