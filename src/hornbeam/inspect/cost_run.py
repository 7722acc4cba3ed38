"""One training step of any module on fake tensors: what each call computes and keeps, without data and without weights.

The module runs its own Python on tensors that have shapes, strides and a device but no memory (torch's FakeTensorMode), so that
exactly the kernels run that would run on that device, forward and backward. A kernel's cost is that of the call around it; in
the backward pass autograd's sequence numbers tell which call made the gradient's node.
"""

from __future__ import annotations

import sys
import weakref
from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from hornbeam.core import dtype as dtypes
from hornbeam.core.layer import Layer
from hornbeam.core.weights import dress, in_storage_order, raw
from hornbeam.graph import record as recording
from hornbeam.graph import tree
from hornbeam.graph.context import setting
from hornbeam.graph.infer import looking
from hornbeam.graph.node import Node, Ref, Spec
from hornbeam.inspect.cost_memory import Memory
from hornbeam.inspect.cost_rules import multiply_adds

_sequence_number = torch._C._autograd._get_sequence_nr  # type: ignore[attr-defined]


class Work:
    """What one call does itself, without the calls inside it.

    Attributes:
        owner: the module in whose code the call stands.
        module: the module called, or None for a function.
        name: the call's name in its owner's graph.
        path: dotted path of the module called; of a function, that of its owner and its name.
        forward, backward: multiply-adds.
        elements, elements_backward: numbers that all other kernels wrote.
        kept: bytes that autograd keeps for the backward pass and that no earlier call keeps already.
        written: bytes of the outputs of its kernels, views left out.
        inner: the calls inside it.
    """

    __slots__ = (
        "backward", "elements", "elements_backward", "forward", "inner", "kept", "module", "name", "node", "owner", "path",
        "written",
    )  # fmt: skip

    def __init__(self, owner: Any, module: nn.Module | None, name: str, path: str, node: Node | None = None) -> None:
        self.owner, self.module, self.name, self.path, self.node = owner, module, name, path, node
        self.forward = self.backward = self.elements = self.elements_backward = self.kept = self.written = 0
        self.inner: list[Work] = []

    def total(self, what: str) -> int:
        """Returns one of the figures, with that of all calls inside."""
        return getattr(self, what) + sum(w.total(what) for w in self.inner)

    def walk(self) -> Iterator[Work]:
        """Yields this call and all inside it."""
        yield self
        for work in self.inner:
            yield from work.walk()


class _Forgetting:
    """Takes the place of the recorder's list of tensors to keep: they may go, and are then no longer known."""

    def __init__(self, known: dict[int, Any]) -> None:
        self.known = known
        self.watching: dict[int, Any] = {}

    def append(self, value: torch.Tensor) -> None:
        key = id(value)
        self.watching[key] = weakref.ref(value, lambda _: (self.known.pop(key, None), self.watching.pop(key, None)))


class _Frame(recording._Run):
    """An open call of a module whose inner calls are told apart as the recorder tells them apart."""

    def __init__(self, work: Work, run: StepRun) -> None:
        super().__init__(work.module)  # type: ignore[arg-type]
        self.work, self.run = work, run
        self.between: Work | None = None
        self.called: Work | None = None
        self.counts: dict[str, int] = {}
        self.alive: Any = _Forgetting(self.known)

    def target(self) -> Work:
        """The call that a kernel belongs to which runs now: that of the function whose node will be bound next."""
        if self.between is None:
            self.between = Work(self.module, None, "", self.work.path)
            self.work.inner.append(self.between)
        return self.between

    def inner_call(self, module: nn.Module) -> Work:
        self.called = Work(self.module, module, "", self.run.paths.get(id(module), ""))
        self.work.inner.append(self.called)
        return self.called

    def bind(self, node: Node, result: Any) -> None:
        """Names the call that has ended; tensors are known only as long as they live."""
        node.args, node.kwargs = (), {}
        for i, value in enumerate(v for v in tree.leaves(result) if isinstance(v, torch.Tensor)):
            self.known[id(value)] = Ref(node, i)
            self.alive.append(value)
        if node.kind == "module" and self.called is not None:
            self.called.name = node.name
        elif node.kind == "function":
            work = self.target()
            count = self.counts.get(node.name, 0)
            self.counts[node.name] = count + 1
            work.name = node.name if not count else f"{node.name}_{count}"
            work.path = f"{self.work.path}.{work.name}".lstrip(".")
        self.between = None


class _GraphFrame:
    """An open call of a model that runs from its graph: the line that runs tells the node."""

    def __init__(self, work: Work, run: StepRun) -> None:
        self.work, self.run, self.model = work, run, work.module
        self.by_node: dict[int, Work] = {}

    def node(self) -> Node | None:
        model: Any = self.model
        tables = [model._lowered.lines, *(masked.lines for masked in model._masked.values())]
        frame: Any = sys._getframe(2)
        while frame is not None:
            for lines in tables:
                found = lines.get((frame.f_code, frame.f_lineno))
                if found is not None:
                    return found
            frame = frame.f_back
        return None

    def target(self) -> Work:
        """The call that a kernel belongs to which runs now."""
        node = self.node()
        return self.work if node is None else self.of(node)

    def of(self, node: Node) -> Work:
        """The call that a node stands for."""
        work = self.by_node.get(id(node))
        if work is None:
            model: Any = self.model
            module = model._child(node.target) if node.kind == "module" else None
            path = self.run.paths.get(id(module)) or f"{self.work.path}.{node.name}".lstrip(".")
            work = self.by_node[id(node)] = Work(model, module, node.name, path, node)
            self.work.inner.append(work)
        return work

    def inner_call(self, module: nn.Module) -> Work:
        node = self.node()
        if node is not None:
            return self.of(node)
        work = Work(self.model, module, type(module).__name__, self.run.paths.get(id(module), ""))
        self.work.inner.append(work)
        return work

    def function(self, *_: Any) -> None:
        """Functions need no note: their lines tell."""

    def call(self, module: nn.Module, plain: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        return plain(module, *args, **kwargs)


def _is_open(module: nn.Module) -> bool:
    """Whether a module's inner calls are told apart; a built-in layer's are not."""
    if not module._modules and not isinstance(getattr(module, "graph", None), recording.Graph):
        return False
    return not (isinstance(module, Layer) and not hasattr(module, "layers") and type(module).__module__.startswith("hornbeam."))


class StepRun(TorchDispatchMode):
    """Runs a module once, forward and, in training, backward.

    Args:
        module: any module.
        memory: what follows the memory in use.

    Attributes:
        root: the module's own call.
        loss: what the loss computes and keeps, which is not the module's.
    """

    def __init__(self, module: nn.Module, memory: Memory) -> None:
        super().__init__()
        self.module, self.memory = module, memory
        self.paths = {id(m): path for path, m in module.named_modules()}
        self.root = Work(None, module, getattr(module, "name", None) or type(module).__name__, "")
        self.loss = Work(None, None, "loss", "")
        self.open: list[Any] = []
        self.backward = False
        self.input_bytes = 0
        self.device = next((p.device for p in parameters(module) if p.device.type != "meta"), torch.device("cpu"))
        self.sequence = _sequence_number()
        self.starts: list[int] = [self.sequence]
        self.targets: list[Work] = [self.root]

    # -- what the recorder's hooks tell

    def call(self, module: nn.Module, plain: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Stands in for a module's call."""
        if self.backward or (self.open and not isinstance(self.open[-1], (_Frame, _GraphFrame))):
            return plain(module, *args, **kwargs)
        outer = self.open[-1] if self.open else None
        work = self.root if outer is None else outer.inner_call(module)
        if outer is None:
            return self._enter(module, work, plain, args, kwargs)
        return outer.call(module, lambda m, *a, **k: self._enter(m, work, plain, a, k), args, kwargs)

    def _enter(self, module: nn.Module, work: Work, plain: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        lowered = getattr(module, "_lowered", None)
        frame: Any = work
        if _is_open(module):
            frame = _GraphFrame(work, self) if lowered is not None else _Frame(work, self)
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
        if isinstance(frame, _Frame):
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
        made = torch.empty(shape, dtype=dtypes.to_torch(spec.dtype), device=self.device)
        self.memory.add(made, counted=False)
        self.input_bytes += made.numel() * made.element_size()
        return made

    def run(self, args: Any, kwargs: Any, loss: Callable[[Any], torch.Tensor | None] | None) -> Any:
        """Calls the module, and takes the gradient of a loss of its outputs where there is one."""
        hooks = torch.autograd.graph.saved_tensors_hooks(self._pack, lambda tensor: tensor)
        with self, hooks, recording._Functions():
            outputs = self.module(*args, **kwargs)
        if loss is None:
            return outputs
        self.mark(self.root)
        self.open.append(self.loss)
        with self, hooks:
            value = loss(outputs)
            self.mark(self.loss)
            self.backward = True
            if value is not None and value.requires_grad:
                value.backward()
        return outputs


def parameters(module: nn.Module) -> Iterator[torch.Tensor]:
    """Yields every parameter and buffer of a module and its parts, without making any value; shared ones more than once."""
    for part in module.modules():
        for slot in ("_parameters", "_buffers"):
            yield from (v for v in raw(part, slot).values() if v is not None)


def sizes_of(spec: Spec, batch: int) -> Any:
    """Returns the concrete shape (or number) of a Spec for a batch; other axes that vary have their stand-in's size."""
    sample = spec.samples[0]
    return sample if spec.is_number else tuple(
        (batch if size == 0 else size) if d is None else d for d, size in zip(spec.shape, sample, strict=True)
    )


@contextmanager
def stand_ins(module: nn.Module, fake: Any, memory: Memory, training: bool) -> Iterator[dict[int, torch.Tensor]]:
    """Puts fake tensors in the place of all weights and buffers for a block; yields them by the id of what they stand for."""
    made: dict[int, torch.Tensor] = {}
    before: list[tuple[dict[str, Any], str, Any]] = []

    def swap(value: Any) -> Any:
        return made.get(id(value), value)

    with fake:
        for value in parameters(module):
            if id(value) not in made:
                made[id(value)] = _fake(value)
                memory.add(made[id(value)], counted=False)
    try:
        for part in module.modules():
            d = part.__dict__
            for key, value in list(d.items()):
                if key in ("_parameters", "_buffers"):
                    new = {k: swap(v) for k, v in raw(part, key).items()}
                elif key != "_modules" and isinstance(value, (list, tuple, dict, torch.Tensor)) and value is not None:
                    if not any(id(leaf) in made for leaf in ([value] if isinstance(value, torch.Tensor) else tree.leaves(value))):
                        continue
                    new = tree.map_leaves(swap, value)
                else:
                    continue
                before.append((d, key, value))
                d[key] = new
            before.append((d, "training", d["training"]))
            d["training"] = training
        yield made
    finally:
        for d, key, value in reversed(before):
            d[key] = value


def _fake(value: torch.Tensor) -> torch.Tensor:
    spec = getattr(value, "_spec", None)
    device = "cpu" if value.device.type == "meta" else value.device
    if getattr(value, "_lazy", False) or value.device.type == "meta":
        made = in_storage_order(torch.empty(value.shape, dtype=value.dtype, device=device), getattr(spec, "storage", None))
    else:
        made = torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device=device)
    made.requires_grad_(value.requires_grad)
    return dress(made, spec) if spec is not None else made


def run_step(
    module: nn.Module, args: Any, kwargs: Any, batch: int, training: bool, loss: Any, after: Callable[..., Any] | None = None
) -> StepRun:  # fmt: skip
    """Runs a step on fake tensors of the arguments' shapes.

    Args:
        module: any module, built.
        args, kwargs: its arguments, with a Spec for each tensor.
        batch: the size of the batch.
        training: whether the module trains; the gradient is taken then.
        loss: makes a scalar of the outputs, or None where no gradient is wanted.
        after: called in the end with the stand-ins of all weights by the id of the weight.
    """
    from torch._subclasses.fake_tensor import FakeTensorMode  # loads sympy

    fake = FakeTensorMode(allow_non_fake_inputs=True)
    memory = Memory()
    run = StepRun(module, memory)
    put = lambda v: run.input(v, batch) if isinstance(v, Spec) else v  # noqa: E731
    with (
        looking(training), torch.set_grad_enabled(training), recording._quiet(module),
        setting(recorder=run, training=training, depth=0, root=None), stand_ins(module, fake, memory, training) as weights, fake,
    ):  # fmt: skip
        run.run(tree.map_leaves(put, args), tree.map_leaves(put, kwargs), loss)
        if after is not None:
            after(run, weights)
    return run
