from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kod_bench.data import DatasetOptions

FVC = Path(__file__).resolve().parents[2] / "../shared/data/fingerprints-fvc2002-db1b"


def _ridges(seed: int, height: int = 80, width: int = 72) -> np.ndarray:
    """A plane wave with noise: passes for a print, in no time."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    angle = generator.uniform(0, np.pi)
    wave = np.cos(2 * np.pi * (np.cos(angle) * x + np.sin(angle) * y) / 9)
    noise = generator.normal(0, 8, (height, width))
    return np.clip(128 + 100 * wave + noise, 0, 255).astype(np.uint8)


@pytest.fixture
def fvc() -> Path:
    if not FVC.is_dir():
        pytest.skip("needs ../shared/data/fingerprints-fvc2002-db1b beside the checkout")
    return FVC


@pytest.fixture
def ridges() -> Callable[..., np.ndarray]:
    """(seed, height, width) => an image that passes for a print."""
    return _ridges


@pytest.fixture
def options() -> DatasetOptions:
    return DatasetOptions(name="fingerprints", image_size=16)


@pytest.fixture
def prints(tmp_path: Path) -> Callable[..., Path]:
    """Writes a folder of prints, by default three fingers with two impressions each."""

    def write(
        *names: str, folder: str = "prints", first_seed: int = 0, shape: tuple[int, int] = (80, 72)
    ) -> Path:
        root = tmp_path / folder
        names = names or tuple(f"{finger}_{i}.png" for finger in (1, 2, 3) for i in (1, 2))
        for seed, name in enumerate(names, start=first_seed):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(_ridges(seed, *shape)).save(root / name)
        return root

    return write


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test reads a user's data or writes into a user's cache."""
    monkeypatch.delenv("KOD_BENCH_DATA", raising=False)
    monkeypatch.setenv("KOD_BENCH_CACHE", str(tmp_path / "default-cache"))
