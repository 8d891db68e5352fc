import math
from itertools import islice

import numpy as np
import pytest
import torch
from scipy import stats

from kod_bench.diffusion import DDPM
from kod_bench.diffusion.euclidean import cosine_betas, linear_betas


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


@pytest.mark.parametrize(("steps", "left"), [(1000, 0.0064), (100, 0.0045), (25, 0.0005)])
def test_few_steps_leave_less_signal_at_the_same_clock(steps, left):
    assert DDPM(shape=(1, 1, 1), steps=steps).signal[steps] == pytest.approx(left, abs=5e-5)
    assert left < math.exp(-10.05 / 2)


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
    found = process.reverse_step(state, t, t - 1, prediction, generator())
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
        state = process.reverse_step(
            state, t, t - 1, noise * (state - signal * mean) / marginal, rng
        )
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


@pytest.mark.parametrize(
    ("variance", "spread", "exact"),
    [
        ("posterior", 0.0, True),
        ("analytic", 0.0, True),
        ("forward", 0.0, False),
        ("posterior", 0.2, False),
        ("analytic", 0.2, True),
        ("forward", 0.2, False),
    ],
)
def test_few_steps_keep_the_spread_of_normal_data(variance, spread, exact):
    # x_t is normal with variance abar_t spread^2 + 1 - abar_t; the clamp of x_0 is far away.
    process, rng = DDPM(shape=(1, 100, 100), steps=50, variance=variance), generator(3)

    def width(t):
        return math.hypot(process.signal[t] * spread, process.noise_std[t])

    state = width(20) * torch.randn(10, 1, 100, 100, generator=rng, dtype=torch.float64)
    for t, u in ((20, 14), (14, 8), (8, 3)):
        eps = process.noise_std[t] * state / width(t) ** 2
        state = process.reverse_step(state, t, u, eps, rng)
    assert (state.std().item() == pytest.approx(width(3), rel=0.03)) is exact


def test_the_last_step_returns_the_clamped_image():
    process = DDPM(shape=(1, 1, 2), steps=10)
    state = torch.tensor([[[[0.2, 50.0]]]])
    image = process.reverse_step(state, 1, 0, torch.zeros_like(state), generator())
    assert image.flatten().tolist() == pytest.approx([0.2 / process.signal[1], 1.0])
    assert torch.equal(
        image, process.reverse_step(state, 1, 0, torch.zeros_like(state), generator(9))
    )


def test_one_step_goes_from_noise_to_the_clamped_image():
    process = DDPM(shape=(1, 2, 2), steps=1)
    state = process.prior(3, generator())
    image = process.reverse_step(state, 1, 0, state, generator())
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


def test_betas_that_leave_nothing_to_divide_by_are_refused():
    with pytest.raises(ValueError, match=r"\(0.5, 0.9\) leaves no image at all after 1000 steps"):
        DDPM(shape=(1, 4, 4), steps=1000, beta_range=(0.5, 0.9))


def test_beta_range_replaces_the_published_one():
    process = DDPM(shape=(1, 1, 1), steps=3, beta_range=(0.1, 0.3))
    assert process.signal[3] ** 2 == pytest.approx(0.9 * 0.8 * 0.7)


def test_cosine_schedule_is_the_published_one():
    time = np.arange(101) / 100
    kept = np.cos((time + 0.008) / 1.008 * np.pi / 2) ** 2
    expected = np.minimum(1 - kept[1:] / kept[:-1], 0.999)
    assert np.allclose(cosine_betas(100), expected, rtol=1e-12)
    process = DDPM(shape=(1, 1, 1), steps=100, schedule="cosine")
    assert np.allclose(process.signal.values.square(), np.cumprod(1 - expected), rtol=1e-9)


def textbook_abar(steps, schedule):
    betas = linear_betas(steps) if schedule == "linear" else cosine_betas(steps)
    return [1.0, *torch.cumprod(1 - betas, 0).tolist()]


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
@pytest.mark.parametrize(("t", "u"), [(40, 39), (40, 13), (17, 16), (17, 1), (5, 0), (1, 0)])
class TestJumps:
    """Against the papers' formulas, written out by hand with a small eps that clamps nothing."""

    def case(self, schedule):
        process = DDPM(shape=(1, 2, 2), steps=40, schedule=schedule)
        image = 0.5 * torch.rand(3, 1, 2, 2, generator=generator(), dtype=torch.float64)
        noise = torch.randn(3, 1, 2, 2, generator=generator(1), dtype=torch.float64)
        return process, textbook_abar(40, schedule), image, noise

    def test_ddim_is_equation_12(self, schedule, t, u):
        process, abar, image, noise = self.case(schedule)
        state = math.sqrt(abar[t]) * image + math.sqrt(1 - abar[t]) * noise
        predicted = (state - math.sqrt(1 - abar[t]) * noise) / math.sqrt(abar[t])
        expected = math.sqrt(abar[u]) * predicted + math.sqrt(1 - abar[u]) * noise
        found = process.reverse_step(state, t, u, noise, generator(), "ddim")
        assert torch.allclose(found, expected, atol=1e-8)

    def test_ddim_jumps_compose_under_one_eps(self, schedule, t, u):
        process, abar, image, noise = self.case(schedule)
        state = math.sqrt(abar[t]) * image + math.sqrt(1 - abar[t]) * noise
        whole = process.reverse_step(state, t, u, noise, generator(), "ddim")
        for step in range(t, u, -1):
            state = process.reverse_step(state, step, step - 1, noise, generator(), "ddim")
        assert torch.allclose(state, whole, atol=1e-7)

    @pytest.mark.parametrize("variance", ["posterior", "forward"])
    def test_ancestral_is_equations_6_and_7(self, schedule, t, u, variance):
        _, abar, image, noise = self.case(schedule)
        process = DDPM(shape=(1, 2, 2), steps=40, schedule=schedule, variance=variance)
        state = math.sqrt(abar[t]) * image + math.sqrt(1 - abar[t]) * noise
        alpha = abar[t] / abar[u]
        beta = 1 - alpha
        mean = math.sqrt(abar[u]) * beta / (1 - abar[t]) * image
        mean = mean + math.sqrt(alpha) * (1 - abar[u]) / (1 - abar[t]) * state
        spread = beta * ((1 - abar[u]) / (1 - abar[t]) if variance == "posterior" else 1)
        fresh = torch.randn(state.shape, generator=generator(4), dtype=torch.float64)
        expected = mean + (math.sqrt(spread) * fresh if u > 0 else 0)
        found = process.reverse_step(state, t, u, noise, generator(4), "ancestral")
        assert torch.allclose(found, expected, atol=1e-8)


@pytest.mark.parametrize("schedule", ["linear", "squaredcos_cap_v2"])
def test_diffusers_takes_the_same_steps(schedule):
    diffusers = pytest.importorskip("diffusers")
    ours = {"linear": "linear", "squaredcos_cap_v2": "cosine"}[schedule]
    process, steps = DDPM(shape=(1, 2, 2), steps=1000, schedule=ours), 1000
    options = {"num_train_timesteps": steps, "beta_schedule": schedule, "clip_sample": True}
    state = process.prior(2, generator()).double()
    noise = torch.randn(state.shape, generator=generator(1), dtype=torch.float64)
    ddim = diffusers.DDIMScheduler(**options, timestep_spacing="trailing")
    ddpm = diffusers.DDPMScheduler(**options, timestep_spacing="trailing")
    for stride, starts in ((1, (1000, 700, 50, 2, 1)), (20, (1000, 700, 40, 20))):
        for theirs in (ddim, ddpm):
            theirs.set_timesteps(steps // stride)
        for t in starts:
            found = process.reverse_step(state, t, t - stride, noise, generator(), "ddim")
            there = ddim.step(noise, t - 1, state, use_clipped_model_output=True).prev_sample
            assert torch.allclose(found, there, atol=2e-4), (t, stride)
            found = process.reverse_step(state, t, t - stride, noise, generator(2))
            there = ddpm.step(noise, t - 1, state, generator=generator(2)).prev_sample
            assert torch.allclose(found, there, atol=2e-4), (t, stride)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schedule": "square"}, r"schedule must be one of \('linear', 'cosine'\), got 'square'"),
        ({"variance": "none"}, r"variance must be one of \('posterior', 'analytic', 'forward'\)"),
        ({"schedule": "cosine", "beta_range": (0.1, 0.2)}, "but schedule is 'cosine'"),
    ],
)
def test_unknown_choices_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        DDPM(shape=(1, 4, 4), steps=10, **change)


@pytest.mark.parametrize(
    ("evaluations", "asked"),
    [
        (1, (40,)),
        (2, (40, 1)),
        (3, (40, 1, 1)),
        (4, (40, 21, 1, 1)),
        (5, (40, 21, 21, 1, 1)),
        (8, (40, 30, 21, 21, 11, 11, 1, 1)),
    ],
)
def test_heun_asks_twice_where_it_can_and_uses_its_budget_up(evaluations, asked):
    process = DDPM(shape=(1, 1, 1), steps=40)
    assert process.step_subset(evaluations, "heun") == asked
    assert len(set(process.step_subset(evaluations, "ddim"))) == evaluations
