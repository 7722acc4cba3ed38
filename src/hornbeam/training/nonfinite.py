"""NaN and infinity in training: noticed without waiting for the device, then traced to a batch, a layer or a row.

While `fit` runs, the optimizer notes on the device whether a step's gradients are finite (`Optimizer.found_inf`), and fused
kernels skip the steps where they are not. Every 64 steps the notes are sent to the host, where they are read once they are there:
at once on a CPU, 64 steps later elsewhere, so that nobody waits. The first bad batch is run again, without leaving a trace, with
hooks that stop at the first number which is not finite. `debug_nan` keeps the hooks on.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from hornbeam.core.clean import clean_context
from hornbeam.graph import tree
from hornbeam.training.arrays import named_leaves
from hornbeam.training.data import unpack_x_y_sample_weight
from hornbeam.training.labels import check_labels, warn
from hornbeam.training.trial import first_bad_row, leaving_no_trace, path_of, rows_of, spoils

LOOK = 64
KEPT_BYTES = 64 << 20
_DATA = "the data"
CHOICES = ("warn", "raise", "ignore")


class Watch:
    """Notices the first step of a `fit` whose loss or gradients are not finite, and says where it went wrong.

    Args:
        model: a compiled model. Its attributes `on_nonfinite` ("warn", "raise" or "ignore") and `debug_nan` decide what is done.

    Attributes:
        active: whether `saw` wants to be told of each step.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self.debug = bool(getattr(model, "debug_nan", False))
        self.choice = "raise" if self.debug else getattr(model, "on_nonfinite", "warn")
        self.active = self.choice != "ignore"
        self.told = False
        self.epoch = self.done = self.looked = 0
        self.again: Callable[[int], Any] | None = None
        self.batches: deque[Any] = deque(maxlen=0)
        self.optimizers = [o for o in _optimizers_in(model.optimizer) if hasattr(o, "found_inf")] if self.active else []
        self.notes = Notes(_device_of(model))
        self.weights = [w for w in model.trainable_weights if type(w.data) is Tensor] if self.active else []
        small = sum(w.numel() * w.element_size() for w in self.weights) <= KEPT_BYTES
        self.good = [w.detach().clone() for w in self.weights] if small and self.notes.at_once else None

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *error: Any) -> None:
        self.end()

    def begin(
        self, epoch: int, run: Callable[[Any], Any], done: int = 0, again: Callable[[int], Any] | None = None
    ) -> Callable[[Any], Any]:
        """Begins an epoch.

        Args:
            epoch: the epoch's number, from 0.
            run: what makes a step.
            done: steps of this epoch that were made before.
            again: what returns a batch of this epoch by its number; without it the last 64 batches are kept (at most 64 MiB).

        Returns:
            `run`, or with `debug_nan` the same under hooks.
        """
        self.epoch, self.done, self.looked, self.again = epoch, done, done, again
        self.batches = deque(maxlen=0)
        self._point(0)
        return self._debugged(run) if self.debug else run

    def saw(self, batch: Any) -> None:
        """Is told of each step after it was made; of steps made together by a list of their batches."""
        for one in batch if type(batch) is list else (batch,):
            self._saw(one)

    def _saw(self, batch: Any) -> None:
        if self.again is None:
            if not self.batches.maxlen:
                self.batches = deque(maxlen=_how_many_to_keep(batch) * (1 if self.notes.at_once else 2))
            self.batches.append(batch)
        self.done = done = self.done + 1
        if done - self.looked == LOOK:
            self._send()
            if self.notes.at_once or len(self.notes.sent) > 1:
                self._read()
        else:
            self._point(done - self.looked)

    def _point(self, index: int) -> None:
        for optimizer in self.optimizers:
            optimizer.found_inf = self.notes.flags[index]

    def look(self) -> None:
        """Reads all that was noted; called at the end of an epoch."""
        if self.active and self.looked != self.done:
            self._send()
        while self.notes.sent:
            self._read()

    def _send(self) -> None:
        self.notes.send(self.looked, self.model._loss_tracker.present())
        self.looked = self.done
        self._point(0)

    def _read(self) -> None:
        by_gradient, by_loss = self.notes.read()
        found = [index for index in (by_loss, by_gradient) if index is not None]
        if not found and self.good:
            torch._foreach_copy_(self.good, [w.detach() for w in self.weights])
        elif found and not self.told:
            self.told = True
            self._report(min(found), seen_late=by_gradient is None)
            self.good = None

    def end(self) -> None:
        """Takes everything back that `begin` changed."""
        for optimizer in self.optimizers:
            optimizer.__dict__.pop("found_inf", None)
        self.batches.clear()
        self.active = False

    def _report(self, first: int, seen_late: bool) -> None:
        """Says once what is wrong, beginning with the first bad step of the epoch.

        Args:
            first: the step.
            seen_late: whether only the loss was watched, which a bad gradient spoils one step later.
        """
        with self._good_weights():
            faults = [(i, first_fault(self.model, batch)) for i, batch in self._suspects(first, seen_late)]
        where, found = next((each for each in faults if each[1] is not None), (first, None))
        text = (
            f"Numbers that are not finite in the training of model {self.model.name!r}, first in batch {where} (from 0) of epoch "
            f"{self.epoch + 1}: {found or _what_is_left(self.model)}."
        )
        if (found or "").startswith(_DATA) and self.model.__dict__.get("_spoiled_data", False):
            return  # the check before the first step has said so
        if self.choice == "raise":
            raise FloatingPointError(text)
        if _all_finite(self.model):
            text = f"{text} Such steps change no weight."
        more = "compile(on_nonfinite='raise') makes it an error, compile(debug_nan=True) stops at the layer where it begins."
        warn(f"{text} {more}", RuntimeWarning)

    @contextmanager
    def _good_weights(self) -> Iterator[None]:
        """Puts the weights of the last look in place, where a bad step has spoilt those of now (not all optimizers skip it)."""
        if not self.good or _all_finite(self.model):
            yield
            return
        now = [w.data for w in self.weights]
        try:
            for weight, good in zip(self.weights, self.good, strict=True):
                weight.data = good
            yield
        finally:
            for weight, old in zip(self.weights, now, strict=True):
                weight.data = old

    def _suspects(self, first: int, seen_late: bool) -> Iterator[tuple[int, Any]]:
        """The batches that are still kept among those whose gradients made the first bad update."""
        every = max([getattr(o, "gradient_accumulation_steps", None) or 1 for o in self.optimizers], default=1)
        oldest = self.done - len(self.batches) if self.again is None else 0
        for index in range(max(first - every + 1 - seen_late, oldest, 0), first + 1):
            yield index, self.batches[index - oldest] if self.again is None else self.again(index)

    def _debugged(self, run: Callable[[Any], Any]) -> Callable[[Any], Any]:
        model = self.model

        def step(batch: Any) -> Any:
            try:
                check_data(model, batch)
                with stopping_at_first(model):
                    logs = run(batch)
                check_weights(model)
            except FloatingPointError as fault:
                message = f"Model {model.name!r}, batch {self.done} (from 0) of epoch {self.epoch + 1}: {fault}."
                raise FloatingPointError(message) from None
            return logs

        return step


class Notes:
    """A flag for each of 64 steps, on the device, and what reached the host of them.

    Args:
        device: where the flags are.

    Attributes:
        flags: one float32 scalar for each step.
        at_once: whether the host sees what it sends without waiting.
        sent: for each note under way, oldest first: the first step's number, its buffer, and what says that it has arrived.
    """

    def __init__(self, device: torch.device) -> None:
        self.at_once = device.type != "cuda"
        with clean_context():
            self._flags = torch.zeros(LOOK, device=device)
            self._buffers = [torch.zeros(LOOK + 2, dtype=torch.float64, pin_memory=not self.at_once) for _ in range(2)]
        self.flags = self._flags.unbind()
        self._views: list[Any] = [buffer.numpy().data for buffer in self._buffers]  # memory: no tensor is asked for a number
        self.sent: deque[tuple[int, int, Any]] = deque()
        self._next = 0

    def send(self, first: int, losses: Tensor | None) -> None:
        """Sends the flags of the steps since `first`, and what a LossTracker knows; the flags begin anew."""
        at, self._next = self._next, 1 - self._next
        with torch.no_grad():
            flags = self._flags.to(torch.float64) if self._flags.device.type != "mps" else self._flags.cpu().double()
            told = flags.new_zeros(2) if losses is None else losses[2:].to(flags)
            self._buffers[at].copy_(torch.cat([flags, told]), non_blocking=True)
            self._flags.zero_()
        arrived = None if self.at_once else torch.cuda.Event()
        if arrived is not None:
            arrived.record()
        self.sent.append((first, at, arrived))

    def read(self) -> tuple[int | None, int | None]:
        """Returns the number of the first step with a bad gradient, and of the first with a bad loss, of the oldest note."""
        first, at, arrived = self.sent.popleft()
        if arrived is not None:
            arrived.synchronize()
        view = self._views[at]
        flagged = next((i for i in range(LOOK) if view[i] == 1.0), None)
        finite, steps = int(view[LOOK]), int(view[LOOK + 1])
        return None if flagged is None else first + flagged, finite if finite < steps else None


def _device_of(model: Any) -> torch.device:
    return next((w.device for w in model.trainable_weights), torch.device("cpu"))


def _optimizers_in(optimizer: Any) -> Iterator[Any]:
    """An optimizer, or those that it hands gradients on to."""
    inner = getattr(optimizer, "inner_optimizer", None)
    several = getattr(optimizer, "optimizers", None)
    if inner is not None:
        yield from _optimizers_in(inner)
    elif isinstance(several, (list, tuple)):
        for each in several:
            yield from _optimizers_in(each)
    elif not isinstance(optimizer, torch.optim.Optimizer) and optimizer is not None:
        yield optimizer


def _how_many_to_keep(batch: Any) -> int:
    size = sum(t.numel() * t.element_size() for t in tree.leaves(batch) if isinstance(t, Tensor))
    return min(max(KEPT_BYTES // max(size, 1), 1), LOOK)


# -- finding the first number that is not finite


def first_fault(model: Any, batch: Any) -> str | None:
    """Runs a training step's forward and backward pass on a batch, changing nothing; says where the first bad number arises."""
    try:
        check_data(model, batch)
        if not _all_finite(model):
            return _what_is_left(model)
        with leaving_no_trace(model), stopping_at_first(model), torch.enable_grad():
            x, y, sample_weight = unpack_x_y_sample_weight(batch)
            y_pred = model(x, training=True)
            if model._compile_loss is not None and y is not None:
                for name, part, target, output in model._compile_loss.parts(y, y_pred):
                    check_labels(name, part, target, output)
            given = (x, y, y_pred, sample_weight)
            loss = model.compute_loss(*given, True) if model._plan.loss_mode else model.compute_loss(*given)
            loss.backward(inputs=list(model.trainable_weights))
    except FloatingPointError as fault:
        return str(fault)
    except ValueError as error:
        return str(error).rstrip(".")
    except Exception:  # a step of the user's own kind cannot be run again in parts
        return None
    return None


def check_data(model: Any, batch: Any) -> None:
    """Raises where a batch holds NaN or an infinity that comes through to the loss: names the argument and the row."""
    for name, nest in zip(("x", "y", "sample_weight"), unpack_x_y_sample_weight(batch), strict=True):
        for leaf, value in named_leaves(nest, name):
            found = first_bad_row(value)
            if found is not None and spoils(model, rows_of(batch, found[0])):
                raise FloatingPointError(f"{_DATA} `{leaf}` holds {found[1]} in row {found[0]}")


def check_weights(model: nn.Module) -> None:
    """Raises where a weight holds NaN or an infinity."""
    for name, weight in model.named_parameters():
        found = bad_value(weight)
        if found is not None:
            raise FloatingPointError(f"the weight {path_of(name)!r} holds {found.split(' in row')[0]}")


def bad_value(value: Any, minus_infinity: bool = True) -> str | None:
    """Returns "nan in row 3" for a tensor of floats that holds such a number, else None.

    Args:
        value: anything; what is no tensor of floats is good.
        minus_infinity: whether -inf is bad; masks are made of it.
    """
    if not isinstance(value, Tensor) or not (value.is_floating_point() or value.is_complex()) or not value.numel():
        return None
    value = value.detach()
    if value.layout is not torch.strided:
        value = value.to_dense()
    bad = ~value.isfinite() if minus_infinity else value.isnan() | (value == math.inf)
    if not bool(bad.any()):
        return None
    index = bad.nonzero()[0].tolist() if value.ndim else []
    return f"{value[tuple(index)].item()}{f' in row {index[0]}' if index else ''}"


def _rate_hint(model: Any) -> str:
    """Blames the learning rate where weights have grown beyond all measure."""
    sizes = [w.detach().abs().nan_to_num(0.0, math.inf).max().item() for w in model.trainable_weights if w.numel()]
    largest = max(sizes, default=0.0)
    rate = getattr(model.optimizer, "learning_rate", None)
    if rate is None or (largest < 1e6 and rate <= 1):
        return ""
    reach = f"weights reach {largest:.3g}, so " if largest >= 1e6 else ""
    return f"; {reach}the learning rate of {float(rate):.3g} may be too high"


def _all_finite(model: Any) -> bool:
    return all(bool(w.detach().isfinite().all()) for w in model.trainable_weights)


def _what_is_left(model: Any) -> str:
    """What can be said where the batch is no longer there, or runs well now."""
    try:
        check_weights(model)
    except FloatingPointError as fault:
        return f"{fault} by now, so where it began cannot be told{_rate_hint(model)}"
    return "the weights are finite, and what made the numbers is no longer to be seen"


@contextmanager
def stopping_at_first(model: Any) -> Iterator[None]:
    """Runs a block in which the first module or gradient of a model that gives a bad number raises FloatingPointError."""
    finder = _Finder(model)
    handles = [m.register_forward_pre_hook(finder.before, with_kwargs=True) for m in finder.paths]
    handles += [m.register_forward_hook(finder.after) for m in finder.paths]
    handles += [p.register_hook(finder.of_weight(name)) for name, p in model.named_parameters() if p.requires_grad]
    own = model.__dict__.get("compute_loss")
    model.__dict__["compute_loss"] = finder.checked_loss(model.compute_loss)
    try:
        yield
    finally:
        del model.__dict__["compute_loss"]
        if own is not None:
            model.__dict__["compute_loss"] = own
        for handle in handles:
            handle.remove()


class _Finder:
    """The hooks."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.paths = {module: path_of(name) for name, module in model.named_modules()}
        self.users: dict[int, tuple[Tensor, str]] = {}
        self.suspect = ""

    def title(self, module: nn.Module) -> str:
        path = self.paths[module]
        return f"layer {path!r} ({type(module).__name__})" if path else "the model's own code"

    def before(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        for value in tree.leaves((args, kwargs)):
            found = bad_value(value, minus_infinity=False)
            if found is not None:
                raise FloatingPointError(f"{found} reaches {self.title(module)}, made by operations before it{self.suspect}")
            if isinstance(value, Tensor) and value.requires_grad:
                self.users[id(value)] = (value, self.title(module))  # the innermost user comes last

    def after(self, module: nn.Module, args: Any, result: Any) -> None:
        for value in tree.leaves(result):
            found = bad_value(value, minus_infinity=False)
            if found is not None:
                raise FloatingPointError(f"{self.title(module)} gave {found}{self.suspect}{_rate_hint(self.model)}")
            if not self.suspect and bad_value(value) is not None:
                self.suspect = f", after {self.title(module)} gave -inf"
            if isinstance(value, Tensor) and value.requires_grad and value.is_floating_point():
                value.register_hook(self.of_output(value, self.title(module)))

    def checked_loss(self, compute_loss: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def checked(*args: Any, **kwargs: Any) -> Tensor:
            loss = compute_loss(*args, **kwargs)
            if not bool(torch.isfinite(loss).all()):
                outputs = kwargs.get("y_pred", args[2] if len(args) > 2 else None)
                sizes = [t.detach().abs().max().item() for t in tree.leaves(outputs) if isinstance(t, Tensor) and t.numel()]
                reach = f", from outputs that reach {max(sizes):.3g}" if sizes else ""
                raise FloatingPointError(f"the loss is {loss.detach().sum().item()}{reach}{self.suspect}{_rate_hint(self.model)}")
            return loss

        return checked

    def of_output(self, value: Tensor, title: str) -> Callable[[Tensor], None]:
        key = id(value)

        def check(gradient: Tensor) -> None:
            found = bad_value(gradient)
            if found is not None:
                user = self.users.get(key)
                by = f"the backward pass of {user[1]}" if user else f"the backward pass from the loss to {title}"
                raise FloatingPointError(f"{by} gave a gradient of {found}{_rate_hint(self.model)}")

        return check

    def of_weight(self, name: str) -> Callable[[Tensor], None]:
        def check(gradient: Tensor) -> None:
            found = bad_value(gradient)
            if found is not None:
                raise FloatingPointError(f"the gradient of the weight {path_of(name)!r} holds {found.split(' in row')[0]}")

        return check
