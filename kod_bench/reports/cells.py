"""Rows into cells: one per model, training and way of sampling, over its seeds."""

import re
from collections.abc import Collection, Mapping

import pandas as pd

from kod_bench.reports.content import metrics_of
from kod_bench.reports.metrics import headline
from kod_bench.reports.statistics import estimates
from kod_bench.reports.values import shown
from kod_bench.results import FORWARD_START

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

#: Values of a grid that are of the data.
_OF_DATA = re.compile(r" dataset\.([\w.]+)=(.*?)(?= [\w.]+=|$)")
#: Those that a group's title has in any case.
_IN_TITLE = ("name", "image_size")


def numbered(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of one group with the number of their `cell`."""
    by_cell = rows.groupby(list(CELL_COLUMNS), sort=True, dropna=False, observed=True)
    return rows.assign(cell=by_cell.ngroup())


def cells_of(rows: pd.DataFrame) -> pd.DataFrame:
    """A line per cell: what it is, and for each metric its estimate."""
    by_cell = rows.groupby("cell", sort=True)
    cells = by_cell[list(CELL_COLUMNS)].first()
    for name in ("model", "process", "sampler", "prior", "configuration"):
        cells[name] = cells[name].astype(object)
    cells.insert(0, "label", labels(cells))
    cells["kind"] = by_cell["kind"].first().astype(object)
    cells["seeds"] = by_cell["seed"].nunique()
    for metric in metrics_of(rows):
        cells = cells.join(estimates(rows[metric], rows["cell"]).add_prefix(f"{metric}_"))
    cells["seconds_per_image"] = (
        (rows["sampling_seconds"] / rows["sample_count"]).groupby(rows["cell"]).mean()
    )
    cells["training_seconds"] = by_cell["training_seconds"].mean()
    cells["images_seen"] = by_cell["images_seen"].mean()
    first = headline(metrics_of(rows))
    cells["is_ranked"] = (cells["prior"] != FORWARD_START) & cells[f"{first}_mean"].notna()
    return cells.sort_values(["network_evaluations", "label"], kind="stable")


def labels(cells: pd.DataFrame) -> "pd.Series[str]":
    """The model's name, with what tells apart the cells of one name at one number of evaluations.

    Without what all names say of the data, which is said in the title of the group.

    T is said where steps were skipped and T is not the same in all; and where sampling started, if
    it was no prior.
    """
    found = without_titles(cells["model"], shared_data(cells["model"]))
    several = cells.groupby("model", dropna=False)
    for name, form in _LABEL_PARTS.items():
        text = cells[name].map(lambda value, form=form: ", " + form.format(shown(value)))
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


def without_titles(models: "pd.Series[str]", shared: Collection[str] = ()) -> "pd.Series[str]":
    """Names of models without the data set and its size, which titles have, and what is `shared`.

    A sweep over several data sets has them in its models' names, one of a single data set has not.
    """

    def without(match: re.Match[str]) -> str:
        is_said = match[1] in _IN_TITLE or f"{match[1]}={match[2]}" in shared
        return "" if is_said else match[0]

    return models.astype(str).map(lambda name: _OF_DATA.sub(without, name))


def shared_data(models: "pd.Series[str]") -> tuple[str, ...]:
    """What the names of all models say of the data, but for name and size: "xy.temperature=1.0"."""
    said = [
        {f"{axis}={value}": None for axis, value in _OF_DATA.findall(str(name))}
        for name in models.unique()
    ]
    first = said[0] if said else {}
    return tuple(
        each
        for each in first
        if each.split("=")[0] not in _IN_TITLE and all(each in others for others in said)
    )
