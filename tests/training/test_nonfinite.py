"""NaN and infinity in training: one warning or an error that names the first batch, the layer, the weight or the row."""

from __future__ import annotations

import copy
import re
import warnings
from unittest import mock

import numpy as np
import pytest
import torch
from torch import nn

import hornbeam
from hornbeam import layers, losses, optimizers
from hornbeam.core.layer import Layer
from hornbeam.losses import arguments
from hornbeam.models.sequential import Sequential
from hornbeam.optimizers import part
from hornbeam.training import nonfinite

R = np.random.RandomState(0)
X = R.randn(640, 8).astype("float32")
Y = R.randn(640, 1).astype("float32")
MARKED = X.copy()
MARKED[200] = 1e7  # batch 3 of 64, row 8
OPTIMIZERS = ["adam", "sgd", "adamw", "rmsprop", "nadam", "adagrad"]
SKIPPING = ["adam", "sgd", "adamw"]


class Divide(Layer):
    """Divides the marked row by zero."""

    def call(self, x):
        return x / (x.abs().amax(1, keepdim=True) < 1e6)


class Broken(Layer):
    by = 1.0

    def call(self, x):
        return x / self.by


class Root(Layer):
    """Gives finite numbers and, for the marked row, an infinite gradient."""

    def call(self, x):
        return torch.sqrt((x.abs() + 1) * (x.abs().amax(1, keepdim=True) < 1e6))


class Scale(Layer):
    """A weight whose gradient is NaN for the marked row, where all other gradients are finite."""

    def build(self, input_shape):
        self.w = self.add_weight((8,), "ones")

    def call(self, x):
        far = (x.abs().amax(1, keepdim=True) > 1e6).to(x.dtype)
        return x.clamp(-5, 5) + torch.sqrt(self.w * 0) * far * 0


def network(last=None, optimizer="adam", first=None, **kwargs):
    hornbeam.utils.set_random_seed(0)
    encoder = [layers.Dense(8, activation="elu"), layers.Dense(16), *([last] if last is not None else [])]
    before = [first] if first is not None else []
    model = Sequential([*before, Sequential(encoder, name="enc"), layers.Dense(1, name="head")], name="net")
    model.compile(optimizer, "mse", **kwargs)
    return model


def fit(model, x=X, y=Y, stream=False, **kwargs):
    options = {"batch_size": 64, "shuffle": False, "verbose": 0, **kwargs}
    if stream:
        size = options.pop("batch_size")
        return model.fit(iter([(x[i : i + size], y[i : i + size]) for i in range(0, len(x), size)]), verbose=0)
    return model.fit(x, y, **options)


def told(call):
    """What one call warns of, in one warning."""
    with pytest.warns(RuntimeWarning, match="not finite") as found:
        call()
    assert len([w for w in found if w.category is RuntimeWarning]) == 1
    assert found[0].filename == __file__
    return str(found[0].message)


def all_finite(model):
    return all(np.isfinite(w).all() for w in model.get_weights())


# -- C1


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_nan_label(optimizer, stream):
    y = Y.copy()
    y[64 * 3 + 40] = np.nan
    model = network(optimizer=optimizer)
    text = told(lambda: fit(model, y=y, stream=stream))
    if stream:  # data in memory is looked through before the first step
        assert "model 'net', first in batch 3 (from 0) of epoch 1: the data `y` holds nan in row 40." in text
    else:
        assert "`y` holds nan in row 232" in text
    assert all_finite(model) == (optimizer in SKIPPING)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_division_by_zero(optimizer):
    model = network(Divide(), optimizer)
    text = told(lambda: fit(model, MARKED, epochs=2))
    assert "first in batch 3 (from 0) of epoch 1: layer 'enc/2' (Divide) gave inf in row 8" in text.replace("enc/divide", "enc/2")
    assert all_finite(model) == (optimizer in SKIPPING) == ("Such steps change no weight." in text)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_an_infinite_gradient_under_a_finite_loss(optimizer):
    model = network(Root(), optimizer)
    text = told(lambda: fit(model, MARKED))
    assert "first in batch 3 (from 0) of epoch 1: the backward pass of layer 'enc/root' (Root) gave a gradient of" in text
    assert all_finite(model) == (optimizer in SKIPPING)


@pytest.mark.parametrize("name", ["SGD", "Adam", "RMSprop"])
def test_a_learning_rate_of_1e10(name):
    model = network(optimizer=getattr(optimizers, name)(1e10))
    text = told(lambda: fit(model))
    assert re.search(r"first in batch \d \(from 0\) of epoch 1: (the loss is|the weight 'enc/dense\w*/kernel' holds)", text)
    assert "the learning rate of 1e+10 may be too high" in text


def test_the_first_of_many_batches_and_a_later_epoch():
    x, y = np.tile(X, (1, 1)), Y
    x = x.copy()
    x[150 * 4 + 2] = 1e7
    model = network(Divide())
    text = told(lambda: fit(model, x, y, batch_size=4))
    assert "first in batch 150 (from 0) of epoch 1: layer 'enc/divide' (Divide) gave inf in row 2" in text
    model = network(Divide())
    def change(epoch, logs):
        source.x = MARKED if epoch == 2 else X

    class Source:
        x = X

        def __len__(self):
            return 10

        def __getitem__(self, i):
            return self.x[64 * i : 64 * i + 64], Y[64 * i : 64 * i + 64]

    source = Source()
    switch = hornbeam.callbacks.LambdaCallback(on_epoch_begin=change)
    text = told(lambda: model.fit(source, epochs=3, verbose=0, shuffle=False, callbacks=[switch]))
    assert "first in batch 3 (from 0) of epoch 3: layer 'enc/divide'" in text


def test_raise_and_ignore():
    model = network(Divide(), on_nonfinite="raise")
    with pytest.raises(FloatingPointError, match=r"first in batch 3 .*: layer 'enc/divide' \(Divide\) gave inf in row 8\."):
        fit(model, MARKED)
    assert all_finite(model)
    assert "found_inf" not in model.optimizer.__dict__
    model = network(Divide(), on_nonfinite="ignore")
    fit(model, MARKED)
    assert not all_finite(model)
    with pytest.raises(ValueError, match=r"`on_nonfinite` must be one of 'warn', 'raise', 'ignore'.*Did you mean 'raise'"):
        network(on_nonfinite="rais")


def test_good_steps_after_a_bad_one_go_on():
    model = network(Divide())
    told(lambda: fit(model, MARKED, epochs=3))
    before = model.get_weights()
    history = fit(model, X).history
    assert np.isfinite(history["loss"][0])
    assert not np.array_equal(before[0], model.get_weights()[0])


def test_good_training_is_the_same_with_and_without_the_watch():
    def run(choice, optimizer):
        model = network(optimizer=optimizer, on_nonfinite=choice)
        return fit(model, epochs=2).history["loss"], [w.tolist() for w in model.get_weights()]

    for optimizer in ("adam", "sgd", "rmsprop"):
        assert run("warn", optimizer) == run("ignore", optimizer)


# -- C9, C2


@pytest.mark.parametrize("clip", [{"global_clipnorm": 1.0}, {"clipnorm": 1.0}, {"clipvalue": 0.5}, {}])
def test_one_nan_gradient_and_clipping(clip):
    model = network(first=Scale(name="scale"), optimizer=optimizers.Adam(**clip))
    text = told(lambda: fit(model, MARKED))
    assert "'scale" in text
    assert "Such steps change no weight." in text
    assert all_finite(model)


def test_accumulated_gradients():
    model = network(Root(), optimizers.Adam(gradient_accumulation_steps=4))
    text = told(lambda: fit(model, MARKED, batch_size=16))
    assert "first in batch 12 (from 0) of epoch 1: the backward pass of layer 'enc/root'" in text


def test_overflow_of_float16_is_no_nan():
    model = network(optimizer=optimizers.LossScaleOptimizer(optimizers.SGD(1e-9), initial_scale=2.0**127))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(model, y=Y * 1e3)
    assert model.optimizer.dynamic_scale < 2.0**127
    assert int(model.optimizer.iterations) < 10
    assert all_finite(model)


# -- debug_nan


def test_debug_forward():
    model = network(Divide(), debug_nan=True)
    expected = r"Model 'net', batch 3 \(from 0\) of epoch 1: layer 'enc/divide' \(Divide\) gave inf in row 8\."
    with pytest.raises(FloatingPointError, match=expected):
        fit(model, MARKED)
    assert all_finite(model)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert "compute_loss" not in model.__dict__


def test_debug_backward():
    model = network(Root(), debug_nan=True)
    with pytest.raises(FloatingPointError, match=r"batch 3 .*: the backward pass of layer 'enc/root' \(Root\) gave"):
        fit(model, MARKED)
    assert all_finite(model)


@pytest.mark.parametrize("part", ["x", "y"])
def test_debug_data_of_a_stream(part):
    data = {"x": X.copy(), "y": Y.copy()}
    data[part][64 * 3 + 40] = np.nan
    model = network(debug_nan=True)
    with pytest.raises(FloatingPointError, match=rf"batch 3 \(from 0\) of epoch 1: the data `{part}` holds nan in row 40"):
        fit(model, **data, stream=True)


def test_debug_a_rate_too_high_and_a_weight():
    with pytest.raises(FloatingPointError, match=r"batch 1 .*: the loss is inf, from outputs that .*1e\+10 may be too high"):
        fit(network(optimizer=optimizers.SGD(1e10), debug_nan=True))
    with pytest.raises(FloatingPointError, match=r"batch 0 .*: the weight 'enc/dense\w*/kernel' holds (-?inf|nan)"):
        fit(network(optimizer=optimizers.SGD(1e38), debug_nan=True), y=Y * 100)


def test_debug_a_module_of_torch_and_operations_between_layers():
    class Net(hornbeam.models.Model):
        def __init__(self):
            super().__init__(name="net")
            self.body = nn.Sequential(nn.Linear(8, 4), nn.ReLU())
            self.head = layers.Dense(1)

        def call(self, x):
            return self.head(self.body(x) / (x.abs().amax(1, keepdim=True) < 1e6))

    model = Net()
    model.compile("adam", "mse", debug_nan=True)
    with pytest.raises(FloatingPointError, match=r"(nan|inf) in row \d reaches layer 'head' \(Dense\), made by operations"):
        fit(model, MARKED)


def test_debug_leaves_minus_infinity_to_masks():
    class Mask(Layer):
        def call(self, x):
            return torch.where(torch.arange(x.shape[-1]) > 2, -torch.inf, x)

    model = Sequential([layers.Dense(6), Mask(), layers.Softmax(), layers.Dense(1)])
    model.compile("adam", "mse", debug_nan=True)
    assert np.isfinite(fit(model).history["loss"][0])


def test_debug_changes_no_bit():
    def run(debug):
        model = network(layers.Dropout(0.3), debug_nan=debug)
        return fit(model, epochs=2).history["loss"], [w.tolist() for w in model.get_weights()]

    assert run(True) == run(False)


# -- looking


def test_the_search_leaves_no_trace():
    hornbeam.utils.set_random_seed(0)
    broken = Broken()
    body = [layers.Dense(8), layers.BatchNormalization(), layers.Dropout(0.5), nn.BatchNorm1d(8)]
    model = Sequential([*body, broken, layers.Dense(1)])
    model.compile("adam", "mse", metrics=["mae"])
    fit(model)
    batch = (torch.from_numpy(X[192:256]), torch.from_numpy(Y[192:256]))
    assert nonfinite.first_fault(model, batch) is None
    broken.by = 0.0
    state, results = copy.deepcopy(model.state_dict()), {k: float(v) for k, v in model.get_metrics_result().items()}
    stream = torch.get_rng_state()
    assert nonfinite.first_fault(model, batch).startswith("layer 'broken' (Broken) gave")
    assert all(torch.equal(state[k], v) for k, v in model.state_dict().items())
    assert {k: float(v) for k, v in model.get_metrics_result().items()} == results
    assert torch.equal(stream, torch.get_rng_state())
    assert all(p.grad is None for p in model.parameters())


def test_reads_are_few():
    model = network()
    fit(model, epochs=1)
    with mock.patch.object(nonfinite.Notes, "read", autospec=True, side_effect=nonfinite.Notes.read) as read:
        fit(model, np.tile(X, (4, 1)), np.tile(Y, (4, 1)), batch_size=8)
    epochs, steps = model.history.params["epochs"], 4 * len(X) // 8
    assert read.call_count == epochs * -(-steps // 64)


def test_the_memory_of_kept_batches_is_bounded():
    small, large = torch.zeros(4), torch.zeros(1 << 22)
    assert nonfinite._how_many_to_keep((small, small)) == 64
    assert nonfinite._how_many_to_keep((large, small)) == 3
    assert nonfinite._how_many_to_keep((torch.zeros(1 << 25),)) == 1


def test_a_batch_that_was_not_kept(monkeypatch):
    monkeypatch.setattr(nonfinite, "KEPT_BYTES", 1)
    model = network(Divide())
    text = told(lambda: fit(model, MARKED))
    assert "first in batch 3 (from 0) of epoch 1: the weights are finite, and what made the numbers is no longer to be s" in text


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_the_flag(dtype, number):
    grads = [torch.ones(3, dtype=dtype), torch.ones(2, 2)]
    flag = torch.zeros(())
    part.note_nonfinite(grads, flag)
    assert flag == 0
    assert torch.equal(grads[0], torch.ones(3, dtype=dtype))
    grads[0][1] = number
    part.note_nonfinite(grads, flag)
    assert flag == 1
    part.note_nonfinite([torch.ones(2)], flag)
    assert flag == 1


def test_the_flag_without_the_private_function(monkeypatch):
    flag = torch.zeros(())
    part.note_nonfinite([torch.ones(1).expand(3), torch.eye(3).to_sparse()], flag)
    assert flag == 0
    part.note_nonfinite([torch.eye(3).to_sparse() * torch.nan], flag)
    assert flag == 1
    monkeypatch.delattr(torch, "_amp_foreach_non_finite_check_and_unscale_")
    flag.zero_()
    part.note_nonfinite([torch.ones(3)], flag)
    assert flag == 0
    part.note_nonfinite([torch.ones(3), torch.tensor([torch.inf])], flag)
    assert flag == 1


def test_an_optimizer_outside_fit_is_not_watched():
    w = nn.Parameter(torch.ones(2))
    optimizers.SGD(0.5).apply([torch.tensor([torch.nan, 1.0])], [w])
    assert w[0].isnan()
    assert w[1] == 0.5


# -- D2: class numbers out of range on a device whose kernels do not check them


@pytest.mark.parametrize("from_logits", [False, True])
@pytest.mark.parametrize("wrong", [-1, 3, 255])
def test_a_label_out_of_range_where_kernels_do_not_check(monkeypatch, wrong, from_logits):
    monkeypatch.setattr(arguments, "kernels_check", lambda index: False)
    labels = np.arange(640) % 3
    labels[64 * 3 + 40] = wrong
    model = Sequential([layers.Dense(3, activation=None if from_logits else "softmax", name="out")], name="net")
    model.compile("adam", losses.SparseCategoricalCrossentropy(from_logits=from_logits), metrics=["accuracy"])
    text = told(lambda: fit(model, y=labels, stream=True))
    assert "first in batch 3 (from 0) of epoch 1: The labels for 'sparse_categorical_crossentropy' must be class numbers" in text
    assert f"row 40 is {wrong}. " in text
    assert all_finite(model)


def test_guarded_losses_are_the_same_where_labels_are_right(monkeypatch):
    y, p = torch.arange(12).reshape(4, 3) % 5, torch.rand(4, 3, 5)
    kinds = [losses.SparseCategoricalCrossentropy(), losses.SparseCategoricalCrossentropy(from_logits=True),
             losses.SparseCategoricalCrossentropy(ignore_class=2), losses.CategoricalGeneralizedCrossEntropy()]  # fmt: skip
    plain = [loss(y, p) for loss in kinds]
    monkeypatch.setattr(arguments, "kernels_check", lambda index: False)
    assert [loss(y, p) for loss in kinds] == plain
    assert kinds[2](torch.where(y == 2, 2, y), p) == plain[2]
    y[1, 1] = 7
    assert all(loss(y, p).isnan() for loss in kinds)


def test_a_label_of_a_later_batch_is_named_on_the_cpu():
    labels = np.arange(640) % 3
    labels[64 * 3 + 40] = 9
    model = Sequential([layers.Dense(3, activation="softmax")])
    model.compile("adam", "sparse_categorical_crossentropy")
    with pytest.raises(ValueError, match=r"class numbers from 0 to 9 \(row 40 has 9\), but the predictions have 3 classes"):
        fit(model, y=labels, stream=True)
