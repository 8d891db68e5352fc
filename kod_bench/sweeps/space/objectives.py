"""What a search can go by on each kind of data."""

from collections.abc import Collection, Sequence

from kod_bench.data import DatasetOptions
from kod_bench.evaluation import METRICS
from kod_bench.sweeps.space.search_options import OBJECTIVES, RUNG_METRICS, SearchOptions

_NEEDS = {column: metric.needs for metric in METRICS for column in metric.columns}


def why_no_objective(search: SearchOptions, datasets: Sequence[DatasetOptions]) -> str | None:
    """Why a search cannot go by what it says on all data sets of its study; None: it can.

    Whether the models have a likelihood is not looked at.
    """
    values = {dataset.values for dataset in datasets}
    on_sphere = all(dataset.on_sphere for dataset in datasets)
    reasons = {name: _why_not(name, values, on_sphere) for name in OBJECTIVES}
    for name in search.metrics:
        if (reason := reasons[name]) is not None:
            names = OBJECTIVES if search.pruner is None else RUNG_METRICS
            possible = [each for each in names if reasons[each] is None]
            return f"{name} {reason}; possible: {', '.join(possible) or 'none'}"
    return None


def _why_not(name: str, values: Collection[str], on_sphere: bool) -> str | None:
    needs = _NEEDS.get(name)
    if needs == "spectrum" and not on_sphere:
        return "is of data on the sphere alone"
    # What is per phase is of models that read angles, and what is per dimension of 8-bit images.
    if (needs == "angles" or name == "likelihood") and "intensities" in values:
        return "is of data sets of angles alone"
    if needs == "features" and "angles" in values:
        return "is of the hues of angles"
    of_gray_levels = needs in ("texture", "minutiae") or name == "bits_per_dimension"
    if of_gray_levels and "angles" in values:
        return "is of data sets of intensities alone"
    return None
