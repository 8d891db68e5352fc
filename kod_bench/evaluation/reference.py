"""The reference set of a sweep: its features and its noise floor, computed once and shared."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from kod_bench.atomic import atomic_write
from kod_bench.evaluation.features import FeatureExtractor, Features
from kod_bench.evaluation.frechet import fid
from kod_bench.evaluation.kernel import kid


@dataclass(frozen=True)
class Reference:
    """Features of held-out images, and how far as many real training images are from them.

    The real-versus-real values are what a generator would score that draws from the training
    images themselves: the floor that a number is read against, at the same counts.

    Attributes:
        features: (M, D) of the reference images.
        content_hash: of their pixels.
        real_count: how many training images stand in for samples.
        fid_real: their FID.
        kid_real: KID of the same.
    """

    features: Features
    content_hash: str
    real_count: int
    fid_real: float
    kid_real: float

    @classmethod
    def load(
        cls,
        *,
        train: Tensor,
        test: Tensor,
        sample_count: int,
        reference_count: int,
        seed: int,
        extractor: FeatureExtractor,
        folder: Path,
    ) -> "Reference":
        """Read the reference from `folder`, or compute it and leave it there.

        Trials that start together may both compute it; they write equal files, atomically.

        Args:
            train: (N, C, H, W) uint8 training images.
            test: (M, C, H, W) uint8 held-out images.
            sample_count: how many training images stand in for samples; all, if fewer.
            reference_count: how many held-out images; all, if fewer.
            seed: chooses them, and KID's subsets.
            extractor: of the features.
            folder: shared by the trials of a sweep.
        """
        reference = _choose(test, reference_count, seed)
        content = hashlib.sha256(reference.numpy().tobytes()).hexdigest()[:16]
        stand_ins = _choose(train, sample_count, seed)
        key = f"{extractor.name}-{content}-{len(stand_ins)}-{seed}"
        path = folder / f"reference-{key}.npz"
        if (cached := _read(path)) is not None:
            return cls(cached[0], content, len(stand_ins), *cached[1])
        features, real = extractor(reference), extractor(stand_ins)
        floor = fid(real, features), kid(real, features, seed)
        folder.mkdir(parents=True, exist_ok=True)
        _write(path, features, floor)
        return cls(features, content, len(stand_ins), *floor)


def _choose(images: Tensor, count: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(images), generator=generator)[:count].sort().values
    return images[chosen].contiguous()


def _read(path: Path) -> tuple[Features, tuple[float, float]] | None:
    try:
        with np.load(path, allow_pickle=False) as archive:
            floor = json.loads(str(archive["floor"]))
            return archive["features"], (floor["fid"], floor["kid"])
    except FileNotFoundError:
        return None
    except Exception:  # a damaged cache is recomputed, whatever is wrong with it
        return None


def _write(path: Path, features: Features, floor: tuple[float, float]) -> None:
    write: Callable[..., None] = np.savez
    with atomic_write(path) as file:
        write(file, features=features, floor=json.dumps({"fid": floor[0], "kid": floor[1]}))
