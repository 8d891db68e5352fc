import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from kod_bench.data import (
    DataError,
    DatasetOptions,
    ImageDataset,
    cache,
    default_data_dir,
    load_dataset,
    workers,
)
from kod_bench.data.decoder import decode
from kod_bench.data.views import make_view

Prints = Callable[..., Path]


def pixel_sets(dataset: ImageDataset) -> tuple[set[bytes], set[bytes]]:
    train, test = (
        {image.numpy().tobytes() for image in side} for side in (dataset.train, dataset.test)
    )
    return train, test


def patches_of(path: Path, options: DatasetOptions) -> set[bytes]:
    """The prepared patches of one file, found by preparing that file alone."""
    view = make_view(decode(path, options.color).pixels, options, "print")
    return {image.tobytes() for image in view}


def entries(cache_dir: Path) -> list[Path]:
    """What the cache holds besides remembered hashes."""
    return [path for path in cache_dir.iterdir() if path.name != ".hashes"]


def test_tensors(prints: Prints, options: DatasetOptions) -> None:
    dataset = load_dataset(options, prints())
    for side in (dataset.train, dataset.test):
        assert side.dtype == torch.uint8
        assert side.shape[1:] == (1, 16, 16)
        assert len(side) > 0
    assert dataset.name == "fingerprints"
    assert dataset.warnings == ()
    assert len(dataset.content_hash) >= 16
    assert "2 and 1 fingers" in dataset.description
    assert f"{len(dataset.train)} training and {len(dataset.test)} test" in dataset.description


def test_no_finger_and_no_image_on_both_sides(prints: Prints, options: DatasetOptions) -> None:
    root = prints()
    train, test = pixel_sets(load_dataset(options, root))
    assert not train & test
    for finger in (1, 2, 3):
        own = patches_of(root / f"{finger}_1.png", options) | patches_of(
            root / f"{finger}_2.png", options
        )
        assert own <= train or own <= test


def test_same_result_twice_and_in_another_cache(
    prints: Prints, options: DatasetOptions, tmp_path: Path
) -> None:
    root = prints()
    first, cached, elsewhere = (
        load_dataset(options, root, tmp_path / name) for name in ("one", "one", "two")
    )
    assert first.content_hash == cached.content_hash == elsewhere.content_hash
    assert torch.equal(first.train, elsewhere.train)
    assert first.description == cached.description


def test_paths_and_time_stamps_do_not_matter(prints: Prints, options: DatasetOptions) -> None:
    root = prints()
    moved = root.with_name("moved")
    for path in root.iterdir():
        finger, impression = path.stem.split("_")
        target = moved / "deep" / f"{int(finger) * 7919 % 10}_{impression}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
        os.utime(target, (0, 0))
    assert load_dataset(options, root).content_hash == load_dataset(options, moved).content_hash


def test_options_matter(prints: Prints, options: DatasetOptions) -> None:
    root = prints()
    changes: list[dict[str, object]] = [
        {},
        {"image_size": 8},
        {"scale": 1.0},
        {"view": "whole"},
        {"test_share": 0.5},
        {"max_patches_per_image": 2},
    ]
    hashes = {
        load_dataset(options.model_copy(update=change), root).content_hash for change in changes
    }
    assert len(hashes) == len(changes)


def test_limited_patches_are_some_of_all(prints: Prints, options: DatasetOptions) -> None:
    root = prints()
    limited = load_dataset(options.model_copy(update={"max_patches_per_image": 2}), root)
    assert len(limited.train) + len(limited.test) == 6 * 2
    for few, all_of_them in zip(
        pixel_sets(limited), pixel_sets(load_dataset(options, root)), strict=True
    ):
        assert few < all_of_them


def test_whole_view(prints: Prints, options: DatasetOptions) -> None:
    dataset = load_dataset(options.model_copy(update={"view": "whole"}), prints())
    assert dataset.train.shape == (4, 1, 16, 16)
    assert dataset.test.shape == (2, 1, 16, 16)


def test_a_bad_file_among_good_ones_is_named(prints: Prints, options: DatasetOptions) -> None:
    root = prints()
    good = load_dataset(options, root)
    (root / "broken.png").write_bytes((root / "1_1.png").read_bytes()[:200])
    (root / "empty.tif").touch()
    (root / "text.jpg").write_text("no image")
    Image.new("L", (1, 1)).save(root / "dot.bmp")
    Image.new("L", (90, 90), 255).save(root / "white.png")
    dataset = load_dataset(options, root)
    assert dataset.content_hash == good.content_hash
    (warning,) = dataset.warnings
    assert warning.startswith("skipped 5 unusable images: broken.png (damaged: ")
    assert "dot.bmp (1x1 pixels, too small), empty.tif (empty file) and 2 more" in warning
    assert "5 images skipped" in dataset.description
    assert load_dataset(options, root).warnings == dataset.warnings, "from the cache, too"


def test_duplicates_are_dropped_and_counted(prints: Prints, options: DatasetOptions) -> None:
    root = prints()
    before = load_dataset(options, root)
    # Another name, format and folder, the same pixels.
    (root / "a").mkdir()
    Image.open(root / "1_1.png").save(root / "a/copy.bmp")
    after = load_dataset(options, root)
    assert after.warnings == ("dropped 1 exact duplicate: a/copy.bmp",)
    assert after.content_hash == before.content_hash


def test_a_copy_that_comes_first_does_not_leak_its_finger(
    prints: Prints, options: DatasetOptions
) -> None:
    root = prints()
    before = load_dataset(options, root)
    for finger in (1, 2, 3):
        shutil.copy(root / f"{finger}_1.png", root / f"0 copy of {finger}.png")
    assert load_dataset(options, root).content_hash == before.content_hash


@pytest.mark.parametrize("bad", [b"", b"text"])
def test_only_unreadable_images(tmp_path: Path, options: DatasetOptions, bad: bytes) -> None:
    for i in range(5):
        (tmp_path / f"{i}.png").write_bytes(bad)
    with pytest.raises(DataError, match="holds no usable image: skipped 5 unusable") as error:
        load_dataset(options, tmp_path)
    assert "\n" not in str(error.value)


def test_one_finger_cannot_be_split(prints: Prints, options: DatasetOptions) -> None:
    with pytest.raises(DataError, match="at least 2 groups of images, found 1, in 2 images"):
        load_dataset(options, prints("1_1.png", "1_2.png"))


def test_images_smaller_than_a_patch(prints: Prints, options: DatasetOptions) -> None:
    with pytest.raises(DataError, match=r"12x12 pixels at scale 0\.5, smaller than a patch"):
        load_dataset(options, prints(shape=(24, 24)))


def test_a_missing_folder(tmp_path: Path, options: DatasetOptions) -> None:
    with pytest.raises(DataError, match=r"data folder .*nowhere does not exist"):
        load_dataset(options, tmp_path / "nowhere")


def test_the_environment_names_the_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, options: DatasetOptions
) -> None:
    assert default_data_dir() is None
    monkeypatch.setenv("KOD_BENCH_DATA", str(tmp_path))
    assert default_data_dir() == tmp_path


def test_progress_is_told(prints: Prints, options: DatasetOptions) -> None:
    lines: list[str] = []
    root = prints()
    load_dataset(options, root, progress=lines.append)
    assert any("6 of 6 done" in line for line in lines)
    lines.clear()
    load_dataset(options, root, progress=lines.append)
    assert len(lines) == 1
    assert "prepared before" in lines[0]


def test_new_content_under_an_old_name_is_noticed(
    prints: Prints, ridges: Callable[..., np.ndarray], options: DatasetOptions
) -> None:
    root = prints()
    before = load_dataset(options, root)
    status = (root / "1_1.png").stat()
    Image.fromarray(ridges(99)).save(root / "1_1.png")
    os.utime(root / "1_1.png", ns=(status.st_atime_ns, status.st_mtime_ns))
    assert load_dataset(options, root).content_hash != before.content_hash


def test_a_damaged_cache_is_rebuilt(
    prints: Prints, options: DatasetOptions, tmp_path: Path
) -> None:
    root = prints()
    before = load_dataset(options, root, tmp_path / "cache").content_hash
    (entry,) = entries(tmp_path / "cache")
    (entry / "train.npy").write_bytes(b"")
    assert load_dataset(options, root, tmp_path / "cache").content_hash == before


def test_an_interrupted_preparation_leaves_no_entry(
    prints: Prints, options: DatasetOptions, tmp_path: Path
) -> None:
    def interrupt(line: str) -> None:
        raise KeyboardInterrupt

    root = prints()
    with pytest.raises(KeyboardInterrupt):
        load_dataset(options, root, tmp_path / "cache", progress=interrupt)
    assert entries(tmp_path / "cache") == []
    assert load_dataset(options, root, tmp_path / "cache").warnings == ()


def test_an_unwritable_cache_is_reported_before_the_work(
    prints: Prints, options: DatasetOptions, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    lines: list[str] = []
    with pytest.raises(DataError, match="KOD_BENCH_CACHE"):
        load_dataset(options, prints(), tmp_path / "file", progress=lines.append)
    assert lines == []


def test_a_cache_that_can_only_be_read_serves(
    prints: Prints, options: DatasetOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = prints()
    load_dataset(options, root, tmp_path / "cache")
    monkeypatch.setattr(cache, "staging_folder", None)
    load_dataset(options, root, tmp_path / "cache")


@pytest.fixture
def few(options: DatasetOptions) -> DatasetOptions:
    values = options.model_dump() | {"synthetic": {"fingers": 2, "impressions": 1}}
    return DatasetOptions.model_validate(values)


def test_synthetic_images_say_so_and_repeat(
    few: DatasetOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = load_dataset(few, None, tmp_path / "one")
    assert one.name == "fingerprints-synthetic"
    assert "1 and 1 fingers" in one.description
    train, test = pixel_sets(one)
    assert not train & test
    monkeypatch.setattr(workers, "_MAX_WORKERS", 1)
    assert load_dataset(few, None, tmp_path / "two").content_hash == one.content_hash


def test_synthetic_options_are_of_no_concern_to_real_images(
    prints: Prints, options: DatasetOptions, few: DatasetOptions, tmp_path: Path
) -> None:
    root = prints()
    for each in (options, few):
        load_dataset(each, root, tmp_path / "cache")
    assert len(entries(tmp_path / "cache")) == 1


def test_fvc(fvc: Path, tmp_path: Path) -> None:
    options = DatasetOptions(name="fingerprints", image_size=32)
    dataset = load_dataset(options, fvc, tmp_path)
    assert dataset.name == "fingerprints"
    assert dataset.warnings == ()
    assert "from 64 images; 6 and 2 fingers" in dataset.description
    assert len(dataset.train) >= 2000
    assert len(dataset.test) >= 512
    train, test = pixel_sets(dataset)
    assert not train & test
    sides = []
    for finger in range(101, 109):
        own = [patches_of(fvc / f"{finger}_{i}.tif", options) for i in (1, 8)]
        assert all(each <= train for each in own) or all(each <= test for each in own)
        sides.append(own[0] <= train)
    assert sum(sides) == 6


def test_any_prefix_is_a_fair_sample(fvc: Path, tmp_path: Path) -> None:
    options = DatasetOptions(name="fingerprints", image_size=32)
    means = load_dataset(options, fvc, tmp_path).train.float().mean((1, 2, 3)).numpy()
    standard_error = means.std() / np.sqrt(256)
    assert abs(means[:256].mean() - means.mean()) < 4 * standard_error


@pytest.mark.slow
def test_the_default_synthetic_set_is_large_enough(tmp_path: Path) -> None:
    dataset = load_dataset(DatasetOptions(name="fingerprints", image_size=32), None, tmp_path)
    assert len(dataset.train) >= 2000
    assert len(dataset.test) >= 512
    assert dataset.warnings == ()
