"""clusters/slurm.sbatch, run by a real Slurm of two nodes: preempted, queued again, cancelled."""

import json
import logging
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kod_bench.results import read_trial
from tests.cli.processes import only_sweep, wait_for
from tests.clusters import slurm
from tests.conftest import TINY_SPACE

_log = logging.getLogger(__name__)
ROOT = Path(__file__).parents[2]
FILE = ROOT / "clusters" / "slurm.sbatch"

#: Longer than any of the waits should be on a busy machine.
PATIENCE = 1800

#: No checkpoint but those of whoever was asked to stop: only they can be resumed from.
SPACE = re.sub(r"models:.*", "", TINY_SPACE, flags=re.S).replace(
    "iterations: 40, batch_size: 8, log_every: 5, checkpoint_every: 10",
    "iterations: ITERATIONS, batch_size: 8, log_every: 5, checkpoint_every: 100000",
)
TWO_TRIALS = """models:
  short: {process: ddpm, steps: 4, training: {iterations: 20}}
  long: {process: ddpm, steps: 4}
profiles:
  laptop: {resources: {workers_per_trial: 2, cpus_per_worker: 1}}
"""
ONE_TRIAL = """models:
  long: {process: ddpm, steps: 4}
profiles:
  laptop: {}
"""


class Submitter:
    """Where the user sits: a home folder with kod-bench in it, and a folder with search spaces.

    Logs each command and what it said: `pytest --log-cli-level=INFO` shows them.
    """

    def __init__(self, made: slurm.Slurm) -> None:
        self._made = made
        self.folder = made.own / "study"
        self.folder.mkdir()
        home = made.own / "home"
        home.mkdir()
        (home / "venv").symlink_to(Path(sys.executable).parents[1])
        (self.folder / "clusters").mkdir()
        (self.folder / "clusters" / "slurm.sbatch").write_bytes(FILE.read_bytes())
        self.environment = {
            "HOME": str(home),
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            # From where bash counts: a job whose time is over as it begins is not queued again.
            "SECONDS": "60",
            # As Slurm's job folders: too long for Ray's sockets.
            "TMPDIR": str(made.own / ("temporary-" * 4)),
        }
        Path(self.environment["TMPDIR"]).mkdir()

    def space(self, name: str, models: str, iterations: int) -> None:
        """Write a search space."""
        text = SPACE.replace("ITERATIONS", str(iterations)).replace("name: tiny", f"name: {name}")
        (self.folder / f"{name}.yaml").write_text(text + models)

    def run(self, *command: str) -> str:
        """Run a command in the folder; gives what it printed."""
        inside = ("env", f"--chdir={self.folder}", *command)
        said = self._made.run(*inside, env=self.environment)
        _log.info("$ %s\n%s", " ".join(command), said)
        return said

    def submit(self, *arguments: str) -> str:
        """Submit the file, with these options and arguments; gives the job's number."""
        said = self.run("sbatch", "--cpus-per-task=1", *arguments)
        return said.split()[-1]

    def job(self, job: str) -> dict[str, str]:
        """What Slurm knows of a job: JobState, Restarts and more."""
        said = self._made.run("scontrol", "--oneliner", "show", "job", job)
        return dict(re.findall(r"(\S+?)=(\S*)", said.splitlines()[0]))

    def await_state(self, job: str, *states: str) -> None:
        """Wait until a job is in one of these states."""
        deadline = time.monotonic() + PATIENCE
        while (state := self.job(job)["JobState"]) not in states:
            assert time.monotonic() < deadline, f"{state}\n{self.said(job)}\n{self._made.logs()}"
            over = state in ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL")
            assert not over, f"{state}\n{self.said(job)}"
            time.sleep(0.5)
        _log.info("job %s is %s", job, state)

    def said(self, job: str) -> str:
        """What the job has written; `job` is its own number, that of an array's task too."""
        path = self.folder / f"kod-bench-{job}.log"
        return path.read_text() if path.exists() else ""


@pytest.fixture
def submitter() -> Iterator[Submitter]:
    if (reason := slurm.missing()) is not None:
        pytest.skip(reason)
    with (
        tempfile.TemporaryDirectory(prefix="kod-", ignore_cleanup_errors=True) as folder,
        slurm.slurm(Path(folder), grace=240) as made,
    ):
        yield Submitter(made)


def reached(results: Path, model: str) -> int:
    """The iteration that a trial's history has come to."""
    for path in results.glob(f"*/*/trials/{model}-*/history.jsonl"):
        lines = path.read_text().splitlines()
        return int(json.loads(lines[-1])["iteration"]) if lines else 0
    return 0


def rows(results: Path) -> dict[str, Any]:
    """The one row of each trial, by model."""
    sweep = only_sweep(results)
    found = [read_trial(folder) for folder in sorted((sweep / "trials").iterdir())]
    assert all(each is not None and len(each) == 1 for each in found)
    return {each[0].model: each[0] for each in found if each}


def check_nothing_runs(submitter: Submitter) -> None:
    def left() -> str:
        # Ended ones stay listed where nobody takes note of orphans, as in these process namespaces.
        listed = submitter.run("ps", "-eo", "args").splitlines()
        running = (program for program in listed if not program.endswith("<defunct>"))
        ours = re.compile(r"raylet|gcs_server|ray::|kod_bench")
        return "\n".join(program for program in running if ours.search(program))

    wait_for(lambda: not left(), "the ends of all processes")


@pytest.mark.endurance  # a quarter of an hour, much of it Slurm letting jobs wait; needs root
@pytest.mark.timeout(7200)
def test_a_sweep_on_two_nodes_is_preempted_and_goes_on(submitter: Submitter) -> None:
    """Each node has one CPU, so the two workers of a trial are on two nodes, or nowhere."""
    submitter.space("pair", TWO_TRIALS, iterations=1000)
    job = submitter.submit("--nodes=2", "--exclusive", "clusters/slurm.sbatch", "pair.yaml")
    results = submitter.folder / "results" / f"slurm-{job}"
    wait_for(lambda: reached(results, "long") >= 50, "training", PATIENCE)
    urgent = ("--partition=urgent", "--nodes=2", "--exclusive", "--wrap=hostname")
    other = submitter.run("sbatch", *urgent).split()[-1]
    submitter.await_state(other, "COMPLETED")
    submitter.run("squeue")
    submitter.await_state(job, "COMPLETED")
    said = submitter.said(job)
    _log.info("%s", said)
    assert submitter.job(job)["Restarts"] == "1"
    assert said.count("stopping: trials save where they are") == 1
    assert "goes to the end of the queue" in said
    first, second = said.split("start 1, on n[1-2]:")
    assert "kod-bench sweep pair.yaml" in first
    assert "1 of 2 trials are done, those that ran have saved" in first
    assert "sampling long" not in first  # of what is left of the grace, nothing is for that
    assert second.strip().startswith("kod-bench resume")
    assert "2 of 2 trials" in second
    found = rows(results)
    assert found["short"].resumed_from == 0
    assert found["long"].resumed_from >= 50
    assert all(row.workers == 2 and row.resumed_exactly for row in found.values())
    assert not [*results.glob(".slurm-*")]
    check_nothing_runs(submitter)


@pytest.mark.endurance
@pytest.mark.timeout(7200)
def test_an_array_and_a_cancelled_job_go_on(submitter: Submitter) -> None:
    """Two sweeps side by side, a node each: one requeued from outside, one told that time ends."""
    submitter.space("single", ONE_TRIAL, iterations=1500)
    words = ("clusters/slurm.sbatch", "single.yaml")
    array = submitter.submit("--array=1-2", *words, "--seeds", "%a")
    results = {
        number: submitter.folder / "results" / f"slurm-{array}" / str(number) for number in (1, 2)
    }
    for each in results.values():
        wait_for(lambda each=each: reached(each, "long") >= 50, "training", PATIENCE)
    # Tasks have numbers of their own as soon as they run.
    tasks = {number: submitter.job(f"{array}_{number}")["JobId"] for number in results}
    submitter.run("scontrol", "requeue", f"{array}_1")
    # What --signal=B:USR1@300 sends.
    submitter.run("scancel", "--batch", "--signal=USR1", f"{array}_2")
    for number, job in tasks.items():
        submitter.await_state(job, "COMPLETED")
        said = submitter.said(job)
        _log.info("%s", said)
        assert submitter.job(job)["Restarts"] == "1"
        assert said.count("stopping: trials save where they are") == 1
        assert ("goes to the end of the queue" in said) == (number == 2)
        assert "start 1, on" in said
        row = rows(results[number])["long"]
        assert row.seed == number
        assert row.resumed_from >= 50
        assert row.resumed_exactly

    job = submitter.submit(*words)
    results[0] = submitter.folder / "results" / f"slurm-{job}"
    wait_for(lambda: reached(results[0], "long") >= 50, "training", PATIENCE)
    submitter.run("scancel", job)
    submitter.await_state(job, "CANCELLED")
    wait_for(lambda: "ended with status 130" in submitter.said(job), "the job's end")
    again = submitter.submit(*words, "--results-dir", f"results/slurm-{job}")
    submitter.await_state(again, "COMPLETED")
    assert "kod-bench resume" in submitter.said(again)
    assert rows(results[0])["long"].resumed_from >= 50
    check_nothing_runs(submitter)
