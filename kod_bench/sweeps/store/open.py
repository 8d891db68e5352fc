"""Reads a sweep's plan, from a disk or an object store."""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from kod_bench.data.cache import default_cache_dir
from kod_bench.data.cache_folder import check_own, own_folder
from kod_bench.errors import UsageError, one_line
from kod_bench.inside import MOST_DOCUMENT, MOST_PLAN, check_links, is_file, parse_json, read_bytes
from kod_bench.storage import Location, ObjectFolder, parse_location
from kod_bench.sweeps.plan.files import STUDY_LOCK
from kod_bench.sweeps.plan.sweep import FORMATS, LOCK_FILE, SWEEP_FILE, TRIALS_FILE, Growth, Sweep
from kod_bench.sweeps.plan.trial import Trial
from kod_bench.sweeps.plan.trials_file import DamagedError, decode_ids, decode_trial, decode_trials
from kod_bench.sweeps.space import PRUNERS, RUNG_METRICS, Pruner, ResourceOptions
from kod_bench.sweeps.space.yaml_file import parse_plan
from kod_bench.sweeps.store.locks import is_locked
from kod_bench.visible import is_visible, visible


def open_sweep(folder: Location) -> Sweep:
    """Read a sweep's plan.

    Args:
        folder: of the sweep. From an object store, the plan is copied into this node's cache.

    Raises:
        UsageError: if the folder holds no sweep, a damaged one, or one of another format.
    """
    return _open(folder, _all_trials)


def open_planned(folder: Location, trial: str) -> tuple[Sweep, Trial]:
    """Read one trial of a plan, without the time and the memory that thousands would take.

    Args:
        folder: of the sweep.
        trial: its id.

    Returns:
        The sweep, of which only this trial is read, and the trial.

    Raises:
        UsageError: as from `open_sweep`, or if there is no such trial.
    """

    def read(folder: Path, document: Mapping[str, Any]) -> tuple[Trial, ...]:
        if document["format"] == 1:
            return tuple(each for each in _all_trials(folder, document) if each.id == trial)
        values = decode_trial(_read_trials(folder), trial)
        found = [] if values is None else [Trial(**values)]
        if any(each.id != trial for each in found):
            raise DamagedError(f"{TRIALS_FILE}: trial {trial} is not what its name says")
        return tuple(found)

    sweep = _open(folder, read)
    if not sweep.trials:
        raise UsageError(f"{folder}: has no trial {trial}")
    return sweep, sweep.trials[0]


def _all_trials(folder: Path, document: Mapping[str, Any]) -> tuple[Trial, ...]:
    said = document["trials"]
    if document["format"] == 1:
        return tuple(Trial(**trial) for trial in said)
    content = _read_trials(folder)
    beginning = content[: said["bytes"]] if "search" in document else content
    if hashlib.sha256(beginning).hexdigest() != said["sha256"]:
        raise DamagedError(f"{TRIALS_FILE} is not the one that was written with it")
    trials = tuple(Trial(**values) for values in decode_trials(content))
    if "search" in document:  # no hash vouches for what was added
        for trial, name in zip(trials, decode_ids(content), strict=True):
            if trial.id != name:
                raise DamagedError(f"{TRIALS_FILE}: trial {name} is not what its name says")
    return trials


def read_document(sweep: Sweep) -> dict[str, Any]:
    """What a sweep's ``sweep.yaml`` says.

    Raises:
        UsageError: if it cannot be read.
    """
    return _read_document(sweep.folder / SWEEP_FILE)


def _working_folder(there: ObjectFolder) -> Path:
    """Where this node keeps its copy of a sweep that is on an object store.

    Raises:
        UsageError: if it cannot be kept, or belongs to others.
    """
    digest = hashlib.sha256(there.uri.encode()).hexdigest()[:16]
    try:
        folder = own_folder(default_cache_dir(), "sweeps", digest) / there.name
    except OSError as error:
        raise UsageError(
            f"{there}: has no working copy here ({one_line(error)}); set KOD_BENCH_CACHE to a "
            "folder that can be written"
        ) from error
    check_own(folder)
    return folder


def _fetch_plan(there: ObjectFolder, folder: Path) -> None:
    try:
        there.download([SWEEP_FILE], folder)
        document = _read_document(folder / SWEEP_FILE)
        planned = document.get("trials")
        if not isinstance(planned, Mapping):
            return  # of the first format, or damaged: what reads it says so
        path = folder / TRIALS_FILE
        # Thousands of trials are megabytes, and every trial on this node comes here.
        have = hashlib.sha256(_read_trials(folder)).hexdigest() if is_file(path) else None
        if "search" in document:  # it grows, by the hand of its driver
            current = have is not None and is_locked(folder / LOCK_FILE)
        else:
            current = have == planned.get("sha256")
        if not current:
            there.download([TRIALS_FILE], folder)
    except FileNotFoundError as error:
        raise UsageError(f"{there}: is not a sweep (it lacks a file of the plan)") from error
    except OSError as error:
        raise UsageError(f"{there}: cannot be read ({one_line(error)})") from error


def _open(
    location: Location, read_trials: Callable[[Path, Mapping[str, Any]], tuple[Trial, ...]]
) -> Sweep:
    if isinstance(location, ObjectFolder):
        folder, remote = _working_folder(location), location
        _fetch_plan(remote, folder)
    else:
        folder, remote = location, None
    path = folder / SWEEP_FILE
    if not is_file(path):
        raise UsageError(f"{folder}: is not a sweep (it has no {SWEEP_FILE})")
    check_links(folder, STUDY_LOCK)
    document = _read_document(path)
    if document.get("format") not in FORMATS:
        raise UsageError(
            f"{path}: format {document.get('format')!r}; this version reads "
            f"{' and '.join(map(str, FORMATS))}"
        )
    try:
        data_dir = document["data_dir"]
        return Sweep(
            folder=folder,
            space=_text(document["space"]),
            profile=_text(document["profile"]),
            data_dir=None if data_dir is None else parse_location(data_dir),
            resources=ResourceOptions.model_validate_json(
                json.dumps(document["resources"]), strict=True
            ),
            trials=read_trials(folder, document),
            remote=remote,
            growth=_growth(document),
            early_stopping=_pruner(document.get("early_stopping")),
            rehearsal=_mapping(document.get("rehearsal")),
            stopping_metric=_stopping_metric(document.get("early_stopping")),
        )
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError, OSError) as error:
        raise UsageError(f"{path}: is damaged: {_short(visible(one_line(error)))}") from error


def _text(value: object) -> str:
    """A name to be printed.

    Raises:
        ValueError: if it is none.
    """
    if not isinstance(value, str) or not is_visible(value):
        raise ValueError(f"{value!r} is no name")
    return value


def _mapping(said: object) -> dict[str, Any] | None:
    """What a plan says of itself, if it says anything.

    Raises:
        ValueError: if it is no mapping.
    """
    if said is not None and not isinstance(said, dict):
        raise ValueError(f"{said!r} is no mapping")
    return said


def _short(text: str, most: int = 500) -> str:
    """A message that quotes what it found, which may be anything."""
    return text if len(text) <= most else f"{text[:most]} ..."


def _read_document(path: Path) -> dict[str, Any]:
    """The mapping in ``sweep.yaml``.

    Raises:
        UsageError: if it cannot be read, or holds something else.
    """
    try:
        text = read_bytes(path, MOST_DOCUMENT).decode()
    except OSError as error:
        raise UsageError(one_line(error)) from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: is not a UTF-8 text file") from error
    return parse_plan(text, str(path))


def _read_trials(folder: Path) -> bytes:
    return read_bytes(folder / TRIALS_FILE, MOST_PLAN)


def _pruner(said: Mapping[str, Any] | None) -> Pruner | None:
    if said is None:
        return None
    options = {key: value for key, value in said.items() if key not in ("rule", "metric")}
    rule = PRUNERS[said.get("rule", "asha")]  # plans of earlier versions have no other
    return rule.model_validate_json(json.dumps(options), strict=True)


def _stopping_metric(said: Mapping[str, Any] | None) -> str | None:
    metric: str | None = None if said is None else said.get("metric")
    if metric is not None and metric not in RUNG_METRICS:
        raise ValueError(f"early_stopping.metric is {metric!r}")
    return metric


def _growth(document: Mapping[str, Any]) -> Growth | None:
    if (said := document.get("search")) is None:
        return None
    for key in said["hashes"]:  # options of data sets, which others read as such
        parse_json(key.encode(), "search.hashes")
    return Growth(
        study=str(said["study"]),
        code=str(said["code"]),
        evaluation=dict(said["evaluation"]),
        hashes=dict(said["hashes"]),
        total=int(said["total"]),
        frozen_bytes=int(document["trials"]["bytes"]),
        source=str(document["source"]),
        profile=str(document["profile"]),
        resolved=dict(document["resolved"]),
    )
