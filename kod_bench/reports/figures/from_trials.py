"""Figures of what trials have left in their folders: histories, order parameters, orientations."""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kod_bench.inside import MOST_NUMBERS, UnreadableError, child, is_file, read_json
from kod_bench.reports.content import Cell, Group
from kod_bench.reports.figures.axes import label_slots, log_ticks, slots
from kod_bench.reports.figures.chart import Chart, Figure, Line
from kod_bench.results import FORWARD_START, measured_file
from kod_bench.training.history import sampled_history

_MOST_TRIALS = 24
_MOST_POINTS = 200
_MOST_RECORDS = 5_000
_HISTORY = "history.jsonl"

#: No number of ours is larger; beyond it, a figure's axis would show nothing else.
_LARGEST = 1e12

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrialFiles:
    """Where the folders of trials are.

    Attributes:
        sweeps: folders of sweeps on this machine.
    """

    sweeps: tuple[Path, ...]

    def find(self, trial: str, name: str) -> Path | None:
        """A file of a trial; None if it is not there."""
        for sweep in self.sweeps:
            try:
                path = child(sweep / "trials", trial, name)  # a row's text is no path to follow
            except UnreadableError:
                return None
            if is_file(path):
                return path
        return None

    def measured(self, cell: Cell) -> dict[str, Any]:
        """What the cell's first trial has measured for figures; empty if nothing."""
        name = measured_file(cell.prior, cell.sampler, cell.network_evaluations)
        path = self.find(cell.trials[0], name) if cell.trials else None
        if path is None:
            return {}
        try:
            found = read_json(path, MOST_NUMBERS)
        except OSError as error:
            _log.warning("%s", error)
            return {}
        return found if isinstance(found, dict) else {}


def trial_figures(group: Group, files: TrialFiles) -> list[Figure]:
    """Loss, order parameter and orientation figures, as far as trials have left them."""
    places = slots(group)
    figures = [
        _loss(group.cells, places, files),
        _orders(group.cells, places, files),
        _orientations(group.cells, label_slots(group), files),
    ]
    return [figure for figure in figures if figure is not None]


def _loss(cells: Sequence[Cell], places: dict[str, int], files: TrialFiles) -> Chart | None:
    trials = {trial: cell for cell in cells for trial in cell.trials}
    several = {
        cell.model
        for cell in cells
        if any(c.steps != cell.steps for c in cells if c.model == cell.model)
    }
    lines: list[Line] = []
    known: set[str] = set()
    for trial, cell in trials.items():
        path = files.find(trial, _HISTORY)
        if path is None or len(lines) == _MOST_TRIALS:
            continue
        records = [
            (float(r["iteration"]), float(r["loss"]))
            for r in _history(path)
            if isinstance(r.get("loss"), int | float) and math.isfinite(r["loss"])
        ]
        records = records[:: max(1, len(records) // _MOST_POINTS)]
        if not records:
            continue
        label = f"{cell.model}, T={cell.steps}" if cell.model in several else cell.model
        lines.append(
            Line(
                label,
                places[cell.model],
                tuple(x for x, _ in records),
                tuple(y for _, y in records),
                marked=False,
                dashed=cell.model in several
                and cell.steps == min(c.steps for c in cells if c.model == cell.model),
                in_legend=label not in known,
            )
        )
        known.add(label)
    if not lines:
        return None
    levels = [y for line in lines for y in line.y]
    log = min(levels) > 0
    more = f" {len(lines)} of {len(trials)} trials are shown." if len(lines) < len(trials) else ""
    return Chart(
        "training-loss",
        "Loss",
        "Training loss",
        "A line per trial, seeds in one colour. Each process predicts noise in units of its own "
        f"standard deviation; a low loss is no measure of quality between processes.{more}",
        "iteration",
        "loss",
        tuple(lines),
        y_log=log,
        y_ticks=log_ticks(levels) if log else (),
    )


def _history(path: Path) -> list[dict[str, Any]]:
    try:
        return sampled_history(path, _MOST_RECORDS)
    except OSError as error:
        _log.warning("%s", error)
        return []


def _orders(cells: Sequence[Cell], places: dict[str, int], files: TrialFiles) -> Chart | None:
    lines: list[Line] = []
    shown: set[tuple[str, int]] = set()
    for cell in sorted(cells, key=lambda c: (c.model, c.steps, -c.network_evaluations)):
        # Samples that start where the forward process ends would hide a prior that does not.
        if (cell.model, cell.steps) in shown or cell.prior == FORWARD_START:
            continue
        found = files.measured(cell)
        forward, back = (_points(found.get(f"order_{way}")) for way in ("forward", "backward"))
        if not forward or not back:
            continue
        shown.add((cell.model, cell.steps))
        for points, way in ((forward, "forward"), (back, "sampling")):
            lines.append(
                Line(
                    f"{cell.model}, T={cell.steps}, {way}",
                    places[cell.model],
                    tuple(x / cell.steps for x, _ in points),
                    tuple(y for _, y in points),
                    marked=way == "sampling",
                    dashed=way == "forward",
                )
            )
    if not lines:
        return None
    return Chart(
        "order-parameter",
        "Order parameter",
        "Order parameter on the way",
        "Mean of |mean exp(i theta)| of an image: 1 where all pixels are in phase. Forward: chains "
        "of held-out images, from t = 0 to T; sampling: from T back to 0. Where the two lines part "
        "at T, the prior is not where the forward process ends.",
        "t / T",
        "order parameter r",
        tuple(lines),
    )


def _points(value: object) -> list[tuple[float, float]]:
    if not isinstance(value, list):
        return []
    return [
        (float(p[0]), float(p[1]))
        for p in value
        if isinstance(p, list)
        and len(p) == 2
        and all(isinstance(v, int | float) and abs(v) < _LARGEST for v in p)  # nan is not
    ]


def _orientations(cells: Sequence[Cell], places: dict[str, int], files: TrialFiles) -> Chart | None:
    most = max((cell.network_evaluations for cell in cells), default=0)
    lines: list[Line] = []
    data: tuple[float, ...] = ()
    known: set[str] = set()
    for cell in cells:
        if cell.network_evaluations != most or cell.label in known:
            continue
        found = files.measured(cell)
        samples = _shares(found.get("orientation_samples"))
        if not samples:
            continue
        data = data or _shares(found.get("orientation_data"))
        known.add(cell.label)
        lines.append(Line(cell.label, places[cell.label], _degrees(samples), samples, marked=False))
    if not lines or not data:
        return None
    lines.insert(0, Line("held-out images", 6, _degrees(data), data, marked=False, dashed=True))
    return Chart(
        "orientations",
        "Orientation",
        f"Orientation of texture, {most} evaluations",
        "Share of the coherent pixels whose gradient points each way, 0 is horizontal; of the "
        "lowest seed. A model that has learnt the texture follows the dashed line.",
        "orientation of the gradient, degrees",
        "share per 2.8 degrees",
        tuple(lines),
    )


def _shares(value: object) -> tuple[float, ...]:
    if not isinstance(value, list) or not value:
        return ()
    try:
        weights = np.asarray(value, np.float64)
    except (TypeError, ValueError):
        return ()
    total = float(weights.sum())
    if weights.ndim != 1 or not np.isfinite(total) or total <= 0:
        return ()
    return tuple((weights / total).tolist())


def _degrees(shares: Sequence[float]) -> tuple[float, ...]:
    return tuple((np.arange(len(shares)) + 0.5) * 180 / len(shares))
