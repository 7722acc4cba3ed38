"""What newcomers get wrong with fit: each mistake is an error before the first step that says what to do."""

from __future__ import annotations

import re
import threading

import numpy as np
import pytest
import torch

import hornbeam
from hornbeam import losses
from hornbeam.graph.context import context
from hornbeam.layers.dense import Dense
from hornbeam.layers.input import Input
from hornbeam.models.model import Model
from hornbeam.models.sequential import Sequential
from hornbeam.training import callbacks

X = np.ones((10, 3), "float32")
CLASSES = np.arange(10) % 4


def compiled(units=4, loss=None, activation=None, **kwargs):
    model = Sequential([Dense(units, activation=activation)], name="net")
    model.compile("adam", losses.SparseCategoricalCrossentropy(from_logits=True) if loss is None else loss, **kwargs)
    return model


def heads():
    x = Input((3,))
    model = Model(x, [Dense(1, name="price")(x), Dense(4, name="kind")(x)], name="net")
    model.compile("sgd", {"price": "mse", "kind": losses.SparseCategoricalCrossentropy(from_logits=True)})
    return model


def frozen():
    model = compiled()
    model.build((None, 3))
    model.trainable = False
    return model


def with_label(value, at=6):
    labels = CLASSES.copy()
    labels[at] = value
    return labels


def ragged(n):
    return iter([(X[:4], CLASSES[:4]), (X[:4].astype("float64")[:, None] if n else X[:4], CLASSES[:4])])


MISTAKES = {
    "not compiled": (
        lambda: Sequential([Dense(4)], name="net").fit(X, CLASSES),
        "Model 'net' must be compiled before `fit`: call model.compile(optimizer, loss), "
        "for example model.compile('adam', 'mse').",
    ),
    "evaluate not compiled": (lambda: Sequential([Dense(4)]).evaluate(X, CLASSES), "must be compiled before `evaluate`"),
    "no data": (lambda: compiled().fit(), "`x` is missing: give arrays, tensors, a DataLoader, or an iterable of batches."),
    "no targets": (
        lambda: compiled().fit(X),
        "Model 'net' was compiled with a loss, which needs targets: pass `y`, or batches (x, y).",
    ),
    "no loss": (
        lambda: (m := Sequential([Dense(4)], name="net"), m.compile("adam"), m.fit(X, CLASSES)),
        "Model 'net' has no loss: pass `loss` to compile(), or add one with `add_loss` in a layer.",
    ),
    "short targets": (
        lambda: compiled().fit(X, CLASSES[:8]),
        "All arrays must have the same number of rows; `y` is too short. Rows: x: 10, y: 8.",
    ),
    "short inputs": (lambda: compiled().fit(X[:8], CLASSES), "`x` is too short. Rows: x: 8, y: 10."),
    "short entry": (
        lambda: heads().fit(X, {"price": X[:, :1], "kind": CLASSES[:9]}),
        "`y['kind']` is too short. Rows: x: 10, y['kind']: 9, y['price']: 10.",
    ),
    "short weights": (lambda: compiled().fit(X, CLASSES, sample_weight=np.ones(3)), "`sample_weight` is too short."),
    "strings": (
        lambda: compiled().fit(np.array(["a", "b"]), CLASSES[:2]),
        "`x` holds text (for example 'a'): an array of dtype <U1 and shape (2,). Turn it into integers first, for example with a "
        "TextVectorization or StringLookup layer.",
    ),
    "a list of strings": (lambda: compiled().fit(X[:2], ["cat", "dog"]), "`y` holds text (for example 'cat')"),
    "objects": (
        lambda: compiled().fit(np.array([None, {}], dtype=object), CLASSES[:2]),
        "`x` holds no numbers (for example None)",
    ),
    "rows of different lengths": (
        lambda: compiled().fit(np.array([[1, 2], [3]], dtype=object), CLASSES[:2]),
        "`x` holds rows of different lengths (2, …). Pad them to one length, for example with `pad_sequences`.",
    ),
    "too large for float32": (
        lambda: compiled().fit(np.full((10, 3), 1e300), CLASSES),
        "`x` holds 1e+300 at index (0, 0), which torch.float32 cannot hold.",
    ),
    "too large for int64": (lambda: compiled().fit(X, np.full(10, 2**63, dtype=np.uint64)), "which is too large for int64"),
    "too large for float32, in a dictionary": (
        lambda: compiled().fit({"a": X, "b": np.where(np.arange(30).reshape(10, 3) == 13, -1e300, 1.0)}, CLASSES),
        "`x['b']` holds -1e+300 at index (4, 1), which torch.float32 cannot hold. Scale it, or use a wider dtype.",
    ),
    "too large for float32, as targets": (
        lambda: compiled(1, "mse").fit(X, np.where(np.arange(10) == 7, 1e300, 0.0)),
        "`y` holds 1e+300 at index (7,), which torch.float32 cannot hold.",
    ),
    "transposed targets": (lambda: compiled(4, "mse").fit(X, np.ones((4, 10))), "`y` is too short. Rows: x: 10, y: 4."),
    "transposed sequences": (
        lambda: compiled(4, "mse").fit(np.ones((10, 6, 3), "float32"), np.ones((10, 4, 6), "float32")),
        "got targets of shape (10, 4, 6) and predictions of shape (10, 6, 4), which must be equal.",
    ),
    "ragged list of targets": (
        lambda: compiled(2, "mse").fit(X[:2], np.array([[1.0, 2.0], [3.0]], dtype=object)),
        "`y` holds rows of different lengths (2, …).",
    ),
    "a number": (lambda: compiled().fit(3.0, CLASSES), "float"),
    "empty": (lambda: compiled().fit(X[:0], CLASSES[:0]), "There is no data: `x`, `y` has no rows."),
    "empty generator": (lambda: compiled().fit(iter([])), "There is no data"),
    "batch_size=0": (
        lambda: compiled().fit(X, CLASSES, batch_size=0),
        "`batch_size` must be a positive integer. Received: batch_size=0",
    ),
    "validation_freq=0": (
        lambda: compiled().fit(X, CLASSES, validation_data=(X, CLASSES), validation_freq=0),
        "`validation_freq` must be a positive integer, or the list of the epochs (from 1) that end with a validation. Received: "
        "validation_freq=0",
    ),
    "validation_freq as string": (
        lambda: compiled().fit(X, CLASSES, validation_data=(X, CLASSES), validation_freq="1"),
        "`validation_freq` must be a positive integer, or the list",
    ),
    "batch_size as float": (lambda: compiled().fit(X, CLASSES, batch_size=2.0), "`batch_size` must be a positive integer"),
    "epochs as string": (
        lambda: compiled().fit(X, CLASSES, epochs="3"),
        "`epochs` must be a positive integer. Received: epochs='3'",
    ),
    "all for validation": (
        lambda: compiled().fit(X, CLASSES, validation_split=1.0),
        "`validation_split` must be at least 0 and less than 1: a part of the samples. Received: 1.0",
    ),
    "too small a split": (
        lambda: compiled().fit(X[:2], CLASSES[:2], validation_split=0.9),
        "validation_split=0.9 of 2 samples leaves 0 for training and 2 for validation.",
    ),
    "split of a stream": (
        lambda: compiled().fit(ragged(0), validation_split=0.5),
        "`validation_split` needs arrays or tensors in memory. Pass `validation_data` instead.",
    ),
    "too many steps": (
        lambda: compiled().fit(X, CLASSES, batch_size=4, steps_per_epoch=9),
        "`steps_per_epoch`=9 wants more batches than there are: 10 rows make 3 batches of 4.",
    ),
    "y beside a stream": (lambda: compiled().fit(ragged(0), CLASSES), "`y` must not be given where x is"),
    "labels from 1": (
        lambda: compiled().fit(X, CLASSES + 1),
        "The labels for 'sparse_categorical_crossentropy' must be class numbers from 0 to 3, "
        "as the model has 4 outputs: row 3 is 4. "
        "Are these labels from 1? Subtract 1 from them.",
    ),
    "label too large": (
        lambda: compiled().fit(X, with_label(255)),
        "row 6 is 255. The last layer needs 256 units for these labels.",
    ),
    "negative label": (
        lambda: compiled().fit(X, with_label(-1)),
        "row 6 is -1. Pass `ignore_class=-1` to the loss if -1 marks what is to be left out.",
    ),
    "NaN label": (
        lambda: compiled().fit(X, np.where(np.arange(10) == 6, np.nan, CLASSES)),
        "row 6 is nan. Class numbers are integers.",
    ),
    "label in validation data": (
        lambda: compiled().fit(X, CLASSES, validation_data=(X, with_label(9))),
        "row 6 is 9. The last layer needs 10 units",
    ),
    "binary label 2": (
        lambda: compiled(1, "binary_crossentropy", "sigmoid").fit(X, CLASSES[:, None] % 3),
        "The targets of 'binary_crossentropy' must lie between 0 and 1: row 2 is 2. Are there more than two classes?",
    ),
    "one output, three targets": (lambda: compiled(3, "mse").fit(X, X[:, :1]), "give the last layer 1 unit"),
    "broadcast targets": (lambda: compiled(3, "mse").fit(X, CLASSES), "shape"),
    "one-hot for sparse": (lambda: compiled().fit(X, np.eye(4, dtype="float32")[CLASSES]), "use 'categorical_crossentropy'"),
    "targets of one output": (
        lambda: heads().fit(X, [X[:, :1]]),
        "`y` has 1 entries, but the model has 2 output(s) ('price', 'kind').",
    ),
    "misspelt output": (
        lambda: heads().fit(X, {"prise": X[:, :1], "kind": CLASSES}),
        "`y` has the key 'prise', which is no output. Did you mean 'price'? Outputs: 'price', 'kind'.",
    ),
    "labels of a head": (lambda: heads().fit(X, [X[:, :1], CLASSES + 1]), "The labels of output 'kind' for"),
    "misspelt loss": (lambda: compiled(loss="mean_squard_error"), "Did you mean 'mean_squared_error'"),
    "misspelt optimizer": (lambda: Sequential([Dense(1)]).compile("adamm", "mse"), "Did you mean 'adam"),
    "metrics not in a list": (
        lambda: compiled(metrics="accuracy"),
        "`metrics` must be a list or a dictionary, such as metrics=['accuracy'].",
    ),
    "misspelt metric": (lambda: compiled(metrics=["acuracy"]).fit(X, CLASSES), "accuracy"),
    "nothing to train": (lambda: frozen().fit(X, CLASSES), "Model 'net' has no weight to train: all 2 are frozen."),
    "callback class": (
        lambda: compiled().fit(X, CLASSES, callbacks=[callbacks.History]),
        "Make an instance: History(...).",
    ),
    "verbose": (lambda: compiled().fit(X, CLASSES, verbose="loud"), "`verbose` must be 0, 1, 2 or 'auto'. Received: 'loud'"),
    "both weights": (
        lambda: compiled().fit(X, CLASSES, sample_weight=np.ones(10), class_weight={0: 1.0}),
        "`class_weight` and `sample_weight` cannot be given together.",
    ),
    "class weights for two outputs": (
        lambda: heads().fit(X, [X[:, :1], CLASSES], class_weight={0: 2.0}),
        "`class_weight` needs a model with a single output",
    ),
    "stream changes form": (lambda: compiled().fit(ragged(1)), "Batch 1 has another form than the first one"),
    "loss without a return": (
        lambda: compiled(3, lambda y, o: None).fit(X, X),
        "must return a tensor: one value per sample, or one number. Is its `return` missing? Received: None",
    ),
    "loss as a float": (lambda: compiled(3, lambda y, o: 3.0).fit(X, X), "The loss of model 'net' has no gradient"),
    "loss by NumPy": (
        lambda: compiled(3, lambda y, o: np.mean(np.square(y.numpy() - o.detach().numpy()))).fit(X, X), "has no gradient"
    ),
    "detached loss": (
        lambda: compiled(3, lambda y, o: (y - o).square().mean().detach()).fit(X, X),
        "look for detach(), item(), argmax, rounding, .data, NumPy or torch.no_grad() in the loss.",
    ),
    "loss that is not reduced": (
        lambda: compiled(3, losses.MeanSquaredError(reduction="none")).fit(X, X),
        "The loss of model 'net' has shape (10,), but training needs one number. Does a loss have reduction='none'?",
    ),
    "metric without a return": (
        lambda: compiled(3, "mse", metrics=[lambda y, o: None]).fit(X, X),
        "Metric 'lambda' must return a tensor: one value per sample, or one number. Is its `return` missing?",
    ),
    "no gradients": (
        lambda: torch.no_grad()(compiled(3, "mse").fit)(X, X),
        "`fit` needs gradients, but is called inside torch.no_grad() or torch.inference_mode()",
    ),
    "inference mode": (
        lambda: torch.inference_mode()(compiled(3, "mse").train_on_batch)(X, X), "`train_on_batch` needs gradients",
    ),
    "narrow targets": (
        lambda: compiled(3, torch.nn.MSELoss()).fit(X, X[:, :1]),
        "Received: targets of shape (10, 1) and outputs of shape (10, 3).",
    ),
    "wrong width": (lambda: heads().fit(X[:, :2], [X[:, :1], CLASSES]), "'price'"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_gets_a_helpful_error(mistake):
    call, expected = MISTAKES[mistake]
    with pytest.raises((ValueError, TypeError), match=re.escape(expected)):
        call()


def test_a_failed_fit_changes_no_weight():
    model = compiled()
    model.build((None, 3))
    before = model.get_weights()
    for bad in (CLASSES + 1, CLASSES[:3], np.eye(4)[CLASSES]):
        with pytest.raises(ValueError, match=r"labels|rows|categorical"):
            model.fit(X, bad)
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))
    assert torch.is_grad_enabled()


def test_an_ignored_class_is_allowed():
    model = compiled(loss=losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=-1))
    assert np.isfinite(model.fit(X, with_label(-1), verbose=0).history["loss"][0])


def test_a_failed_fit_leaves_the_surroundings_as_they_were():
    """Twice an error in the middle of an epoch, then a fit like any other from that state."""

    def broken():
        yield X[:4], CLASSES[:4]
        raise KeyError("lost")

    def fresh():
        hornbeam.utils.set_random_seed(3)
        model = compiled()
        model.build((None, 3))
        return model

    def surroundings(model):
        return torch.is_grad_enabled(), torch.is_autocast_enabled("cpu"), threading.active_count(), model.training

    model = fresh()
    for _ in range(2):
        before = surroundings(model)
        with pytest.raises(KeyError, match="lost"):
            model.fit(broken(), verbose=0)
        assert surroundings(model) == before
        assert context.training is None
        assert context.depth == 0
        assert "found_inf" not in model.optimizer.__dict__
        assert all(w.grad is None for w in model.trainable_weights)
    other = fresh()
    other.build((None, 3))
    other.set_weights(model.get_weights())
    other.optimizer.build(other.trainable_weights)
    other.optimizer.set_weights([v.detach().clone() for v in model.optimizer.variables])
    runs = [m.fit(X, CLASSES, verbose=0, shuffle=False, epochs=2).history for m in (model, other)]
    assert runs[0] == runs[1]
