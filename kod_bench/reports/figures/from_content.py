"""Figures of a comparable set of rows: quality against what it costs, and what a search found."""

import itertools
import json
import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kod_bench.reports.content import Cell, Group
from kod_bench.reports.figures.chart import Chart, Figure, HeatMap, Line
from kod_bench.reports.metrics import METRICS

#: Of a search, so many configurations of a model say something about its axes.
_FEWEST_SAMPLED = 8
_MOST_AXES = 10

#: More lines than this are no figure: a search of hundreds of configurations shows the best ones.
_MOST_LINES = 12

#: Real versus real is a line only where it is less than so many times below the best score.
_FAR_BELOW = 4


def content_figures(group: Group, configurations: Mapping[str, str]) -> list[Figure]:
    """All figures that a group's cells support.

    Args:
        group: rows that may be compared.
        configurations: resolved configurations as JSON, by a cell's `configuration`.
    """
    found: list[Figure] = []
    for metric, reported in METRICS.items():
        name = reported.name[0].upper() + reported.name[1:]
        if (chart := _against_steps(group, metric, name)) is not None:
            found.append(chart)
    for chart in (
        _against_cost(
            group,
            "seconds",
            "KID and speed",
            "seconds per image",
            lambda cell: cell.seconds_per_image,
        ),
        _against_cost(
            group,
            "training",
            "KID and training",
            "training time, seconds",
            lambda cell: cell.training_seconds,
        ),
    ):
        if chart is not None:
            found.append(chart)
    read = {key: _flat(text) for key, text in configurations.items()}
    found += _heat_maps(group, read)
    found += _sampled(group, read)
    return found


def slots(group: Group) -> dict[str, int]:
    """Colour of each model, the same in all figures of a group: that of its first label."""
    models = {cell.label: cell.model for cell in group.cells}
    if len(models) > _MOST_LINES:  # a search: labels' colours would come round again and again
        bases = sorted({cell.base_model for cell in group.cells})
        return {cell.model: bases.index(cell.base_model) for cell in group.cells}
    found: dict[str, int] = {}
    for label, place in label_slots(group).items():
        found.setdefault(models[label], place)
    return found


def label_slots(group: Group) -> dict[str, int]:
    """Colour of each label, the same in all figures of a group."""
    labels = sorted({cell.label for cell in group.cells})
    return {label: place for place, label in enumerate(labels)}


def _mean(cell: Cell, metric: str) -> float | None:
    score = cell.score(metric)
    return None if score is None else score.estimate.mean


def _floor(
    group: Group, metric: str, values: Sequence[float]
) -> tuple[tuple[float, str] | None, str]:
    """The line of real versus real, and a sentence on it; no line if it would squeeze all else."""
    value = group.real.score(metric)
    if value is None:
        return None, ""
    low, high = min(values), max(values)  # of scores, and of the lower ends of their intervals
    if not low <= value <= high and not 0 < low / _FAR_BELOW <= value <= high:
        return None, f" Real versus real, {value:.3g}, is not on the axis."
    return (
        (value, "real versus real"),
        " Dotted: real versus real, as many training images in place of samples.",
    )


def log_ticks(values: Sequence[float]) -> tuple[tuple[float, str], ...]:
    """Round numbers in the range of positive values, few enough to be read."""
    low, high = min(values), max(values)
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for digits in ((1,), (1, 2, 5), range(1, 10)):
        ticks = [
            tick
            for decade in decades
            for digit in digits
            if low / 1.1 <= (tick := digit * 10.0**decade) <= high * 1.1
        ]
        if len(ticks) >= 3:
            break
    return tuple((tick, f"{tick:g}") for tick in ticks)


def _log_scale(values: Sequence[float]) -> bool:
    """Whether a logarithmic axis can hold them and is needed."""
    return min(values, default=0.0) > 0 and max(values) > 8 * min(values)


def _against_steps(group: Group, metric: str, name: str) -> Chart | None:
    by_label: dict[str, list[Cell]] = defaultdict(list)
    for cell in group.cells:
        if _mean(cell, metric) is not None:
            by_label[cell.label].append(cell)
    if not by_label:
        return None
    shown = _best_labels(by_label, metric)
    places = label_slots(group)
    if len(places) > _MOST_LINES:
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
    floor, on_floor = _floor(group, metric, [*heights, *lowest])
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
        y_log=_log_scale(levels),
        y_ticks=log_ticks(levels) if _log_scale(levels) else (),
        x_ticks=tuple((x, f"{x:.0f}") for x in sorted({x for line in lines for x in line.x})),
        floor=floor,
    )


def _best_labels(by_label: Mapping[str, Sequence[Cell]], metric: str) -> list[str]:
    """All labels, or each model's best, second best and so on, as many as one figure can show."""

    def lowest(label: str) -> float:
        means = (_mean(cell, metric) for cell in by_label[label])
        return min(mean for mean in means if mean is not None)

    if len(by_label) <= _MOST_LINES:
        return sorted(by_label)
    by_model: dict[str, list[str]] = defaultdict(list)
    for label in sorted(by_label, key=lowest):
        by_model[by_label[label][0].base_model].append(label)
    in_turn = itertools.chain.from_iterable(itertools.zip_longest(*by_model.values()))
    return sorted(itertools.islice((label for label in in_turn if label), _MOST_LINES))


def _seeds(cell: Cell) -> str:
    return ", ".join(map(str, cell.seeds))


def _against_cost(
    group: Group, name: str, tab: str, label: str, cost: Callable[[Cell], float | None]
) -> Chart | None:
    points = []
    for cell in group.cells:
        x, y = cost(cell), _mean(cell, "kid")
        if x is not None and y is not None and math.isfinite(x):
            points.append((x, y, cell))
    if not points:
        return None
    few = len({cell.label for _, _, cell in points}) <= _MOST_LINES
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
            tuple(cell.kid.estimate.low for _, _, cell in own) if few else (),
            tuple(cell.kid.estimate.high for _, _, cell in own) if few else (),
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
    floor, on_floor = _floor(group, "kid", levels)
    levels += [floor[0]] if floor else []
    costs = [x for x, _, _ in points]
    # Samples that started from real images' noise are shown, but set no mark for others.
    front = pareto_front([(x, y) for x, y, cell in points if cell.is_ranked])
    return Chart(
        f"kid-against-{name}",
        tab,
        f"KID against {label.split(',')[0]}",
        "Down and left is better. The stepped line is the Pareto front: no other point is both "
        f"better and cheaper. Times are those of the machines in the provenance.{on_floor}"
        + ("" if few else f" A point for each of {len(points)} cells, without intervals."),
        label,
        "KID",
        tuple(lines),
        x_log=_log_scale(costs),
        y_log=_log_scale(levels),
        x_ticks=log_ticks(costs) if _log_scale(costs) else (),
        y_ticks=log_ticks(levels) if _log_scale(levels) else (),
        floor=floor,
        front=front,
    )


def pareto_front(points: Sequence[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    """Points that no other one beats in one coordinate and equals or beats in the other."""
    front: list[tuple[float, float]] = []
    for x, y in sorted(set(points)):
        if not front or y < front[-1][1]:
            front.append((x, y))
    return tuple(front)


def _flat(text: str) -> dict[str, Any]:
    """A configuration's values by dotted key; nothing of one that cannot be read."""
    try:
        document = json.loads(text)
    except ValueError:
        return {}
    found: dict[str, Any] = {}

    def walk(value: object, key: str) -> None:
        if isinstance(value, dict):
            for name, inner in value.items():
                walk(inner, f"{key}.{name}" if key else str(name))
        else:
            found[key] = value

    walk(document, "")
    return found


def _heat_maps(group: Group, read: Mapping[str, Mapping[str, Any]]) -> list[Figure]:
    """Coupling against reference strength, for each model and number of evaluations."""
    places: dict[tuple[str, int], dict[tuple[float, float], float]] = defaultdict(dict)
    for cell in group.cells:
        values = read.get(cell.configuration, {})
        strengths = [
            values.get(f"parameters.{name}_strength") for name in ("coupling", "reference")
        ]
        kid = _mean(cell, "kid")
        if kid is None or not cell.is_ranked or not all(_is_number(each) for each in strengths):
            continue
        x, y = (float(each) for each in strengths if each is not None)
        own = places[cell.base_model, cell.network_evaluations]
        own[x, y] = min(kid, own.get((x, y), math.inf))
    maps: list[Figure] = []
    for (model, evaluations), tried in places.items():
        across, up = sorted({x for x, _ in tried}), sorted({y for _, y in tried})
        # Sampled values meet no other one in row or column: that is a scatter, and drawn elsewhere.
        if min(len(across), len(up)) < 2 or len(tried) * 2 < len(across) * len(up):
            continue
        maps.append(
            HeatMap(
                f"strengths-{_file_name(model)}-{evaluations}",
                f"Strengths, {model}, {evaluations}",
                f"KID over coupling and reference strength: {model}, {evaluations} evaluations",
                "Darker is better. Where several trials share both strengths: the lowest KID.",
                "coupling strength K",
                "reference strength K_ref",
                tuple(across),
                tuple(up),
                tuple(tuple(tried.get((x, y)) for x in across) for y in up),
                "KID",
            )
        )
    return maps


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _file_name(text: str) -> str:
    return "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "-" for c in text)[:60]


def _sampled(group: Group, read: Mapping[str, Mapping[str, Any]]) -> list[Figure]:
    """Parallel coordinates and importance of the axes that a model was searched over."""
    found: list[Figure] = []
    of_best = (
        f" Of the best {len(group.cells)} cells alone, of {len(group.cell_table)}."
        if len(group.cells) < len(group.cell_table)
        else ""
    )
    for model in sorted({cell.base_model for cell in group.cells}):
        own = [
            cell
            for cell in group.cells
            if cell.base_model == model and cell.is_ranked and read.get(cell.configuration)
        ]
        best: dict[str, float] = {}
        for cell in own:
            if (kid := _mean(cell, "kid")) is not None:
                best[cell.configuration] = min(kid, best.get(cell.configuration, math.inf))
        axes = _varied([read[key] for key in best])
        if len(best) < _FEWEST_SAMPLED or not axes:
            continue
        trials = [({axis: read[key].get(axis) for axis in axes}, kid) for key, kid in best.items()]
        if len(axes) > 1:
            found.append(_parallel(model, axes, trials, of_best))
        found.append(_importance(model, axes, trials, of_best))
    return found


def _varied(configurations: Sequence[Mapping[str, Any]]) -> list[str]:
    """Keys of single values that all configurations have and that are not the same in all."""
    if not configurations:
        return []
    keys = set(configurations[0]).intersection(*configurations[1:])
    varied = []
    for key in sorted(keys):
        values = [each[key] for each in configurations]
        plain = all(isinstance(v, str | bool) or _is_number(v) for v in values)
        if plain and len({str(v) for v in values}) > 1 and key not in ("code", "model", "seed"):
            varied.append(key)
    return varied[:_MOST_AXES]


_Trials = Sequence[tuple[Mapping[str, Any], float]]


def _parallel(model: str, axes: Sequence[str], trials: _Trials, of_best: str) -> Chart:
    scales = [_scale([values[axis] for values, _ in trials]) for axis in axes]
    scores = sorted(kid for _, kid in trials)
    span = (scores[-1] - scores[0]) or 1.0
    order = sorted(trials, key=lambda trial: -trial[1])  # the best on top
    lines = tuple(
        Line(
            f"KID {kid:.3f}",
            0,
            tuple(float(place) for place in range(len(axes) + 1)),
            (
                *(scale(values[axis]) for scale, axis in zip(scales, axes, strict=True)),
                (kid - scores[0]) / span,
            ),
            marked=False,
            names=(*(f"{_short(axis)} = {values[axis]}" for axis in axes), f"KID {kid:.3f}"),
            in_legend=False,
            shade=(kid - scores[0]) / span,
        )
        for values, kid in order
    )
    ticks = [
        (float(place), f"{_short(axis)}\n{_range([values[axis] for values, _ in trials])}")
        for place, axis in enumerate(axes)
    ]
    return Chart(
        f"parallel-{_file_name(model)}",
        f"Search, {model}",
        f"Configurations of {model}, and their KID",
        "A line per configuration, each axis from its lowest value below to its highest above. "
        f"Darker is better.{of_best}",
        "",
        "",
        lines,
        x_ticks=(*ticks, (float(len(axes)), f"KID\n{scores[0]:.3g} to {scores[-1]:.3g}")),
        y_ticks=((0.0, "lowest"), (1.0, "highest")),
    )


def _scale(values: Sequence[Any]) -> Callable[[Any], float]:
    if all(_is_number(value) for value in values):
        low, high = min(values), max(values)
        if low == high:  # 1 and 1.0
            return lambda _: 0.5
        if low > 0 and high > 20 * low:
            return lambda v: math.log(v / low) / math.log(high / low)
        return lambda v: (v - low) / (high - low)
    names = sorted({str(value) for value in values})
    return lambda v: names.index(str(v)) / max(1, len(names) - 1)


def _range(values: Sequence[Any]) -> str:
    if all(_is_number(value) for value in values):
        return f"{min(values):.3g} to {max(values):.3g}"
    names = sorted({str(value) for value in values})
    return f"{names[0]} to {names[-1]}"


def _short(axis: str) -> str:
    return axis.removeprefix("parameters.")


def _importance(model: str, axes: Sequence[str], trials: _Trials, of_best: str) -> Chart:
    """Optuna's PED-ANOVA (arXiv 2304.10255): how far each axis sets the best trials apart."""
    shares = _optuna_shares(axes, trials)
    ranked = sorted(shares.items(), key=lambda item: item[1])
    return Chart(
        f"importance-{_file_name(model)}",
        f"Importance, {model}",
        f"Which axis decides between the trials of {model}",
        "Importance by Optuna's PED-ANOVA: how differently the best quarter of the trials and all "
        f"of them are spread along each axis; shares add up to 1.{of_best}",
        "share of importance",
        "",
        (
            Line(
                model,
                0,
                tuple(share for _, share in ranked),
                tuple(float(place) for place in range(len(ranked))),
                joined=False,
            ),
        ),
        y_ticks=tuple((float(place), _short(axis)) for place, (axis, _) in enumerate(ranked)),
        bars=True,
    )


def _optuna_shares(axes: Sequence[str], trials: _Trials) -> dict[str, float]:
    import optuna
    from optuna.distributions import (
        BaseDistribution,
        CategoricalDistribution,
        FloatDistribution,
    )

    distributions: dict[str, BaseDistribution] = {}
    for axis in axes:
        values = [each[axis] for each, _ in trials]
        if all(_is_number(value) for value in values):
            low, high = float(min(values)), float(max(values))
            distributions[axis] = FloatDistribution(low, high, log=low > 0 and high > 20 * low)
        else:
            distributions[axis] = CategoricalDistribution(sorted({str(v) for v in values}))
    optuna.logging.disable_default_handler()
    study = optuna.create_study(direction="minimize")
    study.add_trials(
        [
            optuna.trial.create_trial(
                params={
                    axis: float(values[axis])
                    if isinstance(distributions[axis], FloatDistribution)
                    else str(values[axis])
                    for axis in axes
                },
                distributions=distributions,
                value=kid,
            )
            for values, kid in trials
        ]
    )
    evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=0.25)
    found = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return {axis: float(share) for axis, share in found.items()}
