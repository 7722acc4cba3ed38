"""The explorer: a model as one offline page, to be walked through with mouse and keyboard."""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import os
import tempfile
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from hornbeam.core.card import clean
from hornbeam.inspect.given import graph_for

if TYPE_CHECKING:
    from hornbeam.inspect.explorer_data import Figure
    from hornbeam.inspect.plot_diagram import Diagram

PAGE = Path(__file__).parent / "page"
HEIGHT = 640  # pixels, in a notebook
BODY = """\
<header><button id="menu" aria-label="Search and outline" aria-expanded="false">☰</button>\
<h1>{title}</h1><span id="totals"></span><label><span>Colour by </span><select id="colour"></select></label>
<button id="open">Expand all</button><button id="close">Collapse all</button><button id="theme">Light / dark</button>
<button id="about" aria-label="Details" aria-expanded="false">i</button></header>
<nav aria-label="Outline"><input id="search" type="search" placeholder="Search layers  ( / )" aria-label="Search layers">
<div id="results" hidden></div><div id="outline" role="tree" tabindex="0" aria-label="Layers"></div></nav>
<main><canvas id="picture" tabindex="0" role="img" aria-label="Diagram of the model; the outline lists the same layers"></canvas>
<div id="legend"></div><div id="zoom"><button id="farther" aria-label="Zoom out">−</button>\
<button id="closer" aria-label="Zoom in">+</button><button id="fit" aria-label="Fit">⤢</button></div></main>
<aside id="details" aria-label="Details"></aside><div id="live" aria-live="polite"></div>
"""


class Explorer:
    """A page that shows a model. In a notebook it shows itself.

    Args:
        diagram: the model with its nested models opened.
        html: the page.
    """

    def __init__(self, diagram: Diagram, html: str) -> None:
        self.title, self.boxes, self.html = diagram.title, len(diagram.boxes), html

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the page to a file, wholly or not at all."""
        target = Path(path).absolute()
        handle, draft = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name[:40]}.")
        try:
            with os.fdopen(handle, "wb") as out:
                out.write(self.html.encode())
            os.chmod(draft, 0o666 & ~_umask())
            os.replace(draft, target)
        except BaseException:
            os.unlink(draft)
            raise

    def _repr_html_(self) -> str:
        style = f"width:100%;height:{HEIGHT}px;border:1px solid #c3cddb;border-radius:8px"
        return f'<iframe srcdoc="{escape(self.html)}" sandbox="allow-scripts" style="{style}" title="Explorer"></iframe>'

    def __repr__(self) -> str:
        return f"<Explorer of {self.title!r}: {self.boxes} calls, {len(self.html) / 1024:.0f} KB>"


def explore(
    model: nn.Module, to_file: str | os.PathLike[str] | None = None, inputs: Any = None, batch_size: int = 1,
    cost: bool = True,
) -> Explorer:  # fmt: skip
    """Makes a page on which a model can be walked through: one file that needs no network and no other file.

    Nested models are groups that open and close; a click on a layer shows its config, shapes, weights, costs, and the source
    line that called it; colours tell families of layers, or what each costs.

    Args:
        model: any module.
        to_file: where to write the page, such as "model.html"; None writes nothing.
        inputs: what a module that has not been called yet is called with: a shape such as (None, 32), an example tensor, an
            `Input`, or a nest of such.
        batch_size: how many samples FLOPs and memory are counted for.
        cost: whether these are told; to count them, the model runs once on tensors without memory, some milliseconds a call.

    Returns:
        The page; notebooks show it. It has `html` and `save(path)`.

    Raises:
        ValueError: the module has not been called yet and no inputs are given, or the file's name does not end with .html.

    >>> explore(nn.Sequential(nn.Linear(3, 4), nn.ReLU()), inputs=(None, 3))
    <Explorer of 'Sequential': 3 calls, ... KB>
    """
    from hornbeam.inspect.explorer_data import page_data  # what draws is loaded when something is drawn
    from hornbeam.inspect.plot_diagram import diagram_of

    if to_file is not None and not os.fspath(to_file).lower().endswith((".html", ".htm")):
        raise ValueError(f"explore writes a page: the file's name ends with .html. Received: to_file={os.fspath(to_file)!r}")
    diagram = diagram_of(model, expand_nested=True, graph=graph_for(model, inputs, "explore"))
    told = costs(model, diagram, inputs, batch_size) if cost else ({}, "")
    page = Explorer(diagram, html_of(page_data(diagram, model, *told)))
    if to_file is not None:
        page.save(to_file)
    return page


def costs(model: nn.Module, diagram: Diagram, inputs: Any, batch_size: int) -> tuple[dict[str, Figure], str]:
    """Returns what a box is coloured by besides its weights, and a sentence on how that was counted.

    A layer that is called several times in one graph has the mean of its calls. A module that cannot be costed has none.
    """
    from hornbeam.inspect.cost import cost_of  # it runs on torch's fake tensors, which take a second to load
    from hornbeam.inspect.explorer_data import Figure

    try:
        cost = cost_of(model, inputs, batch_size)
    except Exception as error:
        return {}, f"Its cost could not be told: {clean(error)}"
    flops: dict[int, int] = {}
    memory: dict[int, int] = {}
    for box in diagram.boxes:
        if box.node is not None and box.node.kind != "input":
            found = cost if box.module is model else cost.of(box.node, box.group.module if box.group else model)
            flops[id(box)] = found.flops_forward // max(1, found.calls)
            memory[id(box)] = found.memory_bytes // max(1, found.calls)
    samples = "one sample" if batch_size == 1 else f"{batch_size} samples"
    note = (
        f"FLOPs of a forward pass of {samples}. Memory while training on {samples}: "
        "weights, their gradients, what the optimizer keeps of them, and activations."
    )
    return {"FLOPs": Figure("", cost.flops_forward, flops), "memory": Figure("B", cost.memory_bytes, memory)}, note


def html_of(data: dict[str, Any]) -> str:
    """Returns the page that shows what `page_data` returned. Nothing but its own script can run on it, and nothing is loaded."""
    script, style = _script(), _file("explorer.css")
    policy = f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'"
    text = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
    title = escape(data["title"])
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        f'<title>{title}</title><meta name="viewport" content="width=device-width"><style>{style}</style></head>\n'
        f'<body>\n{BODY.format(title=title)}<script type="application/json" id="data">{text}</script>\n'
        f"<script>{script}</script></body></html>\n"
    )


@functools.cache
def _script() -> str:
    licence = _file("dagre.LICENSE.txt").replace("*/", "")
    return f"/*! dagre, which lays out the diagram:\n{licence}*/\n" + "\n".join(
        map(_file, ("dagre.min.js", "explorer_layout.js", "explorer.js"))
    )


@functools.cache
def _file(name: str) -> str:
    return (PAGE / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
