"""Where search spaces are found."""

from importlib.resources import files
from pathlib import Path

from kod_bench.errors import UsageError


def find_space(name: str) -> Path:
    """Find a search space: as a path, in ``./search_spaces/``, then among the shipped ones.

    Raises:
        UsageError: if there is none; the message lists the known names.
    """
    if Path(name).suffix in (".yaml", ".yml"):
        if Path(name).is_file():
            return Path(name)
        raise UsageError(f"{name}: no such search space file")
    shipped = shipped_spaces()
    for folder in (Path("search_spaces"), shipped):
        if (path := folder / f"{name}.yaml").is_file():
            return path
    known = sorted({p.stem for f in (Path("search_spaces"), shipped) for p in f.glob("*.yaml")})
    raise UsageError(
        f"unknown search space {name!r}; known: {', '.join(known) or 'none'}, or a path to a YAML"
    )


def shipped_spaces() -> Path:
    """The folder of the spaces that come with the package."""
    packaged = Path(str(files("kod_bench") / "search_spaces"))
    # In an editable install the folder stands beside the package, where the wheel copies it from.
    return packaged if packaged.is_dir() else packaged.parent.parent / "search_spaces"
