"""Where a report's numbers come from, and which rows it ranks none of."""

import json
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from kod_bench.reports.cells import CELL_COLUMNS
from kod_bench.reports.content import (
    CodeVersion,
    Excluded,
    Group,
    Machine,
    Provenance,
    SweepOrigin,
)
from kod_bench.reports.plugged import plugin_statements
from kod_bench.results import COMPARISON_COLUMNS

_NAMED = 20  # trials that an exclusion names


def split_excluded(rows: pd.DataFrame) -> tuple[pd.DataFrame, tuple[Excluded, ...]]:
    """Rows that may be ranked, and the others with the reason.

    Left out are rehearsals, trials that a pruner has stopped, rows without a seed, and all but the
    latest row of one seed of one configuration: the same seed twice is no second sample.
    """
    excluded = []
    rehearsed = rows["rehearsal"].eq(True).fillna(False).to_numpy(dtype=bool)
    if rehearsed.any():
        excluded.append(_excluded("of a rehearsal, which has no results", rows[rehearsed]))
        rows = rows[~rehearsed]
    pruned = rows["pruned_at"].notna()
    if pruned.any():
        excluded.append(_excluded("stopped early by the search (pruned_at)", rows[pruned]))
        rows = rows[~pruned]
    unknown = rows["seed"].isna()
    if unknown.any():
        excluded.append(_excluded("its seed is not recorded", rows[unknown]))
        rows = rows[~unknown]
    identity = [*COMPARISON_COLUMNS, *CELL_COLUMNS, "seed"]
    numbers = pd.DataFrame(
        {
            name: rows[name].cat.codes
            if isinstance(rows[name].dtype, pd.CategoricalDtype)
            else rows[name]
            for name in identity
        }
    )
    # Times are ISO 8601 in UTC: their order is that of the text.
    order = rows["finished_at"].fillna("").to_numpy(dtype=object).argsort(kind="stable")
    again = numbers.iloc[order].duplicated(keep="last").sort_index()
    if again.any():
        excluded.append(
            _excluded("a later row has the same configuration and seed", rows[again.to_numpy()])
        )
        rows = rows[~again.to_numpy()]
    return rows.reset_index(drop=True), tuple(excluded)


def _excluded(reason: str, rows: pd.DataFrame) -> Excluded:
    names = tuple(dict.fromkeys(map(str, rows["trial"].head(5 * _NAMED))))
    return Excluded(reason, len(rows), names[:_NAMED])


def make_provenance(
    rows: pd.DataFrame,
    kept: pd.DataFrame,
    excluded: Sequence[Excluded],
    sweeps: Sequence[SweepOrigin],
    configurations: Mapping[str, str],
    groups: Sequence[Group],
) -> Provenance:
    """Collect it from the rows and from what their sweeps know.

    Args:
        rows: all.
        kept: those that are ranked.
        excluded: of the others, why.
        sweeps: that they come from.
        configurations: by hash.
        groups: whose cells' configurations are wanted.
    """
    codes = _codes(rows)
    packages = _packages(rows)
    trials = trial_times(rows)
    data = kept[["dataset", "data_hash", "train_count"]].drop_duplicates()
    shown = {cell.configuration for group in groups for cell in group.cells}
    unfinite = _not_finite(kept)
    return Provenance(
        sweeps=tuple(sweeps),
        codes=codes,
        packages=packages,
        machines=_machines(rows),
        data=tuple(
            (str(name), str(digest), 0 if pd.isna(count) else int(count))
            for name, digest, count in data.itertuples(index=False)
        ),
        configurations={key: configurations[key] for key in sorted(shown & configurations.keys())},
        trials=trials,
        wall_seconds=float(trials["wall_seconds"].sum()),
        accelerator_seconds=float(trials["accelerator_seconds"].sum()),
        excluded=(*excluded, *unfinite),
        statements=(
            *plugin_statements(rows),
            *_taken_over(rows),
            *_statements(codes, packages, sweeps, (*excluded, *unfinite)),
        ),
    )


def _not_finite(rows: pd.DataFrame) -> tuple[Excluded, ...]:
    bad = ~np.isfinite(rows["kid"].astype(np.float64))
    return (_excluded("its KID is missing or not finite", rows[bad]),) if bad.any() else ()


def _codes(rows: pd.DataFrame) -> tuple[CodeVersion, ...]:
    columns = ["version", "code_hash", "git_commit", "git_dirty"]
    counts = rows[columns].astype(object).value_counts(dropna=False).reset_index()
    found = []
    for *values, count in counts.itertuples(index=False):
        version, code, commit, dirty = (None if pd.isna(value) else value for value in values)
        found.append(
            CodeVersion(
                str(version or "not recorded"),
                str(code or "not recorded"),
                None if commit is None else str(commit),
                None if dirty is None else bool(dirty),
                int(count),
            )
        )
    return tuple(sorted(found, key=lambda each: (-each.rows, each.code_hash)))


def _packages(rows: pd.DataFrame) -> dict[str, tuple[str, ...]]:
    found: dict[str, set[str]] = {}
    for text in rows["packages"].dropna().unique():
        try:
            named = json.loads(text)
        except (ValueError, RecursionError):
            named = {}
        if isinstance(named, dict):
            for name, version in named.items():
                found.setdefault(str(name), set()).add(str(version))
    return {name: tuple(sorted(versions)) for name, versions in sorted(found.items())}


def _machines(rows: pd.DataFrame) -> tuple[Machine, ...]:
    counts = rows[["device", "hostname"]].astype(object).value_counts(dropna=False).reset_index()
    return tuple(
        Machine(str(device), str(host), int(count))
        for device, host, count in counts.itertuples(index=False)
    )


def trial_times(rows: pd.DataFrame) -> pd.DataFrame:
    """Wall and accelerator time of each trial, in seconds; training counts once, not per row.

    Returns:
        Columns space, sweep, trial, model, seed, device, training_seconds, sampling_seconds,
        evaluation_seconds, wall_seconds and accelerator_seconds.
    """
    keyed = rows.groupby(["space", "sweep", "trial"], sort=False, observed=True, dropna=False)
    found = keyed[["model", "seed", "device", "workers", "training_seconds"]].first()
    for name in ("sampling_seconds", "evaluation_seconds"):
        found[name] = keyed[name].sum()
    # What was taken over has been spent by another trial.
    reused = keyed["reused"].first().astype(object).fillna("").astype(str)
    trained = found["training_seconds"].mask(reused.str.startswith(("rows ", "model ")), 0.0)
    after = found["sampling_seconds"] + found["evaluation_seconds"]
    after = after.mask(reused.str.startswith("rows "), 0.0)
    found["wall_seconds"] = trained.fillna(0.0) + after
    used = trained.fillna(0.0) * found["workers"].fillna(1) + after
    found["accelerator_seconds"] = used.where(found["device"].astype(object) != "cpu", 0.0)
    return found.drop(columns=["workers"]).reset_index()


def _taken_over(rows: pd.DataFrame) -> list[str]:
    """What trials have not computed themselves, by the words that `reused` begins with."""
    reused = rows["reused"].astype(object).fillna("").astype(str)
    said = []
    for word, what in (
        ("rows ", "adopted from an equal trial of another sweep"),
        ("model ", "scored from a model that a trial of another sweep has trained"),
        ("iteration ", "of models that were trained on from another sweep's checkpoint"),
    ):
        if count := int(reused.str.startswith(word).sum()):
            said.append(f"{count} row{'s are' if count > 1 else ' is'} {what}.")
    return said


def _statements(
    codes: Sequence[CodeVersion],
    packages: Mapping[str, tuple[str, ...]],
    sweeps: Sequence[SweepOrigin],
    excluded: Sequence[Excluded],
) -> list[str]:
    said = []
    hashes = {code.code_hash for code in codes}
    if len(hashes) > 1:
        each = ", ".join(f"{code.version}+{code.code_hash} ({code.rows} rows)" for code in codes)
        said.append(f"Rows come from {len(hashes)} versions of the code: {each}.")
    if any(code.git_dirty for code in codes):
        said.append("Some rows were made by a checkout with uncommitted changes.")
    differing = [name for name, versions in packages.items() if len(versions) > 1]
    if differing:
        each = "; ".join(f"{name} {', '.join(packages[name])}" for name in differing)
        said.append(f"Package versions differ between rows: {each}.")
    for sweep in sweeps:
        if sweep.failures:
            said.append(f"{sweep.name}: {len(sweep.failures)} of {sweep.planned} trials failed.")
        if sweep.unreadable:
            said.append(f"{sweep.name}: {len(sweep.unreadable)} row files cannot be read.")
    said += [
        f"{each.rows} row{'s are' if each.rows > 1 else ' is'} excluded: {each.reason}."
        for each in excluded
    ]
    return said
