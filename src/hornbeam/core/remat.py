"""Gradient checkpointing: activations are computed again in the backward pass instead of being kept, to save memory."""

from __future__ import annotations

import functools
import math
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.utils import checkpoint as torch_checkpoint

from hornbeam.core.errors import describe, did_you_mean
from hornbeam.core.random import seed_generators
from hornbeam.core.registry import public
from hornbeam.graph import symbolic, tree
from hornbeam.graph.context import context

_MODES = ("full", "activations", "larger_than", "list_of_layers", None)
_KEPT = frozenset(("mm", "addmm", "bmm", "baddbmm", "convolution", "mkldnn_rnn_layer"))


class _Active(threading.local):
    scope: RematScope | None = None


_active = _Active()


@public("keras.RematScope")
class RematScope:
    """Layers that are made inside compute their activations again in the backward pass instead of keeping them.

    Args:
        mode: "full" for all layers; "activations" for the activation functions of layers that have one; "larger_than" for layers
            with large outputs; "list_of_layers" for layers by name; None for none.
        output_size_threshold: for "larger_than": the number of elements that an output must exceed, the batch axis included.
        layer_names: for "list_of_layers": the names.

    >>> from hornbeam.layers import Dense
    >>> with RematScope("list_of_layers", layer_names=["wide"]):
    ...     wide = Dense(512, activation="gelu", name="wide")
    """

    def __init__(
        self, mode: str | None = "full", output_size_threshold: int = 1024, layer_names: Sequence[str] | None = None
    ) -> None:
        if mode not in _MODES:
            known = [m for m in _MODES if m]
            raise ValueError(
                f"RematScope: `mode` must be one of {', '.join(map(repr, known))} or None.{did_you_mean(mode, known)} "
                f"Received: mode={mode!r}"
            )
        self.mode, self.output_size_threshold, self.layer_names = mode, output_size_threshold, list(layer_names or ())
        self._outer: RematScope | None = None

    def __enter__(self) -> RematScope:
        self._outer, _active.scope = _active.scope, self
        return self

    def __exit__(self, *args: Any) -> None:
        _active.scope = self._outer


def note_scope(layer: Any) -> None:
    """Lets a layer that is being made follow the scope around it."""
    scope = _active.scope
    if scope is None or scope.mode is None or (scope.mode == "list_of_layers" and layer.name not in scope.layer_names):
        return
    layer.__dict__["forward"] = _Forward(layer, scope.mode, scope.output_size_threshold)


class _Forward:
    """The `forward` of a layer made in a RematScope."""

    def __init__(self, layer: Any, mode: str, threshold: int) -> None:
        self.layer, self.mode, self.threshold = layer, mode, threshold

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        layer, forward = self.layer, type(self.layer).forward.__get__(self.layer)
        if self.mode == "larger_than" and not self._is_large(args):
            return forward(*args, **kwargs)
        if self.mode == "activations" and getattr(layer, "activation", None) is None:
            return forward(*args, **kwargs)
        return _checkpoint(forward, layer, args, kwargs, keep_products=self.mode == "activations")

    def _is_large(self, args: Any) -> bool:
        shapes = tree.map_leaves(lambda v: tuple(v.shape) if isinstance(v, torch.Tensor) else v, args)
        made = self.layer.compute_output_shape(*shapes)
        parts = [made] if isinstance(made, tuple) and all(d is None or isinstance(d, int) for d in made) else tree.leaves(made)
        sizes = [math.prod(d or 1 for d in p) if isinstance(p, tuple) else (p or 1) for p in parts]
        return max(sizes, default=0) > self.threshold


def remat(f: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a function that computes the same as `f`, whose inner values are computed again in the backward pass.

    The same bits come out: random draws, moving averages and the like are as in the first pass, for layers and their methods.
    Other functions must draw from torch's default generators.

    Args:
        f: a function, a method, a layer, or any torch module.

    >>> x = torch.ones(3, requires_grad=True)
    >>> remat(lambda x: torch.sin(x).exp())(x).sum().backward()
    >>> x.grad.shape
    torch.Size([3])
    """
    if not callable(f):
        raise TypeError(f"remat takes a function, a layer or a module. Received: {describe(f)}")
    owner = f if isinstance(f, nn.Module) else getattr(f, "__self__", None)

    def checkpointed(*args: Any, **kwargs: Any) -> Any:
        return _checkpoint(f, owner if isinstance(owner, nn.Module) else None, args, kwargs)

    return checkpointed if isinstance(f, nn.Module) else functools.wraps(f)(checkpointed)


def _checkpoint(f: Any, owner: nn.Module | None, args: Any, kwargs: Any, keep_products: bool = False) -> Any:
    if not torch.is_grad_enabled() or context.scratch or torch.compiler.is_exporting() or symbolic.symbols_in((args, kwargs)):
        return f(*args, **kwargs)
    if torch.compiler.is_compiling():
        return torch_checkpoint.checkpoint(f, *args, use_reentrant=False, **kwargs)
    if any(getattr(v, "_keras_mask", None) is not None for v in tree.leaves(args)):  # torch keeps tensors, not what hangs on them
        f, args, kwargs = functools.partial(f, *args, **kwargs), (), {}
    contexts = functools.partial(_contexts, owner, keep_products)
    return torch_checkpoint.checkpoint(f, *args, use_reentrant=False, context_fn=contexts, **kwargs)


def _contexts(owner: nn.Module | None, keep_products: bool) -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
    """Returns the contexts of the first pass and of those that compute it again."""
    first, again = nullcontext(), nullcontext()  # type: ignore[var-annotated]
    if keep_products:
        first, again = torch_checkpoint.create_selective_checkpoint_contexts(_keep_products)
    return first, _Again(owner, again)


def _keep_products(ctx: Any, op: Any, *args: Any, **kwargs: Any) -> Any:
    policy = torch_checkpoint.CheckpointPolicy
    return policy.MUST_SAVE if op.overloadpacket.__name__ in _KEPT else policy.PREFER_RECOMPUTE


class _Again:
    """The context of a pass that is computed again: what stood around the first one, and no trace of it afterwards."""

    def __init__(self, owner: nn.Module | None, inner: AbstractContextManager[Any]) -> None:
        modules = list(owner.modules()) if owner is not None else []
        self.inner = inner
        self.around = {"training": context.training, "names": context.names, "stateless": context.stateless}
        seeds = seed_generators(owner).values() if owner is not None else ()
        self.seeds = [(v._stream, v._stream.get_state()) for v in seeds]
        metrics = [metric for m in modules for metric in m.__dict__.get("_metrics", ())]
        tensors = [b for m in modules for b in m._buffers.values() if b is not None] + [v for x in metrics for v in x.variables]
        self.states = [(t, t.detach().clone()) for t in tensors if not getattr(t, "_lazy", False)]
        self.losses: list[list[Any]] = [m.__dict__["_losses"] for m in modules if "_losses" in m.__dict__]

    def __enter__(self) -> None:
        now = {"training": None, "names": (), "stateless": None, "depth": 0, "root": None, "casts": None}
        self.before = {name: getattr(context, name) for name in now}
        for name, value in {**self.around, "depth": 1, "root": None, "casts": None}.items():
            setattr(context, name, value)
        self.later = [stream.get_state() for stream, _ in self.seeds]
        for stream, state in self.seeds:
            stream.set_state(state)
        self.after = [t.data for t, _ in self.states]
        for tensor, value in self.states:
            tensor.data = value.clone()
        self.counts = [len(losses) for losses in self.losses]
        self.inner.__enter__()

    def __exit__(self, *error: Any) -> None:
        self.inner.__exit__(*error)
        for losses, count in zip(self.losses, self.counts, strict=True):
            del losses[count:]
        for (tensor, _), value in zip(self.states, self.after, strict=True):
            tensor.data = value
        for (stream, _), state in zip(self.seeds, self.later, strict=True):
            stream.set_state(state)
        for name, value in self.before.items():
            setattr(context, name, value)
