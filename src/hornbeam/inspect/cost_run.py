"""One training step of any module on fake tensors: what each call computes and keeps, without data and without weights.

The module runs its own Python on tensors that have shapes, strides and a device but no memory (torch's FakeTensorMode), so that
exactly the kernels run that would run on that device, forward and backward. A kernel's cost is that of the call around it; in
the backward pass autograd's sequence numbers tell which call made the gradient's node.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext, suppress
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
from hornbeam.inspect.cost_frames import Calls, Work
from hornbeam.inspect.cost_memory import Memory, scratch, workspace
from hornbeam.inspect.cost_optimizer import UNKNOWABLE, Update
from hornbeam.inspect.cost_packed import is_known, packed_objects, sizes, unpacked
from hornbeam.inspect.cost_rules import multiply_adds
from hornbeam.inspect.cost_stand_ins import fake_of, parameters, real_of, sizes_of, standing_in

_FAKE, _DEVICE = torch._subclasses.fake_tensor.FakeTensor, torch.ops.prim.device.default


class StepRun(Calls, TorchDispatchMode):
    """Runs a module once, forward and, in training, backward.

    Args:
        module: any module.
        memory: what follows the memory in use.
        real: whether tensors have memory.

    Attributes:
        loss: what the loss computes and keeps, which is not the module's.
        input_bytes, slot_bytes: of the batch, and of all that the optimizer keeps.
        slots, gradients: bytes of the optimizer's slots and of the gradient, by the id of the weight.
        notes: what could not be told.
        unknown: kernels of which nothing is known, each with the first call that made it.
        packed: numbers and bytes of weights that are no tensors, by the id of what holds them.
    """

    def __init__(self, module: nn.Module, memory: Memory, real: bool = False) -> None:
        Calls.__init__(self, module)
        TorchDispatchMode.__init__(self)
        self.memory, self.real = memory, real
        self.loss = Work(None, None, "loss", "")
        self.backward = False
        self.input_bytes = self.slot_bytes = 0
        self.slots: dict[int, int] = {}
        self.gradients: dict[int, int] = {}
        self.notes: list[str] = []
        self.unknown: dict[str, Work] = {}
        self.packed = _packed(module, self.notes)
        self.device = next((p.device for p in parameters(module) if p.device.type != "meta"), torch.device("cpu"))

    def call(self, module: nn.Module, plain: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Stands in for a module's call; one that is made again in the backward pass belongs to what asks for it."""
        return plain(module, *args, **kwargs) if self.backward else super().call(module, plain, args, kwargs)

    def target(self) -> Work:
        """The call that what runs now belongs to."""
        return self.maker_of(torch._C._current_autograd_node()) if self.backward else super().target()  # type: ignore[attr-defined]

    # -- what kernels cost

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is _DEVICE and type(args[0]) is _FAKE:  # autograd asks for it all the time
            return args[0].fake_device
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        space, _, name = func._schema.name.partition("::")
        if space == "prim":
            return out
        with torch._C.DisableTorchFunction():
            self._charge(func, name if space == "aten" else func._schema.name, args, kwargs, out)
        return out

    def _charge(self, func: Any, name: str, args: Any, kwargs: Any, out: Any) -> None:
        work = self.target()
        self.mark(work)
        made = multiply_adds(name, args, kwargs, out)
        if not is_known(func._schema.name, made):
            self.unknown.setdefault(func._schema.name, work)
        self.memory.visit(scratch(name, args))
        hidden = workspace(name, args)
        if hidden is not None:
            self.memory.add(out[-1], size=hidden)
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
        if update.note:
            self.notes.append(update.note)
        if update.step is not None and self.gradients:
            with self, suppress(*UNKNOWABLE):  # a loss scale is looked at before anything is done
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
    fake.cache_enabled &= not run.packed  # it would compare what cannot be compared
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
    if run.unknown:
        where = ", ".join(f"{kernel} in {work.path or work.name!r}" for kernel, work in run.unknown.items())
        run.notes.append(f"The multiply-adds of kernels that are not known are not counted: {where}.")
    return run


def _packed(module: nn.Module, notes: list[str]) -> dict[int, tuple[int, int]]:
    """The sizes of packed weights, by the id of what holds them."""
    found = {id(held): unpacked(held) for held in packed_objects(module)}
    if None in found.values():
        notes.append("The model holds packed weights whose sizes are not known: they are not counted.")
    return {key: sizes(weights or []) for key, weights in found.items()}


def _without_memory(weights: dict[int, torch.Tensor]) -> dict[int, torch.Tensor]:
    """Fake tensors for weights with memory, and for their gradients."""
    made = {key: fake_of(weight) for key, weight in weights.items()}
    for key, weight in weights.items():
        if weight.grad is not None:
            made[key].grad = torch.empty_like(made[key])
    return made
