"""Images for tests: the real sets beside the repository, and what can be done to them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage
from torch import Tensor

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data"

REAL_SETS = {
    "fingerprints": ("fingerprints-fvc2002-db1b", "*.tif", 0.5),
    "textures": ("textures-brodatz", "*.tif*", 0.5),
    "cifar10": ("cifar10", "test/*/*.jpg", 1.0),
}


def real_images(name: str, count: int, side: int = 32) -> Tensor:
    """Random squares with something on them, (N, C, S, S) uint8, of a set in ../shared/data."""
    folder, pattern, scale = REAL_SETS[name]
    if not (SHARED / folder).is_dir():
        pytest.skip(f"needs {folder} in ../shared/data, which may not be redistributed")
    generator = np.random.default_rng(0)
    files = sorted((SHARED / folder).rglob(pattern))
    if scale == 1.0:
        chosen = generator.choice(len(files), count, replace=False)
        return torch.stack([read(files[i]) for i in chosen])
    pages = [read(path, scale) for path in files]
    squares: list[Tensor] = []
    while len(squares) < count:
        page = pages[generator.integers(len(pages))]
        top, left = (int(generator.integers(length - side + 1)) for length in page.shape[1:])
        square = page[:, top : top + side, left : left + side]
        if square.float().std() > 20:
            squares.append(square)
    return torch.stack(squares)


def read(path: Path, scale: float = 1.0) -> Tensor:
    with Image.open(path) as image:
        size = (int(image.width * scale), int(image.height * scale))
        pixels = np.array(image.resize(size, Image.Resampling.BICUBIC))
    return torch.from_numpy(pixels.reshape(*pixels.shape[:2], -1)).permute(2, 0, 1)


def blurred(images: Tensor, radius: float = 1.0) -> Tensor:
    smooth = ndimage.gaussian_filter(images.numpy().astype(np.float32), (0, 0, radius, radius))
    return torch.from_numpy(smooth.round().clip(0, 255).astype(np.uint8))


def noise_like(images: Tensor, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, images.shape, dtype=torch.uint8, generator=generator)


def grating(angle: float, frequency: float, side: int = 64, contrast: float = 100.0) -> Tensor:
    """Stripes whose gradient points along `angle`, (1, 1, S, S) uint8."""
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    phase = 2 * torch.pi * frequency * (x * np.cos(angle) + y * np.sin(angle))
    return (127.5 + contrast * phase.sin()).round().to(torch.uint8)[None, None]
