"""Every data set passes the conformance suite that is shipped."""

from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from PIL import Image

from kod_bench.data import DATASETS
from kod_bench.testing import DatasetConformance


class TestFingerprints(DatasetConformance):
    name = "fingerprints"
    cases: ClassVar = {
        "patches": {
            "image_size": 16,
            "scale": 0.25,
            "synthetic": {"fingers": 2, "impressions": 1},
        }
    }


class TestTextures(DatasetConformance):
    name = "textures"
    cases: ClassVar = {"gray": {"image_size": 32}, "rgb": {"image_size": 32, "color": "rgb"}}


class TestTerrain(DatasetConformance):
    name = "terrain"
    cases: ClassVar = {"scales": {"image_size": 16}}


class TestSphere(DatasetConformance):
    name = "sphere"
    cases: ClassVar = {
        "gaussian": {"image_size": 8, "sphere": {"count": 20}},
        "log-normal": {"image_size": 8, "sphere": {"count": 120, "field": "log-normal"}},
    }


class TestXY(DatasetConformance):
    name = "xy"
    cases: ClassVar = {"cold": {"image_size": 8, "xy": {"count": 60}}}


class TestOrientation(DatasetConformance):
    name = "orientation"
    cases: ClassVar = {"known": {"image_size": 16, "synthetic": {"fingers": 3}}}


class TestFlow(DatasetConformance):
    name = "flow"
    cases: ClassVar = {"few": {"image_size": 16, "flow": {"count": 20}}}


class TestCIFAR10(DatasetConformance):
    """Of a folder of pictures: the published archive may not be redistributed."""

    name = "cifar10"
    cases: ClassVar = {"folder": {"image_size": 16}}

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        generator = np.random.default_rng(0)
        for side in ("train", "test"):
            (tmp_path / "pictures" / side / "cat").mkdir(parents=True)
            for i in range(3):
                pixels = generator.integers(0, 256, (16, 16, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / "pictures" / side / "cat" / f"{i}.png")
        return tmp_path / "pictures"


def test_every_data_set_has_a_case() -> None:
    tested = {getattr(each, "name", None) for each in globals().values()}
    assert tested >= set(DATASETS)
