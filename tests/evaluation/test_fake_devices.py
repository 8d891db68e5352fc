"""On a GPU extractors and the search for training images would be on the GPU, and read at the end.

As tests/training/test_fake_devices.py: fake CUDA tensors refuse two devices in one operator. What
ends in numpy cannot be fake; the walk goes as far as that.
"""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from kod_bench.evaluation.angles import AngleStatistics
from kod_bench.evaluation.dinov2 import DINOv2
from kod_bench.evaluation.efficientnet import EfficientNetLite0
from kod_bench.evaluation.features import FeatureExtractor
from kod_bench.evaluation.inception import CleanFidExtractor
from kod_bench.evaluation.memorisation import Nearest
from kod_bench.evaluation.texture import TextureStatistics
from kod_bench.evaluation.vision_transformer import Layout, VisionTransformer
from tests.fake_cuda import CUDA, fake_cuda, no_driver

__all__ = ["no_driver"]

#: A fake tensor is no array.
NO_ARRAY = "numpy"


def moved(walk: Callable[[], object]) -> list[str]:
    """What goes between devices until the numbers would become an array."""
    with fake_cuda() as transfers, pytest.raises(RuntimeError, match=NO_ARRAY):
        walk()
    return transfers.found


def test_efficientnet_reads_once_for_each_batch(no_driver: None) -> None:
    with fake_cuda():
        extractor = EfficientNetLite0(CUDA, input_size=32, batch_size=4)
    images = torch.zeros(8, 1, 16, 16, dtype=torch.uint8)
    into, back = "moved from cpu to cuda:0", "moved from cuda:0 to cpu"
    assert moved(lambda: extractor(images)) == [into, back] * 2


class Tiny(CleanFidExtractor):
    """What clean-fid's preparation ends in."""

    side = 28

    def __init__(self, device: torch.device) -> None:
        super().__init__(device, batch_size=4)
        self._network = torch.nn.Conv2d(3, 2, 28).to(device)

    def network(self, images: Tensor) -> Tensor:
        return self._network(images).flatten(1)  # type: ignore[no-any-return]


class TinyDINOv2(DINOv2):
    """Its network with weights of no file."""

    side = 28
    layout = Layout(width=8, depth=2, heads=2, trained_side=42)

    def __init__(self, device: torch.device) -> None:
        CleanFidExtractor.__init__(self, device, batch_size=4)
        self._network = VisionTransformer(self.layout).to(device)
        self._mean, self._std = (torch.ones(3, 1, 1, device=device) for _ in range(2))


@pytest.mark.parametrize("kind", [Tiny, TinyDINOv2])
def test_networks_behind_clean_fids_resize_are_fed_on_their_device(
    kind: Callable[[torch.device], CleanFidExtractor], no_driver: None
) -> None:
    with fake_cuda() as transfers:
        extractor = kind(CUDA)
        transfers.found.clear()
        features = extractor.network(torch.zeros(4, 3, 28, 28, device=CUDA))
        assert features.device == CUDA
        assert features.ndim == 2
    assert transfers.found == []


def test_training_images_are_searched_where_they_are_asked_to_be(no_driver: None) -> None:
    images, train = (torch.zeros(count, 1, 8, 8, dtype=torch.uint8) for count in (3, 60))
    for angles in (False, True):
        pair = [each.float() if angles else each for each in (images, train)]
        found = moved(lambda pair=pair: Nearest.find(*pair, CUDA))
        # Rows, all training images, each row's candidates; their numbers, then the distances.
        assert found.count("moved from cpu to cuda:0") == 2 + len(images)
        assert found.count("moved from cuda:0 to cpu") == 2
        assert len(found) == 4 + len(images)


@pytest.mark.parametrize(
    ("statistics", "dtype"),
    [(TextureStatistics, torch.uint8), (AngleStatistics, torch.float32)],
)
def test_what_is_measured_on_the_cpu_is_fetched_first(
    statistics: type, dtype: torch.dtype, no_driver: None
) -> None:
    def walk() -> object:
        return statistics.of(torch.zeros(2, 1, 16, 16, dtype=dtype, device=CUDA))

    assert set(moved(walk)) == {"moved from cuda:0 to cpu"}


def test_an_extractor_that_forgets_a_constant_is_found(no_driver: None) -> None:
    class Forgetful(Tiny):
        def network(self, images: Tensor) -> Tensor:
            return super().network(images - torch.zeros(3, 1, 1))

    def walk(extractor: FeatureExtractor) -> None:
        extractor.network(torch.zeros(4, 3, 28, 28, device=CUDA))  # type: ignore[attr-defined]

    with fake_cuda():
        extractor = Forgetful(CUDA)
        with pytest.raises(RuntimeError, match="cuda"):
            walk(extractor)
