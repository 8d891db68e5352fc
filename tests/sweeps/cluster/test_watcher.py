"""What the driver makes of a trial that has ended badly."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import ray
from ray.exceptions import ActorDiedError, ActorUnavailableError

from kod_bench.sweeps.cluster.watcher import Watcher
from kod_bench.sweeps.plan.failures import read_error


@pytest.mark.parametrize(
    ("error", "reason", "lost"),
    [
        (ActorDiedError(), "its process ended without a word", True),
        (ActorUnavailableError("timed out", None), "its process ended without a word", True),
        (OSError(13, "Permission denied"), "Permission denied", False),
    ],
)
def test_only_a_process_that_died_is_lost(
    tmp_path: Path, error: Exception, reason: str, lost: bool
) -> None:
    """What is raised before a trial can record it, as an unreadable plan, would come again."""
    failed: dict[str, str] = {}
    sweep = SimpleNamespace(
        trials_folder=tmp_path, remote=None, resources=SimpleNamespace(time_limit_minutes=None)
    )
    board = SimpleNamespace(mark_failed=failed.__setitem__)
    watcher = Watcher(cast(Any, sweep), cast(Any, board), cast(Any, None), lambda *_: None)
    caught = tmp_path / "error.pkl"
    caught.write_bytes(ray.cloudpickle.dumps(error))
    trial = SimpleNamespace(config={"id": "one"}, pickled_error_file=str(caught))
    watcher.on_trial_error(0, [], trial)
    assert reason in failed["one"]
    assert reason in (read_error(tmp_path / "one") or "")
    assert watcher.lost == ({"one"} if lost else set())
