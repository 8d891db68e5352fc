"""A sweep whose processes are killed again and again loses nothing and repeats little."""

import random
from pathlib import Path

import pytest

from benchmarks.chaos import TRIALS, Chaos


@pytest.mark.endurance
@pytest.mark.timeout(900)
@pytest.mark.parametrize("workers", [1, 2])
def test_many_kills(tmp_path: Path, workers: int) -> None:
    tally = Chaos(tmp_path, random.Random(11), workers, kills=8).run()
    assert tally.rows == TRIALS
    assert tally.kills.total() >= 4
