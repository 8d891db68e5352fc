import json
import os
import pwd
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kod_bench.data import DataError, cache
from kod_bench.data.cache import Details, PreparedImages, publish, read_entry, staging_folder
from kod_bench.data.cache_folder import temporary_cache


def images(seed: int = 0) -> PreparedImages:
    generator = np.random.default_rng(seed)
    train, test = (generator.integers(0, 256, (n, 1, 8, 8), dtype=np.uint8) for n in (5, 2))
    return PreparedImages(train, test, "fingerprints", "seven images", ("one warning",))


def write(cache_dir: Path, seed: int = 0) -> Path:
    with staging_folder(cache_dir / "entry") as staging:
        publish(staging, cache_dir / "entry", images(seed))
    return cache_dir / "entry"


def unsupported(*_: object) -> None:
    raise OSError(38, "Function not implemented")


def test_what_is_written_is_read(tmp_path: Path) -> None:
    found = read_entry(write(tmp_path))
    assert found is not None
    read, content_hash = found
    np.testing.assert_array_equal(read.train, images().train)
    np.testing.assert_array_equal(read.test, images().test)
    assert (read.name, read.description, read.warnings) == (
        "fingerprints",
        "seven images",
        ("one warning",),
    )
    assert content_hash == cache.content_hash(images().train, images().test)
    assert [path.name for path in tmp_path.iterdir()] == ["entry"]


def test_writing_into_the_arrays_leaves_the_file(tmp_path: Path) -> None:
    entry = write(tmp_path)
    found = read_entry(entry)
    assert found is not None
    found[0].train[:] = 0
    assert read_entry(entry) is not None


def test_the_hash_tells_the_split() -> None:
    one = images()
    assert cache.content_hash(one.train, one.test) != cache.content_hash(one.test, one.train)
    both = np.concatenate([one.train, one.test])
    assert len({cache.content_hash(both[:k], both[k:]) for k in range(1, 7)}) == 6


@pytest.mark.parametrize("name", ["train.npy", "test.npy", "meta.json"])
@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "flipped", "replaced"])
def test_a_damaged_entry_is_not_trusted_and_replaced(
    tmp_path: Path, name: str, damage: str
) -> None:
    entry = write(tmp_path)
    content = bytearray((entry / name).read_bytes())
    if damage == "missing":
        (entry / name).unlink()
    else:
        if damage == "flipped":
            # The last pixel, or a digit of the hash.
            position = -1 if name.endswith("npy") else content.index(b'hash": "') + 8
            content[position] ^= 1
        changed = {"empty": b"", "cut": content[:-9], "flipped": content, "replaced": b"[null]"}
        (entry / name).write_bytes(changed[damage])
    assert read_entry(entry) is None
    assert read_entry(write(tmp_path)) is not None
    assert [path.name for path in tmp_path.iterdir()] == ["entry"]


def test_a_good_entry_is_left_alone(tmp_path: Path) -> None:
    before = read_entry(write(tmp_path, seed=0))
    after = read_entry(write(tmp_path, seed=1))
    assert before is not None
    assert after is not None
    assert before[1] == after[1]


@pytest.mark.parametrize("call", ["fsync", "save", "dump", "rename"])
def test_an_interruption_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    owner = {"fsync": os, "save": np, "dump": json, "rename": Path}[call]
    monkeypatch.setattr(owner, call, interrupt)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_a_kill_leaves_is_no_entry_and_goes_with_the_next_preparation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with staging_folder(tmp_path / "other") as staging:
        monkeypatch.setattr(cache.shutil, "rmtree", lambda *_, **__: None)  # as after kill -9
        (staging / "train.npy").touch()
    monkeypatch.undo()
    assert staging.exists()
    assert read_entry(tmp_path / "other") is None
    write(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["entry"]


def test_what_is_being_prepared_is_left_alone(tmp_path: Path) -> None:
    with staging_folder(tmp_path / "other") as staging:
        (staging / "train.npy").touch()
        write(tmp_path)
        assert (staging / "train.npy").exists()


def test_without_locks_two_prepare_apart_and_old_rubbish_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache.fcntl, "flock", unsupported)
    with staging_folder(tmp_path / "entry") as one, staging_folder(tmp_path / "entry") as two:
        assert one != two
        publish(one, tmp_path / "entry", images(0))
        publish(two, tmp_path / "entry", images(0))
    assert [path.name for path in tmp_path.iterdir()] == ["entry"]
    for age in ("new", "old"):
        (tmp_path / f".preparing-{age}").mkdir()
    os.utime(tmp_path / ".preparing-old", (0, 0))
    write(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"entry", ".preparing-new"}


def test_a_large_entry_is_trusted_by_its_sizes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = write(tmp_path)
    monkeypatch.setattr(cache, "VERIFIED_BYTES", 0)
    monkeypatch.setattr(cache, "content_hash", None)
    assert read_entry(entry) is not None
    (entry / "train.npy").write_bytes((entry / "train.npy").read_bytes()[:-1])
    assert read_entry(entry) is None


def test_details_survive(tmp_path: Path) -> None:
    details = Details("rule", 7, (2, 1, "fingers"), {"blank": 3}, 1, {"cat": (4, 2)}, 0.5)
    with staging_folder(tmp_path / "entry") as staging:
        publish(staging, tmp_path / "entry", replace(images(), details=details))
    found = read_entry(tmp_path / "entry")
    assert found is not None
    assert found[0].details == details


def test_a_lost_race_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there are no locks, another process publishes between our look and our rename."""
    entry, rename = tmp_path / "entry", Path.rename

    def slow(self: Path, target: Path) -> Path:
        if target == entry and not entry.exists():
            monkeypatch.undo()
            write(tmp_path)
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", slow)
    monkeypatch.setattr(cache.fcntl, "flock", unsupported)
    assert read_entry(write(tmp_path)) is not None
    assert [path.name for path in tmp_path.iterdir()] == ["entry"]


def test_a_cache_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"cannot write the cache in .*KOD_BENCH_CACHE"):
        write(tmp_path / "file")


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(DataError, match="No space left on device; set KOD_BENCH_CACHE"):
        write(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"KOD_BENCH_CACHE": "/k", "XDG_CACHE_HOME": "/x"}, "/k"),
        ({"KOD_BENCH_CACHE": "", "XDG_CACHE_HOME": "/x"}, "/x/kod-bench"),
        ({"XDG_CACHE_HOME": "relative"}, "me/.cache/kod-bench"),
        ({}, "me/.cache/kod-bench"),
    ],
)
def test_default_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], expected: str
) -> None:
    monkeypatch.delenv("KOD_BENCH_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert cache.default_cache_dir() == tmp_path / expected


@pytest.mark.parametrize("home", ["/dev/null/home", None])
def test_who_has_no_home_has_a_cache_among_temporary_files(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    home: str | None,
) -> None:
    for name in ("KOD_BENCH_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    if home is not None:
        monkeypatch.setenv("HOME", home)
    else:  # as a container's user without an entry

        def nobody(number: int) -> None:
            raise KeyError(number)

        monkeypatch.setattr(pwd, "getpwuid", nobody)
    temporary_cache.cache_clear()
    try:
        assert cache.default_cache_dir() == tmp_path / f"kod-bench-cache-{os.geteuid()}"
        assert cache.default_cache_dir() == cache.default_cache_dir()
    finally:
        temporary_cache.cache_clear()
    assert caplog.text.count("set KOD_BENCH_CACHE to have it last") == 1
