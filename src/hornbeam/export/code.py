"""Source code before it has names: lines whose texts hold values, and literals that a loop or a function may vary."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple


class Var(NamedTuple):
    """A value that a line makes, or takes."""

    key: Hashable


class Hole(NamedTuple):
    """A literal that may differ where the same lines stand again.

    Attributes:
        text: its spelling.
        hint: the argument that it is for, which names the variable that stands in its place.
    """

    text: str
    hint: str


Code = tuple[Any, ...]


def code(*parts: Any) -> Code:
    """Returns the pieces of a text: strings, Vars, Holes, and other codes."""
    made: list[Any] = []
    for part in parts:
        for piece in part if type(part) is tuple else (part,):
            if type(piece) is str and made and type(made[-1]) is str:
                made[-1] += piece
            elif piece != "":
                made.append(piece)
    return tuple(made)


def joined(codes: Iterable[Any], separator: str = ", ") -> Code:
    """Returns codes with a separator between them."""
    made: list[Any] = []
    for i, one in enumerate(codes):
        made.extend((separator, one) if i else (one,))
    return code(*made)


@dataclass(eq=False)
class Line:
    """One statement.

    Attributes:
        outs: the values it makes, None where one is not used; none for a statement without a result.
        right: its right side.
        wanted: the names its values would best have.
        about: the classes it calls, which name the functions made of lines.
        body: for a loop: the lines inside; `right` is then what it runs over.
        carried: for a loop: the value that goes in, as which it is known inside, and the one inside that goes on.
        targets: for a loop: the names of what varies.
        target: written left of `=` in place of the values (`x[0] = ...`).
        pinned: whether it has effects beyond its results.
        inline: how it may stand inside the call that takes its result: a "prefix" f(x), "plain" as x.f() or operators; or "".
    """

    outs: list[Var | None]
    right: Code
    wanted: dict[Var, str] = field(default_factory=dict)
    about: tuple[str, ...] = ()
    body: list[Line] = field(default_factory=list)
    carried: tuple[Var, Var, Var] | None = None
    targets: tuple[str, ...] = ()
    target: Code = ()
    pinned: bool = False
    inline: str = ""

    def uses(self) -> list[Var]:
        """The values taken from outside, in order of appearance."""
        found: dict[Var, None] = {}
        if self.carried is not None:
            found[self.carried[0]] = None
            inner = {v for line in self.body for v in line.outs} | {self.carried[1]}
            for line in self.body:
                found.update((v, None) for v in line.uses() if v not in inner)
        for piece in (*self.target, *self.right):
            if type(piece) is Var:
                found[piece] = None
        return list(found)

    def holes(self) -> Iterator[Hole]:
        """The literals that may vary, in order."""
        for line in self.body:
            yield from line.holes()
        yield from (p for p in self.right if type(p) is Hole)

    def mapped(self, change: Callable[[Any], Any]) -> Line:
        """Returns a copy whose Vars and Holes went through `change`: those of the body first, then target and right side."""
        swap = lambda v: None if v is None else change(v)  # noqa: E731
        pieces = lambda parts: code(*[change(p) if type(p) in (Var, Hole) else p for p in parts])  # noqa: E731
        body = [line.mapped(change) for line in self.body]
        target, right = pieces(self.target), pieces(self.right)
        carried = None if self.carried is None else tuple(map(change, self.carried))
        wanted: Any = {swap(v): n for v, n in self.wanted.items()}
        return Line(
            list(map(swap, self.outs)),
            right,
            wanted,
            self.about,
            body,
            carried,
            self.targets,
            target,
            self.pinned,  # type: ignore[arg-type]
        )


def without_dead(lines: list[Line], results: Iterable[Var]) -> list[Line]:
    """Returns the lines that lead to the results; outputs that nobody takes become None."""
    needed = set(results)
    kept: list[Line] = []
    for line in reversed(lines):
        if line.pinned or any(v in needed for v in line.outs):
            line.outs = [v if v in needed else None for v in line.outs]
            needed.update(line.uses())
            kept.append(line)
    return kept[::-1]
