"""Places where results and data are kept: a folder on this machine, or one on an object store.

An object store has no rename, no lock and no folder, but an object appears whole or not at all, and
whoever reads it afterwards sees it. Credentials come from the environment or the machine's role,
as the store's own tools take them, and never from a URI: a URI is written into plans and reports.
"""

import contextlib
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from kod_bench.atomic import atomic_write
from kod_bench.errors import UsageError, one_line
from kod_bench.inside import MOST_CHECKPOINT, child, is_name, read_bytes

if TYPE_CHECKING:  # pyarrow takes a while to import, and help must not wait for it
    import pyarrow
    import pyarrow.fs

#: What `ObjectFolder` understands; further ones of pyarrow's are not tested here.
SCHEMES = ("s3", "gs")

_THREADS = 16  # requests in flight: each waits for the network, not for this machine
_PIECE = 64 * 2**20  # bytes of a download in memory at once: an archive of images may be large
_GOOGLE_RETRIES = 30  # seconds; its client's own 15 min would look like a hang
_GOOGLE_STATUS = re.compile(r"Status\((\w+): .*message (?:of|was:) (.*?) error_info=", re.DOTALL)
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


@dataclass(frozen=True)
class StoredObject:
    """What a listing tells of an object.

    Attributes:
        size: bytes.
        modified: by the store's clock; None where it does not say.
    """

    size: int
    modified: datetime | None


class ObjectFolder:
    """All objects of a bucket whose names begin with a prefix, as if it were a folder.

    Args:
        uri: ``s3://bucket/prefix`` or ``gs://bucket/prefix``.

    Raises:
        UsageError: if it is not such a URI, or carries credentials or options.
    """

    def __init__(self, uri: str) -> None:
        self.uri = _checked(uri)
        parts = urlsplit(self.uri)
        self._scheme = parts.scheme
        self._path = f"{parts.netloc}{parts.path}".rstrip("/")
        self._system: pyarrow.fs.FileSystem | None = None

    def __truediv__(self, name: str) -> "ObjectFolder":
        below = ObjectFolder(f"{self.uri}/{name}")
        below._system = self._system
        return below

    def __str__(self) -> str:
        return self.uri

    def __repr__(self) -> str:
        return f"ObjectFolder({self.uri!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ObjectFolder) and other.uri == self.uri

    def __hash__(self) -> int:
        return hash(self.uri)

    @property
    def name(self) -> str:
        """The last part of the prefix."""
        return PurePosixPath(self._path).name

    def read(self, name: str) -> bytes:
        """The content of an object.

        Raises:
            FileNotFoundError: if there is none.
            OSError: if the store cannot be reached, or refuses.
        """
        with self._open(name) as stream, _os_errors():
            content: bytes = stream.read()
        return content

    def write(self, name: str, content: bytes) -> None:
        """Write an object: all of it, or nothing.

        Takes the whole content, because a stream that breaks off would be closed, and with it
        published, half written.

        Raises:
            OSError: if the store cannot be reached, or refuses.
        """
        with _os_errors(), self._files().open_output_stream(f"{self._path}/{name}") as stream:
            stream.write(content)

    def delete(self, name: str) -> None:
        """Remove an object, if it is there.

        Raises:
            OSError: if the store cannot be reached, or refuses.
        """
        with contextlib.suppress(FileNotFoundError), _os_errors():
            self._files().delete_file(f"{self._path}/{name}")

    def delete_all(self) -> None:
        """Remove every object below, if there are any.

        Raises:
            OSError: if the store cannot be reached, or refuses.
        """
        _in_threads(self.delete, self.list())

    def find(self, name: str) -> StoredObject | None:
        """What the store says of one object; None if there is none.

        Raises:
            OSError: if the store cannot be reached, or refuses.
        """
        from pyarrow.fs import FileType

        with _os_errors():
            info = self._files().get_file_info(f"{self._path}/{name}")
        return _stored(info) if info.type == FileType.File else None

    def list(self) -> dict[str, StoredObject]:
        """All objects below, by their names relative to the prefix: one listing, no reads.

        Raises:
            OSError: if the store cannot be reached, or refuses.
        """
        from pyarrow.fs import FileType

        start = len(self._path) + 1
        found = self._listing(recursive=True)
        names = {i.path[start:]: i for i in found if i.type == FileType.File}
        # A key with an empty part or a way up can be of no file of ours.
        return {n: _stored(i) for n, i in names.items() if all(map(is_name, n.split("/")))}

    def folders(self, depth: int = 1) -> Sequence[str]:
        """Names of the folders so far below, with those above them: ``a`` or ``a/b``; sorted.

        On Google's store that takes a listing of everything below.

        Raises:
            OSError: if the store cannot be reached, or refuses.
        """
        from pyarrow.fs import FileType

        if self._scheme == "gs":  # pyarrow lists only folders that have an object of their own
            parts = (name.split("/") for name in self.list())
            return sorted({"/".join(each[:depth]) for each in parts if len(each) > depth})
        if depth > 1:
            above = self.folders(depth - 1)
            return [f"{name}/{each}" for name in above for each in (self / name).folders()]
        found = self._listing(recursive=False)
        return sorted(info.base_name for info in found if info.type == FileType.Directory)

    def download(self, names: Iterable[str], folder: Path, missing_ok: bool = False) -> None:
        """Copy objects to files of the same names below a folder, each file whole or not at all.

        Args:
            names: of the objects.
            folder: made if need be.
            missing_ok: an object that is not there is left out.

        Raises:
            FileNotFoundError: if one of the objects is not there.
            OSError: if the store cannot be reached, or the folder cannot be written.
        """

        def copy(name: str) -> None:
            # A key is anything that somebody has put there; what it names here stays below.
            path = child(folder, *name.split("/"))
            try:
                stream = self._open(name)
            except FileNotFoundError:
                if missing_ok:
                    return
                raise
            path.parent.mkdir(parents=True, exist_ok=True)
            with stream, _os_errors(), atomic_write(path) as file:
                shutil.copyfileobj(stream, file, _PIECE)

        _in_threads(copy, names)

    def upload(self, names: Iterable[str], folder: Path) -> None:
        """Copy files below a folder to objects of the same names.

        Raises:
            OSError: if a file cannot be read, or the store cannot be reached, or refuses.
        """
        _in_threads(
            lambda name: self.write(name, read_bytes(folder / name, MOST_CHECKPOINT)), names
        )

    def _open(self, name: str) -> "pyarrow.NativeFile":
        with _os_errors():
            return self._files().open_input_file(f"{self._path}/{name}")

    def _listing(self, recursive: bool) -> "Sequence[pyarrow.fs.FileInfo]":
        from pyarrow.fs import FileSelector

        with _os_errors():
            found: Sequence[pyarrow.fs.FileInfo] = self._files().get_file_info(
                FileSelector(self._path, recursive=recursive, allow_not_found=True)
            )
        return found

    def _files(self) -> "pyarrow.fs.FileSystem":
        if self._system is None:
            from pyarrow.fs import FileSystem

            bucket = f"{self._scheme}://{self._path.split('/', 1)[0]}"
            options = f"?retry_limit_seconds={_GOOGLE_RETRIES}" if self._scheme == "gs" else ""
            try:
                self._system, _ = FileSystem.from_uri(bucket + options)
            except OSError as error:
                raise OSError(f"{self.uri}: cannot be opened ({one_line(error)})") from error
        return self._system


Location = Path | ObjectFolder


def parse_location(text: str) -> Location:
    """A folder of this machine, or one on an object store, as a user names it.

    Raises:
        UsageError: if it is a URI of another kind, or carries credentials or options; or as from
            `local_path`.
    """
    return ObjectFolder(text) if is_uri(text) else local_path(text)


def local_path(named: str | Path) -> Path:
    """A path of this machine as a user names it: ``~`` and ``~name`` are home folders.

    The shell says so for words alone: in ``--option=~/x`` it leaves them as they are, as it does in
    quotes, and nobody does in a file. A folder that is called so is ``./~``.

    Raises:
        UsageError: if there is no such home.
    """
    expanded = os.path.expanduser(named)
    if str(expanded).startswith("~"):
        raise UsageError(
            f"{named}: there is no such home folder; one that is called so here is ./{named}"
        )
    path = Path(expanded)
    # Without its ./, it would be taken for a home the next time.
    return Path.cwd() / path if str(path).startswith("~") else path


def is_uri(text: str) -> bool:
    """Whether a text names something by a scheme, as in ``s3://``."""
    return _URI.match(text) is not None


def _checked(uri: str) -> str:
    """A URI without what could be secret; the message repeats none of it either."""
    parts = urlsplit(uri)
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise UsageError(
            f"a {parts.scheme}:// address takes no credentials and no options; set them in the "
            "environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_ENDPOINT_URL, AWS_REGION, "
            "GOOGLE_APPLICATION_CREDENTIALS) or use the machine's role"
        )
    if parts.scheme not in SCHEMES or not parts.netloc:
        allowed = " or ".join(f"{scheme}://bucket/prefix" for scheme in SCHEMES)
        raise UsageError(f"{uri}: must be a path of this machine, or {allowed}")
    below = parts.path.strip("/")
    if below and any(part in ("", ".", "..") for part in below.split("/")):
        raise UsageError(f"{uri}: must not have empty parts, . or ..")
    return uri.rstrip("/")


def _stored(info: "pyarrow.fs.FileInfo") -> StoredObject:
    return StoredObject(info.size or 0, info.mtime)


@contextlib.contextmanager
def _os_errors() -> Iterator[None]:
    """What a store's client raises, as an `OSError` that says why in few words.

    Google's client writes a page about its retries around the reason, and some of its refusals come
    as an exception that is no `OSError`.
    """
    from pyarrow.lib import ArrowException

    try:
        yield
    except (OSError, ArrowException) as error:
        status = _GOOGLE_STATUS.search(str(error))
        if isinstance(error, OSError) and (status is None or isinstance(error, FileNotFoundError)):
            raise
        raise OSError(f"{status[1]}: {status[2]}" if status else str(error)) from error


def _in_threads(work: Callable[[str], None], names: Iterable[str]) -> None:
    with ThreadPoolExecutor(_THREADS) as pool:
        for _ in pool.map(work, names):
            pass
