import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from kod_bench.evaluation import Measured, Nearest, colour_wheel, write_wheels
from kod_bench.evaluation.angles import (
    AngleStatistics,
    angle_distance,
    correlation_distance,
    energy,
    vortex_density,
    vortices,
)
from kod_bench.evaluation.colour_wheel import draw_fields
from kod_bench.evaluation.memorisation import write_nearest_pairs
from kod_bench.evaluation.metrics import METRICS, score, score_real
from kod_bench.evaluation.reference import Reference, _read
from tests.fields import field_around, mark_at, with_pair


def random_fields(count: int = 40, side: int = 12, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(count, 1, side, side, generator=generator) * 2 - 1) * math.pi


def plane_waves(step: float, count: int = 8, side: int = 12) -> Tensor:
    """Angles that grow by `step` a column and not along rows."""
    columns = torch.arange(side) * step
    starts = torch.linspace(-3, 3, count)[:, None]
    angles = (columns + starts)[:, None, None].expand(count, 1, side, side)
    return torch.remainder(angles + math.pi, 2 * math.pi).sub(math.pi)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_vortex_is_where_angles_wind(sign: int) -> None:
    winding = vortices(field_around(4.5, 7.5, sign))[0, 0]
    assert winding.nonzero().tolist() == [[7, 4]]
    assert int(winding[7, 4]) == sign


def test_a_vortex_does_not_depend_on_the_cut() -> None:
    field = field_around(4.5, 7.5, 1)
    turned = torch.remainder(field + 2.0 + math.pi, 2 * math.pi) - math.pi
    assert torch.equal(vortices(turned), vortices(field))


def test_independent_angles_have_a_third_of_vortices_and_no_correlation() -> None:
    # The wrapped sum of four independent differences: 1/3 (see, for one, Berry and Dennis 2000).
    found = AngleStatistics.of(random_fields(400))
    assert vortex_density(found) == pytest.approx(1 / 3, abs=0.01)
    assert energy(found) == pytest.approx(0, abs=0.01)
    assert np.abs(found.correlation / found.count).max() < 0.01


def test_plane_waves_have_the_correlation_of_their_step() -> None:
    found = AngleStatistics.of(plane_waves(0.3))
    distances = np.arange(1, 7)
    # As many pairs along rows as along columns, where nothing grows.
    np.testing.assert_allclose(
        found.correlation / found.count, (np.cos(0.3 * distances) + 1) / 2, atol=1e-6
    )
    assert energy(found) == pytest.approx(-(math.cos(0.3) + 1) / 2)
    assert vortex_density(found) == 0
    other = AngleStatistics.of(plane_waves(0.4))
    expected = np.sqrt(np.mean((np.cos(0.3 * distances) - np.cos(0.4 * distances)) ** 2)) / 2
    assert correlation_distance(found, other) == pytest.approx(expected, abs=1e-6)


def test_angle_distance_goes_the_short_way_round() -> None:
    near_cut = [torch.full((1, 1, 4, 4), side * (math.pi - 0.1)) for side in (1, -1)]
    one, two = (AngleStatistics.of(each) for each in near_cut)
    assert angle_distance(one, two) == pytest.approx(0.2, abs=0.02)
    assert angle_distance(one, one) == 0


def test_statistics_of_parts_add_up() -> None:
    fields = random_fields(50)
    whole = AngleStatistics.of(fields)
    parts = AngleStatistics.of(fields[:20]) + AngleStatistics.of(fields[20:])
    for name, value in vars(whole).items():
        np.testing.assert_allclose(getattr(parts, name), value, rtol=1e-12)
    with pytest.raises(ValueError, match="differ in size"):
        whole + AngleStatistics.of(random_fields(side=8))


def test_every_metric_of_angles_has_its_floor_and_no_texture() -> None:
    one, two, three = (Measured.of(random_fields(seed=seed), None) for seed in range(3))
    assert one.texture is None
    scores, real = score(one, two, 0), score_real(three, two, 0)
    columns = [c for m in METRICS if m.needs in ("angles", "order") for c in m.columns]
    assert {c for c, value in scores.items() if value is not None} == set(columns)
    assert all(real[column] is not None for column in columns)
    assert real["vortex_density"] == score(two, two, 0)["vortex_density"]
    assert scores["vortex_density_difference"] == pytest.approx(
        abs((scores["vortex_density"] or 0) - (real["vortex_density"] or 0))
    )


def test_a_better_generator_scores_better() -> None:
    data = Measured.of(plane_waves(0.3), None)
    near, far = (Measured.of(plane_waves(step), None) for step in (0.35, 0.8))
    for column in ("correlation_distance", "energy_difference"):
        values = [score(each, data, 0)[column] for each in (data, near, far)]
        assert values == sorted(values, key=lambda value: value or 0.0), column


def test_hues_go_round_and_have_no_cut() -> None:
    ends = torch.tensor([-math.pi, math.pi - 1e-6]).reshape(1, 1, 1, 2)
    left, right = colour_wheel(ends)[0].permute(2, 1, 0).int()
    assert (left - right).abs().max() <= 1
    named = torch.tensor([0.0, 2 * math.pi / 3, -2 * math.pi / 3]).reshape(1, 1, 1, 3)
    assert colour_wheel(named)[0, :, 0].T.tolist() == [[255, 0, 0], [0, 255, 0], [0, 0, 255]]
    with pytest.raises(ValueError, match="N, 1, H, W"):
        colour_wheel(torch.zeros(1, 3, 4, 4))


def test_pictures_mark_vortices(tmp_path: Path) -> None:
    write_wheels(tmp_path / "plain.png", torch.zeros(1, 1, 12, 12), columns=1)
    write_wheels(tmp_path / "vortex.png", field_around(4.5, 7.5, 1), columns=1)
    plain, vortex = (np.asarray(Image.open(tmp_path / f"{n}.png")) for n in ("plain", "vortex"))
    scale, gap = math.ceil(512 / 12), 4
    y, x = gap + scale * 8, gap + scale * 5
    assert tuple(vortex[y, x]) == (255, 255, 255)
    assert tuple(plain[y, x]) == (255, 0, 0)


def test_vortices_a_site_apart_are_both_seen() -> None:
    field = (field_around(8.5, 15.5, 1, 32) + field_around(9.5, 15.5, -1, 32))[0]
    assert vortices(field)[0].nonzero().tolist() == [[15, 8], [15, 9]]
    (picture,) = draw_fields(field[None], 4)
    assert picture.size == (128, 128)
    assert (mark_at(picture, 36, 64), mark_at(picture, 40, 64)) == ("+", "-")
    (plain,) = draw_fields(field[None], 4, 0.001)
    assert (mark_at(plain, 36, 64), mark_at(plain, 40, 64)) == ("", "")


def test_vortices_are_marked_in_pairs_of_neighbours(tmp_path: Path) -> None:
    fields = with_pair() + torch.arange(60.0).reshape(60, 1, 1, 1) / 10
    samples, train = fields[:20], fields[20:]
    write_nearest_pairs(tmp_path / "pairs.png", samples, train, Nearest.find(samples, train))
    with Image.open(tmp_path / "pairs.png") as pairs:
        assert pairs.size == (4 + 4 * 132, 4 + 2 * (2 * 128 + 4))
        for top in (4, 4 + 128):  # a sample, its neighbour
            found = [mark_at(pairs, 4 + 4 * x, top + 4 * y) for x, y in ((9, 8), (21, 22))]
            assert found == ["+", "-"]


def test_neighbours_are_near_across_the_cut() -> None:
    train = torch.stack([torch.full((1, 4, 4), angle) for angle in (3.1, 0.0, 1.5)])
    found = Nearest.find(torch.full((1, 1, 4, 4), -3.1), train)
    assert found.index.tolist() == [0]
    half_chord = math.sin((2 * math.pi - 6.2) / 2)
    assert found.distance[0] == pytest.approx(half_chord, rel=1e-4)


def test_a_reference_of_angles_is_read_back(tmp_path: Path) -> None:
    class Means:
        name = "means"

        def __call__(self, images: Tensor) -> np.ndarray:
            assert images.dtype == torch.uint8
            assert images.shape[1] == 3
            return images.double().mean((2, 3)).numpy()

    def load() -> Reference:
        return Reference.load(
            train=random_fields(seed=1),
            test=random_fields(seed=2),
            data_hash="x",
            sample_count=40,
            reference_count=40,
            seed=0,
            extractor=Means(),  # type: ignore[arg-type]
            folder=tmp_path,
        )

    first = load()
    (path,) = tmp_path.glob("*.npz")
    again = _read(path)
    assert again is not None
    assert again[1] == dict(first.real)
    for name, value in vars(first.measured.angles).items():
        np.testing.assert_array_equal(getattr(again[0].angles, name), value)
    assert again[0].texture is None
    changed = path.stat().st_mtime_ns
    load()
    assert path.stat().st_mtime_ns == changed
