"""How a process reads images: as intensities, or, where data sets hold angles, as these."""

from collections.abc import Callable, Mapping
from typing import Any

from kod_bench.data import DatasetOptions
from kod_bench.diffusion import PROCESSES, find_process
from kod_bench.errors import UsageError

_KEY = "reading"
_MARGIN = "phase_margin"


def with_reading(
    process: str,
    parameters: Mapping[str, Any],
    dataset: DatasetOptions,
    where: Callable[[tuple[str | int, ...]], str],
) -> dict[str, Any]:
    """A model's parameters, with how its process reads the images of a data set.

    Where nothing is said, it is the first of the process's `angle_readings` for angles, and the
    process's own default for intensities.

    Args:
        process: its name.
        parameters: of the model, by name.
        dataset: of the point.
        where: names a key of the model in messages.

    Raises:
        UsageError: if process, reading or margin do not fit what the data set holds.
    """
    readings = find_process(process).angle_readings
    said = parameters.get(_KEY)
    if dataset.values == "intensities":
        if said in ("angle", "circle"):
            raise UsageError(
                f"{where((_KEY,))}: {said!r} is of angles, and data set {dataset.name} holds "
                "intensities; leave it out"
            )
        return dict(parameters)
    if not readings:
        able = [name for name, each in PROCESSES.items() if each.angle_readings]
        raise UsageError(
            f"{where(('process',))}: {process!r} takes intensities, and data set {dataset.name} "
            f"holds angles; these take angles: {', '.join(able) or 'none'}"
        )
    if said is not None and said not in readings:
        raise UsageError(
            f"{where((_KEY,))}: {said!r} is not for data set {dataset.name}, which holds angles; "
            f"{process} reads them as {' or '.join(readings)}"
        )
    if parameters.get(_MARGIN) is not None:
        raise UsageError(
            f"{where((_MARGIN,))}: is for intensities, whose black and white must not meet; data "
            f"set {dataset.name} holds angles, which go round: leave it out"
        )
    return {**parameters, _KEY: said or readings[0]}
