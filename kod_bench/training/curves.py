"""Curves for TensorBoard, written with tensorboardX, which Ray installs: its files, no TensorFlow.

Not with its `SummaryWriter`, whose thread dies on a full disk and leaves the caller waiting: these
files are written at once, and what cannot be written is given up with a line in the log.
"""

import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

_log = logging.getLogger(__name__)


class CurveWriter:
    """Appends points to curves in an event file of its own; readers join the files of a folder.

    A failing disk ends the curves and nothing else. Use as a context manager.

    Args:
        folder: where TensorBoard is pointed at.
        begin_after: points of earlier files beyond this iteration are taken back: a run that
            continues from a checkpoint repeats them.
    """

    def __init__(self, folder: Path, begin_after: int) -> None:
        from tensorboardX.event_file_writer import EventsWriter  # half a second
        from tensorboardX.proto.event_pb2 import Event, SessionLog

        self._event = Event
        self._writer: EventsWriter | None = None
        # The name holds the second; two attempts in one second must not share a file.
        suffix = f".{os.getpid()}.{begin_after}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._writer = EventsWriter(str(folder / "events"), suffix)
            log = SessionLog(status=SessionLog.START)
            self._write(Event(wall_time=time.time(), step=begin_after + 1, session_log=log))
        except OSError as error:
            self._give_up(error)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._writer is not None:
            try:
                self._writer.close()
            except OSError as error:
                self._give_up(error)

    def add(self, iteration: int, values: Mapping[str, float]) -> None:
        """Add one point to each of some curves."""
        from tensorboardX.summary import scalar

        if self._writer is None:
            return
        try:
            for name, value in values.items():
                summary = scalar(name, value)
                self._write(self._event(wall_time=time.time(), step=iteration, summary=summary))
        except OSError as error:
            self._give_up(error)

    def _write(self, event: object) -> None:
        if self._writer is not None:
            self._writer.write_event(event)
            self._writer.flush()

    def _give_up(self, error: OSError) -> None:
        _log.warning("curves for TensorBoard are not written any more: %s", error)
        self._writer = None
