"""Opens the trained model of a finished trial, on a disk or an object store; writes nothing there.

Whose sweep it is, and what it may import and read, is as for `resume` (docs/trust.md): a plug-in
has to be named, and so have the images of a plan that is not the user's own. A process that
measures no images is sampled without any.
"""

import functools
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from kod_bench.data import ImageDataset
from kod_bench.diffusion import DiffusionProcess, is_fitted_to_images, make_process
from kod_bench.errors import UsageError, one_line
from kod_bench.inside import child
from kod_bench.models.errors import ModelError
from kod_bench.models.model import FindShards, Model, way_of
from kod_bench.results import Row, judged_by
from kod_bench.sampling import Way
from kod_bench.storage import Location, ObjectFolder
from kod_bench.sweeps.plan.files import CHECKPOINTS, SAMPLES
from kod_bench.sweeps.plan.sweep import Sweep
from kod_bench.sweeps.plan.trial import Trial
from kod_bench.sweeps.store.listing import iteration_of
from kod_bench.sweeps.store.plugged import check_trusted
from kod_bench.sweeps.store.rows import rows_at
from kod_bench.sweeps.store.trust import with_confirmed_data
from kod_bench.sweeps.trial.drawing import shard_size
from kod_bench.sweeps.trial.subject import DataChangedError, Subject, trial_network
from kod_bench.training import CheckpointStore, load_trained

#: Stands in for a plan's extractor where nothing is scored: that one is not imported.
NO_EXTRACTOR = "efficientnet-lite0"


@dataclass(frozen=True)
class Permissions:
    """What the user lets a plan do that is not the user's own.

    Attributes:
        plugins: names of plug-ins, or of their packages, that it may import.
        data_dirs: folders or archives of images that it may read; or one to be read in place of
            its own.
    """

    plugins: Sequence[str] = ()
    data_dirs: Sequence[Location] = ()


def trial_rows(sweep: Sweep, trial: Trial) -> list[Row] | None:
    """The rows of a trial; None if it has not finished.

    Raises:
        OSError: if the store cannot be reached.
    """
    if sweep.remote is None:
        return rows_at(sweep.trial_folder(trial))
    return rows_at(sweep.remote / "trials" / trial.id)


def open_trial(sweep: Sweep, trial: Trial, device: torch.device, permissions: Permissions) -> Model:
    """Open a trial's model.

    Args:
        sweep: of the trial.
        trial: that has finished, or was pruned: its model is that of the rung where it was.
        device: where it is to be sampled.
        permissions: what a plan that is not the user's may do.

    Raises:
        ModelError: if the trial has not finished, or its checkpoint is gone or damaged.
        UsageError: naming what is not permitted, or images that are not those of the plan.
    """
    shown = f"{sweep.shown}: trial {trial.id}"
    sweep = replace(sweep, trials=(trial,), growth=None)
    _check_imports(sweep, trial, permissions)
    rows = trial_rows(sweep, trial)
    if rows is None:
        raise ModelError(f"{shown} has not finished; kod-bench resume {sweep.shown} goes on")

    @functools.cache
    def subject() -> Subject:
        return _load_subject(sweep, trial, device, permissions)

    def open_images() -> ImageDataset:
        return subject().dataset

    try:
        process = _process(trial, rows[0])
        if is_fitted_to_images(process):
            process = subject().process
        network = trial_network(trial, process)
        ways = _ways(rows)
    except UsageError:
        raise  # which says it better
    except (TypeError, ValueError, OverflowError, LookupError) as error:
        raise ModelError(f"{shown} cannot be made: {one_line(error)}") from error
    with tempfile.TemporaryDirectory(prefix="kod-bench-") as scratch:
        folder = _checkpoints(sweep, trial, Path(scratch))
        try:
            found = load_trained(network, CheckpointStore(folder), rows[0].iterations, device)
        except RuntimeError as error:
            raise ModelError(
                f"{shown}: its checkpoint of iteration {rows[0].iterations} is gone, damaged or "
                f"of another network; there is no model to be sampled in {CHECKPOINTS}/"
            ) from error
    judged = judged_by(ways)
    count = rows[0].sample_count
    return Model(
        trial=trial,
        process=process,
        network=found.network,
        device=device,
        ways=(judged, *(way for way in ways if way != judged)),
        sample_count=count,
        batch_size=shard_size(_plain(trial), count),
        iterations=rows[0].iterations,
        pruned=rows[0].pruned_at is not None,
        open_images=open_images,
        find_shards=_shard_finder(sweep, trial),
    )


def _plain(trial: Trial) -> Trial:
    """The trial with an extractor of this package's."""
    return replace(trial, evaluation={**trial.evaluation, "features": NO_EXTRACTOR})


def _check_imports(sweep: Sweep, trial: Trial, permissions: Permissions) -> None:
    """Refuse to make a process that the user has not let the plan import.

    Raises:
        UsageError: naming it.
    """
    alone = replace(sweep, trials=(_plain(trial),), growth=None)
    check_trusted(alone, None, permissions.plugins)


def check_way(
    sweep: Sweep,
    trial: Trial,
    rows: Sequence[Row],
    permissions: Permissions,
    prior: str | None,
    sampler: str | None,
    network_evaluations: int | None,
) -> None:
    """Refuse a way of sampling that a finished trial's process lacks; its model is not read.

    Args:
        sweep: of the trial.
        trial: that has finished.
        rows: of it.
        permissions: what a plan that is not the user's may do.
        prior: where sampling would start; None for this and the next two: as it was judged.
        sampler: one of the process's.
        network_evaluations: for each image.

    Raises:
        ModelError: naming the trial and what is allowed.
        UsageError: naming what its plan would import and may not.
    """
    _check_imports(sweep, trial, permissions)
    process, usual = _process(trial, rows[0]), judged_by(_ways(rows))
    way_of(trial.id, process, usual, prior, sampler, network_evaluations)


def _ways(rows: Sequence[Row]) -> tuple[Way, ...]:
    return tuple(Way(row.prior, row.sampler, row.network_evaluations) for row in rows)


def _process(trial: Trial, row: Row) -> DiffusionProcess:
    shape = (row.channels, *trial.dataset_options.image_shape)
    return make_process(trial.process, shape=shape, steps=trial.steps, **trial.parameters)


def _load_subject(
    sweep: Sweep, trial: Trial, device: torch.device, permissions: Permissions
) -> Subject:
    confirmed = with_confirmed_data(sweep, permissions.data_dirs)
    try:
        return Subject.load(confirmed, trial, device)
    except DataChangedError as error:
        raise ModelError(f"{sweep.shown}: trial {trial.id}: {one_line(error)}") from error


def _checkpoints(sweep: Sweep, trial: Trial, scratch: Path) -> Path:
    """The folder of checkpoints; of an object store, a copy of the last one."""
    if sweep.remote is None:
        return sweep.trial_folder(trial) / CHECKPOINTS
    there = sweep.remote / "trials" / trial.id
    saved = {name: n for name in there.list() if (n := iteration_of(name)) is not None}
    there.download([max(saved, key=saved.__getitem__)] if saved else [], scratch)
    return scratch / CHECKPOINTS


def _shard_finder(sweep: Sweep, trial: Trial) -> FindShards:
    if sweep.remote is None:
        kept = sweep.trial_folder(trial) / SAMPLES

        def find(way: str, names: Sequence[str]) -> Path | None:
            folder = child(kept, way)
            return folder if folder.is_dir() else None

        return find
    return _StoredFar(sweep.remote / "trials" / trial.id / SAMPLES)


class _StoredFar:
    """Fetches shards from an object store, into a folder that goes when the model does."""

    def __init__(self, there: ObjectFolder) -> None:
        self._there = there
        self._scratch = tempfile.TemporaryDirectory(prefix="kod-bench-")

    def __call__(self, way: str, names: Sequence[str]) -> Path | None:
        there, folder = self._there / way, Path(self._scratch.name) / way
        present = there.list().keys() & set(names)
        there.download([n for n in present if not (folder / n).exists()], folder)
        return folder if present else None
