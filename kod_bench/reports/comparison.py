"""The comparison table: model against model at equal network evaluations, comparable rows only."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import pandas as pd
from rich.table import Table

from kod_bench.reports.statistics import MIN_SEEDS, Estimate, estimate
from kod_bench.results.row import COMPARISON_COLUMNS, FID_COUNT, FORWARD_START, Row


@dataclass(frozen=True)
class Entry:
    """One line: a model at a number of network evaluations, None for real versus real."""

    model: str
    network_evaluations: int | None
    kid: Estimate
    fid: Estimate
    seconds_per_image: float | None
    training_seconds: float | None

    def cells(self) -> list[str]:
        """The line as text: NFE, model, KID, FID, seeds, training time, time per image."""
        real = self.network_evaluations is None
        return [
            "" if real else str(self.network_evaluations),
            self.model,
            _format(self.kid, 3),
            _format(self.fid, 1),
            "" if real else str(self.kid.count),
            "" if self.training_seconds is None else f"{self.training_seconds:.0f}",
            "" if self.seconds_per_image is None else f"{self.seconds_per_image:.3f}",
        ]


_COLUMNS = ("NFE", "Model", "KID", "FID", "Seeds", "Train s", "s/image")


@dataclass(frozen=True)
class ComparisonTable:
    """Rows that may be compared: same data, extractor, counts and reference set."""

    title: str
    entries: tuple[Entry, ...]
    notes: tuple[str, ...]

    def markdown(self) -> str:
        """GitHub-flavoured Markdown, aligned so that it also reads well as plain text."""
        rows = [
            [_escape(cell) for cell in cells]
            for cells in ([*_COLUMNS], *(entry.cells() for entry in self.entries))
        ]
        widths = [max(len(row[i]) for row in rows) for i in range(len(_COLUMNS))]
        rule = [
            "-" * w if name == "Model" else "-" * (w - 1) + ":"
            for w, name in zip(widths, _COLUMNS, strict=True)
        ]

        def line(cells: list[str]) -> str:
            padded = [
                cell.ljust(w) if name == "Model" else cell.rjust(w)
                for cell, w, name in zip(cells, widths, _COLUMNS, strict=True)
            ]
            return "| " + " | ".join(padded) + " |"

        table = [line(rows[0]), line(rule), *map(line, rows[1:])]
        notes = [f"- {_escape(note)}" for note in self.notes]
        return "\n".join([f"## {_escape(self.title)}", "", *table, "", *notes, ""])

    def rich(self) -> Table:
        """The same for a terminal."""
        table = Table(
            title=self.title,
            title_justify="left",
            caption="\n".join(self.notes),
            caption_justify="left",
            box=None,
            pad_edge=False,
        )
        for name in _COLUMNS:
            table.add_column(name, justify="left" if name == "Model" else "right")
        for entry in self.entries:
            table.add_row(*entry.cells())
        return table


def compare(rows: Sequence[Row]) -> list[ComparisonTable]:
    """Compare rows, in as many tables as there are kinds that must not be mixed.

    Rows with different data, extractors, counts or reference sets never share a table
    (`kod_bench.results.row.COMPARISON_COLUMNS`); where that splits them, every table says so. Rows
    of pruned trials are in none: the tables say how many there are.

    Returns:
        One table per kind; none for no rows.
    """
    pruned = {row.trial for row in rows if row.pruned_at is not None}
    rows = [row for row in rows if row.pruned_at is None]
    if not rows:
        return []
    frame = pd.DataFrame([asdict(row) for row in rows])
    groups = list(frame.groupby(list(COMPARISON_COLUMNS), sort=True, dropna=False))
    tables = [_table(group, _differences(group, frame)) for _, group in groups]
    if not pruned:
        return tables
    note = (
        f"{len(pruned)} more trials were pruned by early stopping (pruned_at in their rows): not "
        "trained to the end, and scored with few samples, they are compared with none."
    )
    return [replace(table, notes=(*table.notes, note)) for table in tables]


def _differences(group: pd.DataFrame, frame: pd.DataFrame) -> dict[str, str]:
    """Which columns keep other rows out of this group's table, and their values there."""
    found = {}
    for name in COMPARISON_COLUMNS:
        others = sorted(set(frame[name].map(str)) - set(group[name].map(str)))
        if others:
            found[name] = " and ".join(others)
    return found


def _labels(group: pd.DataFrame) -> pd.Series:
    """The model's name, with its prior, sampler and T where the name alone would be ambiguous."""
    priors = group.groupby("model")["prior"].transform("nunique")
    prior = (", " + group["prior"]).where((priors > 1) | (group["prior"] == FORWARD_START), "")
    samplers = group.groupby("model")["sampler"].transform("nunique")
    skipped = (group["steps"] != group["network_evaluations"]).groupby(group["model"])
    sampler = (", " + group["sampler"]).where(samplers > 1, "")
    steps = (", T=" + group["steps"].astype(str)).where(skipped.transform("any"), "")
    return group["model"] + prior + sampler + steps


def _images_seen(group: pd.DataFrame) -> str | None:
    """How many training images each model drew, where that differs.

    A process that walks its images through a chain draws far fewer of them at equal iterations
    and batch size: one per T steps and chain.
    """
    seen = group.groupby(["model", "steps"], sort=True)["images_seen"].mean().reset_index()
    counts = seen["images_seen"]
    if counts.max() <= 1.1 * counts.min():
        return None
    each = ", ".join(
        f"{model} T={steps} {count:.0f}"
        for model, steps, count in zip(seen["model"], seen["steps"], counts, strict=True)
    )
    return f"Training images drawn, at equal iterations and batch size: {each}."


def _spectra(group: pd.DataFrame) -> str | None:
    """The distance of angular power spectra, for maps of the sphere."""
    group = group[group["spectrum_distance"].notna()]
    if group.empty:
        return None
    each = "; ".join(
        f"{label}, {evaluations} NFE: {_format(estimate(list(cell)), 3)}"
        for (evaluations, label), cell in group.groupby(
            ["network_evaluations", "label"], sort=True
        )["spectrum_distance"]
    )
    real = group["spectrum_distance_real"].iloc[0]
    return (
        f"Maps of the sphere: KID and FID see equirectangular images. Distance of angular power "
        f"spectra (rms of log C_l over degrees; real versus real {real:.3f}): {each}."
    )


def _parameters(group: pd.DataFrame) -> str | None:
    """How large each model's network is, where that differs by more than one percent."""
    sizes = group.groupby("model", sort=True)["parameters"].max()
    if sizes.max() <= 1.01 * sizes.min():
        return None
    each = ", ".join(f"{model} {size:,}" for model, size in sizes.items())
    return f"The networks differ in size (trainable parameters): {each}."


def _precisions(group: pd.DataFrame) -> str | None:
    """In what arithmetic each model was trained and sampled, where that differs."""
    if group["precision"].nunique(dropna=False) <= 1:
        return None
    found = group["precision"].fillna("not recorded").groupby(group["model"], sort=True)
    each = "; ".join(f"{model} {', '.join(sorted(set(used)))}" for model, used in found)
    return f"Arithmetic of training and sampling differs: {each}."


def _table(group: pd.DataFrame, differing: dict[str, str]) -> ComparisonTable:
    first = group.iloc[0]
    group = group.assign(label=_labels(group))
    cells = [
        Entry(
            model=str(label),
            network_evaluations=int(cell["network_evaluations"].iloc[0]),
            kid=estimate(list(cell["kid"])),
            fid=estimate(list(cell["fid"])),
            seconds_per_image=float((cell["sampling_seconds"] / cell["sample_count"]).mean()),
            training_seconds=float(cell["training_seconds"].mean()),
        )
        for (_, label), cell in group.groupby(["network_evaluations", "label"], sort=True)
    ]
    real = Entry(
        "real versus real",
        None,
        Estimate(float(first["kid_real"]), None, None, 1),
        Estimate(float(first["fid_real"]), None, None, 1),
        None,
        None,
    )
    return ComparisonTable(
        title=f"{first['dataset']}, {first['image_size']} px",
        entries=(real, *cells),
        notes=tuple(_notes(group, cells, differing)),
    )


def _notes(group: pd.DataFrame, cells: list[Entry], differing: dict[str, str]) -> list[str]:
    first = group.iloc[0]
    notes = [
        f"Features {first['features']}; {first['sample_count']} samples against "
        f"{first['reference_count']} held-out images (reference {first['reference_hash']}, "
        f"data {first['data_hash']}). Lower is better.",
        f"Real versus real: {first['real_count']} training images in place of samples. NFE: "
        "network evaluations per image.",
    ]
    if (group["prior"] == FORWARD_START).any():
        notes.append(
            f"{FORWARD_START}: sampling started where the forward chains of held-out images end, "
            "not from a prior. It shows what a better prior could bring; it generates nothing new."
        )
    if first["sample_count"] < FID_COUNT:
        notes.append(
            f"FID at {first['sample_count']} samples is biased upwards; KID is unbiased: read KID."
        )
    if any(cell.kid.low is not None for cell in cells):
        notes.append("Brackets: 95 % bootstrap interval over training seeds.")
    if any(cell.kid.low is None for cell in cells):
        notes.append(f"No interval where there are fewer than {MIN_SEEDS} seeds.")
    if (spectra := _spectra(group)) is not None:
        notes.append(spectra)
    if (seen := _images_seen(group)) is not None:
        notes.append(seen)
    notes += [note for note in (_parameters(group), _precisions(group)) if note is not None]
    if (codes := group["code_hash"].nunique(dropna=False)) > 1:
        notes.append(f"These rows come from {codes} versions of the code (code_hash in the rows).")
    if differing:
        reasons = [
            f"{name} (here {first[name]}, also {others})" for name, others in differing.items()
        ]
        notes.append(
            f"Rows that differ in {', '.join(reasons)} are in tables of their own: their scores "
            "cannot be compared."
        )
    return notes


def _format(value: Estimate, digits: int) -> str:
    text = f"{value.mean:.{digits}f}"
    if value.low is not None and value.high is not None:
        text += f" [{value.low:.{digits}f}, {value.high:.{digits}f}]"
    return text


def _escape(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
