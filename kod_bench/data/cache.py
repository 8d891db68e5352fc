"""Prepared arrays on disk: complete or absent, verified on every read.

An entry is a folder `<key>/` with `train.npy`, `test.npy` and `meta.json`. It is written under
another name, flushed to the disk and renamed, so that a crash leaves no entry that looks complete.
Whoever prepares an entry holds a lock on the folder it is written in: a second process waits and
then finds it done, and what a killed one left is told from what is being written by its lock, which
the system frees.
"""

import contextlib
import fcntl
import hashlib
import io
import json
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from kod_bench.atomic import LEFTOVERS
from kod_bench.data.cache_folder import (
    HASHES,
    SURVEYS,
    check_own,
    close_folder,
    create_file,
    folder_mode,
    home_cache,
    own_folder,
    temporary_cache,
)
from kod_bench.data.errors import DataError
from kod_bench.data.views import PixelArray
from kod_bench.inside import MOST_DOCUMENT, is_file, read_json
from kod_bench.storage import local_path

_STAGING_PREFIX = ".preparing-"
_STALE_SECONDS = 24 * 3600  # where there are no locks: no preparation takes a day

#: Larger arrays are trusted when their sizes are right: hashing them would delay every worker.
VERIFIED_BYTES = 256 * 2**20


@dataclass(frozen=True)
class Details:
    """What there is to know about a prepared data set, beyond its pixels.

    Attributes:
        split: The rule by which it was divided.
        images: Source images that were used.
        groups: Groups of images in the training and in the test set, and what they are.
        skipped: How many source images were left out, by reason.
        duplicates: How many source images were left out because they occur twice.
        classes: Training and test images of each class, where there are classes.
        seconds: What the preparation took.
    """

    split: str = ""
    images: int = 0
    groups: tuple[int, int, str] = (0, 0, "groups")
    skipped: dict[str, int] = field(default_factory=dict)
    duplicates: int = 0
    classes: dict[str, tuple[int, int]] = field(default_factory=dict)
    seconds: float = 0.0

    @classmethod
    def restore(cls, values: dict[str, Any]) -> "Details":
        """From JSON, which has no tuples."""
        train, test, noun = values["groups"]
        classes = {name: (of[0], of[1]) for name, of in values["classes"].items()}
        return cls(**{**values, "groups": (train, test, noun), "classes": classes})


@dataclass(frozen=True)
class PreparedImages:
    """What a cache entry holds: (N, C, H, W), uint8 intensities or float32 angles, both alike."""

    train: PixelArray
    test: PixelArray
    name: str
    description: str
    warnings: tuple[str, ...]
    details: Details = field(default_factory=Details)


@dataclass(frozen=True)
class _Meta:
    name: str
    description: str
    warnings: list[str]
    content_hash: str
    details: dict[str, Any]


def content_hash(train: PixelArray, test: PixelArray) -> str:
    """Hash of the pixels and of the split, in 32 hexadecimal digits."""
    digest = hashlib.sha256()
    for images in (train, test):
        digest.update(repr(images.shape).encode())
        digest.update(np.ascontiguousarray(images).data)
    return digest.hexdigest()[:32]


def default_cache_dir() -> Path:
    """$KOD_BENCH_CACHE, else kod-bench in $XDG_CACHE_HOME, else in ~/.cache.

    Where there is no home that could hold it, a folder of the user's own among temporary files.
    """
    if chosen := os.environ.get("KOD_BENCH_CACHE"):
        return local_path(chosen)
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if base.is_absolute():  # the XDG specification has relative paths ignored
        return base / "kod-bench"
    return home_cache() or temporary_cache()


def read_entry(entry: Path) -> tuple[PreparedImages, str] | None:
    """Opens an entry: its images, memory-mapped, and their hash.

    Returns:
        None where there is no entry, or one whose files are damaged or do not match their hash.
        The hash is computed again up to `VERIFIED_BYTES`.

    Raises:
        DataError: It belongs to others, or is a link.
    """
    names = ("meta.json", "train.npy", "test.npy")
    for path in (entry, *(entry / name for name in names)):
        check_own(path)
    if not all(is_file(entry / name) for name in names):
        return None
    if entry.parent.stat().st_mode & 0o077:
        close_folder(entry)
    try:
        meta = _Meta(**read_json(entry / "meta.json", MOST_DOCUMENT))
        # Mapped copy-on-write: who writes into the array changes their own copy, not the file.
        train = np.load(entry / "train.npy", mmap_mode="c", allow_pickle=False)
        test = np.load(entry / "test.npy", mmap_mode="c", allow_pickle=False)
        if train.dtype not in (np.uint8, np.float32) or train.dtype != test.dtype:
            return None
        if train.ndim != 4 or test.ndim != 4:
            return None
        small = train.nbytes + test.nbytes <= VERIFIED_BYTES
        if small and content_hash(train, test) != meta.content_hash:
            return None
        details = Details.restore(meta.details)
        images = PreparedImages(
            train, test, meta.name, meta.description, tuple(meta.warnings), details
        )
    except (OSError, ValueError, TypeError, LookupError, EOFError, SyntaxError):  # npy header, too
        return None
    return images, meta.content_hash


@contextlib.contextmanager
def staging_folder(entry: Path) -> Iterator[Path]:
    """An empty folder inside the cache for making an entry, removed at the end if it is left.

    Opened before the work begins, so that a cache that cannot be written is reported at once.
    Waits while another process has it open for the same entry.

    Raises:
        DataError: The cache cannot be written.
    """
    try:
        own_folder(entry.parent)
        _remove_abandoned(entry.parent)
        staging, descriptor = _open_staging(entry)
    except OSError as error:
        raise _not_writable(entry.parent, error) from None
    try:
        yield staging
    finally:
        if _is_open_at(descriptor, staging):  # else it was published, and is no longer ours
            shutil.rmtree(staging, ignore_errors=True)
        os.close(descriptor)  # and with it the lock


def _open_staging(entry: Path) -> tuple[Path, int]:
    """Makes and locks the folder in which an entry is written; gives it and its descriptor."""
    staging = entry.with_name(f"{_STAGING_PREFIX}{entry.name}")
    while True:
        # Not tempfile.mkdtemp: its folder is closed to others, and a cache may be shared.
        staging.mkdir(folder_mode(), exist_ok=True)
        check_own(staging)
        try:
            descriptor = _open_folder(staging)
        except FileNotFoundError:  # published or removed just now
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError:
            # A file system without locks: work apart from the others, the last one to finish finds
            # the entry there.
            os.close(descriptor)
            with contextlib.suppress(OSError):
                staging.rmdir()
            staging = entry.with_name(f"{_STAGING_PREFIX}{secrets.token_hex(8)}")
            staging.mkdir(folder_mode())
            return staging, _open_folder(staging)
        if _is_open_at(descriptor, staging):
            _clear(staging)  # a killed process may have left something
            return staging, descriptor
        os.close(descriptor)  # it was published or removed while we waited


def _open_folder(folder: Path) -> int:
    return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)


def _is_open_at(descriptor: int, folder: Path) -> bool:
    """Whether an open folder is still the one of that name."""
    try:
        status = os.stat(folder)
    except FileNotFoundError:
        return False
    return os.path.samestat(status, os.fstat(descriptor))


def _clear(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def publish(staging: Path, entry: Path, images: PreparedImages) -> None:
    """Writes an entry into its staging folder and moves it to its place.

    A good entry that another process published in the meantime is left as it is; a damaged one is
    replaced.

    Raises:
        DataError: The cache cannot be written, or the disk is full.
    """
    meta = _Meta(
        name=images.name,
        description=images.description,
        warnings=list(images.warnings),
        content_hash=content_hash(images.train, images.test),
        details=asdict(images.details),
    )
    try:
        _clear(staging)
        for file_name, array in (("train.npy", images.train), ("test.npy", images.test)):
            with create_file(staging / file_name) as file:
                np.save(file, array, allow_pickle=False)
                os.fsync(file.fileno())
        with io.TextIOWrapper(create_file(staging / "meta.json"), "utf-8") as text:
            json.dump(asdict(meta), text, indent=1)
            text.flush()
            os.fsync(text.fileno())
        _flush_folder(staging)
        if read_entry(entry) is None:
            _replace(entry, staging)
        _flush_folder(entry.parent)
    except OSError as error:
        raise _not_writable(entry.parent, error) from None


def _replace(entry: Path, staging: Path) -> None:
    """Moves a staging folder to its place, from which a damaged entry is taken away first."""
    damaged = staging.with_name(staging.name + "-damaged")
    with contextlib.suppress(FileNotFoundError):  # there is none, or another process took it away
        entry.rename(damaged)  # a folder that is not empty cannot be renamed over
    shutil.rmtree(damaged, ignore_errors=True)
    try:
        staging.rename(entry)
    except OSError:
        if read_entry(entry) is None:  # else another process was a moment faster
            raise


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove_abandoned(cache_dir: Path) -> None:
    """Removes what killed processes left: nobody holds a lock on it any more."""
    for folder in cache_dir.glob(f"{_STAGING_PREFIX}*"):
        with contextlib.suppress(OSError):
            _remove_if_abandoned(folder)
    for name in (HASHES, SURVEYS):  # no other folder is looked into, by a link even less
        check_own(cache_dir / name)
        for file in (cache_dir / name).glob(LEFTOVERS):
            with contextlib.suppress(OSError):
                if time.time() - file.lstat().st_mtime > _STALE_SECONDS:
                    file.unlink()


def _remove_if_abandoned(folder: Path) -> None:
    descriptor = _open_folder(folder)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        except OSError:  # no locks here
            if time.time() - folder.stat().st_mtime < _STALE_SECONDS:
                return
        # Still locked: who waits for it will see that it is gone, and make another.
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(descriptor)


def _not_writable(cache_dir: Path, error: OSError) -> DataError:
    return DataError(
        f"cannot write the cache in {cache_dir}: {error.strerror or error}; "
        "set KOD_BENCH_CACHE to a folder that can be written"
    )
