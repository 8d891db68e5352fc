"""Finds trained models by what their users call them: trials, sweeps, exported folders."""

import fnmatch
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from kod_bench.errors import UsageError, one_line
from kod_bench.models.diffusers_folder import PREFIX, DiffusersModel, open_diffusers
from kod_bench.models.drawable import Drawable
from kod_bench.models.errors import ModelError
from kod_bench.models.exported import is_exported, open_exported
from kod_bench.models.model import Model
from kod_bench.models.trials import Permissions, check_way, open_trial, trial_rows
from kod_bench.results import Row
from kod_bench.storage import Location, ObjectFolder, local_path, parse_location
from kod_bench.sweeps.plan.sweep import SWEEP_FILE, Sweep
from kod_bench.sweeps.plan.trial import Trial
from kod_bench.sweeps.store.find import find_sweep
from kod_bench.sweeps.store.open import open_planned, open_sweep
from kod_bench.training import pick_device


@dataclass(frozen=True)
class Found:
    """A model that a user has named.

    Attributes:
        name: of its trial or folder.
        open: reads it.
        check_way: refuses a prior, sampler or number of evaluations that it lacks, unread.
    """

    name: str
    open: Callable[[], Drawable]
    check_way: Callable[[str | None, str | None, int | None], None] = lambda *_: None


def load(
    where: str | Path,
    *,
    device: str | torch.device | None = None,
    plugins: Sequence[str] = (),
    data_dir: str | Path | Sequence[str | Path] = (),
) -> Model | DiffusersModel:
    """Open a trained model.

    Args:
        where: folder of a trial (``results/.../trials/<trial>``, or its address on an object
            store), of a model that ``kod-bench export`` has written, or ``diffusers:FOLDER``.
        device: where to draw; default: the GPU if there is one.
        plugins: names of plug-ins, or of their packages, that it may import.
        data_dir: where the images are that it was trained on; needed for processes that measure
            them, in trials that are not the user's own, and to score what was exported.

    Raises:
        ModelError: if there is no model that can be sampled.
        UsageError: if it would import or read what its user has not named.
    """
    chosen = pick_device(gpu=True) if device is None else torch.device(device)
    said = [data_dir] if isinstance(data_dir, str | Path) else list(data_dir)
    permissions = Permissions(plugins, tuple(parse_location(str(each)) for each in said))
    if str(where).startswith(PREFIX):
        return open_diffusers(local_path(str(where).removeprefix(PREFIX)), chosen)
    location = parse_location(str(where))
    if isinstance(location, Path) and is_exported(location):
        return open_exported(location, chosen, permissions)
    if (planned := planned_trial(location)) is None:
        if isinstance(location, Path) and not location.exists():
            raise ModelError(f"{location}: does not exist")
        raise ModelError(
            f"{location}: is neither a trial's folder (.../trials/TRIAL) nor an exported model's"
        )
    return open_trial(*planned, chosen, permissions)


def planned_trial(location: Location) -> tuple[Sweep, Trial] | None:
    """The trial whose folder this is; None if it is that of no trial.

    Raises:
        UsageError: if its sweep cannot be read, or has no such trial.
    """
    if isinstance(location, ObjectFolder):
        head, _, name = location.uri.rstrip("/").rpartition("/trials/")
        return open_planned(ObjectFolder(head), name) if head and name else None
    whole = location.absolute()
    sweep = whole.parent.parent
    if whole.parent.name != "trials" or not (sweep / SWEEP_FILE).is_file():
        return None
    # As it was named, for messages.
    named = location.parent.parent if len(location.parts) > 2 else sweep
    return open_planned(named, whole.name)


def whole_sweep_of(location: Location) -> tuple[Sweep, Trial] | None:
    """Likewise, with all trials of its sweep.

    Raises:
        UsageError: as from `planned_trial`.
    """
    planned = planned_trial(location)
    return None if planned is None else (open_sweep(planned[0].location), planned[1])


def find_models(
    name: str | None,
    pattern: str | None,
    results_dir: Location,
    device: torch.device,
    permissions: Permissions,
) -> tuple[list[Found], dict[str, int]]:
    """The models that a user names: one by its folder, or those of a sweep.

    Args:
        name: of an exported model's folder, a trial's folder or address, or a sweep, as
            `find_sweep` takes it; None: the newest sweep.
        pattern: that the names of a sweep's models must match, as in a shell; None: all.
        results_dir: where sweeps are looked up.
        device: where they are to be sampled.
        permissions: what a plan that is not the user's may do.

    Returns:
        The models, none of which has been read, and how many trials of the sweep were left out,
        by what is said of them. One that was pruned has a model of fewer iterations than its
        neighbours: it is read if its folder is named, and left out of a sweep.

    Raises:
        ModelError: if none can be sampled.
        UsageError: if there is no such sweep.
    """
    location = None if name is None else parse_location(name)
    if isinstance(location, Path) and is_exported(location):
        exported = location
        return [Found(exported.name, lambda: open_exported(exported, device, permissions))], {}
    if location is not None and (planned := planned_trial(location)) is not None:
        return [Found(planned[1].id, lambda: open_trial(*planned, device, permissions))], {}
    sweep = find_sweep(name, results_dir)
    matching = [t for t in sweep.trials if pattern is None or fnmatch.fnmatchcase(t.model, pattern)]
    if not matching:
        known = ", ".join(dict.fromkeys(trial.model for trial in sweep.trials))
        raise ModelError(f"--model {pattern}: {sweep.shown} has no such model; it has {known}")
    found: list[Found] = []
    counts = {"not finished": 0, "pruned": 0}
    for trial in matching:
        try:
            rows = trial_rows(sweep, trial)
        except OSError as error:
            raise UsageError(f"{sweep.shown}: cannot be read ({one_line(error)})") from error
        if rows is None:
            counts["not finished"] += 1
        elif rows[0].pruned_at is not None:
            counts["pruned"] += 1
        else:
            found.append(_found(sweep, trial, rows, device, permissions))
    left_out = {why: count for why, count in counts.items() if count}
    if not found:
        said = ", ".join(f"{count} {why}" for why, count in left_out.items())
        raise ModelError(
            f"{sweep.shown}: of {len(matching)} trials none has a model of all iterations ({said})"
        )
    return found, left_out


def _found(
    sweep: Sweep,
    trial: Trial,
    rows: Sequence[Row],
    device: torch.device,
    permissions: Permissions,
) -> Found:
    return Found(
        trial.id,
        lambda: open_trial(sweep, trial, device, permissions),
        functools.partial(check_way, sweep, trial, rows, permissions),
    )
