"""K1..K10 number the identities of the process; K12 is in tests/conformance/."""

import math
from itertools import islice

import numpy as np
import pytest
import torch
from scipy import stats

from kod_bench.diffusion import KuramotoDiffusion, released_schedule
from kod_bench.diffusion.circle import (
    bessel_ratio,
    circular_mean,
    order_parameter,
    wrap,
)
from kod_bench.diffusion.kuramoto import self_consistent_order
from kod_bench.diffusion.kuramoto_schedule import ramp
from kod_bench.diffusion.phase_flow import (
    LocalMeanField,
    box_matrix,
    drift,
    gaussian_matrix,
    global_mean_field,
)
from kod_bench.diffusion.terminal import EndStateLaw, mean_vectors


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def phases(*shape, seed=0):
    uniform = torch.rand(shape, generator=generator(seed), dtype=torch.float64)
    return (2 * uniform - 1) * math.pi


def coupling_drift(theta, mean_field, strength=1.0):
    return drift(
        theta, coupling=strength, reference=0.0, reference_phase=0.0, mean_field=mean_field
    )


class TestDrift:
    def test_k1_mean_field_is_the_pairwise_sum(self):
        theta = phases(2, 3, 4, 5)
        flat = theta.flatten(1)
        pairs = torch.sin(flat.unsqueeze(1) - flat.unsqueeze(2)).mean(2).view_as(theta)
        found = coupling_drift(theta, global_mean_field)
        assert (found - pairs).abs().max() < 1e-15
        assert found.sum((1, 2, 3)).abs().max() < 1e-14

    @pytest.mark.parametrize(("height", "width", "radius"), [(7, 5, 1), (6, 9, 2), (3, 4, 5)])
    def test_k2_local_drift_is_the_neighbour_sum(self, height, width, radius):
        theta = phases(2, 3, height, width)
        total = torch.zeros_like(theta)
        for down in range(-radius, radius + 1):
            for right in range(-radius, radius + 1):
                total += torch.sin(theta.roll((down, right), (2, 3)) - theta)
        found = coupling_drift(theta, LocalMeanField(height, width, radius))
        assert (found - total / (2 * radius + 1) ** 2).abs().max() < 1e-15

    def test_box_matrix_averages_and_is_symmetric(self):
        for size, radius in [(8, 0), (8, 2), (5, 7)]:
            matrix = box_matrix(size, radius)
            assert torch.equal(matrix, matrix.T)
            assert torch.allclose(matrix.sum(1), torch.ones(size, dtype=torch.float64))
        assert torch.equal(box_matrix(4, 0), torch.eye(4, dtype=torch.float64))

    def test_gaussian_matrix_has_its_standard_deviation(self):
        for size, radius in [(64, 3), (5, 2), (6, 0)]:
            matrix = gaussian_matrix(size, radius)
            assert torch.allclose(matrix, matrix.T, atol=1e-16)
            assert torch.allclose(matrix.sum(1), torch.ones(size, dtype=torch.float64))
            assert torch.allclose(matrix[0].roll(1), matrix[1], atol=1e-16)
        offset = torch.arange(64) - 32
        spread = (gaussian_matrix(64, 3)[32] * offset.square()).sum().sqrt().item()
        assert spread == pytest.approx(3, rel=1e-6)
        assert torch.equal(gaussian_matrix(4, 0), torch.eye(4, dtype=torch.float64))

    def test_gaussian_field_is_the_weighted_neighbour_sum(self):
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
    def test_k2_turning_all_phases_turns_nothing(self, mean_field):
        theta = phases(2, 1, 6, 6)
        turned = coupling_drift(wrap(theta + 2.0), mean_field)
        assert (turned - coupling_drift(theta, mean_field)).abs().max() < 1e-15

    def test_reference_turns_with_its_phase(self):
        theta = phases(2, 1, 3, 3)
        pull = drift(theta, coupling=0.0, reference=0.7, reference_phase=0.4, mean_field=None)
        assert torch.allclose(pull, 0.7 * torch.sin(0.4 - theta), atol=1e-15)

    def test_strengths_may_differ_between_samples(self):
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

    def test_k4_coupling_climbs_the_order_parameter(self):
        theta = phases(1, 1, 3, 4).requires_grad_()
        height = theta.numel() * order_parameter(theta).square() / 2
        (gradient,) = torch.autograd.grad(height.sum(), theta)
        assert (coupling_drift(theta, global_mean_field) - gradient).abs().max() < 1e-14

    @pytest.mark.parametrize("reference", [0.0, 1.5])
    def test_k5_divergence(self, reference):
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

    def test_k6_order_rises_at_the_predicted_rate_without_noise(self):
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


class TestSchedule:
    @pytest.mark.parametrize(
        ("steps", "noise", "coupling"), [(100, 0.1, 0.03), (300, 0.07, 0.02), (1000, 0.015, 0.0045)]
    )
    def test_the_released_ones_are_reproduced(self, steps, noise, coupling):
        schedule = released_schedule(steps)
        assert np.allclose(schedule.noise_variance, np.linspace(1e-4, noise, steps), rtol=1e-13)
        assert np.allclose(schedule.coupling, np.linspace(3e-5, coupling, steps), rtol=1e-13)

    @pytest.mark.parametrize("steps", [1, 2, 3, 10, 50, 100, 173, 300, 650, 1000, 5000, 10**6])
    def test_any_number_of_steps_runs_the_same_clock(self, steps):
        schedule = released_schedule(steps)
        assert len(schedule.noise_variance) == len(schedule.coupling) == steps
        assert (schedule.noise_variance > 0).all()
        assert (schedule.noise_variance.diff() >= 0).all()
        assert 5 < schedule.noise_variance.sum() < 10.6
        ratio = (schedule.coupling / schedule.noise_variance)[-1].item()
        assert 0.28 < ratio < 0.3001

    def test_interpolation_is_continuous_and_between_its_neighbours(self):
        clock = [released_schedule(t).noise_variance.sum().item() for t in range(95, 310)]
        assert np.abs(np.diff(clock)).max() < 0.06
        assert released_schedule(50).noise_variance[-1].item() == pytest.approx(0.2, rel=1e-3)

    def test_k8_self_consistent_order_matches_the_authors_log(self):
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

    def test_order_below_and_above_the_critical_coupling(self):
        assert self_consistent_order(0.09, 0.0, 0.05) == pytest.approx(0, abs=1e-10)
        for diffusion in (0.05, *(0.0005 * i for i in range(1, 200))):
            critical = self_consistent_order(2 * diffusion, 0.0, diffusion)
            assert critical == pytest.approx(0, abs=1e-5)
        assert self_consistent_order(0.2, 0.0, 0.05) > 0.7
        assert self_consistent_order(0.0, 0.0, 0.05) == 0
        assert self_consistent_order(1.0, 100.0, 1e-3) == pytest.approx(1, abs=1e-4)

    @pytest.mark.parametrize("coupling", [0.0, 1e-3, 0.05, 0.0999, 0.11, 0.3, 5.0, 1e4])
    @pytest.mark.parametrize("reference", [0.0, 1e-9, 0.045, 2.0, 1e5])
    def test_order_is_the_largest_solution(self, coupling, reference):
        order = self_consistent_order(coupling, reference, 0.05)
        candidates = torch.linspace(0, 1, 100_001, dtype=torch.float64)
        above = bessel_ratio((coupling * candidates + reference) / 0.05) - candidates
        assert order == pytest.approx(candidates[above >= 0].max().item(), abs=1.1e-5)

    @pytest.mark.parametrize("name", ["released-100", "released-300", "released-1000"])
    def test_presets_are_the_released_ones_in_any_number_of_steps(self, name):
        steps = int(name.removeprefix("released-"))
        named, own = released_schedule(steps, name), released_schedule(steps)
        assert torch.equal(named.noise_variance, own.noise_variance)
        assert torch.equal(named.coupling, own.coupling)
        coarse = KuramotoDiffusion(shape=(1, 4, 4), steps=40, schedule=name)
        fine = KuramotoDiffusion(shape=(1, 4, 4), steps=steps, schedule=name)
        clocks = [each.noise_std.values.square().sum() for each in (coarse, fine)]
        assert torch.allclose(*clocks, rtol=1e-12)
        assert coarse.concentration == pytest.approx(fine.concentration, rel=1e-12)

    @pytest.mark.parametrize("steps", [1, 2, 7, 100, 1000])
    @pytest.mark.parametrize("shape", ["linear", "quadratic", "cosine", "constant"])
    def test_ramps_share_total_time_and_final_ratio(self, shape, steps):
        released = released_schedule(steps)
        found = released_schedule(steps, shape=shape)
        noise, coupling = found.noise_variance, found.coupling
        assert noise.sum().item() == pytest.approx(released.noise_variance.sum().item(), rel=1e-12)
        assert (noise.diff() >= -1e-18).all()
        ratios = [(s.coupling / s.noise_variance)[-1].item() for s in (found, released)]
        assert ratios[0] == pytest.approx(ratios[1], rel=1e-12)
        if shape != "constant" and steps > 1:
            assert noise[0] == released.noise_variance[0]
            assert coupling[0] == released.coupling[0]

    def test_how_ramps_grow(self):
        def shares(shape):
            values = ramp(1.0, 3.0, 5, shape)
            return ((values - 1) / 2).tolist()

        assert shares("linear") == [0, 0.25, 0.5, 0.75, 1]
        assert shares("quadratic") == [0, 0.0625, 0.25, 0.5625, 1]
        assert shares("cosine") == pytest.approx(
            [0, (1 - 0.5**0.5) / 2, 0.5, (1 + 0.5**0.5) / 2, 1]
        )
        assert shares("constant") == [1] * 5
        process = KuramotoDiffusion(
            shape=(1, 2, 2), steps=5, noise_range=(0.1, 0.3), ramp="quadratic"
        )
        variance = process.noise_std.values.square()
        assert torch.allclose(variance, ramp(0.1, 0.3, 5, "quadratic"))

    def test_chains_come_to_every_t_by_default(self):
        for steps in range(1, 1200):
            found = KuramotoDiffusion(shape=(1, 1, 1), steps=steps).chain_steps
            assert math.gcd(found, steps) == 1
            assert abs(found - min(max(1, steps // 3), 30)) <= 3, steps

    def test_loss_weights_are_powers_of_the_noise(self):
        def weights(**change):
            process = KuramotoDiffusion(shape=(1, 4, 4), steps=50, **change)
            return process, process.loss_weights().values

        for target in ("one-step", "path"):
            for name, power in (("unit", 0), ("likelihood", 1), ("released", 2)):
                process, found = weights(target=target, loss_weight=name)
                # On the error of the score, which is that of the prediction over its scale.
                on_score = found * process.scale.values.square()
                variance = process.noise_std.values.square()
                if power:
                    expected = variance**power
                    assert torch.allclose(on_score / on_score[-1], expected / expected[-1])
                else:
                    assert (found == 1).all()
                assert found.mean().item() == pytest.approx(1)
        # In units of one step's noise the paper's weight is 1.
        assert torch.allclose(
            weights(target="one-step", loss_weight="likelihood")[1], torch.ones(50).double()
        )

    def test_total_time_runs_the_same_equation_longer(self):
        short = KuramotoDiffusion(shape=(1, 4, 4), steps=100)
        long = KuramotoDiffusion(shape=(1, 4, 4), steps=100, total_time=10)
        assert long.noise_std.values.square().sum().item() == pytest.approx(10, rel=1e-12)
        assert long.concentration == pytest.approx(short.concentration, rel=1e-12)
        for one, other in (
            (long.coupling_strength, short.coupling_strength),
            (long.reference_strength, short.reference_strength),
        ):
            assert torch.allclose(one.values, other.values * (10 / 5.005), rtol=1e-12)

    def test_strength_multiplies_what_is_left_to_its_default(self):
        plain, double, mixed = (
            KuramotoDiffusion(shape=(1, 4, 4), steps=10, coupling="local", **parameters)
            for parameters in ({}, {"strength": 2}, {"strength": 2, "reference_strength": 0.1})
        )
        assert torch.equal(double.noise_std.values, plain.noise_std.values)
        for other in (double, mixed):
            ratio = other.coupling_strength.values / plain.coupling_strength.values
            assert torch.allclose(ratio, torch.full((10,), 2.0).double(), rtol=1e-12)
        ratio = double.reference_strength.values / plain.reference_strength.values
        assert torch.allclose(ratio, torch.full((10,), 2.0).double(), rtol=1e-12)
        assert mixed.reference_strength[10] == pytest.approx(0.1)

    def test_ratios_are_strengths_relative_to_the_noise(self):
        process = KuramotoDiffusion(
            shape=(1, 4, 4),
            steps=10,
            noise_range=(0.01, 0.3),
            coupling_ratio=0.4,
            reference_ratio=0.6,
        )
        variance = process.noise_std.values.square()
        assert torch.allclose(process.coupling_strength.values, 0.4 * variance, rtol=1e-12)
        assert torch.allclose(process.reference_strength.values, 0.6 * variance, rtol=1e-12)
        released, same = (
            KuramotoDiffusion(shape=(1, 4, 4), steps=100, **parameters)
            for parameters in ({}, {"coupling_ratio": 0.3, "reference_ratio": 0.45})
        )
        for one, other in (
            (released.coupling_strength, same.coupling_strength),
            (released.reference_strength, same.reference_strength),
        ):
            assert torch.allclose(one.values, other.values, rtol=1e-12)

    @pytest.mark.parametrize(
        ("steps", "coupling", "kappa", "order"),
        [
            (100, "global", 1.209, 0.516),
            (300, "global", 1.139, 0.494),
            (1000, "global", 1.209, 0.516),
            (1000, "local", 0.830, 0.383),
            (100, "none", 0.900, 0.410),
        ],
    )
    def test_prior_of_the_released_strengths(self, steps, coupling, kappa, order):
        process = KuramotoDiffusion(shape=(1, 4, 4), steps=steps, coupling=coupling)
        assert process.concentration == pytest.approx(kappa, abs=6e-4)
        assert process.terminal_order == pytest.approx(order, abs=6e-4)

    def test_strengths_and_noise_follow_their_parameters(self):
        process = KuramotoDiffusion(
            shape=(1, 4, 4),
            steps=100,
            coupling="local",
            coupling_strength=0.06,
            reference_strength=0.09,
            noise_range=(1e-3, 0.2),
        )
        released = released_schedule(100)
        assert torch.allclose(process.coupling_strength.values, 2 * released.coupling)
        assert torch.allclose(process.reference_strength.values, 3 * released.coupling)
        squares = process.noise_std.values.square()
        assert torch.allclose(squares, torch.linspace(1e-3, 0.2, 100, dtype=torch.float64))
        order = process.terminal_order
        assert process.concentration == pytest.approx((0.06 * order + 0.09) / 0.1, rel=1e-12)


class TestDynamics:
    def test_k7_reference_alone_leads_to_von_mises(self):
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

    def test_k9_splitting_the_steps_changes_little(self):
        schedule = released_schedule(100)

        def orders(parts):
            rng, theta, found = generator(), phases(1, 1, 256, 256).float(), []
            for t in range(100):
                coupling, noise = (
                    (values[t] / parts).item()
                    for values in (schedule.coupling, schedule.noise_variance)
                )
                for _ in range(parts):
                    pull = drift(
                        theta,
                        coupling=coupling,
                        reference=1.5 * coupling,
                        reference_phase=0.0,
                        mean_field=global_mean_field,
                    )
                    step = torch.randn(theta.shape, generator=rng) * math.sqrt(noise)
                    theta = wrap(theta + pull + step)
                if t in (24, 49, 74, 98):
                    found.append(order_parameter(theta).mean().item())
            return np.array(found)

        whole, split = orders(1), orders(8)
        assert np.abs(whole - split).max() < 0.012
        assert whole[-1] == pytest.approx(0.47, abs=0.02)

    def test_k10_reverse_of_a_stationary_chain_is_its_forward(self):
        process = KuramotoDiffusion(
            shape=(1, 8, 8),
            steps=1,
            coupling="none",
            final_noise=False,
            noise_range=(0.1, 0.1),
        )
        theta = process.prior(4, generator(), "von-mises").double()
        score = -process.concentration * theta.sin()
        prediction = -process.scale[1] * score
        back = process.reverse_step(theta, 1, 0, prediction, generator())
        forth = wrap(theta + process.drift(theta, 1))
        assert (back - forth).abs().max() < 1e-14

    def test_turning_the_reference_turns_the_chain(self):
        steps, angle = 30, 0.8
        still, turned = (
            KuramotoDiffusion(
                shape=(1, 6, 6),
                steps=steps,
                coupling="local",
                reference_phase=phase,
            )
            for phase in (0.0, angle)
        )
        one = phases(5, 1, 6, 6)
        other = wrap(one + angle)
        for t in range(1, steps + 1):
            one = still.forward_step(one, t, generator(t))
            other = turned.forward_step(other, t, generator(t))
        assert wrap(other - one - angle).abs().max() < 1e-12
        prior = wrap(
            turned.prior(5, generator(), "von-mises")
            - still.prior(5, generator(), "von-mises")
            - angle
        )
        assert prior.abs().max() < 1e-6

    def test_channels_meet_in_the_global_field_only(self):
        theta = phases(1, 2, 5, 5)
        changed = theta.clone()
        changed[:, 1] += 1.0
        for coupling, meets in (("global", True), ("local", False), ("none", False)):
            process = KuramotoDiffusion(shape=(2, 5, 5), steps=10, coupling=coupling)
            difference = process.drift(changed, 10)[:, 0] - process.drift(theta, 10)[:, 0]
            assert bool(difference.abs().max() > 0) is meets

    def test_last_noise_is_optional(self):
        theta, quiet = phases(2, 1, 3, 3).float(), torch.zeros(2, 1, 3, 3)
        for final_noise in (True, False):
            process = KuramotoDiffusion(
                shape=(1, 3, 3), steps=5, variance="forward", final_noise=final_noise
            )
            runs = [process.reverse_step(theta, 1, 0, quiet, generator(s)) for s in (1, 2)]
            assert torch.equal(*runs) is not final_noise
            runs = [process.reverse_step(theta, 2, 1, quiet, generator(s)) for s in (1, 2)]
            assert not torch.equal(*runs)


def prints(shape, seed=0, white=0.5):
    """An image source somewhat like prints: stripes on white or gray, some pages white."""
    rng = generator(seed)

    def draw(number):
        wave = torch.linspace(0, 12, shape[2]) + 6 * torch.rand(number, 1, 1, 1, generator=rng)
        stripes = 0.8 * wave.sin().expand(number, *shape)
        noise = 0.3 * torch.rand(number, *shape, generator=rng) - 0.15
        blank = torch.rand(number, 1, 1, 1, generator=rng) < white
        return (torch.where(blank, 0.85, stripes) + noise).clamp(-1, 1)

    return draw


def fitted(seed=0, **parameters):
    arguments = {"shape": (1, 12, 12), "steps": 40, "coupling": "local"} | parameters
    process = KuramotoDiffusion(**arguments)
    process.fit(prints(process.shape), generator(seed))
    return process


class TestTarget:
    def test_memory_of_one_is_the_one_step_target(self):
        shape, batches = (1, 6, 6), []
        for parameters in ({"target": "path", "memory": 1}, {"target": "one-step"}):
            process = KuramotoDiffusion(shape=shape, steps=20, pool_size=12, **parameters)
            batches.append(
                list(islice(process.training_batches(prints(shape), 6, generator()), 60))
            )
            assert torch.allclose(process.scale.values, process.noise_std.values, rtol=1e-14)
        for one, other in zip(*batches, strict=True):
            assert torch.equal(one.state, other.state)
            assert torch.equal(one.target, other.target)

    def test_targets_share_their_chains(self):
        shape, states = (1, 6, 6), []
        for target in ("path", "one-step"):
            process = KuramotoDiffusion(shape=shape, steps=20, target=target, pool_size=12)
            taken = islice(process.training_batches(prints(shape), 6, generator()), 60)
            states.append(torch.stack([batch.state for batch in taken]))
        assert torch.equal(*states)

    def test_without_drift_it_is_diffusion_on_the_circle(self):
        process = KuramotoDiffusion(
            shape=(1, 2, 2),
            steps=30,
            coupling="none",
            reference_strength=0.0,
        )
        assert process.concentration == 0
        theta = phases(7, 1, 2, 2)
        assert (process.drift(theta, 30) == 0).all()
        rng, same, weight = generator(), generator(), torch.zeros_like(theta)
        start, total = theta, torch.zeros_like(theta)
        for t in range(1, 31):
            theta, weight = process.weighted_step(theta, weight, torch.full((7,), t), rng)
            noise = torch.randn(theta.shape, generator=same, dtype=theta.dtype)
            total = total + process.noise_std[t] * noise
        variance = process.noise_std.values.square().sum()
        assert torch.allclose(weight, total / variance, rtol=1e-12)
        assert wrap(theta - start - total).abs().max() < 1e-12
        assert process.scale[30] == pytest.approx(variance.sqrt().item(), rel=1e-12)
        prior = process.prior(100, generator(3), "von-mises").flatten().numpy()
        assert stats.kstest(prior, stats.uniform(-math.pi, 2 * math.pi).cdf).pvalue > 0.01

    @pytest.mark.parametrize("coupling", ["global", "local", "none"])
    def test_its_variance_is_many_times_lower(self, coupling):
        process = KuramotoDiffusion(shape=(1, 12, 12), steps=100, coupling=coupling)
        process.fit(prints(process.shape), generator())
        gain = (process.scale.values / process.noise_std.values).square()
        # The path's advantage grows with the number of steps behind it.
        assert gain[0] == pytest.approx(1, rel=0.02)
        assert gain[29] > 12
        assert gain[99] > 15

    @pytest.mark.parametrize(
        "target", ["path", pytest.param("conditional", marks=pytest.mark.slow)]
    )
    def test_the_pool_has_the_law_of_fresh_chains_in_its_targets(self, target):
        steps, pool = 20, 3000
        process = KuramotoDiffusion(
            shape=(1, 1, 2),
            steps=steps,
            neighbourhood_radius=1,
            pool_size=pool,
            coupling="local",
            target=target,
        )
        images, rng = prints((1, 1, 2), 1), generator(2)
        pooled = {t: [] for t in (1, 7, 13, steps)}
        turns = steps * pool // 100
        for batch in islice(process.training_batches(images, 100, rng), turns, 2 * turns):
            for t, found in pooled.items():
                found.append(batch.target[batch.step == t])
        chains = process.start_chains(images(4000))
        for t in range(1, steps + 1):
            step = torch.full((4000,), t)
            chains = process.advance_chains(chains, step, rng)
            if t in pooled:
                fresh = (process.scale[t] * process.estimate(chains, step)).flatten(1)
                found = torch.cat(pooled[t]).flatten(1)
                assert stats.ks_2samp(found[:, 0].numpy(), fresh[:, 0].numpy()).pvalue > 0.005


class TestFit:
    def test_the_loss_of_zero_is_one_at_every_step(self):
        process = fitted()
        batches = process.training_batches(prints(process.shape, 5), 64, generator(6))
        squares, visits = torch.zeros(40), torch.zeros(40)
        for batch in islice(batches, 400):
            squares.index_add_(0, batch.step - 1, batch.target.square().mean((1, 2, 3)))
            visits.index_add_(0, batch.step - 1, torch.ones(64))
        assert ((squares / visits) - 1).abs().max() < 0.06

    def test_the_unfitted_scale_is_near(self):
        process = KuramotoDiffusion(shape=(1, 12, 12), steps=40, coupling="local", target="path")
        unfitted = process.scale.values
        process.fit(prints(process.shape), generator())
        ratio = process.scale.values / unfitted
        assert ratio.max() < 1.25
        assert ratio.min() > 0.8

    def test_equal_generators_give_equal_processes(self):
        first, same, other = fitted(1), fitted(1), fitted(2)
        assert torch.equal(first.scale.values, same.scale.values)
        assert first.terminal_mismatch == same.terminal_mismatch
        assert torch.equal(first.prior(3, generator()), same.prior(3, generator()))
        assert not torch.equal(first.scale.values, other.scale.values)

    def test_fitting_again_forgets_the_first_fit(self):
        process, fresh = fitted(1), fitted(2)
        process.fit(prints(process.shape), generator(2))
        assert torch.equal(process.scale.values, fresh.scale.values)
        assert process.terminal_mismatch == fresh.terminal_mismatch

    def test_the_one_step_target_keeps_the_papers_unit(self):
        process = fitted(target="one-step")
        assert torch.allclose(process.scale.values, process.noise_std.values, rtol=1e-14)
        assert set(process.terminal_mismatch) == {"matched", "von-mises"}

    def test_a_matched_prior_asks_for_its_fit(self):
        process = KuramotoDiffusion(shape=(1, 4, 4), steps=10)
        assert process.terminal_mismatch == {}
        assert process.diagnostics() == {}
        with pytest.raises(RuntimeError, match=r"call fit\(images, generator\) before prior"):
            process.prior(2, generator())

    def test_mismatch_of_white_pages(self):
        # methods.md 1.2: a page at 0.8 pi ends at |z| = 0.37, +0.24 rad; the prior has 0.51, 0.
        process = KuramotoDiffusion(
            shape=(1, 32, 32),
            steps=100,
            calibration_chains=64,
            reference_phase=-0.2,
        )
        turned = 0.8 / 0.9 - 0.2 / (0.9 * math.pi)
        process.fit(lambda number: torch.full((number, 1, 32, 32), turned), generator())
        found = process.terminal_mismatch["von-mises"]
        assert found.order == pytest.approx(0.37, abs=0.01)
        assert found.phase == pytest.approx(0.24, abs=0.01)
        assert found.prior_order == pytest.approx(process.terminal_order, abs=0.01)
        assert found.prior_phase == pytest.approx(0, abs=0.01)
        assert found.phase_spread > 0
        assert found.order_spread > 0


class TestMatchedPrior:
    @pytest.mark.parametrize("shape", [(1, 12, 12), (3, 8, 8), (1, 1, 2)])
    @pytest.mark.parametrize("white", [0.0, 0.5, 1.0])
    @pytest.mark.parametrize("coupling", ["global", "local"])
    def test_it_is_as_bright_and_coherent_as_end_states(self, shape, white, coupling):
        process = KuramotoDiffusion(shape=shape, steps=30, coupling=coupling)
        process.fit(prints(shape, 1, white), generator())
        state, rng = process.encode(prints(shape, 2, white)(1000)), generator(3)
        for t in range(1, 31):
            state = process.forward_step(state, t, rng)
        ends, drawn = (mean_vectors(x).double() for x in (state, process.prior(1000, rng)))
        # Two pixels scatter an image's mean vector widely.
        accuracy = 0.08 if shape[1] > 1 else 0.15
        assert (drawn.mean(0) - ends.mean(0)).norm(dim=-1).max() < accuracy
        spreads = [(x - x.mean(0)).square().mean((0, 1)).sqrt() for x in (drawn, ends)]
        assert torch.allclose(*spreads, rtol=0.2)
        if shape[1] > 1:
            for summary in (
                lambda x: x.norm(dim=-1)[:, 0],
                lambda x: torch.atan2(x[:, 0, 1], x[:, 0, 0]),
            ):
                distance = stats.ks_2samp(summary(drawn).numpy(), summary(ends).numpy())
                assert distance.statistic < 0.1

    def test_two_kinds_of_page_stay_two(self):
        # Half at +1.5 rad, half at -1.5: a normal would put most draws between.
        rng = generator()
        kind = 3.0 * torch.randint(0, 2, (500, 1), generator=rng) - 1.5
        vectors = 0.6 * torch.stack([kind.cos(), kind.sin()], dim=-1)
        law = EndStateLaw(vectors + 0.02 * torch.randn(500, 1, 2, generator=rng), 1024)
        drawn = law.vectors(2000, generator(1), torch.float64)[:, 0]
        assert ((drawn[:, 1].abs() < 0.2).float().mean()) < 0.1
        assert drawn.norm(dim=-1).max() < 1

    def test_pixels_are_independent_given_the_image(self):
        vectors = torch.tensor([[0.2, 0.3]]).expand(50, 1, 2)
        law = EndStateLaw(vectors, 64 * 64)
        state = law.sample((20, 1, 64, 64), generator())
        assert state.dtype == torch.float32
        found = mean_vectors(state)
        assert (found - vectors[:20]).abs().max() < 0.06
        away = state.cos() - state.cos().mean((2, 3), keepdim=True)
        assert (away * away.roll(1, 3)).mean().abs() < 0.005

    @pytest.mark.parametrize("length", [0.0, 1.0])
    def test_extreme_ends_are_drawn(self, length):
        law = EndStateLaw(torch.tensor([[length, 0.0]]).expand(9, 1, 2), 16)
        state = law.sample((5, 1, 4, 4), generator())
        assert torch.isfinite(state).all()
        assert (state.abs().max().item() < 0.7) is (length == 1.0)


class TestJumps:
    def process(self, coupling="local"):
        return KuramotoDiffusion(
            shape=(1, 4, 4),
            steps=20,
            coupling=coupling,
            neighbourhood_radius=1,
            variance="forward",
            final_noise=True,
        )

    def test_one_step_is_the_papers_update(self):
        process, theta = self.process(), phases(3, 1, 4, 4)
        prediction = torch.randn(theta.shape, generator=generator(1), dtype=torch.float64)
        for t in (1, 7, 20):
            std = process.noise_std[t]
            noise = torch.randn(theta.shape, generator=generator(2), dtype=torch.float64)
            score = -prediction / process.scale[t]
            expected = wrap(theta - process.drift(theta, t) + std**2 * score + std * noise)
            found = process.reverse_step(theta, t, t - 1, prediction, generator(2), "ancestral")
            assert wrap(found - expected).abs().max() < 1e-12

    @pytest.mark.parametrize(("t", "u"), [(20, 0), (20, 11), (9, 4), (3, 2)])
    def test_a_jump_sums_what_it_skips(self, t, u):
        process, theta = self.process(), phases(3, 1, 4, 4)
        score = torch.randn(theta.shape, generator=generator(1), dtype=torch.float64)
        drifts = sum(process.drift(theta, step) for step in range(u + 1, t + 1))
        variance = sum(process.noise_std[step] ** 2 for step in range(u + 1, t + 1))
        noise = torch.randn(theta.shape, generator=generator(2), dtype=torch.float64)
        arguments = (theta, t, u, -process.scale[t] * score, generator(2))
        found = process.reverse_step(*arguments, "ancestral")
        expected = theta - drifts + variance * score + math.sqrt(variance) * noise
        assert wrap(found - expected).abs().max() < 1e-12

        sigma = [process.noise_std.values[:n].square().sum().sqrt().item() for n in (t, u)]
        found = process.reverse_step(*arguments, "probability-flow")
        expected = theta - drifts + sigma[0] * (sigma[0] - sigma[1]) * score
        assert wrap(found - expected).abs().max() < 1e-12

    @pytest.mark.parametrize(
        ("variance", "spread", "exact"),
        [
            ("posterior", 0.0, True),
            ("analytic", 0.0, True),
            ("forward", 0.0, False),
            ("posterior", 0.1, False),
            ("analytic", 0.1, True),
            ("forward", 0.1, False),
        ],
    )
    def test_few_steps_keep_the_spread_of_normal_phases(self, variance, spread, exact):
        # Far from the cut and without drift theta_t is normal with variance spread^2 + sigma_t^2.
        process = KuramotoDiffusion(
            shape=(1, 100, 100),
            steps=20,
            coupling="none",
            reference_strength=0,
            noise_range=(0.001, 0.02),
            variance=variance,
        )
        elapsed = [0.0, *process.noise_std.values.square().cumsum(0).tolist()]
        rng = generator(3)
        state = torch.randn(10, 1, 100, 100, generator=rng, dtype=torch.float64)
        state *= math.sqrt(spread**2 + elapsed[20])
        for t, u in ((20, 14), (14, 8), (8, 3)):
            minus_score = state / (spread**2 + elapsed[t])
            state = process.reverse_step(state, t, u, process.scale[t] * minus_score, rng)
        right = math.sqrt(spread**2 + elapsed[3])
        assert (state.std().item() == pytest.approx(right, rel=0.03)) is exact

    def test_probability_flow_finds_a_point_in_one_step(self):
        # Without drift the score of a point is known, and the step is exact however long.
        process = KuramotoDiffusion(
            shape=(1, 2, 2),
            steps=20,
            coupling="none",
            reference_strength=0,
            noise_range=(0.01, 0.1),
        )
        point, theta = 0.4, 0.4 + 0.5 * phases(3, 1, 2, 2)
        variance = process.noise_std.values.square().sum().item()
        score = (point - theta) / variance
        found = process.reverse_step(
            theta, 20, 0, -process.scale[20] * score, generator(), "probability-flow"
        )
        assert (found - point).abs().max() < 1e-12

    def test_probability_flow_leaves_a_stationary_law_alone(self):
        # The prior's score balances its drift, -d + s^2 / 2 score = 0, up to a short step's error.
        strength = 0.9 * 0.01 / 2
        process = KuramotoDiffusion(
            shape=(1, 8, 8),
            steps=2000,
            coupling="none",
            reference_strength=strength,
            noise_range=(0.01, 0.01),
        )
        theta = process.prior(2, generator(), "von-mises").double()
        prediction = process.scale[2000] * process.concentration * theta.sin()
        back = process.reverse_step(theta, 2000, 1999, prediction, generator(), "probability-flow")
        assert (back - theta).abs().max() < 1e-5


class TestParameters:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"steps": 0}, "steps must be at least 1, got 0"),
            ({"shape": (1, 0, 4)}, r"shape must be three positive sizes \(C, H, W\)"),
            ({"shape": (4, 4)}, r"shape must be three positive sizes \(C, H, W\)"),
            ({"coupling": "loca"}, r"coupling must be one of \('global', 'local', 'none'\)"),
            ({"coupling_strength": -0.1}, r"coupling_strength must lie in \[0, infinity\)"),
            ({"coupling_strength": math.nan}, "coupling_strength"),
            ({"reference_strength": math.inf}, "reference_strength"),
            ({"reference_phase": 4.0}, r"reference_phase must lie in \[-3.14159, 3.14159\]"),
            ({"coupling": "none", "coupling_strength": 0.1}, "but coupling is 'none'"),
            ({"noise_range": (0.0, 0.1)}, r"noise_range must lie in \(0, 16\], got 0.0"),
            ({"noise_range": (0.1, 17.0)}, r"noise_range must lie in \(0, 16\], got 17.0"),
            ({"neighbourhood_radius": -1}, "neighbourhood_radius must be at least 0, got -1"),
            ({"phase_margin": 0.0}, r"phase_margin must lie in \(0, 1\], got 0.0"),
            ({"phase_margin": 1.1}, r"phase_margin must lie in \(0, 1\], got 1.1"),
            ({"neighbourhood_radius": 2.5}, "neighbourhood_radius must be a whole number, got 2.5"),
            ({"noise_range": (0.1, 0.2, 0.3)}, "noise_range must be a pair"),
            ({"noise_range": 0.1}, "noise_range must be a pair"),
            ({"coupling_strength": "0.1"}, "coupling_strength must be a number, got '0.1'"),
            ({"pool_size": 0}, "pool_size must be at least 1, got 0"),
            ({"neighbourhood": "disc"}, r"neighbourhood must be one of \('box', 'gaussian'\)"),
            ({"schedule": "released-50"}, r"schedule must be one of \('released', 'released-100'"),
            ({"total_time": 0}, r"total_time must lie in \(0, infinity\), got 0"),
            ({"total_time": 100.0}, "total_time is 100.0 in 10 steps; each step's share must be"),
            ({"total_time": 5.0, "noise_range": (0.1, 0.2)}, "which fixes it; leave one of them"),
            ({"strength": -1}, r"strength must lie in \[0, infinity\), got -1"),
            ({"coupling_ratio": -0.1}, r"coupling_ratio must lie in \[0, infinity\)"),
            (
                {"coupling_ratio": 0.3, "coupling_strength": 0.1},
                "coupling_strength is 0.1 and coupling_ratio is 0.3; leave one of them out",
            ),
            (
                {"reference_ratio": 0.3, "reference_strength": 0.1},
                "reference_strength is 0.1 and reference_ratio is 0.3; leave one of them out",
            ),
            ({"coupling": "none", "coupling_ratio": 0.1}, "but coupling is 'none'"),
            ({"calibration_chains": 1}, "calibration_chains must be at least 2, got 1"),
            (
                {"target": "two-step"},
                r"target must be one of \('path', 'conditional', 'one-step'\)",
            ),
            ({"memory": 0}, "memory must be at least 1, got 0"),
            ({"memory": 4, "target": "one-step"}, "memory is 4 but target is 'one-step'"),
            ({"memory": 1, "target": "conditional"}, "memory is 1 but target is 'conditional'"),
            ({"ramp": "square"}, r"ramp must be one of \('linear', 'quadratic', 'cosine'"),
            ({"ramp": "constant", "noise_range": (0.1, 0.2)}, "two values"),
            ({"loss_weight": "snr"}, r"loss_weight must be one of \('unit', 'likelihood'"),
            ({"final_noise": True}, "final_noise is true but variance is 'posterior'"),
            ({"variance": "larger"}, "variance must be one of"),
            ({"chain_steps": 0}, "chain_steps must be at least 1, got 0"),
        ],
    )
    def test_impossible_values_are_refused_with_what_is_allowed(self, change, message):
        arguments = {"shape": (1, 4, 4), "steps": 10} | change
        with pytest.raises(ValueError, match=message):
            KuramotoDiffusion(**arguments)

    def test_black_and_white_are_opposite_ends_of_the_margin(self):
        process = KuramotoDiffusion(shape=(1, 1, 3), steps=10, phase_margin=0.7)
        theta = process.encode(torch.tensor([[[[-1.0, 0.0, 1.0]]]]))
        assert torch.allclose(theta.flatten(), torch.tensor([-0.7, 0.0, 0.7]) * math.pi)
        gap = torch.tensor([[[[-3.1, 0.1, 3.1]]]])
        assert process.decode(gap)[0, 0, 0, [0, 2]].tolist() == [-1, 1]
