"""Which models of a study have a likelihood, and what is refused where one has none."""

import functools
import json
from collections.abc import Mapping
from typing import Any

from kod_bench.diffusion import find_process, likelihood_unit, make_process, why_no_likelihood
from kod_bench.results import LIKELIHOOD_UNITS
from kod_bench.sweeps.space.evaluation import EvaluationOptions
from kod_bench.sweeps.space.variants import small_shape


def why_not(
    process: str,
    steps: int,
    parameters: Mapping[str, Any],
    options: EvaluationOptions,
    metrics: tuple[str, ...] = (),
) -> str | None:
    """Why a model cannot have the likelihood that is asked for; None: it can, or none is asked for.

    Args:
        process: its name.
        steps: T.
        parameters: of the process.
        options: of scoring.
        metrics: that a search goes by.
    """
    wanted = [name for name in metrics if name in LIKELIHOOD_UNITS]
    if not wanted and options.likelihood in ("auto", "none"):
        return None
    reason, unit = _found(process, steps, json.dumps(dict(parameters), default=str))
    if reason is not None:
        return f"{process} {reason}"
    for name in wanted:
        if LIKELIHOOD_UNITS[name] != unit:
            return f"{process} has a likelihood in {unit}, which is no {name}"
        if options.likelihood == "none" or (options.likelihood == "auto" and name != "likelihood"):
            return f"{name} is found only where evaluation.likelihood is a number of images"
    return None


@functools.lru_cache(maxsize=4096)
def _found(process: str, steps: int, parameters: str) -> tuple[str | None, str | None]:
    shape = small_shape(find_process(process))
    built = make_process(process, shape=shape, steps=steps, **json.loads(parameters))
    return why_no_likelihood(built), likelihood_unit(built)
