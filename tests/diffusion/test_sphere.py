"""Identities of the sphere's transforms, of the noise they induce, and of diffusion under it."""

import math

import numpy as np
import pytest
import torch
from scipy.special import sph_harm_y

from kod_bench.diffusion import SphereDiffusion, sample
from kod_bench.diffusion.spherical_harmonics import (
    angular_power,
    cholesky_by_order,
    real_harmonics,
    sphere_grid,
)

DEGREES = [1, 2, 4, 8, 16]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def coarsest(degrees):
    """The grid of the paper: as many longitudes as exactness needs."""
    return sphere_grid(degrees, 2 * degrees - 1)


def induced_by_complex_harmonics(grid):
    """Gamma = Y^H W^2 Y with complex harmonics, (L^2, L^2) complex."""
    columns = []
    theta = grid.colatitudes.repeat_interleave(len(grid.longitudes)).numpy()
    phi = grid.longitudes.repeat(grid.degrees).numpy()
    for degree, order in zip(grid.degree.tolist(), grid.order.tolist(), strict=True):
        columns.append(sph_harm_y(degree, order, theta, phi))
    weighted = np.stack(columns, 1) * grid.weights.numpy()[:, None]
    return weighted.conj().T @ weighted


@pytest.mark.parametrize("longitudes", [-1, 0, 5])
@pytest.mark.parametrize("degrees", DEGREES)
def test_s1_weights_measure_the_sphere_and_analysis_inverts_synthesis(degrees, longitudes):
    grid = sphere_grid(degrees, 2 * degrees + longitudes)
    assert grid.weights.sum().item() == pytest.approx(4 * math.pi, abs=1e-12)
    identity = torch.eye(degrees**2, dtype=torch.float64)
    assert torch.allclose(grid.analysis @ grid.synthesis, identity, atol=2e-14)


def test_the_projector_is_self_adjoint_for_the_weights_alone():
    grid = sphere_grid(6)
    project = grid.synthesis @ grid.analysis
    assert torch.allclose(project @ project, project, atol=1e-13)
    weighted = grid.weights[:, None] * project
    assert torch.allclose(weighted, weighted.mT, atol=1e-14)
    assert (project - project.mT).abs().max() > 1e-3


@pytest.mark.parametrize("degrees", DEGREES)
def test_s2_the_trace_follows_from_the_addition_theorem(degrees):
    grid = coarsest(degrees)
    expected = degrees**2 / (4 * math.pi) * grid.weights.square().sum()
    assert grid.covariance.trace().item() == pytest.approx(expected.item(), rel=1e-12)
    if degrees == 8:
        assert expected.item() == pytest.approx(7.76506340, abs=1e-8)


@pytest.mark.parametrize("degrees", [4, 8, 16])
def test_s3_noise_couples_equal_orders_and_degrees_of_one_parity(degrees):
    grid = coarsest(degrees)
    degree, order = grid.degree, grid.order
    related = (order[:, None] == order) & ((degree[:, None] + degree) % 2 == 0)
    assert grid.covariance[~related].abs().max() < 1e-15
    assert grid.covariance[related].abs().max() > 0.01
    assert np.abs(induced_by_complex_harmonics(grid).imag).max() < 1e-15


def test_s4_analysis_of_real_functions_keeps_the_reality_constraint():
    grid = coarsest(5)
    # sqrt(2) Re and Im of f_lm for m > 0 are all there is: f_l,-m = (-1)^m conj(f_lm).
    noise = torch.randn(len(grid.weights), generator=generator(), dtype=torch.float64)
    theta = grid.colatitudes.repeat_interleave(len(grid.longitudes)).numpy()
    phi = grid.longitudes.repeat(grid.degrees).numpy()
    real = grid.analysis @ noise
    for degree in range(5):
        for order in range(degree + 1):
            both = [
                (sph_harm_y(degree, m, theta, phi).conj() * (grid.weights * noise).numpy()).sum()
                for m in (order, -order)
            ]
            assert both[1] == pytest.approx((-1) ** order * both[0].conjugate(), abs=1e-14)
            centre = degree * (degree + 1)
            if order:
                # Im Y is what the real harmonic holds; the coefficient has conj(Y).
                expected = math.sqrt(2) * complex(both[0].real, -both[0].imag)
                found = complex(real[centre + order], real[centre - order])
                assert found == pytest.approx(expected, abs=1e-14)


def test_s5_white_fields_have_the_induced_covariance_and_no_isotropic_one():
    grid = coarsest(8)
    covariance, points = grid.covariance, len(grid.weights)
    noise = torch.randn(40_000, points, generator=generator(1), dtype=torch.float64)
    errors = {}
    for number in (10_000, 40_000):
        found = noise[:number] @ grid.analysis.mT
        empirical = found.mT @ found / number
        errors[number] = distance(empirical, covariance)
    assert errors[40_000] == pytest.approx(0.039, abs=0.004)
    assert errors[10_000] / errors[40_000] == pytest.approx(2, abs=0.3)
    identity = torch.eye(64, dtype=torch.float64)
    assert distance(4 * math.pi / points * identity, covariance) == pytest.approx(0.285, abs=5e-4)
    best = covariance.trace() / 64 * identity
    assert distance(best, covariance) == pytest.approx(0.252, abs=5e-4)


def distance(one, other):
    return (torch.linalg.matrix_norm(one - other) / torch.linalg.matrix_norm(other)).item()


def test_s6_equal_weights_on_a_design_are_isotropic():
    # The octahedron: six points of weight 4 pi / 6, exact to degree 3.
    half = math.pi / 2
    theta = torch.tensor([0, math.pi, half, half, half, half], dtype=torch.float64)
    phi = torch.tensor([0, 0, 0, half, 2 * half, 3 * half], dtype=torch.float64)
    harmonics = real_harmonics(2, theta, phi)
    weight = 4 * math.pi / 6
    analysis = weight * harmonics.mT
    assert torch.allclose(analysis @ analysis.mT, weight * torch.eye(4).double(), atol=1e-15)


def test_s7_noise_is_weak_near_the_poles():
    # R tends to 2 pi^2 / (L n) sin(theta) as an operator; grids finer than the harmonics show it.
    errors = []
    for finer in (1, 2, 4):
        grid = sphere_grid(8 * finer, 16 * finer - 1)
        few = grid.synthesis[:, :64]
        sine = grid.colatitudes.sin().repeat_interleave(len(grid.longitudes))
        operator = few.mT @ (grid.weights[:, None] * sine[:, None] * few)
        induced = grid.analysis[:64] @ grid.analysis[:64].mT
        scale = 2 * math.pi**2 / len(grid.weights)
        errors.append(distance(scale * operator, induced))
    assert errors[0] > 1.7 * errors[1] > 2.9 * errors[2]
    assert errors[0] < 0.12


@pytest.mark.parametrize("degrees", DEGREES)
def test_s8_the_real_covariance_is_the_complex_one_in_other_coordinates(degrees):
    grid = coarsest(degrees)
    covariance = grid.covariance
    assert torch.allclose(covariance, covariance.mT, atol=1e-15)
    assert torch.linalg.eigvalsh(covariance).min() > 0
    gamma = torch.from_numpy(induced_by_complex_harmonics(grid).real)
    order = grid.order
    for sign in (1, -1):  # cosines and sines of one m > 0: the same block, and independent
        chosen = torch.nonzero(sign * order > 0)[:, 0]
        partner = torch.nonzero(sign * order > 0)[:, 0] - 2 * order[chosen].clamp(max=0)
        block = covariance[chosen[:, None], chosen]
        assert torch.allclose(block, gamma[partner[:, None], partner], atol=1e-14)
    zero = torch.nonzero(order == 0)[:, 0]
    assert torch.allclose(covariance[zero[:, None], zero], gamma[zero[:, None], zero], atol=1e-14)
    assert degrees not in (4, 8, 16) or torch.linalg.cond(covariance).item() == pytest.approx(
        {4: 1.9, 8: 3.6, 16: 7.0}[degrees], abs=0.05
    )


@pytest.mark.parametrize("degrees", DEGREES)
def test_the_cholesky_factor_stays_within_orders(degrees):
    grid = sphere_grid(degrees)
    factor = cholesky_by_order(grid.covariance, grid.order)
    assert torch.allclose(factor @ factor.mT, grid.covariance, atol=1e-15)
    assert torch.equal(factor, factor.tril())
    assert (factor[grid.order[:, None] != grid.order] == 0).all()


def test_s9_least_squares_is_less_noisy_than_analysis():
    grid = coarsest(8)
    least = torch.linalg.inv(grid.synthesis.mT @ grid.synthesis)
    gap = grid.covariance - least
    values = torch.linalg.eigvalsh(gap)
    assert values.min() > -1e-14
    assert values.max().item() == pytest.approx(0.020, abs=5e-4)
    ratio = grid.covariance.trace() / least.trace()
    assert ratio.item() == pytest.approx(1.018, abs=5e-4)


def spectrum_covariance(grid):
    """A data covariance with the power of the degrees falling, (L^2, L^2)."""
    return torch.diag((1.0 + grid.degree).pow(-2.0).double())


def test_s10_the_spatial_score_averages_to_the_spectral_one():
    # Gaussian data C, alpha^2 C + s^2 R after noising; f_t = alpha Y u_0 + s eps on the grid.
    grid = coarsest(4)
    alpha, std = 0.8, 0.6
    data, noise = spectrum_covariance(grid), grid.covariance
    spectral = alpha**2 * data + std**2 * noise
    points = len(grid.weights)
    field = alpha**2 * grid.synthesis @ data @ grid.synthesis.mT
    field = field + std**2 * torch.eye(points, dtype=torch.float64)
    assert torch.allclose(grid.analysis @ field @ grid.analysis.mT, spectral, atol=1e-14)
    # E[F grad log p(f) | F f = u] = -F field^{-1} E[f | u], E[f | u] = field F^T spectral^{-1} u
    given = field @ grid.analysis.mT @ torch.linalg.inv(spectral)
    averaged = -grid.analysis @ torch.linalg.solve(field, given)
    exact = -noise @ torch.linalg.inv(spectral)
    assert torch.allclose(averaged, exact, atol=1e-14)
    # Pointwise it is another thing.
    f = torch.randn(points, generator=generator(2), dtype=torch.float64)
    pointwise = -grid.analysis @ torch.linalg.solve(field, f)
    assert (pointwise - exact @ grid.analysis @ f).abs().max() > 0.01
    # Out of band there is noise alone.
    outside = torch.eye(points, dtype=torch.float64) - grid.synthesis @ torch.linalg.pinv(
        grid.synthesis
    )
    score = -torch.linalg.solve(field, f)
    assert torch.allclose(outside @ score, -outside @ f / std**2, atol=1e-12)


@pytest.mark.parametrize(("steps", "bound"), [(250, 0.012), (1000, 0.011)])
def test_s11_the_reverse_sde_recovers_the_data_and_not_with_the_wrong_noise(steps, bound):
    # beta from 0.1 to 20; the law stays Gaussian: the Euler-Maruyama steps act on its covariance.
    grid = coarsest(4)
    data, induced = spectrum_covariance(grid), grid.covariance
    identity = torch.eye(16, dtype=torch.float64)
    best = induced.trace() / 16 * identity
    found = {}
    for name, used in (("R", induced), ("I", identity), ("best", best)):
        law = used.clone()
        for number in range(steps, 0, -1):
            time = number / steps
            beta = 0.1 + 19.9 * time
            kept = math.exp(-(0.1 * time + 9.95 * time**2))
            score = -torch.linalg.inv(kept * data + (1 - kept) * induced)
            move = identity + (0.5 * beta * identity + beta * used @ score) / steps
            law = move @ law @ move.mT + beta / steps * used
        found[name] = distance(law, data)
    assert found["R"] < bound
    assert found["I"] == pytest.approx(0.33, abs=0.01)
    # More than half of that is the scale of I: what is left is the shape of R.
    assert found["best"] == pytest.approx(0.14, abs=0.005)


@pytest.mark.parametrize(
    ("kernel", "objective", "sampler"),
    [
        ("vp", "spatial", "ancestral"),
        ("ve", "spectral", "ancestral"),
        ("vp", "spectral", "ddim"),
        ("ve", "spatial", "heun"),
    ],
)
def test_sampling_with_the_exact_prediction_gives_the_data(kernel, objective, sampler):
    process = SphereDiffusion(shape=(1, 4, 8), steps=300, kernel=kernel, objective=objective)
    # Small enough that nothing is clamped.
    data = 0.25**2 * spectrum_covariance(process.noise.grid) / process.noise.unit**2

    def predict(state, step):
        t = int(step[0])
        signal, std = process.signal[t], process.noise_std[t]
        total = signal**2 * data + std**2 * process.noise.covariance
        # eta = -s R grad log p, on average.
        mean = std * process.noise.covariance @ torch.linalg.inv(total)
        eta = (state.flatten(1) @ mean.float().mT).view(state.shape)
        return process._linear(process._to_prediction, eta)

    images = sample(process, predict, 4_000, generator(3), sampler=sampler)
    found = process.encode(images).double().flatten(1)
    # An ancestral step takes the image that the network believes in for the true one.
    error = distance(found.mT @ found / len(found), data)
    assert error < (0.1 if sampler == "ancestral" else 0.06), error


def test_s12_the_prior_is_invariant_under_the_forward_process():
    process = SphereDiffusion(shape=(1, 4, 8), steps=100)
    state = process.prior(40_000, generator(4))
    for step in (1, 50, 100):
        state = process.forward_step(state, step, generator(step))
        flat = state.double().flatten(1)
        assert distance(flat.mT @ flat / len(flat), process.noise.covariance) < 0.03


@pytest.mark.parametrize("objective", ["spatial", "spectral"])
def test_the_objectives_weigh_one_error_in_two_ways(objective):
    process = SphereDiffusion(shape=(1, 6, 12), steps=10, objective=objective)
    covariance = process.noise.covariance
    errors = torch.randn(5, 1, 6, 6, generator=generator(5))  # of eta
    flat = errors.double().flatten(1)
    score = torch.linalg.solve(covariance, flat.mT).mT  # e = R^{-1} (error of eta), times 1 / s
    loss = process._linear(process._to_prediction, errors).double().square().flatten(1).sum(1)
    norm = (score @ covariance * score if objective == "spatial" else score * score).sum(1)
    ratio = loss / norm
    assert torch.allclose(ratio, ratio[0].expand(5), rtol=1e-4)


def test_the_control_treats_all_coefficients_alike():
    process = SphereDiffusion(shape=(1, 6, 12), steps=10, covariance="isotropic")
    assert torch.equal(process.noise.covariance, torch.eye(36, dtype=torch.float64))
    induced = SphereDiffusion(shape=(1, 6, 12), steps=10)
    assert induced.noise.unit == process.noise.unit
    assert induced.noise.covariance.trace().item() == pytest.approx(36)


@pytest.mark.parametrize("covariance", ["induced", "isotropic"])
def test_diagnostics_are_those_of_the_noise_that_is_drawn(covariance):
    process = SphereDiffusion(shape=(1, 8, 16), steps=10, covariance=covariance)
    draws = process.prior(40_000, generator(7)).double().flatten(1)
    drawn = draws.mT @ draws / len(draws)
    white = process.noise.grid.covariance / process.noise.unit**2
    best = drawn.trace() / 64 * torch.eye(64, dtype=torch.float64)
    found = process.diagnostics()
    # Sampling adds sqrt(64 / 40,000) to the squares.
    measured = {
        "noise_from_induced": distance(drawn, white),
        "noise_from_isotropic": distance(best, drawn),
    }
    for name, value in measured.items():
        assert value == pytest.approx(math.hypot(found[name], 0.04), abs=0.01), name
    zero, far = "noise_from_induced", "noise_from_isotropic"
    if covariance == "isotropic":
        zero, far = far, zero
    assert found[zero] < 1e-12
    assert found[far] > 0.2


def test_power_spectra_are_rotation_invariant():
    # About z: the longitudes of a band-limited function move on by one.
    grid = sphere_grid(8)
    u = torch.randn(64, generator=generator(6), dtype=torch.float64)
    turned = (grid.synthesis @ u).view(8, 16).roll(3, dims=1).flatten()
    assert torch.allclose(angular_power(grid.analysis @ turned, 8), angular_power(u, 8), atol=1e-13)
    assert angular_power(torch.ones(64), 8).tolist() == [1.0] * 8


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"shape": (1, 8, 15)}, r"L colatitudes x 2 L longitudes .*, got shape \(1, 8, 15\)"),
        ({"covariance": "white"}, "covariance must be one of"),
        ({"kernel": "subvp"}, "kernel must be one of"),
        ({"objective": "both"}, "objective must be one of"),
        ({"sigma_range": (0.0, 1.0)}, "sigma_range must lie in"),
        ({"sigma_range": 5.0}, r"sigma_range must be a pair \(first, last\)"),
        ({"sigma_range": (2.0, 1.0)}, "sigma_range must lie in"),
    ],
)
def test_bad_parameters_are_refused(changed, words):
    with pytest.raises(ValueError, match=words):
        SphereDiffusion(**({"shape": (1, 8, 16), "steps": 10} | changed))


def test_too_few_longitudes_are_refused():
    with pytest.raises(ValueError, match="longitudes must be at least 15, got 14"):
        sphere_grid(8, 14)
