"""Where search spaces are found."""

from importlib.resources import files
from pathlib import Path

from kod_bench.errors import UsageError
from kod_bench.storage import local_path

#: Of the files; of two that differ in it alone, the first hides the other.
SUFFIXES = (".yaml", ".yml")

#: Looked into before the spaces that come with the package.
LOCAL_SPACES = Path("search_spaces")


def find_space(name: str) -> Path:
    """Find a search space: as a path, in ``./search_spaces/``, then among the shipped ones.

    Raises:
        UsageError: if there is none; the message lists the known names.
    """
    if (path := local_path(name)).is_file():
        return path
    if path.suffix in SUFFIXES or "/" in name:
        raise UsageError(f"{name}: no such search space file")
    known = known_spaces()
    if name not in known:
        raise UsageError(
            f"unknown search space {name!r}; known: {', '.join(known) or 'none'}, "
            "or a path to a YAML"
        )
    return known[name][0]


def known_spaces() -> dict[str, list[Path]]:
    """Every name that `find_space` knows, and its files: the one that is taken, then the hidden."""
    found: dict[str, list[Path]] = {}
    for folder in (LOCAL_SPACES, shipped_spaces()):
        for path in (path for suffix in SUFFIXES for path in folder.glob(f"*{suffix}")):
            same = any(path.samefile(other) for other in found.get(path.stem, []))
            if not same:  # in a checkout, both folders are one
                found.setdefault(path.stem, []).append(path)
    return dict(sorted(found.items()))


def shipped_spaces() -> Path:
    """The folder of the spaces that come with the package."""
    packaged = Path(str(files("kod_bench") / "search_spaces"))
    # In an editable install the folder stands beside the package, where the wheel copies it from.
    return packaged if packaged.is_dir() else packaged.parent.parent / "search_spaces"
