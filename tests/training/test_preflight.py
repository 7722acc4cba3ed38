"""What is checked before step 1: likely mistakes give one warning, certain ones an error, and what Keras takes gives neither."""

from __future__ import annotations

import re
import warnings

import keras
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import hornbeam
from hornbeam import layers as own_layers
from hornbeam import losses as own_losses
from hornbeam.core.layer import Layer
from hornbeam.graph import tree
from hornbeam.models.model import Model
from hornbeam.models.sequential import Sequential
from hornbeam.training import trial

R = np.random.RandomState(0)
X = R.rand(8, 6).astype("float32")
IMAGES = R.rand(8, 8, 8, 3).astype("float32")
STEPS = R.rand(8, 5, 3).astype("float32")
CLASS = np.arange(8) % 3
BINARY = np.arange(8) % 2
ONE_HOT = np.eye(3, dtype="float32")[CLASS]


# -- what Keras takes, nothing is said about


def dense(units, activation=None):
    return lambda k: k.Sequential([k.Input((6,)), k.layers.Dense(units, activation=activation)])


def two_heads(named):
    def build(k):
        x = k.Input((6,))
        outputs = {"a": k.layers.Dense(1, name="a")(x), "b": k.layers.Dense(3, activation="softmax", name="b")(x)}
        return k.Model(x, outputs if named else list(outputs.values()))

    return build


def segmentation(activation):
    return lambda k: k.Sequential([k.Input((8, 8, 3)), k.layers.Conv2D(3, 3, padding="same", activation=activation)])


def sequences(*last):
    return lambda k: k.Sequential([k.Input((None, 3)), k.layers.LSTM(4, return_sequences=True), *(f(k) for f in last)])


def separate_activation(k):
    return k.Sequential([k.Input((6,)), k.layers.Dense(3), k.layers.Activation("softmax")])


def subclassed(k):
    class Net(k.Model):
        def __init__(self):
            super().__init__()
            self.d = k.layers.Dense(3)

        def call(self, x):
            return k.ops.softmax(self.d(x) * 2)

    return Net()


def normalised(k):
    x = k.Input((6,))
    raw = k.layers.Dense(3, activation="softplus")(x)
    return k.Model(x, raw / k.ops.sum(raw, axis=-1, keepdims=True))


def mixture(k):
    x = k.Input((6,))
    parts = [k.layers.Dense(3, activation="softmax")(x) for _ in range(2)]
    return k.Model(x, (parts[0] + parts[1]) / 2)


def auxiliary(k):
    class Penalty(k.layers.Layer):
        def __init__(self):
            super().__init__()
            self.d = k.layers.Dense(2)

        def call(self, x):
            self.add_loss(k.ops.mean(self.d(x) ** 2))
            return x

    return k.Sequential([k.Input((6,)), Penalty(), k.layers.Dense(1)])


def only_add_loss(k):
    class Loss(k.layers.Layer):
        def call(self, x):
            self.add_loss(k.ops.mean(x**2))
            return x

    return k.Sequential([k.Input((6,)), k.layers.Dense(4), Loss()])


def frozen_part(k):
    model = k.Sequential([k.Input((6,)), k.layers.Dense(4, activation="relu"), k.layers.Dense(1)])
    model.layers[0].trainable = False
    return model


def normed(k):
    return k.Sequential([
        k.Input((6,)), k.layers.Dense(4), k.layers.BatchNormalization(), k.layers.Dropout(0.5, seed=3), k.layers.Dense(1),
    ])  # fmt: skip


def classifier_with(name, **kwargs):
    return lambda k: getattr(k.losses, name)(**kwargs)


LEGAL = {
    "mse (n,)": (dense(1), "mse", X, X[:, 0]),
    "mse (n, 1)": (dense(1), "mse", X, X[:, :1]),
    "mse (n, 1, 1)": (dense(1), "mse", X, X[:, :1, None]),
    "mse integers": (dense(1), "mse", X, CLASS),
    "mae, 3 units": (dense(3), "mae", X, X[:, :3]),
    "huber, tanh": (dense(3, "tanh"), "huber", X, X[:, :3]),
    "log_cosh": (dense(3), "log_cosh", X, X[:, :3]),
    "mse on a softmax": (dense(3, "softmax"), "mse", X, ONE_HOT),
    "mse on a sigmoid": (dense(1, "sigmoid"), "mse", X, BINARY),
    "large numbers": (dense(1), "mse", X * 1e4, X[:, :1]),
    "integers as inputs": (lambda k: k.Sequential([k.Input((4,), dtype="int32"), k.layers.Embedding(9, 3), k.layers.Flatten(),
                                                   k.layers.Dense(1)]), "mse", R.randint(0, 9, (8, 4)), X[:, :1]),
    "cosine": (dense(3), "cosine_similarity", X, X[:, :3]),
    "kl": (dense(3, "softmax"), "kl_divergence", X, ONE_HOT),
    "poisson": (dense(1, "exponential"), "poisson", X, CLASS),
    "binary": (dense(1, "sigmoid"), "binary_crossentropy", X, BINARY),
    "binary bool": (dense(1, "sigmoid"), "binary_crossentropy", X, BINARY.astype(bool)),
    "binary soft": (dense(1, "sigmoid"), "binary_crossentropy", X, X[:, :1]),
    "binary hard sigmoid": (dense(1, "hard_sigmoid"), "binary_crossentropy", X, BINARY),
    "binary logits": (dense(1), classifier_with("BinaryCrossentropy", from_logits=True), X, BINARY),
    "binary logits with tanh": (dense(1, "tanh"), classifier_with("BinaryCrossentropy", from_logits=True), X, BINARY),
    "binary relu logits": (dense(1, "relu"), classifier_with("BinaryCrossentropy", from_logits=True), X, BINARY),
    "multi-label": (dense(3, "sigmoid"), "binary_crossentropy", X, R.randint(0, 2, (8, 3))),
    "two exclusive units": (dense(2, "softmax"), "binary_crossentropy", X, np.eye(2)[BINARY]),
    "binary focal": (dense(1, "sigmoid"), "binary_focal_crossentropy", X, BINARY),
    "categorical": (dense(3, "softmax"), "categorical_crossentropy", X, ONE_HOT),
    "categorical soft": (dense(3, "softmax"), "categorical_crossentropy", X, R.dirichlet(np.ones(3), 8)),
    "categorical smoothed": (dense(3, "softmax"), classifier_with("CategoricalCrossentropy", label_smoothing=0.1), X, ONE_HOT),
    "categorical logits": (dense(3), classifier_with("CategoricalCrossentropy", from_logits=True), X, ONE_HOT),
    "categorical focal": (dense(3, "softmax"), "categorical_focal_crossentropy", X, ONE_HOT),
    "all-zero rows": (dense(3, "softmax"), "categorical_crossentropy", X, ONE_HOT * (np.arange(8) > 3)[:, None]),
    "log-softmax as logits": (dense(3, "log_softmax"), classifier_with("CategoricalCrossentropy", from_logits=True), X, ONE_HOT),
    "sparse": (dense(3, "softmax"), "sparse_categorical_crossentropy", X, CLASS),
    "sparse (n, 1)": (dense(3, "softmax"), "sparse_categorical_crossentropy", X, CLASS[:, None]),
    "sparse floats": (dense(3, "softmax"), "sparse_categorical_crossentropy", X, CLASS.astype("float32")),
    "sparse uint8": (dense(3, "softmax"), "sparse_categorical_crossentropy", X, CLASS.astype("uint8")),
    "sparse more units": (dense(9, "softmax"), "sparse_categorical_crossentropy", X, CLASS),
    "sparse logits": (dense(3), classifier_with("SparseCategoricalCrossentropy", from_logits=True), X, CLASS),
    "sparse ignored": (dense(3, "softmax"), classifier_with("SparseCategoricalCrossentropy", ignore_class=-1), X, CLASS - 1),
    "ce": (dense(3, "softmax"), lambda k: k.losses.CategoricalCrossentropy(), X, ONE_HOT),
    "hinge 0 and 1": (dense(1, "tanh"), "hinge", X, BINARY),
    "hinge -1 and 1": (dense(1), "squared_hinge", X, BINARY * 2 - 1),
    "categorical hinge": (dense(3), "categorical_hinge", X, ONE_HOT),
    "dense prediction": (segmentation("softmax"), "sparse_categorical_crossentropy", IMAGES, R.randint(0, 3, (8, 8, 8))),
    "dense prediction, last axis 1": (segmentation("softmax"), "sparse_categorical_crossentropy", IMAGES,
                                      R.randint(0, 3, (8, 8, 8, 1))),
    "dense prediction, one-hot": (segmentation("softmax"), "categorical_crossentropy", IMAGES,
                                  np.eye(3)[R.randint(0, 3, (8, 8, 8))]),
    "dense mask": (segmentation("sigmoid"), "binary_crossentropy", IMAGES, R.randint(0, 2, (8, 8, 8, 3))),
    "sequences": (sequences(), "mse", STEPS, R.rand(8, 5, 4)),
    "tagged sequences": (sequences(lambda k: k.layers.Dense(3, activation="softmax")), "sparse_categorical_crossentropy", STEPS,
                         R.randint(0, 3, (8, 5))),
    "tagged in time": (sequences(lambda k: k.layers.TimeDistributed(k.layers.Dense(3, activation="softmax"))),
                       "sparse_categorical_crossentropy", STEPS, R.randint(0, 3, (8, 5, 1))),
    "two heads, list": (two_heads(False), ["mse", "sparse_categorical_crossentropy"], X, [X[:, 0], CLASS]),
    "two heads, dict": (two_heads(True), {"a": "mse", "b": "categorical_crossentropy"}, X, {"a": X[:, :1], "b": ONE_HOT}),
    "activation layer": (separate_activation, "sparse_categorical_crossentropy", X, CLASS),
    "subclassed": (subclassed, "sparse_categorical_crossentropy", X, CLASS),
    "normalised by hand": (normalised, "categorical_crossentropy", X, ONE_HOT),
    "mixture of softmaxes": (mixture, "sparse_categorical_crossentropy", X, CLASS),
    "a layer's loss reaches the rest": (auxiliary, "mse", X, X[:, :1]),
    "no targets": (only_add_loss, None, X, None),
    "own loss broadcasts": (dense(3), lambda k: lambda y, p: k.ops.mean((y - p) ** 2, -1), X, X[:, :1]),
    "own loss, own targets": (dense(3), lambda k: lambda y, p: k.ops.mean(p * 0 + k.ops.mean(y), -1) + k.ops.sum(p**2, -1), X,
                              R.rand(8, 7, 2)),
    "half frozen": (frozen_part, "mse", X, X[:, :1]),
    "normalised and dropped": (normed, "mse", X, X[:, :1]),
}  # fmt: skip


def fit(library, case, **kwargs):
    build, loss, x, y = LEGAL[case]
    model = build(library)
    model.compile("sgd", loss(library) if callable(loss) else loss)
    return model.fit(x, y, batch_size=4, verbose=0, shuffle=False, **kwargs)


@pytest.mark.parametrize("case", LEGAL)
def test_what_keras_takes_gives_no_word(case):
    if not case.startswith("dense prediction") or case.endswith("one-hot"):  # Keras on torch fails there: not contiguous
        fit(keras, case)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(hornbeam, case)


def test_the_same_over_a_stream():
    for case in ("sparse", "binary logits", "tagged sequences", "two heads, dict", "normalised and dropped"):
        build, loss, x, y = LEGAL[case]
        model = build(hornbeam)
        model.compile("sgd", loss(hornbeam) if callable(loss) else loss)
        model.fit(iter([tree.map_leaves(lambda t, i=i: t[i : i + 4], (x, y)) for i in (0, 4)]), verbose=0)


@pytest.mark.parametrize(
    ("last", "loss", "y"),
    [
        (nn.Linear(6, 3), nn.CrossEntropyLoss(), CLASS),
        (nn.Linear(6, 3), nn.CrossEntropyLoss(ignore_index=-1), CLASS - 1),
        (nn.Linear(6, 3), nn.CrossEntropyLoss(), ONE_HOT),
        (nn.Sequential(nn.Linear(6, 3), nn.LogSoftmax(-1)), nn.NLLLoss(), CLASS),
        (nn.Sequential(nn.Linear(6, 3), nn.LogSoftmax(-1)), nn.CrossEntropyLoss(), CLASS),
        (nn.Sequential(nn.Linear(6, 12), nn.Unflatten(1, (3, 4))), nn.CrossEntropyLoss(), R.randint(0, 3, (8, 4))),
        (nn.Sequential(nn.Linear(6, 12), nn.Unflatten(1, (4, 3))), nn.CrossEntropyLoss(), R.randint(0, 3, (8, 4))),
        (nn.Linear(6, 1), nn.BCEWithLogitsLoss(), BINARY.astype("float32")[:, None]),
        (nn.Sequential(nn.Linear(6, 1), nn.Sigmoid()), nn.BCELoss(), BINARY.astype("float32")[:, None]),
        (nn.Linear(6, 1), nn.MSELoss(), X[:, 0]),
        (nn.Linear(6, 3), F.cross_entropy, CLASS),
        (nn.Linear(6, 2), nn.L1Loss(), X[:, :2]),
    ],
)
def test_torch_losses_used_well_give_no_word(last, loss, y):
    model = Sequential([last])
    model.compile("sgd", loss)
    model.fit(X, y, batch_size=4, verbose=0)


# -- likely mistakes: one warning


class Unused(Model):
    def __init__(self):
        super().__init__(name="net")
        self.used, self.spare = own_layers.Dense(1), nn.Linear(6, 2)

    def call(self, x):
        return self.used(x)


def sequential(units, activation=None, *more):
    return Sequential([own_layers.Dense(units, activation=activation), *more], name="net")


SPARSE, BCE = "sparse_categorical_crossentropy", "binary_crossentropy"
LIKELY = {
    "softmax as logits": (
        sequential(3, "softmax"), own_losses.SparseCategoricalCrossentropy(from_logits=True), CLASS,
        "Loss 'sparse_categorical_crossentropy' takes logits, but the model's output ends in a softmax, so it is applied twice: "
        "leave the activation out, or use from_logits=False.",
    ),
    "sigmoid as logits": (
        sequential(1, "sigmoid"), own_losses.BinaryCrossentropy(from_logits=True), BINARY, "takes logits, but the model's output "
        "ends in a sigmoid",
    ),
    "torch's softmax as logits": (
        sequential(3, None, nn.Softmax(-1)), own_losses.CategoricalCrossentropy(from_logits=True), ONE_HOT, "ends in a softmax",
    ),
    "softmax into CrossEntropyLoss": (
        sequential(3, None, nn.Softmax(-1)), nn.CrossEntropyLoss(), CLASS,
        "Loss 'CrossEntropyLoss' takes logits, but the model's output ends in a softmax, so it is applied twice: "
        "leave the activation out.",
    ),
    "sigmoid into BCEWithLogitsLoss": (sequential(1, "sigmoid"), nn.BCEWithLogitsLoss(), BINARY, "takes logits"),
    "softmax into NLLLoss": (sequential(3, "softmax"), nn.NLLLoss(), CLASS, "takes log-probabilities"),
    "logits as probabilities": (
        sequential(3), SPARSE, CLASS,
        "Loss 'sparse_categorical_crossentropy' takes probabilities, but the model's output is linear: pass from_logits=True to "
        "the loss, or end the model in a softmax.",
    ),
    "one logit": (sequential(1), BCE, BINARY, "end the model in a sigmoid."),
    "relu as probabilities": (sequential(1, lambda x: torch.relu(x) + 2), BCE, BINARY, "is not between 0 and 1"),
    "log_softmax as probabilities": (sequential(3, "log_softmax"), SPARSE, CLASS, "is the result of a log_softmax"),
    "one unit's softmax": (sequential(1, "softmax"), BCE, BINARY, "A softmax over one unit is always 1"),
    "one unit for exclusive classes": (
        sequential(1, "sigmoid"), "categorical_crossentropy", BINARY,
        "Loss 'categorical_crossentropy' over one unit is always 0, so the model's output cannot learn: "
        "for two classes use 'binary_crossentropy' with one unit",
    ),
    "one logit for exclusive classes": (
        sequential(1), own_losses.CategoricalCrossentropy(from_logits=True), BINARY, "over one unit is always 0",
    ),
    "softmax for labels that do not exclude": (sequential(3, "softmax"), BCE, ONE_HOT, "use 'categorical_crossentropy'"),
    "sigmoid for classes": (sequential(3, "sigmoid"), SPARSE, CLASS, "ends in a sigmoid: use a softmax"),
    "several classes at once": (
        sequential(3, "softmax"), "categorical_crossentropy", np.maximum(ONE_HOT, ONE_HOT[::-1]),
        "The targets of 'categorical_crossentropy' name several classes at once (row 0).",
    ),
    "hinge labels": (sequential(1, "tanh"), "hinge", CLASS, "should be -1 or 1 (or 0 or 1): row 2 is 2."),
    "unused layer": (
        Unused(), "mse", X[:, :1],
        "No gradient reaches 2 of 4 trainable weights of model 'net', so they stay as they are: 'spare/weight', 'spare/bias'. "
        "Use them, or set `trainable = False` on their layers.",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", LIKELY)
def test_a_likely_mistake_gets_one_warning(case):
    model, loss, y, expected = LIKELY[case]
    model.compile("sgd", loss)
    with pytest.warns(UserWarning, match=re.escape(expected)) as found:
        model.fit(X, y, batch_size=4, verbose=0)
    assert len(found) == 1
    assert found[0].filename == __file__
    model.fit(X, y, batch_size=4, verbose=0) if "row" not in expected else None  # said once


def test_the_head_is_named():
    x = own_layers.Input((6,))
    model = Model(x, {"a": own_layers.Dense(1)(x), "b": own_layers.Dense(3)(x)})
    model.compile("sgd", {"a": "mse", "b": SPARSE})
    with pytest.warns(UserWarning, match="but output 'b' is linear") as found:
        model.fit(X, {"a": X[:, 0], "b": CLASS}, verbose=0)
    assert len(found) == 1


def test_evaluate_looks_too():
    model = sequential(3)
    model.compile("sgd", SPARSE)
    with pytest.warns(UserWarning, match="takes probabilities"):
        model.evaluate(X, CLASS, verbose=0)


def test_data_sorted_by_class():
    model = sequential(3, "softmax")
    model.compile("sgd", SPARSE)
    with pytest.warns(UserWarning, match=r"2 of 2 validation rows have labels that no training row has, such as 2") as found:
        model.fit(X, np.sort(CLASS), validation_split=0.25, verbose=0)
    assert len(found) == 1
    model.fit(X, CLASS, validation_split=0.25, verbose=0)


# -- certain mistakes


def test_nothing_can_learn():
    model = Sequential([own_layers.Dense(3), own_layers.Lambda(lambda x: x.detach() * 2)], name="net")
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match=r"No gradient reaches any weight of model 'net' \('dense\w*/kernel'.*detach"):
        model.fit(X, X[:, :3], verbose=0)


def test_shapes_of_a_subclassed_model_and_of_unknown_axes():
    class Net(Model):
        def __init__(self):
            super().__init__()
            self.d = own_layers.Dense(5)

        def call(self, x):
            return self.d(x)

    model = Net()
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match=r"targets of shape \(8, 1\) and predictions of shape \(8, 5\).*1 unit"):
        model.fit(X, X[:, :1], verbose=0)
    model = LEGAL["tagged sequences"][0](hornbeam)
    model.compile("sgd", SPARSE)
    labels = np.zeros((8, 5), int)
    labels[3, 2] = 7
    with pytest.raises(ValueError, match=r"row 3 \(at \(3, 2\)\) is 7\. The last layer needs 8 units"):
        model.fit(STEPS, labels, verbose=0)


@pytest.mark.parametrize("loss", ["mse", nn.MSELoss(), F.mse_loss, "mae", nn.L1Loss()])
@pytest.mark.parametrize("shape", [(8, 1), (8,), (8, 5), (3, 8)])
def test_targets_that_would_be_broadcast(loss, shape):
    model = sequential(3)
    model.compile("sgd", loss)
    before = model(X).detach().clone()
    with pytest.raises(ValueError, match=r"shape|rows"):
        model.fit(X, np.zeros(shape, "float32"), verbose=0)
    assert torch.equal(model(X), before)


LABELS = {
    "255 in a mask": (lambda: segmentation("softmax")(hornbeam), SPARSE, IMAGES, np.full((8, 8, 8), 255),
                      "row 0 (at (0, 0, 0)) is 255. Pass `ignore_class=255` to the loss if 255 marks what is to be left out."),
    "ignored 0 is no licence": (lambda: sequential(3, "softmax"), own_losses.SparseCategoricalCrossentropy(ignore_class=0), X,
                                CLASS + 1, "row 2 is 3. "),
    "half a class": (lambda: sequential(3, "softmax"), SPARSE, X, CLASS + 0.5, "row 0 is 0.5. Class numbers are integers."),
    "-1 and 1": (lambda: sequential(1, "sigmoid"), BCE, X, BINARY * 2 - 1, "Labels of -1 and 1 are for 'hinge'; here use "),
    "grey values": (lambda: sequential(1, "sigmoid"), BCE, X, BINARY * 255, "row 1 is 255. Divide them by 255."),
    "NaN": (lambda: sequential(1, "sigmoid"), BCE, X, np.where(BINARY, np.nan, 0), "row 1 is nan. Remove such rows."),
    "torch": (lambda: sequential(3), nn.CrossEntropyLoss(), X, CLASS + 1,
              "The labels for 'CrossEntropyLoss' must be class numbers from 0 to 2, as the model has 3 outputs: row 2 is 3. "
              "Are these labels from 1? Subtract 1 from them."),
    "torch's -1": (lambda: sequential(3), nn.CrossEntropyLoss(), X, CLASS - 1, "Pass `ignore_index=-1` to the loss"),
    "torch's binary": (lambda: sequential(1), nn.BCEWithLogitsLoss(), X, CLASS, "row 2 is 2. Are there more than two classes?"),
}  # fmt: skip


@pytest.mark.parametrize("case", LABELS)
@pytest.mark.parametrize("stream", [False, True])
def test_labels_out_of_range(case, stream):
    make, loss, x, y, expected = LABELS[case]
    model = make()
    model.compile("sgd", loss)
    with pytest.raises(ValueError, match=re.escape(expected)):
        model.fit(iter([(x, y)]), verbose=0) if stream else model.fit(x, y, verbose=0)


# -- NaN in the data


@pytest.mark.parametrize("part", ["x", "y", "sample_weight"])
@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_bad_numbers_in_data(part, number):
    data = {"x": X.copy(), "y": X[:, :1].copy(), "sample_weight": np.ones(8, "float32")}
    data[part][5] = number
    expected = f"`{part}` holds {number} in row 5, which makes the loss not finite"
    model = sequential(1)
    model.compile("sgd", "mse")
    with pytest.warns(RuntimeWarning, match=expected) as found:
        model.fit(**data, verbose=0)
    assert len(found) == 1
    with pytest.warns(RuntimeWarning, match=expected):
        model.fit(iter([tuple(data.values())]), verbose=0)
    model.compile("sgd", "mse", on_nonfinite="raise")
    with pytest.raises(FloatingPointError, match=expected):
        model.fit(**data, verbose=0)
    model.compile("sgd", "mse", on_nonfinite="ignore")
    model.fit(**data, verbose=0)


def test_bad_numbers_that_the_model_or_the_loss_takes_away():
    x, y = X.copy(), X[:, :1].copy()
    x[5] = y[2] = np.nan
    model = Sequential([own_layers.Lambda(torch.nan_to_num), own_layers.Dense(1)])
    model.compile("sgd", lambda y, p: torch.where(y.isnan(), 0, y - p) ** 2)
    assert np.isfinite(model.fit(x, y, verbose=0).history["loss"][0])


def test_sums_that_overflow_are_no_bad_numbers():
    assert trial.first_bad_row(torch.full((4, 3), 3e38)) is None
    assert trial.first_bad_row(torch.full((4, 3), 6e4, dtype=torch.float16)) is None
    big = torch.full((1000, 3), 3e38)
    big[777, 1] = torch.nan
    row, value = trial.first_bad_row(big)
    assert row == 777
    assert value != value


# -- looking changes nothing


class Counting(Layer):
    calls = 0

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(6)
        self.count = self.add_weight((), "zeros", trainable=False)

    def call(self, x, training=False):
        if training:
            self.count.assign_add(1.0)
        return self.norm(x)


def test_looking_changes_nothing():
    def run(look):
        hornbeam.utils.set_random_seed(5)
        model = Sequential([Counting(), own_layers.BatchNormalization(), own_layers.Dropout(0.5), own_layers.Dropout(0.5, seed=1),
                            own_layers.GaussianNoise(0.1), own_layers.Dense(1)])  # fmt: skip
        model.compile("adam", "mse", metrics=["mae"])
        model(X[:2])
        if look:
            for scratch in (True, False):
                assert trial.try_out(model, torch.from_numpy(X[:2]), scratch=scratch) is not None
        drawn = torch.rand(2).tolist()
        model.__dict__["_looked_at"] = (model.optimizer, model._compile_loss, True)
        history = model.fit(X, X[:, :1], batch_size=4, epochs=2, verbose=0).history
        return drawn, history, [w.tolist() for w in model.get_weights()], [b.tolist() for b in model.buffers()]

    assert run(True) == run(False)


def test_a_step_of_ones_own_is_left_alone():
    class Own(Sequential):
        def train_step(self, data):
            x, y = data
            loss = ((self(x, training=True).sum(-1) - y.sum(-1)) ** 2).mean()
            loss.backward()
            self.optimizer.apply([w.grad for w in self.trainable_weights], self.trainable_weights)
            return {"loss": loss}

    model = Own([own_layers.Dense(3)])
    model.compile("sgd", "mse")
    model.fit(X, R.rand(8, 5), verbose=0)
