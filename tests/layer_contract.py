"""What every layer promises, as checks on one `Row`: a class, its arguments, and an input it takes. Keras is the oracle."""

from __future__ import annotations

import copy
import os
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
import torch
from torch import nn

from hornbeam import layers
from hornbeam.core.dtype import set_dtype_policy
from hornbeam.graph import tree


@dataclass
class Row:
    """One layer under test.

    Attributes:
        name: of the class, in `hornbeam.layers` and in `keras.layers`.
        kwargs: constructor arguments, or a function that makes them of the library's `layers` module.
        shapes: batch shape of the input, or a list of them.
        free: axes besides the batch that may be unknown.
        integers: None for floats, or the bound below which integer inputs lie.
        spread: whether several inputs are several arguments, not one list.
        random: whether training draws random numbers.
        heavy: whether compiling and exporting it is left to its sibling of lower rank.
        leave_out: names of checks that do not apply, with the reason.
    """

    name: str
    kwargs: dict[str, Any] | Callable[[Any], dict[str, Any]] = field(default_factory=dict)
    shapes: Any = (2, 6, 4)
    free: tuple[int, ...] = ()
    integers: int | None = None
    spread: bool = False
    random: bool = False
    heavy: bool = False
    leave_out: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        shown = "" if callable(self.kwargs) or not self.kwargs else "-" + ",".join(f"{k}={v}" for k, v in self.kwargs.items())
        return f"{self.name}{shown}-{self.shapes}"

    def make(self, library: Any = layers, **extra: Any) -> Any:
        """Returns a new layer of ours, or of Keras's."""
        kwargs = self.kwargs(library) if callable(self.kwargs) else self.kwargs
        return getattr(library, self.name)(**{"name": "it", **kwargs, **extra})

    @property
    def shape_list(self) -> list[tuple[int, ...]]:
        return self.shapes if isinstance(self.shapes, list) else [self.shapes]

    def inputs(self, batch: int | None = None, seed: int = 0) -> tuple[Any, ...]:
        """Returns the positional arguments of a call."""
        made = []
        generator = torch.Generator().manual_seed(seed)
        for shape in self.shape_list:
            sizes = shape if batch is None else (batch, *shape[1:])
            if self.integers is None:
                made.append(torch.randn(sizes, generator=generator))
            else:
                made.append(torch.randint(0, self.integers, sizes, generator=generator))
        return self.packed(made)

    def symbols(self, free: bool, library: Any = layers, batch: int | None = None) -> tuple[Any, ...]:
        """Returns symbolic arguments, the free axes unknown where `free`."""
        dtype = "float32" if self.integers is None else "int64"
        cut = lambda s: (batch, *(None if free and i in self.free else d for i, d in enumerate(s) if i))  # noqa: E731
        return self.packed([library.Input(batch_shape=cut(s), dtype=dtype) for s in self.shape_list])

    def packed(self, values: list[Any]) -> tuple[Any, ...]:
        return tuple(values) if self.spread else (values if isinstance(self.shapes, list) else values[0],)


def flat(nest: Any) -> list[Any]:
    return tree.leaves(nest)


def equal(mine: Any, other: Any, tolerance: float = 1e-5) -> None:
    for a, b in zip(flat(mine), flat(other), strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


def settings(config: Any) -> Any:
    """Returns a config without automatic names of inner layers, and without the shapes a layer was built for."""
    if isinstance(config, dict):
        left_out = ("name", "build_config") if "module" not in config or "config" in config else ()
        return {k: settings(v) for k, v in config.items() if k not in left_out}
    return [settings(v) for v in config] if isinstance(config, list) else config


def check_config(row: Row) -> None:
    """The config is Keras's and makes an equal layer."""
    layer = row.make()
    config = layer.get_config()
    assert settings(config) == settings(row.make(keras.layers).get_config())
    assert settings(type(layer).from_config(config).get_config()) == settings(config)
    again = layers.deserialize(layers.serialize(layer))
    assert type(again) is type(layer)
    assert again.name == "it"


def check_shapes(row: Row) -> None:
    """A symbolic call says what shape and dtype come out, None exactly where an axis varies."""
    real = flat(row.make()(*row.inputs()))
    for free in (False, True) if row.free else (False,):
        symbolic = flat(row.make()(*row.symbols(free)))
        assert len(symbolic) == len(real)
        for s, r in zip(symbolic, real, strict=True):
            assert len(s.shape) == r.dim()
            assert all(a is None or a == b for a, b in zip(s.shape, r.shape, strict=True)), (s.shape, r.shape)
            assert s.dtype == str(r.dtype).removeprefix("torch.")
            if not free:
                assert None not in s.shape[1:]
    fixed = flat(row.make()(*row.symbols(False, batch=row.shape_list[0][0])))
    assert [s.shape for s in fixed] == [tuple(r.shape) for r in real]


def check_shapes_of_keras(row: Row) -> None:
    """Unknown axes come out as Keras has them, or better known."""
    for free in (False, True) if row.free else (False,):
        mine = flat(row.make()(*row.symbols(free)))
        other = keras.tree.flatten(row.make(keras.layers)(*row.symbols(free, keras)))
        for a, b in zip(mine, other, strict=True):
            assert len(a.shape) == len(b.shape)
            assert all(p == q or q is None for p, q in zip(a.shape, b.shape, strict=True)), (a.shape, b.shape)


def check_mask(row: Row) -> None:
    """A mask is handed on, changed or dropped as in Keras."""
    if row.spread or len(row.shape_list[0]) < 3 or row.integers is not None:
        return

    def run(library: Any) -> list[Any]:
        layer = row.make(library)
        inputs = row.inputs()
        for x in flat(inputs):
            x._keras_mask = torch.ones(x.shape[:2], dtype=torch.bool)
            x._keras_mask[0, -1] = False
        return [getattr(y, "_keras_mask", None) for y in flat(layer(*inputs))]

    for a, b in zip(run(layers), run(keras.layers), strict=True):
        assert (a is None) == (b is None), (a, b)
        if a is not None:
            assert torch.equal(a, b)


def check_training_step(row: Row) -> None:
    """Each trainable weight gets a gradient, and an optimizer's step changes it."""
    layer = row.make()
    torch.manual_seed(0)
    layer(*row.inputs())
    weights = layer.trainable_weights
    assert len(weights) == len(list(layer.parameters()))
    if not weights:
        return
    with torch.no_grad():
        for i, w in enumerate(weights):  # away from initial zeros, which can stand in the way of a gradient
            w.add_(0.1 * torch.randn(w.shape, generator=torch.Generator().manual_seed(i)))
    before = [w.detach().clone() for w in weights]
    optimizer = torch.optim.SGD(layer.parameters(), lr=1.0)
    outputs = [y for y in flat(layer(*row.inputs(), training=True)) if y.is_floating_point()]
    sum((y * torch.randn(y.shape, generator=torch.Generator().manual_seed(9))).sum() for y in outputs).backward()
    optimizer.step()
    same = [w.path for w, b in zip(weights, before, strict=True) if torch.equal(w, b)]
    assert not same, same


@contextmanager
def mixed_bfloat16() -> Iterator[None]:
    """Makes mixed_bfloat16 the policy of new layers in both libraries, as training scripts do."""
    set_dtype_policy("mixed_bfloat16")
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        yield
    finally:
        set_dtype_policy(None)
        keras.config.set_dtype_policy("float32")


def check_mixed_precision(row: Row) -> None:
    """Under mixed_bfloat16, outputs have Keras's dtypes and weights stay float32."""
    with mixed_bfloat16():
        mine, other, third = row.make(), row.make(keras.layers), row.make()
    a, b = flat(mine(*row.inputs())), keras.tree.flatten(other(*row.inputs()))
    assert [y.dtype for y in a] == [y.dtype for y in b]
    assert all(w.dtype is torch.float32 for w in mine.trainable_weights)
    assert [s.dtype for s in flat(third(*row.symbols(False)))] == [str(y.dtype).removeprefix("torch.") for y in a]


def check_state_dict(row: Row) -> None:
    """Two builds exchange state_dicts and then agree."""
    first, second = row.make(), row.make(name="other")
    inputs = row.inputs()
    expected = first(*inputs)
    second(*inputs)
    assert list(first.state_dict()) == list(second.state_dict())
    second.load_state_dict(first.state_dict())
    equal(second(*inputs), expected)


def check_copies(row: Row) -> None:
    """Deepcopies and pickles agree with the original, made before the build, before values exist, and after."""
    inputs = row.inputs()
    fresh, built = row.make(), row.make()
    built(*row.symbols(False))
    for layer in (fresh, built):
        early = copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))
        expected = layer(*inputs)
        for clone in early:
            clone(*inputs)
            clone.load_state_dict(layer.state_dict())
            equal(clone(*inputs), expected)
        for clone in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
            equal(clone(*inputs), expected)
            assert not {p.data_ptr() for p in clone.parameters()} & {p.data_ptr() for p in layer.parameters()}


def check_double(row: Row) -> None:
    """After `.double()` the layer computes in float64."""
    layer = row.make()
    inputs = row.inputs()
    expected = layer(*inputs)
    layer.double()
    wide = layer(*tree.map_leaves(lambda v: v.double() if v.is_floating_point() else v, inputs))
    for a, b in zip(flat(wide), flat(expected), strict=True):
        assert a.dtype is (torch.float64 if b.is_floating_point() else b.dtype)
        torch.testing.assert_close(a.to(b.dtype), b, rtol=1e-4, atol=1e-5)


class Holder(nn.Module):
    """A plain module around a layer, that hands several inputs on."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, *inputs: Any) -> Any:
        return self.layer(*inputs)


def check_compile(row: Row) -> None:
    """`torch.compile(fullgraph=True)` before the first call agrees with eager, in inference and, unless it draws, in training."""
    if row.heavy:
        return
    fresh, inputs = row.make(), row.inputs()
    torch._dynamo.reset()
    outputs = torch.compile(fresh, fullgraph=True, backend="eager")(*inputs, training=row.random)
    assert fresh.built
    if not row.random:
        equal(outputs, fresh(*inputs))
    layer = row.make()
    layer(*inputs)
    torch._dynamo.reset()
    for training in (False,) if row.random else (False, True):
        expected = copy.deepcopy(layer)(*inputs, training=training)
        compiled = torch.compile(copy.deepcopy(layer), fullgraph=True, backend="eager")
        equal(compiled(*inputs, training=training), expected)


def check_export(row: Row) -> None:
    """`torch.export` of a layer that was built but never called agrees with eager, at another batch size too."""
    if row.heavy:
        return
    layer = row.make()
    layer(*row.symbols(False))
    batch = torch.export.Dim("batch", min=2, max=64)
    arguments = row.inputs(3)
    dynamic = {"inputs": tuple(tree.map_leaves(lambda v: {0: batch}, a) for a in arguments)}
    program = torch.export.export(Holder(layer).eval(), arguments, dynamic_shapes=dynamic)
    other = row.inputs(5, seed=1)
    equal(program.module()(*other), layer(*other))


def check_mode(row: Row) -> None:
    """Inside a plain module, the layer obeys `train()` and `eval()`."""
    layer = row.make()
    inputs = row.inputs()
    layer(*inputs)
    outer = Holder(layer) if row.spread else nn.Sequential(layer)
    for training in (True, False):
        outer.train(training)
        torch.manual_seed(1)
        expected = copy.deepcopy(layer)(*inputs, training=training)
        torch.manual_seed(1)
        equal(outer(*inputs), expected)
        if row.random:
            changed = any(
                not torch.equal(a, b) for a, b in zip(flat(expected), flat(layer(*inputs, training=False)), strict=True)
            )
            assert changed is training


CHECKS = (
    check_config, check_shapes, check_shapes_of_keras, check_mask, check_training_step, check_mixed_precision, check_state_dict,
    check_copies,
    check_double, check_compile, check_export, check_mode,
)  # fmt: skip
