"""A sweep runs under the real `uv`, however it is started there; nothing is fetched."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from tests.cli.processes import only_sweep, row_files
from tests.conftest import PATIENCE, TINY_SPACE
from tests.pages import ROOT

_OLDEST = (0, 9)
_KOD_BENCH = ["python", "-P", "-m", "kod_bench.cli.main"]

ONE_TRIAL = re.sub(r"  kuramoto-local:\n(    .*\n)+", "", TINY_SPACE).replace(
    "grid: [4, 8]", "value: 4"
)

#: A session, whose workers are asked where they are from.
SESSION = """
import sys
from kod_bench.sweeps.cluster.ray_session import ray_session
with ray_session(None):
    import ray
    print(ray.get(ray.remote(lambda: sys.prefix).remote()) == sys.prefix)
"""

#: Counts requests to stop, as a running sweep does.
SIGNALS = """
import sys, time
from pathlib import Path
from kod_bench.sweeps.store.stopping import StopSignals
with StopSignals(Path(sys.argv[1])) as signals:
    print("ready", flush=True)
    while not signals.requested:
        time.sleep(0.01)
    time.sleep(0.3)
print("once")
"""


def _uv() -> tuple[str | None, str]:
    """The program, and why it cannot be used here."""
    beside = Path(sys.executable).with_name("uv")
    found = str(beside) if beside.exists() else shutil.which("uv")
    if found is None:
        return None, "uv is not installed"
    said = subprocess.run([found, "--version"], capture_output=True, text=True, check=True).stdout
    version = tuple(int(part) for part in re.findall(r"\d+", said)[:2])
    if version < _OLDEST:
        return None, f"this uv is {said.strip()}, older than 0.9"
    if sys.prefix == sys.base_prefix:
        return None, "uv takes no environment but a virtual one"
    return found, ""


UV, WHY_NOT = _uv()
pytestmark = pytest.mark.skipif(UV is None, reason=WHY_NOT)


@pytest.fixture
def uv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """`uv`, offline, with folders of its own, in whose eyes this environment is the project's."""
    monkeypatch.setenv("UV_OFFLINE", "1")
    monkeypatch.setenv("UV_NO_CONFIG", "1")
    monkeypatch.setenv("UV_PROJECT_ENVIRONMENT", sys.prefix)
    monkeypatch.setenv("UV_NO_SYNC", "1")
    monkeypatch.setenv("UV_LINK_MODE", "copy")
    for name in ("CACHE", "TOOL", "TOOL_BIN"):
        monkeypatch.setenv(f"UV_{name}_DIR", str(tmp_path / name.lower()))
    monkeypatch.delenv("VIRTUAL_ENV", raising=False)
    monkeypatch.delenv("RAY_ENABLE_UV_RUN_RUNTIME_ENV", raising=False)
    # This checkout, whatever the environment has installed.
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    assert UV is not None
    return UV


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A user's project, too large for Ray to copy, with a space in a folder of its own."""
    folder = tmp_path / "project"
    (folder / "studies").mkdir(parents=True)
    (folder / "pyproject.toml").write_text(
        '[project]\nname = "mine"\nversion = "1"\nrequires-python = ">=3.11"\n'
    )
    with (folder / "images.bin").open("wb") as file:
        file.truncate(600 * 2**20)  # takes no room
    (folder / "studies" / "one.yaml").write_text(ONE_TRIAL)
    return folder


def run(*command: object, cwd: Path) -> str:
    done = subprocess.run(
        [*map(str, command)], cwd=cwd, capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("where", ["project", "elsewhere"])
def test_workers_have_the_drivers_environment(
    uv: str, project: Path, tmp_path: Path, where: str
) -> None:
    named = ["--project", project] if where == "elsewhere" else []
    cwd = project if where == "project" else tmp_path
    assert run(uv, "run", *named, "python", "-c", SESSION, cwd=cwd).strip() == "True"


@pytest.mark.slow
def test_a_sweep_runs_from_a_subfolder(uv: str, project: Path) -> None:
    studies = project / "studies"
    assert "1 of 1 trials done" in run(uv, "run", *_KOD_BENCH, "sweep", "one.yaml", cwd=studies)
    assert len(row_files(only_sweep(studies / "results"))) == 1


@pytest.mark.slow
def test_a_sweep_runs_as_a_tool(
    uv: str, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By `uvx` and by `uv tool install`: of the real wheel; what it needs is this environment's."""
    monkeypatch.delenv("PYTHONPATH")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path / "wheels"]
    run(*build, cwd=ROOT)
    (wheel,) = (tmp_path / "wheels").glob("kod_bench-*.whl")
    parent = _parent_wheel(tmp_path)
    nothing = tmp_path / "nothing.txt"
    nothing.write_text("".join(f"{name} ; python_version < '3'\n" for name in _needed()))
    monkeypatch.setenv("UV_OVERRIDE", str(nothing))
    how = ["--python", sys.executable, "--with", parent]
    tool = tmp_path / "tool_bin" / "kod-bench"
    run(uv, "tool", "install", *how, wheel, cwd=tmp_path)
    assert "one" in run(tool, "spaces", "validate", "one.yaml", cwd=project / "studies")
    uvx = [uv, "tool", "run", *how, "--from", wheel, "kod-bench"]
    done = run(*uvx, "sweep", "one.yaml", cwd=project / "studies")
    assert "1 of 1 trials done" in done


def _needed() -> list[str]:
    with (ROOT / "pyproject.toml").open("rb") as file:
        lines = tomllib.load(file)["project"]["dependencies"]
    return [re.split(r"[^\w.-]", line)[0] for line in lines]


def _parent_wheel(folder: Path) -> Path:
    """A package that lends an environment everything that this one has."""
    path = folder / "parent-1-py3-none-any.whl"
    about = "Metadata-Version: 2.1\nName: parent\nVersion: 1\n"
    kind = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    here = [each for each in sys.path if each.endswith("-packages")]
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("parent.pth", "\n".join(here) + "\n")
        wheel.writestr("parent-1.dist-info/METADATA", about)
        wheel.writestr("parent-1.dist-info/WHEEL", kind)
        wheel.writestr("parent-1.dist-info/RECORD", "")
    return path


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=["sigterm", "sighup"])
def test_a_signal_to_the_whole_group_asks_once(
    uv: str, tmp_path: Path, number: signal.Signals
) -> None:
    """A scheduler and a closed terminal tell every process, and `uv run` passes on what it gets."""

    def as_a_shell_would() -> None:
        os.setsid()
        signal.signal(signal.SIGHUP, signal.SIG_DFL)

    process = subprocess.Popen(
        [uv, "run", "--no-project", "--python", sys.executable, "python", "-c", SIGNALS, tmp_path],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=as_a_shell_would,
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "ready\n"
        os.killpg(process.pid, number)
        out, err = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
        process.wait()
    assert (out, process.returncode) == ("once\n", 0), err
