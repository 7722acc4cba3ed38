"""`to_source`: a model as the source code that a person would write for it."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from hornbeam.core import registry
from hornbeam.core.errors import did_you_mean
from hornbeam.core.layer import Layer
from hornbeam.export import source_functional, source_loop, source_sequential, source_subclassing, source_torch
from hornbeam.export.file import File
from hornbeam.export.naming import identifier as clean
from hornbeam.export.parts import View
from hornbeam.export.recorded import adds_losses, view_of
from hornbeam.export.tracing import Trace

STYLES = ("sequential", "functional", "subclassing", "torch")


class Source(str):
    """Generated source code: a string that shows itself as code in a notebook, and knows how to be saved."""

    __slots__ = ()

    @property
    def code(self) -> str:
        """The text."""
        return str(self)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the text to a file; a file that stood there is replaced whole or not at all."""
        target = os.path.realpath(path)
        descriptor, temporary = tempfile.mkstemp(dir=os.path.dirname(target), prefix=".source-")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(self)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, os.stat(target).st_mode & 0o7777 if os.path.exists(target) else 0o666 & ~_umask())
            os.replace(temporary, target)
        except BaseException:
            os.unlink(temporary)
            raise

    def _repr_markdown_(self) -> str:
        return f"```python\n{self}```"

    def _repr_html_(self) -> str:
        import html

        return f"<pre><code>{html.escape(self)}</code></pre>"


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def to_source(module: nn.Module, inputs: Any = None, style: str | None = None, training: bool = False) -> Source:
    """Returns a model as source code.

    Args:
        module: any module. Sequential and functional models know their graph; others are recorded by running them once on an
            empty batch.
        inputs: for a module that was not called yet: a shape with None where an axis varies, an example tensor, an `Input`, or a
            nest of such.
        style: "sequential", "functional" or "subclassing": as people write the model in that style; the code makes a model that
            takes the same weights. "torch", or None: plain PyTorch, which needs no Hornbeam and loads the same `state_dict`.
        training: whether the training loop that `fit` ran is written too (plain PyTorch only).

    Raises:
        ValueError: the style cannot hold the model, or a layer cannot be written; the message names the layer and says why.

    >>> from hornbeam.layers import Dense
    >>> from hornbeam.models import Sequential
    >>> print(to_source(Sequential([Dense(4, input_shape=(8,), activation="relu"), Dense(2)]), style="functional"))
    \"\"\"A model in the functional style, as hornbeam.to_source writes it.\"\"\"
    <BLANKLINE>
    import hornbeam as keras
    from hornbeam import layers
    <BLANKLINE>
    inputs = keras.Input(shape=(8,))
    x = layers.Dense(4, activation="relu")(inputs)
    outputs = layers.Dense(2)(x)
    model = keras.Model(inputs, outputs)
    <BLANKLINE>
    """
    if style is not None and style not in STYLES:
        known = ", ".join(f'"{s}"' for s in STYLES)
        raise ValueError(f"to_source knows the styles {known}.{did_you_mean(style, STYLES)} Received: style={style!r}")
    if training and style not in (None, "torch"):
        raise ValueError(f"to_source(training=True) writes the loop for plain PyTorch only. Received: style={style!r}")
    with _unseen():
        view = view_of(module, inputs, layers=style not in (None, "torch"), modes=style == "subclassing")
        return Source((_torch(view, training) if style in (None, "torch") else _WRITERS[style](view)).text())


@contextmanager
def _unseen() -> Iterator[None]:
    """Leaves the counters of names and torch's generator as they were: layers made to be compared draw from both."""
    counters, generator = dict(registry._counters), torch.get_rng_state()
    try:
        yield
    finally:
        registry._counters.clear()
        registry._counters.update(counters)
        torch.set_rng_state(generator)


def _functional(view: View) -> File:
    file = File(_header("in the functional style", view), source_functional.write_function)
    file.function_text = source_functional.function_text
    file.look_for_copies(view.module)
    source_functional.write(file, view)
    return file


def _sequential(view: View) -> File:
    file = File(_header("in the sequential style", view), source_sequential.write_function)
    file.look_for_copies(view.module)
    source_sequential.write(file, view)
    return file


def _subclassing(view: View) -> File:
    file = File(_header("in the subclassing style", view), source_subclassing.write_class)
    file.look_for_copies(view.module)
    source_subclassing.write(file, view)
    return file


def _torch(view: View, training: bool) -> File:
    file = File(_header("in plain PyTorch", view), lambda file, model, name: "")
    writer = source_torch.write(file, view)
    if training:
        source_loop.write(file, writer, view)
    return file


_WRITERS = {"functional": _functional, "sequential": _sequential, "subclassing": _subclassing}


def _header(style: str, view: View) -> list[str]:
    """The lines of a file's docstring: what it is, and what a recording froze."""
    lines = [f"A model {style}, as hornbeam.to_source writes it."]
    if style == "in plain PyTorch":
        lines += _differences(view.module)
    reads = getattr(view.graph, "reads", [])
    if isinstance(view.graph, Trace) and style != "in plain PyTorch":
        lines.append("It was written from a recording of the original in inference mode.")
    if reads:
        lines.append("A recording froze what the original does where it looks at values of tensors:")
        lines += [f"- {_place(source)}" for source in reads]
    if style != "in plain PyTorch" and not view.own and adds_losses(view.module):
        lines.append("Losses that the original adds when it is called are left out.")
    if None in view.frozen:
        lines.append("What the original does in training could not be recorded: this is what it does in inference.")
    elif view.frozen:
        lines.append("In training the original does something else than is written here, from these calls on:")
        lines += [f"- {clean(n.name)}{f' ({_place(n.source)})' if n.source else ''}" for n in view.frozen if n is not None]
    return lines


def _place(source: tuple[str, int]) -> str:
    """A source line as a comment may name it: the file's name without what could end the comment."""
    return f"{re.sub(r'[^0-9A-Za-z_.-]', '_', os.path.basename(source[0]))}, line {source[1]}"


def _differences(module: nn.Module) -> list[str]:
    """What an ejected model does otherwise than the original."""
    layers = [m for m in module.modules() if isinstance(m, Layer)]
    found = []
    if any(m.dtype_policy.name.startswith("mixed_") for m in layers):
        found.append("Mixed precision is left to autocast, which chooses the type of each function by itself.")
    if any(m.activity_regularizer is not None or any(s.regularizer or s.constraint for s in m._specs.values()) for m in layers):
        found.append("Penalties and constraints on weights, and penalties on activity, are no part of a plain module.")
    if any(getattr(m, "seed", None) is not None for m in layers):
        found.append("Random layers draw from torch's default generator, also those that had a seed of their own.")
    return found
