"""What a killed driver leaves is ended, and nothing else."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.processes import wait_for
from tests.conftest import PATIENCE

#: Starts a child that starts a grandchild, under a guardian, and says their ids.
PROGRAM = """
import subprocess, sys, time
from kod_bench.sweeps.cluster.guardian import guardian

other = subprocess.Popen(["sleep", "100"])
with guardian():
    shell = subprocess.Popen(["sh", "-c", "sleep 100 & echo $!; wait"], stdout=subprocess.PIPE)
    print(other.pid, shell.pid, shell.stdout.readline().decode().strip(), flush=True)
    time.sleep(float(sys.argv[1]))
"""


#: The same whose body fails once its child has died; then it starts one more process, and ends.
FAILING = """
import subprocess, time
from kod_bench.sweeps.cluster.guardian import guardian

try:
    with guardian():
        shell = subprocess.Popen(["sh", "-c", "sleep 100 & echo $!; wait"], stdout=subprocess.PIPE)
        orphan = shell.stdout.readline().decode().strip()
        time.sleep(6)
        shell.kill()
        raise KeyError
except KeyError:
    later = subprocess.Popen(["sleep", "100"], stdout=subprocess.DEVNULL)
    print(orphan, later.pid, flush=True)
    input()
"""


#: Dies before anybody has seen what it started: an orphan that writes to the logs of its session.
SUDDEN = """
import os, signal, subprocess, sys
from pathlib import Path
from kod_bench.sweeps.cluster.guardian import guardian

logs = Path(sys.argv[1], f"session_2026-01-01_{os.getpid()}", "logs")
logs.mkdir(parents=True)
with guardian(), (logs / "raylet.out").open("w") as log:
    descriptor = log.fileno()
    shell = f"sleep 100 9>&{descriptor} >&2 & echo $!"
    subprocess.run(["sh", "-c", shell], pass_fds=[descriptor])
    subprocess.run(["sh", "-c", f"sleep 100 9<{log.name} >&2 & echo $!"])
    os.kill(os.getpid(), signal.SIGKILL)
"""


def alive(process: int) -> bool:
    try:
        return (Path("/proc") / str(process) / "stat").read_text().rpartition(")")[2].split()[
            0
        ] != "Z"
    except OSError:
        return False


def end_all(*processes: int) -> None:
    for process in processes:
        if alive(process):
            os.kill(process, 9)


@pytest.mark.parametrize("killed", [True, False])
def test_it_ends_the_descendants_of_a_killed_driver_alone(killed: bool) -> None:
    driver = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "100" if killed else "4"], stdout=subprocess.PIPE, text=True
    )
    assert driver.stdout is not None
    other, child, grandchild = map(int, driver.stdout.readline().split())
    try:
        if killed:
            time.sleep(3)  # it looks every second
            os.kill(child, 9)  # whose child is an orphan from now on
            time.sleep(2)
            driver.kill()
        driver.wait(timeout=PATIENCE)
        if killed:
            wait_for(lambda: not alive(grandchild), "the orphan's end")
        assert alive(grandchild) is not killed
        assert alive(other)
    finally:
        end_all(other, child, grandchild)


def test_what_a_failed_body_has_left_ends_with_its_driver() -> None:
    driver = subprocess.Popen(
        [sys.executable, "-c", FAILING], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert driver.stdout is not None
    orphan, later = map(int, driver.stdout.readline().split())
    try:
        time.sleep(3)
        assert alive(orphan)
        driver.communicate("\n", timeout=PATIENCE)
        wait_for(lambda: not alive(orphan), "the orphan's end")
        assert alive(later)
    finally:
        end_all(orphan, later)


def test_an_orphan_that_writes_to_its_drivers_ray_session_ends_with_it(tmp_path: Path) -> None:
    driver = subprocess.run(
        [sys.executable, "-c", SUDDEN, str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    writer, reader = map(int, driver.stdout.split())
    try:
        wait_for(lambda: not alive(writer), "the orphan's end")
        assert alive(reader)
    finally:
        end_all(writer, reader)
