"""A model in a folder of its own, to be kept or passed on; nothing in it is a pickle.

::

    model.safetensors       the network's weights
    process.safetensors     what the process has measured of training images, if it does
    config.json             the trial, and all that is needed to build both again
    README.md               the model card
    samples.png             a grid
"""

import functools
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as parse_tensors
from safetensors.torch import save as format_tensors
from torch import Tensor

import kod_bench
from kod_bench.data import ImageDataset, load_dataset
from kod_bench.data.options import FOLDER_PREFIX
from kod_bench.diffusion import make_process, measurements, restore_measurements
from kod_bench.errors import UsageError, one_line
from kod_bench.inside import MOST_CHECKPOINT, MOST_DOCUMENT, is_file, read_bytes, read_json
from kod_bench.models.errors import ModelError
from kod_bench.models.model import Model
from kod_bench.models.trials import NO_EXTRACTOR, Permissions
from kod_bench.networks import place
from kod_bench.sampling import Way
from kod_bench.storage import Location
from kod_bench.sweeps.plan.sweep import Sweep
from kod_bench.sweeps.plan.trial import Trial
from kod_bench.sweeps.space import ResourceOptions
from kod_bench.sweeps.store.plugged import check_trusted
from kod_bench.sweeps.trial.subject import trial_network

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
PROCESS_FILE = "process.safetensors"
CARD_FILE = "README.md"
GRID_FILE = "samples.png"
FILES = (CONFIG_FILE, WEIGHTS_FILE, PROCESS_FILE, CARD_FILE, GRID_FILE)

#: Raise with every change that an earlier version cannot read.
FORMAT = 1


def is_exported(folder: Path) -> bool:
    """Whether a folder is one of an exported model, by the names in it."""
    return is_file(folder / CONFIG_FILE) and is_file(folder / WEIGHTS_FILE)


def model_files(model: Model) -> dict[str, bytes]:
    """The content of the files that a model is read back from.

    Raises:
        ModelError: if its process does not say what it has measured.
    """
    try:
        measured = measurements(model.process)
    except ValueError as error:
        raise ModelError(f"{model.name} cannot be exported: {error}") from error
    files = {WEIGHTS_FILE: _tensors(model.network.state_dict())}
    if measured:
        files[PROCESS_FILE] = _tensors(measured)
    return files


def config_of(model: Model) -> dict[str, Any]:
    """What ``config.json`` says."""
    return {
        "format": FORMAT,
        "kod_bench": kod_bench.__version__,
        "trial": model.trial.values,
        "shape": list(model.shape),
        "ways": [asdict(way) for way in model.ways],
        "sample_count": model.sample_count,
        "batch_size": model.batch_size,
        "iterations": model.iterations,
        "pruned": model.pruned,
        "weights": model.weights,
    }


def open_exported(folder: Path, device: torch.device, permissions: Permissions) -> Model:
    """Open an exported model.

    Args:
        folder: of it.
        device: where it is to be sampled.
        permissions: plug-ins that it may import; where its images are, for what needs them.

    Raises:
        ModelError: if a file is missing, damaged, or not of this model.
        UsageError: naming a plug-in that is not permitted.
    """
    path = folder / CONFIG_FILE
    config = read_json(path, MOST_DOCUMENT)
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        said = config.get("format") if isinstance(config, dict) else None
        raise ModelError(f"{path}: format {said!r}; this version reads {FORMAT}")
    try:
        trial = Trial(**config["trial"])
        plain = Trial(
            **{**config["trial"], "evaluation": {**trial.evaluation, "features": NO_EXTRACTOR}}
        )
        _check_plugins(folder, plain, permissions)
        first, second, third = (int(size) for size in config["shape"])
        process = make_process(
            trial.process, shape=(first, second, third), steps=trial.steps, **trial.parameters
        )
        ways = tuple(
            Way(str(way["prior"]), str(way["sampler"]), int(way["network_evaluations"]))
            for way in config["ways"]
        )
        keys = ("sample_count", "batch_size", "iterations")
        count, size, iterations = (int(config[key]) for key in keys)
        if not ways or min(count, size, iterations) < 1:
            raise ValueError("ways, sample_count, batch_size, iterations: there must be some")
        network = trial_network(trial, process)
        saved = str(config["weights"])
    except UsageError:
        raise  # which says it better
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise ModelError(f"{path}: is damaged: {one_line(error)[:500]}") from error
    for name, use in (
        (WEIGHTS_FILE, network.load_state_dict),
        (PROCESS_FILE, functools.partial(restore_measurements, process)),
    ):
        _use(folder / name, use, optional=name == PROCESS_FILE)
    place(network, device).eval()
    model = Model(
        trial=trial,
        process=process,
        network=network,
        device=device,
        ways=ways,
        sample_count=count,
        batch_size=size,
        iterations=iterations,
        pruned=bool(config.get("pruned")),
        open_images=functools.cache(lambda: _images(folder, trial, permissions)),
    )
    if model.weights != saved:
        raise ModelError(f"{folder / WEIGHTS_FILE}: is not the one that {CONFIG_FILE} was made for")
    return model


def _check_plugins(folder: Path, trial: Trial, permissions: Permissions) -> None:
    exported = Sweep(folder, "exported", "", None, ResourceOptions(), (trial,))
    check_trusted(exported, None, permissions.plugins)


def _images(folder: Path, trial: Trial, permissions: Permissions) -> ImageDataset:
    """The data set, where its user says that it is: what the folder says is read nowhere."""
    options = trial.dataset_options
    said: Location | None = permissions.data_dirs[0] if permissions.data_dirs else None
    if options.folder is not None:
        if said is None:
            raise ModelError(f"{folder}: its images are a folder's; say which with data_dir")
        options, said = options.model_copy(update={"name": f"{FOLDER_PREFIX}{said}"}), None
    dataset = load_dataset(options, said)
    if dataset.content_hash != trial.data_hash:
        raise ModelError(
            f"{folder}: the images in {dataset.source} are not those that it "
            "was trained on; say where they are with data_dir"
        )
    return dataset


def _use(path: Path, use: Callable[[Any], object], *, optional: bool) -> None:
    """Give the tensors of a file to what they are of."""
    found: dict[str, Tensor] = {}
    try:
        if not optional or is_file(path):
            found = parse_tensors(read_bytes(path, MOST_CHECKPOINT))
        use(found)
    except FileNotFoundError as error:
        raise ModelError(f"{path}: is missing") from error
    except (SafetensorError, RuntimeError, ValueError) as error:
        raise ModelError(
            f"{path}: is {'missing, ' if not found else ''}damaged or of another model: "
            f"{one_line(error)[:300]}"
        ) from error


def _tensors(found: Mapping[str, Tensor]) -> bytes:
    # Weights lie in channels_last where they are used.
    plain = {
        name: value.detach().cpu().contiguous(memory_format=torch.contiguous_format)
        for name, value in found.items()
    }
    content: bytes = format_tensors(plain, metadata={"format": "pt"})
    return content
