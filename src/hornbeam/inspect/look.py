"""`summary`: the table of any module's layers, and what they cost."""

from __future__ import annotations

from typing import Any

from torch import nn

from hornbeam.inspect.cost import Cost, cost_of
from hornbeam.inspect.given import graph_for
from hornbeam.inspect.profile import profile
from hornbeam.inspect.table import graph_of


def summary(
    module: nn.Module, inputs: Any = None, line_length: int | None = None, positions: Any = None, print_fn: Any = None,
    expand_nested: bool = False, show_trainable: bool = False, layer_range: Any = None, show: Any = (), batch_size: int = 1,
) -> None:  # fmt: skip
    """Prints a table of the layers of any module: names, output shapes, parameters, connections, and what they cost.

    Args:
        module: any module.
        inputs: what it is called with: a shape with None for the batch, an example tensor, an `Input`, or a list or dictionary of
            such, in which numbers and the like are handed on as they are; a bare shape has the dtype of the module's weights, or
            is of integers where these are looked up; None for a model that knows its inputs.
        line_length: width in characters.
        positions: column positions, as fractions of the width or in characters.
        print_fn: function that takes the text; printing unless given.
        expand_nested: whether nested modules are opened.
        show_trainable: whether a column says which layers learn.
        layer_range: first and last layer, by name or regular expression.
        show: further columns: "macs" (multiply-adds), "flops" (two for each), "memory" (activations kept for the backward pass;
            these and weights, gradients and slots), "activations", "outputs", "weights", "gradients", "optimizer", and "time"
            (measured on made-up inputs: `profile` takes yours).
        batch_size: for how many samples at once these are told.

    >>> summary(nn.Sequential(nn.Linear(3, 2), nn.ReLU()), (None, 3), show="macs", line_length=80)
    Model: "Sequential"
    ...
     Multiply-adds: 6 forward, 6 backward (FLOPs: two for each)
     Peak memory: 100 B (weights 32 B, gradients 32 B, activations 8 B, batch 12 B)
    """
    from hornbeam.inspect.summary import print_summary  # rich is needed only here

    graph = graph_of(module) if inputs is None else graph_for(module, inputs, "summary")

    def cost() -> Cost:
        names = (show,) if isinstance(show, str) else show
        if "time" in names:
            return profile(module, None, inputs=inputs, batch_size=batch_size)
        return cost_of(module, inputs, batch_size)

    print_summary(
        module, line_length, positions, print_fn, expand_nested, show_trainable, layer_range, show=show, cost=cost, graph=graph
    )
