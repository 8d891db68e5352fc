"""Checkpoints are written beside the training: it stops for the copy of its state alone."""

from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self

from kod_bench.training.checkpoint import CheckpointStore
from kod_bench.training.streams import host_copy


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

    def save(self, iteration: int, state: dict[str, Any]) -> None:
        """Begin to write a state, which may change from now on.

        Raises:
            OSError: if the one before could not be written.
        """
        self.wait()
        self._written = self._thread.submit(self._checkpoints.save, iteration, host_copy(state))

    def wait(self) -> None:
        """Until all is on the disk.

        Raises:
            OSError: if it cannot be written.
        """
        written, self._written = self._written, None
        if written is not None:
            written.result()
