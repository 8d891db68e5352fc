"""Studies that are kept in the repository, and the tables that the docs make of them."""

import importlib.util
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
from typer.testing import CliRunner

from kod_bench.cli.main import app
from kod_bench.results import grid_file, provenance, read_trial, write_rows
from kod_bench.sweeps.plan.make import make_trials
from kod_bench.sweeps.plan.sweep import SWEEP_FILE, Sweep
from kod_bench.sweeps.space import load_space
from kod_bench.sweeps.store import find
from kod_bench.sweeps.store.create import create_sweep
from kod_bench.sweeps.store.find import NoSuchSweepError, find_sweep
from tests.reports.study import draw
from tests.rows import make_row

ROOT = Path(__file__).parents[1]


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
