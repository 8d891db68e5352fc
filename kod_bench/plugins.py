"""What installed packages add: processes, data sets, feature extractors, found by entry points.

Finding them imports nothing: names, packages, versions and source hashes are read from what is
installed. The code of one runs when somebody has asked for it by name (`Plugin.load`).
"""

import functools
import importlib
import re
from collections.abc import Collection
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any, Literal

from kod_bench.errors import UsageError, one_line
from kod_bench.source_hash import module_hash

Kind = Literal["process", "dataset", "extractor"]

#: The groups of entry points in which packages announce each kind.
GROUPS: dict[Kind, tuple[str, ...]] = {
    "process": ("kod_bench.processes",),
    "dataset": ("kod_bench.datasets",),
    # The second is what the first was called when it was the only one.
    "extractor": ("kod_bench.extractors", "kod_bench.feature_extractors"),
}

#: How messages call them.
WORDS: dict[Kind, str] = {
    "process": "process",
    "dataset": "data set",
    "extractor": "feature extractor",
}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class PluginError(UsageError, ValueError):
    """A plug-in cannot be used; one line says which, of which package, and why."""


@dataclass(frozen=True)
class Plugin:
    """Something that an installed package announces.

    Attributes:
        kind: what it is.
        name: what search spaces call it.
        package: the distribution's name, as an index has it.
        version: of the distribution.
        reference: ``module:attribute``.
    """

    kind: Kind
    name: str
    package: str
    version: str
    reference: str

    @property
    def shown(self) -> str:
        """How messages name it."""
        return f"{WORDS[self.kind]} {self.name!r} of package {self.package} {self.version}"

    @functools.cached_property
    def source(self) -> str:
        """Hash of the source of the package that holds it, in 12 hexadecimal digits.

        Raises:
            PluginError: if its module is not there.
        """
        try:
            return module_hash(self.reference.partition(":")[0])
        except (ImportError, OSError, ValueError) as error:
            raise self._unusable(error) from error

    def load(self) -> Any:
        """Import it: its package's code runs.

        Raises:
            PluginError: if that fails.
        """
        module, _, attribute = self.reference.partition(":")
        try:
            found: Any = importlib.import_module(module)
            for part in attribute.split("."):
                found = getattr(found, part)
        except (Exception, SystemExit) as error:
            raise self._unusable(error) from error
        return found

    def identity(self) -> dict[str, str]:
        """What a plan and a row say of it."""
        return {
            "kind": self.kind,
            "name": self.name,
            "package": self.package,
            "version": self.version,
            "source": self.source,
        }

    def _unusable(self, error: BaseException) -> PluginError:
        why = f"{type(error).__name__}: {one_line(error)}"
        return PluginError(f"{self.shown} cannot be imported from {self.reference}: {why}")


@functools.cache
def announced(kind: Kind) -> dict[str, tuple[Plugin, ...]]:
    """Every plug-in of a kind by name: one, unless packages disagree. Nothing is imported."""
    found: dict[str, dict[tuple[str, str], Plugin]] = {}
    for group in GROUPS[kind]:
        for entry in entry_points(group=group):
            package = "(unknown)" if entry.dist is None else entry.dist.name
            version = "" if entry.dist is None else entry.dist.version
            plugin = Plugin(kind, entry.name, package, version, entry.value)
            # Under both of a kind's groups it is still one.
            found.setdefault(entry.name, {}).setdefault((package, entry.value), plugin)
    return {name: tuple(each.values()) for name, each in sorted(found.items())}


def forget() -> None:
    """Look again at what is installed, in a process that has seen something else."""
    announced.cache_clear()


def plugin_names(kind: Kind, built_in: Collection[str]) -> tuple[str, ...]:
    """What can be named beside what is built in."""
    return tuple(name for name in announced(kind) if name not in built_in)


def find_plugin(kind: Kind, name: str, built_in: Collection[str]) -> Plugin | None:
    """Find a plug-in by name, without importing it.

    Args:
        kind: what it is.
        name: as a search space has it.
        built_in: names that no plug-in can have.

    Returns:
        None if no package announces one of this name.

    Raises:
        PluginError: if two do, or one does that is built in: which one is meant, nobody can know.
    """
    found = announced(kind).get(name, ())
    if not found:
        return None
    packages = " and ".join(sorted(f"{each.package} {each.version}" for each in found))
    what = f"{WORDS[kind]} {name!r}"
    if name in built_in:
        raise PluginError(
            f"{what} is built in, and the installed {packages} announces another of this name; "
            "uninstall it, or have it renamed"
        )
    if len(found) > 1:
        raise PluginError(
            f"{what} is announced by two installed packages, {packages}; uninstall one of them"
        )
    if not _NAME.fullmatch(name):
        raise PluginError(
            f"{found[0].shown}: a name has letters, digits and . _ - alone, and begins with none "
            "of the last three"
        )
    return found[0]
