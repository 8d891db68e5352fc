"""What metrics look at in a set of images, measured once, batch by batch where they come so."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from kod_bench.evaluation.angles import AngleStatistics
from kod_bench.evaluation.angular import AngularSpectrum
from kod_bench.evaluation.colour_wheel import colour_wheel
from kod_bench.evaluation.feature_sets import FeatureSet, room_for
from kod_bench.evaluation.features import FeatureExtractor, Features
from kod_bench.evaluation.memorisation import Nearest
from kod_bench.evaluation.texture import TextureStatistics
from kod_bench.evaluation.wasserstein import FloatArray

#: Images measured at a time where they come in batches: a multiple of what extractors, texture and
#: the search for neighbours take at once, so that numbers do not depend on how large batches are.
_BLOCK = 256


@dataclass(frozen=True)
class Measured:
    """What metrics look at in a set of images. A part that nobody asks for is None.

    Attributes:
        count: of images.
        features: (N, D), in memory or in a file; see `FeatureExtractor`.
        texture: statistics of all images together.
        nearest: the nearest training image of each.
        spectrum: of maps of the sphere, all together.
        angles: of fields of angles, all together; these have no texture, and their features are
            those of their colours.
    """

    count: int
    features: FeatureSet | None = None
    texture: TextureStatistics | None = None
    nearest: Nearest | None = None
    spectrum: AngularSpectrum | None = None
    angles: AngleStatistics | None = None

    @property
    def order(self) -> FloatArray | None:
        """The order parameter of each: of angles, or of gray levels on the circle."""
        found = self.angles or self.texture
        return None if found is None else found.order

    @property
    def minutiae(self) -> TextureStatistics | None:
        """The texture, if the images are large enough for their minutiae to be counted."""
        return self.texture if self.texture is not None and len(self.texture.endings) else None

    @classmethod
    def of(
        cls,
        images: Tensor | Iterable[Tensor],
        extractor: FeatureExtractor | None,
        train: Tensor | None = None,
        device: torch.device | str = "cpu",
        *,
        with_texture: bool = True,
        on_sphere: bool = False,
        count: int | None = None,
        spool: Path | None = None,
    ) -> "Measured":
        """Measure (N, C, H, W) images as they are stored: uint8, or float32 angles in radians.

        Args:
            images: what to measure: all in one tensor, or batch by batch. Of batches, no more than
                a few are in memory at once, and the result is the same to the bit.
            extractor: None leaves out the features.
            train: training images to look for; None leaves out `nearest`.
            device: where training images are searched.
            with_texture: whether to measure the texture, which angles have none of.
            on_sphere: whether they are maps of the sphere, and have an angular spectrum.
            count: how many images the batches have together. Where it is known beforehand, memory
                does not grow with it.
            spool: a folder, on whose disk features lie that are too many for memory; None for
                where temporary files do.

        Raises:
            ValueError: if there are no batches, or what is measured refuses the images.
        """
        if not isinstance(images, Tensor):
            parts = (
                cls.of(
                    block, extractor, train, device, with_texture=with_texture, on_sphere=on_sphere
                )
                for block in _blocks(images)
            )
            return cls.joined(parts, count, spool)
        are_angles = images.dtype == torch.float32
        seen = colour_wheel(images) if are_angles and extractor is not None else images
        return cls(
            count=len(images),
            features=None if extractor is None else extractor(seen),
            texture=TextureStatistics.of(images) if with_texture and not are_angles else None,
            nearest=None if train is None else Nearest.find(images, train, device),
            spectrum=AngularSpectrum.of(images) if on_sphere else None,
            angles=AngleStatistics.of(images) if are_angles else None,
        )

    @classmethod
    def joined(
        cls, parts: "Iterable[Measured]", count: int | None = None, spool: Path | None = None
    ) -> "Measured":
        """All parts together. Features, the largest by far, are copied once.

        Args:
            parts: one after another; a part that one of them lacks is lost.
            count: as for `of`.
            spool: as for `of`.

        Raises:
            ValueError: if there is no part.
        """
        total: Measured | None = None
        features: list[Features] = []
        room: FeatureSet | None = None  # of all, where it is known how many there will be
        for part in parts:
            before = 0 if total is None else total.count
            found = None if part.features is None else part.features[:]
            if found is not None and count is not None:
                if room is None:
                    room = room_for(count, found.shape[1], spool)
                room[before : before + part.count] = found
            elif found is not None:
                features.append(found)
            bare = replace(part, features=None)
            total = bare if total is None else total._without_features(bare)
        if total is None:
            raise ValueError("there are no images to measure")
        return replace(total, features=np.concatenate(features) if features else room)

    def _without_features(self, other: "Measured") -> "Measured":
        return Measured(
            self.count + other.count,
            None,
            None if not (self.texture and other.texture) else self.texture + other.texture,
            None if not (self.nearest and other.nearest) else self.nearest + other.nearest,
            None if not (self.spectrum and other.spectrum) else self.spectrum + other.spectrum,
            None if not (self.angles and other.angles) else self.angles + other.angles,
        )


def _blocks(batches: Iterable[Tensor]) -> Iterator[Tensor]:
    """The same images in batches of `_BLOCK`, the last one smaller."""
    waiting: list[Tensor] = []
    count = 0
    for batch in batches:
        waiting.append(batch)
        count += len(batch)
        if count >= _BLOCK:
            *whole, rest = torch.split(torch.cat(waiting), _BLOCK)
            if len(rest) == _BLOCK:
                whole, rest = [*whole, rest], rest[:0]
            yield from whole
            waiting, count = [rest], len(rest)
    if count:
        yield torch.cat(waiting)
