"""Which source a module was made of: a hash of its files, found without importing it."""

import hashlib
import importlib.util
from importlib.machinery import EXTENSION_SUFFIXES, ModuleSpec, PathFinder
from pathlib import Path

_SUFFIXES = (".py", *EXTENSION_SUFFIXES)


def folder_hash(folder: Path) -> str:
    """Hash of the Python files of a package's folder, compiled extensions included.

    Args:
        folder: of the package; its own name and place do not count.

    Returns:
        12 hexadecimal digits.
    """
    files = (path for path in folder.rglob("*") if path.name.endswith(_SUFFIXES) and path.is_file())
    return _hash(folder, sorted(files))


def module_hash(module: str) -> str:
    """Hash of the outermost package that holds a module: what it imports from there counts, too.

    Of a namespace package, which several distributions may share, it is the part that is none.

    Args:
        module: dotted name; nothing of it is imported.

    Returns:
        12 hexadecimal digits.

    Raises:
        ModuleNotFoundError: if there is no such module, or it has no file.
    """
    spec = _outermost(module)
    if spec.submodule_search_locations is not None:
        return folder_hash(Path(next(iter(spec.submodule_search_locations))))
    if spec.origin is None or not Path(spec.origin).is_file():
        raise ModuleNotFoundError(f"module {module} has no file")
    path = Path(spec.origin)
    return _hash(path.parent, [path])


def _outermost(module: str) -> ModuleSpec:
    """The first part of a dotted name that is no namespace package."""
    first, *rest = module.split(".")
    name, spec = first, importlib.util.find_spec(first)
    while spec is not None and spec.origin is None and rest:
        name = f"{name}.{rest.pop(0)}"
        # Not importlib.util.find_spec, which imports the parents.
        spec = PathFinder.find_spec(name, list(spec.submodule_search_locations or []))
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"No module named {module!r}")
    return spec


def _hash(root: Path, files: list[Path]) -> str:
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]
