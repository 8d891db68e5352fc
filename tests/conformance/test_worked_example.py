"""CONTRIBUTING's and docs/plugins.md's packages pass what they must, and need nothing else.

Their installation, and sweeps with them, are in tests/cli/test_plugin_package.py, which is slow.
"""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from kod_bench.sweeps.space import load_space
from tests.pages import ROOT, copy_files, files_of
from tests.plugins import Announce


def install(announce: Announce, page: str) -> None:
    """Have a page's package be installed, without the time that an installer takes."""
    files = files_of(page)
    project = tomllib.loads(files["pyproject.toml"])["project"]
    modules = {name: text for name, text in files.items() if name.startswith("kod_bench")}
    announce(project["name"], project["entry-points"], modules, version=project["version"])


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "docs/plugins.md"])
def test_the_authors_own_test_passes(announce: Announce, page: str, tmp_path: Path) -> None:
    install(announce, page)
    folder = copy_files(page, tmp_path / "package")
    (folder / "kod_bench_fading.py").unlink(missing_ok=True)
    (folder / "kod_bench_waves.py").unlink(missing_ok=True)
    # Not this project's own options of pytest: an author has none of them.
    tested = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", folder],
        cwd=folder,
        capture_output=True,
        text=True,
        env=environment(),
    )
    assert tested.returncode == 0, tested.stdout
    assert " passed" in tested.stdout
    assert "failed" not in tested.stdout


def environment() -> dict[str, str]:
    """With this checkout on the path, wherever it is installed."""
    paths = [os.environ.get("PYTHONPATH", ""), str(ROOT)]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}


def test_a_search_space_knows_the_example(announce: Announce, tmp_path: Path) -> None:
    install(announce, "CONTRIBUTING.md")
    path = tmp_path / "study.yaml"
    path.write_text(
        "name: study\ndataset: {name: fingerprints, image_size: 16}\ntraining: {iterations: 10}\n"
        "models: {fading: {process: fading, steps: 100, power: {grid: [1.0, 2.0]}, "
        "samplers: [straight]}}\n"
    )
    variants = load_space(path, "auto").variants
    assert [(v.process, v.parameters, v.samplers) for v in variants] == [
        ("fading", {"power": power}, ("straight",)) for power in (1.0, 2.0)
    ]
    for old, new, message in (
        ("straight", "euler", "no sampler 'euler'; choose from ancestral, straight"),
        ("2.0", "-2.0", "power must"),
        ("2.0", "two", r"power.*number"),
        ("power", "powre", "unknown key; did you mean 'power'"),
    ):
        wrong = tmp_path / "wrong.yaml"
        wrong.write_text(path.read_text().replace(old, new))
        with pytest.raises(Exception, match=message) as raised:
            load_space(wrong, "auto")
        assert "wrong.yaml: models.fading" in str(raised.value)
