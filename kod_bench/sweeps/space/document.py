"""The layers of a search space: the file, a profile over it, and ``--set`` over both."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kod_bench.errors import UsageError
from kod_bench.sweeps.space.axes import is_axis
from kod_bench.sweeps.space.messages import contains, dotted
from kod_bench.sweeps.space.yaml_file import parse_yaml

Node = Mapping[str, Any]


@dataclass(frozen=True)
class Document:
    """What a space says under one profile, and which layer says it.

    Attributes:
        source: the file.
        profile: its profile.
        merged: all layers together.
        layers: (how messages name it, what it says), the uppermost first.
    """

    source: str
    profile: str
    merged: dict[str, Any]
    layers: tuple[tuple[str, Node], ...]

    @classmethod
    def of(
        cls, source: str, base: Node, profile: str, overrides: Node, changes: Node
    ) -> "Document":
        """Lay a profile over a file, and the command line's changes over both.

        A section is merged key by key; a list, or an axis, is replaced as a whole. A model that
        an upper layer says to be null is dropped.
        """
        merged = merge(merge(base, overrides), changes)
        if isinstance(models := merged.get("models"), dict):
            dropped = {
                name
                for layer in (base, overrides)
                if isinstance(below := layer.get("models"), dict)
                for name, section in below.items()
                if section is not None and models.get(name) is None
            }
            merged["models"] = {k: v for k, v in models.items() if k not in dropped}
        layers = (("--set ", changes), (f"profiles.{profile}.", overrides), ("", base))
        return cls(source, profile, merged, layers)

    def where(self, *candidates: tuple[str | int, ...]) -> str:
        """How to name a key in a message: the file, then the layer that says it.

        Args:
            candidates: paths that may say it, the one that prevails first; the first one names
                what nobody says.
        """
        for path in candidates:
            for name, layer in self.layers:
                # What stands inside an axis is found by the axis's own path.
                keys = tuple(key for key in path if isinstance(key, str))
                if contains(layer, keys):
                    return f"{self.source}: {name}{dotted(path)}"
        return f"{self.source}: {dotted(candidates[0])}"

    def touched(self, path: tuple[str, ...], *others: tuple[str, ...]) -> str:
        """How to name a section that is wrong as a whole: by the uppermost layer with a part in it.

        Args:
            path: of the section.
            others: of sections that have a part in it, too.
        """
        for name, layer in self.layers:
            if any(contains(layer, each) for each in (path, *others)):
                return f"{self.source}: {name}{dotted(path)}"
        return f"{self.source}: {dotted(path)}"

    @property
    def changes(self) -> Node:
        """What the command line says."""
        return self.layers[0][1]

    @property
    def name(self) -> str:
        """Of the whole, where no key is to blame."""
        changed = " with --set" if self.changes else ""
        return f"{self.source}: profiles.{self.profile}{changed}"


def merge(base: Node, overrides: Node) -> dict[str, Any]:
    """One mapping over another: sections key by key, anything else replaced."""
    merged = dict(base)
    for key, value in overrides.items():
        old = merged.get(key)
        sections = isinstance(old, dict) and isinstance(value, dict)
        if sections and not is_axis(old) and not is_axis(value):
            merged[key] = merge(old, value)  # type: ignore[arg-type]
        else:
            merged[key] = value
    return merged


def parse_changes(changes: Sequence[str], document: Node) -> dict[str, Any]:
    """Read ``path=value`` pairs of the command line as one mapping.

    Args:
        changes: a dotted path into the search space, and a YAML value.
        document: the space; a key that it has may itself hold dots.

    Raises:
        UsageError: if one is not of this form, or two say the same.
    """
    nested: dict[str, Any] = {}
    for text in changes:
        path, equals, value = text.partition("=")
        if not equals or not all(path.split(".")):
            raise UsageError(f"--set {text!r}: must be path=value, such as training.iterations=500")
        keys = _split(path.strip(), document)
        if keys[0] == "profiles":
            raise UsageError(f"--set {path}: changes the profile taken; leave out profiles.NAME")
        node = nested
        for key in keys[:-1]:
            node = node.setdefault(key, {})
            if not isinstance(node, dict):
                raise UsageError(f"--set {path}: a part of it is set already")
        if keys[-1] in node:
            raise UsageError(f"--set {path}: is set twice")
        node[keys[-1]] = parse_yaml(value, f"--set {path}")
    return nested


def _split(path: str, node: Any) -> list[str]:
    """A dotted path as keys: the longest that a mapping has, else up to the next dot."""
    known = [
        key
        for key in (node if isinstance(node, Mapping) else ())
        if isinstance(key, str) and (path == key or path.startswith(f"{key}."))
    ]
    key = max(known, key=len, default=path.partition(".")[0])
    rest = path[len(key) + 1 :]
    below = node.get(key) if isinstance(node, Mapping) else None
    return [key, *(_split(rest, below) if rest else [])]
