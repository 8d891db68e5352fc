"""Folders to be thrown away: gone at the end, and after a kill at the next beginning."""

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from kod_bench.sweeps.store.scratch import scratch_folder

HOLD = """
from kod_bench.sweeps.store.scratch import scratch_folder
with scratch_folder() as folder:
    (folder / "large").write_bytes(b"content")
    print(folder, flush=True)
    input()
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


def test_it_is_gone_at_the_end(place: Path) -> None:
    with scratch_folder() as folder:
        assert folder.parent == place
        (folder / "file").write_text("content")
    assert list(place.iterdir()) == []


def test_what_a_killed_process_left_is_removed_and_nothing_else(place: Path) -> None:
    (place / "kod-bench-of-the-user").mkdir()
    (place / "kod-bench-link").symlink_to(place / "kod-bench-of-the-user")
    with subprocess.Popen(
        [sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        left = Path(process.stdout.readline().strip())
        with scratch_folder():
            assert (left / "large").is_file()  # in use
        process.kill()
    assert (left / "large").is_file()
    with scratch_folder() as folder:
        names = {path.name for path in place.iterdir()}
    assert names == {"kod-bench-of-the-user", "kod-bench-link", folder.name}
