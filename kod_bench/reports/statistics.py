"""Means over training seeds, with the uncertainty that the seeds support."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

#: With fewer values a bootstrap interval says nothing: two seeds have three distinct resamples.
MIN_SEEDS = 3
RESAMPLES = 10_000


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds; `low` and `high` are None where there are too few for an interval."""

    mean: float
    low: float | None
    high: float | None
    count: int


def estimate(values: Sequence[float], seed: int = 0) -> Estimate:
    """Mean and 95 % percentile-bootstrap interval over training seeds.

    Args:
        values: one per seed; those that are not finite are left out.
        seed: of the resampling.

    Raises:
        ValueError: if no value is finite.
    """
    finite = np.asarray([v for v in values if np.isfinite(v)], dtype=np.float64)
    if not len(finite):
        raise ValueError("no finite value to average")
    if len(finite) < MIN_SEEDS:
        return Estimate(float(finite.mean()), None, None, len(finite))
    generator = np.random.default_rng(seed)
    means = generator.choice(finite, size=(RESAMPLES, len(finite))).mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return Estimate(float(finite.mean()), float(low), float(high), len(finite))
