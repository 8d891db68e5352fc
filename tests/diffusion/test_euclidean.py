import math
from itertools import islice

import numpy as np
import pytest
import torch
from scipy import stats

from kod_bench.diffusion import DDPM
from kod_bench.diffusion.euclidean import linear_betas


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_published_schedule():
    assert np.allclose(linear_betas(1000), np.linspace(1e-4, 0.02, 1000), rtol=1e-12)


@pytest.mark.parametrize("steps", [1, 2, 5, 20, 50, 100, 4000])
def test_any_number_of_steps_keeps_the_clock(steps):
    betas = linear_betas(steps)
    assert len(betas) == steps
    assert (betas > 0).all()
    assert (betas <= 0.999).all()
    if steps > 20:
        assert betas.sum().item() == pytest.approx(10.05, rel=1e-9)
    process = DDPM(shape=(1, 1, 1), steps=steps)
    assert process.signal[steps] < 0.04
    assert torch.allclose(
        process.signal.values**2 + process.noise_std.values**2, torch.ones(1).double()
    )


def test_forward_steps_compose_to_the_marginal():
    process, rng = DDPM(shape=(1, 1, 1), steps=40), generator()
    state = torch.full((50_000, 1, 1, 1), 0.7)
    for t in range(1, 41):
        state = process.forward_step(state, t, rng)
        if t in (1, 10, 25):
            law = stats.norm(0.7 * process.signal[t], process.noise_std[t])
            assert stats.kstest(state.flatten().numpy(), law.cdf).pvalue > 0.01


def test_training_batches_are_the_marginal_and_its_noise():
    process = DDPM(shape=(2, 3, 4), steps=50)
    image = torch.rand(2, 3, 4, generator=generator(1)) * 2 - 1
    batches = process.training_batches(lambda n: image.expand(n, 2, 3, 4), 64, generator())
    seen = []
    for batch in islice(batches, 100):
        signal = process.signal.values[batch.step - 1].view(-1, 1, 1, 1)
        std = process.noise_std.values[batch.step - 1].view(-1, 1, 1, 1)
        assert torch.allclose(batch.state.double(), signal * image + std * batch.target, atol=1e-6)
        seen.append((batch.step, batch.target))
    counts = torch.cat([step for step, _ in seen]).bincount(minlength=51)[1:]
    assert stats.chisquare(counts.numpy()).pvalue > 0.01
    noise = torch.cat([target for _, target in seen]).flatten().numpy()
    assert stats.kstest(noise, stats.norm.cdf).pvalue > 0.01


@pytest.mark.parametrize("t", [2, 17, 40])
def test_reverse_step_with_the_true_noise_is_bayes_posterior(t):
    # Known x_0: x_{t-1} | x_t, x_0 from the product of two normals, without eqs. 6 and 7.
    process, start, number = DDPM(shape=(1, 1, 1), steps=40), 0.3, 40_000
    reached = process.signal[t] * start + 1.3 * process.noise_std[t]
    state = torch.full((number, 1, 1, 1), reached, dtype=torch.float64)
    prediction = torch.full_like(state, 1.3)
    found = process.reverse_step(state, t, prediction, generator())
    keep = process.signal[t] / process.signal[t - 1]
    spread = 1 - keep**2
    precision = 1 / process.noise_std[t - 1] ** 2 + keep**2 / spread
    prior_mean = process.signal[t - 1] * start
    mean = prior_mean / process.noise_std[t - 1] ** 2 + keep * reached / spread
    law = stats.norm(mean / precision, math.sqrt(1 / precision))
    assert stats.kstest(found.flatten().numpy(), law.cdf).pvalue > 0.01


@pytest.mark.parametrize(("steps", "shrinkage"), [(50, 0.70), (1000, 0.963)])
def test_gaussian_data_come_back_with_the_spread_that_the_steps_allow(steps, shrinkage):
    # Everything is linear, so mean and variance of every step follow without sampling.
    process, number, mean, std = DDPM(shape=(1, 1, 1), steps=steps), 50_000, 0.3, 0.1
    rng = generator()
    state = process.prior(number, rng)
    expected_mean, expected_variance = 0.0, 1.0
    for t in range(steps, 0, -1):
        signal, noise = process.signal[t], process.noise_std[t]
        marginal = (signal * std) ** 2 + noise**2
        state = process.reverse_step(state, t, noise * (state - signal * mean) / marginal, rng)
        # E[x_0 | x_t] = offset + gain x_t, then the posterior of x_{t-1} given both.
        gain = signal * std**2 / marginal
        offset = mean - gain * signal * mean
        if t == 1:
            weight_image, weight_state, spread = 1.0, 0.0, 0.0
        else:
            keep = signal / process.signal[t - 1]
            before = process.noise_std[t - 1] ** 2
            precision = 1 / before + keep**2 / (1 - keep**2)
            weight_image = process.signal[t - 1] / before / precision
            weight_state = keep / (1 - keep**2) / precision
            spread = 1 / precision
        slope = weight_image * gain + weight_state
        expected_mean = weight_image * offset + slope * expected_mean
        expected_variance = slope**2 * expected_variance + spread
    assert state.mean().item() == pytest.approx(expected_mean, abs=5 * std / math.sqrt(number))
    assert state.std().item() == pytest.approx(math.sqrt(expected_variance), rel=0.015)
    assert expected_mean == pytest.approx(mean, abs=0.005)
    assert math.sqrt(expected_variance) / std == pytest.approx(shrinkage, abs=0.01)


def test_the_last_step_returns_the_clamped_image():
    process = DDPM(shape=(1, 1, 2), steps=10)
    state = torch.tensor([[[[0.2, 50.0]]]])
    image = process.reverse_step(state, 1, torch.zeros_like(state), generator())
    assert image.flatten().tolist() == pytest.approx([0.2 / process.signal[1], 1.0])
    assert torch.equal(image, process.reverse_step(state, 1, torch.zeros_like(state), generator(9)))


def test_one_step_goes_from_noise_to_the_clamped_image():
    process = DDPM(shape=(1, 2, 2), steps=1)
    state = process.prior(3, generator())
    image = process.reverse_step(state, 1, state, generator())
    assert (image.abs() <= 1).all()


@pytest.mark.parametrize(
    ("beta_range", "message"),
    [
        ((0.0, 0.1), r"beta_range must lie in \(0, 1\), got 0.0"),
        ((0.1, 1.0), r"beta_range must lie in \(0, 1\), got 1.0"),
        ((0.1, math.nan), "beta_range"),
        ((0.1,), r"beta_range must be a pair \(first, last\)"),
    ],
)
def test_impossible_betas_are_refused(beta_range, message):
    with pytest.raises(ValueError, match=message):
        DDPM(shape=(1, 4, 4), steps=10, beta_range=beta_range)


def test_beta_range_replaces_the_published_one():
    process = DDPM(shape=(1, 1, 1), steps=3, beta_range=(0.1, 0.3))
    assert process.signal[3] ** 2 == pytest.approx(0.9 * 0.8 * 0.7)
