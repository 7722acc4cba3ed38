"""Targets against the range that their loss takes: class numbers, yes-or-no labels, hinge labels, one-hot rows."""

from __future__ import annotations

import functools
import warnings
from typing import Any

import torch
from torch import Tensor

from hornbeam.graph.node import user_source
from hornbeam.training.torch_objects import TorchLoss

_SPARSE = ("sparse_categorical_crossentropy", "SparseCategoricalCrossentropy")
_CATEGORICAL = (
    "categorical_crossentropy", "CategoricalCrossentropy", "categorical_focal_crossentropy", "CategoricalFocalCrossentropy",
)  # fmt: skip
_BINARY = ("binary_crossentropy", "BinaryCrossentropy", "binary_focal_crossentropy", "BinaryFocalCrossentropy")
_HINGE = ("hinge", "Hinge", "squared_hinge", "SquaredHinge")
_TORCH = {
    "CrossEntropyLoss": "sparse", "cross_entropy": "sparse", "NLLLoss": "sparse", "nll_loss": "sparse", "BCELoss": "binary",
    "binary_cross_entropy": "binary", "BCEWithLogitsLoss": "binary", "binary_cross_entropy_with_logits": "binary",
}  # fmt: skip


def kind_of(loss: Any) -> str | None:
    """Returns "sparse", "categorical", "binary" or "hinge" for the losses whose targets have a range, else None.

    >>> from hornbeam import losses
    >>> kind_of(losses.SparseCategoricalCrossentropy())
    'sparse'
    """
    if torch_name_of(loss) is not None:
        return _TORCH.get(torch_name_of(loss))
    if not is_builtin(loss):
        return None
    names = {type(loss).__name__, getattr(getattr(loss, "fn", None), "__name__", None)}
    kinds = {"sparse": _SPARSE, "categorical": _CATEGORICAL, "binary": _BINARY, "hinge": _HINGE}
    return next((kind for kind, known in kinds.items() if names & set(known)), None)


def foreign_part(loss: Any) -> Any:
    """Returns the torch module or function that a loss calls, or None."""
    return loss.loss if isinstance(loss, TorchLoss) else None


def torch_name_of(loss: Any) -> Any:
    """Returns the name of the torch loss module or function behind a loss, or None."""
    found = foreign_part(loss)
    found = found.func if isinstance(found, functools.partial) else found
    name = type(found).__name__ if isinstance(found, torch.nn.Module) else getattr(found, "__name__", None)
    return name if (getattr(found, "__module__", None) or "").startswith("torch.") else None


def is_builtin(loss: Any) -> bool:
    """Returns whether a loss is one of the library's own, class and function."""
    own = type(loss).__module__.startswith("hornbeam.losses")
    return own and getattr(getattr(loss, "fn", None), "__module__", "hornbeam").startswith("hornbeam.")


def option(loss: Any, name: str, default: Any = None) -> Any:
    """Returns an argument of a loss, wherever the loss keeps it."""
    given = getattr(loss, "_fn_kwargs", None) or {}
    inner = foreign_part(loss)
    given = {**(inner.keywords if isinstance(inner, functools.partial) else {}), **given}
    return given.get(name, getattr(loss, name, getattr(inner, name, default)))


def title_of(loss: Any) -> str:
    """Returns a loss's name, in quotes."""
    return repr(torch_name_of(loss) or getattr(loss, "name", type(loss).__name__))


def classes_of(loss: Any, target: Tensor, output: Tensor) -> int:
    """Returns how many classes an output has. A torch loss takes them on axis 1 or the last one, as the targets' shape says."""
    if torch_name_of(loss) is None:
        return output.shape[option(loss, "axis", -1)]
    if output.ndim < 3:
        return output.shape[-1]
    second, last = target.shape[1:] == output.shape[2:], target.shape[1:] == output.shape[1:-1]
    return output.shape[1] if second and not last else output.shape[-1] if last and not second else max(output.shape[1:])


def check_labels(name: str | None, loss: Any, target: Tensor, output: Tensor) -> None:
    """Raises where a target is outside the range of its loss: names the row, the value and the range.

    Args:
        name: the output's name, or None.
        loss: the output's loss.
        target: all targets, shape (rows, …).
        output: a stand-in for the output; its shape counts.
    """
    if not target.numel() or target.is_complex():
        return
    kind, where = kind_of(loss), f" of output {name!r}" if name else ""
    if kind == "sparse":
        _check_classes(where, loss, target, output)
    elif kind == "binary":
        _check_binary(where, loss, target)
    elif kind == "hinge":
        _check_hinge(where, loss, target)
    elif kind == "categorical" and target.shape == (len(target), *output.shape[1:]):
        _check_rows(where, loss, target)


def _check_classes(where: str, loss: Any, target: Tensor, output: Tensor) -> None:
    foreign = torch_name_of(loss) is not None
    if foreign and target.is_floating_point() and target.ndim == output.ndim and target.shape[1:] == output.shape[1:]:
        return  # probabilities
    classes = classes_of(loss, target, output)
    ignored = option(loss, "ignore_index", -100) if foreign else option(loss, "ignore_class")
    wrong = _outside_classes(target, classes, ignored)
    if wrong is None:
        return
    where_, value = first(wrong, target)
    kept = target if ignored is None else target[target != ignored]
    low, high = kept.min().item(), kept.max().item()
    if value != value or value != round(value):
        hint = "Class numbers are integers."
    elif low == 1 and high == classes:
        hint = "Are these labels from 1? Subtract 1 from them."
    elif value < 0 or (value == 255 and classes < 255 and output.ndim > 2):
        argument = "ignore_index" if foreign else "ignore_class"
        hint = f"Pass `{argument}={value:g}` to the loss if {value:g} marks what is to be left out."
    else:
        hint = f"The last layer needs {int(high) + 1} units for these labels."
    raise ValueError(
        f"The labels{where} for {title_of(loss)} must be class numbers from 0 to {classes - 1}, "
        f"as the model has {classes} outputs: {where_} is {value:g}. {hint}"
    )


def _outside_classes(target: Tensor, classes: int, ignored: int | None) -> Tensor | None:
    """Returns where targets are no class numbers, or None where all are."""
    if target.dtype is torch.bool:
        return None if classes > 1 else target
    low, high = target.aminmax()
    if not target.is_floating_point() and low >= 0 and high < classes:
        return None
    wrong = (target < 0) | (target >= classes)
    if target.is_floating_point():
        wrong |= target != target.round()
    if ignored is not None:
        wrong &= target != ignored
    return wrong if bool(wrong.any()) else None


def _check_binary(where: str, loss: Any, target: Tensor) -> None:
    if target.dtype is torch.bool:
        return
    low, high = target.aminmax()
    if low >= 0 and high <= 1:
        return
    wrong = ~((target >= 0) & (target <= 1))
    where_, value = first(wrong, target)
    if value != value:
        hint = "Remove such rows."
    elif low == -1 and high == 1:
        hint = "Labels of -1 and 1 are for 'hinge'; here use `(y + 1) / 2`."
    elif high == 255:
        hint = "Divide them by 255."
    else:
        hint = "Are there more than two classes? Then use 'sparse_categorical_crossentropy'."
    raise ValueError(f"The targets{where} of {title_of(loss)} must lie between 0 and 1: {where_} is {value:g}. {hint}")


def _check_hinge(where: str, loss: Any, target: Tensor) -> None:
    wrong = (target != 0) & (target != 1) & (target != -1)
    if target.dtype is not torch.bool and bool(wrong.any()):
        where_, value = first(wrong, target)
        warn(f"The targets{where} of {title_of(loss)} should be -1 or 1 (or 0 or 1): {where_} is {value:g}.")


def _check_rows(where: str, loss: Any, target: Tensor) -> None:
    """Warns where one-hot targets hold several classes: a softmax shares one probability among them."""
    axis = option(loss, "axis", -1)
    ones = target == 1
    several = ones.sum(axis) > 1
    if bool(several.any()) and bool((ones | (target == 0)).all()):
        where_, _ = first(several, several)
        warn(
            f"The targets{where} of {title_of(loss)} name several classes at once ({where_}). If classes do not exclude one "
            f"another, use 'binary_crossentropy' with a sigmoid."
        )


def check_held_out(name: str | None, loss: Any, target: Tensor, held_out: Tensor) -> None:
    """Warns where most validation rows belong to classes that training never sees, as when data lies sorted by class."""
    if kind_of(loss) != "sparse" or target.ndim > 2 or target[0].numel() != 1 or held_out[0].numel() != 1:
        return
    unseen = ~torch.isin(held_out.flatten().to(torch.int64), target.flatten().to(torch.int64).unique())
    if 2 * int(unseen.sum()) >= len(unseen):
        where = f" of output {name!r}" if name else ""
        count, value = int(unseen.sum()), held_out.flatten()[unseen][0].item()
        warn(
            f"{count} of {len(unseen)} validation rows{where} have labels that no training row has, such as {value:g}. "
            f"Is the data sorted by class? `validation_split` takes the last rows: shuffle the data first."
        )


def first(wrong: Tensor, values: Tensor) -> tuple[str, Any]:
    """Returns where the first True is, in words, and the value there.

    >>> first(torch.tensor([False, True]), torch.tensor([5, 7]))
    ('row 1', 7)
    """
    index = wrong.nonzero()[0].tolist()
    place = index[1:] if any(size > 1 for size in values.shape[1:]) else []
    return f"row {index[0]}{f' (at {tuple(index)})' if place else ''}", values[tuple(index)].item()


def warn(text: str, category: type[Warning] = UserWarning) -> None:
    """Warns in one line, at the user's line that is running."""
    file, line = user_source() or ("", 0)
    warnings.warn_explicit(text, category, file, line)
