"""Images in a zip or tar archive, as if it were the folder it was made from.

An archive is read as untrusted: its images are copied into the cache's own working folder under
numbers, never under the names that the archive gives them, and only as plain files of a bounded
size. The working folder is gone when the preparation ends, and cleared by the next one if it was
killed.
"""

import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from lzma import LZMAError
from pathlib import Path, PurePosixPath
from typing import IO

from kod_bench.data.decoder import Survey
from kod_bench.data.errors import DataError
from kod_bench.data.files import image_kind, nothing_to_read, printable
from kod_bench.data.folders import read_image, survey_image, unread_note
from kod_bench.data.formats import HEAD_BYTES
from kod_bench.data.grouping import check_expression
from kod_bench.data.hash_index import hash_files
from kod_bench.data.notes import counted_note
from kod_bench.data.options import DatasetOptions
from kod_bench.data.resolution import Resolutions, look_at_resolutions
from kod_bench.data.spec import SourceImage

ARCHIVE_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
#: Bytes of one image file: more than 20 million pixels of 16-bit RGB.
MAX_FILE = 256 * 2**20
#: An archive may unpack to this many times its own bytes, or to a gigabyte if that is more.
MAX_GROWTH, ALWAYS_ALLOWED = 20, 2**30
_BLOCK = 2**20


def is_archive(path: Path) -> bool:
    """Whether a path names an archive that can be read as a folder of images."""
    return path.name.lower().endswith(ARCHIVE_SUFFIXES) and path.is_file()


@dataclass(frozen=True)
class _Member:
    """A file in an archive: `refusal` says why it is not even opened, if it is not."""

    name: str
    refusal: str
    open: Callable[[], AbstractContextManager[IO[bytes]]]

    def head(self) -> bytes:
        """How it begins; b"" if it is not even opened."""
        if self.refusal:
            return b""
        with self.open() as file:
            return file.read(HEAD_BYTES)


class ArchivedSource:
    """The image files in an archive, one unit each.

    Raises:
        DataError: The archive cannot be read.
    """

    parallel = True
    split_rule = ""

    def __init__(self, options: DatasetOptions, path: Path, name: str, cache_dir: Path) -> None:
        self.name = name
        self.title = f"archive {path}"
        self.units = 0  # known after `unpack`
        self.notes: tuple[str, ...] = ()
        self._path = path
        self._options = options
        self._resolution = Resolutions()
        self._unpacked: list[tuple[str, Path | None, str]] = []
        (self._file,) = hash_files(path.parent, [path.name], cache_dir, threads=1)

    def identity(self) -> dict[str, object]:
        """The archive's content."""
        return {"archive": self._file.digest}

    def unpack(self, folder: Path) -> None:
        """Copy the images into `folder`.

        Raises:
            DataError: The archive is damaged or cut short, holds no image, unpacks to far more
                than an archive of images does, mixes scans of resolutions that it does not say, or
                has no name that `group` matches.
        """
        try:
            budget = max(ALWAYS_ALLOWED, MAX_GROWTH * self._path.stat().st_size)
            nested, unread = [], []
            for member in _members(self._path):
                path = PurePosixPath(member.name)
                if path.name.lower().endswith(ARCHIVE_SUFFIXES):
                    nested.append(printable(member.name))
                    continue
                inside = PurePosixPath(*(p for p in path.parts if p != ".."))
                kind = image_kind(inside, member.head)
                if kind == "image":
                    budget -= self._copy(member, folder / str(len(self._unpacked)), budget)
                elif kind == "unread":
                    unread.append(member.name)
        except (
            *(tarfile.TarError, zipfile.BadZipFile, zlib.error, LZMAError, EOFError),
            *(NotImplementedError, UnicodeError, ValueError),  # of zipfile, at odd headers
        ) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(
                f"{self.title} is damaged or cut short ({printable(str(error))[:80]})"
            ) from None
        except OSError as error:  # gzip's own has no number: the sums of a damaged file do not fit
            if error.errno is None:
                raise DataError(f"{self.title} is damaged ({printable(str(error))[:80]})") from None
            raise DataError(
                f"{self.title} cannot be read into the cache: {error.strerror}"
            ) from None
        if not self._unpacked:
            raise DataError(f"{self.title} holds no image; {nothing_to_read(unread)}")
        self._unpacked.sort(key=lambda each: each[0])
        self.units = len(self._unpacked)
        names = [name for name, _, _ in self._unpacked]
        check_expression(self._options, names, self.title)
        self._resolution = look_at_resolutions(
            self._options, self.title, names, lambda unit: self._unpacked[unit][1]
        )
        self.notes = (
            *counted_note("skipped", "archive within the archive", nested),
            *unread_note(sorted(unread)),
            *self._resolution.notes,
        )

    def read(self, unit: int) -> Iterable[SourceImage]:
        """The image of one member."""
        name, path, refusal = self._unpacked[unit]
        if path is None:
            return [SourceImage(name, reason=refusal)]
        return [self._resolution.bring(unit, read_image(path, name, self._options))]

    def survey(self, unit: int, *, colors: bool, spans: bool) -> Survey | None:
        """Of one member."""
        path = self._unpacked[unit][1]
        return None if path is None else survey_image(path, colors=colors, spans=spans)

    def _copy(self, member: _Member, target: Path, budget: int) -> int:
        """Copies one member and says how many bytes it has; never more than are allowed."""
        if member.refusal:
            self._unpacked.append((member.name, None, member.refusal))
            return 0
        copied = 0
        with member.open() as source, target.open("wb") as file:
            while block := source.read(_BLOCK):
                copied += len(block)
                if copied > MAX_FILE or copied > budget:
                    break
                file.write(block)
        if copied > budget:
            raise DataError(
                f"{self.title} unpacks to more than {MAX_GROWTH} times its size, and to more than "
                f"{ALWAYS_ALLOWED // 2**30} GB, as images do not; if it is right, unpack it"
            )
        if copied > MAX_FILE:
            target.unlink()
            refusal = f"more than {MAX_FILE // 2**20} MB unpacked"
            self._unpacked.append((member.name, None, refusal))
        else:
            self._unpacked.append((member.name, target, ""))
        return copied


def _unsafe(name: str) -> str:
    """Why a name is refused that would lead out of the folder it is unpacked in."""
    path = PurePosixPath(name.replace("\\", "/"))
    outside = path.is_absolute() or ".." in path.parts or ":" in path.parts[0]
    return "its name leads out of the archive" if outside else ""


def _members(path: Path) -> Iterator[_Member]:
    """The members of an archive that are not folders, sorted as far as the format allows."""
    if path.name.lower().endswith(".zip"):
        with zipfile.ZipFile(path) as archive:
            for info in sorted(archive.infolist(), key=lambda info: info.filename):
                if not info.is_dir() and info.filename:
                    yield _zip_member(archive, info)
        return
    with tarfile.open(path, "r:*") as tar:
        for entry in tar:  # in the order of the file: a compressed one cannot be read in another
            if not entry.isdir() and entry.name:
                yield _tar_member(tar, entry)
        # Up to the compressed stream's own end, where its checksum is.
        while tar.fileobj is not None and tar.fileobj.read(_BLOCK):
            pass


def _zip_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> _Member:
    refusal = _unsafe(info.filename)
    if info.flag_bits & 0x1:
        refusal = "encrypted"
    elif (info.external_attr >> 16) & 0o170000 == 0o120000:
        refusal = "a link"
    elif info.file_size > MAX_FILE:
        refusal = f"more than {MAX_FILE // 2**20} MB unpacked"
    return _Member(info.filename, refusal, lambda: archive.open(info))


def _tar_member(tar: tarfile.TarFile, entry: tarfile.TarInfo) -> _Member:
    refusal = _unsafe(entry.name)
    if entry.issym() or entry.islnk():
        refusal = "a link"
    elif not entry.isreg():
        refusal = "not a regular file"
    elif entry.size > MAX_FILE:
        refusal = f"more than {MAX_FILE // 2**20} MB unpacked"

    def open_member() -> IO[bytes]:
        file = tar.extractfile(entry)
        if file is None:
            raise tarfile.ReadError("a member without content")
        return file

    return _Member(entry.name, refusal, open_member)
