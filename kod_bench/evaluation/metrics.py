"""The metrics: what each is called, what it looks at, whose it is, and how it is computed.

Both the rows of a sweep and ``kod-bench evaluate`` are filled from this one table.
"""

import difflib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from kod_bench.errors import UsageError
from kod_bench.evaluation import angles, texture
from kod_bench.evaluation.angular import spectrum_distance
from kod_bench.evaluation.frechet import fid, fid_infinity
from kod_bench.evaluation.kernel import kid
from kod_bench.evaluation.manifold import density_and_coverage
from kod_bench.evaluation.measured import Measured
from kod_bench.evaluation.memorisation import memorised_share
from kod_bench.evaluation.precision_recall import precision_and_recall
from kod_bench.evaluation.sliced import mind
from kod_bench.evaluation.wasserstein import sample_distance
from kod_bench.results import FID_COUNT

#: A value by the column that it stands in; None where it is not defined, or counts forbid it.
Scores = Mapping[str, float | None]


@dataclass(frozen=True)
class Metric:
    """One computation, which makes one or more columns.

    Attributes:
        columns: their names in rows and in JSON.
        needs: the part of `Measured` that it looks at.
        better: which way is good; None where neither is: too near is a copy, too far is noise.
        source: the paper it comes from, or "ours".
        function: (that part of the samples, of the reference, seed) => a value per column.
        floor: what takes the samples' place for the real-versus-real value: training images, or,
            where these are what samples are looked for in, the held-out images; None where the
            value is known beforehand.
    """

    columns: tuple[str, ...]
    needs: Literal["features", "texture", "minutiae", "nearest", "spectrum", "angles", "order"]
    better: Literal["lower", "higher"] | None
    source: str
    function: Callable[[Any, Any, int], tuple[float | None, ...]]
    floor: Literal["training", "held-out"] | None = "training"

    def __call__(self, samples: Measured, reference: Measured, seed: int) -> Scores:
        """A value per column; None where the part that it needs was not measured, or for NaN."""
        one, two = (getattr(side, self.needs) for side in (samples, reference))
        if one is None or two is None:
            return dict.fromkeys(self.columns)
        values = self.function(one, two, seed)
        return {
            column: None if value is None or math.isnan(value) else float(value)
            for column, value in zip(self.columns, values, strict=True)
        }


METRICS: tuple[Metric, ...] = (
    Metric(
        ("kid",),
        "features",
        "lower",
        "Binkowski et al. 2018",
        lambda x, y, seed: (kid(x, y, seed),),
    ),
    Metric(
        ("fid",),
        "features",
        "lower",
        "Heusel et al. 2017",
        lambda x, y, _: (fid(x, y),),
    ),
    Metric(
        ("fid_infinity",),
        "features",
        "lower",
        "Chong and Forsyth 2020",
        lambda x, y, seed: (fid_infinity(x, y, seed),),
    ),
    Metric(
        ("mind",),
        "features",
        "lower",
        "Berthet et al. 2026",
        lambda x, y, seed: (mind(x, y, seed),),
    ),
    Metric(
        ("density", "coverage"),
        "features",
        "higher",
        "Naeem et al. 2020",
        lambda x, y, _: density_and_coverage(x, y) or (None, None),
    ),
    Metric(
        ("manifold_precision", "manifold_recall"),
        "features",
        "higher",
        "Kynkaanniemi et al. 2019",
        lambda x, y, _: precision_and_recall(x, y) or (None, None),
    ),
    Metric(
        ("orientation_distance",),
        "texture",
        "lower",
        "ours",
        lambda x, y, _: (texture.orientation_distance(x, y),),
    ),
    Metric(
        ("coherence_distance",),
        "texture",
        "lower",
        "ours",
        lambda x, y, _: (texture.coherence_distance(x, y),),
    ),
    Metric(
        ("frequency_distance",),
        "texture",
        "lower",
        "ours",
        lambda x, y, _: (texture.frequency_distance(x, y),),
    ),
    Metric(
        ("order_distance",),
        "order",
        "lower",
        "ours",
        lambda x, y, _: (sample_distance(x, y),),
    ),
    Metric(
        ("ending_density", "bifurcation_density"),
        "minutiae",
        None,  # that of the data is good
        "ours, after Ratha, Chen and Jain 1995",
        lambda x, _, __: (texture.mean_density(x.endings), texture.mean_density(x.bifurcations)),
        floor="held-out",
    ),
    Metric(
        ("minutiae_distance",),
        "minutiae",
        "lower",
        "ours, after Ratha, Chen and Jain 1995",
        lambda x, y, _: (texture.minutiae_distance(x, y),),
    ),
    Metric(
        ("nearest_distance",),
        "nearest",
        None,
        "ours",
        lambda x, _, __: (float(np.median(x.distance)),),
        floor="held-out",
    ),
    Metric(
        ("memorised_share",),
        "nearest",
        None,  # that of a perfect generator is 0.01, that of noise 0
        "ours, after Carlini et al. 2023",
        lambda x, y, _: (memorised_share(x, y),),
        floor=None,  # the quantile that defines it
    ),
    Metric(
        ("spectrum_distance",),
        "spectrum",
        "lower",
        "ours",
        lambda x, y, _: (spectrum_distance(x, y),),
    ),
    Metric(
        ("correlation_distance",),
        "angles",
        "lower",
        "ours",
        lambda x, y, _: (angles.correlation_distance(x, y),),
    ),
    Metric(
        ("vortex_density", "energy"),
        "angles",
        None,  # that of the data is good
        "Kosterlitz and Thouless 1973",
        lambda x, _, __: (angles.vortex_density(x), angles.energy(x)),
        floor="held-out",
    ),
    Metric(
        ("vortex_density_difference",),
        "angles",
        "lower",
        "ours",
        lambda x, y, _: (abs(angles.vortex_density(x) - angles.vortex_density(y)),),
    ),
    Metric(
        ("energy_difference",),
        "angles",
        "lower",
        "ours",
        lambda x, y, _: (abs(angles.energy(x) - angles.energy(y)),),
    ),
    Metric(
        ("angle_distance",),
        "angles",
        "lower",
        "Rabin, Delon and Gousseau 2011",
        lambda x, y, _: (angles.angle_distance(x, y),),
    ),
)


def choose_metrics(columns: Sequence[str]) -> tuple[Metric, ...]:
    """The metrics that make the named columns, in the order of `METRICS`.

    Raises:
        UsageError: on a name that is no column.
    """
    known = [column for metric in METRICS for column in metric.columns]
    for name in columns:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            raise UsageError(f"unknown metric {name!r}; {hint}known: {', '.join(known)}")
    return tuple(metric for metric in METRICS if set(metric.columns) & set(columns))


def score(
    samples: Measured, reference: Measured, seed: int, metrics: Sequence[Metric] = METRICS
) -> Scores:
    """All columns of the metrics.

    Raises:
        ValueError: if features are too few, differ in dimension, or are not finite.
    """
    return {k: v for metric in metrics for k, v in metric(samples, reference, seed).items()}


def score_real(
    stand_ins: Measured, reference: Measured, seed: int, metrics: Sequence[Metric] = METRICS
) -> Scores:
    """The same columns for real images in place of samples: what a perfect generator would score.

    Args:
        stand_ins: training images, best as many as there are samples.
        reference: as for `score`.
        seed: as for `score`.
        metrics: as for `score`; those without a floor make None.
    """
    values: dict[str, float | None] = {}
    for metric in metrics:
        if metric.floor is None:
            values.update(dict.fromkeys(metric.columns))
        else:
            real = stand_ins if metric.floor == "training" else reference
            values.update(metric(real, reference, seed))
    return values


def marks(
    sample_count: int,
    on_sphere: bool = False,
    reference_count: int | None = None,
    are_angles: bool = False,
) -> str | None:
    """What to bear in mind about the scores of so many samples; None if there is nothing.

    Args:
        sample_count: how many samples.
        on_sphere: whether they are maps of the sphere.
        reference_count: how many references, if they are to be named, too.
        are_angles: whether they are fields of angles.
    """
    found = []
    what = f"{sample_count} samples"
    if reference_count is not None:
        what += f" against {reference_count} references"
    few = sample_count < FID_COUNT or (reference_count or FID_COUNT) < FID_COUNT
    if few and not are_angles:
        found.append(f"FID of {what}, fewer than {FID_COUNT}, is biased upwards: read KID")
    if on_sphere:
        found.append(
            "KID, FID and texture are of equirectangular images, which stretch the poles: "
            "read spectrum_distance"
        )
    if are_angles:
        found.append("KID and FID are of hues: read correlation_distance")
    return "; ".join(found) or None
