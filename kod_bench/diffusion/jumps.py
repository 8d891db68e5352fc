"""Steps back: where from and where to, and what a sampler knows of the one before."""

from dataclasses import dataclass

import torch
from torch import Tensor


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
