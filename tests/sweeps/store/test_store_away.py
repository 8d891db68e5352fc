"""An object store that is away for a while costs no training, and no finished row."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from kod_bench.results import ROW_FILE
from kod_bench.storage import ObjectFolder
from kod_bench.sweeps.plan.failures import read_error
from kod_bench.sweeps.plan.progress import Status
from kod_bench.sweeps.session import prepare_sweep
from kod_bench.sweeps.trial.run import run_trial, train_and_score
from tests.cli.processes import wait_for
from tests.object_store import BUCKET, Gate, bucket_in_environment, serve_bucket

GAVE_UP = "not all could be put on the store"


@pytest.fixture
def gate() -> Iterator[Gate]:
    with serve_bucket() as url:
        gate = Gate(url)
        with bucket_in_environment(gate.url):
            yield gate


@pytest.mark.slow  # the store's client tries again for seconds before it gives up
def test_training_goes_on_without_the_store_and_the_end_waits_for_it(
    gate: Gate, tiny_space: Path
) -> None:
    text = re.sub(r"  kuramoto-local:\n(    .*\n)+", "", tiny_space.read_text())
    tiny_space.write_text(text.replace("steps: {grid: [4, 8]}", "steps: 4"))
    sweep = prepare_sweep(
        str(tiny_space),
        profile="laptop",
        data_dir=None,
        results_dir=ObjectFolder(f"s3://{BUCKET}/results"),
        seeds=None,
        address=None,
        say=lambda _: None,
    )
    (trial,) = sweep.trials
    folder = sweep.trial_folder(trial)
    assert sweep.remote is not None
    store = sweep.remote / "trials" / trial.id
    seen: dict[int | str, set[str]] = {}

    def checkpoints() -> set[str]:
        return {name for name in store.list() if name.endswith(".pt")}

    def watch(status: Status) -> None:
        """The store is away for the checkpoint of iteration 20, and again once training is over.

        A status is reported before its checkpoint is written, and a checkpoint reaches the store
        beside the training, so that each step waits for the one before it.
        """
        if status.phase == "training" and status.done == 20:
            wait_for(lambda: checkpoints(), "the checkpoint of iteration 10")
            gate.shut()
        elif status.phase == "training" and status.done == 30:
            wait_for(lambda: GAVE_UP in (folder / "log.txt").read_text(), "the store missed")
            gate.open()
            seen[30] = checkpoints()
        elif status.phase == "training" and status.done == 40:
            missed = "checkpoints/iteration-00000020.pt"
            wait_for(lambda: missed in checkpoints(), "what was missed is put on the store")
        elif status.phase not in ("preparing", "training") and "away" not in seen:
            seen["away"] = checkpoints()
            gate.shut()

    with pytest.raises(OSError, match=BUCKET):
        run_trial(sweep, trial, watch, train_and_score)
    assert seen[30] == {"checkpoints/iteration-00000010.pt"}
    assert "checkpoints/iteration-00000040.pt" in seen["away"]
    assert read_error(folder)
    assert GAVE_UP in (folder / "log.txt").read_text()

    gate.open()
    assert ROW_FILE not in store.list()
    phases = set()
    rows = run_trial(sweep, trial, lambda status: phases.add(status.phase), train_and_score)
    assert "training" not in phases
    assert {ROW_FILE, "checkpoints/iteration-00000040.pt"} <= store.list().keys()
    assert (rows[0].iterations, rows[0].resumed_from) == (40, 0)
