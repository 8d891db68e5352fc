import os
import time
from pathlib import Path

import pytest

from kod_bench.data import hash_index
from kod_bench.data.hash_index import hash_files


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    for name in ("a.png", "b.png"):
        (tmp_path / "data" / name).write_bytes(b"same")
    return tmp_path / "data"


@pytest.fixture
def _settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files count as settled at once."""
    monkeypatch.setattr(hash_index, "_SETTLED_NS", 0)


def digests(folder: Path) -> list[str]:
    names = sorted(os.listdir(folder))
    return [file.digest for file in hash_files(folder, names, folder.parent / "cache", 2)]


def forbid_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        pytest.fail("a file was read again")

    monkeypatch.setattr(hash_index.hashlib, "file_digest", refuse)


def test_the_hash_is_the_content(folder: Path) -> None:
    os.utime(folder / "b.png", (0, 0))
    one, two = digests(folder)
    assert one == two


@pytest.mark.usefixtures("_settled")
def test_what_has_not_changed_is_not_read_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = digests(folder)
    forbid_reading(monkeypatch)
    assert digests(folder) == before


@pytest.mark.usefixtures("_settled")
def test_a_change_with_the_old_size_and_time_is_noticed(folder: Path) -> None:
    before = digests(folder)
    status = (folder / "a.png").stat()
    time.sleep(0.05)  # longer than a tick of the file system's clock
    (folder / "a.png").write_bytes(b"Same")
    os.utime(folder / "a.png", ns=(status.st_atime_ns, status.st_mtime_ns))
    after = digests(folder)
    assert after[0] != before[0]
    assert after[1] == before[1]


def test_a_file_changed_just_now_is_not_remembered(folder: Path) -> None:
    digests(folder)
    assert not (folder.parent / "cache").exists()


@pytest.mark.usefixtures("_settled")
@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff"])
def test_a_damaged_index_is_rebuilt(
    folder: Path, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = digests(folder)
    (index,) = (folder.parent / "cache" / ".hashes").iterdir()
    index.write_bytes(content)
    assert digests(folder) == before
    forbid_reading(monkeypatch)
    assert digests(folder) == before


@pytest.mark.usefixtures("_settled")
def test_a_cache_that_cannot_be_written_is_no_error(folder: Path) -> None:
    (folder.parent / "cache").touch()
    assert len(digests(folder)) == 2


@pytest.mark.usefixtures("_settled")
def test_any_name_is_remembered(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / os.fsdecode(b"\xff\n.png")).write_bytes(b"odd")
    before = digests(folder)
    forbid_reading(monkeypatch)
    assert digests(folder) == before


def test_what_cannot_be_read_says_why(folder: Path) -> None:
    os.mkfifo(folder / "pipe.png")
    (folder / "dangling.png").symlink_to(folder / "nowhere")
    found = dict(zip(sorted(os.listdir(folder)), digests(folder), strict=True))
    assert found["pipe.png"] == "not a regular file"
    assert found["dangling.png"] == "No such file or directory"
