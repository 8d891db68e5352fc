r"""The likelihood of phases under a trained process on the torus, in nats per phase.

Its probability flow carries a density along (arXiv 2011.13456, eq. 39). Forward in t, with velocity
f and from the data to the prior,

    log p_0(theta_0) = log p_T(theta_T) + sum over t of div f_t(theta_t)

where p_T is the exact density of the prior: uniform, or von Mises. The way is Heun's, with the
divergence averaged over both ends of a jump; the divergence is Hutchinson's estimate, unbiased:

    div f = E[e^T (df / dtheta) e],    e = +-1, independent

From t = 1 to 0 the flow has the velocity at t = 1, as sampling has it. What is measured is the law
of samples from that prior by the probability flow, in infinitely short steps; of stochastic
samplers it says nothing. Densities are of angles in radians, so the uniform law has log 2 pi =
1.838: values compare between processes on the torus, and with none on pixels.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from kod_bench.diffusion.checks import check_count
from kod_bench.diffusion.circle import wrap
from kod_bench.diffusion.divergence import with_divergence
from kod_bench.diffusion.jumps import Jump
from kod_bench.diffusion.phases import PhaseDiffusion
from kod_bench.diffusion.run import Predictor
from kod_bench.diffusion.step_grids import even_steps

#: Jumps from the data to the prior unless told otherwise, at most T.
JUMPS = 50


@dataclass(frozen=True)
class TorusLikelihood:
    """Negative log-likelihoods.

    Attributes:
        nats: per phase, for each image, (B,) float64. One image's also has Hutchinson's noise.
    """

    nats: Tensor

    @property
    def mean(self) -> float:
        """Nats per phase."""
        return self.nats.mean().item()

    @property
    def standard_error(self) -> float:
        """Of the mean, from choosing the images and from estimating the divergence; nan of one."""
        return self.nats.std().item() / math.sqrt(len(self.nats))


def negative_log_likelihood(
    process: PhaseDiffusion,
    predict: Predictor,
    images: Tensor,
    generator: torch.Generator,
    *,
    probes: int = 1,
    jumps: int | None = None,
) -> TorusLikelihood:
    """Carry images to the prior along the probability flow.

    Asks the network twice per jump, with a gradient for each probe.

    Args:
        process: fitted.
        predict: the trained network, differentiable in the state.
        images: (B, C, H, W) in [-1, 1], on the generator's device.
        generator: source of the probes.
        probes: e drawn for each divergence.
        jumps: from t = 0 to T, 1..T; default T, at most 50.

    Raises:
        ValueError: if the images do not fit, `probes` is not positive, or `jumps` is out of range.
    """
    check_count("probes", probes)
    jumps = check_count("jumps", min(process.steps, JUMPS) if jumps is None else jumps)
    if jumps > process.steps:
        raise ValueError(f"jumps must be at most T = {process.steps}, got {jumps}")
    state = process.encode(images)
    divergence = torch.zeros(len(state), dtype=torch.float64)
    way = (0, *reversed(even_steps(process.steps, jumps)))
    for to, step in pairwise(way):
        jump = Jump(step, to, "")
        change = functools.partial(_change, process, predict, jump)
        here, growth_here = with_divergence(change(max(to, 1)), state, probes, generator)
        ahead = wrap(state + here)
        there, growth_there = with_divergence(change(step), ahead, probes, generator)
        state = wrap(state + (here + there) / 2)
        divergence += (growth_here + growth_there) / 2
    log_density = process.prior_log_density(state) + divergence
    return TorusLikelihood(-log_density / state[0].numel())


def _change(
    process: PhaseDiffusion, predict: Predictor, jump: Jump, at: int
) -> Callable[[Tensor], Tensor]:
    """What the flow adds to phases over a jump, with the velocity at the step `at`."""

    def change(state: Tensor) -> Tensor:
        steps = torch.full((len(state),), at, dtype=torch.int64, device=state.device)
        return process.flow_change(state, at, jump, predict(state, steps))

    return change
