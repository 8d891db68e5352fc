"""Folders and arrays of images from any tool, as RGB; decoded as data sets are."""

import copy
import functools
import hashlib
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal, TypeVar

import numpy as np
import torch
from torch import Tensor

from kod_bench.data import decoder, formats
from kod_bench.data.decoder import Decoded, Header
from kod_bench.data.depths import Depth, Span, ValueRange, check_range, depth_notes, span_of
from kod_bench.data.files import (
    MAX_PIXELS,
    SkippedImageError,
    head,
    image_kind,
    nothing_to_read,
    printable,
    walk_once,
)
from kod_bench.data.notes import counted_note, remark_notes
from kod_bench.errors import UsageError
from kod_bench.evaluation import arrays

_MIN_IMAGES = 2

Found = TypeVar("Found")


@dataclass(frozen=True)
class _Item:
    """One image: a file, or one of those in an array."""

    path: Path
    index: int | None = None


Item = TypeVar("Item", Path, _Item, tuple[_Item, Depth | None])


class ImageFolder:
    """The images below a folder, or in one `.npy` or `.npz` file, in the order of their paths.

    Links to folders are followed, each folder once; hidden files are left out. Every image becomes
    RGB as in a data set; see docs/images.md.

    Args:
        path: of the folder or file.
        least: how many images it must hold.

    Raises:
        UsageError: if it is missing, holds fewer images than that, or holds what looks like an
            image and cannot be read. Scores of what happens to be readable would be scores of
            something else than what the folder's name says.
    """

    def __init__(self, path: Path, least: int = _MIN_IMAGES) -> None:
        self.path = path
        self.value_range: ValueRange | None = None
        self.files = _find(path)
        self._opened = {
            file: array
            for file, array in zip(
                self.files, self._each(self._open_array, self.files), strict=True
            )
            if array
        }
        self.items = [item for file in self.files for item in self._items(file)]
        if len(self.items) < least:
            what = "no image" if not self.items else f"1 image, and at least {least} are needed"
            raise UsageError(f"{path}: holds {what}; {_looked_for()}")
        headers = self._each(self._header, self.items)
        self._sizes = [header.size for header in headers]
        self._depths = [header.depth for header in headers]
        self._remarks: dict[_Item, tuple[str, ...]] = {}
        self._spans: dict[_Item, Span] = {}

    def __len__(self) -> int:
        return len(self.items)

    @property
    def sizes(self) -> set[tuple[int, int]]:
        """Every (height, width) that occurs."""
        return set(self._sizes)

    @property
    def depths(self) -> list[Depth]:
        """What the numbers of images are that hold more than 8 bits."""
        return [depth for depth in self._depths if depth is not None]

    @property
    def is_deep(self) -> bool:
        """Whether any image is not 8-bit."""
        return any(depth is not None for depth in self._depths)

    @property
    def notes(self) -> tuple[str, ...]:
        """What to know about how those images were read that have been, in lines."""
        remarks = Counter(remark for each in self._remarks.values() for remark in each)
        return (
            *remark_notes(remarks),
            *depth_notes([*self._spans.values()], self.value_range if self._spans else None),
        )

    def span(self) -> tuple[float, float] | None:
        """The lowest and the highest value of the images that are not 8-bit, if there are any."""
        deep = [
            item
            for item, depth in zip(self.items, self._depths, strict=True)
            if depth is not None and not depth.colour
        ]
        spans = [span for span in self._each(self._look, deep) if span is not None]
        if not spans:
            return None
        return min(span.lowest for span in spans), max(span.highest for span in spans)

    def subset(self, indices: Sequence[int]) -> "ImageFolder":
        """The same folder with only these of its images."""
        chosen = copy.copy(self)
        chosen.items = [self.items[index] for index in indices]
        chosen._sizes = [self._sizes[index] for index in indices]
        chosen._depths = [self._depths[index] for index in indices]
        return chosen

    def batches(self, size: int) -> Iterator[Tensor]:
        """(B, 3, H, W) uint8 tensors of at most `size` images, each of one image size, in order.

        Raises:
            UsageError: if an image is damaged beyond its header, or its numbers say by nothing what
                is white.
        """
        first = 0
        while first < len(self.items):
            last = first + 1
            while last < min(first + size, len(self)) and self._sizes[last] == self._sizes[first]:
                last += 1
            items = self.items[first:last]
            decoded = self._each(self._decode, items)
            for item, each in zip(items, decoded, strict=True):
                self._remarks[item] = each.remarks
                if each.span is not None:
                    self._spans[item] = each.span
            pixels = np.stack([each.pixels for each in decoded])
            yield torch.from_numpy(pixels).permute(0, 3, 1, 2)
            first = last

    def load(self) -> Tensor:
        """All images, (N, 3, H, W) uint8; they must have one size."""
        return torch.cat(list(self.batches(256)))

    def _open_array(self, file: Path) -> arrays.Images | None:
        return arrays.open_images(file) if arrays.is_array(file) else None

    def _items(self, file: Path) -> list[_Item]:
        if file not in self._opened:
            return [_Item(file)]
        images, _ = self._opened[file]
        return [_Item(file, index) for index in range(len(images))]

    def read_by(self, value_range: ValueRange | None) -> None:
        """Choose what becomes 0 and 255, of images that are not 8-bit.

        Raises:
            UsageError: if it does not say how to read all of them.
        """
        self.value_range = value_range

        def check(numbered: tuple[_Item, Depth | None]) -> None:
            if numbered[1] is not None:
                check_range(numbered[1], value_range)

        self._each(check, list(zip(self.items, self._depths, strict=True)))

    def _header(self, item: _Item) -> Header:
        if item.index is None:
            return decoder.read_header(item.path)
        images, depth = self._opened[item.path]
        height, width = images.shape[1:3]
        if height * width > MAX_PIXELS:
            raise SkippedImageError(f"{width}x{height} pixels, more than {MAX_PIXELS}")
        return Header((height, width), depth)

    def _decode(self, item: _Item) -> Decoded:
        if item.index is None:
            return decoder.decode(item.path, "rgb", self.value_range)
        images, depth = self._opened[item.path]
        return decoder.decode_array(images[item.index], depth, "rgb", self.value_range)

    def _look(self, item: _Item) -> Span | None:
        if item.index is None:
            return decoder.survey(item.path, colors=False, spans=True).span
        images, depth = self._opened[item.path]
        return None if depth is None else span_of(images[item.index], depth)

    def _each(self, read: Callable[[Item], Found], items: Sequence[Item]) -> list[Found]:
        """`read` of every file or image, or one refusal that counts those that cannot be read."""
        failed: dict[int, str] = {}

        def attempt(numbered: tuple[int, Item]) -> list[Found]:
            number, item = numbered
            try:
                return [read(item)]
            except SkippedImageError as error:
                failed[number] = str(error)
                return []

        with warnings.catch_warnings(), ThreadPoolExecutor(torch.get_num_threads()) as pool:
            warnings.simplefilter("ignore")  # Pillow's remarks are either fatal or no concern
            found = [each for several in pool.map(attempt, enumerate(items)) for each in several]
        if failed:
            first = min(failed)
            raise UsageError(
                f"{self.path}: {len(failed)} of {len(items)} images cannot be read, first "
                f"{_name(self.path, items[first])} ({failed[first]}); remove or replace them"
                f"{self._hint(items[first])}"
            )
        return found

    def _hint(self, item: object) -> str:
        """What to do with arrays whose numbers may be no gray levels."""
        item = item[0] if isinstance(item, tuple) else item
        if not isinstance(item, _Item) or item.index is None:
            return ""
        floating = self._opened[item.path][0].dtype.kind == "f"
        return "; angles in radians are scored --against angles:FOLDER" if floating else ""


def choose_range(
    wanted: ValueRange | Literal["auto"] | None, folders: Iterable[ImageFolder]
) -> ValueRange | None:
    """Give folders that are compared one range of values; "auto" is that of all of them.

    Raises:
        UsageError: if it is to be found out, and their numbers are of several kinds.
    """
    folders = list(folders)
    if wanted == "auto":
        kinds = {str(depth) for folder in folders for depth in folder.depths}
        if len(kinds) > 1:
            raise UsageError(
                f"--value-range auto: the files hold {' and '.join(sorted(kinds))}, which have no "
                "range in common; say LOW,HIGH, or convert one side"
            )
        spans = [span for folder in folders if (span := folder.span()) is not None]
        low, high = min((s[0] for s in spans), default=0), max((s[1] for s in spans), default=0)
        wanted = (low, high) if low < high else None
    for folder in folders:
        folder.read_by(wanted)
    return wanted


def check_no_copy(samples: ImageFolder, reference: ImageFolder) -> None:
    """Refuse samples among which all files of the reference lie as copies, and others.

    Equal images in equal numbers are allowed: that is a check of the scores.

    Raises:
        UsageError: naming both.
    """
    count = len(reference.files)
    if len(samples.files) > count > 1 and _holds_all(samples.files, reference.files):
        raise UsageError(
            f"{samples.path}: holds a copy of all {count} files of {reference.path}, which would "
            "be counted as samples; folders are searched with their subfolders: move it away"
        )


def _holds_all(outer: Sequence[Path], inner: Sequence[Path]) -> bool:
    """Whether every file of one list has a copy in the other; ends at the first that has none."""
    by_size: dict[int, list[Path]] = {}
    for file in outer:
        by_size.setdefault(file.stat().st_size, []).append(file)
    digests: dict[int, set[bytes]] = {}
    for file in inner:
        size = file.stat().st_size
        if size not in digests:
            digests[size] = {_digest(each) for each in by_size.get(size, [])}
        if _digest(file) not in digests[size]:
            return False
    return True


def _digest(file: Path) -> bytes:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").digest()


def check_apart(one: ImageFolder, other: ImageFolder) -> None:
    """Refuse two folders of which one holds images of the other, and more.

    The same folder twice is allowed: that is a check of the scores.

    Raises:
        UsageError: naming both.
    """
    sides = [{file.resolve() for file in folder.files} for folder in (one, other)]
    shared = sides[0] & sides[1]
    if not shared or sides[0] == sides[1]:
        return
    inner, outer = (one, other) if len(sides[0]) <= len(sides[1]) else (other, one)
    raise UsageError(
        f"{inner.path}: {len(shared)} of its images are among those of {outer.path}, where they "
        "would be counted, too; folders are searched with their subfolders: move one of them"
    )


def _find(root: Path) -> list[Path]:
    if root.is_file() and arrays.is_array(root):
        return [root]
    if not root.is_dir():
        raise UsageError(
            f"{root}: is not a folder, nor a file {' or '.join(arrays.SUFFIXES)}"
            if root.exists()
            else f"{root}: does not exist"
        )

    def refuse(error: OSError) -> None:
        raise UsageError(f"{error.filename}: cannot be read ({error.strerror})")

    found: list[Path] = []
    unread: list[str] = []
    for folder, names in walk_once(root, refuse):
        for name in names:
            path = Path(folder, name)
            if arrays.is_array(path) and not name.startswith("."):
                found.append(path)
                continue
            kind = image_kind(PurePosixPath(name), functools.partial(head, path))
            if kind == "image":
                found.append(path)
            elif kind == "unread":
                unread.append(path.relative_to(root).as_posix())
    if unread:
        shown = [f"{printable(name)}{formats.how_to_read(name)}" for name in sorted(unread)]
        (note,) = counted_note("holds", "file", shown, "of image formats that cannot be read")
        raise UsageError(f"{root}: {note}; remove or convert them")
    return sorted(found, key=str)


def _looked_for() -> str:
    return f"{nothing_to_read(())}, and {', '.join(arrays.SUFFIXES)}"


def _name(root: Path, item: Path | _Item | tuple[_Item, Depth | None]) -> str:
    if isinstance(item, tuple):
        item = item[0]
    path, index = (item, None) if isinstance(item, Path) else (item.path, item.index)
    name = path.name if path == root else path.relative_to(root).as_posix()
    return printable(name) if index is None else f"{printable(name)}[{index}]"
