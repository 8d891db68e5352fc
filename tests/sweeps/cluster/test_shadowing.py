"""A file of the working folder that is called like a module of a library is no such module."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import kod_bench
from tests.conftest import TINY_SPACE

ROOT = Path(kod_bench.__file__).parent.parent

#: What Ray's workers, the guardian, the timing and the preparation of data import themselves.
TAKEN = ("statistics", "random", "numbers", "queue", "secrets", "copy", "torch", "numpy", "ray")

IN_A_WORKER = """
import os, sys
from pathlib import Path
from kod_bench.sweeps.cluster.ray_session import ray_session

def look():
    import statistics
    here = [path for path in sys.path if Path(path or ".").resolve() == Path.cwd()]
    return here, statistics.median([1, 5, 9])

with ray_session(None):
    import ray
    print(ray.get(ray.remote(look).remote()), os.getcwd())
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in TAKEN:
        (tmp_path / f"{name}.py").write_text(f"raise ImportError('{name} of the working folder')")
    return tmp_path


def run(folder: Path, *arguments: str) -> str:
    """As a console script does, without the working folder on the path."""
    done = subprocess.run(
        [sys.executable, "-P", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_rays_workers_do_not_import_from_it(folder: Path) -> None:
    assert run(folder, "-c", IN_A_WORKER).strip() == f"([], 5) {folder}"


def test_the_guardian_does_not_either(folder: Path) -> None:
    (folder / "signal.py").write_text("raise ImportError('signal of the working folder')")
    program = (
        "import subprocess, sys\n"
        "from kod_bench.sweeps.cluster.guardian import guardian\n"
        "began, real = [], subprocess.Popen\n"
        "subprocess.Popen = lambda *a, **k: began.append(real(*a, **k)) or began[-1]\n"
        "with guardian(): pass\n"
        "print(began[0].returncode)\n"
    )
    assert run(folder, "-c", program).strip() == "0"


@pytest.mark.endurance
def test_a_sweep_runs_beside_it(folder: Path) -> None:
    space = TINY_SPACE.replace("  ddpm: {process: ddpm, steps: {grid: [4, 8]}}\n", "")
    (folder / "tiny.yaml").write_text(space)
    arguments = ["-m", "kod_bench.cli.main", "sweep", "tiny.yaml"]
    assert "estimate: " in run(folder, *arguments, "--dry-run")
    assert "1 of 1 trials done" in run(folder, *arguments)
