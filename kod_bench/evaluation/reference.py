"""The reference set of a sweep: what is measured of it, once, and shared by the trials."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kod_bench.atomic import atomic_write
from kod_bench.evaluation.angles import AngleStatistics
from kod_bench.evaluation.angular import AngularSpectrum
from kod_bench.evaluation.features import FeatureExtractor
from kod_bench.evaluation.measured import Measured
from kod_bench.evaluation.memorisation import Nearest
from kod_bench.evaluation.metrics import Scores, score_real
from kod_bench.evaluation.texture import TextureStatistics
from kod_bench.inside import MOST_CACHE, open_file

# Raise with every change that may alter a number in the file.
_FORMAT = 7
_AT_ONCE = 256  # training images

#: Parts of `Measured` that some images have, and others have not.
_PARTS: dict[str, type[Any]] = {
    "texture": TextureStatistics,
    "spectrum": AngularSpectrum,
    "angles": AngleStatistics,
}


@dataclass(frozen=True)
class Reference:
    """Held-out images, measured, and how far as many real training images are from them.

    The real-versus-real values are what a generator would score that draws from the training
    images themselves: the floor that a number is read against, at the same counts.

    Attributes:
        measured: the reference images.
        content_hash: of their pixels.
        real_count: how many training images stand in for samples.
        real: their scores.
    """

    measured: Measured
    content_hash: str
    real_count: int
    real: Scores

    @classmethod
    def load(
        cls,
        *,
        train: Tensor,
        test: Tensor,
        data_hash: str,
        sample_count: int,
        reference_count: int,
        seed: int,
        extractor: FeatureExtractor,
        folder: Path,
        device: torch.device | str = "cpu",
        on_sphere: bool = False,
    ) -> "Reference":
        """Read the reference from `folder`, or compute it and leave it there.

        Whoever calls this from several processes at once gets equal results, and one good file;
        so that only one of them computes, let them hold a lock.

        Args:
            train: (N, C, H, W) training images as they are stored.
            test: (M, C, H, W) held-out images.
            data_hash: of both.
            sample_count: how many training images stand in for samples; all, if fewer.
            reference_count: how many held-out images; all, if fewer.
            seed: chooses them, and the subsets of metrics.
            extractor: of the features.
            folder: shared by the trials of a sweep.
            device: where training images are searched.
            on_sphere: whether the images are maps of the sphere.
        """
        reference = _choose(test, reference_count, seed)
        content = hashlib.sha256(reference.numpy().tobytes()).hexdigest()[:16]
        real_count = min(sample_count, len(train))
        key = [_FORMAT, data_hash, extractor.name, len(reference), real_count, seed, on_sphere]
        digest = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:24]
        path = folder / f"reference-{digest}.npz"
        if (cached := _read(path)) is not None:
            return cls(cached[0], content, real_count, cached[1])
        measured = Measured.of(reference, extractor, train, device, on_sphere=on_sphere)
        chosen = _chosen(train, sample_count, seed)
        stand_ins = Measured.of(
            (train[some] for some in torch.split(chosen, _AT_ONCE)),  # no copy of all
            extractor,
            on_sphere=on_sphere,
            count=len(chosen),
            spool=folder if folder.is_dir() else None,
        )
        real = score_real(stand_ins, measured, seed)
        folder.mkdir(parents=True, exist_ok=True)
        _write(path, measured, real)
        return cls(measured, content, real_count, real)


def _choose(images: Tensor, count: int, seed: int) -> Tensor:
    return images[_chosen(images, count, seed)].contiguous()


def _chosen(images: Tensor, count: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randperm(len(images), generator=generator)[:count].sort().values


def _read(path: Path) -> tuple[Measured, Scores] | None:
    try:
        with open_file(path, MOST_CACHE) as file, np.load(file, allow_pickle=False) as archive:
            nearest = {f.name: archive[f"nearest.{f.name}"] for f in fields(Nearest)}
            nearest["index"] = torch.from_numpy(nearest["index"])
            features = archive["features"]
            measured = Measured(
                len(features),
                features,
                nearest=Nearest(**nearest),
                **{name: _part(archive, name, kind) for name, kind in _PARTS.items()},
            )
            return measured, json.loads(str(archive["real"]))
    except FileNotFoundError:
        return None
    except Exception:  # a damaged cache is recomputed, whatever is wrong with it
        return None


def _part(archive: Any, name: str, kind: type[Any]) -> Any:
    """What was measured under a name, its arrays of no dimension as numbers; None if it was not."""
    if not any(key.startswith(f"{name}.") for key in archive):
        return None
    values = {each.name: archive[f"{name}.{each.name}"] for each in fields(kind)}
    if "image_size" in values:
        values["image_size"] = tuple(values["image_size"].tolist())
    return kind(**{key: v.item() if np.ndim(v) == 0 else v for key, v in values.items()})


def _write(path: Path, measured: Measured, real: Scores) -> None:
    arrays: dict[str, Any] = {"features": measured.features, "real": json.dumps(real)}
    for part in ("nearest", *_PARTS):
        found = getattr(measured, part)
        values = {} if found is None else vars(found)
        arrays |= {f"{part}.{name}": np.asarray(value) for name, value in values.items()}
    write: Callable[..., None] = np.savez
    with atomic_write(path) as file:
        write(file, **arrays)
