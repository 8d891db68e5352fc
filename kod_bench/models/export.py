"""Writes a trial's model into a folder of its own, with its card."""

import json
import re
from pathlib import Path

import torch

from kod_bench.atomic import atomic_write
from kod_bench.errors import UsageError, one_line
from kod_bench.models.card import Numbers, card
from kod_bench.models.errors import ModelError
from kod_bench.models.exported import (
    CARD_FILE,
    CONFIG_FILE,
    FILES,
    GRID_FILE,
    config_of,
    model_files,
)
from kod_bench.models.outputs import check_contents, check_on_disk
from kod_bench.models.trials import Permissions, open_trial, trial_rows
from kod_bench.results import Row
from kod_bench.sweeps.plan.sweep import Sweep
from kod_bench.sweeps.plan.trial import Trial
from kod_bench.sweeps.trial.grid import GRID_IMAGES, write_grid

_LICENCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+-]{0,63}")


def check_licence(licence: str | None) -> None:
    """Refuse what cannot be the identifier of a licence, as model hubs read it.

    Raises:
        UsageError: saying what is allowed.
    """
    if licence is not None and not _LICENCE.fullmatch(licence):
        raise UsageError(
            f"--licence {licence!r}: must be an identifier of letters, digits and . + -, such as "
            "apache-2.0"
        )


def check_folder(folder: Path, overwrite: bool) -> None:
    """Refuse a folder that a model cannot be put into, before anything is read.

    Args:
        folder: made later, if need be.
        overwrite: whether an earlier model in it may be replaced; nothing else ever is.

    Raises:
        UsageError: naming it and the reason.
    """
    check_on_disk(folder)
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder}: is a file; name a folder")
    check_contents(
        folder,
        overwrite,
        FILES.__contains__,
        shown=str(folder),
        earlier="an earlier model",
        stranger="of no exported model",
    )


def export_trial(
    sweep: Sweep,
    trial: Trial,
    folder: Path,
    *,
    device: torch.device,
    permissions: Permissions,
    licence: str | None = None,
) -> None:
    """Write a finished trial's model, its card and a grid of its samples.

    Args:
        sweep: of the trial.
        trial: whose model it is.
        folder: for which `check_folder` found nothing to object; ``config.json`` comes last.
        device: where the grid is drawn, if its samples were not kept.
        permissions: what a plan that is not the user's may do.
        licence: of the weights, as model hubs call it.

    Raises:
        ModelError: if there is no model, or it cannot be exported.
        UsageError: if something is not permitted, or the folder cannot be written.
    """
    check_licence(licence)
    model = open_trial(sweep, trial, device, permissions)
    files = model_files(model)
    numbers = Numbers(trial_rows(sweep, trial) or [], _seeds(sweep, trial))
    files[CARD_FILE] = card(model, numbers, licence).encode()
    files[CONFIG_FILE] = (json.dumps(config_of(model), indent=2) + "\n").encode()
    grid = model.sample(min(GRID_IMAGES, model.sample_count))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in FILES:  # of an earlier model, which is none from here on
            (folder / name).unlink(missing_ok=True)
        write_grid(folder / GRID_FILE, grid)
        for name, content in files.items():
            with atomic_write(folder / name) as file:
                file.write(content)
    except OSError as error:
        reason = error.strerror or one_line(error)
        raise UsageError(f"{folder}: cannot be written ({reason})") from error


def _seeds(sweep: Sweep, trial: Trial) -> list[Row]:
    """Rows of the trials of a sweep that differ from this one in their seed alone."""

    def alike(other: Trial) -> bool:
        return {**other.values, "seed": trial.seed} == trial.values and other.id != trial.id

    rows: list[Row] = []
    for other in filter(alike, sweep.trials):
        try:
            rows += trial_rows(sweep, other) or []
        except OSError as error:
            raise ModelError(f"{sweep.shown}: cannot be read ({one_line(error)})") from error
    return rows
