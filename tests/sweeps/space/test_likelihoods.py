"""`evaluation.likelihood`: what a space may say, of whom it is asked, and who searches by it."""

import json
from pathlib import Path
from typing import Any

import pytest

from kod_bench.errors import UsageError
from kod_bench.sweeps.plan.make import make_trials
from kod_bench.sweeps.plan.rescoring import Rescoring, rescored
from kod_bench.sweeps.plan.reuse import Reused
from kod_bench.sweeps.space import SearchSpace, load_space

SPACE = """
name: likelihoods
dataset: {name: DATA, image_size: 16}
training: {iterations: 4, batch_size: 8, learning_rate: LEARNING}
evaluation: {samples: 20, references: 16, likelihood: SAID}
models: {one: MODEL}
SEARCH
"""
OPTUNA = "search: {strategy: optuna, trials: 3, metric: METRIC}"


def space(
    folder: Path, model: str, said: object = 64, data: str = "fingerprints", metric: str = ""
) -> SearchSpace:
    text = SPACE.replace("DATA", data).replace("SAID", str(said)).replace("MODEL", model)
    text = text.replace("LEARNING", "{loguniform: [1e-4, 1e-2]}" if metric else "1e-3")
    path = folder / "space.yaml"
    path.write_text(text.replace("SEARCH", OPTUNA.replace("METRIC", metric) if metric else ""))
    return load_space(path, "auto")


@pytest.mark.parametrize("said", ["auto", "none", 2, 64])
def test_what_a_space_may_say(tmp_path: Path, said: Any) -> None:
    found = space(tmp_path, "{process: ddpm, steps: 4}", said)
    (trial, *_) = make_trials(found, "hash")
    assert trial.evaluation_options.likelihood == said
    assert ("likelihood" in json.loads(trial.config)["evaluation"]) == (said != "auto")


@pytest.mark.parametrize("said", ["all", "true", 1, 0, -3, 2.5, "null", "[4]", 10_000_000])
def test_anything_else_is_refused_in_one_line(tmp_path: Path, said: object) -> None:
    with pytest.raises(UsageError) as raised:
        space(tmp_path, "{process: ddpm, steps: 4}", said)
    message = str(raised.value)
    assert "evaluation.likelihood: " in message
    assert "must be auto, none or a number of images from 2 on" in message
    assert len(message.splitlines()) == 1


@pytest.mark.parametrize(
    ("model", "data"),
    [
        *(
            (f"{{process: {process}, steps: 4}}", "fingerprints")
            for process in ("ddpm", "edm", "flow-matching", "heat", "kuramoto", "sgm", "ve")
        ),
        ("{process: wrapped, steps: 4}", "xy"),
        ("{process: kuramoto, steps: 4, coupling: local}", "xy"),
    ],
)
def test_who_has_one(tmp_path: Path, model: str, data: str) -> None:
    assert space(tmp_path, model, data=data).options.evaluation.likelihood == 64


@pytest.mark.parametrize(
    ("model", "data", "reason"),
    [
        ("{process: blurring, steps: 4}", "fingerprints", "blurring has no likelihood that is"),
        ("{process: heat, steps: 4, delta: 0}", "fingerprints", "heat without delta has no"),
        ("{process: heat, steps: 4, as_released: true}", "fingerprints", "heat as released never"),
        ("{process: ddpm, steps: 4}", "xy", "ddpm reads angles as points of the plane"),
        ("{process: edm, steps: 4, reading: angle}", "xy", "edm reads angles as numbers that are"),
    ],
)
def test_who_has_none_is_refused_in_one_line(
    tmp_path: Path, model: str, data: str, reason: str
) -> None:
    with pytest.raises(UsageError) as raised:
        space(tmp_path, model, data=data)
    message = str(raised.value)
    assert f"evaluation.likelihood: model one: {reason}" in message
    assert len(message.splitlines()) == 1
    for said in ("auto", "none"):  # of which nobody expects one
        assert space(tmp_path, model, said, data)
    (trial,) = make_trials(space(tmp_path, model, "auto", data), "hash")
    reused = Reused("model", "results/a/b", "a/b", trial.id, 4)
    with pytest.raises(UsageError, match=f"--set evaluation.likelihood: model one: {reason}"):
        rescored([(trial, reused)], Rescoring.of(["evaluation.likelihood=8"]), trial.code)


def test_rescoring_asks_for_one(tmp_path: Path) -> None:
    (trial,) = make_trials(space(tmp_path, "{process: ddpm, steps: 4}", "auto"), "hash")
    reused = Reused("model", "results/a/b", "a/b", trial.id, 4)
    (again,) = rescored([(trial, reused)], Rescoring.of(["evaluation.likelihood=8"]), trial.code)
    assert again.evaluation_options.likelihood == 8
    assert again.trained_hash == trial.trained_hash
    assert again.scored_hash != trial.scored_hash


def test_a_search_goes_by_what_its_models_have(tmp_path: Path) -> None:
    ddpm, wrapped = ("{process: ddpm, steps: 4}", "{process: wrapped, steps: 4}")
    assert space(tmp_path, ddpm, metric="bits_per_dimension")
    assert space(tmp_path, wrapped, "auto", "xy", "likelihood")
    assert space(tmp_path, wrapped, 16, "xy", "[likelihood, correlation_distance]")
    for model, said, data, metric, reason in (
        (ddpm, "auto", "fingerprints", "bits_per_dimension", "evaluation.likelihood is a number"),
        (wrapped, "none", "xy", "likelihood", "evaluation.likelihood is a number of images"),
        (ddpm, "auto", "xy", "likelihood", "ddpm reads angles as points of the plane"),
    ):
        with pytest.raises(UsageError, match=rf"search\.metric: model one.*: .*{reason}"):
            space(tmp_path, model, said, data, metric)
