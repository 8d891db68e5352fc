"""Variance exploding diffusion: its frame, its kernel, and its ways back."""

import math
from itertools import islice

import pytest
import torch
from scipy import stats

from kod_bench.diffusion import VarianceExploding, sample
from kod_bench.diffusion.variance_exploding import geometric_sigmas

NORMAL = (0.1, 0.15)  # mean and spread of independent pixels


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def make(steps=40, **parameters):
    return VarianceExploding(shape=(1, 4, 4), steps=steps, **parameters)


def test_levels_grow_in_a_constant_ratio():
    sigma = geometric_sigmas(0.02, 100, 30)
    assert torch.allclose(sigma[1:] / sigma[:-1], torch.tensor(5000 ** (1 / 29)).double())
    assert (sigma[0].item(), sigma[-1].item()) == (pytest.approx(0.02), pytest.approx(100))
    assert geometric_sigmas(0.02, 100, 1).item() == pytest.approx(100)


def test_noise_explodes_in_the_images_own_frame():
    process, rng = make(), generator()
    images = torch.full((4000, 1, 4, 4), 0.4)
    sigma, state = geometric_sigmas(0.02, 100, 40), process.encode(images)
    for t in range(1, 41):
        state = process.forward_step(state, t, rng)
        if t in (1, 20, 40):
            noisy = state.double() * (1 + sigma[t - 1] ** 2).sqrt()
            law = stats.norm(0.4, sigma[t - 1].item())
            assert stats.kstest(noisy.flatten().numpy(), law.cdf).pvalue > 0.01


def test_training_states_are_the_marginal_and_its_noise():
    process = make()
    image = torch.rand(1, 4, 4, generator=generator(1), dtype=torch.float64) * 2 - 1
    sigma = geometric_sigmas(0.02, 100, 40)
    batches = process.training_batches(lambda n: image.expand(n, 1, 4, 4), 64, generator())
    for batch in islice(batches, 10):
        level = sigma[batch.step - 1].view(-1, 1, 1, 1)
        noisy = batch.state * (1 + level**2).sqrt()
        assert torch.allclose(noisy, image + level * batch.target)


def test_an_ancestral_step_is_the_papers():
    # arXiv 2011.13456, eq. 47: drift (s_t^2 - s_u^2) score, variance s_u^2 (s_t^2 - s_u^2) / s_t^2.
    process, sigma = make(), geometric_sigmas(0.02, 100, 40)
    t, u, number = 12, 11, 3000
    now, then = sigma[t - 1], sigma[u - 1]
    noisy, noise = torch.full((number, 1, 4, 4), 0.3, dtype=torch.float64), 0.4
    state = noisy / (1 + now**2).sqrt()
    back = process.reverse_step(state, t, u, torch.full_like(state, noise), generator())
    mean = 0.3 + (now**2 - then**2) * (-noise / now)
    spread = (then**2 * (now**2 - then**2) / now**2).sqrt()
    law = stats.norm(mean.item(), spread.item())
    found = back * (1 + then**2).sqrt()
    assert stats.kstest(found.flatten().numpy(), law.cdf).pvalue > 0.01


@pytest.mark.parametrize("sampler", ["ancestral", "ddim", "heun"])
def test_the_exact_score_recovers_a_normal_law(sampler):
    process, (mean, std) = make(steps=300), NORMAL
    sigma = geometric_sigmas(0.02, 100, 300)

    def predict(state, step):
        level = sigma[step - 1].view(-1, 1, 1, 1)
        noisy = state.double() * (1 + level**2).sqrt()
        return level * (noisy - mean) / (std**2 + level**2)

    drawn = sample(process, predict, 1000, generator(1), sampler=sampler).double()
    assert drawn.mean().item() == pytest.approx(mean, abs=0.01)
    assert drawn.std().item() == pytest.approx(std, rel=0.03)


def test_impossible_values_are_refused():
    with pytest.raises(ValueError, match=r"sigma_min must lie in \(0"):
        make(sigma_min=0.0)
    with pytest.raises(ValueError, match=r"sigma_max must lie in \(0.5"):
        make(sigma_min=0.5, sigma_max=0.2)
    assert math.isclose(make(sigma_max=10.0).noise_std[40], 10 / math.sqrt(101))
