"""No test image shares a pixel with a training image, in any data set.

Every pixel of every source image gets a colour of its own (24 bits tell 16.7 million apart), and
nothing is resized: a colour found on both sides would be a pixel found on both sides. Where images
are shrunk, this happens after the division, image by image; the same division is used.
"""

import os
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kod_bench.data import DatasetOptions, ImageDataset, load_dataset, photographs, views
from kod_bench.data.decoder import decode
from kod_bench.data.views import make_view

SHARED = Path(__file__).resolve().parents[2] / "../shared/data"
_USC_SIPI = [f"1.{part}.{number:02d}.png" for part in (1, 2) for number in range(1, 14)]
_FVC = [f"{finger}_{impression}.png" for finger in range(101, 109) for impression in range(1, 5)]
_SOCOFING = [
    name
    for person in range(1, 4)
    for name in (
        f"Real/{person}__M_Left_thumb_finger.png",
        f"Real/{person}__M_Right_thumb_finger.png",
        f"Altered/{person}__M_Left_thumb_finger_CR.png",
        f"Altered/{person}__M_Left_thumb_finger_Obl.png",
    )
]
_CLASSES = [f"{name}/{i}.png" for name in ("asphalt", "grass", "sand") for i in range(4)]
_DIVIDED = [f"{side}/{name}" for side in ("train", "test") for name in _CLASSES]


def tagged(first: int, height: int, width: int) -> np.ndarray:
    """(H, W, 3): the pixels' numbers from `first` on, as colours."""
    numbers = first + np.arange(height * width, dtype=np.int64).reshape(height, width)
    return np.stack([numbers >> 16 & 255, numbers >> 8 & 255, numbers & 255], -1).astype(np.uint8)


def tags(images: np.ndarray) -> np.ndarray:
    """Which numbers are among the pixels of (N, 3, H, W), a truth value each."""
    found = np.zeros(2**24, bool)
    for image in images:
        red, green, blue = image.astype(np.int32)
        found[red << 16 | green << 8 | blue] = True
    return found


def assert_apart(dataset: ImageDataset) -> None:
    train, test = tags(dataset.train.numpy()), tags(dataset.test.numpy())
    assert train.any()
    assert test.any()
    assert not (train & test).any()


def write_tagged(root: Path, names: Iterable[str], height: int, width: int) -> Path:
    for number, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = tagged(number * height * width, height, width)
        Image.fromarray(pixels).save(root / name, compress_level=1)
    return root


@pytest.fixture(autouse=True)
def _ridges_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views, "ridge_mask", lambda image, _: np.ones(image.shape[:2], bool))


@pytest.mark.parametrize(
    ("name", "names", "side"),
    [
        ("fingerprints", _FVC, 48),
        ("fingerprints", _SOCOFING, 48),
        ("fingerprints", ["a.png", "b/a.png", "b/c.png"], 48),
        ("textures", _USC_SIPI, 80),
        ("terrain", _CLASSES, 64),
        ("terrain", _DIVIDED, 64),
        ("cifar10", _DIVIDED, 32),
        ("folder", _CLASSES, 50),
        ("folder", _DIVIDED, 50),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
@pytest.mark.parametrize("view", ["patches", "whole"])
def test_layouts(tmp_path: Path, name: str, names: list[str], side: int, view: str) -> None:
    root = write_tagged(tmp_path / "data", names, side, side)
    is_folder = name == "folder"
    dataset = load_dataset(
        DatasetOptions(
            name=f"folder:{root}" if is_folder else name,
            image_size=side if view == "whole" else 16,
            view=view,
            scale=1.0,
            color="rgb",
        ),
        None if is_folder else root,
    )
    assert_apart(dataset)


@pytest.mark.parametrize("name", ["textures", "terrain"])
@pytest.mark.parametrize(("size", "share"), [(32, 0.2), (16, 0.5), (64, 0.1), (200, 0.2)])
def test_builtin_photographs(
    monkeypatch: pytest.MonkeyPatch, name: str, size: int, share: float
) -> None:
    offsets = {"brick": 0, "grass": 1, "gravel": 2}
    side = 512

    def load(photograph: str) -> np.ndarray:
        return tagged(offsets[photograph] * side * side, side, side)

    monkeypatch.setattr(photographs, "_load", load)
    dataset = load_dataset(
        DatasetOptions(name=name, image_size=size, scale=1.0, color="rgb", test_share=share), None
    )
    assert_apart(dataset)
    columns = [np.flatnonzero(tags(s.numpy())) % side for s in (dataset.train, dataset.test)]
    assert columns[1].min() - columns[0].max() > photographs.GAP


@pytest.mark.parametrize("smallest_scale", [1.0, 0.5, 0.25])
@pytest.mark.parametrize("size", [8, 32, 64, 128])
@pytest.mark.parametrize("share", [0.05, 0.2, 0.5])
def test_parts_of_a_photograph_do_not_touch(smallest_scale: float, size: int, share: float) -> None:
    train, test = photographs.regions(512, share, size, smallest_scale)
    assert 0 == train.start < train.stop
    assert test.start - train.stop == photographs.GAP
    assert test.stop == 512
    if 2 * size / smallest_scale + photographs.GAP <= 512:
        for part in (train, test):
            assert part.stop - part.start >= size / smallest_scale, "a patch fits at every scale"


_REAL = [
    ("fingerprints", "fingerprints-fvc2002-db1b"),
    ("textures", "textures-brodatz"),
    ("cifar10", "cifar10"),
]


def shared(folder: str) -> Path:
    if not (SHARED / folder).is_dir():
        pytest.skip(f"needs ../shared/data/{folder} beside the checkout")
    return SHARED / folder


@pytest.mark.parametrize(("name", "folder"), _REAL)
def test_real_sets_by_their_hashes(
    name: str, folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each real file's own views, hashed: all on one side of the prepared set, never on both."""
    monkeypatch.undo()  # prints keep their ridge masks
    root = shared(folder)
    options = DatasetOptions(name=name, image_size=32)
    dataset = load_dataset(options, root, tmp_path)
    train, test = (
        {image.tobytes() for image in side.numpy()} for side in (dataset.train, dataset.test)
    )
    assert not train & test
    subject = {"fingerprints": "print", "textures": "texture", "cifar10": "picture"}[name]
    found = 0
    for path in sorted(root.rglob("*.*"))[:: 20 if name == "cifar10" else 3]:
        own = make_view(decode(path, options.color).pixels, options, subject)
        own = own[:, None] if own.ndim == 3 else np.moveaxis(own, 3, 1)
        hashes = {np.ascontiguousarray(image).tobytes() for image in own}
        assert hashes <= train or hashes <= test
        found += 1
    assert found > 8


@pytest.mark.parametrize(("name", "folder"), _REAL)
def test_real_sets_pixel_by_pixel(name: str, folder: str, tmp_path: Path) -> None:
    """The real file names and sizes (prints and textures smaller), with tagged pixels."""
    names = sorted(
        Path(base, file).relative_to(shared(folder)).with_suffix(".png").as_posix()
        for base, _, files in os.walk(shared(folder))
        for file in files
    )
    height, width = {"fingerprints": (187, 194), "textures": (128, 128), "cifar10": (32, 32)}[name]
    root = write_tagged(tmp_path / "data", names, height, width)
    options = DatasetOptions(name=name, image_size=32, scale=1.0, color="rgb")
    assert_apart(load_dataset(options, root, tmp_path / "cache"))


def test_the_check_sees_an_overlap(tmp_path: Path) -> None:
    root = write_tagged(tmp_path / "data", ["train/a/1.png", "test/b/1.png"], 32, 32)
    pixels = np.asarray(Image.open(root / "train/a/1.png")).copy()
    pixels[:, :16] = 7
    Image.fromarray(pixels).save(root / "test/b/1.png")
    options = DatasetOptions(name="cifar10", image_size=32)
    with pytest.raises(AssertionError):
        assert_apart(load_dataset(options, root))


def test_equal_patches_of_different_images_stay_on_the_test_side(
    tmp_path: Path, ridges: Callable[..., np.ndarray]
) -> None:
    common = ridges(0, 32, 32)
    for number, name in enumerate(["train/a/1.png", "test/b/1.png"]):
        other = ridges(number + 1, 32, 32)
        (tmp_path / "data" / name).parent.mkdir(parents=True)
        Image.fromarray(np.hstack([common, other])).save(tmp_path / "data" / name)
    options = DatasetOptions(
        name=f"folder:{tmp_path / 'data'}", image_size=32, view="patches", scale=1.0
    )
    dataset = load_dataset(options, None)
    assert "dropped 1 training images that are equal to test images" in dataset.warnings
    assert (len(dataset.train), len(dataset.test)) == (2, 3)
