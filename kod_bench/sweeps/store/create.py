"""Writes a sweep's plan, on a disk or an object store: nothing is there before it is whole."""

import hashlib
import json
import secrets
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kod_bench.atomic import atomic_write
from kod_bench.data import DatasetOptions
from kod_bench.errors import UsageError, one_line
from kod_bench.results.provenance import Provenance
from kod_bench.storage import Location, ObjectFolder
from kod_bench.sweeps.plan.files import SIGNATURE_FILE
from kod_bench.sweeps.plan.make import canonical_json, current_code, plain_options
from kod_bench.sweeps.plan.sweep import (
    FORMATS,
    REHEARSAL_ENDING,
    SWEEP_FILE,
    TRIALS_FILE,
    Sweep,
)
from kod_bench.sweeps.plan.trial import Trial
from kod_bench.sweeps.plan.trials_file import Drawn, encode_trials
from kod_bench.sweeps.space import ResourceOptions, SearchSpace
from kod_bench.sweeps.space.yaml_file import dump_yaml
from kod_bench.sweeps.store.open import open_sweep, read_document
from kod_bench.sweeps.store.ownership import signature


def check_writable(results_dir: Location) -> None:
    """Refuse a results folder that cannot be written, before minutes are spent on anything else.

    Raises:
        UsageError: naming the folder and the reason.
    """
    if isinstance(results_dir, ObjectFolder):
        probe = f".kod-bench-{secrets.token_hex(8)}"
        try:
            results_dir.write(probe, b"can this be written?\n")
            results_dir.delete(probe)
        except OSError as error:
            raise _unwritable(results_dir, error) from error
        return
    existing = results_dir.absolute()
    while not existing.exists():
        existing = existing.parent
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        raise _unwritable(existing, error) from error


def _unwritable(folder: Location, error: OSError) -> UsageError:
    reason = error.strerror or one_line(error)
    return UsageError(
        f"{folder}: results cannot be written here ({reason}); "
        "choose another folder with --results-dir"
    )


def create_sweep(
    space: SearchSpace,
    trials: tuple[Trial, ...],
    *,
    results_dir: Location,
    data_dir: Location | None,
    provenance: Provenance,
    hashes: Mapping[DatasetOptions, str] | None = None,
) -> Sweep:
    """Make the sweep's folder and write its plan.

    Args:
        space: resolved.
        trials: of all its variants; where a strategy chooses by results, those that were drawn
            only stand in for its choices, and are not written.
        results_dir: where sweeps are kept.
        data_dir: where the images are.
        provenance: of this process.
        hashes: of the images of each data set that was opened.

    Raises:
        UsageError: if the folder cannot be written.
    """
    now = datetime.now(UTC)
    total, chosen_later = len(trials), space.options.search.strategy == "optuna"
    drawn = {
        (variant.label, variant.steps): Drawn(variant.group, variant.drawn)
        for variant in space.variants
        if variant.drawn
    }
    alike = [trial.record for trial in trials]
    if chosen_later:
        trials = tuple(trial for trial in trials if (trial.model, trial.steps) not in drawn)
    encoded = encode_trials(
        [(trial.id, trial.record) for trial in trials],
        {t.id: drawn[t.model, t.steps] for t in trials if (t.model, t.steps) in drawn},
        alike,
    )
    document = _head(space, now, data_dir, space.options.resources, provenance) | {
        "resolved": space.document,
        "trials": _listed(trials, encoded),
    }
    if (pruner := space.options.search.pruner) is not None:
        said: dict[str, Any] = {"rule": space.options.search.early_stopping}
        if space.options.search.metrics != ("kid",):
            (said["metric"],) = space.options.search.metrics
        document["early_stopping"] = said | plain_options(pruner)

    def text(name: str) -> bytes:
        if chosen_later:
            document["search"] = {
                "study": name,
                "code": current_code(),
                "evaluation": plain_options(space.options.evaluation),
                "hashes": {canonical_json(plain_options(k)): v for k, v in (hashes or {}).items()},
                "total": total,
            }
        return dump_yaml(_plain(document), width=100).encode()

    return _write(results_dir / space.options.name, now, encoded, text)


def create_rescoring(
    parent: Sweep,
    trials: tuple[Trial, ...],
    *,
    results_dir: Location,
    resources: ResourceOptions,
    said: Mapping[str, Any],
    provenance: Provenance,
) -> Sweep:
    """Make the folder of a sweep that scores the models of another, and write its plan.

    Args:
        parent: whose models they are.
        trials: of the plan.
        results_dir: where sweeps are kept.
        resources: of a trial.
        said: what its user has changed.
        provenance: of this process.

    Raises:
        UsageError: if the folder cannot be written.
    """
    now = datetime.now(UTC)
    before = read_document(parent)
    encoded = encode_trials([(trial.id, trial.record) for trial in trials])
    # Of a rescoring, what its parent was: the models are the parent's.
    kept: dict[str, Any] = {
        key: before[key] for key in ("source", "set", "resolved") if key in before
    }
    document: dict[str, Any] = {
        "format": FORMATS[-1],
        "space": parent.space,
        "profile": parent.profile,
        "created_at": now.isoformat(timespec="seconds"),
        "data_dir": None if parent.data_dir is None else str(_absolute(parent.data_dir)),
        "resources": resources.model_dump(mode="json"),
        "provenance": asdict(provenance),
        "rescores": {"sweep": str(parent.location), "changed": dict(said)},
        **kept,
        "trials": _listed(trials, encoded),
    }
    if "early_stopping" in before:  # how many samples a pruned trial is scored by
        document["early_stopping"] = before["early_stopping"]
    plan = dump_yaml(_plain(document), width=100).encode()
    return _write(results_dir / parent.space, now, encoded, lambda _: plan)


def create_rehearsal(
    space: SearchSpace,
    trials: Sequence[Trial],
    *,
    results_dir: Location,
    data_dir: Location | None,
    resources: ResourceOptions,
    said: Mapping[str, Any],
    provenance: Provenance,
) -> Sweep:
    """Make the folder of a rehearsal, and write its plan.

    Args:
        space: that is rehearsed, resolved.
        trials: of the rehearsal.
        results_dir: where sweeps are kept.
        data_dir: where the images are.
        resources: that each of its trials occupies.
        said: of which trials it is a rehearsal.
        provenance: of this process.

    Raises:
        UsageError: if the folder cannot be written.
    """
    now = datetime.now(UTC)
    encoded = encode_trials([(trial.id, trial.record) for trial in trials])
    document = _head(space, now, data_dir, resources, provenance) | {
        "rehearsal": dict(said),
        "trials": _listed(trials, encoded),
    }
    plan = dump_yaml(_plain(document), width=100).encode()
    where = results_dir / space.options.name
    return _write(where, now, encoded, lambda _: plan, REHEARSAL_ENDING)


def _head(
    space: SearchSpace,
    now: datetime,
    data_dir: Location | None,
    resources: ResourceOptions,
    provenance: Provenance,
) -> dict[str, Any]:
    """What every plan of a search space begins with."""
    return {
        "format": FORMATS[-1],
        "space": space.options.name,
        "source": space.source,
        "profile": space.profile,
        "created_at": now.isoformat(timespec="seconds"),
        "data_dir": None if data_dir is None else str(_absolute(data_dir)),
        "resources": resources.model_dump(mode="json"),
        "provenance": asdict(provenance),
        "set": space.changes,
    }


def _listed(trials: Sequence[Trial], encoded: bytes) -> dict[str, Any]:
    """What a plan says of the file of its trials."""
    return {
        "file": TRIALS_FILE,
        "count": len(trials),
        "bytes": len(encoded),
        "sha256": hashlib.sha256(encoded).hexdigest(),
    }


def _write(
    parent: Location,
    now: datetime,
    encoded: bytes,
    text: Callable[[str], bytes],
    ending: str = "",
) -> Sweep:
    """Make a sweep's folder with its plan and its signature.

    Args:
        parent: where the folder is to be.
        now: its name.
        encoded: the file of the trials.
        text: of the plan, given the name.
        ending: of the name.
    """
    stamp = now.strftime("%Y%m%d-%H%M%S")

    try:
        if isinstance(parent, ObjectFolder):
            # Nothing there says that a name is taken by a sweep that starts in the same second.
            there = parent / f"{stamp}-{secrets.token_hex(2)}{ending}"
            there.write(TRIALS_FILE, encoded)
            plan = text(there.name)
            if (signed := signature(plan)) is not None:
                there.write(SIGNATURE_FILE, signed)
            there.write(SWEEP_FILE, plan)
            return open_sweep(there)
        folder = _new_folder(parent, stamp, ending)
        (folder / "trials").mkdir()
        with atomic_write(folder / TRIALS_FILE) as file:
            file.write(encoded)
        plan = text(folder.name)
        if (signed := signature(plan)) is not None:
            with atomic_write(folder / SIGNATURE_FILE) as file:
                file.write(signed)
        with atomic_write(folder / SWEEP_FILE) as file:
            file.write(plan)
    except OSError as error:
        raise _unwritable(parent, error) from error
    return open_sweep(folder)


def _absolute(location: Location) -> Location:
    return location if isinstance(location, ObjectFolder) else location.resolve()


def _new_folder(parent: Path, name: str, ending: str) -> Path:
    parent.mkdir(parents=True, exist_ok=True)
    for suffix in ("", *(f"-{i}" for i in range(2, 1000))):
        folder = parent / (name + suffix + ending)
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        return folder
    raise UsageError(f"{parent}: a thousand sweeps were started here within one second")


def _plain(value: Any) -> Any:
    """Tuples as lists, so that the YAML holds plain types only."""
    return json.loads(json.dumps(value, default=str))
