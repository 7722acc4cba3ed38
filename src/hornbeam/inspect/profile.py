"""How long each call of a module takes, forward and backward, joined to what it costs."""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from hornbeam.core import dtype as dtypes
from hornbeam.core.layer import Layer
from hornbeam.core.random import seed_generators
from hornbeam.core.weights import raw
from hornbeam.graph import record as recording
from hornbeam.graph import tree
from hornbeam.graph.context import setting
from hornbeam.graph.node import Spec
from hornbeam.inspect.cost import CallCost, Cost, arguments_for, cost_of
from hornbeam.inspect.cost_frames import Calls, Work
from hornbeam.inspect.cost_stand_ins import parameters, sizes_of


def profile(
    module: nn.Module, x: Any = None, *, inputs: Any = None, batch_size: int = 1, training: bool = True, repeats: int = 5,
    warmup: int = 2,
) -> Cost:  # fmt: skip
    """Measures how long each call of a module takes, forward and backward: the median of some runs.

    Everything is left as it was: weights, gradients, buffers, random numbers, mode.

    Args:
        module: any module.
        x: what it is called with: a tensor, an array, or a nest of them (a list or tuple holds the arguments of a plain torch
            module, a dictionary its keyword arguments). None: random values of the shapes that it was built for.
        inputs: shapes for the random values, as in `summary`.
        batch_size: how many random samples.
        training: whether it runs as in training, with a backward pass.
        repeats: how many runs are measured.
        warmup: how many runs come before.

    Returns:
        the module's cost, with `forward_seconds` and `backward_seconds` in it and in each of its calls.

    >>> net = nn.Sequential(nn.Linear(32, 16), nn.ReLU())
    >>> times = profile(net, torch.ones(8, 32), repeats=3)
    >>> times.of(net[0]).forward_seconds > 0, [call.name for call in times.calls_made]
    (True, ['0', '1'])
    """
    if repeats < 1 or warmup < 0:
        raise ValueError(f"profile: `repeats` is at least 1 and `warmup` at least 0. Received: {repeats} and {warmup}")
    args, kwargs, cost = _arguments(module, x, inputs, batch_size, training)
    device = next((p.device for p in parameters(module)), torch.device("cpu"))
    clock = _CudaClock() if device.type == "cuda" else _Clock()
    runs: list[dict[Any, tuple[float, float]]] = []
    wholes: list[tuple[float, float]] = []
    with as_before(module), recording._quiet(module):
        for part in module.modules():
            part.__dict__["training"] = training
        for _ in range(warmup + repeats):
            run = _TimedRun(module, clock)
            run.run(args, kwargs, training)
            runs.append(run.seconds())
            wholes.append(_whole(module, args, kwargs, training, clock))
    _join(cost, runs[warmup:])
    cost.forward_seconds = statistics.median(f for f, _ in wholes[warmup:])
    cost.backward_seconds = statistics.median(b for _, b in wholes[warmup:])
    return cost


def _arguments(module: nn.Module, x: Any, inputs: Any, batch: int, training: bool) -> tuple[Any, Any, Cost]:
    if x is None:
        args, kwargs = arguments_for(module, inputs, "profile")
        cost = cost_of(module, inputs, batch, training)
        args, kwargs = (tree.map_leaves(lambda v: _random(v, batch) if isinstance(v, Spec) else v, n) for n in (args, kwargs))
    else:
        x = tree.map_leaves(lambda v: torch.as_tensor(v) if isinstance(v, np.ndarray) else v, x)
        first = next((v for v in tree.leaves(x) if isinstance(v, torch.Tensor) and v.ndim), None)
        if first is None:
            raise ValueError("profile: `x` holds no tensor or array to call the module with.")
        cost = cost_of(module, x, len(first), training)
        if isinstance(module, Layer) or not isinstance(x, (list, tuple, dict)):
            args, kwargs = (x,), {}
        else:
            args, kwargs = ((), x) if isinstance(x, dict) else (tuple(x), {})
    device = next((p.device for p in parameters(module)), torch.device("cpu"))
    args, kwargs = (tree.map_leaves(lambda v: v.to(device) if isinstance(v, torch.Tensor) else v, n) for n in (args, kwargs))
    return args, kwargs, cost


def _random(spec: Spec, batch: int) -> Any:
    dtype = dtypes.to_torch(spec.dtype)
    shape = sizes_of(spec, batch)
    return torch.rand(shape).to(dtype) if dtype.is_floating_point else torch.zeros(shape, dtype=dtype)


@contextmanager
def as_before(module: nn.Module) -> Iterator[None]:
    """Puts back, after a block, what a run of a module changes: buffers, gradients, random numbers, losses."""
    for part in module.modules():
        dict(part._parameters.items())  # values that are not made yet are made now
    held = [(m.__dict__["_buffers"], raw(m, "_buffers")) for m in module.modules()]
    buffers = [(v, v.detach().clone()) for _, entries in held for v in entries.values() if v is not None]
    gradients = [(v, v.grad) for v in {id(p): p for p in module.parameters()}.values()]
    losses = [(m, list(m._losses)) for m in module.modules() if isinstance(m, Layer)]
    streams = [v._stream for v in seed_generators(module).values()]
    states = [stream.get_state() for stream in streams]
    devices = sorted({v.device.index for v, _ in gradients if v.is_cuda})
    for weight, _ in gradients:
        weight.grad = None
    try:
        with torch.random.fork_rng(devices):
            yield
    finally:
        with torch.no_grad():
            for kept, entries in held:
                kept.update(entries)
            for buffer, value in buffers:
                buffer.copy_(value)
        for weight, gradient in gradients:
            weight.grad = gradient
        for stream, state in zip(streams, states, strict=True):
            stream.set_state(state)
        for layer, added in losses:
            layer._losses[:] = added


class _Clock:
    """Takes times on the processor."""

    now: Callable[[], Any] = staticmethod(time.perf_counter)

    def between(self, start: Any, end: Any) -> float:
        """Returns the seconds between two times."""
        return end - start


class _CudaClock(_Clock):
    """Takes times in the order of a GPU's work."""

    def now(self) -> Any:  # type: ignore[override]
        """Returns a mark in the stream of work."""
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def between(self, start: Any, end: Any) -> float:
        """Waits for both marks and returns the seconds between them."""
        end.synchronize()
        return start.elapsed_time(end) / 1e3


class _TimedFunctions(TorchFunctionMode):
    """Times the torch functions that an open module's own code calls."""

    def __init__(self, run: _TimedRun) -> None:
        super().__init__()
        self.run = run

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        work = self.run.target()
        start = self.run.clock.now()
        result = func(*args, **(kwargs or {}))
        self.run.times.append((work, start, self.run.clock.now()))
        self.run.function(func, args, kwargs or {}, result)
        return result


class _TimedRun(Calls):
    """One run with the time of each call."""

    def __init__(self, module: nn.Module, clock: _Clock) -> None:
        super().__init__(module)
        self.clock = clock
        self.times: list[tuple[Work, Any, Any]] = []
        self.backward_times: list[tuple[Work, Any, Any]] = []

    def run(self, args: Any, kwargs: Any, training: bool) -> None:
        """Calls the module, and takes a gradient of its outputs in training."""
        state = setting(recorder=self, training=training, depth=0, root=None)
        with state, torch.set_grad_enabled(training), _TimedFunctions(self):
            outputs = self.module(*args, **kwargs)
        self.mark(self.root)
        if training:
            for node in _nodes(outputs):
                self._watch(node)
            _backward(outputs)

    def closed(self, work: Work, call: Callable[[], Any]) -> Any:
        """Times a call inside which nothing is told apart."""
        with torch.overrides._pop_mode_temporarily():
            start = self.clock.now()
            try:
                return call()
            finally:
                self.times.append((work, start, self.clock.now()))

    def _watch(self, node: Any) -> None:
        """Times a node of autograd."""
        work, begun = self.maker_of(node), []
        node.register_prehook(lambda _: begun.append(self.clock.now()))
        node.register_hook(lambda *_: self.backward_times.append((work, begun.pop(), self.clock.now())))

    def seconds(self) -> dict[Any, tuple[float, float]]:
        """Returns the seconds of each call, forward and backward, with those of the calls inside it; by path and number."""
        own: dict[int, list[float]] = defaultdict(lambda: [0.0, 0.0])
        for side, times in enumerate((self.times, self.backward_times)):
            for work, start, end in times:
                own[id(work)][side] += self.clock.between(start, end)
        numbered = _Numbered()
        found: dict[Any, tuple[float, float]] = {}

        def visit(work: Work) -> tuple[float, float]:
            key = numbered(work)
            parts = [tuple(own[id(work)]), *(visit(inner) for inner in work.inner)]
            found[key] = sum(f for f, _ in parts), sum(b for _, b in parts)
            return found[key]

        visit(self.root)
        return found


class _Numbered:
    """Gives each call a key: its path, its name and which of the calls with these it is."""

    def __init__(self) -> None:
        self.counts: dict[tuple[str, str], int] = defaultdict(int)

    def __call__(self, call: Work | CallCost) -> tuple[str, str, int]:
        key = call.path, call.name
        self.counts[key] += 1
        return *key, self.counts[key]


def _nodes(outputs: Any) -> set[Any]:
    """The nodes of autograd behind some outputs, without those of weights."""
    found: set[Any] = set()
    waiting = [y.grad_fn for y in _learning(outputs)]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in found and hasattr(node, "next_functions") and not hasattr(node, "variable"):
            found.add(node)
            waiting.extend(after for after, _ in node.next_functions)
    return found


def _learning(outputs: Any) -> list[torch.Tensor]:
    return [y for y in tree.leaves(outputs) if isinstance(y, torch.Tensor) and y.requires_grad]


def _backward(outputs: Any) -> None:
    found = _learning(outputs)
    if found:
        torch.autograd.backward(found, [torch.ones_like(y) for y in found])


def _whole(module: nn.Module, args: Any, kwargs: Any, training: bool, clock: _Clock) -> tuple[float, float]:
    """The seconds of a run in which nothing is told apart."""
    with setting(training=training, depth=0, root=None), torch.set_grad_enabled(training):
        begun = clock.now()
        outputs = module(*args, **kwargs)
        between = clock.now()
        if training:
            _backward(outputs)
        ended = clock.now()
    return clock.between(begun, between), clock.between(between, ended) if training else 0.0


def _join(cost: Cost, runs: list[dict[Any, tuple[float, float]]]) -> None:
    """Writes the medians of the runs into the cost of the calls."""
    numbered = _Numbered()
    for call in cost.calls_made:
        key = numbered(call)
        found = [run[key] for run in runs if key in run]
        if found:
            call.forward_seconds = statistics.median(f for f, _ in found)
            call.backward_seconds = statistics.median(b for _, b in found)
