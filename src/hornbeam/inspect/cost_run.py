"""One training step of any module on fake tensors: what each call computes and keeps, without data and without weights.

The module runs its own Python on tensors that have shapes, strides and a device but no memory (torch's FakeTensorMode), so that
exactly the kernels run that would run on that device, forward and backward. A kernel's cost is that of the call around it; in
the backward pass autograd's sequence numbers tell which call made the gradient's node.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from hornbeam.core import dtype as dtypes
from hornbeam.graph import record as recording
from hornbeam.graph import tree
from hornbeam.graph.context import setting
from hornbeam.graph.infer import looking
from hornbeam.graph.node import Spec
from hornbeam.inspect.cost_frames import GraphFrame, RecordedFrame, Work, is_open
from hornbeam.inspect.cost_memory import Memory
from hornbeam.inspect.cost_optimizer import Update
from hornbeam.inspect.cost_rules import multiply_adds
from hornbeam.inspect.cost_stand_ins import fake_of, parameters, real_of, sizes_of, standing_in

_sequence_number = torch._C._autograd._get_sequence_nr  # type: ignore[attr-defined]


class StepRun(TorchDispatchMode):
    """Runs a module once, forward and, in training, backward.

    Args:
        module: any module.
        memory: what follows the memory in use.
        real: whether tensors have memory.

    Attributes:
        root: the module's own call.
        loss: what the loss computes and keeps, which is not the module's.
        input_bytes, slot_bytes: of the batch, and of all that the optimizer keeps.
        slots, gradients: bytes of the optimizer's slots and of the gradient, by the id of the weight.
    """

    def __init__(self, module: nn.Module, memory: Memory, real: bool = False) -> None:
        super().__init__()
        self.module, self.memory, self.real = module, memory, real
        self.paths = {id(m): path for path, m in module.named_modules()}
        self.root = Work(None, module, getattr(module, "name", None) or type(module).__name__, "")
        self.loss = Work(None, None, "loss", "")
        self.open: list[Any] = []
        self.backward = False
        self.input_bytes = self.slot_bytes = 0
        self.slots: dict[int, int] = {}
        self.gradients: dict[int, int] = {}
        self.device = next((p.device for p in parameters(module) if p.device.type != "meta"), torch.device("cpu"))
        self.sequence = _sequence_number()
        self.starts: list[int] = [self.sequence]
        self.targets: list[Work] = [self.root]

    # -- what the recorder's hooks tell

    def call(self, module: nn.Module, plain: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Stands in for a module's call."""
        if self.backward or (self.open and not isinstance(self.open[-1], (RecordedFrame, GraphFrame))):
            return plain(module, *args, **kwargs)
        outer = self.open[-1] if self.open else None
        work = self.root if outer is None else outer.inner_call(module)
        if outer is None:
            return self._enter(module, work, plain, args, kwargs)
        return outer.call(module, lambda m, *a, **k: self._enter(m, work, plain, a, k), args, kwargs)

    def _enter(self, module: nn.Module, work: Work, plain: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        lowered = getattr(module, "_lowered", None)
        frame: Any = work
        if is_open(module):
            frame = GraphFrame(work, self.paths) if lowered is not None else RecordedFrame(work, self.paths)
        self.sequence = _sequence_number()
        self.open.append(frame)
        try:
            return frame.call(module, plain, args, kwargs) if frame is not work else plain(module, *args, **kwargs)
        finally:
            self.open.pop()
            self.mark(work)
            self.sequence = _sequence_number()

    def function(self, function: Any, args: Any, kwargs: Any, result: Any) -> None:
        """Notes that a torch function was called by Python code."""
        if self.backward or not self.open:
            return
        frame = self.open[-1]
        if isinstance(frame, RecordedFrame):
            frame.function(function, args, kwargs, result)
        self.mark(self.target())
        self.sequence = _sequence_number()

    # -- whose work it is

    def target(self) -> Work:
        """The call that what runs now belongs to."""
        if self.backward:
            return self._backward_target()
        if not self.open:
            return self.root
        frame = self.open[-1]
        return frame if isinstance(frame, Work) else frame.target()

    def mark(self, work: Work) -> None:
        """Notes that nodes of autograd made since the last mark are a call's."""
        if _sequence_number() > self.sequence:
            self.starts.append(self.sequence)
            self.targets.append(work)
            self.sequence = _sequence_number()

    def _backward_target(self) -> Work:
        node = torch._C._current_autograd_node()  # type: ignore[attr-defined]
        number = -1 if node is None else node._sequence_nr()
        if number < 0 or number >= 1 << 62:
            return self.root
        return self.targets[max(bisect_right(self.starts, number) - 1, 0)]

    # -- what kernels cost

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        space, _, name = func._schema.name.partition("::")
        if space == "prim":
            return out
        with torch._C.DisableTorchFunction():
            self._charge(func, name, args, kwargs, out)
        return out

    def _charge(self, func: Any, name: str, args: Any, kwargs: Any, out: Any) -> None:
        work = self.target()
        self.mark(work)
        made = multiply_adds(name, args, kwargs, out)
        written = 0
        changes = func._schema.is_mutable
        empty = name.startswith(("empty", "new_empty"))
        for leaf in (out,) if isinstance(out, torch.Tensor) else tree.leaves(out):
            if isinstance(leaf, torch.Tensor) and (self.memory.add(leaf) or changes) and not empty:
                written += leaf.numel()
                work.written += 0 if self.backward or changes else leaf.numel() * leaf.element_size()
        if self.backward:
            work.backward += made
            work.elements_backward += 0 if made else written
        else:
            work.forward += made
            work.elements += 0 if made else written

    def _pack(self, tensor: torch.Tensor) -> torch.Tensor:
        with torch._C.DisableTorchFunction():
            if not self.backward:
                self.target().kept += self.memory.keep(tensor)
        return tensor

    # -- the run

    def input(self, spec: Spec, batch: int) -> Any:
        """Returns a fake tensor (or a number) for a Spec."""
        shape = sizes_of(spec, batch)
        if spec.is_number:
            return shape
        dtype = dtypes.to_torch(spec.dtype)
        make = torch.rand if self.real and dtype.is_floating_point else torch.zeros
        made = make(shape, dtype=dtype, device=self.device)
        self.memory.add(made, counted=False)
        self.input_bytes += made.numel() * made.element_size()
        return made

    def run(self, args: Any, kwargs: Any, loss: Callable[[Any], torch.Tensor | None] | None) -> None:
        """Calls the module, and takes the gradient of a loss of its outputs where there is one."""
        hooks = torch.autograd.graph.saved_tensors_hooks(self._pack, lambda tensor: tensor)
        with self, hooks, recording._Functions():
            outputs = self.module(*args, **kwargs)
        self.outputs = outputs  # whoever trains holds them until the step is over
        if loss is None:
            return
        self.mark(self.root)
        self.open.append(self.loss)
        with self, hooks:
            value = loss(outputs)
            self.mark(self.loss)
            self.backward = True
            if value is not None and value.requires_grad:
                value.backward()

    def update(self, update: Update) -> None:
        """Makes the optimizer's step."""
        self.backward = False
        self.slots, self.slot_bytes = update.slots, update.total
        for tensor in (*update.tensors, *update.learning, *(w.grad for w in update.learning if w.grad is not None)):
            self.memory.add(tensor, counted=False)
        if update.step is not None and self.gradients:
            with self:
                update.step()


def run_step(
    module: nn.Module, args: Any, kwargs: Any, batch: int, training: bool, loss: Any, optimizer: Any = None, real: bool = False
) -> StepRun:
    """Runs a step on tensors of the arguments' shapes, and leaves no trace.

    Args:
        module: any module, built.
        args, kwargs: its arguments, with a Spec for each tensor.
        batch: the size of the batch.
        training: whether the module trains; the gradient is taken then.
        loss: makes a scalar of the outputs, or None where no gradient is wanted.
        optimizer: what updates the weights in the end, or None.
        real: whether tensors have memory and values, for a module whose Python looks at them.
    """
    from torch._subclasses.fake_tensor import FakeTensorMode  # loads sympy

    fake = FakeTensorMode(allow_non_fake_inputs=True)
    run = StepRun(module, Memory(), real)
    put = lambda v: run.input(v, batch) if isinstance(v, Spec) else v  # noqa: E731
    owned = {id(v): v for v in parameters(module)}
    with looking(training), torch.set_grad_enabled(training), recording._quiet(module):
        with nullcontext() if real else fake:
            weights = {key: (real_of if real else fake_of)(value) for key, value in owned.items()}
            for weight in weights.values():
                run.memory.add(weight, counted=False)
            with setting(recorder=run, training=training, depth=0, root=None), standing_in(module, weights, training):
                run.run(tree.map_leaves(put, args), tree.map_leaves(put, kwargs), loss)
        run.gradients = {key: w.grad.untyped_storage().nbytes() for key, w in weights.items() if w.grad is not None}
        if training:
            with fake:
                run.update(Update(optimizer, _without_memory(weights) if real else weights))
    return run


def _without_memory(weights: dict[int, torch.Tensor]) -> dict[int, torch.Tensor]:
    """Fake tensors for weights with memory, and for their gradients."""
    made = {key: fake_of(weight) for key, weight in weights.items()}
    for key, weight in weights.items():
        if weight.grad is not None:
            made[key].grad = torch.empty_like(made[key])
    return made
