"""What to bear in mind of a comparable set of rows, in sentences below its table."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from kod_bench.reports.evidence import Evidence, standard
from kod_bench.reports.metrics import METRICS, headline
from kod_bench.reports.statistics import INTERVAL_METHOD, MIN_SEEDS, estimates
from kod_bench.reports.values import shown, whole
from kod_bench.results import COMPARISON_COLUMNS, FID_COUNT, FORWARD_START, LIKELIHOOD_UNITS

#: Held-out images behind a likelihood of rows that do not say it.
_FIRST = 32


def notes_of(rows: pd.DataFrame, cells: pd.DataFrame, evidence: Evidence) -> list[str]:
    """Sentences on how to read the table, and on what it does not hold equal.

    Args:
        rows: of a group, with their `cell`.
        cells: `cells.cells_of` them.
        evidence: what their seeds tell apart.
    """
    return [
        *_caption_notes(rows, cells, evidence),
        *_fewer_seeds(cells),
        *_maps(rows, cells),
        *_likelihoods(rows),
        *_uneven(rows),
    ]


def left_apart_notes(first: "pd.Series[Any]", distinct: Mapping[str, set[str]]) -> list[str]:
    """Which columns keep other rows out of this group, and their values there."""
    reasons = []
    for name in COMPARISON_COLUMNS:
        here = shown(first[name])
        if others := sorted(distinct[name] - {here}):
            reasons.append(f"{name} (here {here}, also {_few(others, ' and ')})")
    if not reasons:
        return []
    return [
        f"Rows that differ in {', '.join(reasons)} are in tables of their own: their scores cannot "
        "be compared."
    ]


def _caption_notes(rows: pd.DataFrame, cells: pd.DataFrame, evidence: Evidence) -> list[str]:
    first = rows.iloc[0]
    notes = [
        f"Real versus real: {whole(first['real_count'])} training images in place of samples. "
        "NFE: network evaluations per image. Bold: the lowest mean at each NFE. ~: the seeds leave "
        "open that it is the best; a bold number without ~ is told apart from all others.",
    ]
    if rows["steps"].nunique() == 1 and (rows["steps"] != rows["network_evaluations"]).any():
        notes[0] += f" All models have T = {shown(first['steps'])}."
    notes.append(standard(evidence.hypotheses, evidence.metrics))
    if (rows["prior"] == FORWARD_START).any():
        notes.append(
            f"{FORWARD_START}: sampling started where the forward chains of held-out images end, "
            "not from a prior. It shows what a better prior could bring; it generates nothing new, "
            "and is not ranked."
        )
    has = [m for m in METRICS if f"{m}_mean" in cells]
    count = cells[f"{headline(has)}_count"]
    if headline(has) != "kid":
        notes.append(
            "Fields of angles: Correlation is the rms over distances of the difference of "
            "<cos(theta_x - theta_y)>; Vortices and Energy are differences of the share of "
            "plaquettes with a vortex and of -<cos> over neighbours; Order and Angle are "
            "Wasserstein distances. KID and FID see hues, and are neither marked nor judged."
        )
    elif first["sample_count"] < FID_COUNT:
        notes.append(
            f"FID at {whole(first['sample_count'])} samples is biased upwards; KID is unbiased: "
            "read KID. No FID is marked."
        )
    if (count >= MIN_SEEDS).any():
        notes.append(f"Brackets: {INTERVAL_METHOD}.")
    if (count < MIN_SEEDS).any():
        notes.append(f"No interval where there are fewer than {MIN_SEEDS} seeds.")
    for metric, reported in METRICS.items():
        bad = int((~np.isfinite(rows[metric].astype(np.float64))).sum())
        if reported.is_always_shown and bad:
            notes.append(f"{bad} row{'s have' if bad > 1 else ' has'} no finite {reported.name}.")
    return notes


def _fewer_seeds(cells: pd.DataFrame) -> list[str]:
    """Which cells have fewer scores than others that they are ranked with."""
    ranked = cells[cells["is_ranked"]]
    of = f"{headline([m for m in METRICS if f'{m}_mean' in cells])}_count"
    most = ranked.groupby("network_evaluations")[of].transform("max")
    fewer = ranked.assign(most=most)[ranked[of] < most]
    if fewer.empty:
        return []
    each = [
        f"{label} at {evaluations} NFE ({count} of {most})"
        for label, evaluations, count, most in fewer[
            ["label", "network_evaluations", of, "most"]
        ].itertuples(index=False)
    ]
    return [
        f"With fewer seeds than others: {_few(each)}. Such a mean is bold only where it is told "
        "apart from the best of those with most seeds."
    ]


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


def _likelihoods(rows: pd.DataFrame) -> list[str]:
    """What the likelihoods in the table are, of how many images, and how sure."""
    notes = []
    for name, unit in LIKELIHOOD_UNITS.items():
        if (has := rows[rows[name].notna()]).empty:
            continue
        counts = sorted({whole(count) or _FIRST for count in has["likelihood_images"]})
        by_bound = has["likelihood_method"].astype(object) == "evidence bound"
        bounds = sorted({str(model) for model in has.loc[by_bound, "model"]})
        how = "by the probability flow"
        if bounds:
            how += f", of {_few(bounds)} by the evidence bound, which is looser"
        notes.append(
            f"{METRICS[name].heading}: negative log-likelihood in {unit} of "
            f"{_few([*map(str, counts)], ' or ')} held-out images, {how}; standard error at most "
            f"{has[f'{name}_error'].max():.2g}. Lower is better. It is of the model, at every NFE "
            "the same, and not marked."
        )
    return notes


def _uneven(rows: pd.DataFrame) -> list[str]:
    """What the comparison does not hold equal."""
    notes = [_images_seen(rows), _parameters(rows), _precisions(rows)]
    if count := int((rows["resumed_exactly"] == False).sum()):  # noqa: E712, None is neither
        notes.append(
            f"{count} row{'s are' if count > 1 else ' is'} of a training that went on with random "
            "streams of its own after an interruption (resumed_exactly)."
        )
    if (codes := rows["code_hash"].nunique(dropna=False)) > 1:
        notes.append(f"These rows come from {codes} versions of the code (code_hash in the rows).")
    budget = ["iterations", "batch_size"]
    if len(budgets := rows[budget].drop_duplicates().sort_values(budget)) > 1:
        each = [f"{shown(i)} x {shown(b)}" for i, b in budgets.to_numpy()]
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
        f"{model} T={shown(steps)} {count:.0f}"
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


def _few(values: Sequence[str], join: str = ", ", most: int = 12) -> str:
    if len(values) <= most:
        return join.join(values)
    return join.join(values[:most]) + f"{join}... and {len(values) - most} more"
