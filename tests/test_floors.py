"""The house's own rules: floors and rooms by import-linter, the rest by reading the imports."""

import ast
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "kod_bench"

#: Longest that a file of the package may be before it is two.
MOST_LINES = 400


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the contracts of a folder's pyproject.toml on the package in it."""
    code = "import sys; sys.path.insert(0, '.'); from importlinter.cli import lint_imports; "
    code += "sys.exit(lint_imports(no_cache=True))"
    return subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False
    )


def modules() -> Iterator[tuple[Path, ast.Module]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        yield path.relative_to(ROOT), ast.parse(path.read_text(encoding="utf-8"))


def imports(tree: ast.Module) -> Iterator[tuple[str, str | None]]:
    """(module, name) of every import, wherever it stands; the name is None of a whole module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.module or "", alias.name) for alias in node.names)


def test_the_contracts_hold() -> None:
    found = lint(ROOT)
    assert found.returncode == 0, found.stdout


@pytest.mark.parametrize(
    ("module", "line", "broken"),
    [
        ("data/options.py", "import kod_bench.training", "floors of the package"),
        ("diffusion/heat.py", "from kod_bench.networks import UNet", "floors of the package"),
        ("sweeps/plan/trial.py", "import kod_bench.sweeps.store.locks", "rooms of sweeps"),
        ("sweeps/trial/run.py", "import kod_bench.sweeps.cluster.capacity", "rooms of sweeps"),
        ("sweeps/trial/run.py", "    import ray", "import ray"),
        ("reports/make.py", "from ray import tune", "import ray"),
    ],
)
def test_a_forbidden_import_is_refused(module: str, line: str, broken: str, tmp_path: Path) -> None:
    shutil.copytree(PACKAGE, tmp_path / "kod_bench", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with (tmp_path / "kod_bench" / module).open("a", encoding="utf-8") as file:
        file.write(f"\n\ndef forbidden() -> None:\n    {line.strip()}\n")
    found = lint(tmp_path)
    assert found.returncode != 0
    assert broken in next(each for each in found.stdout.splitlines() if "BROKEN" in each)


def test_a_new_folder_must_be_given_its_floor(tmp_path: Path) -> None:
    shutil.copytree(PACKAGE, tmp_path / "kod_bench", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "kod_bench" / "attic").mkdir()
    (tmp_path / "kod_bench" / "attic" / "__init__.py").write_text("")
    assert lint(tmp_path).returncode != 0


def test_every_folder_is_seen_by_the_linter() -> None:
    # import-linter 2.17 passes over folders without an __init__.py.
    blind = {
        path.parent.relative_to(ROOT)
        for path in PACKAGE.rglob("*.py")
        if not (path.parent / "__init__.py").is_file()
    }
    assert not blind


def test_mathematics_and_networks_need_torch_alone() -> None:
    allowed = {"torch", "kod_bench", *sys.stdlib_module_names}
    found = [
        f"{path}: {module}"
        for path, tree in modules()
        if path.parts[1] in ("diffusion", "networks")
        for module, _ in imports(tree)
        if module.split(".")[0] not in allowed
    ]
    assert not found


def test_no_private_name_crosses_a_folder() -> None:
    found = []
    for path, tree in modules():
        folder = ".".join(path.parent.parts)
        for module, name in imports(tree):
            private = [
                part
                for part in (*module.split("."), name or "")
                if part.startswith("_") and not part.startswith("__")
            ]
            home = (
                module if (ROOT / Path(*module.split("."))).is_dir() else module.rpartition(".")[0]
            )
            if module.startswith("kod_bench") and private and home != folder:
                found.append(f"{path}: {module} {name}")
    assert not found


def test_files_are_short_and_say_what_they_are() -> None:
    long, mute = [], []
    for path, tree in modules():
        lines = len((ROOT / path).read_text(encoding="utf-8").splitlines())
        if lines > MOST_LINES:
            long.append(f"{path}: {lines}")
        said = ast.get_docstring(tree)
        if said is None or not said.split("\n\n")[0].rstrip().endswith("."):
            mute.append(str(path))
    assert not mute
    assert not long
