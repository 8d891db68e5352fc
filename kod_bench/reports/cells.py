"""Rows into cells: one per model, training and way of sampling, over its seeds; ranked."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from kod_bench.reports.content import (
    MOST_SHOWN,
    Cell,
    Group,
    RealScores,
    Score,
    metrics_of,
)
from kod_bench.reports.differences import find_differences, shown_differences, verdict
from kod_bench.reports.metrics import METRICS
from kod_bench.reports.statistics import (
    INTERVAL_METHOD,
    MIN_SEEDS,
    estimate_of,
    estimates,
    number,
    welch_interval,
)
from kod_bench.results import COMPARISON_COLUMNS, FID_COUNT, FORWARD_START

#: Rows that agree in all of these, and differ in the seed, are one cell.
CELL_COLUMNS = (
    "network_evaluations",
    "model",
    "process",
    "steps",
    "sampler",
    "prior",
    "iterations",
    "batch_size",
    "parameters",
    "configuration",
)

#: What a label adds to the model's name where the name alone would be ambiguous, and how.
_LABEL_PARTS: Mapping[str, str] = {
    "prior": "{}",
    "sampler": "{}",
    "steps": "T={}",
    "iterations": "{} iterations",
    "batch_size": "batch {}",
    "parameters": "{} parameters",
    "configuration": "configuration {}",
}


def make_groups(rows: pd.DataFrame, structured: Mapping[str, bool]) -> tuple[Group, ...]:
    """One group per comparable set of rows.

    Args:
        rows: of `frame.COLUMNS`, each seed of a cell once.
        structured: whether a process is, by name.
    """
    if rows.empty:
        return ()
    grouped = list(rows.groupby(list(COMPARISON_COLUMNS), sort=True, dropna=False, observed=True))
    distinct = {name: set(rows[name].map(_shown)) for name in COMPARISON_COLUMNS}
    return tuple(_group(group, distinct, structured) for _, group in grouped)


def _group(
    rows: pd.DataFrame, distinct: Mapping[str, set[str]], structured: Mapping[str, bool]
) -> Group:
    first = rows.iloc[0]
    rows = numbered(rows)
    cells = cells_of(rows, structured)
    differences = find_differences(cells, rows)
    shown = _shown_cells(cells)
    notes = [
        *_caption_notes(rows, cells),
        *_maps(rows, cells),
        *_uneven(rows),
        *_left_apart(first, distinct),
    ]
    if len(shown) < len(cells):
        notes.append(
            f"Shown are the {len(shown)} of {len(cells)} cells with the lowest KID at their number "
            "of evaluations; the CSV and Parquet tables hold all."
        )
    differences_shown = shown_differences(differences)
    if len(differences_shown) < len(differences):
        notes.append(
            f"Shown are {len(differences_shown)} of {len(differences)} paired differences, those "
            "with the lowest p-values and means; the CSV and Parquet tables hold all."
        )
    return Group(
        title=title_of(first),
        caption=(
            f"Features {first['features']}; {_whole(first['sample_count'])} samples against "
            f"{_whole(first['reference_count'])} held-out images (reference "
            f"{first['reference_hash']}, data {first['data_hash']}). Lower is better."
        ),
        key={name: _plain(first[name]) for name in COMPARISON_COLUMNS},
        real=RealScores(
            **{metric: number(first[f"{metric}_real"]) for metric in METRICS},
            count=_whole(first["real_count"]) or 0,
        ),
        cells=_cell_objects(shown, rows),
        differences=differences_shown,
        verdict=verdict(cells, differences),
        notes=tuple(notes),
        cell_table=cells.drop(columns=["structured"]).assign(
            structured=cells["structured"].astype("boolean")
        ),
        difference_table=differences,
    )


def title_of(row: "pd.Series[Any]") -> str:
    """The title of what may be compared with a row."""
    return f"{row['dataset']}, {_whole(row['image_size'])} px"


def numbered(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of one group with the number of their `cell`."""
    by_cell = rows.groupby(list(CELL_COLUMNS), sort=True, dropna=False, observed=True)
    return rows.assign(cell=by_cell.ngroup())


def cells_of(rows: pd.DataFrame, structured: Mapping[str, bool]) -> pd.DataFrame:
    """A line per cell: what it is, and for each metric its estimate and rank."""
    by_cell = rows.groupby("cell", sort=True)
    cells = by_cell[list(CELL_COLUMNS)].first()
    for name in ("model", "process", "sampler", "prior", "configuration"):
        cells[name] = cells[name].astype(object)
    cells.insert(0, "label", labels(cells))
    cells["structured"] = cells["process"].map(lambda name: structured.get(name))
    cells["seeds"] = by_cell["seed"].nunique()
    for metric in metrics_of(rows):
        cells = cells.join(estimates(rows[metric], rows["cell"]).add_prefix(f"{metric}_"))
    cells["seconds_per_image"] = (
        (rows["sampling_seconds"] / rows["sample_count"]).groupby(rows["cell"]).mean()
    )
    cells["training_seconds"] = by_cell["training_seconds"].mean()
    cells["images_seen"] = by_cell["images_seen"].mean()
    cells["is_ranked"] = (cells["prior"] != FORWARD_START) & cells["kid_mean"].notna()
    for metric in metrics_of(rows):
        cells = cells.join(_ranks(rows, cells, metric))
    return cells.sort_values(["network_evaluations", "label"], kind="stable")


def labels(cells: pd.DataFrame) -> "pd.Series[str]":
    """The model's name, with what tells apart the cells of one name at one number of evaluations.

    T is said where steps were skipped and T is not the same in all; and where sampling started, if
    it was no prior.
    """
    found = cells["model"].astype(str)
    several = cells.groupby("model", dropna=False)
    for name, form in _LABEL_PARTS.items():
        text = cells[name].map(lambda value, form=form: ", " + form.format(_shown(value)))
        if name == "steps":
            skipped = (cells["steps"] != cells["network_evaluations"]).groupby(cells["model"])
            needed = skipped.transform("any") & (cells["steps"].nunique() > 1)
        elif name in ("prior", "sampler"):
            needed = several[name].transform("nunique") > 1
        else:
            # Only where the name so far is not enough.
            alike = cells.assign(found=found).groupby(["network_evaluations", "found"])
            needed = alike[name].transform("nunique", dropna=False) > 1
            # The same cell at another number of evaluations has the same label.
            needed = needed.groupby(cells["model"]).transform("any")
        if name == "prior":
            needed |= cells["prior"] == FORWARD_START
        found = found + text.where(needed, "")
    return found


def _ranks(rows: pd.DataFrame, cells: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Which cell is best at its number of evaluations, and which are not shown to be worse."""
    mean = cells[f"{metric}_mean"].where(cells["is_ranked"])
    known = mean.dropna()
    best = known.groupby(cells.loc[known.index, "network_evaluations"]).idxmin().astype(int)
    is_best = pd.Series(False, index=cells.index)
    is_best[best.to_numpy()] = True
    low, high = _from_best(rows, cells, metric, best)
    same = pd.Series((low <= 0) & (high >= 0), index=cells.index, dtype="boolean")
    same = same.mask(pd.Series(np.isnan(low), index=cells.index) | mean.isna())
    return pd.DataFrame({f"{metric}_is_best": is_best, f"{metric}_indistinguishable": same})


def _from_best(
    rows: pd.DataFrame, cells: pd.DataFrame, metric: str, best: "pd.Series[int]"
) -> tuple[Any, Any]:
    """95 % interval of each cell's mean minus the best one's, paired where seeds are shared."""
    rival = cells["network_evaluations"].map(best)
    values = rows[["cell", "seed", metric]]
    theirs = values[values["cell"].isin(best)].rename(columns={"cell": "rival", metric: "best"})
    joined = values.assign(rival=values["cell"].map(rival)).merge(theirs, on=["rival", "seed"])
    paired = estimates(joined[metric] - joined["best"], joined["cell"]).reindex(cells.index)
    low, high = paired["low"].to_numpy(copy=True), paired["high"].to_numpy(copy=True)
    mean, deviation, count = (
        cells[f"{metric}_{name}"].to_numpy(dtype=np.float64)
        for name in ("mean", "deviation", "count")
    )
    for cell in best:
        here = (rival == cell).to_numpy() & np.isnan(low)
        place = cells.index.get_loc(cell)
        other = (float(mean[place]), float(deviation[place]), int(count[place]))
        low[here], high[here] = welch_interval(mean[here], deviation[here], count[here], other)
    return low, high


def _shown_cells(cells: pd.DataFrame) -> pd.DataFrame:
    """All cells, or of each number of evaluations the best, if they are too many for a page."""
    if len(cells) <= MOST_SHOWN:
        return cells
    each = max(1, MOST_SHOWN // cells["network_evaluations"].nunique())
    best = cells.sort_values("kid_mean", kind="stable").groupby("network_evaluations").head(each)
    return cells.loc[best.index.intersection(cells.index, sort=False)].sort_values(
        ["network_evaluations", "label"], kind="stable"
    )


def _cell_objects(cells: pd.DataFrame, rows: pd.DataFrame) -> tuple[Cell, ...]:
    members = rows[rows["cell"].isin(cells.index)].sort_values("seed").groupby("cell")
    seeds = members["seed"].agg(tuple).to_dict()
    trials = members["trial"].agg(tuple).to_dict()
    metrics = metrics_of(rows)
    found = []
    for index, line in cells.to_dict("index").items():
        scores = {}
        for metric in metrics:
            same = line[f"{metric}_indistinguishable"]
            scores[metric] = Score(
                estimate_of(line, f"{metric}_"),
                bool(line[f"{metric}_is_best"]),
                None if pd.isna(same) else bool(same),
            )
        structured = line["structured"]
        found.append(
            Cell(
                label=str(line["label"]),
                model=str(line["model"]),
                process=str(line["process"]),
                structured=None if pd.isna(structured) else bool(structured),
                steps=_whole(line["steps"]) or 0,
                network_evaluations=_whole(line["network_evaluations"]) or 0,
                sampler=str(line["sampler"]),
                prior=str(line["prior"]),
                seeds=tuple(int(seed) for seed in seeds[index]),
                kid=scores["kid"],
                fid=scores["fid"],
                spectrum_distance=scores.get("spectrum_distance"),
                is_ranked=bool(line["is_ranked"]),
                seconds_per_image=number(line["seconds_per_image"]),
                training_seconds=number(line["training_seconds"]),
                images_seen=number(line["images_seen"]),
                parameters=_whole(line["parameters"]),
                iterations=_whole(line["iterations"]),
                batch_size=_whole(line["batch_size"]),
                configuration=str(line["configuration"]),
                trials=tuple(str(trial) for trial in trials[index]),
            )
        )
    return tuple(found)


def _caption_notes(rows: pd.DataFrame, cells: pd.DataFrame) -> list[str]:
    first = rows.iloc[0]
    notes = [
        f"Real versus real: {_whole(first['real_count'])} training images in place of samples. "
        "NFE: network evaluations per image. Best at each NFE in bold; ~ marks what the seeds do "
        "not tell from the best."
    ]
    if rows["steps"].nunique() == 1 and (rows["steps"] != rows["network_evaluations"]).any():
        notes[0] += f" All models have T = {_shown(first['steps'])}."
    if (rows["prior"] == FORWARD_START).any():
        notes.append(
            f"{FORWARD_START}: sampling started where the forward chains of held-out images end, "
            "not from a prior. It shows what a better prior could bring; it generates nothing new, "
            "and is not ranked."
        )
    if first["sample_count"] < FID_COUNT:
        notes.append(
            f"FID at {_whole(first['sample_count'])} samples is biased upwards; KID is unbiased: "
            "read KID."
        )
    if (cells["kid_count"] >= MIN_SEEDS).any():
        notes.append(f"Brackets: {INTERVAL_METHOD}.")
    if (cells["kid_count"] < MIN_SEEDS).any():
        notes.append(f"No interval where there are fewer than {MIN_SEEDS} seeds.")
    for metric, shown in METRICS.items():
        bad = int((~np.isfinite(rows[metric].astype(np.float64))).sum())
        if shown.is_always_shown and bad:
            notes.append(f"{bad} row{'s have' if bad > 1 else ' has'} no finite {shown.name}.")
    return notes


def _maps(rows: pd.DataFrame, cells: pd.DataFrame) -> list[str]:
    """What to know of maps of the sphere, and of the noise that models of them were given."""
    if rows["spectrum_distance"].isna().all():
        return []
    notes = [
        "Maps of the sphere: KID and FID see equirectangular images, which stretch the poles. "
        "Spectrum: distance of angular power spectra, rms of log C_l over degrees, which does not."
    ]
    known = estimates(rows["spectrum_distance_known"], rows["cell"])["mean"].dropna()
    if len(known):
        each = [
            f"{label}, {evaluations} NFE: {known[cell]:.3f}"
            for cell, label, evaluations in cells[["label", "network_evaluations"]].itertuples()
            if cell in known.index
        ]
        real = rows["spectrum_distance_known_real"].iloc[0]
        notes.append(
            "Distance from the spectrum that these fields are drawn with (held-out maps "
            f"{real:.3f}): {_few(each, '; ')}."
        )
    noise = ["noise_from_induced", "noise_from_isotropic"]
    measured = rows.dropna(subset=noise).groupby("model", sort=True, observed=True)[noise].mean()
    if len(measured):
        each = [f"{name} {a:.3f} and {b:.3f}" for name, a, b in measured.itertuples()]
        notes.append(
            "Covariance of the noise on coefficients, relative Frobenius distance from what the "
            f"grid induces and from a multiple of I: {_few(each, '; ')}."
        )
    return notes


def _uneven(rows: pd.DataFrame) -> list[str]:
    """What the comparison does not hold equal."""
    notes = [_images_seen(rows), _parameters(rows), _precisions(rows)]
    if (codes := rows["code_hash"].nunique(dropna=False)) > 1:
        notes.append(f"These rows come from {codes} versions of the code (code_hash in the rows).")
    budget = ["iterations", "batch_size"]
    if len(budgets := rows[budget].drop_duplicates().sort_values(budget)) > 1:
        each = [f"{_shown(i)} x {_shown(b)}" for i, b in budgets.to_numpy()]
        notes.append(f"Budgets differ (iterations x batch size): {_few(each)}.")
    return [note for note in notes if note is not None]


def _images_seen(rows: pd.DataFrame) -> str | None:
    """How many training images each model drew, where that differs.

    A process that walks its images through a chain draws far fewer of them at equal iterations
    and batch size: one per T steps and chain.
    """
    by_model = rows.groupby(["model", "steps"], sort=True, observed=True)
    seen = by_model["images_seen"].mean().dropna().reset_index()
    counts = seen["images_seen"]
    if seen.empty or counts.max() <= 1.1 * counts.min():
        return None
    each = [
        f"{model} T={_shown(steps)} {count:.0f}"
        for model, steps, count in zip(seen["model"], seen["steps"], counts, strict=True)
    ]
    equal = len(rows[["iterations", "batch_size"]].drop_duplicates()) == 1
    condition = ", at equal iterations and batch size" if equal else ""
    return f"Training images drawn{condition}: {_few(each)}."


def _parameters(rows: pd.DataFrame) -> str | None:
    """How large each model's network is, where that differs by more than one percent."""
    sizes = rows.groupby("model", sort=True, observed=True)["parameters"].max().dropna()
    if sizes.empty or sizes.max() <= 1.01 * sizes.min():
        return None
    each = [f"{model} {size:,.0f}" for model, size in sizes.items()]
    return f"The networks differ in size (trainable parameters): {_few(each)}."


def _precisions(rows: pd.DataFrame) -> str | None:
    """In what arithmetic each model was trained and sampled, where that differs."""
    if rows["precision"].nunique(dropna=False) <= 1:
        return None
    pairs = rows[["model", "precision"]].drop_duplicates().astype(object)
    used: dict[str, set[str]] = {}
    for model, precision in pairs.itertuples(index=False):
        used.setdefault(str(model), set()).add("not recorded" if pd.isna(precision) else precision)
    each = [f"{model} {', '.join(sorted(found))}" for model, found in sorted(used.items())]
    return f"Arithmetic of training and sampling differs: {_few(each, '; ')}."


def _left_apart(first: "pd.Series[Any]", distinct: Mapping[str, set[str]]) -> list[str]:
    """Which columns keep other rows out of this group, and their values there."""
    reasons = []
    for name in COMPARISON_COLUMNS:
        here = _shown(first[name])
        if others := sorted(distinct[name] - {here}):
            reasons.append(f"{name} (here {here}, also {_few(others, ' and ')})")
    if not reasons:
        return []
    return [
        f"Rows that differ in {', '.join(reasons)} are in tables of their own: their scores cannot "
        "be compared."
    ]


def _few(values: Sequence[str], join: str = ", ", most: int = 12) -> str:
    if len(values) <= most:
        return join.join(values)
    return join.join(values[:most]) + f"{join}... and {len(values) - most} more"


def _shown(value: Any) -> str:
    """A value of a row in words; numbers that a missing one has made floats are whole again."""
    if value is None or (not isinstance(value, str) and pd.isna(value)):
        return "not recorded"
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value)


def _plain(value: Any) -> object:
    if value is None or (not isinstance(value, str) and pd.isna(value)):
        return None
    return value.item() if isinstance(value, np.generic) else value


def _whole(value: Any) -> int | None:
    return None if value is None or pd.isna(value) else int(value)
