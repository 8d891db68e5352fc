"""The model card of an exported model: what it is, how good, of what licence, how to use it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from kod_bench.data import DATASETS
from kod_bench.diffusion import measurements
from kod_bench.models.model import Model
from kod_bench.networks import parameter_count
from kod_bench.reports.layout import CellText, TableText
from kod_bench.reports.markdown import escape, table_lines
from kod_bench.reports.metrics import METRICS, headline
from kod_bench.reports.statistics import INTERVAL_METHOD, MIN_SEEDS, estimate
from kod_bench.results import COMPARISON_COLUMNS, Row


@dataclass(frozen=True)
class Numbers:
    """Rows behind a card.

    Attributes:
        own: of the trial.
        others: of trials that differ in their seed alone.
    """

    own: Sequence[Row]
    others: Sequence[Row]


def card(model: Model, numbers: Numbers, licence: str | None) -> str:
    """The card as Markdown, with the fields that model hubs read at its top.

    Args:
        model: exported.
        numbers: its rows and its neighbours'.
        licence: of the weights, as hubs call it; None: nobody has said.
    """
    row, trial = numbers.own[0], model.trial
    lines = [
        "---",
        f"license: {licence or 'unknown'}",
        "library_name: kod-bench",
        "pipeline_tag: unconditional-image-generation",
        "tags: [diffusion, kod-bench]",
        "---",
        "",
        f"# {escape(trial.model)}, T = {trial.steps}, {escape(row.dataset)}",
        "",
        f"A {escape(trial.process)} diffusion model of {model.shape[2]} x {model.shape[1]} pixel "
        f"{_what(model)}, trained by kod-bench {escape(trial.code)}: "
        f"{model.iterations} iterations of batches of {row.batch_size}, seed {trial.seed}, "
        f"{parameter_count(model.network)} parameters (their exponential moving average)."
        + (f" {escape(row.marks or '')}." if model.pruned else ""),
        "",
        "![samples](samples.png)",
        "",
        "## Data",
        "",
        f"{escape(row.dataset)}, {row.train_count} training images, hash `{row.data_hash}`.",
        "",
        "## Numbers",
        "",
        *_numbers(numbers),
        "",
        "## Licence",
        "",
        f"- Of the weights: {_said(licence)}",
        f"- Of the data: {escape(_data_licence(trial.dataset))}",
        *_measured(model),
        "",
        "## How to load",
        "",
        "```python",
        "import kod_bench",
        "",
        'model = kod_bench.load("this-folder")',
        f"images = model.sample(16)  # (N, C, H, W) {_stored(model)}",
        "```",
        "",
        "`kod-bench sample THIS-FOLDER --count 16 --out samples.png` is the same on the command "
        "line. Weights are safetensors: nothing is unpickled.",
        "",
    ]
    return "\n".join(lines)


def _what(model: Model) -> str:
    count = model.shape[0]
    if model.values == "angles":
        return "fields of angles"
    channels = {1: "gray", 3: "RGB"}.get(count, f"{count} channels")
    return f"images ({channels})"


def _stored(model: Model) -> str:
    return "float32 radians" if model.values == "angles" else "uint8"


def _said(licence: str | None) -> str:
    return escape(licence) + "." if licence else "not said by who exported them."


def _data_licence(dataset: dict[str, Any]) -> str:
    spec = DATASETS.get(str(dataset.get("name")))
    return "yours to know." if spec is None else spec.licence


def _measured(model: Model) -> Iterator[str]:
    found = measurements(model.process)
    if found:
        named = ", ".join(f"{name} {tuple(value.shape)}" for name, value in found.items())
        yield (
            "- The process has measured training images; `process.safetensors` holds what it keeps "
            f"of them: {escape(named)}."
        )
    if "blurred" in found:
        yield (
            f"- `blurred` are {len(found['blurred'])} training images, blurred as at t = T: who "
            "may not pass on the data may not pass on these."
        )


def _numbers(numbers: Numbers) -> list[str]:
    columns = ("Prior", "Sampler", "NFE", "Metric", "This model", "Over seeds", "Real images")
    lines: list[tuple[CellText, ...]] = []
    for row in numbers.own:
        alike = [row, *(each for each in numbers.others if _is_alike(row, each))]
        for metric in _shown(row):
            cells = (
                row.prior,
                row.sampler,
                str(row.network_evaluations),
                METRICS[metric].heading,
                _number(getattr(row, metric)),
                _over_seeds([float(getattr(each, metric)) for each in alike]),
                "" if METRICS[metric].of_model else _number(getattr(row, f"{metric}_real")),
            )
            lines.append(tuple(CellText(text) for text in cells))
    row = numbers.own[0]
    return [
        *table_lines(TableText(columns, tuple(lines), frozenset({"Prior", "Sampler", "Metric"}))),
        "",
        f"{row.sample_count} samples against {row.reference_count} held-out images, features "
        f"`{row.features}`. NFE: network evaluations for each image. Lower is better. Over seeds: "
        f"mean and {INTERVAL_METHOD}, from {MIN_SEEDS} seeds on. Real images: {row.real_count} "
        "training images in the samples' place.",
        *(["", f"Mind: {escape(row.marks)}."] if row.marks else []),
    ]


def _shown(row: Row) -> list[str]:
    """The metrics that a row has; of angles not those of their hues, by which nobody judges."""
    had = [name for name in METRICS if getattr(row, name) is not None]
    return [name for name in had if headline(had) == "kid" or name not in ("kid", "fid")]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _is_alike(row: Row, other: Row) -> bool:
    columns = (*COMPARISON_COLUMNS, "prior", "sampler", "network_evaluations", "iterations")
    is_same = all(getattr(row, name) == getattr(other, name) for name in columns)
    return is_same and set(_shown(row)) <= set(_shown(other))


def _over_seeds(values: Sequence[float]) -> str:
    found = estimate(values)
    if found.mean is None:
        return ""
    if found.low is None or found.high is None:
        return f"{found.mean:.4g}, {found.count} seed{'s' * (found.count != 1)}, no interval"
    return f"{found.mean:.4g} [{found.low:.4g}, {found.high:.4g}], {found.count} seeds"
