"""`ray up` on two hosts of one's own, a sweep submitted to them, and `ray down`."""

import logging
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.cli.processes import wait_for
from tests.clusters import hosts
from tests.conftest import PATIENCE, TINY_SPACE
from tests.object_store import BUCKET, SECRET, VARIABLES, serve_bucket

_log = logging.getLogger(__name__)
ROOT = Path(__file__).parents[2]
RESULTS = f"s3://{BUCKET}/results"
DASHBOARD = "http://127.0.0.1:8265"

#: Each worker takes all of a host, so that the two of a trial are on two hosts.
MODELS = f"""models:
  ddpm: {{process: ddpm, steps: {{grid: [4, 8]}}}}
profiles:
  laptop: {{resources: {{workers_per_trial: 2, cpus_per_worker: {os.cpu_count()}}}}}
"""
SPACE = re.sub(r"models:.*", "", TINY_SPACE, flags=re.S) + MODELS


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short path: sockets are below it. What Ray's launcher leaves elsewhere is removed, too."""
    before = connections()
    with tempfile.TemporaryDirectory(prefix="kod-", ignore_cleanup_errors=True) as path:
        yield Path(path)
    for left in sorted(connections() - before, reverse=True):
        with suppress(OSError):  # another launcher uses it
            left.rmdir()


def connections() -> set[Path]:
    """Where launchers keep the sockets of their SSH connections, whatever TMPDIR says."""
    return {*Path("/tmp").glob("ray_ssh_*"), *Path("/tmp").glob("ray_ssh_*/*")}


def site_packages(python: object) -> str:
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    return subprocess.check_output([str(python), "-c", code], text=True).strip()


def cluster_packages(folder: Path) -> Path:
    """An environment with what `kod-bench[cluster]` brings, over the one that the tests run in."""
    python = folder / "packages" / "bin" / "python"
    # Without pip: what ensurepip brings along (setuptools) may be too old for torch.
    made = [sys.executable, "-m", "venv", "--without-pip", folder / "packages"]
    subprocess.run(made, check=True)
    here = sysconfig.get_path("purelib")
    (Path(site_packages(python)) / "tests.pth").write_text(f"{here}\n")
    done = subprocess.run(
        [python, "-m", "pip", "install", "-q", "-c", ROOT / "constraints.txt",
         "ray[default]", "boto3", "hatchling"],
        capture_output=True,
        text=True,
    )  # fmt: skip
    if done.returncode:
        pytest.skip(f"ray[default] cannot be installed here: {done.stderr.strip()[-300:]}")
    return python


def furnish(made: hosts.Network, host: hosts.Host, python: Path) -> None:
    """Make a host what a machine with Ray and torch would be: it reaches no package index.

    The set-up commands of the YAML then find everything but kod-bench installed.
    """
    packages = host.home / "venv" / Path(site_packages(python)).relative_to(python.parents[1])
    packages.mkdir(parents=True)
    lines = [site_packages(python), sysconfig.get_path("purelib")]
    (packages / "machine.pth").write_text("\n".join(lines) + "\n")
    programs = host.home / "venv" / "bin"
    programs.mkdir()
    interpreter = made.home_folder / "venv" / "bin" / "python3"
    for name, module in (("ray", "ray.scripts.scripts"), ("pip", "pip._internal.cli.main")):
        program = programs / name
        program.write_text(
            f"#!{interpreter}\nfrom {module} import main\nraise SystemExit(main())\n"
        )
        program.chmod(0o755)
    (host.home / ".config" / "pip").mkdir(parents=True)
    # pip's file says "false" where its command line says --no-build-isolation.
    (host.home / ".config" / "pip" / "pip.conf").write_text(
        "[global]\nno-index = true\ndisable-pip-version-check = true\n"
        "[install]\nno-build-isolation = false\n"
    )


def cluster_file(folder: Path, key: Path) -> Path:
    """The YAML of the repository with the values at its top edited, and no other."""
    text = (ROOT / "clusters" / "on-premises.yaml").read_text()
    top, mark, rest = text.partition("# --- Nothing below has to be edited")
    assert mark
    for old, new in (
        ("head_ip: 192.0.2.10", f"head_ip: {hosts.HEAD}"),
        ("worker_ips: [192.0.2.11, 192.0.2.12]", f"worker_ips: [{hosts.WORKER}]"),
        ("min_workers: 2\nmax_workers: 2", "min_workers: 1\nmax_workers: 1"),
        ("ssh_user: kod-bench", "ssh_user: root"),
        ("ssh_private_key: ~/.ssh/id_ed25519", f"ssh_private_key: {key}"),
        (": /tmp/kod-bench.tar.gz", f": {folder}/kod-bench.tar.gz"),
    ):
        assert top.count(old) == 1, old
        top = top.replace(old, new)
    path = folder / "on-premises.yaml"
    path.write_text(top + mark + rest)
    with tarfile.open(folder / "kod-bench.tar.gz", "w:gz") as archive:
        for name in ("pyproject.toml", "README.md", "LICENSE", "constraints.txt"):
            archive.add(ROOT / name, name)
        for name in ("kod_bench", "search_spaces", "results/published"):
            archive.add(ROOT / name, name, filter=without_caches)
    return path


def without_caches(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if entry.name.endswith("__pycache__") else entry


class Launcher:
    """Where the user sits: the launcher's namespace, with a home and temporary folder of its own.

    Logs each command, its seconds and what it said: `pytest --log-cli-level=INFO` shows them.
    """

    def __init__(self, made: hosts.Network, folder: Path, python: Path, url: str) -> None:
        self._made = made
        self._python = python
        home = self._home = folder / "launcher"
        (home / ".ray").mkdir(parents=True)
        token = home / ".ray" / "auth_token"
        token.write_text(os.urandom(32).hex())
        token.chmod(0o600)
        (home / "tmp").mkdir()
        self.environment = {
            "HOME": str(home),
            "PATH": hosts.SEARCH,
            "TMPDIR": str(home / "tmp"),
            "RAY_TMPDIR": str(home / "tmp"),
            "RAY_AUTH_MODE": "token",
            "RAY_UP_enable_autoscaler_v2": "0",
            "KOD_BENCH_CACHE": str(home / "cache"),
            "PYTHONPATH": str(ROOT),
            "COLUMNS": "140",
            "LANG": "C.UTF-8",
            "AWS_ENDPOINT_URL": url,
            **VARIABLES,
        }

    def ray(self, *arguments: object, timeout: float = 120) -> str:
        """Run a `ray` command; gives what it printed."""
        return self._run("ray", arguments, timeout)

    def kod_bench(self, *arguments: object, timeout: float = 120) -> str:
        """Run a `kod-bench` command; gives what it printed."""
        return self._run("kod-bench", arguments, timeout)

    @contextmanager
    def tunnel(self, cluster: Path) -> Iterator[None]:
        """Keep `ray dashboard` running while the body does."""
        process = subprocess.Popen(
            self._made.inside(self._python, "-m", "ray.scripts.scripts", "dashboard", cluster),
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            wait_for(self._dashboard_answers, "the dashboard's tunnel")
            yield
        finally:
            process.kill()
            process.wait()

    def _dashboard_answers(self) -> bool:
        script = f"import urllib.request as u; u.urlopen({DASHBOARD!r}, timeout=5)"
        done = subprocess.run(
            self._made.inside(sys.executable, "-c", script), capture_output=True, text=True
        )
        return not done.returncode or "HTTP Error 401" in done.stderr

    def _run(self, name: str, arguments: tuple[object, ...], timeout: float) -> str:
        module = {"ray": "ray.scripts.scripts", "kod-bench": "kod_bench.cli.main"}[name]
        command = [self._python, "-m", module, *arguments]
        began = time.monotonic()
        # To a file: ssh's master connections outlive a command and would hold a pipe open.
        with (self._home / "said.txt").open("w+") as file:
            code = subprocess.run(
                self._made.inside(*command),
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                timeout=timeout,
            ).returncode
            file.seek(0)
            said = file.read()
        seconds = time.monotonic() - began
        _log.info("$ %s %s  # %.1f s\n%s", name, " ".join(map(str, arguments)), seconds, said)
        assert code == 0, said
        return said


@pytest.mark.endurance  # seven minutes and more; some of it needs root
@pytest.mark.timeout(1800)
def test_a_sweep_on_two_hosts_that_ray_up_started(folder: Path) -> None:
    if (reason := hosts.missing()) is not None:
        pytest.skip(reason)
    python = cluster_packages(folder)
    exports = "".join(f"export {name}={value}\n" for name, value in VARIABLES.items())
    bashrc = f"export PATH={sys.base_prefix}/bin:$PATH\n{exports}"
    with hosts.network(folder, bashrc) as made, serve_bucket(hosts.LAUNCHER, made.inside()) as url:
        for host in made.hosts.values():
            with (host.home / ".bashrc").open("a") as file:
                file.write(f"export AWS_ENDPOINT_URL={url}\n")
            furnish(made, host, python)
        launcher = Launcher(made, folder, python, url)
        cluster = cluster_file(folder, made.key)
        (folder / "submitted").mkdir()
        (folder / "submitted" / "tiny.yaml").write_text(SPACE)

        launcher.ray("up", "-y", "--no-config-cache", cluster, timeout=PATIENCE)
        with launcher.tunnel(cluster):
            said = launcher.ray(
                "job", "submit", "--address", DASHBOARD, "--working-dir", folder / "submitted",
                "--", "kod-bench", "sweep", "tiny.yaml", "--address", "auto", "--wait-for-nodes",
                "400", "--results-dir", RESULTS, timeout=1000,
            )  # fmt: skip
        assert "succeeded" in said
        assert "2 of 2 trials" in said
        status = launcher.kod_bench("status", "--results-dir", RESULTS)
        assert "not running; 2 done" in status
        report = launcher.kod_bench("report", "--results-dir", RESULTS)
        assert "real versus real" in report
        # From outside, by Ray's client: one trial, of one worker.
        one = ["models.ddpm.steps=4", "resources.workers_per_trial=1"]
        client = launcher.kod_bench(
            "sweep", folder / "submitted" / "tiny.yaml", "--address", f"ray://{hosts.HEAD}:10001",
            *(word for change in one for word in ("--set", change)),
            "--results-dir", f"{RESULTS}-by-client", timeout=PATIENCE,
        )  # fmt: skip
        assert "1 of 1 trials" in client
        assert "not running; 1 done" in launcher.kod_bench(
            "status", "--results-dir", f"{RESULTS}-by-client"
        )
        for host in made.hosts.values():  # both have drawn the images that they trained on
            assert [*(host.home / ".cache" / "kod-bench").iterdir()], host.address
        assert SECRET not in said + status + report + client

        head, worker = made.hosts[hosts.HEAD], made.hosts[hosts.WORKER]
        assert head.runs("gcs_server")
        assert worker.runs("raylet")
        launcher.ray("down", "-y", cluster)  # stops the head's Ray and leaves the worker's alone
        assert not head.runs("gcs_server")
        assert not head.runs("raylet")
    assert head.process.poll() is not None
    assert worker.process.poll() is not None
