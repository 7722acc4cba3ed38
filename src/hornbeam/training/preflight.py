"""What is checked before the first step: arguments, data against model and loss. Every error says what to change."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import torch

from hornbeam.core import dtype as dtypes
from hornbeam.core.errors import describe
from hornbeam.graph import symbolic, tree
from hornbeam.graph.context import setting
from hornbeam.optimizers import TorchOptimizer
from hornbeam.optimizers.from_torch import none_held
from hornbeam.training import step
from hornbeam.training.arrays import named_leaves
from hornbeam.training.data import Arrays, unpack_x_y_sample_weight
from hornbeam.training.labels import check_held_out, check_labels, is_builtin, torch_name_of, warn
from hornbeam.training.trial import check_activation, check_reach, first_bad_row, path_of, rows_of, shortened, spoils, try_out


def check_compiled(model: Any, method: str) -> None:
    """Raises where the model was not compiled, or is to be trained where no gradients are recorded."""
    if not model.compiled:
        raise ValueError(
            f"Model {model.name!r} must be compiled before `{method}`: call model.compile(optimizer, loss), "
            f"for example model.compile('adam', 'mse')."
        )
    if method in ("fit", "train_on_batch") and not torch.is_grad_enabled() and step.is_default(model, "train_step"):
        raise ValueError(
            f"`{method}` needs gradients, but is called inside torch.no_grad() or torch.inference_mode(): call it outside."
        )


def check_counts(**counts: Any) -> None:
    """Raises where an argument is neither None nor a positive integer."""
    for name, value in counts.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, Integral) or value < 1):
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
        try:
            with torch.no_grad(), setting(training=False):
                model(x)
        except Exception:
            if step.is_default(model, "train_step"):
                raise  # a step of the user's own may call something else than the model
    return outputs


def _unbuilt(module: Any) -> bool:
    return module.__dict__.get("built", True) is False and hasattr(module, "_inbound_nodes") and bool(module._declared_weights())


def examine(model: Any, source: Any, held_out: Any, outputs: Any, training: bool = True) -> None:
    """Checks data against model and loss before the first step: an error where they cannot fit, a warning where they hardly do.

    Args:
        model: a compiled and built model.
        source, held_out: the data, and the data of validation or None.
        outputs: the model's outputs as symbols, or None where they are not known.
        training: whether the model is to be trained.
    """
    plain = step.is_default(model, "compute_loss") and step.is_default(model, "train_step" if training else "test_step")
    known = outputs is not None and not any(None in tuple(s.shape)[1:] for s in tree.leaves(outputs))
    (x, y), tried = _few_rows(source), None
    if plain and (not known or _is_new(model, training)):
        tried = try_out(model, x)
    for part in (source, held_out):
        if part is not None:
            shapes = outputs if known else tried[0] if tried is not None and part is source else None
            check_targets(model, part, shapes, plain)
    if not plain:
        return
    if known and model._compile_loss is not None and isinstance(source, Arrays) and isinstance(held_out, Arrays):
        _check_held_out(model, source, held_out, outputs)
    check_values(model, source)
    if tried is not None and _is_new(model, training):
        model.__dict__["_looked_at"] = (model.optimizer, model._compile_loss, training)
        if model._compile_loss is not None and y is not None:
            for name, loss, target, output in model._compile_loss.parts(y, tried[0]):
                check_activation(name, loss, target, output)
        if training:
            check_reach(model, x, tried[0])


def _few_rows(source: Any) -> tuple[Any, Any]:
    """Returns inputs and targets of two rows."""
    x, y, _ = unpack_x_y_sample_weight(source.head(2) if isinstance(source, Arrays) else source.head())
    return rows_of(x, 0, 2), rows_of(y, 0, 2)


def _is_new(model: Any, training: bool) -> bool:
    """Whether this model was not yet looked at as it is compiled now."""
    before = model.__dict__.get("_looked_at", (None, None, None))
    return not all(a is b for a, b in zip(before, (model.optimizer, model._compile_loss, training), strict=True))


def check_targets(model: Any, source: Any, outputs: Any, plain: bool = True) -> None:
    """Raises where targets do not fit outputs and loss: shapes, and for data in memory the range of class numbers."""
    compiled = model._compile_loss
    _, y, _ = unpack_x_y_sample_weight(source.head(2) if isinstance(source, Arrays) else source.head())
    if compiled is None:
        return
    if y is None:
        if plain:
            raise ValueError(f"Model {model.name!r} was compiled with a loss, which needs targets: {source.way_to_targets}.")
        return
    if not plain:
        return
    whole = unpack_x_y_sample_weight(source.nest)[1] if isinstance(source, Arrays) else y
    all_targets = {id(t): w for t, w in zip(tree.leaves(y), tree.leaves(whole), strict=True)}
    for name, loss, target, output in _parts(model, y, outputs):
        if target is None:
            raise ValueError(f"Output {name!r} has a loss but no target in `y`.")
        _check_shapes(name, loss, target, output, source.rows if isinstance(source, Arrays) else len(target))
        if id(target) in all_targets:
            check_labels(name, loss, all_targets[id(target)], output)


def _parts(model: Any, y: Any, outputs: Any) -> list[tuple[str | None, Any, Any, Any]]:
    """Returns (output name, loss, target, stand-in for the output) of each output that has a loss, where shapes are known."""
    if outputs is None:
        return []
    rows = max(len(t) for _, t in named_leaves(y, "y") if t is not None)
    stand_ins = tree.map_leaves(lambda s: torch.zeros((rows, *s.shape[1:]), dtype=_torch_dtype(s.dtype)), outputs)
    return list(model._compile_loss.parts(y, stand_ins))


def _torch_dtype(dtype: Any) -> torch.dtype:
    return dtype if isinstance(dtype, torch.dtype) else dtypes.to_torch(dtype)


def _check_shapes(name: str | None, loss: Any, target: torch.Tensor, output: torch.Tensor, rows: int) -> None:
    """Calls a loss that is not the user's own on stand-ins, so that its complaint about shapes comes before the first step."""
    foreign = torch_name_of(loss) is not None
    if not foreign and not is_builtin(loss):
        return
    try:
        with torch.no_grad():
            (loss if foreign else loss.call)(torch.zeros_like(target, device="cpu"), output)
    except ValueError as error:
        where = f"Output {name!r}: " if name else ""
        raise ValueError(f"{where}{_with_all_rows(loss if foreign else loss.call, target, output, rows) or error}") from None
    except (RuntimeError, IndexError, TypeError):
        return


def _with_all_rows(loss: Any, target: torch.Tensor, output: torch.Tensor, rows: int) -> str | None:
    """Returns what a loss complains of where it sees all rows, of which there were a few; None where it complains of nothing."""
    try:
        loss(*(torch.zeros((rows, *t.shape[1:]), dtype=t.dtype, device="meta") for t in (target, output)))
    except ValueError as error:
        return str(error)
    except (RuntimeError, IndexError, TypeError):
        pass
    return None


def _check_held_out(model: Any, source: Any, held_out: Any, outputs: Any) -> None:
    y, other = (unpack_x_y_sample_weight(part.nest)[1] for part in (source, held_out))
    if y is None or other is None:
        return
    for (name, loss, target, _), (*_, unseen, _) in zip(*(_parts(model, t, outputs) for t in (y, other)), strict=False):
        check_held_out(name, loss, target, unseen)


def check_values(model: Any, source: Any) -> None:
    """Warns (or raises, with `on_nonfinite="raise"`) where data holds NaN or an infinity that comes through to the loss.

    Data in memory is looked through, of a stream the first batch.
    """
    choice = getattr(model, "on_nonfinite", "warn")
    model.__dict__["_spoiled_data"] = False
    if choice == "ignore":
        return
    nest = source.nest if isinstance(source, Arrays) else source.head()
    for name, part in zip(("x", "y", "sample_weight"), unpack_x_y_sample_weight(nest), strict=True):
        for leaf, value in named_leaves(part, name):
            found = first_bad_row(value)
            if found is None:
                continue
            row, number = found
            if not spoils(model, rows_of(nest, row)):
                continue
            text = (
                f"`{leaf}` holds {number} in row {row}, which makes the loss not finite. Remove such rows, or replace the values"
                f"{', for example with `np.nan_to_num`' if name == 'x' else ''}."
            )
            if choice == "raise" or getattr(model, "debug_nan", False):
                raise FloatingPointError(text)
            model.__dict__["_spoiled_data"] = True
            warn(text, RuntimeWarning)
            return


def check_weights(model: Any) -> None:
    """Raises where there is nothing to train."""
    if not model.trainable_weights:
        frozen = len(model.weights)
        raise ValueError(
            f"Model {model.name!r} has no weight to train: {f'all {frozen} are frozen' if frozen else 'it has none'}. "
            f"Set `trainable = True` on a layer, or use `evaluate`."
        )
    check_optimizer(model)


def check_optimizer(model: Any) -> None:
    """Raises where a torch optimizer holds none of the weights that learn; warns, once, where it lacks some of them."""
    given = model.optimizer
    optimizer = given.optimizer if isinstance(given, TorchOptimizer) else given
    if not isinstance(optimizer, torch.optim.Optimizer) or not step.is_default(model, "train_step"):
        return
    if isinstance(optimizer, torch.optim.LBFGS):
        raise ValueError("torch.optim.LBFGS computes the loss several times a step: use it in a `train_step` of your own.")
    weights = {id(w) for w in model.trainable_weights}
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    missing = [path_of(name) for name, p in model.named_parameters() if id(p) in weights - held]
    if len(missing) == len(weights):
        raise none_held(optimizer, len(weights))
    if missing and model.__dict__.get("_not_held") != missing:
        model.__dict__["_not_held"] = missing
        warn(
            f"{type(optimizer).__name__} holds {len(weights) - len(missing)} of the {len(weights)} weights that learn in model "
            f"{model.name!r}; the others stay as they are: {shortened(missing)}. Make the optimizer after all layers are there, "
            f"or set `trainable = False` on these layers."
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
