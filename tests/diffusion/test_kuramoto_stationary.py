"""K7 and K8: the law that phases come to."""

import math

import pytest
import torch

from kod_bench.diffusion.circle import (
    bessel_ratio,
    wrap,
)
from kod_bench.diffusion.kuramoto_stationary import self_consistent_order
from kod_bench.diffusion.phase_flow import (
    drift,
)
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
