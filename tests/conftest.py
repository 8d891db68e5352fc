"""What tests of several folders share."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kod_bench.freed_memory import keep_freed_memory
from tests.plugins import Announce, write_package

# Two cores: the test process must not take both from the Ray workers it starts.
os.environ.setdefault("OMP_NUM_THREADS", "1")
keep_freed_memory()

TINY_SPACE = """
name: tiny
dataset: {name: fingerprints, image_size: 16, scale: 0.25, synthetic: {fingers: 6, impressions: 2}}
network: {width: 8, multipliers: [1, 2], blocks: 1}
training:
  {iterations: 40, batch_size: 8, log_every: 5, checkpoint_every: 10, ema_decay: 0.9, warmup: 5}
evaluation: {samples: 16, references: 32, batch_size: 16}
models:
  kuramoto-local:
    {process: kuramoto, coupling: local, pool_size: 32, calibration_chains: 16, steps: 4,
     priors: [matched, forward], samplers: [ancestral, probability-flow],
     network_evaluations: [4, 2]}
  ddpm: {process: ddpm, steps: {grid: [4, 8]}}
profiles:
  laptop: {}
"""

#: Seconds after which a test gives up on a process: long, since no machine's speed may decide it.
PATIENCE = 400

Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One data cache for all tests: synthetic prints are drawn once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session", autouse=True)
def _own_key(tmp_path_factory: pytest.TempPathFactory) -> None:
    """One key for all tests, sweeps of whole modules too; the user's own is left alone."""
    os.environ["KOD_BENCH_KEY"] = str(tmp_path_factory.mktemp("config") / "key")


@pytest.fixture(autouse=True)
def _own_cache(cache_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KOD_BENCH_CACHE", str(cache_dir))
    monkeypatch.delenv("KOD_BENCH_DATA", raising=False)
    monkeypatch.delenv("KOD_BENCH_DEBUG", raising=False)


@pytest.fixture(autouse=True)
def _own_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trials that run inside the tests' process leave no folder to look for extractors in."""
    monkeypatch.setattr("kod_bench.evaluation.extractors._users_folder", [])


@pytest.fixture
def tiny_space(tmp_path: Path) -> Path:
    """A search space whose trials take seconds."""
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY_SPACE)
    return path


@pytest.fixture
def command() -> list[str]:
    """How to start kod-bench in a process of its own."""
    return [sys.executable, "-m", "kod_bench.cli.main"]


@pytest.fixture
def kod_bench(command: list[str]) -> Command:
    """Run kod-bench in a process of its own and return what it printed."""

    def run(*arguments: object, timeout: float = PATIENCE) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, *map(str, arguments)], capture_output=True, text=True, timeout=timeout
        )

    return run


@pytest.fixture
def announce(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Announce]:
    """Have packages with plug-ins be installed, in this process and in those that it starts."""
    from kod_bench import plugins

    folder = tmp_path / "site-packages"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    paths = [str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    before = set(sys.modules)

    def install(*package: Any, **more: Any) -> None:
        write_package(folder, *package, **more)
        plugins.forget()

    yield install
    plugins.forget()
    for name in set(sys.modules) - before:
        if (getattr(sys.modules[name], "__file__", None) or "").startswith(str(folder)):
            del sys.modules[name]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run kod-bench in this process, which has torch already."""
    from kod_bench.cli.main import main

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        monkeypatch.setattr(sys, "argv", ["kod-bench", *map(str, arguments)])
        before = signal.getsignal(signal.SIGTERM)
        with pytest.raises(SystemExit) as ended:
            main()
        signal.signal(signal.SIGTERM, before)
        code = ended.value.code or 0
        said = capsys.readouterr()
        return subprocess.CompletedProcess(arguments, int(code), said.out, said.err)

    return run
