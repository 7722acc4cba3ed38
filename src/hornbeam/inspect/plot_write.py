"""A picture's marks as SVG, PNG, PDF and HTML."""

from __future__ import annotations

import io
import os
from functools import cached_property
from html import escape
from pathlib import Path as FilePath
from typing import Any

from hornbeam.inspect.plot_libraries import library
from hornbeam.inspect.plot_scene import Label, Mark, Path, Rectangle, Text, bounds
from hornbeam.inspect.plot_text import FAMILIES, FONTS, OTHERS, covered, measure

LARGEST_PNG = 50e6  # pixels
LARGEST_PAGE = 14000.0  # points: a PDF page ends at 14,400


class Drawing:
    """A picture made of marks: its formats, its files, how a notebook shows it. Subclasses say which marks.

    Attributes:
        title: what it shows, in a line.
        dpi: the resolution of the PNG; 96 draws one pixel for one of the SVG's.
        maker: the function that draws it, for errors.
        formats: the file formats it can be written in.
    """

    title: str
    dpi: float
    maker: str
    formats: tuple[str, ...] = ("png", "svg", "pdf", "html")

    @cached_property
    def marks(self) -> list[Mark]:
        """The rectangles, paths and texts that it is made of."""
        raise NotImplementedError

    @cached_property
    def svg(self) -> str:
        """The picture as SVG."""
        return svg(self.marks, self.title)

    def to_bytes(self, kind: str) -> bytes:
        """Returns the picture as the content of a file of one of its formats."""
        if kind == "png":
            return png(self.marks, self.title, self.dpi)
        if kind == "pdf":
            return pdf(self.marks, self.title)
        return (html(self.marks, self.title) if kind == "html" else self.svg).encode()

    @classmethod
    def format_of(cls, path: str | os.PathLike[str]) -> str:
        """Returns the format that a file's name ends with; "png" where it has no ending.

        Raises:
            ValueError: the name ends with something else.
        """
        kind = os.path.splitext(os.fspath(path))[1].lower().removeprefix(".") or "png"
        if kind not in cls.formats:
            known = ", ".join(f".{f}" for f in cls.formats)
            raise ValueError(f"{cls.maker} writes {known}. Received: to_file={os.fspath(path)!r}")
        return kind

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the picture to a file, in the format that the name ends with; PNG where it has no ending.

        Raises:
            ValueError: the name ends with something else.
        """
        kind = self.format_of(path)
        FilePath(path).write_bytes(self.to_bytes(kind))

    def _repr_svg_(self) -> str:
        return self.svg


def svg(marks: list[Mark], title: str) -> str:
    """Returns a picture as SVG; each box is a group with a title, which viewers show at the pointer."""
    x, y, w, h = map(_n, bounds(marks))
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{x} {y} {w} {h}" width="{w}" height="{h}" '
        f'font-family="{FAMILIES}" fill="none" role="img">',
        f"<title>{escape(title)}</title>",
        f'<rect x="{x}" y="{y}" width="{w}" height="{h}" fill="#ffffff"/>',
    ]
    return "\n".join([*out, *map(_element, marks), "</svg>"])


def _n(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _element(mark: Mark) -> str:
    if isinstance(mark, Label):
        return f'<g class="{mark.kind}"><title>{escape(mark.title)}</title>' if mark.kind else "</g>"
    if isinstance(mark, Text):
        weight = ' font-weight="600"' if mark.bold else ""
        anchor = ' text-anchor="middle"' if mark.anchor == "middle" else ""
        anchor += "" if covered(mark.text) else f' font-family="{OTHERS}"'
        head = f'<text x="{_n(mark.x)}" y="{_n(mark.y)}" font-size="{mark.size:g}" fill="{mark.colour}"{weight}{anchor}>'
        return f"{head}{escape(mark.text)}</text>"
    stroke = f' stroke="{mark.stroke}" stroke-width="{mark.line:g}"' if mark.stroke else ""
    fill = f' fill="{mark.fill}"' if mark.fill else ""
    if isinstance(mark, Rectangle):
        x, y, w, h = map(_n, mark[:4])
        return f'<rect x="{x}" y="{y}" width="{w}" height="{h}" rx="{mark.radius:g}"{fill}{stroke}/>'
    dash = f' stroke-dasharray="{mark.dash[0]:g} {mark.dash[1]:g}" stroke-linecap="round"' if mark.dash else ""
    return f'<path d="{"".join(op[0] + " ".join(map(_n, op[1:])) for op in mark.ops)}"{fill}{stroke}{dash}/>'


def html(marks: list[Mark], title: str) -> str:
    """Returns a picture as a page of its own, which runs and loads nothing."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        f"<title>{escape(title)}</title>\n"
        "<style>body { margin: 0; text-align: center } svg { max-width: 100%; height: auto }</style></head>\n"
        f"<body>\n{svg(marks, title)}\n</body></html>\n"
    )


def png(marks: list[Mark], title: str, dpi: float) -> bytes:
    """Returns a picture as PNG, at a lower resolution where it would have more than 50 million pixels.

    System fonts are looked at only for characters that the package's own font lacks.
    """
    _, _, w, h = bounds(marks)
    zoom = min(dpi / 96, (LARGEST_PNG / (w * h)) ** 0.5)
    own = all(covered(m.text) for m in marks if isinstance(m, Text))
    render = library("resvg_py").svg_to_bytes
    fonts = {"font_files": [str(path) for path in FONTS.values()], "font_family": "Inter", "sans_serif_family": "Inter"}
    return bytes(render(svg_string=svg(marks, title), zoom=zoom, skip_system_fonts=own, **fonts))


def pdf(marks: list[Mark], title: str) -> bytes:
    """Returns a picture as a PDF of one page, with text that can be searched."""
    matplotlib = library("matplotlib")
    figure = library("matplotlib.figure")
    _, _, w, h = bounds(marks)
    scale = min(0.75, LARGEST_PAGE / max(w, h))
    out = io.BytesIO()
    with matplotlib.rc_context({"pdf.fonttype": 42}):
        page = figure.Figure(figsize=(w * scale / 72, h * scale / 72), dpi=72, facecolor="white")
        page.add_artist(_artist(marks, scale))
        page.savefig(out, format="pdf", dpi=72, metadata={"Title": title})
    return out.getvalue()


def _artist(marks: list[Mark], scale: float) -> Any:
    """One matplotlib artist that draws all marks through the renderer."""
    x, y, _, h = bounds(marks)
    flip = library("matplotlib.transforms").Affine2D().translate(-x, -y - h).scale(scale, -scale)
    to_rgb, properties = library("matplotlib.colors").to_rgb, library("matplotlib.font_manager").FontProperties
    path_type = library("matplotlib.path").Path
    fonts: dict[tuple[float, bool, bool], Any] = {}

    def font(mark: Text) -> Any:
        key = mark.size, mark.bold, covered(mark.text)
        if key not in fonts:
            source = {"fname": FONTS[mark.bold]} if key[2] else {"family": "DejaVu Sans", "weight": 700 if mark.bold else 400}
            fonts[key] = properties(size=mark.size * scale, **source)
        return fonts[key]

    def text(renderer: Any, gc: Any, mark: Text) -> None:
        gc.set_foreground(mark.colour)
        left = mark.x - (measure(mark.text, mark.size, mark.bold) / 2 if mark.anchor == "middle" else 0)
        renderer.draw_text(gc, *flip.transform((left, mark.y)), mark.text, font(mark), 0)

    def shape(renderer: Any, gc: Any, mark: Rectangle | Path) -> None:
        gc.set_linewidth(mark.line * scale if mark.stroke else 0)
        gc.set_foreground(mark.stroke or "#ffffff")
        if isinstance(mark, Path) and mark.dash:
            gc.set_dashes(0, [v * scale for v in mark.dash])
        ops = mark.ops if isinstance(mark, Path) else _rectangle(mark)
        points = [p for op in ops for p in list(zip(op[1::2], op[2::2], strict=True)) or [ops[0][1:3]]]
        codes = [c for op in ops for c in {"M": [1], "L": [2], "Q": [3, 3], "Z": [79]}[op[0]]]
        renderer.draw_path(gc, path_type(points, codes), flip, to_rgb(mark.fill) if mark.fill else None)

    class Marks(library("matplotlib.artist").Artist):  # type: ignore[misc]
        def draw(self, renderer: Any) -> None:
            for mark in marks:
                gc = renderer.new_gc()
                if isinstance(mark, Text):
                    text(renderer, gc, mark)
                elif not isinstance(mark, Label):
                    shape(renderer, gc, mark)
                gc.restore()

    return Marks()


def _rectangle(mark: Rectangle) -> list[tuple]:  # type: ignore[type-arg]
    x, y, w, h = mark[:4]
    r = min(mark.radius, w / 2, h / 2)
    right, low = x + w, y + h
    return [
        ("M", x + r, y), ("L", right - r, y), ("Q", right, y, right, y + r), ("L", right, low - r),
        ("Q", right, low, right - r, low), ("L", x + r, low), ("Q", x, low, x, low - r),
        ("L", x, y + r), ("Q", x, y, x + r, y), ("Z",),
    ]  # fmt: skip
