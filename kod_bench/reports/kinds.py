"""What models of rows from before kinds were recorded are: structured, control or Euclidean."""

import json
from collections.abc import Sequence


def kinds_of(
    processes: Sequence[str | None], configurations: Sequence[str | None]
) -> list[str | None]:
    """Classify by a process's name and the parameters in a resolved configuration.

    Args:
        processes: their names in search spaces.
        configurations: JSON, with the process's `parameters`; those left out have their defaults.

    Returns:
        For each, its `DiffusionProcess.kind`; None if this version does not know the process, or
        the configuration cannot be read.
    """
    from kod_bench.diffusion import PROCESSES  # imports torch: not before it is needed

    known: dict[tuple[str | None, str | None], str | None] = {}
    for place in zip(processes, configurations, strict=True):
        if place not in known:
            name, text = place
            parameters = _parameters(text)
            process = PROCESSES.get(name or "")
            if process is None or parameters is None:
                known[place] = None
            else:
                known[place] = process.kind_of(parameters)
    return [known[place] for place in zip(processes, configurations, strict=True)]


def _parameters(text: str | None) -> dict[str, object] | None:
    try:
        document = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return None
    found = document.get("parameters", {}) if isinstance(document, dict) else None
    return found if isinstance(found, dict) else None
