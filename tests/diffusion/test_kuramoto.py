"""K9 and K10, fitting and jumps of the whole process; K12 is in tests/conformance/."""

import math

import numpy as np
import pytest
import torch

from kod_bench.diffusion import KuramotoDiffusion, released_schedule
from kod_bench.diffusion.circle import order_parameter, wrap
from kod_bench.diffusion.phase_flow import drift, global_mean_field
from tests.diffusion.kuramoto_cases import fitted, generator, phases, prints


class TestDynamics:
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


class TestFit:
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
