"""Whose the cache is: its user's, closed to others; what others own in it is refused."""

import logging
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from kod_bench.data import DataError, DatasetOptions, cache, cache_folder, hash_index, load_dataset
from kod_bench.data.cache_folder import check_cache, check_own, own_folder
from kod_bench.data.hash_index import hash_files
from kod_bench.evaluation import against, inception

#: No user of this machine has it.
STRANGER = 54_321

GiveAway = Callable[..., None]


@pytest.fixture(autouse=True)
def _usual_umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_folder, "_closed", set())
    monkeypatch.setattr(hash_index, "_SETTLED_NS", 0)  # hashes of new files are remembered, too
    monkeypatch.delenv("KOD_BENCH_CACHE_TRUST", raising=False)


@pytest.fixture
def give_away(monkeypatch: pytest.MonkeyPatch) -> GiveAway:
    """Make files somebody else's: as root really, else as this project sees it."""
    given: set[int] = set()

    def owner(status: os.stat_result) -> int:
        return STRANGER if status.st_ino in given else status.st_uid

    def give(*paths: Path) -> None:
        for path in paths:
            if os.geteuid() == 0:
                os.chown(path, STRANGER, STRANGER, follow_symlinks=False)
            given.add(path.lstat().st_ino)

    if os.geteuid() != 0:
        monkeypatch.setattr(cache_folder, "_owner", owner)
    return give


@pytest.fixture
def prepared(prints: Callable[..., Path], options: DatasetOptions, tmp_path: Path) -> Path:
    """A cache that one data set was prepared in."""
    load_dataset(options.model_copy(update={"color": "auto"}), prints(), tmp_path / "cache")
    return tmp_path / "cache"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def entry_of(cache_dir: Path) -> Path:
    (entry,) = cache_dir.glob("fingerprints-*")
    return entry


def test_private_images_are_cached_for_their_user_alone(prepared: Path) -> None:
    found = [prepared, *prepared.rglob("*")]
    assert {path.name for path in found} >= {
        ".hashes",
        ".surveys",
        "train.npy",
        "test.npy",
        "meta.json",
    }
    assert {mode(path) for path in found if path.is_dir()} == {0o700}
    assert {mode(path) for path in found if path.is_file()} == {0o600}


def test_ones_own_cache_that_is_open_is_closed_with_a_line(
    prepared: Path,
    prints: Callable[..., Path],
    options: DatasetOptions,
    caplog: pytest.LogCaptureFixture,
) -> None:
    for path in (prepared, entry_of(prepared)):
        path.chmod(0o755)
    with caplog.at_level(logging.WARNING):
        load_dataset(options, prints(), prepared)
        load_dataset(options, prints(), prepared)
    assert mode(prepared) == 0o700
    assert [record.getMessage() for record in caplog.records] == [
        f"the cache {prepared} was open to other users of this machine; it is closed to them now "
        "(to share it: KOD_BENCH_CACHE_TRUST, see docs/trust.md)"
    ]


def test_one_that_cannot_be_closed_is_warned_of(
    prepared: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    prepared.chmod(0o755)
    monkeypatch.setattr(cache_folder.os, "chmod", lambda *_: None)  # as on FAT, or some shares
    with caplog.at_level(logging.WARNING):
        check_cache(prepared)
        check_cache(prepared)
    (record,) = caplog.records
    assert "is open to other users of this machine and cannot be closed" in record.getMessage()


def test_a_folder_that_holds_other_things_keeps_its_mode(
    prints: Callable[..., Path], options: DatasetOptions, tmp_path: Path
) -> None:
    """As where KOD_BENCH_CACHE is a user's scratch folder, from which others read."""
    shared = tmp_path / "scratch"
    (shared / "for-everybody").mkdir(parents=True)
    load_dataset(options, prints(), shared)
    # An entry and an index of an earlier version, which made them so.
    for path in (shared / ".hashes", entry_of(shared)):
        path.chmod(0o755)
    load_dataset(options, prints(), shared)
    (prints() / "1_1.png").touch()
    own_folder(shared, ".hashes")
    assert mode(shared) == mode(shared / "for-everybody") == 0o755
    assert mode(shared / ".hashes") == mode(entry_of(shared)) == 0o700


WHOSE = {
    "the cache": lambda cache_dir: cache_dir,
    "an entry": entry_of,
    "its images": lambda cache_dir: entry_of(cache_dir) / "train.npy",
    "what is known of it": lambda cache_dir: entry_of(cache_dir) / "meta.json",
    "remembered hashes": lambda cache_dir: cache_dir / ".hashes",
    "some of them": lambda cache_dir: next((cache_dir / ".hashes").iterdir()),
    "what auto stands for": lambda cache_dir: next((cache_dir / ".surveys").iterdir()),
}


@pytest.mark.parametrize("place", WHOSE.values(), ids=WHOSE)
def test_what_others_own_is_refused_unless_they_are_trusted(
    place: Callable[[Path], Path],
    prints: Callable[..., Path],
    options: DatasetOptions,
    tmp_path: Path,
    give_away: GiveAway,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = prints()
    cache_dir = tmp_path / "cache"
    options = options.model_copy(update={"color": "auto"})
    load_dataset(options, folder, cache_dir)
    path = place(cache_dir)
    give_away(path)
    with pytest.raises(DataError) as refused:
        load_dataset(options, folder, cache_dir)
    assert str(refused.value) == (
        f"{path}: belongs to {STRANGER}, who may have put anything there; set KOD_BENCH_CACHE to a "
        f"folder of your own, or, if you trust them, KOD_BENCH_CACHE_TRUST={STRANGER} "
        "(docs/trust.md)"
    )
    for trusted in ("all", f"root, {STRANGER}"):
        monkeypatch.setenv("KOD_BENCH_CACHE_TRUST", trusted)
        load_dataset(options, folder, cache_dir)
    monkeypatch.setenv("KOD_BENCH_CACHE_TRUST", "root")
    with pytest.raises(DataError, match="belongs to"):
        load_dataset(options, folder, cache_dir)


def test_an_open_cache_in_which_others_left_something_is_not_taken_over(
    prepared: Path, give_away: GiveAway
) -> None:
    prepared.chmod(0o777)
    planted = entry_of(prepared) / "train.npy"
    give_away(planted)
    for _ in range(2):
        with pytest.raises(DataError, match=r"train\.npy: belongs to"):
            check_cache(prepared)
    assert mode(prepared) == 0o777


def test_a_link_to_the_cache_is_its_users_own_or_refused(
    prepared: Path, tmp_path: Path, give_away: GiveAway
) -> None:
    link = tmp_path / "link"
    link.symlink_to(prepared)
    check_cache(link)
    assert own_folder(link, "downloads").is_dir()
    give_away(link)
    with pytest.raises(DataError, match=f"{link}: belongs to"):
        check_cache(link)


def test_a_shared_cache_is_made_by_the_umask(
    prints: Callable[..., Path],
    options: DatasetOptions,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("KOD_BENCH_CACHE_TRUST", "all")
    os.umask(0o002)
    cache_dir = tmp_path / "cache"
    cache_dir.mkdir(0o777)
    load_dataset(options, prints(), cache_dir)
    found = [cache_dir, *cache_dir.rglob("*")]
    assert {mode(path) for path in found if path.is_dir()} == {0o775}
    assert {mode(path) for path in found if path.is_file()} == {0o664}
    assert not caplog.records


def test_a_trusted_user_that_is_none_is_named(
    prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KOD_BENCH_CACHE_TRUST", "nobody-of-this-name")
    with pytest.raises(DataError, match="KOD_BENCH_CACHE_TRUST: there is no user 'nobody-of-this"):
        check_cache(prepared)


@pytest.mark.parametrize(
    "name",
    ["entry", "entry/train.npy", "entry/meta.json", ".hashes", ".surveys", ".preparing-entry"],
)
def test_no_link_in_the_cache_is_followed(
    name: str, prepared: Path, tmp_path: Path, prints: Callable[..., Path], options: DatasetOptions
) -> None:
    entry = entry_of(prepared)
    path = prepared / name.replace("entry", entry.name)
    outside = tmp_path / "outside"
    if path.exists():
        path.rename(outside)
    else:
        shutil.rmtree(entry)
        outside.mkdir()
    (tmp_path / "kept").touch()
    if outside.is_dir():
        (outside / "kept").touch()
        (outside / ".old.1.tmp").touch()
        os.utime(outside / ".old.1.tmp", (0, 0))
    before = sorted(outside.rglob("*"))
    path.symlink_to(outside)
    options = options.model_copy(update={"color": "auto"})
    with pytest.raises(DataError, match=f"{path}: is a link"):
        load_dataset(options, prints(), prepared)
    assert sorted(outside.rglob("*")) == before


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", ["train.npy", "meta.json"])
def test_a_pipe_in_an_entry_is_a_damaged_entry(
    name: str, prepared: Path, prints: Callable[..., Path], options: DatasetOptions
) -> None:
    (entry_of(prepared) / name).unlink()
    os.mkfifo(entry_of(prepared) / name)
    load_dataset(options, prints(), prepared)
    assert (entry_of(prepared) / name).is_file()


@pytest.mark.timeout(60)
def test_a_pipe_under_the_name_of_what_is_abandoned(
    prepared: Path, prints: Callable[..., Path], options: DatasetOptions
) -> None:
    shutil.rmtree(entry_of(prepared))
    os.mkfifo(prepared / ".preparing-pipe")
    (prepared / ".preparing-link").symlink_to(prepared / ".hashes")
    load_dataset(options, prints(), prepared)
    assert (prepared / ".hashes").is_dir()


@pytest.mark.timeout(60)
def test_a_pipe_in_place_of_remembered_hashes(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.png").write_bytes(b"a")
    before = hash_files(tmp_path / "data", ["a.png"], tmp_path / "cache", 1)
    (index,) = (tmp_path / "cache" / ".hashes").iterdir()
    index.unlink()
    os.mkfifo(index)
    assert hash_files(tmp_path / "data", ["a.png"], tmp_path / "cache", 1) == before
    assert index.is_file()


def test_downloads_references_and_weights_of_others_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, give_away: GiveAway
) -> None:
    monkeypatch.setenv("KOD_BENCH_CACHE", str(tmp_path / "cache"))
    references = against._references()
    assert mode(references) == 0o700
    (references / "reference-0.npz").touch()
    weights = tmp_path / "cache" / inception.WEIGHTS_NAME
    weights.touch()
    archive = own_folder(tmp_path / "cache", "downloads") / "cifar-10-python.tar.gz"
    archive.touch()
    give_away(references / "reference-0.npz", weights, archive)
    for look in (
        against._references,
        inception.find_weights,
        lambda: load_dataset(DatasetOptions(name="cifar10", image_size=32), None),
    ):
        with pytest.raises(DataError, match=f"belongs to {STRANGER}"):
            look()


def test_the_default_cache_of_a_machine_is_closed_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KOD_BENCH_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home" / ".cache"))
    folder = own_folder(cache.default_cache_dir(), "sweeps", "0123")
    assert {mode(path) for path in (folder, folder.parent, folder.parents[1])} == {0o700}
    assert mode(tmp_path / "home" / ".cache") == 0o755  # others' programs keep theirs there


def test_what_is_not_there_is_nobodys(tmp_path: Path) -> None:
    check_cache(tmp_path / "none")
    check_own(tmp_path / "none" / "file")


def test_the_arrays_are_those_that_were_prepared(
    prepared: Path, prints: Callable[..., Path], options: DatasetOptions
) -> None:
    """Closing and checking change nothing of what is read."""
    before = np.load(entry_of(prepared) / "train.npy")
    prepared.chmod(0o755)
    dataset = load_dataset(options, prints(), prepared)
    np.testing.assert_array_equal(dataset.train.numpy(), before)
