"""Prepared arrays on disk: complete or absent, verified on every read.

An entry is a folder `<key>/` with `train.npy`, `test.npy` and `meta.json`. It is written under
another name, flushed to the disk and renamed, so that a crash leaves no entry that looks complete,
and of two processes that prepare the same entry the second finds it done.
"""

import contextlib
import hashlib
import json
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from kod_bench.data.errors import DataError
from kod_bench.data.views import PixelArray

_STAGING_PREFIX = ".preparing-"
_STALE_SECONDS = 24 * 3600  # no preparation takes a day: what is older was left by a crash


@dataclass(frozen=True)
class PreparedImages:
    """What a cache entry holds. The arrays are (N, C, H, W), uint8."""

    train: PixelArray
    test: PixelArray
    name: str
    description: str
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class _Meta:
    name: str
    description: str
    warnings: list[str]
    content_hash: str


def content_hash(train: PixelArray, test: PixelArray) -> str:
    """Hash of the pixels and of the split, in 32 hexadecimal digits."""
    digest = hashlib.sha256()
    for images in (train, test):
        digest.update(repr(images.shape).encode())
        digest.update(np.ascontiguousarray(images).data)
    return digest.hexdigest()[:32]


def default_cache_dir() -> Path:
    """$KOD_BENCH_CACHE, else kod-bench in $XDG_CACHE_HOME, else in ~/.cache."""
    if chosen := os.environ.get("KOD_BENCH_CACHE"):
        return Path(chosen).expanduser()
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if base.is_absolute():  # the XDG specification has relative paths ignored
        return base / "kod-bench"
    try:
        return Path.home() / ".cache" / "kod-bench"
    except RuntimeError:
        raise DataError("no home directory to keep the cache in; set KOD_BENCH_CACHE") from None


def read_entry(entry: Path) -> tuple[PreparedImages, str] | None:
    """Opens an entry: its images, memory-mapped, and their hash.

    Returns:
        None where there is no entry, or one whose files are damaged or do not match their hash.
    """
    try:
        meta = _Meta(**json.loads((entry / "meta.json").read_text("utf-8")))
        # Mapped copy-on-write: who writes into the array changes their own copy, not the file.
        train = np.load(entry / "train.npy", mmap_mode="c", allow_pickle=False)
        test = np.load(entry / "test.npy", mmap_mode="c", allow_pickle=False)
        if any(images.dtype != np.uint8 or images.ndim != 4 for images in (train, test)):
            return None
        if content_hash(train, test) != meta.content_hash:
            return None
        images = PreparedImages(train, test, meta.name, meta.description, tuple(meta.warnings))
    except (OSError, ValueError, TypeError, EOFError, SyntaxError):  # SyntaxError: npy header
        return None
    return images, meta.content_hash


@contextlib.contextmanager
def staging_folder(cache_dir: Path) -> Iterator[Path]:
    """A new folder inside the cache, removed at the end unless it was published.

    Opened before the work begins, so that a cache that cannot be written is reported at once.

    Raises:
        DataError: The cache cannot be written.
    """
    try:
        cache_dir.mkdir(parents=True, exist_ok=True)
        _remove_stale(cache_dir)
        # Not tempfile.mkdtemp: its folder is closed to others, and a cache may be shared.
        staging = cache_dir / f"{_STAGING_PREFIX}{secrets.token_hex(8)}"
        staging.mkdir()
    except OSError as error:
        raise _not_writable(cache_dir, error) from None
    try:
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)


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
    )
    try:
        for file_name, array in (("train.npy", images.train), ("test.npy", images.test)):
            with (staging / file_name).open("wb") as file:
                np.save(file, array, allow_pickle=False)
                os.fsync(file.fileno())
        with (staging / "meta.json").open("w", encoding="utf-8") as text:
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
    if os.name == "nt":  # Windows cannot open a folder, and needs no flush of it
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove_stale(cache_dir: Path) -> None:
    for folder in cache_dir.glob(f"{_STAGING_PREFIX}*"):
        with contextlib.suppress(OSError):
            if time.time() - folder.stat().st_mtime > _STALE_SECONDS:
                shutil.rmtree(folder, ignore_errors=True)


def _not_writable(cache_dir: Path, error: OSError) -> DataError:
    return DataError(
        f"cannot write the cache in {cache_dir}: {error.strerror or error}; "
        "set KOD_BENCH_CACHE to a folder that can be written"
    )
