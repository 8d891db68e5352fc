"""Are samples copies of training images? Nearest neighbours, against those of held-out images."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from kod_bench.atomic import atomic_write
from kod_bench.evaluation.colour_wheel import draw_field, field_scale
from kod_bench.evaluation.wasserstein import FloatArray

#: Carlini et al.'s number of neighbours whose distance says what is near in this neighbourhood.
NEIGHBOURS = 50

#: Of the held-out images' ratios; below lies what is called memorised.
QUANTILE = 0.01
#: Held-out images without which there is no such quantile: fewer have no smallest ratio so low.
LEAST_HELD_OUT = 99

_ROWS = 256  # images compared at a time ...
_NUMBERS = 2**25  # ... with so many pixels of training images
_PAIRS, _PAIRS_IN_LINE = 16, 8  # in a picture ...
_FIELDS, _FIELDS_IN_LINE = 8, 4  # ... and of angles, whose vortices must be seen
_GAP = 4  # pixels between pictures, gray
_WIDTH = 512  # pixels; pictures are enlarged to at least this


@dataclass(frozen=True)
class Nearest:
    """The nearest training image of each image of a set.

    Attributes:
        index: (N,) which one, int64.
        distance: (N,) root mean square difference of their pixels, gray on [0, 1]; of angles, of
            half the chords between e^{i theta}, on [0, 1], too.
        ratio: (N,) that distance over its mean to the `NEIGHBOURS` nearest.
    """

    index: Tensor
    distance: FloatArray
    ratio: FloatArray

    @classmethod
    def find(cls, images: Tensor, train: Tensor, device: torch.device | str = "cpu") -> "Nearest":
        """Search the training images for the neighbours of each image.

        The space is that of pixels: what small diffusion models memorise, they reproduce pixel by
        pixel, and no network's taste is in the number. Distance alone would accuse the blurred: a
        smooth image is nearer to every training image than any real one is. So, after Carlini et
        al. (2023), the distance to the nearest is divided by the mean distance to the 50 nearest
        (fewer, where there are fewer): a copy has one neighbour that is much nearer than the
        others, a blurred image has many that are equally near. A copy that was moved or mirrored
        is not recognised.

        Args:
            images: (N, C, H, W), uint8 or float32 angles.
            train: (M, C, H, W) likewise, at least two.
            device: where to compute.

        Raises:
            ValueError: if the shapes differ, or there are fewer than two training images.
        """
        if images.shape[1:] != train.shape[1:] or len(train) < 2:
            raise ValueError(
                f"images {tuple(images.shape)} cannot be looked for among training images "
                f"{tuple(train.shape)}: same shape, and at least two of these"
            )
        parts = []
        for first in range(0, len(images), _ROWS):
            rows = _flat(images[first : first + _ROWS], device)
            near = _candidates(rows, train, min(NEIGHBOURS, len(train)))
            # Again, from differences: the expanded square loses the digits of small distances.
            exact = torch.stack(
                [
                    (_flat(train[index], device) - row).square().mean(dim=1).sqrt()
                    for row, index in zip(rows, near, strict=True)
                ]
            )
            exact = exact.double().cpu()
            distance, best = exact.min(dim=1, keepdim=True)
            ratio = distance / exact.mean(dim=1, keepdim=True).clamp(min=1e-12)
            parts.append(torch.cat([near.gather(1, best), distance, ratio], dim=1))
        index, distances, ratios = torch.cat(parts).T
        return cls(index.long(), distances.numpy(), ratios.numpy())

    def __add__(self, other: "Nearest") -> "Nearest":
        """The neighbours of both sets of images."""
        return Nearest(
            torch.cat([self.index, other.index]),
            np.concatenate([self.distance, other.distance]),
            np.concatenate([self.ratio, other.ratio]),
        )


def memorised_share(samples: Nearest, held_out: Nearest) -> float | None:
    """Share of samples with a smaller ratio than `QUANTILE` of the law of held-out images have.

    A fresh draw is below the k-th smallest of n others with probability k / (n + 1). So it is the
    share below the smallest number k = (n + 1) `QUANTILE`, and between two of them in proportion:
    for a generator that has learnt the law and not the images it is `QUANTILE` on average, however
    many held-out images there are.

    Returns:
        None with fewer than `LEAST_HELD_OUT` of them.
    """
    ordered = np.sort(held_out.ratio)
    if len(ordered) < LEAST_HELD_OUT:
        return None
    rank = (len(ordered) + 1) * QUANTILE
    below = math.floor(rank + 1e-9)  # 100 times 0.01 need not be 1
    beyond = max(rank - below, 0.0)
    shares = [float((samples.ratio < bound).mean()) for bound in ordered[below - 1 : below + 1]]
    return (1 - beyond) * shares[0] + beyond * shares[-1]


class Images(Protocol):
    """Images that give those of a tensor of indices, as a tensor of images does."""

    def __getitem__(self, index: Tensor, /) -> Tensor: ...


def write_nearest_pairs(path: Path, images: Images, train: Tensor, nearest: Nearest) -> None:
    """Write a PNG: samples of the smallest ratios in the upper lines, below each its neighbour.

    Args:
        path: of the PNG.
        images: (N, C, H, W), uint8 or float32 angles, which are shown as colours, with
            their vortices.
        train: (M, C, H, W) likewise.
        nearest: of `images` in `train`.

    Raises:
        OSError: if it cannot be written.
    """
    of_angles = train.dtype == torch.float32
    most, in_line = (_FIELDS, _FIELDS_IN_LINE) if of_angles else (_PAIRS, _PAIRS_IN_LINE)
    chosen = torch.from_numpy(np.argsort(nearest.ratio, kind="stable")[:most].copy())
    both = [images[chosen], train[nearest.index[chosen]]]
    columns = min(in_line, len(chosen))
    width = both[0].shape[3]
    scale = math.ceil(_WIDTH / (columns * width))
    if of_angles:
        scale = max(scale, field_scale(width))
        both = [_drawn(fields, scale) for fields in both]
    else:
        both = [
            each.repeat_interleave(scale, dim=2).repeat_interleave(scale, dim=3) for each in both
        ]
    pairs = torch.cat(both, dim=2)  # one above the other
    from torchvision.utils import make_grid  # seconds, which no process should start with

    sheet = make_grid(pairs, nrow=columns, padding=_GAP, pad_value=128)
    with atomic_write(path) as file:
        Image.fromarray(sheet.permute(1, 2, 0).numpy()).save(file, format="PNG")


def _drawn(fields: Tensor, scale: int) -> Tensor:
    pictures = [np.array(draw_field(field, scale)) for field in fields]
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)


def _flat(images: Tensor, device: torch.device | str) -> Tensor:
    flat = images.to(device).flatten(1).float()
    if images.dtype == torch.uint8:
        return flat / 255
    # Twice as many numbers, whose mean square difference is a quarter of the squared chords'.
    return torch.cat([flat.cos(), flat.sin()], dim=1) / math.sqrt(2)


def _candidates(rows: Tensor, train: Tensor, count: int) -> Tensor:
    """(B, P) -> (B, count): indices of the nearest training images."""
    best = torch.empty(len(rows), 0, device=rows.device)
    index = torch.empty(len(rows), 0, dtype=torch.int64, device=rows.device)
    step = max(1, _NUMBERS // rows.shape[1])
    for first in range(0, len(train), step):
        columns = _flat(train[first : first + step], rows.device)
        # |x|^2 is the same for all candidates of a row.
        squares = torch.cat([best, columns.square().sum(dim=1) - 2 * rows @ columns.T], dim=1)
        here = torch.arange(first, first + len(columns), device=rows.device)
        index = torch.cat([index, here.expand(len(rows), -1)], dim=1)
        best, kept = squares.topk(min(count, squares.shape[1]), largest=False)
        index = index.gather(1, kept)
    return index.cpu()
