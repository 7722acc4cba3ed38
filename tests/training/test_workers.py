"""PyDataset and those who make its items: same bits from nobody, threads and processes; what goes wrong is named."""

import multiprocessing
import os
import random
import re
import signal
import threading
import time
import traceback
import warnings
from contextlib import nullcontext
from itertools import islice

import numpy as np
import pytest
import torch

import hornbeam
from hornbeam.training import data
from hornbeam.training.pydataset import PyDataset
from hornbeam.training.randomness import LoopStream
from signatures import parameters

WORKERS = {
    "nobody": {"workers": 0},
    "one": {"workers": 1},
    "threads": {"workers": 4},
    "process": {"workers": 1, "use_multiprocessing": True},
    "processes": {"workers": 4, "use_multiprocessing": True, "max_queue_size": 2},
}


class Plain(PyDataset):
    def __len__(self):
        return 9

    def __getitem__(self, index):
        time.sleep(0.001 * (index % 3))
        return np.full((2, 3 + 9000 * (index % 2)), index, "float32"), {"label": np.array([index, index])}


class Noisy(Plain):
    """Draws from all global streams."""

    def __getitem__(self, index):
        noise = np.random.rand(2, 3) + random.random() + torch.rand(2, 3).numpy()
        return (index + noise).astype("float32")


class LateNoise(Plain):
    """Begins to draw at item 3."""

    def __getitem__(self, index):
        return np.full((2, 1), index + (np.random.rand() if index == 3 else float(torch.rand(())) if index == 5 else 0.0))


def seeded(seed):
    torch.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)


def read(dataset, passes=2, shuffle=True):
    """All batches of some passes, as lists."""
    seeded(5)
    source, stream = data.make_source(dataset), LoopStream()
    found = []
    with stream:
        for batches in islice(data.epochs(source, data.orders(stream, source, shuffle), None, stream.pause), passes):
            for batch in batches:
                found.append([t.tolist() for t in (batch if isinstance(batch, torch.Tensor) else batch[0])])
                found.append(torch.rand(()).item())
    source.close()
    found.append((torch.rand(2).tolist(), np.random.rand(), random.random()))
    return found


def nothing_left():
    deadline = time.monotonic() + 3
    while time.monotonic() < deadline:
        threads = [t.name for t in threading.enumerate() if t.name.startswith("item-")]
        if not multiprocessing.active_children() and not threads:
            return True
        time.sleep(0.01)
    return False


@pytest.mark.parametrize("who", WORKERS)
@pytest.mark.parametrize("kind", [Plain, Noisy, LateNoise])
def test_it_does_not_matter_who_makes_an_item(kind, who):
    expected = read(kind())
    says = pytest.warns(UserWarning, match=f"The items of {kind.__name__} draw random numbers from global streams")
    with says if who == "threads" and kind is not Plain else nullcontext():
        assert read(kind(**WORKERS[who])) == expected
    assert nothing_left()
    assert expected[:18] != expected[18:36]


def test_items_come_in_order_and_are_made_ahead():
    made = []

    class Counted(Plain):
        def __getitem__(self, index):
            made.append(index)
            return np.full((1, 1), index)

    source = data.make_source(Counted(workers=2, max_queue_size=4))
    batches = next(data.epochs(source, None, None, nullcontext))
    assert next(batches).item() == 0
    deadline = time.monotonic() + 5
    while len(made) < 6 and time.monotonic() < deadline:  # item 0 to look at, item 0, and four ahead
        time.sleep(0.01)
    assert sorted(made) == [0, 0, 1, 2, 3, 4]
    assert [b.item() for b in batches] == list(range(1, 9))
    source.close()
    assert nothing_left()


def test_processes_stay_from_pass_to_pass_unless_hooks_may_change_the_dataset():
    class Who(Plain):
        def __getitem__(self, index):
            return np.array([[os.getpid()]])

    class Growing(Who):
        count = 2

        def __len__(self):
            return self.count

        def on_epoch_end(self):
            self.count += 1

        def __getitem__(self, index):
            return np.array([[self.count]])

    def pids(dataset):
        source = data.make_source(dataset)
        found = [[b.item() for b in batches] for batches in islice(data.epochs(source, None, None, nullcontext), 3)]
        source.close()
        return found

    first, second, third = pids(Who(workers=2, use_multiprocessing=True))
    assert set(first) == set(second) == set(third)
    assert len(set(first)) == 2
    assert os.getpid() not in first
    assert pids(Growing(workers=2, use_multiprocessing=True)) == [[2, 2], [3, 3, 3], [4, 4, 4, 4]]
    assert nothing_left()


def test_hooks_are_called_around_each_epoch():
    calls = []

    class Hooked(Plain):
        def on_epoch_begin(self):
            calls.append("begin")

        def on_epoch_end(self):
            calls.append("end")

        def __getitem__(self, index):
            calls.append(index)
            return np.zeros((1, 1))

    source = data.make_source(Hooked())
    for batches in islice(data.epochs(source, data.Passes(), 4, nullcontext), 3):
        list(batches)
    assert calls == ["begin", 0, 1, 2, 3, "end", "begin", 4, 5, 6, 7, "end", "begin", 8, "end"]


def test_a_dataset_without_end_goes_on_from_epoch_to_epoch():
    class Endless(PyDataset):
        num_batches = None

        def __getitem__(self, index):
            return np.array([[index]])

    for workers in (1, 3):
        source = data.make_source(Endless(workers=workers))
        epochs = data.epochs(source, data.orders(LoopStream(), source, True), 3, nullcontext)
        assert [[b.item() for b in next(epochs)] for _ in range(3)] == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
        source.close()
    assert nothing_left()


class Faulty(Plain):
    release = threading.Event()

    def __init__(self, what, at=5, timeout=2.0, **kwargs):
        super().__init__(**kwargs)
        self.what, self.at, self.timeout = what, at, timeout

    def __getitem__(self, index):
        if index == self.at:
            self.go_wrong()
        return np.full((2, 3), index, "float32")

    def go_wrong(self):
        if self.what == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif self.what == "exit":
            os._exit(3)
        elif self.what == "sleep":
            self.release.wait(1000)
        elif self.what == "odd":
            raise Unpicklable("a", "b")
        raise KeyError("no such picture")


class Unpicklable(Exception):
    def __init__(self, first, second):
        super().__init__(f"{first} and {second}")


def fails(dataset, error, match, within=5.0):
    source = data.make_source(dataset)
    source.head()
    begun = time.monotonic()
    with pytest.raises(error, match=match) as caught:
        list(next(data.epochs(source, None, None, nullcontext)))
    assert time.monotonic() - begun < within
    assert "While batch 5 of pass 1 over the data was made." in caught.value.__notes__ or dataset.what in ("kill", "exit")
    return caught.value


PROCESSES = {"workers": 2, "use_multiprocessing": True}


@pytest.mark.parametrize(("what", "how"), [("kill", "signal 9, SIGKILL"), ("exit", "exit code 3")])
def test_a_worker_that_dies_is_named(what, how):
    error = fails(Faulty(what, **PROCESSES), RuntimeError, rf"A worker of Faulty, pid \d+, died \({how}\) while it made item 5\.")
    pid = int(re.search(r"pid (\d+)", str(error))[1])
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert nothing_left()


def test_a_worker_that_dies_while_it_waits_is_named():
    source = data.make_source(Plain(max_queue_size=1, **PROCESSES))
    batches = next(data.epochs(source, None, None, nullcontext))
    next(batches)
    time.sleep(0.1)  # until both have made what was ordered
    os.kill(source._pool.workers[0].process.pid, signal.SIGKILL)
    with pytest.raises(RuntimeError, match=r"died .* while it had nothing to do"):
        list(batches)
    assert nothing_left()


def test_a_process_that_is_stuck_is_named_with_its_stack():
    error = fails(Faulty("sleep", timeout=0.5, **PROCESSES), TimeoutError, r"Item 5 of Faulty was not ready after 0\.5 s")
    assert re.search(r"worker process \(pid \d+\) is stuck", str(error))
    assert "go_wrong" in str(error)
    assert "hornbeam" not in str(error).split("here:")[1]
    assert nothing_left()


def test_a_process_that_is_slow_to_start_is_named_too():
    class SlowToCopy(Plain):
        """Its copy in a process that is spawned takes longer than the time-out."""

        def __reduce__(self):
            return time.sleep, (1000,)

    start = multiprocessing.get_start_method()
    multiprocessing.set_start_method("spawn", force=True)
    try:
        dataset = SlowToCopy(workers=1, use_multiprocessing=True)
        dataset.timeout = 0.3
        source = data.make_source(dataset)
        with pytest.raises(TimeoutError, match=r"Item 0 of SlowToCopy was not ready after 0\.3 s: its worker process"):
            list(next(data.epochs(source, None, None, nullcontext)))
    finally:
        multiprocessing.set_start_method(start, force=True)
    assert nothing_left()


def test_a_thread_that_is_stuck_is_named_with_its_stack():
    error = fails(
        Faulty("sleep", timeout=0.5, workers=2), TimeoutError, "Item 5 of Faulty was not ready after 0.5 s: its worker th"
    )
    assert "in go_wrong" in str(error)
    assert "hornbeam" not in str(error).split("here:")[1]
    Faulty.release.set()
    assert nothing_left()
    Faulty.release.clear()


@pytest.mark.parametrize("who", WORKERS)
def test_what_an_item_raises_arrives_as_it_was(who):
    error = fails(Faulty("raise", **WORKERS[who]), KeyError, "no such picture")
    assert "go_wrong" in "".join(error.__notes__) + "".join(traceback.format_tb(error.__traceback__))
    assert nothing_left()


def test_what_cannot_be_pickled_arrives_as_text():
    error = fails(Faulty("odd", **PROCESSES), RuntimeError, "Unpicklable: a and b")
    assert "go_wrong" in "".join(error.__notes__)


def test_an_abandoned_pass_leaves_nobody():
    for who in ("threads", "processes"):
        source = data.make_source(Plain(**WORKERS[who]))
        batches = next(data.epochs(source, None, None, nullcontext))
        next(batches)
        del batches
        assert nothing_left()
        assert len(list(next(data.epochs(source, None, None, nullcontext)))) == 9
        del source
        assert nothing_left()


@pytest.mark.oracle
def test_the_class_is_kerass():
    theirs = pytest.importorskip("keras").utils.PyDataset
    assert parameters(PyDataset) == parameters(theirs)
    assert {n for n in dir(theirs) if not n.startswith("_")} == {n for n in dir(PyDataset) if not n.startswith("_")} - {"timeout"}
    assert hornbeam.utils.Sequence is hornbeam.utils.PyDataset is PyDataset


def test_what_a_dataset_must_have():
    with pytest.raises(NotImplementedError, match=r"PyDataset must have `__getitem__\(self, index\)`"):
        PyDataset()[0]
    with pytest.raises(NotImplementedError, match=r"PyDataset must have `__len__\(self\)`"):
        _ = PyDataset().num_batches
    with pytest.raises(ValueError, match=r"Plain: `workers` must be an integer\. Received: workers=1\.5"):
        Plain(workers=1.5)

    class Forgetful(Plain):
        def __init__(self):
            """Does not call PyDataset's."""

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(read(Forgetful(), passes=1)) == 19
    assert len(list(Forgetful())) == 9

    class Empty(Plain):
        def __len__(self):
            return 0

    with pytest.raises(ValueError, match=r"There is no data: .*Empty.* has no batch"):
        data.make_source(Empty()).head()
