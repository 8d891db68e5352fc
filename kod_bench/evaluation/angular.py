"""Distance between the angular power spectra of two sets of maps on the sphere. Ours.

A map's power at degree l is C_l, the mean of its squared harmonic coefficients of that degree; a
rotation of the sphere leaves it alone. The distance of two sets is

    sqrt( mean over l = 1..L-1 of ( log C_l - log C'_l )^2 )

with C_l the mean over a set: every degree counts alike, so that the little power at high degrees is
seen as well as the large scales are. Power c times as high at all degrees is a distance of |log c|.
Degree 0, the maps' mean, is left out. It is a distance of second moments: random and real maps of
one spectrum are equal to it.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from kod_bench.diffusion.spherical_harmonics import angular_power, sphere_grid
from kod_bench.evaluation.wasserstein import FloatArray

_BATCH = 256  # images at a time


@dataclass(frozen=True)
class AngularSpectrum:
    """What the distance needs to know of a set of maps.

    Attributes:
        count: of maps.
        power: (L,) sum over maps of C_l, gray levels squared.
    """

    count: int
    power: FloatArray

    @classmethod
    def of(cls, images: Tensor) -> "AngularSpectrum":
        """Measure (N, C, L, 2 L) uint8 maps on a Gauss-Legendre grid, channels averaged.

        Raises:
            ValueError: if there are none, or they have another shape.
        """
        degrees, longitudes = images.shape[-2:]
        if not len(images) or longitudes != 2 * degrees:
            raise ValueError(
                f"maps must be at least one, and twice as wide as high; got {tuple(images.shape)}"
            )
        analysis = sphere_grid(degrees).analysis
        power = torch.zeros(degrees, dtype=torch.float64)
        for first in range(0, len(images), _BATCH):
            values = images[first : first + _BATCH].cpu().double().mean(dim=1).flatten(1)
            power += angular_power(values @ analysis.mT, degrees).sum(dim=0)
        return cls(len(images), power.numpy())

    def __add__(self, other: "AngularSpectrum") -> "AngularSpectrum":
        """Of both sets together."""
        return AngularSpectrum(self.count + other.count, self.power + other.power)


def spectrum_distance(one: AngularSpectrum, two: AngularSpectrum) -> float:
    """Natural logarithms; NaN where a set has no power at some degree, as blank maps have not.

    Raises:
        ValueError: if the maps differ in size.
    """
    if len(one.power) != len(two.power):
        raise ValueError(f"maps differ in size: {len(one.power)} and {len(two.power)} degrees")
    powers = [each.power[1:] / each.count for each in (one, two)]
    # A blank map's coefficients are zero up to rounding: 255 to the square, times 1e-30.
    if any((power < 1e-20).any() for power in powers):
        return math.nan
    return float(np.sqrt(np.mean(np.log(powers[0] / powers[1]) ** 2)))
