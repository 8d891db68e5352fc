"""Keep a sweep as a study: python benchmarks/keep_study.py SWEEP NAME [--no-pictures].

Its rows, plan and a few pictures of samples go to results/reference/NAME. What would tell about the
machine (where the data lay) is cut; the sweep itself is left as it is.
"""

import argparse
import dataclasses
import re
import shutil
import sys
from pathlib import Path

import yaml

from kod_bench.results import Row, grid_file, read_trial, write_rows
from kod_bench.storage import parse_location
from kod_bench.sweeps.plan.sweep import SWEEP_FILE, TRIALS_FILE, Sweep
from kod_bench.sweeps.store.find import find_sweep, reference_folder

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
    document = (sweep.folder / SWEEP_FILE).read_text(encoding="utf-8")
    if (data := yaml.safe_load(document).get("data_dir")) is not None:
        document = document.replace(f"data_dir: {data}\n", f"data_dir: {Path(data).name}\n")
        if yaml.safe_load(document)["data_dir"] != Path(data).name:
            raise ValueError(f"{SWEEP_FILE}: its data_dir could not be cut")
    folder.mkdir(parents=True)
    (folder / SWEEP_FILE).write_text(document, encoding="utf-8")
    if (sweep.folder / TRIALS_FILE).is_file():
        shutil.copy(sweep.folder / TRIALS_FILE, folder)
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
