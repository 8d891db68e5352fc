"""The arithmetic of estimates: what is timed, how times add up. The timing itself: tests/cli."""

from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest

from kod_bench.sweeps.cost.estimate import (
    WORKERS_SECONDS,
    representatives,
    schedule,
    seconds_saved,
    shape_of,
    trial_seconds,
    trials_at_once,
)
from kod_bench.sweeps.cost.timing import ModelTiming, ScoringTiming
from kod_bench.sweeps.plan.make import make_trials
from kod_bench.sweeps.plan.reuse import Reused
from kod_bench.sweeps.plan.trial import Trial
from kod_bench.sweeps.space import MedianOptions, ResourceOptions, load_space


@pytest.fixture
def trial(tiny_space: Path) -> Trial:
    """The Kuramoto trial: two priors, two samplers, 4 and 2 evaluations."""
    return make_trials(load_space(tiny_space, "laptop"), "hash")[0]


@pytest.mark.parametrize(
    ("seconds", "at_once", "wall"),
    [([], 2, 0), ([5], 2, 5), ([1, 2, 3], 1, 6), ([3, 1, 1, 1], 2, 3), ([1, 1, 4], 2, 5)],
)
def test_trials_start_as_soon_as_there_is_room(
    seconds: list[float], at_once: int, wall: float
) -> None:
    assert schedule(seconds, at_once) == wall


@pytest.mark.parametrize(
    ("options", "cpus", "gpus", "expected"),
    [
        ({}, 2, 0, 2),
        ({"cpus_per_worker": 2}, 5, 0, 2),
        ({"workers_per_trial": 2}, 5, 0, 2),
        ({"cpus_per_worker": 4}, 2, 0, 0),
        ({"gpus_per_worker": 1.0}, 64, 0, 0),
        ({"gpus_per_worker": 1.0}, 64, 4, 4),
        ({"gpus_per_worker": 0.25}, 64, 2, 8),
        ({"gpus_per_worker": 0.4}, 64, 2, 4),  # two on each, not five on both
        ({"gpus_per_worker": 0.25}, 3, 2, 3),
        ({"gpus_per_worker": 2.0, "workers_per_trial": 2}, 64, 8, 2),
    ],
)
def test_what_fits(options: dict[str, float], cpus: int, gpus: int, expected: int) -> None:
    resources = ResourceOptions.model_validate(options)
    assert trials_at_once(resources, cpus, gpus) == expected


def test_a_trial_is_the_sum_of_its_parts(trial: Trial) -> None:
    model = ModelTiming(
        start=100,
        iteration=2,
        checkpoint=10,
        drawing={"ancestral": 0.5, "probability-flow": 0.25},
        forward_step=0.125,
        likelihood=3000,
    )
    scoring = ScoringTiming(start=1000, image=4, row=7, references=32, stand_ins=16)
    # 40 iterations with 4 checkpoints; 16 samples in 2 priors x 2 samplers x (4 and 2) ways.
    training = 100 + 40 * 2 + 4 * 10
    drawing = 16 * 2 * (4 + 2) * (0.5 + 0.25)
    forward = 16 * 4 * (0.125 * 4)  # four ways start there
    expected = training + drawing + forward + 3000 + 1000 + 8 * (16 * 4 + 7)
    assert trial_seconds(trial, model, scoring) == pytest.approx(expected)
    assert scoring.reference == 1000 + 48 * 4 + 7
    # Judged after 10, 20 and 30 iterations by 6 samples of the first prior and sampler.
    rung = 1000 + 6 * (0.5 * 4 + 4) + 7
    judged = trial_seconds(trial, model, scoring, MedianOptions(min_iterations=10, samples=6))
    assert judged == pytest.approx(expected + 3 * rung)
    # Of two workers, with shards of 5: four of them, the last one whole, are two for each.
    shards = {**trial.evaluation, "batch_size": 5}
    shared = trial_seconds(replace(trial, workers=2, evaluation=shards), model, scoring)
    saved = (16 - 2 * 5) * (2 * (4 + 2) * (0.5 + 0.25) + 4 * (0.125 * 4))
    assert shared == pytest.approx(expected - saved + WORKERS_SECONDS)


def test_what_a_trial_begins_with_is_saved(trial: Trial) -> None:
    model = ModelTiming(100, 2, 10, {"ancestral": 0.5, "probability-flow": 0.25}, 0.125)

    def saved(kind: Literal["row", "model", "part"], iterations: int, workers: int = 1) -> float:
        reused = Reused(kind, "/results/tiny/one", "tiny/one", "ddpm-T4", iterations)
        return seconds_saved(replace(trial, reuse=reused.values, workers=workers), 5000, model)

    assert seconds_saved(trial, 5000, model) == 0
    assert saved("row", 40) == 5000
    assert saved("model", 40) == 40 * 2 + 4 * 10
    assert saved("model", 40, workers=2) == 40 * 2 + 4 * 10 + WORKERS_SECONDS
    assert saved("part", 20, workers=2) == 20 * 2 + 2 * 10


@pytest.mark.parametrize(
    ("section", "change", "same"),
    [
        ("parameters", {"coupling_strength": 0.5}, True),
        ("parameters", {"noise_range": [0.1, 0.2]}, True),
        ("parameters", {"neighbourhood_radius": 2}, False),
        ("parameters", {"coupling": "global"}, False),
        ("training", {"learning_rate": 0.5}, True),
        ("training", {"iterations": 5}, True),
        ("training", {"batch_size": 16}, False),
        ("network", {"width": 16}, False),
        ("dataset", {"image_size": 32}, False),
    ],
)
def test_what_makes_steps_slower_is_timed_apart(
    trial: Trial, section: str, change: dict[str, object], same: bool
) -> None:
    changed = replace(trial, **{section: getattr(trial, section) | change})  # type: ignore[arg-type]
    assert (shape_of(changed) == shape_of(trial)) == same
    assert shape_of(replace(trial, seed=9)) == shape_of(trial)
    assert shape_of(replace(trial, steps=9)) != shape_of(trial)


def test_few_shapes_are_all_timed_and_many_by_their_neighbours() -> None:
    shapes = [("ddpm", width) for width in (8, 100, 64, 9)] + [("kuramoto", 8)]
    assert representatives(shapes, 12) == {shape: shape for shape in shapes}
    chosen = representatives(shapes, 4)
    assert chosen["kuramoto", 8] == ("kuramoto", 8)
    assert chosen["ddpm", 8] == chosen["ddpm", 9]
    assert chosen["ddpm", 64] == chosen["ddpm", 100]
    assert len(set(chosen.values())) == 3
