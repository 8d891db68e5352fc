"""The two identities of a trial: what changes which."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kod_bench.sweeps.plan.make import make_trials
from kod_bench.sweeps.plan.reuse import Reused, lineage_hash
from kod_bench.sweeps.plan.trial import Trial
from kod_bench.sweeps.plan.trials_file import decode_trials, encode_trials
from kod_bench.sweeps.space import load_space

TAKEN = Reused("model", "/results/tiny/20260101-000000", "tiny/20260101-000000", "ddpm-T4", 40)


@pytest.fixture
def trial(tiny_space: Path) -> Trial:
    return make_trials(load_space(tiny_space, "laptop"), "hash")[1]


@pytest.mark.parametrize(
    ("changes", "trained", "lineage", "scored"),
    [
        ({"model": "renamed"}, True, True, True),
        ({"seed": 1}, False, False, True),
        ({"steps": 5}, False, False, True),
        ({"data_hash": "other"}, False, False, True),
        ({"workers": 2}, False, False, True),
        ({"code": "9.9+other"}, False, False, False),
        ({"training": {"iterations": 80}}, False, True, True),
        ({"training": {"batch_size": 16}}, False, False, True),
        ({"evaluation": {"samples": 32}}, True, True, False),
        ({"evaluation": {"features": "inception"}}, True, True, False),
        ({"evaluation": {"keep_samples": "all"}}, True, True, True),
        ({"sampling": []}, True, True, False),
        ({"plugins": [{"kind": "extractor", "version": "2"}]}, True, True, False),
        ({"plugins": [{"kind": "process", "version": "2"}]}, False, False, True),
        ({"reuse": TAKEN.values}, True, True, True),
    ],
)
def test_what_changes_which_identity(
    trial: Trial, changes: dict[str, Any], trained: bool, lineage: bool, scored: bool
) -> None:
    (name, value) = next(iter(changes.items()))
    before = getattr(trial, name)
    if isinstance(before, dict) and name != "reuse":
        value = before | value
    other = replace(trial, **{name: value})
    assert (other.trained_hash == trial.trained_hash) == trained
    assert (lineage_hash(other.values) == lineage_hash(trial.values)) == lineage
    assert (other.scored_hash == trial.scored_hash) == scored


def test_what_is_reused_is_in_the_plan_and_no_part_of_the_trial(trial: Trial) -> None:
    taken = replace(trial, reuse=TAKEN.values)
    assert taken.config_hash == trial.config_hash
    assert taken.id == trial.id
    other = replace(trial, seed=1)
    content = encode_trials([(each.id, each.record) for each in (taken, other)])
    assert [Trial(**values) for values in decode_trials(content)] == [taken, other]
    assert taken.reused == TAKEN
    assert b"reuse" not in encode_trials([(trial.id, trial.record)])
