"""Checkpoints are written beside the training: it stops for a copy of what is changed in place."""

from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self

from kod_bench.training.checkpoint import CheckpointStore
from kod_bench.training.history import History
from kod_bench.training.streams import host_copy, on_host


class CheckpointWriter:
    """Writes checkpoints in a thread of its own, one after the other.

    Use as a context manager: it does not end before what was begun is written. What fails to be
    written raises in the training, at the next `wait`.

    Args:
        checkpoints: where they go.
    """

    def __init__(self, checkpoints: CheckpointStore) -> None:
        self._checkpoints = checkpoints
        self._thread = ThreadPoolExecutor(1, "checkpoints")
        self._written: Future[Any] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._thread.shutdown()
        if kind is None:
            self.wait()

    @property
    def is_idle(self) -> bool:
        """Whether all is on the disk, or has failed."""
        return self._written is None or self._written.done()

    def save(self, iteration: int, changing: dict[str, Any], fixed: dict[str, Any]) -> None:
        """Begin to write a state.

        Args:
            iteration: of the state.
            changing: the part whose tensors may change from now on: it is copied.
            fixed: the part whose tensors are replaced and never changed.

        Raises:
            OSError: if the one before could not be written.
        """
        self.wait()
        self._written = self._thread.submit(self._write, iteration, host_copy(changing), fixed)

    def _write(self, iteration: int, changing: dict[str, Any], fixed: dict[str, Any]) -> None:
        self._checkpoints.save(iteration, {**changing, **on_host(fixed)})

    def wait(self) -> None:
        """Until all is on the disk.

        Raises:
            OSError: if it cannot be written.
        """
        written, self._written = self._written, None
        if written is not None:
            written.result()


class Record:
    """The history, which is never more than one interval ahead of the checkpoints.

    Args:
        history: None: nobody's.
        writer: while it is at work, what is added waits.
    """

    def __init__(self, history: History | None, writer: CheckpointWriter) -> None:
        self._history = history
        self._writer = writer
        self._waiting: list[dict[str, Any]] = []

    def add(self, record: dict[str, Any]) -> None:
        """Append a record, now or when there is a checkpoint before it."""
        self._waiting.append(record)
        if self._writer.is_idle:
            self.write()

    def write(self) -> None:
        """Append all, when what is being written is on the disk.

        Raises:
            OSError: if that failed.
        """
        self._writer.wait()
        if self._history is not None:
            for each in self._waiting:
                self._history.append(each)
        self._waiting.clear()
