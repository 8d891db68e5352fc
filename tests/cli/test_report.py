"""`kod-bench report` and `compare` on sweeps whose rows are written here: no Ray, no training."""

import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from kod_bench.cli import main as cli
from kod_bench.results import provenance, write_rows
from kod_bench.sweeps.plan.failures import write_error
from kod_bench.sweeps.plan.make import make_trials
from kod_bench.sweeps.plan.sweep import Sweep
from kod_bench.sweeps.space import load_space
from kod_bench.sweeps.store.create import create_sweep
from tests.rows import make_row

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["kod-bench", *map(str, arguments)])
        try:
            cli.main()
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        out, err = capsys.readouterr()
        return code, out, err

    return call


def make_sweep(space: Path, results: Path, shift: float, **changes: object) -> Sweep:
    loaded = load_space(space, "laptop")
    trials = make_trials(loaded, "hash")
    sweep = create_sweep(
        loaded, trials, results_dir=results, data_dir=None, provenance=provenance.collect()
    )
    *done, failed = trials
    for trial in done:
        folder = sweep.trial_folder(trial)
        folder.mkdir()
        row = make_row(
            sweep=sweep.name,
            trial=trial.id,
            model=trial.model,
            process=trial.process,
            steps=trial.steps,
            network_evaluations=trial.steps,
            seed=trial.seed,
            config=trial.config,
            kid=2.0 + shift,
            **changes,
        )
        write_rows(folder, [row])
    write_error(sweep.trial_folder(failed), RuntimeError("out of [luck] <b>"))
    return sweep


def test_one_sweep_several_and_a_folder_of_all(run: Run, tiny_space: Path, tmp_path: Path) -> None:
    first = make_sweep(tiny_space, tmp_path / "results", 0.0)
    second = make_sweep(tiny_space, tmp_path / "results", -1.0, features="inception")
    code, out, err = run("report", first.folder)
    assert code == 0, err
    assert "real versus real" in out
    written = {path.name for path in (first.folder / "report").iterdir()}
    assert written >= {"comparison.md", "comparison.tex", "cells.csv", "cells.parquet"}
    text = (first.folder / "report" / "comparison.md").read_text()
    assert "1 failed" in text
    assert "out of [luck] \\<b\\>" in text

    for names in ([first.folder, second.folder], [tmp_path / "results"], [first.folder.parent]):
        code, out, err = run("report", *names, "--markdown")
        assert code == 0, err
        assert "2 sweeps of" in out
        assert out.count("real versus real") >= 2  # two extractors: two tables
        assert "are in tables of their own" in out
        assert err == "written to report\n"
    assert (tmp_path / "report" / "cells.csv").is_file()
    assert text == (first.folder / "report" / "comparison.md").read_text()


def test_filters_and_terminal(run: Run, tiny_space: Path, tmp_path: Path) -> None:
    sweep = make_sweep(tiny_space, tmp_path / "results", 0.0)
    code, out, err = run("report", "--where", "model=ddpm", "--terminal")
    assert code == 0, err
    assert "kuramoto-local" not in out
    assert not (sweep.folder / "report").exists()
    assert not (tmp_path / "report").exists()
    for arguments, part in (
        (["--where", "modle=x"], "no column 'modle'"),
        (["--where", "model=nobody"], "no row meets --where model=nobody"),
        (["--dataset", "cifar10"], "there are fingerprints-synthetic"),
        (["nothing"], "no sweep 'nothing'"),
        (["--output", "s3://bucket/report"], "must be a folder of this machine"),
    ):
        code, _, err = run("report", *arguments)
        assert (code, len(err.splitlines())) == (2, 1), err
        assert part in err


def test_no_figure_is_older_than_the_table(run: Run, tiny_space: Path, tmp_path: Path) -> None:
    sweep = make_sweep(tiny_space, tmp_path / "results", 0.0)
    elsewhere = tmp_path / "paper"
    for old in (sweep.folder / "report" / "figures", elsewhere / "figures"):
        old.mkdir(parents=True)
        (old / "mine.txt").touch()
        (old / "9-kid-against-steps.pdf").touch()
        (old.parent / "published.csv").touch()
    assert run("report")[0] == 0
    figures = {path.name for path in (sweep.folder / "report" / "figures").iterdir()}
    assert "9-kid-against-steps.pdf" not in figures
    assert {path[-3:] for path in figures} == {"pdf", "svg", "txt"}
    assert (sweep.folder / "report" / "published.csv").stat().st_size
    # A folder that the user names may hold anything.
    assert run("report", "--output", elsewhere)[0] == 0
    assert (elsewhere / "figures" / "9-kid-against-steps.pdf").is_file()


def test_a_command_that_is_shown_can_be_pasted(run: Run, tiny_space: Path, tmp_path: Path) -> None:
    make_sweep(tiny_space, tmp_path / "my results", 0.0)
    code, out, err = run("status", "--results-dir", tmp_path / "my results")
    assert code == 0, err
    (line,) = [each for each in out.splitlines() if each.startswith("continue with: ")]
    command = shlex.split(line.removeprefix("continue with: "))
    assert command[:2] == ["kod-bench", "resume"]
    assert (Path(command[2]) / "sweep.yaml").is_file()
    assert len(command) == 3


def test_compare(run: Run, tiny_space: Path, tmp_path: Path) -> None:
    first = make_sweep(tiny_space, tmp_path / "results", 0.0)
    second = make_sweep(tiny_space, tmp_path / "results", -1.0)
    code, out, err = run("compare", first.folder, second.folder)
    assert code == 0, err
    assert "+1.000" in out
    assert "Not enough seeds to say" in out
    code, out, err = run("compare", "kuramoto-local", "ddpm", "--markdown")
    assert code == 0, err
    assert "| kuramoto-local" in out
    code, out, err = run("compare", second.folder, "published")
    assert code == 0, err
    assert "not ranked with ours" in out
    assert "67.49" in out
    # A sweep of the name of a model of the sweep that is given.
    tiny_space.write_text(tiny_space.read_text().replace("name: tiny", "name: ddpm"))
    make_sweep(tiny_space, tmp_path / "results", -1.0)
    code, out, err = run("compare", "ddpm", "kuramoto-local", "--sweep", first.folder)
    assert code == 0, err
    assert "1.000" not in out
    code, out, err = run("compare", "ddpm", first.folder)
    assert code == 0, err
    assert "-1.000" in out
    for names, part in ((["a", "ddpm"], "'a' is no sweep"), (["published", "ddpm"], "second")):
        code, _, err = run("compare", *names)
        assert (code, len(err.splitlines())) == (2, 1), err
        assert part in err
