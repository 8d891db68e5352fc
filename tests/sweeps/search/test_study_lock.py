"""The lock of an Optuna study, which a holder that was killed leaves behind."""

import threading
import time
from pathlib import Path

import pytest

from kod_bench.sweeps.search import study_lock
from kod_bench.sweeps.search.study_file import STUDY_FILE
from tests.sweeps.search.test_optuna_search import ONE, ask, begin, plan, run, studies


@pytest.mark.timeout(60)
@pytest.mark.parametrize("relative", [True, False], ids=["relative", "absolute"])
def test_a_lock_whose_holder_was_killed_is_not_waited_for_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, relative: bool
) -> None:
    """Whoever held it: a tool that marks points in the study, say, while the search goes on."""
    monkeypatch.setattr(study_lock, "PATIENCE_SECONDS", 0.5)
    monkeypatch.chdir(tmp_path)
    sweep = plan(Path() if relative else tmp_path, ONE)
    search = begin(sweep)
    (trial,) = ask(search)
    journal = sweep.folder / STUDY_FILE
    # As Optuna's own lock of a holder that was given the same path.
    (sweep.folder / f"{STUDY_FILE}.lock").symlink_to(journal)
    search.ended(trial.id, run(sweep, trial))
    (study,) = studies(sweep).values()
    assert [t.state.name for t in study.trials] == ["COMPLETE"]


def test_others_that_take_it_in_turn_are_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study_lock, "PATIENCE_SECONDS", 0.5)
    other, mine = (study_lock.StudyLock(tmp_path / "study.journal") for _ in range(2))
    taken: list[float] = []

    def take_turns() -> None:
        for _ in range(8):
            other.acquire()
            time.sleep(0.05)
            taken.append(time.monotonic())
            other.release()

    turns = threading.Thread(target=take_turns)
    turns.start()
    for _ in range(4):
        assert mine.acquire()
        assert (tmp_path / "study.journal.lock").is_symlink()
        mine.release()
    turns.join()
    assert len(taken) == 8
    assert not (tmp_path / "study.journal.lock").is_symlink()
