"""Linters that are programs: those of the extra dev, or of the machine."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest


def assert_finds_nothing(linter: str, package: str, file: Path) -> None:
    """Run a linter on a file; skip the test where it is not installed.

    Args:
        linter: the program.
        package: of the extra dev, that brings it.
        file: that it reads.
    """
    program = shutil.which(linter, path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if program is None:
        pytest.skip(f"no {linter} ({package} of the extra dev brings it)")
    done = subprocess.run([program, file], capture_output=True, text=True)
    assert not done.returncode, done.stdout
