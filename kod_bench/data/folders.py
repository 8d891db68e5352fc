"""The image files below a folder, one unit each."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from kod_bench.data import decoder, files, formats
from kod_bench.data.decoder import Survey
from kod_bench.data.files import MIN_SIDE, SkippedImageError
from kod_bench.data.grouping import check_expression
from kod_bench.data.hash_index import hash_files
from kod_bench.data.notes import counted_note
from kod_bench.data.options import DatasetOptions
from kod_bench.data.resolution import Resolutions, look_at_resolutions
from kod_bench.data.spec import SourceImage

_READ_AT_ONCE = 8


class FolderSource:
    """Images found below a folder.

    Raises:
        DataError: The folder is missing, is no folder, cannot be read, or holds no image.
    """

    parallel = True
    split_rule = ""

    def __init__(self, options: DatasetOptions, folder: Path, name: str, cache_dir: Path) -> None:
        self.name = name
        self.title = f"data folder {folder}"
        self._options = options
        self._folder = folder
        self._resolution = Resolutions()
        found = files.find_images(folder, self.title)
        self._files = hash_files(folder, found.names, cache_dir, _READ_AT_ONCE)
        self.units = len(found.names)
        self.notes = self._found = (
            *counted_note(
                "skipped", "unreadable folder", [files.printable(n) for n in found.unreadable]
            ),
            *unread_note(found.unread),
        )

    def identity(self) -> dict[str, object]:
        """Names and contents. Not the path: a folder that was moved or copied is the same data."""
        return {"files": [[file.name, file.size, file.digest] for file in self._files]}

    def unpack(self, folder: Path) -> None:
        """Look at the names, and at the resolutions of scans.

        Raises:
            DataError: Resolutions differ, and cannot be brought to one; or `group` matches no name.
        """
        names = [file.name for file in self._files]
        check_expression(self._options, names, self.title)
        self._resolution = look_at_resolutions(
            self._options, self.title, names, lambda unit: self._folder / names[unit]
        )
        self.notes = (*self._found, *self._resolution.notes)

    def read(self, unit: int) -> Iterable[SourceImage]:
        """The image of one file."""
        name = self._files[unit].name
        image = read_image(self._folder / name, name, self._options)
        return [self._resolution.bring(unit, image)]

    def survey(self, unit: int, *, colors: bool, spans: bool) -> Survey | None:
        """Of one file."""
        return survey_image(self._folder / self._files[unit].name, colors=colors, spans=spans)


def unread_note(names: Sequence[str]) -> tuple[str, ...]:
    """Says which files look like images and are not read."""
    shown = [f"{files.printable(name)}{formats.how_to_read(name)}" for name in names]
    return counted_note("skipped", "file", shown, "of image formats that cannot be read")


def read_image(path: str | os.PathLike[str], name: str, options: DatasetOptions) -> SourceImage:
    """Decodes a file, or says why it cannot be used.

    Args:
        path: Of the file.
        name: What to call it.
        options: In which no `auto` is left.

    Raises:
        ValueError: One is.
    """
    if options.color == "auto" or options.value_range == "auto":
        raise ValueError("what auto stands for has to be found out first")
    image = SourceImage(name)
    try:
        decoded = decoder.decode(Path(path), options.color, options.value_range, MIN_SIDE)
    except SkippedImageError as error:
        return replace(image, reason=str(error))
    return replace(image, pixels=decoded.pixels, remarks=decoded.remarks, span=decoded.span)


def survey_image(path: Path, *, colors: bool, spans: bool) -> Survey | None:
    """Looks at a file; None if it cannot be read, which is said when it should be."""
    try:
        return decoder.survey(path, colors=colors, spans=spans)
    except SkippedImageError:
        return None
