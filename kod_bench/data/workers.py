"""Reads the units of a source side by side.

Many units go to processes of their own: Python programs that run `serve` and speak pickles through
their pipes. That needs no importable `__main__`, which a notebook and a Ray worker do not
have, and it survives a decoder that crashes or runs out of memory: the file is skipped, the process
replaced. When whoever started them is killed, their input ends and so do they.
"""

import contextlib
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import IO, Any, TypeVar

T = TypeVar("T")

_MAX_WORKERS = 16
_WORTH_PROCESSES = 48  # units; starting processes takes about a second
_CHUNK = 8  # units per message


class CrashedError(Exception):
    """The process that read a unit ended without an answer."""


def worker_count() -> int:
    """Processors that this process may use, within reason."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min(_MAX_WORKERS, available or 1)


def map_units(
    read: Callable[[int], T], units: int, crashed: Callable[[int], T], *, parallel: bool
) -> Iterator[T]:
    """Calls `read` for 0, 1, ..., units - 1; the results in this order.

    Args:
        read: Can be pickled where `parallel` is true.
        units: How many.
        crashed: What to say of a unit whose reading ended its process.
        parallel: Whether processes pay if the units are many.
    """
    if not parallel:
        yield from map(read, range(units))
    elif units < _WORTH_PROCESSES:
        # Pillow and SciPy release the interpreter's lock for nearly all of the work.
        threads = ThreadPoolExecutor(worker_count())
        try:
            yield from threads.map(read, range(units))
        finally:  # after an interrupt, do not first finish what is queued
            threads.shutdown(cancel_futures=True)
    else:
        yield from _map_in_processes(read, units, crashed)


def _map_in_processes(
    read: Callable[[int], T], units: int, crashed: Callable[[int], T]
) -> Iterator[T]:
    task = pickle.dumps(read)
    workers = [_Worker(task) for _ in range(min(worker_count(), units))]
    idle: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
    for worker in workers:
        idle.put(worker)
    stopping = threading.Event()

    def read_chunk(chunk: Sequence[int]) -> list[Any]:
        worker = idle.get()
        try:
            with contextlib.suppress(CrashedError):
                return worker.call(chunk)
            results = []
            for unit in chunk:  # one at a time, to find which one it was
                if stopping.is_set():
                    break
                try:
                    results += worker.call([unit])
                except CrashedError:
                    results.append(crashed(unit))
            return results
        finally:
            idle.put(worker)

    chunks = [range(first, min(first + _CHUNK, units)) for first in range(0, units, _CHUNK)]
    threads = ThreadPoolExecutor(len(workers))
    try:
        for results in threads.map(read_chunk, chunks):
            yield from results
    finally:
        stopping.set()
        for worker in workers:
            worker.kill()
        threads.shutdown(cancel_futures=True)
        for worker in workers:
            worker.stop()


class _Worker:
    """A process that calls a pickled function; a new one takes its place if it dies."""

    def __init__(self, task: bytes) -> None:
        self._task = task
        self._process: subprocess.Popen[bytes] | None = None

    def call(self, units: Sequence[int]) -> list[Any]:
        """The results for some units.

        Raises:
            CrashedError: The process ended instead.
            Exception: What the function raised.
        """
        process = self._process or self._start()
        stdin, stdout = _pipes(process)
        try:
            pickle.dump(list(units), stdin)
            stdin.flush()
            answer = pickle.load(stdout)
        except (OSError, EOFError, pickle.UnpicklingError):
            self.stop()
            raise CrashedError from None
        if isinstance(answer, BaseException):
            raise answer
        results: list[Any] = answer
        return results

    def kill(self) -> None:
        """End the process; whoever waits for its answer gets none."""
        if self._process is not None:
            self._process.kill()

    def stop(self) -> None:
        """End the process, if there is one, and clear up after it."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        for pipe in _pipes(process):
            with contextlib.suppress(OSError):  # what could not be sent is of no use any more
                pipe.close()
        process.wait()

    def _start(self) -> subprocess.Popen[bytes]:
        paths = os.pathsep.join(path for path in sys.path if path)
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", f"from {__name__} import serve; serve()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # One thread each: the processes are as many as the processors.
            env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
        )
        with contextlib.suppress(OSError):  # then the next message says so
            _pipes(self._process)[0].write(self._task)
        return self._process


def _pipes(process: subprocess.Popen[bytes]) -> tuple[IO[bytes], IO[bytes]]:
    if process.stdin is None or process.stdout is None:
        raise CrashedError
    return process.stdin, process.stdout


def serve() -> None:
    """What a worker process does, until its input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt is the parent's to handle
    with os.fdopen(os.dup(1), "wb") as answers:
        os.dup2(2, 1)  # what a library prints must not get among the answers
        read = pickle.load(sys.stdin.buffer)
        while True:
            try:
                units = pickle.load(sys.stdin.buffer)
            except EOFError:
                return
            try:
                answer: Any = [read(unit) for unit in units]
            except Exception as error:
                answer = error
            pickle.dump(answer, answers, protocol=pickle.HIGHEST_PROTOCOL)
            answers.flush()
