"""A sweep starts wherever people are; docs/surviving.md states it, these show it.

Mount namespaces make the places: what is mounted in one is seen in it alone.
"""

import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from tests.cli.processes import only_sweep, row_files
from tests.conftest import PATIENCE, TINY_SPACE
from tests.pages import ROOT

ONE_TRIAL = re.sub(r"  kuramoto-local:\n(    .*\n)+", "", TINY_SPACE).replace(
    "grid: [4, 8]", "value: 4"
)


def _why_not() -> str:
    """Why no such place can be made here."""
    if os.geteuid() != 0:
        return "only root may mount"
    absent = [name for name in ("unshare", "mount") if shutil.which(name) is None]
    if absent:
        return f"not installed: {', '.join(absent)}"
    probe = ["unshare", "-m", "mount", "-t", "tmpfs", "none", "/mnt"]
    if subprocess.run(probe, capture_output=True, check=False).returncode:
        return "the kernel refuses mounts in a namespace"
    return ""


def _in_namespace(script: str, folder: Path, **variables: str | None) -> tuple[int, str, str]:
    """Run a shell script where it may mount, in a folder; None takes a variable away."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    done = subprocess.run(
        ["unshare", "-m", "sh", "-ec", script],
        cwd=folder,
        env={name: value for name, value in environment.items() if value is not None},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with a search space in it, and a home."""
    if reason := _why_not():
        pytest.skip(reason)
    (tmp_path / "one.yaml").write_text(ONE_TRIAL)
    (tmp_path / "home").mkdir()
    return tmp_path


@pytest.fixture
def temporary() -> Iterator[Path]:
    """A folder for temporary files, with a short name."""
    with tempfile.TemporaryDirectory(prefix="place-", dir="/tmp") as name:
        yield Path(name)


SWEEP = f'"{sys.executable}" -P -m kod_bench.cli.main sweep one.yaml'
CACHE = (
    "warning: the home folder cannot hold the cache: it is {folder}/kod-bench-cache-0; set "
    "KOD_BENCH_CACHE to have it last\n"
)
OWN = {"KOD_BENCH_CACHE": None, "KOD_BENCH_KEY": None, "XDG_CACHE_HOME": None}


#: Ray of this machine, for as long as nobody closes its input.
SESSION = """
import sys
from kod_bench.sweeps.cluster.ray_session import ray_session
from kod_bench.sweeps.cluster.share import Share
with ray_session(None, Share(cpus=1)):
    import ray
    print(ray.get(ray.remote(lambda: 6 * 7).remote()), ray.cluster_resources()["CPU"], flush=True)
    sys.stdin.read()
"""


@pytest.mark.slow
def test_a_home_that_is_read_only(place: Path, temporary: Path) -> None:
    home = place / "home"
    script = (
        f'mount --bind "{home}" "{home}"; mount -o remount,ro,bind "{home}"; '
        f'if touch "{home}/x" 2>/dev/null; then exit 9; fi; exec {SWEEP}'
    )
    code, out, err = _in_namespace(script, place, **OWN, HOME=str(home), TMPDIR=str(temporary))
    assert code == 0, err
    assert "1 of 1 trials done" in out
    assert err == CACHE.format(folder=temporary)
    assert not [*home.iterdir()]


@pytest.mark.slow
def test_a_user_without_an_entry_and_without_a_home(place: Path, temporary: Path) -> None:
    """In a namespace in which nobody has an entry, as a container's user of any number."""
    (temporary / "nsswitch.conf").write_text("passwd: files\n")  # else systemd knows root
    script = (
        f'mount --bind "{temporary}/nsswitch.conf" /etc/nsswitch.conf; '
        'mount --bind /dev/null /etc/passwd; if getent passwd "$(id -u)"; then exit 9; fi; '
        f"exec {SWEEP}"
    )
    code, out, err = _in_namespace(script, place, **OWN, HOME=None, TMPDIR=str(temporary))
    assert code == 0, err
    assert "1 of 1 trials done" in out
    assert err == CACHE.format(folder=temporary)
    assert len(row_files(only_sweep(place / "results"))) == 1
    left = {path.name for path in temporary.iterdir()}
    assert left - {"ray", "nsswitch.conf"} == {f"kod-bench-cache-{os.geteuid()}"}


@pytest.mark.slow
def test_shared_memory_that_is_too_small(place: Path) -> None:
    """As in a container, whose engine gives it 64 MiB: Ray asks for three times as much."""
    script = f'mount -t tmpfs -o size=1m none /dev/shm; exec "{sys.executable}" -P -c "$PROGRAM"'
    assert _in_namespace(script, place, PROGRAM=SESSION) == (0, "42 1.0\n", "")


#: Of Ray's head, its dashboard, its client's server, its agents and its metrics, as documented.
PORTS = (6379, 8265, 10001, 8076, 52365, 8080, 44217, 44227)


@pytest.mark.slow
def test_two_share_a_machine_whose_usual_ports_are_taken() -> None:
    with ExitStack() as stack:
        for port in PORTS:
            taken = stack.enter_context(socket.socket())
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with suppress(OSError):  # somebody else has it: as good
                taken.bind(("0.0.0.0", port))
                taken.listen()
        pair = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-P", "-c", SESSION],
                    env={**os.environ, "PYTHONPATH": str(ROOT)},
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            for _ in range(2)
        ]
        try:
            for each in pair:  # both at once: none has ended before both have answered
                assert each.stdout is not None
                assert each.stdout.readline() == "42 1.0\n"
            assert [each.poll() for each in pair] == [None, None]
        finally:
            for each in pair:
                assert each.stdin is not None
                each.stdin.close()
        assert [each.wait(timeout=PATIENCE) for each in pair] == [0, 0]
