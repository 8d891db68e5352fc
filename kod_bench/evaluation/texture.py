"""Distances between the textures of two sets of images. Ours, not the field's.

Networks trained on photographs see little of what makes a fingerprint or a weave one: which way
its ridges run, how parallel they are, how far apart. These distances look at that and nothing
else. Each compares one statistic of the samples with the same statistic of the reference by the
1-Wasserstein distance, so that its unit is that of the statistic:

- *orientation*: of all pixels, weighted by coherence, on the circle of period pi; radians, at
  most pi / 4. A blur that is equal in all directions turns nothing: coherence tells of that.
- *coherence*: of all pixels, unweighted, on [0, 1].
- *frequency*: the variance over spatial frequency (`spectrum`), cycles per pixel. Ridges that are
  wider by a tenth move it by a tenth of their frequency; a difference of log spectra would be
  ruled by frequencies at which there is almost nothing.
- *order*: the order parameter ``r = |mean exp(i theta)|`` of each image, with the phase map of
  Kuramoto diffusion, ``theta = 0.9 pi x`` for gray x in [-1, 1], on [0, 1]. It knows the
  distribution of gray levels, and nothing of their arrangement.
- *minutiae*: ridge endings and bifurcations of each image, per 1,000 pixels; see
  `kod_bench.evaluation.minutiae`. From 32 pixels a side on, of images that have ridges.

On real prints, textures and photographs they put other real images before blurred ones, and those
before noise; tests/evaluation/test_texture.py says where not. They are distances of marginals: zero
does not mean that two sets are alike. Both sets must have the same image size.
"""

import math
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from kod_bench.diffusion import circle
from kod_bench.evaluation.minutiae import MIN_SIDE as SMALLEST_WITH_MINUTIAE
from kod_bench.evaluation.minutiae import minutia_densities
from kod_bench.evaluation.spectrum import HIGHEST, radial_spectrum
from kod_bench.evaluation.structure_tensor import orientation_and_coherence
from kod_bench.evaluation.wasserstein import (
    FloatArray,
    circle_distance,
    line_distance,
    sample_distance,
)

#: Share of the circle that gray levels fill, as Kuramoto diffusion has it by default.
PHASE_MARGIN = 0.9

#: The smallest side whose structure tensor has a neighbourhood.
MIN_SIDE = 8

_BINS = 64
_BATCH = 256  # images at a time


@dataclass(frozen=True)
class TextureStatistics:
    """What the texture distances need to know of a set of images.

    Attributes:
        image_size: (height, width) of all images.
        orientation: (64,) coherence over orientation in [0, pi).
        coherence: (64,) pixels over coherence in [0, 1].
        spectrum: (S,) variance over frequency; see `radial_spectrum`.
        order: (N,) order parameter of each image.
        endings: (N,) ridges that end, of each image, see `minutia_densities`; (0,) of images that
            are too small.
        bifurcations: likewise those that fork.
    """

    image_size: tuple[int, int]
    orientation: FloatArray
    coherence: FloatArray
    spectrum: FloatArray
    order: FloatArray
    endings: FloatArray
    bifurcations: FloatArray

    @classmethod
    def of(cls, images: Tensor) -> "TextureStatistics":
        """Measure (N, C, H, W) uint8 images on the CPU.

        Raises:
            ValueError: if there are none, or they are smaller than `MIN_SIDE`.
        """
        height, width = images.shape[-2:]
        if not len(images) or min(height, width) < MIN_SIDE:
            raise ValueError(
                f"images must be at least one and {MIN_SIDE} pixels a side, got "
                f"{len(images)} of {width}x{height}"
            )
        total = _measure(images[:_BATCH])
        for first in range(_BATCH, len(images), _BATCH):
            total = total + _measure(images[first : first + _BATCH])
        return total

    def __add__(self, other: "TextureStatistics") -> "TextureStatistics":
        """The statistics of both sets together.

        Raises:
            ValueError: if their images differ in size.
        """
        if self.image_size != other.image_size:
            raise ValueError(f"images differ in size: {self.image_size}, {other.image_size}")
        return TextureStatistics(
            self.image_size,
            self.orientation + other.orientation,
            self.coherence + other.coherence,
            self.spectrum + other.spectrum,
            np.concatenate([self.order, other.order]),
            np.concatenate([self.endings, other.endings]),
            np.concatenate([self.bifurcations, other.bifurcations]),
        )


def orientation_distance(one: TextureStatistics, two: TextureStatistics) -> float:
    """Radians, at most pi / 4; NaN where no image has an orientation."""
    return circle_distance(one.orientation, two.orientation, math.pi)


def coherence_distance(one: TextureStatistics, two: TextureStatistics) -> float:
    """Between 0 and 1."""
    return line_distance(one.coherence, two.coherence, 1.0)


def frequency_distance(one: TextureStatistics, two: TextureStatistics) -> float:
    """Cycles per pixel, at most 0.5; NaN where every image of a set is blank."""
    return line_distance(one.spectrum, two.spectrum, HIGHEST)


def minutiae_distance(one: TextureStatistics, two: TextureStatistics) -> float:
    """Per 1,000 pixels, of endings and bifurcations together; NaN where no image has ridges."""
    sides = ((one.endings, two.endings), (one.bifurcations, two.bifurcations))
    found = [[each[np.isfinite(each)] for each in pair] for pair in sides]
    if not all(len(each) for pair in found for each in pair):
        return math.nan
    return sum(sample_distance(*pair) for pair in found)


def mean_density(each: FloatArray) -> float:
    """Of minutiae, per 1,000 pixels, over the images that have ridges; NaN if none has."""
    found = each[np.isfinite(each)]
    return float(found.mean()) if len(found) else math.nan


def _measure(images: Tensor) -> TextureStatistics:
    images = images.cpu()
    orientation, coherence = (each.double().numpy() for each in orientation_and_coherence(images))
    phases = PHASE_MARGIN * math.pi * (images.double() / 127.5 - 1.0)
    large = min(images.shape[-2:]) >= SMALLEST_WITH_MINUTIAE
    nothing = np.empty(0)
    endings, bifurcations = minutia_densities(images) if large else (nothing, nothing)
    return TextureStatistics(
        image_size=(images.shape[-2], images.shape[-1]),
        orientation=_histogram(orientation / math.pi, weights=coherence),
        coherence=_histogram(coherence, weights=np.ones_like(coherence)),
        spectrum=radial_spectrum(images),
        order=circle.order_parameter(phases).numpy().astype(np.float64),
        endings=endings,
        bifurcations=bifurcations,
    )


def _histogram(shares: FloatArray, weights: FloatArray) -> FloatArray:
    """Weights over equal bins of [0, 1]."""
    bins = np.minimum((shares * _BINS).astype(np.int64), _BINS - 1)
    return np.asarray(np.bincount(bins.ravel(), weights.ravel(), minlength=_BINS), np.float64)
