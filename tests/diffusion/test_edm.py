"""EDM: the algebra of its preconditioning, its levels, and the order of its sampler."""

import math
from itertools import islice, pairwise

import pytest
import torch
from scipy import stats

from kod_bench.diffusion import EDM, sample
from kod_bench.diffusion.edm import log_normal_shares, rho_sigmas


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def make(steps=64, **parameters):
    return EDM(shape=(1, 4, 4), steps=steps, **{"data_std": 0.5, **parameters})


def test_the_levels_are_the_papers():
    sigma = rho_sigmas(0.002, 80, 7, 18).flip(0)
    expected = [
        (80 ** (1 / 7) + i / 17 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7 for i in range(18)
    ]
    assert torch.allclose(sigma, torch.tensor(expected, dtype=torch.float64), rtol=1e-12)
    assert rho_sigmas(0.002, 80, 7, 1).item() == pytest.approx(80)


@pytest.mark.parametrize("sampler", ["ancestral", "ddim", "heun"])
def test_jumps_take_the_levels_of_a_sampling_in_as_few(sampler):
    process = make(steps=103)
    # 18 jumps: 102 is a multiple of 17.
    evaluations = 35 if sampler == "heun" else 18
    steps = sorted(set(process.step_subset(evaluations, sampler)))
    levels = process.sigma[torch.tensor(steps) - 1]
    assert torch.allclose(levels, rho_sigmas(0.002, 80, 7, 18), rtol=1e-9)


def test_the_state_and_the_target_are_those_of_the_preconditioning():
    # Equations 7 and 8, and table 1, written out.
    process = make(data_std=0.4)
    images = torch.rand(16, 1, 4, 4, generator=generator(1), dtype=torch.float64) * 2 - 1
    for batch in islice(process.training_batches(lambda n: images[:n], 16, generator()), 20):
        sigma = process.sigma[batch.step - 1].view(-1, 1, 1, 1)
        c_skip = 0.4**2 / (sigma**2 + 0.4**2)
        c_out = sigma * 0.4 / (0.4**2 + sigma**2).sqrt()
        c_in = 1 / (0.4**2 + sigma**2).sqrt()
        noisy = batch.state / c_in
        assert torch.allclose(batch.target, (images - c_skip * noisy) / c_out, atol=1e-9)
        weight = (sigma**2 + 0.4**2) / (sigma * 0.4) ** 2
        assert torch.allclose(weight * c_out**2, batch.weight.double())
        for i in (0, 7):
            step = int(batch.step[i])
            answer = torch.randn(1, 1, 4, 4, generator=generator(2), dtype=torch.float64)
            denoised = process.image_of(batch.state[i : i + 1], step, answer)
            expected = c_skip[i] * noisy[i] + c_out[i] * answer
            assert torch.allclose(denoised, expected, atol=1e-9)


def test_inputs_and_targets_have_variance_one_at_every_level():
    process = make(steps=8, data_std=None, uniform_share=1.0)

    def source(number):
        return 0.7 * (torch.rand(number, 1, 4, 4, generator=rng) * 2 - 1) + 0.2

    rng = generator(1)
    process.fit(source, generator())
    rms = math.sqrt(0.49 / 3 + 0.04)
    assert process.data_std == pytest.approx(rms, rel=0.02)
    found = {}
    for batch in islice(process.training_batches(source, 500, generator(2)), 20):
        for t in range(1, 9):
            here = batch.step == t
            found.setdefault(t, []).append((batch.state[here], batch.target[here]))
    for pairs in found.values():
        for values in zip(*pairs, strict=True):
            assert torch.cat(values).square().mean().item() == pytest.approx(1, abs=0.03)


def test_a_given_spread_is_not_measured():
    process = make(data_std=0.3)
    process.fit(lambda number: torch.ones(number, 1, 4, 4), generator())
    assert process.data_std == 0.3
    gray = make(data_std=None)
    gray.fit(lambda number: torch.zeros(number, 1, 4, 4), generator())
    assert torch.isfinite(gray.encode(torch.zeros(1, 1, 4, 4))).all()


def test_training_levels_are_log_normal():
    process, number = make(steps=1000, uniform_share=0.0), 20_000
    steps = process.draw_steps(number, generator())
    # So many levels are nearly continuous; the ends of the range hold what lies beyond.
    levels = process.sigma[steps - 1].log()
    inside = (steps > 1) & (steps < 1000)
    assert inside.float().mean() > 0.999
    assert stats.kstest(levels[inside].numpy(), stats.norm(-1.2, 1.2).cdf).statistic < 0.015
    assert log_normal_shares(process.sigma, -1.2, 1.2).sum().item() == pytest.approx(1)
    assert (log_normal_shares(process.sigma, -1.2, 1.2) > 0).all()
    assert log_normal_shares(process.sigma[:1], -1.2, 1.2).item() == 1
    half = make(steps=10, uniform_share=1.0).draw_steps(number, generator())
    assert stats.chisquare(half.bincount(minlength=11)[1:].numpy()).pvalue > 0.01


class GaussianData:
    """Images of independent pixels N(0.1, 0.15^2): the best D is linear, the flow in closed form.

    Along dy / d sigma = (y - D) / sigma, y - m is proportional to sqrt(v + sigma^2).
    """

    mean, variance = 0.1, 0.15**2

    def __init__(self, steps):
        self.process = EDM(shape=(1, 4, 4), steps=steps, sigma_max=20, data_std=0.5)

    def predict(self, state, step):
        process = self.process
        sigma = process.sigma[step - 1].view(-1, 1, 1, 1)
        signal = process.signal.values[step - 1].view(-1, 1, 1, 1)
        noisy = state.double() / signal
        share = self.variance / (self.variance + sigma**2)
        best = self.mean + share * (noisy - self.mean)
        s = process.data_std
        skip, out = s**2 / (sigma**2 + s**2), sigma * s / (sigma**2 + s**2).sqrt()
        return (best - skip * noisy) / out

    def start(self, number):
        """Ends of the forward process."""
        noise = torch.randn(number, 1, 4, 4, generator=generator(3), dtype=torch.float64)
        sigma, signal = self.process.sigma[-1], self.process.signal.values[-1]
        return signal * (self.mean + (self.variance + sigma**2).sqrt() * noise)

    def error(self, sampler, jumps):
        """Largest error at the last level but one, t = 1, where every jump is corrected."""
        states = self.start(8)
        noisy = states / self.process.signal.values[-1]
        first, last = self.process.sigma[[-1, 0]]
        ratio = ((self.variance + last**2) / (self.variance + first**2)).sqrt()
        exact = self.mean + ratio * (noisy - self.mean)
        evaluations = 2 * jumps + 1 if sampler == "heun" else jumps + 1
        reached = {}
        sample(
            self.process,
            self.predict,
            8,
            generator(),
            sampler=sampler,
            evaluations=evaluations,
            start=states,
            on_step=reached.__setitem__,
        )
        found = reached[1] / self.process.signal.values[0]
        return (found - exact).abs().max().item()


@pytest.mark.parametrize(("sampler", "order"), [("ddim", 1), ("heun", 2)])
def test_the_error_falls_with_the_order_of_the_sampler(sampler, order):
    data = GaussianData(257)
    errors = [data.error(sampler, jumps) for jumps in (32, 64, 128)]
    for before, after in pairwise(errors):
        assert math.log2(before / after) == pytest.approx(order, abs=0.2)


@pytest.mark.parametrize(
    ("sampler", "evaluations"), [("heun", 65), ("heun", 64), ("ddim", 200), ("ancestral", 257)]
)
def test_the_exact_score_recovers_a_normal_law(sampler, evaluations):
    data = GaussianData(257)
    drawn = sample(
        data.process,
        data.predict,
        1000,
        generator(4),
        sampler=sampler,
        evaluations=evaluations,
        start=data.process.prior(1000, generator(4)),
    )
    values = drawn.double().flatten()
    assert values.mean().item() == pytest.approx(data.mean, abs=0.02)
    assert values.std().item() == pytest.approx(math.sqrt(data.variance), rel=0.03)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"sigma_min": 0.0}, "sigma_min must lie in"),
        ({"sigma_max": 0.001}, "sigma_max must lie in"),
        ({"rho": -1.0}, "rho must lie in"),
        ({"data_std": 0.0}, "data_std must lie in"),
        ({"log_noise_std": 0.0}, "log_noise_std must lie in"),
        ({"uniform_share": 1.5}, "uniform_share must lie in"),
    ],
)
def test_impossible_values_are_refused(parameters, message):
    with pytest.raises(ValueError, match=message):
        make(**parameters)
