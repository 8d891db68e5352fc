"""Which trials a rehearsal has, and what of them is as in the sweep."""

from dataclasses import replace
from pathlib import Path

import pytest

from kod_bench.data import DatasetOptions
from kod_bench.sweeps.plan.make import make_trials
from kod_bench.sweeps.plan.trial import Trial
from kod_bench.sweeps.rehearsal.shapes import few_images, in_common, rehearsed, shapes
from kod_bench.sweeps.space import ResourceOptions, find_space, load_space


@pytest.fixture
def trials(tiny_space: Path) -> tuple[Trial, ...]:
    """Kuramoto at T = 4; DDPM at 4 and 8; two seeds."""
    return make_trials(load_space(tiny_space, "laptop", changes=["seeds=[0,1]"]), "hash")


def test_a_shape_is_rehearsed_once_and_counts_its_trials(trials: tuple[Trial, ...]) -> None:
    found = shapes(trials)
    assert [sum(each.count for each in groups) for groups in found.values()] == [2, 2, 2]
    assert [groups[0].trial.steps for groups in found.values()] == [4, 4, 8]
    one = trials[1]
    other = [
        replace(one, training=one.training | {"learning_rate": 0.5}),  # a magnitude
        replace(one, training=one.training | {"iterations": 80}),  # multiplied in later
        replace(one, training=one.training | {"micro_batch_size": 4}),
        replace(one, training=one.training | {"batch_size": 16}),
        replace(one, network=one.network | {"width": 16}),
        replace(one, sampling=[{**one.sampling[0], "sampler": "ddim"}]),
    ]
    groups = list(shapes([one, *other]).values())
    assert [[each.count for each in same] for same in groups] == [[2, 1], [1], [1], [1], [1]]


def test_a_trial_of_a_rehearsal_is_short_and_of_its_real_size(trials: tuple[Trial, ...]) -> None:
    kuramoto = trials[0]
    found = rehearsed(kuramoto, ResourceOptions(), on_cpu=False)
    assert (found.steps, found.parameters) == (kuramoto.steps, kuramoto.parameters)
    assert (found.network, found.dataset) == (kuramoto.network, kuramoto.dataset)
    assert found.training["batch_size"] == 8
    # All four batches of its pool of 32 chains have their first turn, and six more.
    assert found.training["iterations"] == 10
    assert (found.training["checkpoint_every"], found.training["log_every"]) == (3, 1)
    assert found.evaluation["samples"] == 16  # a whole shard: its memory is rehearsed
    ways = {(way.prior, way.sampler): way.network_evaluations for way in found.scorings}
    assert len(found.scorings) == len(ways) == 4
    assert set(ways.values()) == {2}
    assert rehearsed(trials[1], ResourceOptions(), on_cpu=False).training["iterations"] == 6


def test_a_shape_is_called_by_what_its_models_share() -> None:
    assert in_common(["local", "local"]) == "local"
    assert in_common(["local radius=1 strength=0", "local radius=1 strength=2"]) == "local radius=1"


def test_where_the_cpu_stands_in_batches_are_cut(trials: tuple[Trial, ...]) -> None:
    found = rehearsed(trials[0], ResourceOptions(workers_per_trial=2), on_cpu=True)
    assert (found.training["batch_size"], found.workers) == (4, 2)
    assert (found.training["iterations"], found.training["checkpoint_every"]) == (3, 1)
    assert found.evaluation["samples"] == 2
    assert (found.network, found.steps) == (trials[0].network, trials[0].steps)
    chains = {"pool_size": 16, "calibration_chains": 16}
    assert found.parameters == trials[0].parameters | chains


def test_a_trial_of_one_iteration_is_rehearsed_as_such(trials: tuple[Trial, ...]) -> None:
    short = replace(trials[0], training=trials[0].training | {"iterations": 1})
    found = rehearsed(short, ResourceOptions(), on_cpu=False)
    assert (found.training["iterations"], found.training["checkpoint_every"]) == (1, 1)


def test_few_built_in_images_of_the_real_size() -> None:
    space = load_space(find_space("fingerprints"), "cluster")
    options = space.options.dataset
    few = few_images(options, is_built_in=True)
    assert (few.synthetic.fingers, few.synthetic.impressions) == (8, 2)
    assert few.image_size == options.image_size == 96
    assert few_images(options, is_built_in=False) == options
    own = DatasetOptions(name="folder:/somewhere", image_size=32)
    assert few_images(own, is_built_in=True) == own
    maps = load_space(find_space("sphere"), "cluster").options.dataset
    assert few_images(maps, is_built_in=True).sphere.count == 64
    photographs = load_space(find_space("textures"), "cluster").options.dataset
    assert few_images(photographs, is_built_in=True) == photographs


def test_every_shape_of_a_shipped_study_is_there() -> None:
    trials = make_trials(load_space(find_space("fingerprints"), "cluster"), "hash")
    found = shapes(trials)
    assert len(trials) == 40
    assert sorted((same[0].trial.model, same[0].trial.steps) for same in found.values()) == [
        (model, steps)
        for model in ("ddpm", "kuramoto-global", "kuramoto-local", "uncoupled")
        for steps in (100, 1000)
    ]
    assert all(same[0].count == 5 for same in found.values())
