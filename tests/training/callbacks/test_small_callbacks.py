"""What the small callbacks do beyond Keras's, and that none of them changes a bit of training."""

from __future__ import annotations

import json
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pytest
import torch

from hornbeam import optimizers
from hornbeam.callbacks import (
    CSVLogger,
    EarlyStopping,
    LambdaCallback,
    LearningRateScheduler,
    MonitorCallback,
    ReduceLROnPlateau,
    RemoteMonitor,
    SwapEMAWeights,
    TerminateOnNaN,
)
from hornbeam.core.random import set_random_seed
from hornbeam.layers import Dense, Dropout, Input
from hornbeam.models import Sequential

X = np.random.default_rng(1).normal(size=(96, 6)).astype("float32")
Y = np.arange(96) % 4


@pytest.mark.parametrize("kind", [EarlyStopping, ReduceLROnPlateau])
def test_a_result_that_is_missing_is_said_once(kind):
    with pytest.warns(UserWarning, match="val_acuracy") as said:
        fit([kind("val_acuracy", mode="max")])
    assert [str(w.message) for w in said if "acuracy" in str(w.message)] == [str(said[0].message)]


def test_a_scheduler_of_torch_needs_its_callback():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], 0.1)
    for kind in (torch.optim.lr_scheduler.ExponentialLR, torch.optim.lr_scheduler.ReduceLROnPlateau):
        scheduler = kind(optimizer, **({"gamma": 0.5} if kind.__name__ == "ExponentialLR" else {}))
        with pytest.raises(ValueError, match=rf"Wrap it: hornbeam.callbacks.TorchScheduler\({kind.__name__}\(...\)\)"):
            fit([scheduler])


def fit(callbacks, optimizer="adam", **more):
    set_random_seed(5)
    model = Sequential([Input((6,)), Dense(16, activation="relu"), Dropout(0.4), Dense(4)])
    model.compile(optimizer, "mse", metrics=["mae"])
    options = {"batch_size": 16, "epochs": 3, "verbose": 0, "validation_split": 0.2, **more}
    history = model.fit(X, np.eye(4, dtype="float32")[Y], callbacks=callbacks, **options)
    return model, history


def same_bits(callbacks, **options):
    (a, plain), (b, watched) = fit([], **options), fit(callbacks, **options)
    assert all(plain.history[k] == watched.history[k] for k in plain.history)
    assert all(torch.equal(v, w) for v, w in zip(a.weights, b.weights, strict=True))


class Answer(BaseHTTPRequestHandler):
    def do_POST(self):
        self.server.seen.append((self.path, dict(self.headers), self.rfile.read(int(self.headers["Content-Length"])).decode()))
        self.send_response(self.server.status)
        self.end_headers()

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    made = HTTPServer(("127.0.0.1", 0), Answer)
    made.seen, made.status, made.root = [], 200, f"http://127.0.0.1:{made.server_port}"
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


WATCHERS = {
    "early": lambda tmp: EarlyStopping(patience=10, restore_best_weights=False),
    "plateau": lambda tmp: ReduceLROnPlateau(patience=10),
    "rates": lambda tmp: LearningRateScheduler(lambda epoch, rate: rate),
    "csv": lambda tmp: CSVLogger(tmp / "log.csv"),
    "nan": lambda tmp: TerminateOnNaN(),
    "lambda": lambda tmp: LambdaCallback(on_train_batch_end=lambda batch, logs: logs["loss"]),
}


@pytest.mark.parametrize("watcher", WATCHERS)
def test_no_watcher_changes_a_bit(watcher, tmp_path):
    same_bits([WATCHERS[watcher](tmp_path)])


def test_averages_shown_to_evaluation_change_no_bit_of_training():
    for swap_on_epoch in (False, True):
        (a, plain), (b, swapped) = (
            fit(c, optimizer=optimizers.Adam(use_ema=True)) for c in ([], [SwapEMAWeights(swap_on_epoch)])
        )
        assert plain.history["loss"] == swapped.history["loss"]
        assert plain.history["val_loss"] != swapped.history["val_loss"]
        assert all(torch.equal(v, w) for v, w in zip(a.weights, b.weights, strict=True))


def test_averages_after_a_stop():
    """`fit` leaves the averages in the model, whichever epoch was the last."""
    stop = LambdaCallback(on_epoch_end=lambda epoch, logs: setattr(models[-1], "stop_training", epoch == 1))
    models = []
    kept = []
    for callbacks in ([stop], [SwapEMAWeights(swap_on_epoch=True), stop]):
        spy = LambdaCallback(on_train_begin=lambda logs: None)
        spy.set_model = models.append
        model, history = fit([spy, *callbacks], optimizer=optimizers.Adam(use_ema=True))
        assert history.epoch == [0, 1]
        kept.append([w.detach().clone() for w in model.weights])
    assert all(torch.equal(v, w) for v, w in zip(*kept, strict=True))


@pytest.mark.parametrize("optimizer", [lambda: optimizers.Adam(), lambda: optimizers.LossScaleOptimizer(optimizers.Adam())])
def test_averages_need_an_optimizer_that_keeps_them(optimizer):
    with pytest.raises(ValueError, match=r"make it with `use_ema=True`.*Received: (Adam|LossScaleOptimizer)"):
        fit([SwapEMAWeights()], optimizer=optimizer())


def test_averages_of_a_wrapped_optimizer():
    wrapped = optimizers.LossScaleOptimizer(optimizers.Adam(use_ema=True), initial_scale=1.0)
    assert fit([SwapEMAWeights()], optimizer=wrapped)[1].history["val_loss"] != fit([])[1].history["val_loss"]


def test_results_are_sent(server):
    fit([RemoteMonitor(server.root, headers={"X-Mine": "1"}), RemoteMonitor(server.root, "/json", send_as_json=True)], epochs=2)
    forms, texts = server.seen[::2], server.seen[1::2]
    assert [path for path, _, _ in server.seen] == ["/publish/epoch/end/", "/json"] * 2
    sent = [json.loads(urllib.parse.parse_qs(body)["data"][0]) for _, _, body in forms]
    assert sent == [json.loads(body) for _, _, body in texts]
    assert [s["epoch"] for s in sent] == [0, 1]
    assert sorted(sent[0]) == ["epoch", "loss", "mae", "val_loss", "val_mae"]
    assert forms[0][1]["X-Mine"] == "1"
    assert texts[0][1]["Content-Type"] == "application/json"


def test_a_server_that_fails_is_a_warning(server):
    server.status = 500
    monitor = RemoteMonitor(server.root)
    with pytest.warns(UserWarning, match="could not reach http://127.0.0.1:[0-9]+: HTTP Error 500"):
        monitor.on_epoch_end(0, {"loss": np.float32(1)})
    with pytest.warns(UserWarning, match="could not reach http://127.0.0.1:9: .*refused"):
        RemoteMonitor("http://127.0.0.1:9").on_epoch_end(0, {"loss": 1.0})


def test_only_the_web():
    with pytest.raises(ValueError, match=r"`root` must begin with http:// or https://. Received: 'file:///etc'"):
        RemoteMonitor("file:///etc")


@pytest.mark.filterwarnings("ignore:.*not finite")
def test_a_nan_where_a_look_costs_a_wait(capsys):
    y = np.eye(4, dtype="float32")[Y]
    y[3] = np.nan
    model = fit([], epochs=1)[0]
    stop, reads = TerminateOnNaN(), []
    original = stop._look
    stop._look = lambda batch, logs: (reads.append(batch), original(batch, logs))
    stop.on_train_begin = lambda logs=None: setattr(stop, "_every", 64)
    history = model.fit(
        np.tile(X, (2, 1)), np.tile(y, (2, 1)), batch_size=2, epochs=3, shuffle=False, verbose=0, callbacks=[stop]
    )
    assert history.epoch == [0]
    assert reads == [63]
    assert "Batch 63 or before: Invalid loss, terminating training" in capsys.readouterr().out
    reads.clear()
    history = model.fit(X, y, batch_size=8, epochs=3, shuffle=False, verbose=0, callbacks=[stop])
    assert (history.epoch, reads) == ([0], [None])
    assert "This epoch: Invalid loss" in capsys.readouterr().out


def test_an_error_at_nan():
    with pytest.raises(RuntimeError, match="The loss is nan at batch 4"):
        TerminateOnNaN(raise_error=True).on_train_batch_end(4, {"loss": float("nan")})


def watching(monitor, metrics=(), **more):
    model = Sequential([Input((6,)), Dense(1)])
    model.compile("sgd", "mse", metrics=list(metrics))
    watch = MonitorCallback(monitor, **more)
    watch.set_model(model)
    return watch


@pytest.mark.parametrize(
    ("monitor", "grows"),
    [("val_loss", False), ("head_accuracy", True), ("my_mse", False), ("auc_2", True), ("acc", True), ("perplexity", False)],
)
def test_a_name_alone_may_say_the_direction(monitor, grows):
    assert watching(monitor).is_better(2, than=1) is grows


def test_a_metric_may_say_the_direction():
    class Mine:
        name, _direction = "gain", "up"

    watch = watching("val_gain")
    type(watch.model).metrics, kept = [Mine()], type(watch.model).metrics
    try:
        assert watch.is_better(2, than=1)
    finally:
        type(watch.model).metrics = kept


def test_nothing_says_the_direction():
    with pytest.raises(ValueError, match=r"watches 'val_gain', and nothing says whether more of it is better. Pass `mode='max'`"):
        watching("val_gain").is_better(2, than=1)
    assert watching("val_gain", mode="max").is_better(2, than=1)


def test_a_first_nan_is_not_the_best():
    stop = EarlyStopping("loss", patience=5)
    stop.set_model(fit([], epochs=1)[0])
    stop.on_train_begin()
    for epoch, loss in enumerate([float("nan"), 3.0, 2.0]):
        stop.on_epoch_end(epoch, {"loss": loss})
    assert (stop.best, stop.wait) == (2.0, 0)


def test_best_weights_are_copies_on_the_device():
    stop = EarlyStopping("loss", restore_best_weights=True)
    model = fit([], epochs=1)[0]
    stop.set_model(model)
    stop.on_train_begin()
    stop.on_epoch_end(0, {"loss": 1.0})
    kept = stop.best_weights
    assert all(k.device == w.device and k.data_ptr() != w.data_ptr() for k, w in zip(kept, model.weights, strict=True))
    assert not any(k.requires_grad for k in kept)


def test_a_result_that_is_missing():
    stop = EarlyStopping("val_los")
    with pytest.warns(UserWarning, match=r"watches 'val_los', which is not among the results: loss.*Is validation data missing"):
        stop.on_epoch_end(0, {"loss": 1.0})
