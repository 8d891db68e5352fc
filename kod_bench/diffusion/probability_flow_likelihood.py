r"""The likelihood of images under a trained process of Gaussian noise, in bits per dimension.

The probability flow carries a density along (arXiv 2011.13456, eq. 39). With x_0 and eps as the
network has them at (x, t), and forward in t from the data to the prior,

    dx = x_0 da + eps ds
    log p_0(x) = log N(x_T; 0, I) + sum over t of div (x_0 da + eps ds)

The way is Heun's through all T levels, or some of them, the divergence averaged over both ends of a
jump. The divergence is Hutchinson's estimate, unbiased:

    div f = E[e^T (df / dx) e],    e = +-1, independent

From t = 0 to 1 the flow has the prediction at t = 1, where a network begins to know. Images of 256
gray levels are spread evenly over their levels' width, so that this bounds the bits of an image
from above (Theis et al. 2016, arXiv 1511.01844). It is the law of what the probability flow
samples, in infinitely short steps and unclamped; of stochastic samplers it says nothing.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from kod_bench.diffusion.checks import check_count
from kod_bench.diffusion.divergence import with_divergence
from kod_bench.diffusion.euclidean import EuclideanDiffusion
from kod_bench.diffusion.heat_likelihood import bits_per_dimension, dequantised
from kod_bench.diffusion.run import Predictor
from kod_bench.diffusion.step_grids import steps_to_one

#: Jumps from the data to the prior unless told otherwise, at most T.
JUMPS = 100


@dataclass(frozen=True)
class FlowLikelihood:
    """Negative log-likelihoods.

    Attributes:
        bits_per_dimension: of each image, (B,) float64. One image's also has the noise of the
            estimated divergence and of one draw within its gray levels.
    """

    bits_per_dimension: Tensor

    @property
    def mean(self) -> float:
        """Bits per pixel and channel."""
        return self.bits_per_dimension.mean().item()

    @property
    def standard_error(self) -> float:
        """Of the mean: from the choice of images, and both kinds of noise; nan of one image."""
        bits = self.bits_per_dimension
        return bits.std().item() / math.sqrt(len(bits))


def flow_likelihood(
    process: EuclideanDiffusion,
    predict: Predictor,
    images: Tensor,
    generator: torch.Generator,
    *,
    probes: int = 1,
    jumps: int | None = None,
) -> FlowLikelihood:
    """Carry images to the prior along the probability flow.

    Asks the network twice per jump, with a gradient for each probe.

    Args:
        process: fitted; its prior must be standard normal, and its states images times a number.
        predict: the trained network, differentiable in the state.
        images: (B, C, H, W) uint8, which are dequantised.
        generator: source of all randomness; its device is where it happens.
        probes: e drawn for each divergence.
        jumps: from t = 1 to T, 1..T - 1; default T - 1, at most 100.

    Raises:
        ValueError: if the images do not fit, `probes` is not positive, or `jumps` is out of range.
    """
    check_count("probes", probes)
    if process.state_shape != process.shape:
        raise ValueError(
            f"a likelihood is of images as they are; states have shape {process.state_shape}, "
            f"images {process.shape}"
        )
    most = process.steps - 1
    jumps = check_count("jumps", min(most, JUMPS) if jumps is None else jumps, min(1, most))
    if jumps > most:
        raise ValueError(f"jumps must be at most T - 1 = {most}, got {jumps}")
    process.check_images(images)
    start = dequantised(images, generator)
    state = process.encode((2 * start - 1).float())
    elements = state[0].numel()
    divergence = torch.zeros(len(state), dtype=torch.float64)
    way = (0, *reversed(steps_to_one(process.steps, jumps + 1))) if jumps else (0, process.steps)
    for step, to in pairwise(way):
        early, late = (_change(process, predict, (step, to), at) for at in (max(step, 1), to))
        here, growth = with_divergence(early, state, probes, generator)
        if step:
            there, growth_there = with_divergence(late, state + here, probes, generator)
            here, growth = (here + there) / 2, (growth + growth_there) / 2
        state = state + here
        divergence += growth
    squared = state.detach().cpu().double().flatten(1).square().sum(1)
    log_prior = -0.5 * squared - 0.5 * elements * math.log(2 * math.pi)
    # From states to numbers in [0, 1].
    log_density = log_prior + divergence + elements * math.log(2 * process.encoding)
    return FlowLikelihood(bits_per_dimension(-log_density, elements))


def _change(
    process: EuclideanDiffusion, predict: Predictor, jump: tuple[int, int], at: int
) -> Callable[[Tensor], Tensor]:
    """What the flow adds to x over a jump, by the prediction at the step `at`."""
    (signal, std), (last_signal, last_std) = (_level(process, step) for step in jump)

    def change(state: Tensor) -> Tensor:
        steps = torch.full((len(state),), at, dtype=torch.int64, device=state.device)
        image = process.image_of(state, at, predict(state, steps).to(state.dtype))
        noise = (state - process.signal[at] * image) / process.noise_std[at]
        return (last_signal - signal) * image + (last_std - std) * noise

    return change


def _level(process: EuclideanDiffusion, step: int) -> tuple[float, float]:
    """a_t and s_t, of t = 0, too."""
    return (process.signal[step], process.noise_std[step]) if step else (process.encoding, 0.0)
