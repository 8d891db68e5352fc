"""The evidence lower bound of inverse heat dissipation, in nats per image and bits per dimension.

For q(u_k | u_0) = N(F_k u_0, sigma^2) and p(u_{k-1} | u_k) = N(mean(u_k), delta^2), all isotropic,
and N pixels times channels (arXiv 2206.13397, section 3):

    -log p(u_0) <= L_K + sum_{k=2..K} L_{k-1} + L_0

The authors' code sums k = 1..K-1 instead: level 1 twice, level K not at all.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from kod_bench.diffusion.checks import check_count, check_number
from kod_bench.diffusion.heat import HeatDissipation
from kod_bench.diffusion.process import standard_normal
from kod_bench.diffusion.run import Predictor


@dataclass(frozen=True)
class NegativeELBO:
    """Upper bounds on -log p, per image: (B,) float64 nats, for images as densities on [0, 1]^N.

    Attributes:
        prior: L_K.
        levels: L_{k-1} for k = 2..K, (B, K - 1).
        reconstruction: L_0.
        elements: N.
    """

    prior: Tensor
    levels: Tensor
    reconstruction: Tensor
    elements: int

    @property
    def nats(self) -> Tensor:
        """The sum, (B,)."""
        return self.prior + self.levels.sum(1) + self.reconstruction

    @property
    def bits_per_dimension(self) -> Tensor:
        """Per pixel and channel, for images of 256 gray levels, (B,)."""
        return bits_per_dimension(self.nats, self.elements)


def bits_per_dimension(nats: Tensor, elements: int) -> Tensor:
    """Of a density on [0, 1]^N at dequantised images: a gray level is 1 / 256 wide, 8 bits."""
    return nats / (elements * math.log(2)) + 8


def dequantised(images: Tensor, generator: torch.Generator) -> Tensor:
    """(B, C, H, W) uint8 images as float64 in [0, 1): a level spread evenly over its width."""
    spread = torch.rand(
        images.shape, generator=generator, device=generator.device, dtype=torch.float64
    )
    return (images.to(generator.device).double() + spread) / 256


def gaussian_divergence(squared: Tensor, elements: int, std: float, other: float) -> Tensor:
    """KL(N(a, std^2 I) || N(b, other^2 I)) in nats.

    Args:
        squared: |a - b|^2.
        elements: dimensions N.
        std: of the first.
        other: of the second.
    """
    ratio = (std / other) ** 2
    return 0.5 * (elements * (ratio - 1 - math.log(ratio)) + squared / other**2)


def reconstruction_loss(squared: Tensor, elements: int, delta: float) -> Tensor:
    """L_0 = |mean - u_0|^2 / (2 delta^2) + N log(delta sqrt(2 pi)), in nats."""
    return squared / (2 * delta**2) + elements * math.log(delta * math.sqrt(2 * math.pi))


def mixture_divergence_bound(divergences: Tensor) -> Tensor:
    """An upper bound on KL(q || mean_j p_j) from all KL(q || p_j), (B, M) -> (B,).

    For any shares f_j it is at most sum_j f_j (KL_j + log f_j + log M), which is least for
    f_j proportional to exp(-KL_j).
    """
    return math.log(divergences.shape[1]) - torch.logsumexp(-divergences, dim=1)


def prior_loss(process: HeatDissipation, state: Tensor) -> Tensor:
    """L_K: a bound on KL(q(u_K | u_0) || prior) in nats, (B,), for u_0 (B, C, H, W) in [0, 1].

    The prior's kernels have a standard deviation of delta.
    """
    centres = process.prior_modes(state.device, torch.float64)
    modes = process.modes(process.dissipate(state.double(), process.steps))
    low = modes[..., : centres.shape[2], : centres.shape[3]].flatten(1)
    # The modes that centres lack: what this image has of them is its distance there.
    beyond = (modes.flatten(1).square().sum(1) - low.square().sum(1)).clamp_min(0)
    mode = "donot_use_mm_for_euclid_dist"  # exact where images are nearly alike
    squared = torch.cdist(low, centres.flatten(1), compute_mode=mode).square()
    squared = squared + beyond.unsqueeze(1)
    return mixture_divergence_bound(
        gaussian_divergence(squared, state[0].numel(), process.noise_std, process.delta)
    )


@torch.no_grad()
def negative_elbo(
    process: HeatDissipation,
    predict: Predictor,
    images: Tensor,
    generator: torch.Generator,
    *,
    draws: int = 1,
) -> NegativeELBO:
    """Estimate the bound by drawing u_k at every level. Asks the network K times per draw.

    Args:
        process: fitted.
        predict: the trained network.
        images: (B, C, H, W) uint8, which are dequantised.
        generator: source of all randomness; its device is where it happens.
        draws: of dequantisation and noise, over which the result is a mean.

    Raises:
        ValueError: if `draws` is not positive, delta is zero, or states are not images as they are.
    """
    check_count("draws", draws)
    if process.reading != "intensity":
        raise ValueError(
            f"a likelihood is of intensities as they are; this process reads the {process.reading}"
        )
    check_number("delta", process.delta, 0, open_low=True)
    elements = images[0].numel()
    prior, squares = [], []
    for _ in range(draws):
        start = dequantised(images, generator)
        prior.append(prior_loss(process, start))
        errors = []
        for level in range(1, process.steps + 1):
            blurred = process.dissipate(start, level)
            noisy = (blurred + process.noise_std * standard_normal(blurred, generator)).float()
            steps = torch.full((len(noisy),), level, dtype=torch.int64, device=noisy.device)
            mean = process.mean(noisy, level, predict(noisy, steps))
            sharper = process.dissipate(start, level - 1)
            errors.append((mean - sharper).square().flatten(1).sum(1))
        squares.append(torch.stack(errors, dim=1))
    squared = torch.stack(squares).mean(0)
    return NegativeELBO(
        prior=torch.stack(prior).mean(0),
        levels=gaussian_divergence(squared[:, 1:], elements, process.noise_std, process.delta),
        reconstruction=reconstruction_loss(squared[:, 0], elements, process.delta),
        elements=elements,
    )
