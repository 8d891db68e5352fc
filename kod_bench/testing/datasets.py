"""The conformance suite of data sets: what search spaces, `kod-bench data` and caches rely on."""

import json
import math
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from kod_bench.data import (
    DatasetOptions,
    PreparedDataset,
    Source,
    SourceImage,
    dataset_names,
    open_dataset,
)
from kod_bench.data.registry import find_spec, open_source


class DatasetConformance:
    """What every data set must do. Its package has to be installed, as with ``pip install -e``.

    Attributes:
        name: that search spaces have for it.
        cases: options besides the name, by a name for each case. Few and small images are enough.
    """

    name: ClassVar[str]
    cases: ClassVar[Mapping[str, Mapping[str, Any]]] = {"default": {"image_size": 16}}

    @classmethod
    def pytest_generate_tests(cls, metafunc: pytest.Metafunc) -> None:
        """Run each test in the cases."""
        if "case" in metafunc.fixturenames:
            metafunc.parametrize("case", list(cls.cases))

    @pytest.fixture
    def options(self, case: str) -> DatasetOptions:
        """Of the case."""
        return DatasetOptions.model_validate({"name": self.name, **self.cases[case]})

    @pytest.fixture
    def folder(self) -> Path | None:
        """A folder of images, for data sets that are nothing without one; overridden by those."""
        return None

    @pytest.fixture
    def source(self, options: DatasetOptions, folder: Path | None, tmp_path: Path) -> Source:
        """Where its images come from."""
        return self._source(options, folder, tmp_path)

    @pytest.fixture
    def opened(
        self, options: DatasetOptions, folder: Path | None, tmp_path: Path
    ) -> PreparedDataset:
        """Prepared for the first time."""
        return open_dataset(options, folder, tmp_path / "cache")

    @staticmethod
    def _source(options: DatasetOptions, folder: Path | None, scratch: Path) -> Source:
        cache, work = scratch / "sources", scratch / "work"
        for path in (cache, work):
            path.mkdir(exist_ok=True)
        source = open_source(options, folder, cache)
        source.unpack(work)
        return source

    def test_search_spaces_can_name_it(self, tmp_path: Path) -> None:
        """And `kod-bench data list` has a line for each thing to know."""
        assert self.name in dataset_names()
        spec = find_spec(self.name)
        for said in (spec.layout, spec.licence, spec.group_noun, spec.without_folder(tmp_path)):
            assert said
            assert said == " ".join(said.split())

    def test_rows_can_tell_it_from_others(self, source: Source) -> None:
        """Its images go by its own name, perhaps with an ending."""
        assert source.name == self.name or source.name.startswith(f"{self.name}-")
        assert source.title

    def test_identity_is_what_a_cache_key_is_made_of(
        self, options: DatasetOptions, folder: Path | None, tmp_path: Path
    ) -> None:
        """Plain values, known before anything is unpacked, the same each time."""
        one, other = (open_source(options, folder, tmp_path).identity() for _ in range(2))
        assert json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)

    def test_units_are_independent(
        self, source: Source, options: DatasetOptions, folder: Path | None, tmp_path: Path
    ) -> None:
        """Images are the same in whatever order, and by whichever process, they are read."""
        assert source.units >= 1
        forwards = [list(source.read(unit)) for unit in range(source.units)]
        again = self._source(options, folder, tmp_path)
        backwards = [list(again.read(unit)) for unit in reversed(range(again.units))][::-1]
        for one, other in zip(forwards, backwards, strict=True):
            assert [image.name for image in one] == [image.name for image in other]
            assert all(_equal(a, b) for a, b in zip(one, other, strict=True))

    def test_images_are_pixels_or_say_why_not(
        self, source: Source, options: DatasetOptions
    ) -> None:
        """(H, W) or (H, W, 3), uint8, or angles, each with a name of its own."""
        names: list[str] = []
        for unit in range(source.units):
            for image in source.read(unit):
                names.append(image.name)
                if image.pixels is None:
                    assert image.reason
                    continue
                if options.values == "angles":
                    assert image.pixels.shape[-2:] == options.image_shape
                    assert _are_angles(image.pixels)
                    continue
                assert image.pixels.dtype == np.uint8
                assert image.pixels.ndim == 2 or image.pixels.shape[2:] == (3,)
        assert len(set(names)) == len(names)

    def test_prepared_images_are_what_was_asked_for(
        self, opened: PreparedDataset, options: DatasetOptions
    ) -> None:
        """Two sides of uint8 images, or of angles, none of them on both."""
        channels = 3 if options.color == "rgb" else 1
        sides = [opened.images.train, opened.images.test]
        for images in sides:
            angles = options.values == "angles"
            assert _are_angles(images) if angles else images.dtype == np.uint8
            assert len(images)
            assert images.shape[1:] == (channels, *options.image_shape)
        train, test = ({image.tobytes() for image in images} for images in sides)
        assert not train & test

    def test_preparing_again_gives_the_same(
        self,
        opened: PreparedDataset,
        options: DatasetOptions,
        folder: Path | None,
        tmp_path: Path,
    ) -> None:
        """From the cache at once, and in another cache pixel by pixel."""
        assert not opened.cached
        assert open_dataset(options, folder, tmp_path / "cache").cached
        elsewhere = open_dataset(options, folder, tmp_path / "another")
        assert not elsewhere.cached
        assert elsewhere.content_hash == opened.content_hash

    def test_global_randomness_is_not_touched(
        self, options: DatasetOptions, folder: Path | None, tmp_path: Path
    ) -> None:
        """What is drawn is drawn from seeds of its own."""
        random.seed(3)
        np.random.seed(3)  # noqa: NPY002
        before = random.getstate(), _numpy_state()
        open_dataset(options, folder, tmp_path / "cache")
        assert (random.getstate(), _numpy_state()) == before


def _are_angles(values: Any) -> bool:
    """Whether they are float32 radians in [-pi, pi)."""
    pi = np.float32(math.pi)
    return values.dtype == np.float32 and bool(((values >= -pi) & (values < pi)).all())


def _numpy_state() -> list[Any]:
    return [np.asarray(part).tolist() for part in np.random.get_state()]  # noqa: NPY002


def _equal(one: SourceImage, other: SourceImage) -> bool:
    if one.pixels is None or other.pixels is None:
        return one.pixels is other.pixels
    return np.array_equal(one.pixels, other.pixels)
