"""At which steps samplers ask that ask more than once."""

from functools import partial
from itertools import pairwise

import pytest

from kod_bench.diffusion import DDPM, KuramotoDiffusion, WrappedDiffusion
from kod_bench.diffusion.step_grids import even_steps, restarted_steps

GRID = partial(even_steps, 100)


def test_as_few_jumps_as_there_can_be_are_made_three_times() -> None:
    asked = restarted_steps(GRID, 25, lambda to: 7 <= to <= 49)
    steps = sorted(set(asked), reverse=True)
    assert steps == list(even_steps(100, 13))
    assert [step for step, to in pairwise(steps) if asked.count(step) == 3] == [
        step for step, to in pairwise(steps) if 7 <= to <= 49
    ]
    assert len(asked) == 25


def test_what_is_over_goes_to_the_steps_nearest_to_the_data() -> None:
    # Three jumps lead to 67, 33 and 0; one is made again, once, since no fifth question is left.
    assert restarted_steps(GRID, 4, lambda to: 20 <= to <= 40) == (100, 67, 67, 33)


@pytest.mark.parametrize("evaluations", range(1, 101))
def test_no_budget_is_exceeded_or_left_over(evaluations: int) -> None:
    for again in (lambda to: False, lambda to: to > 0, lambda to: 7 <= to <= 49):
        asked = restarted_steps(GRID, evaluations, again)
        assert len(asked) == evaluations
        assert asked == tuple(sorted(asked, reverse=True))
        assert asked[0] == 100
        assert max(map(asked.count, asked)) <= 3


def test_where_nothing_is_made_again_all_steps_differ() -> None:
    assert restarted_steps(GRID, 25, lambda to: False) == even_steps(100, 25)


@pytest.mark.parametrize("kind", [KuramotoDiffusion, WrappedDiffusion, DDPM])
def test_steps_are_made_again_at_a_noise_of_some_tenths_to_one(
    kind: type[KuramotoDiffusion | WrappedDiffusion | DDPM],
) -> None:
    process = kind(shape=(1, 4, 4), steps=1000)
    again = [to for to in range(1000) if process.is_made_again(to)]
    assert again == list(range(again[0], again[-1] + 1))
    if isinstance(process, WrappedDiffusion):
        assert process.sigma[again[0]] == pytest.approx(0.15, abs=0.01)
        assert process.sigma[again[-1]] == pytest.approx(1.1, abs=0.01)
