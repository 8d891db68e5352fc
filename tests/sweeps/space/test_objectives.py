"""`search.metric`: what rows of images have, and what those of angles have."""

from pathlib import Path

import pytest

from kod_bench.errors import UsageError
from kod_bench.sweeps.space import SearchSpace, load_space

SPACE = """
name: objectives
dataset: {name: DATA, image_size: 16}
training: {iterations: 4, batch_size: 8, learning_rate: {loguniform: [1e-4, 1e-2]}}
evaluation: {samples: 20, references: 16}
models: {one: {process: kuramoto, steps: 4}}
search: {strategy: optuna, trials: 3, metric: METRIC}
"""
BOTH = "{grid: [xy, fingerprints]}"


def space(folder: Path, data: str, metric: str) -> SearchSpace:
    path = folder / "space.yaml"
    path.write_text(SPACE.replace("DATA", data).replace("METRIC", metric))
    return load_space(path, "auto")


@pytest.mark.parametrize(
    ("data", "metric"),
    [
        ("xy", "correlation_distance"),
        ("xy", "order_distance"),
        ("angles:/winds", "[energy_difference, seconds_per_sample]"),
        ("orientation", "seconds_per_sample"),
        ("fingerprints", "kid"),
        ("fingerprints", "[fid, kid]"),
        ("fingerprints", "orientation_distance"),
        (BOTH, "[order_distance, seconds_per_sample]"),
    ],
)
def test_a_search_goes_by_what_rows_have(tmp_path: Path, data: str, metric: str) -> None:
    assert space(tmp_path, data, metric)


@pytest.mark.parametrize(
    ("data", "metric", "message"),
    [
        ("xy", "kid", "kid is of the hues of angles"),
        ("xy", "fid", "fid is of the hues of angles"),
        ("angles:/winds", "mind", "mind is of the hues of angles"),
        ("xy", "[kid, seconds_per_sample]", "kid is of the hues"),
        ("flow", "[fid, kid]", "fid is of the hues"),
        ("xy", "[correlation_distance, coverage]", "coverage is of the hues"),
        ("xy", "orientation_distance", "orientation_distance is of data sets of intensities alone"),
        ("xy", "minutiae_distance", "minutiae_distance is of data sets of intensities alone"),
        ("xy", "bits_per_dimension", "bits_per_dimension is of data sets of intensities alone"),
        (BOTH, "kid", "kid is of the hues"),
        (BOTH, "correlation_distance", "correlation_distance is of data sets of angles alone"),
    ],
)
def test_anything_else_is_refused_with_what_is_possible(
    tmp_path: Path, data: str, metric: str, message: str
) -> None:
    with pytest.raises(UsageError, match=rf"search\.metric: {message}") as caught:
        space(tmp_path, data, metric)
    line = str(caught.value)
    assert "\n" not in line
    possible = line.split("possible: ")[1].split(", ")
    assert "seconds_per_sample" in possible
    assert "order_distance" in possible
    assert ("correlation_distance" in possible) == (data != BOTH)
    assert "kid" not in possible
    for name in possible:
        assert space(tmp_path, data, name)


@pytest.mark.parametrize(
    "metric", ["angle_distance", "likelihood", "[kid, vortex_density_difference]"]
)
def test_images_have_no_metrics_of_angles(tmp_path: Path, metric: str) -> None:
    with pytest.raises(UsageError, match=r"search\.metric: .* of angles alone; possible: ") as got:
        space(tmp_path, "fingerprints", metric)
    possible = str(got.value).split("possible: ")[1].split(", ")
    assert {"kid", "fid", "orientation_distance", "order_distance"} <= set(possible)
    assert not {"angle_distance", "likelihood", "spectrum_distance", "correlation_distance"} & set(
        possible
    )


def test_spectra_are_of_the_sphere(tmp_path: Path) -> None:
    for data in ("xy", "fingerprints", "{grid: [sphere, fingerprints]}"):
        with pytest.raises(UsageError, match="spectrum_distance is of data on the sphere alone"):
            space(tmp_path, data, "spectrum_distance")
    assert space(tmp_path, "sphere", "spectrum_distance")
