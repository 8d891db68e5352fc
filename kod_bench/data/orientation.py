"""The data set `orientation`: which way ridges run, as twice their angle.

A ridge has no head: its orientation phi is defined up to pi, and 2 phi is an angle. Around a core
of a print 2 phi winds once, around a delta once the other way. Without a folder the fields are
those that synthetic prints are drawn with, which are known; of the images in a folder, they are
estimated by the structure tensor (Bigun and Granlund 1987): with the derivatives d_r down rows and
d_c along columns, averaged over a Gaussian window,

    2 phi = atan2(2 <d_r d_c>, <d_r^2> - <d_c^2>),   y upwards,
    coherence = sqrt((<d_r^2> - <d_c^2>)^2 + 4 <d_r d_c>^2) / (<d_r^2> + <d_c^2>),

and patches whose mean coherence is too low are left out.
"""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kod_bench.data import portable, synthetic_fingerprints
from kod_bench.data.angle_fields import cut, shrink
from kod_bench.data.angle_options import shrinking
from kod_bench.data.archives import ArchivedSource, is_archive
from kod_bench.data.files import SkippedImageError, SourcePixels
from kod_bench.data.fingerprints import finger_labels
from kod_bench.data.folders import FolderSource
from kod_bench.data.options import DatasetOptions
from kod_bench.data.spec import DatasetSpec, Source, SourceImage

_FLAT = 1e-12  # of gray levels on [0, 1], squared: no derivative at all


class KnownSource:
    """The orientation fields of synthetic prints, one finger per unit.

    Args:
        options: Of the data set; `synthetic` says how many fingers.
    """

    parallel = True
    split_rule = ""
    notes: tuple[str, ...] = ()

    def __init__(self, options: DatasetOptions) -> None:
        self.name = f"{options.name}-synthetic"
        self.title = "orientation of synthetic prints"
        self.units = options.synthetic.fingers
        self._options = options

    def identity(self) -> dict[str, object]:
        """How the fingers are drawn; impressions are no part of it."""
        return {
            "synthetic": self._options.synthetic.model_dump(exclude={"impressions"}),
            "drawing": synthetic_fingerprints.DRAWING,
        }

    def unpack(self, folder: object) -> None:
        """Nothing to do."""

    def read(self, unit: int) -> Iterable[SourceImage]:
        """The patches of one finger."""
        _, _, orientation = synthetic_fingerprints.finger_field(self._options.synthetic.seed, unit)
        return [_patches(SourceImage(f"{unit + 1}_1"), 2 * orientation, None, self._options)]


class EstimatedSource:
    """The orientation of the images of a folder or archive.

    Args:
        options: Of the data set.
        images: Where the images come from.
    """

    parallel = True
    split_rule = ""

    def __init__(self, options: DatasetOptions, images: Source) -> None:
        self.name, self.title = images.name, images.title
        self.units, self.notes = images.units, images.notes
        self._images, self._options = images, options

    def identity(self) -> dict[str, object]:
        """Which images, and how they are looked at."""
        section = self._options.orientation.model_dump(mode="json")
        return {**self._images.identity(), "orientation": section}

    def unpack(self, folder: Path) -> None:
        """As the images need it."""
        self._images.unpack(folder)
        self.units, self.notes = self._images.units, self._images.notes

    def read(self, unit: int) -> Iterable[SourceImage]:
        """The patches of each image, or why there are none."""
        for image in self._images.read(unit):
            if image.pixels is None:
                yield image
                continue
            pixels = np.asarray(image.pixels, np.uint8)
            doubled, coherence = doubled_orientation(pixels, self._options.orientation.window)
            yield _patches(image, doubled, coherence, self._options)


def doubled_orientation(
    pixels: SourcePixels, window: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Twice the orientation of ridges, counter-clockwise from the axis of the columns.

    Args:
        pixels: (H, W) gray levels.
        window: Standard deviation of the average, in pixels.

    Returns:
        (H, W) radians, and (H, W) coherence in [0, 1].
    """
    from skimage.feature import structure_tensor

    rows, mixed, columns = structure_tensor(  # type: ignore[no-untyped-call]
        pixels.astype(np.float64) / 255, sigma=window, mode="nearest", order="rc"
    )
    # Along ridges: a quarter turn from the derivative, a half turn of twice the angle.
    real, imaginary = rows - columns, 2 * mixed
    total = rows + columns
    coherence = np.hypot(real, imaginary) / np.maximum(total, _FLAT)
    return portable.arctan2(imaginary, real), np.where(total > _FLAT, coherence, 0.0)


def _patches(
    image: SourceImage,
    doubled: NDArray[np.floating],
    coherence: NDArray[np.floating] | None,
    options: DatasetOptions,
) -> SourceImage:
    """An image with the patches of its orientation in place of its pixels."""
    found = []
    reasons = []
    for scale in options.scales:
        factor = shrinking(scale)
        sure = (
            None if coherence is None else coherence[factor // 2 :: factor, factor // 2 :: factor]
        )
        try:
            found.append(
                cut(
                    shrink(doubled, factor), options.image_size, sure, options.orientation.coherence
                )
            )
        except SkippedImageError as error:
            reasons.append(str(error))
    if not found:
        return replace(image, pixels=None, reason=reasons[0])
    return replace(image, pixels=np.concatenate(found))


def _open(options: DatasetOptions, folder: Path | None, cache_dir: Path) -> Source:
    if folder is None:
        return KnownSource(options)
    source = ArchivedSource if is_archive(folder) else FolderSource
    return EstimatedSource(options, source(options, folder, options.name, cache_dir))


SPEC = DatasetSpec(
    subject="angles",
    values="angles",
    group_noun="fingers or source images",
    group_labels=finger_labels,
    layout="any folder of prints or textures; folders train and test are the split",
    licence="synthetic: free; of a folder: yours to know",
    without_folder=lambda _: "built in: known orientation of synthetic prints",
    open_special=_open,
)
