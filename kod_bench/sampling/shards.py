"""Shards of samples on a disk, and the manifest that lists them.

A way's folder::

    shard-000000.npz    images: (size, C, H, W), uint8 or, of angles, float32 radians
                        about: JSON; whose shard it is, the hash of its numbers, what it cost
    manifest.json       written when all are there: the same of all shards

A shard is one file, written whole or not at all, that says itself whose it is. So any number of
processes may write at once, in any order: whoever draws a shard again writes the same bits.
"""

import hashlib
import io
import json
import logging
import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kod_bench.atomic import atomic_write
from kod_bench.errors import one_line
from kod_bench.inside import MOST_SHARD, open_file, parse_json

MANIFEST_FILE = "manifest.json"

_MOST_ABOUT = 2**20  # bytes

_NAME = re.compile(r"shard-(\d{6,9})\.npz")
_TYPES: dict[str, torch.dtype] = {"uint8": torch.uint8, "float32": torch.float32}
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Way:
    """One way of drawing samples.

    Attributes:
        prior: where sampling starts: one of the process's priors, or `FORWARD_START`.
        sampler: one of the process's.
        network_evaluations: for each image.
    """

    prior: str
    sampler: str
    network_evaluations: int

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"{self.prior}-{self.sampler}-{self.network_evaluations}"


@dataclass(frozen=True)
class Identity:
    """All that the images of a shard depend on, beside its number and the hardware.

    Attributes:
        weights: hash of the network's.
        subject: hash of the process and the data that it was fitted to.
        code: version and hash of the code that draws.
        way: of drawing.
        seed: of the draws.
        size: images of a shard.
    """

    weights: str
    subject: str
    code: str
    way: Way
    seed: int
    size: int


@dataclass(frozen=True)
class Shard:
    """A shard as it lies.

    Attributes:
        images: (size, C, H, W), uint8 or float32.
        sha256: of its numbers, type and shape.
        seconds: that it took to draw.
        precision: of the network: fp32, bf16, ...
        extra: what else its drawer has seen; plain values.
    """

    images: Tensor
    sha256: str
    seconds: float
    precision: str
    extra: Mapping[str, Any]


@dataclass
class ShardFolder:
    """The shards of one way of one model.

    Args:
        path: of the folder.
        identity: whose shards they must be. Others are never read: they are drawn again.
    """

    path: Path
    identity: Identity
    _known: dict[int, dict[str, Any]] = field(default_factory=dict)  # about, of those found good

    def file(self, index: int) -> Path:
        """Where a shard lies."""
        return self.path / _name(index)

    def has(self, index: int) -> bool:
        """Whether a shard is there that says it is of this identity; its numbers are not read."""
        return self.about(index) is not None

    def missing(self, indices: Sequence[int]) -> list[int]:
        """Those that are not there. Those of others are named in one line of the log."""
        absent = [index for index in indices if not self.has(index)]
        if strange := sum(self.file(index).exists() for index in absent):
            _log.warning(
                "%s: %d shard(s) are damaged, or of other weights or another version of the code; "
                "they are drawn again",
                self.path,
                strange,
            )
        return absent

    def write(
        self,
        index: int,
        images: Tensor,
        *,
        seconds: float,
        precision: str,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        """Store a shard, whole or not at all.

        Args:
            index: its number.
            images: (size, C, H, W), uint8 or float32.
            seconds: that it took.
            precision: of the network.
            extra: what else is to be known of it; plain values.

        Raises:
            OSError: if it cannot be written.
            ValueError: if it is not of the folder's size, or of another type.
        """
        kind = str(images.dtype).removeprefix("torch.")
        if kind not in _TYPES or images.ndim != 4 or len(images) != self.identity.size:
            raise ValueError(
                f"a shard must be ({self.identity.size}, C, H, W) uint8 or float32, got "
                f"{tuple(images.shape)} {kind}"
            )
        about = {
            "identity": asdict(self.identity),
            "index": index,
            "sha256": _digest(images),
            "seconds": seconds,
            "precision": precision,
            "extra": dict(extra or {}),
        }
        self.path.mkdir(parents=True, exist_ok=True)
        save: Callable[..., None] = np.savez
        with atomic_write(self.file(index)) as file:
            save(file, about=json.dumps(about), images=images.cpu().contiguous().numpy())
        self._known[index] = about

    def read(self, index: int) -> Shard | None:
        """A shard, its hash compared; None if it is not there, is another's, or is damaged."""
        if (about := self.about(index)) is None:
            return None
        try:
            images = torch.from_numpy(_member(self.file(index), "images", MOST_SHARD))
            if len(images) != self.identity.size or _digest(images) != about["sha256"]:
                raise ValueError("its numbers have another hash")
            return Shard(
                images,
                about["sha256"],
                float(about["seconds"]),
                str(about["precision"]),
                dict(about["extra"]),
            )
        except MemoryError:
            raise  # of this process, not of the file
        except FileNotFoundError:
            return None
        except Exception as error:  # a damaged archive fails in many ways
            path = self.file(index)
            _log.warning("%s is damaged and is drawn again: %s", path, one_line(error))
            self._known.pop(index, None)
            return None

    def finish(self, count: int) -> None:
        """Write the manifest of a way whose shards are all there.

        Args:
            count: images of the way; the last shard may hold more.
        """
        listed = [self.about(index) or {} for index in shards_of(count, self.identity.size)]
        keys = ("index", "sha256", "seconds", "precision")
        manifest = {
            **asdict(self.identity),
            "count": count,
            "shards": [{key: each.get(key) for key in keys} for each in listed],
        }
        with atomic_write(self.path / MANIFEST_FILE) as file:
            file.write(json.dumps(manifest, indent=1).encode())

    def about(self, index: int) -> Mapping[str, Any] | None:
        """What a shard says of itself, if it is of this identity; its numbers are not read.

        Its keys: identity, index, sha256, seconds, precision, extra.
        """
        if (known := self._known.get(index)) is not None:
            return known
        path = self.file(index)
        try:
            text = str(_member(path, "about", _MOST_ABOUT))
            about = parse_json(text.encode(), str(path))
            if about["identity"] != asdict(self.identity) or about["index"] != index:
                return None
            float(about["seconds"]), dict(about["extra"]), str(about["sha256"])
        except Exception:  # not there, or damaged, in whatever way
            return None
        self._known[index] = about
        return dict(about)


def shards_of(count: int, size: int) -> range:
    """The numbers of the shards that hold so many images, the last one perhaps more."""
    return range(-(-count // size))


def shard_index(name: str) -> int | None:
    """The number in the name of a shard's file; None if it is another file."""
    match = _NAME.fullmatch(name)
    return int(match[1]) if match else None


def _name(index: int) -> str:
    return f"shard-{index:06d}.npz"


def _member(path: Path, name: str, most: int) -> Any:
    """One array of a shard's file, which may be anybody's: no pickle, and no more than `most`."""
    with open_file(path, MOST_SHARD) as file, zipfile.ZipFile(file) as archive:
        size = archive.getinfo(f"{name}.npy").file_size
        if size > most:
            raise ValueError(f"{name} has {size} bytes")
        content = io.BytesIO(archive.read(f"{name}.npy"))
    return np.lib.format.read_array(content, allow_pickle=False)


def _digest(images: Tensor) -> str:
    plain = images.cpu().contiguous().numpy()
    digest = hashlib.sha256(f"{plain.dtype} {plain.shape}\n".encode())
    digest.update(plain.data.cast("B"))
    return digest.hexdigest()
