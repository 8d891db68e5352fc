"""Unconditional image models of diffusers: a `UNet2DModel` and its DDPM or DDIM scheduler.

As ``google/ddpm-cifar10-32`` has them: by these the scores of this package can be calibrated with a
published number (docs/metrics.md). The network and the steps are diffusers' own, which has to be
installed; a batch is, image for image, that of diffusers' pipeline for the same generator.

The folder is one that its user has named, and its files may be links, as in the cache of the
Hugging Face hub. Weights are safetensors, or a .bin that is read without unpickling; no class but
these three is made, and nothing is downloaded.
"""

import importlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kod_bench.errors import one_line
from kod_bench.inside import MOST_RECORD, UnreadableError, parse_json
from kod_bench.models.drawable import Drawable, Drawing, check_whole
from kod_bench.models.errors import ModelError
from kod_bench.sampling import Identity, Way, weights_hash
from kod_bench.seeds import derive_seed
from kod_bench.sweeps.plan.make import current_code

PREFIX = "diffusers:"
PRIOR = "standard-normal"
SAMPLERS = ("ddpm", "ddim")
_BATCH = 128


@dataclass
class DiffusersModel(Drawable):
    """A model of diffusers.

    Attributes:
        network: `UNet2DModel`.
        scheduler: `DDPMScheduler` or `DDIMScheduler`, as the folder has it.
        sampler: "ddpm" or "ddim", as the folder has it; the other can be asked for.
        device: where samples are drawn.
    """

    name: str
    network: Any
    scheduler: Any
    sampler: str
    device: torch.device
    batch_size: int = _BATCH
    seed: int = 0

    def __post_init__(self) -> None:
        side = self.network.config.sample_size
        height, width = (side, side) if isinstance(side, int) else side
        self.shape = (int(self.network.config.in_channels), int(height), int(width))

    @property
    def steps(self) -> int:
        """T, with which it was trained."""
        return int(self.scheduler.config.num_train_timesteps)

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
        if prior not in (None, PRIOR) or start is not None:
            raise ModelError(f"{self.name}: starts from {PRIOR} alone")
        sampler = self.sampler if sampler is None else sampler
        if sampler not in SAMPLERS:
            raise ModelError(
                f"{self.name}: no sampler {sampler!r}; choose from {', '.join(SAMPLERS)}"
            )
        evaluations = self.steps
        if network_evaluations is not None:
            evaluations = check_whole("network_evaluations", network_evaluations, 1)
        if evaluations > self.steps:
            raise ModelError(
                f"{self.name}: evaluations must be at most T = {self.steps}, got {evaluations}"
            )
        if sampler == "ddim" and self.network.config.out_channels != self.shape[0]:
            raise ModelError(f"{self.name}: has learnt its variances, which sampler ddim lacks")
        seed = self.seed if seed is None else check_whole("seed", seed, 0)
        size = self.batch_size if batch_size is None else check_whole("batch_size", batch_size, 1)
        scheduler = self._scheduler(sampler, evaluations)

        def draw(index: int, on_call: Callable[[], None]) -> Tensor:
            generator = torch.Generator(self.device).manual_seed(derive_seed(seed, "sample", index))
            return self._draw(scheduler, sampler, size, generator, on_call)

        way = Way(PRIOR, sampler, evaluations)
        # Its schedule counts as its subject, its libraries as code.
        schedule = json.dumps(dict(scheduler.config), sort_keys=True, default=str)
        code = f"{current_code()} diffusers {version('diffusers')} torch {torch.__version__}"
        identity = Identity(weights_hash(self.network), schedule, code, way, seed, size)
        return Drawing(way, count, seed, size, draw, identity)

    def _scheduler(self, sampler: str, evaluations: int) -> Any:
        """One of its own for each drawing: a scheduler holds the steps that were set last.

        Raises:
            ModelError: if they are not what was asked for, of which diffusers says nothing. By
                rounding, "trailing" ones may be one more, down to a timestep of -1, which is read
                as the last: pure noise at the end. An offset moves all of T steps beyond T - 1.
        """
        diffusers: Any = importlib.import_module("diffusers")
        kind = diffusers.DDPMScheduler if sampler == "ddpm" else diffusers.DDIMScheduler
        scheduler = kind.from_config(self.scheduler.config)
        scheduler.set_timesteps(evaluations)
        made = scheduler.timesteps.tolist()
        if len(set(made)) == evaluations and min(made) >= 0 and max(made) < self.steps:
            return scheduler
        config = scheduler.config
        raise ModelError(
            f"{self.name}: for {evaluations} evaluations diffusers {version('diffusers')} makes "
            f"{len(made)} steps, from timestep {made[0]} to {made[-1]}, of a model whose timesteps "
            f"are 0 to {self.steps - 1} (timestep_spacing {config.timestep_spacing}, steps_offset "
            f"{config.steps_offset}); choose another number of evaluations"
        )

    @torch.no_grad()
    def _draw(
        self,
        scheduler: Any,
        sampler: str,
        size: int,
        generator: torch.Generator,
        on_call: Callable[[], None],
    ) -> Tensor:
        image = torch.randn(
            (size, *self.shape),
            generator=generator,
            device=self.device,
            dtype=self.network.dtype,
        )
        # DDIM without noise of its own, as its pipeline has it.
        more = {"eta": 0.0} if sampler == "ddim" else {}
        for step in scheduler.timesteps:
            prediction = self.network(image, step).sample
            on_call()
            image = scheduler.step(prediction, step, image, generator=generator, **more).prev_sample
        if not image.isfinite().all():
            raise FloatingPointError("the samples are not finite; the model has diverged")
        # Rounded as diffusers rounds, half to even in its units.
        shares = (image.float() / 2 + 0.5).clamp(0, 1).cpu()
        return (shares * 255).round().to(torch.uint8)

    def about(self) -> dict[str, Any]:
        """What a reader of its samples should know of the model."""
        return {
            "model": self.name,
            "process": "ddpm",
            "steps": self.steps,
            "weights": weights_hash(self.network),
            "scheduler": dict(self.scheduler.config),
            "diffusers": version("diffusers"),
            "precision": str(self.network.dtype).removeprefix("torch."),
            "device": str(self.device),
        }


def open_diffusers(folder: Path, device: torch.device) -> DiffusersModel:
    """Open a folder that diffusers' ``save_pretrained`` has written, or one like the hub's.

    Raises:
        ModelError: if diffusers is not installed, or the folder holds no such model.
    """
    try:
        diffusers: Any = importlib.import_module("diffusers")
    except ImportError as error:
        raise ModelError(
            f"{PREFIX}{folder}: needs the package diffusers, which is not installed "
            "(pip install 'kod-bench[diffusers]')"
        ) from error
    if not folder.is_dir():
        raise ModelError(f"{PREFIX}{folder}: is not a folder")
    # Pipelines that are saved today have a folder for each part; those of old, all in one.
    unet = folder / "unet" if (folder / "unet").is_dir() else folder
    steps = folder / "scheduler" if (folder / "scheduler").is_dir() else folder
    config = _config(unet / "config.json", "_class_name", ("UNet2DModel",))
    said = _config(
        steps / "scheduler_config.json", "_class_name", ("DDPMScheduler", "DDIMScheduler")
    )
    if config.get("class_embed_type") or config.get("num_class_embeds"):
        raise ModelError(f"{unet}: is a class-conditional model; only unconditional ones are drawn")
    sampler = "ddim" if said["_class_name"] == "DDIMScheduler" else "ddpm"
    kind = diffusers.DDIMScheduler if sampler == "ddim" else diffusers.DDPMScheduler
    try:
        network: Any = diffusers.UNet2DModel.from_pretrained(
            str(unet), local_files_only=True, low_cpu_mem_usage=False
        )
        scheduler = kind.from_config(said)
        network = network.to(device).eval()
    except Exception as error:  # of what a damaged file makes diffusers do
        raise ModelError(f"{unet}: cannot be read by diffusers: {one_line(error)[:300]}") from error
    if network.config.in_channels not in (1, 3) or network.config.sample_size is None:
        raise ModelError(f"{unet}: in_channels and sample_size are not those of images")
    return DiffusersModel(str(folder), network, scheduler, sampler, device)


def _config(path: Path, key: str, allowed: tuple[str, ...]) -> dict[str, Any]:
    """A JSON file of diffusers that says what class it is of."""
    try:
        if not path.is_file():
            raise ModelError(f"{path}: is missing; a {' or '.join(allowed)} has one")
        with path.open("rb") as file:
            found = parse_json(file.read(MOST_RECORD), str(path))
    except UnreadableError as error:
        raise ModelError(one_line(error)) from error
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({one_line(error)})") from error
    kind = found.get(key) if isinstance(found, dict) else None
    if kind not in allowed:
        raise ModelError(f"{path}: is of {kind!r}; only {' and '.join(allowed)} can be drawn from")
    result: dict[str, Any] = found
    return result
