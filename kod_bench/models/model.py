"""A model that this package has trained: sampled in any way that its process has, and scored."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kod_bench.data import ImageDataset
from kod_bench.data.cache import default_cache_dir
from kod_bench.data.cache_folder import own_folder
from kod_bench.diffusion import DiffusionProcess, to_stored
from kod_bench.evaluation import Measured, Reference, Scores, is_users_code, make_extractor
from kod_bench.evaluation import score as score_samples
from kod_bench.models.drawable import Drawable, Drawing, check_whole
from kod_bench.models.errors import ModelError
from kod_bench.networks import NetworkRunner, make_runner
from kod_bench.results import FORWARD_START
from kod_bench.sampling import (
    Identity,
    ShardFolder,
    Source,
    Way,
    draw_shard,
    shards_of,
    weights_hash,
)
from kod_bench.sweeps.plan.make import current_code
from kod_bench.sweeps.plan.trial import Trial
from kod_bench.sweeps.trial.drawing import subject_hash
from kod_bench.sweeps.trial.reference import REFERENCE_SEED

#: Given a way's name and those of shards: the folder that has those that were kept, if any were.
FindShards = Callable[[str, Sequence[str]], Path | None]


def _nothing_kept(way: str, names: Sequence[str]) -> None:
    return None


def way_of(
    name: str,
    process: DiffusionProcess,
    usual: Way,
    prior: str | None,
    sampler: str | None,
    network_evaluations: int | None,
) -> Way:
    """A way of sampling a process, which need not have been fitted.

    Args:
        name: of the model, for messages.
        process: to be reversed.
        usual: what is left out is as here.
        prior: where sampling starts.
        sampler: one of the process's.
        network_evaluations: for each image.

    Raises:
        ModelError: if the process has no such prior or sampler, or fewer steps.
    """
    prior = usual.prior if prior is None else prior
    evaluations = usual.network_evaluations
    if network_evaluations is not None:
        evaluations = check_whole("network_evaluations", network_evaluations, 1)
    try:
        if prior != FORWARD_START:
            process.check_prior(prior)
        sampler = process.check_sampler(usual.sampler if sampler is None else sampler)
        process.step_subset(evaluations, sampler)
    except ValueError as error:
        also = f", or {FORWARD_START}" if str(error).startswith("no prior") else ""
        raise ModelError(f"{name}: {error}{also}") from error
    return Way(prior, sampler, evaluations)


@dataclass
class Model(Drawable):
    """A trained model with its process, which has been fitted.

    Attributes:
        trial: which it was trained in.
        process: to be reversed.
        network: the trained one, on its device.
        device: where samples are drawn.
        ways: in which it was scored; the first is the default, by which it was judged.
        sample_count: of the samples that it was scored by.
        batch_size: of their batches.
        iterations: trained.
        pruned: whether early stopping gave it up there.
        open_images: reads the data set that it was trained on.
        find_shards: finds samples that were kept.
        weights: hash of the network's.
    """

    trial: Trial
    process: DiffusionProcess
    network: nn.Module
    device: torch.device
    ways: tuple[Way, ...]
    sample_count: int
    batch_size: int
    iterations: int
    pruned: bool
    open_images: Callable[[], ImageDataset]
    find_shards: FindShards = _nothing_kept
    weights: str = field(init=False)
    _predict: NetworkRunner = field(init=False)

    def __post_init__(self) -> None:
        self.name, self.seed, self.shape = self.trial.id, self.trial.seed, self.process.shape
        self.on_sphere = self.trial.dataset.get("name") == "sphere"
        self.values = self.trial.dataset_options.values
        self.weights = weights_hash(self.network)
        self._predict = make_runner(self.network, self.device, self.trial.training_section.fast)

    def way(
        self,
        prior: str | None = None,
        sampler: str | None = None,
        network_evaluations: int | None = None,
    ) -> Way:
        """A way of sampling; what is left out is as the model was judged.

        Raises:
            ModelError: if the process has no such prior or sampler, or fewer steps.
        """
        usual = self.ways[0]
        return way_of(self.name, self.process, usual, prior, sampler, network_evaluations)

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
        """Samples, of which none has been drawn yet."""
        check_whole("count", count, 1)
        seed = self.seed if seed is None else check_whole("seed", seed, 0)
        size = self.batch_size if batch_size is None else check_whole("batch_size", batch_size, 1)
        if start is not None:
            if prior not in (None, FORWARD_START):
                raise ModelError(
                    f"prior {prior!r}: sampling starts at the images that were given, which is "
                    f"prior {FORWARD_START!r}; leave one of them out"
                )
            prior = FORWARD_START
            self._check_start(start)
        way = self.way(prior, sampler, network_evaluations)
        begun_at = torch.zeros(0, *self.shape, dtype=self._dtype) if start is None else start
        if way.prior == FORWARD_START and start is None:
            begun_at = self.open_images().test
        source = Source(
            self.process, self._predict, begun_at, seed, self.device, in_order=start is not None
        )

        def draw(index: int, on_call: Callable[[], None]) -> Tensor:
            return to_stored(draw_shard(source, way, index, size, on_call=on_call), self.values)

        drawing = Drawing(way, count, seed, size, draw)
        if start is None:  # which images those are is in no identity
            drawing.identity = Identity(
                self.weights, subject_hash(self.trial), current_code(), way, seed, size
            )
            if seed == self.seed and size == self.batch_size:
                drawing.stored = self._stored(drawing.identity, count)
        return drawing

    def _stored(self, identity: Identity, count: int) -> ShardFolder | None:
        """Where batches of this way are that were kept: those of another size are others."""
        nowhere = ShardFolder(Path(), identity)
        names = [nowhere.file(index).name for index in shards_of(count, identity.size)]
        folder = self.find_shards(identity.way.name, names)
        return None if folder is None else ShardFolder(folder, identity)

    @property
    def _dtype(self) -> torch.dtype:
        return torch.uint8 if self.values == "intensities" else torch.float32

    def _check_start(self, start: Tensor) -> None:
        if start.dtype != self._dtype or start.ndim != 4 or start.shape[1:] != self.shape:
            wanted, got = (str(kind).removeprefix("torch.") for kind in (self._dtype, start.dtype))
            raise ModelError(
                f"{self.name}: needs (N, {', '.join(map(str, self.shape))}) {wanted} images, got "
                f"{tuple(start.shape)} {got}; nothing is resized"
            )
        if not len(start):
            raise ModelError("there is no image to start at")

    def score(
        self,
        images: Tensor | None = None,
        *,
        count: int | None = None,
        prior: str | None = None,
        sampler: str | None = None,
        network_evaluations: int | None = None,
        seed: int | None = None,
        batch_size: int | None = None,
        features: str | None = None,
        references: int | None = None,
    ) -> Scores:
        """Compare samples with held-out images; the defaults give the scores of the trial's row.

        Args:
            images: (N, C, H, W) uint8 images to be scored; default: so many are drawn.
            count: how many to draw; default: as many as the trial was scored by.
            prior: see `sample`, as for the next four.
            sampler: likewise.
            network_evaluations: likewise.
            seed: likewise.
            batch_size: likewise.
            features: the extractor; default: the trial's. One that is not this package's is
                imported only if it is named here.
            references: how many held-out images to compare with, at most; default: the trial's.

        Returns:
            A value by column of a row; None where it is not defined at these counts.

        Raises:
            ModelError: if the arguments do not fit.
            UsageError: if the data set is not there, or is another one by now.
        """
        options = self.trial.evaluation
        if features is None:
            features = str(options["features"])
            if is_users_code(features):
                raise ModelError(
                    f"{self.name} was scored by the feature extractor {features!r}; if you know "
                    f"that code and trust it, say features={features!r}"
                )
        drawn: Any = images
        if images is None:
            drawing = self.drawing(
                self.sample_count if count is None else count,
                prior=prior,
                sampler=sampler,
                network_evaluations=network_evaluations,
                seed=seed,
                batch_size=batch_size,
            )
            drawn, number = drawing.batches(), drawing.count
        else:
            ways = (count, prior, sampler, network_evaluations, seed, batch_size)
            if any(each is not None for each in ways):
                raise ModelError("images were given: leave out how others would be drawn")
            self._check_start(images)
            number = len(images)
        dataset = self.open_images()
        extractor = make_extractor(features, self.device)
        reference = Reference.load(
            train=dataset.train,
            test=dataset.test,
            data_hash=dataset.content_hash,
            sample_count=number,
            reference_count=int(options["references"]) if references is None else references,
            seed=REFERENCE_SEED,
            extractor=extractor,
            folder=own_folder(default_cache_dir(), "references"),
            device=self.device,
            on_sphere=self.on_sphere,
        )
        measured = Measured.of(
            drawn, extractor, dataset.train, self.device, on_sphere=self.on_sphere, count=number
        )
        return score_samples(measured, reference.measured, REFERENCE_SEED)

    def about(self) -> dict[str, Any]:
        """What a reader of its samples should know of the model."""
        return {
            "model": self.trial.model,
            "trial": self.name,
            "config_hash": self.trial.config_hash,
            "process": self.trial.process,
            "steps": self.trial.steps,
            "iterations": self.iterations,
            "pruned": self.pruned,
            "dataset": self.trial.dataset,
            "data_hash": self.trial.data_hash,
            "weights": self.weights,
            "trained_by": self.trial.code,
            "precision": self._predict.precision,
            "device": str(self.device),
            "ways": [asdict(way) for way in self.ways],
        }
