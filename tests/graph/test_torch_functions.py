"""Every function of torch, torch.Tensor, torch.nn.functional, torch.linalg, torch.fft and torch.special on symbolic tensors.

torch's own table of operators (`op_db`, made for its tests) gives the functions and inputs. Each one records and agrees with its
eager result in value, dtype and inferred shape, with a free batch axis where the function has one, or is listed below with its
reason.
"""

from __future__ import annotations

import itertools
import types
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch

from hornbeam.graph import tree
from hornbeam.graph.graph import Graph
from hornbeam.graph.symbolic import Symbol, SymbolicTensor

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from torch.testing._internal.common_methods_invocations import op_db

NOT_RECORDED = {
    "item": "gives a Python number, which a symbolic tensor has not",
    "equal": "gives a Python bool",
    "allclose": "gives a Python bool",
    "resize_": "sizes that do not fit the elements: torch itself refuses where gradients may flow",
    "resize_as_": "as resize_",
    "to_sparse": "makes a sparse tensor; models take dense ones",
}
NO_COMPARISON = (torch.bfloat16, torch.complex32, torch.float8_e4m3fn, torch.float8_e5m2)
DRAWN_IN_PLACE = ("cauchy", "exponential", "geometric", "log_normal", "uniform")


def dtype_of(op: Any) -> torch.dtype:
    kinds = op.supported_dtypes("cpu")
    return next(d for d in (torch.float32, torch.int64, torch.complex64, torch.bool, *kinds) if d in kinds)


def samples_of(op: Any, count: int = 2) -> list[Any]:
    """The first samples with elements. Made in a thread, since torch's table reads the whole stack of calls for each one."""
    with warnings.catch_warnings(), ThreadPoolExecutor(1) as thread:
        warnings.simplefilter("ignore")
        return thread.submit(_usable_samples, op, count).result()


def _usable_samples(op: Any, count: int) -> list[Any]:
    found = itertools.islice(op.sample_inputs("cpu", dtype_of(op), requires_grad=False), 12)
    return [s for s in found if any(t.numel() for t in tree.leaves(s.input) if isinstance(t, torch.Tensor))][:count]


def result_tensors(nest: Any) -> list[torch.Tensor]:
    return [v for v in tree.leaves(nest) if isinstance(v, torch.Tensor)]


def symbols_for(tensors: list[torch.Tensor], batch: bool) -> list[SymbolicTensor]:
    name = lambda d: str(d).removeprefix("torch.")  # noqa: E731
    return [SymbolicTensor((None, *t.shape[1:]) if batch and t.dim() else tuple(t.shape), name(t.dtype)) for t in tensors]


def record(function: Any, sample: Any, batch: bool) -> tuple[Graph, list[torch.Tensor], list[Symbol]]:
    real = [t for t in tree.leaves(sample.input) if isinstance(t, torch.Tensor)]
    symbols = symbols_for(real, batch)
    given = iter(symbols)
    inputs = tree.map_leaves(lambda v: next(given) if isinstance(v, torch.Tensor) else v, sample.input)
    outputs = [v for v in tree.leaves(function(inputs, *sample.args, **sample.kwargs)) if isinstance(v, Symbol)]
    used = Graph.trace(symbols, outputs) if outputs else None
    return used, real, outputs


def replays(graph: Graph, real: list[torch.Tensor], seed: int) -> list[torch.Tensor]:
    torch.default_generator.manual_seed(seed)
    return result_tensors(graph.replay([t.clone() for t in real]))


def same_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.shape == b.shape and a.contiguous().numpy(force=True).tobytes() == b.contiguous().numpy(force=True).tobytes()


def check(function: Any, sample: Any, batch: bool) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        graph, real, outputs = record(function, sample, batch)
        copied = tree.map_leaves(lambda v: v.clone() if isinstance(v, torch.Tensor) else v, sample.input)
        torch.default_generator.manual_seed(1)
        expected = result_tensors(function(copied, *sample.args, **sample.kwargs))
        assert graph is not None, "nothing was recorded"
        outputs = [o for o in outputs if isinstance(o, SymbolicTensor)]
        assert len(outputs) == len(expected)
        got, *again = (replays(graph, real, seed) for seed in (1, 2, 3, 4))
    for i, (symbol, value, wanted) in enumerate(zip(outputs, got, expected, strict=True)):
        assert len(symbol.shape) == wanted.dim()
        assert all(s is None or s == d for s, d in zip(symbol.shape, wanted.shape, strict=True)), (symbol.shape, wanted.shape)
        assert str(wanted.dtype) == f"torch.{symbol.dtype}"
        assert value.shape == wanted.shape
        if value.dtype in NO_COMPARISON or value.layout != torch.strided:
            continue
        if all(same_bits(value, other[i]) for other in again):  # else it is a random function
            torch.testing.assert_close(value, wanted, rtol=1e-4, atol=1e-5, equal_nan=True)


CASES = [pytest.param(op, id=f"{op.name}{'.' + op.variant_test_name if op.variant_test_name else ''}") for op in op_db
         if not op.name.startswith(("_refs", "masked.", "ops.", "sparse.", "jiterator", "_native", "nested", "_segment"))
         and op.name not in NOT_RECORDED and any(op.supported_dtypes("cpu"))]  # fmt: skip
METHODS = [pytest.param(op, id=f"{op.name}.{op.variant_test_name}") for op in (c.values[0] for c in CASES)
           if op.method_variant is not None and op.method_variant.__name__ != "<lambda>"]  # fmt: skip
IN_PLACE = [c for c in METHODS if c.values[0].inplace_variant is not None]


def as_function(op: Any) -> Any:
    """The function of an entry; a method that C only lends to tensors is called as a method."""
    if op.name in DRAWN_IN_PLACE or op.variant_test_name == "in_place":
        return lambda x, *args, **kwargs: getattr(x, op.name + "_")(*args, **kwargs)
    if isinstance(op.op, (types.WrapperDescriptorType, types.MethodDescriptorType)):
        return lambda x, *args, **kwargs: getattr(x, op.op.__name__)(*args, **kwargs)
    return op.op


@pytest.mark.parametrize("op", CASES)
def test_records_and_agrees(op: Any) -> None:
    samples = samples_of(op)
    if not samples:
        pytest.skip("torch's table has no input with elements for it")
    for sample in samples:
        if not any(isinstance(t, torch.Tensor) for t in tree.leaves(sample.input)):
            pytest.skip("makes a tensor from numbers: there is no tensor to be symbolic")
        check(as_function(op), sample, batch=False)


@pytest.mark.parametrize("op", METHODS)
def test_methods_record_and_agree(op: Any) -> None:
    for sample in samples_of(op, 1):
        if isinstance(sample.input, torch.Tensor):
            check(lambda x, *args, **kwargs: getattr(x, op.method_variant.__name__)(*args, **kwargs), sample, batch=False)


@pytest.mark.parametrize("op", IN_PLACE)
def test_in_place_methods_record_and_agree(op: Any) -> None:
    for sample in samples_of(op, 1):
        if not isinstance(sample.input, torch.Tensor) or sample.broadcasts_input:
            continue

        def change(x: Any, *args: Any, sample: Any = sample, **kwargs: Any) -> Any:
            getattr(x, op.inplace_variant.__name__)(*args, **kwargs)
            return x

        try:
            change(sample.input.clone(), *sample.args, **sample.kwargs)
        except RuntimeError:
            continue  # the result does not fit into the input's shape or dtype, for torch itself
        check(change, sample, batch=False)


def test_a_free_batch_axis() -> None:
    """With a batch of unknown size, whatever records agrees; almost everything with a batch axis records."""
    recorded = 0
    for op in (c.values[0] for c in CASES):
        for sample in samples_of(op, 1):
            if not any(isinstance(t, torch.Tensor) and t.dim() for t in tree.leaves(sample.input)):
                continue
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    if record(as_function(op), sample, batch=True)[0] is None:
                        continue  # a call that needs no value of the tensor
                except Exception:
                    continue
            check(as_function(op), sample, batch=True)
            recorded += 1
    assert recorded > 300
