"""Choices, loops and maps. Choices and loops of fixed length work on symbolic tensors and in compiled code."""

from __future__ import annotations

import builtins
import inspect
from collections.abc import Callable
from typing import Any

import torch

from hornbeam.graph import tree
from hornbeam.graph.symbolic import symbols_in
from hornbeam.ops.convert import tensor


def _chosen(pred: Any, yes: Any, no: Any) -> Any:
    flat_yes, flat_no = tree.leaves(yes), tree.leaves(no)
    if len(flat_yes) != len(flat_no):
        raise ValueError(f"Both branches must return the same structure. Received: {len(flat_yes)} and {len(flat_no)} values.")
    return tree.pack(yes, [torch.where(pred, tensor(a), tensor(b)) for a, b in zip(flat_yes, flat_no, strict=True)])


def cond(pred: Any, true_fn: Callable[[], Any], false_fn: Callable[[], Any]) -> Any:
    """Returns `true_fn()` or `false_fn()`; where the choice is not known yet, both are computed and one is taken.

    Args:
        pred: boolean, or scalar tensor.
        true_fn, false_fn: functions without arguments that return the same structure.

    >>> cond(torch.tensor(True), lambda: 1, lambda: 2)
    1
    """
    later = bool(symbols_in(pred)) or (isinstance(pred, torch.Tensor) and torch.compiler.is_compiling())
    if later:
        return _chosen(pred.to(torch.bool), true_fn(), false_fn())
    return true_fn() if pred else false_fn()


def switch(index: Any, branches: Any, *operands: Any) -> Any:
    """Returns what the branch of the given number returns for the operands; numbers out of range mean the nearest one.

    >>> switch(1, [lambda x: x, lambda x: x * 2], torch.tensor(3)).item()
    6
    """
    if symbols_in(index) or (isinstance(index, torch.Tensor) and torch.compiler.is_compiling()):
        result = branches[0](*operands)
        for i, branch in enumerate(branches[1:], 1):
            result = _chosen(index >= i, branch(*operands), result)
        return result
    return branches[builtins.min(builtins.max(int(index), 0), len(branches) - 1)](*operands)


def while_loop(cond: Callable[..., Any], body: Callable[..., Any], loop_vars: Any, maximum_iterations: int | None = None) -> Any:
    """Returns the loop's variables after `body` ran on them as long as `cond` held.

    Args:
        cond: function of the variables that returns a boolean.
        body: function of the variables that returns new ones.
        loop_vars: tuple, list or single value.
        maximum_iterations: the most rounds, or None.

    >>> while_loop(lambda i: i < 3, lambda i: i + 1, (0,))
    (3,)
    """
    nested = isinstance(loop_vars, (tuple, list))
    values = tuple(loop_vars) if nested else (loop_vars,)
    rounds = 0
    while (maximum_iterations is None or rounds < maximum_iterations) and cond(*values):
        result = body(*values)
        values = tuple(result) if isinstance(result, (tuple, list)) and nested else (result,)
        rounds += 1
    return values if nested else values[0]


def fori_loop(lower: int, upper: int, body_fun: Callable[[int, Any], Any], init_val: Any) -> Any:
    """Returns the value after `value = body_fun(i, value)` for i from lower to upper - 1.

    >>> fori_loop(0, 4, lambda i, total: total + i, 0)
    6
    """
    value = init_val
    for i in range(lower, upper):
        value = body_fun(i, value)
    return value


def map(f: Callable[[Any], Any], xs: Any) -> Any:
    """Returns the results of a function on each slice along the first axis, stacked.

    >>> map(lambda x: x * 2, torch.tensor([1, 2])).tolist()
    [2, 4]
    """
    return scan(lambda _, x: (None, f(x)), None, xs)[1]


def scan(
    f: Callable[[Any, Any], tuple[Any, Any]],
    init: Any,
    xs: Any = None,
    length: int | None = None,
    reverse: bool = False,
    unroll: Any = 1,
) -> tuple[Any, Any]:
    """Returns the last carry and all stacked outputs of `carry, y = f(carry, x)` over the slices of xs.

    Args:
        f: function of carry and slice that returns carry and output.
        init: first carry.
        xs: tensor or nest of tensors, or None to run `length` times.
        length: number of rounds, if xs does not tell.
        reverse: whether slices are taken from the last to the first.
        unroll: kept for Keras's signature.

    >>> carry, ys = scan(lambda c, x: (c + x, c + x), torch.tensor(0), torch.tensor([1, 2, 3]))
    >>> carry.item(), ys.tolist()
    (6, [1, 3, 6])
    """
    flat = [] if xs is None else [tensor(x) for x in tree.leaves(xs)]
    count = flat[0].shape[0] if flat else length
    if count is None:
        raise ValueError("scan needs `xs` with a known first axis, or `length`.")
    carry, outputs = init, []
    for i in reversed(range(count)) if reverse else range(count):
        carry, y = f(carry, None if xs is None else tree.pack(xs, [x[i] for x in flat]))
        outputs.append(y)
    return carry, _stacked(outputs[::-1] if reverse else outputs)


def _stacked(results: list[Any]) -> Any:
    if not results or results[0] is None:
        return None
    columns = zip(*[tree.leaves(r) for r in results], strict=True)
    return tree.pack(results[0], [None if c[0] is None else torch.stack([tensor(v) for v in c]) for c in columns])


def associative_scan(f: Callable[[Any, Any], Any], elems: Any, reverse: bool = False, axis: int = 0) -> Any:
    """Returns the running results of an associative function along an axis.

    Args:
        f: function of two nests of tensors that returns their combination; called on many elements at once.
        elems: tensor or nest of tensors.

    >>> associative_scan(lambda a, b: a + b, torch.tensor([1, 2, 3])).tolist()
    [1, 3, 6]
    """
    flat = [tensor(e) for e in tree.leaves(elems)]
    flat = [e.flip(axis) for e in flat] if reverse else flat
    count, step = flat[0].shape[axis], 1
    while step < count:
        before = tree.pack(elems, [e.narrow(axis, 0, count - step) for e in flat])
        after = tree.pack(elems, [e.narrow(axis, step, count - step) for e in flat])
        joined = tree.leaves(f(before, after))
        flat = [torch.cat([e.narrow(axis, 0, step), j], axis) for e, j in zip(flat, joined, strict=True)]
        step *= 2
    return tree.pack(elems, [e.flip(axis) for e in flat] if reverse else flat)


def vectorized_map(function: Callable[[Any], Any], elements: Any) -> Any:
    """Returns the results of a function on each slice along the first axis, computed all at once.

    >>> vectorized_map(lambda x: x * 2, torch.tensor([1, 2])).tolist()
    [2, 4]
    """
    if symbols_in(elements):
        return map(function, elements)
    flat = [tensor(e) for e in tree.leaves(elements)]
    return torch.vmap(lambda *slices: function(tree.pack(elements, list(slices))))(*flat)


def vectorize(pyfunc: Callable[..., Any], *, excluded: Any = None, signature: str | None = None) -> Callable[..., Any]:
    """Returns a function that applies `pyfunc` to each element of its tensor arguments, which broadcast.

    Args:
        pyfunc: function of scalars (or, with a signature, of the named axes) that returns a tensor.
        excluded: positions of arguments that are passed on whole.
        signature: core axes such as "(n),(n)->()".

    >>> vectorize(lambda a, b: a + b)(torch.tensor([1, 2]), 3).tolist()
    [4, 5]
    """
    kept = set(excluded or ())

    def call(*args: Any) -> Any:
        places = [i for i in range(len(args)) if i not in kept]
        cores = _core_ranks(signature, len(places))
        tensors = [tensor(args[i]) for i in places]
        shapes = [t.shape[: t.ndim - c] for t, c in zip(tensors, cores, strict=True)]
        loop = torch.broadcast_shapes(*shapes)
        wide = [t.expand(*loop, *t.shape[t.ndim - c :]) for t, c in zip(tensors, cores, strict=True)]

        def inner(*values: Any) -> Any:
            full = list(args)
            for i, value in zip(places, values, strict=True):
                full[i] = value
            return pyfunc(*full)

        mapped: Callable[..., Any] = inner
        for _ in loop:
            mapped = torch.vmap(mapped)
        return mapped(*wide)

    return call


def _core_ranks(signature: str | None, count: int) -> list[int]:
    if signature is None:
        return [0] * count
    groups = signature.replace(" ", "").split("->")[0].strip("()").split("),(")
    return [len([n for n in group.split(",") if n]) for group in groups]


def custom_gradient(f: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a function with the values of f and the gradients that f itself gives.

    Args:
        f: function that returns (value, grad), where `grad(upstream)` returns the gradients of the arguments.

    >>> @custom_gradient
    ... def double(x):
    ...     return 2 * x, lambda upstream: upstream * 10
    >>> x = torch.tensor(1.0, requires_grad=True)
    >>> double(x).backward()
    >>> x.grad.item()
    10.0
    """

    class Custom(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *args: Any) -> Any:
            value, ctx.gradient = f(*args)
            ctx.count = len(args)
            ctx.named = "upstream" in inspect.signature(ctx.gradient).parameters
            return value

        @staticmethod
        def backward(ctx: Any, *upstream: Any) -> Any:
            made = ctx.gradient(*upstream[:-1], upstream=upstream[-1]) if ctx.named else ctx.gradient(*upstream)
            made = tuple(made) if isinstance(made, (tuple, list)) else (made,)
            return made + (None,) * (ctx.count - len(made))

    def call(*args: Any) -> Any:
        return Custom.apply(*[tensor(a) if isinstance(a, (int, float)) else a for a in args])

    return call
