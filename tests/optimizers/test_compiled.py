"""A compiled step equals the eager one, is compiled once, and leaves the same state."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from hornbeam import optimizers
from hornbeam.optimizers import schedules
from hornbeam.optimizers.mirrored import Mirrored

SHAPES = [(5, 3), (3,), (2, 2, 3)]
CASES: list[tuple[str, dict[str, Any]]] = [
    ("SGD", {}),
    ("SGD", {"momentum": 0.9}),
    ("SGD", {"momentum": 0.9, "nesterov": True, "weight_decay": 0.01, "clipvalue": 0.5}),
    ("Adam", {"amsgrad": True, "global_clipnorm": 0.7, "loss_scale_factor": 4.0}),
    ("AdamW", {"clipnorm": 1.0}),
    ("Adam", {"use_ema": True, "ema_momentum": 0.8, "ema_overwrite_frequency": 3}),
    ("Adam", {"gradient_accumulation_steps": 3, "use_ema": True, "ema_overwrite_frequency": 2}),
    ("Adam", {"learning_rate": schedules.CosineDecay(0.01, 15, warmup_target=0.02, warmup_steps=5)}),
    ("RMSprop", {"momentum": 0.9, "centered": True}),
    ("Adagrad", {}),
    ("Adadelta", {}),
    ("Adamax", {}),
    ("Nadam", {"gradient_accumulation_steps": 2}),
    ("Ftrl", {"l1_regularization_strength": 0.1, "beta": 0.4}),
    ("Lion", {}),
    ("Lamb", {}),
    ("Adafactor", {}),
    ("Muon", {}),
    ("ScheduleFreeAdamW", {"warmup_steps": 4}),
]


def parameters() -> list[torch.nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return [torch.nn.Parameter(torch.randn(s, generator=generator)) for s in SHAPES]


def run_both(eager: Any, compiled: Any, steps: int = 8, eager_between: int | None = 5, scale: float = 1.0) -> int:
    """Steps both optimizers on the same gradients, compares everything, returns how often the step was compiled."""
    frames = [0]

    def backend(graph: Any, example: Any) -> Any:
        frames[0] += 1
        return graph.forward

    torch._dynamo.reset()
    mine, theirs = parameters(), parameters()
    eager.build(mine)
    compiled.build(theirs)
    step = torch.compile(lambda grads: compiled.apply(grads, theirs), backend=backend, fullgraph=True, dynamic=False)
    generator = torch.Generator().manual_seed(1)
    for i in range(steps):
        grads = [torch.randn(s, generator=generator) * scale * (float("inf") if scale != 1 and i == 2 else 1) for s in SHAPES]
        eager.apply(grads, mine)
        if i == eager_between:
            compiled.apply(grads, theirs)
        else:
            step(grads)
    assert int(eager.iterations) == int(compiled.iterations)
    for a, b in zip([*mine, *eager.variables], [*theirs, *compiled.variables], strict=True):
        torch.testing.assert_close(b.detach(), a.detach(), rtol=1e-6, atol=1e-6)
    assert not torch.equal(parameters()[0], theirs[0])
    return frames[0]


@pytest.mark.parametrize(("name", "options"), CASES)
def test_compiled_equals_eager_and_compiles_once(name: str, options: dict[str, Any]) -> None:
    options = {"learning_rate": 0.01, "name": "it", **options}
    cls = getattr(optimizers, name)
    assert run_both(cls(**options), cls(**options)) == 1


def test_loss_scale_and_multi_optimizer_compile() -> None:
    def scaled() -> Any:
        return optimizers.LossScaleOptimizer(optimizers.Adam(0.01), initial_scale=8.0, dynamic_growth_steps=2)

    def several() -> Any:
        small, big = optimizers.SGD(0.1), optimizers.Adam(0.01)
        return optimizers.MultiOptimizer(lambda v: big if v.dim() > 1 else small)

    assert run_both(scaled(), scaled(), scale=8.0) == 1
    assert run_both(several(), several()) == 1


def test_a_new_learning_rate_needs_no_new_compilation() -> None:
    optimizer, ws = optimizers.SGD(0.5), [torch.nn.Parameter(torch.zeros(2))]
    optimizer.build(ws)
    frames = [0]

    def backend(graph: Any, example: Any) -> Any:
        frames[0] += 1
        return graph.forward

    torch._dynamo.reset()
    step = torch.compile(lambda g: optimizer.apply([g], ws), backend=backend, fullgraph=True, dynamic=False)
    for rate in (0.5, 0.25, 0.125):
        optimizer.learning_rate = rate
        step(torch.ones(2))
    assert ws[0].tolist() == [-0.875, -0.875]
    assert frames[0] == 1
    assert optimizer.iterations == 3


@pytest.mark.slow
def test_inductor_compiles_a_whole_adam_step() -> None:
    torch._dynamo.reset()
    eager, compiled = optimizers.Adam(0.01), optimizers.Adam(0.01)
    mine, theirs = parameters(), parameters()
    eager.build(mine)
    compiled.build(theirs)
    step = torch.compile(lambda grads: compiled.apply(grads, theirs), fullgraph=True, dynamic=False)
    for i in range(4):
        grads = [torch.randn(s, generator=torch.Generator().manual_seed(i)) for s in SHAPES]
        eager.apply(grads, mine)
        step(grads)
    for a, b in zip([*mine, *eager.variables], [*theirs, *compiled.variables], strict=True):
        torch.testing.assert_close(b.detach(), a.detach(), rtol=1e-6, atol=1e-6)


def test_an_unbuilt_optimizer_says_so_in_a_compiled_step() -> None:
    torch._dynamo.reset()
    optimizer, ws = optimizers.SGD(0.5), [torch.nn.Parameter(torch.zeros(2))]
    step = torch.compile(lambda g: optimizer.apply([g], ws), backend="eager", fullgraph=True)
    with pytest.raises(Exception, match="before the compiled step"):
        step(torch.ones(2))


def test_a_number_off_the_cpu_is_read_back_only_after_compiled_code_wrote_it() -> None:
    number = Mirrored(3, torch.int64)
    number._open = lambda: None  # type: ignore[method-assign]
    number.shared = False  # as on an accelerator: the host keeps a copy of its own
    number._host = memoryview(number.tensor.clone().numpy())
    number.set(5)
    assert number.tensor.item() == number.get() == 5
    number.write(number.scalar() + 1)
    assert number.ahead
    assert number._host[0] == 5
    del number._open
    assert number.get() == 6
    assert not number.ahead
