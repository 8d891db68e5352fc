"""Steps back: where from and where to, their noise, and what is known of the one before."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

#: Of the noise of an ancestral step back: as if x_0 were known; the best on average, by the
#: prediction's own mean square (`mean_square`); or what the forward steps have added.
Variance = Literal["posterior", "analytic", "forward"]

#: Standard deviations of the noise, in radians or in pixels from -1 to 1, between which the sampler
#: "restart" makes steps again.
_RESTARTED = (0.15, 1.1)


@dataclass(frozen=True)
class Past:
    """What a sampler knew at its last step back. The loop that samples carries it, not the process.

    Attributes:
        step: t where it began.
        state: x_t, (B, C, H, W).
        prediction: the network's at (x_t, t).
        made: steps back so far, this one included.
    """

    step: int
    state: Tensor
    prediction: Tensor
    made: int

    def in_dtype(self, dtype: torch.dtype) -> "Past":
        """The same with tensors of a dtype."""
        return Past(self.step, self.state.to(dtype), self.prediction.to(dtype), self.made)


@dataclass(frozen=True)
class Jump:
    """A step back that a process can make."""

    step: int
    """t in 1..T."""
    to: int
    """u in 0..t-1."""
    sampler: str
    """One of the process's `samplers`."""
    past: Past | None = None
    """The step back that has led to t; of samplers of `multistep` alone, and not of their first."""


def is_restarted(noise: float) -> bool:
    """Whether the sampler "restart" makes a step again that ends at this much noise.

    Below it, images are almost done; above it, most of what a step decides is forgotten. Between
    them vortices of the XY model are decided, see docs/angles.md.
    """
    low, high = _RESTARTED
    return low <= noise <= high


def mean_square(prediction: Tensor) -> Tensor:
    """Mean square over the pixels of each sample, (B, C, H, W) -> (B, 1, 1, 1) in float32.

    What the variance "analytic" needs of a prediction. arXiv 2201.06503, eq. 8, averages it over
    samples, too, once for a trained network. Of images of many pixels each sample's own mean is
    near that, and no sample depends on which others are drawn beside it.
    """
    return prediction.float().square().mean((1, 2, 3), keepdim=True)
