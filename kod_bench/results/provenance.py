"""Where a number comes from: code, packages and machine."""

import json
import platform
import subprocess
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import kod_bench
from kod_bench.source_hash import folder_hash

#: Packages whose version can change a number.
PACKAGES = ("torch", "torchvision", "ray", "numpy", "scipy", "clean-fid", "pillow", "pyarrow")


@dataclass(frozen=True)
class Provenance:
    """The code and the machine that produced something."""

    version: str
    code_hash: str  # of the package's own Python files: tells versions of a checkout apart
    git_commit: str | None
    git_dirty: bool | None
    packages: str  # JSON
    hostname: str


def collect() -> Provenance:
    """Describe this process's code and machine."""
    commit, dirty = _git_state(Path(kod_bench.__file__).parent)
    packages = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            packages[name] = "absent"
    return Provenance(
        version=kod_bench.__version__,
        code_hash=code_hash(),
        git_commit=commit,
        git_dirty=dirty,
        packages=json.dumps(packages, sort_keys=True),
        hostname=platform.node(),
    )


@cache
def code_hash() -> str:
    """Hash of the installed package's own source, wherever it was installed from."""
    return folder_hash(Path(kod_bench.__file__).parent)


def _git_state(package: Path) -> tuple[str | None, bool | None]:
    """Commit and dirtiness of the checkout that holds the package; None if it is not in one.

    An installed copy inside somebody else's checkout (a virtual environment in a project) must
    not report that checkout: the package's own file has to be tracked.
    """

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(package), *arguments],
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        ).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", "__init__.py")
        return git("rev-parse", "HEAD"), bool(git("status", "--porcelain", "--", "."))
    except (OSError, subprocess.SubprocessError):
        return None, None
