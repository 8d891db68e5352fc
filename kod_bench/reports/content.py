"""What a report says, before anybody decides how it looks.

A `ReportContent` is plain numbers and sentences; `kod_bench.reports.make` works it out from rows.
The writers (terminal, Markdown, LaTeX, tables, HTML) only lay it out: none of them computes, ranks
or leaves out anything.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import pandas as pd

from kod_bench.reports.metrics import METRICS, OF_ANGLES, headline
from kod_bench.reports.statistics import Estimate

#: A page lists so many cells, and so many differences, of a comparable set; tables hold all.
MOST_SHOWN = 200


@dataclass(frozen=True)
class Score:
    """One metric of one cell.

    Attributes:
        estimate: over training seeds.
        is_best: the lowest mean of the cells with as many network evaluations. One with fewer
            seeds than others is it only if the seeds tell it from the best of those.
        indistinguishable: whether the seeds leave open that it is the best: no other cell is told
            to be better, and for the best one, some other is left, too. None where nothing is
            told: for a cell that is not ranked or has no rival, and FID of few samples.
    """

    estimate: Estimate
    is_best: bool = False
    indistinguishable: bool | None = None


@dataclass(frozen=True)
class Cell:
    """One model, trained one way and sampled one way, over its training seeds.

    Attributes:
        label: the model's name, and of sampler, prior, T and the like what tells it apart here.
        model: its name in the search space.
        process: of it.
        kind: structured, control or euclidean: what the process is with its parameters; None for
            one of an older row that this version does not know.
        steps: T.
        network_evaluations: per image.
        sampler: of the samples.
        prior: where sampling started.
        seeds: that it was trained with.
        kid: lower is better.
        fid: lower is better.
        spectrum_distance: lower is better; None but for maps of the sphere.
        is_ranked: False for samples that started from real images' noise, and for no finite score.
        seconds_per_image: wall time of sampling.
        training_seconds: wall time.
        images_seen: training images drawn.
        parameters: trainable scalars.
        iterations: of training.
        batch_size: of training.
        configuration: hash of the resolved configuration without its seed, scorings and code
            version: a key of `Provenance.configurations`.
        trials: folders' names, in the order of the seeds.
        angles: scores in the metrics that only some rows have, by name: those of fields of angles,
            and likelihoods.
    """

    label: str
    model: str
    process: str
    kind: str | None
    steps: int
    network_evaluations: int
    sampler: str
    prior: str
    seeds: tuple[int, ...]
    kid: Score
    fid: Score
    spectrum_distance: Score | None
    is_ranked: bool
    seconds_per_image: float | None
    training_seconds: float | None
    images_seen: float | None
    parameters: int | None
    iterations: int | None
    batch_size: int | None
    configuration: str
    trials: tuple[str, ...]
    angles: Mapping[str, Score] = field(default_factory=dict)

    @property
    def base_model(self) -> str:
        """The model of the search space that this is a point of; see `base_model`."""
        return base_model(self.model)

    def score(self, metric: str) -> Score | None:
        """Its score in one of `METRICS`."""
        found: Score | None = self.angles.get(metric) or getattr(self, metric, None)
        return found


@dataclass(frozen=True)
class Difference:
    """One cell minus another on the seeds that both have. Negative: the first is better.

    Attributes:
        metric: of `METRICS`.
        against: the kind of the second cell, euclidean or control; None if two were chosen by hand.
        label: of the first cell; the structured one, unless two were chosen by hand.
        other: of the second.
        network_evaluations: of both.
        estimate: of the difference; its count is that of the first cell's seeds.
        other_count: of the second cell's seeds.
        is_paired: whether both are the seeds that the two share.
        p_value: of the t test, two-sided; None with too few seeds.
        adjusted: for all that the table and its sentences tell apart; None as well for a metric in
            which nothing is told.
    """

    metric: str
    against: str | None
    label: str
    other: str
    network_evaluations: int
    estimate: Estimate
    other_count: int
    is_paired: bool
    p_value: float | None
    adjusted: float | None


@dataclass(frozen=True)
class RealScores:
    """Real versus real: as many training images in place of samples."""

    kid: float | None
    fid: float | None
    spectrum_distance: float | None
    count: int
    angles: Mapping[str, float | None] = field(default_factory=dict)

    def score(self, metric: str) -> float | None:
        """In one of `METRICS`."""
        if metric in self.angles:
            return self.angles[metric]
        found: float | None = getattr(self, metric, None)
        return found


@dataclass(frozen=True)
class Group:
    """Rows that may be compared: equal in all of `COMPARISON_COLUMNS`.

    Attributes:
        title: data set and image size.
        caption: extractor, counts and reference.
        key: the values of `COMPARISON_COLUMNS`, by name.
        real: the first line of the table.
        cells: by network evaluations, then label; at most `MOST_SHOWN`, the best ones.
        differences: structured minus Euclidean or control, at most `MOST_SHOWN` of a metric.
        verdict: plain sentences: what the evidence supports.
        notes: plain sentences: what to bear in mind.
        cell_table: all cells, a line each.
        difference_table: all differences, a line each.
    """

    title: str
    caption: str
    key: dict[str, object]
    real: RealScores
    cells: tuple[Cell, ...]
    differences: tuple[Difference, ...]
    verdict: tuple[str, ...]
    notes: tuple[str, ...]
    cell_table: pd.DataFrame = field(repr=False)
    difference_table: pd.DataFrame = field(repr=False)

    @property
    def metrics(self) -> tuple[str, ...]:
        """Those of `METRICS` that its rows have."""
        return tuple(m for m in METRICS if f"{m}_mean" in self.cell_table)

    @property
    def headline(self) -> str:
        """The metric by which its cells are chosen and drawn."""
        return headline(self.metrics)

    @property
    def of_angles(self) -> bool:
        """Whether its data are fields of angles."""
        return self.headline == OF_ANGLES


@dataclass(frozen=True)
class PublishedNumber:
    """A number that somebody else has published. Never ranked with ours.

    Attributes:
        family: the data set's name in search spaces; empty if there is none.
        dataset: as the source names it.
        model: likewise.
        steps: T; None where the source does not say.
        metric: FID.
        value: of the metric.
        paper: title and identifier.
        source: table, log or rerun that it was read from.
        confidence: high, medium or low, and why.
        differences: what differs from this project's protocol.
    """

    family: str
    dataset: str
    model: str
    steps: int | None
    metric: str
    value: float
    paper: str
    source: str
    confidence: str
    differences: str


@dataclass(frozen=True)
class SweepOrigin:
    """A sweep that rows come from.

    Attributes:
        name: space and sweep.
        location: folder or address; the folder's name alone, so that a report can be passed on.
        profile: of the search space.
        planned: trials of the plan.
        document: sweep.yaml: the resolved search space, what was changed, the planning machine.
        document_hash: its SHA-256, 12 digits.
        failures: trial and reason.
        unreadable: row files that cannot be read.
    """

    name: str
    location: str
    profile: str
    planned: int
    document: str
    document_hash: str
    failures: tuple[tuple[str, str], ...] = ()
    unreadable: tuple[str, ...] = ()


@dataclass(frozen=True)
class CodeVersion:
    """A version of the code, and how many rows it made."""

    version: str
    code_hash: str
    git_commit: str | None
    git_dirty: bool | None
    rows: int


@dataclass(frozen=True)
class Machine:
    """A kind of hardware on a host, and how many rows were made there."""

    device: str
    hostname: str
    rows: int


@dataclass(frozen=True)
class Excluded:
    """Rows that no ranking has.

    Attributes:
        reason: in words.
        rows: how many.
        trials: some of their trials, by name.
    """

    reason: str
    rows: int
    trials: tuple[str, ...]


@dataclass(frozen=True)
class Provenance:
    """Where the numbers come from.

    Attributes:
        sweeps: that were asked for.
        codes: versions of the code, most rows first.
        packages: name to the versions that were found, with "all" rows agreeing if there is one.
        machines: hardware.
        data: data set, its hash and the number of training images.
        configurations: a cell's `configuration` to its resolved configuration, JSON.
        trials: per trial: wall times and accelerator time in seconds, a line each.
        wall_seconds: of all trials together, training, sampling and scoring.
        accelerator_seconds: likewise, times the workers that trained; 0 on CPUs.
        excluded: rows in no ranking, and why.
        statements: plain sentences; among them, that rows come from different code.
    """

    sweeps: tuple[SweepOrigin, ...]
    codes: tuple[CodeVersion, ...]
    packages: dict[str, tuple[str, ...]]
    machines: tuple[Machine, ...]
    data: tuple[tuple[str, str, int], ...]
    configurations: dict[str, str]
    trials: pd.DataFrame = field(repr=False)
    wall_seconds: float
    accelerator_seconds: float
    excluded: tuple[Excluded, ...]
    statements: tuple[str, ...]

    @property
    def failures(self) -> tuple[tuple[str, str], ...]:
        """Trials that failed, and the reason, of all sweeps."""
        return tuple(failure for sweep in self.sweeps for failure in sweep.failures)


@dataclass(frozen=True)
class ReportContent:
    """All that a report says.

    Attributes:
        title: of the report.
        summary: how many trials of how many are done.
        groups: one per comparable set of rows, never more than one ranking in each.
        published: numbers of others on the data sets shown; a block of its own.
        provenance: where the numbers come from.
        rows: the rows behind all of it, as `kod_bench.reports.frame` makes them.
    """

    title: str
    summary: str
    groups: tuple[Group, ...]
    published: tuple[PublishedNumber, ...]
    provenance: Provenance
    rows: pd.DataFrame = field(repr=False)


def base_model(name: str) -> str:
    """A row's model without the values that tell its point of a grid or a search from others.

    >>> base_model("kuramoto coupling_strength=0.5 network.width=32")
    'kuramoto'
    """
    return _POINT.sub("", name)


_POINT = re.compile(r"(?: [\w.]+=.*)+$")


def metrics_of(rows: pd.DataFrame) -> tuple[str, ...]:
    """The metrics that comparable rows have: some always, others where any row has them."""
    return tuple(
        name
        for name, metric in METRICS.items()
        if metric.is_always_shown
        or (rows[name].notna().any() and (not metric.beside or rows[metric.beside].notna().any()))
    )
