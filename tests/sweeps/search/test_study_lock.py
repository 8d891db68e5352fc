"""The lock of an Optuna study, which a holder that was killed leaves behind."""

from pathlib import Path

import pytest

from kod_bench.sweeps.search import study_file
from kod_bench.sweeps.search.study_file import STUDY_FILE
from tests.sweeps.search.test_optuna_search import ONE, ask, begin, plan, run, studies


@pytest.mark.timeout(60)
@pytest.mark.parametrize("relative", [True, False], ids=["relative", "absolute"])
def test_a_lock_whose_holder_was_killed_is_not_waited_for_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, relative: bool
) -> None:
    """Whoever held it: a tool that marks points in the study, say, while the search goes on."""
    monkeypatch.setattr(study_file, "PATIENCE_SECONDS", 3, raising=False)
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
