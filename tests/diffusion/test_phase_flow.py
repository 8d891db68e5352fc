"""K1, K2 and K4 to K6: identities of the motion of coupled phases."""

import pytest
import torch

from kod_bench.diffusion.circle import circular_mean, order_parameter, wrap
from kod_bench.diffusion.phase_flow import (
    LocalMeanField,
    box_matrix,
    drift,
    gaussian_matrix,
    global_mean_field,
)
from tests.diffusion.kuramoto_cases import phases


def coupling_drift(theta, mean_field, strength=1.0):
    return drift(
        theta, coupling=strength, reference=0.0, reference_phase=0.0, mean_field=mean_field
    )


def test_k1_mean_field_is_the_pairwise_sum():
    theta = phases(2, 3, 4, 5)
    flat = theta.flatten(1)
    pairs = torch.sin(flat.unsqueeze(1) - flat.unsqueeze(2)).mean(2).view_as(theta)
    found = coupling_drift(theta, global_mean_field)
    assert (found - pairs).abs().max() < 1e-15
    assert found.sum((1, 2, 3)).abs().max() < 1e-14


@pytest.mark.parametrize(("height", "width", "radius"), [(7, 5, 1), (6, 9, 2), (3, 4, 5)])
def test_k2_local_drift_is_the_neighbour_sum(height, width, radius):
    theta = phases(2, 3, height, width)
    total = torch.zeros_like(theta)
    for down in range(-radius, radius + 1):
        for right in range(-radius, radius + 1):
            total += torch.sin(theta.roll((down, right), (2, 3)) - theta)
    found = coupling_drift(theta, LocalMeanField(height, width, radius))
    assert (found - total / (2 * radius + 1) ** 2).abs().max() < 1e-15


def test_box_matrix_averages_and_is_symmetric():
    for size, radius in [(8, 0), (8, 2), (5, 7)]:
        matrix = box_matrix(size, radius)
        assert torch.equal(matrix, matrix.T)
        assert torch.allclose(matrix.sum(1), torch.ones(size, dtype=torch.float64))
    assert torch.equal(box_matrix(4, 0), torch.eye(4, dtype=torch.float64))


def test_gaussian_matrix_has_its_standard_deviation():
    for size, radius in [(64, 3), (5, 2), (6, 0)]:
        matrix = gaussian_matrix(size, radius)
        assert torch.allclose(matrix, matrix.T, atol=1e-16)
        assert torch.allclose(matrix.sum(1), torch.ones(size, dtype=torch.float64))
        assert torch.allclose(matrix[0].roll(1), matrix[1], atol=1e-16)
    offset = torch.arange(64) - 32
    spread = (gaussian_matrix(64, 3)[32] * offset.square()).sum().sqrt().item()
    assert spread == pytest.approx(3, rel=1e-6)
    assert torch.equal(gaussian_matrix(4, 0), torch.eye(4, dtype=torch.float64))


def test_gaussian_field_is_the_weighted_neighbour_sum():
    theta = phases(1, 1, 30, 1)
    offsets = torch.arange(-6, 7)
    weights = torch.exp(-0.5 * offsets.double().square())
    weights /= weights.sum()
    expected = sum(
        weight * torch.sin(theta.roll(int(d), 2) - theta)
        for weight, d in zip(weights, offsets, strict=True)
    )
    found = coupling_drift(theta, LocalMeanField(30, 1, 1, "gaussian"))
    assert (found - expected).abs().max() < 1e-15


@pytest.mark.parametrize(
    "mean_field",
    [global_mean_field, LocalMeanField(6, 6, 2), LocalMeanField(6, 6, 1, "gaussian")],
)
def test_k2_turning_all_phases_turns_nothing(mean_field):
    theta = phases(2, 1, 6, 6)
    turned = coupling_drift(wrap(theta + 2.0), mean_field)
    assert (turned - coupling_drift(theta, mean_field)).abs().max() < 1e-15


def test_reference_turns_with_its_phase():
    theta = phases(2, 1, 3, 3)
    pull = drift(theta, coupling=0.0, reference=0.7, reference_phase=0.4, mean_field=None)
    assert torch.allclose(pull, 0.7 * torch.sin(0.4 - theta), atol=1e-15)


def test_strengths_may_differ_between_samples():
    theta = phases(3, 1, 4, 4)
    coupling = torch.tensor([0.0, 0.1, 0.5], dtype=torch.float64).view(3, 1, 1, 1)
    together = drift(
        theta,
        coupling=coupling,
        reference=2 * coupling,
        reference_phase=0.3,
        mean_field=global_mean_field,
    )
    for index, strength in enumerate((0.0, 0.1, 0.5)):
        alone = drift(
            theta[index : index + 1],
            coupling=strength,
            reference=2 * strength,
            reference_phase=0.3,
            mean_field=global_mean_field,
        )
        assert torch.allclose(together[index : index + 1], alone, atol=1e-15)


def test_k4_coupling_climbs_the_order_parameter():
    theta = phases(1, 1, 3, 4).requires_grad_()
    height = theta.numel() * order_parameter(theta).square() / 2
    (gradient,) = torch.autograd.grad(height.sum(), theta)
    assert (coupling_drift(theta, global_mean_field) - gradient).abs().max() < 1e-14


@pytest.mark.parametrize("reference", [0.0, 1.5])
def test_k5_divergence(reference):
    theta, phase = phases(1, 1, 2, 4), 0.3

    def moved(flat):
        return drift(
            flat.view_as(theta),
            coupling=1.0,
            reference=reference,
            reference_phase=phase,
            mean_field=global_mean_field,
        ).flatten()

    jacobian = torch.autograd.functional.jacobian(moved, theta.flatten())
    order = order_parameter(theta).item()
    expected = 1 - theta.numel() * order**2
    expected -= reference * torch.cos(phase - theta).sum().item()
    assert jacobian.trace().item() == pytest.approx(expected, abs=1e-13)


def test_k6_order_rises_at_the_predicted_rate_without_noise():
    theta, strength, step = phases(1, 1, 16, 16), 0.5, 1e-3
    for _ in range(200):
        order, psi = order_parameter(theta), circular_mean(theta)
        second = torch.complex((2 * theta).cos().mean(), (2 * theta).sin().mean())
        turned = (second * torch.exp(-2j * psi)).real
        rate = (strength * order / 2 * (1 - turned)).item()
        theta = theta + step * coupling_drift(theta, global_mean_field, strength)
        rise = (order_parameter(theta) - order).item() / step
        assert rate >= 0
        assert rise == pytest.approx(rate, abs=2e-4)
