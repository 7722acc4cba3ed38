"""What is checked before the first step: arguments, data against model and loss. Every error says what to change."""

from __future__ import annotations

from typing import Any

import torch

from hornbeam.core import dtype as dtypes
from hornbeam.core.errors import describe
from hornbeam.graph import symbolic, tree
from hornbeam.graph.context import setting
from hornbeam.training.arrays import named_leaves
from hornbeam.training.data import Arrays, unpack_x_y_sample_weight

_SPARSE = ("sparse_categorical_crossentropy", "SparseCategoricalCrossentropy")
_BINARY = ("binary_crossentropy", "BinaryCrossentropy")


def check_compiled(model: Any, method: str) -> None:
    """Raises where the model was not compiled."""
    if not model.compiled:
        raise ValueError(
            f"Model {model.name!r} must be compiled before `{method}`: call model.compile(optimizer, loss), "
            f"for example model.compile('adam', 'mse')."
        )


def check_counts(**counts: Any) -> None:
    """Raises where an argument is neither None nor a positive integer."""
    for name, value in counts.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise ValueError(f"`{name}` must be a positive integer. Received: {name}={value!r}")


def check_split(validation_split: Any) -> None:
    """Raises where a validation split is not at least 0 and less than 1."""
    if not isinstance(validation_split, (int, float)) or not 0 <= validation_split < 1:
        raise ValueError(
            f"`validation_split` must be at least 0 and less than 1: a part of the samples. Received: {validation_split!r}"
        )


def check_steps(source: Any, steps: int | None, name: str = "steps_per_epoch") -> None:
    """Raises where data in memory has fewer batches than an epoch wants."""
    if steps is not None and isinstance(source, Arrays) and steps > source.steps:
        raise ValueError(
            f"`{name}`={steps} wants more batches than there are: "
            f"{source.rows} rows make {source.steps} batches of {source.batch_size}."
        )


def expected_outputs(model: Any, x: Any) -> Any:
    """Returns what the model returns for inputs like these, as symbols; builds it where it is not built. None: cannot be said."""
    if model.built and getattr(model, "_graph", None) is not None:
        return tree.map_leaves(lambda r: symbolic.SymbolicTensor(r.spec.shape, r.spec.dtype), model._graph.output_nest)
    symbol = symbolic.SymbolicTensor
    inputs = tree.map_leaves(lambda t: symbol((None, *t.shape[1:]), dtypes.standardize_dtype(t.dtype)), x)
    try:
        return model.compute_output_spec(inputs)
    except Exception:
        return None


def build(model: Any, batch: Any) -> Any:
    """Builds a model for a batch; returns its expected outputs, or None."""
    x = unpack_x_y_sample_weight(batch)[0]
    outputs = expected_outputs(model, x)
    if not model.built or any(_unbuilt(m) for m in model.modules()):
        with torch.no_grad(), setting(training=False):
            model(x)
    return outputs


def _unbuilt(module: Any) -> bool:
    return module.__dict__.get("built", True) is False and hasattr(module, "_inbound_nodes") and bool(module._declared_weights())


def check_targets(model: Any, source: Any, outputs: Any) -> None:
    """Raises where targets do not fit outputs and loss: shapes, and for data in memory the range of class numbers."""
    compiled = model._compile_loss
    _, y, _ = unpack_x_y_sample_weight(source.head(1) if isinstance(source, Arrays) else source.head())
    if compiled is None:
        return
    if y is None:
        if type(model).compute_loss is _default_compute_loss():
            raise ValueError(f"Model {model.name!r} was compiled with a loss, which needs targets: pass `y`, or batches (x, y).")
        return
    if outputs is None or any(None in tuple(s.shape)[1:] for s in tree.leaves(outputs)):
        return
    rows = max(len(t) for _, t in named_leaves(y, "y") if t is not None)
    stand_ins = tree.map_leaves(lambda s: torch.zeros((rows, *s.shape[1:]), dtype=dtypes.to_torch(s.dtype)), outputs)
    whole = unpack_x_y_sample_weight(source.nest)[1] if isinstance(source, Arrays) else None
    all_targets = {id(t): w for t, w in zip(tree.leaves(y), tree.leaves(whole), strict=True)} if whole is not None else {}
    for name, loss, target, output in compiled.parts(y, stand_ins):
        if target is None:
            raise ValueError(f"Output {name!r} has a loss but no target in `y`.")
        _check_shapes(name, loss, target, output)
        if id(target) in all_targets:
            check_labels(name, loss, all_targets[id(target)], output)


def _default_compute_loss() -> Any:
    from hornbeam.training.step import compute_loss

    return compute_loss


def _check_shapes(name: str | None, loss: Any, target: torch.Tensor, output: torch.Tensor) -> None:
    """Calls a built-in loss on stand-ins, so that its own complaint about shapes comes before the first step."""
    if not type(loss).__module__.startswith("hornbeam.losses") or not _is_builtin_function(loss):
        return
    try:
        with torch.no_grad():
            loss.call(torch.zeros_like(target.cpu()), output)
    except ValueError as error:
        where = f"Output {name!r}: " if name else ""
        raise ValueError(f"{where}{error}") from None
    except (RuntimeError, IndexError, TypeError):
        return


def _is_builtin_function(loss: Any) -> bool:
    function = getattr(loss, "fn", None)
    return getattr(function, "__module__", "hornbeam").startswith("hornbeam")


def kind_of(loss: Any) -> str | None:
    """Returns "sparse" or "binary" for the losses whose targets have a range, else None."""
    names = (type(loss).__name__, getattr(getattr(loss, "fn", None), "__name__", None))
    if any(n in _SPARSE for n in names):
        return "sparse"
    return "binary" if any(n in _BINARY for n in names) else None


def check_labels(name: str | None, loss: Any, target: torch.Tensor, output: torch.Tensor) -> None:
    """Raises where a target of a cross-entropy is outside its range: names the row, the value and the range."""
    kind = kind_of(loss)
    if kind is None or not target.numel():
        return
    where = f" of output {name!r}" if name else ""
    if kind == "binary":
        wrong = (target < 0) | (target > 1) if target.dtype is not torch.bool else torch.zeros((1,), dtype=torch.bool)
        if bool(wrong.any()):
            row, value = _first(wrong, target)
            raise ValueError(
                f"The targets{where} of {_title(loss)} must lie between 0 and 1: row {row} is {value}. "
                f"Are there more than two classes? Then use 'sparse_categorical_crossentropy'."
            )
        return
    classes = output.shape[-1]
    ignored = getattr(loss, "ignore_class", None) or getattr(loss, "_fn_kwargs", {}).get("ignore_class")
    whole = target.round() if target.is_floating_point() else target
    wrong = (whole < 0) | (whole >= classes) | (whole != target)
    if ignored is not None:
        wrong &= whole != ignored
    if bool(wrong.any()):
        row, value = _first(wrong, target)
        low, high = target.min().item(), target.max().item()
        if value != value or value != round(value):
            hint = "Class numbers are integers."
        elif low == 1 and high == classes:
            hint = "Are these labels from 1? Subtract 1 from them."
        elif value < 0:
            hint = f"Pass `ignore_class={value:g}` to the loss if {value:g} marks what is to be left out."
        else:
            hint = f"The last layer needs {int(high) + 1} units for these labels."
        raise ValueError(
            f"The labels{where} for {_title(loss)} must be class numbers from 0 to {classes - 1}, "
            f"as the model has {classes} outputs: row {row} is {value:g}. {hint}"
        )


def _first(wrong: torch.Tensor, target: torch.Tensor) -> tuple[int, Any]:
    index = wrong.nonzero()[0].tolist()
    return index[0], target[tuple(index)].item()


def _title(loss: Any) -> str:
    return repr(getattr(loss, "name", type(loss).__name__))


def check_weights(model: Any) -> None:
    """Raises where there is nothing to train."""
    if not model.trainable_weights:
        frozen = len(model.weights)
        raise ValueError(
            f"Model {model.name!r} has no weight to train: {f'all {frozen} are frozen' if frozen else 'it has none'}. "
            f"Set `trainable = True` on a layer, or use `evaluate`."
        )


def check_validation(data: Any) -> tuple[Any, Any, Any]:
    """Returns validation data as (x, y, sample_weight)."""
    if isinstance(data, (tuple, list)) and 1 <= len(data) <= 3:
        return unpack_x_y_sample_weight(tuple(data))
    if isinstance(data, (tuple, list)):
        raise ValueError(
            f"`validation_data` must be (x, y), (x, y, sample_weight) or something that gives batches. Received: {describe(data)}"
        )
    return (data, None, None)
