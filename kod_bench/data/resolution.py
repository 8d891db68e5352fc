"""Scans of one resolution: what files say of it, and how those of another are brought to theirs.

Ridges are about 9 pixels apart at 500 dpi and 18 at 1000. Patches are cut at a scale that is meant
for one resolution, so a folder that mixes two would hold prints of two sizes.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from kod_bench.data import files, views
from kod_bench.data.errors import DataError
from kod_bench.data.name_schemes import NIST
from kod_bench.data.notes import counted_names
from kod_bench.data.options import DatasetOptions
from kod_bench.data.spec import SourceImage

#: The resolution that fingerprint scanners are certified for, and that `scale` is explained for.
STANDARD_DPI = 500
# What lies outside is a screen's resolution, or what a program writes that knows none: Pillow
# itself says 1 dpi of a TIFF without the tags.
_SCANNERS = (250.0, 10_000.0)
# 500 dpi, 508 (20 pixels per millimetre) and 512 are one resolution; 569 (FVC2002 DB2) is another.
_TOLERANCE = 1.05
# From here on a user who thinks in 500 dpi is told that the scans have another resolution.
_REMARKABLE = 1.5
_READ_AT_ONCE = 8


@dataclass(frozen=True)
class Resolutions:
    """How images are brought to one resolution.

    Attributes:
        factors: By which the sides of each image are multiplied, at most 1.
        notes: What to tell the user.
    """

    factors: Sequence[float] = ()
    notes: tuple[str, ...] = ()

    def bring(self, unit: int, image: SourceImage) -> SourceImage:
        """An image at the common resolution."""
        factor = self.factors[unit] if self.factors else 1.0
        if factor == 1.0 or image.pixels is None:
            return image
        height, width = (max(1, round(side * factor)) for side in image.pixels.shape[:2])
        scan = np.asarray(image.pixels, np.uint8)  # angles are no scans
        return replace(image, pixels=views.resize(scan, height, width))


def look_at_resolutions(
    options: DatasetOptions, title: str, names: Sequence[str], path_of: Callable[[int], Path | None]
) -> Resolutions:
    """Looks at the resolutions of a folder of prints, where they matter.

    Args:
        options: Of the data set. Whole images fill their square at any resolution, and other data
            sets are not scans.
        title: What to call the folder in messages.
        names: Of the images, with "/".
        path_of: Unit => the file, None for one that cannot be read.

    Raises:
        DataError: Some files say another resolution than 500 dpi, and others say none.
    """
    if options.name != "fingerprints" or options.view != "patches" or options.dpi == "ignore":
        return Resolutions()

    def look(unit: int) -> float | None:
        path = path_of(unit)
        return NIST.dpi(PurePosixPath(names[unit])) or (None if path is None else read_dpi(path))

    with ThreadPoolExecutor(_READ_AT_ONCE) as pool:
        found = list(pool.map(look, range(len(names))))
    assumed = options.dpi if isinstance(options.dpi, int) else None
    return common_resolution(found, [files.printable(name) for name in names], title, assumed)


def read_dpi(path: Path) -> float | None:
    """The resolution that an image file states, if a scanner can have it and pixels are square."""
    try:
        with Image.open(path) as image:
            across, down = (float(each) for each in image.info["dpi"])
    except Exception:  # no resolution, or no image: that is said where it is decoded
        return None
    low, high = _SCANNERS
    if not (low <= across <= high and _same(across, down)):
        return None
    return across


def common_resolution(
    found: Sequence[float | None], names: Sequence[str], title: str, assumed: int | None
) -> Resolutions:
    """Brings all images to the lowest resolution among them: nothing is enlarged.

    Images whose files say nothing are taken for scans of 500 dpi if all others are; a folder of
    one resolution is left as it is.

    Args:
        found: dpi of each image, None where its file says none.
        names: Of the images, for messages.
        title: Of the folder.
        assumed: dpi of those whose files say none, as the user says it.

    Raises:
        DataError: Some files say another resolution, and nothing says that of the others.
    """
    silent = [name for name, dpi in zip(names, found, strict=True) if dpi is None]
    stated = [dpi for dpi in found if dpi is not None]
    other = next((dpi for dpi in stated if not _same(dpi, STANDARD_DPI)), None)
    if silent and other is not None and assumed is None:
        example = names[found.index(other)]
        raise DataError(
            f"{title}: {example} is of {other:.0f} dpi, and {len(silent)} of {len(names)} files do "
            f"not say their resolution ({counted_names(silent)}); say it with dpi: {STANDARD_DPI}, "
            "or take all pixels as they are with dpi: ignore"
        )
    every = [dpi or float(assumed or STANDARD_DPI) for dpi in found]
    lowest = min(every, default=float(STANDARD_DPI))
    factors = [1.0 if _same(dpi, lowest) else lowest / dpi for dpi in every]
    notes = []
    shrunk = [dpi for dpi, factor in zip(every, factors, strict=True) if factor < 1.0]
    if shrunk:
        listed = ", ".join(f"{dpi:.0f}" for dpi in sorted({round(dpi) for dpi in shrunk}))
        notes.append(
            f"brought {len(shrunk)} of {len(every)} scans from {listed} dpi to the others' "
            f"{lowest:.0f} dpi"
        )
    ratio = lowest / STANDARD_DPI
    if stated and not 1 / _REMARKABLE < ratio < _REMARKABLE:
        notes.append(
            f"the scans are of {lowest:.0f} dpi: at scale {0.5 / ratio:.2g} their ridges are as "
            f"far apart as those of {STANDARD_DPI} dpi at scale 0.5"
        )
    return Resolutions(factors if shrunk else (), tuple(notes))


def _same(one: float, other: float) -> bool:
    return max(one, other) <= _TOLERANCE * min(one, other)
