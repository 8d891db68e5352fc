from collections.abc import Callable

import numpy as np
import pytest

from kod_bench.data import DatasetOptions
from kod_bench.data.files import SkippedImageError
from kod_bench.data.views import (
    crop_to_square,
    make_view,
    pad_to_square,
    patch_view,
    resize,
    ridge_mask,
    trim_border,
)

Ridges = Callable[..., np.ndarray]


def whole_view(image: np.ndarray, size: int) -> np.ndarray:
    return resize(pad_to_square(image), size, size)[None]


def test_whole_view_pads_with_white_and_keeps_proportions() -> None:
    view = whole_view(np.zeros((100, 50), np.uint8), 32)
    assert view.shape == (1, 32, 32)
    assert (view[0, :, :7] == 255).all()
    assert (view[0, :, -7:] == 255).all()
    assert (view[0, 2:-2, 10:22] == 0).all()


def test_shrinking_does_not_alias() -> None:
    stripes = np.tile(np.array([0, 255], np.uint8), (128, 64))
    view = whole_view(stripes, 32)
    assert np.abs(view[0, 4:-4, 4:-4].astype(int) - 127).max() <= 2


def test_patches_overlap_by_half(ridges: Ridges) -> None:
    image = ridges(0, 64, 96)
    patches = patch_view(image, 32, 1.0, "print")
    assert patches.shape == (3 * 5, 32, 32)
    np.testing.assert_array_equal(patches[0], image[:32, :32])
    np.testing.assert_array_equal(patches[1], image[:32, 16:48])


def test_only_ridges_make_patches(ridges: Ridges) -> None:
    image = np.full((128, 256), 254, np.uint8)
    image[:, :128] = ridges(0, 128, 128)
    image[40:42, 180:182] = 90  # a speck of dust
    mask = ridge_mask(image, 16)
    assert mask[:, :112].mean() > 0.99
    assert mask[:, 144:].mean() == 0
    assert (
        0
        < len(patch_view(image, 32, 1.0, "print"))
        < len(patch_view(ridges(0, 128, 256), 32, 1.0, "print"))
    )


def test_faint_prints_count(ridges: Ridges) -> None:
    faint = (200 + ridges(0, 128, 128) / 8).astype(np.uint8)
    assert len(patch_view(faint, 32, 1.0, "print")) == 7 * 7


def test_useless_images_are_skipped(ridges: Ridges) -> None:
    options = DatasetOptions(name="fingerprints", image_size=32, scale=0.5)
    noise = np.random.default_rng(0).normal(200, 2, (99, 99)).astype(np.uint8)
    for image, reason in [
        (np.full((64, 64), 200, np.uint8), "blank"),
        (ridges(0, 62, 200), "smaller than a patch"),
        (noise, "enough ridges"),
    ]:
        with pytest.raises(SkippedImageError, match=reason):
            make_view(image, options, "print")


def test_a_picture_is_cropped_and_a_print_padded() -> None:
    image = np.zeros((40, 80, 3), np.uint8)
    image[:, 20:60] = 90
    assert (crop_to_square(image) == 90).all()
    assert pad_to_square(image).shape == (80, 80, 3)
    options = DatasetOptions(name="cifar10", image_size=8)
    image[0, 0] = 5
    assert (make_view(image, options, "picture") == 90).all()


def test_blank_patches_of_a_texture_are_left_out(ridges: Ridges) -> None:
    image = np.zeros((64, 128), np.uint8)
    image[:, :64] = ridges(0, 64, 64)
    patches = patch_view(image, 32, 1.0, "texture")
    assert len(patches) == 3 * 4
    with pytest.raises(SkippedImageError, match="nothing but blank patches"):
        patch_view(np.zeros((64, 64), np.uint8), 32, 1.0, "texture")


@pytest.mark.parametrize("channels", [(), (3,)])
def test_a_border_of_one_colour_is_trimmed(channels: tuple[int, ...]) -> None:
    texture = np.random.default_rng(0).integers(0, 256, (20, 30, *channels), dtype=np.uint8)
    framed = np.full((26, 33, *channels), 0, np.uint8)
    framed[4:24, 2:32] = texture
    np.testing.assert_array_equal(trim_border(framed), texture)
    np.testing.assert_array_equal(trim_border(texture), texture)


def test_several_scales_are_cut_side_by_side(ridges: Ridges) -> None:
    image = ridges(0, 128, 128)
    options = DatasetOptions(name="terrain", image_size=32, scale=[1.0, 0.5, 0.125])
    views = make_view(image, options, "texture")
    expected = [patch_view(image, 32, scale, "texture") for scale in (1.0, 0.5)]
    np.testing.assert_array_equal(views, np.concatenate(expected))
