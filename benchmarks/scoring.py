"""Cost of scoring samples: this package over clean-fid's folder path, same extractor, one run.

    python benchmarks/scoring.py --images 2000 --size 32

Both sides read the same folder of PNG files and give FID and KID; the reference is measured
beforehand on both (`clean-fid` finds its features in memory, as it does with saved statistics).
The extractor is EfficientNet-Lite0 at the images' own size, so that clean-fid's resize to 299
pixels, which this extractor does not want, is not held against it. `all metrics` adds ours,
memorisation against as many training images included. Sides take turns, each `--rounds` times;
the least time counts, since whatever else the machine does can only add to it. On a busy machine
read the processor's time, that of clean-fid's workers included: with `--workers` it reads images
in so many processes beside its own, as it does by itself (12 by default). Each package has a
process of its own, ours prepared as `kod-bench evaluate` prepares its.
"""

import argparse
import contextlib
import io
import json
import multiprocessing
import resource
import tempfile
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from cleanfid.fid import frechet_distance, get_folder_features, kernel_distance
from PIL import Image
from torch import Tensor

from kod_bench.evaluation import METRICS, Measured, make_extractor, score
from kod_bench.evaluation.against import Job
from kod_bench.evaluation.features import FeatureExtractor
from kod_bench.evaluation.folders import ImageFolder
from kod_bench.evaluation.metrics import Metric
from kod_bench.freed_memory import keep_freed_memory


@dataclass(frozen=True)
class Task:
    """What is scored, and what is known beforehand."""

    folder: Path
    samples: Tensor
    train: Tensor
    reference: Measured
    workers: int
    threads: int


def main() -> None:
    """Measure and print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--workers", type=int, default=0, help="of clean-fid's, beside its process")
    parser.add_argument("--threads", type=int, help="of torch, on both sides")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the ratios there, too")
    options = parser.parse_args()
    threads = options.threads or torch.get_num_threads()
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    shape = (options.images, 3, options.size, options.size)
    samples, reference, train = (torch.randint(0, 256, shape, dtype=torch.uint8) for _ in range(3))
    measured = Measured.of(reference, make_extractor("efficientnet-lite0"), train)
    times: dict[str, list[tuple[float, float]]] = {side: [] for side in SIDES}
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as processes:
        folder = Path(name)
        for index, image in enumerate(samples.permute(0, 2, 3, 1).numpy()):
            Image.fromarray(image).save(folder / f"{index:06}.png")
        task = Task(folder, samples, train, measured, options.workers, threads)
        pools = {
            is_ours: processes.enter_context(
                ProcessPoolExecutor(1, spawn, initializer=prepare, initargs=(task, is_ours))
            )
            for is_ours in (False, True)
        }
        for _ in range(options.rounds):
            for side in SIDES:
                spent = pools[side != CLEAN_FID].submit(timed, side).result()
                times[side].append(spent)
                print(f"  {side}: processor {spent[0]:.1f} s, clock {spent[1]:.1f} s", flush=True)
    print(
        f"{options.images} images of {options.size} px, {threads} thread(s), "
        f"{options.workers} workers of clean-fid's"
    )
    print(f"{'':<24} {'processor':>12} {'ratio':>7} {'clock':>10} {'ratio':>7}")
    least = {side: [min(column) for column in zip(*t, strict=True)] for side, t in times.items()}
    base = least[CLEAN_FID]
    for side, (cpu, clock) in least.items():
        print(
            f"{side:<24} {cpu:10.1f} s {cpu / base[0]:7.3f} {clock:8.1f} s {clock / base[1]:7.3f}"
        )
    if options.json is not None:
        ratios = {
            side: {"processor_ratio": cpu / base[0], "clock_ratio": clock / base[1]}
            for side, (cpu, clock) in least.items()
        }
        options.json.write_text(json.dumps(ratios, indent=1))


_prepared: list[tuple[Task, FeatureExtractor]] = []


def prepare(task: Task, is_ours: bool) -> None:
    """What a process does before anything is timed."""
    torch.set_num_threads(task.threads)
    if is_ours:
        keep_freed_memory()
    else:  # as in a process of a user's, where clean-fid's workers start fastest
        multiprocessing.set_start_method("fork", force=True)
    _prepared.append((task, make_extractor("efficientnet-lite0")))


def timed(side: str) -> tuple[float, float]:
    """Processor and wall seconds of a side, in its process."""
    began, cpu_began = time.perf_counter(), processor_time()
    SIDES[side](*_prepared[0])
    return processor_time() - cpu_began, time.perf_counter() - began


def processor_time() -> float:
    """Seconds of this process and of those of its children that have ended."""
    each = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in each)


def clean_fid(task: Task, extractor: FeatureExtractor) -> object:
    """clean-fid's own path from a folder to both numbers."""

    def network(images: Tensor) -> Tensor:
        return torch.from_numpy(extractor(images.round().to(torch.uint8)))

    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        features = get_folder_features(
            str(task.folder),
            network,
            num_workers=task.workers,
            device=torch.device("cpu"),
            custom_fn_resize=lambda image: image,
            verbose=False,
        )
        reference = task.reference.features
        assert reference is not None
        moments = [
            (np.mean(side, axis=0), np.cov(side, rowvar=False)) for side in (features, reference)
        ]
        return frechet_distance(*moments[0], *moments[1]), kernel_distance(features, reference)


def ours(task: Task, extractor: FeatureExtractor, metrics: list[Metric]) -> object:
    """The path of ``kod-bench evaluate`` from a folder to its numbers."""
    job = Job(metrics, extractor, 0, 64, "cpu", lambda *_: None)
    train = task.train if any(metric.needs == "nearest" for metric in metrics) else None
    samples, _ = job.measure(ImageFolder(task.folder), train)
    return score(samples, task.reference, 0, metrics)


#: Those that images have which are neither maps nor angles.
ALL = [metric for metric in METRICS if metric.needs not in ("spectrum", "angles")]
TWO = [metric for metric in METRICS if set(metric.columns) & {"fid", "kid"}]
CLEAN_FID = "clean-fid, folder"
SIDES: dict[str, Callable[[Task, FeatureExtractor], object]] = {
    CLEAN_FID: clean_fid,
    "FID and KID, folder": lambda task, extractor: ours(task, extractor, TWO),
    "all metrics, folder": lambda task, extractor: ours(task, extractor, ALL),
    "all metrics, in memory": lambda task, extractor: score(
        Measured.of(task.samples, extractor, task.train), task.reference, 0, ALL
    ),
}

if __name__ == "__main__":
    main()
