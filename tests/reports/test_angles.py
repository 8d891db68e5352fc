import dataclasses
import re

import pytest
from rich.console import Console, RenderableType

from kod_bench.reports import make_content
from kod_bench.reports.comparison import compare_sides
from kod_bench.reports.figures.from_content import content_figures
from kod_bench.reports.frame import frame_of
from kod_bench.reports.groups import make_groups
from kod_bench.reports.latex import to_latex
from kod_bench.reports.layout import comparison_table
from kod_bench.reports.markdown import comparison_markdown, table_lines, to_markdown
from kod_bench.reports.page.write import page
from kod_bench.reports.terminal import comparison, comparison_terminal, to_terminal
from kod_bench.results import Row
from tests.rows import make_row

MODELS = {"ddpm": ("ddpm", "euclidean", 0.08), "local": ("kuramoto", "structured", 0.02)}


def rows(sample_count: int = 4096) -> list[Row]:
    """Where KID says the opposite of what the fields do."""
    return [
        make_row(
            model=model,
            trial=f"{model}-{seed}",
            process=process,
            kind=kind,
            seed=seed,
            config_hash=f"{model}{seed}",
            sample_count=sample_count,
            kid=10 - 100 * distance + seed / 100,
            fid=50 - 100 * distance + seed / 100,
            correlation_distance=distance + (seed % 3) / 1000,
            correlation_distance_real=0.001,
            vortex_density=0.01,
            vortex_density_real=0.003,
            vortex_density_difference=0.007,
            vortex_density_difference_real=0.0001,
            energy_difference=distance,
            energy_difference_real=0.001,
            angle_distance=0.01,
            angle_distance_real=0.01,
        )
        for model, (process, kind, distance) in MODELS.items()
        for seed in range(6)
    ]


def test_verdicts_are_sentences_whatever_the_metric() -> None:
    apart = [
        dataclasses.replace(row, order_distance=row.correlation_distance, order_distance_real=0.001)
        for row in rows()
    ]
    (group,) = make_groups(frame_of(apart))
    said = " ".join(group.verdict)
    assert "local has an order distance 0.06 lower (better) than ddpm" in said
    assert "local has a correlation distance 0.06 lower (better) than ddpm" in said


def test_fields_of_angles_are_judged_by_their_correlation_and_never_by_hues() -> None:
    (group,) = make_groups(frame_of(rows()))
    assert group.headline == "correlation_distance"
    said = " ".join(group.verdict)
    assert "KID" not in said
    assert "FID" not in said
    assert "local has a correlation distance 0.06 lower (better) than ddpm" in said
    best = {cell.label: cell for cell in group.cells}
    assert best["local"].score("correlation_distance").is_best  # type: ignore[union-attr]
    assert best["ddpm"].kid.indistinguishable is None
    assert best["ddpm"].fid.indistinguishable is None
    assert any("KID and FID see hues" in note for note in group.notes)


def test_the_table_has_the_floor_of_each_metric() -> None:
    (group,) = make_groups(frame_of(rows()))
    table = comparison_table(group)
    for heading in ("Correlation", "Vortices", "Energy", "Order", "Angle", "Hue KID", "Hue FID"):
        assert heading in table.columns
    assert table.columns[2] == "Correlation"
    floor = dict(zip(table.columns, table.lines[0], strict=True))
    assert floor["Correlation"].text == "0.0010"
    assert floor["Vortices"].text == "0.0001"
    assert table_lines(table)


def test_kid_and_fid_are_said_to_be_of_hues_in_every_format() -> None:
    content = make_content(frame_of(rows()), title="x")
    markdown, latex, html = to_markdown(content), to_latex(content), page(content)
    for name in ("KID", "FID"):
        assert re.search(rf"\| +Hue {name} \|.*\n\|[-:| ]+\n\| .* real versus real", markdown)
        assert re.search(rf"& Hue {name} &.*\\\\\n\\midrule", latex)
        assert re.search(rf"<th[^>]*>.*Hue {name}\b.*</th>", html)
        for text in (markdown, latex, html):
            assert f"Structured minus Euclidean, Hue {name}" in text
            assert f"Hue {name} difference" in text
            assert f"Structured minus Euclidean, {name}" not in text
        assert f"Hue {name} against network evaluations" in html
    assert "Hue Correlation" not in markdown


def printed(*pieces: RenderableType, width: int) -> list[str]:
    """Lines of a terminal."""
    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(*pieces, sep="\n")
    return console.export_text().splitlines()


def test_kid_and_fid_are_said_to_be_of_hues_on_a_wide_terminal() -> None:
    lines = printed(comparison(make_groups(frame_of(rows()))[0]), width=160)
    (headings,) = (line for line in lines if line.startswith("NFE"))
    for name in ("Correlation", "Vortices", "Energy", "Hue KID", "Hue FID", "Train s", "s/image"):
        assert name in headings
    assert not any("Not shown here" in line for line in lines)


@pytest.mark.parametrize("model", ["local", "local as released", "a b c d e f g"])
def test_80_columns_have_whole_numbers_and_say_what_they_leave_out(model: str) -> None:
    named = [dataclasses.replace(r, model=model) if r.model == "local" else r for r in rows()]
    (group,) = make_groups(frame_of(named))
    lines = printed(comparison(group), width=80)
    assert max(map(len, lines)) <= 80
    (headings,) = (line for line in lines if line.startswith("NFE"))
    assert headings.split() == ["NFE", "Model", "Correlation", "Vortices", "Energy", "Seeds"]
    said = " ".join(" ".join(lines).split())
    assert re.search("Not shown here: .*Angle, Hue KID, Hue FID, Train s, s/image;", said)
    text = "\n".join(lines)  # an interval is on one line
    for cell in group.cells:
        for metric in ("correlation_distance", "vortex_density_difference", "energy_difference"):
            found = cell.score(metric).estimate  # type: ignore[union-attr]
            assert f"{found.mean:.4f}" in text
            assert f"[{found.low:.4f}, {found.high:.4f}]" in text


def test_a_terminal_too_narrow_for_anything_cuts_no_number_off() -> None:
    lines = printed(comparison(make_groups(frame_of(rows()))[0]), width=30)
    table = "\n".join(lines).split("Features")[0]
    assert "Vortices" not in table
    first = "".join(line[:3] for line in table.splitlines()[1:])
    assert "".join(first.split()).startswith("NFE100100")


def test_a_long_name_goes_on_below_and_costs_one_metric_at_most() -> None:
    found = [dataclasses.replace(row, model=9 * "long-" + row.model) for row in rows()]
    lines = printed(comparison(make_groups(frame_of(found))[0]), width=80)
    (headings,) = (line for line in lines if line.startswith("NFE"))
    assert {"Correlation", "Vortices"} <= set(headings.split())
    names = "".join(line[4:].split()[0] for line in lines if line[4:].strip())
    assert 9 * "long-" + "local" in names


@pytest.mark.parametrize("width", [60, 80])
def test_differences_keep_whole_words_and_numbers_before_p_values(width: int) -> None:
    name = "uncoupled-reference coupling_ratio=0.3"
    named = [dataclasses.replace(r, model=name) if r.model == "local" else r for r in rows()]
    (group,) = make_groups(frame_of(named))
    lines = printed(*to_terminal(make_content(frame_of(named), title="x")), width=width)
    start = next(n for n, line in enumerate(lines) if "Structured minus Euclidean, Corr" in line)
    table = "\n".join(lines[start:])
    assert max(map(len, lines)) <= width
    found = group.differences[0].estimate
    assert f"[{found.low:+.4f}, {found.high:+.4f}]" in table
    assert "uncoupled-reference" in table
    assert "coupling_ratio=0.3" in table
    if width == 60:
        assert "Not shown here: " in table


def test_a_name_that_looks_like_an_interval_is_not_taken_apart() -> None:
    name = "base [0.1, 0.2] wide"
    named = [dataclasses.replace(r, model=name) if r.model == "local" else r for r in rows()]
    lines = printed(comparison(make_groups(frame_of(named))[0]), width=160)
    assert any(name in line for line in lines)


def test_a_terminal_has_the_differences_of_the_headline_and_names_the_others() -> None:
    lines = printed(*to_terminal(make_content(frame_of(rows()), title="x")), width=80)
    titles = [line for line in lines if line.startswith("Structured minus Euclidean, ")]
    assert [title.strip() for title in titles] == ["Structured minus Euclidean, Correlation"]
    said = " ".join(" ".join(lines).split())
    wanted = "Differences in Vortices, Energy, Order, Angle: with --markdown."
    assert wanted in said


def test_two_sides_of_angles_are_compared_by_hues_that_are_said_to_be_so() -> None:
    frame = frame_of(rows())
    sides = (frame[frame["model"] == model].reset_index(drop=True) for model in MODELS)
    found = compare_sides("a", next(sides), "b", next(sides))
    text = comparison_markdown(found)
    assert "Hue KID difference" in text
    assert "Hue FID difference" in text
    assert "biased" not in text  # enough samples; it is not judged for what it sees
    lines = printed(*comparison_terminal(found), width=200)
    assert [line.split(":")[1].strip() for line in lines if "a minus b, " in line] == [
        "a minus b, Correlation"
    ]
    assert any(re.match("Differences in Vortices, .*Hue KID, Hue FID", line) for line in lines)


def test_figures_go_by_the_correlation() -> None:
    (group,) = make_groups(frame_of(rows()))
    names = [figure.name for figure in content_figures(group, {})]
    assert names[0] == "correlation-distance-against-steps"  # what is drawn first is read first
    assert "correlation-distance-against-seconds" in names
    assert "kid-against-seconds" not in names
    tabs = {figure.name: figure.title for figure in content_figures(group, {})}
    assert tabs["kid-against-steps"] == "Hue KID against network evaluations"


def test_images_of_intensities_have_no_columns_of_angles() -> None:
    (group,) = make_groups(frame_of([make_row(seed=seed) for seed in range(3)]))
    assert group.headline == "kid"
    headings = comparison_table(group).columns
    assert {"KID", "FID"} < set(headings)
    assert not {"Correlation", "Vortices", "Energy", "Order", "Angle"} & set(headings)
