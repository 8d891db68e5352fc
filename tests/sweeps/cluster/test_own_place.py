"""Ray of this machine starts where HOME cannot be written and TMPDIR has a long name."""

import os
import pwd
import subprocess
import sys
from pathlib import Path

import pytest

from kod_bench.data.cache import default_cache_dir
from kod_bench.errors import UsageError
from kod_bench.sweeps.cluster import own_place as place_module
from kod_bench.sweeps.cluster.own_place import LONGEST, own_place, some_home
from kod_bench.sweeps.cluster.share import local_cpus

SESSION = """
import ray
from kod_bench.sweeps.cluster.ray_session import ray_session
from kod_bench.sweeps.cluster.share import WHOLE, Share
for share in (WHOLE, Share(cpus=1)):
    with ray_session(None, share):
        print(ray.get(ray.remote(lambda: 6 * 7).remote()), ray.cluster_resources()["CPU"])
"""


@pytest.fixture(autouse=True)
def _no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_TMPDIR"):
        monkeypatch.delenv(name, raising=False)


def test_the_token_is_its_owners_and_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/dev/null/home")
    with own_place():
        path = Path(os.environ["RAY_AUTH_TOKEN_PATH"])
        assert (path.stat().st_mode & 0o777, len(path.read_text())) == (0o600, 64)
        first = path.read_text()
    assert not path.parent.exists()
    assert "RAY_AUTH_TOKEN_PATH" not in os.environ
    with own_place():
        assert Path(os.environ["RAY_AUTH_TOKEN_PATH"]).read_text() == first


def test_a_token_that_is_named_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "mine")
    with own_place():
        assert "RAY_AUTH_TOKEN_PATH" not in os.environ


def test_a_long_temporary_folder_is_replaced_by_a_short_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", "/tmp".ljust(LONGEST, "x"))
    with own_place() as folder:
        assert folder is None
    monkeypatch.setenv("TMPDIR", "/tmp".ljust(LONGEST + 1, "x"))
    with own_place() as folder:
        assert folder is not None
        assert len(os.fsencode(folder)) <= LONGEST
        assert folder.is_dir()
    assert not folder.exists()
    monkeypatch.setattr(place_module, "_SHORT", ("/dev/null/tmp",))
    with pytest.raises(UsageError, match=rf"at most {LONGEST} bytes"), own_place():
        pass


def test_who_has_no_home_has_one_meanwhile_and_the_cache_stays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def nobody(number: int) -> None:
        raise KeyError(number)

    before = dict(os.environ)
    with some_home():
        assert dict(os.environ) == before
    monkeypatch.delenv("HOME")
    monkeypatch.delenv("KOD_BENCH_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    before, cache = dict(os.environ), default_cache_dir()
    with some_home():
        assert Path.home().is_dir()
        assert default_cache_dir() == cache
        assert not cache.is_relative_to(Path.home())
    assert dict(os.environ) == before


@pytest.mark.slow
def test_ray_runs_without_a_home_and_with_a_long_temporary_folder(tmp_path: Path) -> None:
    long = tmp_path / ("job" * 20)
    long.mkdir()
    env = {**os.environ, "HOME": "/dev/null/home", "TMPDIR": str(long)}
    done = subprocess.run([sys.executable, "-c", SESSION], env=env, capture_output=True, text=True)
    assert done.stdout == f"42 {float(local_cpus())}\n42 1.0\n", done.stderr
    assert done.stderr == ""
