"""Figures of quality against what it costs: network evaluations, seconds, training time."""

import itertools
import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

from kod_bench.reports.content import Cell, Group, Score
from kod_bench.reports.figures.axes import (
    MOST_LINES,
    label_slots,
    log_scale,
    log_ticks,
    mean_of,
    real_floor,
    slots,
)
from kod_bench.reports.figures.chart import Chart, Line
from kod_bench.reports.metrics import METRICS


def against_steps(group: Group, metric: str, name: str) -> Chart | None:
    """A metric over network evaluations, a line per label; None if no cell has it."""
    by_label: dict[str, list[Cell]] = defaultdict(list)
    for cell in group.cells:
        if mean_of(cell, metric) is not None:
            by_label[cell.label].append(cell)
    if not by_label:
        return None
    shown = _best_labels(by_label, metric)
    places = label_slots(group)
    if len(places) > MOST_LINES:
        places = {label: place for place, label in enumerate(shown)}
    of_all = (
        f" Shown are the best {len(shown)} of {len(by_label)}, of each model in turn; the tables "
        "hold all."
        if len(shown) < len(by_label)
        else ""
    )
    lines = []
    for label in shown:
        cells = by_label[label]
        cells.sort(key=lambda cell: cell.network_evaluations)
        estimates = [score.estimate for cell in cells if (score := cell.score(metric)) is not None]
        lines.append(
            Line(
                label,
                places[label],
                tuple(float(cell.network_evaluations) for cell in cells),
                tuple(e.mean for e in estimates if e.mean is not None),
                tuple(e.low for e in estimates),
                tuple(e.high for e in estimates),
                names=tuple(f"seeds {_seeds(cell)}" for cell in cells),
            )
        )
    heights = [y for line in lines for y in line.y]
    lowest = [low for line in lines for low in line.low if low is not None]
    floor, on_floor = real_floor(group, metric, [*heights, *lowest])
    bars = bool(lowest)
    levels = [*heights, *lowest, *([floor[0]] if floor else [])]
    return Chart(
        metric.replace("_", "-") + "-against-steps",
        f"{name} and steps",
        f"{name} against network evaluations",
        f"Mean over training seeds{'; bars: 95 % interval' if bars else ', too few for intervals'}"
        f". Lower is better.{on_floor}{of_all}",
        "network evaluations per image",
        name,
        tuple(lines),
        x_log=len({x for line in lines for x in line.x}) > 1,
        y_log=log_scale(levels),
        y_ticks=log_ticks(levels) if log_scale(levels) else (),
        x_ticks=tuple((x, f"{x:.0f}") for x in sorted({x for line in lines for x in line.x})),
        floor=floor,
    )


def _best_labels(by_label: Mapping[str, Sequence[Cell]], metric: str) -> list[str]:
    """All labels, or each model's best, second best and so on, as many as one figure can show."""

    def lowest(label: str) -> float:
        means = (mean_of(cell, metric) for cell in by_label[label])
        return min(mean for mean in means if mean is not None)

    if len(by_label) <= MOST_LINES:
        return sorted(by_label)
    by_model: dict[str, list[str]] = defaultdict(list)
    for label in sorted(by_label, key=lowest):
        by_model[by_label[label][0].base_model].append(label)
    in_turn = itertools.chain.from_iterable(itertools.zip_longest(*by_model.values()))
    return sorted(itertools.islice((label for label in in_turn if label), MOST_LINES))


def _seeds(cell: Cell) -> str:
    return ", ".join(map(str, cell.seeds))


def against_cost(
    group: Group, name: str, tab: str, label: str, cost: Callable[[Cell], float | None]
) -> Chart | None:
    """The headline over what a cell costs, with the Pareto front; None if no cell has both."""
    metric = group.headline
    shown = METRICS[metric].name
    points = []
    for cell in group.cells:
        x, y = cost(cell), mean_of(cell, metric)
        if x is not None and y is not None and math.isfinite(x):
            points.append((x, y, cell))
    if not points:
        return None
    few = len({cell.label for _, _, cell in points}) <= MOST_LINES
    places = label_slots(group) if few else slots(group)
    by_name: dict[str, list[tuple[float, float, Cell]]] = defaultdict(list)
    for point in points:
        by_name[point[2].label if few else point[2].base_model].append(point)
    lines = [
        Line(
            each,
            places[each if few else own[0][2].model],
            tuple(x for x, _, _ in own),
            tuple(y for _, y, _ in own),
            tuple(_score(cell, metric).estimate.low for _, _, cell in own) if few else (),
            tuple(_score(cell, metric).estimate.high for _, _, cell in own) if few else (),
            joined=False,
            names=tuple(
                f"{'' if few else cell.label + ', '}{cell.network_evaluations} evaluations"
                for _, _, cell in own
            ),
        )
        for each, own in by_name.items()
    ]
    levels = [y for _, y, _ in points]
    levels += [low for line in lines for low in line.low if low is not None]
    floor, on_floor = real_floor(group, metric, levels)
    levels += [floor[0]] if floor else []
    costs = [x for x, _, _ in points]
    # Samples that started from real images' noise are shown, but set no mark for others.
    # Nor do means of fewer seeds than others have, unless the seeds tell that they are the best.
    most: dict[int, int] = defaultdict(int)
    for _, _, cell in points:
        most[cell.network_evaluations] = max(
            most[cell.network_evaluations],
            _score(cell, metric).estimate.count if cell.is_ranked else 0,
        )
    front = pareto_front(
        [
            (x, y)
            for x, y, cell in points
            if cell.is_ranked
            and (
                _score(cell, metric).is_best
                or _score(cell, metric).estimate.count == most[cell.network_evaluations]
            )
        ]
    )
    return Chart(
        f"{metric.replace('_', '-')}-against-{name}",
        tab,
        f"{shown[0].upper()}{shown[1:]} against {label.split(',')[0]}",
        "Down and left is better. The stepped line is the Pareto front: of the points with most "
        "seeds, no other is both better and cheaper. Times are those of the machines in the "
        f"provenance.{on_floor}"
        + ("" if few else f" A point for each of {len(points)} cells, without intervals."),
        label,
        shown,
        tuple(lines),
        x_log=log_scale(costs),
        y_log=log_scale(levels),
        x_ticks=log_ticks(costs) if log_scale(costs) else (),
        y_ticks=log_ticks(levels) if log_scale(levels) else (),
        floor=floor,
        front=front,
    )


def _score(cell: Cell, metric: str) -> Score:
    """Of a cell that has a mean in the metric."""
    found = cell.score(metric)
    assert found is not None  # the cells without are no points
    return found


def pareto_front(points: Sequence[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    """Points that no other one beats in one coordinate and equals or beats in the other."""
    front: list[tuple[float, float]] = []
    for x, y in sorted(set(points)):
        if not front or y < front[-1][1]:
            front.append((x, y))
    return tuple(front)
