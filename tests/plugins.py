"""Packages for tests: their files and what an installer writes beside them."""

from collections.abc import Callable, Mapping
from pathlib import Path

#: (package, {group: {name: reference}}, modules={path: source}, version="1.0") installs one.
Announce = Callable[..., None]


def write_package(
    folder: Path,
    package: str,
    entries: Mapping[str, Mapping[str, str]],
    modules: Mapping[str, str] | None = None,
    version: str = "1.0",
) -> None:
    """Write an installed package into a folder that is, or will be, on the path.

    Args:
        folder: in which packages are installed.
        package: the distribution's name.
        entries: name to reference, by group.
        modules: source by path.
        version: of the distribution.
    """
    record = folder / f"{package.replace('-', '_')}-{version}.dist-info"
    record.mkdir(parents=True, exist_ok=True)
    (record / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n"
    )
    lines = []
    for group, names in entries.items():
        lines += [f"[{group}]", *(f"{name} = {reference}" for name, reference in names.items())]
    (record / "entry_points.txt").write_text("\n".join(lines) + "\n")
    for path, source in (modules or {}).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(source)
