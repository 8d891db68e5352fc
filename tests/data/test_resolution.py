"""Scans of several resolutions: brought to one, or refused."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from kod_bench.data import DataError, DatasetOptions, ImageDataset, load_dataset
from kod_bench.data.resolution import common_resolution, read_dpi


def waves(seed: int, period: float, side: int) -> np.ndarray:
    """A plane wave, `period` pixels long."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side]
    angle = generator.uniform(0, np.pi)
    wave = np.cos(2 * np.pi * (np.cos(angle) * x + np.sin(angle) * y) / period)
    return np.clip(128 + 100 * wave + generator.normal(0, 4, (side, side)), 0, 255).astype(np.uint8)


def periods(images: np.ndarray) -> np.ndarray:
    """Pixels from ridge to ridge of (N, 1, H, W)."""
    side = images.shape[-1]
    window = np.hanning(side)[:, None] * np.hanning(side)
    power = np.abs(np.fft.fft2((images[:, 0] - 128.0) * window, s=(256, 256))) ** 2
    power[:, 0, 0] = 0
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(256), np.fft.fftfreq(256)))
    return 1 / frequency.ravel()[power.reshape(len(images), -1).argmax(axis=1)]


@pytest.fixture
def scans(tmp_path: Path) -> Callable[..., Path]:
    """Writes prints: {name: (dpi in the file or None, its true dpi)}."""

    def write(**fingers: tuple[float | None, int]) -> Path:
        root = tmp_path / "scans"
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir()
        for seed, (stem, (said, true)) in enumerate(fingers.items()):
            image = Image.fromarray(waves(seed, 9 * true / 500, 160 * true // 500))
            name = stem.removeprefix("n") + ".png"
            image.save(root / name, **({} if said is None else {"dpi": (said, said)}))
        return root

    return write


def load(root: Path, cache: Path, **options: object) -> ImageDataset:
    given = {"name": "fingerprints", "image_size": 32, "scale": 0.5, **options}
    return load_dataset(DatasetOptions.model_validate(given), root, cache)


MIXED = {f"n{i}_1": ((500, 500), (1000, 1000))[i % 2] for i in range(6)}


def test_scans_of_1000_dpi_are_brought_to_the_500_of_the_others(
    scans: Callable[..., Path], tmp_path: Path
) -> None:
    dataset = load(scans(**MIXED), tmp_path / "cache")
    found = periods(np.concatenate([dataset.train.numpy(), dataset.test.numpy()]))
    assert np.allclose(found, 4.5, atol=0.3)
    assert dataset.warnings == ("brought 3 of 6 scans from 1000 dpi to the others' 500 dpi",)


def test_an_archive_of_them_is_the_same(scans: Callable[..., Path], tmp_path: Path) -> None:
    root = scans(**MIXED)
    archive = shutil.make_archive(str(tmp_path / "scans"), "zip", root)
    one, other = load(root, tmp_path / "a"), load(Path(archive), tmp_path / "b")
    assert one.content_hash == other.content_hash
    assert one.warnings == other.warnings


def test_the_check_sees_two_scales(scans: Callable[..., Path], tmp_path: Path) -> None:
    dataset = load(scans(**MIXED), tmp_path / "cache", dpi="ignore")
    found = periods(np.concatenate([dataset.train.numpy(), dataset.test.numpy()]))
    assert found.max() > 1.8 * found.min()
    assert dataset.warnings == ()


def test_sd300_names_say_the_resolution(scans: Callable[..., Path], tmp_path: Path) -> None:
    """SD300's files of 2000 dpi say 5080 inside: the name is believed."""
    root = scans(
        **{f"n0000100{i}_roll_500_01": (500, 500) for i in range(3)},
        **{f"n0000100{i}_roll_2000_02": (5080, 2000) for i in range(3)},
    )
    dataset = load(root, tmp_path / "cache")
    found = periods(np.concatenate([dataset.train.numpy(), dataset.test.numpy()]))
    assert np.allclose(found, 4.5, atol=0.3)
    assert dataset.warnings == ("brought 3 of 6 scans from 2000 dpi to the others' 500 dpi",)


def test_what_does_not_say_its_resolution_beside_1000_dpi_is_refused(
    scans: Callable[..., Path], tmp_path: Path
) -> None:
    root = scans(**{**MIXED, "n7_1": (None, 500), "n8_1": (72, 500)})
    with pytest.raises(DataError) as raised:
        load(root, tmp_path / "cache")
    message = str(raised.value)
    assert "1_1.png is of 1000 dpi, and 2 of 8 files do not say" in message
    assert "7_1.png, 8_1.png" in message
    assert "dpi: 500" in message
    assert "dpi: ignore" in message
    dataset = load(root, tmp_path / "cache", dpi=500)
    found = periods(np.concatenate([dataset.train.numpy(), dataset.test.numpy()]))
    assert np.allclose(found, 4.5, atol=0.3)


def test_whole_images_need_no_resolution(scans: Callable[..., Path], tmp_path: Path) -> None:
    root = scans(**{**MIXED, "n7_1": (None, 500)})
    assert load(root, tmp_path / "cache", view="whole").warnings == ()


@pytest.mark.parametrize("said", [None, 72, 96, 500, 508, 512])
def test_one_resolution_is_left_as_it_is(
    scans: Callable[..., Path], tmp_path: Path, said: float | None
) -> None:
    """So that what was prepared of a folder of one scanner stays what it was."""
    plain = load(scans(**{f"n{i}_1": (None, 500) for i in range(4)}), tmp_path / "cache")
    other = load(scans(**{f"n{i}_1": (said, 500) for i in range(4)}), tmp_path / "cache")
    assert other.content_hash == plain.content_hash
    assert other.warnings == ()


def test_a_folder_of_1000_dpi_alone_is_left_and_remarked(
    scans: Callable[..., Path], tmp_path: Path
) -> None:
    dataset = load(scans(**{f"n{i}_1": (1000, 1000) for i in range(4)}), tmp_path / "cache")
    assert np.allclose(periods(dataset.train.numpy()), 9, atol=0.6)
    assert dataset.warnings == (
        "the scans are of 1000 dpi: at scale 0.25 their ridges are as far apart as those of 500 "
        "dpi at scale 0.5",
    )


def test_the_lowest_resolution_is_common() -> None:
    names = ["a", "b", "c", "d"]
    found = common_resolution([2000, 1000, 1000, 508], names, "folder", None)
    assert np.allclose(found.factors, [508 / 2000, 0.508, 0.508, 1])
    assert common_resolution([None] * 4, names, "folder", None).factors == ()
    assert common_resolution([None, 500, 500, 512], names, "folder", None).factors == ()
    assert common_resolution([None, 1000, 1000, 1000], names, "folder", 1000).factors == ()
    with pytest.raises(DataError, match="d is of 250 dpi, and 3 of 4"):
        common_resolution([None, None, None, 250], names, "folder", None)


@pytest.mark.parametrize(
    ("dpi", "found"),
    [((500, 500), 500), ((1000, 1000), 1000), ((72, 72), None), ((500, 1000), None), (None, None)],
)
@pytest.mark.parametrize("suffix", ["png", "tif", "bmp", "jpg"])
def test_what_files_say(
    tmp_path: Path, suffix: str, dpi: tuple[int, int] | None, found: int | None
) -> None:
    """Of a TIFF without the tags, Pillow 12 itself says 1 dpi; of a BMP without, 0."""
    path = tmp_path / f"x.{suffix}"
    Image.new("L", (9, 9)).save(path, **({} if dpi is None else {"dpi": dpi}))
    said = read_dpi(path)
    assert said is None if found is None else said == pytest.approx(found, rel=1e-3)


def test_a_file_that_is_no_image_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(b"no image")
    assert read_dpi(tmp_path / "x.png") is None
    assert read_dpi(tmp_path / "absent.png") is None


@pytest.mark.parametrize("wrong", [0, 49, 10_001, "file", 500.5, None])
def test_what_is_no_resolution_is_refused(wrong: object) -> None:
    given = {"name": "fingerprints", "image_size": 32, "dpi": wrong}
    with pytest.raises(ValidationError, match="must be auto, ignore, or a whole number from 50"):
        DatasetOptions.model_validate(given)


def test_only_prints_have_one() -> None:
    with pytest.raises(ValidationError, match="only fingerprints are scans of a known size"):
        DatasetOptions(name="textures", image_size=32, dpi=500)
