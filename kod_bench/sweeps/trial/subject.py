"""A trial made concrete: its data, its process fitted to them, its network."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from kod_bench.data import ImageDataset, load_dataset
from kod_bench.diffusion import DiffusionProcess, make_process
from kod_bench.networks import make_network
from kod_bench.sweeps.plan.sweep import Sweep
from kod_bench.sweeps.plan.trial import Trial
from kod_bench.sweeps.store.mirror import MirroredCheckpoints
from kod_bench.sweeps.trial.rehearsed import RehearsedCheckpoints
from kod_bench.training import CheckpointStore, ShuffledImages, derive_seed


class DataChangedError(RuntimeError):
    """The images on disk are not those the sweep was planned on."""


@dataclass(frozen=True)
class Subject:
    """A trial with its data and its process, which has been fitted to them."""

    sweep: Sweep
    trial: Trial
    dataset: ImageDataset
    process: DiffusionProcess

    @classmethod
    def load(cls, sweep: Sweep, trial: Trial, device: torch.device) -> "Subject":
        """Open the data, check that they are those of the plan, build and fit the process.

        Raises:
            DataChangedError: if the images are others than the sweep was planned on.
        """
        dataset = load_dataset(trial.dataset_options, sweep.data_dir)
        if dataset.content_hash != trial.data_hash:
            place = trial.dataset_options.folder or sweep.data_dir
            # Not the hashes: with them, a plan could be made to fit somebody else's images.
            raise DataChangedError(
                "the built-in images are others here than the sweep was planned on: of another "
                "version of kod-bench, SciPy or scikit-image, or drawn by another kind of "
                "processor; start a new sweep, or copy the cache of prepared images "
                "(KOD_BENCH_CACHE) from where it was planned"
                if place is None
                else f"the images in {place}, or how this version divides them, have "
                "changed since the sweep was planned; start a new sweep, or put the images back"
            )
        _, channels, height, width = dataset.train.shape
        process = make_process(
            trial.process, shape=(channels, height, width), steps=trial.steps, **trial.parameters
        )
        # From the seed alone: training, its continuation and sampling must see one process.
        generator = torch.Generator(device).manual_seed(derive_seed(trial.seed, "fit"))
        images = ShuffledImages(dataset.train, generator, trial.dataset_options.changes)
        process.fit(images, generator)
        return cls(sweep, trial, dataset, process)

    @property
    def folder(self) -> Path:
        """Where the trial writes."""
        return self.sweep.trial_folder(self.trial)

    @property
    def checkpoints(self) -> CheckpointStore:
        """Of the trial's training."""
        kind = MirroredCheckpoints if self.sweep.rehearsal is None else RehearsedCheckpoints
        return kind(self.sweep, self.trial)

    def network(self) -> nn.Module:
        """The network with the initial weights of the trial's seed."""
        return trial_network(self.trial, self.process)


def trial_network(trial: Trial, process: DiffusionProcess) -> nn.Module:
    """A trial's network with the initial weights of its seed; no images are needed for it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(trial.seed, "network"))
        return make_network(
            periodic=process.periodic,
            channels=process.state_shape[0],
            image_size=process.shape[1],
            steps=trial.steps,
            grid=process.grid,
            **trial.network_options.arguments(),
        )
