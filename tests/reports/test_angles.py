from kod_bench.reports.figures.from_content import content_figures
from kod_bench.reports.frame import frame_of
from kod_bench.reports.groups import make_groups
from kod_bench.reports.layout import comparison_table
from kod_bench.reports.markdown import table_lines
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
    for heading in ("Correlation", "Vortices", "Energy", "Order", "Angle", "KID", "FID"):
        assert heading in table.columns
    assert table.columns[2] == "Correlation"
    floor = dict(zip(table.columns, table.lines[0], strict=True))
    assert floor["Correlation"].text == "0.0010"
    assert floor["Vortices"].text == "0.0001"
    assert table_lines(table)


def test_figures_go_by_the_correlation() -> None:
    (group,) = make_groups(frame_of(rows()))
    names = [figure.name for figure in content_figures(group, {})]
    assert names[0] == "correlation-distance-against-steps"  # what is drawn first is read first
    assert "correlation-distance-against-seconds" in names
    assert "kid-against-seconds" not in names


def test_images_of_intensities_have_no_columns_of_angles() -> None:
    (group,) = make_groups(frame_of([make_row(seed=seed) for seed in range(3)]))
    assert group.headline == "kid"
    headings = comparison_table(group).columns
    assert not {"Correlation", "Vortices", "Energy", "Order", "Angle"} & set(headings)
