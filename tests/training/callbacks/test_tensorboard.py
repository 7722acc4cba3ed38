"""What the TensorBoard callback writes, read back with TensorBoard's own reader."""

from __future__ import annotations

import builtins
import json
import sys

import numpy as np
import pytest
import torch
from torch import nn

from hornbeam.callbacks import Callback, LearningRateScheduler, TensorBoard
from hornbeam.core.random import set_random_seed
from hornbeam.layers import Conv2D, Dense, Dropout, Embedding, Flatten, Input
from hornbeam.models import Model, Sequential

pytest.importorskip("tensorboard")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(40, 4)).astype("float32"), RNG.normal(size=(40, 1)).astype("float32")


def model_of(**compile):
    set_random_seed(5)
    model = Sequential([Input((4,)), Dense(3, name="d"), Dropout(0.5), Dense(1, name="e")], name="net")
    model.compile("sgd", "mse", metrics=["mae"], **compile)
    return model


def fit(board, model=None, more=(), **options):
    model = model or model_of()
    options = {"batch_size": 10, "epochs": 2, "validation_data": (X, Y), "verbose": 0, **options}
    return model, model.fit(X, Y, callbacks=[board, *more], **options)


def read(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder), size_guidance={"scalars": 0, "histograms": 0, "images": 0})
    found.Reload()
    return found


def scalars(folder):
    found = read(folder)
    return {tag: {e.step: e.value for e in found.Scalars(tag)} for tag in found.Tags()["scalars"]}


def test_results_of_epochs(tmp_path):
    _, history = fit(TensorBoard(tmp_path))
    train, validation = scalars(tmp_path / "train"), scalars(tmp_path / "validation")
    assert sorted(train) == ["epoch_learning_rate", "epoch_loss", "epoch_mae"]
    assert sorted(validation) == ["epoch_loss", "epoch_mae", "evaluation_loss_vs_iterations", "evaluation_mae_vs_iterations"]
    assert list(train["epoch_loss"].values()) == pytest.approx(history.history["loss"])
    assert list(validation["epoch_loss"].values()) == pytest.approx(history.history["val_loss"])
    assert list(validation["evaluation_loss_vs_iterations"]) == [4, 8]
    assert train["epoch_learning_rate"] == {0: pytest.approx(0.01), 1: pytest.approx(0.01)}


@pytest.mark.parametrize(("every", "steps"), [("batch", range(1, 9)), (1, range(1, 9)), (2, (2, 4, 6, 8)), (3, (3, 6))])
def test_results_of_batches(tmp_path, every, steps):
    fit(TensorBoard(tmp_path, update_freq=every, write_steps_per_second=True))
    train = scalars(tmp_path / "train")
    assert all(list(train[tag]) == list(steps) for tag in ("batch_loss", "batch_mae", "batch_steps_per_second"))
    assert all(v > 0 for v in train["epoch_steps_per_second"].values())


def test_several_steps_at_once(tmp_path):
    fit(TensorBoard(tmp_path, update_freq=3, profile_batch=4), model_of(steps_per_execution=2))
    assert sorted(scalars(tmp_path / "train")["batch_loss"]) == [4, 6]
    assert len(list((tmp_path / "plugins" / "profile").iterdir())) == 1


def test_no_hook_on_batches_without_a_reason(tmp_path):
    from hornbeam.callbacks import CallbackList

    assert CallbackList([TensorBoard(tmp_path, write_steps_per_second=True)]).each["train"] == []
    assert len(CallbackList([TensorBoard(tmp_path, update_freq=5)]).each["train"]) == 1


def test_speed_without_a_hook_on_batches(tmp_path):
    fit(TensorBoard(tmp_path, write_steps_per_second=True))
    assert all(v > 0 for v in scalars(tmp_path / "train")["epoch_steps_per_second"].values())


def test_it_changes_no_bit_of_training(tmp_path):
    plain = model_of()
    history = plain.fit(X, Y, batch_size=10, epochs=2, validation_data=(X, Y), verbose=0).history
    board = TensorBoard(tmp_path, histogram_freq=1, write_images=True, update_freq="batch", profile_batch=2)
    model, watched = fit(board)
    assert watched.history == history
    assert all(torch.equal(v, w) for v, w in zip(plain.weights, model.weights, strict=True))


def test_histograms_and_images(tmp_path):
    fit(TensorBoard(tmp_path, histogram_freq=2, write_images=True), epochs=3)
    found = read(tmp_path / "train")
    tags = [f"net/{layer}/{weight}" for layer in "de" for weight in ("bias", "kernel")]
    assert sorted(found.Tags()["histograms"]) == [f"{t}/histogram" for t in tags]
    assert [e.step for e in found.Histograms("net/d/kernel/histogram")] == [0, 2]
    assert sorted(t.split("/image")[0] for t in found.Tags()["images"]) == [t for t in tags if t != "net/e/bias"]
    picture = found.Images("net/d/kernel/image")[0]
    assert (picture.width, picture.height) == (4, 3)


def test_images_of_a_convolution(tmp_path):
    model = Sequential([Input((4, 4, 1)), Conv2D(6, 3, name="c"), Flatten(), Dense(1)])
    model.compile("sgd", "mse")
    board = TensorBoard(tmp_path, histogram_freq=1, write_images=True)
    model.fit(X[:, :, None, None].repeat(4, 2), Y, verbose=0, callbacks=[board])
    found = read(tmp_path / "train")
    (tag,) = [t for t in found.Tags()["images"] if "/c/kernel/" in t]
    picture = found.Images(tag)[0]
    assert picture.width * picture.height >= 6 * 9  # six kernels of 3 × 3 side by side


@pytest.mark.filterwarnings("ignore:.*not finite")
def test_weights_that_are_no_numbers(tmp_path):
    fit(TensorBoard(tmp_path, histogram_freq=1, write_images=True), validation_data=None, more=[Break()], epochs=1)
    assert "net/e/kernel/histogram" not in read(tmp_path / "train").Tags()["histograms"]


class Break(Callback):
    def on_train_batch_end(self, batch, logs=None):
        self.model.get_layer("e").kernel.assign(torch.full((3, 1), torch.nan))


def test_the_graph_of_any_model(tmp_path):
    from tensorboard.compat.proto.graph_pb2 import GraphDef

    class Net(Model):
        def __init__(self):
            super().__init__()
            self.first, self.second = Dense(3, name="first"), nn.Linear(3, 1)

        def call(self, x):
            return torch.relu(self.second(self.first(x)))

    model = Net()
    model.compile("sgd", "mse")
    fit(TensorBoard(tmp_path), model)
    graph = GraphDef.FromString(read(tmp_path / "train")._graph)
    ops = {n.op: n for n in graph.node}
    assert set(ops) >= {"Dense", "Linear"}
    assert list(ops["Linear"].input) == [ops["Dense"].name]
    assert [d.size for d in ops["Dense"].attr["_output_shapes"].list.shape[0].dim] == [-1, 3]
    fit(TensorBoard(tmp_path / "without", write_graph=False), model)
    assert not read(tmp_path / "without" / "train").Tags()["graph"]


def test_evaluate_alone_writes_and_closes(tmp_path):
    board = TensorBoard(tmp_path)
    model, _ = fit(board)
    model.evaluate(X, Y, verbose=0, callbacks=[board])
    assert board._writers == {}
    assert sorted(scalars(tmp_path / "validation")["evaluation_loss_vs_iterations"]) == [4, 8]


def test_learning_rates_of_a_schedule(tmp_path):
    fit(TensorBoard(tmp_path), more=[LearningRateScheduler(lambda epoch: 0.1 / (epoch + 1))])
    assert list(scalars(tmp_path / "train")["epoch_learning_rate"].values()) == pytest.approx([0.1, 0.05])


@pytest.mark.parametrize("batches", [2, (2, 3), "2,3", [7, 70]])
def test_profile(tmp_path, batches):
    fit(TensorBoard(tmp_path, profile_batch=batches))
    (file,) = (tmp_path / "plugins" / "profile").glob("*.pt.trace.json")
    names = {e.get("name") for e in json.loads(file.read_text())["traceEvents"]}
    assert any("addmm" in str(n) for n in names)


@pytest.mark.parametrize("batches", ["a", (3, 2), (1, 2, 3), -1, None])
def test_profile_of_what(tmp_path, batches):
    with pytest.raises(ValueError, match=r"`profile_batch` must be the number of a batch, from 1.*Received: "):
        TensorBoard(tmp_path, profile_batch=batches)


@pytest.mark.parametrize("every", ["epochs", 0, 1.5, None])
def test_how_often(tmp_path, every):
    with pytest.raises(ValueError, match=r"`update_freq` must be 'epoch', 'batch' or a positive integer. Received: "):
        TensorBoard(tmp_path, update_freq=every)


def words(name="words"):
    model = Sequential([Input((2,), dtype="int32"), Embedding(4, 3, name=name), Flatten(), Dense(1)])
    model.compile("sgd", "mse")
    return model


def test_embeddings(tmp_path):
    (tmp_path / "labels.tsv").write_text("a\nb\nc\nd\n")
    model = words()
    board = TensorBoard(tmp_path, embeddings_freq=1, embeddings_metadata={"words": "labels.tsv"})
    model.fit(RNG.integers(0, 4, (8, 2)), Y[:8], verbose=0, callbacks=[board])
    folder = tmp_path / "train" / "00000" / "words"
    rows = np.loadtxt(folder / "tensors.tsv")
    np.testing.assert_allclose(rows, model.get_layer("words").embeddings.detach(), rtol=1e-5)
    assert (folder / "metadata.tsv").read_text().split() == ["a", "b", "c", "d"]
    assert "words" in (tmp_path / "train" / "projector_config.pbtxt").read_text()


def test_embeddings_with_columns(tmp_path):
    (tmp_path / "labels.tsv").write_text("word\tkind\n" + "".join(f"w{i}\tk{i}\n" for i in range(4)))
    board = TensorBoard(tmp_path, embeddings_freq=1, embeddings_metadata="labels.tsv")
    words().fit(RNG.integers(0, 4, (8, 2)), Y[:8], verbose=0, callbacks=[board])
    lines = (tmp_path / "train" / "00000" / "words" / "metadata.tsv").read_text().splitlines()
    assert lines[:2] == ["word\tkind", "w0\tk0"]


def test_labels_of_a_layer_that_is_not_there(tmp_path):
    board = TensorBoard(tmp_path, embeddings_freq=1, embeddings_metadata={"word": "labels.tsv"})
    with pytest.raises(ValueError, match=r"names 'word', which is no Embedding layer of the model.*Did you mean 'words'"):
        words().fit(RNG.integers(0, 4, (8, 2)), Y[:8], verbose=0, callbacks=[board])


def test_without_the_package(tmp_path, monkeypatch):
    original = builtins.__import__

    def missing(name, *args, **kwargs):
        if name.startswith("tensorboard"):
            raise ImportError(f"No module named {name!r}")
        return original(name, *args, **kwargs)

    for name in [n for n in sys.modules if n.startswith(("tensorboard", "torch.utils.tensorboard"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(ImportError, match=r"needs the package 'tensorboard'.*pip install tensorboard"):
        TensorBoard(tmp_path)


def test_steps_go_on_from_a_state(tmp_path):
    first = TensorBoard(tmp_path, update_freq=2)
    fit(first, epochs=1)
    second = TensorBoard(tmp_path, update_freq=2)
    second.load_state_dict(first.state_dict())
    fit(second, epochs=1)
    assert sorted(scalars(tmp_path / "train")["batch_loss"]) == [2, 4, 6, 8]
