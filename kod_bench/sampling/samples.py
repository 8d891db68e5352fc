"""The samples of one way as they lie in shards: read piece by piece, never all at once."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from kod_bench.sampling.shards import Shard, ShardFolder, shards_of


@dataclass(frozen=True)
class StoredSamples:
    """The first `count` images of a way.

    A shard that turns out to be damaged, or gone, is drawn again where it is met.

    Attributes:
        shards: where they lie.
        count: images.
        redraw: draws a shard and stores it.
    """

    shards: ShardFolder
    count: int
    redraw: Callable[[int], None]

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Tensor]:
        """The shards, the last one cut."""
        for shard, length in self.each():
            yield shard.images[:length]

    def each(self) -> Iterator[tuple[Shard, int]]:
        """The shards, and how many images of each belong to the way."""
        for index in shards_of(self.count, self.shards.identity.size):
            yield self.shard(index), min(self._size, self.count - index * self._size)

    def shard(self, index: int) -> Shard:
        """A shard, read now.

        Raises:
            RuntimeError: if it cannot be read right after it has been drawn.
        """
        found = self.shards.read(index)
        if found is None:
            self.redraw(index)
            found = self.shards.read(index)
        if found is None:
            raise RuntimeError(f"{self.shards.file(index)}: cannot be read back as it was written")
        return found

    def first(self, count: int) -> Tensor:
        """The first images, at most so many."""
        return self[torch.arange(min(count, self.count))]

    def __getitem__(self, index: Tensor) -> Tensor:
        """The images of a one-dimensional tensor of indices, in its order."""
        found: dict[int, Tensor] = {}
        for number in sorted({int(i) // self._size for i in index}):
            images = self.shard(number).images
            found |= {
                int(i): images[int(i) % self._size] for i in index if int(i) // self._size == number
            }
        return torch.stack([found[int(i)] for i in index])

    @property
    def _size(self) -> int:
        return self.shards.identity.size
