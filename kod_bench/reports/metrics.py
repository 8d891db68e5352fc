"""The metrics that reports estimate over seeds, rank and compare, and how they are written."""

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
    """

    name: str
    heading: str
    digits: int
    is_always_shown: bool
    in_verdict: bool


#: By column, in the order in which they are shown.
METRICS: dict[str, ReportedMetric] = {
    "kid": ReportedMetric("KID", "KID", 3, is_always_shown=True, in_verdict=True),
    # Biased at few samples: nothing is said by it.
    "fid": ReportedMetric("FID", "FID", 1, is_always_shown=True, in_verdict=False),
    # Of maps of the sphere.
    "spectrum_distance": ReportedMetric(
        "spectrum distance", "Spectrum", 3, is_always_shown=False, in_verdict=True
    ),
}
