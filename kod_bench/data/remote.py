"""Images on an object store: an archive, fetched once per machine into the cache."""

import fcntl
import hashlib
from pathlib import Path

from kod_bench.atomic import LEFTOVERS
from kod_bench.data.archives import ARCHIVE_SUFFIXES
from kod_bench.data.cache_folder import DOWNLOADS, check_own, file_mode, own_folder
from kod_bench.data.errors import DataError
from kod_bench.errors import one_line
from kod_bench.inside import is_file, open_to_append
from kod_bench.storage import ObjectFolder


def fetch_archive(where: ObjectFolder, cache_dir: Path) -> Path:
    """The archive as a file of this machine, downloaded if it is not there or has changed.

    What is in it is hashed like any archive, and a trial refuses other images than those of its
    plan; so here the size and the time that the store tells are enough to know it again.

    Args:
        where: a zip or tar archive.
        cache_dir: where prepared images are.

    Raises:
        DataError: if it is no archive, is not there, or cannot be fetched; or the cache is not the
            user's own.
    """
    if not where.name.lower().endswith(ARCHIVE_SUFFIXES):
        raise DataError(
            f"{where}: images on an object store must be in one archive "
            f"({', '.join(ARCHIVE_SUFFIXES)}); many small objects would be fetched one by one"
        )
    bucket = ObjectFolder(where.uri.removesuffix(f"/{where.name}"))
    try:
        stored = bucket.find(where.name)
        if stored is None:
            raise DataError(f"{where}: there is no such object")
        key = f"{where.uri} {stored.size} {stored.modified}"
        digest = hashlib.sha256(key.encode()).hexdigest()[:24]
        folder = own_folder(cache_dir, DOWNLOADS, digest)
        path = folder / where.name
        check_own(path)
        if is_file(path):  # whole, or it would not have its name
            return path
        check_own(folder / "lock")
        with open_to_append(folder / "lock") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # trials of one machine start together
            for torn in folder.glob(LEFTOVERS):  # of a download that was killed
                torn.unlink(missing_ok=True)
            if not is_file(path):
                bucket.download([where.name], folder, mode=file_mode())
    except OSError as error:
        raise DataError(f"{where}: cannot be fetched into the cache ({one_line(error)})") from error
    return path
