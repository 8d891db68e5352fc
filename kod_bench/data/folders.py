"""The image files below a folder, one unit each."""

import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from kod_bench.data import files
from kod_bench.data.files import SkippedImageError
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
        names, unreadable = files.find_images(folder, self.title)
        self._files = hash_files(folder, names, cache_dir, _READ_AT_ONCE)
        self.units = len(names)
        self.notes = self._found = counted_note(
            "skipped", "unreadable folder", [files.printable(n) for n in unreadable]
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
        image = read_image(self._folder / name, name, self._options.color)
        return [self._resolution.bring(unit, image)]


def read_image(path: str | os.PathLike[str], name: str, color: files.Color) -> SourceImage:
    """Decodes a file, or says why it cannot be used."""
    image = SourceImage(name)
    try:
        decoded = files.decode(Path(path), color)
    except SkippedImageError as error:
        return replace(image, reason=str(error))
    return replace(image, pixels=decoded.pixels, remark=decoded.remark)
