"""Curves, read back as TensorBoard reads them."""

import os
import struct
from dataclasses import replace
from pathlib import Path

import pytest
from tensorboardX.proto.event_pb2 import Event, SessionLog

from kod_bench.training import CheckpointStore, CurveWriter, History
from kod_bench.training.history import read_history
from tests.training.test_training import OPTIONS, run


def events(path: Path) -> list[Event]:
    """The records of one file: length, its checksum, data, their checksum (TFRecord)."""
    data, found = path.read_bytes(), []
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        event = Event()
        event.ParseFromString(data[12 : 12 + length])
        found.append(event)
        data = data[16 + length :]
    return found


def curve(folder: Path, name: str) -> dict[int, float]:
    """What is drawn: files in order of their names; a session's start takes back later points."""
    points: dict[int, float] = {}
    for path in sorted(folder.iterdir(), key=lambda p: p.stat().st_mtime_ns):
        for event in events(path):
            if event.session_log.status == SessionLog.START:
                points = {step: value for step, value in points.items() if step < event.step}
            for value in event.summary.value:
                if value.tag == name:
                    points[event.step] = value.simple_value
    return points


def train_with_curves(folder: Path, iterations: int) -> None:
    def history(start: int) -> History:
        curves = CurveWriter(folder / "tensorboard", start)
        return History(folder / "history.jsonl", start, curves)

    run(folder, replace(OPTIONS, iterations=iterations), history=history)


def test_lines_of_a_history_end_at_line_feeds_alone(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    note = "\N{LINE SEPARATOR}\N{NEXT LINE}\x1c"
    path.write_bytes(
        f'{{"iteration": 1, "note": "{note[:2]}"}}\n'.encode()
        + b'{"iteration": 2, "note": "\xff"}\n{"iteration": 3}\n{"iter'
    )
    assert [each["iteration"] for each in read_history(path)] == [1, 3]


def test_a_continued_run_continues_its_curve(tmp_path: Path) -> None:
    train_with_curves(tmp_path, 30)
    # As after a kill between two checkpoints: iterations 25 and 30 are trained again.
    store = CheckpointStore(tmp_path / "checkpoints")
    (store.folder / "iteration-00000030.pt").unlink()
    assert store.latest_iteration() == 20
    train_with_curves(tmp_path, 40)
    loss = curve(tmp_path / "tensorboard", "train/loss")
    assert [*loss] == [*range(5, 41, 5)]
    written = {r["iteration"]: r["loss"] for r in read_history(tmp_path / "history.jsonl")}
    assert loss == pytest.approx(written, rel=1e-6)
    rate = curve(tmp_path / "tensorboard", "train/learning_rate")
    assert [*rate.values()] == pytest.approx([OPTIONS.learning_rate] * 8)
    assert min(curve(tmp_path / "tensorboard", "train/images_per_second").values()) > 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_ends_the_curves_and_not_the_training(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full(CurveWriter):
        """Writes to the device that is always full."""

        def __init__(self, folder: Path, begin_after: int) -> None:
            super().__init__(folder, begin_after)
            assert self._writer is not None
            self._writer._py_recordio_writer._writer = os.fdopen(
                os.open("/dev/full", os.O_WRONLY), "wb", buffering=0
            )

    (tmp_path / "curves").mkdir()
    with caplog.at_level("WARNING", "kod_bench"):
        run(
            tmp_path,
            history=lambda start: History(
                tmp_path / "history.jsonl", start, Full(tmp_path / "curves", start)
            ),
        )
    assert len(read_history(tmp_path / "history.jsonl")) == 6
    assert [r.getMessage() for r in caplog.records] == [
        "curves for TensorBoard are not written any more: [Errno 28] No space left on device"
    ]
