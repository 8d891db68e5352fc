"""What can be drawn from, wherever it comes from: samples in batches, each by itself."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from kod_bench.models.errors import ModelError
from kod_bench.sampling import Identity, ShardFolder, Way, shards_of

#: Draws batch number i, (size, C, H, W) uint8, and calls the second after each evaluation.
DrawBatch = Callable[[int, Callable[[], None]], Tensor]


@dataclass
class Drawing:
    """So many samples of one way, drawn batch by batch as they are asked for.

    Attributes:
        way: of drawing.
        count: of images.
        seed: of the draws.
        size: images of a batch. A batch is drawn whole, the last one too, and then cut.
        draw: draws one.
        identity: all that its batches depend on; None if that is not known.
        stored: batches that were drawn before and kept; only read. One that is damaged, or of
            another version of the code, is drawn again.
        aside: where batches lie that were drawn and not yet used up: read, and written to.
        kept: images that have come from either, so far.
        drawn: images that were drawn here.
    """

    way: Way
    count: int
    seed: int
    size: int
    draw: DrawBatch
    identity: Identity | None = None
    stored: ShardFolder | None = None
    aside: ShardFolder | None = None
    kept: int = 0
    drawn: int = 0

    def set_aside(self, folder: Path) -> None:
        """Put batches into a folder as they are drawn, so that who is interrupted can go on.

        Not where there is one batch alone, or it is not known what batches depend on.
        """
        if self.identity is not None and len(shards_of(self.count, self.size)) > 1:
            self.aside = ShardFolder(folder, self.identity)

    def batches(self, on_call: Callable[[], None] = lambda: None) -> Iterator[Tensor]:
        """(B, C, H, W) uint8 images, `count` of them together.

        Args:
            on_call: called after each evaluation of the network.

        Raises:
            FloatingPointError: if samples are not finite.
            OSError: if a batch cannot be set aside.
        """
        indices = shards_of(self.count, self.size)
        places = [place for place in (self.stored, self.aside) if place is not None]
        for place in places:
            place.missing(indices)  # which says why those that are there are not taken
        for index in indices:
            length = min(self.size, self.count - index * self.size)
            shard = next((found for place in places if (found := place.read(index))), None)
            if shard is not None:
                images = shard.images
                self.kept += length
            else:
                images = self._draw(index, on_call)
                self.drawn += length
            yield images[:length]

    def _draw(self, index: int, on_call: Callable[[], None]) -> Tensor:
        began = time.monotonic()
        images = self.draw(index, on_call)
        if self.aside is not None:
            self.aside.write(index, images, seconds=time.monotonic() - began, precision="")
        return images

    def all(self) -> Tensor:
        """All of them, (count, C, H, W) uint8."""
        return torch.cat(list(self.batches()))


class Drawable(ABC):
    """A trained model.

    Attributes:
        name: what it is called.
        shape: (C, H, W) of its images.
        seed: of its draws, if no other is asked for.
        batch_size: likewise. Images depend on how many are drawn at a time.
        on_sphere: whether its images are maps of the sphere.
        values: "intensities", drawn as uint8, or "angles", as float32 radians.
    """

    name: str
    shape: tuple[int, int, int]
    seed: int
    batch_size: int
    on_sphere: bool = False
    values: Literal["intensities", "angles"] = "intensities"

    @abstractmethod
    def drawing(
        self,
        count: int,
        *,
        prior: str | None = None,
        sampler: str | None = None,
        network_evaluations: int | None = None,
        seed: int | None = None,
        batch_size: int | None = None,
        start: Tensor | None = None,
    ) -> Drawing:
        """Samples, of which none has been drawn yet; `sample` says what the arguments are."""

    @abstractmethod
    def about(self) -> dict[str, Any]:
        """What a reader of its samples should know of the model; plain values."""

    def sample(
        self,
        count: int,
        *,
        prior: str | None = None,
        sampler: str | None = None,
        network_evaluations: int | None = None,
        seed: int | None = None,
        batch_size: int | None = None,
        start: Tensor | None = None,
    ) -> Tensor:
        """Draw images.

        Equal arguments give equal images, to the bit on equal hardware, and the first images do
        not depend on how many are drawn. With the defaults they are those that the trial was
        scored by; such as were kept are read and not drawn.

        Args:
            count: how many.
            prior: where sampling starts: one of the process's priors, or "forward", the ends of
                held-out images' own forward chains.
            sampler: one of the process's.
            network_evaluations: for each image, at most T.
            seed: of the draws.
            batch_size: images drawn at a time.
            start: (N, C, H, W) uint8 images, at whose chains' ends sampling starts, in their order
                and again from the first; the prior is "forward" then.

        Returns:
            (count, C, H, W) uint8 images on the CPU; of angles, float32 radians.

        Raises:
            ModelError: if the model cannot be sampled so; the message says what is allowed.
            FloatingPointError: if samples are not finite.
        """
        return self.drawing(
            count,
            prior=prior,
            sampler=sampler,
            network_evaluations=network_evaluations,
            seed=seed,
            batch_size=batch_size,
            start=start,
        ).all()


def check_whole(name: str, value: object, low: int) -> int:
    """A whole number that is not too low.

    Raises:
        ModelError: naming it and what is allowed.
    """
    if type(value) is not int or not low <= value < 2**63:
        raise ModelError(f"{name} must be a whole number from {low} on, got {value!r}")
    return value
