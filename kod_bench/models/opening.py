"""Opens a trained model by what its user calls it: a trial, an exported folder, a diffusers folder."""

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from kod_bench.errors import UsageError, one_line
from kod_bench.models.diffusers_folder import PREFIX, DiffusersModel, open_diffusers
from kod_bench.models.drawable import Drawable
from kod_bench.models.errors import ModelError
from kod_bench.models.exported import is_exported, open_exported
from kod_bench.models.model import Model
from kod_bench.models.trials import Permissions, open_trial, trial_rows
from kod_bench.storage import Location, ObjectFolder, is_uri, local_path, parse_location
from kod_bench.sweeps.plan.sweep import SWEEP_FILE, Sweep
from kod_bench.sweeps.plan.trial import Trial
from kod_bench.sweeps.store.find import find_sweep
from kod_bench.sweeps.store.open import open_planned
from kod_bench.training import pick_device


@dataclass(frozen=True)
class Choice:
    """Trials of a sweep whose models can be sampled, and why others cannot.

    Attributes:
        sweep: of the trials.
        trials: those that have finished.
        left_out: how many have not, or were pruned, by what is said of them.
    """

    sweep: Sweep
    trials: tuple[Trial, ...]
    left_out: dict[str, int]


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


def choose_trials(name: str | None, model: str | None, results_dir: Location) -> Choice:
    """The trials that a user names: one by its folder, or those of a sweep.

    Args:
        name: of a trial's folder or address, or of a sweep, as `find_sweep` takes it; None: the
            newest sweep.
        model: pattern that the models of a sweep must match, as in a shell; None: all.
        results_dir: where sweeps are looked up.

    Raises:
        ModelError: if no trial of them has a model that can be sampled.
        UsageError: if there is no such sweep.
    """
    planned = None if name is None else planned_trial(parse_location(name))
    if planned is not None:
        return Choice(planned[0], (planned[1],), {})
    sweep = find_sweep(name, results_dir)
    matching = [t for t in sweep.trials if model is None or fnmatch.fnmatchcase(t.model, model)]
    if not matching:
        known = ", ".join(dict.fromkeys(trial.model for trial in sweep.trials))
        raise ModelError(f"--model {model}: {sweep.shown} has no such model; it has {known}")
    found, left_out = [], {"have not finished": 0, "were pruned": 0}
    for trial in matching:
        try:
            rows = trial_rows(sweep, trial)
        except OSError as error:
            raise UsageError(f"{sweep.shown}: cannot be read ({one_line(error)})") from error
        if rows is None:
            left_out["have not finished"] += 1
        elif rows[0].pruned_at is not None:
            left_out["were pruned"] += 1
        else:
            found.append(trial)
    left_out = {why: count for why, count in left_out.items() if count}
    if not found:
        said = " and ".join(f"{count} {why}" for why, count in left_out.items())
        raise ModelError(
            f"{sweep.shown}: none of {len(matching)} trials can be sampled: {said}; "
            "kod-bench resume goes on; a pruned one can be named by its folder"
        )
    return Choice(sweep, tuple(found), left_out)


def open_named(
    name: str, device: torch.device, permissions: Permissions
) -> Drawable | None:
    """What is no trial and no sweep: an exported model. None if it is none, either."""
    if is_uri(name):
        return None
    folder = local_path(name)
    return open_exported(folder, device, permissions) if is_exported(folder) else None
