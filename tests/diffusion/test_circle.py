import math

import pytest
import torch
from scipy import integrate, special, stats

from kod_bench.diffusion import circle

GRID = torch.linspace(-math.pi, math.pi, 4097, dtype=torch.float64)[:-1]
CELL = 2 * math.pi / 4096


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_wrap_lands_in_the_half_open_interval(dtype):
    tiny = torch.finfo(dtype).eps
    angles = torch.cat(
        [
            torch.randn(10_000, generator=generator(), dtype=dtype) * 20,
            torch.tensor([math.pi, -math.pi, 3 * math.pi, 0.0, -math.pi - tiny], dtype=dtype),
            torch.nextafter(
                torch.tensor([-math.pi, math.pi], dtype=dtype), torch.tensor(-9.0, dtype=dtype)
            ),
        ]
    )
    wrapped = circle.wrap(angles)
    assert wrapped.dtype == dtype
    assert (wrapped >= -math.pi).all()
    assert (wrapped < math.pi).all()
    assert torch.allclose(wrapped.cos(), angles.cos(), atol=40 * tiny)
    assert torch.allclose(wrapped.sin(), angles.sin(), atol=40 * tiny)


def test_wrap_leaves_wrapped_angles_alone():
    angles = torch.rand(10_000, generator=generator()) * 6 - 3
    assert torch.equal(circle.wrap(angles), angles)


def test_circular_mean_and_order_parameter():
    angles = torch.tensor([3.0, -3.0]).view(1, 1, 1, 2)  # across the seam, mean pi and not 0
    assert abs(abs(circle.circular_mean(angles).item()) - math.pi) < 1e-6
    assert circle.order_parameter(angles).item() == pytest.approx(math.cos(math.pi - 3), abs=1e-6)
    assert circle.order_parameter(torch.full((5, 3, 4, 4), 1.0)).shape == (5,)
    assert circle.order_parameter(GRID, dim=0).item() < 1e-14


@pytest.mark.parametrize("std", [0.01, 0.1, 0.3, 1.0, 2.0])
def test_k3_wrapped_normal_density_and_score(std):
    width = torch.tensor(std, dtype=torch.float64)
    density = circle.wrapped_normal_log_density(GRID, width).exp()
    score = circle.wrapped_normal_score(GRID, width)
    assert (density.sum() * CELL).item() == pytest.approx(1, abs=1e-13)
    assert abs((density * score).sum().item() * CELL) < 1e-12
    fisher = (density * score.square()).sum().item() * CELL
    expected = {1.0: 0.949, 2.0: 0.0373}.get(std, 1 / std**2)
    assert fisher == pytest.approx(expected, rel=1e-3 if std >= 1 else 1e-9)


def test_k3_density_agrees_with_its_fourier_series():
    for std in (0.5, 1.0, 2.0, circle.MAX_WRAPPED_STD):
        harmonics = torch.arange(1, 60, dtype=torch.float64)
        terms = torch.exp(-0.5 * (harmonics * std).square())
        series = (1 + 2 * (terms * torch.cos(GRID.unsqueeze(1) * harmonics)).sum(1)) / (2 * math.pi)
        density = circle.wrapped_normal_log_density(GRID, torch.tensor(std).double()).exp()
        assert (density - series).abs().max() < (1e-14 if std <= 2 else 1e-5)


@pytest.mark.parametrize("std", [0.01, 0.3, 1.0, 3.0])
def test_k3_score_is_the_derivative_of_the_log_density(std):
    angle = (GRID[1:] + 0).requires_grad_()  # at -pi itself wrap has a jump
    width = torch.tensor(std, dtype=torch.float64)
    log_density = circle.wrapped_normal_log_density(angle, width)
    (derivative,) = torch.autograd.grad(log_density.sum(), angle)
    score = circle.wrapped_normal_score(angle, width)
    assert torch.allclose(score, derivative, rtol=1e-9, atol=1e-9)


def test_k3_score_vanishes_for_wide_steps_and_stays_finite_for_narrow_ones():
    wide = torch.tensor(circle.MAX_WRAPPED_STD, dtype=torch.float64)
    assert circle.wrapped_normal_score(GRID, wide).abs().max() < 2e-3
    angles, narrow = GRID.float(), torch.tensor(1e-4)
    score = circle.wrapped_normal_score(angles, narrow)
    assert score[0] == 0  # opposite the mean both ways round are equally far
    assert torch.allclose(score[1:], -angles[1:] / narrow.square(), rtol=1e-6)


def test_score_takes_one_width_per_sample():
    angles = torch.randn(3, 2, 4, 4, generator=generator())
    widths = torch.tensor([0.1, 0.5, 1.5]).view(3, 1, 1, 1)
    together = circle.wrapped_normal_score(angles, widths)
    for index in range(3):
        assert torch.equal(
            together[index], circle.wrapped_normal_score(angles[index], widths[index])
        )


def test_bessel_ratio():
    kappa = torch.tensor([0.0, 1e-3, 0.9, 1.209, 30.0, 1e4, 1e8], dtype=torch.float64)
    expected = special.ive(1, kappa.numpy()) / special.ive(0, kappa.numpy())
    assert torch.allclose(circle.bessel_ratio(kappa), torch.from_numpy(expected), rtol=1e-14)


@pytest.mark.parametrize("kappa", [0.0, 1e-6, 0.8, 1.2, 50.0, 1e4, 1e8])
def test_von_mises_quantile_is_exact_to_one_in_a_million(kappa):
    probability = torch.linspace(0.001, 0.999, 41, dtype=torch.float64)
    angles = circle.von_mises_quantile(probability, kappa).tolist()

    def density(x):
        return math.exp(-2 * kappa * math.sin(x / 2) ** 2)

    end = min(math.pi, 12 / math.sqrt(kappa)) if kappa else math.pi
    half = integrate.quad(density, 0, end, epsabs=0, epsrel=1e-11)[0]
    for p, angle in zip(probability.tolist(), angles, strict=True):
        mass = integrate.quad(density, 0, angle, epsabs=0, epsrel=1e-11)[0]
        assert 0.5 + mass / (2 * half) == pytest.approx(p, abs=1e-6)


def test_von_mises_quantile_at_the_ends():
    ends = circle.von_mises_quantile(torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64), 0.0)
    assert torch.allclose(ends, torch.tensor([-math.pi, 0, math.pi], dtype=torch.float64))


@pytest.mark.parametrize("kappa", [0.0, 1.2, 1e4])
def test_sample_von_mises_follows_its_law(kappa):
    mean = 2.5
    draws = circle.sample_von_mises(mean, kappa, (50_000,), generator())
    assert draws.dtype == torch.float32
    assert (draws >= -math.pi).all()
    assert (draws < math.pi).all()
    centred = circle.wrap(draws.double() - mean).numpy()
    law = stats.uniform(-math.pi, 2 * math.pi) if kappa == 0 else stats.vonmises(kappa)
    assert stats.kstest(centred, law.cdf).pvalue > 0.01


def test_sample_von_mises_broadcasts_its_mean_and_repeats_itself():
    mean = torch.tensor([0.0, 3.0]).view(2, 1)
    first = circle.sample_von_mises(mean, 1e4, (2, 1000), generator(7))
    assert torch.equal(first, circle.sample_von_mises(mean, 1e4, (2, 1000), generator(7)))
    assert torch.allclose(circle.circular_mean(first, dim=1), mean.squeeze(1), atol=2e-3)


@pytest.mark.parametrize("kappa", [-1.0, math.nan, math.inf])
def test_sample_von_mises_refuses_impossible_concentrations(kappa):
    with pytest.raises(ValueError, match="concentration must be finite"):
        circle.sample_von_mises(0.0, kappa, (3,), generator())


def test_bessel_ratio_has_an_inverse():
    order = torch.tensor([0, 1e-9, 1e-3, 0.3, 0.53, 0.8, 0.99, 0.99999], dtype=torch.float64)
    found = circle.bessel_ratio(circle.bessel_ratio_inverse(order))
    assert (found - order).abs().max() < 1e-14
    for wrong in (-0.1, 1.0, math.nan):
        with pytest.raises(ValueError, match=r"must lie in \[0, 1\)"):
            circle.bessel_ratio_inverse(torch.tensor([0.5, wrong]))


def test_each_image_may_have_its_own_concentration():
    rng = generator()
    uniform = torch.rand(4, 3, 5, 6, generator=rng, dtype=torch.float64)
    concentration = 20 * torch.rand(4, 3, generator=rng, dtype=torch.float64)
    concentration[0, 0] = 0
    together = circle.von_mises_quantile(uniform, concentration)
    for i in range(4):
        for j in range(3):
            alone = circle.von_mises_quantile(uniform[i, j], concentration[i, j].item())
            assert torch.allclose(together[i, j], alone, atol=2e-5)
    drawn = circle.sample_von_mises(0.3, concentration, (4, 3, 50, 60), rng)
    order = (drawn - 0.3).cos().mean((2, 3))
    assert torch.allclose(order.double(), circle.bessel_ratio(concentration), atol=0.04)
    with pytest.raises(ValueError, match=r"concentration \(3,\) must have the leading dimensions"):
        circle.von_mises_quantile(uniform, concentration[0])
    with pytest.raises(ValueError, match="concentration must be finite and at least 0"):
        circle.von_mises_quantile(uniform, -concentration - 1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("std", [0.02, 0.15, 0.3, 0.7, 1.0, 1.6, 3.0, circle.MAX_WRAPPED_STD])
def test_images_are_summed_as_if_one_by_one(std, dtype):
    """One exponential makes all of them: against the sums that say what they are."""
    angle = GRID.to(dtype)
    width = torch.full((2, 1), std, dtype=dtype)
    numbers = torch.arange(-3, 4, dtype=torch.float64).view(-1, 1)
    away = angle.double() + 2 * math.pi * numbers
    log_each = -0.5 * away.square() / std**2 - math.log(std * math.sqrt(2 * math.pi))
    log_density = torch.logsumexp(log_each, 0)
    score = -(torch.softmax(log_each, 0) * away).sum(0) / std**2
    rounding = 30 * torch.finfo(dtype).eps
    found = circle.wrapped_normal_log_density(angle, width).double()
    assert found.shape == (2, len(GRID))
    assert (found - log_density).abs().max() < rounding * log_density.abs().max()
    found = circle.wrapped_normal_score(angle, width).double()
    # Where two images are alike the score turns around within std^2 / pi of an angle, rounded too.
    inside = (angle.double().abs() < math.pi - 0.01) | (torch.tensor(std) > 0.3)
    scale = math.pi / std**2 * max(1.0, math.pi / std**2)
    assert (found - score)[:, inside].abs().max() < rounding * scale


def test_nothing_underflows_to_numbers_that_are_slow():
    """Denormal numbers cost a CPU ten times as much."""
    tiny = torch.finfo(torch.float32).tiny
    for std in (0.02, 0.3, 0.5, 0.7, 1.0, 1.5):
        for found in circle._images(GRID.float(), torch.tensor(std).square()):
            assert not ((found != 0) & (found.abs() < tiny)).any()
