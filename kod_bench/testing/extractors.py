"""The conformance suite of feature extractors: what scores rely on."""

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from kod_bench.evaluation import find_installed
from kod_bench.evaluation.extractors import UserExtractor
from kod_bench.evaluation.features import Features


class ExtractorConformance:
    """What every feature extractor must do.

    Attributes:
        extractor_class: called with a device, as a class or a function; see `FeatureExtractor`.
        name: of the entry point that announces it, if a package does.
        sizes: height and width of images that it is tested on.
    """

    extractor_class: ClassVar[Callable[..., Any]]
    name: ClassVar[str | None] = None
    sizes: ClassVar[tuple[tuple[int, int], ...]] = ((32, 32), (16, 32))

    @classmethod
    def pytest_generate_tests(cls, metafunc: pytest.Metafunc) -> None:
        """Run each test at the sizes and with the channels that it asks for."""
        for name, values in (("size", cls.sizes), ("channels", (1, 3))):
            if name in metafunc.fixturenames:
                metafunc.parametrize(name, list(values), ids=str)

    @classmethod
    def make(cls) -> UserExtractor:
        """One of it, whose output is checked as in a sweep: one finite vector for each image."""
        return UserExtractor(cls.name or "tested", cls.extractor_class, "cpu")

    @pytest.fixture
    def images(self, channels: int, size: tuple[int, int]) -> Tensor:
        """(4, C, H, W), uint8."""
        shape = (4, channels, *size)
        generator = torch.Generator().manual_seed(0)
        return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)

    def test_search_spaces_can_name_it(self) -> None:
        """Under the name that its package announces, if any."""
        if self.name is not None:
            plugin = find_installed(self.name)
            assert plugin is not None
            assert plugin.load() is type(self).extractor_class

    def test_each_image_has_a_vector_of_its_own(self, images: Tensor) -> None:
        """The same whether it comes alone, among others, or in another order."""
        extract = self.make()
        together = extract(images)
        alone = np.concatenate([extract(images[i : i + 1]) for i in range(len(images))])
        _check_close(together, alone)
        _check_close(together[::-1], extract(images.flip(0)))

    def test_different_images_have_different_vectors(self, images: Tensor) -> None:
        """Or nothing could be told by them."""
        found = self.make()(images)
        assert len(np.unique(found, axis=0)) == len(images)

    def test_two_of_it_agree(self, images: Tensor) -> None:
        """Each worker makes one: weights are not drawn at random."""
        one, other = self.make(), self.make()
        assert one.name == other.name
        _check_close(one(images), other(images))

    def test_images_are_left_alone(self, images: Tensor) -> None:
        """They are measured by others, too."""
        kept = images.clone()
        self.make()(images)
        assert torch.equal(images, kept)

    def test_global_randomness_is_not_touched(self, images: Tensor) -> None:
        """A training goes on after it has been scored."""
        extract = self.make()
        torch.manual_seed(3)
        before = torch.get_rng_state()
        extract(images)
        assert torch.equal(torch.get_rng_state(), before)


def _check_close(one: Features, other: Features) -> None:
    assert one.shape == other.shape
    scale = float(np.abs(one).max()) or 1.0
    assert float(np.abs(one - other).max()) <= 1e-4 * scale
