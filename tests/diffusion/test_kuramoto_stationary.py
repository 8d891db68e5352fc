"""K7 and K8: the law that phases come to, in continuous time and in steps."""

import math

import pytest
import torch
from scipy import stats

from kod_bench.diffusion import KuramotoDiffusion
from kod_bench.diffusion.circle import bessel_ratio, wrap, wrapped_normal_log_density
from kod_bench.diffusion.kuramoto_stationary import self_consistent_order, stationary_modes
from kod_bench.diffusion.phase_flow import drift
from tests.diffusion.kuramoto_cases import generator


def test_k7_reference_alone_leads_to_von_mises():
    reference, diffusion, step = 0.045, 0.05, 0.25
    rng = generator()
    theta = 6 * torch.rand(100_000, 1, 1, 1, generator=rng) - 3
    for _ in range(400):
        noise = torch.randn(theta.shape, generator=rng)
        pull = drift(
            theta,
            coupling=0.0,
            reference=reference * step,
            reference_phase=0.0,
            mean_field=None,
        )
        theta = wrap(theta + pull + math.sqrt(2 * diffusion * step) * noise)
    expected = self_consistent_order(0.0, reference, diffusion)
    assert theta.cos().mean().item() == pytest.approx(expected, rel=0.02)
    assert abs(theta.sin().mean().item()) < 0.01


def test_k8_self_consistent_order_matches_the_authors_log():
    log = [
        (0.2, 0.25, 0.1, 0.881, 0.87),
        (0.1, 0.5, 0.1, 0.769, 0.76),
        (0.04, 1.5, 0.1, 0.645, 0.65),
        (0.03, 1.5, 0.1, 0.516, 0.50),
        (0.02, 1.5, 0.07, 0.494, 0.50),
    ]
    for coupling, ratio, noise, predicted, logged in log:
        order = self_consistent_order(coupling, ratio * coupling, noise / 2)
        assert order == pytest.approx(predicted, abs=5e-4)
        assert order == pytest.approx(logged, abs=0.017)


def test_order_below_and_above_the_critical_coupling():
    assert self_consistent_order(0.09, 0.0, 0.05) == pytest.approx(0, abs=1e-10)
    for diffusion in (0.05, *(0.0005 * i for i in range(1, 200))):
        critical = self_consistent_order(2 * diffusion, 0.0, diffusion)
        assert critical == pytest.approx(0, abs=1e-5)
    assert self_consistent_order(0.2, 0.0, 0.05) > 0.7
    assert self_consistent_order(0.0, 0.0, 0.05) == 0
    assert self_consistent_order(1.0, 100.0, 1e-3) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("coupling", [0.0, 1e-3, 0.05, 0.0999, 0.11, 0.3, 5.0, 1e4])
@pytest.mark.parametrize("reference", [0.0, 1e-9, 0.045, 2.0, 1e5])
def test_order_is_the_largest_solution(coupling, reference):
    order = self_consistent_order(coupling, reference, 0.05)
    candidates = torch.linspace(0, 1, 100_001, dtype=torch.float64)
    above = bessel_ratio((coupling * candidates + reference) / 0.05) - candidates
    assert order == pytest.approx(candidates[above >= 0].max().item(), abs=1.1e-5)


#: r of the discrete law without coupling, by T; the von Mises law has 0.410 for all of them.
FLATTER = {100: 0.400, 25: 0.372, 10: 0.314, 5: 0.222}


@pytest.mark.parametrize("steps", FLATTER)
def test_large_steps_come_to_a_flatter_law(steps):
    process = KuramotoDiffusion(shape=(1, 64, 64), steps=steps, coupling="none")
    assert process.terminal_order == pytest.approx(0.410, abs=5e-4)
    modes = stationary_modes(0.0, process.reference_strength[steps], process.noise_std[steps] ** 2)
    assert modes[1].item() == pytest.approx(FLATTER[steps], abs=6e-4)
    drawn = process.prior(40, generator(), "stationary")
    assert drawn.cos().mean().item() == pytest.approx(FLATTER[steps], abs=0.005)


@pytest.mark.parametrize("steps", [5, 25])
@pytest.mark.parametrize("coupling", ["global", "local", "none"])
@pytest.mark.parametrize("change", [{}, {"coupling_ratio": 0.8}, {"reference_phase": 1.0}])
def test_the_stationary_prior_is_where_the_last_step_leads(steps, coupling, change):
    if coupling == "none" and "coupling_ratio" in change:
        change = {"reference_ratio": 1.2}
    process = KuramotoDiffusion(
        shape=(1, 64, 64), steps=steps, coupling=coupling, neighbourhood_radius=20, **change
    )
    rng = generator()
    state = process.prior(4, rng, "von-mises")
    for _ in range(40 if steps == 25 else 12):
        state = process.forward_step(state, steps, rng)
    drawn = process.prior(4, rng, "stationary")
    one, other = (wrap(x - process.reference_phase).flatten().numpy() for x in (state, drawn))
    assert stats.ks_2samp(one, other).statistic < 0.022
    away = stats.ks_2samp(one, process.prior(4, rng, "von-mises").flatten().numpy())
    if steps == 5:
        assert away.statistic > 0.05


def test_a_step_leaves_its_stationary_law_as_it_is():
    # By quadrature on a fine grid, of strong pulls too.
    nodes = 3000
    angle = (torch.arange(nodes, dtype=torch.float64) + 0.5) * (2 * math.pi / nodes) - math.pi
    for coupling, reference, variance in ((0.1, 0.2, 0.3), (1.2, 0.9, 2.0), (0.4, 0.0, 0.1)):
        modes = stationary_modes(coupling, reference, variance)
        number = torch.arange(1, len(modes), dtype=torch.float64)
        density = 1 + 2 * torch.cos(angle.unsqueeze(1) * number) @ modes[1:]
        density = density / (2 * math.pi)
        pull = coupling * modes[1].item() + reference
        std = torch.tensor(math.sqrt(variance), dtype=torch.float64)
        moved = angle.unsqueeze(1) - (angle - pull * angle.sin())
        kernel = wrapped_normal_log_density(moved, std).exp()
        after = kernel @ density * (2 * math.pi / nodes)
        assert (after - density).abs().max() < 1e-10


def test_short_steps_come_to_von_mises():
    for coupling, reference in ((0.3, 0.45), (1.4, 0.0), (0.9, 0.0), (0.0, 3.0)):
        variance = 2e-3
        modes = stationary_modes(coupling * variance, reference * variance, variance)
        order = self_consistent_order(coupling, reference, 0.5)
        assert modes[1].item() == pytest.approx(order, abs=2e-3)
    assert stationary_modes(0.0, 1e-3, 1e-12) is None
    process = KuramotoDiffusion(
        shape=(1, 8, 8), steps=2, coupling="none", noise_range=(1e-12, 1e-12), reference_ratio=0.1
    )
    assert torch.isfinite(process.prior(3, generator(), "stationary")).all()
