"""Shapes and dtypes of a call: the call itself, on an empty batch.

Stand-ins are real CPU tensors whose unknown batch is 0, so a kernel computes nothing yet runs its own checks: 1 to 9 µs an op.
Where the empty batch cannot answer (a reduction over it, a concatenation along it), the call is run on two small batches, or,
where that would be work, on meta tensors.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from hornbeam.graph import tree
from hornbeam.graph.context import context, setting
from hornbeam.graph.errors import origin
from hornbeam.graph.node import UNKNOWN_SIZES, Node, Out, Ref, Spec, filled

_SMALL = 1 << 22
_TORCH = {str(v).removeprefix("torch."): v for v in vars(torch).values() if isinstance(v, torch.dtype)}
_NAMES = {v: k for k, v in _TORCH.items()}
_NAMES.update({
    torch.float16: "float16", torch.float32: "float32", torch.float64: "float64", torch.int16: "int16", torch.int32: "int32",
    torch.int64: "int64", torch.complex64: "complex64", torch.complex128: "complex128",
})  # fmt: skip


class _Reshapes(TorchFunctionMode):
    """Finds the size behind -1 in a reshape of an empty tensor, which torch calls ambiguous."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if kwargs is None:
            kwargs = {}
        if args and func.__name__ in ("view", "reshape") and isinstance(args[0], torch.Tensor) and args[0].numel() == 0:
            named: Any = [kwargs[k] for k in ("shape", "size") if k in kwargs][:1]
            given = args[1:] or named
            shape = tuple(given[0]) if len(given) == 1 and isinstance(given[0], (tuple, list, torch.Size)) else tuple(given)
            if 0 in shape:
                return func(args[0], _resolve(args[0].shape, shape))
        return func(*args, **kwargs)


def _resolve(old: Any, new: tuple[int, ...]) -> tuple[int, ...]:
    total = math.prod(d for d in old if d)
    known = math.prod(d for d in new if d > 0)
    if total % known and (-1 in new or known % total):  # no batch size may suit: two real ones will tell
        raise RuntimeError(f"shape {list(new)} is invalid for input of shape {list(old)}")
    return tuple(total // known if d == -1 else d for d in new)


@contextmanager
def looking(training: bool | None = None) -> Iterator[None]:
    """Runs a block in which calls leave no trace: no gradient, no random number drawn, no weight made or assigned."""
    outer = context.outer_rng is None
    inner = torch.get_rng_state()
    with setting(scratch=True, casts=None, recorder=None), torch.no_grad(), _Reshapes(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if outer:
            context.outer_rng = inner
        try:
            yield
        finally:
            torch.set_rng_state(context.outer_rng if outer else inner)
            if outer:
                context.outer_rng = None


def stand_in(spec: Spec, sample: int, batch: int | None = None, device: str = "cpu") -> Any:
    """Returns a tensor (or a number) in place of a symbolic one; with `batch`, one for a batch of 2 or 3."""
    shape = spec.concrete(sample, batch)
    if spec.is_number:
        return shape
    dtype = _TORCH[spec.dtype]
    if device == "meta" or 0 in shape:
        return torch.empty(shape, dtype=dtype, device=device)
    made = torch.zeros(shape, dtype=dtype, device=device)
    if dtype.is_floating_point and made.dim() > 1:  # a matrix that solvers and factorizations take
        made.diagonal(dim1=-2, dim2=-1).fill_(1)
    return made


def infer(call: Callable[..., Any], args: Any, kwargs: Any) -> tuple[list[Spec], Any]:
    """Returns the Specs of what a call would return, and its structure.

    Args:
        call: any callable on tensors.
        args, kwargs: its arguments, with `Ref`s in place of symbolic values.
    """
    try:
        return _infer(call, args, kwargs)
    except Exception as error:
        for refs in _narrowed(args, kwargs) if type(error) in (RuntimeError, ValueError) else ():
            with suppress(Exception):
                swap = lambda v, refs=refs: refs.get(v, v) if type(v) is Ref else v  # noqa: E731
                return _infer(call, tree.map_leaves(swap, args), tree.map_leaves(swap, kwargs))
        raise


def _narrowed(args: Any, kwargs: Any) -> Iterator[dict[Ref, Ref]]:
    """Values whose unknown axes have a size that something else in a call has: first one axis alone, then all."""
    leaves = tree.leaves((args, kwargs))
    refs = list(dict.fromkeys(v for v in leaves if type(v) is Ref and not v.spec.is_number))
    fixed = [d for v in leaves if isinstance(v, torch.Tensor) for d in v.shape]
    fixed += [d for r in refs for d in r.spec.shape if d is not None]
    free = [(r, i) for r in refs for i, d in enumerate(r.spec.shape) if d is None and r.spec.samples[0][i] != 0]
    for size in list(dict.fromkeys(d for d in fixed if d > 1))[:4] if free else ():
        for chosen in [*([f] for f in free), free] if len(free) > 1 else [free]:
            yield {r: _with_sizes(r, {i for q, i in chosen if q == r}, size) for r in refs}


def _with_sizes(ref: Ref, axes: set[int], size: int) -> Ref:
    """A value like another, with an axis of a known size where that is not known."""
    spec = ref.spec
    put = lambda shape: tuple(size if i in axes else d for i, d in enumerate(shape))  # noqa: E731
    node = Node("input", None, ref.node.name)
    batches = spec.batches and tuple(map(put, spec.batches))
    node.outputs = [Spec(put(spec.shape), spec.dtype, tuple(map(put, spec.samples)), batches)]
    return Ref(node, 0)


def _infer(call: Callable[..., Any], args: Any, kwargs: Any) -> tuple[list[Spec], Any]:
    refs = {r: r.spec for r in tree.leaves((args, kwargs)) if type(r) is Ref}
    runs = max((len(s.samples) for s in refs.values()), default=1)
    varies = any(s.varies for s in refs.values())
    heavy = not varies and sum(math.prod(s.samples[0]) for s in refs.values()) > _SMALL

    def attempt(sample: int, batch: int | None = None, device: str = "cpu") -> Any:
        fill = lambda v: stand_in(refs[v], sample, batch, device) if type(v) is Ref else _on(v, device)  # noqa: E731
        a, k = tree.map_leaves(fill, args), tree.map_leaves(fill, kwargs)
        with looking():
            return call(*a, **k)

    if heavy:
        return _specs([attempt(i, device="meta") for i in range(runs)], (), False)
    results: list[Any] = []
    failed = failure_of(lambda: results.extend(attempt(i) for i in range(runs)))
    if failed is not None and not varies:
        return _specs(_on_meta(attempt, failed, runs), (), False)
    if failed is not None:
        two, three, *others = _two_batches(attempt, refs, failed, runs)
        return _specs([two, *others], (two, three), False)
    odd = any(s.batches is not None for s in refs.values())
    doubtful = varies and any(is_doubtful(r, odd) for r in tree.leaves(results[0]))
    return _specs(results, _two_batches(attempt, refs, None) if doubtful else (), varies)


def is_doubtful(result: Any, odd: bool = False) -> bool:
    """Whether a result on the empty batch does not show how it depends on the batch's size."""
    if isinstance(result, torch.Tensor):
        return result.dim() > 0 and (odd or result.shape.count(0) != 1)
    return type(result) in (int, float)


def _on(value: Any, device: str) -> Any:
    return value.to(device) if device != "cpu" and isinstance(value, torch.Tensor) else value


def _on_meta(attempt: Callable[..., Any], error: Exception, runs: int) -> list[Any]:
    """Runs the call on meta tensors, for one that stand-in values do not suit (a factorization, indices)."""
    with suppress(Exception):
        return [attempt(i, device="meta") for i in range(runs)]
    raise error


def _two_batches(attempt: Callable[..., Any], refs: dict[Ref, Spec], error: Exception | None, runs: int = 1) -> tuple[Any, ...]:
    """Runs the call on batches of 2 and 3, and on 2 for further samples; really where that is little work, else on meta."""
    size = sum(2 * math.prod(d or 1 for d in s.samples[0]) for s in refs.values() if not s.is_number)
    device = "cpu" if size <= _SMALL else "meta"
    results: list[Any] = []
    samples = [(0, 2), (0, 3), *((i, 2) for i in range(1, runs))]
    failed = failure_of(lambda: results.extend(attempt(i, batch, device) for i, batch in samples))
    if failed is None:
        return tuple(results)
    if error is None:
        return ()
    raise error if device == "meta" else told_of([failure_of(partial(attempt, *s)) for s in samples], failed)


def failure_of(run: Callable[[], Any]) -> Exception | None:
    """Returns the error that a block raised; to be raised where none is being handled, so that its own cause stays."""
    try:
        run()
    except Exception as error:
        return error
    return None


def told_of(failures: list[Exception | None], otherwise: Exception) -> Exception:
    """Returns the error of a batch of 2 with None where its words tell the sizes of stand-ins.

    Args:
        failures: of batches of 2 and 3, then of a batch of 2 for each further sample.
        otherwise: the error to be returned where there is none of a batch of 2.
    """
    first = failures[0] or otherwise
    same = [e for e in failures if e is not None and type(e) is type(first)]
    if failures[0] is None or len(same) < len(failures):
        return first
    first.__dict__["_batch"] = 2
    if origin(first) != "user" and all(len(e.args) == 1 for e in same):
        first.args = (_in_general([str(e.args[0]) for e in same]),)
    notes = [getattr(e, "__notes__", []) for e in same]
    if notes[0] and len({len(n) for n in notes}) == 1:
        first.__notes__ = [_in_general(list(texts)) for texts in zip(*notes, strict=True)]
    return first


def _in_general(texts: list[str]) -> str:
    """A text in which sizes that differ from batch to batch or from sample to sample are None: "(Nonex5 and 4x2)"."""
    pieces = [re.split(r"(\d+)", t) for t in texts]
    if any(p[::2] != pieces[0][::2] for p in pieces):
        return texts[0]
    return "".join(p[0] if len(set(p)) == 1 else _size([int(d) for d in p]) for p in zip(*pieces, strict=True))


def _size(sizes: list[int]) -> str:
    two, three, *others = sizes
    by_batch, by_sample = two != three, any(o != two for o in others)
    (unit, unit_after), after = ((2, 3), three) if by_batch else (UNKNOWN_SIZES, others[0])
    count = two // unit
    product = count > 1 and by_batch != by_sample and (count * unit, count * unit_after) == (two, after)
    return f"{count}*None" if product else "None"


def _specs(samples: list[Any], batches: tuple[Any, ...], empty: bool) -> tuple[list[Spec], Any]:
    """Puts the results of the samples (with the batch `empty`) and of two batches side by side: an axis that differs varies."""
    flat = [_flat(r) for r in (*samples, *batches)]
    specs: list[Spec] = []

    def leaf(value: Any) -> Any:
        i = next(position)
        found, more = [f[i] for f in flat[: len(samples)]], [f[i] for f in flat[len(samples) :]]
        if isinstance(value, torch.Tensor):
            specs.append(_merge(found, more, empty))
        elif type(value) in (int, float) and (len({*found, *more}) > 1 or value == 0):
            specs.append(Spec((), type(value).__name__, tuple(found), tuple(more) or None))
        else:
            return value
        return Out(len(specs) - 1)

    position = iter(range(len(flat[0])))
    return specs, tree.map_leaves(leaf, samples[0])


def _flat(nest: Any) -> list[Any]:
    found: list[Any] = []
    tree.map_leaves(found.append, nest)
    return found


def _merge(samples: list[torch.Tensor], batches: list[torch.Tensor], empty: bool) -> Spec:
    concrete, more = [tuple(t.shape) for t in samples], [tuple(t.shape) for t in batches]
    if any(len(s) != len(concrete[0]) for s in more):
        more = []
    sizes = list(zip(*concrete, *more, strict=True))
    shape = tuple(None if len(set(s)) > 1 or (empty and s[0] == 0 and not more) else s[0] for s in sizes)
    if more and not empty:  # all are real batches: the axis that grows with them would be 0 in an empty one
        grows = [two != three for two, three in zip(*more, strict=True)]
        concrete = [tuple(0 if g else d for g, d in zip(grows, s, strict=True)) for s in concrete]
    plain = [filled(shape, concrete[0], batch) for batch in (2, 3)]
    return Spec(shape, _NAMES[samples[0].dtype], tuple(concrete), (more[0], more[1]) if more and more != plain else None)
