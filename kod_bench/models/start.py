"""Images of a user's own that sampling starts from, as they are: nothing is resized."""

from pathlib import Path

from torch import Tensor

from kod_bench.errors import UsageError
from kod_bench.evaluation.folders import ImageFolder


def read_start(path: Path, shape: tuple[int, int, int]) -> Tensor:
    """Read images that a model of this shape can start from.

    Args:
        path: folder, .npz or .npy.
        shape: (C, H, W) of the model's images.

    Returns:
        (N, C, H, W) uint8, in the order of their names.

    Raises:
        UsageError: if they are of another size or colour, of more than 8 bits, or cannot be read.
    """
    folder = ImageFolder(path, least=1)
    channels, height, width = shape
    if folder.sizes != {(height, width)}:
        found = ", ".join(f"{w}x{h}" for h, w in sorted(folder.sizes)[:5])
        raise UsageError(
            f"--start {path}: holds images of {found} pixels; the model's have {width}x{height}, "
            "and nothing is resized"
        )
    if folder.is_deep:
        raise UsageError(f"--start {path}: holds images of more than 8 bits; convert them")
    images = folder.load()
    if channels == images.shape[1]:
        return images
    first = images[:, :1]
    if channels != 1 or not bool((images == first).all()):
        raise UsageError(
            f"--start {path}: holds images in colour; the model's have {channels} channel(s)"
        )
    return first.contiguous()
