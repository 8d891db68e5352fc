"""What a folder of samples is scored against: another folder, or a named data set."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError
from torch import Tensor

from kod_bench.data import DatasetOptions, ImageDataset, dataset_names, load_dataset
from kod_bench.data.cache import default_cache_dir
from kod_bench.data.cache_folder import check_own, own_folder
from kod_bench.errors import UsageError, one_line
from kod_bench.evaluation.feature_sets import subset
from kod_bench.evaluation.features import FeatureExtractor
from kod_bench.evaluation.folders import ImageFolder, check_apart
from kod_bench.evaluation.measured import Measured
from kod_bench.evaluation.metrics import Metric, Scores, score_real
from kod_bench.evaluation.reference import Reference
from kod_bench.storage import Location

#: Called with what is being measured, how many images of it are done, and how many there are.
Tick = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Job:
    """How images are measured, and for which metrics.

    Attributes:
        metrics: those that can be computed.
        extractor: None if none of them needs features.
        seed: of subsets and choices.
        batch_size: images at a time.
        device: where training images are searched.
        tick: receives progress.
    """

    metrics: Sequence[Metric]
    extractor: FeatureExtractor | None
    seed: int
    batch_size: int
    device: torch.device | str
    tick: Tick

    def measure(self, folder: ImageFolder, train: Tensor | None = None) -> tuple[Measured, str]:
        """Measure a folder, batch by batch; also the hash of its pixels."""
        needs = {metric.needs for metric in self.metrics}
        digest = hashlib.sha256()

        def parts() -> Iterator[Measured]:
            done = 0
            for images in folder.batches(self.batch_size):
                digest.update(repr(tuple(images.shape)).encode() + images.numpy().tobytes())
                yield Measured.of(
                    images,
                    self.extractor,
                    train,
                    self.device,
                    with_texture=bool({"texture", "order", "minutiae"} & needs),
                    on_sphere="spectrum" in needs,
                )
                done += len(images)
                self.tick(str(folder.path), done, len(folder))

        return Measured.joined(parts(), len(folder)), digest.hexdigest()[:16]


@dataclass(frozen=True)
class Real:
    """The reference, measured, and real-versus-real values.

    Attributes:
        measured: the reference images.
        content_hash: of their pixels.
        scores: of real images in place of samples.
        counts: how many of these, against how many; None where there are none.
    """

    measured: Measured
    content_hash: str
    scores: Scores
    counts: tuple[int, int] | None


class Against(ABC):
    """A reference that can be measured.

    Attributes:
        sizes: every (height, width) of its images, training images included.
        has_train: whether there are training images.
        on_sphere: whether they are maps of the sphere.
        are_angles: whether they are fields of angles.
    """

    sizes: set[tuple[int, int]]
    has_train: bool
    on_sphere: bool = False
    are_angles: bool = False

    @property
    def folders(self) -> tuple[ImageFolder, ...]:
        """Those that are read: the reference, then the training images."""
        return ()

    @abstractmethod
    def train(self) -> Tensor | None:
        """(N, 3, H, W) training images, if there are any; they must have one size."""

    @abstractmethod
    def measure(self, job: Job, count: int) -> Real:
        """Measure the reference, and real images in place of `count` samples."""


class FolderAgainst(Against):
    """A folder of reference images, with or without one of training images.

    Training images stand in for samples, as many as there are. Without them, two random halves of
    the reference stand for samples and reference, as far as features go.
    """

    def __init__(self, path: Path, train: Path | None) -> None:
        self._folder = ImageFolder(path)
        self._training = None if train is None else ImageFolder(train)
        self.sizes = self._folder.sizes | (self._training.sizes if self._training else set())
        self.has_train = self._training is not None
        self._loaded: Tensor | None = None
        if self._training is not None:
            check_apart(self._training, self._folder)

    @property
    def folders(self) -> tuple[ImageFolder, ...]:
        """The reference, then the training images."""
        return (self._folder,) if self._training is None else (self._folder, self._training)

    def train(self) -> Tensor | None:
        """(N, 3, H, W) training images, read once; None without their folder."""
        if self._loaded is None and self._training is not None:
            self._loaded = self._training.load()
        return self._loaded

    def measure(self, job: Job, count: int) -> Real:
        """Measure the reference, and real images in place of `count` samples."""
        nearest = any(metric.needs == "nearest" for metric in job.metrics)
        measured, digest = job.measure(self._folder, self.train() if nearest else None)
        generator = np.random.default_rng(job.seed)
        if self._training is not None:
            chosen = generator.permutation(len(self._training))[:count]
            stand_ins, _ = job.measure(self._training.subset(np.sort(chosen).tolist()))
            scores = score_real(stand_ins, measured, job.seed, job.metrics)
            return Real(measured, digest, scores, (stand_ins.count, measured.count))
        if measured.features is None or measured.count < 4:
            return Real(measured, digest, {}, None)
        order, half = generator.permutation(measured.count), measured.count // 2
        one, two = (
            Measured(len(part), subset(measured.features, part))
            for part in (order[:half], order[half:])
        )
        scores = score_real(one, two, job.seed, job.metrics)
        return Real(measured, digest, scores, (one.count, two.count))


class DatasetAgainst(Against):
    """The held-out images of a named data set, at the size of the samples.

    They are measured once, with all metrics, and kept in the cache.
    """

    def __init__(
        self, said: Mapping[str, Any], data_dir: Location | None, say: Callable[[str], None]
    ):
        name = said["name"]
        try:
            options = DatasetOptions.model_validate(said)
        except ValidationError as error:
            first = error.errors()[0]
            if first["loc"] != ("name",):
                where = ".".join(map(str, first["loc"]))
                message = first["msg"].removeprefix("Value error, ")
                raise UsageError(f"{name}: {where}: {message}") from error
            raise UsageError(
                f"--against {name}: is neither a folder nor a data set "
                f"({', '.join(dataset_names())}, or folder:PATH)"
            ) from error
        self._dataset: ImageDataset = load_dataset(options, data_dir)
        for warning in self._dataset.warnings:
            say(f"warning: {warning}")
        say(f"data: {self._dataset.name}: {self._dataset.description}")
        self.on_sphere = options.on_sphere
        self.are_angles = options.values == "angles"
        self.sizes = {options.image_shape}
        self.has_train = True

    def train(self) -> Tensor:
        """(N, 3, H, W) training images, gray ones as the samples' RGB; (N, 1, H, W) angles."""
        train = self._dataset.train
        return train if self.are_angles else train.expand(-1, 3, -1, -1)

    def measure(self, job: Job, count: int) -> Real:
        """Read the reference from the cache, or measure it."""
        if job.extractor is None:
            raise ValueError("a data set's reference is kept with its features")
        dataset = self._dataset
        reference = Reference.load(
            train=dataset.train,
            test=dataset.test,
            data_hash=dataset.content_hash,
            sample_count=count,
            reference_count=len(dataset.test),
            seed=job.seed,
            extractor=job.extractor,
            folder=_references(),
            device=job.device,
            on_sphere=self.on_sphere,
        )
        counts = reference.real_count, reference.measured.count
        return Real(reference.measured, reference.content_hash, reference.real, counts)


def _references() -> Path:
    """Where references are kept; a file of others in it would be measured against.

    Raises:
        UsageError: if it cannot be made, or belongs to others.
    """
    try:
        folder = own_folder(default_cache_dir(), "references")
        found = sorted(folder.iterdir())
    except OSError as error:
        raise UsageError(
            f"cannot keep references in the cache: {one_line(error)}; set KOD_BENCH_CACHE to a "
            "folder that can be written"
        ) from error
    for path in found:
        check_own(path)
    return folder
