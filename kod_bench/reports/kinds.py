"""What models are, structured, control or Euclidean, and whose control a process is."""

import json
from collections.abc import Collection, Sequence


def kinds_of(
    processes: Sequence[str | None], configurations: Sequence[str | None]
) -> list[str | None]:
    """Classify by a process's name and the parameters in a resolved configuration.

    For rows from before kinds were recorded.

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


def isotropic_rivals(process: str, others: Collection[str]) -> frozenset[str]:
    """Those of other processes that are controls as they come and share the state space.

    The control of one process is a variant of it, with the structure turned off. A process that
    has none to turn off, as `wrapped` and `torus-flow` on phases, is one for all that live there.

    Args:
        process: the name of a structured one.
        others: names; those that this version does not know, plug-ins' among them, are left out.
    """
    if not others:
        return frozenset()
    from kod_bench.diffusion import PROCESSES  # imports torch: not before it is needed

    if (ours := PROCESSES.get(process)) is None:
        return frozenset()
    return frozenset(
        name
        for name in others
        if (theirs := PROCESSES.get(name)) is not None
        and theirs.periodic == ours.periodic
        and theirs.kind_of({}) == "control"
    )


def _parameters(text: str | None) -> dict[str, object] | None:
    try:
        document = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return None
    found = document.get("parameters", {}) if isinstance(document, dict) else None
    return found if isinstance(found, dict) else None
