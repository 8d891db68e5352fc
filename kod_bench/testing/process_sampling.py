"""Tests of a process's steps, there and back, and of sampling with them."""

from copy import deepcopy
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from kod_bench.diffusion import DiffusionProcess, Past, run_forward, sample
from kod_bench.testing.process_cases import (
    ProcessCases,
    all_equal,
    check_states,
    guess,
    seeded,
)


class SamplingConformance(ProcessCases):
    """What sampling needs of a process."""

    def test_steps_draw_states_and_leave_their_arguments_alone(
        self, process: DiffusionProcess, steps: int, device: str
    ) -> None:
        """By every sampler, in long and short steps; corrected ones, too."""
        rng = seeded(0, device)
        prior = process.prior(3, rng)
        for name in process.priors:
            check_states(process, process.prior(3, rng, name), 3, device)
        state, prediction = prior.clone(), guess(prior, torch.ones(3, device=device))
        kept = prediction.clone()
        for step in {1, steps}:
            check_states(process, process.forward_step(state, step, rng), 3, device)
            for sampler in (None, *process.samplers):
                for to in {0, step // 2, step - 1}:
                    back = process.reverse_step(state, step, to, prediction, rng, sampler)
                    check_states(process, back, 3, device)
                    if to and sampler in process.second_order:
                        there, kept_back = prediction / 2, back.clone()
                        again = process.correct_step(
                            state, step, to, prediction, back, there, sampler, rng
                        )
                        check_states(process, again, 3, device)
                        assert torch.equal(back, kept_back)
        assert torch.equal(state, prior)
        assert torch.equal(prediction, kept)

    def test_half_precision_predictions_leave_the_state_in_full(
        self, process: DiffusionProcess
    ) -> None:
        """A network may run in bfloat16."""
        state = process.prior(3, seeded())
        back = process.reverse_step(state, 1, 0, torch.zeros_like(state).bfloat16(), seeded())
        check_states(process, back, 3)

    def test_corrections_draw_noise_where_they_say_so(
        self, process: DiffusionProcess, steps: int
    ) -> None:
        """Those of `correctors`, which need a generator; each sample's depends on it alone."""
        if steps < 4:
            return
        state, there = process.prior(4, seeded()), process.prior(4, seeded(1))
        said, said_there = guess(state, torch.ones(4)), guess(there, torch.ones(4))
        changed, changed_there = 2 * said, 2 * said_there
        changed[0], changed_there[0] = said[0], said_there[0]
        to = steps // 2
        for sampler in process.second_order:
            one, other, neighbours = (
                process.correct_step(state, steps, to, first, there, second, sampler, rng)
                for first, second, rng in (
                    (said, said_there, seeded(1)),
                    (said, said_there, seeded(2)),
                    (changed, changed_there, seeded(1)),
                )
            )
            assert torch.equal(one, other) is (sampler not in process.correctors)
            assert torch.allclose(one[0], neighbours[0], atol=1e-6)
            if sampler in process.correctors:
                with pytest.raises(ValueError, match="no generator"):
                    process.correct_step(state, steps, to, said, there, said_there, sampler)

    def test_what_was_known_before_is_used_by_multistep_samplers_alone(
        self, process: DiffusionProcess, steps: int
    ) -> None:
        """It is left alone, comes with the call, and is each sample's own."""
        if steps < 4:
            return
        before, state = process.prior(4, seeded()), process.prior(4, seeded(1))
        said = guess(state, torch.ones(4))
        # Not at T, where there may be no image left to know of.
        past = Past(steps - 1, before, guess(before, torch.ones(4)), made=1)
        other = Past(steps - 1, -before, -past.prediction, made=1)
        other.state[0], other.prediction[0] = before[0], past.prediction[0]
        kept, step, to = deepcopy(past), steps // 2, steps // 4
        for sampler in process.samplers:
            without, first, again, neighbours = (
                process.reverse_step(state, step, to, said, seeded(2), sampler, known)
                for known in (None, past, past, other)
            )
            check_states(process, first, 4)
            assert torch.equal(first, again)
            assert torch.equal(first, without) is (sampler not in process.multistep)
            assert torch.allclose(first[0], neighbours[0], atol=1e-6)
        assert torch.equal(past.state, kept.state)
        assert torch.equal(past.prediction, kept.prediction)

    def test_draws_follow_their_generator(self, process: DiffusionProcess, steps: int) -> None:
        """Equal generators, equal draws; others, others."""

        def draws(seed: int) -> tuple[Tensor, Tensor, Tensor]:
            rng = seeded(seed)
            state = process.prior(3, rng)
            forth = process.forward_step(state, steps, rng)
            prediction = guess(forth, torch.ones(3))
            return state, forth, process.reverse_step(forth, steps, steps - 1, prediction, rng)

        first, same, other = draws(0), draws(0), draws(1)
        assert all_equal(first, same)
        assert not torch.equal(first[0], other[0])
        assert not torch.equal(first[1], other[1])
        if steps > 1:  # the last step may clamp both to the same image
            assert not torch.equal(first[2], other[2])

    def test_global_randomness_is_not_touched(self, process: DiffusionProcess) -> None:
        """All randomness is the generator's."""
        torch.manual_seed(3)
        before = torch.get_rng_state()
        process.fit(self.images(process.shape, seeded(1)), seeded(2))
        self.take(process, 3)
        sample(process, guess, 2, seeded())
        assert torch.equal(torch.get_rng_state(), before)

    @pytest.mark.parametrize("number", [1, 3])
    def test_sampling_gives_images(
        self, process: DiffusionProcess, number: int, device: str
    ) -> None:
        """In [-1, 1], through every step, and the same again."""
        observed: list[int] = []
        images = sample(
            process,
            guess,
            number,
            seeded(0, device),
            on_step=lambda t, state: observed.append(t),
        )
        assert images.shape == (number, *process.shape)
        assert images.dtype == torch.float32
        assert images.device.type == device
        assert images.abs().max() <= 1
        assert observed == list(range(process.steps - 1, -1, -1))
        assert torch.equal(images, sample(process, guess, number, seeded(0, device)))

    def test_fewer_evaluations_ask_the_network_less(
        self, process: DiffusionProcess, steps: int
    ) -> None:
        """`step_subset` counts every question."""
        for sampler in process.samplers:
            for evaluations in {1, (steps + 1) // 2, steps}:
                asked: list[int] = []
                observed: list[int] = []

                def watch(state: Tensor, step: Tensor, asked: list[int] = asked) -> Tensor:
                    asked.append(int(step[0].item()))
                    return guess(state, step)

                def observe(t: int, state: Tensor, observed: list[int] = observed) -> None:
                    observed.append(t)

                images = sample(
                    process,
                    watch,
                    2,
                    seeded(),
                    sampler=sampler,
                    evaluations=evaluations,
                    on_step=observe,
                )
                assert images.abs().max() <= 1
                assert asked == list(process.step_subset(evaluations, sampler))
                assert len(asked) == evaluations
                assert asked[0] == steps
                assert sorted(asked, reverse=True) == asked
                visited = sorted(set(asked), reverse=True)
                assert observed == [*visited[1:], 0]
                if sampler in process.restarting:
                    assert max(map(asked.count, visited)) <= 3
                    again = {to for step, to in pairwise(visited) if asked.count(step) > 1}
                    assert all(map(process.is_made_again, again))
                    continue
                most = 2 if sampler in process.second_order else 1
                assert max(map(asked.count, visited)) <= most
                assert asked.count(steps) == 1

    def test_all_evaluations_are_the_default(self, process: DiffusionProcess, steps: int) -> None:
        """And so is the first sampler."""
        default = sample(process, guess, 2, seeded())
        explicit = sample(
            process, guess, 2, seeded(), sampler=process.samplers[0], evaluations=steps
        )
        assert torch.equal(default, explicit)
        assert len(process.step_subset(steps)) == steps
        if process.samplers[0] not in process.second_order:
            assert process.step_subset(steps) == tuple(range(steps, 0, -1))

    def test_only_stochastic_samplers_draw_noise(
        self, process: DiffusionProcess, steps: int
    ) -> None:
        """Those of `stochastic`."""
        if steps == 1:
            return
        state = process.prior(2, seeded())
        for sampler in process.samplers:
            one, other = (
                process.reverse_step(state, steps, 1, guess(state, torch.ones(2)), rng, sampler)
                for rng in (seeded(1), seeded(2))
            )
            assert torch.equal(one, other) is (sampler not in self.stochastic)

    def test_samples_in_a_batch_are_independent(
        self, process: DiffusionProcess, steps: int
    ) -> None:
        """What one sample is must not depend on its neighbours: change them, and it stays."""
        state = process.prior(4, seeded())
        changed = state.clone()
        changed[1:] = process.prior(3, seeded(1))
        said, changed_said = guess(state, torch.ones(4)), 3 * guess(changed, torch.ones(4))
        changed_said[0] = said[0]
        moved = [[process.forward_step(x, steps, seeded()) for x in (state, changed)]]
        for sampler in process.samplers:
            for t, to in {(steps, 0), (steps, steps // 2), ((steps + 1) // 2, steps // 3)}:
                moved.append(
                    [
                        process.reverse_step(x, t, to, prediction, seeded(), sampler)
                        for x, prediction in ((state, said), (changed, changed_said))
                    ]
                )
        for one, other in moved:
            assert torch.allclose(one[0], other[0], atol=1e-6)

    # A global mean field turns as a whole, and T = 100 remembers its image: so incoherent images,
    # and many steps. The bias that is left is Euler's (0.01) and, for T = 300, the memory (0.005).
    def test_forward_chains_end_in_the_prior(self, case: str) -> None:
        """From images that are nothing like it."""
        shape, number, rng = self.fitting((1, 12, 12)), 64, seeded()

        def draw(number: int) -> Tensor:
            low, high = self.far
            return low + (high - low) * torch.rand(number, *shape, generator=rng)

        process, images = self.fitted_to(draw, case, shape, 300), draw(number)
        start = _moments(process, process.encode(images))
        state = run_forward(process, images, rng)
        for name in process.priors:
            prior = _moments(process, process.prior(number, rng, name))
            assert (_moments(process, state) - prior).abs().max() < 0.04
            assert (start - prior).abs().max() > 0.15

    def test_sampling_can_start_anywhere(self, process: DiffusionProcess) -> None:
        """As from the ends of forward chains, which are left alone."""
        images = self.images(process.shape, seeded())(3)
        start = run_forward(process, images, seeded(1))
        kept = start.clone()
        first, same = (sample(process, guess, 3, seeded(2), start=start) for _ in range(2))
        assert torch.equal(first, same)
        assert torch.equal(start, kept)
        with pytest.raises(ValueError, match="count is 2 but start holds 3 states"):
            sample(process, guess, 2, seeded(), start=start)


def _moments(process: DiffusionProcess, states: Tensor) -> Tensor:
    if process.periodic:
        return torch.stack([f(n * states).mean() for n in (1, 2) for f in (torch.cos, torch.sin)])
    # The last tells a normal law from another of its variance.
    return torch.stack([states.mean(), states.std(), (2 * states).cos().mean()])
