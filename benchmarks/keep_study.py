"""Keep a sweep as a study: python benchmarks/keep_study.py SWEEP NAME [--no-pictures].

Its rows, plan and a few pictures of samples go to results/reference/NAME. What would tell about the
machine (where the data lay) is cut; the sweep itself is left as it is.
"""

import argparse
import dataclasses
import hashlib
import re
import shutil
import sys
from pathlib import Path

from kod_bench.results import Row, grid_file, read_trial, write_rows
from kod_bench.storage import parse_location
from kod_bench.sweeps.plan.sweep import SWEEP_FILE, TRIALS_FILE, Sweep
from kod_bench.sweeps.store.find import find_sweep, reference_folder
from kod_bench.sweeps.store.open import read_document

NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


def keep(sweep: Sweep, name: str, pictures: bool, unfinished: bool = False) -> Path:
    """Write the study; returns its folder.

    Raises:
        ValueError: if the name is none, or taken, or a trial has no rows.
    """
    if not NAME.fullmatch(name):
        raise ValueError(f"name {name!r}: must be lower-case letters, digits and hyphens")
    folder = reference_folder() / name
    if folder.exists():
        raise ValueError(f"{folder} is there already")
    found = {trial.id: read_trial(sweep.trial_folder(trial)) for trial in sweep.trials}
    missing = [each for each, rows in found.items() if rows is None]
    if missing and not unfinished:
        raise ValueError(f"not done: {', '.join(missing)}")
    plan = _plan_without_places(sweep)
    folder.mkdir(parents=True)
    for file, text in plan.items():
        (folder / file).write_text(text, encoding="utf-8")
    rows = {trial: kept for trial, kept in found.items() if kept is not None}
    for trial, of_trial in rows.items():
        there = folder / "trials" / trial
        there.mkdir(parents=True)
        write_rows(there, [dataclasses.replace(row, sweep=name) for row in of_trial])
        for row in of_trial if pictures else ():
            if _is_shown(row, rows):
                grid = grid_file(row.prior, row.sampler, row.network_evaluations)
                shutil.copy(sweep.trials_folder / trial / grid, there)
    return folder


def _places(sweep: Sweep) -> dict[str, str]:
    """Where data and other sweeps lay, longest first, and what a study says in their place."""
    plan = read_document(sweep)
    found = {reused.sweep: reused.name for trial in sweep.trials if (reused := trial.reused)}
    if "rescores" in plan:
        place = plan["rescores"]["sweep"]
        found.setdefault(place, "/".join(Path(place).parts[-2:]))  # SPACE/NAME
    for key in ("data_dir", "source"):
        if (place := plan.get(key)) is not None and Path(place).is_absolute():
            found[place] = Path(place).name
    return dict(sorted(found.items(), key=lambda each: len(each[0]), reverse=True))


def _plan_without_places(sweep: Sweep) -> dict[str, str]:
    """The files of the plan by name, without what tells where data and other sweeps lay."""
    plan = {
        file: (sweep.folder / file).read_text(encoding="utf-8")
        for file in (SWEEP_FILE, TRIALS_FILE)
        if (sweep.folder / file).is_file()
    }
    before = plan.get(TRIALS_FILE)
    for place, said in _places(sweep).items():
        for file in plan:
            plan[file] = plan[file].replace(f": {place}\n", f": {said}\n")
            plan[file] = plan[file].replace(f'"{place}"', f'"{said}"')
            if place in plan[file]:
                raise ValueError(f"{file}: {place} could not be cut")
    if before is not None and before != plan[TRIALS_FILE]:  # whose size and hash the plan says
        for old, new in zip(_size_and_hash(before), _size_and_hash(plan[TRIALS_FILE]), strict=True):
            plan[SWEEP_FILE] = plan[SWEEP_FILE].replace(old, new)
    return plan


def _size_and_hash(text: str) -> tuple[str, str]:
    data = text.encode()
    return f"bytes: {len(data)}\n", f"sha256: {hashlib.sha256(data).hexdigest()}\n"


def _is_shown(row: Row, rows: dict[str, list[Row]]) -> bool:
    """Of each model and T the lowest seed, at the most and the fewest evaluations."""
    same = [
        each
        for of_trial in rows.values()
        for each in of_trial
        if (each.model, each.steps) == (row.model, row.steps)
    ]
    asked = [each.network_evaluations for each in same]
    return row.seed == min(each.seed for each in same) and row.network_evaluations in (
        min(asked),
        max(asked),
    )


def main() -> None:
    """Keep one sweep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sweep")
    parser.add_argument("name")
    parser.add_argument("--no-pictures", action="store_true", help="leave out samples")
    parser.add_argument(
        "--unfinished", action="store_true", help="keep what is done; the report says how much"
    )
    arguments = parser.parse_args()
    sweep = find_sweep(arguments.sweep, parse_location("results"))
    try:
        folder = keep(sweep, arguments.name, not arguments.no_pictures, arguments.unfinished)
    except ValueError as error:
        sys.exit(f"keep_study: {error}")
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    print(f"{folder}: {len(sweep.trials)} trials, {size / 2**20:.1f} MiB")


if __name__ == "__main__":
    main()
