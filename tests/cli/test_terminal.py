"""What is printed where not every character can be."""

import os
import subprocess
from pathlib import Path

import pytest

from kod_bench.results import provenance
from kod_bench.sweeps.plan.make import make_trials
from kod_bench.sweeps.plan.sweep import Sweep
from kod_bench.sweeps.space import load_space
from kod_bench.sweeps.store.create import create_sweep
from tests.conftest import TINY_SPACE


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    """A plan of models with names that Latin-1 has, and has not."""
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY_SPACE.replace("  ddpm:", f'  "{"modèle-扩散 " * 12}":'))
    space = load_space(path, "laptop")
    return create_sweep(
        space,
        make_trials(space, "hash"),
        results_dir=tmp_path / "results",
        data_dir=None,
        provenance=provenance.collect(),
    )


@pytest.mark.parametrize("encoding", ["latin-1", "ascii", "utf-8", "cp1252"])
def test_a_status_is_printed_on_every_terminal(
    sweep: Sweep, command: list[str], encoding: str
) -> None:
    done = subprocess.run(
        [*command, "status", str(sweep.folder)],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": encoding, "COLUMNS": "80"},
    )
    assert done.returncode == 0, done.stderr
    text = done.stdout.decode(encoding)
    assert "waiting" in text
    assert "continue with: " in text
    has_them = encoding == "utf-8"
    assert ("扩" in text) == has_them
    assert ("\\u6269" in text) == (not has_them)


def test_an_ellipsis_becomes_plain(command: list[str]) -> None:
    program = (
        "from kod_bench.cli.terminal import print_anything; print_anything(); "
        "print('a\\u2026b \\u6269'); import sys; print('\\u2026', file=sys.stderr)"
    )
    done = subprocess.run(
        [command[0], "-c", program],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "latin-1"},
    )
    assert done.stdout == b"a...b \\u6269\n"
    assert done.stderr == b"...\n"
