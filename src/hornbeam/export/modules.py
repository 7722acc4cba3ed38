"""The constructor arguments of plain torch modules, read back from their attributes and checked."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from hornbeam.export.own import CannotWrite

_SPECIAL: dict[type, Callable[[Any], dict[str, Any]]] = {
    nn.MultiheadAttention: lambda m: {
        "bias": m.in_proj_bias is not None, "add_bias_kv": m.bias_k is not None,
        "kdim": None if m._qkv_same_embed_dim else m.kdim, "vdim": None if m._qkv_same_embed_dim else m.vdim,
    },
    nn.TransformerEncoderLayer: lambda m: {
        "d_model": m.self_attn.embed_dim, "nhead": m.self_attn.num_heads, "dim_feedforward": m.linear1.out_features,
        "dropout": m.dropout.p, "activation": m.activation, "layer_norm_eps": m.norm1.eps, "batch_first": m.self_attn.batch_first,
        "bias": m.linear1.bias is not None,
    },
}  # fmt: skip
_WHOLE = ("normalized_shape", "unflattened_size")
_CONTAINERS = (nn.Sequential, nn.ModuleList)


def module_arguments(module: nn.Module) -> tuple[list[Any], dict[str, Any]]:
    """Returns positional and keyword arguments that make an equal module.

    Raises:
        CannotWrite: the attributes do not tell.

    >>> module_arguments(nn.Linear(3, 2, bias=False))
    ([3, 2], {'bias': False})
    """
    cls = type(module)
    if cls in _CONTAINERS:
        children = list(module.children())
        if [k for k, _ in module.named_children()] != [str(i) for i in range(len(children))]:
            raise CannotWrite(f"a {cls.__name__} whose modules have names of their own")
        return (children, {}) if cls is nn.Sequential else ([children], {})
    for short in (True, False):  # sizes that are alike along all axes as one number, else as they are
        args, kwargs = _read(module, short)
        try:
            with torch.device("meta"):
                made = cls(*args, **kwargs)
        except Exception:
            continue
        if repr(made) == repr(module) and _shapes(made) == _shapes(module):
            return args, kwargs
    raise _unknown(module)


def _unknown(module: nn.Module) -> CannotWrite:
    return CannotWrite(f"the arguments that made a {type(module).__name__} are not known, and its attributes do not tell them")


def _shapes(module: nn.Module) -> dict[str, Any]:
    return {k: tuple(v.shape) for k, v in module.state_dict().items()}


def _read(module: nn.Module, short: bool) -> tuple[list[Any], dict[str, Any]]:
    special = _SPECIAL.get(type(module), lambda m: {})(module)
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    parameters = _signature(type(module))
    for name, p in parameters.items():
        if p.kind in (p.VAR_KEYWORD, p.VAR_POSITIONAL) or name in ("device", "dtype"):
            continue
        if name in special:
            value = special[name]
        elif name in ("bias", "affine", "elementwise_affine") and not isinstance(getattr(module, name, None), bool):
            value = getattr(module, name if name == "bias" else "weight", None) is not None
        elif hasattr(module, name):
            value = getattr(module, name)
        elif p.default is p.empty:
            raise _unknown(module)
        else:
            continue
        if short and isinstance(value, tuple) and (len(value) == 1 or (len(set(value)) == 1 and name not in _WHOLE)):
            value = value[0]
        if p.default is p.empty and not kwargs:
            args.append(value)
        elif not _equal(p.default, value):
            kwargs[name] = value
    return args, kwargs


def _signature(cls: type) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for base in cls.__mro__:
        init = base.__dict__.get("__init__")
        if init is None:
            continue
        parameters = dict(list(inspect.signature(init).parameters.items())[1:])
        found.update({k: p for k, p in parameters.items() if k not in found})
        if not any(p.kind in (p.VAR_KEYWORD, p.VAR_POSITIONAL) for p in parameters.values()):
            break
    if issubclass(cls, nn.RNNBase):  # its subclasses take what they do not list
        found.pop("mode", None)
    return found


def _equal(default: Any, value: Any) -> bool:
    if isinstance(value, (int, float, str, bool, type(None))):
        return type(default) is type(value) and default == value
    return isinstance(value, tuple) and (default == value or (isinstance(default, int) and set(value) == {default}))
