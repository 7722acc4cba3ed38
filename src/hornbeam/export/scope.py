"""Names for the values of a list of lines, and the lines as text."""

from __future__ import annotations

from collections.abc import Iterable

from hornbeam.export.code import Code, Hole, Line, Var
from hornbeam.export.layout import wrapped

_POOL = ("x", "y", "z")
_FAR = 5


def text(parts: Code, names: dict[Var, str]) -> str:
    """Returns a code as text."""
    return "".join(names[p] if type(p) is Var else p.text if type(p) is Hole else p for p in parts)


def name_values(
    lines: list[Line], names: dict[Var, str], results: Iterable[Var], busy: set[str], fixed: dict[Var, str] | None = None
) -> None:
    """Adds names for all values that lines make.

    A chain of values is called x throughout; what is needed while others are made has a name of its own.

    Args:
        lines: in order.
        names: those that are known; completed in place.
        results: values needed after the lines.
        busy: names that mean something else.
        fixed: names that certain values must have.
    """
    _Naming(lines, names, results, busy, dict(fixed or {})).run()


class _Naming:
    def __init__(
        self, lines: list[Line], names: dict[Var, str], results: Iterable[Var], busy: set[str], fixed: dict[Var, str]
    ) -> None:
        self.lines, self.names, self.busy, self.fixed = lines, names, busy, fixed
        self.last: dict[Var, int] = {v: len(lines) for v in results}
        for i, line in enumerate(lines):
            for v in line.uses():
                self.last[v] = max(self.last.get(v, i), i)
        made = {v for line in lines for v in line.outs}
        self.holders = {name: v for v, name in names.items() if v in self.last and v not in made}
        self.far: set[Var] = set()
        for i, line in reversed(list(enumerate(lines))):
            self._look_ahead(i, line)

    def _look_ahead(self, i: int, line: Line) -> None:
        """Notes which values are needed much later, or lead straight to such a one; and what a loop is to begin with."""
        made = [v for v in line.outs if v is not None]
        if line.carried is not None and made and made[0] in self.fixed and self.last.get(line.carried[0]) == i:
            self.fixed.setdefault(line.carried[0], self.fixed[made[0]])
        if len(made) == 1:
            v, after = made[0], self.lines[i + 1].outs if i + 1 < len(self.lines) else []
            if self.last.get(v, i) - i > _FAR or (self.last.get(v) == i + 1 and len(after) == 1 and after[0] in self.far):
                self.far.add(v)

    def is_free(self, name: str, i: int) -> bool:
        """Whether a name may be given to a value that line i makes."""
        return name not in self.busy and not self._is_held(name, i)

    def _is_held(self, name: str, i: int) -> bool:
        return name in self.holders and self.last.get(self.holders[name], -1) > i

    def run(self) -> None:
        for i, line in enumerate(self.lines):
            if line.carried is not None:
                self._loop(line, i)
                continue
            for v in line.outs:
                if v is not None:
                    self._give(v, self._choose(v, line, i))

    def _give(self, v: Var, name: str) -> None:
        self.names[v] = name
        self.holders[name] = v

    def _choose(self, v: Var, line: Line, i: int) -> str:
        others = {self.names.get(o) for o in line.outs if o is not None and o != v}
        free = lambda name: self.is_free(name, i) and name not in others  # noqa: E731
        if v in self.fixed and not self._is_held(self.fixed[v], i):
            return self.fixed[v]
        wanted = line.wanted.get(v)
        distance = self.last.get(v, i) - i
        if wanted is not None and distance > 1 and free(wanted):
            return wanted
        alone = len(line.outs) == 1
        pool = ("skip",) if alone and distance > _FAR else ("x", "skip") if v in self.far else _POOL
        for name in pool:
            if free(name):
                return name
        base, count = pool[-1] if "skip" in pool else "y", 2
        while not free(f"{base}_{count}"):
            count += 1
        return f"{base}_{count}"

    def _loop(self, line: Line, i: int) -> None:
        before, inside, after = line.carried  # type: ignore[misc]
        out = line.outs[0]
        mine = self.names[before]
        if out in self.fixed and (not self._is_held(self.fixed[out], i) or mine == self.fixed[out]):
            name = self.fixed[out]
        elif self.last.get(before, i) <= i and mine in (*_POOL, "skip"):
            name = mine
        else:
            name = next((n for n in _POOL if self.is_free(n, i) and n != mine), "looped")
        self.names[inside] = self.names[after] = name
        if out is not None:
            self._give(out, name)
        used = {v for inner in line.body for v in inner.uses()} - {inside}
        later = {v for v in self.names if self.last.get(v, -1) > i and v != out}
        alive = {self.names[v] for v in later | used if v in self.names}
        busy = self.busy | (alive - {name}) | set(line.targets)
        name_values(line.body, self.names, [after], busy, {after: name})


def loop_head(line: Line, names: dict[Var, str], space: str) -> str:
    """Returns the first line of a loop."""
    return wrapped(f"{space}for {', '.join(line.targets) or '_'} in {text(line.right, names)}:")


def written(lines: list[Line], names: dict[Var, str], indent: int = 0) -> list[str]:
    """Returns lines as source."""
    space = "    " * indent
    made: list[str] = []
    for line in lines:
        if line.carried is not None:
            before, inside, _ = line.carried
            if names[before] != names[inside]:
                made.append(f"{space}{names[inside]} = {names[before]}")
            made.append(loop_head(line, names, space))
            made.extend(written(line.body, names, indent + 1))
            continue
        left = text(line.target, names) or ", ".join("_" if v is None else names[v] for v in line.outs)
        right = text(line.right, names)
        if left == right:
            continue
        made.append(wrapped(f"{space}{left} = {right}" if left else f"{space}{right}"))
    return made
