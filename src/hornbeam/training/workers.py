"""Threads and processes that make items ahead, in order: what goes wrong in them is named and ends them all."""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import pickle
import queue
import signal
import sys
import threading
import time
import traceback
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from functools import cache
from multiprocessing import connection
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from hornbeam.graph import tree
from hornbeam.training.packing import as_batch
from hornbeam.training.streams import UserStreams, seed_streams

_SMALL = 1 << 16  # bytes
_NOT_YET, _IDLE = -2, -1
AGAIN = object()  # what a thread returns for an item that draws from global streams


class Draws(BaseException):
    """Raised in a worker thread where an item draws from torch's global stream; no user's `except Exception` catches it."""


class NoDraws(TorchFunctionMode):
    """A thread's mode in which drawing from torch's global streams raises Draws."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if _draws(func) and (kwargs or {}).get("generator") is None:
            raise Draws
        return func(*args, **(kwargs or {}))


@cache
def _draws(func: Any) -> bool:
    """Whether a torch function draws random numbers: torch tags its operators so, functions around several are named here."""
    name = getattr(func, "__name__", "")
    if name.startswith(("dropout", "kaiming_", "gumbel_", "fractional_")):
        return True
    operator = getattr(torch.ops.aten, name, None)
    return isinstance(operator, torch._ops.OpOverloadPacket) and any(
        torch.Tag.nondeterministic_seeded in getattr(operator, overload).tags for overload in operator.overloads()
    )


class Threads:
    """Daemon threads that make items of one source.

    Args:
        source: gives item i by `source[i]`.
        count: threads.
        timeout: seconds after which an item that is waited for counts as stuck, or None.
    """

    def __init__(self, source: Any, count: int, timeout: float | None) -> None:
        self.source, self.timeout = source, timeout
        self.tasks: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.at: dict[int, int] = {}
        self.threads = [threading.Thread(target=self._serve, daemon=True, name=f"item-worker-{i}") for i in range(count)]
        for thread in self.threads:
            thread.start()

    def submit(self, seed: int, item: int) -> Any:
        """Lets an item be made; returns what `result` takes."""
        future: Future[Any] = Future()
        self.tasks.put((future, item))
        return future, item

    def result(self, handle: Any) -> Any:
        """Returns an item, AGAIN where it must be made by the main thread, or raises what its code raised."""
        future, item = handle
        try:
            return future.result(self.timeout or None)
        except TimeoutError:
            if future.done():
                raise
        raise TimeoutError(_stuck(self.source, item, self.timeout, "worker thread", self._stack(item)))

    def close(self) -> None:
        """Ends the threads; one that is stuck is left behind, as a daemon."""
        while not self.tasks.empty():
            self.tasks.get()
        for _ in self.threads:
            self.tasks.put(None)
        deadline = time.monotonic() + 1.0
        for thread in self.threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _serve(self) -> None:
        me = threading.get_ident()
        while (task := self.tasks.get()) is not None:
            future, item = task
            self.at[me] = item
            try:
                future.set_result(self._made(item))
            except Draws:
                future.set_result(AGAIN)
            except BaseException as error:
                future.set_exception(error)
            del self.at[me], future, task

    def _made(self, item: int) -> Any:
        before = UserStreams()
        with NoDraws():
            made = as_batch(self.source[item])
        return made if before.unchanged(torch_too=False) else AGAIN

    def _stack(self, item: int) -> str:
        frames = sys._current_frames()
        idents = [ident for ident, at in self.at.items() if at == item and ident in frames]
        lines = [line for ident in idents for line in traceback.format_stack(frames[ident])]
        ours = [i for i, line in enumerate(lines) if __file__ in line]
        return "".join(lines[max(ours, default=-1) + 1 :])


class Processes:
    """Child processes that make items of one source, each on its own copy. Arguments as of Threads."""

    def __init__(self, source: Any, count: int, timeout: float | None) -> None:
        self.source, self.timeout = source, timeout
        self.workers: list[_Worker] = []
        self.ready: dict[int, Any] = {}
        self.sent = 0
        try:
            for _ in range(count):
                self.workers.append(_Worker(source))
        except BaseException as error:
            self.close()
            error.add_note(f"While worker processes of {type(source).__name__} were started.")
            raise

    def submit(self, seed: int, item: int) -> Any:
        """Lets an item be made; returns what `result` takes."""
        worker = self.workers[self.sent % len(self.workers)]
        number, self.sent = self.sent, self.sent + 1
        worker.tasks.append((number, item))
        try:
            worker.pipe.send((number, seed, item))
        except OSError:
            raise self._died(worker) from None
        return number, item

    def result(self, handle: Any) -> Any:
        """Returns an item, or raises what its code raised."""
        number, item = handle
        deadline = None if not self.timeout else time.monotonic() + self.timeout
        while number not in self.ready:
            left = None if deadline is None else deadline - time.monotonic()
            pipes = {worker.pipe: worker for worker in self.workers}
            ends = {worker.process.sentinel: worker for worker in self.workers}
            found = connection.wait([*pipes, *ends], left) if left is None or left > 0 else []
            if not found:
                worker = next(w for w in self.workers if (number, item) in w.tasks)
                title = f"worker process (pid {worker.process.pid})"
                raise TimeoutError(_stuck(self.source, item, self.timeout, title, worker.stack()))
            for end in found:
                if end in pipes:
                    self._receive(pipes[end])
            for end in found:
                if end in ends and not ends[end].pipe.poll():
                    raise self._died(ends[end])
        done, value = self.ready.pop(number)
        if not done:
            raise _unpacked(value)
        return value

    def close(self) -> None:
        """Ends the processes and takes their exit codes, so that none stays behind."""
        for worker in self.workers:
            worker.process.terminate()
        for worker in self.workers:
            worker.process.join(1.0)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
            worker.close()
        self.workers = []

    def _receive(self, worker: _Worker) -> None:
        try:
            number, done, value = worker.pipe.recv()
        except (EOFError, OSError):
            raise self._died(worker) from None
        worker.tasks.popleft()
        self.ready[number] = (done, value)

    def _died(self, worker: _Worker) -> RuntimeError:
        worker.process.join(2.0)
        code = worker.process.exitcode
        if code is not None and code < 0:
            how = f"signal {-code}, {signal.Signals(-code).name}"
        else:
            how = f"exit code {code}"
        idle = {_NOT_YET: "before it made anything", _IDLE: "while it had nothing to do"}
        at = idle.get(worker.at.value) or f"while it made item {worker.at.value}"
        hint = " Did the machine run out of memory?" if code == -getattr(signal, "SIGKILL", 9) else ""
        return RuntimeError(f"A worker of {type(self.source).__name__}, pid {worker.process.pid}, died ({how}) {at}.{hint}")


class _Worker:
    """A process, the pipe to it, what it has still to make in order, and what it is at now.

    Attributes:
        tasks: (number, item) of what was sent and has not come back.
        at: the item that the process makes now, _IDLE or _NOT_YET; written by the process.
    """

    def __init__(self, source: Any) -> None:
        start = multiprocessing.get_context()
        self.tasks: deque[tuple[int, int]] = deque()
        self.at: Any = start.RawValue("q", _NOT_YET)
        self.pipe, theirs = connection.Pipe()
        self._stack, stack = connection.Pipe(duplex=False)
        self.process = start.Process(target=_serve, args=(source, theirs, stack, self.at), daemon=True, name="item-worker")  # type: ignore[attr-defined]
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", ".*multi-threaded, use of fork", DeprecationWarning)
                self.process.start()
        except BaseException:
            self.pipe.close()
            self._stack.close()
            raise
        finally:
            theirs.close()
            stack.close()

    def stack(self) -> str:
        """Returns where the worker's main thread is now, innermost call first; empty where the system cannot tell."""
        if not hasattr(signal, "SIGUSR1") or self.process.pid is None or self.at.value == _NOT_YET:
            return ""
        os.kill(self.process.pid, signal.SIGUSR1)
        text = b""
        while self._stack.poll(0.2) and (part := os.read(self._stack.fileno(), 1 << 16)):
            text += part
        lines = text.decode(errors="replace").splitlines(True)[1:]
        ours = [i for i, line in enumerate(lines) if __file__ in line]
        return "".join(lines[: ours[0] if ours else None])

    def close(self) -> None:
        self.pipe.close()
        self._stack.close()
        self.process.close()


def _serve(source: Any, pipe: Any, stack: Any, at: Any) -> None:
    """The life of a worker process: it makes items until it is told to end, or until its parent is gone."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "SIGUSR1"):
        faulthandler.register(signal.SIGUSR1, file=stack.fileno(), all_threads=False)
    torch.set_num_threads(1)
    parent, at.value = multiprocessing.parent_process(), _IDLE
    while True:
        while not pipe.poll(2.0):
            if parent is None or not parent.is_alive():
                return
        try:
            number, seed, item = pipe.recv()
        except (EOFError, OSError):
            return
        at.value = item
        try:
            seed_streams(seed)
            answer = (number, True, tree.map_leaves(_by_value_if_small, as_batch(source[item])))
        except Exception as error:
            answer = (number, False, _packed(error))
        at.value = _IDLE
        pipe.send(answer)


def _by_value_if_small(tensor: torch.Tensor | None) -> Any:
    """Large tensors travel as shared memory, which costs some 300 µs each; small ones are sent as arrays."""
    if tensor is None or tensor.nbytes > _SMALL or tensor.dtype is torch.bfloat16 or tensor.requires_grad:
        return tensor
    return tensor.numpy()


def _packed(error: Exception) -> Any:
    text = "".join(traceback.format_exception(error))
    try:
        whole = pickle.dumps(error)
        pickle.loads(whole)
    except Exception:
        whole = None
    return whole, f"{type(error).__name__}: {error}", f"Raised in the worker process with pid {os.getpid()}:\n{text}"


def _unpacked(packed: Any) -> Exception:
    whole, title, text = packed
    error = RuntimeError(title) if whole is None else pickle.loads(whole)
    error.add_note(text)
    return error


def _stuck(source: Any, item: int, timeout: float | None, who: str, stack: str) -> str:
    return (
        f"Item {item} of {type(source).__name__} was not ready after {timeout:g} s: its {who} is stuck. Set the dataset's "
        f"`timeout` where an item may take longer.{' It is here:' if stack else ''}\n{stack}".rstrip()
    )


def in_order(pool: Any, tasks: Iterator[tuple[int, int]], ahead: int, alone: Callable[[int, int], Any]) -> Iterator[Any]:
    """Yields items in the order of the tasks, some made ahead; from the first one that comes back as AGAIN on, all by `alone`."""
    waiting: deque[Any] = deque()

    def more() -> None:
        task = next(tasks, None)
        if task is not None:
            waiting.append((task, pool.submit(*task)))

    for _ in range(ahead):
        more()
    while waiting:
        task, handle = waiting.popleft()
        made = pool.result(handle)
        if made is AGAIN:
            pool.close()
            for late in [task, *(t for t, _ in waiting)]:
                yield alone(*late)
            for late in tasks:
                yield alone(*late)
            return
        more()
        yield made
