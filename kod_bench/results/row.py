"""The row: one evaluation of one trial, with all that is needed to trust and to repeat it."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Protocol, TypeVar


@dataclass(frozen=True)
class Row:
    """One evaluation of one trial. Field order is column order; comments give units.

    Two rows may be compared when they agree in `COMPARISON_COLUMNS`.
    """

    # which trial
    space: str
    sweep: str
    trial: str
    model: str
    process: str
    kind: str | None  # structured, control or euclidean, by the process's parameters
    steps: int  # T
    seed: int
    config: str  # the trial's resolved configuration, JSON
    config_hash: str
    trained_hash: str | None  # of what was trained; None: of a version that did not record it
    scored_hash: str | None  # of how it was scored
    reused: str | None  # what was not computed for this trial, and whose it is; None: all was
    rehearsal: bool | None  # true: of a few steps that were only to see whether it would run

    # data
    dataset: str
    data_hash: str
    image_size: int  # pixels
    channels: int
    train_count: int

    # model and training
    parameters: int  # trainable scalars
    iterations: int  # trained; of a pruned trial, fewer than planned
    pruned_at: int | None  # iteration at which early stopping gave the trial up; None: it did not
    batch_size: int  # all workers together
    workers: int
    micro_batch_size: int | None  # of one worker at a time; halved where memory ran out
    images_seen: int  # training images drawn, repetitions included
    loss: float  # mean over the last log interval, noise units
    # of held-out images under the model, where it is asked for; the same in all rows of a model
    likelihood: float | None  # -log density of angles, nats per phase; lower
    likelihood_error: float | None  # its standard error
    bits_per_dimension: float | None  # of 8-bit images, an upper bound; lower
    bits_per_dimension_error: float | None  # its standard error
    likelihood_images: int | None  # behind it
    likelihood_evaluations: int | None  # of the network, for each of these
    likelihood_method: str | None  # probability flow, or evidence bound
    training_seconds: float  # wall time, compiling and parts before an interruption included
    resumed_from: int  # iteration of the checkpoint that the last attempt began at, 0 if none
    resumed_exactly: bool | None  # as if it had not been interrupted; None: older, not recorded
    precision: str  # fp32, bf16, each perhaps -compiled; of training and sampling, if they differ

    # sampling
    prior: str  # where sampling started: a prior of the process, or `FORWARD_START`
    sampler: str
    network_evaluations: int  # per image; fewer than T where steps were skipped
    sampling_seconds: float  # for all samples, of all workers together, without compiling
    order_parameter: float | None  # mean over samples, as `_data`'s; processes on phases only

    # where forward chains end, and what sampling starts from; processes on phases only, radians
    terminal_phase: float | None  # mean direction relative to the reference phase
    terminal_phase_spread: float | None  # between images
    terminal_order: float | None  # |z| of an image
    terminal_order_spread: float | None
    prior_phase: float | None
    prior_phase_spread: float | None
    prior_order: float | None
    prior_order_spread: float | None
    # rms difference of the two-point correlation from the ends of forward chains
    prior_correlation_distance: float | None

    # the covariance R of a process's noise on coefficients; on the sphere only
    noise_from_induced: float | None  # relative Frobenius distance to white noise on the grid
    noise_from_isotropic: float | None  # of the nearest multiple of I to R

    # quality, by the columns of kod_bench.evaluation.METRICS; None: not defined at these counts.
    # `_real`: real versus real, as many training images in place of samples
    kid: float  # lower is better
    fid: float  # lower
    kid_real: float
    fid_real: float
    fid_infinity: float | None  # lower
    fid_infinity_real: float | None
    mind: float | None  # lower
    mind_real: float | None
    density: float | None  # higher
    density_real: float | None
    coverage: float | None  # higher
    coverage_real: float | None
    manifold_precision: float | None  # higher
    manifold_precision_real: float | None
    manifold_recall: float | None  # higher
    manifold_recall_real: float | None
    # texture, this project's own; lower
    orientation_distance: float | None  # radians, at most pi / 4
    orientation_distance_real: float | None
    coherence_distance: float | None  # at most 1
    coherence_distance_real: float | None
    frequency_distance: float | None  # cycles per pixel
    frequency_distance_real: float | None
    order_distance: float | None  # of the images' order parameters, with phases 0.9 pi x or angles
    order_distance_real: float | None
    order_parameter_data: float | None  # mean over the reference images, with phases 0.9 pi x
    # minutiae of ridges, per 1,000 pixels; from 32 pixels a side on
    ending_density: float | None  # _real: of the reference images
    ending_density_real: float | None
    bifurcation_density: float | None  # likewise
    bifurcation_density_real: float | None
    minutiae_distance: float | None  # lower
    minutiae_distance_real: float | None
    # memorisation; neither low nor high is good
    nearest_distance: float | None  # median rms distance to the nearest training image, 0..1
    nearest_distance_real: float | None  # of the reference images
    memorised_share: float | None  # beyond the 1 % quantile of reference images, 99 at least
    # maps of the sphere only
    spectrum_distance: float | None  # lower; rms over degrees of log angular power
    spectrum_distance_real: float | None
    # from the spectrum that built-in fields are drawn with; _real: of the reference images
    spectrum_distance_known: float | None  # lower
    spectrum_distance_known_real: float | None
    # fields of angles only, of pairs and plaquettes of neighbours
    correlation_distance: float | None  # lower; rms over distances of <cos of differences>
    correlation_distance_real: float | None
    vortex_density: float | None  # share of plaquettes; _real: of the reference images
    vortex_density_real: float | None
    vortex_density_difference: float | None  # lower; absolute
    vortex_density_difference_real: float | None
    energy: float | None  # -<cos> over neighbours; _real: of the reference images
    energy_real: float | None
    energy_difference: float | None  # lower; absolute
    energy_difference_real: float | None
    angle_distance: float | None  # lower; radians, of all angles together
    angle_distance_real: float | None
    marks: str | None  # what to bear in mind about these scores
    features: str  # extractor: network, input size, weights hash
    sample_count: int
    real_count: int  # training images behind kid_real and fid_real
    reference_count: int
    reference_hash: str
    evaluation_seconds: float

    # provenance
    device: str
    hostname: str
    version: str  # of kod-bench
    code_hash: str  # of the package's own source files
    git_commit: str | None  # None outside a git checkout
    git_dirty: bool | None
    packages: str  # name to version, JSON
    # JSON list of what another package had added: kind, name, package, version, source hash
    plugins: str | None
    finished_at: str  # UTC, ISO 8601


#: The `prior` of rows whose samples did not start from a prior but from the end states of held-out
#: images' own forward chains: the "image" mode of the code released with arXiv 2509.15328. What
#: quality is left to gain by a better prior, not a generative model's score.
FORWARD_START = "forward"

#: Below, FID's covariance is rank-deficient and the value mostly measures the sample count.
FID_COUNT = 2048

#: Columns of the negative log-likelihood of held-out images, and their units; lower is better.
LIKELIHOOD_UNITS = {"likelihood": "nats per phase", "bits_per_dimension": "bits per dimension"}

#: What a process says of its own end and noise; see `DiffusionProcess.diagnostics`.
TERMINAL_COLUMNS = tuple(
    field.name
    for field in fields(Row)
    if field.name.startswith(("terminal_", "prior_", "noise_from_"))
)

#: Scores are comparable within, never across, equal values of these columns.
COMPARISON_COLUMNS = (
    "dataset",
    "data_hash",
    "image_size",
    "features",
    "sample_count",
    "real_count",
    "reference_count",
    "reference_hash",
)


def headline(row: Row) -> tuple[str, float]:
    """The name and value of the score that a row is shown by: KID, or correlation distance.

    That is of angles, whose KID is that of their hues.
    """
    if row.correlation_distance is None:
        return "KID", row.kid
    return "correlation distance", row.correlation_distance


class _Started(Protocol):
    @property
    def prior(self) -> str: ...


_Way = TypeVar("_Way", bound=_Started)


def judged_by(ways: Sequence[_Way]) -> _Way:
    """Of the ways in which a trial is sampled, or their rows, the one that it is judged by.

    The first that starts from a prior: what starts from images is no generative model.
    """
    return next((each for each in ways if each.prior != FORWARD_START), ways[0])
