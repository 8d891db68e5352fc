import itertools
import json
import math
from pathlib import Path

import pytest

from kod_bench.reports.figures import (
    Chart,
    HeatMap,
    Line,
    TrialFiles,
    content_figures,
    plotly_figure,
    trial_figures,
    write_paper_figures,
)
from kod_bench.reports.figures.axes import log_ticks
from kod_bench.reports.figures.chart import COLOURS
from kod_bench.reports.figures.quality import pareto_front
from tests.reports.study import SWEEP, make_study


def test_a_point_is_on_the_pareto_front_unless_another_one_is_no_worse_and_better_in_one() -> None:
    points = [(float((7 * i) % 11), float((5 * i) % 13)) for i in range(1, 30)]
    front = pareto_front(points)

    def beaten(p: tuple[float, float]) -> bool:
        return any(q != p and q[0] <= p[0] and q[1] <= p[1] for q in points)

    assert set(front) == {p for p in points if not beaten(p)}
    assert list(front) == sorted(front)


@pytest.mark.parametrize("values", [(0.0013, 5.0), (2.1, 2.9), (0.15, 4.0), (1.0, 1.0)])
def test_ticks_of_a_logarithmic_axis_are_its_values(values: tuple[float, float]) -> None:
    for place, text in log_ticks(values):
        assert values[0] / 1.2 <= place <= values[1] * 1.2
        assert float(text) == pytest.approx(place)


def test_a_study_has_the_figures_that_its_rows_and_files_support(tmp_path: Path) -> None:
    content = make_study(tmp_path).content
    (group,) = content.groups
    figures = content_figures(group, content.provenance.configurations)
    figures += trial_figures(group, TrialFiles((tmp_path,)))
    names = [figure.name for figure in figures]
    assert names == [
        "kid-against-steps",
        "fid-against-steps",
        "kid-against-seconds",
        "kid-against-training",
        "strengths-kuramoto-local-25",
        "strengths-kuramoto-local-100",
        "parallel-kuramoto-local",
        "importance-kuramoto-local",
        "training-loss",
        "order-parameter",
        "orientations",
    ]
    steps = figures[0]
    assert isinstance(steps, Chart)
    cells = {(c.label, c.network_evaluations): c.kid.estimate for c in group.cells}
    for line in steps.lines:
        for x, y, low, high in zip(line.x, line.y, line.low, line.high, strict=True):
            shown = cells[line.label, int(x)]
            assert (y, low, high) == (shown.mean, shown.low, shown.high)
    strengths = figures[4]
    assert isinstance(strengths, HeatMap)
    assert strengths.x == (0.5, 1.0, 2.0)
    assert strengths.y == (0.01, 0.05, 0.1)
    # make_study: a trial's KID grows by 0.05 from variant to variant, the references inside.
    assert strengths.z[0][0] == pytest.approx(1.05 + 0.02 + 0.3)
    assert strengths.z[1][0] == pytest.approx(1.10 + 0.02 + 0.3)
    assert strengths.z[0][1] == pytest.approx(1.20 + 0.02 + 0.3)


def test_an_axis_that_decides_is_important(tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    content = make_study(tmp_path).content
    figures = content_figures(content.groups[0], content.provenance.configurations)
    importance = next(figure for figure in figures if figure.name.startswith("importance"))
    assert isinstance(importance, Chart)
    (line,) = importance.lines
    assert sum(line.x) == pytest.approx(1.0)
    assert [text for _, text in importance.y_ticks][-1] == "coupling_strength"


def test_no_trial_is_read_outside_the_folders_of_sweeps(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    (tmp_path / SWEEP / "trials").mkdir(parents=True)
    files = TrialFiles((tmp_path / SWEEP,))
    assert files.find("../..", "secret") is None
    assert files.find(str(tmp_path), "secret") is None


@pytest.mark.parametrize(
    "text", ["[", "[]", '{"orientation_samples": "x"}', '{"order_forward": 1}']
)
def test_damaged_measurements_are_left_out(tmp_path: Path, text: str) -> None:
    content = make_study(tmp_path, seeds=1).content
    for path in tmp_path.glob("trials/*/measured-*.json"):
        path.write_text(text)
    figures = trial_figures(content.groups[0], TrialFiles((tmp_path,)))
    assert [figure.name for figure in figures] == ["training-loss"]


def test_figures_on_paper_are_files_that_are_equal_for_equal_figures(tmp_path: Path) -> None:
    line = Line("a $ b_c <d>", 0, (1.0, 10.0), (2.0, 0.5), (1.5, None), (2.5, None))
    chart = Chart("one", "One", "One", "Two", "x", "y", (line,), x_log=True, front=((1.0, 2.0),))
    heat = HeatMap("two", "Two", "T", "C", "x", "y", (1.0, 2.0), (3.0,), ((0.5, None),), "KID")
    written = write_paper_figures(tmp_path / "a", [chart, heat])
    again = write_paper_figures(tmp_path / "b", [chart, heat])
    assert [path.name for path in written] == ["one.svg", "one.pdf", "two.svg", "two.pdf"]
    for path, other in zip(written, again, strict=True):
        assert path.read_bytes() == other.read_bytes()
        assert path.read_bytes()[:5] in (b"<?xml", b"%PDF-")


def test_plotly_reads_no_markup_in_names_and_no_number_that_is_none() -> None:
    line = Line("<b>a</b>", 9, (1.0,), (2.0,), (None,), (None,), names=("<i>",))
    chart = Chart("n", "t", "T", "C", "<x>", "y", (line,), x_ticks=((1.0, "<a>\nb"),))
    found = plotly_figure(chart)
    text = json.dumps(found, allow_nan=False)
    assert "<b>" not in text
    assert "<i>" not in text
    assert found["layout"]["xaxis"]["ticktext"] == ["&lt;a&gt;<br>b"]


def test_colours_differ_in_lightness_or_hue_for_the_colour_blind() -> None:
    def seen_by_a_deuteranope(colour: str) -> tuple[float, ...]:
        # Vienot, Brettel and Mollon 1999: linear RGB without the middle cones.
        r, g, b = ((int(colour[i : i + 2], 16) / 255) ** 2.2 for i in (1, 3, 5))
        red = 0.29275 * r + 0.70725 * g
        return red, red, -0.02234 * r + 0.02234 * g + b

    for one, two in itertools.combinations(COLOURS[:6], 2):
        assert math.dist(seen_by_a_deuteranope(one), seen_by_a_deuteranope(two)) > 0.05


@pytest.mark.parametrize(("real", "drawn"), [(0.3, True), (1.2, True), (0.01, False), (9.0, False)])
def test_real_versus_real_is_a_line_where_it_is_among_the_scores(
    tmp_path: Path, real: float, drawn: bool
) -> None:
    content = make_study(tmp_path, kid_real=real).content  # scores from 1.0 to 1.8
    figure = content_figures(content.groups[0], {})[0]
    assert isinstance(figure, Chart)
    assert (figure.floor is not None) == drawn


def test_the_order_parameter_of_samples_from_real_noise_is_not_shown(tmp_path: Path) -> None:
    content = make_study(tmp_path, prior="forward").content
    names = [f.name for f in trial_figures(content.groups[0], TrialFiles((tmp_path,)))]
    assert "training-loss" in names
    assert "order-parameter" not in names


def test_a_search_of_many_points_shows_the_best_lines_and_all_points(tmp_path: Path) -> None:
    content = make_study(tmp_path, points=20).content
    charts = {f.name: f for f in content_figures(content.groups[0], {}) if isinstance(f, Chart)}
    steps, seconds = charts["kid-against-steps"], charts["kid-against-seconds"]
    assert len(steps.lines) == 12
    assert "best 12 of 21" in steps.caption
    assert "ddpm" in [line.label for line in steps.lines]
    assert {line.label: len(line.x) for line in seconds.lines} == {"ddpm": 2, "kuramoto-local": 40}
