"""Features that were computed are read, where nothing that they depend on has changed."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from kod_bench.evaluation import FeatureExtractor, KeptFeatures
from kod_bench.evaluation.features import Features


class Counted(FeatureExtractor):
    """The first pixels; counts the images that it was asked about."""

    def __init__(self, name: str = "counted") -> None:
        self.name = name
        self.asked = 0

    def __call__(self, images: Tensor) -> Features:
        self.asked += len(images)
        return np.asarray(images.flatten(1)[:, :5].double().numpy() / 3)


def images(seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (9, 1, 8, 8), dtype=torch.uint8, generator=generator)


def test_what_was_computed_is_read(tmp_path: Path) -> None:
    extractor = Counted()
    put: list[str] = []
    first = KeptFeatures(extractor, tmp_path, "code", put=put.append)(images())
    second = KeptFeatures(extractor, tmp_path, "code")(images())
    assert extractor.asked == 9
    assert second.dtype == np.float64
    assert np.array_equal(first, second)
    assert np.array_equal(first, Counted()(images()))
    assert put == [path.name for path in tmp_path.iterdir()]


@pytest.mark.parametrize("change", ["images", "extractor", "code", "shape"])
def test_features_of_others_are_never_read(tmp_path: Path, change: str) -> None:
    KeptFeatures(Counted(), tmp_path, "code")(images())
    other = Counted("another" if change == "extractor" else "counted")
    asked = images(1) if change == "images" else images()
    asked = asked.reshape(9, 1, 4, 16) if change == "shape" else asked
    KeptFeatures(other, tmp_path, "newer" if change == "code" else "code")(asked)
    assert other.asked == 9


@pytest.mark.parametrize("place", [0.1, 0.5, 0.9])
def test_damaged_ones_are_computed_again(
    tmp_path: Path, place: float, caplog: pytest.LogCaptureFixture
) -> None:
    KeptFeatures(Counted(), tmp_path, "code")(images())
    (path,) = tmp_path.iterdir()
    content = path.read_bytes()
    at = int(place * len(content))
    for damaged in (content[:at], b"", content[:at] + b"\xff\xff\xff\xff" + content[at + 4 :]):
        path.write_bytes(damaged)
        found = KeptFeatures(Counted(), tmp_path, "code")(images())
        assert np.array_equal(found, Counted()(images()))


def test_bits_that_zip_does_not_notice_are_noticed_by_the_hash(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    KeptFeatures(Counted(), tmp_path, "code")(images())
    (path,) = tmp_path.iterdir()
    with np.load(path) as archive:
        kept = dict(archive)
    kept["features"][2, 2] += 1
    np.savez(path, **kept)
    extractor = Counted()
    KeptFeatures(extractor, tmp_path, "code")(images())
    assert extractor.asked == 9
    assert f"{path} is damaged and is computed again" in caplog.text


def test_what_another_node_has_computed_is_fetched(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    KeptFeatures(Counted(), there, "code")(images())
    extractor = Counted()

    def fetch(name: str) -> None:
        (here / name).write_bytes((there / name).read_bytes())

    KeptFeatures(extractor, here, "code", fetch=fetch)(images())
    assert extractor.asked == 0


def test_a_disk_that_takes_nothing_costs_no_score(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    found = KeptFeatures(Counted(), tmp_path / "gone", "code")(images())
    assert np.array_equal(found, Counted()(images()))
    assert "features are not kept" in caplog.text
