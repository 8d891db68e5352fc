"""Plug-ins in plans, rows and reports; and what a stranger's sweep may not import."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from kod_bench import plugins
from kod_bench.reports.frame import frame_of
from kod_bench.reports.make import make_content
from kod_bench.results import Row, provenance
from kod_bench.source_hash import module_hash
from kod_bench.sweeps.plan.make import make_trials
from kod_bench.sweeps.plan.sweep import Sweep
from kod_bench.sweeps.space import load_space
from kod_bench.sweeps.store.create import create_sweep
from kod_bench.sweeps.store.open import open_sweep
from kod_bench.sweeps.store.plugged import changed_plugins, check_trusted, permissions
from tests.conftest import Command
from tests.plugins import Announce, blur, dots, marked, write_space
from tests.rows import make_row

# Plans and rows


def plan(tmp_path: Path, models: str, dataset: str = "fingerprints", more: str = "") -> Sweep:
    space = load_space(write_space(tmp_path, models, dataset, more), "auto")
    return create_sweep(
        space,
        make_trials(space, "hash"),
        results_dir=tmp_path / "results",
        data_dir=None,
        provenance=provenance.collect(),
    )


def test_the_source_is_part_of_a_trials_identity(announce: Announce, tmp_path: Path) -> None:
    models = "  one: {process: blur-f, steps: 4}\n  ddpm: {process: ddpm, steps: 4}"
    blur(announce, "blur-f")
    before = {trial.model: trial for trial in plan(tmp_path, models).trials}
    (known,) = before["one"].plugins
    assert (known["kind"], known["name"], known["package"]) == ("process", "blur-f", "bench-blur-f")
    assert "plugins" not in before["ddpm"].values  # whose id is what it was without plug-ins
    blur(announce, "blur-f", "# another comment")
    after = {trial.model: trial for trial in plan(tmp_path, models).trials}
    assert after["one"].id != before["one"].id
    assert after["ddpm"].id == before["ddpm"].id


def test_a_resume_says_that_a_plugin_has_changed(announce: Announce, tmp_path: Path) -> None:
    blur(announce, "blur-g")
    sweep = plan(tmp_path, "  one: {process: blur-g, steps: 4}")
    assert changed_plugins(sweep) == []
    before = module_hash("plugged_blur-g")
    blur(announce, "blur-g", "# another comment")
    ((planned, now),) = changed_plugins(open_sweep(sweep.folder))
    assert planned == f"process 'blur-g' of bench-blur-g 1.0+{before}"
    assert now == f"process 'blur-g' of bench-blur-g 1.0+{module_hash('plugged_blur-g')}"


def test_a_report_knows_of_plugins_by_their_rows_alone() -> None:
    said = {
        "kind": "process",
        "name": "blur-x",
        "package": "bench-blur",
        "version": "1.2",
        "source": "0123456789ab",
    }
    rows = [
        row_of(seed=seed, model=name, process=name, kind=kind, plugins=plugins)
        for seed in (0, 1)
        for name, kind, plugins in (
            ("blur-x", "structured", json.dumps([said])),
            ("ddpm", "euclidean", None),
        )
    ]
    content = make_content(frame_of(rows), title="study")
    kinds = {cell.model: cell.kind for group in content.groups for cell in group.cells}
    assert kinds == {"blur-x": "structured", "ddpm": "euclidean"}
    assert content.provenance.statements[0] == (
        "Process blur-x is a plug-in: bench-blur 1.2, source 0123456789ab (2 rows)."
    )
    other = row_of(seed=2, model="blur-x", process="blur-x", plugins="[{}, 3]")
    assert make_content(frame_of([*rows, other]), title="study").rows is not None


def row_of(**changes: object) -> Row:
    return make_row(trial=f"{changes['model']}-{changes['seed']}", **changes)


# Strangers


@pytest.mark.parametrize("kind", ["process", "dataset", "extractor", "search"])
def test_resume_imports_no_plugin_that_its_user_did_not_name(
    announce: Announce, call: Command, tmp_path: Path, kind: str
) -> None:
    mark, dataset, more = tmp_path / "ran", "fingerprints", ""
    models = "  one: {process: ddpm, steps: 4}"
    name = f"plug-{kind}"
    if kind == "dataset":
        dots(announce, name)
        dataset = name
    elif kind == "extractor":
        source = "class Means:\n    def __init__(self, device): ...\n"
        reference = {"kod_bench.extractors": {name: "plugged_means:Means"}}
        announce(f"bench-{name}", reference, {"plugged_means.py": source})
    else:
        blur(announce, name)
        models = f"  one: {{process: {name}, steps: 4}}"
        if kind == "search":
            models = f"  one: {{process: {name}, steps: 4, radius: {{uniform: [0.5, 1.0]}}}}"
            more = "search: {strategy: optuna, trials: 3}\n"
    path = write_space(tmp_path, models, dataset, more)
    if kind == "extractor":
        path.write_text(path.read_text().replace("efficientnet-lite0", name))
    space = load_space(path, "auto")
    sweep = create_sweep(
        space,
        make_trials(space, "hash"),
        results_dir=tmp_path / "results",
        data_dir=None,
        provenance=provenance.collect(),
    )
    assert (sweep.growth is not None) is (kind == "search")
    # The same package, now with something to notice.
    site = tmp_path / "site-packages"
    for module in site.glob("plugged_*.py"):
        module.write_text(marked(mark) + "\n" + module.read_text())
    for verb in ("status", "report"):
        assert "Traceback" not in call(verb, sweep.folder).stderr
    refused = call("resume", sweep.folder)
    assert refused.returncode == 2
    assert f"its plan imports {'data set' if kind == 'dataset' else ''}" in refused.stderr
    assert refused.stderr.endswith(
        f"of package bench-{name} 1.0; if you know that code and trust it, add "
        f"--plugin bench-{name}\n"
    )
    assert len(refused.stderr.splitlines()) == 1
    assert call("resume", sweep.folder, "--plugin", "another").returncode == 2
    assert not mark.exists()
    for trusted in (name, f"bench-{name}"):
        check_trusted(sweep, None, [trusted])
    assert permissions(sweep) == ("--plugin", f"bench-{name}")
    own = replace(sweep, permissions=permissions(sweep))
    assert own.resume_command == f"kod-bench resume {sweep.folder} --plugin bench-{name}"
    assert open_sweep(sweep.folder).resume_command == f"kod-bench resume {sweep.folder}"


def test_what_is_not_installed_is_named(announce: Announce, call: Command, tmp_path: Path) -> None:
    blur(announce, "blur-h")
    sweep = plan(tmp_path, "  one: {process: blur-h, steps: 4}")
    for path in (tmp_path / "site-packages").rglob("*"):
        if path.is_file():
            path.unlink()
    plugins.forget()
    for verb in ("status", "report"):
        assert "Traceback" not in call(verb, sweep.folder).stderr
    refused = call("resume", sweep.folder, "--plugin", "blur-h")
    assert refused.returncode == 2
    assert refused.stderr == (
        f"error: {sweep.folder}: its plan needs process 'blur-h', which is not built in, and no "
        "installed package has one; it was planned with bench-blur-h 1.0\n"
    )
