"""What a user's extractor computes with: a hash of its source, its helpers' and its weights."""

import ast
import functools
import hashlib
import importlib.util
import site
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

#: The rows hold this package's own version and source hash.
_OURS = "kod_bench"
_DIGITS = 8
# Attributes within attributes: an extractor that holds a wrapper that holds a network.
_DEPTH = 4
#: Where packages are installed, whichever environment it is that lends them (.pth, PYTHONPATH).
_INSTALLED = frozenset({"site-packages", "dist-packages"})
_OF_MODULES = ("_parameters", "_buffers", "_modules")

_Array = Tensor | np.ndarray[Any, Any]

# What was read of a loaded module, by name. A module that is edited after it was imported goes on
# in this process as it was: its identity must not become that of the file.
_read: dict[str, tuple[ModuleType, ModuleSpec | None, bytes]] = {}


def identity_hash(module: str, others: Iterable[str], extractor: object) -> str:
    """Hash of all that can be seen of what an extractor computes with.

    That is the source of its modules and of everything that they import, directly or through
    others, except what is installed (in any site-packages) or comes with Python; if it is itself
    installed, the modules of its own package. And it is the parameters and buffers of its networks,
    and its tensors and arrays: weights from a file or a download, whatever the file's name. Their
    bits count, and so do comments in the source.

    It does not see imports by computed names, data files, numbers from the environment, and
    weights that are kept outside torch and NumPy: let the extractor's `name` say those.

    Args:
        module: Dotted name of the module that it is named by; imported.
        others: Modules that define it, where these are others; imported.
        extractor: What computes the features.

    Returns:
        8 hexadecimal digits, equal on every machine with the same code and weights.
    """
    digest = hashlib.sha256()
    for name, content in sorted(_sources(module, others).items()):
        digest.update(f"{name} {len(content)}\n".encode() + content)
    for array in _arrays(extractor, _DEPTH, {}):
        _update(digest, array)
    return digest.hexdigest()[:_DIGITS]


def _sources(module: str, others: Iterable[str]) -> dict[str, bytes]:
    """The content of every module that counts, by name."""
    waiting = [module, *others]
    own = module.split(".")[0]
    found: dict[str, bytes] = {}
    visited: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in visited:
            continue
        visited.add(name)
        for spec in _specs(name):
            if spec.origin is not None and not _counts(spec, own):
                break  # of a package that does not count, no part does
            if spec.name in found or not _counts(spec, own):
                continue
            if (content := _content(spec)) is None:
                continue
            found[spec.name] = content
            if (spec.origin or "").endswith(".py"):
                waiting.extend(_imports(spec, content))
    return found


def _counts(spec: ModuleSpec, own: str) -> bool:
    first = spec.name.split(".")[0]
    if first == own:
        return True
    if first == _OURS or spec.origin is None:
        return False
    folder = Path(spec.origin).parent
    if _INSTALLED.intersection(folder.parts):
        return False
    return not any(folder.is_relative_to(library) for library in _libraries())


@functools.cache
def _libraries() -> tuple[Path, ...]:
    """Folders of Python itself and of this environment's packages."""
    named = ("stdlib", "platstdlib", "purelib", "platlib")
    folders = [sysconfig.get_paths()[name] for name in named]
    folders += [*site.getsitepackages(), site.getusersitepackages()]
    return tuple({path for each in folders for path in (Path(each), Path(each).resolve())})


def _specs(name: str) -> Iterator[ModuleSpec]:
    """A module's and its packages', found without importing any; as far as there are modules.

    The last part of `name` may be a function.
    """
    parts = name.split(".")
    folders: list[str] | None = None
    for depth in range(1, len(parts) + 1):
        part = ".".join(parts[:depth])
        spec = _spec(part, folders)
        if spec is None:
            return
        yield spec
        if spec.submodule_search_locations is None:
            return
        folders = list(spec.submodule_search_locations)


def _spec(name: str, folders: list[str] | None) -> ModuleSpec | None:
    loaded = sys.modules.get(name)
    if loaded is not None:
        file = getattr(loaded, "__file__", None)  # of `__main__`, there is no more
        return loaded.__spec__ or (ModuleSpec(name, None, origin=file) if file else None)
    try:
        # Editable installs have finders of their own, which know top-level names.
        return (
            importlib.util.find_spec(name)
            if folders is None
            else PathFinder.find_spec(name, folders)
        )
    except (ImportError, ValueError, KeyError):  # KeyError: a folder in a package not yet loaded
        return None


def _content(spec: ModuleSpec) -> bytes | None:
    """The bytes of a module's file; None of one without, such as a part of Python itself."""
    loaded = sys.modules.get(spec.name)
    if loaded is not None and (known := _read.get(spec.name)) is not None:
        module, its_spec, content = known
        if module is loaded and its_spec is loaded.__spec__:  # which a reload replaces
            return content
    read = getattr(spec.loader, "get_data", None)
    try:
        # Within an archive, the loader alone can read.
        content = (
            read(spec.origin) if read and spec.origin else Path(spec.origin or "").read_bytes()
        )
    except OSError:
        return None
    if loaded is not None:
        _read[spec.name] = (loaded, loaded.__spec__, content)
    return content


def _imports(spec: ModuleSpec, source: bytes) -> Iterator[str]:
    """Dotted names that a module imports, anywhere in it; some may be of functions."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):  # it was imported: another Python's, or changed since
        return
    is_package = spec.submodule_search_locations is not None
    package = spec.name if is_package else spec.name.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                try:
                    base = importlib.util.resolve_name("." * node.level + base, package)
                except ImportError:
                    continue
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _arrays(value: object, depth: int, seen: dict[int, object]) -> Iterator[_Array]:
    """Every tensor and array that a value holds, in the order in which it holds them.

    Args:
        value: Anything.
        depth: How far to look into what it holds.
        seen: What was looked at, by its id; kept, so that no id is another's.
    """
    if id(value) in seen or isinstance(value, (type, ModuleType)):
        return
    seen[id(value)] = value
    if isinstance(value, (Tensor, np.ndarray)):
        yield value
    elif isinstance(value, nn.Module):
        for module in value.modules():
            yield from module.parameters(recurse=False)
            yield from module.buffers(recurse=False)
            held = [each for name, each in vars(module).items() if name not in _OF_MODULES]
            yield from (each for each in held if isinstance(each, (Tensor, np.ndarray)))
    elif depth:
        for each in _parts(value):
            yield from _arrays(each, depth - 1, seen)


def _parts(value: object) -> list[object]:
    """What a value is made of: its items, its attributes, and what a function closes over."""
    if isinstance(value, (str, bytes)):
        return []
    if isinstance(value, Mapping):
        return list(value.values())
    if isinstance(value, (list, tuple)):
        return list(value)
    parts: list[object] = list(getattr(value, "__dict__", {}).values())
    parts += [getattr(value, "__self__", None), *(getattr(value, "__defaults__", None) or ())]
    for cell in getattr(value, "__closure__", None) or ():
        parts.append(cell.cell_contents)
    if isinstance(value, functools.partial):
        parts += [value.func, *value.args, *value.keywords.values()]
    return parts


def _update(digest: "hashlib._Hash", array: _Array) -> None:
    """Adds the kind, the shape and the bits of an array."""
    if isinstance(array, np.ndarray):
        digest.update(f"{array.dtype} {array.shape}\n".encode())
        if array.dtype != object:  # whose bits are addresses
            digest.update(np.ascontiguousarray(array).tobytes())
        return
    digest.update(f"{array.dtype} {tuple(array.shape)}\n".encode())
    if array.is_meta:
        return
    dense = array.detach().dequantize() if array.is_quantized else array.detach().to_dense()
    flat = dense.cpu().contiguous().reshape(-1)
    digest.update(flat.view(torch.uint8).numpy().data)
