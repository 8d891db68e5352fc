"""`evaluation.keep_samples`: what a space may say, what is said of it, and no part of old names."""

import json
from pathlib import Path
from typing import Any

import pytest

from kod_bench.errors import UsageError
from kod_bench.sweeps.plan.make import make_trials
from kod_bench.sweeps.plan.planned import plan_sweep
from kod_bench.sweeps.space import EvaluationOptions, load_space


def space_with(space: Path, keep: object) -> Path:
    text = space.read_text()
    space.write_text(text.replace("evaluation: {", f"evaluation: {{keep_samples: {keep}, "))
    return space


@pytest.mark.parametrize("keep", ["auto", "all", "none", 7])
def test_what_a_space_may_say(tiny_space: Path, keep: Any) -> None:
    space = load_space(space_with(tiny_space, keep), "laptop")
    assert space.options.evaluation.keep_samples == keep
    (trial, *_) = make_trials(space, "hash")
    assert trial.evaluation_options.keep_samples == keep


@pytest.mark.parametrize("keep", ["some", 0, -1, 1.5, "null", "true", "[1]", "'7'"])
def test_anything_else_is_refused_in_one_line(tiny_space: Path, keep: object) -> None:
    with pytest.raises(UsageError) as raised:
        load_space(space_with(tiny_space, keep), "laptop")
    message = str(raised.value)
    assert "evaluation.keep_samples: " in message
    assert "must be auto, all, none or a number of images" in message
    assert len(message.splitlines()) == 1


def test_the_default_leaves_trials_their_names(tiny_space: Path) -> None:
    before = make_trials(load_space(tiny_space, "laptop"), "hash")
    assert "keep_samples" not in json.loads(before[0].config)["evaluation"]
    same = make_trials(load_space(space_with(tiny_space, "auto"), "laptop"), "hash")
    assert [trial.id for trial in same] == [trial.id for trial in before]


@pytest.mark.parametrize(
    ("keep", "said"),
    [
        # Two models with two priors, samplers and numbers of evaluations, or two samplers.
        ("auto", "evaluation.keep_samples: auto, up to 256 MiB a trial"),
        ("none", "samples: dropped once scored, of 32 KiB a trial (evaluation.keep_samples: none)"),
        ("3", "samples: kept, 6 KiB a trial"),
    ],
)
def test_how_much_stays_is_said(tiny_space: Path, keep: str, said: str) -> None:
    lines: list[str] = []
    space = load_space(space_with(tiny_space, keep), "laptop")
    plan_sweep(space, data_dir=None, say=lines.append)
    (line,) = (each for each in lines if each.startswith("samples: "))
    assert said in line


@pytest.mark.parametrize(
    ("keep", "kept"), [("auto", 50_000), ("all", 50_000), ("none", 0), (100, 100), (10**6, 50_000)]
)
def test_how_many_stay(keep: Any, kept: int) -> None:
    options = EvaluationOptions(samples=50_000, keep_samples=keep)
    assert options.kept(50_000, 3 * 32 * 32, ways=1) == kept
    if keep == "auto":
        assert options.kept(50_000, 3 * 32 * 32, ways=2) == 0
