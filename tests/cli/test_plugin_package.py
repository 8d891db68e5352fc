"""The packages of CONTRIBUTING and docs/plugins.md, built, installed, swept, killed and resumed."""

import json
import os
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.cli.processes import computing, frozen, only_sweep, started, wait_for
from tests.pages import ROOT, copy_files

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SPACE = """
name: tiny
dataset: {name: waves, image_size: 16}
network: {width: 8, multipliers: [1, 2], blocks: 1}
training: {iterations: 150, batch_size: 8, log_every: 5, checkpoint_every: 10, warmup: 5}
evaluation: {samples: 16, references: 16, batch_size: 16, features: thumbnails}
models:
  fading: {process: fading, steps: 4, power: {value: 1.5}, samplers: [ancestral, straight]}
profiles:
  laptop: {resources: {workers_per_trial: 2}}
"""

Python = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment with both packages; what they need comes from this one."""
    folder = tmp_path_factory.mktemp("plug-ins")
    venv.create(folder / "venv", symlinks=True)
    (packages,) = (folder / "venv").glob("lib/python*/site-packages")
    here = [path for path in sys.path if path.endswith("-packages")]
    (packages / "parent.pth").write_text("\n".join([str(ROOT), *here]) + "\n")
    found = folder / "venv" / "bin" / "python"
    for page in ("CONTRIBUTING.md", "docs/plugins.md"):
        package = copy_files(page, folder / page.replace("/", "-").removesuffix(".md"))
        # Nothing is fetched: the backend is hatchling, as this project's own.
        offline = ("--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check")
        pip = [found, "-m", "pip", "install", "-q", *offline, package]
        subprocess.run(pip, check=True, env=environment())
        assert any(packages.glob("kod_bench_*.dist-info"))
    return found


def environment() -> dict[str, str]:
    """Nothing but the fresh environment's own path."""
    return {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}


@pytest.fixture
def command(python: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.delenv("PYTHONPATH", raising=False)
    monkeypatch.chdir(tmp_path)
    return [str(python), "-m", "kod_bench.cli.main"]


def test_the_packages_work_in_a_fresh_environment(
    kod_bench: Python, command: list[str], tmp_path: Path
) -> None:
    space = tmp_path / "tiny.yaml"
    space.write_text(SPACE)
    valid = kod_bench("spaces", "validate", space)
    assert valid.returncode == 0, valid.stderr
    planned = kod_bench("sweep", space, "--dry-run", "--no-timing")
    assert planned.returncode == 0, planned.stderr
    assert "1 trials: 1 configurations" in planned.stdout

    listed = kod_bench("data", "list")
    assert "waves\n  from     package kod-bench-waves 0.1.0; not prepared\n" in listed.stdout
    prepared = kod_bench("data", "prepare", "waves", "--image-size", "16")
    assert prepared.returncode == 0, prepared.stderr
    assert prepared.stdout.startswith("waves: 80 training and 20 test 16x16 gray whole images")
    shown = kod_bench("data", "show", "waves", "--image-size", "16", "--steps", "4", "--chains", 8)
    assert shown.returncode == 0, shown.stderr
    assert (tmp_path / "waves-contact-sheet.png").exists()
    assert "prepared once" in kod_bench("data", "list").stdout

    results = tmp_path / "results"
    with started(command, "sweep", space, "--results-dir", results) as driver:
        wait_for(lambda: any(results.glob("tiny/*/trials/*/checkpoints/*.pt")), "a checkpoint")
        with frozen(*computing(driver.pid)):
            driver.kill()
            driver.wait()
    folder = only_sweep(results)
    assert not list(folder.glob("trials/*/row.parquet"))

    refused = kod_bench("resume", folder)
    assert refused.returncode == 2
    assert refused.stderr == (
        f"error: {folder}: its plan imports process 'fading' of package kod-bench-fading 0.1.0; if "
        "you know that code and trust it, add --plugin kod-bench-fading\n"
    )
    trusted = ("--plugin", "kod-bench-fading", "--plugin", "waves", "--plugin", "thumbnails")
    done = kod_bench("resume", folder, *trusted, timeout=600)
    assert done.returncode == 0, done.stderr
    rows = [
        row
        for path in folder.glob("trials/*/row.parquet")
        for row in pq.read_table(path).to_pylist()
    ]
    assert [row["sampler"] for row in rows] == ["ancestral", "straight"]
    for row in rows:
        assert (row["process"], row["dataset"]) == ("fading", "waves")
        assert row["features"].startswith("thumbnails-")
        assert row["workers"] == 2
        assert row["resumed_from"] > 0
        said = {each.pop("kind"): each for each in json.loads(row["plugins"])}
        assert {kind: (each["name"], each["package"]) for kind, each in said.items()} == {
            "process": ("fading", "kod-bench-fading"),
            "dataset": ("waves", "kod-bench-waves"),
            "extractor": ("thumbnails", "kod-bench-waves"),
        }
        assert all(each["version"] == "0.1.0" for each in said.values())
        assert all(len(each["source"]) == 12 for each in said.values())
        assert row["kind"] == "euclidean"
    report = kod_bench("report", folder, "--markdown")
    assert report.returncode == 0, report.stderr
    assert "| fading" in report.stdout
    assert "Process fading is a plug-in: kod-bench-fading 0.1.0, source" in report.stdout
    assert (folder / "report" / "report.html").exists()
