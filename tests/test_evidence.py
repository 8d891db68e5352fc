"""Studies that are kept in the repository, and the tables that the docs make of them."""

import importlib.util
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from kod_bench.cli.main import app
from kod_bench.results import grid_file, provenance, read_trial, write_rows
from kod_bench.sweeps.plan.make import make_trials
from kod_bench.sweeps.plan.reuse import Reused
from kod_bench.sweeps.plan.sweep import SWEEP_FILE, Sweep
from kod_bench.sweeps.space import load_space
from kod_bench.sweeps.store import find
from kod_bench.sweeps.store.create import create_rescoring, create_sweep
from kod_bench.sweeps.store.find import NoSuchSweepError, find_sweep
from tests.reports.study import draw
from tests.rows import make_row

ROOT = Path(__file__).parents[1]
REFERENCE = ROOT / "results" / "reference"


def load(path: str) -> ModuleType:
    """A script of the repository as a module."""
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def sweep(tiny_space: Path, tmp_path: Path) -> Sweep:
    """A finished sweep of two seeds, on data in a folder."""
    space = load_space(tiny_space, "laptop")
    space = space.model_copy(
        update={"options": space.options.model_copy(update={"seeds": (0, 1, 2)})}
    )
    data = tmp_path / "home" / "somebody" / "prints"
    data.mkdir(parents=True)
    sweep = create_sweep(
        space,
        make_trials(space, "hash"),
        results_dir=tmp_path / "results",
        data_dir=data,
        provenance=provenance.collect(),
    )
    for trial in sweep.trials:
        folder = sweep.trial_folder(trial)
        folder.mkdir(parents=True)
        of_trial = {
            "trial": trial.id,
            "space": sweep.space,
            "sweep": sweep.name,
            "model": trial.model,
            "process": trial.process,
            "steps": trial.steps,
            "seed": trial.seed,
            "kid": 1.0 + 0.1 * trial.seed,
        }
        rows = [make_row(**of_trial, network_evaluations=n) for n in (100, 50, 25)]
        write_rows(folder, rows)
        for row in rows:
            draw(folder / grid_file(row.prior, row.sampler, row.network_evaluations))
    return sweep


@pytest.fixture
def kept(sweep: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same as a study."""
    folder = tmp_path / "checkout" / "results" / "reference"
    monkeypatch.setattr(find, "reference_folder", lambda: folder)
    keeper = load("benchmarks/keep_study.py")
    monkeypatch.setattr(keeper, "reference_folder", lambda: folder)
    path: Path = keeper.keep(sweep, "tiny-study", pictures=True)
    return path


def test_a_study_has_rows_plan_and_a_few_pictures_and_no_place_of_the_machine(
    sweep: Sweep, kept: Path
) -> None:
    again = find_sweep("reference/tiny-study", Path("anywhere"))
    assert again.trials == sweep.trials
    for trial in sweep.trials:
        rows = read_trial(sweep.trial_folder(trial))
        assert rows is not None
        assert read_trial(again.trial_folder(trial)) == [
            replace(row, sweep="tiny-study") for row in rows
        ]
    pictures = sorted(path.name for path in kept.rglob("*.png"))
    models = len({(trial.model, trial.steps) for trial in sweep.trials})
    shown = [f"samples-matched-ancestral-{number}.png" for number in (100, 25)]
    assert pictures == sorted(shown * models)
    assert "data_dir: prints\n" in (kept / SWEEP_FILE).read_text()
    assert not any(b"somebody" in path.read_bytes() for path in kept.rglob("*") if path.is_file())


def test_a_study_is_reported_and_compared_by_its_name(kept: Path, sweep: Sweep) -> None:
    done = CliRunner().invoke(app, ["report", "reference/tiny-study", "--terminal"])
    assert done.exit_code == 0, done.output
    assert "1.100" in done.output
    done = CliRunner().invoke(app, ["compare", str(sweep.folder), "reference/tiny-study"])
    assert done.exit_code == 0, done.output
    assert "minus reference/tiny-study" in done.output


def test_a_study_is_nobodys_newest_sweep(kept: Path, sweep: Sweep) -> None:
    results = kept.parents[1]
    with pytest.raises(NoSuchSweepError):
        find_sweep(None, results)
    with pytest.raises(NoSuchSweepError):
        find_sweep("tiny-study", results)


def test_no_such_study_names_those_that_are_kept(
    kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(NoSuchSweepError, match="no study reference/other; kept are tiny-study"):
        find_sweep("reference/other", tmp_path)
    with pytest.raises(NoSuchSweepError, match=r"no study reference/\.\./x"):
        find_sweep("reference/../x", tmp_path)
    monkeypatch.setattr(find, "reference_folder", lambda: tmp_path / "nothing")
    with pytest.raises(NoSuchSweepError, match="no part of the installed package"):
        find_sweep("reference/tiny-study", tmp_path)


def test_a_sweep_that_is_not_done_is_not_kept(
    sweep: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper = load("benchmarks/keep_study.py")
    monkeypatch.setattr(keeper, "reference_folder", lambda: tmp_path / "kept")
    (sweep.trial_folder(sweep.trials[1]) / "row.parquet").unlink()
    with pytest.raises(ValueError, match=f"not done: {sweep.trials[1].id}"):
        keeper.keep(sweep, "half", pictures=False)
    with pytest.raises(ValueError, match="must be lower-case letters"):
        keeper.keep(sweep, "../half", pictures=False)
    assert not (tmp_path / "kept").exists()
    half = keeper.keep(sweep, "half", pictures=False, unfinished=True)
    assert len([*half.glob("trials/*/row.parquet")]) == len(sweep.trials) - 1


def test_a_study_of_reused_models_does_not_tell_where_they_lay(
    sweep: Sweep, tiny_space: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"{sweep.space}/{sweep.name}"
    taken = [
        replace(trial, reuse=Reused("model", str(sweep.folder), name, trial.id, 2).values)
        for trial in sweep.trials
    ]
    again = create_rescoring(
        sweep,
        tuple(taken),
        results_dir=sweep.folder.parents[1],
        resources=load_space(tiny_space, "laptop").options.resources,
        said={},
        provenance=provenance.collect(),
    )
    for trial in again.trials:
        again.trial_folder(trial).mkdir(parents=True)
        write_rows(again.trial_folder(trial), [make_row(trial=trial.id)])
    assert str(tmp_path) in (again.folder / "trials.jsonl").read_text()
    keeper = load("benchmarks/keep_study.py")
    monkeypatch.setattr(keeper, "reference_folder", lambda: tmp_path / "kept")
    monkeypatch.setattr(find, "reference_folder", lambda: tmp_path / "kept")
    kept = keeper.keep(again, "steps", pictures=False)
    for path in (kept / SWEEP_FILE, kept / "trials.jsonl"):
        assert str(tmp_path) not in path.read_text()
    found = find_sweep("reference/steps", tmp_path)
    assert [trial.id for trial in found.trials] == [trial.id for trial in again.trials]
    assert {trial.reused.sweep for trial in found.trials if trial.reused} == {name}


@pytest.mark.parametrize(
    "study", sorted(path.parent.name for path in REFERENCE.glob("*/sweep.yaml"))
)
def test_no_study_of_this_repository_tells_where_anything_lay(study: str) -> None:
    sweep = find_sweep(f"reference/{study}", REFERENCE)
    plan = yaml.safe_load((sweep.folder / SWEEP_FILE).read_text())
    places = [plan.get("data_dir"), plan.get("source"), (plan.get("rescores") or {}).get("sweep")]
    places += [trial.reused.sweep for trial in sweep.trials if trial.reused is not None]
    assert [place for place in places if place is not None and place.startswith("/")] == []


def test_tables_are_made_of_rows(kept: Path, sweep: Sweep) -> None:
    tables = load("docs/make_tables.py")
    first, second = sorted({trial.model for trial in sweep.trials})[:2]
    made = tables.made(
        f"before\n<!-- table: tiny-study kid --models {second},{first} -->\nold\n<!-- /table -->\n"
    )
    assert "old" not in made
    assert "| Model" in made
    assert made.index(second) < made.index(f"| {first}")
    # Two models, one of them at two T, at three numbers of evaluations.
    assert made.count("1.100 [0.852, 1.348]") == 9  # mean and Student interval of 1.0, 1.1, 1.2
    assert tables.made(made) == made
    differences = tables.table(f"tiny-study {first}-minus-{second} kid")
    assert differences.count("+0.000") == 6  # each of two T
    assert tables.table("tiny-study verdict").startswith("- ")
    with pytest.raises(ValueError, match="no table"):
        tables.table("tiny-study beauty")


def test_a_table_of_ranking_power_is_made_of_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    benchmark, tables = load("benchmarks/few_samples.py"), load("docs/make_tables.py")
    # Scores of four grades, three times: eight of nine pairs of neighbours are in order.
    values = np.array([[0, 1, 2, 3], [0, 2, 1, 3], [0, 1, 2, 3]], dtype=float)
    found = benchmark.record(values)
    assert found == {"neighbours_right": 8, "neighbours": 9, "pairs_right": 17, "pairs": 18}
    same = {"dataset": "prints", "features": "net", "samples": 200}
    records = [
        same | {"metric": "kid", "way": "blur"} | found,
        same | {"metric": "kid", "way": "noise"} | found | {"neighbours_right": 4},
        same | {"metric": "mind", "way": "blur"} | found,
    ]
    monkeypatch.setattr(benchmark, "OUTPUT", tmp_path / "results/reference/few/power.json")
    monkeypatch.setattr(tables, "ROOT", tmp_path)
    benchmark._save(records)
    benchmark._save(records)  # in place of the former
    lines = tables.table("few power").splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]
    assert lines[0] == "prints, net:"
    assert cells[0] == ["n", "Metric", "blur", "noise", "all"]
    assert cells[2:] == [
        ["200", "KID", "89 %", "44 %", "67 %"],
        ["200", "MIND", "89 %", "", "89 %"],
    ]


def test_ratios_are_made_of_what_was_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = load("docs/make_tables.py")
    monkeypatch.setattr(tables, "STUDIES", tmp_path)
    commits = {"commit": "bbb", "commit_before": "aaa"}
    ratios = [
        {"ratio": 1, "what": "calls", "aim": 130, "value": 98.0, **commits},
        {"ratio": 2, "what": "a step", "aim": 1.05, "value": 1.1, "least": 1.0, "largest": 1.2}
        | commits,
    ]
    report = {"machine": "two cores", "torch": "2.15", "ratios": ratios}
    (tmp_path / "speed").mkdir()
    (tmp_path / "speed" / "here.json").write_text(json.dumps(report))
    made = tables.table("speed/here ratios")
    assert made.startswith("two cores, torch 2.15; bbb over aaa:")
    cells = [[cell.strip() for cell in line.split("|")] for line in made.splitlines()]
    assert ["", "1", "calls", "130", "98", "yes", ""] in cells
    assert ["", "2", "a step", "1.05", "1.100 [1.000, 1.200]", "**no**", ""] in cells


def test_tables_are_made_of_lines_of_a_benchmark(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = load("docs/make_tables.py")
    monkeypatch.setattr(tables, "ROOT", tmp_path)
    (tmp_path / "results" / "reference" / "try").mkdir(parents=True)
    lines = [
        f'{{"model": "{name}", "prior": "p", "sampler": "s", "evaluations": {asked}, '
        f'"seed": {seed}, "vortex_ratio": {value}}}'
        for name, asked, seed, value in (
            ("a", 100, 0, 1.0),
            ("b", 25, 0, 2.5),
            ("b", 25, 1, 3.0),
            ("b", 100, 0, 4.0),
        )
    ]
    (tmp_path / "results/reference/try/rows.jsonl").write_text("\n".join(lines))
    table = tables.table("try vortex_ratio --models b,a").splitlines()
    assert [[cell.strip() for cell in line.strip("|").split("|")] for line in table[2:]] == [
        ["b", "p", "s", "25", "2.75 (2.5 to 3)", "2"],
        ["b", "p", "s", "100", "4", "1"],
        ["a", "p", "s", "100", "1", "1"],
    ]
    with pytest.raises(ValueError, match="no column 'kid'"):
        tables.table("try vortex_ratio,kid")
    with pytest.raises(ValueError, match="no model c"):
        tables.table("try vortex_ratio --models a,c")


def test_the_tables_of_the_docs_are_what_their_rows_say() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "docs" / "make_tables.py"), "--check"],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
