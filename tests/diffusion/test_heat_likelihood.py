"""The bound of heat dissipation, by its closed forms."""

import itertools
import math

import pytest
import torch

from kod_bench.diffusion import HeatDissipation
from kod_bench.diffusion.heat_likelihood import (
    bits_per_dimension,
    dequantised,
    gaussian_divergence,
    mixture_divergence_bound,
    negative_elbo,
    prior_loss,
    reconstruction_loss,
)

ZERO = torch.zeros(1, dtype=torch.float64)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def pictures(number, seed=0):
    return torch.randint(0, 256, (number, 1, 8, 8), generator=generator(seed)).to(torch.uint8)


def fitted(count, dtype=torch.float32, **parameters):
    process = HeatDissipation(shape=(1, 8, 8), steps=6, prior_images=count, **parameters)
    images = pictures(count).to(dtype) / 127.5 - 1
    process.fit(lambda number: images[:number], generator())
    return process, images


def test_i9_constants_of_a_perfect_mean():
    level = gaussian_divergence(ZERO, 3072, 0.01, 0.0125)
    assert level.item() == pytest.approx(132.537, abs=5e-4)
    assert gaussian_divergence(ZERO, 3072, 0.01, 0.01).item() == 0
    assert reconstruction_loss(ZERO, 3072, 0.0125).item() == pytest.approx(-10638.607, abs=5e-4)


def test_i9_the_best_delta_is_the_noise_and_the_error_together():
    error = torch.tensor([0.3], dtype=torch.float64)
    best = math.sqrt(0.01**2 + 0.3 / 3072)
    least = gaussian_divergence(error, 3072, 0.01, best)
    for other in (0.97 * best, 1.03 * best):
        assert gaussian_divergence(error, 3072, 0.01, other) > least


def test_i10_the_divergence_is_torchs():
    rng = generator()
    a, b = torch.randn(2, 5, 7, generator=rng, dtype=torch.float64)
    first, second = (torch.distributions.Normal(mean, std) for mean, std in ((a, 0.3), (b, 0.5)))
    expected = torch.distributions.kl_divergence(first, second).sum(1)
    assert torch.allclose(gaussian_divergence((a - b).square().sum(1), 7, 0.3, 0.5), expected)


def test_i10_one_training_image_makes_the_bound_exact():
    process, _ = fitted(1, torch.float64)  # in float32, processors round the centre differently
    start = dequantised(pictures(4, 5), generator(1))
    away = process.dissipate(start, 6) - process.dissipate(
        process.encode(pictures(1).double() / 127.5 - 1), 6
    )
    exact = gaussian_divergence(away.square().flatten(1).sum(1), 64, 0.01, process.delta)
    assert torch.allclose(prior_loss(process, start), exact, rtol=1e-6)


def test_i10_the_bound_is_above_the_divergence_from_the_mixture():
    rng, number = generator(2), 20_000
    centres = torch.randn(6, 3, generator=rng, dtype=torch.float64)
    place = torch.randn(3, generator=rng, dtype=torch.float64)
    one = torch.distributions.Normal(place, 0.6)
    drawn = place + 0.6 * torch.randn(number, 3, generator=rng, dtype=torch.float64)
    each = torch.distributions.Normal(centres, 0.9).log_prob(drawn.unsqueeze(1)).sum(-1)
    log_mixture = torch.logsumexp(each, 1) - math.log(6)
    found = one.log_prob(drawn).sum(1) - log_mixture
    divergences = gaussian_divergence((place - centres).square().sum(1), 3, 0.6, 0.9)
    bound = mixture_divergence_bound(divergences.unsqueeze(0)).item()
    error = found.std().item() / math.sqrt(number)
    assert found.mean().item() - 3 * error < bound
    # And no worse than the nearest kernel alone.
    assert bound < divergences.min().item() + math.log(6)


def test_the_bound_of_an_oracle_is_the_sum_of_its_constants():
    process, images = fitted(8)
    chosen = pictures(8)[:3]
    start = (process.encode(images[:3]) * 255).double() / 256 + 0.5 / 256

    def oracle(state, step):
        level = step[0].item()
        return (process.dissipate(start, level - 1) - state).float() / process.scale[level]

    bound = negative_elbo(process, oracle, chosen, generator(3), draws=3)
    assert bound.levels.shape == (3, 5)
    # Its mean is off by what dequantisation has moved: at most 1 / 512 per pixel.
    perfect = gaussian_divergence(ZERO, 64, 0.01, process.delta).item()
    moved = 64 / 512**2 / (2 * process.delta**2)
    assert (bound.levels >= perfect - 1e-6).all()
    assert (bound.levels <= perfect + moved).all()
    assert (bound.reconstruction >= reconstruction_loss(ZERO, 64, process.delta)).all()
    assert torch.allclose(bound.nats, bound.prior + bound.levels.sum(1) + bound.reconstruction)
    assert torch.allclose(bound.bits_per_dimension, bits_per_dimension(bound.nats, 64))
    again = negative_elbo(process, oracle, chosen, generator(3), draws=3)
    assert torch.equal(bound.nats, again.nats)


def test_the_bound_is_above_minus_log_p_of_a_model_whose_law_is_known():
    """A network that says no change adds noise alone: u_0 ~ mean_j N(F_K x_j, (K + 1) delta^2)."""
    process, images = fitted(8, torch.float64)
    chosen = pictures(4, 5)

    def unchanged(state, step):
        return torch.zeros_like(state)

    bound = negative_elbo(process, unchanged, chosen, generator(3))
    start = dequantised(chosen, generator(3))  # the bound's own draw, its first
    centres = process.dissipate(process.encode(images), 6)
    law = torch.distributions.Normal(centres, process.delta * math.sqrt(7))
    each = law.log_prob(start.unsqueeze(1)).flatten(2).sum(2)
    exact = math.log(8) - torch.logsumexp(each, 1)
    assert (bound.nats > exact).all()

    # The gap is what q does otherwise, in closed form: where it blurs, and sigma^2 at every level.
    blurred = [process.dissipate(start, level) for level in range(7)]
    steps = [(a - b).square().flatten(1).sum(1) for a, b in itertools.pairwise(blurred)]
    noise = 64 * process.noise_std**2
    closed = prior_loss(process, start) + reconstruction_loss(steps[0] + noise, 64, process.delta)
    closed += sum(
        gaussian_divergence(step + noise, 64, process.noise_std, process.delta)
        for step in steps[1:]
    )
    assert torch.allclose(bound.nats, closed, rtol=0.02)


def test_a_flat_density_costs_eight_bits():
    assert bits_per_dimension(ZERO, 64).item() == 8
    level = torch.tensor([64 * math.log(2)], dtype=torch.float64)
    assert bits_per_dimension(level, 64).item() == pytest.approx(9)


def test_dequantisation_stays_within_a_level():
    drawn = dequantised(pictures(20), generator(1))
    assert ((drawn * 256).floor().to(torch.uint8) == pictures(20)).all()
    assert drawn.max() < 1


def test_a_bound_needs_noise_and_draws():
    process, _ = fitted(2, delta=0.0)
    with pytest.raises(ValueError, match=r"delta must lie in \(0"):
        negative_elbo(process, lambda x, t: x, pictures(1), generator())
    process, _ = fitted(2)
    with pytest.raises(ValueError, match="draws must be at least 1"):
        negative_elbo(process, lambda x, t: x, pictures(1), generator(), draws=0)
    process = HeatDissipation(shape=(1, 8, 8), steps=2, reading="circle")
    with pytest.raises(ValueError, match=r"is of intensities as they are; .* reads the circle"):
        negative_elbo(process, lambda x, t: x, pictures(1), generator())
