"""One run of the model on the first rows, before the first step: what its outputs are made of, and which weights they reach.

The run changes nothing: buffers, metrics, gradients and random streams are as before.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from hornbeam.core.random import seed_generators
from hornbeam.graph import tree
from hornbeam.graph.context import setting
from hornbeam.training.data import unpack_x_y_sample_weight
from hornbeam.training.labels import classes_of, kind_of, option, title_of, torch_name_of, warn

LARGEST = 1 << 30
_SHAPING = (
    "View", "UnsafeView", "ReshapeAlias", "ToCopy", "Squeeze", "Unsqueeze", "Transpose", "T", "Permute", "Clone", "Select",
    "Slice", "Expand", "Alias", "Movedim", "Flatten", "Unflatten", "Identity",
)  # fmt: skip
_LINEAR = ("Addmm", "Convolution")
_SQUASHING = {"Softmax": "softmax", "LogSoftmax": "log_softmax", "Sigmoid": "sigmoid"}
_LOGITS = ("CrossEntropyLoss", "cross_entropy", "BCEWithLogitsLoss", "binary_cross_entropy_with_logits")


@contextmanager
def leaving_no_trace(model: Any, scratch: bool = True) -> Iterator[None]:
    """Runs a block and puts back what a training step changes besides weights: buffers, metrics, gradients, random streams.

    Args:
        scratch: whether assignments and losses of layers are dropped at once.
    """
    states = [*model.buffers(), *(v for m in model.metrics for v in m.variables)]
    kept = [(t, t.detach().clone()) for t in states if isinstance(t, Tensor)]
    grads = [(p, p.grad) for p in model.parameters()]
    seeds = [] if scratch else [v._stream for v in seed_generators(model).values()]
    streams = [(s, s.get_state()) for s in seeds]
    losses = model._compile_loss
    trackers = losses.metrics if losses is not None else None
    devices = [torch.cuda.current_device()] if any(p.is_cuda for p, _ in grads) else []
    try:
        for p, _ in grads:
            p.grad = None
        if losses is not None:
            losses.metrics = []
        with torch.random.fork_rng(devices), setting(scratch=scratch, casts=None):
            yield
    finally:
        if losses is not None:
            losses.metrics = trackers
        for p, grad in grads:
            p.grad = grad
        for stream, state in streams:
            stream.set_state(state)
        with torch.no_grad():
            for tensor, value in kept:
                tensor.copy_(value)


def try_out(model: Any, x: Any, training: bool = True, scratch: bool = True) -> tuple[Any, list[Tensor]] | None:
    """Returns the model's outputs for inputs, with their autograd graph, and the losses its layers added; None where it fails."""
    if any(hasattr(m, "_orig_mod") or m._compiled_call_impl is not None for m in model.modules()):
        return None  # torch.compile would compile for these few rows
    device = next((p.device for p in model.parameters()), None)
    try:
        with leaving_no_trace(model, scratch), torch.set_grad_enabled(training), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            outputs = model(tree.map_leaves(lambda t: t if t is None or device is None else t.to(device), x), training=training)
            losses = [] if scratch else list(model.losses)
    except Exception:  # the first step will say it better
        return None
    return outputs, losses


def last_function(output: Tensor) -> str | None:
    """Returns "softmax", "log_softmax", "sigmoid" or "linear" where an output was made by that, else None.

    >>> last_function(torch.ones(2, 3, requires_grad=True).softmax(-1).reshape(6))
    'softmax'
    """
    node: Any = output.grad_fn
    while node is not None:
        name = type(node).__name__.rstrip("0123456789").removesuffix("Backward")
        if name in _SQUASHING:
            return _SQUASHING[name]
        if name in _LINEAR:
            return "linear"
        if name not in _SHAPING or not node.next_functions:
            return None
        node = node.next_functions[0][0]
    return None


def check_activation(name: str | None, loss: Any, target: Tensor, output: Tensor) -> None:
    """Warns where a cross-entropy takes an output for logits that is none, or for probabilities.

    Args:
        name: the output's name, or None.
        loss: the output's loss.
        target: some targets; their shape counts.
        output: what the model gave for a few rows, with its autograd graph.
    """
    kind, foreign, last = kind_of(loss), torch_name_of(loss), last_function(output)
    if kind not in ("sparse", "categorical", "binary") or not output.is_floating_point() or not output.numel():
        return
    title, where = title_of(loss), f"output {name!r}" if name else "the model's output"
    logits = foreign in _LOGITS if foreign else bool(option(loss, "from_logits", False))
    classes = classes_of(loss, target, output) if output.ndim > 1 else 1
    if kind != "binary" and output.ndim > 1 and classes == 1 and last != "softmax":
        warn(f"Loss {title} over one unit is always 0, so {where} cannot learn: for two classes use 'binary_crossentropy' with "
             f"one unit, for more one unit each.")  # fmt: skip
        return
    if logits:
        if last in ("softmax", "sigmoid"):
            way = "leave the activation out" if foreign else "leave the activation out, or use from_logits=False"
            warn(f"Loss {title} takes logits, but {where} ends in a {last}, so it is applied twice: {way}.")
        return
    if foreign in ("NLLLoss", "nll_loss"):
        if bool((output > 1e-4).any()):
            warn(f"Loss {title} takes log-probabilities, but {where} is above 0: end in a log_softmax, or use CrossEntropyLoss.")
        return
    low, high = (v.item() for v in output.detach().aminmax())
    if low < -1e-3 or high > 1 + 1e-3 or last in ("linear", "log_softmax"):
        what = "linear" if last == "linear" else "the result of a log_softmax" if last == "log_softmax" else "not between 0 and 1"
        squash = "sigmoid" if kind == "binary" else "softmax"
        way = f"end it in a {squash}" if foreign else f"pass from_logits=True to the loss, or end the model in a {squash}"
        warn(f"Loss {title} takes probabilities, but {where} is {what}: {way}.")
    elif last == "softmax" and output.shape[-1] == 1:
        warn(f"A softmax over one unit is always 1, so {where} cannot learn: use a sigmoid with 'binary_crossentropy'.")
    elif last == "softmax" and kind == "binary" and output.shape[-1] > 2:
        warn(f"Loss {title} takes classes that do not exclude one another, but {where} ends in a softmax: "
             f"use 'categorical_crossentropy', or end the model in a sigmoid.")  # fmt: skip
    elif last == "sigmoid" and kind != "binary" and classes > 1:
        warn(f"Loss {title} takes one probability shared among {classes} classes, but {where} ends in a sigmoid: use a softmax, "
             f"or 'binary_crossentropy' if classes do not exclude one another.")  # fmt: skip


def first_bad_row(value: Any) -> tuple[int, float] | None:
    """Returns row and number of the first NaN or infinity in a tensor, or None. Only its first gigabyte is looked at.

    >>> first_bad_row(torch.tensor([[1.0], [torch.inf]]))
    (1, inf)
    """
    if not isinstance(value, Tensor) or not value.is_floating_point() or value.layout is not torch.strided or not value.numel():
        return None
    value = value[: max(LARGEST // max(value[0].numel() * value.element_size(), 1), 1)]
    if bool(value.sum(dtype=torch.float32 if value.dtype is torch.float16 else None).isfinite()):
        return None
    for start in range(0, len(value), chunk := max(len(value) // 64, 1)):
        bad = ~value[start : start + chunk].isfinite()
        if bool(bad.any()):
            index = bad.nonzero()[0].tolist()
            return start + index[0], value[start : start + chunk][tuple(index)].item()
    return None


def rows_of(batch: Any, start: int, count: int = 1) -> Any:
    """Returns some rows of a batch, or of a nest of arrays."""
    return tree.map_leaves(lambda t: None if t is None else t[start : start + count], batch)


def spoils(model: Any, batch: Any) -> bool:
    """Returns whether the loss of a row (or an output, where there is no loss) is not finite."""
    x, y, sample_weight = unpack_x_y_sample_weight(batch)
    tried = try_out(model, x, training=False)
    if tried is None:
        return False
    outputs, losses = tried[0], model._compile_loss
    try:
        with leaving_no_trace(model), torch.no_grad():
            device = next(t.device for t in tree.leaves(outputs))
            y, sample_weight = (tree.map_leaves(lambda t: None if t is None else t.to(device), n) for n in (y, sample_weight))
            values = tree.leaves(outputs) if losses is None or y is None else [losses(y, outputs, sample_weight)]
    except Exception:  # the first step will say it better
        return False
    return not all(bool(v.isfinite().all()) for v in values)


def check_reach(model: Any, x: Any, outputs: Any) -> None:
    """Warns where no gradient reaches some of the trainable weights; raises where it reaches none."""
    reached = _reached(tree.leaves(outputs))
    if reached is None or all(id(w) in reached for w in model.trainable_weights):
        return
    again = try_out(model, x, scratch=False)  # layers may add losses of their own
    reached = None if again is None else _reached([*tree.leaves(again[0]), *again[1]])
    if reached is None:
        return
    weights = {id(w): w for w in model.trainable_weights if getattr(w, "regularizer", None) is None and id(w) not in reached}
    missing = [path_of(name) for name, w in model.named_parameters() if id(w) in weights]
    if not missing:
        return
    shown = shortened(missing)
    if len(missing) == (count := len(model.trainable_weights)):
        raise ValueError(
            f"No gradient reaches any weight of model {model.name!r} ({shown}): its outputs do not depend on them by operations "
            f"that have a gradient. Look for detach(), argmax, rounding, .data, NumPy or torch.no_grad() on the way."
        )
    warn(
        f"No gradient reaches {len(missing)} of {count} trainable weights of model {model.name!r}, so they stay as they are: "
        f"{shown}. Use them, or set `trainable = False` on their layers."
    )
    if hasattr(model.optimizer, "_warned"):
        model.optimizer._warned = True


def shortened(names: list[str]) -> str:
    """Returns the first three of some names, and how many more there are.

    >>> shortened(["a", "b", "c", "d"])
    "'a', 'b', 'c' and 1 more"
    """
    return ", ".join(map(repr, names[:3])) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def path_of(name: str) -> str:
    """Returns the path of a module or a weight by its name in torch's terms.

    >>> path_of("encoder.2")
    'encoder/2'
    """
    return name.replace(".", "/")


def _reached(outputs: list[Any]) -> dict[int, Tensor] | None:
    """Returns the leaves of the outputs' autograd graph by id; None where a function written in Python may hide some."""
    waiting = [t.grad_fn for t in outputs if isinstance(t, Tensor) and t.grad_fn is not None]
    found, seen = {id(t): t for t in outputs}, set(waiting)
    while waiting:
        node = waiting.pop()
        if isinstance(node, torch.autograd.function.BackwardCFunction):
            return None
        if hasattr(node, "variable"):
            found[id(node.variable)] = node.variable
        for following, _ in node.next_functions:
            if following is not None and following not in seen:
                seen.add(following)
                waiting.append(following)
    return found
