"""What belongs to which output: names of a model's outputs, and nests given by the user laid along them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from hornbeam.core.errors import describe, did_you_mean
from hornbeam.graph import tree


def output_names(y_pred: Any, known: list[str] | None) -> list[str | None] | None:
    """Returns a name for each output, the user's keys along the way to it ("head/box"); None where it has none.

    Args:
        y_pred: what the model returns.
        known: names of the layers that made the outputs, where the model is a graph.
    """
    if isinstance(y_pred, torch.Tensor):
        return list(known) if known is not None and len(known) == 1 else None
    count = len(tree.leaves(y_pred))
    made = iter(known if known is not None and len(known) == count else [None] * count)
    names = list(_paths(y_pred, "", made))
    if all(n is None for n in names):
        return None
    return [n if n is None or names.index(n) == i else f"{n}_{names[:i].count(n)}" for i, n in enumerate(names)]


def _paths(nest: Any, prefix: str, made: Iterator[str | None]) -> Iterator[str | None]:
    if isinstance(nest, dict):
        for key in tree.sorted_keys(nest):
            yield from _part(nest[key], f"{prefix}{key}", made, True)
    else:
        for i, part in enumerate(nest):
            yield from _part(part, f"{prefix}{i}", made, False, prefix)


def _part(nest: Any, path: str, made: Iterator[str | None], keyed: bool, prefix: str = "") -> Iterator[str | None]:
    if isinstance(nest, (dict, list, tuple)):
        yield from _paths(nest, f"{path}/", made)
        return
    name = next(made)
    if keyed:
        yield path
    else:
        yield f"{prefix}{name}" if name is not None else path if prefix else None


class Spread:
    """Lays what a user gave for outputs along them.

    Args:
        what: the argument's name, for errors.
        shared: whether one value holds for every output.
        lists: whether an output's value may be a list.
        is_value: says of a dictionary whether it is one output's value.

    >>> Spread("loss")({"b": "mse"}, {"a": torch.ones(1), "b": torch.ones(1)}, ["a", "b"])
    [None, 'mse']
    """

    def __init__(
        self, what: str, shared: bool = False, lists: bool = False, is_value: Callable[[Any], bool] = lambda value: False
    ) -> None:
        self.what, self.shared, self.lists, self.is_value = what, shared, lists, is_value

    def __call__(self, given: Any, outputs: Any, names: Sequence[str | None] | None) -> list[Any]:
        """Returns a value for each output, in the outputs' order; None where nothing was given.

        Args:
            given: one value; a list in the outputs' order; a dictionary by output names; or a nest of the outputs' form.
            outputs: what the model returns.
            names: the outputs' names, where they have some.
        """
        kind, form = type(given), type(outputs)
        if form in (list, tuple) and kind in (list, tuple) and len(given) == len(outputs) and _flat(outputs) and _flat(given):
            return list(given)
        if form is dict and kind is dict and given.keys() == outputs.keys() and _flat(outputs.values()) and _flat(given.values()):
            return [given[k] for k in tree.sorted_keys(outputs)]
        found: list[Any] = [None] * len(tree.leaves(outputs))
        for place, value in self.pairs(given, outputs, names):
            found[place] = value
        return found

    def pairs(
        self, given: Any, outputs: Any, names: Sequence[str | None] | None, by_key: bool = True
    ) -> Iterator[tuple[int, Any]]:
        """Yields (place of an output, its value) in the order in which the user wrote them.

        Args:
            given, outputs, names: as in a call.
            by_key: whether one value for several outputs comes by their keys, sorted, and not as the model wrote them.
        """
        count = len(tree.leaves(outputs))
        places = tree.pack(outputs, list(range(count)))
        if by_key:
            places = _by_key(places)
        if isinstance(given, dict) and not self.is_value(given):
            if names is not None and not isinstance(outputs, dict) and given.keys() <= set(names):
                return iter(sorted([(names.index(k), self._one(v)) for k, v in given.items()], key=lambda pair: pair[0]))
            if not isinstance(outputs, dict) and count == 1 and len(given) == 1 and names is None:
                given = next(iter(given.values()))
        elif isinstance(given, (list, tuple)):
            children = len(outputs) if isinstance(outputs, (list, tuple, dict)) else None
            if count == 1:
                places = 0
            elif len(given) == count != children:
                return iter(enumerate(map(self._one, given)))
        return self._walk(given, places, names)

    def _walk(self, given: Any, places: Any, names: Sequence[str | None] | None) -> Iterator[tuple[int, Any]]:
        if isinstance(places, int):
            if isinstance(given, dict) and not self.is_value(given):
                raise self._no_output(next(iter(given), ""), [n for n in (names or ())[places : places + 1] if n])
            yield places, self._one(given)
        elif isinstance(given, dict) and not self.is_value(given):
            keys = list(places) if isinstance(places, dict) else []
            unknown = [k for k in given if k not in keys]
            if unknown:
                raise self._no_output(unknown[0], keys or [n for n in names or () if n])
            for key in [*given, *(k for k in keys if k not in given)]:
                yield from self._walk(given.get(key), places[key], names)
        elif isinstance(given, (list, tuple)):
            parts = [places[k] for k in tree.sorted_keys(places)] if isinstance(places, dict) else places
            if len(parts) != len(given):
                here = [names[i] for i in tree.leaves(parts)] if names else None
                raise ValueError(
                    f"`{self.what}` has {len(given)} entries, but the model has {len(parts)} output(s){_list(here)}."
                )
            for value, part in zip(given, parts, strict=True):
                yield from self._walk(value, part, names)
        elif given is None or self.shared:
            for place in _as_written(places):
                yield place, given
        else:
            raise ValueError(
                f"`{self.what}` must be a list or a dictionary: the model has {len(tree.leaves(places))} outputs{_list(names)}. "
                f"Received: {describe(given)}"
            )

    def _one(self, given: Any) -> Any:
        """The value of one output; a list of one value is that value."""
        if not isinstance(given, (list, tuple)):
            return given
        if len(given) != 1 and not self.lists:
            raise ValueError(f"`{self.what}` has {len(given)} entries, but the model has 1 output.")
        return given[0] if len(given) == 1 else given

    def _no_output(self, key: Any, known: Sequence[Any]) -> ValueError:
        if not known:
            return ValueError(f"`{self.what}` has the key {key!r}, but the model's outputs have no names.")
        return ValueError(
            f"`{self.what}` has the key {key!r}, which is no output.{did_you_mean(str(key), map(str, known))} "
            f"Outputs: {', '.join(map(repr, known))}."
        )


def _flat(values: Any) -> bool:
    return not any(isinstance(v, (dict, list, tuple)) for v in values)


def _by_key(nest: Any) -> Any:
    if isinstance(nest, dict):
        return {k: _by_key(nest[k]) for k in tree.sorted_keys(nest)}
    return [_by_key(v) for v in nest] if isinstance(nest, (list, tuple)) else nest


def _as_written(nest: Any) -> Iterator[int]:
    if isinstance(nest, int):
        yield nest
    else:
        for part in nest.values() if isinstance(nest, dict) else nest:
            yield from _as_written(part)


def _list(names: Sequence[str | None] | None) -> str:
    return f" ({', '.join(map(repr, names))})" if names else ""


_targets, _weights = Spread("y"), Spread("sample_weight", shared=True)


def match(
    y: Any, y_pred: Any, sample_weight: Any, names: Sequence[str | None] | None, used: Sequence[int] = ()
) -> tuple[list[Any], list[Any], list[Any]]:
    """Returns targets, predictions and sample weights as flat lists in the outputs' order.

    Where only the outputs numbered in `used` have a loss, `y` may hold just their targets.
    """
    if isinstance(y_pred, torch.Tensor):
        y = y[0] if isinstance(y, (list, tuple)) and len(y) == 1 else y
        y = y if y is None or isinstance(y, torch.Tensor) else _targets(y, y_pred, names)[0]
        if sample_weight is not None and not isinstance(sample_weight, torch.Tensor):
            sample_weight = _weights(sample_weight, y_pred, names)[0]
        return [y], [y_pred], [sample_weight]
    predictions = tree.leaves(y_pred)
    count = len(predictions)
    if 0 < len(used) < count and not isinstance(y, dict):
        given = tree.leaves(y)
        if len(given) == len(used):
            y = [dict(zip(used, given, strict=True)).get(i) for i in range(count)]
    targets = [y] if count == 1 and isinstance(y, torch.Tensor) else _targets(y, y_pred, names)
    return targets, predictions, _weights(sample_weight, y_pred, names)
