"""From one image to the squares a network sees. HW or HWC uint8 => NHW or NHWC; angles pass."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from kod_bench.data.files import AngleField, SkippedImageError, SourcePixels
from kod_bench.data.options import DatasetOptions

#: (N, H, W) or (N, H, W, 3) intensities; (N, H, W) angles.
Views = NDArray[np.uint8] | NDArray[np.float32]
PixelArray = NDArray[np.uint8] | NDArray[np.float32]  # (N, C, H, W)

RIDGE_SHARE = 0.6  # of a patch that must be ridges
_WHITE = 255
_WINDOW = 16  # pixels of the original image: nearly two ridge periods at 500 dpi
_MIN_CONTRAST = 8.0  # gray levels; fainter than this is sensor noise

Subject = Literal["print", "texture", "picture", "map", "angles"]
"""What an image shows: a print on white paper, a texture up to its edges, the whole sphere on the
grid that the data set asks for, a field of angles of the size that it asks for, or anything."""


def resize(image: SourcePixels, height: int, width: int) -> SourcePixels:
    """Resizes; Pillow widens its bicubic kernel when shrinking, so nothing aliases."""
    resized = Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(resized, np.uint8)


def pad_to_square(image: SourcePixels) -> SourcePixels:
    """The image in the middle of a white square, so that its ridges keep their shape."""
    height, width = image.shape[:2]
    side = max(height, width)
    top, left = (side - height) // 2, (side - width) // 2
    square = np.full((side, side, *image.shape[2:]), _WHITE, np.uint8)
    square[top : top + height, left : left + width] = image
    return square


def crop_to_square(image: SourcePixels) -> SourcePixels:
    """The middle of the image."""
    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return image[top : top + side, left : left + side]


def trim_border(image: SourcePixels) -> SourcePixels:
    """Takes away rows and columns of one colour at the edges: the scanner's, not the texture's."""
    planes = image.reshape(*image.shape[:2], -1)
    rows = np.flatnonzero((planes != planes[:, :1]).any(axis=(1, 2)))
    columns = np.flatnonzero((planes != planes[:1]).any(axis=(0, 2)))
    if not len(rows) or not len(columns):
        return image
    return image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def ridge_mask(image: SourcePixels, window: int) -> NDArray[np.bool_]:
    """Where an image has ridges: high contrast within a window, after a majority vote.

    The threshold follows the image's own strong contrast, so that faint prints count and the ghost
    of an earlier finger on the sensor does not.
    """
    pixels = image.astype(np.float32)
    if pixels.ndim == 3:
        pixels = pixels.mean(axis=2)
    mean = ndimage.uniform_filter(pixels, window)
    variance = ndimage.uniform_filter(pixels**2, window) - mean**2
    contrast = np.sqrt(np.maximum(variance, 0))
    threshold = max(_MIN_CONTRAST, 0.35 * float(np.percentile(contrast, 95)))
    votes = ndimage.uniform_filter((contrast > threshold).astype(np.float32), 2 * window)
    return np.asarray(votes > 0.5)


def patch_view(image: SourcePixels, size: int, scale: float, subject: Subject) -> NDArray[np.uint8]:
    """Squares on a regular grid, half overlapping; none that is blank.

    Of a print, only those of which `RIDGE_SHARE` or more are ridges.

    Raises:
        SkippedImageError: The image yields no patch.
    """
    height, width = (round(side * scale) for side in image.shape[:2])
    if min(height, width) < size:
        raise SkippedImageError(f"{width}x{height} pixels at scale {scale:g}, smaller than a patch")
    shrunk = resize(image, height, width)
    stride = size // 2
    corners = [
        (top, left) for top in _grid(height, size, stride) for left in _grid(width, size, stride)
    ]
    if subject == "print":
        mask = ridge_mask(shrunk, max(4, round(_WINDOW * scale)))
        corners = [
            (top, left)
            for top, left in corners
            if mask[top : top + size, left : left + size].mean() >= RIDGE_SHARE
        ]
    patches = [shrunk[top : top + size, left : left + size] for top, left in corners]
    patches = [patch for patch in patches if patch.min() < patch.max()]
    if not patches:
        raise SkippedImageError(
            "no patch with enough ridges" if subject == "print" else "nothing but blank patches"
        )
    return np.stack(patches)


def _grid(length: int, size: int, stride: int) -> range:
    """Starts of the windows along one axis, centred so that both margins lose the same."""
    margin = (length - size) % stride // 2
    return range(margin, length - size + 1, stride)


def make_view(found: SourcePixels | AngleField, options: DatasetOptions, subject: Subject) -> Views:
    """The view of an image that the options ask for.

    As a whole, a print is padded with white and anything else cropped to a square. Patches of
    several scales are cut at those at which the image is large enough.

    Raises:
        SkippedImageError: The image has nothing to show.
    """
    if subject == "angles":  # of which equal ones are no blank page
        return np.asarray(found if found.ndim == 3 else found[None], np.float32)
    image = np.asarray(found, np.uint8)
    if image.min() == image.max():
        raise SkippedImageError("blank")
    if subject == "map":
        return image[None]
    if subject == "texture":
        image = trim_border(image)
    size = options.image_size
    if options.view == "whole":
        square = pad_to_square(image) if subject == "print" else crop_to_square(image)
        return resize(square, size, size)[None]
    views: list[NDArray[np.uint8]] = []
    reasons: list[SkippedImageError] = []
    for scale in options.scales:
        try:
            views.append(patch_view(image, size, scale, subject))
        except SkippedImageError as error:
            reasons.append(error)
    if not views:
        raise reasons[0]
    return np.concatenate(views)
