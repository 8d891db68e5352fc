"""The metrics that reports estimate over seeds, rank and compare, and how they are written."""

from collections.abc import Collection
from dataclasses import dataclass


@dataclass(frozen=True)
class ReportedMetric:
    """A column of rows, as reports show it. All are lower for better samples.

    Attributes:
        name: in sentences and figures.
        heading: of its column in tables.
        digits: after the point.
        is_always_shown: or only where a row has it.
        in_verdict: whether sentences on the evidence rest on it, too.
        beside: it is shown only where rows have this other one.
        of_model: whether it is of the model alone, however that is sampled; real images have none.
    """

    name: str
    heading: str
    digits: int
    is_always_shown: bool
    in_verdict: bool
    beside: str | None = None
    of_model: bool = False


#: By column, in the order in which they are shown.
METRICS: dict[str, ReportedMetric] = {
    # Of fields of angles, before KID and FID, which see their hues alone.
    "correlation_distance": ReportedMetric(
        "correlation distance", "Correlation", 4, is_always_shown=False, in_verdict=True
    ),
    "vortex_density_difference": ReportedMetric(
        "difference of vortex density", "Vortices", 4, is_always_shown=False, in_verdict=True
    ),
    "energy_difference": ReportedMetric(
        "difference of energy", "Energy", 4, is_always_shown=False, in_verdict=True
    ),
    "order_distance": ReportedMetric(
        "order distance",
        "Order",
        3,
        is_always_shown=False,
        in_verdict=True,
        beside="correlation_distance",
    ),
    "angle_distance": ReportedMetric(
        "angle distance", "Angle", 3, is_always_shown=False, in_verdict=True
    ),
    "kid": ReportedMetric("KID", "KID", 3, is_always_shown=True, in_verdict=True),
    # Biased at few samples: nothing is said by it.
    "fid": ReportedMetric("FID", "FID", 1, is_always_shown=True, in_verdict=False),
    # Of maps of the sphere.
    "spectrum_distance": ReportedMetric(
        "spectrum distance", "Spectrum", 3, is_always_shown=False, in_verdict=True
    ),
    # Negative log-likelihoods of held-out images: the same at every number of evaluations.
    "bits_per_dimension": ReportedMetric(
        "bits per dimension",
        "Bits/dim",
        3,
        is_always_shown=False,
        in_verdict=False,
        of_model=True,
    ),
    "likelihood": ReportedMetric(
        "nats per phase", "Nats/phase", 3, is_always_shown=False, in_verdict=False, of_model=True
    ),
}

#: The headline of fields of angles, which no other rows have.
OF_ANGLES = "correlation_distance"


def headline(metrics: Collection[str]) -> str:
    """The metric by which rows are chosen, shown and drawn, where one has to stand for all.

    Args:
        metrics: that comparable rows have.
    """
    return OF_ANGLES if OF_ANGLES in metrics else "kid"


def is_judged(metric: str, metrics: Collection[str]) -> bool:
    """Whether sentences on the evidence rest on a metric, beside others that rows have.

    Of fields of angles KID and FID see the hues alone, which is no evidence.
    """
    return METRICS[metric].in_verdict and not (metric == "kid" and headline(metrics) != "kid")


def heading_of(metric: str, metrics: Collection[str]) -> str:
    """The heading of a metric's column, beside others that rows have."""
    return of_hues(metric, metrics) + METRICS[metric].heading


def of_hues(metric: str, metrics: Collection[str]) -> str:
    """What stands before a metric's name where, beside others, it is of the hues of angles.

    In front, as a word of its own, it fits the narrow columns of a terminal.
    """
    return "Hue " if metric in ("kid", "fid") and headline(metrics) != "kid" else ""
