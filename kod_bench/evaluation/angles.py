"""Statistics of fields of angles, and the distances of two sets of them.

Angles theta are on the sites of a grid whose edges are edges: no pair is taken around them, so that
periodic fields and cut ones are measured alike.

- *correlation*: g(r) = <cos(theta_x - theta_{x + r})> at r = 1 .. R sites along rows and columns,
  R half the shorter side, over all sites and fields; the distance of two sets is the root mean
  square over r of the difference.
- *vortices*: the share of plaquettes, squares of four neighbouring sites, around which the wrapped
  differences add up to 2 pi or -2 pi (Kosterlitz and Thouless 1973), of 2 phi the singular points
  of an orientation; the distance is that of the shares. Angles that know nothing of each other
  have 1/3.
- *energy*: -<cos(theta_x - theta_y)> over all pairs of neighbours, -1 of equal angles and 0 of
  independent ones; the distance is that of the energies.
- *order*: |mean of e^{i theta}| of each field; 1-Wasserstein.
- *angle*: of all angles together, 1-Wasserstein around the circle (Rabin, Delon and Gousseau 2011);
  radians, at most pi / 2.

All are distances of marginals: zero does not mean that two sets are alike.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from kod_bench.diffusion import circle
from kod_bench.evaluation.wasserstein import FloatArray, circle_distance

_BINS = 360
_BATCH = 256  # fields at a time


@dataclass(frozen=True)
class AngleStatistics:
    """What the distances need to know of a set of fields. Sums, so that two sets add up.

    Attributes:
        count: of fields.
        image_size: (height, width) of all.
        correlation: (R,) sum over fields of g(r), each the mean over its pairs.
        vortices: sum over fields of the share of plaquettes with a vortex.
        energy: sum over fields of the mean over pairs of neighbours.
        order: (N,) order parameter of each field.
        histogram: (360,) angles over [-pi, pi).
    """

    count: int
    image_size: tuple[int, int]
    correlation: FloatArray
    vortices: float
    energy: float
    order: FloatArray
    histogram: FloatArray

    @classmethod
    def of(cls, angles: Tensor) -> "AngleStatistics":
        """Measure (N, C, H, W) float32 angles in radians on the CPU; channels are averaged.

        Raises:
            ValueError: if there are none, or they have fewer than two sites a side.
        """
        if not len(angles) or min(angles.shape[-2:]) < 2:
            raise ValueError(
                "fields of angles must be at least one and two sites a side, got "
                f"{tuple(angles.shape)}"
            )
        total = _measure(angles[:_BATCH])
        for first in range(_BATCH, len(angles), _BATCH):
            total = total + _measure(angles[first : first + _BATCH])
        return total

    def __add__(self, other: "AngleStatistics") -> "AngleStatistics":
        """The statistics of both sets together.

        Raises:
            ValueError: if their fields differ in size.
        """
        if self.image_size != other.image_size:
            raise ValueError(f"fields differ in size: {self.image_size}, {other.image_size}")
        return AngleStatistics(
            self.count + other.count,
            self.image_size,
            self.correlation + other.correlation,
            self.vortices + other.vortices,
            self.energy + other.energy,
            np.concatenate([self.order, other.order]),
            self.histogram + other.histogram,
        )


def vortices(angles: Tensor) -> Tensor:
    """The winding of each plaquette, (..., H, W) radians -> (..., H - 1, W - 1): -1, 0 or 1.

    Positive where angles grow counter-clockwise around it, as the field is shown: rows downwards.
    """
    down = circle.wrap(angles[..., 1:, :] - angles[..., :-1, :])
    right = circle.wrap(angles[..., :, 1:] - angles[..., :, :-1])
    # From the upper left corner down, to the right, up, and back.
    around = down[..., :, :-1] + right[..., 1:, :] - down[..., :, 1:] - right[..., :-1, :]
    return (around / circle.TWO_PI).round().to(torch.int8)


def correlation_distance(one: AngleStatistics, two: AngleStatistics) -> float:
    """Between 0 and 2."""
    difference = one.correlation / one.count - two.correlation / two.count
    return float(np.sqrt(np.mean(difference**2)))


def vortex_density(statistics: AngleStatistics) -> float:
    """Share of plaquettes with a vortex of either sign."""
    return statistics.vortices / statistics.count


def energy(statistics: AngleStatistics) -> float:
    """-<cos> over pairs of neighbours, between -1 and 1."""
    return statistics.energy / statistics.count


def angle_distance(one: AngleStatistics, two: AngleStatistics) -> float:
    """Radians, at most pi / 2."""
    return circle_distance(one.histogram, two.histogram, circle.TWO_PI)


def _measure(angles: Tensor) -> AngleStatistics:
    theta = angles.cpu().double()
    height, width = theta.shape[-2:]
    vectors = torch.polar(torch.ones_like(theta), theta)

    def pairs(distance: int) -> Tensor:
        """Mean of cos over pairs so far apart, of each field: (N,)."""
        rows = vectors[..., distance:, :] * vectors[..., :-distance, :].conj()
        columns = vectors[..., :, distance:] * vectors[..., :, :-distance].conj()
        both = torch.cat([rows.real.flatten(1), columns.real.flatten(1)], dim=1)
        return both.mean(dim=1)

    near = pairs(1)
    far = [pairs(distance).sum() for distance in range(2, min(height, width) // 2 + 1)]
    bins = ((theta + math.pi) / circle.TWO_PI * _BINS).long().clamp(0, _BINS - 1)
    return AngleStatistics(
        count=len(theta),
        image_size=(height, width),
        correlation=torch.stack([near.sum(), *far]).numpy(),
        vortices=float((vortices(theta) != 0).double().flatten(1).mean(dim=1).sum()),
        energy=-float(near.sum()),
        order=vectors.flatten(1).mean(dim=1).abs().numpy(),
        histogram=torch.bincount(bins.flatten(), minlength=_BINS).double().numpy(),
    )
