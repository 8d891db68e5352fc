"""Photographs that scikit-image ships in its wheel, for data sets without a folder of images.

There are few of them, so that no photograph can be left out for testing. Each one is cut in two
before anything else is done with it: a strip at its right edge for testing, the rest for training,
and between them `GAP` columns that are thrown away. Resizing comes after the cut, and so no pixel
of one part reaches the other.
"""

import hashlib
import math
from collections.abc import Iterable

import numpy as np

from kod_bench.data.errors import DataError
from kod_bench.data.files import SourcePixels
from kod_bench.data.options import DatasetOptions
from kod_bench.data.spec import SourceImage

#: Columns between the two parts. Stones of the gravel are about this wide, bricks twice as wide.
GAP = 32
LICENCE = "built-in photographs: CC0 (CC0Textures; grass by linolafett on DeviantArt)"


def regions(width: int, test_share: float, size: int, smallest_scale: float) -> tuple[slice, slice]:
    """Columns of the training part and of the test part of a photograph.

    The test part has `test_share` of the columns, or as many as a patch needs at the smallest
    scale, as long as the training part keeps as many.

    Args:
        width: Columns of the photograph.
        test_share: Share to hold out.
        size: Side of a patch.
        smallest_scale: By which the photograph is shrunk most.
    """
    wanted = max(round(test_share * width), math.ceil(size / smallest_scale))
    held_out = min(wanted, (width - GAP) // 2)
    return slice(0, width - held_out - GAP), slice(width - held_out, width)


class PhotographSource:
    """Some of scikit-image's photographs, one unit for each part of each.

    Raises:
        DataError: The options ask for whole images, of which there would be two or three.
    """

    parallel = False
    split_rule = f"each photograph cut in two parts, {GAP} pixels apart"
    notes: tuple[str, ...] = ()

    def __init__(self, options: DatasetOptions, photographs: tuple[str, ...]) -> None:
        if options.view == "whole":
            raise DataError(
                f"dataset {options.name} without a folder of images is {len(photographs)} "
                "photographs: set view to patches, or name a folder"
            )
        self.name = f"{options.name}-builtin"
        self.title = f"built-in {options.name} (scikit-image's {', '.join(photographs)})"
        self.units = 2 * len(photographs)
        self._photographs = photographs
        self._options = options

    def identity(self) -> dict[str, object]:
        """The pixels: another release of scikit-image may ship other photographs."""
        digests = [hashlib.sha256(_load(name).tobytes()).hexdigest() for name in self._photographs]
        return {"photographs": digests, "gap": GAP}

    def unpack(self, folder: object) -> None:
        """Nothing to do."""

    def read(self, unit: int) -> Iterable[SourceImage]:
        """One part of one photograph, named as if it lay in a folder `train` or `test`."""
        name = self._photographs[unit // 2]
        pixels = _load(name)
        options = self._options
        parts = regions(
            pixels.shape[1], options.test_share, options.image_size, min(options.scales)
        )
        pixels = np.ascontiguousarray(pixels[:, parts[unit % 2]])
        if options.color == "rgb" and pixels.ndim == 2:
            pixels = np.stack([pixels] * 3, axis=-1)
        return [SourceImage(f"{('train', 'test')[unit % 2]}/{name}/part", pixels)]


def _load(name: str) -> SourcePixels:
    import skimage.data  # half a second: only who needs the photographs waits for it

    pixels: SourcePixels = getattr(skimage.data, name)()
    return pixels
