"""What a model costs, call by call: multiply-adds and memory, predicted without data and without making weights."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from torch import nn
from torch.nn.parameter import is_lazy

from hornbeam.core.layer import Layer
from hornbeam.graph import tree
from hornbeam.graph.node import Node, Ref, Spec
from hornbeam.inspect.cost_frames import Work
from hornbeam.inspect.cost_loss import NoLoss, losses_for, squares
from hornbeam.inspect.cost_optimizer import UNKNOWABLE
from hornbeam.inspect.cost_packed import packed_objects
from hornbeam.inspect.cost_run import StepRun, run_step
from hornbeam.inspect.cost_stand_ins import parameters, sizes_of
from hornbeam.inspect.given import arguments_of, graph_for
from hornbeam.inspect.table import Row, weights_of
from hornbeam.inspect.units import bytes_of, count_text, short_memory


@dataclass
class CallCost:
    """What one call (or several calls of the same layer) costs.

    Attributes:
        name, kind, path: the call's name, its class or "function", and its dotted path in the model.
        depth: how deep inside nested models.
        macs_forward, macs_backward: multiply-adds of matrix products, convolutions, recurrent kernels and attention.
        elements: numbers that all other kernels write in the forward pass.
        activation_bytes: what autograd keeps for the backward pass and no earlier call keeps already.
        output_bytes: what its kernels write in the forward pass, views left out.
        params, weight_bytes, gradient_bytes, optimizer_bytes: its weights, those that learn, and the optimizer's slots for them.
        shared: the name of the call before that has the same weights, which are counted there.
        calls: how many calls are counted together.
        forward_seconds, backward_seconds: measured time; zero where nothing was measured.
    """

    name: str
    kind: str
    path: str = ""
    depth: int = 0
    macs_forward: int = 0
    macs_backward: int = 0
    elements: int = 0
    activation_bytes: int = 0
    output_bytes: int = 0
    params: int = 0
    weight_bytes: int = 0
    gradient_bytes: int = 0
    optimizer_bytes: int = 0
    shared: str = ""
    calls: int = 1
    forward_seconds: float = 0.0
    backward_seconds: float = 0.0

    @property
    def macs(self) -> int:
        """Multiply-adds forward and backward."""
        return self.macs_forward + self.macs_backward

    @property
    def flops(self) -> int:
        """Floating point operations: two for each multiply-add."""
        return 2 * self.macs

    @property
    def flops_forward(self) -> int:
        """Floating point operations of the forward pass."""
        return 2 * self.macs_forward

    @property
    def flops_backward(self) -> int:
        """Floating point operations of the backward pass."""
        return 2 * self.macs_backward

    @property
    def memory_bytes(self) -> int:
        """What the call holds while the model trains: weights, gradients, slots and activations."""
        return self.weight_bytes + self.gradient_bytes + self.optimizer_bytes + self.activation_bytes


@dataclass(repr=False)
class Cost(CallCost):
    """What a whole model costs, and each of its calls.

    Attributes:
        batch_size: how many samples were costed together.
        training: whether a training step was costed, else a prediction.
        input_bytes: the batch itself.
        peak_bytes: the most memory in use at once, everything included.
        calls_made: each call, in the order of the run, those inside nested models after the call around them.
        notes: what the figures assume.
    """

    batch_size: int = 1
    training: bool = True
    input_bytes: int = 0
    peak_bytes: int = 0
    calls_made: list[CallCost] = field(default_factory=list, repr=False)
    notes: list[str] = field(default_factory=list)
    _model: Any = field(default=None, repr=False)
    _known: dict[Any, list[CallCost]] = field(default_factory=dict, repr=False)
    _again: Callable[[int], Cost] | None = field(default=None, repr=False)
    _looks: bool = field(default=False, repr=False)

    def of(self, call: Row | Node | nn.Module, owner: nn.Module | None = None, number: int | None = None) -> CallCost:
        """Returns the cost of a row of the summary, of a node of a graph, or of all calls of a layer.

        Args:
            call: the row, the node or the layer.
            owner: for a node: the module whose graph it belongs to; the model itself unless given.
            number: for a node of a layer that is called several times: which call it is, from 0; all of them unless given.

        Returns:
            the sum over its calls; zeros where it was not called.
        """
        if isinstance(call, Row):
            key: Any = id(call.module) if call.module is not None else call.name
            return self._sum((id(call.owner if call.owner is not None else self._model), key), call.name, call.kind)
        if call is self._model:
            return self
        if isinstance(call, nn.Module):
            return self._sum(id(call), getattr(call, "name", type(call).__name__), type(call).__name__)
        if id(call) in self._known and number is None:
            return self._sum(id(call), call.name, call.kind)
        owner = self._model if owner is None else owner
        module = owner.get_submodule(call.target) if isinstance(call.target, str) else call.target
        key = id(module) if call.kind == "module" else call.name
        return self._sum((id(owner), key), call.name, call.kind, number)

    def _sum(self, key: Any, name: str, kind: str, number: int | None = None) -> CallCost:
        found = self._known.get(key, [])
        found = found if number is None else found[number : number + 1]
        if len(found) == 1:
            return found[0]
        made = CallCost(name, kind, found[0].path if found else "", found[0].depth if found else 0, calls=len(found))
        for figure in _SUMMED:
            setattr(made, figure, sum(getattr(c, figure) for c in found))
        return made

    def largest_batch(self, memory: int | float | str) -> int:
        """Returns the largest batch with which the peak stays within a memory; 0 where not even one sample fits.

        For a model whose Python looks at values it is extrapolated from small batches, and a note says so.

        Args:
            memory: bytes, or text such as "8 GB" (powers of 1024).

        >>> cost_of(nn.Linear(1000, 10), (None, 1000)).largest_batch("1 MB")
        237
        """
        limit = bytes_of(memory)
        peaks: dict[int, int] = {self.batch_size: self.peak_bytes}

        def peak(batch: int) -> int:
            if batch not in peaks:
                assert self._again is not None
                peaks[batch] = self._again(batch).peak_bytes
            return peaks[batch]

        if peak(1) > limit:
            return 0
        if self._looks:
            return self._extrapolated(peak, limit)
        low, high = 1, 2
        while peak(high) <= limit:
            low = high
            slope = max(1.0, (peak(high) - peak(1)) / (high - 1))
            high = max(2 * high, int(high + (limit - peak(high)) / slope) + 1)
            if high > 1 << 40:
                raise ValueError(f"largest_batch: memory does not grow with the batch of {self.name!r}; any batch fits.")
        while high - low > 1:
            slope = max(1.0, (peak(high) - peak(low)) / (high - low))
            guess = int(low + (limit - peak(low)) / slope)
            middle = min(max(guess, low + 1), high - 1)
            if peak(middle) <= limit:
                low = middle
                if low + 1 < high and peak(low + 1) > limit:
                    return low
            else:
                high = middle
        return low

    def _extrapolated(self, peak: Callable[[int], int], limit: int) -> int:
        """The largest batch by the growth between two small ones, for runs that really take the memory: far from the limit.

        They are large enough for activations to outweigh weights and gradients, where memory allows.
        """
        low, high = 2, 4
        while peak(high) < 4 * peak(1) and 4 * peak(high) <= limit and high < 1 << 20:
            low, high = high, 2 * high
        told = f"The largest batch was extrapolated from batches of {low} and {high}, which really ran."
        self.notes += [told] if told not in self.notes else []
        if peak(high) <= peak(low):
            raise ValueError(f"largest_batch: memory does not grow with the batch of {self.name!r}; any batch fits.")
        return max(1, int(low + (limit - peak(low)) * (high - low) / (peak(high) - peak(low))))

    def __str__(self) -> str:
        from hornbeam.inspect import columns  # which needs this module

        return columns.as_text(self)

    def _repr_html_(self) -> str:
        from hornbeam.inspect import columns

        return columns.as_html(self)

    def __repr__(self) -> str:
        return (
            f"<Cost of {self.name!r}, batch of {self.batch_size}: {count_text(self.macs_forward)} multiply-adds forward, "
            f"{count_text(self.macs_backward)} backward, {short_memory(self.peak_bytes)} at the peak>"
        )


_SUMMED = ("macs_forward", "macs_backward", "elements", "activation_bytes", "output_bytes", "params", "weight_bytes",
           "gradient_bytes", "optimizer_bytes", "forward_seconds", "backward_seconds")  # fmt: skip


def cost_of(
    model_or_module: nn.Module, inputs: Any = None, batch_size: int = 1, training: bool = True, optimizer: Any = None
) -> Cost:  # fmt: skip
    """Returns what a model costs: multiply-adds, activations, weights, gradients, slots and peak memory, by call and in total.

    The module runs once on tensors without memory, so nothing is computed and no weight is made. A multiply-add is one product
    added to a sum; FLOPs are counted as two for each.

    Args:
        model_or_module: any module.
        inputs: what it is called with: a shape with None for the batch, an example tensor, an `Input`, or a nest of such; None
            for a model that knows its inputs.
        batch_size: how many samples go through at once.
        training: whether a training step is costed (forward, backward, update), else a prediction.
        optimizer: whose slots are counted: a name, an optimizer of Hornbeam or torch; the compiled one unless given; else none.

    Raises:
        ValueError: the inputs are not known, or a size is none.

    >>> cost = cost_of(nn.Sequential(nn.Linear(32, 16), nn.ReLU()), (None, 32), batch_size=8)
    >>> cost.macs_forward == 8 * 32 * 16, cost.macs_backward == 8 * 32 * 16, cost.activation_bytes
    (True, True, 512)
    """
    if not isinstance(batch_size, int) or batch_size < 1:
        raise ValueError(f"cost: `batch_size` is a positive integer. Received: {batch_size!r}")
    args, kwargs = arguments_for(model_or_module, inputs, "cost")
    optimizer = optimizer if optimizer is not None else getattr(model_or_module, "optimizer", None)
    again = lambda batch: _cost(model_or_module, args, kwargs, batch, training, optimizer)  # noqa: E731
    made = again(batch_size)
    made._again = again
    return made


def arguments_for(module: nn.Module, inputs: Any, caller: str) -> tuple[Any, Any]:
    """The arguments of the module's call, with a Spec for each tensor; the module is built if it was not."""
    built = all(m.built for m in module.modules() if isinstance(m, Layer)) and not any(map(is_lazy, parameters(module)))
    if inputs is not None and built:
        return arguments_of(module, inputs, caller)
    graph = graph_for(module, inputs, caller)
    if inputs is not None:
        return arguments_of(module, inputs, caller)
    specs = getattr(module, "_build_specs", None)
    if specs is not None and getattr(module, "graph", None) is None:
        return tuple(specs), {}
    return (tree.map_leaves(lambda v: v.spec if type(v) is Ref else v, graph.input_nest),), {}


def _cost(module: nn.Module, args: Any, kwargs: Any, batch: int, training: bool, optimizer: Any) -> Cost:
    notes: list[str] = []
    step = lambda loss, real=False: run_step(module, args, kwargs, batch, training, loss, optimizer, real)  # noqa: E731
    try:
        run = _first_that_runs(step, module, training, notes)
    except UNKNOWABLE:
        notes.append("The model's Python looks at values, so it was run on random ones: other values may cost more or less.")
        run = _first_that_runs(partial(step, real=True), module, training, notes)
    except ValueError as error:
        if batch > 1 or "more than 1 value per channel" not in str(error):
            raise
        made = _cost(module, args, kwargs, 2, training, optimizer)
        made.notes.append("This is the cost of 2 samples: torch's batch normalization cannot train on one.")
        return made
    made = Cost(run.root.name, type(module).__name__, batch_size=batch, training=training)
    made._looks = run.real
    made._model, made.input_bytes = module, run.input_bytes
    made.notes = [*notes, *_guessed_sizes(args, kwargs, batch), *run.notes]
    seen: dict[int, str] = {}
    _fill(made, run.root, run, {})
    for work in run.root.inner:
        _list(made, work, 0, run, seen)
    made.optimizer_bytes = run.slot_bytes
    made.peak_bytes = run.memory.peak + made.weight_bytes + made.input_bytes + made.optimizer_bytes + _buffer_bytes(module)
    return made


def _first_that_runs(step: Callable[[Any], StepRun], module: nn.Module, training: bool, notes: list[str]) -> StepRun:
    """The step with the compiled loss, or with a squared error where that takes no targets that can be made up."""
    for loss in losses_for(module) if training else (None,):
        with suppress(NoLoss):
            run = step(loss)
            if loss is squares and getattr(module, "_compile_loss", None) is not None:
                notes.append("The compiled loss does not run on made-up targets: a squared error was taken in its place.")
            return run
    raise AssertionError("the last loss takes any outputs")


def _guessed_sizes(args: Any, kwargs: Any, batch: int) -> list[str]:
    """A note on axes besides the batch whose sizes nobody told."""
    specs = [s for s in tree.leaves((args, kwargs)) if isinstance(s, Spec) and not s.is_number]
    axes = [axis for s in specs for axis in zip(s.shape, s.samples[0], sizes_of(s, batch), strict=True)]
    sizes = {size for known, sample, size in axes if known is None and sample != 0}
    shown = ", ".join(map(str, sorted(sizes)))
    told = f"Axes of the inputs that vary, besides the batch, were taken as {shown}: give `inputs` with their sizes."
    return [told] if sizes else []


def _buffer_bytes(module: nn.Module) -> int:
    counted = {id(w) for w in weights_of(module)}
    rest = {id(v): v for v in parameters(module) if id(v) not in counted}
    return sum(v.numel() * v.element_size() for v in rest.values())


def _list(cost: Cost, work: Work, depth: int, run: StepRun, seen: dict[int, str]) -> None:
    if not work.name:
        return
    made = CallCost(work.name, type(work.module).__name__ if work.module is not None else "function", work.path, depth)
    before = dict(seen)
    _fill(made, work, run, seen)
    cost.calls_made.append(made)
    keys: list[Any] = [(id(work.owner), id(work.module) if work.module is not None else work.name)]
    keys += [id(work.module)] if work.module is not None else []
    keys += [id(work.node)] if work.node is not None else []
    for key in keys:
        cost._known.setdefault(key, []).append(made)
    for inner in work.inner:
        _list(cost, inner, depth + 1, run, before)


def _fill(made: CallCost, work: Work, run: StepRun, seen: dict[int, str]) -> None:
    """Writes a call's figures; weights that an earlier call had are counted there."""
    made.macs_forward, made.macs_backward = work.total("forward"), work.total("backward")
    made.elements, made.activation_bytes, made.output_bytes = work.total("elements"), work.total("kept"), work.total("written")
    weights = weights_of(work.module) if work.module is not None else []
    own = [w for w in weights if id(w) not in seen]
    made.shared = next((seen[id(w)] for w in weights if id(w) in seen), "")
    for w in own:
        seen[id(w)] = made.name
        made.params += w.numel()
        made.weight_bytes += w.numel() * w.element_size()
        made.gradient_bytes += run.gradients.get(id(w), 0)
        made.optimizer_bytes += run.slots.get(id(w), 0)
    for key in {id(held) for held in packed_objects(work.module)} if run.packed and work.module is not None else ():
        if key not in seen:
            seen[key] = made.name
            made.params += run.packed[key][0]
            made.weight_bytes += run.packed[key][1]
