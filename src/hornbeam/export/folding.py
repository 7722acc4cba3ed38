"""Lines that stand again: in a row they become a loop, elsewhere a function."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from hornbeam.export.code import Code, Hole, Line, Var, code, joined
from hornbeam.export.naming import Names, identifier, literal

_LONGEST = 32
_SHORT = 70
_MOST_VARIED = 3


@dataclass
class Function:
    """A function made of lines.

    Attributes:
        name: its name.
        inputs: the values it takes.
        parameters: names of the literals it takes.
        lines: what it does.
        result: what it returns.
    """

    name: str
    inputs: list[Var]
    parameters: list[str]
    lines: list[Line]
    result: Var


def folded(lines: list[Line], results: list[Var], names: Names, functions: list[Function]) -> list[Line]:
    """Returns fewer lines that do the same; functions made of them are added to `functions`."""
    lines = _loops(lines, results, 2)
    while _one_function(lines, results, names, functions):
        lines = _loops(lines, results, 1)
    return _loops(lines, results, _LONGEST)


def looped(lines: list[Line], results: list[Var]) -> list[Line]:
    """Returns fewer lines that do the same, by loops alone."""
    return _loops(_loops(lines, results, 2), results, _LONGEST)


def listed(items: list[Code]) -> Code | None:
    """Returns a list of alike items as `[item for i in range(...)]`, where that is short and they differ by a number alone."""
    rows = [[p for p in item if type(p) is Hole] for item in items]
    if len(items) < 3 or len({_form([Line([], item)])[0] for item in items}) > 1:
        return None
    varied = _Varied(rows, set(), True)
    name, start = varied.counter or ("_", 0)
    over = f"range({start}, {start + len(items)})" if start else f"range({len(items)})"
    made = code("[", *varied.filled([Line([], items[0])])[0].right, f" for {name} in {over}]")
    size = sum(len(p.text if type(p) is Hole else p) for p in made)
    return None if varied.variables or size > _SHORT else made


def _last_uses(lines: list[Line], results: list[Var]) -> dict[Var, int]:
    last: dict[Var, int] = {}
    for i, line in enumerate(lines):
        last.update((v, i) for v in line.uses())
    last.update((v, len(lines)) for v in results)
    return last


def _escaping(lines: list[Line], start: int, end: int, last: dict[Var, int]) -> Var | None:
    """The one value of a segment that is used after it, where its last line makes it and nothing else."""
    out = lines[end - 1].outs
    if len(out) != 1 or out[0] is None or last.get(out[0], -1) < end:
        return None
    inner = (v for line in lines[start : end - 1] for v in line.outs if v is not None)
    return None if any(last.get(v, -1) >= end for v in inner) else out[0]


def _weight(lines: list[Line]) -> int:
    return sum(1 + _weight(line.body) for line in lines)


# -- alike segments


def _form(lines: list[Line]) -> tuple[Any, list[Var], list[Hole]]:
    """What two segments must share to be alike; the values they take from outside; their literals."""
    known: dict[Var, Any] = {}
    taken: list[Var] = []
    holes: list[Hole] = []

    def place(v: Var | None) -> Any:
        if v is None:
            return None
        if v not in known:
            known[v] = ("in", len(taken))
            taken.append(v)
        return known[v]

    def piece(p: Any) -> Any:
        if type(p) is Hole:
            holes.append(p)
            return ("hole", p.hint, _kind(p.text))
        return place(p) if type(p) is Var else p

    def walk(line: Line) -> Any:
        before = place(line.carried[0]) if line.carried else None
        if line.carried:
            known[line.carried[1]] = ("carried", len(known))
        inner = tuple(walk(one) for one in line.body)
        shown = tuple(map(piece, line.target)), tuple(map(piece, line.right))
        for v in line.outs:
            if v is not None:
                known[v] = ("made", len(known))
        return (before, inner, shown, tuple(place(v) for v in line.outs), line.targets)

    return tuple(walk(line) for line in lines), taken, holes


def _kind(spelled: str) -> str:
    return "text" if spelled[:1] in "\"'" else "tuple" if spelled[:1] == "(" else "number"


# -- what varies


def _columns(rows: list[list[Hole]]) -> list[list[str]]:
    return [[row[i].text for row in rows] for i in range(len(rows[0]))]


def _stem(texts: list[str]) -> tuple[str, list[str], str] | None:
    """Splits names that differ into what they share before and after, and what differs."""
    plain = [t[1:-1] for t in texts]
    if any(t[:1] != '"' or "\\" in t or "{" in t or "}" in t for t in texts):
        return None
    before = _shared(plain)
    after = _shared([p[len(before) :][::-1] for p in plain])[::-1]
    middles = [p[len(before) : len(p) - len(after)] for p in plain]
    return (before, middles, after) if all(middles) else None


def _shared(texts: list[str]) -> str:
    """The common beginning, which splits no number."""
    count = 0
    while all(len(t) > count for t in texts) and len({t[count] for t in texts}) == 1:
        count += 1
    if any(t[count : count + 1].isdigit() for t in texts):
        while count and texts[0][count - 1].isdigit():
            count -= 1
    return texts[0][:count]


class _Varied:
    """Which literals of alike segments differ, and the variables that stand in their place.

    Attributes:
        variables: name of each variable, and its values (spelled) in each segment.
        counter: the name of a variable that counts, with where it starts; or None.
        whole: the variables that are names by themselves, not parts of such.
        keys: whether all attributes that differ could be told by a number that counts.
    """

    def __init__(self, rows: list[list[Hole]], taken: set[str], count_names: bool) -> None:
        self.variables: dict[str, list[str]] = {}
        self.counter: tuple[str, int] | None = None
        self.whole: set[str] = set()
        self.keys = True
        self.texts: dict[int, str] = {}
        self._stems: dict[tuple[str, ...], str] = {}
        self._taken, self._count = taken, count_names
        columns = _columns(rows) if rows and rows[0] else []
        self._numbers = sorted({tuple(map(int, c)) for c in columns if len(set(c)) > 1 and all(t.isdigit() for t in c)})
        for i, texts in enumerate(columns):
            if len(set(texts)) > 1:
                self.texts[i] = self._variable(texts, rows[0][i].hint)

    def _variable(self, texts: list[str], hint: str) -> str:
        if hint == "key":
            return self._key(texts)
        stem = _stem(texts) if hint in ("name", "part") else None
        if stem is not None:
            before, middles, after = stem
            if before or after:
                return f'f"{before}{{{self._named(tuple(middles))}}}{after}"'
            made = self._named(tuple(middles), hint == "part")
            self.whole.update([made] if hint == "name" else [])
            return made
        times = self._multiple(texts)
        if times is not None:
            smaller, factor = times
            return f"{factor} * {self._variable(smaller, hint)}"
        for name, values in self.variables.items():
            if values == texts:
                return name
        name = self._new(identifier(hint) if hint else "value")
        self.variables[name] = texts
        return name

    def _multiple(self, texts: list[str]) -> tuple[list[str], int] | None:
        """Numbers of which these are a multiple throughout, and the factor."""
        if not all(t.isdigit() for t in texts):
            return None
        own = tuple(map(int, texts))
        for other in self._numbers:
            if (
                all(other)
                and own != other
                and len({a / b for a, b in zip(own, other, strict=True)}) == 1
                and own[0] % other[0] == 0
            ):
                return [str(n) for n in other], own[0] // other[0]
        return None

    def _key(self, texts: list[str]) -> str:
        """The expression of an attribute that differs by a number: `self.blocks[i]`, or `getattr(self, f"dense_{i}")`."""
        before = _shared(texts)
        after = _shared([t[len(before) :][::-1] for t in texts])[::-1]
        number = self._counted([t[len(before) : len(t) - len(after)] for t in texts])
        if number is not None and before.endswith("[") and after.startswith("]"):
            return f"{before}{number}{after}"
        owner, _, stem = before.rpartition(".")
        if number is None or after or not stem.isidentifier():
            self.keys = False
            return texts[0]
        return f'getattr({owner}, f"{stem}{{{number}}}")'

    def _counted(self, texts: list[str]) -> str | None:
        """The expression of numbers that grow by equal steps, by a variable that counts; None where they do not."""
        numbers = [int(t) for t in texts if t.isdigit() and str(int(t)) == t]
        step = numbers[1] - numbers[0] if self._count and len(numbers) == len(texts) else 0
        if step <= 0 or numbers != list(range(numbers[0], numbers[0] + step * len(numbers), step)):
            return None
        if self.counter is None:
            self.counter = (self._new("i"), numbers[0] // step)
        name, start = self.counter
        rest = numbers[0] - step * start
        return f"{step} * {name}" * (step > 1) + name * (step == 1) + (f" {'+' if rest > 0 else '-'} {abs(rest)}" if rest else "")

    def _named(self, middles: tuple[str, ...], counts: bool = True) -> str:
        """The variable for parts of names that differ, or its expression by one that counts."""
        if middles not in self._stems:
            counted = self._counted(list(middles)) if counts else None
            if counted is None:
                self._stems[middles] = self._new("name")
                self.variables[self._stems[middles]] = [literal(m) or "" for m in middles]
            else:
                self._stems[middles] = counted
        return self._stems[middles]

    def _new(self, name: str) -> str:
        made, count = name, 1
        while made in self._taken or made in self.variables or (self.counter and made == self.counter[0]):
            count += 1
            made = f"{name}_{count}"
        return made

    def hint(self, variable: str) -> str:
        """What the values of a variable are for."""
        return "part" if variable in self._stems.values() and variable not in self.whole else variable

    def filled(self, lines: list[Line]) -> list[Line]:
        """The lines of the first segment with the variables in place of what differs."""
        place = iter(range(10**9))
        swap = lambda p: (  # noqa: E731
            self.texts.get(number, p) if type(p) is Hole and (number := next(place)) >= 0 else p
        )
        return [line.mapped(swap) for line in lines]


# -- loops


def _loops(lines: list[Line], results: list[Var], longest: int) -> list[Line]:
    """Returns the lines with runs of alike segments, of at most `longest` lines each, as loops."""
    start = 0
    while start < len(lines):
        last = _last_uses(lines, results)
        made = _loop_at(lines, start, last, longest)
        if made is not None:
            loop, count = made
            lines = [*lines[:start], loop, *lines[start + count :]]
        start += 1
    return lines


def _loop_at(lines: list[Line], start: int, last: dict[Var, int], longest: int) -> tuple[Line, int] | None:
    best: tuple[int, list[list[Line]]] | None = None
    for period in range(1, min(longest, (len(lines) - start) // 2) + 1):
        segments = _run(lines, start, period, last)
        saved = (len(segments) - 1) * _weight(lines[start : start + period]) - 1
        enough = 2 - ("block" in lines[start].about)
        if len(segments) > 1 and saved >= enough and (best is None or saved > best[0]):
            best = saved, segments
    return None if best is None or _begins_inside(lines, start, best[1], last) else _loop(best[1])


def _begins_inside(lines: list[Line], start: int, segments: list[list[Line]], last: dict[Var, int]) -> bool:
    """Whether as many segments that begin a little later differ in less: then these begin inside a block."""
    period = len(segments[0])
    for shift in range(1, period):
        later = _run(lines, start + shift, period, last)
        if len(later) >= len(segments):
            ended = _ends_blocks(segments[0][0]) and not _ends_blocks(later[0][0])
            if ended or _differing(later) < _differing(segments):
                return True
    return False


def _differing(segments: list[list[Line]]) -> int:
    return len(_Varied([_form(s)[2] for s in segments], set(), True).variables)


def _run(lines: list[Line], start: int, period: int, last: dict[Var, int]) -> list[list[Line]]:
    """The alike segments that follow each other from a line on, each taking what the one before it made."""
    first = lines[start : start + period]
    out = _escaping(lines, start, start + period, last)
    if out is None:
        return [first]
    form, taken, _ = _form(first)
    found = [first]
    carried: int | None = None
    at = start + period
    rows = [_form(first)[2]]
    while at + period <= len(lines):
        if last[out] >= at + period:
            break
        segment = lines[at : at + period]
        following = _escaping(lines, at, at + period, last)
        other, also, holes = _form(segment)
        if other == form and not _keys_go_on([*rows[-2:], holes]):
            break
        differing = [i for i, (a, b) in enumerate(zip(taken, also, strict=False)) if a != b]
        if following is None or other != form or len(differing) != 1 or also[differing[0]] != out:
            break
        if carried is not None and carried != differing[0]:
            break
        carried = differing[0]
        taken, out = also, following
        found.append(segment)
        rows.append(holes)
        at += period
    return found


def _keys_go_on(rows: list[list[Hole]]) -> bool:
    """Whether the attributes of three segments that follow each other can be told by a number that counts."""
    columns = [[row[i] for row in rows] for i in range(len(rows[0])) if rows[0][i].hint == "key"]
    return all(_Varied([[h] for h in column], set(), True).keys for column in columns)


def _loop(segments: list[list[Line]]) -> tuple[Line, int] | None:
    forms = [_form(s) for s in segments]
    varied = _Varied([f[2] for f in forms], set(), True)
    if len(varied.variables) > _MOST_VARIED or not varied.keys:
        return None
    before, _ = next((a, b) for a, b in zip(forms[0][1], forms[1][1], strict=True) if a != b)
    inside = Var(("inside", before, id(segments[0][0])))
    body = [line.mapped(lambda p: inside if p == before else p) for line in varied.filled(segments[0])]
    after, out = segments[0][-1].outs[0], segments[-1][-1].outs[0]
    names, values = list(varied.variables), list(varied.variables.values())
    count = len(segments)
    if not values:
        start = varied.counter[1] if varied.counter else 0
        over = f"range({start}, {start + count})" if start else "range("
    else:
        over = "(" + ", ".join(v[0] if len(v) == 1 else f"({', '.join(v)})" for v in zip(*values, strict=True)) + ")"
    targets = [", ".join(names)] if names else []
    if varied.counter and values:
        start = varied.counter[1]
        over = f"enumerate({over}{f', {start}' if start else ''})"
        targets = [varied.counter[0], f"({', '.join(names)})" if len(names) > 1 else names[0]]
    elif varied.counter:
        targets = [varied.counter[0]]
    right = (over, Hole(str(count), "repeats"), ")") if over == "range(" else (over,)
    about = tuple(a for line in segments[0] for a in line.about)
    wanted = dict(segments[-1][-1].wanted)
    loop = Line([out], right, wanted, about, body, (before, inside, after), tuple(targets))  # type: ignore[arg-type]
    return loop, sum(map(len, segments))


# -- functions

Place = tuple[int, int]  # which list of lines, and where in it


def _lists(lines: list[Line], results: list[Var]) -> list[tuple[list[Line], list[Var]]]:
    """The lines and those in loops, each list with what is needed after it."""
    found = [(lines, results)]
    for line in lines:
        if line.carried is not None:
            found.extend(_lists(line.body, [line.carried[2]]))
    return found


def _one_function(lines: list[Line], results: list[Var], names: Names, functions: list[Function]) -> bool:
    """Puts calls of a new function in place of the lines whose repetition costs most; returns whether there were any."""
    lists = _lists(lines, results)
    found = _best_repeated(lists)
    if found is None:
        return False
    size, places = found
    segments = [lists[i][0][start : start + size] for i, start in places]
    forms = [_form(s) for s in segments]
    name = names.take(_function_name([a for line in segments[0] for a in line.about]))
    varied = _Varied([f[2] for f in forms], {"x", "y", "z"}, False)
    body = varied.filled(segments[0])
    for line in body:
        line.wanted = {}
    functions.append(Function(name, forms[0][1], list(varied.variables), body, body[-1].outs[0]))  # type: ignore[arg-type]
    for number in reversed(range(len(places))):
        i, start = places[number]
        literals = [Hole(v[number], varied.hint(name)) for name, v in varied.variables.items()]
        end = segments[number][-1]
        right = code(f"{name}(", joined([*forms[number][1], *literals]), ")")
        lists[i][0][start : start + size] = [Line(end.outs, right, end.wanted, ("block", *end.about))]
    return True


def _best_repeated(lists: list[tuple[list[Line], list[Var]]]) -> tuple[int, list[Place]] | None:
    total = sum(len(lines) for lines, _ in lists)
    lasts = [_last_uses(lines, results) for lines, results in lists]
    best: tuple[Any, int, list[Place]] | None = None
    for size in range(2, min(_LONGEST if total <= 400 else 8, total // 2) + 1):
        places: dict[Any, list[Place]] = {}
        for i, (lines, _) in enumerate(lists):
            for start in range(len(lines) - size + 1):
                if _escaping(lines, start, start + size, lasts[i]) is not None:
                    form, taken, _ = _form(lines[start : start + size])
                    if 1 <= len(taken) <= 3 and not any(_is_layer(v) for v in taken):
                        places.setdefault((form), []).append((i, start))
        for found in places.values():
            apart = _apart(found, size)
            segments = [lists[i][0][start : start + size] for i, start in apart]
            weight = _weight(segments[0])
            saved = (len(apart) - 1) * weight - len(apart) - 3
            if saved < len(_form(segments[0])[1]) or not _varies_little(segments):
                continue
            i, start = apart[0]
            if _is_run(lists[i][0], start, size, lasts[i]):
                continue
            first = segments[0][0]
            begins_well = bool(first.about) and not {"Activation", "block"} & set(first.about) and first.carried is None
            score = not _ends_blocks(first), saved / len(_form(segments[0])[1]), begins_well
            if best is None or score > best[0]:
                best = score, size, apart
    return None if best is None else best[1:]


def _is_run(lines: list[Line], start: int, size: int, last: dict[Var, int]) -> bool:
    """Whether a segment is one shorter segment several times."""
    return any(
        len(_run(lines[: start + size], start, period, last)) * period == size
        for period in range(1, size // 2 + 1)
        if size % period == 0
    )


def _ends_blocks(line: Line) -> bool:
    """Whether people end blocks with what a line calls, rather than begin them."""
    return any("Pooling" in a or a == "Flatten" for a in line.about[:1])


def _is_layer(v: Var) -> bool:
    return type(v.key) is tuple and v.key[0] == "layer"


def _apart(places: list[Place], size: int) -> list[Place]:
    kept: list[Place] = []
    for place in places:
        if not kept or place[0] != kept[-1][0] or place[1] >= kept[-1][1] + size:
            kept.append(place)
    return kept


def _varies_little(segments: list[list[Line]]) -> bool:
    return len(_Varied([_form(s)[2] for s in segments], set(), False).variables) <= _MOST_VARIED


_TITLES: tuple[tuple[str, str], ...] = (
    ("attention", r"Attention"), ("conv", r"Conv"), ("recurrent", r"LSTM|GRU|RNN"), ("dense", r"Dense"),
)  # fmt: skip


def _function_name(about: list[str]) -> str:
    words = [a for a in about if a]
    if any("Attention" in w for w in words) and any("Normalization" in w for w in words) and any("Dense" in w for w in words):
        return "transformer_block"
    if "Add" in words:
        return "residual_block"
    for title, pattern in _TITLES:
        if any(re.search(pattern, w) for w in words):
            return f"{title}_block"
    return "block"
