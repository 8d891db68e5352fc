"""From one gray image to the squares a network sees. HW uint8 => NHW uint8."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from kod_bench.data.files import SkippedImageError
from kod_bench.data.options import DatasetOptions

GrayImage = NDArray[np.uint8]  # (H, W)
GrayImages = NDArray[np.uint8]  # (N, H, W)
PixelArray = NDArray[np.uint8]  # (N, C, H, W)

RIDGE_SHARE = 0.6  # of a patch that must be ridges
_WHITE = 255
_WINDOW = 16  # pixels of the original image: nearly two ridge periods at 500 dpi
_MIN_CONTRAST = 8.0  # gray levels; fainter than this is sensor noise


def resize(image: GrayImage, height: int, width: int) -> GrayImage:
    """Resizes; Pillow widens its bicubic kernel when shrinking, so nothing aliases."""
    resized = Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(resized, np.uint8)


def whole_view(image: GrayImage, size: int) -> GrayImages:
    """The entire image as one square, padded with white first so that ridges keep their shape."""
    height, width = image.shape
    side = max(height, width)
    top, left = (side - height) // 2, (side - width) // 2
    square = np.full((side, side), _WHITE, np.uint8)
    square[top : top + height, left : left + width] = image
    return resize(square, size, size)[None]


def ridge_mask(image: GrayImage, window: int) -> NDArray[np.bool_]:
    """Where an image has ridges: high contrast within a window, after a majority vote.

    The threshold follows the image's own strong contrast, so that faint prints count and the ghost
    of an earlier finger on the sensor does not.
    """
    pixels = image.astype(np.float32)
    mean = ndimage.uniform_filter(pixels, window)
    variance = ndimage.uniform_filter(pixels**2, window) - mean**2
    contrast = np.sqrt(np.maximum(variance, 0))
    threshold = max(_MIN_CONTRAST, 0.35 * float(np.percentile(contrast, 95)))
    votes = ndimage.uniform_filter((contrast > threshold).astype(np.float32), 2 * window)
    return np.asarray(votes > 0.5)


def patch_view(image: GrayImage, size: int, scale: float) -> GrayImages:
    """Squares on a regular grid, half overlapping, of which `RIDGE_SHARE` or more are ridges.

    Raises:
        SkippedImageError: The image yields no patch.
    """
    height, width = (round(side * scale) for side in image.shape)
    if min(height, width) < size:
        raise SkippedImageError(f"{width}x{height} pixels at scale {scale:g}, smaller than a patch")
    shrunk = resize(image, height, width)
    mask = ridge_mask(shrunk, max(4, round(_WINDOW * scale)))
    stride = size // 2
    patches = [
        shrunk[top : top + size, left : left + size]
        for top in _grid(height, size, stride)
        for left in _grid(width, size, stride)
        if mask[top : top + size, left : left + size].mean() >= RIDGE_SHARE
    ]
    if not patches:
        raise SkippedImageError("no patch with enough ridges")
    return np.stack(patches)


def _grid(length: int, size: int, stride: int) -> range:
    """Starts of the windows along one axis, centred so that both margins lose the same."""
    margin = (length - size) % stride // 2
    return range(margin, length - size + 1, stride)


def make_view(image: GrayImage, options: DatasetOptions) -> GrayImages:
    """The view of an image that the options ask for.

    Raises:
        SkippedImageError: The image has nothing to show.
    """
    if image.min() == image.max():
        raise SkippedImageError("blank")
    if options.view == "whole":
        return whole_view(image, options.image_size)
    return patch_view(image, options.image_size, options.scale)
