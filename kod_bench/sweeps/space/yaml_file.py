"""YAML as people expect it: ``1e-4`` is a number, and a key given twice is an error."""

import re
from pathlib import Path
from typing import Any

import yaml

from kod_bench.errors import UsageError


class _Loader(yaml.SafeLoader):
    pass


# YAML 1.1, which PyYAML follows, reads 1e-4 as a string because it has no decimal point.
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)$"),
    list("-+0123456789."),
)


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    keys = [key.value for key, _ in node.value]
    for key in keys:
        if keys.count(key) > 1:
            raise yaml.constructor.ConstructorError(
                None, None, f"the key {key!r} is given twice", node.start_mark
            )
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def load_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file that holds one mapping.

    Raises:
        UsageError: if the file cannot be read, is not YAML, or holds something else.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: is not a UTF-8 text file") from error
    document = parse_yaml(text, str(path))
    if not isinstance(document, dict):
        raise UsageError(f"{path}: must hold a mapping of keys to values")
    return document


def parse_yaml(text: str, where: str) -> Any:
    """Read a YAML value.

    Args:
        text: of the value.
        where: names it in messages.

    Raises:
        UsageError: if it is not YAML.
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        raise UsageError(f"{where}{place}: is not valid YAML: {error.problem}") from error
    except yaml.YAMLError as error:
        raise UsageError(f"{where}: is not valid YAML: {' '.join(str(error).split())}") from error
