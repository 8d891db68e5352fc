"""`rescore` and `sweep --reuse` as a user types them."""

import json
import shutil
from pathlib import Path

import pytest

from kod_bench.results import read_trial
from kod_bench.sweeps.store.open import open_sweep
from tests.conftest import Command

ONE = ("--set", "models.kuramoto-local=null", "--set", "models.ddpm.steps=4")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--network-evaluations", "10,0"], "--network-evaluations '10,0': must be whole numbers"),
        (["--samplers", "a,,b"], "--samplers 'a,,b': must be names"),
        (["--set", "training.iterations=5"], "--set training: the models are trained already"),
        (["--set", "evaluation.sampels=5"], "--set evaluation.sampels: unknown key; did you mean"),
        (["--where", "stepz=4"], "no column 'stepz'"),
        ([], "no sweep in results"),
    ],
)
def test_wrong_use_is_one_line(
    call: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], line: str
) -> None:
    monkeypatch.chdir(tmp_path)
    said = call("rescore", *arguments)
    assert said.returncode == 2
    assert said.stderr.startswith("error: ")
    assert len(said.stderr.splitlines()) == 1
    assert line in said.stderr


def test_reuse_of_what_is_no_sweep(call: Command, tiny_space: Path, tmp_path: Path) -> None:
    said = call("sweep", tiny_space, "--reuse", tmp_path / "none", "--results-dir", tmp_path / "r")
    assert said.returncode == 2
    assert "no sweep" in said.stderr


@pytest.mark.slow
@pytest.mark.timeout(1300)
def test_a_study_grows_without_paying_twice(
    kod_bench: Command, call: Command, tiny_space: Path, tmp_path: Path
) -> None:
    results = tmp_path / "results"
    first = kod_bench(
        "sweep", tiny_space, *ONE, "--seeds", "0", "--results-dir", results, timeout=400
    )
    assert first.returncode == 0, first.stderr
    (parent,) = (results / "tiny").iterdir()

    where = ("--results-dir", results)
    dry = call("sweep", tiny_space, *ONE, "--seeds", "0,1", "--reuse", parent, "--dry-run",
               "--no-timing", "--json", *where)  # fmt: skip
    said = json.loads(dry.stdout.splitlines()[-1])["reuse"]
    counts = [said[key] for key in ("adopted", "rescored", "continued", "new")]
    assert counts == [1, 0, 0, 1]
    assert (said["iterations_saved"], said["iterations"]) == (40, 80)
    # Nothing to run: no Ray, and the report is there.
    same = call("sweep", tiny_space, *ONE, "--seeds", "0", "--reuse", parent, *where)
    assert same.returncode == 0, same.stderr
    assert "1 trials have adopted the rows of equal ones" in same.stdout
    assert "with Ray" not in same.stdout

    again = kod_bench("rescore", parent, "--network-evaluations", "2,3", "--model", "dd*",
                      "--where", "steps=4", *where)  # fmt: skip
    assert again.returncode == 0, again.stderr
    line = next(line for line in again.stdout.splitlines() if line.startswith("with the rows"))
    rescored = open_sweep(Path(line.split()[-1]))
    rows = read_trial(rescored.trial_folder(rescored.trials[0]))
    assert rows is not None
    assert [row.network_evaluations for row in rows] == [2, 3]

    # A kill that took the row: resume makes it again, from the model, though the parent is gone.
    shutil.rmtree(parent)
    (rescored.trial_folder(rescored.trials[0]) / "row.parquet").unlink()
    resumed = kod_bench("resume", rescored.folder, *where)
    assert resumed.returncode == 0, resumed.stderr
    after = read_trial(rescored.trial_folder(rescored.trials[0]))
    assert after is not None
    assert [row.kid for row in after] == [row.kid for row in rows]
