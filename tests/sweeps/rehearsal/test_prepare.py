"""What a rehearsal finds before any trial runs."""

from pathlib import Path

import pytest

from kod_bench.sweeps.cluster import survey as survey_module
from kod_bench.sweeps.cluster.survey import Machine, Needs, look
from kod_bench.sweeps.plan.make import current_code
from kod_bench.sweeps.rehearsal.prepare import fitting, problems_of
from kod_bench.sweeps.space import ResourceOptions
from kod_bench.sweeps.store.open import open_sweep
from tests.sweeps.rehearsal.made import rehearsal


def test_a_machine_without_what_a_trial_needs_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KOD_BENCH_INCEPTION", str(tmp_path / "weights.pt"))
    monkeypatch.setenv("KOD_BENCH_CACHE", "/proc/nowhere")
    needs = Needs(
        (tmp_path / "prints",), tmp_path / "results", "inception", "another version", tmp_path
    )
    found = look(needs, {"CPU": 2.0})
    said = "\n".join(found.problems)
    assert f"the images in {tmp_path / 'prints'} are not there" in said
    assert f"{tmp_path / 'results'} is not there: --results-dir must be on a shared disk" in said
    assert "there is no such file" in said  # the weights
    assert "/proc/nowhere" in said
    assert f"has code {current_code()}, the sweep is planned by another version" in said
    assert len(found.problems) == 5


def test_a_machine_that_has_all_is_no_problem(tmp_path: Path) -> None:
    needs = Needs((tmp_path,), tmp_path, "efficientnet-lite0", current_code(), tmp_path)
    found = look(needs, {"CPU": 2.0})
    assert found.problems == ()
    assert found.free_results is not None
    assert found.free_cache is not None
    assert survey_module.survey(None, needs)[0].resources["CPU"] >= 1


def test_problems_name_the_machines() -> None:
    machines = [Machine("one"), Machine("two", problems=("no data",)), Machine("three")]
    assert problems_of(machines, "auto") == ["on two: no data"]
    assert problems_of(machines, None) == ["no data"]


@pytest.mark.parametrize(
    ("wanted", "nodes", "grows", "found", "on_cpu", "said"),
    [
        ({"gpus_per_worker": 1.0}, [{"CPU": 8.0, "GPU": 1.0}], False, (1, 1, 1.0), False, []),
        (
            {"gpus_per_worker": 1.0},
            [],
            True,
            (1, 1, 1.0),
            False,
            ["machines that the cluster has yet to start"],
        ),
        (
            {"gpus_per_worker": 1.0, "cpus_per_worker": 4},
            [{"CPU": 2.0}],
            False,
            (1, 2, 0.0),
            True,
            ["room for 0", "the CPU stands in for it, with 2 images at once"],
        ),
        (
            {"workers_per_trial": 4},
            [{"CPU": 2.0}],
            False,
            (2, 1, 0.0),
            False,
            ["room for 2", "4 workers of a trial: 2 in their place"],
        ),
    ],
)
def test_what_does_not_fit_is_cut_and_said(
    wanted: dict[str, float],
    nodes: list[dict[str, float]],
    grows: bool,
    found: tuple[int, int, float],
    on_cpu: bool,
    said: list[str],
) -> None:
    machines = [Machine("host", node) for node in nodes]
    resources, cut, lines = fitting(ResourceOptions.model_validate(wanted), machines, grows)
    r = resources
    assert (r.workers_per_trial, r.cpus_per_worker, r.gpus_per_worker) == found
    assert cut == on_cpu
    assert len(lines) == len(said)
    assert all(part in line for part, line in zip(said, lines, strict=True))


def test_an_extractor_without_weights_is_a_finding_and_has_a_stand_in(
    tiny_space: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KOD_BENCH_INCEPTION", str(tmp_path / "weights.pt"))
    sweep = rehearsal(tiny_space, tmp_path / "results", "evaluation.features=inception")
    said = open_sweep(sweep.folder).rehearsal
    assert said is not None
    assert "there is no such file" in said["would_fail"][0]
    assert "scoring by inception: by efficientnet-lite0 in its place" in said["not_rehearsed"]
    assert {trial.evaluation["features"] for trial in sweep.trials} == {"efficientnet-lite0"}
