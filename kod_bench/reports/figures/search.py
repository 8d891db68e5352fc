"""Figures of what a search found: its strengths, its configurations, which axis decides."""

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kod_bench.reports.content import Group
from kod_bench.reports.figures.axes import mean_of
from kod_bench.reports.figures.chart import Chart, Figure, HeatMap, Line
from kod_bench.reports.metrics import METRICS

#: Of a search, so many configurations of a model say something about its axes.
_FEWEST_SAMPLED = 8
_MOST_AXES = 10


def heat_maps(group: Group, read: Mapping[str, Mapping[str, Any]]) -> list[Figure]:
    """Coupling against reference strength, for each model and number of evaluations."""
    name = METRICS[group.headline].name
    places: dict[tuple[str, int], dict[tuple[float, float], float]] = defaultdict(dict)
    for cell in group.cells:
        values = read.get(cell.configuration, {})
        strengths = [
            values.get(f"parameters.{name}_strength") for name in ("coupling", "reference")
        ]
        score = mean_of(cell, group.headline)
        if score is None or not cell.is_ranked or not all(_is_number(each) for each in strengths):
            continue
        x, y = (float(each) for each in strengths if each is not None)
        own = places[cell.base_model, cell.network_evaluations]
        own[x, y] = min(score, own.get((x, y), math.inf))
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
                f"{name[0].upper()}{name[1:]} over coupling and reference strength: {model}, "
                f"{evaluations} evaluations",
                f"Darker is better. Where several trials share both strengths: the lowest {name}.",
                "coupling strength K",
                "reference strength K_ref",
                tuple(across),
                tuple(up),
                tuple(tuple(tried.get((x, y)) for x in across) for y in up),
                name,
            )
        )
    return maps


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _file_name(text: str) -> str:
    return "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "-" for c in text)[:60]


def sampled(group: Group, read: Mapping[str, Mapping[str, Any]]) -> list[Figure]:
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
            if (score := mean_of(cell, group.headline)) is not None:
                best[cell.configuration] = min(score, best.get(cell.configuration, math.inf))
        axes = _varied([read[key] for key in best])
        if len(best) < _FEWEST_SAMPLED or not axes:
            continue
        trials = [
            ({axis: read[key].get(axis) for axis in axes}, score) for key, score in best.items()
        ]
        if len(axes) > 1:
            found.append(_parallel(model, axes, trials, of_best, METRICS[group.headline].name))
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


def _parallel(model: str, axes: Sequence[str], trials: _Trials, of_best: str, name: str) -> Chart:
    scales = [_scale([values[axis] for values, _ in trials]) for axis in axes]
    scores = sorted(score for _, score in trials)
    span = (scores[-1] - scores[0]) or 1.0
    order = sorted(trials, key=lambda trial: -trial[1])  # the best on top
    lines = tuple(
        Line(
            f"{name} {score:.3f}",
            0,
            tuple(float(place) for place in range(len(axes) + 1)),
            (
                *(scale(values[axis]) for scale, axis in zip(scales, axes, strict=True)),
                (score - scores[0]) / span,
            ),
            marked=False,
            names=(*(f"{_short(axis)} = {values[axis]}" for axis in axes), f"{name} {score:.3f}"),
            in_legend=False,
            shade=(score - scores[0]) / span,
        )
        for values, score in order
    )
    ticks = [
        (float(place), f"{_short(axis)}\n{_range([values[axis] for values, _ in trials])}")
        for place, axis in enumerate(axes)
    ]
    return Chart(
        f"parallel-{_file_name(model)}",
        f"Search, {model}",
        f"Configurations of {model}, and their {name}",
        "A line per configuration, each axis from its lowest value below to its highest above. "
        f"Darker is better.{of_best}",
        "",
        "",
        lines,
        x_ticks=(*ticks, (float(len(axes)), f"{name}\n{scores[0]:.3g} to {scores[-1]:.3g}")),
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
                value=score,
            )
            for values, score in trials
        ]
    )
    evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=0.25)
    found = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return {axis: float(share) for axis, share in found.items()}
