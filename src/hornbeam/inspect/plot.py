"""Pictures of models: `plot_model`, and the picture that it returns."""

from __future__ import annotations

import os
from functools import cached_property
from typing import Any

from torch import nn

from hornbeam.core.errors import describe, did_you_mean
from hornbeam.inspect import plot_dot
from hornbeam.inspect.given import graph_for
from hornbeam.inspect.plot_branches import FEW, fold_branches
from hornbeam.inspect.plot_diagram import Diagram, diagram_of, fold
from hornbeam.inspect.plot_failure import failure_diagram
from hornbeam.inspect.plot_libraries import library
from hornbeam.inspect.plot_scene import Mark, Show, scene
from hornbeam.inspect.plot_text import clean
from hornbeam.inspect.plot_write import Drawing

DIRECTIONS = ("TB", "BT", "LR", "RL")
SPLINES = ("ortho", "curved", "polyline", "spline", "line", "true", "false", "none")
MANY = 80  # boxes above which equal neighbouring groups are drawn once, unless `fold` says


class Picture(Drawing):
    """A drawn model. In a notebook it shows itself.

    Args:
        diagram: what it shows.
        show: what it tells of each call.
        dpi: the resolution of the PNG; 96 draws one pixel for one of the SVG's.
    """

    maker, formats = "plot_model", (*Drawing.formats, "dot")

    def __init__(self, diagram: Diagram, show: Show, dpi: float = 200) -> None:
        self.diagram, self.show, self.dpi = diagram, show, dpi
        self.title = clean(diagram.title)

    @cached_property
    def marks(self) -> list[Mark]:
        return scene(self.diagram, self.show)

    def to_bytes(self, kind: str) -> bytes:
        """Returns the picture as the content of a "png", "svg", "pdf", "html" or "dot" file."""
        return plot_dot.dot(self.diagram, self.show, self.dpi).encode() if kind == "dot" else super().to_bytes(kind)

    def __repr__(self) -> str:
        return f"<Picture of {self.title!r}: {len(self.diagram.boxes)} boxes, {len(self.diagram.edges)} edges>"


def plot_model(
    model: nn.Module | BaseException | None, to_file: str | os.PathLike[str] | None = "model.png",
    show_shapes: bool = False, show_dtype: bool = False, show_layer_names: bool = False, rankdir: str = "TB",
    expand_nested: bool = False, dpi: float = 200,
    show_layer_activations: bool = False, show_trainable: bool = False, splines: str = "ortho",
    *, inputs: Any = None, **kwargs: Any,
) -> Picture:  # fmt: skip
    """Draws a model: a box per call, with the shape it gives where that differs from what it takes.

    No system program is needed, but the packages of `pip install 'hornbeam[plot]'` are. Layers called several times carry a
    numbered badge at each call; what the model gives out comes from boxes with a double outline.

    Args:
        model: any module. An error of a call: the graph as far as it was built, or the model, with the call that failed in red.
            None: the error that Python has shown last.
        to_file: where to write it, as .png, .svg, .pdf, .html or .dot; None writes nothing.
        show_shapes: whether each box tells the whole shape it gives.
        show_dtype: whether it tells the dtype.
        show_layer_names: whether boxes are headed by the layer's name, else by its class.
        rankdir: "TB" (top to bottom), "BT", "LR" or "RL".
        expand_nested: whether nested models are opened, each as an outlined group.
        dpi: resolution of the PNG, lowered where it would have more than 50 million pixels.
        show_layer_activations: whether boxes tell the layer's activation.
        show_trainable: whether they tell whether its weights learn.
        splines: taken as Keras takes it; lines are always straight with rounded corners.
        inputs: what a module whose shapes are not known yet is called with: a shape such as (None, 32), an example tensor, an
            `Input`, or a nest of such.
        kwargs: `layer_range`, a pair of names or regular expressions of the first and last layer to show; `fold`, whether equal
            neighbouring groups, and equal branches beside each other, are drawn once with their number (unless given, groups
            where there are more than 80 boxes, and more than 12 branches).

    Returns:
        The picture; notebooks show it. It has `svg`, `save(path)` and `to_bytes(kind)`.

    Raises:
        ImportError: a package is missing; the message says the pip command.
        TypeError: the model is no module.
        ValueError: the model has no shapes yet and no inputs are given, or an argument is none of its values.

    >>> import hornbeam as keras
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)], name="small")
    >>> plot_model(model, to_file=None)
    <Picture of 'small': 2 boxes, 1 edges>
    >>> plot_model(nn.Sequential(nn.Linear(4, 2), nn.ReLU()), to_file=None, inputs=(None, 4))
    <Picture of 'Sequential': 3 boxes, 2 edges>
    """
    if to_file is not None and Picture.format_of(to_file) == "png":
        library("resvg_py")
    _check("rankdir", rankdir, DIRECTIONS)
    _check("splines", str(splines).lower(), SPLINES)
    show = Show(show_shapes, show_dtype, show_layer_names, show_layer_activations, show_trainable, rankdir)
    picture = Picture(_diagram("plot_model", model, inputs, expand_nested, **_options("plot_model", kwargs)), show, dpi)
    if to_file is not None:
        picture.save(to_file)
    return picture


def model_to_dot(
    model: nn.Module, show_shapes: bool = False, show_dtype: bool = False, show_layer_names: bool = True, rankdir: str = "TB",
    expand_nested: bool = False, dpi: float = 200, subgraph: bool = False, show_layer_activations: bool = False,
    show_trainable: bool = False, splines: str = "ortho", *, inputs: Any = None, **kwargs: Any,
) -> plot_dot.Dot:  # fmt: skip
    """Returns a model in the DOT language, for Graphviz and programs that read it; nothing needs to be installed.

    Args:
        model, show_shapes, show_dtype, show_layer_names, rankdir, expand_nested, show_layer_activations, show_trainable, inputs,
            kwargs: as for `plot_model`.
        dpi, splines: written into the graph.
        subgraph: whether it is written as a cluster, to be put into another graph.

    Returns:
        The text, a `str` with pydot's `to_string()` and `write(path)`.

    >>> import hornbeam as keras
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="logits")])
    >>> "logits" in model_to_dot(model)
    True
    """
    _check("rankdir", rankdir, DIRECTIONS)
    _check("splines", str(splines).lower(), SPLINES)
    show = Show(show_shapes, show_dtype, show_layer_names, show_layer_activations, show_trainable, rankdir)
    diagram = _diagram("model_to_dot", model, inputs, expand_nested, **_options("model_to_dot", kwargs))
    return plot_dot.dot(diagram, show, dpi, splines, subgraph)


def _options(caller: str, kwargs: dict[str, Any]) -> dict[str, Any]:
    known = {"layer_range", "fold"}
    for name in kwargs.keys() - known:
        raise TypeError(f"{caller} takes no argument {name!r}.{did_you_mean(name, sorted({*known, 'inputs'}))}")
    return {"folded": kwargs.get("fold"), "layer_range": kwargs.get("layer_range")}


def _diagram(caller: str, model: Any, inputs: Any, expand_nested: bool, folded: bool | None, layer_range: Any) -> Diagram:
    if model is None or isinstance(model, BaseException):
        diagram = failure_diagram(model, expand_nested, layer_range)
    elif isinstance(model, nn.Module):
        graph = None if inputs is None else graph_for(model, inputs, caller)
        diagram = diagram_of(model, expand_nested, layer_range, graph, caller)
    else:
        took = "a model or any torch.nn.Module, or the error of a call; for a tensor, the model that makes it"
        raise TypeError(f"{caller} draws {took}. Received: {describe(model)}")
    diagram = fold(diagram) if folded or (folded is None and len(diagram.boxes) > MANY) else diagram
    return diagram if folded is False else fold_branches(diagram, 1 if folded else FEW)


def _check(argument: str, value: Any, known: tuple[str, ...]) -> None:
    if value not in known:
        hint = did_you_mean(value, known)
        raise ValueError(f"plot_model: `{argument}` is one of {', '.join(known)}. Received: {value!r}.{hint}")
